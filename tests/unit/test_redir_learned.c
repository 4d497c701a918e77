/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of learned servers: its rules, its bounds, its journal, and many threads at once. */
#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <math.h>
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

#include "redir/learned.h"

#define DAY 86400.0

static const struct learned_limits usual = {.max = 64, .ttl_s = 1000, .plain_ttl_s = 100};

/* ---- allocations, counted; see the linker's --wrap in local.mk ---- */

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void __real_free(void *p);
void __wrap_free(void *p);

static atomic_size_t octets, peak;
static atomic_int fail_after = -1; /* so many calls succeed, the next one fails */

void *__wrap_calloc(size_t n, size_t size)
{
	void *p;

	if (atomic_load(&fail_after) >= 0 && atomic_fetch_sub(&fail_after, 1) == 0)
		return NULL;
	p = __real_calloc(n, size);
	if (p) {
		size_t now = atomic_fetch_add(&octets, malloc_usable_size(p));
		now += malloc_usable_size(p);
		if (now > atomic_load(&peak))
			atomic_store(&peak, now);
	}
	return p;
}

void __wrap_free(void *p)
{
	if (p)
		atomic_fetch_sub(&octets, malloc_usable_size(p));
	__real_free(p);
}

/* ---- helpers ---- */

static struct addr at(const char *text)
{
	struct addr a;

	assert_true(addr_parse(&a, text, -1));
	return a;
}

static struct addr v4(uint32_t host)
{
	struct addr a = at("10.0.0.0:443");

	a.u.in.sin_addr.s_addr = htonl(0x0a000000 + host);
	return a;
}

static struct addr v6(uint32_t host)
{
	struct addr a = at("[2001:db8::]:443");

	a.u.in6.sin6_addr.s6_addr32[3] = htonl(host);
	return a;
}

/* Pointers to such an address. */
#define P4(host) (&(struct addr[]){v4(host)}[0])
#define P6(host) (&(struct addr[]){v6(host)}[0])
#define PA(text) (&(struct addr[]){at(text)}[0])

static struct learned *start(unsigned max, unsigned journal)
{
	struct learned_limits limits = usual;
	struct learned *l;

	limits.max = max;
	l = learned_new(&limits, journal);
	assert_non_null(l);
	return l;
}

static enum learned_verdict look(struct learned *l, const struct addr *a, double now_s)
{
	return learned_look(l, a, now_s, false);
}

/* Puts, and checks that the answer says what the table then says. */
static bool put(struct learned *l, const struct addr *a, enum learned_verdict v,
		enum learned_evidence e, double now_s)
{
	bool ok = learned_put(l, a, v, e, now_s);

	assert_int_equal(ok, look(l, a, now_s) == v);
	return ok;
}

static bool yes(struct learned *l, const struct addr *a, enum learned_evidence e, double now_s)
{
	return put(l, a, LEARNED_MPTCP, e, now_s);
}

static bool no(struct learned *l, const struct addr *a, enum learned_evidence e, double now_s)
{
	return put(l, a, LEARNED_PLAIN, e, now_s);
}

static void lasts(struct learned *l, const struct addr *a, double now_s, double seconds)
{
	enum learned_verdict v = look(l, a, now_s);
	struct learned_item item;

	assert_int_not_equal(v, LEARNED_UNKNOWN);
	assert_true(learned_get(l, a, now_s, &item));
	assert_true(item.verdict == v);
	/* also when both are infinite */
	assert_true(item.expires_s - now_s == seconds ||
		    fabs(item.expires_s - now_s - seconds) < 1e-6);
}

static enum learned_evidence evidence_of(struct learned *l, const struct addr *a, double now_s)
{
	struct learned_item item;

	assert_true(learned_get(l, a, now_s, &item));
	return item.evidence;
}

static struct learned_counts count(struct learned *l)
{
	struct learned_counts c;

	learned_count(l, &c);
	return c;
}

/* All entries through batches of n, each once. */
static unsigned list_all(struct learned *l, double now_s, unsigned n, struct learned_item *out,
			 unsigned cap)
{
	struct learned_cursor c = {0};
	unsigned total = 0, got;

	do {
		got = learned_list(l, &c, now_s, out + total, total + n > cap ? cap - total : n);
		total += got;
	} while (got > 0);
	return total;
}

/* ---- keys ---- */

static void test_keys(void **state)
{
	struct learned *l = start(64, 0);
	struct addr a = v4(1), port = a, mapped, six = v6(1), unset = {0}, zero = a;

	(void)state;
	addr_set_port(&port, 80);
	addr_set_port(&zero, 0);
	addr_map_v6(&mapped, &a);
	assert_int_equal(addr_family(&mapped), AF_INET6);
	assert_true(yes(l, &mapped, LEARNED_FROM_PROXY, 0));
	assert_int_equal(look(l, &a, 1), LEARNED_MPTCP);
	assert_int_equal(look(l, &port, 1), LEARNED_UNKNOWN);
	assert_int_equal(look(l, &six, 1), LEARNED_UNKNOWN);
	assert_int_equal(count(l).v4.mptcp, 1);
	assert_int_equal(count(l).v6.mptcp, 0);
	assert_true(no(l, &six, LEARNED_FROM_PROXY, 0));
	assert_int_equal(count(l).v6.plain, 1);
	assert_false(learned_put(l, &unset, LEARNED_MPTCP, LEARNED_FROM_PROXY, 0));
	assert_false(learned_put(l, &zero, LEARNED_MPTCP, LEARNED_FROM_PROXY, 0));
	assert_false(learned_put(l, &port, LEARNED_UNKNOWN, LEARNED_FROM_PROXY, 0));
	assert_int_equal(learned_look(l, &unset, 0, true), LEARNED_UNKNOWN);
	assert_int_equal(count(l).v4.mptcp + count(l).v4.plain, 1);
	learned_free(l);
}

