/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the redirector's workers share, in the hands of many threads at once: upstream,
 * loopguard, firstdata. Also run under ThreadSanitizer.
 */
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/dial.h"
#include "redir/firstdata.h"
#include "redir/loopguard.h"
#include "redir/pool.h"
#include "redir/upstream.h"
#include "rig.h"

#define THREADS 4
#define ROUNDS  3000

/* One thread: its number, and what all of them work on. cmocka's checks jump, which only the
 * first thread may: the others count what is wrong. */
struct hand {
	pthread_t thread;
	unsigned number;
	void *shared;
	unsigned wrong;
};

static void all_hands(void *(*work)(void *), void *shared)
{
	struct hand hands[THREADS];
	unsigned wrong = 0;

	for (unsigned i = 0; i < THREADS; i++) {
		hands[i] = (struct hand){.number = i, .shared = shared};
		assert_int_equal(pthread_create(&hands[i].thread, NULL, work, &hands[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(hands[i].thread, NULL);
		wrong += hands[i].wrong;
	}
	assert_int_equal(wrong, 0);
}

/* ---- upstream ---- */

#define SESSIONS 512
#define WINDOW   64
#define TOKENS   2048 /* of one session; its window moves over them */
#define BASE     (0u - TOKENS / 2)

struct up_shared {
	struct worker main;
	struct upstream *up;
	struct addr addrs[3];
	unsigned kicks; /* main's */
	atomic_uint given, failed, ok;
	atomic_uchar taken[SESSIONS][TOKENS]; /* how often */
};

/* As a NOOP does: prove it, and see that there is a session with tokens. */
static void look(struct upstream *up, void *ctx)
{
	struct up_shared *s = ctx;
	struct upstream_grant g;

	s->kicks++;
	upstream_set_addrs(up, s->addrs, 1 + s->kicks % 3);
	if (!upstream_session(up, &g) && s->kicks < SESSIONS)
		upstream_session_open(up, (const uint8_t *)"session", 8, true, BASE, WINDOW);
	upstream_proven(up, s->kicks, &s->addrs[s->kicks % 3], 1000);
}

static bool is_one_of(const struct up_shared *s, const struct addr *a)
{
	for (size_t i = 0; i < 3; i++)
		if (addr_equal(a, &s->addrs[i]))
			return true;
	return false;
}

static void spend(struct hand *h, const struct upstream_grant *g)
{
	struct up_shared *s = h->shared;
	uint32_t nth = g->token - BASE;

	atomic_fetch_add(&s->given, 1);
	if (g->session == 0 || g->session >= SESSIONS || nth >= TOKENS ||
	    atomic_fetch_add(&s->taken[g->session][nth], 1) > 0)
		h->wrong++;
	/* the proxy's reply: the window moves, or comes late, or is of an old session */
	if (nth < TOKENS - WINDOW && nth % 3 == 0)
		upstream_window(s->up, g->session, g->token - nth % 32, WINDOW);
	if (nth % 5 == 0)
		upstream_window(s->up, g->session - 1, BASE + TOKENS, WINDOW);
}

static void *use_upstream(void *arg)
{
	struct hand *h = arg;
	struct up_shared *s = h->shared;
	struct upstream *up = upstream_get(s->up);
	struct upstream_grant g;
	struct addr addrs[UPSTREAM_ADDRS];
	struct dial d = {.local = s->addrs[0]};

	for (unsigned i = 0; i < ROUNDS; i++) {
		upstream_flow_count(up, 1);
		if (upstream_grant(up, i, &g)) {
			h->wrong += !is_one_of(s, &g.addr);
			if (g.has_token)
				spend(h, &g);
		} else {
			upstream_suspect(up);
			sched_yield();
		}
		h->wrong += upstream_addrs(up, addrs) > 3;
		upstream_is_address(up, &s->addrs[i % 3]);
		upstream_is_up(up);
		d.syn_data_acked = i % 7 == 0;
		d.fastopen_fail = i % 4;
		upstream_dialled(up, i, &d);
		if (i % 100 == h->number)
			upstream_overdue(up);
		upstream_heard(up, i, 0, 0, 0);
		if (i % 64 == h->number) {
			upstream_failed(up, i, i % 3 ? UPSTREAM_SOFT : UPSTREAM_HARD, "reset");
			atomic_fetch_add(&s->failed, 1);
		} else if (i % 16 == h->number) {
			upstream_ok(up, i);
			atomic_fetch_add(&s->ok, 1);
		} else if (i % 512 == 100 && g.in_session) {
			upstream_session_lost(up, g.session);
		}
		upstream_flow_count(up, -1);
	}
	upstream_put(up);
	return NULL;
}

static void test_upstream(void **state)
{
	struct up_shared *s = calloc(1, sizeof(*s));
	struct proxy_section p = {.name = (char[]){"one"},
				  .address = {.host = (char[]){"192.0.2.1"}, .port = 1080},
				  .tfo = 2};
	unsigned twice = 0, taken = 0;

	(void)state;
	assert_non_null(s);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(addr_parse(&s->addrs[i], "192.0.2.1", 1080));
		addr_set_port(&s->addrs[i], (uint16_t)(1080 + i));
	}
	assert_int_equal(worker_init(&s->main, UINT_MAX, NULL), 0);
	s->up = upstream_new(&p, NULL, &s->main);
	assert_non_null(s->up);
	s->up->kick = look;
	s->up->kick_ctx = s;
	assert_int_equal(worker_start(&s->main), 0);
	all_hands(use_upstream, s);
	worker_stop(&s->main);

	for (unsigned i = 0; i < SESSIONS; i++)
		for (unsigned k = 0; k < TOKENS; k++) {
			taken += atomic_load(&s->taken[i][k]);
			twice += atomic_load(&s->taken[i][k]) > 1;
		}
	assert_int_equal(twice, 0);
	assert_int_equal(taken, atomic_load(&s->given));
	assert_true(taken > 200); /* else nothing was tried */
	assert_int_equal(s->up->n_failed, atomic_load(&s->failed));
	assert_int_equal(s->up->n_ok, atomic_load(&s->ok));
	assert_int_equal(s->up->n_flows, 0);
	assert_int_equal(s->up->n_sessions, s->up->session.number);
	assert_true(s->up->n_lost <= s->up->n_sessions);
	assert_false(s->up->kicked); /* all have been heard */
	assert_int_equal(atomic_load(&s->up->refs), 1);
	upstream_put(s->up);
	worker_fini(&s->main);
	free(s);
}

/* Workers let go of an old pool while the last flows do. */
static void *drop_pool(void *arg)
{
	struct hand *h = arg;
	struct pool *p = h->shared;

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct upstream *up = upstream_get(pool_get(p)->v[0]);
		pool_put(p);
		upstream_suspect(up);
		upstream_put(up);
	}
	pool_put(p);
	return NULL;
}

static void test_pool(void **state)
{
	struct redir_conf c = {0};
	struct proxy_section section = {.name = (char[]){"one"},
					.address = {.host = (char[]){"192.0.2.1"}}};
	struct worker main_worker;
	struct pool *p;

	(void)state;
	assert_int_equal(worker_init(&main_worker, UINT_MAX, NULL), 0);
	list_init(&c.proxies);
	list_push(&c.proxies, &section.node);
	p = pool_new(&c, NULL, &main_worker);
	assert_non_null(p);
	for (unsigned i = 1; i < THREADS; i++)
		pool_get(p);
	assert_int_equal(worker_start(&main_worker), 0);
	all_hands(drop_pool, p); /* the last one frees it; the sanitizers watch */
	worker_stop(&main_worker);
	worker_fini(&main_worker);
}

/* ---- loopguard ---- */

#define ENTRIES 50

static void pair_of(unsigned hand, unsigned entry, unsigned round, struct addr *local,
		    struct addr *remote)
{
	char text[ADDR_STRLEN];

	snprintf(text, sizeof(text), "192.0.2.%u", 1 + hand);
	if (!addr_parse(local, text, 0) || !addr_parse(remote, "198.51.100.1", 443))
		abort();
	addr_set_port(local, (uint16_t)(1024 + entry * 100 + round % 2));
}

static void *use_loopguard(void *arg)
{
	struct hand *h = arg;
	struct loopguard_entry e[ENTRIES] = {0};
	struct addr local, remote;

	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned k = i % ENTRIES;

		pair_of(h->number, k, i / ENTRIES, &local, &remote);
		h->wrong += loopguard_has(h->shared, &local, &remote);
		loopguard_add(h->shared, &e[k], &local, &remote);
		h->wrong += !loopguard_has(h->shared, &local, &remote);
		pair_of(h->number, k, i / ENTRIES + 1, &local, &remote); /* replaced */
		h->wrong += loopguard_has(h->shared, &local, &remote);
		pair_of(THREADS, k, i, &local, &remote); /* nobody's */
		h->wrong += loopguard_has(h->shared, &local, &remote);
		if (i % 3 == 0) {
			pair_of(h->number, k, i / ENTRIES, &local, &remote);
			loopguard_remove(h->shared, &e[k]);
			h->wrong += loopguard_has(h->shared, &local, &remote);
		}
	}
	for (unsigned k = 0; k < ENTRIES; k++)
		loopguard_remove(h->shared, &e[k]);
	return NULL;
}

