/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is decided from links, addresses, routes and configuration; no kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "redir/wan.h"

#define MARK 0x5061u

static struct wan_seen seen;
static struct wan_plan plan;
static struct wan_memory mem[WAN_PATHS_MAX];
static struct wan_action acts[WAN_ACTIONS_MAX];
static const uint32_t tables[WAN_PATHS_MAX] = {10670, 10671, 10672, 10673,
					       10674, 10675, 10676, 10677};

static struct wan_conf confs[WAN_PATHS_MAX + 1];
static size_t n_confs;

static struct wan_ip ip(const char *text)
{
	struct wan_ip out;

	memset(&out, 0, sizeof(out));
	out.family = strchr(text, ':') ? WAN_V6 : WAN_V4;
	assert_int_equal(inet_pton(out.family == WAN_V4 ? AF_INET : AF_INET6, text, out.b), 1);
	return out;
}

static int reset(void **state)
{
	(void)state;
	memset(&seen, 0, sizeof(seen));
	memset(mem, 0, sizeof(mem));
	n_confs = 0;
	return 0;
}

static void path(const char *name, const char *device, enum wan_role role)
{
	confs[n_confs++] = (struct wan_conf){name, device, role};
}

static struct wan_link *link_add(unsigned index, const char *name)
{
	struct wan_link *l = &seen.links[seen.n_links++];

	*l = (struct wan_link){.index = index, .up = true, .carrier = true};
	snprintf(l->name, sizeof(l->name), "%s", name);
	return l;
}

static struct wan_addr *addr_add(unsigned link, const char *text, uint8_t len)
{
	struct wan_addr *a = &seen.addrs[seen.n_addrs++];

	*a = (struct wan_addr){
		.link = link, .ip = ip(text), .len = len, .global = true, .usable = true};
	return a;
}

static struct wan_default *default_add(unsigned link, const char *via, uint32_t metric)
{
	struct wan_default *d = &seen.defaults[seen.n_defaults++];

	*d = (struct wan_default){.link = link,
				  .family = ip(via).family,
				  .table = WAN_TABLE_MAIN,
				  .metric = metric,
				  .gateway = true,
				  .via = ip(via)};
	return d;
}

/* Two links as DHCP leaves them; the first is the better one. */
static void two_links(void)
{
	link_add(1, "lo");
	link_add(2, "wan1");
	link_add(3, "wan2");
	addr_add(2, "198.18.1.2", 24);
	addr_add(3, "198.18.2.2", 24);
	default_add(2, "198.18.1.1", 10);
	default_add(3, "198.18.2.1", 20);
	seen.way[WAN_V4] = 2;
	path("one", "wan1", WAN_PRIMARY);
	path("two", "wan2", WAN_PRIMARY);
}

static size_t decide(void)
{
	wan_plan(&plan, confs, n_confs, tables, MARK, &seen, mem);
	return wan_diff(&plan, &seen, acts, WAN_ACTIONS_MAX);
}

/* What the kernel would have after the steps. */
static void carry_out(size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct wan_endpoint *e = acts[i].what;
		uint8_t id = (uint8_t)(seen.n_endpoints + 1);

		if (acts[i].verb == WAN_ADD_ENDPOINT) {
			seen.endpoints[seen.n_endpoints] = *e;
			seen.endpoints[seen.n_endpoints++].id = id;
		}
	}
	memcpy(seen.routes, plan.routes, sizeof(plan.routes));
	memcpy(seen.rules, plan.rules, sizeof(plan.rules));
	seen.n_routes = plan.n_routes;
	seen.n_rules = plan.n_rules;
}

static size_t count(size_t n, enum wan_verb verb)
{
	size_t found = 0;

	for (size_t i = 0; i < n; i++)
		found += acts[i].verb == verb;
	return found;
}

/* The step for this address, or -1. */
static int endpoint_step(size_t n, enum wan_verb verb, const char *text)
{
	struct wan_ip want = ip(text);

	for (size_t i = 0; i < n; i++) {
		const struct wan_endpoint *e = acts[i].what;
		if (acts[i].verb == verb && wan_ip_equal(&e->ip, &want))
			return (int)i;
	}
	return -1;
}

