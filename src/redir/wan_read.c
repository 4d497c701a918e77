/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/wan_read.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fnmatch.h>
#include <linux/fib_rules.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#define READ_TRIES 5 /* when something changes while it is listed */

static const uint8_t af[WAN_FAMILIES] = {AF_INET, AF_INET6};

static bool family_of(int number, uint8_t *family)
{
	*family = number == AF_INET ? WAN_V4 : WAN_V6;
	return number == AF_INET || number == AF_INET6;
}

static bool get_ip(const struct nlattr *a, uint8_t family, struct wan_ip *out)
{
	memset(out, 0, sizeof(*out));
	out->family = family;
	return netlink_copy(a, out->b, wan_ip_bits(out) / 8);
}

/* ---- links and addresses ---- */

static int see_link(const struct nlmsghdr *nlh, void *ctx)
{
	const struct ifinfomsg *h = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *tb[IFLA_STATS64 + 1];
	struct rtnl_link_stats64 stats;
	struct wan_seen *seen = ctx;
	struct wan_link *l;

	if (nlh->nlmsg_type != RTM_NEWLINK || mnl_nlmsg_get_payload_len(nlh) < sizeof(*h) ||
	    seen->n_links == WAN_SEEN_MAX)
		return MNL_CB_OK;
	netlink_parse(nlh, sizeof(*h), tb, IFLA_STATS64);
	if (!tb[IFLA_IFNAME] || mnl_attr_get_payload_len(tb[IFLA_IFNAME]) > IFNAMSIZ)
		return MNL_CB_OK;
	l = &seen->links[seen->n_links++];
	memset(l, 0, sizeof(*l));
	l->index = (unsigned)h->ifi_index;
	memcpy(l->name, mnl_attr_get_payload(tb[IFLA_IFNAME]),
	       mnl_attr_get_payload_len(tb[IFLA_IFNAME]));
	l->name[IFNAMSIZ - 1] = '\0';
	l->up = (h->ifi_flags & IFF_UP) != 0;
	l->carrier = (h->ifi_flags & IFF_LOWER_UP) != 0 && (h->ifi_flags & IFF_RUNNING) != 0;
	if (netlink_copy(tb[IFLA_STATS64], &stats, offsetof(struct rtnl_link_stats64, rx_errors))) {
		l->rx = stats.rx_bytes;
		l->tx = stats.tx_bytes;
	}
	return MNL_CB_OK;
}

static int see_addr(const struct nlmsghdr *nlh, void *ctx)
{
	const struct ifaddrmsg *h = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *tb[IFA_FLAGS + 1], *own;
	struct wan_seen *seen = ctx;
	struct wan_addr a;
	uint8_t family;
	uint32_t flags;

	if (nlh->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(nlh) < sizeof(*h) ||
	    seen->n_addrs == WAN_SEEN_MAX || !family_of(h->ifa_family, &family))
		return MNL_CB_OK;
	netlink_parse(nlh, sizeof(*h), tb, IFA_FLAGS);
	own = tb[IFA_LOCAL] ? tb[IFA_LOCAL] : tb[IFA_ADDRESS];
	memset(&a, 0, sizeof(a));
	if (!get_ip(own, family, &a.ip))
		return MNL_CB_OK;
	flags = tb[IFA_FLAGS] ? netlink_u32(tb[IFA_FLAGS]) : h->ifa_flags;
	a.link = h->ifa_index;
	a.len = h->ifa_prefixlen;
	/* Point to point: the prefix is the peer's. */
	if (tb[IFA_LOCAL] && tb[IFA_ADDRESS] &&
	    memcmp(mnl_attr_get_payload(tb[IFA_LOCAL]), mnl_attr_get_payload(tb[IFA_ADDRESS]),
		   wan_ip_bits(&a.ip) / 8) != 0)
		a.len = wan_ip_bits(&a.ip);
	a.global = h->ifa_scope < RT_SCOPE_LINK;
	a.usable = (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED)) == 0;
	a.temporary = family == WAN_V6 && (flags & IFA_F_TEMPORARY) != 0;
	a.secondary = family == WAN_V4 && (flags & IFA_F_SECONDARY) != 0;
	seen->addrs[seen->n_addrs++] = a;
	return MNL_CB_OK;
}

