#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# sixpathctl doctor: each check, well and ill
. "$(dirname "$0")/lib.sh"

ctl=$SIXPATH_BUILD/src/tools/sixpathctl
sock=$LAB_DIR/run/redir.sock # set again below, when there is a directory

# doctor [NS [PREFIX-COMMAND...]]: its JSON in doctor.json, its exit code in CODE.
doctor() {
	local ns=${1:-$RTR}
	shift
	lab_in "$ns" "$@" "$ctl" -s "$sock" --json doctor >"$LAB_DIR/doctor.json" 2>"$LAB_DIR/doctor.err"
	CODE=$?
	[ ! -s "$LAB_DIR/doctor.err" ] || not_ok "doctor is silent on standard error" "$(cat "$LAB_DIR/doctor.err")"
}

level() { # ID: "" if there is no such finding
	json "$LAB_DIR/doctor.json" '" ".join(f["level"] for f in j["findings"] if f["id"] == "'"$1"'")'
}

cure() {
	json "$LAB_DIR/doctor.json" '" ".join(f["cure"] or "" for f in j["findings"] if f["id"] == "'"$1"'")'
}

# finds NAME ID LEVEL [NS [PREFIX...]]: run it, and look at one finding.
finds() {
	local name=$1 id=$2 want=$3
	shift 3
	doctor "$@"
	check_eq "$name" "$(level "$id")" "$want"
	local without
	without=$(json "$LAB_DIR/doctor.json" '[f["id"] for f in j["findings"] if (f["level"] == "ok") != (f["cure"] is None)]')
	[ "$without" = "[]" ] || not_ok "$name: cures" "$without"
}

# cured NAME ID [LEVEL]: the cure that doctor prints, run as it is, helps.
cured() {
	local commands want=${3-ok}
	commands=$(cure "$2")
	lab_in "$RTR" sh -c "$commands" >"$LAB_DIR/cure.out" 2>&1 || not_ok "$1: the cure" "$commands: $(cat "$LAB_DIR/cure.out")"
	finds "$1, and its cure helps" "$2" "$want"
}

everything() { # what doctor must leave as it is
	lab_in "$RTR" nft list ruleset
	ip -n "$RTR" rule show
	ip -n "$RTR" -6 rule show
	ip -n "$RTR" route show table all
	ip -n "$RTR" -6 route show table all
	ip -n "$RTR" mptcp endpoint show
	lab_in "$RTR" sh -c 'grep -r . /proc/sys/net/mptcp /proc/sys/net/ipv4/tcp_fastopen /proc/sys/net/ipv4/conf' 2>/dev/null
}

lab_need setpriv
lab_up
sock=$LAB_DIR/run/redir.sock
lab_serve srv "$SRV" --tfo http:80 http:81
lab_sysctl "$RTR" net/ipv4/icmp_msgs_burst=5000

# ---- a machine that is well ----

lab_daemons
one_page() { lab_in "$DEV" "$PEER" probe --get / --want 12 "$SRV4" 80; }
one_page >/dev/null
everything >"$LAB_DIR/before"
doctor
everything >"$LAB_DIR/after"
check "doctor changes nothing" diff "$LAB_DIR/before" "$LAB_DIR/after"
if [ "$(level capability.cap_net_admin)" != ok ]; then
	lab_skip_all "needs all capabilities"
fi
bad=$(json "$LAB_DIR/doctor.json" '[f for f in j["findings"] if f["level"] in ("warn", "fail")]')
if [ "$bad" = "[]" ]; then
	check_eq "all is well: exit code" "$CODE" 0
elif grep -q '"id":"mptcp.limits","seen":".*without libmnl' "$LAB_DIR/doctor.json"; then
	lab_skip_all "built without libmnl"
else
	not_ok "all is well" "$bad"
fi
for id in kernel.mptcp kernel.mptcp_info kernel.mptcp_fastopen sysctl.net.mptcp.blackhole_timeout \
	mptcp.blackhole fastopen.blackhole fastopen.taken limits.files mptcp.limits mptcp.links mptcp.endpoint.wan2 \
	"mptcp.route.$WAN2_4" "mptcp.route.$WAN2_6" rules rules.mode rules.route4 rules.route6 daemon \
	daemon.files daemon.mptcp proxy.home nft.tproxy xt.TPROXY; do
	check_eq "all is well: $id" "$(level "$id")" ok
done
check_eq "schema" "$(json "$LAB_DIR/doctor.json" 'j["schema"] + " " + j["role"] + " " + j["command"]')" "sixpath/1 redir doctor"
check "for people: a table" sh -c "ip netns exec $RTR $ctl -s $sock doctor | grep -qE '^LEVEL +CHECK +SEEN'"

