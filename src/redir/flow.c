/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/flow.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/dial.h"
#include "core/relay.h"
#include "core/report.h"
#include "core/sock.h"
#include "redir/origdst.h"
#include "redir/redir.h"
#include "redir/up_socks6.h"

/*
 * Time limits
 *   WAIT_DATA  first_data_ms; the device may also speak later
 *   DIAL       dial_timeout, kept by the dial
 *   HANDSHAKE  dial_timeout until the authentication reply, which the proxy sends at once;
 *              then reply_timeout until the operation reply, for which it must reach the server
 *   DIRECT     CONNECT_S, kept by the dial: about what the kernel itself would take
 *   RELAY      idle, kept by the relay
 */
#define CONNECT_S 130.0

#define SYN_MAX 2048 /* more never fits into a SYN */

enum flow_state {
	FLOW_WAIT_DATA, /* holding for the device's first bytes */
	FLOW_DIAL,      /* connecting to a proxy; request and first bytes may be in the SYN */
	FLOW_HANDSHAKE, /* connected; the replies are not complete */
	FLOW_DIRECT,    /* connecting to the server itself */
	FLOW_RELAY,     /* copying both ways */
	FLOW_CLOSED     /* ended; freed at the end of the loop turn */
};

static const char *const state_words[] = {
	[FLOW_WAIT_DATA] = "wait-data", [FLOW_DIAL] = "dial",   [FLOW_HANDSHAKE] = "handshake",
	[FLOW_DIRECT] = "direct",       [FLOW_RELAY] = "relay", [FLOW_CLOSED] = "closed",
};

static const char *const route_words[] = {
	[ROUTE_NONE] = "none",
	[ROUTE_PROXY] = "proxy",
	[ROUTE_DIRECT] = "direct",
};

/* How far an attempt has gone: decides whether there may be another one. */
enum commit {
	COMMIT_NOTHING,   /* nothing has been sent that could have been executed */
	COMMIT_MAYBE,     /* the request may have arrived; no reply yet */
	COMMIT_EXECUTING, /* the proxy has accepted it */
};

/* All of a flow that is needed only until it relays. */
struct attempt {
	struct pool *pool; /* a reference */
	unsigned next;     /* next upstream of the pool */
	struct dial dial;
	ev_io io; /* upstream */
	int fd;   /* upstream, once connected */
	struct up_socks6 proto;
	struct upstream_grant grant;
	enum commit commit;
	bool same_again;      /* this is the second try with the same token */
	bool sessionless_try; /* the session was lost; one more try on the same proxy without */
	uint8_t request[UP_REQUEST_MAX];
	size_t request_len, request_sent;
	size_t sent; /* octets of relay.a.in sent to this upstream */
};

struct flow {
	struct list_node node; /* in redir_worker.flows */
	struct corpse corpse;
	struct redir_worker *rw;
	struct redir_conf *conf; /* a reference */
	uint64_t id;
	enum flow_state state;
	struct addr src, dst;
	int fd;   /* device; -1 once the relay owns it */
	ev_io io; /* device, until the relay takes over */
	ev_timer deadline;
	struct relay relay; /* a = device: a.in holds its bytes from the start; b = upstream */
	struct attempt *at; /* NULL while relaying */
	struct loopguard_entry guard;

	enum route route;
	struct upstream *up; /* a reference, of the current or final proxy */
	/* facts for the log line */
	double started; /* worker_now */
	bool mptcp, tfo;
	unsigned subflows, syn_bytes;
	uint8_t server_mptcp; /* 0 unknown, S6_AVAIL_NO, S6_AVAIL_YES */
	uint8_t reply_code;
	bool replied;
	char why[112]; /* the last thing that went wrong upstream */
};

static void flow_next(struct flow *f);
static void flow_dial(struct flow *f);
static void handshake_watch(struct flow *f);

static double now_of(const struct flow *f)
{
	return worker_now(&f->rw->w);
}

static void __attribute__((format(printf, 2, 3))) because(struct flow *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->why, sizeof(f->why), fmt, ap);
	va_end(ap);
}

/* ---- ending ---- */

