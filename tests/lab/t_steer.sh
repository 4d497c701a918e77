#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The daemon keeps its own rules and the set of learned servers, whatever others do to them
. "$(dirname "$0")/lib.sh"

probe() { # ADDRESS [OPTION...]: how it ends at the device
	lab_get srv "$1" 80 "${@:2}"
}

who() { # the one the server sees
	lab_saw srv
}

nft_rtr() {
	lab_in "$RTR" nft "$@"
}

have_table() {
	nft_rtr list table inet sixpath
}

no_table() {
	! have_table >/dev/null 2>&1
}

counter() { # NAME
	lab_ctl redir status --json | json - 'j["counters"]["'"$1"'"]'
}

start() { # MODE [KEY=VALUE...]
	local o=()
	for kv in "${@:2}"; do o+=(--redir "$kv"); done
	lab_daemons --no-rules --mode "$1" --redir rules.install=yes --redir rules.capture=lan "${o[@]}"
	lab_wait 10 have_table || not_ok "$1" "the table does not appear: $(tail -n 5 "$LAB_DIR/redir.log")"
}

lab_up
lab_serve srv "$SRV" --mptcp http:80
ip -n "$DEV" mptcp limits set subflows 0 add_addr_accepted 0

for mode in tproxy redirect; do
	start $mode
	for a in "$SRV4" "$SRV6"; do
		n="$mode $a"
		check_eq "$n: first, plain device" "$(probe "$a")" want
		check_eq "$n: first, plain device: through the proxy" "$(who)" proxy
		check_eq "$n: second, plain device" "$(probe "$a")" want
		check_eq "$n: second, plain device: relayed by the router" "$(who)/$(lab_last srv 'j["mptcp"]')" router/true
		lab_wait 3 sh -c "ip netns exec $RTR nft list table inet sixpath | grep -q '$a . 80 '" ||
			not_ok "$n: the set" "the server is not in it"
		check_eq "$n: device with MPTCP" "$(probe "$a" --mptcp)" want
		check_eq "$n: device with MPTCP: end to end" "$(who)/$(lab_last srv 'j["mptcp"]')" device/true
		check_eq "$n: plain device again" "$(probe "$a")/$(who)" want/router
	done
	lab_daemon_stop redir
	check "$mode: the table is gone with the daemon" no_table
	check_eq "$mode: policy routing is gone" "$(lab_in "$RTR" ip rule | grep -c 'fwmark 0x2')" 0
	check_eq "$mode: without the daemon" "$(probe "$SRV4")/$(who)" want/device
	lab_daemon_stop proxy
	rm -f "$LAB_DIR/run/learned"
done

# action = rule: learned servers are not captured at all; action = relay: always.
start tproxy bypass.action=rule
probe "$SRV4" >/dev/null
check_eq "action = rule: the first" "$(who)" proxy
lab_wait 3 sh -c "ip netns exec $RTR nft list set inet sixpath learned4 | grep -q '$SRV4 . 80 '"
check_eq "action = rule: then" "$(probe "$SRV4")/$(who)" want/device
lab_conf redir bypass.action=relay
lab_conf_write
check "reload" lab_ctl redir reload
check_eq "action = relay: plain device" "$(probe "$SRV4")/$(who)" want/router
check_eq "action = relay: device with MPTCP" "$(probe "$SRV4" --mptcp)/$(who)" want/router

# What the administrator says decides first; it survives the daemon.
lab_conf redir bypass.action=auto
lab_conf_write
lab_ctl redir reload >/dev/null
for set in "bypass4 { $SRV4 }" "bypass_port { 80 }" "bypass_mac { $(lab_in "$DEV" cat /sys/class/net/eth0/address) }"; do
	nft_rtr add element inet sixpath_user "$set"
	check_eq "administrator: $set" "$(probe "$SRV4")/$(who)" want/device
	nft_rtr delete element inet sixpath_user "$set"
	check_eq "administrator: $set taken back" "$(probe "$SRV4")/$(who)" want/router
done
nft_rtr add element inet sixpath_user "proxy4 { $SRV4 }"
check_eq "administrator: proxy4, device with MPTCP" "$(probe "$SRV4" --mptcp)/$(who)" want/router
nft_rtr add element inet sixpath_user "bypass6 { 2001:db8:99::/48 }"
lab_daemon_stop redir
check "the administrator's sets survive the daemon" sh -c "ip netns exec $RTR nft list set inet sixpath_user bypass6 | grep -q 2001:db8:99::/48"
lab_daemon_start redir
lab_wait 10 have_table
check "and its next start" sh -c "ip netns exec $RTR nft list set inet sixpath_user bypass6 | grep -q 2001:db8:99::/48"
nft_rtr flush set inet sixpath_user proxy4

