#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# TPROXY and REDIRECT, IPv4 and IPv6, who speaks first, sizes, half-close, resets, 200 flows
. "$(dirname "$0")/lib.sh"

peer() { # NAME WANTED-END-OR-ERROR-FREE CMD...: runs a client on the device
	local name=$1
	shift
	check "$name" lab_in "$DEV" "$PEER" "$@"
}

# How a probe ended: "eof", "want", or the error's name.
ended() {
	lab_in "$DEV" "$PEER" probe "$@" >"$LAB_DIR/probe.out" 2>&1
	json "$LAB_DIR/probe.out" 'j["end"]'
}

# The last connection of a service, as the server saw it.
server_saw() { # SERVICE FIELD
	grep -F "\"service\":\"$1\"" "$LAB_DIR/srv.log" | tail -n 1 | json - "j['$2']"
}

server_count_is() { # SERVICE COUNT
	[ "$(lab_served srv "$1")" = "$2" ]
}

cases() { # LABEL ADDRESS
	local label=$1 addr=$2 before
	for size in 1 1M; do
		peer "$label: $size both ways at once, compared" duplex --up $size --down $size "$addr" 5000
	done
	peer "$label: server speaks first, then echoes" probe --server-first --send "and now the client" \
		--want 54 "$addr" 22
	peer "$label: half-close, then the server's last words" halfclose --up 1M "$addr" 7
	check_eq "$label: server half-closes first" "$(ended --shut "$addr" 23)" eof
	check_eq "$label: server resets" "$(ended --send x "$addr" 24)" ECONNRESET
	check_eq "$label: server refuses" "$(ended --send x "$addr" 99)" ECONNRESET
	before=$(lab_served srv silent)
	lab_in "$DEV" "$PEER" probe --send "gone in a moment" --want 0 --hold-ms 200 --reset "$addr" 25 >/dev/null 2>&1
	lab_wait 5 server_count_is silent $((before + 1)) || not_ok "$label: device resets" "the server has not seen an end"
	check_eq "$label: device resets, the server sees it" "$(server_saw silent end)" ECONNRESET
	peer "$label: 200 flows at once" duplex --up 64k --down 64k --flows 200 "$addr" 5000
}

lab_up
lab_serve srv "$SRV" duplex:5000 echo:7 banner:22 shutfirst:23:5 reset:24:1:5 silent:25
for mode in tproxy redirect; do
	for script in nft iptables; do
		lab_daemons --mode $mode --script $script
		cases "$mode $script v4" "$SRV4"
		cases "$mode $script v6" "$SRV6"
		# All of it came through the proxy, none of it directly.
		lab_ctl redir status --json >"$LAB_DIR/status.json"
		check_eq "$mode $script: nothing went directly" "$(json "$LAB_DIR/status.json" 'j["counters"]["direct"]')" 0
		check_num "$mode $script: connections through the proxy" "$(json "$LAB_DIR/status.json" 'j["counters"]["proxied"]')" ">=" 400
		check_eq "$mode $script: no token was spent twice" "$(json "$LAB_DIR/status.json" 'j["counters"]["tokens_rejected"]')" 0
		lab_daemons_stop
	done
done
lab_end
