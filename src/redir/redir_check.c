/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/redir_check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "redir/balance.h"
#include "redir/rules.h"
#include "redir/upstream.h"
#include "redir/wan.h"

#define FIELD_MAX 255 /* RFC 1929 */

/* Who can reach it without a password could use the proxies, and this machine to get further. */
static void check_socks(struct conf *c, const struct redir_conf *r, const char *name)
{
	char text[ADDR_STRLEN];

	for (size_t i = 0; i < r->socks.n; i++) {
		const struct addr *a = &r->socks.v[i];

		for (size_t k = 0; k < r->listen.n; k++)
			if (addr_port(&r->listen.v[k]) == addr_port(a))
				conf_error(c, "redir", name, "socks",
					   "port %u is that of listen: use another one",
					   addr_port(a));
		if (!conf_is_set(r->socks_users_file) && addr_classify(a) != ADDR_LOOPBACK)
			conf_error(c, "redir", name, "socks",
				   "%s can be reached by others: set socks_users = FILE (written "
				   "with \"sixpathctl passwd\"), or use a loopback address such as "
				   "[::1]:%u",
				   addr_str(a, text, sizeof(text)), addr_port(a));
	}
}

void redir_check_redir(struct conf *c, void *ctx, void *dst, const char *name)
{
	struct redir_conf *r = dst;
	char err[256];

	(void)ctx;
	conf_addrs_without_ipv6(&r->listen);
	conf_addrs_without_ipv6(&r->socks);
	if (r->listen.n == 0)
		conf_error(c, "redir", name, "listen", "must name at least one address");
	if (!WITH_FRONT)
		return;
	check_socks(c, r, name);
	if (!conf_is_set(r->socks_users_file))
		return;
	r->socks_users = users_load(r->socks_users_file, err, sizeof(err));
	if (!r->socks_users)
		conf_error(c, "redir", name, "socks_users",
			   "cannot use \"%s\": %s (it must be readable by the user the daemon runs "
			   "as; write it with \"sixpathctl passwd\")",
			   r->socks_users_file, err);
}

/* Reads the password; it is kept in memory only. */
static void check_password_file(struct conf *c, struct proxy_section *p, const char *name)
{
	char secret[FIELD_MAX + 2];
	int rc = conf_read_secret(p->password_file, secret, sizeof(secret));

	if (rc == -EPERM) {
		conf_error(c, "proxy", name, "password_file",
			   "%s can be read by others: make it mode 0640, of the group of the user "
			   "the daemon runs as (chgrp sixpath, chmod 640)",
			   p->password_file);
		return;
	}
	if (rc < 0) {
		conf_error(c, "proxy", name, "password_file", "cannot read %s: %s%s",
			   p->password_file, strerror(-rc),
			   rc == -EACCES ? " (it must be readable by the user the daemon runs as: "
					   "chgrp sixpath, chmod 640)"
					 : "");
		return;
	}
	free(p->password);
	p->password = strdup(secret);
	explicit_bzero(secret, sizeof(secret));
}

void redir_check_proxy(struct conf *c, void *ctx, void *dst, const char *name)
{
	const struct redir_conf *r = ctx;
	struct proxy_section *p = dst;

	if (r->proxies.count == BALANCE_MAX + 1)
		conf_error(c, "proxy", name, NULL, "there may be at most %d proxies", BALANCE_MAX);
	if (!p->address.host) {
		conf_error(c, "proxy", name, NULL, "address is missing: set address = HOST:PORT");
		return;
	}
	if (conf_is_set(p->password) && conf_is_set(p->password_file))
		conf_error(c, "proxy", name, "password_file",
			   "password and password_file exclude each other");
	else if (conf_is_set(p->password_file))
		check_password_file(c, p, name);
	if (conf_is_set(p->username) != conf_is_set(p->password) && !conf_is_set(p->password_file))
		conf_error(c, "proxy", name, conf_is_set(p->username) ? "username" : "password",
			   "username and password (or password_file) belong together");
	if (conf_is_set(p->username) && strlen(p->username) > FIELD_MAX)
		conf_error(c, "proxy", name, "username", "must have at most %d octets", FIELD_MAX);
	if (conf_is_set(p->password) && strlen(p->password) > FIELD_MAX)
		conf_error(c, "proxy", name, "password", "must have at most %d octets", FIELD_MAX);
	if (p->pipeline != PIPELINE_NO && p->protocol != PROTOCOL_SOCKS5)
		conf_error(c, "proxy", name, "pipeline",
			   "is for protocol = socks5; SOCKSv6 needs no handshake");
}

