/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/bypass.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

#define LIST_TRIES 5
#define LIST_MAX   (1U << 18) /* elements; more than that is not ours to handle */
/* A life in the kernel that differs by less is left as it is. */
#define SLACK_S     30U
#define SLACK_SHARE 8U /* or this part of the life that is wanted */

struct bypass {
	const struct bypass_ops *ops;
	void *be, *arg;
	bool open, failed;
	uint64_t changes;
	size_t n;
	struct bypass_item pending[BYPASS_BATCH];
};

static int fail(struct bypass *b, int rc)
{
	if (!b->failed)
		log_warning("bypass: %s: %s; learned servers are reached by relay instead",
			    b->ops->name, rc == -ENOSYS ? "not built in" : strerror(-rc));
	b->failed = true;
	b->n = 0;
	return rc;
}

static int ensure_open(struct bypass *b)
{
	int rc;

	if (b->open)
		return 0;
	rc = b->ops->open(&b->be, b->arg);
	b->open = rc == 0;
	return rc;
}

struct bypass *bypass_new(const struct bypass_ops *ops, void *arg)
{
	struct bypass *b = calloc(1, sizeof(*b));
	int rc;

	if (!b)
		return NULL;
	b->ops = ops;
	b->arg = arg;
	rc = ensure_open(b);
	if (rc < 0)
		fail(b, rc);
	return b;
}

void bypass_free(struct bypass *b)
{
	if (!b)
		return;
	if (b->open)
		b->ops->close(b->be);
	free(b);
}

/* ---- batches ---- */

int bypass_flush(struct bypass *b)
{
	int rc;

	if (b->n == 0 || b->failed)
		return 0;
	rc = b->ops->apply(b->be, b->pending, b->n);
	if (rc < 0)
		return fail(b, rc);
	b->changes += b->n;
	b->n = 0;
	return 0;
}

static int put(struct bypass *b, const struct addr *a, bool add, uint32_t ttl_s)
{
	struct bypass_item *item = NULL;
	int rc = 0;

	if (b->failed)
		return 0;
	for (size_t i = 0; i < b->n && !item; i++)
		if (addr_equal(&b->pending[i].addr, a))
			item = &b->pending[i];
	if (!item) {
		if (b->n == BYPASS_BATCH)
			rc = bypass_flush(b);
		if (rc < 0)
			return rc;
		item = &b->pending[b->n++];
	}
	*item = (struct bypass_item){.addr = *a, .add = add, .ttl_s = ttl_s ? ttl_s : 1};
	return 0;
}

void bypass_add(struct bypass *b, const struct addr *a, uint32_t ttl_s)
{
	put(b, a, true, ttl_s);
}

void bypass_del(struct bypass *b, const struct addr *a)
{
	put(b, a, false, 0);
}

/* ---- reconciling ---- */

/* The wanted entries by address: an open-addressed table of indices + 1. */
struct index {
	const struct bypass_entry *v;
	uint32_t *slot;
	bool *met; /* by index of v */
	size_t mask;
};

static int index_make(struct index *x, const struct bypass_entry *v, size_t n)
{
	size_t size = 16;

	while (size < 2 * n)
		size *= 2;
	x->v = v;
	x->mask = size - 1;
	x->slot = calloc(size, sizeof(*x->slot));
	x->met = calloc(n ? n : 1, sizeof(*x->met));
	if (!x->slot || !x->met)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		size_t at = addr_hash(&v[i].addr, 0) & x->mask;
		while (x->slot[at] && !addr_equal(&v[x->slot[at] - 1].addr, &v[i].addr))
			at = (at + 1) & x->mask;
		if (x->slot[at])
			x->met[i] = true; /* wanted twice: the first one counts */
		else
			x->slot[at] = (uint32_t)i + 1;
	}
	return 0;
}

/* Index + 1, or 0. */
static uint32_t index_find(const struct index *x, const struct addr *a)
{
	size_t at = addr_hash(a, 0) & x->mask;

	while (x->slot[at] && !addr_equal(&x->v[x->slot[at] - 1].addr, a))
		at = (at + 1) & x->mask;
	return x->slot[at];
}