/* ---- lifetimes and evidence ---- */

static void test_lifetimes(void **state)
{
	struct learned *l = start(64, 0);
	struct addr a = v4(1), b = v4(2);

	(void)state;
	yes(l, &a, LEARNED_FROM_PROXY, 10);
	no(l, &b, LEARNED_FROM_PROXY, 10);
	lasts(l, &a, 10, 1000);
	lasts(l, &b, 10, 100);
	yes(l, &a, LEARNED_FROM_PROXY, 500);
	lasts(l, &a, 500, 1000);
	no(l, &b, LEARNED_FROM_PROXY, 60); /* no doubling without a direct dial */
	lasts(l, &b, 60, 100);
	assert_int_equal(look(l, &b, 159.9), LEARNED_PLAIN);
	assert_int_equal(look(l, &b, 160), LEARNED_UNKNOWN);
	assert_int_equal(look(l, &a, 1499.9), LEARNED_MPTCP);
	assert_int_equal(look(l, &a, 1500), LEARNED_UNKNOWN);
	assert_int_equal(count(l).v4.mptcp + count(l).v4.plain, 0);
	learned_free(l);
}

static void test_newest_wins(void **state)
{
	struct learned *l = start(64, 0);
	struct addr a = v4(1);

	(void)state;
	assert_true(yes(l, &a, LEARNED_FROM_SYNACK, 0));
	assert_int_equal(evidence_of(l, &a, 0), LEARNED_FROM_SYNACK);
	assert_true(yes(l, &a, LEARNED_FROM_DIRECT, 1));
	assert_true(yes(l, &a, LEARNED_FROM_PROXY, 2)); /* agrees: the stronger evidence stays */
	assert_int_equal(evidence_of(l, &a, 2), LEARNED_FROM_DIRECT);
	assert_true(no(l, &a, LEARNED_FROM_PROXY, 3));
	assert_int_equal(evidence_of(l, &a, 3), LEARNED_FROM_PROXY);
	assert_true(yes(l, &a, LEARNED_FROM_SYNACK, 4));
	assert_int_equal(count(l).v4.mptcp, 1);
	assert_int_equal(count(l).v4.plain, 0);
	learned_free(l);
}

static void test_direct_no_stands(void **state)
{
	struct learned *l = start(64, 0);
	struct addr a = v4(1);

	(void)state;
	yes(l, &a, LEARNED_FROM_PROXY, 0);
	assert_true(no(l, &a, LEARNED_FROM_DIRECT, 10));
	assert_false(yes(l, &a, LEARNED_FROM_PROXY, 20));
	assert_false(yes(l, &a, LEARNED_FROM_SYNACK, 30));
	assert_true(no(l, &a, LEARNED_FROM_PROXY, 40)); /* agrees, but makes it neither */
	lasts(l, &a, 40, 70);                           /* longer */
	assert_int_equal(evidence_of(l, &a, 40), LEARNED_FROM_DIRECT); /* nor weaker */
	assert_false(yes(l, &a, LEARNED_FROM_PROXY, 109));
	assert_true(yes(l, &a, LEARNED_FROM_PROXY, 110));
	no(l, &a, LEARNED_FROM_DIRECT, 120);
	assert_true(yes(l, &a, LEARNED_FROM_DIRECT, 121)); /* seen with our own eyes */
	lasts(l, &a, 121, 1000);
	learned_free(l);
}

static void test_direct_no_grows(void **state)
{
	struct learned *l = start(64, 0);
	struct addr a = v4(1);
	double now = 0, ttl = 100;

	(void)state;
	for (int i = 0; i < 12; i++) {
		no(l, &a, LEARNED_FROM_DIRECT, now);
		lasts(l, &a, now, ttl);
		no(l, &a, LEARNED_FROM_DIRECT, now + 5); /* was under way at the same time */
		lasts(l, &a, now + 5, ttl);
		now += 5 + ttl;
		assert_int_equal(look(l, &a, now), LEARNED_UNKNOWN);
		assert_false(learned_remove(l, P4(99)));
		/* over, not forgotten, and not counted or listed */
		assert_int_equal(count(l).v4.plain, 0);
		assert_int_equal(learned_expire(l, now, 1000), 0);
		yes(l, &a, LEARNED_FROM_PROXY, now);
		now += 1;
		ttl = ttl * 2 > DAY ? DAY : ttl * 2;
	}
	assert_true(ttl == DAY);
	/* repeated while it stands, but not at once: it grows as well */
	yes(l, &a, LEARNED_FROM_DIRECT, now);
	no(l, &a, LEARNED_FROM_DIRECT, now);
	lasts(l, &a, now, 100); /* the success has wiped the slate */
	no(l, &a, LEARNED_FROM_DIRECT, now + 61);
	lasts(l, &a, now + 61, 200);
	/* as long again without failure, and it is forgotten */
	now += 61 + 400;
	assert_int_equal(look(l, &a, now), LEARNED_UNKNOWN);
	no(l, &a, LEARNED_FROM_DIRECT, now);
	lasts(l, &a, now, 100);
	/* also when the time is spent as a "yes" */
	now += 100;
	yes(l, &a, LEARNED_FROM_PROXY, now);
	now += 100;
	no(l, &a, LEARNED_FROM_DIRECT, now);
	lasts(l, &a, now, 100);
	learned_free(l);
}

