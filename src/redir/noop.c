/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/noop.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/dial.h"
#include "redir/redir.h"
#include "redir/up_socks6.h"
#include "redir/witness.h"

#define IDLE_S       15.0 /* without any reply while all is well, then a NOOP; give or take ... */
#define JITTER       0.1
#define METERED_S    300.0 /* the same while metered links are all there is */
#define RETRY_MIN_S  0.5   /* after a failure; from start to start; doubles ... */
#define RETRY_MAX_S  10.0
#define CONFIRM_S    1.0   /* after a good one that is not yet enough */
#define REJECTED_S   60.0  /* after our credentials were rejected */
#define CHECK_S      1.0   /* kicked: not more often than this */
#define TROUBLE_S    0.2   /* the same when an answer is overdue */
#define PROBE_S      2.0   /* for an answer of one that is up, at least: a SYN may be lost once */
#define PROBE_RTTS   4     /* and so many round trips */
#define WITNESS_S    0.5   /* data have come lately: within this */
#define VIA_S        0.5   /* between looks at a proxy that this one is reached through ... */
#define VIA_FIRST_S  0.05  /* while that one has not been probed */
#define RESOLVE_S    300.0 /* a name is asked for again */
#define REPLY_OCTETS 4096  /* replies to a NOOP are far smaller */

struct noop {
	struct list_node node; /* in redir.noops */
	struct redir *rd;
	struct upstream *up; /* a reference */
	ev_timer timer;      /* next start; while running: time limit */
	bool running, has_run, kicked;
	bool idle;      /* timer: unless something else is heard until then */
	bool resolving; /* running, and has no address yet */
	double retry_s, started_s, resolved_s;
	struct resolve *resolve;
	struct addr addrs[UPSTREAM_ADDRS];
	unsigned n_addrs, next;
	struct addr fresh[UPSTREAM_ADDRS]; /* new ones of the name, not yet proven; the upstream */
	unsigned n_fresh;                  /* is up at an old one */
	bool tries_fresh;                  /* this round */
	bool doubted;                      /* this round: connections in relay have been asked */
	struct addr addr;                  /* the one being tried */
	struct dial dial;
	int fd;
	ev_io io;
	struct up_socks6 proto;
	struct upstream_chain chain;
	double sent_s; /* when the requests had left */
	size_t request_len, sent;
	uint8_t reply[REPLY_OCTETS];
	size_t reply_len;
	char why[96];
	uint32_t noise;
	uint8_t request[]; /* UP_REQUEST_MAX for each hop */
};

static void try_address(struct noop *n);

static double now_of(const struct noop *n)
{
	return worker_now(&n->rd->main);
}

static void set_timer(struct noop *n, double s)
{
	ev_timer_stop(n->rd->main.loop, &n->timer);
	ev_timer_set(&n->timer, s, 0.);
	ev_timer_start(n->rd->main.loop, &n->timer);
}

static void close_connection(struct noop *n)
{
	dial_stop(&n->dial);
	ev_io_stop(n->rd->main.loop, &n->io);
	if (n->fd >= 0)
		close(n->fd);
	n->fd = -1;
}

/* So that many routers do not ask at the same moment. */
static double jitter(struct noop *n, double s)
{
	n->noise = n->noise * 1664525 + 1013904223;
	return s * (1. - JITTER + 2. * JITTER * (n->noise >> 8) / (1 << 24));
}

/* Where each packet costs, flows find out whether the proxy is alive. */
static double idle_s(const struct noop *n)
{
	return atomic_load(&n->rd->only_metered) ? METERED_S : IDLE_S;
}

/* One round is over. */
static void round_end(struct noop *n, double next_s)
{
	close_connection(n);
	explicit_bzero(n->request, n->chain.n * UP_REQUEST_MAX);
	n->running = n->idle = false;
	n->has_run = true;
	if (n->kicked && next_s > CHECK_S)
		next_s = CHECK_S;
	n->kicked = false;
	set_timer(n, next_s);
	redir_first_noop_done(n->rd);
}

/* The name's new addresses do not do; the upstream is up at an old one. */
static void fresh_failed(struct noop *n)
{
	log_notice("proxy %s: %s has a new address, but there: %s", n->up->name, n->up->host,
		   n->why);
	n->n_fresh = 0;
	if (!upstream_is_up(n->up))
		n->resolved_s = 0; /* then they are as good as any */
	round_end(n, upstream_is_up(n->up) ? jitter(n, IDLE_S) : RETRY_MIN_S);
}

