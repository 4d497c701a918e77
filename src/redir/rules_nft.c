/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's rules in the kernel, through libnftables. One nft context for life: the owner flag
 * ties the table to its socket. That socket is not ours to keep: libnftables opens a new one when
 * others change rules while it lists them, and then the kernel removes the table. So after each
 * command the table is looked at, and loaded again if it has gone.
 */
#include "redir/rules.h"

#include "config.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>

#include "core/heap.h"
#include "core/log.h"

#if defined(HAVE_LIBNFTABLES) && defined(HAVE_LIBMNL)

#include <linux/netfilter/nf_tables.h>
#include <stdio.h>
#include <sys/select.h>

#include "redir/netlink.h"
#include "redir/nft_lib.h"
#include "redir/nft_read.h"
#include "redir/rules_route.h"

#define TROUBLE_MAX 200
#define SAID_MAX    150
#define FDS_BETWEEN 64 /* what other threads may open in the meantime */
#define KEEPS_S     10 /* nft_forget when nothing has been changed for so long */
#define PAUSE       "add element inet " RULES_NFT_TABLE " paused { tcp }\n"
#define RESUME      "flush set inet " RULES_NFT_TABLE " paused\n"

struct rules {
	struct nft_lib lib;
	struct nft_ctx *nft;
	struct netlink *nl;
	struct rules_route *route; /* NULL where none is needed (rules_conf_routes) */
	char *text;                /* definition of the table */
	char *upstreams;           /* commands that fill the upstream sets */
	char *user;                /* definition of the administrator's table */
	struct addr *upstream;     /* as given last */
	size_t n_upstreams;
	bool v6, owner, learn_passive;
	bool loaded;
	bool stand_in; /* its table is there, ours is not yet */
	bool paused;
	bool reloaded; /* to be told by rules_check */
	struct nft_print print;
	uint32_t generation;
	uint64_t reloads;
	unsigned keeps_s;          /* see KEEPS_S; counted by rules_check */
	char said[TROUBLE_MAX];    /* by nft about its last failure, or "" */
	char trouble[TROUBLE_MAX]; /* what the last check failed of, or "" */
	struct log_limit limit;
};

/* ---- commands ---- */

/* What libnftables knows only as text. */
static int errno_of(const char *text)
{
	static const int known[] = {EPERM,  ENOENT, EEXIST,     ENOMEM, ENFILE,
				    EINVAL, EBUSY,  EOPNOTSUPP, ENOBUFS};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strstr(text, strerror(known[i])))
			return -known[i];
	return -EIO;
}

/* One transaction. Of what nft says the first line is kept; it goes on with our own text. */
static int nft_run(struct rules *r, const char *text)
{
	const char *said;
	int n;

	r->said[0] = '\0';
	r->keeps_s = KEEPS_S;
	if (r->lib.run_cmd_from_buffer(r->nft, text) == 0)
		return 0;
	said = r->lib.ctx_get_error_buffer(r->nft);
	n = (int)strcspn(said, "\n");
	snprintf(r->said, sizeof(r->said), "%.*s", n < SAID_MAX ? n : SAID_MAX, said);
	return errno_of(r->said);
}

/* libnftables keeps what it has listed, half a MiB for each table, though our own transaction has put
 * that out of date; after a dry run it does not. */
static void nft_forget(struct rules *r)
{
	r->lib.ctx_set_dry_run(r->nft, true);
	r->lib.run_cmd_from_buffer(r->nft, "");
	r->lib.ctx_set_dry_run(r->nft, false);
	heap_trim();
	r->keeps_s = 0;
}

static const char *why(const struct rules *r, int rc)
{
	return r->said[0] ? r->said : strerror(-rc);
}

static bool exists(struct rules *r, const char *table)
{
	struct nft_print p;

	return nft_read_print(r->nl, table, false, &p) == 0;
}

/* With an owner nobody but us can change what is in the table. */
static int read_print(struct rules *r, struct nft_print *p)
{
	return nft_read_print(r->nl, RULES_NFT_TABLE, !r->owner, p);
}

static int user_table(struct rules *r)
{
	return exists(r, RULES_USER_TABLE) ? 0 : nft_run(r, r->user);
}

