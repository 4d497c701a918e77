/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/front_bind.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/perclient.h"
#include "core/relay.h"
#include "core/report.h"
#include "core/s6glue.h"
#include "core/sock.h"
#include "redir/bindreq.h"
#include "redir/front_guest.h"
#include "redir/redir.h"

#define USAGE_MAX 4096

enum bind_state {
	BIND_ASK,   /* a proxy is asked for a port */
	BIND_WAIT,  /* it has one, and nobody has come */
	BIND_RELAY, /* copying both ways */
	BIND_CLOSED /* ended; freed at the end of the loop turn */
};

static const char *const state_words[] = {[BIND_ASK] = "bind",
					  [BIND_WAIT] = "listen",
					  [BIND_RELAY] = "relay",
					  [BIND_CLOSED] = "closed"};

struct front_bind {
	struct list_node node; /* in redir_worker.front_binds */
	struct corpse corpse;
	struct redir_worker *rw;
	struct redir_conf *conf; /* a reference */
	struct pool *pool;       /* a reference */
	uint64_t id;
	enum bind_state state;
	enum front_kind kind;
	struct addr src;
	struct addr only;  /* who may come: the address; any = everybody */
	struct addr bound; /* as it was told */
	struct addr peer;
	uint64_t tried;      /* upstreams of the pool */
	bool only_v4;        /* the proxy has no other addresses */
	struct upstream *up; /* a reference, or NULL */
	struct bindreq *req;
	int fd;             /* the program's, until the relay has it */
	ev_io io;           /* likewise */
	struct relay relay; /* a = the program, b = the proxy */
	double started_s;
	bool mptcp;
	unsigned subflows;
	char why[112];
};

static void ask(struct front_bind *b);

static double now_of(const struct front_bind *b)
{
	return worker_now(&b->rw->w);
}

/* ---- ending ---- */

static void note_facts(struct front_bind *b)
{
	struct sock_info info;

	if (b->state != BIND_RELAY || sock_info(b->relay.b.fd, &info) < 0)
		return;
	b->mptcp |= info.mptcp;
	if (info.subflows > b->subflows)
		b->subflows = info.subflows;
}

static void log_end(const struct front_bind *b, enum end_reason reason, int err)
{
	char src[ADDR_STRLEN], bound[ADDR_STRLEN], peer[ADDR_STRLEN];

	if (!log_enabled(LVL_INFO))
		return;
	log_info("bind %s at %s entry=%s proxy=%s peer=%s mptcp=%s subflows=%u up=%" PRIu64
		 " down=%" PRIu64 " duration=%.3fs reason=%s%s%s%s%s",
		 addr_str(&b->src, src, sizeof(src)), addr_str(&b->bound, bound, sizeof(bound)),
		 front_kind_str(b->kind), b->up ? b->up->name : "-",
		 addr_str(&b->peer, peer, sizeof(peer)), b->mptcp ? "yes" : "no", b->subflows,
		 b->relay.b.bytes_out, b->relay.b.bytes_in, now_of(b) - b->started_s,
		 end_reason_str(reason), err ? " error=" : "", err ? strerror(err) : "",
		 b->why[0] ? " upstream=" : "", b->why);
}

static void bury(struct corpse *c)
{
	struct front_bind *b = container_of(c, struct front_bind, corpse);

	redir_conf_put(b->conf);
	pool_put(b->pool);
	free(b);
}

static void drop_upstream(struct front_bind *b)
{
	if (b->req)
		bindreq_free(b->req);
	b->req = NULL;
	if (!b->up)
		return;
	upstream_flow_count(b->up, -1);
	upstream_put(b->up);
	b->up = NULL;
}

/* The one way it ends. Without a reply the program sees a reset, unless its connection has ended in
 * order. */
static void end(struct front_bind *b, enum end_reason reason, int err)
{
	struct redir_worker *rw = b->rw;

	if (b->state == BIND_CLOSED)
		return;
	log_end(b, reason, err);
	b->state = BIND_CLOSED;
	rw->counters.ended[reason]++;
	rw->counters.bytes_up += b->relay.b.bytes_out;
	rw->counters.bytes_down += b->relay.b.bytes_in;
	ev_io_stop(rw->w.loop, &b->io);
	drop_upstream(b);
	buf_clear(&b->relay.a.in, &rw->w.pool);
	buf_clear(&b->relay.b.in, &rw->w.pool);
	if (b->fd >= 0)
		sock_reset(b->fd);
	b->fd = -1;
	perclient_give(rw->redir->clients, &b->src);
	budget_give(&rw->redir->budget);
	list_remove(&rw->front_binds, &b->node);
	b->corpse.bury = bury;
	worker_bury(&rw->w, &b->corpse);
}

