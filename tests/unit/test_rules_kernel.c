/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rules, policy routing and bypass sets in a real kernel, in a network namespace of our own.
 * "Others" are the programs nft, ip and ipset.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "config.h"
#include "rig.h"

#if defined(HAVE_LIBNFTABLES) && defined(HAVE_LIBMNL)

#include <linux/netlink.h>

#include "core/log.h"
#include "core/priv.h"
#include "redir/bypass.h"
#include "redir/nft_read.h"
#include "redir/rules.h"

static bool real_root;
static struct rules *open_now; /* by a test that may fail before it closes them */
static const char *const lan[] = {"lan"};

static struct rules_conf base(void)
{
	return (struct rules_conf){
		.mode = MODE_TPROXY,
		.port = 1077,
		.mark = RULES_MARK,
		.capture = lan,
		.n_capture = 1,
		.action = BYPASS_AUTO,
		.v6 = true,
		.owner = true,
	};
}

static struct addr at(const char *text)
{
	struct addr a;

	assert_true(addr_parse(&a, text, -1));
	return a;
}

/* ---- others ---- */

static bool sh(const char *command)
{
	char line[512];

	snprintf(line, sizeof(line), "%s >/dev/null 2>&1", command);
	return system(line) == 0;
}

static bool has_table(const char *table)
{
	struct nft_print p;
	struct netlink *nl;
	int rc;

	assert_int_equal(netlink_open(&nl, NETLINK_NETFILTER), 0);
	rc = nft_read_print(nl, table, false, &p);
	netlink_close(nl);
	assert_true(rc == 0 || rc == -ENOENT);
	return rc == 0;
}

static bool until(bool (*condition)(void), double limit_s)
{
	double end = rig_now() + limit_s;

	while (!condition()) {
		if (rig_now() > end)
			return false;
		poll(NULL, 0, 5);
	}
	return true;
}

static bool own_table_gone(void)
{
	return !has_table("sixpath");
}

static bool routing_there(const char *family)
{
	char line[200];

	snprintf(line, sizeof(line),
		 "ip %s rule show | grep -q '^10660:.*fwmark 0x2/0x2 lookup 100' && ip %s route "
		 "show "
		 "table 100 | grep -q '^local default dev lo proto 106'",
		 family, family);
	return sh(line);
}

static bool routing_gone(void)
{
	return !sh("ip rule show | grep -q ^10660:") && !sh("ip -6 rule show | grep -q ^10660:") &&
	       !sh("ip route show table all proto 106 | grep -q .") &&
	       !sh("ip -6 route show table all proto 106 | grep -q .");
}

/* Whatever a test leaves. */
static int clean(void **state)
{
	(void)state;
	rules_close(open_now);
	open_now = NULL;
	sh("nft flush ruleset");
	sh("ipset destroy");
	sh("ip rule flush; ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup "
	   "default; "
	   "ip -6 rule flush; ip -6 rule add pref 32766 lookup main");
	sh("ip route flush table all proto 106; ip -6 route flush table all proto 106");
	sh("ip route flush table 100");
	return own_table_gone() && routing_gone() ? 0 : -1;
}

/* Another process: runs fn, tells whether it succeeded, and waits to be killed. */
static pid_t other_process(int (*fn)(void), int *rc)
{
	int p[2];
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int result;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		result = fn();
		if (write(p[1], &result, sizeof(result)) != sizeof(result))
			_exit(1);
		for (;;)
			pause();
	}
	close(p[1]);
	assert_int_equal(read(p[0], rc, sizeof(*rc)), sizeof(*rc));
	close(p[0]);
	return pid;
}

