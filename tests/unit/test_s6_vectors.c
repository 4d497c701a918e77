/* SPDX-License-Identifier: MIT */
/*
 * The examples of the specification, both ways: each is built from its meaning and compared
 * byte by byte, parsed and compared field by field, cut at every length, and broken in every
 * length field in both directions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "libsocks6/socks6.h"
#include "s6_differ.h"
#include "s6_hex.h"

enum kind { REQUEST, AUTH, OP, UDP };

union message {
	struct s6_request request;
	struct s6_auth_reply auth;
	struct s6_op_reply op;
	struct s6_udp udp;
};

static const uint8_t id[8] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77};
/* RFC 1929; the NUL of the string is the padding */
static const uint8_t password[] = "\x01\005alice\006wonder";
static const uint8_t method2[1] = {S6_METHOD_USERPASS};
#define ASSOCIATION 0x1122334455667788u

static void ip4(struct s6_address *a, uint8_t b0, uint8_t b1, uint8_t b2, uint8_t b3, uint16_t port)
{
	const uint8_t ip[4] = {b0, b1, b2, b3};

	a->type = S6_ADDR_IPV4;
	a->port = port;
	memcpy(a->u.ip4, ip, 4);
}

static void ip6(struct s6_address *a, uint8_t b4, uint8_t b5, uint8_t last, uint16_t port)
{
	a->type = S6_ADDR_IPV6;
	a->port = port;
	memcpy(a->u.ip6, "\x20\x01\x0d\xb8", 4);
	a->u.ip6[4] = b4;
	a->u.ip6[5] = b5;
	a->u.ip6[15] = last;
}

static void name(struct s6_address *a, const char *text, uint16_t port)
{
	a->type = S6_ADDR_NAME;
	a->port = port;
	a->name_len = (uint8_t)strlen(text);
	memcpy(a->u.name, text, a->name_len);
}

static void session(struct s6_options *o)
{
	o->session_id = id;
	o->session_id_len = sizeof(id);
}

static void credentials(struct s6_options *o)
{
	o->n_auth_data = 1;
	o->auth_data[0].method = S6_METHOD_USERPASS;
	o->auth_data[0].data = password;
	o->auth_data[0].len = sizeof(password); /* its NUL is the padding */
}

static void window(struct s6_options *o, uint32_t base)
{
	o->has_token_window = true;
	o->token_base = base;
	o->token_size = 64;
}

static void fill_R1(union message *m)
{
	m->request.command = S6_CMD_CONNECT;
	ip4(&m->request.addr, 192, 0, 2, 10, 443);
}

static void fill_R2(union message *m)
{
	m->request.command = S6_CMD_CONNECT;
	ip6(&m->request.addr, 0, 0, 0x10, 8443);
	s6_stack_set(&m->request.opts.stack, S6_STACK_TFO, 0);
	s6_stack_set(&m->request.opts.stack, S6_STACK_MULTIPATH, S6_AVAIL_YES);
}

static void fill_R3(union message *m)
{
	m->request.command = S6_CMD_CONNECT;
	name(&m->request.addr, "example.net", 80);
}

static void fill_R4(union message *m)
{
	m->request.command = S6_CMD_CONNECT;
	name(&m->request.addr, "host.example", 80);
}

static void fill_R5(union message *m)
{
	struct s6_options *o = &m->request.opts;

	m->request.command = S6_CMD_CONNECT;
	ip4(&m->request.addr, 198, 51, 100, 7, 80);
	s6_stack_set(&o->stack, S6_STACK_TFO, 512);
	s6_stack_set(&o->stack, S6_STACK_MULTIPATH, S6_AVAIL_YES);
	o->has_methods = true;
	o->initial_data_len = 18;
	o->n_methods = 1;
	o->methods = method2;
	credentials(o);
	o->session_request = true;
	o->has_token_request = true;
	o->token_request = 64;
}

