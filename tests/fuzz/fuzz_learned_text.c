/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file of learned servers: what is taken is bounded, and written and taken again the same. */
#include <stdint.h>
#include <string.h>

#include "fuzz_assert.h"
#include "redir/learned_text.h"

#define MAX 8

static unsigned entries(struct learned *l)
{
	struct learned_counts c;

	learned_count(l, &c);
	FUZZ_ASSERT(c.v4.mptcp + c.v4.plain <= MAX && c.v6.mptcp + c.v6.plain <= MAX);
	return c.v4.mptcp + c.v4.plain + c.v6.mptcp + c.v6.plain;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct learned_limits limits = {.max = MAX, .ttl_s = 1000, .plain_ttl_s = 100};
	struct learned *l = learned_new(&limits, 4), *again = learned_new(&limits, 4);
	char msg[LEARNED_TEXT_MSG], *text, *second;
	size_t len, second_len;
	int rc;

	FUZZ_ASSERT(l && again);
	rc = learned_text_take(l, (const char *)data, size, 5, 1000000, msg, sizeof(msg));
	FUZZ_ASSERT(memchr(msg, '\0', sizeof(msg)) && msg[0] != '\0');
	FUZZ_ASSERT(rc == 0 || entries(l) == 0);
	FUZZ_ASSERT(learned_text_format(l, 5, 1000000, &text, &len) == 0);
	FUZZ_ASSERT(learned_text_take(again, text, len, 5, 1000000, msg, sizeof(msg)) == 0);
	FUZZ_ASSERT(entries(again) == entries(l));
	FUZZ_ASSERT(learned_text_format(again, 5, 1000000, &second, &second_len) == 0);
	FUZZ_ASSERT(len == second_len && memcmp(text, second, len) == 0);
	free(text);
	free(second);
	learned_free(l);
	learned_free(again);
	return 0;
}
