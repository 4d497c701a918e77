/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/noop.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/dial.h"
#include "redir/redir.h"
#include "redir/up_socks6.h"

#define IDLE_S       60.0 /* between NOOPs while all is well: keeps session and cookie alive */
#define RETRY_MIN_S  0.5  /* after a failure; doubles ... */
#define RETRY_MAX_S  30.0
#define CHECK_S      1.0   /* kicked: not more often than this */
#define RESOLVE_S    300.0 /* a name is asked for again */
#define REPLY_OCTETS 4096  /* replies to a NOOP are far smaller */

struct noop {
	struct list_node node; /* in redir.noops */
	struct redir *rd;
	struct upstream *up; /* a reference */
	ev_timer timer;      /* next start; while running: time limit */
	bool running, has_run, kicked;
	double retry_s, started_s, resolved_s;
	struct resolve *resolve;
	struct addr addrs[UPSTREAM_ADDRS];
	unsigned n_addrs, next;
	struct addr addr; /* the one being tried */
	struct dial dial;
	int fd;
	ev_io io;
	struct up_socks6 proto;
	struct upstream_grant grant;
	uint8_t request[UP_REQUEST_MAX];
	size_t request_len, sent;
	uint8_t reply[REPLY_OCTETS];
	size_t reply_len;
	char why[96];
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

/* One round is over. */
static void round_end(struct noop *n, double next_s)
{
	close_connection(n);
	explicit_bzero(n->request, sizeof(n->request));
	n->running = false;
	n->has_run = true;
	if (n->kicked && next_s > CHECK_S)
		next_s = CHECK_S;
	n->kicked = false;
	set_timer(n, next_s);
	redir_first_noop_done(n->rd);
}

static void round_failed(struct noop *n, enum upstream_failure kind)
{
	upstream_failed(n->up, now_of(n), kind, n->why);
	n->retry_s = n->retry_s > 0 ? n->retry_s * 2 : RETRY_MIN_S;
	if (n->retry_s > RETRY_MAX_S)
		n->retry_s = RETRY_MAX_S;
	round_end(n, n->retry_s);
	n->kicked = false; /* by upstream_failed, on our own behalf */
}

/* This address did not do; are there others? */
static void address_failed(struct noop *n, enum upstream_failure kind)
{
	close_connection(n);
	if (n->next < n->n_addrs)
		try_address(n);
	else
		round_failed(n, kind);
}

static void __attribute__((format(printf, 2, 3))) because(struct noop *n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(n->why, sizeof(n->why), fmt, ap);
	va_end(ap);
}

static void round_ok(struct noop *n)
{
	struct up_socks6 *u = &n->proto;
	struct sock_info info;
	uint32_t rtt_us = 0;

	if (sock_info(n->fd, &info) == 0)
		rtt_us = info.rtt_us;
	if (u->has_session && !u->in_session)
		upstream_session_open(n->up, u->session_id, u->session_id_len, u->has_window,
				      u->window_base, u->window_size);
	else if (u->in_session && u->has_window)
		upstream_window(n->up, n->grant.session, u->window_base, u->window_size);
	upstream_proven(n->up, now_of(n), &n->addr, rtt_us);
	n->retry_s = 0;
	round_end(n, IDLE_S);
}

static void verdict(struct noop *n, enum up_verdict v)
{
	switch (v) {
	case UP_MORE:
	case UP_AUTHENTICATED:
		break;
	case UP_READY:
		round_ok(n);
		break;
	case UP_SESSION_INVALID:
		upstream_session_lost(n->up, n->grant.session);
		close_connection(n);
		n->next = 0;
		try_address(n); /* the same again, opening a session */
		break;
	case UP_REPLY:
		because(n, "NOOP answered: %s", s6_reply_str(n->proto.code));
		address_failed(n, UPSTREAM_HARD);
		break;
	case UP_AUTH_REFUSED:
		because(n, "%s",
			n->up->username ? "check username and password"
					: "the proxy wants username and password");
		address_failed(n, UPSTREAM_REJECTED);
		break;
	case UP_NOT_SOCKS6:
	case UP_TOKEN_REJECTED:
	case UP_MALFORMED:
		because(n, "%s (%s)", up_verdict_str(v), s6_fault_str(n->proto.fault));
		address_failed(n, UPSTREAM_HARD);
		break;
	}
}

static void at_eof(struct noop *n)
{
	if (up_socks6_is_mismatch(&n->proto, n->reply, n->reply_len)) {
		because(n, "version mismatch: it speaks another SOCKS version");
		address_failed(n, UPSTREAM_HARD);
	} else if (n->reply_len > 0) {
		because(n, "closed in the middle of a reply");
		address_failed(n, UPSTREAM_HARD);
	} else {
		because(n, "closed without a reply");
		address_failed(n, UPSTREAM_HARD);
	}
}

static void parse_replies(struct noop *n)
{
	enum up_verdict v;
	size_t used;

	do {
		v = up_socks6_feed(&n->proto, n->reply, n->reply_len, &used);
		n->reply_len -= used;
		memmove(n->reply, n->reply + used, n->reply_len);
	} while (v == UP_AUTHENTICATED);
	if (v == UP_MORE && n->reply_len == sizeof(n->reply)) {
		because(n, "endless reply");
		address_failed(n, UPSTREAM_HARD);
		return;
	}
	verdict(n, v);
}

static void send_request(struct noop *n)
{
	ssize_t k;

	if (n->sent == n->request_len)
		return;
	k = send(n->fd, n->request + n->sent, n->request_len - n->sent, MSG_NOSIGNAL);
	if (k > 0)
		n->sent += (size_t)k;
	/* errors show when reading */
}

static void io_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct noop *n = container_of(io, struct noop, io);
	ssize_t k;

