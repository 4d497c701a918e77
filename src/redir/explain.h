/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `sixpathctl explain SRC DST:PORT [udp]`: what happens to such a connection, and what decides it. The
 * kernel's rules are walked in the order of rules_text.c; what is captured is decided by decide().
 */
#ifndef REDIR_EXPLAIN_H
#define REDIR_EXPLAIN_H

#include <stdbool.h>

#include "redir/decide.h"
#include "redir/redir_conf.h"
#include "redir/udp_policy.h"

/* What the rules look at. */
struct explain_facts {
	bool held;      /* if captured, the SYN waits for the server's answer ([connect] verify) */
	bool rules;     /* the daemon keeps rules; otherwise an administrator's script does */
	bool interface; /* it comes in where capture says */
	char interface_name[16];
	bool ipv6_off;                /* IPv6, and the rules are for IPv4 only */
	bool deaf;                    /* listen has no address of its family */
	bool local;                   /* the destination is this host, or no unicast address */
	bool user_bypass, user_proxy; /* in a set of inet sixpath_user */
	bool upstream;                /* the destination is a proxy */
	bool exclude;                 /* ... or in exclude */
	bool learned;                 /* in the kernel's learned set */
	bool port;                    /* in ports */
	bool failed; /* in one of the kernel's sets of servers that have just failed */
	bool paused; /* near a limit (budget.h): nothing new is captured */
	enum bypass_action action;
	bool udp;               /* a datagram, not a SYN */
	bool udp_captured;      /* [udp] wants any */
	enum udp_policy policy; /* of its port */
};

/* Asks the kernel's tables, routes and sets (explain_facts.c). 0 or -errno. */
int explain_facts(struct explain_facts *f, struct redir *rd, const struct addr *src,
		  const struct addr *dst, bool udp);

/* One rule: its name, as in the comments of `nft list table inet sixpath`. */
struct explain_rule {
	const char *name;
	const char *why;
	bool captured;
	bool refused; /* not captured, and not forwarded either */
};

struct control_request;
void explain_command(struct control_request *rq, void *ctx);

/* The rule that decides about a SYN, with or without MP_CAPABLE (pure). */
struct explain_rule explain_rule(const struct explain_facts *f, bool mp_capable);
/* The same about a datagram. */
struct explain_rule explain_rule_udp(const struct explain_facts *f);

#endif
