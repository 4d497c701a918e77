/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/relay.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/list.h"
#include "core/sock.h"
#include "core/worker.h"

#define READS_PER_TURN 4    /* fairness: then other connections have their turn */
#define TICK_S         15.0 /* how often an end is asked whether it is dead; at most */

void relay_init(struct relay *r)
{
	memset(r, 0, sizeof(*r));
	r->a.fd = r->b.fd = -1;
	r->a.peer = &r->b;
	r->b.peer = &r->a;
	r->a.relay = r->b.relay = r;
}

static bool end_flush(struct end *e);

static bool end_has_room(const struct end *e)
{
	return e->in.len < BUF_SIZE;
}

/* Interest follows buffers: room means read, bytes from the peer mean write. */
static void end_watch(struct end *e)
{
	struct ev_loop *loop = e->relay->w->loop;
	int want = 0;

	if (!e->eof && end_has_room(e))
		want |= EV_READ;
	if (e->peer->in.len > 0 && !(e == &e->relay->a && ev_is_active(&e->relay->pause)))
		want |= EV_WRITE;
	if (ev_is_active(&e->io) && (e->io.events & (EV_READ | EV_WRITE)) == want)
		return;
	ev_io_stop(loop, &e->io);
	if (want) {
		ev_io_set(&e->io, e->fd, want);
		ev_io_start(loop, &e->io);
	}
}

static void end_close(struct end *e, struct bufpool *pool, bool reset)
{
	buf_clear(&e->in, pool);
	if (e->fd < 0)
		return;
	if (reset)
		sock_reset(e->fd);
	else
		close(e->fd);
	e->fd = -1;
}

void relay_end(struct relay *r, enum end_reason reason, int err)
{
	struct ev_loop *loop = r->w->loop;
	bool reset = reason != END_CLOSED;

	if (!r->running)
		return;
	if (r->closing)
		r->closing(r);
	r->running = false;
	ev_io_stop(loop, &r->a.io);
	ev_io_stop(loop, &r->b.io);
	ev_timer_stop(loop, &r->tick);
	ev_timer_stop(loop, &r->pause);
	end_close(&r->a, &r->w->pool, reset);
	end_close(&r->b, &r->w->pool, reset);
	r->done(r, reason, err);
}

/* An error of a system call on end e ends the relay. */
static void end_error(struct end *e, int err)
{
	struct relay *r = e->relay;
	enum end_reason reason = e == &r->a ? END_RESET_DOWN : END_RESET_UP;

	relay_end(r, sock_errno_is_reset(err) ? reason : END_INTERNAL, err);
}

/* How many of len octets may go out to e now. */
static size_t may_write(struct end *e, size_t len)
{
	struct relay *r = e->relay;
	double wait_s = 0.;
	size_t room;

	if (e != &r->a || !r->room)
		return len;
	if (ev_is_active(&r->pause))
		return 0;
	room = r->room(r, &wait_s);
	if (room == SIZE_MAX)
		r->room = NULL;
	if (room == 0) {
		ev_timer_set(&r->pause, wait_s, 0.);
		ev_timer_start(r->w->loop, &r->pause);
	}
	return len < room ? len : room;
}

static void pause_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct relay *r = container_of(t, struct relay, pause);

	(void)loop;
	(void)events;
	if (!end_flush(&r->a))
		return;
	end_watch(&r->a);
	end_watch(&r->b);
}

/* What came from the peer goes out to e, then the peer's end of file. False when the
 * relay has ended. */
static bool end_flush(struct end *e)
{
	struct relay *r = e->relay;
	struct buf *in = &e->peer->in;

	while (in->len > 0) {
		size_t len = may_write(e, in->len);
		if (len == 0)
			return true; /* paused */
		ssize_t n = send(e->fd, buf_data(in), len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return true;
		if (n < 0) {
			end_error(e, errno);
			return false;
		}
		e->bytes_out += (uint64_t)n;
		r->moved_s = worker_now(r->w);
		if (e == &r->a && r->room)
			r->wrote(r, (size_t)n);
		buf_consume(in, &r->w->pool, (size_t)n);
	}
	if (e->peer->eof && !e->shut) {
		e->shut = true;
		if (shutdown(e->fd, SHUT_WR) < 0 && errno != ENOTCONN) {
			end_error(e, errno);
			return false;
		}
	}
	if (e->shut && e->peer->shut) {
		relay_end(r, END_CLOSED, 0);
		return false;
	}
	return true;
}

static void count_in(struct end *e, size_t n)
{
	struct relay *r = e->relay;
	bool is_first = e->bytes_in == 0;

	e->bytes_in += n;
	r->moved_s = worker_now(r->w);
	if (!is_first)
		return;
	e->first_in = worker_now(r->w);
	if (r->first)
		r->first(r, e);
}

/* Read e until it is dry or its turn is over, sending on at once. False when the relay
 * has ended. */
static bool end_read(struct end *e)
{
	struct relay *r = e->relay;
	uint8_t *at;
	size_t room;
	ssize_t n;

	for (int i = 0; i < READS_PER_TURN && !e->eof; i++) {
		at = buf_room(&e->in, &r->w->pool, &room);
		if (!at) {
			if (e->in.mem)
				return true; /* full: back-pressure */
			relay_end(r, END_NO_MEMORY, ENOMEM);
			return false;
		}
		do
			n = recv(e->fd, at, room, 0);
		while (n < 0 && errno == EINTR);
		if (n < 0) {
			int err = errno;
			if (e->in.len == 0)
				buf_clear(&e->in, &r->w->pool);
			if (err == EAGAIN || err == EWOULDBLOCK)
				return true;
			end_error(e, err);
			return false;
		}
		if (n == 0) {
			e->eof = true;
			if (e->in.len == 0)
				buf_clear(&e->in, &r->w->pool);
		} else {
			buf_added(&e->in, (size_t)n);
			count_in(e, (size_t)n);
		}
		if (!end_flush(e->peer))
			return false;
		if (n > 0 && (size_t)n < room)
			return true; /* most likely dry; if not, the loop says so */
	}
	return true;
}

static void end_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct end *e = container_of(io, struct end, io);
	struct relay *r = e->relay;

	(void)loop;
	if ((events & EV_WRITE) && !end_flush(e))
		return;
	if ((events & EV_READ) && !end_read(e))
		return;
	end_watch(&r->a);
	end_watch(&r->b);
}

