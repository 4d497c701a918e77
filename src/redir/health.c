/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/health.h"

#define DOWN_AFTER 2 /* soft failures in a row */
#define BUSY_S     1.0
#define SOON_S     60.0 /* up for less than this, then down again: a relapse */
#define DOUBTS_MAX 2    /* good probes wanted beside the first, at most */

static const char *const words[] = {
	[UPSTREAM_UNPROVEN] = "unproven",
	[UPSTREAM_UP] = "up",
	[UPSTREAM_DOWN] = "down",
	[UPSTREAM_REJECTS] = "rejected",
};

const char *upstream_state_str(enum upstream_state state)
{
	return words[state];
}

/* The one function that changes the state. */
static bool change(struct health *h, double now_s, enum upstream_state state)
{
	if (h->state == state)
		return false;
	if (h->state == UPSTREAM_UP && state == UPSTREAM_DOWN) {
		bool soon = h->was_down && now_s - h->since_s < SOON_S;
		h->relapses = soon ? h->relapses + 1 : 0;
	}
	h->was_down |= state == UPSTREAM_DOWN;
	h->state = state;
	h->since_s = now_s;
	h->good = 0;
	h->trouble = h->in_question = false;
	return true;
}

void health_heard(struct health *h, double now_s)
{
	h->heard_s = now_s;
	h->trouble = h->in_question = false;
}

void health_ok(struct health *h, double now_s)
{
	health_heard(h, now_s);
	h->failures = 0;
}

bool health_overdue(struct health *h)
{
	bool before = h->trouble;

	h->trouble = h->state == UPSTREAM_UP;
	return h->trouble && !before;
}

bool health_question(struct health *h)
{
	bool before = h->in_question || h->trouble;

	h->in_question = h->state == UPSTREAM_UP;
	return h->in_question && !before;
}

void health_busy(struct health *h, double now_s)
{
	health_ok(h, now_s);
	h->busy_s = now_s + BUSY_S;
}

bool health_failed(struct health *h, double now_s, enum upstream_failure kind)
{
	bool down;

	h->failures++;
	h->good = 0;
	switch (kind) {
	case UPSTREAM_REJECTED:
		health_heard(h, now_s);
		return change(h, now_s, UPSTREAM_REJECTS);
	case UPSTREAM_SILENT:
		down = h->trouble || h->in_question || h->failures >= DOWN_AFTER;
		break;
	case UPSTREAM_SOFT:
		down = h->failures >= DOWN_AFTER;
		break;
	case UPSTREAM_HARD:
	default:
		down = true;
		break;
	}
	return down && change(h, now_s, UPSTREAM_DOWN);
}

unsigned health_wanted(const struct health *h)
{
	unsigned doubts = h->relapses < DOUBTS_MAX ? h->relapses : DOUBTS_MAX;

	if (h->state == UPSTREAM_UP)
		return 0;
	return h->state == UPSTREAM_DOWN && doubts + 1 > h->good ? doubts + 1 - h->good : 1;
}

bool health_proven(struct health *h, double now_s)
{
	bool enough = health_wanted(h) <= 1;

	health_ok(h, now_s);
	h->good++;
	return enough && change(h, now_s, UPSTREAM_UP);
}
