#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# UDP ASSOCIATE and BIND at the front door, carried over SOCKSv6
. "$(dirname "$0")/lib.sh"

CLIENT=$LAB_SRC/tests/lab/front_client.py
UDP=$LAB_SRC/tests/lab/udp_peer.py
NAME=www.front.test
DOOR4=127.0.0.1:1080 DOOR6="[::1]:1080"

# associate DOOR STEP...: what the program meets, in one line
associate() {
	lab_in "${LAB_FROM:-$RTR}" timeout 60 "$CLIENT" udp "$@" 2>&1 | tr '\n' '|'
}

# listen DOOR HOST PORT [OPTION...]: a program that asks for a port, in the background; $LAB_DIR/bind.log
listen() {
	lab_kill bind
	: >"$LAB_DIR/bind.log"
	lab_bg bind "${LAB_FROM:-$RTR}" "$CLIENT" bind "$@"
}
listens() { lab_logged bind "bound "; }
told() { tr '\n' '|' <"$LAB_DIR/bind.log"; }
is_told() { lab_logged bind "$1"; }

# peer ADDRESS [SOURCE]: somebody connects to the port at the proxy, and says hello
peer() {
	echo "hello from afar" | lab_in "$SRV" timeout 10 socat -t 3 - "TCP:$1:9000${2:+,bind=$2}" 2>&1
}

matches() { grep -q -- "$2" "$LAB_DIR/$1.log"; } # NAME REGEX
counter() { lab_ctl redir status --json | json - "j['udp']['$1']"; }
from() { json "$LAB_DIR/$1.log" '[d for d in j if "from" in d][-1]["from"]'; }
heard() { json "$LAB_DIR/$1.log" 'len([d for d in j if "from" in d])'; }
rows() { lab_ctl redir "$1" --json | json - "[${3:-r} for r in j['$2']]"; }
none_left() { [ "$(lab_ctl redir status --json | json - 'j["flows"] + j["udp"]["associations"]')" = 0 ]; }
is_up() { [ "$(lab_ctl redir proxies --json | json - 'j["proxies"][0]["state"]')" = up ]; }
is_down() { [ "$(lab_ctl redir proxies --json | json - 'j["proxies"][0]["state"]')" = down ]; }

start() { # [lab_daemons OPTION...]
	lab_daemons --no-rules --redir "redir.socks=$DOOR4, $DOOR6" --proxy "proxy.resolve=127.0.0.1:5353" \
		--proxy "acl.allow=203.0.113.0/24, 2001:db8:30::/64" --proxy "user home.bind_ports=9000" "$@"
	lab_wait 20 is_up || lab_die "no proxy: $(lab_ctl redir proxies)"
}

# The redirector once more, with another configuration
again() { # SECTION.KEY=VALUE...
	lab_daemon_stop redir
	lab_conf redir "$@"
	lab_conf_write
	lab_daemon_start redir
	lab_wait 20 is_up || lab_die "no proxy: $(lab_ctl redir proxies)"
}

lab_need socat
lab_up
lab_bg echo "$SRV" "$UDP" serve 7000 --on "$SRV4" --on "$SRV6" --stranger "$SRV4B:7777" --stranger "[$SRV6B]:7777"
lab_bg local "$RTR" "$UDP" serve 7200 --on 127.0.0.1 --on ::1
lab_bg quic "$SRV" "$UDP" serve 443 --on "$SRV4"
lab_bg direct "$SRV" "$UDP" serve 7100 --on "$SRV4" --on "$SRV6"
echo "answer $SRV4" >"$LAB_DIR/dns"
lab_bg dns "$PRX" "$LAB_SRC/tests/lab/nameserver.py" 127.0.0.1 5353 "$LAB_DIR/dns"
mkdir -p "/etc/netns/$RTR"
trap 'rm -rf "/etc/netns/$RTR"; lab_exit' EXIT
echo "nameserver 127.0.0.1" >"/etc/netns/$RTR/resolv.conf"
cp "$LAB_DIR/dns" "$LAB_DIR/dns-rtr"
lab_bg dns-rtr "$RTR" "$LAB_SRC/tests/lab/nameserver.py" 127.0.0.1 53 "$LAB_DIR/dns-rtr"
for one in echo local quic direct dns dns-rtr; do
	lab_wait 10 lab_logged $one ready || lab_die "$one: $(cat "$LAB_DIR/$one.log")"
