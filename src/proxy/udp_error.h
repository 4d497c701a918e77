/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The error queue of a UDP socket (IP_RECVERR, ip(7)): which of it a client is told, as an Error
 * message (section 8.3).
 */
#ifndef PROXY_UDP_ERROR_H
#define PROXY_UDP_ERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

struct sock_extended_err;

struct udp_error {
	struct addr dst;      /* where the datagram was to go */
	struct addr reporter; /* unset: this machine */
	bool local;           /* sending has failed for it; dst may lack its port */
	uint8_t code;         /* enum s6_udp_error; 0: nothing that a client is told */
	uint32_t mtu;         /* with S6_UDP_ERR_TOO_BIG; 0 = unknown */
};

/* Which Error message says it, or 0. Pure. */
uint8_t udp_error_of_icmp(const struct sock_extended_err *ee);
/* The same of an errno that sending gave. */
uint8_t udp_error_of_errno(int err);

/* Take the next one off the queue: false when it is empty. */
bool udp_error_next(int fd, struct udp_error *out);

#endif
