/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/budget.h"
#include "rig.h"

#define MIB (UINT64_C(1) << 20)

static void test_flows_max(void **state)
{
	(void)state;
	assert_int_equal(budget_flows_max(1024, 24), (1024 - 24 - BUDGET_RESERVE) / 2);
	/* however few there are, one flow is tried */
	assert_int_equal(budget_flows_max(0, 0), 1);
	assert_int_equal(budget_flows_max(64, 1000), 1);
	assert_int_equal(budget_flows_max(20 + BUDGET_RESERVE + 2, 20), 1);
	assert_int_equal(budget_flows_max(20 + BUDGET_RESERVE + 4, 20), 2);
}

static void test_memory_auto(void **state)
{
	(void)state;
	assert_int_equal(budget_memory_auto(128 * MIB), 32 * MIB);
	assert_int_equal(budget_memory_auto(0), 8 * MIB);
	assert_int_equal(budget_memory_auto(64 * 1024 * MIB), 1024 * MIB);
}

static void test_judge(void **state)
{
	(void)state;
	/* free until the high mark */
	assert_int_equal(budget_judge(BUDGET_FREE, 89, 100, 89, 100), BUDGET_FREE);
	assert_int_equal(budget_judge(BUDGET_FREE, 90, 100, 0, 100), BUDGET_FLOWS);
	assert_int_equal(budget_judge(BUDGET_FREE, 0, 100, 90, 100), BUDGET_MEMORY);
	/* short until both are below the low one */
	assert_int_equal(budget_judge(BUDGET_FLOWS, 80, 100, 0, 100), BUDGET_FLOWS);
	assert_int_equal(budget_judge(BUDGET_FLOWS, 79, 100, 80, 100), BUDGET_MEMORY);
	assert_int_equal(budget_judge(BUDGET_MEMORY, 79, 100, 79, 100), BUDGET_FREE);
	/* what is worse has the name */
	assert_int_equal(budget_judge(BUDGET_MEMORY, 95, 100, 95, 100), BUDGET_FLOWS);
	assert_int_equal(budget_judge(BUDGET_FREE, 1, 1, 0, MIB), BUDGET_FLOWS);
}

/* Ends only what is above the low mark, a part at a time, and comes to an end. */
/* Once for each halving of what was many. */
static void test_trims(void **state)
{
	uint64_t peak = 0;

	(void)state;
	assert_false(budget_trims(&peak, 0));
	assert_false(budget_trims(&peak, 200));
	assert_false(budget_trims(&peak, 0)); /* few */
	assert_false(budget_trims(&peak, 1000));
	assert_false(budget_trims(&peak, 501));
	assert_true(budget_trims(&peak, 500));
	assert_false(budget_trims(&peak, 500));
	assert_false(budget_trims(&peak, 300));
	assert_true(budget_trims(&peak, 0));
	assert_false(budget_trims(&peak, 0));
}

static void test_quota(void **state)
{
	uint64_t flows = 1000;

	(void)state;
	assert_int_equal(budget_quota(799, 1000), 0);
	assert_int_equal(budget_quota(800, 1000), 1); /* where budget_judge sees no room yet */
	assert_int_equal(budget_quota(801, 1000), 1);
	assert_int_equal(budget_quota(1000, 1000), 26);
	for (int i = 0; i < 100 && budget_quota(flows, 1000); i++)
		flows -= budget_quota(flows, 1000);
	assert_int_equal(flows, 799);
}

static uint64_t no_memory(struct worker *w)
{
	(void)w;
	return 0;
}

static const char *changed(void *ctx, enum budget_state state)
{
	*(enum budget_state *)ctx = state;
	return "test";
}

struct seen {
	struct budget *b;
	enum budget_state wanted;
};

static bool is_state(void *arg)
{
	const struct seen *s = arg;

	return s->b->state == s->wanted;
}

/* With one worker beside the main one: memory that is lent is noticed by the worker at once and by
 * the daemon at the next look; flows are limited and counted. */
static void test_in_a_daemon(void **state)
{
	static struct worker main_w, w;
	struct worker *list[] = {&w};
	struct budget b;
	enum budget_state told = BUDGET_FREE;
	const struct budget_wishes wishes = {.main_worker = &main_w,
					     .workers = list,
					     .n = 1,
					     .nofile = 1000,
					     .flows_max = 3,
					     .keep_idle = true,
					     .memory_mib = 4,
					     .memory = no_memory,
					     .changed = changed,
					     .ctx = &told};
	struct seen seen = {&b, BUDGET_MEMORY};

	(void)state;
	memset(&b, 0, sizeof(b));
	assert_int_equal(worker_init(&main_w, UINT32_MAX, NULL), 0);
	assert_int_equal(worker_init(&w, 0, NULL), 0);
	budget_start(&b, &wishes);
	for (int i = 0; i < 3; i++)
		assert_true(budget_take(&b, &w));
	assert_false(budget_take(&b, &w));
	assert_false(budget_take(&b, &w)); /* those refused do not count */
	budget_give(&b);
	assert_true(budget_take(&b, &w));
	for (int i = 0; i < 3; i++)
		budget_give(&b);
	assert_false(budget_short_of_memory(&b, &w));
	w.pool.lent_bytes = 4 << 20;
	assert_true(budget_short_of_memory(&b, &w));
	assert_int_equal(worker_start(&w), 0);
	assert_true(rig_until(&main_w, is_state, &seen));
	assert_int_equal(told, BUDGET_MEMORY);
	budget_reload(&b, 8);
	seen.wanted = BUDGET_FREE;
	assert_true(rig_until(&main_w, is_state, &seen));
	assert_int_equal(told, BUDGET_FREE);
	assert_false(budget_short_of_memory(&b, &w));
	budget_stop(&b);
	workers_stop(&main_w, list, 1);
	w.pool.lent_bytes = 0;
	worker_fini(&w);
	worker_fini(&main_w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flows_max), cmocka_unit_test(test_memory_auto),
		cmocka_unit_test(test_judge),     cmocka_unit_test(test_quota),
		cmocka_unit_test(test_trims),     cmocka_unit_test(test_in_a_daemon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
