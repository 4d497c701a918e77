/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/redir_conf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config.h"
#include "redir/redir_check.h"
#include "redir/rules.h"
#include "redir/upstream.h"

#define KEY(field)     offsetof(struct redir_conf, field)
#define PROXY(field)   offsetof(struct proxy_section, field)
#define PATH(field)    offsetof(struct path_section, field)
#define FORWARD(field) offsetof(struct forward_section, field)

static const char *const modes[] = {"tproxy", "redirect", NULL};
static const char *const failures[] = {"next", "direct", "refuse", NULL};
static const char *const balances[] = {"weight", "latency", NULL};
static const char *const backends[] = {"auto", "nft", "iptables", "none", NULL};
static const char *const actions[] = {"auto", "relay", "rule", NULL};
static const char *const roles[] = {"primary", "backup", "metered", NULL};
static const char *const transports[] = {"auto", "udp", "tcp", NULL};
static const char *const protocols[] = {"socks6", "socks5", NULL};
static const char *const pipelines[] = {"no", "handshake", "data", NULL};
static const char *const names_told[] = {"no", "sni", NULL};
static const char *const sources[] = {"transparent", "proxy-v2", "none", NULL};

/* Appends the item of a comma separated list. */
static void append(char *list, const char *item, size_t len)
{
	if (*list)
		strcat(list, ",");
	strncat(list, item, len);
}

/* Ports and networks, comma separated, into lists of their own. */
static bool parse_destinations(const char *text, struct verify *v, const struct conf_key *key,
			       char *err, size_t errcap)
{
	size_t cap = strlen(text) + 1;
	char *ports = calloc(cap, 1), *nets = calloc(cap, 1);
	bool good = ports && nets;

	for (const char *at = text; good; at++) {
		size_t len = strcspn(at, ",");

		append(strcspn(at, ".:/") < len ? nets : ports, at, len);
		at += len;
		if (!*at)
			break;
	}
	good = good && (*nets || *ports) &&
	       (!*ports || conf_port_list(ports, &v->ports, key, err, errcap)) &&
	       (!*nets || conf_prefix_list(nets, &v->nets, key, err, errcap));
	free(ports);
	free(nets);
	if (good)
		return true;
	free(v->ports.v);
	*v = (struct verify){0};
	return false;
}

/* no | yes | ports and networks */
static bool parse_verify(const char *text, void *dst, const struct conf_key *key, char *err,
			 size_t errcap)
{
	struct verify *out = dst, v = {0};
	bool on = false, good = parse_destinations(text, &v, key, err, errcap);

	if (!good)
		good = conf_bool(text, &on, key, err, errcap) &&
		       (!on || conf_port_list("1-65535", &v.ports, key, err, errcap));
	if (!good) {
		snprintf(err, errcap,
			 "must be yes, no, or ports and networks such as 80, 8000-9000, "
			 "203.0.113.0/24");
		return false;
	}
	free(out->ports.v);
	free(out->nets.v);
	*out = v;
	return true;
}

#define FRONT(parser) (WITH_FRONT ? (parser) : conf_left_out)

static const struct conf_key redir_keys[] = {
	{.name = "listen", .parse = conf_addr_list, .offset = KEY(listen), .def = "[::]:1077"},
	{.name = "mode", .parse = conf_word, .offset = KEY(mode), .def = "tproxy", .words = modes},
	{.name = "workers", .parse = conf_workers, .offset = KEY(workers), .def = "auto"},
	{.name = "first_data_ms",
	 .parse = conf_int,
	 .offset = KEY(first_data_ms),
	 .def = "30",
	 .min = 0,
	 .max = 1000},
	{.name = "mark",
	 .parse = conf_u32,
	 .offset = KEY(mark),
	 .def = "0x5061",
	 .min = 0,
	 .max = 0x7fffffff},
	{.name = "user", .parse = conf_string, .offset = KEY(user), .def = REDIR_DEFAULT_USER},
	{.name = "log", .parse = conf_log_level, .offset = KEY(log), .def = "info"},
	{.name = "log_to", .parse = conf_log_sink, .offset = KEY(log_to), .def = "auto"},
	{.name = "control",
	 .parse = conf_path_or_off,
	 .offset = KEY(control),
	 .def = "/run/sixpath/redir.sock"},
	{.name = "memory",
	 .parse = conf_mib,
	 .offset = KEY(memory_mib),
	 .def = "auto",
	 .min = 4,
	 .max = 65536},
	{.name = "drain",
	 .parse = conf_seconds,
	 .offset = KEY(drain_s),
	 .def = "60s",
	 .min = 0,
	 .max = 86400},
	{.name = "tune", .parse = conf_bool, .offset = KEY(tune), .def = "yes"},
	{.name = "state_dir",
	 .parse = conf_path_or_off,
	 .offset = KEY(state_dir),
	 .def = "/var/lib/sixpath"},
	{.name = "socks",
	 .parse = FRONT(conf_addr_list),
	 .offset = KEY(socks),
	 .def = "",
	 .help = "--disable-front"},
	{.name = "socks_users",
	 .parse = FRONT(conf_path),
	 .offset = KEY(socks_users_file),
	 .def = "",
	 .help = "--disable-front"},
	{.name = "socks_max_per_client",
	 .parse = FRONT(conf_int),
	 .offset = KEY(socks_max_per_client),
	 .def = "1024",
	 .min = 4,
	 .max = 1000000,
	 .help = "--disable-front"},
	{.name = NULL},
};

