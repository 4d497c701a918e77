/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps the kernel's MPTCP endpoints, and the routes for their addresses, in step with the WAN
 * links of [path] sections (wan.h decides, wan_kernel.h does). Follows links, addresses and
 * routes by events, and looks by itself now and then. Owned by struct redir; main thread only.
 */
#ifndef REDIR_WAN_KEEPER_H
#define REDIR_WAN_KEEPER_H

#include "redir/wan.h"

struct control_request;
struct redir;
struct wan_keeper;

/* Puts in place what the configuration wants, and removes what a killed predecessor has left.
 * rd->wan is NULL afterwards if there are no [path] sections, or nothing can be done (it says why). */
void wan_keeper_start(struct redir *rd);
/* There is a new configuration. */
void wan_keeper_reload(struct redir *rd);
/* Takes down what is ours. */
void wan_keeper_stop(struct redir *rd);
/* All stays for a successor. */
void wan_keeper_leave(struct redir *rd);

/* For reports; valid until the loop goes on. */
const struct wan_plan *wan_keeper_plan(const struct wan_keeper *k);
const struct wan_seen *wan_keeper_seen(const struct wan_keeper *k);
/* The same as the daemon's configuration has it; how many. */
size_t wan_keeper_confs(const struct wan_keeper *k, const struct wan_conf **confs);
/* Look at links now, for byte counters that are fresh. */
void wan_keeper_look(struct wan_keeper *k);

/* wan_ctl.c */
void wan_paths_command(struct control_request *rq, void *ctx);

#endif
