/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/steer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/tune.h"
#include "redir/bypass.h"
#include "redir/learner.h"
#include "redir/passive.h"
#include "redir/redir.h"
#include "redir/refuser.h"
#include "redir/rules.h"

#define SEEN_TICKS   5 /* between looks at the servers seen */
#define BATCH        64
#define FOR_EVER_S   (30u * 86400u) /* as far as a set is concerned; renewed */
#define UPSTREAM_MAX (POOL_MAX * UPSTREAM_ADDRS)

struct steer {
	struct redir *rd;
	struct rules *rules;     /* NULL: not ours */
	struct bypass *bypass;   /* NULL: nothing but relay */
	struct passive *passive; /* NULL: the kernel does it for our rules, or nobody */
	bool v6, no_owner;
	bool queue;                   /* nft queues packets for us */
	bool queue_known, have_queue; /* whether it can was asked; the answer */
	bool standing_by, paused;
	bool reconcile; /* the set has to be compared with the table */
	unsigned ticks;
};

/* ---- rules ---- */

/* Not beside those of a script, which stay as long as we live. */
static bool wants_rules(const struct redir *rd)
{
	const struct redir_conf *c = rd->conf;

	return redir_conf_wants_rules(c) && c->backend != RULES_IPTABLES &&
	       !redir_conf_by_script(c) && !script_in_place(rd->script);
}

static void look_for_ipv6(struct steer *s)
{
	s->v6 = tune_lo_has_ipv6();
	if (!s->v6 && wants_rules(s->rd))
		log_notice("rules: for IPv4 only: IPv6 is off here (if it is switched on: "
			   "sixpathctl reload)");
}

static unsigned upstreams(struct redir *rd, struct addr *v, unsigned cap)
{
	struct addr one[UPSTREAM_ADDRS];
	unsigned n = 0;

	for (unsigned i = 0; i < rd->pool->n; i++) {
		unsigned k = upstream_addrs(rd->pool->v[i], one);
		for (unsigned j = 0; j < k && n < cap; j++)
			v[n++] = one[j];
	}
	return n;
}

/* Opens them, or gives them another configuration. */
static int load_rules(struct steer *s)
{
	struct addr up[UPSTREAM_MAX];
	unsigned n = upstreams(s->rd, up, UPSTREAM_MAX);
	struct rules_room room;
	struct rules_conf c;
	int rc;

	/* At the start, once: libnftables does not stand descriptors beyond FD_SETSIZE. */
	if (!s->queue_known)
		s->have_queue = rules_have_queue();
	s->queue_known = true;
	s->queue = redir_conf_verifies(s->rd->conf) && s->have_queue;
	if (!rules_conf_of(&c, s->rd->conf, &room))
		return -ENOMEM;
	c.queue = s->queue;
	c.v6 = s->v6;
	c.stand_in = s->standing_by;
	c.owner = !s->no_owner;
	if (s->rules)
		rc = rules_set_conf(s->rules, &c);
	else
		rc = rules_open(&s->rules, &c, up, n);
	if (rc == -EOPNOTSUPP && !s->rules) {
		s->no_owner = true;
		c.owner = false;
		rc = rules_open(&s->rules, &c, up, n);
	}
	rules_room_free(&room);
	return rc;
}

static void say_deaf(const struct steer *s, const char *name, sa_family_t family)
{
	const struct redir_conf *c = s->rd->conf;

	if ((c->capture.n > 0 || c->capture_local) && rules_conf_deaf(c, family))
		log_notice("rules: %s is not captured: listen has no address of it ([::]:%u takes "
			   "IPv4 and IPv6)",
			   name, addr_port(&c->listen.v[0]));
}

static void open_rules(struct steer *s)
{
	int rc = load_rules(s);

	say_deaf(s, "IPv4", AF_INET);
	if (s->v6)
		say_deaf(s, "IPv6", AF_INET6);
	if (rc == 0 && s->paused)
		rules_pause(s->rules, true);
	if (rc == 0 && s->standing_by)
		return;
	if (rc == 0) {
		log_notice("rules: table inet " RULES_NFT_TABLE " is in place");
		return;
	}
	log_warning("rules: nothing is captured by us (%s): use the scripts in redirect-rules, and "
		    "set install = no in [rules]",
		    strerror(-rc));
}

