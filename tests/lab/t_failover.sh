#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Several proxies: shares, and what a device sees when one or all of them fail and come back
# build: release
. "$(dirname "$0")/lib.sh"

# The second proxy, "far", is preferred; it stands in a namespace behind the first one's.
FAR=sp$LAB_PID-far FAR4=192.0.2.2 FAR4B=192.0.2.3

far_start() {
	sed -e "s|proxy.sock|far.sock|" -e "s|/users$|/users-far|" "$LAB_DIR/proxy.conf" >"$LAB_DIR/far.conf"
	[ -e "$LAB_DIR/users-far" ] || cp -p "$LAB_DIR/users" "$LAB_DIR/users-far"
	lab_bg far "$FAR" "$SIXPATH_BUILD/src/proxy/sixpath-proxy" -f -c "$LAB_DIR/far.conf"
	lab_wait_port "$FAR" 1080
}

of() { # NAME FIELD: of a proxy
	lab_ctl redir proxies --json | json - "[p['$2'] for p in j['proxies'] if p['name'] == '$1'][0]"
}

is() { # NAME STATE
	[ "$(of "$1" state)" = "$2" ]
}

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

watch_start() { # SECONDS
	lab_bg watch "$DEV" "$LAB_SRC/tests/lab/failwatch.py" run "$SRV4" 80 "$1"
	lab_wait 10 lab_logged watch warm || not_ok "the device" "makes no connections"
}

# watch_end NAME FAULT: no connection made after the fault fails; none takes long that is made
# three seconds after it.
watch_end() {
	lab_join watch 60 || not_ok "$1" "the device did not end"
	unset "LAB_PIDS[watch]"
	"$LAB_SRC/tests/lab/failwatch.py" sum "$LAB_DIR/watch.log" "$2" >"$LAB_DIR/sum"
	echo "# $1: $(cat "$LAB_DIR/sum")"
	check_num "$1: connections before" "$(json "$LAB_DIR/sum" 'j["before"]')" ">=" 15
	check_num "$1: connections later" "$(json "$LAB_DIR/sum" 'j["late"]')" ">=" 40
	check_eq "$1: failed" "$(json "$LAB_DIR/sum" 'j["failed"]')" 0
	check_num "$1: outage in ms" "$(json "$LAB_DIR/sum" 'j["outage_ms"]')" "<=" "$3"
	check_num "$1: slowest in ms" "$(json "$LAB_DIR/sum" 'j["slowest_ms"]')" "<=" 3200
	check_num "$1: slowest after three seconds" "$(json "$LAB_DIR/sum" 'j["late_slowest_ms"]')" "<=" 900
}

back() { # CASE NAME: up within 15 s, and used
	local start
	start=$(now_ms)
	lab_wait 20 is "$2" up
	check_num "$1: $2 is up again, ms" $(($(now_ms) - start)) "<=" 15000
	lab_in "$DEV" "$PEER" probe --get / --want 12 "$SRV4" 80 >"$LAB_DIR/probe.out" 2>&1
	lab_wait 5 sh -c "grep ' flow ' '$LAB_DIR/redir.log' | tail -n 1 | grep -q ' proxy=$2 '" ||
		not_ok "$1: through $2 again" "$(grep ' flow ' "$LAB_DIR/redir.log" | tail -n 1)"
}

silence() { # NS PORT: nothing comes in, nothing goes out
	lab_in "$1" nft -f - <<-RULES
		table inet silence {
			chain in { type filter hook input priority 0; tcp dport $2 drop; }
			chain out { type filter hook output priority 0; tcp sport $2 drop; }
		}
	RULES
}

speak() { lab_in "$1" nft delete table inet silence; }

lab_up
lab_ns "$FAR"
lab_link far "$PRX" far "$FAR" eth0 5:0 || lab_die "far"
lab_addr "$PRX" far 192.0.2.1/24
lab_addr "$FAR" eth0 $FAR4/24
ip -n "$FAR" route add default via 192.0.2.1
ip -n "$FAR" mptcp limits set subflows 4 add_addr_accepted 4
lab_serve srv "$SRV" http:80 duplex:82
lab_daemons --redir "proxy far.address=$FAR4:1080" --redir "proxy far.priority=5" \
	--redir "proxy far.username=home" --redir "proxy far.password_file=$LAB_DIR/secret"
far_start
lab_wait 10 is far up || lab_die "far is not up: $(lab_ctl redir proxies)"
lab_wait 10 is home up || lab_die "home is not up"

# ---- a second proxy is there ----
watch_start 9
fault=$EPOCHREALTIME
lab_kill far KILL
watch_end "killed" "$fault" 1000
check "killed: far is down" is far down
far_start
back "killed" far

watch_start 9
fault=$EPOCHREALTIME
silence "$FAR" 1080
watch_end "silent" "$fault" 3000
check "silent: far is down" is far down
speak "$FAR"
back "silent" far

