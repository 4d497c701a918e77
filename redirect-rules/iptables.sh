#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Steers connections into sixpath-redir with iptables and ip6tables. See --help.
#
# The TPROXY target of iptables drops what nobody listens for: unlike with nft.sh, captured
# connections fail while the daemon is not there, until `stop`.

here=$(dirname "$0")
# shellcheck source=common.sh
. "$here/common.sh"

CHAINS="SIXPATH SIXPATH_OUT SIXPATH_SEEN SIXPATH_VERIFY SIXPATH_CAPTURE SIXPATH_LOCAL SIXPATH_KEEP
	SIXPATH_UDP SIXPATH_UDPCAPTURE SIXPATH_UDPTAKE"
SYN="-p tcp --tcp-flags FIN,SYN,RST,ACK SYN"

tool() { # FAMILY: prefix of its programs
	case $1 in
	4) echo iptables ;;
	6) echo ip6tables ;;
	esac
}

save() { # FAMILY TABLE
	"$(tool "$1")-save" -t "$2" 2>/dev/null
}

# What takes our chains and the jumps into them out of a table, as lines for iptables-restore.
undo_lines() { # FAMILY TABLE
	saved=$(save "$1" "$2")
	printf '%s\n' "$saved" |
		sed -n 's/^-A \(\(PREROUTING\|OUTPUT\|FORWARD\) .*-j SIXPATH\(_OUT\|_SEEN\|_VERIFY\|_UDP\)\{0,1\}\)$/-D \1/p'
	for action in -F -X; do
		for chain in $CHAINS; do
			case $saved in
			*":$chain "*) echo "$action $chain" ;;
			esac
		done
	done
}

restore() { # FAMILY TABLE LINES: one transaction
	[ -n "$3" ] || return 0
	printf '*%s\n%s\nCOMMIT\n' "$2" "$3" | cmd_input "$(tool "$1")-restore" -w --noflush
}

# The daemon's sets of servers that speak MPTCP; with `auto` for SYNs that ask for it only.
learned_line() { # FAMILY CHAIN
	case $LEARNED in
	auto) echo "-A $2 -p tcp --tcp-option 30 -m set --match-set sixpath$1 dst,dst -j RETURN" ;;
	rule) echo "-A $2 -p tcp -m set --match-set sixpath$1 dst,dst -j RETURN" ;;
	esac
}

# Whoever comes first makes them, the daemon or we.
make_sets() {
	[ "$LEARNED" != no ] || return 0
	cmd ipset -exist create sixpath4 hash:ip,port family inet timeout 3600 || return 1
	[ "$V6" = no ] || cmd ipset -exist create sixpath6 hash:ip,port family inet6 timeout 3600
}

# What is never captured, then the target for the rest, in one rule for each port or range.
capture_chain() { # FAMILY CHAIN TARGET...
	nets=$EXCLUDE4
	[ "$1" = 4 ] || nets=$EXCLUDE6
	family=$1
	chain=$2
	shift 2
	echo "-A $chain -m addrtype --dst-type LOCAL -j RETURN"
	for net in $nets; do
		echo "-A $chain -d $net -j RETURN"
	done
	learned_line "$family" "$chain"
	for p in $PORTS; do
		echo "-A $chain -p tcp --dport ${p%%-*}:${p#*-} -j $*"
	done
}

tproxy_lines() { # FAMILY
	printf ':%s - [0:0]\n' SIXPATH SIXPATH_CAPTURE SIXPATH_KEEP
	echo "-A SIXPATH_KEEP -j MARK --set-xmark $FWMARK"
	echo "-A SIXPATH_KEEP -j ACCEPT"
	for i in $IFACE; do
		echo "-A SIXPATH -i $i -p tcp -m socket --transparent -j SIXPATH_KEEP"
		echo "-A SIXPATH -i $i $SYN -j SIXPATH_CAPTURE"
	done
	capture_chain "$1" SIXPATH_CAPTURE TPROXY --on-port "$PORT" --tproxy-mark "$FWMARK"
	[ "$LOCAL" = no ] || local_lines "$1"
	echo "-A PREROUTING -p tcp -j SIXPATH"
	[ -z "$IFACE" ] || [ -z "$UDP_PORTS$UDP_REFUSE" ] || udp_lines "$1"
}

