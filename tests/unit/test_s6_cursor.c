/* SPDX-License-Identifier: MIT */
/* The reader and the writer never leave their buffer, and a failed step changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "libsocks6/cursor.h"
#include "s6_hex.h"

static const uint8_t octets[] = {0xf1, 0xe2, 0xd3, 0xc4, 0xb5, 0xa6, 0x97, 0x88, 0x79};

static void test_read_values(void **state)
{
	struct reader r = reader_of(octets, sizeof(octets));
	uint8_t a;
	uint16_t b;
	uint32_t c;
	uint64_t d;

	(void)state;
	assert_true(read_u8(&r, &a));
	assert_int_equal(a, 0xf1);
	assert_true(read_u16(&r, &b));
	assert_int_equal(b, 0xe2d3);
	assert_true(read_u32(&r, &c));
	assert_int_equal(c, 0xc4b5a697);
	assert_int_equal(r.left, 2);
	r = reader_of(octets + 1, 8); /* not aligned */
	assert_true(read_u64(&r, &d));
	assert_true(d == 0xe2d3c4b5a6978879u);
	assert_int_equal(r.left, 0);
}

/* Each getter with each number of octets that is too small. */
static void test_short_reads_consume_nothing(void **state)
{
	(void)state;
	for (size_t n = 0; n < 8; n++) {
		uint8_t *block = block_of(octets, n), a = 7;
		struct reader r = reader_of(block, n), sub = {NULL, 4711};
		const uint8_t *p = octets;
		uint16_t b = 7;
		uint32_t c = 7;
		uint64_t d = 7;

		if (n < 1)
			assert_false(read_u8(&r, &a));
		if (n < 2)
			assert_false(read_u16(&r, &b));
		if (n < 4)
			assert_false(read_u32(&r, &c));
		assert_false(read_u64(&r, &d));
		assert_false(read_bytes(&r, n + 1, &p));
		assert_false(read_bytes(&r, SIZE_MAX, &p));
		assert_false(read_sub(&r, n + 1, &sub));
		assert_false(read_sub(&r, SIZE_MAX, &sub));
		assert_true(a == 7 && b == 7 && c == 7 && d == 7);
		assert_ptr_equal(p, octets);
		assert_int_equal(sub.left, 4711);
		assert_ptr_equal(r.at, block);
		assert_int_equal(r.left, n);
		free(block);
	}
}

static void test_sub_reader_ends_at_its_length(void **state)
{
	struct reader r = reader_of(octets, sizeof(octets)), sub;
	uint32_t v;
	uint16_t w;

	(void)state;
	assert_true(read_sub(&r, 3, &sub));
	assert_false(read_u32(&sub, &v)); /* although the octets behind are there */
	assert_true(read_u16(&sub, &w));
	assert_int_equal(sub.left, 1);
	assert_int_equal(r.left, sizeof(octets) - 3);
	assert_true(read_u16(&r, &w));
	assert_int_equal(w, 0xc4b5);
}

static void test_nothing_to_read(void **state)
{
	struct reader r = reader_of(NULL, 0), sub;
	const uint8_t *p;

	(void)state;
	assert_true(read_bytes(&r, 0, &p));
	assert_true(read_sub(&r, 0, &sub));
	assert_int_equal(sub.left, 0);
	assert_false(read_bytes(&r, 1, &p));
}

static void write_all(struct writer *w)
{
	write_u8(w, 0xf1);
	write_u16(w, 0xe2d3);
	write_u32(w, 0xc4b5a697);
	write_u64(w, 0x0102030405060708u);
	write_bytes(w, "ab", 2);
	write_zeros(w, 3);
}

static void test_write_into_every_room(void **state)
{
	static const char want[] = "\xf1\xe2\xd3\xc4\xb5\xa6\x97\1\2\3\4\5\6\7\10ab\0\0";

	(void)state;
	for (size_t cap = 0; cap <= sizeof(want) + 2; cap++) {
		uint8_t *block = block_of("????????????????????????", cap);
		struct writer w = writer_of(block, cap);

		write_all(&w);
		assert_int_equal(w.full, cap < sizeof(want));
		assert_int_equal(w.len, sizeof(want)); /* counted even if there is no room */
		if (!w.full)
			assert_memory_equal(block, want, sizeof(want));
		for (size_t i = sizeof(want); i < cap; i++)
			assert_int_equal(block[i], '?');
		free(block);
	}
}

static void test_nothing_is_written_after_the_end(void **state)
{
	uint8_t block[2] = {'?', '?'};
	struct writer w = writer_of(block, sizeof(block));

	(void)state;
	write_bytes(&w, "123", 3);
	assert_true(w.full);
	write_u8(&w, 2); /* would fit, but the message is broken already */
	assert_true(w.full);
	assert_memory_equal(block, "??", 2);
}

static void test_write_at_an_offset(void **state)
{
	uint8_t block[4] = {0};
	struct writer w = writer_of(block, sizeof(block));

	(void)state;
	write_u16_at(&w, 0, 0x1111); /* not written yet: nothing happens */
	write_u8(&w, 9);
	write_u16_at(&w, 0, 0x1111);
	assert_memory_equal(block, "\t\0\0\0", 4);
	write_zeros(&w, 3);
	write_u16_at(&w, 2, 0x0a0b);
	write_u16_at(&w, 3, 0x1111);
	write_u16_at(&w, SIZE_MAX, 0x1111);
	assert_memory_equal(block, "\t\0\n\13", 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_values),
		cmocka_unit_test(test_short_reads_consume_nothing),
		cmocka_unit_test(test_sub_reader_ends_at_its_length),
		cmocka_unit_test(test_nothing_to_read),
		cmocka_unit_test(test_write_into_every_room),
		cmocka_unit_test(test_nothing_is_written_after_the_end),
		cmocka_unit_test(test_write_at_an_offset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
