/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Prewarmed connections: established ones to a proxy on which nothing has been sent, so that a
 * flow's request leaves at once together with all of its first flight. Each worker keeps its own
 * for each upstream; they and everything here are touched by that worker only.
 *
 * When one is used. With a = round trip to the proxy and b = from there to the server, the first
 * byte comes back
 *   on an established connection      after a + 2b, however long the first flight is;
 *   by Fast Open over TCP             after a + 2b, if request and first flight fit into the SYN;
 *   by Fast Open over MPTCP           after a + 2b, but not before 2a: what the proxy says has to
 *                                     wait for the handshake's third packet;
 *   otherwise (Fast Open off or paused, no cookie, no token)  after 2a + 2b;
 *   and a second later yet, without MPTCP, where the path eats SYNs with data.
 * So a ready connection is never worse. It is left for others only where a new one is as good and
 * costs nothing: plain TCP, Fast Open allowed and proven by the last SYN with data, a token, and all
 * that is to be sent fits into the SYN (prewarm_is_better). Such flows do not count as demand.
 *
 * How many. "prewarm = N": N for the proxy, in equal parts of the workers, rounded up. "auto": by
 * demand (demand.h), at most AUTO_MAX for the proxy, at least one for each worker while there is
 * traffic: the kernel chooses the worker that gets the next flow. Without traffic none, after 20 s
 * for a single flow and 50 s at most. Shortly before they are too old there are replacements, so up
 * to twice as many for a moment, and at times one that waits for its end, see below. What each
 * costs: a handshake, a keepalive probe after a second (the answer lets the kernel join further
 * subflows, for which it waits otherwise until data have been acknowledged), the joins, and the end.
 *
 * How long. The proxy closes a client that says nothing; of what is closed while a request is under
 * way nobody knows whether it was executed. sixpath-proxy waits for 60 s (waiting_timeout), older
 * versions and request_timeout of others 10 s. At first a connection is handed out during LIFE_S.
 * Then one that has become too old is kept to see when the proxy closes it; seven tenths of that, at
 * most LIFE_MAX_S, is the age to be kept from then on. This is asked anew every ten minutes.
 * Connections that are closed earlier shorten it.
 *
 * What is handed out has been looked at that moment: no end, no error, nothing received, established,
 * with MPTCP at least one subflow left. What dies is noticed by its end or reset, else within a
 * second; a reset, which is what a restarted proxy answers, empties the store of its upstream, and so
 * does the loss of the session, and so does each change of links, addresses or routes: a connection
 * made before it lacks the subflows that a new one would get. Neither that nor a failed attempt counts against the proxy: what a flow
 * meets does. Where the end of a proxy was not heard of (it lost power, the link was
 * down), the first flow that uses a connection it does not know any more finds out: its request is
 * lost together with the tokens, so nobody knows whether it was executed, and the device gets a reset.
 */
#ifndef REDIR_PREWARM_H
#define REDIR_PREWARM_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/list.h"

struct addr;
struct loopguard_entry;
struct redir_worker;
struct upstream;
struct upstream_grant;

/* Embedded in its worker. */
struct prewarm {
	struct redir_worker *rw;
	struct list stores; /* one for each upstream that needed one */
	ev_io paths;        /* rtnetlink: tells of changes of links, addresses and routes */
	bool stopped;
};

void prewarm_init(struct prewarm *p, struct redir_worker *rw);
/* The worker's pool is there, or is another one: stores of upstreams that are not in it end. */
void prewarm_follow_pool(struct prewarm *p);
/* All connections are closed, and none is made any more. May be called again. */
void prewarm_stop(struct prewarm *p);

/* For len octets of request and first flight: would an established connection be better than a new
 * one? */
bool prewarm_is_better(const struct upstream *up, const struct upstream_grant *g, size_t len);

/* What is known of one. */
struct prewarmed {
	ev_io io;          /* as dial.io */
	unsigned subflows; /* 0: no MPTCP */
};

/* One to this address of the upstream: a descriptor, which is the caller's, and what the loop guard
 * has to know in guard. -1 = none is ready; there will be, next time. */
int prewarm_take(struct prewarm *p, struct upstream *up, const struct addr *addr,
		 struct loopguard_entry *guard, struct prewarmed *out);
/* One that was taken turned out to be dead: so may the others be. */
void prewarm_was_dead(struct prewarm *p, struct upstream *up);

/* How many are ready. */
size_t prewarm_ready(const struct prewarm *p);

#endif
