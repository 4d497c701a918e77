/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Password checks in a thread of their own, because good password hashes are slow by
 * design and must not hold up an event loop. The queue is bounded, in all
 * and for each address. An address that keeps
 * failing is answered "no" without a computation until some time has passed. A password
 * that was right is known for half a minute, so that many connections of a client at once
 * (after a restart) cost one computation.
 */
#ifndef SIXPATH_AUTH_H
#define SIXPATH_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/worker.h"

struct auth;
struct auth_check;

struct auth *auth_new(void); /* NULL = no thread or memory */
/* When nobody asks any more and the workers still take mail. */
void auth_free(struct auth *a);

/* On the worker that asked, once, never from inside auth_start. */
typedef void auth_done_fn(void *owner, bool accepted);

/*
 * Check the password against hash. With known false the answer is no, but it takes as long as
 * hash does. Copies what it is given. NULL with errno EACCES: refuse, it is no password, or this
 * address has failed too often; EAGAIN or ENOMEM: nothing is known of it, the queue is full.
 */
struct auth_check *auth_start(struct auth *a, struct worker *w, const struct addr *from,
			      const char *hash, bool known, const uint8_t *password, size_t len,
			      auth_done_fn *done, void *owner);
/* How many hashes have been computed. */
uint64_t auth_computed(struct auth *a);
/* The owner goes away: done will not be called. On the worker that asked. */
void auth_cancel(struct auth_check *c);

#endif
