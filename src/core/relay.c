/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/relay.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/list.h"
#include "core/sock.h"
#include "core/worker.h"

#define READS_PER_TURN 4              /* fairness: then other connections have their turn */
#define SHED_MAX       64             /* relays ended in one go: each is a walk over all */
#define BULK_READ      BUF_SIZE       /* a read of so much is large, */
#define CALM_READ      (BUF_SIZE / 4) /* less than so much is small */
#define BULK_SPLICE    3              /* so many large ones, and a pipe is tried */
#define CALM_COPY      8              /* so many small ones, and it is no more in bulk */
#define SLOT_WORTH     2048           /* octets in a pipe's slot that make it worth while */
#define SLOW_S         0.5            /* a peer that takes so long for a pipe gets none */
#define TRY_SOON       (UINT64_C(1) << 20)
#define TRY_LATE       (UINT64_C(64) << 20)
#define TRY_UNIT       65536u /* of end.try_at, so that it fits */
#define TRY_NEVER      UINT32_MAX
#define TICK_S         15.0 /* how often an end is asked whether it is dead; at most */

void relay_init(struct relay *r, struct worker *w)
{
	memset(r, 0, sizeof(*r));
	r->w = w;
	r->a.fd = r->b.fd = r->a.io.fd = r->b.io.fd = -1;
	r->b.is_b = true;
}

static bool end_flush(struct end *e);
static bool end_read(struct end *e);

static struct relay *relay_of(struct end *e)
{
	return e->is_b ? container_of(e, struct relay, b) : container_of(e, struct relay, a);
}

static struct end *peer_of(struct end *e)
{
	return e->is_b ? &relay_of(e)->a : &relay_of(e)->b;
}

static const struct relay_ops *ops_of(const struct relay *r)
{
	return r->w->relay_ops[r->ops];
}

/* A worker's relays have few kinds of owners, so that a relay can do without the pointer. */
static uint8_t ops_put(struct worker *w, const struct relay_ops *ops)
{
	uint8_t i = 0;

	while (w->relay_ops[i] && w->relay_ops[i] != ops) {
		i++;
		assert(i < RELAY_OWNERS);
	}
	w->relay_ops[i] = ops;
	return i;
}

/* Also if it has fallen back to TCP. Asked when it matters only: most connections are short. */
static bool end_is_mptcp(struct end *e)
{
	if (e->kind == END_UNKNOWN)
		e->kind = sock_is_mptcp(e->fd) ? END_MPTCP : END_TCP;
	return e->kind == END_MPTCP;
}

/* A pipe is emptied before more is put into it: what it holds is memory of the kernel's, and it is
 * wanted elsewhere. */
static bool end_has_room(const struct end *e)
{
	return !end_pipe(e) && e->in.len < buf_size(&e->in);
}

/* Read from e, and not yet written to its peer. */
static size_t end_held(const struct end *e)
{
	return end_pipe(e) ? end_pipe(e)->len : e->in.len;
}

/* Nothing may be written to a now. */
static bool is_paused(struct relay *r)
{
	return r->hold || (r->limited && ev_is_active(&ops_of(r)->limit(r)->pause));
}

/* Interest follows buffers: room means read, bytes from the peer mean write. */
static void end_watch(struct end *e)
{
	struct ev_loop *loop = relay_of(e)->w->loop;
	int want = 0;

	if (!e->eof && end_has_room(e))
		want |= EV_READ;
	if (end_held(peer_of(e)) > 0 && !(!e->is_b && is_paused(relay_of(e))))
		want |= EV_WRITE;
	if (ev_is_active(&e->io) && (e->io.events & (EV_READ | EV_WRITE)) == want)
		return;
	ev_io_stop(loop, &e->io);
	ev_io_modify(&e->io, want); /* unlike ev_io_set, costs no system call if it is as before */
	if (want)
		ev_io_start(loop, &e->io);
}

static void end_close(struct end *e, struct worker *w, bool reset)
{
	buf_clear(&e->in, &w->pool);
	if (end_pipe(e))
		pipe_give(&w->pipes, end_pipe(e));
	e->io.data = NULL;
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
	if (ops_of(r)->closing)
		ops_of(r)->closing(r);
	r->running = false;
	if (list_linked(&r->node))
		wheel_remove(&r->w->relays, &r->node, r->slot);
	ev_io_stop(loop, &r->a.io);
	ev_io_stop(loop, &r->b.io);
	if (r->limited)
		ev_timer_stop(loop, &ops_of(r)->limit(r)->pause);
	end_close(&r->a, r->w, reset);
	end_close(&r->b, r->w, reset);
	ops_of(r)->done(r, reason, err);
}

