/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Answers that may be given once more: by key (dnsmsg.h), for as long as their times to live allow.
 * Bounded in number and octets; the one unused longest gives way. Used by one thread.
 */
#ifndef REDIR_DNSCACHE_H
#define REDIR_DNSCACHE_H

#include "redir/dnsmsg.h"

#define DNSCACHE_ANSWER_MAX 4096 /* longer ones are not kept */
#define DNSCACHE_EACH       1024 /* octets of memory for each answer that may be kept, on average */

struct dnscache;

/* NULL = out of memory. */
struct dnscache *dnscache_new(void);
void dnscache_free(struct dnscache *c); /* NULL is allowed */

/* Keep the answer for ttl_s seconds, and at most `most` answers in all; 0: all are thrown away. */
void dnscache_put(struct dnscache *c, const struct dns_key *key, const uint8_t *msg, size_t len,
		  double now_s, double ttl_s, unsigned most);
/* A copy of it into out (DNSCACHE_ANSWER_MAX octets), its times to live counted down. Its length; 0 =
 * there is none (any more). */
size_t dnscache_get(struct dnscache *c, const struct dns_key *key, double now_s, uint8_t *out);
/* Throw all away. */
void dnscache_clear(struct dnscache *c);
unsigned dnscache_count(const struct dnscache *c);

#endif
