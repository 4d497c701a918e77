#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Bad configuration values: file:line: key: reason, and exit code 1
. "$(dirname "$0")/lib.sh"

LAB_DIR=$(mktemp -d)
trap 'rm -rf "$LAB_DIR"' EXIT

# bad DAEMON SECTION LINE WORDS...: the line is the third of the file; all words must be in the
# message for it.
bad() {
	local daemon=$1 section=$2 line=$3 file out word rc
	shift 3
	file=$LAB_DIR/$daemon.conf
	printf '[%s]\n; a comment\n%s\n' "$section" "$line" >"$file"
	if [ "$daemon" = redir ] && [ "${section%% *}" != proxy ]; then
		printf '[proxy p]\naddress = 192.0.2.1:1080\n' >>"$file"
	elif [ "$daemon" = redir ] && [ "${line%% *}" != address ]; then
		printf 'address = 192.0.2.1:1080\n' >>"$file"
	fi
	out=$("$SIXPATH_BUILD/src/$daemon/sixpath-$daemon" -t -c "$file" 2>&1)
	rc=$?
	if [ $rc != 1 ]; then
		not_ok "$daemon [$section] $line" "exit code $rc instead of 1"
		return
	fi
	for word in "$file:3: [$section] ${line%% *}: " "$@"; do
		case $out in
		*"$word"*) ;;
		*)
			not_ok "$daemon [$section] $line" "no \"$word\" in: $out"
			return
			;;
		esac
	done
	ok "$daemon [$section] $line"
}

good() { # DAEMON FILE
	check "$1 accepts $2" "$SIXPATH_BUILD/src/$1/sixpath-$1" -t -c "$2"
}

echo ann:secret >"$LAB_DIR/bad-users" # in clear
for d in redir proxy; do
	s=$d # the main section is called like the daemon
	bad $d $s "listen = 1.2.3.4" port
	bad $d $s "listen = host:1080" "host:1080"
	bad $d $s "listen = [::]:70000" 70000
	bad $d $s "workers = many" many auto 256
	bad $d $s "workers = 0" 256
	bad $d $s "workers = 8o80" 8o80
	bad $d $s "log = loud" loud error debug
	bad $d $s "log_to = printer" printer syslog
	bad $d $s "control = relative/path" relative/path
	bad $d $s "lisen = 1080" "did you mean" listen
	bad $d $s "nonsense = 1" unknown
