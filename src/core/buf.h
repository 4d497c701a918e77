/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Byte buffers lent from a pool. A struct buf lives inside its owner; its memory
 * comes from the worker's pool when bytes arrive and goes back when the last byte
 * has left, so that idle flows hold none. Bytes are contiguous: [off, off + len).
 */
#ifndef SIXPATH_BUF_H
#define SIXPATH_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BUF_SIZE 65536  /* memory of one buffer, octets */
#define BUF_BIG  262144 /* where bytes come in bulk: fewer, larger reads and writes */

/* One pool per worker, used by that worker's thread only. */
struct bufpool {
	struct {
		void *first; /* singly linked through the first pointer of each block */
		size_t count;
		size_t spare; /* of them nobody has wanted since the last trim */
	} free[2];            /* by buf.big */
	size_t lent;          /* blocks in use now, */
	size_t lent_bytes;    /* and their memory */
	size_t keep;          /* free blocks of each kind that are kept; of big ones a quarter */
};

void bufpool_init(struct bufpool *p, size_t keep);
void bufpool_fini(struct bufpool *p); /* every block must have been given back */
/* Give the kernel back what nobody has wanted since the last call. */
void bufpool_trim(struct bufpool *p);

struct buf {
	uint8_t *mem; /* NULL when empty */
	uint32_t len;
	uint32_t off : 31;
	uint32_t big : 1; /* BUF_BIG; may be set while there is no memory, buf_clear resets it */
};

/* Octets it can hold. */
static inline size_t buf_size(const struct buf *b)
{
	return b->big ? BUF_BIG : BUF_SIZE;
}

/* Room behind the bytes, after moving them to the front if that gains room; lends
 * memory if there is none. Returns NULL with *room = 0 when full or out of memory. */
uint8_t *buf_room(struct buf *b, struct bufpool *p, size_t *room);
/* n octets were written to the room. */
void buf_added(struct buf *b, size_t n);
/* Copy octets in; returns how many fitted. */
size_t buf_put(struct buf *b, struct bufpool *p, const void *data, size_t n);
/* The octets. NULL when empty. */
const uint8_t *buf_data(const struct buf *b);
/* n octets were used up; gives the memory back when none are left. */
void buf_consume(struct buf *b, struct bufpool *p, size_t n);
/* Throw all away. */
void buf_clear(struct buf *b, struct bufpool *p);

#endif
