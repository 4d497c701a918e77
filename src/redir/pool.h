/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The upstreams of a configuration, and which of them gets the next flow. Counted; immutable
 * but for the balance, which is locked.
 */
#ifndef REDIR_POOL_H
#define REDIR_POOL_H

#include "redir/balance.h"
#include "redir/upstream.h"

#define POOL_MAX BALANCE_MAX

struct pool {
	atomic_uint refs;
	pthread_mutex_t lock;
	struct balance balance;
	int weight[POOL_MAX]; /* 0: gets no flows, others may be reached through it */
	int priority[POOL_MAX];
	unsigned n;
	unsigned hops; /* of the longest way */
	struct upstream
		*v[]; /* a reference each; lower priority value first, then as in the file */
};

/* An upstream of old (may be NULL) that is still the same is taken over with its session;
 * others are made. NULL = out of memory. */
struct pool *pool_new(const struct redir_conf *c, const struct pool *old, struct worker *main);
struct pool *pool_get(struct pool *p);
void pool_put(struct pool *p); /* NULL is allowed */

/* A usable upstream that is not among those tried, with what the connection may use, and adds it
 * to them: of the least priority value, by weight or latency; those that are in trouble only
 * when there are no others. NULL = none left. tried is a bit for each upstream. */
struct upstream *pool_next(struct pool *p, uint64_t *tried, double now_s, struct upstream_chain *c);
/* An answer of this one is overdue: perhaps of the others as well. */
void pool_overdue(const struct pool *p, struct upstream *up);
/* Is this address one of the proxies'? */
bool pool_has_address(const struct pool *p, const struct addr *a);

#endif
