/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/synpkt.h"

#include <netinet/in.h>
#include <string.h>

#include "libsocks6/cursor.h"

#define FIN   0x01
#define SYN   0x02
#define RST   0x04
#define ACK   0x10
#define WORD  4U /* octets; header lengths are counted in these */
#define HEAD4 20U
#define HEAD6 40U
#define HEADT 20U

#define OPT_END      0
#define OPT_NOP      1
#define OPT_MPTCP    30
#define OPT_FASTOPEN 34
#define MP_CAPABLE   0
#define MP_JOIN      1

#define MORE_FRAGMENTS  0x2000
#define FRAGMENT_OFFSET 0x1fff

#define SYNACK_MP_CAPABLE 12 /* octets with the server's key (RFC 8684, 3.1) */
#define MPTCP_VERSION     1

static void set_addr4(struct addr *a, const uint8_t *octets)
{
	a->len = sizeof(a->u.in);
	a->u.in.sin_family = AF_INET;
	memcpy(&a->u.in.sin_addr, octets, sizeof(a->u.in.sin_addr));
}

static void set_addr6(struct addr *a, const uint8_t *octets)
{
	a->len = sizeof(a->u.in6);
	a->u.in6.sin6_family = AF_INET6;
	memcpy(&a->u.in6.sin6_addr, octets, sizeof(a->u.in6.sin6_addr));
}

/* Takes the IP header; *payload is how much the sender put behind it. */
static enum synpkt_fault parse4(struct reader *r, struct synpkt *p, size_t *payload)
{
	const uint8_t *h;
	size_t head, total;
	unsigned fragment;

	if (!read_bytes(r, HEAD4, &h))
		return SYNPKT_TRUNCATED;
	head = (h[0] & 0x0fU) * WORD;
	total = (size_t)h[2] << 8 | h[3];
	fragment = (unsigned)h[6] << 8 | h[7];
	if (head < HEAD4 || total < head)
		return SYNPKT_MALFORMED;
	if (fragment & (MORE_FRAGMENTS | FRAGMENT_OFFSET))
		return SYNPKT_FRAGMENT;
	if (h[9] != IPPROTO_TCP)
		return SYNPKT_NOT_TCP;
	p->dscp = h[1] >> 2;
	set_addr4(&p->src, h + 12);
	set_addr4(&p->dst, h + 16);
	*payload = total - head;
	return read_bytes(r, head - HEAD4, &h) ? SYNPKT_OK : SYNPKT_TRUNCATED;
}

static enum synpkt_fault parse6(struct reader *r, struct synpkt *p, size_t *payload)
{
	const uint8_t *h;

	if (!read_bytes(r, HEAD6, &h))
		return SYNPKT_TRUNCATED;
	if (h[6] == IPPROTO_FRAGMENT)
		return SYNPKT_FRAGMENT;
	if (h[6] != IPPROTO_TCP)
		return SYNPKT_NOT_TCP;
	p->dscp = (uint8_t)((h[0] & 0x0fU) << 2 | h[1] >> 6);
	set_addr6(&p->src, h + 8);
	set_addr6(&p->dst, h + 24);
	*payload = (size_t)h[4] << 8 | h[5];
	return SYNPKT_OK;
}

/* What is behind kind and length of an option. */
static void note_option(struct synpkt *p, uint8_t kind, const struct reader *body)
{
	if (kind == OPT_FASTOPEN) {
		p->fastopen = true;
		p->cookie = (uint8_t)body->left;
	} else if (kind == OPT_MPTCP && body->left > 0 && body->at[0] >> 4 == MP_CAPABLE) {
		p->mp_capable = (uint8_t)(body->left + 2);
		p->mp_version = body->at[0] & 0x0f;
	} else if (kind == OPT_MPTCP && body->left > 0 && body->at[0] >> 4 == MP_JOIN) {
		p->mp_join = true;
	}
}

static bool parse_options(struct reader o, struct synpkt *p)
{
	struct reader body;
	uint8_t kind, len;

	while (read_u8(&o, &kind) && kind != OPT_END) {
		if (kind == OPT_NOP)
			continue;
		if (!read_u8(&o, &len) || len < 2 || !read_sub(&o, len - 2U, &body))
			return false;
		note_option(p, kind, &body);
	}
	return true;
}

static enum synpkt_fault parse_tcp(struct reader *r, struct synpkt *p, size_t payload)
{
	struct reader options;
	const uint8_t *h;
	size_t head;
	uint8_t flags;

	if (!read_bytes(r, HEADT, &h))
		return SYNPKT_TRUNCATED;
	head = (h[12] >> 4) * WORD;
	flags = h[13] & (FIN | SYN | RST | ACK);
	if (head < HEADT || head > payload)
		return SYNPKT_MALFORMED;
	if (flags != SYN && flags != (SYN | ACK))
		return SYNPKT_NOT_SYN;
	p->ack = flags & ACK;
	addr_set_port(&p->src, (uint16_t)(h[0] << 8 | h[1]));
	addr_set_port(&p->dst, (uint16_t)(h[2] << 8 | h[3]));
	if (!read_sub(r, head - HEADT, &options))
		return SYNPKT_TRUNCATED;
	if (!parse_options(options, p))
		return SYNPKT_MALFORMED;
	p->data_len = payload - head < r->left ? payload - head : r->left;
	p->data = r->at;
	return SYNPKT_OK;
}

enum synpkt_fault synpkt_parse(struct synpkt *out, const void *pkt, size_t len)
{
	struct reader r = reader_of(pkt, len);
	struct synpkt p = {0};
	enum synpkt_fault fault;
	size_t payload;

	if (len == 0)
		return SYNPKT_TRUNCATED;
	if (r.at[0] >> 4 == 4)
		fault = parse4(&r, &p, &payload);
	else if (r.at[0] >> 4 == 6)
		fault = parse6(&r, &p, &payload);
	else
		fault = SYNPKT_NOT_IP;
	if (fault == SYNPKT_OK)
		fault = parse_tcp(&r, &p, payload);
	if (fault == SYNPKT_OK)
		*out = p;
	return fault;
}

bool synpkt_agrees_mptcp(const struct synpkt *p)
{
	return p->ack && p->mp_capable == SYNACK_MP_CAPABLE && p->mp_version == MPTCP_VERSION;
}