done

# ---- datagrams, by both ways to the proxy ----
start
for transport in auto udp tcp; do
	[ $transport = auto ] || again udp.transport=$transport
	for door in "$DOOR4" "$DOOR6"; do
		at=${door%:*} && at=${at#[} && at=${at%]}
		check_eq "$transport, $door: IPv4" "$(associate "$door" "ask $SRV4 7000 one" "ask $SRV4 7000 two")" "at $at|$SRV4 7000 one|$SRV4 7000 two|"
		check_eq "... by the proxy" "$(from echo)" 203.0.113.1
		check_eq "$transport, $door: IPv6" "$(associate "$door" "ask $SRV6 7000 six")" "at $at|$SRV6 7000 six|"
		check_eq "... by the proxy" "$(from echo)" 2001:db8:30::1
	done
	check_eq "$transport: a name, and the true address comes back" "$(associate "$DOOR6" "ask $NAME 7000 named")" "at ::1|$SRV4 7000 named|"
	check_eq "$transport: full cone" "$(associate "$DOOR4" "ask $SRV4 7000 call" hear "ask $SRV6 7000 call" hear)" \
		"at 127.0.0.1|$SRV4 7000 call|$SRV4B 7777 stranger|$SRV6 7000 call|$SRV6B 7777 stranger|"
	check_eq "$transport: sizes" "$(associate "$DOOR6" "big $SRV4 7000 0" "big $SRV4 7000 1400" "big $SRV4 7000 9000" "big $SRV4 7000 60000")" "at ::1|same|same|same|same|"
	check_num "$transport: of 400 in a row come back" "$(associate "$DOOR4" "ask $SRV4 7000 first" "many $SRV4 7000 400" | cut -d'|' -f3)" ">=" 390
	check "$transport: nothing is left" lab_wait 5 none_left
done
check_num "counted: inside the connection" "$(counter by_tcp)" ">=" 8
check "the proxy resolved the name" lab_logged dns front
check_eq "the router asked for none" "$(grep -c front "$LAB_DIR/dns-rtr.log")" 0
check_eq "none went directly" "$(counter direct)" 0

# Another's client of UDP ASSOCIATE: the Debian package python3-socks.
pysocks() { # HOST
	lab_in "$RTR" timeout 20 /usr/bin/python3 - "$1" <<-'PYTHON'
		import socket, socks, sys
		s = socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM)
		s.set_proxy(socks.SOCKS5, "127.0.0.1", 1080)
		s.settimeout(5)
		s.sendto(b"by another", (sys.argv[1], 7000))
		data, peer = s.recvfrom(100)
		print(data.decode(), *peer)
	PYTHON
}
if /usr/bin/python3 -c "import socks" 2>/dev/null; then
	check_eq "another program: PySocks" "$(pysocks "$SRV4")" "by another $SRV4 7000"
	check_eq "... with a name" "$(pysocks "$NAME")" "by another $SRV4 7000"
else
	skip "PySocks" "python3-socks is not here"
fi

# ---- what is not the program's, or no whole datagram ----
again udp.transport=auto
lab_in "$RTR" ip addr add 127.0.0.9/8 dev lo
before=$(heard echo)
check_eq "another socket and another address are not heard" \
	"$(associate "$DOOR4" --wait 1 "ask $SRV4 7000 mine" "stranger 127.0.0.1 $SRV4 7000 not" "stranger 127.0.0.9 $SRV4 7000 not" "ask $SRV4 7000 mine")" \
	"at 127.0.0.1|$SRV4 7000 mine|nothing|nothing|$SRV4 7000 mine|"
check_eq "... and nothing of theirs arrives" "$(($(heard echo) - before))" 2
check "... the log says how many" lab_wait 3 matches redir "associate .* strangers=2"
check_eq "an announced port counts from the beginning" \
	"$(associate "$DOOR4" --wait 1 --port 5678 "stranger 127.0.0.1 $SRV4 7000 not" "ask $SRV4 7000 mine")" "at 127.0.0.1|nothing|$SRV4 7000 mine|"
