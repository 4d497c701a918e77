#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What a connection that the rules let past costs, compared with one that was never captured.
# Usage, as root, on a build without sanitizers: SIXPATH_BUILD=DIR bench/bypass.sh
# Rounds are interleaved; medians, and ratios within the run.
. "$(dirname "$0")/../tests/lab/lib.sh"

ROUNDS=${ROUNDS:-7} N=${N:-300}

# median ms of N connections one after the other, each with a request and an answer
# shellcheck disable=SC2120
round() { # [OPTION...]
	lab_in "$DEV" "$PEER" probe --get / --want 12 --repeat "$N" "$@" "$SRV4" 80 >"$LAB_DIR/round.out" 2>&1
	json "$LAB_DIR/round.out" '"%.4f" % sorted(p["first_byte_ms"] for p in j)[len(j) // 2]'
}


lab_up
lab_serve srv "$SRV" --mptcp http:80
declare -A ALL
start() { # ACTION
	lab_daemons --no-rules --redir rules.install=yes --redir rules.capture=lan --redir bypass.action="$1" >/dev/null
	lab_wait 10 lab_in "$RTR" nft list table inet sixpath || lab_die "no rules"
	lab_ctl redir learned add "$SRV4:80" >/dev/null
	lab_wait 3 sh -c "ip netns exec $RTR nft list set inet sixpath learned4 | grep -q '$SRV4 . 80'" || [ "$1" = relay ] || lab_die "not in the set"
}
note() { # NAME VALUE
	ALL[$1]="${ALL[$1]:-} $2"
}
median() {
	printf '%s\n' $1 | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}
for ((i = 1; i <= ROUNDS; i++)); do
	printf '\rround %d of %d' "$i" "$ROUNDS" >&2
	note never "$(round)"
	start rule
	note bypassed "$(round)"
	lab_daemons_stop >/dev/null
	start relay
	note relayed "$(round)"
	lab_ctl redir learned clear >/dev/null
	lab_ctl redir learned add "$SRV4:80" plain >/dev/null
	note proxied "$(round)"
	lab_daemons_stop >/dev/null
	rm -f "$LAB_DIR/run/learned"
done
echo >&2
never=$(median "${ALL[never]}")
printf '%-34s %10s %8s\n' "request and answer, median of $N" "ms" "ratio"
for k in never bypassed relayed proxied; do
	case $k in
	never) text="never captured" ;;
	bypassed) text="learned, let past by the rules" ;;
	relayed) text="learned, relayed over MPTCP" ;;
	proxied) text="through the proxy" ;;
	esac
	v=$(median "${ALL[$k]}")
	printf '%-34s %10s %8s\n' "$text" "$v" "$(awk -v a="$v" -v b="$never" 'BEGIN { printf "%.2f", a / b }')"
done
lab_end >/dev/null
