/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One BIND request to an upstream, from dialling to the peer. With a backlog its connection is the
 * control connection of a port, and each peer that waits there is told; without one it ends with
 * the one peer, whose bytes follow.
 *
 * Belongs to the worker that started it. Always in a session: only in one there are backlogs, and
 * ports that further requests may use.
 */
#ifndef REDIR_BINDREQ_H
#define REDIR_BINDREQ_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

struct buf;
struct bufpool;
struct bindreq;
struct upstream;
struct worker;

enum bindreq_failed {
	BINDREQ_NOT_NOW, /* the proxy is not up, or we are in no session (or another one) */
	BINDREQ_REFUSED, /* an operation reply: code */
	BINDREQ_LOST     /* anything else that happens to a connection */
};

/* Nothing is called from inside bindreq_start. */
struct bindreq_ops {
	/* Bound here, with this backlog. */
	void (*bound)(void *owner, const struct addr *addr, unsigned backlog);
	/* With a backlog: this peer waits. Otherwise it is on the connection: bindreq_take. */
	void (*peer)(void *owner, const struct addr *peer);
	/* It is over; to be freed. why: a text. */
	void (*failed)(void *owner, enum bindreq_failed kind, uint8_t code, const char *why);
};

struct bindreq_wish {
	struct worker *w;
	struct upstream *up;
	struct addr addr; /* to bind */
	unsigned backlog; /* 0: for one peer of a port that is bound already */
	unsigned session; /* 0 = the current one, else it must be this one */
	uint32_t mark;    /* of our sockets */
	double dial_timeout_s, reply_timeout_s;
};

/* NULL = out of memory. */
struct bindreq *bindreq_start(const struct bindreq_wish *wish, const struct bindreq_ops *ops,
			      void *owner);
/* Closes what it has open. */
void bindreq_free(struct bindreq *b);
/* The number of the session that it was asked in. */
unsigned bindreq_session(const struct bindreq *b);
/* The connection has died without a word. */
bool bindreq_is_dead(const struct bindreq *b);
/* The connection to the peer, which is the caller's; what has come of its bytes goes into early. */
int bindreq_take(struct bindreq *b, struct buf *early, struct bufpool *pool);

#endif
