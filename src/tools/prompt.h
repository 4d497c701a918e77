/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Read a password: from a person, without echo, or one line from a pipe. */
#ifndef SIXPATH_PROMPT_H
#define SIXPATH_PROMPT_H

#include <stddef.h>

/* Into out, which the caller wipes: at most cap - 1 octets, then NUL. On a terminal asks
 * twice. Returns 0 or an exit code of sysexits (told). A signal restores the terminal
 * before it takes effect. */
int prompt_password(char *out, size_t cap);

#endif
