/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The header of SOCKS 5 datagrams (RFC 1928, section 7). Pure. */
#ifndef REDIR_FRONT_DGRAM_H
#define REDIR_FRONT_DGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libsocks6/socks6.h"

#define FRONT_DGRAM_HEAD 22 /* octets, with an IPv6 address */

struct front_dgram {
	uint8_t frag; /* 0: it is a whole one */
	struct s6_address dst;
	const uint8_t *data; /* in the buffer that was parsed */
	size_t len;
};

/* False: it is none, or for port 0. */
bool front_dgram_parse(const uint8_t *in, size_t len, struct front_dgram *d);
/* The header of a datagram from there, which is no name; its octets. */
size_t front_dgram_head(const struct s6_address *from, uint8_t out[FRONT_DGRAM_HEAD]);

#endif