static void test_long_plain_ttl(void **state)
{
	const struct learned_limits limits = {.max = 8, .ttl_s = 1, .plain_ttl_s = 3 * DAY};
	struct learned *l = learned_new(&limits, 0);
	struct addr a = v4(1);

	(void)state;
	no(l, &a, LEARNED_FROM_DIRECT, 0);
	lasts(l, &a, 0, 3 * DAY); /* never less than configured */
	no(l, &a, LEARNED_FROM_DIRECT, 3 * DAY);
	lasts(l, &a, 3 * DAY, 3 * DAY);
	learned_free(l);
}

static void test_admin(void **state)
{
	struct learned *l = start(2, 0);
	struct addr a = v4(1), b = v4(2), c = v4(3), d = v4(4);
	struct learned_item item;

	(void)state;
	assert_true(yes(l, &a, LEARNED_FROM_ADMIN, 0));
	for (enum learned_evidence e = LEARNED_FROM_SYNACK; e < LEARNED_FROM_ADMIN; e++)
		assert_false(no(l, &a, e, 1));
	assert_true(yes(l, &a, LEARNED_FROM_PROXY, 1));
	assert_int_equal(evidence_of(l, &a, 1), LEARNED_FROM_ADMIN);
	assert_true(learned_get(l, &a, 1000 * DAY, &item));
	assert_true(isinf(item.expires_s));
	assert_int_equal(count(l).v4.admin, 1);
	/* never makes room */
	for (uint32_t i = 100; i < 200; i++)
		assert_true(no(l, P4(i), LEARNED_FROM_PROXY, 2));
	assert_int_equal(look(l, &a, 2), LEARNED_MPTCP);
	assert_true(learned_put_admin(l, &b, LEARNED_PLAIN, 50, 3));
	lasts(l, &b, 3, 50);
	assert_false(yes(l, &c, LEARNED_FROM_PROXY, 4)); /* all are the administrator's */
	assert_false(learned_put_admin(l, &d, LEARNED_PLAIN, 50, 4));
	assert_true(no(l, &a, LEARNED_FROM_ADMIN, 5)); /* his word changes it */
	assert_int_equal(learned_expire(l, 53, 1000), 1);
	assert_int_equal(count(l).v4.admin, 1);
	assert_true(yes(l, &c, LEARNED_FROM_PROXY, 54));
	assert_true(learned_put_admin(l, &a, LEARNED_PLAIN, 10, 55));
	assert_true(yes(l, &a, LEARNED_FROM_PROXY, 65)); /* ended: anybody's again */
	assert_int_equal(count(l).v4.admin, 0);
	assert_int_equal(evidence_of(l, &a, 65), LEARNED_FROM_PROXY);
	/* also when only the memory of failed dials is left */
	no(l, &a, LEARNED_FROM_DIRECT, 70);
	learned_put_admin(l, &a, LEARNED_MPTCP, 10, 71);
	assert_int_equal(look(l, &a, 81), LEARNED_UNKNOWN);
	assert_int_equal(count(l).v4.admin, 0);
	assert_int_equal(count(l).v4.mptcp, 1); /* c */
	learned_free(l);
}

static void test_remove_clear(void **state)
{
	struct learned *l = start(64, 0);
	struct addr a = v4(1), b = v6(1);

	(void)state;
	yes(l, &a, LEARNED_FROM_PROXY, 0);
	no(l, &b, LEARNED_FROM_ADMIN, 0);
	no(l, P4(2), LEARNED_FROM_DIRECT, 0);
	assert_true(learned_remove(l, &a));
	assert_false(learned_remove(l, &a));
	assert_int_equal(look(l, &a, 0), LEARNED_UNKNOWN);
	yes(l, &a, LEARNED_FROM_PROXY, 0);
	assert_int_equal(learned_clear(l), 3);
	assert_int_equal(learned_clear(l), 0);
	assert_int_equal(look(l, &a, 0), LEARNED_UNKNOWN);
	assert_int_equal(look(l, &b, 0), LEARNED_UNKNOWN);
	no(l, P4(2), LEARNED_FROM_DIRECT, 90);
	lasts(l, P4(2), 90, 100); /* strikes are gone, too */
	assert_int_equal(count(l).v4.admin + count(l).v6.admin, 0);
	learned_free(l);
}