/* An error of a system call on end e ends the relay. */
static void end_error(struct end *e, int err)
{
	struct relay *r = relay_of(e);
	enum end_reason reason = !e->is_b ? END_RESET_DOWN : END_RESET_UP;

	relay_end(r, sock_errno_is_reset(err) ? reason : END_INTERNAL, err);
}

/* How many of len octets may go out to e now. */
static size_t may_write(struct end *e, size_t len)
{
	struct relay *r = relay_of(e);
	struct relay_limit *l;
	double wait_s = 0.;
	size_t room;

	if (!e->is_b && r->hold)
		return 0;
	if (e->is_b || !r->limited)
		return len;
	l = ops_of(r)->limit(r);
	if (ev_is_active(&l->pause))
		return 0;
	room = l->room(r, &wait_s);
	r->limited = room != SIZE_MAX;
	if (room == 0) {
		ev_timer_set(&l->pause, wait_s, 0.);
		ev_timer_start(r->w->loop, &l->pause);
	}
	return len < room ? len : room;
}

/* Send on what has come. The end of one that fell back may never be told, see end_recv. */
static void flush_both(struct relay *r)
{
	if (!end_flush(&r->a) || !end_flush(&r->b) || (r->b.fell_back && !end_read(&r->b)))
		return;
	end_watch(&r->a);
	end_watch(&r->b);
}

static void pause_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	flush_both(container_of(t, struct relay_limit, pause)->relay);
}

/* No pipe until so many octets more have come. */
static void try_after(struct end *e, uint64_t octets)
{
	uint64_t at = (e->bytes_in + octets) / TRY_UNIT;

	e->try_at = at < TRY_NEVER ? (uint32_t)at : TRY_NEVER - 1;
}

static void end_copies(struct end *e)
{
	e->splices = false;
	try_after(e, TRY_LATE);
}

static bool may_shut(struct end *e)
{
	return peer_of(e)->eof && !e->shut && !(!e->is_b && relay_of(e)->hold);
}

/* During a handshake the kernel puts off a half-close, and would keep what is to leave with it. */
static bool end_in_handshake(struct end *e)
{
	e->in_handshake = e->in_handshake && sock_in_handshake(e->fd);
	return e->in_handshake;
}

/* What came from the peer goes out to e. Octets written, or -1 with errno. */
static ssize_t put_copied(struct end *e, size_t len)
{
	struct buf *in = &peer_of(e)->in;
	/* These leave in one packet with our half-close. */
	bool last = len == in->len && may_shut(e) && !end_in_handshake(e);
	ssize_t n = send(e->fd, buf_data(in), len, MSG_NOSIGNAL | (last ? MSG_MORE : 0));

	if (n > 0)
		buf_consume(in, &relay_of(e)->w->pool, (size_t)n);
	return n;
}

static ssize_t put_spliced(struct end *e, size_t len)
{
	struct pipe *p = end_pipe(peer_of(e));
	ssize_t n = splice(p->r, NULL, e->fd, NULL, len, SPLICE_F_NONBLOCK);

	if (n <= 0)
		return n;
	p->len -= (uint32_t)n;
	if (p->len == 0) {
		if (worker_now(relay_of(e)->w) - p->since_s > SLOW_S)
			end_copies(peer_of(e));
		pipe_give(&relay_of(e)->w->pipes, p);
		peer_of(e)->io.data = NULL;
	}
	return n;
}

/* Many short connections never write again after the handshake. */
static void write_at_once(struct relay *r)
{
	sock_nodelay(r->b.fd);
	r->b_delays = false;
}

/* What came from the peer goes out to e, then the peer's end of file. False when the
 * relay has ended. */
