/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The socket that faces the remote hosts: one for each association, for IPv4 and IPv6 alike, never
 * connected. So a client's datagrams come from the same port whatever their destination, and
 * anyone may answer there (RFC 4787: endpoint-independent mapping and filtering).
 */
#ifndef PROXY_UDP_OUT_H
#define PROXY_UDP_OUT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "libsocks6/socks6.h"

struct udp_reserve;

struct udp_out_wish {
	const struct addr *bind;      /* wished address and port; any and 0 = no wish */
	const struct s6_stack *stack; /* as in the request */
	struct udp_reserve *reserve;
	const uint8_t *session; /* the request's, or NULL */
};

struct udp_out {
	int fd;
	sa_family_t family;   /* of the socket: AF_INET6 sends IPv4 as well, unless bound to one */
	bool errors;          /* the error queue is on */
	bool taken;           /* the socket had been reserved */
	struct addr bound;    /* where it is bound, "any" included */
	struct addr at;       /* what remote hosts see, as far as is known */
	struct addr spare_at; /* the counterpart's, if one was wished and got: */
	int spare;            /* its socket, or -1 */
	struct s6_stack answer; /* what came of the options */
};

/* A bound UDP socket, of both families where the address is [::]; share: with other workers.
 * Descriptor or -errno. */
int udp_bound_socket(const struct addr *at, bool share);

/* 0 or -errno. */
int udp_out_open(struct udp_out *out, const struct udp_out_wish *wish);

/* dst as this socket takes it. False: it has no such addresses. */
bool udp_out_name(const struct udp_out *out, const struct addr *dst, struct addr *name);

/* Throw away what has arrived until now. */
void udp_out_drain(int fd);

/* Is this port of the wished parity? Pure. */
bool udp_out_parity(uint16_t port, enum s6_parity parity);
/* An even port's counterpart is the next higher one, an odd port's the next lower one. Pure. */
uint16_t udp_out_counterpart(uint16_t port);

#endif
