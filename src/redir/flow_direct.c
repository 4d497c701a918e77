/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The way of a flow to the server itself. */
#include "redir/flow_priv.h"

#define CONNECT_S 130.0 /* about what the kernel itself would take */

/* ---- direct ---- */

static void direct_done(struct dial *d, int err)
{
	struct flow *f = d->owner;

	if (err < 0)
		flow_end(f, END_DIRECT_FAILED, -err);
	else
		flow_relay(f, dial_take(d), 0);
}

/* Plain TCP, and no data in the SYN: to be no worse than without us is all it is for. */
void flow_direct(struct flow *f)
{
	struct dial_wishes wishes = {
		.dst = f->dst,
		.sock = {.mark = f->conf->mark, .tos = -1, .ttl = -1, .keepalive = true},
		.timeout_s = CONNECT_S,
	};
	int rc;

	flow_drop_upstream(f);
	f->route = ROUTE_DIRECT;
	flow_change(f, FLOW_DIRECT);
	rc = dial_start(&f->at->dial, &f->rw->w, &wishes, direct_done, f);
	if (rc < 0)
		flow_end(f, END_DIRECT_FAILED, -rc);
	else
		loopguard_add(f->rw->redir->loopguard, &f->guard, &f->at->dial.local, &f->dst);
}
