/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The UDP ASSOCIATE command (section 8): one association, from the request to the end of its TCP
 * connection. What a client sends by plain UDP or inside that connection leaves by a socket of the
 * association's own (udp_out), and what arrives there goes back the way the client came.
 *
 * The first datagram fixes that way. By plain UDP it counts only from an address that the TCP
 * connection comes from as well (any subflow): that address has answered, so nobody can make the
 * proxy send to a third party.
 */
#ifndef PROXY_ASSOC_H
#define PROXY_ASSOC_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/buf.h"
#include "core/reason.h"
#include "libsocks6/socks6.h"

struct assoc;
struct proxy_worker;
struct sndlimit;

struct assoc_wish {
	const struct s6_address *bind; /* of the request */
	const struct s6_stack *stack;
	const struct addr *peer; /* of the TCP connection */
	const char *user;        /* "" = nobody; lives as long as the client */
	const uint8_t *session;  /* ISSUED_ID_LEN octets, or NULL outside any */
};

struct assoc_result {
	uint8_t code;                /* enum s6_reply_code */
	enum end_reason reason;      /* of a failure */
	int err;                     /* errno behind it, or 0 */
	struct addr bind;            /* the remote hosts' side */
	struct s6_stack stack;       /* what came of the options, leg 1 of plain UDP included */
	uint8_t init[S6_UDP_HEADER]; /* the Initialization, to be sent behind the operation reply */
};

/* It has ended by itself: the owner calls assoc_stop and closes the connection. Never called
 * from inside assoc_open. */
typedef void assoc_done_fn(void *owner, enum end_reason reason, int err);

/* NULL, and the reason in *result, if there is to be none. */
struct assoc *assoc_open(struct proxy_worker *pw, const struct assoc_wish *wish,
			 struct assoc_result *result, assoc_done_fn *done, void *owner);
/* Both are sent: go on, on this connection, whose descriptor stays the owner's. So do
 * `in`, which may hold octets that came behind the request, and limit (NULL = none). May call done. */
void assoc_run(struct assoc *a, int fd, struct buf *in, struct sndlimit *limit);
/* Frees it at the end of the loop turn; done is not called any more. */
void assoc_stop(struct assoc *a);

/* For log line and reports; valid until assoc_stop. */
struct assoc_facts {
	const struct addr *bind; /* remote hosts' side */
	const char *path;        /* "udp", "tcp", or "none": no datagram has come yet */
	uint64_t up, down;       /* datagrams relayed */
	uint64_t bytes_up, bytes_down;
	uint64_t errors, dropped; /* Error messages sent; datagrams lost in the proxy, both ways */
};
void assoc_facts(const struct assoc *a, struct assoc_facts *f);

#endif