/* Where servers are never on the far side of a proxy. */
#define PRIVATE                                                                                    \
	"10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, 169.254.0.0/16, fc00::/7, "     \
	"fe80::/10"

static const struct conf_key rules_keys[] = {
	{.name = "install", .parse = conf_bool, .offset = KEY(install), .def = "yes"},
	{.name = "backend",
	 .parse = conf_word,
	 .offset = KEY(backend),
	 .def = "auto",
	 .words = backends},
	{.name = "capture", .parse = conf_interface_list, .offset = KEY(capture), .def = ""},
	{.name = "capture_local", .parse = conf_bool, .offset = KEY(capture_local), .def = "no"},
	{.name = "ports", .parse = conf_port_list, .offset = KEY(ports), .def = "1-65535"},
	{.name = "exclude", .parse = conf_prefix_list, .offset = KEY(exclude), .def = PRIVATE},
	{.name = "scripts", .parse = conf_path, .offset = KEY(scripts), .def = REDIR_SCRIPTS},
	{.name = NULL},
};

static const struct conf_key bypass_keys[] = {
	{.name = "learn", .parse = conf_bool, .offset = KEY(learn), .def = "yes"},
	{.name = "action",
	 .parse = conf_word,
	 .offset = KEY(action),
	 .def = "auto",
	 .words = actions},
	{.name = "ttl",
	 .parse = conf_seconds,
	 .offset = KEY(learned_ttl_s),
	 .def = "1h",
	 .min = 10,
	 .max = 30 * 86400},
	{.name = "max",
	 .parse = conf_int,
	 .offset = KEY(learned_max),
	 .def = "4096",
	 .min = 1,
	 .max = 1000000},
	{.name = "save", .parse = conf_bool, .offset = KEY(save), .def = "yes"},
	{.name = "learn_passive", .parse = conf_bool, .offset = KEY(learn_passive), .def = "no"},
	{.name = NULL},
};

static const struct conf_key connect_keys[] = {
	{.name = "verify", .parse = parse_verify, .offset = KEY(verify), .def = "no"},
	{.name = "on_proxy_failure",
	 .parse = conf_word,
	 .offset = KEY(on_proxy_failure),
	 .def = "direct",
	 .words = failures},
	{.name = "balance",
	 .parse = conf_word,
	 .offset = KEY(balance),
	 .def = "weight",
	 .words = balances},
	{.name = "idle",
	 .parse = conf_seconds,
	 .offset = KEY(idle_s),
	 .def = "7440",
	 .min = 10,
	 .max = 30 * 86400},
	{.name = "dead",
	 .parse = conf_seconds,
	 .offset = KEY(dead_s),
	 .def = "2m",
	 .min = 0,
	 .max = 86400},
	{.name = "dial_timeout",
	 .parse = conf_seconds,
	 .offset = KEY(dial_timeout_s),
	 .def = "5s",
	 .min = 1,
	 .max = 120},
	{.name = "reply_timeout",
	 .parse = conf_seconds,
	 .offset = KEY(reply_timeout_s),
	 .def = "75s",
	 .min = 1,
	 .max = 600},
	{.name = "dscp", .parse = conf_bool, .offset = KEY(dscp), .def = "yes"},
	{.name = "names",
	 .parse = conf_word,
	 .offset = KEY(names),
	 .def = "no",
	 .words = names_told},
	{.name = "names_ports",
	 .parse = conf_port_list,
	 .offset = KEY(names_ports),
	 .def = "80, 443"},
	{.name = "remember_failed",
	 .parse = conf_seconds,
	 .offset = KEY(remember_failed_s),
	 .def = "5s",
	 .min = 0,
	 .max = 60},
	{.name = NULL},
};

