#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Programs as they are, on a device that knows of no proxy, over UDP: dig, tracepath, iperf3, DTLS, QUIC, STUN, SIP, NTP
. "$(dirname "$0")/lib.sh"

PROXY4="203.0.113.1 " PROXY6="2001:db8:30::1 " # as the servers see it

# have PROGRAM...: or the case is skipped.
have() {
	local p
	for p; do
		command -v "$p" >/dev/null || { skip "$*" "needs the program '$p'"; return 1; }
	done
}

device() { lab_in "$DEV" timeout 30 "$@"; }

# seen FILTER: the sources of what has come to the server so far, with their ports
seen() {
	tcpdump -nr "$LAB_DIR/srv.pcap" "$1 and (dst net 203.0.113.0/24 or dst net 2001:db8:30::/48)" 2>/dev/null |
		awk '{ print $3 }' | sort -u
}

senders() { seen "$1" | sed 's/\.[0-9]*$//' | sort -u | tr '\n' ' '; }
sent_by() { [ "$(senders "$1")" = "$2" ]; }

# by_proxy NAME FILTER [WHOM]: of these packets the server has seen the proxy's, and no others
by_proxy() {
	lab_wait 2 sent_by "$2" "${3:-$PROXY4}"
	check_eq "$1: the server sees the proxy" "$(senders "$2")" "${3:-$PROXY4}"
}

lab_up
lab_far
lab_need openssl
mkdir -p "$LAB_DIR/www" "$LAB_DIR/got"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=lab \
	-keyout "$LAB_DIR/key.pem" -out "$LAB_DIR/cert.pem" 2>/dev/null || lab_die "no certificate"
lab_capture srv "$SRV" eth0 "udp or tcp port 53"
# Answers to programs that have ended are refused by the device itself, and its ICMP is not captured.
lab_capture wan "$RTR" wan1 "(net 203.0.113.0/24 or net 2001:db8:30::/48) and not icmp and not icmp6"
lab_daemons --no-rules --redir rules.install=yes --redir rules.capture=lan --redir udp.proxy=1-65535 \
	--proxy "acl.allow=203.0.113.0/24, 2001:db8:30::/64, 2001:db8:30:ff::/64"
lab_wait 10 lab_in "$RTR" nft list chain inet sixpath take_udp || lab_die "no UDP rules"

# ---- names ----

ask() { device dig "@$SRV4" +tries=1 +time=5 +short "$@"; }
if have dig; then
	lab_bg ns "$SRV" python3 -u "$LAB_SRC/tests/lab/nameserver.py" "$SRV4" 53 "$LAB_DIR/names"
	lab_wait 10 lab_logged ns ready || lab_die "name server"
	echo "answer 192.0.2.77 60" >"$LAB_DIR/names"
	check_eq "dig" "$(ask www.example.net A)" 192.0.2.77
	by_proxy "dig" "udp dst port 53"
	check_eq "dig +tcp" "$(ask +tcp www.example.net A)" 192.0.2.77
	by_proxy "dig +tcp" "tcp dst port 53"
	echo "text 3000 60" >"$LAB_DIR/names"
	check_eq "dig: 3000 octets by UDP, in fragments" "$(ask +ignore +bufsize=4096 big.example.net TXT | wc -l)" 15
	check_eq "dig: 3000 octets truncated, and then by TCP" "$(ask +bufsize=1232 big.example.net TXT | wc -l)" 15
	check_eq "dig: how the server was asked" "$(grep -o '\(udp\|tcp\)$' "$LAB_DIR/ns.log" | tr '\n' ' ')" \
		"udp tcp udp udp tcp "
fi

# ---- the path and its MTU ----

path() { # ADDRESS: hops and MTU, as tracepath tells
	device tracepath -n -m 8 "$1" 2>&1 | sed "s/$SRV6B/$SRV6/" | # the kernel chooses
		awk '/^ *[0-9]+: / && !seen[$2]++ { printf "%s ", $2 } /Resume/ { print $3 }'
}
narrowest() { # ADDRESS: the last that traceroute tells
	device traceroute -n -q 1 --mtu -m 8 "$1" 2>&1 | sed -n 's/.* F=\([0-9]*\).*/\1/p' | tail -n 1
}
if have tracepath traceroute; then
	check_eq "tracepath" "$(path "$FAR4")" "$RTR4 $SRV4 $FAR4 1500"
	check_eq "tracepath, IPv6" "$(path "$FAR6")" "$RTR6 $SRV6 $FAR6 1500"
	# Both, or the host there would still answer with larger ones.
	ip -n "$SRV" link set far mtu 1400
	ip -n "$FAR" link set eth0 mtu 1400
	check_eq "tracepath: a narrow link behind the proxy" "$(path "$FAR4")" "$RTR4 $SRV4 $FAR4 1400"
	check_eq "tracepath: a narrow link behind the proxy, IPv6" "$(path "$FAR6")" "$RTR6 $SRV6 $FAR6 1400"
	ip -n "$DEV" route flush cache
	ip -n "$DEV" -6 route flush cache
	check_eq "traceroute --mtu" "$(narrowest "$FAR4")" 1400
	check_eq "traceroute --mtu, IPv6" "$(narrowest "$FAR6")" 1400