/* ---- routes ---- */

struct route_reader {
	struct wan_seen *seen;
	unsigned link; /* default routes through it; 0: our own routes */
};

static void add_default(struct wan_seen *seen, const struct wan_default *d)
{
	if (seen->n_defaults < WAN_SEEN_MAX)
		seen->defaults[seen->n_defaults++] = *d;
}

static bool get_via(const struct nlattr *gateway, const struct nlattr *via, uint8_t family,
		    struct wan_ip *out)
{
	struct {
		uint16_t family;
		uint8_t b[16];
	} v;
	size_t len;

	if (get_ip(gateway, family, out))
		return true;
	len = via ? mnl_attr_get_payload_len(via) : 0;
	if (len <= sizeof(v.family) || len > sizeof(v) || !netlink_copy(via, &v, len) ||
	    !family_of(v.family, &out->family) || len < sizeof(v.family) + wan_ip_bits(out) / 8u)
		return false;
	memcpy(out->b, v.b, wan_ip_bits(out) / 8);
	return true;
}

/* The leg that leaves through the link. */
static void add_legs(struct wan_seen *seen, struct wan_default d, const struct nlattr *multipath)
{
	const uint8_t *p = mnl_attr_get_payload(multipath);
	size_t left = mnl_attr_get_payload_len(multipath);

	while (left >= sizeof(struct rtnexthop)) {
		const struct rtnexthop *nh = (const void *)p;
		const struct nlattr *a, *gateway = NULL, *via = NULL;
		size_t len = nh->rtnh_len;

		if (len < sizeof(*nh) || len > left)
			return;
		netlink_for_each(a, (const struct nlattr *)(p + sizeof(*nh)), (const char *)p + len)
		{
			if (mnl_attr_get_type(a) == RTA_GATEWAY)
				gateway = a;
			else if (mnl_attr_get_type(a) == RTA_VIA)
				via = a;
		}
		if ((unsigned)nh->rtnh_ifindex == d.link && !(nh->rtnh_flags & RTNH_F_DEAD)) {
			d.gateway = get_via(gateway, via, d.family, &d.via);
			add_default(seen, &d);
		}
		len = RTNH_ALIGN(len);
		if (len > left)
			return;
		p += len;
		left -= len;
	}
}

static void add_own(struct wan_seen *seen, const struct rtmsg *h, const struct nlattr **tb,
		    uint32_t table, uint8_t family)
{
	struct wan_route *r = &seen->routes[seen->n_routes];

	if (seen->n_routes == WAN_SEEN_MAX)
		return;
	memset(r, 0, sizeof(*r));
	r->table = table;
	r->kind = h->rtm_type == RTN_THROW         ? WAN_ROUTE_MARKER
		  : h->rtm_type == RTN_UNREACHABLE ? WAN_ROUTE_NOTHING
						   : WAN_ROUTE_UNICAST;
	get_ip(tb[RTA_DST], family, &r->dst);
	r->len = h->rtm_dst_len;
	if (r->kind == WAN_ROUTE_UNICAST) {
		r->link = netlink_u32(tb[RTA_OIF]);
		r->gateway = get_via(tb[RTA_GATEWAY], tb[RTA_VIA], family, &r->via);
		get_ip(tb[RTA_PREFSRC], family, &r->src);
	}
	seen->n_routes++;
}

static int see_route(const struct nlmsghdr *nlh, void *ctx)
{
	const struct rtmsg *h = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *tb[RTA_MAX + 1];
	struct route_reader *r = ctx;
	struct wan_default d;
	uint32_t table;

	memset(&d, 0, sizeof(d));
	if (nlh->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*h) ||
	    !family_of(h->rtm_family, &d.family) || h->rtm_flags & RTM_F_CLONED)
		return MNL_CB_OK;
	netlink_parse(nlh, sizeof(*h), tb, RTA_MAX);
	table = tb[RTA_TABLE] ? netlink_u32(tb[RTA_TABLE]) : h->rtm_table;
	if (!r->link) {
		if (h->rtm_protocol == WAN_PROTO)
			add_own(r->seen, h, tb, table, d.family);
		return MNL_CB_OK;
	}
	if (h->rtm_protocol == WAN_PROTO || h->rtm_dst_len > 0 || h->rtm_type != RTN_UNICAST ||
	    h->rtm_flags & RTNH_F_DEAD)
		return MNL_CB_OK;
	d.link = r->link;
	d.table = table;
	d.metric = netlink_u32(tb[RTA_PRIORITY]);
	d.has_src = get_ip(tb[RTA_PREFSRC], d.family, &d.src);
	if (tb[RTA_MULTIPATH]) {
		add_legs(r->seen, d, tb[RTA_MULTIPATH]);
	} else if (netlink_u32(tb[RTA_OIF]) == r->link) {
		d.gateway = get_via(tb[RTA_GATEWAY], tb[RTA_VIA], d.family, &d.via);
		add_default(r->seen, &d);
	}
	return MNL_CB_OK;
}

