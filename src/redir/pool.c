/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/pool.h"

#include <stdlib.h>

static struct upstream *find_same(const struct pool *old, const struct proxy_section *p,
				  const struct upstream *via)
{
	for (unsigned i = 0; old && i < old->n; i++)
		if (upstream_matches(old->v[i], p, via))
			return upstream_get(old->v[i]);
	return NULL;
}

/* Insertion keeps the file's order among equals. */
static void insert(struct pool *p, struct upstream *up, const struct proxy_section *section)
{
	unsigned i = p->n++;

	for (; i > 0 && p->priority[i - 1] > section->priority; i--) {
		p->v[i] = p->v[i - 1];
		p->weight[i] = p->weight[i - 1];
		p->priority[i] = p->priority[i - 1];
	}
	p->v[i] = up;
	p->weight[i] = section->weight;
	p->priority[i] = section->priority;
}

/* While a pool is made: the upstreams of the sections, as in the file. */
struct making {
	const struct redir_conf *conf;
	const struct pool *old;
	struct worker *main;
	struct upstream *v[POOL_MAX]; /* a reference each; NULL = not yet */
};

/* The upstream of a section, after the one that it is reached through. NULL = out of memory. */
static struct upstream *make(struct making *m, const struct proxy_section *section)
{
	const struct proxy_section *through = redir_conf_via(m->conf, section);
	struct upstream *via = through ? make(m, through) : NULL;
	struct upstream **up = m->v;
	struct list_node *n;

	if (through && !via)
		return NULL;
	for (n = list_first(&m->conf->proxies); n != &section->node;
	     n = list_next(&m->conf->proxies, n))
		if (++up == m->v + POOL_MAX)
			return NULL;
	if (*up)
		return *up;
	*up = find_same(m->old, section, via);
	if (*up) {
		upstream_adjust(*up, section);
	} else {
		*up = upstream_new(section, via, m->main);
		if (*up)
			(*up)->mark = m->conf->mark; /* never changes while we run */
	}
	return *up;
}

struct pool *pool_new(const struct redir_conf *c, const struct pool *old, struct worker *main)
{
	struct pool *p = calloc(1, sizeof(*p) + c->proxies.count * sizeof(p->v[0]));
	struct making m = {.conf = c, .old = old, .main = main};
	struct upstream_chain way;
	struct list_node *n;
	unsigned i = 0;
	bool good = true;

	if (!p)
		return NULL;
	atomic_init(&p->refs, 1);
	pthread_mutex_init(&p->lock, NULL);
	p->balance.by = (enum balance_by)c->balance;
	for (n = list_first(&c->proxies); n && good; n = list_next(&c->proxies, n))
		good = make(&m, container_of(n, struct proxy_section, node)) != NULL;
	for (n = list_first(&c->proxies); n && i < POOL_MAX; n = list_next(&c->proxies, n), i++) {
		if (!m.v[i])
			continue;
		insert(p, m.v[i], container_of(n, struct proxy_section, node));
		upstream_chain(m.v[i], &way);
		if (way.n > p->hops)
			p->hops = way.n;
	}
	if (good)
		return p;
	pool_put(p);
	return NULL;
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
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* Those of the least priority value that may be taken. */
static unsigned candidates(const struct pool *p, uint64_t tried, bool avoided, double now_s,
			   struct balance_candidate *v)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->n; i++) {
		struct upstream_view look;

		if (n > 0 && p->priority[i] > p->priority[v[0].index])
			break;
		if (tried & (uint64_t)1 << i || p->weight[i] == 0)
			continue;
		look = upstream_look(p->v[i]);
		if (look.usable && (look.trouble || now_s < look.busy_s) == avoided)
			v[n++] = (struct balance_candidate){
				.index = i, .weight = p->weight[i], .rtt_us = look.rtt_us};
	}
	return n;
}

static unsigned choose(struct pool *p, const struct balance_candidate *v, unsigned n)
{
	unsigned i;

	if (n == 1 && p->balance.by == BALANCE_WEIGHT) /* pays what it earns */
		return v[0].index;
	pthread_mutex_lock(&p->lock);
	i = balance_choose(&p->balance, v, n);
	pthread_mutex_unlock(&p->lock);
	return i;
}

struct upstream *pool_next(struct pool *p, uint64_t *tried, double now_s, struct upstream_chain *c)
{
	struct balance_candidate v[POOL_MAX];
	unsigned n, i;

	for (;;) {
		n = candidates(p, *tried, false, now_s, v);
		if (n == 0)
			n = candidates(p, *tried, true, now_s, v);
		if (n == 0)
			return NULL;
		i = choose(p, v, n);
		*tried |= (uint64_t)1 << i;
		if (upstream_grant_chain(p->v[i], now_s, c))
			return p->v[i];
	}
}

void pool_overdue(const struct pool *p, struct upstream *up)
{
	if (!upstream_overdue(up))
		return;
	for (unsigned i = 0; i < p->n; i++)
		if (p->v[i] != up)
			upstream_question(p->v[i]);
}

bool pool_has_address(const struct pool *p, const struct addr *a)
{
	for (unsigned i = 0; i < p->n; i++)
		if (upstream_is_address(p->v[i], a))
			return true;
	return false;
}
