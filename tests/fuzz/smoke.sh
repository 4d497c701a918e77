#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# smoke.sh BUILD-DIR SECONDS: runs each fuzz target for some seconds, on a copy of its corpus.
set -u
build=$(cd "$1" && pwd) seconds=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
for source in "$here"/fuzz_*.c; do
	name=$(basename "$source" .c)
	target=$build/tests/fuzz/$name
	if [ ! -x "$target" ]; then
		echo "not ok fuzz: $name: not built"
		failed=1
		continue
	fi
	mkdir -p "$work/$name"
	cp "$here/corpus/$name"/* "$work/$name"/
	# what fails is kept beside the target
	if "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
		-artifact_prefix="$target-" -print_final_stats=1 "$work/$name" \
		>"$work/$name.log" 2>&1; then
		echo "ok fuzz: $name ($(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$name.log") runs)"
	else
		echo "not ok fuzz: $name"
		tail -n 30 "$work/$name.log" | sed 's/^/    /'
		failed=1
	fi
done
exit $failed