/* Who starts a daemon like that waits for connections that never come, unless it has other work. */
static void say_idle(const struct redir_conf *c)
{
	if (!c->install || c->backend == RULES_NONE || redir_conf_wants_rules(c))
		return;
	if (c->socks.n || c->dns.listen.n || c->forwards.count)
		log_info("rules: nothing to capture (set capture in [rules], or install = no)");
	else
		log_warning("rules: nothing is captured, no interface is named: in redir.conf set "
			    "capture = INTERFACE-OF-THE-DEVICES (such as br-lan) in [rules], or "
			    "install = no if rules of your own capture");
}

/* ---- the learned set ---- */

static uint32_t ttl_of(double left_s)
{
	return left_s < FOR_EVER_S ? (uint32_t)left_s + 1 : FOR_EVER_S;
}

/* The whole table, for comparing. */
static struct bypass_entry *wanted(struct redir *rd, size_t *n)
{
	struct learned_counts counts;
	struct learned_item items[BATCH];
	struct learned_cursor at = {0};
	struct bypass_entry *v;
	double now_s = learner_now(rd);
	size_t cap;
	unsigned k;

	*n = 0;
	learned_count(rd->learned, &counts);
	cap = counts.v4.mptcp + counts.v6.mptcp + BATCH;
	v = calloc(cap, sizeof(*v));
	while (v && (k = learned_list(rd->learned, &at, now_s, items, BATCH)) > 0)
		for (unsigned i = 0; i < k && *n < cap; i++)
			if (items[i].verdict == LEARNED_MPTCP)
				v[(*n)++] = (struct bypass_entry){
					.addr = items[i].addr,
					.left_s = ttl_of(items[i].expires_s - now_s)};
	return v;
}

static void reconcile(struct steer *s)
{
	struct bypass_diff diff;
	size_t n;
	struct bypass_entry *v = wanted(s->rd, &n);

	if (!v)
		return; /* no memory: again with the next tick */
	if (bypass_reconcile(s->bypass, v, n, &diff) == 0) {
		s->reconcile = false;
		log_debug("learned set: %zu added, %zu removed, %zu refreshed, %zu kept",
			  diff.added, diff.removed, diff.refreshed, diff.kept);
	}
	free(v);
}

void steer_learned(struct steer *s)
{
	struct learned_change v[BATCH];
	bool resync = false;
	unsigned n;

	if (!s || s->standing_by)
		return;
	while ((n = learned_drain(s->rd->learned, v, BATCH, &resync)) > 0 || resync) {
		s->reconcile |= resync;
		for (unsigned i = 0; i < n && s->bypass; i++) {
			if (v[i].what == LEARNED_REMOVE)
				bypass_del(s->bypass, &v[i].addr);
			else
				bypass_add(s->bypass, &v[i].addr,
					   v[i].ttl_s ? v[i].ttl_s : FOR_EVER_S);
		}
	}
	if (!s->bypass)
		return;
	if (bypass_flush(s->bypass) < 0)
		s->reconcile = true;
	if (s->reconcile)
		reconcile(s);
}

static void open_bypass(struct steer *s)
{
	const struct redir_conf *c = s->rd->conf;

	if (c->action == BYPASS_RELAY)
		return;
	if (s->rules)
		s->bypass = bypass_new(&bypass_nft, s->rules);
	else if (script_in_place(s->rd->script) || redir_conf_by_script(c)
			 ? script_ipset(s->rd->script)
			 : c->backend == RULES_IPTABLES) /* the administrator's script */
		s->bypass = bypass_new(&bypass_ipset, &s->v6);
	s->reconcile = s->bypass != NULL;
}

/* ---- */

static void saw(void *ctx, const struct addr *server)
{
	struct redir *rd = ctx;

	learned_put(rd->learned, server, LEARNED_MPTCP, LEARNED_FROM_SYNACK, learner_now(rd));
}

