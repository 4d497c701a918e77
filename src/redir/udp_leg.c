/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Plain UDP to proxies. The socket is connected: its source address is what the proxy knows the
 * associations by, and ICMP errors are told. When packets to the proxy would leave from another
 * address, a link has gone or come, and what the proxy would drop is formed again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/dgram.h"
#include "core/sock.h"
#include "redir/udp_priv.h"

#define BATCHES_PER_TURN 8
#define NAT_S            20.0 /* a NAT on the way may have forgotten us when nothing was sent for so long */

static void leg_free(struct udp_leg *leg)
{
	ev_io_stop(leg->u->rw->w.loop, &leg->io);
	list_remove(&leg->u->legs, &leg->node);
	close(leg->fd);
	free(leg);
}

/* All that is on it, for this error; 0: another link leads to the proxy. That plain UDP does not get
 * there is said by somebody on the way only, not by a link or route that has gone. Its last association
 * frees it. */
static void leg_lost(struct udp_leg *leg, int err)
{
	const char *why = err ? strerror(err) : "another link leads to the proxy";
	bool refused = err == ECONNREFUSED || err == EHOSTUNREACH;
	size_t count = leg->associations.count;
	struct list_node *n;

	leg->n = 0;
	while (count-- > 0 && (n = list_first(&leg->associations))) {
		struct assoc *a = container_of(n, struct assoc, on_leg);
		if (refused && a->state == ASSOC_OPENING && a->wish == UDP_BY_AUTO && !a->scout) {
			assoc_switch_to_tcp(a, why);
		} else {
			assoc_because(a, "%s", why);
			assoc_lost(a);
		}
	}
}

static void take(struct udp_leg *leg, const uint8_t *data, size_t len)
{
	struct udp *u = leg->u;
	struct s6_udp m;
	struct assoc *a;

	if (s6_udp_parse_packet(data, len, &m, NULL) != S6_OK)
		return;
	a = udp_find_id(u, leg, m.association);
	if (a && (m.type == S6_UDP_DATAGRAM || m.type == S6_UDP_ERROR))
		assoc_message(a, &m);
}

/* One packet, or several as one. */
static void take_all(struct udp_leg *leg, struct mmsghdr *h, const uint8_t *data)
{
	size_t len = h->msg_len, size = dgram_segment(&h->msg_hdr, len);

	for (size_t at = 0; at < len; at += size)
		take(leg, data + at, size < len - at ? size : len - at);
}

static void leg_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct udp_leg *leg = container_of(io, struct udp_leg, io);
	struct udp *u = leg->u;

	(void)loop;
	(void)events;
	for (int i = 0; i < BATCHES_PER_TURN; i++) {
		int n = udp_batch_recv(&u->batch, leg->fd);

		if (n == -ECONNREFUSED || n == -EHOSTUNREACH || n == -ENETUNREACH) {
			leg_lost(leg, -n);
			return;
		}
		if (n <= 0)
			return;
		leg->heard_s = udp_now(u);
		for (int k = 0; k < n; k++)
			take_all(leg, &u->batch.h[k], udp_batch_data(&u->batch, k));
		udp_replies_flush(&u->replies);
		if (n < UDP_BATCH)
			return;
	}
}

static struct udp_leg *leg_new(struct udp *u, const struct addr *proxy)
{
	struct udp_leg *leg = calloc(1, sizeof(*leg));
	int rc;

	if (!leg)
		return NULL;
	leg->u = u;
	leg->proxy = *proxy;
	list_init(&leg->associations);
	leg->fd = udp_socket(addr_family(proxy), u->rw->conf->mark);
	rc = leg->fd < 0 ? leg->fd : 0;
	if (rc == 0 && connect(leg->fd, &proxy->u.sa, proxy->len) < 0)
		rc = -errno;
	if (rc == 0)
		rc = addr_of_socket(leg->fd, &leg->local);
	if (rc < 0) {
		if (leg->fd >= 0)
			close(leg->fd);
		free(leg);
		errno = -rc;
		return NULL;
	}
	leg->heard_s = udp_now(u);
	leg->segments = true;
	dgram_gro(leg->fd);
	ev_io_init(&leg->io, leg_cb, leg->fd, EV_READ);
	ev_io_start(u->rw->w.loop, &leg->io);
	list_push(&u->legs, &leg->node);
	return leg;
}

