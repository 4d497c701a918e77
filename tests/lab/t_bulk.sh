#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# 1 GB in both directions at once, compared: TPROXY and REDIRECT, IPv4 and IPv6
# build: release
. "$(dirname "$0")/lib.sh"

lab_up
lab_serve srv "$SRV" duplex:5000
for mode in tproxy redirect; do
	lab_daemons --mode $mode
	for addr in "$SRV4" "$SRV6"; do
		lab_in "$DEV" "$PEER" duplex --up 1G --down 1G "$addr" 5000 >"$LAB_DIR/duplex.out" 2>&1
		check_eq "$mode $addr: 1 GB each way" "$(json "$LAB_DIR/duplex.out" 'j["error"]')" ""
		echo "# $mode $addr: $(json "$LAB_DIR/duplex.out" '"%.0f Mbit/s up, %.0f Mbit/s down" % (j["up_mbit"], j["down_mbit"])')"
	done
	lab_ctl redir status --json >"$LAB_DIR/status.json"
	check_eq "$mode: both went through the proxy" "$(json "$LAB_DIR/status.json" 'j["counters"]["proxied"]')" 2
	lab_daemons_stop
done
lab_end
