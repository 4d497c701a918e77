/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "tools/netview.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

size_t nv_addr_len(int family)
{
	return family == AF_INET ? 4 : 16;
}

#ifndef HAVE_LIBMNL

void netview_read(struct netview *v)
{
	memset(v, 0, sizeof(*v));
	v->addrs_rc = v->rules_rc = v->routes_rc = v->mptcp_rc = v->nft_rc = -ENOSYS;
}

int netview_has_ipset(void)
{
	return -ENOSYS;
}

int netview_has_xt_target(const char *name)
{
	(void)name;
	return -ENOSYS;
}

#else /* HAVE_LIBMNL */

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/genetlink.h>
#include <linux/mptcp.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>

#define REQUEST_OCTETS 1024
#define ANSWER_OCTETS  65536 /* the kernel sends no larger dump messages */
#define ATTR_SLOTS     64
#define TRIES          3 /* a dump during which something changes is asked for again */
#define IPSET_PROTO    6

#ifndef NFT_TABLE_F_OWNER
#define NFT_TABLE_F_OWNER 2
#endif

/* The attributes of a message by their number; those we do not know are left out. */
struct attrs {
	const struct nlattr *at[ATTR_SLOTS];
};

static int attr_cb(const struct nlattr *attr, void *ctx)
{
	struct attrs *t = ctx;
	uint16_t type = mnl_attr_get_type(attr);

	if (type < ATTR_SLOTS)
		t->at[type] = attr;
	return MNL_CB_OK;
}

static void parse(const struct nlmsghdr *nlh, size_t header, struct attrs *t)
{
	memset(t, 0, sizeof(*t));
	if (mnl_nlmsg_get_payload_len(nlh) >= MNL_ALIGN(header))
		mnl_attr_parse(nlh, (unsigned)header, attr_cb, t);
}

static void parse_nested(const struct nlattr *nest, struct attrs *t)
{
	memset(t, 0, sizeof(*t));
	mnl_attr_parse_nested(nest, attr_cb, t);
}

static bool get_u32(const struct attrs *t, int type, uint32_t *out)
{
	const struct nlattr *a = t->at[type];

	if (!a || mnl_attr_get_payload_len(a) < sizeof(*out))
		return false;
	*out = mnl_attr_get_u32(a);
	return true;
}

static bool get_addr(const struct attrs *t, int type, int family, uint8_t *out)
{
	const struct nlattr *a = t->at[type];

	if (!a || mnl_attr_get_payload_len(a) < nv_addr_len(family))
		return false;
	memcpy(out, mnl_attr_get_payload(a), nv_addr_len(family));
	return true;
}

/* NULL unless it ends within the attribute. */
static const char *get_text(const struct attrs *t, int type)
{
	const struct nlattr *a = t->at[type];

	return a && mnl_attr_validate(a, MNL_TYPE_NUL_STRING) == 0 ? mnl_attr_get_str(a) : NULL;
}

/* ---- asking ---- */

struct nl {
	struct mnl_socket *sock;
	unsigned seq;
	char *answer;
	union {
		char octets[REQUEST_OCTETS];
		struct nlmsghdr align;
	} request;
};

static int nl_open(struct nl *nl, int bus)
{
	struct timeval wait = {.tv_sec = 5};
	int err;

	memset(nl, 0, sizeof(*nl));
	nl->answer = malloc(ANSWER_OCTETS);
	if (!nl->answer)
		return -ENOMEM;
	nl->sock = mnl_socket_open(bus);
	if (nl->sock && mnl_socket_bind(nl->sock, 0, MNL_SOCKET_AUTOPID) == 0 &&
	    setsockopt(mnl_socket_get_fd(nl->sock), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) ==
		    0)
		return 0;
	err = errno;
	if (nl->sock)
		mnl_socket_close(nl->sock);
	free(nl->answer);
	return -err;
}

static void nl_close(struct nl *nl)
{
	mnl_socket_close(nl->sock);
	free(nl->answer);
}

static struct nlmsghdr *nl_request(struct nl *nl, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh;

	memset(nl->request.octets, 0, sizeof(nl->request.octets));
	nlh = mnl_nlmsg_put_header(nl->request.octets);
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	return nlh;
}

