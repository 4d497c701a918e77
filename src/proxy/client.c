/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/client.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/perclient.h"
#include "core/sock.h"
#include "core/text.h"
#include "proxy/client_priv.h"
#include "proxy/peruser.h"
#include "proxy/sndlimit.h"

/*
 * Time limits
 *   REQUEST  waiting_timeout for the first octet, where few enough clients wait (perclient_wait); then
 *            request_timeout until the request is complete. Where more wait: request_timeout for all
 *            of it, from accept on
 *   AUTH     request_timeout again, for the password check
 *   CONNECT  connect_timeout, kept by op_connect; HOLD_S for the authentication reply
 *   BIND     bind_timeout, kept by op_bind; the connection is looked at each LOOK_S
 *   CONTROL  none; likewise
 *   DRAIN    DRAIN_S, for a client to take its last answer and close
 *   RELAY    idle, kept by the relay
 */
#define YIELDS_S 1.0 /* a client that has waited so long makes room for another one */
#define PAUSE_S  0.2 /* longer than the handshake of most */
#define DRAIN_S  2.0
#define SHED_S   2.0     /* REQUEST, of a client that is only to be told that there are too many, */
			 /* or that the proxy stops */
#define HOLD_S    0.001  /* CONNECT, before the authentication reply goes out alone */
#define TRY_EVERY 16     /* one in so many may wait for the server, where those are not near */
#define DRAIN_MAX 262144 /* octets thrown away before patience ends */

/* An association's connection is asked about MPTCP soon after the subflows can have joined, then now
 * and then. That of a relay has its ticks. */
#define FACTS_FIRST_S 0.5
#define FACTS_S       15.0
#define LOOK_S        2.0

static void client_bury(struct corpse *c)
{
	struct client *cl = container_of(c, struct client, corpse);

	free(cl->limit);
	free(cl->label);
	free(cl);
}

/* ---- ending ---- */

/* There may be a password in it. */
static void forget_input(struct client *cl)
{
	struct buf *in = &cl->relay.a.in;

	if (in->len > 0)
		explicit_bzero(in->mem + in->off, in->len);
	buf_clear(in, &cl->pw->w.pool);
}

/* It has said something, or has gone. */
static void wait_over(struct client *cl)
{
	struct addr peer;

	if (!list_linked(&cl->setup->wait))
		return;
	list_remove(&cl->pw->waiting, &cl->setup->wait);
	if (!cl->setup->patient)
		return;
	peer = client_peer(cl);
	perclient_wait_over(cl->pw->proxy->perclient, &peer);
}

static void setup_free(struct client *cl)
{
	struct setup *s = cl->setup;
	struct proxy_worker *pw = cl->pw;

	ev_timer_stop(pw->w.loop, &s->deadline);
	synwatch_remove(&pw->synwatch, &s->syn);
	wait_over(cl);
	if (s->check)
		auth_cancel(s->check);
	if (s->op)
		op_connect_stop(s->op);
	if (s->assoc)
		assoc_stop(s->assoc);
	if (s->bind)
		op_bind_stop(s->bind);
	if (list_linked(&s->excess))
		list_remove(&pw->excess, &s->excess);
	if (s->fd >= 0)
		close(s->fd);
	free(s->held);
	proxy_conf_put(s->conf);
	free(s);
	cl->setup = NULL;
}

/* It relays: what is not needed any more goes, or stays where there is no memory for the rest. */
static void setup_over(struct client *cl)
{
	if (!cl->label)
		cl->label = client_label(cl->setup);
	if (cl->label && !list_linked(&cl->setup->syn.node))
		setup_free(cl);
}

void client_end(struct client *cl, enum end_reason reason, int err)
{
	struct proxy_worker *pw = cl->pw;
	struct addr peer = client_peer(cl);

	if (cl->state == CLIENT_CLOSED)
		return;
	if (cl->state != CLIENT_RELAY) /* the relay has asked already; its sockets are gone */
		client_note_facts_at_end(cl, cl->setup->fd);
	client_log_end(cl, reason, err);
	cl->state = CLIENT_CLOSED;
	pw->counters.ended[reason]++;
	pw->counters.bytes_up += cl->relay.b.bytes_out;
	pw->counters.bytes_down += cl->relay.b.bytes_in;
	ev_io_stop(pw->w.loop, &cl->relay.a.io);
	forget_input(cl);
	if (cl->counted_user)
		peruser_give(pw->proxy->peruser, client_user(cl));
	if (cl->setup)
		setup_free(cl);
	if (cl->counted) {
		perclient_give(pw->proxy->perclient, &peer);
		budget_give(&pw->proxy->budget);
	}
	list_remove(&pw->clients, &cl->node);
	cl->corpse.bury = client_bury;
	worker_bury(&pw->w, &cl->corpse);
}

