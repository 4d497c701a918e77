/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Port forwarding ([forward NAME]): a port at a proxy, whose peers are connected to a server of the
 * LAN. The main thread keeps the control connection of each forward (BIND with a backlog) and has it
 * back after any loss, after pauses that grow; and it sees to it that so many further BINDs are
 * ready for peers. Those are on the workers, in turn (inbound.h).
 *
 * A ticket goes to a worker, which begins an inbound with it, and comes back once: when a peer has
 * come, or the request has failed.
 */
#ifndef REDIR_FORWARD_H
#define REDIR_FORWARD_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/worker.h"
#include "redir/redir_conf.h"

struct bindreq;
struct control_request;
struct forward;
struct forwards;
struct redir;
struct upstream;

/* What all threads see of a forward; counted. */
struct forward_shared {
	atomic_uint refs;
	/* immutable */
	char *name;
	struct addr to[FORWARD_TARGETS];
	unsigned n_to;
	enum forward_source source;
	struct upstream *up; /* a reference */
	/* counters */
	atomic_uint ready, active;
	atomic_uint_fast64_t served, failed, unnamed, bytes_up, bytes_down;
};

struct forward_shared *forward_shared_get(struct forward_shared *s);
void forward_shared_put(struct forward_shared *s);

enum ticket_outcome { TICKET_PEER, TICKET_TIMED_OUT, TICKET_FAILED };

struct ticket {
	struct job job;
	struct redir *rd;
	struct forward_shared *shared; /* a reference */
	struct addr bound;
	unsigned session;    /* its number */
	unsigned generation; /* of the control connection */
	enum ticket_outcome outcome;
	char why[112];
};
/* From the worker: hand it back. */
void ticket_return(struct ticket *t, enum ticket_outcome outcome, const char *why);

/* Begins with what the configuration says. NULL = out of memory. */
struct forwards *forwards_new(struct redir *rd);
/* There is a new configuration: what is the same goes on; of the rest no more peers come, and those
 * that are connected stay. NULL is allowed. */
void forwards_reload(struct forwards *fs);
/* Closes the control connections, for good. NULL is allowed. */
void forwards_stop(struct forwards *fs);
/* After the workers have ended. NULL is allowed. */
void forwards_free(struct forwards *fs);

/* sixpathctl forwards */
void forwards_command(struct control_request *rq, void *ctx);

#endif