/* Table and upstreams in one transaction, in place of what there is. */
static int load_text(struct rules *r, const char *table, const char *upstreams)
{
	char *all;
	int rc;

	rc = asprintf(&all, "%s%s%s%s%s",
		      exists(r, RULES_STANDIN_TABLE) ? "delete table inet " RULES_STANDIN_TABLE "\n"
						     : "",
		      exists(r, RULES_NFT_TABLE) ? "delete table inet " RULES_NFT_TABLE "\n" : "",
		      table, upstreams, r->paused ? PAUSE : "");
	if (rc < 0)
		return -ENOMEM;
	rc = nft_run(r, all);
	free(all);
	r->stand_in = r->stand_in && rc < 0;
	nft_forget(r);
	if (rc == 0)
		rc = read_print(r, &r->print);
	r->loaded = rc == 0;
	return rc;
}

static int load(struct rules *r)
{
	return load_text(r, r->text, r->upstreams);
}

static int load_again(struct rules *r)
{
	int rc = load(r);

	if (rc == 0) {
		r->reloads++;
		r->reloaded = true;
	}
	return rc;
}

/* False: the table is not the one we made, or not whole. */
static bool is_ours(struct rules *r)
{
	struct nft_print p;

	return read_print(r, &p) == 0 && p.handle == r->print.handle && p.flags == r->print.flags &&
	       p.uses == r->print.uses;
}

int rules_command(struct rules *r, const char *text)
{
	int rc = nft_run(r, text);

	if (is_ours(r))
		return rc;
	load_again(r);
	return -ESTALE;
}

/* ---- opening and closing ---- */

static void texts_free(struct rules *r)
{
	free(r->text);
	free(r->upstreams);
	free(r->user);
	free(r->upstream);
}

static int texts_make(struct rules *r, const struct rules_conf *c, const struct addr *upstreams,
		      size_t n)
{
	r->v6 = c->v6;
	r->owner = c->owner;
	r->learn_passive = c->learn_passive && c->n_capture > 0;
	r->text = rules_text(c);
	r->upstreams = rules_text_upstreams(upstreams, n, c->v6);
	r->user = rules_text_user(c->mark);
	r->upstream = calloc(n ? n : 1, sizeof(*r->upstream));
	if (!r->text || !r->upstreams || !r->user || !r->upstream)
		return -ENOMEM;
	if (n)
		memcpy(r->upstream, upstreams, n * sizeof(*upstreams));
	r->n_upstreams = n;
	return 0;
}

static int conf_check(const struct rules_conf *c)
{
	const char *bad = rules_conf_bad(c);

	if (!bad)
		return 0;
	log_error("rules: %s", bad);
	return -EINVAL;
}

static int nft_start(struct rules *r)
{
	const char *why = NULL;
	int rc = nft_lib_load(&r->lib, &why);

	if (rc < 0) {
		log_error("rules: %s (install libnftables, or set backend = iptables)", why);
		return rc;
	}
	rc = netlink_open(&r->nl, NETLINK_NETFILTER);

	/* Tried first, because libnftables ends the process when it gets no socket, and, as it uses
	 * select(), also when the number of its socket is FD_SETSIZE or more: ours took the lowest
	 * that is free, its next. */
	if (rc < 0)
		return rc;
	if (netlink_fd(r->nl) >= FD_SETSIZE - FDS_BETWEEN) {
		log_error("rules: libnftables cannot be used while more than %d descriptors are "
			  "open: try again with fewer connections, or restart",
			  FD_SETSIZE - FDS_BETWEEN);
		return -EMFILE;
	}
	r->nft = r->lib.ctx_new(NFT_CTX_DEFAULT);
	if (!r->nft || r->lib.ctx_buffer_output(r->nft) != 0 ||
	    r->lib.ctx_buffer_error(r->nft) != 0)
		return -ENOMEM;
	return 0;
}

/* Is it the owner flag that this kernel or library does not have? */
static bool owner_unknown(struct rules *r, const struct rules_conf *c, int rc)
{
	struct rules_conf plain = *c;
	char *text;
	bool good;

	if (!c->owner || rc == -EPERM || rc == -ENOMEM)
		return false;
	plain.owner = false;
	text = rules_text(&plain);
	r->lib.ctx_set_dry_run(r->nft, true);
	good = text && r->lib.run_cmd_from_buffer(r->nft, text) == 0;
	r->lib.ctx_set_dry_run(r->nft, false);
	free(text);
	return good;
}

