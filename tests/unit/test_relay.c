/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/tcp.h> /* not netinet/tcp.h: its tcp_info may lack what is asked here */
#include <spawn.h>
#include <sys/wait.h>

#include "core/relay.h"
#include "leap.h"
#include "rig.h"

extern char **environ;

#define BULK    (10u << 20)
#define FOREVER 3600.

static struct worker w;
static double dead_s; /* of both ends of the next link */

/* A relay between two connections; we are the device at one end and the server at the
 * other. It frees itself when it is done, as its owners in the daemons do. */
struct link {
	struct relay relay;
	struct corpse corpse;
	struct outcome *out;
	struct relay_limit *limit;
};

struct outcome {
	struct link *link; /* gone once buried */
	int device, server;
	bool done, inside, closed, buried;
	unsigned calls, closing_calls, firsts, ticks;
	enum end_reason reason;
	int err;
	uint64_t up, down;
};

static void bury_link(struct corpse *c)
{
	struct link *l = container_of(c, struct link, corpse);

	l->out->buried = true;
	memset(l, 0xdb, sizeof(*l));
	free(l);
}

static void done_cb(struct relay *r, enum end_reason reason, int err)
{
	struct link *l = container_of(r, struct link, relay);
	struct outcome *o = l->out;

	o->inside = o->link == NULL;
	o->calls++;
	o->done = true;
	o->reason = reason;
	o->err = err;
	o->up = r->b.bytes_out;
	o->down = r->a.bytes_out;
	o->closed = r->a.fd < 0 && r->b.fd < 0 && !r->a.in.mem && !r->b.in.mem;
	worker_bury(&w, &l->corpse);
}

static void closing_cb(struct relay *r)
{
	struct outcome *o = container_of(r, struct link, relay)->out;

	o->closing_calls++;
	if (r->a.fd < 0 || r->b.fd < 0)
		fail_msg("closed too early");
}

static void first_cb(struct relay *r, struct end *e)
{
	struct outcome *o = container_of(r, struct link, relay)->out;

	o->firsts |= e == &r->a ? 1u : 2u;
	assert_true(e->bytes_in > 0);
}

static void ignore_cb(struct ev_loop *loop, ev_io *io, int events)
{
	(void)loop;
	(void)io;
	(void)events;
}

/* The owner has watched an end before the relay does. */
static void watch_before(struct end *e, int fd)
{
	ev_io_init(&e->io, ignore_cb, fd, EV_READ);
	e->io.data = e; /* no pipe */
	ev_io_start(w.loop, &e->io);
	ev_run(w.loop, EVRUN_NOWAIT);
	ev_io_stop(w.loop, &e->io);
}

static void ticked_cb(struct relay *r)
{
	struct outcome *o = container_of(r, struct link, relay)->out;

	if (r->a.fd < 0 || r->b.fd < 0)
		fail_msg("ticks after its end");
	o->ticks++;
}

static struct relay_limit *limit_of(struct relay *r)
{
	return container_of(r, struct link, relay)->limit;
}

static const struct relay_ops ops = {.done = done_cb,
				     .first = first_cb,
				     .closing = closing_cb,
				     .ticked = ticked_cb,
				     .limit = limit_of};
static struct relay_limit *limit; /* of the next link */

/* early: octets of the device that were read before the relay began, or NULL. */
static void open_link(struct outcome *o, bool mptcp_a, bool mptcp_b, double idle_s,
		      const char *early)
{
	struct link *l = calloc(1, sizeof(*l));
	int a[2], b[2];

	assert_non_null(l);
	memset(o, 0, sizeof(*o));
	assert_true(rig_pair(mptcp_a, a));
	assert_true(rig_pair(mptcp_b, b));
	o->device = a[0];
	o->server = b[1];
	l->out = o;
	l->corpse.bury = bury_link;
	relay_init(&l->relay, &w);
	assert_int_equal(l->relay.a.fd, -1);
	l->relay.a.mortal = l->relay.b.mortal = true;
	l->relay.dead_s = (float)dead_s;
	l->relay.idle_s = (float)idle_s;
	l->relay.limited = limit != NULL;
	l->limit = limit;
	if (early) {
		size_t n = strlen(early);
		assert_int_equal(buf_put(&l->relay.a.in, &w.pool, early, n), n);
		l->relay.a.bytes_in += n;
	}
	watch_before(&l->relay.a, a[1]);
	ev_run(w.loop, EVRUN_NOWAIT); /* as in the daemons, it is not started with an old time */
	relay_start(&l->relay, a[1], b[0], &ops);
	o->link = l;
}

/* Wait for the end and check what holds for each of them. */
static void check_end(struct outcome *o, enum end_reason reason)
{
	assert_true(rig_until(&w, rig_flag, &o->buried));
	assert_false(o->inside);
	assert_true(o->closed);
	assert_int_equal(o->calls, 1);
	assert_int_equal(o->closing_calls, 1);
	if (o->reason != reason)
		fail_msg("ended with %s (%s), not %s", end_reason_str(o->reason), strerror(o->err),
			 end_reason_str(reason));
	assert_int_equal(w.pool.lent, 0);
	assert_int_equal(w.pool.lent_bytes, 0);
	assert_int_equal(w.pipes.lent, 0);
}

static void close_ours(struct outcome *o)
{
	if (o->device >= 0)
		close(o->device);
	if (o->server >= 0)
		close(o->server);
}

