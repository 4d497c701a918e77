/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Captured datagrams. By TPROXY the destination comes with each of them. The kernel chooses among
 * the workers' sockets by source and destination together, so that a device's datagrams are spread;
 * those that belong to another worker are sent there by mail, a copy.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "redir/udp_priv.h"

#ifndef IP_ORIGDSTADDR
#define IP_ORIGDSTADDR 20
#endif
#ifndef IPV6_ORIGDSTADDR
#define IPV6_ORIGDSTADDR 74
#endif
#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif

#define BATCHES_PER_TURN 8 /* fairness: then others have their turn */
#define MAIL_OCTETS_MAX  (8u << 20)

/* ---- mail ---- */

struct udp_mail {
	struct job job;
	struct udp *to;
	unsigned n;
	size_t used, octets;
	struct udp_datagram v[UDP_BATCH]; /* their data behind, in mem */
	uint8_t mem[];
};

static void take_mail(struct job *job, struct worker *w)
{
	struct udp_mail *m = container_of(job, struct udp_mail, job);

	(void)w;
	atomic_fetch_sub(&m->to->mailed, m->octets);
	for (unsigned i = 0; i < m->n; i++)
		udp_take(m->to, &m->v[i]);
	udp_flush(m->to);
	free(m);
}

static unsigned owner_of(const struct udp *u, const struct addr *src)
{
	return addr_hash(src, 0) % u->rw->redir->n_workers;
}

/* Those of the batch that are one other worker's, in one letter. */
static void post(struct udp *from, struct udp *to, const struct udp_datagram *v,
		 const unsigned *owner, unsigned me, unsigned n)
{
	size_t octets = 0;
	unsigned count = 0;
	struct udp_mail *m;

	for (unsigned i = 0; i < n; i++) {
		octets += owner[i] == me ? v[i].len : 0;
		count += owner[i] == me;
	}
	if (atomic_load(&to->mailed) + octets > MAIL_OCTETS_MAX)
		m = NULL; /* it is busy; that is how datagrams are lost */
	else
		m = malloc(sizeof(*m) + octets);
	if (!m) {
		from->counters.lost += count;
		return;
	}
	memset(&m->job, 0, sizeof(m->job));
	m->job.run = take_mail;
	m->to = to;
	m->n = 0;
	m->used = 0;
	m->octets = octets;
	for (unsigned i = 0; i < n; i++) {
		struct udp_datagram *d = &m->v[m->n];
		if (owner[i] != me)
			continue;
		*d = v[i];
		d->data = m->mem + m->used;
		if (v[i].len)
			memcpy(m->mem + m->used, v[i].data, v[i].len);
		m->used += v[i].len;
		m->n++;
	}
	atomic_fetch_add(&to->mailed, octets);
	worker_post(&to->rw->w, &m->job);
}

/* ---- datagrams ---- */

static void take_control(struct msghdr *h, struct udp_datagram *d)
{
	int value;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		const void *data = CMSG_DATA(c);
		size_t len = c->cmsg_len - CMSG_LEN(0);

		if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_ORIGDSTADDR) ||
		    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_ORIGDSTADDR)) {
			addr_from_sockaddr(&d->dst, data, (socklen_t)len);
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS && len >= 1) {
			d->tos = *(const uint8_t *)data;
		} else if (len >= sizeof(value)) {
			memcpy(&value, data, sizeof(value));
			if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL) ||
			    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT))
				d->ttl = (uint8_t)value;
			else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS)
				d->tos = (uint8_t)value;
		}
	}
}

static bool datagram_of(struct udp *u, int i, struct udp_datagram *d)
{
	struct msghdr *h = &u->batch.h[i].msg_hdr;

	memset(d, 0, sizeof(*d));
	d->ttl = 64;
	d->data = udp_batch_data(&u->batch, i);
	d->len = u->batch.h[i].msg_len;
	take_control(h, d);
	d->tos = u->rw->conf->dscp ? d->tos & SOCK_DSCP : 0;
	return udp_batch_from(&u->batch, i, &d->src) && d->dst.len != 0 &&
	       addr_family(&d->src) == addr_family(&d->dst) && addr_port(&d->src) != 0;
}

