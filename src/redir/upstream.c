/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/conf.h"
#include "core/dial.h"
#include "core/log.h"
#include "redir/balance.h"

#define PATIENCE_S    0.5 /* a flow's, at least; the probe after it takes two seconds more */
#define PATIENCE_RTTS 3

static char *copy(const char *text)
{
	return text && *text ? strdup(text) : NULL;
}

static void kick_run(struct job *job, struct worker *w)
{
	struct upstream *up = container_of(job, struct upstream, kick_job);

	(void)w;
	pthread_mutex_lock(&up->lock);
	up->kicked = false;
	pthread_mutex_unlock(&up->lock);
	if (up->kick)
		up->kick(up, up->kick_ctx);
	upstream_put(up);
}

struct upstream *upstream_new(const struct proxy_section *p, struct worker *main)
{
	struct upstream *up = calloc(1, sizeof(*up));

	if (!up)
		return NULL;
	atomic_init(&up->refs, 1);
	pthread_mutex_init(&up->lock, NULL);
	up->name = strdup(p->name);
	up->host = strdup(p->address.host);
	up->port = p->address.port;
	up->username = copy(p->username);
	up->password = copy(p->password);
	up->mptcp = p->mptcp;
	up->tfo = p->tfo;
	up->priority = p->priority;
	up->prewarm = p->prewarm;
	up->main = main;
	up->source = sock_source;
	up->kick_job.run = kick_run;
	if (!up->name || !up->host || (p->username && *p->username && !up->username) ||
	    (p->password && *p->password && !up->password)) {
		upstream_put(up);
		return NULL;
	}
	return up;
}

struct upstream *upstream_get(struct upstream *up)
{
	atomic_fetch_add(&up->refs, 1);
	return up;
}

void upstream_put(struct upstream *up)
{
	if (!up || atomic_fetch_sub(&up->refs, 1) > 1)
		return;
	if (up->password)
		explicit_bzero(up->password, strlen(up->password));
	free(up->name);
	free(up->host);
	free(up->username);
	free(up->password);
	pthread_mutex_destroy(&up->lock);
	free(up);
}

bool upstream_matches(const struct upstream *up, const struct proxy_section *p)
{
	return conf_text_equal(up->name, p->name) && conf_text_equal(up->host, p->address.host) &&
	       up->port == p->address.port && conf_text_equal(up->username, p->username) &&
	       conf_text_equal(up->password, p->password) && up->mptcp == p->mptcp &&
	       up->tfo == p->tfo && up->priority == p->priority && up->prewarm == p->prewarm;
}

/* Lock held. The main worker looks at the upstream as soon as it can. */
static void kick(struct upstream *up)
{
	if (up->kicked)
		return;
	up->kicked = true;
	upstream_get(up);
	worker_post(up->main, &up->kick_job);
}

/* The state has changed. Lock held. */
static void announce(const struct upstream *up, enum upstream_state before)
{
	switch (up->health.state) {
	case UPSTREAM_UP:
		log_notice("proxy %s is up", up->name);
		break;
	case UPSTREAM_REJECTS:
		log_warning(
			"proxy %s is alive, but %s; set username and password in [proxy %s], "
			"or with sixpathctl passwd at the proxy; it is asked again every minute",
			up->name, up->last_error, up->name);
		break;
	default:
		log_warning("proxy %s %s: %s", up->name,
			    before == UPSTREAM_UP ? "is down" : "does not answer as it should",
			    up->last_error);
		break;
	}
}

/* Lock held. A token is only good in a session; without one the request goes without. */
static void grant_session(struct upstream *up, struct upstream_grant *g)
{
	struct session *s = &up->session;

	g->in_session = s->valid;
	if (!s->valid)
		return;
	memcpy(g->id, s->id, s->id_len);
	g->id_len = s->id_len;
	g->session = s->number;
}

/* Lock held. */
static bool usable(const struct upstream *up)
{
	return up->health.state == UPSTREAM_UP && up->n_addrs > 0;
}

/* The route is asked for only while there is a pause on some path. */
bool upstream_tfo_allowed(struct upstream *up, double now_s, const struct addr *addr)
{
	struct addr local;
	bool paused;

	if (up->tfo != 2)
		return up->tfo == 1;
	pthread_mutex_lock(&up->lock);
	paused = uppaths_any_paused(&up->paths, now_s);
	pthread_mutex_unlock(&up->lock);
	if (!paused)
		return true;
	if (up->source(addr, up->mark, &local) < 0)
		return false;
	pthread_mutex_lock(&up->lock);
	paused = uppaths_paused(&up->paths, now_s, &local);
	pthread_mutex_unlock(&up->lock);
	return !paused;
}

