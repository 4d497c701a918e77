/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/auth.h"

#include <crypt.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "libsocks6/socks6.h"
#include "core/perclient.h"

#define QUEUE_MAX      256
#define QUEUE_SHARE    2 /* one address may have one in so many of its places */
#define HASH_MAX       CRYPT_OUTPUT_SIZE
#define FAIL_SLOTS     1024
#define FAIL_BURST     8 /* failures of an address before it has to wait ... */
#define FAIL_RECOVER_S 5 /* ... this long for each further try */
#define RECENT_MAX     16
#define RECENT_S       30

struct auth_check {
	struct job answer; /* back to the worker */
	struct list_node node;
	struct worker *w;
	auth_done_fn *done; /* NULL once cancelled; touched by the worker only */
	void *owner;
	struct addr from; /* perclient_key of the client */
	bool known, accepted;
	char hash[HASH_MAX];
	char password[S6_USERPASS_MAX + 1];
};

/* The failures of one address. Two addresses that meet in a slot take it from each other,
 * so that nobody is refused for what another has done. */
struct fail {
	struct addr from;
	unsigned count;
	time_t last;
};

/* A password that was found right a moment ago. After a restart every connection of a client
 * brings its password until the first has got a session: one computation does for all. */
struct recent {
	time_t until; /* 0 = empty */
	char hash[HASH_MAX];
	char password[S6_USERPASS_MAX + 1];
};

struct auth {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct list queue;
	bool stop;
	uint32_t seed;
	struct fail fails[FAIL_SLOTS];
	atomic_uint_least64_t computed;
	/* of the thread */
	struct crypt_data scratch;
	struct recent recent[RECENT_MAX];
};

static time_t now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* ---- failures; the lock is held ---- */

static struct fail *slot_of(struct auth *a, const struct addr *from)
{
	return &a->fails[addr_hash(from, a->seed) % FAIL_SLOTS];
}

/* Failures fade with time. */
static bool must_wait(struct auth *a, const struct addr *from)
{
	struct fail *f = slot_of(a, from);
	time_t gone = (now_s() - f->last) / FAIL_RECOVER_S;

	if (f->count == 0 || !addr_equal_ip(&f->from, from))
		return false;
	f->count = gone >= f->count ? 0 : f->count - (unsigned)gone;
	f->last += gone * FAIL_RECOVER_S;
	return f->count >= FAIL_BURST;
}

static void note_result(struct auth *a, const struct auth_check *c)
{
	struct fail *f = slot_of(a, &c->from);

	bool same = addr_equal_ip(&f->from, &c->from);

	if (c->accepted) {
		f->count = same ? 0 : f->count;
		return;
	}
	if (f->count == 0 || !same)
		*f = (struct fail){.from = c->from, .last = now_s()};
	if (f->count < FAIL_BURST)
		f->count++;
}

/* ---- the thread ---- */

static bool same_text(const char *x, const char *y)
{
	size_t n = strlen(x);
	unsigned char diff = 0;

	if (strlen(y) != n)
		return false;
	for (size_t i = 0; i < n; i++)
		diff |= (unsigned char)(x[i] ^ y[i]);
	return diff == 0;
}

/* Forget what is too old. Returns when there is something to forget next; 0 = never. */
static time_t recent_expire(struct auth *a)
{
	time_t next = 0, now = now_s();

	for (int i = 0; i < RECENT_MAX; i++) {
		struct recent *r = &a->recent[i];
		if (r->until && r->until <= now)
			explicit_bzero(r, sizeof(*r));
		if (r->until && (next == 0 || r->until < next))
			next = r->until;
	}
	return next;
}

static bool recent_has(struct auth *a, const struct auth_check *c)
{
	bool found = false;

	for (int i = 0; i < RECENT_MAX; i++)
		if (a->recent[i].until && strcmp(a->recent[i].hash, c->hash) == 0)
			found |= same_text(a->recent[i].password, c->password);
	return found;
}

static void recent_add(struct auth *a, const struct auth_check *c)
{
	struct recent *r = &a->recent[0]; /* an empty place, or the oldest */

	for (int i = 1; i < RECENT_MAX; i++)
		if (a->recent[i].until < r->until)
			r = &a->recent[i];
	explicit_bzero(r, sizeof(*r));
	r->until = now_s() + RECENT_S;
	strcpy(r->hash, c->hash);
	strcpy(r->password, c->password);
}

static void compute(struct auth *a, struct auth_check *c)
{
	const char *got;

	recent_expire(a);
	if (c->known && recent_has(a, c)) {
		c->accepted = true;
		return;
	}
	atomic_fetch_add_explicit(&a->computed, 1, memory_order_relaxed);
	got = crypt_r(c->password, c->hash, &a->scratch);
	c->accepted = got && got[0] != '*' && same_text(got, c->hash) && c->known;
	explicit_bzero(&a->scratch, sizeof(a->scratch));
	if (c->accepted)
		recent_add(a, c);
}

