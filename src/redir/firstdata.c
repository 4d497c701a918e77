/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/firstdata.h"

/* Ports that share a slot displace each other; all that costs is a wait. */
static unsigned slot_of(uint16_t port)
{
	return (port * 40503u >> 4) % FIRSTDATA_SLOTS;
}

bool firstdata_waits(const struct firstdata *f, uint16_t port, double now_s)
{
	unsigned i = slot_of(port);

	return f->slots[i].port != port || now_s - f->slots[i].learned_s > FIRSTDATA_TTL_S;
}

void firstdata_server_first(struct firstdata *f, uint16_t port, double now_s)
{
	unsigned i = slot_of(port);

	f->slots[i].port = port;
	f->slots[i].learned_s = now_s;
}

void firstdata_client_first(struct firstdata *f, uint16_t port)
{
	unsigned i = slot_of(port);

	if (f->slots[i].port == port)
		f->slots[i].port = 0;
}
