/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flows that begin at the front door (front.h): where to comes from a request, and the outcome is
 * told by a reply. Between the two a flow is like any other.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/auth.h"
#include "core/perclient.h"
#include "core/s6glue.h"
#include "core/sock.h"
#include "redir/flow_priv.h"
#include "redir/front.h"
#include "redir/front_bind.h"
#include "redir/front_guest.h"
#include "redir/front_udp.h"

#define CLIENTS_MAX   65536 /* the budget is the limit that counts */
#define FAREWELL_S    2.0   /* for the program to read its reply, and close */
#define FAREWELLS_MAX 256   /* of a worker */

/* What is needed until the program has been told the outcome. */
struct talk {
	struct front front;
	struct auth_check *check;
	struct resolve *resolve;
	struct addr addrs[RESOLVE_MAX]; /* of the name */
	unsigned n_addrs, next;
	bool waits; /* counted as one whose request is not whole */
	bool told;  /* the reply says why not */
	size_t len;
	uint8_t in[FRONT_HEAD_MAX];
};

const char *flow_front_entry(const struct flow *f)
{
	return f->front_kind == FRONT_UNKNOWN ? "front" : front_kind_str(f->front_kind);
}

/* ---- replies ---- */

/* It is the first that is written to the socket, but for some octets of a handshake: it fits. 0 or
 * -errno. */
static int send_reply(struct flow *f)
{
	const struct front *front = &f->at->talk->front;
	ssize_t n;

	if (front->reply_len == 0)
		return 0;
	n = send(f->at->dev_fd, front->reply, front->reply_len, MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	return (size_t)n == front->reply_len ? 0 : -ENOBUFS;
}

static void talk_over(struct flow *f)
{
	struct talk *t = f->at->talk;
	struct addr src = flow_src(f);

	if (t->check)
		auth_cancel(t->check);
	if (t->resolve)
		resolve_cancel(t->resolve);
	if (t->waits)
		perclient_wait_over(flow_rw(f)->redir->clients, &src);
	explicit_bzero(t, sizeof(*t)); /* there are passwords in it */
	free(t);
	f->at->talk = NULL;
	flow_rw(f)->requests--;
}

int flow_front_accept(struct flow *f)
{
	int rc;

	front_answer(&f->at->talk->front, S6_REPLY_SUCCESS);
	rc = send_reply(f);
	if (rc == 0)
		talk_over(f);
	return rc;
}

/* Closing at once would be a reset if the program has sent more, and it might not read the reply. */
struct farewell {
	struct list_node node; /* in redir_worker.farewells */
	struct redir_worker *rw;
	int fd;
	ev_io io;
	ev_timer limit;
};

static void farewell_end(struct farewell *w)
{
	ev_io_stop(w->rw->w.loop, &w->io);
	ev_timer_stop(w->rw->w.loop, &w->limit);
	list_remove(&w->rw->farewells, &w->node);
	close(w->fd);
	free(w);
}

static void farewell_io_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct farewell *w = container_of(io, struct farewell, io);
	ssize_t n = recv(w->fd, NULL, 65536, MSG_TRUNC);

	(void)loop;
	(void)events;
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
		farewell_end(w);
}

static void farewell_limit_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	farewell_end(container_of(t, struct farewell, limit));
}

void front_farewell(struct redir_worker *rw, int fd)
{
	struct farewell *w = rw->farewells.count < FAREWELLS_MAX ? calloc(1, sizeof(*w)) : NULL;

	if (!w || shutdown(fd, SHUT_WR) < 0) {
		free(w);
		close(fd);
		return;
	}
	w->rw = rw;
	w->fd = fd;
	ev_io_init(&w->io, farewell_io_cb, fd, EV_READ);
	ev_io_start(rw->w.loop, &w->io);
	ev_timer_init(&w->limit, farewell_limit_cb, FAREWELL_S, 0.);
	ev_timer_start(rw->w.loop, &w->limit);
	list_push(&rw->farewells, &w->node);
}

