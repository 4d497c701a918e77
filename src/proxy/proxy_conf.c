/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/proxy_conf.h"

#include <stdlib.h>
#include <string.h>

#include "core/addr.h"

#define KEY(field)  offsetof(struct proxy_conf, field)
#define USER(field) offsetof(struct acl_user, field)

static bool parse_udp_listen(const char *text, void *dst, const struct conf_key *key, char *err,
			     size_t errcap)
{
	struct udp_listen *out = dst;

	out->as_listen = strcmp(text, "auto") == 0;
	if (!out->as_listen && strcmp(text, "no") != 0)
		return conf_addr_list(text, &out->addrs, key, err, errcap);
	free(out->addrs.v);
	out->addrs = (struct addr_list){0};
	return true;
}

/* struct addr; its port may be left out; empty = none */
static bool parse_dns(const char *text, void *dst, const struct conf_key *key, char *err,
		      size_t errcap)
{
	struct addr *a = dst;

	(void)key;
	if (!*text) {
		memset(a, 0, sizeof(*a));
		return true;
	}
	if (addr_parse(a, text, DNS_PORT) && !addr_is_any(a) && addr_port(a) != 0)
		return true;
	snprintf(err, errcap,
		 "must be the address of a name server that answers over TCP, such as 127.0.0.1 or "
		 "[::1]:5353");
	return false;
}

/* clang-format off */
static const struct conf_key proxy_keys[] = {
	{.name = "listen", .parse = conf_addr_list, .offset = KEY(listen), .def = "[::]:1080"},
	{.name = "udp_listen", .parse = parse_udp_listen, .offset = KEY(udp_listen), .def = "auto"},
	{.name = "mptcp", .parse = conf_auto_bool, .offset = KEY(mptcp), .def = "auto"},
	{.name = "tfo", .parse = conf_auto_bool, .offset = KEY(tfo), .def = "auto"},
	{.name = "workers", .parse = conf_workers, .offset = KEY(workers), .def = "auto"},
	{.name = "user", .parse = conf_string, .offset = KEY(user), .def = PROXY_DEFAULT_USER},
	{.name = "log", .parse = conf_log_level, .offset = KEY(log), .def = "info"},
	{.name = "log_to", .parse = conf_log_sink, .offset = KEY(log_to), .def = "auto"},
	{.name = "control", .parse = conf_path_or_off, .offset = KEY(control), .def = PROXY_DEFAULT_CONTROL},
	{.name = "resolve", .parse = conf_string, .offset = KEY(resolve), .def = ""},
	{.name = "dns", .parse = parse_dns, .offset = KEY(dns), .def = ""},
	{.name = "session_ttl", .parse = conf_seconds, .offset = KEY(session_ttl_s), .def = "1h",
	 .min = 10, .max = 30 * 86400},
	{.name = "token_window", .parse = conf_u32, .offset = KEY(token_window), .def = "4096",
	 .min = 8, .max = 65536},
	{.name = "request_timeout", .parse = conf_seconds, .offset = KEY(request_timeout_s),
	 .def = "10s", .min = 1, .max = 300},
	{.name = "waiting_timeout", .parse = conf_seconds, .offset = KEY(waiting_timeout_s),
	 .def = "60s", .min = 1, .max = 3600},
	{.name = "connect_timeout", .parse = conf_seconds, .offset = KEY(connect_timeout_s),
	 .def = "30s", .min = 1, .max = 300},
	{.name = "idle", .parse = conf_seconds, .offset = KEY(idle_s), .def = "7440s",
	 .min = 10, .max = 30 * 86400},
	{.name = "dead", .parse = conf_seconds, .offset = KEY(dead_s), .def = "2m",
	 .min = 0, .max = 86400},
	{.name = "bind_timeout", .parse = conf_seconds, .offset = KEY(bind_timeout_s),
	 .def = "10m", .min = 1, .max = 86400},
	{.name = "bind_backlog", .parse = conf_int, .offset = KEY(bind_backlog), .def = "128",
	 .min = 1, .max = 4096},
	{.name = "max_binds", .parse = conf_int, .offset = KEY(max_binds), .def = "256",
	 .min = 0, .max = 65535},
	{.name = "max_binds_per_user", .parse = conf_int, .offset = KEY(max_binds_per_user),
	 .def = "32", .min = 0, .max = 65535},
	{.name = "max_clients", .parse = conf_int, .offset = KEY(max_clients), .def = "20000",
	 .min = 1, .max = 1000000},
	{.name = "max_per_client", .parse = conf_int, .offset = KEY(max_per_client), .def = "4096",
	 .min = 1, .max = 1000000},
	{.name = "max_per_user", .parse = conf_int, .offset = KEY(max_per_user), .def = "4096",
	 .min = 1, .max = 1000000},
	{.name = "memory", .parse = conf_mib, .offset = KEY(memory_mib), .def = "auto",
	 .min = 4, .max = 65536},
	{.name = "drain", .parse = conf_seconds, .offset = KEY(drain_s), .def = "60s",
	 .min = 0, .max = 86400},
	{.name = "max_sessions", .parse = conf_int, .offset = KEY(max_sessions), .def = "16384",
	 .min = 1, .max = 1000000},
	{.name = "max_sessions_per_user", .parse = conf_int, .offset = KEY(max_sessions_per_user),
	 .def = "256", .min = 1, .max = 1000000},
	{.name = "repeat_session_id", .parse = conf_bool, .offset = KEY(repeat_session_id),
	 .def = "no"},
	{.name = NULL},
};

