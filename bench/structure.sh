# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154,SC2034
# The short mode, sourced by bench/run: what does not depend on how busy the machine is, compared
# with bench/limits.json. A figure may exceed what is recorded there by `slack` percent; whoever
# changes a figure on purpose changes the record, and says why in the commit.

limit() { # NAME
	json "$BENCH/limits.json" "j[\"$1\"]"
}

# allowed NAME: with the slack
allowed() {
	awk -v l="$(limit "$1")" -v s="$(limit slack_percent)" 'BEGIN { print l * (100 + s) / 100 }'
}

# within NAME TEXT VALUE
within() {
	check_num "$2" "$3" "<=" "$(allowed "$1")"
}

# counted LIMIT TEXT slope|between ARGUMENT...: how events fall together differs from run to run, and with it
# the number of reads and wake-ups; what costs more by itself costs more three times.
counted() {
	local most=$1 text=$2 best=""
	shift 2
	for _ in 1 2 3; do
		"$@"
		[ -n "$best" ] && [ "$best" -le "${SLOPE:-$best}" ] || best=$SLOPE
		awk -v v="${best:-x}" -v l="$most" 'BEGIN { exit !(v + 0 > 0 && v + 0 <= l + 0) }' && break
	done
	check_num "$text" "$best" "<=" "$most"
	BEST=$best
}

structure_instructions() { # NAME TEXT
	counted "$(allowed "instructions_connection_$1")" "$2: instructions for a connection" slope "$1" 0 short 100 600 --flows 1
	counted "$(awk -v b="${BEST:-0}" 'BEGIN { print int(b * 1.2) }')" "$2: the same beside 1000 open flows" between "$1" 1000 short 1000 --flows 1
	counted "$(allowed "instructions_mib_$1")" "$2: instructions for a MiB" slope "$1" 0 kept 4 36 --flows 1 --reply 1048576
}

structure_proxy() { # NAME TEXT
	BENCH_WRAPPED=proxy
	counted "$(allowed "instructions_proxy_$1")" "$2: the proxy's instructions for a connection" slope "$1" 0 short 100 600 --flows 1
	BENCH_WRAPPED=redir
}

# One at a time, each woken up for: what comes together costs less.
structure_udp() { # NAME TEXT
	local MEASURE_PORT=$BENCH_UDP_PORT
	counted "$(allowed "instructions_echo_$1")" "$2: instructions for a datagram and its echo" slope "$1" 0 udp 200 1200 --flows 1 --window 1
	BENCH_WRAPPED=proxy
	counted "$(allowed "instructions_proxy_echo_$1")" "$2: the proxy's instructions for a datagram and its echo" slope "$1" 0 udp 200 1200 --flows 1 --window 1
	BENCH_WRAPPED=redir
}

# flow_memory NAME TEXT: octets of RSS in OCTETS and descriptors in FDS for one flow more. From a
# thousand on: what the first ones use was in the heap before, or not. False: not all flows came to be.
flow_memory() {
	local pid n rss=0 before=0 few=1000
	contestant_start "$1"
	pid=${LAB_PIDS[redir]}
	for n in $few $BENCH_MANY; do
		lab_wait 20 router_sockets_below 50
		before=$rss
		# not in a subshell: idle_stop has to know of it
		if ! idle_start "$n" 2>"$LAB_DIR/idle.err" || [ -s "$LAB_DIR/idle.err" ]; then
			echo "# $2: $n flows: $(head -n 1 "$LAB_DIR/idle.err")"
			idle_stop
			contestant_stop
			return 1
		fi
		sleep 3 # buffers go back
		rss=$(sum_rss "$pid")
		FDS=$(awk -v n="$(count_fds "$pid")" -v m="$n" 'BEGIN { print n / m }')
		idle_stop
	done
	OCTETS=$(((rss - before) * 1024 / (BENCH_MANY - few)))
	contestant_stop
}

# Where things come to lie in the heap differs from run to run; what takes more by itself takes more
# three times.
structure_memory() { # NAME TEXT
	local least="" complete=0
	for _ in 1 2 3; do
		flow_memory "$@" || continue
		complete=$((complete + 1))
		[ -n "$least" ] && [ "$least" -le "$OCTETS" ] || least=$OCTETS
		[ "$least" -gt "$(limit rss_flow_octets)" ] || break
	done
	check_num "$2: times that all of $BENCH_MANY flows were open" $complete ">=" 1
	[ $complete -gt 0 ] || return
	within rss_flow_octets "$2: octets of RSS for an idle flow" "$least"
	within fds_flow "$2: descriptors for an idle flow" "$FDS"
}

# structure_idle LIMIT CONTESTANT TEXT: just started, as figure_idle. Where the C library comes to lie
# makes 100 KiB of difference.
structure_idle() {
	contestant_start "$2"
	within "$1" "$3: KiB of RSS of an idle redirector" "$(sum_rss "$(pids_of redir)")"
	contestant_stop
}

structure() {
	bench_lab
	BENCH_NAME=structure
	lab_bg load "$SRV" "$SIXPATH_BUILD/bench/load" serve 80
	lab_wait_port "$SRV" 80
	lab_bg echo "$SRV" "$SIXPATH_BUILD/bench/load" echo "$BENCH_UDP_PORT"
	lab_wait 10 lab_logged echo ready
	strip -o "$LAB_DIR/stripped" "$(program "$SIXPATH_BUILD/src/redir/sixpath-redir")"
	within size_redir "sixpath-redir, stripped, octets" "$(stat -c %s "$LAB_DIR/stripped")"
	structure_idle rss_idle_kib sixpath-tcp "without nft back end"
	structure_idle rss_idle_nft_kib sixpath-own "with nft back end"
	structure_instructions sixpath-tcp "TCP upstream"
	structure_instructions sixpath-mptcp "MPTCP upstream"
	structure_proxy sixpath-tcp "TCP upstream"
	structure_proxy sixpath-mptcp "MPTCP upstream"
	structure_udp sixpath-udp "UDP to the proxy"
	structure_memory sixpath-tcp "TCP upstream"
	structure_memory sixpath-mptcp "MPTCP upstream"
}