bool flow_front_open(struct redir *rd)
{
	rd->clients = perclient_new();
	rd->auth = auth_new();
	return rd->clients && rd->auth;
}

void flow_front_close(struct redir *rd)
{
	auth_free(rd->auth);
	rd->auth = NULL;
}

void flow_front_leave(struct redir_worker *rw)
{
	struct list_node *n;

	while ((n = list_first(&rw->farewells)))
		farewell_end(container_of(n, struct farewell, node));
	resolver_free(rw->resolver);
	rw->resolver = NULL;
}

/* What the program is told of an end. */
static unsigned result_of(const struct flow *f, enum end_reason reason, int err)
{
	switch (reason) {
	case END_REPLY_FAILURE:
		return f->reply_code;
	case END_DIRECT_FAILED:
	case END_FAILED_LATELY:
		return s6glue_reply_of_errno(err);
	case END_NO_UPSTREAM:
		return FRONT_NO_PROXY;
	case END_MAYBE_EXECUTED:
		return FRONT_LOST;
	case END_RESOLVE_FAILED:
		return FRONT_NO_NAME;
	case END_NOT_ALLOWED:
	case END_LOOP:
		return S6_REPLY_NOT_ALLOWED;
	case END_UNSUPPORTED:
		return S6_REPLY_CMD_UNSUPPORTED;
	case END_REQUEST_TIMEOUT:
		return FRONT_TOO_SLOW;
	case END_BUDGET:
	case END_LIMIT:
	case END_NO_MEMORY:
	case END_SHUTDOWN:
		return FRONT_FULL;
	default:
		return S6_REPLY_FAILURE;
	}
}

/* It has not been told yet. */
static void tell_end(struct flow *f, enum end_reason reason, int err)
{
	struct talk *t = f->at->talk;

	if (f->at->dev_fd >= 0 && reason != END_DOWN_GONE) {
		if (!t->told)
			front_answer(&t->front, result_of(f, reason, err));
		if (t->front.reply_len > 0 && send_reply(f) == 0) {
			front_farewell(flow_rw(f), f->at->dev_fd);
			f->at->dev_fd = -1;
		}
	}
	talk_over(f);
}

void flow_front_end(struct flow *f, enum end_reason reason, int err)
{
	struct addr src;

	if (!f->front)
		return;
	src = flow_src(f);
	if (f->state != FLOW_RELAY && f->at->talk)
		tell_end(f, reason, err);
	perclient_give(flow_rw(f)->redir->clients, &src);
}

/* ---- where to ---- */

/* What is this machine's own is for programs on it: others might reach what they cannot without
 * us. */
bool front_allows(const struct addr *src, const struct addr *dst)
{
	bool is_local = addr_classify(src) == ADDR_LOOPBACK;

	switch (addr_classify(dst)) {
	case ADDR_UNSPECIFIED:
	case ADDR_MULTICAST:
	case ADDR_RESERVED:
		return false;
	case ADDR_LOOPBACK:
	case ADDR_LINK_LOCAL:
		return is_local;
	default:
		return is_local || !addr_is_local(dst);
	}
}

/* As a captured connection: the rules leave these alone. */
bool front_is_direct(const struct redir_conf *c, const struct addr *dst)
{
	return addr_classify(dst) == ADDR_LOOPBACK || addr_is_local(dst) ||
	       conf_prefixes_contain(&c->exclude, dst);
}

/* Takes what the program has sent behind its request for the first bytes. */
static bool take_data(struct flow *f)
{
	struct talk *t = f->at->talk;
	struct relay *r = &f->relay;

	if (t->len == 0)
		return true;
	if (buf_put(&r->a.in, &f->relay.w->pool, t->in, t->len) < t->len)
		return false;
	r->a.bytes_in = t->len;
	t->len = 0;
	return true;
}