static const struct conf_key auth_keys[] = {
	{.name = "users", .parse = conf_path, .offset = KEY(users_file), .def = ""},
	{.name = NULL},
};

static const struct conf_key udp_keys[] = {
	{.name = "idle", .parse = conf_seconds, .offset = KEY(udp_idle_s), .def = "5m",
	 .min = 5, .max = 86400},
	{.name = "dns_idle", .parse = conf_seconds, .offset = KEY(udp_dns_idle_s), .def = "20s",
	 .min = 1, .max = 86400},
	{.name = "max_associations", .parse = conf_int, .offset = KEY(udp_max), .def = "20000",
	 .min = 1, .max = 1000000},
	{.name = "max_per_client", .parse = conf_int, .offset = KEY(udp_max_per_client),
	 .def = "4096", .min = 1, .max = 1000000},
	{.name = "max_per_user", .parse = conf_int, .offset = KEY(udp_max_per_user),
	 .def = "4096", .min = 1, .max = 1000000},
	{.name = NULL},
};

static const struct conf_key acl_keys[] = {
	{.name = "allow", .parse = conf_prefix_list, .offset = KEY(acl.allow), .def = ""},
	{.name = "deny", .parse = conf_prefix_list, .offset = KEY(acl.deny), .def = ""},
	{.name = "bind_ports", .parse = conf_port_list, .offset = KEY(acl.bind), .def = ""},
	{.name = NULL},
};

static const struct conf_key user_keys[] = {
	{.name = "bind_ports", .parse = conf_port_list, .offset = USER(bind), .def = ""},
	{.name = NULL},
};
/* clang-format on */

static void check_proxy(struct conf *c, void *ctx, void *dst, const char *name)
{
	struct proxy_conf *p = dst;
	const char *at = p->resolve;
	struct addr server;

	(void)ctx;
	while (conf_next_server(c, "proxy", name, "resolve", &at, &server))
		; /* c-ares reads them later; what is wrong is told now */
	conf_addrs_without_ipv6(&p->listen);
	conf_addrs_without_ipv6(&p->udp_listen.addrs);
	if (p->listen.n == 0)
		conf_error(c, "proxy", name, "listen", "must name at least one address");
	if (!p->udp_listen.as_listen || p->listen.n == 0)
		return;
	p->udp_listen.addrs.v = calloc(p->listen.n, sizeof(*p->listen.v));
	if (!p->udp_listen.addrs.v) {
		conf_error(c, "proxy", name, "udp_listen", "out of memory");
		return;
	}
	p->udp_listen.addrs.n = p->listen.n;
	memcpy(p->udp_listen.addrs.v, p->listen.v, p->listen.n * sizeof(*p->listen.v));
}

static void check_auth(struct conf *c, void *ctx, void *dst, const char *name)
{
	struct proxy_conf *p = dst;
	char err[320];

	(void)ctx;
	if (!p->users_file || !*p->users_file)
		return;
	p->users = users_load(p->users_file, err, sizeof(err));
	if (!p->users)
		conf_error(c, "auth", name, "users",
			   "cannot use \"%s\": %s (it must be readable by the user the proxy runs "
			   "as; write it with \"sixpathctl passwd\")",
			   p->users_file, err);
}