done
bad redir connect "dscp = perhaps" perhaps yes no
bad redir connect "names = host" host no sni
bad redir connect "names_ports = https" https
bad redir dns "listen = 192.168.1.1" port
bad redir dns "allow = 10.0.0.0/33" 10.0.0.0/33
bad redir dns "servers = ns.example.net" ns.example.net 192.0.2.53
bad redir dns "fallback = maybe" maybe yes no
bad redir dns "cache = 65537" 65536
bad redir dns "cache = -1" 65536
bad redir dns "cache_ttl = 8d" 8d
bad redir dns "cache_size = 3" unknown
bad redir redir "mode = magic" magic tproxy redirect
bad redir redir "tune = maybe" maybe yes no
bad redir redir "memory = lots" lots auto MiB
bad redir redir "memory = 3 MiB" "3 MiB" "4 MiB"
bad redir redir "memory = 64 KiB" "64 KiB" MiB
bad redir redir "memory = 99999999 MiB" 65536
bad redir redir "drain = -1" -1
bad redir redir "drain = 2d" 2d 1d
bad redir redir "state_dir = var" var absolute
bad redir redir "socks = here" here port
bad redir redir "socks = 0.0.0.0:1080" 0.0.0.0:1080 "reached by others" socks_users
bad redir redir "socks = [::1]:1080, [fd00::1]:1080" "[fd00::1]:1080" socks_users
bad redir redir "socks = [::1]:1077" 1077 listen
bad redir redir "socks_users = users" users absolute
bad redir redir "socks_users = /nonexistent/users" "/nonexistent/users" "No such file" "sixpathctl passwd"
bad redir redir "socks_users = $LAB_DIR/bad-users" "line 1" hash
bad redir redir "socks_max_per_client = 3" 3 1000000
bad redir rules "install = perhaps" perhaps yes no
bad redir rules "backend = pf" pf auto nft iptables none
bad redir rules "capture = eth0, a/b" a/b interface
bad redir rules "capture_local = 2" 2 yes no
bad redir rules "ports = 0-80" 0-80 65535
bad redir rules "exclude = 10.0.0.0/40" 10.0.0.0/40
bad redir rules "scripts = redirect-rules" redirect-rules absolute
bad redir rules "scripts =" path
bad redir bypass "learn = often" often yes no
bad redir bypass "action = jump" jump auto relay rule
bad redir bypass "ttl = 1" 1 10
bad redir bypass "max = 0" 0 1000000
bad redir bypass "save = 7" 7 yes no
bad redir bypass "learn_passive = x" x yes no
bad redir bypass "tll = 1h" "did you mean" ttl
bad redir redir "first_data_ms = -1" -1 1000
bad redir redir "first_data_ms = 1001" 1001 1000
bad redir redir "first_data_ms = 30ms" 30ms
bad redir redir "mark = 0xzz" 0xzz
bad redir redir "mark = 99999999999" 99999999999
bad redir redir "prewarm = auto" unknown
bad redir connect "on_proxy_failure = pray" pray direct refuse
bad redir connect "verify = perhaps" perhaps yes ports
bad redir connect "verify = 80, 99999" 99999 yes ports
bad redir connect "verify = 90-80" 90-80 ports
bad redir connect "verify =" verify yes
bad redir connect "verify = 443, 203.0.113.0/33" 203.0.113.0/33 networks
bad redir connect "verify = 443,, 203.0.113.0/24" networks
bad redir connect "verify = yes, 203.0.113.0/24" yes networks
bad redir connect "remember_failed = 61s" 61s "0s to 1m"
bad redir connect "remember_failed = soon" soon
bad redir udp "proxy = 0-80" 0-80 65535
bad redir udp "refuse = quic" quic port
bad redir udp "direct = 1,,2" empty
bad redir udp "transport = quic" quic auto udp tcp
bad redir udp "tcp_ports = 70000" 70000
bad redir udp "udp_ports = 90-80" 90-80
bad redir udp "max = 15" 15 16
bad redir udp "idle = 1m" 1m 2m
bad redir udp "idel = 5m" "did you mean" idle
bad redir "proxy p" "udp_port = 65536" 65536 65535
bad redir connect "idle = 1" 10
bad redir connect "idle = forever" forever
bad redir connect "dead = -1" -1
bad redir connect "dead = 2d" 1d
bad redir "path wan1" "device = eth0, eth1" pattern usb
bad redir "path wan1" "device = averyveryverylongname" pattern
bad redir "path wan1" "role = secondary" primary metered
bad redir "path wan1" "speed = 3" unknown
bad redir "forward web" "source = magic" magic transparent proxy-v2
bad redir "forward web" "listen = host:80" host:80
bad redir "forward web" "listen = 0" 0
bad redir "forward web" "to = server:443" server:443
bad redir "forward web" "backlog = 0" 4096
bad redir "forward web" "ready = 257" 256
bad redir "forward web" "lisen = 80" "did you mean" listen
bad redir connect "dial_timeout = 0" 1
bad redir connect "dial_timeout = 5x" 5x
bad redir connect "reply_timeout = 601" 10m
bad redir connect "idel = 10" "did you mean" idle
bad redir "proxy p" "address = :1080" ":1080"
bad redir "proxy p" "address = host:0" "host:0"
bad redir "proxy p" "protocol = socks4" socks4 socks6 socks5
bad redir "proxy p" "pipeline = yes" yes no handshake data
bad redir "proxy p" "pipeline = data" "protocol = socks5"
bad redir "proxy p" "mptcp = maybe" maybe auto
bad redir "proxy p" "tfo = maybe" maybe auto
bad redir "proxy p" "priority = 1001" 1001 1000
bad redir "proxy p" "priority = high" high
bad redir "proxy p" "prewarm = 17" 17 auto 16
bad redir "proxy p" "prewarm = -1" -1 auto
bad redir "proxy p" "prewarm = yes" yes auto
bad redir "proxy p" "weight = 0" "no proxy takes connections" 100
bad redir "proxy p" "weight = -1" 0 100
bad redir "proxy p" "via = nobody" "[proxy nobody]"
bad redir "proxy p" "via = P" "through itself"
bad redir "proxy p" "weight = 101" 101 100
bad redir "proxy p" "weight = heavy" heavy
bad redir "proxy p" "wieght = 3" "did you mean" weight
bad redir connect "balance = fair" fair weight latency
bad redir "proxy p" "password_file = /nonexistent/secret" "/nonexistent/secret"
bad redir "proxy p" "username = home" password
bad redir "proxy p" "pasword = x" "did you mean" password
bad proxy proxy "dns = ns.example.net" ns.example.net 127.0.0.1
bad proxy proxy "mptcp = maybe" maybe auto
bad proxy proxy "resolve = foo" foo 192.0.2.53
bad proxy proxy "resolve = 192.0.2.1, [::1]:99999" 99999
bad proxy proxy "tfo = 3" auto
bad proxy proxy "session_ttl = 1" 10
bad proxy proxy "session_ttl = long" long
bad proxy proxy "token_window = 4" 8
bad proxy proxy "request_timeout = 0" 1
bad proxy proxy "waiting_timeout = 0" 1
bad proxy proxy "waiting_timeout = 61m" 1h
bad proxy proxy "waiting_timeout = always" always
bad proxy proxy "connect_timeout = 301" 5m
bad proxy proxy "idle = -5" -5
bad proxy proxy "dead = 25h" 1d
bad proxy proxy "max_clients = 0" 1
bad proxy proxy "max_per_client = some" some
bad proxy proxy "max_per_user = 0" 1
bad proxy proxy "drain = soon" soon 1d
bad proxy proxy "bind_timeout = 0" 1
bad proxy proxy "bind_backlog = 4097" 4096
bad proxy proxy "max_binds = -1" 65535
bad proxy proxy "max_binds_per_user = all" all
bad proxy proxy "max_sessions = 0" 1
bad proxy proxy "max_sessions_per_user = 0" 1
bad proxy auth "users = /nonexistent/users" "/nonexistent/users"
bad proxy auth "users = relative" relative
bad proxy acl "allow = 10.0.0.0/33" "10.0.0.0/33"
bad proxy acl "deny = everything" everything
bad proxy acl "bind_ports = 80-70" 80-70
bad proxy "user home" "bind_ports = all" all
bad proxy acl "allow = 10.0.0.1/8" "10.0.0.1/8"

