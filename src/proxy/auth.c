/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/auth.h"

#include <crypt.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define QUEUE_MAX      256
#define PASSWORD_MAX   255
#define HASH_MAX       384 /* crypt(3): CRYPT_OUTPUT_SIZE */
#define FAIL_SLOTS     1024
#define FAIL_BURST     8 /* failures of an address before it has to wait ... */
#define FAIL_RECOVER_S 5 /* ... this long for each further try */

/* What an unknown user's password is hashed against, so that the time tells nothing. */
static const char no_hash[] = "$y$j9T$sixpathsixpathsixpaths1$";

struct auth_check {
	struct job answer; /* back to the worker */
	struct list_node node;
	struct worker *w;
	auth_done_fn *done; /* NULL once cancelled; touched by the worker only */
	void *owner;
	bool known, accepted;
	uint32_t slot;
	char hash[HASH_MAX];
	char password[PASSWORD_MAX + 1];
	struct auth *auth;
};

struct fail {
	uint8_t count;
	time_t last;
};

struct auth {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct list queue;
	bool stop;
	struct fail fails[FAIL_SLOTS];
};

static time_t now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* Failures fade with time. Lock held. */
static struct fail *fade(struct auth *a, uint32_t slot)
{
	struct fail *f = &a->fails[slot];
	time_t now = now_s(), gone = (now - f->last) / FAIL_RECOVER_S;

	if (gone >= f->count)
		f->count = 0;
	else
		f->count = (uint8_t)(f->count - gone);
	if (gone > 0)
		f->last = now;
	return f;
}

static void note_result(struct auth *a, const struct auth_check *c)
{
	struct fail *f = fade(a, c->slot);

	if (c->accepted)
		f->count = 0;
	else if (f->count < UINT8_MAX)
		f->count++;
}

/* crypt's results are compared in constant time. */
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

static void compute(struct auth_check *c, struct crypt_data *scratch)
{
	const char *got = crypt_r(c->password, c->hash, scratch);

	c->accepted = got && got[0] != '*' && c->known && same_text(got, c->hash);
	explicit_bzero(c->password, sizeof(c->password));
	explicit_bzero(scratch, sizeof(*scratch));
}

static void answer_run(struct job *job, struct worker *w)
{
	struct auth_check *c = container_of(job, struct auth_check, answer);

	(void)w;
	if (c->done)
		c->done(c->owner, c->accepted);
	free(c);
}

static void *auth_main(void *arg)
{
	struct auth *a = arg;
	struct crypt_data *scratch = calloc(1, sizeof(*scratch));
	struct list_node *n;

	pthread_mutex_lock(&a->lock);
	while (!a->stop) {
		n = list_pop(&a->queue);
		if (!n) {
			pthread_cond_wait(&a->wake, &a->lock);
			continue;
		}
		pthread_mutex_unlock(&a->lock);
		struct auth_check *c = container_of(n, struct auth_check, node);
		if (scratch)
			compute(c, scratch);
		pthread_mutex_lock(&a->lock);
		note_result(a, c);
		worker_post(c->w, &c->answer);
	}
	pthread_mutex_unlock(&a->lock);
	free(scratch);
	return NULL;
}

struct auth *auth_new(void)
{
	struct auth *a = calloc(1, sizeof(*a));
	sigset_t all, old;
	int rc;

	if (!a)
		return NULL;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->wake, NULL);
	list_init(&a->queue);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&a->thread, NULL, auth_main, a);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc) {
		free(a);
		return NULL;
	}
	return a;
}

static void check_free(struct auth_check *c)
{
	explicit_bzero(c->password, sizeof(c->password));
	free(c);
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
	free(a);
}

struct auth_check *auth_start(struct auth *a, struct worker *w, const struct addr *from,
			      const char *hash, const uint8_t *password, size_t len,
			      auth_done_fn *done, void *owner)
{
	struct auth_check *c;
	struct addr ip = *from;
	bool room;

	if (len > PASSWORD_MAX || memchr(password, 0, len) || (hash && strlen(hash) >= HASH_MAX))
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	addr_set_port(&ip, 0);
	c->auth = a;
	c->w = w;
	c->done = done;
	c->owner = owner;
	c->answer.run = answer_run;
	c->known = hash != NULL;
	c->slot = addr_hash(&ip, 0) % FAIL_SLOTS;
	strcpy(c->hash, hash ? hash : no_hash);
	memcpy(c->password, password, len);
	pthread_mutex_lock(&a->lock);
	room = a->queue.count < QUEUE_MAX && fade(a, c->slot)->count < FAIL_BURST;
	if (room) {
		list_push(&a->queue, &c->node);
		pthread_cond_signal(&a->wake);
	}
	pthread_mutex_unlock(&a->lock);
	if (!room) {
		check_free(c);
		return NULL;
	}
	return c;
}

void auth_cancel(struct auth_check *c)
{
	c->done = NULL;
}
