/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Associations: found by whom they belong to; who goes first; a clock that the test owns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redir/assoc_table.h"

#define MANY 5000

static struct assoc_key key_of(const char *text, uint8_t ttl, bool direct)
{
	struct assoc_key k = {.ttl = ttl, .direct = direct};

	assert_true(addr_parse(&k.src, text, -1));
	return k;
}

static void start(struct assoc_table *t, size_t max)
{
	assert_int_equal(assoc_table_init(t, max), 0);
	t->idle_s[ASSOC_ORDINARY] = 300;
	t->idle_s[ASSOC_DNS] = 10;
	t->idle_s[ASSOC_PROBE] = 15;
}

static void add(struct assoc_table *t, struct assoc_node *n, const char *src, enum assoc_kind kind,
		double now_s)
{
	n->key = key_of(src, 0, false);
	assoc_table_add(t, n, kind, now_s);
}

static void test_found_by_whole_key(void **state)
{
	const struct assoc_key keys[] = {
		key_of("192.0.2.1:4000", 0, false),     key_of("192.0.2.1:4001", 0, false),
		key_of("192.0.2.2:4000", 0, false),     key_of("192.0.2.1:4000", 3, false),
		key_of("192.0.2.1:4000", 4, false),     key_of("192.0.2.1:4000", 0, true),
		key_of("[2001:db8::1]:4000", 0, false),
	};
	struct assoc_node nodes[7] = {0};
	struct assoc_table t;

	(void)state;
	start(&t, 16);
	for (int i = 0; i < 7; i++) {
		assert_null(assoc_table_find(&t, &keys[i]));
		nodes[i].key = keys[i];
		assoc_table_add(&t, &nodes[i], ASSOC_ORDINARY, 1);
	}
	for (int i = 0; i < 7; i++)
		assert_ptr_equal(assoc_table_find(&t, &keys[i]), &nodes[i]);
	for (int i = 0; i < 7; i++) {
		assoc_table_remove(&t, &nodes[i]);
		assert_null(assoc_table_find(&t, &keys[i]));
	}
	assert_int_equal(t.n, 0);
	assoc_table_fini(&t);
}

static void test_oldest_first(void **state)
{
	struct assoc_node a = {0}, b = {0}, c = {0};
	struct assoc_table t;

	(void)state;
	start(&t, 3);
	assert_null(assoc_table_oldest(&t));
	add(&t, &a, "192.0.2.1:1", ASSOC_ORDINARY, 1);
	add(&t, &b, "192.0.2.1:2", ASSOC_DNS, 2);
	assert_false(assoc_table_full(&t));
	add(&t, &c, "192.0.2.1:3", ASSOC_ORDINARY, 3);
	assert_true(assoc_table_full(&t));
	assert_ptr_equal(assoc_table_oldest(&t), &a);
	assoc_table_touch(&t, &a, ASSOC_ORDINARY, 4);
	assert_ptr_equal(assoc_table_oldest(&t), &b);
	assoc_table_touch(&t, &b, ASSOC_DNS, 5);
	assert_ptr_equal(assoc_table_oldest(&t), &c);
	assoc_table_remove(&t, &c);
	assert_ptr_equal(assoc_table_oldest(&t), &a);
	assoc_table_remove(&t, &a);
	assoc_table_remove(&t, &b);
	assoc_table_fini(&t);
}

static void test_expiry_by_kind(void **state)
{
	struct assoc_node a = {0}, dns = {0}, both = {0}, probe = {0};
	struct assoc_table t;

	(void)state;
	start(&t, 8);
	add(&t, &a, "192.0.2.1:1", ASSOC_ORDINARY, 100);
	add(&t, &dns, "192.0.2.1:2", ASSOC_DNS, 100);
	add(&t, &both, "192.0.2.1:3", ASSOC_DNS, 100);
	add(&t, &probe, "192.0.2.1:4", ASSOC_PROBE, 100);
	assoc_table_touch(&t, &both, ASSOC_ORDINARY, 100); /* the longer time counts, */
	assoc_table_touch(&t, &both, ASSOC_DNS, 100);      /* also afterwards */
	assert_null(assoc_table_expired(&t, 109.9));
	assert_ptr_equal(assoc_table_expired(&t, 110), &dns);
	assoc_table_remove(&t, &dns);
	assert_null(assoc_table_expired(&t, 114.9));
	assert_ptr_equal(assoc_table_expired(&t, 115), &probe);
	assoc_table_remove(&t, &probe);
	assoc_table_touch(&t, &both, ASSOC_ORDINARY, 200);
	assert_null(assoc_table_expired(&t, 399.9));
	assert_ptr_equal(assoc_table_expired(&t, 400), &a);
	assoc_table_remove(&t, &a);
	assert_null(assoc_table_expired(&t, 499.9));
	assert_ptr_equal(assoc_table_expired(&t, 500), &both);
	assoc_table_remove(&t, &both);
	assoc_table_fini(&t);
}

