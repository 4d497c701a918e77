/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Comparing an old configuration with a new one. */
#include <stdio.h>
#include <string.h>

#include "core/addr.h"
#include "core/conf.h"

bool conf_text_equal(const char *x, const char *y)
{
	return strcmp(x ? x : "", y ? y : "") == 0;
}

bool conf_addrs_equal(const struct addr_list *x, const struct addr_list *y)
{
	if (x->n != y->n)
		return false;
	for (size_t i = 0; i < x->n; i++)
		if (!addr_equal(&x->v[i], &y->v[i]))
			return false;
	return true;
}

bool conf_prefixes_equal(const struct prefix_list *x, const struct prefix_list *y)
{
	if (x->n != y->n)
		return false;
	for (size_t i = 0; i < x->n; i++)
		if (x->v[i].bits != y->v[i].bits || !addr_equal(&x->v[i].base, &y->v[i].base))
			return false;
	return true;
}

bool conf_interfaces_equal(const struct interface_list *x, const struct interface_list *y)
{
	if (x->n != y->n)
		return false;
	for (size_t i = 0; i < x->n; i++)
		if (strcmp(x->v[i], y->v[i]) != 0)
			return false;
	return true;
}

bool conf_ports_equal(const struct port_list *x, const struct port_list *y)
{
	if (x->n != y->n)
		return false;
	for (size_t i = 0; i < x->n; i++)
		if (x->v[i].first != y->v[i].first || x->v[i].last != y->v[i].last)
			return false;
	return true;
}

bool conf_ports_contain(const struct port_list *l, uint16_t port)
{
	for (size_t i = 0; i < l->n; i++)
		if (port >= l->v[i].first && port <= l->v[i].last)
			return true;
	return false;
}

bool conf_prefixes_contain(const struct prefix_list *l, const struct addr *a)
{
	for (size_t i = 0; i < l->n; i++)
		if (prefix_contains(&l->v[i], a))
			return true;
	return false;
}

void conf_name_changed(bool equal, const char *name, char *buf, size_t cap)
{
	size_t len = strlen(buf);

	if (!equal && len < cap)
		snprintf(buf + len, cap - len, "%s%s", len ? ", " : "", name);
}
