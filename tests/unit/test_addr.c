/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <net/route.h>

#include "rig.h"

static bool in_netns;

static struct addr parsed(const char *text)
{
	struct addr a;

	if (!addr_parse(&a, text, 0) && !addr_parse_ip(&a, text))
		fail_msg("cannot parse %s", text);
	return a;
}

static void parse_good(void **state)
{
	static const struct {
		const char *text;
		int default_port;
		const char *shown;
	} rows[] = {
		{"1.2.3.4:80", -1, "1.2.3.4:80"},
		{"1.2.3.4", 1080, "1.2.3.4:1080"},
		{"[1.2.3.4]:5", -1, "1.2.3.4:5"},
		{"[::1]:65535", -1, "[::1]:65535"},
		{"[::1]", 1, "[::1]:1"},
		{"2001:db8::1", 443, "[2001:db8::1]:443"},
		{"::", 7, "[::]:7"},
		{"[::ffff:1.2.3.4]:80", -1, "1.2.3.4:80"},
		{"::ffff:102:304", 9, "1.2.3.4:9"},
		{"[fe80::1%lo]:80", -1, "[fe80::1%lo]:80"},
		{"1.2.3.4", 0, "1.2.3.4:0"},
	};
	char buf[ADDR_STRLEN];
	struct addr a;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_true(addr_parse(&a, rows[i].text, rows[i].default_port));
		assert_string_equal(addr_str(&a, buf, sizeof(buf)), rows[i].shown);
	}
}

static void parse_bad(void **state)
{
	static const char *const rows[] = {
		"",
		":80",
		"1.2.3:80",
		"1.2.3.4",
		"1.2.3.4:",
		"1.2.3.4:0",
		"1.2.3.4:65536",
		"1.2.3.4:8o",
		"1.2.3.4:+8",
		"1.2.3.4: 8",
		"1.2.3.4:000080",
		"1.2.3.4 :80",
		"[::1",
		"[::1]",
		"[::1]80",
		"[]:80",
		"::1",
		"[::1]:",
		"[::g]:1",
		"example.net:80",
		"[fe80::1%nowhere]:80",
		"[fe80::1%]:80",
		"1.2.3.4%lo:80",
		"0x7f.1:80",
		"127.1:80",
		"[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0001]:80",
	};
	struct addr a;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (addr_parse(&a, rows[i], -1))
			fail_msg("took \"%s\"", rows[i]);
	assert_false(addr_parse_ip(&a, "1.2.3.4:80"));
	assert_false(addr_parse_ip(&a, "[::1]"));
}