static void round_failed(struct noop *n, enum upstream_failure kind)
{
	double took = now_of(n) - n->started_s, pause;

	if (n->tries_fresh) {
		fresh_failed(n);
		return;
	}
	upstream_failed(n->up, now_of(n), kind, n->why);
	n->retry_s = n->retry_s > 0 ? n->retry_s * 2 : RETRY_MIN_S;
	if (n->retry_s > RETRY_MAX_S)
		n->retry_s = RETRY_MAX_S;
	pause = n->retry_s - took > RETRY_MIN_S ? n->retry_s - took : RETRY_MIN_S;
	round_end(n, jitter(n, kind == UPSTREAM_REJECTED ? REJECTED_S : pause));
}

/* This address did not do; are there others? The first is the one that flows use: they are told
 * before the others are tried. */
static void address_failed(struct noop *n, enum upstream_failure kind)
{
	close_connection(n);
	if (n->next >= n->n_addrs) {
		round_failed(n, kind);
		return;
	}
	if (n->next == 1 && !n->tries_fresh && upstream_is_up(n->up))
		upstream_failed(n->up, now_of(n), kind, n->why);
	try_address(n);
}

static void __attribute__((format(printf, 2, 3))) because(struct noop *n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(n->why, sizeof(n->why), fmt, ap);
	va_end(ap);
}

static struct upstream_grant *last_grant(struct noop *n)
{
	return &n->chain.hop[n->chain.n - 1].g;
}

/* Something is wrong with a proxy that this one is reached through: nothing is known of this one,
 * and that one's own probes go on. */
static void way_failed(struct noop *n, unsigned k, enum upstream_failure kind)
{
	upstream_failed(n->chain.hop[k].up, now_of(n), kind, n->why);
	round_end(n, VIA_S);
}

/* The hop that is meant is the last one, or the one before. */
static void hop_failed(struct noop *n, unsigned k, enum upstream_failure kind)
{
	if (k + 1 < n->chain.n)
		way_failed(n, k, kind);
	else
		address_failed(n, kind);
}

static void round_ok(struct noop *n)
{
	const struct up_hop *u = up_socks6_last(&n->proto);
	struct sock_info info;
	uint32_t rtt_us = 0;

	if (n->tries_fresh && n->n_fresh > 0) {
		log_notice("proxy %s: %s has a new address: using it", n->up->name, n->up->host);
		upstream_set_addrs(n->up, n->fresh, n->n_fresh);
		n->n_fresh = 0;
	}
	if (n->chain.n == 1 && sock_info(n->fd, &info) == 0)
		rtt_us = info.rtt_us;
	if (u->has_session && !u->in_session)
		upstream_session_open(n->up, u->session_id, u->session_id_len, u->has_window,
				      u->window_base, u->window_size);
	else if (u->in_session && u->has_window)
		upstream_window(n->up, last_grant(n)->session, u->window_base, u->window_size);
	upstream_proven(n->up, now_of(n), &n->addr, rtt_us);
	n->retry_s = 0;
	if (upstream_look(n->up).wanted > 0) {
		round_end(n, CONFIRM_S);
		return;
	}
	round_end(n, jitter(n, idle_s(n)));
	n->idle = true;
}

static void operation_failed(struct noop *n)
{
	unsigned k = n->proto.at;
	uint8_t code = n->proto.hop[k].code;
	struct upstream *hop = n->chain.hop[k].up;

	if (code == S6_REPLY_FAILURE && !n->tries_fresh && upstream_is_up(hop)) {
		upstream_busy(hop, now_of(n)); /* too much to do is not down */
		round_end(n, CONFIRM_S);
		return;
	}
	if (k + 1 == n->chain.n) {
		because(n, "NOOP answered: %s", s6_reply_str(code));
		address_failed(n, UPSTREAM_HARD);
	} else {
		upstream_ok(hop, now_of(n));
		because(n, "%s says: %s", hop->name, s6_reply_str(code));
		hop_failed(n, k + 1, up_chain_failure(code));
	}
}