before=$(heard echo)
check_eq "fragments and nonsense are dropped" \
	"$(associate "$DOOR4" --wait 1 "frag $SRV4 7000 part" "raw 00" "raw 000000" "raw 0000000501020304" "raw 00000001cb0071020000" "ask $SRV4 7000 whole")" \
	"at 127.0.0.1|nothing|nothing|nothing|nothing|nothing|$SRV4 7000 whole|"
check_eq "... one has arrived" "$(($(heard echo) - before))" 1
check_eq "with the connection the association ends" "$(associate "$DOOR4" --wait 1 "ask $SRV4 7000 before" close "ask $SRV4 7000 after" 2>&1 | cut -d'|' -f1-3)" \
	"at 127.0.0.1|$SRV4 7000 before|nothing"
check_eq "what cannot be reached is only counted" "$(associate "$DOOR4" --wait 1 "ask $SRV4 7999 nobody")" "at 127.0.0.1|nothing|"
check_num "... as an error nobody was told of" "$(counter icmp_untold)" ">=" 1

# ---- policy ----
again udp.refuse=443 udp.direct=7100
check_eq "refused by port" "$(associate "$DOOR4" --wait 1 "ask $SRV4 443 quic" "ask $NAME 443 quic")" "at 127.0.0.1|nothing|nothing|"
check_eq "... it did not arrive" "$(heard quic)" 0
check_num "... and is counted" "$(counter refused)" ">=" 2
check_eq "directly by port, and by the proxy, in one association" "$(associate "$DOOR6" "ask $SRV4 7100 d4" "ask $SRV6 7100 d6" "ask $SRV4 7000 p" "ask $NAME 7100 dn" "ask $NAME 7100 dm")" \
	"at ::1|$SRV4 7100 d4|$SRV6 7100 d6|$SRV4 7000 p|$SRV4 7100 dn|$SRV4 7100 dm|"
check_eq "... the server sees the router" "$(json "$LAB_DIR/direct.log" '[d["from"] for d in j if "from" in d and ":" not in d["from"]][-1]')" "$WAN1_4"
check "... the router has asked for the name" lab_logged dns-rtr front
check_eq "the router itself, for a program on it" "$(associate "$DOOR4" "ask 127.0.0.1 7200 self")" "at 127.0.0.1|127.0.0.1 7200 self|"

again redir.mode=redirect udp.direct= udp.refuse=
check_eq "mode = redirect, without UDP of devices" "$(associate "$DOOR4" "ask $SRV4 7000 r4" "ask $NAME 7000 rn")" "at 127.0.0.1|$SRV4 7000 r4|$SRV4 7000 rn|"
again redir.mode=tproxy

# ---- what sixpathctl shows ----
lab_bg holder "$RTR" "$CLIENT" udp "$DOOR4" "ask $SRV4 7000 hold" "hold 30"
lab_wait 10 lab_logged holder hold
check_eq "flows" "$(rows flows flows '[r["entry"], r["route"], r["proxy"], r["state"]]')" '[["socks5", "proxy", "home", "associate"]]'
check_eq "udp" "$(rows udp associations '[r["entry"], r["proxy"], r["state"], r["datagrams_up"], r["datagrams_down"]]')" '[["socks5", "home", "up", 1, 1]]'
lab_kill holder
check "gone with the program" lab_wait 5 none_left

# ---- many at a time ----
again udp.max=16 redir.workers=1
many_said() { cat "$LAB_DIR"/many*.log | grep -c "$1"; }
all_said() { [ "$(many_said 'held\|nothing')" = 18 ]; }
for i in {1..18}; do
	lab_bg "many$i" "$RTR" "$CLIENT" udp "$DOOR4" --wait 2 "ask $SRV4 7000 held$i" "hold 30"
done
lab_wait 20 all_said
check_eq "of 18 programs 16 are served: max in [udp]" "$(many_said held) $(counter associations) $(counter evicted)" "16 16 0"
for i in {1..18}; do
	lab_kill "many$i"
