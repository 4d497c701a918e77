#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""UDP ASSOCIATE and BIND by SOCKS 5 (and BIND by SOCKS 4), written from RFC 1928 alone. One line for
what came of each step.

udp DOOR STEP...        an association; a STEP is one argument:
    ask HOST PORT TEXT      send, and wait for a datagram: "ADDRESS PORT TEXT", or "nothing"
    tell HOST PORT TEXT     send
    hear                    wait for a datagram
    frag HOST PORT TEXT     as ask, as a fragment
    raw HEX                 as ask, whatever this is
    big HOST PORT N         as ask, so many octets: "same", "different" or "nothing"
    many HOST PORT N        so many in a row: how many came back
    stranger ADDRESS HOST PORT TEXT   as ask, from another socket at this address, which also listens
    hold S                  say nothing for so long
    close                   the TCP connection
bind DOOR HOST PORT [TEXT]  tells the port, then who came; sends TEXT and prints what comes

--early     with bind: TEXT leaves with the request
--port N    the port of our datagrams, announced in the request; --user NAME:PASSWORD; --socks4 for BIND
--wait S    for a datagram (3)
"""

import argparse
import ipaddress
import os
import socket
import struct
import sys
import time


def take(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def address(host, port):
    try:
        ip = ipaddress.ip_address(host)
        return (b"\1" if ip.version == 4 else b"\4") + ip.packed + struct.pack("!H", port)
    except ValueError:
        return b"\3" + bytes([len(host)]) + host.encode() + struct.pack("!H", port)


def read_address(read):
    kind = read(1)[0]
    host = str(ipaddress.ip_address(read({1: 4, 4: 16}[kind])))
    return host, struct.unpack("!H", read(2))[0]


def door(a):
    host, port = a.door.rsplit(":", 1)
    return host.strip("[]"), int(port)


def connect(a):
    s = socket.create_connection(door(a), 5)
    s.settimeout(a.seconds)
    if a.socks4:
        return s
    s.sendall(b"\5\1\2" if a.user else b"\5\1\0")
    if take(s, 2)[1] == 2:
        name, password = (x.encode() for x in a.user.split(":"))
        s.sendall(b"\1" + bytes([len(name)]) + name + bytes([len(password)]) + password)
        take(s, 2)
    return s


def reply(s, a):
    """(code, (host, port))"""
    if a.socks4:
        _, code, port, ip = struct.unpack("!BBH4s", take(s, 8))
        return code - 0x5A, (str(ipaddress.ip_address(ip)), port)
    code = take(s, 3)[1]
    return code, read_address(lambda n: take(s, n))


class Reader:
    def __init__(self, data):
        self.data = data

    def __call__(self, n):
        out, self.data = self.data[:n], self.data[n:]
        if len(out) < n:
            raise EOFError
        return out


class Association:
    def __init__(self, a):
        self.a = a
        self.tcp = connect(a)
        family = self.tcp.family
        self.udp = socket.socket(family, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.udp.bind((self.tcp.getsockname()[0], a.port))
        self.udp.settimeout(a.wait)
        any_ip = "0.0.0.0" if family == socket.AF_INET else "::"
        self.tcp.sendall(b"\5\3\0" + address(any_ip, a.port))
        code, self.to = reply(self.tcp, a)
        print(f"refused {code}" if code else f"at {self.to[0]}", flush=True)
        if code:
            sys.exit()

    def send(self, host, port, data, frag=0, sock=None):
        (sock or self.udp).sendto(bytes([0, 0, frag]) + address(host, int(port)) + data, self.to)

    def get(self, sock=None):
        try:
            data, peer = (sock or self.udp).recvfrom(65536)
        except TimeoutError:
            return None
        if peer[:2] != self.to or data[:3] != b"\0\0\0":
            return ("odd", 0, data)
        read = Reader(data[3:])
        return (*read_address(read), read.data)

    def say(self, got):
        return f"{got[0]} {got[1]} {got[2].decode('latin1')}" if got else "nothing"

    def ask(self, host, port, text):
        self.send(host, port, text.encode())
        return self.say(self.get())

    def tell(self, host, port, text):
        self.send(host, port, text.encode())

    def hear(self):
        return self.say(self.get())

    def frag(self, host, port, text):
        self.send(host, port, text.encode(), 1)
        return self.say(self.get())

    def raw(self, text):
        self.udp.sendto(bytes.fromhex(text), self.to)
        return self.say(self.get())

    def big(self, host, port, n):
        data = os.urandom(int(n))
        self.send(host, port, data)
        got = self.get()
        return "nothing" if not got else "same" if got[2] == data else "different"

    def many(self, host, port, n):
        for i in range(int(n)):
            self.send(host, port, struct.pack("!I", i))
            if i % 16 == 15:
                time.sleep(0.005)
        seen = set()
        while len(seen) < int(n):
            got = self.get()
            if not got:
                break
            seen.add(got[2])
        return len(seen)

    def stranger(self, at, host, port, text):
        s = socket.socket(self.udp.family, socket.SOCK_DGRAM)
        s.bind((at, 0))
        s.settimeout(self.a.wait)
        self.send(host, port, text.encode(), sock=s)
        return self.say(self.get(s))

    def hold(self, seconds):
        time.sleep(float(seconds))

    def close(self):
        self.tcp.close()
        time.sleep(0.5)


def udp(a):
    one = Association(a)
    for step in a.step:
        name, *args = step.split()
        out = getattr(one, name)(*args)
        if out is not None:
            print(out, flush=True)


def bind(a):
    host, port, *text = a.step
    s = connect(a)
    if a.socks4:
        s.sendall(struct.pack("!BBH", 4, 2, int(port)) + ipaddress.ip_address(host).packed + b"\0")
    else:
        s.sendall(b"\5\2\0" + address(host, int(port)))
    if a.early:
        s.sendall(text.pop().encode())
    for what in ("bound", "peer"):
        code, at = reply(s, a)
        print(f"refused {code}" if code else f"{what} {at[0]} {at[1]}", flush=True)
        if code:
            return
    if text:
        s.sendall(text[0].encode())
        s.shutdown(socket.SHUT_WR)
    data = b""
    while more := s.recv(65536):
        data += more
    print(data.decode("latin1").strip(), flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("what", choices=("udp", "bind"))
    p.add_argument("door")
    p.add_argument("step", nargs="*")
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--user")
    p.add_argument("--socks4", action="store_true")
    p.add_argument("--early", action="store_true")
    p.add_argument("--wait", type=float, default=3)
    p.add_argument("--seconds", type=float, default=20)
    a = p.parse_intermixed_args()
    try:
        {"udp": udp, "bind": bind}[a.what](a)
    except (EOFError, ConnectionError) as e:
        print(type(e).__name__, flush=True)
    except TimeoutError:
        print("silence", flush=True)


main()
