#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# [path] sections: MPTCP endpoints and source routes follow links, addresses and names; dead peers
. "$(dirname "$0")/lib.sh"

RATE=20 # Mbit/s of each WAN

# ---- what the kernel has ----

endpoint() { # ADDRESS: its line, nothing if there is none
	ip -n "$RTR" mptcp endpoint show | grep -E "^$1 "
}
no_endpoint() { ! endpoint "$1"; }
endpoint_says() { # ADDRESS WORD
	endpoint "$1" | grep -qw "$2"
}
endpoint_says_not() { endpoint "$1" && ! endpoint_says "$1" "$2"; }
leaves_by() { # ADDRESS-OF-OURS DESTINATION: device
	ip -n "$RTR" -j route get "$2" from "$1" 2>/dev/null | json - 'j[0]["dev"]'
}
ours() { # what is ours of rules and routes
	ip -n "$RTR" rule show | grep -E '^1067'
	ip -n "$RTR" -6 rule show | grep -E '^1067'
	ip -n "$RTR" route show table all proto 107
	ip -n "$RTR" -6 route show table all proto 107
}
nothing_left() { [ -z "$(ours)$(ip -n "$RTR" mptcp endpoint show)" ]; }
everything() {
	ip -n "$RTR" rule show
	ip -n "$RTR" -6 rule show
	ip -n "$RTR" route show table all
	ip -n "$RTR" -6 route show table all
	ip -n "$RTR" mptcp endpoint show
	ip -n "$RTR" mptcp limits show
}

# wan NAME KEY: of the daemon's report, in the row with an IPv4 address or none
wan() {
	lab_ctl redir paths --json | json - "' '.join(str(w['$2']) for w in j['wans'] if w['name'] == '$1' and ':' not in (w['address'] or ''))"
}
wan_is() { [ "$(wan "$1" "$2")" = "$3" ]; }
flow() { # KEY: of the flow that runs
	lab_ctl redir flows --json | json - "' '.join(str(f['$1']) for f in j['flows'] if f['state'] == 'relay')"
}
flow_is() { [ "$(flow "$1")" = "$2" ]; }
octets() { # WAN rx|tx: of the router's side
	ip -n "$RTR" -s -j link show "$1" | json - "j[0]['stats64']['$2']['bytes']"
}

# ---- what happens to a link ----

carrier() { # WAN on|off
	case $2 in
	on) lab_wire "$1" up && ip -n "$RTR" link set "$1" carrier on ;;
	off) lab_wire "$1" down && ip -n "$RTR" link set "$1" carrier off ;;
	esac >/dev/null
}
# No rules or tables of an administrator: what a DHCP client leaves is an address and a default route.
addresses() { # WAN METRIC ADDRESS/LEN GATEWAY
	ip -n "$RTR" link set "$1" up
	ip -n "$RTR" addr replace "$3" dev "$1"
	ip -n "$RTR" route replace default via "$4" dev "$1" metric "$2"
}
wan6() { # NUMBER
	ip -n "$RTR" -6 addr replace "2001:db8:$1::2/64" dev "wan$1" nodad
	ip -n "$RTR" -6 route replace default via "2001:db8:$1::1" dev "wan$1" metric $((1000 + $1))
}
plain() { # the router as it is without tables
	local n
	ip -n "$RTR" mptcp endpoint flush
	for n in 1 2; do
		ip -n "$RTR" rule del from "198.18.$n.2" 2>/dev/null
		ip -n "$RTR" -6 rule del from "2001:db8:$n::2" 2>/dev/null
		ip -n "$RTR" route flush table $((100 + n))
		ip -n "$RTR" -6 route flush table $((100 + n))
	done
	ip -n "$RTR" route del default
	ip -n "$RTR" -6 route del default
	for n in 1 2; do
		addresses "wan$n" $((10 * n)) "198.18.$n.2/24" "198.18.$n.1"
		wan6 $n
	done
}

