/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel says about a connection, for explain.c. */
#include "redir/explain.h"

#include "config.h"

#include <errno.h>
#include <string.h>

#include "redir/held.h"
#include "redir/learner.h"
#include "redir/redir.h"
#include "redir/rules.h"
#include "redir/steer.h"

#ifdef HAVE_LIBMNL

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include "redir/netlink.h"
#include "redir/nft_read.h"

#define MAC_LEN 6

/* ---- routes and neighbours ---- */

struct way {
	unsigned oif;
	uint8_t type; /* RTN_UNICAST, RTN_LOCAL ... */
};

static size_t octets(const struct addr *a, const void **p)
{
	if (addr_family(a) == AF_INET) {
		*p = &a->u.in.sin_addr;
		return 4;
	}
	*p = &a->u.in6.sin6_addr;
	return 16;
}

static int see_route(const struct nlmsghdr *nlh, void *ctx)
{
	struct way *r = ctx;
	const struct nlattr *tb[RTA_MAX + 1];
	const struct rtmsg *h;

	if (nlh->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*h))
		return MNL_CB_OK;
	h = mnl_nlmsg_get_payload(nlh);
	netlink_parse(nlh, sizeof(*h), tb, RTA_MAX);
	r->type = h->rtm_type;
	r->oif = netlink_u32(tb[RTA_OIF]);
	return MNL_CB_OK;
}

/* How this host itself would send to a. */
static int route_to(struct netlink *nl, const struct addr *a, struct way *r)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	struct nlmsghdr *nlh = netlink_begin(buf, RTM_GETROUTE, 0);
	struct rtmsg *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));
	const void *p;
	size_t len = octets(a, &p);

	h->rtm_family = (uint8_t)addr_family(a);
	h->rtm_dst_len = (uint8_t)(len * 8);
	mnl_attr_put(nlh, RTA_DST, len, p);
	memset(r, 0, sizeof(*r));
	return netlink_talk(nl, nlh, see_route, r);
}

struct neighbour {
	bool found;
	uint8_t mac[MAC_LEN];
};

static int see_neighbour(const struct nlmsghdr *nlh, void *ctx)
{
	struct neighbour *n = ctx;
	const struct nlattr *tb[NDA_MAX + 1];

	if (nlh->nlmsg_type != RTM_NEWNEIGH ||
	    mnl_nlmsg_get_payload_len(nlh) < sizeof(struct ndmsg))
		return MNL_CB_OK;
	netlink_parse(nlh, sizeof(struct ndmsg), tb, NDA_MAX);
	if (tb[NDA_LLADDR] && mnl_attr_get_payload_len(tb[NDA_LLADDR]) == MAC_LEN) {
		memcpy(n->mac, mnl_attr_get_payload(tb[NDA_LLADDR]), MAC_LEN);
		n->found = true;
	}
	return MNL_CB_OK;
}

static void mac_of(struct netlink *nl, const struct addr *a, unsigned ifindex, struct neighbour *n)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	struct nlmsghdr *nlh = netlink_begin(buf, RTM_GETNEIGH, 0);
	struct ndmsg *h = mnl_nlmsg_put_extra_header(nlh, sizeof(*h));
	const void *p;
	size_t len = octets(a, &p);

	h->ndm_family = (uint8_t)addr_family(a);
	h->ndm_ifindex = (int)ifindex;
	mnl_attr_put(nlh, NDA_DST, len, p);
	n->found = false;
	netlink_talk(nl, nlh, see_neighbour, n);
}

/* ---- sets ---- */

static bool has(struct netlink *nl, const char *table, const char *set, const void *key, size_t len)
{
	return nft_read_has(nl, table, set, key, len) == 0;
}

static bool has_addr(struct netlink *nl, const char *table, const char *name, const struct addr *a)
{
	char set[32];
	const void *p;
	size_t len = octets(a, &p);

	snprintf(set, sizeof(set), "%s%c", name, len == 4 ? '4' : '6');
	return has(nl, table, set, p, len);
}

/* In a set of addresses and ports. */
static bool has_server(struct netlink *nl, const char *name, const struct addr *a)
{
	uint8_t key[16 + 4] = {0};
	char set[32];
	const void *p;
	size_t len = octets(a, &p);

	memcpy(key, p, len);
	key[len] = (uint8_t)(addr_port(a) >> 8);
	key[len + 1] = (uint8_t)addr_port(a);
	snprintf(set, sizeof(set), "%s%c", name, len == 4 ? '4' : '6');
	return has(nl, RULES_NFT_TABLE, set, key, len + 4);
}

static bool has_failed(struct netlink *nl, const struct addr *a)
{
	char name[24];

	for (enum held_answer i = HELD_RESET; i <= HELD_PROHIBITED; i++) {
		snprintf(name, sizeof(name), RULES_FAILED "%s", failed_answer_str(i));
		if (has_server(nl, name, a))
			return true;
	}
	return false;
}

