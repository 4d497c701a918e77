/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bonding: each link to the world (an interface with a default route, in whichever table) besides
 * the first must have an MPTCP endpoint, and packets from that endpoint's address must leave
 * through that link.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "tools/doctor_priv.h"

#define TABLE_MAIN 254
#define LINKS_MAX  32

struct links {
	unsigned v[LINKS_MAX]; /* interface indices; v[0] is the first link */
	size_t n;
};

static const char *if_name(unsigned ifindex, char *buf) /* IF_NAMESIZE octets */
{
	if (!if_indextoname(ifindex, buf))
		snprintf(buf, IF_NAMESIZE, "%u", ifindex);
	return buf;
}

static void add_link(struct links *l, unsigned ifindex)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i] == ifindex)
			return;
	if (l->n < LINKS_MAX)
		l->v[l->n++] = ifindex;
}

/* The first link is the best default route of the main table, IPv4 if there is one. */
static void find_links(const struct netview *v, struct links *l)
{
	const struct nv_default *best = NULL;

	l->n = 0;
	for (size_t i = 0; i < v->n_defaults; i++) {
		const struct nv_default *d = &v->defaults[i];
		if (d->local || d->table != TABLE_MAIN)
			continue;
		if (!best || (d->family == AF_INET && best->family != AF_INET) ||
		    (d->family == best->family && d->metric < best->metric))
			best = d;
	}
	if (best)
		add_link(l, best->ifindex);
	for (size_t i = 0; i < v->n_defaults; i++)
		if (!v->defaults[i].local)
			add_link(l, v->defaults[i].ifindex);
}

/* Of the interface that has the address; 0 = none. */
static unsigned endpoint_link(const struct netview *v, const struct nv_endpoint *e)
{
	for (size_t i = 0; i < v->n_addrs; i++)
		if (v->addrs[i].family == e->family &&
		    memcmp(v->addrs[i].addr, e->addr, nv_addr_len(e->family)) == 0)
			return v->addrs[i].ifindex;
	return 0;
}

/* An address of the interface that others can reach, for a cure. */
static const char *link_addr(const struct netview *v, unsigned ifindex, char *buf, size_t cap)
{
	for (size_t i = 0; i < v->n_addrs; i++) {
		const struct nv_addr *a = &v->addrs[i];
		if (a->ifindex != ifindex ||
		    (a->family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL((const void *)a->addr)))
			continue;
		if (inet_ntop(a->family, a->addr, buf, (socklen_t)cap))
			return buf;
	}
	return "ADDRESS";
}

/* ---- endpoints and limits ---- */

static void check_link(struct doctor *d, unsigned ifindex)
{
	const struct netview *v = &d->net;
	char name[IF_NAMESIZE], addr[INET6_ADDRSTRLEN], id[64], cure[CURE_MAX];
	const struct nv_endpoint *found = NULL;

	if_name(ifindex, name);
	snprintf(id, sizeof(id), "mptcp.endpoint.%s", name);
	for (size_t i = 0; i < v->n_endpoints; i++)
		if (v->endpoints[i].subflow && endpoint_link(v, &v->endpoints[i]) == ifindex &&
		    (!found || found->backup))
			found = &v->endpoints[i];
	if (found && found->backup) {
		snprintf(cure, sizeof(cure), "ip mptcp endpoint change id %u nobackup", found->id);
		findings_add(&d->findings, FINDING_NOTE, id, cure,
			     "its endpoint is a backup: used only when the other links fail");
	} else if (found) {
		inet_ntop(found->family, found->addr, addr, sizeof(addr));
		findings_add(&d->findings, FINDING_OK, id, NULL, "endpoint %s", addr);
	} else {
		snprintf(cure, sizeof(cure), "ip mptcp endpoint add %s dev %s subflow",
			 link_addr(v, ifindex, addr, sizeof(addr)), name);
		findings_add(
			&d->findings, FINDING_WARN, id, cure,
			"%s has a default route but no MPTCP endpoint \"subflow\": connections "
			"do not use it",
			name);
	}
}

