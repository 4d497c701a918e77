/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How many connections each user has and has had. Shared by all workers, locks itself; memory is
 * bounded by the number of users. */
#ifndef PROXY_PERUSER_H
#define PROXY_PERUSER_H

#include <stdbool.h>

struct peruser;
struct report;

struct peruser *peruser_new(void); /* NULL = out of memory */
void peruser_free(struct peruser *p);

/* One more. False if he has max already, or for lack of memory. */
bool peruser_take(struct peruser *p, const char *user, unsigned max);
void peruser_give(struct peruser *p, const char *user);
/* The list "by_user": a row for each that has ever been taken. */
void peruser_report(struct peruser *p, struct report *r);

#endif
