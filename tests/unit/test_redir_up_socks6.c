/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The redirector's requests, and what it makes of a proxy's replies, wherever they are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redir/up_socks6.h"
#include "s6_hex.h"

/* ---- requests ---- */

static struct addr addr_of(const char *text)
{
	struct addr a;

	assert_true(addr_parse(&a, text, -1));
	return a;
}

static struct upstream upstream_of(const char *user, const char *password)
{
	return (struct upstream){.username = (char *)(uintptr_t)user,
				 .password = (char *)(uintptr_t)password,
				 .mptcp = 1,
				 .tfo = 2};
}

static const struct upstream_grant no_session;

static const struct upstream_grant in_session = {
	.in_session = true, .has_token = true, .id = "sixpath", .id_len = 8, .token = 0xfffffffeu};

static struct upstream_chain alone(struct upstream *up, const struct upstream_grant *g)
{
	return (struct upstream_chain){.n = 1, .hop = {{.up = up, .g = *g}}};
}

/* Builds, and reads what was built as a proxy would; it points into wire. */
static struct s6_request request(const struct up_request *rq, struct up_hop *u, uint8_t *wire)
{
	struct up_socks6 all;
	struct s6_request req;
	size_t len, used;

	memset(&all, 0xff, sizeof(all));
	assert_true(up_socks6_request(&all, rq, wire, &len));
	assert_true(all.n == 1 && all.at == 0);
	*u = all.hop[0];
	assert_in_range(len, 1, UP_REQUEST_MAX);
	assert_int_equal(s6_request_parse(wire, len, &req, &used, NULL), S6_OK);
	assert_int_equal(used, len);
	assert_int_equal(req.opts.refuse, S6_FAULT_NONE);
	assert_int_equal(req.command, rq->command);
	assert_int_equal(u->wait, UP_WAIT_AUTH);
	assert_false(u->has_session || u->has_window || u->server_tfo_known);
	return req;
}

/* A name is told as it is, both families are wanted; a longer one cannot be. */
static void test_connect_name(void **state)
{
	struct upstream up = upstream_of(NULL, NULL);
	struct addr dst = addr_of("0.0.0.0:443");
	struct upstream_chain c = alone(&up, &in_session);
	char name[S6_NAME_MAX + 2];
	struct up_request rq = {.command = S6_CMD_CONNECT, .dst = &dst, .name = name, .chain = &c};
	uint8_t wire[UP_REQUEST_MAX];
	struct up_socks6 all;
	struct up_hop u;
	struct s6_request req;
	size_t len;

	(void)state;
	for (size_t n = 1; n <= S6_NAME_MAX; n++) {
		memset(name, 'n', n);
		name[n] = '\0';
		req = request(&rq, &u, wire);
		assert_int_equal(req.addr.type, S6_ADDR_NAME);
		assert_string_equal(req.addr.u.name, name);
		assert_int_equal(req.addr.port, 443);
		assert_int_equal(req.opts.stack.value[S6_STACK_HAPPY_EYEBALLS], S6_AVAIL_YES);
	}
	memset(name, 'n', S6_NAME_MAX + 1);
	name[S6_NAME_MAX + 1] = '\0';
	assert_false(up_socks6_request(&all, &rq, wire, &len));
}

static void test_connect_in_session(void **state)
{
	struct upstream up = upstream_of("ann", "secret");
	struct addr dst = addr_of("203.0.113.5:443");
	struct upstream_chain c = alone(&up, &in_session);
	struct up_request rq = {.command = S6_CMD_CONNECT, .dst = &dst, .chain = &c};
	struct upstream_grant g = in_session;
	uint8_t wire[UP_REQUEST_MAX];
	struct up_hop u;
	struct s6_request req = request(&rq, &u, wire);

	(void)state;
	assert_int_equal(req.addr.type, S6_ADDR_IPV4);
	assert_memory_equal(req.addr.u.ip4, "\xcb\0\x71\5", 4);
	assert_int_equal(req.addr.port, 443);
	assert_int_equal(req.opts.session_id_len, 8);
	assert_memory_equal(req.opts.session_id, "sixpath", 8);
	assert_true(req.opts.has_token_spend && req.opts.token_spend == 0xfffffffeu);
	assert_false(req.opts.session_request || req.opts.has_token_request);
	assert_int_equal(req.opts.n_auth_data, 0); /* the session stands for them */
	assert_int_equal(req.opts.stack.value[S6_STACK_MULTIPATH], S6_AVAIL_YES);
	assert_true(s6_stack_has(&req.opts.stack, S6_STACK_TFO));
	assert_true(u.in_session && u.has_token);

	g.has_token = false; /* none left: then no Fast Open to the server either */
	c.hop[0].g = g;
	req = request(&rq, &u, wire);
	assert_int_equal(req.opts.session_id_len, 8);
	assert_false(req.opts.has_token_spend);
	assert_false(s6_stack_has(&req.opts.stack, S6_STACK_TFO));
	assert_true(u.in_session && !u.has_token);
}

