#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# build: release
# backend = iptables: the daemon runs the script of redirect-rules, and it is undone however it dies
. "$(dirname "$0")/lib.sh"

probe() { # ADDRESS [OPTION...]: how it ends at the device
	lab_get srv "$1" 80 "${@:2}"
}

who() { # the one the server sees
	lab_saw srv
}

network() { # what must be as it was before; empty tables of nftables' making do not matter
	local t
	for t in mangle nat; do
		lab_in "$RTR" iptables-save -t $t
		lab_in "$RTR" ip6tables-save -t $t
	done 2>/dev/null | grep -E '^(-A|:SIXPATH)'
	ip -n "$RTR" rule show
	ip -n "$RTR" -6 rule show
	ip -n "$RTR" route show table all
	ip -n "$RTR" -6 route show table all | grep -v "^ff00\|^multicast"
	lab_in "$RTR" nft list tables | grep sixpath
}

as_before() {
	network >"$LAB_DIR/after"
	cmp -s "$LAB_DIR/before" "$LAB_DIR/after"
}

unchanged() { # NAME: at once
	network >"$LAB_DIR/after"
	check "$1" diff "$LAB_DIR/before" "$LAB_DIR/after"
}

status() { # KEY
	lab_ctl redir status --json | json - 'j["'"$1"'"]'
}

doctor() { # level of rules.script
	lab_in "$RTR" "$SIXPATH_BUILD/src/tools/sixpathctl" -s "$LAB_DIR/run/redir.sock" --json doctor |
		json - '" ".join(f["level"] for f in j["findings"] if f["id"] == "rules.script")'
}

start() { # MODE [KEY=VALUE...]
	local o=()
	for kv in "${@:2}"; do o+=(--redir "$kv"); done
	rm -f "$LAB_DIR/run/learned"
	[ -z "${LAB_PIDS[proxy]:-}" ] || lab_daemon_stop proxy
	lab_daemons --no-rules --mode "$1" --redir rules.install=yes --redir rules.capture=lan --redir rules.backend=iptables \
		--redir "rules.scripts=$LAB_SRC/redirect-rules" "${o[@]}"
}

in_set() { # ADDRESS
	lab_in "$RTR" ipset list | grep -q "^$1,tcp:80 "
}

processes() { # of the router, with this name
	local pid
	for pid in $(ip netns pids "$RTR"); do
		[ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "$1" ] || echo "$pid"
	done
}

no_guard() { [ -z "$(processes sixpath-guard)" ]; }

lab_need iptables ip6tables ipset
lab_up
lab_in "$RTR" iptables -t mangle -S >/dev/null 2>&1 || lab_skip_all "no iptables here"
lab_in "$RTR" ipset create sixpath-try hash:ip,port 2>/dev/null || lab_skip_all "no ipset here"
lab_in "$RTR" ipset destroy sixpath-try
lab_serve srv "$SRV" --mptcp http:80
ip -n "$DEV" mptcp limits set subflows 0 add_addr_accepted 0
network >"$LAB_DIR/before"

