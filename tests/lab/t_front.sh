#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The front door: SOCKS 4, 4a, 5 and HTTP CONNECT on one port, carried over SOCKSv6
. "$(dirname "$0")/lib.sh"

CLOSED=81 DROPPED=82 # ports of the server
UNREACH4=192.0.2.77  # no route behind the proxy
DENIED4=203.0.113.66 # the proxy does not allow it
NAME=www.front.test

# fetch OPTION...: what curl on the router gets through the door, and its exit code if it gets nothing.
fetch() {
	local out rc
	mark
	out=$(lab_in "${LAB_FROM:-$RTR}" curl -sS --max-time 10 "$@" 2>"$LAB_DIR/curl.err")
	rc=$?
	[ $rc = 0 ] && echo "$out" || echo "curl-$rc"
}

# said HEX [ADDRESS [CLOSE-AFTER]]: everything that the door answers to these octets until it closes or
# is silent for so many seconds, as hex.
said() {
	lab_in "${LAB_FROM:-$RTR}" python3 - "$1" "${2:-::1}" "${3:-1.5}" <<-'PYTHON'
		import socket, sys
		s = socket.create_connection((sys.argv[2], 1080), 5)
		s.settimeout(float(sys.argv[3]))
		s.sendall(bytes.fromhex(sys.argv[1].replace(" ", "")))
		got, end = b"", "open"
		try:
		    while True:
		        b = s.recv(4096)
		        if not b:
		            end = "closed"
		            break
		        got += b
		except TimeoutError:
		    pass
		except ConnectionResetError:
		    end = "reset"
		print(got.hex(), end)
	PYTHON
}

# give_up HEX [ADDRESS]: 200 programs that say this and are gone a moment later, in order or not; then
# no flow is left.
give_up() {
	lab_in "${LAB_FROM:-$RTR}" python3 - "$1" "${2:-::1}" <<-'PYTHON'
		import random, socket, struct, sys, time
		random.seed(1)
		held = []
		for i in range(200):
		    s = socket.create_connection((sys.argv[2], 1080), 5)
		    s.sendall(bytes.fromhex(sys.argv[1].replace(" ", "")))
		    if i % 2:
		        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
		    held.append(s)
		    if random.random() < 0.5:
		        time.sleep(random.random() * 0.01)
		    while len(held) > random.randrange(20):
		        held.pop(random.randrange(len(held))).close()
	PYTHON
	lab_wait 15 no_flows || { lab_ctl redir flows; return 1; }
}

no_flows() { [ "$(lab_ctl redir status --json | json - 'j["flows"]')" = 0 ]; }

