/* SPDX-License-Identifier: MIT */
/* UDP messages, from a stream and as a packet: the two must agree. */
#include "fuzz_s6.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t first[65536];
	struct s6_udp stream, packet, again;
	enum s6_fault why = S6_FAULT_NONE;
	enum s6_result from_stream, from_packet;
	size_t used = 0, len = 0, cut = 0;

	from_stream = s6_udp_parse_stream(data, size, &stream, &used, &why);
	from_packet = s6_udp_parse_packet(data, size, &packet, &why);
	FUZZ_ASSERT(from_packet != S6_MORE);
	if (from_packet == S6_OK)
		FUZZ_ASSERT(from_stream == S6_OK);
	if (from_stream != S6_OK)
		return 0;
	FUZZ_ASSERT(used >= S6_UDP_HEADER && used <= size);
	FUZZ_ASSERT(s6_udp_parse_stream(data, used - 1, &again, &cut, &why) == S6_MORE);
	if (from_packet != S6_OK)
		return 0; /* an unknown type: skipped in streams, never built */
	if (s6_udp_build(&packet, first, sizeof(first), &len) != S6_OK)
		return 0; /* padding made it longer than a message can be */
	FUZZ_ASSERT(s6_udp_parse_packet(first, len, &again, &why) == S6_OK);
	FUZZ_ASSERT(again.type == packet.type && again.association == packet.association);
	FUZZ_ASSERT(again.payload_len == packet.payload_len);
	FUZZ_ASSERT(!packet.payload_len ||
		    memcmp(again.payload, packet.payload, packet.payload_len) == 0);
	return 0;
}
