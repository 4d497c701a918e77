/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/acceptor.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/sock.h"
#include "proxy/client.h"
#include "proxy/perclient.h"
#include "proxy/proxy.h"

#define ACCEPTS_PER_TURN 64
#define FASTOPEN_QUEUE   1024
#define REST_S           1.0

static void rest(struct acceptor *a, int err)
{
	log_limited(&a->pw->limit_accept, 1, LVL_ERROR,
		    "cannot accept: %s; trying again in %.0f s (descriptor limit: %lu)",
		    strerror(err), REST_S, a->pw->proxy->nofile);
	ev_io_stop(a->pw->w.loop, &a->io);
	ev_timer_set(&a->rest, REST_S, 0.);
	ev_timer_start(a->pw->w.loop, &a->rest);
}

static void rest_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct acceptor *a = container_of(t, struct acceptor, rest);

	(void)events;
	if (a->fd >= 0)
		ev_io_start(loop, &a->io);
}

static void admit(struct acceptor *a, int fd, const struct addr *peer)
{
	struct proxy_worker *pw = a->pw;
	const struct proxy_conf *c = pw->conf;
	char text[ADDR_STRLEN];

	if (!perclient_take(pw->proxy->perclient, peer, (unsigned)c->max_per_client,
			    (unsigned)c->max_clients)) {
		pw->counters.ended[END_LIMIT]++;
		log_limited(
			&pw->limit_accept, 5, LVL_WARNING,
			"client %s: too many connections (max_per_client = %d, max_clients = %d)",
			addr_str(peer, text, sizeof(text)), c->max_per_client, c->max_clients);
		sock_reset(fd);
		return;
	}
	client_start(pw, fd, peer);
}

/* Errors that concern one connection, already gone, and not our ability to accept. */
static bool only_that_one(int err)
{
	return err == EINTR || err == ECONNABORTED || err == EPROTO || err == ENETDOWN ||
	       err == EHOSTUNREACH || err == ENETUNREACH || err == ENOPROTOOPT ||
	       err == EOPNOTSUPP || err == EPERM;
}

static void accept_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct acceptor *a = container_of(io, struct acceptor, io);

	(void)loop;
	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);
		struct addr peer;
		int fd = accept4(a->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			if (errno == EAGAIN || errno == EWOULDBLOCK)
				return;
			if (only_that_one(errno))
				continue;
			rest(a, errno);
			return;
		}
		if (addr_from_sockaddr(&peer, (const struct sockaddr *)&ss, len))
			admit(a, fd, &peer);
		else
			close(fd);
	}
}

int acceptor_open(struct acceptor *a, struct proxy_worker *pw, const struct addr *addr)
{
	const struct proxy_conf *c = pw->conf;
	struct sock_wishes wishes = {
		.mptcp = c->mptcp != 0,
		.reuseport = true,
		.fastopen = c->tfo != 0 ? FASTOPEN_QUEUE : 0,
		.tos = -1,
		.ttl = -1,
		.keepalive = true, /* inherited by accepted sockets */
	};
	struct sock_granted granted;

	memset(a, 0, sizeof(*a));
	a->pw = pw;
	a->fd = sock_listen(addr, &wishes, &granted);
	if (a->fd < 0)
		return a->fd;
	if (pw->w.index == 0 && c->mptcp == 1 && !granted.mptcp)
		log_warning(
			"mptcp = yes, but this kernel has no MPTCP (or net.mptcp.enabled is 0): "
			"listening on plain TCP");
	if (pw->w.index == 0 && c->tfo == 1 && !granted.fastopen)
		log_warning("tfo = yes, but this kernel does no Fast Open on the listener");
	ev_io_init(&a->io, accept_cb, a->fd, EV_READ);
	ev_timer_init(&a->rest, rest_cb, REST_S, 0.);
	return 0;
}

void acceptor_start(struct acceptor *a)
{
	ev_io_start(a->pw->w.loop, &a->io);
}

void acceptor_close(struct acceptor *a)
{
	if (a->fd < 0)
		return;
	ev_io_stop(a->pw->w.loop, &a->io);
	ev_timer_stop(a->pw->w.loop, &a->rest);
	close(a->fd);
	a->fd = -1;
}
