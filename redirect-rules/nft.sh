#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Steers connections into sixpath-redir with nftables. See --help.
#
# In tproxy mode the rules only take a connection while somebody listens on the port: without a
# listener `tproxy` ends its rule before the mark is set, and the packet is forwarded as usual.
# Connections of this host (--local) and redirect mode cannot do that: they are refused then.

here=$(dirname "$0")
# shellcheck source=common.sh
. "$here/common.sh"

NFT_TABLE="inet sixpath_script"
SYN='tcp flags & (fin|syn|rst|ack) == syn'

commas() {
	printf '%s' "$*" | sed 's/  */, /g'
}

quoted() { # words as a set of interface names
	printf '{ '
	sep=""
	for word; do
		printf '%s"%s"' "$sep" "$word"
		sep=", "
	done
	printf ' }'
}

address_set() { # NAME TYPE NET...
	name=$1 type=$2
	shift 2
	cat <<-END
		set $name {
			type $type
			flags interval
			auto-merge
			elements = { $(commas "$@") }
		}
	END
}

# indent: by the braces at the ends of lines.
indent() {
	awk '/^}/ { depth-- }
		{ for (i = 0; i < depth; i++) printf "\t"; print }
		/{$/ { depth++ }'
}

# set_mark: the bits of the captured packets' mark; the others stay.
set_mark() { # meta|ct
	if [ $((FWMASK)) = $((FWVALUE)) ]; then
		printf '%s mark set %s mark | %s' "$1" "$1" "$FWVALUE"
	else
		printf '%s mark set %s mark & 0x%x | %s' "$1" "$1" $((~FWMASK & 0xffffffff)) "$FWVALUE"
	fi
}

other_family() {
	case $V4$V6 in
	yesno) echo "meta nfproto ipv6 return" ;;
	noyes) echo "meta nfproto ipv4 return" ;;
	esac
}

# What is never captured, then the verdict for the rest.
capture_chain() { # NAME VERDICT
	cat <<-END
		chain $1 {
			$(other_family)
			fib daddr type { local, broadcast, anycast, multicast } return
			ip daddr @exclude4 return
			ip6 daddr @exclude6 return
			tcp dport { $(commas "$PORTS") } $2
		}
	END
}

captures_udp() {
	[ -n "$IFACE" ] && [ -n "$UDP_PORTS$UDP_REFUSE" ]
}

# Answers of this network's own servers are replies. Ours to devices, which come from addresses that
# are not this host's, are not tracked: what a device answers to them would be a reply as well.
udp_rules() {
	cat <<-END
		chain capture_udp {
			$(other_family)
			ct direction reply return
			fib daddr type { local, broadcast, anycast, multicast } return
			ip daddr @exclude4 return
			ip6 daddr @exclude6 return
			$([ -z "$UDP_REFUSE" ] || echo "udp dport { $(commas "$UDP_REFUSE") } reject with icmpx port-unreachable")
			$([ -z "$UDP_DIRECT" ] || echo "udp dport { $(commas "$UDP_DIRECT") } return")
			$([ -z "$UDP_PORTS" ] || echo "udp dport { $(commas "$UDP_PORTS") } tproxy to :$PORT $(set_mark meta) accept")
		}
		chain untracked {
			type filter hook output priority raw; policy accept;
			oifname $lan meta l4proto udp fib saddr type != local notrack
		}
	END
}

tproxy_rules() {
	capture_chain capture "tproxy to :$PORT $(set_mark meta) accept"
	! captures_udp || udp_rules
	cat <<-END
		chain prerouting {
			type filter hook prerouting priority mangle; policy accept;
	END
	[ -z "$IFACE" ] || cat <<-END
		iifname $lan meta l4proto tcp socket transparent 1 $(set_mark meta) accept
		iifname $lan $SYN jump capture
	END
	! captures_udp || echo "iifname $lan meta l4proto udp jump capture_udp"
	# Decided in the output chain; here is only one way left.
	[ "$LOCAL" = no ] || cat <<-END
		iifname "lo" meta mark & $FWMASK == $FWVALUE $SYN tproxy to :$PORT accept
	END
	echo "}"
	[ "$LOCAL" = no ] || local_rules
}

# The conntrack mark keeps the decision made on the SYN: connections older than the rules and those
# of this host's own servers are left alone.
local_rules() {
	capture_chain capture_local "$(set_mark ct)"
	cat <<-END
		chain output {
			type route hook output priority mangle; policy accept;
			meta mark $MARK return
			$SYN jump capture_local
			meta l4proto tcp ct mark & $FWMASK == $FWVALUE $(set_mark meta)
		}
	END
}

redirect_rules() {
	capture_chain capture "redirect to :$PORT"
	[ -z "$IFACE" ] || cat <<-END
		chain prerouting {
			type nat hook prerouting priority dstnat; policy accept;
			iifname $lan $SYN jump capture
		}
	END
	[ "$LOCAL" = no ] || cat <<-END
		chain output {
			type nat hook output priority -100; policy accept;
			meta mark != $MARK $SYN jump capture
		}
	END
}

rules_start() {
	# shellcheck disable=SC2086
	{
		lan=$(quoted $IFACE)
		# One transaction: the old table, if any, is replaced without a gap.
		echo "table $NFT_TABLE"
		echo "delete table $NFT_TABLE"
		echo "table $NFT_TABLE {"
		address_set exclude4 ipv4_addr $EXCLUDE4
		address_set exclude6 ipv6_addr $EXCLUDE6
		"${MODE}_rules"
		echo "}"
	} | sed 's/^[[:space:]]*//; /^$/d' | indent | cmd_input nft -f -
}

rules_stop() {
	# shellcheck disable=SC2086
	if nft list table $NFT_TABLE >/dev/null 2>&1; then
		cmd nft delete table $NFT_TABLE
	fi
}

rules_status() {
	# shellcheck disable=SC2086
	text=$(nft list table $NFT_TABLE 2>/dev/null) || return 3
	echo "  table $NFT_TABLE"
	case $text in
	*"tproxy to :"*) echo "  mode: tproxy" ;;
	*) echo "  mode: redirect" ;;
	esac
	printf '%s\n' "$text" |
		sed -n 's/.*\(tproxy\|redirect\) to :\([0-9]*\).*/  port: \2/p' | sort -u
	printf '%s\n' "$text" | sed -n 's/.*iifname \(.*\) tcp flags.* jump.*/  interfaces: \1/p'
	case $text in
	*"chain output"*) echo "  this host's own connections: captured (refused while nobody listens)" ;;
	esac
	case $text in
	*"tproxy to :"*) echo "  without a listener: not captured, forwarded directly" ;;
	*) echo "  without a listener: captured connections are refused" ;;
	esac
}

parse_options "$@"
need nft ip
run