static void two_links_come_up(void **state)
{
	size_t n;
	int at;

	(void)state;
	two_links();
	n = decide();
	assert_int_equal(plan.leg[0][WAN_V4].state, WAN_UP);
	assert_int_equal(plan.leg[0][WAN_V6].state, WAN_NO_ADDRESS);
	assert_int_equal(count(n, WAN_ADD_ENDPOINT), 2);
	assert_int_equal(count(n, WAN_ADD_RULE), 6);
	assert_int_equal(count(n, WAN_ADD_ROUTE), 8);
	assert_int_equal(n, 16);
	/* the marker is there before the endpoint */
	at = endpoint_step(n, WAN_ADD_ENDPOINT, "198.18.1.2");
	for (size_t i = (size_t)at; i < n; i++)
		assert_int_equal(acts[i].verb, WAN_ADD_ENDPOINT);
	assert_int_equal(plan.steer[WAN_V4], -1);
	assert_false(plan.only_metered);
	carry_out(n);
	assert_int_equal(decide(), 0); /* and then all is as it should be */
}

static void what_goes_goes_first(void **state)
{
	size_t n;

	(void)state;
	for (int how = 0; how < 4; how++) {
		reset(NULL);
		two_links();
		carry_out(decide());
		switch (how) {
		case 0:
			seen.links[2].carrier = false;
			break;
		case 1:
			seen.links[2].up = false;
			break;
		case 2:
			seen.n_links = 2;
			seen.n_addrs = seen.n_defaults = 1;
			break;
		default:
			seen.n_addrs = 1;
		}
		n = decide();
		assert_int_equal(acts[0].verb, WAN_DEL_ENDPOINT);
		assert_int_equal(endpoint_step(n, WAN_DEL_ENDPOINT, "198.18.2.2"), 0);
		assert_int_equal(count(n, WAN_DEL_ENDPOINT), 1);
		assert_int_equal(count(n, WAN_DEL_RULE), 3);
		assert_int_equal(count(n, WAN_DEL_ROUTE), 4);
		assert_int_equal(n, 8); /* nothing of the other path */
	}
}

static void another_address(void **state)
{
	size_t n;

	(void)state;
	two_links();
	carry_out(decide());
	seen.addrs[1].ip = ip("198.18.2.77");
	n = decide();
	assert_int_equal(endpoint_step(n, WAN_DEL_ENDPOINT, "198.18.2.2"), 0);
	assert_true(endpoint_step(n, WAN_ADD_ENDPOINT, "198.18.2.77") > 0);
	carry_out(n);
	/* another gateway only: no endpoint is touched */
	seen.n_endpoints = 0;
	reset(NULL);
	two_links();
	carry_out(decide());
	seen.defaults[1].via = ip("198.18.2.99");
	n = decide();
	assert_int_equal(count(n, WAN_ADD_ROUTE), 1);
	assert_int_equal(count(n, WAN_DEL_ROUTE), 1);
	assert_int_equal(n, 2);
}

/* One that comes later does not push out the one in use. */
static void which_address(void **state)
{
	struct wan_addr *a;

	(void)state;
	link_add(2, "wan1");
	path("one", "wan1", WAN_PRIMARY);
	a = addr_add(2, "2001:db8::7", 64);
	a->temporary = true;
	addr_add(2, "fd00::1", 64);
	addr_add(2, "2001:db8::1", 64);
	a = addr_add(2, "2001:db8::9", 64);
	a->usable = false;
	a = addr_add(2, "fe80::1", 64);
	a->global = false;
	addr_add(2, "169.254.1.1", 16);
	decide();
	assert_int_equal(plan.n_endpoints, 1);
	assert_memory_equal(plan.endpoints[0].ip.b, ip("2001:db8::1").b, 16);
	seen.n_addrs = 0;
	addr_add(2, "2001:db8::5", 64);
	addr_add(2, "2001:db8::1", 64);
	decide();
	assert_memory_equal(plan.endpoints[0].ip.b, ip("2001:db8::1").b, 16);
	/* unless new connections leave from the other */
	default_add(2, "fe80::99", 1)->has_src = true;
	seen.defaults[0].src = ip("2001:db8::5");
	decide();
	assert_memory_equal(plan.endpoints[0].ip.b, ip("2001:db8::5").b, 16);
}

static void which_device(void **state)
{
	(void)state;
	link_add(2, "usb0")->carrier = false;
	link_add(3, "usb1");
	link_add(4, "usb2");
	addr_add(3, "192.168.42.5", 24);
	addr_add(4, "192.168.43.5", 24);
	path("phone", "usb*", WAN_PRIMARY);
	decide();
	assert_int_equal(plan.link[0], 3);
	/* it stays with it when a better name comes */
	seen.links[0].carrier = true;
	addr_add(2, "192.168.41.5", 24);
	decide();
	assert_int_equal(plan.link[0], 3);
	/* one device serves one path */
	path("other", "usb1", WAN_PRIMARY);
	path("third", "usb*", WAN_PRIMARY);
	decide();
	assert_int_equal(plan.link[0], 3);
	assert_int_equal(plan.link[1], 0);
	assert_int_equal(plan.link[2], 2);
	assert_int_equal(plan.leg[1][WAN_V4].state, WAN_NO_DEVICE);
}