static void client_deadline(struct client *cl, double s)
{
	ev_timer_stop(cl->pw->w.loop, &cl->setup->deadline);
	if (s <= 0)
		return;
	ev_timer_set(&cl->setup->deadline, s, 0.);
	ev_timer_start(cl->pw->w.loop, &cl->setup->deadline);
}

static double request_s(const struct client *cl)
{
	double waiting_s = cl->setup->conf->waiting_timeout_s,
	       request_s = cl->setup->conf->request_timeout_s;

	if (!cl->counted)
		return SHED_S;
	if (!list_linked(&cl->setup->wait))
		return request_s;
	if (cl->pw->leaving)
		return SHED_S;
	return cl->setup->patient || waiting_s < request_s ? waiting_s : request_s;
}

/* Interest before the relay: room means read. */
static void client_watch(struct client *cl)
{
	bool want = cl->setup->fd >= 0 && !cl->relay.a.eof && cl->relay.a.in.len < BUF_SIZE;

	if (want)
		ev_io_start(cl->pw->w.loop, &cl->relay.a.io);
	else
		ev_io_stop(cl->pw->w.loop, &cl->relay.a.io);
}

/* The authentication reply may wait for the other one, the handshake does not ask for it. */
static bool holds_by_choice(const struct client *cl)
{
	return cl->setup->held_len > 0 && !list_linked(&cl->setup->syn.node);
}

void client_change(struct client *cl, enum client_state state)
{
	cl->state = state;
	switch (state) {
	case CLIENT_REQUEST:
		client_deadline(cl, request_s(cl));
		break;
	case CLIENT_AUTH:
		client_deadline(cl, cl->setup->conf->request_timeout_s);
		break;
	case CLIENT_DRAIN:
		client_deadline(cl, DRAIN_S);
		break;
	case CLIENT_UDP:
		client_deadline(cl, cl->mptcp_socket ? FACTS_FIRST_S : 0);
		break;
	case CLIENT_BIND:
	case CLIENT_CONTROL:
		client_deadline(cl, LOOK_S);
		break;
	case CLIENT_CONNECT:
		client_deadline(cl, holds_by_choice(cl) ? HOLD_S : 0);
		break;
	case CLIENT_RELAY:
	case CLIENT_CLOSED:
		client_deadline(cl, 0);
		break;
	}
	if (state == CLIENT_UDP)
		ev_io_stop(cl->pw->w.loop, &cl->relay.a.io); /* the association reads */
	else if (state != CLIENT_RELAY)
		client_watch(cl);
}

/* Closing at once could destroy the answer on its way (unread bytes make the kernel send a
 * reset), so only our direction is closed, and the rest is read. */
void client_drain(struct client *cl, enum end_reason reason)
{
	cl->setup->drain_reason = reason;
	forget_input(cl);
	if (!list_linked(&cl->setup->syn.node))
		shutdown(cl->setup->fd, SHUT_WR);
	/* Without a handshake that holds the answer back nothing is left to wait for. */
	if (cl->relay.a.eof && !list_linked(&cl->setup->syn.node))
		client_end(cl, reason, cl->setup->err);
	else
		client_change(cl, CLIENT_DRAIN);
}

static void end_any(struct client *cl, enum end_reason reason, int err)
{
	if (cl->state == CLIENT_RELAY)
		relay_end(&cl->relay, reason, err);
	else
		client_end(cl, reason, err);
}