static void fill_R6(union message *m)
{
	struct s6_options *o = &m->request.opts;

	m->request.command = S6_CMD_CONNECT;
	name(&m->request.addr, "www.example.com", 443);
	s6_stack_set(&o->stack, S6_STACK_TFO, 0);
	session(o);
	o->has_token_spend = true;
	o->token_spend = 0xabcd;
}

static void fill_R7(union message *m)
{
	ip4(&m->request.addr, 0, 0, 0, 0, 0);
	credentials(&m->request.opts);
	m->request.opts.session_request = true;
	m->request.opts.has_token_request = true;
	m->request.opts.token_request = 64;
}

static void fill_R8(union message *m)
{
	ip4(&m->request.addr, 0, 0, 0, 0, 0);
	session(&m->request.opts);
	m->request.opts.session_teardown = true;
}

static void fill_R9(union message *m)
{
	m->request.command = S6_CMD_BIND;
	ip4(&m->request.addr, 0, 0, 0, 0, 0);
	s6_stack_set(&m->request.opts.stack, S6_STACK_BACKLOG, 8);
	session(&m->request.opts);
}

static void fill_R10(union message *m)
{
	m->request.command = S6_CMD_UDP_ASSOCIATE;
	ip4(&m->request.addr, 0, 0, 0, 0, 0);
	s6_stack_set(&m->request.opts.stack, S6_STACK_UDP_ERROR, S6_AVAIL_YES);
	s6_stack_set(&m->request.opts.stack, S6_STACK_PORT_PARITY, S6_PARITY_EVEN << 8 | 1);
}

static void fill_A1(union message *m)
{
	m->auth.type = S6_AUTH_SUCCESS;
}

static const uint8_t status_ok[3] = {1, 0, 0}, status_bad[3] = {1, 1, 0};

static void fill_A2(union message *m)
{
	m->auth.opts.n_auth_data = 1;
	m->auth.opts.auth_data[0] = (struct s6_auth_data){S6_METHOD_USERPASS, 3, status_ok};
}

static void fill_A3(union message *m)
{
	m->auth.type = S6_AUTH_FAILURE;
	m->auth.opts.n_auth_data = 1;
	m->auth.opts.auth_data[0] = (struct s6_auth_data){S6_METHOD_USERPASS, 3, status_bad};
}

static void fill_A4(union message *m)
{
	m->auth.type = S6_AUTH_FAILURE;
	m->auth.opts.has_selection = true;
	m->auth.opts.selection = S6_METHOD_USERPASS;
}

static void fill_A5(union message *m)
{
	m->auth.type = S6_AUTH_FAILURE;
	m->auth.opts.has_selection = true;
	m->auth.opts.selection = S6_METHOD_UNACCEPTABLE;
}

static void fill_A6(union message *m)
{
	session(&m->auth.opts);
	window(&m->auth.opts, 0xabcd);
}

static void fill_A7(union message *m)
{
	m->auth.opts.session_ok = true;
	window(&m->auth.opts, 0xabce);
	m->auth.opts.token_accepted = true;
}

static void fill_A8(union message *m)
{
	m->auth.type = S6_AUTH_FAILURE;
	m->auth.opts.session_invalid = true;
}

static void fill_A9(union message *m)
{
	m->auth.type = S6_AUTH_FAILURE;
	m->auth.opts.session_ok = true;
	window(&m->auth.opts, 0xabce);
	m->auth.opts.token_rejected = true;
}

static void fill_O1(union message *m)
{
	ip4(&m->op.bind, 203, 0, 113, 5, 40000);
	s6_stack_set(&m->op.opts.stack, S6_STACK_MULTIPATH, S6_AVAIL_YES);
}

static void fill_O2(union message *m)
{
	ip6(&m->op.bind, 0, 0, 5, 40001);
	s6_stack_set(&m->op.opts.stack, S6_STACK_MULTIPATH, S6_AVAIL_NO);
}

static void fill_O3(union message *m)
{
	m->op.code = S6_REPLY_REFUSED;
	ip4(&m->op.bind, 0, 0, 0, 0, 0);
}

