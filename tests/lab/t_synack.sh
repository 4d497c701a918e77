#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A SYN-ACK is lost once, on its way from a proxy that has acted on the data in the SYN already
. "$(dirname "$0")/lib.sh"

# lose COUNT: so many of the proxy's SYN-ACKs
lose() {
	lab_in "$RTR" nft -f - <<-RULES
		table inet lossy {
			chain in {
				type filter hook prerouting priority -300
				tcp sport 1080 tcp flags & (syn | ack) == syn | ack limit rate 1/hour burst $1 packets counter drop
			}
		}
	RULES
}

lost() { # the counter, and the rule goes
	lab_in "$RTR" nft list table inet lossy | sed -n 's/.*counter packets \([0-9]*\).*/\1/p'
	lab_in "$RTR" nft delete table inet lossy
}

probe() { # ADDRESS PORT [OPTION...]
	lab_in "$DEV" "$PEER" probe --timeout-ms 8000 "${@:3}" "$1" "$2" | json - 'j["end"] + " " + str(j["octets"])'
}

last_flow() { # KEY
	grep ' flow ' "$LAB_DIR/redir.log" | tail -n 1 | tr ' ' '\n' | sed -n "s/^$1=//p"
}

flows() { [ "$(grep -c ' flow ' "$LAB_DIR/redir.log")" -ge "$1" ]; }

PAGE=$'GET / HTTP/1.0\r\n\r\n'
lab_up --wire --wan1 5 --wan2 5
lab_serve srv "$SRV" http:80 duplex:5000
lab_daemons --redir bypass.learn=no
n=0
mptcp_clients() { lab_ctl proxy status --json | json - 'j["counters"]["mptcp_clients"]'; }
for a in "$SRV4" "$SRV6"; do
	mptcp=$(mptcp_clients)
	for _ in 1 2 3; do
		check_eq "$a: whole" "$(probe "$a" 80 --send "$PAGE")" "eof 95"
		n=$((n + 1))
	done
	lab_wait 5 flows $n
	check_eq "$a: with data in the SYN" "$(last_flow tfo)" yes
	check_num "$a: the proxy counts them as MPTCP" "$(($(mptcp_clients) - mptcp))" ">=" 3

	lose 1
	check_eq "$a: the server closes behind its page" "$(probe "$a" 80 --send "$PAGE")" "eof 95"
	check_eq "$a: a SYN-ACK was lost" "$(lost)" 1
	lose 1
	check_eq "$a: the server stays" "$(probe "$a" 80 --get / --want 90)" "want 90"
	check_eq "$a: a SYN-ACK was lost then" "$(lost)" 1
	lose 1
	probe "$a" 99 --send "$PAGE" >/dev/null
	check_eq "$a: a SYN-ACK was lost before a refusal" "$(lost)" 1
	n=$((n + 3))
	lab_wait 10 flows $n
	check_eq "$a: the refusal arrives" "$(last_flow reason)" refused-by-proxy
	lose 1
	check "$a: streams both ways" lab_in "$DEV" "$PEER" duplex --up 200k --down 200k "$a" 5000
	check_eq "$a: a SYN-ACK was lost before streams" "$(lost)" 1
	n=$((n + 1))
	lab_wait 10 flows $n
done
check_eq "nothing was sent twice" "$(lab_ctl redir status --json | json - 'j["counters"]["tokens_rejected"]')" 0
lab_daemons_stop
lab_end
