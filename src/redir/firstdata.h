/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether to wait for the device's first bytes before dialling. Where servers speak first
 * (SSH, SMTP, ...) waiting is wasted, so it is learned per destination port. Pure; one
 * per worker; bounded; what was learned fades after an hour.
 */
#ifndef REDIR_FIRSTDATA_H
#define REDIR_FIRSTDATA_H

#include <stdbool.h>
#include <stdint.h>

#define FIRSTDATA_SLOTS 64
#define FIRSTDATA_TTL_S 3600

struct firstdata {
	struct {
		uint16_t port; /* 0 = empty */
		double learned_s;
	} slots[FIRSTDATA_SLOTS];
};

bool firstdata_waits(const struct firstdata *f, uint16_t port, double now_s);
/* The server's first byte came before the device's. */
void firstdata_server_first(struct firstdata *f, uint16_t port, double now_s);
/* The device's came first. */
void firstdata_client_first(struct firstdata *f, uint16_t port);

#endif
