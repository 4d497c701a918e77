/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Waits until all workers' connections have ended by themselves, or a deadline has come and they
 * are ended. Nothing new may come any more. Embedded in the daemon; main thread only.
 */
#ifndef SIXPATH_DRAIN_H
#define SIXPATH_DRAIN_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>

struct worker;

struct drain {
	/* set by the owner before the start */
	struct worker *main_worker;
	struct worker *const *workers;
	unsigned n;
	size_t (*live)(struct worker *w);  /* on the worker: how many there are */
	void (*end_all)(struct worker *w); /* on the worker */
	void (*done)(void *ctx);           /* in the main loop, once */
	void *ctx;
	/* private */
	ev_timer look, deadline;
	size_t sum, left; /* of the look under way, of the last one */
	bool runs, looking, cut;
};

/* limit_s = 0: end them now. */
void drain_start(struct drain *d, double limit_s);
/* The deadline has come early. */
void drain_cut(struct drain *d);
/* Without a word; harmless when it does not run. Before the main loop is freed. */
void drain_end(struct drain *d);

#endif
