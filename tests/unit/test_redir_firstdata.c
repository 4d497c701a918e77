/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is learned about ports whose servers speak first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redir/firstdata.h"

#define NOW 1700000000. /* about; the start of a minute */

static void test_learns_and_forgets(void **state)
{
	struct firstdata f = {0};

	(void)state;
	assert_true(firstdata_waits(&f, 22, NOW));
	firstdata_server_first(&f, 22, NOW);
	assert_false(firstdata_waits(&f, 22, NOW));
	firstdata_client_first(&f, 22);
	assert_true(firstdata_waits(&f, 22, NOW));
	firstdata_client_first(&f, 22);
	assert_true(firstdata_waits(&f, 22, NOW));
	firstdata_server_first(&f, 22, NOW);
	assert_false(firstdata_waits(&f, 22, NOW));
}

/* Each port for itself; 0 is none. */
static void test_ports(void **state)
{
	(void)state;
	for (uint32_t port = 0; port <= UINT16_MAX; port++) {
		struct firstdata f = {0};

		assert_true(firstdata_waits(&f, (uint16_t)port, NOW));
		firstdata_server_first(&f, (uint16_t)port, NOW);
		assert_int_equal(firstdata_waits(&f, (uint16_t)port, NOW), port == 0);
		for (uint32_t other = port % 7; other <= UINT16_MAX; other += 257)
			assert_true(other == port || firstdata_waits(&f, (uint16_t)other, NOW));
	}
}

static void test_empty_and_zero(void **state)
{
	struct firstdata f = {0};

	(void)state;
	/* An empty slot reads as port 0 in minute 0. */
	assert_true(firstdata_waits(&f, 0, 0));
	firstdata_client_first(&f, 0);
	firstdata_server_first(&f, 1, 0);
	assert_false(firstdata_waits(&f, 1, 0));
}

static void test_fades(void **state)
{
	static const double starts[] = {NOW, NOW + 59, 0, 65535. * 60, 65536. * 60, 65500. * 60};

	(void)state;
	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		struct firstdata f = {0};
		double s = starts[i];

		firstdata_server_first(&f, 25, s);
		assert_false(firstdata_waits(&f, 25, s));
		assert_false(firstdata_waits(&f, 25, s + 1800));
		assert_false(firstdata_waits(&f, 25, s + FIRSTDATA_TTL_S));
		assert_true(firstdata_waits(&f, 25, s + FIRSTDATA_TTL_S + 60));
		assert_true(firstdata_waits(&f, 25, s + 10. * FIRSTDATA_TTL_S));
		assert_true(firstdata_waits(&f, 25, s + 30. * 86400));
		firstdata_server_first(&f, 25, s + 3000); /* seen again: an hour more */
		assert_false(firstdata_waits(&f, 25, s + 3000 + FIRSTDATA_TTL_S));
		assert_true(firstdata_waits(&f, 25, s + 3060 + FIRSTDATA_TTL_S));
	}
}

/* A clock that was set back makes nothing last longer than it should. */
static void test_clock_set_back(void **state)
{
	struct firstdata f = {0};

	(void)state;
	firstdata_server_first(&f, 25, NOW);
	assert_true(firstdata_waits(&f, 25, NOW - 120));
	assert_true(firstdata_waits(&f, 25, NOW - 86400));
}

/* Ports that share a slot: the later one has it, and the other's departure does no harm. */
static void test_collisions(void **state)
{
	struct firstdata f = {0};
	unsigned collisions = 0;

	(void)state;
	for (uint32_t port = 1; port <= UINT16_MAX; port++) {
		if (port == 22)
			continue;
		firstdata_server_first(&f, 22, NOW);
		firstdata_server_first(&f, (uint16_t)port, NOW);
		assert_false(firstdata_waits(&f, (uint16_t)port, NOW));
		if (!firstdata_waits(&f, 22, NOW)) {
			firstdata_client_first(&f, (uint16_t)port);
			assert_false(firstdata_waits(&f, 22, NOW));
			continue;
		}
		collisions++;
		firstdata_client_first(&f, 22); /* not its slot any more */
		assert_false(firstdata_waits(&f, (uint16_t)port, NOW));
	}
	/* One in FIRSTDATA_SLOTS, give or take: the ports are spread. */
	assert_in_range(collisions, 65536 / FIRSTDATA_SLOTS / 2, 65536 / FIRSTDATA_SLOTS * 2);
}

/* Neighbours, of which many are known ports, do not displace each other. */
static void test_neighbours(void **state)
{
	(void)state;
	for (uint32_t port = 1; port < UINT16_MAX - 8; port++) {
		struct firstdata f = {0};

		for (uint16_t i = 0; i < 8; i++)
			firstdata_server_first(&f, (uint16_t)(port + i), NOW);
		for (uint16_t i = 0; i < 8; i++)
			assert_false(firstdata_waits(&f, (uint16_t)(port + i), NOW));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_learns_and_forgets), cmocka_unit_test(test_ports),
		cmocka_unit_test(test_empty_and_zero),     cmocka_unit_test(test_fades),
		cmocka_unit_test(test_clock_set_back),     cmocka_unit_test(test_collisions),
		cmocka_unit_test(test_neighbours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
