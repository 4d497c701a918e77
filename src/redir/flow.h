/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One captured connection, from accept to its log line. Belongs to the worker that accepted
 * it and frees itself when it has ended.
 */
#ifndef REDIR_FLOW_H
#define REDIR_FLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/reason.h"

struct held_syn;
struct redir;
struct redir_worker;
struct report;
struct wan_usage;
struct worker;

/* Takes the descriptor. */
void flow_start(struct redir_worker *rw, int fd, const struct addr *src);

/* A connection of our own, such as one end of a socket pair: to dst through a proxy, or not at all.
 * Takes the descriptor; what can be read from it now is sent with the request. It may end at once. */
void flow_start_to(struct redir_worker *rw, int fd, const struct addr *src, const struct addr *dst);
/* Before the threads start: what the front door needs. False = out of memory, or no thread. */
bool flow_front_open(struct redir *rd);
/* When nobody asks any more and the workers still take mail; what flows need is left. */
void flow_front_close(struct redir *rd);
/* As flow_start for one that came to the front door. */
void flow_front_start(struct redir_worker *rw, int fd, const struct addr *src);
/* Before the worker's loop ends: programs that were told why not are waited for no longer. */
void flow_front_leave(struct redir_worker *rw);

/* The same for a connection whose SYN is held; a held_start_fn. */
void flow_hold(struct worker *w, struct held_syn *s);

/* End all flows of a worker. */
void flow_end_all(struct redir_worker *rw, enum end_reason reason);

/* Octets of a worker's flows, without buffers. */
uint64_t flow_memory(const struct redir_worker *rw);

/* Add what its relayed flows carry upstream; of many thousand flows not all are asked. */
void flow_usage(struct redir_worker *rw, struct wan_usage *u);

/* A row for each flow of the worker. */
void flow_report_all(struct redir_worker *rw, struct report *r);

#endif