# Several errors are told at once, a secret never.
printf '[redir]\nmode = magic\nworkers = none\n[proxy p]\naddress = 192.0.2.1\npassword = hunter2\nmptcp = maybe\n' >"$LAB_DIR/many.conf"
out=$("$SIXPATH_BUILD/src/redir/sixpath-redir" -t -c "$LAB_DIR/many.conf" 2>&1)
check_eq "all errors in one run" "$(printf '%s\n' "$out" | grep -c "many.conf:[237]: ")" 3
check_eq "no secret in an error" "$(printf '%s\n' "$out" | grep -c hunter2)" 0
for i in $(seq 65); do printf '[proxy p%d]\naddress = 192.0.2.1\n' "$i"; done >"$LAB_DIR/crowd.conf"
out=$("$SIXPATH_BUILD/src/redir/sixpath-redir" -t -c "$LAB_DIR/crowd.conf" 2>&1)
check_eq "more than 64 proxies are an error" "$?$(printf '%s\n' "$out" | grep -c 'crowd.conf:129: .*at most 64')" 11
# Ways through several proxies; "NAME:VIA" each.
ways() {
	local p
	for p; do
		printf '[proxy %s]\naddress = 192.0.2.1\n' "${p%%:*}"
		[ -z "${p#*:}" ] || printf 'via = %s\n' "${p#*:}"
	done >"$LAB_DIR/way.conf"
	out=$("$SIXPATH_BUILD/src/redir/sixpath-redir" -t -c "$LAB_DIR/way.conf" 2>&1)
	rc=$?
}
ways a: b:a c:b d:c
check_eq "four proxies in a row" "$rc" 0
ways d:C c:B b:A a:
check_eq "in any order and case" "$rc" 0
ways a: b:a c:b d:c e:d
check_eq "five are too many" "$rc $(printf '%s\n' "$out" | grep -c 'way.conf:14: \[proxy e\] via: .*at most 4')" "1 1"
ways a:c b:a c:b d:
check_eq "a circle" "$rc $(printf '%s\n' "$out" | grep -cE 'way.conf:(3|6|9): .* via: goes round in a circle')" "1 3"
ways a:b b:a c:a d:
check_eq "a way into a circle" "$rc $(printf '%s\n' "$out" | grep -cE 'way.conf:(3|6): .*circle|way.conf:9: .*at most 4')" "1 3"
printf '[proxy a]\naddress = 192.0.2.1\n[proxy b]\naddress = 192.0.2.2\nvia = a\nprewarm = 2\n' >"$LAB_DIR/way.conf"
out=$("$SIXPATH_BUILD/src/redir/sixpath-redir" -t -c "$LAB_DIR/way.conf" 2>&1)
check_eq "prewarm behind another proxy" "$?$(printf '%s\n' "$out" | grep -c 'way.conf:6: \[proxy b\] prewarm: .*set prewarm')" 11
printf '[proxy p]\naddress = 192.0.2.1\n[path a]\ndevice = eth1\n[path b]\ndevice = eth1\n[path c]\nrole = backup\n' >"$LAB_DIR/paths.conf"
out=$("$SIXPATH_BUILD/src/redir/sixpath-redir" -t -c "$LAB_DIR/paths.conf" 2>&1)
check_eq "a device twice, and none, are errors" "$?$(printf '%s\n' "$out" |
	grep -c -e 'paths.conf:6: .*eth1 is the device of \[path a\]' -e 'paths.conf:7: .*device is missing')" 12
