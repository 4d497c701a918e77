#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# sixpath-proxy against the specification, octet by octet (proxy_protocol.py)
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || lab_skip_all "needs root"
out=$(mktemp)
trap 'rm -f "$out"' EXIT
python3 "$LAB_SRC/tests/lab/proxy_protocol.py" "$SIXPATH_BUILD/src/proxy/sixpath-proxy" | tee "$out" |
	sed -E "s/^(ok|not ok|skip) /\1 $LAB_TEST: /"
rc=${PIPESTATUS[0]}
if [ "$rc" != 0 ] && ! grep -q '^not ok' "$out"; then
	not_ok "proxy_protocol.py" "exit code $rc"
fi
exit "$rc"
