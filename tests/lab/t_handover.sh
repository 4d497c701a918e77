#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Restart by handing over to a successor, and reload, under load: no connection is refused, none
# that runs is disturbed
. "$(dirname "$0")/lib.sh"

# load NAME SECONDS: a connection every 20 ms meanwhile, each on its own.
load() {
	lab_bg "$1" "$DEV" bash -c '
		end=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
		while [ "${EPOCHREALTIME/[.,]/}" -lt $end ]; do
			"$2" probe --get / --want 12 --timeout-ms 5000 "$3" 80 &
			sleep 0.02
		done
		wait' _ "$2" "$PEER" "$SRV4"
}

load_done() { # NAME LEAST: all came through
	lab_join "$1" 30 || not_ok "$1" "the load does not end"
	check_eq "$1: connections that failed" "$(json "$LAB_DIR/$1.log" 'sum(p["end"] != "want" for p in j)')" 0
	check_num "$1: connections" "$(json "$LAB_DIR/$1.log" 'len(j)')" ">=" "$2"
	echo "# $1: slowest $(json "$LAB_DIR/$1.log" 'max(p["first_byte_ms"] or 0 for p in j)') ms"
}

pid_of() { # redir|proxy: who answers on the control socket
	lab_ctl "$1" status --json | json - 'j["pid"]'
}

# restarted redir|proxy OLD-PID: another process answers
restarted() {
	local now
	now=$(pid_of "$1" 2>/dev/null) && [ -n "$now" ] && [ "$now" != "$2" ]
}

captured() { # a connection is captured
	local before
	before=$(lab_ctl redir status --json | json - 'j["counters"]["accepted"]')
	lab_in "$DEV" "$PEER" probe --get / --want 12 "$SRV4" 80 >/dev/null
	[ "$(lab_ctl redir status --json | json - 'j["counters"]["accepted"]')" -gt "$before" ]
}

transfer_runs() { # DAEMON
	[ "$(lab_ctl "$1" flows --json | json - 'len([f for f in j["flows"] if f["bytes_down"] > 100000])')" -gt 0 ]
}

# transfer NAME DAEMON: a long one, paced by the link
transfer() {
	lab_bg "$1" "$DEV" "$PEER" duplex --down 15M --up 1M "$SRV4" 5000
	lab_wait 10 transfer_runs "$2" || not_ok "$1" "the transfer does not run"
}

transfer_done() { # NAME
	check "$1: the transfer ends" lab_join "$1" 60
	check_eq "$1: the transfer was not disturbed" "$(json "$LAB_DIR/$1.log" 'j["error"]')" ""
}

# The successor is no child of this shell: known by its number.
follow() { # redir|proxy
	LAB_PIDS[$1]=$(pid_of "$1")
}

stop_followed() { # redir|proxy: its exit code is not ours to see
	local pid
	pid=$(pid_of "$1")
	kill -TERM "$pid"
	check "sixpath-$1: the successor ends" lab_wait 10 lab_gone "$pid"
	unset "LAB_PIDS[$1]"
	check_eq "sixpath-$1: sanitizers" "$(grep -E "Sanitizer|runtime error:" "$LAB_DIR/$1.log")" ""
}

lab_up --wan1 2:30 --wan2 2:30
lab_serve srv "$SRV" http:80 duplex:5000

blackhole() { # a kernel setting that is not as wanted without a daemon
	lab_in "$RTR" cat /proc/sys/net/mptcp/blackhole_timeout
}

