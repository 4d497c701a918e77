/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The proxy daemon's own structures. struct proxy is the main thread's; a struct
 * proxy_worker is touched by its worker only.
 */
#ifndef PROXY_H
#define PROXY_H

#include "core/auth.h"
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
#include "proxy/issued.h"
#include "proxy/listenport.h"
#include "proxy/proxy_conf.h"
#include "proxy/speaks.h"
#include "proxy/synwatch.h"
#include "proxy/udp.h"

#define REPLY_CODES 10

struct counters {
	uint64_t accepted, mptcp_clients, fastopen_clients;
	uint64_t ended[END__COUNT];
	uint64_t replies[REPLY_CODES];
	uint64_t auth_ok, auth_failed;
	uint64_t sessions_opened, sessions_invalid;
	uint64_t tokens_accepted, tokens_rejected;
	uint64_t bytes_up, bytes_down; /* of ended relays */
};

/* Clients beyond the limits, of one worker, that are told so instead of being reset. */
#define PROXY_SHED_MAX 64

struct perclient;
struct peruser;
struct udp_reserve;

struct proxy_worker {
	struct worker w; /* w.owner points here */
	struct proxy *proxy;
	struct proxy_conf *conf; /* a reference */
	struct resolver *resolver;
	struct synwatch synwatch;
	struct speaks speaks;
	struct listeners listeners; /* one for each address of "listen" */
	struct udp *udp;
	struct list clients;
	struct list waiting; /* those that have not said anything yet; oldest first */
	struct list excess;  /* clients beyond the limits, to be told so; oldest first */
	bool near;           /* servers have answered within a moment lately */
	bool leaving;        /* no more is accepted; what has been has a moment for its request */
	uint64_t next_id;    /* of clients; unique with the worker's index */
	struct counters counters;
	struct log_limit limit_auth, limit_accept, limit_user, limit_protocol, limit_bind;
	struct log_limit limit_end[END__COUNT]; /* of clients that have not authenticated */
};

struct proxy {
	struct worker main;
	struct proxy_conf *conf;
	const char *conf_path; /* NULL = none */
	struct proxy_worker *workers;
	struct worker **list; /* the same, for worker_gather */
	unsigned n_workers;
	struct issued *issued;           /* shared; locks itself */
	struct auth *auth;               /* likewise */
	struct perclient *perclient;     /* likewise */
	struct peruser *peruser;         /* likewise */
	struct perclient *udp_perclient; /* of associations; likewise */
	struct peruser *udp_peruser;
	struct udp_reserve *udp_reserve;
	struct listenports *listenports; /* likewise */
	struct budget budget;            /* clients count themselves in it */
	struct control *control;
	struct daemon_signals signals;
	double started; /* worker_now */
	unsigned long nofile;
	unsigned
		clients_room; /* so many the descriptors are enough for; set before threads start */
	struct inherited inherited; /* sockets that we were given at start */
	struct handover handover;
	bool handed_over;   /* a successor has the sockets; set before workers are told to leave */
	struct drain drain; /* runs: this process takes no more clients and ends */
	struct control_request *restart_rq; /* who asked for the restart, or NULL */
	const char *self;                   /* the program, and its arguments */
	char **argv;
	bool verbose;
};

static inline struct proxy_worker *proxy_worker_of(struct worker *w)
{
	return w->owner;
}

/* acceptor.c: how many clients there may be, by configuration and descriptors. */
unsigned proxy_clients_max(const struct proxy *p, const struct proxy_conf *c);

/* main.c: hands over to a successor; rq (may be NULL) is answered when it is there or has failed. */
void proxy_restart(struct proxy *p, struct control_request *rq);

/* proxy_reload.c: load and check anew; tells what happened in text (cap octets). 0 or -1. */
int proxy_reload(struct proxy *p, char *text, size_t cap);

void proxy_set_log_level(const struct proxy *p);

/* proxy_ctl.c */
extern const struct control_command proxy_commands[];
void proxy_log_status(struct proxy *p);

#endif
