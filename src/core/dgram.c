/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/dgram.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define SEGMENT_MAX 1400  /* longer ones might not fit the link's packets, and then none would go */
#define OCTETS_MAX  65507 /* of all together: what IPv4 can carry */
#define CONTROL_MAX 128

static size_t length_of(const struct msghdr *m)
{
	size_t len = 0;

	for (size_t i = 0; i < m->msg_iovlen; i++)
		len += m->msg_iov[i].iov_len;
	return len;
}

static bool same(const void *x, size_t x_len, const void *y, size_t y_len)
{
	return x_len == y_len && (x_len == 0 || memcmp(x, y, x_len) == 0);
}

static bool joins(const struct msghdr *x, const struct msghdr *y)
{
	return y->msg_iov == x->msg_iov + x->msg_iovlen && x->msg_controllen <= CONTROL_MAX &&
	       same(x->msg_name, x->msg_namelen, y->msg_name, y->msg_namelen) &&
	       same(x->msg_control, x->msg_controllen, y->msg_control, y->msg_controllen);
}

/* How many from h on can go as one: all of one length, but that the last may be shorter. */
static unsigned run_of(const struct mmsghdr *h, unsigned n)
{
	size_t len = length_of(&h[0].msg_hdr), sum = len;
	unsigned k = 1;

	if (len == 0 || len > SEGMENT_MAX)
		return 1;
	while (k < n && joins(&h[k - 1].msg_hdr, &h[k].msg_hdr)) {
		size_t next = length_of(&h[k].msg_hdr);
		if (next == 0 || next > len || sum + next > OCTETS_MAX)
			break;
		sum += next;
		k++;
		if (next < len)
			break;
	}
	return k;
}

static bool send_run(int fd, const struct mmsghdr *h, unsigned n)
{
	union {
		struct cmsghdr align;
		uint8_t room[CONTROL_MAX + CMSG_SPACE(sizeof(uint16_t))];
	} control = {.room = {0}};
	struct msghdr m = h[0].msg_hdr;
	uint16_t len = (uint16_t)length_of(&m);
	struct cmsghdr *c = (struct cmsghdr *)(void *)(control.room + m.msg_controllen);

	m.msg_iovlen = 0;
	for (unsigned i = 0; i < n; i++)
		m.msg_iovlen += h[i].msg_hdr.msg_iovlen;
	if (m.msg_controllen)
		memcpy(control.room, m.msg_control, m.msg_controllen);
	m.msg_control = control.room;
	m.msg_controllen += CMSG_SPACE(sizeof(len));
	c->cmsg_level = SOL_UDP;
	c->cmsg_type = UDP_SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof(len));
	memcpy(CMSG_DATA(c), &len, sizeof(len));
	return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

static bool is_inability(int err)
{
	return err == EINVAL || err == EIO || err == EOPNOTSUPP || err == EMSGSIZE ||
	       err == ENOPROTOOPT;
}

int dgram_send(int fd, struct mmsghdr *h, unsigned n, bool *segments)
{
	unsigned k = *segments ? run_of(h, n) : n;

	if (*segments && k > 1) {
		if (send_run(fd, h, k))
			return (int)k;
		if (!is_inability(errno))
			return -1;
		*segments = false;
	}
	while (*segments && k < n && run_of(h + k, n - k) == 1)
		k++;
	return sendmmsg(fd, h, k, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void dgram_gro(int fd)
{
	const int on = 1;

	setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on));
}

size_t dgram_segment(struct msghdr *m, size_t len)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		int size;

		if (c->cmsg_level != SOL_UDP || c->cmsg_type != UDP_GRO ||
		    c->cmsg_len < CMSG_LEN(sizeof(size)))
			continue;
		memcpy(&size, CMSG_DATA(c), sizeof(size));
		if (size > 0 && (size_t)size < len)
			return (size_t)size;
	}
	return len;
}
