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
#include "redir/redir_conf.h"
#include "redir/session.h"

#define UPSTREAM_ADDRS 8

enum upstream_state {
	UPSTREAM_UNPROVEN, /* no NOOP has been answered yet: gets no flows */
	UPSTREAM_UP,
	UPSTREAM_DOWN /* failed; NOOPs go on with growing pauses */
};

/* How a connection to a proxy failed. */
enum upstream_failure {
	UPSTREAM_SOFT,    /* closed, reset, timed out: down after two in a row */
	UPSTREAM_HARD,    /* refused, or not SOCKSv6: down at once */
	UPSTREAM_REJECTED /* it does not accept our credentials: down at once, and said so */
};

struct upstream {
	atomic_uint refs;
	/* immutable */
	char *name, *host, *username, *password;
	uint16_t port;
	int mptcp, tfo, priority;
	int prewarm; /* connections kept ready, or PREWARM_AUTO */
	struct worker *main;
	void (*kick)(struct upstream *up, void *ctx); /* on the main worker: check it now */
	void *kick_ctx;

	/* under the lock */
	pthread_mutex_t lock;
	struct addr addrs[UPSTREAM_ADDRS];
	unsigned n_addrs, current; /* the address that worked last */
	enum upstream_state state;
	double since_s; /* of this state */
	struct session session;
	unsigned failures; /* in a row */
	double tfo_pause_s, tfo_until_s;
	unsigned tfo_refused; /* SYN data not taken, in a row */
	bool tfo_works;       /* the last SYN data were taken */
	bool kicked;
	struct job kick_job;
	uint64_t n_ok, n_failed, n_sessions, n_lost;
	uint64_t n_flows; /* now */
	uint64_t n_warm;  /* prewarmed connections that are ready, now */
	uint64_t n_warm_used, n_warm_dead;
	uint32_t rtt_us;
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
/* What Fast Open came to on one connection: backs off by itself. */
void upstream_tfo_result(struct upstream *up, double now_s, bool syn_data_acked, unsigned fail);
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
void upstream_session_open(struct upstream *up, const uint8_t *id, size_t len, bool has_window,
			   uint32_t base, uint32_t size);
/* In a session with tokens left: fills g without taking one. */
bool upstream_session(struct upstream *up, struct upstream_grant *g);

const char *upstream_state_str(enum upstream_state state);

#endif
