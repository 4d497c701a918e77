/* SPDX-License-Identifier: GPL-2.0-or-later */
/* DNS: a query and what is said to be its answer, behind two octets that hold the query's length. What
 * is built of them is well formed. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_assert.h"
#include "redir/dnsmsg.h"

#define SHORT_MAX (DNS_HEADER + DNS_NAME_MAX + 4 + 11)

static void check_answer(const struct dns_query *q, const uint8_t *query, const uint8_t *data,
			 size_t len)
{
	uint8_t *msg = malloc(len ? len : 1), out[SHORT_MAX];
	struct dns_answer a, again;
	size_t cut;

	FUZZ_ASSERT(msg);
	memcpy(msg, data, len);
	if (dns_answer_parse(msg, len, q, &a)) {
		FUZZ_ASSERT(a.opt + a.opt_len <= len && (!a.keep || a.ttl > 0));
		dns_age(msg, len, 1);
		dns_answer_adopt(msg, query, q);
		FUZZ_ASSERT(dns_answer_parse(msg, len, q, &again));
		FUZZ_ASSERT(again.id == q->id && again.opt == a.opt && again.ttl <= a.ttl);
		cut = dns_truncate(msg, q, &a, out);
		FUZZ_ASSERT(cut >= DNS_HEADER && cut <= sizeof(out) && cut <= len);
		FUZZ_ASSERT(dns_answer_parse(out, cut, q, &again));
		FUZZ_ASSERT(again.truncated && !again.keep);
	}
	free(msg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t out[SHORT_MAX];
	struct dns_query q, again;
	struct dns_answer a;
	size_t len, n;
	int rc;

	if (size < 2)
		return 0;
	len = (size_t)(data[0] << 8 | data[1]);
	data += 2;
	size -= 2;
	len = len < size ? len : size;
	rc = dns_query_parse(data, len, &q);
	if (rc < 0)
		return 0;
	FUZZ_ASSERT(q.question_len <= DNS_NAME_MAX + 4 && q.key.len <= DNS_KEY_MAX);
	FUZZ_ASSERT(dns_error(data, &q, rc ? rc : DNS_SERVFAIL, out) <= sizeof(out));
	if (rc > 0)
		return 0;
	n = dns_error(data, &q, DNS_SERVFAIL, out);
	FUZZ_ASSERT(dns_answer_parse(out, n, &q, &a) && a.rcode == DNS_SERVFAIL && a.id == q.id);
	n = dns_query_build(data, &q, 0x1234, out);
	FUZZ_ASSERT(n <= len && dns_query_parse(out, n, &again) == DNS_NOERROR);
	FUZZ_ASSERT(again.id == 0x1234 && again.key.len == q.key.len);
	FUZZ_ASSERT(memcmp(again.key.octets, q.key.octets, q.key.len) == 0);
	FUZZ_ASSERT(q.room >= DNS_UDP_PLAIN && q.room <= DNS_UDP_MAX);
	check_answer(&q, data, data + len, size - len);
	return 0;
}
