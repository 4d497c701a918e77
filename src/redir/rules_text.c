/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rules as text for nft. The same rules as redirect-rules/nft.sh writes, and the sets that
 * change at run time.
 *
 * A SYN passes `capture` from the top; the first rule that fits decides, and each counts under
 * the name in its comment. `return` there means: not captured.
 */
#include "redir/rules.h"

#include "redir/failed.h"
#include "redir/held.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SYN        "tcp flags & (fin|syn|rst|ack) == syn"
#define SYNACK     "tcp flags & (fin|syn|rst|ack) == (syn|ack)"
#define MARKED_LO  "iifname \"lo\" meta mark & 0x00000002 == 0x00000002" /* RULES_FWMARK */
#define CLEAR_MASK (~RULES_USER_MASK)
#define SEEN_MAX   4096 /* for each family; each costs the kernel about 100 octets */
#define SEEN_TIME  "10m"
_Static_assert(RULES_FWMARK == 0x2, "as in MARKED_LO");

/* Never captured, whatever the configuration says: this host, link-local, multicast, reserved.
 * The same as in redirect-rules/common.sh. */
#define ALWAYS4 "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"
#define ALWAYS6 "::/127", "fe80::/10", "ff00::/8"
static const char *const always4[] = {ALWAYS4, NULL};
static const char *const always6[] = {ALWAYS6, NULL};

/* ---- pieces ---- */

/* A set of networks. */
static void put_networks(FILE *f, const char *name, bool v4, const char *const *always,
			 const struct prefix_list *more)
{
	sa_family_t family = v4 ? AF_INET : AF_INET6;
	char text[ADDR_STRLEN];
	bool any = false;

	fprintf(f, "\tset %s%c {\n\t\ttype %s\n\t\tflags interval\n\t\tauto-merge\n", name,
		v4 ? '4' : '6', v4 ? "ipv4_addr" : "ipv6_addr");
	for (size_t i = 0; always && always[i]; i++, any = true)
		fprintf(f, "%s%s", any ? ", " : "\t\telements = { ", always[i]);
	for (size_t i = 0; i < more->n; i++) {
		if (addr_family(&more->v[i].base) != family)
			continue;
		fprintf(f, "%s%s/%u", any ? ", " : "\t\telements = { ",
			addr_ip_str(&more->v[i].base, text, sizeof(text)), more->v[i].bits);
		any = true;
	}
	fprintf(f, "%s\t}\n", any ? " }\n" : "");
}

/* What a SYN to a server that has just failed is answered with, as held ones are. */
static const struct {
	enum held_answer answer;
	const char *with;
} answers[] = {
	{HELD_RESET, "tcp reset"},
	{HELD_HOST_UNREACHABLE, "icmpx host-unreachable"},
	{HELD_NET_UNREACHABLE, "icmpx no-route"},
	{HELD_PROHIBITED, "icmpx admin-prohibited"},
};
#define ANSWERS (sizeof(answers) / sizeof(answers[0]))

/* The sets of one family, "4" or "6". */
static void put_sets(FILE *f, const struct rules_conf *c, char n)
{
	bool v4 = n == '4';
	const char *type = v4 ? "ipv4_addr" : "ipv6_addr";

	put_networks(f, "exclude", v4, v4 ? always4 : always6, &c->exclude);
	if (c->verify_nets.n > 0)
		put_networks(f, "verify", v4, NULL, &c->verify_nets);
	fprintf(f, "\tset upstream%c {\n\t\ttype %s\n\t}\n", n, type);
	fprintf(f, "\tset learned%c {\n\t\ttype %s . inet_service\n\t\tflags timeout\n\t}\n", n,
		type);
	for (size_t i = 0; c->refuse && i < ANSWERS; i++)
		fprintf(f,
			"\tset " RULES_FAILED "%s%c {\n\t\ttype %s . inet_service\n\t\tflags "
			"timeout\n\t}\n",
			failed_answer_str(answers[i].answer), n, type);
	if (c->learn_passive)
		fprintf(f,
			"\tset seen%c {\n\t\ttype %s . inet_service\n\t\tsize %d\n"
			"\t\tflags dynamic,timeout\n\t\ttimeout " SEEN_TIME "\n\t}\n",
			n, type, SEEN_MAX);
}