start() { # SECTION.KEY=VALUE...: the redirector with these
	lab_conf redir "$@"
	lab_conf_write
	lab_daemon_start redir
}
up_and_running() { # NAME: a download with two subflows
	lab_bg "$1" "$DEV" "$PEER" duplex --down "${2:-40M}" --timeout-ms 30000 "$SRV4" 5000
	lab_wait 10 flow_is subflows 2 || not_ok "$1" "$(flow subflows) subflows"
}
ends_well() { # NAME
	check "$1: the transfer ends" lab_join "$1" 90
	check_eq "$1: complete, without an error" "$(json "$LAB_DIR/$1.log" 'j["error"]')" ""
}
page() { [ "$(lab_get srv "$SRV4" 80)" = want ]; }

lab_up --wire --wan1 10:$RATE --wan2 10:$RATE
lab_serve srv "$SRV" http:80 duplex:5000

# ---- without [path] sections nothing is touched ----

everything >"$LAB_DIR/before"
lab_daemons --no-rules
page
everything >"$LAB_DIR/during"
check "no [path]: nothing is touched" diff "$LAB_DIR/before" "$LAB_DIR/during"
check_eq "no [path]: no WANs reported" "$(lab_ctl redir paths --json | json - 'j["wans"]')" "[]"
lab_daemon_stop redir
everything >"$LAB_DIR/after"
check "no [path]: nothing is touched at the end" diff "$LAB_DIR/before" "$LAB_DIR/after"

# ---- two links ----

plain
ip -n "$RTR" mptcp limits set subflows 0 add_addr_accepted 0
start "path one.device=wan1" "path two.device=wan2"
lab_rules start "${LAB_RULES_ARGS[@]}" >"$LAB_DIR/rules.log" 2>&1
for a in "$WAN1_4" "$WAN2_4" "$WAN1_6" "$WAN2_6"; do
	check "endpoint $a" lab_wait 5 endpoint_says "$a" subflow
	endpoint_says "$a" backup && not_ok "endpoint $a" "is a backup"
done
check_eq "$WAN1_4 leaves by" "$(leaves_by "$WAN1_4" "$PRX4")" wan1
check_eq "$WAN2_4 leaves by" "$(leaves_by "$WAN2_4" "$PRX4")" wan2
check_eq "$WAN2_6 leaves by" "$(leaves_by "$WAN2_6" "$PRX6")" wan2
check_eq "$WAN2_4 answers the LAN by" "$(leaves_by "$WAN2_4" "$DEV4")" lan
check "limits are raised" sh -c "ip -n $RTR mptcp limits show | grep -q 'subflows 2'"
check "doctor agrees" sh -c "ip netns exec $RTR $SIXPATH_BUILD/src/tools/sixpathctl -s $LAB_DIR/run/redir.sock --json doctor >$LAB_DIR/doctor.json; true"
check_eq "doctor on endpoints and routes" \
	"$(json "$LAB_DIR/doctor.json" '[f["id"] for f in j["findings"] if f["id"].startswith("mptcp.") and f["level"] != "ok"]')" "[]"

up_and_running twolinks
id=$(flow id)
lab_wait 5 wan_is two subflows 1
check_eq "sixpathctl paths: subflows of each link" "$(wan one subflows) $(wan two subflows)" "1 1"
check_eq "sixpathctl paths: state, MPTCP" "$(wan two state) $(wan two mptcp) $(wan two endpoint_of)" "up ok own"
check_num "sixpathctl paths: octets by the second link" "$(wan two bytes_down)" ">" 0
check_num "sixpathctl paths: RTT of the second link, s" "$(wan two rtt)" ">" 0.015

