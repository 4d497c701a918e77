/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/explain.h"

#include <string.h>

#include "redir/learner.h"
#include "redir/redir.h"

#define PASSES(name, why)                                                                          \
	(struct explain_rule)                                                                      \
	{                                                                                          \
		name, why, false, false                                                            \
	}
#define TAKEN(name, why)                                                                           \
	(struct explain_rule)                                                                      \
	{                                                                                          \
		name, why, true, false                                                             \
	}
#define REFUSED(name, why)                                                                         \
	(struct explain_rule)                                                                      \
	{                                                                                          \
		name, why, false, true                                                             \
	}

/* What begins the chains that take a SYN, then who sent it there. */
static struct explain_rule take(const struct explain_facts *f, struct explain_rule taken)
{
	if (f->paused)
		return PASSES("paused", "a limit is near: nothing new is captured");
	if (f->failed)
		return REFUSED("failed", "the server could not be reached a moment ago");
	return taken;
}

/* Those that SYNs and datagrams have in common; without a name: none of them decides. */
static struct explain_rule first_rules(const struct explain_facts *f)
{
	if (!f->rules)
		return TAKEN("script", "the rules are not ours; if they capture it:");
	if (!f->interface)
		return PASSES("interface", "it does not come in on an interface of capture");
	if (f->ipv6_off)
		return PASSES("family", "IPv6 is not captured here");
	if (f->deaf)
		return PASSES("family",
			      "listen has no address of its family ([::]:PORT takes both)");
	if (f->local)
		return PASSES("local", "the destination is this host, or no unicast address");
	if (f->user_bypass)
		return PASSES("user-bypass", "in a bypass set of inet sixpath_user");
	if (f->upstream)
		return PASSES("upstream", "the destination is one of the proxies");
	if (f->user_proxy)
		return TAKEN("user-proxy", "in a proxy set of inet sixpath_user");
	if (f->exclude)
		return PASSES("exclude", "the destination is in exclude, or never captured");
	return (struct explain_rule){0};
}

struct explain_rule explain_rule(const struct explain_facts *f, bool mp_capable)
{
	struct explain_rule rule = first_rules(f);
	bool learned = f->learned &&
		       (f->action == BYPASS_RULE || (f->action == BYPASS_AUTO && mp_capable));

	if (rule.name)
		return rule.captured && f->rules ? take(f, rule) : rule;
	if (learned)
		return PASSES("learned", "the server is known to speak MPTCP");
	if (!f->port)
		return PASSES("port", "the port is not in ports");
	return take(f, TAKEN("capture", "nothing says otherwise"));
}

struct explain_rule explain_rule_udp(const struct explain_facts *f)
{
	struct explain_rule rule = first_rules(f);

	if (!f->udp_captured)
		return PASSES("udp",
			      "UDP is not captured: proxy and refuse in [udp] name no ports");
	if (rule.name)
		return rule;
	switch (f->policy) {
	case UDP_REFUSE:
		return REFUSED("refused", "the port is in refuse of [udp]");
	case UDP_PROXY:
		return TAKEN("capture", "the port is in proxy of [udp]");
	case UDP_DIRECT:
		break;
	}
	return PASSES("direct", "the port is not in proxy of [udp], or in direct");
}

static void report_learned(struct report *r, struct redir *rd, const struct addr *dst)
{
	struct learned_item it;
	double now_s = learner_now(rd);
	bool known = learned_get(rd->learned, dst, now_s, &it);

	report_str(r, "server_speaks", learned_verdict_str(known ? it.verdict : LEARNED_UNKNOWN));
	report_str(r, "evidence", known ? learned_evidence_str(it.evidence) : NULL);
	report_seconds(r, "direct_paused", learned_direct_paused(rd->learned, now_s));
}

/* The proxy that would be tried first; udp: for an association, which takes SOCKSv6. */
static const struct upstream *first_proxy(struct redir *rd, bool udp)
{
	for (unsigned i = 0; i < rd->pool->n; i++) {
		struct upstream *up = rd->pool->v[i];

		if (rd->pool->weight[i] > 0 && upstream_is_up(up) &&
		    (!udp || up->protocol == PROTOCOL_SOCKS6))
			return up;
	}
	return NULL;
}

/* As in the log line of the connection. */
static const char *route_of(enum decision what, const struct upstream *proxy,
			    const struct redir_conf *c)
{
	switch (what) {
	case DECIDE_LOOP:
	case DECIDE_REFUSE:
		break;
	case DECIDE_DIRECT:
		return "direct";
	case DECIDE_BYPASS:
		return "bypass";
	case DECIDE_PROXY:
		if (proxy)
			return "proxy";
		return c->on_proxy_failure == FAILURE_DIRECT ? "direct" : "none";
	}
	return "none";
}

