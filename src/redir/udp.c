/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What becomes of a datagram, and what is looked at each second. */
#include "redir/udp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/sock.h"
#include "redir/front_udp.h"
#include "redir/udp_priv.h"

#define ACTIVE_S         3.0 /* associations that were used within so many seconds are looked after */
#define RETRIES_A_SECOND 200  /* associations that wait for a proxy, by one worker */
#define ICMP_A_SECOND    1000 /* errors sent to devices by one worker */

/* ---- numbers of proxies ---- */

static struct assoc **bucket_of(const struct udp *u, uint64_t id)
{
	return &u->by_id[(size_t)(id ^ id >> 32) & (u->n_by_id - 1)];
}

void udp_enlist_id(struct udp *u, struct assoc *a)
{
	struct assoc **at = bucket_of(u, a->id);

	a->next_id = *at;
	*at = a;
}

void udp_strike_id(struct udp *u, struct assoc *a)
{
	struct assoc **at = bucket_of(u, a->id);

	while (*at && *at != a)
		at = &(*at)->next_id;
	if (*at)
		*at = a->next_id;
}

struct assoc *udp_find_id(const struct udp *u, const struct udp_leg *leg, uint64_t id)
{
	struct assoc *a = *bucket_of(u, id);

	while (a && (a->id != id || a->leg != leg))
		a = a->next_id;
	return a;
}

struct udp_proxy *udp_proxy(struct udp *u, const struct upstream *up)
{
	struct udp_proxy *oldest = &u->proxies[0];

	for (int i = 0; i < UDP_PROXIES; i++) {
		struct udp_proxy *p = &u->proxies[i];
		if (p->up == up)
			return p;
		if (p->no_udp_until + p->blocked_until <
		    oldest->no_udp_until + oldest->blocked_until)
			oldest = p;
	}
	*oldest = (struct udp_proxy){.up = up};
	return oldest;
}

/* ---- errors ---- */

void udp_tell(struct udp *u, enum icmp_error error, const struct addr *reporter,
	      const struct addr *src, const struct addr *dst, size_t len, size_t mtu)
{
	const struct icmp_wishes w = {.error = error,
				      .reporter = *reporter,
				      .src = *src,
				      .dst = *dst,
				      .len = (uint16_t)len,
				      .mtu = (uint16_t)(mtu > UINT16_MAX ? UINT16_MAX : mtu)};

	if (u->icmp_left == 0)
		return;
	u->icmp_left--;
	if (icmp_send(&u->rw->redir->icmp, &w))
		u->counters.icmp++;
}

/* The device's datagram ends here, as it would at any router. */
static void tell_expired(struct udp *u, const struct udp_datagram *d)
{
	struct addr own;

	if (u->icmp_left > 0 && sock_source(&d->src, 0, &own) == 0)
		udp_tell(u, ICMP_TTL_EXPIRED, &own, &d->src, &d->dst, d->len, 0);
}

/* ---- datagrams ---- */

/* To our listener itself, or sent by ourselves and captured all the same. */
static bool is_to_us(const struct udp *u, const struct udp_datagram *d)
{
	for (size_t i = 0; i < u->n_listeners; i++)
		if (addr_port(&u->listeners[i].addr) == addr_port(&d->dst) &&
		    addr_is_local(&d->dst))
			return true;
	return false;
}

static bool is_ours(const struct udp *u, const struct udp_datagram *d)
{
	struct list_node *n;

	for (n = list_first(&u->legs); n; n = list_next(&u->legs, n))
		if (addr_equal(&container_of(n, struct udp_leg, node)->local, &d->src))
			return true;
	return !u->rw->conf->capture_local && addr_is_local(&d->src);
}

bool udp_is_to_proxy(const struct udp *u, const struct addr *dst)
{
	const struct pool *p = u->rw->pool;

	for (unsigned i = 0; i < p->n; i++)
		if ((addr_port(dst) == p->v[i]->port || addr_port(dst) == p->v[i]->udp_port) &&
		    upstream_is_address(p->v[i], dst))
			return true;
	return false;
}

static bool make_room(struct udp *u)
{
	struct assoc_node *oldest = assoc_table_oldest(&u->table);

	if (!oldest)
		return false;
	u->counters.evicted++;
	log_limited(&u->limit_full, 1, LVL_NOTICE,
		    "udp: %zu associations on this worker, or no descriptors for more: the idlest "
		    "make room (max in [udp], and the limit on open files)",
		    u->table.n);
	assoc_end(container_of(oldest, struct assoc, node), END_BUDGET);
	return true;
}