static void check_links(struct doctor *d, const struct links *l)
{
	char name[IF_NAMESIZE];

	if (l->n == 0)
		findings_add(&d->findings, FINDING_WARN, "mptcp.links",
			     "ip route add default via GATEWAY dev DEVICE", "no default route");
	else if (l->n == 1)
		findings_add(&d->findings, FINDING_NOTE, "mptcp.links",
			     "ip route add default via GATEWAY dev DEVICE metric 200, for each "
			     "further link",
			     "only %s has a default route: nothing to bond",
			     if_name(l->v[0], name));
	else
		findings_add(&d->findings, FINDING_OK, "mptcp.links", NULL, "%zu links, first %s",
			     l->n, if_name(l->v[0], name));
	for (size_t i = 1; i < l->n; i++)
		check_link(d, l->v[i]);
}

static void check_limits(struct doctor *d, const struct links *l)
{
	uint32_t have = d->net.limit_subflows, want = 1;
	char cure[CURE_MAX];

	if (d->role == TUNE_REDIR && l->n > 2)
		want = (uint32_t)l->n - 1;
	snprintf(cure, sizeof(cure), "ip mptcp limits set subflows %u", want > 4 ? want : 4);
	if (have < want)
		findings_add(&d->findings, have ? FINDING_WARN : FINDING_FAIL, "mptcp.limits", cure,
			     "%u further subflows for each connection, wanted at least %u", have,
			     want);
	else
		findings_add(&d->findings, FINDING_OK, "mptcp.limits", NULL,
			     "%u further subflows for each connection", have);
}

/* ---- routes by source address ---- */

static bool covers(const struct nv_rule *r, const struct nv_endpoint *e)
{
	size_t whole = r->src_len / 8, rest = r->src_len % 8;
	unsigned mask = 0xffu << (8 - rest) & 0xffu;

	if (r->family != e->family || r->src_len == 0 || r->narrow || r->mask ||
	    whole > nv_addr_len(e->family) || (rest && whole == nv_addr_len(e->family)))
		return false;
	return memcmp(r->src, e->addr, whole) == 0 &&
	       (rest == 0 || ((r->src[whole] ^ e->addr[whole]) & mask) == 0);
}

static const struct nv_default *default_in(const struct netview *v, int family, unsigned ifindex,
					   uint32_t table) /* 0 = any */
{
	for (size_t i = 0; i < v->n_defaults; i++) {
		const struct nv_default *d = &v->defaults[i];
		if (d->family == family && d->ifindex == ifindex && !d->local &&
		    (table == 0 || d->table == table))
			return d;
	}
	return NULL;
}

/* The commands that make packets from the address leave through the link. */
static void route_cure(const struct netview *v, const struct nv_endpoint *e, const char *addr,
		       const char *name, unsigned ifindex, uint32_t table, char *cure)
{
	const struct nv_default *any = default_in(v, e->family, ifindex, 0);
	const char *ip = e->family == AF_INET ? "ip" : "ip -6";
	char via[INET6_ADDRSTRLEN] = "GATEWAY", rule[128] = "";

	if (any && any->gateway)
		inet_ntop(any->family, any->via, via, sizeof(via));
	if (table == 0) {
		table = any && any->table != TABLE_MAIN ? any->table : 1000 + ifindex;
		snprintf(rule, sizeof(rule), "%s rule add from %s lookup %u; ", ip, addr, table);
	}
	if (any && !any->gateway) /* point to point */
		snprintf(cure, CURE_MAX, "%s%s route replace default dev %s table %u", rule, ip,
			 name, table);
	else
		snprintf(cure, CURE_MAX, "%s%s route replace default via %s dev %s table %u", rule,
			 ip, via, name, table);
}

