/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control commands of the proxy. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/status.h"
#include "libsocks6/socks6.h"
#include "proxy/client.h"
#include "proxy/peruser.h"
#include "proxy/proxy.h"

/* What travels from worker to worker. */
struct gathered {
	struct survey survey;
	struct proxy *p;
	struct counters sum;
	struct udp_counters udp;
	uint64_t associations;
	uint64_t clients, waiting;
	uint64_t completed, missed; /* see struct synwatch */
};

static void add_counters(struct counters *sum, const struct counters *c)
{
	sum->accepted += c->accepted;
	sum->mptcp_clients += c->mptcp_clients;
	sum->fastopen_clients += c->fastopen_clients;
	for (int i = 0; i < END__COUNT; i++)
		sum->ended[i] += c->ended[i];
	for (int i = 0; i < REPLY_CODES; i++)
		sum->replies[i] += c->replies[i];
	sum->auth_ok += c->auth_ok;
	sum->auth_failed += c->auth_failed;
	sum->sessions_opened += c->sessions_opened;
	sum->sessions_invalid += c->sessions_invalid;
	sum->tokens_accepted += c->tokens_accepted;
	sum->tokens_rejected += c->tokens_rejected;
	sum->bytes_up += c->bytes_up;
	sum->bytes_down += c->bytes_down;
}

static void visit_counters(struct worker *w, struct survey *s)
{
	struct gathered *g = container_of(s, struct gathered, survey);
	struct proxy_worker *pw = proxy_worker_of(w);

	add_counters(&g->sum, &pw->counters);
	g->clients += pw->clients.count;
	g->waiting += pw->waiting.count;
	g->completed += pw->synwatch.completed;
	g->missed += pw->synwatch.missed;
	g->associations += udp_count(pw->udp);
	udp_add_counters(pw->udp, &g->udp);
}

static void report_counters(struct report *r, const struct gathered *g)
{
	const struct counters *c = &g->sum;

	report_object(r, "counters");
	report_u64(r, "accepted", c->accepted);
	report_u64(r, "mptcp_clients", c->mptcp_clients);
	report_u64(r, "fastopen_clients", c->fastopen_clients);
	report_u64(r, "handshakes_held", g->completed);
	report_u64(r, "handshakes_missed", g->missed);
	report_u64(r, "auth_ok", c->auth_ok);
	report_u64(r, "auth_failed", c->auth_failed);
	report_u64(r, "sessions_opened", c->sessions_opened);
	report_u64(r, "sessions_invalid", c->sessions_invalid);
	report_u64(r, "tokens_accepted", c->tokens_accepted);
	report_u64(r, "tokens_rejected", c->tokens_rejected);
	report_bytes(r, "bytes_up", c->bytes_up);
	report_bytes(r, "bytes_down", c->bytes_down);
	report_end(r);
	status_ended(r, c->ended);
	report_object(r, "replies");
	for (int i = 0; i < REPLY_CODES; i++)
		if (c->replies[i])
			report_u64(r, s6_reply_str((uint8_t)i), c->replies[i]);
	report_end(r);
}

static void status_done(struct survey *s)
{
	struct gathered *g = container_of(s, struct gathered, survey);
	struct proxy *p = g->p;
	struct report *r = control_report(s->rq);

	status_head(r, "sixpath-proxy", worker_now(&p->main) - p->started);
	report_u64(r, "workers", p->n_workers);
	report_bool(r, "draining", p->drain.runs);
	report_u64(r, "clients", g->clients);
	report_u64(r, "clients_waiting", g->waiting);
	report_u64(r, "clients_max", proxy_clients_max(p, p->conf));
	report_u64(r, "sessions", issued_count(p->issued));
	report_u64(r, "sessions_max", (uint64_t)p->conf->max_sessions);
	report_u64(r, "users", users_count(p->conf->users));
	report_u64(r, "binds", listenports_count(p->listenports));
	status_descriptors(r, p->nofile);
	status_listeners(r, &p->workers[0].listeners, true); /* the others' are the same */
	budget_report(&p->budget, NULL, r);
	report_counters(r, g);
	udp_report(r, g->associations, (uint64_t)p->conf->udp_max, &g->udp);
	peruser_report(p->peruser, r);
}

static void log_done(struct survey *s)
{
	const struct gathered *g = container_of(s, struct gathered, survey);
	const struct counters *c = &g->sum;

	log_notice("status: clients=%" PRIu64 " accepted=%" PRIu64 " udp_associations=%" PRIu64
		   " sessions=%zu auth_failed=%" PRIu64 " tokens_accepted=%" PRIu64
		   " tokens_rejected=%" PRIu64 " up=%" PRIu64 " down=%" PRIu64,
		   g->clients, c->accepted, g->associations, issued_count(g->p->issued),
		   c->auth_failed, c->tokens_accepted, c->tokens_rejected, c->bytes_up,
		   c->bytes_down);
}

static void gather(struct proxy *p, struct control_request *rq, void (*done)(struct survey *s))
{
	struct gathered *g = calloc(1, sizeof(*g));

	if (g) {
		g->survey.visit = visit_counters;
		g->survey.done = done;
		g->p = p;
	}
	survey_start(g ? &g->survey : NULL, rq, &p->main, p->list, p->n_workers);
}

static void run_status(struct control_request *rq, void *ctx)
{
	gather(ctx, rq, status_done);
}

static void add_clients(struct worker *w, struct report *r)
{
	client_report_all(proxy_worker_of(w), r);
}

static void run_flows(struct control_request *rq, void *ctx)
{
	struct proxy *p = ctx;

	survey_rows(rq, "flows", add_clients, &p->main, p->list, p->n_workers);
}

static void run_binds(struct control_request *rq, void *ctx)
{
	struct proxy *p = ctx;

	listenports_report(p->listenports, worker_now(&p->main), control_report(rq));
	control_reply(rq);
}

static void run_reload(struct control_request *rq, void *ctx)
{
	char text[512];

	if (proxy_reload(ctx, text, sizeof(text)) < 0) {
		control_fail(rq, "%s", text);
		return;
	}
	report_str(control_report(rq), "result", text);
	control_reply(rq);
}

static void run_restart(struct control_request *rq, void *ctx)
{
	proxy_restart(ctx, rq);
}

void proxy_log_status(struct proxy *p)
{
	gather(p, NULL, log_done);
}

const struct control_command proxy_commands[] = {
	{"status", "counters, sessions and limits", run_status, false},
	{"flows", "a row for each client connection", run_flows, false},
	{"binds", "a row for each port that a client has bound", run_binds, false},
	{"reload", "load the configuration anew; connections stay", run_reload, false},
	{"restart", "hand over to a successor; connections end here, new ones are its", run_restart,
	 false},
	{0},
};
