#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A segment and an acknowledgement are lost: what is repeated then arrives, MPTCP spoken or not
. "$(dirname "$0")/lib.sh"

# Linux 6.18 loses what a socket gets after that, if it has asked for MPTCP and fallen back to TCP.
R=(python3 "$LAB_SRC/tests/lab/repeater.py")
ALL=10

get() { # NS OPTION... ADDRESS PORT: "END LINES"
	lab_in "$1" "${R[@]}" get "${@:2}" >"$LAB_DIR/got.json"
	json "$LAB_DIR/got.json" '"%s %d" % (j["end"], j["lines"])'
}

# Half of what was sent again was new: the receiver has said so.
repeated() { # NS: of the sender
	lab_counter "$1" TcpExtTCPDSACKRecv
}

serve() { # NAME OPTION... PORT ACK DATA
	lab_bg "$1" "$SRV" "${R[@]}" serve "${@:2}"
	lab_wait 10 lab_logged "$1" ready || lab_die "repeater: $(cat "$LAB_DIR/$1.log")"
}

path_mptcp() { # what is said of MPTCP on the path in use
	lab_ctl redir paths --json | json - '" ".join(sorted({p["mptcp"] for p in j["paths"] if p["connections"]}))'
}

last_flow() { # KEY
	grep ' flow ' "$LAB_DIR/redir.log" | tail -n 1 | tr ' ' '\n' | sed -n "s/^$1=//p"
}

lab_up
serve rep 5000 "$SRV:5000" "$PRX:5000"

# What it is about, without us.
before=$(repeated "$SRV")
check_eq "TCP to the server: all of it" "$(get "$PRX" "$SRV4" 5000)" "eof $ALL"
check_num "TCP to the server: it was repeated" "$(repeated "$SRV")" ">" "$before"
bare=$(get "$PRX" --mptcp "$SRV4" 5000)
echo "# MPTCP that fell back, without us: $bare of $ALL lines"

# no_silent_loss NAME GOT: all of it, or an error and the reason in the log
no_silent_loss() {
	echo "# $1: $2 of $ALL lines"
	if [ "${bare#eof }" = "$ALL" ]; then # a kernel that does not lose it
		check_eq "$1: all of it" "$2" "eof $ALL"
	else
		check_eq "$1: an error, not an end" "${2% *}" reset
		check_eq "$1: the proxy says why" "$(grep -c reason=lost-by-kernel "$LAB_DIR/proxy.log")" $((++lost))
	fi
}

# The proxy's connection to a server that it does not know asks for MPTCP, and further ones do not.
lost=0
lab_daemons --redir bypass.learn=no --proxy proxy.workers=1
for addr in "$SRV4" "$SRV6"; do
	before=$(repeated "$SRV")
	no_silent_loss "server's first, $addr" "$(get "$DEV" "$addr" 5000)"
	for n in second third; do
		check_eq "server's $n, $addr: all of it" "$(get "$DEV" "$addr" 5000)" "eof $ALL"
	done
	check_num "$addr: it was repeated each time" "$(repeated "$SRV")" ">=" $((before + 3))
done

# One that spoke MPTCP and does no more, with data in the SYN.
lab_serve http "$SRV" --mptcp --tfo http:81
for n in 1 2 3; do
	check_eq "speaks MPTCP, $n" "$(lab_get http "$SRV4" 81)" want
done
lab_kill http
serve rep81 --tfo 81 "$SRV:81" "$PRX:81"
before=$(repeated "$SRV")
no_silent_loss "speaks it no more" "$(get "$DEV" "$SRV4" 81)"
check_num "speaks it no more: it was repeated" "$(repeated "$SRV")" ">" "$before"
check_eq "speaks it no more: known from then on" "$(get "$DEV" "$SRV4" 81)" "eof $ALL"
lab_kill rep
lab_kill rep81

# The redirector's connection to the proxy, where the path takes MPTCP out.
lab_strip mptcp
lab_serve srv "$SRV" http:80
for n in 1 2 3; do
	check_eq "stripped, $n" "$(lab_get srv "$SRV4" 80)" want
done
check "stripped: MPTCP is paused" lab_wait 20 eval '[[ " $(path_mptcp) " == *paused* ]]'
serve far 5000 "$PRX:1080" "$RTR:1080"
before=$(repeated "$PRX")
check_eq "stripped: all of it" "$(get "$DEV" "$SRV4" 5000)" "eof $ALL"
check_num "stripped: it was repeated" "$(repeated "$PRX")" ">" "$before"
check_eq "stripped: through the proxy" "$(last_flow route)" proxy
lab_unstrip
check "not stripped any more: a NOOP finds out" lab_wait 40 eval '[ "$(path_mptcp)" = ok ]'
lab_get srv "$SRV4" 80 >/dev/null
check_eq "not stripped any more: MPTCP" "$(last_flow mptcp)" yes
lab_daemons_stop
lab_end
