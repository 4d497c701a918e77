#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# UDP of devices through the proxy: both ways to it, full cone, errors, hops, policy, losses
. "$(dirname "$0")/lib.sh"

UDP=$LAB_SRC/tests/lab/udp_peer.py

ask() { # ADDRESS PORT [OPTION...]: what the device meets, in $LAB_DIR/ask.json
	lab_in "$DEV" "$UDP" ask "$@" >"$LAB_DIR/ask.json" 2>&1
}

asked() { # EXPRESSION
	json "$LAB_DIR/ask.json" "$1"
}

# How many answers to strangers have come by the proxy; all of them have.
answers() {
	json "$LAB_DIR/echo.log" '(lambda a: len(a) if all(d["from"] in ("203.0.113.1", "2001:db8:30::1") for d in a) else "directly")([d for d in j if d.get("text") == "answer"])'
}
answered() {
	[ "$(answers)" = "$1" ]
}

counter() { # NAME
	lab_ctl redir status --json | json - "j['udp']['$1']"
}

# from SERVER-LOG: whom the server heard last
from() {
	json "$LAB_DIR/$1.log" '[d for d in j if "from" in d][-1]["from"]'
}

restart() { # SECTION.KEY=VALUE of the redirector...
	lab_daemon_stop redir
	lab_conf redir "$@"
	lab_conf_write
	lab_daemon_start redir
	case $* in *install=no*) return ;; esac
	lab_wait 10 lab_in "$RTR" nft list chain inet sixpath take_udp
}

lab_need dig traceroute
lab_up
lab_far
lab_bg echo "$SRV" "$UDP" serve 7000 --on "$SRV4" --on "$SRV6" --stranger "$SRV4B:7777" --stranger "[$SRV6B]:7777"
lab_wait 10 lab_logged echo ready || lab_die "udp_peer: $(cat "$LAB_DIR/echo.log")"
lab_bg quic "$SRV" "$UDP" serve 443 --on "$SRV4" --on "$SRV6"
lab_bg dns "$SRV" "$UDP" dns 53 192.0.2.77
# Not reached without us: so that what arrives came through the proxy.
lab_daemons --no-rules --redir rules.install=yes --redir rules.capture=lan \
	--redir udp.proxy=1-65535 --redir udp.refuse=443 --redir udp.direct=7100 \
	--proxy "acl.allow=203.0.113.0/24, 2001:db8:30::/64, 2001:db8:30:ff::/64"
lab_wait 10 lab_in "$RTR" nft list chain inet sixpath take_udp || lab_die "no UDP rules"

# ---- both ways to the proxy, both families ----

n=0
for transport in udp tcp auto; do
	n=$((n + 2))
	[ $transport = auto ] || restart udp.transport=$transport
	for a in "$SRV4" "$SRV6"; do
		ask "$a" 7000 --count 50
		check_eq "$transport, $a: echoes" "$(asked 'j["right"]')" 50
		check_num "$transport, $a: first answer within, ms" "$(asked 'j["ms"][0]')" "<" 2000
		case $(from echo) in
		203.0.113.1 | 2001:db8:30::1) ok "$transport, $a: by the proxy" ;;
		*) not_ok "$transport, $a: by the proxy" "$(from echo)" ;;
		esac
	done
	[ $transport = auto ] || check_num "$transport: counted" "$(counter by_$transport)" ">=" 2
	ask "$SRV4" 7000 --size 1400 --tos 184
	check_eq "$transport: class of service" "$(json "$LAB_DIR/echo.log" 'j[-1]["tos"]')" 184
	ask "$SRV4" 7000 --text call --hear 1
	check_eq "$transport: a stranger's datagram" "$(asked 'j["heard"][0]')" "$SRV4B 7777 stranger"
	ask "$SRV6" 7000 --text call --hear 1
	check_eq "$transport: a stranger's datagram, IPv6" "$(asked 'j["heard"][0]')" "$SRV6B 7777 stranger"
	check_eq "$transport: what the device answers goes by the proxy" "$(lab_wait 2 answered $n; answers)" $n
