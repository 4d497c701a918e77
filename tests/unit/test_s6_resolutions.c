/* SPDX-License-Identifier: MIT */
/*
 * The project's resolutions of the draft's open points, as far as the library decides them: one
 * test for each, named after it. Those that are not here belong to the daemons alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "libsocks6/socks6.h"
#include "s6_hex.h"

/* The last message parsed; its structures point into the block. */
struct given {
	uint8_t *block;
	size_t len, used;
	enum s6_result result;
	enum s6_fault why;
	struct s6_request req;
	struct s6_auth_reply auth;
	struct s6_op_reply op;
	struct s6_udp udp;
};

#define TO_IP4 "00500001 C0000201" /* port, padding, type, address */

static int set_up(void **state)
{
	*state = calloc(1, sizeof(struct given));
	return *state ? 0 : -1;
}

static int tear_down(void **state)
{
	struct given *g = *state;

	free(g->block);
	free(g);
	return 0;
}

static void given(struct given *g, const char *text)
{
	free(g->block);
	g->block = hex_block(text, &g->len);
	g->used = 0;
	g->why = S6_FAULT_NONE;
}

/* Head and options of a message; Options Length is worked out. */
static void given_options(struct given *g, const char *head, const char *target,
			  const char *options)
{
	char text[1024];

	snprintf(text, sizeof(text), "%s %04X %s %s", head, 0u, target, options);
	given(g, text);
	snprintf(text, sizeof(text), "%s %04X %s %s", head,
		 (unsigned)(g->len - 4 - (*target ? 8 : 0)), target, options);
	given(g, text);
}

static void request_text(struct given *g, const char *text)
{
	given(g, text);
	g->result = s6_request_parse(g->block, g->len, &g->req, &g->used, &g->why);
}

static void command(struct given *g, const char *head, const char *options)
{
	given_options(g, head, TO_IP4, options);
	g->result = s6_request_parse(g->block, g->len, &g->req, &g->used, &g->why);
	assert_true(g->result != S6_OK || g->used == g->len);
}

static void request(struct given *g, const char *options)
{
	command(g, "0601", options);
}

static void auth_reply(struct given *g, const char *head, const char *options)
{
	given_options(g, head, "", options);
	g->result = s6_auth_reply_parse(g->block, g->len, &g->auth, &g->used, &g->why);
	assert_true(g->result != S6_OK || g->used == g->len);
}

static void op_reply(struct given *g, const char *options)
{
	given_options(g, "0600", TO_IP4, options);
	g->result = s6_op_reply_parse(g->block, g->len, &g->op, &g->used, &g->why);
	assert_true(g->result != S6_OK || g->used == g->len);
}

static void udp_stream(struct given *g, const char *text)
{
	given(g, text);
	g->result = s6_udp_parse_stream(g->block, g->len, &g->udp, &g->used, &g->why);
}

static void udp_packet(struct given *g, const char *text)
{
	given(g, text);
	g->result = s6_udp_parse_packet(g->block, g->len, &g->udp, &g->why);
}

/* Well framed; the options are refused for that reason, or S6_FAULT_NONE. */
static void assert_request(struct given *g, const char *options, enum s6_fault refuse)
{
	request(g, options);
	assert_int_equal(g->result, S6_OK);
	assert_int_equal(g->req.opts.refuse, refuse);
}

static void assert_bad(const struct given *g, enum s6_fault why)
{
	assert_int_equal(g->result, S6_BAD);
	assert_int_equal(g->why, why);
}

static void test_R1_expenditure_has_8_octets(void **state)
{
	struct given *g = *state;

	assert_request(g, "000D0008 0000ABCD", S6_FAULT_NONE);
	assert_true(g->req.opts.has_token_spend);
	assert_int_equal(g->req.opts.token_spend, 0xabcd);
	assert_request(g, "000D0004", S6_FAULT_CONTENT);
	assert_false(g->req.opts.has_token_spend);
	assert_request(g, "000D000C 0000ABCD 00000000", S6_FAULT_CONTENT);
}

