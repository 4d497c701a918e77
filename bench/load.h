/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "load_count.h"

/* What a client says first, in network order; the rest of the request is filler. */
enum {
	LOAD_HEAD = 9, /* octets: operation, request length, reply length */
	LOAD_REQUEST_MAX = 65536,
	LOAD_REPLY_MAX = 1 << 20,
	LOAD_BLOCK = 256 << 10, /* is written at a time; stays in the cache */
	LOAD_WINDOW_MAX = 32,
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

/* ---- datagrams (load_udp.c) ---- */

struct load_udp_wish {
	const struct sockaddr_storage *sa;
	socklen_t sa_len;
	unsigned sockets, window; /* window: datagrams of each on their way */
	size_t size;              /* octets of each */
	double seconds, warm;
	uint64_t count; /* end after so many echoes; 0 = after the time */
};

/* Sends the datagrams of these ports back until killed; prints "ready". Returns an exit code. */
int load_echo(char *const *ports);

/* Datagrams to be echoed: an echo sends the next one, what has none after a third of a second counts
 * as lost. Prints the count; returns an exit code. */
int load_udp(const struct load_udp_wish *w, struct load_count *c);

/* Sockets that have had an echo each and stay: prints how many did not get one within 10 s, and the
 * same for all of them again at each SIGUSR1; ends at SIGTERM. */
int load_udp_idle(const struct load_udp_wish *w);

#endif