for mode in tproxy redirect; do
	lab_sysctl "$RTR" net/mptcp/blackhole_timeout=3600
	lab_daemons --no-rules --mode $mode --redir rules.install=yes --redir rules.capture=lan --redir bypass.learn=no --redir redir.drain=20s
	lab_wait 10 lab_in "$RTR" nft list table inet sixpath || not_ok "$mode" "no rules"
	check "$mode: captured before" captured

	# By sixpathctl, under load, with a transfer that outlasts it.
	old=$(pid_of redir)
	transfer "$mode-transfer" redir
	load "$mode-restart" 4
	sleep 1
	check "$mode: restart by sixpathctl" lab_ctl redir restart
	check "$mode: a successor answers" lab_wait 10 restarted redir "$old"
	transfer_done "$mode-transfer"
	load_done "$mode-restart" 100
	check "$mode: captured after" captured
	check "$mode: the old process ends when its connections have" lab_wait 10 lab_gone "$old"
	wait "$old"
	check_eq "$mode: its exit code" $? 0
	follow redir
	check_eq "$mode: kernel settings stay" "$(blackhole)" 0
	echo "# $mode: $(grep -c 'route=proxy' "$LAB_DIR/redir.log") through the proxy, $(lab_served srv http) at the server"
	check_eq "$mode: policy routing is there once" "$(lab_in "$RTR" ip rule | grep -c 'fwmark 0x2')" "$([ $mode = tproxy ] && echo 1 || echo 0)"
	check_eq "$mode: no table is left over" "$(lab_in "$RTR" nft list tables | grep -c standin)" 0

	# Once more, from the successor, which is not root any more; by signal.
	old=$(pid_of redir)
	load "$mode-again" 3
	sleep 1
	kill -USR2 "$old"
	check "$mode: the second successor answers" lab_wait 10 restarted redir "$old"
	load_done "$mode-again" 75
	check "$mode: captured after the second" captured
	check_eq "$mode: it keeps CAP_NET_ADMIN and nothing else" "$(awk '/^CapEff/ { print $2 }' "/proc/$(pid_of redir)/status")" 0000000000001000
	check "$mode: the second ends" lab_wait 25 lab_gone "$old"

	# A successor that cannot start changes nothing.
	old=$(pid_of redir)
	lab_conf redir connect.idle=nonsense
	lab_conf_write
	if lab_ctl redir restart >"$LAB_DIR/restart.out" 2>&1; then
		not_ok "$mode: a bad configuration" "restarted with it"
	else
		ok "$mode: a bad configuration: refused"
	fi
	check_eq "$mode: a successor that fails sets nothing back" "$(blackhole)" 0
	check_eq "$mode: the process stays" "$(pid_of redir)" "$old"
	check "$mode: it captures" captured
	lab_conf redir connect.idle=7440
	lab_conf_write

	# Reload under load.
	transfer "$mode-reload-transfer" redir
	load "$mode-reload" 3
	for _ in 1 2 3 4 5 6 7 8; do
		sleep 0.2
		kill -HUP "$old"
		kill -HUP "${LAB_PIDS[proxy]}"
	done
	load_done "$mode-reload" 75
	transfer_done "$mode-reload-transfer"
	check_num "$mode: reloads" "$(grep -c 'configuration loaded' "$LAB_DIR/redir.log")" ">=" 4

	# The deadline.
	lab_conf redir redir.drain=1s
	lab_conf_write
	lab_ctl redir reload >/dev/null
	lab_bg "$mode-held" "$DEV" "$PEER" probe --get / --want 1000000 --hold-ms 20000 --timeout-ms 20000 "$SRV4" 5000
	sleep 0.5
	old=$(pid_of redir)
	lab_ctl redir restart >/dev/null
	check "$mode: the deadline ends the old process" lab_wait 5 lab_gone "$old"
	check "$mode: captured by the last successor" captured
	stop_followed redir
	check_eq "$mode: kernel settings are as before in the end" "$(blackhole)" 3600
	check_eq "$mode: policy routing is gone in the end" "$(lab_in "$RTR" ip rule | grep -c 'fwmark 0x2')" 0
	check_eq "$mode: and the tables" "$(lab_in "$RTR" nft list tables | grep -cE 'sixpath$|standin')" 0
	lab_kill "$mode-held"

	# The proxy, in the same way.
	[ $mode = tproxy ] || { lab_daemon_stop proxy; continue; }
	lab_conf proxy proxy.drain=20s
	lab_conf_write
	lab_daemon_stop proxy
	lab_daemon_start proxy
	lab_daemon_start redir
	lab_wait 10 lab_in "$RTR" nft list table inet sixpath
	lab_wait 10 captured
	old=$(pid_of proxy)
	transfer proxy-transfer proxy
	load proxy-restart 4
	sleep 1
	check "proxy: restart" lab_ctl proxy restart
	check "proxy: a successor answers" lab_wait 10 restarted proxy "$old"
	transfer_done proxy-transfer
	load_done proxy-restart 100
	check "proxy: the old process ends" lab_wait 25 lab_gone "$old"
	check_num "proxy: none went past it" "$(grep -c 'route=direct' "$LAB_DIR/redir.log")" "==" 0
	# A graceful stop: the transfer goes on, new connections are direct.
	follow proxy
	transfer proxy-stop proxy
	old=$(pid_of proxy)
	kill -TERM "$old"
	sleep 0.3
	check_eq "proxy: graceful stop: new connections" "$(lab_in "$DEV" "$PEER" probe --get / --want 12 "$SRV4" 80 | json - 'j["end"]')" want
	transfer_done proxy-stop
	check "proxy: it ends with the last connection" lab_wait 10 lab_gone "$old"
	unset "LAB_PIDS[proxy]"
	lab_daemon_stop redir
