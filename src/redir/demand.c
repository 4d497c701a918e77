/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/demand.h"

#define FADES     0.93303 /* by half in ten ticks */
#define FORGOTTEN 0.25    /* a peak below this is none any more */

static void raise_to(struct demand *d, double peak)
{
	if (d->peak < peak)
		d->peak = peak;
}

void demand_add(struct demand *d, unsigned max)
{
	d->now++;
	raise_to(d, d->now < max ? d->now : max);
}

void demand_expect(struct demand *d)
{
	raise_to(d, 1.);
}

void demand_tick(struct demand *d)
{
	d->now = 0;
	d->peak *= FADES;
	if (d->peak < FORGOTTEN)
		d->peak = 0;
}

unsigned demand_target(const struct demand *d, unsigned max)
{
	unsigned n;

	if (d->peak >= max)
		return max;
	n = (unsigned)d->peak;
	return n < d->peak ? n + 1 : n; /* rounded up */
}
