/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many connections this process can carry: by descriptors (two each) and by memory (buffers
 * and the flows themselves; not what the kernel keeps for sockets). Near the limit the daemon is told
 * (the redirector captures no more, the proxy refuses), and connections without a byte for long are
 * ended, the idlest first; with room again it is told so.
 *
 * Owned by the daemon. Workers count their flows with budget_take and budget_give; all else is
 * the main thread's.
 */
#ifndef SIXPATH_BUDGET_H
#define SIXPATH_BUDGET_H

#include <ev.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/log.h"
#include "core/worker.h"

struct report;

/* Marks, in hundredths of the limit. */
#define BUDGET_HIGH 90
#define BUDGET_LOW  80

/* Descriptors kept for what is no flow: control, proxies' checks, names, rules. */
#define BUDGET_RESERVE 32

enum budget_state { BUDGET_FREE, BUDGET_FLOWS, BUDGET_MEMORY }; /* or what is short */

/* ---- pure ---- */

/* How many flows fit when base descriptors are used otherwise. At least 1. */
uint64_t budget_flows_max(uint64_t nofile, uint64_t base);
/* Octets that "auto" comes to on a machine with so much. */
uint64_t budget_memory_auto(uint64_t machine);
/* The state after this look, with hysteresis. */
enum budget_state budget_judge(enum budget_state was, uint64_t flows, uint64_t flows_max,
			       uint64_t memory, uint64_t memory_max);
/* How many of so many flows to end now, while they are above the low mark. */
uint64_t budget_quota(uint64_t flows, uint64_t flows_max);

/* Time to give the kernel back what malloc keeps: so many flows are gone that it is worth the walk.
 * peak: most flows since the last time; private. */
bool budget_trims(uint64_t *peak, uint64_t flows);

/* ---- in the daemon ---- */

struct budget_wishes {
	struct worker *main_worker;
	struct worker *const *workers;
	unsigned n;
	unsigned long nofile; /* descriptors this process may have */
	uint64_t flows_max;   /* how many fit; 0: found out from nofile now and then */
	bool keep_idle;       /* flows hold descriptors as long as they like */
	int memory_mib;       /* limit; 0 = auto */
	uint64_t (*memory)(
		struct worker *w); /* on the worker: octets of its flows beside buffers */
	/* The state is another. Returns what that means for new connections, for the log. */
	const char *(*changed)(void *ctx, enum budget_state state);
	void *ctx;
};

struct budget {
	struct budget_wishes wishes;
	ev_timer tick;
	struct job wake;
	atomic_bool woken;
	atomic_uint_fast64_t flows;     /* now */
	atomic_uint_fast64_t flows_max; /* and at most */
	uint64_t base;                  /* descriptors that are no flow's */
	uint64_t memory, memory_max;    /* octets, as of the last look */
	enum budget_state state;
	atomic_bool no_memory;      /* state is BUDGET_MEMORY; for workers */
	atomic_uint_fast64_t share; /* a worker's, of memory_max */
	uint64_t peak;              /* of flows, see budget_trims */
	uint64_t pauses, shed;      /* how often, how many flows were ended */
	unsigned ticks;
	bool looking;
	struct log_limit limit;
};

/* Before the workers start; all other descriptors are open. */
void budget_start(struct budget *b, const struct budget_wishes *wishes);
/* There is a new configuration. */
void budget_reload(struct budget *b, int memory_mib);
/* Look no more: we take no new flows. Harmless when it was not started. */
void budget_stop(struct budget *b);

/* On a worker: one flow more. False: no, not even by ending an idle one. */
bool budget_take(struct budget *b, struct worker *w);
void budget_give(struct budget *b);
/* On a worker: memory is short, as of the last look or by its own share, which it may reach
 * between two looks. */
bool budget_short_of_memory(struct budget *b, const struct worker *w);

/* free: name of the field that says whether there is room, or NULL. */
void budget_report(const struct budget *b, const char *free, struct report *r);

#endif
