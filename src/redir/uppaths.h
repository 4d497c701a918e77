/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The paths to one upstream, by the local address connections leave from: what Fast Open came
 * to on each, and whether MPTCP gets through. Fast Open backs off path by path, with growing
 * pauses. A bounded table; the path that was not used for longest makes room. Pure; the
 * upstream locks.
 */
#ifndef REDIR_UPPATHS_H
#define REDIR_UPPATHS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

#define UPPATHS_MAX 8

struct dial;

/* What one connection came to. */
struct uppath_result {
	bool syn_data_acked;    /* the data in the SYN was taken */
	unsigned fastopen_fail; /* see struct sock_info */
	bool stripped;          /* MPTCP was asked for, and TCP is what came */
	uint32_t rtt_us;        /* 0 = unknown */
};

struct uppath {
	struct addr local; /* port 0 */
	double used_s;
	double pause_s, until_s;                            /* the last pause, and its end */
	unsigned refused;                                   /* SYN data not taken, in a row */
	uint64_t n, n_taken, n_refused, n_lost, n_stripped; /* connections */
	uint32_t rtt_us;                                    /* smoothed */
};

struct uppaths {
	unsigned n;
	struct uppath v[UPPATHS_MAX];
};

/* A connection from local stands. Says why if that has begun a pause, else NULL; *pause_s is
 * its length. */
const char *uppaths_note(struct uppaths *p, double now_s, const struct addr *local,
			 const struct uppath_result *r, double *pause_s);
/* Is there a pause on any path? Only then the local address matters. */
bool uppaths_any_paused(const struct uppaths *p, double now_s);
/* On the path from this address. */
bool uppaths_paused(const struct uppaths *p, double now_s, const struct addr *local);

/* What a dial that succeeded came to. */
struct uppath_result uppath_result_of(const struct dial *d);

#endif
