/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who asks: one UDP socket for each address of "listen", and TCP clients. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "core/sock.h"
#include "libsocks6/cursor.h"
#include "redir/dns_priv.h"

#define UDP_PER_TURN 64
#define TCP_IDLE_S   10.0
#define TCP_OUT_MAX  262144 /* octets that a client may leave untaken */

bool dns_may_ask(struct dns *d, const struct addr *peer)
{
	char text[ADDR_STRLEN];

	if (conf_prefixes_contain(&d->rw->conf->dns.allow, peer))
		return true;
	d->counts.strangers++;
	log_limited(&d->limit_strangers, 1, LVL_NOTICE,
		    "dns: %s may not ask (allow in [dns] does not contain it)",
		    addr_ip_str(peer, text, sizeof(text)));
	return false;
}

/* ---- UDP ---- */

/* Room for the address that was asked, of either family, aligned. */
union cmsg_room {
	struct cmsghdr head;
	char octets[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

/* The address that a datagram was sent to, so that the answer comes from there. */
static void take_local(struct msghdr *m, struct dns_from *from)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
		struct sockaddr_in in = {.sin_family = AF_INET};
		struct in6_pktinfo info6;
		struct in_pktinfo info;

		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			memcpy(&info6, CMSG_DATA(c), sizeof(info6));
			in6.sin6_addr = info6.ipi6_addr;
			from->ifindex = info6.ipi6_ifindex;
			addr_from_sockaddr(&from->local, (struct sockaddr *)&in6, sizeof(in6));
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			memcpy(&info, CMSG_DATA(c), sizeof(info));
			in.sin_addr = info.ipi_addr;
			addr_from_sockaddr(&from->local, (struct sockaddr *)&in, sizeof(in));
		}
	}
}

static void put_cmsg(struct msghdr *m, int level, int type, const void *data, size_t len)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(m);

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	m->msg_controllen = CMSG_SPACE(len);
}

