/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/up_socks6.h"

#include <string.h>

#include "core/s6glue.h"
#include "redir/up_socks5.h"

#define WINDOW_WISH 4096 /* tokens */

/* data needs 516 octets and must live until the request is built. */
static void add_credentials(struct s6_request *req, const struct upstream *up, uint8_t *data,
			    size_t cap)
{
	struct s6_userpass cred;
	size_t len;

	if (!up->username || !up->password)
		return;
	cred.user = (const uint8_t *)up->username;
	cred.user_len = (uint8_t)strlen(up->username);
	cred.pass = (const uint8_t *)up->password;
	cred.pass_len = (uint8_t)strlen(up->password);
	if (s6_userpass_build(&cred, data, cap, &len) != S6_OK)
		return;
	req->opts.auth_data[0] = (struct s6_auth_data){
		.method = S6_METHOD_USERPASS, .len = (uint16_t)len, .data = data};
	req->opts.n_auth_data = 1;
}

/* Where the hop is to connect to. False: such a name cannot be told. */
static bool add_destination(struct s6_request *req, const struct up_request *rq, unsigned i)
{
	const struct upstream_chain *c = rq->chain;
	bool last = i + 1 == c->n;

	s6glue_from_addr(&req->addr, last ? rq->dst : &c->hop[i + 1].g.addr);
	if (!last || !rq->name)
		return true;
	if (!s6glue_from_name(&req->addr, rq->name, addr_port(rq->dst)))
		return false;
	/* Both families, raced near the server (RFC 8305). */
	s6_stack_set(&req->opts.stack, S6_STACK_HAPPY_EYEBALLS, S6_AVAIL_YES);
	return true;
}

/* Without a token a replayed SYN could repeat what it asks for; so it could between two hops, where
 * the next one's token counts. */
static bool wants_tfo(const struct upstream_chain *c, unsigned i)
{
	if (!c->hop[i].g.has_token)
		return false;
	if (i + 1 == c->n)
		return c->hop[i].up->tfo != 0;
	return c->hop[i + 1].up->tfo != 0 && c->hop[i + 1].g.tfo && c->hop[i + 1].g.has_token;
}

/* Whoever looks for the routers on the way looks for its MTU as well. */
static void add_udp(struct s6_request *req, const struct up_request *rq)
{
	struct s6_stack *s = &req->opts.stack;

	s6glue_from_addr(&req->addr, rq->dst);
	s6_stack_set(s, S6_STACK_UDP_ERROR, S6_AVAIL_YES);
	if (rq->tos)
		s6_stack_set(s, S6_STACK_TOS_REMOTE, rq->tos);
	if (!rq->ttl)
		return;
	s6_stack_set(s, S6_STACK_TTL_REMOTE, rq->ttl);
	s6_stack_set(s, S6_STACK_NO_FRAG_REMOTE, S6_AVAIL_YES);
}

static bool build(struct up_socks6 *u, const struct up_request *rq, unsigned i, uint8_t *out,
		  size_t *len)
{
	const struct upstream_chain *c = rq->chain;
	const struct upstream_grant *g = &c->hop[i].g;
	bool last = i + 1 == c->n, open_session = last && rq->open_session;
	struct up_hop *h = &u->hop[i];
	struct s6_request req;
	struct s6_options *o = &req.opts;
	uint8_t credentials[2 * S6_USERPASS_MAX + 6];
	bool ok;

	memset(&req, 0, sizeof(req));
	req.command = last ? rq->command : S6_CMD_CONNECT;
	req.addr.type = S6_ADDR_IPV4; /* NOOP: all zero */
	if (req.command == S6_CMD_CONNECT) {
		if (!add_destination(&req, rq, i))
			return false;
		s6_stack_set(&o->stack, S6_STACK_MULTIPATH,
			     c->hop[last ? i : i + 1].up->mptcp ? S6_AVAIL_YES : S6_AVAIL_NO);
		h->wants_tfo = wants_tfo(c, i);
		if (h->wants_tfo)
			s6_stack_set(&o->stack, S6_STACK_TFO, 0);
		if (rq->tos)
			s6_stack_set(&o->stack, S6_STACK_TOS_REMOTE, rq->tos);
	}
	if (req.command == S6_CMD_UDP_ASSOCIATE)
		add_udp(&req, rq);
	if (req.command == S6_CMD_BIND) {
		s6glue_from_addr(&req.addr, rq->dst);
		s6_stack_set(&o->stack, S6_STACK_MULTIPATH,
			     c->hop[i].up->mptcp ? S6_AVAIL_YES : S6_AVAIL_NO);
		if (rq->backlog)
			s6_stack_set(&o->stack, S6_STACK_BACKLOG, (uint16_t)rq->backlog);
	}
	if (g->in_session && !open_session) {
		o->session_id = g->id;
		o->session_id_len = g->id_len;
		o->has_token_spend = g->has_token;
		o->token_spend = g->token;
		h->in_session = true;
		h->has_token = g->has_token;
	} else {
		add_credentials(&req, c->hop[i].up, credentials, sizeof(credentials));
		o->session_request = open_session;
		o->has_token_request = open_session;
		o->token_request = WINDOW_WISH;
	}
	ok = s6_request_build(&req, out, UP_REQUEST_MAX, len) == S6_OK;
	explicit_bzero(credentials, sizeof(credentials));
	return ok;
}

