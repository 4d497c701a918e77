/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way of a flow through a proxy: which one, dialling it, its replies, what may be tried again.
 *
 * The upstream may be the last of several proxies (via), the hops. What must not happen twice is
 * what the last one does: those before it only connect to their next, and whatever goes through
 * them carries the last one's token. So it alone decides, and the hops before it get new tokens for
 * each attempt.
 *
 *                                     hop before the last             the last hop
 *   cannot be dialled                 elsewhere                       elsewhere
 *   refuses, is no SOCKSv6 proxy,     elsewhere: nothing has          elsewhere
 *     does not take the token         got past it
 *   does not know the session         same way, credentials to it     same proxy, credentials
 *   connection ends before its        same way, last one's token      same proxy, same token
 *     authentication reply            once more                       once more
 *   ... or after it                   the same                        reset to the device
 *   nonsense after it                 the same                        reset to the device
 *   operation fails                   that is the next hop's          what the device is told,
 *                                     failure: elsewhere (a), never   or elsewhere; told a name,
 *                                     told to the device              again with the address (a)
 *   silent                            goes on when it, or the next    goes on when it is found
 *                                     hop, is found to be down (b)    to be down (b)
 *
 * After a second try with the same token "elsewhere" becomes a reset: of the first one nothing is
 * known. (a) But when data in its SYN had been taken before a reset came, it is as if the
 * connection had ended. (b) If what was sent can only have got into a SYN that was not answered, or
 * the device has said nothing; else when dial_timeout has passed, with the same token.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/s6glue.h"
#include "core/sock.h"
#include "redir/flow_priv.h"
#include "redir/witness.h"

#define SYN_MAX 2048 /* more never fits into a SYN */
/* An MPTCP connection whose last subflow was reset says so only by itself when it is asked. */
#define ALIVE_S      0.1
#define LOOK_S       0.25 /* between looks at a proxy that has not answered */
#define NAMES_REST_S 30.0 /* a proxy that cannot look up names is told addresses for so long */

static void flow_dial(struct flow *f);
static void handshake_watch(struct flow *f);

/* ---- failures of an upstream ---- */

static void upstream_says(struct flow *f, unsigned hop, enum upstream_failure kind)
{
	struct upstream *up = f->at->chain.hop[hop].up;
	char dst[FLOW_DST_STRLEN];

	upstream_failed(up, flow_now(f), kind, f->at->why);
	log_limited(&flow_rw(f)->limit_upstream, 10, LVL_WARNING,
		    "proxy %s failed for a flow to %s: %s", up->name,
		    flow_dst_str(f, dst, sizeof(dst)), f->at->why);
}

static bool at_last_hop(const struct flow *f)
{
	return f->at->proto.at + 1 == f->at->chain.n;
}

static struct upstream_grant *last_grant(struct flow *f)
{
	return &f->at->chain.hop[f->at->chain.n - 1].g;
}

/* Nothing can have been executed: the next proxy may try, or what the administrator wishes. */
static void try_elsewhere(struct flow *f)
{
	flow_rw(f)->counters.retries++;
	flow_attempt_close(f);
	flow_drop_upstream(f);
	f->at->same_again = false;
	f->at->reminded = 0;
	flow_next(f);
}

/* The same way, with what the last hop has been granted. */
static void dial_again(struct flow *f, bool same_token)
{
	struct attempt *at = f->at;

	if (!upstream_grant_way(&at->chain, flow_now(f))) {
		if (same_token)
			flow_end(f, END_MAYBE_EXECUTED, 0);
		else
			try_elsewhere(f);
		return;
	}
	at->same_again = same_token;
	flow_rw(f)->counters.retries++;
	flow_attempt_close(f);
	flow_dial(f);
}

/* Nothing of what the device has said can have got any further. */
static bool is_mute(const struct flow *f)
{
	return f->relay.a.bytes_in == 0 || !up_socks6_takes_data(&f->at->proto);
}

/* The connection to the proxy ended without an authentication reply. Whether the request was
 * executed is unknown; its token tells: if it can still be spent, it was not (section 6.4). */
