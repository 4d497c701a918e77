/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Connections in relay as witnesses that a proxy lives: what the server sends through it keeps
 * coming. On a line that is full, or loses much, a SYN and its repetitions may go unanswered
 * although nothing is wrong with the proxy; that is when they are asked. Stateless: the kernel
 * knows when data came last, so nothing is written down as bytes pass.
 */
#ifndef REDIR_WITNESS_H
#define REDIR_WITNESS_H

#include <stdbool.h>

struct redir;
struct redir_worker;
struct upstream;

/* On the worker's thread: data have come from it within the last so many seconds, on one of this
 * worker's connections in relay (of which no more than some are looked at). */
bool witness_here(const struct redir_worker *rw, const struct upstream *up, double within_s);

/* On any worker; done is called on the main one, with up, for which a reference is kept until
 * then. 0 or -ENOMEM: then it is not called. */
int witness_ask(struct redir *rd, struct upstream *up, double within_s,
		void (*done)(struct redir *rd, struct upstream *up, bool lives));

#endif
