/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From what the kernel has to what it should have. */
#include "redir/wan.h"

#include <string.h>

static bool same_route(const struct wan_route *x, const struct wan_route *y)
{
	if (x->table != y->table || x->kind != y->kind || x->len != y->len ||
	    !wan_ip_equal(&x->dst, &y->dst))
		return false;
	if (x->kind != WAN_ROUTE_UNICAST)
		return true;
	return x->link == y->link && x->gateway == y->gateway &&
	       (!x->gateway || wan_ip_equal(&x->via, &y->via)) && wan_ip_equal(&x->src, &y->src);
}

static bool same_rule(const struct wan_rule *x, const struct wan_rule *y)
{
	return x->family == y->family && x->pref == y->pref && x->table == y->table &&
	       x->len == y->len && x->mark == y->mark && x->not_default == y->not_default &&
	       (x->len == 0 || wan_ip_equal(&x->src, &y->src));
}

static bool has_route(const struct wan_route *v, size_t n, const struct wan_route *r)
{
	for (size_t i = 0; i < n; i++)
		if (same_route(&v[i], r))
			return true;
	return false;
}

static bool has_rule(const struct wan_rule *v, size_t n, const struct wan_rule *r)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].ours && same_rule(&v[i], r))
			return true;
	return false;
}

static const struct wan_endpoint *find_endpoint(const struct wan_endpoint *v, size_t n,
						const struct wan_ip *ip)
{
	for (size_t i = 0; i < n; i++)
		if (wan_ip_equal(&v[i].ip, ip))
			return &v[i];
	return NULL;
}

struct list_of_actions {
	struct wan_action *v;
	size_t n, cap;
};

static void act(struct list_of_actions *l, enum wan_verb verb, const void *what)
{
	if (l->n < l->cap)
		l->v[l->n++] = (struct wan_action){verb, what};
}

/* The kernel cannot bind an endpoint to another device, nor give it another kind. */
static bool can_stay(const struct wan_endpoint *seen, const struct wan_endpoint *want)
{
	return want && seen->link == want->link && seen->subflow == want->subflow && !seen->other;
}

static void add_endpoints(struct list_of_actions *l, const struct wan_plan *plan,
			  const struct wan_seen *seen)
{
	for (size_t i = 0; i < plan->n_endpoints; i++) {
		const struct wan_endpoint *want = &plan->endpoints[i];
		const struct wan_endpoint *e =
			find_endpoint(seen->endpoints, seen->n_endpoints, &want->ip);

		if (!e || !can_stay(e, want))
			act(l, WAN_ADD_ENDPOINT, want);
		else if (e->backup != want->backup)
			act(l, WAN_SET_BACKUP, want);
	}
}

size_t wan_diff(const struct wan_plan *plan, const struct wan_seen *seen, struct wan_action *out,
		size_t cap)
{
	struct list_of_actions l = {.v = out, .cap = cap};

	/* First what saves time: subflows that are dead. The marker goes later than the endpoint
	 * and comes before it, so that there is never one of ours without. */
	for (size_t i = 0; i < seen->n_endpoints; i++)
		if (wan_endpoint_is_ours(seen, &seen->endpoints[i]) &&
		    !can_stay(&seen->endpoints[i], find_endpoint(plan->endpoints, plan->n_endpoints,
								 &seen->endpoints[i].ip)))
			act(&l, WAN_DEL_ENDPOINT, &seen->endpoints[i]);
	for (size_t i = 0; i < plan->n_routes; i++)
		if (!has_route(seen->routes, seen->n_routes, &plan->routes[i]))
			act(&l, WAN_ADD_ROUTE, &plan->routes[i]);
	for (size_t i = 0; i < plan->n_rules; i++)
		if (!has_rule(seen->rules, seen->n_rules, &plan->rules[i]))
			act(&l, WAN_ADD_RULE, &plan->rules[i]);
	for (size_t i = 0; i < seen->n_rules; i++)
		if (seen->rules[i].ours && !has_rule(plan->rules, plan->n_rules, &seen->rules[i]))
			act(&l, WAN_DEL_RULE, &seen->rules[i]);
	for (size_t i = 0; i < seen->n_routes; i++)
		if (!has_route(plan->routes, plan->n_routes, &seen->routes[i]))
			act(&l, WAN_DEL_ROUTE, &seen->routes[i]);
	add_endpoints(&l, plan, seen);
	return l.n;
}
