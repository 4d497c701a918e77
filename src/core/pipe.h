/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pipes through which bytes go from one TCP socket to another without being copied. They are
 * lent to a direction only while bytes are in them, so a few serve many connections; where there
 * is none, bytes are copied instead.
 */
#ifndef SIXPATH_PIPE_H
#define SIXPATH_PIPE_H

#include <stdbool.h>
#include <stdint.h>

/* What is put into one at most. The kernel counts slots, and a slot holds what one segment
 * carried; so what a pipe holds is limited here. Of 64 KiB, 256 KiB and 1 MiB, the last moves the
 * most bytes per CPU second (ARCHITECTURE, Speed). */
#define PIPE_BYTES (1u << 20)

struct pipe {
	struct pipe *next; /* of the free ones */
	int r, w;
	uint32_t len;   /* octets in it */
	double since_s; /* for its user: when they came */
	bool wide;      /* PIPE_BYTES large; or else as the kernel makes them: PIPE_NARROW slots */
};

#define PIPE_NARROW 16

/* One per worker, used by that worker's thread only. */
struct pipepool {
	struct pipe *free;
	unsigned n;   /* pipes that exist, */
	unsigned max; /* and at most */
	unsigned lent;
	unsigned spare; /* free ones that nobody has wanted since the last trim */
};

/* The kernel lets a user without privileges have 64 wide ones (fs.pipe-user-pages-soft). */
#define PIPES_MAX 16

void pipepool_init(struct pipepool *p, unsigned max);
void pipepool_fini(struct pipepool *p); /* every pipe must have been given back */

/* A wide pipe, empty. NULL = there are enough, or the kernel grants no more. */
struct pipe *pipe_take(struct pipepool *p);
/* The same, narrow. */
struct pipe *pipe_take_narrow(struct pipepool *p);
/* Make it wide, with what is in it, if the kernel lets us and no free one is there. */
void pipe_widen(struct pipepool *p, struct pipe *pipe);
/* Close what nobody has wanted since the last call. */
void pipepool_trim(struct pipepool *p);
/* Back to the pool; if bytes are in it they are lost. */
void pipe_give(struct pipepool *p, struct pipe *pipe);

#endif
