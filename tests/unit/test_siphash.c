/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SipHash-2-4 against the values its authors published. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/siphash.h"

static void test_published(void **state)
{
	const struct siphash_key key = {{0x0706050403020100u, 0x0f0e0d0c0b0a0908u}};
	uint8_t in[16];

	(void)state;
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)i;
	assert_true(siphash(&key, in, 0) == 0x726fdb47dd0e0e31u);
	assert_true(siphash(&key, in, 1) == 0x74f839c593dc67fdu);
	assert_true(siphash(&key, in, 8) == 0x93f5f5799a932462u);
	assert_true(siphash(&key, in, 15) == 0xa129ca6149be45e5u);
}

static void test_keys_differ(void **state)
{
	struct siphash_key a, b;

	(void)state;
	assert_true(siphash_new_key(&a));
	assert_true(siphash_new_key(&b));
	assert_true(a.k[0] != b.k[0] && a.k[1] != b.k[1]);
	assert_true(siphash(&a, "x", 1) != siphash(&b, "x", 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_published),
		cmocka_unit_test(test_keys_differ),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
