/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/op_bind.h"

#include <errno.h>
#include <ev.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/s6glue.h"
#include "core/sock.h"
#include "proxy/listenport.h"
#include "proxy/proxy.h"

#define ANY_PORT_TRIES 256 /* of those that the user may bind, when he does not name one */

struct op_bind {
	struct proxy_worker *pw;
	const struct op_bind_ops *ops;
	void *owner;
	struct listenport *port; /* its own, or */
	struct pickup *pickup;   /* a wait for a peer of another's */
	bool has_backlog;
	ev_timer limit; /* bind_timeout for the peer; not with a backlog */
};

static void op_free(struct op_bind *op)
{
	ev_timer_stop(op->pw->w.loop, &op->limit);
	if (op->port)
		listenport_close(op->port);
	if (op->pickup)
		pickup_cancel(op->pickup);
	free(op);
}

void op_bind_stop(struct op_bind *op)
{
	op_free(op);
}

bool op_bind_has_backlog(const struct op_bind *op)
{
	return op->has_backlog;
}

static struct op_bind_reply failure(uint8_t code, enum end_reason reason, int err)
{
	return (struct op_bind_reply){.code = code, .reason = reason, .err = err, .fd = -1};
}

static void fail(struct op_bind *op, uint8_t code, enum end_reason reason, int err)
{
	struct op_bind_reply reply = failure(code, reason, err);
	const struct op_bind_ops *ops = op->ops;
	void *owner = op->owner;

	op_free(op);
	ops->failed(owner, &reply);
}

/* ---- peers ---- */

/* Octets that are there with the SYN. */
static unsigned syn_octets(int fd, const struct sock_info *info)
{
	uint8_t data[2048]; /* more than a SYN can carry */
	ssize_t n = info->syn_data_acked ? recv(fd, data, sizeof(data), MSG_PEEK) : 0;

	return n > 0 ? (unsigned)n : 0;
}

static void here(struct op_bind *op, const struct bind_peer *peer)
{
	struct op_bind_reply reply = {.addr = peer->addr, .fd = peer->fd};
	const struct op_bind_ops *ops = op->ops;
	struct sock_info info;
	void *owner = op->owner;

	if (sock_info(peer->fd, &info) == 0) {
		reply.mptcp = info.mptcp;
		reply.syn_bytes = syn_octets(peer->fd, &info);
	}
	op_free(op);
	ops->peer(owner, &reply);
}

static void port_peer(void *owner, const struct bind_peer *peer)
{
	struct op_bind *op = owner;
	struct op_bind_reply reply = {.addr = peer->addr, .fd = -1};

	if (peer->fd < 0) {
		op->ops->waits(op->owner, &reply);
		return;
	}
	op->port = NULL;
	here(op, peer);
}

static void port_lost(void *owner)
{
	struct op_bind *op = owner;

	op->port = NULL;
	fail(op, S6_REPLY_FAILURE, END_TAKEN_OVER, 0);
}

static const struct listenport_ops port_ops = {.peer = port_peer, .lost = port_lost};

static void picked_up(void *owner, const struct bind_peer *peer)
{
	struct op_bind *op = owner;

	op->pickup = NULL;
	if (peer)
		here(op, peer);
	else
		fail(op, S6_REPLY_FAILURE, END_TAKEN_OVER, 0);
}

static void limit_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct op_bind *op = container_of(t, struct op_bind, limit);

	(void)loop;
	(void)events;
	fail(op, S6_REPLY_TIMED_OUT, END_NO_PEER, 0);
}

/* ---- the request ---- */

static uint8_t code_of(int err)
{
	return err == EADDRINUSE || err == EDQUOT ? S6_REPLY_FAILURE : s6glue_reply_of_errno(err);
}

static enum end_reason reason_of(int err)
{
	if (err == EDQUOT)
		return END_LIMIT;
	return err == EACCES || err == EPERM ? END_NOT_ALLOWED : END_BIND_FAILED;
}

