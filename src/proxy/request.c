/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A request: who asks (session, password, nobody), with which token. */
#include <errno.h>
#include <string.h>

#include "core/addr.h"
#include "proxy/client_priv.h"

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

	cl->setup->opened = issued_open(pw->proxy->issued, cl->setup->user, worker_now(&pw->w),
					&cl->setup->ask, answer);
	count_token(cl, answer->token);
	if (!cl->setup->opened)
		return;
	cl->setup->in_session = true;
	pw->counters.sessions_opened++;
	memcpy(cl->setup->session_id, answer->id, sizeof(cl->setup->session_id));
}

/* Authenticated without a session. */
static void authenticated(struct client *cl)
{
	struct issued_answer answer = {.token = TOKEN_NONE};

	cl->pw->counters.auth_ok++;
	cl->setup->known = true;
	if (cl->setup->want_session)
		open_session(cl, &answer);
	if (reply_auth(cl, false, &answer))
		client_act(cl);
}

static void use_session(struct client *cl, const struct s6_options *o)
{
	struct proxy_worker *pw = cl->pw;
	struct issued_answer answer;

	if (!issued_use(pw->proxy->issued, o->session_id, o->session_id_len, worker_now(&pw->w),
			&cl->setup->ask, &answer)) {
		pw->counters.sessions_invalid++;
		reply_refuse(cl, END_SESSION_INVALID, true);
		return;
	}
	memcpy(cl->setup->user, answer.user, sizeof(cl->setup->user));
	memcpy(cl->setup->session_id, answer.id, sizeof(cl->setup->session_id));
	cl->setup->in_session = true;
	cl->setup->known = true;
	count_token(cl, answer.token);
	if (reply_auth(cl, true, &answer))
		client_act(cl);
}

static bool is_local_client(const struct client *cl)
{
	struct addr peer = client_peer(cl);

	return addr_classify(&peer) == ADDR_LOOPBACK || addr_is_local(&peer);
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
	reply_refuse(cl, END_AUTH_FAILED, false); /* R18: never an in-band negotiation */
}

static void password_checked(void *owner, bool accepted)
{
	struct client *cl = owner;

	cl->setup->check = NULL;
	if (accepted)
		authenticated(cl);
	else
		auth_failed(cl);
}

static void check_password(struct client *cl, const struct s6_userpass *up)
{
	struct proxy_worker *pw = cl->pw;
	struct addr peer = client_peer(cl);
	const char *hash = users_hash(cl->setup->conf->users, up->user, up->user_len);
	bool known = hash != NULL;

	if (!memchr(up->user, 0, up->user_len))
		memcpy(cl->setup->user, up->user,
		       up->user_len); /* shorter than cl->setup->user by its type */
	if (!known)
		hash = users_any_hash(cl->setup->conf->users);
	client_change(cl, CLIENT_AUTH);
	errno = EACCES;
	if (hash)
		cl->setup->check = auth_start(pw->proxy->auth, &pw->w, &peer, hash, known, up->pass,
					      up->pass_len, password_checked, cl);
	if (cl->setup->check)
		return;
	/* Too busy to tell: a client that is told it was refused would stay away for long. */
	if (errno == EACCES)
		auth_failed(cl);
	else
		client_end(cl, END_LIMIT, 0);
}

static void refuse_stranger(struct client *cl)
{
	struct addr from = client_peer(cl);
	char peer[ADDR_STRLEN];

	log_limited(&cl->pw->limit_auth, 5, LVL_WARNING,
		    "client %s refused: without a users file only clients on this machine are "
		    "served (write one with \"sixpathctl passwd\", name it as users in [auth])",
		    addr_str(&from, peer, sizeof(peer)));
	auth_failed(cl);
}

static void authenticate(struct client *cl, const struct s6_options *o)
{
	const struct s6_auth_data *data = find_credentials(o);
	struct s6_userpass up;

	if (data && s6_userpass_parse(data, &up) != S6_OK) {
		reply_refuse(cl, END_MALFORMED, false); /* R10 */
		return;
	}
	cl->setup->gave_credentials = data != NULL;
	if (cl->setup->conf->users && data)
		check_password(cl, &up);
	else if (cl->setup->conf->users)
		auth_failed(cl);
	else if (is_local_client(cl))
		authenticated(cl); /* no need for authentication */
	else
		refuse_stranger(cl);
}

static void take_request(struct client *cl, const struct s6_request *req)
{
	const struct s6_options *o = &req->opts;

	cl->setup->command = req->command;
	cl->setup->dst = req->addr;
	cl->setup->stack = o->stack;
	cl->setup->want_session = o->session_request;
	cl->setup->ask.spend = o->has_token_spend;
	cl->setup->ask.token = o->token_spend;
	cl->setup->ask.window_wish = o->has_token_request ? o->token_request : 0;
}

static void teardown_session(struct client *cl, const struct s6_options *o)
{
	struct proxy_worker *pw = cl->pw;

	if (!issued_teardown(pw->proxy->issued, o->session_id, o->session_id_len,
			     worker_now(&pw->w))) {
		pw->counters.sessions_invalid++;
		reply_refuse(cl, END_SESSION_INVALID, true);
		return;
	}
	/* R13: the session is gone; the rest is handled as outside any. R12: no new one. */
	cl->setup->want_session = false;
	authenticate(cl, o);
}

void request_handle(struct client *cl, const struct s6_request *req)
{
	const struct s6_options *o = &req->opts;

	take_request(cl, req);
	if (o->refuse != S6_FAULT_NONE) {
		reply_refuse(cl, END_MALFORMED, false); /* R10, R11 */
	} else if (o->session_id_len > 0 && o->session_teardown) {
		teardown_session(cl, o);
	} else if (o->session_id_len > 0) {
		use_session(cl, o); /* R12 */
	} else {
		authenticate(cl, o);
	}
}

void request_fault(struct client *cl, enum s6_fault why)
{
	const uint8_t version = S6_VERSION;
	struct addr from = client_peer(cl);
	char peer[ADDR_STRLEN];

	log_limited(&cl->pw->limit_protocol, 10, LVL_NOTICE, "client %s: request is bad: %s",
		    addr_str(&from, peer, sizeof(peer)), s6_fault_str(why));
	switch (why) {
	case S6_FAULT_VERSION: /* section 3, R14 */
		if (client_send(cl, &version, 1))
			client_drain(cl, END_VERSION);
		break;
	case S6_FAULT_ADDRESS_TYPE: /* R15 */
		reply_refuse(cl, END_MALFORMED, false);
		break;
	default: /* R9: without a reply */
		client_end(cl, END_MALFORMED, 0);
		break;
	}
}