/* ---- what is sent, and compared on arrival ---- */

static uint8_t octet_at(uint32_t seed, uint64_t pos)
{
	uint64_t x = (pos / 8 + seed) * 0x9e3779b97f4a7c15u;

	return (uint8_t)(x >> (pos % 8 * 8));
}

static uint32_t random_state = 1;

static size_t random_up_to(size_t max)
{
	random_state = random_state * 1664525u + 1013904223u;
	return 1 + (random_state >> 7) % max;
}

struct flow {
	int from, to;
	uint32_t seed;
	uint64_t total, sent, received;
	size_t chunk; /* largest piece */
	bool wrong, ended, broken;
	int send_errno, recv_errno;
};

static void flow_send(struct flow *f)
{
	static uint8_t buf[100000];

	for (int i = 0; i < 8 && f->sent < f->total; i++) {
		size_t n = random_up_to(f->chunk);
		ssize_t k;

		if (n > f->total - f->sent)
			n = (size_t)(f->total - f->sent);
		for (size_t j = 0; j < n; j++)
			buf[j] = octet_at(f->seed, f->sent + j);
		k = send(f->from, buf, n, MSG_NOSIGNAL);
		if (k < 0) {
			f->send_errno = errno;
			f->broken = errno != EAGAIN;
			return;
		}
		f->sent += (uint64_t)k;
		if (f->sent == f->total)
			shutdown(f->from, SHUT_WR);
	}
}

static void flow_receive(struct flow *f, int turns)
{
	static uint8_t buf[100000];

	for (int i = 0; i < turns && !f->ended; i++) {
		ssize_t k = recv(f->to, buf, random_up_to(f->chunk), 0);

		if (k < 0) {
			f->recv_errno = errno;
			f->broken = errno != EAGAIN;
			return;
		}
		f->ended = k == 0;
		for (ssize_t j = 0; j < k; j++)
			if (buf[j] != octet_at(f->seed, f->received + (uint64_t)j))
				f->wrong = true;
		f->received += (uint64_t)k;
	}
}

struct both {
	struct flow up, down;
	size_t most_lent;
	bool half;
};

static bool exchanged(void *arg)
{
	struct both *x = arg;

	flow_send(&x->up);
	flow_send(&x->down);
	flow_receive(&x->up, 8);
	flow_receive(&x->down, 8);
	if (w.pool.lent > x->most_lent)
		x->most_lent = w.pool.lent;
	return (x->up.ended && x->down.ended) || x->up.broken || x->down.broken;
}

static int nodelay_of(int fd)
{
	int on = -1;
	socklen_t len = sizeof(on);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
	return on;
}

