/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/assoc_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_MIN 64

static struct assoc_node *node_of(struct list_node *n)
{
	return n ? container_of(n, struct assoc_node, order) : NULL;
}

static size_t bucket_of(const struct assoc_table *t, const struct assoc_key *k)
{
	uint8_t text[16 + 4 + 4] = {0};
	size_t len = 16;

	if (addr_family(&k->src) == AF_INET6) {
		memcpy(text, &k->src.u.in6.sin6_addr, 16);
		memcpy(text + 20, &k->src.u.in6.sin6_scope_id, 4);
		len += 8;
	} else {
		memcpy(text, &k->src.u.in.sin_addr, 4);
		len += 4;
	}
	text[16] = (uint8_t)(addr_port(&k->src) >> 8);
	text[17] = (uint8_t)addr_port(&k->src);
	text[18] = k->ttl;
	text[19] = k->direct;
	return (size_t)siphash(&t->key, text, len) & (t->n_buckets - 1);
}

static bool same(const struct assoc_key *x, const struct assoc_key *y)
{
	return x->ttl == y->ttl && x->direct == y->direct && x->door == y->door &&
	       addr_equal(&x->src, &y->src);
}

int assoc_table_init(struct assoc_table *t, size_t max)
{
	memset(t, 0, sizeof(*t));
	t->max = max;
	t->n_buckets = BUCKETS_MIN;
	while (t->n_buckets < max)
		t->n_buckets *= 2;
	for (int i = 0; i < ASSOC_KINDS; i++)
		list_init(&t->order[i]);
	if (!siphash_new_key(&t->key))
		return -EIO;
	t->buckets = calloc(t->n_buckets, sizeof(*t->buckets));
	return t->buckets ? 0 : -ENOMEM;
}

void assoc_table_fini(struct assoc_table *t)
{
	free(t->buckets);
	t->buckets = NULL;
}

struct assoc_node *assoc_table_find(const struct assoc_table *t, const struct assoc_key *key)
{
	struct assoc_node *n = t->buckets[bucket_of(t, key)];

	while (n && !same(&n->key, key))
		n = n->next;
	return n;
}

void assoc_table_add(struct assoc_table *t, struct assoc_node *node, enum assoc_kind kind,
		     double now_s)
{
	size_t i = bucket_of(t, &node->key);

	node->next = t->buckets[i];
	t->buckets[i] = node;
	t->n++;
	node->kind = kind;
	node->seen_s = now_s;
	list_push(&t->order[kind], &node->order);
}

void assoc_table_touch(struct assoc_table *t, struct assoc_node *node, enum assoc_kind kind,
		       double now_s)
{
	list_remove(&t->order[node->kind], &node->order);
	if (t->idle_s[kind] > t->idle_s[node->kind])
		node->kind = kind;
	node->seen_s = now_s;
	list_push(&t->order[node->kind], &node->order);
}

void assoc_table_remove(struct assoc_table *t, struct assoc_node *node)
{
	struct assoc_node **at = &t->buckets[bucket_of(t, &node->key)];

	while (*at != node)
		at = &(*at)->next;
	*at = node->next;
	t->n--;
	list_remove(&t->order[node->kind], &node->order);
}

struct assoc_node *assoc_table_oldest(const struct assoc_table *t)
{
	struct assoc_node *oldest = NULL;

	for (int i = 0; i < ASSOC_DOOR; i++) {
		struct assoc_node *n = node_of(list_first(&t->order[i]));
		if (n && (!oldest || n->seen_s < oldest->seen_s))
			oldest = n;
	}
	return oldest;
}

struct assoc_node *assoc_table_expired(const struct assoc_table *t, double now_s)
{
	for (int i = 0; i < ASSOC_DOOR; i++) {
		struct assoc_node *n = node_of(list_first(&t->order[i]));
		if (n && now_s - n->seen_s >= t->idle_s[i])
			return n;
	}
	return NULL;
}

struct assoc_node *assoc_table_active(const struct assoc_table *t, const struct assoc_node *last,
				      double since_s)
{
	int kind = last ? (int)last->kind : 0;
	struct list_node *at = last ? last->order.prev : t->order[kind].head.prev;

	for (;;) {
		if (at != &t->order[kind].head && node_of(at)->seen_s > since_s)
			return node_of(at);
		if (++kind == ASSOC_KINDS)
			return NULL;
		at = t->order[kind].head.prev;
	}
}
