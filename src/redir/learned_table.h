/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The storage of learned.c for one address family: hash, order of use, memory. It knows nothing
 * of verdicts or time, and does not lock; learned.c does. Slots come in chunks, on demand, and
 * stay where they are until the entry goes; only table_resize moves them, and downwards only, so
 * that a walk by index never meets an entry twice.
 */
#ifndef REDIR_LEARNED_TABLE_H
#define REDIR_LEARNED_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/list.h"
#include "core/siphash.h"

#define TABLE_CHUNK 256u /* slots */

struct slot {
	struct list_node order; /* in table.recent, .pinned or .unused */
	struct slot *chain;     /* the next in the same bucket */
	struct addr key;
	bool used, pinned;
	uint64_t serial; /* of the insertion: rises */
	int64_t tick;    /* of the last use: rises */
	/* what learned.c keeps here */
	uint8_t verdict, evidence, strikes;
	double created_s, expires_s;
	double struck_s, forget_s; /* last strike; when the strikes are forgotten */
	double mirrored_s;         /* the end of its lifetime as the journal told it last */
	uint64_t hits, saved;
};

struct table {
	struct siphash_key seed;
	unsigned max, count;
	struct slot **buckets; /* NULL until there is an entry */
	uint32_t n_buckets;    /* a power of 2 */
	struct slot **chunks;
	uint32_t n_chunks;  /* allocated; chunks[] has room for all that max needs */
	struct list recent; /* least recently used first */
	struct list pinned; /* never the victim while anything else is left */
	struct list unused;
	uint64_t serial;
	int64_t newest, oldest; /* ticks */
};

/* False: no memory, or no random numbers. */
bool table_init(struct table *t, unsigned max);
void table_free(struct table *t);

struct slot *table_find(const struct table *t, const struct addr *key);
/* A new entry, the most recently used one; its fields are zero. key must not be there. NULL when
 * the table is full or there is no memory. */
struct slot *table_add(struct table *t, const struct addr *key);
void table_remove(struct table *t, struct slot *s);
void table_touch(struct table *t, struct slot *s);    /* it is the most recently used */
void table_put_last(struct table *t, struct slot *s); /* it is the least recently used */
void table_pin(struct table *t, struct slot *s, bool pinned);
/* Which one to give up: the least recently used that is not pinned, or NULL. */
struct slot *table_victim(const struct table *t);

/* Needs count <= max. False: no memory, nothing has changed. */
bool table_resize(struct table *t, unsigned max);

static inline uint32_t table_slots(const struct table *t)
{
	return t->n_chunks * TABLE_CHUNK;
}

/* The entry in slot i < table_slots(), NULL if there is none. */
struct slot *table_at(const struct table *t, uint32_t i);

#endif