static void note_facts(struct flow *f)
{
	struct sock_info info;
	int fd = f->state == FLOW_RELAY ? f->relay.b.fd : f->at ? f->at->fd : -1;

	if (f->route != ROUTE_PROXY || fd < 0 || sock_info(fd, &info) < 0)
		return;
	f->mptcp |= info.mptcp; /* a connection that is closing does not say any more */
	if (info.subflows > f->subflows)
		f->subflows = info.subflows;
}

static const char *server_mptcp_str(const struct flow *f)
{
	if (f->server_mptcp == 0)
		return "unknown";
	return f->server_mptcp == S6_AVAIL_YES ? "yes" : "no";
}

static double first_byte_s(const struct flow *f)
{
	return f->relay.b.first_in > 0 ? f->relay.b.first_in - f->started : -1.;
}

static void log_end(const struct flow *f, enum end_reason reason, int err)
{
	char src[ADDR_STRLEN], dst[ADDR_STRLEN], first[32] = "-";

	if (!log_enabled(LVL_INFO))
		return;
	if (first_byte_s(f) >= 0)
		snprintf(first, sizeof(first), "%.1fms", first_byte_s(f) * 1e3);
	log_info("flow %s -> %s route=%s proxy=%s mptcp=%s subflows=%u tfo=%s syn_bytes=%u "
		 "server_mptcp=%s up=%" PRIu64 " down=%" PRIu64
		 " first_byte=%s duration=%.3fs reason=%s%s%s%s%s%s%s",
		 addr_str(&f->src, src, sizeof(src)), addr_str(&f->dst, dst, sizeof(dst)),
		 route_words[f->route], f->route == ROUTE_PROXY && f->up ? f->up->name : "-",
		 f->mptcp ? "yes" : "no", f->subflows, f->tfo ? "yes" : "no", f->syn_bytes,
		 server_mptcp_str(f), f->relay.b.bytes_out, f->relay.b.bytes_in, first,
		 now_of(f) - f->started, end_reason_str(reason),
		 f->replied && f->reply_code ? " reply=" : "",
		 f->replied && f->reply_code ? s6_reply_str(f->reply_code) : "",
		 err ? " error=" : "", err ? strerror(err) : "", f->why[0] ? " upstream=" : "",
		 f->why);
}

static void drop_upstream(struct flow *f)
{
	if (!f->up)
		return;
	upstream_flow_count(f->up, -1);
	upstream_put(f->up);
	f->up = NULL;
}

/* Close what the current attempt has open; it may be followed by another. */
static void attempt_close(struct flow *f)
{
	struct attempt *at = f->at;

	dial_stop(&at->dial);
	ev_io_stop(f->rw->w.loop, &at->io);
	if (at->fd >= 0)
		sock_reset(at->fd); /* nobody waits for what is in it */
	at->fd = -1;
	loopguard_remove(f->rw->redir->loopguard, &f->guard);
	buf_clear(&f->relay.b.in, &f->rw->w.pool);
}

static void attempt_free(struct flow *f)
{
	if (!f->at)
		return;
	explicit_bzero(f->at->request, sizeof(f->at->request));
	pool_put(f->at->pool);
	free(f->at);
	f->at = NULL;
}

static void flow_bury(struct corpse *c)
{
	struct flow *f = container_of(c, struct flow, corpse);

	redir_conf_put(f->conf);
	free(f);
}

/* The device sees an orderly end only if the connection ended in order. */
static bool ends_in_order(enum end_reason reason)
{
	return reason == END_CLOSED;
}

/* The one way a flow ends, with a reason. */
static void flow_end(struct flow *f, enum end_reason reason, int err)
{
	struct redir_worker *rw = f->rw;
	struct ev_loop *loop = rw->w.loop;

	if (f->state == FLOW_CLOSED)
		return;
	log_end(f, reason, err);
	f->state = FLOW_CLOSED;
	rw->counters.ended[reason]++;
	rw->counters.bytes_up += f->relay.b.bytes_out;
	rw->counters.bytes_down += f->relay.b.bytes_in;
	ev_io_stop(loop, &f->io);
	ev_timer_stop(loop, &f->deadline);
	if (f->at)
		attempt_close(f);
	attempt_free(f);
	loopguard_remove(rw->redir->loopguard, &f->guard);
	buf_clear(&f->relay.a.in, &rw->w.pool);
	if (f->fd >= 0 && ends_in_order(reason))
		close(f->fd);
	else if (f->fd >= 0)
		sock_reset(f->fd);
	f->fd = -1;
	drop_upstream(f);
	list_remove(&rw->flows, &f->node);
	f->corpse.bury = flow_bury;
	worker_bury(&rw->w, &f->corpse);
}

