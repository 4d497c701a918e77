/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/front_udp.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/perclient.h"
#include "core/report.h"
#include "core/s6glue.h"
#include "core/sock.h"
#include "redir/front_dgram.h"
#include "redir/front_guest.h"
#include "redir/udp_priv.h"

#define BATCHES_PER_TURN 8     /* fairness: then others have their turn */
#define ASKED_MAX        16    /* names that are being resolved, each with a datagram */
#define NAME_MIN_S       2.0   /* an address is good for so long at least, */
#define NAME_MAX_S       300.0 /* and no longer than this */

enum way { WAY_PROXY, WAY_DIRECT, WAYS };

struct front_udp {
	struct list_node node; /* in redir_worker.front_udps */
	struct corpse corpse;
	struct redir_worker *rw;
	struct redir_conf *conf; /* a reference */
	uint64_t id;
	struct addr src;     /* the program's end of the connection */
	struct addr program; /* where its datagrams come from; port 0: its first will tell */
	struct addr door;    /* where they come to */
	int fd, ufd;
	ev_io io, uio;
	struct assoc *way[WAYS]; /* NULL until there is something to send */
	struct list asked;
	/* the name that was resolved last */
	struct s6_address name;
	struct addr name_addr;
	double name_until_s;
	double started_s;
	uint64_t up, down, bytes_up, bytes_down;
	uint64_t strangers; /* datagrams of others than the program, */
	uint64_t odd;       /* fragments, and what has no header, */
	uint64_t refused;   /* and those to where it may not send */
};

/* A datagram that waits for the address of a name. */
struct asked {
	struct list_node node; /* in front_udp.asked */
	struct front_udp *d;
	struct s6_address name;
	struct resolve *resolve;
	size_t len;
	uint8_t data[];
};

static double now_of(const struct front_udp *d)
{
	return worker_now(&d->rw->w);
}

/* ---- names that no proxy resolves ---- */

static void asked_free(struct asked *q)
{
	if (q->resolve)
		resolve_cancel(q->resolve);
	list_remove(&q->d->asked, &q->node);
	free(q);
}

static void send_directly(struct front_udp *d, const struct addr *to, const uint8_t *data,
			  size_t len)
{
	for (int i = 0; i < WAYS; i++)
		if (d->way[i] && d->way[i]->state == ASSOC_DIRECT) {
			assoc_direct_send(d->way[i], to, data, len);
			return;
		}
	d->rw->udp->counters.lost++; /* there is a proxy again */
}

static void resolved(void *owner, enum resolve_error err, const struct addr *addrs, unsigned n,
		     unsigned min_ttl_s)
{
	struct asked *q = owner;
	struct front_udp *d = q->d;
	double good_s = min_ttl_s < NAME_MIN_S ? NAME_MIN_S : min_ttl_s;

	q->resolve = NULL;
	for (unsigned i = 0; err == RESOLVE_OK && i < n; i++) {
		if (!front_allows(&d->src, &addrs[i]))
			continue;
		d->name = q->name;
		d->name_addr = addrs[i];
		d->name_until_s = now_of(d) + (good_s < NAME_MAX_S ? good_s : NAME_MAX_S);
		send_directly(d, &addrs[i], q->data, q->len);
		asked_free(q);
		return;
	}
	d->rw->udp->counters.lost++;
	asked_free(q);
}

static bool is_last_name(const struct front_udp *d, const struct s6_address *name)
{
	return now_of(d) < d->name_until_s && d->name.port == name->port &&
	       strcmp(d->name.u.name, name->u.name) == 0;
}

bool front_udp_resolve(struct front_udp *d, const struct assoc *a, const struct s6_address *name,
		       const uint8_t *data, size_t len)
{
	struct asked *q;

	if (is_last_name(d, name)) {
		assoc_direct_send(d->way[a->node.key.direct], &d->name_addr, data, len);
		return true;
	}
	q = d->asked.count < ASKED_MAX && front_resolver(d->rw) ? malloc(sizeof(*q) + len) : NULL;
	if (!q)
		return false;
	q->d = d;
	q->name = *name;
	q->len = len;
	if (len)
		memcpy(q->data, data, len);
	list_push(&d->asked, &q->node);
	q->resolve =
		resolve_start(d->rw->resolver, name->u.name, name->port, AF_UNSPEC, resolved, q);
	if (q->resolve)
		return true;
	asked_free(q);
	return false;
}

