/* SPDX-License-Identifier: MIT */
/* UDP messages as packets: never "more", never different from the same octets in a stream. */
#include "fuzz_s6.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum s6_fault why = S6_FAULT_NONE;
	enum s6_result packet, stream;
	struct s6_udp m, again;
	size_t used = 0;

	packet = s6_udp_parse_packet(data, size, &m, &why);
	stream = s6_udp_parse_stream(data, size, &again, &used, NULL);
	FUZZ_ASSERT(packet != S6_MORE);
	FUZZ_ASSERT((packet == S6_BAD) == (why != S6_FAULT_NONE));
	if (packet == S6_BAD) {
		FUZZ_ASSERT(stream != S6_OK || why == S6_FAULT_UDP_TYPE);
		return 0;
	}
	FUZZ_ASSERT(stream == S6_OK && used <= size);
	FUZZ_SAME(differ_udp(&m, &again));
	/* what is behind the message is padding; without its last octet there is none */
	FUZZ_ASSERT(s6_udp_parse_packet(data, used, &again, NULL) == S6_OK);
	FUZZ_SAME(differ_udp(&m, &again));
	FUZZ_ASSERT(s6_udp_parse_packet(data, used - 1, &again, &why) == S6_BAD);
	FUZZ_ASSERT(why == S6_FAULT_UDP_LENGTH);
	return 0;
}
