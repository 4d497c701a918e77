/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/learned.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "redir/learned_table.h"

/* Dials under way at the same time fail together; that is one failure. */
#define SAME_FAILURE_S 60.0

struct family {
	pthread_mutex_t lock; /* before that of the journal */
	struct table table;
	double ttl_s, plain_ttl_s;
	unsigned n[LEARNED_VERDICTS];
	uint32_t sweep; /* where learned_expire goes on */
	uint64_t evicted, saved;
};

/* A ring of changes. */
struct journal {
	pthread_mutex_t lock;
	struct learned_change *ring;
	unsigned cap, first, n;
	bool overflow;
};

struct direct {
	pthread_mutex_t lock;
	struct addr failed[LEARNED_DIRECT_FAILURES];
	unsigned n;
	double until_s, pause_s;
};

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

static double lesser(double x, double y)
{
	return x < y ? x : y;
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

static void set_ttl(struct family *f, const struct learned_limits *limits)
{
	f->ttl_s = lesser(limits->ttl_s, LEARNED_TTL_MAX_S);
	f->plain_ttl_s = lesser(limits->plain_ttl_s, LEARNED_TTL_MAX_S);
}

static unsigned max_of(const struct learned_limits *limits)
{
	return limits->max < LEARNED_MAX_MAX ? limits->max : LEARNED_MAX_MAX;
}

struct learned *learned_new(const struct learned_limits *limits, unsigned journal)
{
	struct learned *l = calloc(1, sizeof(*l));
	bool ok = true;

	if (!l)
		return NULL;
	for (unsigned i = 0; i < FAMILIES; i++) {
		struct family *f = &l->families[i];

		pthread_mutex_init(&f->lock, NULL);
		ok = table_init(&f->table, max_of(limits)) && ok;
		set_ttl(f, limits);
	}
	pthread_mutex_init(&l->journal.lock, NULL);
	pthread_mutex_init(&l->direct.lock, NULL);
	l->journal.cap = journal;
	if (journal > 0)
		l->journal.ring = calloc(journal, sizeof(*l->journal.ring));
	if (ok && (l->journal.ring || journal == 0))
		return l;
	learned_free(l);
	return NULL;
}

void learned_free(struct learned *l)
{
	if (!l)
		return;
	for (unsigned i = 0; i < FAMILIES; i++) {
		table_free(&l->families[i].table);
		pthread_mutex_destroy(&l->families[i].lock);
	}
	free(l->journal.ring);
	pthread_mutex_destroy(&l->journal.lock);
	pthread_mutex_destroy(&l->direct.lock);
	free(l);
}

/* ---- the journal ---- */

static void tell(struct journal *j, const struct addr *a, enum learned_what what, double ttl_s)
{
	struct learned_change *c;

	if (j->cap == 0)
		return;
	pthread_mutex_lock(&j->lock);
	if (j->n == j->cap) {
		j->overflow = true;
		j->n = 0;
	}
	/* Until the reader has come, whole listing and all, telling more is of no use. */
	if (!j->overflow) {
		c = &j->ring[(j->first + j->n++) % j->cap];
		*c = (struct learned_change){.addr = *a, .what = what};
		if (what != LEARNED_REMOVE)
			c->ttl_s = learned_seconds(ttl_s);
	}
	pthread_mutex_unlock(&j->lock);
}

unsigned learned_drain(struct learned *l, struct learned_change *out, unsigned n, bool *resync)
{
	struct journal *j = &l->journal;
	unsigned got = 0;

	pthread_mutex_lock(&j->lock);
	*resync = j->overflow;
	j->overflow = false;
	for (; got < n && j->n > 0; got++, j->n--) {
		out[got] = j->ring[j->first];
		j->first = (j->first + 1) % j->cap;
	}
	pthread_mutex_unlock(&j->lock);
	return got;
}

/* ---- entries; the family is locked ---- */

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

/* The one place where an entry's verdict and lifetime change: counts them and tells the mirror. */
static void set_verdict(struct learned *l, struct family *f, struct slot *s, enum learned_verdict v,
			double now_s, double expires_s)
{
	bool was = s->verdict == LEARNED_MPTCP, is = v == LEARNED_MPTCP, told = was != is;

	f->n[s->verdict]--;
	f->n[v]++;
	s->verdict = (uint8_t)v;
	s->expires_s = expires_s;
	if (was && is)
		told = expires_s < s->mirrored_s || expires_s - s->mirrored_s > f->ttl_s / 10;
	if (!told)
		return;
	s->mirrored_s = expires_s;
	tell(&l->journal, &s->key,
	     !is   ? LEARNED_REMOVE
	     : was ? LEARNED_REFRESH
		   : LEARNED_ADD,
	     expires_s - now_s);
}

static void drop(struct learned *l, struct family *f, struct slot *s)
{
	set_verdict(l, f, s, LEARNED_UNKNOWN, 0, 0);
	f->n[LEARNED_UNKNOWN]--;
	table_remove(&f->table, s);
}

/* What has ended goes; but strikes of failed direct dials are remembered for as long again. Such
 * an entry knows nothing else. False: it is gone. */
static bool settle(struct learned *l, struct family *f, struct slot *s, double now_s)
{
	if (now_s < s->expires_s)
		return true;
	if (s->strikes > 0 && now_s < s->forget_s) {
		set_verdict(l, f, s, LEARNED_UNKNOWN, now_s, s->forget_s);
		table_pin(&f->table, s, false);
		return true;
	}
	drop(l, f, s);
	return false;
}

static struct slot *find(struct learned *l, struct family *f, const struct addr *key, double now_s)
{
	struct slot *s = table_find(&f->table, key);

	return s && settle(l, f, s, now_s) ? s : NULL;
}

static struct slot *add(struct learned *l, struct family *f, const struct addr *key, double now_s)
{
	struct slot *s = table_add(&f->table, key), *victim;

	if (!s && (victim = table_victim(&f->table)) != NULL) {
		drop(l, f, victim);
		f->evicted++;
		s = table_add(&f->table, key);
	}
	if (!s)
		return NULL;
	f->n[LEARNED_UNKNOWN]++;
	s->created_s = now_s;
	return s;
}

/* Seconds of a "no" after so many direct dials failed. */
static double struck_ttl(const struct family *f, unsigned strikes)
{
	double ttl = f->plain_ttl_s;

	while (strikes-- > 1 && ttl < LEARNED_PLAIN_TTL_S)
		ttl *= 2;
	return ttl < LEARNED_PLAIN_TTL_S || ttl <= f->plain_ttl_s ? ttl : LEARNED_PLAIN_TTL_S;
}

/* One more direct dial failed; the seconds its "no" lasts. */
static double strike(struct family *f, struct slot *s, double now_s)
{
	bool known = s->verdict == LEARNED_PLAIN && s->evidence == LEARNED_FROM_DIRECT;
	double ttl;

	if (s->strikes > 0 && now_s >= s->forget_s)
		s->strikes = 0;
	if (s->strikes < UINT8_MAX && !(known && now_s < s->struck_s + SAME_FAILURE_S)) {
		s->strikes++;
		s->struck_s = now_s;
	}
	ttl = struck_ttl(f, s->strikes);
	s->forget_s = now_s + 2 * ttl;
	return ttl;
}

/* Does what an entry has give way to new evidence? */
static bool yields(const struct slot *s, enum learned_evidence e)
{
	if (s->verdict == LEARNED_UNKNOWN)
		return true;
	if (s->evidence == LEARNED_FROM_ADMIN)
		return e == LEARNED_FROM_ADMIN;
	if (s->verdict == LEARNED_PLAIN && s->evidence == LEARNED_FROM_DIRECT)
		return e >= LEARNED_FROM_DIRECT;
	return true;
}

static void change(struct learned *l, struct family *f, struct slot *s, enum learned_verdict v,
		   enum learned_evidence e, double admin_ttl_s, double now_s)
{
	double ttl = v == LEARNED_MPTCP ? f->ttl_s : f->plain_ttl_s;

	if (e == LEARNED_FROM_ADMIN)
		ttl = admin_ttl_s;
	else if (e == LEARNED_FROM_DIRECT && v == LEARNED_PLAIN)
		ttl = strike(f, s, now_s);
	else if (e == LEARNED_FROM_DIRECT)
		s->strikes = 0;
	if (s->verdict != v)
		s->created_s = now_s;
	if (s->verdict != v || e > s->evidence)
		s->evidence = (uint8_t)e;
	set_verdict(l, f, s, v, now_s, now_s + ttl);
	table_pin(&f->table, s, e == LEARNED_FROM_ADMIN);
	table_touch(&f->table, s);
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
	s = find(l, f, &key, now_s);
	if (!s)
		s = add(l, f, &key, now_s);
	if (s && yields(s, e))
		change(l, f, s, v, e, admin_ttl_s, now_s);
	says = s && s->verdict == v;
	unlock_family(f);
	return says;
}

/* ---- the table as others see it ---- */

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
	s = find(l, f, &key, now_s);
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
		drop(l, f, s);
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
				drop(l, f, s);
		}
		unlock_family(f);
	}
	pthread_mutex_lock(&l->direct.lock);
	l->direct.n = 0;
	l->direct.until_s = l->direct.pause_s = 0;
	pthread_mutex_unlock(&l->direct.lock);
	return known;
}

