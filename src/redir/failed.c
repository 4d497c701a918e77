/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/failed.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/list.h"

#define BUCKETS 1024 /* a power of 2 */

struct entry {
	struct list_node order; /* in used (oldest first) or unused */
	struct entry *next;     /* in its bucket */
	struct addr addr;
	int err; /* 0: it was reached after all, and failures are not believed */
	double until_s;
	/* What the mirror has, which may be an entry that was here before. */
	struct addr told_addr;
	enum held_answer told; /* HELD_GO_ON: nothing */
	double told_until_s;
};

struct failed {
	failed_wake_fn *wake;
	void *ctx;
	atomic_uint n; /* in used; changed under the lock */
	pthread_mutex_t lock;
	double ttl_s;
	bool dirty; /* something is to be told */
	struct list used, unused;
	struct entry *buckets[BUCKETS];
	struct failed_counts counts; /* but for now */
	unsigned touched;            /* of entries, the first ones; the rest was never used */
	struct entry entries[FAILED_MAX];
};

/* ---- what a failure means ---- */

enum held_answer failed_answer(int err)
{
	switch (err) {
	case ECONNREFUSED:
		return HELD_RESET;
	case ENETUNREACH:
		return HELD_NET_UNREACHABLE;
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ETIME:
	case ETIMEDOUT:
		return HELD_HOST_UNREACHABLE;
	case EACCES:
		return HELD_PROHIBITED;
	default:
		return HELD_GO_ON;
	}
}

const char *failed_answer_str(enum held_answer a)
{
	switch (a) {
	case HELD_RESET:
		return "reset";
	case HELD_HOST_UNREACHABLE:
		return "host";
	case HELD_NET_UNREACHABLE:
		return "net";
	case HELD_PROHIBITED:
		return "prohibited";
	default:
		return "none";
	}
}

/* ---- the table ---- */

/* A scope would not be found again: it does not stand in packets. */
static struct addr plain(const struct addr *a)
{
	struct addr p = *a;

	if (addr_family(&p) == AF_INET6)
		p.u.in6.sin6_scope_id = 0;
	return p;
}

static struct entry **bucket_of(struct failed *f, const struct addr *a)
{
	return &f->buckets[addr_hash(a, 0) & (BUCKETS - 1)];
}

static struct entry *find(struct failed *f, const struct addr *a)
{
	struct entry *e = *bucket_of(f, a);

	while (e && !addr_equal(&e->addr, a))
		e = e->next;
	return e;
}

static void drop(struct failed *f, struct entry *e)
{
	struct entry **p = bucket_of(f, &e->addr);

	while (*p != e)
		p = &(*p)->next;
	*p = e->next;
	e->err = 0;
	list_remove(&f->used, &e->order);
	list_push(&f->unused, &e->order);
	atomic_fetch_sub(&f->n, 1);
}

static bool lives(const struct entry *e, double now_s)
{
	return e->err && now_s < e->until_s;
}

static struct entry *first(const struct list *l)
{
	struct list_node *n = list_first(l);

	return n ? container_of(n, struct entry, order) : NULL;
}

/* All get the same time, so what has ended comes first, but for a shorter one since. */
static void expire(struct failed *f, double now_s)
{
	struct entry *e;

	while ((e = first(&f->used)) && now_s >= e->until_s)
		drop(f, e);
}

static void youngest(struct failed *f, struct entry *e)
{
	list_remove(&f->used, &e->order);
	list_push(&f->used, &e->order);
}

static struct entry *add(struct failed *f, const struct addr *a, double now_s)
{
	struct entry *e;

	if (!first(&f->unused) && f->touched < FAILED_MAX) {
		e = &f->entries[f->touched++];
		memset(e, 0, sizeof(*e));
		list_push(&f->unused, &e->order);
	} else if (!first(&f->unused)) {
		e = first(&f->used);
		f->counts.evicted += lives(e, now_s);
		drop(f, e);
	}
	e = first(&f->unused);
	list_remove(&f->unused, &e->order);
	list_push(&f->used, &e->order);
	e->addr = *a;
	e->next = *bucket_of(f, a);
	*bucket_of(f, a) = e;
	atomic_fetch_add(&f->n, 1);
	return e;
}

/* Locked. True: who tells the mirror has to be woken, once the lock is given back. */
static bool soil(struct failed *f)
{
	bool was = f->dirty;

	f->dirty = true;
	return !was && f->wake;
}

static void unlock(struct failed *f, bool wake)
{
	pthread_mutex_unlock(&f->lock);
	if (wake)
		f->wake(f->ctx);
}

/* ---- from any thread ---- */

bool failed_put(struct failed *f, const struct addr *a, int err, double now_s)
{
	struct addr key = plain(a);
	bool remembered = false, wake = false;
	struct entry *e;

	if (failed_answer(err) == HELD_GO_ON)
		return false;
	pthread_mutex_lock(&f->lock);
	if (f->ttl_s > 0) {
		expire(f, now_s);
		e = find(f, &key);
		if (e && !e->err && now_s < e->until_s) {
			f->counts.disputed++;
		} else {
			if (e)
				youngest(f, e);
			else
				e = add(f, &key, now_s);
			e->err = err;
			e->until_s = now_s + f->ttl_s;
			f->counts.remembered++;
			remembered = true;
			wake = soil(f);
		}
	}
	unlock(f, wake);
	return remembered;
}

