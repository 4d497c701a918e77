/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connection that comes from a proxy's port to a server of the LAN ([forward NAME]): a further
 * BIND that waits for a peer, then the dial to the server with the peer's address, then the relay.
 * Belongs to one worker.
 */
#ifndef REDIR_INBOUND_H
#define REDIR_INBOUND_H

#include <stddef.h>

#include "core/reason.h"
#include "core/worker.h"

struct redir_worker;
struct report;
struct wan_usage;

/* job: of a struct ticket (forward.h). */
void inbound_begin(struct job *job, struct worker *w);
/* End those that wait for a peer, or all. */
void inbound_leave(struct redir_worker *rw);
void inbound_end_all(struct redir_worker *rw, enum end_reason reason);
/* Octets of a worker's, without buffers. */
size_t inbound_memory(const struct redir_worker *rw);
/* A row for each that has a peer, as of flow_report_all. */
void inbound_report_all(struct redir_worker *rw, struct report *r);
/* As flow_usage. */
void inbound_usage(struct redir_worker *rw, struct wan_usage *u);

#endif
