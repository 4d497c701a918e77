/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Datagrams that are read and written many at a time (recvmmsg, sendmmsg). */
#ifndef PROXY_UDP_BATCH_H
#define PROXY_UDP_BATCH_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "core/addr.h"

#define UDP_BATCH    32
#define UDP_HEADROOM 64    /* for the header of a Datagram message, in front of what is read */
#define UDP_PACKET   65536 /* no UDP packet is longer */

/* Room for the address a packet came to, TOS and hop limit. */
union udp_control {
	struct cmsghdr align;
	char mem[128];
};

struct udp_batch {
	unsigned n;
	unsigned used; /* of those read into: changed since they were made ready */
	uint8_t *mem;  /* of batches that are read into; pages are used as packets need them */
	struct mmsghdr msgs[UDP_BATCH];
	struct iovec iov[UDP_BATCH];
	struct sockaddr_in6 names[UDP_BATCH]; /* or sockaddr_in */
	union udp_control control[UDP_BATCH];
};

/* Memory to read into. False: there is none. */
bool udp_batch_init(struct udp_batch *b);
void udp_batch_fini(struct udp_batch *b);

/* Up to max packets into b->n, UDP_HEADROOM octets into each slot. -errno, -EAGAIN when there are
 * none. What was read last may be changed and sent, but no more than that. */
int udp_batch_read(struct udp_batch *b, int fd, unsigned max);

/* Of the packet i that was read: payload, sender (false: of no family that we know), and the
 * address that it came to (unset where unknown). */
const uint8_t *udp_batch_packet(const struct udp_batch *b, unsigned i, size_t *len);
bool udp_batch_sender(const struct udp_batch *b, unsigned i, struct addr *from);
void udp_batch_came_to(const struct udp_batch *b, unsigned i, struct addr *at);

/* Make packet `to` of what was packet i and len octets (UDP_HEADROOM at most) in front of it;
 * to <= i. */
void udp_batch_put_header(struct udp_batch *b, unsigned to, unsigned i, const uint8_t *header,
			  size_t len);

/* Append a packet that lies elsewhere. There must be room (n < UDP_BATCH). */
void udp_batch_add(struct udp_batch *b, const struct addr *name, const uint8_t *data, size_t len);

/* Control data for packets from `at` (unset: the kernel chooses) to `to` by a socket of this family,
 * with TOS and TTL (-1: the socket's). Returns its length. */
size_t udp_control_build(union udp_control *c, sa_family_t family, const struct addr *at,
			 const struct addr *to, int tos, int ttl);

#endif
