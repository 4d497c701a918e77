#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Servers that speak MPTCP are learned and dialled directly; what is learned is checked at each use
# build: release
. "$(dirname "$0")/lib.sh"

counter() { # NAME
	lab_ctl redir status --json | json - 'j["counters"]["'"$1"'"]'
}

get() { # ADDRESS [PORT [SERVER]]: how it ends at the device
	lab_get "${3:-srv}" "$1" "${2:-80}"
}

learned() { # ADDRESS:PORT: "speaks/evidence"
	lab_ctl redir learned list --json | json - 'next((e["speaks"] + "/" + e["evidence"] for e in j["learned"] if e["server"] == "'"$1"'"), "unknown")'
}

# spoil RULES: what a middlebox does on the direct path only (nothing of the proxy's is touched).
spoil() {
	printf 'table inet spoil {\n chain forward {\n type filter hook forward priority 0;\n %s\n }\n}\n' "$1" |
		lab_in "$PRX" nft -f - || not_ok "the middlebox" "nft refuses its rule"
}
unspoil() {
	lab_in "$PRX" nft delete table inet spoil
}

serve() { # OPTION...: the server of port 80
	lab_kill srv
	lab_serve srv "$SRV" "$@" http:80 duplex:5000
}

# 3 s is how long a "no" is kept: a quarter of this.
lab_up --wan1 10:20 --wan2 10:20
serve --mptcp
lab_serve plain "$SRV" http:81
lab_daemons --redir bypass.ttl=12s

