/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Worth running with -fsanitize=thread as well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <signal.h>

#include "leap.h"
#include "rig.h"

#define SENDERS 4
#define JOBS    2000

struct numbered {
	struct job job;
	unsigned sender, number;
	struct tally *tally;
};

struct tally { /* touched by the worker only, read after it was stopped */
	unsigned next[SENDERS], total, out_of_order;
	bool wrong_worker;
	struct worker *expected;
};

static void count_job(struct job *job, struct worker *w)
{
	struct numbered *n = container_of(job, struct numbered, job);
	struct tally *t = n->tally;

	if (n->number != t->next[n->sender])
		t->out_of_order++;
	t->next[n->sender] = n->number + 1;
	t->total++;
	if (w != t->expected || !pthread_equal(w->thread, pthread_self()))
		t->wrong_worker = true;
	free(n);
}

struct sender {
	pthread_t thread;
	unsigned index;
	struct worker *w;
	struct tally *tally;
};

static void *send_jobs(void *arg)
{
	struct sender *s = arg;

	for (unsigned i = 0; i < JOBS; i++) {
		struct numbered *n = calloc(1, sizeof(*n));
		if (!n)
			abort();
		n->job.run = count_job;
		n->sender = s->index;
		n->number = i;
		n->tally = s->tally;
		worker_post(s->w, &n->job);
	}
	return NULL;
}

/* Jobs of several threads: each runs once, on the worker, in the order of its sender; none
 * is lost when the worker is stopped. */
static void mail_in_order(void **state)
{
	struct worker w;
	struct tally tally = {.expected = &w};
	struct sender senders[SENDERS];

	(void)state;
	assert_int_equal(worker_init(&w, 0, NULL), 0);
	assert_int_equal(worker_start(&w), 0);
	for (unsigned i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){.index = i, .w = &w, .tally = &tally};
		assert_int_equal(pthread_create(&senders[i].thread, NULL, send_jobs, &senders[i]),
				 0);
	}
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(senders[i].thread, NULL);
	worker_stop(&w);
	assert_int_equal(tally.total, SENDERS * JOBS);
	assert_int_equal(tally.out_of_order, 0);
	assert_false(tally.wrong_worker);
	worker_stop(&w); /* harmless */
	worker_fini(&w);
}

/* ---- jobs left when the worker stops ---- */

struct note {
	struct job job;
	unsigned *count;
};

static void note_job(struct job *job, struct worker *w)
{
	(void)w;
	++*container_of(job, struct note, job)->count;
}

static void left_in_mailbox(void **state)
{
	struct worker w;
	unsigned count = 0;
	struct note notes[3];

	(void)state;
	assert_int_equal(worker_init(&w, 0, NULL), 0);
	/* not started: nothing is run, and stop does nothing */
	worker_stop(&w);
	for (int i = 0; i < 3; i++) {
		notes[i] = (struct note){.job.run = note_job, .count = &count};
		worker_post(&w, &notes[i].job);
	}
	assert_int_equal(worker_start(&w), 0);
	worker_stop(&w);
	assert_int_equal(count, 3);
	worker_fini(&w);
}

/* A job that posts itself again while the worker is being stopped. */
#define ENCORES 4

struct encore {
	struct job job;
	unsigned runs;
};

static void encore_job(struct job *job, struct worker *w)
{
	struct encore *e = container_of(job, struct encore, job);
	bool stopping = e->runs > 0;

	while (!stopping) { /* until worker_stop has posted */
		pthread_mutex_lock(&w->lock);
		stopping = !list_empty(&w->mail);
		pthread_mutex_unlock(&w->lock);
	}
	if (++e->runs < ENCORES)
		worker_post(w, job);
}

static void posted_while_stopping(void **state)
{
	struct worker w;
	struct encore e = {.job.run = encore_job};

	(void)state;
	assert_int_equal(worker_init(&w, 0, NULL), 0);
	worker_post(&w, &e.job);
	assert_int_equal(worker_start(&w), 0);
	worker_stop(&w);
	assert_int_equal(e.runs, ENCORES);
	worker_fini(&w);
}

/* ---- a job that posts itself does not starve the loop ---- */

struct again {
	struct job job;
	struct worker *w;
	unsigned runs;
	bool timer_ran;
	ev_timer timer;
};

static void again_job(struct job *job, struct worker *w)
{
	struct again *a = container_of(job, struct again, job);

	a->runs++;
	if (!a->timer_ran && a->runs < 10000000)
		worker_post(w, job);
}

