/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One upstream's health, Fast Open, addresses and session; and the pool of all of them. */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/dial.h"
#include "redir/pool.h"
#include "redir/upstream.h"
#include "rig.h"

/* The main worker, and who is told that an upstream wants to be looked at. */
struct scene {
	struct worker main;
	struct upstream *up;
	unsigned kicks;
};

static const uint8_t id[] = "session";

static struct proxy_section section_of(const char *name)
{
	return (struct proxy_section){
		.name = (char *)(uintptr_t)name,
		.address = {.host = (char *)(uintptr_t) "proxy.example.net", .port = 1080},
		.mptcp = 1,
		.tfo = 2,
		.priority = 10,
		.weight = 1,
	};
}

static struct addr addr_of(const char *text)
{
	struct addr a;

	assert_true(addr_parse(&a, text, 1080));
	return a;
}

static void count_kick(struct upstream *up, void *ctx)
{
	struct scene *s = ctx;

	assert_ptr_equal(up, s->up);
	s->kicks++;
}

static int scene_up(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));
	struct proxy_section p = section_of("one");

	if (!s || worker_init(&s->main, UINT_MAX, NULL) < 0)
		return -1;
	s->up = upstream_new(&p, NULL, &s->main);
	if (!s->up)
		return -1;
	s->up->kick = count_kick;
	s->up->kick_ctx = s;
	*state = s;
	return 0;
}

/* Read all mail; how many kicks came since the last time. */
static unsigned kicks(struct scene *s)
{
	unsigned n;

	while (!list_empty(&s->main.mail))
		ev_run(s->main.loop, EVRUN_NOWAIT);
	n = s->kicks;
	s->kicks = 0;
	return n;
}

static int scene_down(void **state)
{
	struct scene *s = *state;

	kicks(s);
	upstream_put(s->up);
	worker_fini(&s->main);
	free(s);
	return 0;
}

#define ON_STAGE(f) cmocka_unit_test_setup_teardown(f, scene_up, scene_down)

static bool granted(struct scene *s, double now_s)
{
	struct upstream_grant g;

	return upstream_grant(s->up, now_s, &g);
}

/* An upstream as a successful NOOP leaves it; window 0 = a session without one. */
static void prove(struct scene *s, uint32_t base, uint32_t size)
{
	struct addr a = addr_of("192.0.2.1");

	upstream_set_addrs(s->up, &a, 1);
	upstream_session_open(s->up, id, sizeof(id), size > 0, base, size);
	upstream_proven(s->up, 1, &a, 1000);
	assert_int_equal(kicks(s), 0);
}

/* ---- health ---- */

static void test_unproven(void **state)
{
	struct scene *s = *state;
	struct addr a = addr_of("192.0.2.1");

	assert_int_equal(s->up->health.state, UPSTREAM_UNPROVEN);
	assert_false(granted(s, 1));
	upstream_set_addrs(s->up, &a, 1);
	assert_false(granted(s, 1));
	upstream_ok(s->up, 1); /* only a NOOP proves */
	upstream_failed(s->up, 2, UPSTREAM_SOFT, "closed");
	assert_int_equal(s->up->health.state, UPSTREAM_UNPROVEN);
	assert_false(granted(s, 2) || upstream_is_up(s->up));
	upstream_failed(s->up, 3, UPSTREAM_SOFT, "closed");
	assert_int_equal(s->up->health.state, UPSTREAM_DOWN);
	assert_true(s->up->health.since_s == 3);
	upstream_proven(s->up, 4, &a, 1234);
	assert_int_equal(s->up->health.state, UPSTREAM_UP);
	assert_true(s->up->health.since_s == 4 && s->up->rtt_us == 1234);
	assert_true(granted(s, 4) && upstream_is_up(s->up));
}

static void test_up_without_address(void **state)
{
	struct scene *s = *state;
	struct addr a = addr_of("192.0.2.1");

	upstream_proven(s->up, 1, &a, 0);
	assert_true(upstream_is_up(s->up));
	assert_false(granted(s, 1));
	upstream_set_addrs(s->up, &a, 1);
	assert_true(granted(s, 1));
	upstream_set_addrs(s->up, &a, 0);
	assert_false(granted(s, 1));
	assert_int_equal(upstream_addrs(s->up, &a), 0);
}

static void test_soft_twice(void **state)
{
	struct scene *s = *state;
	struct addr a = addr_of("192.0.2.1");

	prove(s, 0, 0);
	for (int i = 0; i < 5; i++) { /* never two in a row */
		upstream_failed(s->up, 2, UPSTREAM_SOFT, "reset");
		assert_true(granted(s, 2));
		if (i % 2)
			upstream_ok(s->up, 2);
		else
			upstream_proven(s->up, 2, &a, 0);
	}
	assert_true(s->up->health.since_s == 1);
	upstream_failed(s->up, 3, UPSTREAM_SOFT, "reset");
	upstream_failed(s->up, 4, UPSTREAM_SOFT, "timed out");
	assert_int_equal(s->up->health.state, UPSTREAM_DOWN);
	assert_false(granted(s, 4));
	assert_string_equal(s->up->last_error, "timed out");
	upstream_failed(s->up, 5, UPSTREAM_HARD, "refused");
	upstream_ok(s->up, 6); /* an old connection's reply does not bring it up */
	assert_int_equal(s->up->health.state, UPSTREAM_DOWN);
	assert_true(s->up->health.since_s == 4);
	upstream_proven(s->up, 7, &a, 0);
	upstream_failed(s->up, 8, UPSTREAM_SOFT, "reset"); /* counting starts anew */
	assert_true(granted(s, 8));
	assert_int_equal(s->up->n_failed, 9);
	assert_int_equal(s->up->n_ok, 3);
}

