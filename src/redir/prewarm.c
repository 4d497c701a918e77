/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/prewarm.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/dial.h"
#include "redir/demand.h"
#include "redir/redir.h"

#define AUTO_MAX    8    /* for a proxy, over all workers */
#define SYN_FITS    1360 /* octets that a SYN surely carries: MTU 1500, less some for tunnels */
#define TICK_S      1.0
#define LIFE_S      7.0 /* until more is known: well below 10 s */
#define LIFE_MIN_S  0.5
#define LIFE_MAX_S  60.0
#define LIFE_PART   0.7  /* of the proxy's patience */
#define RENEW_PART  0.75 /* of the life: from then on there is a replacement */
#define SCOUT_MAX_S 90.0 /* patient enough: LIFE_MAX_S is safe */
#define RELEARN_S   600.0
#define BURST_S     1.0 /* ends so close together have another cause than age */
#define PAUSE_S     0.5 /* after a failure; doubles ... */
#define PAUSE_MAX_S 30.0
#define TELL_S      10.0 /* between messages to the other workers */
#define JOIN_IDLE_S 1    /* keepalive of a new connection, so that subflows can join; */
#define JOIN_S      3.0  /* after that none */

#define ESTABLISHED 1 /* TCP_ESTABLISHED of the kernel */

enum warm_state {
	WARM_DIALLING,
	WARM_READY,
	WARM_SCOUT /* too old for use: finds out how long the proxy waits */
};

struct warm {
	struct list_node node; /* in store.warm */
	struct store *store;
	enum warm_state state;
	struct dial dial;
	int fd; /* once connected */
	ev_io io;
	struct addr addr;
	struct loopguard_entry guard;
	double since_s; /* connected */
	bool joining;   /* keepalive is quick */
};

struct store {
	struct list_node node; /* in prewarm.stores */
	struct prewarm *p;
	struct upstream *up; /* a reference */
	int wanted;          /* up->prewarm, when it was made */
	struct demand demand;
	struct list warm; /* oldest first */
	ev_timer tick;
	bool was_up;
	double life_s, scout_s; /* learned; when to look again */
	bool has_scout;
	double early_s, closed_at; /* age of one that was closed too early; when the last one was */
	double pause_s, until_s;   /* no new ones before */
	double told_s;
	uint64_t lost; /* sessions that the proxy did not know any more, so far */
};

static double now_of(const struct store *s)
{
	return worker_now(&s->p->rw->w);
}

static double age_of(const struct warm *w)
{
	return now_of(w->store) - w->since_s;
}

/* ---- one connection ---- */

/* No longer ours to watch and to count; the descriptor stays open. */
static void warm_release(struct warm *w)
{
	struct store *s = w->store;

	ev_io_stop(s->p->rw->w.loop, &w->io);
	loopguard_remove(s->p->rw->redir->loopguard, &w->guard);
	if (w->state == WARM_READY)
		upstream_warm_count(s->up, -1, 0, 0);
	if (w->state == WARM_SCOUT)
		s->has_scout = false;
	list_remove(&s->warm, &w->node);
}

/* In order: the proxy takes it for a client that has changed its mind. */
static void warm_close(struct warm *w)
{
	warm_release(w);
	dial_stop(&w->dial);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}

static void pause_after_failure(struct store *s)
{
	s->pause_s = s->pause_s > 0 ? s->pause_s * 2 : PAUSE_S;
	if (s->pause_s > PAUSE_MAX_S)
		s->pause_s = PAUSE_MAX_S;
	s->until_s = now_of(s) + s->pause_s;
}

static void all_is_well(struct store *s)
{
	s->pause_s = s->until_s = 0;
}

static void set_life(struct store *s, double patience_s, double again_s)
{
	s->life_s = patience_s * LIFE_PART;
	if (s->life_s < LIFE_MIN_S)
		s->life_s = LIFE_MIN_S;
	if (s->life_s > LIFE_MAX_S)
		s->life_s = LIFE_MAX_S;
	s->scout_s = now_of(s) + again_s;
	s->early_s = 0;
}

