#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Upstreams that misbehave: the device gets what on_proxy_failure says, the log names the cause
. "$(dirname "$0")/lib.sh"

# Mode of badproxy.py, what the redirector's log must say.
BAD=(
	"mismatch|version mismatch"
	"socks5|does not speak SOCKSv6"
	"garbage|does not speak SOCKSv6"
	"silent|no reply in time"
	"half|no reply in time"
	"half-close|closed in the middle of a reply"
	"close|closed without a reply"
	"reset|Connection reset by peer"
	"auth-fail|credentials rejected"
	"auth-garbage|malformed reply"
	"session-invalid|credentials rejected"
	"auth-only|no reply in time"
	"auth-close|closed"
	"op-garbage|malformed reply"
	"op-general|general failure"
	"flood|endless reply"
)

# The same after NOOPs went well: mode, what the device sees (want: answered, directly; or the
# error's name), what the log says. Where the proxy may have acted, nothing is tried twice.
LATER=(
	"mismatch|want|version mismatch"
	"garbage|want|does not speak SOCKSv6"
	"auth-fail|want|authentication refused"
	"session-invalid|want|authentication refused"
	"op-general|want|general failure"
	"op-refused|ECONNRESET|refused-by-proxy"
	"auth-only|ECONNRESET|upstream-lost"
	"auth-close|ECONNRESET|upstream-lost"
	"auth-garbage|ECONNRESET|upstream-lost"
	"op-garbage|ECONNRESET|upstream-lost"
	"close|ECONNRESET|upstream-lost"
	"reset|ECONNRESET|upstream-lost"
	"silent|ECONNRESET|upstream-lost"
)

probe() { # how a connection that sends and expects ends, from the device's side
	lab_in "$DEV" "$PEER" probe --get / --want 12 --timeout-ms 20000 "$SRV4" 80 >"$LAB_DIR/probe.out" 2>&1
	json "$LAB_DIR/probe.out" 'j["end"]'
}

bad_start() { # MODE [--noop-ok]
	lab_bg bad "$PRX" python3 "$LAB_SRC/tests/lab/badproxy.py" 1080 "$@"
	lab_wait_port "$PRX" 1080
}

redir_start() { # ON-PROXY-FAILURE
	lab_conf redir "connect.on_proxy_failure=$1" "connect.dial_timeout=1s" "connect.reply_timeout=2s"
	lab_conf_write
	lab_daemon_start redir
	lab_wait 10 accepting || lab_die "the redirector does not accept"
}

accepting() {
	[ "$(lab_ctl redir status --json | json - 'j["accepting"]')" = true ]
}

proxy_state() {
	lab_ctl redir proxies --json | json - 'j["proxies"][0]["state"]'
}

is_up() {
	[ "$(proxy_state)" = up ]
}

descriptors() {
	ls "/proc/$(daemon_pid)/fd" | wc -l
}

# ip netns exec replaces itself by the daemon; a libtool wrapper does as well.
daemon_pid() {
	echo "${LAB_PIDS[redir]}"
}

quiet() { # no flow is left
	[ "$(lab_ctl redir status --json | json - 'j["flows"]')" = 0 ]
}

lab_up
lab_serve srv "$SRV" http:80
lab_conf_defaults
lab_rules start --mode tproxy --port 1077 --iface lan --mark 0x5061 --proxy "$PRX4,$PRX6" >"$LAB_DIR/rules.log" 2>&1 ||
	lab_die "redirect-rules: $(tail -n 3 "$LAB_DIR/rules.log")"

for policy in direct refuse; do
	[ $policy = direct ] && expected=want || expected=ECONNRESET
	for row in "${BAD[@]}"; do
		IFS='|' read -r mode cause <<<"$row"
		bad_start "$mode"
		redir_start $policy
		lab_wait 10 lab_logged redir "$cause" || true
		check_eq "$mode, $policy: the device" "$(probe)" $expected
		check "$mode, $policy: the log says \"$cause\"" lab_logged redir "$cause"
		check_eq "$mode, $policy: not taken for a proxy" "$([ "$(proxy_state)" = up ] && echo up)" ""
		lab_daemon_stop redir
		lab_kill bad
	done
done

for row in "${LATER[@]}"; do
	IFS='|' read -r mode expected cause <<<"$row"
	bad_start "$mode" --noop-ok
	redir_start direct
	lab_wait 10 is_up || not_ok "$mode after a good start" "not up"
	check_eq "$mode after a good start: the device" "$(probe)" "$expected"
	check "$mode after a good start: the log says \"$cause\"" lab_wait 5 lab_logged redir "$cause"
	lab_daemon_stop redir
	lab_kill bad
done

# Nothing leaks: 10,000 connections against upstreams that fail in turn, descriptors and memory
# counted before and after.
rss() {
	awk '/^VmRSS/ { print $2 }' "/proc/$(daemon_pid)/status"
}
export ASAN_OPTIONS=quarantine_size_mb=1 # else what is freed stays in memory as a growing quarantine
bad_start close --noop-ok
redir_start refuse
lab_wait 10 is_up
lab_in "$DEV" "$PEER" probe --get / --want 12 --repeat 500 "$SRV4" 80 >/dev/null 2>&1 # warm
lab_wait 10 quiet
fds=$(descriptors) mem=$(rss)
for mode in close mismatch auth-close reset op-refused; do
	lab_kill bad
	bad_start $mode --noop-ok
	for _ in 1 2; do
		loads=()
		for _ in 1 2 3 4; do
			lab_in "$DEV" "$PEER" probe --get / --want 12 --repeat 250 "$SRV4" 80 >/dev/null 2>&1 &
			loads+=($!)
		done
		wait "${loads[@]}"
	done
done
lab_wait 20 quiet || not_ok "10,000 failed connections" "flows are left over"
check_num "10,000 failed connections were made" "$(lab_ctl redir status --json | json - 'j["counters"]["accepted"]')" ">=" 10000
check_num "10,000 failed connections: descriptors" "$(descriptors)" "<=" $((fds + 2))
check_num "10,000 failed connections: kB of memory more" $(($(rss) - mem)) "<" 20000
lab_daemon_stop redir # LeakSanitizer has its say here
lab_end
