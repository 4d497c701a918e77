/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text from elsewhere, made harmless for terminals, logs and JSON. */
#ifndef SIXPATH_TEXT_H
#define SIXPATH_TEXT_H

#include <stddef.h>

/* Octets of the well-formed UTF-8 character at s (1 for all of ASCII); 0 if it is none. */
size_t text_utf8_len(const char *s);

/* Control characters and octets that are not UTF-8 become \xNN. Always ends with NUL, cut if
 * need be, never within a character. Returns the length of out. */
size_t text_escape(char *out, size_t cap, const char *text);

/* How many letters must be changed, added or left out to make b of a, without regard to case. */
unsigned text_distance(const char *a, const char *b);

#endif
