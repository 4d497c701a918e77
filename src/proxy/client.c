/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/client.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/relay.h"
#include "core/report.h"
#include "core/s6glue.h"
#include "core/sock.h"
#include "core/text.h"
#include "proxy/op_connect.h"
#include "proxy/perclient.h"
#include "proxy/proxy.h"

/*
 * Time limits
 *   REQUEST  request_timeout, from accept until the request is complete
 *   AUTH     request_timeout again, for the password check
 *   CONNECT  connect_timeout, kept by op_connect
 *   DRAIN    DRAIN_S, for a client to take its last answer and close
 *   RELAY    idle, kept by the relay
 */
#define DRAIN_S   2.0
#define DRAIN_MAX 262144 /* octets thrown away before patience ends */

enum client_state {
	CLIENT_REQUEST, /* the request is not complete yet */
	CLIENT_AUTH,    /* the password is being checked */
	CLIENT_CONNECT, /* resolving the name or connecting to the server; early data is buffered */
	CLIENT_RELAY,   /* copying both ways */
	CLIENT_DRAIN,   /* the last answer is out; waiting for the client to close */
	CLIENT_CLOSED   /* ended; freed at the end of the loop turn */
};

static const char *const state_words[] = {
	[CLIENT_REQUEST] = "request", [CLIENT_AUTH] = "auth",   [CLIENT_CONNECT] = "connect",
	[CLIENT_RELAY] = "relay",     [CLIENT_DRAIN] = "drain", [CLIENT_CLOSED] = "closed",
};

struct client {
	struct list_node node; /* in proxy_worker.clients */
	struct corpse corpse;
	struct proxy_worker *pw;
	struct proxy_conf *conf; /* a reference */
	uint64_t id;
	enum client_state state;
	struct addr peer;
	int fd;   /* -1 once the relay owns it */
	ev_io io; /* until the relay takes over */
	ev_timer deadline;
	struct synwatch_entry syn;
	struct relay relay; /* relay.a.in holds the request and early data before it runs */
	enum end_reason drain_reason; /* why it will have ended when the drain is over */
	int err;                      /* errno behind that, or 0 */
	size_t drained;
	ev_tstamp started;

	/* the request */
	uint8_t command;
	struct s6_address dst;
	struct s6_stack stack;
	char user[ISSUED_USER_MAX];
	bool want_session; /* as asked for in the request */
	struct issued_ask ask;
	bool opened; /* a session, with this ID */
	uint8_t session_id[ISSUED_ID_LEN];
	bool gave_credentials; /* the reply tells what has become of them */

	struct auth_check *check;
	struct op_connect *op;
	uint8_t reply_code;
	bool replied;
	/* facts for the log line */
	bool mptcp, fastopen, remote_mptcp;
	unsigned subflows;
};

/* ---- ending ---- */

static void client_bury(struct corpse *c)
{
	struct client *cl = container_of(c, struct client, corpse);

	proxy_conf_put(cl->conf);
	free(cl);
}

static const char *dst_str(const struct client *cl, char *buf, size_t cap)
{
	struct addr a;
	char name[S6_NAME_MAX * 4 + 1];

	if (cl->dst.type == 0)
		snprintf(buf, cap, "-");
	else if (s6glue_to_addr(&a, &cl->dst))
		addr_str(&a, buf, cap);
	else {
		text_escape(name, sizeof(name), cl->dst.u.name);
		snprintf(buf, cap, "%s:%u", name, cl->dst.port);
	}
	return buf;
}

static void note_facts(struct client *cl, int fd)
{
	struct sock_info info;

	if (fd < 0 || sock_info(fd, &info) < 0)
		return;
	cl->mptcp = info.mptcp;
	cl->subflows = info.subflows;
}

