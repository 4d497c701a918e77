#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Stack options of CONNECT: answered as they are, and seen on each leg; and the device's class of service
# on all legs of a captured connection
. "$(dirname "$0")/lib.sh"

lab_up --wan1 "" # nothing is delayed
lab_need curl
lab_serve srv "$SRV" http:80
lab_serve srvtfo "$SRV" --tfo http:81
lab_serve srvmptcp "$SRV" --mptcp http:82
echo "answer $SRV4" >"$LAB_DIR/names"
lab_bg ns "$PRX" python3 -u "$LAB_SRC/tests/lab/nameserver.py" 127.0.0.1 53 "$LAB_DIR/names"
lab_wait 10 lab_logged ns ready || lab_die "name server"
lab_daemons --redir bypass.learn=no --redir "proxy home.prewarm=0" --proxy proxy.resolve=127.0.0.1 --proxy proxy.workers=1

# ---- the proxy ----

lab_capture leg1 "$PRX" any "tcp port 1080"
lab_capture leg2 "$PRX" srv "tcp"
lab_in "$RTR" python3 "$LAB_SRC/tests/lab/stackoptions.py" ask "$PRX4" "$PRX6" "$SRV4" "$SRV6" \
	>"$LAB_DIR/answers" 2>"$LAB_DIR/ask.log" || not_ok "asking" "$(tail -n 3 "$LAB_DIR/ask.log")"
lab_capture_stop leg1
lab_capture_stop leg2
for leg in leg1 leg2; do
	lab_dissect --all "$LAB_DIR/$leg.pcap" >"$LAB_DIR/$leg.json"
done
while IFS=$'\t' read -r name value wanted; do
	check_eq "$name" "$value" "$wanted"
done < <("$LAB_SRC/tests/lab/stackoptions.py" judge "$LAB_DIR/answers" "$LAB_DIR/leg1.json" "$LAB_DIR/leg2.json")

# ---- the redirector: the device's DSCP goes all the way by itself ----

# Another address than before: the proxy has a Fast Open cookie of that one, which port 80 does not take.

# dscp OCTET ADDRESS PORT LEG: TOS octets of the SYNs that such a connection has led to.
dscp() {
	local filter="dst port 1080" ns=$PRX if=any port=1080
	[ "$4" = 1 ] || filter="dst port $3" if=srv port=$3
	lab_capture dscp "$ns" "$if" "$filter"
	lab_in "$DEV" python3 - "$@" <<-'PY'
		import socket, sys
		s = socket.socket(socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET)
		tos = int(sys.argv[1], 0)
		s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos) if s.family == socket.AF_INET else \
			s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
		s.settimeout(10)
		s.connect((sys.argv[2], int(sys.argv[3])))
		s.sendall(b"GET / HTTP/1.0\r\n\r\n")
		while s.recv(65536): pass
	PY
	lab_capture_stop dscp
	lab_dissect --dport "$port" "$LAB_DIR/dscp.pcap" |
		json - "sorted({r['tos'] & 0xfc for r in (j if isinstance(j, list) else [j]) if not r['ack'] and 'mp_join' not in r['options'] and r['socks6']['command'] == 'connect'} if $port == 1080 else {r['tos'] & 0xfc for r in (j if isinstance(j, list) else [j]) if not r['ack']})"
}

dscp 0 "$SRV4B" 80 1 >/dev/null # a cookie
check_eq "EF from the device: to the proxy" "$(dscp 0xb8 "$SRV4B" 80 1)" "[184]"
check_eq "EF from the device: to the server" "$(dscp 0xb8 "$SRV4B" 80 2)" "[184]"
check_eq "AF31, to a server with MPTCP" "$(dscp 0x68 "$SRV4B" 82 2)" "[104]"
check_eq "none: to the proxy" "$(dscp 0 "$SRV4B" 80 1)" "[0]"
check_eq "none: to the server" "$(dscp 0 "$SRV4B" 80 2)" "[0]"
check_eq "ECN bits are the kernel's business" "$(dscp 0xbb "$SRV4B" 80 2)" "[184]"
check_eq "EF over IPv6: to the proxy, which is reached over IPv4" "$(dscp 0xb8 "$SRV6" 80 1)" "[184]"
check_eq "EF over IPv6: to the server" "$(dscp 0xb8 "$SRV6" 80 2)" "[184]"
# An MPTCP socket of IPv6 cannot have a class.
dscp 0 "$SRV6" 82 1 >/dev/null
check_eq "EF over IPv6: to a server with MPTCP" "$(dscp 0xb8 "$SRV6" 82 2)" "[0]"
lab_conf redir "proxy home.mptcp=no"
lab_conf_write
lab_ctl redir reload >/dev/null
dscp 0 "$SRV4B" 80 1 >/dev/null
check_eq "by TCP" "$(dscp 0xb8 "$SRV6" 80 2)" "[184]"
lab_conf redir "proxy home.mptcp=auto" connect.dscp=no
lab_conf_write
lab_ctl redir reload >/dev/null
dscp 0 "$SRV4B" 80 1 >/dev/null
check_eq "dscp = no: to the proxy" "$(dscp 0xb8 "$SRV4B" 80 1)" "[0]"
check_eq "dscp = no: to the server" "$(dscp 0xb8 "$SRV4B" 80 2)" "[0]"

# Directly, when there is no proxy.
lab_conf redir connect.dscp=yes
lab_conf_write
lab_ctl redir reload >/dev/null
lab_kill proxy
check_eq "EF without a proxy: to the server" "$(dscp 0xb8 "$SRV4B" 80 2)" "[184]"
lab_daemons_stop
lab_end