/* The way to p, from its via on. */
static void check_via(struct conf *c, const struct redir_conf *r, const struct proxy_section *p)
{
	const struct proxy_section *hop = p;
	unsigned hops = 1;

	if (!redir_conf_via(r, p)) {
		conf_error(c, "proxy", p->name, "via",
			   "there is no section [proxy %s]: name another proxy's section", p->via);
		return;
	}
	if (p->protocol != PROTOCOL_SOCKS6 || redir_conf_via(r, p)->protocol != PROTOCOL_SOCKS6) {
		conf_error(c, "proxy", p->name, "via",
			   "both this proxy and that of [proxy %s] need protocol = socks6", p->via);
		return;
	}
	while ((hop = redir_conf_via(r, hop)) && hop != p && ++hops <= UPSTREAM_HOPS)
		;
	if (hop == p && hops == 1)
		conf_error(c, "proxy", p->name, "via", "a proxy cannot be reached through itself");
	else if (hop == p)
		conf_error(c, "proxy", p->name, "via", "goes round in a circle, back to [proxy %s]",
			   p->name);
	else if (hop)
		conf_error(c, "proxy", p->name, "via", "there may be at most %d proxies in a row",
			   UPSTREAM_HOPS);
	else if (p->prewarm > 0)
		conf_error(c, "proxy", p->name, "prewarm",
			   "connections are kept ready to the first proxy of the way: set prewarm "
			   "there");
}

static void check_rules(struct conf *c, const struct redir_conf *r)
{
	struct rules_room room;
	struct rules_conf rules;
	struct rules_bad bad;

	if (redir_conf_verifies(r) && r->mode != MODE_TPROXY)
		conf_error(c, "connect", NULL, "verify",
			   "SYNs can be held with mode = tproxy only: set that, or verify = no");
	if (r->listen.n == 0 || !redir_conf_wants_rules(r))
		return;
	if (rules_conf_listen_bad(r))
		conf_error(c, "redir", NULL, "listen", "%s", rules_conf_listen_bad(r));
	if (!rules_conf_of(&rules, r, &room)) {
		conf_error(c, "rules", NULL, NULL, "out of memory");
		return;
	}
	bad = rules_conf_look(&rules);
	rules_room_free(&room);
	if (bad.why)
		conf_error(c, bad.section, NULL, bad.key, "%s", bad.why);
}

/* What can be told only when all sections have been read. */
void redir_check_all(struct conf *c, void *ctx, void *dst, const char *name)
{
	const struct redir_conf *r = ctx;
	const struct proxy_section *p = NULL;
	struct list_node *n;
	bool taken = false;

	(void)dst;
	(void)name;
	for (n = list_first(&r->proxies); n; n = list_next(&r->proxies, n)) {
		p = container_of(n, struct proxy_section, node);
		taken |= p->weight > 0;
		if (conf_is_set(p->via))
			check_via(c, r, p);
	}
	if (p && !taken)
		conf_error(c, "proxy", p->name, "weight",
			   "no proxy takes connections: at least one needs a weight of 1 to 100");
	check_rules(c, r);
}

void redir_check_path(struct conf *c, void *ctx, void *dst, const char *name)
{
	const struct redir_conf *r = ctx;
	const struct path_section *p = dst;
	struct list_node *n, *tmp;

	if (r->paths.count == WAN_PATHS_MAX + 1)
		conf_error(c, "path", name, NULL, "there may be at most %d paths", WAN_PATHS_MAX);
	if (!p->device) {
		conf_error(c, "path", name, NULL, "device is missing: set device = INTERFACE");
		return;
	}
	list_for_each_safe (&r->paths, n, tmp) {
		const struct path_section *q = container_of(n, struct path_section, node);
		if (q == p)
			break;
		if (q->device && strcmp(q->device, p->device) == 0)
			conf_error(c, "path", name, "device",
				   "%s is the device of [path %s] already", p->device, q->name);
	}
}

/* One server, or one of each family, with addresses that can be dialled. */
static void check_targets(struct conf *c, const struct forward_section *f)
{
	if (f->to.n > FORWARD_TARGETS ||
	    (f->to.n == 2 && addr_family(&f->to.v[0]) == addr_family(&f->to.v[1]))) {
		conf_error(c, "forward", f->name, "to",
			   "must be one server, or one for IPv4 and one for IPv6");
		return;
	}
	for (size_t i = 0; i < f->to.n; i++) {
		enum addr_class class = addr_classify(&f->to.v[i]);
		if (class == ADDR_UNSPECIFIED || class == ADDR_MULTICAST)
			conf_error(c, "forward", f->name, "to",
				   "must be the address and port of a server, such as "
				   "192.168.1.10:443 or [fd00::10]:443");
	}
}

