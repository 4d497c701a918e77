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

/* The same for our own use, silently: the JSON answer to a command of one word in *json, which the
 * caller frees. Returns 0 or -errno: that of connect, EAGAIN (no answer in time), ENODATA (none at
 * all), EOPNOTSUPP (the daemon refused) or EPROTO (it is none of ours). */
int ask_json(const char *path, const char *command, char **json);

#endif