done
check "and all of it is given back" lab_wait 5 none_left
again udp.max=4096 redir.workers=2

# ---- BIND ----
listen "$DOOR4" "$SRV4" 0 hello-from-here
check "BIND: bound" lab_wait 10 listens
check_eq "... it stands in flows" "$(rows flows flows '[r["entry"], r["state"], r["destination"]]')" "[[\"socks5\", \"listen\", \"$PRX4:9000\"]]"
check_eq "... the peer hears the program" "$(peer 203.0.113.1 "$SRV4")" hello-from-here
lab_wait 5 is_told afar
check_eq "... which is told where, who, and what he says" "$(told | sed -E "s/(peer $SRV4) [0-9]+/\1/")" "bound $PRX4 9000|peer $SRV4|hello from afar|"
check "... the log has it" lab_wait 5 matches redir "bind .* entry=socks5 proxy=home peer=$SRV4:[0-9]* .*reason=closed"
listen "$DOOR4" --early "$SRV4" 0 early-bird
lab_wait 10 listens
check_eq "what comes before the peer is for him" "$(peer 203.0.113.1 "$SRV4") $(lab_wait 5 is_told afar && echo told)" "early-bird told"
listen "$DOOR6" :: 0 six
lab_wait 10 listens
check_eq "BIND for anybody; he comes by IPv6" "$(peer "[2001:db8:30::1]" "[$SRV6]") $(lab_wait 5 is_told afar; told | sed -E "s/(peer $SRV6) [0-9]+/\1/")" "six bound $PRX4 9000|peer $SRV6|hello from afar|"
listen "$DOOR4" "$SRV4" 0 hello
lab_wait 10 listens
check_eq "BIND: another peer than the wished one" "$(peer 203.0.113.1 "$SRV4B" | grep -c hello) $(lab_wait 5 is_told refused; told)" "0 bound $PRX4 9000|refused 2|"
listen "$DOOR4" --socks4 "$SRV4" 80 four
lab_wait 10 listens
check_eq "SOCKS 4 BIND" "$(peer 203.0.113.1) $(lab_wait 5 is_told afar; told | sed -E "s/(peer $SRV4) [0-9]+/\1/")" "four bound $PRX4 9000|peer $SRV4|hello from afar|"
listen "$DOOR4" 0.0.0.0 0
lab_wait 10 listens
check_eq "a second port is not to be had" "$(lab_in "$RTR" "$CLIENT" bind "$DOOR4" 0.0.0.0 0)" "refused 1"
lab_kill bind
check "a program that gives up leaves nothing" lab_wait 5 none_left
check_eq "a name cannot be waited for" "$(lab_in "$RTR" "$CLIENT" bind "$DOOR4" "$NAME" 0)" "refused 7"
lab_conf proxy proxy.bind_timeout=1
lab_conf_write
lab_ctl proxy reload >/dev/null
check_eq "nobody comes" "$(lab_in "$RTR" "$CLIENT" bind "$DOOR4" 0.0.0.0 0 | tr '\n' '|')" "bound $PRX4 9000|refused 6|"
lab_conf proxy "user home.bind_ports="
lab_conf_write
lab_ctl proxy reload >/dev/null
check_eq "no port is allowed" "$(lab_in "$RTR" "$CLIENT" bind "$DOOR4" 0.0.0.0 0)" "refused 2"
check "... the log says what to do" matches redir "proxy home gives no port: .*bind_ports"

