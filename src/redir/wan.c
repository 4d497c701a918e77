/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/wan.h"

#include <fnmatch.h>
#include <string.h>

bool wan_ip_equal(const struct wan_ip *x, const struct wan_ip *y)
{
	return x->family == y->family && memcmp(x->b, y->b, wan_ip_bits(x) / 8) == 0;
}

uint8_t wan_ip_bits(const struct wan_ip *ip)
{
	return ip->family == WAN_V4 ? 32 : 128;
}

const char *wan_role_str(enum wan_role role)
{
	static const char *const words[] = {"primary", "backup", "metered"};

	return words[role];
}

const char *wan_state_str(enum wan_state state)
{
	static const char *const words[] = {
		[WAN_UP] = "up",
		[WAN_NO_DEVICE] = "no-device",
		[WAN_LINK_DOWN] = "link-down",
		[WAN_NO_CARRIER] = "no-carrier",
		[WAN_NO_ADDRESS] = "no-address",
		[WAN_SAME_ADDRESS] = "same-address",
		[WAN_HELD] = "held",
	};

	return words[state];
}

/* ---- which link, which address ---- */

static const struct wan_link *link_of(const struct wan_seen *seen, unsigned index)
{
	for (size_t i = 0; i < seen->n_links; i++)
		if (seen->links[i].index == index)
			return &seen->links[i];
	return NULL;
}

static bool works(const struct wan_link *l)
{
	return l && l->up && l->carrier;
}

static bool taken(const struct wan_plan *plan, unsigned link)
{
	for (size_t i = 0; i < plan->n_paths; i++)
		if (plan->link[i] == link)
			return true;
	return false;
}

/* 169.254/16 and fe80::/10 lead nowhere; the scope says so for IPv6. */
static bool leads_out(const struct wan_ip *ip)
{
	return ip->family == WAN_V6 || (ip->b[0] != 127 && !(ip->b[0] == 169 && ip->b[1] == 254));
}

static bool eligible(const struct wan_addr *a)
{
	return a->global && a->usable && leads_out(&a->ip);
}

static bool has_address(const struct wan_seen *seen, unsigned link)
{
	for (size_t i = 0; i < seen->n_addrs; i++)
		if (seen->addrs[i].link == link && eligible(&seen->addrs[i]))
			return true;
	return false;
}

/* Of several that fit a pattern: one that works and has an address; the one there was; by name. */
static const struct wan_link *choose_link(const struct wan_plan *plan, const struct wan_seen *seen,
					  const struct wan_conf *conf, const struct wan_memory *mem)
{
	const struct wan_link *best = NULL;
	int best_worth = -1;

	for (size_t i = 0; i < seen->n_links; i++) {
		const struct wan_link *l = &seen->links[i];
		int worth;

		if (fnmatch(conf->device, l->name, 0) != 0 || taken(plan, l->index))
			continue;
		worth = (works(l) && has_address(seen, l->index) ? 4
			 : works(l)                              ? 2
								 : 0) +
			(mem->link == l->index);
		if (worth > best_worth ||
		    (worth == best_worth && strcmp(l->name, best->name) < 0)) {
			best = l;
			best_worth = worth;
		}
	}
	return best;
}

/* The main table's first, then any; the best metric. */
static const struct wan_default *default_of(const struct wan_seen *seen, unsigned link, int family)
{
	const struct wan_default *best = NULL;

	for (size_t i = 0; i < seen->n_defaults; i++) {
		const struct wan_default *d = &seen->defaults[i];
		bool main_table = d->table == WAN_TABLE_MAIN;

		if (d->link != link || d->family != family)
			continue;
		if (!best || (main_table && best->table != WAN_TABLE_MAIN) ||
		    (main_table == (best->table == WAN_TABLE_MAIN) && d->metric < best->metric))
			best = d;
	}
	return best;
}

