/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What dns.c (questions and their answers), dns_clients.c (who asks) and dns_up.c (the connection
 * through a proxy) share.
 */
#ifndef REDIR_DNS_PRIV_H
#define REDIR_DNS_PRIV_H

#include <ev.h>

#include "core/listener.h"
#include "core/resolve.h"
#include "redir/dns.h"
#include "redir/dnscache.h"
#include "redir/redir.h"

#define DNS_ASKS_MAX    512  /* questions under way */
#define DNS_WAITERS_MAX 1024 /* who wait for their answers */
#define DNS_CLIENT_MAX  128  /* of them of one address */
#define DNS_TCP_MAX     64   /* TCP clients */
#define DNS_TCP_CLIENT  8    /* of one address */

/* Octets of a query as we build it, or of an answer without records. */
#define DNS_SHORT_MAX (DNS_HEADER + DNS_NAME_MAX + 4 + 11)

/* A TCP client. */
struct dns_tcp {
	struct list_node node; /* in dns.tcps */
	struct corpse corpse;
	struct dns *d;
	struct addr peer;
	int fd;
	ev_io io;
	struct list waiters; /* dns_waiter.of_tcp */
	double moved_s;      /* when it last said or was told something */
	bool eof;            /* it asks nothing more */
	size_t in_len;
	uint8_t in[2 + DNS_QUERY_MAX];
	uint8_t *out; /* what it has not taken yet, or NULL */
	size_t out_len, out_cap;
};

struct dns_udp {
	struct dns *d;
	int fd;
	bool v6; /* a dual-stack one takes IPv4 addresses mapped */
	ev_io io;
};

/* Where an answer goes. */
struct dns_from {
	struct dns_tcp *tcp; /* or NULL: */
	struct dns_udp *udp;
	struct addr peer;
	struct addr local; /* the address that was asked */
	uint32_t ifindex;  /* for link-local ones */
};

/* Somebody who waits for an answer. */
struct dns_waiter {
	struct list_node node;   /* in dns_ask.waiters */
	struct list_node of_tcp; /* in from.tcp->waiters */
	struct dns_ask *ask;
	struct dns_from from;
	struct dns_query q;
	uint8_t query[DNS_HEADER + DNS_NAME_MAX + 4]; /* header and question as written */
};

/* A question that is asked now, for all who have asked it. */
struct dns_ask {
	struct list_node node; /* in dns.asks, the oldest first */
	struct dns *d;
	struct dns_query q;
	struct list waiters; /* none: they are gone, and the answer is for the cache */
	uint16_t id;
	uint8_t query[DNS_SHORT_MAX];
	size_t len;
	double started_s, sent_s; /* worker_now */
	unsigned sent;            /* how often over a proxy's connection */
	bool proxied;             /* it is on the connection now */
	struct resolve *direct;   /* or asked directly; or neither yet */
};

/* The connection to the DNS service of a proxy: our end of a socket pair, whose other end is a
 * flow's device. */
struct dns_up {
	int fd; /* -1 = there is none */
	ev_io io;
	bool heard; /* it has answered something */
	double heard_s, used_s;
	uint8_t *in, *out; /* 2 + DNS_MSG_MAX octets each */
	size_t in_len, out_len;
	double rest_s, rest_until_s; /* it does not work: directly, until then */
};

struct dns {
	struct redir_worker *rw;
	struct dns_udp *udp;
	size_t n_udp;
	struct listeners tcp;
	struct list tcps;
	struct list asks;
	unsigned n_waiters;
	struct dns_up up;
	struct dnscache *cache;
	struct resolver *resolver;
	ev_timer tick; /* runs while there is something to wait for */
	bool running;
	struct dns_counts counts;
	struct log_limit limit_strangers, limit_failed;
	uint8_t scratch[DNSCACHE_ANSWER_MAX];
};

static inline double dns_now(const struct dns *d)
{
	return worker_now(&d->rw->w);
}

/* dns.c */

/* A message of a client's. */
void dns_asked(struct dns *d, const struct dns_from *from, const uint8_t *msg, size_t len);
/* Found good for this question; msg may be changed. The ask is gone afterwards. */
void dns_answered(struct dns *d, struct dns_ask *ask, uint8_t *msg, size_t len,
		  const struct dns_answer *a);
/* Ask it in the best way there is now. */
void dns_ask_send(struct dns *d, struct dns_ask *ask);
void dns_waiter_free(struct dns_waiter *w);
/* Something is to be waited for. */
void dns_tick(struct dns *d);

/* dns_clients.c: 0 or an exit code of sysexits */
int dns_clients_open(struct dns *d);
void dns_clients_start(struct dns *d);
void dns_clients_stop(struct dns *d);
bool dns_may_ask(struct dns *d, const struct addr *peer);
/* One message to a client; what cannot be sent is lost, as it is with UDP. */
void dns_tell(const struct dns_from *from, const uint8_t *msg, size_t len);
/* Whoever has been silent for too long. True while there are TCP clients. */
bool dns_clients_tick(struct dns *d);

/* dns_up.c */

/* False: no proxy is tried now. */
bool dns_up_send(struct dns *d, struct dns_ask *ask);
void dns_up_close(struct dns *d);
void dns_up_init(struct dns *d);
/* Silence that is no answer, and connections that nobody needs. True while there is one. */
bool dns_up_tick(struct dns *d);

#endif
