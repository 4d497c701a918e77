/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The learned table in a file (learned_text.h has the format), so that a restart does not forget
 * it. No state.
 */
#ifndef REDIR_LEARNED_FILE_H
#define REDIR_LEARNED_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "redir/learned.h"

/* Writes the file in one step: there is the old one or the new one, never half of it. 0 or -errno,
 * then msg says what could not be done. */
int learned_file_save(struct learned *l, const char *path, double now_s, uint64_t wall_s, char *msg,
		      size_t cap);

/* 0, -ENOENT: there is none, -EBADMSG: refused, or -errno. msg is to be logged in each case;
 * LEARNED_TEXT_MSG octets suffice. */
int learned_file_load(struct learned *l, const char *path, double now_s, uint64_t wall_s, char *msg,
		      size_t cap);

#endif
