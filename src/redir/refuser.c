/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/refuser.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redir/bypass.h"
#include "redir/failed.h"
#include "redir/redir.h"
#include "redir/rules.h"
#include "redir/steer.h"

/* Between two transactions: the first failure is told at once, many together. */
#define PAUSE_S 0.02

struct refuser {
	struct redir *rd;
	struct job job;
	atomic_bool posted; /* the job */
	ev_timer pause;
	bool waiting; /* for the end of the pause */
	struct log_limit limit;
};

/* ---- the sets ---- */

static int tell_some(struct rules *r, enum held_answer a, const struct bypass_item *v, size_t n)
{
	char set[32];

	snprintf(set, sizeof(set), RULES_FAILED "%s", failed_answer_str(a));
	return n ? bypass_nft_apply(r, set, v, n) : 0;
}

/* Those that come one after the other and concern the same sets in one batch. */
static int tell_all(struct rules *r, const struct failed_change *v, unsigned n)
{
	struct bypass_item batch[BYPASS_BATCH];
	size_t k = 0;
	int rc = 0;

	for (unsigned i = 0; i < n && rc == 0; i++) {
		if (k > 0 && (k == BYPASS_BATCH || v[i].answer != v[i - 1].answer ||
			      v[i].add != v[i - 1].add)) {
			rc = tell_some(r, v[i - 1].answer, batch, k);
			k = 0;
		}
		batch[k++] = (struct bypass_item){
			.addr = v[i].addr, .add = v[i].add, .ttl_s = v[i].ttl_s};
	}
	return rc == 0 && n > 0 ? tell_some(r, v[n - 1].answer, batch, k) : rc;
}

static int by_set(const void *x, const void *y)
{
	const struct failed_change *a = x, *b = y;

	if (a->add != b->add)
		return a->add - b->add;
	return (int)a->answer - (int)b->answer;
}

static int tell_changes(struct redir *rd, struct rules *r)
{
	struct failed_change *v = malloc(FAILED_CHANGES * sizeof(*v)); /* few are written to */
	unsigned n, k = 0;
	int rc;

	if (!v)
		return -ENOMEM;
	n = failed_tell(rd->failed, worker_now(&rd->main), v);
	for (unsigned i = 0; i < n; i++) /* the rules may be for IPv4 only */
		if (addr_family(&v[i].addr) == AF_INET || steer_ipv6(rd->steer))
			v[k++] = v[i];
	qsort(v, k, sizeof(*v), by_set);
	rc = tell_all(r, v, k);
	free(v);
	return rc;
}

static void tell(struct refuser *rf)
{
	struct redir *rd = rf->rd;
	struct rules *r = steer_rules(rd->steer);
	struct rules_state state;
	int rc;

	rf->waiting = false;
	if (!r || rd->conf->remember_failed_s <= 0)
		return; /* the rules, when they come, have empty sets: refuser_sets_lost */
	rules_get_state(r, &state);
	if (!state.loaded)
		return;
	rc = tell_changes(rd, r);
	if (rc == -ENOMEM)
		rf->waiting = true; /* again after the pause */
	if (rc < 0 && rc != -ESTALE)
		log_limited(&rf->limit, 1, LVL_WARNING,
			    "rules: servers that have just failed are not refused by rule: %s",
			    strerror(-rc));
	ev_timer_set(&rf->pause, PAUSE_S, 0.);
	ev_timer_start(rd->main.loop, &rf->pause);
}

static void pause_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct refuser *rf = container_of(t, struct refuser, pause);

	(void)loop;
	(void)events;
	if (rf->waiting)
		tell(rf);
}

static void wake_job(struct job *job, struct worker *w)
{
	struct refuser *rf = container_of(job, struct refuser, job);

	(void)w;
	atomic_store(&rf->posted, false);
	rf->waiting = true;
	if (!ev_is_active(&rf->pause))
		tell(rf);
}

static void wake(void *ctx)
{
	struct refuser *rf = ctx;

	if (!atomic_exchange(&rf->posted, true))
		worker_post(&rf->rd->main, &rf->job);
}

void refuser_sets_lost(struct refuser *rf)
{
	if (!rf)
		return;
	failed_untold(rf->rd->failed);
	wake(rf); /* later: the rules may just be coming */
}

/* ---- life ---- */

struct refuser *refuser_new(struct redir *rd)
{
	struct refuser *rf = calloc(1, sizeof(*rf));

	if (!rf)
		return NULL;
	rf->rd = rd;
	rf->job.run = wake_job;
	ev_timer_init(&rf->pause, pause_cb, PAUSE_S, 0.);
	rd->failed = failed_new(rd->conf->remember_failed_s, wake, rf);
	if (rd->failed)
		return rf;
	refuser_free(rf);
	return NULL;
}

void refuser_free(struct refuser *rf)
{
	if (!rf)
		return;
	ev_timer_stop(rf->rd->main.loop, &rf->pause);
	failed_free(rf->rd->failed);
	rf->rd->failed = NULL;
	free(rf);
}

void refuser_reload(struct refuser *rf)
{
	failed_set_ttl(rf->rd->failed, rf->rd->conf->remember_failed_s);
}

/* ---- what the rules have counted ---- */

static void add_counter(void *ctx, const char *chain, const char *name, uint64_t packets)
{
	uint64_t *sum = ctx;

	(void)chain;
	if (strcmp(name, "failed") == 0)
		*sum += packets;
}

uint64_t refuser_by_rule(struct redir *rd)
{
	struct rules *r = steer_rules(rd->steer);
	uint64_t sum = 0;

	if (r && rules_counters(r, add_counter, &sum) < 0)
		return 0;
	return sum;
}

/* ---- the command ---- */

static void list(struct control_request *rq, struct redir *rd)
{
	struct failed_item *v = calloc(FAILED_MAX, sizeof(*v));
	struct report *r = control_report(rq);
	char text[ADDR_STRLEN];
	unsigned n;

	if (!v) {
		control_fail(rq, "out of memory");
		return;
	}
	n = failed_list(rd->failed, worker_now(&rd->main), v);
	report_list(r, "failed");
	for (unsigned i = 0; i < n; i++) {
		report_row(r);
		report_str(r, "server", addr_str(&v[i].addr, text, sizeof(text)));
		report_str(r, "cause", strerror(v[i].err));
		report_str(r, "answer", failed_answer_str(failed_answer(v[i].err)));
		report_seconds(r, "left", v[i].left_s);
	}
	report_end(r);
	control_reply(rq);
	free(v);
}

static void flush(struct control_request *rq, struct redir *rd)
{
	report_u64(control_report(rq), "removed", failed_clear(rd->failed, worker_now(&rd->main)));
	control_reply(rq);
}

void refuser_command(struct control_request *rq, void *ctx)
{
	const char *verb = control_argc(rq) > 0 ? control_argv(rq, 0) : "list";

	if (control_argc(rq) <= 1 && strcmp(verb, "list") == 0)
		list(rq, ctx);
	else if (control_argc(rq) == 1 && strcmp(verb, "flush") == 0)
		flush(rq, ctx);
	else
		control_fail(rq, "usage: failed [list | flush]");
}
