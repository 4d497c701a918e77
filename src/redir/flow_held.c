/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Flows that begin with a held SYN (held.h): the upstream comes first, the device's connection
 * when it is open. What is different is here; between the two a flow is like any other.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/s6glue.h"
#include "core/sock.h"
#include "redir/flow_priv.h"

/* ---- the answer ---- */

/* As the server's side would have said it. Who hears nothing tries again; that the server does not
 * answer is only told to those who come later (failed.h). */
static enum held_answer answer_of_errno(int err)
{
	enum held_answer a = failed_answer(err);

	if (err == ETIMEDOUT)
		return HELD_SILENCE;
	if (err == EPERM)
		return HELD_PROHIBITED;
	return a == HELD_GO_ON ? HELD_RESET : a;
}

void flow_held_end(struct flow *f, enum end_reason reason, int err)
{
	if (f->state == FLOW_RELAY || !f->at->held)
		return;
	switch (reason) {
	case END_REPLY_FAILURE:
		held_answer(f->at->held, answer_of_errno(s6glue_errno_of_reply(f->reply_code)));
		break;
	case END_DIRECT_FAILED:
		held_answer(f->at->held, answer_of_errno(err));
		break;
	case END_FAILED_LATELY:
		held_answer(f->at->held, failed_answer(err));
		break;
	case END_NO_UPSTREAM:
	case END_MAYBE_EXECUTED:
		held_answer(f->at->held, HELD_RESET);
		break;
	default: /* nothing is known of the server: as if it had not been held */
		break;
	}
	held_syn_free(f->at->held);
	f->at->held = NULL;
}

/* ---- the device's connection ---- */

/* Both sides are there. */
static void go_on(struct flow *f)
{
	int fd = f->at->fd;

	f->at->fd = -1;
	held_syn_free(f->at->held);
	f->at->held = NULL;
	flow_relay(f, fd, f->at->sent);
}

/* What the SYN carried comes once more from the connection, and is on its way already. */
void flow_held_readable(struct flow *f)
{
	struct ev_loop *loop = f->relay.w->loop;
	ssize_t n = 1;

	while (f->at->again > 0 && n > 0) {
		n = recv(f->at->dev_fd, NULL, f->at->again, MSG_TRUNC);
		if (n > 0)
			f->at->again -= (size_t)n;
	}
	if (f->at->again == 0)
		go_on(f);
	else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
		flow_end(f, END_DOWN_GONE, n == 0 ? 0 : errno);
	else
		ev_io_start(loop, &f->at->dev_io);
}

void flow_held_ready(struct flow *f, int up_fd, size_t sent)
{
	f->at->fd = up_fd;
	f->at->sent = sent;
	flow_change(f, FLOW_HELD);
	held_answer(f->at->held, HELD_GO_ON);
	if (f->at->dev_fd >= 0)
		flow_held_readable(f);
}

static void join(struct redir_worker *rw, int fd, const struct addr *src, const struct addr *dst)
{
	struct flow *f = held_flow(rw->redir->held, &rw->w, src, dst);

	if (!f ||
	    f->at->dev_fd >= 0) { /* it has just ended; what it has sent must not be sent again */
		sock_reset(fd);
		return;
	}
	f->at->dev_fd = fd;
	ev_io_set(&f->at->dev_io, fd, EV_READ);
	if (f->state == FLOW_HELD)
		flow_held_readable(f);
}

/* An accepted connection on its way to the worker that has its flow. */
struct claim {
	struct job job;
	int fd;
	struct addr src, dst;
};

static void join_job(struct job *job, struct worker *w)
{
	struct claim *c = container_of(job, struct claim, job);

	join(redir_worker_of(w), c->fd, &c->src, &c->dst);
	free(c);
}

bool flow_held_claims(struct redir_worker *rw, int fd, const struct addr *src)
{
	struct worker *w;
	struct claim *c;
	struct addr dst;

	if (!held_any(rw->redir->held) || addr_of_socket(fd, &dst) < 0)
		return false;
	w = held_owner(rw->redir->held, src, &dst);
	if (!w)
		return false;
	if (w == &rw->w) {
		join(rw, fd, src, &dst);
		return true;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		sock_reset(fd);
		return true;
	}
	*c = (struct claim){.job = {.run = join_job}, .fd = fd, .src = *src, .dst = dst};
	worker_post(w, &c->job);
	return true;
}

/* ---- its begin ---- */

/* The bytes of a Fast Open SYN are the first ones, as far as they find room. */
static void take_data(struct flow *f, const struct held_syn *s)
{
	struct relay *r = &f->relay;
	size_t room, n = s->data_len;
	uint8_t *p = n ? buf_room(&r->a.in, &f->relay.w->pool, &room) : NULL;

	if (!p)
		return;
	if (n > room)
		n = room;
	memcpy(p, s->data, n);
	buf_added(&r->a.in, n);
	r->a.bytes_in = f->at->again = n;
}

void flow_hold(struct worker *w, struct held_syn *s)
{
	struct redir_worker *rw = redir_worker_of(w);
	struct flow *f;

	/* Too many: the SYN goes on as if it had not been held. */
	if (!budget_take(&rw->redir->budget, &rw->w)) {
		held_syn_free(s);
		return;
	}
	f = flow_new(rw, -1, &s->src, addr_family(&s->dst));
	if (!f) {
		budget_give(&rw->redir->budget);
		held_syn_free(s);
		return;
	}
	f->at->held = s;
	f->at->tos = (uint8_t)(f->at->conf->dscp ? s->dscp << 2 : 0);
	flow_set_dst(f, &s->dst); /* both from one packet */
	s->flow = f;
	rw->counters.accepted++;
	take_data(f, s);
	f->at->decision = flow_decision(f);
	flow_go(f, f->at->decision);
}