done

check_eq "dig" "$(lab_in "$DEV" dig +short +tries=1 +time=3 @"$SRV4" www.example.net)" 192.0.2.77

# ---- sizes ----

restart udp.transport=auto
for size in 0 1 1472 9000 65000 65507; do
	ask "$SRV4" 7000 --size "$size" --timeout 4
	check_eq "a datagram of $size octets" "$(asked 'j["right"]')" 1
done

# ---- policy ----

sent=$(wc -l <"$LAB_DIR/quic.log")
ask "$SRV4" 443 --connect --timeout 2
check_eq "QUIC is refused" "$(asked 'j["error"]')" ConnectionRefusedError
ask "$SRV6" 443 --connect --timeout 2
check_eq "QUIC is refused, IPv6" "$(asked 'j["error"]')" ConnectionRefusedError
check_eq "no such datagram got to the server" "$(wc -l <"$LAB_DIR/quic.log")" "$sent"
explain() {
	lab_ctl redir explain "$DEV4" "$1" udp --json | json - 'j["cases"][0]["rule"] + " " + j["cases"][0]["route"]'
}
check_eq "explain: proxied" "$(explain "$SRV4:7000")" "capture proxy"
check_eq "explain: refused" "$(explain "$SRV4:443")" "refused none"
check_eq "explain: direct" "$(explain "$SRV4:7100")" "direct none"
check_eq "explain: excluded" "$(explain "10.1.2.3:53")" "exclude none"

# ---- errors ----

for a in "$SRV4" "$SRV6"; do
	ask "$a" 9 --connect --timeout 3
	check_eq "$a: a closed port" "$(asked 'j["error"]')" ConnectionRefusedError
done
hops() { # ADDRESS: who answers, hop by hop
	lab_in "$DEV" traceroute -U -n -q 1 -N 1 -w 3 -m 5 -p 33434 "$1" 2>&1 |
		sed "s/$SRV6B/$SRV6/" | # the kernel chooses
		awk 'NR > 1 { printf "%s%s", sep, $2; sep = " " }'
}
check_eq "traceroute -U" "$(hops "$FAR4")" "$RTR4 $SRV4 $FAR4"
check_eq "traceroute -U, IPv6" "$(hops "$FAR6")" "$RTR6 $SRV6 $FAR6"
check_num "errors were sent to the device" "$(counter icmp_errors)" ">=" 8

# ---- the MTU behind the proxy ----

ip -n "$SRV" link set far mtu 1300
for a in "$FAR4" "$FAR6"; do
	lab_in "$DEV" "$UDP" mtu "$a" 7000 --size 1400 >"$LAB_DIR/mtu.json"
	check_eq "$a: too big for a link behind the proxy" "$(json "$LAB_DIR/mtu.json" 'j["mtu"]')" 1300
	case $(json "$LAB_DIR/mtu.json" 'j["by"]') in
	"$SRV4" | "$SRV6" | "$SRV6B") ok "$a: says the router there" ;;
	*) not_ok "$a: says the router there" "$(cat "$LAB_DIR/mtu.json")" ;;
	esac
done
ip -n "$SRV" link set far mtu 1500

# ---- a successor takes over ----

lab_bg stream "$DEV" "$UDP" stream "$SRV4" 7000 --for 5
sleep 1.5
check "restart" lab_ctl redir restart
lab_join stream 20
check_num "restart: longest silence, s" "$(json "$LAB_DIR/stream.log" 'j["worst"]')" "<" 2
check_eq "restart: still by the proxy" "$(from echo)" 203.0.113.1
ask "$SRV4" 9 --connect --timeout 3
check_eq "restart: errors still get to the device" "$(asked 'j["error"]')" ConnectionRefusedError
# The successor is no child of ours: the rest with one that is.
kill "$(lab_ctl redir status --json | json - 'j["pid"]')"
lab_join redir 20
unset "LAB_PIDS[redir]"
lab_daemon_start redir
lab_wait 10 lab_in "$RTR" nft list chain inet sixpath take_udp