/* False: the flow has ended. */
static bool take_destination(struct flow *f)
{
	const struct s6_address *dst = &f->at->talk->front.dst;
	struct s6_address any = {.type = S6_ADDR_IPV4, .port = dst->port};
	bool is_name = dst->type == S6_ADDR_NAME;
	struct addr to, src = flow_src(f);

	if (is_name) {
		f->at->name = strdup(dst->u.name);
		if (!f->at->name) {
			flow_end(f, END_NO_MEMORY, 0);
			return false;
		}
		dst = &any;
	}
	s6glue_to_addr(&to, dst);
	flow_set_dst(f, &to); /* there is room for any */
	if (!is_name && !front_allows(&src, &to)) {
		flow_end(f, END_NOT_ALLOWED, 0);
		return false;
	}
	return true;
}

/* It is no connection that is asked for: others go on with the program. */
static void hand_over(struct flow *f)
{
	struct attempt *at = f->at;
	const struct talk *t = at->talk;
	const struct front_guest g = {.fd = at->dev_fd,
				      .src = flow_src(f),
				      .kind = t->front.kind,
				      .dst = &t->front.dst,
				      .early = t->in,
				      .early_len = t->len};
	enum end_reason reason;

	ev_io_stop(f->relay.w->loop, &at->dev_io);
	reason = t->front.command == S6_CMD_BIND ? front_bind_start(flow_rw(f), &g)
						 : front_udp_start(flow_rw(f), &g);
	if (reason != END_NONE) {
		flow_end(f, reason, 0);
		return;
	}
	talk_over(f);
	f->front = false; /* they count its address from now on */
	at->dev_fd = -1;
	flow_end(f, END_NONE, 0);
}

static void begin(struct flow *f)
{
	struct talk *t = f->at->talk;
	struct addr src = flow_src(f), dst;

	perclient_wait_over(flow_rw(f)->redir->clients, &src);
	t->waits = false;
	if (t->front.command != S6_CMD_CONNECT) {
		hand_over(f);
		return;
	}
	if (!take_destination(f))
		return;
	if (!take_data(f)) {
		flow_end(f, END_NO_MEMORY, 0);
		return;
	}
	ev_io_start(f->relay.w->loop, &f->at->dev_io);
	dst = flow_dst(f);
	if (f->at->name)
		f->at->decision = DECIDE_PROXY;
	else
		f->at->decision =
			front_is_direct(f->at->conf, &dst) ? DECIDE_DIRECT : flow_decision(f);
	flow_go(f, f->at->decision);
}

/* ---- the talk ---- */

static void talk_on(struct flow *f);

static void refuse(struct flow *f, enum end_reason reason)
{
	f->at->talk->told = true;
	flow_end(f, reason, 0);
}

static void bad_request(struct flow *f)
{
	struct addr from = flow_src(f);
	char src[ADDR_STRLEN];

	log_limited(
		&flow_rw(f)->limit_front, 5, LVL_NOTICE,
		"front door: %s says what cannot be served (%s): SOCKS 4, 4a, 5 and HTTP CONNECT "
		"are%s",
		addr_str(&from, src, sizeof(src)), flow_front_entry(f),
		f->at->conf->socks_users ? ", with a user name" : "");
	refuse(f, END_MALFORMED);
}

static void not_authenticated(struct flow *f)
{
	struct addr from = flow_src(f);
	char src[ADDR_STRLEN];

	log_limited(&flow_rw(f)->limit_front, 5, LVL_NOTICE,
		    "front door: %s gives a wrong user name or password (users are those of %s)",
		    addr_str(&from, src, sizeof(src)), f->at->conf->socks_users_file);
	refuse(f, END_AUTH_FAILED);
}

static void checked(struct flow *f, bool good)
{
	enum front_verdict v = front_checked(&f->at->talk->front, good);

	if (v == FRONT_REFUSED)
		not_authenticated(f);
	else if (v == FRONT_REQUEST)
		begin(f);
	else if (send_reply(f) < 0)
		flow_end(f, END_DOWN_GONE, 0);
	else
		talk_on(f);
}