static void test_bind(void **state)
{
	/* Success, then what the specification has as O4: [203.0.113.5]:40002, backlog 8. */
	static const uint8_t replies[] = {0x06, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x08,
					  0x9c, 0x42, 0x00, 0x01, 0xcb, 0x00, 0x71, 0x05,
					  0x00, 0x01, 0x00, 0x08, 0x84, 0x03, 0x00, 0x08};
	struct upstream up = upstream_of("ann", "secret");
	struct addr port = addr_of("[::]:8443"), bound = addr_of("203.0.113.5:40002");
	struct upstream_chain c = alone(&up, &in_session);
	struct up_request rq = {.command = S6_CMD_BIND, .dst = &port, .backlog = 300, .chain = &c};
	uint8_t wire[UP_REQUEST_MAX];
	struct up_socks6 all;
	struct up_hop u;
	struct s6_request req = request(&rq, &u, wire);
	size_t used, len;

	(void)state;
	assert_int_equal(req.addr.type, S6_ADDR_IPV6);
	assert_int_equal(req.addr.port, 8443);
	assert_int_equal(req.opts.stack.value[S6_STACK_BACKLOG], 300);
	assert_int_equal(req.opts.stack.value[S6_STACK_MULTIPATH], S6_AVAIL_YES);
	assert_false(s6_stack_has(&req.opts.stack, S6_STACK_TFO));
	assert_int_equal(req.opts.session_id_len, 8);
	rq.backlog = 0; /* a further one */
	req = request(&rq, &u, wire);
	assert_false(s6_stack_has(&req.opts.stack, S6_STACK_BACKLOG));

	assert_true(up_socks6_request(&all, &rq, wire, &len));
	assert_int_equal(up_socks6_feed(&all, replies, sizeof(replies), &used), UP_AUTHENTICATED);
	assert_int_equal(up_socks6_feed(&all, replies + used, sizeof(replies) - used, &used),
			 UP_READY);
	assert_true(addr_equal(&up_socks6_last(&all)->bind, &bound));
	assert_int_equal(up_socks6_last(&all)->backlog, 8);
}

static void test_connect_wishes(void **state)
{
	struct upstream up = upstream_of(NULL, NULL);
	struct addr dst = addr_of("[2001:db8::5]:65535");
	struct upstream_chain c = alone(&up, &in_session);
	struct up_request rq = {.command = S6_CMD_CONNECT, .dst = &dst, .chain = &c};
	uint8_t wire[UP_REQUEST_MAX];
	struct up_hop u;
	struct s6_request req;

	(void)state;
	up.mptcp = 0;
	up.tfo = 0;
	req = request(&rq, &u, wire);
	assert_int_equal(req.addr.type, S6_ADDR_IPV6);
	assert_memory_equal(req.addr.u.ip6, &dst.u.in6.sin6_addr, 16);
	assert_int_equal(req.addr.port, 65535);
	assert_int_equal(req.opts.stack.value[S6_STACK_MULTIPATH], S6_AVAIL_NO);
	assert_false(s6_stack_has(&req.opts.stack, S6_STACK_TFO));
}

/* A name instead of the address; the longest one beside the longest credentials. */
static void test_longest_name(void **state)
{
	char longest[S6_NAME_MAX + 1], field[S6_USERPASS_MAX + 1];
	struct upstream up = upstream_of(NULL, NULL);
	struct addr dst = addr_of("203.0.113.5:443");
	struct upstream_chain c = alone(&up, &in_session);
	struct up_request rq = {
		.command = S6_CMD_CONNECT, .dst = &dst, .name = "www.example.net", .chain = &c};
	struct up_socks6 all;
	uint8_t wire[UP_REQUEST_MAX];
	struct up_hop u;
	struct s6_request req = request(&rq, &u, wire);
	size_t len;

	(void)state;
	assert_int_equal(req.addr.type, S6_ADDR_NAME);
	assert_string_equal(req.addr.u.name, "www.example.net");
	assert_int_equal(req.addr.port, 443);
	assert_true(s6_stack_has(&req.opts.stack, S6_STACK_HAPPY_EYEBALLS));
	assert_int_equal(req.opts.stack.value[S6_STACK_HAPPY_EYEBALLS], S6_AVAIL_YES);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	memset(field, 'y', sizeof(field) - 1);
	field[sizeof(field) - 1] = '\0';
	up = upstream_of(field, field);
	c.hop[0].g = no_session;
	rq.name = longest;
	rq.tos = 0xb8;
	req = request(&rq, &u, wire);
	assert_string_equal(req.addr.u.name, longest);
	rq.name = "";
	assert_false(up_socks6_request(&all, &rq, wire, &len));
}