static void test_active(void **state)
{
	struct assoc_node v[4] = {0}, *n = NULL;
	struct assoc_table t;
	unsigned seen = 0;

	(void)state;
	start(&t, 8);
	assert_null(assoc_table_active(&t, NULL, 0));
	add(&t, &v[0], "192.0.2.1:1", ASSOC_ORDINARY, 1);
	add(&t, &v[1], "192.0.2.1:2", ASSOC_PROBE, 5);
	add(&t, &v[2], "192.0.2.1:3", ASSOC_ORDINARY, 6);
	add(&t, &v[3], "192.0.2.1:4", ASSOC_DNS, 2);
	while ((n = assoc_table_active(&t, n, 4)))
		seen |= 1u << (n - v);
	assert_int_equal(seen, 1u << 1 | 1u << 2);
	seen = 0;
	while ((n = assoc_table_active(&t, n, -1)))
		seen |= 1u << (n - v);
	assert_int_equal(seen, 15);
	for (int i = 0; i < 4; i++)
		assoc_table_remove(&t, &v[i]);
	assoc_table_fini(&t);
}

/* Random acts beside a plain array. */
static void test_many(void **state)
{
	struct assoc_node *v = calloc(MANY, sizeof(*v));
	bool *in = calloc(MANY, sizeof(*in));
	struct assoc_table t;
	uint32_t seed = 1;
	size_t count = 0;
	char text[32];

	(void)state;
	assert_non_null(v);
	assert_non_null(in);
	start(&t, MANY / 4); /* more than there are buckets for */
	for (int i = 0; i < MANY; i++) {
		snprintf(text, sizeof(text), "10.0.%d.%d:%d", i / 250, i % 250, 1024 + i % 7);
		v[i].key = key_of(text, 0, false);
	}
	for (int step = 0; step < 40000; step++) {
		unsigned i = (seed = seed * 1664525 + 1013904223) >> 8;
		i %= MANY;
		assert_ptr_equal(assoc_table_find(&t, &v[i].key), in[i] ? &v[i] : NULL);
		if (!in[i])
			assoc_table_add(&t, &v[i], ASSOC_ORDINARY, step);
		else if (seed & 1)
			assoc_table_touch(&t, &v[i], ASSOC_ORDINARY, step);
		else
			assoc_table_remove(&t, &v[i]);
		if (!in[i] || !(seed & 1)) {
			in[i] = !in[i];
			count += in[i] ? 1 : (size_t)-1;
		}
		assert_int_equal(t.n, count);
	}
	for (struct assoc_node *n; (n = assoc_table_oldest(&t));) {
		assert_true(in[n - v]);
		assoc_table_remove(&t, n);
		if (assoc_table_oldest(&t))
			assert_true(assoc_table_oldest(&t)->seen_s >= n->seen_s);
	}
	assert_int_equal(t.n, 0);
	assoc_table_fini(&t);
	free(v);
	free(in);
}

/* They are neither too old nor in the way, and are told from a device's with the same address. */
static void test_door(void **state)
{
	struct assoc_node captured = {0}, door = {0}, other = {0};
	struct assoc_key key = key_of("192.0.2.1:1", 0, false);
	struct assoc_table t;

	(void)state;
	start(&t, 3);
	t.idle_s[ASSOC_DOOR] = 1e9;
	door.key = other.key = key;
	door.key.door = 7;
	other.key.door = 8;
	assoc_table_add(&t, &door, ASSOC_DOOR, 1);
	assoc_table_add(&t, &other, ASSOC_DOOR, 1);
	assert_null(assoc_table_find(&t, &key));
	assert_ptr_equal(assoc_table_find(&t, &door.key), &door);
	assert_null(assoc_table_oldest(&t));
	assert_null(assoc_table_expired(&t, 1e10));
	add(&t, &captured, "192.0.2.1:1", ASSOC_ORDINARY, 2);
	assert_ptr_equal(assoc_table_find(&t, &key), &captured);
	assert_ptr_equal(assoc_table_oldest(&t), &captured);
	assoc_table_touch(&t, &door, ASSOC_DNS, 3); /* it stays one */
	assert_int_equal(door.kind, ASSOC_DOOR);
	assert_ptr_equal(assoc_table_active(&t, NULL, 2.5), &door);
	assoc_table_remove(&t, &captured);
	assert_null(assoc_table_oldest(&t));
	assoc_table_remove(&t, &door);
	assoc_table_remove(&t, &other);
	assoc_table_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_found_by_whole_key),
		cmocka_unit_test(test_oldest_first),
		cmocka_unit_test(test_expiry_by_kind),
		cmocka_unit_test(test_active),
		cmocka_unit_test(test_door),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
