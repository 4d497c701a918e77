/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/udp_policy.h"

bool udp_enabled(const struct udp_conf *c)
{
	return c->proxy.n > 0 || c->refuse.n > 0;
}

enum udp_policy udp_policy_of(const struct udp_conf *c, uint16_t port)
{
	if (conf_ports_contain(&c->refuse, port))
		return UDP_REFUSE;
	if (conf_ports_contain(&c->direct, port) || !conf_ports_contain(&c->proxy, port))
		return UDP_DIRECT;
	return UDP_PROXY;
}

enum udp_policy udp_policy_captured(const struct udp_conf *c, uint16_t port)
{
	if (conf_ports_contain(&c->refuse, port))
		return UDP_REFUSE;
	return conf_ports_contain(&c->direct, port) ? UDP_DIRECT : UDP_PROXY;
}

const char *udp_policy_str(enum udp_policy p)
{
	static const char *const words[] = {
		[UDP_DIRECT] = "direct", [UDP_PROXY] = "proxy", [UDP_REFUSE] = "refuse"};

	return words[p];
}

enum udp_transport udp_transport_of(const struct udp_conf *c, uint16_t port)
{
	if (conf_ports_contain(&c->udp_ports, port))
		return UDP_BY_UDP;
	if (conf_ports_contain(&c->tcp_ports, port))
		return UDP_BY_TCP;
	return (enum udp_transport)c->transport;
}

const char *udp_transport_str(enum udp_transport t)
{
	static const char *const words[] = {
		[UDP_BY_AUTO] = "auto", [UDP_BY_UDP] = "udp", [UDP_BY_TCP] = "tcp"};

	return words[t];
}

uint8_t udp_probe_ttl(uint8_t ttl)
{
	return ttl <= UDP_PROBE_TTL ? ttl : 0;
}
