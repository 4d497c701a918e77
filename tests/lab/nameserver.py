#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A name server that knows one answer to everything, or none. UDP and TCP.

nameserver.py ADDRESS PORT FILE     FILE says, for each query anew:
    answer ADDRESS [TTL]   for A (IPv4) or AAAA (IPv6); no records of the other type. Several
                           addresses, separated by commas, of either family
    text OCTETS [TTL]      TXT records of so many octets in all
    nxdomain MINIMUM       no such name, and for how long that may be believed
    servfail
    silent
For each query a line: what was answered, the name, udp or tcp; for each TCP connection another one.
"""
import ipaddress
import socket
import struct
import sys
import threading


def record(kind, ttl, data):
    return struct.pack(">HHHIH", 0xC00C, kind, 1, ttl, len(data)) + data


def texts(octets, ttl):
    while octets > 0:
        n = min(octets, 200)
        yield record(16, ttl, bytes([n]) + b"t" * n)
        octets -= n


def addresses(kind, words):
    for text in words[1].split(","):
        address = ipaddress.ip_address(text)
        if kind == (1 if address.version == 4 else 28):
            yield record(kind, int(words[2]) if len(words) > 2 else 1, address.packed)


def opt(query, end):
    """The client's OPT record without its options, or nothing; and its size."""
    at = query.find(b"\0\0\x29", end)
    if not query[11] or at < 0:
        return b"", 512
    return query[at:at + 3] + struct.pack(">HIH", 1232, 0, 0), struct.unpack_from(">H", query, at + 3)[0]


def answer(query, words, tcp):
    end = 12
    while query[end]:
        end += query[end] + 1
    end += 5
    kind = struct.unpack(">H", query[end - 4:end - 2])[0]
    edns, size = opt(query, end)
    code, records, authority = 0, [], b""
    if words[0] == "servfail":
        code = 2
    elif words[0] == "nxdomain":
        code = 3
        authority = record(6, 3600, b"\0\0" + struct.pack(">IIIII", 1, 2, 3, 4, int(words[1])))
    elif words[0] == "text":
        records = list(texts(int(words[1]), int(words[2]) if len(words) > 2 else 60))
    else:
        records = list(addresses(kind, words))
    body = b"".join(records)
    flags = 0x8180 | code
    if not tcp and end + len(body) + len(edns) > max(size, 512):
        flags, records, body = flags | 0x0200, [], b""
    head = query[:2] + struct.pack(">HHHHH", flags, 1, len(records), bool(authority), bool(edns))
    return head + query[12:end] + body + authority + edns


def react(query, path, how):
    with open(path) as f:
        words = f.read().split()
    print(words, query[12:].split(b"\0")[0], how, flush=True)
    return answer(query, words, how == "tcp") if words[0] != "silent" and len(query) > 16 else None


def take(c, n):
    data = b""
    while len(data) < n:
        more = c.recv(n - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def talk(c, peer, path):
    print("connection from", peer[0], flush=True)
    try:
        while True:
            reply = react(take(c, struct.unpack(">H", take(c, 2))[0]), path, "tcp")
            if reply:
                c.sendall(struct.pack(">H", len(reply)) + reply)
    except (EOFError, OSError):
        c.close()


def listen(address, port, path):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, port))
    s.listen(64)
    while True:
        c, peer = s.accept()
        threading.Thread(target=talk, args=(c, peer, path), daemon=True).start()


def main():
    address, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((address, port))
    threading.Thread(target=listen, args=(address, port, path), daemon=True).start()
    print("ready", flush=True)
    while True:
        query, client = s.recvfrom(4096)
        reply = react(query, path, "udp")
        if reply:
            s.sendto(reply, client)


main()
