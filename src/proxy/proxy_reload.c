/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A new configuration while connections go on with the one they started with. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/proxy.h"

void proxy_set_log_level(const struct proxy *p)
{
	log_set_level(p->verbose ? LVL_DEBUG : (enum log_level)p->conf->log);
}

/* Holds a reference to both. */
struct reload {
	struct proxy *p;
	struct proxy_conf *old, *new;
};

static void reload_free(struct reload *r)
{
	proxy_conf_put(r->old);
	proxy_conf_put(r->new);
	free(r);
}

/* Is the user of a session no longer the one who opened it? */
static bool user_gone(const char *user, void *ctx)
{
	const struct reload *r = ctx;
	const char *was, *is;

	if (!user[0])
		return r->new->users != NULL; /* nobody gets in without a password now */
	was = users_hash(r->old->users, (const uint8_t *)user, strlen(user));
	is = users_hash(r->new->users, (const uint8_t *)user, strlen(user));
	return !was || !is || strcmp(was, is) != 0;
}

static void visit_conf(struct worker *w, void *ctx)
{
	struct proxy_worker *pw = proxy_worker_of(w);
	struct reload *r = ctx;

	proxy_conf_put(pw->conf);
	pw->conf = proxy_conf_get(r->new);
}

/* Every worker has the new configuration: nobody opens a session by the old one any more. */
static void conf_done(void *ctx)
{
	struct reload *r = ctx;
	size_t n = issued_revoke(r->p->issued, user_gone, r);

	if (n > 0)
		log_notice("reload: %zu sessions of users that were removed or changed are gone",
			   n);
	reload_free(r);
}

/* Give the workers the new configuration; takes the caller's reference. 0 or -1. */
static int switch_to(struct proxy *p, struct proxy_conf *c)
{
	struct reload *r = calloc(1, sizeof(*r));
	struct issued_limits limits = proxy_conf_limits(c);

	if (!r) {
		proxy_conf_put(c);
		return -1;
	}
	r->p = p;
	r->old = proxy_conf_get(p->conf);
	r->new = proxy_conf_get(c);
	if (worker_gather(&p->main, p->list, p->n_workers, visit_conf, conf_done, r) < 0) {
		reload_free(r);
		proxy_conf_put(c);
		return -1;
	}
	proxy_conf_put(p->conf);
	p->conf = c;
	issued_set_limits(p->issued, &limits);
	budget_reload(&p->budget, c->memory_mib);
	proxy_set_log_level(p);
	return 0;
}

static void *load(void *ctx, FILE *errors)
{
	const struct proxy *p = ctx;

	return proxy_conf_load(p->conf_path, errors);
}

int proxy_reload(struct proxy *p, char *text, size_t cap)
{
	struct proxy_conf *c = daemon_load_again(load, p, text, cap);
	char restart[128];

	if (!c)
		return -1;
	proxy_conf_needs_restart(p->conf, c, restart, sizeof(restart));
	if (switch_to(p, c) < 0)
		return daemon_reload_failed("out of memory", text, cap);
	return daemon_reloaded(restart, text, cap);
}
