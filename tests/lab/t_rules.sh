#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# redirect-rules: what is captured, what is not, and that stop leaves nothing behind
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up
lab_need iptables ip6tables
LAB_TEST_PATH=$PATH

# said NS ADDRESS [OPTION...]: the listener on the router answers with the original destination,
# the server itself with a banner; or how the attempt ended.
said() {
	local out
	out=$(lab_in "$1" "$PEER" probe --timeout-ms 700 "${@:3}" "$2" "${port:-80}")
	[[ $out =~ \"said\":\"([^\"]+)\" || $out =~ \"end\":\"([^\"]*)\" ]] && echo "${BASH_REMATCH[1]}"
}

DIRECT="SSH-2.0-lab the server speaks first.."
is() { [ "$1" = "$2" ] || { echo "'$1' instead of '$2'"; return 1; }; }
direct() { is "$(said "$@")" "$DIRECT"; }
captured() { is "$(said "$@")" "$2 ${port:-80}"; }
ends_with() { is "$(said "${@:2}")" "$1"; }

# Everything the scripts could change, without packet counters.
snapshot() {
	{
		lab_in "$RTR" nft list ruleset 2>/dev/null # it cannot name the targets of iptables
		for t in iptables ip6tables iptables-legacy ip6tables-legacy; do
			! command -v $t >/dev/null || lab_in "$RTR" "$t-save" 2>/dev/null
		done
		for f in 4 6; do
			ip -n "$RTR" -$f rule show
			ip -n "$RTR" -$f route show table all
		done
	} | sed '/^#/d; s/\[[0-9]*:[0-9]*\]//; s/counter packets [0-9]* bytes [0-9]*/counter/'
}

same() { # NAME BEFORE: state is as it was
	local now
	now=$(snapshot)
	if [ "$now" = "$2" ]; then ok "$1"; else not_ok "$1" "$(diff <(echo "$2") <(echo "$now") | head -n 8)"; fi
}

exits() { # CODE CMD...
	local want=$1 rc
	shift
	"$@" >/dev/null 2>&1
	rc=$?
	[ $rc = "$want" ] || { echo "exit code $rc instead of $want: $*"; return 1; }
}

listener() { # start|stop
	lab_kill listener
	[ "$1" = stop ] || lab_serve listener "$RTR" --transparent origdst:1077 echo:1078
}

# Rules and routes of others, in every place the scripts use.
foreign() {
	lab_in "$RTR" nft add table inet foreign
	lab_in "$RTR" nft "add chain inet foreign c { type filter hook prerouting priority mangle; }"
	lab_in "$RTR" nft "add rule inet foreign c tcp dport 9 counter"
	local t
	for t in iptables ip6tables iptables-legacy ip6tables-legacy; do
		command -v $t >/dev/null || continue
		lab_in "$RTR" $t -t mangle -A PREROUTING -p tcp --dport 9 -j MARK --set-mark 0x100
		lab_in "$RTR" $t -t mangle -A OUTPUT -p tcp --dport 9 -j MARK --set-mark 0x100
		lab_in "$RTR" $t -t nat -A PREROUTING -p tcp --dport 9 -j ACCEPT
		lab_in "$RTR" $t -t nat -A OUTPUT -p tcp --dport 9 -j ACCEPT
	done
	ip -n "$RTR" rule add pref 10659 fwmark 0x100/0x100 lookup 100
	ip -n "$RTR" route add 192.0.2.0/24 dev lan table 100
	ip -n "$RTR" -6 route add 2001:db8:77::/64 dev lan table 100
}

capture_cases() { # WHAT
	local a
	for a in "$SRV4" "$SRV6"; do
		check "$1: forwarded to $a" captured "$DEV" "$a"
		check "$1: local to $a" captured "$RTR" "$a"
		check "$1: local with the daemon's mark to $a is direct" direct "$RTR" "$a" --mark $((0x5061))
	done
	for a in "$SRV4B" "$SRV6B"; do
		check "$1: excluded $a is direct" direct "$DEV" "$a"
		check "$1: excluded $a is direct for the router" direct "$RTR" "$a"
	done
	port=81 check "$1: another port is direct" direct "$DEV" "$SRV4"
	check "$1: the router's own address is direct" direct "$DEV" "$WAN1_4"
	check "$1: the router's own address is direct, IPv6" direct "$DEV" "$WAN1_6"
	check "$1: the router's own servers still answer" direct "$SRV" "$WAN1_4"
}

absent_cases() { # SCRIPT MODE
	local a how=ETIMEDOUT
	[ "$2" != redirect ] || how=ECONNREFUSED
	for a in "$SRV4" "$SRV6"; do
		if [ "$1.$2" = nft.tproxy ]; then
			check "$1 $2: nobody listens: forwarded to $a is direct" direct "$DEV" "$a"
		else
			check "$1 $2: nobody listens: forwarded to $a fails" ends_with $how "$DEV" "$a"
		fi
	done
}

# Connections that are older than the rules go on undisturbed: opened before, used after.
older() { # NAME NS ADDRESS
	# shellcheck disable=SC2016
	lab_bg "$1" "$2" bash -c 'exec 3<>"/dev/tcp/$1/5001" && echo open
		until [ -e "$2" ]; do sleep 0.02; done
		echo still here >&3; read -r -t 3 line <&3; echo "got $line"' older "$3" "$LAB_DIR/go"
	lab_wait 5 lab_logged "$1" open || echo "cannot connect"
}

older_connections() {
	rm -f "$LAB_DIR/go"
	older older1 "$RTR" "$SRV4"
	older older2 "$DEV" "$SRV6"
	rules 2>"$LAB_DIR/rules.out" || cat "$LAB_DIR/rules.out"
	touch "$LAB_DIR/go"
	lab_wait 5 lab_logged older1 "got still here" && lab_wait 5 lab_logged older2 "got still here"
}

# shellcheck disable=SC2054
RULES=(--iface lan --local --ports 80,5000-5002 --proxy "$SRV4B" --exclude "$SRV6B/128,10.0.0.0/8")
# shellcheck disable=SC2120
rules() { lab_rules start --mode "$mode" "${RULES[@]}" "$@"; }

variant() { # SCRIPT MODE [LABEL]
	local before started mode=$2 label="${3:-$1} $2"
	LAB_SCRIPT=$1
	before=$(snapshot)
	check "$label: --dry-run" exits 0 lab_rules start --mode "$mode" "${RULES[@]}" --dry-run
	same "$label: --dry-run changes nothing" "$before"
	check "$label: status says inactive" exits 3 lab_rules status
	listener start
	check "$label: start with connections older than that" older_connections
	check "$label: status says active" exits 0 lab_rules status
	started=$(snapshot)
	check "$label: start again" rules
	same "$label: start again changes nothing" "$started"
	capture_cases "$label"
	check "$label: another port of the daemon" rules --port 1078
	check "$label: 10 MB both ways, half-close, forwarded" lab_in "$DEV" "$PEER" halfclose --up 10M "$SRV4" 80
	check "$label: 10 MB both ways, half-close, local" lab_in "$RTR" "$PEER" halfclose --up 10M "$SRV6" 80
	check "$label: start with the first options" rules
	same "$label: the same as before" "$started"
	listener stop
	absent_cases "$1" "$mode"
	check "$label: stop" lab_rules stop
	same "$label: stop leaves nothing behind" "$before"
	check "$label: stop again" lab_rules stop
}

failures() { # SCRIPT
	local before mode=tproxy
	LAB_SCRIPT=$1
	before=$(snapshot)
	# Passes the check of the options; refused by nft and ip6tables.
	check "$1: start that fails half way" exits 1 rules --proxy 1::2::3
	same "$1: leaves nothing behind" "$before"
	rules >/dev/null 2>&1
	ip -n "$RTR" rule del pref 10660
	check "$1: status says incomplete" exits 1 lab_rules status
	check "$1: start mends it" rules
	check "$1: status says active again" exits 0 lab_rules status
	check "$1: change to redirect" exits 0 lab_rules start --mode redirect "${RULES[@]}"
	check "$1: which is complete" exits 0 lab_rules status
	check "$1: change of mark, table and families" exits 0 \
		lab_rules start --iface lan --fwmark 0x200/0xf00 --table 4711 -4
	check "$1: which is complete too" exits 0 lab_rules status
	listener start
	check "$1: only IPv4: captured" captured "$DEV" "$SRV4"
	check "$1: only IPv4: IPv6 is direct" direct "$DEV" "$SRV6"
	check "$1: only IPv6, redirect" exits 0 lab_rules start --iface lan --mode redirect -6
	check "$1: only IPv6: captured" captured "$DEV" "$SRV6"
	check "$1: only IPv6: IPv4 is direct" direct "$DEV" "$SRV4"
	lab_rules start --iface lan --fwmark 0x200/0xf00 --table 4711 -4 >/dev/null 2>&1
	listener stop
	ip -n "$RTR" route del local default dev lo table 4711
	lab_rules stop >/dev/null 2>&1
	same "$1: stop after all that leaves nothing behind" "$before"
}

usage_errors() { # SCRIPT
	LAB_SCRIPT=$1
	local args
	while read -r args; do
		# shellcheck disable=SC2086
		check "$1: refused: ${args:-no command}" exits 64 lab_rules $args
	done <<-END

		begin
		start
		start --iface
		start --iface lan --mode nat
		start --iface lan --port 0
		start --iface lan --ports 80,x
		start --iface lan --ports 90-80
		start --iface lan --exclude 10.0.0.0/33
		start --iface lan --proxy proxy.example.net
		start --iface lan --table 254
		start --iface lan --fwmark 0x1/0x1
		start --iface la;n
		start --iface lan -4 -6
		start --iface lan --env /nonexistent
		stop start
	END
	printf '# sample\nIFACE = "lan"\n' >"$LAB_DIR/bad.env"
	check "$1: --env with a bad line" exits 64 lab_rules start --env "$LAB_DIR/bad.env"
	printf '# sample\nIFACE="lan"\nPORTS=80,443 # web\n' >"$LAB_DIR/good.env"
	check "$1: --env" exits 0 lab_rules start --env "$LAB_DIR/good.env" --dry-run
}

lab_serve server "$SRV" banner:80 banner:81 echo:5001
lab_serve own "$RTR" banner:80
foreign
for mode in tproxy redirect; do
	variant nft $mode
	variant iptables $mode
done
failures nft
failures iptables
usage_errors nft
usage_errors iptables
if command -v iptables-legacy >/dev/null; then
	mkdir "$LAB_DIR/legacy"
	for t in iptables ip6tables; do
		for s in save restore; do
			ln -s "$(command -v $t-legacy-$s)" "$LAB_DIR/legacy/$t-$s"
		done
	done
	PATH=$LAB_DIR/legacy:$LAB_TEST_PATH
	variant iptables tproxy iptables-legacy
	variant iptables redirect iptables-legacy
	PATH=$LAB_TEST_PATH
else
	skip "iptables-legacy" "not installed"
fi
lab_end
