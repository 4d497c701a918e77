/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/worker.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/relay.h"

#define POOL_KEEP 32 /* free buffers, until budget.c says */

/* Run what is in the mailbox now; jobs posted meanwhile wait for the next turn. */
static void read_mail(struct worker *w)
{
	size_t n;

	pthread_mutex_lock(&w->lock);
	n = w->mail.count;
	pthread_mutex_unlock(&w->lock);
	while (n-- > 0) {
		struct list_node *node;

		pthread_mutex_lock(&w->lock);
		node = list_pop(&w->mail);
		pthread_mutex_unlock(&w->lock);
		if (!node)
			return;
		struct job *job = container_of(node, struct job, node);
		job->run(job, w);
	}
}

static void wake_cb(struct ev_loop *loop, ev_async *a, int events)
{
	struct worker *w = container_of(a, struct worker, wake);
	bool more;

	(void)events;
	read_mail(w);
	pthread_mutex_lock(&w->lock);
	more = !list_empty(&w->mail);
	pthread_mutex_unlock(&w->lock);
	if (more)
		ev_async_send(loop, &w->wake);
}

static void bury_all(struct worker *w)
{
	struct list_node *node;

	while ((node = list_pop(&w->corpses))) {
		struct corpse *c = container_of(node, struct corpse, node);
		c->bury(c);
	}
}

/* Before the loop blocks again: all events of the turn have been handled. */
static void before_wait(struct ev_loop *loop)
{
	bury_all(ev_userdata(loop));
}

static void take_time(struct worker *w)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	w->now_s = (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* The loop has been woken; no event has been handled yet. */
static void after_wait(struct ev_loop *loop)
{
	take_time(ev_userdata(loop));
}

int worker_init(struct worker *w, unsigned index, void *owner)
{
	memset(w, 0, sizeof(*w));
	w->index = index;
	w->owner = owner;
	w->loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOSIGMASK);
	if (!w->loop)
		return -ENOMEM;
	bufpool_init(&w->pool, POOL_KEEP);
	pipepool_init(&w->pipes, PIPES_MAX);
	list_init(&w->corpses);
	list_init(&w->mail);
	pthread_mutex_init(&w->lock, NULL);
	ev_async_init(&w->wake, wake_cb);
	ev_async_start(w->loop, &w->wake);
	/* What it calls around its wait; cheaper than watchers that fire in each turn. */
	ev_set_userdata(w->loop, w);
	ev_set_loop_release_cb(w->loop, before_wait, after_wait);
	take_time(w);
	wheel_init(&w->relays, w, relay_due);
	return 0;
}

static void *thread_main(void *arg)
{
	struct worker *w = arg;

	ev_run(w->loop, 0);
	return NULL;
}

int worker_start(struct worker *w)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&w->thread, NULL, thread_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return -rc;
	w->started = true;
	return 0;
}

static void break_loop(struct job *job, struct worker *w)
{
	(void)job;
	ev_break(w->loop, EVBREAK_ALL);
}

/* The thread has ended, or there is none; nobody else posts. */
static void drain(struct worker *w)
{
	while (!list_empty(&w->mail))
		read_mail(w);
	bury_all(w);
}

void worker_stop(struct worker *w)
{
	struct job last = {.run = break_loop};

	if (!w->started)
		return;
	worker_post(w, &last);
	pthread_join(w->thread, NULL);
	w->started = false;
	drain(w);
}

int workers_start(struct worker *const *workers, unsigned n)
{
	int rc = 0;

	for (unsigned i = 0; i < n && rc == 0; i++)
		rc = worker_start(workers[i]);
	return rc;
}

void workers_stop(struct worker *main_worker, struct worker *const *workers, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		worker_stop(workers[i]);
	drain(main_worker);
}

void worker_fini(struct worker *w)
{
	bury_all(w);
	ev_async_stop(w->loop, &w->wake);
	wheel_fini(&w->relays);
	bufpool_fini(&w->pool);
	pipepool_fini(&w->pipes);
	ev_loop_destroy(w->loop);
	pthread_mutex_destroy(&w->lock);
}

void worker_post(struct worker *w, struct job *job)
{
	pthread_mutex_lock(&w->lock);
	list_push(&w->mail, &job->node);
	pthread_mutex_unlock(&w->lock);
	ev_async_send(w->loop, &w->wake);
}

void worker_bury(struct worker *w, struct corpse *c)
{
	list_push(&w->corpses, &c->node);
}

/* A walk over all workers; one job that is posted from one to the next. */
struct gather {
	struct job job;
	struct worker *main_worker;
	struct worker *const *workers;
	unsigned n, next;
	void (*visit)(struct worker *w, void *ctx);
	void (*done)(void *ctx);
	void *ctx;
};

static void gather_run(struct job *job, struct worker *w)
{
	struct gather *g = container_of(job, struct gather, job);

	if (w == g->main_worker) {
		g->done(g->ctx);
		free(g);
		return;
	}
	g->visit(w, g->ctx);
	g->next++;
	worker_post(g->next < g->n ? g->workers[g->next] : g->main_worker, job);
}

int worker_gather(struct worker *main_worker, struct worker *const *workers, unsigned n,
		  void (*visit)(struct worker *w, void *ctx), void (*done)(void *ctx), void *ctx)
{
	struct gather *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->job.run = gather_run;
	g->main_worker = main_worker;
	g->workers = workers;
	g->n = n;
	g->visit = visit;
	g->done = done;
	g->ctx = ctx;
	worker_post(n ? workers[0] : main_worker, &g->job);
	return 0;
}
