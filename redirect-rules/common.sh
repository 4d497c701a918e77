# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=sh
# Shared by nft.sh and iptables.sh: options, printing and running commands, policy routing.
# The scripts keep no state files. What they made is found again in the kernel by its name
# (nft table, iptables chains), by the preference of the ip rules and by the protocol of the routes.

# The numbers of preference, protocol, table, fwmark and mark are those of src/redir/rules.h, where
# the daemon keeps the same rules itself: change them in both.
RULE_PREF=10660 # of our ip rules; nobody else's are touched
ROUTE_PROTO=106 # of our routes
# Queues, for iptables.sh, and the mark of a SYN that waits for the second one: passive.h, held.h
# and rules.h in src/redir.
# shellcheck disable=SC2034
PASSIVE_QUEUE=10661 HELD_QUEUE=10662 HELD_MARK=0x10/0x10

# Never captured, whatever --exclude says: this host, link-local, multicast, reserved.
ALWAYS4="0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 224.0.0.0/4 240.0.0.0/4"
ALWAYS6="::/127 fe80::/10 ff00::/8"

MODE=tproxy PORT=1077 IFACE="" LOCAL=no LEARNED=no LEARN_PASSIVE=no ONLY_VERIFY=no MARK=0x5061 PORTS=1-65535 UDP_PORTS="" UDP_DIRECT="" UDP_REFUSE="" PROXY="" TABLE=100
EXCLUDE="10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,fc00::/7"
# The bit must not be in the daemon's mark: its own packets would be routed to ourselves.
FWMARK=0x2/0x2
V4=yes V6=yes DRY_RUN=no COMMAND=""

NAME=${0##*/}

usage() {
	cat <<-END
		usage: $NAME start|stop|status [OPTION...]
		Steers TCP connections into sixpath-redir, and takes exactly that away again.

		  --mode tproxy|redirect  as in redir.conf ($MODE)
		  --port N                where the daemon listens ($PORT)
		  --iface NAME[,NAME]     capture what comes in here, for instance br-lan
		  --local                 also capture this host's own connections
		  --mark N                mark of the daemon's own sockets, never captured ($MARK)
		  --ports N[-N][,...]     destination ports to capture ($PORTS)
		  --udp-ports N[-N][,...] destination ports to capture UDP of (none; tproxy and --iface only)
		  --udp-direct N[-N][,...]  of those, the ones not to capture (none)
		  --udp-refuse N[-N][,...]  ports to refuse, so that browsers give up QUIC at once (none)
		  --exclude NET[,NET]     destinations not to capture, IPv4 and IPv6; replaces the default:
		                          $EXCLUDE
		  --proxy ADDR[,ADDR]     the upstream proxies, never captured
		  --learned no|auto|rule  leave alone what the daemon has put into the ipsets sixpath4 and
		                          sixpath6, as action in redir.conf says ($LEARNED; iptables.sh only)
		  --learn-passive         show the daemon SYN+ACKs with an MPTCP option that pass by to
		                          --iface, for learn_passive in redir.conf (iptables.sh only)
		  --only-verify           only send SYNs that the daemon's own rules want to hold to its
		                          queue, for verify in redir.conf; with stop and status: only
		                          this (iptables.sh only; where nft cannot queue packets)
		  --table N               routing table for captured packets ($TABLE; tproxy only)
		  --fwmark N/MASK         mark of captured packets ($FWMARK; tproxy only)
		  -4, -6                  only IPv4, only IPv6
		  --env FILE              options from a file: lines such as IFACE=br-lan
		  --dry-run               print the commands that would run now, do nothing
		  --help
		start may be repeated: the new options replace the old ones. stop needs no options.
		status exits with 0 (active), 3 (inactive) or 1 (incomplete: start or stop it).
	END
}

bad_use() {
	echo "$NAME: $*" >&2
	echo "Try '$NAME --help'." >&2
	exit 64
}

fail() {
	echo "$NAME: $*" >&2
	exit 1
}

# ---- running commands ----

# cmd COMMAND...: prints it, then runs it.
cmd() {
	if [ "$DRY_RUN" = yes ]; then
		echo "$*"
		return 0
	fi
	echo "[#] $*" >&2
	"$@"
}

# cmd_input COMMAND...: the same with standard input, which is printed too.
cmd_input() {
	input=$(cat)
	if [ "$DRY_RUN" = yes ]; then
		printf "%s <<'EOF'\n%s\nEOF\n" "$*" "$input"
		return 0
	fi
	printf '[#] %s\n%s\n' "$*" "$input" >&2
	printf '%s\n' "$input" | "$@"
}

# ---- checking values ----

number() { # TEXT MIN MAX
	case $1 in
	"" | *[!0-9]* | ??????????*) return 1 ;;
	esac
	[ "$1" -ge "$2" ] && [ "$1" -le "$3" ]
}

