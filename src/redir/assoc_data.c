/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The datagrams of an association, to its proxy and back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/s6glue.h"
#include "redir/front_udp.h"
#include "redir/udp_priv.h"

/* ---- to the proxy ---- */

static void count_lost(struct assoc *a)
{
	a->lost++;
	a->u->counters.lost++;
}

void assoc_watch(struct assoc *a)
{
	struct ev_loop *loop = a->u->rw->w.loop;
	int want = EV_READ | (a->out.len > 0 ? EV_WRITE : 0);

	if (a->fd < 0 || (ev_is_active(&a->io) && (a->io.events & (EV_READ | EV_WRITE)) == want))
		return;
	ev_io_stop(loop, &a->io);
	ev_io_set(&a->io, a->fd, want);
	ev_io_start(loop, &a->io);
}

/* Errors are left for reading to tell. */
void assoc_flush(struct assoc *a)
{
	if (list_linked(&a->dirty))
		list_remove(&a->u->dirty, &a->dirty);
	while (a->fd >= 0 && a->out.len > 0) {
		ssize_t n = send(a->fd, buf_data(&a->out), a->out.len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		buf_consume(&a->out, &a->u->rw->w.pool, (size_t)n);
	}
	assoc_watch(a);
}

/* A datagram is written as a whole or not at all: what does not fit is lost, as on any queue. */
static void put_stream(struct assoc *a, const struct s6_udp *m)
{
	struct bufpool *pool = &a->u->rw->w.pool;
	struct s6_udp head = *m;
	uint8_t text[UDP_HEAD_ROOM];
	size_t len;

	head.payload = NULL;
	if (s6_udp_build(&head, text, sizeof(text), &len) != S6_OK) {
		count_lost(a);
		return;
	}
	if (a->out.len > 0 && buf_size(&a->out) - a->out.len < len + m->payload_len)
		assoc_flush(a);
	if (buf_size(&a->out) - a->out.len < len + m->payload_len ||
	    buf_put(&a->out, pool, text, len) != len) {
		count_lost(a);
		return;
	}
	if (m->payload_len)
		buf_put(&a->out, pool, m->payload, m->payload_len);
	if (!list_linked(&a->dirty))
		list_push(&a->u->dirty, &a->dirty);
}

static void put(struct assoc *a, const struct s6_udp *m, uint8_t tos)
{
	if (a->by == UDP_BY_UDP)
		udp_leg_send(a->leg, m, tos);
	else
		put_stream(a, m);
}

static void to_proxy(struct assoc *a, const struct addr *dst, const struct s6_address *name,
		     uint8_t tos, const uint8_t *data, size_t len)
{
	struct s6_udp m = {.type = S6_UDP_DATAGRAM,
			   .association = a->id,
			   .payload = data,
			   .payload_len = (uint16_t)len};

	if (name)
		m.addr = *name;
	else
		s6glue_from_addr(&m.addr, dst);
	put(a, &m, tos);
}

static void note_sent(struct assoc *a, const struct udp_datagram *d)
{
	unsigned i = a->next_recent++ % ASSOC_RECENT;

	a->recent[i].dst = d->dst;
	a->recent[i].len = (uint16_t)d->len;
	if (a->asked++ == 0)
		a->asked_s = udp_now(a->u);
	a->datagrams_up++;
	a->bytes_up += d->len;
	a->u->counters.datagrams_up++;
	a->u->counters.bytes_up += d->len;
}

/* With its header it would be longer than any packet. */
static bool too_big(const struct assoc *a, const struct s6_address *name, size_t len)
{
	return a->by == UDP_BY_UDP &&
	       len > (size_t)(UDP_PAYLOAD_MAX - (name ? UDP_HEAD_ROOM : UDP_HEAD_MAX));
}

void assoc_send(struct assoc *a, const struct udp_datagram *d)
{
	note_sent(a, d);
	switch (a->state) {
	case ASSOC_FORMING:
	case ASSOC_OPENING:
	case ASSOC_PAUSE:
		assoc_keep(a, d);
		break;
	case ASSOC_UP:
		if (!too_big(a, d->name, d->len)) {
			to_proxy(a, &d->dst, d->name, d->tos, d->data, d->len);
		} else if (a->wish == UDP_BY_AUTO) {
			a->wish = UDP_BY_TCP;
			assoc_keep(a, d);
			assoc_because(a, "a datagram too big for UDP");
			assoc_lost(a);
		} else {
			count_lost(a);
			assoc_tell(a, ICMP_TOO_BIG, &d->dst, &d->dst, d->len,
				   UDP_PAYLOAD_MAX - UDP_HEAD_MAX);
		}
		break;
	case ASSOC_DIRECT:
		assoc_direct_send_to(a, &d->dst, d->name, d->data, d->len);
		break;
	case ASSOC_DOWN:
		a->u->counters.refused++;
		assoc_tell(a, ICMP_HOST_UNREACHABLE, &d->dst, &d->dst, d->len, 0);
		break;
	}
}

/* ---- what waits ---- */

void assoc_keep(struct assoc *a, const struct udp_datagram *d)
{
	struct assoc_kept *k = NULL;

	if (a->kept.count < ASSOC_KEPT && a->kept_octets + d->len <= ASSOC_KEPT_OCTETS)
		k = malloc(sizeof(*k) + d->len);
	if (k)
		k->name = d->name ? malloc(sizeof(*d->name)) : NULL;
	if (!k || (d->name && !k->name)) {
		free(k);
		count_lost(a);
		return;
	}
	if (d->name)
		*k->name = *d->name;
	k->dst = d->dst;
	k->tos = d->tos;
	k->len = (uint16_t)d->len;
	if (d->len)
		memcpy(k->data, d->data, d->len);
	a->kept_octets += d->len;
	list_push(&a->kept, &k->node);
}

static void drop_first(struct assoc *a)
{
	struct assoc_kept *k = container_of(list_pop(&a->kept), struct assoc_kept, node);

	a->kept_octets -= k->len;
	free(k->name);
	free(k);
}

void assoc_drop_kept(struct assoc *a)
{
	while (!list_empty(&a->kept))
		drop_first(a);
}

static void send_first(struct assoc *a)
{
	const struct assoc_kept *k = container_of(list_first(&a->kept), struct assoc_kept, node);

	if (too_big(a, k->name, k->len))
		count_lost(a);
	else
		to_proxy(a, &k->dst, k->name, k->tos, k->data, k->len);
}

void assoc_send_opener(struct assoc *a, bool empty)
{
	struct s6_udp m = {.type = S6_UDP_DATAGRAM, .association = a->id};

	if (!empty && !list_empty(&a->kept)) {
		send_first(a);
	} else {
		m.addr.type = S6_ADDR_IPV4; /* address and port 0 */
		put(a, &m, 0);
	}
	if (a->leg)
		udp_leg_flush(a->leg);
}

void assoc_send_kept(struct assoc *a, bool skip_first)
{
	if (skip_first && !list_empty(&a->kept))
		drop_first(a);
	while (!list_empty(&a->kept)) {
		send_first(a);
		if (a->leg) /* the data go with the record */
			udp_leg_flush(a->leg);
		if (a->state != ASSOC_UP)
			return; /* the flush has shown that the way is lost */
		drop_first(a);
	}
}

/* ---- from the proxy ---- */

static void count_down(struct assoc *a, size_t len)
{
	a->datagrams_down++;
	a->bytes_down += len;
	a->u->counters.datagrams_down++;
	a->u->counters.bytes_down += len;
}

static void deliver(struct assoc *a, const struct addr *from, const struct s6_udp *m)
{
	struct udp *u = a->u;
	char text[ADDR_STRLEN];

	a->asked = 0;
	a->answered = true;
	if (a->door) {
		if (!front_udp_deliver(a->door, from, m->payload, m->payload_len)) {
			count_lost(a);
			return;
		}
		count_down(a, m->payload_len);
		return;
	}
	if (addr_family(from) != addr_family(&a->node.key.src) || addr_port(from) == 0) {
		count_lost(a);
		return;
	}
	if (!udp_replies_put(&u->replies, from, &a->node.key.src, m->payload, m->payload_len)) {
		count_lost(a);
		log_limited(&u->limit_reply, 1, LVL_WARNING,
			    "udp: cannot answer in the name of %s: %s",
			    addr_str(from, text, sizeof(text)), strerror(u->replies.last_error));
		return;
	}
	count_down(a, m->payload_len);
}

/* Of ports the protocol says nothing; but a host that says of itself that it cannot be reached means
 * one. */
static enum icmp_error error_of(const struct s6_udp *m, const struct addr *reporter,
				const struct addr *dst)
{
	switch (m->error) {
	case S6_UDP_ERR_NET_UNREACHABLE:
		return ICMP_NET_UNREACHABLE;
	case S6_UDP_ERR_TTL_EXPIRED:
		return ICMP_TTL_EXPIRED;
	case S6_UDP_ERR_TOO_BIG:
		return ICMP_TOO_BIG;
	default:
		return addr_equal_ip(reporter, dst) ? ICMP_PORT_IS_UNREACHABLE
						    : ICMP_HOST_UNREACHABLE;
	}
}

/* A message that names no MTU: the next smaller one of those in use. */
static size_t mtu_for(const struct s6_udp *m, size_t len, sa_family_t family)
{
	return m->mtu ? m->mtu : icmp_plateau(len + (family == AF_INET ? 28 : 48), family);
}

static void report_error(struct assoc *a, const struct s6_udp *m)
{
	struct addr dst, reporter;
	size_t len = 0;

	if (!s6glue_to_addr(&dst, &m->addr) || !s6glue_to_addr(&reporter, &m->reporter))
		return;
	a->asked = 0; /* somebody is there */
	for (unsigned i = 0; i < ASSOC_RECENT; i++)
		if (addr_equal(&a->recent[i].dst, &dst))
			len = a->recent[i].len;
	assoc_tell(a, error_of(m, &reporter, &dst), &reporter, &dst, len,
		   mtu_for(m, len, addr_family(&dst)));
}

void assoc_message(struct assoc *a, const struct s6_udp *m)
{
	struct addr from;

	if (m->type == S6_UDP_ERROR)
		report_error(a, m);
	else if (m->type == S6_UDP_DATAGRAM && s6glue_to_addr(&from, &m->addr))
		deliver(a, &from, m);
}

/* ---- the connection ---- */

/* False: the association is not what it was. */
static bool take_message(struct assoc *a, const struct s6_udp *m)
{
	if (m->type == S6_UDP_INIT) {
		if (a->state != ASSOC_FORMING || !a->at->ready)
			return true;
		a->id = m->association;
		a->has_id = true;
		assoc_open(a);
		return true;
	}
	if (!a->has_id || m->association != a->id)
		return true; /* R31 */
	if (m->type == S6_UDP_CONFIRM)
		assoc_confirmed(a);
	else
		assoc_message(a, m);
	return a->has_id;
}

static void read_messages(struct assoc *a)
{
	enum s6_fault why = S6_FAULT_NONE;
	size_t at = 0, used;
	struct s6_udp m;

	while (at < a->in.len) {
		enum s6_result got =
			s6_udp_parse_stream(buf_data(&a->in) + at, a->in.len - at, &m, &used, &why);
		if (got == S6_BAD) {
			udp_replies_flush(&a->u->replies);
			assoc_because(a, "nonsense from the proxy (%s)", s6_fault_str(why));
			assoc_lost(a);
			return;
		}
		if (got == S6_MORE)
			break;
		at += used;
		if (!take_message(a, &m)) {
			udp_replies_flush(&a->u->replies);
			return;
		}
	}
	udp_replies_flush(&a->u->replies); /* their data are in the buffer */
	buf_consume(&a->in, &a->u->rw->w.pool, at);
}

static void gone(struct assoc *a, const char *how)
{
	if (a->state == ASSOC_FORMING) {
		assoc_dial_gone(a, how);
		return;
	}
	assoc_because(a, "connection to the proxy: %s", how);
	upstream_suspect(a->up);
	assoc_lost(a);
}

static void read_connection(struct assoc *a)
{
	struct bufpool *pool = &a->u->rw->w.pool;
	size_t room;
	uint8_t *p = buf_room(&a->in, pool, &room);
	ssize_t n;

	if (!p) {
		gone(a, "out of memory");
		return;
	}
	n = recv(a->fd, p, room, 0);
	if (n > 0) {
		buf_added(&a->in, (size_t)n);
		if (a->state == ASSOC_FORMING)
			assoc_dial_read(a);
		if (a->fd >= 0 && (a->state != ASSOC_FORMING || a->at->ready))
			read_messages(a);
	} else if (n == 0) {
		gone(a, "closed");
	} else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
		gone(a, strerror(errno));
	} else if (a->in.len == 0) {
		buf_clear(&a->in, pool);
	}
}

void assoc_io_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct assoc *a = container_of(io, struct assoc, io);
	struct udp *u = a->u;

	(void)loop;
	if (events & EV_WRITE) {
		if (a->state == ASSOC_FORMING)
			assoc_dial_more(a);
		else
			assoc_flush(a);
	}
	if (events & EV_READ)
		read_connection(a);
	udp_flush(u);
}
