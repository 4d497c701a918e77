/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How many associations there may be, and for how long: limits, idle times, who gives way. */
#include <string.h>

#include "core/perclient.h"
#include "proxy/peruser.h"
#include "proxy/udp_priv.h"

/*
 * Time limits, asked for each second
 *   ASSOC_NEW    request_timeout, for the first datagram
 *   ASSOC_DNS    dns_idle: RFC 4787 lets mappings of well-known ports end sooner (REQ-5), and a
 *                resolver has its answer
 *   ASSOC_OTHER  idle, which RFC 4787 wants to be two minutes at least; both directions count
 */
#define EVICT_S   15.0 /* quiet for so long it may give way to a new one */
#define LEAVING_S 2.0  /* the proxy stops: so long without a datagram is the end */

/* ---- quiet ---- */

void assoc_stir(struct assoc *a, enum assoc_class class)
{
	list_remove(&a->u->quiet[a->class], &a->quiet);
	a->class = class;
	a->active = worker_now(&a->u->pw->w);
	list_push(&a->u->quiet[class], &a->quiet);
}

static struct assoc *idlest(struct udp *u, int class)
{
	struct list_node *n = list_first(&u->quiet[class]);

	return n ? container_of(n, struct assoc, quiet) : NULL;
}

static double limit_of(const struct udp *u, int class)
{
	const struct proxy_conf *c = u->pw->conf;
	const double limits[ASSOC_CLASSES] = {[ASSOC_NEW] = c->request_timeout_s,
					      [ASSOC_DNS] = c->udp_dns_idle_s,
					      [ASSOC_OTHER] = c->udp_idle_s};

	return u->leaving && limits[class] > LEAVING_S ? LEAVING_S : limits[class];
}

void assoc_expire(struct udp *u)
{
	double now = worker_now(&u->pw->w);
	struct assoc *a;

	for (int class = 0; class < ASSOC_CLASSES; class ++)
		while ((a = idlest(u, class)) && now - a->active >= limit_of(u, class))
			assoc_end(a,
				  u->leaving           ? END_SHUTDOWN
				  : class == ASSOC_NEW ? END_REQUEST_TIMEOUT
						       : END_IDLE,
				  0);
}

static bool is_of(const struct assoc *a, const struct addr *key, const char *user)
{
	struct addr theirs = perclient_key(&a->tcp_peer);

	return (!key || addr_equal_ip(&theirs, key)) && (!user || strcmp(a->user, user) == 0);
}

static bool evict(struct udp *u, const struct addr *peer, const char *user)
{
	double now = worker_now(&u->pw->w);
	struct addr key = {0};

	if (peer)
		key = perclient_key(peer);
	for (int class = ASSOC_DNS; class < ASSOC_CLASSES; class ++) {
		struct list_node *n, *tmp;

		list_for_each_safe (&u->quiet[class], n, tmp) {
			struct assoc *a = container_of(n, struct assoc, quiet);

			if (now - a->active < EVICT_S)
				break; /* the others are younger */
			if (!is_of(a, peer ? &key : NULL, user))
				continue;
			u->counters.evicted++;
			assoc_end(a, END_LIMIT, 0);
			return true;
		}
	}
	return false;
}

/* ---- places ---- */

static bool take_address(struct udp *u, const struct addr *peer)
{
	const struct proxy_conf *c = u->pw->conf;

	return perclient_take(u->pw->proxy->udp_perclient, peer, (unsigned)c->udp_max_per_client,
			      (unsigned)c->udp_max);
}

static bool make_room(struct udp *u, const struct addr *peer)
{
	bool full = perclient_total(u->pw->proxy->udp_perclient) >= (unsigned)u->pw->conf->udp_max;

	return evict(u, full ? NULL : peer, NULL);
}

static bool take_user(struct udp *u, const char *user)
{
	return peruser_take(u->pw->proxy->udp_peruser, user,
			    (unsigned)u->pw->conf->udp_max_per_user);
}

/* A place for one more; the one that is idle longest gives its place if there is none. */
bool assoc_take_place(struct assoc *a)
{
	struct udp *u = a->u;
	struct proxy *p = u->pw->proxy;
	char text[ADDR_STRLEN];

	if (!take_address(u, &a->tcp_peer) &&
	    !(make_room(u, &a->tcp_peer) && take_address(u, &a->tcp_peer))) {
		log_limited(&u->limit_room, 5, LVL_WARNING,
			    "client %s: too many UDP associations (max_associations = %d, "
			    "max_per_client = %d in [udp]), none of which has been idle for %.0f s",
			    addr_str(&a->tcp_peer, text, sizeof(text)), u->pw->conf->udp_max,
			    u->pw->conf->udp_max_per_client, EVICT_S);
		return false;
	}
	if (!a->user[0])
		return true;
	a->counted_user =
		take_user(u, a->user) || (evict(u, NULL, a->user) && take_user(u, a->user));
	if (a->counted_user)
		return true;
	perclient_give(p->udp_perclient, &a->tcp_peer);
	log_limited(&u->limit_room, 5, LVL_WARNING,
		    "client %s: too many UDP associations of this user (max_per_user = %d in "
		    "[udp]), none of which has been idle for %.0f s",
		    addr_str(&a->tcp_peer, text, sizeof(text)), u->pw->conf->udp_max_per_user,
		    EVICT_S);
	return false;
}

void assoc_give_place(struct assoc *a)
{
	struct proxy *p = a->u->pw->proxy;

	perclient_give(p->udp_perclient, &a->tcp_peer);
	if (a->counted_user)
		peruser_give(p->udp_peruser, a->user);
}
