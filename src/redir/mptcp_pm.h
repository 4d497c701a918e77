/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Endpoints and limits of the kernel's MPTCP path manager (generic netlink family mptcp_pm).
 * Changing them needs CAP_NET_ADMIN. One owner, one thread.
 */
#ifndef REDIR_MPTCP_PM_H
#define REDIR_MPTCP_PM_H

#include "redir/wan.h"

struct mptcp_pm;

/* 0 or -errno; -ENOENT: a kernel without MPTCP. */
int mptcp_pm_open(struct mptcp_pm **out);
void mptcp_pm_close(struct mptcp_pm *pm); /* NULL is allowed */

/* All endpoints, and the limits, into seen. 0 or -errno. */
int mptcp_pm_read(struct mptcp_pm *pm, struct wan_seen *seen);

/* Each 0 or -errno. Add: existing connections get a subflow as well. Del: by its id; the subflows
 * from it are gone when this returns. Backup: changes the flag, also of subflows that there are. */
int mptcp_pm_add(struct mptcp_pm *pm, const struct wan_endpoint *e);
int mptcp_pm_del(struct mptcp_pm *pm, const struct wan_endpoint *e);
int mptcp_pm_set_backup(struct mptcp_pm *pm, const struct wan_endpoint *e);
/* Subflows beside the first, and accepted announcements of the peer, for each connection. */
int mptcp_pm_set_limits(struct mptcp_pm *pm, uint32_t subflows, uint32_t add_addr);

#endif
