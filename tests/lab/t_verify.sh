#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Held SYNs: what connect() says on a device is what the server said; and what happens when holding fails
# build: release
. "$(dirname "$0")/lib.sh"

connector() { # [OPTION...] ADDRESS PORT
	lab_in "$DEV" python3 "$LAB_SRC/tests/lab/connector.py" "$@"
}

held() { # COUNTER
	lab_ctl redir status --json | json - 'j["held"]["'"$1"'"]'
}

probe() { # ADDRESS [OPTION...]: how it ends at the device
	lab_in "$DEV" "$PEER" probe --get / --want 12 --timeout-ms 4000 "${@:2}" "$1" 80 | json - 'j["end"]'
}

have_table() {
	lab_in "$RTR" nft list table inet sixpath
}

conf() { # KEY=VALUE...: takes effect at once
	lab_conf redir "$@"
	lab_conf_write
	lab_ctl redir reload >/dev/null || not_ok "reload" "$*"
}

none_held() {
	[ "$(held now)" = 0 ]
}

queue_is() { # true|false
	[ "$(held queue)" = "$1" ]
}

# expect NAME ADDRESS PORT WORD MIN-MS MAX-MS [TIMEOUT]
expect() {
	local word ms
	read -r word ms < <(connector --timeout "${7:-5}" "$2" "$3")
	check_eq "$1: connect()" "$word" "$4"
	[ "$4" = nothing ] || check_num "$1: after" "$ms" ">=" "$5"
	[ "$4" = nothing ] || check_num "$1: after" "$ms" "<=" "$6"
}

# later ADDRESS PORT: what an answer takes longer than until the flow knows it, in ms; the median of
# ten, for others may be at work here, too
later() {
	local ms
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		read -r _ ms < <(connector "$1" "$2")
		grep " flow .* route=proxy .*reply=" "$LAB_DIR/redir.log" | tail -n 1 |
			sed 's/.* duration=\([0-9.]*\)s.*/\1/' | awk -v ms="$ms" '{ print ms - $1 * 1000 }'
	done | sort -n | sed -n 5p
}

# a (router and proxy) 10 ms one way, b (proxy and server) 20: the proxy knows after a/2 + b and
# with Fast Open over MPTCP no reply of it comes before 2a.
lab_up --wan1 10 --wan2 10 --srv 20
lab_need iptables ip6tables
# The neighbours must be known: looking for them takes a round trip, too.
lab_in "$PRX" ping -qc1 "$SRV4" >/dev/null
lab_in "$PRX" ping -qc1 "$SRV6" >/dev/null
lab_serve srv "$SRV" --tfo http:80 banner:25 echo:5001
lab_in "$SRV" nft -f - <<-END
	table inet away { chain input { type filter hook input priority 0; tcp dport 82 drop; }; }
END
lab_daemons --no-rules --script iptables --redir rules.install=yes --redir rules.capture=lan \
	--redir connect.verify=yes --proxy proxy.connect_timeout=2s \
	--proxy acl.deny="192.0.2.128/25, 2001:db8:77::/48"
lab_wait 10 have_table || lab_die "no rules: $(tail -n 5 "$LAB_DIR/redir.log")"
check "the queue is open" lab_wait 5 queue_is true

# Without anybody who queues: as if it were not wanted.
expect "no queue rule: a closed port" "$SRV4" 99 connected 0 30
check_eq "no queue rule: held" "$(held total)" 0
check "the queue rule" lab_rules start --only-verify
check "status of it" lab_rules status --only-verify
check_eq "explain says that it is held" "$(lab_ctl redir explain "$DEV4" "$SRV4:80" --json | json - '[c["held"] for c in j["cases"]]')" "[true, true]"
probe "$SRV4" >/dev/null # a Fast Open cookie of the proxy, a session

# The class of service of the device's SYN goes all the way.
for ns in "$PRX" "$SRV"; do
	lab_in "$ns" nft -f - <<-'RULES'
		table inet class {
			chain in {
				type filter hook input priority 0
				tcp dport { 80, 1080 } ip dscp ef counter comment "class"
			}
		}
	RULES