static void test_hits_saved(void **state)
{
	struct learned *l = start(64, 0);
	struct addr a = v4(1), b = v4(2);
	struct learned_item item;

	(void)state;
	yes(l, &a, LEARNED_FROM_PROXY, 3);
	yes(l, &a, LEARNED_FROM_PROXY, 4);
	for (int i = 0; i < 5; i++)
		learned_look(l, &a, 4, true);
	learned_look(l, &a, 4, false);
	learned_look(l, &b, 4, true); /* a miss makes no entry */
	learned_saved(l, &a, 1000);
	learned_saved(l, &a, UINT64_C(1) << 40);
	learned_saved(l, &b, 7);
	assert_true(learned_get(l, &a, 5, &item));
	assert_true(item.hits == 5);
	assert_true(item.saved == 1000 + (UINT64_C(1) << 40));
	assert_true(item.created_s == 3);
	assert_false(learned_get(l, &b, 5, &item));
	assert_true(count(l).saved == 1007 + (UINT64_C(1) << 40));
	learned_remove(l, &a);
	assert_true(count(l).saved == 1007 + (UINT64_C(1) << 40));
	learned_free(l);
}

static void test_expire_budget(void **state)
{
	struct learned *l = start(600, 0);
	unsigned removed = 0;

	(void)state;
	for (uint32_t i = 0; i < 600; i++)
		no(l, P4(i), LEARNED_FROM_PROXY, i < 300 ? 0 : 50);
	assert_int_equal(learned_expire(l, 99, 10000), 0);
	assert_true(learned_expire(l, 100, 10) <= 10);
	for (int i = 0; i < 200; i++) {
		unsigned n = learned_expire(l, 100, 10);

		assert_true(n <= 10);
		removed += n;
	}
	assert_in_range(removed, 290, 300);
	assert_int_equal(count(l).v4.plain, 300);
	assert_int_equal(learned_expire(l, 150, 10000), 300);
	assert_int_equal(count(l).v4.plain, 0);
	learned_free(l);
}

/* ---- room ---- */

static void test_eviction_order(void **state)
{
	struct learned *l = start(4, 0);

	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		yes(l, P4(i), LEARNED_FROM_PROXY, 0);
	learned_look(l, P4(0), 1, true);
	learned_look(l, P4(1), 1, false); /* somebody only asks */
	yes(l, P4(2), LEARNED_FROM_PROXY, 1);
	yes(l, P6(1), LEARNED_FROM_PROXY, 1); /* has room of its own */
	yes(l, P4(10), LEARNED_FROM_PROXY, 2);
	yes(l, P4(11), LEARNED_FROM_PROXY, 2);
	assert_int_equal(look(l, P4(1), 3), LEARNED_UNKNOWN);
	assert_int_equal(look(l, P4(3), 3), LEARNED_UNKNOWN);
	assert_int_equal(look(l, P4(0), 3), LEARNED_MPTCP);
	assert_int_equal(look(l, P4(2), 3), LEARNED_MPTCP);
	assert_int_equal(look(l, P4(10), 3), LEARNED_MPTCP);
	assert_int_equal(look(l, P6(1), 3), LEARNED_MPTCP);
	assert_true(count(l).v4.evicted == 2);
	assert_true(count(l).v6.evicted == 0);
	learned_free(l);
}

static void test_many_servers(void **state)
{
	size_t before, first, small;
	struct learned_item *items = calloc(8192, sizeof(*items));
	struct learned *l;

	(void)state;
	assert_non_null(items);
	before = atomic_load(&octets);
	l = start(4096, 256);
	small = atomic_load(&octets) - before;
	for (uint32_t i = 0; i < 100000; i++) {
		learned_put(l, P4(i), LEARNED_MPTCP, LEARNED_FROM_PROXY, i / 1e4);
		if (i == 4095) {
			first = atomic_load(&octets) - before;
			atomic_store(&peak, 0);
		}
	}
	/* what the first 4096 took is all there ever is: about 200 octets each */
	assert_int_equal(atomic_load(&peak), 0);
	assert_int_equal(atomic_load(&octets) - before, first);
	assert_true(first < (size_t)4096 * 200);
	assert_true(small < (size_t)4096 * 4); /* and none of it before it is needed */
	for (uint32_t i = 0; i < 100000; i++)
		learned_put(l, P6(i), LEARNED_PLAIN, LEARNED_FROM_DIRECT, i / 1e4);
	assert_true(atomic_load(&octets) - before < (size_t)2 * 4096 * 200);
	assert_int_equal(count(l).v4.mptcp, 4096);
	assert_int_equal(count(l).v6.plain, 4096);
	assert_int_equal(count(l).v4.slots, 4096);
	assert_true(count(l).v4.evicted == 100000 - 4096);
	assert_int_equal(list_all(l, 11, 100, items, 8192), 8192);
	for (uint32_t i = 0; i < 100000; i += 97)
		assert_int_equal(look(l, P4(i), 11),
				 i < 100000 - 4096 ? LEARNED_UNKNOWN : LEARNED_MPTCP);
	learned_free(l);
	assert_int_equal(atomic_load(&octets), before);
	free(items);
}

