/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/acl.h"

static bool in_list(const struct prefix_list *list, const struct addr *a)
{
	for (size_t i = 0; i < list->n; i++)
		if (prefix_contains(&list->v[i], a))
			return true;
	return false;
}

bool acl_allows(const struct acl *acl, const struct addr *dst)
{
	if (in_list(&acl->deny, dst))
		return false;
	return in_list(&acl->allow, dst) || addr_classify(dst) == ADDR_PUBLIC;
}