# ---- settings: PATH VALUE LEVEL, each alone ----

lab_sysctl "$RTR" net/ipv4/icmp_ratelimit=1000
finds "a daemon that sends no ICMP errors: their limits do not matter" sysctl.net.ipv4.icmp_ratelimit ""
lab_conf redir connect.remember_failed=5s
lab_conf_write
lab_ctl redir reload >/dev/null
finds "it sends them now, and has lifted the limit" sysctl.net.ipv4.icmp_ratelimit ok

while read -r id value want; do
	path=$(echo "${id%%&*}" | tr . /)
	lab_in "$RTR" test -e "/proc/sys/$path" || { skip "$id" "not in this kernel"; continue; }
	old=$(lab_in "$RTR" cat "/proc/sys/$path")
	lab_sysctl "$RTR" "$path=$value"
	finds "$id = $value" "sysctl.$id" "$want"
	case $want in
	ok) ;;
	warn) check_eq "$id = $value: exit code" "$CODE" 1 ;;
	*) check_eq "$id = $value: exit code" "$CODE" 2 ;;
	esac
	case $id in # of what is right on all interfaces there is one line for all of them
	*.conf.lan.*) cured "$id = $value" "sysctl.$id" "" ;;
	*) [ "$want" = ok ] || cured "$id = $value" "sysctl.$id" ;;
	esac
	lab_sysctl "$RTR" "$path=$old"
done <<-END
	net.mptcp.enabled 0 fail
	net.mptcp.blackhole_timeout 60 fail
	net.mptcp.close_timeout 60 warn
	net.mptcp.close_timeout 5 ok
	net.mptcp.pm_type 1 fail
	net.ipv4.tcp_fastopen&1 2 fail
	net.ipv4.tcp_fastopen&2 1 warn
	net.ipv4.tcp_fastopen&2 519 ok
	net.ipv4.tcp_fastopen_blackhole_timeout_sec 60 warn
	net.core.somaxconn 128 warn
	net.ipv4.icmp_ratelimit 1000 warn
	net.ipv6.icmp.ratelimit 100 warn
	net.ipv4.icmp_msgs_per_sec 1000 warn
	net.ipv4.icmp_msgs_burst 50 warn
	net.ipv4.conf.lan.src_valid_mark 1 fail
	net.ipv4.ip_forward 0 warn
	net.ipv6.conf.all.forwarding 0 warn
END
lab_sysctl "$RTR" net/mptcp/enabled=0
finds "MPTCP switched off: no sockets" kernel.mptcp fail
lab_sysctl "$RTR" net/mptcp/enabled=1

# Why src_valid_mark is wanted off, whatever rp_filter is.
lab_sysctl "$RTR" net/ipv4/conf/lan/src_valid_mark=1
for rp in 0 1 2; do
	lab_sysctl "$RTR" net/ipv4/conf/all/rp_filter=$rp
	check_eq "rp_filter=$rp with src_valid_mark: captured connections hang" \
		"$(lab_in "$DEV" "$PEER" probe --get / --want 12 --timeout-ms 700 "$SRV4" 80 | json - 'j["end"]')" ETIMEDOUT
done
lab_sysctl "$RTR" net/ipv4/conf/lan/src_valid_mark=0 net/ipv4/conf/all/rp_filter=1
check_eq "rp_filter=1 alone does not matter" "$(one_page | json - 'j["end"]')" want
lab_sysctl "$RTR" net/ipv4/conf/all/rp_filter=0

# ---- links, endpoints, routes ----

ip -n "$RTR" mptcp limits set subflows 0
finds "no further subflows allowed" mptcp.limits fail
cured "no further subflows allowed" mptcp.limits
ip -n "$RTR" mptcp endpoint flush
finds "no endpoint on wan2" mptcp.endpoint.wan2 warn
cured "no endpoint on wan2" mptcp.endpoint.wan2
ip -n "$RTR" mptcp endpoint flush
ip -n "$RTR" mptcp endpoint add "$WAN2_4" dev wan2 signal
finds "an endpoint that only signals" mptcp.endpoint.wan2 warn
ip -n "$RTR" mptcp endpoint flush
ip -n "$RTR" mptcp endpoint add "$WAN2_4" dev wan2 subflow backup
finds "a backup endpoint" mptcp.endpoint.wan2 note
cured "a backup endpoint" mptcp.endpoint.wan2
ip -n "$RTR" mptcp endpoint flush
ip -n "$RTR" mptcp endpoint add "$WAN2_4" dev wan2 subflow backup
ip -n "$RTR" mptcp endpoint add "$WAN2_6" dev wan2 subflow
finds "a backup endpoint beside another" mptcp.endpoint.wan2 ok
ip -n "$RTR" mptcp endpoint flush
ip -n "$RTR" mptcp endpoint add 192.0.2.77 subflow
finds "an endpoint whose address is nowhere" mptcp.route.192.0.2.77 warn
lab_in "$RTR" sh -c "$(cure mptcp.route.192.0.2.77)"
finds "an endpoint whose address is nowhere: its cure helps" mptcp.route.192.0.2.77 ""
lab_endpoint add

