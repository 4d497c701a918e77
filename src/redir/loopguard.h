/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The addresses of our own outgoing connections. A captured connection that has exactly
 * one of these pairs is our own, caught by the rules: a loop. Shared by all workers,
 * locks itself. Entries live in their owners.
 */
#ifndef REDIR_LOOPGUARD_H
#define REDIR_LOOPGUARD_H

#include <stdbool.h>

#include "core/addr.h"

struct loopguard;

struct loopguard_entry {
	struct loopguard_entry *next;
	uint64_t key; /* stands for the pair; 0 = not listed */
};

struct loopguard *loopguard_new(void); /* NULL = out of memory */
void loopguard_free(struct loopguard *g);
/* Replaces what the entry said before. */
void loopguard_add(struct loopguard *g, struct loopguard_entry *e, const struct addr *local,
		   const struct addr *remote);
void loopguard_remove(struct loopguard *g, struct loopguard_entry *e); /* harmless if not listed */
bool loopguard_has(struct loopguard *g, const struct addr *local, const struct addr *remote);

#endif
