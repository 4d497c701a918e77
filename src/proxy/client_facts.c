/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What there is to say about a client: for the log, and for sixpathctl. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/report.h"
#include "core/s6glue.h"
#include "core/sock.h"
#include "core/text.h"
#include "proxy/client.h"
#include "proxy/client_priv.h"

#define STRANGERS_BURST 10 /* lines a minute, of each worker and reason */

static const char *const state_words[] = {
	[CLIENT_REQUEST] = "request", [CLIENT_AUTH] = "auth",       [CLIENT_CONNECT] = "connect",
	[CLIENT_BIND] = "bind",       [CLIENT_CONTROL] = "control", [CLIENT_RELAY] = "relay",
	[CLIENT_DRAIN] = "drain",     [CLIENT_CLOSED] = "closed",   [CLIENT_UDP] = "udp",
};

/* ---- what it asked for ---- */

/* Octets of it that say something. */
static size_t dst_len(const struct s6_address *dst)
{
	return offsetof(struct s6_address, u) + (dst->type == S6_ADDR_NAME   ? dst->name_len + 1u
						 : dst->type == S6_ADDR_IPV6 ? 16
									     : 4);
}

struct label *client_label(const struct setup *s)
{
	size_t n = dst_len(&s->dst), m = strlen(s->user) + 1;
	struct label *l = malloc(sizeof(*l) + n + m);

	if (!l)
		return NULL;
	l->command = s->command;
	l->dst_len = (uint16_t)n;
	memcpy(l->text, &s->dst, n);
	memcpy(l->text + n, s->user, m);
	return l;
}

const char *client_user(const struct client *cl)
{
	return cl->label ? cl->label->text + cl->label->dst_len : cl->setup->user;
}

/* NULL: it has none. */
static const struct assoc *client_assoc(const struct client *cl)
{
	return cl->setup ? cl->setup->assoc : NULL;
}

/* NULL: it has asked for nothing yet. */
static const char *command_str(const struct client *cl)
{
	if (cl->label)
		return s6_command_str(cl->label->command);
	return cl->setup->dst.type ? s6_command_str(cl->setup->command) : NULL;
}

static const char *dst_str(const struct client *cl, char *buf, size_t cap)
{
	struct s6_address dst = {0};
	struct addr a;
	char name[S6_NAME_MAX * 4 + 1];

	if (cl->label)
		memcpy(&dst, cl->label->text, cl->label->dst_len);
	else
		dst = cl->setup->dst;
	if (dst.type == 0)
		snprintf(buf, cap, "-");
	else if (s6glue_to_addr(&a, &dst))
		addr_str(&a, buf, cap);
	else {
		text_escape(name, sizeof(name), dst.u.name);
		snprintf(buf, cap, "%s:%u", name, dst.port);
	}
	return buf;
}

/* ---- its connection ---- */

void client_note_facts(struct client *cl, int fd)
{
	unsigned subflows;

	if (fd < 0 || !cl->mptcp_socket)
		return;
	cl->mptcp = sock_mptcp(fd, &subflows);
	if (subflows > cl->subflows) /* at the end of a connection they are gone */
		cl->subflows = (uint16_t)subflows;
}

void client_note_facts_at_end(struct client *cl, int fd)
{
	if (log_enabled(LVL_INFO))
		client_note_facts(cl, fd);
}

static const char *remote_mptcp_str(const struct client *cl)
{
	return !cl->remote_known ? "-" : cl->remote_mptcp ? "yes" : "no";
}

void client_log_end(const struct client *cl, enum end_reason reason, int err)
{
	char peer[ADDR_STRLEN], dst[S6_NAME_MAX * 4 + 16], user[ISSUED_USER_MAX * 4];
	char line[sizeof(peer) + sizeof(dst) + sizeof(user) + 400];
	const char *command;
	struct addr from;
	/* Nothing has happened on a connection that was kept ready and given up. */
	bool quiet = cl->relay.a.bytes_in == 0 && reason == END_CLOSED;
	enum log_level level = quiet ? LVL_DEBUG : LVL_INFO;

	if (!log_enabled(level))
		return;
	if (client_assoc(cl)) {
		client_log_assoc(cl, reason, err);
		return;
	}
	command = command_str(cl);
	from = client_peer(cl);
	text_escape(user, sizeof(user), client_user(cl)[0] ? client_user(cl) : "-");
	snprintf(
		line, sizeof(line),
		"client %s user=%s %s -> %s mptcp=%s subflows=%u tfo=%s server_mptcp=%s up=%" PRIu64
		" down=%" PRIu64 " duration=%.3fs reason=%s%s%s%s%s",
		addr_str(&from, peer, sizeof(peer)), user, command ? command : "-",
		dst_str(cl, dst, sizeof(dst)), cl->mptcp ? "yes" : "no", cl->subflows,
		cl->fastopen ? "yes" : "no", remote_mptcp_str(cl), cl->relay.b.bytes_out,
		cl->relay.b.bytes_in, worker_now(&cl->pw->w) - cl->started, end_reason_str(reason),
		cl->replied ? " reply=" : "", cl->replied ? s6_reply_str(cl->reply_code) : "",
		err ? " error=" : "", err ? strerror(err) : "");
	if (quiet || !cl->setup || cl->setup->known)
		log_msg(level, "%s", line);
	else /* anybody can make these, as many as he likes */
		log_limited(&cl->pw->limit_end[reason], STRANGERS_BURST, level, "%s", line);
}

/* ---- for people ---- */

static const char *state_word(const struct client *cl)
{
	if (!cl->setup)
		return state_words[cl->state];
	if (list_linked(&cl->setup->wait))
		return "waiting";
	return cl->setup->op && op_connect_resolving(cl->setup->op) ? "resolve"
								    : state_words[cl->state];
}

void client_report_all(struct proxy_worker *pw, struct report *r)
{
	struct list_node *n, *tmp;
	struct assoc_facts f;
	char text[S6_NAME_MAX * 4 + 16];
	struct addr peer;

	list_for_each_safe (&pw->clients, n, tmp) {
		struct client *cl = container_of(n, struct client, node);

		peer = client_peer(cl);
		client_note_facts(cl, cl->state == CLIENT_RELAY ? cl->relay.a.fd : cl->setup->fd);
		report_row(r);
		if (client_assoc(cl))
			assoc_facts(client_assoc(cl), &f);
		else
			f = (struct assoc_facts){.bytes_up = cl->relay.b.bytes_out,
						 .bytes_down = cl->relay.b.bytes_in};
		report_u64(r, "id", cl->id * pw->proxy->n_workers + pw->w.index);
		report_str(r, "client", addr_str(&peer, text, sizeof(text)));
		report_str(r, "user", client_user(cl)[0] ? client_user(cl) : NULL);
		report_str(r, "destination",
			   f.bind            ? addr_str(f.bind, text, sizeof(text))
			   : command_str(cl) ? dst_str(cl, text, sizeof(text))
					     : NULL);
		report_str(r, "state", state_word(cl));
		report_seconds(r, "age", worker_now(&pw->w) - cl->started);
		report_bytes(r, "bytes_up", f.bytes_up);
		report_bytes(r, "bytes_down", f.bytes_down);
		report_bool(r, "mptcp", cl->mptcp);
		report_u64(r, "subflows", cl->subflows);
		report_bool(r, "tfo", cl->fastopen);
		if (cl->remote_known)
			report_bool(r, "server_mptcp", cl->remote_mptcp);
		else
			report_null(r, "server_mptcp");
	}
}
