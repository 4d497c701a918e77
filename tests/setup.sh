# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034,SC2086
# Shared by ./quickstart and ./runtests: install what is missing, build out of tree.

# What building needs, and what the lab and the tests need on top.
BUILD_PACKAGES="gcc make autoconf automake libtool pkg-config libc6-dev libev-dev
	libiniparser-dev libc-ares-dev libcap-dev libcrypt-dev libmnl-dev libnftables-dev
	libnetfilter-queue-dev"
LAB_PACKAGES="iproute2 iputils-ping nftables iptables ipset procps ethtool tcpdump curl nginx-light python3
	bind9-dnsutils traceroute redsocks microsocks python3-socks"
TEST_PACKAGES="clang llvm libcmocka-dev gcc-multilib xz-utils file man-db groff shellcheck openssl"

say() {
	if [ -t 1 ]; then printf '\033[1m==> %s\033[0m\n' "$*"; else printf '==> %s\n' "$*"; fi
}

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

need_root() {
	[ "$(id -u)" = 0 ] || die "must run as root: it makes network namespaces (try: sudo $0)"
}

# need_packages PACKAGE...: install those that dpkg does not have.
need_packages() {
	local p missing=""
	for p in "$@"; do
		dpkg-query -W -f='${db:Status-Abbrev}' "$p" 2>/dev/null | grep -q '^ii' || missing="$missing $p"
	done
	[ -n "$missing" ] || return 0
	command -v apt-get >/dev/null || die "these Debian packages are missing:$missing"
	say "installing:$missing"
	export DEBIAN_FRONTEND=noninteractive
	# Packages must not start their daemons on this machine: the lab starts its own.
	local policy=/usr/sbin/policy-rc.d made=0
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod 755 $policy
		made=1
	fi
	local log rc=0
	log=$(mktemp)
	{ apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1 || rc=$?
	[ $made = 0 ] || rm -f $policy
	if [ $rc != 0 ]; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		die "apt-get failed (see above)"
	fi
	rm -f "$log"
}

# make_configure SRC: the build system, if it is missing or older than its sources.
make_configure() {
	local src=$1
	if [ ! -x "$src/configure" ] || [ ! -e "$src/Makefile.in" ] ||
		[ -n "$(find "$src/configure.ac" "$src/Makefile.am" "$src/m4/sixpath.m4" \
			"$src"/*/*/local.mk "$src"/*/local.mk -newer "$src/configure" 2>/dev/null)" ]; then
		say "generating the build system (autoreconf)"
		(cd "$src" && autoreconf -fi >"$src/autoreconf.log" 2>&1) ||
			{ tail -n 20 "$src/autoreconf.log" >&2; die "autoreconf failed"; }
		rm -f "$src/autoreconf.log"
	fi
}

# build_tree SRC DIR NAME CONFIGURE-ARG...: configure and build out of tree; the log
# is shown only when something fails.
build_tree() {
	local src=$1 dir=$2 name=$3 log
	shift 3
	mkdir -p "$dir"
	log=$dir/build.log
	say "building: $name"
	if [ ! -e "$dir/config.status" ] || [ "$src/configure" -nt "$dir/config.status" ]; then
		(cd "$dir" && "$src/configure" "$@") >"$log" 2>&1 ||
			{ tail -n 30 "$log" >&2; die "configure failed ($name): $log"; }
	fi
	make -C "$dir" -j"$(nproc)" >>"$log" 2>&1 ||
		{ grep -n -B2 -A8 -E 'error|Error' "$log" | tail -n 40 >&2; die "build failed ($name): $log"; }
}
