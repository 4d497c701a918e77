/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ICMP errors, octet by octet; the sums are checked by the rule that all of it adds up to ffff. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redir/icmp_build.h"

static struct addr at(const char *text)
{
	struct addr a;

	assert_true(addr_parse(&a, text, -1));
	return a;
}

static struct icmp_wishes wishes(enum icmp_error error, bool v6)
{
	return (struct icmp_wishes){
		.error = error,
		.reporter = at(v6 ? "[2001:db8::ff]:9" : "198.51.100.1:9"),
		.src = at(v6 ? "[fd77::2]:4660" : "10.77.0.2:4660"),
		.dst = at(v6 ? "[2001:db8:30::2]:33434" : "203.0.113.2:33434"),
		.len = 32,
		.mtu = 1400,
	};
}

static uint16_t whole(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static void check_sum6(const uint8_t *p, size_t len)
{
	uint32_t sum = icmp_sum(0, p + 8, 32); /* both addresses */

	assert_int_equal(whole(icmp_sum(sum + (uint32_t)(len - 40) + 58, p + 40, len - 40)),
			 0xffff);
}

static void test_ipv4(void **state)
{
	static const uint8_t quoted[] = {/* IP: 20 + 8 + 32 octets, UDP, hop limit 1 */
					 0x45, 0, 0, 60, 0, 0, 0, 0, 1, 17, 0, 0, 10, 77, 0, 2, 203,
					 0, 113, 2,
					 /* UDP */
					 0x12, 0x34, 0x82, 0x9a, 0, 40, 0, 0};
	struct icmp_wishes w = wishes(ICMP_TTL_EXPIRED, false);
	uint8_t p[ICMP_PACKET_MAX], q[28];

	(void)state;
	assert_int_equal(icmp_build(&w, p, sizeof(p)), 56);
	assert_int_equal(p[0], 0x45);
	assert_int_equal(p[2] << 8 | p[3], 56);
	assert_int_equal(p[9], 1);
	assert_memory_equal(p + 12, "\xc6\x33\x64\x01\x0a\x4d\x00\x02", 8);
	assert_int_equal(whole(icmp_sum(0, p, 20)), 0xffff);
	assert_int_equal(p[20], 11);
	assert_int_equal(p[21], 0);
	assert_int_equal(whole(icmp_sum(0, p + 20, 36)), 0xffff);
	assert_int_equal(whole(icmp_sum(0, p + 28, 20)), 0xffff);
	memcpy(q, p + 28, 28);
	q[10] = q[11] = 0; /* its sum: above */
	assert_memory_equal(q, quoted, sizeof(quoted));
}

static void test_ipv6(void **state)
{
	struct icmp_wishes w = wishes(ICMP_TOO_BIG, true);
	uint8_t p[ICMP_PACKET_MAX];
	size_t len = icmp_build(&w, p, sizeof(p));

	(void)state;
	assert_int_equal(len, 96);
	assert_int_equal(p[0] >> 4, 6);
	assert_int_equal(p[4] << 8 | p[5], 56);
	assert_int_equal(p[6], 58);
	assert_memory_equal(p + 8, &w.reporter.u.in6.sin6_addr, 16);
	assert_memory_equal(p + 24, &w.src.u.in6.sin6_addr, 16);
	assert_int_equal(p[40], 2);
	assert_int_equal(p[41], 0);
	assert_memory_equal(p + 44, "\x00\x00\x05\x78", 4); /* 1400 */
	assert_int_equal(p[48] >> 4, 6);
	assert_int_equal(p[52] << 8 | p[53], 40);
	assert_int_equal(p[54], 17);
	assert_memory_equal(p + 56, &w.src.u.in6.sin6_addr, 16);
	assert_memory_equal(p + 72, &w.dst.u.in6.sin6_addr, 16);
	assert_memory_equal(p + 88, "\x12\x34\x82\x9a\x00\x28\x00\x00", 8);
	check_sum6(p, len);
}

static void test_kinds(void **state)
{
	static const uint8_t want[][4] = {
		[ICMP_NET_UNREACHABLE] = {3, 0, 1, 0},     [ICMP_HOST_UNREACHABLE] = {3, 1, 1, 3},
		[ICMP_PORT_IS_UNREACHABLE] = {3, 3, 1, 4}, [ICMP_PROHIBITED] = {3, 13, 1, 1},
		[ICMP_TTL_EXPIRED] = {11, 0, 3, 0},        [ICMP_TOO_BIG] = {3, 4, 2, 0}};
	uint8_t p[ICMP_PACKET_MAX];

	(void)state;
	for (int i = ICMP_NET_UNREACHABLE; i <= ICMP_TOO_BIG; i++) {
		struct icmp_wishes w4 = wishes((enum icmp_error)i, false);
		struct icmp_wishes w6 = wishes((enum icmp_error)i, true);
		bool big = i == ICMP_TOO_BIG;

		assert_int_equal(icmp_build(&w4, p, sizeof(p)), 56);
		assert_memory_equal(p + 20, want[i], 2);
		assert_int_equal(p[26] << 8 | p[27], big ? 1400 : 0);
		assert_int_equal(whole(icmp_sum(0, p + 20, 36)), 0xffff);
		assert_int_equal(icmp_build(&w6, p, sizeof(p)), 96);
		assert_memory_equal(p + 40, want[i] + 2, 2);
		check_sum6(p, 96);
	}
}

static void test_odd_ones(void **state)
{
	struct icmp_wishes w = wishes(ICMP_HOST_UNREACHABLE, false);
	uint8_t p[ICMP_PACKET_MAX];

	(void)state;
	w.reporter = at("[2001:db8::ff]:9"); /* cannot say it to an IPv4 host */
	assert_int_equal(icmp_build(&w, p, sizeof(p)), 56);
	assert_memory_equal(p + 12, &w.dst.u.in.sin_addr, 4);
	w.dst = at("[2001:db8::1]:5");
	assert_int_equal(icmp_build(&w, p, sizeof(p)), 0);
	w = wishes(ICMP_HOST_UNREACHABLE, true);
	assert_int_equal(icmp_build(&w, p, 95), 0);
	w.len = 65507; /* what is quoted may be longer than the quotation */
	assert_int_equal(icmp_build(&w, p, sizeof(p)), 96);
}

static void test_plateaus(void **state)
{
	(void)state;
	assert_int_equal(icmp_plateau(1500, AF_INET6), 1492);
	assert_int_equal(icmp_plateau(1501, AF_INET6), 1500);
	assert_int_equal(icmp_plateau(1281, AF_INET6), 1280);
	assert_int_equal(icmp_plateau(1280, AF_INET6), 1280);
	assert_int_equal(icmp_plateau(100, AF_INET6), 1280);
	assert_int_equal(icmp_plateau(1280, AF_INET), 1006);
	assert_int_equal(icmp_plateau(68, AF_INET), 68);
	assert_int_equal(icmp_plateau(70000, AF_INET), 65535);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ipv4),     cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_kinds),    cmocka_unit_test(test_odd_ones),
		cmocka_unit_test(test_plateaus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
