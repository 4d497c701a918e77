/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sets sixpath4 and sixpath6 (hash:ip,port with timeouts) by netlink, for rules of iptables:
 * `-m set --match-set sixpath4 dst,dst`. Created when they are missing; never destroyed, because
 * rules refer to them.
 */
#include "redir/bypass.h"

#include "config.h"

#include <errno.h>
#include <stdlib.h>

#if defined(HAVE_IPSET) && defined(HAVE_LIBMNL)

#include <arpa/inet.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

#include "redir/netlink.h"

#define TYPE_NAME    "hash:ip,port"
#define REVISION_TOP 5 /* enough for us; older ipset programs cannot list newer ones */
#define DEFAULT_TTL  3600
#define TTL_MAX      2000000 /* ipset knows no longer ones */
#define ITEM_ROOM    64      /* octets of one element in a message */
#define HASH_FULL    IPSET_ERR_TYPE_SPECIFIC

struct ipset {
	struct netlink *nl;
	bool v6;
	NETLINK_BUF(message, NETLINK_ROOM + BYPASS_BATCH * ITEM_ROOM);
};

static const char *set_name(sa_family_t family)
{
	return family == AF_INET ? "sixpath4" : "sixpath6";
}

/* ipset has errors of its own. */
static int plain_errno(int rc)
{
	switch (-rc) {
	case IPSET_ERR_FIND_TYPE:
		return -EPROTONOSUPPORT;
	case IPSET_ERR_TYPE_MISMATCH:
	case IPSET_ERR_TIMEOUT: /* a set without timeouts */
	case IPSET_ERR_EXIST:
		return -EEXIST;
	case IPSET_ERR_MAX_SETS:
	case HASH_FULL:
		return -ENOSPC;
	default:
		return rc < -IPSET_ERR_PRIVATE ? -EPROTO : rc;
	}
}

static struct nlmsghdr *begin(void *buf, uint8_t cmd, uint16_t flags, sa_family_t family)
{
	struct nlmsghdr *nlh =
		netlink_begin_nf(buf, NFNL_SUBSYS_IPSET, cmd, flags, (uint8_t)family);

	mnl_attr_put_u8(nlh, IPSET_ATTR_PROTOCOL, IPSET_PROTOCOL_MIN);
	return nlh;
}

static void put_be32(struct nlmsghdr *nlh, uint16_t type, uint32_t v)
{
	mnl_attr_put_u32(nlh, type | NLA_F_NET_BYTEORDER, htonl(v));
}

/* ---- creating ---- */

struct revisions {
	uint8_t min, max;
};

static uint8_t octet(const struct nlattr *a)
{
	return a && mnl_attr_get_payload_len(a) >= 1 ? mnl_attr_get_u8(a) : 0;
}

static int see_revisions(const struct nlmsghdr *nlh, void *ctx)
{
	const struct nlattr *tb[IPSET_ATTR_CMD_MAX + 1];
	struct revisions *r = ctx;

	netlink_parse(nlh, sizeof(struct nfgenmsg), tb, IPSET_ATTR_CMD_MAX);
	r->max = octet(tb[IPSET_ATTR_REVISION]);
	r->min = octet(tb[IPSET_ATTR_REVISION_MIN]);
	return MNL_CB_OK;
}

static int see_type(const struct nlmsghdr *nlh, void *ctx)
{
	const struct nlattr *tb[IPSET_ATTR_CMD_MAX + 1], *name;

	netlink_parse(nlh, sizeof(struct nfgenmsg), tb, IPSET_ATTR_CMD_MAX);
	name = tb[IPSET_ATTR_TYPENAME];
	*(bool *)ctx = name && mnl_attr_validate(name, MNL_TYPE_NUL_STRING) == 0 &&
		       strcmp(mnl_attr_get_str(name), TYPE_NAME) == 0;
	return MNL_CB_OK;
}

/* A set of another type would take our elements for something else: -EEXIST. */
static int check_type(struct ipset *s, sa_family_t family)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	struct nlmsghdr *nlh = begin(buf, IPSET_CMD_HEADER, 0, family);
	bool same = false;
	int rc;

	mnl_attr_put_strz(nlh, IPSET_ATTR_SETNAME, set_name(family));
	rc = netlink_talk(s->nl, nlh, see_type, &same);
	if (rc < 0)
		return plain_errno(rc);
	return same ? 0 : -EEXIST;
}

