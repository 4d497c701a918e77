#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Servers that fail: the device gets a reset, never an end of file; then they are refused at once
. "$(dirname "$0")/lib.sh"

connector() { # [OPTION...] ADDRESS PORT: how connect() ends, and its milliseconds
	lab_in "$DEV" python3 "$LAB_SRC/tests/lab/connector.py" "$@"
}

word() { # ADDRESS PORT: how connect() ends
	connector "$@" | cut -d ' ' -f 1
}

ended() { # ADDRESS PORT [OPTION...]: how a connection ends at the device
	lab_in "$DEV" "$PEER" probe --timeout-ms 8000 "${@:3}" "$1" "$2" | json - 'j["end"]'
}

nft_rtr() {
	lab_in "$RTR" nft "$@"
}

have_table() {
	nft_rtr list table inet sixpath
}

conf() { # KEY=VALUE...: takes effect at once
	lab_conf redir "$@"
	lab_conf_write
	lab_ctl redir reload >/dev/null || not_ok "reload" "$*"
}

count() { # OBJECT COUNTER
	lab_ctl redir status --json | json - 'j["'"$1"'"].get("'"$2"'", 0)'
}

listed() { # ADDRESS PORT: the answer that is remembered for it, or "none"
	lab_ctl redir failed list --json >"$LAB_DIR/failed.json"
	json "$LAB_DIR/failed.json" 'next((x["answer"] for x in j["failed"] if x["server"] in ("'"$1:$2"'", "['"$1"']:'"$2"'")), "none")'
}

in_kernel() { # ADDRESS PORT [SET]: in a set of the rules
	nft_rtr list table inet sixpath | awk -v e="$1 . $2 " -v want="${3:-failed_}" '
		$1 == "set" { set = $2 }
		index(set, want) == 1 && index($0, e) { found = 1 }
		END { exit !found }'
}

not_in_kernel() {
	! in_kernel "$@"
}

proxy_is() { # up|down
	[ "$(lab_ctl redir proxies --json | json - 'j["proxies"][0]["state"]')" = "$1" ]
}

rule_of() { # ADDRESS:PORT: which decides, and what then
	lab_ctl redir explain "$DEV4" "$1" --json | json - 'j["cases"][0]["rule"] + ", " + j["cases"][0]["then"]'
}

# server drop|accept|"reject ...": what happens to SYNs for its port 83
server() {
	lab_in "$SRV" nft -f - <<-END
		table inet t
		delete table inet t
		table inet t { chain input { type filter hook input priority 0; tcp dport 82 drop; tcp dport 83 counter $1; }; }
	END
}

# ends NAME ADDRESS PORT: with a reset, whatever the device has done until then.
ends() {
	local what jobs=()
	for what in "" "--send hello" "--send hello --shut"; do
		# shellcheck disable=SC2086
		ended "$2" "$3" $what >"$LAB_DIR/ended-$((${#jobs[@]}))" &
		jobs+=($!)
	done
	wait "${jobs[@]}"
	check_eq "$1: $2: silent, has sent, has half-closed" "$(cat "$LAB_DIR"/ended-[012] | tr '\n' ' ')" "ECONNRESET ECONNRESET ECONNRESET "
}

start() { # MODE [KEY=VALUE...]
	local o=()
	for kv in "${@:2}"; do o+=(--redir "$kv"); done
	lab_daemons --no-rules --mode "$1" --redir rules.install=yes --redir rules.capture=lan "${o[@]}" \
		--proxy proxy.connect_timeout=4s --proxy acl.deny="192.0.2.128/25, 2001:db8:77::/48"
	lab_wait 10 have_table || lab_die "no rules: $(tail -n 5 "$LAB_DIR/redir.log")"
	lab_wait 10 proxy_is up || not_ok "proxy" "is not up"
}

# ADDRESSES of: the server, no route, no such host, not allowed
families=("$SRV4 192.0.2.1 203.0.113.77 192.0.2.200" "$SRV6 2001:db8:99::1 2001:db8:30::77 2001:db8:77::1")

# A device as near as a plain veth gets ICMPv6 errors while it is still in connect(): those are lost.
lab_up --lan 1 --srv 40
facts() { # ADDRESS: of the last connection to its port 99 that the proxy refused
	grep -F -- "-> $1:99 route=proxy" "$LAB_DIR/redir.log" | grep reply= | tail -n 1 | sed -n "s/.* \\(mptcp=[a-z]*\\) subflows=[1-9].*/\\1/p"
}
server accept
lab_serve srv "$SRV" http:80 http:83

