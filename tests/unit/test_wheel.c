/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/wheel.h"
#include "rig.h"

#define MANY 5000

static struct worker w;
static struct wheel wheel;

struct thing {
	struct list_node node;
	uint8_t slot;
	unsigned due; /* how often */
	double added_s, due_s, again_s;
	struct thing *takes_out; /* at its turn */
};

static void due_cb(struct list_node *n)
{
	struct thing *t = container_of(n, struct thing, node);

	assert_false(list_linked(n));
	t->due++;
	t->due_s = worker_now(&w);
	if (t->again_s > 0)
		t->slot = wheel_add(&wheel, &t->node, t->again_s);
	if (t->takes_out && list_linked(&t->takes_out->node))
		wheel_remove(&wheel, &t->takes_out->node, t->takes_out->slot);
}

static void start(void)
{
	wheel_init(&wheel, &w, due_cb);
	ev_run(w.loop, EVRUN_NOWAIT); /* what time is it */
}

static void add(struct thing *t, double s)
{
	t->added_s = worker_now(&w);
	t->slot = wheel_add(&wheel, &t->node, s);
}

static bool none_left(void *arg)
{
	(void)arg;
	return wheel.count == 0;
}

static bool passed(void *arg)
{
	return rig_now() > *(double *)arg;
}

static void run_for(double s)
{
	double until = rig_now() + s;

	rig_until_s(&w, passed, &until, s + 1);
}

/* Not too early, and on an idle machine not later than a step; in whichever order they came. */
static void in_time(void **state)
{
	static const double s[] = {1.1, 0, 0.3, 0.1, 1.0, 0.3};
	struct thing t[6] = {0};

	(void)state;
	start();
	for (int i = 0; i < 6; i++)
		add(&t[i], s[i]);
	assert_int_equal(wheel.count, 6);
	assert_true(rig_until(&w, none_left, NULL));
	for (int i = 0; i < 6; i++) {
		double late = t[i].due_s - t[i].added_s - s[i];

		assert_int_equal(t[i].due, 1);
		if (late < -0.01 || late > WHEEL_STEP_S + 1.)
			fail_msg("%g s: %g s late", s[i], late);
	}
	wheel_fini(&wheel);
}

static void removed(void **state)
{
	struct thing t[3] = {0};

	(void)state;
	start();
	for (int i = 0; i < 3; i++)
		add(&t[i], 0.1);
	wheel_remove(&wheel, &t[1].node, t[1].slot);
	assert_int_equal(wheel.count, 2);
	t[0].takes_out = &t[2]; /* of the same slot, while it is looked at */
	run_for(0.7);
	assert_int_equal(wheel.count, 0);
	assert_int_equal(t[0].due, 1);
	assert_int_equal(t[1].due + t[2].due, 0);
	add(&t[1], 0); /* and the wheel turns again */
	assert_true(rig_until(&w, none_left, NULL));
	assert_int_equal(t[1].due, 1);
	wheel_fini(&wheel);
}

static void again_and_again(void **state)
{
	struct thing often = {.again_s = 0.01}, whole_turn = {.again_s = WHEEL_MAX_S};

	(void)state;
	start();
	add(&often, 0);
	add(&whole_turn, 0);
	run_for(1.6);
	assert_in_range(often.due, 2, 7); /* once a step */
	assert_int_equal(whole_turn.due, 1);
	wheel_remove(&wheel, &often.node, often.slot);
	wheel_remove(&wheel, &whole_turn.node, whole_turn.slot);
	wheel_fini(&wheel);
}

/* The wheel's step lags behind while nothing is due: what is added then must not come at once. */
static void added_late(void **state)
{
	struct thing far_one = {0}, t[8] = {0};

	(void)state;
	start();
	add(&far_one, WHEEL_MAX_S);
	for (int i = 0; i < 8; i++) {
		run_for(0.3);
		add(&t[i], WHEEL_MAX_S);
	}
	run_for(0.6);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(t[i].due, 0);
		wheel_remove(&wheel, &t[i].node, t[i].slot);
	}
	wheel_remove(&wheel, &far_one.node, far_one.slot);
	wheel_fini(&wheel);
}

static void many(void **state)
{
	struct thing *t = calloc(MANY, sizeof(*t));

	(void)state;
	assert_non_null(t);
	start();
	for (int i = 0; i < MANY; i++)
		add(&t[i], i % 7 * 0.2);
	for (int i = 0; i < MANY; i += 3)
		wheel_remove(&wheel, &t[i].node, t[i].slot);
	assert_true(rig_until(&w, none_left, NULL));
	for (int i = 0; i < MANY; i++)
		assert_int_equal(t[i].due, i % 3 != 0);
	wheel_fini(&wheel);
	free(t);
}

static int setup(void **state)
{
	(void)state;
	return worker_init(&w, 0, NULL);
}

static int teardown(void **state)
{
	(void)state;
	worker_fini(&w);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_time),
		cmocka_unit_test(removed),
		cmocka_unit_test(again_and_again),
		cmocka_unit_test(added_late),
		cmocka_unit_test(many),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
