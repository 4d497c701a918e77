# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034,SC2154
# Who is measured, sourced by bench/run: how each is started on router and proxy host of the lab,
# and how the device's connections get into it.
#
# Another redirector needs no change here: BENCH_OTHER_REDIR and BENCH_OTHER_PROXY are command
# lines, run on router and proxy host, that listen on ports 12345 (connections come by REDIRECT) and
# 1090. In both, PROXY and SERVER stand for these hosts' addresses. BENCH_OTHER_NAME is its name.

BENCH_PORT=12345                # peers on the router listen here
BENCH_PORTS="80 22"             # of the server: requests, and servers that speak first
BENCH_UDP_PORT=7                # of the server: echoes datagrams
CONTESTANTS="kernel sixpath-tcp sixpath-mptcp redsocks redsocks-dante ss-cheap ss-default haproxy bare-splice bare-copy bare-mptcp"
CONTESTANTS_SHORT="bare-tfo bare-tfo-mptcp" # beside these, for short connections and small requests
CONTESTANTS_UDP="kernel sixpath-udp sixpath-udp-mptcp redsocks-udp ss-udp-cheap ss-udp-default"
[ -z "${BENCH_OTHER_REDIR:-}" ] || CONTESTANTS="$CONTESTANTS other"
BENCH_CIPHER=${BENCH_CIPHER:-salsa20} # the cheapest where measured; Debian's AES is slow
BENCH_WRAP=()                   # goes before the redirector's command: valgrind
BENCH_WRAPPED=redir             # or before that of sixpath's proxy

# contestant_text NAME: for tables.
contestant_text() {
	case $1 in
	kernel) echo "kernel forwarding" ;;
	sixpath-tcp) echo "sixpath, TCP upstream" ;;
	sixpath-mptcp) echo "sixpath, MPTCP upstream" ;;
	sixpath-held) echo "sixpath, SYNs held (verify = yes), TCP upstream" ;;
	sixpath-udp) echo "sixpath, UDP to the proxy" ;;
	sixpath-udp-mptcp) echo "sixpath, datagrams inside MPTCP" ;;
	redsocks) echo "redsocks + microsocks" ;;
	redsocks-dante | redsocks-udp) echo "redsocks + dante" ;;
	ss-udp-cheap) echo "ss-redir + ss-server, $BENCH_CIPHER" ;;
	ss-udp-default) echo "ss-redir + ss-server, default cipher" ;;
	ss-cheap) echo "ss-redir + ss-server, $BENCH_CIPHER, Fast Open" ;;
	ss-default) echo "ss-redir + ss-server, default cipher, Fast Open" ;;
	haproxy) echo "HAProxy on both ends, TCP mode, splice-auto" ;;
	bare-splice) echo "bare relay on both ends, splice 1 MiB" ;;
	bare-copy) echo "bare relay on both ends, read/write 256 KiB" ;;
	bare-mptcp) echo "bare relay on both ends, MPTCP between, read/write 64 KiB" ;;
	bare-tfo) echo "bare relay on both ends, Fast Open, read/write 64 KiB" ;;
	bare-tfo-mptcp) echo "bare relay on both ends, MPTCP with Fast Open between, read/write 64 KiB" ;;
	other) echo "${BENCH_OTHER_NAME:-other}" ;;
	esac
}

# contestant_has NAME: whether its programs are on this machine.
contestant_has() {
	local p programs
	case $1 in
	redsocks) programs="redsocks microsocks" ;;
	redsocks-dante | redsocks-udp) programs="redsocks danted" ;;
	ss-*) programs="ss-redir ss-server" ;;
	haproxy) programs=haproxy ;;
	*) return 0 ;;
	esac
	for p in $programs; do
		command -v "$p" >/dev/null || return 1
	done
}

sixpath_up() {
	lab_ctl redir proxies --json | grep -q '"state": *"up"'
}

# sixpath_start [lab_daemons OPTION...]
sixpath_start() {
	local -n wrapped=LAB_WRAP_$BENCH_WRAPPED
	wrapped=("${BENCH_WRAP[@]}")
	lab_daemons --redir redir.log=notice --proxy proxy.log=notice \
		--proxy proxy.max_clients=40000 --proxy proxy.max_per_client=40000 \
		--proxy proxy.max_per_user=40000 "$@"
	wrapped=()
	lab_wait 20 sixpath_up || lab_die "the redirector does not take to the proxy"
	BENCH_REDIR=redir BENCH_PROXY=proxy
}

# sixpath_udp TRANSPORT [OPTION...]: for datagrams.
sixpath_udp() {
	local transport=$1
	shift
	sixpath_start --redir udp.proxy=$BENCH_UDP_PORT --redir "udp.transport=$transport" \
		--redir udp.max=40000 --proxy udp.max_associations=40000 \
		--proxy udp.max_per_client=40000 --proxy udp.max_per_user=40000 \
		--rules "--udp-ports $BENCH_UDP_PORT" "$@"
}

# With rules of its own instead of a script's.
sixpath_own() {
	sixpath_start --no-rules --redir "proxy home.mptcp=no" --redir rules.install=yes \
		--redir rules.capture=lan "$@"
	lab_wait 10 lab_in "$RTR" nft list table inet sixpath || lab_die "no rules"
}

