/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What programs say at the front door, cut at every length, and what they are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redir/front.h"
#include "s6_hex.h"

#define TEXT(s) (const uint8_t *)(s), sizeof(s) - 1

/* All that was said on the way, and what was left over. */
struct run {
	enum front_verdict v;
	size_t used, said;
	char out[1024];
};

static void hear(struct run *r, const struct front *f)
{
	assert_true(r->said + f->reply_len <= sizeof(r->out));
	memcpy(r->out + r->said, f->reply, f->reply_len);
	r->said += f->reply_len;
}

/* Feed the octets step by step; the answer to a check of the password is good. */
static struct run feed(struct front *f, const uint8_t *data, size_t len, size_t step, bool good)
{
	struct run r = {.v = FRONT_MORE};
	size_t end = 0, used;

	while ((r.v == FRONT_MORE || r.v == FRONT_SAY) && (end < len || r.v == FRONT_SAY)) {
		uint8_t *block;

		if (r.v == FRONT_MORE)
			end = len - end > step ? end + step : len;
		block = block_of(data + r.used, end - r.used);
		r.v = front_feed(f, block, end - r.used, &used);
		free(block);
		assert_true(used <= end - r.used);
		assert_true(r.v != FRONT_MORE || used == 0);
		r.used += used;
		if (r.v == FRONT_CHECK)
			r.v = front_checked(f, good);
		if (r.v == FRONT_SAY || r.v == FRONT_REFUSED)
			hear(&r, f);
	}
	return r;
}

/* The same at once, octet by octet, and with something behind it; shortened it is not whole. */
static struct run whole(struct front *f, bool users, bool good, const uint8_t *data, size_t len)
{
	struct run at_once, slow, longer;
	uint8_t *more = malloc(len + 5);
	struct front other;

	assert_non_null(more);
	memcpy(more, data, len);
	memcpy(more + len, "early", 5);
	front_init(&other, users);
	longer = feed(&other, more, len + 5, len + 5, good);
	free(more);
	front_init(&other, users);
	slow = feed(&other, data, len, 1, good);
	front_init(f, users);
	at_once = feed(f, data, len, len, good);
	assert_int_equal(at_once.v, slow.v);
	assert_int_equal(at_once.v, longer.v);
	assert_int_equal(at_once.used, slow.used);
	assert_int_equal(at_once.used, longer.used);
	assert_int_equal(at_once.said, slow.said);
	assert_memory_equal(at_once.out, slow.out, at_once.said);
	assert_memory_equal(&other.dst, &f->dst, sizeof(f->dst));
	for (size_t cut = 0; cut < at_once.used; cut++) {
		front_init(&other, users);
		assert_int_not_equal(feed(&other, data, cut, len, good).v, FRONT_REQUEST);
	}
	return at_once;
}

/* It is a whole request to there. */
static struct run request(struct front *f, bool users, const uint8_t *data, size_t len,
			  enum front_kind kind, const char *name, uint16_t port)
{
	struct run r = whole(f, users, true, data, len);

	assert_int_equal(r.v, FRONT_REQUEST);
	assert_int_equal(r.used, len);
	assert_int_equal(f->kind, kind);
	assert_int_equal(f->command, S6_CMD_CONNECT);
	assert_int_equal(f->dst.port, port);
	if (name) {
		assert_int_equal(f->dst.type, S6_ADDR_NAME);
		assert_string_equal(f->dst.u.name, name);
		assert_int_equal(f->dst.name_len, strlen(name));
	}
	return r;
}

static struct run refused(struct front *f, bool users, bool good, const uint8_t *data, size_t len)
{
	struct run r = whole(f, users, good, data, len);

	assert_int_equal(r.v, FRONT_REFUSED);
	return r;
}

static void answers(struct front *f, unsigned result, const void *wanted, size_t len)
{
	front_answer(f, result);
	assert_int_equal(f->reply_len, len);
	assert_memory_equal(f->reply, wanted, len);
}

/* ---- SOCKS 4 ---- */

