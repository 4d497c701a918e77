#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Time to the first byte in round trips: TCP and MPTCP upstream, server with and without Fast Open
# build: release
. "$(dirname "$0")/lib.sh"

A=50 B=20 # round trips router-proxy and proxy-server, ms
DIRECT=$((2 * (A + B)))
N=5

# first_bytes COUNT ADDRESS PORT [OPTION...]: milliseconds, one line each.
first_bytes() {
	local n=$1 addr=$2 port=$3
	shift 3
	lab_in "$DEV" "$PEER" probe "$@" --repeat "$n" --want 1 "$addr" "$port" >"$LAB_DIR/probe.out" 2>&1
	json "$LAB_DIR/probe.out" '"\n".join(str(p["first_byte_ms"]) for p in (j if isinstance(j, list) else [j]))'
}

median() {
	sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

most() {
	sort -n | tail -n 1
}

within() { # NAME VALUE THEORY: plus 10 %
	check_num "$1" "$2" "<=" "$(awk -v t="$3" 'BEGIN { print t * 1.1 }')"
}

# measure NAME THEORY ADDRESS PORT [OPTION...]: the first connection is no slower than direct, later
# ones are as fast as theory says.
measure() {
	local name=$1 theory=$2 first
	shift 2
	first=$(first_bytes 1 "$@")
	check_num "$name: first connection not slower than direct" "$first" "<=" "$(awk -v d=$DIRECT 'BEGIN { print d * 1.1 }')"
	first_bytes $N "$@" >"$LAB_DIR/times"
	within "$name: later connections" "$(median <"$LAB_DIR/times")" "$theory"
	# A machine may be busy for a moment; what is slow by itself is slow again.
	[ "$(most <"$LAB_DIR/times" | cut -d. -f1)" -le $((DIRECT * 11 / 10)) ] || first_bytes $N "$@" >"$LAB_DIR/times"
	check_num "$name: none slower than direct" "$(most <"$LAB_DIR/times")" "<=" "$(awk -v d=$DIRECT 'BEGIN { print d * 1.1 }')"
}

lab_up --wan1 $((A / 2)) --wan2 $((A / 2)) --srv $((B / 2))
lab_serve plain "$SRV" http:80 banner:22
lab_serve fast "$SRV" --tfo http:81

# The rig itself: a direct connection takes two round trips, and neighbours are known afterwards.
first_bytes 2 "$SRV4" 80 --get / >/dev/null
first_bytes 2 "$SRV6" 80 --get / >/dev/null
direct=$(first_bytes $N "$SRV4" 80 --get / | median)
check_num "the rig: direct takes two round trips" "$direct" ">=" $DIRECT
check_num "the rig: direct takes two round trips" "$direct" "<" $((DIRECT + 15))

for mptcp in no auto; do
	over=TCP plain=$((A + 2 * B)) fast=$((A + B))
	if [ $mptcp = auto ]; then
		over=MPTCP
		[ $plain -ge $((2 * A)) ] || plain=$((2 * A))
		[ $fast -ge $((2 * A)) ] || fast=$((2 * A))
	fi
	lab_daemons --redir "proxy home.mptcp=$mptcp"
	measure "$over v4" $plain "$SRV4" 80 --get /
	measure "$over v6" $plain "$SRV6" 80 --get /
	measure "$over v4, server with Fast Open" $fast "$SRV4" 81 --get /
	measure "$over v6, server with Fast Open" $fast "$SRV6" 81 --get /
	measure "$over v4, server speaks first" $plain "$SRV4" 22
	# More than a SYN carries: the rest leaves when the SYN has been answered.
	measure "$over v4, 6 KB first flight" $((2 * A + B)) "$SRV4" 80 --get "/$(printf 'x%.0s' $(seq 1 6000))"
	flows=$(grep -c "route=proxy" "$LAB_DIR/redir.log")
	check_num "$over: all of it went through the proxy" "$flows" ">=" $((6 * (N + 1)))
	lab_daemons_stop
done
lab_end