fi

# ---- a stream up, a stream down ----

told() { json "$LAB_DIR/stream.json" "j['end'].get('sum', {}).get('$1')"; }
stream() { # NAME OPTION...: what came of 4 s
	device iperf3 -c "$SRV4" -u -b 8M -t 4 -J "${@:2}" >"$LAB_DIR/stream.json"
	check_num "iperf3 -u, $1: datagrams" "$(told packets)" ">=" 2000
	check_num "iperf3 -u, $1: percent lost" "$(told lost_percent)" "<" 5
}
if have iperf3; then
	lab_bg iperf "$SRV" iperf3 -s -J
	lab_wait_port "$SRV" 5201
	stream "up" # nothing comes back meanwhile
	check_eq "iperf3 -u, up: from one address and port" "$(seen "udp dst port 5201" | wc -l)" 1
	stream "down" -R
	by_proxy "iperf3 -u" "udp dst port 5201"
	check_eq "iperf3: by whom the server was connected to" \
		"$(grep -o '"accepted_connection".*\|"host":[^,]*' "$LAB_DIR/iperf.log" | grep -o '[0-9.]*\.[0-9.]*' | sort -u)" 203.0.113.1
fi

# ---- DTLS, QUIC ----

mkfifo "$LAB_DIR/say"
lab_bg dtls "$SRV" sh -c "exec openssl s_server -dtls -quiet -accept $SRV4:4433 -key '$LAB_DIR/key.pem' \
	-cert '$LAB_DIR/cert.pem' <>'$LAB_DIR/say'"
bound() { [ -n "$(lab_in "$SRV" ss -Hlun "sport = :$1")" ]; }
lab_wait 10 bound 4433 || lab_die "openssl: $(cat "$LAB_DIR/dtls.log")"
lab_bg dtls-client "$DEV" sh -c "{ echo hello; sleep 20; } | exec openssl s_client -dtls -quiet -connect $SRV4:4433"
check "DTLS: the server hears the device" lab_wait 10 grep -q '^hello$' "$LAB_DIR/dtls.log"
echo "and back" >"$LAB_DIR/say"
check "DTLS: the device hears the server" lab_wait 5 grep -q '^and back$' "$LAB_DIR/dtls-client.log"
by_proxy "DTLS" "udp dst port 4433"
lab_kill dtls-client
lab_kill dtls

quic() { # ADDRESS URI-HOST
	rm -f "$LAB_DIR/got/big"
	device gtlsclient -q --exit-on-all-streams-close --download="$LAB_DIR/got" "$1" 443 "https://$2/big" >"$LAB_DIR/quic-client.log" 2>&1
	cmp "$LAB_DIR/got/big" "$LAB_DIR/www/big"
}
if have gtlsclient gtlsserver; then
	lab_file big 1000000
	lab_bg quic "$SRV" gtlsserver -q -d "$LAB_DIR/www" "*" 443 "$LAB_DIR/key.pem" "$LAB_DIR/cert.pem"
	lab_wait 10 bound 443 || lab_die "gtlsserver: $(cat "$LAB_DIR/quic.log")"
	check "HTTP over QUIC: 1 MB arrives" quic "$SRV4" "$SRV4"
	by_proxy "QUIC" "udp dst port 443"
	check "HTTP over QUIC, IPv6" quic "$SRV6" "[$SRV6]"
	by_proxy "QUIC, IPv6 as well" "udp dst port 443" "$PROXY6$PROXY4"
fi

# ---- full cone: RFC 5780 ----

