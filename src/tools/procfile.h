/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading files of /proc: bounded, and judged as text from elsewhere. */
#ifndef SIXPATH_PROCFILE_H
#define SIXPATH_PROCFILE_H

#include <stdbool.h>
#include <stdint.h>

/* The whole file (at most 1 MiB of it) as a string that the caller frees; NULL with errno. */
char *procfile_read(const char *path);

/* A counter of /proc/net/netstat, given as pairs of lines "GROUP: NAME..." and "GROUP: VALUE...".
 * False if this kernel does not have it. */
bool procfile_counter(const char *text, const char *group, const char *name, uint64_t *value);

/* The number (of this base) behind "NAME:" at the start of a line, as in /proc/self/status. */
bool procfile_field(const char *text, const char *name, int base, uint64_t *value);

#endif