static int see_foreign(const struct nlmsghdr *nlh, void *ctx)
{
	const struct rtmsg *h = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *tb[RTA_TABLE + 1];
	uint32_t *look = ctx; /* the table; 0 = found */

	if (nlh->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*h) ||
	    h->rtm_flags & RTM_F_CLONED)
		return MNL_CB_OK;
	netlink_parse(nlh, sizeof(*h), tb, RTA_TABLE);
	if (h->rtm_protocol != WAN_PROTO && netlink_u32(tb[RTA_TABLE]) == *look)
		*look = 0;
	return MNL_CB_OK;
}

/* ---- rules ---- */

static int see_rule(const struct nlmsghdr *nlh, void *ctx)
{
	const struct fib_rule_hdr *h = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *tb[FRA_MAX + 1];
	struct wan_seen *seen = ctx;
	struct wan_rule r;
	uint8_t proto = 0;

	memset(&r, 0, sizeof(r));
	if (nlh->nlmsg_type != RTM_NEWRULE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*h) ||
	    !family_of(h->family, &r.family) || h->action != FR_ACT_TO_TBL ||
	    seen->n_rules == WAN_SEEN_MAX)
		return MNL_CB_OK;
	netlink_parse(nlh, sizeof(*h), tb, FRA_MAX);
	netlink_copy(tb[FRA_PROTOCOL], &proto, sizeof(proto));
	r.ours = proto == WAN_PROTO;
	r.pref = netlink_u32(tb[FRA_PRIORITY]);
	r.table = tb[FRA_TABLE] ? netlink_u32(tb[FRA_TABLE]) : h->table;
	r.len = h->src_len;
	if (!get_ip(tb[FRA_SRC], r.family, &r.src) && r.len > 0)
		return MNL_CB_OK;
	r.mark = netlink_u32(tb[FRA_FWMARK]);
	r.not_default =
		tb[FRA_SUPPRESS_PREFIXLEN] && netlink_u32(tb[FRA_SUPPRESS_PREFIXLEN]) != UINT32_MAX;
	r.narrow = h->dst_len || h->tos || (h->flags & FIB_RULE_INVERT) || tb[FRA_IIFNAME] ||
		   tb[FRA_OIFNAME] || tb[FRA_IP_PROTO] || tb[FRA_UID_RANGE] ||
		   tb[FRA_SPORT_RANGE] || tb[FRA_DPORT_RANGE] || (!r.ours && r.not_default);
	seen->rules[seen->n_rules++] = r;
	return MNL_CB_OK;
}

/* ---- all of it ---- */

static struct nlmsghdr *link_request(void *buf)
{
	struct nlmsghdr *nlh = netlink_begin(buf, RTM_GETLINK, NLM_F_DUMP);
	struct ifinfomsg *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));

	h->ifi_family = AF_UNSPEC;
	return nlh;
}

static struct nlmsghdr *addr_request(void *buf)
{
	struct nlmsghdr *nlh = netlink_begin(buf, RTM_GETADDR, NLM_F_DUMP);
	struct ifaddrmsg *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));

	h->ifa_family = AF_UNSPEC;
	return nlh;
}

