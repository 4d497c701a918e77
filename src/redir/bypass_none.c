/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The back end that leaves the kernel alone: action = relay, or backend = none. */
#include "redir/bypass.h"

#include <errno.h>

static int none_open(void **be, void *arg)
{
	(void)arg;
	*be = NULL;
	return 0;
}

static int none_apply(void *be, const struct bypass_item *v, size_t n)
{
	(void)be;
	(void)v;
	(void)n;
	return 0;
}

static int none_list(void *be, bypass_list_fn *fn, void *ctx)
{
	(void)be;
	(void)fn;
	(void)ctx;
	return 0;
}

static void none_close(void *be)
{
	(void)be;
}

const struct bypass_ops bypass_none = {"none", none_open, none_apply, none_list, none_close};

int bypass_absent(void **be, void *arg)
{
	(void)arg;
	*be = NULL;
	return -ENOSYS;
}
