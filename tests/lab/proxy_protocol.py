#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""sixpath-proxy against the specification, octet by octet, with the real daemon.

    proxy_protocol.py PATH-OF-SIXPATH-PROXY [NAME ...]

Needs root: it moves into a network namespace of its own (which ends with it), starts the
daemon there, plays clients, servers and the name server, and prints a line for each test:
"ok NAME" or "not ok NAME: why". Exits with 1 if one failed. NAMEs pick tests. With
KEEP_LOG=FILE the daemon's log is kept.
"""
import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

IPPROTO_MPTCP, MSG_FASTOPEN, TCP_FASTOPEN, TCP_IS_MPTCP = 262, 0x20000000, 23, 43
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)

PORT = 1080
PUBLIC4, PUBLIC6 = "8.8.4.4", "2a00::44"  # on lo: our servers
DARK4, DARK6 = "9.9.9.9", "2a00::99"      # swallows packets
NOOP, CONNECT, BIND, UDP = 0, 1, 2, 3
OK_AUTH, FAIL_AUTH = bytes.fromhex("06000000"), bytes.fromhex("06010000")
TOS_C, TOS_R, TTL_C, TTL_R = 0x4101, 0x8101, 0x4103, 0x8103
HAPPY, TFO, MULTIPATH, BACKLOG, NOFRAG = 0x8102, 0x8401, 0x8402, 0x8403, 0x8104
DEADLINE = 20.0


class Wrong(Exception):
    pass


def want(got, expected, what=""):
    if got != expected:
        raise Wrong(f"{what}: got {got!r}, expected {expected!r}" if what else
                    f"got {got!r}, expected {expected!r}")


def until(what, condition, limit=DEADLINE):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise Wrong(f"{what}: not within {limit} s")


# ---- messages ----

def opt(kind, data=b""):
    data += bytes(-len(data) % 4)
    return struct.pack("!HH", kind, 4 + len(data)) + data


def stack(code, value):
    return opt(1, struct.pack("!HH", code, value))


def octet(code, value):
    return stack(code, value << 8)


def address(host, port):
    for family, kind in ((socket.AF_INET, 1), (socket.AF_INET6, 4)):
        with contextlib.suppress(OSError):
            return port, kind, socket.inet_pton(family, host)
    name = host.encode()
    name += bytes(-(len(name) + 1) % 4)
    return port, 3, bytes([len(name)]) + name


def request(command, host="0.0.0.0", port=0, *options):
    opts = b"".join(options)
    port, kind, addr = address(host, port)
    return struct.pack("!BBHHBB", 6, command, len(opts), port, 0, kind) + addr + opts


def userpass(user, password):
    u, p = user.encode(), password.encode()
    return opt(4, b"\x02\x01" + bytes([len(u)]) + u + bytes([len(p)]) + p)


METHODS = opt(2, b"\x00\x00\x02")
SESSION_REQUEST = opt(5)
TEARDOWN = opt(10)


def session(sid):
    return opt(6, sid)


def token_request(n):
    return opt(11, struct.pack("!I", n))


def spend(token):
    return opt(13, struct.pack("!I", token & 0xffffffff))


# ---- a client ----

class Client:
    def __init__(self, data=b"", to=("127.0.0.1", PORT), source=None, mptcp=False, tfo=False):
        family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
        self.s = socket.socket(family, socket.SOCK_STREAM, IPPROTO_MPTCP if mptcp else 0)
        if source:
            self.s.bind((source, 0))
        if tfo:
            self.s.sendto(data, MSG_FASTOPEN, to)
        self.s.settimeout(DEADLINE)
        if not tfo:
            self.s.connect(to)
            if data:
                self.s.sendall(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.s.close()

    def send(self, data):
        self.s.sendall(data)

    def read(self, n):
        got = b""
        while len(got) < n:
            more = self.s.recv(n - len(got))
            if not more:
                raise Wrong(f"end of file after {len(got)} of {n} octets: {got.hex()}")
            got += more
        return got

    def rest(self):
        """All until the end of file."""
        got = b""
        while more := self.s.recv(65536):
            got += more
        return got

    def options(self, length):
        raw, found = self.read(length), {}
        while raw:
            kind, n = struct.unpack("!HH", raw[:4])
            data = raw[4:n]
            if kind == 1:
                kind, data = (1, data[0] << 8 | data[1]), struct.unpack("!H", data[2:4])[0]
            found[kind] = data
            raw = raw[n:]
        return found

    def auth(self):
        version, kind, length = struct.unpack("!BBH", self.read(4))
        want(version, 6, "version of the authentication reply")
        return kind, self.options(length)

    def op(self):
        version, code, length, port, _, kind = struct.unpack("!BBHHBB", self.read(8))
        want(version, 6, "version of the operation reply")
        family, size = {1: (socket.AF_INET, 4), 4: (socket.AF_INET6, 16)}[kind]
        addr = socket.inet_ntop(family, self.read(size))
        return code, (addr, port), self.options(length)

    def replies(self):
        kind, opts = self.auth()
        want(kind, 0, "authentication")
        code, bind, stack_opts = self.op()
        return code, bind, opts, stack_opts


def expect(data, octets, what="", **kw):
    """The whole answer, then an end of file."""
    with Client(data, **kw) as c:
        want(c.rest().hex(), octets.hex(), what or data[:24].hex())


def code_of(data, **kw):
    with Client(data, **kw) as c:
        return c.replies()[0]


def open_session(window=64, *extra, **kw):
    with Client(request(NOOP, "0.0.0.0", 0, *extra, SESSION_REQUEST, token_request(window)),
                **kw) as c:
        code, _, opts, _ = c.replies()
        want(code, 0, "NOOP")
        base, size = struct.unpack("!II", opts[12])
        return opts[6], base, size


# ---- servers ----

class Server:
    """Accepts on one address; each connection gets a thread."""

    def __init__(self, host, port, handler, mptcp=False, tfo=False):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.s = socket.socket(family, socket.SOCK_STREAM, IPPROTO_MPTCP if mptcp else 0)
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            self.s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if tfo:
            self.s.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 64)
        self.s.bind((host, port))
        self.s.listen(1024)
        self.handler, self.count = handler, 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            c, _ = self.s.accept()
            self.count += 1
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        with contextlib.suppress(OSError), c:
            self.handler(c)


def echo(c):
    while data := c.recv(65536):
        c.sendall(data)


def count_then_answer(c):
    n = 0
    while data := c.recv(65536):
        n += len(data)
    c.sendall(str(n).encode())


def speak_first(c):
    c.sendall(b"220 hello\r\n")
    echo(c)


def reset(c):
    c.recv(1)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


NAMES = {  # A, AAAA; an int is an error code
    "both.test": ([PUBLIC4], [PUBLIC6]), "four.test": ([PUBLIC4], []),
    "darksix.test": ([PUBLIC4], [DARK6]), "darkfour.test": ([DARK4, PUBLIC4], []),
    "private.test": (["10.1.2.3"], []), "mixed.test": (["127.0.0.1", PUBLIC4], []),
    "broken.test": (2, 2), "silent.test": (None, None),
}


def name_server(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", port))

    def run():
        while True:
            data, peer = s.recvfrom(1500)
            labels, i = [], 12
            while data[i]:
                labels.append(data[i + 1:i + 1 + data[i]].decode())
                i += 1 + data[i]
            question, kind = data[12:i + 5], data[i + 2]
            answers = NAMES.get(".".join(labels).lower(), (3, 3))[1 if kind == 28 else 0]
            if answers is None:
                continue
            code = answers if isinstance(answers, int) else 0
            family = socket.AF_INET6 if kind == 28 else socket.AF_INET
            rows = [] if code else [socket.inet_pton(family, a) for a in answers]
            s.sendto(data[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(rows), 0, 0) + question +
                     b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(r)) + r
                              for r in rows), peer)
    threading.Thread(target=run, daemon=True).start()


# ---- the daemon ----

class Daemon:
    def __init__(self, program):
        self.program = program
        self.dir = tempfile.mkdtemp(prefix="sixpath-proxy-test-")
        self.conf, self.sock, self.log = (os.path.join(self.dir, n) for n in ("conf", "sock", "log"))
        self.users = os.path.join(self.dir, "users")
        self.p = None

    def write(self, proxy="", users=False, acl=""):
        with open(self.conf, "w", encoding="ascii") as f:
            f.write(f"[proxy]\nlisten = [::]:{PORT}\ncontrol = {self.sock}\n"
                    f"resolve = 127.0.0.1:5353\n{proxy}\n")
            for default in ("workers = 2", "drain = 0", "user = root"):
                if not any(l.split()[:1] == default.split()[:1] for l in proxy.split("\n")):
                    f.write(default + "\n")
            f.write(f"[acl]\n{acl}\n")
            if users:
                f.write(f"[auth]\nusers = {self.users}\n")

    def start(self, *args, **kw):
        self.write(*args, **kw)
        self.mark = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        with open(self.log, "ab") as log:
            self.p = subprocess.Popen([self.program, "-f", "-c", self.conf], stderr=log)
        until("the daemon is up", self.answers)
        return self

    def answers(self):
        if self.p.poll() is not None:
            raise Wrong(f"the daemon ended with {self.p.returncode}: {self.text()[-500:]}")
        with contextlib.suppress(OSError):
            return self.control("help")
        return None

    def text(self):
        with open(self.log, encoding="utf-8") as f:
            f.seek(self.mark)
            return f.read()

    def control(self, command, as_json=True):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(DEADLINE)
            s.connect(self.sock)
            s.sendall(f"{command}{' --json' if as_json else ''}\n".encode())
            got = b""
            while more := s.recv(65536):
                got += more
        head, _, body = got.decode().partition("\n")
        if head != "ok":
            raise Wrong(f"{command}: {head}")
        return json.loads(body) if as_json else body

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.p.pid}/fd"))

    def idle(self):
        until("all clients have ended", lambda: self.control("status")["clients"] == 0)

    def stop(self):
        if self.p.poll() is None:
            self.p.send_signal(signal.SIGTERM)
        try:
            rc = self.p.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
            raise Wrong("does not stop") from None
        want(rc, 0, f"exit code; the log ends: {self.text()[-1500:]}")


@contextlib.contextmanager
def daemon(*args, **kw):
    D.start(*args, **kw)
    try:
        yield D
    finally:
        if sys.exc_info()[0]:
            D.p.kill()
            D.p.wait()
    D.idle()
    D.stop()


# ---- tests: framing ----

EXAMPLES = {  # section 12; answers of a proxy without users, to a client on this machine
    "R1": ("0601000001BB0001C000020A", "06000000" "060300000000000100000000"),  # the namespace has no route
    "R2": ("0601001020FB000420010DB8000000000000000000000010000100088401000000010008" "84020200",
           "06000000" "060300000000000100000000"),
    "R3": ("06010000005000030B6578616D706C652E6E6574", "06000000" "060400000000000100000000"),
    "R4": ("06010000005000030F686F73742E6578616D706C65000000",
           "06000000" "060400000000000100000000"),
    "R8": ("06000010000000010000000000" "06000C0011223344556677000A0004", "0601000400090004"),
    "R9": ("060200140000000100000000000100088403000800" "06000C0011223344556677",
           "0601000400090004"),
}


def t_examples():
    with daemon():
        for name, (data, answer) in EXAMPLES.items():
            expect(bytes.fromhex(data), bytes.fromhex(answer), name)
        # R5, R7: credentials are not needed here, but their receipt is acknowledged
        r7 = bytes.fromhex("06000020000000010000000000040014020105616C69636506776F6E64657200"
                           "00050004000B000800000040")
        with Client(r7) as c:
            code, _, opts, _ = c.replies()
            want((code, opts[4], len(opts[6]), opts[12][4:]),
                 (0, bytes.fromhex("02010000"), 16, struct.pack("!I", 64)), "R7")
        r5 = bytes.fromhex("0601003800500001C633640700010008840102000001000884020200000200080012020000"
                           "04001402010561" "6C69636506776F6E6465720000050004000B000800000040")
        with Client(r5 + b"GET / HTTP/1.0\r\n\r\n") as c:
            want(c.replies()[0], 3, "R5")


def t_truncated():
    with daemon():
        whole = request(CONNECT, "some.name.test", 80, TTL_ALL, METHODS, userpass("a", "b"),
                        SESSION_REQUEST, token_request(5))
        for cut in range(len(whole)):
            with Client(whole[:cut]) as c:
                c.s.shutdown(socket.SHUT_WR)
                want(c.rest(), b"", f"cut at {cut}")


def t_octet_by_octet():
    with daemon(), Client() as c:
        c.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for x in request(CONNECT, PUBLIC4, 7001, stack(MULTIPATH, 0x100)) + b"abc":
            c.send(bytes([x]))
            time.sleep(0.001)
        want(c.replies()[0], 0)
        want(c.read(3), b"abc")


def t_version():
    with daemon():
        for first in (0, 1, 4, 5, 7, 22, 71, 255):
            expect(bytes([first]), b"\x06", f"first octet {first}")
            expect(bytes([first]) + bytes(70000), b"\x06", f"first octet {first} and more")
        with Client(b"\x05\x01\x00") as c:  # no reset although we go on sending
            for _ in range(20):
                time.sleep(0.005)
                c.send(bytes(10000))
            want(c.rest(), b"\x06", "while sending")
        with Client(b"\x05\x01\x00") as c:  # patience has an end
            want(c.read(1), b"\x06")
            with contextlib.suppress(OSError):
                for _ in range(100):
                    c.send(bytes(65536))
        D.idle()
        want(list(D.control("status")["ended"].values()), [18])


def t_malformed():
    header = struct.Struct("!BBHHBB")
    silent = {
        "options not a multiple of 4": header.pack(6, 0, 6, 0, 0, 1) + bytes(10),
        "options above the cap": header.pack(6, 0, 20484, 0, 0, 1) + bytes(4),
        "option of length 0": request(NOOP, "0.0.0.0", 0, bytes(4)),
        "option of length 6": request(NOOP, "0.0.0.0", 0, struct.pack("!HHI", 5, 6, 0)),
        "option beyond the end": request(NOOP, "0.0.0.0", 0, struct.pack("!HH", 5, 8)),
        "empty name": header.pack(6, 1, 0, 80, 0, 3) + bytes(4),
        "NUL in a name": header.pack(6, 1, 0, 80, 0, 3) + b"\x03a\x00b",
        "initial data too long": request(CONNECT, PUBLIC4, 9, opt(2, b"\x40\x01\x02")),
    }
    final = {
        "unknown address type": header.pack(6, 1, 0, 80, 0, 2) + bytes(4),
        "repeated session request": request(NOOP, "0.0.0.0", 0, SESSION_REQUEST, SESSION_REQUEST),
        "short token": request(NOOP, "0.0.0.0", 0, opt(13)),
        "bad credentials": request(NOOP, "0.0.0.0", 0, opt(4, b"\x02\x01\xff\x00")),
    }
    with daemon():
        for what, data in silent.items():
            with Client(data) as c:
                try:
                    want(c.rest(), b"", what)
                except ConnectionResetError:
                    pass  # unread octets: closed without a reply all the same
        for what, data in final.items():
            expect(data, FAIL_AUTH, what)


def t_commands():
    with daemon():
        for command in (4, 200, 255):
            want(code_of(request(command, PUBLIC4, 80)), 7, f"command {command}")
        want(code_of(request(BIND, "0.0.0.0", 9000)), 2, "BIND where no port is allowed")
        expect(request(NOOP), OK_AUTH + bytes.fromhex("060000000000000100000000"))
        expect(request(NOOP, "::"), OK_AUTH + bytes.fromhex("060000000000000100000000"))


# ---- tests: CONNECT ----

def t_connect():
    with daemon():
        for host in (PUBLIC4, PUBLIC6, "both.test", "four.test"):
            for to in ("127.0.0.1", "::1"):
                with Client(request(CONNECT, host, 7001) + b"early", to=(to, PORT)) as c:
                    code, bind, _, opts = c.replies()
                    want((code, opts), (0, {}), host)
                    want(bind[1] > 0, True, "bind port")
                    c.send(b" and late")
                    want(c.read(14), b"early and late")


def t_replies_together():
    """Both replies in one packet where the server is near; the first one alone where it is not."""
    def segments(c):
        info = c.s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 156)
        return struct.unpack_from("I", info, 152)[0]  # tcpi_data_segs_in

    def near():
        with Client(request(CONNECT, PUBLIC4, 7001)) as c:
            want(c.replies()[0], 0)
            return segments(c) == 1

    with daemon(proxy="workers = 1\nconnect_timeout = 2s"):
        # a busy machine may be slow, but not always; nothing is waited for where servers were not near
        want(any(near() for _ in range(400)), True, "together")
        for _ in range(40):
            with Client(request(CONNECT, DARK4, 80)) as c:
                want((c.auth()[0], segments(c)), (0, 1), "alone")
        with Client(request(NOOP)) as c:
            want((c.replies()[0], segments(c)), (0, 1), "NOOP")


def t_plain_servers():
    """A server is asked once; one that speaks MPTCP is connected to with it. No connection is made to ask."""
    def count(group, name):
        with open("/proc/net/" + group, encoding="ascii") as f:
            rows = [line.split() for line in f]
        return next(int(v[k.index(name)]) for k, v in zip(rows[::2], rows[1::2]) if name in k)

    def counts():
        return count("netstat", "MPCapableSYNTX"), count("snmp", "ActiveOpens")

    def ask(port, answer):
        with Client(request(CONNECT, PUBLIC4, port, octet(MULTIPATH, 2)) + b"x") as c:
            code, _, _, opts = c.replies()
            want((code, opts[1, MULTIPATH] >> 8), (0, answer), f"port {port}")
            want(c.read(1), b"x")

    def since(before):  # connections, without those of Client
        return tuple(now - then for now, then in zip(counts(), before))

    with daemon(proxy="workers = 1"):
        for port, answer, asked in ((7005, 2, 30), (7001, 1, 1)):
            before = counts()
            for _ in range(30):
                ask(port, answer)
            want(since(before), (asked, 30 + 30), f"port {port}: asked, and connections with those of clients")


def t_speak_first():
    with daemon(), Client(request(CONNECT, PUBLIC4, 7002)) as c:
        want(c.replies()[0], 0)
        want(c.read(11), b"220 hello\r\n")


def t_half_close():
    with daemon():
        body = os.urandom(300000)
        with Client(request(CONNECT, PUBLIC4, 7003)) as c:
            want(c.replies()[0], 0)
            c.send(body)
            c.s.shutdown(socket.SHUT_WR)
            want(c.rest(), b"300000")
        # all of it early, the end of file too: the buffer is smaller than that
        with Client(request(CONNECT, "darkfour.test", 7003) + body) as c:
            c.s.shutdown(socket.SHUT_WR)
            want(c.replies()[0], 0)
            want(c.rest(), b"300000")


def t_reset():
    with daemon(), Client(request(CONNECT, PUBLIC4, 7004) + b"x") as c:
        want(c.replies()[0], 0)
        try:
            c.read(1)
            raise Wrong("no reset")
        except ConnectionResetError:
            pass


def t_big():
    data = os.urandom(8 << 20)
    with daemon(), Client(request(CONNECT, PUBLIC6, 7001)) as c:
        want(c.replies()[0], 0)
        sender = threading.Thread(target=c.send, args=(data,))
        sender.start()
        want(c.read(len(data)) == data, True, "8 MiB echoed")
        sender.join()


def t_codes():
    with daemon(proxy="connect_timeout = 1s", acl="deny = 8.8.8.0/24, 2a00:dead::/32\nallow = 10.9.0.0/16"):
        for host, port, code in (
                (PUBLIC4, 9, 5), (PUBLIC6, 9, 5),                   # refused
                ("127.0.0.1", 7001, 2), ("::1", 7001, 2),           # loopback
                ("::ffff:127.0.0.1", 7001, 2), ("64:ff9b::7f00:1", 7001, 2),
                ("10.1.2.3", 80, 2), ("192.168.1.1", 80, 2), ("169.254.1.1", 80, 2),
                ("fe80::1", 80, 2), ("fd00::1", 80, 2), ("224.0.0.1", 80, 2), ("0.0.0.0", 80, 2),
                ("8.8.8.8", 80, 2), ("2a00:dead::1", 80, 2),        # denied
                ("10.9.1.1", 80, 3), ("1.1.1.1", 80, 3),            # allowed, but no route
                (PUBLIC4, PORT, 2), (PUBLIC6, PORT, 2),             # our own listener
                (DARK4, 80, 9), (DARK6, 80, 9),                     # no answer
                ("nowhere.test", 80, 4), ("broken.test", 80, 1), ("silent.test", 80, 9),
                ("private.test", 80, 2), ("localhost", 7001, 2), ("127.0.0.1 ", 80, 4)):
            want(code_of(request(CONNECT, host, port)), code, f"{host}:{port}")
        want(code_of(request(CONNECT, "mixed.test", 7001)), 0, "the allowed one of two addresses")
        want(code_of(request(CONNECT, "nowhere.test", 80, octet(TOS_R, 8))), 4)
    with daemon(acl="allow = 0.0.0.0/0, ::/0"):
        want(code_of(request(CONNECT, "127.0.0.1", 7001)), 0, "allow everything")
        want(code_of(request(CONNECT, "0.0.0.0", PORT)), 2, "ourselves")


def t_happy_eyeballs():
    def took(host, *options):
        start = time.monotonic()
        with Client(request(CONNECT, host, 7001, *options)) as c:
            code, bind, _, opts = c.replies()
        return code, ":" in bind[0], opts, time.monotonic() - start

    with daemon(proxy="connect_timeout = 6s"):
        code, six, opts, s = took("darksix.test", octet(HAPPY, 2))
        want((code, six, opts), (0, False, {(1, HAPPY): 0x200}))
        want(0.2 < s < 1.0, True, f"took {s:.3f} s")
        code, six, _, s = took("both.test", octet(HAPPY, 2))
        want((code, six, s < 0.2), (0, True, True), "IPv6 is first")
        code, six, opts, s = took("both.test", octet(HAPPY, 1))
        want((code, opts), (0, {(1, HAPPY): 0x100}))
        code, _, opts, s = took("darkfour.test")  # one after the other
        want((code, opts, s > 1), (0, {}, True), "without the option")
        want(took(PUBLIC4, octet(HAPPY, 2))[2], {}, "not for numeric addresses")


TTL_ALL = octet(0xC103, 77)


def t_stack():
    def answered(*options, host=PUBLIC4, port=7001, **kw):
        with Client(request(CONNECT, host, port, *options) + b"hello", **kw) as c:
            code, _, _, opts = c.replies()
            want((code, c.read(5)), (0, b"hello"))
            return {k[1]: v for k, v in opts.items()}

    with daemon():
        want(answered(octet(TOS_R, 0x48), octet(TTL_R, 33)), {TOS_R: 0x4800, TTL_R: 33 << 8})
        want(answered(octet(0xC101, 0x48), TTL_ALL), {0xC101: 0x4800, 0xC103: 77 << 8})
        want(answered(octet(TOS_R, 0x48), octet(TTL_R, 33), host=PUBLIC6),
             {TOS_R: 0x4800, TTL_R: 33 << 8})
        want(answered(octet(TOS_C, 0x28), octet(TTL_C, 44)), {TOS_C: 0x2800, TTL_C: 44 << 8})
        want(answered(octet(TOS_C, 0x28), octet(TTL_C, 44), to=("::1", PORT)),
             {TOS_C: 0x2800, TTL_C: 44 << 8})
        want(answered(octet(NOFRAG, 2), stack(BACKLOG, 4)), {NOFRAG: 0x200}, "none for CONNECT: silence")
        want(answered(octet(NOFRAG, 1)), {NOFRAG: 0x100})
        # MPTCP sockets take no TTL: the answer is what is used
        want(answered(octet(TTL_R, 33), octet(MULTIPATH, 2), port=7005),
             {TTL_R: 64 << 8, MULTIPATH: 0x200})
        want(answered(octet(MULTIPATH, 2)), {MULTIPATH: 0x100}, "server without MPTCP")
        want(answered(octet(MULTIPATH, 2), port=7005), {MULTIPATH: 0x200}, "server with MPTCP")
        want(answered(octet(MULTIPATH, 2), port=7005, host=PUBLIC6), {MULTIPATH: 0x200})
        want(answered(octet(MULTIPATH, 1), port=7005), {MULTIPATH: 0x100}, "not wanted")
        want(answered(port=7005), {}, "not asked for")
        want(answered(octet(MULTIPATH, 0), port=7005), {}, "undefined value")


def t_tfo_to_server():
    def answered(limit, data=b"0123456789", port=7006):
        with Client(request(CONNECT, PUBLIC4, port, stack(TFO, limit)) + data) as c:
            code, _, _, opts = c.replies()
            want((code, c.read(len(data))), (0, data))
            return opts[(1, TFO)]

    with daemon():
        answered(0)  # fetches the cookie
        want(answered(0), 10, "all in the SYN")
        want(answered(4), 4, "limited")
        want(answered(0, b""), 0, "nothing buffered")
        want(answered(0, port=7001), 0, "server without Fast Open")
        want(0 < answered(0, bytes(5000)) <= 5000, True, "more than a segment")


# ---- tests: sessions and tokens ----

def t_sessions():
    with daemon(proxy="token_window = 32"):
        sid, base, size = open_session(64)
        want((len(sid), size), (16, 32))
        want(open_session(20)[2], 20, "wished less than the maximum")
        with Client(request(NOOP, "0.0.0.0", 0, session(sid), SESSION_REQUEST, METHODS)) as c:
            code, _, opts, _ = c.replies()
            want((code, sorted(opts)), (0, [8, 12]), "session OK and the window, no new session")
            want(opts[12], struct.pack("!II", base, size))
        with Client(request(NOOP, "0.0.0.0", 0, session(sid), token_request(8))) as c:
            want(c.replies()[2][12], struct.pack("!II", base, size), "no second window")
        expect(request(NOOP, "0.0.0.0", 0, session(sid[:-1] + bytes([sid[-1] ^ 1]))),
               bytes.fromhex("0601000400090004"), "unknown")
        expect(request(NOOP, "0.0.0.0", 0, session(sid + bytes(4))),
               bytes.fromhex("0601000400090004"), "too long")
        want(code_of(request(NOOP, "0.0.0.0", 0, TEARDOWN)), 0, "teardown without a session")
        with Client(request(NOOP, "0.0.0.0", 0, session(sid), TEARDOWN)) as c:
            want(c.replies()[:3:2], (0, {}), "teardown: as outside any session")
        expect(request(NOOP, "0.0.0.0", 0, session(sid)), bytes.fromhex("0601000400090004"), "gone")
        expect(request(NOOP, "0.0.0.0", 0, session(sid), TEARDOWN),
               bytes.fromhex("0601000400090004"), "gone")
        with Client(request(NOOP, "0.0.0.0", 0, SESSION_REQUEST)) as c:
            want(sorted(c.replies()[2]), [6], "session without a window")
        with Client(request(NOOP, "0.0.0.0", 0, SESSION_REQUEST, spend(5))) as c:
            want(c.auth(), (1, {15: b""}), "a token before there is a window")
        with Client(request(CONNECT, PUBLIC4, 9, SESSION_REQUEST)) as c:
            want(c.replies()[0], 5)
    with daemon(proxy="repeat_session_id = yes"):
        with Client(request(NOOP, "0.0.0.0", 0, SESSION_REQUEST)) as c:
            _, _, opts, op = c.replies()
            want(op[6], opts[6])
    with daemon(proxy="max_sessions = 3\nmax_sessions_per_user = 3"):
        first = open_session()[0]
        others = [open_session()[0] for _ in range(3)]
        expect(request(NOOP, "0.0.0.0", 0, session(first)), bytes.fromhex("0601000400090004"),
               "the oldest has given way")
        want(code_of(request(NOOP, "0.0.0.0", 0, session(others[0]))), 0)
        want(D.control("status")["sessions"], 3)


def t_tokens():
    def try_token(sid, token):
        with Client(request(NOOP, "0.0.0.0", 0, session(sid), spend(token))) as c:
            kind, opts = c.auth()
            want(8 in opts, True, "Session OK")
            want((14 in opts, 15 in opts), (kind == 0, kind == 1))
            if kind == 1:
                want(c.rest(), b"", "end of file after a failure")
            return kind == 0, struct.unpack("!I", opts[12][:4])[0]

    with daemon():
        sid, base, size = open_session(16)
        at = lambda n: (base + n) & 0xffffffff
        want(try_token(sid, base), (True, at(1)), "the lowest raises the base")
        want(try_token(sid, base), (False, at(1)), "a second time")
        want(try_token(sid, base + 3), (True, at(1)))
        want(try_token(sid, base + 3), (False, at(1)))
        want(try_token(sid, base - 1), (False, at(1)), "below")
        want(try_token(sid, base + 17), (False, at(1)), "above")
        want(try_token(sid, base + 1), (True, at(2)))
        want(try_token(sid, base + 2), (True, at(4)), "over spent ones")
        want(try_token(sid, base + 4 + 15), (True, at(4 + 7)), "upper half: lost ones are given up")
        want(try_token(sid, base + 5), (False, at(11)))
        want(D.control("status")["counters"]["tokens_rejected"], 5)
        with Client(request(NOOP, "0.0.0.0", 0, spend(1))) as c:
            want(c.replies()[2], {}, "outside a session: ignored")


def t_token_once():
    """The same request fifty times at once opens one connection."""
    with daemon():
        sid, base, _ = open_session()
        before, accepted = SERVERS[7001].count, []

        def one():
            with Client(request(CONNECT, PUBLIC4, 7001, session(sid), spend(base)) + b"x") as c:
                if c.auth()[0] == 0:
                    want(c.op()[0], 0)
                    accepted.append(c.read(1))
        threads = [threading.Thread(target=one) for _ in range(50)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        want((accepted, SERVERS[7001].count - before), ([b"x"], 1))
        want(D.control("status")["counters"]["tokens_rejected"], 49)


# ---- tests: authentication ----

def write_users(**users):
    with open(D.users, "w", encoding="ascii") as f:
        f.write("# a comment\n\n")
        for user, password in users.items():
            f.write(f"{user}:{subprocess.check_output(['openssl', 'passwd', '-6', password], text=True)}")


def t_password():
    good, bad = bytes.fromhex("0600000800040008" "02010000"), bytes.fromhex("0601000800040008" "02010100")
    noop_done = bytes.fromhex("060000000000000100000000")
    write_users(alice="wonder", bob="builder")
    with daemon(users=True, proxy="max_per_client = 50"):
        expect(request(NOOP, "0.0.0.0", 0, userpass("alice", "wonder")), good + noop_done)
        expect(request(NOOP, "0.0.0.0", 0, METHODS, userpass("bob", "builder")), good + noop_done)
        expect(request(NOOP, "0.0.0.0", 0, userpass("alice", "builder")), bad)
        expect(request(NOOP, "0.0.0.0", 0, userpass("carol", "wonder")), bad)
        expect(request(NOOP), FAIL_AUTH, "no credentials")
        expect(request(NOOP, "0.0.0.0", 0, METHODS), FAIL_AUTH, "R18")
        expect(request(200), FAIL_AUTH, "R16")
        sid, base, _ = open_session(8, userpass("alice", "wonder"))
        with Client(request(NOOP, "0.0.0.0", 0, session(sid), userpass("alice", "wrong"), spend(base))) as c:
            want(sorted(c.replies()[2]), [8, 12, 14], "credentials are ignored in a session")
        expect(request(NOOP, "0.0.0.0", 0, session(sid), TEARDOWN), FAIL_AUTH, "R13: without credentials")
        expect(request(NOOP, "0.0.0.0", 0, session(sid)), bytes.fromhex("0601000400090004"))
        text = D.text()
        for secret in ("wonder", "builder"):
            want(secret in text, False, "a password in the log")
        want("user=alice" in text, True)
        # a flood of bad passwords from one address: that address has to wait, others do not
        for _ in range(20):
            expect(request(NOOP, "0.0.0.0", 0, userpass("alice", "x")), bad, source="127.0.0.9")
        expect(request(NOOP, "0.0.0.0", 0, userpass("alice", "wonder")), bad, source="127.0.0.9")
        expect(request(NOOP, "0.0.0.0", 0, userpass("alice", "wonder")), good + noop_done)


def t_many_passwords():
    write_users(alice="wonder")
    results = []

    def one():
        results.append(code_of(request(CONNECT, PUBLIC4, 7001, userpass("alice", "wonder"))))
    with daemon(users=True):
        threads = [threading.Thread(target=one) for _ in range(100)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    want(results, [0] * 100)


def t_strangers():
    stranger = ["10.77.0.2", "10.77.0.1"]
    with daemon():
        with other_namespace():
            c = Client(request(NOOP), to=(stranger[1], PORT))
        with c:
            want(c.rest(), FAIL_AUTH, "a client from elsewhere")
        with Client(request(NOOP), to=(stranger[1], PORT)) as c:
            want(c.replies()[0], 0, "our own address")
        want("without a users file" in D.text(), True, "the log names the cure")
    write_users(alice="wonder")
    with daemon(users=True):
        with other_namespace():
            c = Client(request(NOOP, "0.0.0.0", 0, userpass("alice", "wonder")), to=(stranger[1], PORT))
        with c:
            want(c.replies()[0], 0)


def t_stranger_lines():
    def lines(reason):
        return sum(f" reason={reason}" in l for l in D.text().split("\n"))
    with daemon(proxy="workers = 1") as d:
        for _ in range(60):
            with Client(b"GET / HTTP/1.1\r\n\r\n") as c:
                c.rest()
        for _ in range(30):
            want(code_of(request(NOOP)), 0)
        until("counted", lambda: d.control("status")["ended"] == {"version-mismatch": 60, "noop": 30})
        want(lines("version-mismatch"), 10, "lines of clients that never authenticated")
        want(lines("noop"), 30, "lines of those that did")


def t_reload():
    write_users(alice="wonder", bob="builder")
    with daemon(users=True) as d:
        sid = open_session(8, userpass("alice", "wonder"))[0]
        bob = open_session(8, userpass("bob", "builder"))[0]
        with Client(request(CONNECT, PUBLIC4, 7001, session(bob)) + b"1") as c:
            want((c.replies()[0], c.read(1)), (0, b"1"))
            write_users(bob="builder", carol="new")  # bob's hash has another salt now
            d.p.send_signal(signal.SIGHUP)
            until("reloaded", lambda: "are gone" in d.text())
            expect(request(NOOP, "0.0.0.0", 0, session(sid)), bytes.fromhex("0601000400090004"),
                   "the session of a user who was removed")
            want(code_of(request(NOOP, "0.0.0.0", 0, userpass("carol", "new"))), 0)
            c.send(b"2")
            want(c.read(1), b"2", "a live connection stays")
        d.write(proxy="idle = 1", users=True)
        try:
            d.control("reload")
            raise Wrong("a bad configuration was taken")
        except Wrong as e:
            want("configuration is bad: " in str(e) and "[proxy] idle: " in str(e), True, str(e))
        want("idle" in d.text(), True, "the error is logged")
        want(code_of(request(NOOP, "0.0.0.0", 0, userpass("carol", "new"))), 0)
        d.write(proxy="mptcp = no", users=True, acl="allow = 127.0.0.0/8")
        want("mptcp" in d.control("reload")["result"], True, "names what needs a restart")
        want(code_of(request(CONNECT, "127.0.0.1", 7001, userpass("carol", "new"))), 0, "new acl")


# ---- tests: limits ----

def t_slow():
    with daemon(proxy="request_timeout = 1s\nwaiting_timeout = 1s"):
        idle = [Client() for _ in range(100)]
        trickle = Client()
        start = time.monotonic()
        data = request(CONNECT, PUBLIC4, 7001)
        sent = 0
        while time.monotonic() - start < 5:
            with contextlib.suppress(OSError):
                if sent < len(data) - 1:
                    trickle.send(data[sent:sent + 1])
                    sent += 1
            if select.select([trickle.s], [], [], 0.2)[0]:
                break
        want(0.8 < time.monotonic() - start < 3, True, "closed in time")
        for c in idle:
            want(c.rest(), b"")
            c.s.close()
        trickle.s.close()
        want(code_of(data), 0)
        want(D.control("status")["ended"]["request-timeout"], 101)


def t_limits():
    def refused(**kw):
        return code_of(request(NOOP), **kw) == 1
    with daemon(proxy="max_per_client = 5\nmax_clients = 8"):
        held = [Client(b"\x06") for _ in range(5)]
        until("five clients", lambda: D.control("status")["clients"] == 5)
        want(refused(), True, "the sixth of one address")
        held += [Client(b"\x06", source="127.0.0.2") for _ in range(3)]
        until("eight clients", lambda: D.control("status")["clients"] == 8)
        want(refused(source="127.0.0.3"), True, "the ninth")
        until("counted", lambda: D.control("status")["ended"].get("limit") == 2)
        held.pop(0).s.close()
        until("room again", lambda: not refused())
        for c in held:
            c.s.close()


def t_waiting():
    """Connections that are kept ready: they wait longer than a request may take, are counted apart, are
    few, and give way."""
    with daemon(proxy="request_timeout = 1s\nwaiting_timeout = 4s\nmax_per_client = 12\nmax_clients = 16"):
        waiting = lambda: D.control("status")["clients_waiting"]
        start = time.monotonic()
        held = []
        for n in range(1, 6):
            held.append(Client())
            until("one more waits", lambda n=n: waiting() == n)
        want([f["state"] for f in D.control("flows")["flows"]], ["waiting"] * 5)
        until("a quarter of twelve may wait for long", lambda: waiting() == 3)
        want(0.8 < time.monotonic() - start < 2.5, True, "the others as long as for a request")
        # the first octet starts the time for the request
        held[0].send(request(NOOP)[:1])
        until("one has spoken", lambda: waiting() == 2)
        want(D.control("status")["clients"], 3)
        until("it has not gone on", lambda: D.control("status")["clients"] == 2)
        want(time.monotonic() - start < 3.8, True, "sooner than those that wait")
        # one that has waited serves as well as a new one
        held[1].send(request(NOOP))
        want(len(held[1].rest()) > 0, True, "served after a wait")
        until("the last one is ended", lambda: D.control("status")["clients"] == 0)
        want(3.5 < time.monotonic() - start < 6, True, "in time")
        for c in held:
            c.s.close()
    def served():
        try:
            return code_of(request(NOOP)) == 0
        except (ConnectionError, Wrong):
            return False
    # an address at its limit: what waits gives way, oldest first, what works does not
    with daemon(proxy="max_per_client = 8\nmax_clients = 100"):
        busy = [Client(b"\x06") for _ in range(6)]
        idle = [Client() for _ in range(2)]
        until("all are there", lambda: D.control("status")["clients"] == 8)
        time.sleep(1.2)
        for left in (1, 0): # a worker makes room at its own clients only: try until it is the right one
            until("there is room", served)
            until("one less waits", lambda left=left: D.control("status")["clients_waiting"] == left)
            # while the served one is still counted another one would be refused
            until("the served one has gone", lambda: D.control("status")["clients"] == 7)
            busy.append(Client(b"\x06"))
            until("another one has come", lambda: D.control("status")["clients"] == 8)
        want(served(), False, "nobody is left to give way")
        until("the refused one has gone", lambda: D.control("status")["clients"] == 8)
        for c in busy + idle:
            c.s.close()


def t_descriptors_run_out():
    with daemon() as d:
        hard = resource.prlimit(d.p.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(d.p.pid, resource.RLIMIT_NOFILE, (d.descriptors() + 20, hard))
        held = [Client() for _ in range(60)]
        until("the log says so", lambda: "cannot accept" in d.text())
        before = cpu_s(d.p.pid)
        time.sleep(1.0)
        want(cpu_s(d.p.pid) - before < 0.3, True, "no spinning")
        for c in held:
            c.s.close()
        until("serves again", lambda: code_of(request(NOOP)) == 0)


def t_excess():
    """Far more connections than are served or told so: nobody waits for others' patience, what asks at
    once is answered, however many say nothing."""
    with daemon(proxy="max_clients = 4\nworkers = 1\nrequest_timeout = 60s\nwaiting_timeout = 60s") as d:
        held = [Client(b"\x06") for _ in range(4)]
        until("full", lambda: d.control("status")["clients"] == 4)
        silent = [Client() for _ in range(200)]
        until("the oldest have given way", lambda: d.control("status")["clients"] <= 4 + 64)
        start = time.monotonic()
        for _ in range(20):
            want(code_of(request(CONNECT, PUBLIC4, 7001)), 1, "answered")
        want(time.monotonic() - start < 1.5, True, "at once")
        for c in held + silent:
            c.s.close()
        until("all gone", lambda: d.control("status")["clients"] == 0)
        want(code_of(request(CONNECT, PUBLIC4, 7001)), 0, "serves again")


def abort(c):
    c.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.s.close()


def t_no_count_leaks():
    """10,000 connections that are given up, in every state: limits as tight as they are held afterwards
    show that none was counted for good."""
    write_users(alice="wonder")
    with daemon(users=True, proxy="max_clients = 70\nmax_per_client = 60\nmax_per_user = 50\n"
                                  "connect_timeout = 30s") as d:
        sid = open_session(8, userpass("alice", "wonder"))[0]
        d.idle()
        before = d.descriptors()

        def before_request():
            abort(Client())

        def in_request():
            abort(Client(request(CONNECT, PUBLIC4, 7001, session(sid))[:9]))

        def in_auth():
            abort(Client(request(CONNECT, PUBLIC4, 7001, userpass("alice", "wonder"))))

        def failed_auth():
            expect(request(NOOP, "0.0.0.0", 0, session(bytes(16))), bytes.fromhex("0601000400090004"))

        def at(host, port, wait):
            def one():
                c = Client(request(CONNECT, host, port, session(sid)) + b"x")
                want(c.auth()[0], 0)
                if wait:
                    c.op()
                abort(c)
            return one

        kinds = {"before the request": before_request, "in the request": in_request, "in auth": in_auth,
                 "after failed auth": failed_auth, "in resolve": at("silent.test", 80, False),
                 "in connect": at(DARK4, 80, False), "refused": at(PUBLIC4, 9, True),
                 "in relay": at(PUBLIC4, 7001, True)}
        for what, one in kinds.items():
            for _ in range(10000 // len(kinds)):
                with contextlib.suppress(ConnectionError):
                    one()
            until(f"{what}: none is left", lambda: d.control("status")["clients"] == 0)
            status = d.control("status")
            want(status["budget"]["flows"], 0, f"{what}: budget")
            row, = status["by_user"] or [{"user": "alice", "clients": 0}]
            want((row["user"], row["clients"]), ("alice", 0), what)
        want(d.control("status")["counters"]["accepted"] >= 9900, True, "as many as that")
        until("descriptors", lambda: d.descriptors() <= before + 2, 5)
        held = [Client(request(CONNECT, PUBLIC4, 7001, session(sid))) for _ in range(50)]
        for c in held:
            want(c.replies()[0], 0, "the user's limit is whole")
        want(code_of(request(CONNECT, PUBLIC4, 7001, session(sid))), 1, "the next one of this user")
        row, = d.control("status")["by_user"]
        want((row["clients"], row["refused"] >= 1), (50, True), "counted by user")
        others = [Client(b"\x06") for _ in range(10)]
        until("the address's limit is whole", lambda: d.control("status")["clients"] == 60)
        want(code_of(request(NOOP, "0.0.0.0", 0, session(sid))), 1, "the next one of this address")
        other = [Client(b"\x06", source="127.0.0.7") for _ in range(10)]
        until("the limit in all is whole", lambda: d.control("status")["clients"] == 70)
        want(code_of(request(NOOP, "0.0.0.0", 0, session(sid)), source="127.0.0.8"), 1, "in all")
        for c in held + others + other:
            c.s.close()


def t_prefix():
    """Addresses of one /64 count together, those of another do not."""
    for n in range(1, 8):
        run("ip", "addr", "add", f"2a00:1::{n}/128", "dev", "lo")
    run("ip", "addr", "add", "2a00:1:0:1::1/128", "dev", "lo")
    with daemon(proxy="max_per_client = 5") as d:
        to = ("2a00:1::7", PORT)
        held = [Client(b"\x06", to=to, source=f"2a00:1::{n}") for n in range(1, 6)]
        until("five clients", lambda: d.control("status")["clients"] == 5)
        want(code_of(request(NOOP), to=to, source="2a00:1::6"), 1, "the sixth of this /64")
        want(code_of(request(NOOP), to=to, source="2a00:1:0:1::1"), 0, "of another /64")
        for c in held:
            c.s.close()


def rss_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(next(l.split()[1] for l in f if l.startswith("VmRSS")))


def pour(c):
    """To one who does not read."""
    block = bytes(65536)
    while True:
        c.sendall(block)


def t_slow_readers():
    """A thousand clients that do not read what they have asked for, and servers that do not: within the
    budget; new requests are told to go elsewhere; then it is as before."""
    Server("0.0.0.0", 7010, pour)
    enough = threading.Event()
    Server("0.0.0.0", 7011, lambda c: enough.wait(120))
    with daemon(proxy="memory = 16 MiB\nmax_per_client = 3000") as d:
        budget = lambda: d.control("status")["budget"]
        want(budget()["memory_max"], 16 << 20, "shown at the start")
        want("16 MiB" in d.text(), True, "and logged")
        want(code_of(request(CONNECT, PUBLIC4, 7001)), 0)
        d.idle()
        before, most, codes, held = rss_kb(d.p.pid), 0, [], []
        for n in range(1000):
            c = Client(request(CONNECT, PUBLIC4, 7010 + n % 2))
            held.append(c)
            with contextlib.suppress(ConnectionError):
                codes.append(c.replies()[0])
                if n % 2 and codes[-1] == 0:  # to a server that does not read
                    c.s.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            c.s.send(bytes(65536))
            if n % 20 == 0:
                most = max(most, budget()["memory"])
        want(set(codes) == {0, 1}, True, f"some are served, some are told so: {sorted(set(codes))}")
        until("memory is short", lambda: budget()["state"] == "memory", 5)
        want(most < 24 << 20, True, f"the budget is kept: {most}")
        grown = rss_kb(d.p.pid) - before
        print(f"# 1000 slow readers: {codes.count(0)} served, {codes.count(1)} refused, "
              f"{most >> 20} MiB at most, RSS {grown} kB more", flush=True)
        want(grown < (150 if "asan" in maps(d.p.pid) else 48) * 1024, True, f"memory: {grown} kB more")
        # what holds buffers without moving a byte is ended, idlest first, until there is room
        until("room again", lambda: budget()["state"] == "free", 60)
        want(D.control("status")["ended"]["budget"] > 0, True)
        want(code_of(request(CONNECT, PUBLIC4, 7001)), 0, "served again")
        enough.set()
        for c in held:
            c.s.close()


def maps(pid):
    with open(f"/proc/{pid}/maps", encoding="utf-8") as f:
        return f.read()


def t_dribble():
    """An octet a second is no progress: request_timeout counts for the whole request."""
    with daemon(proxy="request_timeout = 3s") as d:
        c = Client()
        start = time.monotonic()
        with contextlib.suppress(OSError):
            for x in request(CONNECT, PUBLIC4, 7001):
                c.send(bytes([x]))
                if select.select([c.s], [], [], 1)[0]:
                    break
        want(2.5 < time.monotonic() - start < 6, True, "cut in time")
        c.s.close()
        d.idle()
        want(d.control("status")["ended"]["request-timeout"], 1)


# ---- tests: restart and stop ----

INVALID = bytes.fromhex("0601000400090004")


def t_restart_sessions():
    """Sessions and tokens of a process that has ended mean nothing to the next."""
    with daemon():
        sid, base, _ = open_session()
        with Client(request(CONNECT, PUBLIC4, 7001, session(sid), spend(base)) + b"x") as c:
            want((c.replies()[0], c.read(1)), (0, b"x"))
    before = SERVERS[7001].count
    with daemon():
        expect(request(CONNECT, PUBLIC4, 7001, session(sid), spend(base)) + b"x", INVALID, "spent there")
        expect(request(CONNECT, PUBLIC4, 7001, session(sid), spend(base + 1)) + b"x", INVALID, "not spent")
        want(open_session()[0] != sid, True)
    want(SERVERS[7001].count, before, "nothing was executed")


def t_handover_sessions():
    """Handing over: a token spent at the one cannot be spent at the other, in both directions. What had
    connected before is served by the one it had connected to."""
    os.chmod(D.dir, 0o777)  # the successor is started by whom the proxy has become
    D.start("drain = 20s\nuser = nobody\n")
    try:
        old = D.control("status")["pid"]
        sid, base, _ = open_session()
        running = Client(request(CONNECT, PUBLIC4, 7001, session(sid), spend(base)) + b"x")
        want((running.replies()[0], running.read(1)), (0, b"x"))
        waiting = [Client() for _ in range(3)]
        until("they wait", lambda: D.control("status")["clients_waiting"] == 3)
        D.control("restart")
        until("a successor", lambda: successor(old))
        new = D.control("status")["pid"]
        before = SERVERS[7001].count
        for token in (base, base + 1):
            expect(request(CONNECT, PUBLIC4, 7001, session(sid), spend(token)) + b"x", INVALID, "replayed")
        want(SERVERS[7001].count, before, "nothing was executed")
        mine, first, _ = open_session()
        waiting[0].send(request(CONNECT, PUBLIC4, 7001, session(sid), spend(base)) + b"y")
        want(waiting[0].auth()[0], 1, "spent already")
        waiting[1].send(request(CONNECT, PUBLIC4, 7001, session(sid), spend(base + 1)) + b"y")
        want((waiting[1].replies()[0], waiting[1].read(1)), (0, b"y"), "served by the old one")
        waiting[2].send(request(CONNECT, PUBLIC4, 7001, session(mine), spend(first)) + b"y")
        want(waiting[2].rest(), INVALID, "the new one's session")
        expect(request(NOOP, "0.0.0.0", 0, session(sid), spend(base + 1)), INVALID, "spent at the old one")
        running.send(b"z")
        want(running.read(1), b"z", "what runs goes on")
        for c in waiting + [running]:
            c.s.close()
        want(D.p.wait(DEADLINE), 0, "the old one's exit code")
    finally:
        with contextlib.suppress(OSError, Wrong):
            os.kill(D.control("status")["pid"], signal.SIGTERM)
        if D.p.poll() is None:
            D.p.kill()
            D.p.wait()
    until("the successor has ended", lambda: not os.path.exists(f"/proc/{new}"))


def successor(old):
    with contextlib.suppress(OSError):
        return D.control("status")["pid"] != old
    return False


def t_graceful_stop():
    D.start("drain = 30s\n")
    d = D
    sid, base, _ = open_session()
    running = [Client(request(CONNECT, PUBLIC4, 7001) + b"x") for _ in range(3)]
    for c in running:
        want((c.replies()[0], c.read(1)), (0, b"x"))
    waiting = [Client() for _ in range(3)]
    half = Client(b"\x06")
    until("all are there", lambda: d.control("status")["clients"] == 7)
    d.p.send_signal(signal.SIGTERM)
    until("draining", lambda: d.control("status")["draining"])
    try:
        Client().s.close()
        raise Wrong("still listens")
    except ConnectionRefusedError:
        pass
    # what was accepted before is refused in a way that sends it elsewhere
    before = SERVERS[7001].count
    waiting[0].send(request(CONNECT, PUBLIC4, 7001, session(sid), spend(base)) + b"x")
    want(waiting[0].replies()[0], 1, "a request now")
    half.send(request(CONNECT, PUBLIC4, 7001)[1:])
    want(half.replies()[0], 1, "half a request before")
    want(SERVERS[7001].count, before, "nothing was executed")
    for c in waiting[1:]:
        want(c.rest(), b"", "a clean close of one that says nothing")
    for c in running:
        c.send(b"y")
        want(c.read(1), b"y", "what runs goes on")
    want(d.p.poll(), None, "it waits for them")
    running.pop().s.close()
    d.p.send_signal(signal.SIGTERM)
    start = time.monotonic()
    want(d.p.wait(DEADLINE), 0, "exit code")
    want(time.monotonic() - start < 5, True, "a second signal ends at once")
    for c in running + waiting + [half]:
        c.s.close()
    # without a second one it ends with the last connection
    D.start("drain = 30s\n")
    last = Client(request(CONNECT, PUBLIC4, 7001) + b"x")
    want((last.replies()[0], last.read(1)), (0, b"x"))
    d.p.send_signal(signal.SIGTERM)
    until("draining", lambda: d.control("status")["draining"])
    last.s.close()
    want(d.p.wait(DEADLINE), 0)


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def t_many():
    """1000 parallel connections, thrice; then nothing is left."""
    with daemon() as d:
        want(code_of(request(CONNECT, PUBLIC4, 7001)), 0)
        d.idle()
        before = d.descriptors()
        for _ in range(3):
            clients = [Client(request(CONNECT, PUBLIC4, 7001) + b"ping") for _ in range(1000)]
            for c in clients:
                want((c.replies()[0], c.read(4)), (0, b"ping"))
            want(len(d.control("flows")["flows"]), 1000)
            for c in clients:
                c.s.close()
            d.idle()
        want(d.descriptors(), before, "descriptors")


def t_client_leaves():
    with daemon(proxy="connect_timeout = 30s") as d:
        d.idle()
        before = d.descriptors()
        for host in (DARK4, DARK6, "darksix.test", "silent.test"):
            for _ in range(20):
                c = Client(request(CONNECT, host, 80, octet(HAPPY, 2)))
                want(c.auth()[0], 0)
                c.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                c.s.close()
        d.idle()
        until("attempts are given up", lambda: d.descriptors() <= before + 2 * 2, 5)


# ---- tests: the rest ----

def t_mptcp_and_tfo_clients():
    with daemon() as d:
        for to in ("127.0.0.1", "::1"):
            with Client(request(CONNECT, PUBLIC4, 7001) + b"a", to=(to, PORT), mptcp=True) as c:
                want((c.replies()[0], c.read(1)), (0, b"a"))
                flow, = d.control("flows")["flows"]
                want((flow["mptcp"], flow["subflows"], flow["tfo"], flow["state"],
                      flow["destination"], flow["bytes_up"], flow["bytes_down"]),
                     (True, 1, False, "relay", f"{PUBLIC4}:7001", 1, 1))
            d.idle()
            for mptcp in (False, True):
                Client(request(NOOP), to=(to, PORT), mptcp=mptcp, tfo=True).s.close()  # the cookie
                d.idle()
                with Client(request(CONNECT, PUBLIC4, 7001) + b"a", to=(to, PORT), mptcp=mptcp,
                            tfo=True) as c:
                    want((c.replies()[0], c.read(1)), (0, b"a"))
                    flow, = d.control("flows")["flows"]
                    want((flow["mptcp"], flow["tfo"]), (mptcp, True))
                d.idle()
        want("mptcp=yes subflows=1 tfo=yes" in d.text(), True, "the log line")
    with daemon(proxy="mptcp = no\ntfo = no") as d:
        row, = d.control("status")["listeners"]
        want((row["mptcp"], row["tfo"]), (False, False))
        with Client(request(CONNECT, PUBLIC4, 7001) + b"a", mptcp=True) as c:
            want(c.replies()[0], 0)
            want(c.s.getsockopt(socket.IPPROTO_TCP, TCP_IS_MPTCP), 0)


def t_control():
    with daemon() as d:
        code_of(request(CONNECT, PUBLIC4, 9))
        d.idle()
        status = d.control("status")
        want((status["schema"], status["daemon"], status["workers"], status["clients"]),
             ("sixpath/1", "sixpath-proxy", 2, 0))
        want(status["counters"]["accepted"], 1)
        want(status["ended"], {"connect-failed": 1})
        want(list(status["replies"].values()), [1])
        want("accepted" in d.control("status", as_json=False), True)
        d.p.send_signal(signal.SIGUSR1)
        until("status in the log", lambda: "status: clients=0" in d.text())


def t_stop_when_busy():
    with daemon() as d:
        clients = [Client(request(CONNECT, PUBLIC4, 7001)) for _ in range(20)]
        clients += [Client(request(CONNECT, DARK4, 80)), Client(request(CONNECT, "silent.test", 80)),
                    Client(), Client(b"\x06")]
        until("all are there", lambda: d.control("status")["clients"] == 24)
        d.stop()
        for c in clients:
            with contextlib.suppress(OSError):
                c.rest()
            c.s.close()
        d.start()


def t_second_instance():
    with daemon():
        p = subprocess.run([D.program, "-f", "-c", D.conf], capture_output=True, text=True, timeout=20,
                           check=False)
        want((p.returncode, "another proxy" in p.stderr), (69, True), p.stderr[-300:])


BAD_VALUES = (
    "listen = ", "listen = 1.2.3.4", "listen = [::]:70000", "mptcp = maybe", "tfo = 3", "workers = 0",
    "workers = 257", "log = loud", "log_to = printer", "control = relative", "session_ttl = 9",
    "session_ttl = 31d", "token_window = 7", "token_window = 65537", "request_timeout = 0",
    "request_timeout = 301", "waiting_timeout = 0", "waiting_timeout = 3601", "connect_timeout = 0.5", "idle = 9", "max_clients = 0",
    "max_clients = 1000001", "max_per_client = 0", "max_sessions = 0", "max_sessions_per_user = 0",
    "max_sessions_per_user = x", "memory = 3 MiB", "memory = much", "repeat_session_id = 2", "idle = 30\nidle = 40", "user =")


def check_conf(text):
    with open(D.conf, "w", encoding="ascii") as f:
        f.write(text)
    return subprocess.run([D.program, "-t", "-c", D.conf], capture_output=True, text=True, timeout=20,
                          check=False)


def t_configuration():
    for bad in BAD_VALUES:
        p = check_conf(f"# one\n[proxy]\n{bad}\n")
        line = 2 + len(bad.split("\n"))
        where = f"{D.conf}:{line}: [proxy] {bad.split(' ')[0]}: "
        want((p.returncode, p.stderr.startswith(where)), (1, True), f"{bad}: {p.stderr}")
    for bad, word in (("[acl]\nallow = 10.0.0.0/33", "allow"), ("[acl]\ndeny = x", "deny"),
                      ("[auth]\nusers = relative", "users"), ("[auth]\nusers = /no/such/file", "users"),
                      ("[proxy]\nlisen = 1080", "listen"), ("[proxies]\nlog = info", "proxy"),
                      ("[proxy]\nmetrics = 1", "metrics")):
        p = check_conf(bad + "\n")
        want((p.returncode, word in p.stderr, p.stderr.startswith(D.conf + ":")), (1, True, True),
             f"{bad}: {p.stderr}")
    for users in ("alice", "alice:wonder", ":$6$a$b", "alice:$6$a$b\nalice:$6$a$c", "a:" + "x" * 13):
        with open(D.users, "w", encoding="ascii") as f:
            f.write(users + "\n")
        p = check_conf(f"[auth]\nusers = {D.users}\n")
        want(p.returncode, 1, users)
        want("wonder" in p.stderr, False, "a password in an error")
    sample = os.path.join(os.path.dirname(__file__), "../../etc/proxy.conf")
    with open(sample, encoding="utf-8") as f:
        text = f.read()
    for full in (text, "\n".join(l.removeprefix(";") if "=" in l and not l.startswith("; ") else l
                                 for l in text.split("\n"))):
        p = check_conf(full)
        want((p.returncode, "OK" in p.stdout), (0, True), p.stderr)
    want(subprocess.run([D.program, "-V"], capture_output=True, check=False).returncode, 0)
    want(subprocess.run([D.program, "-x"], capture_output=True, check=False).returncode, 64)


# ---- the rig ----

def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def own_namespace():
    if LIBC.unshare(CLONE_NEWNET) != 0:
        sys.exit("needs root: cannot make a network namespace")
    run("ip", "link", "set", "lo", "up")
    for addr in (PUBLIC4, PUBLIC6):
        run("ip", "addr", "add", addr, "dev", "lo")
    run("ip", "link", "add", "dark0", "type", "veth", "peer", "name", "dark1")
    run("ip", "link", "set", "dark0", "up")
    run("ip", "link", "set", "dark1", "up")
    for addr in (DARK4, DARK6):  # to a machine that is not there
        run("ip", "route", "add", addr, "dev", "dark0", "src", PUBLIC6 if ":" in addr else PUBLIC4)
        run("ip", "neigh", "add", addr, "lladdr", "02:00:00:00:00:99", "dev", "dark0")
    for name, value in (("net/ipv4/tcp_fastopen", "3"), ("net/mptcp/enabled", "1")):
        with open(f"/proc/sys/{name}", "w", encoding="ascii") as f:
            f.write(value)


def second_namespace():
    """A process whose namespace is at the other end of a cable."""
    p = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
    mine = os.readlink("/proc/self/ns/net")
    until("second namespace", lambda: os.readlink(f"/proc/{p.pid}/ns/net") != mine)
    run("ip", "link", "add", "cable0", "type", "veth", "peer", "name", "cable1", "netns", str(p.pid))
    run("ip", "addr", "add", "10.77.0.1/24", "dev", "cable0")
    run("ip", "link", "set", "cable0", "up")
    enter = ("nsenter", "-t", str(p.pid), "-n", "ip")
    run(*enter, "addr", "add", "10.77.0.2/24", "dev", "cable1")
    run(*enter, "link", "set", "cable1", "up")
    return p


@contextlib.contextmanager
def other_namespace():
    """For this thread; sockets stay where they were made."""
    back = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/proc/{NEIGHBOUR.pid}/ns/net", os.O_RDONLY)
    LIBC.setns(there, CLONE_NEWNET)
    try:
        yield
    finally:
        LIBC.setns(back, CLONE_NEWNET)
        os.close(back)
        os.close(there)


def main():
    global D, SERVERS, NEIGHBOUR
    names = sys.argv[2:] or [n[2:] for n in globals() if n.startswith("t_")]
    program = os.path.abspath(sys.argv[1])
    own_namespace()
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    SERVERS = {}
    for port, handler, kw in ((7001, echo, {}), (7002, speak_first, {}), (7003, count_then_answer, {}),
                              (7004, reset, {}), (7005, echo, {"mptcp": True}), (7006, echo, {"tfo": True})):
        SERVERS[port] = Server("0.0.0.0", port, handler, **kw)
        Server("::", port, handler, **kw)
    name_server(5353)
    D, NEIGHBOUR, failed = Daemon(program), second_namespace(), 0
    try:
        for name in names:
            try:
                globals()["t_" + name]()
                print(f"ok {name}", flush=True)
            except Exception as e:  # pylint: disable=broad-except
                failed += 1
                print(f"not ok {name}: {type(e).__name__}: {e}".replace("\n", " | "), flush=True)
                if D.p and D.p.poll() is None:
                    D.p.kill()
                    D.p.wait()
    finally:
        NEIGHBOUR.kill()
        NEIGHBOUR.wait()
        if os.environ.get("KEEP_LOG") and os.path.exists(D.log):
            shutil.copy(D.log, os.environ["KEEP_LOG"])
        shutil.rmtree(D.dir)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
