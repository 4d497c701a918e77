#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Servers without MPTCP and Fast Open that answer and close at once: the end of file always arrives
. "$(dirname "$0")/lib.sh"

PAGE=$'GET / HTTP/1.0\r\n\r\n'

# ends ADDRESS PORT COUNT: how connections to it end, counted
ends() {
	for ((i = 0; i < $3; i++)); do
		lab_in "$DEV" "$PEER" probe --timeout-ms 3000 --send "$PAGE" "$1" "$2"
	done | json - '" ".join("%s=%d" % (e, [p["end"] for p in j].count(e)) for e in sorted({p["end"] for p in j}))'
}

proxy_is_up() { [ "$(lab_ctl redir proxies --json | json - 'j["proxies"][0]["state"]')" = up ]; }

lab_up
lab_serve srv "$SRV" http:80
lab_serve srvt "$SRV" --tfo http:81 # one address, one cookie: data in SYNs to port 80 as well
lab_daemons --redir bypass.learn=no
for a in "$SRV4" "$SRV6"; do
	check_eq "$a: with Fast Open" "$(ends "$a" 81 3)" "eof=3"
	# After the first the proxy does not ask for MPTCP for a while.
	for n in 1 2 3; do
		check_eq "$a: without, $n" "$(ends "$a" 80 40)" "eof=40"
		lab_kill proxy
		lab_daemon_start proxy
		lab_wait 20 proxy_is_up || not_ok "$a" "the proxy is not up again"
		ends "$a" 81 3 >/dev/null
	done
done
lab_daemons_stop
lab_end
