/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A listening socket of one worker: accepts captured connections and starts a flow for
 * each. When descriptors run out it rests for a second instead of spinning.
 */
#ifndef REDIR_LISTENER_H
#define REDIR_LISTENER_H

#include <ev.h>

#include "core/addr.h"

struct redir_worker;

struct listener {
	struct redir_worker *rw;
	int fd;
	ev_io io;
	ev_timer rest;
};

/* Opens the socket (before privileges are dropped): 0 or -errno. */
int listener_open(struct listener *l, struct redir_worker *rw, const struct addr *addr);
void listener_start(struct listener *l); /* begins to accept */
void listener_close(struct listener *l);

#endif
