#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# One connection uses both WANs, and survives the loss of either
# build: release
. "$(dirname "$0")/lib.sh"

RATE=20   # Mbit/s of each WAN
WANTED=36 # of 2 x 20, after headers
SIZE=40M

octets() { # WAN rx|tx: of the router's side
	ip -n "$RTR" -s -j link show "$1" | json - "j[0]['stats64']['$2']['bytes']"
}

# run DIRECTION ADDRESS: peer's verdict in $LAB_DIR/duplex.out
run() {
	local up=0 down=0
	if [ "$1" = up ]; then up=$SIZE; else down=$SIZE; fi
	lab_in "$DEV" "$PEER" duplex --up $up --down $down "$2" 5000 >"$LAB_DIR/duplex.out" 2>&1
}

lab_up --wan1 10:$RATE --wan2 10:$RATE
lab_serve srv "$SRV" duplex:5000
lab_daemons

for dir in down up; do
	[ $dir = down ] && counter=rx || counter=tx
	for addr in "$SRV4" "$SRV6"; do
		before1=$(octets wan1 $counter) before2=$(octets wan2 $counter)
		run $dir "$addr"
		check_eq "$dir $addr: arrived complete" "$(json "$LAB_DIR/duplex.out" 'j["error"]')" ""
		check_num "$dir $addr: Mbit/s over two WANs" "$(json "$LAB_DIR/duplex.out" "j['${dir}_mbit']")" ">=" $WANTED
		wan1=$(($(octets wan1 $counter) - before1)) wan2=$(($(octets wan2 $counter) - before2))
		check_num "$dir $addr: share of the lesser WAN, percent" \
			$((100 * (wan1 < wan2 ? wan1 : wan2) / (wan1 + wan2))) ">=" 40
	done
done

# The same on connections that were made long before: the pause must not keep the windows small.
two_ready() { # made, and joined by their second subflow
	lab_ctl proxy flows --json | json - 'sum(f["state"] == "waiting" and f["subflows"] == 2 for f in j["flows"]) >= 2' | grep -q true
}
home_is_up() {
	lab_ctl redir proxies --json | json - '[p["state"] for p in j["proxies"]] == ["up"]' | grep -q true
}
prewarm() {
	lab_conf redir "proxy home.prewarm=$1"
	lab_conf_write
	lab_ctl redir reload >/dev/null
	lab_wait 10 home_is_up || not_ok "prewarm = $1" "the proxy is not up after the reload"
}
prewarm 4
for dir in down up; do
	for addr in "$SRV4" "$SRV6"; do
		lab_wait 10 two_ready || not_ok "prewarmed" "none has two subflows"
		sleep 4
		run $dir "$addr"
		check_eq "$dir $addr, prewarmed: arrived complete" "$(json "$LAB_DIR/duplex.out" 'j["error"]')" ""
		check_num "$dir $addr, prewarmed: Mbit/s over two WANs" "$(json "$LAB_DIR/duplex.out" "j['${dir}_mbit']")" ">=" $WANTED
	done
done
check_eq "prewarmed: they were" "$(grep -c ':5000 .* prewarm=yes' "$LAB_DIR/redir.log")" 4
prewarm "${LAB_PREWARM:-0}"

# What the user can read while it runs: MPTCP with two subflows.
two_subflows() {
	lab_ctl redir flows --json >"$LAB_DIR/flows.json" &&
		[ "$(json "$LAB_DIR/flows.json" 'any(f["mptcp"] and f["subflows"] == 2 for f in j["flows"])')" = true ]
}
lab_bg transfer "$DEV" "$PEER" duplex --down $SIZE "$SRV4" 5000
check "sixpathctl flows shows MPTCP with 2 subflows" lab_wait 5 two_subflows
lab_join transfer 60 || not_ok "transfer" "did not end"

# One WAN is cut in the middle. Which one must not matter, nor how.
flowing() { # more than 5 MB have come
	[ "$(($(octets wan1 rx) + $(octets wan2 rx) - start))" -gt 5000000 ]
}
cut_wan() { # NAME CUT-COMMAND... -- UNDO-COMMAND...
	local name=$1 cmd=() undo=()
	shift
	while [ "$1" != -- ]; do cmd+=("$1") && shift; done
	shift
	undo=("$@")
	start=$(($(octets wan1 rx) + $(octets wan2 rx)))
	lab_bg transfer "$DEV" "$PEER" duplex --down $SIZE "$SRV4" 5000
	lab_wait 20 flowing || not_ok "$name" "the transfer does not flow"
	"${cmd[@]}"
	check "$name: the transfer ends" lab_join transfer 90
	check_eq "$name: complete, without an error" "$(json "$LAB_DIR/transfer.log" 'j["error"]')" ""
	check_num "$name: largest gap, ms" "$(json "$LAB_DIR/transfer.log" 'j["max_gap_ms"]')" "<" 5000
	"${undo[@]}"
}
restore_wan1() {
	ip -n "$RTR" link set wan1 up
	ip -n "$RTR" -6 addr add "$WAN1_6/64" dev wan1 nodad 2>/dev/null
	ip -n "$RTR" route add default via 198.18.1.1 2>/dev/null
	ip -n "$RTR" -6 route add default via 2001:db8:1::1 2>/dev/null
	ip -n "$RTR" route add default via 198.18.1.1 dev wan1 table 101 2>/dev/null
	ip -n "$RTR" -6 route add default via 2001:db8:1::1 dev wan1 table 101 2>/dev/null
}
cut_wan "second WAN goes down" ip -n "$RTR" link set wan2 down -- true
ip -n "$RTR" link set wan2 up
ip -n "$RTR" -6 addr add "$WAN2_6/64" dev wan2 nodad 2>/dev/null
ip -n "$RTR" route add default via 198.18.2.1 dev wan2 table 102
ip -n "$RTR" -6 route add default via 2001:db8:2::1 dev wan2 table 102 2>/dev/null
cut_wan "first WAN goes down" ip -n "$RTR" link set wan1 down -- restore_wan1
lab_daemons_stop
lab_end