for f in -4 -6; do
	addr=$WAN2_4
	[ $f = -4 ] || addr=$WAN2_6
	ip -n "$RTR" $f rule del from "$addr" lookup 102
	finds "no rule for $addr" "mptcp.route.$addr" warn
	cured "no rule for $addr" "mptcp.route.$addr"
	gw=$(ip -n "$RTR" $f route show default table 102)
	ip -n "$RTR" $f route del default table 102
	finds "table of $addr without default route" "mptcp.route.$addr" warn
	# shellcheck disable=SC2086
	ip -n "$RTR" $f route add $gw table 102
	finds "table of $addr with it again" "mptcp.route.$addr" ok
	# a prefix will do, one that does not cover it will not
	ip -n "$RTR" $f rule del from "$addr" lookup 102
	ip -n "$RTR" $f rule add from "$addr/31" lookup 102 2>/dev/null || ip -n "$RTR" $f rule add from "$addr/127" lookup 102
	finds "a rule for a prefix around $addr" "mptcp.route.$addr" ok
	ip -n "$RTR" $f rule del lookup 102
	ip -n "$RTR" $f rule add from "${addr%2}4" lookup 102
	finds "a rule for another address than $addr" "mptcp.route.$addr" warn
	ip -n "$RTR" $f rule del lookup 102
	ip -n "$RTR" $f rule add from "$addr" lookup 102
done
# Bound to its device, an endpoint needs only a route through it.
ip -n "$RTR" rule del from "$WAN2_4" lookup 102
ip -n "$RTR" route add default via 198.18.2.1 dev wan2 metric 500
finds "a bound endpoint, and a second default route" "mptcp.route.$WAN2_4" ok
ip -n "$RTR" mptcp endpoint flush
ip -n "$RTR" mptcp endpoint add "$WAN2_4" subflow
finds "the same endpoint, not bound" "mptcp.route.$WAN2_4" warn
ip -n "$RTR" mptcp endpoint flush
lab_endpoint add
ip -n "$RTR" route del default via 198.18.2.1 dev wan2 metric 500
ip -n "$RTR" rule add from "$WAN2_4" lookup 102

ip -n "$RTR" link set wan2 down
finds "one link only" mptcp.links note
ip -n "$RTR" link set wan1 down
finds "no link" mptcp.links warn
for n in 1 2; do
	ip -n "$RTR" link set wan$n up
	ip -n "$RTR" addr replace "2001:db8:$n::2/64" dev wan$n nodad
	ip -n "$RTR" route replace default via "198.18.$n.1" dev "wan$n" table $((100 + n))
	ip -n "$RTR" -6 route replace default via "2001:db8:$n::1" dev "wan$n" table $((100 + n))
done
ip -n "$RTR" route replace default via 198.18.1.1
ip -n "$RTR" -6 route replace default via 2001:db8:1::1
finds "both links again" mptcp.links ok

# ---- rules ----

for f in -4 -6; do
	ip -n "$RTR" $f rule del pref 10660
	finds "no route for marked packets, IPv${f#-}" "rules.route${f#-}" warn
	cured "no route for marked packets, IPv${f#-}" "rules.route${f#-}"
done
ip -n "$RTR" rule del pref 10660
ip -n "$RTR" -6 rule del pref 10660
finds "no route for marked packets at all" rules.route4 fail
check_eq "exit code" "$CODE" 2
lab_rules start "${LAB_RULES_ARGS[@]}" >/dev/null 2>&1
finds "the script mends it" rules.route4 ok
lab_rules stop >/dev/null 2>&1
finds "no rules" rules note
check_eq "no rules: nothing about their mode" "$(level rules.mode)" ""
check_eq "no rules: no route needed" "$(level rules.route4)" ""
ip -n "$RTR" rule add fwmark 0x2/0x2 lookup 100
ip -n "$RTR" route add local default dev lo table 100
finds "a route that nobody needs" rules.route4 note
ip -n "$RTR" rule del fwmark 0x2/0x2 lookup 100
ip -n "$RTR" route del local default dev lo table 100

