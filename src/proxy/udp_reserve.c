/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/udp_reserve.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* They are few: the daemon counts them as connections. */
struct entry {
	struct entry *next;
	uint64_t owner;
	struct addr at;
	int fd;
	bool in_session;
	uint8_t session[ISSUED_ID_LEN];
};

struct udp_reserve {
	pthread_mutex_t lock;
	struct entry *first;
};

struct udp_reserve *udp_reserve_new(void)
{
	struct udp_reserve *r = calloc(1, sizeof(*r));

	if (r)
		pthread_mutex_init(&r->lock, NULL);
	return r;
}

void udp_reserve_free(struct udp_reserve *r)
{
	if (!r)
		return;
	while (r->first) {
		struct entry *e = r->first;

		r->first = e->next;
		close(e->fd);
		free(e);
	}
	pthread_mutex_destroy(&r->lock);
	free(r);
}

bool udp_reserve_put(struct udp_reserve *r, uint64_t owner, const struct addr *at,
		     const uint8_t *session, int fd)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (!e)
		return false;
	e->owner = owner;
	e->at = *at;
	e->fd = fd;
	e->in_session = session != NULL;
	if (session)
		memcpy(e->session, session, sizeof(e->session));
	pthread_mutex_lock(&r->lock);
	e->next = r->first;
	r->first = e;
	pthread_mutex_unlock(&r->lock);
	return true;
}

static bool may_take(const struct entry *e, const uint8_t *session)
{
	return !e->in_session || (session && memcmp(e->session, session, sizeof(e->session)) == 0);
}

int udp_reserve_take(struct udp_reserve *r, const struct addr *at, const uint8_t *session)
{
	struct entry **link, *e;
	int fd = -ENOENT;

	pthread_mutex_lock(&r->lock);
	link = &r->first;
	while (*link && !addr_equal(&(*link)->at, at))
		link = &(*link)->next;
	e = *link;
	if (e && may_take(e, session)) {
		fd = e->fd;
		*link = e->next;
		free(e);
	} else if (e) {
		fd = -EACCES;
	}
	pthread_mutex_unlock(&r->lock);
	return fd;
}

bool udp_reserve_end(struct udp_reserve *r, uint64_t owner)
{
	struct entry **link, *e;

	pthread_mutex_lock(&r->lock);
	link = &r->first;
	while (*link && (*link)->owner != owner)
		link = &(*link)->next;
	e = *link;
	if (e)
		*link = e->next;
	pthread_mutex_unlock(&r->lock);
	if (!e)
		return false;
	close(e->fd);
	free(e);
	return true;
}
