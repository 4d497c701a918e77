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
#include "s6_vectors.h"

enum kind { REQUEST, AUTH, OP, UDP };

union message {
	struct s6_request request;
	struct s6_auth_reply auth;
	struct s6_op_reply op;
	struct s6_udp udp;
};

static const uint8_t id[8] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77};
static const uint8_t password[] = "\x01\x05"
				  "alice"
				  "\x06"
				  "wonder"; /* RFC 1929, padded by hand */
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

/* Parsing from a block of exactly that size lets AddressSanitizer see a read behind it. */
static enum s6_result parse_exact(enum kind kind, const uint8_t *p, size_t len, size_t *used,
				  enum s6_fault *why)
{
	uint8_t *block = malloc(len ? len : 1);
	union message m;
	enum s6_result result;

	assert_non_null(block);
	memcpy(block, p, len);
	result = parse(kind, block, len, &m, used, why);
	free(block);
	return result;
}

static void same_address(const struct s6_address *x, const struct s6_address *y)
{
	assert_int_equal(x->type, y->type);
	assert_int_equal(x->port, y->port);
	if (x->type == S6_ADDR_IPV4)
		assert_memory_equal(x->u.ip4, y->u.ip4, 4);
	else if (x->type == S6_ADDR_IPV6)
		assert_memory_equal(x->u.ip6, y->u.ip6, 16);
	else {
		assert_int_equal(x->name_len, y->name_len);
		assert_memory_equal(x->u.name, y->u.name, x->name_len);
		assert_int_equal(strlen(x->u.name), x->name_len);
	}
}

static void same_options(const struct s6_options *x, const struct s6_options *y)
{
	assert_int_equal(x->refuse, S6_FAULT_NONE);
	assert_int_equal(x->stack.present, y->stack.present);
	for (int i = 0; i < S6_STACK_COUNT; i++)
		if (s6_stack_has(&y->stack, (enum s6_stack_id)i))
			assert_int_equal(x->stack.value[i], y->stack.value[i]);
	assert_int_equal(x->has_methods, y->has_methods);
	assert_int_equal(x->initial_data_len, y->initial_data_len);
	assert_int_equal(x->n_methods, y->n_methods);
	for (int i = 0; i < y->n_methods; i++)
		assert_true(s6_methods_has(x, y->methods[i]));
	assert_int_equal(x->has_selection, y->has_selection);
	assert_int_equal(x->selection, y->selection);
	assert_int_equal(x->n_auth_data, y->n_auth_data);
	for (int i = 0; i < y->n_auth_data; i++) {
		assert_int_equal(x->auth_data[i].method, y->auth_data[i].method);
		assert_int_equal(x->auth_data[i].len, y->auth_data[i].len);
		assert_memory_equal(x->auth_data[i].data, y->auth_data[i].data,
				    y->auth_data[i].len);
	}
	assert_int_equal(x->session_request, y->session_request);
	assert_int_equal(x->session_id_len, y->session_id_len);
	if (y->session_id_len)
		assert_memory_equal(x->session_id, y->session_id, y->session_id_len);
	assert_int_equal(x->session_ok, y->session_ok);
	assert_int_equal(x->session_invalid, y->session_invalid);
	assert_int_equal(x->session_teardown, y->session_teardown);
	assert_int_equal(x->has_token_request, y->has_token_request);
	assert_int_equal(x->token_request, y->token_request);
	assert_int_equal(x->has_token_window, y->has_token_window);
	assert_int_equal(x->token_base, y->token_base);
	assert_int_equal(x->token_size, y->token_size);
	assert_int_equal(x->has_token_spend, y->has_token_spend);
	assert_int_equal(x->token_spend, y->token_spend);
	assert_int_equal(x->token_accepted, y->token_accepted);
	assert_int_equal(x->token_rejected, y->token_rejected);
}

