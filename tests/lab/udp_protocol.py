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


def t_example():
    """R10 of section 12: errors wanted, an even port with its counterpart."""
    with daemon(), Client(bytes.fromhex("06030010000000010000000000010008" "850102000001000885020101")) as c:
        want(c.read(4).hex(), "06000000", "authentication reply")
        head = c.read(28)
        port = struct.unpack("!H", head[4:6])[0]
        want(head.hex(), f"06000010{port:04x}0001" "00000000" "0001000885010200" "0001000885020101", "operation reply")
        want(port % 2, 0, "even")
        first = c.read(12)
        want(first[:4].hex(), "0601000c", "Initialization")
        c.send(bytes.fromhex("06030014") + first[4:] + bytes.fromhex("0100000000000000"))  # U6
        want(c.read(12), bytes.fromhex("0602000c") + first[4:], "Confirmation")


def t_mapping():
    """One port for all destinations of both families, another for another association."""
    with daemon(), Assoc() as a, Assoc("tcp") as b:
        servers = [Echo(PUBLIC4, 6101), Echo(PUBLIC4, 6102), Echo(PUBLIC6, 6101)]
        for x in (a, b):
            x.open()
            for to in ((PUBLIC4, 6101), (PUBLIC4, 6102), (PUBLIC6, 6101)):
                x.echo(to)
        ports = [{s.got[i][1][1] for s in servers} for i in (0, 1)]
        want(ports, [{a.bind[1]}, {b.bind[1]}], "ports that servers saw, and bind ports")


def t_full_cone():
    """Anyone may send to the mapped port, and is seen as who he is."""
    with daemon():
        for transport in BOTH:
            with Assoc(transport) as a:
                a.open()
                for host in (PUBLIC4, PUBLIC6):
                    with stranger(host) as s:
                        for text in (b"first", b"", bytes(1400)):
                            s.sendto(text, (host, a.bind[1]))
                            want(a.get(), (s.getsockname()[:2], text), f"stranger at {host}, {transport}")


@contextlib.contextmanager
def stranger(host, port=0):
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    with s:
        s.bind((host, port))
        s.settimeout(DEADLINE)
        yield s


def t_unconfirmed():
    """Nothing is relayed before the first datagram, nor later of what had come before."""
    with daemon():
        for transport in BOTH:
            with Assoc(transport) as a, stranger(PUBLIC4) as s:
                for _ in range(50):
                    s.sendto(b"too early" * 100, (PUBLIC4, a.bind[1]))
                a.nothing()
                a.open()
                a.nothing()
                s.sendto(b"now", (PUBLIC4, a.bind[1]))
                want(a.get()[1], b"now", transport)
        want(udp_status("datagrams_down"), 2)


def t_one_confirmation():
    with daemon(), Assoc() as a:
        for _ in range(3):
            a.send(NONE4)
        a.confirm()
        a.nothing()
        a.echo(E4)
        with Assoc("tcp") as b:
            for _ in range(3):
                b.send(NONE4)
            b.confirm()
            b.nothing()
            b.echo(E4)


def t_other_address():
    """A first datagram with a source that the TCP connection has not is no confirmation: the proxy
    cannot be made to send to a third party."""
    with daemon(), Assoc() as a, stranger(PUBLIC4) as victim, stranger(PUBLIC4) as s:
        spoofed = datagram(a.id, E4, b"spoofed")
        victim.sendto(spoofed, (PUBLIC4, PORT))
        victim.sendto(datagram(a.id, NONE4), (PUBLIC4, PORT))
        until("they are counted", lambda: dropped("unproven_address") == 2)
        s.sendto(b"flood", (PUBLIC4, a.bind[1]))
        a.nothing()
        want(select.select([victim], [], [], QUIET_S)[0], [], "what the victim got")
        a.open()
        victim.sendto(spoofed, (PUBLIC4, PORT))
        until("it is counted", lambda: dropped("from_elsewhere") == 1)
        s.sendto(b"for the client", (PUBLIC4, a.bind[1]))
        want(a.get()[1], b"for the client")
        want(select.select([victim], [], [], QUIET_S)[0], [], "what the victim got")
        want(udp_status("datagrams_up"), 0)


