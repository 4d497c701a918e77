/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A worker is a thread with an event loop, a buffer pool, a list of things to
 * free at the end of the loop turn, and a mailbox. Everything a worker's
 * callbacks touch belongs to that worker. The main thread is a worker as well
 * (worker_init without worker_start; it runs ev_run itself).
 */
#ifndef SIXPATH_WORKER_H
#define SIXPATH_WORKER_H

#include <ev.h>
#include <pthread.h>
#include <stdbool.h>

#include "core/buf.h"
#include "core/list.h"
#include "core/pipe.h"
#include "core/wheel.h"

#define RELAY_OWNERS 4 /* kinds of them in one program, at most */

struct relay_ops;
struct worker;

/* A message to a worker, embedded in its sender's struct. run owns the job. */
struct job {
	struct list_node node;
	void (*run)(struct job *job, struct worker *w);
};

/* Something to be freed when no event of this loop turn can refer to it any more. */
struct corpse {
	struct list_node node;
	void (*bury)(struct corpse *c);
};

struct worker {
	struct ev_loop *loop;
	unsigned index; /* 0.. for workers, UINT_MAX for the main thread */
	void *owner;    /* the daemon's per-worker state */
	struct bufpool pool;
	struct wheel relays; /* those that run, by when they are looked at next */
	struct pipepool pipes;
	const struct relay_ops *relay_ops[RELAY_OWNERS]; /* relay.c's; unused ones are NULL */

	/* private */
	double now_s;
	pthread_t thread;
	bool started;
	ev_async wake;
	struct list corpses;
	pthread_mutex_t lock;
	struct list mail;
};

/* 0 or -errno. The loop exists afterwards, so watchers may be set up before the start. */
int worker_init(struct worker *w, unsigned index, void *owner);
/* Start the thread with all signals blocked. 0 or -errno. */
int worker_start(struct worker *w);
/* Ask the loop to end (from any thread), then join. Jobs still in the mailbox are run. */
void worker_stop(struct worker *w);
/* Start all n threads, in order; 0 or -errno of the first that cannot be started. */
int workers_start(struct worker *const *workers, unsigned n);
/* Stop all n, then run what they have sent to the main worker, whose loop does not run any more.
 * So every gather that was under way comes to its end. */
void workers_stop(struct worker *main_worker, struct worker *const *workers, unsigned n);
/* Free the loop; everything of the worker's must have been stopped. */
void worker_fini(struct worker *w);

/* On w's thread: seconds of a clock that does not leap, as of this loop turn. Its zero means
 * nothing, but is the same for all workers. Durations and deadlines are reckoned with this one;
 * ev_now is the time of day, which NTP sets while we run. */
static inline double worker_now(const struct worker *w)
{
	return w->now_s;
}

/* From any thread: run the job on worker w, in order of posting. */
void worker_post(struct worker *w, struct job *job);

/* On w's thread: bury c at the end of the loop turn. */
void worker_bury(struct worker *w, struct corpse *c);

/*
 * Run visit on each of the n workers, one after the other, then done on the main
 * worker. The caller returns at once; gathers end in the order of their start. ctx passes from thread to thread, so neither
 * function needs a lock. Answers -ENOMEM if it cannot start.
 */
int worker_gather(struct worker *main_worker, struct worker *const *workers, unsigned n,
		  void (*visit)(struct worker *w, void *ctx), void (*done)(void *ctx), void *ctx);

#endif
