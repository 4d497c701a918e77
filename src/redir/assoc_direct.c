/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An association without a proxy: a socket of our own, and the errors that the kernel hears of it. */
#include <errno.h>
/* clang-format off: errqueue.h needs time.h */
#include <time.h>
#include <linux/errqueue.h>
/* clang-format on */
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "core/s6glue.h"
#include "redir/front_udp.h"
#include "redir/udp_priv.h"

#define ERRORS_PER_TURN  32
#define BATCHES_PER_TURN 8

static bool error_of(const struct sock_extended_err *e, enum icmp_error *error)
{
	if (e->ee_origin == SO_EE_ORIGIN_ICMP && e->ee_type == 11)
		*error = ICMP_TTL_EXPIRED;
	else if (e->ee_origin == SO_EE_ORIGIN_ICMP && e->ee_type == 3)
		*error = e->ee_code == 0   ? ICMP_NET_UNREACHABLE
			 : e->ee_code == 3 ? ICMP_PORT_IS_UNREACHABLE
			 : e->ee_code == 4 ? ICMP_TOO_BIG
			 : e->ee_code >= 9 && e->ee_code != 11 && e->ee_code != 12
				 ? ICMP_PROHIBITED
				 : ICMP_HOST_UNREACHABLE;
	else if (e->ee_origin == SO_EE_ORIGIN_ICMP6 && e->ee_type == 3)
		*error = ICMP_TTL_EXPIRED;
	else if (e->ee_origin == SO_EE_ORIGIN_ICMP6 && e->ee_type == 2)
		*error = ICMP_TOO_BIG;
	else if (e->ee_origin == SO_EE_ORIGIN_ICMP6 && e->ee_type == 1)
		*error = e->ee_code == 0   ? ICMP_NET_UNREACHABLE
			 : e->ee_code == 1 ? ICMP_PROHIBITED
			 : e->ee_code == 4 ? ICMP_PORT_IS_UNREACHABLE
					   : ICMP_HOST_UNREACHABLE;
	else
		return false;
	return true;
}

static size_t recent_len(const struct assoc *a, const struct addr *dst)
{
	for (unsigned i = 0; i < ASSOC_RECENT; i++)
		if (addr_equal(&a->recent[i].dst, dst))
			return a->recent[i].len;
	return 0;
}

/* False when there is no more. */
static bool read_error(struct assoc *a)
{
	struct sockaddr_storage ss;
	uint8_t room[512];
	struct msghdr h = {.msg_name = &ss,
			   .msg_namelen = sizeof(ss),
			   .msg_control = room,
			   .msg_controllen = sizeof(room)};
	struct sock_extended_err e;
	struct addr dst, reporter;
	enum icmp_error error;

	if (recvmsg(a->dfd, &h, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
		return false;
	if (!addr_from_sockaddr(&dst, (const struct sockaddr *)&ss, h.msg_namelen))
		return true;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
		size_t len = c->cmsg_len - CMSG_LEN(0);
		const uint8_t *data = CMSG_DATA(c);

		if (!((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
		      (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR)) ||
		    len < sizeof(e))
			continue;
		memcpy(&e, data, sizeof(e));
		if (!error_of(&e, &error))
			continue;
		if (!addr_from_sockaddr(&reporter,
					(const struct sockaddr *)(const void *)(data + sizeof(e)),
					(socklen_t)(len - sizeof(e))))
			reporter = dst;
		assoc_tell(a, error, &reporter, &dst, recent_len(a, &dst), e.ee_info);
	}
	return true;
}

static void direct_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct assoc *a = container_of(io, struct assoc, dio);
	struct udp *u = a->u;

	(void)loop;
	(void)events;
	for (int i = 0; i < ERRORS_PER_TURN && read_error(a); i++)
		;
	for (int i = 0; i < BATCHES_PER_TURN; i++) {
		int n = udp_batch_recv(&u->batch, a->dfd);

		for (int k = 0; k < n; k++) {
			struct s6_udp m = {.type = S6_UDP_DATAGRAM,
					   .payload = udp_batch_data(&u->batch, k),
					   .payload_len = (uint16_t)u->batch.h[k].msg_len};
			struct addr from;
			if (!udp_batch_from(&u->batch, k, &from))
				continue;
			s6glue_from_addr(&m.addr, &from);
			assoc_message(a, &m);
		}
		udp_replies_flush(&u->replies);
		if (n < UDP_BATCH)
			return;
	}
}

/* One socket for both families, where the kernel has IPv6: a program's destinations are of any. */
static int open_both(struct assoc *a, bool *v4)
{
	int fd = udp_socket(AF_INET6, a->u->rw->conf->mark), value = 0;

	*v4 = fd < 0;
	if (fd < 0)
		return udp_socket(AF_INET, a->u->rw->conf->mark);
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &value, sizeof(value));
	value = 1;
	setsockopt(fd, IPPROTO_IP, IP_RECVERR, &value, sizeof(value));
	a->dual = true;
	return fd;
}

int assoc_direct_open(struct assoc *a)
{
	bool v4 = addr_family(&a->node.key.src) == AF_INET;
	int fd, value = 1;

	if (a->dfd >= 0)
		return 0;
	fd = a->door ? open_both(a, &v4)
		     : udp_socket(addr_family(&a->node.key.src), a->u->rw->conf->mark);
	if (fd < 0)
		return fd;
	setsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_RECVERR : IPV6_RECVERR, &value,
		   sizeof(value));
	if (a->tos) {
		value = a->tos;
		setsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS, &value,
			   sizeof(value));
	}
	if (a->node.key.ttl > 1) { /* we are a router on the way */
		value = a->node.key.ttl - 1;
		setsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TTL : IPV6_UNICAST_HOPS,
			   &value, sizeof(value));
	}
	a->dfd = fd;
	ev_io_init(&a->dio, direct_cb, fd, EV_READ);
	ev_io_start(a->u->rw->w.loop, &a->dio);
	return 0;
}

void assoc_direct_close(struct assoc *a)
{
	if (a->dfd < 0)
		return;
	ev_io_stop(a->u->rw->w.loop, &a->dio);
	close(a->dfd);
	a->dfd = -1;
}

/* The error of an earlier datagram may be told with this one: twice is enough for one. */
void assoc_direct_send(struct assoc *a, const struct addr *dst, const uint8_t *data, size_t len)
{
	struct addr to = *dst;

	if (a->dual)
		addr_map_v6(&to, dst);
	for (int i = 0; i < 3; i++) {
		if (sendto(a->dfd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL, &to.u.sa, to.len) >= 0)
			return;
		if (errno == ENETUNREACH && i > 0)
			assoc_tell(a, ICMP_NET_UNREACHABLE, dst, dst, len, 0);
		if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EMSGSIZE ||
		    errno == ENOBUFS)
			break;
	}
	a->lost++;
	a->u->counters.lost++;
}

void assoc_direct_send_to(struct assoc *a, const struct addr *dst, const struct s6_address *name,
			  const uint8_t *data, size_t len)
{
	if (!name) {
		assoc_direct_send(a, dst, data, len);
	} else if (!front_udp_resolve(a->door, a, name, data, len)) {
		a->lost++;
		a->u->counters.lost++;
	}
}
