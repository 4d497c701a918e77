/* SPDX-License-Identifier: MIT */
/* UDP messages: the two forms of a Datagram, its limits, and what an Error may name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "libsocks6/socks6.h"
#include "s6_hex.h"

static void test_datagram_header_alone(void **state)
{
	struct s6_udp msg = {.type = S6_UDP_DATAGRAM, .association = 1}, got;
	uint8_t whole[64], header[64];
	size_t whole_len, header_len;

	(void)state;
	msg.addr.type = S6_ADDR_IPV4;
	msg.payload = (const uint8_t *)"hello";
	msg.payload_len = 5;
	assert_int_equal(s6_udp_build(&msg, whole, sizeof(whole), &whole_len), S6_OK);
	msg.payload = NULL;
	assert_int_equal(s6_udp_build(&msg, header, sizeof(header), &header_len), S6_OK);
	assert_int_equal(header_len, 20);
	assert_int_equal(whole_len, 25);
	assert_memory_equal(header, whole, header_len);
	assert_int_equal(s6_udp_build(&msg, header, 20, &header_len), S6_OK);
	assert_int_equal(s6_udp_build(&msg, header, 19, &header_len), S6_MORE);
	assert_int_equal(s6_udp_parse_packet(whole, whole_len, &got, NULL), S6_OK);
	assert_memory_equal(got.payload, "hello", 5);
}

static void test_largest_datagram(void **state)
{
	static uint8_t payload[UINT16_MAX], wire[UINT16_MAX + 1];
	struct s6_udp msg = {.type = S6_UDP_DATAGRAM}, got;
	size_t len = 4711, used;

	(void)state;
	msg.addr.type = S6_ADDR_IPV4;
	msg.payload = payload;
	msg.payload_len = UINT16_MAX - 20;
	assert_int_equal(s6_udp_build(&msg, wire, sizeof(wire), &len), S6_OK);
	assert_int_equal(len, UINT16_MAX);
	assert_int_equal(s6_udp_parse_stream(wire, len, &got, &used, NULL), S6_OK);
	assert_int_equal(used, UINT16_MAX);
	assert_int_equal(s6_udp_build(&msg, wire, UINT16_MAX - 1, &len), S6_MORE);
	msg.payload_len++;
	for (size_t cap = 0; cap <= sizeof(wire); cap += 4096)
		assert_int_equal(s6_udp_build(&msg, wire, cap, &len), S6_BAD);
}

static void test_messages_that_do_not_exist(void **state)
{
	struct s6_udp msg = {.error = S6_UDP_ERR_TTL_EXPIRED};
	uint8_t wire[600];
	size_t len;

	(void)state;
	msg.addr.type = msg.reporter.type = S6_ADDR_IPV4;
	for (unsigned type = 0; type < 256; type++) {
		msg.type = (uint8_t)type;
		assert_int_equal(s6_udp_build(&msg, wire, sizeof(wire), &len),
				 type >= S6_UDP_INIT && type <= S6_UDP_ERROR ? S6_OK : S6_BAD);
	}
	msg.type = S6_UDP_ERROR; /* its addresses are numbers */
	msg.addr.type = S6_ADDR_NAME;
	msg.addr.name_len = 1;
	msg.addr.u.name[0] = 'a';
	assert_int_equal(s6_udp_build(&msg, wire, sizeof(wire), &len), S6_BAD);
	msg.reporter = msg.addr;
	msg.addr.type = S6_ADDR_IPV6;
	assert_int_equal(s6_udp_build(&msg, wire, sizeof(wire), &len), S6_BAD);
	msg.reporter.type = S6_ADDR_IPV6;
	assert_int_equal(s6_udp_build(&msg, wire, sizeof(wire), &len), S6_OK);
}

static void test_error_addresses_are_numbers(void **state)
{
	static const char *const bad[] = {
		"0604001C 11223344 55667788 03000001 03616263 01030000 C0000202",
		"0604001C 11223344 55667788 01000001 C0000201 03030000 03616263",
		"0604001C 11223344 55667788 01000001 C0000201 02030000 C0000202",
		"0604001C 11223344 55667788 00000001 C0000201 01030000 C0000202",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		size_t len;
		uint8_t *wire = hex_block(bad[i], &len);
		struct s6_udp msg;

		assert_int_equal(s6_udp_parse_packet(wire, len, &msg, NULL), S6_BAD);
		free(wire);
	}
}

/* Four octets behind the reporter of "too big" only; whatever else is there is passed over. */
static void test_error_mtu(void **state)
{
	struct s6_udp msg = {.type = S6_UDP_ERROR, .error = S6_UDP_ERR_TOO_BIG, .mtu = 1280}, got;
	uint8_t wire[S6_UDP_ERROR_MAX + 1];
	size_t len, used;

	(void)state;
	msg.addr.type = msg.reporter.type = S6_ADDR_IPV6;
	assert_int_equal(s6_udp_build(&msg, wire, sizeof(wire), &len), S6_OK);
	assert_int_equal(len, S6_UDP_ERROR_MAX);
	assert_memory_equal(wire + len - 4, "\0\0\5\0", 4);
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(s6_udp_parse_stream(wire, cut, &got, &used, NULL), S6_MORE);
	assert_int_equal(s6_udp_parse_stream(wire, len, &got, &used, NULL), S6_OK);
	assert_int_equal(got.mtu, 1280);
	for (unsigned less = 1; less <= 4; less++) { /* a shorter message: as of the draft */
		wire[3] = (uint8_t)(len - less);
		assert_int_equal(s6_udp_parse_packet(wire, len, &got, NULL), S6_OK);
		assert_int_equal(got.mtu, 0);
	}
	wire[3] = (uint8_t)(len - 5);
	assert_int_equal(s6_udp_parse_packet(wire, len, &got, NULL), S6_BAD);
	msg.error = S6_UDP_ERR_TTL_EXPIRED;
	assert_int_equal(s6_udp_build(&msg, wire, sizeof(wire), &len), S6_OK);
	assert_int_equal(len, S6_UDP_ERROR_MAX - 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_datagram_header_alone),
		cmocka_unit_test(test_largest_datagram),
		cmocka_unit_test(test_messages_that_do_not_exist),
		cmocka_unit_test(test_error_addresses_are_numbers),
		cmocka_unit_test(test_error_mtu),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