struct udp_leg *udp_leg_get(struct udp *u, const struct addr *proxy, struct assoc *a)
{
	struct udp_leg *leg = NULL;
	struct list_node *n;

	for (n = list_first(&u->legs); n && !leg; n = list_next(&u->legs, n)) {
		leg = container_of(n, struct udp_leg, node);
		if (!addr_equal(&leg->proxy, proxy))
			leg = NULL;
	}
	if (!leg)
		leg = leg_new(u, proxy);
	if (!leg)
		return NULL;
	list_push(&leg->associations, &a->on_leg);
	a->leg = leg;
	return leg;
}

/* A leg without associations stays for the next one until it is looked at. */
void udp_leg_put(struct assoc *a)
{
	if (!a->leg)
		return;
	list_remove(&a->leg->associations, &a->on_leg);
	a->leg = NULL;
}

void udp_leg_flush(struct udp_leg *leg)
{
	unsigned n = leg->n;
	int err;

	leg->n = 0;
	if (n == 0)
		return;
	leg->u->counters.lost += n - udp_send_all(leg->fd, leg->h, n, &leg->segments, &err);
	if (err == ECONNREFUSED || err == ENETUNREACH || err == EHOSTUNREACH ||
	    err == EADDRNOTAVAIL)
		leg_lost(leg, err);
}

/* The class of service of the datagram is that of the packet to the proxy as well. */
static void put_tos(struct udp_leg *leg, unsigned i, uint8_t tos)
{
	bool v4 = addr_family(&leg->proxy) == AF_INET;
	struct msghdr *h = &leg->h[i].msg_hdr;
	struct cmsghdr *c;
	int value = tos;

	h->msg_control = leg->control[i].room;
	h->msg_controllen = sizeof(leg->control[i].room);
	c = CMSG_FIRSTHDR(h);
	c->cmsg_level = v4 ? IPPROTO_IP : IPPROTO_IPV6;
	c->cmsg_type = v4 ? IP_TOS : IPV6_TCLASS;
	c->cmsg_len = CMSG_LEN(sizeof(value));
	memcpy(CMSG_DATA(c), &value, sizeof(value));
}

void udp_leg_send(struct udp_leg *leg, const struct s6_udp *m, uint8_t tos)
{
	double now_s = udp_now(leg->u);
	struct s6_udp head = *m;
	size_t len;
	unsigned i;

	if (now_s - leg->sent_s > NAT_S)
		leg->resumed_s = now_s;
	leg->sent_s = now_s;
	if (leg->n == UDP_BATCH)
		udp_leg_flush(leg);
	i = leg->n;
	head.payload = NULL;
	if (s6_udp_build(&head, leg->head[i], UDP_HEAD_MAX, &len) != S6_OK) {
		leg->u->counters.lost++;
		return;
	}
	leg->n++;
	leg->v[i][0] = (struct iovec){leg->head[i], len};
	leg->v[i][1] = (struct iovec){(void *)(uintptr_t)m->payload, m->payload_len};
	leg->h[i].msg_hdr = (struct msghdr){.msg_iov = leg->v[i], .msg_iovlen = 2};
	if (tos)
		put_tos(leg, i, tos);
}

void udp_leg_check(struct udp_leg *leg)
{
	struct addr local;

	if (list_empty(&leg->associations)) {
		leg_free(leg);
		return;
	}
	if (sock_source(&leg->proxy, leg->u->rw->conf->mark, &local) < 0 ||
	    addr_equal_ip(&local, &leg->local))
		return;
	log_notice("udp: packets to the proxy leave from another address: associations follow");
	leg_lost(leg, 0);
	if (list_empty(&leg->associations))
		leg_free(leg);
}
