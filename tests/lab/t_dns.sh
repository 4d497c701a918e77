#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# [dns]: a device asks the router, which asks the proxy's DNS service; dig over UDP and TCP, sizes, the
# cache, and what happens when no proxy works
. "$(dirname "$0")/lib.sh"

# ask ARGUMENTS...: dig from the device to the router.
ask() {
	lab_in "$DEV" dig "@$RTR4" +tries=1 +time=5 "$@"
}

# value TEXT FIELD: of what dig prints: status, flags, the first record's ttl and data, or how many.
value() {
	case $2 in
	status) sed -n 's/.*status: \([A-Z]*\),.*/\1/p' <<<"$1" ;;
	flags) sed -n 's/^;; flags: \([a-z ]*\);.*/\1/p' <<<"$1" ;;
	ttl) awk '$0 !~ /^;/ && $3 == "IN" { print $2; exit }' <<<"$1" ;;
	data) awk '$0 !~ /^;/ && $3 == "IN" { print $5; exit }' <<<"$1" ;;
	count) awk '$0 !~ /^;/ && $3 == "IN" { n++ } END { print n + 0 }' <<<"$1" ;;
	udp) sed -n 's/.*EDNS: version: 0, flags:.*; udp: \([0-9]*\).*/\1/p' <<<"$1" ;;
	esac
}

counter() { # NAME: of the redirector's name service
	lab_ctl redir status --json | json - "j['dns']['$1']"
}

seen() { # LOG NAME: queries for this name that the name server has seen
	grep -ic "x0[0-9a-f]$2.x01a" "$LAB_DIR/$1.log"
}

far() { echo "$*" >"$LAB_DIR/far"; }

# shellcheck disable=SC2317 # by lab_wait
answers() { # FIELD VALUE: to a name that was not asked for before
	[ "$(value "$(ask "new$RANDOM$RANDOM.test" A)" "$1")" = "$2" ]
}

# shellcheck disable=SC2317 # by lab_wait
proxied_now() { # true when a new name is answered through the proxy
	ask "again$RANDOM.test" A >/dev/null && [ "$(counter proxied)" -gt "$1" ]
}

lab_up --wan1 10 --wan2 10
lab_need dig
# The proxy's own name server; and another one, which anybody may ask.
lab_bg far "$PRX" python3 -u "$LAB_SRC/tests/lab/nameserver.py" 127.0.0.1 53 "$LAB_DIR/far"
lab_bg near "$PRX" python3 -u "$LAB_SRC/tests/lab/nameserver.py" 203.0.113.1 53 "$LAB_DIR/near"
for name in far near; do
	lab_wait 10 lab_logged $name ready || lab_die "name server $name"
done
echo "answer 192.0.2.99 1" >"$LAB_DIR/near"
far answer 192.0.2.1 30
lab_daemons --redir dns.listen="[::]:53" --redir dns.servers=203.0.113.1 --redir bypass.learn=no \
	--proxy proxy.dns=127.0.0.1
# The capture begins before any name is asked for: plain DNS would be seen here.
lab_capture wan "$RTR" any "port 53 and (net 198.18.0.0/16 or host 203.0.113.1 or net 2001:db8::/32)"

# ---- UDP, TCP, both families ----

out=$(ask www.a.test A)
check_eq "over UDP: status" "$(value "$out" status)" NOERROR
check_eq "over UDP: the proxy's answer" "$(value "$out" data)" 192.0.2.1
out=$(ask +tcp tcp.a.test A)
check_eq "over TCP" "$(value "$out" data)" 192.0.2.1
out=$(lab_in "$DEV" dig "@$RTR6" +tries=1 +time=5 six.a.test A)
check_eq "over IPv6" "$(value "$out" data)" 192.0.2.1
out=$(lab_in "$RTR" dig @127.0.0.1 +tries=1 +time=5 local.a.test A)
check_eq "on the router itself" "$(value "$out" data)" 192.0.2.1
check_eq "one connection for all" "$(grep -c "connection from" "$LAB_DIR/far.log")" 1
check_eq "asked for through the proxy" "$(counter proxied)" 4
mptcp=$(lab_ctl redir flows --json | json - '[f["mptcp"] for f in j["flows"] if f["destination"] == "0.0.0.0:53"]')
check_eq "the connection is a flow like any other, over MPTCP" "$mptcp" "[true]"