static void kill_9(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static struct rules *opened(const struct rules_conf *c)
{
	struct rules *r;
	struct addr up[2];

	up[0] = at("198.51.100.1:1080");
	up[1] = at("[2001:db8:51::1]:1080");
	assert_int_equal(rules_open(&r, c, up, 2), 0);
	open_now = r;
	return r;
}

static void shut(struct rules *r)
{
	open_now = NULL;
	rules_close(r);
}

/* ---- the table ---- */

static void test_open_and_close(void **state)
{
	struct rules_conf c = base();
	struct rules_state s;
	struct rules *r;
	unsigned fds = rig_open_fds();

	(void)state;
	r = opened(&c);
	assert_true(has_table("sixpath"));
	assert_true(has_table("sixpath_user"));
	assert_true(sh("nft list table inet sixpath | grep -q 'flags owner'"));
	assert_true(sh("nft list set inet sixpath upstream4 | grep -q 198.51.100.1"));
	assert_true(routing_there("-4"));
	assert_true(routing_there("-6"));
	rules_get_state(r, &s);
	assert_true(s.loaded && s.owned);
	assert_int_equal(s.table, 100);
	assert_int_equal(rules_check(r), 0);
	/* Others can neither delete nor change it. */
	assert_false(sh("nft delete table inet sixpath"));
	assert_false(sh("nft flush chain inet sixpath capture"));
	assert_false(sh("nft add element inet sixpath learned4 '{ 192.0.2.1 . 80 }'"));
	shut(r);
	assert_false(has_table("sixpath"));
	assert_true(has_table("sixpath_user"));
	assert_true(routing_gone());
	assert_int_equal(rig_open_fds(), fds);
}

static void test_redirect(void **state)
{
	struct rules_conf c = base();
	struct rules *r;

	(void)state;
	c.mode = MODE_REDIRECT;
	c.capture_local = true;
	r = opened(&c);
	assert_true(sh("nft list table inet sixpath | grep -q 'redirect to :1077'"));
	assert_true(routing_gone());
	c.mode = MODE_TPROXY;
	assert_int_equal(rules_set_conf(r, &c), 0);
	assert_true(sh("nft list table inet sixpath | grep -q 'tproxy to :1077'"));
	assert_true(sh("nft list set inet sixpath upstream6 | grep -q 2001:db8:51::1"));
	assert_true(routing_there("-4"));
	assert_int_equal(rules_check(r), 0);
	c.mark = 0x2;
	assert_int_equal(rules_set_conf(r, &c), -EINVAL);
	assert_true(has_table("sixpath"));
	c = base();
	c.mode = MODE_REDIRECT;
	assert_int_equal(rules_set_conf(r, &c), 0);
	assert_true(routing_gone());
	shut(r);
	assert_false(has_table("sixpath"));
}

/* As the daemon does it: root is given up, CAP_NET_ADMIN kept, then the rules are opened. */
static int open_unprivileged(void)
{
	struct rules_conf c = base();
	struct rules *r;
	int rc = priv_drop("nobody", true, "cap_net_admin");

	return rc ? rc : rules_open(&r, &c, NULL, 0);
}

static int use_after_drop(void)
{
	struct rules_conf c = base();
	struct addr up = at("198.51.100.9:1080"), server = at("203.0.113.9:80");
	struct bypass *b;
	struct rules *r;
	int rc = rules_open(&r, &c, NULL, 0);

	if (rc == 0)
		rc = priv_drop("nobody", true, "cap_net_admin");
	if (rc == 0)
		rc = rules_set_upstreams(r, &up, 1);
	if (rc < 0)
		return rc;
	b = bypass_new(&bypass_nft, r);
	bypass_add(b, &server, 500);
	rc = bypass_flush(b);
	if (rc == 0 && !sh("true"))
		return -EIO;
	return rc == 0 ? rules_check(r) : rc;
}

static int open_without_any(void)
{
	struct rules_conf c = base();
	struct rules *r;
	int rc = priv_drop("nobody", true, NULL);

	return rc ? rc : rules_open(&r, &c, NULL, 0);
}

static void test_kill_9(void **state)
{
	double start;
	pid_t pid;
	int rc;

	(void)state;
	if (!real_root)
		skip();
	pid = other_process(open_unprivileged, &rc);
	assert_int_equal(rc, 0);
	assert_true(has_table("sixpath"));
	assert_true(sh("nft add element inet sixpath_user bypass4 '{ 192.0.2.0/24 }'"));
	assert_true(sh("nft add element inet sixpath_user bypass_mac '{ 02:00:00:00:00:01 }'"));
	assert_true(routing_there("-4"));
	start = rig_now();
	kill_9(pid);
	assert_true(until(own_table_gone, 2.));
	printf("table gone %.1f ms after kill -9\n", (rig_now() - start) * 1e3);
	assert_true(sh("nft list set inet sixpath_user bypass4 | grep -q 192.0.2.0/24"));

	/* The next one takes over the routing that is left, and the user's sets stay as they are. */
	pid = other_process(use_after_drop, &rc);
	assert_int_equal(rc, 0);
	assert_true(sh("nft list set inet sixpath upstream4 | grep -q 198.51.100.9"));
	assert_true(sh("nft list set inet sixpath learned4 | grep -q '203.0.113.9 . 80'"));
	assert_true(sh("nft list set inet sixpath_user bypass4 | grep -q 192.0.2.0/24"));
	assert_true(sh("nft list set inet sixpath_user bypass_mac | grep -q 02:00:00:00:00:01"));
	kill_9(pid);
	assert_true(until(own_table_gone, 2.));
	{
		struct rules_conf c = base();
		struct rules *r = opened(&c);
		shut(r);
	}
	assert_true(routing_gone());
}

static void test_no_capability(void **state)
{
	pid_t pid;
	int rc;

	(void)state;
	if (!real_root)
		skip();
	pid = other_process(open_without_any, &rc);
	kill_9(pid);
	assert_int_equal(rc, -EPERM);
	assert_false(has_table("sixpath"));
}

static int open_plainly(void)
{
	struct rules_conf c = base();
	struct rules *r;

	return rules_open(&r, &c, NULL, 0);
}

static void test_two_daemons(void **state)
{
	struct rules_conf c = base();
	struct rules *r = opened(&c);
	pid_t pid;
	int rc;

	(void)state;
	pid = other_process(open_plainly, &rc);
	kill_9(pid);
	assert_int_equal(rc, -EPERM);
	assert_true(has_table("sixpath"));
	assert_true(routing_there("-4") && routing_there("-6"));
	assert_int_equal(rules_check(r), 0);
	shut(r);
	assert_true(routing_gone());
}

static void test_flush_ruleset(void **state)
{
	struct rules_conf c = base();
	struct rules_state s;
	struct rules *r = opened(&c);

	(void)state;
	assert_true(sh("nft flush ruleset"));
	assert_true(has_table("sixpath"));
	assert_false(has_table("sixpath_user"));
	assert_int_equal(rules_check(r), 0);
	assert_true(has_table("sixpath_user"));
	rules_get_state(r, &s);
	assert_int_equal(s.reloads, 0);
	assert_string_equal(s.trouble, "");
	shut(r);
}

/* Where tables have no owner, the check brings it back, whole. */
static void test_without_owner(void **state)
{
	static const char *const harm[] = {
		"nft flush ruleset",
		"nft delete table inet sixpath",
		"nft flush chain inet sixpath prerouting",
		"nft delete chain inet sixpath prerouting",
		"nft 'add table inet sixpath { flags dormant; }'",
		"nft list table inet sixpath >/tmp/sixpath-test.$$; nft delete table inet sixpath; "
		"nft -f "
		"/tmp/sixpath-test.$$; rc=$?; rm /tmp/sixpath-test.$$; exit $rc",
	};
	struct rules_conf c = base();
	struct rules_state s;
	struct rules *r;

	(void)state;
	c.owner = false;
	r = opened(&c);
	rules_get_state(r, &s);
	assert_false(s.owned);
	for (size_t i = 0; i < sizeof(harm) / sizeof(harm[0]); i++) {
		assert_int_equal(rules_check(r), 0);
		if (!sh(harm[i]))
			fail_msg("cannot do: %s", harm[i]);
		if (rules_check(r) != RULES_RELOADED)
			fail_msg("not noticed: %s", harm[i]);
		if (!sh("nft list set inet sixpath upstream4 | grep -q 198.51.100.1") ||
		    !sh("nft list chain inet sixpath prerouting | grep -q 'jump capture'") ||
		    sh("nft list table inet sixpath | grep -q dormant"))
			fail_msg("not mended: %s", harm[i]);
	}
	rules_get_state(r, &s);
	assert_int_equal(s.reloads, sizeof(harm) / sizeof(harm[0]));
	shut(r);
	assert_false(has_table("sixpath"));
}

/* Lines on standard error while rules_check is called so often. */
static unsigned lines_of_checks(struct rules *r, int wanted, unsigned times)
{
	FILE *f = tmpfile();
	int saved = dup(STDERR_FILENO), c;
	unsigned lines = 0;

	assert_non_null(f);
	assert_true(saved >= 0 && dup2(fileno(f), STDERR_FILENO) >= 0);
	for (unsigned i = 0; i < times; i++)
		wanted = rules_check(r) == wanted ? wanted : 1000;
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	assert_int_not_equal(wanted, 1000);
	rewind(f);
	while ((c = fgetc(f)) != EOF)
		lines += c == '\n';
	fclose(f);
	return lines;
}

/* Another daemon has taken the table: told once, and mended when that one ends. */
static void test_check_fails(void **state)
{
	struct rules_conf c = base();
	struct rules_state s;
	struct rules *r;
	pid_t pid;
	int rc;

	(void)state;
	c.owner = false;
	r = opened(&c);
	pid = other_process(open_plainly, &rc);
	assert_int_equal(rc, 0);
	assert_int_equal(lines_of_checks(r, -EPERM, 3), 1);
	rules_get_state(r, &s);
	assert_false(s.loaded);
	assert_non_null(strstr(s.trouble, "not permitted"));
	kill_9(pid);
	assert_true(until(own_table_gone, 2.));
	assert_int_equal(rules_check(r), RULES_RELOADED);
	rules_get_state(r, &s);
	assert_true(s.loaded);
	assert_string_equal(s.trouble, "");
	shut(r);
}

static void test_upstreams(void **state)
{
	struct rules_conf c = base();
	struct rules *r = opened(&c);
	struct addr v[2];

	(void)state;
	v[0] = at("198.51.100.1:1080");
	v[1] = at("[2001:db8:51::1]:1080");
	assert_int_equal(rules_set_upstreams(r, v, 2), 0); /* the same */
	v[0] = at("198.51.100.7:1080");
	assert_int_equal(rules_set_upstreams(r, v, 2), 0);
	assert_true(sh("nft list set inet sixpath upstream4 | grep -q 198.51.100.7"));
	assert_false(sh("nft list set inet sixpath upstream4 | grep -q 198.51.100.1"));
	assert_true(sh("nft list set inet sixpath upstream6 | grep -q 2001:db8:51::1"));
	assert_int_equal(rules_set_upstreams(r, NULL, 0), 0);
	assert_false(sh("nft list set inet sixpath upstream4 | grep -q elements"));
	assert_int_equal(rules_check(r), 0);
	shut(r);
}

static bool paused(void)
{
	return sh("nft list set inet sixpath paused | grep -q 'elements = { tcp }'");
}

static void test_pause(void **state)
{
	struct rules_conf c = base();
	struct rules *r = opened(&c);

	(void)state;
	assert_false(paused());
	assert_int_equal(rules_pause(r, true), 0);
	assert_int_equal(rules_pause(r, true), 0);
	assert_true(paused());
	/* over another configuration, and over the loss of the table */
	c.action = BYPASS_RULE;
	assert_int_equal(rules_set_conf(r, &c), 0);
	assert_true(paused());
	assert_int_equal(rules_command(r, "delete table inet sixpath\n"), -ESTALE);
	assert_true(paused());
	assert_int_equal(rules_pause(r, false), 0);
	assert_true(has_table("sixpath"));
	assert_false(paused());
	shut(r);
}

/* From one daemon to the next: never without what captured connections need. */
static void test_hand_over(void **state)
{
	const enum redir_mode modes[] = {MODE_TPROXY, MODE_REDIRECT};
	unsigned fds = rig_open_fds();

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct rules_conf c = base();
		struct rules *old, *new;

		c.mode = modes[i];
		old = opened(&c);
		c.stand_in = true;
		new = opened(&c);
		assert_true(has_table("sixpath") && has_table("sixpath_standin"));
		assert_int_equal(rules_pause(new, true), 0); /* from the start */
		rules_hand_over(old);
		assert_false(has_table("sixpath"));
		assert_true(has_table("sixpath_standin"));
		assert_int_equal(routing_there("-4"), modes[i] == MODE_TPROXY);
		assert_int_equal(rules_take_over(new), 0);
		assert_true(has_table("sixpath"));
		assert_true(paused());
		assert_false(has_table("sixpath_standin"));
		assert_int_equal(routing_there("-6"), modes[i] == MODE_TPROXY);
		assert_int_equal(rules_check(new), 0);
		shut(new);
		assert_false(has_table("sixpath"));
		assert_true(routing_gone()); /* the successor's now */
	}
	assert_int_equal(rig_open_fds(), fds);
}