watch_start 9
fault=$EPOCHREALTIME
ip -n "$FAR" link set eth0 down
watch_end "link cut" "$fault" 3000
check "link cut: far is down" is far down
ip -n "$FAR" link set eth0 up
ip -n "$FAR" route replace default via 192.0.2.1
back "link cut" far

# ---- all are gone ----
watch_start 9
fault=$EPOCHREALTIME
silence "$FAR" 1080
silence "$PRX" 1080
watch_end "all silent" "$fault" 3000
check "all silent: both are down" sh -c "[ $(of far state)$(of home state) = downdown ]"
check_num "all silent: directly" "$(grep -c 'route=direct' "$LAB_DIR/redir.log")" ">=" 40
speak "$PRX"
back "all silent" home
speak "$FAR"
back "all silent" far

watch_start 9
fault=$EPOCHREALTIME
lab_kill far KILL
lab_kill proxy KILL
watch_end "all killed" "$fault" 1000
lab_daemon_start proxy
far_start
back "all killed" far
lab_wait 15 is home up || not_ok "all killed" "home is not up again"

# ---- credentials ----
printf 'another\n' | "$SIXPATH_BUILD/src/tools/sixpathctl" passwd "$LAB_DIR/users-far" home >/dev/null
lab_kill far
far_start
check "another password: the state says so" lab_wait 20 is far rejected
check_eq "another password: connections go on" "$(lab_in "$DEV" "$PEER" probe --get / --want 12 "$SRV4" 80 | json - 'j["end"]')" want
lab_in "$RTR" "$SIXPATH_BUILD/src/tools/sixpathctl" -s "$LAB_DIR/run/redir.sock" doctor --json >"$LAB_DIR/doctor.json" 2>/dev/null
check_eq "another password: doctor says so" "$(json "$LAB_DIR/doctor.json" '["rejects us" in f["seen"] and "passwd" in f["cure"] for f in j["findings"] if f["id"] == "proxy.far"]')" "[true]"
check_eq "another password: said once" "$(grep -c 'proxy far is alive, but credentials rejected' "$LAB_DIR/redir.log")" 1
cp -p "$LAB_DIR/users" "$LAB_DIR/users-far"
lab_kill far
far_start

# ---- shares; a name ----
share() { # COUNT: connections, one after the other
	lab_in "$DEV" "$PEER" probe --get / --want 12 --repeat "$1" "$SRV4" 80 >"$LAB_DIR/probe.out" 2>&1
}
mkdir -p "/etc/netns/$RTR"
trap 'rm -rf "/etc/netns/$RTR"; lab_exit' EXIT
echo "$FAR4 far.test" >"/etc/netns/$RTR/hosts"
lab_daemons_stop
lab_daemons --redir "proxy far.address=far.test:1080" --redir "proxy far.username=home" \
	--redir "proxy far.password_file=$LAB_DIR/secret" --redir "proxy far.weight=3"
lab_wait 10 is far up || lab_die "far is not up"
lab_wait 10 is home up
share 40
check_eq "weights 3 and 1" "$(of far flows_total) $(of home flows_total)" "30 10"
check_eq "shares" "$(of far share) $(of home share)" "75 25"
lab_conf redir connect.balance=latency
lab_conf_write
check "reload" lab_ctl redir reload
share 20
check_eq "by latency: all go to the nearer one" "$(of far flows_total) $(of home flows_total)" "30 30"
# The preference is made plain again for what follows.
lab_conf redir "proxy far.priority=5"
lab_conf_write
lab_ctl redir reload >/dev/null
lab_wait 10 is far up
share 5
before=$(of far sessions_opened)
echo "$FAR4B far.test" >"/etc/netns/$RTR/hosts"
ip -n "$FAR" addr del $FAR4/24 dev eth0
lab_addr "$FAR" eth0 $FAR4B/24
ip -n "$FAR" route replace default via 192.0.2.1
start=$(now_ms)
share 1
moved() { [ "$(of far address)" = "$FAR4B:1080" ] && is far up; }
lab_wait 20 moved
check_num "another address of the name: followed after ms" $(($(now_ms) - start)) "<=" 15000
share 1
check_eq "another address: the session goes on" "$(of far sessions_opened) $(of far sessions_lost)" "$before 0"

