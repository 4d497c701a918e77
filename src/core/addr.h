/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Socket addresses: parse, print, compare, hash, classify. struct addr is a plain
 * value; copy it freely. IPv4-mapped IPv6 addresses are unmapped by every
 * function that takes one from the kernel, so the family tells the truth.
 */
#ifndef SIXPATH_ADDR_H
#define SIXPATH_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct addr {
	socklen_t len; /* 0 = unset */
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} u;
};

#define ADDR_STRLEN 64 /* "[v6%scope]:port" and NUL */

/* Take a kernel's sockaddr, unmapping ::ffff:a.b.c.d. False for other families. */
bool addr_from_sockaddr(struct addr *a, const struct sockaddr *sa, socklen_t len);

/* "1.2.3.4:80", "[::1]:80"; numeric only. default_port < 0: a port is required. False if bad. */
bool addr_parse(struct addr *a, const char *text, int default_port);

/* Host without port, numeric only; the port becomes 0. */
bool addr_parse_ip(struct addr *a, const char *text);

/* Text with port into buf (ADDR_STRLEN suffices); returns buf. Unset prints "-". */
const char *addr_str(const struct addr *a, char *buf, size_t cap);
/* Text of the address alone, no brackets, no port. */
const char *addr_ip_str(const struct addr *a, char *buf, size_t cap);

static inline sa_family_t addr_family(const struct addr *a)
{
	return a->len ? a->u.sa.sa_family : AF_UNSPEC;
}

static inline uint16_t addr_port(const struct addr *a)
{
	if (addr_family(a) == AF_INET)
		return ntohs(a->u.in.sin_port);
	return addr_family(a) == AF_INET6 ? ntohs(a->u.in6.sin6_port) : 0;
}

void addr_set_port(struct addr *a, uint16_t port);
bool addr_equal(const struct addr *x, const struct addr *y);    /* address, port, scope */
bool addr_equal_ip(const struct addr *x, const struct addr *y); /* address only */
uint32_t addr_hash(const struct addr *a, uint32_t seed);        /* of address and port */
bool addr_is_any(const struct addr *a);

/* What is kept for long: octets without holes, ADDR_PACKED_V4 or ADDR_PACKED_V6 of them by its
 * family; zeros stand for an unset one. */
#define ADDR_PACKED_V4 6
#define ADDR_PACKED_V6 22
void addr_pack(const struct addr *a, uint8_t *out);
void addr_unpack(struct addr *a, sa_family_t family, const uint8_t *in);

/* The IPv6 form (mapping IPv4), for dual-stack sockets. */
void addr_map_v6(struct addr *out, const struct addr *a);

/* Address ranges that decide about access. */
enum addr_class {
	ADDR_PUBLIC,
	ADDR_LOOPBACK,
	ADDR_PRIVATE, /* RFC 1918, RFC 6598, fc00::/7, fec0::/10, 64:ff9b:1::/48 */
	ADDR_LINK_LOCAL,
	ADDR_MULTICAST,   /* and limited broadcast */
	ADDR_UNSPECIFIED, /* 0.0.0.0/8, :: */
	ADDR_RESERVED     /* 240/4, 192.0.0.0/24, 100::/64; documentation ranges are public */
};
enum addr_class addr_classify(const struct addr *a); /* looks into mapped, NAT64 and 6to4 forms */
const char *addr_class_str(enum addr_class c);

/* True if this machine answers to the address (asks the kernel's local routes). */
bool addr_is_local(const struct addr *a);

/* A CIDR prefix. */
struct prefix {
	struct addr base; /* port 0, host bits zero */
	uint8_t bits;
};
bool prefix_parse(struct prefix *p, const char *text); /* "10.0.0.0/8", "::1"; false if bad */
bool prefix_contains(const struct prefix *p, const struct addr *a);

/* Local and peer address of a socket: 0 or -errno. */
int addr_of_socket(int fd, struct addr *local);
int addr_of_peer(int fd, struct addr *peer);

#endif
