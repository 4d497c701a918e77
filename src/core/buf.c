/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/buf.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Not from malloc: what the busiest moment took would lie between smaller things that stay, and never
 * go back to the kernel. But with red zones where these are looked at. */
#if defined(__SANITIZE_ADDRESS__)
#define FROM_MALLOC 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FROM_MALLOC 1
#endif
#endif

static void *block_new(size_t size)
{
#ifdef FROM_MALLOC
	return malloc(size);
#else
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
#endif
}

static void block_free(void *mem, size_t size)
{
#ifdef FROM_MALLOC
	(void)size;
	free(mem);
#else
	munmap(mem, size);
#endif
}

void bufpool_init(struct bufpool *p, size_t keep)
{
	memset(p, 0, sizeof(*p));
	p->keep = keep;
}

static void *take_free(struct bufpool *p, bool big)
{
	void *mem = p->free[big].first;

	if (!mem)
		return NULL;
	p->free[big].first = *(void **)mem;
	if (--p->free[big].count < p->free[big].spare)
		p->free[big].spare = p->free[big].count;
	return mem;
}

static void free_some(struct bufpool *p, bool big, size_t n)
{
	while (n-- > 0)
		block_free(take_free(p, big), big ? BUF_BIG : BUF_SIZE);
}

void bufpool_fini(struct bufpool *p)
{
	assert(p->lent == 0);
	for (int big = 0; big < 2; big++)
		free_some(p, big, p->free[big].count);
}

void bufpool_trim(struct bufpool *p)
{
	for (int big = 0; big < 2; big++) {
		free_some(p, big, p->free[big].spare);
		p->free[big].spare = p->free[big].count;
	}
}

static uint8_t *pool_lend(struct bufpool *p, const struct buf *b)
{
	void *mem = take_free(p, b->big);

	if (!mem)
		mem = block_new(buf_size(b));
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
		block_free(mem, buf_size(b));
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
		b->off = 0;
		b->len = 0;
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
	b->off = (b->off + (uint32_t)n) & (BUF_BIG * 2 - 1); /* the compiler sees that it fits */
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