/* Empty, but for `tcp` while no new connections are to be captured. */
static void put_paused_set(FILE *f)
{
	fprintf(f, "\tset paused {\n\t\ttype inet_proto\n\t}\n");
}

static void put_ifaces(FILE *f, const struct rules_conf *c, const char *key)
{
	fprintf(f, "\t\t%s { ", key);
	for (size_t i = 0; i < c->n_capture; i++)
		fprintf(f, "%s\"%s\"", i ? ", " : "", c->capture[i]);
	fprintf(f, " } ");
}

static bool all_ports(const struct rules_conf *c)
{
	return c->n_ports == 0 ||
	       (c->n_ports == 1 && c->ports[0].first == 1 && c->ports[0].last == 65535);
}

static void put_ranges(FILE *f, const struct port_range *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		fprintf(f, "%s%u", i ? ", " : "", v[i].first);
		if (v[i].last != v[i].first)
			fprintf(f, "-%u", v[i].last);
	}
}

static void put_ports(FILE *f, const struct rules_conf *c)
{
	if (all_ports(c))
		return;
	fprintf(f, "\t\ttcp dport != { ");
	put_ranges(f, c->ports, c->n_ports);
	fprintf(f, " } counter return comment \"port\"\n");
}

/* Rules for both families: format has %s for "ip" or "ip6" and %c for the set's number. */
#define PUT_BOTH(f, c, format)                                                                     \
	do {                                                                                       \
		fprintf(f, format, "ip", '4');                                                     \
		if ((c)->v6)                                                                       \
			fprintf(f, format, "ip6", '6');                                            \
	} while (0)

/* What begins each chain that takes a SYN: whether it is to be taken at all. */
static void put_unless(FILE *f, const struct rules_conf *c)
{
	fprintf(f, "\t\tmeta l4proto @paused counter return comment \"paused\"\n");
	for (size_t i = 0; c->refuse && i < ANSWERS; i++)
		for (int v6 = 0; v6 <= c->v6; v6++)
			fprintf(f,
				"\t\t%s daddr . tcp dport @" RULES_FAILED
				"%s%c counter reject with %s comment \"failed\"\n",
				v6 ? "ip6" : "ip", failed_answer_str(answers[i].answer),
				v6 ? '6' : '4', answers[i].with);
}

static void put_learned(FILE *f, const struct rules_conf *c)
{
	if (c->action == BYPASS_RULE)
		PUT_BOTH(
			f, c,
			"\t\t%s daddr . tcp dport @learned%c counter return comment \"learned\"\n");
	else if (c->action == BYPASS_AUTO)
		PUT_BOTH(f, c,
			 "\t\ttcp option mptcp subtype 0 %s daddr . tcp dport @learned%c counter "
			 "return comment \"learned\"\n");
}

/* Of what is not captured at all. */
static void put_families(FILE *f, const struct rules_conf *c)
{
	if (c->deaf4)
		fprintf(f, "\t\tmeta nfproto ipv4 return\n");
	if (!c->v6 || c->deaf6)
		fprintf(f, "\t\tmeta nfproto ipv6 return\n");
}

/* A rule: what fits goes to our listener, and then on as `then` says. A family that has no listener
 * at an address of its own does not fit. */
static void put_to(FILE *f, const struct rules_conf *c, const char *match, const char *then)
{
	char text[ADDR_STRLEN];

	if (addr_family(&c->to4) == AF_UNSPEC && addr_family(&c->to6) == AF_UNSPEC) {
		fprintf(f, "\t\t%s tproxy to :%u %s\n", match, c->port, then);
		return;
	}
	for (int v6 = 0; v6 <= c->v6; v6++) {
		struct addr plain = v6 ? c->to6 : c->to4;
		const char *ip = v6 ? "ip6" : "ip";

		if (v6 ? c->deaf6 : c->deaf4)
			continue;
		if (v6)
			plain.u.in6.sin6_scope_id = 0; /* nft knows no %scope */
		if (addr_family(&plain) == AF_UNSPEC)
			fprintf(f, "\t\t%s tproxy %s to :%u %s\n", match, ip, c->port, then);
		else
			fprintf(f, "\t\t%s tproxy %s to %s %s\n", match, ip,
				addr_str(&plain, text, sizeof(text)), then);
	}
}

