/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/dns_priv.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sysexits.h>

#include "core/report.h"

/*
 * Time limits
 *   a question       TOTAL_S in all, which most clients would have given up by then
 *   over the proxy   dns_up.c: SILENT_S without a word of it
 *   directly         those of resolve.c
 */
#define TOTAL_S 8.0
#define TICK_S  0.25

/* ---- answers ---- */

void dns_waiter_free(struct dns_waiter *w)
{
	list_remove(&w->ask->waiters, &w->node);
	if (w->from.tcp)
		list_remove(&w->from.tcp->waiters, &w->of_tcp);
	w->ask->d->n_waiters--;
	free(w);
}

/* a NULL: it is known to fit. */
static void reply(struct dns *d, const struct dns_from *from, const struct dns_query *q,
		  const uint8_t *query, uint8_t *msg, size_t len, const struct dns_answer *a)
{
	uint8_t cut[DNS_SHORT_MAX];

	dns_answer_adopt(msg, query, q);
	if (from->tcp || len <= q->room || !a) {
		dns_tell(from, msg, len);
		return;
	}
	d->counts.truncated++;
	dns_tell(from, cut, dns_truncate(msg, q, a, cut));
}

static void ask_free(struct dns *d, struct dns_ask *ask)
{
	struct list_node *n;

	while ((n = list_first(&ask->waiters)))
		dns_waiter_free(container_of(n, struct dns_waiter, node));
	if (ask->direct)
		resolve_cancel(ask->direct);
	list_remove(&d->asks, &ask->node);
	free(ask);
}

void dns_answered(struct dns *d, struct dns_ask *ask, uint8_t *msg, size_t len,
		  const struct dns_answer *a)
{
	const struct redir_conf *c = d->rw->conf;
	struct list_node *n, *tmp;

	if (a->keep)
		dnscache_put(d->cache, &ask->q.key, msg, len, dns_now(d),
			     a->ttl < c->dns.cache_ttl_s ? a->ttl : c->dns.cache_ttl_s,
			     (unsigned)c->dns.cache);
	list_for_each_safe (&ask->waiters, n, tmp) {
		struct dns_waiter *w = container_of(n, struct dns_waiter, node);

		reply(d, &w->from, &w->q, w->query, msg, len, a);
	}
	ask_free(d, ask);
}

static void ask_failed(struct dns *d, struct dns_ask *ask)
{
	uint8_t msg[DNS_SHORT_MAX];
	struct list_node *n, *tmp;

	d->counts.failed++;
	list_for_each_safe (&ask->waiters, n, tmp) {
		struct dns_waiter *w = container_of(n, struct dns_waiter, node);

		dns_tell(&w->from, msg, dns_error(w->query, &w->q, DNS_SERVFAIL, msg));
	}
	ask_free(d, ask);
}

/* ---- asking ---- */

static void direct_done(void *owner, uint8_t *msg, size_t len)
{
	struct dns_ask *ask = owner;
	struct dns *d = ask->d;
	struct dns_answer a;

	ask->direct = NULL;
	if (!dns_answer_parse(msg, len, &ask->q, &a) || a.id != ask->id) {
		ask_failed(d, ask);
		return;
	}
	d->counts.direct++;
	dns_answered(d, ask, msg, len, &a);
}

static void ask_directly(struct dns *d, struct dns_ask *ask)
{
	if (d->rw->conf->dns.fallback)
		ask->direct = resolve_send(d->resolver, ask->query, ask->len, direct_done, ask);
	if (!ask->direct)
		ask_failed(d, ask);
}

void dns_ask_send(struct dns *d, struct dns_ask *ask)
{
	if (!dns_up_send(d, ask))
		ask_directly(d, ask);
}

static struct dns_ask *find_ask(struct dns *d, const struct dns_key *key)
{
	struct list_node *n;

	for (n = list_first(&d->asks); n; n = list_next(&d->asks, n)) {
		struct dns_ask *ask = container_of(n, struct dns_ask, node);

		if (ask->q.key.len == key->len &&
		    memcmp(ask->q.key.octets, key->octets, key->len) == 0)
			return ask;
	}
	return NULL;
}