# ---- the proxy goes and comes back ----

lab_bg stream "$DEV" "$UDP" stream "$SRV4" 7000 --for 12
sleep 1.5
before=$(counter reformed)
lab_kill proxy KILL
sleep 1
check_eq "without the proxy: directly" "$(from echo)" "$WAN1_4"
lab_daemon_start proxy
back() {
	[ "$(from echo)" = 203.0.113.1 ]
}
check "with the proxy: by it again within 3 s" lab_wait 3 back
lab_join stream 20
check_num "the association was formed again" "$(counter reformed)" ">" "$before"
check_num "longest silence of the conversation, s" "$(json "$LAB_DIR/stream.log" 'j["worst"]')" "<" 3

# ---- a link goes ----

ip -n "$RTR" route add default via 198.18.2.1 metric 100
ip -n "$RTR" -6 route add default via 2001:db8:2::1 metric 2048
lab_bg stream "$DEV" "$UDP" stream "$SRV4" 7000 --for 8
sleep 2
ip -n "$RTR" link set wan1 down
lab_join stream 20
check_num "a link goes: longest silence, s" "$(json "$LAB_DIR/stream.log" 'j["worst"]')" "<" 3
check_eq "still by the proxy" "$(from echo)" 203.0.113.1
ip -n "$RTR" link set wan1 up
lab_addr "$RTR" wan1 "$WAN1_6/64"
ip -n "$RTR" route replace default via 198.18.1.1 dev wan1 table 101
ip -n "$RTR" -6 route replace default via 2001:db8:1::1 dev wan1 table 101
ip -n "$RTR" route replace default via 198.18.1.1
ip -n "$RTR" -6 route replace default via 2001:db8:1::1

# ---- UDP to the proxy is blocked ----

block() {
	lab_in "$PRX" nft -f - <<-END
		table inet block {
			chain input {
				type filter hook input priority 0;
				udp dport 1080 drop
			}
		}
	END
}
restart udp.transport=auto
lab_bg stream "$DEV" "$UDP" stream "$SRV4" 7000 --for 10
sleep 2
check_eq "sixpathctl udp: by UDP" "$(lab_ctl redir udp --json | json - 'j["associations"][0]["transport"]')" udp
block
sleep 6
check_eq "blocked in the middle: inside the connection" \
	"$(lab_ctl redir udp --json | json - 'j["associations"][0]["transport"]')" tcp
lab_join stream 20
check_num "blocked in the middle: longest silence, s" "$(json "$LAB_DIR/stream.log" 'j["worst"]')" "<" 4
restart udp.transport=auto
ask "$SRV4" 7000 --count 3 --timeout 4
check_eq "plain UDP is blocked: inside the connection" "$(asked 'j["right"]')" 3
check_eq "counted" "$(counter by_tcp)" 1
lab_in "$PRX" nft delete table inet block

# ---- a NAT before the proxy forgets us ----

lab_in "$RTR" nft -f - <<-END
	table ip forgetful {
		chain post {
			type nat hook postrouting priority 100;
			udp dport 1080 masquerade random
		}
	}
END
lab_sysctl "$RTR" net/netfilter/nf_conntrack_udp_timeout=3 net/netfilter/nf_conntrack_udp_timeout_stream=3
restart udp.transport=auto
lab_capture nat "$PRX" wan1 "udp dst port 1080"
ask "$SRV4" 7000 --source 4500 --count 20
check_eq "behind a NAT" "$(asked 'j["right"]')" 20
sleep 21 # that is long, even for a NAT
lab_in "$DEV" "$UDP" stream "$SRV4" 7000 --source 4500 --for 6 >"$LAB_DIR/stream.log"
lab_capture_stop nat
check_eq "... it gives another port after a pause" "$(tcpdump -nr "$LAB_DIR/nat.pcap" 2>/dev/null | awk '{ print $3 }' | sort -u | wc -l)" 2
check_num "... longest silence, s" "$(json "$LAB_DIR/stream.log" 'j["worst"]')" "<" 4
check_eq "... formed again, by UDP" "$(counter reformed) $(lab_ctl redir udp --json | json - 'j["associations"][0]["transport"]')" "1 udp"
lab_in "$RTR" nft delete table ip forgetful

