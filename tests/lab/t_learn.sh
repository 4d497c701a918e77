#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Servers that speak MPTCP are learned and dialled directly; what is learned is checked
# build: release
. "$(dirname "$0")/lib.sh"

routes() { # how connections have gone, as "proxied/bypassed/direct"
	lab_ctl redir status --json | json - '"%d/%d/%d" % tuple(j["counters"][k] for k in ("proxied", "bypassed", "direct"))'
}

get() { # ADDRESS [PORT]: how it ends at the device
	lab_in "$DEV" "$PEER" probe --get / --want 12 "$1" "${2:-80}" | json - 'j["end"]'
}

learned() { # ADDRESS:PORT: "speaks/evidence"
	lab_ctl redir learned list --json | json - 'next((e["speaks"] + "/" + e["evidence"] for e in j["learned"] if e["server"] == "'"$1"'"), "unknown")'
}

lab_up --wan1 10:20 --wan2 10:20 --wire
# The server reaches the WAN addresses of the router, and the router has a way to it over each WAN.
lab_serve srv "$SRV" --mptcp http:80 duplex:5000
lab_serve plain "$SRV" http:81
lab_daemons

for v in "$SRV4:80" "[$SRV6]:80"; do
	a=${v%:80}
	a=${a//[\[\]]/}
	before=$(routes)
	check_eq "$a: first connection" "$(get "$a")" want
	check_eq "$a: learned" "$(learned "$v")" mptcp/proxy
	check_eq "$a: second connection" "$(get "$a")" want
	echo "# $a: $before -> $(routes)"
done
check_eq "each first connection went through the proxy, each second did not" "$(routes)" 2/2/0
lab_end
