/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Batches and reconciling of the bypass sets, with a back end made up here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redir/bypass.h"

#define SET_MAX 10000

/* A set in memory, and what was asked of it. */
struct fake {
	struct bypass_entry set[SET_MAX];
	size_t n;
	unsigned opened, closed, applied, biggest;
	size_t items;
	int open_rc, apply_rc, list_rc;
	unsigned list_eintr; /* so many listings fail half way */
};

static struct bypass_entry *find(struct fake *f, const struct addr *a)
{
	for (size_t i = 0; i < f->n; i++)
		if (addr_equal(&f->set[i].addr, a))
			return &f->set[i];
	return NULL;
}

static int fake_open(void **be, void *arg)
{
	struct fake *f = arg;

	if (f->open_rc < 0)
		return f->open_rc;
	f->opened++;
	*be = f;
	return 0;
}

static int fake_apply(void *be, const struct bypass_item *v, size_t n)
{
	struct fake *f = be;

	if (f->apply_rc < 0)
		return f->apply_rc;
	assert_true(n > 0 && n <= BYPASS_BATCH);
	f->applied++;
	f->items += n;
	if (n > f->biggest)
		f->biggest = (unsigned)n;
	for (size_t i = 0; i < n; i++) {
		struct bypass_entry *e = find(f, &v[i].addr);
		for (size_t k = 0; k < i; k++)
			assert_false(addr_equal(&v[i].addr, &v[k].addr));
		if (v[i].add && !e) {
			assert_true(f->n < SET_MAX);
			e = &f->set[f->n++];
			e->addr = v[i].addr;
		}
		if (v[i].add) {
			assert_true(v[i].ttl_s > 0);
			e->left_s = v[i].ttl_s;
		} else if (e) {
			*e = f->set[--f->n];
		}
	}
	return 0;
}

static int fake_list(void *be, bypass_list_fn *fn, void *ctx)
{
	struct fake *f = be;

	if (f->list_rc < 0)
		return f->list_rc;
	for (size_t i = 0; i < f->n; i++) {
		fn(ctx, &f->set[i].addr, f->set[i].left_s);
		if (f->list_eintr && i == f->n / 2) {
			f->list_eintr--;
			return -EINTR;
		}
	}
	return 0;
}

static void fake_close(void *be)
{
	((struct fake *)be)->closed++;
}

static const struct bypass_ops fake_ops = {"fake", fake_open, fake_apply, fake_list, fake_close};