static void test_connect_without_session(void **state)
{
	struct upstream up = upstream_of("ann", "secret");
	struct addr dst = addr_of("203.0.113.5:443");
	struct upstream_grant lost = in_session;
	struct upstream_chain c = alone(&up, &lost);
	struct up_request rq = {.command = S6_CMD_CONNECT, .dst = &dst, .chain = &c};
	uint8_t wire[UP_REQUEST_MAX];
	struct s6_userpass cred;
	struct up_hop u;
	struct s6_request req;

	(void)state;
	c.hop[0].g.in_session = c.hop[0].g.has_token =
		false; /* as flow.c marks it; the ID is still there */
	req = request(&rq, &u, wire);
	assert_int_equal(req.opts.session_id_len, 0);
	assert_false(req.opts.has_token_spend || req.opts.session_request ||
		     req.opts.has_token_request);
	assert_int_equal(req.opts.n_auth_data, 1);
	assert_int_equal(s6_userpass_parse(&req.opts.auth_data[0], &cred), S6_OK);
	assert_true(cred.user_len == 3 && memcmp(cred.user, "ann", 3) == 0);
	assert_true(cred.pass_len == 6 && memcmp(cred.pass, "secret", 6) == 0);
	assert_false(u.in_session || u.has_token);
	up = upstream_of(NULL, NULL);
	assert_int_equal(request(&rq, &u, wire).opts.n_auth_data, 0);
}

static void test_noop(void **state)
{
	char longest[S6_USERPASS_MAX + 1];
	struct upstream up = upstream_of(longest, longest);
	struct upstream_chain c = alone(&up, &no_session);
	struct up_request rq = {.command = S6_CMD_NOOP, .chain = &c, .open_session = true};
	uint8_t wire[UP_REQUEST_MAX];
	struct s6_userpass cred;
	struct up_hop u;
	struct s6_request req;

	(void)state;
	memset(longest, 'x', S6_USERPASS_MAX);
	longest[S6_USERPASS_MAX] = '\0';
	req = request(&rq, &u, wire); /* the longest request there is */
	assert_true(req.opts.session_request && req.opts.has_token_request);
	assert_true(req.opts.token_request > 0);
	assert_int_equal(req.opts.stack.present, 0);
	assert_int_equal(req.addr.type, S6_ADDR_IPV4);
	assert_int_equal(s6_userpass_parse(&req.opts.auth_data[0], &cred), S6_OK);
	assert_true(cred.user_len == 255 && cred.pass_len == 255);
	c.hop[0].g = in_session; /* a new session is not asked for from inside one (R12) */
	req = request(&rq, &u, wire);
	assert_true(req.opts.session_request && req.opts.session_id_len == 0);
	assert_false(u.in_session);
	rq.open_session = false;
	req = request(&rq, &u, wire);
	assert_false(req.opts.session_request);
	assert_int_equal(req.opts.session_id_len, 8);
	assert_true(u.in_session);
}

static void test_longest_id(void **state)
{
	struct upstream up = upstream_of(NULL, NULL);
	struct upstream_grant g = in_session;
	struct upstream_chain c = alone(&up, &g);
	struct up_request rq = {.command = S6_CMD_NOOP, .chain = &c};
	uint8_t wire[UP_REQUEST_MAX];
	struct up_hop u;
	struct up_socks6 all;
	size_t len;

	(void)state;
	c.hop[0].g.id_len = SESSION_ID_MAX;
	assert_int_equal(request(&rq, &u, wire).opts.session_id_len, SESSION_ID_MAX);
	c.hop[0].g.id_len = 7; /* no proxy can have given that */
	assert_false(up_socks6_request(&all, &rq, wire, &len));
}

/* ---- replies ---- */

#define SESSION_A "0006000C 00112233 44556677"
#define SESSION_B "0006000C 8899AABB CCDDEEFF"
#define WINDOW    "000C000C 0000ABCE 00000040"
#define OP_OK     "06000000 9C400001 CB007105"
#define OP_OK_V6  "06000000 9C410004 20010DB8 00000000 00000000 00000005"

struct row {
	const char *what, *auth, *op;
	enum up_verdict end; /* the last verdict */
	size_t early;        /* octets of the last message that are enough for it; 0 = all */
	uint8_t code;
	bool session, window, tfo;
	uint8_t mptcp;
	enum s6_fault fault;
	bool outside; /* the request was not in a session */
};