static void log_end(const struct client *cl, enum end_reason reason, int err)
{
	char peer[ADDR_STRLEN], dst[S6_NAME_MAX * 4 + 16], user[ISSUED_USER_MAX * 4];
	const char *command = cl->dst.type ? s6_command_str(cl->command) : "-";

	if (!log_enabled(LVL_INFO))
		return;
	text_escape(user, sizeof(user), cl->user[0] ? cl->user : "-");
	log_msg(LVL_INFO,
		"client %s user=%s %s -> %s mptcp=%s subflows=%u tfo=%s server_mptcp=%s up=%" PRIu64
		" down=%" PRIu64 " duration=%.3fs reason=%s%s%s%s%s",
		addr_str(&cl->peer, peer, sizeof(peer)), user, command,
		dst_str(cl, dst, sizeof(dst)), cl->mptcp ? "yes" : "no", cl->subflows,
		cl->fastopen ? "yes" : "no", cl->remote_mptcp ? "yes" : "no", cl->relay.b.bytes_out,
		cl->relay.b.bytes_in, ev_now(cl->pw->w.loop) - cl->started, end_reason_str(reason),
		cl->replied ? " reply=" : "", cl->replied ? s6_reply_str(cl->reply_code) : "",
		err ? " error=" : "", err ? strerror(err) : "");
}

/* The one way a client ends, with a reason. */
static void client_end(struct client *cl, enum end_reason reason, int err)
{
	struct proxy_worker *pw = cl->pw;
	struct ev_loop *loop = pw->w.loop;

	if (cl->state == CLIENT_CLOSED)
		return;
	if (cl->state != CLIENT_RELAY) /* the relay has asked already; its sockets are gone */
		note_facts(cl, cl->fd);
	log_end(cl, reason, err);
	cl->state = CLIENT_CLOSED;
	pw->counters.ended[reason]++;
	pw->counters.bytes_up += cl->relay.b.bytes_out;
	pw->counters.bytes_down += cl->relay.b.bytes_in;
	ev_io_stop(loop, &cl->io);
	ev_timer_stop(loop, &cl->deadline);
	synwatch_remove(&pw->synwatch, &cl->syn);
	if (cl->check)
		auth_cancel(cl->check);
	if (cl->op)
		op_connect_stop(cl->op);
	buf_clear(&cl->relay.a.in, &pw->w.pool);
	if (cl->fd >= 0)
		close(cl->fd);
	cl->fd = -1;
	perclient_give(pw->proxy->perclient, &cl->peer);
	list_remove(&pw->clients, &cl->node);
	cl->corpse.bury = client_bury;
	worker_bury(&pw->w, &cl->corpse);
}

static void client_deadline(struct client *cl, double s)
{
	ev_timer_stop(cl->pw->w.loop, &cl->deadline);
	if (s <= 0)
		return;
	ev_timer_set(&cl->deadline, s, 0.);
	ev_timer_start(cl->pw->w.loop, &cl->deadline);
}

/* Interest before the relay: room means read. */
static void client_watch(struct client *cl)
{
	bool want = cl->fd >= 0 && !cl->relay.a.eof && cl->relay.a.in.len < BUF_SIZE;

	if (want)
		ev_io_start(cl->pw->w.loop, &cl->io);
	else
		ev_io_stop(cl->pw->w.loop, &cl->io);
}

/* The one function that changes state. */
static void client_change(struct client *cl, enum client_state state)
{
	cl->state = state;
	switch (state) {
	case CLIENT_REQUEST:
	case CLIENT_AUTH:
		client_deadline(cl, cl->conf->request_timeout_s);
		break;
	case CLIENT_DRAIN:
		client_deadline(cl, DRAIN_S);
		break;
	case CLIENT_CONNECT:
	case CLIENT_RELAY:
	case CLIENT_CLOSED:
		client_deadline(cl, 0);
		break;
	}
	if (state != CLIENT_RELAY)
		client_watch(cl);
}

/* The last answer has been sent. Closing now could destroy it on its way (unread bytes make
 * the kernel send a reset), so only our direction is closed, and the rest is read. */
static void client_drain(struct client *cl, enum end_reason reason)
{
	cl->drain_reason = reason;
	buf_clear(&cl->relay.a.in, &cl->pw->w.pool);
	shutdown(cl->fd, SHUT_WR);
	/* Without a handshake that holds the answer back nothing is left to wait for. */
	if (cl->relay.a.eof && !list_linked(&cl->syn.node))
		client_end(cl, reason, cl->err);
	else
		client_change(cl, CLIENT_DRAIN);
}

