#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Upstreams that speak SOCKS 5: handshakes one by one and in one flight, passwords, failures
. "$(dirname "$0")/lib.sh"

CLOSED=81

# upstream PORT [KEY=VALUE...]: the router's one proxy is that port of the proxy host.
upstream() {
	local kv args=(--redir "proxy home.address=$PRX4:$1" --redir "proxy home.protocol=socks5"
		--redir "proxy home.username=" --redir "proxy home.password_file=" --redir "proxy home.mptcp=no")
	shift
	for kv; do
		args+=(--redir "$kv")
	done
	lab_daemons "${args[@]}"
}

of() { # FIELD
	lab_ctl redir proxies --json | json - "j['proxies'][0]['$1']"
}

is() { # STATE
	[ "$(of state)" = "$1" ]
}

# mark: what last tells of comes after this.
mark() { grep -c ' flow ' "$LAB_DIR/redir.log" >"$LAB_DIR/mark"; }

ended() { [ "$(grep -c ' flow ' "$LAB_DIR/redir.log")" -gt "$(cat "$LAB_DIR/mark")" ]; }

last() { # FIELD: of the last flow in the log
	lab_wait 5 ended
	grep ' flow ' "$LAB_DIR/redir.log" | tail -n 1 | sed -n "s/.* $1=\([^ ]*\).*/\1/p"
}

get() { # how it ends for the device that asks the server for a page
	mark
	lab_get srv "$SRV4" 80
}

probe() { # PORT [OPTION...]
	mark
	lab_in "$DEV" "$PEER" probe --timeout-ms 5000 "${@:2}" "$SRV4" "$1" | json - 'j["end"]'
}

# flights PORT: what the router has sent on each connection to it, packet by packet, as hex; with 05 01
# and a command in it (probes have none)
flights() {
	python3 - "$LAB_DIR/cap.pcap" "$1" <<-'PYTHON'
		import struct, sys
		data, port = open(sys.argv[1], "rb").read(), int(sys.argv[2])
		order = "<" if data[:4] == b"\xd4\xc3\xb2\xa1" else ">"
		at, flows = 24, {}
		while at + 16 <= len(data):
		    size = struct.unpack(order + "I", data[at + 8:at + 12])[0]
		    ip = data[at + 16:at + 16 + size][14:]
		    at += 16 + size
		    tcp = ip[(ip[0] & 15) * 4:struct.unpack(">H", ip[2:4])[0]]
		    src, dst = struct.unpack(">HH", tcp[:4])
		    load = tcp[(tcp[12] >> 4) * 4:]
		    if dst == port and load:
		        flows.setdefault(src, []).append(load.hex())
		for f in flows.values():
		    if "050100" in "".join(f)[6:]:
		        print(" ".join(f))
	PYTHON
}

# told PORT [KEY=VALUE...]: one GET over it, and what the router said to the proxy for it.
told() {
	upstream "$@"
	lab_wait 20 is up || lab_die "not up: $(lab_ctl redir proxies)"
	lab_capture cap "$PRX" wan1 "tcp port $1"
	check_eq "$1 ${*:2}: a page through it" "$(get) $(lab_saw srv) $(last route)" "want proxy proxy"
	lab_capture_stop cap
	flights "$1" >"$LAB_DIR/flights"
}

lab_up
lab_need microsocks danted curl
lab_serve srv "$SRV" http:80 duplex:82 banner:83
lab_nginx "$SRV" 8080
lab_file big 3000000
lab_bg microsocks "$PRX" microsocks -p 1090
lab_bg microuser "$PRX" microsocks -p 1091 -u home -P secret
cat >"$LAB_DIR/danted.conf" <<-CONF
	logoutput: stderr
	internal: 0.0.0.0 port = 1092
	external: srv
	clientmethod: none
	socksmethod: none
	user.privileged: root
	user.unprivileged: nobody
	client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
	socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
