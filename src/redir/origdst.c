/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/origdst.h"

#include <linux/netfilter_ipv4.h> /* SO_ORIGINAL_DST */

#ifndef IP6T_SO_ORIGINAL_DST
#define IP6T_SO_ORIGINAL_DST 80
#endif

/* TPROXY: the accepted socket's own address is the destination. It is our listener's only if
 * somebody connected to that directly. */
static enum origdst_result find_tproxy(int fd, const struct addr_list *listen, struct addr *dst)
{
	if (addr_of_socket(fd, dst) < 0)
		return ORIGDST_UNKNOWN;
	for (size_t i = 0; i < listen->n; i++)
		if (addr_port(&listen->v[i]) == addr_port(dst) && addr_is_local(dst))
			return ORIGDST_SELF;
	return ORIGDST_OK;
}

static const struct {
	sa_family_t family; /* of the connection; the socket may be dual-stack */
	int level, option;
} nat_rows[] = {
	{AF_INET, IPPROTO_IP, SO_ORIGINAL_DST},
	{AF_INET6, IPPROTO_IPV6, IP6T_SO_ORIGINAL_DST},
};

/* REDIRECT: connection tracking knows. Where nothing was translated it gives our own address,
 * or nothing. */
static enum origdst_result find_redirect(int fd, const struct addr_list *listen, struct addr *dst)
{
	struct addr own;

	(void)listen;
	if (addr_of_socket(fd, &own) < 0)
		return ORIGDST_UNKNOWN;
	for (size_t i = 0; i < sizeof(nat_rows) / sizeof(nat_rows[0]); i++) {
		struct sockaddr_storage ss;
		socklen_t len = sizeof(ss);

		if (nat_rows[i].family != addr_family(&own))
			continue;
		if (getsockopt(fd, nat_rows[i].level, nat_rows[i].option, &ss, &len) < 0 ||
		    !addr_from_sockaddr(dst, (const struct sockaddr *)&ss, len))
			return ORIGDST_UNKNOWN;
		return addr_equal(&own, dst) ? ORIGDST_SELF : ORIGDST_OK;
	}
	return ORIGDST_UNKNOWN;
}

typedef enum origdst_result find_fn(int fd, const struct addr_list *listen, struct addr *dst);

enum origdst_result origdst_find(int fd, enum redir_mode mode, const struct addr_list *listen,
				 struct addr *dst)
{
	static find_fn *const rows[] = {
		[MODE_TPROXY] = find_tproxy,
		[MODE_REDIRECT] = find_redirect,
	};

	return rows[mode](fd, listen, dst);
}