def t_way_is_fixed():
    """Other ports, other own addresses and the other transport are not the way that was fixed."""
    with daemon():
        with Assoc() as a, stranger("127.0.0.1") as other:
            a.open()
            other.sendto(datagram(a.id, E4, b"other port"), a.to)
            a.u.sendto(datagram(a.id, E4, b"other address"), ("127.0.0.2", PORT))
            a.c.send(datagram(a.id, E4, b"in TCP"))
            until("three are counted", lambda: dropped("from_elsewhere") == 3)
            a.nothing()
            a.echo(E4)
        with Assoc("tcp") as b, stranger("127.0.0.1") as other:
            b.open()
            other.sendto(datagram(b.id, E4, b"by UDP"), ("127.0.0.1", PORT))
            until("one more", lambda: dropped("from_elsewhere") == 4)
            b.nothing()
            b.echo(E4)


def t_bad_packets():
    """Every packet cut at every length, padded, with wrong IDs and types: dropped, counted, harmless."""
    with daemon(), Assoc() as a, Assoc() as b:
        a.open()
        server, n = Echo(PUBLIC4, 6111, answer=False), 0
        whole = [datagram(a.id, (h, 6111), b"payload") for h in (PUBLIC4, PUBLIC6, "both.test")]
        for data in whole:
            for cut in range(len(data)):
                a.raw(data[:cut])
                n += 1
        for kind in (0, INIT, CONFIRM, ERROR, 5, 255):
            a.raw(message(kind, a.id, udp_address(PUBLIC4, 6111)))
        a.raw(b"\x05" + whole[0][1:])
        a.raw(datagram(a.id, (PUBLIC4, 6111), b"x", 11))
        a.raw(datagram(a.id, (PUBLIC4, 6111), b"x", 65535))
        n += 9
        until("all are counted", lambda: dropped("malformed") == n)
        for ident in (bytes(8), b"\xff" * 8, bytes(x ^ 1 for x in a.id), a.id[::-1]):
            a.raw(datagram(ident, (PUBLIC4, 6111), b"no"))
        until("unknown IDs", lambda: dropped("unknown_id") == 4)
        a.raw(datagram(b.id, (PUBLIC4, 6111), b"confirms b"))  # the client's own: allowed, and its way now
        b.confirm()
        a.raw(datagram(a.id, (PUBLIC4, 6111), b"padded") + bytes(100))
        a.raw(datagram(a.id, (PUBLIC4, 6111), b"half of it", len(datagram(a.id, E4)) + 4))
        until("three arrive", lambda: len(server.got) == 3)
        want([d for d, _ in server.got], [b"confirms b", b"padded", b"half"], "payload")
        a.echo(E4)


def t_bad_stream():
    with daemon():
        with Assoc("tcp") as a:
            a.open()
            other = bytes(x ^ 1 for x in a.id)
            data = (datagram(other, E4, b"no") + message(CONFIRM, a.id, b"surplus") + message(77, a.id, b"?") +
                    message(ERROR, a.id, udp_address(*E4) + b"\x01\x01\0\0\1\2\3\4") + datagram(a.id, E4, b"yes"))
            for at in range(0, len(data), 7):  # whatever the segments
                a.raw(data[at:at + 7])
                time.sleep(0.001)
            want(a.get(), (E4, b"yes"))
            a.nothing()
        for bad in (lambda i: b"\x05" + message(DATAGRAM, i)[1:], lambda i: message(DATAGRAM, i, b"", 11),
                    lambda i: message(DATAGRAM, i, b"\x01\0\0"), lambda i: message(DATAGRAM, i, b"\x02\0\0\1abcd"),
                    lambda i: message(DATAGRAM, i, b"\x03\0\0\1\0"), lambda i: message(ERROR, i, b"\x01")):
            with Assoc("tcp") as a:
                a.raw(bad(a.id))
                a.ended()
        until("the reason is logged", lambda: P.D.text().count("reason=malformed") == 6)


