/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How much may be written to an MPTCP connection that was accepted with Fast Open.
 *
 * Seen on Linux 6.18: on such a connection the kernel takes the window of the SYN, which is
 * never scaled, for a scaled one (64 KB << 10 = 64 MB). With two subflows it then sends data
 * that the client's real window does not cover; the client drops it, and it is sent again 64 KB
 * at a time, at a tenth of the links' rate. The error is gone when so many octets have been
 * sent. Until then the window's edge is followed here, and nothing is written beyond it.
 *
 * What a subflow says of its window is only sometimes what the client told: sending sets it to
 * the wrong one. Such values are known by their size and passed over; the next acknowledgement
 * that finds nothing waiting to be sent brings a true one.
 *
 * Not by SO_SNDBUF: that could not be undone, and would end the kernel's own tuning.
 */
#ifndef PROXY_SNDLIMIT_H
#define PROXY_SNDLIMIT_H

#include <stddef.h>
#include <stdint.h>

#include "core/sock.h"

struct sndlimit {
	uint64_t wrong_least, wrong_most; /* the kernel takes something in between for the edge */
	uint64_t edge;                    /* the true one, in octets from the start */
	size_t credit;                    /* may be written before asking again */
};

/* For a connection just accepted; info is its sock_info. */
void sndlimit_init(struct sndlimit *s, const struct sock_info *info);

/* How many octets may be written now, after sent in all. SIZE_MAX: there is no limit any more.
 * 0: ask again after *wait_s seconds. */
size_t sndlimit_room(struct sndlimit *s, int fd, uint64_t sent, double *wait_s);
/* len octets have been written. */
void sndlimit_wrote(struct sndlimit *s, size_t len);

/* The decision: learn the edge from these windows, say what may be written now. No system calls. */
size_t sndlimit_credit(struct sndlimit *s, const struct sock_window *w, uint64_t sent);

#endif
