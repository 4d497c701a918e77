/* SPDX-License-Identifier: MIT */
/* The tables of section 6, written down once more and compared with what the parsers do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "libsocks6/socks6.h"
#include "s6_hex.h"

enum { REQUEST = 1, AUTH = 2, OP = 4 };

/* One message with one option of that kind and Length; its data is 01 01 01 ... */
static enum s6_result parse_one(int in, uint16_t kind, uint16_t length, struct s6_options *o)
{
	uint8_t wire[256] = {6, 0, (uint8_t)(length >> 8), (uint8_t)length};
	struct s6_request req;
	struct s6_auth_reply auth;
	struct s6_op_reply op;
	enum s6_result result;
	size_t at = 4, used;
	uint8_t *block;

	if (in != AUTH) {
		wire[7] = S6_ADDR_IPV4;
		at = 12;
	}
	if (in == REQUEST)
		wire[1] = S6_CMD_CONNECT;
	wire[at] = (uint8_t)(kind >> 8);
	wire[at + 1] = (uint8_t)kind;
	wire[at + 2] = (uint8_t)(length >> 8);
	wire[at + 3] = (uint8_t)length;
	memset(wire + at + 4, 1, length - 4u);
	block = block_of(wire, at + length);
	if (in == REQUEST)
		result = s6_request_parse(block, at + length, &req, &used, NULL);
	else if (in == AUTH)
		result = s6_auth_reply_parse(block, at + length, &auth, &used, NULL);
	else
		result = s6_op_reply_parse(block, at + length, &op, &used, NULL);
	*o = in == REQUEST ? req.opts : in == AUTH ? auth.opts : op.opts;
	free(block);
	return result;
}

/* How many options the structure says there were. */
static int count(const struct s6_options *o)
{
	return (o->stack.present != 0) + o->has_methods + o->has_selection + o->n_auth_data +
	       o->session_request + (o->session_id_len != 0) + o->session_ok + o->session_invalid +
	       o->session_teardown + o->has_token_request + o->has_token_window +
	       o->has_token_spend + o->token_accepted + o->token_rejected;
}