static const struct row rows[] = {
	{"plain", "06000000", OP_OK, .end = UP_READY},
	{"IPv6", "06000000", OP_OK_V6, .end = UP_READY},
	{"password taken", "06000008 00040008 02010000", OP_OK, .end = UP_READY, .outside = true},
	{"new session", "06000018" SESSION_A WINDOW, OP_OK, .end = UP_READY, .session = true,
	 .window = true, .outside = true},
	{"session without window", "0600000C" SESSION_A, OP_OK, .end = UP_READY, .session = true,
	 .outside = true},
	{"session in the second reply", "06000000", "0600000C 9C430001 CB007105" SESSION_A,
	 .end = UP_READY, .session = true, .outside = true},
	{"session in both: the first", "0600000C" SESSION_A, "0600000C 9C430001 CB007105" SESSION_B,
	 .end = UP_READY, .session = true, .outside = true},
	{"session twice in one: the first", "06000018" SESSION_A SESSION_B, OP_OK, .end = UP_READY,
	 .session = true, .outside = true},
	{"token accepted", "06000014 00080004" WINDOW "000E0004", OP_OK, .end = UP_READY,
	 .window = true},
	{"window of none", "0600000C 000C000C 0000ABCE 00000000", OP_OK, .end = UP_READY},
	{"window too large", "0600000C 000C000C 0000ABCE 80000000", OP_OK, .end = UP_READY},
	{"Multipath in use", "06000000", "06000008 9C400001 CB007105 00010008 84020200",
	 .end = UP_READY, .mptcp = S6_AVAIL_YES},
	{"Multipath not in use", "06000000", "06000008 9C400001 CB007105 00010008 84020100",
	 .end = UP_READY, .mptcp = S6_AVAIL_NO},
	{"Fast Open", "06000000", "06000008 9C400001 CB007105 00010008 84010203", .end = UP_READY,
	 .tfo = true},
	{"unknown options", "06000008 FC000008 12345678",
	 "0600000C 9C400001 CB007105 FC00000C 12345678 9ABCDEF0", .end = UP_READY},
	{"refused", "06000000", "06050000 00000001 00000000", .end = UP_REPLY,
	 .code = S6_REPLY_REFUSED},
	{"unknown code", "06000000", "06EE0000 00000001 00000000", .end = UP_REPLY, .code = 0xee},
	{"bound to a name", "06000000", "06000000 00500003 03610000", .end = UP_READY},
	{"session unknown", "06010004 00090004", NULL, .end = UP_SESSION_INVALID},
	{"session unknown, none named", "06010004 00090004", NULL, .end = UP_AUTH_REFUSED,
	 .outside = true},
	{"token refused", "06010014 00080004" WINDOW "000F0004", NULL, .end = UP_TOKEN_REJECTED,
	 .window = true},
	{"session unknown and token refused", "06010008 00090004 000F0004", NULL,
	 .end = UP_SESSION_INVALID},
	{"token refused, none spent", "06010004 000F0004", NULL, .end = UP_AUTH_REFUSED,
	 .outside = true},
	{"failure", "06010000", NULL, .end = UP_AUTH_REFUSED},
	{"unknown type", "06770000", NULL, .end = UP_AUTH_REFUSED},
	{"password refused", "06010008 00040008 02010100", NULL, .end = UP_AUTH_REFUSED},
	{"must proceed", "06010008 00030008 02000000", NULL, .end = UP_AUTH_REFUSED},
	{"no acceptable method", "06010008 00030008 FF000000", NULL, .end = UP_AUTH_REFUSED},
	{"SOCKS 5", "0500 0005", NULL, .end = UP_NOT_SOCKS6, .early = 1, .fault = S6_FAULT_VERSION},
	{"HTTP", "48545450 2F312E31", NULL, .end = UP_NOT_SOCKS6, .early = 1,
	 .fault = S6_FAULT_VERSION},
	{"failure, bad length", "06010003", NULL, .end = UP_NOT_SOCKS6,
	 .fault = S6_FAULT_OPTIONS_LENGTH},
	{"failure, bad option", "06010004 00090002", NULL, .end = UP_NOT_SOCKS6,
	 .fault = S6_FAULT_OPTION_LENGTH},
	{"failure, bad session option", "06010008 00090008 00000000", NULL, .end = UP_NOT_SOCKS6,
	 .fault = S6_FAULT_CONTENT},
	/* The proxy acts on it already. */
	{"success, bad length", "06005004", NULL, .end = UP_MALFORMED,
	 .fault = S6_FAULT_OPTIONS_LENGTH},
	{"success, bad option", "06000004 00080007", NULL, .end = UP_MALFORMED,
	 .fault = S6_FAULT_OPTION_LENGTH},
	{"success, bad session option", "06000008 00080008 00000000", NULL, .end = UP_MALFORMED,
	 .fault = S6_FAULT_CONTENT},
	{"success, empty session ID", "06000004 00060004", NULL, .end = UP_MALFORMED,
	 .fault = S6_FAULT_CONTENT},
	{"operation of another version", "06000000", "05000001", .end = UP_MALFORMED, .early = 1,
	 .fault = S6_FAULT_VERSION},
	{"operation, bad length", "06000000", "0600FFFD 00000001 00000000", .end = UP_MALFORMED,
	 .early = 4, .fault = S6_FAULT_OPTIONS_LENGTH},
	{"operation, bad address", "06000000", "06000000 00000002 00000000", .end = UP_MALFORMED,
	 .early = 8, .fault = S6_FAULT_ADDRESS_TYPE},
	{"operation, bad option", "06000000", "06000004 00000001 00000000 FC000008",
	 .end = UP_MALFORMED, .fault = S6_FAULT_OPTION_LENGTH},
	{"operation, empty session ID", "06000000", "06000004 00000001 00000000 00060004",
	 .end = UP_MALFORMED, .fault = S6_FAULT_CONTENT},
};

static struct up_socks6 asked(const struct row *r)
{
	return (struct up_socks6){.n = 1,
				  .hop = {{.in_session = !r->outside, .has_token = !r->outside}}};
}

