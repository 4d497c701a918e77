/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether to wait for the device's first bytes before dialling. Where servers speak first
 * (SSH, SMTP, ...) waiting is wasted, so it is learned per destination port. Bounded; what
 * was learned fades after an hour. Shared by all workers: each slot is one atomic word.
 */
#ifndef REDIR_FIRSTDATA_H
#define REDIR_FIRSTDATA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FIRSTDATA_SLOTS 64
#define FIRSTDATA_TTL_S 3600

/* Zero-initialised: nothing is learned. */
struct firstdata {
	atomic_uint_least32_t slots[FIRSTDATA_SLOTS]; /* port * 65536 + minute; 0 = empty */
};

bool firstdata_waits(struct firstdata *f, uint16_t port, double now_s);
/* The server's first byte came before the device's. */
void firstdata_server_first(struct firstdata *f, uint16_t port, double now_s);
/* The device's came first. */
void firstdata_client_first(struct firstdata *f, uint16_t port);

#endif