static void test_limits(void **state)
{
	struct learned_limits limits = usual;
	struct learned_item items[2000];
	struct learned *l = start(1000, 0);
	size_t big;

	(void)state;
	for (uint32_t i = 0; i < 1000; i++)
		yes(l, P4(i), LEARNED_FROM_PROXY, 0);
	yes(l, P4(5), LEARNED_FROM_ADMIN, 0);
	for (uint32_t i = 100; i < 400; i++)
		learned_look(l, P4(i), 0, true);
	big = atomic_load(&octets);
	limits.max = 301;
	assert_int_equal(learned_set_limits(l, &limits), 0);
	assert_true(atomic_load(&octets) < big); /* memory is given back */
	assert_int_equal(count(l).v4.slots, 512);
	assert_int_equal(list_all(l, 0, 64, items, 2000), 301);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(look(l, P4(i), 0),
				 i == 5 || (i >= 100 && i < 400) ? LEARNED_MPTCP : LEARNED_UNKNOWN);
	/* order and buckets have survived the move */
	for (uint32_t i = 2000; i < 2100; i++)
		assert_true(yes(l, P4(i), LEARNED_FROM_PROXY, 0));
	assert_int_equal(look(l, P4(199), 0), LEARNED_UNKNOWN);
	assert_int_equal(look(l, P4(200), 0), LEARNED_MPTCP);
	assert_true(learned_remove(l, P4(399)));
	limits.max = 2000;
	limits.ttl_s = 7;
	assert_int_equal(learned_set_limits(l, &limits), 0);
	for (uint32_t i = 3000; i < 4500; i++)
		assert_true(yes(l, P4(i), LEARNED_FROM_PROXY, 0));
	lasts(l, P4(3000), 0, 7);
	lasts(l, P4(200), 0, 1000);
	assert_int_equal(count(l).v4.mptcp, 1800);
	/* the administrator's are the last to go, but the bound is the bound */
	yes(l, P4(6), LEARNED_FROM_ADMIN, 0);
	limits.max = 1;
	assert_int_equal(learned_set_limits(l, &limits), 0);
	assert_int_equal(count(l).v4.mptcp, 1);
	assert_int_equal(look(l, P4(6), 0), LEARNED_MPTCP);
	limits.max = 0;
	assert_int_equal(learned_set_limits(l, &limits), 0);
	assert_int_equal(count(l).v4.mptcp, 0);
	assert_int_equal(count(l).v4.slots, 0);
	assert_false(yes(l, P4(1), LEARNED_FROM_PROXY, 0));
	assert_false(yes(l, P6(1), LEARNED_FROM_ADMIN, 0));
	limits.max = 3;
	assert_int_equal(learned_set_limits(l, &limits), 0);
	assert_true(yes(l, P6(1), LEARNED_FROM_PROXY, 0));
	learned_free(l);
}

static void test_no_memory(void **state)
{
	struct learned_limits limits = usual;
	size_t before = atomic_load(&octets);
	struct learned *l;
	int calls = 0;

	(void)state;
	for (;; calls++) { /* learned_new with each allocation failing */
		atomic_store(&fail_after, calls);
		l = learned_new(&limits, 16);
		if (atomic_exchange(&fail_after, -1) >= 0)
			break;
		assert_null(l);
		assert_int_equal(atomic_load(&octets), before);
	}
	assert_in_range(calls, 4, 20);
	limits.max = 1000;
	assert_int_equal(learned_set_limits(l, &limits), 0);
	atomic_store(&fail_after, 0);
	assert_false(yes(l, P4(1), LEARNED_FROM_PROXY, 0)); /* no room at all */
	atomic_store(&fail_after, 1);
	assert_false(yes(l, P4(1), LEARNED_FROM_PROXY, 0)); /* but for the hash table */
	atomic_store(&fail_after, -1);
	for (uint32_t i = 0; i < 256; i++)
		assert_true(yes(l, P4(i), LEARNED_FROM_PROXY, 0));
	atomic_store(&fail_after, 0);
	assert_true(yes(l, P4(300), LEARNED_FROM_PROXY, 0)); /* no more room: like a full table */
	assert_int_equal(look(l, P4(0), 0), LEARNED_UNKNOWN);
	assert_int_equal(count(l).v4.mptcp, 256);
	limits.max = 100;
	atomic_store(&fail_after, 0);
	assert_int_equal(learned_set_limits(l, &limits), -ENOMEM);
	atomic_store(&fail_after, -1);
	assert_int_equal(look(l, P4(300), 0), LEARNED_MPTCP);
	assert_true(yes(l, P4(301), LEARNED_FROM_PROXY, 0));
	learned_free(l);
	assert_int_equal(atomic_load(&octets), before);
}

/* ---- listing ---- */

static void test_list(void **state)
{
	struct learned *l = start(2000, 0);
	struct learned_item items[4000];
	struct learned_cursor c = {0};
	unsigned n = 0, got, in_list[3000] = {0};

	(void)state;
	assert_int_equal(list_all(l, 0, 10, items, 4000), 0);
	for (uint32_t i = 0; i < 1000; i++) {
		yes(l, P4(i), LEARNED_FROM_PROXY, 0);
		no(l, P6(i), LEARNED_FROM_DIRECT, 0);
	}
	assert_int_equal(list_all(l, 99, 7, items, 4000), 2000);
	assert_int_equal(list_all(l, 100, 7, items, 4000), 1000); /* ended ones are left out */
	/* Entries go and come back, and the table shrinks, while it is listed. */
	while ((got = learned_list(l, &c, 0, items + n, 10)) > 0) {
		for (unsigned i = n; i < n + got; i++)
			if (addr_family(&items[i].addr) == AF_INET)
				in_list[ntohl(items[i].addr.u.in.sin_addr.s_addr) - 0x0a000000]++;
		n += got;
		for (uint32_t i = 0; i < 1000; i += 3)
			learned_remove(l, P4(i));
		for (uint32_t i = 0; i < 1000; i += 3)
			yes(l, P4(i), LEARNED_FROM_PROXY, 0);
		if (n == 300) {
			struct learned_limits limits = usual;
			limits.max = 700;
			assert_int_equal(learned_set_limits(l, &limits), 0);
		}
		assert_true(n < 3000);
	}
	for (uint32_t i = 0; i < 1000; i++)
		assert_true(in_list[i] <= 1);
	assert_in_range(n, 700, 2000);
	learned_free(l);
}

