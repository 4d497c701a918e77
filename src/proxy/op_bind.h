/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The BIND command: a port for the client (listenport.h), or, in a session that has one with a
 * backlog, the wait for one of that one's peers. The first operation reply is known at once, others
 * follow.
 *
 * Exists only while it runs; the client owns it.
 */
#ifndef PROXY_OP_BIND_H
#define PROXY_OP_BIND_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/reason.h"
#include "libsocks6/socks6.h"

struct proxy_worker;
struct op_bind;

struct op_bind_wish {
	const struct s6_address *addr;
	const struct s6_stack *stack;
	const char *user;       /* "" = nobody */
	const uint8_t *session; /* ISSUED_ID_LEN octets; NULL = none */
};

/* What an operation reply is to say. */
struct op_bind_reply {
	uint8_t code;           /* enum s6_reply_code */
	enum end_reason reason; /* of a failure */
	int err;                /* errno behind it, or 0 */
	struct addr addr;       /* bound, or the peer's */
	int fd;                 /* the socket that TOS and TTL are for, or -1 */
	bool mptcp;             /* would be accepted, or is in use */
	unsigned syn_bytes;     /* that have come in the peer's SYN */
	unsigned backlog;       /* in use */
};

struct op_bind_ops {
	/* Here is the peer; the descriptor is the callee's, op_bind is gone. */
	void (*peer)(void *owner, const struct op_bind_reply *reply);
	/* Only with a backlog: this one waits to be picked up. */
	void (*waits)(void *owner, const struct op_bind_reply *reply);
	/* There is no peer, or the port is lost; op_bind is gone. */
	void (*failed)(void *owner, const struct op_bind_reply *reply);
};

/* NULL: the first reply says why it failed. */
struct op_bind *op_bind_start(struct proxy_worker *pw, const struct op_bind_wish *wish,
			      const struct op_bind_ops *ops, void *owner,
			      struct op_bind_reply *first);
void op_bind_stop(struct op_bind *op);
/* Others pick up its peers: it lasts as long as the client. */
bool op_bind_has_backlog(const struct op_bind *op);

#endif
