/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/happy.h"

#include <string.h>

/* The first address from i on that is (or is not) of the family; n if there is none. */
static unsigned seek(const struct addr *addrs, unsigned n, unsigned i, sa_family_t family, bool is)
{
	while (i < n && (addr_family(&addrs[i]) == family) != is)
		i++;
	return i;
}

void happy_order(struct addr *addrs, unsigned n)
{
	sa_family_t first = n ? addr_family(&addrs[0]) : AF_UNSPEC;

	for (unsigned out = 1; out < n; out++) {
		unsigned pick = seek(addrs, n, out, first, out % 2 == 0);
		struct addr picked;

		if (pick == n)
			return; /* only one family is left, in its order */
		picked = addrs[pick];
		memmove(&addrs[out + 1], &addrs[out], (pick - out) * sizeof(*addrs));
		addrs[out] = picked;
	}
}
