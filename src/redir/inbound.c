/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/inbound.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/dial.h"
#include "core/relay.h"
#include "core/report.h"
#include "core/sock.h"
#include "libsocks6/socks6.h"
#include "redir/bindreq.h"
#include "redir/forward.h"
#include "redir/proxyv2.h"
#include "redir/redir.h"

#define SERVER_S  5.0 /* for a server of the LAN to accept */
#define USAGE_MAX 4096

enum inbound_state {
	INBOUND_BIND,   /* asking the proxy, then waiting for a peer there */
	INBOUND_SERVER, /* a peer is there; connecting to the LAN's server */
	INBOUND_RELAY,  /* copying both ways */
	INBOUND_CLOSED  /* ended; freed at the end of the loop turn */
};

static const char *const state_words[] = {[INBOUND_BIND] = "bind",
					  [INBOUND_SERVER] = "dial",
					  [INBOUND_RELAY] = "relay",
					  [INBOUND_CLOSED] = "closed"};

struct inbound {
	struct list_node node; /* in redir_worker.inbounds */
	struct corpse corpse;
	struct redir_worker *rw;
	struct redir_conf *conf;       /* a reference */
	struct forward_shared *shared; /* a reference */
	struct ticket *ticket;         /* NULL once it has been handed back */
	uint64_t id;
	enum inbound_state state;
	struct addr bound, peer, server;
	struct bindreq *req; /* INBOUND_BIND */
	bool ready;          /* counted as such */
	int fd;              /* the proxy's, until the relay has it */
	struct dial dial;
	struct loopguard_entry guard;
	struct relay relay; /* a = the LAN's server, b = the proxy */
	double started;     /* worker_now; when the peer came */
	bool named;         /* the server sees, or is told, who the peer is */
	bool mptcp;
	unsigned subflows;
};

static double now_of(const struct inbound *in)
{
	return worker_now(&in->rw->w);
}

/* ---- ending ---- */

static void note_facts(struct inbound *in)
{
	struct sock_info info;
	int fd = in->state == INBOUND_RELAY ? in->relay.b.fd : in->fd;

	if (fd < 0 || sock_info(fd, &info) < 0)
		return;
	in->mptcp |= info.mptcp;
	if (info.subflows > in->subflows)
		in->subflows = info.subflows;
}

static void log_end(const struct inbound *in, enum end_reason reason, int err)
{
	char peer[ADDR_STRLEN], server[ADDR_STRLEN];

	if (!log_enabled(LVL_INFO))
		return;
	log_info("forward %s %s -> %s proxy=%s source=%s mptcp=%s subflows=%u up=%" PRIu64
		 " down=%" PRIu64 " duration=%.3fs reason=%s%s%s",
		 in->shared->name, addr_str(&in->peer, peer, sizeof(peer)),
		 addr_str(&in->server, server, sizeof(server)), in->shared->up->name,
		 in->named ? "kept" : "lost", in->mptcp ? "yes" : "no", in->subflows,
		 in->relay.b.bytes_out, in->relay.b.bytes_in, now_of(in) - in->started,
		 end_reason_str(reason), err ? " error=" : "", err ? strerror(err) : "");
}

static void inbound_bury(struct corpse *c)
{
	struct inbound *in = container_of(c, struct inbound, corpse);

	redir_conf_put(in->conf);
	forward_shared_put(in->shared);
	free(in);
}

static void not_ready(struct inbound *in)
{
	if (in->ready)
		atomic_fetch_sub(&in->shared->ready, 1);
	in->ready = false;
}

static void hand_back(struct inbound *in, enum ticket_outcome outcome, const char *why)
{
	if (in->ticket)
		ticket_return(in->ticket, outcome, why);
	in->ticket = NULL;
}

