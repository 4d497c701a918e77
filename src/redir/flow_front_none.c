/* SPDX-License-Identifier: GPL-2.0-or-later */
/* configure --disable-front: no flow has f->front, as nothing listens. */
#include <errno.h>

#include "core/sock.h"
#include "redir/flow_priv.h"

bool flow_front_open(struct redir *rd)
{
	(void)rd;
	return true;
}

void flow_front_close(struct redir *rd)
{
	(void)rd;
}

void flow_front_start(struct redir_worker *rw, int fd, const struct addr *src)
{
	(void)rw;
	(void)src;
	sock_reset(fd);
}

void flow_front_leave(struct redir_worker *rw)
{
	(void)rw;
}

void flow_front_readable(struct flow *f)
{
	(void)f;
}

const char *flow_front_entry(const struct flow *f)
{
	(void)f;
	return "front";
}

int flow_front_accept(struct flow *f)
{
	(void)f;
	return -ENOSYS;
}

bool flow_front_resolves(struct flow *f)
{
	(void)f;
	return false;
}

bool flow_front_has_more(const struct flow *f)
{
	(void)f;
	return false;
}

bool flow_front_another(struct flow *f)
{
	(void)f;
	return false;
}

void flow_front_end(struct flow *f, enum end_reason reason, int err)
{
	(void)f;
	(void)reason;
	(void)err;
}
