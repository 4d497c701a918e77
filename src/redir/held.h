/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Held SYNs ([connect] verify): a device's SYN waits in a queue of the kernel until it is known
 * what comes of the connection upstream. Then it goes on, and its connection is accepted as any
 * other, or it is answered with what the server would have answered.
 *
 * Shared by all workers; locks itself. Worker 0 reads the queue and hands each SYN to one of the
 * workers in turn, whose flow owns it from then on. What cannot be held (too many, no memory, no
 * queue, no daemon) goes on at once, and is answered before the server has been asked.
 */
#ifndef REDIR_HELD_H
#define REDIR_HELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/worker.h"

#define HELD_QUEUE 10662 /* number of the queue; the same as in redirect-rules/common.sh */
#define HELD_MAX   1024  /* connections at a time */

struct held;

enum held_answer {
	HELD_NONE = -1, /* yet */
	HELD_GO_ON,
	HELD_RESET,
	HELD_HOST_UNREACHABLE,
	HELD_NET_UNREACHABLE,
	HELD_PROHIBITED,
	HELD_SILENCE /* the device tries again */
};

struct held_syn {
	struct addr src, dst; /* without scope */
	void *flow;           /* its owner's; set by held_start_fn */
	const uint8_t *data;  /* Fast Open */
	size_t data_len;
	uint8_t dscp;

	/* private */
	struct held *held;
	struct held_syn *next;
	struct job job;
	struct worker *w;
	uint32_t id, mark;       /* of the latest SYN; under the lock */
	enum held_answer answer; /* likewise */
};

/* On worker w: a connection that begins. It has to be answered and freed. */
typedef void held_start_fn(struct worker *w, struct held_syn *s);

/* NULL = out of memory. */
struct held *held_new(struct worker *const *workers, unsigned n, held_start_fn *start);
/* The workers' threads must have ended; their loops are still there. NULL is allowed. */
void held_free(struct held *h);
/* The rules send SYNs to the queue from now on: have it open. Main thread; may be repeated. */
void held_want(struct held *h);
/* On worker 0: from now on all goes on at once. */
void held_stop(struct held *h);

/* ---- from any thread ---- */

/* Once: what comes later has no effect. */
void held_answer(struct held_syn *s, enum held_answer a);
/* Also lets it go on if it was not answered. NULL is allowed. */
void held_syn_free(struct held_syn *s);
/* Whether there is any: spares the next two. */
bool held_any(struct held *h);
/* An accepted connection: the worker that has its flow, NULL = it was not held. */
struct worker *held_owner(struct held *h, const struct addr *src, const struct addr *dst);
/* On that worker: its flow, NULL = it has ended. */
void *held_flow(struct held *h, const struct worker *w, const struct addr *src,
		const struct addr *dst);

struct held_counts {
	bool open; /* the queue */
	unsigned now;
	uint64_t total, refused, repeated; /* repeated: SYNs that were sent again */
	uint64_t overflowed;               /* went on at once, because there were too many */
};
void held_count(struct held *h, struct held_counts *out);

#endif