static void index_free(struct index *x)
{
	free(x->slot);
	free(x->met);
}

/* What the kernel has: collected first, because nothing can be changed while it is listed. */
struct listing {
	struct bypass_entry *v;
	size_t n, cap;
	int rc;
};

static void collect(void *ctx, const struct addr *a, uint32_t left_s)
{
	struct listing *l = ctx;

	if (l->n == l->cap && l->rc == 0) {
		size_t cap = l->cap ? 2 * l->cap : 256;
		struct bypass_entry *v = cap <= LIST_MAX ? realloc(l->v, cap * sizeof(*v)) : NULL;
		if (v) {
			l->v = v;
			l->cap = cap;
		} else {
			l->rc = cap <= LIST_MAX ? -ENOMEM : -E2BIG;
		}
	}
	if (l->rc == 0)
		l->v[l->n++] = (struct bypass_entry){.addr = *a, .left_s = left_s};
}

static int list_all(struct bypass *b, struct listing *l)
{
	int rc = -EINTR;

	for (int i = 0; i < LIST_TRIES && rc == -EINTR; i++) {
		l->n = 0;
		rc = b->ops->list(b->be, collect, l);
		if (rc == 0)
			rc = l->rc;
	}
	return rc;
}

static bool differs(uint32_t has, uint32_t wanted)
{
	uint32_t gap = has > wanted ? has - wanted : wanted - has;
	uint32_t slack = wanted / SLACK_SHARE > SLACK_S ? wanted / SLACK_SHARE : SLACK_S;

	return has == 0 || gap > slack;
}

static int apply_difference(struct bypass *b, const struct listing *l, struct index *x, size_t n,
			    struct bypass_diff *d)
{
	int rc = 0;

	for (size_t i = 0; i < l->n && rc == 0; i++) {
		uint32_t at = index_find(x, &l->v[i].addr);
		const struct bypass_entry *want = at ? &x->v[at - 1] : NULL;
		if (!want || want->left_s == 0) {
			rc = put(b, &l->v[i].addr, false, 0);
			d->removed++;
		} else if (differs(l->v[i].left_s, want->left_s)) {
			rc = put(b, &want->addr, true, want->left_s);
			d->refreshed++;
		} else {
			d->kept++;
		}
		if (at)
			x->met[at - 1] = true;
	}
	for (size_t i = 0; i < n && rc == 0; i++) {
		if (x->met[i] || x->v[i].left_s == 0)
			continue;
		rc = put(b, &x->v[i].addr, true, x->v[i].left_s);
		d->added++;
	}
	return rc == 0 ? bypass_flush(b) : rc;
}

int bypass_reconcile(struct bypass *b, const struct bypass_entry *v, size_t n,
		     struct bypass_diff *diff)
{
	struct bypass_diff d = {0};
	struct listing l = {0};
	struct index x = {0};
	bool had_failed = b->failed;
	int rc = ensure_open(b);

	b->n = 0;
	if (rc == 0)
		rc = n <= LIST_MAX ? index_make(&x, v, n) : -E2BIG;
	if (rc == 0)
		rc = list_all(b, &l);
	if (rc == 0) {
		b->failed = false;
		rc = apply_difference(b, &l, &x, n, &d);
		/* It failed before, and that has been told. */
		b->failed = b->failed || (rc < 0 && had_failed);
	} else {
		fail(b, rc);
	}
	index_free(&x);
	free(l.v);
	if (diff)
		*diff = d;
	if (rc == 0 && had_failed)
		log_notice("bypass: %s works again", b->ops->name);
	return rc;
}

bool bypass_works(const struct bypass *b)
{
	return !b->failed;
}

const char *bypass_name(const struct bypass *b)
{
	return b->ops->name;
}

uint64_t bypass_changes(const struct bypass *b)
{
	return b->changes;
}
