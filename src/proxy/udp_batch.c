/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/udp_batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOT (UDP_HEADROOM + UDP_PACKET)

bool udp_batch_init(struct udp_batch *b)
{
	b->mem = malloc((size_t)UDP_BATCH * SLOT);
	b->used = UDP_BATCH; /* none is ready yet */
	return b->mem != NULL;
}

void udp_batch_fini(struct udp_batch *b)
{
	free(b->mem);
	b->mem = NULL;
}

static void prepare(struct udp_batch *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		b->iov[i].iov_base = b->mem + (size_t)i * SLOT + UDP_HEADROOM;
		b->iov[i].iov_len = UDP_PACKET;
		b->msgs[i].msg_hdr = (struct msghdr){.msg_name = &b->names[i],
						     .msg_namelen = sizeof(b->names[i]),
						     .msg_iov = &b->iov[i],
						     .msg_iovlen = 1,
						     .msg_control = &b->control[i],
						     .msg_controllen = sizeof(b->control[i])};
	}
}

int udp_batch_read(struct udp_batch *b, int fd, unsigned max)
{
	int n;

	b->n = 0;
	prepare(b, b->used);
	n = recvmmsg(fd, b->msgs, max, MSG_DONTWAIT, NULL);
	b->used = n > 0 ? (unsigned)n : 0;
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++)
		b->iov[i].iov_len = b->msgs[i].msg_len;
	b->n = (unsigned)n;
	return 0;
}

const uint8_t *udp_batch_packet(const struct udp_batch *b, unsigned i, size_t *len)
{
	*len = b->iov[i].iov_len;
	return b->iov[i].iov_base;
}

bool udp_batch_sender(const struct udp_batch *b, unsigned i, struct addr *from)
{
	return addr_from_sockaddr(from, (const struct sockaddr *)&b->names[i],
				  b->msgs[i].msg_hdr.msg_namelen);
}

void udp_batch_came_to(const struct udp_batch *b, unsigned i, struct addr *at)
{
	struct msghdr m = b->msgs[i].msg_hdr;

	memset(at, 0, sizeof(*at));
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			in6.sin6_addr = info.ipi6_addr;
			if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
				in6.sin6_scope_id = (uint32_t)info.ipi6_ifindex;
			addr_from_sockaddr(at, (const struct sockaddr *)&in6, sizeof(in6));
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct sockaddr_in in = {.sin_family = AF_INET};
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			in.sin_addr = info.ipi_spec_dst;
			addr_from_sockaddr(at, (const struct sockaddr *)&in, sizeof(in));
		}
	}
}

void udp_batch_put_header(struct udp_batch *b, unsigned to, unsigned i, const uint8_t *header,
			  size_t len)
{
	uint8_t *front = (uint8_t *)b->iov[i].iov_base - len;

	memcpy(front, header, len);
	b->iov[to] = (struct iovec){.iov_base = front, .iov_len = b->iov[i].iov_len + len};
}

void udp_batch_add(struct udp_batch *b, const struct addr *name, const uint8_t *data, size_t len)
{
	unsigned i = b->n++;

	memcpy(&b->names[i], &name->u, name->len);
	b->iov[i] = (struct iovec){.iov_base = (uint8_t *)(uintptr_t)data, .iov_len = len};
	b->msgs[i].msg_hdr = (struct msghdr){.msg_name = &b->names[i],
					     .msg_namelen = name->len,
					     .msg_iov = &b->iov[i],
					     .msg_iovlen = 1};
}

struct control {
	union udp_control *c;
	size_t len;
};

static void put(struct control *out, int level, int type, const void *data, size_t len)
{
	struct cmsghdr *c = (struct cmsghdr *)(void *)(out->c->mem + out->len);

	if (out->len + CMSG_SPACE(len) > sizeof(out->c->mem))
		return;
	memset(c, 0, CMSG_SPACE(len));
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	out->len += CMSG_SPACE(len);
}

/* An IPv6 socket takes IPv4 addresses in their mapped form. */
static void put_source(struct control *out, sa_family_t family, const struct addr *at)
{
	struct in6_pktinfo info6 = {.ipi6_ifindex = 0};
	struct in_pktinfo info = {.ipi_ifindex = 0};
	struct addr v6;

	if (family == AF_INET6) {
		addr_map_v6(&v6, at);
		info6.ipi6_addr = v6.u.in6.sin6_addr;
		info6.ipi6_ifindex = v6.u.in6.sin6_scope_id;
		put(out, IPPROTO_IPV6, IPV6_PKTINFO, &info6, sizeof(info6));
	} else {
		info.ipi_spec_dst = at->u.in.sin_addr;
		put(out, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	}
}

size_t udp_control_build(union udp_control *c, sa_family_t family, const struct addr *at,
			 const struct addr *to, int tos, int ttl)
{
	struct control out = {.c = c};
	bool v6 = addr_family(to) == AF_INET6;
	int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;

	if (addr_family(at) != AF_UNSPEC)
		put_source(&out, family, at);
	if (tos >= 0)
		put(&out, level, v6 ? IPV6_TCLASS : IP_TOS, &tos, sizeof(tos));
	if (ttl >= 0)
		put(&out, level, v6 ? IPV6_HOPLIMIT : IP_TTL, &ttl, sizeof(ttl));
	return out.len;
}