static void text_of_all(void **state)
{
	struct addr unset = {.len = 0}, a = parsed("[2001:db8::1]:80");
	char buf[ADDR_STRLEN], tiny[4];

	(void)state;
	assert_string_equal(addr_str(&unset, buf, sizeof(buf)), "-");
	assert_string_equal(addr_ip_str(&unset, buf, sizeof(buf)), "-");
	assert_string_equal(addr_ip_str(&a, buf, sizeof(buf)), "2001:db8::1");
	assert_true(strlen(addr_str(&a, tiny, sizeof(tiny))) < sizeof(tiny));
	/* the longest text there is fits ADDR_STRLEN */
	a = parsed("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
	assert_string_equal(addr_str(&a, buf, sizeof(buf)),
			    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
}

static void from_kernel(void **state)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
	struct sockaddr_storage other = {.ss_family = AF_UNIX};
	struct addr a, b;

	(void)state;
	inet_pton(AF_INET6, "::ffff:10.1.2.3", &in6.sin6_addr);
	assert_true(addr_from_sockaddr(&a, (struct sockaddr *)&in6, sizeof(in6)));
	b = parsed("10.1.2.3:80");
	assert_int_equal(addr_family(&a), AF_INET);
	assert_true(addr_equal(&a, &b));
	addr_map_v6(&b, &a);
	assert_int_equal(addr_family(&b), AF_INET6);
	assert_int_equal(b.len, sizeof(in6));
	assert_memory_equal(&b.u.in6.sin6_addr, &in6.sin6_addr, 16);
	assert_int_equal(addr_port(&b), 80);
	assert_false(addr_from_sockaddr(&a, (struct sockaddr *)&in6, sizeof(in6) - 1));
	assert_false(addr_from_sockaddr(&a, (struct sockaddr *)&other, sizeof(other)));
	assert_int_equal(addr_family(&a), AF_UNSPEC);
}

static void equality_and_hash(void **state)
{
	struct addr a = parsed("1.2.3.4:80"), b = parsed("1.2.3.4:81"), c = parsed("1.2.3.5:80");
	struct addr v6 = parsed("[fe80::1]:80"), scoped = parsed("[fe80::1%lo]:80");
	struct addr unset = {.len = 0};
	unsigned same = 0;

	(void)state;
	assert_true(addr_equal(&a, &a));
	assert_false(addr_equal(&a, &b));
	assert_true(addr_equal_ip(&a, &b));
	assert_false(addr_equal_ip(&a, &c));
	assert_false(addr_equal_ip(&a, &v6));
	assert_false(addr_equal_ip(&a, &unset));
	assert_false(addr_equal(&v6, &scoped));
	assert_true(addr_equal_ip(&v6, &scoped));
	assert_int_equal(addr_hash(&a, 7), addr_hash(&a, 7));
	assert_int_not_equal(addr_hash(&a, 7), addr_hash(&a, 8));
	/* 256 ports of one address into 256 buckets: about 37 % share a bucket by chance */
	for (uint16_t p = 0; p < 256; p++) {
		static bool used[256];
		addr_set_port(&a, (uint16_t)(1024 + p));
		bool *u = &used[addr_hash(&a, 99) & 255];
		same += *u;
		*u = true;
	}
	assert_true(same < 140);
}

/* Unset stays unset, and nothing is lost. */
static void packed(void **state)
{
	static const char *const text[] = {"192.0.2.1:80",          "0.0.0.0:1",
					   "255.255.255.255:65535", "[2001:db8::1]:443",
					   "[fe80::1%lo]:22",       "[::]:1"};
	uint8_t out[ADDR_PACKED_V6 + 1];
	struct addr a, b;

	(void)state;
	for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
		size_t n = strchr(text[i], '[') ? ADDR_PACKED_V6 : ADDR_PACKED_V4;

		assert_true(addr_parse(&a, text[i], -1));
		memset(out, 0xa5, sizeof(out));
		addr_pack(&a, out);
		assert_int_equal(out[n], 0xa5);
		memset(&b, 0xa5, sizeof(b));
		addr_unpack(&b, addr_family(&a), out);
		assert_true(addr_equal(&a, &b));
		assert_int_equal(a.len, b.len);
		assert_int_equal(addr_family(&a), addr_family(&b));
	}
	memset(out, 0, sizeof(out));
	addr_unpack(&b, AF_INET, out);
	assert_int_equal(b.len, 0);
	addr_unpack(&b, AF_INET6, out);
	assert_int_equal(b.len, 0);
}