def t_sizes():
    """Up to what UDP can carry at all."""
    with daemon():
        with Assoc("tcp") as a:
            a.open()
            for to, largest in ((E4, 65507), (E6, 65503)):
                for n in (1, 1472, 9000, 65000, largest):
                    a.echo(to, os.urandom(n))
            a.echo(E4, b"after")
        with Assoc(to=("::1", PORT)) as a:
            a.open()
            for n in (1, 1472, 9000, 65000, 65527 - 32):
                a.echo(E6, os.urandom(n))
        with Assoc() as a:
            a.open()
            for n in (1, 1472, 9000, 65000, 65507 - 20):
                a.echo(E4, os.urandom(n))
            with stranger(PUBLIC6) as s:  # no message can hold it
                s.sendto(bytes(65527), (PUBLIC6, a.bind[1]))
                s.sendto(b"next", (PUBLIC6, a.bind[1]))
                want(a.get()[1], b"next")
                want(dropped("too_long"), 1)


def t_names():
    """To names: the numeric source in answers (R36), order kept, bounded."""
    with daemon():
        for transport in BOTH:
            with Assoc(transport) as a:
                a.open()
                server = Echo(PUBLIC4, 6200 + BOTH.index(transport))
                port = server.s.getsockname()[1]
                a.echo(("four.test", 6001), b"named", E4)
                for i in range(10):
                    a.send(("FOUR.test", port), b"%d" % i)
                want([a.get() for _ in range(10)], [((PUBLIC4, port), b"%d" % i) for i in range(10)], "order")
                a.raw(datagram(a.id, ("mixed.test", 6001), b"allowed"))
                want(a.get(), (E4, b"allowed"), "the address that is allowed")
                before = dropped("not_allowed"), dropped("unresolved")
                a.send(("private.test", 6001), b"no")
                a.send(("no.such.test", 6001), b"no")
                a.send(("broken.test", 6001), b"no")
                until("they are dropped", lambda: (dropped("not_allowed") - before[0],
                                                   dropped("unresolved") - before[1]) == (1, 2))
                for i in range(40):  # nobody answers for this one: 16 wait, at most
                    a.send(("silent.test", 6001), b"%d" % i)
                until("24 are dropped", lambda: dropped("unresolved") - before[1] == 26)
                a.echo(E4)  # others pass them by
        with Assoc("tcp") as a:  # the unpadded form of -11, and the padded one
            a.open()
            for name in (b"four.test", b"four.test\0\0"):
                a.raw(message(DATAGRAM, a.id, struct.pack("!BBHB", 3, 0, 6001, len(name)) + name + b"hi"))
                want(a.get(), (E4, b"hi"))


def t_acl():
    for acl, refused in (("", [("10.1.1.1", 9), ("127.0.0.1", 9), ("::1", 9), ("224.0.0.1", 9), ("0.0.0.0", 9),
                               ("::", 9), ("169.254.1.1", 9), ("fe80::1", 9), ("fd00::1", 9), (PUBLIC4, 0),
                               ("::ffff:127.0.0.1", 9), ("255.255.255.255", 9)]),
                         ("allow = 127.0.0.0/8", [("127.0.0.1", PORT), ("::1", 9)]),
                         (f"deny = {PUBLIC4}", [E4, (PUBLIC4, 9)])):
        with daemon(acl=acl), Assoc() as a:
            a.open()
            for to in refused:
                a.send(to, b"no")
            until(f"{acl}: all are dropped", lambda: dropped("not_allowed") == len(refused))
            want(udp_status("datagrams_up"), 0)
            a.echo(E6)