/* The budget counts two descriptors at a time, and an association has one. */
static bool take_budget(struct udp *u)
{
	if (!u->half && !budget_take(&u->rw->redir->budget, &u->rw->w))
		return false;
	u->half = !u->half;
	return true;
}

void udp_give_budget(struct udp *u)
{
	if (u->half)
		budget_give(&u->rw->redir->budget);
	u->half = !u->half;
}

static bool take_room(struct udp *u)
{
	if (assoc_table_full(&u->table) && !make_room(u))
		return false;
	return take_budget(u) || (make_room(u) && take_budget(u));
}

static enum assoc_kind kind_of(const struct udp_datagram *d)
{
	return addr_port(&d->dst) == UDP_DNS_PORT ? ASSOC_DNS
	       : udp_probe_ttl(d->ttl)            ? ASSOC_PROBE
						  : ASSOC_ORDINARY;
}

static struct assoc *begin(struct udp *u, const struct assoc_key *key, const struct udp_datagram *d,
			   enum assoc_kind kind)
{
	struct assoc *a;

	if (!take_room(u)) {
		u->counters.lost++;
		return NULL;
	}
	a = assoc_new(u, key, d);
	if (!a) {
		udp_give_budget(u);
		u->counters.lost++;
		return NULL;
	}
	assoc_table_add(&u->table, &a->node, kind, udp_now(u));
	return a;
}

static void begin_way(struct assoc *a)
{
	if (!a->node.key.direct) {
		assoc_form(a);
	} else if (assoc_direct_open(a) == 0) {
		a->state = ASSOC_DIRECT;
		a->u->counters.direct++;
	} else {
		a->state = ASSOC_DOWN;
	}
}

static void send_first(struct assoc *a, const struct udp_datagram *d)
{
	bool direct = a->node.key.direct;

	if (direct)
		begin_way(a);
	assoc_send(a, d);
	if (!direct)
		begin_way(a); /* with something to send */
}

void udp_take(struct udp *u, const struct udp_datagram *d)
{
	struct assoc_key key = {.src = d->src, .ttl = udp_probe_ttl(d->ttl)};
	enum udp_policy policy;
	struct assoc_node *n;
	struct assoc *a;

	if (!u->captures)
		return;
	if (is_to_us(u, d)) {
		u->counters.loops++;
		return;
	}
	policy = udp_policy_captured(&u->rw->conf->udp, addr_port(&d->dst));
	if (policy == UDP_REFUSE) {
		u->counters.refused++;
		udp_tell(u, ICMP_PORT_IS_UNREACHABLE, &d->dst, &d->src, &d->dst, d->len, 0);
		return;
	}
	if (d->ttl <= 1) {
		tell_expired(u, d);
		return;
	}
	key.direct = policy == UDP_DIRECT || udp_is_to_proxy(u, &d->dst);
	n = assoc_table_find(&u->table, &key);
	if (n) {
		assoc_table_touch(&u->table, n, kind_of(d), udp_now(u));
		assoc_send(container_of(n, struct assoc, node), d);
		return;
	}
	if (is_ours(u, d)) {
		u->counters.loops++;
		return;
	}
	a = begin(u, &key, d, kind_of(d));
	if (a)
		send_first(a, d);
}

void udp_take_front(struct udp *u, struct assoc **way, const struct assoc_key *key,
		    struct front_udp *door, const struct udp_datagram *d)
{
	if (!u->runs)
		return;
	if (*way) {
		assoc_table_touch(&u->table, &(*way)->node, ASSOC_DOOR, udp_now(u));
		assoc_send(*way, d);
		return;
	}
	*way = begin(u, key, d, ASSOC_DOOR);
	if (!*way)
		return;
	(*way)->door = door;
	send_first(*way, d);
}

void udp_flush(struct udp *u)
{
	struct list_node *n, *tmp;

	udp_replies_flush(&u->replies);
	list_for_each_safe (&u->legs, n, tmp)
		udp_leg_flush(container_of(n, struct udp_leg, node));
	while ((n = list_first(&u->dirty)))
		assoc_flush(container_of(n, struct assoc, dirty));
}

/* ---- each second ---- */

static void end_silent(struct udp *u)
{
	struct assoc_node *n;

	while ((n = assoc_table_expired(&u->table, udp_now(u)))) {
		u->counters.expired++;
		assoc_end(container_of(n, struct assoc, node), END_IDLE);
	}
}

static void check_active(struct udp *u)
{
	struct assoc_node *n = NULL;
	double since_s = udp_now(u) - ACTIVE_S;

	while ((n = assoc_table_active(&u->table, n, since_s)))
		assoc_check(container_of(n, struct assoc, node));
}

