# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154,SC2034
# What is measured, sourced by bench/run: each function measures the contestant that runs.

SECONDS_EACH=${SECONDS_EACH:-1.5}
# 10,000 idle flows, or what the limit of descriptors allows where it cannot be raised: the daemons
# keep some in reserve.
# Where descriptors are few: so many that the redirector still captures them (below 90 % of what it can have).
BENCH_MANY=${BENCH_MANY:-$(($(ulimit -Hn) > 23000 ? 10000 : ($(ulimit -Hn) / 2 - 300) * 88 / 100))}

# record FIGURE VALUES: VALUES is a JSON object.
record() {
	printf '{"figure":"%s","contestant":"%s","round":%d,"values":%s}\n' "$1" "$BENCH_NAME" "$BENCH_ROUND" "$2" >>"$BENCH_RAW"
}

# measure FIGURE MODE OPTION...: what load says, recorded. MEASURE_PORT: of the server, if not 80.
measure() {
	local figure=$1 out
	shift
	out=$(timeout 60 ip netns exec "$DEV" "$SIXPATH_BUILD/bench/load" "$@" --cpu "redir=$(pids_of "$BENCH_REDIR")" \
		--cpu "proxy=$(pids_of "$BENCH_PROXY")" "$SRV4" "${MEASURE_PORT:-80}" 2>&1 | tail -n 1)
	case $out in
	"{"*) record "$figure" "$out" ;;
	*) echo "bench: $BENCH_NAME: $figure: no figure: ${out:-nothing within 60 s}" >&2 ;;
	esac
}

figure_bulk() { # [SUFFIX]
	local dir n
	case " $CONTESTANTS_SHORT " in
	*" $BENCH_NAME "*) return ;;
	esac
	for dir in down up; do
		for n in 1 8; do
			measure "bulk${1:-}_${dir}_$n" "$dir" --flows $n --seconds "$SECONDS_EACH"
		done
	done
}

figure_mtu() { figure_bulk _mtu; }

figure_short() { measure short short --flows 64 --seconds "$SECONDS_EACH"; }

figure_kept() {
	measure kept_1 kept --flows 1 --reply 100 --seconds "$SECONDS_EACH"
	measure kept_64 kept --flows 64 --reply 100 --seconds "$SECONDS_EACH"
}

# ---- datagrams ----

# A contestant that answers nothing at all has no figure; the first datagrams also open its associations.
figure_udp() {
	local size MEASURE_PORT=$BENCH_UDP_PORT
	for size in 100 1200; do
		measure "udp_$size" udp --flows 64 --window 4 --request $size --warm 0.5 --seconds "$SECONDS_EACH"
	done
}

# ---- memory ----

