/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The addresses of our own connections, many at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redir/loopguard.h"

#define MANY 20000 /* a chain in every bucket */

static struct addr addr_of(const char *text)
{
	struct addr a;

	assert_true(addr_parse(&a, text, -1));
	return a;
}

/* Pair number i: one local port and address, and one of a few servers. */
static void pair_of(unsigned i, struct addr *local, struct addr *remote)
{
	char text[64];

	if (i % 2)
		snprintf(text, sizeof(text), "[2001:db8::%x]:%u", 1 + i % 3, 1024 + i);
	else
		snprintf(text, sizeof(text), "192.0.2.%u:%u", 1 + i % 5, 1024 + i);
	*local = addr_of(text);
	if (i % 2)
		snprintf(text, sizeof(text), "[2001:db8:1::%x]:443", 1 + i % 7);
	else
		snprintf(text, sizeof(text), "198.51.100.%u:443", 1 + i % 11);
	*remote = addr_of(text);
}

static struct loopguard *start(void)
{
	struct loopguard *g = loopguard_new();

	assert_non_null(g);
	return g;
}

static void test_exact_pair(void **state)
{
	struct loopguard *g = start();
	struct loopguard_entry e = {0};
	struct addr local = addr_of("192.0.2.1:40000"), remote = addr_of("198.51.100.1:443"), other;

	(void)state;
	assert_false(loopguard_has(g, &local, &remote));
	loopguard_add(g, &e, &local, &remote);
	assert_true(loopguard_has(g, &local, &remote));
	assert_false(loopguard_has(g, &remote, &local));
	other = addr_of("192.0.2.1:40001");
	assert_false(loopguard_has(g, &other, &remote));
	other = addr_of("192.0.2.2:40000");
	assert_false(loopguard_has(g, &other, &remote));
	other = addr_of("198.51.100.1:80");
	assert_false(loopguard_has(g, &local, &other));
	other = addr_of("198.51.100.2:443");
	assert_false(loopguard_has(g, &local, &other));
	loopguard_remove(g, &e);
	assert_false(loopguard_has(g, &local, &remote));
	loopguard_free(g);
}

/* A second dial of the same flow: what the entry said before is forgotten. */
static void test_add_replaces(void **state)
{
	struct loopguard *g = start();
	struct loopguard_entry e = {0};
	struct addr l1 = addr_of("192.0.2.1:40000"), l2 = addr_of("[2001:db8::1]:40000"),
		    r1 = addr_of("198.51.100.1:443"), r2 = addr_of("198.51.100.2:443");

	(void)state;
	loopguard_add(g, &e, &l1, &r1);
	loopguard_add(g, &e, &l1, &r2); /* the same bucket */
	assert_false(loopguard_has(g, &l1, &r1));
	assert_true(loopguard_has(g, &l1, &r2));
	loopguard_add(g, &e, &l2, &r2); /* another one */
	assert_false(loopguard_has(g, &l1, &r2));
	assert_true(loopguard_has(g, &l2, &r2));
	loopguard_add(g, &e, &l2, &r2); /* the same again */
	assert_true(loopguard_has(g, &l2, &r2));
	loopguard_remove(g, &e);
	assert_false(loopguard_has(g, &l2, &r2));
	loopguard_free(g);
}

static void test_remove_is_harmless(void **state)
{
	struct loopguard *g = start();
	struct loopguard_entry e = {0}, never = {0};
	struct addr local = addr_of("192.0.2.1:40000"), remote = addr_of("198.51.100.1:443");

	(void)state;
	loopguard_remove(g, &never);
	loopguard_add(g, &e, &local, &remote);
	loopguard_remove(g, &never);
	assert_true(loopguard_has(g, &local, &remote));
	loopguard_remove(g, &e);
	loopguard_remove(g, &e);
	loopguard_add(g, &e, &local, &remote);
	assert_true(loopguard_has(g, &local, &remote));
	loopguard_remove(g, &e);
	loopguard_free(g);
	loopguard_free(NULL);
}

/* Two connections cannot have one pair, but one's end may be noticed after the other's start. */
static void test_two_entries_one_pair(void **state)
{
	struct loopguard *g = start();
	struct loopguard_entry old = {0}, new = {0};
	struct addr local = addr_of("192.0.2.1:40000"), remote = addr_of("198.51.100.1:443");

	(void)state;
	loopguard_add(g, &old, &local, &remote);
	loopguard_add(g, &new, &local, &remote);
	loopguard_remove(g, &old);
	assert_true(loopguard_has(g, &local, &remote));
	loopguard_remove(g, &new);
	assert_false(loopguard_has(g, &local, &remote));
	loopguard_free(g);
}

static void assert_has(struct loopguard *g, unsigned i, bool has)
{
	struct addr local, remote;

	pair_of(i, &local, &remote);
	assert_int_equal(loopguard_has(g, &local, &remote), has);
}

static void test_many(void **state)
{
	struct loopguard *g = start();
	struct loopguard_entry *e = calloc(MANY, sizeof(*e));
	struct addr local, remote;

	(void)state;
	assert_non_null(e);
	for (unsigned i = 0; i < MANY; i++) {
		pair_of(i, &local, &remote);
		loopguard_add(g, &e[i], &local, &remote);
	}
	for (unsigned i = 0; i < MANY; i++)
		assert_has(g, i, true);
	/* out of the middle, the front and the end of chains */
	for (unsigned i = 0; i < MANY; i++)
		if (i % 3 == 1)
			loopguard_remove(g, &e[i]);
	for (unsigned i = 0; i < MANY; i++)
		assert_has(g, i, i % 3 != 1);
	for (unsigned i = MANY; i-- > 0;) /* entries that are listed, with another pair */
		if (i % 3 == 2) {
			pair_of(i + MANY, &local, &remote);
			loopguard_add(g, &e[i], &local, &remote);
		}
	for (unsigned i = 0; i < MANY; i++) {
		assert_has(g, i, i % 3 == 0);
		assert_has(g, i + MANY, i % 3 == 2);
	}
	for (unsigned i = 0; i < MANY; i++)
		loopguard_remove(g, &e[i]);
	for (unsigned i = 0; i < 2 * MANY; i++)
		assert_has(g, i, false);
	free(e);
	loopguard_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact_pair),
		cmocka_unit_test(test_add_replaces),
		cmocka_unit_test(test_remove_is_harmless),
		cmocka_unit_test(test_two_entries_one_pair),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
