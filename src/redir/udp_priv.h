/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of UDP share: udp.c, udp_listener.c, udp_leg.c, assoc*.c. */
#ifndef REDIR_UDP_PRIV_H
#define REDIR_UDP_PRIV_H

#include <ev.h>

#include "core/dial.h"
#include "core/log.h"
#include "redir/assoc_table.h"
#include "redir/icmp_sender.h"
#include "redir/loopguard.h"
#include "redir/redir.h"
#include "redir/udp.h"
#include "redir/udp_io.h"
#include "redir/udp_policy.h"
#include "redir/udp_reply.h"
#include "redir/up_socks6.h"

#define UDP_HEAD_MAX  40  /* octets of a Datagram's header with a numeric address, */
#define UDP_HEAD_ROOM 288 /* and with any */
#define UDP_PROXIES   8   /* that something is remembered of */

struct front_udp;

/* What a device has sent. data is valid during the call. */
struct udp_datagram {
	struct addr src, dst;
	const struct s6_address *name; /* instead of dst, for the front door; or NULL. As data */
	uint8_t ttl, tos;              /* tos: the DSCP, or 0 where it is not to be kept */
	const uint8_t *data;
	size_t len;
};

/* Our socket to one proxy's UDP port; associations share it, the proxy's number tells them apart. */
struct udp_leg {
	struct list_node node; /* in udp.legs */
	struct udp *u;
	struct addr proxy, local;
	int fd;
	ev_io io;
	struct list associations;
	double heard_s;   /* when something came */
	double sent_s;    /* when something was sent */
	double resumed_s; /* when that began again after a long pause */
	double sure_s;    /* when a scout had got there */
	bool segments;    /* udp_send_all */
	unsigned n;       /* datagrams that wait to be sent */
	struct mmsghdr h[UDP_BATCH];
	struct iovec v[UDP_BATCH][2];
	uint8_t head[UDP_BATCH][UDP_HEAD_ROOM];
	union {
		struct cmsghdr align;
		uint8_t room[CMSG_SPACE(sizeof(int))];
	} control[UDP_BATCH];
};

/* What a proxy was found out to be unable to do. */
struct udp_proxy {
	const struct upstream *up; /* only compared */
	double no_udp_until;       /* it does not relay UDP for us */
	double blocked_until;      /* no plain UDP gets to it */
};

struct udp_listener {
	struct udp *u;
	struct addr addr;
	int fd;
	ev_io io;
};

struct udp {
	struct redir_worker *rw;
	bool begun, runs, stopped;
	bool captures; /* it has listeners */
	bool half;     /* of what was taken from the budget, a descriptor is free */
	struct udp_listener *listeners;
	size_t n_listeners;
	struct assoc_table table;
	struct assoc **by_id;
	size_t n_by_id;
	struct list legs;
	struct list waiting; /* associations without a proxy, by fallback */
	struct list dirty;   /* those with octets to be written */
	struct assoc *scout; /* assoc_scout.c, or NULL */
	struct udp_replies replies;
	struct udp_batch batch;
	struct udp_proxy proxies[UDP_PROXIES];
	ev_timer tick;
	unsigned icmp_left;   /* of this second */
	atomic_size_t mailed; /* octets that other workers have for us */
	uint64_t next_number;
	struct udp_counters counters;
	struct log_limit limit_proxy, limit_listen, limit_reply, limit_full, limit_via;
};

enum assoc_state {
	ASSOC_FORMING, /* connecting to a proxy, until it has given a number */
	ASSOC_OPENING, /* the first datagram is under way to it */
	ASSOC_UP,      /* confirmed */
	ASSOC_DIRECT,  /* without a proxy */
	ASSOC_DOWN,    /* no proxy can be used, and nothing goes directly */
	ASSOC_PAUSE    /* a moment before it is formed again */
};

/* A datagram that waits. */
struct assoc_kept {
	struct list_node node;
	struct addr dst;
	struct s6_address *name; /* or NULL */
	uint8_t tos;
	uint16_t len;
	uint8_t data[];
};

#define ASSOC_KEPT        32     /* datagrams that wait for a confirmation, */
#define ASSOC_KEPT_OCTETS 131072 /* and their octets */
#define ASSOC_RECENT      4