/* What a hop before the last one says of its tokens. */
static void window_of_hop(struct noop *n)
{
	const struct up_hop *h = up_socks6_hop(&n->proto);

	if (h->in_session && h->has_window)
		upstream_window(n->chain.hop[n->proto.at].up, n->chain.hop[n->proto.at].g.session,
				h->window_base, h->window_size);
}

static void watch(struct noop *n, int events)
{
	if (ev_is_active(&n->io) && (n->io.events & (EV_READ | EV_WRITE)) == events)
		return;
	ev_io_stop(n->rd->main.loop, &n->io);
	ev_io_set(&n->io, n->fd, events);
	ev_io_start(n->rd->main.loop, &n->io);
}

static void send_request(struct noop *n)
{
	ssize_t k = 0;
	size_t len = up_socks6_released(&n->proto, n->request_len);

	if (n->sent < len)
		k = send(n->fd, n->request + n->sent, len - n->sent, MSG_NOSIGNAL);
	if (k > 0)
		n->sent += (size_t)k;
	/* errors show when reading */
	watch(n, n->sent < len ? EV_READ | EV_WRITE : EV_READ);
}

static void verdict(struct noop *n, enum up_verdict v)
{
	unsigned k = n->proto.at;
	const struct up_hop *h = &n->proto.hop[k];
	struct upstream *up = n->chain.hop[k].up;

	switch (v) {
	case UP_MORE:
		send_request(n); /* it may have waited for this reply */
		break;
	case UP_AUTHENTICATED:
	case UP_CHAINED:
		break;
	case UP_READY:
		round_ok(n);
		break;
	case UP_SESSION_INVALID:
		upstream_session_lost(up, n->chain.hop[k].g.session);
		close_connection(n);
		n->next = 0;
		try_address(n); /* the same again, opening a session */
		break;
	case UP_REPLY:
		operation_failed(n);
		break;
	case UP_AUTH_REFUSED:
		because(n, "%s",
			up->username ? "check username and password"
				     : "the proxy wants username and password");
		hop_failed(n, k, UPSTREAM_REJECTED);
		break;
	case UP_TOKEN_REJECTED:
		if (k + 1 < n->chain.n) {
			window_of_hop(n);
			round_end(n, RETRY_MIN_S);
			break;
		}
		/* fall through */
	case UP_NOT_SOCKS6:
	case UP_MALFORMED:
		because(n, "%s (%s)", up_verdict_str(&n->proto, v), s6_fault_str(h->fault));
		hop_failed(n, k, UPSTREAM_HARD);
		break;
	}
}

static void at_eof(struct noop *n)
{
	unsigned k = n->proto.at;

	if (up_socks6_is_mismatch(&n->proto, n->reply, n->reply_len)) {
		because(n, "version mismatch: it speaks another SOCKS version");
		hop_failed(n, k, UPSTREAM_HARD);
	} else if (n->reply_len > 0) {
		because(n, "closed in the middle of a reply");
		hop_failed(n, k, UPSTREAM_HARD);
	} else {
		because(n, "closed without a reply");
		hop_failed(n, k, UPSTREAM_HARD);
	}
}

/* The hop before this one has reached it. */
static void chained(struct noop *n)
{
	unsigned k = n->proto.at - 1;
	struct up_leg leg = up_socks6_leg(&n->proto, &n->chain, k, now_of(n) - n->sent_s);

	upstream_ok(n->chain.hop[k].up, now_of(n));
	upstream_chained(&n->chain, k, now_of(n), &leg);
}

static void parse_replies(struct noop *n)
{
	enum up_verdict v;
	size_t used;

	do {
		v = up_socks6_feed(&n->proto, n->reply, n->reply_len, &used);
		n->reply_len -= used;
		memmove(n->reply, n->reply + used, n->reply_len);
		if (v == UP_AUTHENTICATED && n->proto.at + 1 < n->chain.n)
			window_of_hop(n);
		else if (v == UP_CHAINED)
			chained(n);
	} while (v == UP_AUTHENTICATED || v == UP_CHAINED);
	if (v == UP_MORE && n->reply_len == sizeof(n->reply)) {
		because(n, "endless reply");
		hop_failed(n, n->proto.at, UPSTREAM_HARD);
		return;
	}
	verdict(n, v);
}