# Others meddle: what a device sees meanwhile.
# disturb NAME SECONDS COMMAND...: a connection every 50 ms while it happens and for so long after.
disturb() {
	local name=$1 seconds=$2 end failed=0 n=0 last_bad=0 first_bad=0 now
	shift 2
	"$@" >/dev/null 2>&1
	end=$((${EPOCHREALTIME/[.,]/} + seconds * 1000000))
	while now=${EPOCHREALTIME/[.,]/} && [ "$now" -lt $end ]; do
		n=$((n + 1))
		if [ "$(probe "$SRV4")" != want ]; then
			failed=$((failed + 1))
			[ $first_bad != 0 ] || first_bad=$now
			last_bad=${EPOCHREALTIME/[.,]/}
		fi
		sleep 0.05
	done
	check_num "$name: connections made" $n ">=" 5
	check_num "$name: ms without service" $(((last_bad - first_bad) / 1000)) "<=" "${LIMIT:-2000}"
}
captured_again() { # a connection is captured again
	local before
	before=$(counter accepted)
	probe "$SRV4" >/dev/null
	[ "$(counter accepted)" -gt "$before" ]
}

disturb "nft flush ruleset" 3 nft_rtr flush ruleset
check "nft flush ruleset: captured" captured_again
check "nft flush ruleset: the administrator's table is back" nft_rtr list set inet sixpath_user bypass4
disturb "nft delete table" 3 nft_rtr delete table inet sixpath
check "nft delete table: captured" captured_again
firewall_reload() { # as a distribution's service does it
	printf 'flush ruleset\ntable inet filter { chain forward { type filter hook forward priority 0; policy accept; } }\n' | nft_rtr -f -
}
disturb "firewall reload" 3 firewall_reload
check "firewall reload: captured" captured_again
disturb "ip rule del" 3 lab_in "$RTR" ip rule del fwmark 0x2/0x2 lookup 100
check "ip rule del: captured" captured_again
disturb "ip route flush table 100" 3 lab_in "$RTR" ip route flush table 100
check "ip route flush table 100: captured" captured_again
bounce() {
	ip -n "$RTR" link set lan down
	ip -n "$RTR" link set lan up
}
disturb "interface down and up" 3 bounce
lab_wait 5 captured_again
check "interface down and up: captured" captured_again

# kill -9: nothing of ours stays; a connection that starts later is direct, without a pause.
lab_kill redir KILL
check "kill -9: the table is gone" no_table
LIMIT=0 disturb "kill -9" 2 true
check_eq "kill -9: direct" "$(probe "$SRV4")/$(who)" want/device
check "kill -9: the administrator's table stays" nft_rtr list table inet sixpath_user
lab_daemon_start redir
lab_wait 10 have_table
check "started again: captured" captured_again

# Passive learning: SYN+ACKs of connections that pass us by.
lab_conf redir bypass.learn_passive=yes
lab_conf redir rules.ports=1-79
lab_conf_write
lab_ctl redir reload >/dev/null
lab_ctl redir learned clear >/dev/null
check_eq "passive: not captured" "$(probe "$SRV4" --mptcp)/$(who)" want/device
check "passive: learned" lab_wait 10 sh -c "$SIXPATH_BUILD/src/tools/sixpathctl -s $LAB_DIR/run/redir.sock learned --json | grep -q '\"$SRV4:80\",\"speaks\":\"mptcp\",\"evidence\":\"synack\"'"
lab_daemons_stop
rm -f "$LAB_DIR/run/learned"

# ipset, with the script's rules.
lab_daemons --script iptables --redir rules.backend=iptables --rules "--learned auto"
check_eq "ipset: first" "$(probe "$SRV4")/$(who)" want/proxy
check "ipset: in the set" lab_wait 3 sh -c "ip netns exec $RTR ipset list sixpath4 | grep -q '$SRV4,tcp:80 '"
check_eq "ipset: plain device" "$(probe "$SRV4")/$(who)" want/router
check_eq "ipset: device with MPTCP" "$(probe "$SRV4" --mptcp)/$(who)" want/device
check_eq "ipset: backend" "$(lab_ctl redir learned --json | json - 'j["rules"]')" ipset
lab_daemons_stop
lab_end
