#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists the TCP SYNs of a capture with their options and the SOCKSv6 request they carry.

    s6dissect.py [--dport PORT] [--sport PORT] [--payload] [--all] FILE.pcap
    s6dissect.py --udp [--port PORT] FILE.pcap

One JSON line for each SYN and SYN+ACK: --dport keeps those to this port, --sport those from it,
--payload those that carry payload; --all lists all other segments, too. With --udp one for each whole
UDP packet, from or to this port, with the message of an association that it may be. Written from the
specification and sharing no code with libsocks6, so that
tests compare two opinions. Passwords are shown by their length only.
"""
import argparse
import ipaddress
import json
import struct
import sys

ETHERTYPE = {0x0800: 4, 0x86DD: 6}
TCP, UDP = 6, 17
UDP_TYPES = {1: "init", 2: "confirm", 3: "datagram", 4: "error"}
UDP_ERRORS = {1: "network unreachable", 2: "host unreachable", 3: "ttl expired", 4: "too big"}
COMMANDS = {0: "noop", 1: "connect", 2: "bind", 3: "udp"}
STACK_NAMES = {(1, 1): "tos", (1, 2): "happy_eyeballs", (1, 3): "ttl", (1, 4): "no_fragmentation",
               (4, 1): "tfo", (4, 2): "multipath", (4, 3): "backlog",
               (5, 1): "udp_error", (5, 2): "port_parity"}
SIXTEEN_BITS = {"tfo", "backlog"}


class Malformed(Exception):
    pass


class Incomplete(Exception):
    pass


# ---- capture files ----

def read_pcap(f):
    """Yields link type, time in seconds, and octets of each packet."""
    head = f.read(24)
    if len(head) < 24:
        raise SystemExit("s6dissect: not a capture file")
    for order in "<>":
        magic = struct.unpack(order + "I", head[:4])[0]
        if magic in (0xA1B2C3D4, 0xA1B23C4D):
            break
    else:
        raise SystemExit("s6dissect: not a pcap file (pcapng is not supported)")
    ticks = 1e6 if magic == 0xA1B2C3D4 else 1e9
    link = struct.unpack(order + "I", head[20:24])[0] & 0xFFFF
    while len(record := f.read(16)) == 16:
        sec, frac, length, _ = struct.unpack(order + "IIII", record)
        data = f.read(length)
        if len(data) < length:
            return
        yield link, sec + frac / ticks, data


def ip_packet(link, data):
    """The IP packet in a captured frame, or None."""
    if link == 1 and len(data) > 14:
        proto, off = struct.unpack_from("!H", data, 12)[0], 14
        while proto in (0x8100, 0x88A8) and len(data) >= off + 4:
            proto, off = struct.unpack_from("!H", data, off + 2)[0], off + 4
    elif link == 113 and len(data) > 16:  # Linux "any" device
        proto, off = struct.unpack_from("!H", data, 14)[0], 16
    elif link == 276 and len(data) > 20:  # the same, version 2
        proto, off = struct.unpack_from("!H", data, 0)[0], 20
    elif link in (101, 12, 228, 229) and data:  # raw IP
        proto, off = {4: 0x0800, 6: 0x86DD}.get(data[0] >> 4, 0), 0
    else:
        return None
    return data[off:] if proto in ETHERTYPE else None


def tcp_segment(ip):
    """What the IP header says (TOS octet, TTL, DF), and the TCP segment, or None."""
    version = ip[0] >> 4
    if version == 4 and len(ip) >= 20:
        header, total, frag = (ip[0] & 15) * 4, *struct.unpack_from("!HxxH", ip, 2)
        if ip[9] != TCP or frag & 0x1FFF:
            return None
        src, dst = ip[12:16], ip[16:20]
        tos, ttl, df = ip[1], ip[8], bool(frag & 0x4000)
    elif version == 6 and len(ip) >= 40:
        header, total = 40, 40 + struct.unpack_from("!H", ip, 4)[0]
        if ip[6] != TCP:
            return None
        src, dst = ip[8:24], ip[24:40]
        tos, ttl, df = struct.unpack_from("!H", ip)[0] >> 4 & 255, ip[7], None
    else:
        return None
    segment = ip[header:total]
    if len(segment) < 20:
        return None
    return {"src": str(ipaddress.ip_address(src)), "dst": str(ipaddress.ip_address(dst)),
            "tos": tos, "ttl": ttl, "df": df}, segment


def udp_packet(ip):
    """What the IP header of an unfragmented UDP packet says, and its payload; or None."""
    version = ip[0] >> 4
    if version == 4 and len(ip) >= 20 and ip[9] == UDP:
        header, flags = (ip[0] & 15) * 4, struct.unpack_from("!H", ip, 6)[0]
        out = {"src": str(ipaddress.ip_address(ip[12:16])), "dst": str(ipaddress.ip_address(ip[16:20])),
               "tos": ip[1], "ttl": ip[8], "df": bool(flags & 0x4000)}
        if flags & 0x3FFF:
            return None
    elif version == 6 and len(ip) >= 40 and ip[6] == UDP:
        header = 40
        out = {"src": str(ipaddress.ip_address(ip[8:24])), "dst": str(ipaddress.ip_address(ip[24:40])),
               "tos": (ip[0] & 15) << 4 | ip[1] >> 4, "ttl": ip[7]}
    else:
        return None
    out["sport"], out["dport"], length = struct.unpack_from("!HHH", ip, header)
    return out, ip[header + 8:header + length]


# ---- TCP options ----

def mptcp_option(body):
    subtype = body[0] >> 4
    if subtype == 0:
        return "mp_capable", {"version": body[0] & 15, "flags": body[1] if len(body) > 1 else None,
                              "length": len(body) + 2}
    if subtype == 1:
        out = {"backup": bool(body[0] & 1), "id": body[1], "length": len(body) + 2}
        if len(body) == 10:
            out["token"] = body[2:6].hex()
        return "mp_join", out
    return "mptcp_%d" % subtype, {"length": len(body) + 2}


def tcp_options(raw):
    out = {}
    at = 0
    while at < len(raw) and raw[at] != 0:
        kind = raw[at]
        if kind == 1:
            at += 1
            continue
        if at + 1 >= len(raw) or raw[at + 1] < 2 or at + raw[at + 1] > len(raw):
            out["malformed"] = True
            break
        body = raw[at + 2:at + raw[at + 1]]
        if kind == 2 and len(body) == 2:
            out["mss"] = struct.unpack("!H", body)[0]
        elif kind == 3 and len(body) == 1:
            out["wscale"] = body[0]
        elif kind == 4:
            out["sack"] = True
        elif kind == 8:
            out["timestamps"] = True
        elif kind == 30 and body:
            name, value = mptcp_option(body)
            out[name] = value
        elif kind == 34:  # without octets it asks for a cookie
            out["fastopen"] = {"cookie_len": len(body), "cookie": body.hex()}
        else:
            out["kind_%d" % kind] = body.hex()
        at += len(body) + 2
    return out


# ---- SOCKSv6 ----

def take(data, at, n):
    if at + n > len(data):
        raise Incomplete
    return data[at:at + n]


def socks_address(data, at, kind):
    """Text and number of octets of an address field."""
    if kind == 1:
        return str(ipaddress.IPv4Address(take(data, at, 4))), 4
    if kind == 4:
        return str(ipaddress.IPv6Address(take(data, at, 16))), 16
    if kind == 3:
        length = take(data, at, 1)[0]
        return take(data, at + 1, length).rstrip(b"\0").decode("latin-1"), 1 + length
    raise Malformed("address type %d" % kind)


def stack_option(body, out):
    if len(body) < 2:
        raise Malformed("stack option of %d octets" % (len(body) + 4))
    leg, level, code = body[0] >> 6, body[0] & 63, body[1]
    name = STACK_NAMES.get((level, code), "unknown")
    if len(body) != 4:
        value = body[2:].hex()
    else:
        value = struct.unpack("!H", body[2:4])[0] if name in SIXTEEN_BITS else body[2]
    out["stack"].append({"leg": leg, "level": level, "code": code, "name": name, "value": value})


def auth_data(body, out):
    if not body or body[0] != 2:
        out["auth_data"].append({"method": body[0] if body else None})
        return
    try:
        ulen = body[2]
        user = body[3:3 + ulen]
        plen = body[3 + ulen]
        end = 4 + ulen + plen
        if body[1] != 1 or end > len(body) or any(body[end:]) or len(body) - end > 3:
            raise IndexError
    except IndexError:
        raise Malformed("username and password") from None
    out["auth_data"].append({"method": 2, "username": user.decode("latin-1"),
                             "password_len": plen})


def number(body, kind):
    if len(body) != 4:
        raise Malformed("option %d of %d octets" % (kind, len(body) + 4))
    return struct.unpack("!I", body)[0]


def socks_option(kind, body, out):
    if kind == 1:
        stack_option(body, out)
    elif kind == 2:
        if len(body) < 4:
            raise Malformed("method advertisement")
        out["initial_data_len"] = struct.unpack("!H", body[:2])[0]
        out["methods"] = [m for m in body[2:] if m]
    elif kind == 4:
        auth_data(body, out)
    elif kind == 5:
        out["session_request"] = True
    elif kind == 6:
        out["session_id"] = body.hex()
    elif kind == 10:
        out["session_teardown"] = True
    elif kind == 11:
        out["tokens_wanted"] = number(body, kind)
    elif kind == 13:
        out["token"] = number(body, kind)
    else:
        out["other_options"].append(kind)


def socks_request(data):
    """The request at the beginning of the octets, and what follows it."""
    out = {"stack": [], "auth_data": [], "other_options": []}
    version, command, options_len, port, padding, kind = struct.unpack("!BBHHBB", take(data, 0, 8))
    if version != 6:
        raise Malformed("version %d" % version)
    address, n = socks_address(data, 8, kind)
    out.update(command=COMMANDS.get(command, command), address=address, port=port,
               address_type=kind, padding=padding)
    at, end = 8 + n, 8 + n + options_len
    options = take(data, at, options_len)
    at = 0
    while at < options_len:
        if options_len - at < 4:
            raise Malformed("%d octets behind the last option" % (options_len - at))
        kind, length = struct.unpack_from("!HH", options, at)
        if length < 4 or length % 4 or length > options_len - at:
            raise Malformed("option %d has length %d" % (kind, length))
        socks_option(kind, options[at + 4:at + length], out)
        at += length
    rest = data[end:]
    out.update(request_len=end, data_len=len(rest), data=rest.hex(),
               data_text="".join(chr(c) if 32 <= c < 127 else "." for c in rest[:80]))
    return out


def socks(data):
    try:
        return socks_request(data)
    except Incomplete:
        return {"error": "incomplete"}
    except Malformed as e:
        return {"error": str(e)}


def udp_target(data, at):
    kind, padding, port = struct.unpack("!BBH", take(data, at, 4))
    address, n = socks_address(data, at + 4, kind)
    return {"address": address, "port": port, "address_type": kind, "padding": padding}, at + 4 + n


def udp_message(data):
    """A message of an association (section 8), all of whose octets are at hand."""
    version, kind, length = struct.unpack("!BBH", take(data, 0, 4))
    if version != 6 or length < 12:
        raise Malformed("version %d, length %d" % (version, length))
    body = take(data, 0, length)
    out = {"type": UDP_TYPES.get(kind, kind), "length": length, "association": body[4:12].hex(),
           "padding_behind": len(data) - length}
    if kind == 3:
        target, at = udp_target(body, 12)
        out.update(target, payload_len=length - at, data=body[at:].hex()[:64])
    elif kind == 4:
        target, at = udp_target(body, 12)
        rtype, code, zero = struct.unpack("!BBH", take(body, at, 4))
        reporter, n = socks_address(body, at + 4, rtype)
        out.update(target, error=UDP_ERRORS.get(code, code), reporter=reporter, zero=zero,
                   behind=body[at + 4 + n:].hex())
    return out


def describe_udp(when, facts, payload):
    try:
        message = udp_message(payload)
    except Incomplete:
        message = {"error": "incomplete"}
    except Malformed as e:
        message = {"error": str(e)}
    return {"time": round(when, 6), **facts, "payload_len": len(payload), "socks6": message}


# ---- the list ----

def describe(when, ip, seg):
    sport, dport, seq = struct.unpack_from("!HHI", seg, 0)
    header = (seg[12] >> 4) * 4
    if header < 20 or header > len(seg):
        return None
    payload = seg[header:]
    out = {"time": round(when, 6), "sport": sport, "dport": dport, **ip,
           "seq": seq, "ack": bool(seg[13] & 0x10), "options": tcp_options(seg[20:header]),
           "payload_len": len(payload), "syn": bool(seg[13] & 0x02)}
    if payload and out["syn"] and not out["ack"]:
        out["socks6"] = socks(payload)
    return out


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    args.add_argument("--dport", type=int)
    args.add_argument("--sport", type=int)
    args.add_argument("--payload", action="store_true")
    args.add_argument("--udp", action="store_true")
    args.add_argument("--port", type=int)
    args.add_argument("--all", action="store_true")
    args.add_argument("file")
    a = args.parse_args()
    with open(a.file, "rb") as f:
        for link, when, data in read_pcap(f):
            ip = ip_packet(link, data)
            if a.udp:
                found = udp_packet(ip) if ip else None
                if found and a.port in (None, found[0]["sport"], found[0]["dport"]):
                    print(json.dumps(describe_udp(when, *found)))
                continue
            found = tcp_segment(ip) if ip else None
            if not found or not (a.all or found[1][13] & 0x02):
                continue
            row = describe(when, *found)
            if row and a.dport in (None, row["dport"]) and a.sport in (None, row["sport"]) and \
                    (row["payload_len"] or not a.payload):
                print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
