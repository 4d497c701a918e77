/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `sixpathctl paths`: the WAN links of [path] sections, then what is known by proxy and address. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "redir/flow.h"
#include "redir/front_bind.h"
#include "redir/inbound.h"
#include "redir/redir.h"
#include "redir/wan_keeper.h"
#include "redir/wan_usage.h"

/* What travels from worker to worker. */
struct asked {
	struct survey survey;
	struct redir *rd;
	struct wan_usage now, ended;
};

static void visit(struct worker *w, struct survey *s)
{
	struct asked *a = container_of(s, struct asked, survey);
	struct redir_worker *rw = redir_worker_of(w);

	wan_usage_merge(&a->ended, &rw->usage);
	flow_usage(rw, &a->now);
	inbound_usage(rw, &a->now);
	front_bind_usage(rw, &a->now);
}

static void addr_of(struct addr *out, const struct wan_ip *ip)
{
	char text[INET6_ADDRSTRLEN];

	memset(out, 0, sizeof(*out));
	if (inet_ntop(ip->family == WAN_V4 ? AF_INET : AF_INET6, ip->b, text, sizeof(text)))
		addr_parse_ip(out, text);
}

/* Over all proxies, from this address. */
struct open_state {
	bool known, paused, on;
	uint64_t stripped;
};

static struct open_state open_state_of(const struct redir *rd, const struct addr *local)
{
	double now_s = worker_now(&rd->main);
	struct open_state s = {0};

	for (unsigned i = 0; i < rd->pool->n; i++) {
		struct upstream *up = rd->pool->v[i];

		pthread_mutex_lock(&up->lock);
		for (unsigned k = 0; k < up->paths.n; k++) {
			const struct uppath *p = &up->paths.v[k];
			if (!addr_equal_ip(&p->local, local))
				continue;
			s.known = true;
			s.paused |= up->tfo == 2 && now_s < p->tfo.until_s;
			s.on |= up->tfo != 0;
			s.stripped += p->n_stripped;
		}
		pthread_mutex_unlock(&up->lock);
	}
	return s;
}

static void report_use(struct report *r, const struct asked *a, const struct addr *local)
{
	static const struct wan_use none;
	const struct wan_use *now = wan_usage_find(&a->now, local);
	const struct wan_use *ended = wan_usage_find(&a->ended, local);
	struct open_state open = open_state_of(a->rd, local);

	now = now ? now : &none;
	ended = ended ? ended : &none;
	report_u64(r, "subflows", now->subflows);
	report_seconds(r, "rtt", now->subflows ? (double)(now->rtt_us / now->subflows) / 1e6 : -1.);
	report_bytes(r, "bytes_up", now->up + ended->up);
	report_bytes(r, "bytes_down", now->down + ended->down);
	report_u64(r, "retransmissions", now->retransmitted + ended->retransmitted);
	report_str(r, "tfo", !open.known ? NULL : !open.on ? "off" : open.paused ? "paused" : "ok");
	report_str(r, "mptcp",
		   now->mptcp                       ? "ok"
		   : open.stripped || now->subflows ? "stripped"
		   : ended->mptcp                   ? "ok"
						    : NULL);
	report_u64(r, "mptcp_stripped", open.stripped);
}

static const struct wan_link *link_of(const struct wan_seen *seen, unsigned index)
{
	for (size_t i = 0; i < seen->n_links; i++)
		if (seen->links[i].index == index)
			return &seen->links[i];
	return NULL;
}

static void report_leg(struct report *r, const struct asked *a, const struct wan_conf *conf,
		       const struct wan_leg *leg)
{
	const struct wan_link *l = link_of(wan_keeper_seen(a->rd->wan), leg->link);
	bool there = leg->state == WAN_UP || leg->state == WAN_HELD;
	char text[ADDR_STRLEN];
	struct addr local;

	memset(&local, 0, sizeof(local));
	if (there || leg->state == WAN_SAME_ADDRESS)
		addr_of(&local, &leg->ip);
	report_row(r);
	report_str(r, "name", conf->name);
	report_str(r, "device", l ? l->name : NULL);
	report_str(r, "role", wan_role_str(conf->role));
	report_str(r, "state", wan_state_str(leg->state));
	report_bool(r, "carrier", l && l->up && l->carrier);
	report_str(r, "address", local.len ? addr_ip_str(&local, text, sizeof(text)) : NULL);
	if (there && leg->endpoint_id)
		report_u64(r, "endpoint", leg->endpoint_id);
	else
		report_null(r, "endpoint");
	report_str(r, "endpoint_of", !there ? NULL : leg->foreign_endpoint ? "other" : "own");
	report_bool(r, "backup", there && leg->backup);
	report_use(r, a, &local);
	report_bytes(r, "link_up", l ? l->tx : 0);
	report_bytes(r, "link_down", l ? l->rx : 0);
}

