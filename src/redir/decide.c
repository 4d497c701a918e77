/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/decide.h"

#include "redir/redir.h"

static const char *const texts[] = {
	[DECIDE_LOOP] = "one of our own connections: ended",
	[DECIDE_DIRECT] = "the destination is a proxy itself: directly, over TCP",
	[DECIDE_REFUSE] = "the server has just failed: refused at once",
	[DECIDE_BYPASS] = "the server is known to speak MPTCP: directly, over MPTCP",
	[DECIDE_PROXY] = "through a proxy",
};

const char *decision_str(enum decision d)
{
	return texts[d];
}

/* With action = rule it is the kernel that lets connections past us, and what is captured all
 * the same is treated like any other. */
static bool may_bypass(const struct redir *rd, const struct redir_conf *conf,
		       const struct addr *dst, double now_s, bool use)
{
	return conf->action != BYPASS_RULE &&
	       learned_look(rd->learned, dst, now_s, use) == LEARNED_MPTCP &&
	       learned_direct_allowed(rd->learned, now_s);
}

enum decision decide(const struct redir *rd, const struct redir_conf *conf, const struct pool *pool,
		     const struct addr *src, const struct addr *dst, double now_s, bool use)
{
	if (loopguard_has(rd->loopguard, src, dst))
		return DECIDE_LOOP;
	if (pool_has_address(pool, dst))
		return DECIDE_DIRECT;
	if (failed_look(rd->failed, dst, now_s, use))
		return DECIDE_REFUSE;
	return may_bypass(rd, conf, dst, now_s, use) ? DECIDE_BYPASS : DECIDE_PROXY;
}
