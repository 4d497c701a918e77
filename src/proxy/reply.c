/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a client is told: authentication and operation replies. */
#include <string.h>

#include "core/s6glue.h"
#include "proxy/client_priv.h"
#include "proxy/leg.h"

#define REPLY_MAX  512
#define STATUS_LEN 3

/* What has become of the credentials: the option points to status. */
static void put_status(struct s6_options *o, uint8_t code, uint8_t status[STATUS_LEN])
{
	s6_userpass_status_build(code, status);
	o->n_auth_data = 1;
	o->auth_data[0] = (struct s6_auth_data){
		.method = S6_METHOD_USERPASS, .len = STATUS_LEN, .data = status};
}

void reply_refuse(struct client *cl, enum end_reason reason, bool session_invalid)
{
	struct s6_auth_reply reply = {.type = S6_AUTH_FAILURE};
	uint8_t out[REPLY_MAX], status[STATUS_LEN];
	size_t len;

	reply.opts.session_invalid = session_invalid;
	if (cl->setup->gave_credentials && !session_invalid)
		put_status(&reply.opts, 1, status);
	if (s6_auth_reply_build(&reply, out, sizeof(out), &len) != S6_OK)
		client_end(cl, END_INTERNAL, 0);
	else if (client_send(cl, out, len))
		client_drain(cl, reason);
}

bool reply_auth(struct client *cl, bool in_session, const struct issued_answer *answer)
{
	struct s6_auth_reply reply = {.type = S6_AUTH_SUCCESS};
	struct s6_options *o = &reply.opts;
	uint8_t out[REPLY_MAX], status[STATUS_LEN];
	size_t len;

	if (cl->setup->gave_credentials && !in_session)
		put_status(o, 0, status);
	o->session_ok = in_session;
	if (cl->setup->opened) {
		o->session_id = answer->id;
		o->session_id_len = ISSUED_ID_LEN;
	}
	o->has_token_window = answer->has_window;
	o->token_base = answer->base;
	o->token_size = answer->size;
	o->token_accepted = answer->token == TOKEN_ACCEPTED;
	o->token_rejected = answer->token == TOKEN_REJECTED;
	if (o->token_rejected)
		reply.type = S6_AUTH_FAILURE;
	if (s6_auth_reply_build(&reply, out, sizeof(out), &len) != S6_OK) {
		client_end(cl, END_INTERNAL, 0);
		return false;
	}
	if (reply.type != S6_AUTH_FAILURE)
		return client_send_soon(cl, out, len);
	if (client_send(cl, out, len))
		client_drain(cl, END_TOKEN_REJECTED);
	return false;
}

static uint16_t avail(bool in_effect)
{
	return in_effect ? S6_AVAIL_YES : S6_AVAIL_NO;
}

/* TOS, TTL and fragmentation on the client's leg: done, then asked for. */
static void client_leg(struct client *cl, struct s6_stack *answer)
{
	const struct s6_stack *wish = &cl->setup->stack;
	sa_family_t family = cl->v6 ? AF_INET6 : AF_INET;

	if (s6_stack_has(wish, S6_STACK_TOS_CLIENT)) {
		leg_set_tos(cl->setup->fd, (uint8_t)wish->value[S6_STACK_TOS_CLIENT]);
		s6_stack_set(answer, S6_STACK_TOS_CLIENT, leg_tos(cl->setup->fd, family));
	}
	if (s6_stack_has(wish, S6_STACK_TTL_CLIENT)) {
		leg_set_ttl(cl->setup->fd, (uint8_t)wish->value[S6_STACK_TTL_CLIENT]);
		s6_stack_set(answer, S6_STACK_TTL_CLIENT, leg_ttl(cl->setup->fd, family));
	}
	if (s6_stack_has(wish, S6_STACK_NO_FRAG_CLIENT)) {
		leg_set_no_frag(cl->setup->fd,
				wish->value[S6_STACK_NO_FRAG_CLIENT] == S6_AVAIL_YES);
		s6_stack_set(answer, S6_STACK_NO_FRAG_CLIENT,
			     avail(leg_no_frag(cl->setup->fd, family)));
	}
}

/* The far leg, told by its socket (-1: another worker's). Every supported option is answered with what
 * is really done (section 6.1). */
static void far_leg(const struct s6_stack *wish, int fd, sa_family_t family,
		    struct s6_stack *answer)
{
	if (fd < 0)
		return;
	if (s6_stack_has(wish, S6_STACK_TOS_REMOTE))
		s6_stack_set(answer, S6_STACK_TOS_REMOTE, leg_tos(fd, family));
	if (s6_stack_has(wish, S6_STACK_TTL_REMOTE))
		s6_stack_set(answer, S6_STACK_TTL_REMOTE, leg_ttl(fd, family));
	if (s6_stack_has(wish, S6_STACK_NO_FRAG_REMOTE))
		s6_stack_set(answer, S6_STACK_NO_FRAG_REMOTE, avail(leg_no_frag(fd, family)));
}

