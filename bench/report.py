#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes RESULTS.md and plots from DIR/raw.jsonl, which bench/run has measured: report.py DIR"""
import json
import os
import re
import sys
from collections import defaultdict

SOCKS5 = ["redsocks", "redsocks-dante"]
SS = ["ss-cheap", "ss-default"]
PEERS = SOCKS5 + SS + ["haproxy", "other"]
OURS = ["sixpath-tcp", "sixpath-mptcp"]
BARE = {"sixpath-tcp": ["bare-splice", "bare-copy", "bare-tfo"], "sixpath-mptcp": ["bare-mptcp", "bare-tfo-mptcp"]} # what they do without
# of figures.sh; the one whose name the others begin with is last
NO_KERNEL = " --without-nft --without-ipset --without-nfqueue"
NO_FEATURES = " --disable-udp --disable-dns --disable-front --disable-forward"
SMALL_SETS = [("small_bare", NO_KERNEL), ("small_least", NO_FEATURES + NO_KERNEL), ("small_less", NO_FEATURES), ("small", "")]
SOCKS5_UDP = ["redsocks-udp"]
PEERS_UDP = SOCKS5_UDP + ["ss-udp-cheap", "ss-udp-default"]
OURS_UDP = ["sixpath-udp", "sixpath-udp-mptcp"]


class Data:
    """figure -> contestant -> round -> values"""

    def __init__(self, path):
        self.rows = defaultdict(lambda: defaultdict(dict))
        self.names = {}
        self.machine = {}
        with open(path, encoding="utf-8") as f:
            for line in f:
                r = json.loads(line)
                if r["figure"] == "machine":
                    self.machine.update(r["values"])
                elif r["figure"] == "name":
                    self.names[r["contestant"]] = r["values"]["text"]
                else:
                    self.rows[r["figure"]][r["contestant"]][r["round"]] = r["values"]

    def series(self, figure, contestant, get):
        """round -> number; rounds without one are left out"""
        out = {}
        for n, v in self.rows.get(figure, {}).get(contestant, {}).items():
            try:
                x = get(v)
            except (KeyError, ZeroDivisionError, TypeError):
                continue
            if x is not None:
                out[n] = x
        return out

    def contestants(self, figure):
        have = self.rows.get(figure, {})
        return [c for c in self.names if c in have]