def t_multicast():
    """Where the access list names the group; with the TTL that was wished."""
    with daemon(acl="allow = 239.1.0.0/16"), Assoc("tcp", options=[octet(TTL_R, 7)]) as a:
        P.run("ip", "route", "replace", "239.1.0.0/16", "dev", "lo", "src", PUBLIC4)
        with stranger("239.1.2.3", 6300) as s:
            s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                         socket.inet_aton("239.1.2.3") + struct.pack("=4si", bytes(4), socket.if_nametoindex("lo")))
            s.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
            a.open()
            a.send(("239.1.2.3", 6300), b"to all")
            data, control, _, peer = s.recvmsg(100, 100)
            want((data, peer[1], control[0][2][0]), (b"to all", a.bind[1], 7), "payload, port, TTL")
            with stranger(PUBLIC4) as one:
                one.sendto(b"from one", (PUBLIC4, a.bind[1]))
                want(a.get()[1], b"from one")


def t_options():
    """Each supported option is answered with what is done, and done."""
    wishes = [octet(TOS_R, 0x48), octet(TTL_R, 9), octet(TOS_C, 0x88), octet(TTL_C, 33), octet(NOFRAG_R, 2),
              octet(NOFRAG_C, 2), octet(UDP_ERROR, 2), stack(PARITY, 0x0200), octet(P.MULTIPATH, 2),
              stack(P.TFO, 0), stack(P.BACKLOG, 3), octet(P.HAPPY, 2)]
    with daemon():
        with Assoc(options=wishes) as a:
            want(a.stack, {(1, TOS_R): 0x4800, (1, TTL_R): 9 << 8, (1, TOS_C): 0x8800, (1, TTL_C): 33 << 8,
                           (1, NOFRAG_R): 0x200, (1, NOFRAG_C): 0x100, (1, UDP_ERROR): 0x200, (1, PARITY): 0x200})
            want(a.bind[1] % 2, 1, "odd port")
            a.u.setsockopt(socket.IPPROTO_IP, 13, 1)  # IP_RECVTOS
            a.u.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
            a.open()
            for host, level, tos, ttl in ((PUBLIC4, socket.IPPROTO_IP, 13, 12),
                                          (PUBLIC6, socket.IPPROTO_IPV6, 66, 51)):  # IPV6_RECV...
                with stranger(host, 6310) as s:
                    s.setsockopt(level, tos, 1)
                    s.setsockopt(level, ttl, 1)
                    a.send((host, 6310), b"look")
                    data, control, _, peer = s.recvmsg(100, 200)
                    got = sorted(c[2][0] for c in control)
                    want((data, got), (b"look", [9, 0x48]), f"{host}: TTL and TOS towards the remote host")
                    s.sendto(b"back", peer)
                    data, control, _, _ = a.u.recvmsg(200, 200)
                    want((parse(data)[3], sorted(c[2][0] for c in control)), (b"back", [33, 0x88]),
                         "TTL and TOS towards the client")
        with Assoc(options=[octet(NOFRAG_R, 1), octet(UDP_ERROR, 1)]) as a:
            want(a.stack, {(1, NOFRAG_R): 0x100, (1, UDP_ERROR): 0x100})
        with Assoc(options=[octet(TOS_R, 4), octet(TOS_R, 8), octet(TTL_R, 0), octet(UDP_ERROR, 7)]) as a:
            want(a.stack.get((1, TOS_R)), 0x400, "the first of repeated ones counts")
            want((1, UDP_ERROR) in a.stack, False, "an undefined value is no wish")
        with Assoc() as a:
            want(a.stack, {}, "no wishes, no answers")