static void test_restore(void **state)
{
	struct learned *l = start(4, 8);
	struct learned_item item = {.addr = v4(1),
				    .verdict = LEARNED_MPTCP,
				    .evidence = LEARNED_FROM_PROXY,
				    .expires_s = 5000,
				    .hits = 3,
				    .saved = 4},
			    got;
	struct learned_change change[8];
	bool resync;

	(void)state;
	yes(l, P4(9), LEARNED_FROM_PROXY, 10);
	assert_true(learned_restore(l, &item, 10));
	lasts(l, P4(1), 10, 1000); /* cut */
	assert_true(learned_get(l, P4(1), 10, &got));
	assert_true(got.hits == 3 && got.saved == 4);
	item.verdict = LEARNED_PLAIN;
	assert_false(learned_restore(l, &item, 10)); /* what is there knows better */
	item.addr = v4(2);
	item.expires_s = 10;
	assert_false(learned_restore(l, &item, 10)); /* ended */
	item.expires_s = 5000;
	assert_true(learned_restore(l, &item, 10));
	lasts(l, P4(2), 10, 100);
	item.addr = v4(3);
	item.evidence = LEARNED_FROM_DIRECT;
	item.expires_s = 10 + 350;
	assert_true(learned_restore(l, &item, 10));
	lasts(l, P4(3), 10, 350);
	item.addr = v4(4);
	assert_false(learned_restore(l, &item, 10)); /* full */
	assert_int_equal(learned_drain(l, change, 8, &resync), 2);
	assert_int_equal(change[1].what, LEARNED_ADD);
	assert_int_equal(change[1].ttl_s, 1000);
	/* 350 s were those of the third strike; the fourth gets 800 */
	assert_int_equal(look(l, P4(3), 360), LEARNED_UNKNOWN);
	no(l, P4(3), LEARNED_FROM_DIRECT, 361);
	lasts(l, P4(3), 361, 800);
	/* restored ones are the least recently used, the first of them the most recently */
	learned_clear(l);
	yes(l, P4(9), LEARNED_FROM_PROXY, 10);
	for (uint32_t i = 1; i < 4; i++) {
		item.addr = v4(i);
		assert_true(learned_restore(l, &item, 10));
	}
	yes(l, P4(20), LEARNED_FROM_PROXY, 10);
	assert_int_equal(look(l, P4(3), 10), LEARNED_UNKNOWN);
	yes(l, P4(21), LEARNED_FROM_PROXY, 10);
	assert_int_equal(look(l, P4(2), 10), LEARNED_UNKNOWN);
	assert_int_equal(look(l, P4(1), 10), LEARNED_PLAIN);
	item.addr = v4(1);
	item.evidence = LEARNED_FROM_ADMIN;
	item.expires_s = INFINITY;
	learned_clear(l);
	assert_true(learned_restore(l, &item, 10));
	assert_int_equal(count(l).v4.admin, 1);
	lasts(l, P4(1), 10, INFINITY);
	learned_free(l);
}

/* ---- the journal ---- */

static void told(struct learned *l, const struct addr *a, enum learned_what what, uint32_t ttl_s)
{
	struct learned_change c;
	bool resync;

	assert_int_equal(learned_drain(l, &c, 1, &resync), 1);
	assert_false(resync);
	assert_true(addr_equal(&c.addr, a));
	assert_int_equal(c.what, what);
	assert_int_equal(c.ttl_s, ttl_s);
}

static void told_nothing(struct learned *l)
{
	struct learned_change c;
	bool resync;

	assert_int_equal(learned_drain(l, &c, 1, &resync), 0);
	assert_false(resync);
}

