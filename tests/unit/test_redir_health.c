/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When an upstream is used and when not, and which of several. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "redir/balance.h"
#include "redir/health.h"

/* ---- health ---- */

static void test_soft(void **state)
{
	struct health h = {0};

	(void)state;
	assert_true(health_proven(&h, 1));
	assert_int_equal(h.state, UPSTREAM_UP);
	assert_false(health_failed(&h, 2, UPSTREAM_SOFT));
	health_ok(&h, 3);
	assert_false(health_failed(&h, 4, UPSTREAM_SILENT));
	health_heard(&h, 5); /* alive, but nothing has succeeded */
	assert_true(health_failed(&h, 6, UPSTREAM_SOFT));
	assert_true(h.state == UPSTREAM_DOWN && h.since_s == 6 && h.heard_s == 5);
	assert_false(health_failed(&h, 7, UPSTREAM_HARD));
	assert_true(h.since_s == 6);
}

static void test_silent(void **state)
{
	struct health h = {0};

	(void)state;
	assert_false(health_overdue(&h) || health_question(&h));
	assert_false(h.trouble || h.in_question); /* it is not used anyway */
	health_proven(&h, 1);
	health_overdue(&h);
	health_heard(&h, 2); /* the answer has come */
	assert_false(health_failed(&h, 3, UPSTREAM_SILENT));
	health_overdue(&h);
	health_ok(&h, 4);
	assert_false(h.trouble);
	health_overdue(&h);
	assert_false(health_failed(&h, 5, UPSTREAM_SOFT)); /* another path, say */
	health_ok(&h, 5);
	health_overdue(&h);
	assert_true(health_failed(&h, 6, UPSTREAM_SILENT)); /* at once */
	assert_false(h.trouble);
	health_proven(&h, 7);
	assert_true(health_question(&h));
	assert_false(health_question(&h) || h.trouble);
	assert_true(health_overdue(&h));
	assert_false(health_overdue(&h));
	health_heard(&h, 8);
	assert_false(health_failed(&h, 9, UPSTREAM_SILENT)); /* the question was answered */
	health_ok(&h, 9);
	assert_true(health_question(&h));
	assert_true(health_failed(&h, 10, UPSTREAM_SILENT));
}

/* Going down soon after coming up costs one good probe more each time, three at most. */
static void test_relapses(void **state)
{
	static const unsigned wanted[] = {1, 2, 3, 3, 3};
	struct health h = {0};
	double now = 1;

	(void)state;
	assert_int_equal(health_wanted(&h), 1);
	assert_true(health_proven(&h, now));
	for (unsigned i = 0; i < 5; i++) {
		now += 50;
		assert_true(health_failed(&h, now, UPSTREAM_HARD));
		for (unsigned k = wanted[i]; k > 0; k--) {
			assert_int_equal(health_wanted(&h), k);
			assert_int_equal(health_proven(&h, ++now), k == 1);
		}
		assert_int_equal(health_wanted(&h), 0);
	}
	health_failed(&h, now += 50, UPSTREAM_HARD);
	assert_false(health_proven(&h, now));
	assert_false(health_proven(&h, now));
	assert_false(health_failed(&h, now, UPSTREAM_SOFT)); /* in a row, they must be */
	assert_int_equal(health_wanted(&h), 3);
	for (int i = 0; i < 3; i++)
		health_proven(&h, now);
	assert_true(h.state == UPSTREAM_UP && h.since_s == now);
	now += 60; /* long enough: forgotten */
	health_failed(&h, now, UPSTREAM_HARD);
	assert_true(health_proven(&h, now));
}

static void test_rejected(void **state)
{
	struct health h = {0};

	(void)state;
	assert_true(health_failed(&h, 1, UPSTREAM_REJECTED));
	assert_true(h.state == UPSTREAM_REJECTS && h.heard_s == 1);
	assert_false(health_failed(&h, 2, UPSTREAM_REJECTED)); /* said once */
	assert_true(health_failed(&h, 3, UPSTREAM_HARD));
	assert_int_equal(h.state, UPSTREAM_DOWN);
	assert_true(health_failed(&h, 4, UPSTREAM_REJECTED));
	assert_int_equal(health_wanted(&h), 1);
	assert_true(health_proven(&h, 5)); /* the password was mended */
	assert_int_equal(h.state, UPSTREAM_UP);
}

static void test_unproven(void **state)
{
	struct health h = {0};

	(void)state;
	health_ok(&h, 1);
	health_heard(&h, 1);
	assert_int_equal(h.state, UPSTREAM_UNPROVEN);
	assert_false(health_failed(&h, 2, UPSTREAM_SILENT));
	assert_true(health_failed(&h, 3, UPSTREAM_SILENT));
	assert_true(health_proven(&h, 4)); /* that was no relapse */
	assert_true(health_failed(&h, 5, UPSTREAM_HARD));
	assert_int_equal(health_wanted(&h), 2); /* but this is */
}

