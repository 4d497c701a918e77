/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Servers that have just failed: how long, how many, what ends it, and what the mirror is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>

#include "redir/failed.h"

#define TTL 5.0

static struct failed_change changes[FAILED_CHANGES];

static struct addr server(unsigned i)
{
	struct addr a;
	char text[ADDR_STRLEN];

	snprintf(text, sizeof(text), "10.0.%u.%u:80", i / 250, i % 250 + 1);
	assert_true(addr_parse(&a, text, -1));
	return a;
}

static struct failed_counts counts_of(struct failed *f, double now_s)
{
	struct failed_counts c;

	failed_count(f, now_s, &c);
	return c;
}

static void on_wake(void *ctx)
{
	++*(unsigned *)ctx;
}

/* ---- what is remembered ---- */

static void test_answers(void **state)
{
	static const struct {
		int err;
		enum held_answer answer;
	} rows[] = {
		{ECONNREFUSED, HELD_RESET},
		{ENETUNREACH, HELD_NET_UNREACHABLE},
		{EHOSTUNREACH, HELD_HOST_UNREACHABLE},
		{ETIME, HELD_HOST_UNREACHABLE},
		{ETIMEDOUT, HELD_HOST_UNREACHABLE},
		{EACCES, HELD_PROHIBITED},
		/* ours, or nobody knows whose */
		{0, HELD_GO_ON},
		{EPERM, HELD_GO_ON},
		{EIO, HELD_GO_ON},
		{EMFILE, HELD_GO_ON},
		{EADDRNOTAVAIL, HELD_GO_ON},
		{ENOMEM, HELD_GO_ON},
	};
	struct failed *f = failed_new(TTL, NULL, NULL);

	(void)state;
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct addr a = server(i);
		bool is = rows[i].answer != HELD_GO_ON;

		assert_int_equal(failed_answer(rows[i].err), rows[i].answer);
		assert_int_equal(failed_put(f, &a, rows[i].err, 1), is);
		assert_int_equal(failed_look(f, &a, 1, false), is ? rows[i].err : 0);
	}
	failed_free(f);
}

static void test_expiry(void **state)
{
	struct failed *f = failed_new(TTL, NULL, NULL);
	struct addr a = server(1), other = server(2), port = server(1);

	(void)state;
	addr_set_port(&port, 81);
	assert_true(failed_put(f, &a, ECONNREFUSED, 100));
	assert_int_equal(failed_look(f, &a, 100, true), ECONNREFUSED);
	assert_int_equal(failed_look(f, &a, 104.9, true), ECONNREFUSED);
	assert_int_equal(failed_look(f, &a, 105, true), 0); /* asking has not prolonged it */
	assert_int_equal(failed_look(f, &other, 100, true), 0);
	assert_int_equal(failed_look(f, &port, 100, true), 0);
	assert_int_equal(counts_of(f, 104).refused, 2);
	assert_int_equal(counts_of(f, 104).now, 1);
	assert_int_equal(counts_of(f, 105).now, 0);
	/* Again: the later outcome counts, and the time from it. */
	assert_true(failed_put(f, &a, ECONNREFUSED, 200));
	assert_true(failed_put(f, &a, EHOSTUNREACH, 203));
	assert_int_equal(failed_look(f, &a, 207, false), EHOSTUNREACH);
	assert_int_equal(failed_look(f, &a, 208, false), 0);
	failed_free(f);
}

/* IPv6: the scope of a link does not stand in packets. */
static void test_scope(void **state)
{
	struct failed *f = failed_new(TTL, NULL, NULL);
	struct addr a, b;

	(void)state;
	assert_true(addr_parse(&a, "[2001:db8::1]:443", -1));
	b = a;
	b.u.in6.sin6_scope_id = 7;
	assert_true(failed_put(f, &b, ENETUNREACH, 1));
	assert_int_equal(failed_look(f, &a, 1, false), ENETUNREACH);
	failed_succeeded(f, &b, 2);
	assert_int_equal(failed_look(f, &a, 2, false), 0);
	failed_free(f);
}

