#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# UDP ASSOCIATE of sixpath-proxy: against the specification (udp_protocol.py), then with real hops,
# a second link and captures (udp_lab.py)
. "$(dirname "$0")/lib.sh"

PROTOCOL=$LAB_SRC/tests/lab/udp_protocol.py CLIENT=$LAB_SRC/tests/lab/udp_lab.py

# results NAME COMMAND...: the lines of a program are this test's.
results() {
	local name=$1 word rest
	shift
	"$@" >"$LAB_DIR/$name.out" 2>"$LAB_DIR/$name.log"
	local rc=$?
	while read -r word rest; do
		case $word in
		ok) ok "$rest" ;;
		not) not_ok "${rest#ok }" ;;
		esac
	done <"$LAB_DIR/$name.out"
	[ $rc = 0 ] || grep -q '^not ok' "$LAB_DIR/$name.out" || not_ok "$name" "exit code $rc"
}

# The client, which knows the lab's addresses by its environment.
ENV=(env "DEV4=$DEV4" "DEV6=$DEV6" "PRX4=$PRX4" "PRX6=$PRX6" "SRV4=$SRV4" "SRV6=$SRV6"
	"SRV4B=$SRV4B" "WAN1_4=$WAN1_4" "WAN1_6=$WAN1_6" "WAN2_4=$WAN2_4"
	PRXWAN1_4=198.18.1.1 PRXWAN1_6=2001:db8:1::1 python3 "$CLIENT")

serve() { # NAME NAMESPACE PORT [ADDRESS...]
	lab_bg "$1" "$2" "${ENV[@]}" serve "${@:3}"
	lab_wait 10 lab_logged "$1" ready || lab_die "$1: $(cat "$LAB_DIR/$1.log")"
}

# seen PCAP EXPRESSION over the UDP packets `j` that it has from or to port 1080, or with PORT
seen() { # PCAP PORT EXPRESSION
	lab_dissect --udp --port "$2" "$LAB_DIR/$1.pcap" >"$LAB_DIR/$1.json"
	json "$LAB_DIR/$1.json" "$3"
}

lab_up
results protocol python3 "$PROTOCOL" "$SIXPATH_BUILD/src/proxy/sixpath-proxy"

echo "answer $SRV4" >"$LAB_DIR/answer"
lab_bg names "$PRX" "$LAB_SRC/tests/lab/nameserver.py" 127.0.0.1 5353 "$LAB_DIR/answer"
lab_wait 10 lab_logged names ready || lab_die "nameserver.py"
lab_conf_defaults
lab_conf proxy "acl.allow=203.0.113.0/24, 2001:db8:30::/64, 10.77.0.0/24, fd77::/64" \
	proxy.resolve=127.0.0.1:5353
lab_conf_write
lab_daemon_start proxy
serve echo "$SRV" 7000 "$SRV4" "$SRV6"
serve elsewhere "$SRV" 7001 "$SRV4"
serve device "$DEV" 7100 "$DEV4" "$DEV6"
ip -n "$RTR" link set lan mtu 1300
ip -n "$DEV" link set eth0 mtu 1300

lab_capture srv "$SRV" eth0 udp
lab_capture wan1 "$RTR" wan1 udp
lab_capture wan2 "$RTR" wan2 udp
results lab lab_in "$RTR" "${ENV[@]}" echo full_cone third_party
lab_capture_stop wan2
lab_capture wan2b "$RTR" wan2 udp
results lab2 lab_in "$RTR" "${ENV[@]}" subflow ttl mtu marked unreachable
for c in srv wan1 wan2b; do
	lab_capture_stop "$c"
done

# What is on the wire, by a parser of its own.
check_eq "nothing is sent to an address that is not confirmed" \
	"$(seen wan2 1080 'len([p for p in j if p["sport"] == 1080])')" 0
check_num "though it was asked for" "$(seen wan2 1080 'len(j)')" ">=" 20
check_num "a confirmed second link is used" \
	"$(seen wan2b 1080 'len([p for p in j if p["sport"] == 1080 and p["dst"].startswith("198.18.2.")])')" ">=" 1
check_eq "every message of the proxy is as specified" \
	"$(seen wan1 1080 '[p for p in j if p["sport"] == 1080 and
		("error" in p["socks6"] and p["socks6"].get("type") != "error" or
		 p["socks6"].get("type") not in ("datagram", "error") or p["socks6"]["padding_behind"] or
		 p["socks6"].get("padding") or p["socks6"].get("zero"))]')" "[]"
check_num "there are datagrams" "$(seen wan1 1080 'len([p for p in j if p["socks6"].get("type") == "datagram"])')" ">" 20
for kind in "ttl expired" "host unreachable" "too big"; do
	check_num "there are errors: $kind" \
		"$(seen wan1 1080 "len([p for p in j if p['socks6'].get('error') == '$kind'])")" ">=" 2
done
check_eq "only \"too big\" has an MTU behind it" \
	"$(seen wan1 1080 '[p["socks6"] for p in j if p["socks6"].get("type") == "error" and
		p["socks6"]["behind"] != ("00000514" if p["socks6"]["error"] == "too big" else "")]')" "[]"
check_eq "DSCP, TTL and DF towards the server" \
	"$(seen srv 7000 'sorted([p["tos"], p["ttl"], bool(p.get("df"))] for p in j if p["dport"] == 7000 and p["payload_len"] == 6)' |
		tr -d ' ')" "[[184,44,false],[184,44,true]]"
check_eq "DSCP and TTL towards the client" \
	"$(seen wan1 1080 'sorted(set((p["tos"], p["ttl"]) for p in j if p["sport"] == 1080 and
		p["socks6"].get("payload_len") == 6)) == [(40, 55)]')" true
check_eq "one port of the proxy for both families" \
	"$(seen srv 7000 'len(set(p["sport"] for p in j if p["dport"] == 7000 and p["payload_len"] == 6))')" 1

check_num "no association is left" \
	"$(lab_ctl proxy status --json | json - 'j["udp"]["associations"]')" == 0
lab_daemon_stop proxy
lab_end
