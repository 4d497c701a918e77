/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The redirector's reading of a proxy's replies, octet by octet and all at once: same verdict. */
#include "fuzz_s6.h"
#include "redir/up_socks6.h"

/* Feed the input in pieces; the verdict that ended it, or UP_MORE. */
static enum up_verdict run(const uint8_t *data, size_t size, size_t piece, struct up_socks6 *u)
{
	size_t start = 0, end = 0, used;
	enum up_verdict v = UP_MORE;

	memset(u, 0, sizeof(*u));
	while (v == UP_MORE && end < size) {
		end = size - end > piece ? end + piece : size;
		do {
			v = up_socks6_feed(u, data + start, end - start, &used);
			FUZZ_ASSERT(used <= end - start);
			start += used;
		} while (v == UP_AUTHENTICATED);
	}
	return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct up_socks6 whole, pieces;

	if (size == 0 || size > 4096)
		return 0;
	FUZZ_ASSERT(run(data, size, size, &whole) == run(data, size, 7, &pieces));
	FUZZ_ASSERT(whole.code == pieces.code && whole.server_mptcp == pieces.server_mptcp);
	FUZZ_ASSERT(whole.has_session == pieces.has_session &&
		    whole.session_id_len <= SESSION_ID_MAX);
	return 0;
}
