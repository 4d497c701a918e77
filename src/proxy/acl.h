/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who may reach what. Pure. The deny list wins, then the allow list; a destination in
 * neither is allowed only if its address is public (not private, loopback, link-local,
 * multicast, unspecified or reserved). Ports may be bound only where a list says so: that of
 * everybody, or the user's own.
 */
#ifndef PROXY_ACL_H
#define PROXY_ACL_H

#include "core/addr.h"
#include "core/conf.h"
#include "core/list.h"

/* [user NAME] */
struct acl_user {
	struct list_node node; /* in acl.users */
	char *name;
	struct port_list bind;
};

struct acl {
	struct prefix_list allow, deny;
	struct port_list bind; /* everybody */
	struct list users;
};

bool acl_allows(const struct acl *acl, const struct addr *dst);

/* user "" = nobody, who has what everybody has. */
bool acl_may_bind(const struct acl *acl, const char *user, uint16_t port);
/* How many ports the user may bind (those that both lists have count twice), and the i-th. */
unsigned acl_bind_count(const struct acl *acl, const char *user);
uint16_t acl_bind_nth(const struct acl *acl, const char *user, unsigned i);
/* Is there any port below 1024 that anybody may bind? */
bool acl_binds_low(const struct acl *acl);

#endif
