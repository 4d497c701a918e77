/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Associations of one worker by their ID. Pure. IDs are random and ours, so they are their own
 * hash; only the first octet is not random: with it, any socket finds the worker (assoc_id_worker).
 */
#ifndef PROXY_ASSOC_TABLE_H
#define PROXY_ASSOC_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct assoc_node {
	struct assoc_node *next;
	uint64_t id;
};

struct assoc_table {
	struct assoc_node **buckets;
	size_t mask; /* number of buckets - 1 */
	size_t count;
};

bool assoc_table_init(struct assoc_table *t); /* false: out of memory */
void assoc_table_fini(struct assoc_table *t); /* the nodes are their owners' */

/* node->id is set. False if this ID is there already, or it is 0. */
bool assoc_table_add(struct assoc_table *t, struct assoc_node *node);
struct assoc_node *assoc_table_find(const struct assoc_table *t, uint64_t id); /* or NULL */
void assoc_table_remove(struct assoc_table *t, struct assoc_node *node);

/* Octets of the table itself. */
size_t assoc_table_memory(const struct assoc_table *t);

/* An ID for worker index of so many (256 at most), from 64 random bits. */
uint64_t assoc_id_make(uint64_t random, unsigned index, unsigned of);
/* Whose it is: the first octet on the wire modulo the number of workers. */
unsigned assoc_id_worker(uint64_t id, unsigned of);

#endif
