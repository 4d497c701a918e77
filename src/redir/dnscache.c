/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/dnscache.h"

#include <stdlib.h>
#include <string.h>

#include "core/list.h"
#include "core/siphash.h"

#define BUCKETS 1024

struct entry {
	struct list_node node; /* in use order, the longest unused first */
	struct entry *next;    /* of the same bucket */
	struct dns_key key;
	double put_s, until_s;
	size_t len;
	uint8_t msg[];
};

struct dnscache {
	struct siphash_key hash;
	struct list used;
	size_t octets;
	struct entry *bucket[BUCKETS];
};

struct dnscache *dnscache_new(void)
{
	struct dnscache *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	list_init(&c->used);
	if (!siphash_new_key(&c->hash)) {
		free(c);
		return NULL;
	}
	return c;
}

static struct entry **place(struct dnscache *c, const struct dns_key *key)
{
	struct entry **e = &c->bucket[siphash(&c->hash, key->octets, key->len) % BUCKETS];

	while (*e &&
	       ((*e)->key.len != key->len || memcmp((*e)->key.octets, key->octets, key->len) != 0))
		e = &(*e)->next;
	return e;
}

static void drop(struct dnscache *c, struct entry **at)
{
	struct entry *e = *at;

	*at = e->next;
	list_remove(&c->used, &e->node);
	c->octets -= sizeof(*e) + e->len;
	free(e);
}

static void drop_oldest(struct dnscache *c)
{
	struct entry *e = container_of(list_first(&c->used), struct entry, node);

	drop(c, place(c, &e->key));
}

void dnscache_clear(struct dnscache *c)
{
	while (!list_empty(&c->used))
		drop_oldest(c);
}

void dnscache_free(struct dnscache *c)
{
	if (!c)
		return;
	dnscache_clear(c);
	free(c);
}

void dnscache_put(struct dnscache *c, const struct dns_key *key, const uint8_t *msg, size_t len,
		  double now_s, double ttl_s, unsigned most)
{
	struct entry **at = place(c, key), *e;

	if (*at)
		drop(c, at);
	while (c->used.count > 0 &&
	       (c->used.count >= most || c->octets > (size_t)most * DNSCACHE_EACH))
		drop_oldest(c);
	if (most == 0 || len > DNSCACHE_ANSWER_MAX || len < DNS_HEADER)
		return;
	e = malloc(sizeof(*e) + len);
	if (!e)
		return;
	e->key = *key;
	e->put_s = now_s;
	e->until_s = now_s + ttl_s;
	e->len = len;
	memcpy(e->msg, msg, len);
	at = &c->bucket[siphash(&c->hash, key->octets, key->len) % BUCKETS];
	e->next = *at;
	*at = e;
	list_push(&c->used, &e->node);
	c->octets += sizeof(*e) + len;
}

size_t dnscache_get(struct dnscache *c, const struct dns_key *key, double now_s, uint8_t *out)
{
	struct entry **at = place(c, key), *e = *at;

	if (!e)
		return 0;
	if (now_s >= e->until_s) {
		drop(c, at);
		return 0;
	}
	list_remove(&c->used, &e->node);
	list_push(&c->used, &e->node);
	memcpy(out, e->msg, e->len);
	/* Rounded up: nobody keeps it longer than its server wished. */
	dns_age(out, e->len, (uint32_t)(now_s - e->put_s + 0.999));
	return e->len;
}

unsigned dnscache_count(const struct dnscache *c)
{
	return (unsigned)c->used.count;
}
