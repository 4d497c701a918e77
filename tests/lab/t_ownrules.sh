#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# the daemon's own rules: who decides about a connection, learned servers, and their end
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up
OWNRULES=""
for d in "${SIXPATH_RELEASE:-}" "$SIXPATH_BUILD"; do
	[ -z "$d" ] || [ ! -x "$d/tests/lab/ownrules" ] || OWNRULES=$d/tests/lab/ownrules
done
[ -n "$OWNRULES" ] || lab_skip_all "tests/lab/ownrules is not built (needs libnftables)"
mkfifo "$LAB_DIR/fifo"

# said NS ADDRESS [OPTION...]: the listener on the router answers with the original destination,
# the server itself with a banner; or how the attempt ended.
said() {
	local out
	out=$(lab_in "$1" "$PEER" probe --timeout-ms 1500 "${@:3}" "$2" "${port:-80}")
	[[ $out =~ \"said\":\"([^\"]+)\" || $out =~ \"end\":\"([^\"]*)\" ]] && echo "${BASH_REMATCH[1]}"
}
DIRECT="SSH-2.0-lab the server speaks first.."
is() { [ "$1" = "$2" ] || { echo "'$1' instead of '$2'"; return 1; }; }
direct() { is "$(said "$@")" "$DIRECT"; }
captured() { is "$(said "$@")" "$2 ${port:-80}"; }
ends_with() { is "$(said "${@:2}")" "$1"; }

own_start() { # OPTION...
	lab_bg own "$RTR" "$OWNRULES" --user "$LAB_USER" "$@" "$LAB_DIR/fifo"
	asked=0
	lab_wait 10 lab_logged own ready || lab_die "ownrules: $(cat "$LAB_DIR/own.log")"
}

own() { # COMMAND...: its output lines; they must succeed
	local from
	from=$(($(wc -l <"$LAB_DIR/own.log") + 1))
	asked=$((asked + 1))
	echo "$*" >"$LAB_DIR/fifo"
	lab_wait 10 lab_logged own "done $asked " || lab_die "ownrules does not answer: $*"
	tail -n "+$from" "$LAB_DIR/own.log"
	lab_logged own "done $asked 0"
}

own_do() { # COMMAND...: in this shell, so that it is counted
	own "$@" >"$LAB_DIR/own.out" || not_ok "ownrules $*" "$(tail -n 2 "$LAB_DIR/own.out")"
}

own_stop() {
	lab_kill own
	check_eq "$1: ownrules ends with exit code" "$LAB_RC" 0
	check "$1: the table is gone" gone
	check_eq "$1: no sanitizer report" "$(grep -cE 'Sanitizer|runtime error' "$LAB_DIR/own.log")" 0
}

gone() { ! lab_in "$RTR" nft list table inet sixpath 2>/dev/null; }
nft_user() { lab_in "$RTR" nft "$@"; }
user_add() { nft_user add element inet sixpath_user "$1" "{ $2 }"; }
user_del() { nft_user delete element inet sixpath_user "$1" "{ $2 }"; }

count() { # CHAIN NAME: packets
	own_do counters
	awk -v c="$1" -v n="$2" '$1 == "counter" && $2 == c && $3 == n { s += $4 } END { print s + 0 }' "$LAB_DIR/own.out"
}

counted() { # LABEL NAME CMD...: this rule decides
	local before
	before=$(count capture "$2") || true
	asked=$((asked + 1))
	check "$1" "${@:3}"
	check_num "$1: by the rule \"$2\"" "$(count capture "$2")" ">" "$before"
	asked=$((asked + 1))
}

listener() { # start|stop
	lab_kill listener
	[ "$1" = stop ] || lab_serve listener "$RTR" --transparent origdst:1077 echo:1078
}

# ---- who decides ----

decisions() { # LABEL
	local a b f up mac
	mac=$(ip -n "$DEV" -br link show eth0 | awk '{ print $3 }')
	for f in 4 6; do
		a=$SRV4 b=$SRV4B up=$PRX4
		[ $f = 4 ] || { a=$SRV6 b=$SRV6B up=$PRX6; }
		check "$1: captured, IPv$f" captured "$DEV" "$a"
		counted "$1: excluded, IPv$f" exclude direct "$DEV" "$b"
		counted "$1: the router itself, IPv$f" local ends_with ECONNREFUSED "$DEV" "$([ $f = 4 ] && echo "$WAN1_4" || echo "$WAN1_6")"
		port=81 counted "$1: another port, IPv$f" port direct "$DEV" "$a"
		user_add proxy$f "$b"
		counted "$1: excluded, but the user wants the proxy, IPv$f" user-proxy captured "$DEV" "$b"
		user_add bypass$f "$b"
		counted "$1: the user's bypass wins, IPv$f" user-bypass direct "$DEV" "$b"
		user_del bypass$f "$b"
		user_del proxy$f "$b"
		own_do upstream "$a"
		user_add proxy$f "$a"
		counted "$1: a new upstream, whatever the user wants, IPv$f" upstream direct "$DEV" "$a"
		user_del proxy$f "$a"
		own_do upstream "$up"
		check "$1: no upstream any more, IPv$f" captured "$DEV" "$a"
	done
	user_add bypass_mac "$mac"
	counted "$1: the user's device by MAC" user-bypass direct "$DEV" "$SRV4"
	user_del bypass_mac "$mac"
	user_add bypass_port 80
	check "$1: the user's port" direct "$DEV" "$SRV6"
	user_del bypass_port 80
	user_add proxy_port 81
	port=81 check "$1: the user's port for the proxy" captured "$DEV" "$SRV4"
	user_del proxy_port 81
	check_eq "$1: the user's bits have left all marks" "$(lab_in "$RTR" nft list chain inet watch out | sed -n 's/.*packets \([0-9]*\) .*/\1/p')" 0
}

local_cases() { # LABEL
	local a
	for a in "$SRV4" "$SRV6"; do
		check "$1: local to $a" captured "$RTR" "$a"
		check "$1: local to $a with our mark is direct" direct "$RTR" "$a" --mark $((0x5061))
	done
	check "$1: local to an excluded one is direct" direct "$RTR" "$SRV4B"
	user_add bypass4 "$SRV4"
	check "$1: local with the user's bypass is direct" direct "$RTR" "$SRV4"
	user_del bypass4 "$SRV4"
	check "$1: local is captured again" captured "$RTR" "$SRV4"
}

# ---- learned servers ----

learned() { # LABEL ACTION ADDRESS
	local at=$3
	[[ $at != *:* ]] || at="[$at]"
	check "$1: not learned, plain device: captured" captured "$DEV" "$3"
	check "$1: not learned, MPTCP device: captured" captured "$DEV" "$3" --mptcp
	own_do learn "$at:80" 60
	case $2 in
	rule) counted "$1: learned, plain device: direct" learned direct "$DEV" "$3" ;;
	*) check "$1: learned, plain device: captured" captured "$DEV" "$3" ;;
	esac
	case $2 in
	relay) check "$1: learned, MPTCP device: captured" captured "$DEV" "$3" --mptcp ;;
	*) counted "$1: learned, MPTCP device: direct" learned direct "$DEV" "$3" --mptcp ;;
	esac
	own_do forget "$at:80"
	check "$1: forgotten: captured" captured "$DEV" "$3" --mptcp
}