/* The same, with the mark that has it delivered to this host. */
static void put_to_marked(FILE *f, const struct rules_conf *c, const char *proto, uint32_t keep)
{
	char match[32], then[128];

	snprintf(match, sizeof(match), "meta l4proto %s", proto);
	snprintf(then, sizeof(then),
		 "meta mark set meta mark & 0x%08x | 0x%08x counter accept comment \"capture\"",
		 keep, RULES_FWMARK);
	put_to(f, c, match, then);
}

/* What decides about a SYN; `take` does with it what the mode wants. */
static void put_capture(FILE *f, const struct rules_conf *c, const char *name, const char *take)
{
	fprintf(f, "\tchain %s {\n", name);
	put_families(f, c);
	/* The user's bits may be in the mark already. */
	fprintf(f, "\t\tmeta mark & 0x%08x == 0x%08x counter return comment \"own\"\n", CLEAR_MASK,
		c->mark);
	fprintf(f, "\t\tfib daddr type { local, broadcast, anycast, multicast } counter return "
		   "comment \"local\"\n");
	fprintf(f, "\t\tmeta mark & 0x%08x == 0x%08x counter return comment \"user-bypass\"\n",
		RULES_USER_BYPASS, RULES_USER_BYPASS);
	/* Before the user's wish: a proxy reached through itself helps nobody. */
	PUT_BOTH(f, c, "\t\t%s daddr @upstream%c counter return comment \"upstream\"\n");
	fprintf(f, "\t\tmeta mark & 0x%08x == 0x%08x counter goto %s comment \"user-proxy\"\n",
		RULES_USER_PROXY, RULES_USER_PROXY, take);
	PUT_BOTH(f, c, "\t\t%s daddr @exclude%c counter return comment \"exclude\"\n");
	/* Belongs to a connection that passed us by; a listener of ours could only reset it. */
	fprintf(f, "\t\ttcp option mptcp subtype 1 counter return comment \"mp-join\"\n");
	put_learned(f, c);
	put_ports(f, c);
	fprintf(f, "\t\tgoto %s\n\t}\n", take);
}

static void put_clear(FILE *f)
{
	fprintf(f, "\t\tmeta mark & 0x%08x != 0 meta mark set meta mark & 0x%08x\n",
		RULES_USER_MASK, CLEAR_MASK);
}

/* ---- modes ---- */

static bool verifies(const struct rules_conf *c)
{
	return rules_conf_wants_held(c) && c->n_capture > 0;
}

/* A SYN to be held gets a mark instead of being taken. Who queues it looks for that at priority
 * mangle, between deciding and taking; where nobody does it is taken all the same. */
static void put_hold(FILE *f, const struct rules_conf *c)
{
	static const char how[] =
		"meta mark set meta mark & 0x%08x | 0x%08x counter accept comment \"verify\"\n";

	if (c->n_verify > 0) {
		fprintf(f, "\t\ttcp dport { ");
		put_ranges(f, c->verify, c->n_verify);
		fprintf(f, " } ");
		fprintf(f, how, CLEAR_MASK, RULES_HELD);
	}
	for (int v6 = 0; c->verify_nets.n > 0 && v6 <= c->v6; v6++) {
		fprintf(f, "\t\tmeta l4proto tcp %s daddr @verify%c ", v6 ? "ip6" : "ip",
			v6 ? '6' : '4');
		fprintf(f, how, CLEAR_MASK, RULES_HELD);
	}
}

/* What becomes of a SYN that was held: another base chain, because the verdict ends the one in
 * which it was queued. */
static void put_held(FILE *f, const struct rules_conf *c)
{
	if (c->queue) {
		fprintf(f,
			"\tchain hold {\n\t\ttype filter hook prerouting priority mangle; policy "
			"accept;\n");
		put_ifaces(f, c, "iifname");
		fprintf(f, SYN " meta mark & 0x%08x == 0x%08x counter queue num %u bypass\n\t}\n",
			RULES_HELD, RULES_HELD, HELD_QUEUE);
	}
	fprintf(f, "\tchain take_held {\n");
	put_to_marked(f, c, "tcp", ~RULES_HELD);
	fprintf(f, "\t\tmeta mark set meta mark & 0x%08x counter comment \"no-listener\"\n\t}\n",
		~RULES_HELD);
	fprintf(f, "\tchain held {\n\t\ttype filter hook prerouting priority mangle + 5; policy "
		   "accept;\n");
	for (size_t i = 0; i < ANSWERS; i++)
		fprintf(f, "\t\tmeta l4proto tcp meta mark 0x%08x counter reject with %s\n",
			RULES_REFUSED(answers[i].answer), answers[i].with);
	put_ifaces(f, c, "iifname");
	fprintf(f, SYN " meta mark & 0x%08x == 0x%08x goto take_held\n\t}\n", RULES_HELD,
		RULES_HELD);
}

