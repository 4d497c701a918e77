/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The listening sockets of one worker. Each connection that is accepted goes to a callback.
 * When descriptors or memory run out a listener rests for a second instead of spinning.
 *
 * Opened and freed by the main thread while the worker's thread does not run, started and
 * closed by the worker. Address and what the kernel granted never change in between, so any
 * thread may read them.
 */
#ifndef SIXPATH_LISTENER_H
#define SIXPATH_LISTENER_H

#include <ev.h>

#include "core/addr.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/sock.h"

struct inherited;
struct report;
struct worker;

/* A connection came; the descriptor (nonblocking) is the callee's. */
typedef void listener_accepted_fn(struct worker *w, int fd, const struct addr *peer);

struct listener {
	struct addr addr; /* as asked for */
	struct sock_granted granted;
	/* private */
	struct worker *w;
	listener_accepted_fn *accepted;
	struct log_limit limit;
	int fd;         /* -1 once closed */
	unsigned batch; /* connections that are accepted in a turn */
	unsigned full;  /* the turn in which that was not enough, or just so */
	ev_io io;
	ev_timer rest;
};

struct listeners {
	struct listener *v;
	size_t n;
};

/* One for each address (before privileges are dropped): 0 or -errno. On failure those before
 * the culprit are open, so ls->n is its index among the addresses. Accepting is not begun. */
int listeners_open(struct listeners *ls, struct worker *w, const struct addr_list *addrs,
		   const struct sock_wishes *wishes, listener_accepted_fn *accepted);
/* The same with sockets that we were given where there are any for an address: for worker
 * w->index of `of`. There may be more listeners than addresses then. in NULL = none. */
int listeners_inherit(struct listeners *ls, struct worker *w, const struct addr_list *addrs,
		      const struct sock_wishes *wishes, listener_accepted_fn *accepted,
		      struct inherited *in, unsigned of);
/* The descriptors into out, cap of them at most; returns how many. By who opened them. */
size_t listeners_fds(const struct listeners *ls, int *out, size_t cap);
/* Begin to accept, unless closed meanwhile. */
void listeners_start(struct listeners *ls);
/* Accept all that wait in the queues now, for whom closing would be a reset. */
void listeners_finish(struct listeners *ls);
/* Close the sockets; connections that wait to be accepted are reset. Harmless when repeated. */
void listeners_close(struct listeners *ls);
/* Close and free all; harmless when nothing was opened. */
void listeners_free(struct listeners *ls);

#endif
