/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One association of a device's address and port, from its first datagram to its log line.
 *
 *   FORMING  assoc_dial.c: a proxy of the pool is asked for an association, with a session and a
 *            token as any request; it answers and gives a number
 *   OPENING  the first datagram has been sent to it, by UDP (udp_leg.c) or inside the connection;
 *            what comes meanwhile is kept. With transport = auto UDP that is not confirmed in time
 *            becomes TCP, with the same association
 *   UP       assoc_data.c: datagrams both ways
 *   DIRECT   by policy, or because no proxy can be used and on_proxy_failure says so; then a proxy
 *            is looked for each second
 *   DOWN     the same where it says otherwise: each datagram is answered with ICMP
 *   PAUSE    before it is formed again: what it was formed with is lost. At once, later if that
 *            happens again and again
 *
 * Only a datagram more than once would be worse than one too few: what was given to a proxy is not
 * sent again.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/sock.h"
#include "redir/front_udp.h"
#include "redir/udp_priv.h"

#define CONFIRM_MIN_S 1.0  /* for a confirmation, at least, with transport = auto; */
#define CONFIRM_RTTS  4    /* and so many round trips; */
#define CONFIRM_MAX_S 5.0  /* with the other transports */
#define OPENER_S      0.25 /* between two openers, which is twice the round trip at least */
#define BLOCKED_S     60.0 /* UDP to this proxy is not tried again for so long */
#define LOOK_S        0.25 /* while forming */
#define AGAIN_MIN_S   0.25 /* before the second try, doubled for each further one; */
#define AGAIN_MAX_S   1.0
#define IDLE_S        5.0 /* those that have been silent for so long can wait a moment, */
#define SPREAD_S      1.0 /* so much at most */
#define QUIET_S       1.0 /* no answer to several datagrams for so long is odd */
#define QUIET_SENT    3
#define DOWN_S        0.5 /* the same for so long from a proxy that was found to be down says enough */

const char *assoc_state_str(enum assoc_state s)
{
	static const char *const words[] = {
		[ASSOC_FORMING] = "forming", [ASSOC_OPENING] = "opening", [ASSOC_UP] = "up",
		[ASSOC_DIRECT] = "direct",   [ASSOC_DOWN] = "down",       [ASSOC_PAUSE] = "pause"};

	return words[s];
}

void assoc_because(struct assoc *a, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(a->why, sizeof(a->why), fmt, ap);
	va_end(ap);
}

void assoc_tell(struct assoc *a, enum icmp_error error, const struct addr *reporter,
		const struct addr *dst, size_t len, size_t mtu)
{
	if (a->door)
		a->u->counters.icmp_untold++;
	else
		udp_tell(a->u, error, reporter, &a->node.key.src, dst, len, mtu);
}

static void set_timer(struct assoc *a, double after_s, double repeat_s)
{
	ev_timer_stop(a->u->rw->w.loop, &a->timer);
	ev_timer_set(&a->timer, after_s, repeat_s);
	ev_timer_start(a->u->rw->w.loop, &a->timer);
}

void assoc_change(struct assoc *a, enum assoc_state state)
{
	a->state = state;
	if (list_linked(&a->waits))
		list_remove(&a->u->waiting, &a->waits);
	switch (state) {
	case ASSOC_FORMING:
		set_timer(a, LOOK_S, LOOK_S);
		break;
	case ASSOC_UP:
	case ASSOC_DIRECT:
	case ASSOC_DOWN:
		ev_timer_stop(a->u->rw->w.loop, &a->timer);
		break;
	case ASSOC_OPENING:
	case ASSOC_PAUSE: /* the timer is set by who knows the time */
		break;
	}
}