static void set_deadline(struct flow *f, double s)
{
	ev_timer_stop(f->rw->w.loop, &f->deadline);
	if (s <= 0)
		return;
	ev_timer_set(&f->deadline, s, 0.);
	ev_timer_start(f->rw->w.loop, &f->deadline);
}

/* The one function that changes state; sets the time limit of the new one. */
static void flow_change(struct flow *f, enum flow_state state)
{
	f->state = state;
	switch (state) {
	case FLOW_WAIT_DATA:
		set_deadline(f, f->conf->first_data_ms / 1e3);
		break;
	case FLOW_HANDSHAKE:
		set_deadline(f, f->conf->dial_timeout_s);
		break;
	case FLOW_DIAL:
	case FLOW_DIRECT:
	case FLOW_RELAY:
	case FLOW_CLOSED:
		set_deadline(f, 0);
		break;
	}
}

/* ---- relay ---- */

static void relay_first(struct relay *r, struct end *e)
{
	struct flow *f = container_of(r, struct flow, relay);

	note_facts(f);
	if (e == &r->b && r->a.bytes_in == 0)
		firstdata_server_first(&f->rw->redir->firstdata, addr_port(&f->dst), now_of(f));
}

static void relay_closing(struct relay *r)
{
	note_facts(container_of(r, struct flow, relay));
}

static void relay_done(struct relay *r, enum end_reason reason, int err)
{
	struct flow *f = container_of(r, struct flow, relay);

	/* A proxy that was restarted resets its connections: ask before the next flow suffers. */
	if (reason == END_RESET_UP && f->route == ROUTE_PROXY)
		upstream_suspect(f->up);
	flow_end(f, reason, err);
}

/* Both sides are connected; sent octets of the device's bytes are on their way already. */
static void start_relay(struct flow *f, int up_fd, size_t sent)
{
	struct redir_worker *rw = f->rw;
	struct relay *r = &f->relay;
	int fd = f->fd;

	ev_io_stop(rw->w.loop, &f->io);
	buf_consume(&r->a.in, &rw->w.pool, sent);
	r->b.bytes_out = sent;
	f->fd = -1;
	attempt_free(f);
	rw->counters.routed[f->route]++;
	flow_change(f, FLOW_RELAY);
	r->first = relay_first;
	r->closing = relay_closing;
	relay_start(r, &rw->w, fd, up_fd, f->conf->idle_s, relay_done);
	note_facts(f);
	rw->counters.mptcp += f->mptcp;
	rw->counters.fastopen += f->tfo;
	if (r->b.in.len > 0) {
		r->b.bytes_in = r->b.in.len;
		r->b.first_in = now_of(f);
		relay_first(r, &r->b);
	}
}

/* ---- direct ---- */

static void direct_done(struct dial *d, int err)
{
	struct flow *f = d->owner;

	if (err < 0)
		flow_end(f, END_DIRECT_FAILED, -err);
	else
		start_relay(f, dial_take(d), 0);
}

/* Plain TCP, and no data in the SYN: to be no worse than without us is all it is for. */
static void flow_direct(struct flow *f)
{
	struct dial_wishes wishes = {
		.dst = f->dst,
		.sock = {.mark = f->conf->mark, .tos = -1, .ttl = -1, .keepalive = true},
		.timeout_s = CONNECT_S,
	};
	int rc;

	drop_upstream(f);
	f->route = ROUTE_DIRECT;
	flow_change(f, FLOW_DIRECT);
	rc = dial_start(&f->at->dial, &f->rw->w, &wishes, direct_done, f);
	if (rc < 0)
		flow_end(f, END_DIRECT_FAILED, -rc);
	else
		loopguard_add(f->rw->redir->loopguard, &f->guard, &f->at->dial.local, &f->dst);
}

/* ---- failures of an upstream ---- */

