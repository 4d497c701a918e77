/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who speaks MPTCP: (address, port) -> yes or no, with the evidence. Shared by all workers; locks
 * itself, IPv4 and IPv6 apart. Bounded: the least recently used entry makes room, and a stranger
 * cannot choose keys that collide. IPv4-mapped addresses count as IPv4.
 *
 * Times are seconds of one monotonic clock, given by the caller. Entries end after a time to live:
 * a "no" sooner than a "yes", because servers learn to speak MPTCP more often than they forget it.
 * The direct path knows best: what a direct dial found missing, neither a proxy's reply nor a seen
 * SYN+ACK brings back before that "no" has ended, and each further one lasts twice as long.
 * What the administrator said changes only by his word, and never makes room for others.
 */
#ifndef REDIR_LEARNED_H
#define REDIR_LEARNED_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

enum learned_verdict { LEARNED_UNKNOWN, LEARNED_MPTCP, LEARNED_PLAIN, LEARNED_VERDICTS };

/* The stronger the greater. */
enum learned_evidence {
	LEARNED_FROM_SYNACK, /* one with MP_CAPABLE was seen */
	LEARNED_FROM_PROXY,  /* its operation reply */
	LEARNED_FROM_DIRECT, /* a dial from here */
	LEARNED_FROM_ADMIN,
	LEARNED_EVIDENCES
};

const char *learned_verdict_str(enum learned_verdict v);   /* "unknown", "mptcp", "plain" */
const char *learned_evidence_str(enum learned_evidence e); /* "synack", "proxy", ... */

#define LEARNED_MAX_MAX     (1u << 20)          /* a greater max is taken for this */
#define LEARNED_TTL_MAX_S   (366 * 24 * 3600.0) /* so is a greater time to live */
#define LEARNED_PLAIN_TTL_S (24 * 3600.0)       /* to which a "no" from direct dials grows */

struct learned_limits {
	unsigned max;       /* entries of each family; 0 = nothing is learned */
	double ttl_s;       /* of a "yes" */
	double plain_ttl_s; /* of a "no" */
};

struct learned;

/* journal: changes kept for learned_drain, 0 = none are. NULL: no memory or no random numbers. */
struct learned *learned_new(const struct learned_limits *limits, unsigned journal);
void learned_free(struct learned *l);
/* Entries that are too many go at once; lifetimes already given stay. 0, or -ENOMEM: the old max
 * (of one family or both) stays, too. */
int learned_set_limits(struct learned *l, const struct learned_limits *limits);

/* count_hit: a connection asks (counted; the entry becomes the most recently used). */
enum learned_verdict learned_look(struct learned *l, const struct addr *a, double now_s,
				  bool count_hit);
/* LEARNED_MPTCP or LEARNED_PLAIN is news. False: the table does not say so now, because what it
 * has weighs more, or there is no room, or the address is none. From the administrator: for ever. */
bool learned_put(struct learned *l, const struct addr *a, enum learned_verdict v,
		 enum learned_evidence e, double now_s);
/* The administrator's word for ttl_s seconds. */
bool learned_put_admin(struct learned *l, const struct addr *a, enum learned_verdict v,
		       double ttl_s, double now_s);
/* Whatever it is. False: it was not there. */
bool learned_remove(struct learned *l, const struct addr *a);
/* Removes all, also the administrator's, and ends a pause of direct dialling. Returns how many. */
unsigned learned_clear(struct learned *l);
/* So many octets went past the proxy. */
void learned_saved(struct learned *l, const struct addr *a, uint64_t octets);
/* Removes what has ended; for a timer. Looks at no more than budget entries of each family and
 * goes on there the next time. Returns how many were removed. */
unsigned learned_expire(struct learned *l, double now_s, unsigned budget);

struct learned_counts {
	struct learned_family_counts {
		unsigned mptcp, plain; /* also those that have ended and wait for learned_expire */
		unsigned admin;        /* of these */
		unsigned slots, max;   /* slots: for which there is memory */
		uint64_t evicted;      /* made room for others */
	} v4, v6;
	uint64_t saved; /* octets, also of entries that are gone */
};
void learned_count(struct learned *l, struct learned_counts *out);

/* One entry. */
struct learned_item {
	struct addr addr;
	enum learned_verdict verdict;
	enum learned_evidence evidence;
	double created_s; /* since when the verdict is so */
	double expires_s; /* INFINITY: never */
	uint64_t hits, saved;
	int64_t used; /* the greater the more recently, within a family */
};

/* Whole seconds, rounded up, of what an entry has left; 0 = it never ends. */
uint32_t learned_seconds(double left_s);

/* False: nothing is known. Does not count as a use. */
bool learned_get(struct learned *l, const struct addr *a, double now_s, struct learned_item *out);

/* Where a listing is; starts zeroed. */
struct learned_cursor {
	unsigned family;
	uint32_t slot;
	uint64_t serial;
};
/* The next up to n entries, 0 at the end. IPv4 first, in no order. The lock is held for short
 * times only: entries that come or go meanwhile may be missed, none is told twice. */
unsigned learned_list(struct learned *l, struct learned_cursor *c, double now_s,
		      struct learned_item *out, unsigned n);

/* Takes an entry from a saved table: as the least recently used, so the most recent goes first.
 * expires_s is cut to what a new entry would get at most. False: it is there already, or there is
 * no room, or it has ended. */
bool learned_restore(struct learned *l, const struct learned_item *item, double now_s);

/* ---- for mirrors of the "yes" entries (sets in the kernel) ---- */

enum learned_what {
	LEARNED_ADD,
	LEARNED_REMOVE, /* it may have ended by itself in the mirror already */
	LEARNED_REFRESH /* ends later (or sooner) now; add it if the mirror has it no more */
};

struct learned_change {
	struct addr addr;
	enum learned_what what;
	uint32_t ttl_s; /* as learned_seconds; 0 with LEARNED_REMOVE */
};

/* Takes up to n changes, oldest first; for one reader. *resync: there were too many since the last
 * call and they are lost; list the whole table, make the mirror the same, then go on draining (a
 * change that the listing knew already does no harm). A lifetime that grew by no more than a tenth
 * of the time to live is not told. */
unsigned learned_drain(struct learned *l, struct learned_change *out, unsigned n, bool *resync);

/* ---- is the direct path any good? ---- */

#define LEARNED_DIRECT_FAILURES    5 /* different addresses in a row */
#define LEARNED_DIRECT_PAUSE_S     60.0
#define LEARNED_DIRECT_PAUSE_MAX_S 3600.0

/* ok: the dial to a itself gave MPTCP. Failures of many destinations in a row pause direct
 * dialling, twice as long each time; one success ends that. What fails during a pause was under
 * way before it and does not count. This does not touch the table: call learned_put as well. */
void learned_direct_result(struct learned *l, const struct addr *a, double now_s, bool ok);
bool learned_direct_allowed(struct learned *l, double now_s);
double learned_direct_paused(struct learned *l, double now_s); /* seconds left; 0 = allowed */

#endif
