/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/dial.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/list.h"
#include "core/worker.h"

#define STATE_SYN_SENT 2 /* TCP_SYN_SENT */
#define STATE_CLOSE    7 /* TCP_CLOSE */

static void stop_watching(struct dial *d)
{
	ev_io_stop(d->w->loop, &d->io);
	ev_timer_stop(d->w->loop, &d->timer);
}

/* The one way an attempt ends by itself. */
static void dial_end(struct dial *d, int err)
{
	stop_watching(d);
	d->waits = false;
	if (err < 0 && d->fd >= 0) {
		close(d->fd);
		d->fd = -1;
	}
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
	if (!dial_look(d))
		dial_end(d, -ETIMEDOUT);
}

/* errno values by which a kernel says that it does no Fast Open on this socket. */
static bool no_fastopen(int err)
{
	return err == EOPNOTSUPP || err == ENOPROTOOPT || err == EINVAL;
}

/* Send the SYN. 0 when it is under way (or even answered already), or -errno. */
static int send_syn(struct dial *d, const struct dial_wishes *wishes)
{
	const struct addr *dst = &wishes->dst;
	ssize_t n;

	if (wishes->fastopen) {
		n = sendto(d->fd, wishes->data, wishes->len, MSG_FASTOPEN | MSG_NOSIGNAL,
			   &dst->u.sa, dst->len);
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
	if (connect(d->fd, &dst->u.sa, dst->len) == 0 || errno == EINPROGRESS)
		return 0;
	return -errno;
}

int dial_start(struct dial *d, struct worker *w, const struct dial_wishes *wishes,
	       dial_done_fn *done, void *owner)
{
	int rc;

	memset(d, 0, sizeof(*d));
	d->w = w;
	d->done = done;
	d->owner = owner;
	ev_init(&d->timer, timeout_cb);
	d->fd = sock_open(addr_family(&wishes->dst), &wishes->sock, &d->granted);
	ev_io_init(&d->io, event_cb, d->fd, EV_WRITE);
	if (d->fd < 0) {
		rc = d->fd;
		d->fd = -1;
		return rc;
	}
	rc = wishes->source.len ? sock_bind(d->fd, &wishes->source, wishes->sock.transparent) : 0;
	if (rc == 0)
		rc = send_syn(d, wishes);
	if (rc == 0)
		rc = addr_of_socket(d->fd, &d->local);
	if (rc < 0) {
		close(d->fd);
		d->fd = -1;
		return rc;
	}
	d->waits = wishes->answered && d->queued > 0 && d->queued == wishes->len;
	if (d->waits)
		ev_io_modify(&d->io, EV_READ);
	ev_io_start(w->loop, &d->io);
	ev_timer_set(&d->timer, wishes->timeout_s, 0.);
	ev_timer_start(w->loop, &d->timer);
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
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
}