/* Captured connections first. Without `wildcard 0`: that breaks on the third ACK. */
static void put_captured(FILE *f, const struct rules_conf *c)
{
	put_ifaces(f, c, "iifname");
	fprintf(f,
		"meta l4proto tcp socket transparent 1 meta mark set meta mark | 0x%08x accept\n",
		RULES_FWMARK);
}

static void put_captured_local(FILE *f, const struct rules_conf *c)
{
	fprintf(f,
		"\t\tmeta l4proto tcp meta mark != 0x%08x ct mark & 0x%08x == 0x%08x meta mark "
		"set meta mark | 0x%08x\n\t}\n",
		c->mark, RULES_FWMARK, RULES_FWMARK, RULES_FWMARK);
}

/* ---- UDP ---- */

static void put_udp_ports(FILE *f, const char *op, const struct port_list *l, const char *verdict,
			  const char *name)
{
	fprintf(f, "\t\tudp dport %s { ", op);
	put_ranges(f, l->v, l->n);
	fprintf(f, " } counter %s comment \"%s\"\n", verdict, name);
}

static void put_udp_policy(FILE *f, const struct rules_conf *c, const char *take)
{
	if (c->udp_refuse.n > 0)
		put_udp_ports(f, "==", &c->udp_refuse, "reject with icmpx port-unreachable",
			      "refused");
	if (c->udp_direct.n > 0)
		put_udp_ports(f, "==", &c->udp_direct, "return", "direct");
	if (c->udp_proxy.n > 0) {
		put_udp_ports(f, "!=", &c->udp_proxy, "return", "port");
		fprintf(f, "\t\tgoto %s\n", take);
	}
}

/* As put_capture, for datagrams: each is decided about by itself. Answers of this network's own
 * servers are replies to connection tracking; ours to devices are not tracked (put_untracked). */
static void put_capture_udp(FILE *f, const struct rules_conf *c, const char *name, const char *take,
			    bool local)
{
	fprintf(f, "\tchain %s {\n", name);
	put_families(f, c);
	fprintf(f, "\t\tmeta mark & 0x%08x == 0x%08x counter return comment \"own\"\n", CLEAR_MASK,
		c->mark);
	if (local) /* ours to devices */
		fprintf(f, "\t\tfib saddr type != local return\n");
	fprintf(f, "\t\tct direction reply counter return comment \"reply\"\n");
	fprintf(f, "\t\tfib daddr type { local, broadcast, anycast, multicast } counter return "
		   "comment \"local\"\n");
	fprintf(f, "\t\tmeta mark & 0x%08x == 0x%08x counter return comment \"user-bypass\"\n",
		RULES_USER_BYPASS, RULES_USER_BYPASS);
	PUT_BOTH(f, c, "\t\t%s daddr @upstream%c counter return comment \"upstream\"\n");
	fprintf(f, "\t\tmeta mark & 0x%08x == 0x%08x counter goto %s comment \"user-proxy\"\n",
		RULES_USER_PROXY, RULES_USER_PROXY, take);
	PUT_BOTH(f, c, "\t\t%s daddr @exclude%c counter return comment \"exclude\"\n");
	put_udp_policy(f, c, take);
	fprintf(f, "\t}\n");
}

/* Where nobody listens it is forwarded, as with put_tproxy. */
static void put_take_udp(FILE *f, const struct rules_conf *c)
{
	fprintf(f, "\tchain take_udp {\n");
	put_to_marked(f, c, "udp", CLEAR_MASK);
	fprintf(f, "\t\tcounter comment \"no-listener\"\n\t}\n");
	put_capture_udp(f, c, "capture_udp", "take_udp", false);
}

/* What strangers send to a device through us must not make its answers replies, which are not
 * captured. Only sockets of ours send from addresses that are not this host's. */