/* Nothing is handed out any more of what may be dead. */
static void empty(struct store *s)
{
	struct list_node *n, *tmp;

	list_for_each_safe (&s->warm, n, tmp) {
		struct warm *w = container_of(n, struct warm, node);
		if (w->state == WARM_READY)
			warm_close(w);
	}
}

/* A proxy that does not know our session any more was restarted, and with it died what it had
 * accepted, whether or not we were told. */
static void check_restart(struct store *s)
{
	uint64_t lost = upstream_lost(s->up);

	if (lost != s->lost)
		empty(s);
	s->lost = lost;
}

static void found_dead(struct store *s)
{
	s->p->rw->counters.prewarm_dead++;
	upstream_warm_count(s->up, 0, 0, 1);
}

/* The proxy closed one in order at this age. Once may be its restart; again, at about the same age
 * and not in a burst, is its patience. */
static void closed_early(struct store *s, double age_s)
{
	bool burst = s->closed_at > 0 && now_of(s) - s->closed_at < BURST_S;

	s->closed_at = now_of(s);
	if (burst)
		return;
	if (s->early_s > 0 && age_s < s->early_s * 1.3 + 0.5)
		set_life(s, age_s < s->early_s ? age_s : s->early_s, RELEARN_S / 10);
	else
		s->early_s = age_s;
	pause_after_failure(s);
}

/* Ended by the other side, or by the path. */
static void warm_ended(struct warm *w, bool in_order)
{
	struct store *s = w->store;
	double age_s = age_of(w);
	bool scout = w->state == WARM_SCOUT;

	warm_close(w);
	if (scout) {
		if (in_order)
			set_life(s, age_s, RELEARN_S);
		return;
	}
	found_dead(s);
	if (in_order) {
		closed_early(s, age_s);
	} else {
		empty(s);
		pause_after_failure(s);
	}
}

/* What recv says about it: 0 = nothing, as it should be; 1 = ended in order, or has spoken without
 * being asked; -1 = error. */
static int listen_to(int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n >= 0)
		return 1;
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
}

static void readable_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct warm *w = container_of(io, struct warm, io);
	int heard = listen_to(w->fd);

	(void)loop;
	(void)events;
	if (heard != 0)
		warm_ended(w, heard > 0);
}

static bool is_alive(const struct warm *w, struct sock_info *info)
{
	int rc;

	if (listen_to(w->fd) != 0)
		return false;
	rc = w->dial.mptcp ? sock_info(w->fd, info) : sock_info_tcp(w->fd, info);
	if (rc < 0)
		return false;
	return info->mptcp ? info->subflows > 0 : info->state == ESTABLISHED;
}

static void dialled(struct dial *d, int err)
{
	struct warm *w = d->owner;
	struct store *s = w->store;

	if (err < 0) {
		warm_close(w);
		pause_after_failure(s);
		return;
	}
	if (d->refused) { /* worse than TCP, see dial.h; soon it is not asked for any more */
		upstream_dialled(s->up, now_of(s), d);
		warm_close(w);
		return;
	}
	w->fd = dial_take(d);
	w->since_s = now_of(s);
	w->state = WARM_READY;
	upstream_warm_count(s->up, 1, 0, 0);
	w->joining = d->mptcp;
	if (w->joining)
		sock_keepalive_idle(w->fd, JOIN_IDLE_S);
	w->io = d->io;
	ev_set_cb(&w->io, readable_cb);
	ev_io_modify(&w->io, EV_READ);
	ev_io_start(s->p->rw->w.loop, &w->io);
}

static bool warm_open(struct store *s, const struct addr *addr)
{
	struct redir_worker *rw = s->p->rw;
	struct dial_wishes wishes = {
		.dst = *addr,
		.sock = {.mptcp = upstream_mptcp_allowed(s->up, now_of(s), addr),
			 .mark = rw->conf->mark,
			 .tos = -1,
			 .ttl = -1},
		.timeout_s = rw->conf->dial_timeout_s,
	};
	struct warm *w = calloc(1, sizeof(*w));

	if (!w)
		return false;
	w->store = s;
	w->fd = -1;
	w->addr = *addr;
	w->since_s = now_of(s);
	ev_init(&w->io, readable_cb);
	if (dial_start(&w->dial, &rw->w, &wishes, dialled, w) < 0) {
		free(w);
		return false;
	}
	list_push(&s->warm, &w->node);
	loopguard_add(rw->redir->loopguard, &w->guard, &w->dial.local, addr);
	return true;
}