hex() { printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n'; }

# socks5 ADDRESS-HEX PORT: the code that SOCKS 5 gives for it, and how it ends
socks5() {
	said "050100 050100$1$(printf %04x "$2")" ::1 "${3:-8}" | sed -E 's/^050005(..)[^ ]*/\1/'
}

# http AUTHORITY [HEADER]: status of a CONNECT, and the Proxy-Status' error
http() {
	lab_in "$RTR" curl -s -o /dev/null --max-time 10 -D "$LAB_DIR/head" --proxytunnel -x "http://[::1]:1080" "http://$1/" \
		-w '%{http_connect}\n' "${@:2}"
	sed -n 's/.*error=\([a-z_]*\).*/\1/p' "$LAB_DIR/head"
}

ip4() { # as an address of SOCKS 5
	local n
	printf 01
	for n in ${1//./ }; do
		printf %02x "$n"
	done
}

# mark: what last tells of comes after this.
mark() { grep -c ' flow ' "$LAB_DIR/redir.log" >"$LAB_DIR/mark"; }

ended() { [ "$(grep -c ' flow ' "$LAB_DIR/redir.log")" -gt "$(cat "$LAB_DIR/mark")" ]; }

last() { # FIELD: of the last flow in the log
	lab_wait 5 ended
	grep ' flow ' "$LAB_DIR/redir.log" | tail -n 1 | sed -n "s/.* $1=\([^ ]*\).*/\1/p"
}

is_up() { [ "$(lab_ctl redir proxies --json | json - 'j["proxies"][0]["state"]')" = up ]; }

start() { # [lab_daemons OPTION...]
	lab_daemons --no-rules --redir "redir.socks=[::1]:1080, 127.0.0.1:1080" --proxy "proxy.resolve=127.0.0.1:5353" \
		--proxy proxy.connect_timeout=3 --proxy "acl.deny=$DENIED4" "$@"
	lab_wait 20 is_up || lab_die "no proxy: $(lab_ctl redir proxies)"
}

lab_up
lab_need curl socat openssl
lab_serve srv "$SRV" echo:7 banner:83
lab_nginx "$SRV"
lab_file big 3000000
lab_in "$SRV" nft -f - <<-END
	table inet away {
		chain input { type filter hook input priority 0; tcp dport $DROPPED drop; }
	}
END
ip -n "$PRX" route add unreachable 192.0.2.77/32
echo "answer $SRV4" >"$LAB_DIR/dns"
lab_bg dns "$PRX" "$LAB_SRC/tests/lab/nameserver.py" 127.0.0.1 5353 "$LAB_DIR/dns"
lab_wait 10 lab_logged dns ready || lab_die "nameserver.py"
# The router's own resolver, for when no proxy works.
mkdir -p "/etc/netns/$RTR"
trap 'rm -rf "/etc/netns/$RTR"; lab_exit' EXIT
echo "nameserver 127.0.0.1" >"/etc/netns/$RTR/resolv.conf"
echo "answer $SRV4B" >"$LAB_DIR/dns-rtr"
lab_bg dns-rtr "$RTR" "$LAB_SRC/tests/lab/nameserver.py" 127.0.0.1 53 "$LAB_DIR/dns-rtr"
lab_wait 10 lab_logged dns-rtr ready || lab_die "nameserver.py"

# ---- every kind ----
start
PAGE=$(cat "$LAB_DIR/www/index.html")
check_eq "SOCKS 4" "$(fetch --socks4 127.0.0.1:1080 "http://$SRV4/") $(last entry) $(last route)" "$PAGE socks4 proxy"
check_eq "SOCKS 4a" "$(fetch --socks4a 127.0.0.1:1080 "http://$NAME/") $(last entry)" "$PAGE socks4"
check_eq "SOCKS 5" "$(fetch --socks5 "[::1]:1080" "http://$SRV4/") $(last entry)" "$PAGE socks5"
check_eq "SOCKS 5, IPv6" "$(fetch --socks5 "[::1]:1080" "http://[$SRV6]/") $(last route)" "$PAGE proxy"
check_eq "SOCKS 5 with a name" "$(fetch --socks5-hostname "[::1]:1080" "http://$NAME/")" "$PAGE"
check_eq "HTTP CONNECT" "$(fetch -x "http://[::1]:1080" --proxytunnel "http://$SRV4/") $(last entry)" "$PAGE http"
check_eq "HTTP CONNECT with a name" "$(fetch -x "http://127.0.0.1:1080" --proxytunnel "http://$NAME/")" "$PAGE"
check_eq "HTTP CONNECT, IPv6" "$(fetch -x "http://[::1]:1080" --proxytunnel "http://[$SRV6]/")" "$PAGE"
check "the log line has the name" lab_logged redir "-> $NAME:80 entry=http route=proxy"
check "the proxy resolved the names" lab_logged dns "front"
check_eq "the router asked for none" "$(grep -c front "$LAB_DIR/dns-rtr.log")" 0
check_eq "the server sees the proxy" "$(awk '{ print $1 }' "$LAB_DIR/nginx-80/access.log" | sort -u | tr '\n' ' ')" "2001:db8:30::1 203.0.113.1 "
for kind in socks4 socks5h http; do
	lab_in "$RTR" curl -sS --max-time 30 -x "$kind://127.0.0.1:1080" --proxytunnel "http://$SRV4/big" -o "$LAB_DIR/big" 2>"$LAB_DIR/curl.err"
	check "$kind: 3 MB arrive" cmp "$LAB_DIR/big" "$LAB_DIR/www/big"
done
check_eq "another program: socat" "$(echo hello | lab_in "$RTR" socat -t 3 - "SOCKS4A:127.0.0.1:$NAME:7,socksport=1080" | head -n 1)" hello
check_eq "and by HTTP" "$(echo hello | lab_in "$RTR" socat -t 3 - "PROXY:127.0.0.1:$NAME:7,proxyport=1080" | head -n 1)" hello

git_clone() { # PROXY
	rm -rf "$LAB_DIR/clone"
	lab_in "$RTR" git -c "http.proxy=$1" clone -q "http://$NAME/repo.git" "$LAB_DIR/clone" 2>"$LAB_DIR/git.err" &&
		git -C "$LAB_DIR/clone" log --format=%s
}
if command -v git >/dev/null; then
	git init -q "$LAB_DIR/repo"
	git -C "$LAB_DIR/repo" -c user.name=a -c user.email=a@front.test commit -q --allow-empty -m "by the door"
	git clone -q --bare "$LAB_DIR/repo" "$LAB_DIR/www/repo.git" && git -C "$LAB_DIR/www/repo.git" update-server-info
	chmod -R a+rX "$LAB_DIR/www"
	check_eq "git by SOCKS 5" "$(git_clone "socks5h://[::1]:1080")" "by the door"
else
	skip "git" "it is not here"
fi
# ssh as it is: everything it needs is in the scratch directory.
ssh_by() { # PROXYCOMMAND
	lab_in "$RTR" timeout 20 ssh -F none -i "$LAB_DIR/ssh-key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
		-o LogLevel=ERROR -o BatchMode=yes -o "ProxyCommand=$1" -p 2222 "root@$NAME" echo by ssh 2>&1
}
sshd=$(command -v sshd)
if [ -n "$sshd" ] && command -v nc >/dev/null && id sshd >/dev/null 2>&1 && [ -d /run/sshd ]; then
	ssh-keygen -q -t ed25519 -N "" -f "$LAB_DIR/ssh-key"
	cp "$LAB_DIR/ssh-key.pub" "$LAB_DIR/ssh-allowed"
	lab_bg sshd "$SRV" "$sshd" -D -e -p 2222 -f /dev/null -h "$LAB_DIR/ssh-key" -o "AuthorizedKeysFile=$LAB_DIR/ssh-allowed" \
		-o StrictModes=no -o PidFile=none -o UsePAM=no -o PermitRootLogin=yes
	lab_wait_port "$SRV" 2222
	check_eq "ssh by SOCKS 5" "$(ssh_by "nc -X 5 -x [::1]:1080 %h %p")" "by ssh"
	check_eq "ssh by HTTP CONNECT" "$(ssh_by "nc -X connect -x 127.0.0.1:1080 %h %p")" "by ssh"
	check_eq "ssh by SOCKS 4a" "$(ssh_by "socat - SOCKS4A:127.0.0.1:%h:%p,socksport=1080")" "by ssh"
else
	skip "ssh" "needs sshd and nc"
fi

# ---- what comes early, and in pieces ----
GET=$(printf 'GET / HTTP/1.0\r\n\r\n' | od -An -v -tx1 | tr -d ' \n')
early=$(said "050100 050100$(ip4 "$SRV4")0050 $GET" ::1 8)
check_eq "all at once: handshake, request and first bytes" "${early:0:24} ${early##* }" "050005000001000000000000 closed"
check_eq "and the page is behind them" "$(cut -d' ' -f1 <<<"${early:24}" | xxd -r -p | tail -n 1)" "$PAGE"
in_pieces() { # octet by octet
	lab_in "$RTR" python3 - <<-PYTHON
		import socket, time
		s = socket.create_connection(("::1", 1080), 5)
		s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
		s.settimeout(8)
		for b in b"CONNECT $SRV4:7 HTTP/1.1\r\nHost: x\r\n\r\nearly":
		    s.send(bytes([b]))
		    time.sleep(0.003)
		got = b""
		while b"early" not in got:
		    got += s.recv(100)
		print(got.decode().replace("\r\n", "|"))
	PYTHON
}
check_eq "octet by octet" "$(in_pieces)" "HTTP/1.1 200 Connection established||early"
check_eq "the server speaks first" "$(said "050100 050100$(ip4 "$SRV4")0053" ::1 3 | cut -c 1-28 | cut -c 25-)" "$(hex "$(lab_in "$PRX" timeout 1 socat -u "TCP:$SRV4:83" - | head -c 2)")"

# ---- the truth about failures ----
check_eq "SOCKS 5: refused" "$(socks5 "$(ip4 "$SRV4")" $CLOSED)" "05 closed"
check_eq "SOCKS 5: unreachable" "$(socks5 "$(ip4 "$UNREACH4")" 80)" "04 closed"
check_eq "SOCKS 5: nobody answers" "$(socks5 "$(ip4 "$SRV4")" $DROPPED)" "06 closed"
check_eq "SOCKS 5: not allowed" "$(socks5 "$(ip4 "$DENIED4")" 80)" "02 closed"
check_eq "SOCKS 4: refused" "$(said "0401$(printf %04x $CLOSED)$(ip4 "$SRV4" | cut -c 3-)00" 127.0.0.1 5)" "005b000000000000 closed"
check_eq "HTTP: refused" "$(http "$SRV4:$CLOSED" | tr '\n' ' ')" "502 connection_refused "
check_eq "HTTP: unreachable" "$(http "$UNREACH4" | tr '\n' ' ')" "502 destination_unavailable "
check_eq "HTTP: nobody answers" "$(http "$SRV4:$DROPPED" | tr '\n' ' ')" "504 connection_timeout "
check_eq "HTTP: not allowed" "$(http "$DENIED4" | tr '\n' ' ')" "403 http_request_denied "
check_eq "BIND: the proxy allows no port" "$(said "050100 05020001000000000000" ::1 5)" "050005020001""000000000000 closed"
check_eq "a command that is none" "$(said "050100 05040001000000000000" ::1 5)" "050005070001""000000000000 closed"
check_eq "HTTP: another method" "$(said "$(printf 'GET http://a/ HTTP/1.1\r\n\r\n' | od -An -v -tx1 | tr -d ' \n')" | xxd -r -p 2>/dev/null | head -n 1 | tr -d '\r')" "HTTP/1.1 405 Method Not Allowed"
check_eq "TLS at the door: closed without a word" "$(said 16030100a5)" " reset"
check_eq "addresses that are nobody's" "$(socks5 "$(ip4 0.0.0.0)" 80) $(socks5 "$(ip4 224.0.0.1)" 80)" "02 closed 02 closed"
check_eq "early data does not lose the reply" "$(said "050100 050100$(ip4 "$SRV4")$(printf %04x $CLOSED) $GET" ::1 5)" "050005050001""000000000000 closed"

# ---- what sixpathctl shows ----
lab_bg holder "$RTR" socat "EXEC:sleep 60" "SOCKS4A:127.0.0.1:$NAME:7,socksport=1080"
flows_name() { lab_ctl redir flows --json | json - '[(f["destination"], f["entry"], f["state"]) for f in j["flows"]]'; }
has_flow() { flows_name | grep -qF "[\"$NAME:7\", \"socks4\", \"relay\"]"; }
check "it stands in flows" lab_wait 5 has_flow
lab_kill holder
check_num "and in status" "$(lab_ctl redir status --json | json - 'j["counters"]["front"]')" ">=" 20

# ---- slow and many ----
check_eq "who says nothing is sent away" "$(said 0501 ::1 15)" " reset"
crowd() {
	lab_in "$RTR" python3 - <<-'PYTHON'
		import socket
		held = []
		refused = 0
		for i in range(300):
		    try:
		        s = socket.create_connection(("::1", 1080), 5)
		        s.send(b"\5")
		        held.append(s)
		    except (ConnectionResetError, BrokenPipeError):
		        refused += 1 # it was faster than we
		for s in held:
		    s.settimeout(0.02)
		    try:
		        refused += s.recv(1) == b""
		    except TimeoutError:
		        pass
		    except ConnectionResetError:
		        refused += 1
		print(refused)
	PYTHON
}
check_eq "of 300 that do not say where to 256 may wait" "$(crowd)" 44
check_eq "and then there is room again" "$(fetch --socks5 "[::1]:1080" "http://$SRV4/")" "$PAGE"

# ---- gone in every state ----
check "gone in the middle of a request" give_up "050100 0501"
check "gone while the proxy asks the server" give_up "050100 050100$(ip4 "$SRV4")$(printf %04x $DROPPED)"
check "gone while it relays" give_up "050100 050100$(ip4 "$SRV4")0007 6162"
check "gone with an association" give_up "050100 05030001000000000000"
check "gone while the proxy is asked for a port" give_up "050100 05020001000000000000 6162"
check "gone at a refusal" give_up "050100 050100$(ip4 "$SRV4")$(printf %04x $CLOSED) $GET"

# ---- when no proxy works ----
lab_kill proxy KILL
is_down() { [ "$(lab_ctl redir proxies --json | json - 'j["proxies"][0]["state"]')" = down ]; }
fetch --socks5 "[::1]:1080" "http://$SRV4/" >/dev/null
lab_wait 20 is_down
check_eq "directly, with our own resolver" "$(fetch --socks5-hostname "[::1]:1080" "http://$NAME/") $(last route)" "$PAGE direct"
check "it was asked" lab_logged dns-rtr front
check_eq "and the address that it gave was used" "$(tail -n 1 "$LAB_DIR/nginx-80/access.log" | awk '{ print $1 }')" "$WAN1_4"
check_eq "directly, refused" "$(http "$NAME:$CLOSED" | tr '\n' ' ')" "502 connection_refused "
echo servfail >"$LAB_DIR/dns-rtr"
check_eq "no such name" "$(http other.front.test | tr '\n' ' ')" "502 dns_error "
echo silent >"$LAB_DIR/dns-rtr"
check "gone while the name is asked for" give_up "050100 05010003$(printf %02x ${#NAME})$(hex $NAME)0050"
lab_conf redir connect.on_proxy_failure=refuse
lab_conf_write
lab_ctl redir reload >/dev/null
check_eq "on_proxy_failure = refuse: HTTP" "$(http "$SRV4" | tr '\n' ' ')" "503 destination_unavailable "
check_eq "on_proxy_failure = refuse: SOCKS 5" "$(socks5 "$(ip4 "$SRV4")" 80)" "01 closed"
lab_daemon_stop redir

# ---- users ----
printf 'front secret\n' | "$SIXPATH_BUILD/src/tools/sixpathctl" passwd "$LAB_DIR/front-users" ann >/dev/null
chown "$LAB_USER" "$LAB_DIR/front-users"
rm -f "$LAB_DIR/rules.log"
start --redir "redir.socks=[::]:1080" --redir "redir.socks_users=$LAB_DIR/front-users"
LAB_FROM=$DEV
door=$RTR4:1080
check_eq "users: SOCKS 5 from the LAN" "$(fetch -x "socks5h://ann:front%20secret@$door" "http://$NAME/")" "$PAGE"
check_eq "users: HTTP from the LAN" "$(fetch -x "http://ann:front%20secret@$door" --proxytunnel "http://$NAME/")" "$PAGE"
check_eq "users: a wrong password" "$(fetch -x "socks5h://ann:wrong@$door" "http://$NAME/")" curl-97
check_eq "users: it is told so" "$(said "050102 01 03 616e6e 05 77726f6e67" "$RTR4" 8)" "05020101 closed"
fetch -x "http://ann:wrong@$door" --proxytunnel "http://$NAME/" >/dev/null
check "users: and by HTTP" grep -q 407 "$LAB_DIR/curl.err"
check_eq "users: an unknown one" "$(said "050102 01 03 626f62 05 77726f6e67" "$RTR4" 8)" "05020101 closed"
check_eq "users: none given" "$(said 050100 "$RTR4" 5)" "05ff closed"
check_eq "users: SOCKS 4 has no place for a password" "$(said "04010050$(ip4 "$SRV4" | cut -c 3-)00" "$RTR4" 5)" "005b000000000000 closed"
AUTH="050102 01 03 616e6e 0c $(hex "front secret")"
check_eq "users: the router's own addresses are not theirs" "$(said "$AUTH 050100$(ip4 127.0.0.1)0050" "$RTR4" 8) $(said "$AUTH 050100$(ip4 "$RTR4")0050" "$RTR4" 8)" \
	"0502010005020001000000000000 closed 0502010005020001000000000000 closed"
check "users: gone while the password is checked" give_up "050102 01 03 616e6e 05 77726f6e67" "$RTR4"
check "the log names no password" sh -c "! grep -qE 'front secret|ZnJvbnQ' '$LAB_DIR/redir.log'"

# ---- a successor ----
LAB_FROM=$RTR
lab_ctl redir restart >/dev/null
check_eq "after a hand-over" "$(fetch -x "socks5h://ann:front%20secret@[::1]:1080" "http://$NAME/")" "$PAGE"
unset "LAB_PIDS[redir]"
pid=$(lab_ctl redir status --json | json - 'j["pid"]')
kill -TERM "$pid"
check "the successor ends" lab_wait 15 lab_gone "$pid"
check "without a report of the sanitizers" sh -c "! grep -qE 'Sanitizer|runtime error:' '$LAB_DIR/redir.log'"
lab_daemon_stop proxy

# ---- a loop ----
lab_conf redir "redir.socks=[::1]:1080" redir.socks_users= "proxy home.address=[::1]:1080" "proxy home.protocol=socks5" \
	"proxy home.username=" "proxy home.password_file=" "proxy home.mptcp=no"
lab_conf_write
lab_daemon_start redir
lab_wait 10 is_up
check_eq "an upstream that is ourselves" "$(fetch --socks5 "[::1]:1080" "http://$SRV4/")" "$PAGE"
check "the connection goes directly" lab_wait 5 lab_logged redir "entry=socks5 route=direct"
check "it is noticed" lab_logged redir "came back: no proxy may have the address of socks"
lab_daemon_stop redir

# ---- configuration ----
lab_conf redir "redir.socks=0.0.0.0:1080" redir.socks_users=
lab_conf_write
"$SIXPATH_BUILD/src/redir/sixpath-redir" -t -c "$LAB_DIR/redir.conf" >"$LAB_DIR/check.log" 2>&1
check_eq "open to all without users is refused" "$? $(grep -c 'socks: .*0.0.0.0:1080 can be reached by others: set socks_users' "$LAB_DIR/check.log")" "1 1"
rm -rf "/etc/netns/$RTR"
lab_end
