/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/learned_table.h"

#include <stdlib.h>
#include <string.h>

static uint32_t chunks_for(unsigned max)
{
	return max / TABLE_CHUNK + (max % TABLE_CHUNK != 0);
}

static uint32_t buckets_for(unsigned max)
{
	uint32_t n = 16;

	while (n < max && n < UINT32_C(1) << 30)
		n *= 2;
	return n;
}

static struct slot **bucket_of(const struct table *t, const struct addr *key)
{
	uint8_t octets[16 + 4 + 4] = {0}; /* whole words */
	uint16_t port = addr_port(key);
	size_t n = 4;

	if (addr_family(key) == AF_INET) {
		memcpy(octets, &key->u.in.sin_addr, 4);
	} else {
		memcpy(octets, &key->u.in6.sin6_addr, 16);
		memcpy(octets + 16, &key->u.in6.sin6_scope_id, 4);
		n = 20;
	}
	memcpy(octets + n, &port, 2);
	return &t->buckets[siphash(&t->seed, octets, n + 4) & (t->n_buckets - 1)];
}

bool table_init(struct table *t, unsigned max)
{
	memset(t, 0, sizeof(*t));
	list_init(&t->recent);
	list_init(&t->pinned);
	list_init(&t->unused);
	return siphash_new_key(&t->seed) && table_resize(t, max);
}

void table_free(struct table *t)
{
	for (uint32_t i = 0; i < t->n_chunks; i++)
		free(t->chunks[i]);
	free(t->chunks);
	free(t->buckets);
	memset(t, 0, sizeof(*t));
}

static struct slot *slot_of(const struct table *t, uint32_t i)
{
	return &t->chunks[i / TABLE_CHUNK][i % TABLE_CHUNK];
}

struct slot *table_at(const struct table *t, uint32_t i)
{
	struct slot *s = slot_of(t, i);

	return s->used ? s : NULL;
}

struct slot *table_find(const struct table *t, const struct addr *key)
{
	struct slot *s = t->buckets ? *bucket_of(t, key) : NULL;

	while (s && !addr_equal(&s->key, key))
		s = s->chain;
	return s;
}

static bool add_chunk(struct table *t)
{
	struct slot *chunk;

	if (t->n_chunks == chunks_for(t->max))
		return false;
	chunk = calloc(TABLE_CHUNK, sizeof(*chunk));
	if (!chunk)
		return false;
	t->chunks[t->n_chunks++] = chunk;
	for (unsigned i = 0; i < TABLE_CHUNK; i++)
		list_push(&t->unused, &chunk[i].order);
	return true;
}

struct slot *table_add(struct table *t, const struct addr *key)
{
	struct slot **bucket, *s;

	if (!t->buckets)
		t->buckets = calloc(t->n_buckets, sizeof(struct slot *));
	if (!t->buckets || t->count >= t->max || (list_empty(&t->unused) && !add_chunk(t)))
		return NULL;
	s = container_of(list_pop(&t->unused), struct slot, order);
	memset(s, 0, sizeof(*s));
	s->key = *key;
	s->used = true;
	s->serial = ++t->serial;
	s->tick = ++t->newest;
	bucket = bucket_of(t, key);
	s->chain = *bucket;
	*bucket = s;
	list_push(&t->recent, &s->order);
	t->count++;
	return s;
}

static struct list *list_of(struct table *t, const struct slot *s)
{
	return s->pinned ? &t->pinned : &t->recent;
}

/* The link that points at s. */
static struct slot **link_to(struct table *t, const struct slot *s)
{
	struct slot **link = bucket_of(t, &s->key);

	while (*link != s)
		link = &(*link)->chain;
	return link;
}

void table_remove(struct table *t, struct slot *s)
{
	*link_to(t, s) = s->chain;
	list_remove(list_of(t, s), &s->order);
	s->used = false;
	list_push(&t->unused, &s->order);
	t->count--;
}

void table_touch(struct table *t, struct slot *s)
{
	s->tick = ++t->newest;
	list_remove(list_of(t, s), &s->order);
	list_push(list_of(t, s), &s->order);
}

void table_put_last(struct table *t, struct slot *s)
{
	s->tick = --t->oldest;
	list_remove(list_of(t, s), &s->order);
	list_push_front(list_of(t, s), &s->order);
}

void table_pin(struct table *t, struct slot *s, bool pinned)
{
	if (s->pinned == pinned)
		return;
	list_remove(list_of(t, s), &s->order);
	s->pinned = pinned;
	list_push(list_of(t, s), &s->order);
}

struct slot *table_victim(const struct table *t)
{
	struct list_node *n = list_first(&t->recent);

	return n ? container_of(n, struct slot, order) : NULL;
}

/* Entries above the first n slots move into free ones below. Buckets are rebuilt afterwards. */
static void move_down(struct table *t, uint32_t n)
{
	uint32_t low = 0;

	for (uint32_t high = n; high < table_slots(t); high++) {
		struct slot *from = slot_of(t, high), *to;
		struct list_node node;

		if (!from->used) {
			list_remove(&t->unused, &from->order);
			continue;
		}
		while (slot_of(t, low)->used)
			low++;
		to = slot_of(t, low);
		list_remove(&t->unused, &to->order);
		*to = *from;
		node = from->order;
		node.prev->next = node.next->prev = &to->order;
	}
}

bool table_resize(struct table *t, unsigned max)
{
	uint32_t keep = chunks_for(max), n_buckets = buckets_for(max);
	struct slot **buckets = t->buckets ? calloc(n_buckets, sizeof(*buckets)) : NULL;
	struct slot **chunks = calloc(keep + 1, sizeof(struct slot *)); /* never of no size */

	if ((t->buckets && !buckets) || !chunks) {
		free(buckets);
		free(chunks);
		return false;
	}
	move_down(t, keep * TABLE_CHUNK);
	for (uint32_t i = 0; i < t->n_chunks; i++) {
		if (i < keep)
			chunks[i] = t->chunks[i];
		else
			free(t->chunks[i]);
	}
	free(t->chunks);
	free(t->buckets);
	t->chunks = chunks;
	t->n_chunks = t->n_chunks < keep ? t->n_chunks : keep;
	t->buckets = buckets;
	t->n_buckets = n_buckets;
	t->max = max;
	for (uint32_t i = 0; i < table_slots(t); i++) {
		struct slot *s = table_at(t, i), **bucket;

		if (!s)
			continue;
		bucket = bucket_of(t, &s->key);
		s->chain = *bucket;
		*bucket = s;
	}
	return true;
}
