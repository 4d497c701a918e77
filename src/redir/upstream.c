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

/* What is kept ready for a way leads to its first proxy, as the section of that one says. */
static int prewarm_of(const struct proxy_section *p)
{
	bool is_via = p->via && p->via[0];
	/* One that has died unseen would cost a connection: without tokens nobody knows how far its
	 * first bytes have come. */
	bool is_risky = p->protocol == PROTOCOL_SOCKS5 && p->pipeline == PIPELINE_DATA &&
			p->prewarm == PREWARM_AUTO;

	return is_via || is_risky ? 0 : p->prewarm;
}

struct upstream *upstream_new(const struct proxy_section *p, struct upstream *via,
			      struct worker *main)
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
	up->via = via ? upstream_get(via) : NULL;
	up->protocol = p->protocol;
	up->pipeline = p->pipeline;
	up->mptcp = p->mptcp;
	up->tfo = p->tfo;
	atomic_init(&up->prewarm, prewarm_of(p));
	up->udp_port = (uint16_t)p->udp_port;
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
	upstream_put(up->via);
	free(up->name);
	free(up->host);
	free(up->username);
	free(up->password);
	pthread_mutex_destroy(&up->lock);
	free(up);
}

bool upstream_matches(const struct upstream *up, const struct proxy_section *p,
		      const struct upstream *via)
{
	return up->via == via && conf_text_equal(up->name, p->name) &&
	       conf_text_equal(up->host, p->address.host) && up->port == p->address.port &&
	       conf_text_equal(up->username, p->username) &&
	       conf_text_equal(up->password, p->password) && up->protocol == p->protocol &&
	       up->pipeline == p->pipeline && up->mptcp == p->mptcp && up->tfo == p->tfo &&
	       up->udp_port == p->udp_port;
}

void upstream_adjust(struct upstream *up, const struct proxy_section *p)
{
	atomic_store(&up->prewarm, prewarm_of(p));
}

