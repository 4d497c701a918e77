/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Capture rules by the scripts of redirect-rules, for when the daemon can keep none of its own.
 * They are undone however the daemon ends: a guard process, forked while we are root, runs the
 * script's `start`, waits for the end of our side of a socket, and runs `stop`. It is given its
 * commands at its birth and reads nothing from us.
 *
 * What the rules in `inet sixpath` have and these have not: nobody puts them back when others
 * remove them, and they outlive us for the moment that the script takes.
 *
 * One of it, owned by struct redir; main thread only.
 */
#ifndef REDIR_SCRIPT_H
#define REDIR_SCRIPT_H

#include <stdbool.h>

#include "redir/redir_conf.h"

struct script;

/* Before privileges are dropped, and while there is one thread only: puts the rules in place, and
 * waits for that (10 s at most). Failures are logged. foreground: what the script says later goes
 * to standard error as well. NULL: none are wanted, or there is no guard. */
struct script *script_start(const struct redir_conf *c, bool foreground);
/* Has the guard take them away, and waits for that (5 s at most; it goes on by itself). NULL is
 * allowed. */
void script_stop(struct script *s);

/* A restart without a gap: the guard's socket, for a successor (-1: there is none), which takes it
 * with script_adopt (NULL = out of memory); then script_leave in place of script_stop. Rules and
 * guard stay as they are. */
int script_fd(const struct script *s);
struct script *script_adopt(int fd, const struct redir_conf *c);
void script_leave(struct script *s); /* NULL is allowed */

/* NULL is allowed: */
bool script_in_place(const struct script *s);
bool script_ipset(const struct script *s); /* they leave alone what is in our ipsets */

/* ---- the command (script_args.c): pure ---- */

enum script_kind { SCRIPT_NONE, SCRIPT_IPTABLES, SCRIPT_NFT };

struct script_has { /* programs that are installed */
	bool iptables, nft, ipset;
};

enum script_kind script_choose(const struct redir_conf *c, const struct script_has *has);
/* Do the rules leave alone what the daemon puts into its ipsets? */
bool script_learned(const struct redir_conf *c, enum script_kind kind,
		    const struct script_has *has);
/* "sh", the script and its arguments for `start`. NULL = out of memory. */
char **script_argv(const struct redir_conf *c, enum script_kind kind, bool learned);
void script_argv_free(char **argv); /* NULL is allowed */

#endif
