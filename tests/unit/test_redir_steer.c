/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The learned table and its mirror in a real kernel, in a network namespace of our own: many
 * more servers than there is room for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "rig.h"

#if defined(HAVE_LIBNFTABLES) && defined(HAVE_LIBMNL)

#include <arpa/inet.h>
#include <linux/netlink.h>

#include "redir/bypass.h"
#include "redir/learner.h"
#include "redir/nft_read.h"
#include "redir/redir.h"
#include "redir/rules.h"
#include "redir/steer.h"

#define SERVERS 100000u
#define MOST    4096u

struct fixture {
	struct redir rd;
	char path[64];
};

static struct redir_conf *load(const char *path, const char *rules)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fprintf(f, "[proxy p]\naddress = 192.0.2.1:1080\n[bypass]\nmax = %u\n%s", MOST, rules);
	assert_int_equal(fclose(f), 0);
	return redir_conf_load(path, NULL, stderr);
}

static void begin(struct fixture *x, const char *rules)
{
	struct learned_limits limits = {.max = MOST, .ttl_s = 3600, .plain_ttl_s = 600};
	struct redir *rd = &x->rd;
	int fd;

	memset(x, 0, sizeof(*x));
	strcpy(x->path, "/tmp/sixpath-steer-XXXXXX");
	fd = mkstemp(x->path);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(worker_init(&rd->main, UINT32_MAX, rd), 0);
	rd->conf = load(x->path, rules);
	assert_non_null(rd->conf);
	rd->pool = pool_new(rd->conf, NULL, &rd->main);
	rd->learned = learned_new(&limits, 4096);
	assert_non_null(rd->pool);
	assert_non_null(rd->learned);
	rd->steer = steer_new(rd);
	assert_non_null(rd->steer);
}

static void end(struct fixture *x)
{
	steer_free(x->rd.steer);
	learned_free(x->rd.learned);
	pool_put(x->rd.pool);
	redir_conf_put(x->rd.conf);
	worker_fini(&x->rd.main);
	unlink(x->path);
}

static struct addr server(unsigned i, bool v6)
{
	char text[ADDR_STRLEN];
	struct addr a;

	if (v6)
		snprintf(text, sizeof(text), "[2001:db8::%x:%x]:443", i >> 16, i & 0xffff);
	else
		snprintf(text, sizeof(text), "100.%u.%u.%u:443", 64 + (i >> 16), i >> 8 & 255,
			 i & 255);
	assert_true(addr_parse(&a, text, -1));
	return a;
}

struct mirror {
	struct redir *rd;
	unsigned n, strangers;
};

static void in_set(void *ctx, const struct addr *a, uint32_t left_s)
{
	struct mirror *m = ctx;

	(void)left_s;
	m->n++;
	m->strangers += learned_look(m->rd->learned, a, learner_now(m->rd), false) != LEARNED_MPTCP;
}

/* Each element of the set is in the table, and there are as many. */
static void agree(struct redir *rd)
{
	struct netlink *nl = rules_netlink(steer_rules(rd->steer));
	struct mirror m4 = {.rd = rd}, m6 = {.rd = rd};
	struct learned_counts c;

	assert_int_equal(nft_read_set(nl, RULES_NFT_TABLE, "learned4", in_set, &m4), 0);
	assert_int_equal(nft_read_set(nl, RULES_NFT_TABLE, "learned6", in_set, &m6), 0);
	learned_count(rd->learned, &c);
	assert_int_equal(m4.strangers, 0);
	assert_int_equal(m6.strangers, 0);
	assert_int_equal(m4.n, c.v4.mptcp);
	assert_int_equal(m6.n, c.v6.mptcp);
}

static unsigned long rss_kb(void)
{
	char line[256];
	unsigned long kb = 0;
	FILE *f = fopen("/proc/self/status", "r");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmRSS: %lu", &kb) == 1)
			break;
	fclose(f);
	return kb;
}

/* step: between looks of the main thread. With the largest the journal overflows each time. */
static void many(unsigned step)
{
	struct fixture x;
	struct learned_counts c;
	unsigned long full = 0;

	begin(&x, "[rules]\ncapture = lan\n");
	assert_non_null(steer_rules(x.rd.steer));
	for (unsigned i = 0; i < SERVERS; i++) {
		struct addr a = server(i / 2, i & 1);
		learned_put(x.rd.learned, &a, LEARNED_MPTCP, LEARNED_FROM_PROXY,
			    learner_now(&x.rd));
		if (i % step == step - 1)
			steer_learned(x.rd.steer);
		if (i == SERVERS / 2)
			full = rss_kb();
	}
	steer_learned(x.rd.steer);
	learned_count(x.rd.learned, &c);
	assert_int_equal(c.v4.mptcp, MOST);
	assert_int_equal(c.v6.mptcp, MOST);
	assert_int_equal(c.v4.evicted + c.v6.evicted, SERVERS - 2 * MOST);
	agree(&x.rd);
#ifndef __SANITIZE_ADDRESS__ /* it keeps what was freed for a while */
	assert_true(rss_kb() < full + 1024);
#else
	(void)full;
#endif
	learned_clear(x.rd.learned);
	steer_learned(x.rd.steer);
	agree(&x.rd);
	end(&x);
}

static void many_servers(void **state)
{
	(void)state;
	many(500);
}

static void many_at_once(void **state)
{
	(void)state;
	many(20000);
}

/* What was there before the start is compared, not filled in anew; "no" is not mirrored. */
static void other_changes(void **state)
{
	struct fixture x;
	struct addr a = server(1, false), b = server(2, true);

	(void)state;
	begin(&x, "[rules]\ncapture = lan\n");
	learned_put(x.rd.learned, &a, LEARNED_MPTCP, LEARNED_FROM_ADMIN, learner_now(&x.rd));
	learned_put(x.rd.learned, &b, LEARNED_PLAIN, LEARNED_FROM_PROXY, learner_now(&x.rd));
	steer_learned(x.rd.steer);
	agree(&x.rd);
	assert_string_equal(steer_backend(x.rd.steer), "nft");
	assert_int_equal(system("nft flush ruleset; ip rule del pref 10660 2>/dev/null"), 0);
	steer_tick(x.rd.steer);
	agree(&x.rd);
	steer_reload(x.rd.steer);
	agree(&x.rd);
	end(&x);
}

static void nothing_to_capture(void **state)
{
	struct fixture x;

	(void)state;
	begin(&x, "");
	assert_null(steer_rules(x.rd.steer));
	assert_string_equal(steer_backend(x.rd.steer), "none");
	steer_tick(x.rd.steer);
	end(&x);
	begin(&x, "[rules]\ncapture = lan\ninstall = no\n");
	assert_null(steer_rules(x.rd.steer));
	end(&x);
	begin(&x, "[rules]\ncapture = lan\nbackend = iptables\n");
	assert_null(steer_rules(x.rd.steer));
	end(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_servers),
		cmocka_unit_test(many_at_once),
		cmocka_unit_test(other_changes),
		cmocka_unit_test(nothing_to_capture),
	};

	if (geteuid() != 0 || !rig_netns() || system("nft list ruleset >/dev/null 2>&1") != 0)
		return RIG_SKIP;
	if (system("ip link set lo up") != 0)
		return RIG_SKIP;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

int main(void)
{
	return RIG_SKIP;
}

#endif