static void upstream_says(struct flow *f, enum upstream_failure kind)
{
	char dst[ADDR_STRLEN];

	upstream_failed(f->up, now_of(f), kind, f->why);
	log_limited(&f->rw->limit_upstream, 10, LVL_WARNING, "proxy %s failed for a flow to %s: %s",
		    f->up->name, addr_str(&f->dst, dst, sizeof(dst)), f->why);
}

/* Nothing can have been executed: the next proxy may try, or what the administrator wishes. */
static void try_elsewhere(struct flow *f)
{
	f->rw->counters.retries++;
	attempt_close(f);
	drop_upstream(f);
	f->at->same_again = f->at->sessionless_try = false;
	flow_next(f);
}

/* The connection to the proxy ended without an authentication reply. Whether the request was
 * executed is unknown; its token tells: if it can still be spent, it was not (section 6.4). */
static void lost_before_reply(struct flow *f)
{
	struct attempt *at = f->at;

	if (at->commit == COMMIT_NOTHING) {
		try_elsewhere(f);
	} else if (at->grant.has_token && !at->same_again) {
		at->same_again = true;
		f->rw->counters.retries++;
		attempt_close(f);
		flow_dial(f);
	} else if (f->relay.a.bytes_in == 0 && !at->same_again) {
		try_elsewhere(f); /* the device has said nothing that could be said twice */
	} else {
		flow_end(f, END_MAYBE_EXECUTED, 0);
	}
}

/* A definite "no" that says that the request was not executed. After a first try of which
 * nothing is known that is no comfort. */
static void definitely_not(struct flow *f)
{
	if (f->at->same_again)
		flow_end(f, END_MAYBE_EXECUTED, 0);
	else
		try_elsewhere(f);
}

static void session_invalid(struct flow *f)
{
	struct attempt *at = f->at;

	f->rw->counters.sessions_invalid++;
	upstream_session_lost(f->up, at->grant.session);
	if (at->same_again) {
		flow_end(f, END_MAYBE_EXECUTED, 0);
		return;
	}
	if (at->sessionless_try) {
		try_elsewhere(f);
		return;
	}
	/* The same proxy at once, with credentials instead of the session: one round trip lost. */
	at->sessionless_try = true;
	at->grant.in_session = at->grant.has_token = false;
	f->rw->counters.retries++;
	attempt_close(f);
	flow_dial(f);
}

static void operation_failed(struct flow *f)
{
	uint8_t code = f->at->proto.code;

	f->replied = true;
	f->reply_code = code;
	switch (code) {
	case S6_REPLY_FAILURE:
	case S6_REPLY_CMD_UNSUPPORTED:
	case S6_REPLY_ADDR_UNSUPPORTED:
		/* The proxy cannot; that says nothing about the server. */
		because(f, "%s", s6_reply_str(code));
		try_elsewhere(f);
		break;
	default:
		flow_end(f, END_REPLY_FAILURE, 0);
		break;
	}
}

/* ---- handshake ---- */

static void ready(struct flow *f)
{
	struct attempt *at = f->at;
	int fd = at->fd;

	note_facts(f);
	f->replied = true;
	f->reply_code = S6_REPLY_SUCCESS;
	f->server_mptcp = at->proto.server_mptcp;
	upstream_ok(f->up, now_of(f));
	ev_io_stop(f->rw->w.loop, &at->io);
	at->fd = -1;
	start_relay(f, fd, at->sent);
}

static void authenticated(struct flow *f)
{
	struct attempt *at = f->at;

	at->commit = COMMIT_EXECUTING;
	if (at->proto.in_session && at->proto.has_window)
		upstream_window(f->up, at->grant.session, at->proto.window_base,
				at->proto.window_size);
	set_deadline(f, f->conf->reply_timeout_s);
}