# shellcheck disable=SC2317 # by lab_wait
four_sockets() { [ "$(lab_in "$SRV" ss -Hlun "sport = :3478 or sport = :3479" | awk '{ print $4 }' | sort -u | wc -l)" = 4 ]; }
if have turnserver turnutils_natdiscovery; then
	lab_bg stun "$SRV" turnserver -n -S -L "$SRV4" -L "$SRV4B" --no-tls --no-dtls --no-cli --log-file stdout \
		--userdb "$LAB_DIR/turndb" --pidfile "$LAB_DIR/stun.pid"
	lab_wait 10 four_sockets || lab_die "turnserver: $(tail -n 3 "$LAB_DIR/stun.log")"
	device turnutils_natdiscovery -m -f "$SRV4" >"$LAB_DIR/nat.log" 2>&1
	check_eq "STUN: the device has two addresses and ports outside, for two tests" \
		"$(grep -o 'reflexive addr: .*' "$LAB_DIR/nat.log" | sort | uniq -c | awk '{ sub(/:[0-9]*$/, "", $4); print $1, $4 }' | tr '\n' ' ')" "2 203.0.113.1 2 203.0.113.1 "
	check "STUN: the mapping does not depend on the endpoint" grep -q "NAT with Endpoint Independent Mapping!" "$LAB_DIR/nat.log"
	check "STUN: nor what is let in" grep -q "NAT with Endpoint Independent Filtering!" "$LAB_DIR/nat.log"
fi

# ---- calls ----

call() {
	cd "$LAB_DIR/uac" && device sipp -sn uac -i "$DEV4" -m 20 -r 20 -d 300 -nostdin "$SRV4:5060" >"$LAB_DIR/uac.log" 2>&1
}
if have sipp; then
	mkdir "$LAB_DIR/uas" "$LAB_DIR/uac" # it writes where it is
	lab_bg uas "$SRV" sh -c "cd '$LAB_DIR/uas' && exec sipp -sn uas -i $SRV4 -p 5060 -nostdin"
	lab_wait 10 bound 5060 || lab_die "sipp: $(tail -n 3 "$LAB_DIR/uas.log")"
	(call)
	check_eq "SIP: 20 calls" "$?" 0
	check_eq "SIP: ... all successful" "$(awk '/Successful call/ { n = $NF } END { print n }' "$LAB_DIR/uac.log")" 20
	by_proxy "SIP" "udp dst port 5060"
fi

# ---- the time ----

lab_bg ntp "$SRV" "$LAB_SRC/tests/lab/udp_peer.py" ntp 123
lab_wait 10 lab_logged ntp ready || lab_die "udp_peer: $(cat "$LAB_DIR/ntp.log")"
if have ntpdig; then
	device ntpdig -t 5 "$SRV4" >"$LAB_DIR/ntpdig.log" 2>&1
	check_num "NTP: ntpdig, offset of the same clock, s" \
		"$(sed -n "s/.*) [+-]\([0-9.]*\) +\/- .* $SRV4 s2 .*/\1/p" "$LAB_DIR/ntpdig.log")" "<" 0.1
	by_proxy "NTP" "udp dst port 123"
fi
# Not installed for a run: it would take the place of this machine's own. With -x and -Q it leaves the clock alone.
if have chronyd; then
	lab_kill ntp
	lab_bg chronyd "$SRV" chronyd -d -x -u root "local stratum 3" "allow" "cmdport 0" "bindcmdaddress /" \
		"pidfile $LAB_DIR/chronyd.pid"
	lab_wait 10 bound 123 || lab_die "chronyd: $(cat "$LAB_DIR/chronyd.log")"
	device chronyd -Q -x -t 10 -u root "server $SRV4 iburst maxsamples 1" "cmdport 0" "bindcmdaddress /" \
		"pidfile $LAB_DIR/chrony-q.pid" >"$LAB_DIR/chronyd-q.log" 2>&1
	check_num "NTP: chronyd, offset of the same clock, s" \
		"$(sed -n 's/.*System clock wrong by -\{0,1\}\([0-9.]*\) seconds (ignored)/\1/p' "$LAB_DIR/chronyd-q.log")" "<" 0.1
	by_proxy "NTP: chronyd, too" "udp dst port 123"
fi

# ---- altogether ----

udp=$(lab_ctl redir status --json | json - '[j["udp"][k] for k in ("by_tcp", "reformed", "fallbacks", "loops")]')
check_num "associations by UDP" "$(lab_ctl redir status --json | json - 'j["udp"]["by_udp"]')" ">=" 12
check_eq "all by UDP, none formed again, none without the proxy" "$udp" "[0, 0, 0, 0]"
lab_capture_stop wan
check_eq "nothing has gone past the proxy" "$(tcpdump -nr "$LAB_DIR/wan.pcap" 2>/dev/null | wc -l)" 0
lab_daemons_stop
lab_end