stat_of() { lab_in "$1" nstat -asz "$2" | awk -v k="$2" '$1 == k { print $2 }'; }

joined() { [ "$(stat_of "$SRV" MPTcpExtMPJoinAckRx)" -gt "$1" ]; }

# A device with two addresses: the second subflow of a connection that passed by passes too.
joins() { # LABEL
	local before
	ip -n "$DEV" addr add 10.77.0.3/24 dev eth0
	ip -n "$DEV" mptcp endpoint add 10.77.0.3 dev eth0 subflow
	ip -n "$DEV" mptcp limits set subflows 2
	ip -n "$SRV" mptcp limits set subflows 2
	before=$(stat_of "$SRV" MPTcpExtMPJoinAckRx)
	own_do learn "$SRV4:5001" 60
	lab_bg join "$DEV" "$PEER" probe --mptcp --send hello "$SRV4" 5001
	check "$1: learned: its second subflow reaches the server" lab_wait 5 joined "$before"
	lab_kill join # it would wait for the echo server to close
	own_do forget "$SRV4:5001"
	ip -n "$DEV" mptcp endpoint flush
	ip -n "$DEV" addr del 10.77.0.3/24 dev eth0
}

# What is captured stays captured while its server is learned and forgotten.
flapping() { # LABEL
	lab_bg flow "$DEV" "$PEER" halfclose --up 200M "$SRV4" 5001
	local n=0
	while lab_alive flow && [ $n -lt 20 ]; do
		own_do learn "$SRV4:5001" 60
		own_do forget "$SRV4:5001"
		n=$((n + 1))
	done
	lab_join flow 30 || not_ok "$1: flow" "does not end"
	check_eq "$1: a captured flow outlives learning and forgetting (exit code)" "$LAB_RC" 0
}