static void test_socks4(void **state)
{
	struct front f;

	(void)state;
	request(&f, false, TEXT("\4\1\0\x50\xcb\0\x71\5me\0"), FRONT_SOCKS4, NULL, 80);
	assert_int_equal(f.dst.type, S6_ADDR_IPV4);
	assert_memory_equal(f.dst.u.ip4, "\xcb\0\x71\5", 4);
	answers(&f, S6_REPLY_SUCCESS, "\0\x5a\0\0\0\0\0\0", 8);
	answers(&f, S6_REPLY_REFUSED, "\0\x5b\0\0\0\0\0\0", 8);
	request(&f, false, TEXT("\4\1\1\xbb\0\0\0\1\0www.example.org\0"), FRONT_SOCKS4,
		"www.example.org", 443);
	request(&f, false,
		TEXT("\4\1\1\xbb\0\0\0\xffme\0"
		     "203.0.113.5\0"),
		FRONT_SOCKS4, NULL, 443);
	assert_memory_equal(f.dst.u.ip4, "\xcb\0\x71\5", 4);
}

static void test_socks4_refused(void **state)
{
	const char rejected[8] = "\0\x5b";
	struct run r;
	struct front f;

	(void)state;
	r = refused(&f, true, true, TEXT("\4\1\0\x50\xcb\0\x71\5me\0")); /* no password in it */
	assert_int_equal(r.said, 8);
	assert_memory_equal(r.out, rejected, 8);
	refused(&f, false, true, TEXT("\4\3\0\x50\xcb\0\x71\5\0"));  /* no such command */
	refused(&f, false, true, TEXT("\4\1\0\0\xcb\0\x71\5\0"));    /* no port */
	refused(&f, false, true, TEXT("\4\1\0\x50\0\0\0\1\0\0"));    /* an empty name */
	refused(&f, false, true, TEXT("\4\1\0\x50\0\0\0\1\0a b\0")); /* and a bad one */
}

/* ---- SOCKS 5 ---- */

static void test_socks5(void **state)
{
	struct front f;
	struct run r;

	(void)state;
	r = request(&f, false, TEXT("\5\1\0\5\1\0\1\xcb\0\x71\5\0\x50"), FRONT_SOCKS5, NULL, 80);
	assert_memory_equal(f.dst.u.ip4, "\xcb\0\x71\5", 4);
	assert_int_equal(r.said, 2);
	assert_memory_equal(r.out, "\5\0", 2);
	request(&f, false, TEXT("\5\2\2\0\5\1\0\3\x0bwww.exa.org\1\xbb"), FRONT_SOCKS5,
		"www.exa.org", 443);
	request(&f, false, TEXT("\5\1\0\5\1\0\4\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\5\1\xbb"),
		FRONT_SOCKS5, NULL, 443);
	assert_int_equal(f.dst.type, S6_ADDR_IPV6);
	request(&f, false,
		TEXT("\5\1\0\5\1\0\3\x0d"
		     "2001:db8:1::5\1\xbb"),
		FRONT_SOCKS5, NULL, 443);
	assert_int_equal(f.dst.type, S6_ADDR_IPV6);
}

static void test_socks5_codes(void **state)
{
	static const struct {
		unsigned result;
		uint8_t code;
	} rows[] = {{S6_REPLY_SUCCESS, 0},
		    {S6_REPLY_FAILURE, 1},
		    {S6_REPLY_NOT_ALLOWED, 2},
		    {S6_REPLY_NET_UNREACHABLE, 3},
		    {S6_REPLY_HOST_UNREACHABLE, 4},
		    {S6_REPLY_REFUSED, 5},
		    {S6_REPLY_TTL_EXPIRED, 6},
		    {S6_REPLY_CMD_UNSUPPORTED, 7},
		    {S6_REPLY_ADDR_UNSUPPORTED, 8},
		    {S6_REPLY_TIMED_OUT, 6},
		    {FRONT_NO_PROXY, 1},
		    {FRONT_LOST, 1},
		    {FRONT_NO_NAME, 4},
		    {200, 1}};
	struct front f;

	(void)state;
	request(&f, false, TEXT("\5\1\0\5\1\0\1\xcb\0\x71\5\0\x50"), FRONT_SOCKS5, NULL, 80);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t want[10] = {5, rows[i].code, 0, 1};

		answers(&f, rows[i].result, want, sizeof(want));
	}
}

