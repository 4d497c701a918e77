/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The WAN links of [path] sections: what the kernel should have for each (an MPTCP endpoint, and
 * routes for what leaves from the endpoint's address), and how to get there from what it has.
 * Pure: wan_kernel.c reads and writes, wan_keeper.c owns it.
 *
 * What is ours is told by the kernel itself, so that a daemon that was killed leaves nothing
 * that its successor does not find: ip rules and routes have our protocol, and an endpoint is
 * ours if our table has a marker (a `throw` route to its address). What others have made is never
 * changed; their endpoint or rule for the same address is used as it is.
 */
#ifndef REDIR_WAN_H
#define REDIR_WAN_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WAN_PATHS_MAX 8
#define WAN_SEEN_MAX  256   /* of a kind; what is beyond is not looked at */
#define WAN_PROTO     107   /* protocol of our routes and ip rules */
#define WAN_TABLE     10670 /* the first table that is tried */
/* Preferences of our ip rules. From an address: what its link reaches itself, what other links
 * reach themselves (the LAN), the default route. Then the same for our own new connections. */
#define WAN_PREF_NEAR       10670
#define WAN_PREF_MAIN       10671
#define WAN_PREF_FAR        10672
#define WAN_PREF_STEER_MAIN 10673
#define WAN_PREF_STEER      10674
#define WAN_TABLE_MAIN      254
#define WAN_METRIC_NOTHING  0x7fffffffu /* of the route that says: not by another link */

enum wan_family { WAN_V4, WAN_V6, WAN_FAMILIES };

/* Of lesser use: the higher number. */
enum wan_role { WAN_PRIMARY, WAN_BACKUP, WAN_METERED };

struct wan_ip {
	uint8_t family; /* enum wan_family */
	uint8_t b[16];
};

struct wan_conf {                  /* one [path NAME] */
	const char *name, *device; /* a name, or a pattern with * and ? */
	enum wan_role role;
};

/* ---- what the kernel has ---- */

struct wan_link {
	unsigned index;
	char name[IF_NAMESIZE];
	bool up, carrier;
	uint64_t rx, tx; /* octets */
};

struct wan_addr {
	unsigned link;
	struct wan_ip ip;
	uint8_t len;
	bool global, usable; /* usable: not tentative, deprecated, or failed */
	bool temporary, secondary;
};

/* A default route (one leg of it), in any table; not one of ours. */
struct wan_default {
	unsigned link;
	uint8_t family;
	uint32_t table, metric;
	bool gateway;
	struct wan_ip via; /* if gateway; of either family */
	bool has_src;
	struct wan_ip src;
};

enum wan_route_kind { WAN_ROUTE_UNICAST, WAN_ROUTE_NOTHING, WAN_ROUTE_MARKER };

/* One of ours. */
struct wan_route {
	uint32_t table;
	enum wan_route_kind kind;
	struct wan_ip dst;
	uint8_t len;
	/* of unicast ones */
	unsigned link;
	bool gateway;
	struct wan_ip via;
	struct wan_ip src;
};

struct wan_rule {
	uint8_t family;
	uint32_t pref, table;
	uint8_t len; /* of the source prefix; 0 = any */
	struct wan_ip src;
	uint32_t mark;     /* 0 = any */
	bool not_default;  /* ours: suppress_prefixlength 0 */
	bool ours, narrow; /* narrow: asks for more than the source */
};

struct wan_endpoint {
	struct wan_ip ip;
	uint8_t id;
	bool subflow, backup, other; /* other: flags that we never set */
	unsigned link;               /* 0 = any */
};

struct wan_seen {
	struct wan_link links[WAN_SEEN_MAX];
	struct wan_addr addrs[WAN_SEEN_MAX];
	struct wan_default defaults[WAN_SEEN_MAX];
	struct wan_route routes[WAN_SEEN_MAX];
	struct wan_rule rules[WAN_SEEN_MAX];
	struct wan_endpoint endpoints[WAN_SEEN_MAX];
	size_t n_links, n_addrs, n_defaults, n_routes, n_rules, n_endpoints;
	unsigned way
		[WAN_FAMILIES]; /* the link by which the kernel would reach strangers; 0 = none */
	uint32_t limit_subflows, limit_add_addr;
};

/* ---- what it should have ---- */

enum wan_state {
	WAN_UP,
	WAN_NO_DEVICE,
	WAN_LINK_DOWN,
	WAN_NO_CARRIER,
	WAN_NO_ADDRESS,
	WAN_SAME_ADDRESS, /* as another path: nothing can tell them apart */
	WAN_HELD /* gone, but no other link is left: the endpoint stays, in case it returns */
};

/* A path in one family. */
struct wan_leg {
	enum wan_state state;
	unsigned link;
	struct wan_ip ip; /* if up or held */
	uint8_t len;
	int same_as;                         /* WAN_SAME_ADDRESS: the path */
	bool backup;                         /* the endpoint's flag */
	bool foreign_endpoint, foreign_rule; /* an administrator's are used */
	bool has_default;
	uint8_t endpoint_id; /* as seen; 0 = none yet */
};

#define WAN_LEG_ROUTES 4 /* of ours, at most */
#define WAN_LEG_RULES  3

/* What has to be remembered of a path from one time to the next. */
struct wan_memory {
	char name[64];
	unsigned link;
	bool have[WAN_FAMILIES];
	struct wan_ip ip[WAN_FAMILIES];
};

struct wan_plan {
	size_t n_paths;
	unsigned link[WAN_PATHS_MAX]; /* the device; 0 = none */
	struct wan_leg leg[WAN_PATHS_MAX][WAN_FAMILIES];
	int steer[WAN_FAMILIES]; /* new connections of ours begin on this path; -1 = as routed */
	bool only_metered;       /* no other path is up, in no family */
	/* all that shall be there, and nothing else of ours */
	struct wan_route routes[WAN_PATHS_MAX * WAN_FAMILIES * WAN_LEG_ROUTES];
	struct wan_rule rules[WAN_PATHS_MAX * WAN_FAMILIES * WAN_LEG_RULES + WAN_FAMILIES * 2];
	struct wan_endpoint endpoints[WAN_PATHS_MAX * WAN_FAMILIES];
	size_t n_routes, n_rules, n_endpoints;
};

/* Plan for n paths. tables: n free routing tables, one for each. mark: of our own sockets, 0 =
 * none. mem: WAN_PATHS_MAX of them, zero at first; is brought up to date. */
void wan_plan(struct wan_plan *plan, const struct wan_conf *confs, size_t n, const uint32_t *tables,
	      uint32_t mark, const struct wan_seen *seen, struct wan_memory *mem);

enum wan_verb {
	WAN_DEL_ENDPOINT,
	WAN_ADD_ROUTE,
	WAN_ADD_RULE,
	WAN_DEL_RULE,
	WAN_DEL_ROUTE,
	WAN_ADD_ENDPOINT,
	WAN_SET_BACKUP
};

struct wan_action {
	enum wan_verb verb;
	const void *what; /* struct wan_endpoint, wan_route or wan_rule; of plan or seen */
};

/* The steps from seen to plan, in the order they have to be taken. At most cap of them; how
 * many. */
size_t wan_diff(const struct wan_plan *plan, const struct wan_seen *seen, struct wan_action *out,
		size_t cap);
#define WAN_ACTIONS_MAX 512

bool wan_ip_equal(const struct wan_ip *x, const struct wan_ip *y);
uint8_t wan_ip_bits(const struct wan_ip *ip); /* 32 or 128 */
/* Does the endpoint's address have a marker of ours? */
bool wan_endpoint_is_ours(const struct wan_seen *seen, const struct wan_endpoint *e);
const char *wan_role_str(enum wan_role role);
const char *wan_state_str(enum wan_state state);

#endif
