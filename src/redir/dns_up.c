/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connection to the DNS service of a proxy (section 9 of the draft). To the rest of the daemon it
 * is a flow like any other, with one end of a socket pair for its device: it chooses the proxy, uses
 * session, tokens, Fast Open and MPTCP, and goes elsewhere when a proxy fails. All questions share it
 * (RFC 7766): they leave when they come, and are answered in any order.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libsocks6/cursor.h"
#include "redir/dns_priv.h"
#include "redir/flow.h"

#define SILENT_S   3.0  /* nothing has come since a question left: it does not work */
#define IDLE_S     10.0 /* and nothing is asked: closed */
#define REST_S     2.0  /* after a failure it is not tried for so long, doubled each time, */
#define REST_MAX_S 30.0 /* up to this */
#define TRIES      2    /* a server may close an idle connection just when a question comes */
#define FRAME_MAX  (2 + DNS_MSG_MAX)

void dns_up_init(struct dns *d)
{
	d->up.fd = -1;
}

void dns_up_close(struct dns *d)
{
	struct dns_up *up = &d->up;

	if (up->fd >= 0) {
		ev_io_stop(d->rw->w.loop, &up->io);
		close(up->fd);
	}
	up->fd = -1;
	free(up->in);
	free(up->out);
	up->in = up->out = NULL;
	up->in_len = up->out_len = 0;
}

/* It is gone, or as good as gone. What was asked over it is asked once more, or directly. */
static void lost(struct dns *d, bool works)
{
	struct dns_up *up = &d->up;
	struct list_node *n, *tmp;

	dns_up_close(d);
	if (!works) {
		up->rest_s = up->rest_s > 0 ? up->rest_s * 2 : REST_S;
		up->rest_s = up->rest_s > REST_MAX_S ? REST_MAX_S : up->rest_s;
		up->rest_until_s = dns_now(d) + up->rest_s;
		log_limited(&d->limit_failed, 5, LVL_NOTICE,
			    "dns: no proxy answers questions now: %s for %.0f s",
			    d->rw->conf->dns.fallback ? "other name servers are asked"
						      : "they fail",
			    up->rest_s);
	}
	list_for_each_safe (&d->asks, n, tmp) {
		struct dns_ask *ask = container_of(n, struct dns_ask, node);

		if (!ask->proxied)
			continue;
		ask->proxied = false;
		dns_ask_send(d, ask);
	}
}

static struct dns_ask *find(struct dns *d, uint16_t id)
{
	struct list_node *n;

	for (n = list_first(&d->asks); n; n = list_next(&d->asks, n)) {
		struct dns_ask *ask = container_of(n, struct dns_ask, node);

		if (ask->proxied && ask->id == id)
			return ask;
	}
	return NULL;
}

static void take(struct dns *d, uint8_t *msg, size_t len)
{
	struct reader r = reader_of(msg, len);
	struct dns_answer a;
	struct dns_ask *ask;
	uint16_t id;

	if (!read_u16(&r, &id))
		return;
	ask = find(d, id);
	if (!ask || !dns_answer_parse(msg, len, &ask->q, &a))
		return; /* to a question that has been given up; or it is no answer */
	d->counts.proxied++;
	d->up.heard = true;
	d->up.heard_s = dns_now(d);
	d->up.rest_s = 0;
	dns_answered(d, ask, msg, len, &a);
}

/* All messages that are complete. */
static void take_all(struct dns *d)
{
	struct dns_up *up = &d->up;
	size_t done = 0;

	for (;;) {
		struct reader r = reader_of(up->in + done, up->in_len - done);
		uint16_t len;

		if (!read_u16(&r, &len) || r.left < len)
			break;
		take(d, up->in + done + 2, len);
		done += 2 + (size_t)len;
	}
	up->in_len -= done;
	memmove(up->in, up->in + done, up->in_len);
}

static void watch(struct dns *d)
{
	struct dns_up *up = &d->up;
	int want = EV_READ | (up->out_len > 0 ? EV_WRITE : 0);

	if (ev_is_active(&up->io) && (up->io.events & (EV_READ | EV_WRITE)) == want)
		return;
	ev_io_stop(d->rw->w.loop, &up->io);
	ev_io_set(&up->io, up->fd, want);
	ev_io_start(d->rw->w.loop, &up->io);
}

/* Errors are left for reading to tell. */
static void flush(struct dns *d)
{
	struct dns_up *up = &d->up;
	ssize_t n = up->out_len ? send(up->fd, up->out, up->out_len, MSG_NOSIGNAL) : 0;

	if (n <= 0)
		return;
	up->out_len -= (size_t)n;
	memmove(up->out, up->out + n, up->out_len);
}

static void io_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct dns_up *up = container_of(io, struct dns_up, io);
	struct dns *d = container_of(up, struct dns, up);
	ssize_t n;

	(void)loop;
	if (events & EV_WRITE)
		flush(d);
	n = recv(up->fd, up->in + up->in_len, FRAME_MAX - up->in_len, 0);
	if (n > 0) {
		up->in_len += (size_t)n;
		take_all(d);
	} else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
		lost(d, up->heard);
		return;
	}
	watch(d);
}

/* The socket pair; what is to be said goes in before the flow begins, so that it can leave together
 * with the request. */
static bool up_open(struct dns *d)
{
	struct dns_up *up = &d->up;
	struct addr dst = {0}, nobody = {0};
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) < 0)
		return false;
	up->fd = fd[0];
	ev_io_init(&up->io, io_cb, up->fd, EV_READ);
	flush(d);
	watch(d);
	up->heard = false;
	up->heard_s = dns_now(d);
	addr_parse(&dst, "0.0.0.0:53", -1);
	flow_start_to(d->rw, fd[1], &nobody, &dst);
	return true;
}

static bool put(struct dns_up *up, const struct dns_ask *ask)
{
	struct writer w;

	if (!up->in)
		up->in = malloc(FRAME_MAX);
	if (!up->out)
		up->out = malloc(FRAME_MAX);
	if (!up->in || !up->out)
		return false;
	w = writer_of(up->out + up->out_len, FRAME_MAX - up->out_len);
	write_u16(&w, (uint16_t)ask->len);
	write_bytes(&w, ask->query, ask->len);
	if (w.full)
		return false;
	up->out_len += w.len;
	return true;
}

bool dns_up_send(struct dns *d, struct dns_ask *ask)
{
	struct dns_up *up = &d->up;

	if (dns_now(d) < up->rest_until_s || ask->sent >= TRIES || !put(up, ask))
		return false;
	if (up->fd < 0 && !up_open(d)) {
		dns_up_close(d);
		return false;
	}
	ask->proxied = true;
	ask->sent++;
	ask->sent_s = up->used_s = dns_now(d);
	flush(d);
	watch(d);
	return true;
}

/* Is a question without an answer for too long, and with it all others? */
static bool is_silent(const struct dns *d)
{
	struct list_node *n;

	for (n = list_first(&d->asks); n; n = list_next(&d->asks, n)) {
		const struct dns_ask *ask = container_of(n, struct dns_ask, node);

		if (ask->proxied && dns_now(d) - ask->sent_s >= SILENT_S &&
		    d->up.heard_s <= ask->sent_s)
			return true;
	}
	return false;
}

bool dns_up_tick(struct dns *d)
{
	struct dns_up *up = &d->up;

	if (up->fd < 0)
		return false;
	if (is_silent(d))
		lost(d, false);
	else if (list_empty(&d->asks) && dns_now(d) - up->used_s >= IDLE_S)
		dns_up_close(d);
	return up->fd >= 0;
}
