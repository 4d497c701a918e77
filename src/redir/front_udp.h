/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * UDP ASSOCIATE of SOCKS 5 at the front door (RFC 1928): a socket for one program's datagrams, at the
 * address that its connection came to, for as long as that connection lasts. They go on as those of a
 * captured device do (udp_priv.h): with an association of its own at a proxy for all destinations, and
 * a second one, without a proxy, for what policy sends directly. Belongs to the worker of the
 * connection.
 */
#ifndef REDIR_FRONT_UDP_H
#define REDIR_FRONT_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/reason.h"
#include "libsocks6/socks6.h"

struct assoc;
struct front_guest;
struct front_udp;
struct redir_worker;
struct report;

/* END_NONE: it has been told where to send to. */
enum end_reason front_udp_start(struct redir_worker *rw, const struct front_guest *g);
/* To the program, from there. False: it is lost. */
bool front_udp_deliver(struct front_udp *d, const struct addr *from, const uint8_t *data,
		       size_t len);
/* Ask for the name's address, then send directly on a, if that still is the way. False: no room. */
bool front_udp_resolve(struct front_udp *d, const struct assoc *a, const struct s6_address *name,
		       const uint8_t *data, size_t len);
/* This association of its has ended. */
void front_udp_lost(struct front_udp *d, const struct assoc *a);

/* All of a worker's. */
void front_udp_end_all(struct redir_worker *rw, enum end_reason reason);
/* Octets, without associations. */
uint64_t front_udp_memory(const struct redir_worker *rw);
/* A row for each, as of flow_report_all. */
void front_udp_report_all(struct redir_worker *rw, struct report *r);

#endif
