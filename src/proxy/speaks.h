/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which servers speak MPTCP. A client may wish for it with each connection, but a socket that asks in
 * vain is worse than one of TCP (see dial.h). So what a server answered is kept: for five minutes, then
 * for twice as long each time it is the same, for an hour at most; where it has changed its mind a few
 * seconds are the beginning. One connection then asks again. Clients are told what is true: in use or
 * not.
 *
 * Belongs to one worker. Bounded: a place for each hash, where the newest server stays. Pure: the
 * caller gives the time (worker_now).
 */
#ifndef PROXY_SPEAKS_H
#define PROXY_SPEAKS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/siphash.h"

#define SPEAKS_SLOTS   512 /* a power of 2 */
#define SPEAKS_S       60.
#define SPEAKS_AGAIN_S 5.
#define SPEAKS_MAX_S   3600.

enum speaks_verdict { SPEAKS_UNKNOWN, SPEAKS_TCP, SPEAKS_MPTCP };

struct speaks {
	struct siphash_key key;
	struct speaks_slot {
		uint32_t hash;   /* the half of it that is not the place */
		uint8_t verdict; /* enum speaks_verdict */
		float for_s;     /* it is kept, */
		double until;    /* and until when */
	} slots[SPEAKS_SLOTS];
};

/* False if the kernel gives no random key; nothing is wrong with it then but that strangers may make
 * servers collide. */
bool speaks_init(struct speaks *s);
/* Of address and port. When the time is over, one connection gets SPEAKS_UNKNOWN; others not before it
 * has had a few seconds. */
enum speaks_verdict speaks_of(struct speaks *s, const struct addr *server, double now_s);
/* MPTCP was asked for, and is in use or not. */
void speaks_note(struct speaks *s, const struct addr *server, bool mptcp, double now_s);

#endif
