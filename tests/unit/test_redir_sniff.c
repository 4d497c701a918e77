/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names in first octets: hellos and requests, whole, cut at every length, and those to be left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redir/sniff.h"

struct hello {
	uint8_t octets[1024];
	size_t len;
};

static void put(struct hello *h, const void *data, size_t n)
{
	assert_true(n <= sizeof(h->octets) - h->len);
	memcpy(h->octets + h->len, data, n);
	h->len += n;
}

static void put16(struct hello *h, size_t v)
{
	const uint8_t b[2] = {(uint8_t)(v >> 8), (uint8_t)v};

	put(h, b, 2);
}

static void put_name(struct hello *h, const char *name)
{
	size_t n = strlen(name);

	put16(h, 0);
	put16(h, n + 5);
	put16(h, n + 3);
	put(h, "\0", 1);
	put16(h, n);
	put(h, name, n);
}

/* A ClientHello with a session, two suites, some extensions, and these. */
static struct hello hello(const struct hello *extensions)
{
	static const char body[] = "\3\3"
				   "0123456789abcdef0123456789abcdef"
				   "\4SESS"
				   "\0\4\x13\1\x13\2"
				   "\1\0";
	static const char more[] = "\0\x2b\0\3\2\3\4"
				   "\0\x0a\0\4\0\2\0\x1d";
	size_t ext = extensions->len + sizeof(more) - 1, len = sizeof(body) - 1 + 2 + ext;
	struct hello h = {.len = 0};

	put(&h, "\x16\3\1", 3);
	put16(&h, len + 4);
	put(&h, "\1\0", 2);
	put16(&h, len);
	put(&h, body, sizeof(body) - 1);
	put16(&h, ext);
	put(&h, extensions->octets, extensions->len);
	put(&h, more, sizeof(more) - 1);
	return h;
}

static struct hello hello_to(const char *name)
{
	struct hello ext = {.len = 0};

	put_name(&ext, name);
	return hello(&ext);
}

/* On the heap, so that one octet too far is seen. */
static bool sniff(const void *data, size_t len, char *name)
{
	uint8_t *p = malloc(len ? len : 1);
	bool found;

	assert_non_null(p);
	memcpy(p, data, len);
	found = sniff_name(p, len, 80, name);
	free(p);
	return found;
}

static void test_tls(void **state)
{
	struct hello h = hello_to("www.Example.net"), other = {.len = 0};
	char name[SNIFF_NAME_MAX + 1];

	(void)state;
	assert_true(sniff(h.octets, h.len, name));
	assert_string_equal(name, "www.example.net");
	for (size_t n = 0; n < h.len; n++)
		assert_false(sniff(h.octets, n, name));
	put(&h, "\x14\3\3\0\1\1", 6); /* another record behind it */
	assert_true(sniff(h.octets, h.len, name));
	h = hello(&other); /* none in it */
	assert_false(sniff(h.octets, h.len, name));
	put_name(&other, "a.example.net");
	put_name(&other, "b.example.net");
	h = hello(&other);
	assert_false(sniff(h.octets, h.len, name));
}

static void test_tls_left_alone(void **state)
{
	static const uint16_t encrypted[] = {0xfe0d, 0xffce};
	char name[SNIFF_NAME_MAX + 1];
	struct hello h;

	(void)state;
	for (int i = 0; i < 4; i++) { /* in front of the name, and behind it */
		struct hello ext = {.len = 0};

		if (i & 1)
			put_name(&ext, "www.example.net");
		put16(&ext, encrypted[i / 2]);
		put16(&ext, 3);
		put(&ext, "abc", 3);
		if (!(i & 1))
			put_name(&ext, "www.example.net");
		h = hello(&ext);
		assert_false(sniff(h.octets, h.len, name));
	}
	h = hello_to("www.example.net");
	h.octets[5] = 2; /* a ServerHello */
	assert_false(sniff(h.octets, h.len, name));
	h = hello_to("www.example.net");
	h.octets[3] = 0; /* the first record of several */
	h.octets[4] = 40;
	assert_false(sniff(h.octets, h.len, name));
}

static void test_names(void **state)
{
	static const char *const good[] = {"example.net",    "a-b.example.net",
					   "_x.example.net", "xn--bcher-kva.example",
					   "1.example",      "a.lan.example"};
	static const char *const bad[] = {"example",
					  "192.0.2.1",
					  "1.2.3.4.5",
					  "printer.local",
					  "router.lan",
					  "nas.home.arpa",
					  "x.localhost",
					  "abc.onion",
					  "a..net",
					  ".example.net",
					  "-a.example.net",
					  "a-.example.net",
					  "a.example-",
					  "ex ample.net",
					  "a.b\xc3\xbc.net",
					  "a/b.net",
					  "",
					  "2001:db8::1",
					  "[2001:db8::1]",
					  "a.example.net\n",
					  "example.n3t:80"};
	char text[300], name[SNIFF_NAME_MAX + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!sniff_is_public(good[i]))
			fail_msg("%s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct hello h = hello_to(bad[i]);

		if (sniff_is_public(bad[i]) || sniff(h.octets, h.len, name))
			fail_msg("%s", bad[i]);
	}
	/* Labels of 63 octets, names of 253. */
	memset(text, 'a', sizeof(text));
	strcpy(text + 63, ".example");
	assert_true(sniff_is_public(text));
	memset(text, 'a', 64);
	strcpy(text + 64, ".example");
	assert_false(sniff_is_public(text));
	for (size_t i = 0; i < 254; i++)
		text[i] = i % 2 ? '.' : 'a';
	text[253] = '\0';
	assert_true(sniff(hello_to(text).octets, hello_to(text).len, name));
	strcpy(text + 253, ".a");
	assert_false(sniff(hello_to(text).octets, hello_to(text).len, name));
}

static bool http(const char *text, char *name)
{
	return sniff(text, strlen(text), name);
}

static void test_http(void **state)
{
	static const char whole[] =
		"GET /a?b HTTP/1.1\r\nUser-Agent: x\r\nhOsT: \twww.Example.net. \r\nX: y\r\n\r\n";
	char name[SNIFF_NAME_MAX + 1];

	(void)state;
	assert_true(http(whole, name));
	assert_string_equal(name, "www.example.net");
	for (size_t n = 0; n + 1 < sizeof(whole); n++)
		assert_false(sniff(whole, n, name));
	assert_true(http("POST / HTTP/1.0\nHost: example.net:80\n\nbody", name));
	assert_string_equal(name, "example.net");
}

static void test_http_left_alone(void **state)
{
	static const char *const rows[] = {
		"GET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: example.net:81\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: example.net:99999999999999999999\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: example.net:\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: example.net:8x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n",
		"GET / HTTP/1.1\r\nHost:\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
		"GET / HTTP/1.1\r\nX-Host: a.example\r\n\r\n",
		"CONNECT a.example:80 HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"get / HTTP/1.1\r\nHost: a.example\r\n\r\n",
		"GET / HTTP/2.0\r\nHost: a.example\r\n\r\n",
		"SSH-2.0-x\r\nHost: a.example\r\n\r\n",
		"\r\nHost: a.example\r\n\r\n",
	};
	char name[SNIFF_NAME_MAX + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (http(rows[i], name))
			fail_msg("%s: %s", rows[i], name);
	assert_false(sniff("GET / HTTP/1.1\r\nHost: a\0b.example\r\n\r\n", 38, name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tls),
		cmocka_unit_test(test_tls_left_alone),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_http),
		cmocka_unit_test(test_http_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