/* ---- from the program ---- */

static bool is_program(struct front_udp *d, const struct addr *from)
{
	if (!addr_equal_ip(from, &d->program))
		return false;
	if (addr_port(&d->program) == 0)
		d->program = *from;
	return addr_port(from) == addr_port(&d->program);
}

static bool may_send(const struct front_udp *d, const struct s6_address *to, const struct addr *dst)
{
	if (udp_policy_captured(&d->rw->conf->udp, to->port) == UDP_REFUSE)
		return false;
	return to->type == S6_ADDR_NAME || front_allows(&d->src, dst);
}

static enum way way_of(const struct front_udp *d, const struct s6_address *to,
		       const struct addr *dst)
{
	const struct redir_conf *c = d->rw->conf;

	if (udp_policy_captured(&c->udp, to->port) == UDP_DIRECT)
		return WAY_DIRECT;
	return to->type != S6_ADDR_NAME &&
			       (front_is_direct(c, dst) || udp_is_to_proxy(d->rw->udp, dst))
		       ? WAY_DIRECT
		       : WAY_PROXY;
}

static void take(struct front_udp *d, const struct addr *from, const uint8_t *data, size_t len)
{
	struct udp *u = d->rw->udp;
	struct udp_datagram out = {.ttl = 64};
	struct front_dgram in;
	struct assoc_key key = {.door = d->id};
	enum way way;

	if (!is_program(d, from)) {
		d->strangers++;
		u->counters.lost++;
		return;
	}
	if (!front_dgram_parse(data, len, &in) || in.frag != 0) {
		d->odd++;
		u->counters.lost++;
		return;
	}
	if (in.dst.type == S6_ADDR_NAME)
		out.name = &in.dst;
	else
		s6glue_to_addr(&out.dst, &in.dst);
	if (!may_send(d, &in.dst, &out.dst)) {
		d->refused++;
		u->counters.refused++;
		return;
	}
	d->up++;
	d->bytes_up += in.len;
	out.src = d->program;
	out.data = in.data;
	out.len = in.len;
	way = way_of(d, &in.dst, &out.dst);
	key.src = d->program;
	key.direct = way == WAY_DIRECT;
	udp_take_front(u, &d->way[way], &key, d, &out);
}

static void udp_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct front_udp *d = container_of(io, struct front_udp, uio);
	struct udp *u = d->rw->udp;

	(void)loop;
	(void)events;
	for (int i = 0; i < BATCHES_PER_TURN && u->runs; i++) {
		int n = udp_batch_recv(&u->batch, d->ufd);

		for (int k = 0; k < n; k++) {
			struct addr from;

			if (udp_batch_from(&u->batch, k, &from))
				take(d, &from, udp_batch_data(&u->batch, k), u->batch.h[k].msg_len);
		}
		udp_flush(u);
		if (n < UDP_BATCH)
			return;
	}
}

/* ---- to the program ---- */

