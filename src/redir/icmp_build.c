/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/icmp_build.h"

#include <netinet/in.h>
#include <string.h>

#include "libsocks6/cursor.h"

#define IP4_HEADER  20
#define IP6_HEADER  40
#define ICMP_HEADER 8
#define UDP_HEADER  8
#define HOPS        64

static const struct {
	uint8_t type4, code4, type6, code6;
} rows[] = {
	[ICMP_NET_UNREACHABLE] = {3, 0, 1, 0},     [ICMP_HOST_UNREACHABLE] = {3, 1, 1, 3},
	[ICMP_PORT_IS_UNREACHABLE] = {3, 3, 1, 4}, [ICMP_PROHIBITED] = {3, 13, 1, 1},
	[ICMP_TTL_EXPIRED] = {11, 0, 3, 0},        [ICMP_TOO_BIG] = {3, 4, 2, 0},
};

uint32_t icmp_sum(uint32_t sum, const uint8_t *p, size_t len)
{
	size_t i = 0;

	for (; i + 1 < len; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	if (i < len)
		sum += (uint32_t)p[i] << 8;
	return sum;
}

static uint16_t folded(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void put_ip4(struct writer *w, const struct addr *src, const struct addr *dst,
		    uint8_t protocol, size_t len, uint8_t ttl)
{
	size_t at = w->len;

	write_u16(w, 0x4500);
	write_u16(w, (uint16_t)(IP4_HEADER + len));
	write_u32(w, 0); /* no fragment */
	write_u8(w, ttl);
	write_u8(w, protocol);
	write_u16(w, 0);
	write_bytes(w, &src->u.in.sin_addr, 4);
	write_bytes(w, &dst->u.in.sin_addr, 4);
	if (!w->full)
		write_u16_at(w, at + 10, folded(icmp_sum(0, w->start + at, IP4_HEADER)));
}

static void put_ip6(struct writer *w, const struct addr *src, const struct addr *dst,
		    uint8_t protocol, size_t len, uint8_t ttl)
{
	write_u32(w, 0x60000000);
	write_u16(w, (uint16_t)len);
	write_u8(w, protocol);
	write_u8(w, ttl);
	write_bytes(w, &src->u.in6.sin6_addr, 16);
	write_bytes(w, &dst->u.in6.sin6_addr, 16);
}

static void put_udp(struct writer *w, const struct icmp_wishes *e)
{
	write_u16(w, addr_port(&e->src));
	write_u16(w, addr_port(&e->dst));
	write_u16(w, (uint16_t)(UDP_HEADER + e->len));
	write_u16(w, 0); /* not known: the payload is not quoted */
}

/* The pseudo header of ICMPv6. */
static uint32_t pseudo_sum(const struct addr *src, const struct addr *dst, size_t len)
{
	uint32_t sum = icmp_sum(0, (const uint8_t *)&src->u.in6.sin6_addr, 16);

	sum = icmp_sum(sum, (const uint8_t *)&dst->u.in6.sin6_addr, 16);
	return sum + (uint32_t)len + IPPROTO_ICMPV6;
}

size_t icmp_build(const struct icmp_wishes *e, uint8_t *out, size_t cap)
{
	bool v4 = addr_family(&e->src) == AF_INET;
	const struct addr *from =
		addr_family(&e->reporter) == addr_family(&e->src) ? &e->reporter : &e->dst;
	size_t header = v4 ? IP4_HEADER : IP6_HEADER, len = ICMP_HEADER + header + UDP_HEADER;
	uint32_t mtu = e->error == ICMP_TOO_BIG ? e->mtu : 0;
	struct writer w = writer_of(out, cap);

	if (addr_family(&e->src) != addr_family(&e->dst))
		return 0;
	if (v4)
		put_ip4(&w, from, &e->src, IPPROTO_ICMP, len, HOPS);
	else
		put_ip6(&w, from, &e->src, IPPROTO_ICMPV6, len, HOPS);
	write_u8(&w, v4 ? rows[e->error].type4 : rows[e->error].type6);
	write_u8(&w, v4 ? rows[e->error].code4 : rows[e->error].code6);
	write_u16(&w, 0);
	write_u32(&w, mtu);
	/* As it was where it could not go on. */
	if (v4)
		put_ip4(&w, &e->src, &e->dst, IPPROTO_UDP, UDP_HEADER + (size_t)e->len, 1);
	else
		put_ip6(&w, &e->src, &e->dst, IPPROTO_UDP, UDP_HEADER + (size_t)e->len, 1);
	put_udp(&w, e);
	if (w.full)
		return 0;
	write_u16_at(&w, header + 2,
		     folded(icmp_sum(v4 ? 0 : pseudo_sum(from, &e->src, len), out + header, len)));
	return w.len;
}

uint16_t icmp_plateau(size_t len, sa_family_t family)
{
	static const uint16_t plateaus[] = {65535, 32000, 17914, 9000, 8166, 4352, 2002,
					    1500,  1492,  1480,  1460, 1440, 1420, 1400,
					    1280,  1006,  508,   296,  68};
	uint16_t least = family == AF_INET ? 68 : 1280;

	for (size_t i = 0; i < sizeof(plateaus) / sizeof(plateaus[0]); i++)
		if (plateaus[i] < len && plateaus[i] > least)
			return plateaus[i];
	return least;
}
