/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/buf.h"

static void borrow_and_return(void **state)
{
	struct bufpool p;
	struct buf b = {.mem = NULL};
	size_t room;

	(void)state;
	bufpool_init(&p, 4);
	assert_null(buf_data(&b));
	assert_non_null(buf_room(&b, &p, &room));
	assert_int_equal(room, BUF_SIZE);
	assert_int_equal(p.lent, 1);
	assert_null(buf_data(&b)); /* lent, but without bytes */
	buf_clear(&b, &p);
	assert_int_equal(p.lent, 0);
	assert_int_equal(p.free[0].count, 1);

	assert_int_equal(buf_put(&b, &p, "hello", 5), 5);
	assert_memory_equal(buf_data(&b), "hello", 5);
	assert_int_equal(p.free[0].count, 0); /* the same block again */
	buf_consume(&b, &p, 2);
	assert_memory_equal(buf_data(&b), "llo", 3);
	buf_consume(&b, &p, 3);
	assert_null(b.mem);
	assert_int_equal(p.lent, 0);
	buf_clear(&b, &p); /* twice is once */
	assert_int_equal(buf_put(&b, &p, "", 0), 0);
	assert_int_equal(p.lent, 0);
	bufpool_fini(&p);
}

static void full(void **state)
{
	static uint8_t big[BUF_SIZE + 10];
	struct bufpool p;
	struct buf b = {.mem = NULL};
	size_t room = 1;

	(void)state;
	memset(big, 'x', sizeof(big));
	bufpool_init(&p, 0);
	assert_int_equal(buf_put(&b, &p, big, sizeof(big)), BUF_SIZE);
	assert_null(buf_room(&b, &p, &room));
	assert_int_equal(room, 0);
	assert_int_equal(buf_put(&b, &p, "y", 1), 0);
	/* what was consumed in front is room behind, after a move */
	buf_consume(&b, &p, 3);
	assert_non_null(buf_room(&b, &p, &room));
	assert_int_equal(room, 3);
	assert_int_equal(buf_put(&b, &p, "1234", 4), 3);
	assert_int_equal(b.len, BUF_SIZE);
	assert_memory_equal(buf_data(&b) + BUF_SIZE - 4, "x123", 4);
	buf_clear(&b, &p);
	assert_int_equal(p.free[0].count, 0); /* keep is 0 */
	bufpool_fini(&p);
}

/* Big ones are counted, kept and freed as what they are. */
static void big_ones(void **state)
{
	static uint8_t data[BUF_BIG + 1];
	struct bufpool p;
	struct buf b = {.big = true}, small = {.mem = NULL};

	(void)state;
	bufpool_init(&p, 4);
	assert_int_equal(buf_put(&small, &p, "x", 1), 1);
	assert_int_equal(buf_put(&b, &p, data, sizeof(data)), BUF_BIG);
	assert_int_equal(p.lent, 2);
	assert_int_equal(p.lent_bytes, BUF_SIZE + BUF_BIG);
	buf_consume(&b, &p, BUF_BIG);
	assert_false(b.big);
	assert_int_equal(p.lent_bytes, BUF_SIZE);
	assert_int_equal(p.free[1].count, 1);
	assert_int_equal(p.free[0].count, 0);
	buf_clear(&small, &p);
	assert_int_equal(p.free[0].count, 1);
	b.big = true;
	assert_int_equal(buf_put(&b, &p, data, 1), 1);
	assert_int_equal(p.free[1].count, 0); /* the same block again */
	buf_clear(&b, &p);
	bufpool_fini(&p);
}

static void keeps_some(void **state)
{
	struct bufpool p;
	struct buf b[5];

	(void)state;
	memset(b, 0, sizeof(b));
	bufpool_init(&p, 2);
	for (int i = 0; i < 5; i++)
		assert_int_equal(buf_put(&b[i], &p, "a", 1), 1);
	assert_int_equal(p.lent, 5);
	for (int i = 0; i < 5; i++)
		buf_consume(&b[i], &p, 1);
	assert_int_equal(p.lent, 0);
	assert_int_equal(p.free[0].count, 2);
	bufpool_fini(&p);
	assert_int_equal(p.free[0].count, 0);
}

/* What is taken and given back all the time stays; what is not wanted any more does not. */
static void trims(void **state)
{
	struct bufpool p;
	struct buf b[8], big = {.big = true};

	(void)state;
	memset(b, 0, sizeof(b));
	bufpool_init(&p, 32);
	bufpool_trim(&p); /* nothing there */
	for (int i = 0; i < 8; i++)
		assert_int_equal(buf_put(&b[i], &p, "a", 1), 1);
	assert_int_equal(buf_put(&big, &p, "a", 1), 1);
	bufpool_trim(&p); /* what is lent stays */
	assert_int_equal(p.lent, 9);
	for (int i = 0; i < 8; i++)
		buf_clear(&b[i], &p);
	buf_clear(&big, &p);
	bufpool_trim(&p); /* wanted until just now */
	assert_int_equal(p.free[0].count, 8);
	assert_int_equal(p.free[1].count, 1);
	for (int turn = 0; turn < 5; turn++) {
		for (int i = 0; i < 3; i++)
			assert_int_equal(buf_put(&b[i], &p, "a", 1), 1);
		for (int i = 0; i < 3; i++)
			buf_clear(&b[i], &p);
		bufpool_trim(&p);
		assert_int_equal(p.free[0].count, 3);
		assert_int_equal(p.free[1].count, 0);
	}
	bufpool_trim(&p);
	assert_int_equal(p.free[0].count, 0);
	bufpool_fini(&p);
}

/* Random puts and takes: the stream that comes out is the one that went in. */
static void stream(void **state)
{
	struct bufpool p;
	struct buf b = {.mem = NULL};
	uint32_t in = 0, out = 0, rnd = 12345;
	uint8_t chunk[20000];

	(void)state;
	bufpool_init(&p, 1);
	for (int turn = 0; turn < 2000; turn++) {
		size_t n, done;

		rnd = rnd * 1664525u + 1013904223u;
		n = (rnd >> 8) % sizeof(chunk);
		for (size_t i = 0; i < n; i++)
			chunk[i] = (uint8_t)((in + i) * 31 >> 3);
		done = buf_put(&b, &p, chunk, n);
		assert_int_equal(done, n < BUF_SIZE - (in - out) ? n : BUF_SIZE - (in - out));
		in += (uint32_t)done;
		assert_int_equal(b.len, in - out);
		rnd = rnd * 1664525u + 1013904223u;
		n = (rnd >> 8) % sizeof(chunk);
		if (n > b.len)
			n = b.len;
		for (size_t i = 0; i < n; i++)
			assert_int_equal(buf_data(&b)[i], (uint8_t)((out + i) * 31 >> 3));
		buf_consume(&b, &p, n);
		out += (uint32_t)n;
		assert_int_equal(p.lent, in != out);
	}
	assert_true(in > 10 * BUF_SIZE);
	buf_clear(&b, &p);
	bufpool_fini(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(borrow_and_return),
		cmocka_unit_test(full),
		cmocka_unit_test(big_ones),
		cmocka_unit_test(keeps_some),
		cmocka_unit_test(trims),
		cmocka_unit_test(stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
