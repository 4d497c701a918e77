#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""An upstream that misbehaves, for tests of sixpath-redir.

    badproxy.py PORT MODE [--noop-ok]

MODE is what a client gets after its first bytes:
    mismatch      the single octet 06 (SOCKSv6 version mismatch), then close
    socks5        a SOCKS 5 answer
    garbage       octets that are no protocol at all
    silent        nothing, ever
    half          the first half of an authentication reply, then nothing
    half-close    the first half of an authentication reply, then close
    close         an orderly close without a word
    reset         a reset without a word
    auth-fail     a final authentication failure
    auth-garbage  authentication success with a malformed option
    session-invalid  session unknown, also where none was named
    auth-only     authentication success, then nothing
    auth-close    authentication success, then close
    op-garbage    authentication success, then an operation reply that is malformed
    op-general    authentication success, operation reply 01 (general failure)
    op-refused    authentication success, operation reply 05 (connection refused)
    flood         authentication reply followed by endless options
With --noop-ok, NOOP requests are answered properly with a session and a token window,
so that the redirector believes in the proxy until the first real connection.
Prints one JSON line per connection: {"n": 1, "octets": 123, "command": 1}.
"""
import json
import os
import selectors
import socket
import struct
import sys

SESSION = bytes(range(16))
AUTH_OK = bytes.fromhex("06000000")
OP_FAIL = "06%02x000000000001" + "00000000"


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def session_reply():
    opts = struct.pack("!HH", 6, 20) + SESSION + struct.pack("!HHII", 12, 12, 1000, 4096)
    return struct.pack("!BBH", 6, 0, len(opts)) + opts


def session_ok():
    opts = struct.pack("!HHHHIIHH", 8, 4, 12, 12, 1000, 4096, 14, 4)
    return struct.pack("!BBH", 6, 0, len(opts)) + opts


def answer(mode, s):
    """Send the answer. True when the connection is finished with."""
    if mode == "mismatch":
        s.sendall(b"\x06")
    elif mode == "socks5":
        s.sendall(bytes.fromhex("05000005000001000000000000"))
    elif mode == "garbage":
        s.sendall(b"\xde\xad\xbe\xefHTTP/1.1 400 Bad Request\r\n\r\n")
    elif mode == "silent":
        return False
    elif mode == "half":
        s.sendall(session_reply()[:9])
        return False
    elif mode == "half-close":
        s.sendall(session_reply()[:9])
    elif mode == "close":
        pass
    elif mode == "reset":
        reset(s)
        return True
    elif mode == "auth-fail":
        s.sendall(bytes.fromhex("06010000"))
    elif mode == "auth-garbage":
        s.sendall(bytes.fromhex("0600000800080008" "00000000"))
    elif mode == "session-invalid":
        s.sendall(bytes.fromhex("0601000400090004"))
    elif mode == "auth-only":
        s.sendall(session_ok())
        return False
    elif mode == "auth-close":
        s.sendall(session_ok())
    elif mode == "op-garbage":
        s.sendall(session_ok() + bytes.fromhex("0600fffd0000000100000000"))
    elif mode == "op-general":
        s.sendall(session_ok() + bytes.fromhex(OP_FAIL % 1))
    elif mode == "op-refused":
        s.sendall(session_ok() + bytes.fromhex(OP_FAIL % 5))
    elif mode == "flood":
        s.sendall(struct.pack("!BBH", 6, 0, 20476))
        for _ in range(4):
            s.sendall(struct.pack("!HH", 0xFC00, 8) * 700)
        return False
    else:
        sys.exit("unknown mode " + mode)
    s.shutdown(socket.SHUT_WR)
    return False


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    port, mode, noop_ok = int(sys.argv[1]), sys.argv[2], "--noop-ok" in sys.argv
    ls = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    ls.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ls.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    ls.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 64)
    ls.bind(("::", port))
    ls.listen(512)
    sel = selectors.DefaultSelector()
    sel.register(ls, selectors.EVENT_READ)
    seen = {}
    n = 0
    while True:
        for key, _ in sel.select():
            s = key.fileobj
            if s is ls:
                s, _ = ls.accept()
                s.settimeout(2)
                seen[s] = False
                sel.register(s, selectors.EVENT_READ)
                continue
            try:
                data = s.recv(65536)
                done = not data
                if data and not seen[s]:
                    seen[s] = True
                    n += 1
                    print(json.dumps({"n": n, "octets": len(data), "command": data[1] if len(data) > 1 else -1}),
                          flush=True)
                    if noop_ok and data[:2] == b"\x06\x00":
                        s.sendall(session_reply() + bytes.fromhex("060000000000000100000000"))
                    else:
                        done = answer(mode, s)
            except OSError:
                done = True
            if done:
                sel.unregister(s)
                del seen[s]
                if s.fileno() >= 0:
                    s.close()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        os._exit(0)
