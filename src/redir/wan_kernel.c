/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "redir/wan_kernel.h"

#include <errno.h>

#ifndef HAVE_LIBMNL

int wan_kernel_open(struct wan_kernel **out)
{
	*out = NULL;
	return -ENOSYS;
}

void wan_kernel_close(struct wan_kernel *k)
{
	(void)k;
}

int wan_kernel_read(struct wan_kernel *k, const struct wan_conf *confs, size_t n,
		    struct wan_seen *seen)
{
	(void)k, (void)confs, (void)n, (void)seen;
	return -ENOSYS;
}

int wan_kernel_tables(struct wan_kernel *k, const struct wan_seen *seen, uint32_t *tables, size_t n)
{
	(void)k, (void)seen, (void)tables, (void)n;
	return -ENOSYS;
}

int wan_kernel_act(struct wan_kernel *k, const struct wan_action *a)
{
	(void)k, (void)a;
	return -ENOSYS;
}

int wan_kernel_limits(struct wan_kernel *k, uint32_t subflows, uint32_t add_addr)
{
	(void)k, (void)subflows, (void)add_addr;
	return -ENOSYS;
}

int wan_kernel_fd(const struct wan_kernel *k)
{
	(void)k;
	return -1;
}

enum wan_news wan_kernel_news(struct wan_kernel *k)
{
	(void)k;
	return WAN_NEWS_NONE;
}

#else /* HAVE_LIBMNL */

#include <arpa/inet.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "redir/mptcp_pm.h"
#include "redir/netlink.h"
#include "redir/wan_read.h"

#define TABLES_TRIED 64

struct wan_kernel {
	struct netlink *nl;
	struct mptcp_pm *pm;
	struct mnl_socket *events;
};

static const uint8_t af[WAN_FAMILIES] = {AF_INET, AF_INET6};

/* ---- open and close ---- */

static int subscribe(struct wan_kernel *k)
{
	static const unsigned groups[] = {
		RTNLGRP_LINK,       RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE,
		RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_RULE};

	k->events = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!k->events || mnl_socket_bind(k->events, 0, MNL_SOCKET_AUTOPID) < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		unsigned group = groups[i];
		if (mnl_socket_setsockopt(k->events, NETLINK_ADD_MEMBERSHIP, &group,
					  sizeof(group)) < 0)
			return -errno;
	}
	return 0;
}

int wan_kernel_open(struct wan_kernel **out)
{
	struct wan_kernel *k = calloc(1, sizeof(*k));
	int rc;

	*out = NULL;
	if (!k)
		return -ENOMEM;
	rc = netlink_open(&k->nl, NETLINK_ROUTE);
	if (rc == 0)
		rc = mptcp_pm_open(&k->pm);
	if (rc == 0)
		rc = subscribe(k);
	if (rc < 0) {
		wan_kernel_close(k);
		return rc;
	}
	*out = k;
	return 0;
}

void wan_kernel_close(struct wan_kernel *k)
{
	if (!k)
		return;
	if (k->events)
		mnl_socket_close(k->events);
	mptcp_pm_close(k->pm);
	netlink_close(k->nl);
	free(k);
}

/* ---- reading ---- */

int wan_kernel_read(struct wan_kernel *k, const struct wan_conf *confs, size_t n,
		    struct wan_seen *seen)
{
	int rc;

	memset(seen, 0, sizeof(*seen));
	rc = wan_read_net(k->nl, confs, n, seen);
	return rc < 0 ? rc : mptcp_pm_read(k->pm, seen);
}

static bool rule_uses(const struct wan_seen *seen, uint32_t table)
{
	for (size_t i = 0; i < seen->n_rules; i++)
		if (!seen->rules[i].ours && seen->rules[i].table == table)
			return true;
	return false;
}

int wan_kernel_tables(struct wan_kernel *k, const struct wan_seen *seen, uint32_t *tables, size_t n)
{
	size_t got = 0;

	for (uint32_t t = WAN_TABLE; t < WAN_TABLE + TABLES_TRIED && got < n; t++) {
		int used = rule_uses(seen, t) ? 1 : wan_read_foreign(k->nl, t);
		if (used < 0)
			return used;
		if (!used)
			tables[got++] = t;
	}
	return got == n ? 0 : -EADDRINUSE;
}

/* ---- acting ---- */

static void put_ip(struct nlmsghdr *nlh, uint16_t type, const struct wan_ip *ip)
{
	mnl_attr_put(nlh, type, wan_ip_bits(ip) / 8, ip->b);
}

static void put_gateway(struct nlmsghdr *nlh, const struct wan_route *r)
{
	struct {
		uint16_t family; /* struct rtvia */
		uint8_t b[16];
	} via;

	if (r->via.family == r->dst.family) {
		put_ip(nlh, RTA_GATEWAY, &r->via);
		return;
	}
	via.family = af[r->via.family];
	memcpy(via.b, r->via.b, sizeof(via.b));
	mnl_attr_put(nlh, RTA_VIA, sizeof(via.family) + wan_ip_bits(&r->via) / 8u, &via);
}

