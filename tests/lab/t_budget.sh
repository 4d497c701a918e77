#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Descriptors or memory run short: new connections go directly, those there are live on, and
# capturing returns by itself. The proxy says so when there are too many.
. "$(dirname "$0")/lib.sh"

goes() { # WHO: a new connection succeeds that way
	[ "$(lab_get srv "$SRV4" 80)/$(lab_saw srv)" = "want/$1" ]
}

budget() { # FIELD
	lab_ctl redir status --json | json - "j['budget']['$1']"
}

budget_is() { # STATE
	[ "$(budget state)" = "$1" ]
}

HELD=0
# hold N MS [PORT]: so many connections that stay so long without a byte
hold() {
	local i
	for ((i = 0; i < $1; i++)); do
		HELD=$((HELD + 1))
		lab_bg "held$HELD" "$DEV" "$PEER" probe --get "${4:-/}" --want 12 --hold-ms "$2" --timeout-ms 30000 "$SRV4" "${3:-80}"
		sleep 0.02
	done
}

held_end() {
	local i
	for ((i = 1; i <= HELD; i++)); do lab_join "held$i" 60 || not_ok "held $i" "does not end"; done
	cat "$LAB_DIR"/held*.log >"$LAB_DIR/held.all"
	rm -f "$LAB_DIR"/held[0-9]*.log
	HELD=0
}

# with_files N: the redirector starts with so many descriptors; the limit cannot always be raised
# again, so it is set in its process only.
with_files() {
	# shellcheck disable=SC2016 # for the shell in the namespace
	lab_bg redir "$RTR" sh -c 'ulimit -n "$1" && exec "$2" -f -c "$3"' _ "$1" \
		"$SIXPATH_BUILD/src/redir/sixpath-redir" "$LAB_DIR/redir.conf"
	lab_wait 20 lab_daemon_ready redir || lab_die "sixpath-redir does not answer"
}

ended() { # REASON
	lab_ctl redir status --json | json - "j['ended'].get('$1', 0)"
}

lab_up
lab_serve srv "$SRV" http:80 duplex:5000

for mode in tproxy redirect; do
	# Descriptors.
	lab_daemons --no-rules --mode $mode --redir rules.install=yes --redir rules.capture=lan --redir bypass.learn=no
	lab_daemon_stop redir
	with_files 160
	lab_wait 10 lab_in "$RTR" nft list table inet sixpath
	check_num "$mode: known at the start" "$(budget flows_max)" "<=" 60
	check "$mode: before" goes proxy
	max=$(budget flows_max)
	lab_bg "$mode-transfer" "$DEV" "$PEER" duplex --down 20G --up 10k "$SRV4" 5000
	hold $((max - 1)) 20000
	t0=${EPOCHREALTIME/[.,]/}
	check "$mode: descriptors short: noticed" lab_wait 2 budget_is descriptors
	check "$mode: descriptors short: a new connection goes directly" goes device
	check_num "$mode: ms until then" $(((${EPOCHREALTIME/[.,]/} - t0) / 1000)) "<=" 4000
	for _ in 1 2 3 4 5; do goes device || not_ok "$mode: the next ones as well" "$(lab_saw srv)"; done
	check_eq "$mode: it says that it does not capture" "$(budget capturing)" false
	check_eq "$mode: it still answers" "$(lab_ctl redir flows --json | json - 'len(j["flows"]) > 20')" true
	check_eq "$mode: none was ended for it" "$(ended budget)/$(ended limit)" 0/0
	check "$mode: the transfer lives" lab_alive "$mode-transfer"
	held_end
	check_eq "$mode: those held came through" "$(json "$LAB_DIR/held.all" 'sum(p["end"] != "want" for p in j)')" 0
	check "$mode: captured again by itself" lab_wait 5 goes proxy
	check_eq "$mode: one line for the change, one for the return" "$(grep -c 'near the limit' "$LAB_DIR/redir.log")/$(grep -c 'room again' "$LAB_DIR/redir.log")" 1/1
	check "$mode: the transfer lived on" lab_alive "$mode-transfer"
	lab_kill "$mode-transfer"

	# A restart and a reload in the middle of it keep the state of the rules true.
	if [ $mode = tproxy ]; then
		hold $((max - 1)) 15000
		lab_wait 2 budget_is descriptors
		lab_ctl redir reload >/dev/null
		check "reload while short: directly" goes device
		lab_in "$RTR" nft flush ruleset
		check "rules lost while short: they are back" lab_wait 5 lab_in "$RTR" nft list table inet sixpath
		check "rules lost while short: directly" goes device
		held_end
		check "captured again" lab_wait 5 goes proxy
	fi
	lab_daemon_stop redir
	lab_daemon_stop proxy
done

# Memory: devices that do not read what they have asked for.
lab_daemons --no-rules --redir rules.install=yes --redir rules.capture=lan --redir bypass.learn=no --redir "redir.memory=4 MiB"
lab_wait 10 lab_in "$RTR" nft list table inet sixpath
lab_file big 60000000
lab_nginx "$SRV" 8080
check_eq "memory: known at the start" "$(budget memory_max)" 4194304
check "memory: before" goes proxy
hold 160 20000 8080 /big
check "memory short: noticed" lab_wait 10 budget_is memory
check "memory short: directly" goes device
held_end
check "memory: captured again by itself" lab_wait 5 goes proxy
lab_daemons_stop

# Rules that are not ours: the idlest connections make room.
lab_daemons --redir bypass.learn=no
lab_daemon_stop redir
with_files 160
max=$(budget flows_max)
hold $((max + 10)) 12000
check "rules not ours: new ones are served" goes proxy
check "rules not ours: by ending idle ones" lab_wait 5 test "$(ended budget)" -gt 0
check "rules not ours: the log says why" lab_logged redir "reason=budget"
check_eq "rules not ours: none was refused" "$(ended limit)" 0
held_end
lab_daemons_stop

# The proxy's limits: what is too much is told so, and goes another way.
replies() { # how often the proxy has said "general failure"
	lab_ctl proxy status --json | json - 'sum(v for k, v in j["replies"].items() if "general" in k)'
}
for limit in max_per_user max_clients max_per_client; do
	lab_daemons --redir bypass.learn=no --proxy proxy.$limit=6
	hold 5 5000
	sleep 0.2
	for _ in 1 2 3 4; do lab_in "$DEV" "$PEER" probe --get / --want 12 "$SRV4" 80 >/dev/null & done
	hold 3 3000
	lab_wait 3 test "$(replies)" -gt 0
	check "$limit: the next succeeds another way" goes router
	check_num "$limit: the proxy has said so" "$(replies)" ">" 0
	check_num "$limit: and counts it" "$(lab_ctl proxy status --json | json - 'j["ended"].get("limit", 0)')" ">" 0
	held_end
	check_eq "$limit: those held came through" "$(json "$LAB_DIR/held.all" 'sum(p["end"] != "want" for p in j)')" 0
	check "$limit: then through the proxy again" lab_wait 15 goes proxy
	lab_daemons_stop
done
lab_end
