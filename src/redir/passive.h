/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Learning from what passes us by where the rules are not ours: the script's rule sends SYN+ACKs
 * with an MPTCP option to a queue, they go on at once, and servers that have agreed to MPTCP are
 * learned. (Our own nft rules do that in the kernel: rules_seen.) One owner, one thread.
 */
#ifndef REDIR_PASSIVE_H
#define REDIR_PASSIVE_H

#include <stdint.h>

struct learned;
struct passive;
struct worker;

#define PASSIVE_QUEUE 10661 /* its number; the same as in redirect-rules/common.sh */

/* NULL: it cannot be had; why is logged. */
struct passive *passive_open(struct worker *w, struct learned *l);
/* NULL is allowed. */
void passive_close(struct passive *p);

#endif