static void take_batch(struct udp *u, int n)
{
	struct redir *rd = u->rw->redir;
	struct udp_datagram v[UDP_BATCH];
	unsigned owner[UDP_BATCH], k = 0;
	uint64_t others = 0;

	for (int i = 0; i < n; i++) {
		if (!datagram_of(u, i, &v[k])) {
			u->counters.lost++;
			continue;
		}
		owner[k] = owner_of(u, &v[k].src);
		if (owner[k] == u->rw->w.index)
			udp_take(u, &v[k]);
		else
			others |= 1ull << (owner[k] % 64);
		k++;
	}
	udp_flush(u);
	for (unsigned w = 0; others && w < rd->n_workers; w++)
		if (w != u->rw->w.index && others >> (w % 64) & 1)
			for (unsigned i = 0; i < k; i++)
				if (owner[i] == w) {
					post(u, rd->workers[w].udp, v, owner, w, k);
					break;
				}
}

static void listener_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct udp_listener *l = container_of(io, struct udp_listener, io);
	struct udp *u = l->u;

	(void)loop;
	(void)events;
	for (int i = 0; i < BATCHES_PER_TURN; i++) {
		int n = udp_batch_recv(&u->batch, l->fd);

		if (n < 0)
			log_limited(&u->limit_listen, 1, LVL_WARNING, "udp: cannot receive: %s",
				    strerror(-n));
		if (n <= 0)
			return;
		take_batch(u, n);
		if (n < UDP_BATCH || !u->runs)
			return;
	}
}

/* ---- sockets ---- */

static int set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int open_socket(const struct addr *addr)
{
	bool v6 = addr_family(addr) == AF_INET6, any = addr_is_any(addr);
	int fd = udp_socket(addr_family(addr), 0), rc = fd < 0 ? fd : 0;

	if (rc == 0)
		rc = set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (rc == 0 && v6)
		rc = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !any);
	if (rc == 0)
		rc = set(fd, IPPROTO_IP, IP_TRANSPARENT, 1);
	if (rc == 0 && (!v6 || any)) {
		rc = set(fd, IPPROTO_IP, IP_ORIGDSTADDR, 1);
		set(fd, IPPROTO_IP, IP_RECVTTL, 1);
		set(fd, IPPROTO_IP, IP_RECVTOS, 1);
	}
	if (rc == 0 && v6) {
		rc = set(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1);
		if (rc == 0)
			rc = set(fd, IPPROTO_IPV6, IPV6_ORIGDSTADDR, 1);
		set(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1);
		set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
	}
	if (rc == 0 && bind(fd, &addr->u.sa, addr->len) < 0)
		rc = -errno;
	if (rc == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return rc;
}

int udp_listen(struct udp *u)
{
	const struct addr_list *want = &u->rw->conf->listen;
	int rc = 0;

	u->listeners = calloc(want->n, sizeof(*u->listeners));
	if (!u->listeners)
		return -ENOMEM;
	for (size_t i = 0; i < want->n; i++) {
		struct udp_listener *l = &u->listeners[u->n_listeners];
		int fd = open_socket(&want->v[i]);

		if (fd < 0) {
			char text[ADDR_STRLEN];
			rc = fd;
			log_error("udp: cannot take datagrams at %s: %s",
				  addr_str(&want->v[i], text, sizeof(text)), strerror(-fd));
			continue;
		}
		l->u = u;
		l->addr = want->v[i];
		l->fd = fd;
		ev_io_init(&l->io, listener_cb, fd, EV_READ);
		ev_io_start(u->rw->w.loop, &l->io);
		u->n_listeners++;
	}
	return rc;
}

void udp_unlisten(struct udp *u)
{
	for (size_t i = 0; i < u->n_listeners; i++) {
		ev_io_stop(u->rw->w.loop, &u->listeners[i].io);
		close(u->listeners[i].fd);
	}
	free(u->listeners);
	u->listeners = NULL;
	u->n_listeners = 0;
}
