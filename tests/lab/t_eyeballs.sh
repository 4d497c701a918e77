#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Held SYNs and happy eyeballs: curl leaves a dead address family as fast as without us; and a SYN+ACK
# follows upon the upstream's answer
# build: release
. "$(dirname "$0")/lib.sh"

REFUSED=85 DROPPED=86 # of one family only, see the rules below
N=5
A=20 B=40 # round trips router-proxy and proxy-server, ms

# fetch PORT FIRST SECOND: milliseconds until curl is connected, to which address, and what it got.
fetch() {
	lab_in "$DEV" curl -s -o /dev/null --max-time 10 --resolve "name.test:$1:$2,$3" \
		-w '%{time_connect} %{remote_ip} %{http_code}\n' "http://name.test:$1/" | awk '{ print $1 * 1000, $2, $3 }'
}

# eyes FAMILY WAY: median of the milliseconds when this family, tried first, is dead in this way; each
# time the other one must have answered.
eyes() {
	local first="[$SRV6]" second=$SRV4 port=80 got i
	[ "$1" = v6 ] || first=$SRV4 second="[$SRV6]"
	case $2 in
	refused) port=$REFUSED$([ "$1" = v6 ] && echo 6 || echo 4) ;;
	dropped) port=$DROPPED$([ "$1" = v6 ] && echo 6 || echo 4) ;;
	unreachable) [ "$1" = v6 ] && first="[2001:db8:99::1]" || first=192.0.2.1 ;;
	esac
	for ((i = 0; i < N; i++)); do
		got=$(fetch "$port" "$first" "$second")
		if [ "${got#* }" = "$(tr -d '[]' <<<"$second") 200" ]; then
			echo "${got%% *}"
		else
			echo "# $1 $2: $got" >&2
		fi
	done | sort -n | awk -v n=$N '{ v[NR] = $1 } END { if (NR == n) print v[int((n + 1) / 2)] }'
}

queue_is() { # true|false
	[ "$(lab_ctl redir status --json | json - 'j["held"]["queue"]')" = "$1" ]
}

held() {
	lab_ctl redir status --json | json - 'j["held"]["total"]'
}

# The way without the proxy is as long.
lab_up --wan1 $((A / 2)) --wan2 $((A / 2)) --srv $((B / 2))
lab_need curl iptables ip6tables
lab_serve srv "$SRV" http:80 "http:${REFUSED}4" "http:${REFUSED}6" "http:${DROPPED}4" "http:${DROPPED}6"
lab_in "$SRV" nft -f - <<-END
	table inet away {
		chain input {
			type filter hook input priority 0;
			meta nfproto ipv6 tcp dport ${REFUSED}6 reject with tcp reset
			meta nfproto ipv4 tcp dport ${REFUSED}4 reject with tcp reset
			meta nfproto ipv6 tcp dport ${DROPPED}6 drop
			meta nfproto ipv4 tcp dport ${DROPPED}4 drop
		}
	}
END
for a in "$SRV4" "[$SRV6]"; do fetch 80 "$a" "$a" >/dev/null; done # neighbours

declare -A DIRECT
for family in v6 v4; do
	for way in refused unreachable dropped; do
		DIRECT[$family$way]=$(eyes $family $way)
	done
	check_num "the rig: directly, $family refused: two round trips, ms" "${DIRECT[${family}refused]}" ">=" $((2 * (A + B) - 1))
	check_num "the rig: directly, $family dropped: curl waits for 200 ms" "${DIRECT[${family}dropped]}" ">=" 199
done

for prewarm in 0 auto; do
	lab_daemons --no-rules --script iptables --redir rules.install=yes --redir rules.capture=lan \
		--redir connect.verify=yes --redir "proxy home.prewarm=$prewarm" --redir bypass.learn=no \
		--proxy acl.allow="0.0.0.0/0, ::/0"
	lab_wait 10 lab_in "$RTR" nft list table inet sixpath || lab_die "no rules: $(tail -n 5 "$LAB_DIR/redir.log")"
	lab_wait 5 queue_is true || not_ok "the queue" "is not open"
	lab_rules start --only-verify >/dev/null 2>&1 || lab_die "the queue rule"
	for a in "$SRV4" "[$SRV6]"; do fetch 80 "$a" "$a" >/dev/null; done # a cookie, a session
	for family in v6 v4; do
		for way in refused unreachable dropped; do
			before=$(held)
			# A host that the proxy cannot reach is known after one round trip to the proxy. Over MPTCP
			# with Fast Open the kernel lets no answer of it come before two.
			most=$(awk -v d="${DIRECT[$family$way]}" 'BEGIN { print d + 15 }')
			[ $prewarm$way != 0unreachable ] || most=$(awk -v m="$most" -v a=$A 'BEGIN { print m + a }')
			ms=$(eyes $family $way)
			# A busy machine may be late for a moment; what is slow by itself is slow again.
			awk "BEGIN { exit !(${ms:-0} > $most) }" && ms=$(eyes $family $way)
			check_num "prewarm = $prewarm: $family $way: ms until curl is connected by the other family, directly ${DIRECT[$family$way]}" \
				"$ms" "<=" "$most"
			check_num "prewarm = $prewarm: $family $way: both were held each time" $(($(held) - before)) ">=" $((2 * N))
		done
	done

	# A SYN+ACK: from the moment the proxy's last words come in.
	lab_capture lan "$RTR" lan "(tcp[tcpflags] & 0x12 = 0x12) or (ip6 proto 6 and ip6[53] & 0x12 = 0x12)"
	lab_capture wan "$RTR" any "src port 1080"
	for ((i = 0; i < N; i++)); do
		for a in "$SRV4" "[$SRV6]"; do fetch 80 "$a" "$a" >/dev/null; sleep 0.1; done
	done
	lab_capture_stop lan
	lab_capture_stop wan
	# With data only; after the SYN+ACK comes the page.
	{
		tcpdump -tt -n -r "$LAB_DIR/wan.pcap" 2>/dev/null | grep 'length [1-9]' | awk '{ print $1, "reply" }'
		tcpdump -tt -n -r "$LAB_DIR/lan.pcap" 2>/dev/null | awk '{ print $1, "synack" }'
	} | sort -n | awk '$2 == "reply" { at = $1 } $2 == "synack" { printf "%.3f\n", ($1 - at) * 1000 }' | sort -n >"$LAB_DIR/after"
	check_eq "prewarm = $prewarm: SYN+ACKs seen" "$(wc -l <"$LAB_DIR/after")" $((2 * N))
	check_num "prewarm = $prewarm: ms from the upstream's answer to the SYN+ACK, median" "$(sed -n ${N}p "$LAB_DIR/after")" "<" 2
	echo "# prewarm = $prewarm: SYN+ACK after the answer, ms: $(tr '\n' ' ' <"$LAB_DIR/after")"
	lab_rules stop --only-verify >/dev/null 2>&1 || not_ok "the queue rule" "does not go"
	lab_daemons_stop
done
lab_end