static void tick_rules(struct steer *s)
{
	struct addr up[UPSTREAM_MAX];
	unsigned n = upstreams(s->rd, up, UPSTREAM_MAX);

	rules_set_upstreams(s->rules, up, n);
	if (rules_check(s->rules) == RULES_RELOADED) {
		s->reconcile = true;
		refuser_sets_lost(s->rd->refuser);
	}
	if (s->rd->conf->learn_passive && s->ticks % SEEN_TICKS == 0)
		rules_seen(s->rules, saw, s->rd);
}

void steer_tick(struct steer *s)
{
	if (!s || s->standing_by)
		return;
	s->ticks++;
	if (s->rules)
		tick_rules(s);
	steer_learned(s);
}

/* ---- held SYNs ---- */

static void open_held(struct steer *s)
{
	const struct redir_conf *c = s->rd->conf;

	if (!redir_conf_verifies(c))
		return;
	if (c->mode == MODE_TPROXY && s->rules) {
		if (!s->queue)
			log_info("verify: nft has no queues here: iptables.sh start --only-verify "
				 "has to send SYNs to ours");
		held_want(s->rd->held);
		return;
	}
	log_warning("verify: no SYN is held: that needs mode = tproxy, and our own nft rules");
}

static void open_rest(struct steer *s)
{
	refuser_sets_lost(s->rd->refuser);
	open_bypass(s);
	open_held(s);
	/* Our own rules collect in the kernel what is seen. */
	if (s->rd->conf->learn_passive && !s->rules &&
	    (s->rd->conf->backend == RULES_IPTABLES || script_in_place(s->rd->script)))
		s->passive = passive_open(&s->rd->main, s->rd->learned);
	steer_learned(s);
}

static void open_all(struct steer *s)
{
	say_idle(s->rd->conf);
	if (wants_rules(s->rd))
		open_rules(s);
	open_rest(s);
}

static void close_all(struct steer *s)
{
	passive_close(s->passive);
	s->passive = NULL;
	bypass_free(s->bypass);
	s->bypass = NULL;
	rules_close(s->rules);
	s->rules = NULL;
}

struct steer *steer_new(struct redir *rd)
{
	struct steer *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->rd = rd;
	look_for_ipv6(s);
	open_all(s);
	return s;
}

struct steer *steer_stand_by(struct redir *rd)
{
	struct steer *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->rd = rd;
	look_for_ipv6(s);
	s->standing_by = true;
	say_idle(rd->conf);
	if (wants_rules(rd))
		open_rules(s);
	return s;
}

void steer_take_over(struct steer *s)
{
	s->standing_by = false;
	if (s->rules && rules_take_over(s->rules) == 0)
		log_notice("rules: table inet " RULES_NFT_TABLE " is in place");
	open_rest(s);
}

void steer_hand_over(struct steer *s)
{
	if (!s)
		return;
	passive_close(s->passive);
	bypass_free(s->bypass);
	rules_hand_over(s->rules);
	free(s);
}

bool steer_pause(struct steer *s, bool pause)
{
	if (!s)
		return false;
	s->paused = pause;
	return s->rules && rules_pause(s->rules, pause) == 0;
}

void steer_free(struct steer *s)
{
	if (!s)
		return;
	close_all(s);
	free(s);
}

/* Rules that stay are changed in one step; no connection sees none. */
void steer_reload(struct steer *s)
{
	int rc;

	if (s->standing_by)
		return; /* takes it as it is then */
	if (!s->rules || !wants_rules(s->rd) || s->v6 != tune_lo_has_ipv6()) {
		close_all(s);
		look_for_ipv6(s);
		open_all(s);
		return;
	}
	rc = load_rules(s);
	if (rc < 0)
		log_error("rules: the old ones stay: %s", strerror(-rc));
	else
		refuser_sets_lost(s->rd->refuser);
	bypass_free(s->bypass);
	s->bypass = NULL;
	open_bypass(s);
	open_held(s);
	steer_learned(s);
}

const char *steer_backend(const struct steer *s)
{
	return s && s->bypass && bypass_works(s->bypass) ? bypass_name(s->bypass) : "none";
}

bool steer_ipv6(const struct steer *s)
{
	return s && s->v6;
}

struct rules *steer_rules(const struct steer *s)
{
	return s ? s->rules : NULL;
}
