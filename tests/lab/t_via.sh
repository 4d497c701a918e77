#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A proxy reached through another: one SYN, each proxy's own session, who is to blame for what
# build: release
. "$(dirname "$0")/lib.sh"

# "far" is reached through "home". It stands in a namespace behind home's, with users of its own.
FAR=sp$LAB_PID-far FAR4=192.0.2.2
A=40 B=30 C=20 # round trips router-home, home-far and home-server, ms

far_start() {
	lab_bg far "$FAR" "$SIXPATH_BUILD/src/proxy/sixpath-proxy" -f -c "$LAB_DIR/far.conf"
	lab_wait_port "$FAR" 1080
}

of() { # NAME FIELD: of a proxy
	lab_ctl redir proxies --json | json - "[p['$2'] for p in j['proxies'] if p['name'] == '$1'][0]"
}

is() { # NAME STATE
	[ "$(of "$1" state)" = "$2" ]
}

path_states() { # of the way to home, and of that to far
	lab_ctl redir paths --json | json - '" ".join(sorted({p["proxy"] + "=" + p["state"] for p in j["paths"]}, reverse=True))'
}

last_flow() { # FIELD
	lab_wait 5 sh -c "[ \$(grep -c ' flow ' '$LAB_DIR/redir.log') -gt $flows ]"
	grep ' flow ' "$LAB_DIR/redir.log" | tail -n 1 | sed -n "s/.* $1=\([^ ]*\).*/\1/p"
}

get() { # [PORT]: how a connection of the device ends
	flows=$(grep -c ' flow ' "$LAB_DIR/redir.log")
	lab_in "$DEV" "$PEER" probe --get / --want 12 --timeout-ms 20000 "$SRV4" "${1:-80}" >"$LAB_DIR/probe.out" 2>&1
	json "$LAB_DIR/probe.out" 'j["end"]'
}

first_bytes() { # COUNT PORT: milliseconds, one line each
	lab_in "$DEV" "$PEER" probe --get / --repeat "$1" --want 1 "$SRV4" "$2" >"$LAB_DIR/probe.out" 2>&1
	json "$LAB_DIR/probe.out" '"\n".join(str(p["first_byte_ms"]) for p in (j if isinstance(j, list) else [j]))'
}

