/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of UDP share: udp.c (a worker's whole), udp_port.c (sockets that clients send to),
 * assoc.c (life of an association), assoc_limit.c (how many, how long), assoc_tcp.c (its messages
 * inside TCP), assoc_name.c (names as destinations), udp_batch.c (many datagrams at a time).
 */
#ifndef PROXY_UDP_PRIV_H
#define PROXY_UDP_PRIV_H

#include <ev.h>

#include "core/buf.h"
#include "core/list.h"
#include "core/log.h"
#include "core/worker.h"
#include "proxy/assoc.h"
#include "proxy/assoc_table.h"
#include "proxy/proxy.h"
#include "proxy/udp.h"
#include "proxy/udp_batch.h"
#include "proxy/udp_error.h"
#include "proxy/udp_out.h"

struct udp_names;
struct udp_port;

/* By what limit it ends when it is quiet. */
enum assoc_class {
	ASSOC_NEW,   /* no datagram has come: request_timeout */
	ASSOC_DNS,   /* all of them went to port 53: dns_idle */
	ASSOC_OTHER, /* idle */
	ASSOC_CLASSES
};

enum assoc_path { ASSOC_PATH_NONE, ASSOC_PATH_TCP, ASSOC_PATH_UDP };

struct assoc {
	struct assoc_node node;
	struct list_node quiet; /* in udp.quiet[class]; idlest first */
	enum assoc_class class;
	struct corpse corpse;
	struct udp *u;
	struct proxy_conf *conf; /* a reference */
	assoc_done_fn *done;
	void *owner;
	bool ended;
	struct addr tcp_peer; /* the client's */
	const char *user;     /* its owner's */
	double active;        /* worker_now of the last datagram */
	bool counted_user;

	/* the connection */
	int tcp; /* borrowed; -1 before assoc_run */
	struct buf *in, out;
	ev_io tcp_read, tcp_write;
	struct sndlimit *limit; /* the client's, while it is needed, or NULL */
	uint64_t tcp_out;       /* octets written */
	ev_timer pause;         /* there is no room by that limit until then */

	/* the way to the client */
	enum assoc_path path;
	struct udp_port *port; /* plain UDP: by this socket, */
	struct addr peer, at;  /* to there from here */
	int tos, ttl;          /* of packets to the client, or -1 */

	/* the way to remote hosts */
	struct udp_out remote;
	ev_io io;
	bool reserved;           /* the counterpart of its port is, and counts as a connection */
	struct addr last;        /* the last destination, */
	bool last_allowed;       /* and what the access list says about it */
	struct udp_names *names; /* NULL until a datagram goes to one */
	bool dns, not_dns;       /* some went to port 53; some to others */
	bool segments;           /* of dgram_send, both ways */
	bool look_for_errors;    /* whether or not reading says that there is one */

	uint64_t up, down, bytes_up, bytes_down, errors, dropped;
};

/* A socket that clients send to; the workers' share an address. */
struct udp_port {
	struct udp *u;
	struct addr addr;
	int fd;
	sa_family_t family;
	ev_io io;
};

struct udp {
	struct proxy_worker *pw;
	struct assoc_table table;
	struct list quiet[ASSOC_CLASSES];
	struct udp_port *ports;
	size_t n_ports;
	struct udp_batch in;  /* what has been read, from clients or from remote hosts */
	struct udp_batch out; /* what goes to remote hosts, of one association at a time: */
	struct assoc *out_of; /* this one's; payload lies in `in` or in a TCP buffer */
	ev_timer tick;
	bool leaving;
	size_t waiting; /* octets of datagrams that wait for a name's address */
	unsigned resolving;
	unsigned strays; /* packets of other workers' associations, on their way to these */
	struct udp_counters counters;
	struct log_limit limit_unproven, limit_room;
};

/* ---- udp.c ---- */

/* Send what is in u->out. */
void udp_flush(struct udp *u);
/* One datagram of a's towards an address that is allowed; payload must live until udp_flush. */
void udp_send(struct assoc *a, const struct addr *dst, const uint8_t *payload, size_t len);

/* ---- udp_port.c ---- */

int udp_ports_open(struct udp *u); /* 0 or an exit code */
void udp_ports_close(struct udp *u);
/* The first n of u->in, made ready by udp_batch_put_header, to a's client. How many were taken; those
 * that were not are the last ones. */
unsigned udp_port_send(struct assoc *a, unsigned n);
/* One message without a batch. */
void udp_port_tell(struct assoc *a, const uint8_t *msg, size_t len);

/* ---- assoc.c ---- */

/* A datagram from its client, which is where it should be from. The caller flushes. */
void assoc_datagram(struct assoc *a, const struct s6_udp *msg);
/* The first one: false if this is not the way. port NULL: inside TCP. */
bool assoc_map(struct assoc *a, struct udp_port *port, const struct addr *peer,
	       const struct addr *at);
void assoc_end(struct assoc *a, enum end_reason reason, int err);
/* May a datagram go there? */
bool assoc_allows(struct assoc *a, const struct addr *dst);
/* Tell what is in the error queue, but not what was local, where sending has failed: the MTU that the
 * last one of these tells, or 0. */
uint32_t assoc_read_errors(struct assoc *a);
/* An Error message, if the client wants them. */
void assoc_tell_error(struct assoc *a, const struct udp_error *e);
/* Read what has arrived for it, or let it wait in the socket. */
void assoc_listen(struct assoc *a, bool on);
/* ---- assoc_limit.c ---- */

/* A place among all, of its address and of its user; one that is idle makes room. False: there is
 * none, which is logged. */
bool assoc_take_place(struct assoc *a);
void assoc_give_place(struct assoc *a);
/* A datagram came or went. */
void assoc_stir(struct assoc *a, enum assoc_class class);
/* End those whose limit is over. */
void assoc_expire(struct udp *u);

/* ---- assoc_tcp.c ---- */

void assoc_tcp_start(struct assoc *a);
void assoc_tcp_stop(struct assoc *a);
/* Whole messages: all of it, or none. False = the client is too slow. */
bool assoc_tcp_tell(struct assoc *a, const uint8_t *msg, size_t len);
/* As udp_port_send. */
unsigned assoc_tcp_send(struct assoc *a, unsigned n);

/* ---- assoc_name.c ---- */

/* A datagram to a name: sent, kept until there is an address, or dropped and counted. */
void assoc_name_send(struct assoc *a, const struct s6_address *name, const uint8_t *payload,
		     size_t len);
void assoc_name_free(struct assoc *a);
uint64_t assoc_name_memory(const struct udp *u);

#endif
