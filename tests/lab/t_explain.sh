#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# `sixpathctl explain` says what happens then: compared with what the servers see
. "$(dirname "$0")/lib.sh"

nft_rtr() {
	lab_in "$RTR" nft "$@"
}

# what SRC ADDRESS:PORT plain|mptcp: "rule route", as explain says
what() {
	lab_ctl redir explain "$1" "$2" --json >"$LAB_DIR/explain.json" || return 1
	json "$LAB_DIR/explain.json" 'next(c["rule"] + " " + c["route"] for c in j["cases"] if c["syn"] == "'"$3"'")'
}

# seen SERVER-LOG: whose address the last connection there came from
seen() {
	sleep 0.1
	case $(tail -n 1 "$LAB_DIR/$1.log" | json - 'j["peer"].rsplit(":", 1)[0].strip("[]")') in
	"$DEV4" | "$DEV6") echo device ;;
	"$WAN1_4" | "$WAN1_6" | "$WAN2_4" | "$WAN2_6") echo router ;;
	203.0.113.1 | 2001:db8:30::1) echo proxy ;;
	*) echo nobody ;;
	esac
}

# agree NAME RULE ADDRESS PORT [--mptcp]: the rule is as expected, and what explain says comes true.
agree() {
	local name=$1 rule=$2 addr=$3 port=$4 kind=plain src=$DEV4 dst="$3:$4" got route want log=srv said
	case $addr in *:*) src=$DEV6 dst="[$addr]:$port" ;; esac
	[ "${5:-}" != --mptcp ] || kind=mptcp
	[ "$port" = 80 ] || log=srv$port
	said=$(what "$src" "$dst" $kind)
	route=${said#* }
	check_eq "$name, $kind, $addr: rule" "${said%% *}" "$rule"
	case $route in
	none) want=device ;;
	bypass | direct) want=router ;;
	proxy) want=proxy ;;
	esac
	lab_in "$DEV" "$PEER" probe --get / --want 12 "${@:5}" "$addr" "$port" >"$LAB_DIR/probe.out" 2>&1
	got=$(seen $log)
	check_eq "$name, $kind, $addr: $route" "$got" "$want"
}

lab_up
lab_serve srv "$SRV" --mptcp http:80
lab_serve srv81 "$SRV" http:81
ip -n "$DEV" mptcp limits set subflows 0 add_addr_accepted 0

for mode in tproxy redirect; do
	rm -f "$LAB_DIR/run/learned"
	lab_daemons --no-rules --mode $mode --redir rules.install=yes --redir rules.capture=lan \
		--redir rules.ports=1-1000 --redir rules.exclude=203.0.113.3/32,2001:db8:30::3
	lab_wait 10 nft_rtr list table inet sixpath
	for a in "$SRV4" "$SRV6"; do
		agree "$mode: unknown server" capture "$a" 80
		agree "$mode: learned server" capture "$a" 80
		lab_wait 3 sh -c "ip netns exec $RTR nft list table inet sixpath | grep -q '$a . 80 '"
		agree "$mode: learned server" learned "$a" 80 --mptcp
		agree "$mode: plain server" capture "$a" 81
		agree "$mode: plain server, known" capture "$a" 81
		agree "$mode: plain server" capture "$a" 81 --mptcp
	done
	agree "$mode: excluded" exclude "$SRV4B" 80
	agree "$mode: excluded" exclude "$SRV6B" 80
	agree "$mode: excluded" exclude "$SRV4B" 80 --mptcp
	nft_rtr add element inet sixpath_user "proxy4 { $SRV4B }"
	agree "$mode: excluded, but wanted by the administrator" user-proxy "$SRV4B" 80
	nft_rtr flush set inet sixpath_user proxy4
	nft_rtr add element inet sixpath_user "bypass4 { 203.0.113.0/24 }"
	agree "$mode: administrator, a network" user-bypass "$SRV4" 80
	nft_rtr flush set inet sixpath_user bypass4
	nft_rtr add element inet sixpath_user "bypass_port { 70-90 }"
	agree "$mode: administrator, ports" user-bypass "$SRV6" 81
	nft_rtr flush set inet sixpath_user bypass_port
	nft_rtr add element inet sixpath_user "bypass_mac { $(lab_in "$DEV" cat /sys/class/net/eth0/address) }"
	agree "$mode: administrator, a device" user-bypass "$SRV4" 81
	nft_rtr flush set inet sixpath_user bypass_mac
	lab_ctl redir learned add "$SRV4:81" plain >/dev/null
	agree "$mode: said by hand" capture "$SRV4" 81
	lab_conf redir rules.ports=81
	lab_conf redir bypass.action=rule
	lab_conf_write
	lab_ctl redir reload >/dev/null
	agree "$mode: port" learned "$SRV4" 80
	lab_ctl redir learned clear >/dev/null
	agree "$mode: port" port "$SRV4" 80
	lab_conf redir bypass.action=auto
	lab_conf redir rules.ports=1-1000
	lab_conf_write
	lab_ctl redir reload >/dev/null
	check_eq "$mode: a proxy" "$(what "$DEV4" "$PRX4:443" plain)" "upstream none"
	check_eq "$mode: the router" "$(what "$DEV4" "$RTR4:22" plain)" "local none"
	check_eq "$mode: from a WAN" "$(what 198.18.1.1 "$SRV4:80" plain)" "interface none"
	check_eq "$mode: from the router itself" "$(what "$RTR4" "$SRV4:80" plain)" "interface none"
	lab_daemon_stop proxy
	lab_wait 10 sh -c "$SIXPATH_BUILD/src/tools/sixpathctl -s $LAB_DIR/run/redir.sock proxies --json | grep -q '\"state\":\"down\"'" || {
		lab_in "$DEV" "$PEER" probe --get / --want 12 "$SRV4" 81 >/dev/null 2>&1
		lab_wait 10 sh -c "$SIXPATH_BUILD/src/tools/sixpathctl -s $LAB_DIR/run/redir.sock proxies --json | grep -q '\"state\":\"down\"'"
	}
	agree "$mode: no proxy" capture "$SRV4" 81
	for words in "explain" "explain $DEV4" "explain $DEV4 $SRV4" "explain $DEV4 [$SRV6]:80" "explain x $SRV4:80"; do
		# shellcheck disable=SC2086
		if lab_ctl redir $words >"$LAB_DIR/out" 2>&1; then not_ok "$words" "taken"; else ok "refused: $words"; fi
	done
	lab_daemons_stop
done

# Rules that are a script's.
lab_daemons
check_eq "script's rules" "$(what "$DEV4" "$SRV4:80" plain)" "script proxy"
lab_daemons_stop
lab_end