static const struct conf_key udp_keys[] = {
	{.name = "proxy", .parse = conf_port_list, .offset = KEY(udp.proxy), .def = ""},
	{.name = "direct", .parse = conf_port_list, .offset = KEY(udp.direct), .def = ""},
	{.name = "refuse", .parse = conf_port_list, .offset = KEY(udp.refuse), .def = ""},
	{.name = "transport",
	 .parse = conf_word,
	 .offset = KEY(udp.transport),
	 .def = "auto",
	 .words = transports},
	{.name = "udp_ports", .parse = conf_port_list, .offset = KEY(udp.udp_ports), .def = ""},
	{.name = "tcp_ports", .parse = conf_port_list, .offset = KEY(udp.tcp_ports), .def = ""},
	{.name = "max",
	 .parse = conf_int,
	 .offset = KEY(udp.max),
	 .def = "2048", /* half of what a proxy lets one client have by default */
	 .min = 16,
	 .max = 1000000},
	/* RFC 4787 REQ-5 asks for no less than two minutes, and for five. */
	{.name = "idle",
	 .parse = conf_seconds,
	 .offset = KEY(udp.idle_s),
	 .def = "5m",
	 .min = 120,
	 .max = 86400},
	{.name = NULL},
};

#define DNS_CLIENTS "127.0.0.0/8, ::1/128, " PRIVATE

static const struct conf_key dns_keys[] = {
	{.name = "listen", .parse = conf_addr_list, .offset = KEY(dns.listen), .def = ""},
	{.name = "allow", .parse = conf_prefix_list, .offset = KEY(dns.allow), .def = DNS_CLIENTS},
	{.name = "servers", .parse = conf_string, .offset = KEY(dns.servers), .def = ""},
	{.name = "fallback", .parse = conf_bool, .offset = KEY(dns.fallback), .def = "yes"},
	{.name = "cache",
	 .parse = conf_int,
	 .offset = KEY(dns.cache),
	 .def = "1024",
	 .min = 0,
	 .max = 65536},
	{.name = "cache_ttl",
	 .parse = conf_seconds,
	 .offset = KEY(dns.cache_ttl_s),
	 .def = "1d",
	 .min = 1,
	 .max = 7 * 86400},
	{.name = NULL},
};

/* int: 0 to PREWARM_MAX, or auto */
static bool parse_prewarm(const char *text, void *dst, const struct conf_key *key, char *err,
			  size_t errcap)
{
	if (strcasecmp(text, "auto") == 0) {
		*(int *)dst = PREWARM_AUTO;
		return true;
	}
	if (conf_int(text, dst, key, err, errcap))
		return true;
	snprintf(err, errcap, "must be auto or %ld to %ld", key->min, key->max);
	return false;
}

static const struct conf_key proxy_keys[] = {
	{.name = "address", .parse = conf_hostport, .offset = PROXY(address), .min = 1080},
	{.name = "protocol",
	 .parse = conf_word,
	 .offset = PROXY(protocol),
	 .def = "socks6",
	 .words = protocols},
	{.name = "pipeline",
	 .parse = conf_word,
	 .offset = PROXY(pipeline),
	 .def = "no",
	 .words = pipelines},
	{.name = "username", .parse = conf_string, .offset = PROXY(username), .def = ""},
	{.name = "password",
	 .parse = conf_string,
	 .offset = PROXY(password),
	 .def = "",
	 .secret = true},
	{.name = "password_file", .parse = conf_path, .offset = PROXY(password_file), .def = ""},
	{.name = "mptcp", .parse = conf_auto_bool, .offset = PROXY(mptcp), .def = "auto"},
	{.name = "tfo", .parse = conf_auto_bool, .offset = PROXY(tfo), .def = "auto"},
	{.name = "priority",
	 .parse = conf_int,
	 .offset = PROXY(priority),
	 .def = "10",
	 .min = 0,
	 .max = 1000},
	{.name = "prewarm",
	 .parse = parse_prewarm,
	 .offset = PROXY(prewarm),
	 .def = "auto",
	 .min = 0,
	 .max = PREWARM_MAX},
	{.name = "weight",
	 .parse = conf_int,
	 .offset = PROXY(weight),
	 .def = "1",
	 .min = 0,
	 .max = 100},
	{.name = "udp_port",
	 .parse = WITH_UDP ? conf_int : conf_left_out,
	 .offset = PROXY(udp_port),
	 .def = "0",
	 .min = 0,
	 .max = 65535,
	 .help = "--disable-udp"},
	{.name = "via", .parse = conf_string, .offset = PROXY(via), .def = ""},
	{.name = NULL},
};

