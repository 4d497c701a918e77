/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/listenport.h"

#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/report.h"
#include "core/sock.h"
#include "proxy/proxy.h"

#define QUEUE_S          30.0 /* a peer that nobody picks up has this long */
#define TICK_S           1.0
#define ACCEPTS_PER_TURN 64
#define FASTOPEN_QUEUE   64

struct listenports {
	pthread_mutex_t lock;
	struct list ports;
};

struct waiting_peer {
	struct list_node node;
	struct bind_peer peer;
	double since_s; /* worker_now */
};

/* What other workers ask its own one for. */
struct asked {
	bool posted;
	bool lose, resume;
};

struct listenport {
	struct list_node node; /* in listenports.ports */
	struct corpse corpse;
	struct listenports *t;
	struct proxy_worker *pw;
	const struct listenport_ops *ops;
	void *owner;
	/* immutable */
	char user[ISSUED_USER_MAX];
	uint8_t session[ISSUED_ID_LEN];
	struct addr addr;
	unsigned backlog;
	bool mptcp;
	double opened_s;
	/* its worker's */
	int fd;
	bool full; /* as many wait as may: the kernel keeps the others */
	ev_io io;
	ev_timer tick;
	/* under the lock */
	struct list waiting; /* peers that nobody has asked for */
	struct list pickups; /* requests that wait for a peer; with them there are no such peers */
	struct job mail;
	struct asked asked;
	bool closed; /* the mail that is under way frees it */
	uint64_t served;
};

struct pickup {
	struct list_node node; /* in listenport.pickups */
	struct job job;        /* tells its worker what has come */
	struct listenports *t;
	struct listenport *lp; /* while it is in its list */
	struct proxy_worker *pw;
	pickup_done_fn *done;
	void *owner; /* NULL: it does not wait any more */
	struct bind_peer peer;
	struct addr addr; /* of the port, */
	uint8_t session[ISSUED_ID_LEN];
};

struct listenports *listenports_new(void)
{
	struct listenports *t = calloc(1, sizeof(*t));

	if (t) {
		pthread_mutex_init(&t->lock, NULL);
		list_init(&t->ports);
	}
	return t;
}

void listenports_free(struct listenports *t)
{
	if (!t)
		return;
	pthread_mutex_destroy(&t->lock);
	free(t);
}

size_t listenports_count(struct listenports *t)
{
	size_t n;

	pthread_mutex_lock(&t->lock);
	n = t->ports.count;
	pthread_mutex_unlock(&t->lock);
	return n;
}

void listenports_report(struct listenports *t, double now_s, struct report *r)
{
	struct list_node *n;
	char text[ADDR_STRLEN];

	report_list(r, "binds");
	pthread_mutex_lock(&t->lock);
	for (n = list_first(&t->ports); n; n = list_next(&t->ports, n)) {
		const struct listenport *lp = container_of(n, struct listenport, node);

		report_row(r);
		report_str(r, "address", addr_str(&lp->addr, text, sizeof(text)));
		report_str(r, "user", lp->user[0] ? lp->user : NULL);
		report_u64(r, "backlog", lp->backlog);
		report_u64(r, "peers_waiting", lp->waiting.count);
		report_u64(r, "requests_waiting", lp->pickups.count);
		report_u64(r, "served", lp->served);
		report_bool(r, "mptcp", lp->mptcp);
		report_seconds(r, "age", now_s - lp->opened_s);
	}
	pthread_mutex_unlock(&t->lock);
	report_end(r);
}

/* ---- mail to the port's worker ---- */

static void stop_accepting(struct listenport *lp)
{
	ev_io_stop(lp->pw->w.loop, &lp->io);
	ev_timer_stop(lp->pw->w.loop, &lp->tick);
	if (lp->fd >= 0)
		close(lp->fd);
	lp->fd = -1;
}