static void io_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct noop *n = container_of(io, struct noop, io);
	ssize_t k;

	(void)loop;
	(void)events;
	send_request(n);
	k = recv(n->fd, n->reply + n->reply_len, sizeof(n->reply) - n->reply_len, 0);
	if (k > 0) {
		n->reply_len += (size_t)k;
		parse_replies(n);
	} else if (k == 0) {
		at_eof(n);
	} else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
		because(n, "no reply: %s", strerror(errno));
		hop_failed(n, n->proto.at, UPSTREAM_SOFT);
	}
}

static void dialled(struct dial *d, int err)
{
	struct noop *n = d->owner;

	if (err < 0) {
		because(n, "cannot connect: %s", strerror(-err));
		hop_failed(n, 0,
			   err == -ECONNREFUSED ? UPSTREAM_HARD
			   : err == -ETIMEDOUT  ? UPSTREAM_SILENT
						: UPSTREAM_SOFT);
		return;
	}
	upstream_dialled(n->chain.hop[0].up, now_of(n), d);
	if (!d->syn_data_acked)
		n->sent_s = now_of(n);
	n->sent = d->queued;
	n->fd = dial_take(d);
	watch(n, EV_READ | EV_WRITE);
}

/* For an answer from one address. */
static double time_limit(const struct noop *n, const struct upstream_view *look)
{
	double most = n->rd->conf->dial_timeout_s, s = look->rtt_us / 1e6 * PROBE_RTTS;

	if (look->state == UPSTREAM_UNPROVEN)
		return most * 2;
	if (look->state != UPSTREAM_UP || s > most)
		return most;
	if (s < PROBE_S)
		s = PROBE_S;
	return s < most ? s : most;
}

/* A NOOP may travel in the SYN: executed twice it only opens a session too many. */
static void try_address(struct noop *n)
{
	const struct redir_conf *c = n->rd->conf;
	const struct upstream_view look = upstream_look(n->up);
	double limit_s = time_limit(n, &look);
	struct dial_wishes wishes = {
		.sock = {.mark = c->mark, .tos = -1, .ttl = -1},
		/* what is up has our own timer, which comes first */
		.timeout_s = limit_s < c->dial_timeout_s ? limit_s + WITNESS_S : c->dial_timeout_s,
		.data = n->request,
	};
	struct up_request rq = {.command = S6_CMD_NOOP, .chain = &n->chain};
	struct upstream *first;
	int rc;

	if (!upstream_grant_way(&n->chain, now_of(n))) {
		round_end(n, VIA_S);
		return;
	}
	n->reply_len = n->sent = 0;
	rq.open_session = !upstream_session(n->up, last_grant(n));
	last_grant(n)->addr = n->addr = n->addrs[n->next++];
	first = n->chain.hop[0].up;
	wishes.sock.mptcp = first->mptcp != 0;
	wishes.dst = n->chain.hop[0].g.addr;
	wishes.fastopen = !look.urgent && upstream_tfo_allowed(first, now_of(n), &wishes.dst);
	n->sent_s = now_of(n);
	if (!up_socks6_request(&n->proto, &rq, n->request, &n->request_len)) {
		because(n, "the request cannot be built");
		round_failed(n, UPSTREAM_HARD);
		return;
	}
	wishes.len = n->request_len;
	set_timer(n, limit_s);
	rc = dial_start(&n->dial, &n->rd->main, &wishes, dialled, n);
	if (rc < 0) {
		because(n, "cannot connect: %s", strerror(-rc));
		hop_failed(n, 0, rc == -ECONNREFUSED ? UPSTREAM_HARD : UPSTREAM_SOFT);
	}
}

static void round_try(struct noop *n)
{
	n->tries_fresh = n->n_fresh > 0;
	if (n->tries_fresh) {
		memcpy(n->addrs, n->fresh, sizeof(n->addrs));
		n->n_addrs = n->n_fresh;
	} else {
		n->n_addrs = upstream_addrs(n->up, n->addrs);
	}
	n->next = 0;
	n->doubted = false;
	try_address(n);
}

/* addrs[0] is the one in use. */
static bool is_among(const struct addr *a, const struct addr *addrs, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (addr_equal(a, &addrs[i]))
			return true;
	return false;
}

