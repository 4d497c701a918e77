/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asking a proxy for an association. An association that is asked for twice harms nobody, so unlike
 * a flow's request (flow_proxy.c) each failure may be followed by another try: of the same proxy
 * where it only did not know the session or the token, else of the next.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/sock.h"
#include "redir/udp_priv.h"

#define SYN_MAX   1400
#define NO_UDP_S  60.0 /* a proxy that relays no UDP is not asked again for so long */
#define HEARD_S   5.0
#define HOP_LIMIT 1 /* less for us, a router on the way */

static void next(struct assoc *a);

static double now_of(const struct assoc *a)
{
	return udp_now(a->u);
}

static void close_connection(struct assoc *a)
{
	struct ev_loop *loop = a->u->rw->w.loop;

	dial_stop(&a->at->dial);
	ev_io_stop(loop, &a->io);
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
	loopguard_remove(a->u->rw->redir->loopguard, &a->guard);
	buf_clear(&a->in, &a->u->rw->w.pool);
}

void assoc_dial_free(struct assoc *a)
{
	struct assoc_dial *at = a->at;

	if (!at)
		return;
	dial_stop(&at->dial);
	explicit_bzero(at->request, at->pool->hops * UP_REQUEST_MAX);
	pool_put(at->pool);
	free(at);
	a->at = NULL;
}

static void upstream_says(struct assoc *a, unsigned hop, enum upstream_failure kind)
{
	struct upstream *up = a->at->chain.hop[hop].up;
	char text[ADDR_STRLEN];

	upstream_failed(up, now_of(a), kind, a->why);
	log_limited(&a->u->limit_proxy, 10, LVL_WARNING, "proxy %s failed for UDP of %s: %s",
		    up->name, addr_str(&a->node.key.src, text, sizeof(text)), a->why);
}

static void hop_failed(struct assoc *a, unsigned hop, enum upstream_failure kind)
{
	upstream_says(a, hop, kind);
	next(a);
}

/* ---- dialling ---- */

static void watch(struct assoc *a)
{
	struct assoc_dial *at = a->at;
	int want = EV_READ | (at->sent < at->request_len ? EV_WRITE : 0);
	struct ev_loop *loop = a->u->rw->w.loop;

	ev_io_stop(loop, &a->io);
	ev_io_set(&a->io, a->fd, want);
	ev_io_start(loop, &a->io);
}

static void send_request(struct assoc *a)
{
	struct assoc_dial *at = a->at;

	while (at->sent < at->request_len) {
		ssize_t n = send(a->fd, at->request + at->sent, at->request_len - at->sent,
				 MSG_NOSIGNAL);
		if (n < 0)
			return; /* errors show when reading */
		at->sent += (size_t)n;
	}
}

void assoc_dial_more(struct assoc *a)
{
	send_request(a);
	watch(a);
}

static void connected(struct assoc *a)
{
	a->at->sent_s = now_of(a);
	send_request(a);
	watch(a);
}

static void dialled(struct dial *d, int err)
{
	struct assoc *a = d->owner;
	struct assoc_dial *at = a->at;

	if (err < 0) {
		assoc_because(a, "cannot connect: %s", strerror(-err));
		hop_failed(a, 0, err == -ECONNREFUSED ? UPSTREAM_HARD : UPSTREAM_SOFT);
		return;
	}
	upstream_dialled(at->chain.hop[0].up, now_of(a), d);
	at->sent = d->queued;
	a->fd = dial_take(d);
	connected(a);
}

static bool take_prewarmed(struct assoc *a)
{
	struct assoc_dial *at = a->at;
	struct upstream *first = at->chain.hop[0].up;
	const struct upstream_grant *g = &at->chain.hop[0].g;
	struct prewarmed warm;

	if (at->fresh || !prewarm_is_better(first, g, at->request_len))
		return false;
	a->fd = prewarm_take(&a->u->rw->prewarm, first, &g->addr, &a->guard, &warm);
	if (a->fd < 0)
		return false;
	at->prewarmed = true;
	connected(a);
	return true;
}

