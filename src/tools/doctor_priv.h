/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of doctor share; each adds its findings. */
#ifndef SIXPATH_DOCTOR_PRIV_H
#define SIXPATH_DOCTOR_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "core/tune.h"
#include "tools/finding.h"
#include "tools/netview.h"

#define CURE_MAX 320

struct doctor {
	enum tune_role role;
	const char *socket;
	bool net_admin; /* we may ask the kernel about rules */
	int daemon_rc;  /* 0 = the daemon has answered, or -errno */
	char *status;   /* its answers, JSON; NULL = none */
	char *proxies;
	char mode[16];  /* of the redirector; "" = not known */
	char not_captured[8]; /* a family of addresses; "" = none */
	char rules[16]; /* of the redirector: own, script, none; "" = not known */
	bool icmp;      /* it sends devices ICMP errors, or that is not known */
	struct findings findings;
	struct netview net;
};

/* doctor_host.c: kernel, settings, counters, limits, capabilities, clock */
void doctor_host(struct doctor *d);
/* doctor_paths.c: links, MPTCP endpoints, routes by source address */
void doctor_paths(struct doctor *d);
/* doctor_rules.c: capture rules, the route that tproxy needs, what the kernel has for rules */
void doctor_rules(struct doctor *d);
/* doctor_daemon.c: ask the daemon (first, others use it), and judge its answers */
void doctor_ask_daemon(struct doctor *d);
void doctor_daemon(struct doctor *d);

#endif