static void fill_O4(union message *m)
{
	ip4(&m->op.bind, 203, 0, 113, 5, 40002);
	s6_stack_set(&m->op.opts.stack, S6_STACK_BACKLOG, 8);
}

static void fill_O5(union message *m)
{
	ip4(&m->op.bind, 203, 0, 113, 5, 40003);
	session(&m->op.opts);
}

static void fill_U1(union message *m)
{
	m->udp.type = S6_UDP_INIT;
	m->udp.association = ASSOCIATION;
}

static void fill_U2(union message *m)
{
	m->udp.type = S6_UDP_CONFIRM;
	m->udp.association = ASSOCIATION;
}

static void datagram(union message *m, const char *payload)
{
	m->udp.type = S6_UDP_DATAGRAM;
	m->udp.association = ASSOCIATION;
	m->udp.payload = (const uint8_t *)payload;
	m->udp.payload_len = (uint16_t)strlen(payload);
}

static void fill_U3(union message *m)
{
	datagram(m, "hello");
	ip4(&m->udp.addr, 192, 0, 2, 53, 53);
}

static void fill_U4(union message *m)
{
	datagram(m, "hello");
	ip6(&m->udp.addr, 0, 0, 0x53, 53);
}

static void fill_U5(union message *m)
{
	datagram(m, "hi");
	name(&m->udp.addr, "ntp.example", 123);
}

static void fill_U6(union message *m)
{
	datagram(m, "");
	ip4(&m->udp.addr, 0, 0, 0, 0, 0);
}

static void fill_U7(union message *m)
{
	m->udp.type = S6_UDP_ERROR;
	m->udp.association = ASSOCIATION;
	ip4(&m->udp.addr, 192, 0, 2, 53, 33434);
	m->udp.error = S6_UDP_ERR_TTL_EXPIRED;
	ip4(&m->udp.reporter, 198, 51, 100, 1, 0);
}

static void fill_U8(union message *m)
{
	m->udp.type = S6_UDP_ERROR;
	m->udp.association = ASSOCIATION;
	ip6(&m->udp.addr, 0, 0, 0x53, 4000);
	m->udp.error = S6_UDP_ERR_TOO_BIG;
	ip6(&m->udp.reporter, 0xff, 0xff, 1, 0);
}

static void fill_H2(union message *m)
{
	datagram(m, "hi");
	name(&m->udp.addr, "ntp1.example", 123);
}

static const struct vector {
	const char *name;
	enum kind kind;
	void (*fill)(union message *m);
	size_t behind;   /* octets in the file that belong to the next message */
	bool parse_only; /* we never send this form */
} vectors[] = {
	{"R1", REQUEST, fill_R1, 0, false},  {"R2", REQUEST, fill_R2, 0, false},
	{"R3", REQUEST, fill_R3, 0, false},  {"R4", REQUEST, fill_R4, 0, false},
	{"R5", REQUEST, fill_R5, 18, false}, {"R6", REQUEST, fill_R6, 0, false},
	{"R7", REQUEST, fill_R7, 0, false},  {"R8", REQUEST, fill_R8, 0, false},
	{"R9", REQUEST, fill_R9, 0, false},  {"R10", REQUEST, fill_R10, 0, false},
	{"A1", AUTH, fill_A1, 0, false},     {"A2", AUTH, fill_A2, 0, false},
	{"A3", AUTH, fill_A3, 0, false},     {"A4", AUTH, fill_A4, 0, false},
	{"A5", AUTH, fill_A5, 0, false},     {"A6", AUTH, fill_A6, 0, false},
	{"A7", AUTH, fill_A7, 0, false},     {"A8", AUTH, fill_A8, 0, false},
	{"A9", AUTH, fill_A9, 0, false},     {"O1", OP, fill_O1, 0, false},
	{"O2", OP, fill_O2, 0, false},       {"O3", OP, fill_O3, 0, false},
	{"O4", OP, fill_O4, 0, false},       {"O5", OP, fill_O5, 0, false},
	{"U1", UDP, fill_U1, 0, false},      {"U2", UDP, fill_U2, 0, false},
	{"U3", UDP, fill_U3, 0, false},      {"U4", UDP, fill_U4, 0, false},
	{"U5", UDP, fill_U5, 0, false},      {"U6", UDP, fill_U6, 0, false},
	{"U7", UDP, fill_U7, 0, false},      {"U8", UDP, fill_U8, 0, false},
	{"H1", AUTH, fill_A4, 4, false},     {"H2", UDP, fill_H2, 0, true},
	{"H3", AUTH, fill_A1, 12, false},
};