def t_parity():
    even, odd, both, other = (stack(PARITY, v) for v in (0x100, 0x200, 0x101, 0x201))
    with daemon():
        for _ in range(8):
            for option, rest in ((even, 0), (odd, 1), (both, 0), (other, 1)):
                with Assoc(options=[option]) as a:
                    want((a.bind[1] % 2, a.stack[(1, PARITY)]), (rest, struct.unpack("!H", option[6:8])[0]))
        with Assoc(options=[both]) as a:
            counterpart = a.bind[1] + 1
            with stranger("0.0.0.0") as s, contextlib.suppress(OSError):
                s.bind(("0.0.0.0", counterpart))
            with Assoc(bind=("0.0.0.0", counterpart)) as b:  # whoever names it
                want((b.code, b.bind[1]), (0, counterpart), "the reserved port")
                b.open().echo(E4)
                with Assoc(bind=("0.0.0.0", counterpart)) as c:
                    want(c.code != 0, True, "it is in use now")
            until("and free again", lambda: Assoc(bind=("0.0.0.0", counterpart)).code == 0)
        sid, _, _ = P.open_session()
        with Assoc(options=[other], head=[session(sid)]) as a:
            counterpart = a.bind[1] - 1
            want(Assoc(bind=("0.0.0.0", counterpart)).code, 2, "kept for the session")
            with stranger(PUBLIC4) as s:  # what arrives at a reserved port is for nobody
                s.sendto(b"early", (PUBLIC4, counterpart))
            with Assoc(bind=("0.0.0.0", counterpart), head=[session(sid)]) as b:
                want(b.code, 0, "from the session")
                b.open().nothing()
                b.echo(E4)
        with Assoc(options=[both]) as a:
            counterpart = a.bind[1] + 1
        until("the reservation ends with its association", lambda: udp_status("associations") == 0)
        with stranger("0.0.0.0", counterpart):
            pass
        want(P.D.control("status")["budget"]["flows"], 0, "budget")


def t_bind():
    with daemon():
        with Assoc(bind=(PUBLIC4, 6400)) as a:
            want(a.bind, (PUBLIC4, 6400))
            server = Echo(PUBLIC4, 6401)
            a.open().echo((PUBLIC4, 6401))
            want(server.got[0][1], (PUBLIC4, 6400), "source")
            a.send(E6, b"no such addresses")
            until("dropped", lambda: dropped("send_failed") == 1)
            want(Assoc(bind=(PUBLIC4, 6400)).code, 1, "port in use")
        with Assoc(bind=(PUBLIC6, 0)) as a:
            want(a.bind[0], PUBLIC6)
            a.open().echo(E6)
        with Assoc(bind=("::", 6402)) as a:
            want(a.bind[1], 6402)
            a.open().echo(E4)
        want(Assoc(bind=("four.test", 0)).code, 8, "a name to bind to")
        want(Assoc(bind=("127.0.0.1", 0)).code, 2, "an address that is not allowed")
        want(Assoc(bind=("8.8.8.8", 0)).code, 3, "an address that is not ours")


def t_errors():
    """ICMP errors come as Error messages to those who want them."""
    with daemon():
        for transport in BOTH:
            with Assoc(transport, options=[octet(UDP_ERROR, 2)]) as a:
                a.open()
                for host in (PUBLIC4, PUBLIC6):
                    for _ in range(3):
                        a.send((host, 6999), b"nobody there")
                        want(a.get(ERROR), ((host, 6999), (2, host, 0)), transport)
                    a.echo((host, 6001))
                a.send(("8.8.8.8", 53), b"no route")
                to, (code, _, _) = a.get(ERROR)
                want((to, code), (("8.8.8.8", 53), 1), "no route")
            with Assoc(transport) as a:
                a.open()
                a.send((PUBLIC4, 6999), b"nobody there")
                a.echo(E4)
                a.nothing()
        want(udp_status("errors"), 14)


def t_end():
    """The association ends with its connection, at once, and the other way round."""
    with daemon():
        a = Assoc().open()
        a.echo(E4)
        a.c.s.close()
        until("it has ended", lambda: udp_status("associations") == 0)
        a.send(E4, b"too late")
        until("its ID is nobody's", lambda: dropped("unknown_id") == 1)
        with stranger("0.0.0.0", a.bind[1]):  # the port is free
            pass
        a.u.close()
        b = Assoc("tcp").open()
        b.c.s.shutdown(socket.SHUT_WR)
        b.ended()
        b.close()
        want(P.D.text().count("reason=closed"), 2)