CONF
lab_bg danted "$PRX" danted -f "$LAB_DIR/danted.conf"
for port in 1090 1091 1092; do
	lab_wait_port "$PRX" $port
done
REQUEST=05010001$(printf '%02x%02x%02x%02x' 203 0 113 2)0050

# ---- one by one, and in one flight ----
told 1090
check_eq "one by one: greeting, request, then the page is asked for" \
	"$(awk '{ print $1, $2, substr($3, 1, 6) }' "$LAB_DIR/flights")" "050100 $REQUEST 474554"
check_eq "refused is told" "$(probe $CLOSED --get / --want 1) $(last reason) $(last reply)" \
	"ECONNRESET refused-by-proxy connection"
lab_in "$DEV" curl -s --max-time 20 "http://$SRV4:8080/big" -o "$LAB_DIR/big" # microsocks knows no half-close
check "bytes arrive as they were" cmp "$LAB_DIR/big" "$LAB_DIR/www/big"
check_eq "the server speaks first" "$(probe 83 --want 5)" want
check_eq "proxies says what it is" "$(of protocol) $(of session) $(of tfo)" "socks5 false false"
lab_daemons_stop

told 1092 "proxy home.pipeline=handshake"
check_eq "handshake: greeting and request in one packet, then the rest" \
	"$(awk '{ print $1, substr($2, 1, 6) }' "$LAB_DIR/flights")" "050100$REQUEST 474554"
lab_daemons_stop
told 1092 "proxy home.pipeline=data"
check_eq "data: all in one packet" "$(awk '{ print NF, substr($1, 1, 32) }' "$LAB_DIR/flights")" "1 050100${REQUEST}474554"
lab_in "$DEV" "$PEER" duplex --up 3M --down 3M --flows 3 "$SRV4" 82 >"$LAB_DIR/duplex.json"
check_eq "data: bytes arrive as they were" "$(json "$LAB_DIR/duplex.json" '(j["error"], j["up"], j["down"])')" "('', 3145728, 3145728)"
lab_daemons_stop
told 1092 "proxy home.mptcp=auto"
lab_daemons_stop

# Connections kept ready spare a round trip here, too.
upstream 1092 "proxy home.prewarm=2" "proxy home.pipeline=data"
lab_wait 20 is up
has_ready() { [ "$(of prewarm_ready)" -gt 0 ]; }
lab_wait 10 has_ready
check_eq "on a prewarmed connection" "$(get) $(lab_saw srv) $(last prewarm)" "want proxy yes"
lab_daemons_stop

# ---- passwords ----
USER=(proxy\ home.username=home "proxy home.password_file=$LAB_DIR/secret")
told 1091 "${USER[@]}"
check_eq "password: one by one" "$(awk '{ print $1, $2, $3, substr($4, 1, 6) }' "$LAB_DIR/flights")" \
	"050102 0104686f6d6506736563726574 $REQUEST 474554"
check "its password is not in the log" sh -c "! grep -qi '06736563726574\|=secret\b' '$LAB_DIR/redir.log'"
printf 'wrong\n' >"$LAB_DIR/secret"
lab_ctl redir reload >/dev/null
check "a wrong password: rejected" lab_wait 15 is rejected
check "and the log says how to cure it" lab_logged redir "credentials rejected: check username and password"
check_eq "connections go directly meanwhile" "$(get) $(lab_saw srv)" "want router"
printf 'secret\n' >"$LAB_DIR/secret"
lab_ctl redir reload >/dev/null
check "the right one again: up" lab_wait 15 is up
lab_daemons_stop

# Our own front door takes a password and what follows it in one flight.
cat >"$LAB_DIR/second.conf" <<-CONF
	[redir]
	listen = 127.0.0.1:1078
	socks = 0.0.0.0:1093
	socks_users = $LAB_DIR/users
	user = $LAB_USER
	control =
	state_dir =
	log_to = stderr
	[proxy home]
	address = 127.0.0.1:1080
	username = home
	password_file = $LAB_DIR/secret
	[rules]
	install = no
