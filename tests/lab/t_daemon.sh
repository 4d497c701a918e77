#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Command line, privileges, control socket, signals, loops
. "$(dirname "$0")/lib.sh"

redir_bin=$SIXPATH_BUILD/src/redir/sixpath-redir
proxy_bin=$SIXPATH_BUILD/src/proxy/sixpath-proxy

code() { # exit code of a command
	"$@" >"$LAB_DIR/out" 2>&1
	echo $?
}

cap_eff() { # NAME: effective capabilities of every thread, one value if they agree
	local f
	for f in /proc/"${LAB_PIDS[$1]}"/task/*/status; do awk '/^CapEff/ { print $2 }' "$f"; done | sort -u
}

uid_of() {
	awk '/^Uid/ { print $2 "/" $3 "/" $4 }' "/proc/${LAB_PIDS[$1]}/status"
}

lab_up
lab_serve srv "$SRV" duplex:5000 http:80
for d in redir proxy; do
	bin=$SIXPATH_BUILD/src/$d/sixpath-$d
	check_eq "sixpath-$d -V" "$(code "$bin" -V)" 0
	check "sixpath-$d -V names the version" grep -q "^sixpath-$d" "$LAB_DIR/out"
	check_eq "sixpath-$d -h" "$(code "$bin" -h)" 0
	check_eq "sixpath-$d with an unknown option" "$(code "$bin" --nonsense)" 64
	check_eq "sixpath-$d with an argument too many" "$(code "$bin" -t extra)" 64
	check_eq "sixpath-$d with a file that is not there" "$(code "$bin" -t -c /nonexistent)" 1
done
check_eq "sixpath-redir -c and --proxy" "$(code "$redir_bin" -t -c x --proxy y:1)" 64
check_eq "sixpath-redir -t --proxy" "$(code "$redir_bin" -t --proxy 192.0.2.1:1080)" 0
check_eq "sixpath-redir -t --proxy, bad" "$(code "$redir_bin" -t --proxy 192.0.2.1:99999)" 1
check_eq "sixpath-redir --proxy, bad" "$(code "$redir_bin" -f --proxy foo:bar:baz)" 64
check_eq "sixpath-redir with a bad file" "$(code "$redir_bin" -f -c /nonexistent)" 78
check_eq "sixpath-proxy -t without a file" "$(cd / && code "$proxy_bin" -t)" 0

lab_sysctl "$RTR" net/mptcp/blackhole_timeout=3600 net/ipv4/icmp_ratelimit=800
lab_daemons
user=$(id -u "$LAB_USER")
check_eq "sixpath-redir runs as $LAB_USER" "$(uid_of redir)" "$user/$user/$user"
check_eq "sixpath-proxy runs as $LAB_USER" "$(uid_of proxy)" "$user/$user/$user"
check_eq "sixpath-redir keeps CAP_NET_ADMIN and nothing else" "$(cap_eff redir)" 0000000000001000
check_eq "sixpath-proxy keeps no capability" "$(cap_eff proxy)" 0000000000000000
check_eq "no new privileges" "$(awk '/^NoNewPrivs/ { print $2 }' "/proc/${LAB_PIDS[redir]}/status")" 1
check_eq "no password in the command line" "$(tr '\0' ' ' <"/proc/${LAB_PIDS[redir]}/cmdline" | grep -c secret)" 0

# Control: valid JSON with a schema, and a person's view.
check_eq "status --json has a schema" "$(lab_ctl redir status --json | json - 'j["schema"]')" sixpath/1
check_eq "proxies --json" "$(lab_ctl redir proxies --json | json - 'j["proxies"][0]["name"]')" home
check_eq "proxy status --json" "$(lab_ctl proxy status --json | json - 'j["daemon"]')" sixpath-proxy
check "flows for people" lab_ctl redir flows
check_eq "an unknown command is bad usage" "$(code lab_ctl redir nonsense)" 64
lab_bg held "$DEV" "$PEER" probe --get / --hold-ms 3000 --want 12 "$SRV4" 80
one_flow() {
	[ "$(lab_ctl redir flows --json | json - 'len([f for f in j["flows"] if f["state"] == "relay"])')" = 1 ]
}
check "a flow is shown" lab_wait 5 one_flow
lab_ctl redir flows --json >"$LAB_DIR/flows.json"
check_eq "its destination" "$(json "$LAB_DIR/flows.json" 'j["flows"][0]["destination"]')" "$SRV4:80"
check_eq "its route" "$(json "$LAB_DIR/flows.json" 'j["flows"][0]["route"] + " " + j["flows"][0]["proxy"]')" "proxy home"
check_eq "MPTCP and Fast Open" "$(json "$LAB_DIR/flows.json" 'j["flows"][0]["mptcp"] and j["flows"][0]["tfo"] and j["flows"][0]["syn_bytes"] > 50')" true
check_eq "the server does not speak MPTCP" "$(json "$LAB_DIR/flows.json" 'j["flows"][0]["server_mptcp"]')" false
lab_join held 10
kill -USR1 "${LAB_PIDS[redir]}"
check "SIGUSR1 logs a status" lab_wait 5 lab_logged redir "status: flows="

# What is not known is null.
lab_bg silent "$RTR" "$PEER" probe --timeout-ms 3000 "$PRX4" 1080
waits() {
	[ "$(lab_ctl proxy flows --json | json - '[f["server_mptcp"] for f in j["flows"] if f["state"] == "waiting" and f["destination"] is None]')" = "[null]" ]
}
check "no server yet: destination and server_mptcp" lab_wait 3 waits
lab_join silent 10
lab_in "$DEV" "$PEER" probe --send x "$SRV4" 99 >/dev/null 2>&1
check "no server at all: server_mptcp in the log" lab_wait 5 grep -q -- "-> $SRV4:99 .* server_mptcp=- " "$LAB_DIR/proxy.log"
check "a server: server_mptcp in the log" grep -q -- "-> $SRV4:80 .* server_mptcp=no " "$LAB_DIR/proxy.log"
lab_conf redir "proxy nobody.address=$PRX4:9"
lab_conf_write
lab_ctl redir reload >/dev/null
check_eq "a proxy before its first connection: local" "$(lab_ctl redir paths --json | json - '[p["local"] for p in j["paths"] if p["proxy"] == "nobody"]')" "[null]"

# Kernel settings: what a process that was killed has changed, the next one sets back.
setting() { # KEY: its value on the router
	lab_in "$RTR" cat "/proc/sys/$1"
}
lab_kill redir KILL
lab_daemon_start redir
check "killed: the next one takes over its kernel settings" lab_logged redir "kernel settings that a process before us has changed"
check_eq "killed: meanwhile they are as wanted" "$(setting net/mptcp/blackhole_timeout)" 0
check_eq "no ICMP errors, no change of their limits" "$(setting net/ipv4/icmp_ratelimit)" 800
lab_conf redir connect.remember_failed=5s
lab_conf_write
lab_ctl redir reload >/dev/null
check_eq "reload with remember_failed: ICMP errors are not limited" "$(setting net/ipv4/icmp_ratelimit)" 0
lab_conf redir connect.remember_failed=0
lab_conf_write
lab_ctl redir reload >/dev/null
check_eq "reload without: they are, as before" "$(setting net/ipv4/icmp_ratelimit)" 800

# Loops: somebody connects to the listener itself.
check_eq "our own listener as destination is closed" \
	"$(lab_in "$DEV" "$PEER" probe --send x "$RTR4" 1077 | json - 'j["end"]')" ECONNRESET
check "and logged" lab_logged redir "our own listener"
# And rules that capture our own packets: the router's own connections, without sparing our mark.
lab_rules stop "${LAB_RULES_ARGS[@]}" >/dev/null 2>&1
lab_rules start --mode tproxy --port 1077 --iface lan --local --mark 0x0 --proxy 192.0.2.99 >"$LAB_DIR/rules2.log" 2>&1
loops() {
	[ "$(lab_ctl redir status --json | json - 'j["ended"].get("loop", 0)')" -ge 2 ]
}
lab_in "$DEV" "$PEER" probe --get / --want 12 --timeout-ms 3000 --repeat 3 "$SRV4" 80 >/dev/null 2>&1
check "our own captured connections are found out" lab_wait 5 loops
check "and the log says what to do" lab_logged redir "exclude packets with mark"
check_num "no storm" "$(lab_ctl redir status --json | json - 'j["counters"]["accepted"]')" "<" 60
lab_rules stop --mode tproxy --port 1077 --iface lan --local --mark 0x0 --proxy 192.0.2.99 >/dev/null 2>&1
lab_rules start "${LAB_RULES_ARGS[@]}" >/dev/null 2>&1

# A proxy without users refuses clients that are not on its own machine.
lab_daemons_stop
check_eq "after a stop: kernel settings as before" "$(setting net/mptcp/blackhole_timeout)/$(setting net/ipv4/icmp_ratelimit)" 3600/800
check_eq "after a stop: nothing left to set back" "$(cd "$LAB_DIR/run" && echo *.tune)" "*.tune"
lab_daemons --proxy auth.users=
check "without users, a stranger is refused and told why" lab_wait 10 lab_logged proxy "only clients on this machine are served"
refused() {
	lab_ctl redir proxies --json | json - 'j["proxies"][0]["last_error"]' | grep -q "credentials rejected"
}
check "the redirector calls it rejected credentials" lab_wait 10 refused
lab_daemons_stop

# Private destinations are refused unless allowed.
ip -n "$SRV" addr add 10.99.0.2/32 dev lo
ip -n "$PRX" route add 10.99.0.2/32 via "$SRV4"
lab_daemons --rules "--exclude 192.168.0.0/16"
lab_in "$DEV" "$PEER" probe --get / --want 12 10.99.0.2 80 >"$LAB_DIR/probe.out" 2>&1
check_eq "a private destination is refused" "$(json "$LAB_DIR/probe.out" 'j["end"]')" ECONNRESET
check "with the reason in the log" lab_wait 5 lab_logged redir "not allowed by rules"
lab_conf proxy "acl.allow=10.99.0.0/16"
lab_conf_write
lab_ctl proxy reload >/dev/null
lab_in "$DEV" "$PEER" probe --get / --want 12 10.99.0.2 80 >"$LAB_DIR/probe.out" 2>&1
check_eq "and served when the acl allows it" "$(json "$LAB_DIR/probe.out" 'j["end"]')" want
lab_daemons_stop

# Files that only root can read: told at start, with a cure that works. And a comment behind a
# header, for which the file is read in another way.
reload_code() { code lab_ctl "$1" reload; }
cures() { # NAME: the commands that the log tells
	sed -nE 's/.*reload and restart will fail: .*: (chgrp [0-9]+ .* && chmod 640 .*)/\1/p' "$LAB_DIR/$1.log"
}
lab_conf_write
sed -i 's/^\[proxy home\]$/& ; ours/' "$LAB_DIR/redir.conf"
chown root:root "$LAB_DIR/secret" "$LAB_DIR/users"
chmod 600 "$LAB_DIR/secret" "$LAB_DIR/users" "$LAB_DIR/redir.conf"
lab_daemon_start proxy
check_eq "a users file that only root can read: reload is refused" "$(reload_code proxy)" 1
check "the answer says why" grep -qF "bad: $LAB_DIR/proxy.conf:4: [auth] users: cannot use \"$LAB_DIR/users\": Permission denied" "$LAB_DIR/out"
check_eq "it was told at start" "$(cures proxy | grep -c .)" 1
eval "$(cures proxy)"
check_eq "what the log tells mends it" "$(reload_code proxy)" 0
lab_daemon_start redir
check_eq "redir.conf and a password that only root can read are told" "$(cures redir | grep -c .)" 2
check_eq "reload is refused" "$(reload_code redir)" 1
check "because of the file" lab_logged redir "redir.conf: Permission denied (it must be readable by the user the daemon runs as"
eval "$(cures redir | grep redir.conf)"
check_eq "it can be read: reload is refused" "$(reload_code redir)" 1
check "because of the password" lab_logged redir "[proxy home] password_file: cannot read $LAB_DIR/secret: Permission denied (it must be readable by the user the daemon runs as"
check "the answer says so" grep -qE "bad: $LAB_DIR/redir.conf:[0-9]+: \[proxy home\] password_file: .*; the old configuration stays$" "$LAB_DIR/out"
lab_conf redir connect.idle=never redir.log=loud
lab_conf_print redir >"$LAB_DIR/bad.conf"
cp "$LAB_DIR/redir.conf" "$LAB_DIR/good.conf"
cat "$LAB_DIR/bad.conf" >"$LAB_DIR/redir.conf"
check_eq "a bad configuration is refused" "$(reload_code redir)" 1
check "the answer has the first error, and how many there are" \
	grep -qE "bad: $LAB_DIR/redir.conf:[0-9]+: \[connect\] idle: .* \(and 2 more: see the log\); the old configuration stays$" "$LAB_DIR/out"
check "the log has all" lab_logged redir '[redir] log: "loud"'
cat "$LAB_DIR/good.conf" >"$LAB_DIR/redir.conf"
lab_conf redir connect.idle= redir.log=debug
eval "$(cures redir | grep secret)"
check_eq "what the log tells mends it, too" "$(reload_code redir)" 0
lab_daemon_stop redir
lab_daemon_start redir
check_eq "then nothing is told at start" "$(cures redir)" ""
lab_daemon_stop redir
lab_daemon_stop proxy

# In the background: the parent returns when the daemon is up, with its exit code.
lab_conf redir redir.log_to=auto
lab_conf_write
lab_in "$RTR" "$redir_bin" -c "$LAB_DIR/redir.conf" >"$LAB_DIR/background.log" 2>&1
check_eq "in the background: the parent's exit code" $? 0
check "in the background: it serves" lab_ctl redir status
pid=$(ip netns pids "$RTR" | while read -r p; do [ "$(cat "/proc/$p/comm")" != sixpath-redir ] || echo "$p"; done | head -n 1)
kill -TERM "$pid"
check "it ends" lab_wait 10 lab_gone "$pid"
lab_end