/* Replies are far smaller than an empty socket buffer: they go out at once or not at all.
 * False when the client has ended. */
static bool client_send(struct client *cl, const void *data, size_t len)
{
	ssize_t n;

	do
		n = send(cl->fd, data, len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)len)
		return true;
	client_end(cl, n < 0 && sock_errno_is_reset(errno) ? END_RESET_DOWN : END_INTERNAL,
		   n < 0 ? errno : EIO);
	return false;
}

/* ---- replies ---- */

#define REPLY_MAX 512

static void refuse(struct client *cl, enum end_reason reason, bool session_invalid)
{
	struct s6_auth_reply reply = {.type = S6_AUTH_FAILURE};
	uint8_t out[REPLY_MAX], status[3];
	size_t len;

	reply.opts.session_invalid = session_invalid;
	if (cl->gave_credentials && !session_invalid) {
		s6_userpass_status_build(1, status);
		reply.opts.n_auth_data = 1;
		reply.opts.auth_data[0] = (struct s6_auth_data){
			.method = S6_METHOD_USERPASS, .len = sizeof(status), .data = status};
	}
	if (s6_auth_reply_build(&reply, out, sizeof(out), &len) != S6_OK)
		client_end(cl, END_INTERNAL, 0);
	else if (client_send(cl, out, len))
		client_drain(cl, reason);
}

/* The authentication reply of a request that may go on; or of one whose token was refused.
 * False when the client goes no further. */
static bool send_auth_reply(struct client *cl, bool in_session, const struct issued_answer *answer)
{
	struct s6_auth_reply reply = {.type = S6_AUTH_SUCCESS};
	struct s6_options *o = &reply.opts;
	uint8_t out[REPLY_MAX], status[3];
	size_t len;

	if (cl->gave_credentials && !in_session) {
		s6_userpass_status_build(0, status);
		o->n_auth_data = 1;
		o->auth_data[0] = (struct s6_auth_data){
			.method = S6_METHOD_USERPASS, .len = sizeof(status), .data = status};
	}
	o->session_ok = in_session;
	if (cl->opened) {
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
	if (!client_send(cl, out, len))
		return false;
	if (reply.type == S6_AUTH_FAILURE) {
		client_drain(cl, END_TOKEN_REJECTED);
		return false;
	}
	return true;
}

static int get_int(int fd, int level, int option)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, level, option, &value, &len) == 0 ? value : -1;
}

/* What the socket really uses, whatever was wished. */
static uint8_t real_tos(int fd, sa_family_t family)
{
	int tos = family == AF_INET6 ? get_int(fd, IPPROTO_IPV6, IPV6_TCLASS)
				     : get_int(fd, IPPROTO_IP, IP_TOS);

	return tos > 0 ? (uint8_t)tos : 0;
}

static int get_ttl(int fd, sa_family_t family)
{
	return family == AF_INET6 ? get_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS)
				  : get_int(fd, IPPROTO_IP, IP_TTL);
}

/* An MPTCP socket neither sets nor tells its TTL: it uses the default, as any socket does. */
static uint8_t real_ttl(int fd, sa_family_t family)
{
	int ttl = get_ttl(fd, family), other;

	if (ttl >= 0)
		return (uint8_t)ttl;
	other = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (other < 0)
		return 0;
	ttl = get_ttl(other, family);
	close(other);
	return ttl >= 0 ? (uint8_t)ttl : 0;
}

/* The family of the socket, which may be IPv6 for an IPv4 peer. */
static sa_family_t socket_family(int fd)
{
	int domain = AF_INET;
	socklen_t len = sizeof(domain);

	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
	return (sa_family_t)domain;
}

static void set_octet(int fd, int level4, int option4, int level6, int option6, int value)
{
	/* On a dual-stack socket both may count, depending on the peer's family. */
	setsockopt(fd, level4, option4, &value, sizeof(value));
	if (socket_family(fd) == AF_INET6)
		setsockopt(fd, level6, option6, &value, sizeof(value));
}