static int first_load(struct rules *r, const struct rules_conf *c)
{
	int rc = user_table(r);

	if (rc == 0)
		rc = load(r);
	if (rc == 0)
		return 0;
	if (owner_unknown(r, c, rc)) {
		log_warning("rules: tables with an owner are not known here: ours would outlive a "
			    "killed daemon");
		return -EOPNOTSUPP;
	}
	log_error("rules: %s%s", why(r, rc),
		  rc == -EPERM ? " (is another sixpath-redir running, or CAP_NET_ADMIN missing?)"
			       : "");
	return rc;
}

bool rules_have_queue(void)
{
	static const char text[] =
		"table inet " RULES_NFT_TABLE "_probe { chain c { type filter hook prerouting "
		"priority 0; queue num 1 bypass; }; }\n";
	struct rules probe = {0};
	bool good = false;

	if (nft_start(&probe) == 0) {
		probe.lib.ctx_set_dry_run(probe.nft, true);
		good = probe.lib.run_cmd_from_buffer(probe.nft, text) == 0;
	}
	if (probe.nft)
		probe.lib.ctx_free(probe.nft);
	netlink_close(probe.nl);
	return good;
}

static int load_stand_in(struct rules *r, const struct rules_conf *c)
{
	char *text = rules_text_stand_in(c), *all;
	int rc;

	r->stand_in = true;
	if (!text)
		return -ENOMEM;
	/* Left over where tables have no owner. */
	rc = asprintf(&all, "%s%s",
		      exists(r, RULES_STANDIN_TABLE) ? "delete table inet " RULES_STANDIN_TABLE "\n"
						     : "",
		      text);
	free(text);
	if (rc < 0)
		return -ENOMEM;
	rc = nft_run(r, all);
	free(all);
	if (rc < 0) /* some connections will break; that is no reason to do without rules */
		log_warning("rules: %s (connections that are captured now may be reset)",
			    why(r, rc));
	return 0;
}

int rules_open(struct rules **out, const struct rules_conf *c, const struct addr *upstreams,
	       size_t n)
{
	struct rules *r;
	int rc = conf_check(c);

	*out = NULL;
	if (rc < 0)
		return rc;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	rc = texts_make(r, c, upstreams, n);
	if (rc == 0)
		rc = nft_start(r);
	if (rc < 0)
		log_error("rules: cannot use nftables: %s", strerror(-rc));
	/* Capturing comes last, when captured packets have a way to go. */
	if (rc == 0 && rules_conf_routes(c))
		rc = rules_route_open(&r->route, c->table ? c->table : RULES_TABLE, c->v6);
	if (rc == 0)
		rc = c->stand_in ? load_stand_in(r, c) : first_load(r, c);
	if (rc < 0) {
		rules_close(r);
		return rc;
	}
	if (r->route && !c->stand_in)
		rules_route_adopt(r->route); /* the table was free: so no other daemon lives */
	nft_read_generation(r->nl, &r->generation);
	*out = r;
	return 0;
}

int rules_take_over(struct rules *r)
{
	int rc = user_table(r);

	if (rc == 0)
		rc = load(r);
	if (rc == 0)
		nft_read_generation(r->nl, &r->generation);
	if (r->route)
		rules_route_adopt(r->route);
	if (rc < 0)
		log_error("rules: %s", why(r, rc));
	return rc;
}

int rules_pause(struct rules *r, bool pause)
{
	if (r->paused == pause)
		return 0;
	r->paused = pause; /* loading does it from now on */
	return r->loaded ? rules_command(r, pause ? PAUSE : RESUME) : 0;
}

void rules_hand_over(struct rules *r)
{
	if (!r)
		return;
	/* One without an owner is replaced by the next daemon, in one transaction. */
	if (r->loaded && r->owner && is_ours(r))
		nft_run(r, "delete table inet " RULES_NFT_TABLE "\n");
	rules_route_leave(r->route);
	r->route = NULL;
	r->loaded = false;
	rules_close(r);
}

