#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# sixpath-redir: --version says what is built in, and the configuration of what is not is refused.
set -u
redir=${SIXPATH_REDIR:-${top_builddir:-.}/src/redir/sixpath-redir}
sample=${top_srcdir:-.}/etc/redir.conf
[ -x "$redir" ] || { echo "no program at $redir"; exit 99; }

dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
failed=0

result() { # NAME RC
	if [ "$2" = 0 ]; then
		echo "passed: $1"
	else
		echo "FAILED: $1"
		sed 's/^/    /' "$dir/out"
		failed=1
	fi
}

"$redir" -V >"$dir/out" 2>&1
built=" $(sed -n 's/^built in: *//p' "$dir/out") "
left=" $(sed -n 's/^left out: *//p' "$dir/out") "

# one FEATURE LINE [SECTION]: the last line of the file is good, or refused for the right reason.
one() {
	printf '[proxy home]\naddress = 192.0.2.1:1080\n%s\n%s\n' "${3:-}" "$2" >"$dir/conf"
	"$redir" -t -c "$dir/conf" >"$dir/out" 2>&1
	rc=$?
	set -- "$1" "$(echo "$2" | head -n 1)"
	case $built in *" $1 "*)
		[ "$rc" = 0 ] && grep -q 'configuration OK' "$dir/out"
		result "$1 is built in: $2" $?
		return
		;;
	esac
	case $left in *" $1 "*) ;; *) result "$1 is in --version" 1 ;; esac
	[ "$rc" = 1 ] && [ "$(wc -l <"$dir/out")" = 1 ] &&
		grep -q "conf:4: .*built without it (configure --disable-$1): remove it" "$dir/out"
	result "$1 is left out: $2" $?
}

one udp "proxy = 443" "[udp]"
one udp "udp_port = 1081"
one dns "listen = 127.0.0.1:5353" "[dns]"
one front "socks = [::1]:1080" "[redir]"
one front "socks_max_per_client = 8" "[redir]"
# a header alone asks for nothing
printf '[proxy home]\naddress = 192.0.2.1:1080\n[udp]\n[dns]\n' >"$dir/conf"
"$redir" -t -c "$dir/conf" >"$dir/out" 2>&1
result "empty sections" $?
one forward "[forward web]
listen = 443
to = 192.168.1.10:443"
# as it is installed; its proxy has a password file, which is not there
sed 's/^password_file.*//; s/^username.*//' "$sample" >"$dir/conf"
"$redir" -t -c "$dir/conf" >"$dir/out" 2>&1
result "the sample is good in any build" $?
exit "$failed"
