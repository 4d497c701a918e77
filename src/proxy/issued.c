/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/issued.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/list.h"
#include "libsocks6/socks6.h"

#define BUCKETS       16384 /* of sessions; a power of 2 */
#define OWNER_BUCKETS 256   /* of users; a power of 2 */

/* A user who has sessions. */
struct owner {
	struct owner *chain;  /* in its bucket */
	struct list sessions; /* oldest first */
	char name[];
};

struct session {
	struct list_node lru;  /* in issued.lru, oldest first */
	struct list_node mine; /* in owner.sessions */
	struct session *chain; /* in its bucket */
	struct owner *owner;
	uint8_t id[ISSUED_ID_LEN];
	double used_s;
	uint32_t base, size; /* size 0 = no window granted */
	uint32_t mask;       /* bits of the map below, a power of 2, minus one */
	uint8_t *spent;      /* a bit for each token, at token & mask */
};

struct issued {
	pthread_mutex_t lock;
	struct issued_limits limits;
	struct session *buckets[BUCKETS];
	struct owner *owners[OWNER_BUCKETS];
	struct list lru;
};

struct issued *issued_new(const struct issued_limits *limits)
{
	struct issued *is = calloc(1, sizeof(*is));

	if (!is)
		return NULL;
	pthread_mutex_init(&is->lock, NULL);
	list_init(&is->lru);
	is->limits = *limits;
	return is;
}

/* ---- users; the lock is held in all that follows ---- */

/* Names are the administrator's, not an attacker's: any hash will do. */
static struct owner **owner_find(struct issued *is, const char *name)
{
	struct owner **link;
	unsigned hash = 0;

	for (const char *c = name; *c; c++)
		hash = hash * 31 + (unsigned char)*c;
	link = &is->owners[hash & (OWNER_BUCKETS - 1)];
	while (*link && strcmp((*link)->name, name) != 0)
		link = &(*link)->chain;
	return link;
}

static struct owner *owner_get(struct issued *is, const char *name)
{
	struct owner **link = owner_find(is, name), *o = *link;
	size_t size = strlen(name) + 1;

	if (o)
		return o;
	o = calloc(1, sizeof(*o) + size);
	if (!o)
		return NULL;
	memcpy(o->name, name, size);
	list_init(&o->sessions);
	*link = o;
	return o;
}

static void owner_put(struct issued *is, struct owner *o)
{
	if (!list_empty(&o->sessions))
		return;
	*owner_find(is, o->name) = o->chain;
	free(o);
}

/* ---- sessions ---- */

/* IDs are random and ours, so their first octets are as good as a seeded hash. */
static struct session **bucket_of(struct issued *is, const uint8_t *id)
{
	return &is->buckets[((unsigned)id[0] << 8 | id[1]) & (BUCKETS - 1)];
}

static void link_session(struct issued *is, struct session *s)
{
	struct session **bucket = bucket_of(is, s->id);

	s->chain = *bucket;
	*bucket = s;
	list_push(&is->lru, &s->lru);
	list_push(&s->owner->sessions, &s->mine);
}

static void drop(struct issued *is, struct session *s)
{
	struct session **link = bucket_of(is, s->id);

	while (*link != s)
		link = &(*link)->chain;
	*link = s->chain;
	list_remove(&is->lru, &s->lru);
	list_remove(&s->owner->sessions, &s->mine);
	owner_put(is, s->owner);
	free(s->spent);
	free(s);
}

static void drop_oldest(struct issued *is)
{
	struct list_node *n = list_first(&is->lru);

	if (n)
		drop(is, container_of(n, struct session, lru));
}

static void expire(struct issued *is, double now_s)
{
	struct list_node *n;

	while ((n = list_first(&is->lru))) {
		struct session *s = container_of(n, struct session, lru);
		if (s->used_s + is->limits.ttl_s >= now_s)
			return;
		drop(is, s);
	}
}

static struct session *find(struct issued *is, const uint8_t *id, size_t len, double now_s)
{
	struct session *s;

	expire(is, now_s);
	if (len != ISSUED_ID_LEN)
		return NULL;
	for (s = *bucket_of(is, id); s; s = s->chain)
		if (memcmp(s->id, id, ISSUED_ID_LEN) == 0)
			return s;
	return NULL;
}

static void touch(struct issued *is, struct session *s, double now_s)
{
	s->used_s = now_s;
	list_remove(&is->lru, &s->lru);
	list_push(&is->lru, &s->lru);
	list_remove(&s->owner->sessions, &s->mine);
	list_push(&s->owner->sessions, &s->mine);
}

static void make_room(struct issued *is, const char *user)
{
	struct owner *o;

	while ((o = *owner_find(is, user)) && o->sessions.count >= is->limits.max_per_user)
		drop(is, container_of(list_first(&o->sessions), struct session, mine));
	while (is->lru.count > 0 && is->lru.count >= is->limits.max_sessions)
		drop_oldest(is);
}

/* ---- tokens ---- */

static bool is_spent(const struct session *s, uint32_t token)
{
	uint32_t bit = token & s->mask;

	return (s->spent[bit / 8] >> (bit % 8)) & 1;
}

