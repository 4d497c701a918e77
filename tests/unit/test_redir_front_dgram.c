/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The header of SOCKS 5 datagrams, cut at every length. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redir/front_dgram.h"
#include "s6_hex.h"

/* Of the octets as hex, which end where the block does. Shorter than `head` it is none. */
static bool parse(const char *hex, size_t head, struct front_dgram *d, uint8_t **block)
{
	size_t len;

	*block = hex_block(hex, &len);
	for (size_t n = 0; n < head; n++) {
		uint8_t *cut = block_of(*block, n);

		assert_false(front_dgram_parse(cut, n, d));
		free(cut);
	}
	for (size_t n = head; head && n < len; n++) {
		uint8_t *cut = block_of(*block, n);

		assert_true(front_dgram_parse(cut, n, d));
		assert_int_equal(d->len, n - head);
		free(cut);
	}
	return front_dgram_parse(*block, len, d);
}

static void test_v4(void **state)
{
	const uint8_t ip[4] = {203, 0, 113, 5};
	struct front_dgram d;
	uint8_t *block;

	(void)state;
	assert_true(parse("0000 00 01 CB007105 1B58 6869", 10, &d, &block));
	assert_int_equal(d.frag, 0);
	assert_int_equal(d.dst.type, S6_ADDR_IPV4);
	assert_memory_equal(d.dst.u.ip4, ip, 4);
	assert_int_equal(d.dst.port, 7000);
	assert_int_equal(d.len, 2);
	assert_memory_equal(d.data, "hi", 2);
	free(block);
}

static void test_v6(void **state)
{
	const uint8_t ip[16] = {0x20, 1, 0x0d, 0xb8, [15] = 1};
	struct front_dgram d;
	uint8_t *block;

	(void)state;
	assert_true(parse("0000 00 04 20010DB8000000000000000000000001 0035 78", 22, &d, &block));
	assert_int_equal(d.dst.type, S6_ADDR_IPV6);
	assert_memory_equal(d.dst.u.ip6, ip, 16);
	assert_int_equal(d.dst.port, 53);
	assert_int_equal(d.len, 1);
	free(block);
}

static void test_names(void **state)
{
	const uint8_t ip[4] = {192, 0, 2, 1};
	struct front_dgram d;
	uint8_t *block;

	(void)state;
	assert_true(parse("0000 00 03 03 612E62 0035 78", 10, &d, &block)); /* a.b */
	assert_int_equal(d.dst.type, S6_ADDR_NAME);
	assert_string_equal(d.dst.u.name, "a.b");
	assert_int_equal(d.dst.name_len, 3);
	assert_int_equal(d.dst.port, 53);
	free(block);
	/* 192.0.2.1 */
	assert_true(parse("0000 00 03 09 3139322E302E322E31 0035", 16, &d, &block));
	assert_int_equal(d.dst.type, S6_ADDR_IPV4);
	assert_memory_equal(d.dst.u.ip4, ip, 4);
	assert_int_equal(d.len, 0);
	free(block);
}

static void test_longest_name(void **state)
{
	uint8_t in[5 + 255 + 2];
	struct front_dgram d;

	(void)state;
	memset(in, 'a', sizeof(in));
	memcpy(in, "\0\0\0\3\xff", 5);
	for (size_t n = 0; n < sizeof(in); n++) {
		uint8_t *cut = block_of(in, n);

		assert_false(front_dgram_parse(cut, n, &d));
		free(cut);
	}
	assert_true(front_dgram_parse(in, sizeof(in), &d));
	assert_int_equal(d.dst.name_len, 255);
	assert_int_equal(strlen(d.dst.u.name), 255);
}

static void test_none(void **state)
{
	static const char *const bad[] = {
		"0000 00 01 CB007105 0000 6869",  /* port 0 */
		"0000 00 02 CB007105 1B58 6869",  /* no such type */
		"0000 00 00 CB007105 1B58 6869",  /* nor this */
		"0000 00 03 00 1B58 6869",        /* no name */
		"0000 00 03 03 610062 1B58 6869", /* NUL in it */
		"0000 00 03 03 612062 1B58 6869", /* no name's octet */
		"0000 00 03 FF 616263 1B58 6869", /* longer than the datagram */
	};
	struct front_dgram d;
	uint8_t *block;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(parse(bad[i], 0, &d, &block));
		free(block);
	}
}

static void test_fragment(void **state)
{
	struct front_dgram d;
	uint8_t *block;

	(void)state;
	assert_true(parse("0000 81 01 CB007105 1B58 6869", 10, &d, &block));
	assert_int_equal(d.frag, 0x81);
	free(block);
}

static void test_heads(void **state)
{
	const struct s6_address v4 = {
		.type = S6_ADDR_IPV4, .port = 7000, .u.ip4 = {203, 0, 113, 5}};
	const struct s6_address v6 = {
		.type = S6_ADDR_IPV6, .port = 53, .u.ip6 = {0x20, 1, 0x0d, 0xb8, [15] = 1}};
	uint8_t head[FRONT_DGRAM_HEAD];
	struct front_dgram d;

	(void)state;
	assert_int_equal(front_dgram_head(&v4, head), 10);
	assert_memory_equal(head, "\0\0\0\1\xcb\0\x71\5\x1b\x58", 10);
	assert_int_equal(front_dgram_head(&v6, head), 22);
	assert_true(front_dgram_parse(head, 22, &d));
	assert_memory_equal(d.dst.u.ip6, v6.u.ip6, 16);
	assert_int_equal(d.dst.port, 53);
	assert_int_equal(d.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_v4),    cmocka_unit_test(test_v6),
		cmocka_unit_test(test_names), cmocka_unit_test(test_longest_name),
		cmocka_unit_test(test_none),  cmocka_unit_test(test_fragment),
		cmocka_unit_test(test_heads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
