/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection attempt: MPTCP and Fast Open where wanted and possible, plain TCP
 * where not, within a time limit. Falls back by itself: no MPTCP in the kernel, no
 * Fast Open in the kernel, no cookie, or a server that ignores the SYN data never
 * fail the attempt.
 *
 * A socket that has asked for MPTCP and fallen back to TCP is best not used. Seen on Linux 6.18: what
 * arrives on it after a segment that repeats a part of an earlier one (an acknowledgement and a
 * segment were lost) is acknowledged and thrown away. But the server has accepted it, and may take no
 * other (iperf3, FTP's data): so it is, and what has refused is not asked for a while. The relay sees
 * to it that a loss is no end of file.
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
	/* The peer answers at once to data that all were in the SYN: then done is called when there
	 * is something to read, the connection alone is no event. After a while: dial_look. */
	bool answered;
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
	bool syn_data_acked; /* after success: they were taken from the SYN by the peer */
	bool mptcp;          /* after success: it is MPTCP */
	bool refused;        /* after success: MPTCP was asked for, and it is not. Where data in a
				   SYN were not taken, which costs it as well, that is not said */
	bool readable;       /* after success: there is something to read */
	unsigned subflows;   /* after success, with MPTCP */
	uint32_t rtt_us;     /* after success */
	unsigned fastopen_fail; /* after success: see struct sock_info */
	void *owner;

	ev_io io; /* in done: was used for d->fd, and is stopped. A copy of it goes on without
		     telling the kernel again: mind ev_io_modify */

	/* private */
	struct worker *w;
	dial_done_fn *done;
	bool waits; /* for an answer, see wishes.answered */
	ev_timer timer;
};

/* 0, or -errno if the attempt failed at once (done is not called then). */
int dial_start(struct dial *d, struct worker *w, const struct dial_wishes *wishes,
	       dial_done_fn *done, void *owner);
/* With wishes.answered, when there is no answer after a while, or more to be sent: if it has connected
 * (or failed), done is called, and this is true. Else it will be as soon as it has. */
bool dial_look(struct dial *d);
/* Give the connected descriptor to the caller. */
int dial_take(struct dial *d);
/* Give up: closes the descriptor; done will not be called. Harmless when idle. */
void dial_stop(struct dial *d);

#endif
