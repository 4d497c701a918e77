/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/uppaths.h"

#include "core/dial.h"
#include "redir/balance.h"

#define PAUSE_S     60.0 /* the first; doubles ... */
#define PAUSE_MAX_S 3600.0
#define MPTCP_MAX_S 600.0
#define STRIPPED    3 /* connections in a row: SYNs that are lost cost one its MPTCP, too */
/* tcpi_fastopen_client_fail */
#define NOT_ACKED  2 /* the peer did not take the data: a stale cookie, or no Fast Open */
#define SYN_RESENT 3 /* the SYN had to be sent again */

static const struct uppath *find(const struct uppaths *p, const struct addr *local)
{
	for (unsigned i = 0; i < p->n; i++)
		if (addr_equal_ip(&p->v[i].local, local))
			return &p->v[i];
	return NULL;
}

static struct uppath *oldest(struct uppaths *p)
{
	struct uppath *least = &p->v[0];

	for (unsigned i = 1; i < p->n; i++)
		if (p->v[i].used_s < least->used_s)
			least = &p->v[i];
	return least;
}

static struct uppath *find_or_add(struct uppaths *p, const struct addr *local)
{
	const struct uppath *found = find(p, local);
	struct uppath *path;

	if (found)
		return &p->v[found - p->v];
	path = p->n < UPPATHS_MAX ? &p->v[p->n++] : oldest(p);
	*path = (struct uppath){.local = *local};
	addr_set_port(&path->local, 0);
	return path;
}

static struct uppath_news pause_begin(struct uppath_pause *p, double now_s, int of, const char *why)
{
	double max_s = of == UPPATH_MPTCP ? MPTCP_MAX_S : PAUSE_MAX_S;

	p->refused = 0;
	p->last_s = p->last_s > 0 ? p->last_s * 2 : PAUSE_S;
	if (p->last_s > max_s)
		p->last_s = max_s;
	p->until_s = now_s + p->last_s;
	return (struct uppath_news){.why = why, .pause_s = p->last_s, .of = of};
}

/* Data that the peer does not take from the SYN also costs the connection its MPTCP. Once is a
 * stale cookie, which is replaced at the same time; twice is a proxy without Fast Open. What
 * was sent before a pause began does not prolong it. */
static struct uppath_news judge_tfo(struct uppath *path, double now_s,
				    const struct uppath_result *r)
{
	static const struct uppath_news none;
	struct uppath_pause *p = &path->tfo;
	bool paused = now_s < p->until_s;

	if (r->syn_data_acked) {
		p->last_s = 0;
		p->refused = 0;
	} else if (!paused && r->fastopen_fail == SYN_RESENT) {
		return pause_begin(p, now_s, UPPATH_TFO, "SYNs with data are lost");
	} else if (!paused && r->fastopen_fail == NOT_ACKED && ++p->refused >= 2) {
		return pause_begin(p, now_s, UPPATH_TFO, "it does not take data from SYNs");
	}
	return none;
}

/* NOOPs ask for MPTCP also in a pause, and end it. After it one connection is enough for another. */
static struct uppath_news judge_mptcp(struct uppath *path, double now_s,
				      const struct uppath_result *r)
{
	static const struct uppath_news none;
	struct uppath_pause *p = &path->mptcp;

	if (r->mptcp)
		*p = (struct uppath_pause){0};
	else if (r->stripped && r->ours && now_s >= p->until_s &&
		 (++p->refused >= STRIPPED || p->last_s > 0))
		return pause_begin(p, now_s, UPPATH_MPTCP, "MPTCP does not get through");
	return none;
}

struct uppath_news uppaths_note(struct uppaths *p, double now_s, const struct addr *local,
				const struct uppath_result *r)
{
	struct uppath *path = find_or_add(p, local);
	struct uppath_news tfo = judge_tfo(path, now_s, r), mptcp = judge_mptcp(path, now_s, r);

	path->used_s = now_s;
	path->n++;
	path->n_taken += r->syn_data_acked;
	path->n_refused += !r->syn_data_acked && r->fastopen_fail == NOT_ACKED;
	path->n_lost += !r->syn_data_acked && r->fastopen_fail == SYN_RESENT;
	path->n_stripped += r->stripped;
	path->rtt_us = balance_smooth(path->rtt_us, r->rtt_us);
	return mptcp.why ? mptcp : tfo;
}

static int paused(const struct uppath *path, double now_s)
{
	return (now_s < path->tfo.until_s ? UPPATH_TFO : 0) |
	       (now_s < path->mptcp.until_s ? UPPATH_MPTCP : 0);
}

int uppaths_any_paused(const struct uppaths *p, double now_s)
{
	int all = 0;

	for (unsigned i = 0; i < p->n; i++)
		all |= paused(&p->v[i], now_s);
	return all;
}

int uppaths_paused(const struct uppaths *p, double now_s, const struct addr *local)
{
	const struct uppath *path = find(p, local);

	return path ? paused(path, now_s) : 0;
}

struct uppath_result uppath_result_of(const struct dial *d)
{
	return (struct uppath_result){
		.syn_data_acked = d->syn_data_acked,
		.fastopen_fail = d->fastopen_fail,
		.stripped = d->refused,
		.mptcp = d->mptcp,
		.ours = true,
		.rtt_us = d->rtt_us,
	};
}
