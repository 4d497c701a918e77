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

enum end_kind { END_UNKNOWN, END_TCP, END_MPTCP };

struct end {
	int fd;
	struct buf in;      /* read from fd, not yet written to the peer */
	uint64_t bytes_in;  /* read from fd, including what was there at the start */
	uint64_t bytes_out; /* written to fd by the relay */
	double first_in;    /* worker_now at the first byte from fd; 0 = none yet */
	bool eof;           /* no more to read */
	bool shut;          /* our half-close has been sent */
	bool in_handshake;  /* set by the owner before the start: accepted with Fast Open, and the
			       third packet had not come yet */
	double dead_s; /* set by the owner before the start: it is dead when it has answered
			  nothing for so long to what was sent; 0 = as long as the kernel tries */
	/* private */
	uint8_t kind;      /* enum end_kind */
	bool splices;      /* through pipes: bytes read go there */
	bool kept_up;      /* the peer took all that was read last */
	uint8_t bulk;      /* large reads since there were many small ones */
	uint8_t calm;      /* small ones in a row */
	struct pipe *pipe; /* lent while bytes are in it; in is empty then */
	uint64_t try_at;   /* no pipe is tried before bytes_in gets there */
	uint64_t acked; /* counts on from some number; as of the last tick */
	ev_io io; /* may be set by the owner before the start: as dial.io */
	struct end *peer;
	struct relay *relay;
};

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

struct relay {
	struct end a, b;
	relay_first_fn *first;     /* set by the owner before the start, or NULL */
	relay_closing_fn *closing; /* likewise */
	relay_room_fn *room;       /* likewise; a limit on writing to a, beside the socket's own */
	relay_wrote_fn *wrote;     /* set if room is */
	bool hold;                 /* likewise; nothing is written to a before relay_release */
	bool b_delays;             /* likewise; b was opened with sock_wishes.delay */
	double idle_s;
	double moved_s; /* worker_now when the last byte moved, or the start */
	/* private */
	struct list_node node; /* in w->relays while it runs */
	struct worker *w;
	relay_done_fn *done;
	ev_timer tick;     /* idle limit; also asks whether an end has died in silence */
	ev_timer pause;    /* there is no room: no writing to a until then */
	double quiet_s;    /* time in ticks without a byte */
	uint64_t progress; /* bytes both ways when it ticked last */
	bool running;
	bool keepalive; /* set on b, which short connections do without */
};

/* Zero everything; descriptors -1. Then the owner may fill a.in and b.in with bytes that
 * came early, and add them to bytes_in. */
void relay_init(struct relay *r);
void relay_start(struct relay *r, struct worker *w, int fd_a, int fd_b, double idle_s,
		 relay_done_fn *done);
/* Bytes and half-close may go to a from now on; harmless when they might before, or before the
 * start. */
void relay_release(struct relay *r);
/* End it from outside with a reason: closes (resets for anything but END_CLOSED), calls done. */
void relay_end(struct relay *r, enum end_reason reason, int err);
/* End up to n of the worker's relays that have not moved a byte for idle_s, the idlest first, as
 * END_BUDGET; buffers: only those that hold some. Returns how many. */
uint64_t relay_shed(struct worker *w, uint64_t n, double idle_s, bool buffers);

#endif