/* A successor that gives up leaves its predecessor's alone; one whose predecessor does not let go
 * has the rules when that has ended. */
static void test_hand_over_fails(void **state)
{
	struct rules_conf c = base();
	struct rules *old = opened(&c), *new;

	(void)state;
	c.stand_in = true;
	new = opened(&c);
	shut(new);
	assert_true(has_table("sixpath") && routing_there("-4"));
	assert_false(has_table("sixpath_standin"));
	new = opened(&c);
	assert_int_equal(rules_take_over(new), -EPERM);
	assert_true(has_table("sixpath_standin"));
	assert_true(rules_check(new) < 0);
	rules_hand_over(old);
	assert_int_equal(rules_check(new), RULES_RELOADED);
	assert_true(has_table("sixpath") && !has_table("sixpath_standin"));
	shut(new);
	assert_true(routing_gone());
}

struct names {
	unsigned n, ups;
	bool listener;
};

static void on_counter(void *ctx, const char *chain, const char *name, uint64_t packets)
{
	struct names *n = ctx;

	n->n++;
	n->ups += strcmp(chain, "capture") == 0 && strcmp(name, "upstream") == 0 && packets == 0;
	n->listener =
		n->listener || (strcmp(chain, "take") == 0 && strcmp(name, "no-listener") == 0);
}