static void lost_before_reply(struct flow *f)
{
	struct attempt *at = f->at;

	if (at->commit == COMMIT_NOTHING) {
		try_elsewhere(f);
	} else if (last_grant(f)->has_token && !at->same_again) {
		dial_again(f, true);
	} else if (is_mute(f) && !at->same_again) {
		try_elsewhere(f); /* the device has said nothing that could be said twice */
	} else {
		flow_end(f, END_MAYBE_EXECUTED, 0);
	}
}

/* A prewarmed connection had died before we wrote, or was just then closed: that tells nothing of
 * the proxy as it is now. Once more on a fresh connection, if nothing can be executed twice. */
static void prewarmed_lost(struct flow *f)
{
	struct attempt *at = f->at;
	bool nothing = at->commit == COMMIT_NOTHING || is_mute(f);

	upstream_suspect(at->chain.hop[0].up);
	at->fresh = true;
	if (nothing || last_grant(f)->has_token)
		dial_again(f, at->commit != COMMIT_NOTHING && last_grant(f)->has_token);
	else
		flow_end(f, END_MAYBE_EXECUTED, 0);
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
	unsigned k = at->proto.at;
	struct upstream_grant *g = &at->chain.hop[k].g;

	flow_rw(f)->counters.sessions_invalid++;
	upstream_session_lost(at->chain.hop[k].up, g->session);
	/* The last one has forgotten the token of the first try as well. */
	if ((at->same_again && at_last_hop(f)) || ++at->reminded > UPSTREAM_HOPS) {
		definitely_not(f);
		return;
	}
	/* The same way at once, with credentials instead of the session: one round trip lost.
	 * This verdict does not come again: it is only given to a request in a session. */
	g->in_session = g->has_token = false;
	dial_again(f, at->same_again);
}

/* A hop cannot reach the next one. */
static void chain_failed(struct flow *f)
{
	struct attempt *at = f->at;
	const struct up_hop *h = up_socks6_hop(&at->proto);
	unsigned k = at->proto.at;

	flow_because(f, "%s says: %s", at->chain.hop[k].up->name, s6_reply_str(h->code));
	if (h->code == S6_REPLY_FAILURE) /* it has too much to do, or stops */
		upstream_busy(at->chain.hop[k].up, flow_now(f));
	else
		upstream_says(f, k + 1, up_chain_failure(h->code));
	if (h->server_tfo > 0)
		lost_before_reply(f);
	else
		definitely_not(f);
}

/* Told a name the proxy could not do it, and nothing of it was taken by any server: the device's own
 * address counts again. */
static void name_failed(struct flow *f)
{
	flow_because(f, "%s, told %s", s6_reply_str(f->reply_code), f->at->name);
	if (f->reply_code == S6_REPLY_FAILURE || f->reply_code == S6_REPLY_TIMED_OUT ||
	    f->reply_code == S6_REPLY_ADDR_UNSUPPORTED)
		flow_rw(f)->names_rest_s = flow_now(f) + NAMES_REST_S;
	free(f->at->name);
	f->at->name = NULL;
	f->at->tried = 0; /* this proxy may be asked again */
	try_elsewhere(f);
}

/* For a service of the proxy's own. */
static bool asks_service(const struct flow *f)
{
	struct addr dst = flow_dst(f);

	return f->only_proxy && !f->at->name && addr_is_any(&dst);
}

static void operation_failed(struct flow *f)
{
	const struct up_hop *h = up_socks6_last(&f->at->proto);
	struct addr dst = flow_dst(f);
	uint8_t code = h->code;

	f->replied = true;
	f->reply_code = code;
	if (f->at->name && h->server_tfo == 0 && !addr_is_any(&dst)) {
		name_failed(f);
		return;
	}
	if (asks_service(f)) { /* others may have it */
		flow_because(f, "%s", s6_reply_str(code));
		try_elsewhere(f);
		return;
	}
	switch (code) {
	case S6_REPLY_FAILURE:
	case S6_REPLY_CMD_UNSUPPORTED:
	case S6_REPLY_ADDR_UNSUPPORTED:
		/* The proxy cannot; that says nothing about the server. */
		flow_because(f, "%s", s6_reply_str(code));
		/* It has too much to do, or stops; with SOCKS 5 that may mean anything. */
		if (code == S6_REPLY_FAILURE && !f->at->proto.is_socks5)
			upstream_busy(f->up, flow_now(f));
		try_elsewhere(f);
		break;
	default:
		/* What is not allowed may be so to one user only. */
		if (code != S6_REPLY_NOT_ALLOWED)
			flow_server_failed(f, s6glue_errno_of_reply(code));
		flow_end(f, END_REPLY_FAILURE, 0);
		break;
	}
}

