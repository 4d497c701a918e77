/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/listener.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/handover.h"
#include "core/list.h"
#include "core/worker.h"

#define ACCEPTS_PER_TURN 64   /* fairness: then other connections have their turn */
#define FINISH_MAX       4096 /* no more than a queue holds: others go on knocking meanwhile */
#define REST_S           1.0
#define SHARE_MAX        256 /* sockets that one worker gets for one address */

static unsigned long descriptor_limit(void)
{
	struct rlimit rl;

	return getrlimit(RLIMIT_NOFILE, &rl) == 0 ? (unsigned long)rl.rlim_cur : 0;
}

static void rest(struct listener *l, int err)
{
	log_limited(&l->limit, 1, LVL_ERROR,
		    "cannot accept: %s; trying again in %.0f s (descriptor limit: %lu)",
		    strerror(err), REST_S, descriptor_limit());
	ev_io_stop(l->w->loop, &l->io);
	ev_timer_set(&l->rest, REST_S, 0.);
	ev_timer_start(l->w->loop, &l->rest);
}

static void rest_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)events;
	ev_io_start(loop, &container_of(t, struct listener, rest)->io);
}

/* Errors that concern one connection, already gone, and not our ability to accept. */
static bool only_that_one(int err)
{
	return err == EINTR || err == ECONNABORTED || err == EPROTO || err == ENETDOWN ||
	       err == EHOSTDOWN || err == ENONET || err == EHOSTUNREACH || err == ENETUNREACH ||
	       err == ENOPROTOOPT || err == EOPNOTSUPP || err == EPERM;
}

enum came { CAME, CAME_TO_NOTHING, NO_MORE }; /* or no room for more */

static enum came accept_one(struct listener *l)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct addr peer;
	int fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return NO_MORE;
		if (only_that_one(errno))
			return CAME_TO_NOTHING;
		rest(l, errno);
		return NO_MORE;
	}
	if (addr_from_sockaddr(&peer, (const struct sockaddr *)&ss, len))
		l->accepted(l->w, fd, &peer);
	else
		close(fd);
	return CAME;
}

/* Connections mostly come one by one, and to be told that there is no other costs as much as half of
 * accepting one: so one a turn, and more only while the queue is not empty from turn to turn. */
static void accept_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct listener *l = container_of(io, struct listener, io);
	unsigned n = 0;

	(void)events;
	if (ev_iteration(loop) == l->full + 1 && l->batch < ACCEPTS_PER_TURN)
		l->batch *= 2;
	for (int i = 0; i < ACCEPTS_PER_TURN && n < l->batch; i++) {
		enum came c = accept_one(l);

		n += c == CAME;
		if (c == NO_MORE) {
			l->batch = n ? n : 1;
			return;
		}
	}
	l->full = ev_iteration(loop);
}

static int add(struct listeners *ls, struct worker *w, const struct addr *addr, int fd,
	       listener_accepted_fn *accepted)
{
	struct listener *l = &ls->v[ls->n];

	l->addr = *addr;
	l->w = w;
	l->accepted = accepted;
	l->batch = 1;
	l->fd = fd;
	if (fd < 0)
		return fd;
	ev_io_init(&l->io, accept_cb, fd, EV_READ);
	ev_init(&l->rest, rest_cb);
	ls->n++;
	return 0;
}

/* Sockets that we were given: how many, or -errno. */
static int add_inherited(struct listeners *ls, struct worker *w, const struct addr *addr,
			 const struct sock_wishes *wishes, listener_accepted_fn *accepted,
			 struct inherited *in, unsigned of, size_t room)
{
	int fds[SHARE_MAX], rc = 0;
	size_t n = in ? inherited_share(in, addr, w->index, of, fds,
					room < SHARE_MAX ? room : SHARE_MAX)
		      : 0;

	for (size_t i = 0; i < n; i++) {
		if (rc == 0)
			rc = sock_adopt(fds[i], wishes, &ls->v[ls->n].granted);
		if (rc == 0)
			rc = add(ls, w, addr, fds[i], accepted);
		else
			close(fds[i]);
	}
	return rc < 0 ? rc : (int)n;
}

int listeners_inherit(struct listeners *ls, struct worker *w, const struct addr_list *addrs,
		      const struct sock_wishes *wishes, listener_accepted_fn *accepted,
		      struct inherited *in, unsigned of)
{
	size_t cap = addrs->n + (in ? in->n : 0);
	int rc;

	ls->n = 0;
	ls->v = calloc(cap, sizeof(*ls->v));
	if (!ls->v)
		return -ENOMEM;
	for (size_t i = 0; i < addrs->n; i++) {
		const struct addr *addr = &addrs->v[i];

		rc = add_inherited(ls, w, addr, wishes, accepted, in, of,
				   cap - ls->n - (addrs->n - i - 1));
		if (rc == 0)
			rc = add(ls, w, addr, sock_listen(addr, wishes, &ls->v[ls->n].granted),
				 accepted);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int listeners_open(struct listeners *ls, struct worker *w, const struct addr_list *addrs,
		   const struct sock_wishes *wishes, listener_accepted_fn *accepted)
{
	return listeners_inherit(ls, w, addrs, wishes, accepted, NULL, 0);
}

size_t listeners_fds(const struct listeners *ls, int *out, size_t cap)
{
	size_t n = 0;

	for (size_t i = 0; i < ls->n && n < cap; i++)
		if (ls->v[i].fd >= 0)
			out[n++] = ls->v[i].fd;
	return n;
}

void listeners_start(struct listeners *ls)
{
	for (size_t i = 0; i < ls->n; i++)
		if (ls->v[i].fd >= 0)
			ev_io_start(ls->v[i].w->loop, &ls->v[i].io);
}

void listeners_finish(struct listeners *ls)
{
	for (size_t i = 0; i < ls->n; i++)
		for (int k = 0; k < FINISH_MAX && ls->v[i].fd >= 0; k++)
			if (accept_one(&ls->v[i]) == NO_MORE)
				break;
}

void listeners_close(struct listeners *ls)
{
	for (size_t i = 0; i < ls->n; i++) {
		struct listener *l = &ls->v[i];

		if (l->fd < 0)
			continue;
		ev_io_stop(l->w->loop, &l->io);
		ev_timer_stop(l->w->loop, &l->rest);
		close(l->fd);
		l->fd = -1;
	}
}

void listeners_free(struct listeners *ls)
{
	listeners_close(ls);
	free(ls->v);
	ls->v = NULL;
	ls->n = 0;
}