static void check_source(struct doctor *d, const struct nv_endpoint *e, const struct links *l)
{
	const struct netview *v = &d->net;
	unsigned ifindex = endpoint_link(v, e);
	char addr[INET6_ADDRSTRLEN] = "?", name[IF_NAMESIZE], id[96], cure[CURE_MAX];
	uint32_t table = 0;

	inet_ntop(e->family, e->addr, addr, sizeof(addr));
	snprintf(id, sizeof(id), "mptcp.route.%s", addr);
	if (!ifindex) {
		snprintf(cure, sizeof(cure), "ip mptcp endpoint delete id %u", e->id);
		findings_add(&d->findings, FINDING_WARN, id, cure,
			     "endpoint %u is an address that no interface has", e->id);
		return;
	}
	if_name(ifindex, name);
	if (l->n > 0 && ifindex == l->v[0] && default_in(v, e->family, ifindex, TABLE_MAIN)) {
		findings_add(&d->findings, FINDING_OK, id, NULL,
			     "leaves through %s, as the main table says", name);
		return;
	}
	for (size_t i = 0; i < v->n_rules; i++) {
		if (!covers(&v->rules[i], e))
			continue;
		table = v->rules[i].table;
		if (default_in(v, e->family, ifindex, table)) {
			findings_add(&d->findings, FINDING_OK, id, NULL,
				     "leaves through %s by table %u", name, table);
			return;
		}
	}
	/* The kernel binds subflows of an endpoint with a device to that device. */
	if (!table && e->ifindex == ifindex && default_in(v, e->family, ifindex, TABLE_MAIN)) {
		findings_add(&d->findings, FINDING_OK, id, NULL,
			     "leaves through %s, to which the endpoint is bound", name);
		return;
	}
	route_cure(v, e, addr, name, ifindex, table, cure);
	if (table)
		findings_add(&d->findings, FINDING_WARN, id, cure,
			     "its table %u has no default route through %s: subflows leave through "
			     "another link or none",
			     table, name);
	else
		findings_add(&d->findings, FINDING_WARN, id, cure,
			     "no ip rule \"from %s\": subflows leave through another link than %s",
			     addr, name);
}

/* ---- all of it ---- */

static bool readable(struct doctor *d, const char *id, const char *what, int rc)
{
	if (rc == 0)
		return true;
	if (rc == -ENOSYS)
		findings_add(
			&d->findings, FINDING_NOTE, id,
			"install libmnl-dev and build sixpath again: ./configure && make install",
			"%s: not checked, built without libmnl", what);
	else if (rc == -EPERM || rc == -EACCES)
		findings_add(&d->findings, FINDING_NOTE, id, "sudo sixpathctl doctor",
			     "%s: not checked, only root may ask", what);
	else
		findings_add(&d->findings, FINDING_WARN, id, "ip mptcp endpoint show; ip rule show",
			     "%s: cannot be read: %s", what, strerror(-rc));
	return false;
}

void doctor_paths(struct doctor *d)
{
	const struct netview *v = &d->net;
	int routes = v->addrs_rc ? v->addrs_rc : v->rules_rc ? v->rules_rc : v->routes_rc;
	struct links l;

	find_links(v, &l);
	if (!readable(d, "mptcp.limits", "MPTCP endpoints and limits", v->mptcp_rc))
		return;
	check_limits(d, &l);
	/* A proxy's subflows are made by its clients. */
	if (d->role == TUNE_PROXY || !readable(d, "mptcp.links", "routes", routes))
		return;
	check_links(d, &l);
	for (size_t i = 0; i < v->n_endpoints; i++)
		if (v->endpoints[i].subflow)
			check_source(d, &v->endpoints[i], &l);
	if (v->truncated)
		findings_add(&d->findings, FINDING_NOTE, "mptcp.many",
			     "ip rule show; ip route show table all",
			     "more than %d addresses, rules or routes: not all were looked at",
			     NETVIEW_MAX);
}
