/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/dial.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/list.h"
#include "core/worker.h"

#define STATE_SYN_SENT 2 /* TCP_SYN_SENT */
#define STATE_CLOSE    7 /* TCP_CLOSE */

#define LATE_S 0.01 /* and a quarter of the round trip: MPTCP's answer after that of TCP */

static void stop_watching(struct dial *d)
{
	ev_io_stop(d->w->loop, &d->io);
	ev_io_stop(d->w->loop, &d->plain_io);
	ev_timer_stop(d->w->loop, &d->timer);
}

static void close_at(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* The one way an attempt ends by itself. */
static void dial_end(struct dial *d, int err)
{
	stop_watching(d);
	d->waits = false;
	close_at(&d->plain_fd);
	if (err < 0)
		close_at(&d->fd);
	if (d->granted.mptcp && !d->mptcp)
		d->refused = d->queued == 0 || d->syn_data_acked;
	d->done(d, err);
}

/* Closed, or not yet open, as far as the kernel tells: 0, or -errno. */
static int error_of(const struct dial *d)
{
	socklen_t len = sizeof(int);
	int err = 0;
	ssize_t n = 0;
	char c;

	/* What the peer has said comes first, then how it has ended. An error is told once only. */
	if (d->readable)
		n = recv(d->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n > 0)
		return 0;
	if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOTCONN)
		return -errno;
	if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	return -err;
}

static void event_cb(struct ev_loop *loop, ev_io *io, int events);

/* MPTCP is not to be had: the TCP socket takes the place of the other. If it stands already, the loop
 * says so next. */
static void use_plain(struct dial *d)
{
	ev_io_stop(d->w->loop, &d->io);
	ev_io_stop(d->w->loop, &d->plain_io);
	close(d->fd);
	d->fd = d->plain_fd;
	d->plain_fd = -1;
	d->granted.mptcp = d->mptcp = false;
	d->refused = true;
	addr_of_socket(d->fd, &d->local);
	ev_io_init(&d->io, event_cb, d->fd, EV_WRITE);
	ev_io_start(d->w->loop, &d->io);
	ev_timer_stop(d->w->loop, &d->timer);
	ev_timer_set(&d->timer, d->timeout_s, 0.);
	ev_timer_start(d->w->loop, &d->timer);
}

/* event: the kernel says that there is an outcome. False: it is still under way. */
static bool finish(struct dial *d, bool event)
{
	struct sock_info info;
	int rc = d->granted.mptcp ? sock_info(d->fd, &info) : sock_info_tcp(d->fd, &info);
	bool asked = rc == 0;

	if (!asked || info.state == STATE_SYN_SENT || info.state == STATE_CLOSE)
		rc = error_of(d);
	if (rc == 0 && !event && asked && info.state == STATE_SYN_SENT)
		return false;
	if (rc == 0 && asked) {
		d->syn_data_acked = d->queued > 0 && info.syn_data_acked;
		d->fastopen_fail = info.fastopen_fail;
		d->mptcp = info.mptcp;
		d->subflows = info.subflows;
		d->rtt_us = info.rtt_us;
	}
	if (d->plain_fd >= 0 && (rc < 0 || !d->mptcp)) {
		use_plain(d);
		return false;
	}
	dial_end(d, rc);
	return true;
}

static void event_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct dial *d = container_of(io, struct dial, io);

	(void)loop;
	d->readable = (events & EV_READ) != 0;
	finish(d, true);
}

/* The TCP socket has connected, or failed. Mostly MPTCP's answer is there as well. */
static void plain_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct dial *d = container_of(io, struct dial, plain_io);
	struct sock_info info;
	int rc = sock_info_tcp(d->plain_fd, &info);

	(void)events;
	ev_io_stop(loop, io);
	if (rc < 0 || info.state == STATE_CLOSE) {
		close_at(&d->plain_fd);
	} else if (!finish(d, false) && d->plain_fd >= 0) {
		ev_timer_stop(loop, &d->timer);
		ev_timer_set(&d->timer, LATE_S + info.rtt_us / 4e6, 0.);
		ev_timer_start(loop, &d->timer);
	}
}

bool dial_look(struct dial *d)
{
	if (!d->waits)
		return false;
	d->waits = false;
	if (finish(d, false))
		return true;
	ev_io_stop(d->w->loop, &d->io);
	ev_io_modify(&d->io, EV_WRITE);
	ev_io_start(d->w->loop, &d->io);
	return false;
}

