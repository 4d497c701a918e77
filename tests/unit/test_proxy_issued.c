/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sessions and idempotence tokens on the proxy's side. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include <cmocka.h>

#include "proxy/issued.h"

static const struct issued_limits small = {
	.max_sessions = 4, .max_per_user = 3, .max_window = 100, .ttl_s = 60};

static const struct issued_ask nothing;

/* Ours instead of the library's: window bases (4 octets) can be chosen. */
static uint32_t next_base = 1000, ids;

ssize_t getrandom(void *buf, size_t len, unsigned flags)
{
	(void)flags;
	ids++;
	memset(buf, 0xaa, len);
	memcpy(buf, len == sizeof(next_base) ? &next_base : &ids, sizeof(ids));
	return (ssize_t)len;
}

static struct issued *start(void)
{
	struct issued *is = issued_new(&small);

	assert_non_null(is);
	return is;
}

static struct issued_answer open_one(struct issued *is, const char *user, double now_s,
				     uint32_t window)
{
	struct issued_ask ask = {.window_wish = window};
	struct issued_answer a;

	assert_true(issued_open(is, user, now_s, &ask, &a));
	assert_string_equal(a.user, user);
	assert_int_equal(a.has_window, window > 0);
	return a;
}

static bool use(struct issued *is, const struct issued_answer *a, double now_s)
{
	struct issued_answer out;

	return issued_use(is, a->id, sizeof(a->id), now_s, &nothing, &out);
}

static struct issued_answer spend(struct issued *is, const struct issued_answer *a, uint32_t token)
{
	struct issued_ask ask = {.spend = true, .token = token};
	struct issued_answer out;

	assert_true(issued_use(is, a->id, sizeof(a->id), 1, &ask, &out));
	assert_int_not_equal(out.token, TOKEN_NONE);
	return out;
}

static void accepted(struct issued *is, const struct issued_answer *a, uint32_t token,
		     uint32_t base)
{
	struct issued_answer out = spend(is, a, token);

	assert_int_equal(out.token, TOKEN_ACCEPTED);
	assert_int_equal(out.base, base);
}

static void rejected(struct issued *is, const struct issued_answer *a, uint32_t token)
{
	assert_int_equal(spend(is, a, token).token, TOKEN_REJECTED);
}

static void test_open_use_end(void **state)
{
	struct issued *is = start();
	struct issued_answer a = open_one(is, "ann", 1, 0), b = open_one(is, "bob", 1, 0), out;
	uint8_t longer[ISSUED_ID_LEN + 4] = {0};

	(void)state;
	assert_memory_not_equal(a.id, b.id, ISSUED_ID_LEN);
	assert_true(issued_use(is, b.id, ISSUED_ID_LEN, 2, &nothing, &out));
	assert_string_equal(out.user, "bob");
	assert_false(out.has_window);
	assert_false(issued_use(is, a.id, ISSUED_ID_LEN - 4, 2, &nothing, &out));
	memcpy(longer, a.id, sizeof(a.id));
	assert_false(issued_use(is, longer, sizeof(longer), 2, &nothing, &out));
	assert_true(issued_teardown(is, a.id, ISSUED_ID_LEN, 2));
	assert_false(issued_teardown(is, a.id, ISSUED_ID_LEN, 2));
	assert_false(use(is, &a, 2));
	assert_true(use(is, &b, 2));
	assert_int_equal(issued_count(is), 1);
	issued_free(is);
}

static void test_expiry(void **state)
{
	struct issued *is = start();
	struct issued_answer a = open_one(is, "u", 0, 8), b = open_one(is, "u", 0, 8);

	(void)state;
	assert_true(use(is, &a, 50));
	assert_true(use(is, &a, 110)); /* use renews */
	assert_false(use(is, &b, 61));
	assert_false(use(is, &a, 171));
	assert_int_equal(issued_count(is), 0);
	issued_free(is);
}

static void test_limits(void **state)
{
	struct issued *is = start();
	struct issued_answer a[5];
	struct issued_limits less = small;

	(void)state;
	for (int i = 0; i < 3; i++)
		a[i] = open_one(is, "u", i, 0);
	assert_true(use(is, &a[0], 5)); /* now a[1] is the one idle longest */
	a[3] = open_one(is, "u", 6, 0);
	assert_false(use(is, &a[1], 7));
	a[1] = open_one(is, "v", 7, 0);
	a[4] = open_one(is, "w", 8, 0); /* the fifth of all: a[2] gives way */
	assert_false(use(is, &a[2], 8));
	assert_true(use(is, &a[0], 8) && use(is, &a[3], 8) && use(is, &a[1], 8) &&
		    use(is, &a[4], 8));
	less.max_sessions = 2;
	less.max_per_user = 1;
	issued_set_limits(is, &less);
	open_one(is, "u", 9, 0);
	assert_int_equal(issued_count(is), 2);
	issued_free(is);
}

static bool is_bob(const char *user, void *ctx)
{
	(void)ctx;
	return strcmp(user, "bob") == 0;
}

static void test_revoke(void **state)
{
	struct issued *is = start();
	struct issued_answer b1 = open_one(is, "bob", 1, 8), a = open_one(is, "ann", 1, 8),
			     b2 = open_one(is, "bob", 1, 8);

	(void)state;
	assert_int_equal(issued_revoke(is, is_bob, NULL), 2);
	assert_true(!use(is, &b1, 1) && !use(is, &b2, 1) && use(is, &a, 1));
	issued_free(is);
}