/* An interface, or a pattern for one that changes its name. */
static bool parse_device(const char *text, void *dst, const struct conf_key *key, char *err,
			 size_t errcap)
{
	if (strlen(text) <= INTERFACE_MAX && !strpbrk(text, "/ \t,"))
		return conf_string(text, dst, key, err, errcap);
	snprintf(err, errcap, "must be one interface such as eth1, or a pattern such as usb*");
	return false;
}

static const struct conf_key path_keys[] = {
	{.name = "device", .parse = parse_device, .offset = PATH(device), .min = 1, .max = 15},
	{.name = "role",
	 .parse = conf_word,
	 .offset = PATH(role),
	 .def = "primary",
	 .words = roles},
	{.name = NULL},
};

static const struct conf_key forward_keys[] = {
	{.name = "listen", .parse = conf_addr_list, .offset = FORWARD(listen)},
	{.name = "to", .parse = conf_addr_list, .offset = FORWARD(to)},
	{.name = "proxy", .parse = conf_string, .offset = FORWARD(proxy), .def = ""},
	{.name = "source",
	 .parse = conf_word,
	 .offset = FORWARD(source),
	 .def = "transparent",
	 .words = sources},
	{.name = "backlog",
	 .parse = conf_int,
	 .offset = FORWARD(backlog),
	 .def = "128",
	 .min = 1,
	 .max = 4096},
	{.name = "ready",
	 .parse = conf_int,
	 .offset = FORWARD(ready),
	 .def = "4",
	 .min = 1,
	 .max = 256},
	{.name = NULL},
};

static struct proxy_section *section_new(struct redir_conf *c, const char *name)
{
	struct proxy_section *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->name = strdup(name);
	if (!p->name) {
		free(p);
		return NULL;
	}
	list_push(&c->proxies, &p->node);
	return p;
}

static void *begin_proxy(void *ctx, const char *name)
{
	return section_new(ctx, name);
}

static void *begin_path(void *ctx, const char *name)
{
	struct redir_conf *c = ctx;
	struct path_section *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->name = strdup(name);
	if (!p->name) {
		free(p);
		return NULL;
	}
	list_push(&c->paths, &p->node);
	return p;
}

struct proxy_section *redir_conf_via(const struct redir_conf *c, const struct proxy_section *p)
{
	struct list_node *n;

	for (n = list_first(&c->proxies); conf_is_set(p->via) && n; n = list_next(&c->proxies, n)) {
		struct proxy_section *other = container_of(n, struct proxy_section, node);
		if (strcasecmp(other->name, p->via) == 0)
			return other;
	}
	return NULL;
}

static void *begin_forward(void *ctx, const char *name)
{
	struct redir_conf *c = ctx;
	struct forward_section *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->name = strdup(name);
	if (!f->name) {
		free(f);
		return NULL;
	}
	list_push(&c->forwards, &f->node);
	return f;
}

struct proxy_section *redir_conf_forward_proxy(const struct redir_conf *c,
					       const struct forward_section *f)
{
	struct list_node *n;

	for (n = list_first(&c->proxies); n; n = list_next(&c->proxies, n)) {
		struct proxy_section *p = container_of(n, struct proxy_section, node);
		if (!conf_is_set(f->proxy) || strcasecmp(p->name, f->proxy) == 0)
			return p;
	}
	return NULL;
}

static const struct conf_key no_keys[] = {{.name = NULL}};

