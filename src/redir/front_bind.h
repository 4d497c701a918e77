/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BIND of SOCKS 4 and 5 at the front door: a port at a proxy for one peer. The program is told the
 * port, then who has come, and its connection becomes the one to the peer. Belongs to the worker of
 * the connection.
 */
#ifndef REDIR_FRONT_BIND_H
#define REDIR_FRONT_BIND_H

#include <stdint.h>

#include "core/reason.h"

struct front_guest;
struct redir_worker;
struct report;
struct wan_usage;

/* END_NONE: a proxy is being asked. */
enum end_reason front_bind_start(struct redir_worker *rw, const struct front_guest *g);

/* All of a worker's. */
void front_bind_end_all(struct redir_worker *rw, enum end_reason reason);
/* Octets, without buffers. */
uint64_t front_bind_memory(const struct redir_worker *rw);
/* As flow_usage. */
void front_bind_usage(struct redir_worker *rw, struct wan_usage *u);
/* A row for each, as of flow_report_all. */
void front_bind_report_all(struct redir_worker *rw, struct report *r);

#endif