static struct nlmsghdr *route_message(void *buf, const struct wan_route *r, bool add)
{
	static const uint8_t types[] = {[WAN_ROUTE_UNICAST] = RTN_UNICAST,
					[WAN_ROUTE_NOTHING] = RTN_UNREACHABLE,
					[WAN_ROUTE_MARKER] = RTN_THROW};
	struct nlmsghdr *nlh = netlink_begin(buf, add ? RTM_NEWROUTE : RTM_DELROUTE,
					     add ? NLM_F_CREATE | NLM_F_REPLACE : 0);
	struct rtmsg *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));
	bool v4 = r->dst.family == WAN_V4, unicast = r->kind == WAN_ROUTE_UNICAST;

	h->rtm_family = af[r->dst.family];
	h->rtm_dst_len = r->len;
	h->rtm_protocol = WAN_PROTO;
	h->rtm_type = types[r->kind];
	h->rtm_scope = v4 && unicast && !r->gateway ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	mnl_attr_put_u32(nlh, RTA_TABLE, r->table);
	if (r->len > 0)
		put_ip(nlh, RTA_DST, &r->dst);
	if (r->kind == WAN_ROUTE_NOTHING)
		mnl_attr_put_u32(nlh, RTA_PRIORITY, WAN_METRIC_NOTHING);
	if (!unicast)
		return nlh;
	mnl_attr_put_u32(nlh, RTA_OIF, r->link);
	put_ip(nlh, RTA_PREFSRC, &r->src);
	if (!r->gateway)
		return nlh;
	/* The routes it was learned from reach it; two links may have the same one. */
	if (v4)
		h->rtm_flags = RTNH_F_ONLINK;
	put_gateway(nlh, r);
	return nlh;
}

static struct nlmsghdr *rule_message(void *buf, const struct wan_rule *r, bool add)
{
	struct nlmsghdr *nlh = netlink_begin(buf, add ? RTM_NEWRULE : RTM_DELRULE,
					     add ? NLM_F_CREATE | NLM_F_EXCL : 0);
	struct fib_rule_hdr *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));

	h->family = af[r->family];
	h->action = FR_ACT_TO_TBL;
	h->src_len = r->len;
	h->table = r->table < 256 ? (uint8_t)r->table : RT_TABLE_UNSPEC;
	mnl_attr_put_u32(nlh, FRA_PRIORITY, r->pref);
	mnl_attr_put_u32(nlh, FRA_TABLE, r->table);
	mnl_attr_put_u8(nlh, FRA_PROTOCOL, WAN_PROTO);
	if (r->len > 0)
		put_ip(nlh, FRA_SRC, &r->src);
	if (r->mark) {
		mnl_attr_put_u32(nlh, FRA_FWMARK, r->mark);
		mnl_attr_put_u32(nlh, FRA_FWMASK, UINT32_MAX);
	}
	if (r->not_default)
		mnl_attr_put_u32(nlh, FRA_SUPPRESS_PREFIXLEN, 0);
	return nlh;
}

static int there(int rc)
{
	return rc == -EEXIST ? 0 : rc;
}

static int gone(int rc)
{
	return rc == -ENOENT || rc == -ESRCH || rc == -ENODEV || rc == -EADDRNOTAVAIL ? 0 : rc;
}

int wan_kernel_act(struct wan_kernel *k, const struct wan_action *a)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	int rc;

	switch (a->verb) {
	case WAN_DEL_ENDPOINT:
		rc = mptcp_pm_del(k->pm, a->what);
		return rc == -EINVAL ? 0 : rc; /* no such id, as the kernel puts it */
	case WAN_ADD_ENDPOINT:
		return mptcp_pm_add(k->pm, a->what);
	case WAN_SET_BACKUP:
		return mptcp_pm_set_backup(k->pm, a->what);
	case WAN_ADD_ROUTE:
		return there(netlink_talk(k->nl, route_message(buf, a->what, true), NULL, NULL));
	case WAN_DEL_ROUTE:
		return gone(netlink_talk(k->nl, route_message(buf, a->what, false), NULL, NULL));
	case WAN_ADD_RULE:
		return there(netlink_talk(k->nl, rule_message(buf, a->what, true), NULL, NULL));
	case WAN_DEL_RULE:
		return gone(netlink_talk(k->nl, rule_message(buf, a->what, false), NULL, NULL));
	}
	return -EINVAL;
}

int wan_kernel_limits(struct wan_kernel *k, uint32_t subflows, uint32_t add_addr)
{
	return mptcp_pm_set_limits(k->pm, subflows, add_addr);
}

/* ---- events ---- */

int wan_kernel_fd(const struct wan_kernel *k)
{
	return mnl_socket_get_fd(k->events);
}

static int see_event(const struct nlmsghdr *nlh, void *ctx)
{
	enum wan_news *news = ctx, this = WAN_NEWS_NONE;
	const struct rtmsg *h = mnl_nlmsg_get_payload(nlh);

	switch (nlh->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
	case RTM_NEWADDR:
	case RTM_DELADDR:
		this = WAN_NEWS_NOW;
		break;
	case RTM_NEWRULE:
	case RTM_DELRULE:
		this = WAN_NEWS_LATER;
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		if (mnl_nlmsg_get_payload_len(nlh) >= sizeof(*h) &&
		    (h->rtm_dst_len == 0 || h->rtm_protocol == WAN_PROTO))
			this = WAN_NEWS_LATER;
		break;
	default:
		break;
	}
	*news = this > *news ? this : *news;
	return MNL_CB_OK;
}

enum wan_news wan_kernel_news(struct wan_kernel *k)
{
	enum wan_news news = WAN_NEWS_NONE;
	NETLINK_BUF(buf, 16384);
	ssize_t n;

	for (int i = 0; i < 256; i++) { /* what comes meanwhile, the loop tells again */
		n = mnl_socket_recvfrom(k->events, buf, sizeof(buf));
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0) {
			news = WAN_NEWS_NOW; /* ENOBUFS: some were lost */
			continue;
		}
		if (mnl_cb_run(buf, (size_t)n, 0, 0, see_event, &news) < 0)
			news = WAN_NEWS_NOW;
	}
	return news;
}

#endif
