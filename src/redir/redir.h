/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The redirector's own structures. struct redir is the main thread's; a struct
 * redir_worker is touched by its worker only.
 */
#ifndef REDIR_H
#define REDIR_H

#include "core/budget.h"
#include "core/control.h"
#include "core/daemon.h"
#include "core/drain.h"
#include "core/handover.h"
#include "core/listener.h"
#include "core/log.h"
#include "core/reason.h"
#include "core/resolve.h"
#include "core/worker.h"
#include "redir/failed.h"
#include "redir/firstdata.h"
#include "redir/forward.h"
#include "redir/held.h"
#include "redir/learned.h"
#include "redir/loopguard.h"
#include "redir/pool.h"
#include "redir/prewarm.h"
#include "redir/redir_conf.h"
#include "redir/script.h"
#include "redir/icmp_sender.h"
#include "redir/udp.h"
#include "redir/wan_usage.h"

/* DIRECT: plain TCP to the server itself. BYPASS: the same over MPTCP. */
enum route { ROUTE_NONE, ROUTE_PROXY, ROUTE_DIRECT, ROUTE_BYPASS, ROUTE_COUNT };

struct counters {
	uint64_t accepted, routed[ROUTE_COUNT], ended[END__COUNT];
	uint64_t front;           /* of those accepted */
	uint64_t mptcp, fastopen; /* connections to proxies that really used them */
	uint64_t tokens_rejected, sessions_invalid, retries, fallbacks;
	uint64_t prewarm_used, prewarm_dead;
	uint64_t forwarded;     /* peers of [forward] ports */
	uint64_t bypass_failed; /* direct MPTCP dials that went to a proxy after all */
	uint64_t bytes_up, bytes_down;
};

struct redir_worker {
	struct worker w; /* w.owner points here */
	struct redir *redir;
	struct redir_conf *conf;    /* a reference */
	struct pool *pool;          /* a reference */
	struct listeners listeners; /* one for each address of "listen" */
	struct listeners front;     /* and of "socks" */
	struct list flows;
	struct list inbounds;      /* of [forward] sections */
	bool leaving;              /* no more of them */
	struct list front_udps;    /* associations of programs at the front door, */
	struct list front_binds;   /* and ports that they wait at */
	struct list farewells;     /* programs at the front door that were told why not */
	unsigned requests;         /* flows that have not been told yet */
	struct resolver *resolver; /* for the front door; NULL until it is needed */
	struct prewarm prewarm;    /* connections kept ready */
	struct udp *udp;           /* captured UDP */
	double names_rest_s;       /* a proxy cannot look up names: they are not told until then */
	struct dns *dns;           /* the name service, at worker 0; or NULL */
	uint32_t next_id;
	struct counters counters;
	struct wan_usage usage; /* of upstream connections that have ended */
	struct log_limit limit_loop, limit_self, limit_dst, limit_upstream, limit_mark, limit_front;
};

struct redir {
	struct worker main;
	struct redir_conf *conf;
	struct pool *pool;
	const char *conf_path, *conf_proxy; /* of the command line */
	struct redir_worker *workers;
	struct worker **list; /* the same, for worker_gather */
	unsigned n_workers;
	struct loopguard *loopguard; /* shared; locks itself */
	struct firstdata firstdata;  /* shared; atomic */
	struct learned *learned;     /* shared; locks itself */
	struct learner *learner;     /* looks after it */
	struct failed *failed;       /* shared; locks itself */
	struct refuser *refuser;     /* looks after it */
	struct tune *tune;           /* kernel settings to set back */
	struct held *held;           /* shared; locks itself */
	struct icmp_sender icmp;     /* for devices whose datagrams cannot go on */
	struct auth *auth;           /* of the front door's users; NULL: there is no front door */
	struct perclient *clients;   /* connections of the front door; likewise */
	struct steer *steer;         /* our rules; NULL until connections are accepted */
	struct script *script;       /* rules by script; NULL: none */
	struct wan_keeper *wan;      /* looks after [path] sections; NULL: there are none */
	atomic_bool only_metered;    /* no other path is left; set by it */
	struct forwards *forwards;   /* [forward] sections; NULL until connections are accepted */
	struct resolver *resolver;
	struct list noops;
	struct control *control;
	struct daemon_signals signals;
	ev_timer accept_timer; /* accepting starts after the first NOOPs, or when this fires */
	bool accepting;
	double started; /* worker_now */
	unsigned long nofile;
	struct budget budget;       /* flows are counted in it by all workers */
	struct inherited inherited; /* sockets that we were given at start */
	struct handover handover;
	struct drain drain;                 /* runs: this process takes no more flows and ends */
	struct control_request *restart_rq; /* who asked for the restart, or NULL */
	const char *self;                   /* the program, and its arguments */
	char **argv;
	bool verbose, foreground;
};

static inline struct redir_worker *redir_worker_of(struct worker *w)
{
	return w->owner;
}

/* main.c */
int redir_reload(struct redir *rd, char *text, size_t cap); /* 0 or -1; tells in text */
void redir_first_noop_done(struct redir *rd);               /* noop.c calls it */

/* Hands over to a successor; rq (may be NULL) is answered when it is there or has failed. */
void redir_restart(struct redir *rd, struct control_request *rq);

/* redir_ctl.c */
extern const struct control_command redir_commands[];
void redir_log_status(struct redir *rd);

#endif