# Carrier is lost: the endpoint goes at once, what is there goes on, and all comes back.
names=(none one two)
for n in 2 1; do
	gone=WAN${n}_4
	carrier wan$n off
	check "carrier of wan$n lost: its endpoint goes" lab_wait 2 no_endpoint "${!gone}"
	check "carrier of wan$n lost: its subflow goes" lab_wait 2 wan_is ${names[$n]} subflows 0
	check "carrier of wan$n lost: no rules for it" sh -c "! ip -n $RTR rule show | grep -q 'from ${!gone} '"
	check "carrier of wan$n lost: new connections" page
	carrier wan$n on
	ip -n "$RTR" route replace default via 198.18.$n.1 dev wan$n metric $((10 * n))
	wan6 $n
	check "carrier of wan$n back: its endpoint" lab_wait 5 endpoint_says "${!gone}" subflow
	check "carrier of wan$n back: the connection has the subflow again" lab_wait 5 wan_is ${names[$n]} subflows 1
	check_eq "carrier of wan$n back: it leaves by" "$(leaves_by "${!gone}" "$PRX4")" wan$n
done
check_eq "it was the same connection" "$(flow id)" "$id"
ends_well twolinks

# How long that interrupts a transfer, with and without us. The kernel alone waits for a timeout.
cat >"$LAB_DIR/gap.py" <<'PY'
import sys, time
def octets():
    return int(open("/sys/class/net/eth0/statistics/rx_bytes").read())
end = time.monotonic() + float(sys.argv[1])
last, n, gap = time.monotonic(), octets(), 0
while time.monotonic() < end:
    m = octets()
    if m > n + 2000:
        gap, last, n = max(gap, time.monotonic() - last), time.monotonic(), m
    time.sleep(0.002)
print("%.1f" % (max(gap, time.monotonic() - last) * 1000))
PY
gap() { # NAME: how long the server gets nothing of an upload when wan2 loses its carrier, ms
	lab_bg "$1" "$DEV" "$PEER" duplex --up 12M --timeout-ms 30000 "$SRV4" 5000
	lab_wait 10 flow_is subflows 2
	sleep 1 # past slow start
	lab_bg "$1-gap" "$SRV" python3 "$LAB_DIR/gap.py" 1.2
	sleep 0.2
	carrier wan2 off
	lab_join "$1-gap" 10
	lab_join "$1" 60
	carrier wan2 on
	addresses wan2 20 "$WAN2_4/24" 198.18.2.1
	wan6 2
	cat "$LAB_DIR/$1-gap.log"
}
gaps() { # NAME: the least of three
	local i
	for i in 1 2 3; do
		gap "$1$i"
		lab_wait 5 endpoint_says "$WAN2_4" subflow
		ip -n "$RTR" route replace default via 198.18.2.1 dev wan2 table 102
	done >"$LAB_DIR/$1.gaps"
	sort -n "$LAB_DIR/$1.gaps" | head -n 1
}
ours_ms=$(gaps ours)
lab_daemon_stop redir
check "the end leaves nothing" nothing_left
check "the limits are as they were" sh -c "ip -n $RTR mptcp limits show | grep -q 'subflows 0'"
ip -n "$RTR" mptcp limits set subflows 4
ip -n "$RTR" mptcp endpoint add "$WAN2_4" dev wan2 subflow
ip -n "$RTR" rule add from "$WAN2_4" lookup 102
start "path one.device=" "path two.device="
alone_ms=$(gaps alone)
lab_daemon_stop redir
ip -n "$RTR" rule del from "$WAN2_4"
ip -n "$RTR" route flush table 102
ip -n "$RTR" mptcp endpoint flush
echo "# largest gap when a link loses its carrier: $ours_ms ms, without [path] $alone_ms ms"
check_num "largest gap, ms, the best of three" "$ours_ms" "<" 180

# ---- addresses ----

