/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The messages of an association inside its TCP connection. A client that reads slowly makes the
 * proxy read nothing for it: what remote hosts send waits, and is lost, in the socket's queue.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "core/sock.h"
#include "proxy/udp_priv.h"

static void write_later(struct assoc *a)
{
	struct ev_loop *loop = a->u->pw->w.loop;

	if (a->out.len > 0) {
		assoc_listen(a, false);
		ev_io_start(loop, &a->tcp_write);
		return;
	}
	ev_io_stop(loop, &a->tcp_write);
	if (a->path != ASSOC_PATH_NONE)
		assoc_listen(a, true);
}

static void connection_failed(struct assoc *a, int err)
{
	assoc_end(a, sock_errno_is_reset(err) ? END_RESET_DOWN : END_INTERNAL, err);
}

static bool would_block(int err)
{
	return err == EAGAIN || err == EWOULDBLOCK || err == EINTR;
}

/* All of it, or none: half a message would be the end of the connection. The buffer's size is
 * chosen while it is empty. */
static bool keep(struct assoc *a, const uint8_t *data, size_t len)
{
	if (a->out.len == 0)
		a->out.big = len > BUF_SIZE / 2;
	if (a->out.len + len > buf_size(&a->out) / 2 * (a->out.len == 0 ? 2 : 1))
		return false;
	return buf_put(&a->out, &a->u->pw->w.pool, data, len) == len;
}

static bool short_of_memory(const struct assoc *a)
{
	struct proxy_worker *pw = a->u->pw;

	return budget_short_of_memory(&pw->proxy->budget, &pw->w);
}

/* ---- to the client ---- */

bool assoc_tcp_tell(struct assoc *a, const uint8_t *msg, size_t len)
{
	ssize_t n = a->out.len > 0 ? 0 : send(a->tcp, msg, len, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && !would_block(errno))
		return false;
	n = n < 0 ? 0 : n;
	if ((size_t)n < len && !keep(a, msg + n, len - (size_t)n))
		return false;
	write_later(a);
	return true;
}

unsigned assoc_tcp_send(struct assoc *a, unsigned n)
{
	struct udp_batch *b = &a->u->in;
	struct msghdr m = {.msg_iov = b->iov, .msg_iovlen = n};
	ssize_t sent = sendmsg(a->tcp, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	size_t left;
	unsigned i;

	if (sent < 0 && !would_block(errno)) {
		connection_failed(a, errno);
		return 0;
	}
	left = sent > 0 ? (size_t)sent : 0;
	for (i = 0; i < n; i++) {
		const struct iovec *v = &b->iov[i];

		if (left >= v->iov_len) {
			left -= v->iov_len;
			continue;
		}
		if (left == 0 && short_of_memory(a))
			break; /* none of it is out yet: it can be lost */
		if (!keep(a, (const uint8_t *)v->iov_base + left, v->iov_len - left)) {
			if (left > 0)
				assoc_end(a, END_NO_MEMORY, ENOMEM);
			break;
		}
		left = 0;
	}
	if (!a->ended)
		write_later(a);
	return i;
}

static void write_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct assoc *a = container_of(io, struct assoc, tcp_write);
	ssize_t n = send(a->tcp, buf_data(&a->out), a->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

	(void)loop;
	(void)events;
	if (n < 0 && !would_block(errno)) {
		connection_failed(a, errno);
		return;
	}
	if (n > 0)
		buf_consume(&a->out, &a->u->pw->w.pool, (size_t)n);
	write_later(a);
}

/* ---- from the client ---- */

/* A message of its own kind is discarded if it has another association's ID (R31), or is of no
 * type that a client sends (R35). */
static void message(struct assoc *a, const struct s6_udp *msg)
{
	struct udp_counters *c = &a->u->counters;

	if (msg->association != a->node.id) {
		c->unknown_id++;
	} else if (msg->type != S6_UDP_DATAGRAM) {
		c->malformed++;
	} else if (a->path == ASSOC_PATH_UDP) {
		c->elsewhere++;
	} else if (a->path == ASSOC_PATH_TCP || assoc_map(a, NULL, NULL, NULL)) {
		assoc_datagram(a, msg);
	}
}

/* Datagrams point into the buffer until they are flushed. */
static void messages(struct assoc *a)
{
	const uint8_t *data = buf_data(a->in);
	size_t len = a->in->len, done = 0, used;
	struct s6_udp msg;
	enum s6_fault why = S6_FAULT_NONE;
	enum s6_result result = S6_MORE;

	while (done < len && !a->ended) {
		result = s6_udp_parse_stream(data + done, len - done, &msg, &used, &why);
		if (result != S6_OK)
			break;
		message(a, &msg);
		done += used;
	}
	if (a->ended)
		return;
	udp_flush(a->u);
	if (a->ended)
		return;
	buf_consume(a->in, &a->u->pw->w.pool, done);
	if (result == S6_BAD) {
		a->u->counters.malformed++;
		log_debug("an association's client sent a bad message: %s", s6_fault_str(why));
		assoc_end(a, END_MALFORMED, 0);
	}
}

static void read_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct assoc *a = container_of(io, struct assoc, tcp_read);
	struct bufpool *pool = &a->u->pw->w.pool;
	size_t room;
	uint8_t *at = buf_room(a->in, pool, &room);
	ssize_t n;

	(void)loop;
	(void)events;
	if (!at) {
		assoc_end(a, END_NO_MEMORY, ENOMEM);
		return;
	}
	n = recv(a->tcp, at, room, MSG_DONTWAIT);
	if (n > 0) {
		buf_added(a->in, (size_t)n);
		messages(a);
		return;
	}
	if (n < 0 && would_block(errno)) {
		if (a->in->len == 0)
			buf_clear(a->in, pool);
		return;
	}
	if (n == 0)
		assoc_end(a, END_CLOSED, 0);
	else
		connection_failed(a, errno);
}

void assoc_tcp_start(struct assoc *a)
{
	ev_io_init(&a->tcp_read, read_cb, a->tcp, EV_READ);
	ev_io_init(&a->tcp_write, write_cb, a->tcp, EV_WRITE);
	ev_io_start(a->u->pw->w.loop, &a->tcp_read);
}

void assoc_tcp_stop(struct assoc *a)
{
	if (a->tcp < 0)
		return;
	ev_io_stop(a->u->pw->w.loop, &a->tcp_read);
	ev_io_stop(a->u->pw->w.loop, &a->tcp_write);
	buf_clear(&a->out, &a->u->pw->w.pool);
}
