/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The redirector's side of idempotence tokens, and the session they belong to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "libsocks6/socks6.h"
#include "redir/session.h"
#include "redir/tokens.h"

/* Exactly n are left, from first on. */
static void take_all(struct tokens *t, uint32_t first, uint32_t n)
{
	uint32_t token;

	for (uint32_t i = 0; i < n; i++) {
		assert_int_equal(tokens_left(t), n - i);
		assert_true(tokens_take(t, &token));
		assert_int_equal(token, first + i);
	}
	assert_int_equal(tokens_left(t), 0);
	token = 4711;
	assert_false(tokens_take(t, &token));
	assert_int_equal(token, 4711);
}

static struct tokens window(uint32_t base, uint32_t size)
{
	struct tokens t;

	memset(&t, 0xff, sizeof(t));
	tokens_init(&t);
	assert_int_equal(tokens_left(&t), 0);
	tokens_update(&t, base, size);
	return t;
}

static void take(struct tokens *t, unsigned n)
{
	uint32_t token;

	while (n-- > 0)
		assert_true(tokens_take(t, &token));
}

static void test_one_window(void **state)
{
	struct tokens t;

	(void)state;
	tokens_init(&t);
	take_all(&t, 0, 0);
	t = window(100, 1);
	take_all(&t, 100, 1);
	t = window(0, 5);
	take_all(&t, 0, 5);
	t = window(0x80000000u, 64);
	take_all(&t, 0x80000000u, 64);
}

static void test_moves(void **state)
{
	struct tokens t = window(100, 10);

	(void)state;
	take(&t, 3);
	tokens_update(&t, 102, 10); /* less far than we are */
	assert_int_equal(tokens_left(&t), 9);
	tokens_update(&t, 103, 10); /* just as far */
	assert_int_equal(tokens_left(&t), 10);
	tokens_update(&t, 110, 10); /* farther: 103 to 109 are given up */
	take_all(&t, 110, 10);
	tokens_update(&t, 115, 10);
	take_all(&t, 120, 5);
	tokens_update(&t, 5000, 4); /* far beyond */
	take_all(&t, 5000, 4);
}

static void test_size_changes(void **state)
{
	struct tokens t = window(100, 10);

	(void)state;
	take(&t, 5);
	tokens_update(&t, 100, 6);
	assert_int_equal(tokens_left(&t), 1);
	tokens_update(&t, 100, 5); /* ends where we are */
	take_all(&t, 0, 0);
	tokens_update(&t, 100, 3); /* ends before */
	take_all(&t, 0, 0);
	tokens_update(&t, 101, 1);
	take_all(&t, 0, 0);
	tokens_update(&t, 101, 20); /* those given up by nobody come in their order */
	take_all(&t, 105, 16);
}

static void test_older_is_ignored(void **state)
{
	struct tokens t = window(100, 10);

	(void)state;
	take(&t, 4);
	tokens_update(&t, 99, 1000);
	tokens_update(&t, 0, 1000);
	tokens_update(&t, 100u - 0x7fffffffu, S6_WINDOW_MAX);
	assert_int_equal(tokens_left(&t), 6);
	take_all(&t, 104, 6);
	tokens_update(&t, 99, 1000);
	take_all(&t, 0, 0);
}

/* It would open the door for any other, older ones too. */
static void test_window_of_none(void **state)
{
	struct tokens t = window(100, 10);

	(void)state;
	take(&t, 4);
	tokens_update(&t, 100, 0);
	tokens_update(&t, 102, 0);
	tokens_update(&t, 100, 10);
	take_all(&t, 104, 6);
}

static void test_wrap(void **state)
{
	struct tokens t = window(0xfffffffcu, 4); /* ends at 2^32 */

	(void)state;
	take_all(&t, 0xfffffffcu, 4);
	tokens_update(&t, 0, 2);
	take_all(&t, 0, 2);

	t = window(0xfffffffeu, 6); /* across */
	take(&t, 3);
	assert_int_equal(t.next, 1);
	tokens_update(&t, 0xffffffffu, 6); /* moves, ours is behind the wrap */
	assert_int_equal(tokens_left(&t), 4);
	tokens_update(&t, 0xfffffff0u, 600); /* older */
	tokens_update(&t, 0, 6);
	tokens_update(&t, 0xffffffffu, 600); /* older, on the other side */
	take_all(&t, 1, 5);

	t = window(0xfffffff0u, 64);
	take(&t, 2);
	tokens_update(&t, 0x10, 2); /* jumps across */
	take_all(&t, 0x10, 2);
}