/* ---- a store ---- */

/* A worker's part of so many for the proxy. */
static unsigned part_of(const struct store *s, unsigned n)
{
	unsigned workers = s->p->rw->redir->n_workers;

	return workers ? (n + workers - 1) / workers : n;
}

static unsigned target(const struct store *s)
{
	if (atomic_load(&s->p->rw->redir->only_metered))
		return 0; /* each packet costs */
	if (s->up->prewarm != PREWARM_AUTO)
		return part_of(s, (unsigned)s->up->prewarm);
	return demand_target(&s->demand, part_of(s, AUTO_MAX));
}

static bool is_spare(const struct store *s, const struct warm *w)
{
	return w->state == WARM_DIALLING ||
	       (w->state == WARM_READY && age_of(w) < s->life_s * RENEW_PART);
}

/* As many as wanted that will last for a while. */
static void fill(struct store *s)
{
	struct addr addrs[UPSTREAM_ADDRS];
	struct list_node *n, *tmp;
	unsigned want = target(s), have = 0;

	list_for_each_safe (&s->warm, n, tmp)
		have += is_spare(s, container_of(n, struct warm, node));
	list_for_each_safe (&s->warm, n, tmp) {
		struct warm *w = container_of(n, struct warm, node);
		if (have > want && is_spare(s, w)) {
			warm_close(w);
			have--;
		} else if (want == 0 && w->state == WARM_READY) {
			warm_close(w);
		}
	}
	if (have >= want || s->p->stopped || now_of(s) < s->until_s || !upstream_is_up(s->up) ||
	    upstream_addrs(s->up, addrs) == 0)
		return;
	for (; have < want; have++) {
		if (!warm_open(s, &addrs[0])) {
			pause_after_failure(s);
			return;
		}
	}
}

static void start_ticking(struct store *s)
{
	if (!ev_is_active(&s->tick) && !s->p->stopped)
		ev_timer_again(s->p->rw->w.loop, &s->tick);
}

/* Too old for use: watch one of them, if its end is of interest. */
static void retire(struct warm *w)
{
	struct store *s = w->store;

	all_is_well(s);
	s->early_s = 0;
	if (s->has_scout || now_of(s) < s->scout_s) {
		warm_close(w);
		return;
	}
	upstream_warm_count(s->up, -1, 0, 0);
	w->state = WARM_SCOUT;
	s->has_scout = true;
}

/* Subflows that can join have done so by now, or will not. */
static void joined(struct warm *w)
{
	if (w->joining && age_of(w) >= JOIN_S) {
		sock_keepalive_idle(w->fd, 0);
		w->joining = false;
	}
}

/* False when the store was emptied. */
static bool look_after(struct warm *w, const struct addr *addr)
{
	struct store *s = w->store;
	struct sock_info info;

	if (w->state == WARM_DIALLING)
		return true;
	if (!is_alive(w, &info)) {
		bool in_order = listen_to(w->fd) > 0;

		warm_ended(w, in_order);
		return in_order;
	}
	joined(w);
	if (!addr || !addr_equal(&w->addr, addr)) {
		warm_close(w); /* the proxy has moved */
	} else if (w->state == WARM_SCOUT && age_of(w) >= SCOUT_MAX_S) {
		warm_close(w);
		set_life(s, SCOUT_MAX_S, RELEARN_S);
	} else if (w->state == WARM_READY && age_of(w) >= s->life_s) {
		retire(w);
	}
	return true;
}

