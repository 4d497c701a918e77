/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/loopguard.h"

#include <pthread.h>
#include <stdlib.h>

#define BUCKETS 1024 /* a power of 2 */

struct loopguard {
	pthread_mutex_t lock;
	struct loopguard_entry *buckets[BUCKETS];
};

struct loopguard *loopguard_new(void)
{
	struct loopguard *g = calloc(1, sizeof(*g));

	if (g)
		pthread_mutex_init(&g->lock, NULL);
	return g;
}

void loopguard_free(struct loopguard *g)
{
	if (!g)
		return;
	pthread_mutex_destroy(&g->lock);
	free(g);
}

/* Our own local ports spread well enough; strangers do not choose them. */
static struct loopguard_entry **bucket_of(struct loopguard *g, const struct addr *local)
{
	return &g->buckets[addr_hash(local, 0) & (BUCKETS - 1)];
}

static void unlist(struct loopguard *g, struct loopguard_entry *e)
{
	struct loopguard_entry **p = bucket_of(g, &e->local);

	while (*p != e)
		p = &(*p)->next;
	*p = e->next;
	e->listed = false;
}

void loopguard_add(struct loopguard *g, struct loopguard_entry *e, const struct addr *local,
		   const struct addr *remote)
{
	struct loopguard_entry **p;

	pthread_mutex_lock(&g->lock);
	if (e->listed)
		unlist(g, e);
	e->local = *local;
	e->remote = *remote;
	p = bucket_of(g, local);
	e->next = *p;
	*p = e;
	e->listed = true;
	pthread_mutex_unlock(&g->lock);
}

void loopguard_remove(struct loopguard *g, struct loopguard_entry *e)
{
	pthread_mutex_lock(&g->lock);
	if (e->listed)
		unlist(g, e);
	pthread_mutex_unlock(&g->lock);
}

bool loopguard_has(struct loopguard *g, const struct addr *local, const struct addr *remote)
{
	const struct loopguard_entry *e;

	pthread_mutex_lock(&g->lock);
	for (e = *bucket_of(g, local); e; e = e->next)
		if (addr_equal(&e->local, local) && addr_equal(&e->remote, remote))
			break;
	pthread_mutex_unlock(&g->lock);
	return e != NULL;
}
