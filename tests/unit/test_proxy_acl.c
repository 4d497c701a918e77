/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may reach what, in which order addresses are raced, and how clients are counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/perclient.h"
#include "proxy/acl.h"
#include "proxy/happy.h"

static struct addr ip(const char *text)
{
	struct addr a;

	assert_true(addr_parse_ip(&a, text));
	return a;
}

static bool allows(const struct acl *acl, const char *text)
{
	struct addr a = ip(text);

	return acl_allows(acl, &a);
}

static void test_default(void **state)
{
	static const char *const refused[] = {
		"127.0.0.1",  "10.1.2.3",        "172.16.0.1",     "192.168.0.1",
		"100.64.0.1", "169.254.1.1",     "224.0.0.1",      "0.0.0.0",
		"0.1.2.3",    "255.255.255.255", "240.0.0.1",      "::",
		"::1",        "fe80::1",         "fc00::1",        "fd12::1",
		"ff02::1",    "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::1",
	};
	const struct acl none = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (allows(&none, refused[i]))
			fail_msg("%s is allowed", refused[i]);
	assert_true(allows(&none, "8.8.8.8"));
	assert_true(allows(&none, "2a00::1"));
	assert_true(allows(&none, "64:ff9b::808:808"));
}

static void test_lists(void **state)
{
	struct prefix allow[2], deny[2];
	struct acl acl = {.allow = {allow, 2}, .deny = {deny, 2}};

	(void)state;
	assert_true(prefix_parse(&allow[0], "10.0.0.0/8") && prefix_parse(&allow[1], "fd00::/8"));
	assert_true(prefix_parse(&deny[0], "10.9.0.0/16") && prefix_parse(&deny[1], "8.8.0.0/16"));
	assert_true(allows(&acl, "10.1.2.3"));
	assert_true(allows(&acl, "fd00::1"));
	assert_false(allows(&acl, "fc00::1"));
	assert_false(allows(&acl, "192.168.1.1"));
	assert_false(allows(&acl, "10.9.1.1")); /* deny wins */
	assert_false(allows(&acl, "8.8.8.8"));
	assert_true(allows(&acl, "9.9.9.9")); /* an allow list does not shut out the rest */
	assert_false(allows(&acl, "::ffff:8.8.8.8"));
}

/* ---- ports ---- */

static void test_bind_ports(void **state)
{
	struct port_range all[] = {{8443, 8443}}, own[] = {{20000, 20002}, {443, 443}};
	struct acl_user home = {.name = (char[]){"home"}, .bind = {own, 2}};
	struct acl acl = {.bind = {all, 1}}, none = {0};

	(void)state;
	list_init(&acl.users);
	list_push(&acl.users, &home.node);
	assert_false(acl_may_bind(&none, "home", 8443));
	assert_int_equal(acl_bind_count(&none, "home"), 0);
	assert_true(acl_may_bind(&acl, "home", 8443));
	assert_true(acl_may_bind(&acl, "", 8443));
	assert_true(acl_may_bind(&acl, "home", 20000) && acl_may_bind(&acl, "home", 20002));
	assert_false(acl_may_bind(&acl, "home", 19999) || acl_may_bind(&acl, "home", 20003));
	assert_false(acl_may_bind(&acl, "guest", 20001) || acl_may_bind(&acl, "Home", 20001));
	assert_false(acl_may_bind(&acl, "home", 0));
	assert_int_equal(acl_bind_count(&acl, "guest"), 1);
	assert_int_equal(acl_bind_count(&acl, "home"), 5);
	for (unsigned i = 0; i < 5; i++)
		assert_true(acl_may_bind(&acl, "home", acl_bind_nth(&acl, "home", i)));
	assert_int_equal(acl_bind_nth(&acl, "home", 0), 8443);
	assert_int_equal(acl_bind_nth(&acl, "home", 3), 20002);
	assert_int_equal(acl_bind_nth(&acl, "home", 4), 443);
	assert_int_equal(acl_bind_nth(&acl, "home", 5), 0);
	assert_true(acl_binds_low(&acl));
	own[1].first = own[1].last = 1024;
	assert_false(acl_binds_low(&acl));
}

/* ---- Happy Eyeballs ---- */

static void check_order(const char *const *in, const char *const *out)
{
	struct addr a[8];
	char text[ADDR_STRLEN];
	unsigned n = 0;

	for (; in[n]; n++)
		a[n] = ip(in[n]);
	happy_order(a, n);
	for (unsigned i = 0; i < n; i++)
		assert_string_equal(addr_ip_str(&a[i], text, sizeof(text)), out[i]);
}

#define ORDER(in, out) check_order((const char *const[])in, (const char *const[])out)
#define LIST(...)                                                                                  \
	{                                                                                          \
		__VA_ARGS__, NULL                                                                  \
	}

static void test_happy_order(void **state)
{
	(void)state;
	ORDER(LIST("::1", "::2", "::3", "1.1.1.1", "2.2.2.2"),
	      LIST("::1", "1.1.1.1", "::2", "2.2.2.2", "::3"));
	ORDER(LIST("1.1.1.1", "2.2.2.2", "::1"), LIST("1.1.1.1", "::1", "2.2.2.2"));
	ORDER(LIST("1.1.1.1", "::1", "::2", "::3"), LIST("1.1.1.1", "::1", "::2", "::3"));
	ORDER(LIST("1.1.1.1", "2.2.2.2"), LIST("1.1.1.1", "2.2.2.2"));
	ORDER(LIST("::1"), LIST("::1"));
	happy_order(NULL, 0);
}

/* ---- connections for each client ---- */

static bool take(struct perclient *p, const char *text)
{
	struct addr a = ip(text);

	return perclient_take(p, &a, 3, 7);
}

static void give(struct perclient *p, const char *text)
{
	struct addr a = ip(text);

	perclient_give(p, &a);
}

static void test_perclient(void **state)
{
	struct perclient *p = perclient_new();
	struct addr a;

	(void)state;
	assert_non_null(p);
	assert_true(addr_parse(&a, "1.2.3.4:1", -1));
	assert_true(perclient_take(p, &a, 3, 7));
	assert_true(take(p, "1.2.3.4") && take(p, "1.2.3.4")); /* whatever the port */
	assert_false(take(p, "1.2.3.4"));
	assert_true(take(p, "1.2.3.5"));
	assert_true(take(p, "2a00::1") && take(p, "2a00::2") && take(p, "2a00::ffff:0:0:1"));
	assert_false(take(p, "2a00::3"));
	assert_false(take(p, "2a00:0:0:1::1")); /* another /64, but that would be the eighth */
	give(p, "1.2.3.4");
	assert_true(take(p, "2a00:0:0:1::1"));
	assert_int_equal(perclient_total(p), 7);
	give(p, "9.9.9.9"); /* has none: no harm */
	assert_int_equal(perclient_total(p), 7);
	perclient_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default),    cmocka_unit_test(test_lists),
		cmocka_unit_test(test_bind_ports), cmocka_unit_test(test_happy_order),
		cmocka_unit_test(test_perclient),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