bool up_socks6_request(struct up_socks6 *u, const struct up_request *rq, uint8_t *out, size_t *len)
{
	size_t more;

	memset(u, 0, sizeof(*u));
	u->n = rq->chain->n;
	*len = 0;
	u->is_socks5 = rq->chain->hop[0].up->protocol == PROTOCOL_SOCKS5;
	if (u->is_socks5) /* never one of several */
		return up_socks5_request(u, rq, out, len);
	for (unsigned i = 0; i < u->n; i++) {
		if (!build(u, rq, i, out + *len, &more))
			return false;
		*len += more;
	}
	return true;
}

bool up_socks6_syn_safe(const struct up_socks6 *u)
{
	for (unsigned i = 0; i < u->n; i++)
		if (!u->hop[i].has_token)
			return false;
	return true;
}

size_t up_socks6_released(const struct up_socks6 *u, size_t len)
{
	return u->is_socks5 ? up_socks5_released(u, len) : len;
}

size_t up_socks6_harmless(const struct up_socks6 *u)
{
	return u->is_socks5 ? (size_t)u->s5.greeting_len + u->s5.credentials_len : 0;
}

bool up_socks6_takes_data(const struct up_socks6 *u)
{
	return !u->is_socks5 || u->s5.pipeline == PIPELINE_DATA;
}

unsigned up_socks6_missing(const struct up_socks6 *u)
{
	return u->at + up_socks6_is_chaining(u);
}

bool up_socks6_is_chaining(const struct up_socks6 *u)
{
	return u->at + 1 < u->n && u->hop[u->at].wait == UP_WAIT_OP;
}

struct up_leg up_socks6_leg(const struct up_socks6 *u, const struct upstream_chain *c, unsigned k,
			    double since_sent_s)
{
	const struct up_hop *h = &u->hop[k];

	return (struct up_leg){
		/* Passwords take their time to be checked. */
		.since_sent_s = h->in_session ? since_sent_s : 0,
		.asked_tfo = h->wants_tfo,
		.syn_octets = h->server_tfo,
		.stripped = c->hop[k + 1].up->mptcp && h->server_mptcp == S6_AVAIL_NO,
	};
}

enum upstream_failure up_chain_failure(uint8_t code)
{
	switch (code) {
	case S6_REPLY_TIMED_OUT:
		return UPSTREAM_SILENT;
	case S6_REPLY_NET_UNREACHABLE:
	case S6_REPLY_HOST_UNREACHABLE:
	case S6_REPLY_TTL_EXPIRED:
		return UPSTREAM_SOFT;
	default:
		return UPSTREAM_HARD;
	}
}

bool up_socks6_unheard(const struct up_socks6 *u)
{
	return u->at == 0 && u->hop[0].wait == UP_WAIT_AUTH;
}

static void keep_session(struct up_hop *u, const struct s6_options *o)
{
	if (o->has_token_window) {
		u->has_window = true;
		u->window_base = o->token_base;
		u->window_size = o->token_size;
	}
	if (u->has_session || o->session_id_len == 0 || o->session_id_len > SESSION_ID_MAX)
		return; /* first seen wins (R2) */
	u->has_session = true;
	u->session_id_len = o->session_id_len;
	memcpy(u->session_id, o->session_id, o->session_id_len);
}

/* Behind a "success" the proxy acts on the request, whatever the rest is worth. */
static enum up_verdict bad_auth(const struct up_hop *u, const struct s6_auth_reply *reply)
{
	return u->fault != S6_FAULT_VERSION && reply->type == S6_AUTH_SUCCESS ? UP_MALFORMED
									      : UP_NOT_SOCKS6;
}

