/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/bindreq.h"

#include <errno.h>
#include <ev.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/dial.h"
#include "core/s6glue.h"
#include "core/worker.h"
#include "redir/up_socks6.h"

#define REPLY_OCTETS        4096
#define KEEPALIVE_S         60 /* of one that waits for a peer: NATs forget what is silent */
#define CONTROL_KEEPALIVE_S 20

struct bindreq {
	struct corpse corpse;
	struct bindreq_wish wish;
	const struct bindreq_ops *ops;
	void *owner;
	struct upstream *up; /* a reference */
	struct dial dial;
	int fd;
	ev_io io;
	ev_timer timer; /* the start; then the time limit of what is under way */
	bool begun, bound;
	struct up_socks6 proto;
	struct upstream_chain chain;
	double sent_s; /* when the requests had left */
	size_t request_len, sent;
	uint8_t reply[REPLY_OCTETS];
	size_t reply_len;
	uint8_t request[]; /* UP_REQUEST_MAX for each hop */
};

static double now_of(const struct bindreq *b)
{
	return worker_now(b->wish.w);
}

static void set_timer(struct bindreq *b, double s)
{
	ev_timer_stop(b->wish.w->loop, &b->timer);
	ev_timer_set(&b->timer, s, 0.);
	ev_timer_start(b->wish.w->loop, &b->timer);
}

static void stop(struct bindreq *b)
{
	ev_io_stop(b->wish.w->loop, &b->io);
	ev_timer_stop(b->wish.w->loop, &b->timer);
	dial_stop(&b->dial);
}

/* The one way it ends by itself; its owner frees it. */
static void __attribute__((format(printf, 4, 5)))
fail(struct bindreq *b, enum bindreq_failed kind, uint8_t code, const char *fmt, ...)
{
	char why[112];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	stop(b);
	b->ops->failed(b->owner, kind, code, why);
}

/* Whether the proxy is well is for its NOOPs to find out. */
static void __attribute__((format(printf, 3, 4)))
lost(struct bindreq *b, unsigned hop, const char *fmt, ...)
{
	char why[112];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	upstream_suspect(b->chain.hop[hop].up);
	fail(b, BINDREQ_LOST, 0, "%s", why);
}

/* ---- replies ---- */

static void authenticated(struct bindreq *b)
{
	unsigned k = b->proto.at;
	const struct up_hop *h = &b->proto.hop[k];
	struct upstream *up = b->chain.hop[k].up;

	upstream_heard(up, now_of(b), b->chain.hop[k].g.session, h->window_base,
		       h->in_session && h->has_window ? h->window_size : 0);
	set_timer(b, k + 1 == b->chain.n ? b->wish.reply_timeout_s : b->wish.dial_timeout_s);
}

static void chained(struct bindreq *b)
{
	unsigned k = b->proto.at - 1;
	struct up_leg leg = up_socks6_leg(&b->proto, &b->chain, k, now_of(b) - b->sent_s);

	upstream_ok(b->chain.hop[k].up, now_of(b));
	upstream_chained(&b->chain, k, now_of(b), &leg);
	set_timer(b, b->wish.dial_timeout_s);
}

static void bound(struct bindreq *b)
{
	const struct up_hop *h = up_socks6_last(&b->proto);

	upstream_ok(b->up, now_of(b));
	ev_timer_stop(b->wish.w->loop, &b->timer);
	b->bound = true;
	sock_keepalive(b->fd);
	sock_keepalive_idle(b->fd, b->wish.backlog ? CONTROL_KEEPALIVE_S : KEEPALIVE_S);
	b->ops->bound(b->owner, &h->bind, h->backlog);
}

static void refused(struct bindreq *b)
{
	unsigned k = b->proto.at;
	uint8_t code = b->proto.hop[k].code;

	upstream_ok(b->chain.hop[k].up, now_of(b));
	if (k + 1 == b->chain.n)
		fail(b, BINDREQ_REFUSED, code, "%s", s6_reply_str(code));
	else
		lost(b, k + 1, "%s says: %s", b->chain.hop[k].up->name, s6_reply_str(code));
}

