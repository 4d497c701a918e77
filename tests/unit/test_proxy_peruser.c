/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proxy/issued.h"
#include "proxy/peruser.h"

static void test_limit(void **state)
{
	struct peruser *p = peruser_new();

	(void)state;
	assert_non_null(p);
	assert_true(peruser_take(p, "anna", 2));
	assert_true(peruser_take(p, "anna", 2));
	assert_false(peruser_take(p, "anna", 2));
	assert_true(peruser_take(p, "bert", 2)); /* each his own */
	peruser_give(p, "anna");
	assert_true(peruser_take(p, "anna", 2));
	peruser_give(p, "anna");
	peruser_give(p, "anna");
	peruser_give(p, "bert");
	peruser_give(p, "nobody");
	assert_true(peruser_take(p, "anna", 1));
	peruser_free(p);
}

/* More users than buckets; the longest name; one that is too long. */
static void test_many(void **state)
{
	struct peruser *p = peruser_new();
	char name[ISSUED_USER_MAX + 1];

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "user%u", i);
		assert_true(peruser_take(p, name, 1));
		assert_false(peruser_take(p, name, 1));
	}
	for (unsigned i = 0; i < 1000; i += 2) {
		snprintf(name, sizeof(name), "user%u", i);
		peruser_give(p, name);
	}
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "user%u", i);
		assert_int_equal(peruser_take(p, name, 1), i % 2 == 0);
	}
	memset(name, 'x', sizeof(name));
	name[ISSUED_USER_MAX] = '\0';
	assert_false(peruser_take(p, name, 1));
	name[ISSUED_USER_MAX - 1] = '\0';
	assert_true(peruser_take(p, name, 1));
	peruser_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