/* The kernel picks, where it can; older ones list all. */
static struct nlmsghdr *route_request(void *buf, int f, unsigned link, uint32_t table)
{
	struct nlmsghdr *nlh = netlink_begin(buf, RTM_GETROUTE, NLM_F_DUMP);
	struct rtmsg *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));

	h->rtm_family = af[f];
	if (link)
		mnl_attr_put_u32(nlh, RTA_OIF, link);
	else if (table)
		mnl_attr_put_u32(nlh, RTA_TABLE, table);
	else
		h->rtm_protocol = WAN_PROTO;
	return nlh;
}

static struct nlmsghdr *rule_request(void *buf, int f)
{
	struct nlmsghdr *nlh = netlink_begin(buf, RTM_GETRULE, NLM_F_DUMP);
	struct fib_rule_hdr *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));

	h->family = af[f];
	return nlh;
}

static int see_way(const struct nlmsghdr *nlh, void *ctx)
{
	const struct nlattr *tb[RTA_OIF + 1];

	if (nlh->nlmsg_type != RTM_NEWROUTE ||
	    mnl_nlmsg_get_payload_len(nlh) < sizeof(struct rtmsg))
		return MNL_CB_OK;
	netlink_parse(nlh, sizeof(struct rtmsg), tb, RTA_OIF);
	*(unsigned *)ctx = netlink_u32(tb[RTA_OIF]);
	return MNL_CB_OK;
}

/* Documentation addresses: nobody's own. */
static void read_way(struct netlink *nl, int f, struct wan_seen *seen)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	struct nlmsghdr *nlh = netlink_begin(buf, RTM_GETROUTE, 0);
	struct rtmsg *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));
	uint8_t dst[16];

	inet_pton(af[f], f == WAN_V4 ? "192.0.2.1" : "2001:db8::1", dst);
	h->rtm_family = af[f];
	h->rtm_dst_len = f == WAN_V4 ? 32 : 128;
	mnl_attr_put(nlh, RTA_DST, f == WAN_V4 ? 4 : 16, dst);
	if (netlink_talk(nl, nlh, see_way, &seen->way[f]) < 0)
		seen->way[f] = 0;
}

/* ENOENT: of a table that does not exist; EAFNOSUPPORT, EOPNOTSUPP: no IPv6. */
static int nothing(int rc)
{
	return rc == -ENOENT || rc == -EAFNOSUPPORT || rc == -EOPNOTSUPP ? 0 : rc;
}

static int read_family(struct netlink *nl, int f, const struct wan_conf *confs, size_t n,
		       struct wan_seen *seen)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	struct route_reader r = {.seen = seen};
	int rc = nothing(netlink_talk(nl, route_request(buf, f, 0, 0), see_route, &r));

	for (size_t i = 0; i < seen->n_links && rc == 0; i++) {
		bool wanted = false;

		for (size_t k = 0; k < n; k++)
			wanted |= fnmatch(confs[k].device, seen->links[i].name, 0) == 0;
		r.link = seen->links[i].index;
		if (wanted)
			rc = nothing(
				netlink_talk(nl, route_request(buf, f, r.link, 0), see_route, &r));
	}
	if (rc == 0)
		rc = nothing(netlink_talk(nl, rule_request(buf, f), see_rule, seen));
	if (rc == 0)
		read_way(nl, f, seen);
	return rc;
}

int wan_read_net(struct netlink *nl, const struct wan_conf *confs, size_t n, struct wan_seen *seen)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	int rc = -EINTR;

	for (int i = 0; i < READ_TRIES && rc == -EINTR; i++) {
		memset(seen, 0, sizeof(*seen));
		rc = netlink_talk(nl, link_request(buf), see_link, seen);
		if (rc == 0)
			rc = netlink_talk(nl, addr_request(buf), see_addr, seen);
		for (int f = 0; f < WAN_FAMILIES && rc == 0; f++)
			rc = read_family(nl, f, confs, n, seen);
	}
	return rc;
}

int wan_read_foreign(struct netlink *nl, uint32_t table)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	uint32_t look = table;
	int rc;

	for (int f = 0; f < WAN_FAMILIES; f++) {
		rc = -EINTR;
		for (int i = 0; i < READ_TRIES && rc == -EINTR; i++)
			rc = nothing(netlink_talk(nl, route_request(buf, f, 0, table), see_foreign,
						  &look));
		if (rc < 0)
			return rc;
	}
	return look == 0;
}
