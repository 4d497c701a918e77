/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/mptcp_pm.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/mptcp.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>

#include "redir/netlink.h"

#define READ_TRIES 5 /* when endpoints change while they are listed */

struct mptcp_pm {
	struct netlink *nl;
	uint16_t family;
};

int mptcp_pm_open(struct mptcp_pm **out)
{
	struct mptcp_pm *pm = calloc(1, sizeof(*pm));
	int rc;

	*out = NULL;
	if (!pm)
		return -ENOMEM;
	rc = netlink_open(&pm->nl, NETLINK_GENERIC);
	if (rc == 0)
		rc = netlink_genl_family(pm->nl, MPTCP_PM_NAME, &pm->family);
	if (rc < 0) {
		mptcp_pm_close(pm);
		return rc;
	}
	*out = pm;
	return 0;
}

void mptcp_pm_close(struct mptcp_pm *pm)
{
	if (!pm)
		return;
	netlink_close(pm->nl);
	free(pm);
}

/* ---- reading ---- */

static int see_endpoint(const struct nlmsghdr *nlh, void *ctx)
{
	const struct nlattr *outer[MPTCP_PM_ATTR_ADDR + 1], *tb[MPTCP_PM_ADDR_ATTR_MAX + 1];
	struct wan_seen *seen = ctx;
	struct wan_endpoint e;
	uint16_t family = 0;
	const uint32_t known = MPTCP_PM_ADDR_FLAG_SUBFLOW | MPTCP_PM_ADDR_FLAG_BACKUP;
	uint32_t flags;

	netlink_parse(nlh, sizeof(struct genlmsghdr), outer, MPTCP_PM_ATTR_ADDR);
	netlink_parse_nested(outer[MPTCP_PM_ATTR_ADDR], tb, MPTCP_PM_ADDR_ATTR_MAX);
	if (seen->n_endpoints == WAN_SEEN_MAX ||
	    !netlink_copy(tb[MPTCP_PM_ADDR_ATTR_FAMILY], &family, sizeof(family)))
		return MNL_CB_OK;
	memset(&e, 0, sizeof(e));
	flags = netlink_u32(tb[MPTCP_PM_ADDR_ATTR_FLAGS]);
	e.subflow = (flags & MPTCP_PM_ADDR_FLAG_SUBFLOW) != 0;
	e.backup = (flags & MPTCP_PM_ADDR_FLAG_BACKUP) != 0;
	e.other = (flags & ~known) != 0;
	e.link = netlink_u32(tb[MPTCP_PM_ADDR_ATTR_IF_IDX]);
	netlink_copy(tb[MPTCP_PM_ADDR_ATTR_ID], &e.id, sizeof(e.id));
	e.ip.family = family == AF_INET ? WAN_V4 : WAN_V6;
	if (!netlink_copy(
		    tb[family == AF_INET ? MPTCP_PM_ADDR_ATTR_ADDR4 : MPTCP_PM_ADDR_ATTR_ADDR6],
		    e.ip.b, wan_ip_bits(&e.ip) / 8))
		return MNL_CB_OK;
	seen->endpoints[seen->n_endpoints++] = e;
	return MNL_CB_OK;
}

static int see_limits(const struct nlmsghdr *nlh, void *ctx)
{
	const struct nlattr *tb[MPTCP_PM_ATTR_SUBFLOWS + 1];
	struct wan_seen *seen = ctx;

	netlink_parse(nlh, sizeof(struct genlmsghdr), tb, MPTCP_PM_ATTR_SUBFLOWS);
	seen->limit_subflows = netlink_u32(tb[MPTCP_PM_ATTR_SUBFLOWS]);
	seen->limit_add_addr = netlink_u32(tb[MPTCP_PM_ATTR_RCV_ADD_ADDRS]);
	return MNL_CB_OK;
}