static int create(struct ipset *s, sa_family_t family)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	struct revisions rev = {0, 0};
	struct nlmsghdr *nlh = begin(buf, IPSET_CMD_TYPE, 0, family);
	struct nlattr *nest;
	int rc;

	mnl_attr_put_strz(nlh, IPSET_ATTR_TYPENAME, TYPE_NAME);
	mnl_attr_put_u8(nlh, IPSET_ATTR_FAMILY, (uint8_t)family);
	rc = netlink_talk(s->nl, nlh, see_revisions, &rev);
	if (rc < 0) /* EINVAL: no ipset in this kernel at all */
		return rc == -EINVAL ? -EPROTONOSUPPORT : plain_errno(rc);
	if (rev.max > REVISION_TOP)
		rev.max = rev.min > REVISION_TOP ? rev.min : REVISION_TOP;
	nlh = begin(buf, IPSET_CMD_CREATE, NLM_F_CREATE | NLM_F_EXCL, family);
	mnl_attr_put_strz(nlh, IPSET_ATTR_SETNAME, set_name(family));
	mnl_attr_put_strz(nlh, IPSET_ATTR_TYPENAME, TYPE_NAME);
	mnl_attr_put_u8(nlh, IPSET_ATTR_REVISION, rev.max);
	mnl_attr_put_u8(nlh, IPSET_ATTR_FAMILY, (uint8_t)family);
	nest = mnl_attr_nest_start(nlh, IPSET_ATTR_DATA);
	put_be32(nlh, IPSET_ATTR_TIMEOUT, DEFAULT_TTL);
	mnl_attr_nest_end(nlh, nest);
	rc = plain_errno(netlink_talk(s->nl, nlh, NULL, NULL));
	return rc == -EEXIST ? check_type(s, family) : rc;
}

static void be_close(void *be)
{
	struct ipset *s = be;

	netlink_close(s->nl);
	free(s);
}

static int be_open(void **be, void *arg)
{
	struct ipset *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return -ENOMEM;
	s->v6 = arg && *(const bool *)arg;
	rc = netlink_open(&s->nl, NETLINK_NETFILTER);
	if (rc == 0)
		rc = create(s, AF_INET);
	if (rc == 0 && s->v6)
		rc = create(s, AF_INET6);
	if (rc < 0) {
		be_close(s);
		return rc;
	}
	*be = s;
	return 0;
}

/* ---- changing ---- */

static void put_element(struct nlmsghdr *nlh, const struct bypass_item *item)
{
	const struct addr *a = &item->addr;
	struct nlattr *data = mnl_attr_nest_start(nlh, IPSET_ATTR_DATA), *ip;

	ip = mnl_attr_nest_start(nlh, IPSET_ATTR_IP);
	if (addr_family(a) == AF_INET)
		mnl_attr_put(nlh, IPSET_ATTR_IPADDR_IPV4 | NLA_F_NET_BYTEORDER, 4,
			     &a->u.in.sin_addr);
	else
		mnl_attr_put(nlh, IPSET_ATTR_IPADDR_IPV6 | NLA_F_NET_BYTEORDER, 16,
			     &a->u.in6.sin6_addr);
	mnl_attr_nest_end(nlh, ip);
	mnl_attr_put_u16(nlh, IPSET_ATTR_PORT | NLA_F_NET_BYTEORDER, htons(addr_port(a)));
	mnl_attr_put_u8(nlh, IPSET_ATTR_PROTO, IPPROTO_TCP);
	if (item->add)
		put_be32(nlh, IPSET_ATTR_TIMEOUT, item->ttl_s < TTL_MAX ? item->ttl_s : TTL_MAX);
	mnl_attr_nest_end(nlh, data);
}

/* All items of one family and kind in one message. Without NLM_F_EXCL adding refreshes what is
 * there, and deleting does not mind what is not. */
static int apply_kind(struct ipset *s, const struct bypass_item *v, size_t n, sa_family_t family,
		      bool add)
{
	struct nlmsghdr *nlh = begin(s->message, add ? IPSET_CMD_ADD : IPSET_CMD_DEL, 0, family);
	struct nlattr *list;
	size_t put = 0;

	mnl_attr_put_strz(nlh, IPSET_ATTR_SETNAME, set_name(family));
	put_be32(nlh, IPSET_ATTR_LINENO, 1); /* must be there in a list */
	list = mnl_attr_nest_start(nlh, IPSET_ATTR_ADT);
	for (size_t i = 0; i < n; i++) {
		if (addr_family(&v[i].addr) != family || v[i].add != add)
			continue;
		put_element(nlh, &v[i]);
		put++;
	}
	mnl_attr_nest_end(nlh, list);
	return put ? plain_errno(netlink_talk(s->nl, nlh, NULL, NULL)) : 0;
}