/* fc00::/7 reaches no proxy in the world. */
static bool is_ula(const struct wan_ip *ip)
{
	return ip->family == WAN_V6 && (ip->b[0] & 0xfe) == 0xfc;
}

static int worth_of(const struct wan_addr *a, const struct wan_default *d,
		    const struct wan_memory *mem)
{
	int family = a->ip.family;

	return (is_ula(&a->ip) ? 0 : 32) + (a->temporary ? 0 : 16) +
	       (d && d->has_src && wan_ip_equal(&d->src, &a->ip) ? 8 : 0) +
	       (mem->have[family] && wan_ip_equal(&mem->ip[family], &a->ip) ? 4 : 0) +
	       (a->secondary ? 0 : 2);
}

/* The one that new connections leave from, where it can be told; else the one there was. */
static const struct wan_addr *choose_addr(const struct wan_seen *seen, unsigned link, int family,
					  const struct wan_memory *mem)
{
	const struct wan_default *d = default_of(seen, link, family);
	const struct wan_addr *best = NULL;
	int best_worth = -1;

	for (size_t i = 0; i < seen->n_addrs; i++) {
		const struct wan_addr *a = &seen->addrs[i];
		if (a->link != link || a->ip.family != family || !eligible(a) ||
		    worth_of(a, d, mem) <= best_worth)
			continue;
		best = a;
		best_worth = worth_of(a, d, mem);
	}
	return best;
}

/* ---- legs ---- */

/* Two links whose routers gave the same address: the first path has it. */
static int same_address(const struct wan_plan *plan, size_t before, const struct wan_ip *ip)
{
	for (size_t i = 0; i < before; i++)
		if (plan->leg[i][ip->family].state == WAN_UP &&
		    wan_ip_equal(&plan->leg[i][ip->family].ip, ip))
			return (int)i;
	return -1;
}

static void plan_leg(struct wan_plan *plan, size_t i, int family, const struct wan_seen *seen,
		     const struct wan_memory *mem)
{
	struct wan_leg *leg = &plan->leg[i][family];
	const struct wan_link *l = link_of(seen, plan->link[i]);
	const struct wan_addr *a = l ? choose_addr(seen, l->index, family, mem) : NULL;

	leg->link = plan->link[i];
	leg->same_as = -1;
	if (!l)
		leg->state = WAN_NO_DEVICE;
	else if (!l->up)
		leg->state = WAN_LINK_DOWN;
	else if (!l->carrier)
		leg->state = WAN_NO_CARRIER;
	else if (!a)
		leg->state = WAN_NO_ADDRESS;
	if (leg->state != WAN_UP)
		return;
	leg->ip = a->ip;
	leg->len = a->len;
	leg->same_as = same_address(plan, i, &a->ip);
	if (leg->same_as >= 0)
		leg->state = WAN_SAME_ADDRESS;
	leg->has_default = default_of(seen, l->index, family) != NULL;
}

bool wan_endpoint_is_ours(const struct wan_seen *seen, const struct wan_endpoint *e)
{
	for (size_t i = 0; i < seen->n_routes; i++)
		if (seen->routes[i].kind == WAN_ROUTE_MARKER &&
		    wan_ip_equal(&seen->routes[i].dst, &e->ip))
			return true;
	return false;
}

static const struct wan_endpoint *endpoint_of(const struct wan_seen *seen, const struct wan_ip *ip)
{
	for (size_t i = 0; i < seen->n_endpoints; i++)
		if (wan_ip_equal(&seen->endpoints[i].ip, ip))
			return &seen->endpoints[i];
	return NULL;
}

/* Could connections go on without this path? By another path, by a link that is not ours to look
 * after, or by an administrator's endpoint on a link that works. */
