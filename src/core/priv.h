/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Privileges and process set-up: few, named acts, done before threads start. */
#ifndef SIXPATH_PRIV_H
#define SIXPATH_PRIV_H

#include <stdbool.h>

/*
 * Become user, keeping only the named capabilities ("cap_net_admin,cap_net_raw", NULL =
 * none) in the permitted and effective sets; no_new_privs is set. is_default: the
 * administrator did not name the user; if it does not exist "nobody" is taken, with a
 * notice. Not root: keeps what it has. Returns 0 or an exit code of sysexits (message
 * logged).
 */
int priv_drop(const char *user, bool is_default, const char *caps);

/* In a child that is about to execute a program: what capabilities we keep become ambient ones,
 * so that it has them, whoever it runs as. System calls only. */
void priv_pass_on(void);

/* Create dir (mode 0750) for user (or nobody, if there is no such user) if absent, before
 * priv_drop: 0 or -errno. A directory that exists is left as it is. */
int priv_make_dir(const char *dir, const char *user);

/* Raise the soft descriptor limit to the hard one; returns the limit now in force. */
unsigned long priv_raise_nofile(void);

/*
 * Go into the background: the parent waits until the child calls priv_ready(code) and
 * exits with that code (0 = up), or with the child's own if it ends before (EX_SOFTWARE if
 * that was 0 or a signal). Standard error stays open until priv_ready, so that start-up
 * errors are seen; the working directory stays, so that relative paths stay true. In the
 * foreground (fork_wanted false) both do nothing. Returns 0 (in the child) or -errno.
 */
int priv_daemonize(bool fork_wanted);
void priv_ready(int code);

#endif
