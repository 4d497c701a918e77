/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/rules_route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/log.h"
#include "redir/netlink.h"
#include "redir/rules.h"

#define TABLES_TRIED 16
#define DUMP_TRIES   5 /* when routes change while they are listed */

enum { V4, V6, FAMILIES };
static const uint8_t af[FAMILIES] = {AF_INET, AF_INET6};
static const char *const af_name[FAMILIES] = {"IPv4", "IPv6"};

struct rules_route {
	struct netlink *nl;
	uint32_t table;
	unsigned lo; /* index of the interface */
	bool wanted[FAMILIES];
	bool rule[FAMILIES], route[FAMILIES];           /* what we have added: ours to take down */
	bool left_rule[FAMILIES], left_route[FAMILIES]; /* by another daemon */
	bool told_hidden;
};

/* ---- messages ---- */

static struct nlmsghdr *rule_message(const struct rules_route *r, void *buf, int f, uint16_t type,
				     uint16_t flags)
{
	struct nlmsghdr *nlh = netlink_begin(buf, type, flags);
	struct fib_rule_hdr *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));

	h->family = af[f];
	h->action = FR_ACT_TO_TBL;
	h->table = r->table < 256 ? (uint8_t)r->table : RT_TABLE_UNSPEC;
	mnl_attr_put_u32(nlh, FRA_PRIORITY, RULES_RULE_PREF);
	mnl_attr_put_u32(nlh, FRA_FWMARK, RULES_FWMARK);
	mnl_attr_put_u32(nlh, FRA_FWMASK, RULES_FWMARK);
	mnl_attr_put_u32(nlh, FRA_TABLE, r->table);
	mnl_attr_put_u8(nlh, FRA_PROTOCOL, RULES_ROUTE_PROTO);
	return nlh;
}

static struct nlmsghdr *route_message(const struct rules_route *r, void *buf, int f, uint16_t type,
				      uint16_t flags)
{
	struct nlmsghdr *nlh = netlink_begin(buf, type, flags);
	struct rtmsg *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));

	h->rtm_family = af[f];
	h->rtm_table = r->table < 256 ? (uint8_t)r->table : RT_TABLE_UNSPEC;
	h->rtm_protocol = RULES_ROUTE_PROTO;
	h->rtm_scope = f == V4 ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
	h->rtm_type = RTN_LOCAL;
	mnl_attr_put_u32(nlh, RTA_TABLE, r->table);
	mnl_attr_put_u32(nlh, RTA_OIF, r->lo);
	return nlh;
}

/* ---- who uses a table ---- */

struct usage {
	uint32_t table;
	bool foreign;     /* somebody's */
	bool script_rule; /* redirect-rules/ is in use */
	bool rule, route; /* a daemon's */
};

static int see_rule(const struct nlmsghdr *nlh, void *ctx)
{
	struct usage *u = ctx;
	const struct nlattr *tb[FRA_MAX + 1];
	const struct fib_rule_hdr *h;

	if (nlh->nlmsg_type != RTM_NEWRULE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*h))
		return MNL_CB_OK;
	h = mnl_nlmsg_get_payload(nlh);
	netlink_parse(nlh, sizeof(*h), tb, FRA_MAX);
	if (h->action != FR_ACT_TO_TBL ||
	    (tb[FRA_TABLE] ? netlink_u32(tb[FRA_TABLE]) : h->table) != u->table)
		return MNL_CB_OK;
	if (netlink_u32(tb[FRA_PRIORITY]) != RULES_RULE_PREF ||
	    netlink_u32(tb[FRA_FWMARK]) != RULES_FWMARK ||
	    netlink_u32(tb[FRA_FWMASK]) != RULES_FWMARK)
		u->foreign = true;
	else if (tb[FRA_PROTOCOL] && mnl_attr_get_payload_len(tb[FRA_PROTOCOL]) >= 1 &&
		 mnl_attr_get_u8(tb[FRA_PROTOCOL]) == RULES_ROUTE_PROTO)
		u->rule = true;
	else
		u->script_rule = true;
	return MNL_CB_OK;
}