static void test_loopguard(void **state)
{
	struct loopguard *g = loopguard_new();
	struct addr local, remote;

	(void)state;
	assert_non_null(g);
	all_hands(use_loopguard, g);
	for (unsigned i = 0; i < THREADS; i++)
		for (unsigned k = 0; k < 2 * ENTRIES; k++) {
			pair_of(i, k / 2, k % 2, &local, &remote);
			assert_false(loopguard_has(g, &local, &remote));
		}
	loopguard_free(g);
}

/* ---- firstdata ---- */

/* Odd ports are learned and forgotten by all; nothing may ever be known of the even ones. */
static void *use_firstdata(void *arg)
{
	struct hand *h = arg;
	uint16_t port = (uint16_t)(h->number * 1000 + 1);

	for (unsigned i = 0; i < 10 * ROUNDS; i++) {
		port = (uint16_t)(port + 2 * (1 + i % 5));
		firstdata_server_first(h->shared, port, i);
		firstdata_waits(h->shared, port, i);
		if (i % 3 == 0)
			firstdata_client_first(h->shared, port);
		h->wrong += !firstdata_waits(h->shared, (uint16_t)(port + 1), i);
	}
	return NULL;
}

static void test_firstdata(void **state)
{
	struct firstdata f = {0};

	(void)state;
	all_hands(use_firstdata, &f);
	firstdata_server_first(&f, 22, 0);
	assert_false(firstdata_waits(&f, 22, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_upstream),
		cmocka_unit_test(test_pool),
		cmocka_unit_test(test_loopguard),
		cmocka_unit_test(test_firstdata),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