void rules_close(struct rules *r)
{
	if (!r)
		return;
	if (r->stand_in && r->nft && r->nl && exists(r, RULES_STANDIN_TABLE))
		nft_run(r, "delete table inet " RULES_STANDIN_TABLE "\n");
	if (r->loaded && is_ours(r))
		nft_run(r, "delete table inet " RULES_NFT_TABLE "\n");
	if (r->nft)
		r->lib.ctx_free(r->nft);
	rules_route_close(r->route);
	netlink_close(r->nl);
	texts_free(r);
	free(r);
}

/* ---- changes ---- */

int rules_set_conf(struct rules *r, const struct rules_conf *c)
{
	struct rules_route *route = NULL, *old = r->route;
	struct rules new = {0};
	bool owner = r->owner;
	int rc = conf_check(c);

	if (rc < 0)
		return rc;
	r->said[0] = '\0';
	rc = texts_make(&new, c, r->upstream, r->n_upstreams);
	/* The routing of a mode that stays, stays. */
	if (rc == 0 && rules_conf_routes(c) && !old)
		rc = rules_route_open(&route, c->table ? c->table : RULES_TABLE, c->v6);
	r->owner = c->owner;
	if (rc == 0)
		rc = load_text(r, new.text, new.upstreams);
	if (rc < 0) {
		r->owner = owner;
		log_error("rules: %s; the old ones stay", why(r, rc));
		rules_route_close(route);
		texts_free(&new);
		r->loaded = is_ours(r);
		return rc;
	}
	texts_free(r);
	r->text = new.text;
	r->upstreams = new.upstreams;
	r->user = new.user;
	r->upstream = new.upstream;
	r->v6 = new.v6;
	r->learn_passive = new.learn_passive;
	if (!rules_conf_routes(c)) {
		rules_route_close(old);
		r->route = NULL;
	} else if (!old) {
		rules_route_adopt(route);
		r->route = route;
	}
	return 0;
}

static bool same_hosts(const struct rules *r, const struct addr *v, size_t n)
{
	if (n != r->n_upstreams)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!addr_equal_ip(&v[i], &r->upstream[i]))
			return false;
	return true;
}

int rules_set_upstreams(struct rules *r, const struct addr *v, size_t n)
{
	struct addr *copy;
	char *text;

	if (same_hosts(r, v, n))
		return 0;
	copy = calloc(n ? n : 1, sizeof(*copy));
	text = rules_text_upstreams(v, n, r->v6);
	if (!copy || !text) {
		free(copy);
		free(text);
		return -ENOMEM;
	}
	if (n)
		memcpy(copy, v, n * sizeof(*v));
	free(r->upstream);
	free(r->upstreams);
	r->upstream = copy;
	r->n_upstreams = n;
	r->upstreams = text;
	return rules_command(r, text);
}

/* ---- watching ---- */

/* Told once for each cause, until all is well again. */
static int check_failed(struct rules *r, const char *what, int rc)
{
	char text[TROUBLE_MAX];

	snprintf(text, sizeof(text), "%s: %.*s", what, SAID_MAX, why(r, rc));
	if (strcmp(text, r->trouble) != 0)
		log_warning("rules: %s; trying again each second", text);
	memcpy(r->trouble, text, sizeof(text));
	return rc;
}

static int check_tables(struct rules *r)
{
	uint32_t gen = 0;
	int rc = nft_read_generation(r->nl, &gen);

	if (rc == 0 && gen == r->generation && r->loaded)
		return 0;
	rc = user_table(r);
	if (rc < 0)
		return rc;
	if (!r->loaded || !is_ours(r)) {
		rc = load_again(r);
		if (rc < 0)
			return rc;
	}
	/* Asked for before looking: what has changed since then is seen next time. Our own loading
	 * counts as a change, which costs one more look. */
	r->generation = gen;
	return 0;
}

