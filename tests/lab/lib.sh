# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# The lab: network namespaces device, router, proxy and server. See README for the drawing.
#
# A test sources this file, calls lab_up, reports with ok/not_ok/check..., and ends with lab_end.
# Whatever happens, everything the lab made is removed when the shell exits.

LAB_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
LAB_TEST=$(basename "$0" .sh)
LAB_PID=$$
LAB_DIR=""                # scratch directory of this run, readable by the daemons' user
LAB_USER=${LAB_USER:-nobody}
SIXPATH_BUILD=${SIXPATH_BUILD:-$LAB_SRC}

# The namespaces.
DEV=sp$LAB_PID-dev RTR=sp$LAB_PID-rtr PRX=sp$LAB_PID-prx SRV=sp$LAB_PID-srv

# The addresses, for tests to use (README has the whole plan).
# shellcheck disable=SC2034
{
	DEV4=10.77.0.2 DEV6=fd77::2 RTR4=10.77.0.1 RTR6=fd77::1
	WAN1_4=198.18.1.2 WAN1_6=2001:db8:1::2 WAN2_4=198.18.2.2 WAN2_6=2001:db8:2::2
	PRX4=198.51.100.1 PRX6=2001:db8:51::1
	SRV4=203.0.113.2 SRV6=2001:db8:30::2 SRV4B=203.0.113.3 SRV6B=2001:db8:30::3
}

LAB_MADE=()               # namespaces to delete
declare -A LAB_PIDS=()    # NAME -> pid of what lab_bg started
declare -A LAB_WIRES=()   # link -> control socket, for links that are wires
LAB_OK=0 LAB_NOT_OK=0 LAB_SKIPPED=0 LAB_SHOW_LOGS=0 LAB_RC=0

# ---- reporting ----

ok() { LAB_OK=$((LAB_OK + 1)); echo "ok $LAB_TEST: $1"; }

not_ok() { # NAME WHY
	LAB_NOT_OK=$((LAB_NOT_OK + 1)) LAB_SHOW_LOGS=1
	echo "not ok $LAB_TEST: $1${2:+: $2}"
}

skip() { # NAME WHY: one case; the test goes on
	LAB_SKIPPED=$((LAB_SKIPPED + 1))
	echo "skip $LAB_TEST: $1: $2"
}

# check NAME CMD...: the command must succeed; its output is shown when it does not.
check() {
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then ok "$name"; else not_ok "$name" "$(printf '%s' "${out:-$* failed}" | tail -n 5)"; fi
}

# check_eq NAME VALUE WANTED; check_num NAME VALUE OP LIMIT with OP one of < <= > >= == (decimals allowed).
check_eq() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "'$2' instead of '$3'"; fi; }

check_num() {
	if [ -n "$2" ] && awk -v v="$2" -v l="$4" "BEGIN { exit !(v+0 $3 l+0) }"; then
		ok "$1 ($2 $3 $4)"
	else
		not_ok "$1" "'$2' is not $3 $4"
	fi
}

lab_die() { # cannot go on
	not_ok "set-up" "$*"
	exit 1
}

lab_skip_all() { # REASON: this machine cannot run the test
	echo "# $LAB_TEST: $*" >&2
	exit 77
}

# lab_end: the last command of a test.
lab_end() {
	lab_cleanup
	trap - EXIT
	echo "# $LAB_TEST: $LAB_OK ok, $LAB_NOT_OK not ok, $LAB_SKIPPED skipped"
	[ "$LAB_NOT_OK" = 0 ] || exit 1
	exit 0
}

# json FILE|- PYTHON-EXPRESSION: value of an expression over the parsed document `j`; booleans
# come as true/false. With several lines of JSON, `j` is the list of documents.
json() {
	python3 -c '
import json, sys
text = (sys.stdin if sys.argv[1] == "-" else open(sys.argv[1])).read()
try:
    j = json.loads(text)
except ValueError:
    j = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
v = eval(sys.argv[2])
print(json.dumps(v) if isinstance(v, (bool, list, dict)) else "" if v is None else v)' "$@"
}

