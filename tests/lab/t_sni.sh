#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# [connect] names = sni: the name in a TLS hello or an HTTP request goes to the proxy, which looks it up;
# whenever that is not possible the device's address counts
. "$(dirname "$0")/lib.sh"

# The device always connects to SRV4; the proxy's name server says SRV4B. So the server's answer, which is
# the address it was reached at, tells what was used.

# get URL [CURL-OPTIONS]: the server's answer.
get() {
	lab_in "$DEV" curl -s -k --max-time 15 --resolve "*:443:$SRV4" --resolve "*:80:$SRV4" \
		--resolve "*:8080:$SRV4" "${@:2}" "$1"
}

names() { echo "$*" >"$LAB_DIR/names"; }

lab_up --wan1 10 --wan2 10
lab_need curl openssl
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=lab -keyout "$LAB_DIR/key.pem" \
	-out "$LAB_DIR/cert.pem" 2>/dev/null || lab_die "no certificate"
cat >"$LAB_DIR/where.py" <<'PY'
"""Answers each request with the address that it came to: PORT FAMILY..., port 443 by TLS."""
import socket
import ssl
import sys
import threading

ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
ctx.load_cert_chain(sys.argv[1] + "/cert.pem", sys.argv[1] + "/key.pem")


def talk(c, tls):
    try:
        text = c.getsockname()[0].replace("::ffff:", "") + "\n"
        if tls:
            c = ctx.wrap_socket(c, server_side=True)
        while b"\r\n\r\n" not in c.recv(4096):
            pass
        c.sendall(("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
                   % (len(text), text)).encode())
        if tls:
            c.unwrap()
    except OSError:
        pass
    c.close()


def serve(port):
    s = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    while True:
        c, _ = s.accept()
        threading.Thread(target=talk, args=(c, port == 443), daemon=True).start()


for p in (80, 8080):
    threading.Thread(target=serve, args=(p,), daemon=True).start()
serve(443)
PY
lab_bg where "$SRV" python3 "$LAB_DIR/where.py" "$LAB_DIR"
lab_wait_port "$SRV" 443
names answer "$SRV4B"
lab_bg ns "$PRX" python3 -u "$LAB_SRC/tests/lab/nameserver.py" 127.0.0.1 53 "$LAB_DIR/names"
lab_wait 10 lab_logged ns ready || lab_die "name server"
# A busy machine is given time for the hello.
lab_daemons --redir redir.first_data_ms=1000 --redir bypass.learn=yes --redir bypass.action=relay --proxy proxy.resolve=127.0.0.1

check_eq "off by default: the device's address" "$(get https://www.a.test.example/)" "$SRV4"
lab_conf redir connect.names=sni
lab_conf_write
lab_ctl redir reload >/dev/null
get http://www.a.test.example/ >/dev/null # a cookie

# ---- the name is told ----

lab_capture req "$PRX" any "dst port 1080"
check_eq "TLS: the proxy's address for the name" "$(get https://www.b.test.example/)" "$SRV4B"
check "the log names it" lab_wait 5 lab_logged redir "-> $SRV4:443 name=www.b.test.example route=proxy"
check_eq "HTTP: likewise" "$(get http://www.C.test.example/)" "$SRV4B"
lab_capture_stop req
lab_dissect --dport 1080 --payload "$LAB_DIR/req.pcap" >"$LAB_DIR/req.json"
check_eq "in the SYN: names, port and the first bytes" \
	"$(json "$LAB_DIR/req.json" "[(r['socks6']['address'], r['socks6']['address_type'], r['socks6']['port'], r['socks6']['data_len'] > 0) for r in (j if isinstance(j, list) else [j]) if r['socks6'].get('command') == 'connect']")" \
	'[["www.b.test.example", 3, 443, true], ["www.c.test.example", 3, 80, true]]'
check_eq "and Happy Eyeballs" \
	"$(json "$LAB_DIR/req.json" "sorted({s['value'] for r in (j if isinstance(j, list) else [j]) for s in r['socks6'].get('stack', []) if s['name'] == 'happy_eyeballs' and s['leg'] == 2})")" "[2]"
