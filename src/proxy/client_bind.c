/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client that asks for a port: its replies, and the connection that keeps a backlog alive. */
#include <string.h>

#include "core/s6glue.h"
#include "core/sock.h"
#include "core/text.h"
#include "proxy/client_priv.h"

/* A router that has lost its power is noticed after this and some probes. */
#define CONTROL_KEEPALIVE_S 20
#define UNREAD_MAX          4096 /* octets of notices that have not been acknowledged */

/* What its log line and row show from now on. */
static void name_peer(struct client *cl, const struct addr *peer)
{
	s6glue_from_addr(&cl->setup->dst, peer);
}

static void peer_here(void *owner, const struct op_bind_reply *reply)
{
	struct client *cl = owner;

	cl->setup->bind = NULL;
	name_peer(cl, &reply->addr);
	if (!reply_bind(cl, reply, false)) {
		sock_reset(reply->fd);
		return;
	}
	cl->remote_known = true;
	cl->remote_mptcp = reply->mptcp;
	cl->relay.b.in_handshake = sock_in_handshake(reply->fd); /* with Fast Open */
	client_relay(cl, reply->fd);
}

/* R30: told on the first connection as well. One that does not read is told no more than fits. */
static void peer_waits(void *owner, const struct op_bind_reply *reply)
{
	struct client *cl = owner;
	uint64_t unread;

	if (sock_unacked(cl->setup->fd, &unread) == 0 && unread <= UNREAD_MAX)
		reply_bind(cl, reply, false);
}

static void bind_failed(void *owner, const struct op_bind_reply *reply)
{
	struct client *cl = owner;

	cl->setup->bind = NULL;
	cl->setup->err = reply->err;
	if (reply_bind(cl, reply, false))
		client_drain(cl, reply->reason);
}

static const struct op_bind_ops ops = {
	.peer = peer_here, .waits = peer_waits, .failed = bind_failed};

static void tell_refusal(const struct client *cl, const struct op_bind_reply *reply)
{
	char peer[ADDR_STRLEN], user[ISSUED_USER_MAX * 4];
	const struct proxy_conf *c = cl->setup->conf;
	struct addr from = client_peer(cl);

	text_escape(user, sizeof(user), cl->setup->user[0] ? cl->setup->user : "-");
	addr_str(&from, peer, sizeof(peer));
	if (reply->reason == END_NOT_ALLOWED)
		log_limited(&cl->pw->limit_bind, 5, LVL_WARNING,
			    "client %s user=%s may not bind port %u: allow it with bind_ports in "
			    "[user] or [acl] (below 1024 that takes a restart)",
			    peer, user, cl->setup->dst.port);
	else if (reply->reason == END_LIMIT)
		log_limited(&cl->pw->limit_bind, 5, LVL_WARNING,
			    "client %s user=%s: too many bound ports (max_binds = %d, "
			    "max_binds_per_user = %d)",
			    peer, user, c->max_binds, c->max_binds_per_user);
	else if (reply->reason == END_BIND_FAILED)
		log_limited(&cl->pw->limit_bind, 5, LVL_NOTICE,
			    "client %s user=%s: port %u cannot be bound: %s", peer, user,
			    cl->setup->dst.port, strerror(reply->err));
}

void client_bind(struct client *cl)
{
	struct setup *s = cl->setup;
	const struct op_bind_wish wish = {.addr = &s->dst,
					  .stack = &s->stack,
					  .user = s->user,
					  .session = s->in_session ? s->session_id : NULL};
	struct op_bind_reply first;

	s->bind = op_bind_start(cl->pw, &wish, &ops, cl, &first);
	if (!s->bind) {
		s->err = first.err;
		tell_refusal(cl, &first);
		if (reply_bind(cl, &first, true))
			client_drain(cl, first.reason);
		return;
	}
	name_peer(cl, &first.addr);
	if (!reply_bind(cl, &first, true))
		return;
	if (op_bind_has_backlog(s->bind)) {
		sock_keepalive_idle(s->fd, CONTROL_KEEPALIVE_S);
		client_change(cl, CLIENT_CONTROL);
	} else {
		client_change(cl, CLIENT_BIND);
	}
}

bool client_bind_read(struct client *cl)
{
	if (cl->relay.a.eof) /* it waits for nobody any more */
		client_end(cl, END_CLOSED, 0);
	else if (cl->state == CLIENT_CONTROL && cl->relay.a.in.len > 0)
		client_end(cl, END_MALFORMED, 0); /* this connection carries no data */
	return cl->state != CLIENT_CLOSED;
}

void client_bind_look(struct client *cl)
{
	if (sock_mptcp_dead(cl->setup->fd))
		client_end(cl, END_DEAD_DOWN, 0);
}