/* The replies up to the first operation reply. False when it has failed. */
static bool act_on(struct bindreq *b, enum up_verdict v)
{
	unsigned k = b->proto.at;
	const struct up_hop *h = &b->proto.hop[k];
	struct upstream *up = b->chain.hop[k].up;

	switch (v) {
	case UP_MORE:
	case UP_AUTHENTICATED:
	case UP_CHAINED:
		return true;
	case UP_READY:
		bound(b);
		return true;
	case UP_REPLY:
		refused(b);
		break;
	case UP_SESSION_INVALID:
		upstream_session_lost(up, b->chain.hop[k].g.session);
		fail(b, BINDREQ_NOT_NOW, 0, "%s", up_verdict_str(&b->proto, v));
		break;
	case UP_TOKEN_REJECTED:
		if (h->has_window)
			upstream_window(up, b->chain.hop[k].g.session, h->window_base,
					h->window_size);
		/* fall through */
	case UP_AUTH_REFUSED:
	case UP_NOT_SOCKS6:
	case UP_MALFORMED:
		lost(b, k, "%s", up_verdict_str(&b->proto, v));
		break;
	}
	return false;
}

static bool parse_first(struct bindreq *b)
{
	enum up_verdict v;
	size_t used;

	do {
		v = up_socks6_feed(&b->proto, b->reply, b->reply_len, &used);
		b->reply_len -= used;
		memmove(b->reply, b->reply + used, b->reply_len);
		if (v == UP_AUTHENTICATED)
			authenticated(b);
		else if (v == UP_CHAINED)
			chained(b);
	} while (v == UP_AUTHENTICATED || v == UP_CHAINED);
	return act_on(b, v);
}

/* One of the replies about peers. True when there may be another one. */
static bool parse_peer(struct bindreq *b)
{
	struct s6_op_reply reply;
	bool control = b->wish.backlog > 0;
	struct addr peer;
	size_t used;

	switch (s6_op_reply_parse(b->reply, b->reply_len, &reply, &used, NULL)) {
	case S6_MORE:
		return false;
	case S6_BAD:
		lost(b, b->chain.n - 1, "malformed reply about a peer");
		return false;
	case S6_OK:
		break;
	}
	if (reply.code != S6_REPLY_SUCCESS) {
		fail(b, BINDREQ_REFUSED, reply.code, "%s", s6_reply_str(reply.code));
		return false;
	}
	if (!s6glue_to_addr(&peer, &reply.bind))
		memset(&peer, 0, sizeof(peer));
	b->reply_len -= used;
	memmove(b->reply, b->reply + used, b->reply_len);
	if (!control)
		ev_io_stop(b->wish.w->loop, &b->io);
	b->ops->peer(b->owner, &peer);
	return control; /* else it is gone */
}

static void parse(struct bindreq *b)
{
	if (!b->bound && !parse_first(b))
		return;
	while (b->bound && b->reply_len > 0 && parse_peer(b))
		;
}

/* ---- the connection ---- */

static void send_request(struct bindreq *b)
{
	ssize_t n;

	if (b->sent == b->request_len)
		return;
	n = send(b->fd, b->request + b->sent, b->request_len - b->sent, MSG_NOSIGNAL);
	if (n > 0)
		b->sent += (size_t)n;
	/* errors show when reading */
	if (b->sent == b->request_len)
		b->sent_s = now_of(b);
}

static void at_eof(struct bindreq *b)
{
	unsigned k = b->proto.at;

	if (up_socks6_is_mismatch(&b->proto, b->reply, b->reply_len))
		lost(b, k, "it speaks another SOCKS version");
	else if (b->bound)
		lost(b, k, "the proxy has closed the connection");
	else
		lost(b, k, "the proxy closed the connection without a reply");
}

static void io_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct bindreq *b = container_of(io, struct bindreq, io);
	ssize_t n;

	(void)events;
	send_request(b);
	if (b->sent == b->request_len && (io->events & EV_WRITE)) {
		ev_io_stop(loop, io);
		ev_io_set(io, b->fd, EV_READ);
		ev_io_start(loop, io);
	}
	if (b->reply_len == sizeof(b->reply)) {
		lost(b, b->proto.at, "endless reply");
		return;
	}
	n = recv(b->fd, b->reply + b->reply_len, sizeof(b->reply) - b->reply_len, 0);
	if (n > 0) {
		b->reply_len += (size_t)n;
		parse(b);
	} else if (n == 0) {
		at_eof(b);
	} else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
		lost(b, b->proto.at, "connection to the proxy: %s", strerror(errno));
	}
}