static void test_kind_by_message_and_length(void **state)
{
	static const struct {
		uint16_t kind, min, max;
		int in;
	} table[] = {
		{0, 0, 0, 0},
		{1, 8, 8, REQUEST | OP},
		{2, 8, 9999, REQUEST},
		{3, 8, 8, AUTH},
		{4, 8, 9999, REQUEST | AUTH},
		{5, 4, 4, REQUEST},
		{6, 8, 9999, REQUEST | AUTH | OP},
		{7, 0, 0, 0},
		{8, 4, 4, AUTH},
		{9, 4, 4, AUTH},
		{10, 4, 4, REQUEST},
		{11, 8, 8, REQUEST},
		{12, 12, 12, AUTH},
		{13, 8, 8, REQUEST},
		{14, 4, 4, AUTH},
		{15, 4, 4, AUTH},
		{16, 0, 0, 0},
		{17, 0, 0, 0},
		{18, 0, 0, 0},
		{19, 0, 0, 0},
		{256 + 5, 0, 0, 0},
		{0xfc00, 0, 0, 0},
		{0xffff, 0, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		for (int in = REQUEST; in <= OP; in *= 2) {
			for (uint16_t length = 4; length <= 64; length += 4) {
				bool fits = length >= table[i].min && length <= table[i].max;
				bool here = table[i].in & in;
				/* what is wrong with Stack options is never refused */
				bool refuse = here && !fits && table[i].kind != S6_KIND_STACK;
				struct s6_options o;

				assert_int_equal(parse_one(in, table[i].kind, length, &o), S6_OK);
				assert_int_equal(o.refuse,
						 refuse ? S6_FAULT_CONTENT : S6_FAULT_NONE);
				/* 01 01 0101 is TOS with leg 0, never usable */
				assert_int_equal(count(&o),
						 here && fits && table[i].kind != S6_KIND_STACK);
			}
		}
	}
}

#define NOWHERE S6_STACK_COUNT

static const struct stack {
	uint8_t level, code;
	enum s6_stack_id client, remote;
	enum { OCTET, AVAILABILITY, AVAILABILITY_10, NUMBER, PARITY } value;
} stack_table[] = {
	{1, 1, S6_STACK_TOS_CLIENT, S6_STACK_TOS_REMOTE, OCTET},
	{1, 2, NOWHERE, S6_STACK_HAPPY_EYEBALLS, AVAILABILITY_10},
	{1, 3, S6_STACK_TTL_CLIENT, S6_STACK_TTL_REMOTE, OCTET},
	{1, 4, S6_STACK_NO_FRAG_CLIENT, S6_STACK_NO_FRAG_REMOTE, AVAILABILITY_10},
	{4, 1, NOWHERE, S6_STACK_TFO, NUMBER},
	{4, 2, NOWHERE, S6_STACK_MULTIPATH, AVAILABILITY},
	{4, 3, NOWHERE, S6_STACK_BACKLOG, NUMBER},
	{5, 1, NOWHERE, S6_STACK_UDP_ERROR, AVAILABILITY_10},
	{5, 2, NOWHERE, S6_STACK_PORT_PARITY, PARITY},
};

/* The slot's value that the two octets mean, or -1. */
static int meaning(const struct stack *s, int in, uint8_t high, uint8_t low)
{
	switch (s->value) {
	case OCTET:
		return high;
	case AVAILABILITY_10:
		if (in == REQUEST && high == 0)
			return 2;
		/* fall through */
	case AVAILABILITY:
		return high == 1 || high == 2 ? high : -1;
	case PARITY:
		return high <= 2 && low <= 1 ? high * 256 + low : -1;
	case NUMBER:
		break;
	}
	return high * 256 + low;
}

static struct s6_stack want_stack(int in, const uint8_t data[4])
{
	struct s6_stack want = {0};
	int leg = data[0] >> 6;

	for (size_t i = 0; i < sizeof(stack_table) / sizeof(stack_table[0]); i++) {
		const struct stack *s = &stack_table[i];
		int value = meaning(s, in, data[2], data[3]);

		if (s->level != (data[0] & 0x3f) || s->code != data[1] || leg == 0 || value < 0)
			continue;
		if ((leg & 1) && s->client == NOWHERE)
			continue;
		if (leg & 1)
			s6_stack_set(&want, s->client, (uint16_t)value);
		if (leg & 2)
			s6_stack_set(&want, s->remote, (uint16_t)value);
	}
	return want;
}

/* Every leg, level and code with the values that matter. */
static void test_every_stack_option(void **state)
{
	static const uint8_t octets[] = {0, 1, 2, 3, 0x10, 0x80, 0xff};
	uint8_t wire[20] = {6, 1, 0, 8, 0, 80, 0, 1, 192, 0, 2, 1, 0, 1, 0, 8};
	uint8_t *data = wire + 16;

	(void)state;
	for (unsigned n = 0; n < 256u * 8 * 7 * 7 * 2; n++) {
		int in = n & 1 ? REQUEST : OP;
		struct s6_request req;
		struct s6_op_reply op;
		struct s6_stack want, *got = in == REQUEST ? &req.opts.stack : &op.opts.stack;
		size_t used;

		data[0] = (uint8_t)(n >> 1);
		data[1] = (uint8_t)(n / 512 % 8);
		data[2] = octets[n / 4096 % 7];
		data[3] = octets[n / 4096 / 7 % 7];
		assert_int_equal(in == REQUEST
					 ? s6_request_parse(wire, sizeof(wire), &req, &used, NULL)
					 : s6_op_reply_parse(wire, sizeof(wire), &op, &used, NULL),
				 S6_OK);
		want = want_stack(in, data);
		assert_int_equal(got->present, want.present);
		assert_memory_equal(got->value, want.value, sizeof(want.value));
	}
}

/* Two legs with the same value are one option; with different values two. */
static void test_both_legs_are_joined(void **state)
{
	struct s6_request req = {.addr = {.type = S6_ADDR_IPV4}};
	uint8_t wire[64];
	size_t len;

	(void)state;
	s6_stack_set(&req.opts.stack, S6_STACK_TOS_CLIENT, 8);
	s6_stack_set(&req.opts.stack, S6_STACK_TOS_REMOTE, 8);
	assert_int_equal(s6_request_build(&req, wire, sizeof(wire), &len), S6_OK);
	assert_int_equal(len, 20);
	assert_memory_equal(wire + 12, "\0\1\0\10\xc1\1\10\0", 8);
	s6_stack_set(&req.opts.stack, S6_STACK_TOS_REMOTE, 16);
	assert_int_equal(s6_request_build(&req, wire, sizeof(wire), &len), S6_OK);
	assert_int_equal(len, 28);
	assert_memory_equal(wire + 12, "\0\1\0\10\x41\1\10\0\0\1\0\10\x81\1\20\0", 16);
}

static void test_more_auth_data_than_is_kept(void **state)
{
	size_t len, used;
	uint8_t *wire = hex_block("06010028 00500001 C0000201 00040008 01000000 00040008 02000000"
				  "00040008 03000000 00040008 05000000 00040008 06000000",
				  &len);
	struct s6_request req;

	(void)state;
	assert_int_equal(s6_request_parse(wire, len, &req, &used, NULL), S6_OK);
	assert_int_equal(req.opts.refuse, S6_FAULT_NONE);
	assert_int_equal(req.opts.n_auth_data, S6_AUTH_DATA_MAX);
	assert_int_equal(req.opts.auth_data[3].method, 5);
	free(wire);
}

static void test_methods(void **state)
{
	size_t len, used;
	uint8_t *wire =
		hex_block("06010010 00500001 C0000201 00020010 00120201 0300FF00 00000000", &len);
	struct s6_request req;

	(void)state;
	assert_int_equal(s6_request_parse(wire, len, &req, &used, NULL), S6_OK);
	assert_int_equal(req.opts.n_methods, 4);
	for (unsigned method = 0; method < 256; method++)
		assert_int_equal(s6_methods_has(&req.opts, (uint8_t)method),
				 method <= 3 || method == 0xff);
	free(wire);
	/* "none" needs no advertisement, anything else does */
	memset(&req, 0, sizeof(req));
	assert_true(s6_methods_has(&req.opts, S6_METHOD_NONE));
	assert_false(s6_methods_has(&req.opts, S6_METHOD_USERPASS));
	req.opts.has_methods = true; /* an empty one */
	assert_false(s6_methods_has(&req.opts, S6_METHOD_USERPASS));
	req.opts.has_methods = false;
	req.opts.methods = (const uint8_t[]){S6_METHOD_USERPASS};
	req.opts.n_methods = 1;
	assert_false(s6_methods_has(&req.opts, S6_METHOD_USERPASS));
	req.opts.has_methods = true;
	assert_true(s6_methods_has(&req.opts, S6_METHOD_USERPASS));
}

/* Serial numbers, section 6.4. */
static void test_tokens_wrap(void **state)
{
	(void)state;
	assert_true(s6_token_less(1, 2));
	assert_false(s6_token_less(2, 1));
	assert_false(s6_token_less(7, 7));
	assert_true(s6_token_less(0xffffffffu, 0));
	assert_true(s6_token_less(0, 0x7fffffffu));
	assert_false(s6_token_less(0, 0x80000000u));
	assert_false(s6_token_less(0x80000000u, 0));
	assert_true(s6_token_in(5, 5, 1));
	assert_false(s6_token_in(6, 5, 1));
	assert_false(s6_token_in(4, 5, 1));
	assert_true(s6_token_in(1, 0xfffffffeu, 4));
	assert_false(s6_token_in(2, 0xfffffffeu, 4));
}

static void test_words(void **state)
{
	(void)state;
	assert_string_equal(s6_command_str(S6_CMD_UDP_ASSOCIATE), "UDP ASSOCIATE");
	assert_string_equal(s6_reply_str(S6_REPLY_TIMED_OUT), "connection attempt timed out");
	assert_string_equal(s6_kind_str(S6_KIND_TOKEN_REJECTED), "Idempotence Rejected");
	for (unsigned n = 0; n < 0x10000; n++) {
		assert_non_null(s6_kind_str((uint16_t)n));
		assert_non_null(s6_command_str((uint8_t)n));
		assert_non_null(s6_reply_str((uint8_t)n));
	}
	for (int why = S6_FAULT_NONE; why <= S6_FAULT_RANGE; why++)
		assert_string_not_equal(s6_fault_str((enum s6_fault)why), "unknown");
	for (int id = 0; id < S6_STACK_COUNT; id++)
		assert_string_not_equal(s6_stack_str((enum s6_stack_id)id), "unknown");
	assert_string_equal(s6_kind_str(7), "unknown");
	assert_string_equal(s6_kind_str(0xffff), "unknown");
	assert_string_equal(s6_command_str(4), "unknown");
	assert_string_equal(s6_reply_str(10), "unknown");
	assert_string_equal(s6_stack_str(S6_STACK_COUNT), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kind_by_message_and_length),
		cmocka_unit_test(test_every_stack_option),
		cmocka_unit_test(test_both_legs_are_joined),
		cmocka_unit_test(test_more_auth_data_than_is_kept),
		cmocka_unit_test(test_methods),
		cmocka_unit_test(test_tokens_wrap),
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
