/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * redir.conf as a snapshot: built and checked as a whole, then immutable and counted. A
 * reload makes a new one; flows keep the one they started with.
 */
#ifndef REDIR_CONF_H
#define REDIR_CONF_H

#include <stdatomic.h>
#include <stdio.h>

#include "core/addr.h"
#include "core/conf.h"
#include "core/list.h"
#include "core/users.h"

enum redir_mode { MODE_TPROXY, MODE_REDIRECT };
enum on_failure { FAILURE_NEXT, FAILURE_DIRECT, FAILURE_REFUSE };

enum rules_backend { RULES_AUTO, RULES_NFT, RULES_IPTABLES, RULES_NONE };
/* What is done with servers known to speak MPTCP. */
enum bypass_action {
	BYPASS_AUTO,  /* SYNs with MP_CAPABLE to them are not captured, others are relayed */
	BYPASS_RELAY, /* nothing by rules */
	BYPASS_RULE   /* no SYN to them is captured */
};

/* What an upstream speaks. */
enum protocol { PROTOCOL_SOCKS6, PROTOCOL_SOCKS5 };
/* What leaves together, to a proxy of SOCKS 5. */
enum pipeline {
	PIPELINE_NO,        /* each message after the reply to the one before */
	PIPELINE_HANDSHAKE, /* method, credentials and request */
	PIPELINE_DATA       /* and the first bytes */
};

#define PREWARM_AUTO (-1)
#define PREWARM_MAX  16

/* [proxy NAME] */
struct proxy_section {
	struct list_node node; /* in redir_conf.proxies, as in the file */
	char *name;
	struct hostport address;
	int protocol; /* enum protocol */
	int pipeline; /* enum pipeline; with SOCKS 5 */
	char *username, *password, *password_file;
	int mptcp, tfo; /* 0 no, 1 yes, 2 auto */
	int priority;
	int weight;   /* 0: for via only */
	int prewarm;  /* connections kept ready, or PREWARM_AUTO */
	int udp_port; /* where it takes datagrams; 0: the port of address */
	char *via;    /* the name of another section, through which it is reached; or NULL or "" */
};

/* A destination is meant by its port or by its address. */
struct verify {
	struct port_list ports;
	struct prefix_list nets;
};

/* How datagrams get to the proxy: plain UDP, inside the association's connection, or the one and, if
 * it does not get through, the other. */
enum udp_transport { UDP_BY_AUTO, UDP_BY_UDP, UDP_BY_TCP };

/* [udp] */
struct udp_conf {
	struct port_list proxy, direct, refuse; /* by destination port; the rest: direct */
	int transport;                          /* enum udp_transport */
	struct port_list udp_ports, tcp_ports;  /* where it is another */
	int max;                                /* associations */
	double idle_s;
};

/* [path NAME] */
struct path_section {
	struct list_node node; /* in redir_conf.paths, as in the file */
	char *name, *device;
	int role; /* enum wan_role */
};

/* What a proxy is told of the server. */
enum names_told { NAMES_NO, NAMES_SNI };

/* [dns]; those marked R need a restart */
struct dns_conf {
	struct addr_list listen; /* R; empty = off */
	struct prefix_list allow;
	char *servers; /* R; for when no proxy works; NULL or "" = the system's */
	bool fallback;
	int cache; /* answers */
	double cache_ttl_s;
};

/* What a forward's server sees of the peer. */
enum forward_source {
	SOURCE_TRANSPARENT, /* its address, as if it had connected directly */
	SOURCE_PROXY_V2,    /* it is told, by the PROXY protocol */
	SOURCE_NONE         /* nothing */
};

#define FORWARD_TARGETS 2 /* one for each family */
#define FORWARDS_MAX    64

/* [forward NAME] */
struct forward_section {
	struct list_node node; /* in redir_conf.forwards, as in the file */
	char *name, *proxy;
	struct addr_list listen; /* one */
	struct addr_list to;
	int source; /* enum forward_source */
	int backlog, ready;
};

struct redir_conf {
	atomic_uint refs;
	/* [redir]; those marked R need a restart */
	struct addr_list listen; /* R */
	int mode;                /* R; enum redir_mode */
	int workers;             /* R; 0 = processors */
	int first_data_ms;
	uint32_t mark; /* R */
	char *user;    /* R */
	int log, log_to;
	char *control;  /* R; NULL or empty = off */
	bool tune;      /* R */
	int memory_mib; /* 0 = auto */
	double drain_s;
	char *state_dir;        /* R; NULL = nothing is kept */
	struct addr_list socks; /* R; the front door; may be empty */
	char *socks_users_file;
	struct users *socks_users; /* NULL: no name is asked for, only this machine is served */
	int socks_max_per_client;
	/* [rules] */
	bool install;
	int backend; /* enum rules_backend */
	struct interface_list capture;
	bool capture_local;
	struct port_list ports;
	struct prefix_list exclude;
	char *scripts; /* R; the directory redirect-rules */
	/* [bypass] */
	bool learn;
	int action; /* enum bypass_action */
	double learned_ttl_s;
	int learned_max; /* entries per family */
	bool save;
	bool learn_passive;
	/* [connect] */
	int on_proxy_failure; /* enum on_failure */
	int balance;          /* enum balance_by */
	double idle_s, dead_s, dial_timeout_s, reply_timeout_s;
	double remember_failed_s; /* 0 = not at all */
	struct verify verify;     /* hold SYNs to these */
	bool dscp;                /* the device's goes all the way */
	int names;                /* enum names_told */
	struct port_list names_ports;
	/* [dns] */
	struct dns_conf dns;
	struct udp_conf udp;
	/* [proxy NAME] */
	struct list proxies;
	/* [path NAME] */
	struct list paths;
	/* [forward NAME] */
	struct list forwards;
};

#define REDIR_DEFAULT_USER "sixpath"

/* proxy: HOST:PORT of --proxy, then path is ignored. NULL when there are errors; they go to
 * errors, or to the log. */
struct redir_conf *redir_conf_load(const char *path, const char *proxy, FILE *errors);
struct redir_conf *redir_conf_get(struct redir_conf *c);
void redir_conf_put(struct redir_conf *c); /* NULL is allowed */

/* Is there anything that verify means? */
bool redir_conf_verifies(const struct redir_conf *c);
/* May devices get ICMP errors: for datagrams, for SYNs that are held, for servers that have failed? */
bool redir_conf_sends_icmp(const struct redir_conf *c);
/* Is there a port that only the privileged may listen on, beside those opened as root? */
bool redir_conf_low_ports(const struct redir_conf *c);
/* The section that p->via names; NULL = none. */
struct proxy_section *redir_conf_via(const struct redir_conf *c, const struct proxy_section *p);

/* The proxy whose port a forward has; NULL = none of that name. */
struct proxy_section *redir_conf_forward_proxy(const struct redir_conf *c,
					       const struct forward_section *f);

/* Is there a forward that connects in its peers' names? */
bool redir_conf_poses(const struct redir_conf *c);

/* There is something for rules to do, and they are wanted: ours, or a script's. */
bool redir_conf_wants_rules(const struct redir_conf *c);

/* The rules that are wanted are a script's (script.h), not the daemon's own. */
bool redir_conf_by_script(const struct redir_conf *c);

/* Names of keys that differ and need a restart, comma separated, into buf. by_script: the rules
 * that are in place are a script's. */
void redir_conf_needs_restart(const struct redir_conf *old, const struct redir_conf *new,
			      bool by_script, char *buf, size_t cap);

#endif
