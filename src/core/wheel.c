/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/wheel.h"

#include <assert.h>

#include "core/worker.h"

#define LEAST_S 0.001 /* where loop and worker disagree on the time by a hair */

static struct list *slot_of(struct wheel *wh, uint64_t step)
{
	return &wh->slots[step % WHEEL_SLOTS];
}

static uint64_t step_at(double s)
{
	return (uint64_t)(s / WHEEL_STEP_S);
}

/* Wake up when the next slot with something in it is due. */
static void arm(struct wheel *wh)
{
	struct ev_loop *loop = wh->w->loop;
	uint64_t next = wh->step + 1;
	double s;

	ev_timer_stop(loop, &wh->timer);
	if (wh->count == 0)
		return;
	while (list_empty(slot_of(wh, next)))
		next++;
	s = (double)next * WHEEL_STEP_S - worker_now(wh->w);
	ev_timer_set(&wh->timer, s > LEAST_S ? s : LEAST_S, 0.);
	ev_timer_start(loop, &wh->timer);
}

static void timer_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct wheel *wh = container_of(t, struct wheel, timer);
	uint64_t now = step_at(worker_now(wh->w));

	(void)loop;
	(void)events;
	if (now > wh->step + WHEEL_SLOTS) /* we have slept: each slot once */
		wh->step = now - WHEEL_SLOTS;
	while (wh->step < now) {
		struct list *l = slot_of(wh, ++wh->step);

		/* not those that are put in again meanwhile */
		for (size_t n = l->count; n > 0 && !list_empty(l); n--) {
			wh->count--;
			wh->due(list_pop(l));
		}
	}
	arm(wh);
}

void wheel_init(struct wheel *wh, struct worker *w, wheel_due_fn *due)
{
	wh->w = w;
	wh->due = due;
	wh->count = 0;
	wh->step = 0;
	for (unsigned i = 0; i < WHEEL_SLOTS; i++)
		list_init(&wh->slots[i]);
	ev_init(&wh->timer, timer_cb);
}

void wheel_fini(struct wheel *wh)
{
	ev_timer_stop(wh->w->loop, &wh->timer);
}

uint8_t wheel_add(struct wheel *wh, struct list_node *n, double s)
{
	double now = worker_now(wh->w);
	uint64_t step = step_at(now + s) + 1;

	assert(s >= 0 && s <= WHEEL_MAX_S);
	/* So that its slot is none that has still to be looked at for an earlier step. */
	while (wh->step < step_at(now) && list_empty(slot_of(wh, wh->step + 1)))
		wh->step = wh->count > 0 ? wh->step + 1 : step_at(now);
	wh->count++;
	list_push(slot_of(wh, step), n);
	if (!ev_is_active(&wh->timer) ||
	    ev_timer_remaining(wh->w->loop, &wh->timer) > s + WHEEL_STEP_S)
		arm(wh); /* its wake-up is the earliest one */
	return (uint8_t)(step % WHEEL_SLOTS);
}

void wheel_remove(struct wheel *wh, struct list_node *n, uint8_t slot)
{
	list_remove(&wh->slots[slot], n);
	wh->count--;
}