void assoc_disconnect(struct assoc *a)
{
	struct udp *u = a->u;

	udp_replies_flush(&u->replies); /* what waits there may be in our buffer */
	if (a->has_id)
		udp_strike_id(u, a);
	a->has_id = false;
	udp_leg_put(a);
	ev_io_stop(u->rw->w.loop, &a->io);
	assoc_dial_free(a);
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
	loopguard_remove(u->rw->redir->loopguard, &a->guard);
	buf_clear(&a->in, &u->rw->w.pool);
	buf_clear(&a->out, &u->rw->w.pool);
	if (list_linked(&a->dirty))
		list_remove(&u->dirty, &a->dirty);
	if (a->up) {
		upstream_flow_count(a->up, -1);
		upstream_put(a->up);
		a->up = NULL;
	}
}

/* Different for each, without a source of randomness: proxies number them as they like. */
static double spread(const struct assoc *a, double s)
{
	return s * (double)(addr_hash(&a->node.key.src, 1) % 1024) / 1024.;
}

void assoc_lost(struct assoc *a)
{
	double now_s = udp_now(a->u), pause_s = 0;
	char text[ADDR_STRLEN];

	if (a->scout) {
		assoc_disconnect(a);
		assoc_change(a, ASSOC_PAUSE);
		set_timer(a, 0., 0.); /* whoever calls may still look at it */
		return;
	}
	log_debug("udp %s: %s: forming it again", addr_str(&a->node.key.src, text, sizeof(text)),
		  a->why);
	if (a->failures > 0) {
		pause_s = AGAIN_MIN_S * (1u << (a->failures < 4 ? a->failures - 1 : 3));
		if (pause_s > AGAIN_MAX_S)
			pause_s = AGAIN_MAX_S;
	} else if (now_s - a->node.seen_s > IDLE_S) {
		pause_s = spread(a, SPREAD_S);
	}
	a->failures++;
	a->n_reformed++;
	a->u->counters.reformed++;
	assoc_disconnect(a);
	assoc_change(a, ASSOC_PAUSE);
	set_timer(a, pause_s, 0.);
}

/* ---- without a proxy ---- */

static void send_kept_direct(struct assoc *a)
{
	struct list_node *n;

	for (n = list_first(&a->kept); n; n = list_next(&a->kept, n)) {
		const struct assoc_kept *k = container_of(n, struct assoc_kept, node);
		assoc_direct_send_to(a, &k->dst, k->name, k->data, k->len);
	}
	assoc_drop_kept(a);
}

static void refuse_kept(struct assoc *a)
{
	struct list_node *n;

	for (n = list_first(&a->kept); n; n = list_next(&a->kept, n)) {
		const struct assoc_kept *k = container_of(n, struct assoc_kept, node);
		assoc_tell(a, ICMP_HOST_UNREACHABLE, &k->dst, &k->dst, k->len, 0);
		a->u->counters.refused++;
	}
	assoc_drop_kept(a);
}

void assoc_no_upstream(struct assoc *a)
{
	bool direct = a->u->rw->conf->on_proxy_failure == FAILURE_DIRECT;
	int rc;

	assoc_disconnect(a);
	a->u->counters.fallbacks++;
	rc = direct ? assoc_direct_open(a) : -1;
	if (rc == 0) {
		assoc_change(a, ASSOC_DIRECT);
		a->u->counters.direct++;
		send_kept_direct(a);
	} else {
		assoc_change(a, ASSOC_DOWN);
		refuse_kept(a);
	}
	list_push(&a->u->waiting, &a->waits);
}

void assoc_retry(struct assoc *a)
{
	assoc_change(a, ASSOC_PAUSE);
	set_timer(a, spread(a, SPREAD_S / 2), 0.);
}

/* ---- opening ---- */

static bool udp_is_possible(struct assoc *a)
{
	return !a->up->via && a->wish != UDP_BY_TCP &&
	       (a->wish == UDP_BY_UDP || udp_proxy(a->u, a->up)->blocked_until <= udp_now(a->u));
}

