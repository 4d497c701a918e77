/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/perclient.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BUCKETS       4096 /* a power of 2 */
#define WAITING_SHARE 4    /* one in so many may wait for long */

struct entry {
	struct entry *next;
	struct addr key;
	unsigned count, waiting;
};

struct perclient {
	pthread_mutex_t lock;
	uint32_t seed;
	unsigned total, waiting;
	struct entry *buckets[BUCKETS];
};

struct perclient *perclient_new(void)
{
	struct perclient *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	pthread_mutex_init(&p->lock, NULL);
	if (getrandom(&p->seed, sizeof(p->seed), 0) != sizeof(p->seed))
		p->seed = 0;
	return p;
}

void perclient_free(struct perclient *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < BUCKETS; i++) {
		while (p->buckets[i]) {
			struct entry *e = p->buckets[i];
			p->buckets[i] = e->next;
			free(e);
		}
	}
	pthread_mutex_destroy(&p->lock);
	free(p);
}

struct addr perclient_key(const struct addr *from)
{
	struct addr key = *from;

	addr_set_port(&key, 0);
	if (addr_family(&key) == AF_INET6)
		memset(key.u.in6.sin6_addr.s6_addr + 8, 0, 8);
	return key;
}

/* The link that points at the entry, or at the end of its bucket. */
static struct entry **find(struct perclient *p, const struct addr *key)
{
	struct entry **link = &p->buckets[addr_hash(key, p->seed) & (BUCKETS - 1)];

	while (*link && !addr_equal_ip(&(*link)->key, key))
		link = &(*link)->next;
	return link;
}

bool perclient_take(struct perclient *p, const struct addr *from, unsigned max_each,
		    unsigned max_total)
{
	struct addr key = perclient_key(from);
	struct entry **link, *e;
	bool ok;

	pthread_mutex_lock(&p->lock);
	link = find(p, &key);
	e = *link;
	ok = p->total < max_total && (!e || e->count < max_each);
	if (ok && !e) {
		e = calloc(1, sizeof(*e));
		ok = e != NULL;
		if (ok) {
			e->key = key;
			*link = e;
		}
	}
	if (ok) {
		e->count++;
		p->total++;
	}
	pthread_mutex_unlock(&p->lock);
	return ok;
}

bool perclient_wait(struct perclient *p, const struct addr *from, unsigned max_each,
		    unsigned max_total)
{
	struct addr key = perclient_key(from);
	struct entry *e;
	bool ok;

	pthread_mutex_lock(&p->lock);
	e = *find(p, &key);
	ok = e && e->waiting < max_each / WAITING_SHARE && p->waiting < max_total / WAITING_SHARE;
	if (ok) {
		e->waiting++;
		p->waiting++;
	}
	pthread_mutex_unlock(&p->lock);
	return ok;
}

void perclient_wait_over(struct perclient *p, const struct addr *from)
{
	struct addr key = perclient_key(from);
	struct entry *e;

	pthread_mutex_lock(&p->lock);
	e = *find(p, &key);
	if (e) {
		e->waiting--;
		p->waiting--;
	}
	pthread_mutex_unlock(&p->lock);
}

void perclient_give(struct perclient *p, const struct addr *from)
{
	struct addr key = perclient_key(from);
	struct entry **link, *e;

	pthread_mutex_lock(&p->lock);
	link = find(p, &key);
	e = *link;
	if (e) {
		p->total--;
		if (--e->count == 0) {
			*link = e->next;
			free(e);
		}
	}
	pthread_mutex_unlock(&p->lock);
}

unsigned perclient_total(struct perclient *p)
{
	unsigned n;

	pthread_mutex_lock(&p->lock);
	n = p->total;
	pthread_mutex_unlock(&p->lock);
	return n;
}