/* ---- balance ---- */

/* n choices among candidates "a", "b", ... with these weights and round-trip times in ms. */
static void assert_choices(struct balance *b, const char *want, const int *weights,
			   const unsigned *rtts_ms)
{
	struct balance_candidate v[8];
	unsigned n = 0;
	char got[64] = "";

	for (; weights[n]; n++)
		v[n] = (struct balance_candidate){.index = n,
						  .weight = weights[n],
						  .rtt_us = rtts_ms ? rtts_ms[n] * 1000 : 0};
	for (size_t i = 0; i < strlen(want); i++)
		got[i] = (char)('a' + balance_choose(b, v, n));
	assert_string_equal(got, want);
}

#define W(...) ((const int[]){__VA_ARGS__, 0})
#define R(...) ((const unsigned[]){__VA_ARGS__})

static void test_by_weight(void **state)
{
	struct balance b = {.by = BALANCE_WEIGHT};

	(void)state;
	assert_choices(&b, "aaa", W(7), NULL);
	assert_choices(&b, "abab", W(1, 1), NULL);
	memset(&b, 0, sizeof(b));
	assert_choices(&b, "aabacaaaabacaa", W(5, 1, 1), NULL); /* smoothly */
	memset(&b, 0, sizeof(b));
	assert_choices(&b, "aabaaabaaaba", W(3, 1), R(90, 1)); /* whatever the latency */
	memset(&b, 0, sizeof(b));
	assert_choices(&b, "bcabcbbcabcb", W(1, 3, 2), NULL);
}

/* One leaves and comes back: it is not owed what it missed. */
static void test_weight_pause(void **state)
{
	struct balance b = {.by = BALANCE_WEIGHT};
	const struct balance_candidate v[] = {{.index = 0, .weight = 1}, {.index = 5, .weight = 1}};
	unsigned n = 0;

	(void)state;
	for (int i = 0; i < 1000; i++)
		assert_int_equal(balance_choose(&b, v, 1), 0);
	for (int i = 0; i < 10; i++)
		n += balance_choose(&b, v, 2) == 5;
	assert_int_equal(n, 5);
	assert_true(b.credit[0] >= -2 && b.credit[0] <= 2);
}

static void test_by_latency(void **state)
{
	struct balance b = {.by = BALANCE_LATENCY};

	(void)state;
	assert_choices(&b, "bbbb", W(9, 1), R(50, 20));
	assert_choices(&b, "cccc", W(9, 1, 1), R(50, 40, 20));
	b = (struct balance){.by = BALANCE_LATENCY};
	assert_choices(&b, "aabaaaba", W(3, 1), R(50, 50)); /* a tie: by weight */
	assert_choices(&b, "bbbb", W(3, 1), R(100, 50));
	b = (struct balance){.by = BALANCE_LATENCY};
	assert_choices(&b, "abab", W(1, 1), R(0, 50)); /* unknown: found out by use */
}

/* 50 ms against 50 + x: joined below 56, left above 70. */
static void test_latency_hysteresis(void **state)
{
	struct balance b = {.by = BALANCE_LATENCY};

	(void)state;
	assert_choices(&b, "aa", W(1, 1), R(50, 57));
	assert_choices(&b, "abab", W(1, 1), R(50, 55)); /* joins */
	for (unsigned ms = 56; ms <= 70; ms++) {
		unsigned n = (unsigned)b.near[1];
		assert_choices(&b, "ab", W(1, 1), R(50, ms));
		assert_int_equal(n, 1); /* does not flap */
	}
	assert_choices(&b, "aaaa", W(1, 1), R(50, 71)); /* leaves */
	assert_choices(&b, "aaaa", W(1, 1), R(50, 60)); /* and is not back so soon */
	assert_false(b.near[1]);
	assert_choices(&b, "bbbb", W(1, 1), R(50, 20)); /* a is the one to leave */
}

static void test_smooth(void **state)
{
	uint32_t rtt = 0;

	(void)state;
	assert_int_equal(balance_smooth(0, 0), 0);
	assert_int_equal(balance_smooth(100, 0), 100); /* unknown changes nothing */
	assert_int_equal(balance_smooth(0, 100), 100);
	assert_int_equal(balance_smooth(100, 200), 125);
	assert_int_equal(balance_smooth(UINT32_MAX, UINT32_MAX), UINT32_MAX);
	for (int i = 0; i < 40; i++)
		rtt = balance_smooth(rtt ? rtt : 1000, 5000);
	assert_in_range(rtt, 4900, 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_soft),
		cmocka_unit_test(test_silent),
		cmocka_unit_test(test_relapses),
		cmocka_unit_test(test_rejected),
		cmocka_unit_test(test_unproven),
		cmocka_unit_test(test_by_weight),
		cmocka_unit_test(test_weight_pause),
		cmocka_unit_test(test_by_latency),
		cmocka_unit_test(test_latency_hysteresis),
		cmocka_unit_test(test_smooth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
