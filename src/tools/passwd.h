/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The proxy's users file: lines "user:hash" with a hash of crypt(3), '#' begins a comment
 * line. Other lines and comments stay as they are; the file is replaced as a whole, so
 * that a reader sees the old or the new one.
 */
#ifndef SIXPATH_PASSWD_H
#define SIXPATH_PASSWD_H

#include <stdbool.h>

/* Ask for a password and set it for user, adding the user if need be. Returns 0 or an exit
 * code of sysexits (told). */
int passwd_set(const char *file, const char *user);
int passwd_delete(const char *file, const char *user);

#endif
