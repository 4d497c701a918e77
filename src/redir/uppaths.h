/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The paths to one upstream, by the local address connections leave from: what Fast Open came
 * to on each, and whether MPTCP gets through. Both back off path by path, with growing
 * pauses: sockets that ask for MPTCP in vain are worse than those of TCP (see dial.h). A bounded table; the path that was not used for longest makes room. Pure; the
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
	bool mptcp;             /* it is in use */
	bool ours;              /* we have dialled it, and asked for MPTCP or not */
	uint32_t rtt_us;        /* 0 = unknown */
};

struct uppath {
	struct addr local; /* port 0 */
	double used_s;
	struct uppath_pause {
		double last_s, until_s; /* the last one, and its end */
		unsigned refused;       /* in a row, before it */
	} tfo, mptcp;
	uint64_t n, n_taken, n_refused, n_lost, n_stripped; /* connections */
	uint32_t rtt_us;                                    /* smoothed */
};

struct uppaths {
	unsigned n;
	struct uppath v[UPPATHS_MAX];
};

enum { UPPATH_TFO = 1, UPPATH_MPTCP = 2 }; /* bits */

/* A pause has begun: why is NULL if none has. */
struct uppath_news {
	const char *why;
	double pause_s;
	int of; /* one of the bits */
};

/* A connection from local stands. */
struct uppath_news uppaths_note(struct uppaths *p, double now_s, const struct addr *local,
				const struct uppath_result *r);
/* What is paused on any path; only then the local address matters. */
int uppaths_any_paused(const struct uppaths *p, double now_s);
/* On the path from this address. */
int uppaths_paused(const struct uppaths *p, double now_s, const struct addr *local);

/* What a dial that succeeded came to. */
struct uppath_result uppath_result_of(const struct dial *d);

#endif