/* An answer while the upstream has addresses. One that works is left only for one that works. */
static void take_answer(struct noop *n, const struct addr *addrs, unsigned count)
{
	struct addr old[UPSTREAM_ADDRS];
	unsigned n_old = upstream_addrs(n->up, old);
	bool is_new = false, is_up = upstream_is_up(n->up);

	if (count > UPSTREAM_ADDRS)
		count = UPSTREAM_ADDRS;
	for (unsigned i = 0; i < count; i++)
		is_new |= !is_among(&addrs[i], old, n_old);
	if (is_up && !is_among(&old[0], addrs, count)) {
		memcpy(n->fresh, addrs, count * sizeof(*addrs));
		n->n_fresh = count;
		if (n->running)
			n->kicked = true;
		else
			set_timer(n, 0.);
		n->idle = false;
		return;
	}
	n->n_fresh = 0;
	upstream_set_addrs(n->up, addrs, count);
	if (is_up || !is_new)
		return;
	close_connection(n);
	n->running = true;
	n->started_s = now_of(n);
	round_try(n);
}

static void resolved(void *owner, enum resolve_error err, const struct addr *addrs, unsigned count,
		     unsigned min_ttl_s)
{
	struct noop *n = owner;
	bool waiting = n->resolving;

	(void)min_ttl_s;
	n->resolve = NULL;
	n->resolving = false;
	if (err == RESOLVE_OK)
		n->resolved_s = now_of(n);
	if (!waiting && err == RESOLVE_OK) {
		take_answer(n, addrs, count);
	} else if (waiting && err == RESOLVE_OK) {
		upstream_set_addrs(n->up, addrs, count);
		round_try(n);
	} else if (waiting) {
		because(n, "%s: %s", n->up->host, resolve_error_str(err));
		round_failed(n, UPSTREAM_SOFT);
	}
}

/* The name is asked for at the same time: the addresses known may do, and DNS may be as dead as
 * the proxy seems to be. */
static void round_start(struct noop *n)
{
	struct upstream_view look = upstream_look(n->up);
	struct addr addrs[UPSTREAM_ADDRS];

	n->running = true;
	n->started_s = now_of(n);
	if (n->n_fresh > 0 && (look.urgent || !look.usable)) {
		n->n_fresh = 0;
		n->resolved_s = 0; /* first of all: is the old one dead? */
	}
	if (!n->resolve && (n->resolved_s == 0 || now_of(n) - n->resolved_s >= RESOLVE_S ||
			    n->retry_s > 0 || look.trouble))
		n->resolve = resolve_start(n->rd->resolver, n->up->host, n->up->port, AF_UNSPEC,
					   resolved, n);
	if (n->n_fresh > 0 || upstream_addrs(n->up, addrs) > 0) {
		round_try(n);
	} else if (n->resolve) {
		n->resolving = true;
	} else {
		because(n, "out of memory");
		round_failed(n, UPSTREAM_SOFT);
	}
}

/* Other replies are as good as a NOOP's. */
static bool heard_meanwhile(struct noop *n)
{
	double quiet_s = now_of(n) - upstream_look(n->up).heard_s;

	if (!n->idle || quiet_s >= idle_s(n) * (1. - JITTER))
		return false;
	set_timer(n, jitter(n, idle_s(n)) - quiet_s);
	return true;
}

static void was_silent(struct noop *n)
{
	unsigned k = n->resolving ? n->chain.n - 1 : up_socks6_missing(&n->proto);

	because(n, "no reply in time");
	hop_failed(n, k, UPSTREAM_SILENT);
}

/* On a line that is full or lossy a probe may go unanswered while others' data come: once more
 * then, on a new connection, as the route to the proxy may be another by now. */
static void witnessed(struct redir *rd, struct upstream *up, bool lives)
{
	struct noop *n = up->kick ? up->kick_ctx : NULL;

	(void)rd;
	if (!n || !n->running || !n->doubted)
		return; /* it has ended, one way or another */
	if (!lives) {
		was_silent(n);
		return;
	}
	log_info("proxy %s: no reply in time, but data come from it: asking once more", up->name);
	close_connection(n);
	n->next--;
	try_address(n);
}

static void timed_out(struct noop *n)
{
	bool judges = !n->doubted && !n->resolving && !n->tries_fresh && n->chain.n == 1 &&
		      upstream_is_up(n->up);

	if (judges && witness_ask(n->rd, n->up, WITNESS_S, witnessed) == 0) {
		n->doubted = true;
		set_timer(n, WITNESS_S); /* a reply may still come meanwhile */
	} else {
		was_silent(n);
	}
}

