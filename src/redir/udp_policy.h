/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What becomes of a captured datagram, by its destination port and its hop limit. Pure.
 */
#ifndef REDIR_UDP_POLICY_H
#define REDIR_UDP_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "redir/redir_conf.h"

enum udp_policy {
	UDP_DIRECT, /* neither through a proxy nor refused */
	UDP_PROXY,
	UDP_REFUSE /* answered with ICMP, so that browsers give up QUIC at once */
};

/* Is UDP captured at all? */
bool udp_enabled(const struct udp_conf *c);
/* As the rules see it. */
enum udp_policy udp_policy_of(const struct udp_conf *c, uint16_t port);
/* For one that was captured all the same: an administrator's "proxy" set sends others here, too. */
enum udp_policy udp_policy_captured(const struct udp_conf *c, uint16_t port);
const char *udp_policy_str(enum udp_policy p);

/* How its association's datagrams get to the proxy. */
enum udp_transport udp_transport_of(const struct udp_conf *c, uint16_t port);
const char *udp_transport_str(enum udp_transport t);

/*
 * Hop limits that say: I am looking for the routers on the way. Datagrams with such a one get an
 * association of their own for each value, as the proxy takes the hop limit for a whole
 * association; 0 = an ordinary one.
 */
#define UDP_PROBE_TTL 32
uint8_t udp_probe_ttl(uint8_t ttl);

/* For how long a device may say nothing: RFC 4787 REQ-5 and its exception for well-known ports. */
#define UDP_DNS_PORT     53
#define UDP_DNS_IDLE_S   10.0
#define UDP_PROBE_IDLE_S 15.0

#endif
