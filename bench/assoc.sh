# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2154,SC2034
# UDP associations that are held, sourced by bench/run and by the lab's t_assoc: memory, descriptors,
# and whether each of them still works.

# assoc_fit N: so many, or what a proxy here has descriptors for: two each, and some in reserve.
assoc_fit() {
	local most=$((($(ulimit -Hn) / 2 - 50) * 8 / 10))
	echo $(($1 < most ? $1 : most))
}

# assoc_open NAME N PORT: N sockets of the device, each with an association that has carried an echo;
# ready once assoc_ready NAME. They stay until lab_kill NAME.
assoc_open() {
	rm -f "$LAB_DIR/$1.log"
	lab_bg "$1" "$DEV" "$SIXPATH_BUILD/bench/load" udp-idle --flows "$2" "$SRV4" "$3"
}

# assoc_ready NAME [TIMES]: whether that has been said so often; sets ASSOC_GOOD, the last time's.
assoc_ready() {
	[ "$(grep -c ready "$LAB_DIR/$1.log" 2>/dev/null)" -ge "${2:-1}" ] || return 1
	ASSOC_GOOD=$(tail -n 1 "$LAB_DIR/$1.log" | json - 'j["ready"]')
}

# assoc_again NAME: the same sockets once more; sets ASSOC_GOOD.
assoc_again() {
	local before
	before=$(grep -c ready "$LAB_DIR/$1.log")
	kill -USR1 "${LAB_PIDS[$1]}"
	lab_wait 30 assoc_ready "$1" $((before + 1))
}

# ---- beside the peers ----

# Fewer than idle flows: a child of dante has a few, and many of these are what they cost.
ASSOC_MANY=$(assoc_fit "${ASSOC_MANY:-5000}")

# On a fresh contestant.
figure_assoc() {
	record_memory assoc_0 0
	assoc_open assoc "$ASSOC_MANY" "$BENCH_UDP_PORT"
	if ! lab_wait 40 assoc_ready assoc; then
		echo "bench: $BENCH_NAME: $ASSOC_MANY associations were not open within 40 s" >&2
	elif [ "$ASSOC_GOOD" != "$ASSOC_MANY" ]; then
		echo "bench: $BENCH_NAME: $ASSOC_GOOD of $ASSOC_MANY associations: no figure" >&2
	else
		record_memory assoc_many "$ASSOC_MANY"
	fi
	lab_kill assoc
}

# ---- many: several redirectors and proxies, for each process has its own limit of descriptors ----

assoc_pids() { # redir|proxy: of all of them, comma separated
	local i pids=""
	for ((i = 1; i <= ASSOC_PAIRS; i++)); do
		pids=$pids,$(pids_of "$1$i")
	done
	echo "${pids#,}"
}

# assoc_pairs_start PAIRS: redirectors redir1.. and proxies proxy1.., of which each redirector has
# one; datagrams to port BENCH_UDP_PORT of the server go by the first, to the next one by the second.
assoc_pairs_start() {
	local i ports=()
	ASSOC_PAIRS=$1
	lab_conf_defaults
	lab_conf redir redir.log=notice udp.proxy=1-65535 udp.transport=udp udp.max=40000
	lab_conf proxy proxy.log=notice proxy.max_clients=40000 proxy.max_per_client=40000 \
		proxy.max_per_user=40000 udp.max_associations=40000 udp.max_per_client=40000 \
		udp.max_per_user=40000
	for ((i = 1; i <= ASSOC_PAIRS; i++)); do
		lab_conf redir "redir.listen=[::]:$((4000 + i))" "redir.control=$LAB_DIR/run/redir$i.sock" \
			"proxy home.address=$PRX4:$((5000 + i))" "redir.state_dir="
		lab_conf proxy "proxy.listen=[::]:$((5000 + i))" "proxy.control=$LAB_DIR/run/proxy$i.sock"
		lab_conf_write
		cp -p "$LAB_DIR/redir.conf" "$LAB_DIR/redir$i.conf"
		cp -p "$LAB_DIR/proxy.conf" "$LAB_DIR/proxy$i.conf"
		lab_bg "proxy$i" "$PRX" "$SIXPATH_BUILD/src/proxy/sixpath-proxy" -f -c "$LAB_DIR/proxy$i.conf"
		lab_wait_port "$PRX" $((5000 + i))
		lab_bg "redir$i" "$RTR" "$SIXPATH_BUILD/src/redir/sixpath-redir" -f -c "$LAB_DIR/redir$i.conf"
		lab_wait_port "$RTR" $((4000 + i))
		ports+=($((4000 + i)))
	done
	steer_udp "${ports[@]}"
}

assoc_pairs_stop() {
	local i
	steer_udp_end
	for ((i = 1; i <= ASSOC_PAIRS; i++)); do
		lab_kill "redir$i"
		check_eq "redir$i ends with exit code" "$LAB_RC" 0
		lab_kill "proxy$i"
		check_eq "proxy$i ends with exit code" "$LAB_RC" 0
	done
}

# assoc_hold EACH: so many by each redirector at the same time. Sets ASSOC_HELD, how many had an echo,
# and ASSOC_AGAIN, how many had another while all were there.
assoc_hold() {
	local i
	ASSOC_HELD=0 ASSOC_AGAIN=0
	for ((i = 1; i <= ASSOC_PAIRS; i++)); do
		assoc_open "assoc$i" "$1" $((BENCH_UDP_PORT + i - 1))
	done
	for ((i = 1; i <= ASSOC_PAIRS; i++)); do
		lab_wait 60 assoc_ready "assoc$i" && ASSOC_HELD=$((ASSOC_HELD + ASSOC_GOOD))
	done
	for ((i = 1; i <= ASSOC_PAIRS; i++)); do
		assoc_again "assoc$i" && ASSOC_AGAIN=$((ASSOC_AGAIN + ASSOC_GOOD))
	done
}

assoc_release() {
	local i
	for ((i = 1; i <= ASSOC_PAIRS; i++)); do
		lab_kill "assoc$i"
	done
}

# assoc_memory: as JSON members: RSS and descriptors of all daemons.
assoc_memory() {
	local redir proxy
	redir=$(assoc_pids redir) proxy=$(assoc_pids proxy)
	echo "\"redir_rss_kib\":$(sum_rss "$redir"),\"proxy_rss_kib\":$(sum_rss "$proxy"),\"redir_fds\":$(count_fds "$redir"),\"proxy_fds\":$(count_fds "$proxy")"
}

ASSOC_ALL=${ASSOC_ALL:-20000}

# Starts its own daemons.
figure_assoc_all() {
	local pairs=3 each
	each=$(assoc_fit $(((ASSOC_ALL + pairs - 1) / pairs)))
	BENCH_NAME=sixpath
	assoc_pairs_start $pairs
	record assoc_all_0 "{\"flows\":0,$(assoc_memory)}"
	assoc_hold $each
	record assoc_all "{\"flows\":$((each * pairs)),\"held\":$ASSOC_HELD,\"again\":$ASSOC_AGAIN,\"pairs\":$pairs,$(assoc_memory)}"
	assoc_release
	assoc_pairs_stop >/dev/null
}