bool upstream_grant(struct upstream *up, double now_s, struct upstream_grant *g)
{
	bool ok;

	memset(g, 0, sizeof(*g));
	pthread_mutex_lock(&up->lock);
	ok = usable(up);
	if (ok) {
		g->addr = up->addrs[up->current];
		/* What is in a SYN may arrive although no answer comes. */
		g->tfo = !up->health.trouble;
		g->tfo_works = up->tfo != 0 && up->tfo_works;
		g->patience_s = up->rtt_us / 1e6 * PATIENCE_RTTS;
		if (g->patience_s < PATIENCE_S)
			g->patience_s = PATIENCE_S;
		grant_session(up, g);
		if (g->in_session)
			g->has_token = tokens_take(&up->session.tokens, &g->token);
		if (!g->has_token)
			kick(up); /* a new session or window is due */
	}
	pthread_mutex_unlock(&up->lock);
	g->tfo = g->tfo && upstream_tfo_allowed(up, now_s, &g->addr);
	return ok;
}

bool upstream_session(struct upstream *up, struct upstream_grant *g)
{
	memset(g, 0, sizeof(*g));
	pthread_mutex_lock(&up->lock);
	if (tokens_left(&up->session.tokens) > 0)
		grant_session(up, g);
	pthread_mutex_unlock(&up->lock);
	return g->in_session;
}

bool upstream_is_up(struct upstream *up)
{
	bool is_up;

	pthread_mutex_lock(&up->lock);
	is_up = up->health.state == UPSTREAM_UP;
	pthread_mutex_unlock(&up->lock);
	return is_up;
}

bool upstream_is_address(struct upstream *up, const struct addr *a)
{
	bool found = false;

	pthread_mutex_lock(&up->lock);
	for (unsigned i = 0; i < up->n_addrs && !found; i++)
		found = addr_equal(&up->addrs[i], a);
	pthread_mutex_unlock(&up->lock);
	return found;
}

void upstream_ok(struct upstream *up, double now_s)
{
	pthread_mutex_lock(&up->lock);
	health_ok(&up->health, now_s);
	up->n_ok++;
	pthread_mutex_unlock(&up->lock);
}

void upstream_heard(struct upstream *up, double now_s)
{
	pthread_mutex_lock(&up->lock);
	health_heard(&up->health, now_s);
	pthread_mutex_unlock(&up->lock);
}

double upstream_heard_at(struct upstream *up)
{
	double heard_s;

	pthread_mutex_lock(&up->lock);
	heard_s = up->health.heard_s;
	pthread_mutex_unlock(&up->lock);
	return heard_s;
}

bool upstream_overdue(struct upstream *up)
{
	bool is_news;

	pthread_mutex_lock(&up->lock);
	is_news = health_overdue(&up->health);
	if (up->health.trouble)
		kick(up);
	pthread_mutex_unlock(&up->lock);
	return is_news;
}

void upstream_question(struct upstream *up)
{
	pthread_mutex_lock(&up->lock);
	if (health_question(&up->health))
		kick(up);
	pthread_mutex_unlock(&up->lock);
}

struct upstream_view upstream_look(struct upstream *up)
{
	struct upstream_view v;

	pthread_mutex_lock(&up->lock);
	v = (struct upstream_view){
		.state = up->health.state,
		.usable = usable(up),
		.trouble = up->health.trouble,
		.urgent = up->health.trouble || up->health.in_question,
		.heard_s = up->health.heard_s,
		.wanted = health_wanted(&up->health),
		.rtt_us = up->rtt_us,
	};
	pthread_mutex_unlock(&up->lock);
	return v;
}

void upstream_failed(struct upstream *up, double now_s, enum upstream_failure kind, const char *why)
{
	enum upstream_state before;

	pthread_mutex_lock(&up->lock);
	before = up->health.state;
	up->n_failed++;
	snprintf(up->last_error, sizeof(up->last_error), "%s%s",
		 kind == UPSTREAM_REJECTED ? "credentials rejected: " : "", why);
	if (health_failed(&up->health, now_s, kind))
		announce(up, before);
	if (before == UPSTREAM_UP) /* else the NOOPs keep their pauses */
		kick(up);
	pthread_mutex_unlock(&up->lock);
}