static void set_spent(struct session *s, uint32_t token, bool spent)
{
	uint32_t bit = token & s->mask;
	uint8_t *octet = &s->spent[bit / 8], mask = (uint8_t)(1u << (bit % 8));

	*octet = (uint8_t)(spent ? *octet | mask : *octet & ~mask);
}

/* Raise the base by one; the token that leaves gives its bit to one that comes in later. */
static void raise_base(struct session *s)
{
	set_spent(s, s->base, false);
	s->base++;
}

/* Spend a token. The base rises over spent tokens; and when one in the upper half is spent, it
 * rises to half a window below it, so that tokens lost on the way do not block the window. */
static bool spend(struct session *s, uint32_t token)
{
	if (s->size == 0 || !s6_token_in(token, s->base, s->size) || is_spent(s, token))
		return false;
	set_spent(s, token, true);
	while (token - s->base > s->size / 2)
		raise_base(s);
	while (is_spent(
		s, s->base)) /* at most over the whole window: bits that are left are cleared */
		raise_base(s);
	return true;
}

/* One window per session; a wish that cannot be granted is ignored (section 6.4, R29). */
static void grant_window(struct issued *is, struct session *s, uint32_t wish)
{
	uint32_t size = wish < is->limits.max_window ? wish : is->limits.max_window;
	uint32_t bits = 8;

	if (s->size || size == 0)
		return;
	while (bits < size)
		bits *= 2;
	s->spent = calloc(1, bits / 8);
	if (!s->spent)
		return;
	if (getrandom(&s->base, sizeof(s->base), 0) != sizeof(s->base))
		s->base = 0;
	s->size = size;
	s->mask = bits - 1;
}

static void answer_ask(struct issued *is, struct session *s, const struct issued_ask *ask,
		       struct issued_answer *answer)
{
	memset(answer, 0, sizeof(*answer));
	grant_window(is, s, ask->window_wish);
	if (ask->spend)
		answer->token = spend(s, ask->token) ? TOKEN_ACCEPTED : TOKEN_REJECTED;
	memcpy(answer->id, s->id, sizeof(answer->id));
	strcpy(answer->user, s->owner->name); /* fits: issued_open has seen to it */
	answer->has_window = s->size > 0;
	answer->base = s->base;
	answer->size = s->size;
}

static struct session *session_new(struct issued *is, const char *user, double now_s)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s || strlen(user) >= ISSUED_USER_MAX ||
	    getrandom(s->id, sizeof(s->id), 0) != sizeof(s->id) ||
	    !(s->owner = owner_get(is, user))) {
		free(s);
		return NULL;
	}
	s->used_s = now_s;
	link_session(is, s);
	return s;
}

/* ---- the outside; takes the lock ---- */

bool issued_open(struct issued *is, const char *user, double now_s, const struct issued_ask *ask,
		 struct issued_answer *answer)
{
	struct session *s;
	bool opened;

	memset(answer, 0, sizeof(*answer));
	pthread_mutex_lock(&is->lock);
	expire(is, now_s);
	make_room(is, user);
	s = session_new(is, user, now_s);
	if (s)
		answer_ask(is, s, ask, answer);
	opened = s && answer->token != TOKEN_REJECTED;
	if (s && !opened) {
		drop(is, s);
		answer->has_window = false;
	}
	pthread_mutex_unlock(&is->lock);
	return opened;
}

bool issued_use(struct issued *is, const uint8_t *id, size_t len, double now_s,
		const struct issued_ask *ask, struct issued_answer *answer)
{
	struct session *s;

	pthread_mutex_lock(&is->lock);
	s = find(is, id, len, now_s);
	if (s) {
		touch(is, s, now_s);
		answer_ask(is, s, ask, answer);
	}
	pthread_mutex_unlock(&is->lock);
	return s != NULL;
}

bool issued_teardown(struct issued *is, const uint8_t *id, size_t len, double now_s)
{
	struct session *s;

	pthread_mutex_lock(&is->lock);
	s = find(is, id, len, now_s);
	if (s)
		drop(is, s);
	pthread_mutex_unlock(&is->lock);
	return s != NULL;
}

size_t issued_revoke(struct issued *is, bool (*gone)(const char *user, void *ctx), void *ctx)
{
	struct list_node *n, *next;
	size_t before, dropped;

	pthread_mutex_lock(&is->lock);
	before = is->lru.count;
	for (n = list_first(&is->lru); n; n = next) {
		struct session *s = container_of(n, struct session, lru);
		next = list_next(&is->lru, n);
		if (gone(s->owner->name, ctx))
			drop(is, s);
	}
	dropped = before - is->lru.count;
	pthread_mutex_unlock(&is->lock);
	return dropped;
}

void issued_set_limits(struct issued *is, const struct issued_limits *limits)
{
	pthread_mutex_lock(&is->lock);
	is->limits = *limits;
	pthread_mutex_unlock(&is->lock);
}

size_t issued_count(struct issued *is)
{
	size_t n;

	pthread_mutex_lock(&is->lock);
	n = is->lru.count;
	pthread_mutex_unlock(&is->lock);
	return n;
}

void issued_free(struct issued *is)
{
	if (!is)
		return;
	while (!list_empty(&is->lru))
		drop_oldest(is);
	pthread_mutex_destroy(&is->lock);
	free(is);
}
