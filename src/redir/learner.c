/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/learner.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "redir/learned_file.h"
#include "redir/learned_text.h"
#include "redir/redir.h"
#include "redir/steer.h"

#define TICK_S     1.0
#define SAVE_S     300.0
#define BUDGET     1024 /* entries looked at in a tick */
#define JOURNAL    4096
#define PLAIN_PART 4.0 /* a "no" is kept for so much less time than a "yes" */
#define PLAIN_MOST 600.0

struct learner {
	struct redir *rd;
	ev_timer tick;
	bool hands_off; /* the file is our successor's */
	double saved_s; /* when it was saved last */
};

double learner_now(const struct redir *rd)
{
	return worker_now(&rd->main);
}

static struct learned_limits limits_of(const struct redir_conf *c)
{
	double plain = c->learned_ttl_s / PLAIN_PART;

	return (struct learned_limits){.max = (unsigned)c->learned_max,
				       .ttl_s = c->learned_ttl_s,
				       .plain_ttl_s = plain < PLAIN_MOST ? plain : PLAIN_MOST};
}

/* ---- the file ---- */

/* False: nothing is kept. */
static bool file_path(const struct redir_conf *c, char *path, size_t cap)
{
	int n;

	if (!c->save || !c->state_dir || !*c->state_dir)
		return false;
	n = snprintf(path, cap, "%s/learned", c->state_dir);
	return n > 0 && (size_t)n < cap;
}

static void load(struct learner *lr)
{
	struct redir *rd = lr->rd;
	char path[PATH_MAX], msg[LEARNED_TEXT_MSG];
	int rc;

	if (!file_path(rd->conf, path, sizeof(path)))
		return;
	rc = learned_file_load(rd->learned, path, learner_now(rd), (uint64_t)time(NULL), msg,
			       sizeof(msg));
	if (rc == 0 || rc == -ENOENT)
		log_info("%s: %s", path, msg);
	else
		log_warning("%s: %s; beginning with none", path, msg);
}

static void save(struct learner *lr)
{
	struct redir *rd = lr->rd;
	char path[PATH_MAX], msg[LEARNED_TEXT_MSG];

	lr->saved_s = learner_now(rd);
	if (lr->hands_off || !file_path(rd->conf, path, sizeof(path)))
		return;
	if (learned_file_save(rd->learned, path, lr->saved_s, (uint64_t)time(NULL), msg,
			      sizeof(msg)) < 0)
		log_warning("%s: %s", path, msg);
}

void learner_sync(struct redir *rd)
{
	steer_learned(rd->steer);
}

const char *learner_backend(const struct redir *rd)
{
	return steer_backend(rd->steer);
}

static void tick_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct learner *lr = container_of(t, struct learner, tick);
	struct redir *rd = lr->rd;

	(void)loop;
	(void)events;
	learned_expire(rd->learned, learner_now(rd), BUDGET);
	steer_tick(rd->steer);
	if (learner_now(rd) - lr->saved_s >= SAVE_S)
		save(lr);
}

struct learner *learner_new(struct redir *rd)
{
	struct learned_limits limits = limits_of(rd->conf);
	struct learner *lr = calloc(1, sizeof(*lr));

	if (!lr)
		return NULL;
	lr->rd = rd;
	rd->learned = learned_new(&limits, JOURNAL);
	if (!rd->learned) {
		free(lr);
		return NULL;
	}
	load(lr);
	lr->saved_s = learner_now(rd);
	ev_timer_init(&lr->tick, tick_cb, TICK_S, TICK_S);
	ev_timer_start(rd->main.loop, &lr->tick);
	return lr;
}

void learner_hand_over(struct learner *lr, bool off)
{
	if (off)
		save(lr);
	lr->hands_off = off;
}

void learner_free(struct learner *lr)
{
	struct redir *rd;

	if (!lr)
		return;
	rd = lr->rd;
	ev_timer_stop(rd->main.loop, &lr->tick);
	save(lr);
	learned_free(rd->learned);
	rd->learned = NULL;
	free(lr);
}

void learner_reload(struct learner *lr)
{
	struct learned_limits limits = limits_of(lr->rd->conf);

	if (learned_set_limits(lr->rd->learned, &limits) < 0)
		log_error("reload: out of memory; the learned table keeps its size");
}