# ---- nothing remembered: a reset on the wire for each kind of failure ----

for mode in tproxy redirect; do
	start $mode
	lab_capture fin "$DEV" eth0 \
		"(src host $DEV4 or dst host $DEV4 or src host $DEV6 or dst host $DEV6) and inbound and (tcp[13] & 5 != 0 or (ip6 and ip6[53] & 5 != 0))"
	for v in "${families[@]}"; do
		read -r server noroute nohost notallowed <<<"$v"
		ends "$mode: refused" "$server" 99
		check_eq "$mode: $server: refused: the log says that MPTCP carried it" "$(facts "${server/*:*/[$server]}")" "mptcp=yes"
		ends "$mode: no route" "$noroute" 80
		ends "$mode: no such host" "$nohost" 80
		ends "$mode: not allowed" "$notallowed" 80
		ends "$mode: server drops" "$server" 82
	done
	check_eq "$mode: nothing is remembered" "$(count failed remembered)" 0
	conf connect.on_proxy_failure=refuse
	lab_daemon_stop proxy
	for v in "${families[@]}"; do
		read -r server noroute nohost notallowed <<<"$v"
		ends "$mode: no proxy, refuse" "$server" 80
	done
	conf connect.on_proxy_failure=direct
	for v in "${families[@]}"; do
		read -r server noroute nohost notallowed <<<"$v"
		ends "$mode: directly, refused" "$server" 99
		ends "$mode: directly, no route" "$noroute" 80
		ends "$mode: directly, no such host" "$nohost" 80
	done
	lab_capture_stop fin
	flags() { tcpdump -n -r "$LAB_DIR/fin.pcap" 2>/dev/null | grep -c "Flags \[[^]]*$1"; }
	check_num "$mode: resets on the wire" "$(flags R)" ">=" 51
	check_eq "$mode: ends of file on the wire" "$(flags F)" 0
	lab_daemons_stop
done

# ---- remembered ----

# twice NAME ADDRESS PORT ANSWER WORD: the first connection is accepted and reset; the second does
# not reach the daemon, and says at once what a direct one would have said.
twice() {
	local before by_rule took ms said
	took=$(lab_in "$DEV" "$PEER" probe --timeout-ms 8000 --send x "$2" "$3" | json - '[j["end"], j["total_ms"]]' 2>/dev/null)
	check_eq "$1: $2: first: reset" "$(echo "$took" | json - 'j[0]')" ECONNRESET
	check "$1: $2: in the set" lab_wait 2 in_kernel "$2" "$3" "failed_$4"
	check_eq "$1: $2: listed" "$(listed "$2" "$3")" "$4"
	before=$(count counters accepted) by_rule=$(count failed refused_by_rule)
	# The best of three: others may be at work on this machine.
	read -r said ms < <(for _ in 1 2 3; do connector "$2" "$3"; done | sort -n -k 2 | head -n 1)
	check_eq "$1: $2: second: connect()" "$said" "$5"
	check_num "$1: $2: second: ms, of a round trip of 80 to the server" "$ms" "<" 40
	check_eq "$1: $2: second: not for the daemon" "$(count counters accepted)" "$before"
	check_eq "$1: $2: second: refused by rule" "$(count failed refused_by_rule)" $((by_rule + 3))
}