/* TOS and TTL of the client's leg: done, then asked for. */
static void client_leg(struct client *cl, struct s6_stack *answer)
{
	const struct s6_stack *wish = &cl->stack;
	sa_family_t family = addr_family(&cl->peer);

	if (s6_stack_has(wish, S6_STACK_TOS_CLIENT)) {
		set_octet(cl->fd, IPPROTO_IP, IP_TOS, IPPROTO_IPV6, IPV6_TCLASS,
			  wish->value[S6_STACK_TOS_CLIENT]);
		s6_stack_set(answer, S6_STACK_TOS_CLIENT, real_tos(cl->fd, family));
	}
	if (s6_stack_has(wish, S6_STACK_TTL_CLIENT)) {
		set_octet(cl->fd, IPPROTO_IP, IP_TTL, IPPROTO_IPV6, IPV6_UNICAST_HOPS,
			  wish->value[S6_STACK_TTL_CLIENT]);
		s6_stack_set(answer, S6_STACK_TTL_CLIENT, real_ttl(cl->fd, family));
	}
}

/* Every supported option is answered with what is really done (section 6.1). */
static void remote_leg(const struct client *cl, const struct op_connect_result *result,
		       struct s6_stack *answer)
{
	const struct s6_stack *wish = &cl->stack;
	sa_family_t family = addr_family(&result->dst);

	if (s6_stack_has(wish, S6_STACK_TOS_REMOTE))
		s6_stack_set(answer, S6_STACK_TOS_REMOTE, real_tos(result->fd, family));
	if (s6_stack_has(wish, S6_STACK_TTL_REMOTE))
		s6_stack_set(answer, S6_STACK_TTL_REMOTE, real_ttl(result->fd, family));
	if (s6_stack_has(wish, S6_STACK_TFO))
		s6_stack_set(answer, S6_STACK_TFO, (uint16_t)result->syn_bytes);
	if (s6_stack_has(wish, S6_STACK_MULTIPATH))
		s6_stack_set(answer, S6_STACK_MULTIPATH,
			     result->mptcp ? S6_AVAIL_YES : S6_AVAIL_NO);
	if (s6_stack_has(wish, S6_STACK_HAPPY_EYEBALLS) && cl->dst.type == S6_ADDR_NAME)
		s6_stack_set(answer, S6_STACK_HAPPY_EYEBALLS, wish->value[S6_STACK_HAPPY_EYEBALLS]);
}

/* The operation reply. result NULL: only the code. False when the client has ended. */
static bool send_op_reply(struct client *cl, uint8_t code, const struct op_connect_result *result)
{
	struct s6_op_reply reply = {.code = code, .bind.type = S6_ADDR_IPV4}; /* R7 */
	uint8_t out[REPLY_MAX];
	size_t len;

	cl->reply_code = code;
	cl->replied = true;
	if (code < REPLY_CODES)
		cl->pw->counters.replies[code]++;
	client_leg(cl, &reply.opts.stack);
	if (result && result->fd >= 0) {
		s6glue_from_addr(&reply.bind, &result->local);
		remote_leg(cl, result, &reply.opts.stack);
	}
	if (cl->opened && cl->conf->repeat_session_id) {
		reply.opts.session_id = cl->session_id;
		reply.opts.session_id_len = ISSUED_ID_LEN;
	}
	if (s6_op_reply_build(&reply, out, sizeof(out), &len) != S6_OK) {
		client_end(cl, END_INTERNAL, 0);
		return false;
	}
	return client_send(cl, out, len);
}

/* ---- relay ---- */

static void relay_closing(struct relay *r)
{
	note_facts(container_of(r, struct client, relay), r->a.fd);
}

static void relay_done(struct relay *r, enum end_reason reason, int err)
{
	struct client *cl = container_of(r, struct client, relay);

	client_end(cl, reason, err);
}

static void connected(void *owner, const struct op_connect_result *result)
{
	struct client *cl = owner;
	struct proxy_worker *pw = cl->pw;
	int fd = cl->fd;

	cl->op = NULL;
	cl->err = result->err;
	if (result->code != S6_REPLY_SUCCESS) {
		if (send_op_reply(cl, result->code, NULL))
			client_drain(cl, result->reason);
		return;
	}
	if (!send_op_reply(cl, S6_REPLY_SUCCESS, result)) {
		sock_reset(result->fd);
		return;
	}
	cl->remote_mptcp = result->mptcp;
	buf_consume(&cl->relay.a.in, &pw->w.pool, result->queued);
	cl->relay.b.bytes_out = result->queued;
	ev_io_stop(pw->w.loop, &cl->io);
	cl->fd = -1;
	client_change(cl, CLIENT_RELAY);
	cl->relay.closing = relay_closing;
	relay_start(&cl->relay, &pw->w, fd, result->fd, cl->conf->idle_s, relay_done);
}