valid_mark() { # decimal or 0xHEX, 32 bits
	case $1 in
	0x | 0x*[!0-9a-fA-F]* | 0x?????????*) return 1 ;;
	0x*) return 0 ;;
	0?*) return 1 ;;
	esac
	number "$1" 0 999999999
}

valid_net4() { # A.B.C.D[/N]
	case $1 in
	*/*/* | */) return 1 ;;
	*/*) number "${1#*/}" 0 32 || return 1 ;;
	esac
	old_ifs=$IFS
	IFS=.
	# shellcheck disable=SC2086
	set -- ${1%/*}
	IFS=$old_ifs
	[ $# = 4 ] || return 1
	for octet; do
		number "$octet" 0 255 || return 1
	done
}

valid_net6() { # the finer points are left to nft and ip6tables
	case $1 in
	*/*/* | */ | *:::* | *[!0-9a-fA-F:./]*) return 1 ;;
	*:*:*/*) number "${1#*/}" 0 128 ;;
	*:*:*) return 0 ;;
	*) return 1 ;;
	esac
}

valid_iface() {
	case $1 in
	"" | lo | *[!A-Za-z0-9_.@-]* | ????????????????*) return 1 ;;
	esac
}

words() { # a comma separated list
	printf '%s\n' "$1" | tr ',' ' '
}

check_marks() {
	valid_mark "$MARK" || bad_use "--mark: '$MARK' is not a number of 32 bits, decimal or 0x..."
	case $FWMARK in
	*/*) ;;
	*) FWMARK=$FWMARK/0xffffffff ;;
	esac
	FWVALUE=${FWMARK%%/*} FWMASK=${FWMARK#*/}
	if ! valid_mark "$FWVALUE" || ! valid_mark "$FWMASK"; then
		bad_use "--fwmark: '$FWMARK' is not VALUE/MASK, such as 0x2/0x2"
	fi
	if [ $((FWVALUE)) = 0 ] || [ $((FWVALUE & ~FWMASK)) != 0 ]; then
		bad_use "--fwmark: the value of '$FWMARK' must not be 0 and must lie within its mask"
	fi
	if [ $((MARK & FWMASK)) = $((FWVALUE)) ]; then
		bad_use "--fwmark: $FWMARK also matches the daemon's own mark $MARK:" \
			"its packets would be routed to this host; choose another bit"
	fi
}

check_port_list() { # OPTION PORT...
	option=$1
	shift
	for p; do
		if ! number "${p%%-*}" 1 65535 || ! number "${p#*-}" 1 65535 || [ "${p%%-*}" -gt "${p#*-}" ]; then
			bad_use "--$option: '$p' is neither a port nor a range of ports (1 to 65535)"
		fi
	done
}