static bool has_input(void *arg)
{
	struct pollfd p = {.fd = *(int *)arg, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

/* An upstream that was opened without TCP_NODELAY gets it when something is written to it, and the
 * owner's watchers go on being used. */
static void taken_over(void **state)
{
	struct outcome o;
	struct relay *r;
	int off = 0;
	char c;

	(void)state;
	open_link(&o, false, false, FOREVER, NULL);
	r = &o.link->relay;
	r->b_delays = true;
	assert_int_equal(setsockopt(r->b.fd, IPPROTO_TCP, TCP_NODELAY, &off, sizeof(off)), 0);
	assert_int_equal(send(o.server, "x", 1, 0), 1);
	assert_true(rig_until(&w, has_input, &o.device));
	assert_int_equal(recv(o.device, &c, 1, 0), 1);
	assert_int_equal(nodelay_of(r->b.fd), 0);
	assert_int_equal(send(o.device, "y", 1, 0), 1);
	assert_true(rig_until(&w, has_input, &o.server));
	assert_int_equal(recv(o.server, &c, 1, 0), 1);
	assert_int_equal(nodelay_of(r->b.fd), 1);
	close_ours(&o);
	o.device = o.server = -1;
	check_end(&o, END_CLOSED);
}

/* 10 MB each way at once, in pieces of random size. */
static void bulk(void **state)
{
	(void)state;
	for (int mode = 0; mode < (rig_has_mptcp() ? 4 : 1); mode++) {
		struct outcome o;
		struct both x;

		open_link(&o, mode & 1, mode >> 1, FOREVER, NULL);
		memset(&x, 0, sizeof(x));
		x.up = (struct flow){.from = o.device,
				     .to = o.server,
				     .seed = 1,
				     .total = BULK,
				     .chunk = 100000};
		x.down = (struct flow){
			.from = o.server, .to = o.device, .seed = 2, .total = BULK, .chunk = 20000};
		assert_true(rig_until_s(&w, exchanged, &x, 60));
		assert_false(x.up.broken || x.down.broken);
		assert_false(x.up.wrong || x.down.wrong);
		assert_true(x.up.received == BULK && x.down.received == BULK);
		assert_in_range(x.most_lent, 0, 2);
		check_end(&o, END_CLOSED);
		assert_true(o.up == BULK && o.down == BULK);
		assert_int_equal(o.firsts, 3);
		close_ours(&o);
	}
}

/* A limit on what goes down: 5,000 octets at a time with a pause between, for the first 300,000. */
#define GRANT     5000u
#define LIMIT_END 300000u
static struct {
	uint64_t wrote, pauses;
	size_t left;
	bool over;
} grant;

static size_t room_cb(struct relay *r, double *wait_s)
{
	(void)r;
	assert_false(grant.over); /* not asked again after SIZE_MAX */
	if (grant.wrote >= LIMIT_END) {
		grant.over = true;
		return SIZE_MAX;
	}
	if (grant.left == 0 && grant.pauses * GRANT < grant.wrote) {
		grant.pauses++;
		grant.left = GRANT;
		*wait_s = 0.001;
		return 0;
	}
	return grant.left;
}

static void wrote_cb(struct relay *r, size_t len)
{
	(void)r;
	assert_in_range(len, 1, grant.left);
	grant.left -= len;
	grant.wrote += len;
}

static void limited_room(void **state)
{
	struct relay_limit some = {.room = room_cb, .wrote = wrote_cb};
	struct outcome o;
	struct both x;

	(void)state;
	memset(&grant, 0, sizeof(grant));
	grant.left = GRANT;
	limit = &some;
	open_link(&o, false, false, FOREVER, NULL);
	limit = NULL;
	memset(&x, 0, sizeof(x));
	x.up = (struct flow){
		.from = o.device, .to = o.server, .seed = 1, .total = 1 << 20, .chunk = 20000};
	x.down = (struct flow){
		.from = o.server, .to = o.device, .seed = 2, .total = 1 << 20, .chunk = 20000};
	assert_true(rig_until_s(&w, exchanged, &x, 60));
	assert_false(x.up.wrong || x.down.wrong || x.up.broken || x.down.broken);
	assert_true(x.up.received == 1 << 20 && x.down.received == 1 << 20);
	check_end(&o, END_CLOSED);
	assert_true(grant.over);
	assert_int_equal(grant.wrote, LIMIT_END);
	assert_int_equal(grant.pauses, LIMIT_END / GRANT - 1); /* the first was free */
	close_ours(&o);
}

/* A pause under way when the relay ends from outside, and when the device is gone. */
static size_t never_room_cb(struct relay *r, double *wait_s)
{
	(void)r;
	*wait_s = FOREVER;
	return 0;
}

static bool is_pausing(void *arg)
{
	struct link *l = arg;

	return ev_is_active(&l->limit->pause);
}

static void ended_in_a_pause(void **state)
{
	struct relay_limit none = {.room = never_room_cb, .wrote = wrote_cb};
	struct outcome o;

	(void)state;
	for (int mode = 0; mode < 2; mode++) {
		limit = &none;
		open_link(&o, false, false, FOREVER, NULL);
		limit = NULL;
		assert_int_equal(send(o.server, "hello", 5, MSG_NOSIGNAL), 5);
		assert_true(rig_until(&w, is_pausing, o.link));
		if (mode == 0) {
			relay_end(&o.link->relay, END_SHUTDOWN, 0);
			check_end(&o, END_SHUTDOWN);
		} else {
			sock_reset(o.device);
			o.device = -1;
			check_end(&o, END_RESET_DOWN);
		}
		close_ours(&o);
	}
}

/* ---- small talk ---- */

struct expect {
	int fd;
	const char *text; /* NULL: end of file; */
	int err;          /* or this errno */
	size_t got;
};

static bool arrived(void *arg)
{
	struct expect *x = arg;
	char buf[64];
	ssize_t n = recv(x->fd, buf, sizeof(buf), 0);

	if (n < 0 && errno == EAGAIN)
		return false;
	if (x->err || n < 0) {
		if (n >= 0 || errno != x->err)
			fail_msg("%zd, %s", n, n < 0 ? strerror(errno) : "no error");
		return true;
	}
	if (!x->text) {
		assert_int_equal(n, 0);
		return true;
	}
	assert_in_range(n, 1, strlen(x->text) - x->got);
	assert_memory_equal(buf, x->text + x->got, (size_t)n);
	x->got += (size_t)n;
	return x->got == strlen(x->text);
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void hear(int fd, const char *text)
{
	assert_true(rig_until(&w, arrived, &(struct expect){.fd = fd, .text = text}));
}

static void hear_eof(int fd)
{
	assert_true(rig_until(&w, arrived, &(struct expect){.fd = fd}));
}

static void hear_reset(int fd)
{
	assert_true(rig_until(&w, arrived, &(struct expect){.fd = fd, .err = ECONNRESET}));
}

static bool write_fails(void *fd)
{
	return send(*(int *)fd, "x", 1, MSG_NOSIGNAL) < 0 &&
	       (errno == EPIPE || errno == ECONNRESET);
}

/* After an end of file a reset is no error of recv; but nothing can be written. */
static void hear_reset_after_eof(int fd)
{
	assert_true(rig_until(&w, write_fails, &fd));
}

/* Let some ticks go by. */
static void run_for(double seconds)
{
	bool never = false;

	assert_false(rig_until_s(&w, rig_flag, &never, seconds));
}

/* One side ends its half; the other still answers, for longer than some ticks. */
static void half_close(void **state)
{
	(void)state;
	for (int mode = 0; mode < (rig_has_mptcp() ? 4 : 1); mode++) {
		for (int server_first = 0; server_first < 2; server_first++) {
			struct outcome o;
			int one, two;

			open_link(&o, mode & 1, mode >> 1, 2., NULL); /* ticks each 0.5 s */
			one = server_first ? o.server : o.device;
			two = server_first ? o.device : o.server;
			say(one, "last words");
			assert_int_equal(shutdown(one, SHUT_WR), 0);
			hear(two, "last words");
			hear_eof(two);
			run_for(0.8);
			say(two, "answer");
			hear(one, "answer");
			run_for(0.8);
			say(two, "and more");
			hear(one, "and more");
			assert_false(o.done);
			assert_int_equal(shutdown(two, SHUT_WR), 0);
			hear_eof(one);
			check_end(&o, END_CLOSED);
			close_ours(&o);
		}
	}
}

/* Nothing is written to a before it may be; the other direction does not wait. */
static void held_back(void **state)
{
	struct outcome o;

	(void)state;
	open_link(&o, false, false, FOREVER, "early");
	o.link->relay.hold = true;
	hear(o.server, "early");
	say(o.server, "answer");
	assert_int_equal(shutdown(o.server, SHUT_WR), 0);
	run_for(0.2);
	assert_false(has_input(&o.device));
	relay_release(&o.link->relay);
	hear(o.device, "answer");
	hear_eof(o.device);
	assert_int_equal(shutdown(o.device, SHUT_WR), 0);
	hear_eof(o.server);
	check_end(&o, END_CLOSED);
	close_ours(&o);
}

/* Released before its first turn, which still takes place. */
static void released_at_once(void **state)
{
	struct outcome o;

	(void)state;
	open_link(&o, false, false, FOREVER, "early");
	o.link->relay.hold = true;
	relay_release(&o.link->relay);
	hear(o.server, "early");
	say(o.server, "answer");
	hear(o.device, "answer");
	relay_end(&o.link->relay, END_SHUTDOWN, 0);
	check_end(&o, END_SHUTDOWN);
	close_ours(&o);
}

/* The owner is told soon that it has lasted; what is asked now and then comes later. */
static void ticks_early(void **state)
{
	struct outcome o;
	int on = -1;
	socklen_t len = sizeof(on);

	(void)state;
	open_link(&o, false, false, FOREVER, NULL);
	assert_int_equal(
		setsockopt(o.link->relay.b.fd, SOL_SOCKET, SO_KEEPALIVE, &(int){0}, sizeof(int)),
		0);
	run_for(0.3);
	assert_int_equal(o.ticks, 0);
	run_for(1.2);
	assert_int_equal(o.ticks, 1);
	assert_int_equal(getsockopt(o.link->relay.b.fd, SOL_SOCKET, SO_KEEPALIVE, &on, &len), 0);
	assert_int_equal(on, 0);
	relay_end(&o.link->relay, END_SHUTDOWN, 0);
	check_end(&o, END_SHUTDOWN);
	close_ours(&o);
}

static uint32_t packets_in(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	return info.tcpi_segs_in;
}

/* The other way is still open: used, closed, and that is the end. */
static void thanks_and_closes(struct outcome *o)
{
	say(o->device, "thanks");
	hear(o->server, "thanks");
	assert_int_equal(shutdown(o->device, SHUT_WR), 0);
	hear_eof(o->server);
	check_end(o, END_CLOSED);
}

/* What is there together goes on together: an answer and the end behind it in one packet. */
static void answers_and_closes(void **state)
{
	(void)state;
	for (int mode = 0; mode < (rig_has_mptcp() ? 4 : 1); mode++) {
		struct outcome o;
		uint32_t before;

		open_link(&o, mode & 1, mode >> 1, FOREVER, NULL);
		run_for(0.05); /* its handshake is over */
		before = packets_in(o.device);
		say(o.server, "answer");
		assert_int_equal(shutdown(o.server, SHUT_WR), 0);
		hear(o.device, "answer");
		hear_eof(o.device);
		if (mode == 0)
			assert_int_equal(packets_in(o.device), before + 1);
		thanks_and_closes(&o);
		close_ours(&o);
	}
}

/* An answer is not lost by looking for an end that turns out to be a reset. */
static void answers_and_resets(void **state)
{
	struct outcome o;

	(void)state;
	open_link(&o, false, false, FOREVER, NULL);
	run_for(0.05);
	say(o.server, "answer");
	sock_reset(o.server);
	o.server = -1;
	hear(o.device, "answer");
	check_end(&o, END_RESET_UP);
	hear_reset(o.device);
	close_ours(&o);
}

/* The server's answer has been read before the relay began, with the proxy's reply. */
static void early_answer(struct outcome *o)
{
	struct relay *r;

	open_link(o, false, false, FOREVER, NULL);
	r = &o->link->relay;
	assert_int_equal(buf_put(&r->b.in, &w.pool, "answer", 6), 6);
	r->b.bytes_in += 6;
}

static void answered_and_closed_early(void **state)
{
	struct outcome o;
	uint32_t before;

	(void)state;
	early_answer(&o);
	before = packets_in(o.device);
	assert_int_equal(shutdown(o.server, SHUT_WR), 0);
	hear(o.device, "answer");
	hear_eof(o.device);
	assert_int_equal(packets_in(o.device), before + 1);
	thanks_and_closes(&o);
	assert_int_equal(o.down, 6);
	close_ours(&o);
}

static void answered_and_reset_early(void **state)
{
	struct outcome o;

	(void)state;
	early_answer(&o);
	sock_reset(o.server);
	o.server = -1;
	hear(o.device, "answer");
	check_end(&o, END_RESET_UP);
	hear_reset(o.device);
	close_ours(&o);
}

static void early_bytes(void **state)
{
	struct outcome o;

	(void)state;
	open_link(&o, false, false, FOREVER, "early");
	say(o.device, " and late");
	hear(o.server, "early and late");
	say(o.server, "ok");
	hear(o.device, "ok");
	assert_int_equal(w.pool.lent, 0); /* idle flows hold no memory */
	assert_int_equal(o.link->relay.a.bytes_in, 14);
	close(o.server);
	o.server = -1;
	hear_eof(o.device);
	close(o.device);
	o.device = -1;
	check_end(&o, END_CLOSED);
	assert_int_equal(o.up, 14);
	assert_int_equal(o.down, 2);
}

static bool buffer_arrived(void *arg)
{
	struct flow *f = arg;

	flow_receive(f, 8);
	return f->received == BUF_SIZE || f->broken;
}

/* The first read fills a buffer to the last octet, the second one finds nothing: the memory
 * must not stay with the idle flow. */
static void exactly_one_buffer(void **state)
{
	static uint8_t data[BUF_SIZE];
	struct outcome o;
	struct flow f;
	size_t sent = 0;

	(void)state;
	open_link(&o, false, false, FOREVER, NULL);
	f = (struct flow){.to = o.server, .seed = 9, .chunk = 100000};
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = octet_at(f.seed, i);
	while (sent < sizeof(data)) { /* all of it is there before the relay reads */
		ssize_t n;
		assert_true(rig_wait(o.device, POLLOUT));
		n = send(o.device, data + sent, sizeof(data) - sent, 0);
		assert_true(n > 0);
		sent += (size_t)n;
	}
	assert_true(rig_until(&w, buffer_arrived, &f));
	assert_false(f.broken || f.wrong);
	run_for(0.02);
	assert_int_equal(w.pool.lent, 0);
	relay_end(&o.link->relay, END_CLOSED, 0);
	check_end(&o, END_CLOSED);
	close_ours(&o);
}

/* ---- through pipes ---- */

struct bulk {
	struct outcome *o;
	struct flow flow;
	bool spliced;     /* at some time */
	size_t most_pipe; /* octets in one */
};

static void bulk_look(struct bulk *x)
{
	struct end *e;

	if (x->o->done)
		return;
	e = x->flow.from == x->o->device ? &x->o->link->relay.a : &x->o->link->relay.b;
	x->spliced |= e->splices;
	if (end_pipe(e) && end_pipe(e)->len > x->most_pipe)
		x->most_pipe = end_pipe(e)->len;
	assert_true(!end_pipe(e) || e->in.len == 0); /* else the order would be lost */
}

static bool bulk_over(void *arg)
{
	struct bulk *x = arg;

	bulk_look(x);
	flow_send(&x->flow);
	bulk_look(x);
	flow_receive(&x->flow, 8);
	return x->flow.ended || x->flow.broken;
}

static struct bulk bulk_of(struct outcome *o, bool up, uint32_t seed, uint64_t total)
{
	struct flow f = {.from = up ? o->device : o->server,
			 .to = up ? o->server : o->device,
			 .seed = seed,
			 .total = total,
			 .chunk = 100000};

	return (struct bulk){.o = o, .flow = f};
}

/* One direction in bulk, whole and in order. True if it went through a pipe. */
static bool moves_bulk(struct outcome *o, bool up, uint32_t seed)
{
	struct bulk x = bulk_of(o, up, seed, 4 * BULK);

	assert_true(rig_until_s(&w, bulk_over, &x, 60));
	assert_false(x.flow.wrong || x.flow.broken);
	assert_true(x.flow.received == x.flow.total);
	return x.spliced;
}

static void through_pipes(void **state)
{
	(void)state;
	for (int mode = 0; mode < (rig_has_mptcp() ? 4 : 1); mode++) {
		struct outcome o;

		open_link(&o, mode & 1, mode >> 1, FOREVER, NULL);
		assert_int_equal(moves_bulk(&o, true, 3), mode == 0);
		assert_int_equal(moves_bulk(&o, false, 4), mode == 0);
		check_end(&o, END_CLOSED);
		assert_true(o.up == 4 * BULK && o.down == 4 * BULK);
		close_ours(&o);
	}
	assert_in_range(w.pipes.n, 1, 2);
	pipepool_trim(&w.pipes); /* all were wanted lately */
	assert_in_range(w.pipes.n, 1, 2);
	pipepool_trim(&w.pipes);
	assert_int_equal(w.pipes.n, 0);
}

static void no_pipe_left(void **state)
{
	struct pipepool keep = w.pipes;
	struct outcome o;

	(void)state;
	w.pipes = (struct pipepool){.n = 1000, .max = 16};
	open_link(&o, false, false, FOREVER, NULL);
	assert_false(moves_bulk(&o, true, 5));
	assert_int_equal(w.pipes.n, 1000);
	assert_false(moves_bulk(&o, false, 6));
	check_end(&o, END_CLOSED);
	close_ours(&o);
	w.pipes = keep;
}

static bool pipe_full(void *arg)
{
	struct bulk *x = arg;
	struct end *e = &x->o->link->relay.a;

	flow_send(&x->flow);
	/* Up to there the server takes what comes, so that a pipe is thought worth while. */
	if (x->flow.received < BULK)
		flow_receive(&x->flow, 8);
	bulk_look(x);
	return end_pipe(e) && x->flow.received >= BULK && x->flow.send_errno == EAGAIN;
}

/* It ends while bytes are in the pipe: nobody else may get them. */
static void ended_with_full_pipe(void **state)
{
	(void)state;
	for (int how = 0; how < 3; how++) {
		struct outcome o;
		struct bulk x;

		open_link(&o, false, false, 8., NULL); /* a tick each 2 s */
		x = bulk_of(&o, true, 7, UINT64_MAX);
		assert_true(rig_until_s(&w, pipe_full, &x, 60));
		assert_int_equal(w.pipes.lent, 1);
		assert_in_range(x.most_pipe, 1, PIPE_BYTES);
		if (how == 0)
			relay_end(&o.link->relay, END_SHUTDOWN, 0);
		else
			sock_reset(how == 1 ? o.device : o.server);
		if (how == 1)
			o.device = -1;
		else if (how == 2)
			o.server = -1;
		check_end(&o, how == 0 ? END_SHUTDOWN : how == 1 ? END_RESET_DOWN : END_RESET_UP);
		close_ours(&o);

		open_link(&o, false, false, FOREVER, NULL);
		assert_true(moves_bulk(&o, true, 8));
		assert_true(moves_bulk(&o, false, 9));
		check_end(&o, END_CLOSED);
		close_ours(&o);
	}
}

static bool bulk_arrived(void *arg)
{
	struct bulk *x = arg;

	flow_receive(&x->flow, 8);
	return x->flow.received == x->flow.sent;
}

/* Words instead of bulk: copied again, at once and without a pipe. */
static void calms_down(void **state)
{
	struct outcome o;
	struct bulk x;

	(void)state;
	open_link(&o, false, false, FOREVER, NULL);
	x = bulk_of(&o, true, 10, UINT64_MAX);
	assert_true(rig_until_s(&w, pipe_full, &x, 60));
	assert_true(rig_until_s(&w, bulk_arrived, &x, 60));
	assert_false(x.flow.wrong);
	for (int i = 0; i < 10; i++) {
		say(o.device, "hello");
		hear(o.server, "hello");
		assert_int_equal(w.pipes.lent, 0);
	}
	assert_false(o.link->relay.a.splices);
	relay_end(&o.link->relay, END_CLOSED, 0);
	check_end(&o, END_CLOSED);
	close_ours(&o);
}

static void reset_passed_on(void **state)
{
	(void)state;
	for (int mode = 0; mode < (rig_has_mptcp() ? 4 : 1); mode++) {
		for (int by_server = 0; by_server < 2; by_server++) {
			struct outcome o;
			int *one, *two;

			open_link(&o, mode & 1, mode >> 1, FOREVER, NULL);
			one = by_server ? &o.server : &o.device;
			two = by_server ? &o.device : &o.server;
			say(*one, "hello");
			hear(*two, "hello");
			sock_reset(*one);
			*one = -1;
			check_end(&o, by_server ? END_RESET_UP : END_RESET_DOWN);
			assert_true(sock_errno_is_reset(o.err));
			hear_reset(*two);
			close_ours(&o);
		}
	}
}

/* The peer has closed: what is written to it is answered by a reset. */
static void write_after_close(void **state)
{
	struct outcome o;

	(void)state;
	open_link(&o, false, false, 8., NULL); /* a tick each 2 s */
	close(o.server);
	o.server = -1;
	hear_eof(o.device);
	say(o.device, "anybody there?");
	check_end(&o, END_RESET_UP);
	hear_reset_after_eof(o.device);
	close_ours(&o);
}

/* An end that has half-closed is reset while nothing is written to it. */
static void reset_after_half_close(void **state)
{
	(void)state;
	for (int mptcp = 0; mptcp <= rig_has_mptcp(); mptcp++) {
		struct outcome o;
		double start = rig_now();

		open_link(&o, mptcp, false, 8., NULL);
		say(o.device, "request");
		shutdown(o.device, SHUT_WR);
		hear(o.server, "request");
		hear_eof(o.server);
		sock_reset(o.device);
		o.device = -1;
		check_end(&o, END_RESET_DOWN);
		assert_true(rig_now() - start < 6.);
		hear_reset_after_eof(o.server);
		close_ours(&o);
	}
}

/* ---- back-pressure ---- */

static bool sender_stuck(void *arg)
{
	struct both *x = arg;
	uint64_t before = x->up.sent;
	static double since;

	flow_send(&x->up);
	if (w.pool.lent > x->most_lent)
		x->most_lent = w.pool.lent;
	if (x->up.sent != before)
		since = rig_now();
	return rig_now() - since > 0.3;
}

static bool drained(void *arg)
{
	struct both *x = arg;

	flow_send(&x->up);
	flow_receive(&x->up, 8);
	return x->up.ended || x->up.broken;
}

/* A reader that does not read stops the sender; the relay holds one buffer and no more, and
 * does not spin. Later everything arrives. */
static void back_pressure(void **state)
{
	(void)state;
	for (int mptcp = 0; mptcp <= rig_has_mptcp(); mptcp++) {
		struct outcome o;
		struct both x;
		unsigned turns;

		open_link(&o, false, mptcp, FOREVER, NULL);
		memset(&x, 0, sizeof(x));
		x.up = (struct flow){.from = o.device,
				     .to = o.server,
				     .seed = 5,
				     .total = 64u << 20,
				     .chunk = 100000};
		assert_true(rig_until(&w, sender_stuck, &x));
		assert_true(x.up.sent < x.up.total);
		assert_int_equal(x.most_lent, 1);
		turns = ev_iteration(w.loop);
		run_for(0.2); /* about 100 of them are our own */
		assert_true(ev_iteration(w.loop) - turns < 300);
		x.up.total = x.up.sent + 12345;
		assert_true(rig_until_s(&w, drained, &x, 60));
		assert_false(x.up.broken || x.up.wrong);
		assert_true(x.up.received == x.up.total);
		close(o.server);
		o.server = -1;
		hear_eof(o.device);
		check_end(&o, END_CLOSED);
		close_ours(&o);
	}
}

/* ---- time ---- */

static void idle_limit(void **state)
{
	struct outcome o;
	double start;

	(void)state;
	open_link(&o, false, false, 0.6, NULL);
	for (int i = 0; i < 4; i++) { /* alive as long as something moves, in one direction */
		run_for(0.4);
		say(o.server, "x");
		hear(o.device, "x");
	}
	start = rig_now();
	assert_false(o.done);
	check_end(&o, END_IDLE);
	assert_in_range((rig_now() - start) * 1000, 500, 1500);
	hear_reset(o.device);
	hear_reset(o.server);
	close_ours(&o);
}

/* A slow reader empties the buffer; nothing is read meanwhile, yet it is not idle. */
static bool sip(void *arg)
{
	struct both *x = arg;
	static double next;

	if (rig_now() >= next) {
		flow_receive(&x->up, 40);
		next = rig_now() + 0.1;
	}
	return x->up.received == x->up.sent || x->up.broken;
}

static void slow_is_not_idle(void **state)
{
	struct outcome o;
	struct both x;
	double start;

	(void)state;
	open_link(&o, false, false, 2., NULL);
	memset(&x, 0, sizeof(x));
	x.up = (struct flow){
		.from = o.device, .to = o.server, .seed = 6, .total = 64u << 20, .chunk = 100000};
	assert_true(rig_until(&w, sender_stuck, &x));
	start = rig_now();
	x.up.chunk = 65536;
	assert_true(rig_until_s(&w, sip, &x, 60));
	assert_false(x.up.broken || x.up.wrong);
	assert_true(rig_now() - start > 0.2);
	assert_false(o.done);
	relay_end(&o.link->relay, END_SHUTDOWN, 0);
	check_end(&o, END_SHUTDOWN);
	close_ours(&o);
}

/* A reader that has stopped answers window probes; that a host which has vanished is noticed, t_wan
 * shows. */
static void not_reading_is_not_dead(void **state)
{
	(void)state;
	for (int mptcp = 0; mptcp <= rig_has_mptcp(); mptcp++) {
		struct outcome o;
		struct both x;

		dead_s = 0.5;
		open_link(&o, false, mptcp, FOREVER, NULL);
		dead_s = 0;
		memset(&x, 0, sizeof(x));
		x.up = (struct flow){.from = o.device,
				     .to = o.server,
				     .seed = 9,
				     .total = 64u << 20,
				     .chunk = 100000};
		assert_true(rig_until(&w, sender_stuck, &x));
		run_for(2.5);
		assert_false(o.done);
		x.up.total = x.up.sent + 12345;
		assert_true(rig_until_s(&w, drained, &x, 60));
		assert_false(x.up.broken || x.up.wrong);
		relay_end(&o.link->relay, END_SHUTDOWN, 0);
		check_end(&o, END_SHUTDOWN);
		close_ours(&o);
	}
}

/* NTP sets the clock of a router that thought it was 1970. */
static void clock_leaps(void **state)
{
	struct outcome o;
	ev_tstamp before;

	(void)state;
	clock_asked = false;
	ev_time();
	if (!clock_asked)
		skip(); /* this libev asks the kernel directly */
	open_link(&o, false, false, 2., NULL);
	say(o.device, "a");
	hear(o.server, "a");
	before = ev_now(w.loop);
	clock_leap_s = 20 * 365 * 86400;
	run_for(0.8);                               /* a tick at least */
	assert_true(ev_now(w.loop) > before + 1e6); /* the loop has noticed */
	assert_false(o.done);
	clock_leap_s = 0;
	run_for(0.8);
	say(o.device, "b");
	hear(o.server, "b");
	assert_false(o.done);
	check_end(&o, END_IDLE); /* and back in time the limit still works */
	close_ours(&o);
}

/* ---- ended by the owner ---- */

static void ended_from_outside(void **state)
{
	struct outcome o;

	(void)state;
	open_link(&o, false, false, FOREVER, NULL);
	say(o.device, "x");
	hear(o.server, "x");
	relay_end(&o.link->relay, END_CLOSED, 0);
	relay_end(&o.link->relay, END_SHUTDOWN, 0); /* the first one counts */
	check_end(&o, END_CLOSED);
	hear_eof(o.device);
	hear_eof(o.server);
	close_ours(&o);

	open_link(&o, false, false, FOREVER, "never sent");
	relay_end(&o.link->relay, END_SHUTDOWN, 0); /* before its first turn */
	check_end(&o, END_SHUTDOWN);
	hear_reset(o.device);
	hear_reset(o.server);
	close_ours(&o);
}

/* Both connections are dead before the relay starts: done comes later all the same. */
static void dead_on_arrival(void **state)
{
	struct outcome o;

	(void)state;
	open_link(&o, false, false, FOREVER, "x");
	sock_reset(o.server);
	o.server = -1;
	check_end(&o, END_RESET_UP);
	hear_reset(o.device);
	close_ours(&o);
}

/* ---- MPTCP that dies without a word ---- */

static bool run(const char *const *argv)
{
	int status;
	pid_t pid;

	return posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ) ==
		       0 &&
	       waitpid(pid, &status, 0) == pid && status == 0;
}

/* From now on a segment with data to the server is answered by a plain RST, as by a host
 * that was started anew. The kernel reports that only after close_timeout, a minute. */
static void silent_death(void **state)
{
	char rules[256];
	const char *const nft[] = {"nft", rules, NULL};
	const char *const undo[] = {"nft", "delete table inet t", NULL};
	struct sock_info info;
	struct outcome o;
	struct addr server;
	double start;

	(void)state;
	if (!rig_has_mptcp())
		skip();
	open_link(&o, false, true, 8., NULL);
	say(o.device, "hello");
	hear(o.server, "hello");
	say(o.server, "hello"); /* MPTCP stays only with an answer */
	hear(o.device, "hello");
	assert_int_equal(sock_info(o.link->relay.b.fd, &info), 0);
	assert_true(info.mptcp);
	assert_int_equal(addr_of_socket(o.server, &server), 0);
	snprintf(rules, sizeof(rules),
		 "add table inet t; add chain inet t c { type filter hook output priority 0; }; "
		 "add rule inet t c tcp dport %u reject with tcp reset",
		 addr_port(&server));
	if (!run(nft)) {
		relay_end(&o.link->relay, END_CLOSED, 0);
		check_end(&o, END_CLOSED);
		close_ours(&o);
		skip();
	}
	start = rig_now();
	say(o.device, "is anybody there?");
	check_end(&o, END_RESET_UP);
	assert_int_equal(o.err, ENOTCONN);
	assert_true(rig_now() - start < 6.);
	hear_reset(o.device);
	close_ours(&o);
	assert_true(run(undo));
}

/* The idlest first, none that has just moved, none without a buffer where buffers count. */
static void sheds_the_idlest(void **state)
{
	struct outcome old, busy, stuck;
	struct both x;

	(void)state;
	open_link(&old, false, false, FOREVER, NULL);
	open_link(&stuck, false, false, FOREVER, NULL);
	memset(&x, 0, sizeof(x));
	x.up = (struct flow){.from = stuck.device,
			     .to = stuck.server,
			     .seed = 5,
			     .total = 64u << 20,
			     .chunk = 100000};
	assert_true(rig_until(&w, sender_stuck, &x));
	run_for(0.3);
	open_link(&busy, false, false, FOREVER, NULL);
	run_for(0.05);
	assert_int_equal(w.relays.count, 3);
	assert_int_equal(relay_shed(&w, 10, 3600., false), 0);
	assert_int_equal(relay_shed(&w, 10, 0.2, true), 1);
	check_end(&stuck, END_BUDGET);
	hear_reset(stuck.device);
	assert_int_equal(relay_shed(&w, 0, 0., false), 0);
	assert_int_equal(relay_shed(&w, 1, 0., false), 1);
	check_end(&old, END_BUDGET);
	assert_int_equal(relay_shed(&w, 10, 0.2 + 3600., false), 0);
	assert_int_equal(relay_shed(&w, 10, 0., false), 1);
	check_end(&busy, END_BUDGET);
	assert_int_equal(relay_shed(&w, 10, 0., false), 0);
	assert_int_equal(w.relays.count, 0);
	close_ours(&old);
	close_ours(&busy);
	close_ours(&stuck);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(taken_over),
		cmocka_unit_test(bulk),
		cmocka_unit_test(through_pipes),
		cmocka_unit_test(no_pipe_left),
		cmocka_unit_test(ended_with_full_pipe),
		cmocka_unit_test(calms_down),
		cmocka_unit_test(limited_room),
		cmocka_unit_test(ended_in_a_pause),
		cmocka_unit_test(half_close),
		cmocka_unit_test(held_back),
		cmocka_unit_test(released_at_once),
		cmocka_unit_test(ticks_early),
		cmocka_unit_test(answers_and_closes),
		cmocka_unit_test(answers_and_resets),
		cmocka_unit_test(answered_and_closed_early),
		cmocka_unit_test(answered_and_reset_early),
		cmocka_unit_test(early_bytes),
		cmocka_unit_test(exactly_one_buffer),
		cmocka_unit_test(reset_passed_on),
		cmocka_unit_test(write_after_close),
		cmocka_unit_test(reset_after_half_close),
		cmocka_unit_test(back_pressure),
		cmocka_unit_test(idle_limit),
		cmocka_unit_test(slow_is_not_idle),
		cmocka_unit_test(not_reading_is_not_dead),
		cmocka_unit_test(clock_leaps),
		cmocka_unit_test(ended_from_outside),
		cmocka_unit_test(dead_on_arrival),
		cmocka_unit_test(silent_death),
		cmocka_unit_test(sheds_the_idlest),
	};
	int failed;

	if (!rig_netns())
		return RIG_SKIP;
	if (worker_init(&w, 0, NULL) < 0)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	worker_fini(&w);
	return failed;
}
