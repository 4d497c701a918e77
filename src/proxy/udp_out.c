/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/udp_out.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/sock.h"
#include "proxy/leg.h"
#include "proxy/udp_reserve.h"

#define PARITY_TRIES 16   /* every second port is as wished */
#define DRAIN_MAX    4096 /* datagrams; no socket's queue holds more */

/* Packets that ask which way the kernel would send are never sent: documentation addresses. */
#define SOMEWHERE4 "192.0.2.1"
#define SOMEWHERE6 "2001:db8::1"

bool udp_out_parity(uint16_t port, enum s6_parity parity)
{
	return parity == S6_PARITY_NONE || (port % 2 == 1) == (parity == S6_PARITY_ODD);
}

uint16_t udp_out_counterpart(uint16_t port)
{
	return port ^ 1u;
}

static int set_int(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* ---- bound ---- */

int udp_bound_socket(const struct addr *at, bool share)
{
	sa_family_t family = addr_family(at);
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc = 0;

	if (fd < 0)
		return -errno;
	if (family == AF_INET6)
		rc = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, !addr_is_any(at));
	if (rc == 0 && share)
		rc = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (rc == 0 && bind(fd, &at->u.sa, at->len) < 0)
		rc = -errno;
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

/* Bound to `at` as completed by the kernel. Descriptor or -errno. */
static int open_bound(struct addr *at)
{
	int fd = udp_bound_socket(at, false), rc = fd < 0 ? fd : addr_of_socket(fd, at);

	if (fd >= 0 && rc < 0)
		close(fd);
	return rc < 0 ? rc : fd;
}

/* For "any" both families, where the kernel has IPv6. */
static void widen(struct addr *at)
{
	struct addr any6;
	int fd;

	if (addr_family(at) == AF_INET6 || !addr_is_any(at) || !addr_parse_ip(&any6, "::"))
		return;
	fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	close(fd);
	addr_set_port(&any6, addr_port(at));
	*at = any6;
}

/* A socket at the counterpart that takes nothing in until it is an association's. */
static int open_spare(const struct addr *at, struct addr *spare_at)
{
	static const struct sock_filter none[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
	const struct sock_fprog filter = {1, (struct sock_filter *)(uintptr_t)none};
	int fd;

	*spare_at = *at;
	addr_set_port(spare_at, udp_out_counterpart(addr_port(at)));
	if (addr_port(spare_at) == 0)
		return -EADDRNOTAVAIL;
	fd = udp_bound_socket(spare_at, false);
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter));
	return fd;
}

static void close_both(struct udp_out *out)
{
	if (out->fd >= 0)
		close(out->fd);
	if (out->spare >= 0)
		close(out->spare);
	out->fd = out->spare = -1;
}

/* One try at a port and, where reserve asks for it, its counterpart. 0 = all as wished, 1 = the
 * port only, or -errno. */
static int try_ports(struct udp_out *out, const struct addr *at, enum s6_parity parity,
		     bool reserve)
{
	out->bound = *at;
	out->fd = open_bound(&out->bound);
	if (out->fd < 0)
		return out->fd;
	if (addr_port(at) == 0 && !udp_out_parity(addr_port(&out->bound), parity)) {
		close(out->fd);
		addr_set_port(&out->bound, udp_out_counterpart(addr_port(&out->bound)));
		out->fd = open_bound(&out->bound);
		if (out->fd < 0)
			return out->fd;
	}
	if (!reserve || !udp_out_parity(addr_port(&out->bound), parity))
		return 0;
	out->spare = open_spare(&out->bound, &out->spare_at);
	return out->spare < 0;
}

static int open_ports(struct udp_out *out, const struct addr *at, enum s6_parity parity,
		      bool reserve)
{
	int rc = -EADDRINUSE;

	for (int i = 0; i < PARITY_TRIES; i++) {
		rc = try_ports(out, at, parity, reserve);
		if (rc == 0 || (rc < 0 && rc != -EADDRINUSE) || addr_port(at) > 0)
			break;
		if (i < PARITY_TRIES - 1)
			close_both(out);
	}
	return rc < 0 ? rc : 0;
}

/* ---- options ---- */

static bool wished(const struct s6_stack *s, enum s6_stack_id id)
{
	return s6_stack_has(s, id) && s->value[id] == S6_AVAIL_YES;
}

static void set_ttl(int fd, sa_family_t family, uint8_t ttl)
{
	leg_set_ttl(fd, ttl);
	set_int(fd, IPPROTO_IP, IP_MULTICAST_TTL, ttl);
	if (family == AF_INET6)
		set_int(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, ttl);
}

/* With DO the kernel neither fragments nor leaves out the DF bit, with DONT it may do both. */
static bool set_no_frag(int fd, sa_family_t family, bool no)
{
	int rc = set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, no ? IP_PMTUDISC_DO : IP_PMTUDISC_DONT);

	if (rc == 0 && family == AF_INET6)
		rc = set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER,
			     no ? IPV6_PMTUDISC_DO : IPV6_PMTUDISC_DONT);
	return rc == 0 && no;
}