udp_ports() { # TARGET PORT...
	target=$1
	shift
	for p; do
		echo "-A SIXPATH_UDPCAPTURE -p udp --dport ${p%%-*}:${p#*-} -j $target"
	done
}

# Answers of this network's own servers are replies; so are those to what we send to devices in
# others' names, but then there is a socket of ours. What is refused the daemon refuses.
udp_lines() { # FAMILY
	udp_nets=$EXCLUDE4
	[ "$1" = 4 ] || udp_nets=$EXCLUDE6
	printf ':%s - [0:0]\n' SIXPATH_UDP SIXPATH_UDPCAPTURE SIXPATH_UDPTAKE
	echo "-A SIXPATH_UDPTAKE -p udp -j TPROXY --on-port $PORT --tproxy-mark $FWMARK"
	for i in $IFACE; do
		echo "-A SIXPATH_UDP -i $i -p udp -m socket --transparent -j SIXPATH_UDPTAKE"
		echo "-A SIXPATH_UDP -i $i -j SIXPATH_UDPCAPTURE"
	done
	echo "-A SIXPATH_UDPCAPTURE -m conntrack --ctdir REPLY -j RETURN"
	echo "-A SIXPATH_UDPCAPTURE -m addrtype --dst-type LOCAL -j RETURN"
	for net in $udp_nets; do
		echo "-A SIXPATH_UDPCAPTURE -d $net -j RETURN"
	done
	# shellcheck disable=SC2086
	{
		udp_ports SIXPATH_UDPTAKE $UDP_REFUSE
		udp_ports RETURN $UDP_DIRECT
		udp_ports SIXPATH_UDPTAKE $UDP_PORTS
	}
	echo "-A PREROUTING -p udp -j SIXPATH_UDP"
}

# The conntrack mark keeps the decision made on the SYN: connections older than the rules and those
# of this host's own servers are left alone.
local_lines() { # FAMILY
	printf ':%s - [0:0]\n' SIXPATH_OUT SIXPATH_LOCAL
	echo "-A SIXPATH -i lo -m mark --mark $FWMARK $SYN -j TPROXY --on-port $PORT --tproxy-mark $FWMARK"
	echo "-A SIXPATH_OUT -m mark --mark $MARK -j RETURN"
	echo "-A SIXPATH_OUT $SYN -j SIXPATH_LOCAL"
	echo "-A SIXPATH_OUT -m connmark --mark $FWMARK -j MARK --set-xmark $FWMARK"
	capture_chain "$1" SIXPATH_LOCAL CONNMARK --set-xmark "$FWMARK"
	echo "-A OUTPUT -p tcp -j SIXPATH_OUT"
}

redirect_lines() { # FAMILY
	printf ':%s - [0:0]\n' SIXPATH SIXPATH_CAPTURE
	for i in $IFACE; do
		echo "-A SIXPATH -i $i $SYN -j SIXPATH_CAPTURE"
	done
	capture_chain "$1" SIXPATH_CAPTURE REDIRECT --to-ports "$PORT"
	echo "-A PREROUTING -p tcp -j SIXPATH"
	[ "$LOCAL" = no ] || cat <<-END
		:SIXPATH_OUT - [0:0]
		-A SIXPATH_OUT -m mark --mark $MARK -j RETURN
		-A SIXPATH_OUT $SYN -j SIXPATH_CAPTURE
		-A OUTPUT -p tcp -j SIXPATH_OUT
	END
}