static void act_on(struct flow *f, enum up_verdict v)
{
	struct attempt *at = f->at;

	switch (v) {
	case UP_MORE:
	case UP_AUTHENTICATED:
		break;
	case UP_READY:
		ready(f);
		break;
	case UP_REPLY:
		upstream_ok(f->up, now_of(f));
		operation_failed(f);
		break;
	case UP_SESSION_INVALID:
		because(f, "%s", up_verdict_str(v));
		session_invalid(f);
		break;
	case UP_TOKEN_REJECTED:
		f->rw->counters.tokens_rejected++;
		if (at->proto.has_window)
			upstream_window(f->up, at->grant.session, at->proto.window_base,
					at->proto.window_size);
		because(f, "%s", up_verdict_str(v));
		definitely_not(f);
		break;
	case UP_AUTH_REFUSED:
		because(f, "%s", up_verdict_str(v));
		upstream_says(f, UPSTREAM_REJECTED);
		definitely_not(f);
		break;
	case UP_NOT_SOCKS6:
		because(f, "%s (%s)", up_verdict_str(v), s6_fault_str(at->proto.fault));
		upstream_says(f, UPSTREAM_HARD);
		definitely_not(f);
		break;
	case UP_MALFORMED:
		because(f, "%s (%s)", up_verdict_str(v), s6_fault_str(at->proto.fault));
		upstream_says(f, UPSTREAM_HARD);
		flow_end(f, END_MAYBE_EXECUTED, 0);
		break;
	}
}

static void parse_replies(struct flow *f)
{
	struct buf *in = &f->relay.b.in;
	enum up_verdict v;
	size_t used;

	do {
		v = up_socks6_feed(&f->at->proto, buf_data(in), in->len, &used);
		buf_consume(in, &f->rw->w.pool, used);
		if (v == UP_AUTHENTICATED)
			authenticated(f);
	} while (v == UP_AUTHENTICATED);
	act_on(f, v);
}

/* The proxy closed, reset, or fell silent before its replies were complete. */
static void upstream_gone(struct flow *f, const char *how)
{
	struct attempt *at = f->at;
	const struct buf *in = &f->relay.b.in;

	if (up_socks6_is_mismatch(&at->proto, buf_data(in), in->len)) {
		because(f, "version mismatch: it speaks another SOCKS version");
		upstream_says(f, UPSTREAM_HARD);
		definitely_not(f);
		return;
	}
	because(f, "%s %s", how,
		at->commit == COMMIT_EXECUTING ? "before the operation reply"
		: in->len > 0                  ? "in the middle of the authentication reply"
					       : "before any reply");
	upstream_says(f, UPSTREAM_SOFT);
	if (at->commit == COMMIT_EXECUTING)
		flow_end(f, END_MAYBE_EXECUTED, 0);
	else
		lost_before_reply(f);
}

/* Request first, then the device's bytes; they stay in the buffer until the proxy has
 * answered. Errors are left for reading to tell, after what was still sent to us. */
static void send_up(struct flow *f)
{
	struct attempt *at = f->at;
	struct buf *in = &f->relay.a.in;

	while (at->request_sent < at->request_len || at->sent < in->len) {
		bool head = at->request_sent < at->request_len;
		struct iovec v[2] = {
			{at->request + at->request_sent, at->request_len - at->request_sent},
			{in->len ? (uint8_t *)(uintptr_t)buf_data(in) + at->sent : NULL,
			 in->len - at->sent},
		};
		struct msghdr m = {.msg_iov = head ? v : v + 1,
				   .msg_iovlen = head && v[1].iov_len ? 2 : 1};
		ssize_t n = sendmsg(at->fd, &m, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		at->commit = at->commit == COMMIT_NOTHING ? COMMIT_MAYBE : at->commit;
		if ((size_t)n > v[0].iov_len && head) {
			at->sent += (size_t)n - v[0].iov_len;
			at->request_sent = at->request_len;
		} else if (head) {
			at->request_sent += (size_t)n;
		} else {
			at->sent += (size_t)n;
		}
	}
}

static void upstream_io_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct attempt *at = container_of(io, struct attempt, io);
	struct flow *f = io->data;
	struct relay *r = &f->relay;
	size_t room;
	uint8_t *p;
	ssize_t n;

	(void)loop;
	if (events & EV_WRITE)
		send_up(f);
	if (!(events & EV_READ)) {
		handshake_watch(f);
		return;
	}
	p = buf_room(&r->b.in, &f->rw->w.pool, &room);
	if (!p) {
		flow_end(f, END_NO_MEMORY, ENOMEM);
		return;
	}
	n = recv(at->fd, p, room, 0);
	if (n > 0) {
		buf_added(&r->b.in, (size_t)n);
		parse_replies(f);
	} else if (n == 0) {
		upstream_gone(f, "closed");
	} else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
		upstream_gone(f, strerror(errno));
	} else if (r->b.in.len == 0) {
		buf_clear(&r->b.in, &f->rw->w.pool);
	}
	if (f->state == FLOW_HANDSHAKE)
		handshake_watch(f);
}

