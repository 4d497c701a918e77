/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/learned_journal.h"

#include <stdlib.h>
#include <string.h>

bool journal_init(struct journal *j, unsigned cap)
{
	memset(j, 0, sizeof(*j));
	pthread_mutex_init(&j->lock, NULL);
	if (cap > 0)
		j->ring = calloc(cap, sizeof(*j->ring));
	j->cap = j->ring ? cap : 0;
	return j->cap == cap;
}

void journal_free(struct journal *j)
{
	free(j->ring);
	pthread_mutex_destroy(&j->lock);
}

void journal_tell(struct journal *j, const struct addr *a, enum learned_what what, double ttl_s)
{
	struct learned_change *c;

	if (j->cap == 0)
		return;
	pthread_mutex_lock(&j->lock);
	if (j->n == j->cap) {
		j->overflow = true;
		j->n = 0;
	}
	/* Until the reader has come, whole listing and all, telling more is of no use. */
	if (!j->overflow) {
		c = &j->ring[(j->first + j->n++) % j->cap];
		*c = (struct learned_change){.addr = *a, .what = what};
		if (what != LEARNED_REMOVE)
			c->ttl_s = learned_seconds(ttl_s);
	}
	pthread_mutex_unlock(&j->lock);
}

unsigned journal_drain(struct journal *j, struct learned_change *out, unsigned n, bool *resync)
{
	unsigned got = 0;

	pthread_mutex_lock(&j->lock);
	*resync = j->overflow;
	j->overflow = false;
	for (; got < n && j->n > 0; got++, j->n--) {
		out[got] = j->ring[j->first];
		j->first = (j->first + 1) % j->cap;
	}
	pthread_mutex_unlock(&j->lock);
	return got;
}
