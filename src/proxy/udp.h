/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a worker has for UDP: the sockets that clients send to (udp_listen), its associations, and
 * the memory that batches of datagrams pass through.
 */
#ifndef PROXY_UDP_H
#define PROXY_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct proxy_worker;
struct report;
struct udp;

struct udp_counters {
	uint64_t opened, confirmed, confirmed_tcp, evicted;
	uint64_t up, down, bytes_up, bytes_down; /* datagrams relayed, and their payload */
	uint64_t errors;                         /* Error messages sent */
	/* dropped */
	uint64_t malformed;  /* a packet that is no message a client may send */
	uint64_t unknown_id; /* no such association */
	uint64_t elsewhere;  /* not from where its first datagram came */
	uint64_t unproven;   /* first datagram from an address that its TCP connection has not */
	uint64_t not_allowed;
	uint64_t unresolved;  /* to a name without an address, or too many wait for one */
	uint64_t send_failed; /* the kernel did not take it, towards the remote host */
	uint64_t slow_client; /* nor towards the client */
	uint64_t too_long;    /* with its header longer than a message may be */
};

/* Before privileges are dropped and threads start: 0, or an exit code (logged). */
int udp_open(struct proxy_worker *pw);
/* Begin to take datagrams in. On the worker. */
void udp_start(struct udp *u);
/* No new associations come. Those by plain UDP end if a successor has the sockets now; all others
 * when they have been quiet for a moment. */
void udp_leave(struct udp *u, bool handed_over);
void udp_free(struct udp *u); /* after the worker's clients; NULL is allowed */

/* The descriptors of the sockets that clients send to; cap of them at most. How many. */
size_t udp_fds(const struct udp *u, int *out, size_t cap);
size_t udp_ports(const struct udp *u); /* how many there are */

/* On the worker: octets for associations; how many of these there are; what has been counted. */
uint64_t udp_memory(const struct udp *u);
uint64_t udp_count(const struct udp *u);
void udp_add_counters(const struct udp *u, struct udp_counters *sum);

/* The object "udp" of a status. */
void udp_report(struct report *r, uint64_t associations, uint64_t max,
		const struct udp_counters *sum);

#endif
