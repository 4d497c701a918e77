/* SPDX-License-Identifier: MIT */
/* Username and password in Authentication Data options (section 6.2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "libsocks6/socks6.h"
#include "s6_hex.h"

static struct s6_auth_data data_of(const uint8_t *p, size_t len)
{
	return (struct s6_auth_data){S6_METHOD_USERPASS, (uint16_t)len, p};
}

static enum s6_result parse(const char *text)
{
	size_t len;
	uint8_t *block = hex_block(text, &len);
	struct s6_auth_data d = data_of(block, len);
	struct s6_userpass up;
	enum s6_result result = s6_userpass_parse(&d, &up);

	free(block);
	return result;
}

static enum s6_result parse_status(const char *text, uint8_t *status)
{
	size_t len;
	uint8_t *block = hex_block(text, &len);
	struct s6_auth_data d = data_of(block, len);
	enum s6_result result = s6_userpass_status_parse(&d, status);

	free(block);
	return result;
}

static void test_parse(void **state)
{
	size_t len;
	uint8_t *block = hex_block("01 03 616263 02 7879 000000", &len);
	struct s6_auth_data d = data_of(block, len);
	struct s6_userpass up;

	(void)state;
	assert_int_equal(s6_userpass_parse(&d, &up), S6_OK);
	assert_int_equal(up.user_len, 3);
	assert_memory_equal(up.user, "abc", 3);
	assert_int_equal(up.pass_len, 2);
	assert_memory_equal(up.pass, "xy", 2);
	d.method = S6_METHOD_GSSAPI;
	assert_int_equal(s6_userpass_parse(&d, &up), S6_BAD);
	free(block);
}

static void test_malformed(void **state)
{
	static const char *const bad[] = {
		"",
		"01",
		"01 03",
		"01 03 6162",                    /* name beyond the end */
		"01 03 616263",                  /* no password */
		"01 03 616263 02",               /* half a password field */
		"01 03 616263 02 78",            /* password beyond the end */
		"01 03 616263 FF 7879 000000",   /* far beyond */
		"02 03 616263 02 7879 000000",   /* version 2 */
		"00 03 616263 02 7879 000000",   /* version 0 */
		"01 00 02 7879 000000",          /* empty name */
		"01 03 616263 00 000000",        /* empty password */
		"01 03 616263 02 7879 00000000", /* more than padding can be */
		"01 03 616263 01 78 0000000000", /* length octet too small */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(parse(bad[i]), S6_BAD);
	assert_int_equal(parse("01 03 616263 02 7879"), S6_OK);
	assert_int_equal(parse("01 03 616263 02 7879 ABCDEF"),
			 S6_OK); /* padding is not looked at */
}

static void test_status(void **state)
{
	uint8_t out[3], status = 0;
	struct s6_auth_data d = data_of(out, sizeof(out));

	(void)state;
	for (unsigned want = 0; want < 256; want++) {
		s6_userpass_status_build((uint8_t)want, out);
		assert_int_equal(out[0], 1);
		assert_int_equal(out[2], 0);
		assert_int_equal(s6_userpass_status_parse(&d, &status), S6_OK);
		assert_int_equal(status, want);
	}
	d.method = S6_METHOD_GSSAPI;
	assert_int_equal(s6_userpass_status_parse(&d, &status), S6_BAD);
	assert_int_equal(parse_status("", &status), S6_BAD);
	assert_int_equal(parse_status("01", &status), S6_BAD);
	assert_int_equal(parse_status("020000", &status), S6_BAD);
	assert_int_equal(parse_status("0100 0000000000", &status), S6_BAD); /* Length is 8 */
}

/* Every pair of lengths near the edges: built, padded and read back. */
static void test_build(void **state)
{
	static const uint8_t lengths[] = {1, 2, 3, 4, 5, 127, 128, 252, 253, 254, 255};
	uint8_t text[S6_USERPASS_MAX], out[516];
	struct s6_userpass up = {0, 0, text, text}, again;

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)i;
	for (size_t n = 0; n < sizeof(lengths) * sizeof(lengths); n++) {
		struct s6_auth_data d;
		size_t len = 0, exact;

		up.user_len = lengths[n % sizeof(lengths)];
		up.pass_len = lengths[n / sizeof(lengths)];
		exact = 3u + up.user_len + up.pass_len;
		assert_int_equal(s6_userpass_build(&up, out, sizeof(out), &len), S6_OK);
		assert_int_equal((4 + 1 + len) % 4, 0); /* header and method in front */
		assert_in_range(len, exact, exact + 3);
		for (size_t i = exact; i < len; i++)
			assert_int_equal(out[i], 0);
		d = data_of(out, len);
		assert_int_equal(s6_userpass_parse(&d, &again), S6_OK);
		assert_int_equal(again.user_len, up.user_len);
		assert_memory_equal(again.user, text, up.user_len);
		assert_int_equal(again.pass_len, up.pass_len);
		assert_memory_equal(again.pass, text, up.pass_len);
		for (size_t cap = 0; cap < len; cap++) {
			uint8_t *block = block_of(out, cap);

			assert_int_equal(s6_userpass_build(&up, block, cap, &exact), S6_MORE);
			free(block);
		}
	}
	up.user_len = 0;
	assert_int_equal(s6_userpass_build(&up, out, sizeof(out), &(size_t){0}), S6_BAD);
	up.user_len = 1;
	up.pass_len = 0;
	assert_int_equal(s6_userpass_build(&up, out, sizeof(out), &(size_t){0}), S6_BAD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_build),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