static void put_untracked(FILE *f, const struct rules_conf *c)
{
	fprintf(f, "\tchain untracked {\n\t\ttype filter hook output priority raw; policy "
		   "accept;\n");
	put_ifaces(f, c, "oifname");
	fprintf(f, "meta l4proto udp fib saddr type != local notrack\n\t}\n");
}

static void put_take_udp_local(FILE *f, const struct rules_conf *c)
{
	fprintf(f,
		"\tchain take_udp_local {\n"
		"\t\tmeta mark set meta mark & 0x%08x | 0x%08x counter accept comment "
		"\"capture\"\n\t}\n",
		CLEAR_MASK, RULES_FWMARK);
	put_capture_udp(f, c, "capture_udp_local", "take_udp_local", true);
}

/*
 * tproxy before the mark: where nobody listens `tproxy` ends its rule, the packet stays unmarked
 * and is forwarded as if there were no rules. SYNs only: what was not captured at its SYN is
 * never captured later, whatever becomes of the sets.
 */
static void put_tproxy(FILE *f, const struct rules_conf *c)
{
	fprintf(f, "\tchain take {\n");
	put_unless(f, c);
	if (verifies(c))
		put_hold(f, c);
	put_to_marked(f, c, "tcp", CLEAR_MASK);
	fprintf(f, "\t\tcounter comment \"no-listener\"\n\t}\n");
	put_capture(f, c, "capture", "take");
	if (rules_conf_wants_udp(c))
		put_take_udp(f, c);
	fprintf(f,
		"\tchain prerouting {\n\t\ttype filter hook prerouting priority mangle%s; policy "
		"accept;\n",
		verifies(c) ? " - 5" : "");
	if (c->n_capture) {
		put_captured(f, c);
		if (verifies(c)) { /* nobody else says what is held */
			put_ifaces(f, c, "iifname");
			fprintf(f,
				SYN " meta mark & 0x%08x != 0 meta mark set meta mark & 0x%08x\n",
				RULES_HELD, ~RULES_HELD);
		}
		put_ifaces(f, c, "iifname");
		fprintf(f, SYN " jump capture\n");
		if (rules_conf_wants_udp(c)) {
			put_ifaces(f, c, "iifname");
			fprintf(f, "meta l4proto udp jump capture_udp\n");
		}
	}
	if (c->capture_local) /* decided in the output chain */
		put_to(f, c, MARKED_LO " " SYN, "accept");
	if (c->capture_local && rules_conf_wants_udp(c))
		put_to(f, c, MARKED_LO " meta l4proto udp", "accept");
	put_clear(f);
	fprintf(f, "\t}\n");
	if (rules_conf_wants_udp(c) && c->n_capture)
		put_untracked(f, c);
}

/* The conntrack mark keeps the decision made on the SYN: connections older than the rules and
 * those of this host's own servers are left alone. */
static void put_tproxy_local(FILE *f, const struct rules_conf *c)
{
	fprintf(f, "\tchain take_local {\n");
	put_unless(f, c);
	fprintf(f,
		"\t\tct mark set ct mark | 0x%08x counter comment "
		"\"capture\"\n\t}\n",
		RULES_FWMARK);
	put_capture(f, c, "capture_local", "take_local");
	if (rules_conf_wants_udp(c))
		put_take_udp_local(f, c);
	fprintf(f,
		"\tchain output {\n\t\ttype route hook output priority mangle; policy accept;\n");
	fprintf(f, "\t\t" SYN " jump capture_local\n");
	if (rules_conf_wants_udp(c))
		fprintf(f, "\t\tmeta l4proto udp jump capture_udp_local\n");
	put_clear(f);
	put_captured_local(f, c);
}

static void put_redirect(FILE *f, const struct rules_conf *c)
{
	fprintf(f, "\tchain take {\n");
	put_unless(f, c);
	fprintf(f,
		"\t\tmeta l4proto tcp meta mark set meta mark & 0x%08x counter "
		"redirect to :%u comment \"capture\"\n\t}\n",
		CLEAR_MASK, c->port);
	put_capture(f, c, "capture", "take");
	if (c->n_capture) {
		fprintf(f, "\tchain prerouting {\n\t\ttype nat hook prerouting priority dstnat; "
			   "policy accept;\n");
		put_ifaces(f, c, "iifname");
		fprintf(f, SYN " jump capture\n");
		put_clear(f);
		fprintf(f, "\t}\n");
	}
	if (c->capture_local) {
		fprintf(f, "\tchain output {\n\t\ttype nat hook output priority -100; policy "
			   "accept;\n\t\t" SYN " jump capture\n");
		put_clear(f);
		fprintf(f, "\t}\n");
	}
}

