/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two ends that copy to each other. Both ends are the same struct, pointing at each
 * other, so copying, half-close and limits are written once. a is the downstream
 * (device, client), b the upstream (proxy, server).
 *
 * Back-pressure: an end is read only while its buffer has room, and written only
 * while the other's buffer has bytes. End of file is passed on as a half-close after
 * the last byte; the relay is over when both directions have ended. A reset is
 * passed on as a reset.
 *
 * How bytes move is chosen for each direction by what is seen on it. All begin by being copied
 * through a buffer. While reads fill it and the peer takes all of it, the buffer is a big one.
 * Then, between plain TCP sockets, a pipe is tried: it spares copying, but a slot of it holds one
 * segment, so where segments are small (no offload) copying is cheaper and goes on. A direction
 * that has calmed down is copied again.
 *
 * Embedded in its owner. The relay owns both descriptors from relay_start on.
 */
#ifndef SIXPATH_RELAY_H
#define SIXPATH_RELAY_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/list.h"
#include "core/pipe.h"
#include "core/reason.h"

struct worker;
struct relay;

#define RELAY_FIRST_S 0.5 /* until the first tick, if the owner wants to be told of ticks */

enum end_kind { END_UNKNOWN, END_TCP, END_MPTCP };

/* There are many of these that do nothing: what is here is what an idle connection costs. */
struct end {
	struct buf in;      /* read from fd, not yet written to the peer */
	uint64_t bytes_in;  /* read from fd, including what was there at the start */
	uint64_t bytes_out; /* written to fd by the relay */
	int fd;
	bool eof : 1;          /* no more to read */
	bool shut : 1;         /* our half-close has been sent */
	bool mortal : 1;       /* set by the owner before the start: relay.dead_s is for this end */
	bool in_handshake : 1; /* likewise: accepted with Fast Open, and the third packet had not
				  come yet */
	bool fell_back : 1;    /* likewise, or when it turns out: MPTCP was asked for, and plain TCP
				  is what came */
	/* private */
	bool is_b : 1;
	bool splices : 1; /* through pipes: bytes read go there */
	bool kept_up : 1; /* the peer took all that was read last */
	uint8_t kind : 2; /* enum end_kind */
	uint8_t bulk;     /* large reads since there were many small ones */
	uint8_t calm;     /* small ones in a row */
	uint32_t try_at;  /* no pipe is tried before bytes_in gets there; in TRY_UNITs */
	uint32_t acked;   /* counts on from some number; as of the last tick */
	/* May be set by the owner before the start: as dial.io. Its data: the pipe that is lent, see
	 * end_pipe. */
	ev_io io;
};

/* Lent while bytes are in it, or NULL; in is empty then. */
static inline struct pipe *end_pipe(const struct end *e)
{
	return e->io.data;
}

/* Called exactly once, never from inside relay_start: both descriptors are closed by
 * then (as a reset where the reason asks for it) and buffers are given back. */
typedef void relay_done_fn(struct relay *r, enum end_reason reason, int err);

/* The first byte from an end came. */
typedef void relay_first_fn(struct relay *r, struct end *e);
/* How many octets may be written to a now: SIZE_MAX = no limit from here on, 0 = ask again
 * after *wait_s seconds. */
typedef size_t relay_room_fn(struct relay *r, double *wait_s);
/* So many of them have been. */
typedef void relay_wrote_fn(struct relay *r, size_t len);
/* The descriptors are about to be closed: the last moment to ask the sockets something. */
typedef void relay_closing_fn(struct relay *r);
/* It has lasted: called RELAY_FIRST_S after the start, then each WHEEL_MAX_S at least. It must not
 * end the relay. */
typedef void relay_ticked_fn(struct relay *r);

/* A limit on writing to a, beside the socket's own. Of the owner, which keeps it until the relay is
 * done. */
struct relay_limit {
	relay_room_fn *room;
	relay_wrote_fn *wrote;
	/* private */
	struct relay *relay;
	ev_timer pause; /* there is no room: no writing to a until then */
};

/* What an owner wants to know, the same for all of its relays; NULL where it does not. */
struct relay_ops {
	relay_done_fn *done;
	relay_first_fn *first;
	relay_closing_fn *closing;
	relay_ticked_fn *ticked;
	/* Where limited is set. */
	struct relay_limit *(*limit)(struct relay *r);
};

struct relay {
	struct end a, b;
	double moved_s; /* worker_now when the last byte moved, or the start */
	/* Set by the owner before the start. A mortal end is dead when it has answered nothing for
	 * dead_s to what was sent; 0 = as long as the kernel tries. */
	float dead_s;
	float idle_s;      /* ends without a byte for so long */
	bool hold : 1;     /* nothing is written to a before relay_release */
	bool limited : 1;  /* ops->limit has one */
	bool b_delays : 1; /* b was opened with sock_wishes.delay */
	/* private */
	bool running : 1;
	bool early : 1;     /* the next tick is */
	bool keepalive : 1; /* set on b, which short connections do without */
	uint8_t slot;       /* of w->relays, while it runs */
	uint8_t ops;        /* of w->relay_ops, likewise */
	struct list_node node;
	struct worker *w;
};

/* One of w's. All else is zero; descriptors -1. Then the owner may fill a.in and b.in with bytes
 * that came early, and add them to bytes_in. */
void relay_init(struct relay *r, struct worker *w);
/* ops: static. */
void relay_start(struct relay *r, int fd_a, int fd_b, const struct relay_ops *ops);
/* Bytes and half-close may go to a from now on; harmless when they might before, or before the
 * start. */
void relay_release(struct relay *r);
/* End it from outside with a reason: closes (resets for anything but END_CLOSED), calls done. */
void relay_end(struct relay *r, enum end_reason reason, int err);
/* End up to n of the worker's relays that have not moved a byte for idle_s, the idlest first, as
 * END_BUDGET; buffers: only those that hold some. Returns how many. */
uint64_t relay_shed(struct worker *w, uint64_t n, double idle_s, bool buffers);

/* A wheel_due_fn, for worker.c. */
void relay_due(struct list_node *n);

#endif
