/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/udp_io.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/dgram.h"

#define BUFFER_OCTETS (4 << 20)

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
	b->used = UDP_BATCH; /* nothing is ready yet */
	return 0;
}

void udp_batch_fini(struct udp_batch *b)
{
	if (b->mem)
		munmap(b->mem, (size_t)UDP_BATCH * UDP_ROOM);
	b->mem = NULL;
}

static void reset(struct udp_batch *b, int n)
{
	for (int i = 0; i < n; i++) {
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
}

int udp_batch_recv(struct udp_batch *b, int fd)
{
	int n;

	reset(b, b->used);
	do {
		n = recvmmsg(fd, b->h, UDP_BATCH, MSG_DONTWAIT, NULL);
	} while (n < 0 && errno == EINTR);
	b->used = n > 0 ? n : 0;
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
	return n;
}

bool udp_batch_from(const struct udp_batch *b, int i, struct addr *from)
{
	return addr_from_sockaddr(from, (const struct sockaddr *)&b->from[i],
				  b->h[i].msg_hdr.msg_namelen);
}

unsigned udp_send_all(int fd, struct mmsghdr *h, unsigned n, bool *segments, int *err)
{
	unsigned at = 0, sent = 0;

	*err = 0;
	while (at < n) {
		int k = dgram_send(fd, h + at, n - at, segments);

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