static void test_hard_and_rejected(void **state)
{
	struct scene *s = *state;
	struct addr a = addr_of("192.0.2.1");
	char longest[400];

	upstream_failed(s->up, 1, UPSTREAM_HARD, "refused");
	assert_int_equal(s->up->health.state, UPSTREAM_DOWN); /* from unproven */
	kicks(s);
	prove(s, 0, 0);
	upstream_failed(s->up, 2, UPSTREAM_HARD, "refused");
	assert_int_equal(s->up->health.state, UPSTREAM_DOWN);
	assert_string_equal(s->up->last_error, "refused");
	upstream_proven(s->up, 3, &a, 0);
	assert_false(granted(s, 3)); /* it came up a second ago, and went */
	upstream_proven(s->up, 4, &a, 0);
	assert_true(granted(s, 4));
	upstream_failed(s->up, 4, UPSTREAM_REJECTED, "check username and password");
	assert_int_equal(s->up->health.state, UPSTREAM_REJECTS);
	assert_false(granted(s, 4) || upstream_is_up(s->up));
	assert_string_equal(s->up->last_error, "credentials rejected: check username and password");
	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	upstream_failed(s->up, 5, UPSTREAM_REJECTED, longest);
	assert_int_equal(strlen(s->up->last_error), sizeof(s->up->last_error) - 1);
	assert_string_equal(upstream_state_str(UPSTREAM_UNPROVEN), "unproven");
	assert_string_equal(upstream_state_str(UPSTREAM_UP), "up");
	assert_string_equal(upstream_state_str(UPSTREAM_DOWN), "down");
	assert_string_equal(upstream_state_str(UPSTREAM_REJECTS), "rejected");
}

/* ---- who looks at it ---- */

static void test_kicks(void **state)
{
	struct scene *s = *state;

	prove(s, 0, 4);
	assert_true(granted(s, 1));
	upstream_ok(s->up, 1);
	upstream_flow_count(s->up, 1);
	assert_int_equal(kicks(s), 0);
	upstream_suspect(s->up);
	assert_int_equal(kicks(s), 1);
	for (int i = 0; i < 100; i++) { /* many at once are one */
		upstream_failed(s->up, 1, UPSTREAM_SOFT, "reset");
		upstream_suspect(s->up);
	}
	assert_int_equal(atomic_load(&s->up->refs), 2);
	assert_int_equal(kicks(s), 1);
	assert_int_equal(atomic_load(&s->up->refs), 1);
	upstream_suspect(s->up); /* and later ones are new */
	assert_int_equal(kicks(s), 1);
	upstream_failed(s->up, 2, UPSTREAM_SOFT, "reset"); /* of one that is down: not */
	assert_int_equal(kicks(s), 0);
	upstream_session_lost(s->up, 7); /* no such session */
	assert_int_equal(kicks(s), 0);
	upstream_session_lost(s->up, 1);
	assert_int_equal(kicks(s), 1);
	upstream_session_lost(s->up, 1);
	assert_int_equal(kicks(s), 0);
	s->up->kick = NULL; /* its NOOPs have ended */
	upstream_suspect(s->up);
	assert_int_equal(kicks(s), 0);
	assert_false(s->up->kicked);
}

/* The last reference is let go while the kick is on its way. */
static void test_kick_keeps_it(void **state)
{
	struct scene *s = *state;
	struct proxy_section p = section_of("two");
	struct upstream *keep = s->up;

	s->up = upstream_new(&p, NULL, &s->main);
	assert_non_null(s->up);
	s->up->kick = count_kick;
	s->up->kick_ctx = s;
	upstream_suspect(s->up);
	upstream_put(s->up);
	assert_int_equal(kicks(s),
			 1); /* AddressSanitizer sees what was freed too early, or never */
	s->up = keep;
	upstream_put(NULL);
}

/* ---- Fast Open ---- */

#define NO_COOKIE  1
#define NOT_ACKED  2
#define SYN_RESENT 3

static bool tfo(struct scene *s, double now_s)
{
	struct upstream_grant g;

	assert_true(upstream_grant(s->up, now_s, &g));
	return g.tfo;
}

/* The route to the proxies, by the mark. */
static int route(const struct addr *dst, uint32_t mark, struct addr *local)
{
	assert_true(dst->len > 0);
	if (mark == 0)
		return -ENETUNREACH;
	*local = addr_of(mark == 1 ? "198.18.1.2" : "198.18.2.2");
	addr_set_port(local, 0);
	return 0;
}

static void dialled(struct scene *s, double now_s, const char *local, bool acked, unsigned fail)
{
	struct dial d = {.local = addr_of(local),
			 .queued = 100,
			 .syn_data_acked = acked,
			 .fastopen_fail = fail,
			 .granted.mptcp = true,
			 .mptcp = true,
			 .rtt_us = 2000};

	upstream_dialled(s->up, now_s, &d);
}

static void wan1(struct scene *s, double now_s, bool acked, unsigned fail)
{
	dialled(s, now_s, "198.18.1.2", acked, fail);
}

static void test_tfo_wishes(void **state)
{
	struct scene *s = *state;

	s->up->source = route;
	s->up->mark = 1;
	for (int wish = 0; wish <= 2; wish++) {
		s->up->tfo = wish;
		s->up->paths.n = 0;
		prove(s, 0, 0);
		assert_int_equal(tfo(s, 10), wish != 0);
		wan1(s, 10, false, SYN_RESENT);
		assert_int_equal(tfo(s, 11), wish == 1); /* "yes" is obeyed */
		kicks(s);
	}
}

/* It has neither session nor tokens: nothing goes into a SYN, and nobody is to open one. */
static void test_socks5(void **state)
{
	struct scene *s = *state;
	struct addr a = addr_of("192.0.2.1");
	struct upstream_grant g;

	s->up->protocol = PROTOCOL_SOCKS5;
	upstream_set_addrs(s->up, &a, 1);
	upstream_proven(s->up, 1, &a, 1000);
	for (int wish = 1; wish <= 2; wish++) {
		s->up->tfo = wish;
		s->up->tfo_works = true;
		assert_true(upstream_grant(s->up, 2, &g));
		assert_false(g.tfo || g.tfo_works || g.in_session || g.has_token);
		assert_false(upstream_tfo_allowed(s->up, 2, &a));
		assert_int_equal(kicks(s), 0);
	}
}

