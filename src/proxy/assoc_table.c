/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/assoc_table.h"

#include <stdlib.h>

#define BUCKETS 64 /* at first */

bool assoc_table_init(struct assoc_table *t)
{
	t->buckets = calloc(BUCKETS, sizeof(*t->buckets));
	t->mask = BUCKETS - 1;
	t->count = 0;
	return t->buckets != NULL;
}

void assoc_table_fini(struct assoc_table *t)
{
	free(t->buckets);
	t->buckets = NULL;
	t->count = 0;
}

static struct assoc_node **bucket(const struct assoc_table *t, uint64_t id)
{
	return &t->buckets[(size_t)id & t->mask];
}

/* Longer chains do no harm where there is no memory for more buckets. */
static void grow(struct assoc_table *t)
{
	struct assoc_table bigger = {.mask = t->mask * 2 + 1};

	bigger.buckets = calloc(bigger.mask + 1, sizeof(*bigger.buckets));
	if (!bigger.buckets)
		return;
	for (size_t i = 0; i <= t->mask; i++) {
		while (t->buckets[i]) {
			struct assoc_node *node = t->buckets[i], **to = bucket(&bigger, node->id);

			t->buckets[i] = node->next;
			node->next = *to;
			*to = node;
		}
	}
	bigger.count = t->count;
	free(t->buckets);
	*t = bigger;
}

struct assoc_node *assoc_table_find(const struct assoc_table *t, uint64_t id)
{
	struct assoc_node *node = *bucket(t, id);

	while (node && node->id != id)
		node = node->next;
	return node;
}

bool assoc_table_add(struct assoc_table *t, struct assoc_node *node)
{
	struct assoc_node **to;

	if (node->id == 0 || assoc_table_find(t, node->id))
		return false;
	if (t->count > t->mask)
		grow(t);
	to = bucket(t, node->id);
	node->next = *to;
	*to = node;
	t->count++;
	return true;
}

void assoc_table_remove(struct assoc_table *t, struct assoc_node *node)
{
	struct assoc_node **link = bucket(t, node->id);

	while (*link && *link != node)
		link = &(*link)->next;
	if (!*link)
		return;
	*link = node->next;
	node->next = NULL;
	t->count--;
}

size_t assoc_table_memory(const struct assoc_table *t)
{
	return (t->mask + 1) * sizeof(*t->buckets);
}

uint64_t assoc_id_make(uint64_t random, unsigned index, unsigned of)
{
	uint64_t choices = (255 - index) / of + 1; /* first octets that mean this worker */
	uint64_t first = index + of * ((random >> 56) % choices);

	return first << 56 | (random & UINT64_C(0x00ffffffffffffff));
}

unsigned assoc_id_worker(uint64_t id, unsigned of)
{
	return (unsigned)(id >> 56) % of;
}