# Many at once: over the one connection, nobody waits for the one before.
far answer 192.0.2.7 60
for i in $(seq 40); do echo "pipe$i.test A"; done >"$LAB_DIR/batch"
start=${EPOCHREALTIME/[.,]/}
for i in 1 2 3 4; do # dig asks one after the other
	{ sed -n "$((i * 10 - 9)),$((i * 10))p" "$LAB_DIR/batch"; } >"$LAB_DIR/batch$i"
	ask +short -f "$LAB_DIR/batch$i" >"$LAB_DIR/got$i" &
	jobs[i]=$!
done
wait "${jobs[@]}"
ms=$(((${EPOCHREALTIME/[.,]/} - start) / 1000))
check_eq "40 names, by four askers" "$(cat "$LAB_DIR"/got? | grep -c '^192.0.2.7$')" 40
check_eq "still one connection" "$(grep -c "connection from" "$LAB_DIR/far.log")" 1
echo "# 40 names took $ms ms"

# ---- EDNS and sizes ----

far text 900
out=$(ask +ignore +noedns big.a.test TXT)
check_eq "900 octets without EDNS: truncated" "$(value "$out" flags | tr ' ' '\n' | grep -c '^tc$')" 1
check_eq "and empty" "$(value "$out" count)" 0
out=$(ask +noedns big.a.test TXT)
check_eq "the same, by TCP then: whole" "$(value "$out" count)" 5
out=$(ask +ignore +bufsize=1232 +nocookie edns.a.test TXT)
check_eq "900 octets with EDNS: whole, over UDP" "$(value "$out" count)" 5
check_eq "an answer to EDNS has EDNS" "$(value "$out" udp)" 1232
out=$(ask +ignore +noedns plain.a.test A)
check_eq "and one without has none" "$(value "$out" udp)" ""
far text 2000
out=$(ask +ignore +bufsize=1400 huge.a.test TXT)
check_eq "2000 octets in 1400: truncated" "$(value "$out" flags | tr ' ' '\n' | grep -c '^tc$')" 1
out=$(ask +ignore +bufsize=4096 huge.a.test TXT)
check_eq "in 4096: whole" "$(value "$out" count)" 10
far text 40000
out=$(ask +tcp giant.a.test TXT)
check_eq "40000 octets by TCP" "$(value "$out" count)" 200
out=$(ask +edns=1 +noednsneg version.a.test A)
check_eq "EDNS version 1 is refused as such" "$(value "$out" status)" BADVERS
out=$(ask a.test AXFR +tcp 2>&1)
check_eq "no transfers" "$(grep -c 'Transfer failed' <<<"$out")" 1

# ---- the cache ----

far answer 192.0.2.2 30
first=$(value "$(ask ttl.a.test A)" ttl)
check_eq "the time to live of a new answer" "$first" 30
sleep 2.2
out=$(ask TTL.a.Test A)
check_num "counted down two seconds later" "$(value "$out" ttl)" "<=" 28
check_num "but not far" "$(value "$out" ttl)" ">=" 20
check_eq "the name as this client wrote it" "$(awk '$0 !~ /^;/ && $3 == "IN" { print $1 }' <<<"$out")" TTL.a.Test.
check_eq "the name server was asked once" "$(seen far ttl)" 1
far answer 192.0.2.3 1
ask short.a.test A >/dev/null
sleep 1.3
far answer 192.0.2.4 1
check_eq "one that is over is asked for anew" "$(value "$(ask short.a.test A)" data)" 192.0.2.4
far nxdomain 60
check_eq "no such name" "$(value "$(ask no.a.test A)" status)" NXDOMAIN
far answer 192.0.2.5 1
check_eq "is believed for the SOA's minimum" "$(value "$(ask no.a.test A)" status)" NXDOMAIN
far nxdomain 1
ask nomore.a.test A >/dev/null
sleep 1.3
far answer 192.0.2.5 1
check_eq "and no longer" "$(value "$(ask nomore.a.test A)" status)" NOERROR
far servfail
check_eq "a failure is passed on" "$(value "$(ask bad.a.test A)" status)" SERVFAIL
far answer 192.0.2.6 30
check_eq "and not believed" "$(value "$(ask bad.a.test A)" status)" NOERROR

# ---- repetitions ----

far silent
before=$(counter repeated)
lab_in "$DEV" python3 - "$RTR4" <<'PY'
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(5):
    s.sendto(b"\x11\x11\1\0\0\1\0\0\0\0\0\0\6repeat\1a\4test\0\0\1\0\1", (sys.argv[1], 53))
    time.sleep(0.05)
PY
lab_wait 5 test "$(counter repeated)" -ge $((before + 4))
check_eq "a query that is repeated is asked once" "$(seen far repeat)" 1
check_num "the others are known" "$(counter repeated)" ">=" $((before + 4))