static void classes(void **state)
{
	static const struct {
		const char *ip;
		enum addr_class class;
	} rows[] = {
		{"8.8.8.8", ADDR_PUBLIC},
		{"192.0.2.1", ADDR_PUBLIC},
		{"198.51.100.1", ADDR_PUBLIC},
		{"203.0.113.1", ADDR_PUBLIC},
		{"198.18.0.1", ADDR_PUBLIC},
		{"127.0.0.1", ADDR_LOOPBACK},
		{"127.255.255.255", ADDR_LOOPBACK},
		{"128.0.0.0", ADDR_PUBLIC},
		{"10.0.0.0", ADDR_PRIVATE},
		{"9.255.255.255", ADDR_PUBLIC},
		{"11.0.0.0", ADDR_PUBLIC},
		{"172.15.255.255", ADDR_PUBLIC},
		{"172.16.0.0", ADDR_PRIVATE},
		{"172.31.255.255", ADDR_PRIVATE},
		{"172.32.0.0", ADDR_PUBLIC},
		{"192.168.255.255", ADDR_PRIVATE},
		{"192.169.0.0", ADDR_PUBLIC},
		{"100.63.255.255", ADDR_PUBLIC},
		{"100.64.0.0", ADDR_PRIVATE},
		{"100.127.255.255", ADDR_PRIVATE},
		{"100.128.0.0", ADDR_PUBLIC},
		{"169.254.169.254", ADDR_LINK_LOCAL},
		{"224.0.0.1", ADDR_MULTICAST},
		{"239.255.255.255", ADDR_MULTICAST},
		{"255.255.255.255", ADDR_MULTICAST},
		{"255.255.255.254", ADDR_RESERVED},
		{"240.0.0.1", ADDR_RESERVED},
		{"192.0.0.8", ADDR_RESERVED},
		{"192.0.1.0", ADDR_PUBLIC},
		{"0.0.0.0", ADDR_UNSPECIFIED},
		{"0.1.2.3", ADDR_UNSPECIFIED},
		{"2606:4700::1", ADDR_PUBLIC},
		{"2001:db8::1", ADDR_PUBLIC},
		{"::", ADDR_UNSPECIFIED},
		{"::1", ADDR_LOOPBACK},
		{"::2", ADDR_RESERVED},
		{"::10.0.0.1", ADDR_RESERVED},
		{"fe80::1", ADDR_LINK_LOCAL},
		{"febf::1", ADDR_LINK_LOCAL},
		{"fec0::1", ADDR_PRIVATE},
		{"fc00::1", ADDR_PRIVATE},
		{"fdff::1", ADDR_PRIVATE},
		{"ff02::1", ADDR_MULTICAST},
		{"100::1", ADDR_RESERVED},
		{"100:0:0:1::1", ADDR_PUBLIC},
		/* forms that carry an IPv4 address */
		{"::ffff:127.0.0.1", ADDR_LOOPBACK},
		{"64:ff9b::10.0.0.1", ADDR_PRIVATE},
		{"64:ff9b::169.254.1.1", ADDR_LINK_LOCAL},
		{"64:ff9b::8.8.8.8", ADDR_PUBLIC},
		{"64:ff9b:1::8.8.8.8", ADDR_PRIVATE},
		{"2002:7f00:1::1", ADDR_LOOPBACK},
		{"2002:c0a8:101::1", ADDR_PRIVATE},
		{"2002:808:808::1", ADDR_PUBLIC},
	};
	struct addr a = {.len = 0};

	(void)state;
	assert_int_equal(addr_classify(&a), ADDR_UNSPECIFIED);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_true(addr_parse_ip(&a, rows[i].ip));
		if (addr_classify(&a) != rows[i].class)
			fail_msg("%s is %s", rows[i].ip, addr_class_str(addr_classify(&a)));
	}
	/* a mapped address that nobody has unmapped */
	a = parsed("127.0.0.1");
	addr_map_v6(&a, &a);
	assert_int_equal(addr_classify(&a), ADDR_LOOPBACK);
	for (int c = ADDR_PUBLIC; c <= ADDR_RESERVED; c++)
		assert_string_not_equal(addr_class_str((enum addr_class)c), "unknown");
}

