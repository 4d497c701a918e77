#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Stack options of CONNECT: what is asked for, answered, and seen on the wire.

stackoptions.py ask PROXY4 PROXY6 SERVER4 SERVER6   asks for each row; a line of JSON for each
stackoptions.py judge ANSWERS LEG1 LEG2             the captures as s6dissect.py lists them; prints
                                                    NAME <tab> VALUE <tab> WANTED
The server has TCP on port 80, TCP with Fast Open on 81, MPTCP on 82.
"""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from proxy_protocol import CONNECT, Client, octet, opt, request, stack, userpass  # noqa: E402

YES, NO = 2, 1
TOS, EYES, TTL, NOFRAG, TFO, MPTCP = 0x0101, 0x8102, 0x0103, 0x0104, 0x8401, 0x8402
LEG1, LEG2, BOTH = 0x4000, 0x8000, 0xC000

# name; options; answers (code: value of 16 bits); what else: v6, mptcp (the client's leg), port, data,
# host; and on the wire: leg1, leg2 (fields of s6dissect.py's rows)
ROWS = [
    ("nothing asked for", [], {}, {"leg2": {"tos": 0, "ttl": 64, "df": True, "mptcp": False, "payload": 0}}),
    ("TOS, leg 2", [octet(TOS | LEG2, 0xB8)], {TOS | LEG2: 0xB800},
     {"leg2": {"tos": 0xB8}, "leg1": {"tos": 0}}),
    ("TOS, leg 1", [octet(TOS | LEG1, 0x28)], {TOS | LEG1: 0x2800},
     {"leg2": {"tos": 0}, "leg1": {"tos": 0x28}}),
    ("TOS, leg 3", [octet(TOS | BOTH, 0x48)], {TOS | BOTH: 0x4800},
     {"leg2": {"tos": 0x48}, "leg1": {"tos": 0x48}}),
    ("TOS, leg 3, IPv6", [octet(TOS | BOTH, 0x48)], {TOS | BOTH: 0x4800},
     {"v6": True, "leg2": {"tos": 0x48}, "leg1": {"tos": 0x48}}),
    ("TOS, leg 3, MPTCP from the client", [octet(TOS | BOTH, 0x48)], {TOS | BOTH: 0x4800},
     {"mptcp": True, "leg2": {"tos": 0x48}, "leg1": {"tos": 0x48}}),
    ("TOS and Multipath, to a server with MPTCP", [octet(TOS | LEG2, 0x88), octet(MPTCP, YES)],
     {TOS | LEG2: 0x8800, MPTCP: YES << 8}, {"port": 82, "leg2": {"tos": 0x88, "mptcp": True}}),
    ("TTL, leg 2", [octet(TTL | LEG2, 17)], {TTL | LEG2: 17 << 8},
     {"leg2": {"ttl": 17}, "leg1": {"ttl": 64}}),
    ("TTL, leg 1", [octet(TTL | LEG1, 33)], {TTL | LEG1: 33 << 8},
     {"leg2": {"ttl": 64}, "leg1": {"ttl": 33}}),
    ("TTL, leg 3, IPv6", [octet(TTL | BOTH, 9)], {TTL | BOTH: 9 << 8},
     {"v6": True, "leg2": {"ttl": 9}, "leg1": {"ttl": 9}}),
    ("TTL 0 is none: the one in use is told", [octet(TTL | LEG2, 0)], {TTL | LEG2: 64 << 8},
     {"leg2": {"ttl": 64}}),
    ("TTL and Multipath: MPTCP has the kernel's, and says so",
     [octet(TTL | LEG2, 17), octet(MPTCP, YES)], {TTL | LEG2: 64 << 8, MPTCP: YES << 8},
     {"port": 82, "leg2": {"ttl": 64, "mptcp": True}}),
    ("fragments allowed, leg 2", [octet(NOFRAG | LEG2, NO)], {NOFRAG | LEG2: NO << 8},
     {"leg2": {"df": False}, "leg1": {"df": True}}),
    ("fragments unwanted, leg 2", [octet(NOFRAG | LEG2, YES)], {NOFRAG | LEG2: YES << 8},
     {"leg2": {"df": True}}),
    ("fragments allowed, leg 3", [octet(NOFRAG | BOTH, NO)], {NOFRAG | BOTH: NO << 8},
     {"leg2": {"df": False}, "leg1": {"df": False}}),
    ("fragments unwanted, leg 3", [octet(NOFRAG | BOTH, YES)], {NOFRAG | BOTH: YES << 8},
     {"leg2": {"df": True}, "leg1": {"df": True}}),
    ("fragments, as draft -10 asks", [octet(NOFRAG | LEG2, 0)], {NOFRAG | LEG2: YES << 8},
     {"leg2": {"df": True}}),
    ("fragments allowed, MPTCP: they are not, and that is said",
     [octet(NOFRAG | LEG2, NO), octet(MPTCP, YES)], {NOFRAG | LEG2: YES << 8, MPTCP: YES << 8},
     {"port": 82, "leg2": {"df": True, "mptcp": True}}),
    ("a cookie for Fast Open", [stack(TFO, 0)], {TFO: 0}, {"port": 81, "data": b"GET", "leg2": {"payload": 0}}),
    ("Fast Open", [stack(TFO, 0)], {TFO: 20}, {"port": 81, "data": b"x" * 20, "leg2": {"payload": 20}}),
    ("Fast Open of at most 5 octets", [stack(TFO, 5)], {TFO: 5},
     {"port": 81, "data": b"x" * 20, "leg2": {"payload": 5}}),
    ("Fast Open with nothing to say", [stack(TFO, 0)], {TFO: 0}, {"port": 81, "leg2": {"payload": 0}}),
    ("Fast Open is not asked for", [], {}, {"port": 81, "data": b"x" * 20, "leg2": {"payload": 0}}),
    ("Fast Open to a server that does not take it", [stack(TFO, 0)], {TFO: 0},
     {"data": b"x" * 20, "leg2": {"payload": 20}}),
    ("Multipath", [octet(MPTCP, YES)], {MPTCP: YES << 8}, {"port": 82, "leg2": {"mptcp": True}}),
    ("Multipath to a server without", [octet(MPTCP, YES)], {MPTCP: NO << 8}, {"leg2": {"mptcp": True}}),
    ("Multipath unwanted", [octet(MPTCP, NO)], {MPTCP: NO << 8}, {"port": 82, "leg2": {"mptcp": False}}),
    ("Multipath is not asked for", [], {}, {"port": 82, "leg2": {"mptcp": False}}),
    ("Happy Eyeballs with a name", [octet(EYES, YES)], {EYES: YES << 8}, {"host": "www.a.test"}),
    ("a name without Happy Eyeballs", [octet(EYES, NO)], {EYES: NO << 8}, {"host": "www.a.test"}),
    ("Happy Eyeballs with an address", [octet(EYES, YES)], {}, {}),
    ("one that is repeated: the first counts", [octet(TOS | LEG2, 0x20), octet(TOS | LEG2, 0x40)],
     {TOS | LEG2: 0x2000}, {"leg2": {"tos": 0x20}}),
    ("both legs, then another value for one", [octet(TOS | BOTH, 0x20), octet(TOS | LEG2, 0x40)],
     {TOS | BOTH: 0x2000}, {"leg2": {"tos": 0x20}, "leg1": {"tos": 0x20}}),
    ("one leg, then another value for both", [octet(TOS | LEG2, 0x40), octet(TOS | BOTH, 0x20)],
     {TOS | LEG2: 0x4000, TOS | LEG1: 0x2000}, {"leg2": {"tos": 0x40}, "leg1": {"tos": 0x20}}),
    ("an unknown code", [octet(0x8155, 1)], {}, {}),
    ("an unknown level", [octet(0x8201, 0x20)], {}, {"leg2": {"tos": 0}}),
    ("leg 0", [octet(TOS, 0x20)], {}, {"leg2": {"tos": 0}}),
    ("a leg that the option has not", [octet(MPTCP | LEG1, YES)], {}, {"port": 82, "leg2": {"mptcp": False}}),
    ("a value that there is not", [octet(MPTCP, 3)], {}, {"port": 82, "leg2": {"mptcp": False}}),
    ("too long a one", [opt(1, b"\x81\x01\x20\0\0\0\0\0")], {}, {"leg2": {"tos": 0}}),
    ("those of other commands", [stack(0x8403, 8), octet(0x8501, YES), stack(0x8502, 0x101)], {}, {}),
    ("all together", [octet(TOS | BOTH, 0x48), octet(TTL | LEG2, 17), octet(NOFRAG | LEG2, NO),
                      stack(TFO, 0), octet(MPTCP, NO)],
     {TOS | BOTH: 0x4800, TTL | LEG2: 17 << 8, NOFRAG | LEG2: NO << 8, TFO: 7, MPTCP: NO << 8},
     {"port": 81, "data": b"x" * 7,
      "leg2": {"tos": 0x48, "ttl": 17, "df": False, "payload": 7, "mptcp": False}}),
]


def ask(proxy4, proxy6, server4, server6):
    for name, options, _, more in ROWS:
        v6 = more.get("v6")
        host = more.get("host", server6 if v6 else server4)
        data = request(CONNECT, host, more.get("port", 80), userpass("home", "secret"), *options)
        data += more.get("data", b"")
        with Client(data, to=(proxy6 if v6 else proxy4, 1080), mptcp=more.get("mptcp", False)) as c:
            code, bind, _, found = c.replies()
            print(json.dumps({"name": name, "code": code, "local": c.s.getsockname()[1], "bind": bind[1],
                              "stack": {k[1]: v for k, v in found.items() if k[0:1] == (1,)}
                              if all(isinstance(k, tuple) for k in found) else str(found)}))


def seen(row, wanted):
    facts = {"tos": row["tos"], "ttl": row["ttl"], "df": row["df"], "payload": row["payload_len"],
             "mptcp": "mp_capable" in row["options"]}
    return {k: facts[k] for k in wanted}


def both(stack_options):
    """Option for each leg, as the specification has it: one for both is one for each."""
    out = {}
    for code, value in stack_options.items():
        for leg in (LEG1, LEG2):
            if int(code) & leg:
                out["%04x" % (int(code) & 0x3FFF | leg)] = value
    return dict(sorted(out.items()))


def judge(answers, leg1, leg2):
    rows = {r["name"]: r for r in map(json.loads, open(answers))}
    one = [json.loads(line) for line in open(leg1)]
    two = [json.loads(line) for line in open(leg2)]
    for name, _, stack_wanted, more in ROWS:
        r = rows.get(name)
        if not r:
            print(name, "no answer", "", sep="\t")
            continue
        print(name + ": answered", (r["code"], both(r["stack"])), (0, both(stack_wanted)), sep="\t")
        if "leg2" in more:
            syn = [seen(s, more["leg2"]) for s in two if s["sport"] == r["bind"] and s["syn"] and not s["ack"]]
            print(name + ": SYN to the server", syn[:1], [more["leg2"]], sep="\t")
        if "leg1" in more:
            # The last octets of the proxy's: its operation reply.
            data = [seen(s, more["leg1"]) for s in one
                    if s["sport"] == 1080 and s["dport"] == r["local"] and s["payload_len"]]
            print(name + ": reply to the client", data[-1:], [more["leg1"]], sep="\t")


if __name__ == "__main__":
    {"ask": ask, "judge": judge}[sys.argv[1]](*sys.argv[2:])