def t_timeouts():
    with daemon(proxy="request_timeout = 1", acl="[udp]\nidle = 5\ndns_idle = 1"):
        started = time.monotonic()
        first, dns, used = Assoc(), Assoc().open(), Assoc("tcp").open()
        dns.send((PUBLIC4, 53), b"a question")
        used.send((PUBLIC4, 53), b"a question")
        used.echo(E4)
        for a, least, reason in ((first, 1, "request-timeout"), (dns, 1, "idle"), (used, 5, "idle")):
            a.ended()
            took = time.monotonic() - started
            want(least - 0.1 <= took, True, f"{reason} after {took:.1f} s instead of {least}")
            want("reason=" + reason in P.D.text(), True, reason)
            a.close()
            if a is dns:
                time.sleep(0.3)
                want(select.select([used.c.s], [], [], 0)[0], [], "the other one goes on")
        a = Assoc().open()
        for _ in range(7):
            time.sleep(1)
            a.send(NONE4)  # an empty datagram keeps it
        a.echo(E4)
        a.close()


def t_limits():
    conf = "[udp]\nmax_per_client = 2\nmax_associations = 3"
    with daemon(acl=conf):
        a, b = Assoc().open(), Assoc().open()
        want(Assoc().code, 1, "a third of one address")
        c = Assoc(source="127.0.0.2").open()
        want(Assoc(source="127.0.0.3").code, 1, "a fourth in all")
        b.close()
        until("one has ended", lambda: udp_status("associations") == 2)
        b = Assoc().open()
        time.sleep(15.5)
        b.echo(E4)
        c.echo(E4)
        d = Assoc()  # on the worker of a: only there it is looked for
        for _ in range(50):
            if d.code == 0:
                break
            d.close()
            d = Assoc()
        want(d.code, 0, "the one that is idle longest gives way")
        a.ended()
        b.echo(E4)
        c.echo(E4)
        want(udp_status("evicted"), 1)
        for x in (a, b, c, d):
            x.close()


def t_slow_client():
    """A client that does not read: what is kept for it is bounded, and what it gets then is whole."""
    with daemon(), Assoc("tcp") as a, Assoc("tcp") as b:
        a.open()
        b.open()
        a.c.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20000)
        memory = rss()
        with stranger(PUBLIC4) as s:
            for i in range(4000):
                s.sendto(struct.pack("!I", i) + bytes(random.choice((0, 100, 1400, 9000, 30000))), (PUBLIC4, a.bind[1]))
                if i % 400 == 0:
                    b.echo(E4)  # others go on
        want(rss() - memory < 20000, True, f"{rss() - memory} KiB more")
        numbers = []
        a.c.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        a.c.s.settimeout(2)
        with contextlib.suppress(TimeoutError):
            while True:
                numbers.append(struct.unpack("!I", a.get()[1][:4])[0])
        want(numbers == sorted(set(numbers)) and 10 < len(numbers) < 4000, True, f"{len(numbers)} datagrams")
        a.c.s.settimeout(DEADLINE)
        a.echo(E4)


def rss():
    with open(f"/proc/{P.D.p.pid}/status", encoding="ascii") as f:
        return next(int(l.split()[1]) for l in f if l.startswith("VmRSS"))


def t_hostile():
    """Floods of rubbish: bounded memory, all counted, associations go on."""
    with daemon(), Assoc() as a:
        a.open()
        for _ in range(2000):
            a.raw(os.urandom(random.choice((0, 3, 12, 100, 1400, 60000))))
        until("taken in", lambda: not a.echo(E4))
        memory, rubbish = rss(), 0
        for i in range(20000):
            a.raw(datagram(os.urandom(8), E4, bytes(i % 1400)))
            rubbish += 1
            if i % 16 == 0:
                a.echo(E4)
        want(rss() - memory < 8000, True, f"{rss() - memory} KiB more")
        want(dropped("unknown_id"), rubbish)
        want(udp_status("datagrams_up"), udp_status("datagrams_down"))


def t_mptcp():
    with daemon():
        for transport in BOTH:
            with Assoc(transport, mptcp=True) as a:
                want(a.c.s.getsockopt(socket.IPPROTO_TCP, P.TCP_IS_MPTCP), 1, "MPTCP")
                a.open().echo(E4)
                a.echo(E6, bytes(30000))


