/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Look up values in a JSON text, without copying and without allocation: what a daemon answers on
 * its control socket. A value is a span of the text, valid as long as that is. Text that is no
 * JSON leads to "not found", never outside of the span.
 */
#ifndef SIXPATH_JSONVAL_H
#define SIXPATH_JSONVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jsonval {
	const char *p, *end;
};

/* The member `key` (plain ASCII) of an object; false if it is no object or has none. */
bool json_get(struct jsonval object, const char *key, struct jsonval *out);

/* Go through an array: true and the next element in *out, false at the end. *it is the array at
 * first, and is used up. */
bool json_next(struct jsonval *it, struct jsonval *out);

bool json_str(struct jsonval v, char *buf, size_t cap); /* cut if need be; null is false */
bool json_u64(struct jsonval v, uint64_t *out);         /* only whole numbers */
bool json_is(struct jsonval v, const char *word);       /* true, false, null */

#endif