static void test_socks5_user(void **state)
{
	struct front f;
	struct run r;

	(void)state;
	r = request(&f, true, TEXT("\5\2\0\2\1\3ann\6secret\5\1\0\1\xcb\0\x71\5\0\x50"),
		    FRONT_SOCKS5, NULL, 80);
	assert_int_equal(r.said, 4);
	assert_memory_equal(r.out, "\5\2\1\0", 4);
	assert_int_equal(f.user_len, 3);
	assert_memory_equal(f.user, "ann", 3);
	assert_int_equal(f.pass_len, 0); /* wiped */
	assert_null(memchr(f.pass, 's', sizeof(f.pass)));
	r = refused(&f, true, false, TEXT("\5\1\2\1\3ann\5wrong"));
	assert_int_equal(r.said, 4);
	assert_memory_equal(r.out, "\5\2\1\1", 4);
}

static void test_socks5_refused(void **state)
{
	struct front f;
	struct run r;

	(void)state;
	r = refused(&f, true, true, TEXT("\5\1\0")); /* without a user */
	assert_memory_equal(r.out, "\5\xff", 2);
	r = refused(&f, false, true, TEXT("\5\1\2"));
	assert_memory_equal(r.out, "\5\xff", 2);
	r = refused(&f, false, true, TEXT("\5\0"));
	assert_memory_equal(r.out, "\5\xff", 2);
	refused(&f, true, true, TEXT("\5\1\2\5")); /* no RFC 1929 */
	r = refused(&f, false, true, TEXT("\5\1\0\5\1\0\2"));
	assert_memory_equal(r.out, "\5\0\5\x08\0\1\0\0\0\0\0\0", 12);
	r = refused(&f, false, true, TEXT("\5\1\0\5\x09\0\1\1\2\3\4\0\x50"));
	assert_memory_equal(r.out, "\5\0\5\7\0\1\0\0\0\0\0\0", 12);
	refused(&f, false, true, TEXT("\5\1\0\4\1\0\1"));
	refused(&f, false, true, TEXT("\5\1\0\5\1\0\1\1\2\3\4\0\0")); /* no port */
	refused(&f, false, true, TEXT("\5\1\0\5\1\0\3\0"));
	refused(&f, false, true, TEXT("\5\1\0\5\1\0\3\3a\0b"));
	refused(&f, false, true, TEXT("\5\1\0\5\1\0\3\6fe80%1"));
}

static void test_socks5_commands(void **state)
{
	struct front f;

	(void)state;
	for (uint8_t command = S6_CMD_BIND; command <= S6_CMD_UDP_ASSOCIATE; command++) {
		uint8_t text[] = {5, 1, 0, 5, command, 0, 1, 0, 0, 0, 0, 0, 0};

		assert_int_equal(whole(&f, false, true, text, sizeof(text)).v, FRONT_REQUEST);
		assert_int_equal(f.command, command);
		answers(&f, S6_REPLY_CMD_UNSUPPORTED, "\5\7\0\1\0\0\0\0\0\0", 10);
	}
}

/* ---- HTTP ---- */

#define HTTP_HEAD "CONNECT www.example.org:443 HTTP/1.1\r\nHost: www.example.org:443\r\n"

static void says(const struct run *r, const char *text)
{
	char out[sizeof(r->out) + 1];

	memcpy(out, r->out, r->said);
	out[r->said] = '\0';
	if (!strstr(out, text))
		fail_msg("\"%s\" is not in \"%s\"", text, out);
}

static void replies(struct front *f, unsigned result, const char *text)
{
	struct run r = {0};

	front_answer(f, result);
	hear(&r, f);
	says(&r, text);
	assert_memory_equal(f->reply + f->reply_len - 4, "\r\n\r\n", 4);
}