static void test_R2_session_id_in_either_reply(void **state)
{
	struct given *g = *state;

	auth_reply(g, "0600", "00060008 01020304");
	assert_int_equal(g->result, S6_OK);
	assert_int_equal(g->auth.opts.session_id_len, 4);
	assert_memory_equal(g->auth.opts.session_id, "\1\2\3\4", 4);
	op_reply(g, "00060008 01020304");
	assert_int_equal(g->result, S6_OK);
	assert_int_equal(g->op.opts.session_id_len, 4);
	assert_memory_equal(g->op.opts.session_id, "\1\2\3\4", 4);
}

static void test_R3_multipath_2_is_in_use(void **state)
{
	struct given *g = *state;

	op_reply(g, "00010008 84020200");
	assert_int_equal(g->op.opts.stack.value[S6_STACK_MULTIPATH], S6_AVAIL_YES);
	op_reply(g, "00010008 84020100");
	assert_int_equal(g->op.opts.stack.value[S6_STACK_MULTIPATH], S6_AVAIL_NO);
}

static void assert_name(struct given *g, const char *text, const char *name)
{
	request_text(g, text);
	assert_int_equal(g->result, S6_OK);
	assert_int_equal(g->used, g->len);
	assert_int_equal(g->req.addr.name_len, strlen(name));
	assert_string_equal(g->req.addr.u.name, name);
}

static void test_R4_names(void **state)
{
	struct given *g = *state;

	assert_name(g, "06010000 00500003 03 612E62", "a.b");
	assert_name(g, "06010000 00500003 01 61", "a");
	assert_name(g, "06010000 00500003 07 612E6263 000000", "a.bc");
	assert_name(g, "06010000 00500003 06 612E6263 0000", "a.bc");
	assert_name(g, "06010000 00500003 0B 61 00000000000000000000", "a");
	request_text(g, "06010000 00500003 00");
	assert_bad(g, S6_FAULT_NAME);
	request_text(g, "06010000 00500003 03 000000");
	assert_bad(g, S6_FAULT_NAME);
	request_text(g, "06010000 00500003 03 610062");
	assert_bad(g, S6_FAULT_NAME);
	request_text(g, "06010000 00500003 03 006162");
	assert_bad(g, S6_FAULT_NAME);
	udp_packet(g, "06030014 11223344 55667788 03000050 03 610062");
	assert_bad(g, S6_FAULT_NAME);
}

static void test_R4_longest_name(void **state)
{
	struct s6_request req = {.command = S6_CMD_CONNECT}, again;
	uint8_t wire[S6_REQUEST_HEADER + S6_ADDR_WIRE_MAX];
	size_t len, used;

	(void)state;
	req.addr.type = S6_ADDR_NAME;
	for (unsigned n = 1; n <= S6_NAME_MAX; n++) {
		req.addr.u.name[n - 1] = 'x';
		req.addr.name_len = (uint8_t)n;
		assert_int_equal(s6_request_build(&req, wire, sizeof(wire), &len), S6_OK);
		assert_int_equal(len % 4, 0);
		assert_int_equal(wire[8], len - S6_REQUEST_HEADER - 1); /* NULs are counted */
		assert_in_range(len, S6_REQUEST_HEADER + 1 + n, S6_REQUEST_HEADER + 4 + n);
		assert_int_equal(s6_request_parse(wire, len, &again, &used, NULL), S6_OK);
		assert_int_equal(used, len);
		assert_string_equal(again.addr.u.name, req.addr.u.name);
	}
}

/* An ID of n octets alone in a request: Options Length is n + 4. */
static enum s6_result parse_session_id(size_t n, struct s6_request *req, enum s6_fault *why)
{
	size_t len = 12 + n + 4, used;
	uint8_t *wire = calloc(1, len),
		head[] = {6, 1, 0, 0, 0, 80, 0, 1, 192, 0, 2, 1, 0, 6, 0, 0};
	enum s6_result result;

