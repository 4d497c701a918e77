/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/loopguard.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#define BUCKETS 1024 /* a power of 2 */

struct loopguard {
	pthread_mutex_t lock;
	uint32_t seed[2];
	struct loopguard_entry *buckets[BUCKETS];
};

struct loopguard *loopguard_new(void)
{
	struct loopguard *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	pthread_mutex_init(&g->lock, NULL);
	if (getrandom(g->seed, sizeof(g->seed), 0) != sizeof(g->seed))
		g->seed[0] = g->seed[1] = 0;
	return g;
}

void loopguard_free(struct loopguard *g)
{
	if (!g)
		return;
	pthread_mutex_destroy(&g->lock);
	free(g);
}

/* Of 64 bits, so that with 100,000 entries one look in 10^14 finds a pair that is not there. A device
 * that found such a pair on purpose would harm its own connection only. */
static uint64_t key_of(const struct loopguard *g, const struct addr *local,
		       const struct addr *remote)
{
	uint64_t key = (uint64_t)addr_hash(remote, g->seed[1]) << 32 | addr_hash(local, g->seed[0]);

	return key ? key : 1;
}

/* Our own local ports spread well enough. */
static struct loopguard_entry **bucket_of(struct loopguard *g, uint64_t key)
{
	return &g->buckets[key & (BUCKETS - 1)];
}

static void unlist(struct loopguard *g, struct loopguard_entry *e)
{
	struct loopguard_entry **p = bucket_of(g, e->key);

	while (*p != e)
		p = &(*p)->next;
	*p = e->next;
	e->key = 0;
}

void loopguard_add(struct loopguard *g, struct loopguard_entry *e, const struct addr *local,
		   const struct addr *remote)
{
	uint64_t key = key_of(g, local, remote);
	struct loopguard_entry **p = bucket_of(g, key);

	pthread_mutex_lock(&g->lock);
	if (e->key)
		unlist(g, e);
	e->key = key;
	e->next = *p;
	*p = e;
	pthread_mutex_unlock(&g->lock);
}

void loopguard_remove(struct loopguard *g, struct loopguard_entry *e)
{
	pthread_mutex_lock(&g->lock);
	if (e->key)
		unlist(g, e);
	pthread_mutex_unlock(&g->lock);
}

bool loopguard_has(struct loopguard *g, const struct addr *local, const struct addr *remote)
{
	uint64_t key = key_of(g, local, remote);
	const struct loopguard_entry *e;

	pthread_mutex_lock(&g->lock);
	for (e = *bucket_of(g, key); e && e->key != key; e = e->next)
		;
	pthread_mutex_unlock(&g->lock);
	return e != NULL;
}
