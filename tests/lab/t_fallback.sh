#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# No MPTCP, no Fast Open, in the kernel or on the path; no proxy at all: connections succeed
. "$(dirname "$0")/lib.sh"

# A connection through the redirector, and what the redirector says of it.
fetch() { # NAME
	lab_in "$DEV" "$PEER" duplex --up 100k --down 100k "$SRV4" 5000 >"$LAB_DIR/duplex.out" 2>&1
	check_eq "$1: arrived complete" "$(json "$LAB_DIR/duplex.out" 'j["error"]')" ""
	lab_wait 5 logged_flows $((flows + 1)) || not_ok "$1" "no log line"
	flows=$(grep -c ' flow ' "$LAB_DIR/redir.log")
}

logged_flows() {
	[ "$(grep -c ' flow ' "$LAB_DIR/redir.log")" -ge "$1" ]
}

last_flow() { # KEY: value in the last flow's log line
	grep ' flow ' "$LAB_DIR/redir.log" | tail -n 1 | tr ' ' '\n' | sed -n "s/^$1=//p"
}

case_is() { # NAME ROUTE MPTCP TFO
	flows=$(grep -c ' flow ' "$LAB_DIR/redir.log")
	fetch "$1"
	fetch "$1, again"
	check_eq "$1: route" "$(last_flow route)" "$2"
	check_eq "$1: MPTCP" "$(last_flow mptcp)" "$3"
	check_eq "$1: Fast Open" "$(last_flow tfo)" "$4"
}

is_up() {
	[ "$(lab_ctl redir proxies --json | json - 'j["proxies"][0]["state"]')" = up ]
}

restart() { # the daemons, for what is decided when a socket is made
	lab_daemons_stop
	lab_daemons "$@"
	lab_wait 10 is_up || not_ok "proxy" "not up"
}

lab_up
lab_serve srv "$SRV" duplex:5000
lab_daemons
lab_wait 10 is_up
case_is "as it should be" proxy yes yes

lab_sysctl "$RTR" net/mptcp/enabled=0
case_is "no MPTCP on the router" proxy no yes
lab_sysctl "$RTR" net/mptcp/enabled=1

lab_sysctl "$PRX" net/mptcp/enabled=0
restart
case_is "no MPTCP on the proxy" proxy no yes
lab_sysctl "$PRX" net/mptcp/enabled=1
restart

lab_sysctl "$RTR" net/ipv4/tcp_fastopen=0
case_is "no Fast Open on the router" proxy yes no
lab_sysctl "$RTR" net/ipv4/tcp_fastopen=3

lab_sysctl "$PRX" net/ipv4/tcp_fastopen=1
restart
case_is "no Fast Open on the proxy" proxy yes no
lab_sysctl "$PRX" net/ipv4/tcp_fastopen=3
restart

lab_strip mptcp || not_ok "nft" "cannot strip options"
case_is "MPTCP stripped on the path" proxy no yes
lab_unstrip
lab_strip fastopen
case_is "Fast Open stripped on the path" proxy no no
lab_unstrip

restart --redir "proxy home.mptcp=no" --redir "proxy home.tfo=no"
case_is "both switched off" proxy no no
restart

# The proxy goes: connections go directly, and through it again when it is back.
lab_daemon_stop proxy
case_is "no proxy" direct no no
lab_daemon_start proxy
check "the proxy is noticed again" lab_wait 40 is_up
case_is "the proxy is back" proxy yes yes

# The redirector goes as well: with nft and TPROXY the rules let connections pass.
lab_daemon_stop redir
check "no daemon, rules in place: the device connects directly" \
	lab_in "$DEV" "$PEER" duplex --up 10k --down 10k --timeout-ms 5000 "$SRV4" 5000
lab_daemon_start redir
lab_wait 10 is_up
lab_daemons_stop
lab_end