static void again_timer_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	container_of(t, struct again, timer)->timer_ran = true;
}

static void no_starving(void **state)
{
	struct worker w;
	struct again a = {.job.run = again_job};

	(void)state;
	assert_int_equal(worker_init(&w, UINT_MAX, NULL), 0);
	ev_timer_init(&a.timer, again_timer_cb, 0.02, 0.);
	ev_timer_start(w.loop, &a.timer);
	worker_post(&w, &a.job);
	assert_true(rig_until(&w, rig_flag, &a.timer_ran));
	ev_run(w.loop, EVRUN_NOWAIT);
	assert_true(a.runs > 1 && a.runs < 10000000);
	worker_fini(&w);
}

/* ---- signals ---- */

struct mask {
	struct job job;
	sigset_t set;
};

static void mask_job(struct job *job, struct worker *w)
{
	(void)w;
	pthread_sigmask(SIG_SETMASK, NULL, &container_of(job, struct mask, job)->set);
}

static void signals_blocked(void **state)
{
	static const int some[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGPIPE, SIGCHLD};
	struct mask m = {.job.run = mask_job};
	struct worker w;
	sigset_t ours;

	(void)state;
	assert_int_equal(worker_init(&w, 0, NULL), 0);
	assert_int_equal(worker_start(&w), 0);
	worker_post(&w, &m.job);
	worker_stop(&w);
	worker_fini(&w);
	pthread_sigmask(SIG_SETMASK, NULL, &ours);
	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
		assert_true(sigismember(&m.set, some[i]));
		assert_false(sigismember(&ours, some[i]));
	}
}

/* ---- the dead ---- */

struct body {
	struct corpse corpse;
	struct worker *w;
	ev_timer first, second;
	unsigned events;     /* in the turn of the death, before and after it */
	unsigned *seen;      /* events when it was buried */
	struct body *nested; /* buried by the burial */
};

static void bury_body(struct corpse *c)
{
	struct body *b = container_of(c, struct body, corpse);

	*b->seen = b->events;
	if (b->nested)
		worker_bury(b->w, &b->nested->corpse);
	free(b);
}

static void second_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	container_of(t, struct body, second)->events++; /* touches what has died */
}

static void first_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct body *b = container_of(t, struct body, first);

	(void)loop;
	(void)events;
	b->events++;
	worker_bury(b->w, &b->corpse);
	b->events++;
	ev_feed_event(b->w->loop, &b->second, EV_CUSTOM); /* an event that is already queued */
}

static struct body *new_body(struct worker *w, unsigned *seen)
{
	struct body *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	b->corpse.bury = bury_body;
	b->w = w;
	b->seen = seen;
	ev_timer_init(&b->first, first_cb, 0., 0.);
	ev_init(&b->second, second_cb);
	return b;
}

static bool both_seen(void *arg)
{
	const unsigned *seen = arg;

	return seen[0] && seen[1] != UINT_MAX;
}

static void burials(void **state)
{
	struct worker w;
	unsigned seen[2] = {0, UINT_MAX};
	struct body *b;

	(void)state;
	assert_int_equal(worker_init(&w, UINT_MAX, NULL), 0);
	b = new_body(&w, &seen[0]);
	b->nested = new_body(&w, &seen[1]);
	ev_timer_start(w.loop, &b->first);
	assert_true(rig_until(&w, both_seen, seen));
	assert_int_equal(seen[0], 3); /* after all events of its turn */
	assert_int_equal(seen[1], 0);
	worker_bury(&w, &new_body(&w, &seen[1])->corpse);
	worker_fini(&w); /* nobody is left behind */
}

/* ---- gather ---- */

#define WORKERS 3

struct tour {
	unsigned visited[WORKERS * 2], n;
	bool bad_thread, done;
	struct worker *main_worker;
};

static void visit(struct worker *w, void *ctx)
{
	struct tour *t = ctx;

	if (!pthread_equal(w->thread, pthread_self()))
		t->bad_thread = true;
	t->visited[t->n++] = w->index;
}

static void tour_done(void *ctx)
{
	((struct tour *)ctx)->done = true;
}

