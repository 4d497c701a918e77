#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A server whose sender has to repeat a segment together with the one before it.

repeater.py serve [--tfo] PORT ACK_NS:ACK_PORT DATA_NS:DATA_PORT
  sends lines to each client. In the middle, acknowledgements for ACK_PORT are lost on arrival in the
  one namespace, then data from DATA_PORT on arrival in the other: of two lines the first arrives and
  is not acknowledged, the second does not. What is sent again holds both: half of it is new.
repeater.py get [--mptcp] ADDRESS PORT
  prints what came, and how it ended, as JSON.
"""
import argparse
import json
import socket
import subprocess
import time

TABLE = "repeater"


def nft(ns, text):
    subprocess.run(["ip", "netns", "exec", ns, "nft", "-f", "-"], input=text, text=True, check=True)


def lose(ns, what):
    nft(ns, f"add rule inet {TABLE} input tcp {what} counter drop\n")


def prepare(ns):
    nft(ns, f"""add table inet {TABLE}
flush table inet {TABLE}
add chain inet {TABLE} input {{ type filter hook input priority 0; }}
""")


def lines(c, letter, n):
    for i in range(n):
        c.sendall(f"{letter}{i}\n".encode())
        time.sleep(0.05)


def dance(c, ack, data):
    (ack_ns, ack_port), (data_ns, data_port) = ack, data
    for ns in (ack_ns, data_ns):
        prepare(ns)
    lines(c, "before", 4)
    lose(ack_ns, f"dport {ack_port}")
    c.sendall(b"first\n")
    time.sleep(0.02)
    lose(data_ns, f"sport {data_port}")
    c.sendall(b"second\n")
    time.sleep(0.06)
    for ns in (ack_ns, data_ns):
        nft(ns, f"flush chain inet {TABLE} input\n")
    time.sleep(1.2)
    lines(c, "after", 4)


def serve(a):
    def place(text):
        ns, port = text.rsplit(":", 1)
        return ns, int(port)

    listener = socket.create_server(("::", a.port), family=socket.AF_INET6, dualstack_ipv6=True)
    if a.tfo:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
    print("ready", flush=True)
    while True:
        c, peer = listener.accept()
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            c.settimeout(5)
            c.recv(10)
            print(json.dumps({"peer": peer[0]}), flush=True)
            dance(c, place(a.ack), place(a.data))
        except OSError as e:
            print(json.dumps({"error": str(e)}), flush=True)
        c.close()


def get(a):
    family = socket.AF_INET6 if ":" in a.address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM, 262 if a.mptcp else 0)
    s.settimeout(12)
    got, end = b"", "eof"
    try:
        s.connect((a.address, a.port))
        s.sendall(b"go\n")
        while part := s.recv(4096):
            got += part
    except ConnectionResetError:
        end = "reset"
    except OSError as e:
        end = str(e)
    print(json.dumps({"end": end, "lines": len(got.split(b"\n")) - 1, "got": got.decode()}))


def main():
    p = argparse.ArgumentParser()
    sub = p.add_subparsers(dest="command", required=True)
    q = sub.add_parser("serve")
    q.add_argument("--tfo", action="store_true")
    q.add_argument("port", type=int)
    q.add_argument("ack")
    q.add_argument("data")
    q = sub.add_parser("get")
    q.add_argument("--mptcp", action="store_true")
    q.add_argument("address")
    q.add_argument("port", type=int)
    a = p.parse_args()
    serve(a) if a.command == "serve" else get(a)


main()