static bool other_way(const struct wan_plan *plan, const struct wan_seen *seen, int family)
{
	unsigned way = seen->way[family];

	for (size_t i = 0; i < plan->n_paths; i++)
		if (plan->leg[i][family].state == WAN_UP)
			return true;
	if (way && !taken(plan, way) && works(link_of(seen, way)))
		return true;
	for (size_t i = 0; i < seen->n_addrs; i++) {
		const struct wan_addr *a = &seen->addrs[i];
		const struct wan_endpoint *e = endpoint_of(seen, &a->ip);
		if (a->ip.family == family && e && e->subflow && !wan_endpoint_is_ours(seen, e) &&
		    works(link_of(seen, a->link)))
			return true;
	}
	return false;
}

/* An endpoint that is deleted takes its subflows with it, and the connection if there is no other.
 * Left alone, a connection gets over a pause of its only link. */
static void hold(struct wan_plan *plan, size_t i, int family, const struct wan_seen *seen,
		 const struct wan_memory *mem)
{
	struct wan_leg *leg = &plan->leg[i][family];
	const struct wan_endpoint *e;

	if (leg->state == WAN_UP || leg->state == WAN_SAME_ADDRESS || !mem->have[family])
		return;
	e = endpoint_of(seen, &mem->ip[family]);
	if (!e || !wan_endpoint_is_ours(seen, e) || other_way(plan, seen, family))
		return;
	leg->state = WAN_HELD;
	leg->ip = mem->ip[family];
	leg->link = e->link;
	leg->backup = e->backup;
}

/* ---- roles ---- */

static int best_role(const struct wan_plan *plan, const struct wan_conf *confs, int family)
{
	int best = -1;

	for (size_t i = 0; i < plan->n_paths; i++)
		if (plan->leg[i][family].state == WAN_UP && (best < 0 || (int)confs[i].role < best))
			best = (int)confs[i].role;
	return best;
}

/* The kernel knows two kinds of endpoints, we have three roles: when no primary path is left,
 * backups are made ordinary ones if there are metered paths to spare. */
static void plan_backup(struct wan_plan *plan, const struct wan_conf *confs, int family)
{
	int best = best_role(plan, confs, family);
	bool metered = false;

	for (size_t i = 0; i < plan->n_paths; i++)
		metered |= plan->leg[i][family].state == WAN_UP && confs[i].role == WAN_METERED;
	for (size_t i = 0; i < plan->n_paths; i++) {
		struct wan_leg *leg = &plan->leg[i][family];
		if (leg->state == WAN_UP)
			leg->backup =
				confs[i].role == WAN_METERED ||
				(confs[i].role == WAN_BACKUP && !(best == WAN_BACKUP && metered));
	}
}

/* New connections of ours begin where the kernel's routes say, unless that is a path that does not
 * work, or one of lesser role than another. */
static void plan_steer(struct wan_plan *plan, const struct wan_conf *confs, int family,
		       const struct wan_seen *seen)
{
	int best = best_role(plan, confs, family);

	plan->steer[family] = -1;
	if (best < 0 || !seen->way[family] || !taken(plan, seen->way[family]))
		return;
	for (size_t i = 0; i < plan->n_paths; i++)
		if (plan->link[i] == seen->way[family] && plan->leg[i][family].state == WAN_UP &&
		    (int)confs[i].role == best)
			return;
	for (size_t i = 0; i < plan->n_paths && plan->steer[family] < 0; i++)
		if (plan->leg[i][family].state == WAN_UP && plan->leg[i][family].has_default &&
		    (int)confs[i].role == best)
			plan->steer[family] = (int)i;
}

/* ---- endpoints, rules and routes ---- */

/* An administrator's rule that sends what leaves from the address through the link. */
static bool foreign_rule(const struct wan_seen *seen, const struct wan_leg *leg)
{
	for (size_t i = 0; i < seen->n_rules; i++) {
		const struct wan_rule *r = &seen->rules[i];
		if (r->ours || r->narrow || r->mark || r->family != leg->ip.family ||
		    r->len != wan_ip_bits(&leg->ip) || !wan_ip_equal(&r->src, &leg->ip))
			continue;
		for (size_t k = 0; k < seen->n_defaults; k++)
			if (seen->defaults[k].table == r->table &&
			    seen->defaults[k].family == leg->ip.family &&
			    seen->defaults[k].link == leg->link)
				return true;
	}
	return false;
}

