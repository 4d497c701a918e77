/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/buf.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void bufpool_init(struct bufpool *p, size_t keep)
{
	memset(p, 0, sizeof(*p));
	p->keep = keep;
}

void bufpool_fini(struct bufpool *p)
{
	assert(p->lent == 0);
	for (int big = 0; big < 2; big++) {
		while (p->free[big].first) {
			void *next = *(void **)p->free[big].first;
			free(p->free[big].first);
			p->free[big].first = next;
		}
		p->free[big].count = 0;
	}
}

static uint8_t *pool_lend(struct bufpool *p, const struct buf *b)
{
	void *mem = p->free[b->big].first;

	if (mem) {
		p->free[b->big].first = *(void **)mem;
		p->free[b->big].count--;
	} else {
		mem = malloc(buf_size(b));
	}
	if (mem) {
		p->lent++;
		p->lent_bytes += buf_size(b);
	}
	return mem;
}

static void pool_return(struct bufpool *p, struct buf *b)
{
	void *mem = b->mem;

	p->lent--;
	p->lent_bytes -= buf_size(b);
	if (p->free[b->big].count >= (b->big ? p->keep / 4 : p->keep)) {
		free(mem);
		return;
	}
	*(void **)mem = p->free[b->big].first;
	p->free[b->big].first = mem;
	p->free[b->big].count++;
}

uint8_t *buf_room(struct buf *b, struct bufpool *p, size_t *room)
{
	*room = 0;
	if (!b->mem) {
		b->mem = pool_lend(p, b);
		if (!b->mem)
			return NULL;
		b->off = b->len = 0;
	}
	if (b->off > 0 && b->off + b->len == buf_size(b)) {
		memmove(b->mem, b->mem + b->off, b->len);
		b->off = 0;
	}
	*room = buf_size(b) - (b->off + b->len);
	return *room ? b->mem + b->off + b->len : NULL;
}

void buf_added(struct buf *b, size_t n)
{
	assert(b->mem && n <= buf_size(b) - (b->off + b->len));
	b->len += (uint32_t)n;
}

size_t buf_put(struct buf *b, struct bufpool *p, const void *data, size_t n)
{
	size_t room, done = 0;

	while (done < n) {
		uint8_t *at = buf_room(b, p, &room);
		if (!at)
			break;
		if (room > n - done)
			room = n - done;
		memcpy(at, (const uint8_t *)data + done, room);
		buf_added(b, room);
		done += room;
	}
	if (b->len == 0)
		buf_clear(b, p);
	return done;
}

const uint8_t *buf_data(const struct buf *b)
{
	return b->len ? b->mem + b->off : NULL;
}

void buf_consume(struct buf *b, struct bufpool *p, size_t n)
{
	assert(n <= b->len);
	b->off += (uint32_t)n;
	b->len -= (uint32_t)n;
	if (b->len == 0)
		buf_clear(b, p);
}

void buf_clear(struct buf *b, struct bufpool *p)
{
	if (b->mem)
		pool_return(p, b);
	memset(b, 0, sizeof(*b));
}
