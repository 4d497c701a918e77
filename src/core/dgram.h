/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Datagrams that the kernel takes, or gives, several as one (UDP_SEGMENT, UDP_GRO). On the wire
 * nothing differs. */
#ifndef SIXPATH_DGRAM_H
#define SIXPATH_DGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/*
 * As sendmmsg without waiting: how many of the first were sent, or -1 and errno, which is the
 * first's. Datagrams of one length with the same address and control data, whose iovecs lie one
 * behind the other, go down as one while *segments says so; it is cleared where the kernel or the
 * link cannot do that.
 */
int dgram_send(int fd, struct mmsghdr *h, unsigned n, bool *segments);

/* What comes may be several as one from now on; where the kernel cannot, they come one by one. */
void dgram_gro(int fd);

/* Of a message received by such a socket: octets of each datagram in it, the last may be shorter.
 * len for one. */
size_t dgram_segment(struct msghdr *m, size_t len);

#endif
