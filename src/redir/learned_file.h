/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The learned table as a file, so that a restart does not forget it. Text, one entry a line:
 *
 *     sixpath-learned 1 SAVED_AT               seconds since 1970
 *     ADDRESS PORT VERDICT EVIDENCE LEFT HITS OCTETS
 *     end COUNT
 *
 * LEFT are seconds, or "-" for ever. The administrator's entries come first, then the most
 * recently used ones. A file is taken whole or not at all; what is wrong with it is told as text.
 */
#ifndef REDIR_LEARNED_FILE_H
#define REDIR_LEARNED_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "redir/learned.h"

#define LEARNED_FILE_MSG 256 /* octets that suffice for every message */

/* The text of the whole table, with NUL; the caller frees it. Link-local addresses are left out:
 * they mean nothing without their interface. 0 or -ENOMEM. */
int learned_file_format(struct learned *l, double now_s, uint64_t wall_s, char **text, size_t *len);

/* Puts the entries of a text (len octets, no NUL needed) into the table. 0, or -EBADMSG: nothing
 * was taken. msg says how many, or what is wrong; wall_s is now in seconds since 1970. */
int learned_file_take(struct learned *l, const char *text, size_t len, double now_s,
		      uint64_t wall_s, char *msg, size_t cap);

/* Writes the file in one step: there is the old one or the new one, never half of it. 0 or -errno,
 * then msg says what could not be done. */
int learned_file_save(struct learned *l, const char *path, double now_s, uint64_t wall_s, char *msg,
		      size_t cap);

/* 0, -ENOENT: there is none, -EBADMSG: refused, or -errno. msg is to be logged in each case. */
int learned_file_load(struct learned *l, const char *path, double now_s, uint64_t wall_s, char *msg,
		      size_t cap);

#endif