static void want_route(struct wan_plan *plan, struct wan_route route)
{
	plan->routes[plan->n_routes++] = route;
}

static struct wan_ip masked(const struct wan_ip *ip, uint8_t len)
{
	struct wan_ip out = *ip;

	for (unsigned bit = len; bit < wan_ip_bits(ip); bit++)
		out.b[bit / 8] &= (uint8_t) ~(0x80u >> bit % 8);
	return out;
}

static void want_routes(struct wan_plan *plan, const struct wan_leg *leg, uint32_t table,
			const struct wan_seen *seen)
{
	const struct wan_default *d = default_of(seen, leg->link, leg->ip.family);
	const struct wan_ip any = {.family = leg->ip.family};
	uint8_t bits = wan_ip_bits(&leg->ip);

	want_route(plan,
		   (struct wan_route){
			   .table = table, .kind = WAN_ROUTE_MARKER, .dst = leg->ip, .len = bits});
	if (leg->len < bits)
		want_route(plan, (struct wan_route){.table = table,
						    .dst = masked(&leg->ip, leg->len),
						    .len = leg->len,
						    .link = leg->link,
						    .src = leg->ip});
	if (d)
		want_route(plan, (struct wan_route){.table = table,
						    .dst = any,
						    .link = leg->link,
						    .gateway = d->gateway,
						    .via = d->via,
						    .src = leg->ip});
	want_route(plan, (struct wan_route){.table = table, .kind = WAN_ROUTE_NOTHING, .dst = any});
}

static void want_rule(struct wan_plan *plan, struct wan_rule rule)
{
	rule.ours = true;
	plan->rules[plan->n_rules++] = rule;
}

static void want_rules(struct wan_plan *plan, const struct wan_ip *ip, uint32_t table)
{
	struct wan_rule r = {.family = ip->family, .src = *ip, .len = wan_ip_bits(ip)};

	r.pref = WAN_PREF_NEAR, r.table = table, r.not_default = true;
	want_rule(plan, r);
	r.pref = WAN_PREF_MAIN, r.table = WAN_TABLE_MAIN;
	want_rule(plan, r);
	r.pref = WAN_PREF_FAR, r.table = table, r.not_default = false;
	want_rule(plan, r);
}

static void want_steering(struct wan_plan *plan, int family, uint32_t table, uint32_t mark)
{
	struct wan_rule r = {.family = (uint8_t)family, .mark = mark};

	r.src.family = (uint8_t)family;
	r.pref = WAN_PREF_STEER_MAIN, r.table = WAN_TABLE_MAIN, r.not_default = true;
	want_rule(plan, r);
	r.pref = WAN_PREF_STEER, r.table = table, r.not_default = false;
	want_rule(plan, r);
}

static void want_leg(struct wan_plan *plan, struct wan_leg *leg, uint32_t table,
		     const struct wan_seen *seen)
{
	const struct wan_endpoint *e = endpoint_of(seen, &leg->ip);

	leg->foreign_endpoint = e && !wan_endpoint_is_ours(seen, e);
	leg->foreign_rule = foreign_rule(seen, leg);
	leg->endpoint_id = e ? e->id : 0;
	if (!leg->foreign_rule)
		want_rules(plan, &leg->ip, table);
	want_routes(plan, leg, table, seen);
	/* Without an endpoint of ours the marker would say what is not true. */
	if (leg->foreign_endpoint) {
		for (size_t i = 0; i < plan->n_routes; i++)
			if (plan->routes[i].kind == WAN_ROUTE_MARKER &&
			    wan_ip_equal(&plan->routes[i].dst, &leg->ip))
				plan->routes[i] = plan->routes[--plan->n_routes];
		return;
	}
	plan->endpoints[plan->n_endpoints++] = (struct wan_endpoint){
		.ip = leg->ip, .subflow = true, .backup = leg->backup, .link = leg->link};
}

