/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/udp_io.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define BUFFER_OCTETS (4 << 20)
#define SEGMENT_MAX   1400 /* longer ones might not fit the link's packets, and then none would go */

int udp_batch_init(struct udp_batch *b)
{
	size_t size = (size_t)UDP_BATCH * UDP_ROOM;
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return -errno;
#ifdef MADV_NOHUGEPAGE
	madvise(mem, size, MADV_NOHUGEPAGE);
#endif
	b->mem = mem;
	return 0;
}

void udp_batch_fini(struct udp_batch *b)
{
	if (b->mem)
		munmap(b->mem, (size_t)UDP_BATCH * UDP_ROOM);
	b->mem = NULL;
}

int udp_batch_recv(struct udp_batch *b, int fd)
{
	int n;

	for (int i = 0; i < UDP_BATCH; i++) {
		b->v[i] = (struct iovec){b->mem + (size_t)i * UDP_ROOM, UDP_ROOM};
		b->h[i].msg_hdr = (struct msghdr){
			.msg_name = &b->from[i],
			.msg_namelen = sizeof(b->from[i]),
			.msg_iov = &b->v[i],
			.msg_iovlen = 1,
			.msg_control = b->control[i].room,
			.msg_controllen = sizeof(b->control[i].room),
		};
	}
	do {
		n = recvmmsg(fd, b->h, UDP_BATCH, MSG_DONTWAIT, NULL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
	return n;
}

bool udp_batch_from(const struct udp_batch *b, int i, struct addr *from)
{
	return addr_from_sockaddr(from, (const struct sockaddr *)&b->from[i],
				  b->h[i].msg_hdr.msg_namelen);
}

static unsigned send_each(int fd, struct mmsghdr *h, unsigned n, int *err)
{
	unsigned at = 0, sent = 0;

	while (at < n) {
		int k = sendmmsg(fd, h + at, n - at, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (k > 0) {
			at += (unsigned)k;
			sent += (unsigned)k;
		} else if (k < 0 && errno == EINTR) {
			continue;
		} else if (k < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			break; /* no room: that is how datagrams are lost */
		} else {
			if (*err == 0)
				*err = errno;
			at++;
		}
	}
	return sent;
}

/* ---- many as one ---- */

static size_t length_of(const struct msghdr *m)
{
	size_t len = 0;

	for (size_t i = 0; i < m->msg_iovlen; i++)
		len += m->msg_iov[i].iov_len;
	return len;
}

static bool joins(const struct msghdr *x, const struct msghdr *y)
{
	return y->msg_iov == x->msg_iov + x->msg_iovlen && x->msg_controllen == 0 &&
	       y->msg_controllen == 0 && x->msg_namelen == y->msg_namelen &&
	       (x->msg_namelen == 0 || memcmp(x->msg_name, y->msg_name, x->msg_namelen) == 0);
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
		if (next == 0 || next > len || sum + next > UDP_PAYLOAD_MAX)
			break;
		sum += next;
		k++;
		if (next < len)
			break;
	}
	return k;
}

/* False: it has to be tried one by one. */
static bool send_run(int fd, const struct mmsghdr *h, unsigned n)
{
	union {
		struct cmsghdr align;
		uint8_t room[CMSG_SPACE(sizeof(uint16_t))];
	} control = {.room = {0}};
	struct msghdr m = h[0].msg_hdr;
	uint16_t len = (uint16_t)length_of(&m);
	struct cmsghdr *c;

	m.msg_iovlen = 0;
	for (unsigned i = 0; i < n; i++)
		m.msg_iovlen += h[i].msg_hdr.msg_iovlen;
	m.msg_control = control.room;
	m.msg_controllen = sizeof(control.room);
	c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_UDP;
	c->cmsg_type = UDP_SEGMENT;
	c->cmsg_len = CMSG_LEN(sizeof(len));
	memcpy(CMSG_DATA(c), &len, sizeof(len));
	return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

unsigned udp_send_all(int fd, struct mmsghdr *h, unsigned n, bool *segments, int *err)
{
	unsigned at = 0, single = 0, sent = 0;

	*err = 0;
	while (at < n) {
		unsigned k = *segments ? run_of(h + at, n - at) : n - at;

		if (k == 1 || !*segments) {
			at += k;
			continue;
		}
		sent += send_each(fd, h + single, at - single, err);
		if (send_run(fd, h + at, k)) {
			sent += k;
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			return sent;
		} else {
			*segments = errno != EINVAL && errno != EIO && errno != EOPNOTSUPP &&
				    errno != EMSGSIZE && errno != ENOPROTOOPT;
			sent += send_each(fd, h + at, k, err);
		}
		at += k;
		single = at;
	}
	return sent + send_each(fd, h + single, n - single, err);
}

int udp_socket(sa_family_t family, uint32_t mark)
{
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const int octets = BUFFER_OCTETS;

	if (fd < 0)
		return -errno;
	if (mark) /* a refusal shows at the listener, which needs the same capability */
		setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &octets, sizeof(octets)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &octets, sizeof(octets));
	return fd;
}
