#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""How connect() ends, as a device sees it.

connector.py [--timeout S] [--many N --rate R] ADDRESS PORT
prints what one attempt came to ("connected", "ECONNREFUSED", ..., "nothing") and its milliseconds;
with --many a count for each outcome as JSON, over N connections begun R a second.
"""
import argparse
import collections
import errno
import json
import selectors
import socket
import time


def begin(address, port):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    s.setblocking(False)
    rc = s.connect_ex((address, port))
    return s, rc


def outcome(rc):
    return "connected" if rc == 0 else errno.errorcode.get(rc, str(rc))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--timeout", type=float, default=5)
    p.add_argument("--many", type=int, default=1)
    p.add_argument("--rate", type=float, default=500)
    p.add_argument("address")
    p.add_argument("port", type=int)
    o = p.parse_args()
    selector = selectors.DefaultSelector()
    counts = collections.Counter()
    keep = []
    start = time.monotonic()
    begun, took, words = 0, 0.0, "nothing"
    while begun < o.many or selector.get_map():
        now = time.monotonic() - start
        if now > o.many / o.rate + o.timeout:
            break
        while begun < o.many and now >= begun / o.rate:
            s, rc = begin(o.address, o.port)
            begun += 1
            keep.append(s)
            if rc == errno.EINPROGRESS:
                selector.register(s, selectors.EVENT_WRITE)
            else:
                words = outcome(rc)
                counts[words] += 1
        for key, _ in selector.select(0.001 if begun < o.many else 0.05):
            took = time.monotonic() - start
            selector.unregister(key.fileobj)
            words = outcome(key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            counts[words] += 1
    if o.many > 1:
        counts["nothing"] = len(selector.get_map())
        print(json.dumps(counts))
    else:
        print(words, round(took * 1000, 1))


main()
