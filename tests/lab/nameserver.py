#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A name server that knows one answer to everything, or none.

nameserver.py ADDRESS PORT FILE     FILE says, for each query anew:
    answer ADDRESS    for A (IPv4) or AAAA (IPv6); no records of the other type
    servfail
    silent
"""
import ipaddress
import socket
import struct
import sys


def answer(query, words):
    end = 12
    while query[end]:
        end += query[end] + 1
    end += 5
    kind = struct.unpack(">H", query[end - 4:end - 2])[0]
    if words[0] == "servfail":
        return query[:2] + struct.pack(">HHHHH", 0x8182, 1, 0, 0, 0) + query[12:end]
    address = ipaddress.ip_address(words[1])
    record = b""
    if kind == (1 if address.version == 4 else 28):
        data = address.packed
        record = struct.pack(">HHHIH", 0xC00C, kind, 1, 1, len(data)) + data
    return query[:2] + struct.pack(">HHHHH", 0x8180, 1, bool(record), 0, 0) + query[12:end] + record


def main():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((sys.argv[1], int(sys.argv[2])))
    print("ready", flush=True)
    while True:
        query, client = s.recvfrom(2048)
        words = open(sys.argv[3]).read().split()
        print(words, query[12:].split(b"\0")[0], flush=True)
        if words[0] != "silent" and len(query) > 16:
            s.sendto(answer(query, words), client)


main()
