/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/forward.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "libsocks6/socks6.h"
#include "redir/bindreq.h"
#include "redir/inbound.h"
#include "redir/redir.h"
#include "redir/steer.h"

/*
 * How long until the next attempt
 *   WAITING   POLL_S, until the proxy is up and we have a session with it
 *   RETRYING  PAUSE_MIN_S, doubling to PAUSE_MAX_S; begins anew when a port was had for STEADY_S
 *   REFUSED   REFUSED_S: an administrator has to do something
 * and while LISTENING a look at it, each LOOK_S.
 */
#define POLL_S      0.25
#define PAUSE_MIN_S 0.5
#define PAUSE_MAX_S 30.0
#define REFUSED_S   60.0
#define LOOK_S      1.0
#define STEADY_S    30.0
#define HOLD_S      1.0 /* after a further request has failed */
#define FAILS_MAX   5   /* of them in a row: then the port is asked for anew */

enum forward_state {
	FORWARD_WAITING,   /* the proxy is not up, or there is no session yet */
	FORWARD_ASKING,    /* the request for the port is under way */
	FORWARD_LISTENING, /* the proxy has the port for us */
	FORWARD_RETRYING,  /* that has failed or ended: again after a pause */
	FORWARD_REFUSED    /* the proxy does not want to: again after a long one */
};

static const char *const state_words[] = {
	[FORWARD_WAITING] = "waiting",     [FORWARD_ASKING] = "asking",
	[FORWARD_LISTENING] = "listening", [FORWARD_RETRYING] = "retrying",
	[FORWARD_REFUSED] = "refused",
};

static const char *const source_words[] = {[SOURCE_TRANSPARENT] = "transparent",
					   [SOURCE_PROXY_V2] = "proxy-v2",
					   [SOURCE_NONE] = "none"};

struct forwards {
	struct redir *rd;
	struct list list;
	unsigned next_worker;
	bool stopped;
};

struct forward {
	struct list_node node; /* in forwards.list */
	struct forwards *fs;
	struct forward_shared *shared; /* a reference */
	struct addr listen;
	unsigned backlog, want_ready;
	enum forward_state state;
	char reason[160];
	double since_s; /* worker_now */
	double pause_s;
	ev_timer timer;
	struct bindreq *control;
	struct addr bound;
	unsigned granted; /* backlog */
	unsigned session, generation;
	unsigned out;   /* tickets under way, */
	unsigned extra; /* and so many beyond want_ready, for peers that wait */
	unsigned fails; /* tickets in a row */
	double hold_s;  /* no tickets before */
	uint64_t established;
	struct log_limit limit;
};

/* ---- what is shared ---- */

struct forward_shared *forward_shared_get(struct forward_shared *s)
{
	atomic_fetch_add(&s->refs, 1);
	return s;
}

void forward_shared_put(struct forward_shared *s)
{
	if (atomic_fetch_sub(&s->refs, 1) > 1)
		return;
	upstream_put(s->up);
	free(s->name);
	free(s);
}

static struct forward_shared *shared_new(const struct forward_section *c, struct upstream *up)
{
	struct forward_shared *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	atomic_init(&s->refs, 1);
	s->name = strdup(c->name);
	s->n_to = (unsigned)c->to.n;
	memcpy(s->to, c->to.v, c->to.n * sizeof(s->to[0]));
	s->source = (enum forward_source)c->source;
	s->up = upstream_get(up);
	if (s->name)
		return s;
	forward_shared_put(s);
	return NULL;
}

/* ---- states ---- */

static double now_of(const struct forward *f)
{
	return worker_now(&f->fs->rd->main);
}

static void set_timer(struct forward *f, double s)
{
	struct ev_loop *loop = f->fs->rd->main.loop;

	ev_timer_stop(loop, &f->timer);
	ev_timer_set(&f->timer, s, 0.);
	ev_timer_start(loop, &f->timer);
}

