/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is an upstream to be used? Told of every reply, every failure and every probe, it says so,
 * and keeps from flapping: the sooner an upstream fails again, the more good probes it takes to
 * be trusted. Pure; the upstream locks. Times are seconds of worker_now.
 */
#ifndef REDIR_HEALTH_H
#define REDIR_HEALTH_H

#include <stdbool.h>

enum upstream_state {
	UPSTREAM_UNPROVEN, /* no NOOP has been answered yet: gets no flows */
	UPSTREAM_UP,
	UPSTREAM_DOWN,    /* failed; NOOPs go on with growing pauses */
	UPSTREAM_REJECTS, /* alive, but it does not accept our credentials; NOOPs are rare */
	UPSTREAM__STATES
};

/* How an attempt failed. */
enum upstream_failure {
	UPSTREAM_SOFT, /* closed, reset, timed out: down after two in a row */
	UPSTREAM_SILENT, /* a probe got no answer: the same, but down at once after a sign of trouble */
	UPSTREAM_HARD,    /* refused, or not SOCKSv6: down at once */
	UPSTREAM_REJECTED /* it does not accept our credentials */
};

struct health {
	enum upstream_state state;
	double since_s;    /* of this state */
	double heard_s;    /* the last reply of any kind; 0 = none yet */
	bool trouble;      /* something waits for an answer longer than it should */
	bool in_question;  /* another upstream is in trouble: the next probe decides here too */
	unsigned failures; /* in a row */
	unsigned relapses; /* in a row: how often it failed again soon after it had come up */
	unsigned good;     /* probes in a row while it is down */
	bool was_down;
	double busy_s; /* it said so, and is used last until then */
};

/* Something came from it. */
void health_heard(struct health *h, double now_s);
/* An operation was answered properly: failures are forgiven. */
void health_ok(struct health *h, double now_s);
/* An answer is overdue: use others first, and probe it. True if that is news. */
bool health_overdue(struct health *h);
/* The same has befallen another one. True if that is news. */
bool health_question(struct health *h);
/* It has answered, but that it cannot at the moment: use others first for a while. */
void health_busy(struct health *h, double now_s);
/* True if the state has changed. */
bool health_failed(struct health *h, double now_s, enum upstream_failure kind);
/* A probe was answered properly. True if the state has changed. */
bool health_proven(struct health *h, double now_s);
/* How many good probes are still needed before it is up; 0 if it is. */
unsigned health_wanted(const struct health *h);

const char *upstream_state_str(enum upstream_state state);

#endif