# ---- requirements ----

lab_need() { # COMMAND...
	local c
	for c; do
		command -v "$c" >/dev/null || lab_skip_all "needs the program '$c'"
	done
}

# lab_tool VARIABLE NAME: finds wire or peer; one without sanitizers is preferred, it is an instrument.
lab_tool() {
	local d
	for d in "${SIXPATH_RELEASE:-}" "$SIXPATH_BUILD"; do
		if [ -n "$d" ] && [ -x "$d/tests/lab/$2" ]; then
			printf -v "$1" %s "$d/tests/lab/$2"
			return
		fi
	done
	lab_die "tests/lab/$2 is not built in SIXPATH_BUILD=$SIXPATH_BUILD (make check TESTS=)"
}

lab_requirements() {
	[ "$(id -u)" = 0 ] || lab_skip_all "needs root"
	lab_need ip ss nstat tcpdump ping nft python3 awk
	[ -e /proc/sys/net/mptcp/enabled ] || lab_skip_all "needs a kernel with MPTCP"
	[ -c /dev/net/tun ] || lab_skip_all "needs /dev/net/tun"
	lab_tool WIRE wire
	lab_tool PEER peer
}

# ---- processes ----

lab_in() { # NS CMD...
	ip netns exec "$@"
}

# lab_wait SECONDS CMD...: polls until the command succeeds.
lab_wait() {
	local end=$((${EPOCHREALTIME/[.,]/} + ${1}000000))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "${EPOCHREALTIME/[.,]/}" -lt $end ] || return 1
		sleep 0.02
	done
}

# lab_bg NAME NS CMD...: starts a program; output goes to $LAB_DIR/NAME.log.
lab_bg() {
	local name=$1
	shift
	ip netns exec "$@" >"$LAB_DIR/$name.log" 2>&1 </dev/null &
	LAB_PIDS[$name]=$!
}

lab_alive() { # NAME
	kill -0 "${LAB_PIDS[$1]:-x}" 2>/dev/null
}

# lab_kill NAME [SIGNAL]: sends the signal (TERM) and waits for the end; exit code in LAB_RC.
lab_kill() {
	local pid=${LAB_PIDS[$1]:-}
	[ -n "$pid" ] || return 0
	kill "-${2:-TERM}" "$pid" 2>/dev/null
	lab_join "$1" 15 || kill -KILL "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	LAB_RC=$?
	unset "LAB_PIDS[$1]"
}

# lab_join NAME SECONDS: waits for a program to end by itself; exit code in LAB_RC.
lab_join() {
	local pid=${LAB_PIDS[$1]}
	lab_wait "$2" lab_gone "$pid" || return 1
	wait "$pid" 2>/dev/null
	LAB_RC=$?
}

lab_gone() {
	! kill -0 "$1" 2>/dev/null
}

lab_logged() { # NAME TEXT: whether the program has printed this
	grep -qF -- "$2" "$LAB_DIR/$1.log"
}

lab_listening() { # NS PORT
	[ -n "$(lab_in "$1" ss -Hltn "sport = :$2")" ]
}

lab_wait_port() { # NS PORT: waits for a TCP listener, without connecting to it
	lab_wait 10 lab_listening "$1" "$2" || lab_die "nobody listens on port $2 in $1"
}

# ---- topology ----

lab_link_veth() { # NSA IFA NSB IFB
	ip link add "$2" netns "$1" type veth peer name "$4" netns "$3"
}

lab_have_netem() {
	ip -n "$RTR" link add lab0 type veth peer name lab1 || return 1
	tc -n "$RTR" qdisc add dev lab0 root netem delay 1ms 2>/dev/null
	local rc=$?
	ip -n "$RTR" link del lab0
	return $rc
}

