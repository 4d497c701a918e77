#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Many UDP associations at a time: each works, what they hold, and how many the descriptors allow
. "$(dirname "$0")/lib.sh"

BENCH=$LAB_SRC/bench
. "$BENCH/contestants.sh"
. "$BENCH/figures.sh"
. "$BENCH/assoc.sh"
EACH=700 PAIRS=3 # bench/run --only assoc holds 20,000

[ -x "$SIXPATH_BUILD/bench/load" ] || lab_die "bench/load is not built in SIXPATH_BUILD=$SIXPATH_BUILD (make check TESTS=)"
lab_up
lab_bg echo "$SRV" "$SIXPATH_BUILD/bench/load" echo "$BENCH_UDP_PORT" $((BENCH_UDP_PORT + 1)) $((BENCH_UDP_PORT + 2))
lab_wait 10 lab_logged echo ready

sum() { # redir|proxy KEY
	local i n=0
	for ((i = 1; i <= PAIRS; i++)); do
		n=$((n + $("$SIXPATH_BUILD/src/tools/sixpathctl" -s "$LAB_DIR/run/$1$i.sock" status --json | json - "j['udp']['$2']")))
	done
	echo $n
}

assoc_pairs_start $PAIRS
redir=$(count_fds "$(assoc_pids redir)") proxy=$(count_fds "$(assoc_pids proxy)")
assoc_hold $EACH
check_eq "associations that were made" "$ASSOC_HELD" $((EACH * PAIRS))
check_eq "of these work while all are there" "$ASSOC_AGAIN" $((EACH * PAIRS))
check_eq "the redirectors' associations" "$(sum redir associations)" $((EACH * PAIRS))
check_eq "none was made again" "$(sum redir reformed)" 0
check_eq "the proxies' associations" "$(sum proxy associations)" $((EACH * PAIRS))
# The rest: sockets to the proxies and in servers' names.
check_num "descriptors of the redirectors" $(($(count_fds "$(assoc_pids redir)") - redir)) "<=" $((EACH * PAIRS + 30))
check_num "descriptors of the proxies" $(($(count_fds "$(assoc_pids proxy)") - proxy)) "<=" $((2 * EACH * PAIRS + 30))
assoc_release
assoc_pairs_stop

# Each is one descriptor of the redirector, and counts as one: of 256 most are theirs.
# shellcheck disable=SC2016,SC2034 # for the shell that is started; sixpath_udp takes it
BENCH_WRAP=(sh -c 'ulimit -n 256 && exec "$@"' sh)
sixpath_udp udp
held() { lab_ctl redir status --json | json - "j['udp']['associations']"; }
assoc_open few 150 "$BENCH_UDP_PORT"
lab_wait 30 assoc_ready few
check_eq "150 associations with 256 descriptors" "$ASSOC_GOOD $(held)" "150 150"
assoc_again few
check_eq "they work" "$ASSOC_GOOD" 150
check_eq "none had to make room" "$(lab_ctl redir status --json | json - "j['udp']['evicted']")" 0
assoc_open more 150 "$BENCH_UDP_PORT"
lab_wait 30 assoc_ready more
check_eq "150 more: they have the place of others" "$ASSOC_GOOD" 150
check_num "associations in all" "$(held)" "<=" 230
check_num "and no fewer than before" "$(held)" ">=" 150
lab_kill few
lab_kill more
lab_daemons_stop
lab_end
