#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""UDP at both ends of the lab; one JSON line for what came of it.

serve PORT [--on ADDRESS]... [--stranger ADDRESS:PORT]...
                echoes, with what was seen of the sender; with --stranger each datagram "call" is also
                answered from that address and port
ask ADDRESS PORT [--count N] [--size N] [--gap S] [--timeout S] [--source PORT] [--text TEXT]
                [--hear N] [--tos N]
                sends N datagrams and waits for each answer; --hear: then for so many more datagrams of
                whoever, and tells from whom they came
stream ADDRESS PORT --for S [--gap S] [--source PORT]  sends one datagram each gap and lists the longest silence
mtu ADDRESS PORT --size N              sends one that must not be fragmented: what error comes, who says it
dns PORT ADDRESS                        answers each query with this A record
ntp PORT                                answers each query with this machine's time
"""

import argparse
import json
import os
import select
import socket
import struct
import sys
import time


def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def open_socket(fam, host, port):
    s = socket.socket(fam, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    if fam == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
    else:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    s.bind((host, port))
    return s


def tos_of(ancillary):
    for level, kind, data in ancillary:
        if level in (socket.IPPROTO_IP, socket.IPPROTO_IPV6) and data:
            return data[0] if sys.byteorder == "little" or len(data) == 1 else data[-1]
    return 0


def serve(a):
    socks = [open_socket(family(host), host, a.port) for host in a.on or ["0.0.0.0", "::"]]
    strangers = {}
    for text in a.stranger:
        host, port = text.rsplit(":", 1)
        host = host.strip("[]")
        strangers[family(host)] = open_socket(family(host), host, int(port))
    print("ready", flush=True)
    while True:
        for s in select.select(socks + list(strangers.values()), [], [])[0]:
            data, ancillary, _, peer = s.recvmsg(65536, 256)
            print(json.dumps({"from": peer[0], "port": peer[1], "len": len(data),
                              "tos": tos_of(ancillary), "text": data[:32].decode("latin1")}), flush=True)
            if s not in socks:
                continue
            try:
                s.sendto(data, peer)
                if data == b"call" and s.family in strangers:
                    strangers[s.family].sendto(b"stranger", peer)
            except OSError as e:
                print(json.dumps({"error": str(e)}), flush=True)


def ask(a):
    s = socket.socket(family(a.address), socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    if a.tos:
        if s.family == socket.AF_INET:
            s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, a.tos)
        else:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, a.tos)
    s.bind(("", a.source))
    if a.connect:
        s.connect((a.address, a.port))
    s.settimeout(a.timeout)
    out = {"sent": 0, "right": 0, "wrong": 0, "heard": [], "error": None, "ms": []}
    try:
        for i in range(a.count):
            data = a.text.encode() if a.text else struct.pack("!I", i) + os.urandom(max(a.size - 4, 0))
            begun = time.monotonic()
            if a.connect:
                s.send(data)
            else:
                s.sendto(data, (a.address, a.port))
            out["sent"] += 1
            try:
                got, peer = s.recvfrom(65536)
            except socket.timeout:
                continue
            good = got == data and peer[0] == a.address and peer[1] == a.port
            out["right" if good else "wrong"] += 1
            out["ms"].append(round((time.monotonic() - begun) * 1000, 2))
            time.sleep(a.gap)
        for _ in range(a.hear):
            got, peer = s.recvfrom(65536)
            out["heard"].append(f"{peer[0]} {peer[1]} {got.decode('latin1')}")
            s.sendto(b"answer", peer[:2])
    except OSError as e:
        out["error"] = type(e).__name__
        out["errno"] = e.errno
    print(json.dumps(out))


def stream(a):
    s = socket.socket(family(a.address), socket.SOCK_DGRAM)
    s.bind(("", a.source))
    s.settimeout(a.gap)
    end, last, worst, n, right = time.monotonic() + a.duration, time.monotonic(), 0.0, 0, 0
    while time.monotonic() < end:
        data = struct.pack("!I", n) + b"x" * 60
        due = time.monotonic() + a.gap
        try:
            s.sendto(data, (a.address, a.port))
            n += 1
            while time.monotonic() < due:
                s.settimeout(max(due - time.monotonic(), 0.001))
                s.recvfrom(65536)
                right += 1
                worst = max(worst, time.monotonic() - last)
                last = time.monotonic()
        except OSError:
            time.sleep(max(due - time.monotonic(), 0))
    worst = max(worst, time.monotonic() - last)
    print(json.dumps({"sent": n, "right": right, "worst": round(worst, 3)}))


def mtu(a):
    v6 = family(a.address) == socket.AF_INET6
    s = socket.socket(family(a.address), socket.SOCK_DGRAM)
    level = socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP
    s.setsockopt(level, 25 if v6 else 11, 1)  # RECVERR
    s.setsockopt(level, 23 if v6 else 10, 3)  # MTU_DISCOVER = PROBE
    s.setsockopt(level, socket.IPV6_UNICAST_HOPS if v6 else socket.IP_TTL, 20)
    s.sendto(b"x" * a.size, (a.address, a.port))
    poll = select.poll()
    poll.register(s, 0)
    out = {"error": None}
    if poll.poll(3000):
        _, ancillary, _, _ = s.recvmsg(65536, 1024, socket.MSG_ERRQUEUE)
        for _, _, data in ancillary:
            out["error"], _, out["type"], out["code"], _, out["mtu"], _ = struct.unpack("=IBBBBII", data[:16])
            offender = data[16:]
            out["by"] = socket.inet_ntop(family(a.address), offender[8:24] if v6 else offender[4:8])
    print(json.dumps(out))


def dns(a):
    s = open_socket(socket.AF_INET, "0.0.0.0", a.port)
    print("ready", flush=True)
    while True:
        q, peer = s.recvfrom(4096)
        end = 12
        while q[end]:
            end += q[end] + 1
        question = q[12:end + 5]
        answer = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(a.address)
        s.sendto(q[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + question + answer, peer)
        print(json.dumps({"query": peer[0]}), flush=True)


def ntp(a):
    s = open_socket(socket.AF_INET, "0.0.0.0", a.port)
    print("ready", flush=True)
    while True:
        q, peer = s.recvfrom(1024)
        if len(q) < 48 or q[0] & 7 != 3:
            continue
        now = struct.pack("!Q", int((time.time() + 2208988800) * 2**32))
        # Version as asked, mode server; stratum 2, of some reference; the client's time, then ours.
        head = struct.pack("!BBbbII", q[0] & 0x38 | 4, 2, q[2], -20, 0, 0)
        s.sendto(head + b"\x7f\x7f\1\0" + now + q[40:48] + now + now, peer)
        print(json.dumps({"from": peer[0]}), flush=True)


def main():
    p = argparse.ArgumentParser()
    sub = p.add_subparsers(dest="what", required=True)
    c = sub.add_parser("serve")
    c.add_argument("port", type=int)
    c.add_argument("--on", action="append", default=[])
    c.add_argument("--stranger", action="append", default=[])
    c = sub.add_parser("ask")
    c.add_argument("address")
    c.add_argument("port", type=int)
    c.add_argument("--count", type=int, default=1)
    c.add_argument("--size", type=int, default=64)
    c.add_argument("--gap", type=float, default=0)
    c.add_argument("--timeout", type=float, default=3)
    c.add_argument("--source", type=int, default=0)
    c.add_argument("--text")
    c.add_argument("--hear", type=int, default=0)
    c.add_argument("--tos", type=int, default=0)
    c.add_argument("--connect", action="store_true")
    c = sub.add_parser("stream")
    c.add_argument("address")
    c.add_argument("port", type=int)
    c.add_argument("--for", dest="duration", type=float, required=True)
    c.add_argument("--source", type=int, default=0)
    c.add_argument("--gap", type=float, default=0.05)
    c = sub.add_parser("mtu")
    c.add_argument("address")
    c.add_argument("port", type=int)
    c.add_argument("--size", type=int, default=1400)
    c = sub.add_parser("dns")
    c.add_argument("port", type=int)
    c.add_argument("address")
    c = sub.add_parser("ntp")
    c.add_argument("port", type=int)
    a = p.parse_args()
    {"serve": serve, "ask": ask, "stream": stream, "mtu": mtu, "dns": dns, "ntp": ntp}[a.what](a)


main()
