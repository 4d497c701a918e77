/* SPDX-License-Identifier: GPL-2.0-or-later */
/* configure --disable-udp or --disable-front: UDP ASSOCIATE is refused. */
#include "redir/front_udp.h"

enum end_reason front_udp_start(struct redir_worker *rw, const struct front_guest *g)
{
	(void)rw;
	(void)g;
	return END_UNSUPPORTED;
}

bool front_udp_deliver(struct front_udp *d, const struct addr *from, const uint8_t *data,
		       size_t len)
{
	(void)d;
	(void)from;
	(void)data;
	(void)len;
	return false;
}

bool front_udp_resolve(struct front_udp *d, const struct assoc *a, const struct s6_address *name,
		       const uint8_t *data, size_t len)
{
	(void)d;
	(void)a;
	(void)name;
	(void)data;
	(void)len;
	return false;
}

void front_udp_lost(struct front_udp *d, const struct assoc *a)
{
	(void)d;
	(void)a;
}

void front_udp_end_all(struct redir_worker *rw, enum end_reason reason)
{
	(void)rw;
	(void)reason;
}

uint64_t front_udp_memory(const struct redir_worker *rw)
{
	(void)rw;
	return 0;
}

void front_udp_report_all(struct redir_worker *rw, struct report *r)
{
	(void)rw;
	(void)r;
}