for server in "$SRV4:80" "[$SRV6]:80"; do
	a=${server%:80}
	a=${a//[\[\]]/}
	check_eq "$a: first connection" "$(get "$a")" want
	check_eq "$a: it came from the proxy" "$(lab_saw srv)" proxy
	check_eq "$a: learned from its reply" "$(learned "$server")" mptcp/proxy
	check_eq "$a: second connection" "$(get "$a")" want
	check_eq "$a: it came from the router" "$(lab_saw srv)" router
	check_eq "$a: the server itself is the evidence now" "$(learned "$server")" mptcp/direct
done
check_eq "proxied" "$(counter proxied)" 2
check_eq "bypassed" "$(counter bypassed)" 2
check_eq "of those through a proxy MPTCP, and no others counted so" "$(counter mptcp)" "$(counter proxied)"

# A plain server is always reached through the proxy.
for _ in 1 2 3; do
	check_eq "plain server" "$(get "$SRV4" 81 plain)" want
done
check_eq "plain server: learned" "$(learned "$SRV4:81")" plain/proxy
check_eq "plain server: through the proxy each time" "$(counter proxied)" 5

# Both WANs carry a bypassed connection.
lab_in "$DEV" "$PEER" duplex --down 10k --up 10k "$SRV4" 5000 >/dev/null
check_eq "bulk: learned" "$(learned "$SRV4:5000")" mptcp/proxy
before=$(counter proxied)
for dir in down up; do
	lab_in "$DEV" "$PEER" duplex --$dir 20M "$SRV4" 5000 >"$LAB_DIR/bulk.out" 2>&1
	check_num "bulk: Mbit/s $dir over two WANs, without the proxy" "$(json "$LAB_DIR/bulk.out" 'j["'$dir'_mbit"]')" ">=" 36
done
check_eq "bulk: the proxy had nothing to do" "$(counter proxied)" "$before"
check_num "bulk: octets saved from the proxy" "$(lab_ctl redir learned --json | json - 'next(e["saved"] for e in j["learned"] if e["server"] == "'"$SRV4:5000"'")')" ">=" 40000000

# relearn NAME: a connection succeeds, through the proxy, and the table knows better; when the
# trouble is over and the "no" has ended, it goes directly again.
corrects() { # NAME
	local failed
	failed=$(counter bypass_failed)
	check_eq "$1: the connection succeeds" "$(get "$SRV4")" want
	check_eq "$1: learned" "$(learned "$SRV4:80")" plain/direct
	check_eq "$1: one direct dial failed" "$(counter bypass_failed)" $((failed + 1))
	check_eq "$1: the next one does not try" "$(get "$SRV4")" want
	check_eq "$1: still one" "$(counter bypass_failed)" $((failed + 1))
}
afresh() { # what the proxy knows may be some seconds old
	lab_ctl redir learned remove "$SRV4:80" >/dev/null # it lasts longer each time
	get "$SRV4" >/dev/null
	[ "$(learned "$SRV4:80")" = mptcp/proxy ]
}
recovers() { # NAME: a reply of the proxy says yes, once the "no" has ended
	check "$1: learned anew" lab_wait 15 afresh
	check_eq "$1: works again" "$(get "$SRV4")" want
	check_eq "$1: directly" "$(learned "$SRV4:80")" mptcp/direct
}
fresh() {
	lab_wait 15 afresh
	get "$SRV4" >/dev/null
}

fresh
serve
corrects "server stops speaking MPTCP"
serve --mptcp
check "server speaks MPTCP again: found out by itself" lab_wait 15 sh -c "
	ip netns exec $DEV $PEER probe --get / --want 12 $SRV4 80 >/dev/null
	$SIXPATH_BUILD/src/tools/sixpathctl -s $LAB_DIR/run/redir.sock --json learned | grep -q '\"$SRV4:80\",\"speaks\":\"mptcp\"'"
recovers "server speaks MPTCP again"

fresh
spoil "ip saddr $WAN1_4 ip daddr $SRV4 reset tcp option mptcp"
corrects "MPTCP stripped from the SYN"
unspoil
recovers "MPTCP stripped from the SYN"

fresh
spoil "ip saddr $SRV4 ip daddr $WAN1_4 tcp flags & (syn|ack) == syn|ack reset tcp option mptcp"
corrects "MPTCP stripped from the SYN+ACK"
unspoil
recovers "MPTCP stripped from the SYN+ACK"

fresh
spoil "ip saddr $WAN1_4 ip daddr $SRV4 tcp flags & (syn|ack) == ack reset tcp option mptcp"
corrects "MPTCP stripped from data"
unspoil
recovers "MPTCP stripped from data"

fresh
spoil "ip saddr $WAN1_4 ip daddr $SRV4 tcp flags & (syn|ack) == syn tcp option mptcp exists drop"
corrects "SYNs with MPTCP dropped"
unspoil
recovers "SYNs with MPTCP dropped"

fresh
spoil "ip saddr $WAN1_4 ip daddr $SRV4 reject with tcp reset"
corrects "direct path resets"
unspoil
recovers "direct path resets"

# A dead server is dead either way, and nothing stays behind.
fresh
lab_kill srv
check_eq "dead server: the device is told" "$(get "$SRV4")" ECONNRESET
serve --mptcp
recovers "dead server"

# What the administrator says counts more; five different destinations in a row pause the direct path.
for i in 1 2 3 4 5 6; do
	ip -n "$SRV" addr add 203.0.113.2$i/24 dev eth0
	lab_ctl redir learned add 203.0.113.2$i:80 >/dev/null
done
spoil "ip saddr $WAN1_4 ip daddr 203.0.113.0/24 reject with tcp reset"
for i in 1 2 3 4 5; do
	check_eq "server $i, direct path broken" "$(get 203.0.113.2$i)" want
done
check_eq "an entry made by hand stays" "$(learned 203.0.113.21:80)" mptcp/admin
check_num "five in a row: the direct path pauses" "$(lab_ctl redir learned --json | json - 'j["direct_paused"]')" ">" 30
failed=$(counter bypass_failed)
check_eq "during the pause" "$(get 203.0.113.26)" want
check_eq "during the pause nothing is tried" "$(counter bypass_failed)" "$failed"
unspoil
lab_ctl redir learned clear >/dev/null
check_eq "cleared" "$(lab_ctl redir learned --json | json - 'len(j["learned"]), j["direct_paused"]')" "(0, 0.0)"

# Bad words.
for words in "learned nonsense" "learned add" "learned add 1.2.3.4" "learned add $SRV4:80 maybe" "learned remove 1.2.3.4:5"; do
	# shellcheck disable=SC2086
	if lab_ctl redir $words >"$LAB_DIR/out" 2>&1; then not_ok "$words" "taken"; else ok "refused: $words"; fi
done

# The table survives a restart, and a file that is none.
fresh
lab_daemon_stop redir
check_num "saved" "$(wc -l <"$LAB_DIR/run/learned")" ">=" 3
lab_daemon_start redir
before=$(counter bypassed)
check_eq "after a restart" "$(get "$SRV4")" want
check_eq "after a restart: known at once" "$(counter bypassed)" $((before + 1))
lab_daemon_stop redir
echo "something else" >"$LAB_DIR/run/learned"
lab_daemon_start redir
check "a foreign file is told of" lab_logged redir "this is no file of learned servers"
check_eq "a foreign file is survived" "$(get "$SRV4")" want
lab_daemons_stop
lab_end
