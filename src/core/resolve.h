/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names to addresses by c-ares on a worker's loop: never blocks, can be cancelled.
 * One resolver per worker. /etc/hosts is honoured.
 */
#ifndef SIXPATH_RESOLVE_H
#define SIXPATH_RESOLVE_H

#include <stdint.h>

#include "core/addr.h"

struct worker;
struct resolver;
struct resolve;

#define RESOLVE_MAX 16 /* addresses kept of an answer */

/* servers: NULL or "" = those of the system, else "1.1.1.1,[::1]:53". NULL and errno on failure. */
struct resolver *resolver_new(struct worker *w, const char *servers, uint32_t mark);
void resolver_free(struct resolver *r); /* cancels what is under way, without callbacks */

enum resolve_error { RESOLVE_OK, RESOLVE_NO_NAME, RESOLVE_TEMPORARY, RESOLVE_FAILED };

/* addrs are in the order to be tried (RFC 6724), ports set. Never called from inside
 * resolve_start, and not after resolve_cancel. min_ttl_s: smallest TTL of the answer. */
typedef void resolve_done_fn(void *owner, enum resolve_error err, const struct addr *addrs,
			     unsigned n, unsigned min_ttl_s);

/* family: AF_INET, AF_INET6 or AF_UNSPEC for both. Numeric names are answered too.
 * Returns a handle valid until done or cancel, or NULL (out of memory). */
struct resolve *resolve_start(struct resolver *r, const char *name, uint16_t port, int family,
			      resolve_done_fn *done, void *owner);
/* The answer to a DNS message as it came, whatever it says; len 0: none came. Never called from inside
 * resolve_send, and not after resolve_cancel. msg may be changed, and lives as long as the call. */
typedef void resolve_sent_fn(void *owner, uint8_t *msg, size_t len);
/* Send a DNS message (a query with an id of its own) to the name servers: over UDP, over TCP where
 * the answer does not fit. As resolve_start. */
struct resolve *resolve_send(struct resolver *r, const uint8_t *msg, size_t len,
			     resolve_sent_fn *done, void *owner);
void resolve_cancel(struct resolve *q);

/* Never ask these servers (one of an unspecified address is all of this machine's with its port):
 * returns how many are left. */
unsigned resolver_avoid(struct resolver *r, const struct addr *v, size_t n);

const char *resolve_error_str(enum resolve_error err);

#endif
