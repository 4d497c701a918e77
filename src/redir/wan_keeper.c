/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/wan_keeper.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redir/redir.h"
#include "redir/wan_kernel.h"

#define LOOK_S  10.0 /* others may have changed endpoints, of which there are no events */
#define AGAIN_S 1.0  /* after a failure */
#define LATER_S 0.05 /* after routes have changed: several at once, most of the time */

struct told { /* of a leg, in the log */
	bool any;
	enum wan_state state;
	struct wan_ip ip;
	bool backup, foreign_endpoint, foreign_rule, has_default;
};

struct wan_keeper {
	struct redir *rd;
	struct redir_conf *conf; /* a reference: confs points into it */
	struct wan_conf confs[WAN_PATHS_MAX];
	size_t n;
	struct wan_kernel *kernel;
	uint32_t tables[WAN_PATHS_MAX];
	struct wan_memory mem[WAN_PATHS_MAX];
	struct wan_seen seen;
	struct wan_plan plan;
	struct told told[WAN_PATHS_MAX][WAN_FAMILIES];
	char told_error[160];
	bool told_limits;
	uint32_t limit_was, limit_set; /* limit_set 0: not changed by us */
	ev_io io;
	ev_timer look, later;
};

/* ---- telling ---- */

static const char *ip_str(const struct wan_ip *ip, char *buf) /* INET6_ADDRSTRLEN octets */
{
	if (!inet_ntop(ip->family == WAN_V4 ? AF_INET : AF_INET6, ip->b, buf, INET6_ADDRSTRLEN))
		snprintf(buf, INET6_ADDRSTRLEN, "?");
	return buf;
}

static const char *link_name(const struct wan_seen *seen, unsigned index)
{
	for (size_t i = 0; i < seen->n_links; i++)
		if (seen->links[i].index == index)
			return seen->links[i].name;
	return "?";
}

static void tell_up(const struct wan_keeper *k, size_t i, const struct wan_leg *leg,
		    const struct told *before)
{
	const char *name = k->confs[i].name, *dev = link_name(&k->seen, leg->link);
	bool same = before->any && before->state == WAN_UP && wan_ip_equal(&before->ip, &leg->ip);
	char ip[INET6_ADDRSTRLEN];

	ip_str(&leg->ip, ip);
	if (!same || before->backup != leg->backup)
		log_notice("path %s: up on %s, endpoint %s%s", name, dev, ip,
			   leg->backup ? " (backup)" : "");
	if (leg->foreign_endpoint && !(same && before->foreign_endpoint))
		log_notice(
			"path %s: endpoint %s is not of our making: it stays as it is, also when "
			"the link goes (to have it looked after: ip mptcp endpoint delete id %u)",
			name, ip, leg->endpoint_id);
	if (leg->foreign_rule && !(same && before->foreign_rule))
		log_notice("path %s: an ip rule \"from %s\" is there: using it", name, ip);
	if (!leg->has_default && !(same && !before->has_default))
		log_warning("path %s: there is no default route through %s, so %s reaches nothing "
			    "beyond its own subnet (ip route add default via GATEWAY dev %s metric "
			    "N)",
			    name, dev, ip, dev);
}

static void tell_leg(struct wan_keeper *k, size_t i, int f)
{
	const struct wan_leg *leg = &k->plan.leg[i][f];
	struct told *t = &k->told[i][f];
	const char *name = k->confs[i].name, *dev = link_name(&k->seen, leg->link);
	char ip[INET6_ADDRSTRLEN];
	bool news = t->state != leg->state;

	if (leg->state == WAN_UP) {
		tell_up(k, i, leg, t);
	} else if (leg->state == WAN_SAME_ADDRESS && (!t->any || news)) {
		log_warning("path %s: %s has the same address (%s) on %s as path %s, so no route "
			    "can tell them apart: change the subnet of one of the two routers, or "
			    "the address it gives",
			    name, dev, ip_str(&leg->ip, ip), dev, k->confs[leg->same_as].name);
	} else if (leg->state == WAN_HELD && news) {
		log_notice(
			"path %s: %s is gone and no other link is left: its endpoint stays until "
			"there is one",
			name, ip_str(&leg->ip, ip));
	} else if (t->any && news && (t->state == WAN_UP || t->state == WAN_HELD)) {
		log_notice("path %s: %s: endpoint %s is removed", name, wan_state_str(leg->state),
			   ip_str(&t->ip, ip));
	} else if (!t->any && f == WAN_V4 && leg->state != WAN_SAME_ADDRESS) {
		log_notice("path %s: %s (device = %s)", name, wan_state_str(leg->state),
			   k->confs[i].device);
	}
	*t = (struct told){.any = true,
			   .state = leg->state,
			   .ip = leg->ip,
			   .backup = leg->backup,
			   .foreign_endpoint = leg->foreign_endpoint,
			   .foreign_rule = leg->foreign_rule,
			   .has_default = leg->has_default};
}