static void test_counters(void **state)
{
	struct rules_conf c = base();
	struct rules *r = opened(&c);
	struct names n = {0};

	(void)state;
	assert_int_equal(rules_counters(r, on_counter, &n), 0);
	assert_int_equal(n.ups, 2);
	assert_true(n.listener);
	/* own, local, user-bypass, upstream x 2, user-proxy, exclude x 2, mp-join, learned x 2, and
	 * the three of take */
	assert_int_equal(n.n, 14);
	shut(r);
}

/* ---- policy routing ---- */

static void test_routing(void **state)
{
	static const char *const harm[] = {
		"ip rule del pref 10660",
		"ip -6 rule del pref 10660",
		"ip route flush table 100",
		"ip -6 route flush table 100",
		"ip rule flush; ip rule add pref 32766 lookup main",
		"ip link set lo down; ip link set lo up",
	};
	struct rules_conf c = base();
	struct rules *r = opened(&c);

	(void)state;
	for (size_t i = 0; i < sizeof(harm) / sizeof(harm[0]); i++) {
		if (!sh(harm[i]))
			fail_msg("cannot do: %s", harm[i]);
		assert_int_equal(rules_check(r), 0);
		if (!routing_there("-4") || !routing_there("-6"))
			fail_msg("not mended: %s", harm[i]);
	}
	shut(r);
	assert_true(routing_gone());
}