static void tell_udp(const struct dns_from *from, const uint8_t *msg, size_t len)
{
	struct iovec v = {(void *)(uintptr_t)msg, len};
	union cmsg_room control = {.octets = {0}};
	struct addr peer = from->peer, local = from->local;
	struct msghdr m = {.msg_iov = &v,
			   .msg_iovlen = 1,
			   .msg_control = control.octets,
			   .msg_controllen = sizeof(control.octets)};

	if (from->udp->v6) {
		struct in6_pktinfo info = {0};

		addr_map_v6(&peer, &from->peer);
		addr_map_v6(&local, &from->local);
		info.ipi6_addr = local.u.in6.sin6_addr;
		if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
			info.ipi6_ifindex = from->ifindex;
		put_cmsg(&m, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
	} else {
		struct in_pktinfo info = {.ipi_spec_dst = local.u.in.sin_addr};

		put_cmsg(&m, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
	}
	if (local.len == 0)
		m.msg_controllen = 0;
	m.msg_name = &peer.u.sa;
	m.msg_namelen = peer.len;
	sendmsg(from->udp->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static bool udp_read(struct dns_udp *u)
{
	uint8_t msg[DNS_QUERY_MAX + 1];
	struct dns_from from = {.udp = u};
	struct sockaddr_storage ss;
	union cmsg_room control;
	struct iovec v = {msg, sizeof(msg)};
	struct msghdr m = {.msg_name = &ss,
			   .msg_namelen = sizeof(ss),
			   .msg_iov = &v,
			   .msg_iovlen = 1,
			   .msg_control = control.octets,
			   .msg_controllen = sizeof(control.octets)};
	ssize_t n = recvmsg(u->fd, &m, MSG_DONTWAIT);

	if (n < 0)
		return errno == EINTR;
	if (!addr_from_sockaddr(&from.peer, (struct sockaddr *)&ss, m.msg_namelen) ||
	    addr_port(&from.peer) == 0)
		return true;
	take_local(&m, &from);
	if (dns_may_ask(u->d, &from.peer))
		dns_asked(u->d, &from, msg, (size_t)n);
	return true;
}

static void udp_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct dns_udp *u = container_of(io, struct dns_udp, io);

	(void)loop;
	(void)events;
	for (int i = 0; i < UDP_PER_TURN && u->d->running; i++)
		if (!udp_read(u))
			return;
}

static int udp_open(const struct addr *at)
{
	sa_family_t family = addr_family(at);
	int on = 1, off = 0, rc;
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)); /* for a successor */
	if (family == AF_INET6) {
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, addr_is_any(at) ? &off : &on, sizeof(on));
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
	} else {
		setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
	}
	if (bind(fd, &at->u.sa, at->len) == 0)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* ---- TCP ---- */

static void tcp_bury(struct corpse *c)
{
	struct dns_tcp *t = container_of(c, struct dns_tcp, corpse);

	free(t->out);
	free(t);
}

static void tcp_end(struct dns_tcp *t)
{
	struct list_node *n;

	if (t->fd < 0)
		return;
	while ((n = list_first(&t->waiters)))
		dns_waiter_free(container_of(n, struct dns_waiter, of_tcp));
	ev_io_stop(t->d->rw->w.loop, &t->io);
	close(t->fd);
	t->fd = -1;
	list_remove(&t->d->tcps, &t->node);
	t->corpse.bury = tcp_bury;
	worker_bury(&t->d->rw->w, &t->corpse);
}

static void tcp_watch(struct dns_tcp *t)
{
	int want = (t->eof ? 0 : EV_READ) | (t->out_len > 0 ? EV_WRITE : 0);
	struct ev_loop *loop = t->d->rw->w.loop;

	if (t->fd < 0)
		return;
	if (t->eof && t->out_len == 0 && list_empty(&t->waiters)) {
		tcp_end(t);
		return;
	}
	ev_io_stop(loop, &t->io);
	ev_io_set(&t->io, t->fd, want);
	if (want)
		ev_io_start(loop, &t->io);
}

static bool tcp_flush(struct dns_tcp *t)
{
	ssize_t n = t->out_len ? send(t->fd, t->out, t->out_len, MSG_NOSIGNAL) : 0;

	if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		return false;
	if (n > 0) {
		t->moved_s = dns_now(t->d);
		t->out_len -= (size_t)n;
		memmove(t->out, t->out + n, t->out_len);
	}
	return true;
}

/* False: there is no room for it. */
static bool tcp_put(struct dns_tcp *t, const uint8_t *msg, size_t len)
{
	size_t need = t->out_len + 2 + len;
	struct writer w;
	uint8_t *more;

	if (need > TCP_OUT_MAX)
		return false;
	if (need > t->out_cap) {
		more = realloc(t->out, need + DNS_UDP_MAX);
		if (!more)
			return false;
		t->out = more;
		t->out_cap = need + DNS_UDP_MAX;
	}
	w = writer_of(t->out + t->out_len, t->out_cap - t->out_len);
	write_u16(&w, (uint16_t)len);
	write_bytes(&w, msg, len);
	t->out_len += w.len;
	return true;
}

/* An end here would take the waiters away under its caller's feet: what is wrong shows when the
 * socket is looked at. */
static void tell_tcp(struct dns_tcp *t, const uint8_t *msg, size_t len)
{
	if (t->fd < 0)
		return;
	if (!tcp_put(t, msg, len) || !tcp_flush(t))
		shutdown(t->fd, SHUT_RDWR);
	if (!ev_is_active(&t->io) || t->out_len > 0) {
		ev_io_stop(t->d->rw->w.loop, &t->io);
		ev_io_set(&t->io, t->fd, EV_WRITE | (t->eof ? 0 : EV_READ));
		ev_io_start(t->d->rw->w.loop, &t->io);
	}
}

/* False when the client is gone. */
static bool tcp_take(struct dns_tcp *t)
{
	struct dns_from from = {.tcp = t, .peer = t->peer};
	size_t done = 0;

	while (t->fd >= 0) {
		struct reader r = reader_of(t->in + done, t->in_len - done);
		uint16_t len;

		if (!read_u16(&r, &len))
			break;
		if (len > DNS_QUERY_MAX) {
			tcp_end(t);
			return false;
		}
		if (r.left < len)
			break;
		dns_asked(t->d, &from, t->in + done + 2, len);
		done += 2 + (size_t)len;
	}
	if (t->fd < 0)
		return false;
	t->in_len -= done;
	memmove(t->in, t->in + done, t->in_len);
	return true;
}

static void tcp_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct dns_tcp *t = container_of(io, struct dns_tcp, io);
	ssize_t n;

	(void)loop;
	if ((events & EV_WRITE) && !tcp_flush(t)) {
		tcp_end(t);
		return;
	}
	if ((events & EV_READ) && !t->eof) {
		n = recv(t->fd, t->in + t->in_len, sizeof(t->in) - t->in_len, 0);
		if (n > 0) {
			t->in_len += (size_t)n;
			t->moved_s = dns_now(t->d);
			if (!tcp_take(t))
				return;
		} else if (n == 0) {
			t->eof = true;
		} else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
			tcp_end(t);
			return;
		}
	}
	tcp_watch(t);
}