bool front_udp_deliver(struct front_udp *d, const struct addr *from, const uint8_t *data,
		       size_t len)
{
	uint8_t head[FRONT_DGRAM_HEAD];
	struct s6_address a;
	struct iovec v[2] = {{.iov_base = head}, {(void *)(uintptr_t)data, len}};
	struct msghdr m = {.msg_name = &d->program.u.sa,
			   .msg_namelen = d->program.len,
			   .msg_iov = v,
			   .msg_iovlen = 2};

	s6glue_from_addr(&a, from);
	v[0].iov_len = front_dgram_head(&a, head);
	if (sendmsg(d->ufd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return false;
	d->down++;
	d->bytes_down += len;
	return true;
}

/* ---- life ---- */

static void bury(struct corpse *c)
{
	struct front_udp *d = container_of(c, struct front_udp, corpse);

	redir_conf_put(d->conf);
	free(d);
}

static void log_end(const struct front_udp *d, enum end_reason reason)
{
	char src[ADDR_STRLEN], door[ADDR_STRLEN], program[ADDR_STRLEN];

	log_info("associate %s at %s entry=socks5 program=%s up=%" PRIu64 "/%" PRIu64
		 " down=%" PRIu64 "/%" PRIu64 " strangers=%" PRIu64 " malformed=%" PRIu64
		 " refused=%" PRIu64 " duration=%.3fs reason=%s",
		 addr_str(&d->src, src, sizeof(src)), addr_str(&d->door, door, sizeof(door)),
		 addr_str(&d->program, program, sizeof(program)), d->up, d->bytes_up, d->down,
		 d->bytes_down, d->strangers, d->odd, d->refused, now_of(d) - d->started_s,
		 end_reason_str(reason));
}

static void end(struct front_udp *d, enum end_reason reason)
{
	struct redir_worker *rw = d->rw;
	struct list_node *n;

	log_end(d, reason);
	for (int i = 0; i < WAYS; i++)
		if (d->way[i])
			assoc_end(d->way[i], reason);
	while ((n = list_first(&d->asked)))
		asked_free(container_of(n, struct asked, node));
	ev_io_stop(rw->w.loop, &d->io);
	ev_io_stop(rw->w.loop, &d->uio);
	close(d->ufd);
	close(d->fd);
	rw->counters.ended[reason]++;
	perclient_give(rw->redir->clients, &d->src);
	budget_give(&rw->redir->budget);
	list_remove(&rw->front_udps, &d->node);
	udp_door_left(rw->udp);
	d->corpse.bury = bury;
	worker_bury(&rw->w, &d->corpse);
}

/* The connection says nothing more, but that it ends. */
static void tcp_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct front_udp *d = container_of(io, struct front_udp, io);
	ssize_t n = recv(d->fd, NULL, 65536, MSG_TRUNC);

	(void)loop;
	(void)events;
	if (n == 0)
		end(d, END_CLOSED);
	else if (n < 0 && errno == ETIMEDOUT)
		end(d, END_DEAD_DOWN);
	else if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		end(d, END_RESET_DOWN);
}

void front_udp_lost(struct front_udp *d, const struct assoc *a)
{
	for (int i = 0; i < WAYS; i++)
		if (d->way[i] == a)
			d->way[i] = NULL;
}

/* ---- start ---- */

/* Is there anything that datagrams could go through? */
static enum end_reason find_way(struct redir_worker *rw)
{
	const struct pool *p = rw->pool;
	enum end_reason reason = END_UNSUPPORTED;

	if (rw->conf->on_proxy_failure == FAILURE_DIRECT)
		return END_NONE;
	for (unsigned i = 0; i < p->n; i++) {
		struct upstream *up = p->v[i];

		if (p->weight[i] <= 0 || up->protocol != PROTOCOL_SOCKS6 ||
		    udp_proxy(rw->udp, up)->no_udp_until > worker_now(&rw->w))
			continue;
		if (upstream_is_up(up))
			return END_NONE;
		reason = END_NO_UPSTREAM;
	}
	return reason;
}

/* At the address that the connection came to. Descriptor or -errno. */
static int open_door(const struct front_udp *d, struct addr *at)
{
	int fd, rc = addr_of_socket(d->fd, at);

	if (rc < 0)
		return rc;
	addr_set_port(at, 0);
	fd = udp_socket(addr_family(at), d->conf->mark);
	if (fd < 0)
		return fd;
	rc = bind(fd, &at->u.sa, at->len) < 0 ? -errno : addr_of_socket(fd, at);
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

static bool tell(const struct front_udp *d)
{
	uint8_t reply[FRONT_SOCKS_REPLY];
	struct s6_address at;
	size_t len;

	s6glue_from_addr(&at, &d->door);
	len = front_reply(FRONT_SOCKS5, S6_REPLY_SUCCESS, &at, reply, sizeof(reply));
	return send(d->fd, reply, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static enum end_reason open_it(struct front_udp *d)
{
	char src[ADDR_STRLEN];

	d->ufd = open_door(d, &d->door);
	if (d->ufd >= 0)
		return tell(d) ? END_NONE : END_DOWN_GONE;
	log_limited(&d->rw->limit_front, 1, LVL_WARNING,
		    "front door: no UDP socket for %s: %s (the limit on open files, or ports)",
		    addr_str(&d->src, src, sizeof(src)), strerror(-d->ufd));
	return END_INTERNAL;
}

static struct front_udp *new_of(struct redir_worker *rw, const struct front_guest *g)
{
	struct front_udp *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->rw = rw;
	d->conf = redir_conf_get(rw->conf);
	d->id = ++rw->next_id;
	d->src = d->program = g->src;
	addr_set_port(&d->program, g->dst->port);
	d->fd = g->fd;
	d->started_s = worker_now(&rw->w);
	list_init(&d->asked);
	return d;
}

static void begin(struct front_udp *d)
{
	struct redir_worker *rw = d->rw;

	sock_keepalive(d->fd);
	ev_io_init(&d->io, tcp_cb, d->fd, EV_READ);
	ev_io_start(rw->w.loop, &d->io);
	ev_io_init(&d->uio, udp_cb, d->ufd, EV_READ);
	ev_io_start(rw->w.loop, &d->uio);
	list_push(&rw->front_udps, &d->node);
}

enum end_reason front_udp_start(struct redir_worker *rw, const struct front_guest *g)
{
	enum end_reason reason = find_way(rw);
	struct front_udp *d;

	if (reason != END_NONE)
		return reason;
	if (!budget_take(&rw->redir->budget, &rw->w))
		return END_LIMIT;
	d = udp_door_opens(rw->udp) ? new_of(rw, g) : NULL;
	reason = d ? open_it(d) : END_NO_MEMORY;
	if (reason == END_NONE) {
		begin(d);
		return END_NONE;
	}
	if (d) {
		if (d->ufd >= 0)
			close(d->ufd);
		redir_conf_put(d->conf);
		free(d);
	}
	budget_give(&rw->redir->budget);
	udp_door_left(rw->udp);
	return reason;
}

/* ---- all of them ---- */

void front_udp_end_all(struct redir_worker *rw, enum end_reason reason)
{
	struct list_node *n;

	while ((n = list_first(&rw->front_udps)))
		end(container_of(n, struct front_udp, node), reason);
}

uint64_t front_udp_memory(const struct redir_worker *rw)
{
	return (uint64_t)rw->front_udps.count * sizeof(struct front_udp);
}

static void report_one(const struct front_udp *d, struct report *r)
{
	const struct assoc *a = d->way[WAY_PROXY];
	char text[ADDR_STRLEN], names[128];
	bool proxied = a && a->up;

	report_row(r);
	report_u64(r, "id", d->id * d->rw->redir->n_workers + d->rw->w.index);
	report_str(r, "source", addr_str(&d->src, text, sizeof(text)));
	report_str(r, "destination", addr_str(&d->door, text, sizeof(text)));
	report_null(r, "name");
	report_str(r, "entry", front_kind_str(FRONT_SOCKS5));
	report_str(r, "route", proxied ? "proxy" : a || d->way[WAY_DIRECT] ? "direct" : "none");
	report_str(r, "proxy", proxied ? a->up->name : NULL);
	report_str(r, "via", proxied ? upstream_via_str(a->up, names, sizeof(names)) : NULL);
	report_str(r, "state", "associate");
	report_seconds(r, "age", now_of(d) - d->started_s);
	report_bytes(r, "bytes_up", d->bytes_up);
	report_bytes(r, "bytes_down", d->bytes_down);
	report_bool(r, "mptcp", false);
	report_u64(r, "subflows", 0);
	report_bool(r, "tfo", false);
	report_u64(r, "syn_bytes", 0);
	report_bool(r, "prewarm", false);
	report_null(r, "server_mptcp");
	report_seconds(r, "first_byte", -1.);
}

void front_udp_report_all(struct redir_worker *rw, struct report *r)
{
	struct list_node *n, *tmp;

	list_for_each_safe (&rw->front_udps, n, tmp)
		report_one(container_of(n, struct front_udp, node), r);
}
