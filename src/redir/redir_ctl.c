/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control commands of the redirector. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/status.h"
#include "redir/dns.h"
#include "redir/explain.h"
#include "redir/flow.h"
#include "redir/front_bind.h"
#include "redir/front_udp.h"
#include "redir/inbound.h"
#include "redir/learner.h"
#include "redir/redir.h"
#include "redir/refuser.h"
#include "redir/rules.h"
#include "redir/steer.h"
#include "redir/wan_keeper.h"

/* What travels from worker to worker. */
struct gathered {
	struct survey survey;
	struct redir *rd;
	struct counters sum;
	uint64_t flows, prewarm_ready;
	struct udp_counters udp;
	struct dns_counts dns;
};

static void add_counters(struct counters *sum, const struct counters *c)
{
	sum->accepted += c->accepted;
	sum->front += c->front;
	for (int i = 0; i < ROUTE_COUNT; i++)
		sum->routed[i] += c->routed[i];
	for (int i = 0; i < END__COUNT; i++)
		sum->ended[i] += c->ended[i];
	sum->mptcp += c->mptcp;
	sum->fastopen += c->fastopen;
	sum->tokens_rejected += c->tokens_rejected;
	sum->sessions_invalid += c->sessions_invalid;
	sum->retries += c->retries;
	sum->forwarded += c->forwarded;
	sum->bypass_failed += c->bypass_failed;
	sum->prewarm_used += c->prewarm_used;
	sum->prewarm_dead += c->prewarm_dead;
	sum->fallbacks += c->fallbacks;
	sum->bytes_up += c->bytes_up;
	sum->bytes_down += c->bytes_down;
}

static void visit_counters(struct worker *w, struct survey *s)
{
	struct gathered *g = container_of(s, struct gathered, survey);
	struct redir_worker *rw = redir_worker_of(w);

	add_counters(&g->sum, &rw->counters);
	g->flows += rw->flows.count + rw->front_udps.count + rw->front_binds.count;
	g->prewarm_ready += prewarm_ready(&rw->prewarm);
	udp_add_counters(rw->udp, &g->udp);
	dns_count(rw->dns, &g->dns);
}

static void report_counters(struct report *r, const struct counters *c)
{
	report_object(r, "counters");
	report_u64(r, "accepted", c->accepted);
	report_u64(r, "front", c->front);
	report_u64(r, "proxied", c->routed[ROUTE_PROXY]);
	report_u64(r, "direct", c->routed[ROUTE_DIRECT]);
	report_u64(r, "bypassed", c->routed[ROUTE_BYPASS]);
	report_u64(r, "bypass_failed", c->bypass_failed);
	report_u64(r, "forwarded", c->forwarded);
	report_u64(r, "mptcp", c->mptcp);
	report_u64(r, "fastopen", c->fastopen);
	report_u64(r, "prewarm_used", c->prewarm_used);
	report_u64(r, "prewarm_dead", c->prewarm_dead);
	report_u64(r, "retries", c->retries);
	report_u64(r, "fallbacks", c->fallbacks);
	report_u64(r, "tokens_rejected", c->tokens_rejected);
	report_u64(r, "sessions_invalid", c->sessions_invalid);
	report_bytes(r, "bytes_up", c->bytes_up);
	report_bytes(r, "bytes_down", c->bytes_down);
	report_end(r);
	status_ended(r, c->ended);
}

static void report_held(struct report *r, struct held *h)
{
	struct held_counts c;

	held_count(h, &c);
	report_object(r, "held");
	report_bool(r, "queue", c.open);
	report_u64(r, "now", c.now);
	report_u64(r, "total", c.total);
	report_u64(r, "refused", c.refused);
	report_u64(r, "repeated", c.repeated);
	report_u64(r, "overflowed", c.overflowed);
	report_end(r);
}

static void report_failed(struct report *r, struct redir *rd)
{
	struct failed_counts c;

	failed_count(rd->failed, worker_now(&rd->main), &c);
	report_object(r, "failed");
	report_u64(r, "now", c.now);
	report_u64(r, "remembered", c.remembered);
	report_u64(r, "refused", c.refused);
	report_u64(r, "refused_by_rule", refuser_by_rule(rd));
	report_u64(r, "recovered", c.recovered);
	report_u64(r, "disputed", c.disputed);
	report_u64(r, "evicted", c.evicted);
	report_end(r);
}