void failed_succeeded(struct failed *f, const struct addr *a, double now_s)
{
	struct addr key;
	bool wake = false;
	struct entry *e;

	if (atomic_load(&f->n) == 0)
		return;
	key = plain(a);
	pthread_mutex_lock(&f->lock);
	e = find(f, &key);
	if (e && lives(e, now_s)) {
		e->err = 0;
		e->until_s = now_s + f->ttl_s;
		youngest(f, e);
		f->counts.recovered++;
		wake = soil(f);
	}
	unlock(f, wake);
}

int failed_look(struct failed *f, const struct addr *a, double now_s, bool count)
{
	struct addr key;
	struct entry *e;
	int err = 0;

	if (atomic_load(&f->n) == 0)
		return 0;
	key = plain(a);
	pthread_mutex_lock(&f->lock);
	e = find(f, &key);
	if (e && lives(e, now_s))
		err = e->err;
	f->counts.refused += count && err;
	pthread_mutex_unlock(&f->lock);
	return err;
}

static unsigned count_live(struct failed *f, double now_s)
{
	struct list_node *node, *tmp;
	unsigned n = 0;

	list_for_each_safe (&f->used, node, tmp)
		n += lives(container_of(node, struct entry, order), now_s);
	return n;
}

unsigned failed_clear(struct failed *f, double now_s)
{
	struct entry *e;
	unsigned n;
	bool wake;

	pthread_mutex_lock(&f->lock);
	n = count_live(f, now_s);
	while ((e = first(&f->used)))
		drop(f, e);
	wake = soil(f);
	unlock(f, wake);
	return n;
}

unsigned failed_list(struct failed *f, double now_s, struct failed_item *out)
{
	struct list_node *node, *tmp;
	unsigned n = 0;

	pthread_mutex_lock(&f->lock);
	list_for_each_safe (&f->used, node, tmp) {
		const struct entry *e = container_of(node, struct entry, order);

		if (lives(e, now_s))
			out[n++] = (struct failed_item){
				.addr = e->addr, .err = e->err, .left_s = e->until_s - now_s};
	}
	pthread_mutex_unlock(&f->lock);
	return n;
}

void failed_count(struct failed *f, double now_s, struct failed_counts *out)
{
	pthread_mutex_lock(&f->lock);
	*out = f->counts;
	out->now = count_live(f, now_s);
	pthread_mutex_unlock(&f->lock);
}

/* ---- the mirror ---- */

static uint32_t whole_seconds(double left_s)
{
	return left_s > 1.5 ? (uint32_t)(left_s + 0.5) : 1;
}

/* What this entry wants the mirror to have. */
static enum held_answer wanted(const struct entry *e, double now_s)
{
	return lives(e, now_s) ? failed_answer(e->err) : HELD_GO_ON;
}

static bool has(const struct entry *e, enum held_answer want, double now_s)
{
	return e->told == want && now_s < e->told_until_s && addr_equal(&e->told_addr, &e->addr);
}

unsigned failed_tell(struct failed *f, double now_s, struct failed_change *out)
{
	unsigned n = 0;

	pthread_mutex_lock(&f->lock);
	f->dirty = false;
	for (struct entry *e = f->entries; e < f->entries + f->touched; e++) {
		if (e->told == HELD_GO_ON || has(e, wanted(e, now_s), now_s))
			continue;
		if (now_s < e->told_until_s)
			out[n++] = (struct failed_change){.addr = e->told_addr, .answer = e->told};
		e->told = HELD_GO_ON;
	}
	for (struct entry *e = f->entries; e < f->entries + f->touched; e++) {
		enum held_answer want = wanted(e, now_s);

		if (want == HELD_GO_ON || (has(e, want, now_s) && e->told_until_s >= e->until_s))
			continue;
		e->told = want;
		e->told_addr = e->addr;
		e->told_until_s = e->until_s;
		out[n++] = (struct failed_change){.addr = e->addr,
						  .answer = want,
						  .add = true,
						  .ttl_s = whole_seconds(e->until_s - now_s)};
	}
	pthread_mutex_unlock(&f->lock);
	return n;
}

void failed_untold(struct failed *f)
{
	bool wake;

	pthread_mutex_lock(&f->lock);
	for (struct entry *e = f->entries; e < f->entries + f->touched; e++)
		e->told = HELD_GO_ON;
	wake = soil(f);
	unlock(f, wake);
}

/* ---- life ---- */

void failed_set_ttl(struct failed *f, double ttl_s)
{
	struct entry *e;
	bool wake = false;

	pthread_mutex_lock(&f->lock);
	f->ttl_s = ttl_s;
	if (ttl_s <= 0) {
		while ((e = first(&f->used)))
			drop(f, e);
		wake = soil(f);
	}
	unlock(f, wake);
}

struct failed *failed_new(double ttl_s, failed_wake_fn *wake, void *ctx)
{
	/* Not calloc, which may clear, and so touch, all of it. */
	struct failed *f = malloc(sizeof(*f));

	if (!f)
		return NULL;
	memset(f, 0, offsetof(struct failed, entries));
	f->ttl_s = ttl_s;
	f->wake = wake;
	f->ctx = ctx;
	pthread_mutex_init(&f->lock, NULL);
	list_init(&f->used);
	list_init(&f->unused);
	return f;
}

void failed_free(struct failed *f)
{
	if (!f)
		return;
	pthread_mutex_destroy(&f->lock);
	free(f);
}
