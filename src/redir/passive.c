/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/passive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/worker.h"
#include "redir/learned.h"
#include "redir/nfqueue.h"
#include "redir/synpkt.h"

#define WAITING_MAX 1024

struct passive {
	struct worker *w;
	struct learned *learned;
	struct nfqueue *queue;
};

static void saw_packet(void *ctx, const struct nfqueue_packet *p)
{
	struct passive *ps = ctx;
	struct synpkt syn;

	nfqueue_accept(ps->queue, p->id, p->mark); /* first: nobody shall wait for us */
	if (synpkt_parse(&syn, p->data, p->len) == SYNPKT_OK && synpkt_agrees_mptcp(&syn))
		learned_put(ps->learned, &syn.src, LEARNED_MPTCP, LEARNED_FROM_SYNACK,
			    worker_now(ps->w));
}

static const char *why(int rc)
{
	switch (rc) {
	case -ENOSYS:
		return "built without libnetfilter_queue";
	case -EPERM: /* the kernel's word for both */
	case -EBUSY:
		return "another process has the queue, or we have no CAP_NET_ADMIN";
	default:
		return strerror(-rc);
	}
}

struct passive *passive_open(struct worker *w, struct learned *l)
{
	static const struct nfqueue_conf conf = {.number = PASSIVE_QUEUE,
						 .range = SYNPKT_HEAD_MAX,
						 .max = WAITING_MAX,
						 .fail_open = true};
	struct passive *ps = calloc(1, sizeof(*ps));
	int rc = -ENOMEM;

	if (ps) {
		ps->w = w;
		ps->learned = l;
		rc = nfqueue_open(&ps->queue, w, &conf, saw_packet, ps);
	}
	if (rc == 0)
		return ps;
	free(ps);
	log_warning("learn_passive: nothing is learned from connections that pass us by: %s "
		    "(queue %d)",
		    why(rc), PASSIVE_QUEUE);
	return NULL;
}

void passive_close(struct passive *p)
{
	if (!p)
		return;
	nfqueue_close(p->queue);
	free(p);
}