	assert_non_null(wire);
	head[2] = head[14] = (uint8_t)((n + 4) >> 8);
	head[3] = head[15] = (uint8_t)(n + 4);
	memcpy(wire, head, sizeof(head));
	result = s6_request_parse(wire, len, req, &used, why);
	free(wire);
	return result;
}

static void test_R5_sizes(void **state)
{
	static const uint8_t id[S6_OPTIONS_RECV_MAX];
	static uint8_t wire[2 * S6_OPTIONS_RECV_MAX];
	struct s6_auth_reply reply = {.opts = {.session_id = id}};
	enum s6_fault why = S6_FAULT_NONE;
	struct s6_request req;
	size_t len;

	(void)state;
	assert_int_equal(parse_session_id(S6_SESSION_ID_MAX, &req, &why), S6_OK);
	assert_int_equal(req.opts.session_id_len, S6_SESSION_ID_MAX);
	assert_int_equal(parse_session_id(S6_OPTIONS_RECV_MAX - 4, &req, &why), S6_OK);
	assert_int_equal(req.opts.refuse, S6_FAULT_CONTENT); /* could never be sent back */
	assert_int_equal(parse_session_id(S6_OPTIONS_RECV_MAX, &req, &why), S6_BAD);
	assert_int_equal(why, S6_FAULT_OPTIONS_LENGTH);

	reply.opts.session_id_len = S6_SESSION_ID_MAX; /* with its header 16380 */
	reply.opts.session_ok = true;                  /* 16384 */
	assert_int_equal(s6_auth_reply_build(&reply, wire, sizeof(wire), &len), S6_OK);
	assert_int_equal(len, 4 + S6_OPTIONS_SEND_MAX);
	reply.opts.token_accepted = true; /* 16388 */
	for (size_t cap = 0; cap <= sizeof(wire); cap += 4096)
		assert_int_equal(s6_auth_reply_build(&reply, wire, cap, &len), S6_BAD);
}

static void test_R6_left_over_kinds_are_ignored(void **state)
{
	struct given *g = *state;

	assert_request(g, "00000004 00070004 00100008 FFFFFFFF 00110004 00120008 01020304",
		       S6_FAULT_NONE);
	assert_request(g, "FC000008 01020304 FFFF0004 00130004", S6_FAULT_NONE);
	auth_reply(g, "0600", "00070004 FFFF0004");
	assert_int_equal(g->result, S6_OK);
	assert_int_equal(g->auth.opts.refuse, S6_FAULT_NONE);
}

static void test_R9_bad_framing_is_malformed(void **state)
{
	static const char *const options[] = {
		"00010000",                    /* Length 0 */
		"00010003",                    /* shorter than its header */
		"00010006 84020200",           /* not a multiple of 4 */
		"00010009 84020200 00000000",  /* the same, of a larger one */
		"0001000C 84020200",           /* beyond Options Length */
		"00070006 0000 00070006 0000", /* the same, although they end together */
		"FFFF0000",                    /* unknown kinds are framed as well */
		"00050004 FFFFFFFC",           /* beyond, at the very end */
	};
	struct given *g = *state;

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		request(g, options[i]);
		assert_bad(g, S6_FAULT_OPTION_LENGTH);
		auth_reply(g, "0600", options[i]);
		assert_bad(g, S6_FAULT_OPTION_LENGTH);
		op_reply(g, options[i]);
		assert_bad(g, S6_FAULT_OPTION_LENGTH);
	}
	request_text(g, "06010003");
	assert_bad(g, S6_FAULT_OPTIONS_LENGTH);
	request_text(g, "06015004");
	assert_bad(g, S6_FAULT_OPTIONS_LENGTH);
	request_text(g, "06015000"); /* 20480 is not too much */
	assert_int_equal(g->result, S6_MORE);
}

