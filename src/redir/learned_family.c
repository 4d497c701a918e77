/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/learned_family.h"

#include <math.h>

/* Dials under way at the same time fail together; that is one failure. */
#define SAME_FAILURE_S 60.0

static double lesser(double x, double y)
{
	return x < y ? x : y;
}

bool family_init(struct family *f, const struct learned_limits *limits, struct journal *j)
{
	*f = (struct family){.journal = j};
	pthread_mutex_init(&f->lock, NULL);
	family_set_ttl(f, limits);
	return table_init(&f->table, limits->max);
}

void family_free(struct family *f)
{
	table_free(&f->table);
	pthread_mutex_destroy(&f->lock);
}

void family_set_ttl(struct family *f, const struct learned_limits *limits)
{
	f->ttl_s = lesser(limits->ttl_s, LEARNED_TTL_MAX_S);
	f->plain_ttl_s = lesser(limits->plain_ttl_s, LEARNED_TTL_MAX_S);
}

/* The one place where an entry's verdict and lifetime change: counts them and tells the mirror. */
static void set_verdict(struct family *f, struct slot *s, enum learned_verdict v, double now_s,
			double expires_s)
{
	bool was = s->verdict == LEARNED_MPTCP, is = v == LEARNED_MPTCP, told = was != is;
	enum learned_what what = was ? LEARNED_REFRESH : LEARNED_ADD;

	f->n[s->verdict]--;
	f->n[v]++;
	s->verdict = (uint8_t)v;
	s->expires_s = expires_s;
	if (was && is)
		told = expires_s < s->mirrored_s || expires_s - s->mirrored_s > f->ttl_s / 10;
	if (!told)
		return;
	s->mirrored_s = expires_s;
	journal_tell(f->journal, &s->key, is ? what : LEARNED_REMOVE, expires_s - now_s);
}

void family_drop(struct family *f, struct slot *s)
{
	set_verdict(f, s, LEARNED_UNKNOWN, 0, 0);
	f->n[LEARNED_UNKNOWN]--;
	table_remove(&f->table, s);
}

/* What has ended goes; but strikes of failed direct dials are remembered for as long again. Such
 * an entry knows nothing else. False: it is gone. */
bool family_settle(struct family *f, struct slot *s, double now_s)
{
	if (now_s < s->expires_s)
		return true;
	if (s->strikes > 0 && now_s < s->forget_s) {
		set_verdict(f, s, LEARNED_UNKNOWN, now_s, s->forget_s);
		table_pin(&f->table, s, false);
		return true;
	}
	family_drop(f, s);
	return false;
}

struct slot *family_find(struct family *f, const struct addr *key, double now_s)
{
	struct slot *s = table_find(&f->table, key);

	return s && family_settle(f, s, now_s) ? s : NULL;
}

struct slot *family_add(struct family *f, const struct addr *key, double now_s)
{
	struct slot *s = table_add(&f->table, key), *victim;

	if (!s && (victim = table_victim(&f->table)) != NULL) {
		family_drop(f, victim);
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
bool family_yields(const struct slot *s, enum learned_evidence e)
{
	if (s->verdict == LEARNED_UNKNOWN)
		return true;
	if (s->evidence == LEARNED_FROM_ADMIN)
		return e == LEARNED_FROM_ADMIN;
	if (s->verdict == LEARNED_PLAIN && s->evidence == LEARNED_FROM_DIRECT)
		return e >= LEARNED_FROM_DIRECT;
	return true;
}

void family_change(struct family *f, struct slot *s, enum learned_verdict v,
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
	set_verdict(f, s, v, now_s, now_s + ttl);
	table_pin(&f->table, s, e == LEARNED_FROM_ADMIN);
	table_touch(&f->table, s);
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

void family_restore(struct family *f, struct slot *s, const struct learned_item *item, double now_s)
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
	set_verdict(f, s, item->verdict, now_s, now_s + left);
	table_pin(&f->table, s, item->evidence == LEARNED_FROM_ADMIN);
	table_put_last(&f->table, s);
}
