/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What becomes of a captured connection. Asked by the flow itself and by `sixpathctl explain`, so
 * that the explanation is what happens.
 */
#ifndef REDIR_DECIDE_H
#define REDIR_DECIDE_H

#include <stdbool.h>

#include "core/addr.h"

struct redir;
struct redir_conf;
struct pool;

enum decision {
	DECIDE_LOOP,   /* it is one of our own connections: end it */
	DECIDE_DIRECT, /* to a proxy itself: let it through */
	DECIDE_REFUSE, /* the server has just failed (failed.h): refuse it */
	DECIDE_BYPASS, /* the server speaks MPTCP: dial it over MPTCP */
	DECIDE_PROXY   /* through a proxy, else what on_proxy_failure says */
};

/* Why; a constant text. */
const char *decision_str(enum decision d);

/* For a connection from src to dst. With use, learned knowledge counts as used. */
enum decision decide(const struct redir *rd, const struct redir_conf *conf, const struct pool *pool,
		     const struct addr *src, const struct addr *dst, double now_s, bool use);

#endif
