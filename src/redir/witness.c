/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/witness.h"

#include <errno.h>
#include <stdlib.h>

#include "core/sock.h"
#include "redir/flow_priv.h"

#define WITNESSES_MAX 64 /* are asked, of those that have moved bytes at all */

struct inquiry {
	struct redir *rd;
	struct upstream *up; /* a reference */
	double within_s;
	bool lives;
	void (*done)(struct redir *rd, struct upstream *up, bool lives);
};

bool witness_here(const struct redir_worker *rw, const struct upstream *up, double within_s)
{
	unsigned asked = 0;

	for (struct list_node *n = list_first(&rw->flows); n && asked < WITNESSES_MAX;
	     n = list_next(&rw->flows, n)) {
		const struct flow *f = container_of(n, struct flow, node);

		if (f->state != FLOW_RELAY || f->up != up || f->relay.b.fd < 0 ||
		    f->relay.moved_s < flow_now(f) - within_s)
			continue;
		if (sock_data_age(f->relay.b.fd) <= within_s)
			return true;
		asked++;
	}
	return false;
}

static void visit(struct worker *w, void *ctx)
{
	struct inquiry *q = ctx;

	q->lives = q->lives || witness_here(redir_worker_of(w), q->up, q->within_s);
}

static void all_asked(void *ctx)
{
	struct inquiry *q = ctx;

	q->done(q->rd, q->up, q->lives);
	upstream_put(q->up);
	free(q);
}

int witness_ask(struct redir *rd, struct upstream *up, double within_s,
		void (*done)(struct redir *rd, struct upstream *up, bool lives))
{
	struct inquiry *q = malloc(sizeof(*q));

	if (!q)
		return -ENOMEM;
	*q = (struct inquiry){.rd = rd, .up = upstream_get(up), .within_s = within_s, .done = done};
	if (worker_gather(&rd->main, rd->list, rd->n_workers, visit, all_asked, q) == 0)
		return 0;
	upstream_put(q->up);
	free(q);
	return -ENOMEM;
}
