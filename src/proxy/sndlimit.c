/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/sndlimit.h"

#include <stdbool.h>

#define SYN_MOST   65535 /* the largest window a SYN can tell */
#define SYN_USUAL  64000 /* and the least that is usual */
#define LEAST      4096  /* do not dribble */
#define BLUR       4096  /* our own replies, which the relay has not counted */
#define WAIT_LEAST 0.001
#define WAIT_MOST  0.010
#define WAIT_PART  16 /* of the round-trip time: so much of a window may be lost by waiting */

void sndlimit_init(struct sndlimit *s, const struct sock_info *info)
{
	bool told = info->state == SOCK_SYN_RECV; /* else it tells the window of a later packet */
	uint32_t least = told ? info->snd_wnd : SYN_USUAL;
	uint32_t most = told ? info->snd_wnd : SYN_MOST;

	s->wrong_least = (uint64_t)least << info->snd_wscale;
	s->wrong_most = (uint64_t)most << info->snd_wscale;
	s->edge = told ? info->snd_wnd : 0;
	/* The first octets need not ask: so many are always allowed (sndlimit_credit), or are within
	 * the window that is known. */
	s->credit = s->edge > LEAST + BLUR ? (size_t)(s->edge - BLUR) : LEAST;
}

/* Sending on a subflow sets its window to the one the kernel takes for the connection's. */
static bool is_wrong(const struct sndlimit *s, uint32_t window, uint64_t sent, uint64_t acked)
{
	return window + sent + BLUR >= s->wrong_least && window + acked <= s->wrong_most + BLUR;
}

size_t sndlimit_credit(struct sndlimit *s, const struct sock_window *w, uint64_t sent)
{
	uint64_t acked = w->in_flight < sent ? sent - w->in_flight : 0, edge = UINT64_MAX;

	for (unsigned i = 0; i < w->number; i++)
		if (!is_wrong(s, w->window[i], sent, acked) && acked + w->window[i] < edge)
			edge = acked + w->window[i];
	if (edge != UINT64_MAX && edge > s->edge)
		s->edge = edge; /* a receiver never takes it back (RFC 8684, 3.3.5) */
	if (sent + LEAST <= s->edge)
		return (size_t)(s->edge - sent);
	return w->in_flight == 0 ? LEAST : 0; /* so the kernel probes a closed window */
}

size_t sndlimit_room(struct sndlimit *s, int fd, uint64_t sent, double *wait_s)
{
	struct sock_window w = {.in_flight = sent};
	size_t more;

	/* Asked before the last of it is used: an answer that is cut there waits until the client, which
	 * has nothing to say to one half of it, acknowledges that half after 40 ms. */
	if (s->credit >= LEAST)
		return s->credit;
	if (sent > s->wrong_most)
		return SIZE_MAX;
	/* During the handshake the socket does not say yet that it is MPTCP. */
	if (sock_window(fd, &w) < 0 && !sock_in_handshake(fd) && sock_window(fd, &w) < 0)
		return SIZE_MAX; /* plain TCP, which knows its window */
	more = sndlimit_credit(s, &w, sent);
	if (more > s->credit)
		s->credit = more;
	*wait_s = (double)w.rtt_us / 1e6 / WAIT_PART;
	if (*wait_s < WAIT_LEAST)
		*wait_s = WAIT_LEAST;
	if (*wait_s > WAIT_MOST)
		*wait_s = WAIT_MOST;
	return s->credit;
}

void sndlimit_wrote(struct sndlimit *s, size_t len)
{
	s->credit -= len < s->credit ? len : s->credit;
}
