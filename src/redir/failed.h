/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Servers that could not be reached a moment ago: (address, port) -> errno. A new connection to one
 * of them is refused at once, as the server's side would have done it, instead of being accepted
 * and then reset. Shared by all workers; locks itself. Times are seconds of worker_now.
 *
 * Only outcomes that are the server's are remembered, each for the time to live from when it was
 * seen; what is refused because of it is no outcome and prolongs nothing. A success removes the
 * entry, and for as long as it would have lasted a failure is not believed: outcomes differ. The
 * table is bounded, the oldest entry makes room.
 */
#ifndef REDIR_FAILED_H
#define REDIR_FAILED_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "redir/held.h"

#define FAILED_MAX 1024 /* entries */

struct failed;

/* From any thread, with no lock held: there is something for failed_tell, and was nothing before.
 * May be NULL. */
typedef void failed_wake_fn(void *ctx);

/* NULL = out of memory. */
struct failed *failed_new(double ttl_s, failed_wake_fn *wake, void *ctx);
void failed_free(struct failed *f); /* NULL is allowed */
/* 0: nothing is remembered, and what was is forgotten. Lives already given stay. */
void failed_set_ttl(struct failed *f, double ttl_s);

/* What a connection gets whose server failed with err (errno); HELD_GO_ON: says nothing about the
 * server, is not remembered. A server that did not answer counts as a host that is not there. */
enum held_answer failed_answer(int err);
const char *failed_answer_str(enum held_answer a); /* as in the names of the sets, "reset" ... */

/* The server could not be reached. True: it is remembered. */
bool failed_put(struct failed *f, const struct addr *a, int err, double now_s);
/* It was reached. */
void failed_succeeded(struct failed *f, const struct addr *a, double now_s);
/* The errno that is remembered, or 0. count: a connection is refused for it. */
int failed_look(struct failed *f, const struct addr *a, double now_s, bool count);
/* Forgets all. Returns how many there were. */
unsigned failed_clear(struct failed *f, double now_s);

struct failed_item {
	struct addr addr;
	int err;
	double left_s;
};
/* All that are remembered, at most FAILED_MAX, oldest first. Returns how many. */
unsigned failed_list(struct failed *f, double now_s, struct failed_item *out);

struct failed_counts {
	unsigned now;
	uint64_t remembered, refused; /* refused: by the daemon, not those by rule */
	uint64_t recovered;           /* a success came before the time was over */
	uint64_t disputed;            /* failures not believed after such a success */
	uint64_t evicted;             /* made room */
};
void failed_count(struct failed *f, double now_s, struct failed_counts *out);

/* ---- for the mirror in the kernel (refuser.c) ---- */

struct failed_change {
	struct addr addr;
	enum held_answer answer;
	bool add;       /* or delete */
	uint32_t ttl_s; /* of an added one, at least 1 */
};
#define FAILED_CHANGES (2 * FAILED_MAX)
/* What has changed since the last call: all that is to be deleted first. Returns how many, at most
 * FAILED_CHANGES. */
unsigned failed_tell(struct failed *f, double now_s, struct failed_change *out);
/* The mirror is empty. */
void failed_untold(struct failed *f);

#endif
