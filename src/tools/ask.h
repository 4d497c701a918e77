/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ask a daemon over its control socket. */
#ifndef SIXPATH_ASK_H
#define SIXPATH_ASK_H

#include <stdbool.h>

#define ASK_REDIR_SOCKET "/run/sixpath/redir.sock"
#define ASK_PROXY_SOCKET "/run/sixpath/proxy.sock"

/* Send the words (ends with NULL) as one command and copy the answer to standard output.
 * Returns the exit code: 0, 1 if the daemon refused, or one of sysexits (told). */
int ask(const char *path, bool json, char *const *words);

#endif