/* The option of a genuine MP_CAPABLE SYN+ACK has 12 octets: one that is only echoed has 4. */
static void put_seen(FILE *f, const struct rules_conf *c)
{
	fprintf(f, "\tchain seen {\n");
	PUT_BOTH(f, c, "\t\tmeta l4proto tcp update @seen%2$c { %1$s saddr . tcp sport }\n");
	fprintf(f, "\t}\n\tchain forward {\n\t\ttype filter hook forward priority mangle; policy "
		   "accept;\n");
	put_ifaces(f, c, "oifname");
	fprintf(f,
		SYNACK " tcp option mptcp subtype 0 tcp option mptcp length 12 jump seen\n\t}\n");
}

/* ---- forwards ---- */

static void put_servers(FILE *f, const struct rules_conf *c, bool v4)
{
	char text[ADDR_STRLEN];
	bool any = false;

	fprintf(f, "\tset servers%c {\n\t\ttype %s . inet_service\n", v4 ? '4' : '6',
		v4 ? "ipv4_addr" : "ipv6_addr");
	for (size_t i = 0; i < c->n_servers; i++) {
		struct addr plain = c->servers[i];
		if ((addr_family(&plain) == AF_INET) != v4)
			continue;
		if (!v4)
			plain.u.in6.sin6_scope_id = 0; /* nft knows no %scope */
		fprintf(f, "%s%s . %u", any ? ", " : "\t\telements = { ",
			addr_ip_str(&plain, text, sizeof(text)), addr_port(&plain));
		any = true;
	}
	fprintf(f, "%s\t}\n", any ? " }\n" : "");
}

/* What a forward's server answers goes to the peer's address: here a socket of ours has that. From
 * any interface: the server need not be where connections are captured. */
static void put_returning(FILE *f, const struct rules_conf *c)
{
	put_servers(f, c, true);
	if (c->v6)
		put_servers(f, c, false);
	fprintf(f, "\tchain returning {\n\t\ttype filter hook prerouting priority mangle - 6; "
		   "policy accept;\n");
	for (int v6 = 0; v6 <= c->v6; v6++)
		fprintf(f,
			"\t\t%s saddr . tcp sport @servers%c socket transparent 1 meta mark set "
			"meta mark | 0x%08x accept\n",
			v6 ? "ip6" : "ip", v6 ? '6' : '4', RULES_FWMARK);
	fprintf(f, "\t}\n");
}

/* ---- the whole ---- */

static char *finish(FILE *f, char **text)
{
	bool bad = ferror(f);

	if (fclose(f) != 0 || bad) {
		free(*text);
		return NULL;
	}
	return *text;
}

char *rules_text(const struct rules_conf *c)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	fprintf(f, "table inet " RULES_NFT_TABLE " {\n");
	if (c->owner)
		fprintf(f, "\tflags owner\n");
	put_paused_set(f);
	put_sets(f, c, '4');
	if (c->v6)
		put_sets(f, c, '6');
	if (c->mode == MODE_TPROXY) {
		put_tproxy(f, c);
		if (verifies(c))
			put_held(f, c);
		if (c->capture_local)
			put_tproxy_local(f, c);
	} else {
		put_redirect(f, c);
	}
	if (c->learn_passive && c->n_capture)
		put_seen(f, c);
	if (c->n_servers)
		put_returning(f, c);
	fprintf(f, "}\n");
	return finish(f, &text);
}

static void stand_in_tproxy(FILE *f, const struct rules_conf *c)
{
	if (c->n_capture) {
		fprintf(f, "\tchain prerouting {\n\t\ttype filter hook prerouting priority "
			   "mangle; policy accept;\n");
		put_captured(f, c);
		fprintf(f, "\t}\n");
	}
	if (c->capture_local) {
		fprintf(f, "\tchain output {\n\t\ttype route hook output priority mangle; policy "
			   "accept;\n");
		put_captured_local(f, c);
	}
}

/* Connection tracking knows where captured connections go, as long as somebody makes the kernel
 * track and translate: without any chain of that kind it stops. */
