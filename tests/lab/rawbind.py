#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of BIND, for tests of sixpath-proxy: written from the specification without libsocks6.

    rawbind.py ADDRESS PORT [OPTION...]

    --user NAME --password TEXT
    --session             ask in a session (opened by a NOOP before)
    --bind ADDRESS,PORT   what to bind; :: and 0 by default
    --backlog N           with a Listen Backlog option
    --pickups K           further requests that pick up peers, with --backlog
    --notices N           so many peers have to be told on the first connection before that
    --stack yes|no        with TOS, TTL, Fast Open and Multipath (yes or no) options for the peers' leg
    --name TEXT           a domain name as bind address
    --seconds S           for all of it (15)

What a peer sends comes back to it. One JSON line for each event:
    {"event": "bound" | "notice" | "peer", "code": 0, "address": "...", "port": 9000,
     "stack": {"backlog": 8, ...}}
    {"event": "refused", "code": 2}     in place of the first reply, or of the second one
    {"event": "end", "octets": 5}       of a peer
    {"event": "closed"}                 by the proxy
"""
import argparse
import ipaddress
import json
import socket
import struct
import sys
import threading
import time

STACK = {(1, 1): "tos", (1, 3): "ttl", (4, 1): "tfo", (4, 2): "multipath", (4, 3): "backlog"}
SIXTEEN = {"tfo", "backlog"}
ARGS = None
LOCK = threading.Lock()


def say(event, **more):
    with LOCK:
        print(json.dumps({"event": event, **more}), flush=True)


def option(kind, body):
    return struct.pack("!HH", kind, len(body) + 4) + body


def stack(leg_level, code, value):
    return option(1, struct.pack("!BBH", leg_level, code, value))


def credentials():
    user, password = ARGS.user.encode(), ARGS.password.encode()
    body = b"\x02\x01" + bytes([len(user)]) + user + bytes([len(password)]) + password
    return option(4, body + bytes(-len(body) % 4))


def address(text, port):
    if ARGS.name and text is None:
        name = ARGS.name.encode()
        name += bytes(-(len(name) + 1) % 4)
        return struct.pack("!HBBB", port, 0, 3, len(name)) + name
    ip = ipaddress.ip_address(text or "::")
    return struct.pack("!HBB", port, 0, 1 if ip.version == 4 else 4) + ip.packed


def request(command, addr, options):
    return struct.pack("!BBH", 6, command, len(options)) + addr + options


class Connection:
    def __init__(self, what):
        self.s = socket.create_connection((ARGS.proxy, ARGS.port), timeout=ARGS.seconds)
        self.s.sendall(what)
        self.data = b""

    def take(self, n):
        while len(self.data) < n:
            more = self.s.recv(65536)
            if not more:
                raise EOFError
            self.data += more
        out, self.data = self.data[:n], self.data[n:]
        return out

    def options(self, length):
        raw, out = self.take(length), []
        while raw:
            kind, size = struct.unpack_from("!HH", raw)
            if size < 4 or size % 4 or size > len(raw):
                raise ValueError("option length")
            out.append((kind, raw[4:size]))
            raw = raw[size:]
        return out

    def auth(self):
        """Options of a successful authentication reply."""
        version, kind, length = struct.unpack("!BBH", self.take(4))
        options = self.options(length)
        if version != 6 or kind != 0:
            say("auth-failed", options=[k for k, _ in options])
            sys.exit(1)
        return options

    def reply(self):
        """Code, address, port and stack options of an operation reply."""
        version, code, length, port, _, kind = struct.unpack("!BBHHBB", self.take(8))
        if version != 6 or kind not in (1, 4):
            raise ValueError("operation reply")
        ip = str(ipaddress.ip_address(self.take(4 if kind == 1 else 16)))
        out = {}
        for k, body in self.options(length):
            if k == 1 and len(body) == 4:
                name = STACK.get((body[0] & 63, body[1]), "unknown")
                if body[0] >> 6 == 1:
                    name = "client_" + name
                out[name] = struct.unpack("!H", body[2:])[0] if name in SIXTEEN else body[2]
        return code, ip, port, out

    def tell(self, event):
        """One operation reply. False when it is a refusal."""
        code, ip, port, options = self.reply()
        say(event if code == 0 else "refused", code=code, address=ip, port=port, stack=options)
        return code == 0 and (ip, port)

    def echo(self):
        octets = 0
        while True:
            data = self.data or self.s.recv(65536)
            self.data = b""
            if not data:
                break
            octets += len(data)
            self.s.sendall(data)
        self.s.shutdown(socket.SHUT_WR)
        say("end", octets=octets)


def open_session():
    c = Connection(request(0, address("0.0.0.0", 0), credentials() + option(5, b"")))
    session = next((body for kind, body in c.auth() if kind == 6), None)
    c.s.close()
    if not session:
        sys.exit("no session")
    return session


def pick_up(session, bound):
    try:
        c = Connection(request(2, address(*bound), option(6, session)))
        c.auth()
        if c.tell("ready") and c.tell("peer"):
            c.echo()
    except (OSError, EOFError):
        say("closed")


def main():
    global ARGS
    p = argparse.ArgumentParser()
    p.add_argument("proxy")
    p.add_argument("port", type=int)
    p.add_argument("--user", default="home")
    p.add_argument("--password", default="secret")
    p.add_argument("--session", action="store_true")
    p.add_argument("--bind", default=None)
    p.add_argument("--name", default=None)
    p.add_argument("--backlog", type=int, default=None)
    p.add_argument("--pickups", type=int, default=0)
    p.add_argument("--notices", type=int, default=0)
    p.add_argument("--stack", choices=("yes", "no"))
    p.add_argument("--seconds", type=float, default=15)
    ARGS = p.parse_args()
    wish, port = (ARGS.bind or ",0").split(",")
    options = b""
    if ARGS.stack:
        options += stack(0x81, 1, 0x2800) + stack(0x81, 3, 0x2A00) + stack(0x84, 1, 0)
        options += stack(0x84, 2, 0x0200 if ARGS.stack == "yes" else 0x0100)
    if ARGS.backlog is not None:
        options += stack(0x84, 3, ARGS.backlog)
    session = open_session() if ARGS.session else None
    options += option(6, session) if session else credentials()
    c = Connection(request(2, address(wish or None, int(port)), options))
    c.auth()
    try:
        bound = c.tell("bound")
        if not bound:
            return
        if not (ARGS.backlog and session):
            if c.tell("peer"):
                c.echo()
            return
        for _ in range(ARGS.notices):
            c.tell("notice")
        threads = [threading.Thread(target=pick_up, args=(session, bound), daemon=True)
                   for _ in range(ARGS.pickups)]
        end = time.monotonic() + ARGS.seconds
        for t in threads:
            t.start()
        for t in threads:
            t.join(max(0, end - time.monotonic()))
        if not threads:
            while c.tell("notice"):
                pass
    except EOFError:
        say("closed")
    except OSError as e:
        say("error", what=type(e).__name__)


if __name__ == "__main__":
    main()