static void same_address(void **state)
{
	(void)state;
	two_links();
	seen.addrs[0].ip = seen.addrs[1].ip = ip("192.168.8.100");
	decide();
	assert_int_equal(plan.leg[0][WAN_V4].state, WAN_UP);
	assert_int_equal(plan.leg[1][WAN_V4].state, WAN_SAME_ADDRESS);
	assert_int_equal(plan.leg[1][WAN_V4].same_as, 0);
	assert_int_equal(plan.n_endpoints, 1);
	/* the same subnet and gateway are no trouble */
	seen.addrs[1].ip = ip("192.168.8.101");
	seen.defaults[0].via = seen.defaults[1].via = ip("192.168.8.1");
	decide();
	assert_int_equal(plan.n_endpoints, 2);
	for (size_t i = 0; i < plan.n_routes; i++)
		if (plan.routes[i].kind == WAN_ROUTE_UNICAST)
			assert_int_equal(plan.routes[i].link,
					 plan.routes[i].table == tables[0] ? 2 : 3);
}

static bool backup_of(size_t i)
{
	return plan.leg[i][WAN_V4].backup;
}

static void roles(void **state)
{
	size_t n;

	(void)state;
	two_links();
	link_add(4, "wwan0");
	addr_add(4, "10.9.8.7", 30);
	default_add(4, "10.9.8.8", 30);
	confs[1].role = WAN_BACKUP;
	path("phone", "wwan0", WAN_METERED);
	n = decide();
	assert_false(backup_of(0));
	assert_true(backup_of(1) && backup_of(2));
	carry_out(n);
	seen.links[1].carrier =
		false; /* the primary goes: the backup is used, not the metered one */
	n = decide();
	assert_false(backup_of(1));
	assert_true(backup_of(2));
	assert_true(endpoint_step(n, WAN_SET_BACKUP, "198.18.2.2") >= 0);
	assert_int_equal(count(n, WAN_SET_BACKUP), 1);
	assert_int_equal(plan.steer[WAN_V4], 1); /* the kernel would take the dead one */
	seen.links[2].carrier = false;
	decide();
	assert_int_equal(plan.steer[WAN_V4], 2);
	assert_true(plan.only_metered);
}

static void steering(void **state)
{
	size_t n, marked = 0;

	(void)state;
	two_links();
	confs[0].role = WAN_METERED;
	n = decide();
	assert_int_equal(plan.steer[WAN_V4], 1);
	for (size_t i = 0; i < plan.n_rules; i++)
		marked += plan.rules[i].mark == MARK;
	assert_int_equal(marked, 2);
	carry_out(n);
	assert_int_equal(decide(), 0);
	/* a default route that is not one of ours to look after is the administrator's wish */
	link_add(5, "vpn");
	seen.way[WAN_V4] = 5;
	n = decide();
	assert_int_equal(plan.steer[WAN_V4], -1);
	assert_int_equal(count(n, WAN_DEL_RULE), 2);
	/* without a mark there is nothing to tell our packets by */
	seen.way[WAN_V4] = 2;
	wan_plan(&plan, confs, n_confs, tables, 0, &seen, mem);
	for (size_t i = 0; i < plan.n_rules; i++)
		assert_int_equal(plan.rules[i].pref < WAN_PREF_STEER_MAIN, true);
}

static void the_only_link_is_held(void **state)
{
	size_t n;

	(void)state;
	two_links();
	n_confs = 1;
	seen.n_links = 2;
	seen.n_addrs = seen.n_defaults = 1;
	carry_out(decide());
	seen.links[1].carrier = false;
	n = decide();
	assert_int_equal(n, 0);
	assert_int_equal(plan.leg[0][WAN_V4].state, WAN_HELD);
	assert_int_equal(decide(), 0); /* for as long as it takes */
	/* another way out, though not one of ours */
	link_add(9, "vpn");
	seen.way[WAN_V4] = 9;
	n = decide();
	assert_int_equal(endpoint_step(n, WAN_DEL_ENDPOINT, "198.18.1.2"), 0);
	/* an administrator's endpoint is one as well */
	seen.way[WAN_V4] = 2;
	assert_int_equal(decide(), 0);
	addr_add(9, "10.0.0.1", 24);
	seen.endpoints[seen.n_endpoints++] =
		(struct wan_endpoint){.ip = ip("10.0.0.1"), .id = 9, .subflow = true};
	n = decide();
	assert_int_equal(endpoint_step(n, WAN_DEL_ENDPOINT, "198.18.1.2"), 0);
	/* and a path that is no longer wanted is not held */
	seen.n_endpoints--;
	n_confs = 0;
	n = decide();
	assert_int_equal(endpoint_step(n, WAN_DEL_ENDPOINT, "198.18.1.2"), 0);
}

