/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a worker remembers of servers that refuse MPTCP. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "proxy/plain.h"

#define NOW 5000.

static struct addr at(const char *text)
{
	struct addr a;

	assert_true(addr_parse(&a, text, -1));
	return a;
}

static void refuses(struct plain *p, const struct addr *server, int times, double now_s)
{
	for (int i = 0; i < times; i++) {
		assert_false(plain_knows(p, server, now_s));
		plain_note(p, server, false, now_s);
	}
}

static void knows_after_some_times(void **state)
{
	struct addr a = at("192.0.2.1:443"), port = at("192.0.2.1:80"),
		    v6 = at("[2001:db8::1]:443");
	struct plain p;

	(void)state;
	assert_true(plain_init(&p));
	refuses(&p, &a, PLAIN_TIMES, NOW);
	assert_true(plain_knows(&p, &a, NOW));
	assert_false(plain_knows(&p, &port, NOW));
	assert_false(plain_knows(&p, &v6, NOW));
	refuses(&p, &v6, PLAIN_TIMES, NOW);
	assert_true(plain_knows(&p, &v6, NOW));
}

static void asks_again_after_a_minute(void **state)
{
	struct addr a = at("192.0.2.1:443");
	struct plain p;

	(void)state;
	assert_true(plain_init(&p));
	refuses(&p, &a, PLAIN_TIMES, NOW);
	assert_true(plain_knows(&p, &a, NOW + PLAIN_S - 1));
	assert_false(plain_knows(&p, &a, NOW + PLAIN_S)); /* this one asks, */
	assert_true(plain_knows(&p, &a, NOW + PLAIN_S));  /* others need not meanwhile */
	plain_note(&p, &a, false, NOW + PLAIN_S + 1);
	assert_true(plain_knows(&p, &a, NOW + 2 * PLAIN_S));
	/* One that asks and gets no answer at all has not put it off for ever. */
	assert_false(plain_knows(&p, &a, NOW + 3 * PLAIN_S));
	assert_false(plain_knows(&p, &a, NOW + 3 * PLAIN_S + 10));
}

static void one_answer_with_mptcp_counts(void **state)
{
	struct addr a = at("192.0.2.1:443");
	struct plain p;

	(void)state;
	assert_true(plain_init(&p));
	refuses(&p, &a, PLAIN_TIMES - 1, NOW);
	plain_note(&p, &a, true, NOW);
	refuses(&p, &a, PLAIN_TIMES, NOW);
	assert_true(plain_knows(&p, &a, NOW));
	plain_note(&p, &a, true, NOW); /* one that was under way */
	assert_false(plain_knows(&p, &a, NOW));
}

/* Many more servers than there is room for: what is said of each is true, and the last are known. */
static void many_servers(void **state)
{
	struct plain p;
	char text[64];
	int known = 0;

	(void)state;
	assert_true(plain_init(&p));
	for (int i = 0; i < 20 * PLAIN_SLOTS; i++) {
		snprintf(text, sizeof(text), "198.51.%d.%d:443", i >> 8 & 255, i & 255);
		struct addr a = at(text);

		assert_false(plain_knows(&p, &a, NOW));
		plain_note(&p, &a, true, NOW);
		for (int k = 0; k < PLAIN_TIMES; k++)
			plain_note(&p, &a, false, NOW);
		known += plain_knows(&p, &a, NOW);
	}
	assert_int_equal(known, 20 * PLAIN_SLOTS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_after_some_times),
		cmocka_unit_test(asks_again_after_a_minute),
		cmocka_unit_test(one_answer_with_mptcp_counts),
		cmocka_unit_test(many_servers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