for mode in tproxy redirect; do
	start $mode connect.remember_failed=60s
	for v in "${families[@]}"; do
		read -r server noroute nohost notallowed <<<"$v"
		twice "$mode: refused" "$server" 99 reset ECONNREFUSED
		twice "$mode: no route" "$noroute" 80 net ENETUNREACH
		twice "$mode: no such host" "$nohost" 80 host EHOSTUNREACH
		twice "$mode: server drops" "$server" 82 host EHOSTUNREACH
		# What one user may not says nothing to others.
		check_eq "$mode: not allowed: $notallowed" "$(ended "$notallowed" 80 --send x)" ECONNRESET
		check_eq "$mode: not allowed: $notallowed: not remembered" "$(listed "$notallowed" 80)/$(word "$notallowed" 80)" none/connected
		check_eq "$mode: $server: another port" "$(ended "$server" 80 --get / --want 12)" want
	done
	check_eq "$mode: explain" "$(rule_of "$SRV4:99")" "failed, the kernel refuses it"
	nft_rtr add element inet sixpath_user "bypass4 { $SRV4 }"
	check_eq "$mode: explain: what is not captured is not refused" "$(rule_of "$SRV4:82")" "user-bypass, the kernel forwards it, not through us"
	check_eq "$mode: what is not captured is not refused" "$(word --timeout 0.5 "$SRV4" 82)" nothing
	nft_rtr flush set inet sixpath_user bypass4
	nft_rtr add element inet sixpath_user "proxy4 { $SRV4 }"
	check_eq "$mode: by wish of the administrator" "$(word "$SRV4" 99)" ECONNREFUSED
	nft_rtr flush set inet sixpath_user proxy4

	# Others flush the rules: the sets are back with them.
	nft_rtr flush ruleset
	check "$mode: flush ruleset: in the set again" lab_wait 5 in_kernel "$SRV6" 99 failed_reset
	check_eq "$mode: flush ruleset: refused" "$(word "$SRV6" 99)" ECONNREFUSED

	check "$mode: failed flush" lab_ctl redir failed flush
	check "$mode: failed flush: not in the set" lab_wait 2 not_in_kernel "$SRV4" 99
	check_eq "$mode: failed flush: explain" "$(rule_of "$SRV4:99")" "capture, through a proxy"
	check_eq "$mode: failed flush: asked again" "$(word "$SRV4" 99)" connected

	# A success that was under way removes it. Its SYN to the server is dropped at first.
	server drop
	ended "$SRV4" 83 --get / --want 12 >"$LAB_DIR/slow" &
	slow=$!
	dropped() { lab_in "$SRV" nft list table inet t | grep -q "dport 83 counter packets [1-9]"; }
	lab_wait 3 dropped # its SYN; the next ones come after one second and three
	server "reject with tcp reset"
	check_eq "$mode: one fails" "$(ended "$SRV4" 83 --send x)" ECONNRESET
	server drop
	lab_wait 1 in_kernel "$SRV4" 83
	check_eq "$mode: it is remembered" "$(word "$SRV4" 83)" ECONNREFUSED
	server accept
	wait $slow
	check_eq "$mode: the one under way succeeds" "$(cat "$LAB_DIR/slow")" want
	check "$mode: that removes it" lab_wait 2 not_in_kernel "$SRV4" 83
	check_eq "$mode: reachable, long before its time" "$(ended "$SRV4" 83 --get / --want 12)" want
	# Outcomes differ: a failure does not shut the others out any more.
	server "reject with tcp reset"
	check_eq "$mode: it fails again" "$(ended "$SRV4" 83 --send x)" ECONNRESET
	check_eq "$mode: that is not believed" "$(listed "$SRV4" 83)/$(count failed disputed)" none/1
	lab_ctl redir failed flush >/dev/null
	server accept

	# Recovery: after the time at the latest, however often the device tries.
	conf connect.remember_failed=2s
	server "reject with tcp reset"
	check_eq "$mode: fails" "$(ended "$SRV6" 83 --send x)" ECONNRESET
	lab_wait 1 in_kernel "$SRV6" 83
	began=${EPOCHREALTIME/[.,]/}
	server accept
	check_eq "$mode: refused at first" "$(word "$SRV6" 83)" ECONNREFUSED
	reached() { [ "$(ended "$SRV6" 83 --get / --want 12)" = want ]; }
	check "$mode: reached again" lab_wait 10 reached
	check_num "$mode: reached again: ms" $(((${EPOCHREALTIME/[.,]/} - began) / 1000)) "<" 3500
	conf connect.remember_failed=0
	check_eq "$mode: remember_failed = 0" "$(ended "$SRV4" 99)/$(word "$SRV4" 99)" ECONNRESET/connected

	# Without a proxy it is the direct connection that tells.
	conf connect.remember_failed=60s
	lab_daemon_stop proxy
	ip -n "$PRX" route add prohibit 192.0.2.64/26
	ip -n "$PRX" -6 route add prohibit 2001:db8:55::/48
	twice "$mode: directly: refused" "$SRV4" 99 reset ECONNREFUSED
	twice "$mode: directly: refused" "$SRV6" 99 reset ECONNREFUSED
	twice "$mode: directly: no route" 192.0.2.1 80 net ENETUNREACH
	twice "$mode: directly: no such host" 203.0.113.77 80 host EHOSTUNREACH
	twice "$mode: directly: prohibited" 192.0.2.65 80 host EHOSTUNREACH # as Linux reads that code
	twice "$mode: directly: prohibited" 2001:db8:55::1 80 prohibited EACCES
	ip -n "$PRX" route del prohibit 192.0.2.64/26
	ip -n "$PRX" -6 route del prohibit 2001:db8:55::/48
	# That there is no proxy is no failure of the server's.
	conf connect.on_proxy_failure=refuse
	check_eq "$mode: no proxy" "$(ended "$SRV4" 80)" ECONNRESET
	check_eq "$mode: no proxy: not remembered" "$(listed "$SRV4" 80)" none
	lab_daemons_stop