/* From a block of exactly that size, so that a read behind it is seen. */
static enum up_verdict feed(struct up_socks6 *u, const uint8_t *data, size_t len, size_t *used)
{
	uint8_t *block = block_of(data, len);
	enum up_verdict v;

	*used = 4711;
	v = up_socks6_feed(u, block, len, used);
	free(block);
	return v;
}

static void check_result(const struct row *r, const struct up_hop *u)
{
	static const uint8_t session[] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77};

	assert_int_equal(u->code, r->code);
	assert_int_equal(u->fault, r->fault);
	assert_int_equal(u->server_mptcp, r->mptcp);
	assert_int_equal(u->server_tfo_known, r->tfo);
	assert_int_equal(u->server_tfo, r->tfo ? 0x203 : 0);
	assert_int_equal(u->has_session, r->session);
	assert_int_equal(u->session_id_len, r->session ? 8 : 0);
	if (r->session)
		assert_memory_equal(u->session_id, session, 8);
	assert_int_equal(u->has_window, r->window);
	assert_int_equal(u->window_base, r->window ? 0xabce : 0);
	assert_int_equal(u->window_size, r->window ? 0x40 : 0);
}

/* The last message of a row: nothing is consumed and nothing kept before it is enough. */
static void cut_last(const struct row *r, const struct up_socks6 *before, const uint8_t *msg,
		     size_t len)
{
	size_t early = r->early ? r->early : len, used;

	for (size_t n = 0; n <= len; n++) {
		struct up_socks6 u = *before;
		enum up_verdict v = feed(&u, msg, n, &used);

		assert_int_equal(v, n < early ? UP_MORE : r->end);
		if (n < early) {
			assert_int_equal(used, 0);
			assert_memory_equal(&u.hop[0], &before->hop[0],
					    offsetof(struct up_hop, fault));
			assert_int_equal(u.hop[0].has_session, before->hop[0].has_session);
			assert_int_equal(u.hop[0].has_window, before->hop[0].has_window);
		} else {
			check_result(r, &u.hop[0]);
		}
		if (v == UP_READY || v == UP_REPLY)
			assert_int_equal(used, len);
	}
}

static void check_row(const struct row *r)
{
	struct up_socks6 start = asked(r), u;
	size_t alen, olen, used;
	uint8_t *auth = hex_block(r->auth, &alen), *op;

	if (!r->op) {
		cut_last(r, &start, auth, alen);
		free(auth);
		return;
	}
	op = hex_block(r->op, &olen);
	auth = realloc(auth, alen + olen + 3);
	assert_non_null(auth);
	memcpy(auth + alen, op, olen);
	memcpy(auth + alen + olen, "\6\5\4", 3); /* the server's first octets */
	/* cut everywhere in both replies and what follows; the rest as it then comes */
	for (size_t n = 0; n <= alen + olen + 3; n++) {
		u = start;
		if (n < alen) {
			assert_int_equal(feed(&u, auth, n, &used), UP_MORE);
			assert_int_equal(used, 0);
			assert_memory_equal(&u, &start, sizeof(u));
			continue;
		}
		assert_int_equal(feed(&u, auth, n, &used), UP_AUTHENTICATED);
		assert_int_equal(used, alen);
		if (n == alen)
			cut_last(r, &u, op, olen);
		if (feed(&u, auth + alen, n - alen, &used) == UP_MORE) {
			assert_in_range(n, alen, alen + olen - 1);
			assert_int_equal(used, 0);
			assert_int_not_equal(feed(&u, op, olen, &used), UP_MORE);
		}
		check_result(r, &u.hop[0]);
		if (r->end != UP_READY)
			continue;
		assert_int_equal(used, olen); /* the server's are not ours */
		assert_int_equal(feed(&u, auth + alen + olen, 3, &used), UP_READY);
		assert_int_equal(used, 0);
		check_result(r, &u.hop[0]);
	}
	free(auth);
	free(op);
}

static void test_replies(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		print_message("    %s\n", rows[i].what);
		check_row(&rows[i]);
	}
}

/* The table above leaves no verdict out, and each has words of its own. */
static void test_verdicts(void **state)
{
	const struct up_socks6 u = {.n = 1};
	uint32_t seen = 1u << UP_MORE | 1u << UP_AUTHENTICATED | 1u << UP_CHAINED;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		seen |= 1u << rows[i].end;
	assert_int_equal(seen, (2u << UP_MALFORMED) - 1);
	for (int v = UP_MORE; v <= UP_MALFORMED; v++)
		for (int w = UP_MORE; w < v; w++)
			assert_string_not_equal(up_verdict_str(&u, (enum up_verdict)v),
						up_verdict_str(&u, (enum up_verdict)w));
	assert_string_equal(up_verdict_str(&u, (enum up_verdict)(UP_MALFORMED + 1)), "unknown");
}

