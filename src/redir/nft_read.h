/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading nft tables (family inet) by netlink. Reading needs no ownership, and does not put the
 * owner's socket at risk.
 */
#ifndef REDIR_NFT_READ_H
#define REDIR_NFT_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "redir/netlink.h"

/* A number that each change of any rule changes. 0 or -errno. */
int nft_read_generation(struct netlink *nl, uint32_t *gen);

/* What tells that a table is still the one we made, with the rules we put in. */
struct nft_print {
	uint64_t handle; /* of the table; another one is another table of the same name */
	uint32_t flags;
	uint64_t uses; /* of the table and, if asked for, its chains */
};
/* chains: count what is in them too, which needs a look at all chains there are. 0, -ENOENT or
 * -errno. */
int nft_read_print(struct netlink *nl, const char *table, bool chains, struct nft_print *p);

/* The elements of a set of `address . port`. left_s: seconds to live, rounded up; 0 = for ever.
 * -EINTR: changed meanwhile, see netlink_talk. */
typedef void nft_read_fn(void *ctx, const struct addr *a, uint32_t left_s);
int nft_read_set(struct netlink *nl, const char *table, const char *set, nft_read_fn *fn,
		 void *ctx);

/* Is this key (len octets, as the kernel keeps it) in the set, or within an interval of it? 0,
 * -ENOENT or -errno. */
int nft_read_has(struct netlink *nl, const char *table, const char *set, const void *key,
		 size_t len);

/* The rules of a table that have a comment and a counter. */
typedef void nft_counter_fn(void *ctx, const char *chain, const char *comment, uint64_t packets);
int nft_read_counters(struct netlink *nl, const char *table, nft_counter_fn *fn, void *ctx);

#endif