/* Replies are far smaller than an empty socket buffer: they go out at once or not at all. */
static bool send_now(struct client *cl, const void *data, size_t len)
{
	struct setup *s = cl->setup;
	struct iovec parts[] = {{s->held, s->held_len}, {(void *)(uintptr_t)data, len}};
	struct msghdr msg = {.msg_iov = parts, .msg_iovlen = 2};
	int fd = cl->state == CLIENT_RELAY ? cl->relay.a.fd : s->fd, err;
	ssize_t n;

	do
		n = sendmsg(fd, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	err = n < 0 ? errno : EIO;
	len += s->held_len;
	s->held_len = 0;
	free(s->held);
	s->held = NULL;
	if (n == (ssize_t)len)
		return true;
	end_any(cl, sock_errno_is_reset(err) ? END_RESET_DOWN : END_INTERNAL, err);
	return false;
}

static bool hold(struct setup *s, const void *data, size_t len)
{
	if (len > CLIENT_HELD_MAX - (size_t)s->held_len)
		return false;
	if (!s->held)
		s->held = malloc(CLIENT_HELD_MAX);
	if (!s->held)
		return false;
	memcpy(s->held + s->held_len, data, len);
	s->held_len = (uint16_t)(s->held_len + len);
	return true;
}

bool client_send(struct client *cl, const void *data, size_t len)
{
	struct setup *s = cl->setup;

	return (list_linked(&s->syn.node) && hold(s, data, len)) || send_now(cl, data, len);
}

/* The client's third packet has come. */
static void handshake_over(struct synwatch_entry *e)
{
	struct client *cl = container_of(e, struct setup, syn)->cl;

	client_note_facts(cl, cl->state == CLIENT_RELAY ? cl->relay.a.fd : cl->setup->fd);
	cl->pw->counters.mptcp_clients += cl->mptcp;
	if (cl->setup->held_len > 0 && !send_now(cl, NULL, 0))
		return;
	if (cl->state == CLIENT_DRAIN)
		shutdown(cl->setup->fd, SHUT_WR);
	if (cl->state == CLIENT_RELAY)
		setup_over(cl);
	relay_release(&cl->relay);
}

/* Where servers answer within HOLD_S, and for NOOP, the authentication reply
 * goes out together with the operation reply: a packet less, and the client wakes once. */
static bool may_hold(const struct client *cl)
{
	const struct proxy_worker *pw = cl->pw;
	const struct setup *s = cl->setup;

	if (s->command != S6_CMD_CONNECT)
		return true;
	if (pw->leaving || !cl->counted)
		return false; /* it is refused; seen when stopping: some then take it for a loss */
	return s->dst.type != S6_ADDR_NAME && (pw->near || cl->id % TRY_EVERY == 0);
}

bool client_send_soon(struct client *cl, const void *data, size_t len)
{
	return (may_hold(cl) && hold(cl->setup, data, len)) || client_send(cl, data, len);
}

/* ---- relay ---- */

/* Subflows come and go: a running connection is asked now and then, and at its end. */
static void relay_ticked(struct relay *r)
{
	client_note_facts(container_of(r, struct client, relay), r->a.fd);
}

static void relay_closing(struct relay *r)
{
	struct client *cl = container_of(r, struct client, relay);

	if (cl->setup) /* before its descriptor is closed */
		synwatch_remove(&cl->pw->synwatch, &cl->setup->syn);
	client_note_facts_at_end(cl, r->a.fd);
}

static size_t relay_room(struct relay *r, double *wait_s)
{
	struct client *cl = container_of(r, struct client, relay);

	return sndlimit_room(&cl->limit->snd, r->a.fd, r->a.bytes_out, wait_s);
}

static void relay_wrote(struct relay *r, size_t len)
{
	sndlimit_wrote(&container_of(r, struct client, relay)->limit->snd, len);
}

static struct relay_limit *relay_limit(struct relay *r)
{
	return &container_of(r, struct client, relay)->limit->relay;
}

static void relay_done(struct relay *r, enum end_reason reason, int err)
{
	struct client *cl = container_of(r, struct client, relay);

	client_end(cl, reason, err);
}

static const struct relay_ops relay_ops = {
	.done = relay_done, .closing = relay_closing, .ticked = relay_ticked, .limit = relay_limit};

void client_relay(struct client *cl, int fd)
{
	struct proxy_worker *pw = cl->pw;
	int own = cl->setup->fd;

	ev_io_stop(pw->w.loop, &cl->relay.a.io);
	cl->setup->fd = -1;
	client_change(cl, CLIENT_RELAY);
	cl->relay.idle_s = (float)cl->setup->conf->idle_s;
	cl->relay.dead_s = (float)cl->setup->conf->dead_s;
	cl->relay.a.mortal = true;
	setup_over(cl);
	relay_start(&cl->relay, own, fd, &relay_ops);
}

static void connected(void *owner, const struct op_connect_result *result)
{
	struct client *cl = owner;

	cl->setup->op = NULL;
	cl->setup->err = result->err;
	if (holds_by_choice(cl))
		cl->pw->near = true;
	if (result->code != S6_REPLY_SUCCESS) {
		if (reply_op(cl, result->code, result))
			client_drain(cl, result->reason);
		return;
	}
	if (!reply_op(cl, S6_REPLY_SUCCESS, result)) {
		sock_reset(result->fd);
		return;
	}
	cl->remote_known = true;
	cl->remote_mptcp = result->mptcp;
	buf_consume(&cl->relay.a.in, &cl->pw->w.pool, result->queued);
	cl->relay.b.bytes_out = result->queued;
	cl->relay.b.fell_back = result->fell_back;
	client_relay(cl, result->fd);
}

/* ---- the request ---- */

/* One more connection of this user? */
static bool take_user(struct client *cl)
{
	struct proxy_worker *pw = cl->pw;
	char user[ISSUED_USER_MAX * 4];

	if (!cl->setup->user[0])
		return true;
	cl->counted_user = peruser_take(pw->proxy->peruser, cl->setup->user,
					(unsigned)cl->setup->conf->max_per_user);
	if (cl->counted_user)
		return true;
	text_escape(user, sizeof(user), cl->setup->user);
	log_limited(&pw->limit_user, 5, LVL_WARNING,
		    "user %s: too many connections (max_per_user = %d)", user,
		    cl->setup->conf->max_per_user);
	return false;
}

/* Why the request is refused, or END_NONE. The acceptor and the budget have logged their limits. */
static enum end_reason refusal(struct client *cl)
{
	struct proxy_worker *pw = cl->pw;

	if (!cl->counted)
		return END_LIMIT;
	if (pw->leaving && !pw->proxy->handed_over)
		return END_SHUTDOWN;
	if (cl->setup->command == S6_CMD_NOOP)
		return END_NONE;
	if (budget_short_of_memory(&pw->proxy->budget, &pw->w))
		return END_BUDGET;
	return take_user(cl) ? END_NONE : END_LIMIT;
}

/* False: it is refused, and has been told so. A general failure says nothing about the server, so
 * that the client may go another way. */
static bool within_limits(struct client *cl)
{
	enum end_reason reason = refusal(cl);

	if (reason == END_NONE)
		return true;
	if (reply_op(cl, S6_REPLY_FAILURE, NULL))
		client_drain(cl, reason);
	return false;
}

void client_act(struct client *cl)
{
	struct op_connect_wish wish = {
		.dst = &cl->setup->dst, .stack = &cl->setup->stack, .early = &cl->relay.a.in};

	if (!within_limits(cl))
		return;
	switch (cl->setup->command) {
	case S6_CMD_NOOP:
		if (reply_op(cl, S6_REPLY_SUCCESS, NULL))
			client_drain(cl, END_NOOP); /* R8 */
		break;
	case S6_CMD_CONNECT:
		client_change(cl, CLIENT_CONNECT);
		cl->setup->op = op_connect_start(cl->pw, &wish, connected, cl);
		if (!cl->setup->op && reply_op(cl, S6_REPLY_FAILURE, NULL))
			client_drain(cl, END_NO_MEMORY);
		break;
	case S6_CMD_UDP_ASSOCIATE:
		client_associate(cl);
		break;
	case S6_CMD_BIND:
		client_bind(cl);
		break;
	default: /* R16 */
		if (reply_op(cl, S6_REPLY_CMD_UNSUPPORTED, NULL))
			client_drain(cl, END_UNSUPPORTED);
		break;
	}
}

static void try_request(struct client *cl)
{
	struct buf *in = &cl->relay.a.in;
	struct s6_request req;
	enum s6_fault why = S6_FAULT_NONE;
	size_t used = 0;

	switch (s6_request_parse(buf_data(in), in->len, &req, &used, &why)) {
	case S6_OK:
		request_handle(cl, &req); /* it points into the buffer */
		if (cl->state != CLIENT_CLOSED && cl->state != CLIENT_DRAIN) {
			explicit_bzero(in->mem + in->off, used);
			buf_consume(in, &cl->pw->w.pool, used);
		}
		break;
	case S6_BAD:
		request_fault(cl, why);
		break;
	case S6_MORE:
		if (cl->relay.a.eof) /* a connection without a word is some probe's */
			client_end(cl, in->len ? END_MALFORMED : END_CLOSED, 0);
		break;
	}
}

/* ---- events before the relay ---- */

/* Throw away what still comes; false when the client has ended. */
static void read_drain(struct client *cl)
{
	uint8_t trash[4096];
	ssize_t n = recv(cl->setup->fd, trash, sizeof(trash), 0);

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return;
	if (n > 0) {
		cl->setup->drained += (size_t)n;
		if (cl->setup->drained <= DRAIN_MAX)
			return;
	} else if (n == 0 && list_linked(&cl->setup->syn.node)) {
		cl->relay.a.eof = true; /* our answer is still held back by the handshake */
		client_watch(cl);
		return;
	}
	client_end(cl, cl->setup->drain_reason, cl->setup->err);
}

static void read_more(struct client *cl)
{
	struct relay *r = &cl->relay;
	size_t room;
	uint8_t *at = buf_room(&r->a.in, &cl->pw->w.pool, &room);
	ssize_t n;

	if (!at) {
		if (r->a.in.mem)
			client_watch(cl); /* full: back-pressure until the relay runs */
		else
			client_end(cl, END_NO_MEMORY, ENOMEM);
		return;
	}
	n = recv(cl->setup->fd, at, room, 0);
	if (n > 0) {
		buf_added(&r->a.in, (size_t)n);
		r->a.bytes_in += (uint64_t)n;
	} else if (r->a.in.len == 0) {
		int err = errno;
		buf_clear(&r->a.in, &cl->pw->w.pool);
		errno = err;
	}
	if (n < 0) {
		if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
			client_end(cl, END_RESET_DOWN, errno);
		return;
	}
	if (n == 0)
		r->a.eof = true;
	if (list_linked(&cl->setup->wait)) { /* these are its first octets */
		if (cl->mptcp && !cl->fastopen && worker_now(&cl->pw->w) - cl->started > PAUSE_S)
			sock_window_after_pause(cl->setup->fd);
		wait_over(cl);
		client_deadline(cl, cl->setup->conf->request_timeout_s);
	}
	if (cl->state == CLIENT_REQUEST)
		try_request(cl);
	else if (cl->setup->bind && !client_bind_read(cl))
		return;
	if (cl->state != CLIENT_CLOSED && cl->state != CLIENT_RELAY && cl->state != CLIENT_UDP)
		client_watch(cl);
}

static void io_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct client *cl = container_of(io, struct client, relay.a.io);

	(void)loop;
	(void)events;
	if (cl->state == CLIENT_DRAIN)
		read_drain(cl);
	else
		read_more(cl);
}

