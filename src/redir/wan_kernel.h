/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's side of wan.h: reads links, addresses, routes, rules and endpoints by netlink, takes
 * the steps of wan_diff, and tells when something has changed. One owner, one thread; a call
 * takes about a millisecond. CAP_NET_ADMIN is needed.
 */
#ifndef REDIR_WAN_KERNEL_H
#define REDIR_WAN_KERNEL_H

#include "redir/wan.h"

struct wan_kernel;

/* 0 or -errno; -ENOSYS: built without libmnl, -ENOENT: a kernel without MPTCP. */
int wan_kernel_open(struct wan_kernel **out);
void wan_kernel_close(struct wan_kernel *k); /* NULL is allowed */

/* All that wan_plan needs to know; default routes only of links that a path may use. 0 or -errno. */
int wan_kernel_read(struct wan_kernel *k, const struct wan_conf *confs, size_t n,
		    struct wan_seen *seen);
/* n routing tables that nobody else uses. 0 or -errno; -EADDRINUSE: there are none. */
int wan_kernel_tables(struct wan_kernel *k, const struct wan_seen *seen, uint32_t *tables,
		      size_t n);
/* 0 or -errno. What is there already, or gone already, is no error. */
int wan_kernel_act(struct wan_kernel *k, const struct wan_action *a);
int wan_kernel_limits(struct wan_kernel *k, uint32_t subflows, uint32_t add_addr);

/* Events: a descriptor to watch for reading, and what has come on it. */
enum wan_news {
	WAN_NEWS_NONE,
	WAN_NEWS_LATER, /* routes or rules */
	WAN_NEWS_NOW    /* links or addresses, or events were lost */
};
int wan_kernel_fd(const struct wan_kernel *k);
enum wan_news wan_kernel_news(struct wan_kernel *k);

#endif
