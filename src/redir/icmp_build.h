/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ICMP errors as whole IP packets, IPv4 and IPv6, for a device that sent a UDP datagram: as the
 * router that could not pass it on, or the host that did not want it, would have sent them. Pure.
 */
#ifndef REDIR_ICMP_BUILD_H
#define REDIR_ICMP_BUILD_H

#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"

enum icmp_error {
	ICMP_NET_UNREACHABLE,
	ICMP_HOST_UNREACHABLE,
	ICMP_PORT_IS_UNREACHABLE,
	ICMP_PROHIBITED,
	ICMP_TTL_EXPIRED,
	ICMP_TOO_BIG
};

struct icmp_wishes {
	enum icmp_error error;
	struct addr reporter; /* who says it; of another family than src: dst says it */
	struct addr src, dst; /* of the datagram: the device, and where it wanted to go */
	uint16_t len;         /* octets of its payload */
	uint16_t mtu;         /* with ICMP_TOO_BIG */
};

#define ICMP_PACKET_MAX 96 /* IPv6: two IP headers, ICMP, UDP */

/* The packet into out; its length, or 0: addresses of two families, or no room. */
size_t icmp_build(const struct icmp_wishes *w, uint8_t *out, size_t cap);

/* The next smaller of the MTUs that are in use (RFC 1191, 7.1), for an error that does not name
 * one: at least what each link must carry. len: of the IP packet that was too big. */
uint16_t icmp_plateau(size_t len, sa_family_t family);

/* The RFC 1071 sum over len octets added to sum, for tests; not folded. */
uint32_t icmp_sum(uint32_t sum, const uint8_t *p, size_t len);

#endif