#define N_VECTORS (sizeof(vectors) / sizeof(vectors[0]))

static enum s6_result parse(enum kind kind, const uint8_t *p, size_t len, union message *m,
			    size_t *used, enum s6_fault *why)
{
	switch (kind) {
	case REQUEST:
		return s6_request_parse(p, len, &m->request, used, why);
	case AUTH:
		return s6_auth_reply_parse(p, len, &m->auth, used, why);
	case OP:
		return s6_op_reply_parse(p, len, &m->op, used, why);
	case UDP:
		break;
	}
	return s6_udp_parse_stream(p, len, &m->udp, used, why);
}

static enum s6_result build(enum kind kind, const union message *m, uint8_t *p, size_t cap,
			    size_t *len)
{
	switch (kind) {
	case REQUEST:
		return s6_request_build(&m->request, p, cap, len);
	case AUTH:
		return s6_auth_reply_build(&m->auth, p, cap, len);
	case OP:
		return s6_op_reply_build(&m->op, p, cap, len);
	case UDP:
		break;
	}
	return s6_udp_build(&m->udp, p, cap, len);
}

static enum s6_result parse_exact(enum kind kind, const uint8_t *p, size_t len, size_t *used,
				  enum s6_fault *why)
{
	uint8_t *block = block_of(p, len);
	union message m;
	enum s6_result result = parse(kind, block, len, &m, used, why);

	free(block);
	return result;
}

static const char *differ(enum kind kind, const union message *x, const union message *y)
{
	switch (kind) {
	case REQUEST:
		return differ_request(&x->request, &y->request);
	case AUTH:
		return differ_auth_reply(&x->auth, &y->auth);
	case OP:
		return differ_op_reply(&x->op, &y->op);
	case UDP:
		break;
	}
	return differ_udp(&x->udp, &y->udp);
}

static void test_parse(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_VECTORS; i++) {
		const struct vector *v = &vectors[i];
		union message want, got;
		enum s6_fault why = S6_FAULT_NONE;
		size_t len, used = 0;
		uint8_t *wire = vector_block(v->name, &len);

		print_message("%s\n", v->name);
		memset(&want, 0, sizeof(want));
		v->fill(&want);
		assert_int_equal(parse(v->kind, wire, len, &got, &used, &why), S6_OK);
		assert_int_equal(used, len - v->behind);
		assert_same(differ(v->kind, &got, &want));
		if (v->kind == UDP) {
			assert_int_equal(s6_udp_parse_packet(wire, len, &got.udp, &why), S6_OK);
			assert_same(differ_udp(&got.udp, &want.udp));
		}
		free(wire);
	}
}

static void test_build(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_VECTORS; i++) {
		const struct vector *v = &vectors[i];
		uint8_t out[512], *wire;
		union message m;
		size_t len, got = 0;

		if (v->parse_only)
			continue;
		print_message("%s\n", v->name);
		wire = vector_block(v->name, &len);
		len -= v->behind;
		memset(&m, 0, sizeof(m));
		v->fill(&m);
		assert_int_equal(build(v->kind, &m, out, sizeof(out), &got), S6_OK);
		assert_int_equal(got, len);
		assert_memory_equal(out, wire, len);
		free(wire);
		/* every smaller buffer is too small, and is not written behind its end */
		for (size_t cap = 0; cap < len; cap++) {
			uint8_t *block = block_of(out, cap);

			got = 4711;
			assert_int_equal(build(v->kind, &m, block, cap, &got), S6_MORE);
			assert_int_equal(got, 4711);
			free(block);
		}
	}
}

