/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/sndlimit.h"

#include <sys/socket.h>

#include "core/sock.h"

/* The kernel doubles what it is told. 2 x 32 KB is what the window of a SYN covers. 2 x 128 KB
 * for each 20 ms of round-trip time is the most that never overran the window in the lab, at
 * 2 x 20 Mbit/s: the window follows what the client takes in a round trip. */
#define START	    (32 * 1024)
#define SHARE	    16 /* grows by this part of what has been sent ... */
#define MOST	    (128 * 1024)
#define MOST_RTT_US 20000
#define CEILING	    (1024 * 1024)
#define STEP	    (16 * 1024)		   /* octets between changes */
#define UNTIL	    (UINT64_C(128) * 1024 * 1024) /* a window of 64 KB << 11 is behind us */
#define NORMAL	    (4 * 1024 * 1024)		   /* the kernel caps it at wmem_max */

int sndlimit_size(uint64_t sent, uint32_t rtt_us)
{
	uint64_t most = rtt_us > MOST_RTT_US ? (uint64_t)MOST * rtt_us / MOST_RTT_US : MOST;

	if (sent >= UNTIL)
		return NORMAL;
	if (most > CEILING)
		most = CEILING;
	return (int)(START + sent / SHARE < most ? START + sent / SHARE : most);
}

uint64_t sndlimit_apply(int fd, uint64_t sent)
{
	struct sock_info info;
	int size;

	if (sock_info(fd, &info) < 0)
		return 0;
	size = sndlimit_size(sent, info.min_rtt_us);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return size == NORMAL ? 0 : sent + STEP;
}
