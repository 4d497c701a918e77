/* SPDX-License-Identifier: MIT */
/*
 * The only code that touches untrusted bytes: a reader and a writer that cannot
 * leave their buffer. Every getter is checked by its caller; nothing is consumed
 * by one that fails. Lengths are compared by subtraction, never by adding to a
 * position. Octets are assembled one by one, so alignment and byte order of the
 * machine play no part.
 */
#ifndef S6_CURSOR_H
#define S6_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CURSOR_MUST_CHECK __attribute__((warn_unused_result))

struct reader {
	const uint8_t *at;
	size_t left;
};

static inline struct reader reader_of(const void *buf, size_t len)
{
	return (struct reader){.at = buf, .left = len};
}

/* Take n octets out and give their place. */
CURSOR_MUST_CHECK static inline bool read_bytes(struct reader *r, size_t n, const uint8_t **out)
{
	if (n > r->left)
		return false;
	*out = r->at;
	if (n > 0) /* at may be NULL when nothing is left */
		r->at += n;
	r->left -= n;
	return true;
}

CURSOR_MUST_CHECK static inline bool read_u8(struct reader *r, uint8_t *out)
{
	const uint8_t *p;

	if (!read_bytes(r, 1, &p))
		return false;
	*out = p[0];
	return true;
}

CURSOR_MUST_CHECK static inline bool read_u16(struct reader *r, uint16_t *out)
{
	const uint8_t *p;

	if (!read_bytes(r, 2, &p))
		return false;
	*out = (uint16_t)(p[0] << 8 | p[1]);
	return true;
}

CURSOR_MUST_CHECK static inline bool read_u32(struct reader *r, uint32_t *out)
{
	const uint8_t *p;

	if (!read_bytes(r, 4, &p))
		return false;
	*out = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	return true;
}

CURSOR_MUST_CHECK static inline bool read_u64(struct reader *r, uint64_t *out)
{
	uint32_t high, low;
	struct reader copy = *r;

	if (!read_u32(&copy, &high) || !read_u32(&copy, &low))
		return false;
	*r = copy;
	*out = (uint64_t)high << 32 | low;
	return true;
}

/* Take n octets out as a reader of their own, for what is inside a length. */
CURSOR_MUST_CHECK static inline bool read_sub(struct reader *r, size_t n, struct reader *sub)
{
	const uint8_t *p;

	if (!read_bytes(r, n, &p))
		return false;
	*sub = reader_of(p, n);
	return true;
}

/* Writes nothing once it has run out of room, but goes on counting: what is too long for the wire
 * is found out whatever the size of the buffer. full is asked once, at the end. */
struct writer {
	uint8_t *start;
	size_t len, cap;
	bool full;
};

static inline struct writer writer_of(void *buf, size_t cap)
{
	return (struct writer){.start = buf, .cap = cap};
}

/* Room for n octets, or NULL. */
static inline uint8_t *write_room(struct writer *w, size_t n)
{
	uint8_t *p;

	w->full = w->full || n > w->cap - w->len;
	p = w->full ? NULL : w->start + w->len;
	w->len += n;
	return p;
}

static inline void write_bytes(struct writer *w, const void *data, size_t n)
{
	uint8_t *p = n ? write_room(w, n) : NULL;

	if (p)
		memcpy(p, data, n);
}

static inline void write_zeros(struct writer *w, size_t n)
{
	uint8_t *p = n ? write_room(w, n) : NULL;

	if (p)
		memset(p, 0, n);
}

static inline void write_u8(struct writer *w, uint8_t v)
{
	write_bytes(w, &v, 1);
}

static inline void write_u16(struct writer *w, uint16_t v)
{
	const uint8_t b[2] = {(uint8_t)(v >> 8), (uint8_t)v};

	write_bytes(w, b, sizeof(b));
}

static inline void write_u32(struct writer *w, uint32_t v)
{
	write_u16(w, (uint16_t)(v >> 16));
	write_u16(w, (uint16_t)v);
}

static inline void write_u64(struct writer *w, uint64_t v)
{
	write_u32(w, (uint32_t)(v >> 32));
	write_u32(w, (uint32_t)v);
}

/* Overwrite 16 bits at an offset that has been written before. */
static inline void write_u16_at(struct writer *w, size_t offset, uint16_t v)
{
	if (w->full || w->len < 2 || offset > w->len - 2)
		return;
	w->start[offset] = (uint8_t)(v >> 8);
	w->start[offset + 1] = (uint8_t)v;
}

#endif