static int setup(void **state)
{
	*state = calloc(1, sizeof(struct fake));
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static struct addr numbered(unsigned i)
{
	struct addr a;

	assert_true(addr_parse(&a, i % 2 ? "203.0.113.1:443" : "[2001:db8::1]:443", -1));
	if (i % 2)
		a.u.in.sin_addr.s_addr = htonl(0xcb007100U + i);
	else
		a.u.in6.sin6_addr.s6_addr32[3] = htonl(i);
	return a;
}

static void test_batches(void **state)
{
	struct fake *f = *state;
	struct bypass *b = bypass_new(&fake_ops, f);
	struct addr a;

	assert_non_null(b);
	assert_true(bypass_works(b));
	for (unsigned i = 0; i < 600; i++) {
		a = numbered(i);
		bypass_add(b, &a, 100);
	}
	assert_int_equal(f->applied, 2); /* those that were full */
	assert_int_equal(f->n, 512);
	assert_int_equal(bypass_flush(b), 0);
	assert_int_equal(f->applied, 3);
	assert_int_equal(f->n, 600);
	assert_int_equal(f->biggest, BYPASS_BATCH);
	assert_int_equal(bypass_flush(b), 0); /* nothing to do: nothing done */
	assert_int_equal(f->applied, 3);
	assert_int_equal(bypass_changes(b), 600);
	bypass_free(b);
	assert_int_equal(f->closed, 1);
}

static void test_last_word_wins(void **state)
{
	struct fake *f = *state;
	struct bypass *b = bypass_new(&fake_ops, f);
	struct addr a = numbered(1), c = numbered(2), other = a;

	addr_set_port(&other, 80);
	bypass_add(b, &a, 100);
	bypass_add(b, &c, 100);
	bypass_add(b, &other, 7);
	bypass_del(b, &a);
	bypass_add(b, &c, 0); /* no such life: the shortest */
	assert_int_equal(bypass_flush(b), 0);
	assert_int_equal(f->items, 3);
	assert_null(find(f, &a));
	assert_int_equal(find(f, &c)->left_s, 1);
	assert_int_equal(find(f, &other)->left_s, 7);
	bypass_free(b);
}

static void test_failure(void **state)
{
	struct fake *f = *state;
	struct bypass *b = bypass_new(&fake_ops, f);
	struct bypass_entry want = {.addr = numbered(1), .left_s = 100};

	f->apply_rc = -EPERM;
	bypass_add(b, &want.addr, 100);
	assert_int_equal(bypass_flush(b), -EPERM);
	assert_false(bypass_works(b));
	/* From now on it is left alone. */
	f->apply_rc = 0;
	bypass_add(b, &want.addr, 100);
	assert_int_equal(bypass_flush(b), 0);
	assert_int_equal(f->applied, 0);
	/* Until reconciling succeeds. */
	f->list_rc = -ENOENT;
	assert_int_equal(bypass_reconcile(b, &want, 1, NULL), -ENOENT);
	assert_false(bypass_works(b));
	f->list_rc = 0;
	f->apply_rc = -ENOSPC;
	assert_int_equal(bypass_reconcile(b, &want, 1, NULL), -ENOSPC);
	assert_false(bypass_works(b));
	f->apply_rc = 0;
	assert_int_equal(bypass_reconcile(b, &want, 1, NULL), 0);
	assert_true(bypass_works(b));
	assert_non_null(find(f, &want.addr));
	bypass_free(b);
}

static void test_cannot_open(void **state)
{
	struct fake *f = *state;
	struct bypass *b;

	f->open_rc = -ENOTSUP;
	b = bypass_new(&fake_ops, f);
	assert_non_null(b);
	assert_false(bypass_works(b));
	assert_int_equal(bypass_reconcile(b, NULL, 0, NULL), -ENOTSUP);
	f->open_rc = 0;
	assert_int_equal(bypass_reconcile(b, NULL, 0, NULL), 0);
	assert_true(bypass_works(b));
	bypass_free(b);
	assert_int_equal(f->closed, 1);
}

/* 4096 elements of which 10 differ cost 10 changes. */
static void test_reconcile(void **state)
{
	enum { N = 4096 };
	struct fake *f = *state;
	struct bypass *b = bypass_new(&fake_ops, f);
	struct bypass_entry *want = calloc(N, sizeof(*want));
	struct bypass_diff d;
	size_t i;

	assert_non_null(want);
	for (i = 0; i < N; i++)
		want[i] = (struct bypass_entry){.addr = numbered((unsigned)i), .left_s = 3600};
	assert_int_equal(bypass_reconcile(b, want, N, &d), 0);
	assert_int_equal(d.added, N);
	assert_int_equal(f->n, N);
	assert_int_equal(f->applied, N / BYPASS_BATCH);

	f->items = 0;
	assert_int_equal(bypass_reconcile(b, want, N, &d), 0);
	assert_int_equal(f->items, 0);
	assert_int_equal(d.kept, N);

	for (i = 0; i < 3;
	     i++) /* three that nobody wants any more, three new ones in their place */
		want[i].addr = numbered(N + (unsigned)i);
	want[10].left_s = 0;  /* expired */
	want[11].left_s = 60; /* to be shorter, longer */
	f->set[20].left_s = 5;
	f->set[21].left_s = 0;  /* somebody's element for ever */
	want[30].left_s = 3590; /* not worth a change */
	f->list_eintr = 2;
	assert_int_equal(bypass_reconcile(b, want, N, &d), 0);
	assert_int_equal(d.added, 3);
	assert_int_equal(d.removed, 4);
	assert_int_equal(d.refreshed, 3);
	assert_int_equal(d.kept, N - 3 - 1 - 3);
	assert_int_equal(f->items, 10);
	assert_int_equal(f->n, N - 1);
	assert_int_equal(find(f, &want[11].addr)->left_s, 60);
	for (i = 0; i < N; i++) {
		struct bypass_entry *e = find(f, &want[i].addr);
		if (want[i].left_s == 0)
			assert_null(e);
		else if (!e || (e->left_s != want[i].left_s && i != 30))
			fail_msg("element %zu is not as wanted", i);
	}
	assert_int_equal(bypass_reconcile(b, NULL, 0, &d), 0);
	assert_int_equal(f->n, 0);
	bypass_free(b);
	free(want);
}

static void test_wanted_twice(void **state)
{
	struct fake *f = *state;
	struct bypass *b = bypass_new(&fake_ops, f);
	struct bypass_entry want[2] = {{.addr = numbered(1), .left_s = 50},
				       {.addr = numbered(1), .left_s = 3600}};

	assert_int_equal(bypass_reconcile(b, want, 2, NULL), 0);
	assert_int_equal(f->items, 1);
	assert_int_equal(f->set[0].left_s, 50);
	bypass_free(b);
}

static void test_always_changing(void **state)
{
	struct fake *f = *state;
	struct bypass *b = bypass_new(&fake_ops, f);
	struct addr a = numbered(1);

	bypass_add(b, &a, 100);
	assert_int_equal(bypass_flush(b), 0);
	f->list_eintr = 1000;
	assert_int_equal(bypass_reconcile(b, NULL, 0, NULL), -EINTR);
	assert_non_null(find(f, &a)); /* nothing is done on half a listing */
	bypass_free(b);
}

static void test_none(void **state)
{
	struct bypass *b = bypass_new(&bypass_none, NULL);
	struct addr a = numbered(1);

	(void)state;
	assert_true(bypass_works(b));
	assert_string_equal(bypass_name(b), "none");
	bypass_add(b, &a, 10);
	assert_int_equal(bypass_flush(b), 0);
	bypass_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_batches, setup, teardown),
		cmocka_unit_test_setup_teardown(test_last_word_wins, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cannot_open, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reconcile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wanted_twice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_always_changing, setup, teardown),
		cmocka_unit_test(test_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