start "path one.device=wan1" "path two.device=wan2"
up_and_running renewal
ip -n "$PRX" addr add 198.18.2.65/26 dev wan2
ip -n "$RTR" addr del "$WAN2_4/24" dev wan2
check "address gone: its endpoint goes" lab_wait 2 no_endpoint "$WAN2_4"
addresses wan2 20 198.18.2.77/26 198.18.2.65
check "another address: its endpoint" lab_wait 5 endpoint_says 198.18.2.77 subflow
check "another address: the connection has a subflow from it" lab_wait 5 wan_is two subflows 1
check_eq "another address: it leaves by" "$(leaves_by 198.18.2.77 "$PRX4")" wan2
check "another gateway: the route follows" sh -c "ip -n $RTR route show table all proto 107 | grep -q 'via 198.18.2.65 dev wan2'"
ip -n "$RTR" addr del 198.18.2.77/26 dev wan2
addresses wan2 20 "$WAN2_4/24" 198.18.2.1
lab_wait 5 endpoint_says "$WAN2_4" subflow
# A second address of the link changes nothing; a deprecated one is left for another.
ip -n "$RTR" addr add 198.18.2.99/24 dev wan2
ip -n "$RTR" -6 addr add 2001:db8:2::99/64 dev wan2 nodad
sleep 0.3
check_eq "a second address: still one endpoint for each family" \
	"$(ip -n "$RTR" mptcp endpoint show | grep -c 'dev wan2')" 2
ip -n "$RTR" -6 addr change "$WAN2_6/64" dev wan2 preferred_lft 0
check "a deprecated address: the other" lab_wait 5 endpoint_says 2001:db8:2::99 subflow
check "a deprecated address: not this one" lab_wait 5 no_endpoint "$WAN2_6"
ip -n "$RTR" -6 addr change "$WAN2_6/64" dev wan2 preferred_lft forever
ip -n "$RTR" -6 addr del 2001:db8:2::99/64 dev wan2
ip -n "$RTR" addr del 198.18.2.99/24 dev wan2
ends_well renewal

# ---- names ----

ip -n "$RTR" link set wan2 down
check "link down: the endpoint goes" lab_wait 2 no_endpoint "$WAN2_4"
ip -n "$RTR" link set wan2 name usb7
addresses usb7 20 "$WAN2_4/24" 198.18.2.1
sleep 0.3
check_eq "another name: no device" "$(wan two state)" no-device
lab_conf redir "path two.device=usb*"
lab_conf_write
lab_ctl redir reload >/dev/null
check "a pattern fits" lab_wait 5 endpoint_says "$WAN2_4" usb7
ip -n "$RTR" link set usb7 down
ip -n "$RTR" link set usb7 name usb0
addresses usb0 20 "$WAN2_4/24" 198.18.2.1
check "renamed within the pattern" lab_wait 5 endpoint_says "$WAN2_4" usb0
check_eq "renamed: the report" "$(wan two device)" usb0
check "renamed: the endpoint is one" [ "$(ip -n "$RTR" mptcp endpoint show | grep -c "^$WAN2_4 ")" = 1 ]

# The device is pulled out and comes again: another index.
lab_kill wire-wan2
rm "$LAB_DIR/wire-wan2.log" # that of the next one says when it is ready
check "device gone: the endpoint goes" lab_wait 3 no_endpoint "$WAN2_4"
lab_link wan2 "$RTR" usb1 "$PRX" wan2 10:$RATE
lab_addr "$PRX" wan2 198.18.2.1/24 2001:db8:2::1/64
addresses usb1 20 "$WAN2_4/24" 198.18.2.1
check "device there again: the endpoint" lab_wait 5 endpoint_says "$WAN2_4" usb1
up_and_running again 4M
ends_well again
lab_kill wire-wan2
rm "$LAB_DIR/wire-wan2.log"
lab_link wan2 "$RTR" wan2 "$PRX" wan2 10:$RATE
lab_addr "$PRX" wan2 198.18.2.1/24 2001:db8:2::1/64
addresses wan2 20 "$WAN2_4/24" 198.18.2.1
wan6 2
lab_daemon_stop redir
check "the end leaves nothing, after all that" nothing_left