static void tick_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct store *s = container_of(t, struct store, tick);
	struct addr addrs[UPSTREAM_ADDRS];
	struct list_node *n, *tmp;
	bool is_up = upstream_is_up(s->up), known = upstream_addrs(s->up, addrs) > 0;

	(void)events;
	demand_tick(&s->demand);
	check_restart(s);
	list_for_each_safe (&s->warm, n, tmp)
		if (!look_after(container_of(n, struct warm, node), known ? &addrs[0] : NULL))
			break;
	if (!is_up)
		empty(s);
	else if (!s->was_up)
		all_is_well(s);
	s->was_up = is_up;
	fill(s);
	if (target(s) == 0 && list_empty(&s->warm))
		ev_timer_stop(loop, &s->tick);
}

/* ---- the paths ---- */

static void paths_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct prewarm *p = container_of(io, struct prewarm, paths);
	struct list_node *n, *tmp;
	char trash[4096];

	(void)loop;
	(void)events;
	/* What has changed does not matter; and ENOBUFS says that much has. */
	while (recv(io->fd, trash, sizeof(trash), MSG_DONTWAIT) > 0)
		;
	list_for_each_safe (&p->stores, n, tmp) /* the next tick fills them */
		empty(container_of(n, struct store, node));
}

/* Without it, what is made lives no longer than otherwise. */
static void watch_paths(struct prewarm *p)
{
	struct sockaddr_nl at = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
			     RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE,
	};
	int fd;

	if (p->paths.fd >= 0)
		return;
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0)
		return;
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0) {
		close(fd);
		return;
	}
	ev_io_set(&p->paths, fd, EV_READ);
	ev_io_start(p->rw->w.loop, &p->paths);
}

static void forget_paths(struct prewarm *p)
{
	int fd = p->paths.fd;

	if (fd < 0)
		return;
	ev_io_stop(p->rw->w.loop, &p->paths);
	close(fd);
	ev_io_set(&p->paths, -1, EV_READ);
}

static struct store *store_find(const struct prewarm *p, const struct upstream *up)
{
	struct list_node *n;

	for (n = list_first(&p->stores); n; n = list_next(&p->stores, n))
		if (container_of(n, struct store, node)->up == up)
			return container_of(n, struct store, node);
	return NULL;
}

/* NULL where there is to be none. */
static struct store *store_get(struct prewarm *p, struct upstream *up)
{
	struct store *s = store_find(p, up);

	if (s || p->stopped || up->prewarm == 0)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->p = p;
	s->up = upstream_get(up);
	s->wanted = up->prewarm;
	s->life_s = LIFE_S;
	s->told_s = -TELL_S;
	s->lost = upstream_lost(up);
	list_init(&s->warm);
	ev_init(&s->tick, tick_cb);
	s->tick.repeat = TICK_S;
	list_push(&p->stores, &s->node);
	watch_paths(p);
	return s;
}

static void store_free(struct store *s)
{
	struct list_node *n;

	while ((n = list_first(&s->warm)))
		warm_close(container_of(n, struct warm, node));
	ev_timer_stop(s->p->rw->w.loop, &s->tick);
	list_remove(&s->p->stores, &s->node);
	upstream_put(s->up);
	free(s);
}

static bool in_pool(const struct pool *pool, const struct upstream *up)
{
	for (unsigned i = 0; pool && i < pool->n; i++)
		if (pool->v[i] == up)
			return true;
	return false;
}

/* ---- the other workers ---- */

/* One of them had a flow for this upstream. */
struct expect {
	struct job job;
	struct upstream *up; /* a reference */
};

static void expect_run(struct job *job, struct worker *w)
{
	struct expect *e = container_of(job, struct expect, job);
	struct redir_worker *rw = redir_worker_of(w);
	struct store *s = in_pool(rw->pool, e->up) ? store_get(&rw->prewarm, e->up) : NULL;

	if (s) {
		demand_expect(&s->demand);
		start_ticking(s);
		fill(s);
	}
	upstream_put(e->up);
	free(e);
}

