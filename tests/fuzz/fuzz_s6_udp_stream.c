/* SPDX-License-Identifier: MIT */
/* UDP messages on the TCP connection, one behind the other. */
#include "fuzz_s6.h"

static void check(const uint8_t *data, size_t used, const struct s6_udp *m)
{
	static uint8_t built[65536];
	size_t len = 0, none = 0;
	struct s6_udp again;
	enum s6_result result;

	for (size_t cut = 0; cut < used; cut = fuzz_next_cut(cut, used))
		FUZZ_ASSERT(s6_udp_parse_stream(data, cut, &again, &none, NULL) == S6_MORE);
	FUZZ_ASSERT(none == 0);
	result = s6_udp_build(m, built, sizeof(built), &len);
	if (m->type < S6_UDP_INIT || m->type > S6_UDP_ERROR) {
		FUZZ_ASSERT(result == S6_BAD); /* unknown types are skipped, never built */
		return;
	}
	if (m->type == S6_UDP_DATAGRAM && used > UINT16_MAX - 3 && result == S6_BAD)
		return; /* with the padding of its name it would be too long */
	FUZZ_ASSERT(result == S6_OK);
	FUZZ_ASSERT(s6_udp_parse_stream(built, len, &again, &used, NULL) == S6_OK);
	FUZZ_ASSERT(used == len);
	FUZZ_SAME(differ_udp(&again, m));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct s6_udp m;
	size_t used;

	while (s6_udp_parse_stream(data, size, &m, &used, NULL) == S6_OK) {
		FUZZ_ASSERT(used >= S6_UDP_HEADER && used <= size);
		check(data, used, &m);
		data += used;
		size -= used;
	}
	return 0;
}