check_eq "a server found by name teaches nothing about the address" \
	"$(lab_ctl redir learned list --json | json - "[s['server'] for s in j['learned'] if s['server'].endswith(':80')]")" "[]"

# ---- where both families are to be had, the dead one costs little ----

names answer "$SRV6B,$SRV4B"
lab_in "$SRV" nft -f - <<-END
	table inet away {
		chain input {
			type filter hook input priority 0;
			ip6 daddr $SRV6B tcp flags syn drop
		}
	}
END
ms=$(get https://www.eyes.test.example/ -o /dev/null -w '%{time_total}' | awk '{ print $1 * 1000 }')
check_num "IPv6 is dead: the proxy takes IPv4 soon, ms" "$ms" "<" 1500
check_eq "which is what it has used" "$(get https://www.eyes2.test.example/)" "$SRV4B"
lab_in "$SRV" nft delete table inet away
names answer "$SRV6B,$SRV4B"
check_eq "else it is IPv6, whatever the device had" "$(get https://www.eyes3.test.example/)" "$SRV6B"

# ---- not told ----

names answer "$SRV4B"
check_eq "another port" "$(get http://www.d.test.example:8080/)" "$SRV4"
check_eq "an address in the request" "$(get "http://$SRV4/")" "$SRV4"
check_eq "a name of the LAN" "$(get https://printer.lan/)" "$SRV4"
asked=$(grep -c "b'" "$LAB_DIR/ns.log")
out=$(lab_in "$DEV" python3 - "$SRV4" <<'PY'
import socket, ssl, sys, time
ctx = ssl.create_default_context()
ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
i, o = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = ctx.wrap_bio(i, o, server_hostname="www.slow.test.example")
c = socket.create_connection((sys.argv[1], 443))
c.settimeout(10)


def step(call):
    while True:
        try:
            return call()
        except ssl.SSLWantReadError:
            pass
        data = o.read()
        if data[:1] == b"\x16" and data[5:6] == b"\1":  # the hello, in two pieces
            c.sendall(data[:200])
            time.sleep(0.3)
            data = data[200:]
        c.sendall(data)
        i.write(c.recv(16384))


step(tls.do_handshake)
tls.write(b"GET / HTTP/1.1\r\n\r\n")
print(step(lambda: tls.read(4096)).decode().split()[-1])
PY
)
check_eq "a hello in two pieces goes on as it is" "$out" "$SRV4"
check_eq "nobody was asked for those" "$(grep -c "b'" "$LAB_DIR/ns.log")" "$asked"

# ---- told in vain: the device's address counts ----

names nxdomain 1
check_eq "there is no such name" "$(get https://www.e.test.example/)" "$SRV4"
names answer 192.0.2.1
check_eq "what it names is not allowed" "$(get https://www.f.test.example/)" "$SRV4"
names answer 203.0.113.9
lab_in "$PRX" ip route add unreachable 203.0.113.9
check_eq "what it names cannot be reached" "$(get https://www.g.test.example/)" "$SRV4"
names answer "$SRV4B"
check_eq "then names are told again" "$(get https://www.h.test.example/)" "$SRV4B"
names servfail
check_eq "the proxy's name servers fail" "$(get https://www.i.test.example/)" "$SRV4"
asked=$(grep -c "b'" "$LAB_DIR/ns.log")
for i in 1 2 3 4; do get "https://www.j$i.test.example/" >>"$LAB_DIR/later"; done
check_eq "all arrive meanwhile" "$(sort -u "$LAB_DIR/later")" "$SRV4"
# Each worker finds out for itself.
check_num "and names are not told for a while" "$(grep "b'" "$LAB_DIR/ns.log" | tail -n +$((asked + 1)) | grep -o 'www.x*0*2*j[0-9]' | sort -u | wc -l)" "<=" 1

lab_daemons_stop
lab_end
