/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How fast learned servers get into the kernel's sets, in a network namespace of our own. Root. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/log.h"
#include "redir/bypass.h"
#include "redir/rules.h"

#define SERVERS 4096u

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static struct addr server(unsigned i)
{
	char text[ADDR_STRLEN];
	struct addr a;

	snprintf(text, sizeof(text), "100.64.%u.%u:443", i >> 8 & 255, i & 255);
	addr_parse(&a, text, -1);
	return a;
}

/* add: or delete. batch: changes told to the kernel at once. */
static void run(struct bypass *b, const char *what, bool add, unsigned n, unsigned batch)
{
	double start = now_s();

	for (unsigned i = 0; i < n; i++) {
		struct addr a = server(i);
		if (add)
			bypass_add(b, &a, 3600);
		else
			bypass_del(b, &a);
		if (i % batch == batch - 1 && bypass_flush(b) < 0) {
			printf("%-6s %-8s failed\n", bypass_name(b), what);
			return;
		}
	}
	bypass_flush(b);
	printf("%-6s %-8s %4u at once  %9.0f updates/s\n", bypass_name(b), what, batch,
	       n / (now_s() - start));
}

static void backend(const struct bypass_ops *ops, void *arg)
{
	static const unsigned batches[] = {1, 64, 256};
	struct bypass *b = bypass_new(ops, arg);

	if (!b || !bypass_works(b)) {
		printf("%s: not available here\n", ops->name);
		bypass_free(b);
		return;
	}
	for (unsigned i = 0; i < 3; i++) {
		unsigned n = batches[i] == 1 ? 500 : SERVERS;
		run(b, "add", true, n, batches[i]);
		run(b, "refresh", true, n, batches[i]);
		run(b, "delete", false, n, batches[i]);
	}
	bypass_free(b);
}

int main(void)
{
	static const char *const lan[] = {"lan"};
	struct rules_conf c = {.mode = MODE_REDIRECT,
			       .port = 1077,
			       .mark = RULES_MARK,
			       .capture = lan,
			       .n_capture = 1,
			       .owner = true};
	struct rules *rules = NULL;
	bool v6 = false;

	if (unshare(CLONE_NEWNET) < 0) {
		puts("bench_sets: needs root");
		return 0;
	}
	log_init("bench_sets", SINK_STDERR, true);
	if (rules_open(&rules, &c, NULL, 0) == 0)
		backend(&bypass_nft, rules);
	rules_close(rules);
	backend(&bypass_ipset, &v6);
	return 0;
}