/* Nobody can tell it from those before. */
static bool new_id(struct dns *d, uint16_t *id)
{
	struct list_node *n;

	do {
		if (getrandom(id, sizeof(*id), GRND_NONBLOCK) != sizeof(*id))
			return false;
		for (n = list_first(&d->asks); n; n = list_next(&d->asks, n))
			if (container_of(n, struct dns_ask, node)->id == *id)
				break;
	} while (n);
	return true;
}

static struct dns_ask *ask_new(struct dns *d, const uint8_t *msg, const struct dns_query *q)
{
	struct dns_ask *ask = d->asks.count < DNS_ASKS_MAX ? calloc(1, sizeof(*ask)) : NULL;

	if (!ask)
		return NULL;
	if (!new_id(d, &ask->id)) {
		free(ask);
		return NULL;
	}
	ask->d = d;
	ask->q = *q;
	ask->len = dns_query_build(msg, q, ask->id, ask->query);
	ask->started_s = dns_now(d);
	list_init(&ask->waiters);
	list_push(&d->asks, &ask->node);
	return ask;
}

static bool is_same(const struct dns_from *x, const struct dns_from *y)
{
	return x->tcp == y->tcp && x->udp == y->udp && addr_equal(&x->peer, &y->peer);
}

/* The client has asked just that, and is told when the answer is there. */
static bool waits_already(const struct dns_ask *ask, const struct dns_from *from, uint16_t id)
{
	struct list_node *n;

	for (n = list_first(&ask->waiters); n; n = list_next(&ask->waiters, n)) {
		const struct dns_waiter *w = container_of(n, struct dns_waiter, node);

		if (w->q.id == id && is_same(&w->from, from))
			return true;
	}
	return false;
}

static unsigned waiters_of(const struct dns *d, const struct addr *peer)
{
	struct list_node *n, *k;
	unsigned count = 0;

	for (n = list_first(&d->asks); n; n = list_next(&d->asks, n)) {
		const struct dns_ask *ask = container_of(n, struct dns_ask, node);

		for (k = list_first(&ask->waiters); k; k = list_next(&ask->waiters, k))
			count += addr_equal_ip(&container_of(k, struct dns_waiter, node)->from.peer,
					       peer);
	}
	return count;
}

static bool add_waiter(struct dns *d, struct dns_ask *ask, const struct dns_from *from,
		       const uint8_t *msg, const struct dns_query *q)
{
	struct dns_waiter *w = calloc(1, sizeof(*w));

	if (!w)
		return false;
	w->ask = ask;
	w->from = *from;
	w->q = *q;
	memcpy(w->query, msg, DNS_HEADER + q->question_len);
	list_push(&ask->waiters, &w->node);
	if (from->tcp)
		list_push(&from->tcp->waiters, &w->of_tcp);
	d->n_waiters++;
	return true;
}

static void refuse(const struct dns_from *from, const uint8_t *query, const struct dns_query *q,
		   int rcode)
{
	uint8_t msg[DNS_SHORT_MAX];

	dns_tell(from, msg, dns_error(query, q, rcode, msg));
}

/* True when the cache has answered. */
static bool from_cache(struct dns *d, const struct dns_from *from, const uint8_t *query,
		       const struct dns_query *q)
{
	size_t len = dnscache_get(d->cache, &q->key, dns_now(d), d->scratch);
	struct dns_answer a;

	if (len == 0 || !dns_answer_parse(d->scratch, len, q, &a))
		return false;
	d->counts.cached++;
	reply(d, from, q, query, d->scratch, len, &a);
	return true;
}

static void wait_for_answer(struct dns *d, const struct dns_from *from, const uint8_t *msg,
			    const struct dns_query *q)
{
	struct dns_ask *ask = find_ask(d, &q->key);
	bool is_new = !ask;

	if (ask && waits_already(ask, from, q->id)) {
		d->counts.repeated++;
		return;
	}
	if (d->n_waiters >= DNS_WAITERS_MAX || waiters_of(d, &from->peer) >= DNS_CLIENT_MAX) {
		d->counts.limited++;
		refuse(from, msg, q, DNS_REFUSED);
		return;
	}
	if (is_new)
		ask = ask_new(d, msg, q);
	if (!ask || !add_waiter(d, ask, from, msg, q)) {
		d->counts.limited++;
		refuse(from, msg, q, DNS_SERVFAIL);
		if (ask && is_new)
			ask_free(d, ask);
		return;
	}
	dns_tick(d);
	if (is_new)
		dns_ask_send(d, ask);
	else
		d->counts.joined++;
}

