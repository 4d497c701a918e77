/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is said to a SOCKS 5 proxy and when, and what is made of its replies, wherever they are cut. */
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

#define TEXT(s) (const uint8_t *)(s), sizeof(s) - 1

/* One exchange to be tried. */
struct talk {
	struct upstream up;
	struct upstream_chain chain;
	struct addr dst;
	struct up_request rq;
	struct up_socks6 proto;
	uint8_t wire[UP_REQUEST_MAX];
	size_t len;
};

static void start(struct talk *t, const char *user, int pipeline, uint8_t command, const char *dst,
		  const char *name)
{
	memset(t, 0, sizeof(*t));
	t->up = (struct upstream){.protocol = PROTOCOL_SOCKS5,
				  .pipeline = pipeline,
				  .username = (char *)(uintptr_t)user,
				  .password = (char *)(uintptr_t)(user ? "secret" : NULL)};
	t->chain = (struct upstream_chain){.n = 1, .hop = {{.up = &t->up}}};
	assert_true(addr_parse(&t->dst, dst, -1));
	t->rq = (struct up_request){
		.command = command, .dst = &t->dst, .name = name, .chain = &t->chain};
	memset(&t->proto, 0xff, sizeof(t->proto));
	assert_true(up_socks6_request(&t->proto, &t->rq, t->wire, &t->len));
	assert_true(t->proto.is_socks5 && t->proto.n == 1 && t->proto.at == 0);
	assert_false(up_socks6_syn_safe(&t->proto));
}

static void is_wire(const struct talk *t, const uint8_t *want, size_t len)
{
	assert_int_equal(t->len, len);
	assert_memory_equal(t->wire, want, len);
}

static size_t released(const struct talk *t)
{
	return up_socks6_released(&t->proto, t->len);
}

/* Feed octets; all of them are used unless more are wanted. */
static enum up_verdict hear(struct talk *t, const uint8_t *data, size_t len, size_t wanted_used)
{
	uint8_t *block = block_of(data, len);
	size_t used;
	enum up_verdict v = up_socks6_feed(&t->proto, block, len, &used);

	free(block);
	assert_int_equal(used, wanted_used);
	return v;
}

/* ---- requests ---- */

static void test_requests(void **state)
{
	struct talk t;

	(void)state;
	start(&t, NULL, PIPELINE_NO, S6_CMD_CONNECT, "203.0.113.5:80", NULL);
	is_wire(&t, TEXT("\5\1\0"
			 "\5\1\0\1\xcb\0\x71\5\0\x50"));
	start(&t, "ann", PIPELINE_NO, S6_CMD_CONNECT, "[2001:db8::5]:443", NULL);
	is_wire(&t, TEXT("\5\1\2"
			 "\1\3ann\6secret"
			 "\5\1\0\4\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\5\1\xbb"));
	start(&t, NULL, PIPELINE_DATA, S6_CMD_CONNECT, "0.0.0.0:443", "www.example.org");
	is_wire(&t, TEXT("\5\1\0"
			 "\5\1\0\3\x0fwww.example.org\1\xbb"));
	start(&t, "ann", PIPELINE_NO, S6_CMD_NOOP, "0.0.0.0:1", NULL);
	is_wire(&t, TEXT("\5\1\2"
			 "\1\3ann\6secret"));
}

/* What may leave before which reply; what of it may be said twice. */
static void test_steps(void **state)
{
	struct talk t;

	(void)state;
	start(&t, "ann", PIPELINE_NO, S6_CMD_CONNECT, "203.0.113.5:80", NULL);
	assert_int_equal(up_socks6_harmless(&t.proto), 15);
	assert_false(up_socks6_takes_data(&t.proto));
	assert_int_equal(released(&t), 3);
	assert_int_equal(hear(&t, TEXT("\5\2"), 2), UP_MORE);
	assert_int_equal(released(&t), 15);
	assert_int_equal(hear(&t, TEXT("\1\0"), 2), UP_AUTHENTICATED);
	assert_int_equal(released(&t), t.len);
	assert_int_equal(hear(&t, TEXT("\5\0\0\1\1\2\3\4\0\5more"), 10), UP_READY);
	assert_int_equal(hear(&t, TEXT("more"), 0), UP_READY);
}

static void test_pipeline(void **state)
{
	struct talk t;

	(void)state;
	start(&t, "ann", PIPELINE_HANDSHAKE, S6_CMD_CONNECT, "203.0.113.5:80", NULL);
	assert_int_equal(released(&t), t.len);
	assert_int_equal(up_socks6_harmless(&t.proto), 15);
	assert_false(up_socks6_takes_data(&t.proto));
	start(&t, NULL, PIPELINE_DATA, S6_CMD_CONNECT, "203.0.113.5:80", NULL);
	assert_int_equal(released(&t), t.len);
	assert_int_equal(up_socks6_harmless(&t.proto), 3);
	assert_true(up_socks6_takes_data(&t.proto));
}

/* ---- replies ---- */

