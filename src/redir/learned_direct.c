/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/learned_direct.h"

#include <string.h>

void direct_init(struct direct *d)
{
	memset(d, 0, sizeof(*d));
	pthread_mutex_init(&d->lock, NULL);
}

void direct_free(struct direct *d)
{
	pthread_mutex_destroy(&d->lock);
}

void direct_reset(struct direct *d)
{
	pthread_mutex_lock(&d->lock);
	d->n = 0;
	d->until_s = d->pause_s = 0;
	pthread_mutex_unlock(&d->lock);
}

static void add_failure(struct direct *d, const struct addr *a, double now_s)
{
	for (unsigned i = 0; i < d->n; i++)
		if (addr_equal_ip(&d->failed[i], a))
			return;
	d->failed[d->n++] = *a;
	if (d->n < LEARNED_DIRECT_FAILURES)
		return;
	d->n = 0;
	d->pause_s = d->pause_s > 0 ? 2 * d->pause_s : LEARNED_DIRECT_PAUSE_S;
	if (d->pause_s > LEARNED_DIRECT_PAUSE_MAX_S)
		d->pause_s = LEARNED_DIRECT_PAUSE_MAX_S;
	d->until_s = now_s + d->pause_s;
}

void direct_result(struct direct *d, const struct addr *a, double now_s, bool ok)
{
	if (ok) {
		direct_reset(d);
		return;
	}
	pthread_mutex_lock(&d->lock);
	if (now_s >= d->until_s)
		add_failure(d, a, now_s);
	pthread_mutex_unlock(&d->lock);
}

double direct_paused(struct direct *d, double now_s)
{
	double left;

	pthread_mutex_lock(&d->lock);
	left = d->until_s - now_s;
	pthread_mutex_unlock(&d->lock);
	return left > 0 ? left : 0;
}
