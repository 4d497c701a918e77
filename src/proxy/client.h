/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One client connection of the proxy, from accept to its log line. Belongs to the worker
 * that accepted it and frees itself when it has ended.
 */
#ifndef PROXY_CLIENT_H
#define PROXY_CLIENT_H

#include "core/addr.h"
#include "core/reason.h"

struct client;
struct proxy_worker;
struct report;

/* A new connection is over the limits: end one that waits, of the same address, or of any if all is
 * full. False if there is none on this worker that has waited for a second at least. */
bool client_make_room(struct proxy_worker *pw, const struct addr *peer, bool all_full);

/* Takes the descriptor and, if counted, the place that perclient_take gave; otherwise there are too
 * many, and the client is only told so. */
void client_start(struct proxy_worker *pw, int fd, const struct addr *peer, bool counted);

/* End those that have not asked for anything yet, unless they do within two seconds: their request may be on
 * its way. */
void client_end_silent(struct proxy_worker *pw);

/* End all clients of a worker. */
void client_end_all(struct proxy_worker *pw, enum end_reason reason);

/* A row for each client of the worker. */
void client_report_all(struct proxy_worker *pw, struct report *r);

#endif