static void test_routing_of_others(void **state)
{
	struct rules_conf c = base();
	struct rules_state s;
	struct rules *r;

	(void)state;
	/* A route in 100, a rule that looks into 101. */
	assert_true(sh("ip route add 192.0.2.0/24 dev lo table 100"));
	assert_true(sh("ip -6 rule add pref 500 fwmark 0x100/0x100 lookup 101"));
	r = opened(&c);
	rules_get_state(r, &s);
	assert_int_equal(s.table, 102);
	assert_int_equal(rules_check(r), 0);
	shut(r);
	assert_true(routing_gone());
	assert_true(sh("ip route show table 100 | grep -q 192.0.2.0/24"));
	assert_true(sh("ip -6 rule show | grep -q 'lookup 101'"));
	assert_true(sh("ip route flush table 100; ip -6 rule del pref 500"));

	/* The scripts' is used and left. */
	assert_true(sh("ip route add local default dev lo table 100 proto 106"));
	assert_true(sh("ip rule add pref 10660 fwmark 0x2/0x2 lookup 100"));
	r = opened(&c);
	rules_get_state(r, &s);
	assert_int_equal(s.table, 100);
	shut(r);
	assert_true(routing_there("-4"));
	assert_false(routing_there("-6"));
}

/* ---- bypass sets ---- */

