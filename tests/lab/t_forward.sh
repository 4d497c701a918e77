#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Ports at the proxy that lead to servers of the LAN ([forward]), and BIND by itself
. "$(dirname "$0")/lib.sh"

# The device has the servers here, and the server's namespace has the peers, who connect to the proxy.
AT4=203.0.113.1 AT6=2001:db8:30::1

of() { # NAME FIELD: of a forward
	lab_ctl redir forwards --json | json - "[f['$2'] for f in j['forwards'] if f['name'] == '$1'][0]"
}

is() { # NAME STATE
	[ "$(of "$1" state)" = "$2" ]
}

has() { # NAME FIELD NUMBER: so many or more
	[ "$(of "$1" "$2")" -ge "$3" ]
}

idle() { # NAME
	[ "$(of "$1" connections)" = 0 ]
}

told() { # TEXT
	lab_ctl redir forwards | grep -qF "$1"
}

lost() { # NAME
	! is "$1" listening
}

closed() { # PORT at the proxy
	! lab_listening "$PRX" "$1"
}

few() { # NUMBER of descriptors in the redirector, at most
	[ "$(fds redir)" -le "$1" ]
}

listens() { # NAME...
	local f
	for f; do
		lab_wait 20 is "$f" listening || not_ok "forward $f listens" "$(lab_ctl redir forwards)"
	done
}

get() { # PORT [ADDRESS [QUERY]]: what a peer gets: the page's code, or 000
	local at=${2:-$AT4} from=$SRV4
	[ "${at#*:}" = "$at" ] || at="[$at]" from=$SRV6
	lab_in "$SRV" curl -s -g -m 10 --interface "$from" -o /dev/null -w '%{http_code}' "http://$at:$1/?$3"
}

seen() { # PORT QUERY: how often and by whom nginx was asked for it
	awk -v p="/?$2" '$7 == p { print $1 }' "$LAB_DIR/nginx-$1/access.log" | sort | uniq -c | awk '{ print $1, $2 }'
}

raw() { # NAME OPTION...: a client of BIND on the router, see rawbind.py
	lab_bg "$1" "$RTR" "$LAB_SRC/tests/lab/rawbind.py" "$PRX4" 1080 "${@:2}"
}

said() { # NAME EXPRESSION: over the list of its events
	json "$LAB_DIR/$1.log" "[(lambda j: $2)(j if isinstance(j, list) else [j])][0]"
}

heard() { # NAME EVENT [COUNT]
	[ "$(grep -c "\"event\": \"$2\"" "$LAB_DIR/$1.log")" -ge "${3:-1}" ]
}

echoed() { # PORT TEXT: a peer says this, and hears
	lab_in "$SRV" python3 - "$AT4" "$1" "$2" <<-'END'
		import socket, sys
		s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
		s.sendall(sys.argv[3].encode())
		s.shutdown(socket.SHUT_WR)
		text = b""
		while more := s.recv(4096):
		    text += more
		print(text.decode())
	END
}

# stay PORT: a peer connects, gets a page, and stays; go PORT NAME: it asks for another one.
stay() {
	lab_in "$SRV" python3 - $AT4 "$1" "$LAB_DIR/go-$1" >"$LAB_DIR/stay-$1.out" 2>&1 <<-'END' &
		import http.client, os, sys, time
		c = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=20)
		def get():
		    c.request("GET", "/?long")
		    r = c.getresponse()
		    r.read()
		    return r.status
		get()
		port = c.sock.getsockname()
		print("open", flush=True)
		for _ in range(400):
		    if os.path.exists(sys.argv[3]):
		        break
		    time.sleep(.05)
		print(get() if c.sock and c.sock.getsockname() == port else "another", flush=True)
	END
	LAB_PIDS[stay]=$!
	lab_wait 10 grep -q open "$LAB_DIR/stay-$1.out" || not_ok "a long connection" "$(cat "$LAB_DIR/stay-$1.out")"
}

go() {
	touch "$LAB_DIR/go-$1"
	lab_join stay 20
	unset "LAB_PIDS[stay]"
	check_eq "$2" "$(tail -n 1 "$LAB_DIR/stay-$1.out")" 200
}

successor() { # OLD-PID
	local now
	now=$(lab_ctl redir status --json | json - 'j["pid"]') && [ -n "$now" ] && [ "$now" != "$1" ]
}