static void dial(struct assoc *a)
{
	struct assoc_dial *at = a->at;
	const struct redir_conf *c = a->u->rw->conf;
	const struct upstream_grant *first = &at->chain.hop[0].g;
	bool v6 = addr_family(&a->node.key.src) == AF_INET6;
	struct addr any = {0};
	struct up_request rq = {
		.command = S6_CMD_UDP_ASSOCIATE, .dst = &any, .chain = &at->chain, .tos = a->tos};
	struct dial_wishes wishes = {
		.dst = first->addr,
		.sock = {.mptcp = first->mptcp,
			 .mark = c->mark,
			 .tos = a->tos ? a->tos : -1,
			 .ttl = -1},
		.data = at->request,
		.timeout_s = c->dial_timeout_s,
	};
	int rc;

	addr_parse_ip(&any, v6 ? "::" : "0.0.0.0");
	if (a->node.key.ttl > HOP_LIMIT)
		rq.ttl = (uint8_t)(a->node.key.ttl - HOP_LIMIT);
	at->prewarmed = false;
	at->sent = 0;
	at->since_s = now_of(a);
	if (!up_socks6_request(&at->proto, &rq, at->request, &at->request_len)) {
		assoc_because(a, "the request cannot be built");
		next(a);
		return;
	}
	if (take_prewarmed(a))
		return;
	if (first->tfo && up_socks6_syn_safe(&at->proto) && at->request_len <= SYN_MAX) {
		wishes.fastopen = true;
		wishes.len = at->request_len;
	}
	rc = dial_start(&at->dial, &a->u->rw->w, &wishes, dialled, a);
	if (rc < 0) {
		assoc_because(a, "cannot connect: %s", strerror(-rc));
		hop_failed(a, 0, UPSTREAM_SOFT);
		return;
	}
	loopguard_add(a->u->rw->redir->loopguard, &a->guard, &at->dial.local, &first->addr);
}

/* The same way once more, with what the last hop has been granted. */
static void dial_again(struct assoc *a)
{
	struct assoc_dial *at = a->at;

	close_connection(a);
	if (++at->reminded > UPSTREAM_HOPS + 1 || !upstream_grant_way(&at->chain, now_of(a)))
		next(a);
	else
		dial(a);
}

static void leave_upstream(struct assoc *a)
{
	close_connection(a);
	if (!a->up)
		return;
	upstream_flow_count(a->up, -1);
	upstream_put(a->up);
	a->up = NULL;
}

static void use(struct assoc *a, struct upstream *up)
{
	a->up = upstream_get(up);
	upstream_flow_count(up, 1);
	dial(a);
}

static void next(struct assoc *a)
{
	struct assoc_dial *at = a->at;
	struct upstream *up;

	leave_upstream(a);
	if (a->scout) { /* of another one it would tell nothing */
		assoc_lost(a);
		return;
	}
	at->reminded = 0;
	at->fresh = false;
	while ((up = pool_next(at->pool, &at->tried, now_of(a), &at->chain))) {
		if (up->protocol != PROTOCOL_SOCKS6 ||
		    udp_proxy(a->u, up)->no_udp_until > now_of(a))
			continue;
		use(a, up);
		return;
	}
	assoc_no_upstream(a);
}

static bool begin(struct assoc *a)
{
	struct pool *pool = a->u->rw->pool;
	struct assoc_dial *at = calloc(1, sizeof(*at) + pool->hops * UP_REQUEST_MAX);

	if (!at)
		return false;
	at->pool = pool_get(pool);
	at->dial.fd = -1;
	a->at = at;
	assoc_change(a, ASSOC_FORMING);
	return true;
}

void assoc_form(struct assoc *a)
{
	if (begin(a)) {
		next(a);
	} else {
		assoc_because(a, "out of memory");
		assoc_no_upstream(a);
	}
}

void assoc_form_with(struct assoc *a, struct upstream *up)
{
	if (begin(a) && upstream_grant_chain(up, now_of(a), &a->at->chain))
		use(a, up);
	else
		assoc_lost(a);
}

/* ---- replies ---- */

static void operation_failed(struct assoc *a, unsigned k, uint8_t code)
{
	struct upstream *up = a->at->chain.hop[k].up;

	assoc_because(a, "%s says: %s", up->name, s6_reply_str(code));
	upstream_ok(up, now_of(a));
	if (k + 1 < a->at->chain.n) {
		if (code == S6_REPLY_FAILURE)
			upstream_busy(up, now_of(a));
		else
			upstream_says(a, k + 1, up_chain_failure(code));
	} else if (code == S6_REPLY_FAILURE) { /* it has too much to do, or stops */
		upstream_busy(up, now_of(a));
	} else {
		udp_proxy(a->u, up)->no_udp_until = now_of(a) + NO_UDP_S;
		log_limited(&a->u->limit_proxy, 10, LVL_WARNING,
			    "udp: proxy %s relays no UDP for us: %s; allow it there (user or ACL), "
			    "or set [udp] proxy to nothing here",
			    up->name, s6_reply_str(code));
	}
	next(a);
}

static void authenticated(struct assoc *a)
{
	struct assoc_dial *at = a->at;
	unsigned k = at->proto.at;
	const struct up_hop *h = &at->proto.hop[k];

	upstream_heard(at->chain.hop[k].up, now_of(a), at->chain.hop[k].g.session, h->window_base,
		       h->in_session && h->has_window ? h->window_size : 0);
	at->since_s = now_of(a);
}

