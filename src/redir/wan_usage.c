/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/wan_usage.h"

#include <stddef.h>

#include "core/sock.h"

const struct wan_use *wan_usage_find(const struct wan_usage *u, const struct addr *local)
{
	for (unsigned i = 0; i < u->n; i++)
		if (addr_equal_ip(&u->v[i].local, local))
			return &u->v[i];
	return NULL;
}

static struct wan_use *place(struct wan_usage *u, const struct addr *local)
{
	const struct wan_use *found = wan_usage_find(u, local);
	struct wan_use *use = NULL;

	if (found) {
		use = &u->v[found - u->v];
	} else if (u->n < WAN_USAGE_MAX) {
		use = &u->v[u->n++];
		*use = (struct wan_use){.local = *local};
	} else {
		use = &u->v[0];
		for (unsigned i = 1; i < u->n; i++)
			if (u->v[i].used < use->used)
				use = &u->v[i];
		*use = (struct wan_use){.local = *local};
	}
	addr_set_port(&use->local, 0);
	use->used = ++u->turns;
	return use;
}

void wan_usage_add(struct wan_usage *u, int fd)
{
	struct sock_subflow v[SOCK_SUBFLOWS_MAX];
	bool mptcp = false;
	unsigned n = sock_subflows(fd, v, &mptcp);

	for (unsigned i = 0; i < n; i++) {
		struct wan_use *use = place(u, &v[i].local);
		use->up += v[i].acked;
		use->down += v[i].received;
		use->retransmitted += v[i].retransmitted;
		use->rtt_us += v[i].rtt_us;
		use->subflows++;
		use->mptcp += mptcp;
	}
}

void wan_usage_merge(struct wan_usage *u, const struct wan_usage *from)
{
	for (unsigned i = 0; i < from->n; i++) {
		struct wan_use *use = place(u, &from->v[i].local);
		use->up += from->v[i].up;
		use->down += from->v[i].down;
		use->retransmitted += from->v[i].retransmitted;
		use->rtt_us += from->v[i].rtt_us;
		use->subflows += from->v[i].subflows;
		use->mptcp += from->v[i].mptcp;
	}
}
