/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/balance.h"

#include <stddef.h>

/* To be counted among the nearest takes less than to stay there, or it would flap. */
#define JOIN_PERCENT 10
#define JOIN_US      1000
#define STAY_PERCENT 30
#define STAY_US      5000

#define SMOOTH 4 /* a new sample has this share */

uint32_t balance_smooth(uint32_t smoothed_us, uint32_t sample_us)
{
	if (sample_us == 0 || smoothed_us == 0)
		return sample_us ? sample_us : smoothed_us;
	return (uint32_t)(((uint64_t)smoothed_us * (SMOOTH - 1) + sample_us) / SMOOTH);
}

static uint32_t least_rtt(const struct balance_candidate *v, unsigned n)
{
	uint32_t least = 0;

	for (unsigned i = 0; i < n; i++)
		if (v[i].rtt_us && (least == 0 || v[i].rtt_us < least))
			least = v[i].rtt_us;
	return least;
}

static bool is_near(bool was_near, uint32_t rtt_us, uint32_t least_us)
{
	uint64_t percent = was_near ? STAY_PERCENT : JOIN_PERCENT;
	uint64_t margin_us = was_near ? STAY_US : JOIN_US;

	return rtt_us <= least_us + least_us * percent / 100 + margin_us;
}

static void find_nearest(struct balance *b, const struct balance_candidate *v, unsigned n)
{
	uint32_t least = least_rtt(v, n);

	for (unsigned i = 0; i < n; i++)
		b->near[v[i].index] = is_near(b->near[v[i].index], v[i].rtt_us, least);
}

/* Each candidate earns its weight, the richest gets the flow and pays what all have earned. */
unsigned balance_choose(struct balance *b, const struct balance_candidate *v, unsigned n)
{
	const struct balance_candidate *best = NULL;
	int total = 0;

	if (b->by == BALANCE_LATENCY)
		find_nearest(b, v, n);
	for (unsigned i = 0; i < n; i++) {
		if (b->by == BALANCE_LATENCY && !b->near[v[i].index])
			continue;
		b->credit[v[i].index] += v[i].weight;
		total += v[i].weight;
		if (!best || b->credit[v[i].index] > b->credit[best->index])
			best = &v[i];
	}
	if (!best) /* not so: the one with the least is near itself */
		return v[0].index;
	b->credit[best->index] -= total;
	return best->index;
}