median() {
	sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# within NAME THEORY PORT: milliseconds to the first byte, plus an eighth. A machine may be busy for
# a moment; what is slow by itself is slow again.
within() {
	local most=$(($2 + $2 / 8 + 5))
	for _ in 1 2 3; do
		first_bytes 5 "$3" >"$LAB_DIR/times"
		[ "$(median <"$LAB_DIR/times" | cut -d. -f1)" -ge $most ] || break
	done
	check_num "$1" "$(median <"$LAB_DIR/times")" "<=" $most
}

silence() { # NS PORT: nothing comes in, nothing goes out
	lab_in "$1" nft -f - <<-RULES
		table inet silence {
			chain in { type filter hook input priority 0; tcp dport $2 drop; }
			chain out { type filter hook output priority 0; tcp sport $2 drop; }
		}
	RULES
}

speak() { lab_in "$1" nft delete table inet silence; }

# chain [KEY=VALUE...]: both daemons of the router's side and the far proxy, with home only a hop.
chain() {
	local kv args=()
	for kv; do
		args+=(--redir "$kv")
	done
	lab_daemons --redir "proxy home.weight=0" --redir "proxy far.via=home" \
		--redir "proxy far.address=$FAR4:1080" --redir "proxy far.username=stranger" \
		--redir "proxy far.password_file=$LAB_DIR/secret-far" \
		--proxy "acl.allow=203.0.113.0/24, 192.0.2.0/24" "${args[@]}"
	sed -e "s|proxy.sock|far.sock|" -e "s|/users$|/users-far|" "$LAB_DIR/proxy.conf" >"$LAB_DIR/far.conf"
	far_start
	lab_wait 20 is far up || lab_die "far is not up: $(lab_ctl redir proxies)"
}

chain_stop() {
	lab_kill far
	lab_daemons_stop
}

lab_up --wan1 $((A / 2)) --wan2 $((A / 2)) --srv $((C / 2))
lab_ns "$FAR"
lab_link far "$PRX" far "$FAR" eth0 $((B / 2)):0 || lab_die "far"
lab_addr "$PRX" far 192.0.2.1/24
lab_addr "$FAR" eth0 $FAR4/24
ip -n "$FAR" route add default via 192.0.2.1
ip -n "$SRV" route add 192.0.2.0/24 via 203.0.113.1
ip -n "$FAR" mptcp limits set subflows 4 add_addr_accepted 4
lab_serve srv "$SRV" http:80 duplex:82
lab_serve fast "$SRV" --tfo http:81
printf 'another secret\n' >"$LAB_DIR/secret-far"
printf 'another secret\n' | "$SIXPATH_BUILD/src/tools/sixpathctl" passwd "$LAB_DIR/users-far" stranger >/dev/null
chown "$LAB_USER" "$LAB_DIR/secret-far" "$LAB_DIR/users-far"
chmod 600 "$LAB_DIR/secret-far" "$LAB_DIR/users-far"

# ---- how long it takes ----
ALL=$((A + B + B + C)) # far reaches the server through home's machine
for mptcp in no auto; do
	chain "proxy home.mptcp=$mptcp" "proxy far.mptcp=$mptcp"
	get >/dev/null # the cookies
	get 81 >/dev/null
	# What is written over MPTCP waits for the third packet of the handshake, on each leg.
	plain=$((ALL + B + C)) fast=$ALL
	[ $mptcp = no ] || fast=$((ALL + A))
	within "mptcp = $mptcp: plain server, ms" $plain 80
	within "mptcp = $mptcp: Fast Open all the way, ms" $fast 81
	check_num "mptcp = $mptcp: no faster than light" "$(sort -n "$LAB_DIR/times" | head -n 1)" ">=" $((ALL - 5))
	rtt=$(awk -v s="$(of far rtt)" 'BEGIN { print s * 1000 }')
	check_num "mptcp = $mptcp: round trip of the whole way, ms" "$rtt" ">=" $(((A + B) * 8 / 10))
	check_num "mptcp = $mptcp: round trip of the whole way, ms" "$rtt" "<=" $(((2 * A + B) * 13 / 10))
	[ $mptcp = auto ] || chain_stop
done

# Without Fast Open: one round trip more on each leg.
lab_conf redir "proxy home.tfo=no" "proxy far.tfo=no"
lab_conf_write
lab_ctl redir reload >/dev/null
lab_wait 20 is far up
get >/dev/null
within "without Fast Open: two round trips, ms" $((2 * ALL)) 80
lab_conf redir "proxy home.tfo=" "proxy far.tfo="
lab_conf_write
lab_ctl redir reload >/dev/null
lab_wait 20 is far up
get >/dev/null

# ---- who sees whom ----
check_eq "through both" "$(get)" want
check_eq "the log line names both" "$(last_flow route) $(last_flow proxy) $(last_flow via)" "proxy far home"
check_eq "the server sees the last proxy" "$(tail -n 1 "$LAB_DIR/srv.log" | json - 'j["peer"].rsplit(":", 1)[0]')" "$FAR4"
check_eq "it stands in proxies" "$(of far via) $(of far state) $(of home state) $(of home weight)" "home up up 0"
check_eq "and in paths" "$(path_states)" "home=up far=up"
check_eq "far's path begins at home" "$(lab_ctl redir paths --json | json - '[(p["via"], p["local"]) for p in j["paths"] if p["proxy"] == "far"]')" "[[\"home\", \"$PRX4\"]]"
check_eq "a hop gets no connections of its own" "$(of home flows_total)" 0
check_eq "sessions: one with each" "$(of home session) $(of far session)" "true true"
lab_ctl redir paths | sed 's/^/# /'
lab_ctl redir explain "$DEV4" "$SRV4:80" --json >"$LAB_DIR/explain.json"
check_eq "explain shows it" "$(json "$LAB_DIR/explain.json" '[[c["proxy"], c["via"]] for c in j["cases"] if c["captured"]][0]')" '["far", "home"]'

lab_in "$DEV" "$PEER" probe --get / --want 12 --hold-ms 3000 "$SRV4" 80 >/dev/null 2>&1 &
holder=$!
seen() {
	lab_in "$FAR" ss -Htn state established "sport = :1080" >"$LAB_DIR/clients"
	[ -s "$LAB_DIR/clients" ]
}
check "far has a client" lab_wait 5 seen
check_eq "far's clients are home's connections" "$(awk '{ sub(/:[0-9]*$/, "", $4); gsub(/[][]|::ffff:/, "", $4); print $4 }' "$LAB_DIR/clients" | sort -u)" 192.0.2.1
wait $holder

# ---- one SYN ----
lab_capture syn "$RTR" wan1 "tcp dst port 1080"
lab_capture leg "$PRX" far "tcp dst port 1080"
check_eq "captured" "$(get)" want
lab_capture_stop syn
lab_capture_stop leg
lab_dissect "$LAB_DIR/syn.pcap" --dport 1080 --payload >"$LAB_DIR/syn.json"
lab_dissect "$LAB_DIR/leg.pcap" --dport 1080 --payload >"$LAB_DIR/leg.json"
python3 - "$LAB_SRC/tests/lab" "$LAB_DIR" "$FAR4" "$SRV4" >"$LAB_DIR/verdict" 2>&1 <<-'PY'
	import json, sys
	sys.dont_write_bytecode = True
	sys.path.insert(0, sys.argv[1])
	import s6dissect
	where, far, server = sys.argv[2:5]
	def request_in(name, address):
	    syns = [json.loads(line) for line in open("%s/%s.json" % (where, name))]
	    syns = [s for s in syns if s.get("socks6", {}).get("command") == "connect"]
	    # A NOOP of far may pass at the same time.
	    syns = [s for s in syns if b"GET / " in bytes.fromhex(s["socks6"]["data"])]
	    assert len(syns) == 1, "%s: %d SYNs with request and data" % (name, len(syns))
	    request = syns[0]["socks6"]
	    assert request["address"] == address, "%s: destination: %s" % (name, request)
	    check(name, request)
	    return request
	def check(name, request):
	    assert len(request["session_id"]) >= 8 and isinstance(request["token"], int), "%s: %s" % (name, request)
	    assert {"multipath": 2, "tfo": 0} == {o["name"]: o["value"] for o in request["stack"]}, "%s: %s" % (name, request)
	    assert request["auth_data"] == [], "%s: credentials in it" % name
	outer = request_in("syn", far)
	inner = s6dissect.socks_request(bytes.fromhex(outer["data"]))
	assert inner["command"] == "connect" and inner["address"] == server and inner["port"] == 80, inner
	check("inner", inner)
	assert inner["session_id"] != outer["session_id"], "the same session"
	assert bytes.fromhex(inner["data"]).startswith(b"GET / HTTP/1.1\r\n"), inner
	second = request_in("leg", server)
	assert second["session_id"] == inner["session_id"] and second["token"] == inner["token"], "not the same request"
PY
check_eq "both requests and the first bytes in the first SYN, and what is left in the second" "$(tail -n 1 "$LAB_DIR/verdict")" ""

# ---- prewarmed: a connection to home, on which both requests leave ----
lab_conf redir "proxy home.prewarm=2"
lab_conf_write
lab_ctl redir reload >/dev/null
lab_wait 20 is far up
warm() { [ "$(of home prewarm_ready)" -ge 1 ]; }
check "prewarmed connections to home" lab_wait 10 warm
check_eq "prewarmed: through both" "$(get) $(last_flow prewarm) $(last_flow via)" "want yes home"
within "prewarmed, Fast Open behind it, ms" $((ALL + B)) 81
check_eq "prewarmed: none for far itself" "$(of far prewarm_used)" 0
lab_conf redir "proxy home.prewarm=0"
lab_conf_write
lab_ctl redir reload >/dev/null
lab_wait 20 is far up
get >/dev/null

# ---- faults ----
# Nothing is worse than directly; which proxy is to blame is told apart.
bounded() { # NAME ROUTE: ten connections, all good, none takes long
	local start took worst=0 bad=0
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		start=${EPOCHREALTIME/[.,]/}
		[ "$(get)" = want ] || bad=$((bad + 1))
		took=$(((${EPOCHREALTIME/[.,]/} - start) / 1000))
		[ $took -le $worst ] || worst=$took
	done
	check_eq "$1: failed" $bad 0
	# Half a second until it is odd, two for the probe; dial_timeout alone would be 5 s.
	check_num "$1: slowest in ms" $worst "<=" 4500
	check_eq "$1: then" "$(last_flow route)" "$2"
}

lab_kill far KILL
bounded "far is killed" direct
check_eq "far is killed: blamed" "$(path_states)" "home=up far=down"
check_eq "far is killed: why" "$(of far last_error)" "home says: connection refused"
far_start
check "far is back" lab_wait 20 is far up

silence "$FAR" 1080
bounded "far is silent" direct
check_eq "far is silent: blamed" "$(path_states)" "home=up far=down"
speak "$FAR"
check "far is back" lab_wait 20 is far up

lab_kill proxy KILL
bounded "home is killed" direct
check_eq "home is killed: blamed" "$(path_states)" "home=down far=via-down"
lab_daemon_start proxy
check "home is back" lab_wait 20 is home up
check "and far through it" lab_wait 5 is far up
check_eq "through both again" "$(get) $(last_flow via)" "want home"

silence "$PRX" 1080
bounded "home is silent" direct
check_eq "home is silent: blamed" "$(path_states)" "home=down far=via-down"
speak "$PRX"
check "home is back" lab_wait 20 is far up

mv "$LAB_DIR/users-far" "$LAB_DIR/users-good"
printf 'yet another\n' | "$SIXPATH_BUILD/src/tools/sixpathctl" passwd "$LAB_DIR/users-far" stranger >/dev/null
chown "$LAB_USER" "$LAB_DIR/users-far"
lab_kill far KILL
far_start
check "far does not know us: blamed" lab_wait 20 is far rejected
bounded "far does not know us" direct
check_eq "far does not know us: blamed" "$(path_states)" "home=up far=rejected"
mv "$LAB_DIR/users-good" "$LAB_DIR/users-far"
lab_kill far KILL
far_start
lab_ctl redir reload >/dev/null
check "far knows us again" lab_wait 20 is far up

cp -p "$LAB_DIR/users" "$LAB_DIR/users-good"
printf 'yet another\n' | "$SIXPATH_BUILD/src/tools/sixpathctl" passwd "$LAB_DIR/users" home >/dev/null
chown "$LAB_USER" "$LAB_DIR/users"
lab_kill proxy KILL
lab_daemon_start proxy
check "home does not know us: blamed" lab_wait 20 is home rejected
bounded "home does not know us" direct
check_eq "home does not know us: blamed" "$(path_states)" "home=rejected far=via-down"
cp -p "$LAB_DIR/users-good" "$LAB_DIR/users"
lab_kill proxy KILL
lab_daemon_start proxy
lab_ctl redir reload >/dev/null
check "home knows us again" lab_wait 20 is far up

# home restarts and has lost its session; far has not: the device notices nothing.
lab_kill proxy KILL
lab_daemon_start proxy
check_eq "home has lost the session" "$(get)" want

# ---- in the middle of a connection ----
lab_conf redir "proxy far.mptcp=no" # by which the end of a connection is known at once
lab_conf_write
lab_ctl redir reload >/dev/null
lab_wait 20 is far up
before=$(lab_served srv duplex)
lab_in "$DEV" "$PEER" duplex --up 16G --down 0 --timeout-ms 30000 "$SRV4" 82 >"$LAB_DIR/mid.out" 2>&1 &
holder=$!
relayed() {
	[ "$(lab_ctl redir flows --json | json - '[f["state"] for f in j["flows"] if f["via"] == "home"]')" = '["relay"]' ]
}
check "a connection in relay" lab_wait 10 relayed
# As if it had lost power: no end is heard, and later it does not know the connection.
silence "$FAR" 1080
lab_kill far KILL
speak "$FAR"
wait $holder
was_reset() { grep -q ECONNRESET "$LAB_DIR/mid.out" || { cat "$LAB_DIR/mid.out"; return 1; }; }
check "far is gone in mid-flow: the device's connection is reset" was_reset
served_once() { [ $(($(lab_served srv duplex) - before)) = 1 ]; }
check "far is gone in mid-flow: opened once at the server" lab_wait 10 served_once
sleep 1
check "far is gone in mid-flow: not once more" served_once

# ---- proxies that misbehave, after NOOPs went well ----
# Mode of badproxy.py, what the device sees when far is like that, and when home is (- = not tried).
# Nothing is ever executed twice; what home says of far is not told to the device.
ODD=(
	"mismatch|want|want"
	"garbage|want|want"
	"auth-fail|want|want"
	"op-general|want|want"
	"op-refused|ECONNRESET|want"
	"auth-only|ECONNRESET|-"
	"auth-close|ECONNRESET|ECONNRESET"
	"auth-garbage|ECONNRESET|ECONNRESET"
	"op-garbage|ECONNRESET|ECONNRESET"
	"close|ECONNRESET|ECONNRESET"
	"reset|ECONNRESET|ECONNRESET"
)

bad_start() { # NS MODE
	lab_bg bad "$1" python3 "$LAB_SRC/tests/lab/badproxy.py" 1080 "$2" --noop-ok
	lab_wait_port "$1" 1080
}

seen_by_server() { # how many connections
	lab_served srv http
}

# judge NAME EXPECTED: one connection, which the bad proxy was asked for; the server has seen it once if it was answered, else never.
judge() {
	local before expected=0
	before=$(seen_by_server)
	[ "$2" != want ] || expected=1
	check_eq "$1: the device" "$(get)" "$2"
	lab_wait 2 sh -c "[ \$(grep -c '\"service\":\"http\"' '$LAB_DIR/srv.log') -ge $((before + expected)) ]"
	check "$1: it was asked" lab_wait 2 lab_logged bad '"command": 1'
	check_eq "$1: seen by the server" $(($(seen_by_server) - before)) $expected
}

lab_conf redir connect.dial_timeout=1s connect.reply_timeout=2s
lab_conf_write
for row in "${ODD[@]}"; do
	IFS='|' read -r mode as_far as_home <<<"$row"
	lab_daemon_stop redir
	bad_start "$FAR" "$mode"
	lab_daemon_start redir
	lab_wait 10 is far up || not_ok "far: $mode" "not up: $(of far last_error)"
	judge "far: $mode" "$as_far"
	lab_kill bad
	[ "$as_home" != - ] || continue
	lab_daemon_stop redir
	far_start
	lab_daemon_start redir
	lab_wait 10 is far up || not_ok "home: $mode" "far is not up: $(of far last_error)"
	lab_kill proxy KILL
	bad_start "$PRX" "$mode"
	judge "home: $mode" "$as_home"
	lab_kill bad
	lab_kill far
	lab_daemon_start proxy
done
far_start
chain_stop
lab_end
