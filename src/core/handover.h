/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Restart without a refused connection. A daemon executes its successor (the same program, the
 * same arguments), which gets the listening sockets as descriptors, the way systemd passes them
 * (LISTEN_FDS, LISTEN_PID, sd_listen_fds(3)), and a channel:
 *
 *	predecessor                       successor
 *	handover_begin      fork, exec    inherited_read, set up with the sockets
 *	                    <-- 'R'       handover_join: all is ready but what only one can have
 *	stops accepting, gives up rules
 *	and control socket
 *	handover_release    --> 'G'       takes these, accepts
 *	ends its connections, exits
 *
 * Connections that come in between wait in the sockets' queues. A successor that ends before 'R'
 * changes nothing; a predecessor that ends before 'G' has let go as well.
 *
 * The successor runs as the user we have become, without a way back to root; what capabilities we
 * keep it gets as ambient ones (priv_pass_on).
 */
#ifndef SIXPATH_HANDOVER_H
#define SIXPATH_HANDOVER_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "core/addr.h"

struct worker;

/* ---- sockets that we were given at start, by systemd or by a predecessor ---- */

struct inherited {
	int *fd;
	bool *used;
	size_t n;
	int channel; /* to the predecessor; -1: there is none */
	int extra;   /* one more descriptor of his, or -1; the caller's */
};

/* What the environment says, which is cleared of it: once, before anything forks. Descriptors
 * that are neither listening stream sockets nor UDP sockets are closed with a warning. 0 or
 * -ENOMEM. */
int inherited_read(struct inherited *in);
/* Is there one for this address, a listening one, or one for datagrams? */
bool inherited_has(const struct inherited *in, const struct addr *at);
bool inherited_has_datagram(const struct inherited *in, const struct addr *at);
/* The sockets bound to this address that are for worker `index` of `of`, as new descriptors in
 * out (cap of them at most); where there are fewer sockets than workers they share. How many. */
size_t inherited_share(struct inherited *in, const struct addr *at, unsigned index, unsigned of,
		       int *out, size_t cap);
/* Likewise one datagram socket, a new descriptor, or -1. */
int inherited_datagram(struct inherited *in, const struct addr *at, unsigned index, unsigned of);
/* Close what was given; tell: log which addresses nobody wanted. The channel stays. Harmless when
 * repeated. */
void inherited_free(struct inherited *in, bool tell);

/* ---- the two sides ---- */

/* At the predecessor: the successor is ready (true), or has failed before it was (false).
 * At the successor: the predecessor has let go (true) or is gone (false). */
typedef void handover_fn(void *ctx, bool there);

struct handover {
	struct worker *w; /* NULL: idle */
	pid_t child;      /* 0: we are the successor */
	int fd;
	ev_io io;
	ev_timer limit;
	handover_fn *said;
	void *ctx;
};

/* Execute the program with these arguments, giving it the n sockets, and one descriptor more if
 * extra is not -1. said is called later, once.
 * 0 or -errno; -EBUSY while one is under way. */
int handover_begin(struct handover *h, struct worker *main_worker, const char *program,
		   char *const *argv, const int *fds, size_t n, int extra, handover_fn *said,
		   void *ctx);
/* To the successor: it may take what we had. */
void handover_release(struct handover *h);

/* To the predecessor: we are ready. Takes the channel. */
void handover_join(struct handover *h, struct worker *main_worker, int channel, handover_fn *said,
		   void *ctx);

/* Ends one that is under way; a successor that is not ready yet is killed. Harmless when idle. */
void handover_end(struct handover *h);

static inline bool handover_runs(const struct handover *h)
{
	return h->w != NULL;
}

#endif
