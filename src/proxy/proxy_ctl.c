/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control commands of the proxy. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libsocks6/socks6.h"
#include "proxy/acceptor.h"
#include "proxy/client.h"
#include "proxy/perclient.h"
#include "proxy/proxy.h"

/* What travels from worker to worker. */
struct gathered {
	struct proxy *p;
	struct control_request *rq; /* NULL: for the log */
	struct counters sum;
	uint64_t clients;
	uint64_t poked, missed; /* see struct synwatch */
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

static void visit_counters(struct worker *w, void *ctx)
{
	struct gathered *g = ctx;
	struct proxy_worker *pw = proxy_worker_of(w);

	add_counters(&g->sum, &pw->counters);
	g->clients += pw->clients.count;
	g->poked += pw->synwatch.poked;
	g->missed += pw->synwatch.missed;
}

/* Worker 0's sockets; the others' are the same. */
static void report_listeners(struct report *r, const struct proxy *p)
{
	const struct proxy_worker *pw = &p->workers[0];
	char text[ADDR_STRLEN];

	report_list(r, "listeners");
	for (unsigned i = 0; i < pw->n_acceptors; i++) {
		report_row(r);
		report_str(r, "address", addr_str(&pw->acceptors[i].addr, text, sizeof(text)));
		report_bool(r, "mptcp", pw->acceptors[i].mptcp);
		report_bool(r, "tfo", pw->acceptors[i].fastopen);
	}
	report_end(r);
}

static void report_counters(struct report *r, const struct gathered *g)
{
	const struct counters *c = &g->sum;

	report_object(r, "counters");
	report_u64(r, "accepted", c->accepted);
	report_u64(r, "mptcp_clients", c->mptcp_clients);
	report_u64(r, "fastopen_clients", c->fastopen_clients);
	report_u64(r, "handshakes_poked", g->poked);
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
	report_object(r, "ended");
	for (int i = END_CLOSED; i < END__COUNT; i++)
		if (c->ended[i])
			report_u64(r, end_reason_str((enum end_reason)i), c->ended[i]);
	report_end(r);
	report_object(r, "replies");
	for (int i = 0; i < REPLY_CODES; i++)
		if (c->replies[i])
			report_u64(r, s6_reply_str((uint8_t)i), c->replies[i]);
	report_end(r);
}

static void status_done(void *ctx)
{
	struct gathered *g = ctx;
	struct proxy *p = g->p;
	struct report *r = control_report(g->rq);

	report_str(r, "daemon", "sixpath-proxy");
	report_str(r, "version", daemon_version());
	report_seconds(r, "uptime", ev_now(p->main.loop) - p->started);
	report_u64(r, "workers", p->n_workers);
	report_u64(r, "clients", g->clients);
	report_u64(r, "sessions", issued_count(p->issued));
	report_u64(r, "users", users_count(p->conf->users));
	report_u64(r, "descriptor_limit", p->nofile);
	report_listeners(r, p);
	report_counters(r, g);
	control_reply(g->rq);
	free(g);
}

static void log_done(void *ctx)
{
	struct gathered *g = ctx;
	const struct counters *c = &g->sum;

	log_notice("status: clients=%" PRIu64 " accepted=%" PRIu64
		   " sessions=%zu auth_failed=%" PRIu64 " tokens_accepted=%" PRIu64
		   " tokens_rejected=%" PRIu64 " up=%" PRIu64 " down=%" PRIu64,
		   g->clients, c->accepted, issued_count(g->p->issued), c->auth_failed,
		   c->tokens_accepted, c->tokens_rejected, c->bytes_up, c->bytes_down);
	free(g);
}

static void visit_flows(struct worker *w, void *ctx)
{
	struct gathered *g = ctx;

	client_report_all(proxy_worker_of(w), control_report(g->rq));
}

static void flows_done(void *ctx)
{
	struct gathered *g = ctx;

	report_end(control_report(g->rq));
	control_reply(g->rq);
	free(g);
}

static int gather(struct proxy *p, struct control_request *rq,
		  void (*visit)(struct worker *, void *), void (*done)(void *))
{
	struct gathered *g = calloc(1, sizeof(*g));
	int rc;

	if (!g)
		return -1;
	g->p = p;
	g->rq = rq;
	rc = worker_gather(&p->main, p->list, p->n_workers, visit, done, g);
	if (rc < 0)
		free(g);
	return rc;
}

static void run_status(struct control_request *rq, void *ctx)
{
	if (gather(ctx, rq, visit_counters, status_done) < 0)
		control_fail(rq, "out of memory");
}

static void run_flows(struct control_request *rq, void *ctx)
{
	report_list(control_report(rq), "flows");
	if (gather(ctx, rq, visit_flows, flows_done) < 0)
		control_fail(rq, "out of memory");
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

void proxy_log_status(struct proxy *p)
{
	gather(p, NULL, visit_counters, log_done);
}

const struct control_command proxy_commands[] = {
	{"status", "counters, sessions and limits", run_status},
	{"flows", "a row for each client connection", run_flows},
	{"reload", "load the configuration anew; connections stay", run_reload},
	{NULL, NULL, NULL},
};