# ---- the same subnet and the same gateway on both ----

for n in 1 2; do
	ip -n "$PRX" addr add 192.168.8.1/24 dev wan$n
	ip -n "$PRX" route add 192.168.8.10$n dev wan$n
	ip -n "$RTR" addr del "198.18.$n.2/24" dev wan$n
	ip -n "$RTR" addr add 192.168.8.10$n/24 dev wan$n
	ip -n "$RTR" route add default via 192.168.8.1 dev wan$n metric $((10 * n))
done
start "path one.device=wan1" "path two.device=wan2"
for n in 1 2; do
	check "same subnet: endpoint 192.168.8.10$n" lab_wait 5 endpoint_says 192.168.8.10$n wan$n
	check_eq "same subnet: 192.168.8.10$n leaves by" "$(leaves_by 192.168.8.10$n "$PRX4")" wan$n
	check_eq "same subnet: 192.168.8.10$n reaches its router by" "$(leaves_by 192.168.8.10$n 192.168.8.1)" wan$n
done
before=$(octets wan2 rx)
up_and_running twins 8M
ends_well twins
check_num "same subnet: octets by the second link" $(($(octets wan2 rx) - before)) ">" 2000000
# Even the same address: this cannot be, and is said.
ip -n "$RTR" addr flush dev wan2
ip -n "$RTR" addr add 192.168.8.101/24 dev wan2
ip -n "$RTR" route replace default via 192.168.8.1 dev wan2 metric 20
check "same address: noticed" lab_wait 5 wan_is two state same-address
check "same address: said, with a cure" lab_wait 5 lab_logged redir "the same address (192.168.8.101) on wan2 as path one"
check_eq "same address: the first path has it" "$(wan one state) $(leaves_by 192.168.8.101 "$PRX4")" "up wan1"
lab_daemon_stop redir
for n in 1 2; do
	ip -n "$PRX" addr del 192.168.8.1/24 dev wan$n
	ip -n "$RTR" addr flush dev wan$n
	addresses wan$n $((10 * n)) "198.18.$n.2/24" "198.18.$n.1"
	wan6 $n
done
ip -n "$PRX" route replace 10.77.0.0/24 via "$WAN1_4"

# ---- roles ----

start "path one.device=wan1" "path two.device=wan2" "path two.role=backup"
check "backup: the endpoint's flag" lab_wait 5 endpoint_says "$WAN2_4" backup
check "backup: not of the other" endpoint_says_not "$WAN1_4" backup
up_and_running roles 24M
before=$(octets wan2 rx)
sleep 1
check_num "backup: idle while the primary lives, octets in a second" $(($(octets wan2 rx) - before)) "<" 100000
carrier wan1 off
carries() { [ $(($(octets wan2 rx) - before)) -gt 1000000 ]; }
check "backup: it carries when the primary goes" lab_wait 10 carries
carrier wan1 on
addresses wan1 10 "$WAN1_4/24" 198.18.1.1
wan6 1
check "backup: the primary is back" lab_wait 5 wan_is one subflows 1
ends_well roles

# Metered: the last of all; new connections begin elsewhere although the main table says so.
lab_conf redir "path two.role=metered"
lab_conf_write
lab_ctl redir reload >/dev/null
check "metered: the endpoint's flag" lab_wait 5 endpoint_says "$WAN2_4" backup
ip -n "$RTR" route replace default via 198.18.2.1 dev wan2 metric 5
steered() { ip -n "$RTR" rule show | grep -q 'fwmark 0x5061 lookup'; }
check "metered and first in the main table: steered" lab_wait 5 steered
before=$(lab_ctl redir paths --json | json - "sum(p['connections'] for p in j['paths'] if p['local'] == '$WAN1_4')")
page
check_num "metered: a new connection leaves by the primary" \
	"$(lab_ctl redir paths --json | json - "sum(p['connections'] for p in j['paths'] if p['local'] == '$WAN1_4')")" ">" "$before"