struct backend {
	const struct bypass_ops *ops;
	const char *listed; /* command that prints the IPv4 set */
};

static const struct backend nft_be = {&bypass_nft, "nft list set inet sixpath learned4"};
static const struct backend ipset_be = {&bypass_ipset, "ipset list sixpath4"};

static struct addr server(unsigned i)
{
	struct addr a = at(i % 2 ? "203.0.113.1:443" : "[2001:db8::1]:443");

	if (i % 2)
		a.u.in.sin_addr.s_addr = htonl(0xcb007100U + i);
	else
		a.u.in6.sin6_addr.s6_addr32[3] = htonl(i + 1);
	return a;
}

/* What the kernel has, by the back end's own listing. */
struct seen {
	size_t n;
	struct addr a;
	uint32_t left;
	bool found;
};

static void on_element(void *ctx, const struct addr *a, uint32_t left_s)
{
	struct seen *s = ctx;

	s->n++;
	if (addr_equal(a, &s->a)) {
		s->found = true;
		s->left = left_s;
	}
}

static struct seen look(const struct bypass_ops *ops, void *arg, const struct addr *a)
{
	struct seen s = {.a = *a};
	void *be;

	assert_int_equal(ops->open(&be, arg), 0);
	assert_int_equal(ops->list(be, on_element, &s), 0);
	ops->close(be);
	return s;
}

static void use_set(const struct backend *k, void *arg)
{
	struct bypass *b = bypass_new(k->ops, arg);
	struct addr v4 = at("203.0.113.5:443"), v6 = at("[2001:db8::5]:8443"),
		    none = at("192.0.2.9:1");
	char line[200];
	struct seen s;

	assert_non_null(b);
	assert_true(bypass_works(b));
	bypass_add(b, &v4, 500);
	bypass_add(b, &v6, 700);
	bypass_del(b, &none); /* was never there */
	assert_int_equal(bypass_flush(b), 0);
	s = look(k->ops, arg, &v4);
	assert_int_equal(s.n, 2);
	assert_true(s.found && s.left > 490 && s.left <= 500);
	s = look(k->ops, arg, &v6);
	assert_true(s.found && s.left > 690 && s.left <= 700);
	/* The tool sees the same. */
	snprintf(line, sizeof(line), "%s | grep -E -q '203.0.113.5( . |,tcp:)443 '", k->listed);
	assert_true(sh(line));
	/* Again: longer, shorter. */
	bypass_add(b, &v4, 5000);
	bypass_add(b, &v6, 60);
	assert_int_equal(bypass_flush(b), 0);
	s = look(k->ops, arg, &v4);
	assert_true(s.found && s.left > 4990);
	s = look(k->ops, arg, &v6);
	assert_true(s.found && s.left <= 60);
	assert_int_equal(s.n, 2);
	bypass_del(b, &v4);
	bypass_add(b, &v6, 1);
	assert_int_equal(bypass_flush(b), 0);
	assert_false(look(k->ops, arg, &v4).found);
	poll(NULL, 0, 1200);
	/* Expired, perhaps still lying about in the kernel: changing it succeeds all the same. */
	bypass_del(b, &v6);
	assert_int_equal(bypass_flush(b), 0);
	assert_int_equal(look(k->ops, arg, &v4).n, 0);
	assert_true(bypass_works(b));
	bypass_free(b);
}

