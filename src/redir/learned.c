/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/learned.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "redir/learned_direct.h"
#include "redir/learned_family.h"
#include "redir/learned_journal.h"

enum { V4, V6, FAMILIES };

struct learned {
	struct family families[FAMILIES];
	struct journal journal;
	struct direct direct;
};

const char *learned_verdict_str(enum learned_verdict v)
{
	static const char *const words[] = {[LEARNED_UNKNOWN] = "unknown",
					    [LEARNED_MPTCP] = "mptcp",
					    [LEARNED_PLAIN] = "plain"};

	return (size_t)v < LEARNED_VERDICTS ? words[v] : "unknown";
}

const char *learned_evidence_str(enum learned_evidence e)
{
	static const char *const words[] = {[LEARNED_FROM_SYNACK] = "synack",
					    [LEARNED_FROM_PROXY] = "proxy",
					    [LEARNED_FROM_DIRECT] = "direct",
					    [LEARNED_FROM_ADMIN] = "admin"};

	return (size_t)e < LEARNED_EVIDENCES ? words[e] : "unknown";
}

uint32_t learned_seconds(double left_s)
{
	uint32_t whole;

	if (!(left_s < UINT32_MAX))
		return 0;
	whole = left_s > 1 ? (uint32_t)left_s : 1;
	return whole + (whole < left_s);
}

/* ---- life ---- */

/* Within what the table can do. */
static struct learned_limits bounded(const struct learned_limits *limits)
{
	struct learned_limits b = *limits;

	if (b.max > LEARNED_MAX_MAX)
		b.max = LEARNED_MAX_MAX;
	return b;
}

struct learned *learned_new(const struct learned_limits *limits, unsigned journal)
{
	struct learned_limits b = bounded(limits);
	struct learned *l = calloc(1, sizeof(*l));
	bool ok;

	if (!l)
		return NULL;
	direct_init(&l->direct);
	ok = journal_init(&l->journal, journal);
	for (unsigned i = 0; i < FAMILIES; i++)
		ok = family_init(&l->families[i], &b, &l->journal) && ok;
	if (ok)
		return l;
	learned_free(l);
	return NULL;
}

void learned_free(struct learned *l)
{
	if (!l)
		return;
	for (unsigned i = 0; i < FAMILIES; i++)
		family_free(&l->families[i]);
	journal_free(&l->journal);
	direct_free(&l->direct);
	free(l);
}

/* ---- one entry ---- */

/* The family of an address, locked, and the address as a key. NULL: it is none. */
static struct family *lock_family(struct learned *l, const struct addr *a, struct addr *key)
{
	struct family *f;

	if (a->len == 0 || !addr_from_sockaddr(key, &a->u.sa, a->len) || addr_port(key) == 0)
		return NULL;
	f = &l->families[addr_family(key) == AF_INET ? V4 : V6];
	pthread_mutex_lock(&f->lock);
	return f;
}

static void unlock_family(struct family *f)
{
	pthread_mutex_unlock(&f->lock);
}

static bool put(struct learned *l, const struct addr *a, enum learned_verdict v,
		enum learned_evidence e, double admin_ttl_s, double now_s)
{
	struct addr key;
	struct family *f;
	struct slot *s;
	bool says;

	if (v != LEARNED_MPTCP && v != LEARNED_PLAIN)
		return false;
	f = lock_family(l, a, &key);
	if (!f)
		return false;
	s = family_find(f, &key, now_s);
	if (!s)
		s = family_add(f, &key, now_s);
	if (s && family_yields(s, e))
		family_change(f, s, v, e, admin_ttl_s, now_s);
	says = s && s->verdict == v;
	unlock_family(f);
	return says;
}

bool learned_put(struct learned *l, const struct addr *a, enum learned_verdict v,
		 enum learned_evidence e, double now_s)
{
	return put(l, a, v, e, INFINITY, now_s);
}

bool learned_put_admin(struct learned *l, const struct addr *a, enum learned_verdict v,
		       double ttl_s, double now_s)
{
	return put(l, a, v, LEARNED_FROM_ADMIN, ttl_s < UINT32_MAX ? ttl_s : INFINITY, now_s);
}

enum learned_verdict learned_look(struct learned *l, const struct addr *a, double now_s,
				  bool count_hit)
{
	enum learned_verdict v = LEARNED_UNKNOWN;
	struct addr key;
	struct family *f = lock_family(l, a, &key);
	struct slot *s;

	if (!f)
		return v;
	s = family_find(f, &key, now_s);
	if (s)
		v = s->verdict;
	if (v != LEARNED_UNKNOWN && count_hit) {
		s->hits++;
		table_touch(&f->table, s);
	}
	unlock_family(f);
	return v;
}

bool learned_remove(struct learned *l, const struct addr *a)
{
	struct addr key;
	struct family *f = lock_family(l, a, &key);
	bool known = false;
	struct slot *s;

	if (!f)
		return false;
	s = table_find(&f->table, &key);
	if (s) {
		known = s->verdict != LEARNED_UNKNOWN;
		family_drop(f, s);
	}
	unlock_family(f);
	return known;
}

void learned_saved(struct learned *l, const struct addr *a, uint64_t octets)
{
	struct addr key;
	struct family *f = lock_family(l, a, &key);
	struct slot *s;

	if (!f)
		return;
	s = table_find(&f->table, &key);
	if (s)
		s->saved += octets;
	f->saved += octets;
	unlock_family(f);
}

/* ---- the whole table ---- */

