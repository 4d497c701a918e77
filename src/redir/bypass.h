/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's copy of the learned table: servers whose connections the rules do not capture.
 * Changes are collected and given to a back end in batches. One owner, main thread only.
 *
 * A back end that fails is told of once in the log and is then left alone until a
 * bypass_reconcile succeeds; meanwhile bypass_works is false and all is as with action = relay.
 */
#ifndef REDIR_BYPASS_H
#define REDIR_BYPASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"

#define BYPASS_BATCH 256 /* changes in one batch at most */

struct bypass_item {
	struct addr addr; /* address and port */
	bool add;         /* or delete */
	uint32_t ttl_s;   /* of an added one, at least 1; adding again sets it anew */
};

/* An element as a back end lists it, or as the learned table wants it. */
struct bypass_entry {
	struct addr addr;
	uint32_t left_s; /* seconds to live; a wanted one with 0 is not wanted */
};

typedef void bypass_list_fn(void *ctx, const struct addr *a, uint32_t left_s);

/* A back end. All return 0 or -errno; the others are only called after open has succeeded. */
struct bypass_ops {
	const char *name;
	int (*open)(void **be, void *arg);
	/* n <= BYPASS_BATCH, no address twice. Deleting what is not there is no error. */
	int (*apply)(void *be, const struct bypass_item *v, size_t n);
	/* -EINTR: changed meanwhile; to be repeated */
	int (*list)(void *be, bypass_list_fn *fn, void *ctx);
	void (*close)(void *be);
};

extern const struct bypass_ops bypass_nft;   /* sets of our nft table; arg: struct rules * */
extern const struct bypass_ops bypass_ipset; /* sixpath4, sixpath6; arg: bool *, IPv6 too? */
extern const struct bypass_ops bypass_none;  /* does nothing; arg: NULL */

/* Changes, as above, to the sets SET4 and SET6 of our nft table, of address and port with timeouts. */
struct rules;
int bypass_nft_apply(struct rules *r, const char *set, const struct bypass_item *v, size_t n);

/* For a back end that was not built: -ENOSYS. */
int bypass_absent(void **be, void *arg);

struct bypass;

/* Never NULL but for lack of memory: a back end that cannot be opened has failed (see above),
 * and arg must live as long, because opening is tried again. */
struct bypass *bypass_new(const struct bypass_ops *ops, void *arg);
/* What is pending is not applied any more; what the kernel has stays there until it expires
 * (or, with nft, the table goes). NULL is allowed. */
void bypass_free(struct bypass *b);

/* Take note of a change; applied by bypass_flush, or when a batch is full. */
void bypass_add(struct bypass *b, const struct addr *a, uint32_t ttl_s);
void bypass_del(struct bypass *b, const struct addr *a);
/* 0 or -errno, logged. */
int bypass_flush(struct bypass *b);

struct bypass_diff {
	size_t added, removed, refreshed, kept;
};
/*
 * Make the kernel's sets agree with v by the changes that takes, without emptying them; pending
 * changes are dropped (v has them). To be called after bypass_new, when rules_check has reloaded,
 * and now and then while bypass_works is false. diff may be NULL. 0 or -errno, logged.
 */
int bypass_reconcile(struct bypass *b, const struct bypass_entry *v, size_t n,
		     struct bypass_diff *diff);

bool bypass_works(const struct bypass *b);
const char *bypass_name(const struct bypass *b);
uint64_t bypass_changes(const struct bypass *b); /* given to the back end so far */

#endif