static void deadline_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct client *cl = container_of(t, struct setup, deadline)->cl;

	(void)loop;
	(void)events;
	if (cl->state == CLIENT_UDP) { /* not a deadline: subflows come and go */
		client_note_facts(cl, cl->setup->fd);
		client_deadline(cl, FACTS_S);
	} else if (cl->setup->bind) {
		client_deadline(cl, LOOK_S);
		client_bind_look(cl);
	} else if (cl->state == CLIENT_DRAIN) {
		client_end(cl, cl->setup->drain_reason, cl->setup->err);
	} else if (cl->state == CLIENT_CONNECT) {
		cl->pw->near = false;
		client_send(cl, NULL, 0);
	} else {
		client_end(cl,
			   list_linked(&cl->setup->wait) && cl->pw->leaving ? END_SHUTDOWN
									    : END_REQUEST_TIMEOUT,
			   0);
	}
}

/* How it came to be. */
static void note_start(struct client *cl)
{
	struct proxy_worker *pw = cl->pw;
	struct setup *s = cl->setup;
	struct sock_info info;

	cl->mptcp_socket = sock_is_mptcp(s->fd);
	if (sock_info_tcp(s->fd, &info) < 0)
		return;
	cl->fastopen = info.syn_data_acked;
	cl->relay.a.in_handshake = info.state == SOCK_SYN_RECV;
	pw->counters.fastopen_clients += cl->fastopen;
	if (!cl->mptcp_socket)
		return;
	if (info.state == SOCK_SYN_RECV) {
		cl->relay.hold = true;
		s->syn.over = handshake_over;
		synwatch_add(&pw->synwatch, &s->syn, s->fd);
	} else {
		client_note_facts(cl, s->fd);
		pw->counters.mptcp_clients += cl->mptcp;
	}
	if (cl->fastopen)
		cl->limit = calloc(1, sizeof(*cl->limit));
	if (!cl->limit)
		return; /* without memory it is slower, not wrong */
	sndlimit_init(&cl->limit->snd, &info);
	cl->limit->relay.room = relay_room;
	cl->limit->relay.wrote = relay_wrote;
	cl->relay.limited = true;
}