void assoc_open(struct assoc *a)
{
	double rtt_s = upstream_look(a->up).rtt_us / 1e6;

	udp_enlist_id(a->u, a);
	a->by = UDP_BY_TCP;
	if (a->up->via && a->wish == UDP_BY_UDP)
		log_limited(&a->u->limit_via, 1, LVL_NOTICE,
			    "udp: proxy %s is reached through others: datagrams go inside the "
			    "connection, whatever transport says",
			    a->up->name);
	if (udp_is_possible(a) && udp_leg_get(a->u, &a->proxy, a))
		a->by = UDP_BY_UDP;
	assoc_dial_free(a);
	a->opening_s = udp_now(a->u);
	a->patience_s = CONFIRM_MAX_S;
	if (a->by == UDP_BY_UDP && a->wish == UDP_BY_AUTO)
		a->patience_s =
			rtt_s * CONFIRM_RTTS > CONFIRM_MIN_S ? rtt_s * CONFIRM_RTTS : CONFIRM_MIN_S;
	assoc_change(a, ASSOC_OPENING);
	rtt_s = rtt_s * 2 > OPENER_S ? rtt_s * 2 : OPENER_S;
	set_timer(a, rtt_s, rtt_s);
	assoc_send_opener(a, false);
}

void assoc_blocked(const struct assoc *a, const char *why)
{
	double now_s = udp_now(a->u);

	if (udp_proxy(a->u, a->up)->blocked_until <= now_s)
		log_notice("udp: proxy %s: plain UDP does not get there (%s): datagrams go inside "
			   "the connection",
			   a->up->name, why);
	udp_proxy(a->u, a->up)->blocked_until = now_s + BLOCKED_S;
}

void assoc_switch_to_tcp(struct assoc *a, const char *why)
{
	assoc_blocked(a, why);
	udp_leg_put(a);
	a->by = UDP_BY_TCP;
	a->opening_s = udp_now(a->u);
	a->patience_s = CONFIRM_MAX_S;
	assoc_send_opener(a, false);
	assoc_flush(a);
}

void assoc_confirmed(struct assoc *a)
{
	if (a->state != ASSOC_OPENING)
		return;
	if (a->scout) {
		assoc_scout_confirmed(a);
		return;
	}
	if (a->by == UDP_BY_TCP)
		a->u->counters.by_tcp++;
	else
		a->u->counters.by_udp++;
	a->failures = 0;
	a->asked = 0;
	a->answered = false;
	a->up_since_s = udp_now(a->u);
	upstream_ok(a->up, a->up_since_s);
	assoc_direct_close(a);
	assoc_change(a, ASSOC_UP);
	assoc_send_kept(a, true);
}

static void opening_timer(struct assoc *a)
{
	if (udp_now(a->u) - a->opening_s < a->patience_s) {
		if (a->by == UDP_BY_UDP)
			assoc_send_opener(a, true);
	} else if (a->by == UDP_BY_UDP && a->scout) {
		assoc_scout_unconfirmed(a);
	} else if (a->by == UDP_BY_UDP && a->wish == UDP_BY_AUTO) {
		assoc_switch_to_tcp(a, "no confirmation");
	} else {
		assoc_because(a, "no confirmation");
		upstream_suspect(a->up);
		assoc_lost(a);
	}
}

static void timer_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct assoc *a = container_of(t, struct assoc, timer);
	struct udp *u = a->u;

	(void)loop;
	(void)events;
	switch (a->state) {
	case ASSOC_FORMING:
		assoc_dial_late(a);
		break;
	case ASSOC_OPENING:
		opening_timer(a);
		break;
	case ASSOC_PAUSE:
		if (a->scout)
			assoc_scout_free(a);
		else
			assoc_form(a);
		break;
	case ASSOC_UP:
	case ASSOC_DIRECT:
	case ASSOC_DOWN:
		break;
	}
	udp_flush(u);
}

/* ---- each second ---- */