done
classed() { # NAMESPACE: packets that came with it
	lab_in "$1" nft -j list table inet class |
		json - 'next(e["counter"]["packets"] for r in j["nftables"] if "rule" in r and r["rule"].get("comment") == "class" for e in r["rule"]["expr"] if "counter" in e)'
}
speak() { # ADDRESS: as a telephone does
	lab_in "$DEV" python3 -c 'import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 184) if s.family == socket.AF_INET else s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 184)
s.settimeout(5)
s.connect((sys.argv[1], 80))
s.sendall(b"GET / HTTP/1.0\r\n\r\n")
print(len(s.recv(12)))' "$1"
}
check_eq "class of service: none yet" "$(classed "$PRX")/$(classed "$SRV")" 0/0
check_eq "class of service: IPv4" "$(speak "$SRV4")" 12
check_num "class of service: at the proxy" "$(classed "$PRX")" ">=" 1
check_num "class of service: at the server" "$(classed "$SRV")" ">=" 2
# No kernel sets it on an IPv6 socket of MPTCP; the connection must not suffer.
check_eq "class of service: IPv6" "$(speak "$SRV6")" 12

echoes=0
for v in "$SRV4 192.0.2.1 203.0.113.77 192.0.2.200 EHOSTUNREACH" \
	"$SRV6 2001:db8:99::1 2001:db8:30::77 2001:db8:77::1 EACCES"; do
	read -r server noroute nohost notallowed prohibited <<<"$v"
	expect "$server: success" "$server" 80 connected 55 150
	expect "$server: refused" "$server" 99 ECONNREFUSED 55 500
	check_num "$server: refused: ms after the flow knew it" "$(later "$server" 99)" "<=" 3
	expect "$noroute: no route" "$noroute" 80 ENETUNREACH 15 150
	expect "$nohost: no such host" "$nohost" 80 EHOSTUNREACH 100 5000
	expect "$notallowed: not allowed" "$notallowed" 80 "$prohibited" 15 150
	before=$(held repeated)
	expect "$server: server drops" "$server" 82 nothing 0 0 3.5
	check_num "$server: its SYNs sent again did not start another" "$(held repeated)" ">" "$before"
	check_eq "$server: data" "$(probe "$server")" want
	check_eq "$server: Fast Open at the device: asks for a cookie" "$(probe "$server" --tfo)" want
	check_eq "$server: Fast Open at the device: data in the SYN" "$(probe "$server" --tfo)" want
	before=$(lab_served srv echo)
	check_eq "$server: Fast Open at the device: 100 octets there, and back with the 8 of their sum" \
		"$(lab_in "$DEV" "$PEER" probe --tfo --send-octets 100 --shut --timeout-ms 4000 "$server" 5001 | json - '[j["end"], j["octets"], j["syn_data"]]')" '["eof", 108, true]'
	lab_wait 2 test "$(lab_served srv echo)" -gt "$before"
	check_eq "$server: they went into the SYN" \
		"$(grep -c "flow .*:5001 .* syn_bytes=1[5-9][0-9] .* up=100 " "$LAB_DIR/redir.log")" $((++echoes))
	check_eq "$server: and the server has got them once" \
		"$(grep '"echo"' "$LAB_DIR/srv.log" | tail -n 1 | json - '[j["in"], j["same"]]')" "[100, true]"
	check_eq "$server: which speaks first" \
		"$(lab_in "$DEV" "$PEER" probe --want 1 --timeout-ms 4000 "$server" 25 | json - 'j["end"]')" want
done
check "nothing is held any more" lab_wait 15 none_held

# Ports.
conf connect.verify="81-90, 443"
expect "verify = ports: another port" "$SRV4" 99 connected 0 30
expect "verify = ports: one of them" "$SRV4" 83 ECONNREFUSED 55 500
conf connect.verify="443, 203.0.113.0/24, $SRV4, $SRV6"
expect "verify = networks: one of them" "$SRV4" 83 ECONNREFUSED 55 500
expect "verify = networks: one of them, IPv6" "$SRV6" 83 ECONNREFUSED 55 500
expect "verify = networks: another" 192.0.2.1 80 connected 0 30
expect "verify = networks: another, IPv6" "$SRV6B" 83 connected 0 30
expect "verify = networks: another, but one of the ports" "$SRV6B" 443 ECONNREFUSED 55 500
check_eq "verify = networks: explain" "$(for d in "$DEV4 $SRV4B:83" "$DEV6 [$SRV6B]:83"; do
	# shellcheck disable=SC2086
	lab_ctl redir explain $d --json | json - 'j["cases"][0]["held"]'