check_ports() {
	PORTS=$(words "$PORTS") UDP_PORTS=$(words "$UDP_PORTS")
	UDP_DIRECT=$(words "$UDP_DIRECT") UDP_REFUSE=$(words "$UDP_REFUSE")
	[ -n "$PORTS" ] || bad_use "--ports: must name at least one port"
	# shellcheck disable=SC2086
	{
		check_port_list ports $PORTS
		check_port_list udp-ports $UDP_PORTS
		check_port_list udp-direct $UDP_DIRECT
		check_port_list udp-refuse $UDP_REFUSE
	}
	[ -z "$UDP_PORTS$UDP_REFUSE" ] || [ "$MODE" = tproxy ] ||
		bad_use "--udp-ports, --udp-refuse: UDP can be captured with --mode tproxy only"
}

# Sorts the destinations that are not captured into EXCLUDE4 and EXCLUDE6.
check_nets() {
	EXCLUDE4=$ALWAYS4 EXCLUDE6=$ALWAYS6
	for net in $(words "$EXCLUDE,$PROXY"); do
		if valid_net4 "$net"; then
			EXCLUDE4="$EXCLUDE4 $net"
		elif valid_net6 "$net"; then
			EXCLUDE6="$EXCLUDE6 $net"
		else
			bad_use "'$net' is neither an IPv4 nor an IPv6 address or network (names are not resolved)"
		fi
	done
}

check_options() {
	case $MODE in
	tproxy | redirect) ;;
	*) bad_use "--mode: '$MODE' is neither tproxy nor redirect" ;;
	esac
	number "$PORT" 1 65535 || bad_use "--port: '$PORT' is not a port (1 to 65535)"
	number "$TABLE" 1 999999999 || bad_use "--table: '$TABLE' is not the number of a routing table"
	case $TABLE in
	253 | 254 | 255) bad_use "--table: $TABLE belongs to the system" ;;
	esac
	case $LOCAL in
	yes | no) ;;
	*) bad_use "LOCAL: '$LOCAL' is neither yes nor no" ;;
	esac
	case $LEARNED in
	no) ;;
	auto | rule)
		[ "$NAME" = iptables.sh ] || bad_use "--learned is for iptables.sh: with nft the daemon keeps its own rules"
		;;
	*) bad_use "--learned: '$LEARNED' is neither no nor auto nor rule" ;;
	esac
	case $LEARN_PASSIVE in
	no) ;;
	yes)
		[ "$NAME" = iptables.sh ] ||
			bad_use "--learn-passive is for iptables.sh: with nft the daemon keeps its own rules"
		[ -n "$IFACE" ] || [ "$COMMAND" != start ] || bad_use "--learn-passive needs --iface"
		;;
	*) bad_use "LEARN_PASSIVE: '$LEARN_PASSIVE' is neither yes nor no" ;;
	esac
	[ "$ONLY_VERIFY" = no ] || [ "$NAME" = iptables.sh ] ||
		bad_use "--only-verify is for iptables.sh: where nft can queue packets the daemon does it itself"
	check_marks
	check_ports
	check_nets
	IFACE=$(words "$IFACE")
	for i in $IFACE; do
		valid_iface "$i" || bad_use "--iface: '$i' is not the name of an interface"
	done
	[ "$V4$V6" != nono ] || bad_use "-4 and -6 exclude each other"
	if [ "$COMMAND" = start ] && [ -z "$IFACE" ] && [ "$LOCAL$ONLY_VERIFY" = nono ]; then
		bad_use "start needs --iface, --local or both"
	fi
}

# ---- options ----

set_option() { # NAME VALUE
	case $1 in
	mode) MODE=$2 ;;
	port) PORT=$2 ;;
	iface) IFACE=$2 ;;
	local) LOCAL=$2 ;;
	mark) MARK=$2 ;;
	ports) PORTS=$2 ;;
	udp-ports | udp_ports) UDP_PORTS=$2 ;;
	udp-direct | udp_direct) UDP_DIRECT=$2 ;;
	udp-refuse | udp_refuse) UDP_REFUSE=$2 ;;
	learned) LEARNED=$2 ;;
	learn_passive) LEARN_PASSIVE=$2 ;;
	exclude) EXCLUDE=$2 ;;
	proxy) PROXY=$2 ;;
	table) TABLE=$2 ;;
	fwmark) FWMARK=$2 ;;
	*) return 1 ;;
	esac
}