/* A port can be had once at each proxy. */
static void check_listen(struct conf *c, const struct redir_conf *r,
			 const struct forward_section *f)
{
	const struct proxy_section *p = redir_conf_forward_proxy(r, f);
	struct list_node *n;

	for (n = list_first(&r->forwards); n; n = list_next(&r->forwards, n)) {
		const struct forward_section *g = container_of(n, struct forward_section, node);
		if (g == f)
			break;
		if (g->listen.n && redir_conf_forward_proxy(r, g) == p &&
		    addr_port(&g->listen.v[0]) == addr_port(&f->listen.v[0]) &&
		    (addr_is_any(&g->listen.v[0]) || addr_is_any(&f->listen.v[0]) ||
		     addr_equal_ip(&g->listen.v[0], &f->listen.v[0])))
			conf_error(c, "forward", f->name, "listen",
				   "port %u of that proxy is [forward %s]'s already",
				   addr_port(&f->listen.v[0]), g->name);
	}
}

void redir_check_forward(struct conf *c, void *ctx, void *dst, const char *name)
{
	const struct redir_conf *r = ctx;
	const struct forward_section *f = dst;
	const struct proxy_section *p = redir_conf_forward_proxy(r, f);

	if (r->forwards.count == FORWARDS_MAX + 1)
		conf_error(c, "forward", name, NULL, "there may be at most %d forwards",
			   FORWARDS_MAX);
	if (f->listen.n == 0 || f->to.n == 0) {
		conf_error(c, "forward", name, NULL, "%s is missing: set %s",
			   f->listen.n ? "to" : "listen",
			   f->listen.n ? "to = ADDRESS:PORT of the server in the LAN"
				       : "listen = PORT, the port at the proxy");
		return;
	}
	if (f->listen.n > 1)
		conf_error(c, "forward", name, "listen", "must be one port or ADDRESS:PORT");
	check_targets(c, f);
	if (conf_is_set(f->proxy) && !p)
		conf_error(c, "forward", name, "proxy",
			   "there is no section [proxy %s]: name another proxy's section",
			   f->proxy);
	else if (!conf_is_set(f->proxy) && r->proxies.count > 1)
		conf_error(c, "forward", name, NULL,
			   "proxy is missing: set proxy = NAME, there are several");
	else if (p && p->protocol != PROTOCOL_SOCKS6)
		conf_error(c, "forward", name, "proxy",
			   "[proxy %s] needs protocol = socks6: SOCKS 5 has no such ports",
			   p->name);
	else
		check_listen(c, r, f);
}

static bool ports_meet(const struct port_list *x, const struct port_list *y, uint16_t *port)
{
	for (size_t i = 0; i < x->n; i++)
		for (size_t k = 0; k < y->n; k++) {
			*port = x->v[i].first > y->v[k].first ? x->v[i].first : y->v[k].first;
			if (*port <= x->v[i].last && *port <= y->v[k].last)
				return true;
		}
	return false;
}

void redir_check_udp(struct conf *c, void *ctx, void *dst, const char *name)
{
	const struct redir_conf *r = ctx;
	uint16_t port;

	(void)dst;
	if (ports_meet(&r->udp.refuse, &r->udp.direct, &port))
		conf_error(c, "udp", name, "direct", "port %u is in refuse as well", port);
	if (ports_meet(&r->udp.udp_ports, &r->udp.tcp_ports, &port))
		conf_error(c, "udp", name, "tcp_ports", "port %u is in udp_ports as well", port);
	if (r->mode != MODE_TPROXY && (r->udp.proxy.n > 0 || r->udp.refuse.n > 0))
		conf_error(c, "udp", name, r->udp.proxy.n > 0 ? "proxy" : "refuse",
			   "UDP can be captured with mode = tproxy only");
}

static bool is_named(const struct addr_list *l, const struct addr *a)
{
	for (size_t i = 0; i < l->n; i++)
		if (addr_equal(&l->v[i], a))
			return true;
	return false;
}

/* "servers" one by one: they are c-ares' to read, but what is wrong is told now. */
void redir_check_dns(struct conf *c, void *ctx, void *dst, const char *name)
{
	struct redir_conf *r = ctx;
	const char *at = r->dns.servers;
	char text[ADDR_STRLEN];
	struct addr a;

	(void)dst;
	conf_addrs_without_ipv6(&r->dns.listen);
	while (conf_next_server(c, "dns", name, "servers", &at, &a))
		if (is_named(&r->dns.listen, &a)) {
			conf_error(c, "dns", name, "servers",
				   "%s is where we listen: name other servers",
				   addr_str(&a, text, sizeof(text)));
			return;
		}
}
