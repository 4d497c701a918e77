#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A device that opens connections all the time, and what it saw of an outage.

failwatch.py run ADDRESS PORT SECONDS     a connection every 50 ms; a JSON line for each
failwatch.py sum FILE FAULT               one JSON object; FAULT is the time of day of the fault
"""
import json
import socket
import sys
import threading
import time

EVERY, PATIENCE = 0.05, 12


def one(address, port, lines):
    start = time.time()
    mono = time.monotonic()
    why = ""
    try:
        with socket.create_connection((address, port), timeout=PATIENCE) as s:
            s.settimeout(PATIENCE)
            s.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
            if not s.recv(1):
                why = "closed"
    except OSError as e:
        why = str(e) or "error"
    lines.append({"start": start, "ms": (time.monotonic() - mono) * 1e3, "why": why})


def run(address, port, seconds):
    lines, threads = [], []
    print("ready", flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        t = threading.Thread(target=one, args=(address, port, lines), daemon=True)
        t.start()
        threads.append(t)
        time.sleep(EVERY)
    for t in threads:
        t.join(PATIENCE + 1)
    for line in lines:
        print(json.dumps(line))


def summary(path, fault):
    lines = [json.loads(x) for x in open(path) if x.startswith("{")]
    after = [x for x in lines if x["start"] >= fault]
    late = [x for x in after if x["start"] >= fault + 3]
    good = sorted(x["start"] + x["ms"] / 1e3 for x in lines if not x["why"])
    good = [t for t in good if t >= fault - 1]
    gaps = [b - a for a, b in zip(good, good[1:])]
    print(json.dumps({
        "before": len(lines) - len(after), "after": len(after),
        "failed": sum(bool(x["why"]) for x in after),
        "failed_before": sum(bool(x["why"]) for x in lines if x["start"] < fault),
        "slowest_ms": round(max((x["ms"] for x in after), default=-1)),
        "late": len(late), "late_failed": sum(bool(x["why"]) for x in late),
        "late_slowest_ms": round(max((x["ms"] for x in late), default=-1)),
        # the longest time without a first byte, though one was asked for all the time
        "outage_ms": round(max(gaps, default=-1e-3) * 1e3),
        "why": sorted({x["why"] for x in after if x["why"]}),
    }))


if sys.argv[1] == "run":
    run(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
else:
    summary(sys.argv[2], float(sys.argv[3]))
