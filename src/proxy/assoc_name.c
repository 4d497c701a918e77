/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names as destinations. The first datagram to a name waits for its address, and so do those that
 * follow to the same name, in their order and within limits; others pass them by. The address is
 * kept for its time to live, so that a flow does not change its destination with each datagram.
 */
#include <stdlib.h>
#include <string.h>

#include "core/resolve.h"
#include "proxy/udp_priv.h"

#define NAMES_MAX     4         /* names of an association at a time */
#define WAIT_MAX      16        /* datagrams that wait for one of them */
#define WAITING_MAX   (4 << 20) /* octets that wait in a worker */
#define RESOLVING_MAX 512       /* names that a worker asks for at a time */
#define KEEP_MIN_S    2.0       /* an answer is good for so long, also one that there is none, */
#define KEEP_MAX_S    300.0     /* and no longer than this */

struct waiting {
	struct waiting *next;
	size_t len;
	uint8_t data[];
};

struct name {
	struct assoc *a;
	struct s6_address name;  /* port included; type 0: a free place */
	struct resolve *resolve; /* under way, or NULL */
	struct waiting *first, **last;
	unsigned n;
	struct addr addr; /* unset: there is none, */
	bool denied;      /* or none that is allowed */
	double until, used;
};

struct udp_names {
	struct name v[NAMES_MAX];
};

static void drop(struct assoc *a, uint64_t *counter)
{
	a->dropped++;
	(*counter)++;
}

static void forget_waiting(struct name *n)
{
	while (n->first) {
		struct waiting *w = n->first;

		n->first = w->next;
		n->a->u->waiting -= sizeof(*w) + w->len;
		free(w);
	}
	n->last = &n->first;
	n->n = 0;
}

static void forget(struct name *n)
{
	if (n->resolve) {
		resolve_cancel(n->resolve);
		n->a->u->resolving--;
	}
	forget_waiting(n);
	memset(n, 0, sizeof(*n));
}

static bool is_it(const struct name *n, const struct s6_address *name)
{
	return n->name.type == S6_ADDR_NAME && n->name.port == name->port &&
	       n->name.name_len == name->name_len &&
	       memcmp(n->name.u.name, name->u.name, name->name_len) == 0;
}

/* The place of this name, or one for it: a free one, or the one not used for longest that nobody
 * waits for. NULL: all are waited for. */
static struct name *place_of(struct assoc *a, const struct s6_address *name)
{
	struct name *best = NULL;

	for (int i = 0; i < NAMES_MAX; i++) {
		struct name *n = &a->names->v[i];

		if (is_it(n, name))
			return n;
		if (!n->resolve && (!best || n->used < best->used))
			best = n;
	}
	if (best)
		forget(best);
	return best;
}

static void wait_for(struct name *n, const uint8_t *payload, size_t len)
{
	struct udp *u = n->a->u;
	struct waiting *w = NULL;

	if (n->n < WAIT_MAX && u->waiting + sizeof(*w) + len <= WAITING_MAX)
		w = malloc(sizeof(*w) + len);
	if (!w) {
		drop(n->a, &u->counters.unresolved);
		return;
	}
	w->next = NULL;
	w->len = len;
	if (len > 0)
		memcpy(w->data, payload, len);
	u->waiting += sizeof(*w) + len;
	*n->last = w;
	n->last = &w->next;
	n->n++;
}

static void send_now(struct name *n, const uint8_t *payload, size_t len)
{
	struct udp_counters *c = &n->a->u->counters;

	if (addr_family(&n->addr) != AF_UNSPEC)
		udp_send(n->a, &n->addr, payload, len);
	else
		drop(n->a, n->denied ? &c->not_allowed : &c->unresolved);
}

static void resolved(void *owner, enum resolve_error err, const struct addr *addrs,
		     unsigned n_addrs, unsigned min_ttl_s)
{
	struct name *n = owner;
	struct assoc *a = n->a;
	double keep_s = min_ttl_s < KEEP_MAX_S ? min_ttl_s : KEEP_MAX_S;

	n->resolve = NULL;
	n->denied = false;
	a->u->resolving--;
	memset(&n->addr, 0, sizeof(n->addr));
	for (unsigned i = 0; err == RESOLVE_OK && i < n_addrs; i++) {
		struct addr name;

		if (!udp_out_name(&a->remote, &addrs[i], &name))
			continue;
		if (assoc_allows(a, &addrs[i])) {
			n->addr = addrs[i];
			break;
		}
		n->denied = true;
	}
	if (addr_family(&n->addr) == AF_UNSPEC || keep_s < KEEP_MIN_S)
		keep_s = KEEP_MIN_S;
	n->until = worker_now(&a->u->pw->w) + keep_s;
	for (const struct waiting *w = n->first; w && !a->ended; w = w->next)
		send_now(n, w->data, w->len);
	if (a->ended)
		return;
	udp_flush(a->u);
	if (!a->ended)
		forget_waiting(n);
}

static bool ask(struct name *n, const struct s6_address *name)
{
	struct udp *u = n->a->u;

	if (u->resolving >= RESOLVING_MAX)
		return false;
	n->resolve =
		resolve_start(u->pw->resolver, name->u.name, name->port, AF_UNSPEC, resolved, n);
	u->resolving += n->resolve != NULL;
	return n->resolve != NULL;
}

void assoc_name_send(struct assoc *a, const struct s6_address *name, const uint8_t *payload,
		     size_t len)
{
	double now = worker_now(&a->u->pw->w);
	struct name *n = NULL;

	if (!a->names)
		a->names = calloc(1, sizeof(*a->names));
	if (a->names && name->port > 0)
		n = place_of(a, name);
	if (!n) {
		drop(a, &a->u->counters.unresolved);
		return;
	}
	if (n->name.type == 0) {
		n->a = a;
		n->name = *name;
		n->last = &n->first;
	}
	n->used = now;
	if (n->resolve) {
		wait_for(n, payload, len);
	} else if (now < n->until) {
		send_now(n, payload, len);
	} else if (ask(n, name)) {
		wait_for(n, payload, len);
	} else {
		drop(a, &a->u->counters.unresolved);
	}
}

void assoc_name_free(struct assoc *a)
{
	for (int i = 0; a->names && i < NAMES_MAX; i++)
		if (a->names->v[i].name.type)
			forget(&a->names->v[i]);
	free(a->names);
	a->names = NULL;
}

uint64_t assoc_name_memory(const struct udp *u)
{
	return u->waiting;
}