/* IDs that would not fit into our SYN are not kept; a usable one may still come. */
static void test_session_too_long(void **state)
{
	struct s6_auth_reply auth = {.opts = {.session_id_len = SESSION_ID_MAX + 4}};
	static const uint8_t long_id[SESSION_ID_MAX + 4] = {1};
	struct up_socks6 u = {.n = 1};
	uint8_t wire[256], *op;
	size_t len, used;

	(void)state;
	auth.opts.session_id = long_id;
	assert_int_equal(s6_auth_reply_build(&auth, wire, sizeof(wire), &len), S6_OK);
	assert_int_equal(feed(&u, wire, len, &used), UP_AUTHENTICATED);
	assert_false(u.hop[0].has_session);
	op = hex_block("0600000C 9C430001 CB007105" SESSION_A, &len);
	assert_int_equal(feed(&u, op, len, &used), UP_READY);
	assert_true(u.hop[0].has_session && u.hop[0].session_id_len == 8);
	free(op);

	u = (struct up_socks6){.n = 1};
	auth.opts.session_id_len = SESSION_ID_MAX;
	assert_int_equal(s6_auth_reply_build(&auth, wire, sizeof(wire), &len), S6_OK);
	assert_int_equal(feed(&u, wire, len, &used), UP_AUTHENTICATED);
	assert_true(u.hop[0].has_session && u.hop[0].session_id_len == SESSION_ID_MAX);
	assert_memory_equal(u.hop[0].session_id, long_id, SESSION_ID_MAX);
}

static void test_mismatch(void **state)
{
	static const uint8_t six[] = {6, 0}, five[] = {5};
	struct up_socks6 u = {.n = 1};
	size_t used;

	(void)state;
	assert_int_equal(feed(&u, six, 1, &used), UP_MORE); /* until it closes */
	assert_true(up_socks6_is_mismatch(&u, six, 1));
	assert_false(up_socks6_is_mismatch(&u, NULL, 0));
	assert_false(up_socks6_is_mismatch(&u, six, 2));
	assert_false(up_socks6_is_mismatch(&u, five, 1));
	assert_int_equal(feed(&u, (const uint8_t *)"\6\0\0\0", 4, &used), UP_AUTHENTICATED);
	assert_false(up_socks6_is_mismatch(&u, six, 1));
}

/* ---- two hops ---- */

/* far is reached through near. */
struct couple {
	struct upstream near, far;
	struct upstream_chain chain;
};

static void make_couple(struct couple *c)
{
	memset(c, 0, sizeof(*c));
	c->near = upstream_of("ann", "secret");
	c->far = upstream_of("bob", "other");
	c->chain.n = 2;
	c->chain.hop[0].up = &c->near;
	c->chain.hop[0].g = in_session;
	c->chain.hop[1].up = &c->far;
	c->chain.hop[1].g = in_session;
	c->chain.hop[1].g.addr = addr_of("192.0.2.7:1081");
	c->chain.hop[1].g.tfo = true;
	c->chain.hop[1].g.token = 77;
	memcpy(c->chain.hop[1].g.id, "far away", 8);
}

/* Both requests, as the proxies would read them. */
static void requests(const struct up_request *rq, struct up_socks6 *u, uint8_t *wire,
		     struct s6_request *outer, struct s6_request *inner)
{
	size_t len, used, more;

	assert_true(up_socks6_request(u, rq, wire, &len));
	assert_true(u->n == 2 && u->at == 0);
	assert_int_equal(s6_request_parse(wire, len, outer, &used, NULL), S6_OK);
	assert_int_equal(s6_request_parse(wire + used, len - used, inner, &more, NULL), S6_OK);
	assert_int_equal(used + more, len);
	assert_int_equal(outer->command, S6_CMD_CONNECT);
	assert_memory_equal(outer->addr.u.ip4, "\xc0\0\2\7", 4);
	assert_int_equal(outer->addr.port, 1081);
}

