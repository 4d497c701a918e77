/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Many datagrams with one system call, both ways. One batch for each worker: what was received is
 * valid until the next udp_batch_recv. Of the memory only what was written to is resident.
 */
#ifndef REDIR_UDP_IO_H
#define REDIR_UDP_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "core/addr.h"

#define UDP_BATCH       32
#define UDP_ROOM        65536 /* octets for each datagram */
#define UDP_PAYLOAD_MAX 65507 /* what IPv4 can carry */

struct udp_batch {
	uint8_t *mem;
	int used; /* by the last udp_batch_recv: what the kernel has written to */
	struct mmsghdr h[UDP_BATCH];
	struct iovec v[UDP_BATCH];
	struct sockaddr_storage from[UDP_BATCH];
	union {
		struct cmsghdr align;
		uint8_t room[160];
	} control[UDP_BATCH];
};

/* 0 or -errno. */
int udp_batch_init(struct udp_batch *b);
void udp_batch_fini(struct udp_batch *b); /* harmless when mem is NULL */
/* How many were received, 0 = none, or -errno. */
int udp_batch_recv(struct udp_batch *b, int fd);
static inline const uint8_t *udp_batch_data(const struct udp_batch *b, int i)
{
	return b->mem + (size_t)i * UDP_ROOM;
}
/* Who sent number i. False: no address. */
bool udp_batch_from(const struct udp_batch *b, int i, struct addr *from);

/*
 * All of them (UDP_BATCH at most), skipping those that the kernel refuses; how many were sent. *err:
 * the first error that was not a full buffer, or 0. segments: see dgram_send.
 */
unsigned udp_send_all(int fd, struct mmsghdr *h, unsigned n, bool *segments, int *err);

/* A bound or connected socket for datagrams is what sock.c does for connections; here it is a plain
 * one with the mark, nonblocking: descriptor or -errno. */
int udp_socket(sa_family_t family, uint32_t mark);

#endif