static void test_R10_unusable_stack_options_are_ignored(void **state)
{
	static const char *const options[] = {
		"00010004",                   /* no content at all */
		"0001000C 84020200 00000000", /* wrong size */
		"00010008 01010100",          /* leg 0 */
		"00010008 04020200",          /* leg 0 */
		"00010008 41020200",          /* Happy Eyeballs is for the remote leg */
		"00010008 C1020200",          /* and not for both */
		"00010008 44020200",          /* Multipath on the client leg */
		"00010008 C4020200",          /* Multipath on both */
		"00010008 84020000",          /* availability 0 (R24 is not for Multipath) */
		"00010008 84020300",          /* availability 3 */
		"00010008 81040300",          /* No Fragmentation 3 */
		"00010008 8502FF00",          /* parity 255 */
		"00010008 85020300",          /* parity 3 */
		"00010008 85020102",          /* reserve 2 */
		"00010008 81050000",          /* unknown code */
		"00010008 82010000",          /* nothing is defined for IPv4 alone */
		"00010008 BF010000",          /* unknown level */
	};
	struct given *g = *state;

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		assert_request(g, options[i], S6_FAULT_NONE);
		assert_int_equal(g->req.opts.stack.present, 0);
		op_reply(g, options[i]);
		assert_int_equal(g->result, S6_OK);
		assert_int_equal(g->op.opts.refuse, S6_FAULT_NONE);
		assert_int_equal(g->op.opts.stack.present, 0);
	}
}

static void test_R10_impossible_content_is_refused(void **state)
{
	static const char *const in_request[] = {
		"00020004",                      /* no Initial Data Length */
		"00040004",                      /* no method */
		"00050008 00000000", "00060004", /* an empty ID */
		"000A0008 00000000", "000B0004", "000B000C 00000040 00000000", "000D0004",
	};
	static const char *const in_auth_reply[] = {
		"00030004",          "0003000C 02000000 00000000",
		"00040004",          "00060004",
		"00080008 00000000", "00090008 00000000",
		"000C0008 00000001", "000C0010 00000001 00000001 00000000",
		"000E0008 00000000", "000F0008 00000000",
	};
	struct given *g = *state;

	for (size_t i = 0; i < sizeof(in_request) / sizeof(in_request[0]); i++)
		assert_request(g, in_request[i], S6_FAULT_CONTENT);
	for (size_t i = 0; i < sizeof(in_auth_reply) / sizeof(in_auth_reply[0]); i++) {
		auth_reply(g, "0600", in_auth_reply[i]);
		assert_int_equal(g->result, S6_OK);
		assert_int_equal(g->auth.opts.refuse, S6_FAULT_CONTENT);
	}
	op_reply(g, "00060004");
	assert_int_equal(g->op.opts.refuse, S6_FAULT_CONTENT);
}

static void test_R11_repeated_in_requests(void **state)
{
	static const char *const repeated[] = {
		"00020008 00000200 00020008 00000200",
		"00040008 02010000 00040008 02010000",
		"00050004 00050004",
		"00060008 01020304 00060008 01020304",
		"000B0008 00000001 000B0008 00000001",
		"000D0008 00000001 000D0008 00000001",
		"000B0008 00000000 000B0008 00000001", /* a wish for 0 counts as well */
	};
	struct given *g = *state;

	for (size_t i = 0; i < sizeof(repeated) / sizeof(repeated[0]); i++)
		assert_request(g, repeated[i], S6_FAULT_REPEATED);
	/* data for two methods is not a repetition */
	assert_request(g, "00040008 02010000 00040008 03010000", S6_FAULT_NONE);
	assert_int_equal(g->req.opts.n_auth_data, 2);
	/* and the teardown says the same however often it is said */
	assert_request(g, "000A0004 000A0004", S6_FAULT_NONE);
	assert_true(g->req.opts.session_teardown);
}