/* At the given port. */
static int open_port(struct op_bind *op, const struct op_bind_wish *wish, const struct addr *addr)
{
	const struct proxy_conf *c = op->pw->conf;
	const struct s6_stack *s = wish->stack;
	unsigned backlog = s6_stack_has(s, S6_STACK_BACKLOG) ? s->value[S6_STACK_BACKLOG] : 0;
	const struct listenport_wish port = {
		.addr = *addr,
		.user = wish->user,
		.session = wish->session,
		.backlog =
			backlog < (unsigned)c->bind_backlog ? backlog : (unsigned)c->bind_backlog,
		.mptcp = c->mptcp != 0 && !(s6_stack_has(s, S6_STACK_MULTIPATH) &&
					    s->value[S6_STACK_MULTIPATH] == S6_AVAIL_NO),
		.fastopen = c->tfo != 0 && s6_stack_has(s, S6_STACK_TFO),
		.max = (unsigned)c->max_binds,
		.max_per_user = (unsigned)c->max_binds_per_user,
	};

	return listenport_open(op->pw->proxy->listenports, op->pw, &port, &port_ops, op, &op->port);
}

/* Any that the user may have. */
static int open_any(struct op_bind *op, const struct op_bind_wish *wish, struct addr addr)
{
	const struct acl *acl = &op->pw->conf->acl;
	unsigned n = acl_bind_count(acl, wish->user), at = 0;
	int rc = -EACCES;

	if (getrandom(&at, sizeof(at), GRND_NONBLOCK) < 0)
		at = (unsigned)op->pw->next_id;
	for (unsigned i = 0; i < n && i < ANY_PORT_TRIES; i++) {
		addr_set_port(&addr, acl_bind_nth(acl, wish->user, (at % n + i) % n));
		rc = open_port(op, wish, &addr);
		if (rc != -EADDRINUSE)
			return rc;
	}
	return rc;
}

static int bind_it(struct op_bind *op, const struct op_bind_wish *wish, const struct addr *addr)
{
	if (addr_port(addr) == 0)
		return open_any(op, wish, *addr);
	if (!acl_may_bind(&op->pw->conf->acl, wish->user, addr_port(addr)))
		return -EACCES;
	return open_port(op, wish, addr);
}

/* A further request of a session for the port that it has. */
static bool picks_up(struct op_bind *op, const struct op_bind_wish *wish, const struct addr *addr,
		     struct listenport_facts *facts)
{
	if (!wish->session || addr_port(addr) == 0 || s6_stack_has(wish->stack, S6_STACK_BACKLOG))
		return false;
	op->pickup = pickup_start(op->pw->proxy->listenports, op->pw, addr, wish->session,
				  picked_up, op, facts);
	return op->pickup != NULL;
}

static void begin(struct op_bind *op, const struct listenport_facts *facts,
		  struct op_bind_reply *first)
{
	*first =
		(struct op_bind_reply){.addr = facts->addr, .fd = facts->fd, .mptcp = facts->mptcp};
	if (op->port) {
		first->backlog = facts->backlog;
		op->has_backlog = facts->backlog > 0;
	}
	if (!op->has_backlog)
		ev_timer_start(op->pw->w.loop, &op->limit);
}

struct op_bind *op_bind_start(struct proxy_worker *pw, const struct op_bind_wish *wish,
			      const struct op_bind_ops *ops, void *owner,
			      struct op_bind_reply *first)
{
	struct op_bind *op;
	struct listenport_facts facts;
	struct addr addr;
	int rc = 0;

	if (!s6glue_to_addr(&addr, wish->addr)) {
		*first = failure(S6_REPLY_ADDR_UNSUPPORTED, END_UNSUPPORTED, 0);
		return NULL;
	}
	op = calloc(1, sizeof(*op));
	if (!op) {
		*first = failure(S6_REPLY_FAILURE, END_NO_MEMORY, ENOMEM);
		return NULL;
	}
	op->pw = pw;
	op->ops = ops;
	op->owner = owner;
	ev_timer_init(&op->limit, limit_cb, pw->conf->bind_timeout_s, 0.);
	if (!picks_up(op, wish, &addr, &facts)) {
		rc = bind_it(op, wish, &addr);
		if (rc == 0)
			listenport_facts(op->port, &facts);
	}
	if (rc < 0) {
		*first = failure(code_of(-rc), reason_of(-rc), -rc);
		op_free(op);
		return NULL;
	}
	begin(op, &facts, first);
	return op;
}