int mptcp_pm_read(struct mptcp_pm *pm, struct wan_seen *seen)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	int rc = -EINTR;

	for (int i = 0; i < READ_TRIES && rc == -EINTR; i++) {
		seen->n_endpoints = 0;
		rc = netlink_talk(
			pm->nl,
			netlink_begin_genl(buf, pm->family, MPTCP_PM_CMD_GET_ADDR, NLM_F_DUMP),
			see_endpoint, seen);
	}
	if (rc < 0)
		return rc;
	return netlink_talk(pm->nl, netlink_begin_genl(buf, pm->family, MPTCP_PM_CMD_GET_LIMITS, 0),
			    see_limits, seen);
}

/* ---- changing ---- */

static void put_address(struct nlmsghdr *nlh, const struct wan_endpoint *e)
{
	bool v4 = e->ip.family == WAN_V4;

	mnl_attr_put_u16(nlh, MPTCP_PM_ADDR_ATTR_FAMILY, v4 ? AF_INET : AF_INET6);
	mnl_attr_put(nlh, v4 ? MPTCP_PM_ADDR_ATTR_ADDR4 : MPTCP_PM_ADDR_ATTR_ADDR6,
		     wan_ip_bits(&e->ip) / 8, e->ip.b);
}

int mptcp_pm_add(struct mptcp_pm *pm, const struct wan_endpoint *e)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	struct nlmsghdr *nlh = netlink_begin_genl(buf, pm->family, MPTCP_PM_CMD_ADD_ADDR, 0);
	struct nlattr *nest = mnl_attr_nest_start(nlh, MPTCP_PM_ATTR_ADDR);

	put_address(nlh, e);
	mnl_attr_put_u32(nlh, MPTCP_PM_ADDR_ATTR_FLAGS,
			 MPTCP_PM_ADDR_FLAG_SUBFLOW | (e->backup ? MPTCP_PM_ADDR_FLAG_BACKUP : 0u));
	if (e->link)
		mnl_attr_put_u32(nlh, MPTCP_PM_ADDR_ATTR_IF_IDX, e->link);
	mnl_attr_nest_end(nlh, nest);
	return netlink_talk(pm->nl, nlh, NULL, NULL);
}

int mptcp_pm_del(struct mptcp_pm *pm, const struct wan_endpoint *e)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	struct nlmsghdr *nlh = netlink_begin_genl(buf, pm->family, MPTCP_PM_CMD_DEL_ADDR, 0);
	struct nlattr *nest = mnl_attr_nest_start(nlh, MPTCP_PM_ATTR_ADDR);

	mnl_attr_put_u8(nlh, MPTCP_PM_ADDR_ATTR_ID, e->id);
	mnl_attr_nest_end(nlh, nest);
	return netlink_talk(pm->nl, nlh, NULL, NULL);
}

int mptcp_pm_set_backup(struct mptcp_pm *pm, const struct wan_endpoint *e)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	struct nlmsghdr *nlh = netlink_begin_genl(buf, pm->family, MPTCP_PM_CMD_SET_FLAGS, 0);
	struct nlattr *nest = mnl_attr_nest_start(nlh, MPTCP_PM_ATTR_ADDR);

	put_address(nlh, e);
	mnl_attr_put_u32(nlh, MPTCP_PM_ADDR_ATTR_FLAGS, e->backup ? MPTCP_PM_ADDR_FLAG_BACKUP : 0u);
	mnl_attr_nest_end(nlh, nest);
	return netlink_talk(pm->nl, nlh, NULL, NULL);
}

int mptcp_pm_set_limits(struct mptcp_pm *pm, uint32_t subflows, uint32_t add_addr)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	struct nlmsghdr *nlh = netlink_begin_genl(buf, pm->family, MPTCP_PM_CMD_SET_LIMITS, 0);

	mnl_attr_put_u32(nlh, MPTCP_PM_ATTR_RCV_ADD_ADDRS, add_addr);
	mnl_attr_put_u32(nlh, MPTCP_PM_ATTR_SUBFLOWS, subflows);
	return netlink_talk(pm->nl, nlh, NULL, NULL);
}
