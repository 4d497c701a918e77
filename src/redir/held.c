/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/held.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "redir/nfqueue.h"
#include "redir/rules.h"
#include "redir/synpkt.h"

#define BUCKETS     1024                     /* a power of 2 */
#define RANGE       (SYNPKT_HEAD_MAX + 1460) /* headers and what a SYN can carry */
#define WAITING_MAX (4 * HELD_MAX)           /* in the kernel */

struct held {
	struct worker *const *workers;
	unsigned n_workers, turn;
	held_start_fn *start;
	struct job job; /* opens the queue */
	atomic_bool wanted, open;
	atomic_uint now;       /* changed under the lock */
	bool stopped;          /* worker 0's */
	struct nfqueue *queue; /* worker 0's; verdicts are anybody's */

	pthread_mutex_t lock;
	struct held_syn *buckets[BUCKETS];
	struct held_counts counts; /* but for open and now */
};

/* ---- the table ---- */

/* As it stands in a packet. */
static struct addr plain(const struct addr *a)
{
	struct addr p = *a;

	if (addr_family(&p) == AF_INET6)
		p.u.in6.sin6_scope_id = 0;
	return p;
}

static struct held_syn **bucket_of(struct held *h, const struct addr *src, const struct addr *dst)
{
	return &h->buckets[addr_hash(src, addr_hash(dst, 0)) & (BUCKETS - 1)];
}

static struct held_syn *find(struct held *h, const struct addr *src, const struct addr *dst)
{
	struct held_syn *s = *bucket_of(h, src, dst);

	while (s && !(addr_equal(&s->src, src) && addr_equal(&s->dst, dst)))
		s = s->next;
	return s;
}

static void unlist(struct held *h, struct held_syn *s)
{
	struct held_syn **p = bucket_of(h, &s->src, &s->dst);

	pthread_mutex_lock(&h->lock);
	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	atomic_fetch_sub(&h->now, 1);
	pthread_mutex_unlock(&h->lock);
}

bool held_any(struct held *h)
{
	return atomic_load(&h->now) > 0;
}

struct worker *held_owner(struct held *h, const struct addr *src, const struct addr *dst)
{
	struct addr from = plain(src), to = plain(dst);
	struct held_syn *s;
	struct worker *w;

	pthread_mutex_lock(&h->lock);
	s = find(h, &from, &to);
	w = s ? s->w : NULL;
	pthread_mutex_unlock(&h->lock);
	return w;
}

void *held_flow(struct held *h, const struct worker *w, const struct addr *src,
		const struct addr *dst)
{
	struct addr from = plain(src), to = plain(dst);
	struct held_syn *s;
	void *flow;

	pthread_mutex_lock(&h->lock);
	s = find(h, &from, &to);
	flow = s && s->w == w ? s->flow : NULL;
	pthread_mutex_unlock(&h->lock);
	return flow;
}

/* ---- answers ---- */

static void verdict(struct held *h, uint32_t id, uint32_t mark, enum held_answer a)
{
	if (a == HELD_GO_ON)
		nfqueue_accept(h->queue, id, mark);
	else if (a == HELD_SILENCE)
		nfqueue_drop(h->queue, id);
	else
		nfqueue_accept(h->queue, id, RULES_REFUSED(a));
}

/* A SYN sent again waits in the place of the one before; if that has been answered, it hears the
 * same, for the kernel forgets all that waits when anybody's hook is taken away, and then the first
 * one has got no further. */
static void repeated(struct held *h, struct held_syn *known, const struct held_syn *s)
{
	h->counts.repeated++;
	if (known->answer != HELD_NONE) {
		verdict(h, s->id, s->mark, known->answer);
		return;
	}
	nfqueue_drop(h->queue, known->id);
	known->id = s->id;
	known->mark = s->mark;
}

void held_answer(struct held_syn *s, enum held_answer a)
{
	struct held *h = s->held;

	pthread_mutex_lock(&h->lock);
	if (s->answer == HELD_NONE) {
		s->answer = a;
		h->counts.refused += a != HELD_GO_ON;
		verdict(h, s->id, s->mark, a);
	}
	pthread_mutex_unlock(&h->lock);
}

