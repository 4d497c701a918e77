/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `doctor` needs to know of the kernel's network configuration, read over netlink (libmnl)
 * and never changed: policy rules, default routes, addresses, MPTCP endpoints and limits, and
 * which nftables rules are sixpath's. Without libmnl every part says -ENOSYS.
 */
#ifndef SIXPATH_NETVIEW_H
#define SIXPATH_NETVIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETVIEW_MAX 512 /* entries of a kind; more are not looked at (see truncated) */

struct nv_addr { /* of an interface */
	int family;
	unsigned ifindex;
	uint8_t addr[16];
};

struct nv_rule { /* that looks up a table */
	int family;
	uint8_t src_len; /* bits; 0 = from all */
	uint8_t src[16];
	uint32_t mark, mask; /* mask 0 = any mark */
	uint32_t table;
	bool narrow; /* asks for more than source and mark: interface, destination, ... */
};

struct nv_default { /* a default route, or one leg of it */
	int family;
	uint32_t table, metric;
	unsigned ifindex;
	bool local; /* delivers to this host: what tproxy needs */
	bool gateway;
	uint8_t via[16];
};

struct nv_endpoint { /* of the kernel's MPTCP path manager */
	int family;
	uint8_t addr[16];
	uint8_t id;
	bool subflow, backup; /* flags */
	unsigned ifindex;
};

struct nv_rules {                     /* in nftables, our tables or chains */
	bool table, script, iptables; /* the daemon's, redirect-rules/nft.sh's, iptables.sh's */
	bool tproxy, redirect;        /* what they do */
	bool owner;                   /* a table of ours has an owner */
};

struct netview {
	/* 0 or -errno for each part */
	int addrs_rc, rules_rc, routes_rc, mptcp_rc, nft_rc;
	bool truncated;
	struct nv_addr addrs[NETVIEW_MAX];
	struct nv_rule rules[NETVIEW_MAX];
	struct nv_default defaults[NETVIEW_MAX];
	struct nv_endpoint endpoints[NETVIEW_MAX];
	size_t n_addrs, n_rules, n_defaults, n_endpoints;
	uint32_t limit_subflows, limit_add_addr;
	struct nv_rules nft;
};

void netview_read(struct netview *v);

/* Does the kernel have it? 0 yes, -ENOENT no, another -errno: not known (EPERM: not root). */
int netview_has_ipset(void);
int netview_has_xt_target(const char *name); /* for iptables over nftables, such as "TPROXY" */

/* Octets of an address of this family. */
size_t nv_addr_len(int family);

#endif
