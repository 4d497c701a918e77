/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Policy routing for TPROXY: packets with our fwmark bit are delivered to this host. An ip rule
 * and a local default route for each family, by rtnetlink. Owned by struct rules.
 */
#ifndef REDIR_RULES_ROUTE_H
#define REDIR_RULES_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

struct rules_route;

/*
 * first: the routing table to take; where others use it, one of the 15 that follow (logged).
 * What the scripts in redirect-rules/ or a daemon before us have made is used, but not taken down.
 * 0 or -errno (logged); -EADDRINUSE: no free table.
 */
int rules_route_open(struct rules_route **out, uint32_t first, bool v6);
/* No other daemon is alive: what one has left behind (not the scripts) is ours to take down. */
void rules_route_adopt(struct rules_route *r);
/* Put back what is missing: 1 = something was, 0, or -errno. */
int rules_route_check(struct rules_route *r);
/* Take down what open and check have added. NULL is allowed. */
void rules_route_close(struct rules_route *r);

/* The same, but leave it all in place for a daemon that comes after us. NULL is allowed. */
void rules_route_leave(struct rules_route *r);

uint32_t rules_route_table(const struct rules_route *r);

#endif