done | tr '\n' ' ')" "true false "
conf connect.verify=no
expect "verify = no" "$SRV4" 83 connected 0 30
conf connect.verify=yes
expect "verify = yes" "$SRV4" 83 ECONNREFUSED 55 500

# The way without a proxy is held just the same. A reset is immediate, the path is both.
conf connect.on_proxy_failure=direct
lab_daemon_stop proxy
probe "$SRV4" >/dev/null
expect "directly: success" "$SRV4" 80 connected 55 500
expect "directly: refused" "$SRV4" 99 ECONNREFUSED 55 500
expect "directly: no route" 192.0.2.1 80 ENETUNREACH 15 500
expect "directly, IPv6: refused" "$SRV6" 99 ECONNREFUSED 55 500
lab_daemon_start proxy
proxy_up() {
	lab_ctl redir proxies --json | json - 'j["proxies"][0]["state"]' | grep -qx up
}
lab_wait 40 proxy_up || not_ok "proxy" "is not used again"

# Many.
before=$(held total)
many=$(connector --many 1500 --rate 500 --timeout 5 "$SRV4" 80)
check_eq "500 a second: all connected" "$(echo "$many" | json - 'j.get("connected", 0)')" 1500
check_eq "500 a second: all held" $(($(held total) - before)) 1500
check_eq "500 a second: none overflowed" "$(held overflowed)" 0

# A proxy that has fallen silent: what is too much passes at once.
lab_wait 15 none_held
kill -STOP "${LAB_PIDS[proxy]}"
many=$(connector --many 1200 --rate 2000 --timeout 1 "$SRV4" 80)
check_eq "overflow: passed at once" "$(echo "$many" | json - 'j.get("connected", 0)')" 176
check_eq "overflow: counted" "$(held overflowed)" 176
check_eq "overflow: now" "$(held now)" 1024
# libnftables uses select(): a socket of its own beyond 1023 would end the process.
check_num "descriptors, more than select() takes" "$(find "/proc/${LAB_PIDS[redir]}/fd" -type l | wc -l)" ">" 1024
check "a reload in the midst of it" lab_ctl redir reload
check "it lives on" lab_ctl redir status
check "overflow: they go directly in the end" lab_wait 30 none_held
kill -CONT "${LAB_PIDS[proxy]}"
lab_wait 40 proxy_up || not_ok "proxy" "is not used again"
expect "after that: refused" "$SRV4" 99 ECONNREFUSED 55 500

# Killed while it holds: the device's next SYN is direct.
kill -STOP "${LAB_PIDS[proxy]}"
connector --timeout 5 "$SRV4" 80 >"$LAB_DIR/killed" &
job=$!
lab_wait 3 sh -c "[ \$($SIXPATH_BUILD/src/tools/sixpathctl -s $LAB_DIR/run/redir.sock status --json | grep -c '\"now\":1,') = 1 ]" ||
	not_ok "kill -9" "nothing is held"
lab_kill redir KILL
wait $job
read -r word ms <"$LAB_DIR/killed"
check_eq "kill -9 while it holds" "$word" connected
check_num "kill -9 while it holds: after" "$ms" "<=" 1300
expect "kill -9: then directly" "$SRV4" 99 ECONNREFUSED 40 150
kill -CONT "${LAB_PIDS[proxy]}"
lab_daemon_start redir
lab_wait 10 have_table
lab_wait 5 queue_is true
expect "started again: refused" "$SRV4" 99 ECONNREFUSED 55 500
check "stop of the queue rule" lab_rules stop --only-verify
expect "without the queue rule: accepted" "$SRV4" 99 connected 0 30
check_eq "nothing stays in iptables" "$(lab_in "$RTR" iptables-save | grep -c SIXPATH)$(lab_in "$RTR" ip6tables-save | grep -c SIXPATH)" 00
lab_daemons_stop
lab_end