static int see_route(const struct nlmsghdr *nlh, void *ctx)
{
	struct usage *u = ctx;
	const struct nlattr *tb[RTA_MAX + 1];
	const struct rtmsg *h;

	if (nlh->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*h))
		return MNL_CB_OK;
	h = mnl_nlmsg_get_payload(nlh);
	netlink_parse(nlh, sizeof(*h), tb, RTA_MAX);
	if ((tb[RTA_TABLE] ? netlink_u32(tb[RTA_TABLE]) : h->rtm_table) != u->table ||
	    h->rtm_flags & RTM_F_CLONED)
		return MNL_CB_OK;
	if (h->rtm_protocol == RULES_ROUTE_PROTO && h->rtm_type == RTN_LOCAL && h->rtm_dst_len == 0)
		u->route = true;
	else
		u->foreign = true;
	return MNL_CB_OK;
}

static int dump(struct netlink *nl, int f, uint16_t type, uint32_t table, struct usage *u)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	int rc = -EINTR;

	for (int i = 0; i < DUMP_TRIES && rc == -EINTR; i++) {
		struct nlmsghdr *nlh = netlink_begin(buf, type, NLM_F_DUMP);
		if (type == RTM_GETRULE) {
			struct fib_rule_hdr *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));
			h->family = af[f];
		} else {
			struct rtmsg *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));
			h->rtm_family = af[f];
			mnl_attr_put_u32(nlh, RTA_TABLE, table); /* old kernels list all tables */
		}
		rc = netlink_talk(nl, nlh, type == RTM_GETRULE ? see_rule : see_route, u);
	}
	return rc == -ENOENT ? 0 : rc; /* a table that does not exist */
}

/* What there is of a table in both families. */
static int try_table(struct rules_route *r, uint32_t table, bool *foreign)
{
	struct usage u[FAMILIES];
	int rc;

	*foreign = false;
	for (int f = 0; f < FAMILIES; f++) {
		if (!r->wanted[f])
			continue;
		memset(&u[f], 0, sizeof(u[f]));
		u[f].table = table;
		rc = dump(r->nl, f, RTM_GETRULE, table, &u[f]);
		if (rc == 0)
			rc = dump(r->nl, f, RTM_GETROUTE, table, &u[f]);
		if (rc < 0)
			return rc;
		*foreign = *foreign || u[f].foreign;
	}
	if (*foreign)
		return 0;
	r->table = table;
	for (int f = 0; f < FAMILIES; f++) {
		r->left_rule[f] = r->wanted[f] && u[f].rule;
		r->left_route[f] = r->wanted[f] && u[f].route && !u[f].script_rule;
	}
	return 0;
}

static int choose_table(struct rules_route *r, uint32_t first)
{
	bool foreign = true;
	int rc;

	for (uint32_t t = first; t < first + TABLES_TRIED; t++) {
		if (t >= RT_TABLE_DEFAULT && t <= RT_TABLE_LOCAL)
			continue;
		rc = try_table(r, t, &foreign);
		if (rc < 0)
			return rc;
		if (foreign)
			continue;
		if (t != first)
			log_notice("rules: routing table %u is used by others: taking %u", first,
				   t);
		return 0;
	}
	return -EADDRINUSE;
}

/* ---- adding, asking, taking down ---- */

/* 1 = added, 0 = is there already, or -errno. */
static int add(struct rules_route *r, struct nlmsghdr *nlh)
{
	int rc = netlink_talk(r->nl, nlh, NULL, NULL);

	return rc == 0 ? 1 : rc == -EEXIST ? 0 : rc;
}

/* The route first: a rule without it would send packets nowhere. */
static int ensure(struct rules_route *r, int f)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	const uint16_t flags = NLM_F_CREATE | NLM_F_EXCL;
	int route = add(r, route_message(r, buf, f, RTM_NEWROUTE, flags)), rule;

	if (route < 0)
		return route;
	r->route[f] = r->route[f] || route;
	rule = add(r, rule_message(r, buf, f, RTM_NEWRULE, flags));
	if (rule < 0)
		return rule;
	r->rule[f] = r->rule[f] || rule;
	return route || rule;
}

static int see_type(const struct nlmsghdr *nlh, void *ctx)
{
	const struct rtmsg *h = mnl_nlmsg_get_payload(nlh);

	if (nlh->nlmsg_type == RTM_NEWROUTE && mnl_nlmsg_get_payload_len(nlh) >= sizeof(*h))
		*(uint8_t *)ctx = h->rtm_type;
	return MNL_CB_OK;
}

