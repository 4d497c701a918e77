/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/peruser.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/report.h"
#include "proxy/issued.h"

#define BUCKETS 256 /* a power of 2; names are the administrator's, not strangers' */

struct entry {
	struct entry *next;
	unsigned count;
	uint64_t taken, refused; /* ever */
	char user[ISSUED_USER_MAX];
};

struct peruser {
	pthread_mutex_t lock;
	struct entry *buckets[BUCKETS];
};

struct peruser *peruser_new(void)
{
	struct peruser *p = calloc(1, sizeof(*p));

	if (p)
		pthread_mutex_init(&p->lock, NULL);
	return p;
}

void peruser_free(struct peruser *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < BUCKETS; i++) {
		while (p->buckets[i]) {
			struct entry *e = p->buckets[i];
			p->buckets[i] = e->next;
			free(e);
		}
	}
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* The link that points at the entry, or at the end of its bucket. */
static struct entry **find(struct peruser *p, const char *user)
{
	uint32_t h = 2166136261U; /* FNV-1a */
	struct entry **link;

	for (const char *c = user; *c; c++)
		h = (h ^ (uint8_t)*c) * 16777619U;
	link = &p->buckets[h & (BUCKETS - 1)];
	while (*link && strcmp((*link)->user, user) != 0)
		link = &(*link)->next;
	return link;
}

bool peruser_take(struct peruser *p, const char *user, unsigned max)
{
	struct entry **link, *e;
	bool ok;

	pthread_mutex_lock(&p->lock);
	link = find(p, user);
	if (!*link && strlen(user) < sizeof(e->user)) {
		*link = calloc(1, sizeof(**link));
		if (*link)
			memcpy((*link)->user, user, strlen(user) + 1);
	}
	e = *link;
	ok = e && e->count < max;
	if (ok) {
		e->count++;
		e->taken++;
	} else if (e) {
		e->refused++;
	}
	pthread_mutex_unlock(&p->lock);
	return ok;
}

void peruser_give(struct peruser *p, const char *user)
{
	struct entry *e;

	pthread_mutex_lock(&p->lock);
	e = *find(p, user);
	if (e)
		e->count--;
	pthread_mutex_unlock(&p->lock);
}

void peruser_report(struct peruser *p, struct report *r)
{
	report_list(r, "by_user");
	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < BUCKETS; i++) {
		for (const struct entry *e = p->buckets[i]; e; e = e->next) {
			report_row(r);
			report_str(r, "user", e->user);
			report_u64(r, "clients", e->count);
			report_u64(r, "served", e->taken);
			report_u64(r, "refused", e->refused);
		}
	}
	pthread_mutex_unlock(&p->lock);
	report_end(r);
}
