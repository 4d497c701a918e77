/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A program at the front door that asks for something other than a connection: what it is given to
 * front_udp.c and front_bind.c with, and what they need of flow_front.c.
 */
#ifndef REDIR_FRONT_GUEST_H
#define REDIR_FRONT_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "redir/front.h"

struct redir_conf;
struct redir_worker;
struct resolver;

/*
 * Who takes one (END_NONE is returned) has the descriptor, the place in perclient (perclient_give)
 * and a place in the budget of its own, and tells the program all that follows. Else nothing has
 * been taken, and the reason becomes the reply.
 */
struct front_guest {
	int fd;
	struct addr src;
	enum front_kind kind; /* SOCKS 4 or 5 */
	/* during the call only: */
	const struct s6_address *dst;
	const uint8_t *early; /* what came behind the request */
	size_t early_len;
};

/* Closes the descriptor when the program has read what was written last. */
void front_farewell(struct redir_worker *rw, int fd);
/* May this program reach that address? */
bool front_allows(const struct addr *src, const struct addr *dst);
/* It goes through no proxy. */
bool front_is_direct(const struct redir_conf *c, const struct addr *dst);
/* The worker's, made when it is needed first. NULL = it cannot be. */
struct resolver *front_resolver(struct redir_worker *rw);

#endif