/* ---- handshake ---- */

static void ready(struct flow *f)
{
	struct attempt *at = f->at;
	struct addr dst = flow_dst(f);
	int fd = at->fd;

	f->replied = true;
	f->reply_code = S6_REPLY_SUCCESS;
	f->server_mptcp = up_socks6_last(&at->proto)->server_mptcp & 3u;
	if (at->conf->learn && f->server_mptcp && flow_knows_server(f))
		learned_put(flow_rw(f)->redir->learned, &dst,
			    f->server_mptcp == S6_AVAIL_YES ? LEARNED_MPTCP : LEARNED_PLAIN,
			    LEARNED_FROM_PROXY, flow_now(f));
	upstream_ok(f->up, flow_now(f));
	ev_io_stop(f->relay.w->loop, &at->io);
	at->fd = -1;
	flow_relay(f, fd, at->sent);
}

static void authenticated(struct flow *f)
{
	struct attempt *at = f->at;
	unsigned k = at->proto.at;
	const struct up_hop *h = &at->proto.hop[k];
	struct upstream *up = at->chain.hop[k].up;

	upstream_heard(up, flow_now(f), at->chain.hop[k].g.session, h->window_base,
		       h->in_session && h->has_window ? h->window_size : 0);
	if (!at_last_hop(f)) {
		flow_deadline(f, f->at->conf->dial_timeout_s);
		return;
	}
	at->commit = COMMIT_EXECUTING;
	ev_timer_stop(f->relay.w->loop, &at->patience);
	flow_deadline(f, f->at->conf->reply_timeout_s);
}

/* The hop before this one has reached it. */
static void chained(struct flow *f)
{
	struct attempt *at = f->at;
	unsigned k = at->proto.at - 1;
	struct up_leg leg = up_socks6_leg(&at->proto, &at->chain, k, flow_now(f) - at->sent_s);

	upstream_ok(at->chain.hop[k].up, flow_now(f));
	upstream_chained(&at->chain, k, flow_now(f), &leg);
	flow_deadline(f, f->at->conf->dial_timeout_s);
}

static void act_on(struct flow *f, enum up_verdict v)
{
	struct attempt *at = f->at;
	unsigned k = at->proto.at;
	const struct up_hop *h = &at->proto.hop[k];
	struct upstream *up = at->chain.hop[k].up;

	switch (v) {
	case UP_MORE:
	case UP_AUTHENTICATED:
	case UP_CHAINED:
		break;
	case UP_READY:
		ready(f);
		break;
	case UP_REPLY:
		upstream_ok(up, flow_now(f));
		if (at_last_hop(f))
			operation_failed(f);
		else
			chain_failed(f);
		break;
	case UP_SESSION_INVALID:
		flow_because(f, "%s", up_verdict_str(&f->at->proto, v));
		session_invalid(f);
		break;
	case UP_TOKEN_REJECTED:
		flow_rw(f)->counters.tokens_rejected++;
		if (h->has_window)
			upstream_window(up, at->chain.hop[k].g.session, h->window_base,
					h->window_size);
		flow_because(f, "%s", up_verdict_str(&f->at->proto, v));
		definitely_not(f);
		break;
	case UP_AUTH_REFUSED:
		flow_because(f, "%s", up_verdict_str(&f->at->proto, v));
		upstream_says(f, k, UPSTREAM_REJECTED);
		definitely_not(f);
		break;
	case UP_NOT_SOCKS6:
		flow_because(f, "%s (%s)", up_verdict_str(&f->at->proto, v),
			     s6_fault_str(h->fault));
		upstream_says(f, k, UPSTREAM_HARD);
		definitely_not(f);
		break;
	case UP_MALFORMED:
		flow_because(f, "%s (%s)", up_verdict_str(&f->at->proto, v),
			     s6_fault_str(h->fault));
		upstream_says(f, k, UPSTREAM_HARD);
		if (at_last_hop(f))
			flow_end(f, END_MAYBE_EXECUTED, 0);
		else
			lost_before_reply(f);
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
		buf_consume(in, &f->relay.w->pool, used);
		if (v == UP_AUTHENTICATED)
			authenticated(f);
		else if (v == UP_CHAINED)
			chained(f);
	} while (v == UP_AUTHENTICATED || v == UP_CHAINED);
	act_on(f, v);
}

