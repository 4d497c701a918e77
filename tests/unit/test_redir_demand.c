/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How many connections to keep ready. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "redir/demand.h"

static void add(struct demand *d, unsigned n)
{
	while (n--)
		demand_add(d, 8);
}

static void ticks(struct demand *d, unsigned n)
{
	while (n--)
		demand_tick(d);
}

/* After how many ticks without a flow nothing is wanted. */
static unsigned ticks_to_none(struct demand *d)
{
	unsigned n = 0;

	for (; demand_target(d, 16) > 0 && n < 1000; n++)
		demand_tick(d);
	return n;
}

static void test_nothing(void **state)
{
	struct demand d = {0};

	(void)state;
	assert_int_equal(demand_target(&d, 8), 0);
	ticks(&d, 100);
	assert_int_equal(demand_target(&d, 8), 0);
}

static void test_one(void **state)
{
	struct demand d = {0};

	(void)state;
	add(&d, 1);
	assert_int_equal(demand_target(&d, 8), 1);
	ticks(&d, 15);
	assert_int_equal(demand_target(&d, 8), 1);
	ticks(&d, 5);
	assert_int_equal(demand_target(&d, 8), 0);
}

static void test_burst_and_limit(void **state)
{
	struct demand d = {0};

	(void)state;
	add(&d, 6);
	assert_int_equal(demand_target(&d, 8), 6);
	assert_int_equal(demand_target(&d, 4), 4);
	assert_int_equal(demand_target(&d, 0), 0);
	ticks(&d, 10);
	assert_int_equal(demand_target(&d, 8), 3);
	add(&d, 2); /* fewer than the peak that is remembered */
	assert_int_equal(demand_target(&d, 8), 3);
	add(&d, 500);
	assert_int_equal(demand_target(&d, 16), 8);
}

/* One flow in each tick is one at a time, not as many as ticks. */
static void test_steady(void **state)
{
	struct demand d = {0};

	(void)state;
	for (int i = 0; i < 100; i++) {
		add(&d, 1);
		assert_int_equal(demand_target(&d, 8), 1);
		ticks(&d, 1);
	}
}

static void test_fades(void **state)
{
	struct demand d = {0};

	(void)state;
	add(&d, 1);
	assert_in_range(ticks_to_none(&d), 18, 21);
	add(&d, 800);
	assert_in_range(ticks_to_none(&d), 48, 51);
}

static void test_expect(void **state)
{
	struct demand d = {0};

	(void)state;
	demand_expect(&d);
	assert_int_equal(demand_target(&d, 8), 1);
	add(&d, 3);
	demand_expect(&d);
	assert_int_equal(demand_target(&d, 8), 3);
	assert_in_range(ticks_to_none(&d), 30, 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing),         cmocka_unit_test(test_one),
		cmocka_unit_test(test_burst_and_limit), cmocka_unit_test(test_steady),
		cmocka_unit_test(test_fades),           cmocka_unit_test(test_expect),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