static const struct conf_section file_sections[] = {
	{.name = "redir", .keys = redir_keys, .check = redir_check_redir},
	{.name = "proxy",
	 .named = true,
	 .required = true,
	 .keys = proxy_keys,
	 .begin = begin_proxy,
	 .check = redir_check_proxy},
	{.name = "path",
	 .named = true,
	 .keys = path_keys,
	 .begin = begin_path,
	 .check = redir_check_path},
	{.name = "forward", /* behind proxy, which it names */
	 .named = true,
	 .keys = WITH_FORWARD ? forward_keys : no_keys,
	 .left_out = WITH_FORWARD ? NULL : "--disable-forward",
	 .begin = WITH_FORWARD ? begin_forward : NULL,
	 .check = WITH_FORWARD ? redir_check_forward : NULL},
	{.name = "connect", .keys = connect_keys},
	{.name = "rules", .keys = rules_keys},
	{.name = "udp",
	 .keys = WITH_UDP ? udp_keys : no_keys,
	 .left_out = WITH_UDP ? NULL : "--disable-udp",
	 .check = WITH_UDP ? redir_check_udp : NULL},
	{.name = "dns",
	 .keys = WITH_DNS ? dns_keys : no_keys,
	 .left_out = WITH_DNS ? NULL : "--disable-dns",
	 .check = WITH_DNS ? redir_check_dns : NULL},
	{.name = "bypass", .keys = bypass_keys, .check = redir_check_all}, /* the last one */
	{.name = NULL},
};

static void section_free(struct proxy_section *p)
{
	if (p->password)
		explicit_bzero(p->password, strlen(p->password));
	free(p->name);
	free(p->address.host);
	free(p->username);
	free(p->password);
	free(p->password_file);
	free(p->via);
	free(p);
}

static void conf_free(struct redir_conf *c)
{
	struct list_node *n;

	while ((n = list_pop(&c->proxies)))
		section_free(container_of(n, struct proxy_section, node));
	while ((n = list_pop(&c->paths))) {
		struct path_section *p = container_of(n, struct path_section, node);
		free(p->name);
		free(p->device);
		free(p);
	}
	while ((n = list_pop(&c->forwards))) {
		struct forward_section *f = container_of(n, struct forward_section, node);
		free(f->name);
		free(f->proxy);
		free(f->listen.v);
		free(f->to.v);
		free(f);
	}
	free(c->listen.v);
	free(c->user);
	free(c->control);
	free(c->state_dir);
	free(c->socks.v);
	free(c->socks_users_file);
	if (WITH_FRONT)
		users_free(c->socks_users);
	free(c->capture.v);
	free(c->ports.v);
	free(c->verify.ports.v);
	free(c->verify.nets.v);
	free(c->names_ports.v);
	free(c->dns.listen.v);
	free(c->dns.allow.v);
	free(c->dns.servers);
	free(c->exclude.v);
	free(c->udp.proxy.v);
	free(c->udp.direct.v);
	free(c->udp.refuse.v);
	free(c->udp.udp_ports.v);
	free(c->udp.tcp_ports.v);
	free(c->scripts);
	free(c);
}

/* The one proxy of the command line, everything else as by default. */
static bool take_argument(struct redir_conf *c, const char *proxy, FILE *errors)
{
	static const struct conf_key address = {.name = "--proxy", .min = 1080};
	struct proxy_section *p = section_new(c, "proxy");
	char err[256];

	if (!p)
		return false;
	p->mptcp = p->tfo = 2;
	p->priority = 10;
	p->prewarm = PREWARM_AUTO;
	p->weight = 1;
	if (conf_hostport(proxy, &p->address, &address, err, sizeof(err)))
		return true;
	if (errors)
		fprintf(errors, "--proxy: \"%s\" is not valid: %s\n", proxy, err);
	return false;
}

struct redir_conf *redir_conf_load(const char *path, const char *proxy, FILE *errors)
{
	struct redir_conf *c = calloc(1, sizeof(*c));
	bool good;

	if (!c)
		return NULL;
	atomic_init(&c->refs, 1);
	list_init(&c->proxies);
	list_init(&c->paths);
	list_init(&c->forwards);
	good = conf_load(proxy ? NULL : path, file_sections, c, errors) == 0;
	if (good && proxy)
		good = take_argument(c, proxy, errors);
	if (!good) {
		conf_free(c);
		return NULL;
	}
	return c;
}

struct redir_conf *redir_conf_get(struct redir_conf *c)
{
	atomic_fetch_add(&c->refs, 1);
	return c;
}

void redir_conf_put(struct redir_conf *c)
{
	if (c && atomic_fetch_sub(&c->refs, 1) == 1)
		conf_free(c);
}