lab_netem() { # NS IF DELAY RATE: with 100 ms of queue, as the wire has
	local limit=100000
	[ "$4" = 0 ] || limit=$(awk -v r="$4" -v d="$3" 'BEGIN { print int(r * (100 + d) * 1000 / 8 / 1514) + 10 }')
	# One frame is one packet: otherwise 64 KB would count as one.
	lab_in "$1" ethtool -K "$2" tso off gso off gro off >/dev/null 2>&1
	local args=(delay "${3}ms" limit "$limit")
	[ "$4" = 0 ] || args+=(rate "${4}mbit")
	tc -n "$1" qdisc add dev "$2" root netem "${args[@]}"
}

# lab_link NAME NSA IFA NSB IFB DELAY:RATE: empty spec = plain veth.
lab_link() {
	local name=$1 a=$2 ia=$3 b=$4 ib=$5 spec=$6 delay rate
	IFS=: read -r delay rate <<<"$spec"
	delay=${delay:-0} rate=${rate:-0}
	if [ -z "$spec" ]; then
		lab_link_veth "$a" "$ia" "$b" "$ib"
	elif [ "$LAB_FORCE_WIRE" = 0 ] && lab_have_netem; then
		lab_link_veth "$a" "$ia" "$b" "$ib" &&
			lab_netem "$a" "$ia" "$delay" "$rate" && lab_netem "$b" "$ib" "$delay" "$rate"
	else
		LAB_WIRES[$name]=$LAB_DIR/wire-$name.sock
		"$WIRE" --a "$a:$ia" --b "$b:$ib" --delay-ms "$delay" --rate-mbit "$rate" \
			--ctl "${LAB_WIRES[$name]}" >"$LAB_DIR/wire-$name.log" 2>&1 </dev/null &
		LAB_PIDS[wire-$name]=$!
		lab_wait 5 grep -q ready "$LAB_DIR/wire-$name.log" ||
			lab_die "wire $name: $(cat "$LAB_DIR/wire-$name.log")"
	fi
}

# lab_wire LINK COMMAND...: see `wire --help`; needs lab_up --wire. a2b is away from the device.
lab_wire() {
	"$WIRE" --send "${LAB_WIRES[$1]:?link $1 is not a wire: use lab_up --wire}" "${@:2}"
}

lab_sysctl() { # NS KEY=VALUE...: keys this kernel does not have are passed over
	local ns=$1 kv path
	shift
	for kv; do
		path=/proc/sys/${kv%%=*}
		lab_in "$ns" sh -c "[ ! -w '$path' ] || echo '${kv#*=}' >'$path'" 2>/dev/null
	done
}

lab_ns() { # NS...
	local ns
	for ns; do
		ip netns add "$ns" || lab_die "cannot make network namespaces here"
		LAB_MADE+=("$ns")
		ip -n "$ns" link set lo up
		# The congestion control of a stock kernel; with bbr the figures would be others.
		lab_sysctl "$ns" net/ipv4/tcp_congestion_control=cubic net/ipv4/tcp_fastopen=3 net/ipv4/tcp_fastopen_blackhole_timeout_sec=0 \
			net/mptcp/enabled=1 net/mptcp/blackhole_timeout=0 net/mptcp/close_timeout=2 \
			net/ipv4/icmp_ratelimit=0 net/ipv6/icmp/ratelimit=0 net/ipv4/icmp_msgs_per_sec=100000 \
			net/ipv6/conf/all/accept_dad=0 net/ipv6/conf/default/accept_dad=0 \
			net/ipv6/conf/default/router_solicitations=0 \
			net/ipv4/conf/all/rp_filter=0 net/ipv4/conf/default/rp_filter=0
	done
}

lab_addr() { # NS IF ADDRESS/LEN...
	local ns=$1 dev=$2 a
	shift 2
	for a; do
		case $a in
		*:*) ip -n "$ns" addr add "$a" dev "$dev" nodad ;;
		*) ip -n "$ns" addr add "$a" dev "$dev" ;;
		esac
	done
	ip -n "$ns" link set "$dev" up
}