void upstream_session_lost(struct upstream *up, unsigned number)
{
	pthread_mutex_lock(&up->lock);
	if (session_lost(&up->session, number)) {
		up->n_lost++;
		log_notice("proxy %s does not know our session any more: opening a new one",
			   up->name);
		kick(up);
	}
	pthread_mutex_unlock(&up->lock);
}

uint64_t upstream_lost(struct upstream *up)
{
	uint64_t n;

	pthread_mutex_lock(&up->lock);
	n = up->n_lost;
	pthread_mutex_unlock(&up->lock);
	return n;
}

void upstream_window(struct upstream *up, unsigned number, uint32_t base, uint32_t size)
{
	pthread_mutex_lock(&up->lock);
	session_window(&up->session, number, base, size);
	pthread_mutex_unlock(&up->lock);
}

void upstream_dialled(struct upstream *up, double now_s, const struct dial *d)
{
	const struct uppath_result r = uppath_result_of(d);
	char local[ADDR_STRLEN];
	const char *why;
	double pause_s;

	pthread_mutex_lock(&up->lock);
	if (d->syn_data_acked || d->fastopen_fail)
		up->tfo_works = d->syn_data_acked;
	why = uppaths_note(&up->paths, now_s, &d->local, &r, &pause_s);
	up->rtt_us = balance_smooth(up->rtt_us, r.rtt_us);
	if (why && up->tfo == 2)
		log_notice("proxy %s, from %s: %s; no Fast Open for %.0f s", up->name,
			   addr_ip_str(&d->local, local, sizeof(local)), why, pause_s);
	pthread_mutex_unlock(&up->lock);
}

void upstream_suspect(struct upstream *up)
{
	pthread_mutex_lock(&up->lock);
	kick(up);
	pthread_mutex_unlock(&up->lock);
}

void upstream_flow_count(struct upstream *up, int change_by)
{
	pthread_mutex_lock(&up->lock);
	up->n_flows = (uint64_t)((int64_t)up->n_flows + change_by);
	up->n_flows_total += change_by > 0;
	pthread_mutex_unlock(&up->lock);
}

void upstream_warm_count(struct upstream *up, int change_by, unsigned used, unsigned dead)
{
	pthread_mutex_lock(&up->lock);
	up->n_warm = (uint64_t)((int64_t)up->n_warm + change_by);
	up->n_warm_used += used;
	up->n_warm_dead += dead;
	pthread_mutex_unlock(&up->lock);
}

void upstream_set_addrs(struct upstream *up, const struct addr *addrs, unsigned n)
{
	struct addr old;
	bool had;

	if (n > UPSTREAM_ADDRS)
		n = UPSTREAM_ADDRS;
	pthread_mutex_lock(&up->lock);
	had = up->n_addrs > 0;
	old = up->addrs[up->current];
	memcpy(up->addrs, addrs, n * sizeof(*addrs));
	up->n_addrs = n;
	up->current = 0;
	for (unsigned i = 0; had && i < n; i++) /* stay with the one in use */
		if (addr_equal(&old, &addrs[i]))
			up->current = i;
	pthread_mutex_unlock(&up->lock);
}

unsigned upstream_addrs(struct upstream *up, struct addr *addrs)
{
	unsigned n;

	pthread_mutex_lock(&up->lock);
	n = up->n_addrs;
	for (unsigned i = 0; i < n; i++)
		addrs[i] = up->addrs[(up->current + i) % n];
	pthread_mutex_unlock(&up->lock);
	return n;
}

void upstream_proven(struct upstream *up, double now_s, const struct addr *addr, uint32_t rtt_us)
{
	enum upstream_state before;

	pthread_mutex_lock(&up->lock);
	before = up->health.state;
	if (up->n_addrs > 0 && !addr_equal(&up->addrs[up->current], addr))
		up->rtt_us = 0; /* of another place */
	up->rtt_us = balance_smooth(up->rtt_us, rtt_us);
	for (unsigned i = 0; i < up->n_addrs; i++)
		if (addr_equal(&up->addrs[i], addr))
			up->current = i;
	if (health_proven(&up->health, now_s))
		announce(up, before);
	pthread_mutex_unlock(&up->lock);
}

void upstream_session_open(struct upstream *up, const uint8_t *id, size_t len, bool has_window,
			   uint32_t base, uint32_t size)
{
	pthread_mutex_lock(&up->lock);
	if (session_open(&up->session, id, len)) {
		up->n_sessions++;
		if (has_window)
			session_window(&up->session, up->session.number, base, size);
	}
	pthread_mutex_unlock(&up->lock);
}