/* The one function that changes its state; why: NULL = nothing to say. */
static void change(struct forward *f, enum forward_state state, const char *why)
{
	bool same = f->state == state && strcmp(f->reason, why ? why : "") == 0;

	snprintf(f->reason, sizeof(f->reason), "%s", why ? why : "");
	if (!same)
		f->since_s = now_of(f);
	f->state = state;
	switch (state) {
	case FORWARD_WAITING:
		set_timer(f, POLL_S);
		break;
	case FORWARD_ASKING:
		ev_timer_stop(f->fs->rd->main.loop, &f->timer); /* the request has its own */
		break;
	case FORWARD_LISTENING:
		set_timer(f, LOOK_S);
		break;
	case FORWARD_RETRYING:
		set_timer(f, f->pause_s);
		break;
	case FORWARD_REFUSED:
		set_timer(f, REFUSED_S);
		break;
	}
}

static void close_control(struct forward *f)
{
	if (f->control)
		bindreq_free(f->control);
	f->control = NULL;
	f->generation++;
	f->out = f->extra = f->fails = 0;
}

static void __attribute__((format(printf, 2, 3))) retry(struct forward *f, const char *fmt, ...)
{
	char why[sizeof(f->reason)], text[ADDR_STRLEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	if (f->state == FORWARD_LISTENING && now_of(f) - f->since_s > STEADY_S)
		f->pause_s = 0;
	f->pause_s = f->pause_s > 0 ? f->pause_s * 2 : PAUSE_MIN_S;
	if (f->pause_s > PAUSE_MAX_S)
		f->pause_s = PAUSE_MAX_S;
	log_limited(&f->limit, 10, LVL_WARNING,
		    "forward %s: %s at proxy %s is not open: %s; trying again in %.1f s",
		    f->shared->name, addr_str(&f->listen, text, sizeof(text)), f->shared->up->name,
		    why, f->pause_s);
	close_control(f);
	change(f, FORWARD_RETRYING, why);
}

/* ---- tickets ---- */

static bool send_ticket(struct forward *f)
{
	struct forwards *fs = f->fs;
	struct redir *rd = fs->rd;
	struct ticket *t = calloc(1, sizeof(*t));

	if (!t)
		return false;
	t->job.run = inbound_begin;
	t->rd = rd;
	t->shared = forward_shared_get(f->shared);
	t->bound = f->bound;
	t->session = f->session;
	t->generation = f->generation;
	f->out++;
	worker_post(&rd->workers[fs->next_worker++ % rd->n_workers].w, &t->job);
	return true;
}

/* As many as are to be ready, and one for each peer that was said to wait. */
static void fill(struct forward *f)
{
	if (f->state != FORWARD_LISTENING || now_of(f) < f->hold_s)
		return;
	if (f->extra > f->granted)
		f->extra = f->granted;
	while (f->out < f->want_ready + f->extra && send_ticket(f))
		;
}

static void ticket_back(struct job *job, struct worker *w)
{
	struct ticket *t = container_of(job, struct ticket, job);
	struct forwards *fs = t->rd->forwards;
	struct forward *f = NULL;
	struct list_node *n;

	(void)w;
	for (n = fs ? list_first(&fs->list) : NULL; n && !f; n = list_next(&fs->list, n)) {
		struct forward *one = container_of(n, struct forward, node);
		if (one->shared == t->shared && one->generation == t->generation)
			f = one;
	}
	if (f && f->state == FORWARD_LISTENING) {
		f->out--;
		if (t->outcome == TICKET_PEER && f->extra > 0)
			f->extra--;
		if (t->outcome != TICKET_FAILED)
			f->fails = 0;
		else if (++f->fails >= FAILS_MAX)
			retry(f, "no further requests succeed: %s", t->why);
		else
			f->hold_s = now_of(f) + HOLD_S;
		fill(f);
	}
	forward_shared_put(t->shared);
	free(t);
}

void ticket_return(struct ticket *t, enum ticket_outcome outcome, const char *why)
{
	t->outcome = outcome;
	snprintf(t->why, sizeof(t->why), "%s", why ? why : "");
	t->job.run = ticket_back;
	worker_post(&t->rd->main, &t->job);
}

/* ---- the control connection ---- */

static void control_bound(void *owner, const struct addr *addr, unsigned backlog)
{
	struct forward *f = owner;
	char text[ADDR_STRLEN];

	if (backlog == 0) {
		retry(f, "the proxy grants no backlog");
		return;
	}
	f->bound = *addr;
	f->granted = backlog;
	f->session = bindreq_session(f->control);
	f->established++;
	f->hold_s = 0;
	change(f, FORWARD_LISTENING, NULL);
	log_notice("forward %s: proxy %s listens on %s", f->shared->name, f->shared->up->name,
		   addr_str(addr, text, sizeof(text)));
	fill(f);
}

static void control_peer(void *owner, const struct addr *peer)
{
	struct forward *f = owner;

	(void)peer;
	f->extra++;
	fill(f);
}

/* The port itself is refused: what would help? */
static void refused(struct forward *f, uint8_t code, const char *why)
{
	char text[sizeof(f->reason)];
	unsigned port = addr_port(&f->listen);

	switch (code) {
	case S6_REPLY_NOT_ALLOWED:
		snprintf(text, sizeof(text),
			 "port %u is not allowed to us there (bind_ports in its proxy.conf)", port);
		break;
	case S6_REPLY_CMD_UNSUPPORTED:
		snprintf(text, sizeof(text), "the proxy does not know BIND");
		break;
	case S6_REPLY_ADDR_UNSUPPORTED:
	case S6_REPLY_NET_UNREACHABLE:
		snprintf(text, sizeof(text), "the proxy has no such address (%s)", why);
		break;
	default:
		retry(f, "port %u cannot be had: in use there, or too many (%s)", port, why);
		return;
	}
	log_limited(&f->limit, 10, LVL_ERROR, "forward %s: proxy %s: %s", f->shared->name,
		    f->shared->up->name, text);
	close_control(f);
	change(f, FORWARD_REFUSED, text);
}

static void control_failed(void *owner, enum bindreq_failed kind, uint8_t code, const char *why)
{
	struct forward *f = owner;

	if (kind == BINDREQ_NOT_NOW && f->state == FORWARD_ASKING) {
		close_control(f);
		change(f, FORWARD_WAITING, why);
	} else if (kind == BINDREQ_REFUSED && f->state == FORWARD_ASKING) {
		refused(f, code, why);
	} else if (kind == BINDREQ_REFUSED) {
		retry(f, "the proxy has closed the port (%s): has another router asked for it?",
		      why);
	} else {
		retry(f, "%s", why);
	}
}

static const struct bindreq_ops control_ops = {
	.bound = control_bound, .peer = control_peer, .failed = control_failed};

static void ask(struct forward *f)
{
	const struct redir_conf *c = f->fs->rd->conf;
	const struct bindreq_wish wish = {.w = &f->fs->rd->main,
					  .up = f->shared->up,
					  .addr = f->listen,
					  .backlog = f->backlog,
					  .mark = c->mark,
					  .dial_timeout_s = c->dial_timeout_s,
					  .reply_timeout_s = c->reply_timeout_s};

	change(f, FORWARD_ASKING, f->reason[0] ? f->reason : NULL);
	f->control = bindreq_start(&wish, &control_ops, f);
	if (!f->control)
		retry(f, "out of memory");
}

/* The port goes with its session. */
static bool session_gone(const struct forward *f)
{
	struct upstream *up = f->shared->up;
	bool gone;

	pthread_mutex_lock(&up->lock);
	gone = !up->session.valid || up->session.number != f->session;
	pthread_mutex_unlock(&up->lock);
	return gone;
}

static void look(struct forward *f)
{
	if (bindreq_is_dead(f->control)) {
		retry(f, "the connection to the proxy is dead");
	} else if (session_gone(f)) {
		retry(f, "the session with the proxy is lost");
	} else {
		/* The connection may outlive that. */
		snprintf(f->reason, sizeof(f->reason), "%s",
			 upstream_is_up(f->shared->up) ? "" : "the proxy does not answer");
		set_timer(f, LOOK_S);
		fill(f);
	}
}

static void timer_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct forward *f = container_of(t, struct forward, timer);

	(void)loop;
	(void)events;
	if (f->state == FORWARD_LISTENING)
		look(f);
	else
		ask(f);
}