/* Forming one: exists while that lasts. */
struct assoc_dial {
	struct pool *pool; /* a reference */
	uint64_t tried;
	struct upstream_chain chain;
	struct dial dial;
	struct up_socks6 proto;
	double since_s, sent_s;
	unsigned reminded;
	bool prewarmed, fresh, ready;
	size_t request_len, sent;
	uint8_t request[]; /* UP_REQUEST_MAX for each hop */
};

struct assoc {
	struct assoc_node node; /* in udp.table */
	struct udp *u;
	struct front_udp *door; /* of a program at the front door, or NULL: a captured device's */
	uint64_t number;
	enum assoc_state state;
	enum udp_transport wish, by;
	uint8_t tos;
	struct upstream *up; /* a reference, counted as a flow; or NULL */
	struct assoc_dial *at;
	ev_timer timer;
	/* the connection to the proxy */
	int fd;
	ev_io io;
	struct buf in, out;
	struct list_node dirty; /* in udp.dirty */
	struct loopguard_entry guard;
	/* the association there */
	uint64_t id;
	bool has_id;
	struct assoc *next_id; /* with the same hash */
	struct udp_leg *leg;
	struct list_node on_leg;
	struct addr proxy; /* its UDP address */
	double opening_s;  /* since when a confirmation is waited for */
	double patience_s; /* for how long */
	struct list kept;
	size_t kept_octets;
	/* without a proxy */
	struct list_node waits; /* in udp.waiting */
	int dfd;
	bool dual; /* of both families */
	ev_io dio;
	/* what has become of it */
	unsigned failures; /* since it was up */
	double up_since_s;
	double asked_s; /* when the first of those was sent that have no answer */
	unsigned asked; /* how many they are */
	bool answered;  /* ever, since it was formed */
	bool scout;     /* nobody's: assoc_scout.c */
	double started_s;
	unsigned n_reformed;
	uint64_t datagrams_up, datagrams_down, bytes_up, bytes_down, lost;
	struct {
		struct addr dst;
		uint16_t len;
	} recent[ASSOC_RECENT]; /* what was sent last, for errors */
	unsigned next_recent;
	char why[96];
};

/* ---- udp.c ---- */

static inline double udp_now(const struct udp *u)
{
	return worker_now(&u->rw->w);
}
/* A device's datagram, on the worker that it belongs to. Followed by udp_flush when there are no more
 * at once. */
void udp_take(struct udp *u, const struct udp_datagram *d);
void udp_flush(struct udp *u);
/* A program's datagram at the front door (src: the program), on *way: its association, made if there
 * is none, which the door ends. Followed by udp_flush as well. */
void udp_take_front(struct udp *u, struct assoc **way, const struct assoc_key *key,
		    struct front_udp *door, const struct udp_datagram *d);
bool udp_is_to_proxy(const struct udp *u, const struct addr *dst);
/* What one association had of the budget. */
void udp_give_budget(struct udp *u);
/* The record of a proxy, made if need be. */
struct udp_proxy *udp_proxy(struct udp *u, const struct upstream *up);
/* An ICMP error for a datagram of this length from src to dst. */
void udp_tell(struct udp *u, enum icmp_error error, const struct addr *reporter,
	      const struct addr *src, const struct addr *dst, size_t len, size_t mtu);
void udp_enlist_id(struct udp *u, struct assoc *a);
void udp_strike_id(struct udp *u, struct assoc *a);
struct assoc *udp_find_id(const struct udp *u, const struct udp_leg *leg, uint64_t id);

/* ---- udp_listener.c ---- */

/* 0 or -errno; those that could be opened stay. */
int udp_listen(struct udp *u);
void udp_unlisten(struct udp *u);

/* ---- udp_leg.c ---- */

/* To this address of a proxy, with this association on it. NULL and errno. */
struct udp_leg *udp_leg_get(struct udp *u, const struct addr *proxy, struct assoc *a);
void udp_leg_put(struct assoc *a);
/* data stays until udp_leg_flush. */
void udp_leg_send(struct udp_leg *leg, const struct s6_udp *m, uint8_t tos);
void udp_leg_flush(struct udp_leg *leg);
/* Does it still leave from the address that the proxy knows? If not its associations are lost. */
void udp_leg_check(struct udp_leg *leg);