static void test_R11_first_wins_in_replies(void **state)
{
	struct given *g = *state;

	auth_reply(g, "0600",
		   "00060008 01020304 00060008 05060708 000C000C 00000001 00000002"
		   "000C000C 00000003 00000004 00030008 02000000 00030008 FF000000"
		   "00040008 02010000 00040008 02010100 00080004 00080004");
	assert_int_equal(g->result, S6_OK);
	assert_int_equal(g->auth.opts.refuse, S6_FAULT_NONE);
	assert_memory_equal(g->auth.opts.session_id, "\1\2\3\4", 4);
	assert_int_equal(g->auth.opts.token_base, 1);
	assert_int_equal(g->auth.opts.token_size, 2);
	assert_int_equal(g->auth.opts.selection, S6_METHOD_USERPASS);
	assert_int_equal(g->auth.opts.n_auth_data, 1);
	assert_int_equal(g->auth.opts.auth_data[0].data[1], 0);
}

static void test_R11_later_stack_options_are_ignored(void **state)
{
	struct given *g = *state;
	const uint16_t *value = g->req.opts.stack.value;

	assert_request(g, "00010008 84010100 00010008 84010200", S6_FAULT_NONE);
	assert_int_equal(value[S6_STACK_TFO], 0x100);
	/* "both" counts for each leg: only the leg that is still free takes it */
	assert_request(g, "00010008 41010800 00010008 C1011000", S6_FAULT_NONE);
	assert_int_equal(value[S6_STACK_TOS_CLIENT], 8);
	assert_int_equal(value[S6_STACK_TOS_REMOTE], 16);
	assert_request(g, "00010008 C1011000 00010008 41010800 00010008 81010800", S6_FAULT_NONE);
	assert_int_equal(value[S6_STACK_TOS_CLIENT], 16);
	assert_int_equal(value[S6_STACK_TOS_REMOTE], 16);
	/* one that is ignored as undefined does not take the place */
	assert_request(g, "00010008 84020700 00010008 84020200", S6_FAULT_NONE);
	assert_int_equal(value[S6_STACK_MULTIPATH], S6_AVAIL_YES);
}

static void test_R12_session_request_beside_an_id(void **state)
{
	struct given *g = *state;

	assert_request(g, "00050004 00060008 01020304", S6_FAULT_NONE);
	assert_true(g->req.opts.session_request); /* the caller lets the ID count */
	assert_int_equal(g->req.opts.session_id_len, 4);
}

static void test_R13_teardown_with_and_without_id(void **state)
{
	struct given *g = *state;

	assert_request(g, "00060008 01020304 000A0004", S6_FAULT_NONE);
	assert_true(g->req.opts.session_teardown);
	assert_int_equal(g->req.opts.session_id_len, 4);
	assert_request(g, "000A0004", S6_FAULT_NONE);
	assert_true(g->req.opts.session_teardown);
	assert_int_equal(g->req.opts.session_id_len, 0);
}

static void test_R14_other_versions_at_the_first_octet(void **state)
{
	struct given *g = *state;

	request_text(g, "05");
	assert_bad(g, S6_FAULT_VERSION);
	request_text(g, "04010050 C0000201 00");
	assert_bad(g, S6_FAULT_VERSION);
}

static void test_R15_unknown_address_type(void **state)
{
	struct given *g = *state;
	char text[32];

	for (unsigned type = 0; type < 256; type++) {
		bool known = type == S6_ADDR_IPV4 || type == S6_ADDR_NAME || type == S6_ADDR_IPV6;

		snprintf(text, sizeof(text), "06010000 005000%02X", type);
		request_text(g, text);
		assert_int_equal(g->result, known ? S6_MORE : S6_BAD);
		assert_int_equal(g->why, known ? S6_FAULT_NONE : S6_FAULT_ADDRESS_TYPE);
	}
}