static void far_connection(const struct s6_stack *wish, unsigned syn_bytes, bool mptcp,
			   struct s6_stack *answer)
{
	if (s6_stack_has(wish, S6_STACK_TFO))
		s6_stack_set(answer, S6_STACK_TFO, (uint16_t)syn_bytes);
	if (s6_stack_has(wish, S6_STACK_MULTIPATH))
		s6_stack_set(answer, S6_STACK_MULTIPATH, avail(mptcp));
}

static void remote_leg(const struct client *cl, const struct op_connect_result *result,
		       struct s6_stack *answer)
{
	const struct s6_stack *wish = &cl->setup->stack;

	far_leg(wish, result->fd, addr_family(&result->dst), answer);
	far_connection(wish, result->syn_bytes, result->mptcp, answer);
	if (s6_stack_has(wish, S6_STACK_HAPPY_EYEBALLS) && cl->setup->dst.type == S6_ADDR_NAME)
		s6_stack_set(answer, S6_STACK_HAPPY_EYEBALLS, wish->value[S6_STACK_HAPPY_EYEBALLS]);
}

/* Complete it and send it, and what is to follow it. */
static bool send_op(struct client *cl, struct s6_op_reply *reply, const uint8_t *next,
		    size_t next_len)
{
	uint8_t out[REPLY_MAX];
	size_t len;

	cl->reply_code = reply->code;
	cl->replied = true;
	if (reply->code < REPLY_CODES)
		cl->pw->counters.replies[reply->code]++;
	if (cl->setup->opened && cl->setup->conf->repeat_session_id) {
		reply->opts.session_id = cl->setup->session_id;
		reply->opts.session_id_len = ISSUED_ID_LEN;
	}
	if (s6_op_reply_build(reply, out, sizeof(out) - next_len, &len) != S6_OK) {
		client_end(cl, END_INTERNAL, 0);
		return false;
	}
	if (next_len > 0)
		memcpy(out + len, next, next_len);
	return client_send(cl, out, len + next_len);
}

/* The options are about the relayed datagrams; TOS and TTL of the connection, which may carry them,
 * are set, too. */
bool reply_assoc(struct client *cl, const struct assoc_result *result)
{
	struct s6_op_reply reply = {.code = S6_REPLY_SUCCESS};
	struct s6_stack of_tcp = {0};

	client_leg(cl, &of_tcp);
	s6glue_from_addr(&reply.bind, &result->bind);
	reply.opts.stack = result->stack;
	return send_op(cl, &reply, result->init, sizeof(result->init));
}

/* On the listening socket, whose connections inherit it, or on the peer's connection. */
static void set_far_leg(const struct s6_stack *wish, int fd)
{
	if (s6_stack_has(wish, S6_STACK_TOS_REMOTE))
		leg_set_tos(fd, (uint8_t)wish->value[S6_STACK_TOS_REMOTE]);
	if (s6_stack_has(wish, S6_STACK_TTL_REMOTE))
		leg_set_ttl(fd, (uint8_t)wish->value[S6_STACK_TTL_REMOTE]);
	if (s6_stack_has(wish, S6_STACK_NO_FRAG_REMOTE))
		leg_set_no_frag(fd, wish->value[S6_STACK_NO_FRAG_REMOTE] == S6_AVAIL_YES);
}

/* Fast Open: what has come in the peer's SYN. */
static void bind_leg(const struct client *cl, const struct op_bind_reply *result, bool first,
		     struct s6_stack *answer)
{
	const struct s6_stack *wish = &cl->setup->stack;

	if (result->fd >= 0)
		set_far_leg(wish, result->fd);
	far_leg(wish, result->fd, addr_family(&result->addr), answer);
	far_connection(wish, result->syn_bytes, result->mptcp, answer);
	if (s6_stack_has(wish, S6_STACK_BACKLOG) && first)
		s6_stack_set(answer, S6_STACK_BACKLOG, (uint16_t)result->backlog);
}

bool reply_bind(struct client *cl, const struct op_bind_reply *result, bool first)
{
	struct s6_op_reply reply = {.code = result->code, .bind.type = S6_ADDR_IPV4}; /* R7 */

	client_leg(cl, &reply.opts.stack);
	if (result->code == S6_REPLY_SUCCESS) {
		s6glue_from_addr(&reply.bind, &result->addr);
		bind_leg(cl, result, first, &reply.opts.stack);
	}
	return send_op(cl, &reply, NULL, 0);
}

bool reply_op(struct client *cl, uint8_t code, const struct op_connect_result *result)
{
	struct s6_op_reply reply = {.code = code, .bind.type = S6_ADDR_IPV4}; /* R7 */

	client_leg(cl, &reply.opts.stack);
	if (result && result->fd >= 0) {
		s6glue_from_addr(&reply.bind, &result->local);
		remote_leg(cl, result, &reply.opts.stack);
	} else if (result && result->syn_bytes > 0) {
		/* A client before which this is a hop has to know that something may have been done. */
		s6_stack_set(&reply.opts.stack, S6_STACK_TFO, (uint16_t)result->syn_bytes);
	}
	return send_op(cl, &reply, NULL, 0);
}
