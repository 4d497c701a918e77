/* SPDX-License-Identifier: GPL-2.0-or-later */
/* First octets: a name that is found is a public host name, and is written in them. */
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "fuzz_assert.h"
#include "redir/sniff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char name[SNIFF_NAME_MAX + 1];
	size_t len, at = 0;

	if (!sniff_name(data, size, 80, name))
		return 0;
	len = strlen(name);
	FUZZ_ASSERT(len >= 3 && len <= SNIFF_NAME_MAX && sniff_is_public(name));
	while (at + len <= size && strncasecmp((const char *)data + at, name, len) != 0)
		at++;
	FUZZ_ASSERT(at + len <= size);
	return 0;
}
