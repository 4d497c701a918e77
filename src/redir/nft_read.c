/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/nft_read.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

#define HEADER       sizeof(struct nfgenmsg)
#define DUMP_TRIES   5
#define COMMENT_TYPE 0 /* nft's user data of a rule: type, length, text */
#define COMMENT_MAX  64

static struct nlmsghdr *begin(void *buf, uint8_t msg, uint16_t flags, uint8_t family)
{
	return netlink_begin_nf(buf, NFNL_SUBSYS_NFTABLES, msg, flags, family);
}

static bool is(const struct nlmsghdr *nlh, uint8_t msg)
{
	return nlh->nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8 | msg);
}

/* The text of an attribute if it is one, else "". */
static const char *text_of(const struct nlattr *a)
{
	return a && mnl_attr_validate(a, MNL_TYPE_NUL_STRING) == 0 ? mnl_attr_get_str(a) : "";
}

/* ---- generation ---- */

static int see_generation(const struct nlmsghdr *nlh, void *ctx)
{
	const struct nlattr *tb[NFTA_GEN_MAX + 1];

	if (is(nlh, NFT_MSG_NEWGEN)) {
		netlink_parse(nlh, HEADER, tb, NFTA_GEN_MAX);
		*(uint32_t *)ctx = netlink_be32(tb[NFTA_GEN_ID]);
	}
	return MNL_CB_OK;
}

int nft_read_generation(struct netlink *nl, uint32_t *gen)
{
	NETLINK_BUF(buf, NETLINK_ROOM);

	return netlink_talk(nl, begin(buf, NFT_MSG_GETGEN, 0, NFPROTO_UNSPEC), see_generation, gen);
}

/* ---- print of a table ---- */

struct print_ctx {
	const char *table;
	struct nft_print *p;
};

static int see_table(const struct nlmsghdr *nlh, void *ctx)
{
	const struct nlattr *tb[NFTA_TABLE_MAX + 1];
	struct print_ctx *c = ctx;

	if (is(nlh, NFT_MSG_NEWTABLE)) {
		netlink_parse(nlh, HEADER, tb, NFTA_TABLE_MAX);
		c->p->handle = netlink_be64(tb[NFTA_TABLE_HANDLE]);
		c->p->flags = netlink_be32(tb[NFTA_TABLE_FLAGS]);
		c->p->uses = netlink_be32(tb[NFTA_TABLE_USE]);
	}
	return MNL_CB_OK;
}

static int see_chain(const struct nlmsghdr *nlh, void *ctx)
{
	const struct nlattr *tb[NFTA_CHAIN_MAX + 1];
	struct print_ctx *c = ctx;

	if (is(nlh, NFT_MSG_NEWCHAIN)) {
		netlink_parse(nlh, HEADER, tb, NFTA_CHAIN_MAX);
		if (strcmp(text_of(tb[NFTA_CHAIN_TABLE]), c->table) == 0)
			c->p->uses += (uint64_t)netlink_be32(tb[NFTA_CHAIN_USE]) << 32;
	}
	return MNL_CB_OK;
}

int nft_read_print(struct netlink *nl, const char *table, bool chains, struct nft_print *p)
{
	struct print_ctx c = {table, p};
	NETLINK_BUF(buf, NETLINK_ROOM);
	int rc = -EINTR;

	for (int i = 0; i < DUMP_TRIES && rc == -EINTR; i++) {
		struct nlmsghdr *nlh = begin(buf, NFT_MSG_GETTABLE, 0, NFPROTO_INET);
		memset(p, 0, sizeof(*p));
		mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, table);
		rc = netlink_talk(nl, nlh, see_table, &c);
		if (rc < 0 || !chains)
			return rc;
		rc = netlink_talk(nl, begin(buf, NFT_MSG_GETCHAIN, NLM_F_DUMP, NFPROTO_INET),
				  see_chain, &c);
	}
	return rc;
}

/* ---- elements ---- */

struct set_ctx {
	nft_read_fn *fn;
	void *ctx;
};

/* Address and port, each padded to 4 octets. */
static bool key_addr(struct addr *a, const struct nlattr *value)
{
	size_t n = value ? mnl_attr_get_payload_len(value) : 0;
	const uint8_t *key;

	memset(a, 0, sizeof(*a));
	if (n != 8 && n != 20)
		return false;
	key = mnl_attr_get_payload(value);
	if (n == 8) {
		a->len = sizeof(a->u.in);
		a->u.in.sin_family = AF_INET;
		memcpy(&a->u.in.sin_addr, key, 4);
		memcpy(&a->u.in.sin_port, key + 4, 2);
	} else {
		a->len = sizeof(a->u.in6);
		a->u.in6.sin6_family = AF_INET6;
		memcpy(&a->u.in6.sin6_addr, key, 16);
		memcpy(&a->u.in6.sin6_port, key + 16, 2);
	}
	return true;
}