/* A row for each address; one for a path without any. */
static void report_wans(struct report *r, const struct asked *a)
{
	const struct wan_conf *confs;
	const struct wan_plan *plan;
	size_t n;

	if (!a->rd->wan)
		return;
	n = wan_keeper_confs(a->rd->wan, &confs);
	plan = wan_keeper_plan(a->rd->wan);
	for (size_t i = 0; i < n && i < plan->n_paths; i++) {
		const struct wan_leg *v4 = &plan->leg[i][WAN_V4], *v6 = &plan->leg[i][WAN_V6];
		bool has6 = v6->ip.family == WAN_V6; /* set with the address */
		if (v4->state == WAN_UP || v4->state == WAN_HELD || v4->state == WAN_SAME_ADDRESS ||
		    !has6)
			report_leg(r, a, &confs[i], v4);
		if (has6)
			report_leg(r, a, &confs[i], v6);
	}
}

static void report_path(struct report *r, const struct upstream *up, const struct uppath *p,
			bool via_up, double now_s)
{
	bool paused = up->tfo == 2 && now_s < p->tfo.until_s;
	bool tcp = up->mptcp != 0 && now_s < p->mptcp.until_s;
	char text[ADDR_STRLEN], via[128];

	report_row(r);
	report_str(r, "proxy", up->name);
	report_str(r, "via", upstream_via_str(up, via, sizeof(via)));
	report_str(r, "state", upstream_way_str(up, via_up));
	report_str(r, "local", p->local.len ? addr_ip_str(&p->local, text, sizeof(text)) : NULL);
	report_str(r, "tfo", up->tfo == 0 ? "off" : paused ? "paused" : "ok");
	report_seconds(r, "paused_for", paused ? p->tfo.until_s - now_s : -1.);
	report_u64(r, "connections", p->n);
	report_u64(r, "syn_taken", p->n_taken);
	report_u64(r, "syn_refused", p->n_refused);
	report_u64(r, "syn_lost", p->n_lost);
	report_u64(r, "mptcp_stripped", p->n_stripped);
	report_str(r, "mptcp", up->mptcp == 0 ? "off" : tcp ? "paused" : "ok");
	report_seconds(r, "mptcp_paused_for", tcp ? p->mptcp.until_s - now_s : -1.);
	report_seconds(r, "rtt", p->rtt_us ? p->rtt_us / 1e6 : -1.);
	report_seconds(r, "used", p->n ? now_s - p->used_s : -1.);
}

static void report_paths(struct report *r, struct redir *rd)
{
	static const struct uppath unused;
	double now_s = worker_now(&rd->main);

	for (unsigned i = 0; i < rd->pool->n; i++) {
		struct upstream *up = rd->pool->v[i];
		bool via_up = upstream_look(up).via_up;

		pthread_mutex_lock(&up->lock);
		for (unsigned k = 0; k < up->paths.n; k++)
			report_path(r, up, &up->paths.v[k], via_up, now_s);
		if (up->paths.n == 0) /* not reached yet */
			report_path(r, up, &unused, via_up, now_s);
		pthread_mutex_unlock(&up->lock);
	}
}

static void done(struct survey *s)
{
	struct asked *a = container_of(s, struct asked, survey);
	struct report *r = control_report(s->rq);
	struct redir *rd = a->rd;

	if (rd->wan)
		wan_keeper_look(rd->wan);
	report_list(r, "wans");
	report_wans(r, a);
	report_end(r);
	report_list(r, "paths");
	report_paths(r, rd);
	report_end(r);
}

void wan_paths_command(struct control_request *rq, void *ctx)
{
	struct redir *rd = ctx;
	struct asked *a = calloc(1, sizeof(*a));

	if (a) {
		a->survey.visit = visit;
		a->survey.done = done;
		a->rd = rd;
	}
	survey_start(a ? &a->survey : NULL, rq, &rd->main, rd->list, rd->n_workers);
}