/* Is the connection in one of the administrator's sets of this kind? */
static bool user_says(struct netlink *nl, const char *kind, const struct addr *dst,
		      const struct neighbour *mac, bool udp)
{
	uint8_t port[2] = {(uint8_t)(addr_port(dst) >> 8), (uint8_t)addr_port(dst)};
	char set[32];

	if (has_addr(nl, RULES_USER_TABLE, kind, dst))
		return true;
	snprintf(set, sizeof(set), "%s_mac", kind);
	if (mac->found && has(nl, RULES_USER_TABLE, set, mac->mac, MAC_LEN))
		return true;
	if (udp)
		return false; /* the ports there are those of TCP */
	snprintf(set, sizeof(set), "%s_port", kind);
	return has(nl, RULES_USER_TABLE, set, port, sizeof(port));
}

/* ---- */

static bool captured_from(const struct redir_conf *c, const struct way *src, const char *name)
{
	if (src->type == RTN_LOCAL)
		return c->capture_local;
	for (size_t i = 0; i < c->capture.n; i++)
		if (strcmp(c->capture.v[i], name) == 0)
			return true;
	return false;
}

static int ask_kernel(struct explain_facts *f, struct redir *rd, struct netlink *routes,
		      const struct addr *src, const struct addr *dst)
{
	struct netlink *nl = rules_netlink(steer_rules(rd->steer));
	struct neighbour mac = {0};
	struct way from, to;
	char name[IF_NAMESIZE] = "";
	const uint8_t tcp = IPPROTO_TCP;
	int rc = route_to(routes, src, &from);

	if (rc < 0 && rc != -ENETUNREACH)
		return rc;
	if (from.oif)
		if_indextoname(from.oif, name);
	snprintf(f->interface_name, sizeof(f->interface_name), "%s",
		 from.type == RTN_LOCAL ? "this host" : name);
	f->interface = captured_from(rd->conf, &from, name);
	rc = route_to(routes, dst, &to);
	f->local = rc == 0 && to.type != RTN_UNICAST && to.type != RTN_UNREACHABLE &&
		   to.type != RTN_BLACKHOLE && to.type != RTN_PROHIBIT;
	if (from.type == RTN_UNICAST)
		mac_of(routes, src, from.oif, &mac);
	f->user_bypass = user_says(nl, "bypass", dst, &mac, f->udp);
	f->user_proxy = user_says(nl, "proxy", dst, &mac, f->udp);
	f->upstream = has_addr(nl, RULES_NFT_TABLE, "upstream", dst);
	f->exclude = has_addr(nl, RULES_NFT_TABLE, "exclude", dst);
	f->learned = has_server(nl, "learned", dst);
	f->failed = has_failed(nl, dst);
	f->paused = has(nl, RULES_NFT_TABLE, "paused", &tcp, sizeof(tcp));
	return 0;
}

int explain_facts(struct explain_facts *f, struct redir *rd, const struct addr *src,
		  const struct addr *dst, bool udp)
{
	struct held_counts held;
	struct netlink *routes;
	int rc;

	memset(f, 0, sizeof(*f));
	f->action = (enum bypass_action)rd->conf->action;
	f->port = conf_ports_contain(&rd->conf->ports, addr_port(dst));
	f->udp = udp;
	f->udp_captured = udp_is_wanted(rd->conf);
	f->policy = udp_policy_of(&rd->conf->udp, addr_port(dst));
	f->rules = steer_rules(rd->steer) != NULL;
	if (!f->rules)
		return 0;
	held_count(rd->held, &held);
	f->held = held.open && rd->conf->mode == MODE_TPROXY &&
		  (conf_ports_contain(&rd->conf->verify.ports, addr_port(dst)) ||
		   conf_prefixes_contain(&rd->conf->verify.nets, dst));
	f->ipv6_off = addr_family(dst) == AF_INET6 && !steer_ipv6(rd->steer);
	f->deaf = rules_conf_deaf(rd->conf, addr_family(dst));
	rc = netlink_open(&routes, NETLINK_ROUTE);
	if (rc < 0)
		return rc;
	rc = ask_kernel(f, rd, routes, src, dst);
	netlink_close(routes);
	return rc;
}

#else

int explain_facts(struct explain_facts *f, struct redir *rd, const struct addr *src,
		  const struct addr *dst, bool udp)
{
	(void)src;
	memset(f, 0, sizeof(*f));
	f->action = (enum bypass_action)rd->conf->action;
	f->port = conf_ports_contain(&rd->conf->ports, addr_port(dst));
	f->udp = udp;
	f->udp_captured = udp_is_wanted(rd->conf);
	f->policy = udp_policy_of(&rd->conf->udp, addr_port(dst));
	return 0;
}

#endif