static void test_cut_at_every_length(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_VECTORS; i++) {
		const struct vector *v = &vectors[i];
		size_t len;
		uint8_t *wire = vector_block(v->name, &len);
		enum s6_fault why;

		for (size_t cut = 0; cut < len - v->behind; cut++) {
			size_t used = 4711;

			assert_int_equal(parse_exact(v->kind, wire, cut, &used, &why), S6_MORE);
			assert_int_equal(used, 4711);
		}
		free(wire);
	}
}

/* The message with another value in the length field at that offset. */
static void try_length(const struct vector *v, const uint8_t *wire, size_t len, size_t at,
		       int value)
{
	bool outer = at == 2;
	uint8_t *bad = block_of(wire, len);
	enum s6_fault why = S6_FAULT_NONE;
	enum s6_result result;
	union message m;
	size_t used = 0;

	bad[at] = (uint8_t)(value >> 8);
	bad[at + 1] = (uint8_t)value;
	value &= 0xffff;
	result = parse(v->kind, bad, len, &m, &used, &why);
	free(bad);
	if (outer && (value % 4 || value > S6_OPTIONS_RECV_MAX)) {
		assert_int_equal(result, S6_BAD);
		assert_int_equal(why, S6_FAULT_OPTIONS_LENGTH);
	} else if (outer && value > (wire[2] << 8 | wire[3])) {
		assert_int_equal(result, S6_MORE); /* more options are to come */
	} else if (!outer && (value < 4 || value % 4 || (size_t)value > len - (at - 2))) {
		assert_int_equal(result, S6_BAD);
		assert_int_equal(why, S6_FAULT_OPTION_LENGTH);
	} else {
		/* too small or too large, but the rest may happen to be framed */
		assert_int_not_equal(result, S6_MORE);
		assert_true(used <= len);
	}
}

/* Options Length, then Length of each option, wrong in both directions. */
static void test_wrong_lengths(void **state)
{
	static const int deltas[] = {-8, -4, -3, -2, -1, 1, 2, 3, 4, 8, 64, 0x4000, 0x7ffc};

	(void)state;
	for (size_t i = 0; i < N_VECTORS; i++) {
		const struct vector *v = &vectors[i];
		size_t len, at = 2;
		uint8_t *wire = vector_block(v->name, &len);
		size_t options = (size_t)(wire[2] << 8 | wire[3]);

		len -= v->behind;
		while (v->kind != UDP && at + 2 <= len) {
			int value = wire[at] << 8 | wire[at + 1];

			for (size_t d = 0; d < sizeof(deltas) / sizeof(deltas[0]); d++)
				try_length(v, wire, len, at, value + deltas[d]);
			at = at == 2 ? len - options + 2 : at + (size_t)value;
		}
		free(wire);
	}
}

/* The length octet of a name: every value. */
static void test_wrong_name_lengths(void **state)
{
	static const struct {
		const char *name;
		size_t at;
	} names[] = {{"R3", 8}, {"R4", 8}, {"R6", 8}, {"U5", 16}, {"H2", 16}};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t len, at = names[i].at;
		uint8_t *wire = vector_block(names[i].name, &len);
		enum kind kind = names[i].name[0] == 'R' ? REQUEST : UDP;

		for (unsigned value = 0; value < 256; value++) {
			bool beyond = value > len - at - 1;
			enum s6_fault why = S6_FAULT_NONE;
			enum s6_result result;
			size_t used = 0;

			wire[at] = (uint8_t)value;
			result = parse_exact(kind, wire, len, &used, &why);
			if (value == 0) {
				assert_int_equal(result, S6_BAD);
				assert_int_equal(why, S6_FAULT_NAME);
			} else if (beyond && kind == UDP) {
				assert_int_equal(result, S6_BAD);
				assert_int_equal(why, S6_FAULT_UDP_LENGTH);
			} else if (beyond) {
				assert_int_equal(result, S6_MORE);
			} else {
				assert_true(used <= len);
			}
		}
		free(wire);
	}
}

