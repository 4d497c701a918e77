#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The lab itself: delays, frames kept intact, Fast Open, MPTCP over two links, loss, cleaning up
# build: release
# shellcheck source=tests/lab/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up --lan 1 --wan1 5:20 --wan2 5:20 --srv 50 --wire

min_rtt() { # NS ARGUMENT...
	lab_in "$1" ping -n -q -c 6 -i 0.2 "${@:2}" | sed -n 's|^rtt [^=]*= \([0-9.]*\)/.*|\1|p'
}

probe() { # OPTION... ADDRESS PORT, from the router
	lab_in "$RTR" "$PEER" probe "$@" >"$LAB_DIR/probe.out" 2>&1
}

probed() { # PYTHON-EXPRESSION
	json "$LAB_DIR/probe.out" "$1"
}

pings() { # NS ADDRESS
	lab_in "$1" ping -n -q -c 1 -W 1 "$2"
}

# ---- delays ----

delay() { # NAME LINKS WANTED NS ARGUMENT...: not a millisecond more for each link
	local ms
	ms=$(min_rtt "${@:4}")
	check_num "$1: round trip in ms" "$ms" ">=" "$3"
	check_num "$1: not much more" "$ms" "<" "$(($3 + $2))"
}

delay "lan" 1 2 "$DEV" "$RTR4"
delay "wan1" 1 10 "$RTR" "$PRX4"
delay "wan2" 1 10 "$RTR" -I "$WAN2_4" "$PRX4"
delay "wan2, IPv6" 1 10 "$RTR" -I "$WAN2_6" "$PRX6"
delay "srv" 1 100 "$PRX" "$SRV4"
delay "device to server" 3 112 "$DEV" "$SRV6B"

# ---- servers ----

lab_nginx "$SRV"
lab_file one.bin 100000
check "nginx" lab_in "$DEV" curl -s -m 10 -o "$LAB_DIR/one.bin" "http://[$SRV6]/one.bin"
check "nginx: the file is the same" cmp "$LAB_DIR/one.bin" "$LAB_DIR/www/one.bin"
lab_serve srv "$SRV" banner:22 echo:7 reset:9:1:1000 shutfirst:13 http:8080
lab_serve prx "$PRX" --mptcp --tfo duplex:5001 http:80 silent:1080
check "half-close" lab_in "$DEV" "$PEER" halfclose --up 100k "$SRV4" 7
probe --want 7 "$SRV4" 22
check_eq "banner" "$(probed 'j["said"]')" SSH-2.0
probe --send x "$SRV4" 9
check_eq "reset" "$(probed 'str(j["octets"]) + " " + j["end"]')" "1000 ECONNRESET"
probe --want 0 --send-octets 50 --reset "$SRV4" 7
check "reset by the client" lab_wait 5 grep -q '"service":"echo".*"end":"ECONNRESET"' "$LAB_DIR/srv.log"
probe "$SRV4" 999
check_eq "nobody listens" "$(probed 'j["end"]')" ECONNREFUSED

# ---- Fast Open: the SYN carries options and payload through the wire ----

REQUEST=0601001401BB0003 # CONNECT www.example.com:443 inside a session, with a token
REQUEST+=0F7777772E6578616D706C652E636F6D0006000C0011223344556677000D00080000ABCD
probe --mptcp --tfo --send-hex "${REQUEST}47455420" --want 0 "$PRX4" 1080 # brings the cookie
lab_capture syn "$PRX" wan1 tcp port 1080
lab_capture syn-near "$RTR" wan1 tcp port 1080
probe --mptcp --tfo --send-hex "${REQUEST}47455420" --want 0 "$PRX4" 1080
check_eq "Fast Open over MPTCP" "$(probed '[j["mptcp"], j["syn_data"]]')" "[true, true]"
lab_wire wan1 replay-syn 30 >/dev/null
probe --mptcp --tfo --send-hex "${REQUEST}48454144" --want 0 "$PRX4" 1080
copies() { # of the second SYN
	lab_dissect --dport 1080 --payload "$LAB_DIR/syn.pcap" >"$LAB_DIR/syns"
	[ "$(grep -c HEAD "$LAB_DIR/syns")" = "$1" ]
}
check "replay-syn: the SYN arrives twice" lab_wait 5 copies 2
check_eq "wire: inject" "$(lab_wire wan1 inject)" ok
check "inject: and once more" lab_wait 5 copies 3
lab_capture_stop syn
lab_capture_stop syn-near
check_eq "replayed SYNs are exact copies" "$(grep HEAD "$LAB_DIR/syns" | sed 's/"time": [^,]*,//' | sort -u | wc -l)" 1
head -n 1 "$LAB_DIR/syns" >"$LAB_DIR/syn1"
syn() { json "$LAB_DIR/syn1" "$1"; }
check_eq "SYN: MP_CAPABLE" "$(syn 'j["options"]["mp_capable"]["length"]')" 4
check_eq "SYN: Fast Open cookie" "$(syn 'j["options"]["fastopen"]["cookie_len"]')" 8
check_eq "SYN: SOCKSv6 request" "$(syn '"%(command)s %(address)s %(port)d %(session_id)s %(token)d %(data_text)s" % j["socks6"]')" \
	"connect www.example.com 443 0011223344556677 43981 GET "

# ---- middleboxes ----