# ---- nonsense and greed ----

far answer 192.0.2.9 60
lab_in "$DEV" timeout 60 python3 - "$RTR4" <<'PY'
import os, random, socket, struct, sys, time
to = (sys.argv[1], 53)
good = b"\x22\x22\1\0\0\1\0\0\0\0\0\1\5greed\1a\4test\0\0\1\0\1\0\0\x29\4\xd0\0\0\0\0\0\0"
r = random.Random(6)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(3000):
    m = bytearray(good)
    for _ in range(r.randrange(1, 4)):
        m[r.randrange(2, len(m))] = r.randrange(256)
    u.sendto(bytes(m[:r.randrange(len(m) + 1)]) if i % 3 else os.urandom(r.randrange(1500)), to)
    if i % 50 == 0:
        time.sleep(0.01)
# TCP: more clients than are allowed, one that never reads, frames of nonsense, half a frame.
many = []
for _ in range(20):
    s = socket.create_connection(to)
    s.settimeout(0.5)
    many.append(s)
frame = struct.pack(">H", len(good)) + good
try:
    many[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(20000):
        many[0].sendall(frame)
except OSError:
    pass
for s, junk in zip(many[1:], (b"\xff\xff" + b"x" * 3000, b"\0\0" * 100, b"\0\3abc", b"\0")):
    try:
        s.sendall(junk)
    except OSError:
        pass
time.sleep(0.5)
PY
# dig's own time limit for what is left of it in the queues
lab_wait 10 answers data 192.0.2.9
check_eq "after nonsense and greed it answers" "$(value "$(ask sane.a.test A)" data)" 192.0.2.9
check_num "what was no query is counted" "$(counter malformed)" ">" 500
check_num "as are too many TCP connections of one client" "$(counter limited)" ">=" 12

# ---- nothing else went over the WAN ----

lab_capture_stop wan
check_eq "no DNS outside of the tunnel while the proxy works" "$(tcpdump -n -r "$LAB_DIR/wan.pcap" 2>/dev/null | grep -vc 'repeat')" 0
check_eq "the other name server was not asked" "$(grep -c "b'" "$LAB_DIR/near.log")" 0

# ---- without a proxy ----

far answer 192.0.2.8 1
direct=$(counter direct)
lab_kill proxy KILL
start=${EPOCHREALTIME/[.,]/}
out=$(ask dead.a.test A)
ms=$(((${EPOCHREALTIME/[.,]/} - start) / 1000))
check_eq "the proxy is dead: the other name server's answer" "$(value "$out" data)" 192.0.2.99
check_num "at once, ms" "$ms" "<" 4500
check_num "counted" "$(counter direct)" ">" "$direct"
echo "text 3000" >"$LAB_DIR/near"
out=$(ask +tcp deadbig.a.test TXT)
check_eq "directly, by TCP where it does not fit" "$(value "$out" count)" 15
proxied=$(counter proxied)
lab_daemon_start proxy
lab_wait 40 proxied_now "$proxied"
check_num "the proxy is back, and is asked again" "$(counter proxied)" ">" "$proxied"

# ---- strangers; a proxy without the service; no fallback ----

before=$(counter strangers)
lab_in "$SRV" dig @"$WAN1_4" +tries=1 +time=1 www.a.test A >/dev/null
check_num "who is not on the LAN gets no answer" "$(counter strangers)" ">" "$before"
lab_conf proxy proxy.dns=
lab_conf redir dns.fallback=no
lab_conf_write
lab_ctl proxy reload >/dev/null
lab_ctl redir reload >/dev/null
lab_kill far # ends the connection there is
lab_wait 12 answers status SERVFAIL
out=$(ask none.a.test A)
check_eq "a proxy without DNS service, and no fallback" "$(value "$out" status)" SERVFAIL
lab_conf redir dns.fallback=yes
lab_conf_write
lab_ctl redir reload >/dev/null
echo "answer 192.0.2.99 1" >"$LAB_DIR/near"
out=$(ask none2.a.test A)
check_eq "with fallback: directly" "$(value "$out" data)" 192.0.2.99
# Its own answer is a failure of the service, not of the proxy.
check_eq "the proxy is up all the same" "$(lab_ctl redir proxies --json | json - 'j["proxies"][0]["state"]')" up

# ---- a successor takes over the port ----

lab_ctl redir restart >/dev/null
lab_wait 15 answers data 192.0.2.99
out=$(ask restart.a.test A)
check_eq "after a restart in place" "$(value "$out" data)" 192.0.2.99

lab_daemons_stop
lab_end