static void test_journal(void **state)
{
	struct learned *l = start(2, 16);
	struct addr a = v4(1), b = v4(2), c = v4(3);

	(void)state;
	told_nothing(l);
	no(l, &a, LEARNED_FROM_PROXY, 0);
	told_nothing(l);
	yes(l, &a, LEARNED_FROM_PROXY, 0.5);
	told(l, &a, LEARNED_ADD, 1000);
	for (double now = 1; now < 100; now += 1)
		yes(l, &a, LEARNED_FROM_DIRECT, now);
	told_nothing(l); /* a busy server costs nothing */
	yes(l, &a, LEARNED_FROM_DIRECT, 101);
	told(l, &a, LEARNED_REFRESH, 1000);
	yes(l, &a, LEARNED_FROM_DIRECT, 200);
	told_nothing(l);
	no(l, &a, LEARNED_FROM_DIRECT, 201);
	told(l, &a, LEARNED_REMOVE, 0);
	yes(l, &a, LEARNED_FROM_PROXY, 202);
	told_nothing(l); /* refused */
	yes(l, &a, LEARNED_FROM_ADMIN, 203);
	told(l, &a, LEARNED_ADD, 0);
	yes(l, &a, LEARNED_FROM_ADMIN, 204);
	told_nothing(l);
	learned_put_admin(l, &a, LEARNED_MPTCP, 10.5, 205);
	told(l, &a, LEARNED_REFRESH, 11); /* sooner */
	yes(l, &a, LEARNED_FROM_ADMIN, 206);
	told(l, &a, LEARNED_REFRESH, 0);
	assert_true(learned_remove(l, &a));
	told(l, &a, LEARNED_REMOVE, 0);
	yes(l, &a, LEARNED_FROM_PROXY, 300);
	yes(l, &b, LEARNED_FROM_PROXY, 301);
	yes(l, &c, LEARNED_FROM_PROXY, 302);
	told(l, &a, LEARNED_ADD, 1000);
	told(l, &b, LEARNED_ADD, 1000);
	told(l, &a, LEARNED_REMOVE, 0); /* evicted */
	told(l, &c, LEARNED_ADD, 1000);
	assert_int_equal(look(l, &b, 1301), LEARNED_UNKNOWN);
	told(l, &b, LEARNED_REMOVE, 0); /* ended, found by a look */
	assert_int_equal(learned_expire(l, 1302, 1000), 1);
	told(l, &c, LEARNED_REMOVE, 0); /* and by the timer */
	told_nothing(l);
	learned_free(l);
}

static void test_journal_overflow(void **state)
{
	struct learned *l = start(64, 8);
	struct learned_change c[8];
	bool resync;

	(void)state;
	for (uint32_t round = 0; round < 3; round++) { /* the ring wraps */
		for (uint32_t i = 0; i < 5; i++)
			yes(l, P4(round * 100 + i), LEARNED_FROM_PROXY, 0);
		assert_int_equal(learned_drain(l, c, 3, &resync), 3);
		assert_false(resync);
		assert_true(addr_equal(&c[2].addr, P4(round * 100 + 2)));
		assert_int_equal(learned_drain(l, c, 8, &resync), 2);
		assert_true(addr_equal(&c[1].addr, P4(round * 100 + 4)));
	}
	for (uint32_t i = 500; i < 508; i++)
		yes(l, P4(i), LEARNED_FROM_PROXY, 0);
	assert_int_equal(learned_drain(l, c, 8, &resync), 8); /* just full */
	assert_false(resync);
	for (uint32_t i = 600; i < 620; i++)
		yes(l, P4(i), LEARNED_FROM_PROXY, 0);
	assert_int_equal(learned_drain(l, c, 8, &resync), 0);
	assert_true(resync);
	told_nothing(l); /* once */
	yes(l, P4(700), LEARNED_FROM_PROXY, 0);
	told(l, P4(700), LEARNED_ADD, 1000);
	learned_free(l);

	l = start(4, 0); /* no journal */
	yes(l, P4(1), LEARNED_FROM_PROXY, 0);
	told_nothing(l);
	learned_free(l);
}

/* ---- the direct path ---- */

static void test_direct_pause(void **state)
{
	struct learned *l = start(4, 0);
	double now = 1000, pause = 60;

	(void)state;
	assert_true(learned_direct_allowed(l, now));
	for (int i = 0; i < 20; i++) /* one dead server, whatever its port, is no dead path */
		learned_direct_result(l, PA(i % 2 ? "10.0.0.1:80" : "10.0.0.1:443"), now, false);
	for (uint32_t i = 2; i < 5; i++)
		learned_direct_result(l, P4(i), now, false);
	assert_true(learned_direct_allowed(l, now));
	learned_direct_result(l, P4(50), now, true);
	for (uint32_t i = 5; i < 9; i++)
		learned_direct_result(l, P4(i), now, false);
	assert_true(learned_direct_allowed(l, now)); /* a success lay between */
	for (int round = 0; round < 9; round++) {
		learned_direct_result(l, P6((uint32_t)round), now, false);
		if (round > 0) { /* after a pause the row starts anew */
			for (uint32_t i = 1; i < 4; i++)
				learned_direct_result(l, P4(i), now, false);
			assert_true(learned_direct_allowed(l, now));
			learned_direct_result(l, P4(4), now, false);
		}
		assert_false(learned_direct_allowed(l, now));
		assert_true(learned_direct_paused(l, now) == pause);
		for (uint32_t i = 100; i < 120; i++) /* under way before the pause */
			learned_direct_result(l, P4(i), now + 1, false);
		assert_true(learned_direct_paused(l, now) == pause);
		assert_false(learned_direct_allowed(l, now + pause - 0.1));
		now += pause;
		assert_true(learned_direct_allowed(l, now));
		pause = pause * 2 > 3600 ? 3600 : pause * 2;
	}
	assert_true(pause == 3600);
	for (uint32_t i = 0; i < 5; i++)
		learned_direct_result(l, P4(i), now, false);
	assert_false(learned_direct_allowed(l, now));
	learned_direct_result(l, P4(0), now, true);
	assert_true(learned_direct_allowed(l, now));
	for (uint32_t i = 0; i < 5; i++)
		learned_direct_result(l, P4(i), now, false);
	assert_true(learned_direct_paused(l, now) == 60); /* short again */
	learned_clear(l);
	assert_true(learned_direct_allowed(l, now));
	learned_free(l);
}