fds() { # redir|proxy
	find "/proc/${LAB_PIDS[$1]}/fd" -mindepth 1 | wc -l
}

lab_up
lab_nginx "$DEV" 8080
lab_nginx "$DEV" 8081 "proxy_protocol" \
	"real_ip_header proxy_protocol; set_real_ip_from 0.0.0.0/0; set_real_ip_from ::/0;"
lab_daemons --proxy "user home.bind_ports=8443, 8444, 9000-9010" --proxy proxy.bind_timeout=4 \
	--redir "forward web.listen=8443" --redir "forward web.to=$DEV4:8080, [$DEV6]:8080" \
	--redir "forward header.listen=8444" --redir "forward header.to=$DEV4:8081" \
	--redir "forward header.source=proxy-v2" \
	--redir "forward wrong.listen=7000" --redir "forward wrong.to=$DEV4:8080"
listens web header

# ---- who the server sees ----

check_eq "a peer is answered" "$(get 8443 $AT4 four)" 200
check_eq "transparent, IPv4: the server sees the peer" "$(seen 8080 four)" "1 $SRV4"
check_eq "a peer is answered over IPv6" "$(get 8443 $AT6 six)" 200
check_eq "transparent, IPv6: the server sees the peer" "$(seen 8080 six)" "1 $SRV6"
check_eq "PROXY protocol: a peer is answered" "$(get 8444 $AT4 four)" 200
check_eq "PROXY protocol, IPv4: the server is told the peer" "$(seen 8081 four)" "1 $SRV4"
check_eq "PROXY protocol: a peer is answered over IPv6" "$(get 8444 $AT6 six)" 200
check_eq "PROXY protocol, IPv6 to a server with IPv4: it is told the peer" "$(seen 8081 six)" "1 $SRV6"

# ---- many at once ----

before=$(fds redir)
code=$(seq 200 | lab_in "$SRV" xargs -P 32 -I{} curl -s -m 20 -o /dev/null -w '%{http_code}\n' "http://$AT4:8443/?many" | sort | uniq -c | awk '{ print $1, $2 }')
check_eq "200 connections, 32 at a time: all are answered" "$code" "200 200"
check_eq "... and the server has seen the peer in each" "$(seen 8080 many)" "200 $SRV4"
check "... none is left over" lab_wait 10 idle web
check "... nor a descriptor" lab_wait 10 few $((before + 8))
check_eq "forwards counts them" "$(of web served)" 202

# ---- refused ----

check "a port that is not allowed: the state says so" is wrong refused
check "... and the reason what to do" grep -qF "port 7000 is not allowed to us there (bind_ports" <<<"$(lab_ctl redir forwards)"

check "... and the proxy's log, too" grep -qF "may not bind port 7000: allow it with bind_ports" "$LAB_DIR/proxy.log"
lab_conf proxy "user home.bind_ports=7000, 8443, 8444, 9000-9010"
lab_conf_write
check "allowed there: a reload of the proxy" lab_ctl proxy reload
check "... and of the redirector, which tries again" lab_ctl redir reload
listens wrong
check_eq "... and a peer is answered" "$(get 7000)" 200

# ---- the server in the LAN is down ----

lab_kill nginx-8080
lab_in "$SRV" "$PEER" probe --get / --timeout-ms 8000 "$AT4" 8443 >"$LAB_DIR/down.json" 2>&1
check_eq "the LAN's server is down: the peer gets a reset" "$(json "$LAB_DIR/down.json" 'j["end"]')" ECONNRESET
check_eq "... which is counted" "$(of web failed)" 1
lab_nginx "$DEV" 8080
check_eq "... and with the server back there is an answer" "$(get 8443)" 200

# ---- requests that nobody came for, and losses ----

sleep 4.5 # more than bind_timeout
check "after bind_timeout there are new requests" lab_wait 5 has web ready 4
check_eq "... so that peers are answered" "$(get 8443)" 200
check_eq "... and the port was not lost" "$(of web established)" 1

lab_kill proxy KILL
start=${EPOCHREALTIME/[.,]/}
check "the proxy is killed: the forward says so" lab_wait 20 lost web
lab_daemon_start proxy
check "... it is started again: back" lab_wait 20 is web listening
check_num "... within seconds, the daemon's own start included (ms)" $(((${EPOCHREALTIME/[.,]/} - start) / 1000)) "<" 15000
check_eq "... and peers are answered" "$(get 8443)" 200

