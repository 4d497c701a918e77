/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changes of the learned table's "yes" entries, in a ring of fixed size, for whoever mirrors them.
 * Part of struct learned; locks itself, after a family's lock.
 */
#ifndef REDIR_LEARNED_JOURNAL_H
#define REDIR_LEARNED_JOURNAL_H

#include <pthread.h>

#include "redir/learned.h"

struct journal {
	pthread_mutex_t lock;
	struct learned_change *ring;
	unsigned cap, first, n;
	bool overflow;
};

/* cap 0: nothing is kept. False: no memory; journal_free is right in both cases. */
bool journal_init(struct journal *j, unsigned cap);
void journal_free(struct journal *j);
void journal_tell(struct journal *j, const struct addr *a, enum learned_what what, double ttl_s);
unsigned journal_drain(struct journal *j, struct learned_change *out, unsigned n, bool *resync);

#endif