def median(values):
    v = sorted(values)
    n = len(v)
    return None if n == 0 else v[n // 2] if n % 2 else (v[n // 2 - 1] + v[n // 2]) / 2


def number(x):
    if x is None:
        return "–"
    return "%.0f" % x if abs(x) >= 100 else "%.1f" % x if abs(x) >= 10 else "%.2f" % x if abs(x) >= 0.1 else "%.3f" % x


def spread(s):
    """median [least–most, rounds]"""
    v = list(s.values())
    if not v:
        return "–"
    if len(v) == 1:
        return number(v[0])
    return "%s [%s–%s, n=%d]" % (number(median(v)), number(min(v)), number(max(v)), len(v))


def ratio(data, figure, a, others, get, best):
    """Median over the rounds of a's figure divided by that of the best of others in this round."""
    mine = data.series(figure, a, get)
    theirs = [data.series(figure, o, get) for o in others if o != a]
    r = []
    for n, x in mine.items():
        v = [t[n] for t in theirs if n in t]
        if v and best(v):
            r.append(x / best(v))
    return median(r)


# ---- what can be read from the values ----

def gbit(v):
    return v["octets"] * 8 / v["seconds"] / 1e9 if v["octets"] else None


def cpu_gb(who):
    return lambda v: v["cpu"][who] / (v["octets"] / 1e9)


def rate(v):
    return v["done"] / v["seconds"] if v["done"] else None


def cpu_us(who):
    return lambda v: v["cpu"][who] / v["done"] * 1e6


def user_us(who):
    return lambda v: v["cpu_user"][who] / v["done"] * 1e6


def packet_us(who):
    """Of one datagram: an echo is two, one each way."""
    return lambda v: v["cpu"][who] / v["done"] / 2 * 1e6


def key(name):
    return lambda v: v[name] if v[name] >= 0 else None


# ---- tables ----

def table(head, rows):
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    out += ["| " + " | ".join(r) + " |" for r in rows]
    return out + [""]


def figure_table(data, figure, columns, ratio_get, best, peers=PEERS):
    rows = []
    for c in data.contestants(figure):
        cells = [data.names[c]]
        cells += [spread(data.series(figure, c, get)) for _, get in columns]
        cells.append(number(ratio(data, figure, c, peers, ratio_get, best)))
        errors = sum(v.get("errors", 0) for v in data.rows[figure][c].values())
        cells.append(str(errors) if errors else "")
        rows.append(cells)
    return table([""] + [n for n, _ in columns] + ["of the best other peer", "errors"], rows) if rows else []


BULK = [("Gbit/s", gbit), ("redirector CPU s/GB", cpu_gb("redir")), ("proxy CPU s/GB", cpu_gb("proxy"))]
SHORT = [("a second", rate), ("p50 ms", key("p50_ms")), ("p99 ms", key("p99_ms")),
         ("redirector CPU us each", cpu_us("redir")), ("of that in user space", user_us("redir")),
         ("proxy CPU us each", cpu_us("proxy")), ("of that in user space", user_us("proxy"))]


UDP = [("echoes a second", rate), ("p50 ms", key("p50_ms")), ("p99 ms", key("p99_ms")),
       ("redirector CPU us a datagram", packet_us("redir")), ("proxy CPU us a datagram", packet_us("proxy")),
       ("lost of 1,000", lambda v: 1000 * v["lost"] / (v["done"] + v["lost"]))]


def udp_section(data):
    out = []
    for size in 100, 1200:
        t = figure_table(data, "udp_%d" % size, UDP, rate, max, PEERS_UDP)
        if t:
            out += ["### %s octets" % format(size, ","), ""] + t
    return ["## Datagrams echoed by the server", "",
            "64 sockets of the device, four datagrams of each on their way; on all links a datagram is a packet (no offload of UDP segmentation). An echo is two datagrams for redirector and "
            "proxy, one each way; what has no echo within a third of a second is lost. microsocks relays no UDP.", ""] + out if out else []


def bulk_section(data, prefix, title, text):
    out = []
    for d in "down", "up":
        for n in 1, 8:
            t = figure_table(data, "%s_%s_%d" % (prefix, d, n), BULK, gbit, max)
            if t:
                out += ["### %s, %d flow%s" % ("Download" if d == "down" else "Upload", n, "s" if n > 1 else ""), ""] + t
    return ["## " + title, "", text, ""] + out if out else []


def ttfb_section(data):
    figures = [("ttfb_first", "first, 100 B"), ("ttfb_later", "later, 100 B"), ("ttfb_6k", "later, 6 KB"),
               ("ttfb_server_first", "server speaks, first"), ("ttfb_server_later", "server speaks, later")]
    rows = []
    for c in data.contestants("ttfb_later"):
        rows.append([data.names[c]] + [spread(data.series(f, c, lambda v: v["ms"] / v["rtt_ms"] if v["ms"] > 0 else None))
                                       for f, _ in figures])
    if not rows:
        return []
    return ["## Time to the first byte, in round trips device–server", "",
            "50 ms between router and proxy, 20 ms between proxy and server. A later figure is the median of five connections.",
            ""] + table([""] + [t for _, t in figures], rows)


def many(data):
    """Most idle flows that were measured."""
    return max([int(f.split("_")[1]) for f in data.rows if f.startswith("memory_")] or [0])


def per_flow(data, c, n, name):
    """The slope: the first flows also touch code that was not needed before."""
    few = data.series("memory_1000", c, key(name))
    full = data.series("memory_%d" % n, c, key(name))
    return {r: (full[r] - few[r]) / (n - 1000) for r in full if r in few and n > 1000}


def memory_section(data):
    n = many(data)
    if n == 0:
        return []
    rows = []
    for c in data.contestants("memory_0"):
        rows.append([data.names[c]] + [spread(data.series(f, c, lambda v: v["redir_rss_kib"] / 1024))
                                       for f in ("memory_0", "memory_1000", "memory_%d" % n, "slow_100")] +
                    [spread(per_flow(data, c, n, k)) for k in ("redir_rss_kib", "redir_fds", "proxy_rss_kib", "slab_kib", "router_tcp")])
    return ["## Memory", "",
            "RSS of the redirector in MiB with so many idle flows, each after one request and its answer, and with 100 "
            "downloads read at 10 KB/s each; per flow, from 1,000 to %d flows: KiB of RSS and descriptors. Kernel memory (slab) is "
            "that of the whole machine, so of all sockets of the lab together, device, redirector, proxy and server: compare it with kernel forwarding. "
            "Sockets are TCP sockets in use on the router; an MPTCP connection has one for each path." % n, ""] + table(
                ["", "0", "1000", str(n), "100 slow", "KiB/flow", "descriptors/flow", "proxy KiB/flow", "slab KiB/flow", "sockets/flow"], rows)


def per_assoc(data, c, name):
    """KiB or descriptors of one of those that are held"""
    full = data.rows.get("assoc_many", {}).get(c, {})
    zero = data.series("assoc_0", c, key(name))
    return {r: (v[name] - zero[r]) / v["flows"] for r, v in full.items() if r in zero and v["flows"]}


ASSOC = ("redir_rss_kib", "redir_fds", "proxy_rss_kib", "proxy_fds")


def assoc_section(data):
    """Memory and descriptors of idle associations."""
    rows = []
    for c in data.contestants("assoc_many"):
        if c != "kernel":
            rows.append([data.names[c]] + [spread(per_assoc(data, c, k)) for k in ASSOC])
    all_ = list(data.rows.get("assoc_all", {}).get("sixpath", {}).values())
    zero = list(data.rows.get("assoc_all_0", {}).get("sixpath", {}).values())
    if not rows and not all_:
        return []
    n = max([v["flows"] for f in data.rows.get("assoc_many", {}).values() for v in f.values()] or [0])
    out = ["## Idle UDP associations", ""]
    if rows:
        out += ["RSS in KiB and descriptors of each, %s sockets of the device at a time; each had an echo. ss-redir and "
                "ss-server keep the last 256 and forget the others." % format(n, ","), ""]
        out += table(["", "redirector KiB", "redirector descriptors", "proxy KiB", "proxy descriptors"], rows)
    if all_ and zero:
        v, z = all_[-1], zero[-1]
        out += ["%s at a time by %d redirectors and as many proxies, for each process has a limit of descriptors: %s had an "
                "echo, and %s another one while all were there. Each takes %s KiB and %s descriptors in the redirector, %s KiB "
                "and %s in the proxy." % tuple([format(v["flows"], ","), v["pairs"], format(v["held"], ","), format(v["again"], ",")] +
                                               [number((v[k] - z[k]) / v["flows"]) for k in ASSOC]), ""]
    return out


def once_section(data):
    n = many_flat(data)
    rows = []
    for f, text in (("instructions_connection", "instructions for a short connection"),
                    ("instructions_mib", "instructions for a MiB down"),
                    ("flat_10", "short connection, beside 10 open flows"), ("flat_%d" % n, "short connection, beside %d" % n),
                    ("flat_mib_10", "MiB in 64 answers, beside 10 open flows"), ("flat_mib_%d" % n, "MiB in 64 answers, beside %d" % n)):
        for c in data.contestants(f):
            rows.append([text, data.names[c], spread(data.series(f, c, key("value")))])
    for f in sorted(data.rows):
        if f.startswith(("size_", "learned_")):
            unit = "octets, stripped" if f.startswith("size_") else "a second"
            text = f
            for name, options in SMALL_SETS:
                text = re.sub("^size_%s_(.*)" % name, r"\1, --enable-small" + options, text)
            text = text.replace("size_", "").replace("learned_", "learned table: ").replace("_", " ")
            rows.append([text, unit, spread(data.series(f, "sixpath", key("value")))])
    return ["## Instructions, sizes, look-ups", "",
            "Instructions are those of the redirector in user space, by callgrind: the slope between few and many. Beside open flows: "
            "counted after these were opened, without timers, by which each idle flow is looked at every 15 s; the MiB comes as 64 answers.",
            ""] + table(["", "", ""], rows) if rows else []


def many_flat(data):
    return max([int(f.split("_")[1]) for f in data.rows if f.startswith("flat_") and "mib" not in f] or [0])


# ---- targets ----

class Targets:
    def __init__(self):
        self.rows = []

    def add(self, text, value, op, limit, bare=()):
        """bare: the same of each bare relay."""
        bare = [v for v in bare if v is not None]
        limits = number((max if op == ">=" else min)(bare)) if bare else ""
        if value is None:
            self.rows.append([text, "not measured", "%s %s" % (op, number(limit)), "–", limits])
            return
        good = {"<=": value <= limit, ">=": value >= limit, "<": value < limit}[op]
        self.rows.append([text, number(value), "%s %s" % (op, number(limit)), "met" if good else "**missed**", limits])

    def ratio(self, text, data, figure, ours, beside, get, pick, op, limit):
        bare = [ratio(data, figure, b, beside, get, pick) for b in BARE[ours] if b not in beside]
        self.add(text, ratio(data, figure, ours, beside, get, pick), op, limit, bare)


def bulk_targets(data, t):
    redir = cpu_gb("redir")
    for d in "down", "up":
        for n in 1, 8:
            f, text = "bulk_%s_%d" % (d, n), "bulk %s, %d flow%s: " % (d, n, "s" if n > 1 else "")
            t.ratio(text + "TCP upstream, redirector CPU/GB of the best peer's", data, f, "sixpath-tcp", PEERS, redir, min, "<=", 0.6)
            t.ratio(text + "TCP upstream, throughput of kernel forwarding's", data, f, "sixpath-tcp", ["kernel"], gbit, max, ">=", 0.9)
            t.ratio(text + "MPTCP upstream, redirector CPU/GB of the bare MPTCP relay's", data, f, "sixpath-mptcp", ["bare-mptcp"], redir, min, "<=", 1.1)
            if n == 8:
                t.ratio(text + "MPTCP upstream, throughput of the bare MPTCP relay's", data, f, "sixpath-mptcp", ["bare-mptcp"], gbit, max, ">=", 0.9)
            f = "bulk_mtu_%s_%d" % (d, n)
            t.ratio(text + "offload off, TCP, throughput of the best peer's", data, f, "sixpath-tcp", PEERS, gbit, max, ">=", 1.2)
            t.ratio(text + "offload off, TCP, redirector CPU/GB of the best peer's", data, f, "sixpath-tcp", PEERS, redir, min, "<=", 1)


def short_targets(data, t):
    p99, us = key("p99_ms"), cpu_us("redir")
    for c, over, least, most in ("sixpath-tcp", "TCP", 1.45, 45), ("sixpath-mptcp", "MPTCP", 1.25, 52):
        t.ratio("short connections over %s, rate of the best SOCKS5 redirector's" % over, data, "short", c, SOCKS5, rate, max, ">=", least)
        t.ratio("short connections over %s, p99 of the best SOCKS5 redirector's" % over, data, "short", c, SOCKS5, p99, min, "<", 1)
        t.add("short connections over %s, redirector CPU us each" % over, median(data.series("short", c, us).values()), "<=", most,
              [median(data.series("short", b, us).values()) for b in BARE[c]])
    t.ratio("short connections over TCP, rate of ss-redir's with Fast Open", data, "short", "sixpath-tcp", SS, rate, max, ">=", 1)
    for n in 1, 64:
        t.ratio("small requests on %d kept connection%s over TCP, rate of the best peer's" % (n, "s" if n > 1 else ""),
                data, "kept_%d" % n, "sixpath-tcp", PEERS, rate, max, ">=", 1)


def udp_targets(data, t):
    for size in 100, 1200:
        f, text = "udp_%d" % size, "datagrams of %s octets, UDP to the proxy: " % format(size, ",")
        t.add(text + "rate of the best SOCKS5 redirector's", ratio(data, f, "sixpath-udp", SOCKS5_UDP, rate, max), ">=", 1.3)
        t.add(text + "redirector CPU a datagram of the best SOCKS5 redirector's",
              ratio(data, f, "sixpath-udp", SOCKS5_UDP, packet_us("redir"), min), "<", 1)


def assoc_targets(data, t):
    v = list(data.rows.get("assoc_all", {}).get("sixpath", {}).values())
    t.add("UDP associations that were held, and worked while all were there", v[-1]["again"] if v else None, ">=", 20000)


def memory_targets(data, t):
    n = many(data)
    for c in OURS:
        name = data.names.get(c, c)
        t.add(name + ": KiB of RSS per idle flow", median(per_flow(data, c, n, "redir_rss_kib").values()), "<=", 0.5)
        t.add(name + ": descriptors per idle flow", median(per_flow(data, c, n, "redir_fds").values()), "<=", 2.05)
    t.add("idle redirector without nft back end, MiB of RSS", median(data.series("idle_none", "sixpath", lambda v: v["redir_rss_kib"] / 1024).values()), "<=", 3)
    t.add("idle redirector with nft back end, MiB of RSS", median(data.series("idle_nft", "sixpath", lambda v: v["redir_rss_kib"] / 1024).values()), "<=", 6)
    for name, options in SMALL_SETS:
        t.add("stripped redirector (configure --enable-small%s), KiB" % options, median(data.series("size_%s_sixpath-redir" % name, "sixpath", lambda v: v["value"] / 1024).values()), "<=", 250)
    n = many_flat(data)
    for c in OURS:
        for kind, text in ("flat_", "connection"), ("flat_mib_", "MiB"):
            few = median(data.series(kind + "10", c, key("value")).values())
            lots = median(data.series("%s%d" % (kind, n), c, key("value")).values())
            t.add("%s: instructions per %s beside %d open flows of those beside 10" % (data.names.get(c, c), text, n),
                  lots / few if few and lots else None, "<=", 1.1)


# ---- plots ----

def bars(path, title, unit, rows):
    """rows: (name, median, least, most, ours)"""
    if not rows:
        return
    left, width, step = 330, 420, 24
    most = max(r[3] for r in rows) or 1
    height = 60 + step * len(rows)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">' % (left + width + 80, height),
           '<rect width="100%" height="100%" fill="white"/>',
           '<text x="10" y="22" font-size="15">%s</text>' % title,
           '<text x="10" y="40" fill="#555">%s; bar: median, line: least and most</text>' % unit]
    for i, (name, mid, lo, hi, ours) in enumerate(rows):
        y = 52 + i * step

        def x(v):
            return left + width * v / most
        out.append('<text x="%d" y="%d" text-anchor="end">%s</text>' % (left - 8, y + 14, name.replace("&", "&amp;")))
        out.append('<rect x="%d" y="%d" width="%.1f" height="16" fill="%s"/>' % (left, y + 2, x(mid) - left, "#d9601a" if ours else "#8fa8c0"))
        out.append('<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#222"/>' % (x(lo), x(hi), y + 10, y + 10))
        out.append('<text x="%.1f" y="%d">%s</text>' % (x(hi) + 6, y + 14, number(mid)))
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(out + ["</svg>", ""]))


