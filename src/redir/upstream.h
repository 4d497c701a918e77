/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One configured proxy: addresses, credentials, health, our session with it, counters.
 * Counted, because flows outlive a reload. Shared by all workers; locks itself. What never
 * changes after upstream_new may be read without the lock.
 *
 * One with a via is reached through that other upstream: it can be used while both can, and takes
 * the time of both. The own health, paths and round-trip time here are those of the last leg, from
 * the via to it. No two locks are held at the same time.
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
#define UPSTREAM_HOPS  4 /* proxies in a row: an upstream and those it is reached through */

struct dial;

struct upstream {
	atomic_uint refs;
	/* immutable */
	char *name, *host, *username, *password;
	uint16_t port;
	struct upstream *via;   /* a reference, or NULL: it is dialled */
	int protocol, pipeline; /* enum protocol, enum pipeline */
	int mptcp, tfo;
	uint16_t udp_port; /* for datagrams; 0: port */
	uint32_t mark;     /* of our sockets: the route to the proxy may depend on it */
	struct worker *main;
	/* the local address of connections to dst; sock_source, but for tests */
	int (*source)(const struct addr *dst, uint32_t mark, struct addr *local);
	void (*kick)(struct upstream *up, void *ctx); /* on the main worker: check it now */
	void *kick_ctx;

	atomic_int prewarm; /* connections kept ready, or PREWARM_AUTO; changes with a reload */
	atomic_uint_fast64_t n_flows, n_flows_total; /* now; ever */

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
	uint64_t n_ok, n_failed, n_sessions, n_lost, n_busy;
	uint64_t n_warm; /* prewarmed connections that are ready, now */
	uint64_t n_warm_used, n_warm_dead;
	uint32_t rtt_us; /* smoothed; with a via: from there */
	char last_error[128];
};

/* via: what p->via names, or NULL; a reference is taken. NULL = out of memory. */
struct upstream *upstream_new(const struct proxy_section *p, struct upstream *via,
			      struct worker *main);
struct upstream *upstream_get(struct upstream *up);
void upstream_put(struct upstream *up); /* NULL is allowed */
/* Is this the same proxy with the same credentials and options, reached in the same way? How many
 * connections are kept ready, and what the pool has of it, may differ. */
bool upstream_matches(const struct upstream *up, const struct proxy_section *p,
		      const struct upstream *via);
/* Takes over from the section what may differ. */
void upstream_adjust(struct upstream *up, const struct proxy_section *p);
/* Names of those it is reached through, nearest to it first, comma separated, into buf (which is
 * cut, if need be); NULL for one that is dialled. */
const char *upstream_via_str(const struct upstream *up, char *buf, size_t cap);

/* What one connection to the proxy may use. */
struct upstream_grant {
	struct addr addr;
	bool in_session, has_token, tfo, mptcp;
	bool tfo_works;    /* and has done so before */
	double patience_s; /* as below, for it alone */
	uint8_t id[SESSION_ID_MAX];
	uint16_t id_len;
	unsigned session; /* its number */
	uint32_t token;
};

/* All of the way: hop 0 is dialled, the last one is the upstream. The last holds the others. */
struct upstream_chain {
	unsigned n;
	double patience_s; /* without an answer for so long: upstream_overdue */
	struct {
		struct upstream *up;
		struct upstream_grant g;
	} hop[UPSTREAM_HOPS];
};

/* False if it is not up (then try another). */
bool upstream_grant(struct upstream *up, double now_s, struct upstream_grant *g);
/* The upstreams of the way; no grants yet. */
void upstream_chain(struct upstream *up, struct upstream_chain *c);
/* Grants for all hops before the last, afresh. False if one of them is not up. */
bool upstream_grant_way(struct upstream_chain *c, double now_s);
/* Both, and the last hop's. False if one is not up. */
bool upstream_grant_chain(struct upstream *up, double now_s, struct upstream_chain *c);
/* It, and all that it is reached through. */
bool upstream_is_up(struct upstream *up);
/* The destination is one of this proxy's own addresses. */
bool upstream_is_address(struct upstream *up, const struct addr *a);

/* Replies and events; any thread. */
void upstream_ok(struct upstream *up, double now_s); /* a proper reply came */
void upstream_failed(struct upstream *up, double now_s, enum upstream_failure kind,
		     const char *why);
void upstream_session_lost(struct upstream *up, unsigned number);
void upstream_window(struct upstream *up, unsigned number, uint32_t base, uint32_t size);
/* The authentication reply of a flow: it is alive. size: of the window in it, 0 = none; for the session
 * with this number. */
void upstream_heard(struct upstream *up, double now_s, unsigned number, uint32_t base,
		    uint32_t size);
/* When that was last, 0 if never. */
double upstream_heard_at(struct upstream *up);
/* Its own state in a word, or that of the way to it (upstream_view.via_up). The lock is held. */
const char *upstream_way_str(const struct upstream *up, bool via_up);
/* A flow has waited for its patience and has no answer: others are used first, without Fast Open
 * data if there are none, and a NOOP finds out. True the first time. */
bool upstream_overdue(struct upstream *up);
/* It has answered that it cannot: it is alive, but others come first for a moment. */
void upstream_busy(struct upstream *up, double now_s);
/* That has happened to another upstream, so ask this one too. */
void upstream_question(struct upstream *up);
/* A dial has succeeded: what came of Fast Open and MPTCP. Fast Open backs off by itself. */
void upstream_dialled(struct upstream *up, double now_s, const struct dial *d);
/* What a hop's reply says of the connection to the next one. */
struct up_leg {
	double since_sent_s; /* when the requests had left, until that reply; 0 = unknown */
	bool asked_tfo;      /* data was to be in its SYN */
	bool stripped;       /* MPTCP was asked for, and TCP is what came */
	unsigned syn_octets; /* taken from its SYN */
};
/* The same as upstream_dialled where hop k of the chain has connected to the next one; hop k's
 * address stands for the local one. */
void upstream_chained(const struct upstream_chain *c, unsigned k, double now_s,
		      const struct up_leg *leg);
/* May a connection to this address put data into its SYN? */
bool upstream_tfo_allowed(struct upstream *up, double now_s, const struct addr *addr);
/* Likewise, may a connection there ask for MPTCP? */
bool upstream_mptcp_allowed(struct upstream *up, double now_s, const struct addr *addr);
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
	bool usable;   /* upstream_grant_chain would grant */
	bool via_up;   /* what it is reached through can be used, or there is no via */
	bool trouble;  /* an answer is overdue */
	double busy_s; /* it has said that it can take no more: last choice until then */
	bool urgent;   /* here or elsewhere: it is to be probed at once */
	double heard_s;
	unsigned wanted; /* good probes until it is up */
	uint32_t rtt_us; /* of the whole way */
};
struct upstream_view upstream_look(struct upstream *up);
void upstream_session_open(struct upstream *up, const uint8_t *id, size_t len, bool has_window,
			   uint32_t base, uint32_t size);
/* In a session with tokens left: fills g without taking one. */
bool upstream_session(struct upstream *up, struct upstream_grant *g);

#endif
