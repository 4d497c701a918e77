#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Families of addresses: listeners that are not everywhere, and IPv6 that is off on the router
. "$(dirname "$0")/lib.sh"

have_table() { lab_in "$RTR" nft list table inet sixpath; }

start() { # MODE KEY=VALUE...
	local o=() kv
	for kv in rules.install=yes rules.capture=lan "${@:2}"; do o+=(--redir "$kv"); done
	lab_daemons --no-rules --mode "$1" "${o[@]}"
	lab_wait 10 have_table || not_ok "$1" "the table does not appear: $(tail -n 5 "$LAB_DIR/redir.log")"
}

stop() {
	lab_daemons_stop
	rm -f "$LAB_DIR/run/learned"
}

# way NAME NS ADDRESS SEEN: the connection succeeds, and the server sees this one.
way() {
	check_eq "$1" "$(LAB_FROM=$2 lab_get srv "$3" 80)/$(lab_saw srv)" "want/$4"
}

# rule SRC DST: by `sixpathctl explain`
rule() {
	lab_ctl redir explain "$1" "$2" --json | json - 'j["cases"][0]["rule"]'
}

doctor() { # the level of rules.family
	lab_in "$RTR" "$SIXPATH_BUILD/src/tools/sixpathctl" -s "$LAB_DIR/run/redir.sock" doctor --json |
		json - 'next((f["level"] for f in j["findings"] if f["id"] == "rules.family"), "none")'
}

not_captured() { lab_ctl redir status --json | json - 'j["not_captured"]'; }

ipv6_off() { # 1|0
	local k
	for k in all default lo; do lab_sysctl "$RTR" "net/ipv6/conf/$k/disable_ipv6=$1"; done
}

lab_up
lab_serve srv "$SRV" http:80

# Listeners on loopback: anybody's connections get there by tproxy, nobody can connect to them.
start tproxy "redir.listen=127.0.0.1:1077, [::1]:1077" rules.capture_local=yes bypass.learn=no
way "loopback: a device, IPv4" "$DEV" "$SRV4" proxy
way "loopback: a device, IPv6" "$DEV" "$SRV6" proxy
way "loopback: the router's own, IPv4" "$RTR" "$SRV4" proxy
way "loopback: the router's own, IPv6" "$RTR" "$SRV6" proxy
check_eq "loopback: explain" "$(rule "$DEV6" "[$SRV6]:80")" capture
check_eq "loopback: doctor" "$(doctor)" none
check_eq "loopback: out of a device's reach" \
	"$(lab_in "$DEV" "$PEER" probe --timeout-ms 1500 "$RTR4" 1077 | json - 'j["end"]')" ECONNREFUSED
# What rules cannot do is no new configuration: the old one stays, all of it.
lab_conf redir "rules.capture=lo, lan" connect.dscp=no
lab_conf_write
check "reload with what rules cannot do is refused" sh -c "! $SIXPATH_BUILD/src/tools/sixpathctl -s $LAB_DIR/run/redir.sock reload"
way "after the reload: a device" "$DEV" "$SRV4" proxy
lab_conf redir connect.dscp=
stop

# One address of one family.
for mode in tproxy redirect; do
	start $mode redir.listen=0.0.0.0:1077 rules.capture_local=yes bypass.learn=no
	way "$mode, IPv4 only: a device, IPv4" "$DEV" "$SRV4" proxy
	way "$mode, IPv4 only: a device, IPv6, goes past" "$DEV" "$SRV6" device
	way "$mode, IPv4 only: the router's own, IPv4" "$RTR" "$SRV4" proxy
	way "$mode, IPv4 only: the router's own, IPv6, goes past" "$RTR" "$SRV6" router
	check_eq "$mode, IPv4 only: explain" "$(rule "$DEV4" "$SRV4:80")/$(rule "$DEV6" "[$SRV6]:80")" capture/family
	check_eq "$mode, IPv4 only: told once" "$(grep -c 'IPv6 is not captured: listen has no address' "$LAB_DIR/redir.log")" 1
	check_eq "$mode, IPv4 only: status" "$(not_captured)" IPv6
	check_eq "$mode, IPv4 only: doctor" "$(doctor)" warn
	stop
