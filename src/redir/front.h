/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a program says at the front door, and what it is told: SOCKS 4, 4a and 5 (RFC 1928, 1929)
 * and HTTP CONNECT (RFC 9110, 7617), told apart by the first octet. Pure: bytes and results, no
 * sockets.
 *
 * All that has come is fed again and again until the request is whole; what follows it is the
 * program's first data.
 */
#ifndef REDIR_FRONT_H
#define REDIR_FRONT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libsocks6/cursor.h"
#include "libsocks6/socks6.h"

#define FRONT_HEAD_MAX    8192 /* octets of any request; more is refused */
#define FRONT_REPLY_MAX   320
#define FRONT_SOCKS_REPLY 22

enum front_kind { FRONT_UNKNOWN, FRONT_SOCKS4, FRONT_SOCKS5, FRONT_HTTP };

enum front_verdict {
	FRONT_MORE,    /* wait for more octets */
	FRONT_SAY,     /* send the reply, then feed again */
	FRONT_CHECK,   /* user and pass are to be checked: then front_checked */
	FRONT_REQUEST, /* command and dst are known: then front_answer */
	FRONT_REFUSED  /* send the reply, if there is one, and close */
};

/* Results beside enum s6_reply_code. */
enum front_result {
	FRONT_NO_PROXY = 0x100, /* none could be used */
	FRONT_LOST,             /* a proxy failed after it may have acted */
	FRONT_NO_NAME,          /* the name has no address */
	FRONT_FULL,             /* we have too much to do */
	FRONT_TOO_SLOW          /* the request was not whole in time */
};

struct front {
	enum front_kind kind;
	bool wants_user; /* name and password are asked for */
	uint8_t stage;
	size_t searched; /* octets in which the end of the head is not */
	/* for FRONT_CHECK; wiped by front_checked */
	uint8_t user[S6_USERPASS_MAX], pass[S6_USERPASS_MAX];
	uint8_t user_len, pass_len;
	/* for FRONT_REQUEST */
	uint8_t command; /* enum s6_command, never NOOP */
	struct s6_address dst;
	size_t reply_len;
	char reply[FRONT_REPLY_MAX];
};

void front_init(struct front *f, bool wants_user);
/* *used octets were understood, and are not fed again. */
enum front_verdict front_feed(struct front *f, const uint8_t *data, size_t len, size_t *used);
/* After FRONT_CHECK: FRONT_SAY, FRONT_REQUEST or FRONT_REFUSED. */
enum front_verdict front_checked(struct front *f, bool good);
/* The reply that tells the result: an s6_reply_code or a front_result. It may be empty. */
void front_answer(struct front *f, unsigned result);
/* The same for SOCKS 4 and 5 alone, with the address that BIND and UDP ASSOCIATE tell (no name; NULL
 * = none): its octets, FRONT_SOCKS_REPLY at most. */
size_t front_reply(enum front_kind kind, unsigned result, const struct s6_address *bound, void *out,
		   size_t cap);

enum front_address {
	FRONT_ADDRESS_OK,
	FRONT_ADDRESS_SHORT,    /* there is more to come */
	FRONT_ADDRESS_BAD_NAME, /* it cannot be one */
	FRONT_ADDRESS_BAD_TYPE
};
/* Type, address and port as SOCKS 5 writes them. A name that is a written address becomes one. */
enum front_address front_read_address(struct reader *r, struct s6_address *a);

/* For logs: "socks4", "socks5", "http", "unknown". */
const char *front_kind_str(enum front_kind kind);

#endif
