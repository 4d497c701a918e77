/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SOCKS 5 datagrams: the data lie behind the header, and what is written is read the same. */
#include <stdint.h>
#include <string.h>

#include "fuzz_assert.h"
#include "redir/front_dgram.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t head[FRONT_DGRAM_HEAD];
	struct front_dgram d, again;
	size_t len;

	if (!front_dgram_parse(data, size, &d))
		return 0;
	FUZZ_ASSERT(d.dst.port > 0 && d.len < size);
	FUZZ_ASSERT(d.data + d.len == data + size);
	FUZZ_ASSERT(d.dst.type == S6_ADDR_IPV4 || d.dst.type == S6_ADDR_IPV6 ||
		    d.dst.type == S6_ADDR_NAME);
	if (d.dst.type == S6_ADDR_NAME) {
		FUZZ_ASSERT(d.dst.name_len > 0 && strlen(d.dst.u.name) == d.dst.name_len);
		return 0;
	}
	len = front_dgram_head(&d.dst, head);
	FUZZ_ASSERT(len <= sizeof(head) && front_dgram_parse(head, len, &again));
	FUZZ_ASSERT(memcmp(&d.dst, &again.dst, sizeof(d.dst)) == 0 && again.len == 0);
	return 0;
}
