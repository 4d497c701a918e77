/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The redirector's reading of the replies of a SOCKS 5 proxy: octet by octet and all at once, same
 * verdict. */
#include "fuzz_s6.h"
#include "redir/up_socks6.h"

static enum up_verdict run(const uint8_t *data, size_t size, size_t piece, bool user,
			   struct up_socks6 *u)
{
	struct upstream up = {.protocol = PROTOCOL_SOCKS5, .pipeline = PIPELINE_DATA};
	struct upstream_chain chain = {.n = 1, .hop = {{.up = &up}}};
	struct up_request rq = {.command = S6_CMD_CONNECT, .chain = &chain};
	size_t start = 0, end = 0, used, len;
	uint8_t wire[UP_REQUEST_MAX];
	enum up_verdict v = UP_MORE;
	char text[] = "ann";
	struct addr dst;

	if (user)
		up.username = up.password = text;
	FUZZ_ASSERT(addr_parse(&dst, "203.0.113.5:80", -1));
	rq.dst = &dst;
	FUZZ_ASSERT(up_socks6_request(u, &rq, wire, &len));
	while (v == UP_MORE && end < size) {
		end = size - end > piece ? end + piece : size;
		do {
			v = up_socks6_feed(u, data + start, end - start, &used);
			FUZZ_ASSERT(used <= end - start);
			start += used;
			FUZZ_ASSERT(v != UP_CHAINED && u->at == 0);
			FUZZ_ASSERT(up_socks6_released(u, len) <= len);
		} while (v == UP_AUTHENTICATED);
	}
	return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct up_socks6 whole, pieces;

	if (size == 0 || size > 1024)
		return 0;
	for (int user = 0; user <= 1; user++) {
		FUZZ_ASSERT(run(data, size, size, user, &whole) ==
			    run(data, size, 1, user, &pieces));
		FUZZ_ASSERT(whole.hop[0].code == pieces.hop[0].code);
		FUZZ_ASSERT(whole.s5.step == pieces.s5.step);
	}
	return 0;
}