static bool set_errors(int fd, sa_family_t family)
{
	return set_int(fd, IPPROTO_IP, IP_RECVERR, 1) == 0 &&
	       (family != AF_INET6 || set_int(fd, IPPROTO_IPV6, IPV6_RECVERR, 1) == 0);
}

static void set_options(struct udp_out *out, const struct s6_stack *wish)
{
	struct s6_stack *answer = &out->answer;
	sa_family_t seen = addr_family(&out->at);
	int fd = out->fd;

	if (s6_stack_has(wish, S6_STACK_TOS_REMOTE)) {
		leg_set_tos(fd, (uint8_t)wish->value[S6_STACK_TOS_REMOTE]);
		s6_stack_set(answer, S6_STACK_TOS_REMOTE, leg_tos(fd, seen));
	}
	if (s6_stack_has(wish, S6_STACK_TTL_REMOTE)) {
		set_ttl(fd, out->family, (uint8_t)wish->value[S6_STACK_TTL_REMOTE]);
		s6_stack_set(answer, S6_STACK_TTL_REMOTE, leg_ttl(fd, seen));
	}
	if (s6_stack_has(wish, S6_STACK_NO_FRAG_REMOTE))
		s6_stack_set(answer, S6_STACK_NO_FRAG_REMOTE,
			     set_no_frag(fd, out->family, wished(wish, S6_STACK_NO_FRAG_REMOTE))
				     ? S6_AVAIL_YES
				     : S6_AVAIL_NO);
	if (s6_stack_has(wish, S6_STACK_UDP_ERROR)) {
		out->errors = wished(wish, S6_STACK_UDP_ERROR) && set_errors(fd, out->family);
		s6_stack_set(answer, S6_STACK_UDP_ERROR, out->errors ? S6_AVAIL_YES : S6_AVAIL_NO);
	}
}

static void answer_parity(struct udp_out *out, const struct s6_stack *wish, enum s6_parity parity)
{
	bool kept = parity != S6_PARITY_NONE && udp_out_parity(addr_port(&out->bound), parity);

	if (s6_stack_has(wish, S6_STACK_PORT_PARITY))
		s6_stack_set(&out->answer, S6_STACK_PORT_PARITY,
			     (uint16_t)((kept ? parity : 0) << 8 | (out->spare >= 0)));
}

/* Bound to "any" a socket has the address of whatever link a datagram leaves by; what the client
 * is told is the one of the default route. */
static void find_at(struct udp_out *out, sa_family_t first)
{
	const char *const text[2] = {SOMEWHERE4, SOMEWHERE6};
	struct addr dst;

	out->at = out->bound;
	if (addr_is_any(&out->at))
		addr_parse_ip(&out->at, first == AF_INET6 ? "::" : "0.0.0.0");
	for (int i = 0; addr_is_any(&out->at) && i < 2; i++)
		if (addr_parse(&dst, text[(first == AF_INET6) ^ i], 9))
			sock_source(&dst, 0, &out->at);
	addr_set_port(&out->at, addr_port(&out->bound));
}

int udp_out_open(struct udp_out *out, const struct udp_out_wish *wish)
{
	uint16_t raw = s6_stack_has(wish->stack, S6_STACK_PORT_PARITY)
			       ? wish->stack->value[S6_STACK_PORT_PARITY]
			       : 0;
	struct addr at = *wish->bind;
	int rc;

	memset(out, 0, sizeof(*out));
	out->fd = out->spare = -1;
	widen(&at);
	if (addr_port(&at) > 0) {
		rc = udp_reserve_take(wish->reserve, &at, wish->session);
		if (rc >= 0) {
			out->fd = rc;
			out->bound = at;
			out->taken = true;
			setsockopt(out->fd, SOL_SOCKET, SO_DETACH_FILTER, &rc, sizeof(rc));
		} else if (rc != -ENOENT) {
			return rc;
		}
	}
	if (out->fd < 0)
		rc = open_ports(out, &at, (enum s6_parity)(raw >> 8), raw & 1);
	if (rc < 0) {
		close_both(out);
		return rc;
	}
	out->family = addr_family(&out->bound);
	find_at(out, addr_family(wish->bind));
	set_options(out, wish->stack);
	answer_parity(out, wish->stack, (enum s6_parity)(raw >> 8));
	return 0;
}

bool udp_out_name(const struct udp_out *out, const struct addr *dst, struct addr *name)
{
	if (out->family == AF_INET6)
		addr_map_v6(name, dst);
	else
		*name = *dst;
	if (addr_family(name) != out->family)
		return false;
	/* Bound to one address, an IPv6 socket is for IPv6 only. */
	return out->family == AF_INET || addr_is_any(&out->bound) || addr_family(dst) == AF_INET6;
}

void udp_out_drain(int fd)
{
	char one;

	for (int i = 0; i < DRAIN_MAX; i++)
		if (recv(fd, &one, 1, MSG_DONTWAIT | MSG_TRUNC) < 0 &&
		    (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
}