static void test_window_size(void **state)
{
	static const uint32_t wish[][2] = {{1, 1},   {7, 7},     {16, 16},   {64, 64},
					   {99, 99}, {100, 100}, {101, 100}, {UINT32_MAX, 100}};
	struct issued *is = start();

	(void)state;
	for (size_t i = 0; i < sizeof(wish) / sizeof(wish[0]); i++)
		assert_int_equal(open_one(is, "u", 1, wish[i][0]).size, wish[i][1]);
	issued_free(is);
}

static void test_one_window(void **state)
{
	struct issued *is = start();
	struct issued_answer a = open_one(is, "u", 1, 0), out;
	struct issued_ask ask = {.window_wish = 10};

	(void)state;
	rejected(is, &a, 5); /* R28 */
	assert_true(issued_use(is, a.id, sizeof(a.id), 1, &ask, &out));
	assert_true(out.has_window && out.size == 10);
	a = out;
	ask.window_wish = 20;
	assert_true(issued_use(is, a.id, sizeof(a.id), 1, &ask, &out));
	assert_true(out.size == 10 && out.base == a.base);
	issued_free(is);
}

static void test_token_at_opening(void **state)
{
	struct issued *is = start();
	struct issued_ask ask = {.spend = true, .token = 5};
	struct issued_answer a;

	(void)state;
	assert_false(issued_open(is, "u", 1, &ask, &a));
	assert_int_equal(a.token, TOKEN_REJECTED);
	assert_false(a.has_window);
	assert_int_equal(issued_count(is), 0);
	issued_free(is);
}

static void test_spend(void **state)
{
	struct issued *is = start();
	struct issued_answer a = open_one(is, "u", 1, 16);
	uint32_t b = a.base;

	(void)state;
	accepted(is, &a, b, b + 1);
	rejected(is, &a, b);
	rejected(is, &a, b - 1);
	rejected(is, &a, b + 17); /* just behind the window, which is b+1 .. b+16 now */
	rejected(is, &a, b + 0x80000000u);
	accepted(is, &a, b + 3, b + 1);
	accepted(is, &a, b + 2, b + 1);
	rejected(is, &a, b + 3);
	accepted(is, &a, b + 1, b + 4); /* over the spent ones */
	accepted(is, &a, b + 12, b + 4);
	accepted(is, &a, b + 19, b + 11); /* upper half: b+4 .. b+10 are given up */
	rejected(is, &a, b + 10);
	rejected(is, &a, b + 12);
	accepted(is, &a, b + 11, b + 13);
	issued_free(is);
}

/* Every token once, in the worst orders, around the wrap of the serial numbers. */
static void test_wrap(void **state)
{
	static const uint32_t sizes[] = {1, 2, 3, 8, 15, 16, 17, 64, 100};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint32_t size = sizes[i], base, block = size < 4 ? 1 : size / 2;
		struct issued *is = start();
		struct issued_answer a;

		next_base = 0u - 5 * size;
		a = open_one(is, "u", 1, size);

		for (base = a.base; base - a.base < 10 * size; base += block) {
			for (uint32_t k = block; k-- > 0;) { /* backwards within half a window */
				assert_int_equal(spend(is, &a, base + k).token, TOKEN_ACCEPTED);
				rejected(is, &a, base + k);
			}
		}
		assert_int_equal(spend(is, &a, base).base, base + 1);
		issued_free(is);
	}
}

static void test_wrap_at_zero(void **state)
{
	struct issued *is = start();
	struct issued_answer a;

	(void)state;
	next_base = 0xfffffff0u;
	a = open_one(is, "u", 1, 64);
	assert_int_equal(a.base, 0xfffffff0u);
	accepted(is, &a, 0x0f, 0xfffffff0u);
	accepted(is, &a, 0x00, 0xfffffff0u);
	accepted(is, &a, 0xffffffffu, 0xfffffff0u);
	rejected(is, &a, 0x00);
	rejected(is, &a, 0x30); /* the window ends at 0x2f */
	rejected(is, &a, 0xffffffefu);
	accepted(is, &a, 0x2f, 0x10); /* upper half: up to 0x0f, which is spent */
	rejected(is, &a, 0xfffffff1u);
	accepted(is, &a, 0x10, 0x11);
	issued_free(is);
}

/* ---- many threads, one token each may have once ---- */

#define THREADS 4
#define TOKENS  500

struct shared {
	struct issued *is;
	struct issued_answer a;
	atomic_uint accepted;
};

static void *spender(void *arg)
{
	struct shared *s = arg;

	for (uint32_t i = 0; i < TOKENS; i++) {
		struct issued_ask ask = {.spend = true, .token = s->a.base + i};
		struct issued_answer out;
		if (issued_use(s->is, s->a.id, sizeof(s->a.id), 1, &ask, &out) &&
		    out.token == TOKEN_ACCEPTED)
			atomic_fetch_add(&s->accepted, 1);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct issued_limits wide = small;
	struct shared s;
	pthread_t threads[THREADS];

	(void)state;
	wide.max_window = 1024;
	s.is = issued_new(&wide);
	assert_non_null(s.is);
	s.a = open_one(s.is, "u", 1, 1024);
	atomic_init(&s.accepted, 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, spender, &s), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&s.accepted), TOKENS);
	issued_free(s.is);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_use_end),
		cmocka_unit_test(test_expiry),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_revoke),
		cmocka_unit_test(test_window_size),
		cmocka_unit_test(test_one_window),
		cmocka_unit_test(test_token_at_opening),
		cmocka_unit_test(test_spend),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_wrap_at_zero),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