static void chained(struct assoc *a)
{
	struct assoc_dial *at = a->at;
	unsigned k = at->proto.at - 1;
	struct up_leg leg = up_socks6_leg(&at->proto, &at->chain, k, now_of(a) - at->sent_s);

	upstream_ok(at->chain.hop[k].up, now_of(a));
	upstream_chained(&at->chain, k, now_of(a), &leg);
	at->since_s = now_of(a);
}

static void ready(struct assoc *a)
{
	struct assoc_dial *at = a->at;

	at->ready = true;
	a->proxy = at->chain.hop[at->chain.n - 1].g.addr;
	if (a->up->udp_port)
		addr_set_port(&a->proxy, a->up->udp_port);
}

static void act_on(struct assoc *a, enum up_verdict v)
{
	struct assoc_dial *at = a->at;
	unsigned k = at->proto.at;
	const struct up_hop *h = &at->proto.hop[k];
	struct upstream_grant *g = &at->chain.hop[k].g;

	switch (v) {
	case UP_MORE:
	case UP_AUTHENTICATED:
	case UP_CHAINED:
		break;
	case UP_READY:
		ready(a);
		break;
	case UP_REPLY:
		operation_failed(a, k, h->code);
		break;
	case UP_SESSION_INVALID:
		upstream_session_lost(at->chain.hop[k].up, g->session);
		g->in_session = g->has_token = false;
		dial_again(a);
		break;
	case UP_TOKEN_REJECTED: /* by an earlier try, perhaps: then that one is not ours any more */
		if (h->has_window)
			upstream_window(at->chain.hop[k].up, g->session, h->window_base,
					h->window_size);
		g->has_token = false;
		dial_again(a);
		break;
	case UP_AUTH_REFUSED:
		assoc_because(a, "%s", up_verdict_str(&at->proto, v));
		hop_failed(a, k, UPSTREAM_REJECTED);
		break;
	case UP_NOT_SOCKS6:
	case UP_MALFORMED:
		assoc_because(a, "%s (%s)", up_verdict_str(&at->proto, v), s6_fault_str(h->fault));
		hop_failed(a, k, UPSTREAM_HARD);
		break;
	}
}

void assoc_dial_read(struct assoc *a)
{
	struct buf *in = &a->in;
	enum up_verdict v;
	size_t used;

	if (a->at->ready)
		return;
	do {
		v = up_socks6_feed(&a->at->proto, buf_data(in), in->len, &used);
		buf_consume(in, &a->u->rw->w.pool, used);
		if (v == UP_AUTHENTICATED)
			authenticated(a);
		else if (v == UP_CHAINED)
			chained(a);
	} while (v == UP_AUTHENTICATED || v == UP_CHAINED);
	act_on(a, v);
}

void assoc_dial_gone(struct assoc *a, const char *how)
{
	struct assoc_dial *at = a->at;
	unsigned k = at->ready ? at->chain.n - 1 : at->proto.at;

	if (!at->ready && up_socks6_is_mismatch(&at->proto, buf_data(&a->in), a->in.len)) {
		assoc_because(a, "version mismatch: it speaks another SOCKS version");
		hop_failed(a, k, UPSTREAM_HARD);
		return;
	}
	assoc_because(a, "%s before the association was there", how);
	if (at->prewarmed && a->in.len == 0 && up_socks6_unheard(&at->proto)) {
		prewarm_was_dead(&a->u->rw->prewarm, at->chain.hop[0].up);
		upstream_suspect(at->chain.hop[0].up);
		at->fresh = true;
		dial_again(a);
		return;
	}
	/* It goes on answering others: so it lets us have no more, and is not down for that. */
	if (!at->ready && upstream_heard_at(at->chain.hop[k].up) > now_of(a) - HEARD_S) {
		upstream_busy(at->chain.hop[k].up, now_of(a));
		upstream_suspect(at->chain.hop[k].up);
		next(a);
		return;
	}
	hop_failed(a, k, UPSTREAM_SOFT);
}

void assoc_dial_late(struct assoc *a)
{
	struct assoc_dial *at = a->at;
	double waited_s = now_of(a) - at->since_s;
	unsigned hop = at->ready ? at->chain.n - 1 : a->fd >= 0 ? up_socks6_missing(&at->proto) : 0;

	if (a->fd >= 0 && at->prewarmed && up_socks6_unheard(&at->proto) &&
	    sock_mptcp_dead(a->fd)) {
		assoc_dial_gone(a, "dead");
	} else if (!upstream_is_up(a->up)) {
		assoc_because(a, "no answer, and it was found to be down");
		next(a);
	} else if (waited_s >= a->u->rw->conf->dial_timeout_s) {
		assoc_because(a, at->ready ? "no association came" : "no answer");
		hop_failed(a, hop, UPSTREAM_SOFT);
	} else if (waited_s >= at->chain.patience_s) {
		pool_overdue(at->pool, at->chain.hop[hop].up);
	}
}