static void tell(struct wan_keeper *k)
{
	for (size_t i = 0; i < k->n; i++)
		for (int f = 0; f < WAN_FAMILIES; f++)
			tell_leg(k, i, f);
}

/* Each error once, until another one or none comes. */
static void tell_error(struct wan_keeper *k, const char *text, enum log_level level)
{
	if (strcmp(k->told_error, text) == 0)
		return;
	snprintf(k->told_error, sizeof(k->told_error), "%s", text);
	if (*text)
		log_msg(level, "%s", text);
}

/* ---- limits ---- */

static void check_limits(struct wan_keeper *k)
{
	uint32_t want = (uint32_t)k->n, have = k->seen.limit_subflows;
	int rc;

	if (k->n < 2 || have >= want)
		return;
	rc = k->conf->tune ? wan_kernel_limits(k->kernel, want, k->seen.limit_add_addr) : -EACCES;
	if (rc == 0) {
		log_notice("path: the limit of further subflows for each connection was %u, is %u",
			   have, want);
		if (!k->limit_set)
			k->limit_was = have;
		k->limit_set = want;
	} else if (!k->told_limits) {
		log_warning(
			"path: the limit of further subflows for each connection is %u, too low "
			"for %zu paths%s (ip mptcp limits set subflows %u)",
			have, k->n, k->conf->tune ? "" : ", and tune = no", want);
		k->told_limits = true;
	}
}

static void restore_limits(struct wan_keeper *k)
{
	if (k->limit_set && k->seen.limit_subflows == k->limit_set)
		wan_kernel_limits(k->kernel, k->limit_was, k->seen.limit_add_addr);
	k->limit_set = 0;
}

/* ---- in step ---- */

static void describe(const struct wan_action *a, char *buf, size_t cap)
{
	static const char *const words[] = {
		[WAN_DEL_ENDPOINT] = "cannot remove the endpoint",
		[WAN_ADD_ROUTE] = "cannot add a route for",
		[WAN_ADD_RULE] = "cannot add an ip rule for",
		[WAN_DEL_RULE] = "cannot remove an ip rule for",
		[WAN_DEL_ROUTE] = "cannot remove a route for",
		[WAN_ADD_ENDPOINT] = "cannot add the endpoint",
		[WAN_SET_BACKUP] = "cannot change the endpoint",
	};
	const struct wan_endpoint *e = a->what;
	const struct wan_route *route = a->what;
	const struct wan_rule *rule = a->what;
	const struct wan_ip *ip = &e->ip;
	char text[INET6_ADDRSTRLEN];

	if (a->verb == WAN_ADD_ROUTE || a->verb == WAN_DEL_ROUTE)
		ip = &route->dst;
	else if (a->verb == WAN_ADD_RULE || a->verb == WAN_DEL_RULE)
		ip = &rule->src;
	snprintf(buf, cap, "%s %s", words[a->verb], ip_str(ip, text));
}

/* Each step is tried, whatever became of the others. Were all taken? */
static bool take_steps(struct wan_keeper *k)
{
	struct wan_action v[WAN_ACTIONS_MAX];
	size_t n = wan_diff(&k->plan, &k->seen, v, WAN_ACTIONS_MAX);
	bool good = true;

	for (size_t i = 0; i < n; i++) {
		int rc = wan_kernel_act(k->kernel, &v[i]);
		char what[96], text[160];

		if (rc == 0)
			continue;
		describe(&v[i], what, sizeof(what));
		snprintf(text, sizeof(text), "path: %s: %s%s", what, strerror(-rc),
			 rc == -EPERM ? " (needs CAP_NET_ADMIN)"
			 : rc == -ERANGE || rc == -ENOSPC
				 ? " (the kernel takes 8 at most: ip mptcp endpoint show)"
				 : "");
		tell_error(k, text, LVL_ERROR);
		good = false;
	}
	if (good)
		tell_error(k, "", LVL_DEBUG);
	return good;
}

static bool in_step(struct wan_keeper *k)
{
	char text[160];
	int rc = wan_kernel_read(k->kernel, k->confs, k->n, &k->seen);

	if (rc < 0) {
		snprintf(text, sizeof(text), "path: links and routes cannot be read: %s",
			 strerror(-rc));
		tell_error(k, text, LVL_ERROR);
		return false;
	}
	wan_plan(&k->plan, k->confs, k->n, k->tables, k->conf->mark, &k->seen, k->mem);
	atomic_store(&k->rd->only_metered, k->plan.only_metered);
	return take_steps(k);
}