for mode in tproxy redirect; do
	start $mode
	for a in "$SRV4" "$SRV6"; do
		check_eq "$mode $a: captured" "$(probe "$a")/$(who)" want/proxy
		check_eq "$mode $a: learned, a plain device" "$(probe "$a")/$(who)" want/router
		lab_wait 3 in_set "$a" || not_ok "$mode $a: the set" "the server is not in it"
		check_eq "$mode $a: learned, a device with MPTCP" "$(probe "$a" --mptcp)/$(who)" want/device
	done
	check_eq "$mode: learned says" "$(lab_ctl redir learned --json | json - 'j["rules"]')" ipset
	check_eq "$mode: status says" "$(status rules)/$(status owner)" script/false
	check_eq "$mode: doctor tells what is lost" "$(doctor)" note
	guard=$(processes sixpath-guard)
	check_eq "$mode: one guard" "$(echo "$guard" | wc -w)" 1
	check_eq "$mode: the guard is root" "$(awk '/^Uid/ { print $2 $3 }' "/proc/$guard/status")" 00
	check_eq "$mode: the guard has but its descriptors" \
		"$(for f in "/proc/$guard/fd/"*; do readlink "$f"; done | sed 's/\[.*//' | sort | tr '\n' ' ')" \
		"$(printf '%s\n' /dev/null /dev/null "$LAB_DIR/redir.log" net: socket: | sort | tr '\n' ' ')"
	lab_daemon_stop redir
	unchanged "$mode: an orderly stop leaves nothing"
	check "$mode: nor a guard" no_guard
	check_eq "$mode: without the daemon" "$(probe "$SRV4")/$(who)" want/device

	lab_daemon_start redir
	check_eq "$mode: once more" "$(probe "$SRV4")" want
	t0=${EPOCHREALTIME/[.,]/}
	lab_kill redir KILL
	check "$mode: kill -9: the rules vanish" lab_wait 5 as_before
	check_num "$mode: kill -9: ms until then" $(((${EPOCHREALTIME/[.,]/} - t0) / 1000)) "<=" 2000
	check "$mode: kill -9: and the guard" lab_wait 2 no_guard
	for a in "$SRV4" "$SRV6"; do
		check_eq "$mode: kill -9: direct to $a" "$(probe "$a")/$(who)" want/device
	done
done

# Killed and started again at once, as some service managers do: the old stop must not hit the new rules.
lab_daemon_start redir
for _ in 1 2 3; do
	lab_kill redir KILL
	lab_daemon_start redir
	before=$(lab_ctl redir status --json | json - 'j["counters"]["accepted"]')
	check_eq "killed and started at once" "$(probe "$SRV6")" want
	check_num "killed and started at once: captured" "$(lab_ctl redir status --json | json - 'j["counters"]["accepted"]')" ">" "$before"
done

# A service manager's way: one signal to all of them.
# shellcheck disable=SC2046
kill -TERM $(ip netns pids "$RTR")
lab_join redir 10 || not_ok "a signal to all" "it does not end"
check_eq "a signal to all: exit code" "$LAB_RC" 0
unset "LAB_PIDS[redir]"
unchanged "a signal to all: nothing is left"

# Who reads its standard error dies before it.
mkfifo "$LAB_DIR/err"
cat "$LAB_DIR/err" >/dev/null &
reader=$!
ip netns exec "$RTR" "$SIXPATH_BUILD/src/redir/sixpath-redir" -f -c "$LAB_DIR/redir.conf" 2>"$LAB_DIR/err" &
LAB_PIDS[redir]=$!
lab_wait 10 lab_daemon_ready redir
kill $reader
lab_kill redir KILL
check "standard error is a broken pipe: nothing is left" lab_wait 5 as_before

# In the background.
lab_conf redir redir.log_to=auto
lab_conf_write
check "in the background" timeout 20 ip netns exec "$RTR" "$SIXPATH_BUILD/src/redir/sixpath-redir" -c "$LAB_DIR/redir.conf" 2>&1
pid=$(processes sixpath-redir)
check_eq "in the background: one daemon, one guard" "$(echo "$pid" | wc -w)/$(processes sixpath-guard | wc -l)" 1/1
check_eq "in the background: nothing of the terminal is held" \
	"$(for p in $pid $(processes sixpath-guard); do readlink "/proc/$p/fd/2"; done | sort -u)" /dev/null
check_eq "in the background: captured" "$(probe "$SRV6")/$(status rules)" want/script
kill -KILL "$pid"
check "in the background: kill -9: nothing is left" lab_wait 5 as_before
lab_conf redir redir.log_to=stderr

# Reload: the rules stay as they are, and that is said.
start tproxy
lab_conf redir rules.ports=1-79
lab_conf_write
check_eq "reload" "$(lab_ctl redir reload --json | json - 'j["result"]')" "configuration loaded; only a restart changes: ports"
check_eq "reload: still captured" "$(probe "$SRV4")/$(who)" want/proxy
lab_conf redir rules.ports= rules.backend=auto
lab_conf_write
lab_ctl redir reload >/dev/null
sleep 1.2 # longer than a tick: nothing may have happened by then
check_eq "reload to own rules: not beside the script's" "$(status rules)/$(lab_in "$RTR" nft list tables | grep -c 'inet sixpath$')" script/0
check_eq "reload to own rules: the sets go on" "$(lab_ctl redir learned --json | json - 'j["rules"]')" ipset

