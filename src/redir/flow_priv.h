/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What flow.c (its life), flow_proxy.c (the way through a proxy) and flow_direct.c (the way to
 * the server itself) share about one flow.
 */
#ifndef REDIR_FLOW_PRIV_H
#define REDIR_FLOW_PRIV_H

#include <ev.h>

#include "core/dial.h"
#include "core/relay.h"
#include "redir/decide.h"
#include "redir/flow.h"
#include "redir/front.h"
#include "redir/held.h"
#include "redir/redir.h"
#include "redir/up_socks6.h"

enum flow_state {
	FLOW_WAIT_DATA, /* the first: new, or holding for the device's first bytes */
	FLOW_REQUEST,   /* came to the front door; where to is not known yet */
	FLOW_DIAL,      /* connecting to a proxy; request and first bytes may be in the SYN */
	FLOW_HANDSHAKE, /* connected; the replies are not complete */
	FLOW_DIRECT,    /* connecting to the server itself */
	FLOW_BYPASS,    /* the same over MPTCP, which it is known to speak */
	FLOW_HELD,  /* the upstream is open and the held SYN goes on; its connection is to come */
	FLOW_RELAY, /* copying both ways */
	FLOW_CLOSED /* ended; freed at the end of the loop turn */
};

/* How far an attempt has gone: decides whether there may be another one. */
enum commit {
	COMMIT_NOTHING,   /* nothing has been sent that could have been executed */
	COMMIT_MAYBE,     /* the request may have arrived; no reply yet */
	COMMIT_EXECUTING, /* the last proxy of the way has accepted it */
};

/* All of a flow that is needed only until it relays: idle connections go without. */
struct attempt {
	struct redir_conf *conf; /* a reference */
	int dev_fd;              /* device; -1 while its SYN is held */
	ev_io dev_io;
	ev_timer deadline;
	struct held_syn *held;  /* NULL: it began with an accepted connection */
	struct talk *talk;      /* NULL: it did not come to the front door */
	char *name;             /* told to the proxy instead of the address; or NULL */
	size_t again;           /* octets of its SYN that the device's connection will repeat */
	enum decision decision; /* made when the destination is known */
	uint8_t tos;            /* for all legs: the DSCP of the device's SYN */
	char why[112];          /* the last thing that went wrong upstream */

	/* the way to the server */
	struct pool *pool; /* a reference */
	uint64_t tried;    /* upstreams of the pool */
	ev_timer patience; /* until the proxy's first reply */
	double dialled;    /* worker_now */
	struct dial dial;
	ev_io io;          /* upstream */
	int fd;            /* upstream, once connected */
	double sent_s;     /* when the requests had left (worker_now) */
	unsigned reminded; /* how often a hop did not know its session */
	enum commit commit;
	bool same_again; /* this is the second try with the same token */
	bool fresh;      /* no prewarmed connection: one was dead */
	double until_s;  /* on a prewarmed one: for the authentication reply (worker_now) */
	size_t request_len, request_sent;
	size_t sent; /* octets of relay.a.in sent to this upstream */
	/* large, and not cleared: written when a way has been chosen */
	struct upstream_chain chain;
	struct up_socks6 proto;
	uint8_t request[]; /* UP_REQUEST_MAX for each hop of the longest way in the pool */
};

/* There may be many thousands that do nothing: what is not needed then is in struct attempt. */
struct flow {
	union {
		struct {
			struct list_node node; /* in redir_worker.flows */
			uint32_t id;
			float first_s; /* from the start to the first byte from upstream; or -1 */
		};
		struct corpse corpse; /* at the end */
	};
	union {
		struct attempt *at; /* until it relays */
		/* Then: what its row and log line need of that, two texts: why, and name; or NULL. */
		char *left;
	};
	struct relay relay; /* a = device: a.in holds its bytes from the start; b = upstream */
	struct loopguard_entry guard;
	struct upstream *up; /* a reference, of the current or final proxy; the last of its way */
	double started;      /* worker_now */
	/* facts for the log line */
	uint16_t syn_bytes, subflows;
	enum flow_state state : 8;
	enum route route : 8;
	uint8_t reply_code;
	uint8_t server_mptcp : 2; /* 0 unknown, S6_AVAIL_NO, S6_AVAIL_YES */
	bool replied : 1;
	bool mptcp : 1;
	bool tfo : 1;
	bool prewarmed : 1;
	bool on_paths : 1;   /* there are [path] sections: what it carries is counted */
	bool only_proxy : 1; /* there is no other way to the destination */
	bool front : 1;      /* it came to the front door */
	enum front_kind front_kind : 4;
	bool v6 : 1; /* its source is */
	bool dst_v6 : 1;
	bool dst_room_v6 : 1; /* it may be */
	uint8_t addrs[];      /* source and destination, packed */
};

static inline struct addr flow_src(const struct flow *f)
{
	struct addr a;

	addr_unpack(&a, f->v6 ? AF_INET6 : AF_INET, f->addrs);
	return a;
}

