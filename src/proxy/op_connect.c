/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/op_connect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/dial.h"
#include "core/resolve.h"
#include "core/s6glue.h"
#include "proxy/acl.h"
#include "proxy/happy.h"
#include "proxy/proxy.h"

struct op_connect {
	struct proxy_worker *pw;
	struct proxy_conf *conf; /* a reference */
	op_connect_done_fn *done;
	void *owner;
	const struct buf *early;
	struct dial_wishes wishes;
	bool fastopen;  /* the client wants TFO towards the server, */
	bool mptcp;     /* and MPTCP */
	size_t syn_max; /* octets allowed in the SYN; 0 = no limit */
	bool race;      /* Happy Eyeballs */
	bool dns;       /* the DNS service is asked for (section 9), wherever it is */
	struct resolve *resolve;
	unsigned n, next, open; /* addresses, next one to try, attempts under way */
	int err;                /* of the last failed attempt, positive */
	ev_timer limit;         /* connect_timeout for all of it */
	ev_timer step;          /* the next attempt, or an answer that was known at once */
	struct op_connect_result result;
	struct addr *addrs; /* as many as there may be attempts */
	struct dial attempts[];
};

static void stop_all(struct op_connect *op)
{
	struct ev_loop *loop = op->pw->w.loop;

	if (op->resolve)
		resolve_cancel(op->resolve);
	ev_timer_stop(loop, &op->limit);
	ev_timer_stop(loop, &op->step);
	for (unsigned i = 0; i < op->next; i++)
		dial_stop(&op->attempts[i]);
}

static void op_free(struct op_connect *op)
{
	stop_all(op);
	proxy_conf_put(op->conf);
	free(op);
}

void op_connect_stop(struct op_connect *op)
{
	op_free(op);
}

bool op_connect_resolving(const struct op_connect *op)
{
	return op->resolve != NULL;
}

/* The one way it ends by itself. */
static void op_end(struct op_connect *op, uint8_t code, enum end_reason reason, int err)
{
	struct op_connect_result result = op->result;
	op_connect_done_fn *done = op->done;
	void *owner = op->owner;

	result.code = code;
	result.reason = reason;
	result.err = err;
	op_free(op);
	done(owner, &result);
}

static void failed(struct op_connect *op)
{
	op_end(op, s6glue_reply_of_errno(op->err), END_CONNECT_FAILED, op->err);
}

/* A client that reaches ourselves through us would go round in circles. */
static bool is_own_listener(const struct op_connect *op, const struct addr *dst)
{
	const struct proxy_worker *pw = op->pw;

	for (size_t i = 0; i < pw->listeners.n; i++)
		if (addr_port(&pw->listeners.v[i].addr) == addr_port(dst) &&
		    (addr_is_any(dst) || addr_is_local(dst)))
			return true;
	return false;
}

static void attempt_done(struct dial *d, int err);

/* Start the next attempt; false if there is no address left. */
static bool try_next(struct op_connect *op)
{
	while (op->next < op->n) {
		struct dial *d = &op->attempts[op->next];
		size_t len = op->early->len;
		int rc;

		op->wishes.dst = op->addrs[op->next++];
		op->wishes.sock.mptcp =
			op->mptcp && speaks_of(&op->pw->speaks, &op->wishes.dst,
					       worker_now(&op->pw->w)) != SPEAKS_TCP;
		if (!op->race) /* an address that swallows packets leaves time for the others */
			op->wishes.timeout_s = op->conf->connect_timeout_s / op->n + 1;
		/* Data in two SYNs could be executed twice: only with a single address. */
		op->wishes.fastopen = op->fastopen && op->n == 1 && len > 0;
		op->wishes.data = buf_data(op->early);
		op->wishes.len = op->syn_max && len > op->syn_max ? op->syn_max : len;
		rc = dial_start(d, &op->pw->w, &op->wishes, attempt_done, op);
		if (rc == 0) {
			op->open++;
			return true;
		}
		op->err = -rc;
	}
	return false;
}

static void schedule(struct op_connect *op)
{
	struct ev_loop *loop = op->pw->w.loop;

	ev_timer_stop(loop, &op->step);
	if (!op->race || op->next == op->n)
		return;
	ev_timer_set(&op->step, HAPPY_STAGGER_S, 0.);
	ev_timer_start(loop, &op->step);
}

static void attempt_done(struct dial *d, int err)
{
	struct op_connect *op = d->owner;
	struct op_connect_result *r = &op->result;

	op->open--;
	if (err < 0) {
		op->err = -err;
		/* What was in the SYN had been taken, or there would be no connection to reset. */
		r->syn_bytes = err == -ECONNRESET ? (unsigned)d->queued : 0;
		if (try_next(op))
			schedule(op);
		else if (op->open == 0)
			failed(op);
		return;
	}
	r->fd = dial_take(d);
	r->dst = op->addrs[d - op->attempts];
	r->local = d->local;
	r->queued = d->queued;
	r->syn_bytes = d->syn_data_acked ? (unsigned)d->queued : 0;
	r->mptcp = d->mptcp;
	r->fell_back = d->granted.mptcp && !d->mptcp;
	if (d->mptcp || d->refused)
		speaks_note(&op->pw->speaks, &r->dst, d->mptcp, worker_now(&op->pw->w));
	if (op->dns)
		memset(&r->local, 0, sizeof(r->local)); /* nobody's business */
	else if (addr_is_any(&r->local))
		addr_of_socket(r->fd, &r->local); /* complete only now if it was bound to any */
	op_end(op, S6_REPLY_SUCCESS, END_NONE, 0);
}

