/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * proxy.conf as a snapshot: built and checked as a whole, then immutable and counted. A
 * reload makes a new one; connections keep the one they started with.
 */
#ifndef PROXY_CONF_H
#define PROXY_CONF_H

#include <stdatomic.h>
#include <stdio.h>

#include "core/addr.h"
#include "core/conf.h"
#include "core/users.h"
#include "proxy/acl.h"
#include "proxy/issued.h"

struct proxy_conf {
	atomic_uint refs;
	/* [proxy]; those marked R need a restart */
	struct addr_list listen; /* R */
	struct udp_listen {
		struct addr_list addrs;
		bool as_listen;
	} udp_listen;   /* R */
	int mptcp, tfo; /* R; 0 no, 1 yes, 2 auto */
	int workers;    /* R; 0 = processors */
	char *user;     /* R */
	int log, log_to;
	char *control;   /* R; NULL or empty = off */
	char *resolve;   /* R; name servers, empty = the system's */
	struct addr dns; /* the DNS service: CONNECT to port 53 of any address; unset = none */
	double session_ttl_s, request_timeout_s, waiting_timeout_s, connect_timeout_s, idle_s,
		dead_s;
	uint32_t token_window;
	int max_clients, max_per_client, max_per_user, max_sessions, max_sessions_per_user;
	double drain_s;
	double bind_timeout_s;
	int bind_backlog, max_binds, max_binds_per_user;
	int memory_mib;         /* for connections' buffers; 0 = auto */
	bool repeat_session_id; /* the Session ID in the operation reply as well (R2) */
	/* [auth] */
	char *users_file;
	struct users *users; /* NULL = none */
	/* [udp] */
	double udp_idle_s, udp_dns_idle_s;
	int udp_max, udp_max_per_client, udp_max_per_user;
	/* [acl], [user NAME] */
	struct acl acl;
};

#define DNS_PORT 53

#define PROXY_DEFAULT_USER    "sixpath"
#define PROXY_DEFAULT_CONTROL "/run/sixpath/proxy.sock"

/* path NULL = defaults. NULL when there are errors; they go to errors, or to the log. */
struct proxy_conf *proxy_conf_load(const char *path, FILE *errors);
struct proxy_conf *proxy_conf_get(struct proxy_conf *c); /* one more reference */
void proxy_conf_put(struct proxy_conf *c);               /* NULL is allowed */

/* What the configuration says about sessions. */
struct issued_limits proxy_conf_limits(const struct proxy_conf *c);

/* Names of keys that differ and need a restart, comma separated, into buf. */
void proxy_conf_needs_restart(const struct proxy_conf *old, const struct proxy_conf *new, char *buf,
			      size_t cap);

#endif