/* Unset until it is known. */
static inline struct addr flow_dst(const struct flow *f)
{
	struct addr a;

	addr_unpack(&a, f->dst_v6 ? AF_INET6 : AF_INET,
		    f->addrs + (f->v6 ? ADDR_PACKED_V6 : ADDR_PACKED_V4));
	return a;
}

static inline struct redir_worker *flow_rw(const struct flow *f)
{
	return redir_worker_of(f->relay.w);
}

static inline double flow_now(const struct flow *f)
{
	return worker_now(f->relay.w);
}

/* As sock_wishes.tos. */
static inline int flow_tos(const struct flow *f)
{
	return f->at->tos ? f->at->tos : -1;
}

/* Until it relays: dst is the server, so what becomes of the connection tells something about that
 * address. */
static inline bool flow_knows_server(const struct flow *f)
{
	struct addr dst = flow_dst(f);

	return !f->at->name && !addr_is_any(&dst);
}

/* flow.c */

/* In no state yet. dst_family: AF_INET6 leaves room for any destination. NULL = out of memory. */
struct flow *flow_new(struct redir_worker *rw, int fd, const struct addr *src,
		      sa_family_t dst_family);
/* Counted in the budget; NULL: there is no room, and the descriptor is closed. */
struct flow *flow_admit(struct redir_worker *rw, int fd, const struct addr *src,
			sa_family_t dst_family);
/* False if there is no room for its family. */
bool flow_set_dst(struct flow *f, const struct addr *dst);
/* Where to, as a name with its port if that is all that is known. buf: FLOW_DST_STRLEN. */
#define FLOW_DST_STRLEN (S6_NAME_MAX + 8)
const char *flow_dst_str(const struct flow *f, char *buf, size_t cap);
enum decision flow_decision(struct flow *f);
void flow_go(struct flow *f, enum decision what);

/* The one way a flow ends, with a reason; err is the errno behind it, or 0. Memory stays valid
 * until the end of the loop turn. END_NONE: what it was has become something else's. */
void flow_end(struct flow *f, enum end_reason reason, int err);
/* The one function that changes state; sets the time limit of the new one. */
void flow_change(struct flow *f, enum flow_state state);
/* 0 = none. Its end is the business of the state. */
void flow_deadline(struct flow *f, double s);
/* What went wrong upstream, for the log. */
void flow_because(struct flow *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Ask the upstream socket what it is. */
void flow_note_facts(struct flow *f);
/* The same from what the dial has found already, which costs nothing. */
void flow_note_dialled(struct flow *f);
/* Close what the current attempt has open; it may be followed by another. */
void flow_attempt_close(struct flow *f);
void flow_drop_upstream(struct flow *f);
/* That is an outcome of the server's, and remembered (failed.h). */
void flow_server_failed(struct flow *f, int err);
/* Both sides are connected; sent octets of the device's bytes are on their way already. */
void flow_relay(struct flow *f, int up_fd, size_t sent);

/* flow_proxy.c */

/* Choose the next upstream, or what on_proxy_failure says when there is none. */
void flow_next(struct flow *f);
/* The device has sent more during the handshake. */
void flow_proxy_more(struct flow *f);
/* The handshake has taken too long. */
void flow_proxy_silent(struct flow *f);
/* While the proxy does not answer: is it still up? */
void flow_proxy_patience_cb(struct ev_loop *loop, ev_timer *t, int events);
/* Upstream events of the attempt. */
void flow_proxy_io_cb(struct ev_loop *loop, ev_io *io, int events);

/* flow_held.c */

/* A connection was accepted: true if a flow waits for it and has got the descriptor. */
bool flow_held_claims(struct redir_worker *rw, int fd, const struct addr *src);
/* The upstream is open, as for flow_relay: now the device's side. */
void flow_held_ready(struct flow *f, int up_fd, size_t sent);
/* The device's connection has come, or something on it. */
void flow_held_readable(struct flow *f);
/* The flow ends: answer the SYN. */
void flow_held_end(struct flow *f, enum end_reason reason, int err);

/* flow_front.c */

/* The program has said something, and where to is not known yet. */
void flow_front_readable(struct flow *f);
/* How it came, a word. */
const char *flow_front_entry(const struct flow *f);
/* The upstream is open: tell the program. 0, or -errno when it has gone. */
int flow_front_accept(struct flow *f);
/* For the way to the server itself: where to is a name, and its addresses are asked for;
 * flow_direct is called again. */
bool flow_front_resolves(struct flow *f);
/* There are others of its addresses. */
bool flow_front_has_more(const struct flow *f);
/* Its destination did not do, and is the next one now. False if there is none. */
bool flow_front_another(struct flow *f);
/* The flow ends: tell the program, if it has not been told. */
void flow_front_end(struct flow *f, enum end_reason reason, int err);

/* flow_direct.c */

/* To the server itself, plain. */
void flow_direct(struct flow *f);
/* To the server itself over MPTCP; through a proxy if that does not work. */
void flow_bypass(struct flow *f);
/* The server's first byte has come, or the relay has ended: what does it say of the direct path? */
void flow_bypass_first(struct flow *f, bool mptcp);
void flow_bypass_ended(struct flow *f, enum end_reason reason);

#endif
