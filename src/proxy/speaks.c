/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/speaks.h"

#include <string.h>

#define ASKING_S 5. /* others need not ask while one does */

bool speaks_init(struct speaks *s)
{
	memset(s, 0, sizeof(*s));
	return siphash_new_key(&s->key);
}

static struct speaks_slot *find(struct speaks *s, const struct addr *server, uint32_t *rest)
{
	struct addr all;
	uint8_t octets[18];
	uint64_t hash;

	addr_map_v6(&all, server);
	memcpy(octets, all.u.in6.sin6_addr.s6_addr, 16);
	memcpy(octets + 16, &all.u.in6.sin6_port, 2);
	hash = siphash(&s->key, octets, sizeof(octets));
	*rest = (uint32_t)(hash >> 32);
	return &s->slots[hash & (SPEAKS_SLOTS - 1)];
}

enum speaks_verdict speaks_of(struct speaks *s, const struct addr *server, double now_s)
{
	uint32_t rest;
	struct speaks_slot *at = find(s, server, &rest);

	if (at->hash != rest)
		return SPEAKS_UNKNOWN;
	if (now_s < at->until)
		return at->verdict;
	at->until = now_s + ASKING_S;
	return SPEAKS_UNKNOWN;
}

void speaks_note(struct speaks *s, const struct addr *server, bool mptcp, double now_s)
{
	enum speaks_verdict verdict = mptcp ? SPEAKS_MPTCP : SPEAKS_TCP;
	uint32_t rest;
	struct speaks_slot *at = find(s, server, &rest);

	if (at->hash != rest)
		*at = (struct speaks_slot){.hash = rest};
	if (at->verdict != verdict) {
		at->for_s = at->verdict == SPEAKS_UNKNOWN ? SPEAKS_S : SPEAKS_AGAIN_S;
		at->verdict = (uint8_t)verdict;
	} else if (now_s < at->until - ASKING_S) {
		return; /* several asked at the same time */
	} else if (at->for_s < SPEAKS_MAX_S) {
		at->for_s *= 2;
	}
	if (at->for_s > SPEAKS_MAX_S)
		at->for_s = SPEAKS_MAX_S;
	at->until = now_s + at->for_s;
}