/* Who keeps the rules, and whether others are kept from changing them. */
static void report_rules(struct report *r, const struct redir *rd)
{
	struct rules_state state = {0};

	if (steer_rules(rd->steer))
		rules_get_state(steer_rules(rd->steer), &state);
	report_str(r, "rules",
		   steer_rules(rd->steer)        ? "own"
		   : script_in_place(rd->script) ? "script"
						 : "none");
	report_bool(r, "owner", state.owned);
	report_str(r, "not_captured",
		   !redir_conf_wants_rules(rd->conf)                  ? NULL
		   : rules_conf_deaf(rd->conf, AF_INET)               ? "IPv4"
		   : rules_conf_deaf(rd->conf, AF_INET6)              ? "IPv6"
		   : steer_rules(rd->steer) && !steer_ipv6(rd->steer) ? "IPv6"
								      : NULL);
}

static void status_done(struct survey *s)
{
	struct gathered *g = container_of(s, struct gathered, survey);
	struct redir *rd = g->rd;
	struct report *r = control_report(s->rq);

	status_head(r, "sixpath-redir", worker_now(&rd->main) - rd->started);
	report_str(r, "mode", rd->conf->mode == MODE_TPROXY ? "tproxy" : "redirect");
	report_bool(r, "icmp_errors", redir_conf_sends_icmp(rd->conf));
	report_u64(r, "workers", rd->n_workers);
	report_bool(r, "accepting", rd->accepting);
	report_rules(r, rd);
	report_u64(r, "flows", g->flows);
	report_u64(r, "prewarm_ready", g->prewarm_ready);
	report_u64(r, "proxies", rd->pool->n);
	report_bool(r, "draining", rd->drain.runs);
	status_descriptors(r, rd->nofile);
	budget_report(&rd->budget, "capturing", r);
	status_listeners(r, &rd->workers[0].listeners, false); /* the others' are the same */
	status_listeners_as(r, "socks", &rd->workers[0].front, false);
	report_held(r, rd->held);
	report_failed(r, rd);
	udp_report_counters(r, &g->udp);
	if (rd->conf->dns.listen.n > 0)
		dns_report(r, &g->dns);
	report_counters(r, &g->sum);
}

static void log_done(struct survey *s)
{
	const struct gathered *g = container_of(s, struct gathered, survey);
	const struct counters *c = &g->sum;

	log_notice("status: flows=%" PRIu64 " accepted=%" PRIu64 " proxied=%" PRIu64
		   " direct=%" PRIu64 " mptcp=%" PRIu64 " fastopen=%" PRIu64 " retries=%" PRIu64
		   " fallbacks=%" PRIu64 " up=%" PRIu64 " down=%" PRIu64,
		   g->flows, c->accepted, c->routed[ROUTE_PROXY], c->routed[ROUTE_DIRECT], c->mptcp,
		   c->fastopen, c->retries, c->fallbacks, c->bytes_up, c->bytes_down);
}

static void gather(struct redir *rd, struct control_request *rq, void (*done)(struct survey *s))
{
	struct gathered *g = calloc(1, sizeof(*g));

	if (g) {
		g->survey.visit = visit_counters;
		g->survey.done = done;
		g->rd = rd;
	}
	survey_start(g ? &g->survey : NULL, rq, &rd->main, rd->list, rd->n_workers);
}

static void run_status(struct control_request *rq, void *ctx)
{
	gather(ctx, rq, status_done);
}

static void add_flows(struct worker *w, struct report *r)
{
	flow_report_all(redir_worker_of(w), r);
	inbound_report_all(redir_worker_of(w), r);
	front_udp_report_all(redir_worker_of(w), r);
	front_bind_report_all(redir_worker_of(w), r);
}

static void run_flows(struct control_request *rq, void *ctx)
{
	struct redir *rd = ctx;

	survey_rows(rq, "flows", add_flows, &rd->main, rd->list, rd->n_workers);
}

static void add_associations(struct worker *w, struct report *r)
{
	udp_report_all(redir_worker_of(w)->udp, r);
}

static void run_udp(struct control_request *rq, void *ctx)
{
	struct redir *rd = ctx;

	survey_rows(rq, "associations", add_associations, &rd->main, rd->list, rd->n_workers);
}

static uint64_t flows_total(const struct pool *p)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < p->n; i++) {
		pthread_mutex_lock(&p->v[i]->lock);
		sum += p->v[i]->n_flows_total;
		pthread_mutex_unlock(&p->v[i]->lock);
	}
	return sum;
}