CONF
lab_bg second "$PRX" "$SIXPATH_BUILD/src/redir/sixpath-redir" -f -c "$LAB_DIR/second.conf"
lab_wait_port "$PRX" 1093
told 1093 "${USER[@]}" "proxy home.pipeline=data"
check_eq "password: all in one packet" "$(awk '{ print NF, substr($1, 1, 58) }' "$LAB_DIR/flights")" \
	"1 0501020104686f6d6506736563726574${REQUEST}474554"
check_eq "refused is told through both" "$(probe $CLOSED --get / --want 1) $(last reason)" \
	"ECONNRESET refused-by-proxy"
lab_daemons_stop
lab_kill second
check_eq "the second redirector ends with exit code" "$LAB_RC" 0

# ---- the proxy dies ----
upstream 1090
lab_wait 20 is up
check_eq "before" "$(get) $(lab_saw srv)" "want proxy"
lab_kill microsocks KILL
check_eq "killed: the next connection goes directly" "$(get) $(lab_saw srv)" "want router"
check "it is down" lab_wait 10 is down
lab_bg microsocks "$PRX" microsocks -p 1090
check "back again: up" lab_wait 20 is up
check_eq "and used" "$(get) $(lab_saw srv)" "want proxy"
lab_daemons_stop

# ---- nothing is said twice ----
# A proxy that answers greetings, and closes when it gets more (or, "dead", before it answers).
cat >"$LAB_DIR/breaks.py" <<-'PYTHON'
	import os, socket, sys, threading
	def serve(c):
	    try:
	        first = c.recv(4096)
	        if os.path.exists(sys.argv[1]):
	            return
	        if len(first) == 3:
	            c.sendall(b"\5\0")
	            c.recv(4096)
	    finally:
	        c.close()
	s = socket.create_server(("0.0.0.0", 1094))
	while True:
	    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
PYTHON
lab_bg breaks "$PRX" python3 "$LAB_DIR/breaks.py" "$LAB_DIR/dead"
lab_wait_port "$PRX" 1094
broken() { # how it ends for the device, and how many pages the server has given meanwhile
	local before end
	before=$(lab_served srv http)
	end=$(get)
	echo "$end $(($(lab_served srv http) - before))"
}
upstream 1094 "proxy home.pipeline=data"
lab_wait 20 is up
check_eq "data: the proxy closed when it had the request: it may have acted" "$(broken)" "ECONNRESET 0"
check_eq "that is the reason" "$(last reason)" upstream-lost
lab_daemons_stop
upstream 1094
lab_wait 20 is up
check_eq "one by one: closed after the request: the same" "$(broken)" "ECONNRESET 0"
lab_wait 20 is up
touch "$LAB_DIR/dead"
check_eq "closed at the greeting: elsewhere, once" "$(broken)" "want 1"
check_eq "there it is" "$(lab_saw srv)" router
lab_daemons_stop

# ---- configuration ----
refused() { # NAME TEXT KEY=VALUE...: sixpath-redir -t does not take it
	lab_conf redir "${@:3}"
	lab_conf_write
	"$SIXPATH_BUILD/src/redir/sixpath-redir" -t -c "$LAB_DIR/redir.conf" >"$LAB_DIR/check.log" 2>&1
	check_eq "$1" "$? $(grep -cF "$2" "$LAB_DIR/check.log")" "1 1"
	lab_conf redir "${@/=*/=}"
}
lab_conf_defaults
refused "pipeline is for SOCKS 5" "pipeline: is for protocol = socks5" "proxy home.pipeline=data"
lab_conf redir "proxy far.address=$PRX4:1091" "proxy far.protocol=socks5"
refused "no via with SOCKS 5" "via: both this proxy and that of [proxy home] need protocol = socks6" "proxy far.via=home"
lab_end