static void mail_run(struct job *job, struct worker *w)
{
	struct listenport *lp = container_of(job, struct listenport, mail);
	struct asked asked;
	bool closed;

	(void)w;
	pthread_mutex_lock(&lp->t->lock);
	asked = lp->asked;
	lp->asked = (struct asked){0};
	closed = lp->closed;
	pthread_mutex_unlock(&lp->t->lock);
	if (closed) {
		free(lp);
	} else if (asked.lose) {
		const struct listenport_ops *ops = lp->ops;
		void *owner = lp->owner;

		listenport_close(lp);
		ops->lost(owner);
	} else if (asked.resume && lp->fd >= 0) {
		lp->full = false;
		ev_io_start(lp->pw->w.loop, &lp->io);
	}
}

/* The lock is held. */
static void post(struct listenport *lp, bool lose)
{
	lp->asked.lose |= lose;
	lp->asked.resume |= !lose;
	if (lp->asked.posted)
		return;
	lp->asked.posted = true;
	worker_post(&lp->pw->w, &lp->mail);
}

/* ---- peers and those who want them ---- */

/* A peer for this request, or none any more (fd -1). The lock is held. */
static void tell(struct pickup *p, const struct bind_peer *peer)
{
	p->peer = peer ? *peer : (struct bind_peer){.fd = -1};
	worker_post(&p->pw->w, &p->job);
}

/* False: it may not wait. The lock is held. */
static bool queue_peer(struct listenport *lp, const struct bind_peer *peer, double now_s,
		       struct worker *w)
{
	struct waiting_peer *wp = calloc(1, sizeof(*wp));

	if (!wp || !budget_take(&lp->pw->proxy->budget, w)) {
		free(wp);
		return false;
	}
	wp->peer = *peer;
	wp->since_s = now_s;
	list_push(&lp->waiting, &wp->node);
	return true;
}

static struct bind_peer unqueue(struct listenport *lp)
{
	struct waiting_peer *wp = container_of(list_pop(&lp->waiting), struct waiting_peer, node);
	struct bind_peer peer = wp->peer;

	budget_give(&lp->pw->proxy->budget);
	free(wp);
	return peer;
}

static void take_peer(struct listenport *lp, const struct bind_peer *peer)
{
	struct list_node *n;
	bool notice = false, kept = true, waits;
	struct bind_peer told = {.fd = -1, .addr = peer->addr};

	pthread_mutex_lock(&lp->t->lock);
	n = list_pop(&lp->pickups);
	if (n) {
		lp->served++;
		tell(container_of(n, struct pickup, node), peer);
	} else {
		kept = notice = queue_peer(lp, peer, worker_now(&lp->pw->w), &lp->pw->w);
		lp->full = lp->waiting.count >= lp->backlog;
	}
	waits = lp->waiting.count > 0;
	pthread_mutex_unlock(&lp->t->lock);
	if (!kept)
		sock_reset(peer->fd);
	if (lp->full)
		ev_io_stop(lp->pw->w.loop, &lp->io);
	if (waits && !ev_is_active(&lp->tick))
		ev_timer_again(lp->pw->w.loop, &lp->tick);
	if (notice)
		lp->ops->peer(lp->owner, &told); /* may close the port */
}

/* Without a backlog. */
static void only_peer(struct listenport *lp, const struct bind_peer *peer)
{
	const struct listenport_ops *ops = lp->ops;
	void *owner = lp->owner;

	listenport_close(lp);
	ops->peer(owner, peer);
}

/* False when there is no more, or the port has gone. */
static bool accept_one(struct listenport *lp)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct bind_peer peer = {
		.fd = accept4(lp->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC)};

	if (peer.fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			ev_io_stop(lp->pw->w.loop, &lp->io); /* until the next tick */
			ev_timer_again(lp->pw->w.loop, &lp->tick);
		}
		return false;
	}
	if (!addr_from_sockaddr(&peer.addr, (const struct sockaddr *)&ss, len)) {
		close(peer.fd);
		return true;
	}
	if (lp->backlog == 0) {
		only_peer(lp, &peer);
		return false;
	}
	take_peer(lp, &peer);
	return true;
}

static void io_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct listenport *lp = container_of(io, struct listenport, io);

	(void)loop;
	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++)
		if (!accept_one(lp) || lp->full)
			return;
}

