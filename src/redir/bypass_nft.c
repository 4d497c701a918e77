/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sets learned4 and learned6 of our nft table, and others of the kind. Changed through struct rules, whose socket
 * owns the table; read by netlink.
 */
#include "redir/bypass.h"

#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "redir/rules.h"

#if defined(HAVE_LIBNFTABLES) && defined(HAVE_LIBMNL)

#include <stdio.h>
#include <sys/socket.h>

#include "redir/nft_read.h"

static int be_open(void **be, void *arg)
{
	*be = arg;
	return arg ? 0 : -ENODEV;
}

static void be_close(void *be)
{
	(void)be; /* the rules belong to somebody else */
}

/* "verb element ... { a . p timeout 60s, ... }" for the items of one family and kind, if any. */
static void put_elements(FILE *f, const char *set, const char *verb, bool timeouts,
			 const struct bypass_item *v, size_t n, sa_family_t family, bool add)
{
	char text[ADDR_STRLEN];
	bool any = false;

	for (size_t i = 0; i < n; i++) {
		if (addr_family(&v[i].addr) != family || v[i].add != add)
			continue;
		if (!any)
			fprintf(f, "%s element inet " RULES_NFT_TABLE " %s%c { ", verb, set,
				family == AF_INET ? '4' : '6');
		fprintf(f, "%s%s . %u", any ? ", " : "",
			addr_ip_str(&v[i].addr, text, sizeof(text)), addr_port(&v[i].addr));
		if (timeouts)
			fprintf(f, " timeout %us", v[i].add ? v[i].ttl_s : 1);
		any = true;
	}
	if (any)
		fprintf(f, " }\n");
}

/*
 * Deleting what is not there is an error, and kernels before 6.12 do not refresh the timeout of
 * what is. Adding, deleting and adding again in one transaction works in all cases, and at no
 * moment is the element missing.
 */
static int run(struct rules *r, const char *set, const struct bypass_item *v, size_t n)
{
	static const sa_family_t families[] = {AF_INET, AF_INET6};
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	int rc;

	if (!f)
		return -ENOMEM;
	for (size_t i = 0; i < 2; i++) {
		put_elements(f, set, "add", true, v, n, families[i], true);
		put_elements(f, set, "add", true, v, n, families[i], false);
		put_elements(f, set, "delete", false, v, n, families[i], true);
		put_elements(f, set, "delete", false, v, n, families[i], false);
		put_elements(f, set, "add", true, v, n, families[i], true);
	}
	rc = ferror(f) ? -ENOMEM : 0;
	if (fclose(f) != 0)
		rc = -ENOMEM;
	if (rc == 0)
		rc = rules_command(r, text);
	free(text);
	return rc;
}

/* One element may spoil a batch, for instance by expiring while it is handled. */
int bypass_nft_apply(struct rules *r, const char *set, const struct bypass_item *v, size_t n)
{
	int rc = run(r, set, v, n);

	if (rc != -ENOENT && rc != -EEXIST && rc != -EBUSY)
		return rc;
	for (size_t i = 0; i < n; i++) {
		rc = run(r, set, &v[i], 1);
		if (rc < 0 && !(rc == -ENOENT && !v[i].add))
			return rc;
	}
	return 0;
}

static int be_apply(void *be, const struct bypass_item *v, size_t n)
{
	return bypass_nft_apply(be, "learned", v, n);
}

static int be_list(void *be, bypass_list_fn *fn, void *ctx)
{
	struct netlink *nl = rules_netlink(be);
	int rc = nft_read_set(nl, RULES_NFT_TABLE, "learned4", fn, ctx);

	if (rc == 0)
		rc = nft_read_set(nl, RULES_NFT_TABLE, "learned6", fn, ctx);
	return rc;
}

const struct bypass_ops bypass_nft = {"nft", be_open, be_apply, be_list, be_close};

#else

const struct bypass_ops bypass_nft = {.name = "nft", .open = bypass_absent};

int bypass_nft_apply(struct rules *r, const char *set, const struct bypass_item *v, size_t n)
{
	(void)r;
	(void)set;
	(void)v;
	(void)n;
	return -ENOSYS;
}

#endif
