/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/sndlimit.h"

#define SYN_RECV 3
#define SYN_WIN  64240
#define SCALE    10

/* The window the kernel sets on a subflow after sending up to this octet. */
static uint32_t wrong(uint64_t sent)
{
	return (uint32_t)(((uint64_t)SYN_WIN << SCALE) - sent);
}

static struct sndlimit fresh(void)
{
	struct sock_info info = {.state = SYN_RECV, .snd_wnd = SYN_WIN, .snd_wscale = SCALE};
	struct sndlimit s;

	sndlimit_init(&s, &info);
	return s;
}

static void starts_with_the_window_of_the_syn(void **state)
{
	struct sndlimit s = fresh();
	struct sock_window none = {.in_flight = 0};

	(void)state;
	assert_int_equal(sndlimit_credit(&s, &none, 0), SYN_WIN);
	none.in_flight = 60000;
	assert_int_equal(sndlimit_credit(&s, &none, 60000), SYN_WIN - 60000);
	none.in_flight = 64000;
	assert_int_equal(sndlimit_credit(&s, &none, 64000), 0); /* less than is worth it */
}

static void a_true_window_moves_the_edge(void **state)
{
	struct sndlimit s = fresh();
	struct sock_window w = {.in_flight = 10000, .number = 1, .window = {100000}};

	(void)state;
	/* 50,000 of 60,000 acknowledged: the edge is at 150,000. */
	assert_int_equal(sndlimit_credit(&s, &w, 60000), 90000);
	/* A smaller one later does not take it back. */
	w = (struct sock_window){.in_flight = 10000, .number = 1, .window = {20000}};
	assert_int_equal(sndlimit_credit(&s, &w, 60000), 90000);
}

static void a_wrong_window_is_passed_over(void **state)
{
	struct sndlimit s = fresh();
	uint64_t at[] = {50000, 1000000, 20000000, 60000000};

	(void)state;
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		struct sock_window w = {.in_flight = 40000, .number = 2};
		uint64_t edge = s.edge;

		w.window[0] = wrong(at[i]);         /* right after sending the last octet */
		w.window[1] = wrong(at[i] - 39000); /* before the last 39,000 */
		sndlimit_credit(&s, &w, at[i]);
		assert_int_equal(s.edge, edge);
		w.window[1] = 80000; /* the other was told the truth */
		assert_int_equal(sndlimit_credit(&s, &w, at[i]), 40000);
		assert_int_equal(s.edge, at[i] + 40000);
	}
}

static void the_least_of_true_windows_counts(void **state)
{
	struct sndlimit s = fresh();
	struct sock_window w = {.in_flight = 0, .number = 3, .window = {900000, 300000, 700000}};

	(void)state;
	assert_int_equal(sndlimit_credit(&s, &w, 100000), 300000);
}

static void a_closed_window_is_probed(void **state)
{
	struct sndlimit s = fresh();
	struct sock_window w = {.in_flight = 1, .number = 1, .window = {0}};

	(void)state;
	s.edge = 100000;
	assert_int_equal(sndlimit_credit(&s, &w, 100000), 0);
	w.in_flight = 0;
	assert_true(sndlimit_credit(&s, &w, 100000) > 0);
}

/* Accepted after the handshake: what the SYN said is unknown, so any usual value is taken for
 * the wrong one. */
static void late_accept(void **state)
{
	struct sock_info info = {.state = 1, .snd_wnd = 64 << 10, .snd_wscale = SCALE};
	struct sock_window w = {.in_flight = 0, .number = 1};
	struct sndlimit s;

	(void)state;
	sndlimit_init(&s, &info);
	w.window[0] = wrong(5000);
	assert_int_equal(sndlimit_credit(&s, &w, 5000), 4096);
	w.window[0] = (65535u << SCALE) - 5000;
	assert_int_equal(sndlimit_credit(&s, &w, 5000), 4096);
	w.window[0] = 70000;
	assert_int_equal(sndlimit_credit(&s, &w, 5000), 70000);
}

/* A short answer asks the kernel nothing: the edge the SYN told, or what may always be sent. */
static void the_first_octets_need_not_ask(void **state)
{
	struct sock_info later = {.state = 1, .snd_wnd = 64 << 10, .snd_wscale = SCALE};
	struct sock_info small = {.state = SYN_RECV, .snd_wnd = 1000};
	struct sndlimit s = fresh();
	double wait_s = -1.;

	(void)state;
	assert_int_equal(sndlimit_room(&s, -1, 0, &wait_s), SYN_WIN - 4096); /* our replies */
	sndlimit_wrote(&s, SYN_WIN - 4096);
	assert_int_equal(s.credit, 0);
	sndlimit_init(&s, &later);
	assert_int_equal(sndlimit_room(&s, -1, 0, &wait_s), 4096);
	sndlimit_init(&s, &small);
	assert_int_equal(sndlimit_room(&s, -1, 0, &wait_s), 4096);
}

static void ends_where_the_error_ends(void **state)
{
	struct sndlimit s = fresh();
	double wait_s = -1.;

	(void)state;
	s.credit = 0;
	/* No such descriptor: what is asked of it fails, so only the count can have decided. */
	assert_true(sndlimit_room(&s, -1, ((uint64_t)SYN_WIN << SCALE) + 1, &wait_s) == SIZE_MAX);
}

/* Not with the last octet: an answer would be cut there. Which descriptor says that it is none. */
static void asks_in_time(void **state)
{
	struct sndlimit s = fresh();
	double wait_s = -1.;

	(void)state;
	s.credit = 4103;
	assert_int_equal(sndlimit_room(&s, -1, 1, &wait_s), 4103);
	sndlimit_wrote(&s, 7);
	assert_int_equal(sndlimit_room(&s, -1, 1, &wait_s), 4096);
	sndlimit_wrote(&s, 1);
	assert_int_equal(s.credit, 4095);
	assert_true(sndlimit_room(&s, -1, 1, &wait_s) == SIZE_MAX);
	sndlimit_wrote(&s, 5000);
	assert_int_equal(s.credit, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts_with_the_window_of_the_syn),
		cmocka_unit_test(a_true_window_moves_the_edge),
		cmocka_unit_test(a_wrong_window_is_passed_over),
		cmocka_unit_test(the_least_of_true_windows_counts),
		cmocka_unit_test(a_closed_window_is_probed),
		cmocka_unit_test(late_accept),
		cmocka_unit_test(the_first_octets_need_not_ask),
		cmocka_unit_test(ends_where_the_error_ends),
		cmocka_unit_test(asks_in_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
