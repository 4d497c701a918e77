#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Steers connections into sixpath-redir with iptables and ip6tables, in chains of our own.
# With --mode tproxy packets are dropped while the daemon is not there: the init system's stop
# action should run "iptables.sh stop". nft.sh has no such limit.
# shellcheck source=redirect-rules/common.sh
. "$(dirname "$0")/common.sh"

CHAIN=SIXPATH
LIST=SIXPATH_LIST   # what is left alone, then the target
OUT=SIXPATH_OUT

ipt() { # 4|6 ARGUMENT...
	if [ "$1" = 4 ]; then
		shift
		cmd iptables -w "$@"
	else
		shift
		cmd ip6tables -w "$@"
	fi
}

ask() { # 4|6 ARGUMENT...: does it exist?
	if [ "$1" = 4 ]; then
		shift
		iptables -w "$@" >/dev/null 2>&1
	else
		shift
		ip6tables -w "$@" >/dev/null 2>&1
	fi
}

each() { # COMMA-SEPARATED: as words
	echo "$1" | tr , ' '
}

exclusions() { # 4|6 TABLE CHAIN
	if [ "$1" = 4 ]; then
		list=$(each "$EXCLUDE4,$(only4 "$PROXIES")")
	else
		list=$(each "$EXCLUDE6,$(only6 "$PROXIES")")
	fi
	ipt "$1" -t "$2" -A "$3" -m addrtype --dst-type LOCAL -j RETURN || return 1
	for net in $list; do
		ipt "$1" -t "$2" -A "$3" -d "$net" -j RETURN || return 1
	done
}

# One rule for each port or range: multiport counts a range as two and stops at 15.
per_port() { # 4|6 TABLE CHAIN ARGUMENT...
	f=$1 t=$2 c=$3
	shift 3
	for range in $(each "$PORTS"); do
		ipt "$f" -t "$t" -A "$c" -p tcp --dport "$(echo "$range" | tr - :)" "$@" || return 1
	done
}

start_tproxy() { # 4|6
	f=$1
	ipt "$f" -t mangle -N $CHAIN && ipt "$f" -t mangle -N $LIST || return 1
	# What belongs to a captured connection already; then new ones.
	ipt "$f" -t mangle -A $CHAIN -p tcp -m socket --transparent -j MARK --set-xmark "$FWMARK" &&
		ipt "$f" -t mangle -A $CHAIN -p tcp -m socket --transparent -j ACCEPT &&
		ipt "$f" -t mangle -A $CHAIN -p tcp --syn -j $LIST || return 1
	exclusions "$f" mangle $LIST || return 1
	per_port "$f" mangle $LIST -j TPROXY --on-port "$PORT" --tproxy-mark "$FWMARK" || return 1
	if [ "$LOCAL" = yes ]; then
		ipt "$f" -t mangle -N $OUT &&
			ipt "$f" -t mangle -A $OUT -m mark --mark "$MARK" -j RETURN &&
			ipt "$f" -t mangle -A $OUT -m conntrack --ctdir REPLY -j RETURN || return 1
		exclusions "$f" mangle $OUT || return 1
		per_port "$f" mangle $OUT -j MARK --set-xmark "$FWMARK" || return 1
		ipt "$f" -t mangle -A OUTPUT -p tcp -j $OUT &&
			ipt "$f" -t mangle -A PREROUTING -i lo -p tcp -j $CHAIN || return 1
	fi
	for i in $(each "$IFACES"); do
		ipt "$f" -t mangle -A PREROUTING -i "$i" -p tcp -j $CHAIN || return 1
	done
}

start_redirect() { # 4|6
	f=$1
	ipt "$f" -t nat -N $CHAIN || return 1
	exclusions "$f" nat $CHAIN || return 1
	per_port "$f" nat $CHAIN -j REDIRECT --to-ports "$PORT" || return 1
	for i in $(each "$IFACES"); do
		ipt "$f" -t nat -A PREROUTING -i "$i" -p tcp -j $CHAIN || return 1
	done
	if [ "$LOCAL" = yes ]; then
		ipt "$f" -t nat -A OUTPUT -p tcp -m mark ! --mark "$MARK" -j $CHAIN || return 1
	fi
}

rules_start() {
	# What an earlier start has left goes first, so that the result is always the same.
	[ "$DRY_RUN" = yes ] || rules_stop >/dev/null
	for family in $FAMILIES; do
		"start_$MODE" "$family" || return 1
	done
	[ "$MODE" = redirect ] || routing_start
}

# Every jump into our chains, from wherever, as iptables prints it itself.
jumps() { # 4|6 TABLE
	if [ "$1" = 4 ]; then iptables-save -t "$2"; else ip6tables-save -t "$2"; fi 2>/dev/null |
		grep -E "^-A (PREROUTING|OUTPUT) .*-j (${CHAIN}|${OUT})\$"
}

rules_stop() {
	for family in 4 6; do
		for table in mangle nat; do
			if [ "$DRY_RUN" = yes ]; then
				echo "+ remove the jumps into $CHAIN and $OUT from table $table (IPv$family), then the chains"
				continue
			fi
			jumps $family $table | sed 's/^-A /-D /' | while read -r rule; do
				# shellcheck disable=SC2086
				ipt $family -t $table $rule
			done
			for chain in $CHAIN $OUT $LIST; do
				! ask $family -t $table -S $chain || ipt $family -t $table -F $chain
			done
			for chain in $CHAIN $OUT $LIST; do
				! ask $family -t $table -S $chain || ipt $family -t $table -X $chain
			done
		done
	done
	routing_stop
}

rules_status() {
	for family in 4 6; do
		for table in mangle nat; do
			! ask $family -t $table -S $CHAIN || found="${found:-} IPv$family:$table"
		done
	done
	if [ -z "${found:-}" ]; then
		echo "not active"
		exit 3
	fi
	echo "active:$found"
	case $found in
	*mangle*) echo "note: with TPROXY of iptables, connections are dropped while the daemon is not there" ;;
	esac
	ip rule show priority $PRIORITY
	ip -6 rule show priority $PRIORITY
}

parse_options "$@"
run_action
