/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/plain.h"

#include <string.h>

#define ASKING_S 5. /* others need not ask while one does */

bool plain_init(struct plain *p)
{
	memset(p, 0, sizeof(*p));
	return siphash_new_key(&p->key);
}

static struct plain_slot *find(struct plain *p, const struct addr *server, uint32_t *rest)
{
	struct addr all;
	uint8_t octets[18];
	uint64_t hash;

	addr_map_v6(&all, server);
	memcpy(octets, all.u.in6.sin6_addr.s6_addr, 16);
	memcpy(octets + 16, &all.u.in6.sin6_port, 2);
	hash = siphash(&p->key, octets, sizeof(octets));
	*rest = (uint32_t)(hash >> 32);
	return &p->slots[hash & (PLAIN_SLOTS - 1)];
}

bool plain_knows(struct plain *p, const struct addr *server, double now_s)
{
	uint32_t rest;
	struct plain_slot *s = find(p, server, &rest);

	if (s->hash != rest || s->times < PLAIN_TIMES)
		return false;
	if (now_s < s->until)
		return true;
	s->until = now_s + ASKING_S;
	return false;
}

void plain_note(struct plain *p, const struct addr *server, bool mptcp, double now_s)
{
	uint32_t rest;
	struct plain_slot *s = find(p, server, &rest);

	if (s->hash != rest || mptcp)
		*s = (struct plain_slot){.hash = rest};
	if (mptcp)
		return;
	if (s->times < PLAIN_TIMES)
		s->times++;
	s->until = now_s + PLAIN_S;
}