/* The proxy closed, reset, or fell silent before its replies were complete. */
static void upstream_gone(struct flow *f, const char *how, bool silent)
{
	struct attempt *at = f->at;
	const struct buf *in = &f->relay.b.in;
	bool nothing = in->len == 0 && up_socks6_unheard(&at->proto);
	unsigned k = at->proto.at;
	bool op = at->proto.hop[k].wait == UP_WAIT_OP;

	if (up_socks6_is_mismatch(&at->proto, buf_data(in), in->len)) {
		flow_because(f, "version mismatch: it speaks another SOCKS version");
		upstream_says(f, k, UPSTREAM_HARD);
		definitely_not(f);
		return;
	}
	flow_because(f, "%s %s", how,
		     op            ? "before the operation reply"
		     : in->len > 0 ? "in the middle of the authentication reply"
				   : "before any reply");
	if (f->prewarmed && nothing) {
		prewarm_was_dead(&flow_rw(f)->prewarm, at->chain.hop[0].up);
		if (!silent) {
			prewarmed_lost(f);
			return;
		}
	}
	upstream_says(f, silent ? up_socks6_missing(&at->proto) : k, UPSTREAM_SOFT);
	for (unsigned i = 0; i < k; i++) /* it may as well have been one of those before it */
		upstream_suspect(at->chain.hop[i].up);
	if (at->commit == COMMIT_EXECUTING)
		flow_end(f, END_MAYBE_EXECUTED, 0);
	else
		lost_before_reply(f);
}

/* What may be sent now: octets of the requests, and of what the device has said. */
static size_t may_send(const struct flow *f, size_t *data)
{
	const struct attempt *at = f->at;

	*data = up_socks6_takes_data(&at->proto) ? f->relay.a.in.len : 0;
	return up_socks6_released(&at->proto, at->request_len);
}

/* So much of the requests has left. */
static void note_sent(struct attempt *at)
{
	if (at->commit == COMMIT_NOTHING && at->request_sent > up_socks6_harmless(&at->proto))
		at->commit = COMMIT_MAYBE;
}

/* Request first, then the device's bytes; they stay in the buffer until the proxy has
 * answered. Errors are left for reading to tell, after what was still sent to us. */