# Lines KEY=VALUE; a # starts a comment; the value may stand in double quotes.
read_env() {
	[ -r "$1" ] || bad_use "--env: cannot read '$1'"
	line_no=0
	while IFS= read -r line || [ -n "$line" ]; do
		line_no=$((line_no + 1))
		line=$(printf '%s\n' "$line" | sed 's/#.*//; s/^[[:space:]]*//; s/[[:space:]]*$//; s/="\(.*\)"$/=\1/')
		[ -n "$line" ] || continue
		key=$(printf '%s\n' "${line%%=*}" | tr '[:upper:]' '[:lower:]')
		case $line in
		*=*) ;;
		*) bad_use "$1:$line_no: '$line' is not KEY=VALUE" ;;
		esac
		set_option "$key" "${line#*=}" || bad_use "$1:$line_no: unknown key '${line%%=*}'"
	done <"$1"
}

parse_options() {
	while [ $# -gt 0 ]; do
		case $1 in
		start | stop | status)
			[ -z "$COMMAND" ] || bad_use "'$COMMAND' and '$1' exclude each other"
			COMMAND=$1
			;;
		--dry-run) DRY_RUN=yes ;;
		--local) LOCAL=yes ;;
		--learn-passive) LEARN_PASSIVE=yes ;;
		--only-verify) ONLY_VERIFY=yes ;;
		-4) V6=no ;;
		-6) V4=no ;;
		-h | --help)
			usage
			exit 0
			;;
		--mode | --port | --iface | --mark | --ports | --udp-ports | --udp-direct | --udp-refuse | --learned | --exclude | --proxy | --table | --fwmark | --env)
			[ $# -gt 1 ] || bad_use "$1 needs a value"
			if [ "$1" = --env ]; then
				read_env "$2"
			else
				set_option "${1#--}" "$2"
			fi
			shift
			;;
		*) bad_use "unknown argument '$1'" ;;
		esac
		shift
	done
	[ -n "$COMMAND" ] || bad_use "say start, stop or status"
	check_options
	# A kernel without IPv6 needs no rules for it, and a lo without it takes no routes.
	lo_off=$(cat /proc/sys/net/ipv6/conf/lo/disable_ipv6 2>/dev/null)
	[ "$lo_off" = 0 ] && [ -e /proc/net/if_inet6 ] || V6=no
}

need() { # PROGRAM...
	for p; do
		command -v "$p" >/dev/null || fail "the program '$p' is not installed"
	done
	[ "$DRY_RUN" = yes ] || [ "$(id -u)" = 0 ] || fail "must run as root"
}

# ---- policy routing: marked packets are delivered to this host ----

wanted() { # FAMILY
	case $1 in
	4) [ "$V4" = yes ] ;;
	6) [ "$V6" = yes ] ;;
	esac
}

our_rules() { # FAMILY: "FWMARK TABLE" of each rule of ours
	ip "-$1" rule show 2>/dev/null | sed -n "s/^$RULE_PREF:.* fwmark \([^ ]*\) lookup \([^ ]*\).*/\1 \2/p"
}

our_routes() { # FAMILY: table of each route of ours
	ip "-$1" route show table all proto $ROUTE_PROTO 2>/dev/null |
		sed -n 's/^local default dev lo .*table \([^ ]*\).*/\1/p'
}

rule_del() { # FAMILY FWMARK TABLE
	cmd ip "-$1" rule del pref $RULE_PREF fwmark "$2" lookup "$3"
}

route_del() { # FAMILY TABLE
	cmd ip "-$1" route del local default dev lo table "$2" proto $ROUTE_PROTO
}