# lab_wan NUMBER: addresses of this WAN, and the router's own table for what leaves from them.
lab_wan() {
	local n=$1 t=$((100 + $1))
	lab_addr "$RTR" "wan$n" "198.18.$n.2/24" "2001:db8:$n::2/64"
	lab_addr "$PRX" "wan$n" "198.18.$n.1/24" "2001:db8:$n::1/64"
	ip -n "$RTR" rule add from "198.18.$n.2" lookup $t
	ip -n "$RTR" -6 rule add from "2001:db8:$n::2" lookup $t
	ip -n "$RTR" route add default via "198.18.$n.1" dev "wan$n" table $t
	ip -n "$RTR" -6 route add default via "2001:db8:$n::1" dev "wan$n" table $t
	ip -n "$RTR" route add 10.77.0.0/24 dev lan table $t
	ip -n "$RTR" -6 route add fd77::/64 dev lan table $t
}

# The router uses wan2 for further subflows; lab_endpoint del takes that away.
lab_endpoint() { # add|del
	local a
	if [ "$1" = del ]; then
		ip -n "$RTR" mptcp endpoint flush
		return
	fi
	for a in "$WAN2_4" "$WAN2_6"; do
		ip -n "$RTR" mptcp endpoint add "$a" dev wan2 subflow
	done
}

lab_topology() { # LAN WAN1 WAN2 SRV, each DELAY:RATE or empty
	lab_ns "$DEV" "$RTR" "$PRX" "$SRV"
	lab_link lan "$DEV" eth0 "$RTR" lan "$1" &&
		lab_link wan1 "$RTR" wan1 "$PRX" wan1 "$2" &&
		lab_link wan2 "$RTR" wan2 "$PRX" wan2 "$3" &&
		lab_link srv "$PRX" srv "$SRV" eth0 "$4" || lab_die "cannot make the links"
	local ns
	for ns in "$RTR" "$PRX"; do
		lab_sysctl "$ns" net/ipv4/ip_forward=1 net/ipv6/conf/all/forwarding=1
		ip -n "$ns" mptcp limits set subflows 4 add_addr_accepted 4
	done
	lab_addr "$DEV" eth0 "$DEV4/24" "$DEV6/64"
	lab_addr "$RTR" lan "$RTR4/24" "$RTR6/64"
	lab_wan 1
	lab_wan 2
	lab_addr "$PRX" lo "$PRX4/32" "$PRX6/128"
	lab_addr "$PRX" srv 203.0.113.1/24 2001:db8:30::1/64
	lab_addr "$SRV" eth0 "$SRV4/24" "$SRV6/64" "$SRV4B/24" "$SRV6B/64"
	ip -n "$DEV" route add default via "$RTR4"
	ip -n "$DEV" -6 route add default via "$RTR6"
	ip -n "$RTR" route add default via 198.18.1.1
	ip -n "$RTR" -6 route add default via 2001:db8:1::1
	ip -n "$PRX" route add 10.77.0.0/24 via "$WAN1_4"
	ip -n "$PRX" -6 route add fd77::/64 via "$WAN1_6"
	ip -n "$SRV" route add default via 203.0.113.1
	ip -n "$SRV" -6 route add default via 2001:db8:30::1
	lab_endpoint add
}

# lab_up [--lan D[:R]] [--wan1 D[:R]] [--wan2 D[:R]] [--srv D[:R]] [--wire]
# D: one-way delay in ms, R: Mbit/s each way. Links without delay and rate are plain veth; the
# others use netem, or wire where the kernel has none or --wire asks for it.
lab_up() {
	local lan="" wan1="" wan2="" srv=""
	LAB_FORCE_WIRE=0
	while [ $# -gt 0 ]; do
		case $1 in
		--lan | --lan-delay) lan=$2 && shift 2 ;;
		--wan1) wan1=$2 && shift 2 ;;
		--wan2) wan2=$2 && shift 2 ;;
		--srv) srv=$2 && shift 2 ;;
		--wire) LAB_FORCE_WIRE=1 && shift ;;
		*) lab_die "lab_up: unknown option $1" ;;
		esac
	done
	lab_requirements
	trap lab_exit EXIT
	trap 'exit 1' INT TERM HUP PIPE
	LAB_DIR=$(mktemp -d "${TMPDIR:-/tmp}/sixpath-lab.XXXXXX") || lab_die "mktemp"
	chmod 755 "$LAB_DIR"
	mkdir "$LAB_DIR/www" "$LAB_DIR/run"
	chown "$LAB_USER" "$LAB_DIR/run"
	lab_topology "$lan" "$wan1" "$wan2" "$srv"
}