lab_wait 10 is header listening
lab_ctl proxy restart >/dev/null 2>&1
lab_wait 10 lab_gone "${LAB_PIDS[proxy]}" || not_ok "the predecessor ends"
LAB_PIDS[proxy]=$(lab_ctl proxy status --json | json - 'j["pid"]')
check "the proxy hands over: the port goes to its successor" lab_wait 20 has web established 3
listens web
check_eq "... and peers are answered" "$(get 8443)" 200

# ---- reload ----

stay 8443
check_eq "flows has a row for a peer" "$(lab_ctl redir flows --json | json - '[(f["source"].rsplit(":", 1)[0], f["destination"], f["state"]) for f in j["flows"] if f["route"] == "forward"]')" "[[\"$SRV4\", \"$DEV4:8080\", \"relay\"]]"
check_eq "binds at the proxy: who has which port" "$(lab_ctl proxy binds --json | json - 'sorted((b["address"], b["user"], b["backlog"]) for b in j["binds"])')" '[["[::]:7000", "home", 128], ["[::]:8443", "home", 128], ["[::]:8444", "home", 128]]'
lab_conf redir "forward web.listen=9001" "forward wrong.listen=" "forward wrong.to=" \
	"forward more.listen=9002" "forward more.to=$DEV4:8080" "forward more.source=none"
lab_conf_write
check "a reload that changes, removes and adds forwards" lab_ctl redir reload
listens web more
check_eq "... the changed one is answered at the new port" "$(get 9001)" 200
check_eq "... no longer at the old one" "$(get 8443)" 000
check_eq "... the new one is answered" "$(get 9002 $AT4 none)" 200
check_eq "... source = none: the server sees the router" "$(seen 8080 none)" "1 $RTR4"
check_eq "... the removed one is gone" "$(lab_ctl redir forwards --json | json - 'len(j["forwards"])')" 3
go 8443 "... a connection of the changed one goes on"

# ---- a restart of the redirector ----

stay 9001
old=$(lab_ctl redir status --json | json - 'j["pid"]')
check "the redirector hands over" lab_ctl redir restart
lab_wait 10 successor "$old" || not_ok "a successor"
listens web more
check_eq "... its successor has the ports, too" "$(get 9001)" 200
go 9001 "a connection through its predecessor goes on"
lab_wait 10 lab_gone "$old" || not_ok "the predecessor ends"
LAB_PIDS[redir]=$(lab_ctl redir status --json | json - 'j["pid"]')

# ---- BIND without a forward, by a client of its own ----

raw plain --bind 0.0.0.0,9005 --stack no
lab_wait 10 heard plain bound
check_eq "BIND outside a session: what is bound" "$(said plain 'j[0]["port"]')" 9005
stack='[e["stack"][k] for e in j if "stack" in e for k in ("multipath", "tos", "ttl", "tfo")]'
check_eq "... and what the peers' connections will be like" "$(said plain "$stack")" "[1, 40, 42, 0]"
check_eq "... a peer's bytes come and go" "$(echoed 9005 hello)" hello
lab_wait 5 heard plain end
check_eq "... which the second reply confirms" "$(said plain "$stack")" "[1, 40, 42, 0, 1, 40, 42, 0]"
check_eq "... the second reply names the peer" "$(said plain '[e["address"] for e in j if e["event"] == "peer"]')" "[\"$SRV4\"]"
check_eq "... and the port takes one peer only" "$(get 9005)" 000
raw mptcp --bind ::,9006 --stack yes
lab_wait 10 heard mptcp bound
lab_in "$SRV" "$PEER" probe --mptcp --send hello --want 5 --timeout-ms 8000 $AT4 9006 >"$LAB_DIR/mptcp.json" 2>&1
check_eq "a peer over MPTCP" "$(json "$LAB_DIR/mptcp.json" 'j["end"]')" want
check_eq "... MPTCP would be accepted, and is in use" "$(said mptcp '[e["stack"]["multipath"] for e in j if "stack" in e]')" "[2, 2]"

raw low --bind ::,80
raw other --user nobody --password x --bind ::,9005
raw name --name example.net --bind ,9006
raw late --bind ::,9007
raw none --bind ::,9008 --backlog 4
for r in low name late none; do lab_wait 10 test -s "$LAB_DIR/$r.log"; done
raw any --bind 0.0.0.0,0 # any other one
lab_wait 10 test -s "$LAB_DIR/any.log"
check_eq "a port that is not allowed is refused" "$(said low 'j[0]["code"]')" 2
check_eq "a domain name cannot be bound" "$(said name 'j[0]["code"]')" 8
check_eq "port 0 is one of those that are allowed" \
	"$(said any 'j[0]["port"] in (7000, 8443, 8444, *range(9000, 9011))')" true
