/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Talking SOCKSv6 to an upstream: the requests as bytes, the replies from bytes. No sockets.
 *
 * An upstream may be reached through others (via): hop 0 is the proxy that is dialled, the last hop
 * the upstream itself; mostly they are the same. All requests leave at once, one behind the other:
 * each hop but the last is asked to connect to the next, and takes what follows its own request for
 * initial data. The replies come in the same order, two of each hop.
 */
#ifndef REDIR_UP_SOCKS6_H
#define REDIR_UP_SOCKS6_H

#include "core/addr.h"
#include "libsocks6/socks6.h"
#include "redir/upstream.h"

#define UP_REQUEST_MAX 1024 /* octets of any request we build, for each hop */

enum up_wait { UP_WAIT_AUTH, UP_WAIT_OP, UP_WAIT_NOTHING };

enum up_verdict {
	UP_MORE,          /* wait for more bytes */
	UP_AUTHENTICATED, /* the hop has accepted the request and acts on it; feed again */
	UP_CHAINED,      /* it has reached the next one, which is the hop from now on; feed again */
	UP_READY,        /* operation succeeded; what follows is the server's */
	UP_REPLY,        /* operation failed: code; not the last hop: it cannot reach the next */
	UP_NOT_SOCKS6,   /* version mismatch, or no SOCKSv6 reply at all */
	UP_AUTH_REFUSED, /* final authentication failure */
	UP_SESSION_INVALID, /* it does not know our session */
	UP_TOKEN_REJECTED,  /* the token was spent before, or is outside the window */
	UP_MALFORMED        /* nonsense in a good authentication reply, or after it */
};

struct up_hop {
	enum up_wait wait;
	bool in_session, has_token;
	bool wants_tfo; /* towards the next hop, or the server */
	/* from the replies */
	uint8_t code;     /* of the operation reply */
	struct addr bind; /* what BIND has bound; unset where it is a name */
	uint16_t backlog; /* granted to it */
	enum s6_fault fault;
	uint8_t server_mptcp; /* 0 unknown, S6_AVAIL_NO, S6_AVAIL_YES */
	bool server_tfo_known;
	uint16_t server_tfo; /* octets in the proxy's SYN to the server, or to the next hop */
	bool has_session;
	uint8_t session_id[SESSION_ID_MAX];
	uint16_t session_id_len;
	bool has_window;
	uint32_t window_base, window_size;
};

struct up_socks6 {
	unsigned at, n; /* whose replies come next; how many there are */
	bool is_socks5; /* up_socks5.c does it */
	struct {
		uint8_t step;                           /* enum up_socks5_step */
		uint8_t command;                        /* S6_CMD_CONNECT or S6_CMD_NOOP */
		uint8_t method;                         /* the one that we offer */
		uint8_t pipeline;                       /* enum pipeline */
		uint16_t greeting_len, credentials_len; /* parts of the request */
	} s5;
	struct up_hop hop[UPSTREAM_HOPS];
};

struct up_request {
	uint8_t command; /* to the last hop: CONNECT, BIND, UDP_ASSOCIATE or NOOP */
	/* For CONNECT; for BIND what is to be bound; for UDP_ASSOCIATE the address wished for there. */
	const struct addr *dst;
	const char *name; /* told instead of dst's address, for the last hop to find; or NULL */
	unsigned backlog; /* for BIND, in a session: peers may wait; 0 = no option */
	/* Credentials and wishes; session and token, without them credentials are sent. What the
	 * section of a proxy says of MPTCP and Fast Open is how it is reached by the one before it. */
	const struct upstream_chain *chain;
	uint8_t tos;       /* for the legs behind the proxies; 0 = nothing is asked for */
	uint8_t ttl;       /* for UDP_ASSOCIATE: hop limit behind the proxy; 0 = its own */
	bool open_session; /* ask the last hop for a session and a token window */
};

/* Starts the exchange: the requests in out (UP_REQUEST_MAX octets for each hop). False if they
 * cannot be built. */
bool up_socks6_request(struct up_socks6 *u, const struct up_request *rq, uint8_t *out, size_t *len);

/* May the requests and what the device has said be put into a SYN? Whatever is repeated there,
 * every hop recognizes by its token. */
bool up_socks6_syn_safe(const struct up_socks6 *u);

/* Of the requests (len octets) so many may be sent now; all of them, but for SOCKS 5. */
size_t up_socks6_released(const struct up_socks6 *u, size_t len);
/* So many of their first octets make no proxy act. */
size_t up_socks6_harmless(const struct up_socks6 *u);
/* May the device's bytes be sent before the replies are complete? */
bool up_socks6_takes_data(const struct up_socks6 *u);

/* What came from hop 0; *used octets were replies. Call again after UP_AUTHENTICATED and
 * UP_CHAINED. */
enum up_verdict up_socks6_feed(struct up_socks6 *u, const uint8_t *data, size_t len, size_t *used);

static inline struct up_hop *up_socks6_hop(struct up_socks6 *u)
{
	return &u->hop[u->at];
}

static inline struct up_hop *up_socks6_last(struct up_socks6 *u)
{
	return &u->hop[u->n - 1];
}

/* The hop whose answer is missing: a hop that is to connect to the next waits for that one. */
unsigned up_socks6_missing(const struct up_socks6 *u);
/* A hop is connecting to the next, and nothing says yet that it has got through. */
bool up_socks6_is_chaining(const struct up_socks6 *u);
/* Hop k has connected to the next one: what its replies say of that. since_sent_s: as in up_leg. */
struct up_leg up_socks6_leg(const struct up_socks6 *u, const struct upstream_chain *c, unsigned k,
			    double since_sent_s);
/* A hop has answered with this code that it cannot reach the next one: what that is for the next. */
enum upstream_failure up_chain_failure(uint8_t code);
/* No reply has come. */
bool up_socks6_unheard(const struct up_socks6 *u);

/* The proxy closed the connection while len octets were not a whole reply: did it say, by
 * then, that it is no SOCKSv6 proxy? (A lone version octet is a version mismatch.) */
bool up_socks6_is_mismatch(const struct up_socks6 *u, const uint8_t *data, size_t len);

/* of: whose verdict it is. */
const char *up_verdict_str(const struct up_socks6 *u, enum up_verdict v);

#endif