static void report_case(struct report *r, struct redir *rd, const char *name,
			const struct explain_rule *rule, bool held, enum decision what)
{
	static const char *const failures[] = {[FAILURE_NEXT] = "refused",
					       [FAILURE_DIRECT] = "directly, over TCP",
					       [FAILURE_REFUSE] = "refused"};
	char via[128];
	const struct upstream *proxy =
		what == DECIDE_PROXY && rule->captured ? first_proxy(rd, false) : NULL;

	report_row(r);
	report_str(r, "syn", name);
	report_str(r, "rule", rule->name);
	report_bool(r, "captured", rule->captured);
	report_bool(r, "held", rule->captured && held);
	report_str(r, "route", !rule->captured ? "none" : route_of(what, proxy, rd->conf));
	report_str(r, "why", rule->why);
	report_str(r, "then",
		   rule->refused                   ? "the kernel refuses it"
		   : !rule->captured               ? "the kernel forwards it, not through us"
		   : what != DECIDE_PROXY || proxy ? decision_str(what)
						   : failures[rd->conf->on_proxy_failure]);
	report_str(r, "proxy", proxy ? proxy->name : NULL);
	report_str(r, "via", proxy ? upstream_via_str(proxy, via, sizeof(via)) : NULL);
}

static void report_udp(struct report *r, struct redir *rd, const struct explain_facts *f,
		       const struct addr *dst)
{
	struct explain_rule rule = explain_rule_udp(f);
	const struct upstream *proxy = rule.captured ? first_proxy(rd, true) : NULL;
	bool direct = rd->conf->on_proxy_failure == FAILURE_DIRECT;

	report_row(r);
	report_str(r, "syn", "udp");
	report_str(r, "rule", rule.name);
	report_bool(r, "captured", rule.captured);
	report_str(r, "route",
		   !rule.captured ? "none"
		   : proxy        ? "proxy"
		   : direct       ? "direct"
				  : "none");
	report_str(r, "why", rule.why);
	report_str(r, "then",
		   rule.refused     ? "the kernel answers that the port is unreachable"
		   : !rule.captured ? "the kernel forwards it, not through us"
		   : proxy          ? "through a proxy"
		   : direct         ? "directly"
				    : "refused");
	report_str(r, "transport",
		   rule.captured
			   ? udp_transport_str(udp_transport_of(&rd->conf->udp, addr_port(dst)))
			   : NULL);
	report_str(r, "proxy", proxy ? proxy->name : NULL);
}

void explain_command(struct control_request *rq, void *ctx)
{
	struct redir *rd = ctx;
	struct report *r = control_report(rq);
	struct explain_facts facts;
	struct addr src, dst;
	char text[ADDR_STRLEN];
	int rc;

	bool udp = control_argc(rq) == 3 && strcmp(control_argv(rq, 2), "udp") == 0;

	if ((control_argc(rq) != 2 && !udp) || !addr_parse_ip(&src, control_argv(rq, 0)) ||
	    !addr_parse(&dst, control_argv(rq, 1), -1)) {
		control_fail(rq,
			     "usage: explain SRC DST:PORT [udp], for instance explain 192.168.1.10 "
			     "203.0.113.2:443 or explain fd00::10 [2001:db8::2]:443");
		return;
	}
	if (addr_family(&src) != addr_family(&dst)) {
		control_fail(rq, "source and destination are not of one address family");
		return;
	}
	rc = explain_facts(&facts, rd, &src, &dst, udp);
	if (rc < 0) {
		control_fail(rq, "the kernel does not tell: %s", strerror(-rc));
		return;
	}
	report_str(r, "source", addr_ip_str(&src, text, sizeof(text)));
	report_str(r, "interface", facts.interface_name[0] ? facts.interface_name : NULL);
	report_str(r, "destination", addr_str(&dst, text, sizeof(text)));
	if (!udp)
		report_learned(r, rd, &dst);
	report_list(r, "cases");
	if (udp)
		report_udp(r, rd, &facts, &dst);
	for (int mptcp = 0; mptcp < 2 && !udp; mptcp++) {
		struct explain_rule rule = explain_rule(&facts, mptcp != 0);
		enum decision what =
			decide(rd, rd->conf, rd->pool, &src, &dst, learner_now(rd), false);
		report_case(r, rd, mptcp ? "mptcp" : "plain", &rule, facts.held, what);
	}
	report_end(r);
	control_reply(rq);
}