done
start tproxy "redir.listen=[$RTR6]:1077" bypass.learn=no
way "an address of IPv6: a device, IPv4, goes past" "$DEV" "$SRV4" device
way "an address of IPv6: a device, IPv6" "$DEV" "$SRV6" proxy
check_eq "an address of IPv6: status" "$(not_captured)" IPv4
stop

# IPv6 is off on the router: IPv4 goes on, and IPv6 is had with a reload when it is back.
saved=$(lab_in "$RTR" ip -6 -o addr show scope global | awk '{ print $2, $4 }')
routes=$(ip -n "$RTR" -6 route show proto static; ip -n "$RTR" -6 route show proto boot)
ipv6_off 1
start tproxy bypass.learn=no
way "IPv6 off: a device, IPv4" "$DEV" "$SRV4" proxy
check_eq "IPv6 off: nothing is wrong in the log" "$(grep -cE ' (error|warning) .*rules' "$LAB_DIR/redir.log")" 0
check_eq "IPv6 off: told" "$(grep -c 'IPv6 is off here' "$LAB_DIR/redir.log")" 1
check_eq "IPv6 off: status" "$(not_captured)" IPv6
check_eq "IPv6 off: doctor" "$(doctor)" note
ipv6_off 0
while read -r if addr; do
	[ -z "$addr" ] || ip -n "$RTR" -6 addr replace "$addr" dev "$if" nodad
done <<<"$saved"
while read -r route; do
	# shellcheck disable=SC2086
	[ -z "$route" ] || ip -n "$RTR" -6 route replace $route
done <<<"$routes"
check "IPv6 on again: reload" lab_ctl redir reload
way "IPv6 on again: a device, IPv6" "$DEV" "$SRV6" proxy
way "IPv6 on again: a device, IPv4" "$DEV" "$SRV4" proxy
# Switched off under our feet: IPv4 goes on, without a complaint each second.
lab_sysctl "$RTR" net/ipv6/conf/all/disable_ipv6=1
sleep 2.5
way "IPv6 off later: a device, IPv4" "$DEV" "$SRV4" proxy
check_eq "IPv6 off later: nothing is wrong in the log" "$(grep -cE ' rules: policy routing' "$LAB_DIR/redir.log")" 0
stop

# The same with the scripts.
for script in nft iptables; do
	lab_daemons --script $script
	way "$script.sh, IPv6 off: a device, IPv4" "$DEV" "$SRV4" proxy
	stop
	check_eq "$script.sh, IPv6 off: stop leaves nothing" "$(ip -n "$RTR" -4 rule | grep -c 'fwmark 0x2')" 0
done

# A daemon that waits for connections which never come says what to do.
idle() { # NAME WARNINGS INFOS [KEY=VALUE...]
	local o=() kv
	for kv in "${@:4}"; do o+=(--redir "$kv"); done
	lab_daemons --no-rules "${o[@]}"
	if [ "$2$3" = 00 ]; then sleep 2; else lab_wait 10 lab_logged redir "rules: nothing"; fi
	check_eq "$1: warned" "$(grep -cE 'warning .*nothing is captured, no interface is named: .*capture = ' "$LAB_DIR/redir.log")" "$2"
	check_eq "$1: noted" "$(grep -cE 'info .*nothing to capture' "$LAB_DIR/redir.log")" "$3"
	lab_daemons_stop
}
idle "nothing to capture" 1 0 rules.install=yes
idle "nothing to capture, iptables" 1 0 rules.install=yes rules.backend=iptables
idle "nothing to capture, but a front door" 0 1 rules.install=yes "redir.socks=127.0.0.1:1090"
idle "rules of one's own" 0 0 rules.install=no
lab_end