done

# This host's own connections.
for mode in tproxy redirect; do
	start $mode connect.remember_failed=20s rules.capture_local=yes
	own() { lab_in "$RTR" python3 "$LAB_SRC/tests/lab/connector.py" "$1" 99 | cut -d ' ' -f 1; }
	for a in "$SRV4" "$SRV6"; do
		own "$a" >/dev/null
		check "$mode: own: $a: in the set" lab_wait 3 in_kernel "$a" 99 failed_reset
		before=$(count counters accepted)
		check_eq "$mode: own: $a: refused" "$(own "$a")" ECONNREFUSED
		check_eq "$mode: own: $a: not for the daemon" "$(count counters accepted)" "$before"
	done
	lab_daemons_stop
done

# Rules of a script: the daemon itself refuses, with a reset and without asking anybody.
for script in nft iptables; do
	lab_daemons --script $script --redir connect.remember_failed=20s
	lab_wait 10 proxy_is up
	for a in "$SRV4" "$SRV6"; do
		check_eq "$script: $a: first" "$(ended "$a" 99 --send x)" ECONNRESET
		asked=$(count ended refused-by-proxy) before=$(count failed refused)
		check_eq "$script: $a: second" "$(ended "$a" 99 --send x)" ECONNRESET
		check_eq "$script: $a: third, silent" "$(ended "$a" 99)" ECONNRESET
		check_eq "$script: $a: refused by the daemon" "$(count failed refused)" $((before + 2))
		check_eq "$script: $a: nobody was asked" "$(count ended refused-by-proxy)" "$asked"
	done
	check_eq "$script: the reason" "$(count ended failed-lately)" 4
	check_eq "$script: explain" "$(rule_of "$SRV4:99")" "script, the server has just failed: refused at once"
	lab_daemons_stop
done

# With verify the first is told, too; then nothing has to be held.
lab_need iptables ip6tables
# shellcheck disable=SC2034
LAB_SCRIPT=iptables # of lab_rules
start tproxy connect.remember_failed=20s connect.verify=yes
lab_rules start --only-verify >/dev/null 2>&1
lab_wait 5 sh -c "$SIXPATH_BUILD/src/tools/sixpathctl -s $LAB_DIR/run/redir.sock status --json | grep -q '\"queue\":true'"
for a in "$SRV4" "$SRV6"; do
	check_eq "verify: $a: first" "$(word "$a" 99)" ECONNREFUSED
	lab_wait 2 in_kernel "$a" 99 failed_reset
	before=$(count held total)
	check_eq "verify: $a: second" "$(word "$a" 99)" ECONNREFUSED
	check_eq "verify: $a: second: not held" "$(count held total)" "$before"
	check_eq "verify: $a: a server that works" "$(ended "$a" 80 --get / --want 12)" want
done
lab_rules stop --only-verify >/dev/null 2>&1
lab_daemons_stop

# Many: the table stays bounded, others are served.
start tproxy connect.remember_failed=20s connect.on_proxy_failure=direct
many=$(lab_in "$DEV" python3 - "$SRV4" <<-'END'
	import multiprocessing.pool, socket, sys
	def one(port):
	    with socket.socket() as s:
	        s.settimeout(20)
	        try:
	            s.connect((sys.argv[1], port))
	            s.recv(1)
	        except ConnectionResetError:
	            return 1
	    return 0
	print(sum(multiprocessing.pool.ThreadPool(64).map(one, range(2000, 3400), 1)))
	END
)
check_eq "many: all reset" "$many" 1400
check_num "many: remembered at a time" "$(count failed now)" "<=" 1024
check_num "many: elements in the kernel" "$(nft_rtr list set inet sixpath failed_reset4 | grep -o 'expires' | wc -l)" "<=" 1024
check_eq "many: the last one is refused" "$(word "$SRV4" 3390)" ECONNREFUSED
check_eq "many: others are served" "$(ended "$SRV4" 80 --get / --want 12)" want
lab_daemons_stop
lab_end
