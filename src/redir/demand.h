/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many connections to keep ready, from how many were wanted lately. Pure. A replacement
 * takes a round trip, so what counts is how many come at once: the most within one tick (a
 * second), which fades by half in ten seconds. One lonely flow keeps one connection for 20 s;
 * eight at once keep eight, and the last of them is given up after 50 s.
 */
#ifndef REDIR_DEMAND_H
#define REDIR_DEMAND_H

/* Zero-initialised: nothing is wanted. */
struct demand {
	unsigned now; /* wanted in this tick */
	double peak;
};

/* One was wanted; no more than max are remembered, so that a flood does not last for long. */
void demand_add(struct demand *d, unsigned max);
/* Others are in use: one is likely to be wanted here soon. */
void demand_expect(struct demand *d);
/* A second has gone by. */
void demand_tick(struct demand *d);
/* How many to keep ready, at most max. */
unsigned demand_target(const struct demand *d, unsigned max);

#endif