static void count_end(struct inbound *in, enum end_reason reason)
{
	struct counters *c = &in->rw->counters;
	struct forward_shared *s = in->shared;

	c->ended[reason]++;
	c->bytes_up += in->relay.b.bytes_out;
	c->bytes_down += in->relay.b.bytes_in;
	atomic_fetch_add(&s->bytes_up, in->relay.b.bytes_out);
	atomic_fetch_add(&s->bytes_down, in->relay.b.bytes_in);
	atomic_fetch_sub(&s->active, 1);
}

/* The one way it ends. The peer sees an orderly end only if the connection ended in order. */
static void inbound_end(struct inbound *in, enum end_reason reason, int err)
{
	struct redir_worker *rw = in->rw;

	if (in->state == INBOUND_CLOSED)
		return;
	not_ready(in);
	if (in->state != INBOUND_BIND) {
		if (in->state != INBOUND_RELAY)
			note_facts(in);
		log_end(in, reason, err);
		count_end(in, reason);
	}
	in->state = INBOUND_CLOSED;
	hand_back(in, TICKET_FAILED, end_reason_str(reason));
	dial_stop(&in->dial);
	loopguard_remove(rw->redir->loopguard, &in->guard);
	if (in->req)
		bindreq_free(in->req);
	in->req = NULL;
	buf_clear(&in->relay.b.in, &rw->w.pool);
	if (in->fd >= 0)
		sock_reset(in->fd);
	in->fd = -1;
	budget_give(&rw->redir->budget);
	list_remove(&rw->inbounds, &in->node);
	in->corpse.bury = inbound_bury;
	worker_bury(&rw->w, &in->corpse);
}

/* ---- relay ---- */

static void relay_closing(struct relay *r)
{
	struct inbound *in = container_of(r, struct inbound, relay);

	note_facts(in);
	if (in->conf->paths.count > 0)
		wan_usage_add(&in->rw->usage, r->b.fd);
}

static void relay_done(struct relay *r, enum end_reason reason, int err)
{
	inbound_end(container_of(r, struct inbound, relay), reason, err);
}

static void relay_ticked(struct relay *r)
{
	note_facts(container_of(r, struct inbound, relay));
}

static const struct relay_ops relay_ops = {
	.done = relay_done, .closing = relay_closing, .ticked = relay_ticked};

static void relay_now(struct inbound *in, int server)
{
	struct relay *r = &in->relay;
	int fd = in->fd;

	note_facts(in);
	in->fd = -1;
	in->state = INBOUND_RELAY;
	r->b.fell_back = sock_is_mptcp(fd) && !in->mptcp;
	r->b.mortal = true;
	r->idle_s = (float)in->conf->idle_s;
	r->dead_s = (float)in->conf->dead_s;
	r->b.bytes_in = r->b.in.len;
	relay_start(r, server, fd, &relay_ops);
}

/* ---- the LAN's server ---- */

