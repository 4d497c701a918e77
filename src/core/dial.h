/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection attempt: MPTCP and Fast Open where wanted and possible, plain TCP
 * where not, within a time limit. Falls back by itself: no MPTCP in the kernel, no
 * Fast Open in the kernel, no cookie, or a server that ignores the SYN data never
 * fail the attempt.
 *
 * struct dial is embedded in its owner, which stops it or takes its descriptor.
 */
#ifndef SIXPATH_DIAL_H
#define SIXPATH_DIAL_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/addr.h"
#include "core/sock.h"

struct worker;
struct dial;

struct dial_wishes {
	struct addr dst;
	struct sock_wishes sock;
	/* To leave from; with sock.transparent it may be another's. Unset: as the kernel routes. */
	struct addr source;
	bool fastopen;    /* put data into the SYN if the kernel has a cookie */
	const void *data; /* octets for the SYN; need only live during dial_start */
	size_t len;       /* data and len may be 0 with fastopen: asks for a cookie only */
	double timeout_s;
};

/* Called exactly once, never from inside dial_start: err 0 (connected) or -errno
 * (-ETIMEDOUT for the time limit). On success the owner takes d->fd with dial_take. */
typedef void dial_done_fn(struct dial *d, int err);

struct dial {
	int fd;            /* -1 when there is none */
	struct addr local; /* known as soon as dial_start returned 0 */
	struct sock_granted granted;
	size_t queued; /* octets of data handed to the kernel with the SYN; the rest is the caller's */
	bool syn_data_acked;    /* after success: they were taken from the SYN by the peer */
	bool mptcp;             /* after success: it is MPTCP */
	uint32_t rtt_us;        /* after success */
	unsigned fastopen_fail; /* after success: see struct sock_info */
	void *owner;

	/* private */
	struct worker *w;
	dial_done_fn *done;
	ev_io io;
	ev_timer timer;
};

/* 0, or -errno if the attempt failed at once (done is not called then). */
int dial_start(struct dial *d, struct worker *w, const struct dial_wishes *wishes,
	       dial_done_fn *done, void *owner);
/* Give the connected descriptor to the caller. */
int dial_take(struct dial *d);
/* Give up: closes the descriptor; done will not be called. Harmless when idle. */
void dial_stop(struct dial *d);

#endif