# What passes by is shown to the daemon, and goes on while there is none.
passive_lines() {
	printf ':%s - [0:0]\n' SIXPATH_SEEN
	for i in $IFACE; do
		echo "-A SIXPATH_SEEN -o $i -p tcp --tcp-flags FIN,SYN,RST,ACK SYN,ACK --tcp-option 30" \
			"-j NFQUEUE --queue-num $PASSIVE_QUEUE --queue-bypass"
	done
	echo "-A FORWARD -p tcp -j SIXPATH_SEEN"
}

# What a table shall have: nothing, or lines for iptables-restore.
wanted_lines() { # FAMILY TABLE TABLE-OF-MODE
	wanted "$1" || return 0
	[ "$2" != "$3" ] || "${MODE}_lines" "$1"
	[ "$2" != mangle ] || [ "$LEARN_PASSIVE" = no ] || passive_lines
}

# ---- --only-verify: beside the daemon's own rules, which decide and mark what is to be held ----

verify_lines() {
	echo ":SIXPATH_VERIFY - [0:0]"
	echo "-A SIXPATH_VERIFY -m mark --mark $HELD_MARK $SYN" \
		"-j NFQUEUE --queue-num $HELD_QUEUE --queue-bypass"
	echo "-A PREROUTING -p tcp -j SIXPATH_VERIFY"
}

verify_start() {
	for family in 4 6; do
		wanted $family || continue
		lines=$(undo_lines $family mangle | grep SIXPATH_VERIFY)
		[ -z "$lines" ] || lines="$lines
"
		restore $family mangle "$lines$(verify_lines)" || return 1
	done
}

verify_stop() {
	rc=0
	for family in 4 6; do
		restore $family mangle "$(undo_lines $family mangle | grep SIXPATH_VERIFY)" || rc=1
	done
	return $rc
}

verify_status() {
	rc=3
	for family in 4 6; do
		case $(save $family mangle) in
		*"-A PREROUTING -p tcp -j SIXPATH_VERIFY"*) ;;
		*) continue ;;
		esac
		echo "  IPv$family: SYNs to be held go to queue $HELD_QUEUE"
		rc=0
	done
	[ $rc = 0 ] || echo "  nothing is sent to queue $HELD_QUEUE"
	return $rc
}

# ---- the rules ----

# Each table is replaced in one transaction: no packet sees half of it.
rules_start() {
	make_sets || return 1
	use=mangle
	[ "$MODE" = tproxy ] || use=nat
	for family in 4 6; do
		for table in mangle nat; do
			lines=$(undo_lines $family $table)
			new=$(wanted_lines $family $table $use)
			if [ -n "$new" ]; then
				[ -z "$lines" ] || lines="$lines
"
				lines="$lines$new"
			fi
			restore $family $table "$lines" || return 1
		done
	done
}

rules_stop() {
	rc=0
	for family in 4 6; do
		for table in mangle nat; do
			restore $family $table "$(undo_lines $family $table)" || rc=1
		done
	done
	return $rc
}

rules_status() {
	rc=3 mode=""
	for family in 4 6; do
		for table in mangle nat; do
			# Chains that take nothing are no mode.
			text=$(save $family $table | grep SIXPATH | grep -v -e SIXPATH_SEEN -e SIXPATH_VERIFY) || continue
			echo "  IPv$family: table $table"
			case $text in
			*"-A PREROUTING -p tcp -j SIXPATH"*) [ $rc = 1 ] || rc=0 ;;
			*) rc=1 ;;
			esac
			mode=tproxy
			[ $table = mangle ] || mode=redirect
		done
	done
	[ $rc != 3 ] || return 3
	echo "  mode: $mode"
	if [ $mode = tproxy ]; then
		echo "  without a listener: captured connections are DROPPED until '$NAME stop' (nft.sh has no such limit)"
	else
		echo "  without a listener: captured connections are refused"
	fi
	return $rc
}

parse_options "$@"
[ "$LEARNED" = no ] || [ "$COMMAND" != start ] || need ipset
need iptables-save iptables-restore ip6tables-save ip6tables-restore ip
if [ "$ONLY_VERIFY" = yes ]; then
	"verify_$COMMAND"
	exit
fi
run