/* Until there is something to do, or to forget. */
static void wait_for_work(struct auth *a)
{
	struct timespec until = {.tv_sec = recent_expire(a)};

	if (until.tv_sec)
		pthread_cond_timedwait(&a->wake, &a->lock, &until);
	else
		pthread_cond_wait(&a->wake, &a->lock);
}

static void check_free(struct auth_check *c)
{
	explicit_bzero(c, sizeof(*c));
	free(c);
}

static void answer_run(struct job *job, struct worker *w)
{
	struct auth_check *c = container_of(job, struct auth_check, answer);

	(void)w;
	if (c->done)
		c->done(c->owner, c->accepted);
	check_free(c);
}

/* An address that has failed too often meanwhile is refused without a computation, so a burst
 * of bad passwords holds up the others for FAIL_BURST computations only. */
static void *auth_main(void *arg)
{
	struct auth *a = arg;

	pthread_mutex_lock(&a->lock);
	while (!a->stop) {
		struct list_node *n = list_pop(&a->queue);
		struct auth_check *c;

		if (!n) {
			wait_for_work(a);
			continue;
		}
		c = container_of(n, struct auth_check, node);
		if (!must_wait(a, &c->from)) {
			pthread_mutex_unlock(&a->lock);
			compute(a, c);
			pthread_mutex_lock(&a->lock);
			note_result(a, c);
		}
		worker_post(c->w, &c->answer);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

/* ---- the outside ---- */

static int start_thread(struct auth *a)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&a->thread, NULL, auth_main, a);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

struct auth *auth_new(void)
{
	struct auth *a = calloc(1, sizeof(*a));
	pthread_condattr_t attr;

	if (!a)
		return NULL;
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&a->wake, &attr);
	pthread_condattr_destroy(&attr);
	list_init(&a->queue);
	if (getrandom(&a->seed, sizeof(a->seed), 0) != sizeof(a->seed))
		a->seed = (uint32_t)now_s();
	if (start_thread(a) != 0) {
		free(a);
		return NULL;
	}
	return a;
}

void auth_free(struct auth *a)
{
	struct list_node *n;

	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	a->stop = true;
	pthread_cond_signal(&a->wake);
	pthread_mutex_unlock(&a->lock);
	pthread_join(a->thread, NULL);
	while ((n = list_pop(&a->queue)))
		check_free(container_of(n, struct auth_check, node));
	pthread_cond_destroy(&a->wake);
	pthread_mutex_destroy(&a->lock);
	explicit_bzero(a->recent, sizeof(a->recent));
	free(a);
}

/* The lock is held. One address must not fill the queue: it would lock out all others. */
static bool has_share(const struct auth *a, const struct addr *from)
{
	unsigned same = 0;

	for (struct list_node *n = list_first(&a->queue); n; n = list_next(&a->queue, n))
		same += addr_equal_ip(&container_of(n, struct auth_check, node)->from, from);
	return same < QUEUE_MAX / QUEUE_SHARE;
}

static int enqueue(struct auth *a, struct auth_check *c)
{
	int rc = 0;

	pthread_mutex_lock(&a->lock);
	if (must_wait(a, &c->from)) {
		rc = EACCES;
	} else if (a->queue.count >= QUEUE_MAX || !has_share(a, &c->from)) {
		rc = EAGAIN;
	} else {
		list_push(&a->queue, &c->node);
		pthread_cond_signal(&a->wake);
	}
	pthread_mutex_unlock(&a->lock);
	return rc;
}

struct auth_check *auth_start(struct auth *a, struct worker *w, const struct addr *from,
			      const char *hash, bool known, const uint8_t *password, size_t len,
			      auth_done_fn *done, void *owner)
{
	struct auth_check *c;
	int rc;

	if (len > S6_USERPASS_MAX || memchr(password, 0, len) || strlen(hash) >= HASH_MAX) {
		errno = EACCES;
		return NULL;
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->w = w;
	c->done = done;
	c->owner = owner;
	c->answer.run = answer_run;
	c->from = perclient_key(from);
	c->known = known;
	strcpy(c->hash, hash);
	memcpy(c->password, password, len);
	rc = enqueue(a, c);
	if (rc) {
		check_free(c);
		errno = rc;
		return NULL;
	}
	return c;
}

uint64_t auth_computed(struct auth *a)
{
	return atomic_load_explicit(&a->computed, memory_order_relaxed);
}

void auth_cancel(struct auth_check *c)
{
	c->done = NULL;
}