static void dialled(struct dial *d, int err)
{
	struct bindreq *b = d->owner;

	if (err < 0) {
		lost(b, 0, "cannot connect to the proxy: %s", strerror(-err));
		return;
	}
	upstream_dialled(b->chain.hop[0].up, now_of(b), d);
	b->fd = dial_take(d);
	ev_io_set(&b->io, b->fd, EV_READ | EV_WRITE);
	ev_io_start(b->wish.w->loop, &b->io);
	set_timer(b, b->wish.dial_timeout_s);
}

/* Never in the SYN: nobody waits for this, and what repeats it would bind twice. */
static void begin(struct bindreq *b)
{
	const struct upstream_grant *g = &b->chain.hop[b->chain.n - 1].g;
	struct up_request rq = {.command = S6_CMD_BIND,
				.dst = &b->wish.addr,
				.backlog = b->wish.backlog,
				.chain = &b->chain};
	struct dial_wishes wishes = {
		.sock = {.mark = b->wish.mark, .tos = -1, .ttl = -1},
		.timeout_s = b->wish.dial_timeout_s,
	};
	int rc;

	if (!upstream_grant_chain(b->up, now_of(b), &b->chain)) {
		fail(b, BINDREQ_NOT_NOW, 0, "the proxy is not up");
		return;
	}
	if (!g->in_session || (b->wish.session && g->session != b->wish.session)) {
		fail(b, BINDREQ_NOT_NOW, 0, "no session with the proxy");
		return;
	}
	wishes.sock.mptcp = b->chain.hop[0].g.mptcp;
	wishes.dst = b->chain.hop[0].g.addr;
	if (!up_socks6_request(&b->proto, &rq, b->request, &b->request_len)) {
		fail(b, BINDREQ_LOST, 0, "the request cannot be built");
		return;
	}
	rc = dial_start(&b->dial, b->wish.w, &wishes, dialled, b);
	if (rc < 0)
		lost(b, 0, "cannot connect to the proxy: %s", strerror(-rc));
}

static void timer_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct bindreq *b = container_of(t, struct bindreq, timer);

	(void)loop;
	(void)events;
	if (b->begun) {
		lost(b, up_socks6_missing(&b->proto), "no reply from the proxy in time");
		return;
	}
	b->begun = true;
	begin(b);
}

struct bindreq *bindreq_start(const struct bindreq_wish *wish, const struct bindreq_ops *ops,
			      void *owner)
{
	struct upstream_chain chain;
	struct bindreq *b;

	upstream_chain(wish->up, &chain);
	b = calloc(1, sizeof(*b) + chain.n * UP_REQUEST_MAX);
	if (!b)
		return NULL;
	b->wish = *wish;
	b->ops = ops;
	b->owner = owner;
	b->up = upstream_get(wish->up);
	b->chain = chain;
	b->fd = b->dial.fd = -1;
	ev_init(&b->timer, timer_cb);
	ev_init(&b->io, io_cb);
	set_timer(b, 0.);
	return b;
}

static void bury(struct corpse *c)
{
	free(container_of(c, struct bindreq, corpse));
}

void bindreq_free(struct bindreq *b)
{
	stop(b);
	if (b->fd >= 0)
		close(b->fd);
	b->fd = -1;
	explicit_bzero(b->request, b->chain.n * UP_REQUEST_MAX);
	upstream_put(b->up);
	b->bound = false; /* it may be in the middle of replies */
	b->reply_len = 0;
	b->corpse.bury = bury;
	worker_bury(b->wish.w, &b->corpse);
}

unsigned bindreq_session(const struct bindreq *b)
{
	return b->chain.hop[b->chain.n - 1].g.session;
}

bool bindreq_is_dead(const struct bindreq *b)
{
	return b->bound && sock_mptcp_dead(b->fd);
}

int bindreq_take(struct bindreq *b, struct buf *early, struct bufpool *pool)
{
	int fd = b->fd;

	stop(b);
	b->fd = -1;
	if (b->reply_len > 0)
		buf_put(early, pool, b->reply, b->reply_len); /* fits: it is empty, and larger */
	return fd;
}
