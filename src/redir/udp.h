/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Captured UDP, and that of the front door (front_udp.h): one for each worker, which it belongs to. A device's datagrams come by TPROXY
 * (udp_listener.c), each address and port of a device has an association with a proxy (assoc.c,
 * found by assoc_table.c), and what comes back is sent in the name of whoever sent it
 * (udp_reply.c): full cone. All of a device's datagrams are handled by one worker, whichever the
 * kernel gave them to.
 */
#ifndef REDIR_UDP_H
#define REDIR_UDP_H

#include <stdbool.h>
#include <stdint.h>

#include "redir/redir_conf.h"

struct redir_worker;
struct report;
struct udp;

/* Of one worker, or their sum. */
struct udp_counters {
	uint64_t associations; /* now */
	uint64_t opened, reformed, expired, evicted;
	uint64_t by_udp, by_tcp, direct; /* how those that were opened got on */
	uint64_t fallbacks;              /* no proxy could be used */
	uint64_t datagrams_up, datagrams_down, bytes_up, bytes_down;
	uint64_t refused; /* by policy, or because there was no proxy */
	uint64_t lost;    /* no room, too big, or of no use */
	uint64_t loops;
	uint64_t icmp;        /* errors sent to devices */
	uint64_t icmp_untold; /* for programs at the front door, which cannot be told */
};

/* Nothing is captured yet. NULL = out of memory. */
struct udp *udp_new(struct redir_worker *rw);
/* The worker's thread has ended. NULL is allowed. */
void udp_free(struct udp *u);

/* On the worker: begin to take datagrams, if and as long as the configuration, or a program at the
 * front door, wants that. */
void udp_begin(struct udp *u);
/* There is a new configuration. */
void udp_follow(struct udp *u);
/* Take no more of devices, end what they have. What is the front door's goes on; the rest ends with
 * it. May be called again. */
void udp_stop(struct udp *u);
/* An association of the front door begins: false if that cannot be. It is in front_udps then, */
bool udp_door_opens(struct udp *u);
/* or has ended. */
void udp_door_left(struct udp *u);

void udp_add_counters(const struct udp *u, struct udp_counters *sum);
void udp_report_counters(struct report *r, const struct udp_counters *c);
/* A row for each association of the worker. */
void udp_report_all(struct udp *u, struct report *r);
/* Octets of a worker's associations, without buffers. */
uint64_t udp_memory(const struct udp *u);

/* Is UDP captured? Then CAP_NET_RAW (ICMP errors) and CAP_NET_BIND_SERVICE (answers in the name of
 * low ports) are needed. */
bool udp_is_wanted(const struct redir_conf *c);

#endif
