/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the configuration means for the rules. */
#include "redir/rules.h"

#include <stdlib.h>

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
	return true;
}

void rules_room_free(struct rules_room *room)
{
	free(room->names);
	room->names = NULL;
}