static bool end_flush(struct end *e)
{
	struct relay *r = relay_of(e);
	size_t held;

	while ((held = end_held(peer_of(e))) > 0) {
		size_t len = may_write(e, held);
		if (len == 0)
			return true; /* paused */
		if (e->is_b && r->b_delays)
			write_at_once(r);
		ssize_t n = end_pipe(peer_of(e)) ? put_spliced(e, len) : put_copied(e, len);
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
		if (!e->is_b && r->limited)
			ops_of(r)->limit(r)->wrote(r, (size_t)n);
	}
	if (may_shut(e)) {
		e->shut = true; /* if that is all, closing does it */
		if (!peer_of(e)->shut && shutdown(e->fd, SHUT_WR) < 0 && errno != ENOTCONN) {
			end_error(e, errno);
			return false;
		}
	}
	if (e->shut && peer_of(e)->shut) {
		relay_end(r, END_CLOSED, 0);
		return false;
	}
	return true;
}

static void count_in(struct end *e, size_t n)
{
	struct relay *r = relay_of(e);
	bool is_first = e->bytes_in == 0;

	e->bytes_in += n;
	r->moved_s = worker_now(r->w);
	if (!is_first)
		return;
	if (ops_of(r)->first)
		ops_of(r)->first(r, e);
}

/* Time to see what a pipe would do? */
static bool end_tries(struct end *e)
{
	if (e->splices || e->bulk < BULK_SPLICE || e->in.len > 0 || e->try_at == TRY_NEVER ||
	    e->bytes_in / TRY_UNIT < e->try_at)
		return false;
	if (!end_is_mptcp(e) && !end_is_mptcp(peer_of(e)))
		return true;
	e->try_at = TRY_NEVER; /* an MPTCP socket copies anyway, and a pipe makes it worse */
	return false;
}

/* The narrow pipe has got n octets. If its slots ran out before the socket did, their mean is
 * known. */
static void end_judge(struct end *e, ssize_t n)
{
	int more = 0;

	if (n >= PIPE_NARROW * SLOT_WORTH) {
		e->splices = true;
		pipe_widen(&relay_of(e)->w->pipes, end_pipe(e));
	} else {
		bool ran_out = ioctl(e->fd, FIONREAD, &more) == 0 && more > 0;
		try_after(e, ran_out ? TRY_LATE : TRY_SOON);
	}
}

/* Read into a pipe: octets, 0 at the end of file, -1 with errno, ENOBUFS if there is no pipe. */
static ssize_t get_spliced(struct end *e)
{
	struct pipepool *pool = &relay_of(e)->w->pipes;
	bool tries = !e->splices;
	ssize_t n;

	e->io.data = tries ? pipe_take_narrow(pool) : pipe_take(pool);
	if (!end_pipe(e)) {
		end_copies(e);
		errno = ENOBUFS;
		return -1;
	}
	do
		n = splice(e->fd, NULL, end_pipe(e)->w, NULL, PIPE_BYTES, SPLICE_F_NONBLOCK);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		end_pipe(e)->len = (uint32_t)n;
		end_pipe(e)->since_s = worker_now(relay_of(e)->w);
		if (tries)
			end_judge(e, n);
	} else {
		int err = errno;
		pipe_give(pool, end_pipe(e));
		e->io.data = NULL;
		errno = err;
	}
	return n;
}