done

# Rules of a script, which a guard undoes: they stay as they are, and go with the last process.
lab_daemons --no-rules --redir rules.install=yes --redir rules.backend=iptables --redir rules.capture=lan --redir bypass.learn=no \
	--redir "rules.scripts=$LAB_SRC/redirect-rules" --redir redir.drain=20s
scripted() {
	lab_in "$RTR" iptables-save -t mangle | grep -qi sixpath
}
lab_wait 10 captured || not_ok "script" "captures nothing"
old=$(pid_of redir)
transfer script-transfer redir
load script-restart 3
sleep 1
check "script: restart" lab_ctl redir restart
check "script: a successor answers" lab_wait 10 restarted redir "$old"
transfer_done script-transfer
load_done script-restart 75
check "script: the old process ends" lab_wait 25 lab_gone "$old"
sleep 0.3
check "script: its rules are still there" scripted
check "script: captured" captured
stop_followed redir
check "script: its rules are gone in the end" lab_wait 10 eval '! scripted'
lab_daemon_stop proxy

# Sockets from the service manager, which is told how we are.
cat >"$LAB_DIR/manager.py" <<'PY'
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
while True:
    print(s.recv(100).decode(), flush=True)
PY
lab_bg manager "$PRX" python3 "$LAB_DIR/manager.py" "$LAB_DIR/notify"
lab_wait 5 test -S "$LAB_DIR/notify"
export NOTIFY_SOCKET=$LAB_DIR/notify
lab_conf redir rules.install=no
lab_conf_write
cat >"$LAB_DIR/activate.py" <<'PY'
import os, socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", 1080))
s.listen(64)
os.dup2(os.dup(s.fileno()), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])
PY
lab_bg proxy "$PRX" python3 "$LAB_DIR/activate.py" "$SIXPATH_BUILD/src/proxy/sixpath-proxy" -f -c "$LAB_DIR/proxy.conf"
check "sockets from outside: it starts" lab_wait 10 lab_ctl proxy status
check_eq "sockets from outside: one socket" "$(lab_in "$PRX" ss -Hltn "sport = :1080" | wc -l)" 1
check "sockets from outside: it serves" lab_in "$PRX" bash -c "exec 3<>/dev/tcp/127.0.0.1/1080; printf '\\005' >&3; head -c 1 <&3 | od -An -tx1 | grep -q 06"
old=${LAB_PIDS[proxy]}
check "sockets from outside: ready is told" lab_wait 5 lab_logged manager READY=1
check "sockets from outside: restart" lab_ctl proxy restart
check "sockets from outside: a successor answers" lab_wait 5 restarted proxy "$old"
check "sockets from outside: its number is told" lab_logged manager "MAINPID=$(pid_of proxy)"
check "sockets from outside: it says that it is ready" lab_wait 5 sh -c "[ \$(grep -c READY=1 $LAB_DIR/manager.log) = 2 ]"
check_eq "sockets from outside: still one socket" "$(lab_in "$PRX" ss -Hltn "sport = :1080" | wc -l)" 1
check "sockets from outside: the first process ends" lab_join proxy 10
check_eq "sockets from outside: exit code" "$LAB_RC" 0
stop_followed proxy
unset NOTIFY_SOCKET
lab_kill manager

# ---- both as root, which nobody should ----
LAB_USER=root
chown root "$LAB_DIR/run"
rm -f "$LAB_DIR"/run/*
lab_daemons
for d in redir proxy; do
	old=$(pid_of $d)
	check "as root: $d restarts" lab_ctl $d restart
	check "as root: a successor of $d answers" lab_wait 10 restarted $d "$old"
done
check "as root: the successors serve" lab_wait 20 captured
stop_followed redir
stop_followed proxy
lab_end
