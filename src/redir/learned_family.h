/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rules of the learned table, for the entries of one address family: how long they last, which
 * evidence gives way to which, what the mirrors are told. All of it needs the family's lock, which
 * learned.c holds.
 */
#ifndef REDIR_LEARNED_FAMILY_H
#define REDIR_LEARNED_FAMILY_H

#include <pthread.h>

#include "redir/learned.h"
#include "redir/learned_journal.h"
#include "redir/learned_table.h"

struct family {
	pthread_mutex_t lock;
	struct table table;
	struct journal *journal; /* of both families */
	double ttl_s, plain_ttl_s;
	unsigned n[LEARNED_VERDICTS];
	uint32_t sweep; /* where learned_expire goes on */
	uint64_t evicted, saved;
};

/* False: no memory or no random numbers; family_free is right in both cases. */
bool family_init(struct family *f, const struct learned_limits *limits, struct journal *j);
void family_free(struct family *f);
void family_set_ttl(struct family *f, const struct learned_limits *limits);

/* Deals with an entry that may have ended. False: it is gone. */
bool family_settle(struct family *f, struct slot *s, double now_s);
/* NULL: there is none, or it has ended. One found may be LEARNED_UNKNOWN: see family_settle. */
struct slot *family_find(struct family *f, const struct addr *key, double now_s);
/* A new one, LEARNED_UNKNOWN; another may have to go. NULL: no room. */
struct slot *family_add(struct family *f, const struct addr *key, double now_s);
void family_drop(struct family *f, struct slot *s);
/* Does what an entry has give way to new evidence? */
bool family_yields(const struct slot *s, enum learned_evidence e);
void family_change(struct family *f, struct slot *s, enum learned_verdict v,
		   enum learned_evidence e, double admin_ttl_s, double now_s);
/* Fills a new entry from a saved one. */
void family_restore(struct family *f, struct slot *s, const struct learned_item *item,
		    double now_s);

#endif