static void test_R16_unknown_command_is_well_framed(void **state)
{
	struct given *g = *state;

	command(g, "0677", "00060008 01020304");
	assert_int_equal(g->result, S6_OK);
	assert_int_equal(g->req.command, 0x77);
	assert_int_equal(g->req.opts.refuse, S6_FAULT_NONE);
	assert_int_equal(g->req.opts.session_id_len, 4);
}

static void test_R17_selection_in_a_successful_reply(void **state)
{
	struct given *g = *state;

	auth_reply(g, "0600", "00030008 02000000");
	assert_int_equal(g->result, S6_OK);
	assert_int_equal(g->auth.type, S6_AUTH_SUCCESS);
	assert_int_equal(g->auth.opts.refuse, S6_FAULT_NONE);
}

static void test_R18_method_without_credentials_is_seen(void **state)
{
	struct given *g = *state;

	assert_request(g, "00020008 00000200", S6_FAULT_NONE);
	assert_true(s6_methods_has(&g->req.opts, S6_METHOD_USERPASS));
	assert_int_equal(g->req.opts.n_auth_data, 0);
}

static void test_R19_initial_data_only_with_connect(void **state)
{
	static const char *const heads[] = {"0600", "0602", "0603", "0677"};
	struct given *g = *state;

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		command(g, heads[i], "00020008 FFFF0200");
		assert_int_equal(g->result, S6_OK);
		assert_int_equal(g->req.opts.initial_data_len, 0);
		assert_true(s6_methods_has(&g->req.opts, S6_METHOD_USERPASS));
	}
}

static void test_R20_too_much_initial_data(void **state)
{
	struct given *g = *state;

	request(g, "00020008 40000200");
	assert_int_equal(g->result, S6_OK);
	assert_int_equal(g->req.opts.initial_data_len, S6_INITIAL_DATA_MAX);
	request(g, "00020008 40010200");
	assert_bad(g, S6_FAULT_INITIAL_DATA);
}

static void test_R21_initial_data_stays_behind_the_message(void **state)
{
	struct given *g = *state;

	request_text(g, "06010008 " TO_IP4 "00020008 00020200 4142");
	assert_int_equal(g->result, S6_OK);
	assert_int_equal(g->len - g->used, g->req.opts.initial_data_len);
}

static void test_R23_any_tfo_answer(void **state)
{
	struct given *g = *state;

	op_reply(g, "00010008 84010000");
	assert_true(s6_stack_has(&g->op.opts.stack, S6_STACK_TFO));
	assert_int_equal(g->op.opts.stack.value[S6_STACK_TFO], 0);
	op_reply(g, "00010008 8401FFFF");
	assert_int_equal(g->op.opts.stack.value[S6_STACK_TFO], 0xffff);
	op_reply(g, "");
	assert_false(s6_stack_has(&g->op.opts.stack, S6_STACK_TFO));
}

static void test_R24_availability_0_from_an_older_client(void **state)
{
	static const struct {
		const char *option;
		enum s6_stack_id id;
	} older[] = {
		{"00010008 81020000", S6_STACK_HAPPY_EYEBALLS},
		{"00010008 41040000", S6_STACK_NO_FRAG_CLIENT},
		{"00010008 81040000", S6_STACK_NO_FRAG_REMOTE},
		{"00010008 C1040000", S6_STACK_NO_FRAG_REMOTE},
		{"00010008 85010000", S6_STACK_UDP_ERROR},
	};
	struct given *g = *state;

	for (size_t i = 0; i < sizeof(older) / sizeof(older[0]); i++) {
		struct s6_op_reply reply = {.bind = {.type = S6_ADDR_IPV4}};
		uint8_t wire[64];
		size_t len;

		assert_request(g, older[i].option, S6_FAULT_NONE);
		assert_true(s6_stack_has(&g->req.opts.stack, older[i].id));
		assert_int_equal(g->req.opts.stack.value[older[i].id], S6_AVAIL_YES);
		op_reply(g, older[i].option);
		assert_int_equal(g->op.opts.stack.present, 0);
		/* never sent */
		s6_stack_set(&reply.opts.stack, older[i].id, 0);
		assert_int_equal(s6_op_reply_build(&reply, wire, sizeof(wire), &len), S6_BAD);
	}
}