/* ---- the request ---- */

/* Authenticated: act on the command. */
static void act(struct client *cl)
{
	struct op_connect_wish wish = {
		.dst = &cl->dst, .stack = &cl->stack, .early = &cl->relay.a.in};

	switch (cl->command) {
	case S6_CMD_NOOP:
		if (send_op_reply(cl, S6_REPLY_SUCCESS, NULL))
			client_drain(cl, END_NOOP); /* R8 */
		break;
	case S6_CMD_CONNECT:
		client_change(cl, CLIENT_CONNECT);
		cl->op = op_connect_start(cl->pw, &wish, connected, cl);
		if (!cl->op && send_op_reply(cl, S6_REPLY_FAILURE, NULL))
			client_drain(cl, END_NO_MEMORY);
		break;
	default: /* R16 */
		if (send_op_reply(cl, S6_REPLY_CMD_UNSUPPORTED, NULL))
			client_drain(cl, END_UNSUPPORTED);
		break;
	}
}

static void count_token(struct client *cl, enum issued_token token)
{
	if (token == TOKEN_ACCEPTED)
		cl->pw->counters.tokens_accepted++;
	else if (token == TOKEN_REJECTED)
		cl->pw->counters.tokens_rejected++;
}

static void open_session(struct client *cl, struct issued_answer *answer)
{
	struct proxy_worker *pw = cl->pw;

	cl->opened = issued_open(pw->proxy->issued, cl->user, ev_now(pw->w.loop), &cl->ask, answer);
	count_token(cl, answer->token);
	if (!cl->opened)
		return;
	pw->counters.sessions_opened++;
	memcpy(cl->session_id, answer->id, sizeof(cl->session_id));
}

/* Authenticated without a session. */
static void authenticated(struct client *cl)
{
	struct issued_answer answer = {.token = TOKEN_NONE};

	cl->pw->counters.auth_ok++;
	if (cl->want_session)
		open_session(cl, &answer);
	if (send_auth_reply(cl, false, &answer))
		act(cl);
}

static void use_session(struct client *cl, const struct s6_options *o)
{
	struct proxy_worker *pw = cl->pw;
	struct issued_answer answer;

	if (!issued_use(pw->proxy->issued, o->session_id, o->session_id_len, ev_now(pw->w.loop),
			&cl->ask, &answer)) {
		pw->counters.sessions_invalid++;
		refuse(cl, END_SESSION_INVALID, true);
		return;
	}
	memcpy(cl->user, answer.user, sizeof(cl->user));
	count_token(cl, answer.token);
	if (send_auth_reply(cl, true, &answer))
		act(cl);
}

static bool is_local_client(const struct client *cl)
{
	return addr_classify(&cl->peer) == ADDR_LOOPBACK || addr_is_local(&cl->peer);
}

/* The username/password option of a request, or NULL. */
static const struct s6_auth_data *find_credentials(const struct s6_options *o)
{
	for (size_t i = 0; i < o->n_auth_data; i++)
		if (o->auth_data[i].method == S6_METHOD_USERPASS)
			return &o->auth_data[i];
	return NULL;
}

static void auth_failed(struct client *cl)
{
	cl->pw->counters.auth_failed++;
	refuse(cl, END_AUTH_FAILED, false); /* R18: never an in-band negotiation */
}

static void password_checked(void *owner, bool accepted)
{
	struct client *cl = owner;

	cl->check = NULL;
	if (accepted)
		authenticated(cl);
	else
		auth_failed(cl);
}