static void timeout_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct dial *d = container_of(t, struct dial, timer);

	(void)loop;
	(void)events;
	if (dial_look(d))
		return;
	d->late = d->plain_fd >= 0 && !ev_is_active(&d->plain_io);
	if (d->late) /* and the other stands */
		use_plain(d);
	else
		dial_end(d, -ETIMEDOUT);
}

/* errno values by which a kernel says that it does no Fast Open on this socket. */
static bool no_fastopen(int err)
{
	return err == EOPNOTSUPP || err == ENOPROTOOPT || err == EINVAL;
}

/* Send the SYN. 0 when it is under way (or even answered already), or -errno. */
static int send_syn(struct dial *d, int fd, const struct dial_wishes *wishes, bool fastopen)
{
	const struct addr *dst = &wishes->dst;
	ssize_t n;

	if (fastopen) {
		n = sendto(fd, wishes->data, wishes->len, MSG_FASTOPEN | MSG_NOSIGNAL, &dst->u.sa,
			   dst->len);
		if (n >= 0) {
			d->queued = (size_t)n;
			d->granted.fastopen = n > 0;
			return 0;
		}
		if (errno == EINPROGRESS) /* no cookie yet: a SYN that asks for one has left */
			return 0;
		if (!no_fastopen(errno))
			return -errno;
	}
	if (connect(fd, &dst->u.sa, dst->len) == 0 || errno == EINPROGRESS)
		return 0;
	return -errno;
}

/* A socket whose SYN is under way, or -errno. One of two leaves Fast Open to the other. */
static int open_one(struct dial *d, const struct dial_wishes *wishes, struct sock_granted *granted)
{
	int fd = sock_open(addr_family(&wishes->dst), &wishes->sock, granted);
	bool fastopen = wishes->fastopen && !(wishes->both && granted->mptcp);
	int rc;

	if (fd < 0)
		return fd;
	rc = wishes->source.len ? sock_bind(fd, &wishes->source, wishes->sock.transparent) : 0;
	if (rc == 0)
		rc = send_syn(d, fd, wishes, fastopen);
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

/* Beside the other; if this one fails at once, the other is on its own. */
static void open_plain(struct dial *d, const struct dial_wishes *wishes)
{
	struct dial_wishes plain = *wishes;
	struct sock_granted granted;
	int fd;

	plain.sock.mptcp = false;
	plain.len = 0;
	fd = open_one(d, &plain, &granted);
	if (fd < 0)
		return;
	d->plain_fd = fd;
	ev_io_init(&d->plain_io, plain_cb, fd, EV_WRITE);
	ev_io_start(d->w->loop, &d->plain_io);
}

int dial_start(struct dial *d, struct worker *w, const struct dial_wishes *wishes,
	       dial_done_fn *done, void *owner)
{
	int rc;

	memset(d, 0, sizeof(*d));
	d->w = w;
	d->done = done;
	d->owner = owner;
	d->fd = d->plain_fd = -1;
	d->timeout_s = wishes->timeout_s;
	ev_init(&d->timer, timeout_cb);
	ev_init(&d->io, event_cb);
	ev_init(&d->plain_io, plain_cb);
	rc = open_one(d, wishes, &d->granted);
	if (rc < 0)
		return rc;
	d->fd = rc;
	rc = addr_of_socket(d->fd, &d->local);
	if (rc < 0) {
		close_at(&d->fd);
		return rc;
	}
	d->waits = wishes->answered && d->queued > 0 && d->queued == wishes->len;
	ev_io_init(&d->io, event_cb, d->fd, d->waits ? EV_READ : EV_WRITE);
	ev_io_start(w->loop, &d->io);
	ev_timer_set(&d->timer, wishes->timeout_s, 0.);
	ev_timer_start(w->loop, &d->timer);
	if (wishes->both && d->granted.mptcp)
		open_plain(d, wishes);
	return 0;
}

int dial_take(struct dial *d)
{
	int fd = d->fd;

	d->fd = -1;
	return fd;
}

void dial_stop(struct dial *d)
{
	if (!d->w)
		return;
	stop_watching(d);
	close_at(&d->fd);
	close_at(&d->plain_fd);
}