lab_kill any KILL # it may be the one below
check "... and goes with its client" lab_wait 10 closed "$(said any 'j[0]["port"]')"
check_eq "a backlog outside a session is none" "$(said none 'j[0]["stack"]["backlog"]')" 0
lab_wait 10 heard late refused
check_eq "a peer that does not come: timed out" "$(said late 'j[-1]["code"]')" 9
check "somebody else is not served at all" lab_wait 5 grep -q auth-failed "$LAB_DIR/other.log"

raw list --session --bind ::,9009 --backlog 2 --notices 2 --pickups 3
lab_wait 10 heard list bound
check_eq "the backlog that was asked for" "$(said list 'j[0]["stack"]["backlog"]')" 2
peers=()
for i in 1 2 3; do
	echoed 9009 peer-$i >"$LAB_DIR/echo-$i" &
	peers+=($!)
done
check "three peers of a backlog, each by a request of the session" lab_wait 10 heard list end 3
wait "${peers[@]}"
check_eq "... each has heard itself" "$(sort "$LAB_DIR"/echo-? | tr '\n' ' ')" "peer-1 peer-2 peer-3 "
check_num "... those that waited were told on the first connection" "$(said list 'len([e for e in j if e["event"] == "notice"])')" ">=" 2
check "the port goes with its connection" lab_wait 10 closed 9009

# Both are successors, and not our children.
for d in redir proxy; do
	kill -TERM "${LAB_PIDS[$d]}"
	check "sixpath-$d ends" lab_wait 10 lab_gone "${LAB_PIDS[$d]}"
	unset "LAB_PIDS[$d]"
	check_eq "... without sanitizer reports" "$(grep -E "Sanitizer|runtime error:" "$LAB_DIR/$d.log")" ""
done
lab_daemons_stop

# ---- the return path by our own rules: nothing is captured where the server is ----

for mode in tproxy redirect; do
	lab_daemons --no-rules --mode $mode --proxy "user home.bind_ports=8443" --redir rules.install=yes \
		--redir rules.backend=nft --redir rules.capture= \
		--redir "forward web.listen=8443" --redir "forward web.to=$DEV4:8080, [$DEV6]:8080"
	listens web
	check_eq "own rules, mode = $mode: a peer is answered" "$(get 8443 $AT4 own-$mode)" 200
	check_eq "... the server sees it" "$(seen 8080 own-$mode)" "1 $SRV4"
	check_eq "... a peer is answered over IPv6" "$(get 8443 $AT6 own6-$mode)" 200
	check_eq "... the server sees it" "$(seen 8080 own6-$mode)" "1 $SRV6"
	lab_daemons_stop
	check_eq "... and nothing stays behind" "$(lab_in "$RTR" nft list tables | grep -c 'inet sixpath$')$(lab_in "$RTR" ip rule show pref 10660 | wc -l)" 00
done

# ---- a proxy that misbehaves ----

for mode in close half garbage op-garbage op-general flood auth-only; do
	case $mode in
	auth-only | half) what="no reply from the proxy in time" ;;
	garbage) what="it does not speak SOCKSv6" ;;
	op-garbage | flood) what="reply" ;;
	op-general) what="cannot be had" ;;
	*) what="without a reply" ;;
	esac
	lab_conf_defaults
	lab_bg bad "$PRX" "$LAB_SRC/tests/lab/badproxy.py" 1080 $mode --noop-ok
	lab_wait_port "$PRX" 1080
	lab_conf redir connect.dial_timeout=1 connect.reply_timeout=1 "forward web.listen=8443" "forward web.to=$DEV4:8080"
	lab_conf_write
	lab_daemon_start redir
	check "a proxy of the kind $mode: why the forward does not listen" lab_wait 20 told "$what"
	check "... it does not say that it does" lost web
	sleep 3
	# Pauses grow: 0.5, 1, 2 s; a NOOP now and then.
	check_num "... not too often" "$(wc -l <"$LAB_DIR/bad.log")" "<" 15
	lab_daemon_stop redir
	lab_kill bad KILL
done
lab_end
