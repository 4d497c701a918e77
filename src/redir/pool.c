/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/pool.h"

#include <stdlib.h>

static struct upstream *find_same(const struct pool *old, const struct proxy_section *p)
{
	for (unsigned i = 0; old && i < old->n; i++)
		if (upstream_matches(old->v[i], p))
			return upstream_get(old->v[i]);
	return NULL;
}

/* Insertion keeps the file's order among equals. */
static void insert(struct pool *p, struct upstream *up)
{
	unsigned i = p->n++;

	for (; i > 0 && p->v[i - 1]->priority > up->priority; i--)
		p->v[i] = p->v[i - 1];
	p->v[i] = up;
}

struct pool *pool_new(const struct redir_conf *c, const struct pool *old, struct worker *main)
{
	struct pool *p = calloc(1, sizeof(*p) + c->proxies.count * sizeof(p->v[0]));
	struct list_node *n;

	if (!p)
		return NULL;
	atomic_init(&p->refs, 1);
	for (n = list_first(&c->proxies); n; n = list_next(&c->proxies, n)) {
		const struct proxy_section *section = container_of(n, struct proxy_section, node);
		struct upstream *up = find_same(old, section);

		if (!up)
			up = upstream_new(section, main);
		if (!up) {
			pool_put(p);
			return NULL;
		}
		insert(p, up);
	}
	return p;
}

struct pool *pool_get(struct pool *p)
{
	atomic_fetch_add(&p->refs, 1);
	return p;
}

void pool_put(struct pool *p)
{
	if (!p || atomic_fetch_sub(&p->refs, 1) > 1)
		return;
	for (unsigned i = 0; i < p->n; i++)
		upstream_put(p->v[i]);
	free(p);
}

struct upstream *pool_next(const struct pool *p, unsigned *pos, double now_s,
			   struct upstream_grant *g)
{
	while (*pos < p->n) {
		struct upstream *up = p->v[(*pos)++];
		if (upstream_grant(up, now_s, g))
			return up;
	}
	return NULL;
}

bool pool_has_address(const struct pool *p, const struct addr *a)
{
	for (unsigned i = 0; i < p->n; i++)
		if (upstream_is_address(p->v[i], a))
			return true;
	return false;
}