static int be_apply(void *be, const struct bypass_item *v, size_t n)
{
	struct ipset *s = be;
	int rc = n <= BYPASS_BATCH ? 0 : -EINVAL;

	/* First out, then in: there may be just enough room. */
	for (int add = 0; add < 2 && rc == 0; add++) {
		rc = apply_kind(s, v, n, AF_INET, add);
		if (rc == 0 && s->v6)
			rc = apply_kind(s, v, n, AF_INET6, add);
	}
	return rc;
}

/* ---- listing ---- */

struct list_ctx {
	bypass_list_fn *fn;
	void *ctx;
};

static bool element_addr(struct addr *a, const struct nlattr *const *tb)
{
	const struct nlattr *ip[IPSET_ATTR_IPADDR_MAX + 1], *v4, *v6;

	netlink_parse_nested(tb[IPSET_ATTR_IP], ip, IPSET_ATTR_IPADDR_MAX);
	v4 = ip[IPSET_ATTR_IPADDR_IPV4];
	v6 = ip[IPSET_ATTR_IPADDR_IPV6];
	memset(a, 0, sizeof(*a));
	if (v4 && mnl_attr_get_payload_len(v4) == 4) {
		a->len = sizeof(a->u.in);
		a->u.in.sin_family = AF_INET;
		memcpy(&a->u.in.sin_addr, mnl_attr_get_payload(v4), 4);
	} else if (v6 && mnl_attr_get_payload_len(v6) == 16) {
		a->len = sizeof(a->u.in6);
		a->u.in6.sin6_family = AF_INET6;
		memcpy(&a->u.in6.sin6_addr, mnl_attr_get_payload(v6), 16);
	} else {
		return false;
	}
	if (!tb[IPSET_ATTR_PORT] || mnl_attr_get_payload_len(tb[IPSET_ATTR_PORT]) != 2)
		return false;
	addr_set_port(a, ntohs(mnl_attr_get_u16(tb[IPSET_ATTR_PORT])));
	/* Elements of other protocols are somebody else's idea. */
	return octet(tb[IPSET_ATTR_PROTO]) == IPPROTO_TCP;
}

static int see_elements(const struct nlmsghdr *nlh, void *ctx)
{
	const struct nlattr *tb[IPSET_ATTR_CMD_MAX + 1], *e;
	const struct list_ctx *c = ctx;

	netlink_parse(nlh, sizeof(struct nfgenmsg), tb, IPSET_ATTR_CMD_MAX);
	if (!tb[IPSET_ATTR_ADT])
		return MNL_CB_OK;
	netlink_for_each_nested(e, tb[IPSET_ATTR_ADT])
	{
		const struct nlattr *el[IPSET_ATTR_ADT_MAX + 1];
		struct addr a;
		netlink_parse_nested(e, el, IPSET_ATTR_ADT_MAX);
		if (element_addr(&a, el))
			c->fn(c->ctx, &a, netlink_be32(el[IPSET_ATTR_TIMEOUT]));
	}
	return MNL_CB_OK;
}

static int list_family(struct ipset *s, sa_family_t family, struct list_ctx *c)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	struct nlmsghdr *nlh = begin(buf, IPSET_CMD_LIST, NLM_F_DUMP, family);

	mnl_attr_put_strz(nlh, IPSET_ATTR_SETNAME, set_name(family));
	return plain_errno(netlink_talk(s->nl, nlh, see_elements, c));
}

/* A set that was destroyed meanwhile is created again. */
static int be_list(void *be, bypass_list_fn *fn, void *ctx)
{
	struct ipset *s = be;
	struct list_ctx c = {fn, ctx};
	int rc = create(s, AF_INET);

	if (rc == 0)
		rc = list_family(s, AF_INET, &c);
	if (rc == 0 && s->v6)
		rc = create(s, AF_INET6);
	if (rc == 0 && s->v6)
		rc = list_family(s, AF_INET6, &c);
	return rc;
}

const struct bypass_ops bypass_ipset = {"ipset", be_open, be_apply, be_list, be_close};

#else

const struct bypass_ops bypass_ipset = {.name = "ipset", .open = bypass_absent};

#endif