static ssize_t recv_again(int fd, void *at, size_t room)
{
	ssize_t n;

	do
		n = recv(fd, at, room, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

/* Where MPTCP has fallen back to TCP, and data and FIN come while the socket is busy, the kernel
 * (6.18) never tells the end of file; only the state of the connection does. */
static ssize_t end_recv(struct end *e, void *at, size_t room)
{
	ssize_t n = recv_again(e->fd, at, room);

	if (n >= 0 || !e->fell_back || errno != EAGAIN || !sock_peer_closed(e->fd))
		return n;
	n = recv_again(e->fd, at, room); /* what came before it */
	return n < 0 && errno == EAGAIN ? 0 : n;
}

/* What comes after that is lost as well. */
static bool end_has_lost(const struct end *e)
{
	return e->fell_back && sock_dropped(e->fd) > 0;
}

/* As end_recv, into the buffer; ENOBUFS: it is full, ENOMEM: there is none. */
static ssize_t get_copied(struct end *e, size_t *room)
{
	struct bufpool *pool = &relay_of(e)->w->pool;
	uint8_t *at;
	ssize_t n;

	if (!e->in.mem)
		e->in.big = e->bulk > 0 && e->kept_up;
	at = buf_room(&e->in, pool, room);
	if (!at) {
		errno = e->in.mem ? ENOBUFS : ENOMEM;
		return -1;
	}
	n = end_recv(e, at, *room);
	if (n > 0) {
		buf_added(&e->in, (size_t)n);
	} else if (e->in.len == 0) {
		int err = errno;
		buf_clear(&e->in, pool);
		errno = err;
	}
	return n;
}

/* n octets were read, and written as far as the peer took them. */
static void end_learn(struct end *e, size_t n)
{
	e->kept_up = end_held(e) == 0;
	if (n >= BULK_READ && e->bulk < BULK_SPLICE)
		e->bulk++;
	if (n >= CALM_READ) {
		e->calm = 0;
	} else if (++e->calm >= CALM_COPY) {
		e->calm = e->bulk = 0;
		e->splices = false;
	}
}

/* Read e until it is dry or its turn is over, sending on at once. False when the relay
 * has ended. */
static bool end_read(struct end *e)
{
	struct relay *r = relay_of(e);
	bool looks = e->in.len > 0; /* of what came before, nothing waits for more */

	for (int i = 0; i < READS_PER_TURN && !e->eof && end_has_room(e); i++) {
		size_t room = PIPE_BYTES;
		ssize_t n = -1;

		errno = ENOBUFS;
		if (e->splices || end_tries(e))
			n = get_spliced(e);
		if (n < 0 && errno == ENOBUFS)
			n = get_copied(e, &room);
		if (n < 0 && errno == ENOMEM) {
			relay_end(r, END_NO_MEMORY, ENOMEM);
			return false;
		}
		if (n < 0) {
			int err = errno;
			if (looks && !end_flush(peer_of(e)))
				return false;
			if (err == EAGAIN || err == EWOULDBLOCK || err == ENOBUFS)
				return true;
			end_error(e, err);
			return false;
		}
		/* Many a server answers once and closes: then both are there, and go on together. */
		looks = n > 0 && (size_t)n < room && e->bytes_in == 0;
		if (n > 0) {
			count_in(e, (size_t)n);
		} else if (end_has_lost(e)) { /* it is not the end of what was sent */
			relay_end(r, END_LOST, EIO);
			return false;
		} else {
			e->eof = true;
		}
		if (looks)
			continue;
		if (!end_flush(peer_of(e)))
			return false;
		if (n > 0)
			end_learn(e, (size_t)n);
		if (n > 0 && (size_t)n < room && !(e->splices && n >= BULK_READ) && !e->fell_back)
			return true; /* most likely dry; if not, the loop says so */
	}
	return true;
}

static void end_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct end *e = container_of(io, struct end, io);
	struct relay *r = relay_of(e);

	(void)loop;
	if (events & EV_CUSTOM) { /* the first turn: send on what came early, */
		if (r->b.in.len > 0 && !end_read(&r->b)) /* with the end of file, if it is there */
			return;
		flush_both(r);
		return;
	}
	if ((events & EV_WRITE) && !end_flush(e))
		return;
	if ((events & EV_READ) && !end_read(e))
		return;
	end_watch(&r->a);
	end_watch(&r->b);
}

/* A dead MPTCP connection reports nothing for a long time, and an end that has half-closed, or whose
 * bytes wait for the peer, is not watched while there is nothing to write to it. */
static bool end_is_dead(struct end *e)
{
	char c;

	if (e->eof ? e->shut : end_has_room(e) && !end_is_mptcp(e))
		return false; /* ended in order, or the loop will tell */
	if (!sock_mptcp_dead(e->fd))
		return false;
	if (!e->eof && !end_is_mptcp(e))
		return true; /* reset */
	/* Closed below; but bytes or the end of file may still be there to be read. */
	return e->eof || recv(e->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
}

/* The host at the other end has vanished: retransmissions would go on for a quarter of an hour, and
 * MPTCP sockets have no TCP_USER_TIMEOUT. Nothing more is asked while data is acknowledged. */
static bool end_is_silent(struct end *e)
{
	double dead_s = relay_of(e)->dead_s;
	uint64_t queued;
	uint32_t acked;
	bool moves;

	if (!e->mortal || dead_s <= 0 || sock_unacked(e->fd, &queued) < 0)
		return false;
	acked = (uint32_t)(e->bytes_out - queued);
	moves = queued == 0 || acked != e->acked;
	e->acked = acked;
	return !moves && sock_silence(e->fd) >= dead_s;
}

static double tick_s(const struct relay *r)
{
	double s = r->idle_s / 4 < TICK_S ? r->idle_s / 4 : TICK_S;

	return r->dead_s > 0 && r->dead_s / 2 < s ? r->dead_s / 2 : s;
}

void relay_due(struct list_node *n)
{
	struct relay *r = container_of(n, struct relay, node);

	r->slot = wheel_add(&r->w->relays, &r->node, tick_s(r));
	if (ops_of(r)->ticked)
		ops_of(r)->ticked(r);
	if (r->early) { /* that was the first, for the owner only */
		r->early = false;
		return;
	}
	if (!r->keepalive)
		sock_keepalive(r->b.fd); /* a has it from its listener */
	r->keepalive = true;
	if (end_is_dead(&r->a))
		relay_end(r, END_RESET_DOWN, ENOTCONN);
	else if (end_is_dead(&r->b))
		relay_end(r, END_RESET_UP, ENOTCONN);
	else if (end_has_lost(&r->b))
		relay_end(r, END_LOST, EIO);
	else if (end_is_silent(&r->a))
		relay_end(r, END_DEAD_DOWN, ETIMEDOUT);
	else if (end_is_silent(&r->b))
		relay_end(r, END_DEAD_UP, ETIMEDOUT);
	else if (worker_now(r->w) - r->moved_s >= r->idle_s)
		relay_end(r, END_IDLE, 0);
}

void relay_release(struct relay *r)
{
	if (!r->hold)
		return;
	r->hold = false;
	if (r->running)
		flush_both(r); /* perhaps instead of the first turn, whose event is lost by that */
}

/* With the watcher that the owner has used for it, so that the kernel need not be told again. */
static void end_take(struct end *e, int fd)
{
	e->fd = fd;
	e->io.data = NULL; /* no pipe */
	if (e->io.fd == fd)
		ev_init(&e->io, end_cb);
	else
		ev_io_init(&e->io, end_cb, fd, 0);
}

void relay_start(struct relay *r, int fd_a, int fd_b, const struct relay_ops *ops)
{
	struct worker *w = r->w;
	double first_s = tick_s(r);

	r->ops = ops_put(w, ops);
	r->moved_s = worker_now(w);
	r->running = true;
	r->early = ops->ticked && first_s > RELAY_FIRST_S;
	if (r->early)
		first_s = RELAY_FIRST_S;
	r->slot = wheel_add(&w->relays, &r->node, first_s);
	end_take(&r->a, fd_a);
	end_take(&r->b, fd_b);
	if (r->limited) {
		struct relay_limit *l = ops->limit(r);

		l->relay = r;
		ev_init(&l->pause, pause_cb);
	}
	/* Still in this turn, but not in here: done is never called from inside relay_start. */
	ev_feed_event(w->loop, &r->b.io, EV_CUSTOM);
}

static bool holds_memory(const struct end *e)
{
	return e->in.mem || end_pipe(e);
}

static struct relay *idler(struct relay *r, struct relay *found, double idle_s, bool buffers)
{
	if (worker_now(r->w) - r->moved_s < idle_s ||
	    (buffers && !holds_memory(&r->a) && !holds_memory(&r->b)))
		return found;
	return !found || r->moved_s < found->moved_s ? r : found;
}

static struct relay *idlest(struct worker *w, double idle_s, bool buffers)
{
	struct relay *found = NULL;

	for (unsigned i = 0; i < WHEEL_SLOTS; i++) {
		struct list *l = &w->relays.slots[i];

		for (struct list_node *n = list_first(l); n; n = list_next(l, n))
			found = idler(container_of(n, struct relay, node), found, idle_s, buffers);
	}
	return found;
}

uint64_t relay_shed(struct worker *w, uint64_t n, double idle_s, bool buffers)
{
	struct relay *r;
	uint64_t done = 0;

	while (done < n && done < SHED_MAX && (r = idlest(w, idle_s, buffers))) {
		relay_end(r, END_BUDGET, 0);
		done++;
	}
	return done;
}
