/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What client.c (its life), request.c (who asks, and for what) and reply.c (what it is told)
 * share about one client.
 */
#ifndef PROXY_CLIENT_PRIV_H
#define PROXY_CLIENT_PRIV_H

#include <ev.h>

#include "core/relay.h"
#include "proxy/assoc.h"
#include "proxy/client.h"
#include "proxy/op_bind.h"
#include "proxy/op_connect.h"
#include "proxy/proxy.h"
#include "proxy/sndlimit.h"

/* Both replies; what would not fit into it is not held. */
#define CLIENT_HELD_MAX 512

enum client_state {
	CLIENT_REQUEST, /* the request is not complete yet */
	CLIENT_AUTH,    /* the password is being checked */
	CLIENT_CONNECT, /* resolving the name or connecting to the server; early data is buffered */
	CLIENT_BIND,    /* its port waits for the one peer, or it for one of its session's port */
	CLIENT_CONTROL, /* its port has a backlog: lasts as long as it does, and carries no data */
	CLIENT_RELAY,   /* copying both ways */
	CLIENT_UDP,     /* the connection is an association's */
	CLIENT_DRAIN,   /* the last answer is out; waiting for the client to close */
	CLIENT_CLOSED   /* ended; freed at the end of the loop turn */
};

/* All of a client that is needed only until it relays: idle connections go without. What lasts in
 * another state (CONTROL, UDP) keeps it. */
struct setup {
	struct client *cl;
	struct proxy_conf *conf; /* a reference */
	struct list_node wait;   /* in proxy_worker.waiting, until it says something */
	struct list_node excess; /* in proxy_worker.excess, if not counted */
	bool patient;            /* it may wait for waiting_timeout */
	int fd;                  /* -1 once the relay owns it; until then relay.a.io watches it */
	ev_timer deadline;
	struct synwatch_entry syn;    /* while that lasts, all of this stays */
	enum end_reason drain_reason; /* why it will have ended when the drain is over */
	int err;                      /* errno behind that, or 0 */
	size_t drained;

	/* the request */
	uint8_t command;
	struct s6_address dst;
	struct s6_stack stack;
	char user[ISSUED_USER_MAX];
	bool known;        /* authenticated, or nobody has to be */
	bool want_session; /* as asked for in the request */
	struct issued_ask ask;
	bool opened;     /* a session, with this ID */
	bool in_session; /* this request is part of the session with this ID */
	uint8_t session_id[ISSUED_ID_LEN];
	bool gave_credentials; /* the reply tells what has become of them */

	uint16_t held_len; /* octets of replies that wait for others, or for the handshake */
	uint8_t *held;
	struct auth_check *check;
	struct op_connect *op;
	struct op_bind *bind;
	struct assoc *assoc;
};

/* What is left of it for the log. */
struct label {
	uint8_t command;
	uint16_t dst_len;
	char text[]; /* so many octets of setup.dst, then the user's name */
};

/* On a connection that was accepted with Fast Open. */
struct client_limit {
	struct relay_limit relay;
	struct sndlimit snd;
};

/* There may be many thousands that do nothing: what is not needed then is in struct setup. */
struct client {
	union {
		struct {
			struct list_node node; /* in proxy_worker.clients */
			uint64_t id;
		};
		struct corpse corpse; /* at the end */
	};
	struct proxy_worker *pw;
	struct setup *setup;        /* NULL while relaying, mostly */
	struct label *label;        /* while relaying, if there was memory; else setup is there */
	struct client_limit *limit; /* when relay.limited was set at the start */
	double started;             /* worker_now */
	struct relay relay;         /* relay.a.in holds the request and early data before it runs */
	uint16_t subflows;
	enum client_state state : 8;
	uint8_t reply_code;
	bool counted : 1;      /* in perclient; false: beyond the limits, only to be told so */
	bool counted_user : 1; /* in peruser */
	bool replied : 1;
	/* facts for the log line */
	bool mptcp_socket : 1; /* MPTCP, or fallen back from it; else it never will be */
	bool mptcp : 1;
	bool fastopen : 1;
	bool remote_known : 1; /* there is, or was, a connection to the server */
	bool remote_mptcp : 1;
	bool v6 : 1;
	uint8_t peer[]; /* packed */
};

static inline struct addr client_peer(const struct client *cl)
{
	struct addr a;

	addr_unpack(&a, cl->v6 ? AF_INET6 : AF_INET, cl->peer);
	return a;
}

/* client.c */

/* The one way a client ends; err is the errno behind it, or 0. Memory stays valid until the end
 * of the loop turn. */
void client_end(struct client *cl, enum end_reason reason, int err);
/* The one function that changes its state. */
void client_change(struct client *cl, enum client_state state);
/* The last answer has been sent: close our direction, and end for this reason when the client
 * has taken it. */
void client_drain(struct client *cl, enum end_reason reason);
/* Write all of it now, or as soon as the handshake is over. False when the client has ended. */
bool client_send(struct client *cl, const void *data, size_t len);
/* The same, but what follows soon may go with it. */
bool client_send_soon(struct client *cl, const void *data, size_t len);
/* The server, or a peer, is connected, and the client knows: copy from now on. */
void client_relay(struct client *cl, int fd);
/* Authenticated, and told so: do what the request asks for. */
void client_act(struct client *cl);

/* client_facts.c */

/* What remains of setup while the client relays. The caller frees it. NULL = out of memory. */
struct label *client_label(const struct setup *s);
/* "" = nobody. */
const char *client_user(const struct client *cl);
/* Asks the kernel about MPTCP and subflows on this descriptor of the client; -1 does nothing. */
void client_note_facts(struct client *cl, int fd);
/* The same for the line in the log, if there is to be one. */
void client_note_facts_at_end(struct client *cl, int fd);
void client_log_end(const struct client *cl, enum end_reason reason, int err);

/* op_udp.c */

/* UDP ASSOCIATE. */
void client_associate(struct client *cl);
/* The line in place of others when an association's client ends. */
void client_log_assoc(const struct client *cl, enum end_reason reason, int err);

/* client_bind.c */

/* The BIND command. */
void client_bind(struct client *cl);
/* Something came from a client whose port waits: false when it has ended. */
bool client_bind_read(struct client *cl);
/* A look at its connection, now and then: has it died without a word? */
void client_bind_look(struct client *cl);

/* request.c */

/* A complete request. It points into the client's buffer, which may be given back. */
void request_handle(struct client *cl, const struct s6_request *req);
/* A request that is none. */
void request_fault(struct client *cl, enum s6_fault why);

/* reply.c */

/* The final authentication failure; ends the client. */
void reply_refuse(struct client *cl, enum end_reason reason, bool session_invalid);
/* The authentication reply of a request that may go on; or of one whose token was rejected.
 * False when the client goes no further. */
bool reply_auth(struct client *cl, bool in_session, const struct issued_answer *answer);
/* That of an association that there is, and its Initialization. False when the client has ended. */
bool reply_assoc(struct client *cl, const struct assoc_result *result);
/* The operation reply. result NULL: only the code. False when the client has ended. */
bool reply_op(struct client *cl, uint8_t code, const struct op_connect_result *result);
/* One of the operation replies to BIND; first: the one that tells what is bound. */
bool reply_bind(struct client *cl, const struct op_bind_reply *result, bool first);

#endif
