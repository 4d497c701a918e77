/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How many connections each user has. Shared by all workers, locks itself; memory is bounded by
 * the number of connections. */
#ifndef PROXY_PERUSER_H
#define PROXY_PERUSER_H

#include <stdbool.h>

struct peruser;

struct peruser *peruser_new(void); /* NULL = out of memory */
void peruser_free(struct peruser *p);

/* One more. False if he has max already, or for lack of memory. */
bool peruser_take(struct peruser *p, const char *user, unsigned max);
void peruser_give(struct peruser *p, const char *user);

#endif