unsigned learned_clear(struct learned *l)
{
	unsigned known = 0;

	for (unsigned i = 0; i < FAMILIES; i++) {
		struct family *f = &l->families[i];

		pthread_mutex_lock(&f->lock);
		known += f->n[LEARNED_MPTCP] + f->n[LEARNED_PLAIN];
		for (uint32_t k = 0; k < table_slots(&f->table); k++) {
			struct slot *s = table_at(&f->table, k);

			if (s)
				family_drop(f, s);
		}
		unlock_family(f);
	}
	direct_reset(&l->direct);
	return known;
}

int learned_set_limits(struct learned *l, const struct learned_limits *limits)
{
	struct learned_limits b = bounded(limits);
	int rc = 0;

	for (unsigned i = 0; i < FAMILIES; i++) {
		struct family *f = &l->families[i];
		struct table *t = &f->table;

		pthread_mutex_lock(&f->lock);
		family_set_ttl(f, &b);
		while (t->count > b.max) {
			struct slot *s = table_victim(t);

			if (!s) /* the administrator's are too many, too */
				s = container_of(list_first(&t->pinned), struct slot, order);
			family_drop(f, s);
			f->evicted++;
		}
		if (t->max != b.max && !table_resize(t, b.max))
			rc = -ENOMEM;
		unlock_family(f);
	}
	return rc;
}

unsigned learned_expire(struct learned *l, double now_s, unsigned budget)
{
	unsigned removed = 0;

	for (unsigned i = 0; i < FAMILIES; i++) {
		struct family *f = &l->families[i];
		uint32_t slots;

		pthread_mutex_lock(&f->lock);
		slots = table_slots(&f->table);
		for (uint32_t k = 0; k < slots && k < budget; k++) {
			struct slot *s;

			if (f->sweep >= slots)
				f->sweep = 0;
			s = table_at(&f->table, f->sweep++);
			if (s && !family_settle(f, s, now_s))
				removed++;
		}
		unlock_family(f);
	}
	return removed;
}

void learned_count(struct learned *l, struct learned_counts *out)
{
	*out = (struct learned_counts){0};
	for (unsigned i = 0; i < FAMILIES; i++) {
		struct family *f = &l->families[i];

		pthread_mutex_lock(&f->lock);
		*(i == V4 ? &out->v4 : &out->v6) = (struct learned_family_counts){
			.mptcp = f->n[LEARNED_MPTCP],
			.plain = f->n[LEARNED_PLAIN],
			.admin = (unsigned)f->table.pinned.count,
			.slots = table_slots(&f->table),
			.max = f->table.max,
			.evicted = f->evicted,
		};
		out->saved += f->saved;
		unlock_family(f);
	}
}

/* ---- listing, restoring ---- */

static bool copy(const struct slot *s, double now_s, struct learned_item *out)
{
	if (s->verdict == LEARNED_UNKNOWN || now_s >= s->expires_s)
		return false;
	*out = (struct learned_item){
		.addr = s->key,
		.verdict = s->verdict,
		.evidence = s->evidence,
		.created_s = s->created_s,
		.expires_s = s->expires_s,
		.hits = s->hits,
		.saved = s->saved,
		.used = s->tick,
	};
	return true;
}

bool learned_get(struct learned *l, const struct addr *a, double now_s, struct learned_item *out)
{
	struct addr key;
	struct family *f = lock_family(l, a, &key);
	struct slot *s;
	bool known;

	if (!f)
		return false;
	s = table_find(&f->table, &key);
	known = s && copy(s, now_s, out);
	unlock_family(f);
	return known;
}

/* One chunk at most, then others may have the lock. Returns how many were copied; the cursor is
 * at the next family when this one is done. */
static unsigned list_some(struct family *f, struct learned_cursor *c, double now_s,
			  struct learned_item *out, unsigned n)
{
	unsigned got = 0;

	pthread_mutex_lock(&f->lock);
	if (c->slot == 0)
		c->serial = f->table.serial;
	for (unsigned k = 0; k < TABLE_CHUNK && got < n && c->slot < table_slots(&f->table); k++) {
		struct slot *s = table_at(&f->table, c->slot++);

		/* A younger one may have been told already, as an entry that went since. */
		if (s && s->serial <= c->serial && copy(s, now_s, &out[got]))
			got++;
	}
	if (c->slot >= table_slots(&f->table)) {
		c->family++;
		c->slot = 0;
	}
	unlock_family(f);
	return got;
}

unsigned learned_list(struct learned *l, struct learned_cursor *c, double now_s,
		      struct learned_item *out, unsigned n)
{
	unsigned got = 0;

	while (got < n && c->family < FAMILIES)
		got += list_some(&l->families[c->family], c, now_s, out + got, n - got);
	return got;
}

bool learned_restore(struct learned *l, const struct learned_item *item, double now_s)
{
	struct addr key;
	struct family *f;
	struct slot *s = NULL;

	if (item->expires_s <= now_s)
		return false;
	f = lock_family(l, &item->addr, &key);
	if (!f)
		return false;
	if (!family_find(f, &key, now_s) && f->table.count < f->table.max)
		s = family_add(f, &key, now_s);
	if (s)
		family_restore(f, s, item, now_s);
	unlock_family(f);
	return s != NULL;
}

/* ---- the parts ---- */

unsigned learned_drain(struct learned *l, struct learned_change *out, unsigned n, bool *resync)
{
	return journal_drain(&l->journal, out, n, resync);
}

void learned_direct_result(struct learned *l, const struct addr *a, double now_s, bool ok)
{
	direct_result(&l->direct, a, now_s, ok);
}

double learned_direct_paused(struct learned *l, double now_s)
{
	return direct_paused(&l->direct, now_s);
}

bool learned_direct_allowed(struct learned *l, double now_s)
{
	return direct_paused(&l->direct, now_s) <= 0;
}