static void handshake_watch(struct flow *f)
{
	struct attempt *at = f->at;
	struct ev_loop *loop = f->rw->w.loop;
	int want = EV_READ;

	if (at->request_sent < at->request_len || at->sent < f->relay.a.in.len)
		want |= EV_WRITE;
	if (ev_is_active(&at->io) && (at->io.events & (EV_READ | EV_WRITE)) == want)
		return;
	ev_io_stop(loop, &at->io);
	ev_io_set(&at->io, at->fd, want);
	ev_io_start(loop, &at->io);
}

/* ---- dialling a proxy ---- */

static void dial_done(struct dial *d, int err)
{
	struct flow *f = d->owner;
	struct attempt *at = f->at;

	if (err < 0) {
		because(f, "cannot connect: %s", strerror(-err));
		upstream_says(f, err == -ECONNREFUSED ? UPSTREAM_HARD : UPSTREAM_SOFT);
		/* No answer to a SYN counts as: it did not arrive. A reset behind the answer does
		 * not: what was in the SYN may have been acted on. */
		if (err == -ECONNRESET && d->queued > 0) {
			at->commit = COMMIT_MAYBE;
			lost_before_reply(f);
		} else {
			definitely_not(f);
		}
		return;
	}
	upstream_tfo_result(f->up, now_of(f), d->syn_data_acked, d->fastopen_fail);
	f->tfo = d->syn_data_acked;
	f->syn_bytes = d->syn_data_acked ? (unsigned)d->queued : 0;
	if (d->granted.mark_error)
		log_limited(&f->rw->limit_mark, 1, LVL_WARNING,
			    "SO_MARK refused (%s): our own connections may be captured; "
			    "CAP_NET_ADMIN is needed",
			    strerror(d->granted.mark_error));
	at->fd = dial_take(d);
	if (d->queued > 0) {
		at->commit = COMMIT_MAYBE;
		at->request_sent = d->queued < at->request_len ? d->queued : at->request_len;
		at->sent = d->queued - at->request_sent;
	}
	flow_change(f, FLOW_HANDSHAKE);
	send_up(f);
	handshake_watch(f);
}

/* Connect to f->up with what the grant allows. Application bytes go into a SYN only together
 * with a token; without one the SYN carries nothing but a wish for a cookie. */
static void flow_dial(struct flow *f)
{
	struct attempt *at = f->at;
	uint8_t syn[SYN_MAX];
	struct up_request rq = {
		.command = S6_CMD_CONNECT, .dst = &f->dst, .up = f->up, .g = &at->grant};
	struct dial_wishes wishes = {
		.dst = at->grant.addr,
		.sock = {.mptcp = f->up->mptcp != 0,
			 .mark = f->conf->mark,
			 .tos = -1,
			 .ttl = -1,
			 .keepalive = true},
		.fastopen = at->grant.tfo,
		.data = syn,
		.timeout_s = f->conf->dial_timeout_s,
	};
	size_t early;
	int rc;

	at->request_sent = at->sent = 0;
	at->commit = COMMIT_NOTHING;
	if (!up_socks6_request(&at->proto, &rq, at->request, &at->request_len)) {
		flow_end(f, END_INTERNAL, EMSGSIZE);
		return;
	}
	if (at->grant.has_token && at->grant.tfo) {
		early = f->relay.a.in.len;
		if (early > sizeof(syn) - at->request_len)
			early = sizeof(syn) - at->request_len;
		memcpy(syn, at->request, at->request_len);
		if (early > 0)
			memcpy(syn + at->request_len, buf_data(&f->relay.a.in), early);
		wishes.len = at->request_len + early;
	}
	flow_change(f, FLOW_DIAL);
	rc = dial_start(&at->dial, &f->rw->w, &wishes, dial_done, f);
	explicit_bzero(syn, wishes.len);
	if (rc < 0) {
		because(f, "cannot connect: %s", strerror(-rc));
		upstream_says(f, UPSTREAM_SOFT);
		definitely_not(f);
		return;
	}
	loopguard_add(f->rw->redir->loopguard, &f->guard, &at->dial.local, &at->grant.addr);
}