static void test_R25_token_outside_a_session(void **state)
{
	struct given *g = *state;

	assert_request(g, "000D0008 00000001", S6_FAULT_NONE);
	assert_true(g->req.opts.has_token_spend);
	assert_int_equal(g->req.opts.session_id_len, 0);
}

static void test_R26_window_in_a_failed_reply(void **state)
{
	struct given *g = *state;

	auth_reply(g, "0601", "000C000C 00000001 00000002 000F0004");
	assert_int_equal(g->result, S6_OK);
	assert_true(g->auth.opts.has_token_window);
	assert_true(g->auth.opts.token_rejected);
}

static void test_R27_session_ok_and_token_rejected(void **state)
{
	struct given *g = *state;

	auth_reply(g, "0601", "00080004 000F0004");
	assert_int_equal(g->result, S6_OK);
	assert_true(g->auth.opts.session_ok);
	assert_true(g->auth.opts.token_rejected);
	assert_int_equal(g->auth.opts.refuse, S6_FAULT_NONE);
}

static void test_R29_impossible_windows(void **state)
{
	struct given *g = *state;

	assert_request(g, "000B0008 00000000", S6_FAULT_NONE);
	assert_false(g->req.opts.has_token_request);
	assert_request(g, "000B0008 FFFFFFFF", S6_FAULT_NONE); /* the proxy clips it */
	assert_int_equal(g->req.opts.token_request, 0xffffffffu);
	auth_reply(g, "0600", "000C000C 00000001 00000000");
	assert_false(g->auth.opts.has_token_window);
	auth_reply(g, "0600", "000C000C 00000001 80000000");
	assert_false(g->auth.opts.has_token_window);
	assert_int_equal(g->auth.opts.refuse, S6_FAULT_NONE);
	auth_reply(g, "0600", "000C000C FFFFFFFF 7FFFFFFF");
	assert_true(g->auth.opts.has_token_window);
	assert_int_equal(g->auth.opts.token_base, 0xffffffffu);
	assert_int_equal(g->auth.opts.token_size, S6_WINDOW_MAX);
}

static void test_R31_framing_errors_of_a_stream(void **state)
{
	static const char *const bad[] = {
		"06030000 11223344 55667788",
		"0603000B 11223344 55667788",
		"0603000C 11223344 55667788",                 /* no address */
		"0603000F 11223344 55667788 010000",          /* half of it */
		"06030013 11223344 55667788 01000035 C00002", /* one octet short */
		"0603001F 11223344 55667788 04000035 20010DB8 00000000 00000000 000000",
		"06030013 11223344 55667788 03000035 036162", /* name beyond the end */
		"0604001B 11223344 55667788 01000001 C0000201 01030000 C00002",
		"06040017 11223344 55667788 01000001 C0000201 010300",
	};
	struct given *g = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		udp_stream(g, bad[i]);
		assert_bad(g, S6_FAULT_UDP_LENGTH);
		udp_packet(g, bad[i]);
		assert_bad(g, S6_FAULT_UDP_LENGTH);
	}
	udp_stream(g, "06030014 11223344 55667788 02000035 C0000235");
	assert_bad(g, S6_FAULT_ADDRESS_TYPE);
	/* the ID is the caller's business */
	udp_stream(g, "06030014 00000000 00000000 01000035 C0000235");
	assert_int_equal(g->result, S6_OK);
	assert_true(g->udp.association == 0);
}

