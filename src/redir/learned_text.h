/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The learned table as text, one entry a line:
 *
 *     sixpath-learned 1 SAVED_AT               seconds since 1970
 *     ADDRESS PORT VERDICT EVIDENCE LEFT HITS OCTETS
 *     end COUNT
 *
 * LEFT are seconds, or "-" for ever. The administrator's entries come first, then the most
 * recently used ones. A text is taken whole or not at all; what is wrong with it is told as text.
 */
#ifndef REDIR_LEARNED_TEXT_H
#define REDIR_LEARNED_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "redir/learned.h"

#define LEARNED_TEXT_MSG 256 /* octets that suffice for every message */

/* The text of the whole table, with NUL; the caller frees it. Link-local addresses are left out:
 * they mean nothing without their interface. 0 or -ENOMEM. */
int learned_text_format(struct learned *l, double now_s, uint64_t wall_s, char **text, size_t *len);

/* Puts the entries of a text (len octets, no NUL needed) into the table. 0, or -EBADMSG: nothing
 * was taken. msg says how many, or what is wrong; wall_s is now in seconds since 1970. */
int learned_text_take(struct learned *l, const char *text, size_t len, double now_s,
		      uint64_t wall_s, char *msg, size_t cap);

#endif
