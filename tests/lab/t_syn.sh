#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The SYN router-proxy carries it all, and a copy of it opens nothing
. "$(dirname "$0")/lib.sh"

proxy_counter() {
	lab_ctl proxy status --json | json - "j['counters']['$1']"
}

is_up() {
	[ "$(lab_ctl redir proxies --json | json - 'j["proxies"][0]["session"] and j["proxies"][0]["state"] == "up"')" = true ]
}

no_flow() {
	[ "$(lab_ctl redir status --json | json - 'j["flows"]')" = 0 ]
}

served() {
	[ "$(lab_served srv http)" -ge "$1" ]
}

lab_up --wan1 5 --wire
lab_serve srv "$SRV" http:80
lab_daemons
lab_wait 10 is_up || lab_die "the proxy is not up"

# ---- what the SYN carries ----
for addr in "$SRV4" "$SRV6"; do
	lab_capture syn "$RTR" wan1 "tcp dst port 1080"
	lab_in "$DEV" "$PEER" probe --get /hello --want 12 "$addr" 80 >"$LAB_DIR/probe.out" 2>&1
	lab_capture_stop syn
	lab_dissect "$LAB_DIR/syn.pcap" --dport 1080 --payload >"$LAB_DIR/syn.json"
	python3 - "$LAB_DIR/syn.json" "$addr" >"$LAB_DIR/verdict" 2>&1 <<-'PY'
		import json, sys
		syns = [json.loads(line) for line in open(sys.argv[1])]
		syns = [s for s in syns if s.get("socks6", {}).get("command") == "connect"]
		assert len(syns) == 1, "%d SYNs with a CONNECT request" % len(syns)
		options, request = syns[0]["options"], syns[0]["socks6"]
		assert options["mp_capable"]["version"] == 1, "MP_CAPABLE: %s" % options
		assert options["fastopen"]["cookie_len"] >= 4, "Fast Open cookie: %s" % options
		assert request["address"] == sys.argv[2] and request["port"] == 80, "destination: %s" % request
		assert len(request["session_id"]) >= 8, "session ID: %s" % request
		assert isinstance(request["token"], int), "token: %s" % request
		assert {"multipath", "tfo"} <= {o["name"] for o in request["stack"]}, "stack options: %s" % request
		assert request["auth_data"] == [], "credentials in it"
		first = bytes.fromhex(request["data"])
		assert first.startswith(b"GET /hello HTTP/1.1\r\n") and first.endswith(b"\r\n\r\n"), "first bytes: %r" % first
		assert syns[0]["payload_len"] == request["request_len"] + len(first), "lengths: %s" % syns[0]
	PY
	check_eq "$addr: MP_CAPABLE, cookie, request, session, token, first bytes in one SYN" "$(tail -n 1 "$LAB_DIR/verdict")" ""
done

# ---- the same SYN delivered twice ----
before=$(proxy_counter tokens_rejected) served_before=$(lab_served srv http)
lab_wire wan1 replay-syn 1500 >/dev/null || not_ok "wire" "cannot replay"
lab_capture copy "$PRX" wan1 "tcp dst port 1080 and tcp[tcpflags] & tcp-syn != 0"
lab_in "$DEV" "$PEER" probe --get /once --want 12 "$SRV4" 80 >"$LAB_DIR/probe.out" 2>&1
check_eq "the original is answered" "$(json "$LAB_DIR/probe.out" 'j["end"]')" want
rejected() {
	[ "$(proxy_counter tokens_rejected)" -gt "$before" ]
}
check "the copy is counted as rejected" lab_wait 6 rejected
lab_capture_stop copy
copies=$(lab_dissect "$LAB_DIR/copy.pcap" --dport 1080 --payload | sed -E 's/"(time|t)": *[0-9.]+,? *//' | sort | uniq -d | wc -l)
check_num "two equal SYNs arrived at the proxy" "$copies" ">=" 1
lab_wait 5 no_flow
lab_wait 2 served $((served_before + 2))
check_eq "the server saw one connection" "$(lab_served srv http)" $((served_before + 1))
lab_daemons_stop
lab_end
