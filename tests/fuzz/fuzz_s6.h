/* SPDX-License-Identifier: MIT */
/*
 * What every target of libsocks6 checks beside memory safety: a parser that takes a message uses
 * no more than it was given; every shorter input needs more; and what it understood, built and
 * parsed again, is understood the same.
 */
#ifndef FUZZ_S6_H
#define FUZZ_S6_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libsocks6/socks6.h"

#define FUZZ_ASSERT(x)                                                                             \
	do {                                                                                       \
		if (!(x))                                                                          \
			abort();                                                                   \
	} while (0)

/* MESSAGE(name, type): LLVMFuzzerTestOneInput for s6_<name>_parse and s6_<name>_build. */
#define FUZZ_MESSAGE(name, type)                                                                   \
	int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);                              \
	int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)                               \
	{                                                                                          \
		static uint8_t first[65536], second[65536];                                        \
		type m, again;                                                                     \
		enum s6_fault why = S6_FAULT_NONE;                                                 \
		size_t used = 0, cut = 0, len = 0, len2 = 0;                                       \
                                                                                                   \
		if (s6_##name##_parse(data, size, &m, &used, &why) != S6_OK)                       \
			return 0;                                                                  \
		FUZZ_ASSERT(used > 0 && used <= size);                                             \
		for (size_t n = used > 64 ? used - 64 : 0; n < used; n++)                          \
			FUZZ_ASSERT(s6_##name##_parse(data, n, &again, &cut, &why) == S6_MORE);    \
		if (s6_##name##_build(&m, first, sizeof(first), &len) != S6_OK)                    \
			return 0; /* more options than we would ever send */                       \
		FUZZ_ASSERT(s6_##name##_parse(first, len, &again, &used, &why) == S6_OK);          \
		FUZZ_ASSERT(used == len);                                                          \
		FUZZ_ASSERT(s6_##name##_build(&again, second, sizeof(second), &len2) == S6_OK);    \
		FUZZ_ASSERT(len == len2 && memcmp(first, second, len) == 0);                       \
		return 0;                                                                          \
	}

#endif
