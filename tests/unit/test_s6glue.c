/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/reason.h"
#include "core/s6glue.h"

static void addresses(void **state)
{
	static const uint8_t ip4[] = {192, 0, 2, 7};
	struct addr a, back;
	struct s6_address s6;

	(void)state;
	assert_true(addr_parse(&a, "192.0.2.7:8080", -1));
	s6glue_from_addr(&s6, &a);
	assert_int_equal(s6.type, S6_ADDR_IPV4);
	assert_int_equal(s6.port, 8080);
	assert_memory_equal(s6.u.ip4, ip4, 4);
	assert_true(s6glue_to_addr(&back, &s6));
	assert_true(addr_equal(&a, &back));

	assert_true(addr_parse(&a, "[2001:db8::7]:443", -1));
	s6glue_from_addr(&s6, &a);
	assert_int_equal(s6.type, S6_ADDR_IPV6);
	assert_int_equal(s6.port, 443);
	assert_int_equal(s6.u.ip6[0], 0x20);
	assert_int_equal(s6.u.ip6[15], 7);
	assert_true(s6glue_to_addr(&back, &s6));
	assert_true(addr_equal(&a, &back));

	/* unset, as in failure replies: 0.0.0.0:0 */
	memset(&a, 0, sizeof(a));
	s6glue_from_addr(&s6, &a);
	assert_int_equal(s6.type, S6_ADDR_IPV4);
	assert_int_equal(s6.port, 0);
	assert_true(s6glue_to_addr(&back, &s6));
	assert_true(addr_is_any(&back));
}

static void names_and_mapped(void **state)
{
	struct s6_address s6 = {.type = S6_ADDR_NAME, .port = 80, .name_len = 1, .u.name = "a"};
	struct addr a, b;

	(void)state;
	assert_false(s6glue_to_addr(&a, &s6));
	s6.type = 77;
	assert_false(s6glue_to_addr(&a, &s6));
	/* an IPv4-mapped address from the wire is the IPv4 address */
	s6.type = S6_ADDR_IPV6;
	memset(&s6.u, 0, sizeof(s6.u));
	s6.u.ip6[10] = s6.u.ip6[11] = 0xff;
	s6.u.ip6[12] = 127;
	s6.u.ip6[15] = 1;
	assert_true(s6glue_to_addr(&a, &s6));
	assert_true(addr_parse(&b, "127.0.0.1:80", -1));
	assert_true(addr_equal(&a, &b));
}

static void codes(void **state)
{
	static const struct {
		int err;
		uint8_t code;
	} rows[] = {
		{0, S6_REPLY_SUCCESS},
		{ECONNREFUSED, S6_REPLY_REFUSED},
		{ECONNRESET, S6_REPLY_REFUSED},
		{ENETUNREACH, S6_REPLY_NET_UNREACHABLE},
		{EHOSTUNREACH, S6_REPLY_HOST_UNREACHABLE},
		{ETIMEDOUT, S6_REPLY_TIMED_OUT},
		{EACCES, S6_REPLY_NOT_ALLOWED},
		{EAFNOSUPPORT, S6_REPLY_ADDR_UNSUPPORTED},
		{EMFILE, S6_REPLY_FAILURE},
		{EINVAL, S6_REPLY_FAILURE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(s6glue_reply_of_errno(rows[i].err), rows[i].code);
	/* each known code has an errno that leads back to it; unknown ones are failures */
	for (int code = 0; code < 256; code++) {
		int err = s6glue_errno_of_reply((uint8_t)code);
		assert_true(err > 0 || code == S6_REPLY_SUCCESS);
		assert_int_equal(s6glue_reply_of_errno(err),
				 code <= S6_REPLY_TIMED_OUT ? code : S6_REPLY_FAILURE);
	}
	assert_int_equal(s6glue_errno_of_reply(S6_REPLY_REFUSED), ECONNREFUSED);
	assert_int_equal(s6glue_errno_of_reply(S6_REPLY_NET_UNREACHABLE), ENETUNREACH);
}

static void reasons(void **state)
{
	(void)state;
	for (int i = 0; i < END__COUNT; i++) {
		const char *word = end_reason_str((enum end_reason)i);
		assert_string_not_equal(word, "unknown");
		for (int k = 0; k < i; k++)
			assert_string_not_equal(word, end_reason_str((enum end_reason)k));
	}
	assert_string_equal(end_reason_str(END__COUNT), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses),
		cmocka_unit_test(names_and_mapped),
		cmocka_unit_test(codes),
		cmocka_unit_test(reasons),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