void dns_asked(struct dns *d, const struct dns_from *from, const uint8_t *msg, size_t len)
{
	struct dns_query q;
	int rcode = dns_query_parse(msg, len, &q);

	if (rcode == DNS_NOERROR) {
		d->counts.queries++;
		d->counts.tcp += from->tcp != NULL;
		if (!from_cache(d, from, msg, &q))
			wait_for_answer(d, from, msg, &q);
		return;
	}
	d->counts.malformed++;
	if (rcode > 0)
		refuse(from, msg, &q, rcode);
}

/* ---- time ---- */

static void tick_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct dns *d = container_of(t, struct dns, tick);
	struct list_node *n, *tmp;
	bool more;

	(void)loop;
	(void)events;
	more = dns_up_tick(d);
	list_for_each_safe (&d->asks, n, tmp) {
		struct dns_ask *ask = container_of(n, struct dns_ask, node);

		if (dns_now(d) - ask->started_s >= TOTAL_S)
			ask_failed(d, ask);
	}
	more |= dns_clients_tick(d);
	if (!more && list_empty(&d->asks))
		ev_timer_stop(d->rw->w.loop, &d->tick);
}

void dns_tick(struct dns *d)
{
	if (ev_is_active(&d->tick))
		return;
	ev_timer_set(&d->tick, TICK_S, TICK_S);
	ev_timer_start(d->rw->w.loop, &d->tick);
}

/* ---- its life ---- */

int dns_open(struct dns **out, struct redir_worker *rw)
{
	const struct redir_conf *c = rw->conf;
	struct dns *d;
	int rc;

	*out = NULL;
	if (c->dns.listen.n == 0)
		return 0;
	d = calloc(1, sizeof(*d));
	if (!d)
		return EX_OSERR;
	d->rw = rw;
	list_init(&d->tcps);
	list_init(&d->asks);
	ev_init(&d->tick, tick_cb);
	dns_up_init(d);
	d->cache = dnscache_new();
	d->resolver = resolver_new(&rw->w, c->dns.servers, c->mark);
	if (!d->cache || !d->resolver) {
		log_error("[dns]: out of memory, or servers = \"%s\" cannot be used",
			  c->dns.servers ? c->dns.servers : "");
		dns_free(d);
		return EX_OSERR;
	}
	if (resolver_avoid(d->resolver, c->dns.listen.v, c->dns.listen.n) == 0 && c->dns.fallback)
		log_warning("[dns]: the system's only name server is this one: without a proxy "
			    "nothing is resolved (set servers = in [dns], or fallback = no)");
	rc = dns_clients_open(d);
	if (rc) {
		dns_free(d);
		return rc;
	}
	*out = d;
	return 0;
}

void dns_start(struct dns *d)
{
	if (!d || d->running)
		return;
	d->running = true;
	dns_clients_start(d);
}

void dns_stop(struct dns *d)
{
	struct list_node *n, *tmp;

	if (!d)
		return;
	d->running = false;
	list_for_each_safe (&d->asks, n, tmp)
		ask_free(d, container_of(n, struct dns_ask, node));
	dns_up_close(d);
	dns_clients_stop(d);
	ev_timer_stop(d->rw->w.loop, &d->tick);
}

void dns_free(struct dns *d)
{
	if (!d)
		return;
	dns_stop(d);
	listeners_free(&d->tcp);
	free(d->udp);
	resolver_free(d->resolver);
	dnscache_free(d->cache);
	free(d);
}

/* ---- report ---- */

void dns_count(const struct dns *d, struct dns_counts *sum)
{
	if (d)
		*sum = d->counts;
}

void dns_report(struct report *r, const struct dns_counts *c)
{
	report_object(r, "dns");
	report_u64(r, "queries", c->queries);
	report_u64(r, "tcp", c->tcp);
	report_u64(r, "cached", c->cached);
	report_u64(r, "joined", c->joined);
	report_u64(r, "repeated", c->repeated);
	report_u64(r, "proxied", c->proxied);
	report_u64(r, "direct", c->direct);
	report_u64(r, "failed", c->failed);
	report_u64(r, "truncated", c->truncated);
	report_u64(r, "strangers", c->strangers);
	report_u64(r, "limited", c->limited);
	report_u64(r, "malformed", c->malformed);
	report_end(r);
}
