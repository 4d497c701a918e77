/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The upstreams of a configuration in the order they are tried. Counted and immutable. */
#ifndef REDIR_POOL_H
#define REDIR_POOL_H

#include "redir/upstream.h"

struct pool {
	atomic_uint refs;
	unsigned n;
	struct upstream
		*v[]; /* a reference each; lower priority value first, then as in the file */
};

/* An upstream of old (may be NULL) that is still the same is taken over with its session;
 * others are made. NULL = out of memory. */
struct pool *pool_new(const struct redir_conf *c, const struct pool *old, struct worker *main);
struct pool *pool_get(struct pool *p);
void pool_put(struct pool *p); /* NULL is allowed */

/* The first usable upstream from *pos on, with what the connection may use; *pos is moved
 * behind it. NULL = none left. */
struct upstream *pool_next(const struct pool *p, unsigned *pos, double now_s,
			   struct upstream_grant *g);
/* Is this address one of the proxies'? */
bool pool_has_address(const struct pool *p, const struct addr *a);

#endif