/* Send the request and give every answer to cb until the last one. 0 or -errno. */
static int nl_talk(struct nl *nl, struct nlmsghdr *nlh, mnl_cb_t cb, void *ctx)
{
	unsigned port = mnl_socket_get_portid(nl->sock);
	bool dump = (nlh->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;

	nlh->nlmsg_seq = ++nl->seq;
	if (mnl_socket_sendto(nl->sock, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	for (;;) {
		ssize_t n = mnl_socket_recvfrom(nl->sock, nl->answer, ANSWER_OCTETS);
		int rc;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		rc = mnl_cb_run(nl->answer, (size_t)n, nl->seq, port, cb, ctx);
		if (rc < 0)
			return -errno;
		if (rc == MNL_CB_STOP || !dump)
			return 0;
	}
}

/* ---- addresses, rules, routes ---- */

static bool full(struct netview *v, size_t n)
{
	v->truncated |= n == NETVIEW_MAX;
	return n == NETVIEW_MAX;
}

static int addr_cb(const struct nlmsghdr *nlh, void *ctx)
{
	struct netview *v = ctx;
	const struct ifaddrmsg *m = mnl_nlmsg_get_payload(nlh);
	struct nv_addr *a = &v->addrs[v->n_addrs];
	struct attrs t;

	if (nlh->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(nlh) < sizeof(*m) ||
	    (m->ifa_family != AF_INET && m->ifa_family != AF_INET6) || full(v, v->n_addrs))
		return MNL_CB_OK;
	parse(nlh, sizeof(*m), &t);
	*a = (struct nv_addr){.family = m->ifa_family, .ifindex = m->ifa_index};
	if (get_addr(&t, t.at[IFA_LOCAL] ? IFA_LOCAL : IFA_ADDRESS, a->family, a->addr))
		v->n_addrs++;
	return MNL_CB_OK;
}

static int rule_cb(const struct nlmsghdr *nlh, void *ctx)
{
	struct netview *v = ctx;
	const struct fib_rule_hdr *m = mnl_nlmsg_get_payload(nlh);
	struct nv_rule *r = &v->rules[v->n_rules];
	struct attrs t;

	if (nlh->nlmsg_type != RTM_NEWRULE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*m) ||
	    (m->family != AF_INET && m->family != AF_INET6) || m->action != FR_ACT_TO_TBL ||
	    full(v, v->n_rules))
		return MNL_CB_OK;
	parse(nlh, sizeof(*m), &t);
	*r = (struct nv_rule){.family = m->family, .src_len = m->src_len, .table = m->table};
	get_u32(&t, FRA_TABLE, &r->table);
	if (get_u32(&t, FRA_FWMARK, &r->mark) && !get_u32(&t, FRA_FWMASK, &r->mask))
		r->mask = UINT32_MAX;
	r->narrow = m->dst_len || m->tos || (m->flags & FIB_RULE_INVERT) || t.at[FRA_IIFNAME] ||
		    t.at[FRA_OIFNAME] || t.at[FRA_IP_PROTO] || t.at[FRA_UID_RANGE] ||
		    t.at[FRA_SPORT_RANGE] || t.at[FRA_DPORT_RANGE];
	if (r->src_len > 8 * nv_addr_len(r->family) ||
	    (r->src_len && !get_addr(&t, FRA_SRC, r->family, r->src)))
		return MNL_CB_OK;
	v->n_rules++;
	return MNL_CB_OK;
}

static void add_default(struct netview *v, const struct nv_default *d)
{
	if (!full(v, v->n_defaults))
		v->defaults[v->n_defaults++] = *d;
}

/* Legs of a route with several next hops. */
static void add_legs(struct netview *v, struct nv_default *d, const struct nlattr *multipath)
{
	const char *p = mnl_attr_get_payload(multipath);
	size_t left = mnl_attr_get_payload_len(multipath);

	while (left >= sizeof(struct rtnexthop)) {
		const struct rtnexthop *nh = (const void *)p;
		size_t len = nh->rtnh_len;
		struct attrs t = {{NULL}};
		if (len < sizeof(*nh) || len > left)
			return;
		mnl_attr_parse_payload(p + sizeof(*nh), len - sizeof(*nh), attr_cb, &t);
		d->ifindex = (unsigned)nh->rtnh_ifindex;
		d->gateway = get_addr(&t, RTA_GATEWAY, d->family, d->via);
		add_default(v, d);
		len = MNL_ALIGN(len);
		if (len >= left)
			return;
		p += len;
		left -= len;
	}
}

static int route_cb(const struct nlmsghdr *nlh, void *ctx)
{
	struct netview *v = ctx;
	const struct rtmsg *m = mnl_nlmsg_get_payload(nlh);
	struct nv_default d;
	struct attrs t;
	uint32_t oif = 0;

	if (nlh->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(nlh) < sizeof(*m) ||
	    (m->rtm_family != AF_INET && m->rtm_family != AF_INET6) || m->rtm_dst_len != 0 ||
	    (m->rtm_flags & RTM_F_CLONED) ||
	    (m->rtm_type != RTN_UNICAST && m->rtm_type != RTN_LOCAL))
		return MNL_CB_OK;
	parse(nlh, sizeof(*m), &t);
	d = (struct nv_default){
		.family = m->rtm_family, .table = m->rtm_table, .local = m->rtm_type == RTN_LOCAL};
	get_u32(&t, RTA_TABLE, &d.table);
	get_u32(&t, RTA_PRIORITY, &d.metric);
	if (t.at[RTA_MULTIPATH]) {
		add_legs(v, &d, t.at[RTA_MULTIPATH]);
		return MNL_CB_OK;
	}
	if (get_u32(&t, RTA_OIF, &oif)) {
		d.ifindex = oif;
		d.gateway = get_addr(&t, RTA_GATEWAY, d.family, d.via);
		add_default(v, &d);
	}
	return MNL_CB_OK;
}

/* One kind of rtnetlink objects, of both families, into v; *n counts them and starts anew when the
 * kernel says that something has changed meanwhile. */
static int rt_dump(uint16_t type, size_t header, mnl_cb_t cb, struct netview *v, size_t *n)
{
	static const unsigned char families[] = {AF_INET, AF_INET6};
	struct nl nl;
	int rc = nl_open(&nl, NETLINK_ROUTE);

	if (rc < 0)
		return rc;
	for (int i = 0; i < 2; i++) {
		size_t before = *n;
		for (int try = 0; try < TRIES; try++) {
			struct nlmsghdr *nlh = nl_request(&nl, type, NLM_F_DUMP);
			/* the family is the first octet of each of these headers */
			*(unsigned char *)mnl_nlmsg_put_extra_header(nlh, header) = families[i];
			*n = before;
			rc = nl_talk(&nl, nlh, cb, v);
			if (rc != -EINTR)
				break;
		}
		/* a kernel without IPv6 */
		if (families[i] == AF_INET6 && (rc == -EOPNOTSUPP || rc == -EAFNOSUPPORT))
			rc = 0;
		if (rc < 0)
			break;
	}
	nl_close(&nl);
	return rc;
}

/* ---- MPTCP path manager ---- */

static int family_cb(const struct nlmsghdr *nlh, void *ctx)
{
	struct attrs t;

	parse(nlh, sizeof(struct genlmsghdr), &t);
	if (t.at[CTRL_ATTR_FAMILY_ID] &&
	    mnl_attr_validate(t.at[CTRL_ATTR_FAMILY_ID], MNL_TYPE_U16) == 0)
		*(uint16_t *)ctx = mnl_attr_get_u16(t.at[CTRL_ATTR_FAMILY_ID]);
	return MNL_CB_OK;
}

static int endpoint_cb(const struct nlmsghdr *nlh, void *ctx)
{
	struct netview *v = ctx;
	struct nv_endpoint *e = &v->endpoints[v->n_endpoints];
	struct attrs outer, t;
	const struct nlattr *family, *id;
	uint32_t ifindex = 0, flags = 0;

	parse(nlh, sizeof(struct genlmsghdr), &outer);
	if (!outer.at[MPTCP_PM_ATTR_ADDR] || full(v, v->n_endpoints))
		return MNL_CB_OK;
	parse_nested(outer.at[MPTCP_PM_ATTR_ADDR], &t);
	family = t.at[MPTCP_PM_ADDR_ATTR_FAMILY];
	if (!family || mnl_attr_validate(family, MNL_TYPE_U16) < 0)
		return MNL_CB_OK;
	*e = (struct nv_endpoint){.family = mnl_attr_get_u16(family)};
	if (e->family != AF_INET && e->family != AF_INET6)
		return MNL_CB_OK;
	get_u32(&t, MPTCP_PM_ADDR_ATTR_FLAGS, &flags);
	e->subflow = (flags & MPTCP_PM_ADDR_FLAG_SUBFLOW) != 0;
	e->backup = (flags & MPTCP_PM_ADDR_FLAG_BACKUP) != 0;
	id = t.at[MPTCP_PM_ADDR_ATTR_ID];
	e->id = id && mnl_attr_get_payload_len(id) >= 1 ? mnl_attr_get_u8(id) : 0;
	get_u32(&t, MPTCP_PM_ADDR_ATTR_IF_IDX, &ifindex);
	e->ifindex = ifindex;
	if (get_addr(&t, e->family == AF_INET ? MPTCP_PM_ADDR_ATTR_ADDR4 : MPTCP_PM_ADDR_ATTR_ADDR6,
		     e->family, e->addr))
		v->n_endpoints++;
	return MNL_CB_OK;
}

static int limits_cb(const struct nlmsghdr *nlh, void *ctx)
{
	struct netview *v = ctx;
	struct attrs t;

	parse(nlh, sizeof(struct genlmsghdr), &t);
	get_u32(&t, MPTCP_PM_ATTR_SUBFLOWS, &v->limit_subflows);
	get_u32(&t, MPTCP_PM_ATTR_RCV_ADD_ADDRS, &v->limit_add_addr);
	return MNL_CB_OK;
}

static struct nlmsghdr *genl_request(struct nl *nl, uint16_t family, uint16_t flags, uint8_t cmd)
{
	struct nlmsghdr *nlh = nl_request(nl, family, flags);
	struct genlmsghdr *g = mnl_nlmsg_put_extra_header(nlh, sizeof(*g));

	g->cmd = cmd;
	g->version = 1;
	return nlh;
}

static int read_mptcp(struct netview *v)
{
	struct nlmsghdr *nlh;
	uint16_t family = 0;
	struct nl nl;
	int rc = nl_open(&nl, NETLINK_GENERIC);

	if (rc < 0)
		return rc;
	nlh = genl_request(&nl, GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY);
	mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, MPTCP_PM_NAME);
	rc = nl_talk(&nl, nlh, family_cb, &family);
	if (rc == 0 && family == 0)
		rc = -ENOENT;
	if (rc == 0)
		rc = nl_talk(&nl, genl_request(&nl, family, 0, MPTCP_PM_CMD_GET_LIMITS), limits_cb,
			     v);
	for (int try = 0; rc == 0 && try < TRIES; try++) {
		v->n_endpoints = 0;
		rc = nl_talk(&nl, genl_request(&nl, family, NLM_F_DUMP, MPTCP_PM_CMD_GET_ADDR),
			     endpoint_cb, v);
		if (rc != -EINTR)
			break;
		rc = try + 1 < TRIES ? 0 : rc;
	}
	nl_close(&nl);
	return rc;
}

/* ---- nftables ---- */

/* The daemon's table, that of redirect-rules/nft.sh, and the chains of redirect-rules/iptables.sh */
static bool is_our_table(const char *table)
{
	return strcmp(table, "sixpath") == 0 || strcmp(table, "sixpath_script") == 0;
}

static bool is_our_chain(const char *chain)
{
	return strncmp(chain, "SIXPATH", 7) == 0;
}

static int table_cb(const struct nlmsghdr *nlh, void *ctx)
{
	struct nv_rules *r = ctx;
	struct attrs t;
	const char *name;
	uint32_t flags = 0;

	parse(nlh, sizeof(struct nfgenmsg), &t);
	name = get_text(&t, NFTA_TABLE_NAME);
	if (!name || !is_our_table(name))
		return MNL_CB_OK;
	*(strcmp(name, "sixpath") == 0 ? &r->table : &r->script) = true;
	if (get_u32(&t, NFTA_TABLE_FLAGS, &flags))
		r->owner |= (ntohl(flags) & NFT_TABLE_F_OWNER) != 0;
	return MNL_CB_OK;
}

/* An expression of a rule of ours; that of iptables is called "target" and has its name inside. */
static int expr_cb(const struct nlattr *attr, void *ctx)
{
	struct nv_rules *r = ctx;
	struct attrs t, data;
	const char *name;

	parse_nested(attr, &t);
	name = get_text(&t, NFTA_EXPR_NAME);
	if (name && strcmp(name, "target") == 0 && t.at[NFTA_EXPR_DATA]) {
		parse_nested(t.at[NFTA_EXPR_DATA], &data);
		name = get_text(&data, NFTA_TARGET_NAME);
	}
	if (name) {
		r->tproxy |= strcasecmp(name, "tproxy") == 0;
		r->redirect |= strcmp(name, "redir") == 0 || strcmp(name, "REDIRECT") == 0;
	}
	return MNL_CB_OK;
}

static int nft_rule_cb(const struct nlmsghdr *nlh, void *ctx)
{
	struct nv_rules *r = ctx;
	const char *table, *chain;
	struct attrs t;

	parse(nlh, sizeof(struct nfgenmsg), &t);
	table = get_text(&t, NFTA_RULE_TABLE);
	chain = get_text(&t, NFTA_RULE_CHAIN);
	if (!table || !chain || (!is_our_table(table) && !is_our_chain(chain)))
		return MNL_CB_OK;
	r->iptables |= !is_our_table(table);
	if (t.at[NFTA_RULE_EXPRESSIONS])
		mnl_attr_parse_nested(t.at[NFTA_RULE_EXPRESSIONS], expr_cb, r);
	return MNL_CB_OK;
}

static struct nlmsghdr *nf_request(struct nl *nl, int subsys, int cmd, uint16_t flags, int family)
{
	struct nlmsghdr *nlh = nl_request(nl, (uint16_t)(subsys << 8 | cmd), flags);
	struct nfgenmsg *g = mnl_nlmsg_put_extra_header(nlh, sizeof(*g));

	g->nfgen_family = (uint8_t)family;
	g->version = NFNETLINK_V0;
	return nlh;
}

static int read_nft(struct nv_rules *r)
{
	struct nl nl;
	int rc = nl_open(&nl, NETLINK_NETFILTER);

	if (rc < 0)
		return rc;
	for (int try = 0; try < TRIES; try++) {
		memset(r, 0, sizeof(*r));
		rc = nl_talk(&nl,
			     nf_request(&nl, NFNL_SUBSYS_NFTABLES, NFT_MSG_GETTABLE, NLM_F_DUMP,
					AF_UNSPEC),
			     table_cb, r);
		if (rc == 0)
			rc = nl_talk(&nl,
				     nf_request(&nl, NFNL_SUBSYS_NFTABLES, NFT_MSG_GETRULE,
						NLM_F_DUMP, AF_UNSPEC),
				     nft_rule_cb, r);
		if (rc != -EINTR)
			break;
	}
	nl_close(&nl);
	return rc;
}

/* ---- is it there? ---- */

static int ignore_cb(const struct nlmsghdr *nlh, void *ctx)
{
	(void)nlh;
	(void)ctx;
	return MNL_CB_OK;
}

/* A part that the kernel lacks is told from its errors. */
static int has(int rc)
{
	return rc == -EINVAL || rc == -EOPNOTSUPP || rc == -EPROTONOSUPPORT ? -ENOENT : rc;
}

int netview_has_ipset(void)
{
	struct nlmsghdr *nlh;
	struct nl nl;
	int rc = nl_open(&nl, NETLINK_NETFILTER);

	if (rc < 0)
		return has(rc);
	nlh = nf_request(&nl, NFNL_SUBSYS_IPSET, IPSET_CMD_PROTOCOL, 0, AF_INET);
	mnl_attr_put_u8(nlh, IPSET_ATTR_PROTOCOL, IPSET_PROTO);
	rc = nl_talk(&nl, nlh, ignore_cb, NULL);
	nl_close(&nl);
	return has(rc);
}

int netview_has_xt_target(const char *name)
{
	struct nlmsghdr *nlh;
	struct nl nl;
	int rc = nl_open(&nl, NETLINK_NETFILTER);

	if (rc < 0)
		return has(rc);
	nlh = nf_request(&nl, NFNL_SUBSYS_NFT_COMPAT, NFNL_MSG_COMPAT_GET, 0, AF_INET);
	mnl_attr_put_strz(nlh, NFTA_COMPAT_NAME, name);
	mnl_attr_put_u32(nlh, NFTA_COMPAT_REV, htonl(0));
	mnl_attr_put_u32(nlh, NFTA_COMPAT_TYPE, htonl(1)); /* a target, not a match */
	rc = nl_talk(&nl, nlh, ignore_cb, NULL);
	nl_close(&nl);
	/* EPROTONOSUPPORT: the name is known, this revision is not */
	return rc == -EPROTONOSUPPORT ? 0 : has(rc);
}

void netview_read(struct netview *v)
{
	memset(v, 0, sizeof(*v));
	v->addrs_rc = rt_dump(RTM_GETADDR, sizeof(struct ifaddrmsg), addr_cb, v, &v->n_addrs);
	v->rules_rc = rt_dump(RTM_GETRULE, sizeof(struct fib_rule_hdr), rule_cb, v, &v->n_rules);
	v->routes_rc = rt_dump(RTM_GETROUTE, sizeof(struct rtmsg), route_cb, v, &v->n_defaults);
	v->mptcp_rc = read_mptcp(v);
	v->nft_rc = read_nft(&v->nft);
}

#endif
