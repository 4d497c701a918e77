/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Our side of an idempotence-token window (section 6.4). Pure. Tokens are handed out in
 * rising order and never twice; a window that the proxy moves is followed, one that is
 * older than what was seen is ignored.
 */
#ifndef REDIR_TOKENS_H
#define REDIR_TOKENS_H

#include <stdbool.h>
#include <stdint.h>

struct tokens {
	uint32_t base, size; /* size 0 = no window */
	uint32_t next;       /* the next token to hand out */
};

void tokens_init(struct tokens *t);
/* A Window option came in. */
void tokens_update(struct tokens *t, uint32_t base, uint32_t size);
/* Take one. False = none left. */
bool tokens_take(struct tokens *t, uint32_t *token);
uint32_t tokens_left(const struct tokens *t);

#endif