/* Choose the next upstream, or what on_proxy_failure says when there is none. */
static void flow_next(struct flow *f)
{
	struct attempt *at = f->at;
	struct upstream *up = pool_next(at->pool, &at->next, now_of(f), &at->grant);

	if (up) {
		f->up = upstream_get(up);
		upstream_flow_count(up, 1);
		f->route = ROUTE_PROXY;
		flow_dial(f);
		return;
	}
	f->rw->counters.fallbacks++;
	if (f->conf->on_proxy_failure == FAILURE_DIRECT) {
		flow_direct(f);
		return;
	}
	f->route = ROUTE_NONE;
	flow_end(f, END_NO_UPSTREAM, 0);
}

/* ---- the device ---- */

static void device_watch(struct flow *f)
{
	bool want = f->fd >= 0 && !f->relay.a.eof && f->relay.a.in.len < BUF_SIZE;

	if (want)
		ev_io_start(f->rw->w.loop, &f->io);
	else
		ev_io_stop(f->rw->w.loop, &f->io);
}

/* Take what the device has sent. False when the flow has ended. */
static bool device_read(struct flow *f)
{
	struct relay *r = &f->relay;
	size_t room;
	uint8_t *at = buf_room(&r->a.in, &f->rw->w.pool, &room);
	ssize_t n;
	int err;

	if (!at)
		return true; /* full; or no memory, then the next event tries again */
	n = recv(f->fd, at, room, 0);
	err = errno;
	if (n > 0) {
		if (r->a.bytes_in == 0) {
			r->a.first_in = now_of(f);
			firstdata_client_first(&f->rw->redir->firstdata, addr_port(&f->dst));
		}
		buf_added(&r->a.in, (size_t)n);
		r->a.bytes_in += (uint64_t)n;
		return true;
	}
	if (r->a.in.len == 0)
		buf_clear(&r->a.in, &f->rw->w.pool);
	if (n == 0) {
		r->a.eof = true;
		return true;
	}
	if (err == EAGAIN || err == EWOULDBLOCK || err == EINTR)
		return true;
	flow_end(f, END_DOWN_GONE, err);
	return false;
}

/* Own flows, flows to the proxies themselves; then the proxies in their order. */
static void flow_decide(struct flow *f)
{
	char src[ADDR_STRLEN], dst[ADDR_STRLEN];

	if (loopguard_has(f->rw->redir->loopguard, &f->src, &f->dst)) {
		log_limited(
			&f->rw->limit_loop, 1, LVL_ERROR,
			"our own connection %s -> %s was captured: exclude packets with mark 0x%x "
			"from the redirection rules",
			addr_str(&f->src, src, sizeof(src)), addr_str(&f->dst, dst, sizeof(dst)),
			f->conf->mark);
		flow_end(f, END_LOOP, 0);
		return;
	}
	if (pool_has_address(f->at->pool, &f->dst))
		flow_direct(f);
	else
		flow_next(f);
}

static void device_io_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct flow *f = container_of(io, struct flow, io);

	(void)loop;
	(void)events;
	if (!device_read(f))
		return;
	device_watch(f);
	if (f->state == FLOW_WAIT_DATA && (f->relay.a.bytes_in > 0 || f->relay.a.eof)) {
		flow_decide(f);
	} else if (f->state == FLOW_HANDSHAKE) {
		send_up(f);
		handshake_watch(f);
	}
}

static void deadline_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct flow *f = container_of(t, struct flow, deadline);

	(void)loop;
	(void)events;
	if (f->state == FLOW_WAIT_DATA)
		flow_decide(f);
	else if (f->state == FLOW_HANDSHAKE)
		upstream_gone(f, "silent");
}

/* ---- start ---- */

