/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/explain.h"

#define PASSES(name, why)                                                                          \
	(struct explain_rule)                                                                      \
	{                                                                                          \
		name, why, false                                                                   \
	}
#define TAKEN(name, why)                                                                           \
	(struct explain_rule)                                                                      \
	{                                                                                          \
		name, why, true                                                                    \
	}

struct explain_rule explain_rule(const struct explain_facts *f, bool mp_capable)
{
	bool learned = f->learned && (f->action == BYPASS_RULE ||
				      (f->action == BYPASS_AUTO && mp_capable));

	if (!f->rules)
		return TAKEN("script", "the rules are not ours; if they capture it:");
	if (!f->interface)
		return PASSES("interface", "it does not come in on an interface of capture");
	if (f->ipv6_off)
		return PASSES("family", "IPv6 is not captured here");
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
	if (learned)
		return PASSES("learned", "the server is known to speak MPTCP");
	if (!f->port)
		return PASSES("port", "the port is not in ports");
	return TAKEN("capture", "nothing says otherwise");
}
