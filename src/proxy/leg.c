/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/leg.h"

#include <netinet/in.h>
#include <unistd.h>

static int get_int(int fd, int level, int option)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, level, option, &value, &len) == 0 ? value : -1;
}

uint8_t leg_tos(int fd, sa_family_t family)
{
	int tos = family == AF_INET6 ? get_int(fd, IPPROTO_IPV6, IPV6_TCLASS)
				     : get_int(fd, IPPROTO_IP, IP_TOS);

	return tos > 0 ? (uint8_t)tos : 0;
}

static int get_ttl(int fd, sa_family_t family)
{
	return family == AF_INET6 ? get_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS)
				  : get_int(fd, IPPROTO_IP, IP_TTL);
}

static int get_mtu_discover(int fd, sa_family_t family)
{
	return family == AF_INET6 ? get_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER)
				  : get_int(fd, IPPROTO_IP, IP_MTU_DISCOVER);
}

/* An MPTCP socket neither sets nor tells its TTL, or what is done about the path's MTU: it uses the
 * default, as any socket does. */
static int ask(int fd, sa_family_t family, int (*get)(int fd, sa_family_t family))
{
	int value = get(fd, family), other;

	if (value >= 0)
		return value;
	other = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (other < 0)
		return -1;
	value = get(other, family);
	close(other);
	return value;
}

uint8_t leg_ttl(int fd, sa_family_t family)
{
	int ttl = ask(fd, family, get_ttl);

	return ttl >= 0 ? (uint8_t)ttl : 0;
}

/* The constants of IPv6 are the same. */
bool leg_no_frag(int fd, sa_family_t family)
{
	switch (ask(fd, family, get_mtu_discover)) {
	case IP_PMTUDISC_WANT: /* TCP follows the path's MTU and sets DF */
	case IP_PMTUDISC_DO:
	case IP_PMTUDISC_PROBE:
		return true;
	default:
		return false;
	}
}

/* On a dual-stack socket both may count, depending on the peer. */
static void set_both(int fd, int option4, int option6, int value)
{
	setsockopt(fd, IPPROTO_IP, option4, &value, sizeof(value));
	if (get_int(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, option6, &value, sizeof(value));
}

void leg_set_tos(int fd, uint8_t tos)
{
	set_both(fd, IP_TOS, IPV6_TCLASS, tos);
}

void leg_set_ttl(int fd, uint8_t ttl)
{
	set_both(fd, IP_TTL, IPV6_UNICAST_HOPS, ttl);
}

void leg_set_no_frag(int fd, bool no_frag)
{
	set_both(fd, IP_MTU_DISCOVER, IPV6_MTU_DISCOVER,
		 no_frag ? IP_PMTUDISC_DO : IP_PMTUDISC_DONT);
}