static void test_http(void **state)
{
	struct front f;

	(void)state;
	request(&f, false, TEXT(HTTP_HEAD "\r\n"), FRONT_HTTP, "www.example.org", 443);
	replies(&f, S6_REPLY_SUCCESS, "HTTP/1.1 200 Connection established\r\n\r\n");
	assert_int_equal(f.reply_len, strlen("HTTP/1.1 200 Connection established\r\n\r\n"));
	replies(&f, S6_REPLY_NOT_ALLOWED, "HTTP/1.1 403 ");
	replies(&f, S6_REPLY_REFUSED,
		"HTTP/1.1 502 Bad Gateway\r\nProxy-Status: sixpath-redir; "
		"error=connection_refused\r\n");
	replies(&f, S6_REPLY_TIMED_OUT, "HTTP/1.1 504 ");
	replies(&f, FRONT_NO_PROXY, "HTTP/1.1 503 ");
	replies(&f, FRONT_NO_NAME, "error=dns_error\r\n");
	replies(&f, FRONT_TOO_SLOW, "HTTP/1.1 408 ");
	request(&f, false, TEXT("CONNECT 203.0.113.5:80 HTTP/1.0\n\n"), FRONT_HTTP, NULL, 80);
	assert_memory_equal(f.dst.u.ip4, "\xcb\0\x71\5", 4);
	request(&f, false, TEXT("CONNECT [2001:db8::5]:80 HTTP/1.1\r\nA: b\r\n\r\n"), FRONT_HTTP,
		NULL, 80);
	assert_int_equal(f.dst.type, S6_ADDR_IPV6);
}

static void test_http_user(void **state)
{
	struct front f;
	struct run r;

	(void)state;
	request(&f, true, TEXT(HTTP_HEAD "Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n\r\n"),
		FRONT_HTTP, "www.example.org", 443);
	assert_int_equal(f.user_len, 3);
	assert_memory_equal(f.user, "ann", 3);
	assert_null(memchr(f.pass, 's', sizeof(f.pass)));
	request(&f, true, TEXT(HTTP_HEAD "proxy-authorization:  basic \t YTo= \r\n\r\n"),
		FRONT_HTTP, "www.example.org", 443);
	r = refused(&f, true, false,
		    TEXT(HTTP_HEAD "Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n\r\n"));
	says(&r, "HTTP/1.1 407 ");
	says(&r, "\r\nProxy-Authenticate: Basic realm=");
	r = refused(&f, true, true, TEXT(HTTP_HEAD "\r\n"));
	says(&r, "HTTP/1.1 407 ");
	refused(&f, true, true,
		TEXT(HTTP_HEAD "Proxy-Authorization: Basic YW5u\r\n\r\n")); /* no ':' */
	refused(&f, true, true, TEXT(HTTP_HEAD "Proxy-Authorization: Basic YW5!\r\n\r\n"));
	refused(&f, true, true, TEXT(HTTP_HEAD "Proxy-Authorization: Basic YW5uO\r\n\r\n"));
	refused(&f, true, true,
		TEXT(HTTP_HEAD "Proxy-Authorization: Bearer YW5uOnNlY3JldA==\r\n\r\n"));
}

/* What the check is to be of. */
static void test_http_credentials(void **state)
{
	static const char text[] = HTTP_HEAD "Proxy-Authorization: Basic YW5uOnNlOmNyZXQ=\r\n\r\n";
	struct front f;
	size_t used;

	(void)state;
	front_init(&f, true);
	assert_int_equal(front_feed(&f, TEXT(text), &used), FRONT_CHECK);
	assert_int_equal(f.user_len, 3);
	assert_memory_equal(f.user, "ann", 3);
	assert_int_equal(f.pass_len, 7);
	assert_memory_equal(f.pass, "se:cret", 7);
}

static void test_http_refused(void **state)
{
	struct front f;
	struct run r;

	(void)state;
	r = refused(&f, false, true, TEXT("GET http://example.org/ HTTP/1.1\r\n\r\n"));
	says(&r, "HTTP/1.1 405 ");
	says(&r, "\r\nAllow: CONNECT\r\n");
	r = refused(&f, false, true, TEXT("CONNECT www.example.org HTTP/1.1\r\n\r\n"));
	says(&r, "HTTP/1.1 400 ");
	refused(&f, false, true, TEXT("CONNECT www.example.org:0 HTTP/1.1\r\n\r\n"));
	refused(&f, false, true, TEXT("CONNECT www.example.org:65536 HTTP/1.1\r\n\r\n"));
	refused(&f, false, true, TEXT("CONNECT www.example.org:8x HTTP/1.1\r\n\r\n"));
	refused(&f, false, true, TEXT("CONNECT 2001:db8::5:80 HTTP/1.1\r\n\r\n"));
	refused(&f, false, true, TEXT("CONNECT [www.example.org]:80 HTTP/1.1\r\n\r\n"));
	refused(&f, false, true, TEXT("CONNECT [::1:80 HTTP/1.1\r\n\r\n"));
	refused(&f, false, true, TEXT("CONNECT http://a/:80 HTTP/1.1\r\n\r\n"));
	refused(&f, false, true, TEXT("CONNECT  a:80 HTTP/1.1\r\n\r\n"));
	refused(&f, false, true, TEXT("CONNECT a:80 HTTP/2.0\r\n\r\n"));
	refused(&f, false, true, TEXT("CONNECT a:80\r\n\r\n"));
	refused(&f, false, true, TEXT("CONNECT a:80 HTTP/1.1\r\nA: b\r\n folded\r\n\r\n"));
	refused(&f, false, true, TEXT("CONNECT a:80 HTTP/1.1\r\nno header\r\n\r\n"));
}