static void send_up(struct flow *f)
{
	struct attempt *at = f->at;
	struct buf *in = &f->relay.a.in;
	size_t data, request = may_send(f, &data);

	while (at->request_sent < request || at->sent < data) {
		bool head = at->request_sent < request;
		struct iovec v[2] = {
			{at->request + at->request_sent, request - at->request_sent},
			{data ? (uint8_t *)(uintptr_t)buf_data(in) + at->sent : NULL,
			 data - at->sent},
		};
		struct msghdr m = {.msg_iov = head ? v : v + 1,
				   .msg_iovlen = head && v[1].iov_len ? 2 : 1};
		ssize_t n;

		if (at->request_sent > 0 && f->relay.b_delays) {
			sock_nodelay(at->fd);
			f->relay.b_delays = false;
		}
		n = sendmsg(at->fd, &m, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return;
		if ((size_t)n > v[0].iov_len && head) {
			at->sent += (size_t)n - v[0].iov_len;
			at->request_sent = request;
		} else if (head) {
			at->request_sent += (size_t)n;
		} else {
			at->sent += (size_t)n;
		}
		note_sent(at);
	}
}

static void handshake_read(struct flow *f)
{
	struct attempt *at = f->at;
	struct relay *r = &f->relay;
	size_t room;
	uint8_t *p;
	ssize_t n;

	p = buf_room(&r->b.in, &f->relay.w->pool, &room);
	if (!p) {
		flow_end(f, END_NO_MEMORY, ENOMEM);
		return;
	}
	n = recv(at->fd, p, room, 0);
	if (n > 0) {
		buf_added(&r->b.in, (size_t)n);
		parse_replies(f);
	} else if (n == 0) {
		upstream_gone(f, "closed", false);
	} else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
		upstream_gone(f, strerror(errno), false);
	} else if (r->b.in.len == 0) {
		buf_clear(&r->b.in, &f->relay.w->pool);
	}
	if (f->state == FLOW_HANDSHAKE)
		handshake_watch(f);
}

void flow_proxy_io_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct flow *f = io->data;

	(void)loop;
	if (events & EV_WRITE)
		send_up(f);
	if (events & EV_READ)
		handshake_read(f);
	else
		handshake_watch(f);
}

static void handshake_watch(struct flow *f)
{
	struct attempt *at = f->at;
	struct ev_loop *loop = f->relay.w->loop;
	size_t data, request = may_send(f, &data);
	int want = EV_READ;

	if (at->request_sent < request || at->sent < data)
		want |= EV_WRITE;
	if (ev_is_active(&at->io) && (at->io.events & (EV_READ | EV_WRITE)) == want)
		return;
	ev_io_stop(loop, &at->io);
	ev_io_modify(&at->io, want);
	ev_io_start(loop, &at->io);
}

/* ---- dialling a proxy ---- */

/* The proxy has answered others well after that, or data have come from it: what was sent then
 * found its way. */
static bool was_whole_after(const struct flow *f, double when)
{
	const struct upstream_chain *c = &f->at->chain;
	double well = when + c->hop[0].g.patience_s / 2;

	return upstream_heard_at(c->hop[0].up) > well ||
	       witness_here(flow_rw(f), f->up, flow_now(f) - well);
}

/* No answer to a SYN counts as: it did not arrive. But where the proxy has answered others well
 * after it, the path was whole, and its answer is as likely to have been lost as itself. A proxy
 * that dies then even refuses what it has acted on. */
static bool syn_maybe_taken(const struct flow *f)
{
	const struct attempt *at = f->at;

	return at->dial.queued > 0 && was_whole_after(f, at->dialled);
}

/* Nothing of what was written to a prewarmed connection has been acknowledged. That is as good as a
 * SYN without an answer, for the same reasons. */
static bool is_unheard(const struct flow *f)
{
	const struct attempt *at = f->at;
	size_t sent = at->request_sent + at->sent;
	uint64_t unacked;

	return f->prewarmed && sock_unacked(at->fd, &unacked) == 0 && unacked >= sent &&
	       !was_whole_after(f, at->sent_s);
}

/* With what the descriptor was watched with before. */
static void proxy_watches(struct flow *f, const ev_io *io)
{
	f->at->io = *io;
	f->at->io.data = f;
	ev_set_cb(&f->at->io, flow_proxy_io_cb);
}

/* Data that were not taken from the SYN leave when it is answered. */
static double sent_at(const struct flow *f, const struct dial *d)
{
	if (d->syn_data_acked)
		return f->at->dialled;
	return d->readable ? f->at->dialled + d->rtt_us / 1e6 : flow_now(f);
}