# rules NAME WANT LINE...: the first line is the third; WANT (a pattern) is said, or nothing if empty.
rules() {
	local name=$1 want=$2 out rc
	shift 2
	printf '%s\n' "[proxy p]" "address = 192.0.2.1" "$@" >"$LAB_DIR/rules.conf"
	out=$("$SIXPATH_BUILD/src/redir/sixpath-redir" -t -c "$LAB_DIR/rules.conf" 2>&1)
	rc=$?
	if [ -n "$want" ]; then
		check_eq "$name" "$rc $(grep -cE "rules.conf:$want" <<<"$out")" "1 1"
	else
		check_eq "$name" "$rc" 0
	fi
}
CAP=("[rules]" "capture = lan")
rules "no mark, with rules" "4: \[redir\] mark: .*0x5061" "[redir]" "mark = 0" "${CAP[@]}"
rules "a mark that is the rules'" "4: \[redir\] mark: .*0x2" "[redir]" "mark = 2" "${CAP[@]}"
rules "a mark that is the rules', with a script" "4: \[redir\] mark: .*0x2" "[redir]" "mark = 2" "${CAP[@]}" "backend = iptables"
rules "a mark that only our own rules use, with a script" "" "[redir]" "mark = 8" "${CAP[@]}" "backend = iptables"
rules "a mark that is the rules', for forwards" "4: \[redir\] mark: " "[redir]" "mark = 8" "[forward a]" "listen = 80" "to = 192.168.1.2:80"
rules "no mark, without rules" "" "[redir]" "mark = 0" "${CAP[@]}" "install = no"
rules "no mark, without rules, backend" "" "[redir]" "mark = 0" "${CAP[@]}" "backend = none"
rules "no mark, nothing to capture" "" "[redir]" "mark = 0"
rules "a mark that is verify's" "4: \[redir\] mark: .*0x10" "[redir]" "mark = 0x10" "${CAP[@]}" "[connect]" "verify = yes"
rules "the same mark without verify" "" "[redir]" "mark = 0x10" "${CAP[@]}"
rules "capture = lo" "4: \[rules\] capture: .*capture_local" "[rules]" "capture = lo, rd"
rules "verify with redirect" "6: \[connect\] verify: .*tproxy" "[redir]" "mode = redirect" "[connect]" "verify = 443"
# Where connections arrive: one port, and an address that they get to.
L4=127.0.0.1:1077 L6="[::1]:1077"
rules "two ports" "4: \\[redir\\] listen: .*one port" "[redir]" "listen = 0.0.0.0:1077, [fd00::1]:1078" "${CAP[@]}"
rules "two ports, rules of one's own" "" "[redir]" "listen = 0.0.0.0:1077, [fd00::1]:1078" "${CAP[@]}" "install = no"
rules "two ports, nothing captured" "" "[redir]" "listen = 0.0.0.0:1077, [fd00::1]:1078"
rules "redirect to loopback" "4: \\[redir\\] listen: .*0.0.0.0:PORT" "[redir]" "listen = $L4, $L6" "mode = redirect" "${CAP[@]}"
rules "redirect to loopback, IPv6" "4: \\[redir\\] listen: " "[redir]" "listen = 0.0.0.0:1077, $L6" "mode = redirect" "${CAP[@]}"
rules "redirect this host's own to an address" "4: \\[redir\\] listen: " "[redir]" "listen = 10.0.0.1:1077" "mode = redirect" "${CAP[@]}" "capture_local = yes"
rules "redirect to an address" "" "[redir]" "listen = 10.0.0.1:1077" "mode = redirect" "${CAP[@]}"
rules "redirect to an address and loopback" "" "[redir]" "listen = 10.0.0.1:1077, $L4" "mode = redirect" "${CAP[@]}" "capture_local = yes"
rules "redirect only this host's own to loopback" "" "[redir]" "listen = $L4, $L6" "mode = redirect" "[rules]" "capture_local = yes"
rules "redirect, all addresses of IPv4" "" "[redir]" "listen = 0.0.0.0:1077" "mode = redirect" "${CAP[@]}" "capture_local = yes"
rules "a script's tproxy to loopback" "4: \\[redir\\] listen: .*script" "[redir]" "listen = $L4, $L6" "${CAP[@]}" "backend = iptables"
# forwards LINE...: with two proxies; in `out` what is said of it.
forwards() {
	{
		printf '[proxy a]\naddress = 192.0.2.1\n[proxy b]\naddress = 192.0.2.2\n[forward one]\n'
		printf '%s\n' "$@"
	} >"$LAB_DIR/forward.conf"
	out=$("$SIXPATH_BUILD/src/redir/sixpath-redir" -t -c "$LAB_DIR/forward.conf" 2>&1)
	rc=$?
}
forwards "listen = 8443" "to = 192.168.1.10:443, [fd00::10]:443" "proxy = A"
check_eq "a forward" "$rc" 0
forwards "listen = 8443" "to = 192.168.1.10:443"
check_eq "a forward without a proxy where there are several" "$rc$(grep -c 'proxy is missing' <<<"$out")" 11
forwards "listen = 8443" "to = 192.168.1.10:443" "proxy = c"
check_eq "a forward of a proxy that there is not" "$rc$(grep -c 'forward.conf:8: .*no section \[proxy c\]' <<<"$out")" 11
forwards "listen = 8443" "to = 192.168.1.10:443" "proxy = old" "[proxy old]" "address = 192.0.2.3" "protocol = socks5"
check_eq "a forward of a proxy that speaks SOCKS 5" "$rc$(grep -c 'forward.conf:8: .*\[proxy old\] needs protocol = socks6' <<<"$out")" 11
forwards "to = 192.168.1.10:443" "proxy = a"
check_eq "a forward without a port" "$rc$(grep -c 'listen is missing' <<<"$out")" 11
forwards "listen = 8443" "proxy = a"
check_eq "a forward without a server" "$rc$(grep -c 'to is missing' <<<"$out")" 11
forwards "listen = 8443, 8444" "to = 192.168.1.10:443" "proxy = a"
check_eq "a forward of two ports" "$rc$(grep -c 'forward.conf:6: .*one port' <<<"$out")" 11
forwards "listen = 8443" "to = 192.168.1.10:443, 192.168.1.11:443" "proxy = a"
check_eq "a forward to two servers of one family" "$rc$(grep -c 'forward.conf:7: .*one for IPv4 and one for IPv6' <<<"$out")" 11
forwards "listen = 8443" "to = 443" "proxy = a"
check_eq "a forward to nowhere" "$rc$(grep -c 'forward.conf:7: .*address and port of a server' <<<"$out")" 11
forwards "listen = 8443" "to = 192.168.1.10:443" "proxy = a" "[forward two]" "listen = 192.0.2.9:8443" "to = 192.168.1.11:443" "proxy = a"
check_eq "a port that two forwards have" "$rc$(grep -c 'forward.conf:10: .*is \[forward one\].s already' <<<"$out")" 11
forwards "listen = 8443" "to = 192.168.1.10:443" "proxy = a" "[forward two]" "listen = 8443" "to = 192.168.1.11:443" "proxy = b"
check_eq "... at two proxies" "$rc" 0
printf '[user home]\nbind_ports = 80\n' >"$LAB_DIR/user.conf"
out=$("$SIXPATH_BUILD/src/proxy/sixpath-proxy" -t -c "$LAB_DIR/user.conf" 2>&1)
check_eq "a user without a users file" "$?$(grep -c 'user.conf:1: .*set users in' <<<"$out")" 11
printf 'secret\n' | "$SIXPATH_BUILD/src/tools/sixpathctl" passwd "$LAB_DIR/users" home >/dev/null
printf '[auth]\nusers = %s\n[user home]\nbind_ports = 80\n[user hone]\n' "$LAB_DIR/users" >"$LAB_DIR/user.conf"
out=$("$SIXPATH_BUILD/src/proxy/sixpath-proxy" -t -c "$LAB_DIR/user.conf" 2>&1)
check_eq "a user that there is not" "$?$(grep -c 'user.conf:5: .*no such user' <<<"$out")" 11
printf '[redir]\nmode = tproxy\n' >"$LAB_DIR/none.conf"
out=$("$SIXPATH_BUILD/src/redir/sixpath-redir" -t -c "$LAB_DIR/none.conf" 2>&1)
check_eq "no proxy at all is an error" $? 1
printf '[redir]\nmode = tproxy\nmode = redirect\n[proxy p]\naddress = 192.0.2.1\n' >"$LAB_DIR/twice.conf"
out=$("$SIXPATH_BUILD/src/redir/sixpath-redir" -t -c "$LAB_DIR/twice.conf" 2>&1)
check_eq "a key that appears twice is an error" "$?$(printf '%s\n' "$out" | grep -c 'twice.conf:3: ')" 11
printf 'secret\n' >"$LAB_DIR/open"
chmod 644 "$LAB_DIR/open"
bad redir "proxy p" "password_file = $LAB_DIR/open" chmod