lab_wire wan1 drop-syn-data on >/dev/null
probe --tfo --get /bytes/9 "$PRX4" 80 # brings the cookie
probe --tfo --get /bytes/9 "$PRX4" 80
check_num "drop-syn-data: a second later, ms" "$(probed 'j["first_byte_ms"]')" ">" 900
lab_wire wan1 drop-syn-data off >/dev/null
lab_wire wan1 strip-mptcp on >/dev/null
probe --mptcp --get /bytes/9 "$PRX4" 80
check_eq "strip-mptcp: TCP, at once" "$(probed '[j["mptcp"], j["end"], j["connect_ms"] < 500]')" '[false, "eof", true]'
lab_wire wan1 strip-mptcp off >/dev/null
lab_wire wan1 strip-tfo on >/dev/null
probe --mptcp --tfo --get /bytes/9 "$PRX6" 80
probe --mptcp --tfo --get /bytes/9 "$PRX6" 80
check_eq "strip-tfo: no Fast Open, nothing lost" \
	"$(probed '[j["mptcp"], j["syn_data"], j["end"], j["connect_ms"] < 500]')" '[true, false, "eof", true]'
lab_wire wan1 strip-tfo off >/dev/null

# ---- loss ----

lab_wire wan1 down >/dev/null
check "down: nothing passes" eval "! pings $RTR $PRX4"
check "down: wan2 still does" lab_in "$RTR" ping -n -q -c 1 -W 1 -I "$WAN2_4" "$PRX4"
lab_wire wan1 up >/dev/null
lab_wire wan1 down b2a >/dev/null
lab_capture there "$PRX" wan1 icmp
pings "$RTR" "$PRX4" >/dev/null
lab_capture_stop there
check_eq "down b2a: requests still arrive" "$(tcpdump -n -r "$LAB_DIR/there.pcap" 2>/dev/null | grep -c 'echo request')" 1
lab_wire wan1 up >/dev/null
check "up again" pings "$RTR" "$PRX4"
check_eq "a wrong command is an error" "$(lab_wire wan1 down sideways 2>&1)" "error: cannot do 'down sideways'"

# ---- what goes in comes out ----

lab_capture near "$RTR" wan1
lab_capture far "$PRX" wan1
check "5 MB each way over one link" lab_in "$RTR" "$PEER" duplex --up 5M --down 5M "$PRX4" 5001
quiet() { [ "$(lab_wire wan1 stats | json - 'j["a2b"]["in_flight"] + j["b2a"]["in_flight"]')" = 0 ]; }
lab_wait 5 quiet
lab_capture_stop near
lab_capture_stop far
frames() { # FILE DIRECTION: one line of hex for each frame
	tcpdump -n -t -xx -r "$LAB_DIR/$1.pcap" "ip and tcp and $2 host $WAN1_4" 2>/dev/null |
		awk '/^\t/ { printf "%s", $0; next } { print "" } END { print "" }'
}
unsent() { # FROM TO DIRECTION: frames that arrived and were not sent like that, in that order
	diff <(frames "$1" "$3") <(frames "$2" "$3") | grep -c '^>'
}
check_num "frames that arrived" "$(frames far src | wc -l)" ">" 3500
check_eq "a2b: frames changed or out of order" "$(unsent near far src)" 0
check_eq "b2a: frames changed or out of order" "$(unsent far near dst)" 0

# ---- bonding ----

bulk() { # NAME OPTION...
	lab_in "$RTR" "$PEER" duplex --mptcp "${@:2}" 5001 >"$LAB_DIR/bulk.out" 2>&1
	check_eq "$1: complete" "$(json "$LAB_DIR/bulk.out" 'j["error"]')" ""
	check_num "$1: Mbit/s over two links" "$(json "$LAB_DIR/bulk.out" 'max(j["up_mbit"], j["down_mbit"])')" ">=" 36
}
joins=$(lab_counter "$PRX" MPTcpExtMPJoinAckRx)
bulk "upload" --up 50M --down 0 "$PRX4"
bulk "download" --up 0 --down 50M "$PRX4"
bulk "upload, IPv6" --up 50M --down 0 "$PRX6"
check_num "joins seen by the proxy's kernel" "$(($(lab_counter "$PRX" MPTcpExtMPJoinAckRx) - joins))" ">=" 3

# ---- cleaning up ----

child() { # HOW IT ENDS: prints the names of what it made
	bash -c '
		. "$1/tests/lab/lib.sh"
		lab_up --wan1 1
		lab_bg sleeper "$DEV" sleep 1000
		ip netns exec "$DEV" setsid sleep 1001 & # one the library does not know about
		echo "$LAB_DIR $DEV" >"$2"
		'"$1"'
	' rig "$LAB_SRC" "$LAB_DIR/child" >/dev/null 2>&1
}
leftovers() {
	local dir ns
	read -r dir ns <"$LAB_DIR/child"
	[ ! -e "$dir" ] || echo "$dir is still there"
	! ip netns list | grep -F "${ns%-dev}" || echo "namespaces are still there"
	! grep -l -z -x -F -- "${ns%-dev}-rtr:wan1" /proc/[0-9]*/cmdline 2>/dev/null || echo "wire is still there"
}
for how in "lab_end" "false; exit 3" "kill -TERM \$\$; sleep 10" "lab_die no" \
	"exec > >(true); sleep 0.2; not_ok nobody reads; not_ok this; kill -TERM \$\$"; do
	rm -f "$LAB_DIR/child"
	child "$how"
	check_eq "cleaned up after: $how" "$(leftovers)" ""
done
lab_end