/* ---- which there are ---- */

static struct upstream *find_upstream(const struct redir *rd, const struct forward_section *c)
{
	const struct proxy_section *p = redir_conf_forward_proxy(rd->conf, c);

	for (unsigned i = 0; p && i < rd->pool->n; i++)
		if (strcmp(rd->pool->v[i]->name, p->name) == 0)
			return rd->pool->v[i];
	return NULL;
}

static bool is_same(const struct forward *f, const struct forward_section *c,
		    const struct upstream *up)
{
	const struct forward_shared *s = f->shared;

	if (strcmp(s->name, c->name) != 0 || s->up != up || s->n_to != c->to.n ||
	    (int)s->source != c->source || !addr_equal(&f->listen, &c->listen.v[0]) ||
	    f->backlog != (unsigned)c->backlog || f->want_ready != (unsigned)c->ready)
		return false;
	for (unsigned i = 0; i < s->n_to; i++)
		if (!addr_equal(&s->to[i], &c->to.v[i]))
			return false;
	return true;
}

static void forward_free(struct forward *f)
{
	ev_timer_stop(f->fs->rd->main.loop, &f->timer);
	close_control(f);
	list_remove(&f->fs->list, &f->node);
	forward_shared_put(f->shared);
	free(f);
}

static bool forward_new(struct forwards *fs, const struct forward_section *c, struct upstream *up)
{
	struct forward *f = calloc(1, sizeof(*f));

	if (!f)
		return false;
	f->fs = fs;
	f->shared = shared_new(c, up);
	if (!f->shared) {
		free(f);
		return false;
	}
	f->listen = c->listen.v[0];
	f->backlog = (unsigned)c->backlog;
	f->want_ready = (unsigned)c->ready;
	ev_init(&f->timer, timer_cb);
	list_push(&fs->list, &f->node);
	f->since_s = now_of(f);
	change(f, FORWARD_WAITING, NULL);
	return true;
}

