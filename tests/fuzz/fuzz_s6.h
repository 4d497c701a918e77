/* SPDX-License-Identifier: MIT */
/*
 * What every target of libsocks6 checks beside memory safety: a parser that takes a message uses
 * no more than it was given; every shorter input needs more; and what it understood, built and
 * parsed again, means the same.
 */
#ifndef FUZZ_S6_H
#define FUZZ_S6_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_assert.h"
#include "libsocks6/socks6.h"
#include "../unit/s6_differ.h"

#define FUZZ_SAME(x)                                                                               \
	do {                                                                                       \
		const char *field_ = (x);                                                          \
		if (field_) {                                                                      \
			fprintf(stderr, "%s:%d: %s differs\n", __FILE__, __LINE__, field_);        \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* Lengths to cut a message of n octets at: all, but of a long one not those in the middle. */
static inline size_t fuzz_next_cut(size_t cut, size_t n)
{
	return cut == 256 && n > 512 ? n - 256 : cut + 1;
}

/* LLVMFuzzerTestOneInput for s6_NAME_parse and s6_NAME_build. */
#define FUZZ_MESSAGE(NAME, TYPE)                                                                   \
	int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);                              \
	int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)                               \
	{                                                                                          \
		static uint8_t built[65536];                                                       \
		TYPE m, again;                                                                     \
		enum s6_result result;                                                             \
		size_t used = 0, len = 0, none = 0;                                                \
                                                                                                   \
		if (s6_##NAME##_parse(data, size, &m, &used, NULL) != S6_OK)                       \
			return 0;                                                                  \
		FUZZ_ASSERT(used > 0 && used <= size);                                             \
		for (size_t cut = 0; cut < used; cut = fuzz_next_cut(cut, used))                   \
			FUZZ_ASSERT(s6_##NAME##_parse(data, cut, &again, &none, NULL) == S6_MORE); \
		FUZZ_ASSERT(none == 0);                                                            \
		result = s6_##NAME##_build(&m, built, sizeof(built), &len);                        \
		if ((data[2] << 8 | data[3]) > S6_OPTIONS_SEND_MAX && result == S6_BAD)            \
			return 0; /* more than we would ever send */                               \
		FUZZ_ASSERT(result == S6_OK);                                                      \
		FUZZ_ASSERT(s6_##NAME##_parse(built, len, &again, &used, NULL) == S6_OK);          \
		FUZZ_ASSERT(used == len && again.opts.refuse == S6_FAULT_NONE);                    \
		FUZZ_SAME(differ_##NAME(&again, &m));                                              \
		return 0;                                                                          \
	}

#endif
