/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stddef.h>
#include <stdint.h>

/* What a client says first, in network order; the rest of the request is filler. */
enum {
	LOAD_HEAD = 9, /* octets: operation, request length, reply length */
	LOAD_REQUEST_MAX = 65536,
	LOAD_REPLY_MAX = 1 << 20,
	LOAD_BLOCK = 256 << 10, /* is written at a time; stays in the cache */
};

enum load_op {
	LOAD_DOWN = 'D', /* the server sends until the end */
	LOAD_UP = 'U',   /* the server throws away what comes */
	LOAD_ONCE = 'O', /* one request, one reply, the server closes */
	LOAD_KEPT = 'K', /* requests and replies, the client closes */
};

/* Lets this process have as many descriptors as the system allows. */
void load_limits(void);

/* Serves on these ports until killed; prints "ready". Returns an exit code. */
int load_serve(char *const *ports);

#endif
