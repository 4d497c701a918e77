/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "redir/budget.h"

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
static void test_quota(void **state)
{
	uint64_t flows = 1000;

	(void)state;
	assert_int_equal(budget_quota(800, 1000), 0);
	assert_int_equal(budget_quota(801, 1000), 1);
	assert_int_equal(budget_quota(1000, 1000), 26);
	for (int i = 0; i < 100 && budget_quota(flows, 1000); i++)
		flows -= budget_quota(flows, 1000);
	assert_int_equal(flows, 800);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flows_max),
		cmocka_unit_test(test_memory_auto),
		cmocka_unit_test(test_judge),
		cmocka_unit_test(test_quota),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
