/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/dial.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/list.h"
#include "core/worker.h"

static void stop_watching(struct dial *d)
{
	ev_io_stop(d->w->loop, &d->io);
	ev_timer_stop(d->w->loop, &d->timer);
}

/* The one way an attempt ends by itself. */
static void dial_end(struct dial *d, int err)
{
	stop_watching(d);
	if (err < 0 && d->fd >= 0) {
		close(d->fd);
		d->fd = -1;
	}
	d->done(d, err);
}

static void writable_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct dial *d = container_of(io, struct dial, io);
	struct sock_info info;
	socklen_t len = sizeof(int);
	int err = 0;

	(void)loop;
	(void)events;
	if (getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	if (err) {
		dial_end(d, -err);
		return;
	}
	if (sock_info(d->fd, &info) == 0) {
		d->syn_data_acked = d->queued > 0 && info.syn_data_acked;
		d->fastopen_fail = info.fastopen_fail;
		d->mptcp = info.mptcp;
		d->rtt_us = info.rtt_us;
	}
	dial_end(d, 0);
}

static void timeout_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	dial_end(container_of(t, struct dial, timer), -ETIMEDOUT);
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
	ev_io_init(&d->io, writable_cb, d->fd, EV_WRITE);
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
