/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looks after the table of servers that have just failed (failed.h) on the main thread: tells the
 * sets of our rules, so that the kernel refuses new connections to them by itself. Where the rules
 * are not ours the daemon does, once it has accepted them.
 */
#ifndef REDIR_REFUSER_H
#define REDIR_REFUSER_H

#include <stdint.h>

struct redir;
struct control_request;
struct refuser;

/* Makes rd->failed. NULL = out of memory. */
struct refuser *refuser_new(struct redir *rd);
/* Workers must have ended. NULL is allowed. */
void refuser_free(struct refuser *rf);
/* There is a new configuration. */
void refuser_reload(struct refuser *rf);
/* The sets of the rules are new and empty. NULL is allowed. */
void refuser_sets_lost(struct refuser *rf);

/* Connections that the kernel has refused since the rules were loaded. */
uint64_t refuser_by_rule(struct redir *rd);

/* The control command. */
void refuser_command(struct control_request *rq, void *ctx);

#endif
