#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# sixpathctl passwd: the real program on real files.
# shellcheck disable=SC2016,SC2317
set -u
ctl=${SIXPATHCTL:-${top_builddir:-.}/src/tools/sixpathctl}
case $ctl in /*) ;; *) ctl=$PWD/$ctl ;; esac
[ -x "$ctl" ] || { echo "no program at $ctl"; exit 99; }

dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 99
failed=0
umask 022

# check NAME COMMAND...: the command must succeed.
check() {
	name=$1
	shift
	if "$@"; then
		echo "passed: $name"
	else
		echo "FAILED: $name"
		sed 's/^/    /' out err 2>/dev/null
		failed=1
	fi
}

# run CODE PASSWORD ARG...: sixpathctl passwd must end with that code.
run() {
	want=$1 input=$2
	shift 2
	printf '%s' "$input" | "$ctl" passwd "$@" >out 2>err
	got=$?
	[ "$got" = "$want" ] || { echo "exit code $got, not $want: $*"; return 1; }
}

lines() { [ "$(wc -l <"$1")" = "$2" ]; }
mode() { [ "$(stat -c %a "$1")" = "$2" ]; }
# hash FILE USER
hash() { sed -n "s/^$2://p" "$1"; }
no_litter() { [ "$(find . -name '*.??????' | wc -l)" = 0 ]; }

check "new file" run 0 'secret
' users home
check "said what it did" grep -q '^user "home" added; now: sixpathctl --proxy reload$' out
check "one line" lines users 1
check "yescrypt or SHA-512" grep -Eq '^home:\$(y|6)\$.{30,}$' users
check "mode 0640" mode users 640
check "password is not in the file" sh -c '! grep -q secret users'

first=$(hash users home)
check "change" run 0 secret users home
check "said so" grep -q 'has a new password' out
check "still one line" lines users 1
check "salted" test "$first" != "$(hash users home)"

printf '# people\n\nann:$6$x$y\nbob:$6$x$z\nann:$6$old$twice\nann2:$6$k$k\n# the end' >users
cp users before
chmod 604 users
check "change in the middle" run 0 'p w:d#' users ann
check "mode is made stricter" mode users 600
sed -e '5d' -e '3s/.*/ann:HASH/' before >want
echo >>want
sed "s|^ann:.*|ann:HASH|" users >got
check "other lines and comments are kept" cmp want got
check "add at the end" run 0 x users carl
check "behind the comment" sh -c 'tail -n 1 users | grep -q "^carl:"'
check "delete" run 0 '' -D users ann
check "said so" grep -q '"ann" deleted' out
check "gone" sh -c '! grep -q "^ann:" users'
check "the one with a longer name stays" grep -q '^ann2:\$6\$k\$k$' users
check "delete again" run 67 '' -D users ann
check "names the user" grep -q 'no user "ann" in users' err
check "a part of a name is no user" run 67 '' -D users an
check "no file" run 66 '' -D none ann
check "no directory" run 73 x none/users ann
mkdir sub
check "a directory" run 65 x sub ann

ln -s "$dir/users" link
check "through a link" run 0 x link dave
check "the link stays" test -L link
check "in the file itself" grep -q '^dave:' users

cp users before
check "no password" run 66 '' users eve
check "empty password" run 66 '
' users eve
long=$(printf '%255s' '' | tr ' ' x)
check "256 octets" run 65 "${long}y" users eve
check "nothing was changed" cmp before users
check "255 octets" run 0 "$long" users eve
check "user with colon" run 65 x users a:b
check "user with control character" run 65 x users "$(printf 'a\tb')"
check "user like a comment" run 65 x users '#a'
check "user of no letters" run 65 x users ''
check "user of 256 octets" run 65 x users "${long}y"
check "user of 255 octets" run 0 x users "$long"
check "user that is not ASCII" run 0 x users 'jürgen müller'
check "password in argv" run 64 '' users home secret
check "explained" grep -q 'could be read by every user' err
check "no user" run 64 '' users
check "no file" run 64 ''
check "with --json" run 64 '' --json users home

if [ "$(id -u)" = 0 ]; then
	chown 12345:23456 users
	check "as root" run 0 x users home
	check "owner and group are kept" test "$(stat -c %u:%g users)" = 12345:23456
fi

# Several at once: none loses another's change.
for i in 1 2 3 4 5 6 7 8; do
	echo "pw$i" | "$ctl" passwd crowd "user$i" >/dev/null 2>&1 &
done
wait
check "eight at once" lines crowd 8
check "no temporary file is left" no_litter
exit $failed