static void dial_done(struct dial *d, int err)
{
	struct flow *f = d->owner;
	struct attempt *at = f->at;

	if (err < 0) {
		flow_because(f, "cannot connect: %s", strerror(-err));
		upstream_says(f, 0, err == -ECONNREFUSED ? UPSTREAM_HARD : UPSTREAM_SOFT);
		/* A reset behind the answer: what was in the SYN may have been acted on. */
		if (((err == -ECONNRESET || err == -EPIPE) && d->queued > 0) ||
		    syn_maybe_taken(f)) {
			at->commit = COMMIT_MAYBE;
			lost_before_reply(f);
		} else {
			definitely_not(f);
		}
		return;
	}
	upstream_dialled(at->chain.hop[0].up, flow_now(f), d);
	flow_note_dialled(f);
	at->sent_s = sent_at(f, d);
	f->tfo = d->syn_data_acked;
	f->syn_bytes = d->syn_data_acked ? (uint16_t)d->queued : 0; /* SYN_MAX at most */
	if (d->granted.mark_error)
		log_limited(&flow_rw(f)->limit_mark, 1, LVL_WARNING,
			    "SO_MARK refused (%s): our own connections may be captured; "
			    "CAP_NET_ADMIN is needed",
			    strerror(d->granted.mark_error));
	at->fd = dial_take(d);
	proxy_watches(f, &d->io);
	if (d->queued > 0) {
		at->commit = COMMIT_MAYBE;
		at->request_sent = d->queued < at->request_len ? d->queued : at->request_len;
		at->sent = d->queued - at->request_sent;
	}
	flow_change(f, FLOW_HANDSHAKE);
	send_up(f);
	if (d->readable)
		handshake_read(f);
	else
		handshake_watch(f);
}

static void be_patient(struct flow *f)
{
	struct attempt *at = f->at;

	at->dialled = flow_now(f);
	ev_timer_stop(f->relay.w->loop, &at->patience);
	ev_timer_set(&at->patience, LOOK_S, LOOK_S);
	ev_timer_start(f->relay.w->loop, &at->patience);
}

/* The request and all that the device has said, at once, on a connection that is there already.
 * False if there is none, or a new one is as good. */
static bool flow_prewarmed(struct flow *f)
{
	struct attempt *at = f->at;
	struct upstream *first = at->chain.hop[0].up;
	const struct upstream_grant *g = &at->chain.hop[0].g;
	struct prewarmed warm;
	int fd;

	if (at->same_again || at->fresh ||
	    !prewarm_is_better(first, g, at->request_len + f->relay.a.in.len))
		return false;
	fd = prewarm_take(&flow_rw(f)->prewarm, first, &g->addr, &f->guard, &warm);
	if (fd < 0)
		return false;
	at->fd = fd;
	proxy_watches(f, &warm.io);
	at->dial.mptcp = warm.subflows > 0;
	at->dial.subflows = warm.subflows;
	flow_note_dialled(f);
	f->relay.b_delays = false;
	if (at->tos)
		sock_tos(fd, addr_family(&g->addr), at->tos);
	f->prewarmed = true;
	flow_change(f, FLOW_HANDSHAKE);
	at->sent_s = flow_now(f);
	at->until_s = at->sent_s + f->at->conf->dial_timeout_s;
	flow_deadline(f, ALIVE_S);
	be_patient(f);
	send_up(f);
	handshake_watch(f);
	return true;
}

/* Connect to f->up with what the grant allows. Application bytes go into a SYN only together
 * with a token; without one the SYN carries nothing but a wish for a cookie. */