static void prefixes(void **state)
{
	static const char *const bad[] = {
		"",   "10.0.0.0/33", "10.0.0.1/8",     "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8x",
		"/8", "::/129",      "2001:db8::1/32", "name/8",    "10.0.0.0/ 8", "1.2.3.4:80/8"};
	static const struct {
		const char *prefix, *ip;
		bool in;
	} rows[] = {
		{"10.0.0.0/8", "10.255.255.255", true},
		{"10.0.0.0/8", "11.0.0.0", false},
		{"192.0.2.128/25", "192.0.2.128", true},
		{"192.0.2.128/25", "192.0.2.127", false},
		{"1.2.3.4", "1.2.3.4", true},
		{"1.2.3.4", "1.2.3.5", false},
		{"0.0.0.0/0", "8.8.8.8", true},
		{"0.0.0.0/0", "::1", false},
		{"::/0", "8.8.8.8", false},
		{"::/0", "ff::", true},
		{"2001:db8::/33", "2001:db8:7fff::1", true},
		{"2001:db8::/33", "2001:db8:8000::1", false},
		{"::1", "::1", true},
	};
	struct prefix p;
	struct addr a;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (prefix_parse(&p, bad[i]))
			fail_msg("took \"%s\"", bad[i]);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_true(prefix_parse(&p, rows[i].prefix));
		assert_true(addr_parse_ip(&a, rows[i].ip));
		if (prefix_contains(&p, &a) != rows[i].in)
			fail_msg("%s, %s", rows[i].prefix, rows[i].ip);
	}
	a.len = 0;
	assert_false(prefix_contains(&p, &a));
}

/* A default route, so that foreign addresses are not merely unreachable. */
static void add_default_route(void)
{
	struct rtentry rt = {.rt_dev = (char *)"lo", .rt_flags = RTF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	((struct sockaddr_in *)(void *)&rt.rt_dst)->sin_family = AF_INET;
	((struct sockaddr_in *)(void *)&rt.rt_genmask)->sin_family = AF_INET;
	assert_int_equal(ioctl(fd, SIOCADDRT, &rt), 0);
	close(fd);
}

static void local_or_not(void **state)
{
	static const char *const foreign[] = {"192.0.2.1", "2001:db8::1", "0.0.0.0", "::"};
	struct addr a = {.len = 0};
	unsigned fds = rig_open_fds();

	(void)state;
	if (!in_netns)
		skip();
	add_default_route();
	for (int nonlocal_bind = 0; nonlocal_bind < 2; nonlocal_bind++) {
		const char *value = nonlocal_bind ? "1" : "0";
		assert_true(rig_sysctl("net/ipv4/ip_nonlocal_bind", value));
		if (rig_has_ipv6()) {
			assert_true(rig_sysctl("net/ipv6/ip_nonlocal_bind", value));
			a = parsed("[::1]:80");
			assert_true(addr_is_local(&a));
		}
		a = parsed("127.0.0.1:80");
		assert_true(addr_is_local(&a));
		a = parsed("127.8.8.8");
		assert_true(addr_is_local(&a));
		for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
			a = parsed(foreign[i]);
			assert_false(addr_is_local(&a));
		}
	}
	a.len = 0;
	assert_false(addr_is_local(&a));
	assert_int_equal(rig_open_fds(), fds);
}

static void of_sockets(void **state)
{
	struct addr a, b;
	int p[2], u[2];

	(void)state;
	assert_true(rig_pair(false, p));
	assert_int_equal(addr_of_socket(p[0], &a), 0);
	assert_int_equal(addr_of_peer(p[1], &b), 0);
	assert_true(addr_equal(&a, &b));
	close(p[0]);
	close(p[1]);
	assert_int_equal(addr_of_socket(p[0], &a), -EBADF);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, u), 0);
	assert_int_equal(addr_of_peer(u[0], &a), -EAFNOSUPPORT);
	close(u[0]);
	close(u[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse_good),        cmocka_unit_test(parse_bad),
		cmocka_unit_test(text_of_all),       cmocka_unit_test(from_kernel),
		cmocka_unit_test(equality_and_hash), cmocka_unit_test(packed),
		cmocka_unit_test(classes),           cmocka_unit_test(prefixes),
		cmocka_unit_test(local_or_not),      cmocka_unit_test(of_sockets),
	};

	in_netns = rig_netns(); /* without one, what needs it is skipped */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