/* ---- replies ---- */

static bool say(const struct front_bind *b, unsigned result, const struct addr *at)
{
	uint8_t reply[FRONT_SOCKS_REPLY];
	struct s6_address a;
	size_t len;

	if (at)
		s6glue_from_addr(&a, at);
	len = front_reply(b->kind, result, at ? &a : NULL, reply, sizeof(reply));
	return send(b->fd, reply, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static void refuse(struct front_bind *b, unsigned result, enum end_reason reason)
{
	if (say(b, result, NULL)) {
		ev_io_stop(b->rw->w.loop, &b->io);
		front_farewell(b->rw, b->fd);
		b->fd = -1;
	}
	end(b, reason, 0);
}

/* ---- relay ---- */

static void relay_closing(struct relay *r)
{
	struct front_bind *b = container_of(r, struct front_bind, relay);

	note_facts(b);
	if (b->conf->paths.count > 0)
		wan_usage_add(&b->rw->usage, r->b.fd);
}

static void relay_done(struct relay *r, enum end_reason reason, int err)
{
	end(container_of(r, struct front_bind, relay), reason, err);
}

static void relay_ticked(struct relay *r)
{
	note_facts(container_of(r, struct front_bind, relay));
}

static const struct relay_ops relay_ops = {
	.done = relay_done, .closing = relay_closing, .ticked = relay_ticked};

static void relay_now(struct front_bind *b, int up_fd)
{
	struct relay *r = &b->relay;
	int fd = b->fd;

	ev_io_stop(b->rw->w.loop, &b->io);
	b->fd = -1;
	b->state = BIND_RELAY;
	r->b.fell_back = b->up->mptcp != 0 && !sock_is_mptcp(up_fd);
	r->b.mortal = true;
	r->idle_s = (float)b->conf->idle_s;
	r->dead_s = (float)b->conf->dead_s;
	r->b.bytes_in = r->b.in.len;
	relay_start(r, fd, up_fd, &relay_ops);
	note_facts(b);
}

/* ---- the proxy ---- */

/* The address of a proxy that binds at all of its own: the one that is known to reach it. Of the
 * wished family, if there is one. */
static bool find_bound(struct front_bind *b, const struct addr *bound)
{
	struct addr v[UPSTREAM_ADDRS];
	sa_family_t want = b->kind == FRONT_SOCKS4 ? AF_INET : addr_family(&b->only);
	const struct addr *best = bound;
	unsigned n;

	if (addr_is_any(bound)) {
		best = NULL;
		n = upstream_addrs(b->up, v);
		for (unsigned i = 0; i < n; i++)
			if (!(b->only_v4 && addr_family(&v[i]) != AF_INET) &&
			    (!best || (addr_family(best) != want && addr_family(&v[i]) == want)))
				best = &v[i];
	}
	if (!best || (b->kind == FRONT_SOCKS4 && addr_family(best) != AF_INET))
		return false;
	b->bound = *best;
	addr_set_port(&b->bound, addr_port(bound));
	return true;
}

static void bound(void *owner, const struct addr *addr, unsigned backlog)
{
	struct front_bind *b = owner;

	(void)backlog;
	if (!find_bound(b, addr)) {
		refuse(b, S6_REPLY_ADDR_UNSUPPORTED, END_BIND_FAILED);
		return;
	}
	b->state = BIND_WAIT;
	if (!say(b, S6_REPLY_SUCCESS, &b->bound))
		end(b, END_DOWN_GONE, 0);
}

static void peer_came(void *owner, const struct addr *peer)
{
	struct front_bind *b = owner;
	char text[ADDR_STRLEN], src[ADDR_STRLEN];
	int fd = bindreq_take(b->req, &b->relay.b.in, &b->rw->w.pool);

	b->peer = *peer;
	bindreq_free(b->req);
	b->req = NULL;
	if (!addr_is_any(&b->only) && !addr_equal_ip(&b->only, peer)) {
		log_limited(&b->rw->limit_front, 5, LVL_NOTICE,
			    "front door: %s came to the port of %s, who waits for another address",
			    addr_str(peer, text, sizeof(text)),
			    addr_str(&b->src, src, sizeof(src)));
		sock_reset(fd);
		refuse(b, S6_REPLY_NOT_ALLOWED, END_NOT_ALLOWED);
	} else if (!say(b, S6_REPLY_SUCCESS, peer)) {
		sock_reset(fd);
		end(b, END_DOWN_GONE, 0);
	} else {
		b->rw->counters.routed[ROUTE_PROXY]++;
		relay_now(b, fd);
	}
}

/* Before there is a port another proxy, or another address of the same, may do. */
static void bind_failed(void *owner, enum bindreq_failed kind, uint8_t code, const char *why)
{
	struct front_bind *b = owner;

	snprintf(b->why, sizeof(b->why), "%s", why);
	bindreq_free(b->req);
	b->req = NULL;
	if (b->state == BIND_WAIT) {
		refuse(b, kind == BINDREQ_REFUSED ? code : FRONT_LOST,
		       kind == BINDREQ_REFUSED && code == S6_REPLY_TIMED_OUT ? END_NO_PEER
									     : END_REPLY_FAILURE);
	} else if (kind != BINDREQ_REFUSED) {
		drop_upstream(b);
		ask(b);
	} else if (!b->only_v4 &&
		   (code == S6_REPLY_ADDR_UNSUPPORTED || code == S6_REPLY_NET_UNREACHABLE)) {
		b->only_v4 = true;
		b->tried = 0;
		drop_upstream(b);
		ask(b);
	} else {
		log_limited(&b->rw->limit_front, 5, LVL_NOTICE,
			    "front door: proxy %s gives no port: %s%s", b->up->name, why,
			    code == S6_REPLY_NOT_ALLOWED ? " (bind_ports in its proxy.conf)" : "");
		refuse(b, code, END_REPLY_FAILURE);
	}
}

static const struct bindreq_ops ops = {.bound = bound, .peer = peer_came, .failed = bind_failed};

/* The next that knows the command, and is up. */
static struct upstream *next_upstream(struct front_bind *b, bool *any)
{
	struct pool *p = b->pool;

	for (unsigned i = 0; i < p->n; i++) {
		if (p->weight[i] <= 0 || p->v[i]->protocol != PROTOCOL_SOCKS6)
			continue;
		*any = true;
		if (b->tried >> i & 1 || !upstream_is_up(p->v[i]))
			continue;
		b->tried |= 1ull << i;
		return p->v[i];
	}
	return NULL;
}

static void ask(struct front_bind *b)
{
	struct bindreq_wish wish = {.w = &b->rw->w,
				    .mark = b->conf->mark,
				    .dial_timeout_s = b->conf->dial_timeout_s,
				    .reply_timeout_s = b->conf->reply_timeout_s};
	bool any = false;
	struct upstream *up = next_upstream(b, &any);

	if (!up && any) {
		refuse(b, FRONT_NO_PROXY, END_NO_UPSTREAM);
		return;
	}
	if (!up) {
		refuse(b, S6_REPLY_CMD_UNSUPPORTED, END_UNSUPPORTED);
		return;
	}
	b->up = upstream_get(up);
	upstream_flow_count(up, 1);
	wish.up = up;
	/* [::] is of both families. */
	addr_parse_ip(&wish.addr, b->only_v4 ? "0.0.0.0" : "::");
	b->req = bindreq_start(&wish, &ops, b);
	if (!b->req)
		refuse(b, S6_REPLY_FAILURE, END_NO_MEMORY);
}

/* ---- the program ---- */

/* What it says before the peer is there goes to the peer. */
static void program_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct front_bind *b = container_of(io, struct front_bind, io);
	struct buf *in = &b->relay.a.in;
	size_t room;
	uint8_t *at = buf_room(in, &b->rw->w.pool, &room);
	ssize_t n;

	(void)events;
	if (!at) { /* full: its end will be noticed by keepalive, or by the relay */
		ev_io_stop(loop, io);
		return;
	}
	n = recv(b->fd, at, room, 0);
	if (n > 0) {
		buf_added(in, (size_t)n);
		b->relay.a.bytes_in += (uint64_t)n;
		return;
	}
	if (in->len == 0)
		buf_clear(in, &b->rw->w.pool);
	if (n == 0)
		end(b, END_DOWN_GONE, 0);
	else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		end(b, END_DOWN_GONE, errno);
}

/* ---- start ---- */

static bool take_early(struct front_bind *b, const struct front_guest *g)
{
	struct relay *r = &b->relay;

	if (g->early_len == 0)
		return true;
	r->a.bytes_in = g->early_len;
	return buf_put(&r->a.in, &b->rw->w.pool, g->early, g->early_len) == g->early_len;
}

static struct front_bind *new_of(struct redir_worker *rw, const struct front_guest *g)
{
	struct front_bind *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->rw = rw;
	relay_init(&b->relay, &rw->w);
	if (!take_early(b, g)) {
		buf_clear(&b->relay.a.in, &rw->w.pool);
		free(b);
		return NULL;
	}
	b->conf = redir_conf_get(rw->conf);
	b->pool = pool_get(rw->pool);
	b->id = ++rw->next_id;
	b->kind = g->kind;
	b->src = g->src;
	s6glue_to_addr(&b->only, g->dst);
	b->fd = g->fd;
	b->started_s = worker_now(&rw->w);
	ev_io_init(&b->io, program_cb, b->fd, EV_READ);
	ev_io_start(rw->w.loop, &b->io);
	list_push(&rw->front_binds, &b->node);
	return b;
}

/* Who may come has to be known as an address. */
enum end_reason front_bind_start(struct redir_worker *rw, const struct front_guest *g)
{
	struct front_bind *b;

	if (g->dst->type == S6_ADDR_NAME)
		return END_UNSUPPORTED;
	if (!budget_take(&rw->redir->budget, &rw->w))
		return END_LIMIT;
	b = new_of(rw, g);
	if (!b) {
		budget_give(&rw->redir->budget);
		return END_NO_MEMORY;
	}
	sock_keepalive(b->fd);
	ask(b);
	return END_NONE;
}

/* ---- all of them ---- */

void front_bind_end_all(struct redir_worker *rw, enum end_reason reason)
{
	struct list_node *n;

	while ((n = list_first(&rw->front_binds))) {
		struct front_bind *b = container_of(n, struct front_bind, node);

		if (b->state == BIND_RELAY)
			relay_end(&b->relay, reason, 0);
		else
			end(b, reason, 0);
	}
}

uint64_t front_bind_memory(const struct redir_worker *rw)
{
	return (uint64_t)rw->front_binds.count * sizeof(struct front_bind);
}

void front_bind_usage(struct redir_worker *rw, struct wan_usage *u)
{
	struct list_node *n, *tmp;
	unsigned left = USAGE_MAX;

	list_for_each_safe (&rw->front_binds, n, tmp) {
		const struct front_bind *b = container_of(n, struct front_bind, node);

		if (b->state != BIND_RELAY)
			continue;
		if (left-- == 0)
			break;
		wan_usage_add(u, b->relay.b.fd);
	}
}

static void report_one(struct front_bind *b, struct report *r)
{
	const struct addr *far = b->state == BIND_RELAY ? &b->peer : &b->bound;
	char text[ADDR_STRLEN], names[128];

	note_facts(b);
	report_row(r);
	report_u64(r, "id", b->id * b->rw->redir->n_workers + b->rw->w.index);
	report_str(r, "source", addr_str(&b->src, text, sizeof(text)));
	report_str(r, "destination", addr_str(far, text, sizeof(text)));
	report_null(r, "name");
	report_str(r, "entry", front_kind_str(b->kind));
	report_str(r, "route", "proxy");
	report_str(r, "proxy", b->up ? b->up->name : NULL);
	report_str(r, "via", b->up ? upstream_via_str(b->up, names, sizeof(names)) : NULL);
	report_str(r, "state", state_words[b->state]);
	report_seconds(r, "age", now_of(b) - b->started_s);
	report_bytes(r, "bytes_up", b->relay.b.bytes_out);
	report_bytes(r, "bytes_down", b->relay.b.bytes_in);
	report_bool(r, "mptcp", b->mptcp);
	report_u64(r, "subflows", b->subflows);
	report_bool(r, "tfo", false);
	report_u64(r, "syn_bytes", 0);
	report_bool(r, "prewarm", false);
	report_null(r, "server_mptcp");
	report_seconds(r, "first_byte", -1.);
}

void front_bind_report_all(struct redir_worker *rw, struct report *r)
{
	struct list_node *n, *tmp;

	list_for_each_safe (&rw->front_binds, n, tmp)
		report_one(container_of(n, struct front_bind, node), r);
}
