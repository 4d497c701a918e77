/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Our session with one upstream: its ID and its token window. Pure; the upstream locks.
 * Each session has a number, so that a late "session invalid" about an old one does not
 * end its successor.
 */
#ifndef REDIR_SESSION_H
#define REDIR_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "redir/tokens.h"

#define SESSION_ID_MAX 64 /* longer ones would leave the SYN too little room: not used */

struct session {
	bool valid;
	uint8_t id[SESSION_ID_MAX];
	uint16_t id_len;
	unsigned number; /* of this session; 0 = there has been none */
	struct tokens tokens;
};

/* A proxy granted one. False if the ID cannot be used. */
bool session_open(struct session *s, const uint8_t *id, size_t len);
/* The proxy does not know session number any more. True if that ended the current one. */
bool session_lost(struct session *s, unsigned number);
/* A window came with a reply in session number. */
void session_window(struct session *s, unsigned number, uint32_t base, uint32_t size);

#endif
