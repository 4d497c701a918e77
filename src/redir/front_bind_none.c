/* SPDX-License-Identifier: GPL-2.0-or-later */
/* configure --disable-forward or --disable-front: BIND is refused. */
#include "redir/front_bind.h"

enum end_reason front_bind_start(struct redir_worker *rw, const struct front_guest *g)
{
	(void)rw;
	(void)g;
	return END_UNSUPPORTED;
}

void front_bind_end_all(struct redir_worker *rw, enum end_reason reason)
{
	(void)rw;
	(void)reason;
}

uint64_t front_bind_memory(const struct redir_worker *rw)
{
	(void)rw;
	return 0;
}

void front_bind_usage(struct redir_worker *rw, struct wan_usage *u)
{
	(void)rw;
	(void)u;
}

void front_bind_report_all(struct redir_worker *rw, struct report *r)
{
	(void)rw;
	(void)r;
}