static void wait_begin(struct client *cl)
{
	const struct proxy_conf *c = cl->setup->conf;
	struct addr peer = client_peer(cl);

	list_push(&cl->pw->waiting, &cl->setup->wait);
	cl->setup->patient = perclient_wait(cl->pw->proxy->perclient, &peer,
					    (unsigned)c->max_per_client, (unsigned)c->max_clients);
}

/* In no list and no state yet. NULL = out of memory. */
static struct client *client_new(struct proxy_worker *pw, int fd, const struct addr *peer)
{
	bool v6 = addr_family(peer) == AF_INET6;
	struct client *cl = calloc(1, sizeof(*cl) + (v6 ? ADDR_PACKED_V6 : ADDR_PACKED_V4));
	struct setup *s = calloc(1, sizeof(*s));

	if (!cl || !s) {
		free(cl);
		free(s);
		return NULL;
	}
	cl->pw = pw;
	cl->setup = s;
	cl->id = ++pw->next_id;
	cl->v6 = v6;
	addr_pack(peer, cl->peer);
	cl->started = worker_now(&pw->w);
	relay_init(&cl->relay, &pw->w);
	ev_io_init(&cl->relay.a.io, io_cb, fd, EV_READ);
	s->cl = cl;
	s->conf = proxy_conf_get(pw->conf);
	s->fd = fd;
	ev_init(&s->deadline, deadline_cb);
	return cl;
}