carrier wan1 off
check "metered: it serves when nothing else is left" lab_wait 5 page
carrier wan1 on
ip -n "$RTR" route del default via 198.18.2.1 dev wan2 metric 5
addresses wan1 10 "$WAN1_4/24" 198.18.1.1
wan6 1
lab_wait 5 endpoint_says "$WAN1_4" subflow
# A backup comes before a metered link.
lab_conf redir "path one.role=backup"
lab_conf_write
lab_ctl redir reload >/dev/null
check "backup and metered: the backup is an ordinary one" lab_wait 5 endpoint_says_not "$WAN1_4" backup
check "backup and metered: the metered one is a backup" endpoint_says "$WAN2_4" backup

# ---- reload, restart, kill ----

lab_conf redir "path one.role=" "path two.role="
lab_conf_write
lab_ctl redir reload >/dev/null
check "reload: roles" lab_wait 5 endpoint_says_not "$WAN2_4" backup
up_and_running restart
eval "$(ip -n "$RTR" mptcp endpoint show | awk -v a="$WAN2_4" '$1 == a { print "id=" $3 }')"
removed=$(lab_counter "$RTR" MPTcpExtRmSubflow)
lab_conf redir "path one.device="
lab_conf_write
lab_ctl redir reload >/dev/null
check "reload without a path: its endpoint goes" lab_wait 5 no_endpoint "$WAN1_4"
check "reload without a path: the other stays" endpoint "$WAN2_4"
lab_conf redir "path one.device=wan1"
lab_conf_write
lab_ctl redir reload >/dev/null
check "reload with it again" lab_wait 5 endpoint "$WAN1_4"
check "reload with it again: the connection has both" lab_wait 5 wan_is one subflows 1
removed=$(lab_counter "$RTR" MPTcpExtRmSubflow)
pid=$(lab_ctl redir status --json | json - 'j["pid"]')
lab_ctl redir restart >/dev/null
successor() { [ "$(lab_ctl redir status --json | json - 'j["pid"]')" != "$pid" ]; }
check "restart: a successor" lab_wait 10 successor
lab_wait 5 wan_is one state up
check_eq "restart: no subflow was removed" "$(lab_counter "$RTR" MPTcpExtRmSubflow)" "$removed"
check_eq "restart: the endpoint is the same" "$(ip -n "$RTR" mptcp endpoint show | awk -v a="$WAN2_4" '$1 == a { print $3 }')" "$id"
ends_well restart
LAB_PIDS[redir]=$(lab_ctl redir status --json | json - 'j["pid"]')
kill -KILL "${LAB_PIDS[redir]}"
lab_wait 5 lab_gone "${LAB_PIDS[redir]}"
unset "LAB_PIDS[redir]"
check "killed: its endpoints are left" endpoint "$WAN2_4"
ip -n "$RTR" addr del "$WAN2_4/24" dev wan2
start
check "started again: what is out of date is removed" lab_wait 5 no_endpoint "$WAN2_4"
check "started again: the rest is there, once" [ "$(ip -n "$RTR" mptcp endpoint show | wc -l)" = 3 ]
check "started again: rules once" [ "$(ip -n "$RTR" rule show | grep -c "from $WAN1_4 ")" = 3 ]
addresses wan2 20 "$WAN2_4/24" 198.18.2.1
lab_wait 5 endpoint "$WAN2_4"
ip -n "$RTR" mptcp endpoint flush
check "endpoints flushed by others come back" lab_wait 15 endpoint "$WAN2_4"
lab_kill redir KILL
start "path one.device=" "path two.device="
check "killed, then started without [path]: nothing is left" lab_wait 5 nothing_left
lab_daemon_stop redir

# ---- what an administrator has made ----

