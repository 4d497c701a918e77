/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/conf.h"
#include "core/log.h"

#define DOWN_AFTER          2    /* soft failures in a row */
#define TFO_PAUSE_S         60.0 /* first pause after SYNs with data were lost; doubles ... */
#define TFO_PAUSE_MAX       3600.0
/* tcpi_fastopen_client_fail */
#define FASTOPEN_NOT_ACKED  2 /* the peer did not take the data: a stale cookie, or no Fast Open */
#define FASTOPEN_SYN_RESENT 3 /* the SYN had to be sent again */

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

/* The one function that changes the state. Lock held. */
static void change(struct upstream *up, enum upstream_state state, double now_s)
{
	if (up->state == state)
		return;
	if (state == UPSTREAM_UP)
		log_notice("proxy %s is up", up->name);
	else if (up->state == UPSTREAM_UP)
		log_warning("proxy %s is down: %s", up->name, up->last_error);
	else
		log_warning("proxy %s does not answer as it should: %s", up->name, up->last_error);
	up->state = state;
	up->since_s = now_s;
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

bool upstream_grant(struct upstream *up, double now_s, struct upstream_grant *g)
{
	bool ok;

	memset(g, 0, sizeof(*g));
	pthread_mutex_lock(&up->lock);
	ok = up->state == UPSTREAM_UP && up->n_addrs > 0;
	if (ok) {
		g->addr = up->addrs[up->current];
		g->tfo = up->tfo == 1 || (up->tfo == 2 && now_s >= up->tfo_until_s);
		g->tfo_works = g->tfo && up->tfo_works;
		grant_session(up, g);
		if (g->in_session)
			g->has_token = tokens_take(&up->session.tokens, &g->token);
		if (!g->has_token)
			kick(up); /* a new session or window is due */
	}
	pthread_mutex_unlock(&up->lock);
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
	is_up = up->state == UPSTREAM_UP;
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
	(void)now_s;
	pthread_mutex_lock(&up->lock);
	up->failures = 0;
	up->n_ok++;
	pthread_mutex_unlock(&up->lock);
}

void upstream_failed(struct upstream *up, double now_s, enum upstream_failure kind, const char *why)
{
	pthread_mutex_lock(&up->lock);
	up->n_failed++;
	up->failures++;
	snprintf(up->last_error, sizeof(up->last_error), "%s%s",
		 kind == UPSTREAM_REJECTED ? "credentials rejected: " : "", why);
	if (kind != UPSTREAM_SOFT || up->failures >= DOWN_AFTER)
		change(up, UPSTREAM_DOWN, now_s);
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

/* Lock held. */
static void pause_tfo(struct upstream *up, double now_s, const char *why)
{
	up->tfo_refused = 0;
	up->tfo_pause_s = up->tfo_pause_s > 0 ? up->tfo_pause_s * 2 : TFO_PAUSE_S;
	if (up->tfo_pause_s > TFO_PAUSE_MAX)
		up->tfo_pause_s = TFO_PAUSE_MAX;
	up->tfo_until_s = now_s + up->tfo_pause_s;
	if (up->tfo == 2)
		log_notice("proxy %s: %s; no Fast Open for %.0f s", up->name, why, up->tfo_pause_s);
}

/* Data that the peer does not take from the SYN also costs the connection its MPTCP. Once is a
 * stale cookie, which is replaced at the same time; twice is a proxy without Fast Open. */
void upstream_tfo_result(struct upstream *up, double now_s, bool syn_data_acked, unsigned fail)
{
	pthread_mutex_lock(&up->lock);
	if (syn_data_acked || fail)
		up->tfo_works = syn_data_acked;
	if (syn_data_acked) {
		up->tfo_pause_s = 0;
		up->tfo_refused = 0;
	} else if (now_s >= up->tfo_until_s && fail == FASTOPEN_SYN_RESENT) {
		pause_tfo(up, now_s, "SYNs with data are lost");
	} else if (now_s >= up->tfo_until_s && fail == FASTOPEN_NOT_ACKED && ++up->tfo_refused >= 2) {
		pause_tfo(up, now_s, "it does not take data from SYNs");
	}
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
	pthread_mutex_lock(&up->lock);
	up->failures = 0;
	up->rtt_us = rtt_us;
	for (unsigned i = 0; i < up->n_addrs; i++)
		if (addr_equal(&up->addrs[i], addr))
			up->current = i;
	change(up, UPSTREAM_UP, now_s);
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

const char *upstream_state_str(enum upstream_state state)
{
	switch (state) {
	case UPSTREAM_UP:
		return "up";
	case UPSTREAM_DOWN:
		return "down";
	case UPSTREAM_UNPROVEN:
		break;
	}
	return "unproven";
}