int rules_check(struct rules *r)
{
	int rc;

	r->said[0] = '\0';
	if (r->keeps_s > 0 && --r->keeps_s == 0)
		nft_forget(r);
	if (r->route) {
		rc = rules_route_check(r->route);
		if (rc < 0)
			return check_failed(r, "policy routing", rc);
		if (rc == 1)
			log_limited(&r->limit, 4, LVL_NOTICE,
				    "rules: policy routing was removed by others; it is back");
	}
	rc = check_tables(r);
	if (rc < 0)
		return check_failed(r, "nft tables", rc);
	r->trouble[0] = '\0';
	if (!r->reloaded)
		return 0;
	r->reloaded = false;
	log_limited(&r->limit, 4, LVL_NOTICE,
		    "rules: the nft table was removed by others; it is back");
	return RULES_RELOADED;
}

/* ---- reading ---- */

struct seen_ctx {
	rules_seen_fn *fn;
	void *ctx;
};

static void on_seen(void *ctx, const struct addr *a, uint32_t left_s)
{
	const struct seen_ctx *c = ctx;

	(void)left_s;
	c->fn(c->ctx, a);
}

int rules_seen(struct rules *r, rules_seen_fn *fn, void *ctx)
{
	struct seen_ctx c = {fn, ctx};
	int rc;

	if (!r->learn_passive)
		return 0;
	rc = nft_read_set(r->nl, RULES_NFT_TABLE, "seen4", on_seen, &c);
	if ((rc == 0 || rc == -EINTR) && r->v6)
		rc = nft_read_set(r->nl, RULES_NFT_TABLE, "seen6", on_seen, &c);
	return rc == -EINTR ? 0 : rc; /* the next call sees what this one missed */
}

int rules_counters(struct rules *r, rules_counter_fn *fn, void *ctx)
{
	return nft_read_counters(r->nl, RULES_NFT_TABLE, fn, ctx);
}

void rules_get_state(const struct rules *r, struct rules_state *s)
{
	s->loaded = r->loaded;
	s->owned = r->loaded && r->owner;
	s->table = r->route ? rules_route_table(r->route) : 0;
	s->reloads = r->reloads;
	s->trouble = r->trouble;
}

struct netlink *rules_netlink(struct rules *r)
{
	return r->nl;
}

bool rules_built_in(void)
{
	struct nft_lib lib;
	const char *why;

	return nft_lib_load(&lib, &why) == 0;
}

#else /* built without: a rules can never be opened, so the rest is never called with one */

bool rules_built_in(void)
{
	return false;
}

int rules_open(struct rules **out, const struct rules_conf *c, const struct addr *upstreams,
	       size_t n)
{
	(void)c;
	(void)upstreams;
	(void)n;
	*out = NULL;
	log_error("rules: built without libnftables: use the scripts in redirect-rules");
	return -ENOSYS;
}

void rules_close(struct rules *r)
{
	(void)r;
}

bool rules_have_queue(void)
{
	return false;
}

int rules_set_conf(struct rules *r, const struct rules_conf *c)
{
	(void)r;
	(void)c;
	return -ENOSYS;
}

int rules_set_upstreams(struct rules *r, const struct addr *v, size_t n)
{
	(void)r;
	(void)v;
	(void)n;
	return -ENOSYS;
}

int rules_check(struct rules *r)
{
	(void)r;
	return -ENOSYS;
}

int rules_seen(struct rules *r, rules_seen_fn *fn, void *ctx)
{
	(void)r;
	(void)fn;
	(void)ctx;
	return -ENOSYS;
}

int rules_counters(struct rules *r, rules_counter_fn *fn, void *ctx)
{
	(void)r;
	(void)fn;
	(void)ctx;
	return -ENOSYS;
}

void rules_get_state(const struct rules *r, struct rules_state *s)
{
	(void)r;
	memset(s, 0, sizeof(*s));
	s->trouble = "built without libnftables";
}

void rules_hand_over(struct rules *r)
{
	(void)r;
}

int rules_take_over(struct rules *r)
{
	(void)r;
	return -ENOSYS;
}

int rules_pause(struct rules *r, bool pause)
{
	(void)r;
	(void)pause;
	return -ENOSYS;
}

int rules_command(struct rules *r, const char *text)
{
	(void)r;
	(void)text;
	return -ENOSYS;
}

struct netlink *rules_netlink(struct rules *r)
{
	(void)r;
	return NULL;
}

#endif