static void test_wrong_udp_lengths(void **state)
{
	(void)state;
	for (size_t i = 0; i < N_VECTORS; i++) {
		const struct vector *v = &vectors[i];
		size_t len;
		uint8_t *wire = vector_block(v->name, &len);

		for (size_t value = 0; v->kind == UDP && value < len + 8; value++) {
			enum s6_fault why = S6_FAULT_NONE;
			enum s6_result result;
			struct s6_udp m;
			size_t used = 0;

			wire[2] = (uint8_t)(value >> 8);
			wire[3] = (uint8_t)value;
			result = parse_exact(UDP, wire, len, &used, &why);
			if (value < S6_UDP_HEADER) {
				assert_int_equal(result, S6_BAD);
				assert_int_equal(why, S6_FAULT_UDP_LENGTH);
			} else if (value > len) {
				assert_int_equal(result, S6_MORE);
				assert_int_equal(s6_udp_parse_packet(wire, len, &m, &why), S6_BAD);
				assert_int_equal(why, S6_FAULT_UDP_LENGTH);
			} else if (result == S6_OK) {
				assert_int_equal(used, value);
			}
		}
		free(wire);
	}
}

static void test_version_mismatch_is_one_octet(void **state)
{
	size_t len;
	uint8_t *wire = vector_block("V1", &len);

	(void)state;
	assert_int_equal(len, 1);
	assert_int_equal(wire[0], S6_VERSION);
	free(wire);
	for (unsigned first = 0; first < 256; first++) {
		const uint8_t octet = (uint8_t)first;
		enum s6_result want = first == S6_VERSION ? S6_MORE : S6_BAD;

		for (int kind = REQUEST; kind <= UDP; kind++) {
			enum s6_fault why = S6_FAULT_NONE;
			size_t used = 0;

			assert_int_equal(parse_exact((enum kind)kind, &octet, 1, &used, &why),
					 want);
			assert_int_equal(why, want == S6_BAD ? S6_FAULT_VERSION : S6_FAULT_NONE);
		}
	}
}

/* H1 and H3: what is behind the first message is the next one. */
static void test_messages_follow_each_other(void **state)
{
	struct s6_auth_reply auth;
	struct s6_op_reply op;
	size_t len, first, second;
	uint8_t *wire = vector_block("H1", &len);

	(void)state;
	assert_int_equal(s6_auth_reply_parse(wire, len, &auth, &first, NULL), S6_OK);
	assert_int_equal(auth.type, S6_AUTH_FAILURE);
	assert_int_equal(s6_auth_reply_parse(wire + first, len - first, &auth, &second, NULL),
			 S6_OK);
	assert_int_equal(auth.type, S6_AUTH_SUCCESS);
	assert_int_equal(first + second, len);
	free(wire);

	wire = vector_block("H3", &len);
	assert_int_equal(s6_auth_reply_parse(wire, len, &auth, &first, NULL), S6_OK);
	assert_int_equal(s6_op_reply_parse(wire + first, len - first, &op, &second, NULL), S6_OK);
	assert_int_equal(op.code, S6_REPLY_SUCCESS);
	assert_int_equal(first + second, len);
	free(wire);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_build),
		cmocka_unit_test(test_cut_at_every_length),
		cmocka_unit_test(test_wrong_lengths),
		cmocka_unit_test(test_wrong_name_lengths),
		cmocka_unit_test(test_wrong_udp_lengths),
		cmocka_unit_test(test_version_mismatch_is_one_octet),
		cmocka_unit_test(test_messages_follow_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
