/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The way of a flow to the server itself, and what is learned from it. */
#include <string.h>

#include "core/sock.h"
#include "redir/flow_priv.h"

#define CONNECT_S 130.0 /* about what the kernel itself would take */
#define NEXT_S    5.0   /* where the name has other addresses */
#define BYPASS_S  2.0   /* then the proxy is asked; before the kernel tries without MPTCP */
#define SILENT_S  3.0   /* so long without an answer to what was sent says something */

/* ---- direct ---- */

/* ---- plain ---- */

static void direct_failed(struct flow *f, int err)
{
	if (flow_front_another(f)) {
		flow_attempt_close(f);
		flow_direct(f);
	} else {
		flow_end(f, END_DIRECT_FAILED, err);
	}
}

static void direct_done(struct dial *d, int err)
{
	struct flow *f = d->owner;

	if (err < 0) {
		flow_server_failed(f, -err);
		direct_failed(f, -err);
	} else {
		flow_relay(f, dial_take(d), 0);
	}
}

/* Plain TCP, and no data in the SYN: to be no worse than without us is all it is for. */
void flow_direct(struct flow *f)
{
	struct dial_wishes wishes = {
		.dst = flow_dst(f),
		.sock = {.mark = f->at->conf->mark, .tos = flow_tos(f), .ttl = -1},
		.timeout_s = flow_front_has_more(f) ? NEXT_S : CONNECT_S,
	};
	int rc;

	flow_drop_upstream(f);
	f->route = ROUTE_DIRECT;
	flow_change(f, FLOW_DIRECT);
	if (flow_front_resolves(f))
		return;
	rc = dial_start(&f->at->dial, f->relay.w, &wishes, direct_done, f);
	if (rc < 0) /* no packet has left: it says nothing about the server, and costs nothing */
		direct_failed(f, -rc);
	else
		loopguard_add(flow_rw(f)->redir->loopguard, &f->guard, &f->at->dial.local,
			      &wishes.dst);
}

/* ---- over MPTCP ---- */

/* The server does not speak MPTCP, or the path to it does not let it pass. */
static void note_bad(struct flow *f)
{
	struct learned *l = flow_rw(f)->redir->learned;
	struct addr dst = flow_dst(f);

	flow_rw(f)->counters.bypass_failed++;
	learned_put(l, &dst, LEARNED_PLAIN, LEARNED_FROM_DIRECT, flow_now(f));
	learned_direct_result(l, &dst, flow_now(f), false);
}

/* Nothing has been sent to the server, so nothing is done twice. */
static void bypass_failed(struct flow *f)
{
	flow_attempt_close(f);
	f->route = ROUTE_NONE;
	flow_next(f);
}

static void bypass_done(struct dial *d, int err)
{
	struct flow *f = d->owner;

	if (err == 0 && d->mptcp) {
		flow_relay(f, dial_take(d), 0);
		return;
	}
	flow_because(f, "MPTCP to the server itself: %s",
		     err < 0 ? strerror(-err) : "it fell back to TCP");
	note_bad(f);
	bypass_failed(f);
}

/* No data in the SYN: the server may act on it, and then nothing else could be tried. */
void flow_bypass(struct flow *f)
{
	struct dial_wishes wishes = {
		.dst = flow_dst(f),
		.sock = {.mptcp = true, .mark = f->at->conf->mark, .tos = flow_tos(f), .ttl = -1},
		.timeout_s = BYPASS_S,
	};
	int rc;

	f->route = ROUTE_BYPASS;
	flow_change(f, FLOW_BYPASS);
	rc = dial_start(&f->at->dial, f->relay.w, &wishes, bypass_done, f);
	if (rc < 0) { /* that is our own trouble and says nothing about the server */
		flow_because(f, "MPTCP to the server itself: %s", strerror(-rc));
		bypass_failed(f);
		return;
	}
	loopguard_add(flow_rw(f)->redir->loopguard, &f->guard, &f->at->dial.local, &wishes.dst);
}

/* Only now is it sure: a path may strip the option from data packets alone. */
void flow_bypass_first(struct flow *f, bool mptcp)
{
	struct learned *l = flow_rw(f)->redir->learned;
	struct addr dst = flow_dst(f);

	if (!mptcp) {
		note_bad(f);
		return;
	}
	learned_put(l, &dst, LEARNED_MPTCP, LEARNED_FROM_DIRECT, flow_now(f));
	learned_direct_result(l, &dst, flow_now(f), true);
}

void flow_bypass_ended(struct flow *f, enum end_reason reason)
{
	const struct relay *r = &f->relay;
	struct addr dst = flow_dst(f);
	bool unanswered = r->b.bytes_in == 0 && r->b.bytes_out > 0;

	if (unanswered && (reason == END_RESET_UP || flow_now(f) - f->started > SILENT_S))
		note_bad(f);
	learned_saved(flow_rw(f)->redir->learned, &dst, r->b.bytes_in + r->b.bytes_out);
}
