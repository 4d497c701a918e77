/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Links, addresses, routes and rules by rtnetlink, for wan_kernel.c. */
#ifndef REDIR_WAN_READ_H
#define REDIR_WAN_READ_H

#include "redir/netlink.h"
#include "redir/wan.h"

/* All but endpoints and limits. 0 or -errno. */
int wan_read_net(struct netlink *nl, const struct wan_conf *confs, size_t n, struct wan_seen *seen);
/* Are there routes in the table that are not ours? 1, 0 or -errno. */
int wan_read_foreign(struct netlink *nl, uint32_t table);

#endif
