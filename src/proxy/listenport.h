/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ports that clients have bound (BIND). Shared by all workers; locks itself.
 *
 * A port accepts on the worker of the client that asked for it. Without a backlog it is there for
 * one peer, which goes to that client. With one (only in a session) further requests of the same
 * session, on whichever worker, pick up its peers: whoever comes first, peer or request, waits for
 * the other. Peers that wait count in the budget, are at most as many as the backlog, and are reset
 * after a while.
 */
#ifndef PROXY_LISTENPORT_H
#define PROXY_LISTENPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"

struct listenports;
struct listenport;
struct pickup;
struct proxy_worker;
struct report;

struct listenports *listenports_new(void); /* NULL = out of memory */
/* All ports are closed by now. NULL is allowed. */
void listenports_free(struct listenports *t);
size_t listenports_count(struct listenports *t);
/* The list "binds": a row for each. */
void listenports_report(struct listenports *t, double now_s, struct report *r);

/* One who has connected. */
struct bind_peer {
	int fd;
	struct addr addr;
};

/* What is told to the client that has the port, on its worker. */
struct listenport_ops {
	/* Without a backlog: here it is, the descriptor is the callee's, and the port is closed.
	 * With one (peer->fd is -1): it waits, because nobody has asked for it yet. */
	void (*peer)(void *owner, const struct bind_peer *peer);
	/* Another request of this user wants the port, or it can accept no more; it is closed. */
	void (*lost)(void *owner);
};

struct listenport_wish {
	struct addr addr;       /* with a port */
	const char *user;       /* "" = nobody */
	const uint8_t *session; /* ISSUED_ID_LEN octets; NULL = none */
	unsigned backlog;       /* 0: one peer, for the owner */
	bool mptcp, fastopen;   /* accept these; the kernel may refuse */
	unsigned max, max_per_user;
};

/*
 * 0 or -errno; *out is open until listenport_close, or until peer or lost says that it is not.
 * -EDQUOT: the user, or all, have as many ports as they may. -EADDRINUSE: it is used; where that is
 * by the same user, and a backlog is wanted, the other one is told that it has lost it, and another
 * attempt in a moment will succeed: a router that comes back must not wait until its dead connection
 * is noticed.
 */
int listenport_open(struct listenports *t, struct proxy_worker *pw,
		    const struct listenport_wish *wish, const struct listenport_ops *ops,
		    void *owner, struct listenport **out);
/* By its worker. Peers that wait are reset, requests that wait fail. */
void listenport_close(struct listenport *lp);

/* What the kernel made of the wishes. */
struct listenport_facts {
	struct addr addr; /* bound */
	unsigned backlog;
	bool mptcp;
	int fd; /* of the socket, to ask it for more; -1: it is another worker's */
};
void listenport_facts(const struct listenport *lp, struct listenport_facts *facts);

/* Called once, never from inside pickup_start; the pickup is gone afterwards. peer NULL: the port
 * has gone. Otherwise the descriptor is the callee's. */
typedef void pickup_done_fn(void *owner, const struct bind_peer *peer);

/* Wait for a peer of the port that this session has there. NULL: there is none (or no memory). */
struct pickup *pickup_start(struct listenports *t, struct proxy_worker *pw, const struct addr *addr,
			    const uint8_t *session, pickup_done_fn *done, void *owner,
			    struct listenport_facts *facts);
/* Wait no more. */
void pickup_cancel(struct pickup *p);

#endif
