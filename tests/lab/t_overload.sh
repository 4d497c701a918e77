#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# More than a proxy takes, or a proxy that is told to stop: it says so, and connections go another
# way; none is lost, and afterwards all is as before
. "$(dirname "$0")/lib.sh"

# A second proxy, on the same machine at another port.
second_start() {
	sed -e 's|^listen.*|listen = [::]:1081|' -e "s|proxy.sock|second.sock|" -e "s|^max_.*||" \
		"$LAB_DIR/proxy.conf" >"$LAB_DIR/second.conf"
	lab_bg second "$PRX" "$SIXPATH_BUILD/src/proxy/sixpath-proxy" -f -c "$LAB_DIR/second.conf"
	lab_wait_port "$PRX" 1081
}

of() { # NAME FIELD: of a proxy
	lab_ctl redir proxies --json | json - "[p['$2'] for p in j['proxies'] if p['name'] == '$1'][0]"
}

is() { # NAME STATE
	[ "$(of "$1" state)" = "$2" ]
}

routes() { # WAY: how many flows have gone it
	grep ' flow ' "$LAB_DIR/redir.log" | grep -cF -- "$1"
}

# crowd NAME N MS: so many connections at once, each of which stays for so long after its answer
crowd() {
	lab_bg "$1" "$DEV" bash -c '
		for ((i = 0; i < $1; i++)); do
			"$2" probe --get / --want 12 --hold-ms "$3" --timeout-ms 15000 "$4" 80 &
		done
		wait' _ "$2" "$PEER" "$3" "$SRV4"
}

crowd_served() { # NAME N
	lab_join "$1" 60 || not_ok "$1" "does not end"
	check_eq "$1: connections" "$(json "$LAB_DIR/$1.log" 'len(j)')" "$2"
	check_eq "$1: failed" "$(json "$LAB_DIR/$1.log" 'sum(p["end"] != "want" for p in j)')" 0
	echo "# $1: slowest $(json "$LAB_DIR/$1.log" 'max(p["first_byte_ms"] or 0 for p in j)') ms"
}

through() { # NAME: a new connection goes through this proxy
	lab_in "$DEV" "$PEER" probe --get / --want 12 "$SRV4" 80 >"$LAB_DIR/probe.out" 2>&1
	[ "$(json "$LAB_DIR/probe.out" 'j["end"]')" = want ] &&
		lab_wait 2 sh -c "grep ' flow ' '$LAB_DIR/redir.log' | tail -n 1 | grep -q ' proxy=$1 '"
}

transfer_runs() {
	[ "$(lab_ctl proxy flows --json | json - 'sum(f["bytes_down"] > 100000 for f in j["flows"])')" -gt 0 ]
}

draining() {
	[ "$(lab_ctl proxy status --json | json - 'j["draining"]')" = true ]
}

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

lab_up --wan1 5 --wan2 5
lab_serve srv "$SRV" http:80 duplex:5000
SECOND=(--redir "proxy second.address=$PRX4:1081" --redir "proxy second.username=home"
	--redir "proxy second.password_file=$LAB_DIR/secret" --redir "proxy second.priority=20")

# ---- too many, and there is another proxy; then there is none ----
for limit in max_clients max_per_client max_per_user; do
	for others in 1 0; do
		what="$limit, $([ $others = 1 ] && echo "a second proxy" || echo "alone")"
		args=(--redir bypass.learn=no --proxy "proxy.$limit=12")
		[ $others = 0 ] || args+=("${SECOND[@]}")
		lab_daemons "${args[@]}"
		[ $others = 0 ] || second_start
		lab_wait 10 is home up || lab_die "$what: home is not up"
		[ $others = 0 ] || lab_wait 20 is second up || lab_die "$what: second is not up"
		crowd "$what" 60 4000
		crowd_served "$what" 60
		check_num "$what: some through it" "$(routes 'proxy=home ')" ">=" 6
		if [ $others = 1 ]; then
			check_num "$what: the others through the second" "$(routes 'proxy=second ')" ">=" 40
			check_eq "$what: none past both" "$(routes route=direct)" 0
		else
			check_num "$what: the others directly" "$(routes route=direct)" ">=" 40
		fi
		check_num "$what: it has said so" "$(of home busy)" ">=" 1
		check_eq "$what: it was not taken for down" "$(grep -c 'proxy home is down' "$LAB_DIR/redir.log")" 0
		check_num "$what: the proxy has counted them" "$(lab_ctl proxy status --json | json - 'j["ended"].get("limit", 0)')" ">=" 1
		[ $limit != max_per_user ] || check_num "$what: by user" \
			"$(lab_ctl proxy status --json | json - '[u["refused"] for u in j["by_user"] if u["user"] == "home"][0]')" ">=" 1
		check "$what: the limit is named in the log" lab_logged proxy "$limit = 12"
		start=$(now_ms)
		check "$what: then through it again" lab_wait 5 through home
		check_num "$what: ms until then" $(($(now_ms) - start)) "<=" 3000
		lab_daemons_stop
		lab_kill second
	done
done

# ---- told to stop: with another proxy, without one; with connections kept ready, without ----
for prewarm in 0 4; do
	for others in 1 0; do
		what="stop, prewarm $prewarm, $([ $others = 1 ] && echo "a second proxy" || echo "alone")"
		args=(--redir bypass.learn=no --redir "proxy home.prewarm=$prewarm" --proxy proxy.drain=20s)
		[ $others = 0 ] || args+=("${SECOND[@]}")
		lab_daemons "${args[@]}"
		[ $others = 0 ] || second_start
		lab_wait 10 is home up || lab_die "$what: home is not up"
		[ $others = 0 ] || lab_wait 20 is second up || lab_die "$what: second is not up"
		lab_bg transfer "$DEV" "$PEER" duplex --down 8G --up 1k "$SRV4" 5000
		lab_wait 10 transfer_runs ||
			not_ok "$what: the transfer" "does not run"
		lab_bg watch "$DEV" "$LAB_SRC/tests/lab/failwatch.py" run "$SRV4" 80 6
		lab_wait 10 lab_logged watch warm || not_ok "$what: the device" "makes no connections"
		fault=$EPOCHREALTIME
		kill -TERM "${LAB_PIDS[proxy]}"
		check "$what: it says that it stops" lab_wait 3 draining
		check_eq "$what: nobody listens any more" "$(lab_in "$PRX" ss -Hltn 'sport = :1080')" ""
		lab_join watch 60 || not_ok "$what" "the device did not end"
		"$LAB_SRC/tests/lab/failwatch.py" sum "$LAB_DIR/watch.log" "$fault" >"$LAB_DIR/sum"
		echo "# $what: $(cat "$LAB_DIR/sum")"
		check_num "$what: connections after" "$(json "$LAB_DIR/sum" 'j["after"]')" ">=" 40
		check_eq "$what: failed, of all" "$(json "$LAB_DIR/watch.log" 'sum(p["why"] != "" for p in j)')" 0
		check_num "$what: outage in ms" "$(json "$LAB_DIR/sum" 'j["outage_ms"]')" "<=" 500
		check "$what: the transfer goes on" lab_alive transfer
		kill -TERM "${LAB_PIDS[proxy]}"
		check "$what: a second signal ends it at once" lab_join proxy 5
		check_eq "$what: exit code" "$LAB_RC" 0
		lab_join transfer 10
		lab_daemons_stop
		lab_kill second
	done
done
lab_end
