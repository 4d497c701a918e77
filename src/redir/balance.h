/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of several upstreams gets the next flow. By weight: smoothly, so that of the weights
 * 3 and 1 every fourth flow goes to the second, and not every fourth quartet. By latency: those
 * with the least round-trip time, and so close to it that the difference means nothing; among
 * these by weight. Pure; the pool locks.
 */
#ifndef REDIR_BALANCE_H
#define REDIR_BALANCE_H

#include <stdbool.h>
#include <stdint.h>

#define BALANCE_MAX 64 /* upstreams */

enum balance_by { BALANCE_WEIGHT, BALANCE_LATENCY };

struct balance {
	enum balance_by by;
	int credit[BALANCE_MAX]; /* what an upstream is owed */
	bool near[BALANCE_MAX];  /* latency: among the nearest so far */
};

struct balance_candidate {
	unsigned index;  /* of the upstream, below BALANCE_MAX */
	int weight;      /* 1..100 */
	uint32_t rtt_us; /* smoothed; 0 = unknown, which counts as near */
};

/* The index of the chosen one; n > 0. The same calls choose the same. */
unsigned balance_choose(struct balance *b, const struct balance_candidate *v, unsigned n);

/* The next value of a smoothed round-trip time. */
uint32_t balance_smooth(uint32_t smoothed_us, uint32_t sample_us);

#endif