static enum up_verdict read_auth(struct up_hop *u, const uint8_t *data, size_t len, size_t *used)
{
	struct s6_auth_reply reply;

	switch (s6_auth_reply_parse(data, len, &reply, used, &u->fault)) {
	case S6_MORE:
		return UP_MORE;
	case S6_BAD:
		return bad_auth(u, &reply);
	case S6_OK:
		break;
	}
	if (reply.opts.refuse != S6_FAULT_NONE) { /* R10 */
		u->fault = reply.opts.refuse;
		return bad_auth(u, &reply);
	}
	keep_session(u, &reply.opts);
	if (reply.type == S6_AUTH_SUCCESS) {
		u->wait = UP_WAIT_OP;
		return UP_AUTHENTICATED;
	}
	/* About a session or token that was not named they say no more than "no": whoever tries
	 * again without would do so for ever. */
	if (u->in_session && reply.opts.session_invalid)
		return UP_SESSION_INVALID;
	return u->has_token && reply.opts.token_rejected ? UP_TOKEN_REJECTED : UP_AUTH_REFUSED;
}

static enum up_verdict read_op(struct up_hop *u, const uint8_t *data, size_t len, size_t *used)
{
	struct s6_op_reply reply;

	switch (s6_op_reply_parse(data, len, &reply, used, &u->fault)) {
	case S6_MORE:
		return UP_MORE;
	case S6_BAD:
		return UP_MALFORMED;
	case S6_OK:
		break;
	}
	if (reply.opts.refuse != S6_FAULT_NONE) { /* R10 */
		u->fault = reply.opts.refuse;
		return UP_MALFORMED;
	}
	keep_session(u, &reply.opts);
	u->wait = UP_WAIT_NOTHING;
	u->code = reply.code;
	if (!s6glue_to_addr(&u->bind, &reply.bind))
		u->bind.len = 0;
	if (s6_stack_has(&reply.opts.stack, S6_STACK_BACKLOG))
		u->backlog = reply.opts.stack.value[S6_STACK_BACKLOG];
	if (s6_stack_has(&reply.opts.stack, S6_STACK_MULTIPATH))
		u->server_mptcp = (uint8_t)reply.opts.stack.value[S6_STACK_MULTIPATH];
	if (s6_stack_has(&reply.opts.stack, S6_STACK_TFO)) {
		u->server_tfo_known = true;
		u->server_tfo = reply.opts.stack.value[S6_STACK_TFO];
	}
	return reply.code == S6_REPLY_SUCCESS ? UP_READY : UP_REPLY;
}

enum up_verdict up_socks6_feed(struct up_socks6 *u, const uint8_t *data, size_t len, size_t *used)
{
	struct up_hop *h = up_socks6_hop(u);
	enum up_verdict v = UP_READY;

	*used = 0;
	if (u->is_socks5)
		return up_socks5_feed(u, data, len, used);
	if (h->wait == UP_WAIT_AUTH)
		return read_auth(h, data, len, used);
	if (h->wait == UP_WAIT_OP)
		v = read_op(h, data, len, used);
	if (v != UP_READY || u->at + 1 == u->n)
		return v;
	u->at++;
	return UP_CHAINED;
}

bool up_socks6_is_mismatch(const struct up_socks6 *u, const uint8_t *data, size_t len)
{
	return !u->is_socks5 && u->hop[u->at].wait == UP_WAIT_AUTH && len == 1 &&
	       data[0] == S6_VERSION;
}

const char *up_verdict_str(const struct up_socks6 *u, enum up_verdict v)
{
	switch (v) {
	case UP_MORE:
		return "reply is not complete";
	case UP_AUTHENTICATED:
		return "authenticated";
	case UP_CHAINED:
		return "next proxy reached";
	case UP_READY:
		return "ready";
	case UP_REPLY:
		return "operation failed";
	case UP_NOT_SOCKS6:
		return u->is_socks5 ? "it does not speak SOCKS 5" : "it does not speak SOCKSv6";
	case UP_AUTH_REFUSED:
		return "authentication refused";
	case UP_SESSION_INVALID:
		return "session unknown";
	case UP_TOKEN_REJECTED:
		return "token rejected";
	case UP_MALFORMED:
		return "malformed reply";
	}
	return "unknown";
}