static void stand_in_redirect(FILE *f)
{
	fprintf(f, "\tchain prerouting {\n\t\ttype nat hook prerouting priority dstnat; policy "
		   "accept;\n\t\tct state invalid accept\n\t}\n");
}

char *rules_text_stand_in(const struct rules_conf *c)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	fprintf(f, "table inet " RULES_STANDIN_TABLE " {\n%s", c->owner ? "\tflags owner\n" : "");
	if (c->mode == MODE_TPROXY)
		stand_in_tproxy(f, c);
	else
		stand_in_redirect(f);
	if (c->n_servers)
		put_returning(f, c);
	fprintf(f, "}\n");
	return finish(f, &text);
}

static void put_upstreams(FILE *f, const struct addr *v, size_t n, sa_family_t family)
{
	char num = family == AF_INET ? '4' : '6', text[ADDR_STRLEN];
	bool any = false;

	fprintf(f, "flush set inet " RULES_NFT_TABLE " upstream%c\n", num);
	for (size_t i = 0; i < n; i++) {
		struct addr plain = v[i];
		if (addr_family(&v[i]) != family)
			continue;
		if (family == AF_INET6)
			plain.u.in6.sin6_scope_id = 0; /* nft knows no %scope */
		if (!any)
			fprintf(f, "add element inet " RULES_NFT_TABLE " upstream%c { ", num);
		fprintf(f, "%s%s", any ? ", " : "", addr_ip_str(&plain, text, sizeof(text)));
		any = true;
	}
	if (any)
		fprintf(f, " }\n");
}

char *rules_text_upstreams(const struct addr *v, size_t n, bool v6)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	put_upstreams(f, v, n, AF_INET);
	if (v6)
		put_upstreams(f, v, n, AF_INET6);
	return finish(f, &text);
}

/* ---- the administrator's table ---- */

static void put_user_set(FILE *f, const char *name, const char *type, bool interval)
{
	fprintf(f, "\tset %s {\n\t\ttype %s\n%s\t}\n", name, type,
		interval ? "\t\tflags interval\n\t\tauto-merge\n" : "");
}

static void put_user_decision(FILE *f, const char *what, unsigned bit)
{
	fprintf(f, "\tchain set_%s {\n\t\tmeta mark set meta mark & 0x%08x | 0x%08x\n\t}\n", what,
		CLEAR_MASK, bit);
}

static void put_user_rules(FILE *f, const char *what)
{
	fprintf(f,
		"\t\tip daddr @%1$s4 counter goto set_%1$s\n"
		"\t\tip6 daddr @%1$s6 counter goto set_%1$s\n"
		"\t\tether saddr @%1$s_mac counter goto set_%1$s\n"
		"\t\ttcp dport @%1$s_port counter goto set_%1$s\n",
		what);
}

char *rules_text_user(uint32_t own_mark)
{
	static const char *const what[] = {"bypass", "proxy"};
	char *text = NULL, name[32];
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	fprintf(f, "table inet " RULES_USER_TABLE " {\n");
	for (size_t i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "%s4", what[i]);
		put_user_set(f, name, "ipv4_addr", true);
		snprintf(name, sizeof(name), "%s6", what[i]);
		put_user_set(f, name, "ipv6_addr", true);
		snprintf(name, sizeof(name), "%s_mac", what[i]);
		put_user_set(f, name, "ether_addr", false);
		snprintf(name, sizeof(name), "%s_port", what[i]);
		put_user_set(f, name, "inet_service", true);
	}
	put_user_decision(f, "bypass", RULES_USER_BYPASS);
	put_user_decision(f, "proxy", RULES_USER_PROXY);
	fprintf(f, "\tchain decide {\n");
	put_user_rules(f, "bypass"); /* first: what is in both is not captured */
	put_user_rules(f, "proxy");
	fprintf(f,
		"\t}\n\tchain prerouting {\n\t\ttype filter hook prerouting priority mangle - 10; "
		"policy accept;\n\t\t" SYN " jump decide\n"
		"\t\tmeta l4proto udp jump decide\n\t}\n");
	fprintf(f,
		"\tchain output {\n\t\ttype filter hook output priority mangle - 10; policy "
		"accept;\n\t\tmeta mark != 0x%1$08x " SYN " jump decide\n"
		"\t\tmeta mark != 0x%1$08x meta l4proto udp jump decide\n\t}\n}\n",
		own_mark);
	return finish(f, &text);
}
