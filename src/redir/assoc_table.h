/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The associations of one worker: found by who sends, or by the number the proxy gave; the one that
 * has been silent for the longest time first. Pure: the clock is the caller's. Devices choose the
 * keys, so the hash is one they cannot foresee.
 */
#ifndef REDIR_ASSOC_TABLE_H
#define REDIR_ASSOC_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/list.h"
#include "core/siphash.h"

struct assoc_key {
	struct addr src; /* the device */
	uint8_t ttl;     /* udp_probe_ttl */
	bool direct;     /* not through a proxy, by policy */
	uint64_t door;   /* of an association of the front door, else 0 */
};

/* How long it may be silent is by kind. ASSOC_DOOR: as long as a program wants it (front_udp.h). */
enum assoc_kind { ASSOC_ORDINARY, ASSOC_DNS, ASSOC_PROBE, ASSOC_DOOR, ASSOC_KINDS };

/* Embedded in its owner, which is not moved meanwhile. */
struct assoc_node {
	struct assoc_key key;
	double seen_s; /* when the device sent last */
	/* private */
	struct assoc_node *next; /* with the same hash */
	struct list_node order;
	enum assoc_kind kind;
};

struct assoc_table {
	struct siphash_key key;
	struct assoc_node **buckets;
	size_t n_buckets, n, max;
	struct list order[ASSOC_KINDS]; /* the one that sent last at the end */
	double idle_s[ASSOC_KINDS];
};

/* 0 or -errno. max: how many there may be. */
int assoc_table_init(struct assoc_table *t, size_t max);
/* Nothing may be in it. */
void assoc_table_fini(struct assoc_table *t);

struct assoc_node *assoc_table_find(const struct assoc_table *t, const struct assoc_key *key);
/* node->key is set and is not in the table, which is not full. */
void assoc_table_add(struct assoc_table *t, struct assoc_node *node, enum assoc_kind kind,
		     double now_s);
/* The device has sent to a port of this kind: the one with the longer time counts. */
void assoc_table_touch(struct assoc_table *t, struct assoc_node *node, enum assoc_kind kind,
		       double now_s);
void assoc_table_remove(struct assoc_table *t, struct assoc_node *node);

static inline bool assoc_table_full(const struct assoc_table *t)
{
	return t->n >= t->max;
}

/* The one that has been silent for the longest time, but no ASSOC_DOOR; NULL = none. */
struct assoc_node *assoc_table_oldest(const struct assoc_table *t);
/* One that has been silent for too long, but no ASSOC_DOOR; NULL = none. */
struct assoc_node *assoc_table_expired(const struct assoc_table *t, double now_s);
/* Those that sent after since_s, one after another, latest first within a kind: NULL first, then
 * what was returned before, which may not have been removed. NULL = no more. */
struct assoc_node *assoc_table_active(const struct assoc_table *t, const struct assoc_node *last,
				      double since_s);

#endif