PLOTS = [("bulk_down_8", "Bulk download, 8 flows", "Gbit/s", gbit), ("bulk_down_8_cpu", "Bulk download, 8 flows: redirector", "CPU seconds per GB", cpu_gb("redir")),
         ("bulk_mtu_down_8", "Bulk download, 8 flows, offload off", "Gbit/s", gbit), ("short", "Short connections, 64 in parallel", "connections a second", rate),
         ("short_p99", "Short connections, 64 in parallel", "99th percentile, ms", key("p99_ms")), ("kept_64", "Small requests on 64 kept connections", "requests a second", rate),
         ("udp_100", "Datagrams of 100 octets, 64 sockets", "echoes a second", rate),
         ("ttfb_later", "Time to the first byte, later connections", "round trips device–server", lambda v: v["ms"] / v["rtt_ms"])]


def plots(data, where):
    made = []
    for name, title, unit, get in PLOTS:
        figure = name.replace("_cpu", "").replace("_p99", "")
        rows = []
        for c in data.contestants(figure):
            v = list(data.series(figure, c, get).values())
            if v:
                rows.append((data.names[c], median(v), min(v), max(v), c.startswith("sixpath")))
        if rows:
            bars(os.path.join(where, name + ".svg"), title, unit, rows)
            made.append((name, title))
    return made