static void reconcile_set(const struct backend *k, void *arg)
{
	enum { N = 4096 };
	struct bypass *b = bypass_new(k->ops, arg);
	struct bypass_entry *want = calloc(N, sizeof(*want));
	struct bypass_diff d;
	double start = rig_now();
	uint64_t before;

	assert_non_null(want);
	for (unsigned i = 0; i < N; i++)
		want[i] = (struct bypass_entry){.addr = server(i), .left_s = 3600};
	assert_int_equal(bypass_reconcile(b, want, N, &d), 0);
	assert_int_equal(d.added, N);
	printf("%s: %d elements added in %.1f ms\n", k->ops->name, N, (rig_now() - start) * 1e3);
	for (unsigned i = 0; i < 5; i++)
		want[i].addr = server(N + i); /* five out, five in */
	before = bypass_changes(b);
	start = rig_now();
	assert_int_equal(bypass_reconcile(b, want, N, &d), 0);
	printf("%s: 10 differences mended in %.1f ms\n", k->ops->name, (rig_now() - start) * 1e3);
	assert_int_equal(d.added, 5);
	assert_int_equal(d.removed, 5);
	assert_int_equal(d.refreshed, 0);
	assert_int_equal(d.kept, N - 5);
	assert_int_equal(bypass_changes(b) - before, 10);
	assert_int_equal(look(k->ops, arg, &want[0].addr).n, N);
	bypass_free(b);
	free(want);
}

static void test_nft_set(void **state)
{
	struct rules_conf c = base();
	struct rules *r = opened(&c);

	(void)state;
	use_set(&nft_be, r);
	assert_int_equal(rules_check(r), 0);
	shut(r);
}

static void test_nft_reconcile(void **state)
{
	struct rules_conf c = base();
	struct rules *r = opened(&c);

	(void)state;
	reconcile_set(&nft_be, r);
	shut(r);
}

/* The table goes while elements are added: the back end fails, the rules are back at once,
 * reconciling fills them. */
static void test_nft_table_lost(void **state)
{
	struct bypass_entry want = {.addr = at("203.0.113.5:443"), .left_s = 100};
	struct rules_conf c = base();
	struct rules *r;
	struct bypass *b;

	(void)state;
	c.owner = false;
	r = opened(&c);
	b = bypass_new(&bypass_nft, r);
	assert_true(sh("nft delete table inet sixpath"));
	bypass_add(b, &want.addr, 100);
	assert_int_equal(bypass_flush(b), -ESTALE);
	assert_true(has_table("sixpath"));
	assert_int_equal(rules_check(r), RULES_RELOADED);
	assert_int_equal(bypass_reconcile(b, &want, 1, NULL), 0);
	assert_true(bypass_works(b));
	assert_true(look(&bypass_nft, r, &want.addr).found);
	bypass_free(b);
	shut(r);
}

static int trouble(void)
{
	/* Not waited for: it goes on until we are killed. */
	return system("while :; do nft add table ip busy; nft delete table ip busy; done "
		      ">/dev/null 2>&1 &");
}

/* Others change rules all the time, which makes libnftables start over, with a new socket at
 * times: the table may go, but never for longer than the command that finds it gone. */