/* Is there a proxy for those that wait for one? It is asked again and again as long as they do. */
static bool proxy_is_back(struct udp *u)
{
	const struct pool *p = u->rw->pool;
	bool back = false;

	for (unsigned i = 0; i < p->n; i++) {
		if (p->weight[i] <= 0 || udp_proxy(u, p->v[i])->no_udp_until > udp_now(u))
			continue;
		if (upstream_is_up(p->v[i]))
			back = true;
		else
			upstream_suspect(p->v[i]);
	}
	return back;
}

/* Not all at once: a proxy that has just come back, or is at a limit, would go down again. Those that
 * have waited longest first. */
static void retry(struct udp *u)
{
	struct list_node *n;

	for (int i = 0; i < RETRIES_A_SECOND && (n = list_first(&u->waiting)); i++)
		assoc_retry(container_of(n, struct assoc, waits));
}

static void tick_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct udp *u = container_of(t, struct udp, tick);
	struct list_node *n, *tmp;

	(void)loop;
	(void)events;
	u->icmp_left = ICMP_A_SECOND;
	end_silent(u);
	check_active(u);
	list_for_each_safe (&u->legs, n, tmp)
		udp_leg_check(container_of(n, struct udp_leg, node));
	if (!list_empty(&u->waiting) && proxy_is_back(u))
		retry(u);
	udp_flush(u);
}

/* ---- life ---- */

struct udp *udp_new(struct redir_worker *rw)
{
	struct udp *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	u->rw = rw;
	list_init(&u->legs);
	list_init(&u->waiting);
	list_init(&u->dirty);
	list_init(&u->replies.order);
	ev_timer_init(&u->tick, tick_cb, 1., 1.);
	return u;
}

static void take_conf(struct udp *u)
{
	const struct udp_conf *c = &u->rw->conf->udp;
	size_t n = u->rw->redir->n_workers;

	u->table.max = ((size_t)c->max + n - 1) / n;
	u->table.idle_s[ASSOC_ORDINARY] = c->idle_s;
	u->table.idle_s[ASSOC_DNS] = UDP_DNS_IDLE_S;
	u->table.idle_s[ASSOC_PROBE] = UDP_PROBE_IDLE_S;
	u->table.idle_s[ASSOC_DOOR] = 1e9; /* longer than that of any other: it stays one */
}

static void end_capture(struct udp *u)
{
	struct assoc_node *n;

	if (!u->captures)
		return;
	u->captures = false;
	udp_unlisten(u);
	while ((n = assoc_table_oldest(&u->table)))
		assoc_end(container_of(n, struct assoc, node), END_SHUTDOWN);
}

static void end(struct udp *u)
{
	struct list_node *l, *tmp;

	if (!u->runs)
		return;
	end_capture(u);
	u->runs = false;
	if (u->scout)
		assoc_scout_free(u->scout);
	list_for_each_safe (&u->legs, l, tmp)
		udp_leg_check(container_of(l, struct udp_leg, node));
	ev_timer_stop(u->rw->w.loop, &u->tick);
	udp_replies_fini(&u->replies);
	assoc_table_fini(&u->table);
	free(u->by_id);
	u->by_id = NULL;
	udp_batch_fini(&u->batch);
}

static void start(struct udp *u)
{
	int rc = assoc_table_init(&u->table, (size_t)u->rw->conf->udp.max);

	if (rc == 0)
		rc = udp_replies_init(&u->replies);
	if (rc == 0)
		rc = udp_batch_init(&u->batch);
	u->n_by_id = u->table.n_buckets;
	if (rc == 0)
		u->by_id = calloc(u->n_by_id, sizeof(struct assoc *));
	if (rc == 0 && !u->by_id)
		rc = -ENOMEM;
	if (rc < 0) {
		log_error("udp: neither captured nor taken at the front door: %s", strerror(-rc));
		assoc_table_fini(&u->table);
		udp_batch_fini(&u->batch);
		return;
	}
	take_conf(u);
	u->icmp_left = ICMP_A_SECOND;
	u->runs = true;
	ev_timer_start(u->rw->w.loop, &u->tick);
}

static void capture(struct udp *u)
{
	if (!u->runs || u->captures)
		return;
	u->captures = true;
	udp_listen(u); /* says what is wrong itself */
	if (u->rw->w.index == 0 && u->rw->redir->icmp.fd4 < 0)
		log_warning("udp: no ICMP errors for devices (traceroute, refused ports), perhaps "
			    "no answers from ports below 1024: the capabilities for that are kept "
			    "only if [udp] wants them at the start: stop and start");
}