/* ---- many threads ---- */

#define THREADS 4
#define ROUNDS  20000

static atomic_bool done;

static void *hammer(void *arg)
{
	struct learned *l = arg;
	unsigned x = (unsigned)(uintptr_t)&x; /* each thread its own way */

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct addr a;

		x = x * 1103515245u + 12345u;
		a = x & 0x10000 ? v4(x >> 17 & 0x1ff) : v6(x >> 17 & 0x1ff);
		switch (i % 8) {
		case 0:
			learned_put(l, &a, LEARNED_PLAIN, LEARNED_FROM_DIRECT, i);
			break;
		case 1:
			learned_remove(l, &a);
			break;
		case 2:
			learned_saved(l, &a, 1);
			learned_direct_result(l, &a, i, x & 0x20000);
			break;
		case 3:
			learned_expire(l, i, 16);
			learned_direct_allowed(l, i);
			break;
		case 4:
			learned_look(l, &a, i, true);
			break;
		default:
			learned_put(l, &a, LEARNED_MPTCP, LEARNED_FROM_PROXY, i);
		}
	}
	return NULL;
}

/* What the main thread does meanwhile: list, drain, reload. */
static void *look_on(void *arg)
{
	struct learned *l = arg;
	struct learned_change c[32];
	struct learned_item items[32];
	struct learned_limits limits = usual;
	struct learned_counts counts;
	bool resync;

	while (!atomic_load(&done)) {
		struct learned_cursor cursor = {0};

		while (learned_list(l, &cursor, 0, items, 32) > 0)
			;
		learned_drain(l, c, 32, &resync);
		limits.max = limits.max == 300 ? 100 : 300;
		learned_set_limits(l, &limits);
		learned_count(l, &counts);
		if (counts.v4.mptcp + counts.v4.plain > counts.v4.max)
			return l;
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct learned *l = start(300, 64);
	struct learned_item items[1024];
	struct learned_counts c;
	pthread_t t[THREADS], other;
	void *bad;
	unsigned n;

	(void)state;
	atomic_store(&done, false);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, hammer, l), 0);
	assert_int_equal(pthread_create(&other, NULL, look_on, l), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	atomic_store(&done, true);
	pthread_join(other, &bad);
	assert_null(bad);
	/* counts, listing and look-ups agree */
	c = count(l);
	n = list_all(l, 0, 50, items, 1024);
	assert_int_equal(n, c.v4.mptcp + c.v4.plain + c.v6.mptcp + c.v6.plain);
	assert_in_range(n, 1, 600);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(look(l, &items[i].addr, 0), items[i].verdict);
	learned_free(l);
}

/* A mirror that follows the journal ends up with what the table has. */
static void test_mirror(void **state)
{
	struct learned *l = start(100, 32);
	struct learned_change c[16];
	struct learned_item items[200];
	bool mirror[400] = {false}, resync;
	unsigned resyncs = 0, n;

	(void)state;
	for (uint32_t i = 0; i < 20000; i++) {
		struct addr a = v4(i * 2654435761u % 400);

		if (i % 5 == 0)
			learned_put(l, &a, LEARNED_PLAIN, LEARNED_FROM_PROXY, i);
		else
			learned_put(l, &a, LEARNED_MPTCP, LEARNED_FROM_PROXY, i);
		if (i % (i / 1000 * 3 + 1) != 0 && i != 19999) /* the reader gets slower */
			continue;
		do {
			n = learned_drain(l, c, 16, &resync);
			if (resync) {
				unsigned k = list_all(l, 0, 10, items, 200);

				resyncs++;
				memset(mirror, 0, sizeof(mirror));
				while (k-- > 0)
					if (items[k].verdict == LEARNED_MPTCP)
						mirror[ntohl(items[k].addr.u.in.sin_addr.s_addr) -
						       0x0a000000] = true;
			}
			for (unsigned k = 0; k < n; k++)
				mirror[ntohl(c[k].addr.u.in.sin_addr.s_addr) - 0x0a000000] =
					c[k].what != LEARNED_REMOVE;
		} while (n > 0);
		for (uint32_t k = 0; k < 400; k++) {
			struct learned_item item;
			bool has = learned_get(l, P4(k), 0, &item) && item.verdict == LEARNED_MPTCP;

			if (has != mirror[k])
				fail_msg("entry %u at step %u", k, i);
		}
	}
	assert_true(resyncs > 10);
	learned_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_lifetimes),
		cmocka_unit_test(test_newest_wins),
		cmocka_unit_test(test_direct_no_stands),
		cmocka_unit_test(test_direct_no_grows),
		cmocka_unit_test(test_long_plain_ttl),
		cmocka_unit_test(test_admin),
		cmocka_unit_test(test_remove_clear),
		cmocka_unit_test(test_hits_saved),
		cmocka_unit_test(test_expire_budget),
		cmocka_unit_test(test_eviction_order),
		cmocka_unit_test(test_many_servers),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_restore),
		cmocka_unit_test(test_journal),
		cmocka_unit_test(test_journal_overflow),
		cmocka_unit_test(test_direct_pause),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_mirror),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