static void test_tfo_backs_off(void **state)
{
	static const double pauses[] = {60, 120, 240, 480, 960, 1920, 3600, 3600, 3600};
	struct scene *s = *state;
	double now = 1000;

	s->up->source = route;
	s->up->mark = 1;
	prove(s, 0, 0);
	for (size_t i = 0; i < sizeof(pauses) / sizeof(pauses[0]); i++) {
		assert_true(tfo(s, now));
		wan1(s, now, false, SYN_RESENT);
		assert_false(tfo(s, now));
		/* SYNs sent before do not add to it */
		wan1(s, now + 1, false, SYN_RESENT);
		wan1(s, now + 2, false, NOT_ACKED);
		wan1(s, now + 3, false, NOT_ACKED);
		assert_false(tfo(s, now + pauses[i] - 0.1));
		now += pauses[i];
	}
	assert_true(tfo(s, now));
	wan1(s, now, true, 0); /* it works again: forgiven */
	wan1(s, now, false, SYN_RESENT);
	assert_false(tfo(s, now + 59.9));
	assert_true(tfo(s, now + 60));
}

static void test_tfo_not_taken(void **state)
{
	struct scene *s = *state;

	s->up->source = route;
	s->up->mark = 1;
	prove(s, 0, 0);
	wan1(s, 1, false, 0); /* no Fast Open was tried */
	wan1(s, 1, false, NO_COOKIE);
	wan1(s, 1, false, NO_COOKIE);
	assert_true(tfo(s, 1));
	wan1(s, 1, false, NOT_ACKED); /* a stale cookie */
	assert_true(tfo(s, 1));
	wan1(s, 1, true, 0);
	wan1(s, 1, false, NOT_ACKED);
	assert_true(tfo(s, 1));
	wan1(s, 2, false, NOT_ACKED); /* two in a row */
	assert_false(tfo(s, 61.9));
	assert_true(tfo(s, 62));
	wan1(s, 62, false, NOT_ACKED); /* again two */
	assert_true(tfo(s, 62));
	wan1(s, 62, false, NOT_ACKED);
	assert_false(tfo(s, 62 + 119.9));
	assert_true(tfo(s, 62 + 120));
}

/* What one WAN eats, the other may pass. */
static void test_tfo_by_path(void **state)
{
	struct scene *s = *state;

	s->up->source = route;
	prove(s, 0, 0);
	assert_true(tfo(s, 1)); /* no pause anywhere: the route is not asked for */
	wan1(s, 1, false, SYN_RESENT);
	s->up->mark = 1;
	assert_false(tfo(s, 2));
	s->up->mark = 2;
	assert_true(tfo(s, 2));
	s->up->mark = 0; /* no route */
	assert_false(tfo(s, 2));
	dialled(s, 2, "198.18.2.2:4711", false, SYN_RESENT);
	s->up->mark = 2;
	assert_false(tfo(s, 3));
	assert_true(tfo(s, 62));
	s->up->mark = 1;
	assert_true(tfo(s, 61.5));
	assert_int_equal(s->up->paths.n, 2);
}

static void test_path_counts(void **state)
{
	struct scene *s = *state;
	struct dial d = {.local = addr_of("198.18.1.2:999"), .refused = true};
	const struct uppath *p = &s->up->paths.v[0];

	upstream_dialled(s->up, 1, &d); /* no data in the SYN, and TCP came */
	assert_int_equal(p->n_stripped, 1);
	d.refused = false;
	d.queued = 10, d.fastopen_fail = NOT_ACKED; /* MPTCP was lost with the data */
	upstream_dialled(s->up, 2, &d);
	d.fastopen_fail = SYN_RESENT;
	upstream_dialled(s->up, 3, &d);
	assert_int_equal(p->n_stripped, 1);
	d.fastopen_fail = 0, d.syn_data_acked = d.refused = true;
	upstream_dialled(s->up, 4, &d);
	assert_int_equal(p->n_stripped, 2);
	d.refused = false; /* not asked for */
	upstream_dialled(s->up, 5, &d);
	d.mptcp = true, d.rtt_us = 1000;
	upstream_dialled(s->up, 6, &d);
	d.rtt_us = 2000;
	upstream_dialled(s->up, 7, &d);
	assert_int_equal(s->up->paths.n, 1); /* whatever the port */
	assert_int_equal(p->n, 7);
	assert_int_equal(p->n_stripped, 2);
	assert_int_equal(p->n_taken, 4);
	assert_int_equal(p->n_refused, 1);
	assert_int_equal(p->n_lost, 1);
	assert_int_equal(p->rtt_us, 1250);
	assert_int_equal(s->up->rtt_us, 1250);
	assert_true(p->used_s == 7);
}

static bool mptcp(struct scene *s, double now_s)
{
	struct upstream_grant g;

	assert_true(upstream_grant(s->up, now_s, &g));
	assert_int_equal(g.mptcp, upstream_mptcp_allowed(s->up, now_s, &g.addr));
	return g.mptcp;
}

/* Where it does not get through it is not asked for, path by path, until a NOOP has it. */
static void test_mptcp_by_path(void **state)
{
	struct dial d = {.local = addr_of("198.18.1.2:999"), .refused = true};
	struct scene *s = *state;

	s->up->mptcp = 2;
	s->up->source = route;
	s->up->mark = 1;
	prove(s, 0, 0);
	for (int i = 0; i < 2; i++)
		upstream_dialled(s->up, 1, &d);
	d.refused = false, d.mptcp = true;
	upstream_dialled(s->up, 1, &d); /* the two did not come to three */
	d.refused = true, d.mptcp = false;
	for (int i = 0; i < 2; i++)
		upstream_dialled(s->up, 1, &d);
	d.refused = false, d.fastopen_fail = NOT_ACKED; /* not the path's fault */
	upstream_dialled(s->up, 1, &d);
	assert_true(mptcp(s, 1));
	d.refused = true, d.fastopen_fail = 0;
	upstream_dialled(s->up, 2, &d);
	assert_false(mptcp(s, 61.9));
	assert_true(mptcp(s, 62));
	s->up->mark = 2;
	assert_true(mptcp(s, 3));
	s->up->mark = 0; /* no route */
	assert_true(mptcp(s, 3));
	s->up->mark = 1;
	upstream_dialled(s->up, 62, &d);
	upstream_dialled(s->up, 62, &d); /* one that was under way */
	assert_false(mptcp(s, 62 + 119));
	assert_true(mptcp(s, 62 + 120));
	d.refused = false, d.mptcp = true;
	upstream_dialled(s->up, 70, &d);
	assert_true(mptcp(s, 70));
	s->up->mptcp = 0;
	assert_false(mptcp(s, 70));
}

