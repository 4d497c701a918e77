/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CONNECT command: from a wished destination to a connected socket. Resolves names,
 * asks the access list about every address, tries the addresses one after the other or,
 * if the client wants Happy Eyeballs, staggered and racing (RFC 8305).
 *
 * Exists only while it runs; the client owns it.
 */
#ifndef PROXY_OP_CONNECT_H
#define PROXY_OP_CONNECT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/reason.h"
#include "core/sock.h"
#include "libsocks6/socks6.h"

struct proxy_worker;
struct op_connect;

struct op_connect_wish {
	const struct s6_address *dst;
	const struct s6_stack *stack;
	/* Early data for the SYN, if the client wants TFO: what the buffer holds at that time. */
	const struct buf *early;
};

struct op_connect_result {
	uint8_t code;           /* enum s6_reply_code */
	enum end_reason reason; /* of a failure */
	int err;                /* errno behind it, or 0 */
	int fd;                 /* connected socket for the caller, or -1 */
	struct addr dst, local;
	bool mptcp;         /* in use towards the server */
	bool fell_back;     /* asked for, and not in use */
	size_t queued;      /* octets of early data already given to the kernel */
	unsigned syn_bytes; /* octets that the server took from the SYN, even if it reset it then */
};

/* Called exactly once, never from inside op_connect_start; op_connect is gone afterwards. */
typedef void op_connect_done_fn(void *owner, const struct op_connect_result *result);

struct op_connect *op_connect_start(struct proxy_worker *pw, const struct op_connect_wish *wish,
				    op_connect_done_fn *done, void *owner);
void op_connect_stop(struct op_connect *op);
/* True while a name is being resolved. */
bool op_connect_resolving(const struct op_connect *op);

#endif