static void test_bound(void **state)
{
	const struct s6_address v4 = {
		.type = S6_ADDR_IPV4, .port = 9000, .u.ip4 = {203, 0, 113, 5}};
	const struct s6_address v6 = {
		.type = S6_ADDR_IPV6, .port = 53, .u.ip6 = {0x20, 1, 0x0d, 0xb8, [15] = 1}};
	uint8_t out[FRONT_SOCKS_REPLY];

	(void)state;
	assert_int_equal(front_reply(FRONT_SOCKS5, S6_REPLY_SUCCESS, &v4, out, sizeof(out)), 10);
	assert_memory_equal(out, "\5\0\0\1\xcb\0\x71\5\x23\x28", 10);
	assert_int_equal(front_reply(FRONT_SOCKS5, FRONT_NO_PROXY, &v6, out, sizeof(out)), 22);
	assert_memory_equal(out, "\5\1\0\4\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\0\x35", 22);
	assert_int_equal(front_reply(FRONT_SOCKS5, S6_REPLY_SUCCESS, &v6, out, 21), 0);
	assert_int_equal(front_reply(FRONT_SOCKS4, S6_REPLY_SUCCESS, &v4, out, sizeof(out)), 8);
	assert_memory_equal(out, "\0\x5a\x23\x28\xcb\0\x71\5", 8);
	assert_int_equal(front_reply(FRONT_SOCKS4, S6_REPLY_REFUSED, &v6, out, sizeof(out)), 8);
	assert_memory_equal(out, "\0\x5b\0\x35\0\0\0\0", 8);
	assert_int_equal(front_reply(FRONT_HTTP, S6_REPLY_SUCCESS, &v4, out, sizeof(out)), 0);
}

static void test_limits(void **state)
{
	static uint8_t text[2 * FRONT_HEAD_MAX];
	struct front f;
	struct run r;

	(void)state;
	memset(text, 'A', sizeof(text));
	r = refused(&f, false, true, text, FRONT_HEAD_MAX);
	says(&r, "HTTP/1.1 431 ");
	memcpy(text, "\4\1\0\x50\xcb\0\x71\5", 8); /* a user name without end */
	front_init(&f, false);
	assert_int_equal(feed(&f, text, FRONT_HEAD_MAX - 1, 999, true).v, FRONT_MORE);
	front_init(&f, false);
	assert_int_equal(feed(&f, text, FRONT_HEAD_MAX, 999, true).v, FRONT_REFUSED);
}

static void test_unknown(void **state)
{
	struct front f;

	(void)state;
	for (unsigned first = 0; first < 256; first++) {
		uint8_t c = (uint8_t)first;
		struct run r;

		front_init(&f, false);
		r = feed(&f, &c, 1, 1, true);
		if (c == 4 || c == 5 || (c >= 'A' && c <= 'Z')) {
			assert_int_equal(r.v, FRONT_MORE);
			continue;
		}
		assert_int_equal(r.v, FRONT_REFUSED);
		assert_int_equal(r.said, 0);
		assert_string_equal(front_kind_str(f.kind), "unknown");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_socks4),          cmocka_unit_test(test_socks4_refused),
		cmocka_unit_test(test_socks5),          cmocka_unit_test(test_socks5_codes),
		cmocka_unit_test(test_socks5_user),     cmocka_unit_test(test_socks5_refused),
		cmocka_unit_test(test_socks5_commands), cmocka_unit_test(test_http),
		cmocka_unit_test(test_http_user),       cmocka_unit_test(test_http_credentials),
		cmocka_unit_test(test_http_refused),    cmocka_unit_test(test_limits),
		cmocka_unit_test(test_unknown),         cmocka_unit_test(test_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