void udp_begin(struct udp *u)
{
	u->begun = true;
	udp_follow(u);
}

void udp_follow(struct udp *u)
{
	const struct redir_conf *c = u->rw->conf;
	bool captured = udp_is_wanted(c) && u->begun && !u->stopped;
	bool wanted = captured || u->rw->front_udps.count > 0;

	if (wanted && !u->runs)
		start(u);
	else if (!wanted)
		end(u);
	else
		take_conf(u);
	if (captured)
		capture(u);
	else
		end_capture(u);
}

void udp_stop(struct udp *u)
{
	u->stopped = true;
	udp_follow(u);
}

bool udp_door_opens(struct udp *u)
{
	if (!u->runs && u->begun && !u->stopped)
		start(u);
	return u->runs;
}

void udp_door_left(struct udp *u)
{
	udp_follow(u);
}

void udp_free(struct udp *u)
{
	if (!u)
		return;
	udp_stop(u);
	free(u);
}

bool udp_is_wanted(const struct redir_conf *c)
{
	return udp_enabled(&c->udp) && c->mode == MODE_TPROXY;
}

/* ---- for people ---- */

uint64_t udp_memory(const struct udp *u)
{
	return (uint64_t)u->table.n * sizeof(struct assoc);
}

void udp_add_counters(const struct udp *u, struct udp_counters *sum)
{
	const struct udp_counters *c = &u->counters;

	sum->associations += u->table.n;
	sum->opened += c->opened;
	sum->reformed += c->reformed;
	sum->expired += c->expired;
	sum->evicted += c->evicted;
	sum->by_udp += c->by_udp;
	sum->by_tcp += c->by_tcp;
	sum->direct += c->direct;
	sum->fallbacks += c->fallbacks;
	sum->datagrams_up += c->datagrams_up;
	sum->datagrams_down += c->datagrams_down;
	sum->bytes_up += c->bytes_up;
	sum->bytes_down += c->bytes_down;
	sum->refused += c->refused;
	sum->lost += c->lost + u->replies.lost;
	sum->loops += c->loops;
	sum->icmp += c->icmp;
	sum->icmp_untold += c->icmp_untold;
}

void udp_report_counters(struct report *r, const struct udp_counters *c)
{
	report_object(r, "udp");
	report_u64(r, "associations", c->associations);
	report_u64(r, "opened", c->opened);
	report_u64(r, "by_udp", c->by_udp);
	report_u64(r, "by_tcp", c->by_tcp);
	report_u64(r, "direct", c->direct);
	report_u64(r, "fallbacks", c->fallbacks);
	report_u64(r, "reformed", c->reformed);
	report_u64(r, "expired", c->expired);
	report_u64(r, "evicted", c->evicted);
	report_u64(r, "datagrams_up", c->datagrams_up);
	report_u64(r, "datagrams_down", c->datagrams_down);
	report_bytes(r, "bytes_up", c->bytes_up);
	report_bytes(r, "bytes_down", c->bytes_down);
	report_u64(r, "refused", c->refused);
	report_u64(r, "lost", c->lost);
	report_u64(r, "loops", c->loops);
	report_u64(r, "icmp_errors", c->icmp);
	report_u64(r, "icmp_untold", c->icmp_untold);
	report_end(r);
}

static void report_one(struct report *r, const struct assoc *a)
{
	char text[ADDR_STRLEN];
	bool up = a->state == ASSOC_UP || a->state == ASSOC_OPENING;

	report_row(r);
	report_str(r, "source", addr_str(&a->node.key.src, text, sizeof(text)));
	report_str(r, "entry", a->door ? "socks5" : "captured");
	report_str(r, "proxy", a->up ? a->up->name : NULL);
	report_str(r, "state", assoc_state_str(a->state));
	report_str(r, "transport", up ? udp_transport_str(a->by) : NULL);
	report_seconds(r, "age", udp_now(a->u) - a->started_s);
	report_seconds(r, "silent", udp_now(a->u) - a->node.seen_s);
	report_u64(r, "datagrams_up", a->datagrams_up);
	report_u64(r, "datagrams_down", a->datagrams_down);
	report_bytes(r, "bytes_up", a->bytes_up);
	report_bytes(r, "bytes_down", a->bytes_down);
	report_u64(r, "reformed", a->n_reformed);
	report_u64(r, "lost", a->lost);
}

void udp_report_all(struct udp *u, struct report *r)
{
	struct assoc_node *n = NULL;

	if (!u->runs)
		return;
	while ((n = assoc_table_active(&u->table, n, -1.)))
		report_one(r, container_of(n, struct assoc, node));
}