/* All of it fits into the buffer of a fresh socket. */
static bool send_header(const struct inbound *in, int fd)
{
	uint8_t head[PROXYV2_MAX];
	size_t len = proxyv2_build(&in->peer, &in->bound, head);

	return send(fd, head, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static void server_failed(struct inbound *in, int err)
{
	atomic_fetch_add(&in->shared->failed, 1);
	inbound_end(in, END_SERVER_FAILED, err); /* a reset to the peer */
}

static void dialled(struct dial *d, int err)
{
	struct inbound *in = d->owner;

	if (err < 0) {
		server_failed(in, -err);
		return;
	}
	if (in->shared->source == SOURCE_PROXY_V2 && !send_header(in, d->fd)) {
		server_failed(in, EIO);
		return;
	}
	atomic_fetch_add(&in->shared->served, 1);
	relay_now(in, dial_take(d));
}

/* The one of the peer's family, if there is one: only then can it have the peer's address. */
static const struct addr *choose_server(const struct forward_shared *s, const struct addr *peer)
{
	for (unsigned i = 0; i < s->n_to; i++)
		if (addr_family(&s->to[i]) == addr_family(peer))
			return &s->to[i];
	return &s->to[0];
}

/* To itself this host does not answer through the rules that bring answers back to us. */
static bool can_pose(const struct inbound *in)
{
	return in->shared->source == SOURCE_TRANSPARENT &&
	       addr_family(&in->server) == addr_family(&in->peer) && !addr_is_local(&in->server);
}

static int dial_server(struct inbound *in)
{
	struct dial_wishes wishes = {
		.dst = in->server,
		.sock = {.mark = in->conf->mark, .tos = -1, .ttl = -1, .keepalive = true},
		.timeout_s = SERVER_S,
	};
	int rc = -EADDRNOTAVAIL;

	in->named = can_pose(in);
	if (in->named) {
		wishes.sock.transparent = true;
		wishes.source = in->peer;
		rc = dial_start(&in->dial, &in->rw->w, &wishes, dialled, in);
		if (rc == -EADDRNOTAVAIL || rc == -EADDRINUSE) { /* that pair is in use */
			addr_set_port(&wishes.source, 0);
			rc = dial_start(&in->dial, &in->rw->w, &wishes, dialled, in);
		}
		if (rc != -EPERM && rc != -EACCES)
			return rc;
	}
	wishes.sock.transparent = false;
	wishes.source.len = 0;
	in->named = in->shared->source == SOURCE_PROXY_V2;
	return dial_start(&in->dial, &in->rw->w, &wishes, dialled, in);
}

/* ---- the proxy ---- */

static void bound(void *owner, const struct addr *addr, unsigned backlog)
{
	struct inbound *in = owner;

	(void)addr;
	(void)backlog;
	in->ready = true;
	atomic_fetch_add(&in->shared->ready, 1);
}

static void peer_came(void *owner, const struct addr *peer)
{
	struct inbound *in = owner;
	int rc;

	in->peer = *peer;
	in->started = now_of(in);
	in->fd = bindreq_take(in->req, &in->relay.b.in, &in->rw->w.pool);
	bindreq_free(in->req);
	in->req = NULL;
	not_ready(in);
	hand_back(in, TICKET_PEER, NULL);
	in->state = INBOUND_SERVER;
	in->server = *choose_server(in->shared, peer);
	in->rw->counters.forwarded++;
	atomic_fetch_add(&in->shared->active, 1);
	rc = dial_server(in);
	if (!in->named && in->shared->source != SOURCE_NONE)
		atomic_fetch_add(&in->shared->unnamed, 1);
	if (rc < 0)
		server_failed(in, -rc);
	else
		loopguard_add(in->rw->redir->loopguard, &in->guard, &in->dial.local, &in->server);
}

static void bind_failed(void *owner, enum bindreq_failed kind, uint8_t code, const char *why)
{
	struct inbound *in = owner;

	/* Nobody came for a long time: the proxy lets go of such requests now and then. */
	hand_back(in,
		  kind == BINDREQ_REFUSED && code == S6_REPLY_TIMED_OUT && in->ready
			  ? TICKET_TIMED_OUT
			  : TICKET_FAILED,
		  why);
	inbound_end(in, END_NO_UPSTREAM, 0);
}

static const struct bindreq_ops ops = {.bound = bound, .peer = peer_came, .failed = bind_failed};

static struct inbound *inbound_new(struct redir_worker *rw, struct ticket *t)
{
	struct inbound *in = calloc(1, sizeof(*in));

	if (!in)
		return NULL;
	in->rw = rw;
	in->conf = redir_conf_get(rw->conf);
	in->shared = forward_shared_get(t->shared);
	in->ticket = t;
	in->id = ++rw->next_id;
	in->bound = t->bound;
	in->fd = in->dial.fd = -1;
	relay_init(&in->relay, &rw->w);
	list_push(&rw->inbounds, &in->node);
	return in;
}

static void ask(struct inbound *in, const struct ticket *t)
{
	const struct bindreq_wish wish = {.w = &in->rw->w,
					  .up = in->shared->up,
					  .addr = t->bound,
					  .session = t->session,
					  .mark = in->conf->mark,
					  .dial_timeout_s = in->conf->dial_timeout_s,
					  .reply_timeout_s = in->conf->reply_timeout_s};

	in->req = bindreq_start(&wish, &ops, in);
	if (!in->req)
		inbound_end(in, END_NO_MEMORY, 0);
}

void inbound_begin(struct job *job, struct worker *w)
{
	struct ticket *t = container_of(job, struct ticket, job);
	struct redir_worker *rw = redir_worker_of(w);
	struct inbound *in;

	if (rw->leaving || !budget_take(&rw->redir->budget, w)) {
		ticket_return(t, TICKET_FAILED, "no room for more connections here");
		return;
	}
	in = inbound_new(rw, t);
	if (in) {
		ask(in, t);
		return;
	}
	budget_give(&rw->redir->budget);
	ticket_return(t, TICKET_FAILED, "out of memory");
}

/* ---- all of them ---- */

void inbound_leave(struct redir_worker *rw)
{
	struct list_node *n, *tmp;

	rw->leaving = true;
	list_for_each_safe (&rw->inbounds, n, tmp) {
		struct inbound *in = container_of(n, struct inbound, node);
		if (in->state == INBOUND_BIND)
			inbound_end(in, END_SHUTDOWN, 0);
	}
}

void inbound_end_all(struct redir_worker *rw, enum end_reason reason)
{
	struct list_node *n;

	while ((n = list_first(&rw->inbounds))) {
		struct inbound *in = container_of(n, struct inbound, node);
		if (in->state == INBOUND_RELAY)
			relay_end(&in->relay, reason, 0);
		else
			inbound_end(in, reason, 0);
	}
}

size_t inbound_memory(const struct redir_worker *rw)
{
	return rw->inbounds.count * sizeof(struct inbound);
}

void inbound_usage(struct redir_worker *rw, struct wan_usage *u)
{
	struct list_node *n, *tmp;
	unsigned left = USAGE_MAX;

	list_for_each_safe (&rw->inbounds, n, tmp) {
		const struct inbound *in = container_of(n, struct inbound, node);
		if (in->state != INBOUND_RELAY)
			continue;
		if (left-- == 0)
			break;
		wan_usage_add(u, in->relay.b.fd);
	}
}

void inbound_report_all(struct redir_worker *rw, struct report *r)
{
	struct list_node *n, *tmp;
	char text[ADDR_STRLEN];

	list_for_each_safe (&rw->inbounds, n, tmp) {
		struct inbound *in = container_of(n, struct inbound, node);

		if (in->state == INBOUND_BIND)
			continue;
		note_facts(in);
		report_row(r);
		report_u64(r, "id", in->id * rw->redir->n_workers + rw->w.index);
		report_str(r, "source", addr_str(&in->peer, text, sizeof(text)));
		report_str(r, "destination", addr_str(&in->server, text, sizeof(text)));
		report_null(r, "name");
		report_str(r, "entry", "forward");
		report_str(r, "route", "forward");
		report_str(r, "proxy", in->shared->up->name);
		report_null(r, "via");
		report_str(r, "state", state_words[in->state]);
		report_seconds(r, "age", now_of(in) - in->started);
		report_bytes(r, "bytes_up", in->relay.b.bytes_out);
		report_bytes(r, "bytes_down", in->relay.b.bytes_in);
		report_bool(r, "mptcp", in->mptcp);
		report_u64(r, "subflows", in->subflows);
		report_bool(r, "tfo", false);
		report_u64(r, "syn_bytes", 0);
		report_bool(r, "prewarm", false);
		report_null(r, "server_mptcp");
		report_seconds(r, "first_byte", -1.);
	}
}