# No control socket is a choice.
for d in redir proxy; do
	printf '[%s]\ncontrol =\n' $d >"$LAB_DIR/off-$d.conf"
	[ $d = proxy ] || printf '[proxy p]\naddress = 192.0.2.1\n' >>"$LAB_DIR/off-$d.conf"
	good $d "$LAB_DIR/off-$d.conf"
done

# The samples are good.
good redir "$LAB_SRC/etc/redir.conf"
good proxy "$LAB_SRC/etc/proxy.conf"
# With every line of theirs that is commented out in force as well: they show the defaults.
for d in redir proxy; do
	sed -E -e 's/^; ?(\[[a-z]+ [a-z0-9]+\])/\1/' -e 's/^; ?([a-z_]+ =( |$))/\1/' \
		-e "s|^users = .*|users = $LAB_DIR/users|" "$LAB_SRC/etc/$d.conf" >"$LAB_DIR/all-$d.conf"
	check_eq "the sample of sixpath-$d has no key left out" "$(grep -cE '^; ?[a-z_]+ =' "$LAB_DIR/all-$d.conf")" 0
	good $d "$LAB_DIR/all-$d.conf"
done

# A file as people write it: a comment on each line, behind headers and empty values, too.
printf 'secret\n' >"$LAB_DIR/fr1.secret"
chmod 600 "$LAB_DIR/fr1.secret"
cat >"$LAB_DIR/people.conf" <<END
[redir]
listen = [::]:1077            ; captured TCP (and UDP) arrives here; several allowed, comma separated
mode = tproxy                 ; tproxy | redirect
workers = auto                ; threads with an event loop each; auto = processors
first_data_ms = 30            ; longest wait for the device's first bytes before dialling (0 = don't wait)
mark = 0x5061                 ; SO_MARK on all our own sockets, so that they are never captured
user = sixpath                ; identity after start-up; needed capabilities are kept, nothing else
tune = yes                    ; set the few sysctls MPTCP and Fast Open depend on, restore them on stop
log = info                    ; error | warning | notice | info | debug
log_to = auto                 ; auto | syslog | stderr
control = /run/sixpath/redir.sock
state_dir = /var/lib/sixpath

