/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the configuration means for the rules, and what is wrong with it. */
#include "redir/rules.h"

#include <stdlib.h>
#include <string.h>

#define IFACE_MAX 15

static void add_server(struct rules_room *room, const struct addr *a)
{
	for (size_t i = 0; i < room->n_servers; i++)
		if (addr_equal(&room->servers[i], a))
			return;
	if (room->n_servers < RULES_SERVERS)
		room->servers[room->n_servers++] = *a;
}

/* Those in whose direction we connect in others' names. */
static void find_servers(struct rules_room *room, const struct redir_conf *c)
{
	struct list_node *n;

	room->n_servers = 0;
	for (n = list_first(&c->forwards); n; n = list_next(&c->forwards, n)) {
		const struct forward_section *f = container_of(n, struct forward_section, node);
		for (size_t i = 0; f->source == SOURCE_TRANSPARENT && i < f->to.n; i++)
			add_server(room, &f->to.v[i]);
	}
}

/* Where connections of a family arrive: an address for all of them, if there is one. */
static bool is_deaf(const struct redir_conf *c, sa_family_t family, struct addr *to)
{
	bool deaf = true;

	*to = (struct addr){0};
	for (size_t i = 0; i < c->listen.n; i++) {
		const struct addr *a = &c->listen.v[i];
		bool any = addr_is_any(a);

		if (addr_family(a) != family && !(any && addr_family(a) == AF_INET6))
			continue; /* the unspecified address of IPv6 serves both */
		if (any)
			*to = (struct addr){0};
		else if (deaf)
			*to = *a;
		deaf = false;
		if (any)
			break;
	}
	return deaf;
}

/* REDIRECT, and TPROXY of iptables, go to the first address of the interface that a packet comes in
 * on, for this host's own that of lo. */
static bool out_of_reach(const struct redir_conf *c, sa_family_t family)
{
	bool devices = c->capture.n == 0, local = !c->capture_local, listens = false;

	for (size_t i = 0; i < c->listen.n; i++) {
		const struct addr *a = &c->listen.v[i];

		if (addr_is_any(a) && (addr_family(a) == family || addr_family(a) == AF_INET6))
			return false;
		if (addr_family(a) != family)
			continue;
		listens = true;
		if (addr_classify(a) == ADDR_LOOPBACK)
			local = true;
		else
			devices = true;
	}
	return listens && !(devices && local);
}

bool rules_conf_deaf(const struct redir_conf *c, sa_family_t family)
{
	struct addr to;

	return is_deaf(c, family, &to);
}

const char *rules_conf_listen_bad(const struct redir_conf *c)
{
	if (c->capture.n == 0 && !c->capture_local)
		return NULL;
	for (size_t i = 1; i < c->listen.n; i++)
		if (addr_port(&c->listen.v[i]) != addr_port(&c->listen.v[0]))
			return "rules can send connections to one port only: give all addresses of "
			       "listen the same";
	if (!out_of_reach(c, AF_INET) && !out_of_reach(c, AF_INET6))
		return NULL;
	if (c->mode == MODE_REDIRECT)
		return "mode = redirect sends connections to the address of the interface that "
		       "they come in on, this host's own to 127.0.0.1 and ::1: listen there, or "
		       "on all addresses as [::]:PORT or 0.0.0.0:PORT does, or set mode = tproxy";
	if (redir_conf_by_script(c))
		return "rules of a script send connections to the address of the interface that "
		       "they come in on, this host's own to 127.0.0.1 and ::1: listen there, or "
		       "on all addresses as [::]:PORT or 0.0.0.0:PORT does";
	return NULL;
}

bool rules_conf_of(struct rules_conf *out, const struct redir_conf *c, struct rules_room *room)
{
	room->names = calloc(c->capture.n + 1, sizeof(*room->names));
	if (!room->names)
		return false;
	for (size_t i = 0; i < c->capture.n; i++)
		room->names[i] = c->capture.v[i];
	find_servers(room, c);
	*out = (struct rules_conf){
		.mode = (enum redir_mode)c->mode,
		.port = c->listen.n ? addr_port(&c->listen.v[0]) : 0,
		.mark = c->mark,
		.capture = room->names,
		.n_capture = c->capture.n,
		.capture_local = c->capture_local,
		.ports = c->ports.v,
		.n_ports = c->ports.n,
		.exclude = c->exclude,
		.action = (enum bypass_action)c->action,
		.learn_passive = c->learn_passive,
		.verify = c->verify.ports.v,
		.n_verify = c->verify.ports.n,
		.verify_nets = c->verify.nets,
		.udp_proxy = c->udp.proxy,
		.udp_direct = c->udp.direct,
		.udp_refuse = c->udp.refuse,
		.servers = room->servers,
		.n_servers = room->n_servers,
		.script = redir_conf_by_script(c),
		.refuse = c->remember_failed_s > 0,
	};
	out->deaf4 = is_deaf(c, AF_INET, &out->to4);
	out->deaf6 = is_deaf(c, AF_INET6, &out->to6);
	return true;
}

