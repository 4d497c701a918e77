/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/proxyv2.h"

#include <string.h>

#include "core/addr.h"

#define VERSION_LOCAL 0x20 /* version 2, command LOCAL: no addresses */
#define VERSION_PROXY 0x21
#define TCP_IPV4      0x11
#define TCP_IPV6      0x21
#define HEAD          16 /* signature, version, family, length */

static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
				      0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static uint8_t *put_ip(uint8_t *at, const struct addr *a, sa_family_t family)
{
	size_t len = family == AF_INET ? 4 : 16;

	memset(at, 0, len);
	if (addr_family(a) == family && family == AF_INET)
		memcpy(at, &a->u.in.sin_addr, len);
	else if (addr_family(a) == family)
		memcpy(at, &a->u.in6.sin6_addr, len);
	return at + len;
}

static uint8_t *put_port(uint8_t *at, uint16_t port)
{
	*at++ = (uint8_t)(port >> 8);
	*at++ = (uint8_t)port;
	return at;
}

size_t proxyv2_build(const struct addr *src, const struct addr *dst, uint8_t *out)
{
	sa_family_t family = addr_family(src);
	bool known = family == AF_INET || family == AF_INET6;
	uint8_t *at = out + HEAD;

	memcpy(out, signature, sizeof(signature));
	out[12] = known ? VERSION_PROXY : VERSION_LOCAL;
	out[13] = !known ? 0 : family == AF_INET ? TCP_IPV4 : TCP_IPV6;
	if (known) {
		at = put_ip(at, src, family);
		at = put_ip(at, dst, family);
		at = put_port(at, addr_port(src));
		at = put_port(at, addr_port(dst));
	}
	put_port(out + 14, (uint16_t)(at - out - HEAD));
	return (size_t)(at - out);
}
