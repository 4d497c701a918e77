/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/tokens.h"

#include "libsocks6/socks6.h"

void tokens_init(struct tokens *t)
{
	*t = (struct tokens){0};
}

void tokens_update(struct tokens *t, uint32_t base, uint32_t size)
{
	if (size == 0) /* no window says that; taken as one, the next would start anew */
		return;
	if (t->size > 0 && s6_token_less(base, t->base))
		return;
	if (t->size == 0 || s6_token_less(t->next, base))
		t->next = base;
	t->base = base;
	t->size = size;
}

uint32_t tokens_left(const struct tokens *t)
{
	uint32_t used = t->next - t->base;

	return used < t->size ? t->size - used : 0;
}

bool tokens_take(struct tokens *t, uint32_t *token)
{
	if (tokens_left(t) == 0)
		return false;
	*token = t->next++;
	return true;
}
