/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/firstdata.h"

/* Ports that share a slot displace each other; all that costs is a wait. */
static atomic_uint_least32_t *slot_of(struct firstdata *f, uint16_t port)
{
	return &f->slots[(port * 40503u >> 4) % FIRSTDATA_SLOTS];
}

static uint16_t minute_of(double now_s)
{
	return (uint16_t)((uint64_t)now_s / 60); /* wraps after 45 days: differences are right */
}

bool firstdata_waits(struct firstdata *f, uint16_t port, double now_s)
{
	uint32_t word = atomic_load_explicit(slot_of(f, port), memory_order_relaxed);

	if (port == 0 || word >> 16 != port)
		return true;
	return (uint16_t)(minute_of(now_s) - (uint16_t)word) > FIRSTDATA_TTL_S / 60;
}

void firstdata_server_first(struct firstdata *f, uint16_t port, double now_s)
{
	atomic_store_explicit(slot_of(f, port), (uint32_t)port << 16 | minute_of(now_s),
			      memory_order_relaxed);
}

void firstdata_client_first(struct firstdata *f, uint16_t port)
{
	atomic_uint_least32_t *slot = slot_of(f, port);

	if (atomic_load_explicit(slot, memory_order_relaxed) >> 16 == port)
		atomic_store_explicit(slot, 0, memory_order_relaxed);
}
