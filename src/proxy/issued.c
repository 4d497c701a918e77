/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/issued.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/list.h"
#include "libsocks6/socks6.h"

#define BUCKETS 1024 /* a power of 2 */

struct session {
	struct list_node lru;  /* in issued.lru, oldest first */
	struct session *chain; /* in its bucket */
	uint8_t id[ISSUED_ID_LEN];
	char user[ISSUED_USER_MAX];
	double used_s;
	uint32_t base, size; /* size 0 = no window granted */
	uint8_t *spent;	     /* a bit for each token, at token mod size */
};

struct issued {
	pthread_mutex_t lock;
	struct issued_limits limits;
	struct session *buckets[BUCKETS];
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

/* IDs are random and ours, so their first octets are as good as a hash. */
static struct session **bucket_of(struct issued *is, const uint8_t *id)
{
	return &is->buckets[((unsigned)id[0] << 8 | id[1]) & (BUCKETS - 1)];
}

static void drop(struct issued *is, struct session *s)
{
	struct session **p = bucket_of(is, s->id);

	while (*p != s)
		p = &(*p)->chain;
	*p = s->chain;
	list_remove(&is->lru, &s->lru);
	free(s->spent);
	free(s);
}

void issued_free(struct issued *is)
{
	struct list_node *n;

	if (!is)
		return;
	while ((n = list_first(&is->lru)))
		drop(is, container_of(n, struct session, lru));
	pthread_mutex_destroy(&is->lock);
	free(is);
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
}

/* ---- tokens ---- */

static uint32_t bit_of(const struct session *s, uint32_t token)
{
	return token % s->size;
}

static bool is_spent(const struct session *s, uint32_t token)
{
	return (s->spent[bit_of(s, token) / 8] >> (bit_of(s, token) % 8)) & 1;
}

static void set_spent(struct session *s, uint32_t token, bool spent)
{
	uint8_t mask = (uint8_t)(1u << (bit_of(s, token) % 8)), *octet = &s->spent[bit_of(s, token) / 8];

	*octet = (uint8_t)(spent ? *octet | mask : *octet & ~mask);
}

/* Raise the base by one; the token that leaves makes room for one at the other end, in the
 * same bit. Holds while size divides 2^32: sizes are powers of 2. */
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
	while ((uint32_t)(token - s->base) < s->size && token - s->base > s->size / 2)
		raise_base(s);
	for (uint32_t i = 0; i < s->size && is_spent(s, s->base); i++)
		raise_base(s);
	return true;
}

/* One window per session; a wish that cannot be granted is ignored (section 6.4, R29). */
static void grant_window(struct issued *is, struct session *s, uint32_t wish)
{
	uint32_t size = 8;

	if (s->size || wish == 0 || is->limits.max_window < 8)
		return;
	while (size < wish && size * 2 <= is->limits.max_window)
		size *= 2;
	s->spent = calloc(1, size / 8);
	if (!s->spent)
		return;
	if (getrandom(&s->base, sizeof(s->base), 0) != sizeof(s->base))
		s->base = 0;
	s->size = size;
}

static void answer_ask(struct issued *is, struct session *s, const struct issued_ask *ask,
		       struct issued_answer *answer)
{
	memset(answer, 0, sizeof(*answer));
	grant_window(is, s, ask->window_wish);
	if (ask->spend)
		answer->token = spend(s, ask->token) ? TOKEN_ACCEPTED : TOKEN_REJECTED;
	memcpy(answer->id, s->id, sizeof(answer->id));
	memcpy(answer->user, s->user, sizeof(answer->user));
	answer->has_window = s->size > 0;
	answer->base = s->base;
	answer->size = s->size;
}

/* ---- sessions ---- */

static void make_room(struct issued *is, const char *user)
{
	struct session *oldest = NULL;
	struct list_node *n, *tmp;
	unsigned of_user = 0;

	list_for_each_safe(&is->lru, n, tmp)
	{
		struct session *s = container_of(n, struct session, lru);
		if (strcmp(s->user, user) != 0)
			continue;
		if (!oldest)
			oldest = s;
		of_user++;
	}
	if (oldest && of_user >= is->limits.max_per_user)
		drop(is, oldest);
	if (is->lru.count >= is->limits.max_sessions && (n = list_first(&is->lru)))
		drop(is, container_of(n, struct session, lru));
}

bool issued_open(struct issued *is, const char *user, double now_s, const struct issued_ask *ask,
		 struct issued_answer *answer)
{
	struct session *s = calloc(1, sizeof(*s)), **bucket;
	size_t len = strlen(user);

	if (!s || len >= sizeof(s->user) || getrandom(s->id, sizeof(s->id), 0) != sizeof(s->id)) {
		free(s);
		return false;
	}
	memcpy(s->user, user, len);
	s->used_s = now_s;
	pthread_mutex_lock(&is->lock);
	expire(is, now_s);
	make_room(is, user);
	bucket = bucket_of(is, s->id);
	s->chain = *bucket;
	*bucket = s;
	list_push(&is->lru, &s->lru);
	answer_ask(is, s, ask, answer);
	pthread_mutex_unlock(&is->lock);
	return true;
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