# ---- losses ----
lab_bg across "$RTR" "$CLIENT" udp "$DOOR4" "ask $SRV4 7000 first" "hold 4" "ask $SRV4 7000 second"
lab_wait 10 lab_logged across first
lab_daemon_stop proxy
lab_daemon_start proxy
check "an association outlives the proxy's restart" lab_wait 15 lab_logged across "$SRV4 7000 second"
check_num "... formed again" "$(counter reformed)" ">=" 1
lab_kill proxy KILL
lab_wait 30 is_down
check_eq "no proxy: directly" "$(associate "$DOOR6" "ask $SRV4 7000 none" "ask $SRV6 7000 none6" "ask $NAME 7000 nonamed")" "at ::1|$SRV4 7000 none|$SRV6 7000 none6|$SRV4 7000 nonamed|"
check_eq "... from the router" "$(from echo)" "$WAN1_4"
check_eq "no proxy: BIND" "$(lab_in "$RTR" "$CLIENT" bind "$DOOR4" 0.0.0.0 0)" "refused 1"
lab_conf redir connect.on_proxy_failure=refuse
lab_conf_write
lab_ctl redir reload >/dev/null
check_eq "no proxy, on_proxy_failure = refuse" "$(associate "$DOOR4" "ask $SRV4 7000 x")" "refused 1|"
lab_daemon_stop redir
lab_conf redir "proxy home.protocol=socks5" "proxy home.tfo="
lab_conf_write
lab_daemon_start redir
check_eq "an upstream of SOCKS 5 has neither" "$(associate "$DOOR4" "ask $SRV4 7000 x") $(lab_in "$RTR" "$CLIENT" bind "$DOOR4" 0.0.0.0 0)" "refused 7| refused 7"
lab_daemon_stop redir

# ---- users, from the LAN ----
printf 'front secret\n' | "$SIXPATH_BUILD/src/tools/sixpathctl" passwd "$LAB_DIR/front-users" ann >/dev/null
chown "$LAB_USER" "$LAB_DIR/front-users"
start --redir "redir.socks=[::]:1080" --redir "redir.socks_users=$LAB_DIR/front-users"
LAB_FROM=$DEV
check_eq "from the LAN, with a password" "$(associate "$RTR4:1080" --user "ann:front secret" "ask $SRV4 7000 lan" "ask $SRV6 7000 lan")" "at $RTR4|$SRV4 7000 lan|$SRV6 7000 lan|"
check_eq "... by IPv6" "$(associate "[$RTR6]:1080" --user "ann:front secret" "ask $SRV4 7000 lan6")" "at $RTR6|$SRV4 7000 lan6|"
before=$(heard local)
check_eq "... not to the router's own addresses" "$(associate "$RTR4:1080" --wait 1 --user "ann:front secret" "ask 127.0.0.1 7200 no" "ask ::1 7200 no" "ask $RTR4 7200 no")" "at $RTR4|nothing|nothing|nothing|"
check_eq "... nothing arrived there" "$(heard local)" "$before"
check_eq "... not without" "$(associate "$RTR4:1080" "ask $SRV4 7000 lan")" "EOFError|"
listen "$RTR4:1080" --user "ann:front secret" "$SRV4" 0 to-the-lan
lab_wait 10 listens
check_eq "BIND from the LAN" "$(peer 203.0.113.1)" to-the-lan
check_num "by MPTCP, over both links" "$(lab_wait 5 matches redir "bind $DEV4.*subflows"; sed -n "s/.* bind $DEV4.*mptcp=yes subflows=\([0-9]*\).*/\1/p" "$LAB_DIR/redir.log" | tail -n 1)" ">=" 1
check "nothing is left" lab_wait 10 none_left

# ---- a successor takes over; what there is stays with the predecessor ----
pid_of() { lab_ctl redir status --json | json - 'j["pid"]'; }
restarted() {
	local now
	now=$(pid_of 2>/dev/null) && [ -n "$now" ] && [ "$now" != "$1" ]
}
old=$(pid_of)
lab_bg across2 "$DEV" "$CLIENT" udp "$RTR4:1080" --user "ann:front secret" "ask $SRV4 7000 first" "hold 5" "ask $SRV4 7000 second"
lab_wait 10 lab_logged across2 first
check "restart" lab_ctl redir restart
check "... a successor answers" lab_wait 10 restarted "$old"
check_eq "... and serves" "$(associate "$RTR4:1080" --user "ann:front secret" "ask $SRV4 7000 new")" "at $RTR4|$SRV4 7000 new|"
check "... the association goes on" lab_wait 10 lab_logged across2 "$SRV4 7000 second"
check "... with its end the predecessor ends" lab_wait 10 lab_gone "$old"
LAB_PIDS[redir]=$(pid_of) # no child of this shell
rm -rf "/etc/netns/$RTR"
lab_end