# The name has lost an address that works: it is left only for one that works. A reload asks anew.
names() { # WORD: until the log says so; c-ares sees changes of /etc/hosts by the second
	for _ in 1 2 3 4 5; do
		lab_ctl redir reload >/dev/null
		lab_wait 2 grep -qE "proxy far: far.test has a new address.*$1" "$LAB_DIR/redir.log" && return 0
	done
	return 1
}
echo "$SRV4B far.test" >"/etc/netns/$RTR/hosts" # nobody there speaks SOCKSv6
check "a name with a useless address: noticed" names refused
: >"/etc/netns/$RTR/hosts"
lab_ctl redir reload >/dev/null
share 2
check_eq "a name that is gone: the address stays" "$(of far address) $(of far state)" "$FAR4B:1080 up"
lab_addr "$FAR" eth0 $FAR4/24
echo "$FAR4 far.test" >"/etc/netns/$RTR/hosts"
check "a name with another good address" names "using it"
share 2
check_eq "another good address: used, in the same session" "$(of far address) $(of far state) $(of far sessions_opened)" "$FAR4:1080 up $before"
lab_ctl redir paths --json >"$LAB_DIR/paths.json"
lab_ctl redir paths | sed 's/^/# /'
check_num "paths: a row for each proxy" "$(json "$LAB_DIR/paths.json" 'len({p["proxy"] for p in j["paths"]})')" "==" 2
check_num "paths: data in SYNs was taken" "$(json "$LAB_DIR/paths.json" 'sum(p["syn_taken"] for p in j["paths"])')" ">=" 30
check_eq "paths: none is paused" "$(json "$LAB_DIR/paths.json" '[p["tfo"] for p in j["paths"] if p["tfo"] != "ok"]')" "[]"

# A path that strips MPTCP, and one that eats SYNs with data, from one address only.
lab_conf redir "proxy far.prewarm=0" # it is about new connections
lab_conf_write
lab_ctl redir reload >/dev/null
check "without prewarmed connections" lab_wait 10 is far up
lab_in "$PRX" nft -f - <<-RULES
	table inet bad {
		chain forward {
			type filter hook forward priority 0
			ip saddr $WAN1_4 ip daddr $FAR4 tcp dport 1080 tcp flags & (syn | ack) == syn meta length > 100 drop
		}
	}
RULES
share 3
share 3
lab_ctl redir paths --json >"$LAB_DIR/paths.json"
check_eq "SYN data eaten: paused there" "$(json "$LAB_DIR/paths.json" '[p["tfo"] for p in j["paths"] if p["proxy"] == "far" and p["local"] == "'"$WAN1_4"'"]')" '["paused"]'
check_num "SYN data eaten: counted" "$(json "$LAB_DIR/paths.json" 'sum(p["syn_lost"] for p in j["paths"] if p["proxy"] == "far")')" ">=" 1
check_eq "SYN data eaten: not paused to home" "$(json "$LAB_DIR/paths.json" '[p["tfo"] for p in j["paths"] if p["proxy"] == "home"]')" '["ok"]'
lab_strip mptcp
share 4
lab_ctl redir paths --json >"$LAB_DIR/paths.json"
check_num "MPTCP stripped: counted" "$(json "$LAB_DIR/paths.json" 'sum(p["mptcp_stripped"] for p in j["paths"])')" ">=" 3
lab_ctl redir paths | sed 's/^/# /'
lab_ctl redir proxies | sed 's/^/# /'
lab_in "$PRX" nft delete table inet bad
lab_unstrip

# SYNs get no answer, as on a line that is full, while a download goes on: that one speaks for the
# proxy once, and not for ever. Others are used meanwhile.
lab_wait 15 is far up || not_ok "full line" "far is not up"
lab_in "$DEV" "$PEER" duplex --up 0 --down 16G --timeout-ms 60000 "$SRV4" 82 >"$LAB_DIR/bulk.out" 2>&1 &
bulk=$!
by_far() { [ "$(lab_ctl redir flows --json | json - '[f["proxy"] for f in j["flows"] if f["state"] == "relay" and f["bytes_down"] > 100000]')" = '["far"]' ]; }
check "full line: a download through far" lab_wait 10 by_far
lab_in "$PRX" nft -f - <<-RULES
	table inet full {
		chain forward { type filter hook forward priority 0; ip daddr $FAR4 tcp dport 1080 tcp flags & (syn | ack) == syn drop; }
	}
RULES
start=$(now_ms)
watch_start 3
once_more() { lab_logged redir "proxy far: no reply in time, but data come from it: asking once more"; }
check "full line: the download is asked" lab_wait 5 once_more
check "full line: far is not down for that" is far up
check "full line: in the end it is" lab_wait 5 is far down
check_num "full line: after ms" $(($(now_ms) - start)) "<=" 6500
lab_join watch 30
"$LAB_SRC/tests/lab/failwatch.py" sum "$LAB_DIR/watch.log" "$(awk -v m="$start" 'BEGIN { printf "%.3f", m / 1000 }')" >"$LAB_DIR/sum"
check_eq "full line: connections that failed" "$(json "$LAB_DIR/sum" 'j["failed"]')" 0
kill $bulk
wait $bulk 2>/dev/null
lab_in "$PRX" nft delete table inet full
back "full line" far
lab_kill far
lab_daemons_stop
rm -rf "/etc/netns/$RTR"
lab_end
