/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many connections each client address has: IPv4 addresses one by one, IPv6 by /64.
 * Shared by all workers, locks itself. Memory is bounded by the total it allows.
 */
#ifndef SIXPATH_PERCLIENT_H
#define SIXPATH_PERCLIENT_H

#include <stdbool.h>

#include "core/addr.h"

struct perclient;

struct perclient *perclient_new(void); /* NULL = out of memory */
void perclient_free(struct perclient *p);

/* What counts as one client: the address without port, of IPv6 the first 64 bits. */
struct addr perclient_key(const struct addr *from);

/* One more connection of this address. False if that would exceed one of the limits. */
bool perclient_take(struct perclient *p, const struct addr *from, unsigned max_each,
		    unsigned max_total);
/* A connection that is there may wait long for its first octet. False if a quarter of either limit
 * waits already. It goes on counting as a connection. */
bool perclient_wait(struct perclient *p, const struct addr *from, unsigned max_each,
		    unsigned max_total);
void perclient_wait_over(struct perclient *p, const struct addr *from);
void perclient_give(struct perclient *p, const struct addr *from);
unsigned perclient_total(struct perclient *p);

#endif