static void keep(struct wan_keeper *k)
{
	struct ev_loop *loop = k->rd->main.loop;
	bool good = in_step(k);

	tell(k);
	check_limits(k);
	ev_timer_stop(loop, &k->later);
	k->look.repeat = good ? LOOK_S : AGAIN_S;
	ev_timer_again(loop, &k->look);
}

static void timer_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	keep(t->data);
}

static void events_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct wan_keeper *k = io->data;

	(void)events;
	switch (wan_kernel_news(k->kernel)) {
	case WAN_NEWS_NOW:
		keep(k);
		break;
	case WAN_NEWS_LATER:
		if (!ev_is_active(&k->later)) {
			ev_timer_set(&k->later, LATER_S, 0.);
			ev_timer_start(loop, &k->later);
		}
		break;
	case WAN_NEWS_NONE:
		break;
	}
}

/* ---- life ---- */

static void take_conf(struct wan_keeper *k)
{
	struct list_node *n, *tmp;

	redir_conf_put(k->conf);
	k->conf = redir_conf_get(k->rd->conf);
	k->n = 0;
	list_for_each_safe (&k->conf->paths, n, tmp) {
		const struct path_section *p = container_of(n, struct path_section, node);
		k->confs[k->n++] = (struct wan_conf){
			.name = p->name, .device = p->device, .role = (enum wan_role)p->role};
	}
	memset(k->told, 0, sizeof(k->told));
	k->told_limits = false;
}

static void keeper_free(struct wan_keeper *k)
{
	struct ev_loop *loop = k->rd->main.loop;

	ev_io_stop(loop, &k->io);
	ev_timer_stop(loop, &k->look);
	ev_timer_stop(loop, &k->later);
	wan_kernel_close(k->kernel);
	redir_conf_put(k->conf);
	k->rd->wan = NULL;
	atomic_store(&k->rd->only_metered, false);
	free(k);
}

static int open_kernel(struct wan_keeper *k)
{
	int rc = wan_kernel_open(&k->kernel);

	if (rc == 0)
		rc = wan_kernel_read(k->kernel, k->confs, k->n, &k->seen);
	if (rc == 0)
		rc = wan_kernel_tables(k->kernel, &k->seen, k->tables, WAN_PATHS_MAX);
	return rc;
}

static void complain(int rc)
{
	log_error("path: nothing is done for [path] sections: %s",
		  rc == -ENOSYS       ? "built without libmnl"
		  : rc == -ENOENT     ? "this kernel has no MPTCP path manager"
		  : rc == -EADDRINUSE ? "no routing table is free"
				      : strerror(-rc));
}

void wan_keeper_start(struct redir *rd)
{
	struct wan_keeper *k = calloc(1, sizeof(*k));
	int rc;

	if (!k) {
		log_error("path: out of memory");
		return;
	}
	k->rd = rd;
	ev_init(&k->io, events_cb);
	ev_init(&k->look, timer_cb);
	ev_init(&k->later, timer_cb);
	k->io.data = k->look.data = k->later.data = k;
	take_conf(k);
	rc = open_kernel(k);
	if (rc < 0 && k->n > 0)
		complain(rc);
	if (rc == 0)
		in_step(k); /* without paths: what has been left behind goes */
	if (rc < 0 || k->n == 0) {
		keeper_free(k);
		return;
	}
	rd->wan = k;
	ev_io_set(&k->io, wan_kernel_fd(k->kernel), EV_READ);
	ev_io_start(rd->main.loop, &k->io);
	keep(k);
}

void wan_keeper_reload(struct redir *rd)
{
	if (!rd->wan) {
		if (rd->conf->paths.count > 0)
			wan_keeper_start(rd);
		return;
	}
	take_conf(rd->wan);
	if (rd->wan->n == 0)
		wan_keeper_stop(rd);
	else
		keep(rd->wan);
}

void wan_keeper_stop(struct redir *rd)
{
	struct wan_keeper *k = rd->wan;

	if (!k)
		return;
	k->n = 0;
	in_step(k);
	restore_limits(k);
	keeper_free(k);
}

void wan_keeper_leave(struct redir *rd)
{
	if (rd->wan)
		keeper_free(rd->wan);
}

/* ---- reports ---- */

const struct wan_plan *wan_keeper_plan(const struct wan_keeper *k)
{
	return &k->plan;
}

const struct wan_seen *wan_keeper_seen(const struct wan_keeper *k)
{
	return &k->seen;
}

size_t wan_keeper_confs(const struct wan_keeper *k, const struct wan_conf **confs)
{
	*confs = k->confs;
	return k->n;
}

void wan_keeper_look(struct wan_keeper *k)
{
	keep(k);
}
