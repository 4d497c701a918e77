/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Does plain UDP still get to the proxy? When answers stop coming, that, or the other side has nothing
 * to say: a call that is muted, an upload. A scout is an association that belongs to no device: its
 * opener goes by the same socket, and the proxy confirms inside the connection that it has come. It
 * needs no more of a proxy than any association, and says nothing of the way back; but what lets the
 * one through and not the other, forever, is rare.
 */
#include <stdlib.h>

#include "redir/udp_priv.h"

#define SURE_S 10.0 /* nobody is sent again for so long */

bool assoc_scout_is_sure(const struct udp_leg *leg)
{
	return leg->sure_s > leg->heard_s && udp_now(leg->u) - leg->sure_s < SURE_S;
}

void assoc_scout(const struct assoc *a)
{
	struct redir_worker *rw = a->u->rw;
	const struct assoc_key key = {.src = a->node.key.src};
	const struct udp_datagram none = {.src = key.src, .dst = key.src};
	struct assoc *s;

	if (a->u->scout || !budget_take(&rw->redir->budget, &rw->w))
		return;
	s = assoc_new(a->u, &key, &none);
	if (!s) {
		budget_give(&rw->redir->budget);
		return;
	}
	s->scout = true;
	s->wish = UDP_BY_AUTO;
	a->u->scout = s;
	assoc_form_with(s, a->up);
}

/* Those of its way that are not heard. */
static void lose(struct assoc *s, bool all)
{
	struct udp_leg *leg = s->leg;
	struct list_node *n, *tmp;

	list_for_each_safe (&leg->associations, n, tmp) {
		struct assoc *a = container_of(n, struct assoc, on_leg);

		if (a->wish != UDP_BY_AUTO || !assoc_unheard(a) ||
		    (!all && a->up_since_s >= leg->resumed_s))
			continue;
		assoc_because(a, "nothing comes back by UDP");
		assoc_lost(a);
	}
}

/* Where nothing was sent for long a NAT may have given us another port since: what comes from there
 * with the number of an older association is dropped by the proxy, though the scout's is not. */
void assoc_scout_confirmed(struct assoc *s)
{
	if (s->by == UDP_BY_UDP) {
		if (s->leg->heard_s < s->leg->resumed_s)
			lose(s, false);
		s->leg->sure_s = udp_now(s->u);
	}
	assoc_lost(s);
}

void assoc_scout_unconfirmed(struct assoc *s)
{
	assoc_blocked(s, "nothing comes back, and a new association is not confirmed");
	lose(s, true);
	assoc_lost(s);
}

void assoc_scout_free(struct assoc *s)
{
	struct udp *u = s->u;

	ev_timer_stop(u->rw->w.loop, &s->timer);
	assoc_disconnect(s);
	u->scout = NULL;
	budget_give(&u->rw->redir->budget);
	free(s);
}