static void test_two_requests(void **state)
{
	struct addr dst = addr_of("203.0.113.5:443");
	uint8_t wire[2 * UP_REQUEST_MAX];
	struct s6_request outer, inner;
	struct up_socks6 u;
	struct couple c;
	struct up_request rq = {.command = S6_CMD_CONNECT, .dst = &dst, .chain = &c.chain};

	(void)state;
	make_couple(&c);
	requests(&rq, &u, wire, &outer, &inner);
	assert_memory_equal(outer.opts.session_id, "sixpath", 8);
	assert_memory_equal(inner.opts.session_id, "far away", 8);
	assert_true(outer.opts.token_spend == 0xfffffffeu && inner.opts.token_spend == 77);
	assert_true(s6_stack_has(&outer.opts.stack, S6_STACK_TFO));
	assert_true(s6_stack_has(&inner.opts.stack, S6_STACK_TFO));
	assert_int_equal(outer.opts.stack.value[S6_STACK_MULTIPATH], S6_AVAIL_YES);
	assert_memory_equal(inner.addr.u.ip4, "\xcb\0\x71\5", 4);
	assert_true(up_socks6_syn_safe(&u) && u.hop[0].wants_tfo);

	/* What the section of far says is how near reaches it. */
	c.far.mptcp = 0;
	c.far.tfo = 0;
	requests(&rq, &u, wire, &outer, &inner);
	assert_int_equal(outer.opts.stack.value[S6_STACK_MULTIPATH], S6_AVAIL_NO);
	assert_false(s6_stack_has(&outer.opts.stack, S6_STACK_TFO));
	c.far.tfo = 2;
	c.chain.hop[1].g.tfo = false; /* paused, or in trouble */
	requests(&rq, &u, wire, &outer, &inner);
	assert_false(s6_stack_has(&outer.opts.stack, S6_STACK_TFO));
	assert_true(s6_stack_has(&inner.opts.stack, S6_STACK_TFO));

	/* Without the token of far its SYN could be repeated. */
	c.chain.hop[1].g.tfo = true;
	c.chain.hop[1].g.has_token = false;
	requests(&rq, &u, wire, &outer, &inner);
	assert_false(s6_stack_has(&outer.opts.stack, S6_STACK_TFO));
	assert_false(up_socks6_syn_safe(&u));

	/* Each has its own credentials; a session is asked for from the last one only. */
	c.chain.hop[0].g.in_session = c.chain.hop[0].g.has_token = false;
	rq = (struct up_request){.command = S6_CMD_NOOP, .chain = &c.chain, .open_session = true};
	requests(&rq, &u, wire, &outer, &inner);
	assert_true(outer.opts.n_auth_data == 1 && inner.opts.n_auth_data == 1);
	assert_non_null(
		memmem(outer.opts.auth_data[0].data, outer.opts.auth_data[0].len, "ann", 3));
	assert_non_null(
		memmem(inner.opts.auth_data[0].data, inner.opts.auth_data[0].len, "bob", 3));
	assert_false(outer.opts.session_request);
	assert_true(inner.opts.session_request && inner.command == S6_CMD_NOOP);
}

/* The longest ones that there are find room. */
static void test_longest_way(void **state)
{
	char longest[S6_USERPASS_MAX + 1];
	struct upstream up = upstream_of(longest, longest);
	struct addr dst = addr_of("[2001:db8::5]:443");
	struct upstream_chain c = {.n = UPSTREAM_HOPS};
	struct up_request rq = {.command = S6_CMD_CONNECT, .dst = &dst, .chain = &c};
	size_t len, room = UPSTREAM_HOPS * UP_REQUEST_MAX;
	uint8_t *wire = malloc(room);
	struct up_socks6 u;

	(void)state;
	assert_non_null(wire);
	memset(longest, 'x', S6_USERPASS_MAX);
	longest[S6_USERPASS_MAX] = '\0';
	for (unsigned i = 0; i < c.n; i++) {
		c.hop[i].up = &up;
		c.hop[i].g.addr = dst;
	}
	assert_true(up_socks6_request(&u, &rq, wire, &len));
	assert_in_range(len, 4 * 512, room);
	free(wire);
}

/* What the replies of two hops come to, and at which hop. */
struct way {
	const char *what, *replies;
	enum up_verdict end;
	unsigned at;
	bool chaining;
	uint8_t code;
};

#define AUTH_OK   "06000014 00080004 000C000C 0000ABCE 00000040 000E0004"
#define CHAIN_OK  "06000010 9C400001 CB007105 00010008 84020200 00010008 84010033"
#define SERVER_OK "06000008 9C400001 CB007105 00010008 84020100"

static const struct way ways[] = {
	{"all is well", AUTH_OK CHAIN_OK AUTH_OK SERVER_OK, UP_READY, 1, false, 0},
	{"the first does not know us", "06010000", UP_AUTH_REFUSED, 0, false, 0},
	{"the first does not know the session", "06010004 00090004", UP_SESSION_INVALID, 0, false,
	 0},
	{"the first cannot reach the second", AUTH_OK "06050000 00000001 00000000", UP_REPLY, 0,
	 true, S6_REPLY_REFUSED},
	{"the second does not know us", AUTH_OK CHAIN_OK "06010000", UP_AUTH_REFUSED, 1, false, 0},
	{"the second has had the token", AUTH_OK CHAIN_OK "06010004 000F0004", UP_TOKEN_REJECTED, 1,
	 false, 0},
	{"the second is none", AUTH_OK CHAIN_OK "48545450", UP_NOT_SOCKS6, 1, false, 0},
	{"the server refuses", AUTH_OK CHAIN_OK AUTH_OK "06050000 00000001 00000000", UP_REPLY, 1,
	 false, S6_REPLY_REFUSED},
	{"nonsense of the first", AUTH_OK "05000001", UP_MALFORMED, 0, true, 0},
	{"nonsense of the second", AUTH_OK CHAIN_OK AUTH_OK "05000001", UP_MALFORMED, 1, false, 0},
};

static struct up_socks6 two_asked(void)
{
	return (struct up_socks6){
		.n = 2,
		.hop = {{.in_session = true, .has_token = true, .wants_tfo = true},
			{.in_session = true, .has_token = true}}};
}

