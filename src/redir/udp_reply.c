/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/udp_reply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

int udp_replies_init(struct udp_replies *r)
{
	memset(r, 0, sizeof(*r));
	list_init(&r->order);
	r->max = UDP_REPLY_SOCKETS;
	r->segments = true;
	return siphash_new_key(&r->key) ? 0 : -EIO;
}

static struct udp_reply_socket **place_of(struct udp_replies *r, const struct addr *a)
{
	uint8_t text[18] = {0};
	struct udp_reply_socket **at;

	if (addr_family(a) == AF_INET6)
		memcpy(text, &a->u.in6.sin6_addr, 16);
	else
		memcpy(text, &a->u.in.sin_addr, 4);
	text[16] = (uint8_t)(addr_port(a) >> 8);
	text[17] = (uint8_t)addr_port(a);
	at = &r->buckets[siphash(&r->key, text, sizeof(text)) % UDP_REPLY_BUCKETS];
	while (*at && !addr_equal(&(*at)->remote, a))
		at = &(*at)->next;
	return at;
}

static void drop(struct udp_replies *r, struct udp_reply_socket *s)
{
	struct udp_reply_socket **at = place_of(r, &s->remote);

	if (r->through == s)
		udp_replies_flush(r);
	*at = s->next;
	list_remove(&r->order, &s->order);
	close(s->fd);
	free(s);
}

void udp_replies_fini(struct udp_replies *r)
{
	struct list_node *n;

	r->n = 0;
	r->through = NULL;
	while ((n = list_first(&r->order)))
		drop(r, container_of(n, struct udp_reply_socket, order));
}

static int open_for(const struct addr *remote)
{
	const int on = 1, least = 2048;
	bool v4 = addr_family(remote) == AF_INET;
	/* No mark: answers to devices go where the rules send them. */
	int fd = udp_socket(addr_family(remote), 0), rc;

	if (fd < 0)
		return fd;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof(least));
	/* Other workers have sockets for the same host. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	    setsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TRANSPARENT : IPV6_TRANSPARENT,
		       &on, sizeof(on)) == 0 &&
	    bind(fd, &remote->u.sa, remote->len) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

static struct udp_reply_socket *socket_for(struct udp_replies *r, const struct addr *remote)
{
	struct udp_reply_socket *s = *place_of(r, remote);
	int fd;

	if (s) {
		list_remove(&r->order, &s->order);
		list_push(&r->order, &s->order);
		return s;
	}
	if (r->order.count >= r->max)
		drop(r, container_of(list_first(&r->order), struct udp_reply_socket, order));
	fd = open_for(remote);
	s = fd < 0 ? NULL : calloc(1, sizeof(*s));
	if (!s) {
		r->last_error = fd < 0 ? -fd : ENOMEM;
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	s->fd = fd;
	s->remote = *remote;
	*place_of(r, remote) = s; /* the end of its chain */
	list_push(&r->order, &s->order);
	r->opened++;
	return s;
}

void udp_replies_flush(struct udp_replies *r)
{
	unsigned n = r->n, sent;
	int err;

	r->n = 0;
	if (n == 0)
		return;
	sent = udp_send_all(r->through->fd, r->h, n, &r->segments, &err);
	r->sent += sent;
	r->lost += n - sent;
	if (err)
		r->last_error = err;
	r->through = NULL;
}

bool udp_replies_put(struct udp_replies *r, const struct addr *remote, const struct addr *device,
		     const uint8_t *data, size_t len)
{
	struct udp_reply_socket *s = r->through;
	unsigned i;

	if (!s || !addr_equal(&s->remote, remote)) {
		udp_replies_flush(r);
		s = socket_for(r, remote);
		if (!s)
			return false;
	} else if (r->n == UDP_BATCH) {
		udp_replies_flush(r);
	}
	r->through = s;
	i = r->n++;
	r->to[i] = *device;
	r->v[i] = (struct iovec){(void *)(uintptr_t)data, len};
	r->h[i].msg_hdr = (struct msghdr){.msg_name = &r->to[i].u.sa,
					  .msg_namelen = r->to[i].len,
					  .msg_iov = &r->v[i],
					  .msg_iovlen = 1};
	return true;
}