LAB_SCRIPT=iptables
if command -v iptables >/dev/null && lab_rules start "${LAB_RULES_ARGS[@]}" >"$LAB_DIR/rules.log" 2>&1 &&
	lab_in "$RTR" nft list ruleset 2>/dev/null | grep -q SIXPATH; then
	finds "rules of iptables" rules ok
	check_eq "they do tproxy" "$(level rules.mode)" ok
	lab_rules stop >/dev/null 2>&1
	lab_rules start --mode redirect --port 1077 --iface lan --mark 0x5061 >/dev/null 2>&1
	finds "rules of iptables that redirect, daemon in tproxy mode" rules.mode fail
	lab_rules stop >/dev/null 2>&1
else
	skip "iptables" "not over nftables here"
fi
LAB_SCRIPT=nft
lab_rules start --mode redirect --port 1077 --iface lan --mark 0x5061 >/dev/null 2>&1
finds "rules redirect, daemon in tproxy mode" rules.mode fail
mkdir "$LAB_DIR/empty"
finds "no program nft" nft.program note "$RTR" env PATH="$LAB_DIR/empty"

# ---- counters ----

blackholed() { # a server that only plain TCP reaches
	lab_in "$PRX" nft "add table inet eat; add chain inet eat f { type filter hook forward priority 0; }
		add rule inet eat f tcp dport 81 tcp flags & (syn|ack) == syn tcp option mptcp exists drop"
	lab_sysctl "$RTR" net/mptcp/blackhole_timeout=3600 net/mptcp/syn_retrans_before_tcp_fallback=0
	lab_in "$RTR" "$PEER" probe --mptcp --get / --want 12 --timeout-ms 8000 "$SRV4" 81 >/dev/null
	lab_in "$RTR" "$PEER" probe --mptcp --get / --want 12 "$SRV4" 81 >/dev/null
	lab_in "$PRX" nft delete table inet eat
}
blackholed
finds "MPTCP switched off after a lost handshake" mptcp.blackhole warn
lab_in "$RTR" sh -c "$(cure mptcp.blackhole)" >/dev/null
finds "with the cure it is history" mptcp.blackhole note
lab_sysctl "$RTR" net/mptcp/syn_retrans_before_tcp_fallback=2

stale() { # cookies that the server does not take any more
	lab_in "$RTR" "$PEER" probe --tfo --get / --want 12 "$SRV4" 80 >/dev/null
	lab_sysctl "$SRV" net/ipv4/tcp_fastopen=0
	for _ in $(seq 12); do
		lab_in "$RTR" "$PEER" probe --tfo --get / --want 12 "$SRV4" 80 >/dev/null
	done
	lab_sysctl "$SRV" net/ipv4/tcp_fastopen=3
}
stale
if [ "$(lab_counter "$RTR" TcpExtTCPFastOpenActiveFail)" -ge 10 ]; then
	finds "SYN data is not taken" fastopen.taken warn
else
	skip "SYN data is not taken" "this kernel gave up before"
fi

# ---- this process ----

finds "few descriptors" limits.files warn "$RTR" sh -c 'ulimit -n 1000; exec "$@"' sh
finds "not root" capability.cap_net_admin note "$RTR" setpriv --reuid 65534 --regid 65534 --clear-groups
check_eq "not root: rules are not checked" "$(level rules)" note
check_eq "not root: the kernel's parts are not checked" "$(level nft.tproxy)" note
check_eq "not root: nothing that is well is called ill" "$(level kernel.mptcp)" ok
finds "root without a capability" capability.cap_net_admin fail "$RTR" \
	setpriv --bounding-set -net_admin --inh-caps -net_admin
finds "root without the other" capability.cap_net_raw note "$RTR" setpriv --bounding-set -net_raw --inh-caps -net_raw
real_ctl=$ctl
ctl=$LAB_DIR/from-the-future
cp "$real_ctl" "$ctl"
finds "the clock, and a program of now" clock "$(level clock)"
touch -d '+2 days' "$ctl"
finds "the clock is behind" clock warn
ctl=$real_ctl

# ---- the daemon ----