/* ---- assoc.c ---- */

/* For the device in key, which is not in the table: NULL = out of memory. */
struct assoc *assoc_new(struct udp *u, const struct assoc_key *key, const struct udp_datagram *d);
void assoc_end(struct assoc *a, enum end_reason reason);
void assoc_change(struct assoc *a, enum assoc_state state);
void assoc_because(struct assoc *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* udp_tell, for a datagram of its own; programs at the front door cannot be told. */
void assoc_tell(struct assoc *a, enum icmp_error error, const struct addr *reporter,
		const struct addr *dst, size_t len, size_t mtu);
/* The proxy, or the way to it, is no more: it is formed again soon. */
void assoc_lost(struct assoc *a);
/* No proxy can be used: what on_proxy_failure says. */
void assoc_no_upstream(struct assoc *a);
/* The proxy gave it a number: at->chain tells where datagrams go. */
void assoc_open(struct assoc *a);
void assoc_confirmed(struct assoc *a);
/* No plain UDP to this proxy for some time. */
void assoc_blocked(const struct assoc *a, const char *why);
/* Plain UDP does not get through: the same inside the connection. */
void assoc_switch_to_tcp(struct assoc *a, const char *why);
/* By plain UDP, and nobody answers any more, neither here nor on other associations of this way. */
bool assoc_unheard(const struct assoc *a);
/* Once a second for those in use. */
void assoc_check(struct assoc *a);
/* There may be a proxy again. */
void assoc_retry(struct assoc *a);
void assoc_disconnect(struct assoc *a); /* from the proxy; what waits stays */
const char *assoc_state_str(enum assoc_state s);

/* ---- assoc_dial.c ---- */

void assoc_form(struct assoc *a);
/* With this proxy or none. */
void assoc_form_with(struct assoc *a, struct upstream *up);
void assoc_dial_free(struct assoc *a);
/* What came on the connection while it is formed. */
void assoc_dial_read(struct assoc *a);
/* The end of the connection while it is formed. */
void assoc_dial_gone(struct assoc *a, const char *how);
void assoc_dial_more(struct assoc *a); /* there is room to write */
void assoc_dial_late(struct assoc *a); /* a quarter of a second has passed */

/* ---- assoc_data.c ---- */

void assoc_send(struct assoc *a, const struct udp_datagram *d);
void assoc_keep(struct assoc *a, const struct udp_datagram *d);
void assoc_drop_kept(struct assoc *a);
/* The first that waits, or the empty datagram that only opens. */
void assoc_send_opener(struct assoc *a, bool empty);
void assoc_send_kept(struct assoc *a, bool skip_first);
/* A message of the proxy, on whatever way. Replies wait for udp_replies_flush. */
void assoc_message(struct assoc *a, const struct s6_udp *m);
void assoc_io_cb(struct ev_loop *loop, ev_io *io, int events);
void assoc_watch(struct assoc *a);
/* Write what waits. */
void assoc_flush(struct assoc *a);

/* ---- assoc_scout.c ---- */

/* Lately a scout has got there, and nothing has come since. */
bool assoc_scout_is_sure(const struct udp_leg *leg);
/* For an association that is not heard; nothing if there is one under way. */
void assoc_scout(const struct assoc *a);
void assoc_scout_confirmed(struct assoc *scout);
void assoc_scout_unconfirmed(struct assoc *scout);
void assoc_scout_free(struct assoc *scout);

/* ---- assoc_direct.c ---- */

/* 0 or -errno. */
int assoc_direct_open(struct assoc *a);
void assoc_direct_close(struct assoc *a);
void assoc_direct_send(struct assoc *a, const struct addr *dst, const uint8_t *data, size_t len);
/* The same to a name, if there is one, as soon as it is resolved. */
void assoc_direct_send_to(struct assoc *a, const struct addr *dst, const struct s6_address *name,
			  const uint8_t *data, size_t len);

#endif