static void others_work_is_left(void **state)
{
	size_t n;

	(void)state;
	two_links();
	seen.endpoints[seen.n_endpoints++] = (struct wan_endpoint){
		.ip = ip("198.18.2.2"), .id = 4, .subflow = true, .backup = true, .other = true};
	seen.rules[seen.n_rules++] = (struct wan_rule){
		.family = WAN_V4, .pref = 900, .table = 102, .len = 32, .src = ip("198.18.2.2")};
	n = decide();
	assert_true(plan.leg[1][WAN_V4].foreign_endpoint);
	assert_false(plan.leg[1][WAN_V4].foreign_rule); /* its table leads nowhere */
	assert_int_equal(count(n, WAN_ADD_ENDPOINT), 1);
	default_add(3, "198.18.2.1", 0)->table = 102;
	n = decide();
	assert_true(plan.leg[1][WAN_V4].foreign_rule);
	assert_int_equal(count(n, WAN_ADD_RULE), 3);
	carry_out(n);
	n_confs = 0;
	n = decide();
	assert_int_equal(count(n, WAN_DEL_ENDPOINT), 1);
	assert_int_equal(endpoint_step(n, WAN_DEL_ENDPOINT, "198.18.2.2"), -1);
}

/* What a killed daemon has left is known by its marks, whatever is configured now. */
static void leftovers(void **state)
{
	size_t n;

	(void)state;
	two_links();
	carry_out(decide());
	memset(mem, 0, sizeof(mem));
	assert_int_equal(decide(), 0);
	n_confs = 0;
	n = decide();
	assert_int_equal(count(n, WAN_DEL_ENDPOINT), 2);
	assert_int_equal(count(n, WAN_DEL_RULE), 6);
	assert_int_equal(count(n, WAN_DEL_ROUTE), 8);
}

static void bound_to_another_device(void **state)
{
	size_t n;

	(void)state;
	two_links();
	carry_out(decide());
	seen.links[2].index = 33; /* deleted and made again within one look */
	seen.addrs[1].link = seen.defaults[1].link = 33;
	n = decide();
	assert_int_equal(endpoint_step(n, WAN_DEL_ENDPOINT, "198.18.2.2"), 0);
	assert_true(endpoint_step(n, WAN_ADD_ENDPOINT, "198.18.2.2") > 0);
}

static void as_many_as_there_may_be(void **state)
{
	(void)state;
	for (unsigned i = 0; i < WAN_PATHS_MAX; i++) {
		static char names[WAN_PATHS_MAX][8];
		char text[40];

		snprintf(names[i], sizeof(names[i]), "w%u", i);
		link_add(i + 2, names[i]);
		snprintf(text, sizeof(text), "198.18.%u.2", i);
		addr_add(i + 2, text, 24);
		snprintf(text, sizeof(text), "2001:db8:%u::2", i);
		addr_add(i + 2, text, 64);
		default_add(i + 2, "198.18.0.1", i);
		default_add(i + 2, "fe80::1", i);
		path(names[i], names[i], i == 7 ? WAN_PRIMARY : WAN_METERED);
	}
	seen.way[WAN_V4] = seen.way[WAN_V6] = 2;
	carry_out(decide());
	assert_int_equal(plan.n_endpoints, 16);
	assert_int_equal(plan.n_rules, 16 * 3 + 4);
	assert_int_equal(plan.n_routes, 16 * 4);
	assert_int_equal(decide(), 0);
	for (size_t i = 0; i < seen.n_links; i++)
		seen.links[i].carrier = false;
	seen.way[WAN_V4] = seen.way[WAN_V6] = 0;
	decide(); /* all are held */
	assert_int_equal(plan.n_endpoints, 16);
	assert_true(plan.n_rules <= 16 * 3 + 4 && plan.n_routes <= 16 * 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(two_links_come_up, reset),
		cmocka_unit_test_setup(what_goes_goes_first, reset),
		cmocka_unit_test_setup(another_address, reset),
		cmocka_unit_test_setup(which_address, reset),
		cmocka_unit_test_setup(which_device, reset),
		cmocka_unit_test_setup(same_address, reset),
		cmocka_unit_test_setup(roles, reset),
		cmocka_unit_test_setup(steering, reset),
		cmocka_unit_test_setup(the_only_link_is_held, reset),
		cmocka_unit_test_setup(others_work_is_left, reset),
		cmocka_unit_test_setup(leftovers, reset),
		cmocka_unit_test_setup(bound_to_another_device, reset),
		cmocka_unit_test_setup(as_many_as_there_may_be, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