def t_workers():
    """Every packet reaches the worker of its association."""
    for workers in (1, 3, 8):
        with daemon(proxy=f"workers = {workers}"):
            assocs = [Assoc(BOTH[i % 4 == 0]) for i in range(40)]
            for a in assocs:
                a.open()
            for a in assocs:
                a.echo(E4)
            for a in assocs:
                a.close()


def t_udp_listen():
    with daemon(proxy="udp_listen = 127.0.0.1:1090, [::1]:1090"):
        for to in ("127.0.0.1", "::1"):
            with Assoc(to=(to, PORT), udp_to=(to, 1090)) as a:
                a.open().echo(E4)
    with daemon(proxy="udp_listen = no"):
        with Assoc("tcp") as a:
            a.open().echo(E4)
        with stranger("0.0.0.0", PORT):
            pass
    with stranger("0.0.0.0", PORT):
        P.D.write()
        p = P.subprocess.run([P.D.program, "-f", "-c", P.D.conf], capture_output=True, text=True, timeout=20, check=False)
        want((p.returncode, "udp_listen" in p.stderr), (69, True), p.stderr)


def t_stop():
    """Associations that are used go on until the drain is over, quiet ones do not hold it up."""
    with P.daemon(proxy="drain = 30"):
        quiet, used = Assoc().open(), Assoc("tcp").open()
        P.D.p.send_signal(P.signal.SIGTERM)
        end = time.monotonic() + 4
        while time.monotonic() < end:
            used.echo(E4)
            time.sleep(0.2)
        want(P.D.p.poll(), None, "still running")
        quiet.ended()
        start = time.monotonic()
        want(P.D.p.wait(DEADLINE), 0)
        want(time.monotonic() - start < 15, True, "it waits for nothing more")
        used.ended()
        P.D.idle = lambda: None
        for a in (quiet, used):
            a.close()
    del P.D.idle
    want(P.D.text().count("reason=shutdown"), 2)


@contextlib.contextmanager
def restarted(before, after):
    """A daemon that is replaced in the middle, by one with the second configuration."""
    os.chmod(P.D.dir, 0o777)  # of nobody, who has no way back to root
    own = "drain = 30\nuser = nobody\n"
    with daemon(proxy=own + before):
        def replace():
            P.D.write(proxy=own + after)
            with contextlib.suppress(OSError):
                P.D.control("restart")
            until("a successor", lambda: P.D.control("status")["pid"] != P.D.p.pid)
        yield replace
        with contextlib.suppress(P.subprocess.TimeoutExpired):
            P.D.p.wait(DEADLINE)
        pid = P.D.control("status")["pid"]
        os.kill(pid, P.signal.SIGTERM)
        until("it ends", lambda: not os.path.exists(f"/proc/{pid}"))
        P.D.idle = lambda: None
    del P.D.idle


def t_restart():
    """The successor has the sockets: associations by plain UDP end and can be made anew at once."""
    with restarted("", "") as replace:
        old, inside = Assoc().open(), Assoc("tcp").open()
        replace()
        old.ended()
        inside.echo(E4)
        for i in range(12):
            with Assoc(BOTH[i % 2]) as new:
                new.open().echo(E4)
        inside.close()
        old.close()


def t_strays():
    """Three workers that have two sockets: what comes to the wrong one is passed on."""
    with restarted("workers = 2", "workers = 3") as replace:
        replace()
        assocs = [Assoc().open() for _ in range(48)]  # each from a port of its own
        for _ in range(5):
            for a in assocs:
                a.echo(E4)
                a.echo(E6, bytes(20000))
        want(dropped("unknown_id"), 0)
        for a in assocs:
            a.close()


def t_reports():
    with daemon(), Assoc() as a:
        a.open().echo(E4)
        row = P.D.control("flows")["flows"][0]
        want((row["state"], row["destination"], row["bytes_up"], row["bytes_down"]), ("udp", "0.0.0.0:%d" % a.bind[1], 5, 5))
        want([l.split() for l in P.D.control("status", False).split("\n") if "associations:" in l],
             [["associations:", "1"]], "as text")


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
