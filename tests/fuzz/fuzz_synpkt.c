/* SPDX-License-Identifier: GPL-2.0-or-later */
/* First packets of connections: nothing outside of them is read, and what is found lies inside. */
#include <stdint.h>
#include <string.h>

#include "fuzz_assert.h"
#include "redir/synpkt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct synpkt p, cut;

	if (synpkt_parse(&p, data, size) != SYNPKT_OK)
		return 0;
	FUZZ_ASSERT(addr_family(&p.src) == AF_INET || addr_family(&p.src) == AF_INET6);
	FUZZ_ASSERT(addr_family(&p.src) == addr_family(&p.dst));
	FUZZ_ASSERT(p.dscp < 64 && p.mp_capable <= 40 && p.cookie <= 38);
	FUZZ_ASSERT(p.data >= data + 40 && p.data_len <= (size_t)(data + size - p.data));
	FUZZ_ASSERT(p.data <= data + SYNPKT_HEAD_MAX);
	FUZZ_ASSERT(!synpkt_agrees_mptcp(&p) || p.ack);
	/* Without its data it says the same, and one octet less is refused. */
	FUZZ_ASSERT(synpkt_parse(&cut, data, (size_t)(p.data - data)) == SYNPKT_OK);
	FUZZ_ASSERT(cut.mp_capable == p.mp_capable && cut.data_len == 0);
	FUZZ_ASSERT(addr_equal(&cut.src, &p.src) && addr_equal(&cut.dst, &p.dst));
	FUZZ_ASSERT(synpkt_parse(&cut, data, (size_t)(p.data - data) - 1) == SYNPKT_TRUNCATED);
	return 0;
}