lab_daemon_stop redir
finds "no daemon" daemon note
check_eq "rules that redirect to nobody" "$(level rules.mode)" warn
lab_rules stop >/dev/null 2>&1
check_eq "no daemon: proxies are not known" "$(level proxy.home)" ""
lab_kill proxy TERM
lab_daemon_start redir
proxy_down() { doctor && [ "$(level proxies)" = fail ]; }
check "no proxy works" lab_wait 20 proxy_down
check_eq "this one is down" "$(level proxy.home)" warn
lab_daemon_stop redir

# A daemon with troubles that are hard to make: a socket that answers like one.
cat >"$LAB_DIR/fake.py" <<'PY'
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
path, status, proxies = sys.argv[1:4]
s = socket.socket(socket.AF_UNIX)
s.bind(path)
s.listen(5)
print("ready", flush=True)
while True:
    c, _ = s.accept()
    line = c.makefile().readline()
    c.sendall((proxies if line.startswith("proxies") else status).encode())
    c.close()
PY
fake() { # STATUS PROXIES
	sock=$LAB_DIR/run/fake$RANDOM.sock
	[ -z "${LAB_PIDS[fake]:-}" ] || lab_kill fake TERM
	lab_bg fake "$RTR" python3 "$LAB_DIR/fake.py" "$sock" "$1" "$2"
	lab_wait 10 lab_logged fake ready || lab_die "fake daemon"
}
head='ok
{"schema":"sixpath/1","command":"status","daemon":"sixpath-redir","version":"0","mode":"redirect",'
fake "$head\"accepting\":false,\"descriptors\":900,\"descriptor_limit\":1000,\"counters\":{\"proxied\":20,\"mptcp\":0}}" \
	'ok
{"proxies":[{"name":"a","address":null,"state":"unproven","tfo":true,"last_error":null},
{"name":"b","address":"[2001:db8::1]:1080","state":"up","tfo":false,"last_error":"x \u001b[31m"},
{"name":"c","address":"192.0.2.1:1080","state":"up","tfo":true,"last_error":null}]}'
finds "a daemon that accepts nothing" daemon.accepting fail
check_eq "descriptors run out" "$(level daemon.files)" warn
check_eq "no connection was MPTCP" "$(level daemon.mptcp)" warn
check_eq "a proxy whose name is not resolved" "$(level proxy.a)" warn
check_eq "a proxy without Fast Open" "$(level proxy.b)" note
check_eq "a proxy that is well" "$(level proxy.c)" ok
check_eq "not all are down" "$(level proxies)" ""
check_eq "rules that are nobody's: nothing about scripts" "$(level rules.script)" ""
lab_sysctl "$RTR" net/ipv4/conf/lan/src_valid_mark=1
finds "src_valid_mark in redirect mode" sysctl.net.ipv4.conf.lan.src_valid_mark note
lab_sysctl "$RTR" net/ipv4/conf/lan/src_valid_mark=0
fake 'ok
{"daemon":"sixpath-proxy"}' ''
finds "the other daemon" daemon warn
fake 'HTTP/1.1 400 Bad Request' ''
finds "no daemon of ours" daemon fail
fake 'ok
{"proxies":[{"name' 'ok
{"proxies":[{"name":"a","state'
finds "an answer that is cut off" daemon ok
fake '' ''
finds "no answer at all" daemon fail
chmod 700 "$LAB_DIR/run"
chown root "$LAB_DIR/run"
finds "a socket that we may not use" daemon note "$RTR" setpriv --reuid 65534 --regid 65534 --clear-groups
chown "$LAB_USER" "$LAB_DIR/run"
lab_kill fake TERM

# ---- the proxy's machine ----

lab_daemon_start proxy
sock=$LAB_DIR/run/proxy.sock
finds "the proxy's machine" daemon ok "$PRX"
check_eq "exit code" "$CODE" 0
check_eq "nothing about rules there" "$(level rules)$(level nft.tproxy)$(level mptcp.links)" ""
lab_sysctl "$PRX" net/mptcp/allow_join_initial_addr_port=0
finds "clients are told not to join" sysctl.net.mptcp.allow_join_initial_addr_port fail "$PRX"
lab_sysctl "$PRX" net/mptcp/allow_join_initial_addr_port=1 net/ipv4/tcp_fastopen=1
finds "a proxy that takes no SYN data" "sysctl.net.ipv4.tcp_fastopen&2" fail "$PRX"
lab_sysctl "$PRX" net/ipv4/tcp_fastopen=3
ip -n "$PRX" mptcp limits set subflows 0
finds "a proxy that allows no subflows" mptcp.limits fail "$PRX"
lab_daemon_stop proxy

check_eq "an argument too many" "$("$ctl" doctor extra >/dev/null 2>&1; echo $?)" 64
lab_end