static void tell_others(struct store *s)
{
	struct redir *rd = s->p->rw->redir;

	if (now_of(s) - s->told_s < TELL_S)
		return;
	s->told_s = now_of(s);
	for (unsigned i = 0; i < rd->n_workers; i++) {
		struct expect *e;

		if (&rd->workers[i] == s->p->rw || !(e = calloc(1, sizeof(*e))))
			continue;
		e->up = upstream_get(s->up);
		e->job.run = expect_run;
		worker_post(&rd->workers[i].w, &e->job);
	}
}

/* ---- for others ---- */

void prewarm_init(struct prewarm *p, struct redir_worker *rw)
{
	p->rw = rw;
	p->stopped = false;
	list_init(&p->stores);
	ev_io_init(&p->paths, paths_cb, -1, EV_READ);
}

void prewarm_follow_pool(struct prewarm *p)
{
	const struct pool *pool = p->rw->pool;
	struct list_node *n, *tmp;

	list_for_each_safe (&p->stores, n, tmp) {
		struct store *s = container_of(n, struct store, node);

		if (!in_pool(pool, s->up) || s->up->prewarm != s->wanted)
			store_free(s);
	}
	for (unsigned i = 0; i < pool->n; i++) {
		struct store *s = pool->v[i]->prewarm > 0 ? store_get(p, pool->v[i]) : NULL;

		if (s)
			start_ticking(s);
	}
}

void prewarm_stop(struct prewarm *p)
{
	struct list_node *n;

	p->stopped = true;
	while ((n = list_first(&p->stores)))
		store_free(container_of(n, struct store, node));
	forget_paths(p);
}

bool prewarm_is_better(const struct upstream *up, const struct upstream_grant *g, size_t len)
{
	bool as_good = !up->mptcp && g->tfo && g->tfo_works && g->has_token && len <= SYN_FITS;

	return up->prewarm != 0 && !as_good;
}

static int hand_out(struct warm *w, const struct sock_info *info, struct loopguard_entry *guard,
		    struct prewarmed *out)
{
	struct store *s = w->store;
	int fd = w->fd;

	if (w->joining)
		sock_keepalive_idle(fd, 0);
	if (info->mptcp)
		sock_window_after_pause(fd);
	loopguard_add(s->p->rw->redir->loopguard, guard, &w->dial.local, &w->addr);
	warm_release(w);
	out->io = w->io;
	out->subflows = info->subflows;
	free(w);
	s->p->rw->counters.prewarm_used++;
	upstream_warm_count(s->up, 0, 1, 0);
	all_is_well(s);
	return fd;
}

int prewarm_take(struct prewarm *p, struct upstream *up, const struct addr *addr,
		 struct loopguard_entry *guard, struct prewarmed *out)
{
	struct store *s = store_get(p, up);
	struct list_node *n, *tmp;
	struct sock_info info;
	int fd = -1;

	if (!s)
		return -1;
	check_restart(s);
	list_for_each_safe (&s->warm, n, tmp) {
		struct warm *w = container_of(n, struct warm, node);

		if (w->state != WARM_READY || age_of(w) >= s->life_s || !addr_equal(&w->addr, addr))
			continue;
		if (!is_alive(w, &info)) {
			found_dead(s);
			warm_close(w);
			continue;
		}
		fd = hand_out(w, &info, guard, out);
		break;
	}
	demand_add(&s->demand, part_of(s, AUTO_MAX));
	start_ticking(s);
	fill(s);
	tell_others(s);
	return fd;
}

void prewarm_was_dead(struct prewarm *p, struct upstream *up)
{
	struct store *s = store_find(p, up);

	p->rw->counters.prewarm_dead++;
	upstream_warm_count(up, 0, 0, 1);
	if (!s)
		return;
	empty(s);
	pause_after_failure(s);
}

size_t prewarm_ready(const struct prewarm *p)
{
	struct list_node *n, *m;
	size_t ready = 0;

	for (n = list_first(&p->stores); n; n = list_next(&p->stores, n)) {
		const struct store *s = container_of(n, struct store, node);
		for (m = list_first(&s->warm); m; m = list_next(&s->warm, m))
			ready += container_of(m, struct warm, node)->state == WARM_READY;
	}
	return ready;
}