/* All at once, and cut at every length. */
static void whole(const char *user, const uint8_t *data, size_t len, enum up_verdict want)
{
	for (size_t cut = 0; cut <= len; cut++) {
		struct talk t;
		enum up_verdict v;
		size_t used = 0, more;

		start(&t, user, PIPELINE_HANDSHAKE, S6_CMD_CONNECT, "203.0.113.5:80", NULL);
		do {
			uint8_t *block = block_of(data + used, cut - used);

			v = up_socks6_feed(&t.proto, block, cut - used, &more);
			free(block);
			used += more;
		} while (v == UP_AUTHENTICATED);
		while (v == UP_MORE && used <= len) { /* the rest comes */
			uint8_t *block = block_of(data + used, len - used);

			v = up_socks6_feed(&t.proto, block, len - used, &more);
			free(block);
			used += more;
			if (v == UP_AUTHENTICATED)
				v = UP_MORE;
			else if (v == UP_MORE)
				break;
		}
		assert_int_equal(v, want);
	}
}

static void test_replies(void **state)
{
	(void)state;
	whole(NULL, TEXT("\5\0\5\0\0\1\1\2\3\4\0\5"), UP_READY);
	whole("ann",
	      TEXT("\5\2\1\0\5\0\0\4"
		   "0123456789abcdef"
		   "\0\5"),
	      UP_READY);
	whole("ann", TEXT("\5\2\1\0\5\0\0\3\3abc\0\5"), UP_READY);
	whole(NULL, TEXT("\5\0\5\5\0\1\1\2\3\4\0\5"), UP_REPLY);
	whole(NULL, TEXT("\5\0\5\0\0\1\1\2\3\4\0"), UP_MORE);
	whole("ann", TEXT("\5\xff"), UP_AUTH_REFUSED);
	whole("ann", TEXT("\5\0"), UP_AUTH_REFUSED); /* not what was offered */
	whole("ann", TEXT("\5\2\1\1"), UP_AUTH_REFUSED);
	whole("ann", TEXT("\5\2\5\0"), UP_NOT_SOCKS6);
	whole(NULL, TEXT("\6"), UP_NOT_SOCKS6);
	whole(NULL, TEXT("HTTP/1.1 400"), UP_NOT_SOCKS6);
	whole(NULL, TEXT("\5\0\4\0\0\1\1\2\3\4\0\5"), UP_MALFORMED);
	whole(NULL, TEXT("\5\0\5\0\0\2\1\2\3\4\0\5"), UP_MALFORMED);
}

static void test_codes(void **state)
{
	static const uint8_t codes[] = {S6_REPLY_SUCCESS,          S6_REPLY_FAILURE,
					S6_REPLY_NOT_ALLOWED,      S6_REPLY_NET_UNREACHABLE,
					S6_REPLY_HOST_UNREACHABLE, S6_REPLY_REFUSED,
					S6_REPLY_TIMED_OUT,        S6_REPLY_CMD_UNSUPPORTED,
					S6_REPLY_ADDR_UNSUPPORTED, S6_REPLY_FAILURE};

	(void)state;
	for (uint8_t rep = 1; rep < sizeof(codes); rep++) {
		const uint8_t reply[] = {5, rep, 0, 1, 0, 0, 0, 0, 0, 0};
		struct talk t;

		start(&t, NULL, PIPELINE_NO, S6_CMD_CONNECT, "203.0.113.5:80", NULL);
		assert_int_equal(hear(&t, TEXT("\5\0"), 2), UP_AUTHENTICATED);
		assert_int_equal(hear(&t, reply, sizeof(reply), sizeof(reply)), UP_REPLY);
		assert_int_equal(up_socks6_last(&t.proto)->code, codes[rep]);
	}
}

/* A probe is over when the proxy has accepted us. */
static void test_noop(void **state)
{
	struct talk t;

	(void)state;
	start(&t, NULL, PIPELINE_NO, S6_CMD_NOOP, "0.0.0.0:1", NULL);
	assert_int_equal(released(&t), t.len);
	assert_int_equal(hear(&t, TEXT("\5"), 0), UP_MORE);
	assert_int_equal(hear(&t, TEXT("\5\0"), 2), UP_READY);
	start(&t, "ann", PIPELINE_NO, S6_CMD_NOOP, "0.0.0.0:1", NULL);
	assert_int_equal(released(&t), 3);
	assert_int_equal(hear(&t, TEXT("\5\2"), 2), UP_MORE);
	assert_int_equal(released(&t), t.len);
	assert_int_equal(hear(&t, TEXT("\1\0"), 2), UP_READY);
}

static void test_longest(void **state)
{
	char user[256], name[256];
	struct talk t;

	(void)state;
	memset(user, 'u', 255);
	memset(name, 'n', 255);
	user[255] = name[255] = '\0';
	start(&t, user, PIPELINE_DATA, S6_CMD_CONNECT, "0.0.0.0:443", name);
	assert_int_equal(t.len, 3 + 1 + 256 + 7 + 4 + 256 + 2);
	assert_memory_equal(t.wire + 3 + 1 + 256 + 7, "\5\1\0\3\xff", 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests), cmocka_unit_test(test_steps),
		cmocka_unit_test(test_pipeline), cmocka_unit_test(test_replies),
		cmocka_unit_test(test_codes),    cmocka_unit_test(test_noop),
		cmocka_unit_test(test_longest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