# steer PORT...: REDIRECT on the router, for each of BENCH_PORTS to the port given, the last one if
# there are fewer.
steer() {
	local p to
	for p in $BENCH_PORTS; do
		to=$1
		[ $# = 1 ] || shift
		echo "iifname \"lan\" tcp dport $p redirect to :$to"
	done >"$LAB_DIR/steer"
	lab_in "$RTR" nft -f - <<-RULES
		table ip bench {
			chain prerouting {
				type nat hook prerouting priority dstnat
				$(cat "$LAB_DIR/steer")
			}
		}
	RULES
}

# steer_udp PORT...: as steer, by TPROXY, for datagrams to BENCH_UDP_PORT and, where there are more
# ports, those behind it.
steer_udp() {
	local p=$BENCH_UDP_PORT to
	for to; do
		echo "iifname \"lan\" udp dport $p tproxy to :$to meta mark set 1 accept"
		p=$((p + 1))
	done >"$LAB_DIR/steer"
	lab_in "$RTR" ip rule add fwmark 1 lookup 77 && lab_in "$RTR" ip route add local default dev lo table 77 &&
		lab_in "$RTR" nft -f - <<-RULES
			table ip bench {
				chain prerouting {
					type filter hook prerouting priority mangle
					$(cat "$LAB_DIR/steer")
				}
			}
		RULES
}

steer_udp_end() {
	lab_in "$RTR" nft delete table ip bench 2>/dev/null
	lab_in "$RTR" ip rule del fwmark 1 lookup 77 2>/dev/null
	lab_in "$RTR" ip route flush table 77 2>/dev/null
}

udp_bound() { # NS PORT
	[ -n "$(lab_in "$1" ss -Hanu "sport = :$2")" ]
}

# peer_redir COMMAND...; peer_proxy PORT COMMAND...: fail if nobody listens.
peer_redir() {
	lab_bg peer-redir "$RTR" "${BENCH_WRAP[@]}" "$@"
	BENCH_REDIR=peer-redir
	lab_wait 20 lab_listening "$RTR" $BENCH_PORT
}

peer_proxy() {
	local port=$1
	shift
	lab_bg peer-proxy "$PRX" "$@"
	BENCH_PROXY=peer-proxy
	lab_wait 20 lab_listening "$PRX" "$port"
}

redsocks_start() { # PORT; splices by default
	cat >"$LAB_DIR/redsocks.conf" <<-CONF
		base {
			log_debug = off; log_info = off; log = "stderr"; daemon = off; redirector = iptables;
		}
		redsocks { local_ip = 0.0.0.0; local_port = $BENCH_PORT; ip = $PRX4; port = $1; type = socks5; }
	CONF
	peer_redir redsocks -c "$LAB_DIR/redsocks.conf" &&
		steer $BENCH_PORT
}

# It has a listener for TCP as well: peer_redir waits for it.
redsocks_udp_start() { # PORT
	cat >"$LAB_DIR/redsocks.conf" <<-CONF
		base {
			log_debug = off; log_info = off; log = "stderr"; daemon = off; redirector = iptables;
		}
		redsocks { local_ip = 0.0.0.0; local_port = $BENCH_PORT; ip = $PRX4; port = $1; type = socks5; }
		redudp {
			local_ip = 0.0.0.0; local_port = $BENCH_PORT; ip = $PRX4; port = $1;
			udp_timeout = 600; udp_timeout_stream = 600;
		}
	CONF
	peer_redir redsocks -c "$LAB_DIR/redsocks.conf" &&
		lab_wait 10 udp_bound "$RTR" $BENCH_PORT &&
		steer_udp $BENCH_PORT
}

dante_start() {
	cat >"$LAB_DIR/danted.conf" <<-CONF
		logoutput: stderr
		internal: 0.0.0.0 port = 1081
		external: srv
		clientmethod: none
		socksmethod: none
		user.privileged: root
		user.unprivileged: nobody
		client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
		socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
	CONF
	peer_proxy 1081 danted -f "$LAB_DIR/danted.conf"
}

ss_start() { # CIPHER
	local args=(-k bench -m "$1" --fast-open --no-delay -n $(($(ulimit -Hn) - 100)))
	peer_proxy 1081 ss-server -s 0.0.0.0 -p 1081 "${args[@]}" &&
		peer_redir ss-redir -s "$PRX4" -p 1081 -b 0.0.0.0 -l $BENCH_PORT "${args[@]}" &&
		steer $BENCH_PORT
}

ss_udp_start() { # CIPHER
	local args=(-u -k bench -m "$1" -t 600 -n $(($(ulimit -Hn) - 100)))
	peer_proxy 1081 ss-server -s 0.0.0.0 -p 1081 "${args[@]}" &&
		peer_redir ss-redir -s "$PRX4" -p 1081 -b 0.0.0.0 -l $BENCH_PORT "${args[@]}" &&
		lab_wait 10 udp_bound "$RTR" $BENCH_PORT &&
		steer_udp $BENCH_PORT
}

haproxy_conf() { # FILE LISTEN-PORT ADDRESS PORT, twice the last three
	cat >"$1" <<-CONF
		global
			maxconn $(($(ulimit -Hn) / 2 - 300 < 20000 ? $(ulimit -Hn) / 2 - 300 : 20000))
			maxpipes 200
		defaults
			mode tcp
			option splice-auto
			timeout connect 10s
			timeout client 1h
			timeout server 1h
		listen a
			bind 0.0.0.0:$2
			server s $3:$4
		listen b
			bind 0.0.0.0:$5
			server s $6:$7
	CONF
}

haproxy_start() {
	haproxy_conf "$LAB_DIR/haproxy-p.conf" 1081 "$SRV4" 80 1082 "$SRV4" 22
	haproxy_conf "$LAB_DIR/haproxy-r.conf" $BENCH_PORT "$PRX4" 1081 $((BENCH_PORT + 1)) "$PRX4" 1082
	peer_proxy 1081 haproxy -db -f "$LAB_DIR/haproxy-p.conf" &&
		peer_redir haproxy -db -f "$LAB_DIR/haproxy-r.conf" &&
		steer $BENCH_PORT $((BENCH_PORT + 1))
}

# As sixpath, without Fast Open between proxy and server.
bare_start() { # HOW SIZE [mptcp] [fastopen]: port 80 only; as many workers as sixpath has
	local tool=("$SIXPATH_BUILD/bench/bare_relay" "--$1" "$2" --workers "$(nproc)")
	shift 2
	peer_proxy 1081 "${tool[@]}" "${@/#/--accept-}" 1081 "$SRV4" 80 &&
		peer_redir "${tool[@]}" "${@/#/--dial-}" $BENCH_PORT "$PRX4" 1081 &&
		steer $BENCH_PORT
}

other_start() {
	local cmd proxy=${BENCH_OTHER_PROXY//PROXY/$PRX4} redir=${BENCH_OTHER_REDIR//PROXY/$PRX4}
	if [ -n "$proxy" ]; then
		read -ra cmd <<<"${proxy//SERVER/$SRV4}"
		peer_proxy 1090 "${cmd[@]}" || return 1
	fi
	read -ra cmd <<<"${redir//SERVER/$SRV4}"
	peer_redir "${cmd[@]}" && steer $BENCH_PORT
}

# contestant_start NAME [OPTION of lab_daemons...]: afterwards BENCH_REDIR and BENCH_PROXY are names
# in LAB_PIDS, empty if there is no such process. Fails if a peer does not start.
contestant_start() {
	local name=$1
	shift
	BENCH_REDIR="" BENCH_PROXY=""
	case $name in
	kernel) ;;
	sixpath-tcp) sixpath_start --redir "proxy home.mptcp=no" "$@" ;;
	sixpath-mptcp) sixpath_start --redir "proxy home.mptcp=yes" "$@" ;;
	sixpath-own) sixpath_own "$@" ;;
	sixpath-held) sixpath_own --redir connect.verify=yes "$@" ;;
	redsocks) peer_proxy 1081 microsocks -i 0.0.0.0 -p 1081 && redsocks_start 1081 ;;
	redsocks-dante) dante_start && redsocks_start 1081 ;;
	ss-cheap) ss_start "$BENCH_CIPHER" ;;
	ss-default) ss_start chacha20-ietf-poly1305 ;;
	sixpath-udp) sixpath_udp udp --redir "proxy home.mptcp=no" "$@" ;;
	sixpath-udp-mptcp) sixpath_udp tcp --redir "proxy home.mptcp=yes" "$@" ;;
	redsocks-udp) dante_start && redsocks_udp_start 1081 ;;
	ss-udp-cheap) ss_udp_start "$BENCH_CIPHER" ;;
	ss-udp-default) ss_udp_start chacha20-ietf-poly1305 ;;
	haproxy) haproxy_start ;;
	bare-splice) bare_start splice 1048576 ;;
	bare-copy) bare_start copy 262144 ;;
	bare-mptcp) bare_start copy 65536 mptcp ;;
	bare-tfo) bare_start copy 65536 fastopen ;;
	bare-tfo-mptcp) bare_start copy 65536 mptcp fastopen ;;
	other) other_start ;;
	*) lab_die "no contestant '$name'" ;;
	esac
}

contestant_stop() {
	case $BENCH_REDIR in
	redir) lab_daemons_stop >/dev/null ;;
	*)
		steer_udp_end # of streams, too
		lab_kill peer-redir
		lab_kill peer-proxy
		;;
	esac
	rm -f "$LAB_DIR/rules.log" "$LAB_DIR/run/learned"
	BENCH_REDIR="" BENCH_PROXY=""
}

# pids_of NAME-IN-LAB_PIDS: the process and all below it, comma separated; nothing for no name.
pids_of() {
	[ -n "$1" ] || return 0
	local all=${LAB_PIDS[$1]} more=${LAB_PIDS[$1]}
	while more=$(pgrep -d, -P "$more"); do
		all=$all,$more
	done
	echo "$all"
}