/* A dead MPTCP connection reports nothing for a long time, and an end that has half-closed
 * is not watched while there is nothing to write to it. */
static bool end_is_dead(const struct end *e)
{
	char c;

	if (e->eof ? e->shut : !e->mptcp)
		return false; /* ended in order, or the loop will tell */
	if (!sock_mptcp_dead(e->fd))
		return false;
	/* Closed below; but bytes or the end of file may still be there to be read. */
	return e->eof || recv(e->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
}

/* The host at the other end has vanished: retransmissions would go on for a quarter of an hour, and
 * MPTCP sockets have no TCP_USER_TIMEOUT. Nothing more is asked while data is acknowledged. */
static bool end_is_silent(struct end *e)
{
	uint64_t queued, acked;
	bool moves;

	if (e->dead_s <= 0 || sock_unacked(e->fd, &queued) < 0)
		return false;
	acked = e->bytes_out - queued;
	moves = queued == 0 || acked != e->acked;
	e->acked = acked;
	return !moves && sock_silence(e->fd) >= e->dead_s;
}

/* Idle time is counted in ticks, not by the clock: the clock of a router without a battery
 * leaps by years when NTP has set it. */
static bool is_idle(struct relay *r)
{
	uint64_t progress = r->a.bytes_in + r->a.bytes_out + r->b.bytes_in + r->b.bytes_out;

	r->quiet_s = progress == r->progress ? r->quiet_s + r->tick.repeat : 0.;
	r->progress = progress;
	return r->quiet_s >= r->idle_s;
}

static void tick_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct relay *r = container_of(t, struct relay, tick);

	(void)loop;
	(void)events;
	if (end_is_dead(&r->a))
		relay_end(r, END_RESET_DOWN, ENOTCONN);
	else if (end_is_dead(&r->b))
		relay_end(r, END_RESET_UP, ENOTCONN);
	else if (end_is_silent(&r->a))
		relay_end(r, END_DEAD_DOWN, ETIMEDOUT);
	else if (end_is_silent(&r->b))
		relay_end(r, END_DEAD_UP, ETIMEDOUT);
	else if (is_idle(r))
		relay_end(r, END_IDLE, 0);
}

static bool is_mptcp(int fd)
{
	struct sock_info info;

	return sock_info(fd, &info) == 0 && info.mptcp;
}

static double tick_for(const struct end *e, double tick_s)
{
	return e->dead_s > 0 && e->dead_s / 2 < tick_s ? e->dead_s / 2 : tick_s;
}

/* The first turn: send on what came early. Its own event, so that done is never called
 * from inside relay_start. */
static void first_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct relay *r = container_of(t, struct relay, tick);
	double tick_s = r->idle_s / 4;

	(void)events;
	tick_s = tick_for(&r->a, tick_for(&r->b, tick_s < TICK_S ? tick_s : TICK_S));
	ev_set_cb(t, tick_cb);
	ev_timer_set(t, 0., tick_s);
	ev_timer_again(loop, t);
	if (!end_flush(&r->a) || !end_flush(&r->b))
		return;
	end_watch(&r->a);
	end_watch(&r->b);
}

void relay_start(struct relay *r, struct worker *w, int fd_a, int fd_b, double idle_s,
		 relay_done_fn *done)
{
	r->w = w;
	r->a.fd = fd_a;
	r->b.fd = fd_b;
	r->idle_s = idle_s;
	r->done = done;
	r->a.mptcp = is_mptcp(fd_a);
	r->b.mptcp = is_mptcp(fd_b);
	r->quiet_s = 0.;
	r->moved_s = worker_now(w);
	r->running = true;
	ev_io_init(&r->a.io, end_cb, fd_a, 0);
	ev_io_init(&r->b.io, end_cb, fd_b, 0);
	ev_timer_init(&r->tick, first_cb, 0., 0.);
	ev_init(&r->pause, pause_cb);
	ev_timer_start(w->loop, &r->tick);
}