# `ip rule` leaves out a mask of all ones.
same_mark() { # SHOWN
	case $1 in
	*/*) [ $((${1%/*})) = $((FWVALUE)) ] && [ $((${1#*/})) = $((FWMASK)) ] ;;
	*) [ $(($1)) = $((FWVALUE)) ] && [ $((FWMASK)) = $((0xffffffff)) ] ;;
	esac
}

# Takes away our rules and routes of a family, whatever options start had, except those that fit
# the options now if `keep` says so. Sets have_rule and have_route when it has met those.
routing_clear() { # FAMILY [keep]
	have_rule=no have_route=no clear_rc=0
	while read -r mark table; do
		[ -n "$mark" ] || continue
		if [ "$2" = keep ] && [ $have_rule = no ] && [ "$table" = "$TABLE" ] && same_mark "$mark"; then
			have_rule=yes
		else
			rule_del "$1" "$mark" "$table" || clear_rc=1
		fi
	done <<-END
		$(our_rules "$1")
	END
	for table in $(our_routes "$1"); do
		if [ "$2" = keep ] && [ "$table" = "$TABLE" ]; then
			have_route=yes
		else
			route_del "$1" "$table" || clear_rc=1
		fi
	done
	return $clear_rc
}

routing_start() {
	for family in 4 6; do
		if ! wanted $family; then
			routing_clear $family drop || return 1
			continue
		fi
		routing_clear $family keep || return 1
		[ $have_route = yes ] ||
			cmd ip -$family route add local default dev lo table "$TABLE" proto $ROUTE_PROTO || return 1
		[ $have_rule = yes ] ||
			cmd ip -$family rule add pref $RULE_PREF fwmark "$FWMARK" lookup "$TABLE" || return 1
	done
}

routing_stop() {
	stop_rc=0
	for family in 4 6; do
		routing_clear $family drop || stop_rc=1
	done
	return $stop_rc
}

# Prints what there is; 0 = complete for a family, 1 = partly, 3 = nothing.
routing_status() {
	found="" missing=""
	for family in 4 6; do
		rules=$(our_rules $family) routes=$(our_routes $family)
		if [ -n "$rules" ] && [ -n "$routes" ]; then
			found="$found IPv$family"
			echo "  policy routing IPv$family: fwmark ${rules% *}, table ${rules#* }"
		elif [ -n "$rules$routes" ]; then
			missing=yes
			echo "  policy routing IPv$family: incomplete"
		fi
	done
	[ -z "$missing" ] || return 1
	[ -n "$found" ] || return 3
}

# ---- the three commands; the scripts define rules_start, rules_stop and rules_status ----

undo() {
	rules_stop
	rules_rc=$?
	routing_stop && return $rules_rc
}

start() {
	# Capturing comes last, when captured packets have a way to go.
	if [ "$MODE" = tproxy ]; then
		routing_start && rules_start && return 0
	else
		# A change of mode: the routing goes after the rules that needed it.
		rules_start && routing_stop && return 0
	fi
	echo "$NAME: start failed; taking away what was done" >&2
	undo
	exit 1
}

# rules_status prints, sets ACTIVE_MODE, and returns 0 complete, 1 incomplete, 3 nothing.
status() {
	ACTIVE_MODE=""
	rules_text=$(rules_status)
	rules_rc=$?
	routing_text=$(routing_status)
	routing_rc=$?
	ACTIVE_MODE=$(printf '%s\n' "$rules_text" | sed -n 's/^  mode: //p')
	case $rules_rc,$routing_rc,$ACTIVE_MODE in
	0,0,tproxy | 0,3,redirect) state=active rc=0 ;;
	3,3,*) state=inactive rc=3 ;;
	*) state=incomplete rc=1 ;;
	esac
	echo "$NAME: $state"
	[ -z "$rules_text" ] || printf '%s\n' "$rules_text"
	[ -z "$routing_text" ] || printf '%s\n' "$routing_text"
	exit $rc
}

run() {
	case $COMMAND in
	start) start ;;
	stop) undo ;;
	status) status ;;
	esac
}