static void same_udp(const struct s6_udp *x, const struct s6_udp *y)
{
	assert_int_equal(x->type, y->type);
	assert_true(x->association == y->association);
	if (y->type == S6_UDP_DATAGRAM || y->type == S6_UDP_ERROR)
		same_address(&x->addr, &y->addr);
	assert_int_equal(x->payload_len, y->payload_len);
	if (y->payload_len)
		assert_memory_equal(x->payload, y->payload, y->payload_len);
	assert_int_equal(x->error, y->error);
	if (y->type == S6_UDP_ERROR)
		same_address(&x->reporter, &y->reporter);
}

static void test_parse(void **state)
{
	uint8_t wire[512];

	(void)state;
	for (size_t i = 0; i < N_VECTORS; i++) {
		const struct vector *v = &vectors[i];
		size_t len = vector_read(v->name, wire, sizeof(wire)), used = 0;
		union message want, got;
		enum s6_fault why = S6_FAULT_NONE;

		memset(&want, 0, sizeof(want));
		v->fill(&want);
		print_message("%s\n", v->name);
		assert_int_equal(parse(v->kind, wire, len, &got, &used, &why), S6_OK);
		assert_int_equal(used, len - v->behind);
		if (v->kind == REQUEST) {
			assert_int_equal(got.request.command, want.request.command);
			same_address(&got.request.addr, &want.request.addr);
			same_options(&got.request.opts, &want.request.opts);
		} else if (v->kind == AUTH) {
			assert_int_equal(got.auth.type, want.auth.type);
			same_options(&got.auth.opts, &want.auth.opts);
		} else if (v->kind == OP) {
			assert_int_equal(got.op.code, want.op.code);
			same_address(&got.op.bind, &want.op.bind);
			same_options(&got.op.opts, &want.op.opts);
		} else {
			same_udp(&got.udp, &want.udp);
			assert_int_equal(s6_udp_parse_packet(wire, len, &got.udp, &why), S6_OK);
			same_udp(&got.udp, &want.udp);
		}
	}
}

static void test_build(void **state)
{
	uint8_t wire[512], out[512];

	(void)state;
	for (size_t i = 0; i < N_VECTORS; i++) {
		const struct vector *v = &vectors[i];
		size_t len = vector_read(v->name, wire, sizeof(wire)) - v->behind, got = 0;
		union message m;

		if (v->parse_only)
			continue;
		memset(&m, 0, sizeof(m));
		v->fill(&m);
		print_message("%s\n", v->name);
		assert_int_equal(build(v->kind, &m, out, sizeof(out), &got), S6_OK);
		assert_int_equal(got, len);
		assert_memory_equal(out, wire, len);
		/* every smaller buffer is too small, and is not written behind its end */
		for (size_t cap = 0; cap < len; cap++) {
			uint8_t *block = malloc(cap ? cap : 1);

			assert_non_null(block);
			assert_int_equal(build(v->kind, &m, block, cap, &got), S6_MORE);
			free(block);
		}
	}
}

static void test_cut_at_every_length(void **state)
{
	uint8_t wire[512];

	(void)state;
	for (size_t i = 0; i < N_VECTORS; i++) {
		const struct vector *v = &vectors[i];
		size_t len = vector_read(v->name, wire, sizeof(wire)) - v->behind;
		enum s6_fault why;

		for (size_t cut = 0; cut < len; cut++) {
			size_t used = 4711;

			assert_int_equal(parse_exact(v->kind, wire, cut, &used, &why), S6_MORE);
			assert_int_equal(used, 4711);
		}
	}
}

/* Options Length at offset 2, then Length of each option. For every wrong value the parser must
 * not read outside (AddressSanitizer), and must not take the message for the same. */
