#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A device that opens connections all the time, and what it saw of an outage.

failwatch.py run TARGET[,TARGET...] PORT SECONDS
    a connection every 50 ms, to each target in turn; a JSON line for each. TARGET is an address,
    or mptcp:ADDRESS. Ends early on SIGTERM.
failwatch.py sum FILE FAULT               one JSON object; FAULT is the time of day of the fault
failwatch.py hold ADDRESS PORT N SECONDS PATH
    N connections that ask for PATH and do not read what comes
"""
import json
import os
import signal
import socket
import sys
import threading
import time

EVERY, PATIENCE = 0.05, 12
WARM = 15  # connections that have ended, before the fault
BODY = b"hello from peer\n"


def connect(target, port):
    kind, address = target.split(":", 1) if target.startswith("mptcp:") else ("tcp", target)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM, 262 if kind == "mptcp" else 0)
    s.settimeout(PATIENCE)
    try:
        s.connect((address, port))
    except OSError:
        s.close()
        raise
    return s


def kind_of(target):
    return ("mptcp " if target.startswith("mptcp:") else "tcp ") + (
        "IPv6" if ":" in target.removeprefix("mptcp:") else "IPv4")


def one(target, port, tag, lines):
    """The page of `peer serve http`; its path is ours alone, so the server tells if it came twice."""
    start = time.time()
    mono = time.monotonic()
    ms = None
    why = ""
    data = b""
    try:
        with connect(target, port) as s:
            s.sendall(b"GET /%s HTTP/1.0\r\nHost: x\r\n\r\n" % tag.encode())
            while more := s.recv(4096):
                ms = ms or (time.monotonic() - mono) * 1e3
                data += more
        if not data:
            why = "closed"
        elif data.partition(b"\r\n\r\n")[2] != BODY:
            why = "wrong bytes"  # though it ended in order
    except OSError as e:
        why = str(e) or "error"
    ms = ms or (time.monotonic() - mono) * 1e3
    lines.append({"start": start, "ms": ms, "why": why, "kind": kind_of(target), "tag": "/" + tag})


def run(targets, port, seconds):
    lines, threads = [], []
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print("ready", flush=True)
    end = time.monotonic() + seconds
    warm = False
    while time.monotonic() < end and not stop.is_set():
        if not warm and len(lines) >= WARM:
            warm = True
            print("warm", flush=True)
        tag = f"{os.getpid()}-{len(threads)}"
        t = threading.Thread(target=one, daemon=True,
                             args=(targets[len(threads) % len(targets)], port, tag, lines))
        t.start()
        threads.append(t)
        stop.wait(EVERY)
    for t in threads:
        t.join(PATIENCE + 1)
    for line in lines:
        print(json.dumps(line))


def summary(lines, fault, late_from=None):
    """late_from: from when on all must be well again; three seconds after the fault."""
    late_from = late_from or fault + 3
    after = [x for x in lines if x["start"] >= fault]
    late = [x for x in after if x["start"] >= late_from]
    good = sorted(x["start"] + x["ms"] / 1e3 for x in lines if not x["why"])
    good = [t for t in good if t >= fault - 1]
    gaps = [b - a for a, b in zip(good, good[1:])]
    return {
        "before": len(lines) - len(after), "after": len(after),
        "failed": sum(bool(x["why"]) for x in after),
        "failed_before": sum(bool(x["why"]) for x in lines if x["start"] < fault),
        "slowest_ms": round(max((x["ms"] for x in after), default=-1)),
        "late": len(late), "late_failed": sum(bool(x["why"]) for x in late),
        "late_slowest_ms": round(max((x["ms"] for x in late), default=-1)),
        # the longest time without a first byte, though one was asked for all the time
        "outage_ms": round(max(gaps, default=-1e-3) * 1e3),
        "why": sorted({x["why"] for x in after if x["why"]}),
    }


def load(path):
    return [json.loads(x) for x in open(path) if x.startswith("{")]


def hold(address, port, count, seconds, path):
    held = []
    for _ in range(count):
        try:
            s = connect(address, port)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
            held.append(s)
        except OSError as e:
            print(e, flush=True)
        time.sleep(0.01)
    print("held", len(held), flush=True)
    time.sleep(seconds)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        run(sys.argv[2].split(","), int(sys.argv[3]), float(sys.argv[4]))
    elif sys.argv[1] == "hold":
        hold(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), sys.argv[6])
    else:
        print(json.dumps(summary(load(sys.argv[2]), float(sys.argv[3]))))