# sum_rss PIDS: KiB. count_fds PIDS.
sum_rss() {
	local p sum=0 kb
	for p in ${1//,/ }; do
		kb=$(awk '$1 == "VmRSS:" { print $2 }' "/proc/$p/status" 2>/dev/null)
		sum=$((sum + ${kb:-0}))
	done
	echo $sum
}

count_fds() {
	local p sum=0
	for p in ${1//,/ }; do
		sum=$((sum + $(find "/proc/$p/fd" -mindepth 1 2>/dev/null | wc -l)))
	done
	echo $sum
}

# record_memory FIGURE FLOWS: slab is the whole machine's: both ends of every connection of the lab.
record_memory() {
	local redir proxy slab sockets
	redir=$(pids_of "$BENCH_REDIR") proxy=$(pids_of "$BENCH_PROXY")
	slab=$(awk '$1 == "Slab:" { print $2 }' /proc/meminfo)
	sockets=$(lab_in "$RTR" awk '$1 == "TCP:" { print $3 }' /proc/net/sockstat)
	record "$1" "{\"flows\":$2,\"redir_rss_kib\":$(sum_rss "$redir"),\"proxy_rss_kib\":$(sum_rss "$proxy"),\"redir_fds\":$(count_fds "$redir"),\"proxy_fds\":$(count_fds "$proxy"),\"slab_kib\":$slab,\"router_tcp\":$sockets}"
}

# idle_start N: holds N flows on which a request has been answered; idle_stop lets them go.
idle_start() {
	rm -f "$LAB_DIR/idle.log" # so that "ready" is not that of the flows before
	lab_bg idle "$DEV" "$SIXPATH_BUILD/bench/load" idle --flows "$1" --reply 100 "$SRV4" 80
	lab_wait 60 lab_logged idle ready 2>/dev/null || return 1
	grep -q '"errors":0' "$LAB_DIR/idle.log" || echo "bench: $BENCH_NAME: not all of $1 flows came to be: $(head -n 1 "$LAB_DIR/idle.log")" >&2
}

idle_stop() { lab_kill idle; }

router_sockets_below() {
	[ "$(lab_in "$RTR" awk '$1 == "TCP:" { print $3 }' /proc/net/sockstat)" -lt "$1" ]
}

# A fresh contestant: 0, 1,000 and as many as possible, 10,000 at most.
figure_memory() {
	local n
	record_memory memory_0 0
	for n in 1000 $BENCH_MANY; do
		if idle_start "$n"; then
			sleep 3 # buffers go back
			record_memory "memory_$n" "$n"
		else
			echo "bench: $BENCH_NAME: $n flows were not open within 60 s" >&2
		fi
		idle_stop
		lab_wait 20 router_sockets_below 100
	done
}

# On a fresh contestant: the heap remembers other figures.
figure_slow() {
	lab_bg slow "$DEV" "$SIXPATH_BUILD/bench/load" slow --flows 100 --rate 10000 --seconds 30 "$SRV4" 80
	sleep 3
	record_memory slow_100 100
	lab_kill slow
}

# ---- time to the first byte: in a lab with delays, peers of tests/lab ----

first_byte() { # FIGURE COUNT PORT OPTION...: milliseconds
	local figure=$1 n=$2 port=$3 ms
	shift 3
	ms=$(lab_in "$DEV" "$PEER" probe --repeat "$n" --want 1 --timeout-ms 10000 "$@" "$SRV4" "$port" |
		json - 'sorted(p["first_byte_ms"] for p in (j if isinstance(j, list) else [j]))[-(-'"$n"'//2)-1]')
	record "$figure" "{\"ms\":${ms:--1},\"rtt_ms\":$BENCH_RTT}"
}

figure_ttfb() {
	local small big
	small=/$(printf 'x%.0s' $(seq 1 60)) # with what HTTP adds about 100 octets
	big=/$(printf 'x%.0s' $(seq 1 6000))
	first_byte ttfb_first 1 80 --get "$small"
	first_byte ttfb_later 5 80 --get "$small"
	first_byte ttfb_6k 5 80 --get "$big"
	case $BENCH_NAME in
	bare-*) return ;;
	esac
	first_byte ttfb_server_first 1 22
	first_byte ttfb_server_later 5 22
}

# ---- instructions, by callgrind: the same on every machine, whatever its mood ----

# callgrind_start NAME OPTION...: a contestant whose redirector and proxy are counted, with these
# options of callgrind; the file of the redirector, or of sixpath's proxy (BENCH_WRAPPED), in CALLGRIND.
callgrind_start() {
	local name=$1 pid
	shift
	rm -f "$LAB_DIR"/run/cg.*
	# libtool knows the program behind its script.
	BENCH_WRAP=("$SIXPATH_BUILD/libtool" --mode=execute valgrind --tool=callgrind --vgdb=no --log-file="$LAB_DIR/run/valgrind.%p" --callgrind-out-file="$LAB_DIR/run/cg.%p" "$@")
	contestant_start "$name" --redir redir.workers=1 --proxy proxy.workers=1 || { contestant_stop; BENCH_WRAP=(); return 1; }
	BENCH_WRAP=()
	pid=$BENCH_REDIR
	[ "$BENCH_WRAPPED" = redir ] || pid=$BENCH_PROXY
	CALLGRIND=$LAB_DIR/run/cg.${LAB_PIDS[$pid]}
	chown "$LAB_USER" "$CALLGRIND" # written when the daemon ends, no longer as root
}

# callgrind_load MODE OPTION...: what is counted
callgrind_load() {
	timeout 60 ip netns exec "$DEV" "$SIXPATH_BUILD/bench/load" "$@" "$SRV4" "${MEASURE_PORT:-80}" >"$LAB_DIR/count.log" 2>&1
}

callgrind_total() { # FILE
	awk '$1 == "totals:" || $1 == "summary:" { v = $2 } END { print v + 0 }' "$1"
}

# instructions NAME OPEN MODE COUNT OPTION...: of a whole life with OPEN idle flows; in COUNTED.
instructions() {
	local name=$1 open=$2 mode=$3 count=$4
	shift 4
	callgrind_start "$name" || return 1
	[ "$open" = 0 ] || idle_start "$open" || return 1
	callgrind_load "$mode" --count "$count" "$@"
	[ "$open" = 0 ] || idle_stop
	contestant_stop
	COUNTED=$(callgrind_total "$CALLGRIND")
}

# slope NAME OPEN MODE FEW MANY OPTION...: instructions for one more; in SLOPE, empty if unknown.
slope() {
	local name=$1 open=$2 mode=$3 few=$4 many=$5 a b
	shift 5
	SLOPE=""
	instructions "$name" "$open" "$mode" "$few" "$@" && a=$COUNTED &&
		instructions "$name" "$open" "$mode" "$many" "$@" && b=$COUNTED &&
		SLOPE=$(awk -v a="$a" -v b="$b" -v n=$((many - few)) 'BEGIN { if (a > 0 && b > a) printf "%.0f", (b - a) / n }')
	[ -n "$SLOPE" ] || { echo "bench: $name: instructions could not be counted" >&2; false; }
}

# How events fall together decides how many reads and wake-ups there are: medians here, too.
INSTRUCTION_ROUNDS=3
MIB=(kept 8 136 --flows 1 --reply 1048576)

# figure_instructions NAME: starts the contestant itself.
figure_instructions() {
	for ((BENCH_ROUND = 1; BENCH_ROUND <= INSTRUCTION_ROUNDS; BENCH_ROUND++)); do
		slope "$1" 0 short 100 600 --flows 1 && record instructions_connection "{\"value\":$SLOPE}"
		slope "$1" 0 "${MIB[@]}" && record instructions_mib "{\"value\":$SLOPE}"
	done
}

# between NAME OPEN MODE COUNT OPTION...: instructions for one of COUNT beside OPEN idle flows; in
# SLOPE. Counted from one `sixpathctl udp` to the next, so without what opening the idle flows took;
# and without what timers do: under callgrind everything takes fifty times longer, but idle flows are
# looked at as often as ever.
between() {
	local name=$1 open=$2 mode=$3 count=$4
	shift 4
	SLOPE=""
	callgrind_start "$name" --dump-before=run_udp --toggle-collect=timer_cb --collect-atstart=yes || return 1
	if idle_start "$open"; then
		lab_ctl redir udp >/dev/null
		callgrind_load "$mode" --count "$count" "$@"
		lab_ctl redir udp >/dev/null
		SLOPE=$(($(callgrind_total "$(printf '%s\n' "$CALLGRIND".* | sort -V | tail -n 1)") / count))
		grep -q '"errors":0' "$LAB_DIR/count.log" || SLOPE=""
	fi
	idle_stop
	contestant_stop
	[ -n "$SLOPE" ] || { echo "bench: $name: instructions beside $open flows could not be counted" >&2; false; }
}

# Cost of a connection and of a MiB with few and with many other flows open. The MiB comes as 64
# answers: how often a stream wakes the loop up is the machine's mood and says nothing of the others.
figure_flat() {
	local n
	for ((BENCH_ROUND = 1; BENCH_ROUND <= INSTRUCTION_ROUNDS; BENCH_ROUND++)); do
		for n in 10 $BENCH_MANY; do
			between "$1" "$n" short 1000 --flows 1 && record "flat_$n" "{\"value\":$SLOPE}"
			between "$1" "$n" kept 6400 --flows 1 --reply 16384 && record "flat_mib_$n" "{\"value\":$((SLOPE * 64))}"
		done
	done
}

# ---- programs ----

# program FILE: the program behind libtool's script, if there is one.
program() {
	if [ -x "$(dirname "$1")/.libs/$(basename "$1")" ]; then
		echo "$(dirname "$1")/.libs/$(basename "$1")"
	else
		echo "$1"
	fi
}

PROGRAMS="src/redir/sixpath-redir src/proxy/sixpath-proxy src/tools/sixpathctl"

sizes() { # PREFIX BUILD: stripped
	local p
	for p in $PROGRAMS; do
		strip -o "$LAB_DIR/stripped" "$(program "$2/$p")" &&
			record "$1$(basename "$p")" "{\"value\":$(stat -c %s "$LAB_DIR/stripped")}"
	done
}

# Option sets of configure that are meant for routers: the figure's name, and what is added to
# --enable-small.
SMALL_SETS="small|
small_bare|--without-nft --without-ipset --without-nfqueue
small_less|--disable-udp --disable-dns --disable-front --disable-forward
small_least|--disable-udp --disable-dns --disable-front --disable-forward --without-nft --without-ipset --without-nfqueue"

# As built for the other figures, and by each of these.
figure_size() {
	local name set small=$SIXPATH_BUILD/small
	BENCH_NAME=sixpath
	sizes size_ "$SIXPATH_BUILD"
	while IFS='|' read -r name set; do
		rm -rf "$small"
		# shellcheck disable=SC2086
		if mkdir -p "$small" && (cd "$small" && "$SRC/configure" -q --enable-small --disable-static $set &&
			make $PROGRAMS) >"$LAB_DIR/small.log" 2>&1 </dev/null; then
			sizes "size_${name}_" "$small"
		else
			echo "bench: the small programs do not build: $(tail -n 3 "$LAB_DIR/small.log")" >&2
		fi
	done <<<"$SMALL_SETS"
	rm -rf "$small"
}

figure_learned() {
	local name n
	BENCH_NAME=sixpath
	while IFS='|' read -r name n; do
		record "learned_$name" "{\"value\":$n}"
	done < <("$SIXPATH_BUILD/bench/bench_learned" 1 0.5 |
		sed -n 's/^  \([a-z ,-]*[a-z]\)  *\([0-9]*\) a second$/\1|\2/p' | tr -d , | tr ' ' _)
}

# An idle daemon: without rules of its own, and with those of the nft back end.
figure_idle() {
	contestant_start sixpath-tcp
	BENCH_NAME=sixpath
	record_memory idle_none 0
	contestant_stop
	contestant_start sixpath-own
	BENCH_NAME=sixpath
	record_memory idle_nft 0
	contestant_stop
}