int learned_set_limits(struct learned *l, const struct learned_limits *limits)
{
	int rc = 0;

	for (unsigned i = 0; i < FAMILIES; i++) {
		struct family *f = &l->families[i];
		struct table *t = &f->table;

		pthread_mutex_lock(&f->lock);
		set_ttl(f, limits);
		while (t->count > max_of(limits)) {
			struct slot *s = table_victim(t);

			if (!s) /* the administrator's are too many, too */
				s = container_of(list_first(&t->pinned), struct slot, order);
			drop(l, f, s);
			f->evicted++;
		}
		if (t->max != max_of(limits) && !table_resize(t, max_of(limits)))
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
			if (s && !settle(l, f, s, now_s))
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

/* The most seconds an entry may have left. */
static double longest(const struct family *f, const struct learned_item *item)
{
	if (item->evidence == LEARNED_FROM_ADMIN)
		return INFINITY;
	if (item->verdict == LEARNED_MPTCP)
		return f->ttl_s;
	return struck_ttl(f, item->evidence == LEARNED_FROM_DIRECT ? UINT8_MAX : 0);
}

static void restore(struct learned *l, struct family *f, struct slot *s,
		    const struct learned_item *item, double now_s)
{
	double left = lesser(item->expires_s - now_s, longest(f, item));

	s->evidence = (uint8_t)item->evidence;
	s->hits = item->hits;
	s->saved = item->saved;
	if (item->verdict == LEARNED_PLAIN && item->evidence == LEARNED_FROM_DIRECT) {
		s->strikes = 1;
		while (struck_ttl(f, s->strikes) < left && s->strikes < UINT8_MAX)
			s->strikes++;
		s->struck_s = now_s;
		s->forget_s = now_s + left + struck_ttl(f, s->strikes);
	}
	set_verdict(l, f, s, item->verdict, now_s, now_s + left);
	table_pin(&f->table, s, item->evidence == LEARNED_FROM_ADMIN);
	table_put_last(&f->table, s);
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
	if (!find(l, f, &key, now_s) && f->table.count < f->table.max)
		s = add(l, f, &key, now_s);
	if (s)
		restore(l, f, s, item, now_s);
	unlock_family(f);
	return s != NULL;
}

/* ---- the direct path ---- */

void learned_direct_result(struct learned *l, const struct addr *a, double now_s, bool ok)
{
	struct direct *d = &l->direct;
	unsigned i = 0;

	pthread_mutex_lock(&d->lock);
	if (ok) {
		d->n = 0;
		d->until_s = d->pause_s = 0;
	} else if (now_s >= d->until_s) {
		while (i < d->n && !addr_equal_ip(&d->failed[i], a))
			i++;
		if (i == d->n)
			d->failed[d->n++] = *a;
		if (d->n == LEARNED_DIRECT_FAILURES) {
			d->n = 0;
			d->pause_s = d->pause_s > 0
					     ? lesser(2 * d->pause_s, LEARNED_DIRECT_PAUSE_MAX_S)
					     : LEARNED_DIRECT_PAUSE_S;
			d->until_s = now_s + d->pause_s;
		}
	}
	pthread_mutex_unlock(&d->lock);
}

double learned_direct_paused(struct learned *l, double now_s)
{
	double left;

	pthread_mutex_lock(&l->direct.lock);
	left = l->direct.until_s - now_s;
	pthread_mutex_unlock(&l->direct.lock);
	return left > 0 ? left : 0;
}

bool learned_direct_allowed(struct learned *l, double now_s)
{
	return learned_direct_paused(l, now_s) <= 0;
}