static void check_password(struct client *cl, const struct s6_userpass *up)
{
	struct proxy_worker *pw = cl->pw;
	const char *hash = users_hash(cl->conf->users, up->user, up->user_len);
	bool known = hash != NULL;

	if (!memchr(up->user, 0, up->user_len))
		memcpy(cl->user, up->user, up->user_len); /* shorter than cl->user by its type */
	if (!known)
		hash = users_any_hash(cl->conf->users);
	client_change(cl, CLIENT_AUTH);
	if (hash)
		cl->check = auth_start(pw->proxy->auth, &pw->w, &cl->peer, hash, known, up->pass,
				       up->pass_len, password_checked, cl);
	if (!cl->check)
		auth_failed(cl);
}

static void refuse_stranger(struct client *cl)
{
	char peer[ADDR_STRLEN];

	log_limited(&cl->pw->limit_auth, 5, LVL_WARNING,
		    "client %s refused: without a users file only clients on this machine are "
		    "served (write one with \"sixpathctl passwd\", name it as users in [auth])",
		    addr_str(&cl->peer, peer, sizeof(peer)));
	auth_failed(cl);
}

static void authenticate(struct client *cl, const struct s6_options *o)
{
	const struct s6_auth_data *data = find_credentials(o);
	struct s6_userpass up;

	if (data && s6_userpass_parse(data, &up) != S6_OK) {
		refuse(cl, END_MALFORMED, false); /* R10 */
		return;
	}
	cl->gave_credentials = data != NULL;
	if (cl->conf->users && data)
		check_password(cl, &up);
	else if (cl->conf->users)
		auth_failed(cl);
	else if (is_local_client(cl))
		authenticated(cl); /* no need for authentication */
	else
		refuse_stranger(cl);
}

static void take_request(struct client *cl, const struct s6_request *req)
{
	const struct s6_options *o = &req->opts;

	cl->command = req->command;
	cl->dst = req->addr;
	cl->stack = o->stack;
	cl->want_session = o->session_request;
	cl->ask.spend = o->has_token_spend;
	cl->ask.token = o->token_spend;
	cl->ask.window_wish = o->has_token_request ? o->token_request : 0;
}

static void teardown_session(struct client *cl, const struct s6_options *o)
{
	struct proxy_worker *pw = cl->pw;

	if (!issued_teardown(pw->proxy->issued, o->session_id, o->session_id_len,
			     ev_now(pw->w.loop))) {
		pw->counters.sessions_invalid++;
		refuse(cl, END_SESSION_INVALID, true);
		return;
	}
	/* R13: the session is gone; the rest is handled as outside any. R12: no new one. */
	cl->want_session = false;
	authenticate(cl, o);
}

static void handle_request(struct client *cl, const struct s6_request *req)
{
	const struct s6_options *o = &req->opts;

	take_request(cl, req);
	if (o->refuse != S6_FAULT_NONE) {
		refuse(cl, END_MALFORMED, false); /* R10, R11 */
	} else if (o->session_id_len > 0 && o->session_teardown) {
		teardown_session(cl, o);
	} else if (o->session_id_len > 0) {
		use_session(cl, o); /* R12 */
	} else {
		authenticate(cl, o);
	}
}

static void handle_fault(struct client *cl, enum s6_fault why)
{
	const uint8_t version = S6_VERSION;
	char peer[ADDR_STRLEN];

	log_limited(&cl->pw->limit_protocol, 10, LVL_NOTICE, "client %s: request is bad: %s",
		    addr_str(&cl->peer, peer, sizeof(peer)), s6_fault_str(why));
	switch (why) {
	case S6_FAULT_VERSION: /* section 3, R14 */
		if (client_send(cl, &version, 1))
			client_drain(cl, END_VERSION);
		break;
	case S6_FAULT_ADDRESS_TYPE: /* R15 */
		refuse(cl, END_MALFORMED, false);
		break;
	default: /* R9: without a reply */
		client_end(cl, END_MALFORMED, 0);
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
		handle_request(cl, &req); /* it points into the buffer */
		if (cl->state != CLIENT_CLOSED && cl->state != CLIENT_DRAIN)
			buf_consume(in, &cl->pw->w.pool, used);
		break;
	case S6_BAD:
		handle_fault(cl, why);
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
	ssize_t n = recv(cl->fd, trash, sizeof(trash), 0);

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return;
	if (n > 0) {
		cl->drained += (size_t)n;
		if (cl->drained <= DRAIN_MAX)
			return;
	} else if (n == 0 && list_linked(&cl->syn.node)) {
		cl->relay.a.eof = true; /* our answer is still held back by the handshake */
		client_watch(cl);
		return;
	}
	client_end(cl, cl->drain_reason, cl->err);
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
	n = recv(cl->fd, at, room, 0);
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
	if (cl->state == CLIENT_REQUEST)
		try_request(cl);
	if (cl->state != CLIENT_CLOSED && cl->state != CLIENT_RELAY)
		client_watch(cl);
}

static void io_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct client *cl = container_of(io, struct client, io);

	(void)loop;
	(void)events;
	if (cl->state == CLIENT_DRAIN)
		read_drain(cl);
	else
		read_more(cl);
}

