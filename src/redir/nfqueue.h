/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One NFQUEUE of the kernel on a worker's loop: packets that a rule sends there come to a callback
 * and wait in the kernel for a verdict, which may be given later, from any thread, by id.
 * The rule should say --queue-bypass: then packets pass while nobody has the queue open.
 *
 * Opened, closed and read by one worker's thread. Needs CAP_NET_ADMIN, not root.
 */
#ifndef REDIR_NFQUEUE_H
#define REDIR_NFQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nfqueue;
struct worker;

struct nfqueue_conf {
	uint16_t number;
	uint16_t range; /* octets of each packet that are wanted */
	uint32_t max;   /* packets that may wait at most */
	bool fail_open; /* when that many wait, further ones pass (else they are dropped) */
};

struct nfqueue_packet {
	uint32_t id;         /* for the verdict */
	uint32_t mark;       /* it has */
	const uint8_t *data; /* from the IP header on; as long as the callback runs */
	size_t len;
};

/* Must not close the queue. */
typedef void nfqueue_fn(void *ctx, const struct nfqueue_packet *p);

struct nfqueue_counts {
	uint64_t packets, accepted, dropped;
	uint64_t errors; /* verdicts that the kernel did not take, packets we could not read */
};

/*
 * 0 or -errno:
 * -ENOSYS  built without libnetfilter_queue
 * -EPERM, -EBUSY  another process has this queue, or no CAP_NET_ADMIN
 * -EOPNOTSUPP  the kernel has no NFQUEUE
 * Packets that come before this has returned are accepted.
 */
int nfqueue_open(struct nfqueue **out, struct worker *w, const struct nfqueue_conf *c,
		 nfqueue_fn *fn, void *ctx);
/* What waits is dropped by the kernel: give verdicts first. NULL is allowed. */
void nfqueue_close(struct nfqueue *q);

/* The packet goes on behind the rule, with this mark (the whole of it). */
void nfqueue_accept(struct nfqueue *q, uint32_t id, uint32_t mark);
void nfqueue_drop(struct nfqueue *q, uint32_t id);

void nfqueue_count(const struct nfqueue *q, struct nfqueue_counts *out);

#endif