/* Peers that have waited for too long; and accepting that had to stop. */
static void tick_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct listenport *lp = container_of(t, struct listenport, tick);
	double now_s = worker_now(&lp->pw->w);
	struct list_node *n;

	(void)events;
	pthread_mutex_lock(&lp->t->lock);
	while ((n = list_first(&lp->waiting)) &&
	       now_s - container_of(n, struct waiting_peer, node)->since_s > QUEUE_S)
		sock_reset(unqueue(lp).fd);
	lp->full = lp->waiting.count >= lp->backlog && lp->backlog > 0;
	if (lp->waiting.count == 0)
		ev_timer_stop(loop, t);
	pthread_mutex_unlock(&lp->t->lock);
	if (!lp->full)
		ev_io_start(loop, &lp->io);
}

/* ---- opening and closing ---- */

/* Whether there is room for one more; who has this port already. The lock is held. */
static int look_around(struct listenports *t, const struct listenport_wish *wish)
{
	struct list_node *n;
	unsigned mine = 0;

	for (n = list_first(&t->ports); n; n = list_next(&t->ports, n)) {
		struct listenport *lp = container_of(n, struct listenport, node);

		if (strcmp(lp->user, wish->user) != 0)
			continue;
		mine++;
		if (addr_port(&lp->addr) == addr_port(&wish->addr) &&
		    (addr_equal_ip(&lp->addr, &wish->addr) || addr_is_any(&lp->addr) ||
		     addr_is_any(&wish->addr))) {
			if (wish->backlog > 0)
				post(lp, true);
			return -EADDRINUSE;
		}
	}
	return mine >= wish->max_per_user || t->ports.count >= wish->max ? -EDQUOT : 0;
}

static struct listenport *port_new(struct listenports *t, struct proxy_worker *pw,
				   const struct listenport_wish *wish)
{
	struct listenport *lp = calloc(1, sizeof(*lp));

	if (!lp)
		return NULL;
	lp->t = t;
	lp->pw = pw;
	snprintf(lp->user, sizeof(lp->user), "%s", wish->user);
	if (wish->session)
		memcpy(lp->session, wish->session, sizeof(lp->session));
	lp->backlog = wish->session ? wish->backlog : 0;
	lp->opened_s = worker_now(&pw->w);
	lp->mail.run = mail_run;
	list_init(&lp->waiting);
	list_init(&lp->pickups);
	return lp;
}

int listenport_open(struct listenports *t, struct proxy_worker *pw,
		    const struct listenport_wish *wish, const struct listenport_ops *ops,
		    void *owner, struct listenport **out)
{
	const struct sock_wishes wishes = {
		.mptcp = wish->mptcp,
		.fastopen = wish->fastopen ? FASTOPEN_QUEUE : 0,
		.tos = -1,
		.ttl = -1,
		.keepalive = true, /* inherited by accepted sockets */
	};
	struct listenport *lp = port_new(t, pw, wish);
	struct sock_granted granted;
	int rc = lp ? 0 : -ENOMEM;

	if (!lp)
		return rc;
	pthread_mutex_lock(&t->lock);
	rc = look_around(t, wish);
	if (rc == 0) {
		lp->fd = sock_listen(&wish->addr, &wishes, &granted);
		rc = lp->fd < 0 ? lp->fd : addr_of_socket(lp->fd, &lp->addr);
		if (rc < 0 && lp->fd >= 0)
			close(lp->fd);
	}
	if (rc == 0) {
		lp->mptcp = granted.mptcp;
		list_push(&t->ports, &lp->node);
	}
	pthread_mutex_unlock(&t->lock);
	if (rc < 0) {
		free(lp);
		return rc;
	}
	lp->ops = ops;
	lp->owner = owner;
	ev_io_init(&lp->io, io_cb, lp->fd, EV_READ);
	ev_init(&lp->tick, tick_cb);
	lp->tick.repeat = TICK_S;
	ev_io_start(pw->w.loop, &lp->io);
	*out = lp;
	return 0;
}

static void bury(struct corpse *c)
{
	free(container_of(c, struct listenport, corpse));
}

