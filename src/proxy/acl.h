/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who may reach what. Pure. The deny list wins, then the allow list; a destination in
 * neither is allowed only if its address is public (not private, loopback, link-local,
 * multicast, unspecified or reserved).
 */
#ifndef PROXY_ACL_H
#define PROXY_ACL_H

#include "core/addr.h"
#include "core/conf.h"

struct acl {
	struct prefix_list allow, deny;
};

bool acl_allows(const struct acl *acl, const struct addr *dst);

#endif
