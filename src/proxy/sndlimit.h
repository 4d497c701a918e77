/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How much may wait in the send buffer of an MPTCP connection that was accepted with Fast Open.
 *
 * Seen on Linux 6.18: on such a connection the kernel takes the window of the SYN, which is
 * never scaled, for a scaled one (64 KB << 10 = 64 MB). With two subflows it then sends data
 * that the client's real window does not cover; the client drops it, and it is sent again 64 KB
 * at a time, at a tenth of the links' rate. The error is gone when so many octets have been
 * sent. Until then only a small send buffer keeps the kernel inside the real window, which
 * starts at 64 KB and grows with what the client has received.
 */
#ifndef PROXY_SNDLIMIT_H
#define PROXY_SNDLIMIT_H

#include <stdint.h>

/* Set the send buffer for a connection on which sent octets have been written; returns the
 * number of octets at which to call again, or 0 when there is no limit any more. */
uint64_t sndlimit_apply(int fd, uint64_t sent);

/* The SO_SNDBUF value for so many octets sent at this round-trip time (pure). */
int sndlimit_size(uint64_t sent, uint32_t rtt_us);

#endif
