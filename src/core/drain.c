/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/drain.h"

#include "core/list.h"
#include "core/log.h"
#include "core/worker.h"

#define LOOK_S 0.1

static void finish(struct drain *d)
{
	drain_end(d);
	d->done(d->ctx);
}

static void visit_end(struct worker *w, void *ctx)
{
	const struct drain *d = ctx;

	d->end_all(w);
}

static void all_ended(void *ctx)
{
	finish(ctx);
}

void drain_cut(struct drain *d)
{
	if (!d->runs || d->cut)
		return;
	d->cut = true;
	if (worker_gather(d->main_worker, d->workers, d->n, visit_end, all_ended, d) < 0)
		finish(d);
}

static void visit_count(struct worker *w, void *ctx)
{
	struct drain *d = ctx;

	d->sum += d->live(w);
}

static void counted(void *ctx)
{
	struct drain *d = ctx;

	d->looking = false;
	d->left = d->sum;
	if (d->runs && !d->cut && d->left == 0)
		finish(d);
}

static void look_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct drain *d = container_of(t, struct drain, look);

	(void)loop;
	(void)events;
	if (d->looking || d->cut)
		return;
	d->sum = 0;
	d->looking = worker_gather(d->main_worker, d->workers, d->n, visit_count, counted, d) == 0;
}

static void deadline_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct drain *d = container_of(t, struct drain, deadline);

	(void)loop;
	(void)events;
	if (d->left > 0 && !d->cut)
		log_notice("%zu connections have not ended in time; ending them", d->left);
	drain_cut(d);
}

void drain_start(struct drain *d, double limit_s)
{
	struct ev_loop *loop = d->main_worker->loop;

	if (d->runs)
		return;
	d->runs = true;
	ev_timer_init(&d->look, look_cb, 0., LOOK_S);
	ev_timer_init(&d->deadline, deadline_cb, limit_s, 0.);
	ev_now_update(loop); /* the deadline counts from now */
	ev_timer_start(loop, &d->look);
	ev_timer_start(loop, &d->deadline);
	if (limit_s <= 0)
		drain_cut(d);
}

void drain_end(struct drain *d)
{
	if (!d->runs)
		return;
	ev_timer_stop(d->main_worker->loop, &d->look);
	ev_timer_stop(d->main_worker->loop, &d->deadline);
	d->runs = false;
}
