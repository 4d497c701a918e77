/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/udp_error.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/uio.h>

#include "libsocks6/socks6.h"

/* RFC 1122, 3.2.2.1: which of the codes concern the network. All others are about the host. */
static uint8_t of_unreachable4(uint8_t code)
{
	switch (code) {
	case ICMP_NET_UNREACH:
	case ICMP_NET_UNKNOWN:
	case ICMP_NET_ANO:
	case ICMP_NET_UNR_TOS:
		return S6_UDP_ERR_NET_UNREACHABLE;
	case ICMP_FRAG_NEEDED:
		return S6_UDP_ERR_TOO_BIG;
	default:
		return S6_UDP_ERR_HOST_UNREACHABLE;
	}
}

static uint8_t of_unreachable6(uint8_t code)
{
	switch (code) {
	case ICMPV6_NOROUTE:
	case ICMPV6_NOT_NEIGHBOUR: /* beyond the scope of the source address */
	case ICMPV6_REJECT_ROUTE:
		return S6_UDP_ERR_NET_UNREACHABLE;
	default:
		return S6_UDP_ERR_HOST_UNREACHABLE;
	}
}

uint8_t udp_error_of_errno(int err)
{
	switch (err) {
	case ENETUNREACH:
	case ENETDOWN:
	case EADDRNOTAVAIL:
	case EAFNOSUPPORT:
		return S6_UDP_ERR_NET_UNREACHABLE;
	case EHOSTUNREACH:
	case EHOSTDOWN:
		return S6_UDP_ERR_HOST_UNREACHABLE;
	case EMSGSIZE:
		return S6_UDP_ERR_TOO_BIG;
	default:
		return 0;
	}
}

uint8_t udp_error_of_icmp(const struct sock_extended_err *ee)
{
	switch (ee->ee_origin) {
	case SO_EE_ORIGIN_ICMP:
		if (ee->ee_type == ICMP_DEST_UNREACH)
			return of_unreachable4(ee->ee_code);
		if (ee->ee_type == ICMP_TIME_EXCEEDED && ee->ee_code == ICMP_EXC_TTL)
			return S6_UDP_ERR_TTL_EXPIRED;
		return 0;
	case SO_EE_ORIGIN_ICMP6:
		if (ee->ee_type == ICMPV6_DEST_UNREACH)
			return of_unreachable6(ee->ee_code);
		if (ee->ee_type == ICMPV6_PKT_TOOBIG)
			return S6_UDP_ERR_TOO_BIG;
		if (ee->ee_type == ICMPV6_TIME_EXCEED && ee->ee_code == ICMPV6_EXC_HOPLIMIT)
			return S6_UDP_ERR_TTL_EXPIRED;
		return 0;
	case SO_EE_ORIGIN_LOCAL:
		return udp_error_of_errno((int)ee->ee_errno);
	default:
		return 0;
	}
}

static void read_report(const struct cmsghdr *c, struct udp_error *out)
{
	struct {
		struct sock_extended_err ee;
		struct sockaddr_in6 offender; /* the longest there is */
	} got;
	size_t n = c->cmsg_len - CMSG_LEN(0);

	memset(&got, 0, sizeof(got));
	if (n < sizeof(got.ee))
		return;
	memcpy(&got, CMSG_DATA(c), n < sizeof(got) ? n : sizeof(got));
	out->code = udp_error_of_icmp(&got.ee);
	if (out->code == S6_UDP_ERR_TOO_BIG)
		out->mtu = got.ee.ee_info;
	out->local = got.ee.ee_origin == SO_EE_ORIGIN_LOCAL;
	if (!out->local)
		addr_from_sockaddr(&out->reporter, (const struct sockaddr *)&got.offender,
				   sizeof(got.offender));
}

bool udp_error_next(int fd, struct udp_error *out)
{
	union {
		struct cmsghdr align;
		char mem[512];
	} control;
	struct sockaddr_in6 name;
	char quoted[64];
	struct iovec iov = {.iov_base = quoted, .iov_len = sizeof(quoted)};
	struct msghdr m = {.msg_name = &name,
			   .msg_namelen = sizeof(name),
			   .msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = sizeof(control)};

	memset(out, 0, sizeof(*out));
	if (recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
		return false;
	if (!addr_from_sockaddr(&out->dst, (const struct sockaddr *)&name, m.msg_namelen))
		return true; /* code 0 */
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
		    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
			read_report(c, out);
	return true;
}