/* Asks the kernel where a marked packet to a stranger goes: true if to this host. */
static bool works(struct rules_route *r, int f)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	uint8_t dst[16], type = RTN_UNSPEC;
	struct nlmsghdr *nlh = netlink_begin(buf, RTM_GETROUTE, 0);
	struct rtmsg *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));

	/* Documentation addresses: nobody's own, so no table of local addresses has them. */
	inet_pton(af[f], f == V4 ? "192.0.2.1" : "2001:db8::1", dst);
	h->rtm_family = af[f];
	h->rtm_dst_len = f == V4 ? 32 : 128;
	mnl_attr_put(nlh, RTA_DST, f == V4 ? 4 : 16, dst);
	mnl_attr_put_u32(nlh, RTA_MARK, RULES_FWMARK);
	return netlink_talk(r->nl, nlh, see_type, &type) == 0 && type == RTN_LOCAL;
}

/* Somebody has switched IPv6 off since: nothing comes to be routed, and it may come back. */
static bool switched_off(int f, int rc)
{
	return f == V6 && (rc == -EACCES || rc == -EOPNOTSUPP || rc == -EAFNOSUPPORT);
}

int rules_route_check(struct rules_route *r)
{
	int mended = 0, rc;

	for (int f = 0; f < FAMILIES; f++) {
		if (!r->wanted[f] || works(r, f))
			continue;
		rc = ensure(r, f);
		if (switched_off(f, rc))
			continue;
		if (rc < 0)
			return rc;
		if (rc)
			mended = 1;
		else if (!r->told_hidden)
			log_warning("rules: %s: an ip rule with a preference below %d hides ours: "
				    "captured packets go elsewhere",
				    af_name[f], RULES_RULE_PREF);
		r->told_hidden = r->told_hidden || rc == 0;
	}
	return mended;
}

static void take_down(struct rules_route *r, int f)
{
	NETLINK_BUF(buf, NETLINK_ROOM);

	if (r->rule[f])
		netlink_talk(r->nl, rule_message(r, buf, f, RTM_DELRULE, 0), NULL, NULL);
	if (r->route[f])
		netlink_talk(r->nl, route_message(r, buf, f, RTM_DELROUTE, 0), NULL, NULL);
}

int rules_route_open(struct rules_route **out, uint32_t first, bool v6)
{
	struct rules_route *r = calloc(1, sizeof(*r));
	int rc;

	*out = NULL;
	if (!r)
		return -ENOMEM;
	r->wanted[V4] = true;
	r->wanted[V6] = v6;
	r->lo = if_nametoindex("lo");
	rc = r->lo ? netlink_open(&r->nl, NETLINK_ROUTE) : -ENODEV;
	if (rc == 0)
		rc = choose_table(r, first);
	for (int f = 0; f < FAMILIES && rc >= 0; f++)
		if (r->wanted[f])
			rc = ensure(r, f);
	if (rc < 0) {
		if (rc == -EADDRINUSE)
			log_error("rules: the routing tables %u to %u are all used by others",
				  first, first + TABLES_TRIED - 1);
		else
			log_error("rules: policy routing: %s%s", strerror(-rc),
				  rc == -EPERM ? " (needs CAP_NET_ADMIN)" : "");
		rules_route_close(r);
		return rc;
	}
	*out = r;
	return 0;
}

void rules_route_adopt(struct rules_route *r)
{
	for (int f = 0; f < FAMILIES; f++) {
		r->rule[f] = r->rule[f] || r->left_rule[f];
		r->route[f] = r->route[f] || r->left_route[f];
	}
}

void rules_route_close(struct rules_route *r)
{
	if (!r)
		return;
	for (int f = 0; f < FAMILIES && r->nl; f++)
		take_down(r, f);
	netlink_close(r->nl);
	free(r);
}

void rules_route_leave(struct rules_route *r)
{
	if (!r)
		return;
	netlink_close(r->nl);
	free(r);
}

uint32_t rules_route_table(const struct rules_route *r)
{
	return r->table;
}
