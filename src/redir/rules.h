/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's own capture rules: nft table `inet sixpath`, policy routing, and the
 * administrator's table `inet sixpath_user` in front of it.
 *
 * `inet sixpath` belongs to our netlink socket (nft flag `owner`): others can neither change nor
 * flush it, and it vanishes with the process, however that ends. `inet sixpath_user` is a plain
 * table, created when it is missing and then left alone; what is in its sets decides first.
 *
 * struct rules has one owner and is used by the main thread only.
 */
#ifndef REDIR_RULES_H
#define REDIR_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/conf.h"
#include "redir/redir_conf.h"

/* The first five numbers are those of redirect-rules/common.sh: change them there too. */
#define RULES_FWMARK      0x2U    /* bit in the mark of captured packets: deliver to this host */
#define RULES_TABLE       100     /* routing table that does so; the next free one if it is taken */
#define RULES_RULE_PREF   10660   /* preference of our ip rules */
#define RULES_ROUTE_PROTO 106     /* protocol of our routes and ip rules */
#define RULES_MARK        0x5061U /* default mark of our own sockets */
/* Bits in which sixpath_user tells sixpath what it has decided; cleared again by sixpath. */
#define RULES_USER_BYPASS 0x4U
#define RULES_USER_PROXY  0x8U
#define RULES_USER_MASK   (RULES_USER_BYPASS | RULES_USER_PROXY)

/* While verify holds a SYN: the bit says so, and an answer other than to let it go on is told to
 * our table as the whole of the mark. Neither has a bit of the above. */
#define RULES_HELD       0x10U
#define RULES_REFUSED(n) (0x53580000U | (uint32_t)(n) << 8) /* n: enum held_answer */

#define RULES_NFT_TABLE     "sixpath"
#define RULES_USER_TABLE    "sixpath_user"
#define RULES_STANDIN_TABLE "sixpath_standin"

/* Sets of servers that have just failed, by what a SYN to them is answered with: this, then
 * failed_answer_str, then 4 or 6. */
#define RULES_FAILED "failed_"

/* Plain data; what it points to is only read during the call that takes it. */
struct rules_conf {
	enum redir_mode mode;
	uint16_t port; /* our listener */
	/* Its address, tproxy only; unspecified family: any. Nobody listens for a family: of that
	 * nothing is captured. */
	struct addr to4, to6;
	bool deaf4, deaf6;
	uint32_t mark;              /* of our own sockets; none of the bits above */
	const char *const *capture; /* names of interfaces */
	size_t n_capture;
	bool capture_local;             /* this host's own connections too */
	const struct port_range *ports; /* destinations; none = all */
	size_t n_ports;
	struct prefix_list exclude; /* beyond those that are never captured */
	enum bypass_action action;  /* what is done with servers known to speak MPTCP */
	bool learn_passive;
	const struct port_range *verify; /* hold SYNs to these; tproxy only */
	size_t n_verify;
	struct prefix_list verify_nets; /* and to these; neither = hold nothing */
	/* UDP, tproxy only: destination ports to capture, of them those not to, those to refuse */
	struct port_list udp_proxy, udp_direct, udp_refuse;
	/* Servers of the LAN that answer to peers in whose names we connect ([forward] with source =
	 * transparent): their packets are delivered to this host. */
	const struct addr *servers;
	size_t n_servers;
	bool script;    /* one of redirect-rules makes them: there is no inet sixpath_user */
	bool refuse;    /* SYNs to servers that have just failed (failed.h) */
	bool queue;     /* nft can queue (rules_have_queue), else iptables.sh --only-verify does */
	bool v6;        /* this host has IPv6 */
	bool stand_in;  /* at rules_open: the table is another daemon's yet, see rules_take_over */
	bool owner;     /* ask for the owner flag; false: the table outlives a killed daemon */
	uint32_t table; /* first routing table to try; 0 = RULES_TABLE */
};

/* ---- what the configuration means (rules_conf.c): pure ---- */

#define RULES_SERVERS (FORWARDS_MAX * FORWARD_TARGETS)

struct rules_room { /* what there is for struct rules_conf to point to, beside the configuration */
	const char **names;
	struct addr servers[RULES_SERVERS];
	size_t n_servers;
};
/* Valid as long as c and room are. queue, v6, owner and stand_in are not the configuration's to say.
 * False: out of memory. */
bool rules_conf_of(struct rules_conf *out, const struct redir_conf *c, struct rules_room *room);
void rules_room_free(struct rules_room *room); /* what it points to */

/* Nobody listens for this family. */
bool rules_conf_deaf(const struct redir_conf *c, sa_family_t family);
/* NULL, or why connections would not arrive where we listen. */
const char *rules_conf_listen_bad(const struct redir_conf *c);

/* Packets have to be delivered to this host that are not addressed to it. */
bool rules_conf_routes(const struct rules_conf *c);
bool rules_conf_wants_held(const struct rules_conf *c); /* some SYNs are to be held (verify) */
bool rules_conf_wants_udp(const struct rules_conf *c);  /* datagrams are to be captured */
struct rules_bad {
	const char *section, *key; /* of redir.conf */
	const char *why;           /* what is wrong, with the key's name in it; NULL when good */
};
struct rules_bad rules_conf_look(const struct rules_conf *c);
const char *rules_conf_bad(const struct rules_conf *c); /* only why */

