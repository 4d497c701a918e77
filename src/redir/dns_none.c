/* SPDX-License-Identifier: GPL-2.0-or-later */
/* configure --disable-dns: nothing is served, as the configuration refuses what would ask for it. */
#include "redir/dns.h"

#include <stddef.h>

int dns_open(struct dns **out, struct redir_worker *rw)
{
	(void)rw;
	*out = NULL;
	return 0;
}

void dns_start(struct dns *d)
{
	(void)d;
}

void dns_stop(struct dns *d)
{
	(void)d;
}

void dns_free(struct dns *d)
{
	(void)d;
}

void dns_count(const struct dns *d, struct dns_counts *sum)
{
	(void)d;
	(void)sum;
}

void dns_report(struct report *r, const struct dns_counts *c)
{
	(void)r;
	(void)c;
}
