/* SPDX-License-Identifier: MIT */
/* What the builders of messages refuse, at every size of the buffer, and what they leave out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "libsocks6/socks6.h"

static const uint8_t octets[UINT16_MAX];

/* S6_BAD is the answer however large the buffer is, and nothing is said about its length. */
static void assert_unbuildable(const struct s6_request *req, const struct s6_auth_reply *reply)
{
	static uint8_t wire[65536];
	size_t len = 4711;

	for (size_t cap = 0; cap <= sizeof(wire); cap += cap < 64 ? 1 : 4096) {
		if (req)
			assert_int_equal(s6_request_build(req, wire, cap, &len), S6_BAD);
		if (reply)
			assert_int_equal(s6_auth_reply_build(reply, wire, cap, &len), S6_BAD);
	}
	assert_int_equal(len, 4711);
}

static struct s6_request connect_request(void)
{
	return (struct s6_request){.command = S6_CMD_CONNECT, .addr = {.type = S6_ADDR_IPV4}};
}

static void test_addresses(void **state)
{
	struct s6_request req = connect_request();

	(void)state;
	for (unsigned type = 0; type < 256; type++) {
		req.addr.type = (uint8_t)type;
		if (type != S6_ADDR_IPV4 && type != S6_ADDR_IPV6) /* a name: it is empty */
			assert_unbuildable(&req, NULL);
	}
	req.addr.type = S6_ADDR_NAME;
	memcpy(req.addr.u.name, "a\0b", 3);
	req.addr.name_len = 3;
	assert_unbuildable(&req, NULL);
}

static void test_stack_values(void **state)
{
	static const struct {
		enum s6_stack_id id;
		uint16_t value;
	} bad[] = {
		{S6_STACK_TOS_CLIENT, 256},
		{S6_STACK_TOS_REMOTE, 256},
		{S6_STACK_TTL_CLIENT, 256},
		{S6_STACK_TTL_REMOTE, 0xffff},
		{S6_STACK_HAPPY_EYEBALLS, 0},
		{S6_STACK_HAPPY_EYEBALLS, 3},
		{S6_STACK_NO_FRAG_CLIENT, 0},
		{S6_STACK_NO_FRAG_REMOTE, 256},
		{S6_STACK_MULTIPATH, 0},
		{S6_STACK_MULTIPATH, 0x102},
		{S6_STACK_UDP_ERROR, 3},
		{S6_STACK_PORT_PARITY, 3 << 8},
		{S6_STACK_PORT_PARITY, 1 << 8 | 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct s6_request req = connect_request();

		s6_stack_set(&req.opts.stack, bad[i].id, bad[i].value);
		assert_unbuildable(&req, NULL);
	}
}

static void test_auth_options(void **state)
{
	struct s6_request req = connect_request();

	(void)state;
	req.opts.has_methods = true;
	req.opts.initial_data_len = S6_INITIAL_DATA_MAX + 1;
	assert_unbuildable(&req, NULL);

	req = connect_request();
	req.opts.n_auth_data = 1;
	req.opts.auth_data[0] = (struct s6_auth_data){S6_METHOD_USERPASS, 0, octets};
	assert_unbuildable(&req, NULL);

	/* more than there is place for */
	for (size_t i = 0; i < S6_AUTH_DATA_MAX; i++)
		req.opts.auth_data[i] = (struct s6_auth_data){(uint8_t)i, 3, octets};
	req.opts.n_auth_data = UINT8_MAX;
	req.opts.session_id_len = 4;
	req.opts.session_id = octets;
	assert_unbuildable(&req, NULL);
	req.opts.session_id_len = 0;

	/* each fits, together they do not */
	req.opts.n_auth_data = S6_AUTH_DATA_MAX;
	for (size_t i = 0; i < S6_AUTH_DATA_MAX; i++)
		req.opts.auth_data[i] = (struct s6_auth_data){(uint8_t)i, 4091, octets};
	req.opts.session_request = true;
	assert_unbuildable(&req, NULL);
	req.opts.session_request = false;
	assert_int_equal(s6_request_build(&req, (uint8_t[20000]){0}, 20000, &(size_t){0}), S6_OK);
	req.opts.n_auth_data = 1;
	req.opts.auth_data[0].len = UINT16_MAX;
	assert_unbuildable(&req, NULL);
}

static void test_session_and_token_options(void **state)
{
	struct s6_auth_reply reply = {.opts = {.has_token_window = true}};
	struct s6_request req = connect_request();

	(void)state;
	req.opts.has_token_request = true; /* for 0 tokens */
	assert_unbuildable(&req, NULL);
	assert_unbuildable(NULL, &reply); /* of 0 tokens */
	reply.opts.token_size = S6_WINDOW_MAX + 1;
	assert_unbuildable(NULL, &reply);

	req = connect_request();
	req.opts.session_id = octets;
	for (uint16_t n = 1; n < 8; n++) {
		req.opts.session_id_len = n;
		if (n % 4 != 0)
			assert_unbuildable(&req, NULL);
	}
	req.opts.session_id_len = S6_SESSION_ID_MAX + 4;
	assert_unbuildable(&req, NULL);
}

/* Options that have no place in a message are not written. */
static void test_options_of_other_messages(void **state)
{
	struct s6_request req = connect_request();
	struct s6_auth_reply auth = {0};
	struct s6_op_reply op = {.bind = {.type = S6_ADDR_IPV4}};
	struct s6_options all = {
		.has_methods = true,
		.has_selection = true,
		.n_auth_data = 1,
		.auth_data[0] = {S6_METHOD_USERPASS, 3, octets},
		.session_request = true,
		.session_id_len = 4,
		.session_id = octets,
		.session_ok = true,
		.session_invalid = true,
		.session_teardown = true,
		.has_token_request = true,
		.token_request = 1,
		.has_token_window = true,
		.token_size = 1,
		.has_token_spend = true,
		.token_accepted = true,
		.token_rejected = true,
	};
	uint8_t wire[256];
	size_t len;

	(void)state;
	s6_stack_set(&all.stack, S6_STACK_TFO, 0);
	req.opts = auth.opts = op.opts = all;
	/* kinds 1 2 4 5 6 10 11 13 */
	assert_int_equal(s6_request_build(&req, wire, sizeof(wire), &len), S6_OK);
	assert_int_equal(len, 12 + 8 + 8 + 8 + 4 + 8 + 4 + 8 + 8);
	/* kinds 3 4 6 8 9 12 14 15 */
	assert_int_equal(s6_auth_reply_build(&auth, wire, sizeof(wire), &len), S6_OK);
	assert_int_equal(len, 4 + 8 + 8 + 8 + 4 + 4 + 12 + 4 + 4);
	/* kinds 1 6 */
	assert_int_equal(s6_op_reply_build(&op, wire, sizeof(wire), &len), S6_OK);
	assert_int_equal(len, 12 + 8 + 8);
}

/* An advertisement without methods says that "none" will do; it still has its 8 octets. */
static void test_empty_advertisement(void **state)
{
	struct s6_request req = connect_request();
	uint8_t wire[64];
	size_t len;

	(void)state;
	req.opts.has_methods = true;
	req.opts.initial_data_len = 0x1234;
	assert_int_equal(s6_request_build(&req, wire, sizeof(wire), &len), S6_OK);
	assert_int_equal(len, 20);
	assert_memory_equal(wire + 12, "\0\2\0\10\x12\x34\0\0", 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_stack_values),
		cmocka_unit_test(test_auth_options),
		cmocka_unit_test(test_session_and_token_options),
		cmocka_unit_test(test_options_of_other_messages),
		cmocka_unit_test(test_empty_advertisement),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