static int see_elements(const struct nlmsghdr *nlh, void *ctx)
{
	const struct nlattr *tb[NFTA_SET_ELEM_LIST_MAX + 1], *e;
	const struct set_ctx *c = ctx;

	if (!is(nlh, NFT_MSG_NEWSETELEM))
		return MNL_CB_OK;
	netlink_parse(nlh, HEADER, tb, NFTA_SET_ELEM_LIST_MAX);
	if (!tb[NFTA_SET_ELEM_LIST_ELEMENTS])
		return MNL_CB_OK;
	netlink_for_each_nested(e, tb[NFTA_SET_ELEM_LIST_ELEMENTS])
	{
		const struct nlattr *el[NFTA_SET_ELEM_MAX + 1], *key[NFTA_DATA_MAX + 1];
		struct addr a;
		netlink_parse_nested(e, el, NFTA_SET_ELEM_MAX);
		netlink_parse_nested(el[NFTA_SET_ELEM_KEY], key, NFTA_DATA_MAX);
		if (key_addr(&a, key[NFTA_DATA_VALUE]))
			c->fn(c->ctx, &a,
			      (uint32_t)((netlink_be64(el[NFTA_SET_ELEM_EXPIRATION]) + 999) /
					 1000));
	}
	return MNL_CB_OK;
}

int nft_read_set(struct netlink *nl, const char *table, const char *set, nft_read_fn *fn, void *ctx)
{
	struct set_ctx c = {fn, ctx};
	NETLINK_BUF(buf, NETLINK_ROOM);
	struct nlmsghdr *nlh = begin(buf, NFT_MSG_GETSETELEM, NLM_F_DUMP, NFPROTO_INET);

	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, table);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, set);
	return netlink_talk(nl, nlh, see_elements, &c);
}

int nft_read_has(struct netlink *nl, const char *table, const char *set, const void *key,
		 size_t len)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	struct nlmsghdr *nlh = begin(buf, NFT_MSG_GETSETELEM, 0, NFPROTO_INET);
	struct nlattr *elements, *element, *k;

	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, table);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, set);
	elements = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
	element = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
	k = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_KEY);
	mnl_attr_put(nlh, NFTA_DATA_VALUE, len, key);
	mnl_attr_nest_end(nlh, k);
	mnl_attr_nest_end(nlh, element);
	mnl_attr_nest_end(nlh, elements);
	return netlink_talk(nl, nlh, NULL, NULL);
}

/* ---- counters ---- */

struct counter_ctx {
	const char *table;
	nft_counter_fn *fn;
	void *ctx;
};

static bool comment_of(const struct nlattr *userdata, char *out, size_t cap)
{
	const uint8_t *p = userdata ? mnl_attr_get_payload(userdata) : NULL;
	size_t left = userdata ? mnl_attr_get_payload_len(userdata) : 0;

	while (left >= 2 && left - 2 >= p[1]) {
		if (p[0] == COMMENT_TYPE && p[1] > 0 && p[1] <= cap) {
			memcpy(out, p + 2, p[1]);
			out[p[1] - 1] = '\0'; /* its length counts the NUL */
			return true;
		}
		left -= 2U + p[1];
		p += 2 + p[1];
	}
	return false;
}

static bool packets_of(const struct nlattr *expressions, uint64_t *packets)
{
	const struct nlattr *e;

	if (!expressions)
		return false;
	netlink_for_each_nested(e, expressions)
	{
		const struct nlattr *tb[NFTA_EXPR_MAX + 1], *c[NFTA_COUNTER_MAX + 1];
		netlink_parse_nested(e, tb, NFTA_EXPR_MAX);
		if (strcmp(text_of(tb[NFTA_EXPR_NAME]), "counter") != 0)
			continue;
		netlink_parse_nested(tb[NFTA_EXPR_DATA], c, NFTA_COUNTER_MAX);
		*packets = netlink_be64(c[NFTA_COUNTER_PACKETS]);
		return true;
	}
	return false;
}

static int see_rule(const struct nlmsghdr *nlh, void *ctx)
{
	const struct nlattr *tb[NFTA_RULE_MAX + 1];
	const struct counter_ctx *c = ctx;
	char comment[COMMENT_MAX];
	uint64_t packets;

	if (!is(nlh, NFT_MSG_NEWRULE))
		return MNL_CB_OK;
	netlink_parse(nlh, HEADER, tb, NFTA_RULE_MAX);
	if (strcmp(text_of(tb[NFTA_RULE_TABLE]), c->table) == 0 &&
	    comment_of(tb[NFTA_RULE_USERDATA], comment, sizeof(comment)) &&
	    packets_of(tb[NFTA_RULE_EXPRESSIONS], &packets))
		c->fn(c->ctx, text_of(tb[NFTA_RULE_CHAIN]), comment, packets);
	return MNL_CB_OK;
}

int nft_read_counters(struct netlink *nl, const char *table, nft_counter_fn *fn, void *ctx)
{
	struct counter_ctx c = {table, fn, ctx};
	NETLINK_BUF(buf, NETLINK_ROOM);
	struct nlmsghdr *nlh = begin(buf, NFT_MSG_GETRULE, NLM_F_DUMP, NFPROTO_INET);

	mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, table);
	return netlink_talk(nl, nlh, see_rule, &c);
}