# lab_far: a host one hop behind the server, FAR4 and FAR6 in the namespace FAR; the server routes, and
# its link there is called far.
lab_far() {
	FAR=sp$LAB_PID-far FAR4=203.0.113.130 FAR6=2001:db8:30:ff::2
	lab_ns "$FAR"
	lab_link far "$SRV" far "$FAR" eth0 "" || lab_die "cannot make the link far"
	lab_addr "$SRV" far 203.0.113.129/25 2001:db8:30:ff::1/64
	lab_addr "$FAR" eth0 "$FAR4/25" "$FAR6/64"
	ip -n "$FAR" route add default via 203.0.113.129
	ip -n "$FAR" -6 route add default via 2001:db8:30:ff::1
	ip -n "$PRX" route add 203.0.113.128/25 via "$SRV4"
	ip -n "$PRX" -6 route add 2001:db8:30:ff::/64 via "$SRV6"
	lab_sysctl "$SRV" net/ipv4/ip_forward=1 net/ipv6/conf/all/forwarding=1
}

# lab_strip OPTION: taken out of SYNs that arrive at the proxy, until lab_unstrip.
lab_strip() {
	lab_in "$PRX" nft -f - <<-RULES
		table inet strip {
			chain prerouting {
				type filter hook prerouting priority -300
				tcp dport 1080 tcp flags syn reset tcp option $1
			}
		}
	RULES
}
lab_unstrip() { lab_in "$PRX" nft delete table inet strip; }

# ---- cleaning up ----

