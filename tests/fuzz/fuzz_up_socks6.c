/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The redirector's reading of the replies of one proxy, and of two in a row: octet by octet and all
 * at once, same verdict. */
#include "fuzz_s6.h"
#include "redir/up_socks6.h"

/* Feed the input in pieces; the verdict that ended it, or UP_MORE. */
static enum up_verdict run(const uint8_t *data, size_t size, size_t piece, unsigned hops,
			   struct up_socks6 *u)
{
	size_t start = 0, end = 0, used;
	enum up_verdict v = UP_MORE;

	memset(u, 0, sizeof(*u));
	u->n = hops;
	u->hop[0].in_session = u->hop[0].has_token = true;
	while (v == UP_MORE && end < size) {
		end = size - end > piece ? end + piece : size;
		do {
			v = up_socks6_feed(u, data + start, end - start, &used);
			FUZZ_ASSERT(used <= end - start);
			start += used;
			FUZZ_ASSERT(u->at < u->n && up_socks6_missing(u) < u->n);
		} while (v == UP_AUTHENTICATED || v == UP_CHAINED);
	}
	return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct up_socks6 whole, pieces;

	if (size == 0 || size > 4096)
		return 0;
	for (unsigned hops = 1; hops <= 2; hops++) {
		FUZZ_ASSERT(run(data, size, size, hops, &whole) ==
			    run(data, size, 7, hops, &pieces));
		FUZZ_ASSERT(whole.at == pieces.at);
		for (unsigned i = 0; i < hops; i++) {
			const struct up_hop *w = &whole.hop[i], *p = &pieces.hop[i];

			FUZZ_ASSERT(w->code == p->code && w->server_mptcp == p->server_mptcp);
			FUZZ_ASSERT(w->has_session == p->has_session &&
				    w->session_id_len <= SESSION_ID_MAX);
		}
	}
	return 0;
}
