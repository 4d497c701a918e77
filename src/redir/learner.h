/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looks after the learned table on the main thread: loads it at the start and saves it, lets
 * entries end, and keeps the kernel's sets the same as the table (rules.h, bypass.h).
 */
#ifndef REDIR_LEARNER_H
#define REDIR_LEARNER_H

#include <stdbool.h>

struct redir;
struct control_request;
struct learner;

/* The table, with what is in the file; after privileges are dropped. NULL = out of memory. */
struct learner *learner_new(struct redir *rd);
/* off: saves for a successor, which has the file from now on; false: it has not come. */
void learner_hand_over(struct learner *lr, bool off);
/* Saves the table. Flows must have ended. NULL is allowed. */
void learner_free(struct learner *lr);
/* There is a new configuration. */
void learner_reload(struct learner *lr);
/* Do not wait for the next tick: tell the kernel's sets what has changed. */
void learner_sync(struct redir *rd);

/* Now in the clock of the table. */
double learner_now(const struct redir *rd);
/* What keeps connections to learned servers from being captured: "nft", "ipset", "none". */
const char *learner_backend(const struct redir *rd);

/* learned_ctl.c */
void learned_command(struct control_request *rq, void *ctx);

#endif