void rules_room_free(struct rules_room *room)
{
	free(room->names);
	room->names = NULL;
}

bool rules_conf_routes(const struct rules_conf *c)
{
	return c->mode == MODE_TPROXY || c->n_servers > 0;
}

bool rules_conf_wants_held(const struct rules_conf *c)
{
	return c->n_verify > 0 || c->verify_nets.n > 0;
}

bool rules_conf_wants_udp(const struct rules_conf *c)
{
	return c->mode == MODE_TPROXY && (c->udp_proxy.n > 0 || c->udp_refuse.n > 0);
}

/* ---- what is wrong with them ---- */

/* Names stand in quotes in the text: nothing in them may end the quotes. */
static bool iface_good(const char *name)
{
	size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
				"_.@-");

	return n > 0 && n <= IFACE_MAX && name[n] == '\0' && strcmp(name, "lo") != 0;
}

static bool has_bad(const struct prefix_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (addr_family(&l->v[i].base) == AF_UNSPEC)
			return true;
	return false;
}

static bool bad_ranges(const struct port_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].first == 0 || l->v[i].first > l->v[i].last)
			return true;
	return false;
}

static const char *bad_of_redir(const struct rules_conf *c, const char **key)
{
	*key = "listen";
	if (c->port == 0)
		return "listen has no port";
	*key = "mark";
	if (c->mark == 0 || c->mark & RULES_FWMARK || (!c->script && c->mark & RULES_USER_MASK))
		return c->script ? "mark must not be 0 and not contain the bit 0x2, which the "
				   "rules use (0x5061 is good)"
				 : "mark must not be 0 and not contain the bits 0x2, 0x4 and 0x8, "
				   "which the rules use (0x5061 is good)";
	if (rules_conf_wants_held(c) && c->mark & RULES_HELD)
		return "mark must not contain the bit 0x10 with verify (0x5061 is good)";
	return NULL;
}

static const char *bad_of_rules(const struct rules_conf *c, const char **key)
{
	*key = "capture";
	if (c->n_capture == 0 && !c->capture_local && c->n_servers == 0)
		return "nothing to capture: name interfaces in capture, or set capture_local";
	for (size_t i = 0; i < c->n_capture; i++)
		if (!iface_good(c->capture[i]))
			return "capture has a word that is not the name of an interface (nor can "
			       "it be lo: for this host's own connections set capture_local = yes)";
	*key = "ports";
	for (size_t i = 0; i < c->n_ports; i++)
		if (c->ports[i].first == 0 || c->ports[i].first > c->ports[i].last)
			return "ports has a bad range";
	*key = "exclude";
	return has_bad(&c->exclude) ? "exclude has a bad prefix" : NULL;
}

static const char *bad_of_connect(const struct rules_conf *c, const char **key)
{
	*key = "verify";
	for (size_t i = 0; i < c->n_verify; i++)
		if (c->verify[i].first == 0 || c->verify[i].first > c->verify[i].last)
			return "verify has a bad range";
	return has_bad(&c->verify_nets) ? "verify has a bad prefix" : NULL;
}

struct rules_bad rules_conf_look(const struct rules_conf *c)
{
	struct rules_bad bad = {.section = "redir"};

	bad.why = bad_of_redir(c, &bad.key);
	if (bad.why)
		return bad;
	bad.section = "rules";
	bad.why = bad_of_rules(c, &bad.key);
	if (bad.why)
		return bad;
	bad.section = "connect";
	bad.why = bad_of_connect(c, &bad.key);
	if (bad.why)
		return bad;
	bad = (struct rules_bad){.section = "udp"};
	if (rules_conf_wants_udp(c) &&
	    (bad_ranges(&c->udp_proxy) || bad_ranges(&c->udp_direct) || bad_ranges(&c->udp_refuse)))
		bad.why = "[udp] has a bad range of ports";
	return bad;
}

const char *rules_conf_bad(const struct rules_conf *c)
{
	return rules_conf_look(c).why;
}
