/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/session.h"

#include <string.h>

bool session_open(struct session *s, const uint8_t *id, size_t len)
{
	if (len == 0 || len > sizeof(s->id))
		return false;
	memcpy(s->id, id, len);
	s->id_len = (uint16_t)len;
	s->number++;
	s->valid = true;
	tokens_init(&s->tokens);
	return true;
}

bool session_lost(struct session *s, unsigned number)
{
	if (!s->valid || s->number != number)
		return false;
	s->valid = false;
	tokens_init(&s->tokens);
	return true;
}

void session_window(struct session *s, unsigned number, uint32_t base, uint32_t size)
{
	if (s->valid && s->number == number)
		tokens_update(&s->tokens, base, size);
}