NOTES = """Each round starts every contestant in turn, measures it and stops it, so that a change of the machine's mood meets all alike.
A cell is the median of the rounds with the least, the most and the number of rounds; ratios are taken within each round, then their median.
CPU is what the kernel charges to the processes, ended threads included; the share of user space is what it has sampled, and rough. Work in
software interrupts (on veth most of the way of a packet) is charged to whoever runs at the moment: a relay that writes also pays for
the packet's way to the next process, and rates on a machine with few processors, where load generator, redirector, proxy and server
share them, are not those of four machines.
The ratios between contestants count, not the absolute rates. Bare relays and HAProxy do not find out where a connection goes:
they have one fixed destination. The bare relays do nothing but copy. Two of them, for short connections and small requests only, use
Fast Open between each other as sixpath does, and make no system call that can be left out: they are the limit of short connections
here. What the best of them reaches in the same run stands in the last column of the targets; LIMITS.md says what forbids the rest.
How many instructions are our own, not the kernel's, is counted below."""


def main():
    where = sys.argv[1]
    data = Data(os.path.join(where, "raw.jsonl"))
    m = data.machine
    t = Targets()
    bulk_targets(data, t)
    short_targets(data, t)
    udp_targets(data, t)
    assoc_targets(data, t)
    memory_targets(data, t)
    out = ["# sixpath beside its peers", "", "Written by `bench/run`; do not edit.", ""]
    out += table(["", ""], [[k, str(m[k])] for k in m])
    out += [NOTES, "", "## Targets", ""] + table(["", "measured", "wanted", "", "bare relay"], t.rows)
    out += bulk_section(data, "bulk", "Bulk throughput", "The last column: throughput, of the best other peer's.")
    out += bulk_section(data, "bulk_mtu", "Bulk throughput with segmentation offload off", "tso, gso and gro off on all links: one packet is one packet, as on a small router.")
    for f, text in (("short", "Short connections, 64 in parallel, 100 octets there and 1,000 back"),
                    ("kept_1", "Small requests on one kept connection"), ("kept_64", "Small requests on 64 kept connections")):
        section = figure_table(data, f, SHORT, rate, max)
        out += ["## " + text, ""] + section if section else []
    out += udp_section(data)
    out += ttfb_section(data) + memory_section(data) + assoc_section(data) + once_section(data)
    made = plots(data, where)
    if made:
        out += ["## Plots", ""] + ["![%s](%s.svg)" % (title, name) for name, title in made]
    text = "\n".join(out).rstrip() + "\n"
    with open(os.path.join(where, "RESULTS.md"), "w", encoding="utf-8") as f:
        f.write(text)
    print(text)


main()