static void test_nft_busy(void **state)
{
	struct rules_conf c = base();
	struct rules *r = opened(&c);
	struct bypass *b = bypass_new(&bypass_nft, r);
	struct rules_state s;
	struct addr a;
	double end = rig_now() + 2.;
	unsigned i = 0, reloads = 0, lost = 0;
	pid_t pid;
	int rc;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		rc = trouble();
		for (;;)
			pause();
	}
	setpgid(pid, pid);
	while (rig_now() < end) {
		a = server(i++);
		bypass_add(b, &a, 100);
		rc = bypass_flush(b);
		lost += rc < 0;
		assert_true(rc == 0 || rc == -ESTALE);
		assert_true(has_table("sixpath"));
		if (i % 16 == 0 || rc < 0) {
			rc = rules_check(r);
			assert_true(rc >= 0);
			reloads += rc == RULES_RELOADED;
		}
		if (!bypass_works(b))
			assert_int_equal(bypass_reconcile(b, NULL, 0, NULL), 0);
	}
	rc = kill(-pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(rc, 0);
	rules_get_state(r, &s);
	printf("%u changes among those of others: table lost %u times, reloads %u\n", i, lost,
	       reloads);
	assert_int_equal(s.reloads, lost);
	bypass_free(b);
	shut(r);
}

static void test_ipset(void **state)
{
	struct bypass_entry want = {.addr = server(1), .left_s = 100};
	struct bypass *b;
	bool v6 = true;

	(void)state;
	if (!sh("ipset list"))
		skip();
	use_set(&ipset_be, &v6);
	/* Created when missing, taken as it is when there. */
	assert_true(sh("ipset add sixpath4 192.0.2.1,tcp:80 timeout 1000"));
	b = bypass_new(&bypass_ipset, &v6);
	assert_true(bypass_works(b));
	bypass_free(b);
	assert_true(sh("ipset test sixpath4 192.0.2.1,tcp:80"));
	assert_true(sh("ipset destroy sixpath4"));
	assert_true(sh("ipset create sixpath4 hash:ip"));
	b = bypass_new(&bypass_ipset, &v6);
	assert_false(bypass_works(b));
	assert_int_equal(bypass_reconcile(b, &want, 1, NULL), -EEXIST);
	assert_true(sh("ipset destroy sixpath4; ipset create sixpath4 hash:ip,port"));
	assert_int_equal(bypass_reconcile(b, &want, 1, NULL), -EEXIST); /* has no timeouts */
	assert_false(bypass_works(b));
	assert_true(sh("ipset destroy sixpath4"));
	assert_int_equal(bypass_reconcile(b, &want, 1, NULL), 0);
	assert_true(bypass_works(b));
	bypass_free(b);
}

static void test_ipset_reconcile(void **state)
{
	bool v6 = true;

	(void)state;
	if (!sh("ipset list"))
		skip();
	reconcile_set(&ipset_be, &v6);
}

#define KERNEL_TEST(name) cmocka_unit_test_setup_teardown(name, clean, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		KERNEL_TEST(test_open_and_close),
		KERNEL_TEST(test_redirect),
		KERNEL_TEST(test_kill_9),
		KERNEL_TEST(test_no_capability),
		KERNEL_TEST(test_two_daemons),
		KERNEL_TEST(test_flush_ruleset),
		KERNEL_TEST(test_without_owner),
		KERNEL_TEST(test_check_fails),
		KERNEL_TEST(test_upstreams),
		KERNEL_TEST(test_pause),
		KERNEL_TEST(test_hand_over),
		KERNEL_TEST(test_hand_over_fails),
		KERNEL_TEST(test_counters),
		KERNEL_TEST(test_routing),
		KERNEL_TEST(test_routing_of_others),
		KERNEL_TEST(test_nft_set),
		KERNEL_TEST(test_nft_reconcile),
		KERNEL_TEST(test_nft_table_lost),
		KERNEL_TEST(test_nft_busy),
		KERNEL_TEST(test_ipset),
		KERNEL_TEST(test_ipset_reconcile),
	};

	real_root = geteuid() == 0;
	log_init("test_rules_kernel", SINK_STDERR, true);
	if (!rig_netns())
		return RIG_SKIP;
	if (!rig_has_ipv6() || !sh("nft list ruleset") || !sh("ip rule show")) {
		printf("skipped: needs IPv6, the programs nft and ip, and a kernel with "
		       "nftables\n");
		return RIG_SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
	printf("skipped: built without libnftables\n");
	return RIG_SKIP;
}

#endif
