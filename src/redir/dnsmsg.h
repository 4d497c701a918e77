/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DNS messages (RFC 1035, RFC 6891) as far as a forwarder has to understand them: header, question,
 * the records' times to live. Names are compared in the question only and never decompressed;
 * elsewhere they are stepped over. Pure: no sockets, clock, allocation.
 */
#ifndef REDIR_DNSMSG_H
#define REDIR_DNSMSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DNS_HEADER    12
#define DNS_NAME_MAX  255
#define DNS_QUERY_MAX 1024 /* longer ones are no questions */
#define DNS_MSG_MAX   65535
#define DNS_UDP_PLAIN 512  /* a UDP answer without EDNS */
#define DNS_UDP_MAX   4096 /* the longest one with it */
#define DNS_UDP_OURS  1232 /* what we say that we take: fits any path */

enum dns_rcode {
	DNS_NOERROR = 0,
	DNS_FORMERR = 1,
	DNS_SERVFAIL = 2,
	DNS_NXDOMAIN = 3,
	DNS_NOTIMP = 4,
	DNS_REFUSED = 5,
	DNS_BADVERS = 16
};

/* What two queries must have in common to be answered alike: the name in lower case, type, class,
 * and what was asked for beside them. */
#define DNS_KEY_MAX (DNS_NAME_MAX + 4 + 2)
struct dns_key {
	uint8_t octets[DNS_KEY_MAX];
	size_t len;
};

struct dns_query {
	uint16_t id;
	uint16_t type;
	size_t question_len; /* octets behind the header: name as it was written, type, class */
	uint16_t wishes;     /* the flags RD, CD and AD */
	bool edns, dnssec_ok;
	uint8_t edns_version;
	uint16_t room; /* octets of a UDP answer */
	struct dns_key key;
};

/* The query in len octets. DNS_NOERROR: it can be forwarded; another code: answer that, with
 * dns_error; q has all that it needs. -1: no query at all, not to be answered. */
int dns_query_parse(const uint8_t *msg, size_t len, struct dns_query *q);

/* The query as we ask it, with this id: the same question, and EDNS (no options: they are between
 * the client and us) if the client uses it. out needs DNS_HEADER + question_len + 11 octets. */
size_t dns_query_build(const uint8_t *msg, const struct dns_query *q, uint16_t id, uint8_t *out);

struct dns_answer {
	uint16_t id;
	uint8_t rcode;
	bool truncated;
	bool keep; /* it may be kept, for ttl seconds */
	uint32_t ttl;
	size_t opt, opt_len; /* where the OPT record is; opt_len 0 = there is none */
};

/* An answer to q (id apart, and upper and lower case), well formed to its last octet. */
bool dns_answer_parse(const uint8_t *msg, size_t len, const struct dns_query *q,
		      struct dns_answer *a);
/* It has been kept for so long: count down the times to live of its records. msg is one that
 * dns_answer_parse has found good. */
void dns_age(uint8_t *msg, size_t len, uint32_t seconds);
/* Make an answer that of another query with the same key: its id, and its question as written in
 * query. */
void dns_answer_adopt(uint8_t *msg, const uint8_t *query, const struct dns_query *q);
/* The same answer cut to what fits into any datagram: header with TC, question, OPT if the answer
 * has one. out needs DNS_HEADER + question_len + 11 octets. Returns its length. */
size_t dns_truncate(const uint8_t *msg, const struct dns_query *q, const struct dns_answer *a,
		    uint8_t *out);
/* An answer that says this code and nothing else. out as above. */
size_t dns_error(const uint8_t *query, const struct dns_query *q, int rcode, uint8_t *out);

#endif