void held_syn_free(struct held_syn *s)
{
	if (!s)
		return;
	/* Off the list first: when the SYN has gone on, its connection is not to be found here. */
	unlist(s->held, s);
	held_answer(s, HELD_GO_ON);
	free(s);
}

/* ---- SYNs ---- */

enum listed { LISTED, REPEATED, TOO_MANY };

static enum listed enlist(struct held *h, struct held_syn *s)
{
	struct held_syn **p = bucket_of(h, &s->src, &s->dst), *known;
	enum listed rc = LISTED;

	pthread_mutex_lock(&h->lock);
	known = find(h, &s->src, &s->dst);
	if (known) {
		repeated(h, known, s);
		rc = REPEATED;
	} else if (atomic_load(&h->now) >= HELD_MAX) {
		h->counts.overflowed++;
		rc = TOO_MANY;
	} else {
		s->next = *p;
		*p = s;
		atomic_fetch_add(&h->now, 1);
		h->counts.total++;
	}
	pthread_mutex_unlock(&h->lock);
	return rc;
}

static void start_job(struct job *job, struct worker *w)
{
	struct held_syn *s = container_of(job, struct held_syn, job);

	s->held->start(w, s);
}

static struct held_syn *syn_new(struct held *h, const struct nfqueue_packet *p,
				const struct synpkt *syn)
{
	struct held_syn *s = calloc(1, sizeof(*s) + syn->data_len);
	uint8_t *data = (uint8_t *)(s + 1);

	if (!s)
		return NULL;
	if (syn->data_len)
		memcpy(data, syn->data, syn->data_len);
	s->src = syn->src;
	s->dst = syn->dst;
	s->data = data;
	s->data_len = syn->data_len;
	s->dscp = syn->dscp;
	s->held = h;
	s->id = p->id;
	s->mark = p->mark;
	s->answer = HELD_NONE;
	s->job.run = start_job;
	return s;
}

static void saw_packet(void *ctx, const struct nfqueue_packet *p)
{
	struct held *h = ctx;
	struct held_syn *s = NULL;
	struct synpkt syn;
	enum listed rc = TOO_MANY;

	if (!h->stopped && synpkt_parse(&syn, p->data, p->len) == SYNPKT_OK && !syn.ack)
		s = syn_new(h, p, &syn);
	if (s) {
		s->w = h->workers[h->turn % h->n_workers];
		rc = enlist(h, s);
	}
	if (rc == LISTED) {
		h->turn++;
		worker_post(s->w, &s->job);
		return;
	}
	free(s);
	if (rc == TOO_MANY)
		nfqueue_accept(h->queue, p->id, p->mark);
}

/* ---- the queue ---- */

static void open_queue(struct job *job, struct worker *w)
{
	static const struct nfqueue_conf conf = {
		.number = HELD_QUEUE, .range = RANGE, .max = WAITING_MAX, .fail_open = true};
	struct held *h = container_of(job, struct held, job);
	int rc = nfqueue_open(&h->queue, w, &conf, saw_packet, h);

	if (rc == 0) {
		atomic_store(&h->open, true);
		return;
	}
	log_warning("verify: connections are accepted before the server has been asked: %s",
		    nfqueue_trouble(rc));
	atomic_store(&h->wanted, false);
}

void held_want(struct held *h)
{
	if (atomic_exchange(&h->wanted, true))
		return;
	h->job.run = open_queue;
	worker_post(h->workers[0], &h->job);
}

void held_stop(struct held *h)
{
	h->stopped = true;
}

struct held *held_new(struct worker *const *workers, unsigned n, held_start_fn *start)
{
	struct held *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->workers = workers;
	h->n_workers = n;
	h->start = start;
	pthread_mutex_init(&h->lock, NULL);
	return h;
}

void held_free(struct held *h)
{
	if (!h)
		return;
	nfqueue_close(h->queue);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

void held_count(struct held *h, struct held_counts *out)
{
	pthread_mutex_lock(&h->lock);
	*out = h->counts;
	pthread_mutex_unlock(&h->lock);
	out->open = atomic_load(&h->open);
	out->now = atomic_load(&h->now);
}