static void *begin_user(void *ctx, const char *name)
{
	struct proxy_conf *p = ctx;
	struct acl_user *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	u->name = strdup(name);
	if (!u->name) {
		free(u);
		return NULL;
	}
	list_push(&p->acl.users, &u->node);
	return u;
}

/* What can be told only when all sections have been read. */
static void check_users(struct conf *c, void *ctx, void *dst, const char *name)
{
	const struct proxy_conf *p = ctx;
	struct list_node *n;

	(void)dst;
	(void)name;
	for (n = list_first(&p->acl.users); n; n = list_next(&p->acl.users, n)) {
		const char *user = container_of(n, struct acl_user, node)->name;

		if (!p->users_file || !*p->users_file)
			conf_error(c, "user", user, NULL,
				   "there are no users: set users in [auth]");
		else if (p->users && !users_hash(p->users, (const uint8_t *)user, strlen(user)))
			conf_error(c, "user", user, NULL,
				   "there is no such user in %s (names are case-sensitive)",
				   p->users_file);
	}
}

static const struct conf_section sections[] = {
	{.name = "proxy", .keys = proxy_keys, .check = check_proxy},
	{.name = "udp", .keys = udp_keys},
	{.name = "auth", .keys = auth_keys, .check = check_auth},
	{.name = "user", .named = true, .keys = user_keys, .begin = begin_user},
	{.name = "acl", .keys = acl_keys, .check = check_users}, /* the last one */
	{.name = NULL},
};

static void conf_free(struct proxy_conf *c)
{
	struct list_node *n;

	while ((n = list_pop(&c->acl.users))) {
		struct acl_user *u = container_of(n, struct acl_user, node);
		free(u->name);
		free(u->bind.v);
		free(u);
	}
	free(c->acl.bind.v);
	free(c->listen.v);
	free(c->udp_listen.addrs.v);
	free(c->user);
	free(c->control);
	free(c->resolve);
	free(c->users_file);
	users_free(c->users);
	free(c->acl.allow.v);
	free(c->acl.deny.v);
	free(c);
}

struct proxy_conf *proxy_conf_load(const char *path, FILE *errors)
{
	struct proxy_conf *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	atomic_init(&c->refs, 1);
	list_init(&c->acl.users);
	if (conf_load(path, sections, c, errors) > 0) {
		conf_free(c);
		return NULL;
	}
	return c;
}

struct proxy_conf *proxy_conf_get(struct proxy_conf *c)
{
	atomic_fetch_add(&c->refs, 1);
	return c;
}

void proxy_conf_put(struct proxy_conf *c)
{
	if (c && atomic_fetch_sub(&c->refs, 1) == 1)
		conf_free(c);
}

void proxy_conf_needs_restart(const struct proxy_conf *old, const struct proxy_conf *new, char *buf,
			      size_t cap)
{
	buf[0] = '\0';
	conf_name_changed(conf_addrs_equal(&old->listen, &new->listen), "listen", buf, cap);
	conf_name_changed((old->udp_listen.as_listen && new->udp_listen.as_listen) ||
				  conf_addrs_equal(&old->udp_listen.addrs, &new->udp_listen.addrs),
			  "udp_listen", buf, cap);
	conf_name_changed(old->mptcp == new->mptcp, "mptcp", buf, cap);
	conf_name_changed(old->tfo == new->tfo, "tfo", buf, cap);
	conf_name_changed(old->workers == new->workers, "workers", buf, cap);
	conf_name_changed(conf_text_equal(old->user, new->user), "user", buf, cap);
	conf_name_changed(conf_text_equal(old->control, new->control), "control", buf, cap);
	conf_name_changed(conf_text_equal(old->resolve, new->resolve), "resolve", buf, cap);
	conf_name_changed(old->log_to == new->log_to, "log_to", buf, cap);
}

struct issued_limits proxy_conf_limits(const struct proxy_conf *c)
{
	return (struct issued_limits){
		.max_sessions = (unsigned)c->max_sessions,
		.max_per_user = (unsigned)c->max_sessions_per_user,
		.max_window = c->token_window,
		.ttl_s = c->session_ttl_s,
	};
}