lab_show_logs() {
	local f
	for f in "$LAB_DIR"/*.log; do
		[ -s "$f" ] || continue
		echo "    --- $(basename "$f")"
		tail -n 12 "$f" | cut -c 1-300 | sed 's/^/    /'
	done
}

lab_cleanup() {
	local name ns pids
	[ "$LAB_SHOW_LOGS" = 0 ] || [ -z "$LAB_DIR" ] || lab_show_logs
	for name in "${!LAB_PIDS[@]}"; do
		lab_kill "$name" TERM
	done
	for ns in "${LAB_MADE[@]}"; do
		# What our programs left behind lives in our namespaces and nowhere else.
		pids=$(ip netns pids "$ns" 2>/dev/null)
		# shellcheck disable=SC2086
		[ -z "$pids" ] || kill -KILL $pids 2>/dev/null
		ip netns del "$ns"
	done
	LAB_MADE=()
	LAB_WIRES=()
	[ -z "$LAB_DIR" ] || rm -rf "$LAB_DIR"
	LAB_DIR=""
}

lab_exit() { # the shell ends without lab_end
	local rc=$?
	trap '' INT TERM HUP PIPE # nothing may stop the cleaning up, nor a reader that has gone
	lab_cleanup
	echo "# $LAB_TEST: ended early: $LAB_OK ok, $LAB_NOT_OK not ok"
	[ $rc != 0 ] || rc=1
	exit $rc
}

# ---- instruments ----

# lab_capture NAME NS IF FILTER: writes $LAB_DIR/NAME.pcap from now on.
lab_capture() {
	lab_bg "$1" "$2" tcpdump -Z root -n -U --immediate-mode -s 0 -B 8192 -i "$3" \
		-w "$LAB_DIR/$1.pcap" "${@:4}"
	lab_wait 10 lab_logged "$1" "listening on" || lab_die "tcpdump: $(cat "$LAB_DIR/$1.log")"
}

lab_capture_stop() { # NAME: until what was seen is in the file
	local size=-1 now
	while now=$(stat -c %s "$LAB_DIR/$1.pcap") && [ "$now" != "$size" ]; do
		size=$now
		sleep 0.05
	done
	lab_kill "$1" INT
}

lab_dissect() { # PCAP [OPTIONS]: SYNs as JSON lines
	"$LAB_SRC/tests/lab/s6dissect.py" "$@"
}

lab_counter() { # NS NAME: a kernel counter, such as MPTcpExtMPJoinAckRx
	lab_in "$1" nstat -asz "$2" | awk -v n="$2" '$1 == n { print $2 }'
}

# ---- servers ----

# lab_file NAME OCTETS: a file for nginx to serve.
lab_file() {
	head -c "$2" /dev/urandom >"$LAB_DIR/www/$1"
	chmod 644 "$LAB_DIR/www/$1"
}

# lab_nginx NS [PORT [LISTEN-OPTIONS [DIRECTIVES]]]: nginx over plain TCP, IPv4 and IPv6, serving
# $LAB_DIR/www.
lab_nginx() {
	local ns=$1 port=${2:-80} name=nginx-${2:-80}
	lab_need nginx
	[ -e "$LAB_DIR/www/index.html" ] || echo "hello from the server" >"$LAB_DIR/www/index.html"
	mkdir -p "$LAB_DIR/$name"
	cat >"$LAB_DIR/$name/nginx.conf" <<-CONF
		daemon off;
		user root;
		worker_processes 2;
		pid $LAB_DIR/$name/pid;
		error_log $LAB_DIR/$name/error.log;
		events { worker_connections 4096; }
		http {
			access_log $LAB_DIR/$name/access.log;
			client_body_temp_path $LAB_DIR/$name/body;
			proxy_temp_path $LAB_DIR/$name/proxy;
			fastcgi_temp_path $LAB_DIR/$name/fastcgi;
			uwsgi_temp_path $LAB_DIR/$name/uwsgi;
			scgi_temp_path $LAB_DIR/$name/scgi;
			sendfile on;
			server {
				listen 0.0.0.0:$port ${3:-};
				listen [::]:$port ipv6only=on ${3:-};
				root $LAB_DIR/www;
				${4:-}
			}
		}
	CONF
	lab_bg "$name" "$ns" nginx -p "$LAB_DIR/$name" -e "$LAB_DIR/$name/error.log" \
		-c "$LAB_DIR/$name/nginx.conf"
	lab_wait_port "$ns" "$port"
}

# lab_serve NAME NS [--mptcp] [--tfo] SERVICE:PORT...: see `peer --help`. Each connection is one
# JSON line in $LAB_DIR/NAME.log.
lab_serve() {
	lab_bg "$1" "$2" "$PEER" serve "${@:3}"
	lab_wait 10 lab_logged "$1" ready || lab_die "peer serve: $(cat "$LAB_DIR/$1.log")"
}

# lab_served NAME SERVICE: how many connections this service has finished.
lab_served() {
	grep -cF "\"service\":\"$2\"" "$LAB_DIR/$1.log"
}

# lab_get NAME ADDRESS PORT [OPTION...]: the device (or the namespace LAB_FROM) asks the server NAME
# for a page of a name of its own; how that ends for it. When it ends well the server has written
# its line.
lab_get() {
	local path=/get-${EPOCHREALTIME/[.,]/-}-$BASHPID end
	end=$(lab_in "${LAB_FROM:-$DEV}" "$PEER" probe --get "$path" --want 12 --timeout-ms 5000 "${@:4}" "$2" "$3" | json - 'j["end"]')
	[ "$end" != want ] || lab_wait 10 grep -qF "\"$path\"" "$LAB_DIR/$1.log"
	echo "$path" >"$LAB_DIR/$1.last"
	echo "$end"
}

lab_last() { # NAME EXPRESSION: of the server's connection for the last lab_get
	grep -F "\"$(cat "$LAB_DIR/$1.last")\"" "$LAB_DIR/$1.log" | tail -n 1 | json - "$2"
}

lab_saw() { # NAME: from whom the connection for the last lab_get came
	case $(lab_last "$1" 'j["peer"].rsplit(":", 1)[0].strip("[]")') in
	"$DEV4" | "$DEV6") echo device ;;
	"$WAN1_4" | "$WAN1_6" | "$WAN2_4" | "$WAN2_6") echo router ;;
	203.0.113.1 | 2001:db8:30::1) echo proxy ;;
	*) echo nobody ;;
	esac
}

# ---- our daemons ----

# Their configuration, "section.key" -> value; lab_conf changes it. Used by name (local -n).
# shellcheck disable=SC2034
declare -A LAB_REDIR_CONF LAB_PROXY_CONF

# shellcheck disable=SC2034
lab_conf_defaults() {
	LAB_REDIR_CONF=(
		[redir.listen]="[::]:1077" [redir.mode]=tproxy [redir.mark]=0x5061
		[redir.user]=$LAB_USER [redir.log]=debug [redir.log_to]=stderr
		[redir.control]=$LAB_DIR/run/redir.sock
		[redir.state_dir]=$LAB_DIR/run [rules.install]=no
		["proxy home.address"]=$PRX4:1080 ["proxy home.username"]=home
		["proxy home.password_file"]=$LAB_DIR/secret
		# Most tests look at how connections are made; t_prewarm at those that are there already.
		["proxy home.prewarm"]=${LAB_PREWARM:-0}
		# Nor at servers that failed in the test's last step: that is for t_failed.
		[connect.remember_failed]=${LAB_REMEMBER:-0}
	)
	LAB_PROXY_CONF=(
		[proxy.listen]="[::]:1080" [proxy.user]=$LAB_USER [proxy.log]=debug [proxy.log_to]=stderr
		[proxy.control]=$LAB_DIR/run/proxy.sock [proxy.drain]=0
		[auth.users]=$LAB_DIR/users
		[acl.allow]="203.0.113.0/24, 2001:db8:30::/64"
	)
}

# lab_conf redir|proxy SECTION.KEY=VALUE...: an empty VALUE leaves the key out. The upstream's
# section is "proxy home".
lab_conf() {
	local which=$1 kv
	shift
	[ ${#LAB_REDIR_CONF[@]} -gt 0 ] || lab_conf_defaults
	# shellcheck disable=SC2178
	local -n conf=LAB_${which^^}_CONF
	for kv; do
		conf[${kv%%=*}]=${kv#*=}
	done
}

# lab_conf_print redir|proxy: the configuration file.
lab_conf_print() {
	# shellcheck disable=SC2178
	local -n conf=LAB_${1^^}_CONF
	local k section=""
	while read -r k; do
		[ -n "${conf[$k]}" ] || continue
		if [ "${k%.*}" != "$section" ]; then
			section=${k%.*}
			echo "[$section]"
		fi
		echo "${k##*.} = ${conf[$k]}"
	done < <(printf '%s\n' "${!conf[@]}" | sort)
}

lab_conf_write() {
	lab_conf redir
	lab_conf_print redir >"$LAB_DIR/redir.conf"
	lab_conf_print proxy >"$LAB_DIR/proxy.conf"
	if [ ! -e "$LAB_DIR/secret" ]; then
		printf 'secret\n' >"$LAB_DIR/secret"
		printf 'secret\n' | "$SIXPATH_BUILD/src/tools/sixpathctl" passwd "$LAB_DIR/users" home >/dev/null ||
			lab_die "sixpathctl passwd"
	fi
	# Read again on reload, then as this user.
	chown "$LAB_USER" "$LAB_DIR/secret" "$LAB_DIR/users"
	chmod 600 "$LAB_DIR/secret" "$LAB_DIR/users"
}

lab_ctl() { # redir|proxy COMMAND...
	"$SIXPATH_BUILD/src/tools/sixpathctl" -s "$LAB_DIR/run/$1.sock" "${@:2}"
}

lab_daemon_ready() { # redir|proxy
	lab_alive "$1" || return 0
	lab_ctl "$1" status --json
}

# What goes before the command of a daemon, such as valgrind. Used by name (local -n).
# shellcheck disable=SC2034
LAB_WRAP_redir=() LAB_WRAP_proxy=()

# lab_daemon_start redir|proxy
lab_daemon_start() {
	local ns=$PRX
	[ "$1" = proxy ] || ns=$RTR
	local -n wrap=LAB_WRAP_$1
	lab_bg "$1" "$ns" "${wrap[@]}" "$SIXPATH_BUILD/src/$1/sixpath-$1" -f -c "$LAB_DIR/$1.conf"
	lab_wait 20 lab_daemon_ready "$1" || lab_die "sixpath-$1 does not answer on its control socket"
	lab_alive "$1" || lab_die "sixpath-$1 ended at once: $(tail -n 3 "$LAB_DIR/$1.log")"
}

# lab_daemon_stop redir|proxy: it must end in order, without sanitizer reports.
lab_daemon_stop() {
	[ -n "${LAB_PIDS[$1]:-}" ] || return 0
	lab_kill "$1" TERM
	check_eq "sixpath-$1 ends with exit code" "$LAB_RC" 0
	if grep -qE 'ERROR: [A-Z][a-z]+Sanitizer|runtime error:|WARNING: ThreadSanitizer' "$LAB_DIR/$1.log"; then
		not_ok "sixpath-$1 sanitizer" "$(grep -m1 -A6 -E 'Sanitizer|runtime error:' "$LAB_DIR/$1.log")"
	fi
}

# lab_rules start|stop|status [OPTION...]: the redirect-rules script chosen by lab_daemons.
LAB_SCRIPT=nft
lab_rules() {
	lab_in "$RTR" sh "$LAB_SRC/redirect-rules/$LAB_SCRIPT.sh" "$@"
}

# lab_daemons [--mode tproxy|redirect] [--script nft|iptables] [--local] [--no-rules]
#             [--redir SECTION.KEY=VALUE] [--proxy SECTION.KEY=VALUE] [--rules "OPTION..."]
# Writes the configuration, starts both daemons and steers the LAN into the redirector.
lab_daemons() {
	local mode=tproxy rules=1 extra=()
	lab_conf_defaults
	while [ $# -gt 0 ]; do
		case $1 in
		--mode) mode=$2 && shift 2 ;;
		--script) LAB_SCRIPT=$2 && shift 2 ;;
		--local) extra+=(--local) && shift ;;
		--no-rules) rules=0 && shift ;;
		--redir) lab_conf redir "$2" && shift 2 ;;
		--proxy) lab_conf proxy "$2" && shift 2 ;;
		--rules) read -ra extra <<<"${extra[*]} $2" && shift 2 ;;
		*) lab_die "lab_daemons: unknown option $1" ;;
		esac
	done
	lab_conf redir "redir.mode=$mode"
	lab_conf_write
	lab_daemon_start proxy
	lab_daemon_start redir
	LAB_RULES_ARGS=(--mode "$mode" --port 1077 --iface lan --mark 0x5061 --proxy "$PRX4,$PRX6" "${extra[@]}")
	[ $rules = 0 ] || lab_rules start "${LAB_RULES_ARGS[@]}" >"$LAB_DIR/rules.log" 2>&1 ||
		lab_die "redirect-rules: $(tail -n 3 "$LAB_DIR/rules.log")"
}

# lab_daemons_stop: rules first, so that nothing is captured that nobody serves.
lab_daemons_stop() {
	[ ! -e "$LAB_DIR/rules.log" ] || lab_rules stop "${LAB_RULES_ARGS[@]}" >>"$LAB_DIR/rules.log" 2>&1 ||
		not_ok "redirect-rules stop" "$(tail -n 3 "$LAB_DIR/rules.log")"
	lab_daemon_stop redir
	lab_daemon_stop proxy
}