static const struct forward_section *section_of(const struct forwards *fs, const struct forward *f)
{
	const struct redir_conf *c = fs->rd->conf;
	struct list_node *n;

	for (n = list_first(&c->forwards); n; n = list_next(&c->forwards, n)) {
		const struct forward_section *one = container_of(n, struct forward_section, node);
		if (is_same(f, one, find_upstream(fs->rd, one)))
			return one;
	}
	return NULL;
}

static bool exists(const struct forwards *fs, const struct forward_section *c,
		   const struct upstream *up)
{
	struct list_node *n;

	for (n = list_first(&fs->list); n; n = list_next(&fs->list, n))
		if (is_same(container_of(n, struct forward, node), c, up))
			return true;
	return false;
}

/* What servers answer to peers has to come here. */
static void tell_return_path(const struct redir *rd)
{
	const struct redir_conf *c = rd->conf;

	if (!redir_conf_poses(c) || steer_rules(rd->steer))
		return;
	if (c->mode == MODE_TPROXY)
		log_notice(
			"forwards: the rules are not ours: source = transparent works where they "
			"capture the server's interface");
	else
		log_warning("forwards: source = transparent needs our own rules (install = yes) or "
			    "mode = tproxy: set source = proxy-v2 or none");
}

void forwards_reload(struct forwards *fs)
{
	struct list_node *n, *tmp;

	if (!fs || fs->stopped)
		return;
	tell_return_path(fs->rd);
	list_for_each_safe (&fs->list, n, tmp) {
		struct forward *f = container_of(n, struct forward, node);

		if (section_of(fs, f)) {
			/* Whoever reloads may have done something about it. */
			if (f->state == FORWARD_REFUSED || f->state == FORWARD_RETRYING) {
				f->pause_s = 0;
				set_timer(f, 0.);
			}
			continue;
		}
		log_notice("forward %s: removed or changed; its connections go on",
			   f->shared->name);
		forward_free(f);
	}
	for (n = list_first(&fs->rd->conf->forwards); n;
	     n = list_next(&fs->rd->conf->forwards, n)) {
		const struct forward_section *c = container_of(n, struct forward_section, node);
		struct upstream *up = find_upstream(fs->rd, c);

		if (up && !exists(fs, c, up) && !forward_new(fs, c, up))
			log_error("forward %s: out of memory", c->name);
	}
}

