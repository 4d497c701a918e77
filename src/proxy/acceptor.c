/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/acceptor.h"

#include <errno.h>
#include <stdio.h>
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

/* The socket option is always granted; the network namespace's switch decides. */
static bool fastopen_enabled(void)
{
	FILE *f = fopen("/proc/sys/net/ipv4/tcp_fastopen", "re");
	unsigned value = 0;
	bool known = f && fscanf(f, "%u", &value) == 1;

	if (f)
		fclose(f);
	return !known || (value & 2);
}

/* Told once, and louder where the administrator insists. */
static void tell_what_is_missing(const struct acceptor *a)
{
	const struct proxy_conf *c = a->pw->conf;

	if (a->pw->w.index > 0 || a != a->pw->acceptors)
		return;
	if (c->mptcp != 0 && !a->mptcp)
		log_msg(c->mptcp == 1 ? LVL_WARNING : LVL_NOTICE,
			"this kernel has no MPTCP, or it is off (net.mptcp.enabled): serving plain "
			"TCP only");
	if (c->tfo != 0 && !a->fastopen)
		log_msg(c->tfo == 1 ? LVL_WARNING : LVL_NOTICE,
			"Fast Open is off for servers: requests cost a round trip more (switch it "
			"on "
			"with \"sysctl net.ipv4.tcp_fastopen=3\")");
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
	a->addr = *addr;
	a->fd = sock_listen(addr, &wishes, &granted);
	if (a->fd < 0)
		return a->fd;
	a->mptcp = granted.mptcp;
	a->fastopen = granted.fastopen && fastopen_enabled();
	tell_what_is_missing(a);
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
