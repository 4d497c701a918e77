/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a worker remembers of servers: do they speak MPTCP?. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "proxy/speaks.h"

#define NOW 5000.

static struct addr at(const char *text)
{
	struct addr a;

	assert_true(addr_parse(&a, text, -1));
	return a;
}

static void is_kept_for_some_minutes(void **state)
{
	struct addr a = at("192.0.2.1:443"), port = at("192.0.2.1:80"),
		    v6 = at("[2001:db8::1]:443");
	struct speaks s;

	(void)state;
	assert_true(speaks_init(&s));
	assert_int_equal(speaks_of(&s, &a, NOW), SPEAKS_UNKNOWN);
	speaks_note(&s, &a, false, NOW);
	speaks_note(&s, &v6, true, NOW);
	assert_int_equal(speaks_of(&s, &a, NOW + SPEAKS_S - 1), SPEAKS_TCP);
	assert_int_equal(speaks_of(&s, &v6, NOW + SPEAKS_S - 1), SPEAKS_MPTCP);
	assert_int_equal(speaks_of(&s, &port, NOW), SPEAKS_UNKNOWN);
}

static void one_asks_again(void **state)
{
	struct addr a = at("192.0.2.1:443");
	struct speaks s;

	(void)state;
	assert_true(speaks_init(&s));
	speaks_note(&s, &a, false, NOW);
	assert_int_equal(speaks_of(&s, &a, NOW + SPEAKS_S), SPEAKS_UNKNOWN); /* this one asks, */
	assert_int_equal(speaks_of(&s, &a, NOW + SPEAKS_S), SPEAKS_TCP);     /* others need not */
	/* One that asks and gets no answer at all has not put it off for ever. */
	assert_int_equal(speaks_of(&s, &a, NOW + SPEAKS_S + 10), SPEAKS_UNKNOWN);
}

/* The same answer is kept for twice as long each time, another one for some seconds first. */
static void for_longer_each_time(void **state)
{
	struct addr a = at("192.0.2.1:443");
	struct speaks s;
	double now_s = NOW, for_s = SPEAKS_S;

	(void)state;
	assert_true(speaks_init(&s));
	speaks_note(&s, &a, false, now_s);
	speaks_note(&s, &a, false, now_s + 0.1); /* several asked at the same time */
	for (int i = 0; i < 10; i++) {
		assert_int_equal(speaks_of(&s, &a, now_s + for_s - 0.5), SPEAKS_TCP);
		now_s += for_s + 1;
		assert_int_equal(speaks_of(&s, &a, now_s), SPEAKS_UNKNOWN);
		speaks_note(&s, &a, false, now_s);
		for_s = for_s * 2 < SPEAKS_MAX_S ? for_s * 2 : SPEAKS_MAX_S;
	}
	speaks_note(&s, &a, true, now_s + 1);
	assert_int_equal(speaks_of(&s, &a, now_s + SPEAKS_AGAIN_S), SPEAKS_MPTCP);
	assert_int_equal(speaks_of(&s, &a, now_s + SPEAKS_AGAIN_S + 1), SPEAKS_UNKNOWN);
	speaks_note(&s, &a, true, now_s + SPEAKS_AGAIN_S + 1);
	assert_int_equal(speaks_of(&s, &a, now_s + 3 * SPEAKS_AGAIN_S), SPEAKS_MPTCP);
}

/* Many more servers than there is room for: what is said of each is true, and the last are known. */
static void many_servers(void **state)
{
	struct speaks s;
	char text[64];
	int known = 0;

	(void)state;
	assert_true(speaks_init(&s));
	for (int i = 0; i < 20 * SPEAKS_SLOTS; i++) {
		snprintf(text, sizeof(text), "198.51.%d.%d:443", i >> 8 & 255, i & 255);
		struct addr a = at(text);

		assert_int_equal(speaks_of(&s, &a, NOW), SPEAKS_UNKNOWN);
		speaks_note(&s, &a, i % 2 == 0, NOW);
		known += speaks_of(&s, &a, NOW) == (i % 2 ? SPEAKS_TCP : SPEAKS_MPTCP);
	}
	assert_int_equal(known, 20 * SPEAKS_SLOTS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_kept_for_some_minutes),
		cmocka_unit_test(one_asks_again),
		cmocka_unit_test(for_longer_each_time),
		cmocka_unit_test(many_servers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