	(void)events;
	send_request(n);
	if (n->sent == n->request_len && (io->events & EV_WRITE)) {
		ev_io_stop(loop, io);
		ev_io_set(io, n->fd, EV_READ);
		ev_io_start(loop, io);
	}
	k = recv(n->fd, n->reply + n->reply_len, sizeof(n->reply) - n->reply_len, 0);
	if (k > 0) {
		n->reply_len += (size_t)k;
		parse_replies(n);
	} else if (k == 0) {
		at_eof(n);
	} else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
		because(n, "no reply: %s", strerror(errno));
		address_failed(n, UPSTREAM_SOFT);
	}
}

static void dialled(struct dial *d, int err)
{
	struct noop *n = d->owner;

	if (err < 0) {
		because(n, "cannot connect: %s", strerror(-err));
		address_failed(n, err == -ECONNREFUSED ? UPSTREAM_HARD : UPSTREAM_SOFT);
		return;
	}
	upstream_tfo_result(n->up, now_of(n), d->syn_data_acked, d->fastopen_fail);
	n->sent = d->queued;
	n->fd = dial_take(d);
	ev_io_set(&n->io, n->fd, EV_READ | EV_WRITE);
	ev_io_start(n->rd->main.loop, &n->io);
}

/* A NOOP may travel in the SYN: executed twice it only opens a session too many. */
static void try_address(struct noop *n)
{
	const struct redir_conf *c = n->rd->conf;
	struct dial_wishes wishes = {
		.sock = {.mptcp = n->up->mptcp != 0, .mark = c->mark, .tos = -1, .ttl = -1},
		.fastopen = n->up->tfo != 0,
		.timeout_s = c->dial_timeout_s,
		.data = n->request,
	};
	struct up_request rq = {.command = S6_CMD_NOOP, .up = n->up, .g = &n->grant};
	int rc;

	n->addr = wishes.dst = n->addrs[n->next++];
	n->reply_len = n->sent = 0;
	rq.open_session = !upstream_session(n->up, &n->grant);
	if (!up_socks6_request(&n->proto, &rq, n->request, &n->request_len)) {
		because(n, "the request cannot be built");
		round_failed(n, UPSTREAM_HARD);
		return;
	}
	wishes.len = n->request_len;
	set_timer(n, c->dial_timeout_s * 2);
	rc = dial_start(&n->dial, &n->rd->main, &wishes, dialled, n);
	if (rc < 0) {
		because(n, "cannot connect: %s", strerror(-rc));
		address_failed(n, rc == -ECONNREFUSED ? UPSTREAM_HARD : UPSTREAM_SOFT);
	}
}

static void resolved(void *owner, enum resolve_error err, const struct addr *addrs, unsigned count,
		     unsigned min_ttl_s)
{
	struct noop *n = owner;

	(void)min_ttl_s;
	n->resolve = NULL;
	if (err == RESOLVE_OK) {
		upstream_set_addrs(n->up, addrs, count);
		n->resolved_s = now_of(n);
	}
	n->n_addrs = upstream_addrs(n->up, n->addrs); /* the old ones, if there is no answer */
	n->next = 0;
	if (n->n_addrs > 0) {
		try_address(n);
		return;
	}
	because(n, "%s: %s", n->up->host, resolve_error_str(err));
	round_failed(n, UPSTREAM_SOFT);
}

static void round_start(struct noop *n)
{
	bool stale = n->resolved_s == 0 || now_of(n) - n->resolved_s >= RESOLVE_S || n->retry_s > 0;

	n->running = true;
	n->started_s = now_of(n);
	n->n_addrs = upstream_addrs(n->up, n->addrs);
	n->next = 0;
	if (!stale) {
		try_address(n);
		return;
	}
	n->resolve =
		resolve_start(n->rd->resolver, n->up->host, n->up->port, AF_UNSPEC, resolved, n);
	if (!n->resolve) {
		because(n, "out of memory");
		round_failed(n, UPSTREAM_SOFT);
	}
}

static void timer_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct noop *n = container_of(t, struct noop, timer);

	(void)loop;
	(void)events;
	if (!n->running) {
		round_start(n);
	} else {
		because(n, "no reply in time");
		address_failed(n, UPSTREAM_SOFT);
	}
}

/* A flow met something odd: look now, but not all the time. */
static void kick_cb(struct upstream *up, void *ctx)
{
	struct noop *n = ctx;
	double since = now_of(n) - n->started_s;

	(void)up;
	if (n->running)
		n->kicked = true;
	else if (n->retry_s == 0 || n->retry_s > CHECK_S)
		set_timer(n, since >= CHECK_S ? 0. : CHECK_S - since);
}

struct noop *noop_new(struct redir *rd, struct upstream *up)
{
	struct noop *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->rd = rd;
	n->up = upstream_get(up);
	n->fd = -1;
	n->dial.fd = -1;
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
	explicit_bzero(n->request, sizeof(n->request));
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

int noop_follow_pool(struct redir *rd)
{
	struct list_node *node, *tmp;

	list_for_each_safe (&rd->noops, node, tmp) {
		struct noop *n = container_of(node, struct noop, node);
		if (!in_pool(rd->pool, n->up))
			noop_free(n);
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