[proxy fr1]                   ; one section per upstream; the name is free
address = proxy.example.net:1080
protocol = socks6             ; socks6 | socks5 | convert
username = home
password_file = $LAB_DIR/fr1.secret   ; or password =
mptcp = auto                  ; auto | yes | no
tfo = auto                    ; auto | yes | no     (auto backs off by itself where a path eats SYN data)
priority = 10                 ; lower is preferred; equal ones share the load by weight
weight = 1
prewarm = auto                ; connections kept ready, or a number, or 0
via =                         ; reach this proxy through another [proxy NAME] (chaining); or not

[rules] # the kernel's
install = yes                 ; the daemon keeps its own rules in place; no = an administrator's script does
backend = auto                ; auto | nft | iptables | none
capture = br-lan              ; interfaces whose traffic is captured
capture_local = no            ; also the router's own connections
ports = 1-65535
exclude = 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fc00::/7   ; proxies are always excluded

[bypass]
learn = yes                   ; learn MPTCP-capable servers from the proxy's replies
action = auto                 ; auto | relay | rule     (section 5)
ttl = 1h
max = 4096                    ; entries per family
save = yes                    ; keep the table over restarts
learn_passive = no            ; also from SYN+ACKs of connections that are not captured

[path wan1]                   ; optional, one section per WAN: the daemon then manages its MPTCP endpoint
device = eth1
role = primary                ; primary | backup | metered

[connect]
verify = no                   ; no | yes | list of ports/sets: hold the device's SYN until the server's answer is known
on_proxy_failure = direct     ; next | direct | refuse (next is always tried first)
idle = 7440                   ; seconds; RFC 5382 asks for no less than 2 h 4 min
END
good redir "$LAB_DIR/people.conf"
# What follows a header is read as that section's.
sed -i 's/^weight = 1$/weight = 101/' "$LAB_DIR/people.conf"
out=$("$SIXPATH_BUILD/src/redir/sixpath-redir" -t -c "$LAB_DIR/people.conf" 2>&1)
check_eq "a bad value behind such a header is told" "$?$(grep -c 'people.conf:22: \[proxy fr1\] weight: "101"' <<<"$out")" 11
trap - EXIT
rm -rf "$LAB_DIR"
LAB_DIR=""
lab_end