static void gather(void **state)
{
	struct worker main_worker, w[WORKERS], *list[WORKERS];
	struct tour one = {.n = 0}, two = {.n = 0}, none = {.n = 0};

	(void)state;
	assert_int_equal(worker_init(&main_worker, UINT_MAX, NULL), 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		list[i] = &w[i];
		assert_int_equal(worker_init(&w[i], i, NULL), 0);
		assert_int_equal(worker_start(&w[i]), 0);
	}
	assert_int_equal(worker_gather(&main_worker, list, WORKERS, visit, tour_done, &one), 0);
	assert_int_equal(worker_gather(&main_worker, list, WORKERS, visit, tour_done, &two), 0);
	assert_int_equal(worker_gather(&main_worker, list, 0, visit, tour_done, &none), 0);
	assert_false(one.done); /* the caller returned at once, done runs on the loop */
	assert_true(rig_until(&main_worker, rig_flag, &two.done));
	assert_true(one.done); /* in order */
	assert_true(none.done);
	assert_int_equal(none.n, 0);
	assert_int_equal(one.n, WORKERS);
	for (unsigned i = 0; i < WORKERS; i++) {
		assert_int_equal(one.visited[i], i);
		assert_int_equal(two.visited[i], i);
	}
	assert_false(one.bad_thread || two.bad_thread);
	for (unsigned i = 0; i < WORKERS; i++) {
		worker_stop(&w[i]);
		worker_fini(&w[i]);
	}
	worker_fini(&main_worker);
}

/* Walks that nobody waits for any more: all come to their end, whoever has them just now. */
static void gather_while_stopping(void **state)
{
	struct worker main_worker, w[WORKERS], *list[WORKERS];
	struct tour tours[8];

	(void)state;
	assert_int_equal(worker_init(&main_worker, UINT_MAX, NULL), 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		list[i] = &w[i];
		assert_int_equal(worker_init(&w[i], i, NULL), 0);
	}
	assert_int_equal(workers_start(list, WORKERS), 0);
	for (unsigned i = 0; i < 8; i++) {
		tours[i] = (struct tour){.n = 0};
		assert_int_equal(
			worker_gather(&main_worker, list, WORKERS, visit, tour_done, &tours[i]), 0);
	}
	workers_stop(&main_worker, list, WORKERS);
	for (unsigned i = 0; i < 8; i++) {
		assert_true(tours[i].done);
		assert_int_equal(tours[i].n, WORKERS);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		worker_fini(&w[i]);
	worker_fini(&main_worker);
}

/* ---- time ---- */

struct clock_look {
	struct worker w;
	ev_timer timer;
	double due_s;
	bool looked;
};

static void look_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct clock_look *l = container_of(t, struct clock_look, timer);

	(void)loop;
	(void)events;
	/* taken in this turn, after the loop had slept */
	assert_true(worker_now(&l->w) >= l->due_s - 0.001 && worker_now(&l->w) <= rig_now());
	l->looked = true;
}

static void look(struct clock_look *l)
{
	l->looked = false;
	l->due_s = rig_now() + 0.05;
	ev_now_update(l->w.loop);
	ev_timer_set(&l->timer, 0.05, 0.);
	ev_timer_start(l->w.loop, &l->timer);
	while (!l->looked)
		ev_run(l->w.loop, EVRUN_ONCE);
}

static void clock_leaps(void **state)
{
	struct clock_look l;
	ev_tstamp wall;
	double before;

	(void)state;
	before = rig_now();
	assert_int_equal(worker_init(&l.w, 0, NULL), 0);
	assert_true(worker_now(&l.w) >= before && worker_now(&l.w) <= rig_now());
	ev_init(&l.timer, look_cb);
	ev_set_priority(&l.timer, EV_MAXPRI - 1);
	look(&l);
	wall = ev_now(l.w.loop);
	clock_asked = false;
	ev_time();
	clock_leap_s = 20 * 365 * 86400;
	for (int i = 0; i < 12; i++) /* libev looks at the wall twice a second */
		look(&l);
	if (clock_asked)
		assert_true(ev_now(l.w.loop) > wall + 1e6);
	clock_leap_s = 0;
	for (int i = 0; i < 12; i++)
		look(&l);
	worker_fini(&l.w);
	if (!clock_asked)
		skip(); /* this libev asks the kernel directly */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mail_in_order),
		cmocka_unit_test(left_in_mailbox),
		cmocka_unit_test(posted_while_stopping),
		cmocka_unit_test(no_starving),
		cmocka_unit_test(signals_blocked),
		cmocka_unit_test(burials),
		cmocka_unit_test(gather),
		cmocka_unit_test(gather_while_stopping),
		cmocka_unit_test(clock_leaps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