static unsigned tcp_of(const struct dns *d, const struct addr *peer)
{
	struct list_node *n;
	unsigned count = 0;

	for (n = list_first(&d->tcps); n; n = list_next(&d->tcps, n))
		count += addr_equal_ip(&container_of(n, struct dns_tcp, node)->peer, peer);
	return count;
}

static void tcp_accepted(struct worker *w, int fd, const struct addr *peer)
{
	struct dns *d = redir_worker_of(w)->dns;
	struct dns_tcp *t = NULL;

	if (!dns_may_ask(d, peer)) {
		sock_reset(fd);
		return;
	}
	if (d->tcps.count < DNS_TCP_MAX && tcp_of(d, peer) < DNS_TCP_CLIENT)
		t = calloc(1, sizeof(*t));
	if (!t) {
		d->counts.limited++;
		sock_reset(fd);
		return;
	}
	t->d = d;
	t->peer = *peer;
	t->fd = fd;
	t->moved_s = dns_now(d);
	list_init(&t->waiters);
	list_push(&d->tcps, &t->node);
	ev_io_init(&t->io, tcp_cb, fd, EV_READ);
	ev_io_start(w->loop, &t->io);
	dns_tick(d);
}

bool dns_clients_tick(struct dns *d)
{
	struct list_node *n, *tmp;

	list_for_each_safe (&d->tcps, n, tmp) {
		struct dns_tcp *t = container_of(n, struct dns_tcp, node);

		if (dns_now(d) - t->moved_s >= TCP_IDLE_S)
			tcp_end(t);
	}
	return !list_empty(&d->tcps);
}

/* ---- both ---- */

void dns_tell(const struct dns_from *from, const uint8_t *msg, size_t len)
{
	if (len == 0)
		return;
	if (from->tcp)
		tell_tcp(from->tcp, msg, len);
	else
		tell_udp(from, msg, len);
}

static int cannot(const struct addr *at, const char *how, int rc)
{
	char text[ADDR_STRLEN];

	log_error("[dns]: cannot listen on %s by %s: %s%s", addr_str(at, text, sizeof(text)), how,
		  strerror(-rc),
		  rc == -EADDRINUSE
			  ? " (another name server has it: name other addresses, or stop it)"
		  : rc == -EACCES ? " (ports below 1024 need CAP_NET_BIND_SERVICE: start as root)"
		  : rc == -EADDRNOTAVAIL ? " (no interface has it yet: [::]:PORT serves all)"
					 : "");
	return rc == -EACCES ? EX_NOPERM : EX_UNAVAILABLE;
}

int dns_clients_open(struct dns *d)
{
	const struct addr_list *at = &d->rw->conf->dns.listen;
	const struct sock_wishes wishes = {.reuseport = true, .tos = -1, .ttl = -1};
	int rc;

	d->udp = calloc(at->n, sizeof(*d->udp));
	if (!d->udp)
		return EX_OSERR;
	for (size_t i = 0; i < at->n; i++) {
		struct dns_udp *u = &d->udp[i];

		u->d = d;
		u->v6 = addr_family(&at->v[i]) == AF_INET6;
		u->fd = udp_open(&at->v[i]);
		if (u->fd < 0)
			return cannot(&at->v[i], "UDP", u->fd);
		ev_io_init(&u->io, udp_cb, u->fd, EV_READ);
		d->n_udp++;
	}
	rc = listeners_open(&d->tcp, &d->rw->w, at, &wishes, tcp_accepted);
	if (rc < 0)
		return d->tcp.v ? cannot(&at->v[d->tcp.n], "TCP", rc) : EX_OSERR;
	return 0;
}

void dns_clients_start(struct dns *d)
{
	listeners_start(&d->tcp);
	for (size_t i = 0; i < d->n_udp; i++)
		ev_io_start(d->rw->w.loop, &d->udp[i].io);
}

void dns_clients_stop(struct dns *d)
{
	struct list_node *n, *tmp;

	listeners_close(&d->tcp);
	for (size_t i = 0; i < d->n_udp; i++) {
		ev_io_stop(d->rw->w.loop, &d->udp[i].io);
		close(d->udp[i].fd);
	}
	d->n_udp = 0;
	list_for_each_safe (&d->tcps, n, tmp)
		tcp_end(container_of(n, struct dns_tcp, node));
}