static struct flow *flow_new(struct redir_worker *rw, int fd, const struct addr *src)
{
	struct flow *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->at = calloc(1, sizeof(*f->at));
	if (!f->at) {
		free(f);
		return NULL;
	}
	f->rw = rw;
	f->conf = redir_conf_get(rw->conf);
	f->id = ++rw->next_id;
	f->src = *src;
	f->fd = fd;
	f->started = worker_now(&rw->w);
	f->at->pool = pool_get(rw->pool);
	f->at->fd = f->at->dial.fd = -1;
	relay_init(&f->relay);
	ev_io_init(&f->io, device_io_cb, fd, EV_READ);
	ev_io_init(&f->at->io, upstream_io_cb, -1, 0);
	f->at->io.data = f;
	ev_init(&f->deadline, deadline_cb);
	list_push(&rw->flows, &f->node);
	return f;
}

/* False when the flow has ended. */
static bool find_destination(struct flow *f)
{
	struct redir_worker *rw = f->rw;
	char src[ADDR_STRLEN], dst[ADDR_STRLEN];

	switch (origdst_find(f->fd, (enum redir_mode)f->conf->mode, &f->conf->listen, &f->dst)) {
	case ORIGDST_OK:
		return true;
	case ORIGDST_SELF:
		log_limited(&rw->limit_loop, 1, LVL_WARNING,
			    "%s connected to our own listener %s: nothing to redirect",
			    addr_str(&f->src, src, sizeof(src)),
			    addr_str(&f->dst, dst, sizeof(dst)));
		flow_end(f, END_LOOP, 0);
		return false;
	case ORIGDST_UNKNOWN:
		break;
	}
	log_limited(&rw->limit_loop, 1, LVL_WARNING,
		    "%s: the original destination is unknown (is mode = %s what the rules do?)",
		    addr_str(&f->src, src, sizeof(src)),
		    f->conf->mode == MODE_TPROXY ? "tproxy" : "redirect");
	flow_end(f, END_NO_ORIGINAL_DST, 0);
	return false;
}

void flow_start(struct redir_worker *rw, int fd, const struct addr *src)
{
	struct flow *f = flow_new(rw, fd, src);

	rw->counters.accepted++;
	if (!f) {
		rw->counters.ended[END_NO_MEMORY]++;
		sock_reset(fd);
		return;
	}
	flow_change(f, FLOW_WAIT_DATA);
	if (!find_destination(f) || !device_read(f))
		return;
	device_watch(f);
	if (f->relay.a.bytes_in > 0 || f->relay.a.eof || f->conf->first_data_ms == 0 ||
	    !firstdata_waits(&rw->redir->firstdata, addr_port(&f->dst), now_of(f)))
		flow_decide(f);
}

void flow_end_all(struct redir_worker *rw, enum end_reason reason)
{
	struct list_node *n;

	while ((n = list_first(&rw->flows))) {
		struct flow *f = container_of(n, struct flow, node);
		if (f->state == FLOW_RELAY)
			relay_end(&f->relay, reason, 0);
		else
			flow_end(f, reason, 0);
	}
}

void flow_report_all(struct redir_worker *rw, struct report *r)
{
	struct list_node *n, *tmp;
	char text[ADDR_STRLEN];

	list_for_each_safe (&rw->flows, n, tmp) {
		struct flow *f = container_of(n, struct flow, node);

		note_facts(f);
		report_row(r);
		report_u64(r, "id", f->id * rw->redir->n_workers + rw->w.index);
		report_str(r, "source", addr_str(&f->src, text, sizeof(text)));
		report_str(r, "destination", addr_str(&f->dst, text, sizeof(text)));
		report_str(r, "route", route_words[f->route]);
		report_str(r, "proxy", f->route == ROUTE_PROXY && f->up ? f->up->name : NULL);
		report_str(r, "state", state_words[f->state]);
		report_seconds(r, "age", now_of(f) - f->started);
		report_bytes(r, "bytes_up", f->relay.b.bytes_out);
		report_bytes(r, "bytes_down", f->relay.b.bytes_in);
		report_bool(r, "mptcp", f->mptcp);
		report_u64(r, "subflows", f->subflows);
		report_bool(r, "tfo", f->tfo);
		report_u64(r, "syn_bytes", f->syn_bytes);
		if (f->server_mptcp)
			report_bool(r, "server_mptcp", f->server_mptcp == S6_AVAIL_YES);
		else
			report_null(r, "server_mptcp");
		report_seconds(r, "first_byte", first_byte_s(f));
	}
}