static void test_success(void **state)
{
	struct failed *f = failed_new(TTL, NULL, NULL);
	struct addr a = server(1), b = server(2);

	(void)state;
	failed_succeeded(f, &a, 99); /* says nothing yet */
	assert_true(failed_put(f, &a, ECONNREFUSED, 100));
	assert_true(failed_put(f, &b, ECONNREFUSED, 100));
	failed_succeeded(f, &a, 101);
	assert_int_equal(failed_look(f, &a, 101, false), 0);
	assert_int_equal(failed_look(f, &b, 101, false), ECONNREFUSED);
	/* Outcomes differ: it is not made unreachable for those who would have been lucky. */
	assert_false(failed_put(f, &a, ECONNREFUSED, 102));
	assert_int_equal(failed_look(f, &a, 102, false), 0);
	assert_true(failed_put(f, &a, ECONNREFUSED, 106));
	assert_int_equal(failed_look(f, &a, 106, false), ECONNREFUSED);
	assert_int_equal(counts_of(f, 106).recovered, 1);
	assert_int_equal(counts_of(f, 106).disputed, 1);
	assert_int_equal(counts_of(f, 106).remembered, 3);
	failed_free(f);
}

static void test_bound(void **state)
{
	struct failed *f = failed_new(TTL, NULL, NULL);
	struct failed_item *v = calloc(FAILED_MAX, sizeof(*v));
	struct addr a = server(0), b = server(1), c = server(2);
	const unsigned more = 300;

	(void)state;
	assert_non_null(v);
	for (unsigned i = 0; i < FAILED_MAX; i++) {
		struct addr s = server(i);
		assert_true(failed_put(f, &s, ECONNREFUSED, 1));
	}
	assert_int_equal(failed_list(f, 1, v), FAILED_MAX);
	assert_true(addr_equal(&v[0].addr, &a)); /* oldest first */
	/* What has failed again is not the oldest any more. */
	assert_true(failed_put(f, &a, ECONNREFUSED, 2));
	for (unsigned i = FAILED_MAX; i < FAILED_MAX + more; i++) {
		struct addr s = server(i);
		assert_true(failed_put(f, &s, ECONNREFUSED, 2));
	}
	assert_int_equal(counts_of(f, 2).now, FAILED_MAX);
	assert_int_equal(counts_of(f, 2).evicted, more);
	assert_int_equal(failed_look(f, &a, 2, false), ECONNREFUSED);
	assert_int_equal(failed_look(f, &b, 2, false), 0);
	assert_int_equal(failed_look(f, &c, 2, false), 0);
	/* Those that have ended leave without being counted as driven out. */
	assert_true(failed_put(f, &b, ECONNREFUSED, 50));
	assert_int_equal(counts_of(f, 50).now, 1);
	assert_int_equal(counts_of(f, 50).evicted, more);
	free(v);
	failed_free(f);
}

static void test_off(void **state)
{
	struct failed *f = failed_new(0, NULL, NULL);
	struct addr a = server(1);

	(void)state;
	assert_false(failed_put(f, &a, ECONNREFUSED, 1));
	assert_int_equal(failed_look(f, &a, 1, false), 0);
	failed_set_ttl(f, TTL);
	assert_true(failed_put(f, &a, ECONNREFUSED, 1));
	assert_int_equal(failed_look(f, &a, 1, false), ECONNREFUSED);
	failed_set_ttl(f, 0);
	assert_int_equal(failed_look(f, &a, 1, false), 0);
	failed_set_ttl(f, TTL);
	assert_true(failed_put(f, &a, ECONNREFUSED, 1));
	assert_int_equal(failed_clear(f, 1), 1);
	assert_int_equal(failed_look(f, &a, 1, false), 0);
	failed_free(f);
}

/* ---- the mirror ---- */

static void expect_change(const struct failed_change *c, const struct addr *a, bool add,
			  enum held_answer answer, uint32_t ttl_s)
{
	assert_true(addr_equal(&c->addr, a));
	assert_int_equal(c->add, add);
	assert_int_equal(c->answer, answer);
	assert_int_equal(c->ttl_s, ttl_s);
}

