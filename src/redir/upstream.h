/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One configured proxy: addresses, credentials, health, our session with it, counters.
 * Counted, because flows outlive a reload. Shared by all workers; locks itself. What never
 * changes after upstream_new may be read without the lock.
 */
#ifndef REDIR_UPSTREAM_H
#define REDIR_UPSTREAM_H

#include <stdatomic.h>
#include <pthread.h>

#include "core/addr.h"
#include "core/worker.h"
#include "redir/health.h"
#include "redir/redir_conf.h"
#include "redir/session.h"
#include "redir/uppaths.h"

#define UPSTREAM_ADDRS 8

struct dial;

struct upstream {
	atomic_uint refs;
	/* immutable */
	char *name, *host, *username, *password;
	uint16_t port;
	int mptcp, tfo, priority;
	int prewarm; /* connections kept ready, or PREWARM_AUTO */
	uint32_t mark; /* of our sockets: the route to the proxy may depend on it */
	struct worker *main;
	/* the local address of connections to dst; sock_source, but for tests */
	int (*source)(const struct addr *dst, uint32_t mark, struct addr *local);
	void (*kick)(struct upstream *up, void *ctx); /* on the main worker: check it now */
	void *kick_ctx;

	/* under the lock */
	pthread_mutex_t lock;
	struct addr addrs[UPSTREAM_ADDRS];
	unsigned n_addrs, current; /* the address that worked last */
	struct health health;
	struct session session;
	struct uppaths paths;
	bool tfo_works; /* the last SYN data were taken */
	bool kicked;
	struct job kick_job;
	uint64_t n_ok, n_failed, n_sessions, n_lost;
	uint64_t n_flows, n_flows_total; /* now; ever */
	uint64_t n_warm; /* prewarmed connections that are ready, now */
	uint64_t n_warm_used, n_warm_dead;
	uint32_t rtt_us;                 /* smoothed */
	char last_error[128];
};

struct upstream *upstream_new(const struct proxy_section *p, struct worker *main); /* or NULL */
struct upstream *upstream_get(struct upstream *up);
void upstream_put(struct upstream *up); /* NULL is allowed */
/* Is this the same proxy with the same credentials and options? */
bool upstream_matches(const struct upstream *up, const struct proxy_section *p);

/* What one connection to the proxy may use. */
struct upstream_grant {
	struct addr addr;
	bool in_session, has_token, tfo;
	bool tfo_works; /* and has done so before */
	double patience_s; /* without an answer for so long: upstream_overdue */
	uint8_t id[SESSION_ID_MAX];
	uint16_t id_len;
	unsigned session; /* its number */
	uint32_t token;
};

/* False if it is not up (then try another). */
bool upstream_grant(struct upstream *up, double now_s, struct upstream_grant *g);
bool upstream_is_up(struct upstream *up);
/* The destination is one of this proxy's own addresses. */
bool upstream_is_address(struct upstream *up, const struct addr *a);

/* Replies and events; any thread. */
void upstream_ok(struct upstream *up, double now_s); /* a proper reply came */
void upstream_failed(struct upstream *up, double now_s, enum upstream_failure kind,
		     const char *why);
void upstream_session_lost(struct upstream *up, unsigned number);
void upstream_window(struct upstream *up, unsigned number, uint32_t base, uint32_t size);
/* The authentication reply of a flow: it is alive. */
void upstream_heard(struct upstream *up, double now_s);
/* When that was last, 0 if never. */
double upstream_heard_at(struct upstream *up);
/* A flow has waited for its patience and has no answer: others are used first, without Fast Open
 * data if there are none, and a NOOP finds out. True the first time. */
bool upstream_overdue(struct upstream *up);
/* That has happened to another upstream, so ask this one too. */
void upstream_question(struct upstream *up);
/* A dial has succeeded: what came of Fast Open and MPTCP. Fast Open backs off by itself. */
void upstream_dialled(struct upstream *up, double now_s, const struct dial *d);
/* May a connection to this address put data into its SYN? */
bool upstream_tfo_allowed(struct upstream *up, double now_s, const struct addr *addr);
/* Something is odd (a reset in the middle): check it soon. */
void upstream_suspect(struct upstream *up);
/* How many sessions it did not know any more. */
uint64_t upstream_lost(struct upstream *up);
void upstream_flow_count(struct upstream *up, int change);
/* Prewarmed connections: change of those ready; were used; were found dead. */
void upstream_warm_count(struct upstream *up, int change, unsigned used, unsigned dead);

/* From noop.c. */
void upstream_set_addrs(struct upstream *up, const struct addr *addrs, unsigned n);
unsigned upstream_addrs(struct upstream *up, struct addr *addrs); /* working one first */
void upstream_proven(struct upstream *up, double now_s, const struct addr *addr, uint32_t rtt_us);

/* For those who choose and probe. */
struct upstream_view {
	enum upstream_state state;
	bool usable;  /* upstream_grant would grant */
	bool trouble; /* an answer is overdue */
	bool urgent;  /* here or elsewhere: it is to be probed at once */
	double heard_s;
	unsigned wanted; /* good probes until it is up */
	uint32_t rtt_us;
};
struct upstream_view upstream_look(struct upstream *up);
void upstream_session_open(struct upstream *up, const uint8_t *id, size_t len, bool has_window,
			   uint32_t base, uint32_t size);
/* In a session with tokens left: fills g without taking one. */
bool upstream_session(struct upstream *up, struct upstream_grant *g);

#endif