/* sum: of the flows of all upstreams */
static void report_upstream(struct report *r, const struct pool *pool, unsigned i, uint64_t sum,
			    double now_s)
{
	struct upstream *up = pool->v[i];
	const struct upstream_view look = upstream_look(up);
	const struct health *h = &up->health;
	char text[ADDR_STRLEN], via[128];

	pthread_mutex_lock(&up->lock);
	report_row(r);
	report_str(r, "name", up->name);
	report_str(r, "address",
		   up->n_addrs ? addr_str(&up->addrs[up->current], text, sizeof(text)) : NULL);
	report_str(r, "via", upstream_via_str(up, via, sizeof(via)));
	report_str(r, "protocol", up->protocol == PROTOCOL_SOCKS5 ? "socks5" : "socks6");
	report_u64(r, "priority", (uint64_t)pool->priority[i]);
	report_u64(r, "weight", (uint64_t)pool->weight[i]);
	report_str(r, "state", upstream_way_str(up, look.via_up));
	report_seconds(r, "since", h->since_s > 0 ? now_s - h->since_s : -1.);
	report_bool(r, "session", up->session.valid);
	report_u64(r, "tokens_left", tokens_left(&up->session.tokens));
	report_u64(r, "flows", up->n_flows);
	report_u64(r, "prewarm_ready", up->n_warm);
	report_u64(r, "prewarm_used", up->n_warm_used);
	report_u64(r, "prewarm_dead", up->n_warm_dead);
	report_u64(r, "flows_total", up->n_flows_total);
	report_percent(r, "share", sum ? up->n_flows_total * 100 / sum : 0);
	report_u64(r, "ok", up->n_ok);
	report_u64(r, "busy", up->n_busy);
	report_u64(r, "failed", up->n_failed);
	report_u64(r, "sessions_opened", up->n_sessions);
	report_u64(r, "sessions_lost", up->n_lost);
	report_bool(r, "tfo",
		    up->protocol == PROTOCOL_SOCKS6 &&
			    (up->tfo == 1 ||
			     (up->tfo && !(uppaths_any_paused(&up->paths, now_s) & UPPATH_TFO))));
	report_seconds(r, "rtt", look.rtt_us ? look.rtt_us / 1e6 : -1.);
	report_str(r, "last_error", up->last_error[0] ? up->last_error : NULL);
	pthread_mutex_unlock(&up->lock);
}

static void run_proxies(struct control_request *rq, void *ctx)
{
	struct redir *rd = ctx;
	struct report *r = control_report(rq);
	uint64_t sum = flows_total(rd->pool);

	report_list(r, "proxies");
	for (unsigned i = 0; i < rd->pool->n; i++)
		report_upstream(r, rd->pool, i, sum, worker_now(&rd->main));
	report_end(r);
	control_reply(rq);
}

static void run_reload(struct control_request *rq, void *ctx)
{
	char text[512];

	if (redir_reload(ctx, text, sizeof(text)) < 0) {
		control_fail(rq, "%s", text);
		return;
	}
	report_str(control_report(rq), "result", text);
	control_reply(rq);
}

static void run_restart(struct control_request *rq, void *ctx)
{
	redir_restart(ctx, rq);
}

void redir_log_status(struct redir *rd)
{
	gather(rd, NULL, log_done);
}

const struct control_command redir_commands[] = {
	{"status", "counters and limits", run_status, false},
	{"flows", "a row for each connection: where to, through what, MPTCP, Fast Open", run_flows,
	 false},
	{"udp", "a row for each UDP association: whose, through which proxy, how", run_udp, false},
	{"proxies", "a row for each upstream proxy: state, share, session, tokens", run_proxies,
	 false},
	{"forwards", "a row for each [forward]: state, connections, and why it does not listen",
	 forwards_command, false},
	{"paths", "a row for each WAN link, and for each proxy and local address: Fast Open, MPTCP",
	 wan_paths_command, false},
	{"learned",
	 "servers known to speak MPTCP, or not to: [list | add SERVER | remove SERVER | clear]",
	 learned_command, true},
	{"failed", "servers that have just failed and are refused: [list | flush]", refuser_command,
	 true},
	{"explain", "SRC DST:PORT [udp]: what happens to such a connection, and what decides it",
	 explain_command, true},
	{"reload", "load the configuration anew; connections stay", run_reload, false},
	{"restart", "hand over to a successor; connections end here, new ones are its", run_restart,
	 false},
	{0},
};
