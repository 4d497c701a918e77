/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NOOP requests to one upstream, on the main worker: they authenticate, open the session and
 * get the token window; find out whether the proxy is alive when nothing else tells; and
 * bring a down one up again. Names are resolved here too: again after failures and every few
 * minutes; a new address is used once it has answered, and the session goes on.
 */
#ifndef REDIR_NOOP_H
#define REDIR_NOOP_H

#include <stdbool.h>

struct noop;
struct redir;
struct upstream;

/* Starts at once. Keeps a reference to the upstream. NULL = out of memory. */
struct noop *noop_new(struct redir *rd, struct upstream *up);
void noop_free(struct noop *n);
/* The first one has ended, well or badly. */
bool noop_has_run(const struct noop *n);

/* For all upstreams of the redirector's pool: start those that are new, stop those that are
 * not in it any more, ask for the names of the others anew. 0 or -ENOMEM. */
int noop_follow_pool(struct redir *rd);
void noop_free_all(struct redir *rd);
bool noop_all_have_run(const struct redir *rd);

#endif