static void test_largest_window(void **state)
{
	static const uint32_t bases[] = {0, 1, 0x7fffffffu, 0x80000000u, 0xffffffffu};

	(void)state;
	for (size_t i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
		struct tokens t = window(bases[i], S6_WINDOW_MAX);
		take(&t, 1);
		assert_int_equal(tokens_left(&t), S6_WINDOW_MAX - 1);
		tokens_update(&t, bases[i] + 0x7fffffffu, 2);
		take_all(&t, bases[i] + 0x7fffffffu, 2);
	}
}

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* A proxy that moves its window by chance, and replies that come late: every token is in the
 * window of its time, higher than the last, and so never one of those before. */
static void test_random_moves(void **state)
{
	(void)state;
	for (uint32_t run = 0; run < 200; run++) {
		uint32_t seed = run, start = 0u - next_random(&seed) % 3000, base = start;
		uint32_t old[16], size = 1 + next_random(&seed) % 100, given = 0, token, last = 0;
		struct tokens t = window(base, size);

		for (size_t i = 0; i < 16; i++)
			old[i] = base;
		for (unsigned step = 0; step < 500; step++) {
			uint32_t dice = next_random(&seed) % 10;

			if (dice == 0) {
				base += next_random(&seed) % 60;
				size = 1 + next_random(&seed) % 100;
				tokens_update(&t, base, size);
				old[step % 16] = base;
			} else if (dice == 1 && old[step % 16] != base) {
				tokens_update(&t, old[step % 16], 1 + next_random(&seed) % 200);
			} else if (tokens_take(&t, &token)) {
				assert_true(s6_token_in(token, base, size));
				assert_true(given == 0 || s6_token_less(last, token));
				last = token;
				given++;
			} else {
				assert_false(s6_token_in(t.next, base, size));
			}
		}
		assert_true(given > 50);
	}
}

/* ---- sessions ---- */

static const uint8_t octets[SESSION_ID_MAX + 1] = "an ID";

static void test_ids(void **state)
{
	static const uint8_t other[] = "another one";
	struct session s = {0};

	(void)state;
	assert_false(session_open(&s, octets, 0));
	assert_false(session_open(&s, octets, SESSION_ID_MAX + 1));
	assert_true(!s.valid && s.number == 0);
	assert_true(session_open(&s, octets, SESSION_ID_MAX));
	assert_true(s.valid && s.id_len == SESSION_ID_MAX);
	assert_memory_equal(s.id, octets, SESSION_ID_MAX);
	assert_int_equal(s.number, 1);
	session_window(&s, 1, 100, 10);
	assert_false(session_open(&s, other, 0)); /* what cannot be used changes nothing */
	assert_false(session_open(&s, other, SESSION_ID_MAX + 1));
	assert_true(s.valid && s.number == 1 && s.id_len == SESSION_ID_MAX);
	assert_int_equal(tokens_left(&s.tokens), 10);
	assert_true(session_open(&s, other, sizeof(other)));
	assert_true(s.valid && s.number == 2 && s.id_len == sizeof(other));
	assert_memory_equal(s.id, other, sizeof(other));
}

static void test_lost_by_number(void **state)
{
	struct session s = {0};
	uint32_t token;

	(void)state;
	assert_false(session_lost(&s, 0)); /* there has been none */
	assert_true(session_open(&s, octets, 4));
	session_window(&s, s.number, 100, 10);
	assert_false(session_lost(&s, 0));
	assert_false(session_lost(&s, 2));
	assert_true(s.valid);
	assert_int_equal(tokens_left(&s.tokens), 10);
	assert_true(session_lost(&s, 1));
	assert_false(s.valid);
	assert_false(tokens_take(&s.tokens, &token));
	assert_false(session_lost(&s, 1)); /* said by the next connection as well */
	session_window(&s, 1, 100, 10);    /* late */
	assert_false(tokens_take(&s.tokens, &token));
}

/* A successor has a window of its own, and nothing said about the old one touches it. */
static void test_replaced(void **state)
{
	struct session s = {0};

	(void)state;
	assert_true(session_open(&s, octets, 4));
	session_window(&s, 1, 5000, 10);
	take(&s.tokens, 3);
	assert_true(session_open(&s, octets, 8));
	assert_int_equal(tokens_left(&s.tokens), 0);
	session_window(&s, 1, 6000, 10);
	assert_int_equal(tokens_left(&s.tokens), 0);
	session_window(&s, 2, 40, 10); /* lower than the old one's */
	assert_int_equal(tokens_left(&s.tokens), 10);
	assert_false(session_lost(&s, 1));
	session_window(&s, 1, 6000, 10);
	session_window(&s, 3, 6000, 10);
	take_all(&s.tokens, 40, 10);
	assert_true(session_lost(&s, 2));
	assert_true(session_open(&s, octets, 4));
	assert_int_equal(s.number, 3);
	assert_true(s.valid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_window),
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_size_changes),
		cmocka_unit_test(test_older_is_ignored),
		cmocka_unit_test(test_window_of_none),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_largest_window),
		cmocka_unit_test(test_random_moves),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_lost_by_number),
		cmocka_unit_test(test_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
