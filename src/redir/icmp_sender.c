/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/icmp_sender.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

int icmp_sender_open(struct icmp_sender *s)
{
	/* Both take packets with their IP header. */
	s->fd4 = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW);
	if (s->fd4 < 0) {
		int rc = -errno;
		s->fd6 = -1;
		return rc;
	}
	s->fd6 = socket(AF_INET6, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW);
	return 0;
}

void icmp_sender_close(struct icmp_sender *s)
{
	if (s->fd4 >= 0)
		close(s->fd4);
	if (s->fd6 >= 0)
		close(s->fd6);
	s->fd4 = s->fd6 = -1;
}

bool icmp_send(const struct icmp_sender *s, const struct icmp_wishes *w)
{
	uint8_t packet[ICMP_PACKET_MAX];
	size_t len = icmp_build(w, packet, sizeof(packet));
	struct addr to = w->src;
	int fd = addr_family(&to) == AF_INET ? s->fd4 : s->fd6;

	if (len == 0 || fd < 0)
		return false;
	addr_set_port(&to, 0); /* IPv6 takes it for a protocol */
	return sendto(fd, packet, len, MSG_DONTWAIT | MSG_NOSIGNAL, &to.u.sa, to.len) ==
	       (ssize_t)len;
}