/* The path that was not used for longest makes room. */
static void test_path_table(void **state)
{
	struct scene *s = *state;
	char text[ADDR_STRLEN];

	for (int i = 0; i < UPPATHS_MAX; i++) {
		snprintf(text, sizeof(text), "198.18.%d.2", i);
		dialled(s, 10 + i, text, true, 0);
	}
	dialled(s, 100, "198.18.0.2", true, 0);
	dialled(s, 101, "2001:db8::1", true, 0);
	assert_int_equal(s->up->paths.n, UPPATHS_MAX);
	assert_string_equal(addr_ip_str(&s->up->paths.v[0].local, text, sizeof(text)),
			    "198.18.0.2");
	assert_string_equal(addr_ip_str(&s->up->paths.v[1].local, text, sizeof(text)),
			    "2001:db8::1");
	assert_int_equal(s->up->paths.v[0].n, 2);
	assert_int_equal(s->up->paths.v[1].n, 1);
}

/* ---- an answer is overdue ---- */

static void test_overdue(void **state)
{
	struct scene *s = *state;
	struct upstream_grant g;

	assert_false(upstream_overdue(s->up)); /* not up: nothing to be found out */
	assert_int_equal(kicks(s), 0);
	s->up->tfo = 1;
	prove(s, 0, 4);
	assert_true(upstream_grant(s->up, 1, &g));
	assert_true(g.tfo && g.patience_s == 0.5);
	upstream_overdue(s->up);
	assert_int_equal(kicks(s), 1);
	assert_true(upstream_look(s->up).trouble && upstream_look(s->up).usable);
	assert_true(upstream_grant(s->up, 1, &g));
	assert_true(!g.tfo && g.has_token); /* nothing that could be acted on before an answer */
	upstream_heard(s->up, 2, 0, 0, 0);
	assert_true(tfo(s, 2));
	assert_true(upstream_look(s->up).heard_s == 2);
	s->up->rtt_us = 600000;
	assert_true(upstream_grant(s->up, 1, &g));
	assert_true(g.patience_s > 1.79 && g.patience_s < 1.81);
}

/* ---- addresses ---- */

static void assert_order(struct scene *s, const char *text)
{
	struct addr a[UPSTREAM_ADDRS];
	unsigned n = upstream_addrs(s->up, a);
	char all[UPSTREAM_ADDRS * 4] = "";
	struct upstream_grant g;

	for (unsigned i = 0; i < n; i++) {
		char ip[ADDR_STRLEN];
		addr_ip_str(&a[i], ip, sizeof(ip));
		strcat(all, strrchr(ip, '.') + 1);
	}
	assert_string_equal(all, text);
	if (upstream_grant(s->up, 1, &g))
		assert_true(addr_equal(&g.addr, &a[0]));
}

/* 192.0.2.x for each digit x */
static void set_addrs(struct scene *s, const char *digits)
{
	struct addr a[2 * UPSTREAM_ADDRS];
	unsigned n = 0;

	for (; *digits; digits++) {
		char text[ADDR_STRLEN];
		snprintf(text, sizeof(text), "192.0.2.%c", *digits);
		a[n++] = addr_of(text);
	}
	upstream_set_addrs(s->up, a, n);
}

static void proven_at(struct scene *s, const char *ip)
{
	struct addr a = addr_of(ip);

	upstream_proven(s->up, 1, &a, 0);
}

static void test_addresses(void **state)
{
	struct scene *s = *state;
	struct addr a = addr_of("192.0.2.3"), other_port = addr_of("192.0.2.3:1081");

	assert_order(s, "");
	set_addrs(s, "1234");
	assert_order(s, "1234");
	proven_at(s, "192.0.2.3");
	assert_order(s, "3412");
	proven_at(s, "192.0.2.4");
	assert_order(s, "4123");
	proven_at(s, "192.0.2.9"); /* no more in the list: stays */
	assert_order(s, "4123");
	set_addrs(s, "5463"); /* a new answer with the one in use: stays */
	assert_order(s, "4635");
	assert_true(upstream_is_address(s->up, &a));
	assert_false(upstream_is_address(s->up, &other_port));
	set_addrs(s, "678"); /* without: starts at the front */
	assert_order(s, "678");
	assert_false(upstream_is_address(s->up, &a));
	set_addrs(s, "8");
	assert_order(s, "8");
	set_addrs(s, "123456789");
	assert_order(s, "81234567"); /* as many as fit */
	set_addrs(s, "");
	assert_order(s, "");
	set_addrs(s, "12");
	assert_order(s, "12");
}

/* ---- grants ---- */

static struct upstream_grant grant(struct scene *s)
{
	struct upstream_grant g;

	memset(&g, 0xff, sizeof(g));
	assert_true(upstream_grant(s->up, 1, &g));
	return g;
}

