/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What upstream connections carried, by the local address of their subflows. A worker keeps that
 * of connections that have ended; those that are there are asked when somebody wants to know.
 * A bounded table; the address that was not used for longest makes room. No locks.
 */
#ifndef REDIR_WAN_USAGE_H
#define REDIR_WAN_USAGE_H

#include <stdint.h>

#include "core/addr.h"

#define WAN_USAGE_MAX 16

struct wan_use {
	struct addr local;        /* port 0 */
	uint64_t up, down;        /* octets acknowledged by the peer, and received */
	uint64_t retransmitted;   /* segments */
	uint64_t subflows, mptcp; /* how many were added, and of these MPTCP's */
	uint64_t rtt_us;          /* sum over them */
	uint64_t used;            /* when last; a count */
};

struct wan_usage {
	unsigned n;
	uint64_t turns;
	struct wan_use v[WAN_USAGE_MAX];
};

/* Add the subflows of an open socket as they are now. */
void wan_usage_add(struct wan_usage *u, int fd);
/* Add another table. */
void wan_usage_merge(struct wan_usage *u, const struct wan_usage *from);
/* NULL: nothing is known of this address. */
const struct wan_use *wan_usage_find(const struct wan_usage *u, const struct addr *local);

#endif