static void test_R33_no_padding_in_a_stream_but_in_packets(void **state)
{
	struct given *g = *state;
	static const char text[] = "06030015 11223344 55667788 01000035 C0000235 68 0602000C";

	udp_stream(g, text);
	assert_int_equal(g->result, S6_OK);
	assert_int_equal(g->used, 0x15);
	assert_int_equal(g->udp.payload_len, 1);
	udp_packet(g, text);
	assert_int_equal(g->result, S6_OK);
	assert_int_equal(g->udp.payload_len, 1);
}

static void test_R34_longer_control_messages(void **state)
{
	struct given *g = *state;

	udp_stream(g, "06010010 11223344 55667788 DEADBEEF 0602");
	assert_int_equal(g->result, S6_OK);
	assert_int_equal(g->used, 16);
	assert_int_equal(g->udp.type, S6_UDP_INIT);
	udp_stream(g, "0602000D 11223344 55667788 00");
	assert_int_equal(g->result, S6_OK);
	assert_int_equal(g->used, 13);
	udp_stream(g, "0602000B 11223344 556677");
	assert_bad(g, S6_FAULT_UDP_LENGTH);
}

static void test_R35_unknown_types(void **state)
{
	static const char *const unknown[] = {"0600000E 11223344 55667788 ABCD",
					      "0605000E 11223344 55667788 ABCD",
					      "06FF000E 11223344 55667788 ABCD"};
	struct given *g = *state;

	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		udp_stream(g, unknown[i]);
		assert_int_equal(g->result, S6_OK);
		assert_int_equal(g->used, 14);
		assert_true(g->udp.association == 0x1122334455667788u);
		udp_packet(g, unknown[i]);
		assert_bad(g, S6_FAULT_UDP_TYPE);
	}
}

static void test_R37_name_as_bind_address(void **state)
{
	struct given *g = *state;

	given(g, "06000000 00500003 03 612E62");
	g->result = s6_op_reply_parse(g->block, g->len, &g->op, &g->used, &g->why);
	assert_int_equal(g->result, S6_OK);
	assert_string_equal(g->op.bind.u.name, "a.b");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_R1_expenditure_has_8_octets),
		TEST(test_R2_session_id_in_either_reply),
		TEST(test_R3_multipath_2_is_in_use),
		TEST(test_R4_names),
		TEST(test_R4_longest_name),
		TEST(test_R5_sizes),
		TEST(test_R6_left_over_kinds_are_ignored),
		TEST(test_R9_bad_framing_is_malformed),
		TEST(test_R10_unusable_stack_options_are_ignored),
		TEST(test_R10_impossible_content_is_refused),
		TEST(test_R11_repeated_in_requests),
		TEST(test_R11_first_wins_in_replies),
		TEST(test_R11_later_stack_options_are_ignored),
		TEST(test_R12_session_request_beside_an_id),
		TEST(test_R13_teardown_with_and_without_id),
		TEST(test_R14_other_versions_at_the_first_octet),
		TEST(test_R15_unknown_address_type),
		TEST(test_R16_unknown_command_is_well_framed),
		TEST(test_R17_selection_in_a_successful_reply),
		TEST(test_R18_method_without_credentials_is_seen),
		TEST(test_R19_initial_data_only_with_connect),
		TEST(test_R20_too_much_initial_data),
		TEST(test_R21_initial_data_stays_behind_the_message),
		TEST(test_R23_any_tfo_answer),
		TEST(test_R24_availability_0_from_an_older_client),
		TEST(test_R25_token_outside_a_session),
		TEST(test_R26_window_in_a_failed_reply),
		TEST(test_R27_session_ok_and_token_rejected),
		TEST(test_R29_impossible_windows),
		TEST(test_R31_framing_errors_of_a_stream),
		TEST(test_R33_no_padding_in_a_stream_but_in_packets),
		TEST(test_R34_longer_control_messages),
		TEST(test_R35_unknown_types),
		TEST(test_R37_name_as_bind_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