static void test_grants_exhaust_tokens(void **state)
{
	struct scene *s = *state;
	struct upstream_grant g, peek;

	prove(s, 0xfffffffeu, 4);
	for (uint32_t i = 0; i < 4; i++) {
		assert_true(upstream_session(s->up, &peek)); /* takes none */
		assert_true(!peek.has_token && peek.session == 1);
		g = grant(s);
		assert_true(g.in_session && g.has_token && g.session == 1);
		assert_int_equal(g.token, 0xfffffffeu + i);
		assert_int_equal(g.id_len, sizeof(id));
		assert_memory_equal(g.id, id, sizeof(id));
	}
	assert_int_equal(kicks(s), 0);
	for (int i = 0; i < 2; i++) { /* none left: in session, without token, and a NOOP is due */
		g = grant(s);
		assert_true(g.in_session && !g.has_token);
		assert_int_equal(kicks(s), 1);
	}
	assert_false(upstream_session(s->up, &peek)); /* for the NOOP: get a new one */
	upstream_window(s->up, 1, 2, 2);
	assert_true(grant(s).token == 2 && grant(s).token == 3);
	assert_int_equal(kicks(s), 0);
	upstream_window(s->up, 1, 1, 100); /* late */
	assert_false(grant(s).has_token);
}

static void test_no_session(void **state)
{
	struct scene *s = *state;
	struct addr a = addr_of("192.0.2.1");
	struct upstream_grant g;

	upstream_set_addrs(s->up, &a, 1);
	upstream_proven(s->up, 1, &a, 0);
	upstream_window(s->up, 0, 1, 10); /* of no session */
	g = grant(s);
	assert_true(!g.in_session && !g.has_token && g.id_len == 0);
	assert_int_equal(kicks(s), 1);
	upstream_session_open(s->up, id, SESSION_ID_MAX + 1, true, 1, 10); /* cannot be used */
	assert_false(grant(s).in_session);
	upstream_session_open(s->up, id, sizeof(id), false, 1, 10); /* without a window */
	g = grant(s);
	assert_true(g.in_session && !g.has_token);
	assert_false(upstream_session(s->up, &g));
	assert_int_equal(s->up->n_sessions, 1);
}

static void test_session_replaced(void **state)
{
	struct scene *s = *state;
	struct upstream_grant g;

	prove(s, 100, 10);
	assert_int_equal(grant(s).token, 100);
	upstream_session_lost(s->up, 1);
	g = grant(s);
	assert_true(!g.in_session && !g.has_token);
	upstream_window(s->up, 1, 101, 10);
	assert_false(grant(s).has_token);
	upstream_session_open(s->up, (const uint8_t *)"other", 5, true, 7, 10);
	upstream_session_lost(s->up, 1); /* said to a connection of before */
	upstream_window(s->up, 1, 200, 10);
	g = grant(s);
	assert_true(g.in_session && g.has_token && g.session == 2 && g.token == 7);
	assert_memory_equal(g.id, "other", 5);
	assert_int_equal(s->up->n_sessions, 2);
	assert_int_equal(s->up->n_lost, 1);
	upstream_failed(s->up, 3, UPSTREAM_HARD, "refused");
	proven_at(s, "192.0.2.1");
	assert_int_equal(grant(s).token, 8); /* being down did not cost the session */
}

static void test_flow_count(void **state)
{
	struct scene *s = *state;

	upstream_flow_count(s->up, 1);
	upstream_flow_count(s->up, 1);
	upstream_flow_count(s->up, -1);
	assert_int_equal(s->up->n_flows, 1);
	upstream_flow_count(s->up, -1);
	assert_int_equal(s->up->n_flows, 0);
	assert_int_equal(s->up->n_flows_total, 2);
}

/* ---- the same after a reload? ---- */

static void test_matches(void **state)
{
	struct scene *s = *state;
	struct proxy_section p = section_of("one"), q = p;

	assert_true(upstream_matches(s->up, &p, NULL));
	q.username = q.password = (char[]){""}; /* none, written otherwise */
	assert_true(upstream_matches(s->up, &q, NULL));
	q = p, q.name = (char[]){"One"};
	assert_false(upstream_matches(s->up, &q, NULL));
	q = p, q.address.host = (char[]){"192.0.2.1"};
	assert_false(upstream_matches(s->up, &q, NULL));
	q = p, q.address.port = 1081;
	assert_false(upstream_matches(s->up, &q, NULL));
	q = p, q.username = (char[]){"ann"};
	assert_false(upstream_matches(s->up, &q, NULL));
	q = p, q.password = (char[]){"secret"};
	assert_false(upstream_matches(s->up, &q, NULL));
	q = p, q.mptcp = 0;
	assert_false(upstream_matches(s->up, &q, NULL));
	q = p, q.tfo = 1;
	assert_false(upstream_matches(s->up, &q, NULL));
	q = p, q.protocol = PROTOCOL_SOCKS5;
	assert_false(upstream_matches(s->up, &q, NULL));
	q = p, q.pipeline = PIPELINE_DATA;
	assert_false(upstream_matches(s->up, &q, NULL));
	q = p, q.udp_port = 1081;
	assert_false(upstream_matches(s->up, &q, NULL));
	q = p, q.priority = 11, q.weight = 3, q.prewarm = 4;
	assert_true(upstream_matches(s->up, &q, NULL));
}

static void test_credentials_match(void **state)
{
	struct scene *s = *state;
	struct proxy_section p = section_of("one");
	struct upstream *up;

	p.username = (char[]){"ann"};
	p.password = (char[]){"secret"};
	up = upstream_new(&p, NULL, &s->main);
	assert_non_null(up);
	assert_true(upstream_matches(up, &p, NULL));
	p.password = (char[]){"secrets"};
	assert_false(upstream_matches(up, &p, NULL));
	p.password = NULL;
	assert_false(upstream_matches(up, &p, NULL));
	upstream_put(up);
}

/* ---- pool ---- */

#define PROXIES 5

/* A configuration with proxies "a", "b", ... of these priorities. */
struct conf {
	struct redir_conf c;
	struct proxy_section p[PROXIES];
	char names[PROXIES][2];
};

static struct redir_conf *conf_of(struct conf *c, const char *priorities)
{
	memset(c, 0, sizeof(*c));
	list_init(&c->c.proxies);
	for (unsigned i = 0; priorities[i]; i++) {
		c->names[i][0] = (char)('a' + i);
		c->p[i] = section_of(c->names[i]);
		c->p[i].priority = priorities[i] - '0';
		list_push(&c->c.proxies, &c->p[i].node);
	}
	return &c->c;
}

