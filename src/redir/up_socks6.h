/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Talking SOCKSv6 to an upstream: the request as bytes, the replies from bytes. No sockets.
 */
#ifndef REDIR_UP_SOCKS6_H
#define REDIR_UP_SOCKS6_H

#include "core/addr.h"
#include "libsocks6/socks6.h"
#include "redir/upstream.h"

#define UP_REQUEST_MAX 1024 /* octets of any request we build */

enum up_wait { UP_WAIT_AUTH, UP_WAIT_OP, UP_WAIT_NOTHING };

enum up_verdict {
	UP_MORE,            /* wait for more bytes */
	UP_AUTHENTICATED,   /* the proxy has accepted the request and acts on it; feed again */
	UP_READY,           /* operation succeeded; what follows is the server's */
	UP_REPLY,           /* operation failed: code */
	UP_NOT_SOCKS6,      /* version mismatch, or no SOCKSv6 reply at all */
	UP_AUTH_REFUSED,    /* final authentication failure */
	UP_SESSION_INVALID, /* it does not know our session */
	UP_TOKEN_REJECTED,  /* the token was spent before, or is outside the window */
	UP_MALFORMED        /* nonsense in a good authentication reply, or after it */
};

struct up_socks6 {
	enum up_wait wait;
	bool in_session, has_token;
	/* from the replies */
	uint8_t code; /* of the operation reply */
	enum s6_fault fault;
	uint8_t server_mptcp; /* 0 unknown, S6_AVAIL_NO, S6_AVAIL_YES */
	bool server_tfo_known;
	uint16_t server_tfo; /* octets in the proxy's SYN to the server */
	bool has_session;
	uint8_t session_id[SESSION_ID_MAX];
	uint16_t session_id_len;
	bool has_window;
	uint32_t window_base, window_size;
};

struct up_request {
	uint8_t command;                /* S6_CMD_CONNECT or S6_CMD_NOOP */
	const struct addr *dst;         /* for CONNECT */
	const struct upstream *up;      /* credentials and wishes */
	const struct upstream_grant *g; /* session and token; without: credentials are sent */
	bool open_session;              /* ask for a session and a token window */
};

/* Starts the exchange: the request in out (UP_REQUEST_MAX octets). False if it cannot be
 * built. */
bool up_socks6_request(struct up_socks6 *u, const struct up_request *rq, uint8_t *out, size_t *len);

/* What came from the proxy; *used octets were replies. Call again after UP_AUTHENTICATED. */
enum up_verdict up_socks6_feed(struct up_socks6 *u, const uint8_t *data, size_t len, size_t *used);

/* The proxy closed the connection while len octets were not a whole reply: did it say, by
 * then, that it is no SOCKSv6 proxy? (A lone version octet is a version mismatch.) */
bool up_socks6_is_mismatch(const struct up_socks6 *u, const uint8_t *data, size_t len);

const char *up_verdict_str(enum up_verdict v);

#endif
