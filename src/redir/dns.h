/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The name service for the LAN ([dns]): queries by UDP and TCP are answered from a cache, or by the
 * proxy's DNS service over one connection like any other flow's, or by other name servers directly
 * when no proxy works. A forwarder: it resolves nothing itself.
 *
 * All of it belongs to worker 0.
 */
#ifndef REDIR_DNS_H
#define REDIR_DNS_H

#include <stdint.h>

struct dns;
struct redir_worker;
struct report;

/* Before the threads start, and when we are who we will be (a successor binds the same ports):
 * listens on what [dns] listen says, and answers nobody yet. 0, or an exit code of sysexits (message
 * logged). *out is NULL if nothing is to be served. */
int dns_open(struct dns **out, struct redir_worker *rw);
/* On the worker: begin; stop answering and close all (harmless when repeated, or with NULL). */
void dns_start(struct dns *d);
void dns_stop(struct dns *d);
void dns_free(struct dns *d); /* NULL is allowed */

struct dns_counts {
	uint64_t queries, tcp;            /* the latter: those of them by TCP */
	uint64_t cached, joined;          /* answered from the cache; together with another's */
	uint64_t repeated;                /* the same once more, while it was under way */
	uint64_t proxied, direct, failed; /* asked for: answered through a proxy, without, not */
	uint64_t truncated;               /* answers too long for UDP */
	uint64_t strangers;               /* not allowed to ask */
	uint64_t limited;                 /* too many at a time */
	uint64_t malformed;
};
/* On the worker; NULL counts nothing. */
void dns_count(const struct dns *d, struct dns_counts *sum);
void dns_report(struct report *r, const struct dns_counts *c);

#endif