void client_start(struct proxy_worker *pw, int fd, const struct addr *peer, bool counted)
{
	struct client *cl = client_new(pw, fd, peer);

	if (!cl) {
		if (counted) {
			perclient_give(pw->proxy->perclient, peer);
			budget_give(&pw->proxy->budget);
		}
		pw->counters.ended[END_NO_MEMORY]++;
		close(fd);
		return;
	}
	cl->counted = counted;
	list_push(&pw->clients, &cl->node);
	pw->counters.accepted++;
	note_start(cl);
	if (!counted)
		list_push(&pw->excess, &cl->setup->excess);
	if (cl->fastopen)
		read_more(cl); /* the request came with the SYN */
	if (cl->state != CLIENT_REQUEST)
		return;
	if (counted && cl->relay.a.bytes_in == 0)
		wait_begin(cl);
	client_change(cl, CLIENT_REQUEST);
}

bool client_make_room(struct proxy_worker *pw, const struct addr *peer, bool all_full)
{
	struct addr key = perclient_key(peer);
	struct list_node *n;

	for (n = list_first(&pw->waiting); n; n = list_next(&pw->waiting, n)) {
		struct client *cl = container_of(n, struct setup, wait)->cl;
		struct addr from = client_peer(cl), theirs = perclient_key(&from);

		if (worker_now(&pw->w) - cl->started < YIELDS_S)
			return false; /* its request may be on its way; so may the later ones' */
		if (all_full || addr_equal_ip(&theirs, &key)) {
			client_end(cl, END_LIMIT, 0);
			return true;
		}
	}
	return false;
}

void client_end_excess(struct proxy_worker *pw)
{
	client_end(container_of(list_first(&pw->excess), struct setup, excess)->cl, END_LIMIT, 0);
}

void client_leave(struct proxy_worker *pw)
{
	struct list_node *n, *tmp;

	pw->leaving = true;
	list_for_each_safe (&pw->waiting, n, tmp)
		client_deadline(container_of(n, struct setup, wait)->cl, SHED_S);
	/* A port is had by one process only: the client finds the successor, or knows. */
	list_for_each_safe (&pw->clients, n, tmp) {
		struct client *cl = container_of(n, struct client, node);
		if (cl->state == CLIENT_CONTROL)
			client_end(cl, END_SHUTDOWN, 0);
	}
}

uint64_t client_memory(const struct proxy_worker *pw)
{
	return (uint64_t)pw->clients.count * (sizeof(struct client) + sizeof(struct setup) / 4);
}

void client_end_all(struct proxy_worker *pw, enum end_reason reason)
{
	struct list_node *n;

	while ((n = list_first(&pw->clients)))
		end_any(container_of(n, struct client, node), reason, 0);
}