/* As flow.c feeds it: in two pieces, all that is there each time. */
static enum up_verdict feed_all(struct up_socks6 *u, const uint8_t *data, size_t len, size_t *start,
				unsigned *passed)
{
	enum up_verdict v;
	size_t used;

	do {
		v = feed(u, data + *start, len - *start, &used);
		assert_in_range(used, 0, len - *start);
		*start += used;
		*passed += v == UP_AUTHENTICATED ? 1 : v == UP_CHAINED ? 0x10 : 0;
	} while (v == UP_AUTHENTICATED || v == UP_CHAINED);
	return v;
}

static void check_way(const struct way *w)
{
	size_t len;
	uint8_t *replies = hex_block(w->replies, &len);

	for (size_t cut = 0; cut <= len; cut++) {
		struct up_socks6 u = two_asked();
		unsigned passed = 0;
		size_t start = 0;
		enum up_verdict v = feed_all(&u, replies, cut, &start, &passed);

		if (cut == 0)
			assert_true(v == UP_MORE && up_socks6_unheard(&u));
		if (v == UP_MORE)
			v = feed_all(&u, replies, len, &start, &passed);
		assert_int_equal(v, w->end);
		assert_int_equal(u.at, w->at);
		assert_int_equal(passed, w->at + (w->at ? 0x10u : 0u) +
						 (w->chaining || w->code || w->end == UP_READY ||
						  w->end == UP_MALFORMED));
		assert_int_equal(up_socks6_hop(&u)->code, w->code);
		if (w->at == 1) { /* each hop has kept its own */
			assert_int_equal(u.hop[0].server_mptcp, S6_AVAIL_YES);
			assert_int_equal(u.hop[0].server_tfo, 0x33);
			assert_true(u.hop[0].has_window);
		}
		if (v != UP_READY)
			continue;
		assert_int_equal(start, len);
		assert_int_equal(up_socks6_last(&u)->server_mptcp, S6_AVAIL_NO);
		assert_false(up_socks6_last(&u)->server_tfo_known);
	}
	free(replies);
}

static void test_two_replies(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		print_message("    %s\n", ways[i].what);
		check_way(&ways[i]);
	}
}

/* Whose answer is missing, as the replies come in. */
static void test_missing(void **state)
{
	struct up_socks6 u = two_asked();
	struct upstream_chain c = {.n = 2};
	struct upstream far = upstream_of(NULL, NULL);
	struct up_leg leg;
	size_t len, used;
	uint8_t *auth = hex_block(AUTH_OK, &len), *op;

	(void)state;
	c.hop[1].up = &far;
	assert_int_equal(up_socks6_missing(&u), 0);
	assert_false(up_socks6_is_chaining(&u));
	assert_int_equal(feed(&u, auth, len, &used), UP_AUTHENTICATED);
	assert_true(up_socks6_is_chaining(&u) && !up_socks6_unheard(&u));
	assert_int_equal(up_socks6_missing(&u), 1);
	op = hex_block(CHAIN_OK, &len);
	assert_int_equal(feed(&u, op, len, &used), UP_CHAINED);
	free(op);
	assert_false(up_socks6_is_chaining(&u) || up_socks6_unheard(&u));
	assert_int_equal(up_socks6_missing(&u), 1);
	leg = up_socks6_leg(&u, &c, 0, 0.5);
	assert_true(leg.since_sent_s == 0.5 && leg.asked_tfo && leg.syn_octets == 0x33);
	assert_false(leg.stripped);
	u.hop[0].server_mptcp = S6_AVAIL_NO;
	u.hop[0].in_session = false;
	leg = up_socks6_leg(&u, &c, 0, 0.5);
	assert_true(leg.stripped && leg.since_sent_s == 0);
	op = hex_block(AUTH_OK, &len);
	assert_int_equal(feed(&u, op, len, &used), UP_AUTHENTICATED);
	assert_false(up_socks6_is_chaining(&u)); /* the last one does not connect to a hop */
	assert_int_equal(up_socks6_missing(&u), 1);
	assert_int_equal(up_chain_failure(S6_REPLY_REFUSED), UPSTREAM_HARD);
	assert_int_equal(up_chain_failure(S6_REPLY_TIMED_OUT), UPSTREAM_SILENT);
	assert_int_equal(up_chain_failure(S6_REPLY_HOST_UNREACHABLE), UPSTREAM_SOFT);
	free(op);
	free(auth);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connect_name),
		cmocka_unit_test(test_connect_in_session),
		cmocka_unit_test(test_bind),
		cmocka_unit_test(test_connect_wishes),
		cmocka_unit_test(test_longest_name),
		cmocka_unit_test(test_connect_without_session),
		cmocka_unit_test(test_noop),
		cmocka_unit_test(test_longest_id),
		cmocka_unit_test(test_replies),
		cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_session_too_long),
		cmocka_unit_test(test_mismatch),
		cmocka_unit_test(test_two_requests),
		cmocka_unit_test(test_longest_way),
		cmocka_unit_test(test_two_replies),
		cmocka_unit_test(test_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
