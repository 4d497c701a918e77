#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Passive learning with the script's iptables rules: servers' answers that pass by come to the daemon
. "$(dirname "$0")/lib.sh"

probe() { # ADDRESS PORT [OPTION...]: how it ends at the device
	lab_in "$DEV" "$PEER" probe --get / --want 12 --timeout-ms 4000 "${@:3}" "$1" "$2" | json - 'j["end"]'
}

learned() { # ADDRESS:PORT: "speaks/evidence"
	lab_ctl redir learned list --json | json - 'next((e["speaks"] + "/" + e["evidence"] for e in j["learned"] if e["server"] == "'"$1"'"), "unknown")'
}

tables() { # all that iptables and the routing have
	for t in iptables ip6tables; do
		lab_in "$RTR" "$t-save" | sed 's/\[[0-9]*:[0-9]*\]//; /^#/d; /^\*/d; /^COMMIT/d; /^:[A-Z]* ACCEPT/d'
	done
	lab_in "$RTR" ip rule
}

exits() { # CODE CMD...
	local want=$1 rc=0
	shift
	"$@" || rc=$?
	[ $rc = "$want" ] || { echo "exit code $rc instead of $want"; return 1; }
}

lab_up
lab_need iptables ip6tables
before=$(tables)
lab_serve speaks "$SRV" --mptcp http:80
lab_serve plain "$SRV" http:81
ip -n "$DEV" mptcp limits set subflows 0 add_addr_accepted 0

# What is not captured at all: only passing by can teach anything.
for mode in tproxy redirect; do
	lab_daemons --mode $mode --script iptables --redir rules.backend=iptables \
		--redir bypass.learn_passive=yes --rules "--ports 1-79 --learn-passive"
	check "$mode: the rules are complete" exits 0 lab_rules status
	for a in "$SRV4" "$SRV6"; do
		b=$a
		[ "$a" = "$SRV4" ] || b="[$a]"
		n="$mode $a"
		check_eq "$n: plain device" "$(probe "$a" 80)" want
		check_eq "$n: which did not ask for MPTCP: nothing is learned" "$(learned "$b:80")" unknown
		check_eq "$n: device with MPTCP" "$(probe "$a" 80 --mptcp)" want
		check_eq "$n: learned" "$(learned "$b:80")" mptcp/synack
		check_eq "$n: device with MPTCP, plain server" "$(probe "$a" 81 --mptcp)" want
		check_eq "$n: nothing is learned" "$(learned "$b:81")" unknown
	done
	# Without the daemon everything passes.
	lab_kill redir KILL
	for a in "$SRV4" "$SRV6"; do
		check_eq "$mode: $a: without the daemon" "$(probe "$a" 80 --mptcp)" want
	done
	lab_daemon_start redir
	lab_ctl redir learned clear >/dev/null
	check_eq "$mode: started again" "$(probe "$SRV4" 80 --mptcp)/$(learned "$SRV4:80")" want/mptcp/synack
	lab_conf redir bypass.learn_passive=no
	lab_conf_write
	lab_ctl redir reload >/dev/null
	lab_ctl redir learned clear >/dev/null
	check_eq "$mode: learn_passive = no" "$(probe "$SRV4" 80 --mptcp)/$(learned "$SRV4:80")" want/unknown
	lab_conf redir bypass.learn_passive=yes
	lab_conf_write
	lab_ctl redir reload >/dev/null
	check_eq "$mode: learn_passive = yes" "$(probe "$SRV4" 80 --mptcp)/$(learned "$SRV4:80")" want/mptcp/synack
	# The queue belongs to one process: a second one says so and goes on.
	sed "s,redir.sock,other.sock,; s,:1077,:1078,; s,^state_dir.*,state_dir =," "$LAB_DIR/redir.conf" >"$LAB_DIR/other.conf"
	lab_bg other "$RTR" "$SIXPATH_BUILD/src/redir/sixpath-redir" -f -c "$LAB_DIR/other.conf"
	check "$mode: two daemons: told" lab_wait 10 lab_logged other "another process has the queue"
	lab_kill other
	check_eq "$mode: the second daemon ends with" "$LAB_RC" 0
	check "$mode: rules without it" exits 0 lab_rules start --mode $mode --port 1077 --iface lan --ports 1-79
	lab_ctl redir learned clear >/dev/null
	check_eq "$mode: nothing is learned without the rule" "$(probe "$SRV4" 80 --mptcp)/$(learned "$SRV4:80")" want/unknown
	check "$mode: rules with it" exits 0 lab_rules start "${LAB_RULES_ARGS[@]}"
	lab_daemons_stop
	check_eq "$mode: nothing stays behind" "$(tables)" "$before"
	rm -f "$LAB_DIR/run/learned"
done
check "--learn-passive needs --iface" exits 64 lab_rules start --local --learn-passive
LAB_SCRIPT=nft
check "--learn-passive is not for nft.sh" exits 64 lab_rules start --iface lan --learn-passive
lab_end