static void assert_pool(const struct pool *p, const char *names)
{
	assert_int_equal(p->n, strlen(names));
	for (unsigned i = 0; i < p->n; i++)
		assert_int_equal(p->v[i]->name[0], names[i]);
}

static struct pool *pool_of(struct scene *s, const char *priorities, const struct pool *old)
{
	struct conf c;
	struct pool *p = pool_new(conf_of(&c, priorities), old, &s->main);

	assert_non_null(p);
	return p;
}

static void test_pool_order(void **state)
{
	static const char *const rows[][2] = {
		{"", ""},       {"5", "a"},         {"123", "abc"},     {"321", "cba"},
		{"555", "abc"}, {"52525", "bdace"}, {"22111", "cdeab"}, {"12121", "acebd"}};
	struct scene *s = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct pool *p = pool_of(s, rows[i][0], NULL);
		assert_pool(p, rows[i][1]);
		pool_put(p);
	}
	pool_put(NULL);
}

static void bring_up(struct upstream *up, const char *ip)
{
	struct addr a = addr_of(ip);

	upstream_set_addrs(up, &a, 1);
	upstream_session_open(up, id, sizeof(id), true, 100, 100);
	upstream_proven(up, 1, &a, 0);
}

static void test_pool_next(void **state)
{
	struct scene *s = *state;
	struct pool *p = pool_of(s, "123", NULL);
	struct addr b = addr_of("192.0.2.2"), none = addr_of("192.0.2.4");
	struct upstream_chain g;
	uint64_t tried = 0;

	assert_null(pool_next(p, &tried, 1, &g)); /* none is up */
	assert_int_equal(tried, 0);
	assert_false(pool_has_address(p, &b));
	bring_up(p->v[1], "192.0.2.2");
	bring_up(p->v[2], "192.0.2.3");
	assert_ptr_equal(pool_next(p, &tried, 1, &g), p->v[1]);
	assert_true(g.hop[0].g.has_token && addr_equal(&g.hop[0].g.addr, &b));
	assert_int_equal(tried, 2);
	assert_ptr_equal(pool_next(p, &tried, 1, &g), p->v[2]);
	assert_null(pool_next(p, &tried, 1, &g));
	assert_null(pool_next(p, &tried, 1, &g));
	assert_int_equal(tried, 6);
	bring_up(p->v[0], "192.0.2.1");
	tried = 0;
	assert_ptr_equal(pool_next(p, &tried, 1, &g), p->v[0]);
	assert_true(pool_has_address(p, &b));
	assert_false(pool_has_address(p, &none));
	pool_put(p);
}

/* Those in trouble come last, but they come. */
static void test_pool_trouble(void **state)
{
	struct scene *s = *state;
	struct pool *p = pool_of(s, "112", NULL);
	struct upstream_chain g;
	uint64_t tried = 0;

	for (unsigned i = 0; i < 3; i++) {
		char ip[] = "192.0.2.1";
		ip[8] = (char)('1' + i);
		bring_up(p->v[i], ip);
	}
	pool_overdue(p, p->v[0]);
	assert_true(upstream_look(p->v[0]).trouble && upstream_look(p->v[1]).urgent);
	assert_false(upstream_look(p->v[1]).trouble); /* it may well do */
	assert_true(p->v[0]->kicked && p->v[1]->kicked && p->v[2]->kicked);
	upstream_overdue(p->v[1]);
	assert_ptr_equal(pool_next(p, &tried, 1, &g), p->v[2]);
	upstream_heard(p->v[1], 1, 0, 0, 0);
	assert_ptr_equal(pool_next(p, &tried, 1, &g), p->v[1]);
	assert_ptr_equal(pool_next(p, &tried, 1, &g), p->v[0]);
	assert_null(pool_next(p, &tried, 1, &g));
	assert_int_equal(kicks(s), 0); /* s->up is another one */
	pool_put(p);
}

/* One that says that it can take no more comes last for a moment. It is up all the while. */
static void test_pool_busy(void **state)
{
	struct scene *s = *state;
	struct pool *p = pool_of(s, "12", NULL);
	struct upstream_chain g;
	uint64_t tried = 0;

	bring_up(p->v[0], "192.0.2.1");
	bring_up(p->v[1], "192.0.2.2");
	upstream_busy(p->v[0], 10);
	assert_true(upstream_is_up(p->v[0]));
	assert_false(upstream_look(p->v[0]).trouble);
	assert_ptr_equal(pool_next(p, &tried, 10.5, &g), p->v[1]);
	assert_ptr_equal(pool_next(p, &tried, 10.5, &g), p->v[0]); /* better than none */
	assert_true(g.hop[0].g.tfo); /* it answers: nothing speaks against data in the SYN */
	assert_null(pool_next(p, &tried, 10.5, &g));
	tried = 0;
	assert_ptr_equal(pool_next(p, &tried, 11.5, &g), p->v[0]);
	for (int i = 0; i < 10; i++)
		upstream_busy(p->v[0], 12);
	assert_true(upstream_is_up(p->v[0])); /* however often */
	pool_put(p);
}

static unsigned first_of(struct pool *p)
{
	struct upstream_chain g;
	uint64_t tried = 0;
	const struct upstream *up = pool_next(p, &tried, 1, &g);

	assert_non_null(up);
	return (unsigned)(up->name[0] - 'a');
}

