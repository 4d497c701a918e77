/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Servers that do not speak MPTCP. A client may wish for it with each connection, and a socket that
 * asks and falls back is dearer than a TCP socket from its first packet to its last. So a server that
 * has refused it several times in a row is spared the question for a minute; one connection then asks
 * again. Clients are told what is true: not in use.
 *
 * Belongs to one worker. Bounded: a place for each hash, where the newest server stays. Pure: the
 * caller gives the time (worker_now).
 */
#ifndef PROXY_PLAIN_H
#define PROXY_PLAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/siphash.h"

#define PLAIN_SLOTS 512 /* a power of 2 */
#define PLAIN_TIMES 8   /* in a row */
#define PLAIN_S     60.

struct plain {
	struct siphash_key key;
	struct plain_slot {
		uint32_t hash; /* the half of it that is not the place */
		uint32_t times;
		double until; /* known until then, if times are enough */
	} slots[PLAIN_SLOTS];
};

/* False if the kernel gives no random key; nothing is wrong with it then but that strangers may make
 * servers collide. */
bool plain_init(struct plain *p);
/* Address and port are known to refuse MPTCP. */
bool plain_knows(struct plain *p, const struct addr *server, double now_s);
/* MPTCP was asked for, and is in use or not. */
void plain_note(struct plain *p, const struct addr *server, bool mptcp, double now_s);

#endif
