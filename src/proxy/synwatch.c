/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/synwatch.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/sock.h"
#include "core/worker.h"

#define EVENTS_MAX  64
#define TIMER_MIN_S 0.01
#define TIMER_MAX_S 1.0

static void over(struct synwatch *s, struct synwatch_entry *e)
{
	synwatch_remove(s, e);
	s->completed++;
	e->over(e);
}

static void event_cb(struct ev_loop *loop, ev_io *io, int revents)
{
	struct synwatch *s = container_of(io, struct synwatch, io);
	struct epoll_event events[EVENTS_MAX];
	int n = epoll_wait(s->epfd, events, EVENTS_MAX, 0);

	(void)loop;
	(void)revents;
	for (int i = 0; i < n; i++) {
		struct synwatch_entry *e = events[i].data.ptr;
		if (!sock_in_handshake(e->fd))
			over(s, e);
	}
}

static void timer_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct synwatch *s = container_of(t, struct synwatch, timer);
	struct list_node *n, *tmp;

	(void)events;
	list_for_each_safe (&s->entries, n, tmp) {
		struct synwatch_entry *e = container_of(n, struct synwatch_entry, node);
		if (!sock_in_handshake(e->fd)) {
			s->missed++;
			over(s, e);
		}
	}
	if (list_empty(&s->entries))
		return;
	t->repeat = t->repeat * 2 < TIMER_MAX_S ? t->repeat * 2 : TIMER_MAX_S;
	ev_timer_again(loop, t);
}

int synwatch_init(struct synwatch *s, struct worker *w)
{
	memset(s, 0, sizeof(*s));
	s->w = w;
	list_init(&s->entries);
	s->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (s->epfd < 0)
		return -errno;
	ev_io_init(&s->io, event_cb, s->epfd, EV_READ);
	ev_io_start(w->loop, &s->io);
	ev_init(&s->timer, timer_cb);
	return 0;
}

void synwatch_fini(struct synwatch *s)
{
	ev_io_stop(s->w->loop, &s->io);
	ev_timer_stop(s->w->loop, &s->timer);
	close(s->epfd);
}

void synwatch_add(struct synwatch *s, struct synwatch_entry *e, int fd)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = e};

	e->fd = fd;
	list_push(&s->entries, &e->node);
	epoll_ctl(s->epfd, EPOLL_CTL_ADD, fd, &event); /* if it fails, the timer remains */
	/* A timer that is already quick is left alone: many sockets must not put it off for ever. */
	if (!ev_is_active(&s->timer) || s->timer.repeat > TIMER_MIN_S) {
		s->timer.repeat = TIMER_MIN_S;
		ev_timer_again(s->w->loop, &s->timer);
	}
}

void synwatch_remove(struct synwatch *s, struct synwatch_entry *e)
{
	if (!list_linked(&e->node))
		return;
	list_remove(&s->entries, &e->node);
	epoll_ctl(s->epfd, EPOLL_CTL_DEL, e->fd, NULL);
	if (list_empty(&s->entries))
		ev_timer_stop(s->w->loop, &s->timer);
}