static void test_pool_weights(void **state)
{
	struct scene *s = *state;
	struct conf c;
	struct pool *p, *old;
	unsigned n[4] = {0};

	conf_of(&c, "1112");
	c.p[0].weight = 3;
	c.p[1].weight = 1;
	c.p[2].weight = 4;
	p = pool_new(&c.c, NULL, &s->main);
	assert_non_null(p);
	bring_up(p->v[0], "192.0.2.1");
	bring_up(p->v[1], "192.0.2.2");
	bring_up(p->v[3], "192.0.2.4");
	for (int i = 0; i < 400; i++)
		n[first_of(p)]++;
	assert_true(n[0] == 300 && n[1] == 100 && n[2] == 0 && n[3] == 0);
	bring_up(p->v[2], "192.0.2.3");
	for (int i = 0; i < 400; i++)
		n[first_of(p)]++;
	assert_true(n[0] == 450 && n[1] == 150 && n[2] == 200 && n[3] == 0);
	old = p;
	conf_of(&c, "1112"); /* other weights are no other upstreams */
	p = pool_new(&c.c, old, &s->main);
	assert_non_null(p);
	assert_ptr_equal(p->v[0], old->v[0]);
	pool_put(old);
	memset(n, 0, sizeof(n));
	for (int i = 0; i < 300; i++)
		n[first_of(p)]++;
	assert_true(n[0] == 100 && n[1] == 100 && n[2] == 100);
	pool_put(p);
	conf_of(&c, "3121"); /* the weights go where their proxies go */
	for (int i = 0; i < 4; i++)
		c.p[i].weight = 10 + i;
	p = pool_new(&c.c, NULL, &s->main);
	assert_non_null(p);
	assert_pool(p, "bdca");
	assert_true(p->weight[0] == 11 && p->weight[1] == 13);
	assert_true(p->weight[2] == 12 && p->weight[3] == 10);
	pool_put(p);
	p = pool_of(s, "111", NULL);
	bring_up(p->v[0], "192.0.2.1");
	bring_up(p->v[1], "192.0.2.2");
	bring_up(p->v[2], "192.0.2.3");
	p->balance.by = BALANCE_LATENCY;
	p->v[0]->rtt_us = 50000, p->v[1]->rtt_us = 20000, p->v[2]->rtt_us = 40000;
	for (int i = 0; i < 10; i++)
		assert_int_equal(first_of(p), 1);
	pool_put(p);
	kicks(s);
}

static void test_pool_reload(void **state)
{
	struct scene *s = *state;
	struct pool *old = pool_of(s, "123", NULL), *p;
	struct conf conf;
	struct upstream *a = old->v[0], *b = old->v[1], *c = old->v[2];
	struct upstream_chain way;
	struct upstream_grant g;
	uint64_t tried = 0;

	bring_up(a, "192.0.2.1");
	bring_up(b, "192.0.2.2");
	assert_true(upstream_grant(a, 1, &g));
	assert_int_equal(g.token, 100);
	upstream_get(c);       /* a flow of before */
	conf_of(&conf, "193"); /* b goes behind c */
	conf.p[0].prewarm = 7;
	conf.p[2].mptcp = !conf.p[2].mptcp; /* another c */
	p = pool_new(&conf.c, old, &s->main);
	assert_non_null(p);
	assert_pool(p, "acb");
	assert_ptr_equal(p->v[0], a);
	assert_int_equal(a->prewarm, 7);
	assert_ptr_not_equal(p->v[1], c);
	assert_ptr_equal(p->v[2], b);
	assert_int_equal(p->priority[2], 9);
	assert_int_equal(atomic_load(&a->refs), 2);
	pool_put(old);
	assert_int_equal(atomic_load(&a->refs), 1);
	assert_int_equal(atomic_load(&b->refs), 1);
	assert_int_equal(atomic_load(&c->refs), 1);
	upstream_put(c);
	assert_ptr_equal(pool_next(p, &tried, 1, &way), a); /* up, and its session goes on */
	assert_true(way.hop[0].g.session == 1 && way.hop[0].g.token == 101);
	assert_false(upstream_is_up(p->v[1]));
	assert_true(upstream_is_up(p->v[2]));
	old = p;
	p = pool_of(s, "1", old); /* fewer */
	pool_put(old);
	assert_pool(p, "a");
	assert_ptr_equal(p->v[0], a);
	pool_put(p);
}

/* ---- via ---- */

/* "c" is reached through "b", and that through "a", which stands last in the file. */
static struct pool *pool_of_way(struct scene *s, const struct pool *old, int weight_a)
{
	struct conf c;
	struct redir_conf *rc = conf_of(&c, "111");
	struct list_node *n;
	struct pool *p;

	while ((n = list_first(&rc->proxies)))
		list_remove(&rc->proxies, n);
	for (unsigned i = 3; i > 0; i--)
		list_push(&rc->proxies, &c.p[i - 1].node);
	c.p[2].via = (char *)(uintptr_t) "B";
	c.p[1].via = c.names[0];
	c.p[0].weight = weight_a;
	p = pool_new(rc, old, &s->main);
	assert_non_null(p);
	return p;
}

static void test_way(void **state)
{
	struct scene *s = *state;
	struct pool *p = pool_of_way(s, NULL, 0);
	struct upstream *c = p->v[0], *b = p->v[1], *a = p->v[2];
	struct addr at = addr_of("192.0.2.1");
	struct upstream_chain way;
	uint64_t tried = 0;
	char text[16], cut[3];

	assert_pool(p, "cba");
	assert_int_equal(p->hops, 3);
	assert_true(c->via == b && b->via == a && !a->via);
	assert_string_equal(upstream_via_str(c, text, sizeof(text)), "b,a");
	assert_string_equal(upstream_via_str(c, cut, sizeof(cut)), "b,");
	assert_null(upstream_via_str(a, text, sizeof(text)));

	bring_up(c, "192.0.2.3");
	bring_up(a, "192.0.2.1");
	assert_null(pool_next(p, &tried, 1, &way)); /* b is in the way; a is only a hop */
	assert_false(upstream_is_up(c) || upstream_look(c).usable || upstream_look(c).via_up);
	assert_true(upstream_look(b).via_up && upstream_look(a).via_up);
	bring_up(b, "192.0.2.2");
	assert_true(upstream_is_up(c) && upstream_look(c).usable);
	upstream_proven(a, 1, &at, 1000);
	at = addr_of("192.0.2.2");
	upstream_proven(b, 1, &at, 20000);
	at = addr_of("192.0.2.3");
	upstream_proven(c, 1, &at, 300000);
	assert_int_equal(upstream_look(c).rtt_us, 321000);
	tried = 0;
	assert_ptr_equal(pool_next(p, &tried, 1, &way), c);
	assert_int_equal(way.n, 3);
	assert_true(way.hop[0].up == a && way.hop[1].up == b && way.hop[2].up == c);
	assert_true(way.hop[0].g.has_token && way.hop[1].g.has_token && way.hop[2].g.token == 100);
	assert_true(way.patience_s > 0.96 && way.patience_s < 0.97);
	/* Another attempt: the last one's token stays, the others are new. */
	assert_true(upstream_grant_way(&way, 1));
	assert_true(way.hop[0].g.token == 101 && way.hop[1].g.token == 101 &&
		    way.hop[2].g.token == 100);
	upstream_overdue(b);
	assert_true(upstream_look(c).trouble && !upstream_look(a).trouble);
	upstream_failed(a, 2, UPSTREAM_HARD, "refused");
	assert_false(upstream_is_up(c) || upstream_is_up(b) || upstream_grant_way(&way, 2));
	assert_int_equal(c->health.state, UPSTREAM_UP); /* its own is another matter */
	pool_put(p);
	kicks(s);
}