bool assoc_unheard(const struct assoc *a)
{
	double now_s = udp_now(a->u);

	return a->state == ASSOC_UP && a->by == UDP_BY_UDP && a->leg && a->answered &&
	       a->asked >= QUIET_SENT && now_s - a->asked_s >= QUIET_S &&
	       now_s - a->leg->heard_s >= QUIET_S;
}

/* The other side may just have nothing to say, and would not know an association that is formed again:
 * so the proxy is asked, and whether datagrams still get there. */
static void look_at_silence(struct assoc *a)
{
	if (!assoc_unheard(a) || assoc_scout_is_sure(a->leg))
		return;
	upstream_suspect(a->up);
	if (a->wish == UDP_BY_AUTO)
		assoc_scout(a);
}

void assoc_check(struct assoc *a)
{
	if (a->state != ASSOC_UP)
		return;
	/* A proxy that takes nothing new may well go on with what it has. */
	if (!upstream_is_up(a->up) && a->asked > 0 && udp_now(a->u) - a->asked_s > DOWN_S) {
		assoc_because(a, "no answer, and the proxy is down");
		assoc_lost(a);
	} else if (sock_mptcp_dead(a->fd)) {
		assoc_because(a, "the connection to the proxy is dead");
		assoc_lost(a);
	} else {
		look_at_silence(a);
	}
}

/* ---- life ---- */

struct assoc *assoc_new(struct udp *u, const struct assoc_key *key, const struct udp_datagram *d)
{
	struct assoc *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->u = u;
	a->node.key = *key;
	a->number = u->next_number++;
	a->fd = a->dfd = -1;
	a->tos = d->tos;
	a->wish = udp_transport_of(&u->rw->conf->udp, d->name ? d->name->port : addr_port(&d->dst));
	/* What fits into no UDP datagram with a header before it. */
	if (a->wish == UDP_BY_AUTO && d->len > UDP_PAYLOAD_MAX - UDP_HEAD_MAX)
		a->wish = UDP_BY_TCP;
	a->started_s = udp_now(u);
	list_init(&a->kept);
	ev_init(&a->timer, timer_cb);
	ev_init(&a->io, assoc_io_cb);
	ev_init(&a->dio, NULL);
	u->counters.opened++;
	return a;
}

static void log_end(const struct assoc *a, enum end_reason reason, const char *way,
		    const char *proxy)
{
	char text[ADDR_STRLEN];

	log_info("udp %s %s%s%s by %s: up %" PRIu64 " datagrams %" PRIu64 " octets, down %" PRIu64
		 " datagrams %" PRIu64 " octets, %" PRIu64 " lost, formed again %u times, %.1f s: "
		 "%s%s%s",
		 addr_str(&a->node.key.src, text, sizeof(text)), way, *proxy ? " " : "", proxy,
		 a->state == ASSOC_UP ? udp_transport_str(a->by) : assoc_state_str(a->state),
		 a->datagrams_up, a->bytes_up, a->datagrams_down, a->bytes_down, a->lost,
		 a->n_reformed, udp_now(a->u) - a->started_s, end_reason_str(reason),
		 a->why[0] ? "; last trouble: " : "", a->why);
}

void assoc_end(struct assoc *a, enum end_reason reason)
{
	struct udp *u = a->u;

	if (a->door)
		front_udp_lost(a->door, a);
	log_end(a, reason,
		a->up                      ? "proxy"
		: a->state == ASSOC_DIRECT ? "direct"
					   : "none",
		a->up ? a->up->name : "");
	assoc_table_remove(&u->table, &a->node);
	ev_timer_stop(u->rw->w.loop, &a->timer);
	assoc_disconnect(a);
	assoc_direct_close(a);
	assoc_drop_kept(a);
	if (list_linked(&a->waits))
		list_remove(&u->waiting, &a->waits);
	udp_give_budget(u);
	free(a);
}
