/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is the direct path any good? Many destinations in a row that fail on it are no accident: then
 * it pauses. Part of struct learned; locks itself.
 */
#ifndef REDIR_LEARNED_DIRECT_H
#define REDIR_LEARNED_DIRECT_H

#include <pthread.h>

#include "redir/learned.h"

struct direct {
	pthread_mutex_t lock;
	struct addr failed[LEARNED_DIRECT_FAILURES]; /* in a row */
	unsigned n;
	double until_s, pause_s; /* the pause there is or was; 0 = none since the last success */
};

void direct_init(struct direct *d);
void direct_free(struct direct *d);
void direct_reset(struct direct *d);
void direct_result(struct direct *d, const struct addr *a, double now_s, bool ok);
double direct_paused(struct direct *d, double now_s);

#endif
