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

/* An MPTCP socket neither sets nor tells its TTL: it uses the default, as any socket does. */
uint8_t leg_ttl(int fd, sa_family_t family)
{
	int ttl = get_ttl(fd, family), other;

	if (ttl >= 0)
		return (uint8_t)ttl;
	other = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (other < 0)
		return 0;
	ttl = get_ttl(other, family);
	close(other);
	return ttl >= 0 ? (uint8_t)ttl : 0;
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
