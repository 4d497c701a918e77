/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The PROXY protocol header, octet by octet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/addr.h"
#include "redir/proxyv2.h"

#define SIGNATURE "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"

static size_t build(const char *src, const char *dst, uint8_t *out)
{
	struct addr s = {0}, d = {0};

	if (src)
		assert_true(addr_parse(&s, src, -1));
	if (dst)
		assert_true(addr_parse(&d, dst, -1));
	return proxyv2_build(&s, &d, out);
}

static void test_ipv4(void **state)
{
	uint8_t out[PROXYV2_MAX];

	(void)state;
	assert_int_equal(build("203.0.113.2:1234", "198.51.100.1:443", out), 28);
	assert_memory_equal(out,
			    SIGNATURE "\x21\x11\x00\x0c" /* version 2, PROXY; TCP over IPv4; 12 */
				      "\xcb\x00\x71\x02\xc6\x33\x64\x01\x04\xd2\x01\xbb",
			    28);
}

static void test_ipv6(void **state)
{
	uint8_t out[PROXYV2_MAX];

	(void)state;
	assert_int_equal(build("[2001:db8::2]:1", "[2001:db8::1]:65535", out), 52);
	assert_memory_equal(out,
			    SIGNATURE
			    "\x21\x21\x00\x24"
			    "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"
			    "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
			    "\x00\x01\xff\xff",
			    52);
}

/* A port of all addresses: of the destination only that is known. */
static void test_other_family(void **state)
{
	uint8_t out[PROXYV2_MAX];

	(void)state;
	assert_int_equal(build("203.0.113.2:1234", "[::]:443", out), 28);
	assert_memory_equal(
		out, SIGNATURE "\x21\x11\x00\x0c\xcb\x00\x71\x02\x00\x00\x00\x00\x04\xd2\x01\xbb",
		28);
}

static void test_unknown(void **state)
{
	uint8_t out[PROXYV2_MAX];

	(void)state;
	assert_int_equal(build(NULL, "[::]:443", out), 16);
	assert_memory_equal(out, SIGNATURE "\x20\x00\x00\x00", 16); /* LOCAL */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ipv4),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_other_family),
		cmocka_unit_test(test_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
