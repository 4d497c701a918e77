/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/acl.h"

#include <string.h>

#define LOW_PORTS 1024 /* below: for the system's own services */

bool acl_allows(const struct acl *acl, const struct addr *dst)
{
	if (conf_prefixes_contain(&acl->deny, dst))
		return false;
	return conf_prefixes_contain(&acl->allow, dst) || addr_classify(dst) == ADDR_PUBLIC;
}

/* ---- ports ---- */

static const struct port_list no_ports;

/* The user's own. */
static const struct port_list *ports_of(const struct acl *acl, const char *user)
{
	struct list_node *n;

	for (n = list_first(&acl->users); n; n = list_next(&acl->users, n)) {
		const struct acl_user *u = container_of(n, struct acl_user, node);
		if (strcmp(u->name, user) == 0)
			return &u->bind;
	}
	return &no_ports;
}

static unsigned count(const struct port_list *l)
{
	unsigned n = 0;

	for (size_t i = 0; i < l->n; i++)
		n += l->v[i].last - l->v[i].first + 1U;
	return n;
}

static uint16_t nth(const struct port_list *l, unsigned i)
{
	for (size_t k = 0; k < l->n; k++) {
		unsigned n = l->v[k].last - l->v[k].first + 1U;
		if (i < n)
			return (uint16_t)(l->v[k].first + i);
		i -= n;
	}
	return 0;
}

bool acl_may_bind(const struct acl *acl, const char *user, uint16_t port)
{
	return conf_ports_contain(&acl->bind, port) ||
	       conf_ports_contain(ports_of(acl, user), port);
}

unsigned acl_bind_count(const struct acl *acl, const char *user)
{
	return count(&acl->bind) + count(ports_of(acl, user));
}

uint16_t acl_bind_nth(const struct acl *acl, const char *user, unsigned i)
{
	unsigned n = count(&acl->bind);

	return i < n ? nth(&acl->bind, i) : nth(ports_of(acl, user), i - n);
}

static bool any_low(const struct port_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].first < LOW_PORTS)
			return true;
	return false;
}

bool acl_binds_low(const struct acl *acl)
{
	struct list_node *n;

	for (n = list_first(&acl->users); n; n = list_next(&acl->users, n))
		if (any_low(&container_of(n, struct acl_user, node)->bind))
			return true;
	return any_low(&acl->bind);
}