static void test_mirror(void **state)
{
	unsigned woken = 0;
	struct failed *f = failed_new(TTL, on_wake, &woken);
	struct addr a = server(1), b = server(2);

	(void)state;
	assert_int_equal(failed_tell(f, 0, changes), 0);
	failed_put(f, &a, ECONNREFUSED, 100);
	failed_put(f, &b, ENETUNREACH, 100);
	assert_int_equal(woken, 1); /* once for all */
	assert_int_equal(failed_tell(f, 100.01, changes), 2);
	expect_change(&changes[0], &a, true, HELD_RESET, 5);
	expect_change(&changes[1], &b, true, HELD_NET_UNREACHABLE, 5);
	assert_int_equal(failed_tell(f, 100.02, changes), 0);
	/* Another answer: out of one set, into another. */
	failed_put(f, &a, EHOSTUNREACH, 102);
	assert_int_equal(woken, 2);
	assert_int_equal(failed_tell(f, 102, changes), 2);
	expect_change(&changes[0], &a, false, HELD_RESET, 0);
	expect_change(&changes[1], &a, true, HELD_HOST_UNREACHABLE, 5);
	/* The same again: later. */
	failed_put(f, &a, EHOSTUNREACH, 104);
	assert_int_equal(failed_tell(f, 104, changes), 1);
	expect_change(&changes[0], &a, true, HELD_HOST_UNREACHABLE, 5);
	failed_succeeded(f, &b, 104.5);
	assert_int_equal(failed_tell(f, 104.5, changes), 1);
	expect_change(&changes[0], &b, false, HELD_NET_UNREACHABLE, 0);
	/* What has ended has done so in the mirror, too. */
	assert_int_equal(failed_tell(f, 110, changes), 0);
	failed_put(f, &a, ECONNREFUSED, 120);
	assert_int_equal(failed_tell(f, 120, changes), 1);
	expect_change(&changes[0], &a, true, HELD_RESET, 5);
	/* Lost: all again, for as long as they have left. */
	failed_untold(f);
	assert_int_equal(failed_tell(f, 123, changes), 1);
	expect_change(&changes[0], &a, true, HELD_RESET, 2);
	assert_int_equal(failed_clear(f, 123), 1);
	assert_int_equal(failed_tell(f, 123, changes), 1);
	expect_change(&changes[0], &a, false, HELD_RESET, 0);
	failed_free(f);
}

/* However many come and go between two tellings, it has no more than there is room for. */
static void test_mirror_bound(void **state)
{
	struct failed *f = failed_new(TTL, NULL, NULL);
	unsigned held = 0, n;

	(void)state;
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < 1500; i++) {
			struct addr s = server(round * 700 + i);
			failed_put(f, &s, ECONNREFUSED, 1);
		}
		n = failed_tell(f, 1, changes);
		assert_true(n <= FAILED_CHANGES);
		for (unsigned i = 0; i < n; i++) {
			/* first all that go */
			assert_true(i == 0 || changes[i].add || !changes[i - 1].add);
			held += changes[i].add ? 1U : -1U;
		}
		assert_int_equal(held, FAILED_MAX);
	}
	failed_free(f);
}

/* ---- threads ---- */

static void *hammer(void *arg)
{
	struct failed *f = arg;

	for (unsigned i = 0; i < 20000; i++) {
		struct addr s = server(i * 7919 % 2000);

		if (i % 5 == 0)
			failed_succeeded(f, &s, i / 1000.);
		else if (i % 2)
			failed_put(f, &s, i % 3 ? ECONNREFUSED : EHOSTUNREACH, i / 1000.);
		else
			failed_look(f, &s, i / 1000., true);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct failed *f = failed_new(TTL, NULL, NULL);
	pthread_t t[4];

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, hammer, f), 0);
	for (unsigned i = 0; i < 200; i++)
		failed_tell(f, i / 10., changes);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_join(t[i], NULL), 0);
	assert_true(counts_of(f, 19).now <= FAILED_MAX);
	failed_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers), cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_scope),   cmocka_unit_test(test_success),
		cmocka_unit_test(test_bound),   cmocka_unit_test(test_off),
		cmocka_unit_test(test_mirror),  cmocka_unit_test(test_mirror_bound),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