struct forwards *forwards_new(struct redir *rd)
{
	struct forwards *fs = calloc(1, sizeof(*fs));

	if (!fs)
		return NULL;
	fs->rd = rd;
	list_init(&fs->list);
	forwards_reload(fs);
	return fs;
}

void forwards_stop(struct forwards *fs)
{
	struct list_node *n;

	if (!fs)
		return;
	fs->stopped = true;
	while ((n = list_first(&fs->list)))
		forward_free(container_of(n, struct forward, node));
}

void forwards_free(struct forwards *fs)
{
	forwards_stop(fs);
	free(fs);
}

/* ---- sixpathctl ---- */

static const char *targets_str(const struct forward_shared *s, char *buf, size_t cap)
{
	char text[ADDR_STRLEN];

	buf[0] = '\0';
	for (unsigned i = 0; i < s->n_to; i++) {
		size_t len = strlen(buf);
		snprintf(buf + len, cap - len, "%s%s", i ? ", " : "",
			 addr_str(&s->to[i], text, sizeof(text)));
	}
	return buf;
}

static void report_one(struct report *r, const struct forward *f)
{
	struct forward_shared *s = f->shared;
	char text[2 * ADDR_STRLEN];

	report_row(r);
	report_str(r, "name", s->name);
	report_str(r, "proxy", s->up->name);
	report_str(r, "listen",
		   addr_str(f->state == FORWARD_LISTENING ? &f->bound : &f->listen, text,
			    sizeof(text)));
	report_str(r, "to", targets_str(s, text, sizeof(text)));
	report_str(r, "source", source_words[s->source]);
	report_str(r, "state", state_words[f->state]);
	report_seconds(r, "since", now_of(f) - f->since_s);
	report_u64(r, "established", f->established);
	report_u64(r, "backlog", f->state == FORWARD_LISTENING ? f->granted : f->backlog);
	report_u64(r, "ready", atomic_load(&s->ready));
	report_u64(r, "connections", atomic_load(&s->active));
	report_u64(r, "served", atomic_load(&s->served));
	report_u64(r, "failed", atomic_load(&s->failed));
	report_u64(r, "source_lost", atomic_load(&s->unnamed));
	report_bytes(r, "bytes_up", atomic_load(&s->bytes_up));
	report_bytes(r, "bytes_down", atomic_load(&s->bytes_down));
	report_str(r, "reason", f->reason[0] ? f->reason : NULL);
}

void forwards_command(struct control_request *rq, void *ctx)
{
	const struct redir *rd = ctx;
	struct report *r = control_report(rq);
	struct list_node *n;

	report_list(r, "forwards");
	for (n = rd->forwards ? list_first(&rd->forwards->list) : NULL; n;
	     n = list_next(&rd->forwards->list, n))
		report_one(r, container_of(n, struct forward, node));
	report_end(r);
	control_reply(rq);
}
