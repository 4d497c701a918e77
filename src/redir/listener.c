/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/listener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/sock.h"
#include "redir/flow.h"
#include "redir/redir.h"

#define ACCEPTS_PER_TURN 64
#define FASTOPEN_QUEUE   256
#define REST_S           1.0

static void rest(struct listener *l, int err)
{
	log_limited(&l->rw->limit_accept, 1, LVL_ERROR,
		    "cannot accept: %s; trying again in %.0f s (descriptor limit: %lu)",
		    strerror(err), REST_S, l->rw->redir->nofile);
	ev_io_stop(l->rw->w.loop, &l->io);
	ev_timer_set(&l->rest, REST_S, 0.);
	ev_timer_start(l->rw->w.loop, &l->rest);
}

static void rest_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct listener *l = container_of(t, struct listener, rest);

	(void)events;
	if (l->fd >= 0)
		ev_io_start(loop, &l->io);
}

/* We cannot accept at all, as opposed to: one connection is gone already. */
static bool out_of_resources(int err)
{
	return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM;
}

static void accept_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct listener *l = container_of(io, struct listener, io);

	(void)loop;
	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);
		struct addr peer;
		int fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			if (errno == EAGAIN || errno == EWOULDBLOCK)
				return;
			if (out_of_resources(errno)) {
				rest(l, errno);
				return;
			}
			continue;
		}
		if (addr_from_sockaddr(&peer, (const struct sockaddr *)&ss, len))
			flow_start(l->rw, fd, &peer);
		else
			close(fd);
	}
}

/* Plain TCP: for devices that speak MPTCP themselves the port would have to be the original
 * one for further subflows, and the router's own subflows would be offered to them. */
int listener_open(struct listener *l, struct redir_worker *rw, const struct addr *addr)
{
	const struct sock_wishes wishes = {
		.transparent = rw->conf->mode == MODE_TPROXY,
		.reuseport = true,
		.fastopen = FASTOPEN_QUEUE,
		.mark = 0, /* answers to devices go where the rules send them */
		.tos = -1,
		.ttl = -1,
		.keepalive = true, /* inherited by accepted sockets */
	};

	memset(l, 0, sizeof(*l));
	l->rw = rw;
	l->fd = sock_listen(addr, &wishes, NULL);
	if (l->fd < 0)
		return l->fd;
	ev_io_init(&l->io, accept_cb, l->fd, EV_READ);
	ev_timer_init(&l->rest, rest_cb, REST_S, 0.);
	return 0;
}

void listener_start(struct listener *l)
{
	ev_io_start(l->rw->w.loop, &l->io);
}

void listener_close(struct listener *l)
{
	if (l->fd < 0)
		return;
	ev_io_stop(l->rw->w.loop, &l->io);
	ev_timer_stop(l->rw->w.loop, &l->rest);
	close(l->fd);
	l->fd = -1;
}