/* What is there of it stays, nothing is added. */
static void keep_leg(struct wan_plan *plan, struct wan_leg *leg, uint32_t table,
		     const struct wan_seen *seen)
{
	const struct wan_endpoint *e = endpoint_of(seen, &leg->ip);
	unsigned routes = 0, rules = 0;

	plan->endpoints[plan->n_endpoints++] = *e;
	leg->endpoint_id = e->id;
	for (size_t i = 0; i < seen->n_routes && routes < WAN_LEG_ROUTES; i++)
		if (seen->routes[i].table == table && seen->routes[i].dst.family == leg->ip.family)
			want_route(plan, seen->routes[i]), routes++;
	for (size_t i = 0; i < seen->n_rules && rules < WAN_LEG_RULES; i++)
		if (seen->rules[i].ours && seen->rules[i].len > 0 &&
		    wan_ip_equal(&seen->rules[i].src, &leg->ip))
			want_rule(plan, seen->rules[i]), rules++;
}

static void remember(struct wan_memory *mem, const struct wan_conf *conf,
		     const struct wan_plan *plan, size_t i)
{
	strncpy(mem->name, conf->name, sizeof(mem->name) - 1);
	mem->link = plan->link[i];
	for (int f = 0; f < WAN_FAMILIES; f++) {
		const struct wan_leg *leg = &plan->leg[i][f];
		if (leg->state == WAN_UP) {
			mem->have[f] = true;
			mem->ip[f] = leg->ip;
		}
	}
}

/* Sections come and go: what is remembered follows the name. */
static void sort_memory(struct wan_memory *mem, const struct wan_conf *confs, size_t n)
{
	struct wan_memory old[WAN_PATHS_MAX];

	memcpy(old, mem, sizeof(old));
	memset(mem, 0, sizeof(old));
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < WAN_PATHS_MAX; k++)
			if (strncmp(old[k].name, confs[i].name, sizeof(old[k].name) - 1) == 0)
				mem[i] = old[k];
}

void wan_plan(struct wan_plan *plan, const struct wan_conf *confs, size_t n, const uint32_t *tables,
	      uint32_t mark, const struct wan_seen *seen, struct wan_memory *mem)
{
	bool other = false, metered = false;

	memset(plan, 0, sizeof(*plan));
	n = n < WAN_PATHS_MAX ? n : WAN_PATHS_MAX;
	sort_memory(mem, confs, n);
	for (size_t i = 0; i < n; i++) {
		const struct wan_link *l = choose_link(plan, seen, &confs[i], &mem[i]);
		plan->link[i] = l ? l->index : 0;
		plan->n_paths = i + 1;
	}
	for (int f = 0; f < WAN_FAMILIES; f++) {
		for (size_t i = 0; i < n; i++)
			plan_leg(plan, i, f, seen, &mem[i]);
		for (size_t i = 0; i < n; i++)
			hold(plan, i, f, seen, &mem[i]);
		plan_backup(plan, confs, f);
		plan_steer(plan, confs, f, seen);
		for (size_t i = 0; i < n; i++) {
			struct wan_leg *leg = &plan->leg[i][f];
			if (leg->state == WAN_UP)
				want_leg(plan, leg, tables[i], seen);
			else if (leg->state == WAN_HELD)
				keep_leg(plan, leg, tables[i], seen);
			*(confs[i].role == WAN_METERED ? &metered : &other) |= leg->state == WAN_UP;
		}
		if (plan->steer[f] >= 0 && mark)
			want_steering(plan, f, tables[plan->steer[f]], mark);
	}
	plan->only_metered = metered && !other;
	for (size_t i = 0; i < n; i++)
		remember(&mem[i], &confs[i], plan, i);
}