/* Through a proxy that is not up itself nothing can be learned of this one. */
static bool way_is_open(struct noop *n)
{
	if (upstream_look(n->up).via_up)
		return true;
	if (!n->has_run && upstream_look(n->up->via).state != UPSTREAM_UNPROVEN) {
		n->has_run = true; /* connections need not be kept waiting for it */
		redir_first_noop_done(n->rd);
	}
	return false;
}

static void timer_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct noop *n = container_of(t, struct noop, timer);

	(void)loop;
	(void)events;
	if (n->running) {
		timed_out(n);
	} else if (!way_is_open(n)) {
		n->idle = false; /* a probe as soon as it is */
		set_timer(n, n->has_run ? VIA_S : VIA_FIRST_S);
	} else if (!heard_meanwhile(n)) {
		round_start(n);
	}
}

/* A flow met something odd: look now, but not all the time. */
static void kick_cb(struct upstream *up, void *ctx)
{
	struct noop *n = ctx;
	double since = now_of(n) - n->started_s;
	double least = upstream_look(up).urgent ? TROUBLE_S : CHECK_S;

	if (n->running) {
		n->kicked = true;
	} else if (n->retry_s == 0 || n->retry_s > CHECK_S) {
		n->idle = false;
		set_timer(n, since >= least ? 0. : least - since);
	}
}

struct noop *noop_new(struct redir *rd, struct upstream *up)
{
	struct upstream_chain chain;
	struct noop *n;

	upstream_chain(up, &chain);
	n = calloc(1, sizeof(*n) + chain.n * UP_REQUEST_MAX);
	if (!n)
		return NULL;
	n->chain = chain;
	n->rd = rd;
	n->up = upstream_get(up);
	n->fd = -1;
	n->dial.fd = -1;
	if (getrandom(&n->noise, sizeof(n->noise), GRND_NONBLOCK) < 0)
		n->noise = (uint32_t)(uintptr_t)n;
	ev_init(&n->timer, timer_cb);
	ev_init(&n->io, io_cb);
	list_push(&rd->noops, &n->node);
	up->kick_ctx = n;
	up->kick = kick_cb;
	set_timer(n, 0.);
	return n;
}

void noop_free(struct noop *n)
{
	n->up->kick = NULL; /* read on this thread only */
	close_connection(n);
	if (n->resolve)
		resolve_cancel(n->resolve);
	ev_timer_stop(n->rd->main.loop, &n->timer);
	explicit_bzero(n->request, n->chain.n * UP_REQUEST_MAX);
	list_remove(&n->rd->noops, &n->node);
	upstream_put(n->up);
	free(n);
}

bool noop_has_run(const struct noop *n)
{
	return n->has_run;
}

static bool in_pool(const struct pool *p, const struct upstream *up)
{
	for (unsigned i = 0; i < p->n; i++)
		if (p->v[i] == up)
			return true;
	return false;
}

/* A reload asks for names at once, and whether what was down or had rejected us still is: the
 * administrator may know more than their time to live and our pauses. */
static void ask_again(struct noop *n)
{
	n->resolved_s = 0;
	if (n->resolve && !n->resolving) { /* of a server that does not answer, say */
		resolve_cancel(n->resolve);
		n->resolve = NULL;
	}
	if (n->running)
		return; /* the next round does it */
	n->idle = false;
	set_timer(n, 0.);
}

int noop_follow_pool(struct redir *rd)
{
	struct list_node *node, *tmp;

	list_for_each_safe (&rd->noops, node, tmp) {
		struct noop *n = container_of(node, struct noop, node);
		if (!in_pool(rd->pool, n->up))
			noop_free(n);
		else
			ask_again(n);
	}
	for (unsigned i = 0; i < rd->pool->n; i++)
		if (!rd->pool->v[i]->kick && !noop_new(rd, rd->pool->v[i]))
			return -ENOMEM;
	return 0;
}

void noop_free_all(struct redir *rd)
{
	struct list_node *node;

	while ((node = list_first(&rd->noops)))
		noop_free(container_of(node, struct noop, node));
}

bool noop_all_have_run(const struct redir *rd)
{
	struct list_node *node;

	for (node = list_first(&rd->noops); node; node = list_next(&rd->noops, node))
		if (!container_of(node, struct noop, node)->has_run)
			return false;
	return true;
}