/* ---- the text (rules_text.c): pure ---- */

/* Definition of `inet sixpath`, its upstream sets empty. malloc; NULL = out of memory. */
char *rules_text(const struct rules_conf *c);
/* What keeps captured connections going while `inet sixpath` is nobody's (table `inet
 * sixpath_standin`). malloc. */
char *rules_text_stand_in(const struct rules_conf *c);
/* Commands that give the upstream sets these addresses and no others. malloc. */
char *rules_text_upstreams(const struct addr *v, size_t n, bool v6);
/* Definition of `inet sixpath_user`. malloc. */
char *rules_text_user(uint32_t own_mark);

/* ---- in the kernel (rules_nft.c) ---- */

struct rules;

/* Built with libnftables, and is it on this machine? */
bool rules_built_in(void);

/*
 * Put rules and policy routing in place. 0 or -errno, with the reason logged:
 * -EINVAL   the configuration (rules_conf_bad says why)
 * -ENOSYS   built without libnftables; -ENOENT: it is not on this machine
 * -EOPNOTSUPP this kernel or library has no owner flag: try again with owner = false, or use the
 *           scripts in redirect-rules/
 * -EADDRINUSE the routing table and the following ones are used by others
 * -EPERM    no CAP_NET_ADMIN, or the table belongs to another process.
 * Needs CAP_NET_ADMIN now and as long as it is open, not root.
 */
int rules_open(struct rules **out, const struct rules_conf *c, const struct addr *upstreams,
	       size_t n);
/* Whether nft here can send packets to a queue. */
bool rules_have_queue(void);
/* Take down exactly what rules_open and rules_check put in place. NULL is allowed. */
void rules_close(struct rules *r);

/*
 * From one daemon to the next, without a moment in which a captured connection's packets go astray
 * (they would reach its server, which answers a reset):
 *   successor    rules_open with stand_in: policy routing, and a table that only lets connections
 *                go on that are captured already
 *   predecessor  rules_hand_over, in place of rules_close: its table goes, the routing stays
 *   successor    rules_take_over: its table in, the stand-in out, in one transaction
 * In between new connections are not captured.
 */
void rules_hand_over(struct rules *r); /* NULL is allowed */
/* 0 or -errno; then rules_check tries again each second. */
int rules_take_over(struct rules *r);

/* Capture no new connections, or do again; what is captured goes on. Stays in force over loading.
 * 0 or -errno. */
int rules_pause(struct rules *r, bool pause);

/* Other rules, in one transaction; on failure the old ones stay. Empties the learned sets:
 * reconcile them afterwards. table and v6 stay as they were at rules_open. 0 or -errno. */
int rules_set_conf(struct rules *r, const struct rules_conf *c);
/* The upstream proxies' addresses (ports do not matter); costs nothing when they are the same.
 * 0 or -errno; either way they are in force after the next load. */
int rules_set_upstreams(struct rules *r, const struct addr *v, size_t n);

#define RULES_RELOADED 1 /* the table was lost and is back; its learned sets are empty: reconcile */
/*
 * To be called each second: puts back what others have removed (table, sixpath_user, ip rules,
 * routes). Costs a few small netlink requests. 0, RULES_RELOADED or -errno (logged once for each
 * cause; the next call tries again).
 */
int rules_check(struct rules *r);

/* Servers in SYN+ACKs with MP_CAPABLE on connections that were not captured, as the kernel has
 * collected them within the last ten minutes (learn_passive). 0 or -errno. */
typedef void rules_seen_fn(void *ctx, const struct addr *server);
int rules_seen(struct rules *r, rules_seen_fn *fn, void *ctx);

/* Packets that each deciding rule has seen, by chain ("capture", "capture_local") and the name
 * in the rule's comment ("local", "user-bypass", "upstream", "user-proxy", "exclude", "mp-join",
 * "learned", "port", "paused", "failed", "capture", "no-listener", "own"; for
 * datagrams chains "capture_udp" and "capture_udp_local", and "reply", "refused", "direct"). 0 or
 * -errno. */
typedef void rules_counter_fn(void *ctx, const char *chain, const char *name, uint64_t packets);
int rules_counters(struct rules *r, rules_counter_fn *fn, void *ctx);

struct rules_state {
	bool loaded;
	bool owned;          /* the table vanishes with us */
	uint32_t table;      /* routing table in use; 0 in redirect mode */
	uint64_t reloads;    /* how often others have removed it */
	const char *trouble; /* last error, or "" */
};
void rules_get_state(const struct rules *r, struct rules_state *s);

/* For back ends of the learned sets: run commands in the socket that owns the table, as one
 * transaction. 0 or -errno; -ESTALE: the table was lost (and loaded again if that was possible;
 * rules_check will say so). */
int rules_command(struct rules *r, const char *text);
struct netlink;
struct netlink *rules_netlink(struct rules *r); /* for reading */

#endif