const char *upstream_via_str(const struct upstream *up, char *buf, size_t cap)
{
	size_t len = 0;

	if (!up->via)
		return NULL;
	buf[0] = '\0';
	for (up = up->via; up && len < cap; up = up->via)
		len += (size_t)snprintf(buf + len, cap - len, "%s%s", len ? "," : "", up->name);
	return buf;
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

/* What stands for the local address of connections that the via makes. */
static bool via_address(struct upstream *via, struct addr *a)
{
	bool known;

	pthread_mutex_lock(&via->lock);
	known = via->n_addrs > 0;
	if (known)
		*a = via->addrs[via->current];
	pthread_mutex_unlock(&via->lock);
	return known;
}

static bool source_of(struct upstream *up, const struct addr *addr, struct addr *local)
{
	if (up->via)
		return via_address(up->via, local);
	return up->source(addr, up->mark, local) == 0;
}

/* Of what is paused on some path: what is on this one. The route is asked for only then. Where it is
 * not known, no data goes into a SYN. */
static int paused_here(struct upstream *up, double now_s, const struct addr *addr, int somewhere)
{
	struct addr local;
	int here;

	if (!somewhere)
		return 0;
	if (!source_of(up, addr, &local))
		return somewhere & UPPATH_TFO;
	pthread_mutex_lock(&up->lock);
	here = uppaths_paused(&up->paths, now_s, &local);
	pthread_mutex_unlock(&up->lock);
	return here & somewhere;
}

/* Lock held. Fast Open where it is `auto` only. */
static int paused_somewhere(const struct upstream *up, double now_s)
{
	return uppaths_any_paused(&up->paths, now_s) &
	       ((up->tfo == 2 ? UPPATH_TFO : 0) | (up->mptcp != 0 ? UPPATH_MPTCP : 0));
}

/* Data in a SYN need a token, which SOCKS 5 has not. */
static bool may_tfo(const struct upstream *up)
{
	return up->tfo != 0 && up->protocol == PROTOCOL_SOCKS6;
}

static bool is_allowed(struct upstream *up, double now_s, const struct addr *addr, int what)
{
	int somewhere;

	pthread_mutex_lock(&up->lock);
	somewhere = paused_somewhere(up, now_s) & what;
	pthread_mutex_unlock(&up->lock);
	return !paused_here(up, now_s, addr, somewhere);
}

bool upstream_tfo_allowed(struct upstream *up, double now_s, const struct addr *addr)
{
	return may_tfo(up) && is_allowed(up, now_s, addr, UPPATH_TFO);
}

bool upstream_mptcp_allowed(struct upstream *up, double now_s, const struct addr *addr)
{
	return up->mptcp != 0 && is_allowed(up, now_s, addr, UPPATH_MPTCP);
}

static double patience(uint32_t rtt_us)
{
	double s = rtt_us / 1e6 * PATIENCE_RTTS;

	return s < PATIENCE_S ? PATIENCE_S : s;
}

bool upstream_grant(struct upstream *up, double now_s, struct upstream_grant *g)
{
	int paused = 0;
	bool ok;

	memset(g, 0, sizeof(*g));
	pthread_mutex_lock(&up->lock);
	ok = usable(up);
	if (ok) {
		g->addr = up->addrs[up->current];
		/* What is in a SYN may arrive although no answer comes. */
		g->tfo = may_tfo(up) && !up->health.trouble;
		g->mptcp = up->mptcp != 0;
		paused = paused_somewhere(up, now_s);
		g->tfo_works = may_tfo(up) && up->tfo_works;
		g->patience_s = patience(up->rtt_us);
		grant_session(up, g);
		if (g->in_session)
			g->has_token = tokens_take(&up->session.tokens, &g->token);
		if (!g->has_token && up->protocol == PROTOCOL_SOCKS6)
			kick(up); /* a new session or window is due */
	}
	pthread_mutex_unlock(&up->lock);
	paused = paused_here(up, now_s, &g->addr, paused);
	g->tfo = g->tfo && !(paused & UPPATH_TFO);
	g->mptcp = g->mptcp && !(paused & UPPATH_MPTCP);
	return ok;
}

void upstream_chain(struct upstream *up, struct upstream_chain *c)
{
	unsigned n = 0;

	memset(c, 0, sizeof(*c));
	for (const struct upstream *hop = up; hop; hop = hop->via)
		n++;
	c->n = n; /* the configuration allows no more than UPSTREAM_HOPS */
	for (; up; up = up->via)
		c->hop[--n].up = up;
}

bool upstream_grant_way(struct upstream_chain *c, double now_s)
{
	for (unsigned i = 0; i + 1 < c->n; i++)
		if (!upstream_grant(c->hop[i].up, now_s, &c->hop[i].g))
			return false;
	if (c->n > 1)
		c->patience_s = patience(upstream_look(c->hop[c->n - 1].up).rtt_us);
	return true;
}

bool upstream_grant_chain(struct upstream *up, double now_s, struct upstream_chain *c)
{
	struct upstream_grant *last;

	upstream_chain(up, c);
	last = &c->hop[c->n - 1].g;
	if (!upstream_grant_way(c, now_s) || !upstream_grant(up, now_s, last))
		return false;
	if (c->n == 1)
		c->patience_s = last->patience_s;
	return true;
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
	bool is_up = true;

	for (; up && is_up; up = up->via) {
		pthread_mutex_lock(&up->lock);
		is_up = up->health.state == UPSTREAM_UP;
		pthread_mutex_unlock(&up->lock);
	}
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

void upstream_busy(struct upstream *up, double now_s)
{
	pthread_mutex_lock(&up->lock);
	health_busy(&up->health, now_s);
	up->n_busy++;
	pthread_mutex_unlock(&up->lock);
}

void upstream_heard(struct upstream *up, double now_s, unsigned number, uint32_t base,
		    uint32_t size)
{
	pthread_mutex_lock(&up->lock);
	health_heard(&up->health, now_s);
	if (size > 0)
		session_window(&up->session, number, base, size);
	pthread_mutex_unlock(&up->lock);
}

const char *upstream_way_str(const struct upstream *up, bool via_up)
{
	return up->health.state == UPSTREAM_UP && !via_up ? "via-down"
							  : upstream_state_str(up->health.state);
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
	struct upstream_view v, via = {.usable = true};

	if (up->via)
		via = upstream_look(up->via); /* not deeper than UPSTREAM_HOPS */
	pthread_mutex_lock(&up->lock);
	v = (struct upstream_view){
		.state = up->health.state,
		.usable = usable(up) && via.usable,
		.via_up = via.usable,
		.trouble = up->health.trouble || via.trouble,
		.busy_s = up->health.busy_s > via.busy_s ? up->health.busy_s : via.busy_s,
		.urgent = up->health.trouble || up->health.in_question || via.urgent,
		.heard_s = up->health.heard_s,
		.wanted = health_wanted(&up->health),
		.rtt_us = up->rtt_us + via.rtt_us,
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

static void note_path(struct upstream *up, double now_s, const struct addr *local,
		      const struct uppath_result *r)
{
	char text[ADDR_STRLEN];
	struct uppath_news news;

	pthread_mutex_lock(&up->lock);
	if (r->syn_data_acked || r->fastopen_fail)
		up->tfo_works = r->syn_data_acked;
	news = uppaths_note(&up->paths, now_s, local, r);
	up->rtt_us = balance_smooth(up->rtt_us, r->rtt_us);
	if (news.why && (news.of == UPPATH_MPTCP ? up->mptcp != 0 : up->tfo == 2))
		log_notice("proxy %s, from %s: %s; no %s for %.0f s", up->name,
			   addr_ip_str(local, text, sizeof(text)), news.why,
			   news.of == UPPATH_TFO ? "Fast Open" : "MPTCP", news.pause_s);
	pthread_mutex_unlock(&up->lock);
}

void upstream_dialled(struct upstream *up, double now_s, const struct dial *d)
{
	const struct uppath_result r = uppath_result_of(d);

	note_path(up, now_s, &d->local, &r);
}

#define SYN_AGAIN_S 0.9 /* longer than any leg: the first SYN was lost; it is repeated after 1 s */
#define SYN_RESENT  3   /* see struct sock_info */

/* The hop's reply says how much of its SYN was taken, but not why no more. No data in it is most
 * often a cookie that was not there yet. */
void upstream_chained(const struct upstream_chain *c, unsigned k, double now_s,
		      const struct up_leg *leg)
{
	uint32_t before_us = upstream_look(c->hop[k].up).rtt_us;
	bool known = upstream_look(c->hop[k + 1].up).rtt_us > before_us;
	double rest_s = leg->since_sent_s - before_us / 1e6;
	struct uppath_result r = {
		.syn_data_acked = leg->syn_octets > 0,
		.fastopen_fail = leg->asked_tfo && leg->syn_octets == 0 && rest_s >= SYN_AGAIN_S
					 ? SYN_RESENT
					 : 0,
		.stripped = leg->stripped,
	};

	/* A SYN that was repeated tells nothing of the time; but who knows how far it is? */
	if (leg->since_sent_s > 0 && (rest_s < SYN_AGAIN_S || !known))
		r.rtt_us = rest_s < 1e-6 ? 1 : rest_s > 60 ? 60000000 : (uint32_t)(rest_s * 1e6);
	note_path(c->hop[k + 1].up, now_s, &c->hop[k].g.addr, &r);
}

void upstream_suspect(struct upstream *up)
{
	pthread_mutex_lock(&up->lock);
	kick(up);
	pthread_mutex_unlock(&up->lock);
}

void upstream_flow_count(struct upstream *up, int change_by)
{
	atomic_fetch_add(&up->n_flows, (uint64_t)(int64_t)change_by); /* wraps as it should */
	if (change_by > 0)
		atomic_fetch_add(&up->n_flows_total, 1);
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
