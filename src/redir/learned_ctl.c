/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control commands about the learned table: learned, explain. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "redir/decide.h"
#include "redir/learner.h"
#include "redir/redir.h"

#define BATCH 64

/* Anybody who can reach the socket may look; only what is well-formed is taken. */
static bool parse_server(struct control_request *rq, int i, struct addr *a)
{
	const char *text = control_argv(rq, i);

	if (text && addr_parse(a, text, -1))
		return true;
	control_fail(rq, "%s%.80s%sis no server: give ADDRESS:PORT or [IPV6]:PORT",
		     text ? "\"" : "", text ? text : "this ", text ? "\" " : "");
	return false;
}

static void report_item(struct report *r, const struct learned_item *it, double now_s)
{
	char text[ADDR_STRLEN];

	report_row(r);
	report_str(r, "server", addr_str(&it->addr, text, sizeof(text)));
	report_str(r, "speaks", learned_verdict_str(it->verdict));
	report_str(r, "evidence", learned_evidence_str(it->evidence));
	report_seconds(r, "age", now_s - it->created_s);
	report_seconds(r, "left", isinf(it->expires_s) ? -1. : it->expires_s - now_s);
	report_u64(r, "hits", it->hits);
	report_bytes(r, "saved", it->saved);
}

static void report_counts(struct report *r, const struct learned_counts *c)
{
	report_u64(r, "mptcp", c->v4.mptcp + c->v6.mptcp);
	report_u64(r, "plain", c->v4.plain + c->v6.plain);
	report_u64(r, "max", c->v4.max);
	report_u64(r, "evicted", c->v4.evicted + c->v6.evicted);
	report_bytes(r, "saved_total", c->saved);
}

static void list(struct control_request *rq, struct redir *rd)
{
	struct report *r = control_report(rq);
	struct learned_item items[BATCH];
	struct learned_cursor at = {0};
	struct learned_counts counts;
	double now_s = learner_now(rd);
	unsigned n;

	learned_count(rd->learned, &counts);
	report_counts(r, &counts);
	report_seconds(r, "direct_paused", learned_direct_paused(rd->learned, now_s));
	report_str(r, "rules", learner_backend(rd));
	report_list(r, "learned");
	while ((n = learned_list(rd->learned, &at, now_s, items, BATCH)) > 0)
		for (unsigned i = 0; i < n; i++)
			report_item(r, &items[i], now_s);
	report_end(r);
	control_reply(rq);
}

static void answer(struct control_request *rq, const char *text)
{
	report_str(control_report(rq), "result", text);
	control_reply(rq);
}

/* add SERVER [mptcp|plain] */
static void add(struct control_request *rq, struct redir *rd)
{
	const char *what = control_argc(rq) > 2 ? control_argv(rq, 2) : "mptcp";
	enum learned_verdict v = strcmp(what, "plain") == 0 ? LEARNED_PLAIN : LEARNED_MPTCP;
	struct addr a;

	if (!parse_server(rq, 1, &a))
		return;
	if (v == LEARNED_MPTCP && strcmp(what, "mptcp") != 0) {
		control_fail(rq, "\"%.80s\" is not what a server speaks: mptcp or plain", what);
		return;
	}
	if (!learned_put(rd->learned, &a, v, LEARNED_FROM_ADMIN, learner_now(rd))) {
		control_fail(rq, "there is no room: the table is full of entries added by hand "
				 "(see max in [bypass])");
		return;
	}
	learner_sync(rd);
	answer(rq, "added; it stays until it is removed");
}

static void take_out(struct control_request *rq, struct redir *rd)
{
	struct addr a;

	if (!parse_server(rq, 1, &a))
		return;
	if (!learned_remove(rd->learned, &a)) {
		control_fail(rq, "%s is not in the table", control_argv(rq, 1));
		return;
	}
	learner_sync(rd);
	answer(rq, "removed");
}

static void clear(struct control_request *rq, struct redir *rd)
{
	unsigned n = learned_clear(rd->learned);

	learner_sync(rd);
	report_u64(control_report(rq), "removed", n);
	control_reply(rq);
}

static const struct {
	const char *name;
	int least, most; /* words, with this one */
	void (*run)(struct control_request *rq, struct redir *rd);
} verbs[] = {
	{"list", 1, 1, list},
	{"add", 2, 3, add},
	{"remove", 2, 2, take_out},
	{"clear", 1, 1, clear},
};

void learned_command(struct control_request *rq, void *ctx)
{
	const char *verb = control_argc(rq) > 0 ? control_argv(rq, 0) : "list";
	int n = control_argc(rq) > 0 ? control_argc(rq) : 1;

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verbs[i].name, verb) != 0)
			continue;
		if (n < verbs[i].least || n > verbs[i].most)
			break;
		verbs[i].run(rq, ctx);
		return;
	}
	control_fail(rq,
		     "usage: learned [list | add SERVER [mptcp|plain] | remove SERVER | clear]");
}
