/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/s6glue.h"

#include <errno.h>
#include <string.h>

void s6glue_from_addr(struct s6_address *out, const struct addr *a)
{
	memset(out, 0, sizeof(*out));
	out->type = S6_ADDR_IPV4;
	if (addr_family(a) == AF_INET6) {
		out->type = S6_ADDR_IPV6;
		memcpy(out->u.ip6, &a->u.in6.sin6_addr, sizeof(out->u.ip6));
	} else if (addr_family(a) == AF_INET) {
		memcpy(out->u.ip4, &a->u.in.sin_addr, sizeof(out->u.ip4));
	}
	out->port = addr_port(a);
}

bool s6glue_from_name(struct s6_address *out, const char *name, uint16_t port)
{
	size_t len = strlen(name);

	if (len == 0 || len > S6_NAME_MAX)
		return false;
	memset(out, 0, sizeof(*out));
	out->type = S6_ADDR_NAME;
	out->port = port;
	out->name_len = (uint8_t)len;
	memcpy(out->u.name, name, len + 1);
	return true;
}

bool s6glue_to_addr(struct addr *out, const struct s6_address *a)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

	if (a->type == S6_ADDR_IPV4) {
		memcpy(&in.sin_addr, a->u.ip4, sizeof(in.sin_addr));
		in.sin_port = htons(a->port);
		return addr_from_sockaddr(out, (const struct sockaddr *)&in, sizeof(in));
	}
	if (a->type == S6_ADDR_IPV6) {
		memcpy(&in6.sin6_addr, a->u.ip6, sizeof(in6.sin6_addr));
		in6.sin6_port = htons(a->port);
		return addr_from_sockaddr(out, (const struct sockaddr *)&in6, sizeof(in6));
	}
	return false;
}

/* The first row of a code is the errno that s6glue_errno_of_reply gives for it. */
static const struct {
	int err;
	uint8_t code;
} rows[] = {
	{0, S6_REPLY_SUCCESS},
	{ECONNREFUSED, S6_REPLY_REFUSED},
	{ECONNRESET, S6_REPLY_REFUSED},
	{ENETUNREACH, S6_REPLY_NET_UNREACHABLE},
	{ENETDOWN, S6_REPLY_NET_UNREACHABLE},
	{EHOSTUNREACH, S6_REPLY_HOST_UNREACHABLE},
	{EHOSTDOWN, S6_REPLY_HOST_UNREACHABLE},
	{EADDRNOTAVAIL, S6_REPLY_NET_UNREACHABLE},
	{EAFNOSUPPORT, S6_REPLY_ADDR_UNSUPPORTED},
	{ETIMEDOUT, S6_REPLY_TIMED_OUT},
	{EACCES, S6_REPLY_NOT_ALLOWED},
	{EPERM, S6_REPLY_NOT_ALLOWED},
	{EOPNOTSUPP, S6_REPLY_CMD_UNSUPPORTED},
	{ETIME, S6_REPLY_TTL_EXPIRED},
	{EIO, S6_REPLY_FAILURE},
};

uint8_t s6glue_reply_of_errno(int err)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].err == err)
			return rows[i].code;
	return S6_REPLY_FAILURE;
}

int s6glue_errno_of_reply(uint8_t code)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].code == code)
			return rows[i].err;
	return EIO;
}