ip -n "$RTR" mptcp endpoint add "$WAN2_4" dev wan2 subflow backup
ip -n "$RTR" rule add from "$WAN2_4" lookup 102 pref 900
ip -n "$RTR" route replace default via 198.18.2.1 dev wan2 table 102
start "path one.device=wan1" "path two.device=wan2"
check "an administrator's endpoint: said" lab_logged redir "endpoint $WAN2_4 is not of our making"
check "an administrator's endpoint: its flags stay" endpoint_says "$WAN2_4" backup
check_eq "an administrator's endpoint: the report" "$(wan two endpoint_of)" other
check "an administrator's rule: said" lab_logged redir "an ip rule \"from $WAN2_4\" is there"
check_eq "an administrator's rule: none of ours" "$(ip -n "$RTR" rule show | grep -c "from $WAN2_4 ")" 1
carrier wan2 off
lab_wait 5 wan_is two state no-carrier
check "an administrator's endpoint: it stays when the link goes" endpoint "$WAN2_4"
carrier wan2 on
lab_daemon_stop redir
check "an administrator's endpoint: it stays at the end" endpoint "$WAN2_4"
check_eq "an administrator's rule: it stays" "$(ip -n "$RTR" rule show | grep -c "from $WAN2_4 ")" 1
ip -n "$RTR" mptcp endpoint flush
ip -n "$RTR" rule del from "$WAN2_4"
ip -n "$RTR" route flush table 102

# ---- the only link ----

ip -n "$RTR" link set wan2 down
start "path one.device=wan1" "path two.device=wan2"
lab_wait 5 wan_is one state up
lab_bg only "$DEV" "$PEER" duplex --down 6M --timeout-ms 30000 "$SRV4" 5000
lab_wait 10 flow_is subflows 1
carrier wan1 off
check "the only link: the endpoint is held" lab_wait 3 wan_is one state held
sleep 3 # longer than an MPTCP connection without subflows lives
check "the only link: still held" endpoint "$WAN1_4"
carrier wan1 on
addresses wan1 10 "$WAN1_4/24" 198.18.1.1
ends_well only
addresses wan2 20 "$WAN2_4/24" 198.18.2.1
wan6 2
lab_wait 5 endpoint "$WAN2_4"
lab_daemon_stop redir

# ---- a host that vanishes ----

lab_kill proxy
lab_conf proxy proxy.dead=3s
lab_conf_write
lab_daemon_start proxy
start "connect.dead=3s"
lab_wait 10 lab_logged redir "proxy home is up"
lab_wait 5 endpoint "$WAN2_4"
vanish() { # NS: nothing comes in any more over the WANs, and nothing says so
	lab_in "$1" nft "add table inet gone; add chain inet gone i { type filter hook prerouting priority -400; }
		add rule inet gone i iifname { wan1, wan2 } drop"
}
ended_by() { # redir|proxy REASON
	grep -q "reason=$2" "$LAB_DIR/$1.log"
}
lab_bg upload "$DEV" "$PEER" duplex --up 100M --timeout-ms 40000 "$SRV4" 5000
lab_wait 10 flow_is subflows 2
sleep 0.5
vanish "$PRX"
start_s=$SECONDS
check "the proxy vanishes: the flow ends" lab_wait 15 ended_by redir dead-upstream
check_num "the proxy vanishes: seconds" $((SECONDS - start_s)) ">=" 3
lab_in "$PRX" nft delete table inet gone
lab_kill upload KILL
lab_wait 15 page
lab_bg download "$DEV" "$PEER" duplex --down 100M --timeout-ms 40000 "$SRV4" 5000
lab_wait 10 flow_is subflows 2
sleep 0.5
vanish "$RTR"
start_s=$SECONDS
check "the client vanishes: the proxy ends the connection" lab_wait 15 ended_by proxy dead-downstream
check_num "the client vanishes: seconds" $((SECONDS - start_s)) ">=" 3
lab_in "$RTR" nft delete table inet gone
lab_kill download KILL
lab_daemons_stop
check "the end leaves nothing, in the end" nothing_left
lab_end