static void checked_cb(void *owner, bool good)
{
	struct flow *f = owner;

	f->at->talk->check = NULL;
	checked(f, good);
}

static void check_user(struct flow *f)
{
	struct talk *t = f->at->talk;
	const struct users *users = f->at->conf->socks_users;
	struct addr src = flow_src(f);
	const char *hash = users_hash(users, t->front.user, t->front.user_len);
	bool known = hash != NULL;

	ev_io_stop(f->relay.w->loop, &f->at->dev_io);
	if (!known)
		hash = users_any_hash(users);
	if (hash)
		t->check = auth_start(flow_rw(f)->redir->auth, f->relay.w, &src, hash, known,
				      t->front.pass, t->front.pass_len, checked_cb, f);
	if (!t->check && hash && errno != EACCES)
		flow_end(f, END_LIMIT, 0); /* nothing is known of the password */
	else if (!t->check)
		checked(f, false);
}

static void act_on(struct flow *f, enum front_verdict v)
{
	switch (v) {
	case FRONT_MORE:
	case FRONT_SAY:
		ev_io_start(f->relay.w->loop, &f->at->dev_io);
		break;
	case FRONT_CHECK:
		check_user(f);
		break;
	case FRONT_REQUEST:
		begin(f);
		break;
	case FRONT_REFUSED:
		bad_request(f);
		break;
	}
}

static void talk_on(struct flow *f)
{
	struct talk *t = f->at->talk;
	enum front_verdict v;
	size_t used;

	do {
		v = front_feed(&t->front, t->in, t->len, &used);
		f->front_kind = t->front.kind;
		t->len -= used;
		memmove(t->in, t->in + used, t->len);
		if (v == FRONT_SAY && send_reply(f) < 0) {
			flow_end(f, END_DOWN_GONE, 0);
			return;
		}
	} while (v == FRONT_SAY);
	act_on(f, v);
}

void flow_front_readable(struct flow *f)
{
	struct talk *t = f->at->talk;
	ssize_t n = recv(f->at->dev_fd, t->in + t->len, sizeof(t->in) - t->len, 0);

	if (n > 0) {
		t->len += (size_t)n;
		talk_on(f);
	} else if (n == 0) {
		flow_end(f, END_DOWN_GONE, 0);
	} else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
		flow_end(f, END_DOWN_GONE, errno);
	} else {
		ev_io_start(f->relay.w->loop, &f->at->dev_io);
	}
}

/* ---- start ---- */

/* Without users the door is for this machine alone, whatever a reload has left open. */
static bool may_enter(struct redir_worker *rw, const struct addr *src)
{
	return rw->conf->socks_users || addr_classify(src) == ADDR_LOOPBACK;
}

static bool take_place(struct redir_worker *rw, const struct addr *src)
{
	struct perclient *clients = rw->redir->clients;
	unsigned most = (unsigned)rw->conf->socks_max_per_client;
	char text[ADDR_STRLEN];

	if (!perclient_take(clients, src, most, CLIENTS_MAX)) {
		log_limited(&rw->limit_front, 5, LVL_WARNING,
			    "front door: %s has %u connections: no more (socks_max_per_client)",
			    addr_str(src, text, sizeof(text)), most);
		return false;
	}
	if (perclient_wait(clients, src, most, CLIENTS_MAX))
		return true;
	log_limited(&rw->limit_front, 5, LVL_WARNING,
		    "front door: %s has %u connections on which it has not said where to: no more",
		    addr_str(src, text, sizeof(text)), most / 4);
	perclient_give(clients, src);
	return false;
}

/* NULL = out of memory. */
static struct talk *talk_new(const struct redir_worker *rw)
{
	struct talk *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	front_init(&t->front, rw->conf->socks_users != NULL);
	t->waits = true;
	return t;
}

