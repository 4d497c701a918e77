/* SPDX-License-Identifier: GPL-2.0-or-later */
/* configure --disable-forward: no port of a proxy leads here, as the configuration refuses
 * [forward]. */
#include "core/control.h"
#include "redir/forward.h"
#include "redir/inbound.h"

struct forwards *forwards_new(struct redir *rd)
{
	(void)rd;
	return NULL;
}

void forwards_reload(struct forwards *fs)
{
	(void)fs;
}

void forwards_stop(struct forwards *fs)
{
	(void)fs;
}

void forwards_free(struct forwards *fs)
{
	(void)fs;
}

void forwards_command(struct control_request *rq, void *ctx)
{
	(void)ctx;
	control_fail(rq, "sixpath-redir was built without port forwarding (--disable-forward)");
}

void inbound_leave(struct redir_worker *rw)
{
	(void)rw;
}

void inbound_end_all(struct redir_worker *rw, enum end_reason reason)
{
	(void)rw;
	(void)reason;
}

size_t inbound_memory(const struct redir_worker *rw)
{
	(void)rw;
	return 0;
}

void inbound_report_all(struct redir_worker *rw, struct report *r)
{
	(void)rw;
	(void)r;
}

void inbound_usage(struct redir_worker *rw, struct wan_usage *u)
{
	(void)rw;
	(void)u;
}