static void test_wrong_lengths(void **state)
{
	static const int deltas[] = {-8, -4, -3, -2, -1, 1, 2, 3, 4, 8, 0x4000};
	uint8_t wire[512], bad[512];

	(void)state;
	for (size_t i = 0; i < N_VECTORS; i++) {
		const struct vector *v = &vectors[i];
		size_t len = vector_read(v->name, wire, sizeof(wire)) - v->behind;
		size_t options = (size_t)(wire[2] << 8 | wire[3]);

		if (v->kind == UDP)
			continue;
		for (size_t d = 0; d < sizeof(deltas) / sizeof(deltas[0]); d++) {
			size_t at = 2;

			do {
				int value = (wire[at] << 8 | wire[at + 1]) + deltas[d];
				enum s6_fault why = S6_FAULT_NONE;
				enum s6_result result;
				size_t used = 0;

				memcpy(bad, wire, len);
				bad[at] = (uint8_t)(value >> 8);
				bad[at + 1] = (uint8_t)value;
				result = parse_exact(v->kind, bad, len, &used, &why);
				if (at == 2 &&
				    (value < 0 || value % 4 || value > S6_OPTIONS_RECV_MAX)) {
					assert_int_equal(result, S6_BAD);
					assert_int_equal(why, S6_FAULT_OPTIONS_LENGTH);
				} else if (at == 2 && deltas[d] > 0) {
					assert_int_equal(result, S6_MORE);
				} else if (at != 2 && (value < 4 || value % 4)) {
					assert_int_equal(result, S6_BAD);
					assert_int_equal(why, S6_FAULT_OPTION_LENGTH);
				} else if (at != 2 && at + (size_t)value - 2 > len) {
					assert_int_equal(result, S6_BAD);
					assert_int_equal(why, S6_FAULT_OPTION_LENGTH);
				} else {
					assert_true(used <= len);
				}
				at = at == 2 ? len - options + 2
					     : at + (size_t)(wire[at] << 8 | wire[at + 1]);
			} while (at + 2 <= len && options > 0);
		}
	}
}

static void test_wrong_udp_lengths(void **state)
{
	uint8_t wire[512];

	(void)state;
	for (size_t i = 0; i < N_VECTORS; i++) {
		const struct vector *v = &vectors[i];
		size_t len = vector_read(v->name, wire, sizeof(wire)), used;
		struct s6_udp m;
		enum s6_fault why;

		if (v->kind != UDP)
			continue;
		for (size_t value = 0; value < len + 8; value++) {
			enum s6_result result;

			wire[2] = (uint8_t)(value >> 8);
			wire[3] = (uint8_t)value;
			used = 0;
			result = parse_exact(UDP, wire, len, &used, &why);
			if (value < S6_UDP_HEADER) {
				assert_int_equal(result, S6_BAD);
				assert_int_equal(why, S6_FAULT_UDP_LENGTH);
			} else if (value > len) {
				assert_int_equal(result, S6_MORE);
				assert_int_equal(s6_udp_parse_packet(wire, len, &m, &why), S6_BAD);
			} else if (result == S6_OK) {
				assert_int_equal(used, value);
			}
		}
	}
}

static void test_version_mismatch_is_one_octet(void **state)
{
	uint8_t wire[16];
	union message m;
	enum s6_fault why;
	size_t used;

	(void)state;
	assert_int_equal(vector_read("V1", wire, sizeof(wire)), 1);
	assert_int_equal(wire[0], S6_VERSION);
	for (int first = 0; first < 256; first++) {
		const uint8_t octet = (uint8_t)first;
		enum s6_result want = first == S6_VERSION ? S6_MORE : S6_BAD;

		for (int kind = REQUEST; kind <= UDP; kind++) {
			why = S6_FAULT_NONE;
			assert_int_equal(parse((enum kind)kind, &octet, 1, &m, &used, &why), want);
			if (want == S6_BAD)
				assert_int_equal(why, S6_FAULT_VERSION);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_build),
		cmocka_unit_test(test_cut_at_every_length),
		cmocka_unit_test(test_wrong_lengths),
		cmocka_unit_test(test_wrong_udp_lengths),
		cmocka_unit_test(test_version_mismatch_is_one_octet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