# Nobody puts them back.
lab_rules_stop() { lab_in "$RTR" sh "$LAB_SRC/redirect-rules/iptables.sh" stop; }
lab_rules_stop >/dev/null 2>&1
check_eq "removed by others: doctor" "$(doctor)" warn
lab_daemon_stop redir
unchanged "removed by others: an orderly stop all the same"

# The guard is killed: what is left is named.
start tproxy
kill -KILL "$(processes sixpath-guard)"
lab_daemon_stop redir
check "the guard was killed: said" lab_logged redir "some may be left (the guard has been killed): sh $LAB_SRC/redirect-rules/iptables.sh stop"
lab_rules_stop >/dev/null 2>&1
unchanged "the guard was killed: the command that is named helps"

# Scripts that do not work.
mkdir "$LAB_DIR/scripts"
# shellcheck disable=SC2016
printf 'echo "$1" >>%s/said\n[ "$1" = stop ] || exit 7\n' "$LAB_DIR" >"$LAB_DIR/scripts/iptables.sh"
start tproxy "rules.scripts=$LAB_DIR/scripts"
check "a script that fails: its exit code" lab_logged redir "$LAB_DIR/scripts/iptables.sh has failed with exit code 7"
check_eq "a script that fails: status" "$(status rules)" none
check_eq "a script that fails: nothing is captured" "$(probe "$SRV4")/$(who)" want/device
check_eq "a script that fails: no sets" "$(lab_ctl redir learned --json | json - 'j["rules"]')" none
check_eq "a script that fails: doctor" "$(doctor)" ""
lab_daemon_stop redir
check_eq "a script that fails: undone" "$(tr '\n' ' ' <"$LAB_DIR/said")" "start stop "
start tproxy "rules.scripts=$LAB_DIR/empty"
check "no script: said" lab_logged redir "$LAB_DIR/empty/iptables.sh: No such file or directory"
check_eq "no script: nothing is captured" "$(probe "$SRV4")/$(who)" want/device
lab_daemon_stop redir

# The daemon does not come up after all.
lab_conf redir "rules.scripts=$LAB_SRC/redirect-rules" "redir.control=$LAB_DIR/nowhere/redir.sock"
lab_conf_write
lab_in "$RTR" "$SIXPATH_BUILD/src/redir/sixpath-redir" -f -c "$LAB_DIR/redir.conf" >"$LAB_DIR/redir.log" 2>&1
check_eq "no control socket: exit code" $? 69
check "no control socket: the rules had been there" lab_logged redir "iptables.sh are in place"
unchanged "no control socket: nothing is left"

# Nothing to capture: no script is run.
rm -f "$LAB_DIR/said"
start tproxy "rules.scripts=$LAB_DIR/scripts" rules.capture=
check "nothing to capture: no script" test ! -e "$LAB_DIR/said"
check "nothing to capture: no guard" no_guard
lab_daemon_stop redir

# libnftables is loaded when it is wanted; where it is not installed, scripts do the work.
lib=$(ldconfig -p | sed -n 's/.*libnftables\.so\.1 .*=> //p' | head -n 1)
if [ -n "$lib" ]; then
	# shellcheck disable=SC2034 # read by lab_daemon
	LAB_WRAP_redir=(unshare -m sh -c 'mount --bind /dev/null "$0" && exec "$@"' "$(readlink -f "$lib")")
	start tproxy rules.backend=auto
	# shellcheck disable=SC2034
	LAB_WRAP_redir=()
	check_eq "no libnftables here: captured by script" "$(status rules)/$(probe "$SRV4")/$(who)" script/want/proxy
	lab_daemon_stop redir
	unchanged "no libnftables here: nothing is left"
else
	skip "no libnftables here" "cannot find the library"
fi

# Own connections of the router, too.
start tproxy rules.capture_local=yes
check_eq "capture_local" "$(LAB_FROM=$RTR probe "$SRV4")/$(who)" want/proxy
lab_daemon_stop redir
unchanged "capture_local: nothing is left"
lab_daemon_stop proxy
lab_end
