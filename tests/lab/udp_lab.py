#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""UDP associations through the lab's proxy, by a client on the router (t_udp_proxy.sh).

serve PORT [ADDRESS...]   echoes, on these addresses or on all
NAME...                   the tests, by name: a line "ok NAME" or "not ok NAME: why" for each

The lab's addresses come by the environment.
"""
import contextlib
import os
import socket
import sys
import time

import proxy_protocol as P
import udp_protocol as U
from proxy_protocol import TOS_C, TOS_R, TTL_R, TTL_C, Wrong, octet, until, want
from udp_protocol import BOTH, ERROR, NOFRAG_R, UDP_ERROR

ENV = os.environ
WANTED = octet(UDP_ERROR, 2)


def assoc(transport="udp", *options, family=4, **kw):
    to = (ENV[f"PRX{family}"], P.PORT)
    return U.Assoc(transport, to=to, head=[P.userpass("home", "secret")], options=options, **kw)


def t_echo():
    """Both transports, by IPv4 and IPv6, to both families and to a name."""
    for transport in BOTH:
        for family in (4, 6):
            with assoc(transport, family=family) as a:
                a.open()
                for to in ((ENV["SRV4"], 7000), (ENV["SRV6"], 7000)):
                    for n in (0, 5, 1400, 9000, 60000):
                        a.echo(to, os.urandom(n))
                a.echo(("server.test", 7000), b"by name", (ENV["SRV4"], 7000))


def t_full_cone():
    """A server's other address and port may answer, too."""
    for transport in BOTH:
        with assoc(transport) as a:
            a.open()
            a.send((ENV["SRV4"], 7001), b"elsewhere")  # answers from SRV4B
            want(a.get(), ((ENV["SRV4B"], 7002), b"elsewhere"), transport)


def t_subflow():
    """A client with two links: its datagrams may come by either of them, as its subflows do."""
    with assoc(mptcp=True, source=ENV["WAN1_4"]) as a:
        a.u.close()
        a.u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        a.u.bind((ENV["WAN2_4"], 0))
        a.u.settimeout(1)

        def confirmed():
            a.send(U.NONE4)
            return U.select.select([a.c.s], [], [], 0.2)[0]
        until("the second link is there", confirmed)
        a.confirm()
        a.echo((ENV["SRV4"], 7000))


def t_third_party():
    """Without such a subflow the other link is somebody else, and gets nothing (seen in the capture)."""
    with assoc(source=ENV["WAN1_4"]) as a, U.stranger(ENV["WAN2_4"]) as victim:
        for _ in range(20):
            victim.sendto(U.datagram(a.id, (ENV["SRV4"], 7000), b"make them answer"), a.to)
        a.nothing(1)
        want(U.select.select([victim], [], [], 0)[0], [], "what the third party got")
        a.open()
        a.echo((ENV["SRV4"], 7000))


def t_ttl():
    """Hop by hop: each reports itself."""
    for family in (4, 6):
        to = (ENV[f"DEV{family}"], 33434)
        for transport in BOTH:
            for ttl, code, reporter in ((1, 3, ENV[f"WAN1_{family}"]), (2, 2, to[0])):
                with assoc(transport, WANTED, octet(TTL_R, ttl)) as a:
                    want(a.stack[(1, TTL_R)] >> 8, ttl, "answer")
                    a.open()
                    a.send(to, b"probe")
                    want(a.get(ERROR), (to, (code, reporter, 0)), f"TTL {ttl}, {transport}")


def t_mtu():
    """Behind the router are 1300 octets."""
    for family, header in ((4, 28), (6, 48)):
        to = (ENV[f"DEV{family}"], 7100)
        for transport in BOTH:
            with assoc(transport, WANTED, octet(NOFRAG_R, 2)) as a:
                want(a.stack[(1, NOFRAG_R)] >> 8, 2, "answer")
                a.open()
                a.echo(to, bytes(1300 - header))
                a.send(to, bytes(1301 - header))
                got, (code, reporter, mtu) = a.get(ERROR)
                # Once the proxy knows, it says so itself.
                want((got, code, mtu), (to, 4, 1300), f"{transport}, IPv{family}")
                want(reporter in (ENV[f"WAN1_{family}"], ENV[f"PRXWAN1_{family}"]), True, reporter)
                a.echo(to, bytes(1300 - header))
            with assoc(transport) as a:  # unless asked for, larger ones arrive
                a.open()
                a.send(to, bytes(1400))  # IPv6: the first one may be what teaches the proxy
                with contextlib.suppress(TimeoutError, Wrong):
                    (a.u or a.c.s).settimeout(1)
                    a.get()
                    continue
                (a.u or a.c.s).settimeout(10)
                a.echo(to, bytes(1400))


def t_marked():
    """For the capture: DSCP, TTL and DF as wished, on both legs."""
    with assoc("udp", octet(TOS_R, 0xB8), octet(TTL_R, 44), octet(NOFRAG_R, 2), octet(TOS_C, 0x28),
               octet(TTL_C, 55)) as a:
        a.open()
        a.echo((ENV["SRV4"], 7000), b"marked")
        a.echo((ENV["SRV6"], 7000), b"marked")


def t_unreachable():
    """Nobody has the address: the proxy's host says so, after asking for some seconds."""
    to = ("203.0.113.77", 9)
    with assoc("tcp", WANTED) as a:
        a.open()
        a.send(to, b"anybody?")
        want(a.get(ERROR), (to, (2, "203.0.113.1", 0)))


def serve(port, addresses):
    socks = [U.Echo(h, port) for h in addresses or ("0.0.0.0", "::")]
    if port == 7001:
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        other.bind((ENV["SRV4B"], 7002))
        for e in socks:
            e.answer = False
    print("ready", flush=True)
    seen = 0
    while True:
        time.sleep(0.02)
        if port == 7001 and len(socks[0].got) > seen:
            other.sendto(*socks[0].got[seen])
            seen += 1


def main():
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]), sys.argv[3:])
    failed = 0
    for name in sys.argv[1:]:
        try:
            globals()["t_" + name]()
            print(f"ok {name}", flush=True)
        except Exception as e:  # pylint: disable=broad-except
            failed += 1
            print(f"not ok {name}: {type(e).__name__}: {e}".replace("\n", " | "), flush=True)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