bool redir_conf_verifies(const struct redir_conf *c)
{
	return c->verify.ports.n > 0 || c->verify.nets.n > 0;
}

bool redir_conf_poses(const struct redir_conf *c)
{
	struct list_node *n;

	for (n = list_first(&c->forwards); n; n = list_next(&c->forwards, n))
		if (container_of(n, struct forward_section, node)->source == SOURCE_TRANSPARENT)
			return true;
	return false;
}

bool redir_conf_wants_rules(const struct redir_conf *c)
{
	return c->install && c->backend != RULES_NONE &&
	       (c->capture.n > 0 || c->capture_local || redir_conf_poses(c));
}

bool redir_conf_low_ports(const struct redir_conf *c)
{
	for (size_t i = 0; i < c->dns.listen.n; i++)
		if (addr_port(&c->dns.listen.v[i]) < IPPORT_RESERVED)
			return true;
	return false;
}

bool redir_conf_by_script(const struct redir_conf *c)
{
	if (!c->install || c->backend == RULES_NONE || (c->capture.n == 0 && !c->capture_local))
		return false;
	return c->backend == RULES_IPTABLES || !rules_built_in();
}

/* What a script was told, it is told once. */
static void script_needs_restart(const struct redir_conf *old, const struct redir_conf *new,
				 char *buf, size_t cap)
{
	conf_name_changed(old->install == new->install, "install", buf, cap);
	conf_name_changed(old->backend == new->backend, "backend", buf, cap);
	conf_name_changed(conf_interfaces_equal(&old->capture, &new->capture), "capture", buf, cap);
	conf_name_changed(old->capture_local == new->capture_local, "capture_local", buf, cap);
	conf_name_changed(conf_ports_equal(&old->ports, &new->ports), "ports", buf, cap);
	conf_name_changed(conf_ports_equal(&old->udp.proxy, &new->udp.proxy) &&
				  conf_ports_equal(&old->udp.direct, &new->udp.direct) &&
				  conf_ports_equal(&old->udp.refuse, &new->udp.refuse),
			  "udp", buf, cap);
	conf_name_changed(conf_prefixes_equal(&old->exclude, &new->exclude), "exclude", buf, cap);
	conf_name_changed(conf_text_equal(old->scripts, new->scripts), "scripts", buf, cap);
	conf_name_changed(old->learn_passive == new->learn_passive, "learn_passive", buf, cap);
	conf_name_changed(old->action == new->action, "action", buf, cap);
}

static bool wants_udp(const struct redir_conf *c)
{
	return c->udp.proxy.n > 0 || c->udp.refuse.n > 0;
}

bool redir_conf_sends_icmp(const struct redir_conf *c)
{
	return wants_udp(c) || redir_conf_verifies(c) || c->remember_failed_s > 0;
}

void redir_conf_needs_restart(const struct redir_conf *old, const struct redir_conf *new,
			      bool by_script, char *buf, size_t cap)
{
	buf[0] = '\0';
	conf_name_changed(conf_addrs_equal(&old->listen, &new->listen), "listen", buf, cap);
	conf_name_changed(old->mode == new->mode, "mode", buf, cap);
	conf_name_changed(old->workers == new->workers, "workers", buf, cap);
	conf_name_changed(old->mark == new->mark, "mark", buf, cap);
	conf_name_changed(conf_text_equal(old->user, new->user), "user", buf, cap);
	conf_name_changed(conf_text_equal(old->control, new->control), "control", buf, cap);
	conf_name_changed(old->log_to == new->log_to, "log_to", buf, cap);
	conf_name_changed(conf_text_equal(old->state_dir, new->state_dir), "state_dir", buf, cap);
	conf_name_changed(conf_addrs_equal(&old->dns.listen, &new->dns.listen), "[dns] listen", buf,
			  cap);
	conf_name_changed(conf_text_equal(old->dns.servers, new->dns.servers), "servers", buf, cap);
	conf_name_changed(conf_addrs_equal(&old->socks, &new->socks), "socks", buf, cap);
	/* Capabilities that were given up do not come back. */
	if (!by_script)
		conf_name_changed(!wants_udp(new) || wants_udp(old), "udp", buf, cap);
	if (by_script || redir_conf_by_script(old) || redir_conf_by_script(new))
		script_needs_restart(old, new, buf, cap);
}