/* A reload that changes a hop changes what lies behind it; another weight changes none. */
static void test_way_reload(void **state)
{
	struct scene *s = *state;
	struct pool *old = pool_of_way(s, NULL, 0), *p = pool_of_way(s, old, 1);
	struct upstream *a = old->v[2];

	for (unsigned i = 0; i < 3; i++)
		assert_ptr_equal(p->v[i], old->v[i]);
	pool_put(old);
	old = p;
	a->port = 4711;
	p = pool_of_way(s, old, 1);
	for (unsigned i = 0; i < 3; i++)
		assert_ptr_not_equal(p->v[i], old->v[i]);
	assert_ptr_equal(p->v[0]->via, p->v[1]);
	pool_put(old);
	old = pool_of(s, "111", p); /* no via any more */
	assert_ptr_equal(old->v[0], p->v[2]);
	assert_ptr_not_equal(old->v[1], p->v[1]);
	assert_int_equal(old->hops, 1);
	pool_put(p);
	pool_put(old);
	kicks(s);
}

/* What a hop's reply tells of the leg behind it. */
static void test_leg(void **state)
{
	struct scene *s = *state;
	struct pool *p = pool_of_way(s, NULL, 0);
	struct upstream *b = p->v[1], *a = p->v[2];
	struct addr at = addr_of("192.0.2.1"), there = addr_of("192.0.2.2");
	struct up_leg leg = {.since_sent_s = 0.05, .asked_tfo = true, .syn_octets = 100};
	struct upstream_chain way;

	bring_up(a, "192.0.2.1");
	upstream_proven(a, 1, &at, 20000);
	bring_up(b, "192.0.2.2");
	assert_true(upstream_grant_chain(b, 1, &way));
	upstream_chained(&way, 0, 1, &leg);
	assert_in_range(b->rtt_us, 29900, 30100);
	assert_in_range(upstream_look(b).rtt_us, 49900, 50100);
	assert_int_equal(b->paths.n, 1);
	assert_true(addr_equal_ip(&b->paths.v[0].local, &at));
	assert_true(b->paths.v[0].n_taken == 1 && b->tfo_works);
	leg.syn_octets = 0; /* no cookie, that happens */
	upstream_chained(&way, 0, 2, &leg);
	assert_true(upstream_tfo_allowed(b, 2, &there));
	leg.since_sent_s = 1.05; /* the SYN with data was lost */
	upstream_chained(&way, 0, 3, &leg);
	assert_true(b->paths.v[0].n_lost == 1 && b->rtt_us < 31000);
	assert_false(upstream_tfo_allowed(b, 3, &there));
	assert_true(upstream_grant_chain(b, 3, &way));
	assert_true(way.hop[0].g.tfo && !way.hop[1].g.tfo);
	assert_true(upstream_tfo_allowed(b, 64, &there));
	leg = (struct up_leg){.since_sent_s = 0.05, .stripped = true};
	upstream_chained(&way, 0, 65, &leg);
	assert_int_equal(b->paths.v[0].n_stripped, 1);
	pool_put(p);
	kicks(s);
}

static void test_pool_counts(void **state)
{
	struct scene *s = *state;
	struct pool *p = pool_of(s, "12", NULL);

	assert_ptr_equal(pool_get(p), p);
	pool_put(p);
	assert_pool(p, "ab");
	pool_put(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_STAGE(test_unproven),
		ON_STAGE(test_up_without_address),
		ON_STAGE(test_soft_twice),
		ON_STAGE(test_hard_and_rejected),
		ON_STAGE(test_kicks),
		ON_STAGE(test_kick_keeps_it),
		ON_STAGE(test_tfo_wishes),
		ON_STAGE(test_socks5),
		ON_STAGE(test_tfo_backs_off),
		ON_STAGE(test_tfo_not_taken),
		ON_STAGE(test_tfo_by_path),
		ON_STAGE(test_path_counts),
		ON_STAGE(test_mptcp_by_path),
		ON_STAGE(test_path_table),
		ON_STAGE(test_overdue),
		ON_STAGE(test_addresses),
		ON_STAGE(test_grants_exhaust_tokens),
		ON_STAGE(test_no_session),
		ON_STAGE(test_session_replaced),
		ON_STAGE(test_flow_count),
		ON_STAGE(test_matches),
		ON_STAGE(test_credentials_match),
		ON_STAGE(test_pool_order),
		ON_STAGE(test_pool_next),
		ON_STAGE(test_way),
		ON_STAGE(test_way_reload),
		ON_STAGE(test_leg),
		ON_STAGE(test_pool_trouble),
		ON_STAGE(test_pool_busy),
		ON_STAGE(test_pool_weights),
		ON_STAGE(test_pool_reload),
		ON_STAGE(test_pool_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