void listenport_close(struct listenport *lp)
{
	struct list_node *n;
	bool posted;

	stop_accepting(lp);
	pthread_mutex_lock(&lp->t->lock);
	list_remove(&lp->t->ports, &lp->node);
	while (list_first(&lp->waiting))
		sock_reset(unqueue(lp).fd);
	while ((n = list_pop(&lp->pickups)))
		tell(container_of(n, struct pickup, node), NULL);
	lp->closed = true;
	posted = lp->asked.posted;
	pthread_mutex_unlock(&lp->t->lock);
	if (posted)
		return;
	lp->corpse.bury = bury; /* it may be its own event that led here */
	worker_bury(&lp->pw->w, &lp->corpse);
}

void listenport_facts(const struct listenport *lp, struct listenport_facts *facts)
{
	*facts = (struct listenport_facts){
		.addr = lp->addr, .backlog = lp->backlog, .mptcp = lp->mptcp, .fd = lp->fd};
}

/* ---- picking up ---- */

/* The lock is held. */
static struct listenport *find(struct listenports *t, const struct addr *addr,
			       const uint8_t *session)
{
	struct list_node *n;

	for (n = list_first(&t->ports); n; n = list_next(&t->ports, n)) {
		struct listenport *lp = container_of(n, struct listenport, node);

		if (lp->backlog > 0 && memcmp(lp->session, session, sizeof(lp->session)) == 0 &&
		    addr_port(&lp->addr) == addr_port(addr) &&
		    (addr_equal_ip(&lp->addr, addr) || addr_is_any(addr)))
			return lp;
	}
	return NULL;
}

/* A peer whose request has gone meanwhile: for the next one. */
static void give_back(struct pickup *p)
{
	struct listenport *lp;
	struct list_node *n = NULL;
	bool kept = false;

	if (p->peer.fd < 0)
		return;
	pthread_mutex_lock(&p->t->lock);
	lp = find(p->t, &p->addr, p->session);
	if (lp) {
		n = list_pop(&lp->pickups);
		if (n)
			tell(container_of(n, struct pickup, node), &p->peer);
		else
			kept = queue_peer(lp, &p->peer, worker_now(&p->pw->w), &p->pw->w);
		if (kept)
			post(lp, false);
	}
	pthread_mutex_unlock(&p->t->lock);
	if (!n && !kept)
		sock_reset(p->peer.fd);
}

static void pickup_run(struct job *job, struct worker *w)
{
	struct pickup *p = container_of(job, struct pickup, job);

	(void)w;
	if (p->owner)
		p->done(p->owner, p->peer.fd >= 0 ? &p->peer : NULL);
	else
		give_back(p);
	free(p);
}

struct pickup *pickup_start(struct listenports *t, struct proxy_worker *pw, const struct addr *addr,
			    const uint8_t *session, pickup_done_fn *done, void *owner,
			    struct listenport_facts *facts)
{
	struct pickup *p = calloc(1, sizeof(*p));
	struct listenport *lp;

	if (!p)
		return NULL;
	p->job.run = pickup_run;
	p->t = t;
	p->pw = pw;
	p->done = done;
	p->owner = owner;
	memcpy(p->session, session, sizeof(p->session));
	pthread_mutex_lock(&t->lock);
	lp = find(t, addr, session);
	if (lp) {
		p->addr = lp->addr;
		*facts = (struct listenport_facts){
			.addr = lp->addr, .backlog = lp->backlog, .mptcp = lp->mptcp, .fd = -1};
		if (list_first(&lp->waiting)) {
			struct bind_peer peer = unqueue(lp);

			lp->served++;
			tell(p, &peer);
			post(lp, false);
		} else {
			p->lp = lp;
			list_push(&lp->pickups, &p->node);
		}
	}
	pthread_mutex_unlock(&t->lock);
	if (lp)
		return p;
	free(p);
	return NULL;
}

void pickup_cancel(struct pickup *p)
{
	bool waits;

	pthread_mutex_lock(&p->t->lock);
	waits = list_linked(&p->node);
	if (waits)
		list_remove(&p->lp->pickups, &p->node);
	pthread_mutex_unlock(&p->t->lock);
	if (waits)
		free(p);
	else
		p->owner = NULL; /* its mail is under way */
}
