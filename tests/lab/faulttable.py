#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The fault matrix: judges one cell, and prints the table.

faulttable.py cell DIR            one JSON object; DIR/cell.json says what was done, and when
faulttable.py table text|json|markdown FILE...    from lines of such objects
"""
import collections
import json
import os
import sys

import failwatch

BACK_MS, LATE_MS, ROUGH_LATE_MS = 15000, 2900, 9000
ROUGH_FAILED = 0.05   # of connections over a link that loses a third of all packets
SPIN_TICKS = 10       # of 200 in two idle seconds
TAIL = 9              # octets of the server's verdict behind a stream
CUT = {"proxy-silent", "proxy-frozen", "proxy-link-cut", "all-silent", "wan1-silent", "wan1-carrier", "both-wans"}
CUT_S = 0.3           # a round trip over a full link
FDS_MORE, RSS_MORE_KB = 8, 12 * 1024


def bulk(flows, served, broken_ok, cut):
    """What is wrong with the streams. What both ends call complete must be so; what the device got
    must be right as far as it came; what ended early must not look as if it were the end."""
    wrong = []
    ends = collections.Counter()
    by_tag = collections.defaultdict(list)
    for s in served:
        if s["service"] == "duplex" and s["tag"]:
            by_tag[s["tag"]].append(s)
    for f in flows:
        seen = by_tag[str(f["seed"])]
        if len(seen) > 1:
            ends["repeated"] += 1
        if len(seen) > 1 and not (cut and ends["repeated"] == 1): # as in twice()
            wrong.append(f"stream {f['seed']} reached the server {len(seen)} times")
        if not f["error"]:
            ends["complete"] += 1
            if not any(s["end"] == "eof" and s["same"] and s["in"] == f["up"] and
                       s["out"] == f["down"] + TAIL for s in seen):
                wrong.append(f"stream {f['seed']}: complete for the device only")
        elif f["error"] in ("stream ended early", "no verdict from the server"):
            ends["early end"] += 1
            if not broken_ok:
                wrong.append("a stream ended early, but in order")
        elif ":" in f["error"]:
            ends["broken"] += 1
        else:
            wrong.append(f"stream {f['seed']}: {f['error']}")
    wrong += [f"octets differ at the server: {s['tag']}" for s in served if not s["same"]]
    return ends, wrong


def twice(lines, served, c):
    """Requests that reached the server more than once: how many, and those that must not. A SYN
    whose answer was lost in a cut cannot be told from one that was lost itself."""
    start = {x["tag"]: x["start"] for x in lines}
    seen = collections.Counter(s["tag"] for s in served if s["service"] == "http" and s["tag"])
    seen = {t: n for t, n in seen.items() if n > 1 and t in start}
    return len(seen), [f"request {t} reached the server {n} times" for t, n in seen.items()
                       if not (c["name"] in CUT and abs(start.get(t, 0) - c["fault"]) < CUT_S)]


def processes(before, after, sanitized, c):
    wrong = []
    for name, b in before.items():
        a = after.get(name)
        if not a:
            wrong.append(f"{name} is gone")
            continue
        if a["pid"] != b["pid"] and name not in c["replaced"]:
            wrong.append(f"{name} is another process")
        if a["fds"] > b["fds"] + FDS_MORE:
            wrong.append(f"{name}: {a['fds']} descriptors, {b['fds']} before")
        # A sanitizer keeps what was freed.
        if a["rss_kb"] > b["rss_kb"] + RSS_MORE_KB * (8 if sanitized else 1):
            wrong.append(f"{name}: {a['rss_kb']} KiB, {b['rss_kb']} before")
        if a["ticks"] > SPIN_TICKS:
            wrong.append(f"{name}: {a['ticks']} ticks in two idle seconds")
        if a["zombies"]:
            wrong.append(f"{name}: {a['zombies']} zombies")
    return wrong


def cell(d):
    c = json.load(open(os.path.join(d, "cell.json")))
    lines = failwatch.load(os.path.join(d, "watch.log"))
    flows = failwatch.load(os.path.join(d, "bulk.log"))
    served = failwatch.load(os.path.join(d, "served.log"))
    wrong = list(c["wrong"])
    back = c["back_ms"]
    rough = c["expect"] == "rough"
    if c["expect"] == "carry":
        late_from = c["fault"] + c["late_s"]
    elif c["expect"] == "down":
        late_from = c["cleared"] + (back if back >= 0 else BACK_MS) / 1e3
    else:
        late_from = c["fault"]
    out = failwatch.summary(lines, c["fault"], late_from)
    kinds = {}
    for kind in sorted({x["kind"] for x in lines}):
        s = failwatch.summary([x for x in lines if x["kind"] == kind], c["fault"], late_from)
        kinds[kind] = {k: s[k] for k in ("before", "after", "failed", "late", "late_failed",
                                         "slowest_ms", "late_slowest_ms")}
        if not s["late"] or not s["before"]:
            wrong.append(f"{kind}: not tried before and after")
    limit = out["late"] * ROUGH_FAILED if rough else 0
    if out["late_failed"] > limit:
        wrong.append(f"{out['late_failed']} of {out['late']} new connections failed "
                     f"({', '.join(out['why'])})")
    if out["late_slowest_ms"] > (ROUGH_LATE_MS if rough else LATE_MS):
        wrong.append(f"a new connection took {out['late_slowest_ms']} ms")
    early = sum(bool(x["why"]) for x in lines if x["start"] + x["ms"] / 1e3 < c["fault"])
    if early:
        wrong.append(f"{early} failed before the fault")
    if any(x["why"] == "wrong bytes" for x in lines):
        wrong.append("a page that ended in order had wrong bytes")
    if not 0 <= back <= BACK_MS:
        wrong.append(f"not back at the proxy after {BACK_MS // 1000} s" if back < 0 else
                     f"back at the proxy after {back} ms")
    ends, bad = bulk(flows, served, bool(c["killed"]), c["name"] in CUT)
    repeated, worse = twice(lines, served, c)
    wrong += bad + worse
    if not ends["complete"]:
        wrong.append("no stream was completed")
    wrong += processes(c["before"], c["after"], c["sanitized"], c)
    out.update(mode=c["mode"], fault=c["name"], expect=c["expect"], back_ms=back, kinds=kinds,
               streams=dict(ends), repeated=repeated + ends["repeated"], before_facts=c["before"], after_facts=c["after"],
               wrong=sorted(set(wrong)), ok=not wrong)
    print(json.dumps(out))


def streams(c):
    s = c["streams"]
    return "/".join(str(s.get(k, 0)) for k in ("complete", "broken", "early end"))


COLUMNS = (
    ("fault", lambda c: c["fault"]), ("mode", lambda c: c["mode"]),
    ("new", lambda c: c["after"]), ("failed", lambda c: c["failed"]),
    ("late", lambda c: f"{c['late_failed']}/{c['late']}"),
    ("outage", lambda c: c["outage_ms"]), ("slowest", lambda c: c["slowest_ms"]),
    ("slowest late", lambda c: c["late_slowest_ms"]),
    ("back", lambda c: c["back_ms"] if c["back_ms"] >= 0 else "never"),
    ("streams", streams), ("twice", lambda c: c["repeated"]),
    ("", lambda c: "ok" if c["ok"] else "NOT OK: " + "; ".join(c["wrong"])),
)


def table(how, paths):
    cells = [c for p in paths for c in failwatch.load(p)]
    order = {}
    for c in cells:
        order.setdefault(c["fault"], len(order))
    cells.sort(key=lambda c: order[c["fault"]])
    if how == "json":
        print(json.dumps({"cells": cells, "ok": all(c["ok"] for c in cells)}, indent=1))
        return
    rows = [[name for name, _ in COLUMNS]] + [[str(get(c)) for _, get in COLUMNS] for c in cells]
    wide = [max(len(r[i]) for r in rows) for i in range(len(COLUMNS))]
    wide[-1] = 0
    for n, r in enumerate(rows):
        text = [x.rjust(w) if 1 < i < len(wide) - 1 else x.ljust(w)
                for i, (x, w) in enumerate(zip(r, wide))]
        if how == "markdown":
            print("| " + " | ".join(text) + " |")
            if n == 0:
                print("|" + "|".join("-" * (w + 1) + (":" if 1 < i < len(wide) - 1 else "-")
                                     for i, w in enumerate(wide)) + "|")
        else:
            print("  ".join(text).rstrip())
    print(f"\n{sum(c['ok'] for c in cells)} of {len(cells)} cells as promised")


if __name__ == "__main__":
    if sys.argv[1] == "cell":
        cell(sys.argv[2])
    else:
        table(sys.argv[2], sys.argv[3:])