passive() { # LABEL
	own_do seen
	check_eq "$1: nothing seen yet" "$(grep -c '^seen' "$LAB_DIR/own.out")" 0
	check "$1: MPTCP, uncaptured" direct "$DEV" "$SRV4B" --mptcp
	check "$1: MPTCP, uncaptured, IPv6" direct "$DEV" "$SRV6B" --mptcp
	port=82 check "$1: plain server, uncaptured" direct "$DEV" "$SRV4B" --mptcp
	port=81 check "$1: plain device, uncaptured" direct "$DEV" "$SRV4B"
	own_do seen
	check_eq "$1: seen" "$(grep '^seen' "$LAB_DIR/own.out" | sort | tr '\n' ' ')" \
		"seen $SRV4B:80 seen [$SRV6B]:80 "
}

# ---- the end, and others ----

others() { # LABEL
	local t
	check "$1: nft flush ruleset" nft_user flush ruleset
	check "$1: captured all the same" captured "$DEV" "$SRV4"
	if nft_user delete table inet sixpath 2>/dev/null; then not_ok "$1: others delete it"; else ok "$1: others cannot delete it"; fi
	ip -n "$RTR" link set lan down
	ip -n "$RTR" link set lan up
	# What the kernel has taken away with the interface.
	ip -n "$RTR" -6 addr replace "$RTR6/64" dev lan nodad
	for t in 101 102; do
		ip -n "$RTR" route replace 10.77.0.0/24 dev lan table $t
		ip -n "$RTR" -6 route replace fd77::/64 dev lan table $t
	done
	lab_wait 5 captured "$DEV" "$SRV6" || true
	check "$1: interface down and up: captured" captured "$DEV" "$SRV6"
	check "$1: sixpath_user is back" lab_wait 2 lab_in "$RTR" nft list table inet sixpath_user
}

mended() { # LABEL: in two seconds
	nft_user flush ruleset
	check "$1: flushed: back within 2 s" lab_wait 2 captured "$DEV" "$SRV4"
	ip -n "$RTR" rule del pref 10660
	check "$1: ip rule deleted: back within 2 s" lab_wait 2 captured "$DEV" "$SRV4"
	ip -n "$RTR" -6 route flush table 100
	check "$1: route deleted: back within 2 s" lab_wait 2 captured "$DEV" "$SRV6"
}

killed() { # LABEL
	kill -KILL "${LAB_PIDS[own]}"
	wait "${LAB_PIDS[own]}" 2>/dev/null
	unset "LAB_PIDS[own]"
	check "$1: kill -9: the table goes" lab_wait 2 gone
	check "$1: kill -9: direct" direct "$DEV" "$SRV4"
	check "$1: kill -9: direct, IPv6" direct "$DEV" "$SRV6"
}

watch() { # counts TCP that leaves the router with the user's bits in its mark
	lab_in "$RTR" nft -f - <<-END
		table inet watch {
			chain out {
				type filter hook postrouting priority 300; policy accept;
				meta l4proto tcp meta mark & 0xc != 0 counter
			}
		}
	END
}

lab_serve server "$SRV" --mptcp banner:80 banner:81 echo:5001
lab_serve plain "$SRV" banner:82
listener start
RULES=(--iface lan --upstream "$PRX4" --upstream "$PRX6" --exclude "$SRV4B" --exclude "$SRV6B"
	--ports 80 --ports 5001)
for mode in tproxy redirect; do
	watch
	opts=("${RULES[@]}")
	[ $mode = tproxy ] || opts+=(--redirect)
	own_start "${opts[@]}" --local
	decisions "$mode"
	local_cases "$mode"
	own_stop "$mode"
	for action in auto rule relay; do
		own_start "${opts[@]}" --action $action --passive
		[ $action != auto ] || passive "$mode $action"
		learned "$mode $action" $action "$SRV4"
		learned "$mode $action IPv6" $action "$SRV6"
		[ $action != auto ] || joins "$mode $action"
		own_stop "$mode $action"
	done
	own_start "${opts[@]}" --port 1078 --action rule
	flapping "$mode"
	own_stop "$mode flapping"
	own_start "${opts[@]}"
	others "$mode"
	if [ $mode = tproxy ]; then
		listener stop
		check "$mode: nobody listens: direct" direct "$DEV" "$SRV4"
		check "$mode: nobody listens: direct, IPv6" direct "$DEV" "$SRV6"
		check_num "$mode: nobody listens: counted" "$(count take no-listener)" ">" 0
		asked=$((asked + 1))
		listener start
	fi
	killed "$mode"
done
own_start "${RULES[@]}" --no-owner
mended "without owner"
own_stop "without owner"
lab_end
