/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ports kept for an association that is yet to come (Port Parity, section 6.1): each is held by a
 * bound socket, which the association gets that names the port. Shared by all workers, locks itself.
 */
#ifndef PROXY_UDP_RESERVE_H
#define PROXY_UDP_RESERVE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "proxy/issued.h"

struct udp_reserve;

struct udp_reserve *udp_reserve_new(void); /* NULL = out of memory */
void udp_reserve_free(struct udp_reserve *r);

/* Keep the socket bound to `at` for owner, which is not 0. session (ISSUED_ID_LEN octets) or NULL:
 * only from there it can be taken. False (out of memory): the descriptor is still the caller's. */
bool udp_reserve_put(struct udp_reserve *r, uint64_t owner, const struct addr *at,
		     const uint8_t *session, int fd);
/* The descriptor of the socket kept at this address, now the caller's, or -ENOENT, or -EACCES:
 * it is kept for another session. */
int udp_reserve_take(struct udp_reserve *r, const struct addr *at, const uint8_t *session);
/* The owner's association has ended: was one still kept for it? It is closed. */
bool udp_reserve_end(struct udp_reserve *r, uint64_t owner);

#endif