/* An upstream's address is that of the door. */
static bool is_our_own(const struct flow *f)
{
	struct addr from = flow_src(f);
	char src[ADDR_STRLEN], door[ADDR_STRLEN];
	struct addr at;

	if (addr_of_socket(f->at->dev_fd, &at) < 0 ||
	    !loopguard_has(flow_rw(f)->redir->loopguard, &from, &at))
		return false;
	log_limited(
		&flow_rw(f)->limit_loop, 1, LVL_ERROR,
		"front door: our own connection %s -> %s came back: no proxy may have the address "
		"of socks",
		addr_str(&from, src, sizeof(src)), addr_str(&at, door, sizeof(door)));
	return true;
}

void flow_front_start(struct redir_worker *rw, int fd, const struct addr *src)
{
	struct talk *t;
	struct flow *f;

	if (!may_enter(rw, src) || !take_place(rw, src)) {
		rw->counters.ended[END_LIMIT]++;
		sock_reset(fd);
		return;
	}
	t = talk_new(rw);
	f = t ? flow_admit(rw, fd, src, AF_INET6) : NULL;
	if (!f) {
		if (!t)
			sock_reset(fd);
		free(t);
		perclient_wait_over(rw->redir->clients, src);
		perclient_give(rw->redir->clients, src);
		return;
	}
	f->front = true;
	f->at->talk = t;
	rw->requests++;
	rw->counters.front++;
	flow_change(f, FLOW_REQUEST);
	if (is_our_own(f))
		flow_end(f, END_LOOP, 0);
	else
		flow_front_readable(f);
}

/* ---- names, where no proxy resolves them ---- */

/* The next of the addresses that may be tried. */
static bool flow_front_pick(struct flow *f)
{
	struct talk *t = f->at->talk;
	struct addr src = flow_src(f);

	while (t->next < t->n_addrs) {
		const struct addr *a = &t->addrs[t->next++];

		if (front_allows(&src, a)) {
			flow_set_dst(f, a);
			return true;
		}
	}
	return false;
}

static void resolved_cb(void *owner, enum resolve_error err, const struct addr *addrs, unsigned n,
			unsigned min_ttl_s)
{
	struct flow *f = owner;
	struct talk *t = f->at->talk;

	(void)min_ttl_s;
	t->resolve = NULL;
	if (err != RESOLVE_OK) {
		flow_because(f, "%s", resolve_error_str(err));
		flow_end(f, END_RESOLVE_FAILED, 0);
		return;
	}
	t->n_addrs = n < RESOLVE_MAX ? n : RESOLVE_MAX;
	memcpy(t->addrs, addrs, t->n_addrs * sizeof(*addrs));
	if (flow_front_pick(f))
		flow_direct(f);
	else
		flow_end(f, END_NOT_ALLOWED, 0);
}

struct resolver *front_resolver(struct redir_worker *rw)
{
	if (!rw->resolver)
		rw->resolver = resolver_new(&rw->w, NULL, rw->conf->mark);
	return rw->resolver;
}

bool flow_front_resolves(struct flow *f)
{
	struct redir_worker *rw = flow_rw(f);
	struct talk *t = f->at->talk;
	struct addr dst = flow_dst(f);

	if (!t || !f->at->name || !addr_is_any(&dst))
		return false;
	if (front_resolver(rw))
		t->resolve = resolve_start(rw->resolver, f->at->name, addr_port(&dst), AF_UNSPEC,
					   resolved_cb, f);
	if (!t->resolve)
		flow_end(f, END_RESOLVE_FAILED, 0);
	return true;
}

bool flow_front_has_more(const struct flow *f)
{
	const struct talk *t = f->at->talk;

	return t && t->next < t->n_addrs;
}

bool flow_front_another(struct flow *f)
{
	return flow_front_has_more(f) && flow_front_pick(f);
}
