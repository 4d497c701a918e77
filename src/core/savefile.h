/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file that is replaced as a whole: who reads it finds the old content or the new one. */
#ifndef SIXPATH_SAVEFILE_H
#define SIXPATH_SAVEFILE_H

#include <stddef.h>
#include <sys/types.h>

/* Writes PATH.new, which must be a new file (no link is followed), and renames it; both are on the
 * disk afterwards. mode: against the umask. 0 or -errno, mostly with path as it was. */
int savefile_replace(const char *path, const char *text, size_t len, mode_t mode);

#endif
