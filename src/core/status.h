/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the control commands of both daemons have in common: a walk over the workers that ends
 * in an answer, and the fields that every status has.
 */
#ifndef SIXPATH_STATUS_H
#define SIXPATH_STATUS_H

#include <stdint.h>

#include "core/control.h"
#include "core/reason.h"
#include "core/report.h"

struct listeners;
struct worker;

/*
 * A walk over all workers. The first member of what its owner has allocated; that is freed
 * with free() after done, in any case: at shutdown workers_stop sees walks to their end.
 */
struct survey {
	struct control_request *rq; /* is answered after done; NULL: for the log */
	void (*visit)(struct worker *w, struct survey *s); /* on each worker, one after another */
	void (*done)(struct survey *s);                    /* on the main worker, in the end */
};

/* Takes s. NULL (out of memory) makes rq fail, as does a walk that cannot start. */
void survey_start(struct survey *s, struct control_request *rq, struct worker *main_worker,
		  struct worker *const *workers, unsigned n);

/* Answer rq with a list of rows that the workers add to one after another. */
void survey_rows(struct control_request *rq, const char *list,
		 void (*rows)(struct worker *w, struct report *r), struct worker *main_worker,
		 struct worker *const *workers, unsigned n);

/* daemon, version, pid, uptime. */
void status_head(struct report *r, const char *name, double uptime_s);
/* How many descriptors this process has open; costs a look at each. */
uint64_t status_descriptors_open(void);
/* The same, and how many it may have. */
void status_descriptors(struct report *r, unsigned long limit);
/* The addresses; with what the kernel does on each of them, if asked for. */
void status_listeners(struct report *r, const struct listeners *ls, bool with_granted);
/* The same with a name for the list. */
void status_listeners_as(struct report *r, const char *list, const struct listeners *ls,
			 bool with_granted);
/* How often connections ended for each reason. */
void status_ended(struct report *r, const uint64_t ended[END__COUNT]);

#endif
