#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""UDP ASSOCIATE of sixpath-proxy against the specification (section 8), with the real daemon.

    udp_protocol.py PATH-OF-SIXPATH-PROXY [NAME ...]

As proxy_protocol.py, whose rig it uses. Imported by udpclient.py for its associations.
"""
import contextlib
import errno
import os
import random
import resource
import select
import shutil
import socket
import struct
import sys
import threading
import time

import proxy_protocol as P
from proxy_protocol import (DEADLINE, PORT, PUBLIC4, PUBLIC6, TOS_C, TOS_R, TTL_C, TTL_R, UDP, NOOP,
                            Client, Wrong, daemon, octet, opt, request, session, stack, until, want)

INIT, CONFIRM, DATAGRAM, ERROR = 1, 2, 3, 4
NOFRAG_C, NOFRAG_R, UDP_ERROR, PARITY = 0x4104, 0x8104, 0x8501, 0x8502
NONE4 = ("0.0.0.0", 0)
QUIET_S = 0.4  # long enough for what must not come


# ---- messages ----

def udp_address(host, port):
    port, kind, addr = P.address(host, port)
    return struct.pack("!BBH", kind, 0, port) + addr


def message(kind, ident, body=b"", length=None):
    n = 12 + len(body) if length is None else length
    return struct.pack("!BBH", 6, kind, n) + ident + body


def datagram(ident, to, payload=b"", length=None):
    return message(DATAGRAM, ident, udp_address(*to) + payload, length)


def ip_of(kind, data):
    size = {1: 4, 4: 16}[kind]
    return socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, data[:size]), data[size:]


def parse(data):
    """(type, association, address, rest): rest is the payload, or (code, reporter, mtu) of an error."""
    version, kind, length = struct.unpack("!BBH", data[:4])
    want((version, length), (6, len(data)), "version and Message Length")
    ident, body = data[4:12], data[12:]
    if kind in (INIT, CONFIRM):
        want(body, b"", "body of a message without one")
        return kind, ident, None, b""
    atype, pad, port = struct.unpack("!BBH", body[:4])
    want(pad, 0, "padding")
    host, rest = ip_of(atype, body[4:])
    if kind == ERROR:
        rtype, code, zero = struct.unpack("!BBH", rest[:4])
        want(zero, 0, "padding of an Error")
        reporter, rest = ip_of(rtype, rest[4:])
        want(len(rest) in (0, 4), True, "octets behind an Error")
        rest = (code, reporter, struct.unpack("!I", rest)[0] if rest else 0)
    return kind, ident, (host, port), rest


# ---- an association ----

class Assoc:
    """A client's side of one; transport "udp" or "tcp"."""

    def __init__(self, transport="udp", bind=NONE4, options=(), to=("127.0.0.1", PORT), source=None,
                 mptcp=False, head=(), udp_to=None):
        self.transport = transport
        self.c = Client(request(UDP, *bind, *head, *options), to=to, source=source, mptcp=mptcp)
        self.code, self.bind, self.auth, self.stack = self.c.replies()
        self.u = None
        if self.code:
            return
        kind, self.id, _, _ = parse(self.c.read(12))
        want(kind, INIT, "first message")
        if transport == "udp":
            self.to = udp_to or to
            self.u = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET, socket.SOCK_DGRAM)
            if source:
                self.u.bind((source, 0))
            self.u.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self.u.settimeout(DEADLINE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.c.s.close()
        if self.u:
            self.u.close()

    def raw(self, data):
        if self.u:
            self.u.sendto(data, self.to)
        else:
            self.c.send(data)

    def send(self, to, payload=b""):
        self.raw(datagram(self.id, to, payload))

    def confirm(self):
        kind, ident, _, _ = parse(self.c.read(12))
        want((kind, ident), (CONFIRM, self.id), "confirmation")

    def open(self):
        """By an empty datagram."""
        self.send(NONE4)
        self.confirm()
        return self

    def message(self):
        if self.u:
            return parse(self.u.recv(66000))
        head = self.c.read(4)
        return parse(head + self.c.read(struct.unpack("!H", head[2:])[0] - 4))

    def get(self, kind=DATAGRAM):
        got = self.message()
        want((got[0], got[1]), (kind, self.id), "message and association")
        return got[2], got[3]

    def nothing(self, wait=QUIET_S):
        for s in (self.c.s, self.u):
            if s and select.select([s], [], [], wait)[0]:
                data = s.recv(66000)
                raise Wrong(f"unexpected {'end of file' if not data else data.hex()[:160]}")

    def echo(self, to, payload=b"hello", seen=None):
        self.send(to, payload)
        want(self.get(), (seen or to, payload), f"echo of {to}")

    def ended(self):
        with contextlib.suppress(ConnectionResetError):
            want(self.c.rest(), b"", "at the end")


class Echo:
    """Echoes, and remembers who asked."""

    def __init__(self, host, port, answer=True):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.s = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            self.s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.s.bind((host, port))
        self.answer, self.got = answer, []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            data, peer = self.s.recvfrom(66000)
            self.got.append((data, peer))
            if self.answer:
                self.s.sendto(data, peer)


def udp_status(*keys):
    j = P.D.control("status")["udp"]
    for k in keys:
        j = j[k]
    return j


def dropped(what):
    return udp_status("dropped", what)


E4, E6 = (PUBLIC4, 6001), (PUBLIC6, 6001)
BOTH = ("udp", "tcp")


# ---- tests ----

def t_echo():
    with daemon():
        for transport in BOTH:
            for to in ("127.0.0.1", "::1"):
                with Assoc(transport, to=(to, PORT)) as a:
                    a.send(E4, b"one")
                    a.confirm()
                    want(a.get(), (E4, b"one"), transport)
                    a.echo(E6, b"six")
                    a.echo(E4, b"")
                    a.echo(E4, bytes(range(256)) * 4)
        until("they have ended", lambda: udp_status("associations") == 0)
        want((udp_status("opened"), udp_status("confirmed"), udp_status("confirmed_in_tcp")), (4, 4, 2))


def main():
    names = sys.argv[2:] or [n[2:] for n in globals() if n.startswith("t_")]
    program = os.path.abspath(sys.argv[1])
    P.own_namespace()
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for host in (PUBLIC4, PUBLIC6):
        Echo(host, 6001)
    P.name_server(5353)
    P.D, failed = P.Daemon(program), 0
    try:
        for name in names:
            try:
                globals()["t_" + name]()
                print(f"ok {name}", flush=True)
            except Exception as e:  # pylint: disable=broad-except
                failed += 1
                print(f"not ok {name}: {type(e).__name__}: {e}".replace("\n", " | "), flush=True)
                if P.D.p and P.D.p.poll() is None:
                    P.D.p.kill()
                    P.D.p.wait()
    finally:
        if os.environ.get("KEEP_LOG") and os.path.exists(P.D.log):
            shutil.copy(P.D.log, os.environ["KEEP_LOG"])
        shutil.rmtree(P.D.dir)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