# ---- through another proxy ----

lab_bg echofar "$FAR" "$UDP" serve 7000
lab_conf_print proxy | sed "s|proxy.sock|proxy2.sock|" >"$LAB_DIR/proxy2.conf"
lab_bg proxy2 "$SRV" "$SIXPATH_BUILD/src/proxy/sixpath-proxy" -f -c "$LAB_DIR/proxy2.conf"
lab_wait_port "$SRV" 1080
restart "proxy home.weight=0" "proxy last.address=$SRV4:1080" "proxy last.via=home" \
	"proxy last.username=home" "proxy last.password_file=$LAB_DIR/secret" udp.transport=udp
ask "$FAR4" 7000 --count 3
check_eq "through another proxy" "$(asked 'j["right"]')" 3
check_eq "by that one" "$(from echofar)" 203.0.113.129
check_eq "inside the connection" "$(counter by_tcp)" 1
restart "proxy home.weight=" "proxy last.address=" "proxy last.via=" "proxy last.username=" \
	"proxy last.password_file=" udp.transport=

# ---- many ----

restart udp.max=64
for _ in 1 2 3 4 5; do
	lab_in "$DEV" python3 -c '
import socket, sys
for i in range(60):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(b"x", (sys.argv[1], 7000))' "$SRV4"
done
sleep 1
check_num "not more associations than allowed" "$(counter associations)" "<=" 64
check_num "the idlest made room" "$(counter evicted)" ">=" 200
ask "$SRV4" 7000
check_eq "and new ones work" "$(asked 'j["right"]')" 1

# ---- this host's own ----

restart udp.max= rules.capture_local=yes
for a in "$SRV4" "$SRV6"; do
	lab_in "$RTR" "$UDP" ask "$a" 7000 --count 5 >"$LAB_DIR/ask.json"
	check_eq "capture_local, $a: echoes" "$(asked 'j["right"]')" 5
	case $(from echo) in
	203.0.113.1 | 2001:db8:30::1) ok "capture_local, $a: by the proxy" ;;
	*) not_ok "capture_local, $a: by the proxy" "$(from echo)" ;;
	esac
	ask "$a" 7000
	check_eq "capture_local, $a: devices, too" "$(asked 'j["right"]')" 1
done
check_eq "capture_local: no loops" "$(counter loops)" 0

# ---- rules by script ----

restart rules.capture_local= rules.install=no rules.capture=
for script in nft iptables; do
	# shellcheck disable=SC2034
	LAB_SCRIPT=$script
	lab_rules start "${LAB_RULES_ARGS[@]}" --udp-ports 1-65535 --udp-refuse 443 --udp-direct 7100 \
		>>"$LAB_DIR/rules.log" 2>&1 || not_ok "$script.sh start" "$(tail -n 3 "$LAB_DIR/rules.log")"
	for a in "$SRV4" "$SRV6"; do
		ask "$a" 7000 --count 5
		check_eq "$script.sh, $a: echoes" "$(asked 'j["right"]')" 5
		ask "$a" 443 --connect --timeout 2
		check_eq "$script.sh, $a: refused" "$(asked 'j["error"]')" ConnectionRefusedError
	done
	check_eq "$script.sh: by the proxy" "$(from echo)" 2001:db8:30::1
	ask "$SRV4" 7000 --text call --hear 1
	check_eq "$script.sh: a stranger's datagram" "$(asked 'j["heard"][0]')" "$SRV4B 7777 stranger"
	n=$((n + 1))
	check_eq "$script.sh: what the device answers goes by the proxy" "$(lab_wait 2 answered $n; answers)" $n
	lab_rules stop >>"$LAB_DIR/rules.log" 2>&1
	check_eq "$script.sh: nothing stays" "$(lab_in "$RTR" nft list ruleset | grep -ci 'sixpath.*udp')" 0
done

lab_daemons_stop
lab_end