static void deadline_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct client *cl = container_of(t, struct client, deadline);

	(void)loop;
	(void)events;
	if (cl->state == CLIENT_DRAIN)
		client_end(cl, cl->drain_reason, cl->err);
	else
		client_end(cl, END_REQUEST_TIMEOUT, 0);
}

void client_start(struct proxy_worker *pw, int fd, const struct addr *peer)
{
	struct client *cl = calloc(1, sizeof(*cl));
	struct sock_info info;

	if (!cl) {
		perclient_give(pw->proxy->perclient, peer);
		pw->counters.ended[END_NO_MEMORY]++;
		close(fd);
		return;
	}
	cl->pw = pw;
	cl->conf = proxy_conf_get(pw->conf);
	cl->id = ++pw->next_id;
	cl->peer = *peer;
	cl->fd = fd;
	cl->started = ev_now(pw->w.loop);
	relay_init(&cl->relay);
	ev_io_init(&cl->io, io_cb, fd, EV_READ);
	ev_init(&cl->deadline, deadline_cb);
	list_push(&pw->clients, &cl->node);
	pw->counters.accepted++;
	if (sock_info(fd, &info) == 0) {
		cl->mptcp = info.mptcp;
		cl->fastopen = info.syn_data_acked;
		pw->counters.mptcp_clients += info.mptcp;
		pw->counters.fastopen_clients += info.syn_data_acked;
	}
	synwatch_add(&pw->synwatch, &cl->syn, fd);
	client_change(cl, CLIENT_REQUEST);
	if (cl->fastopen)
		read_more(cl); /* the request came with the SYN */
}

void client_end_all(struct proxy_worker *pw, enum end_reason reason)
{
	struct list_node *n;

	while ((n = list_first(&pw->clients))) {
		struct client *cl = container_of(n, struct client, node);
		if (cl->state == CLIENT_RELAY)
			relay_end(&cl->relay, reason, 0);
		else
			client_end(cl, reason, 0);
	}
}

static const char *state_word(const struct client *cl)
{
	return cl->op && op_connect_resolving(cl->op) ? "resolve" : state_words[cl->state];
}

void client_report_all(struct proxy_worker *pw, struct report *r)
{
	struct list_node *n, *tmp;
	char text[S6_NAME_MAX * 4 + 16];

	list_for_each_safe (&pw->clients, n, tmp) {
		struct client *cl = container_of(n, struct client, node);

		note_facts(cl, cl->state == CLIENT_RELAY ? cl->relay.a.fd : cl->fd);
		report_row(r);
		report_u64(r, "id", cl->id * pw->proxy->n_workers + pw->w.index);
		report_str(r, "client", addr_str(&cl->peer, text, sizeof(text)));
		report_str(r, "user", cl->user[0] ? cl->user : NULL);
		report_str(r, "destination", dst_str(cl, text, sizeof(text)));
		report_str(r, "state", state_word(cl));
		report_seconds(r, "age", ev_now(pw->w.loop) - cl->started);
		report_bytes(r, "bytes_up", cl->relay.b.bytes_out);
		report_bytes(r, "bytes_down", cl->relay.b.bytes_in);
		report_bool(r, "mptcp", cl->mptcp);
		report_u64(r, "subflows", cl->subflows);
		report_bool(r, "tfo", cl->fastopen);
		report_bool(r, "server_mptcp", cl->remote_mptcp);
	}
}