static void flow_dial(struct flow *f)
{
	struct attempt *at = f->at;
	uint8_t syn[SYN_MAX];
	struct addr dst = flow_dst(f);
	struct up_request rq = {.command = S6_CMD_CONNECT,
				.dst = &dst,
				.name = at->name,
				.chain = &at->chain,
				.tos = at->tos};
	const struct upstream_grant *first = &at->chain.hop[0].g;
	struct dial_wishes wishes = {
		.dst = first->addr,
		.sock = {.mptcp = first->mptcp,
			 .mark = f->at->conf->mark,
			 .tos = flow_tos(f),
			 .ttl = -1,
			 .delay = true},
		.fastopen = first->tfo,
		.data = syn,
		.timeout_s = f->at->conf->dial_timeout_s,
	};
	size_t early;
	int rc;

	explicit_bzero(at->request, at->request_len); /* an earlier one may have been longer */
	at->request_sent = at->sent = 0;
	at->commit = COMMIT_NOTHING;
	if (!up_socks6_request(&at->proto, &rq, at->request, &at->request_len)) {
		flow_end(f, END_INTERNAL, EMSGSIZE);
		return;
	}
	if (flow_prewarmed(f))
		return;
	if (first->tfo && up_socks6_syn_safe(&at->proto) && at->request_len <= sizeof(syn)) {
		early = f->relay.a.in.len;
		if (early > sizeof(syn) - at->request_len)
			early = sizeof(syn) - at->request_len;
		memcpy(syn, at->request, at->request_len);
		if (early > 0)
			memcpy(syn + at->request_len, buf_data(&f->relay.a.in), early);
		wishes.len = at->request_len + early;
		wishes.answered = early == f->relay.a.in.len;
	}
	f->relay.b_delays = true;
	flow_change(f, FLOW_DIAL);
	rc = dial_start(&at->dial, f->relay.w, &wishes, dial_done, f);
	explicit_bzero(syn, wishes.len);
	if (rc < 0) {
		flow_because(f, "cannot connect: %s", strerror(-rc));
		upstream_says(f, 0, UPSTREAM_SOFT);
		definitely_not(f);
		return;
	}
	loopguard_add(flow_rw(f)->redir->loopguard, &f->guard, &at->dial.local, &first->addr);
	be_patient(f);
}

/* Its proxy was found to be down while the flow still waits for an answer. It goes elsewhere if
 * that is safe; if not, it waits on: the proxy may yet answer. */
static void proxy_went_down(struct flow *f)
{
	struct attempt *at = f->at;

	if (((f->state == FLOW_HANDSHAKE && at->commit != COMMIT_NOTHING &&
	      !up_socks6_is_chaining(&at->proto) && !is_unheard(f)) ||
	     (f->state == FLOW_DIAL && syn_maybe_taken(f))) &&
	    (!is_mute(f) || at->same_again))
		return;
	flow_because(f, "no answer, and it was found to be down");
	definitely_not(f);
}

static unsigned missing_hop(const struct flow *f)
{
	return f->state == FLOW_HANDSHAKE ? up_socks6_missing(&f->at->proto) : 0;
}

void flow_proxy_patience_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct flow *f = t->data;

	(void)loop;
	(void)events;
	if (f->state == FLOW_DIAL && dial_look(&f->at->dial))
		return;
	if (!upstream_is_up(f->up))
		proxy_went_down(f);
	else if (flow_now(f) - f->at->dialled >= f->at->chain.patience_s)
		pool_overdue(f->at->pool, f->at->chain.hop[missing_hop(f)].up);
}

void flow_next(struct flow *f)
{
	struct attempt *at = f->at;
	struct upstream *up;

	do
		up = pool_next(at->pool, &at->tried, flow_now(f), &at->chain);
	while (up && asks_service(f) && up->protocol != PROTOCOL_SOCKS6);
	if (up) {
		f->up = upstream_get(up);
		upstream_flow_count(up, 1);
		f->route = ROUTE_PROXY;
		flow_dial(f);
		return;
	}
	flow_rw(f)->counters.fallbacks++;
	if (at->conf->on_proxy_failure == FAILURE_DIRECT && !f->only_proxy) {
		flow_direct(f);
		return;
	}
	f->route = ROUTE_NONE;
	flow_end(f, END_NO_UPSTREAM, 0);
}

void flow_proxy_more(struct flow *f)
{
	if (f->state == FLOW_DIAL) {
		dial_look(&f->at->dial);
		return;
	}
	send_up(f);
	handshake_watch(f);
}

void flow_proxy_silent(struct flow *f)
{
	const struct attempt *at = f->at;

	if (f->prewarmed && up_socks6_unheard(&at->proto) && flow_now(f) < at->until_s) {
		if (sock_mptcp_dead(at->fd))
			upstream_gone(f, "dead", false);
		else
			flow_deadline(f, ALIVE_S);
		return;
	}
	upstream_gone(f, "silent", true);
}