/* Keep the addresses that the access list allows. */
static void keep_allowed(struct op_connect *op, const struct addr *addrs, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (!acl_allows(&op->conf->acl, &addrs[i]) || is_own_listener(op, &addrs[i]))
			continue;
		op->addrs[op->n++] = addrs[i];
	}
}

static void begin(struct op_connect *op)
{
	if (op->n == 0 && op->dns)
		op_end(op, S6_REPLY_REFUSED, END_CONNECT_FAILED, 0); /* there is none */
	else if (op->n == 0)
		op_end(op, S6_REPLY_NOT_ALLOWED, END_NOT_ALLOWED, 0);
	else if (try_next(op))
		schedule(op);
	else
		failed(op);
}

static void resolved(void *owner, enum resolve_error err, const struct addr *addrs, unsigned n,
		     unsigned min_ttl_s)
{
	struct op_connect *op = owner;

	(void)min_ttl_s;
	op->resolve = NULL;
	if (err == RESOLVE_NO_NAME) {
		op_end(op, S6_REPLY_HOST_UNREACHABLE, END_RESOLVE_FAILED, 0);
	} else if (err != RESOLVE_OK) {
		op_end(op, S6_REPLY_FAILURE, END_RESOLVE_FAILED, 0);
	} else {
		keep_allowed(op, addrs, n);
		if (op->race)
			happy_order(op->addrs, op->n);
		begin(op);
	}
}

static void step_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct op_connect *op = container_of(t, struct op_connect, step);

	(void)loop;
	(void)events;
	if (op->next == 0) {
		begin(op); /* a numeric destination: the first event after the start */
		return;
	}
	try_next(op);
	schedule(op);
}

static void limit_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct op_connect *op = container_of(t, struct op_connect, limit);

	(void)loop;
	(void)events;
	op_end(op, S6_REPLY_TIMED_OUT, op->resolve ? END_RESOLVE_FAILED : END_CONNECT_FAILED,
	       ETIMEDOUT);
}

static int octet_or_unset(const struct s6_stack *s, enum s6_stack_id id)
{
	return s6_stack_has(s, id) ? s->value[id] : -1;
}

static void take_wishes(struct op_connect *op, const struct s6_stack *s)
{
	struct sock_wishes *sock = &op->wishes.sock;

	sock->tos = octet_or_unset(s, S6_STACK_TOS_REMOTE);
	sock->ttl = octet_or_unset(s, S6_STACK_TTL_REMOTE);
	if (s6_stack_has(s, S6_STACK_NO_FRAG_REMOTE))
		sock->fragments = s->value[S6_STACK_NO_FRAG_REMOTE] == S6_AVAIL_YES ? -1 : 1;
	op->mptcp =
		s6_stack_has(s, S6_STACK_MULTIPATH) && s->value[S6_STACK_MULTIPATH] == S6_AVAIL_YES;
	op->fastopen = s6_stack_has(s, S6_STACK_TFO);
	op->syn_max = op->fastopen ? s->value[S6_STACK_TFO] : 0;
	op->race = s6_stack_has(s, S6_STACK_HAPPY_EYEBALLS) &&
		   s->value[S6_STACK_HAPPY_EYEBALLS] == S6_AVAIL_YES;
	op->wishes.timeout_s = op->conf->connect_timeout_s + 1; /* op->limit comes first */
}

/* With room for as many addresses. */
static struct op_connect *op_new(size_t room)
{
	struct op_connect *op =
		calloc(1, sizeof(*op) + room * (sizeof(op->attempts[0]) + sizeof(op->addrs[0])));

	if (op)
		op->addrs = (struct addr *)(void *)&op->attempts[room];
	return op;
}

/* The administrator has said where it is, so the access list is not asked. Over plain TCP: it is
 * near, and what clients wish for is meant for servers far away. */
static void choose_dns(struct op_connect *op)
{
	op->dns = true;
	op->mptcp = op->fastopen = false;
	if (op->conf->dns.len > 0)
		op->addrs[op->n++] = op->conf->dns;
}

static bool is_dns_service(const struct addr *dst)
{
	return addr_is_any(dst) && addr_port(dst) == DNS_PORT;
}

struct op_connect *op_connect_start(struct proxy_worker *pw, const struct op_connect_wish *wish,
				    op_connect_done_fn *done, void *owner)
{
	struct addr dst;
	bool numeric = s6glue_to_addr(&dst, wish->dst);
	struct op_connect *op = op_new(numeric ? 1 : RESOLVE_MAX);

	if (!op)
		return NULL;
	op->pw = pw;
	op->conf = proxy_conf_get(pw->conf);
	op->done = done;
	op->owner = owner;
	op->early = wish->early;
	op->result.fd = -1;
	take_wishes(op, wish->stack);
	ev_timer_init(&op->limit, limit_cb, op->conf->connect_timeout_s, 0.);
	ev_timer_init(&op->step, step_cb, 0., 0.);
	if (numeric) {
		if (is_dns_service(&dst))
			choose_dns(op);
		else
			keep_allowed(op, &dst, 1);
		ev_feed_event(pw->w.loop, &op->step, 0); /* still in this turn */
	} else {
		op->resolve = resolve_start(pw->resolver, wish->dst->u.name, wish->dst->port,
					    AF_UNSPEC, resolved, op);
		if (!op->resolve) {
			proxy_conf_put(op->conf);
			free(op);
			return NULL;
		}
	}
	ev_timer_start(pw->w.loop, &op->limit);
	return op;
}
