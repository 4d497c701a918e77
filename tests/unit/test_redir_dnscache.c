/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cache of answers: times to live, bounds, who gives way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redir/dnscache.h"

/* A good answer for x<n>.: one address for 100 s. */
static size_t build(unsigned n, struct dns_key *key, uint8_t *msg)
{
	static const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 100, 0, 4, 1, 2, 3, 4};
	const uint8_t head[DNS_HEADER] = {0, 1, 0x81, 0x80, 0, 1, 0, 1};
	char name[16];
	size_t len = (size_t)snprintf(name, sizeof(name), "x%u", n);

	memcpy(msg, head, sizeof(head));
	key->octets[0] = (uint8_t)len;
	memcpy(key->octets + 1, name, len);
	memcpy(key->octets + 1 + len, "\0\0\1\0\1", 5);
	key->len = len + 6;
	memcpy(msg + DNS_HEADER, key->octets, key->len);
	memcpy(msg + DNS_HEADER + key->len, record, sizeof(record));
	return DNS_HEADER + key->len + sizeof(record);
}

static void put(struct dnscache *c, unsigned n, double now_s, double ttl_s, unsigned most)
{
	struct dns_key key;
	uint8_t msg[128];
	size_t len = build(n, &key, msg);

	dnscache_put(c, &key, msg, len, now_s, ttl_s, most);
}

/* The time to live that is left, or -1. */
static int get(struct dnscache *c, unsigned n, double now_s)
{
	struct dns_key key;
	uint8_t msg[128], out[DNSCACHE_ANSWER_MAX];
	size_t len = build(n, &key, msg), got = dnscache_get(c, &key, now_s, out);

	if (got == 0)
		return -1;
	assert_int_equal(got, len);
	return out[len - 7];
}

static void test_ttl(void **state)
{
	struct dnscache *c = dnscache_new();

	(void)state;
	assert_non_null(c);
	assert_int_equal(get(c, 1, 1000), -1);
	put(c, 1, 1000, 100, 10);
	assert_int_equal(get(c, 1, 1000), 100);
	assert_int_equal(get(c, 1, 1000.5), 99);
	assert_int_equal(get(c, 1, 1030), 70);
	assert_int_equal(get(c, 1, 1099.9), 0);
	assert_int_equal(get(c, 1, 1100), -1);
	assert_int_equal(dnscache_count(c), 0);
	put(c, 1, 1000, 20, 10); /* kept no longer than we want to */
	assert_int_equal(get(c, 1, 1019), 81);
	assert_int_equal(get(c, 1, 1020), -1);
	put(c, 1, 1000, 100, 10);
	put(c, 1, 1050, 100, 10); /* anew */
	assert_int_equal(get(c, 1, 1140), 10);
	assert_int_equal(dnscache_count(c), 1);
	dnscache_free(c);
}

static void test_bounds(void **state)
{
	struct dnscache *c = dnscache_new();
	struct dns_key key;
	uint8_t big[DNSCACHE_ANSWER_MAX + 1] = {0};

	(void)state;
	for (unsigned n = 0; n < 100; n++)
		put(c, n, 1, 100, 50);
	assert_int_equal(dnscache_count(c), 50);
	assert_int_equal(get(c, 49, 2), -1);
	assert_int_equal(get(c, 50, 2), 99);
	put(c, 100, 2, 100, 50); /* 50 was used last, so 51 gives way */
	assert_int_equal(get(c, 50, 2), 99);
	assert_int_equal(get(c, 51, 2), -1);
	/* Smaller after a reload, and off. */
	put(c, 101, 2, 100, 10);
	assert_int_equal(dnscache_count(c), 10);
	put(c, 102, 2, 100, 0);
	assert_int_equal(dnscache_count(c), 0);
	/* Too long; and many long ones. */
	build(1, &key, big);
	dnscache_put(c, &key, big, sizeof(big), 1, 100, 10);
	assert_int_equal(dnscache_count(c), 0);
	for (unsigned n = 0; n < 64; n++) {
		build(n, &key, big);
		dnscache_put(c, &key, big, DNSCACHE_ANSWER_MAX, 1, 100, 64);
	}
	assert_true(dnscache_count(c) <= 64 * DNSCACHE_EACH / DNSCACHE_ANSWER_MAX + 1);
	assert_true(dnscache_count(c) >= 10);
	dnscache_clear(c);
	assert_int_equal(dnscache_count(c), 0);
	dnscache_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ttl),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
