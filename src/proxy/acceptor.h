/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A listening socket of one worker. Accepts, checks the limits, starts clients. When
 * descriptors run out it rests for a second instead of spinning.
 */
#ifndef PROXY_ACCEPTOR_H
#define PROXY_ACCEPTOR_H

#include <ev.h>
#include <stdbool.h>

#include "core/addr.h"

struct proxy_worker;

struct acceptor {
	struct proxy_worker *pw;
	struct addr addr;
	int fd;
	bool mptcp, fastopen; /* what the kernel does on it */
	ev_io io;
	ev_timer rest;
};

/* Opens the socket (before privileges are dropped): 0 or -errno. */
int acceptor_open(struct acceptor *a, struct proxy_worker *pw, const struct addr *addr);
void acceptor_start(struct acceptor *a);
void acceptor_close(struct acceptor *a);

#endif
