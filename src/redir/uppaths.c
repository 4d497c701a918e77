/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/uppaths.h"

#include "core/dial.h"
#include "redir/balance.h"

#define PAUSE_S     60.0 /* first pause after SYNs with data were lost; doubles ... */
#define PAUSE_MAX_S 3600.0
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

static const char *pause_begin(struct uppath *path, double now_s, const char *why)
{
	path->refused = 0;
	path->pause_s = path->pause_s > 0 ? path->pause_s * 2 : PAUSE_S;
	if (path->pause_s > PAUSE_MAX_S)
		path->pause_s = PAUSE_MAX_S;
	path->until_s = now_s + path->pause_s;
	return why;
}

/* Data that the peer does not take from the SYN also costs the connection its MPTCP. Once is a
 * stale cookie, which is replaced at the same time; twice is a proxy without Fast Open. What
 * was sent before a pause began does not prolong it. */
static const char *judge(struct uppath *path, double now_s, const struct uppath_result *r)
{
	bool paused = now_s < path->until_s;

	if (r->syn_data_acked) {
		path->pause_s = 0;
		path->refused = 0;
	} else if (!paused && r->fastopen_fail == SYN_RESENT) {
		return pause_begin(path, now_s, "SYNs with data are lost");
	} else if (!paused && r->fastopen_fail == NOT_ACKED && ++path->refused >= 2) {
		return pause_begin(path, now_s, "it does not take data from SYNs");
	}
	return NULL;
}

const char *uppaths_note(struct uppaths *p, double now_s, const struct addr *local,
			 const struct uppath_result *r, double *pause_s)
{
	struct uppath *path = find_or_add(p, local);
	const char *why = judge(path, now_s, r);

	path->used_s = now_s;
	path->n++;
	path->n_taken += r->syn_data_acked;
	path->n_refused += !r->syn_data_acked && r->fastopen_fail == NOT_ACKED;
	path->n_lost += !r->syn_data_acked && r->fastopen_fail == SYN_RESENT;
	path->n_stripped += r->stripped;
	path->rtt_us = balance_smooth(path->rtt_us, r->rtt_us);
	*pause_s = path->pause_s;
	return why;
}

bool uppaths_any_paused(const struct uppaths *p, double now_s)
{
	for (unsigned i = 0; i < p->n; i++)
		if (now_s < p->v[i].until_s)
			return true;
	return false;
}

bool uppaths_paused(const struct uppaths *p, double now_s, const struct addr *local)
{
	const struct uppath *path = find(p, local);

	return path && now_s < path->until_s;
}

/* A connection whose SYN data was not taken or lost has lost its MPTCP through that. */
struct uppath_result uppath_result_of(const struct dial *d)
{
	return (struct uppath_result){
		.syn_data_acked = d->syn_data_acked,
		.fastopen_fail = d->fastopen_fail,
		.stripped = d->granted.mptcp && !d->mptcp && (d->queued == 0 || d->syn_data_acked),
		.rtt_us = d->rtt_us,
	};
}
