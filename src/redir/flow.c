/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/flow.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/report.h"
#include "core/sock.h"
#include "core/text.h"
#include "redir/flow_priv.h"
#include "redir/front.h"
#include "redir/origdst.h"
#include "redir/sniff.h"

/*
 * Time limits
 *   REQUEST    REQUEST_S for a program at the front door to say where to
 *   WAIT_DATA  first_data_ms; the device may also speak later
 *   DIAL       dial_timeout, kept by the dial
 *   HANDSHAKE  dial_timeout until the authentication reply, which the proxy sends at once;
 *              then reply_timeout until the operation reply, for which it must reach the server
 *   DIRECT, BYPASS  kept by the dial (flow_direct.c)
 *   HELD       CLAIM_S for the device's connection, which takes one round trip of the LAN
 *   RELAY      idle, kept by the relay
 */
#define CLAIM_S   10.0
#define REQUEST_S 10.0

static const char *const state_words[] = {
	[FLOW_REQUEST] = "request",     [FLOW_WAIT_DATA] = "wait-data", [FLOW_DIAL] = "dial",
	[FLOW_HANDSHAKE] = "handshake", [FLOW_DIRECT] = "direct",       [FLOW_BYPASS] = "bypass",
	[FLOW_HELD] = "held",           [FLOW_RELAY] = "relay",         [FLOW_CLOSED] = "closed",
};

static const char *const route_words[] = {
	[ROUTE_NONE] = "none",
	[ROUTE_PROXY] = "proxy",
	[ROUTE_DIRECT] = "direct",
	[ROUTE_BYPASS] = "bypass",
};

void flow_because(struct flow *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->at->why, sizeof(f->at->why), fmt, ap);
	va_end(ap);
}

/* ---- ending ---- */

void flow_note_facts(struct flow *f)
{
	bool relays = f->state == FLOW_RELAY;
	int fd = relays ? f->relay.b.fd : f->at->fd;
	unsigned n = 0;

	/* A connection that is closing does not say any more: what it was stays. */
	if (f->mptcp && fd >= 0 && sock_mptcp(fd, &n) && n > f->subflows)
		f->subflows = (uint16_t)n;
}

static const char *server_mptcp_str(const struct flow *f)
{
	if (f->server_mptcp == 0)
		return "unknown";
	return f->server_mptcp == S6_AVAIL_YES ? "yes" : "no";
}

static double first_byte_s(const struct flow *f)
{
	return f->first_s;
}

/* The proxies before the one that is named; NULL = none. */
static const char *flow_via(const struct flow *f, char *buf, size_t cap)
{
	return f->route == ROUTE_PROXY && f->up ? upstream_via_str(f->up, buf, cap) : NULL;
}

/* Told to the proxy instead of the address; NULL = none. */
static const char *flow_name(const struct flow *f)
{
	const char *name;

	if (f->state != FLOW_RELAY)
		return f->at->name;
	if (!f->left)
		return NULL;
	name = f->left + strlen(f->left) + 1;
	return name[0] ? name : NULL;
}

/* NULL = it has none. */
static const char *flow_name_str(const struct flow *f, char *buf, size_t cap)
{
	const char *name = flow_name(f);

	if (!name)
		return NULL;
	text_escape(buf, cap, name);
	return buf;
}

const char *flow_dst_str(const struct flow *f, char *buf, size_t cap)
{
	const char *name = f->front ? flow_name(f) : NULL;
	struct addr dst = flow_dst(f);

	if (!name)
		return addr_str(&dst, buf, cap);
	snprintf(buf, cap, "%s:%u", name, addr_port(&dst)); /* front.c allows no odd octets */
	return buf;
}

static const char *flow_entry(const struct flow *f)
{
	return f->front                                ? flow_front_entry(f)
	       : f->state != FLOW_RELAY && f->at->held ? "held"
	       : f->only_proxy                         ? "own"
						       : "captured";
}

static const char *flow_why(const struct flow *f)
{
	if (f->state != FLOW_RELAY)
		return f->at->why;
	return f->left ? f->left : "";
}

static void log_end(const struct flow *f, enum end_reason reason, int err)
{
	char src[ADDR_STRLEN], dst[FLOW_DST_STRLEN], first[32] = "-", names[128];
	char text[S6_NAME_MAX * 4 + 1];
	const char *name, *via, *why;
	struct addr from;

	if (!log_enabled(LVL_INFO))
		return;
	from = flow_src(f);
	name = f->front ? NULL : flow_name_str(f, text, sizeof(text)); /* dst has it */
	via = flow_via(f, names, sizeof(names));
	why = flow_why(f);
	if (first_byte_s(f) >= 0)
		snprintf(first, sizeof(first), "%.1fms", first_byte_s(f) * 1e3);
	log_info("flow %s -> %s%s%s%s%s route=%s proxy=%s%s%s mptcp=%s subflows=%u tfo=%s "
		 "syn_bytes=%u prewarm=%s "
		 "server_mptcp=%s up=%" PRIu64 " down=%" PRIu64
		 " first_byte=%s duration=%.3fs reason=%s%s%s%s%s%s%s",
		 addr_str(&from, src, sizeof(src)), flow_dst_str(f, dst, sizeof(dst)),
		 f->front ? " entry=" : "", f->front ? flow_front_entry(f) : "",
		 name ? " name=" : "", name ? name : "", route_words[f->route],
		 f->route == ROUTE_PROXY && f->up ? f->up->name : "-", via ? " via=" : "",
		 via ? via : "", f->mptcp ? "yes" : "no", f->subflows, f->tfo ? "yes" : "no",
		 f->syn_bytes, f->prewarmed ? "yes" : "no", server_mptcp_str(f),
		 f->relay.b.bytes_out, f->relay.b.bytes_in, first, flow_now(f) - f->started,
		 end_reason_str(reason), f->replied && f->reply_code ? " reply=" : "",
		 f->replied && f->reply_code ? s6_reply_str(f->reply_code) : "",
		 err ? " error=" : "", err ? strerror(err) : "", why[0] ? " upstream=" : "", why);
}

void flow_drop_upstream(struct flow *f)
{
	if (!f->up)
		return;
	upstream_flow_count(f->up, -1);
	upstream_put(f->up);
	f->up = NULL;
}

void flow_note_dialled(struct flow *f)
{
	f->mptcp = f->at->dial.mptcp;
	f->subflows = (uint16_t)f->at->dial.subflows;
}

void flow_attempt_close(struct flow *f)
{
	struct attempt *at = f->at;

	dial_stop(&at->dial);
	ev_timer_stop(f->relay.w->loop, &at->patience);
	ev_io_stop(f->relay.w->loop, &at->io);
	if (at->fd >= 0)
		sock_reset(at->fd); /* nobody waits for what is in it */
	at->fd = -1;
	ev_io_set(&at->io, -1, 0); /* the next one may get the same number */
	loopguard_remove(flow_rw(f)->redir->loopguard, &f->guard);
	buf_clear(&f->relay.b.in, &f->relay.w->pool);
	f->prewarmed = f->tfo = f->mptcp = false;
	f->syn_bytes = f->subflows = 0;
}

static void attempt_free(struct flow *f)
{
	ev_timer_stop(f->relay.w->loop, &f->at->deadline);
	ev_timer_stop(f->relay.w->loop, &f->at->patience);
	ev_io_stop(f->relay.w->loop, &f->at->dev_io);
	redir_conf_put(f->at->conf);
	explicit_bzero(f->at->request, f->at->request_len);
	pool_put(f->at->pool);
	free(f->at->name);
	free(f->at);
}

/* It came to nothing. */
static void attempt_over(struct flow *f, bool in_order)
{
	int fd = f->at->dev_fd;

	flow_attempt_close(f);
	attempt_free(f);
	if (fd >= 0 && in_order)
		close(fd);
	else if (fd >= 0)
		sock_reset(fd);
}

static void flow_bury(struct corpse *c)
{
	free(container_of(c, struct flow, corpse));
}

/* The device sees an orderly end only if the connection ended in order. */
static bool ends_in_order(enum end_reason reason)
{
	return reason == END_CLOSED;
}

void flow_end(struct flow *f, enum end_reason reason, int err)
{
	struct redir_worker *rw = flow_rw(f);

	if (f->state == FLOW_CLOSED)
		return;
	if (reason != END_NONE)
		log_end(f, reason, err);
	flow_held_end(f, reason, err);
	flow_front_end(f, reason, err);
	if (f->state == FLOW_RELAY)
		free(f->left);
	else
		attempt_over(f, ends_in_order(reason));
	f->at = NULL;
	f->state = FLOW_CLOSED;
	rw->counters.ended[reason] += reason != END_NONE;
	rw->counters.bytes_up += f->relay.b.bytes_out;
	rw->counters.bytes_down += f->relay.b.bytes_in;
	loopguard_remove(rw->redir->loopguard, &f->guard);
	buf_clear(&f->relay.a.in, &rw->w.pool);
	flow_drop_upstream(f);
	budget_give(&rw->redir->budget);
	list_remove(&rw->flows, &f->node);
	f->corpse.bury = flow_bury;
	worker_bury(&rw->w, &f->corpse);
}

void flow_deadline(struct flow *f, double s)
{
	f->at->deadline.repeat = s > 0 ? s : 0.;
	ev_timer_again(f->relay.w->loop, &f->at->deadline); /* starts, moves or stops it */
}

void flow_change(struct flow *f, enum flow_state state)
{
	f->state = state;
	switch (state) {
	case FLOW_REQUEST:
		flow_deadline(f, REQUEST_S);
		break;
	case FLOW_WAIT_DATA:
		flow_deadline(f, f->at->conf->first_data_ms / 1e3);
		break;
	case FLOW_HANDSHAKE:
		flow_deadline(f, f->at->conf->dial_timeout_s);
		break;
	case FLOW_HELD:
		flow_deadline(f, CLAIM_S);
		break;
	case FLOW_DIAL:
	case FLOW_DIRECT:
	case FLOW_BYPASS:
	case FLOW_RELAY:
	case FLOW_CLOSED:
		flow_deadline(f, 0);
		break;
	}
}

/* ---- relay ---- */

static void relay_first(struct relay *r, struct end *e)
{
	struct flow *f = container_of(r, struct flow, relay);
	struct sock_info info;
	struct addr dst;

	if (e == &r->b)
		f->first_s = (float)(flow_now(f) - f->started);
	if (e == &r->b && f->route == ROUTE_BYPASS && sock_info(e->fd, &info) == 0) {
		e->fell_back = !info.mptcp;
		flow_bypass_first(f, info.mptcp);
	}
	if (e != &r->b || r->a.bytes_in > 0)
		return;
	dst = flow_dst(f);
	firstdata_server_first(&flow_rw(f)->redir->firstdata, addr_port(&dst), flow_now(f));
}

static void relay_closing(struct relay *r)
{
	struct flow *f = container_of(r, struct flow, relay);

	if (log_enabled(LVL_INFO))
		flow_note_facts(f);
	if (f->on_paths)
		wan_usage_add(&flow_rw(f)->usage, r->b.fd);
}

static void relay_done(struct relay *r, enum end_reason reason, int err)
{
	struct flow *f = container_of(r, struct flow, relay);

	/* A proxy that was restarted resets its connections: ask before the next flow suffers. */
	if ((reason == END_RESET_UP || reason == END_DEAD_UP) && f->route == ROUTE_PROXY)
		upstream_suspect(f->up);
	if (f->route == ROUTE_BYPASS)
		flow_bypass_ended(f, reason);
	flow_end(f, reason, err);
}

static const struct relay_ops relay_ops = {
	.done = relay_done, .first = relay_first, .closing = relay_closing};

void flow_server_failed(struct flow *f, int err)
{
	struct addr to = flow_dst(f);
	char dst[ADDR_STRLEN];

	if (!flow_knows_server(f))
		return;
	if (failed_put(flow_rw(f)->redir->failed, &to, err, flow_now(f)))
		log_debug("%s has failed: %s: new connections to it are refused for a while",
			  addr_str(&to, dst, sizeof(dst)), strerror(err));
}

/* NULL = there is nothing; or no memory, then the log does without. */
static char *left_new(const struct attempt *at)
{
	const char *name = at->name ? at->name : "";
	size_t n = strlen(at->why) + 1, m = strlen(name) + 1;
	char *text = n + m > 2 ? malloc(n + m) : NULL;

	if (!text)
		return NULL;
	memcpy(text, at->why, n);
	memcpy(text + n, name, m);
	return text;
}

void flow_relay(struct flow *f, int up_fd, size_t sent)
{
	struct redir_worker *rw = flow_rw(f);
	struct relay *r = &f->relay;
	struct attempt *at = f->at;
	struct addr dst = flow_dst(f);
	int fd = at->dev_fd;
	char *left;

	flow_note_dialled(f);
	if (flow_knows_server(f))
		failed_succeeded(rw->redir->failed, &dst, flow_now(f));
	if (at->held) {
		flow_held_ready(f, up_fd, sent);
		return;
	}
	if (f->front) {
		int rc = flow_front_accept(f);

		if (rc < 0) {
			at->fd = up_fd;
			flow_end(f, END_DOWN_GONE, -rc);
			return;
		}
	}
	ev_io_stop(rw->w.loop, &at->dev_io); /* before it is copied */
	buf_consume(&r->a.in, &rw->w.pool, sent);
	r->b.bytes_out = sent;
	r->idle_s = (float)at->conf->idle_s;
	r->dead_s = (float)at->conf->dead_s;
	r->b.mortal = true;
	r->b.fell_back = at->dial.granted.mptcp && !at->dial.mptcp && !f->prewarmed;
	r->a.io = at->dev_io;
	r->b.io = at->io.fd == up_fd ? at->io : at->dial.io;
	f->on_paths = at->conf->paths.count > 0;
	left = left_new(at);
	rw->counters.routed[f->route]++;
	flow_change(f, FLOW_RELAY);
	attempt_free(f);
	f->left = left;
	relay_start(r, fd, up_fd, &relay_ops);
	rw->counters.mptcp += f->mptcp && f->route == ROUTE_PROXY; /* the others are `bypassed` */
	rw->counters.fastopen += f->tfo;
	if (r->b.in.len > 0) {
		r->b.bytes_in = r->b.in.len;
		relay_first(r, &r->b);
	}
}

/* ---- the device ---- */

static void device_watch(struct flow *f)
{
	bool want = f->at->dev_fd >= 0 && !f->relay.a.eof && f->relay.a.in.len < BUF_SIZE;

	if (want)
		ev_io_start(f->relay.w->loop, &f->at->dev_io);
	else
		ev_io_stop(f->relay.w->loop, &f->at->dev_io);
}

/* Take what the device has sent. False when the flow has ended. */
static bool device_read(struct flow *f)
{
	struct relay *r = &f->relay;
	struct addr dst;
	size_t room;
	uint8_t *at = buf_room(&r->a.in, &f->relay.w->pool, &room);
	ssize_t n;
	int err;

	if (!at)
		return true; /* full; or no memory, then the next event tries again */
	n = recv(f->at->dev_fd, at, room, 0);
	err = errno;
	if (n > 0) {
		if (r->a.bytes_in == 0) {
			dst = flow_dst(f);
			firstdata_client_first(&flow_rw(f)->redir->firstdata, addr_port(&dst));
		}
		buf_added(&r->a.in, (size_t)n);
		r->a.bytes_in += (uint64_t)n;
		return true;
	}
	if (r->a.in.len == 0)
		buf_clear(&r->a.in, &f->relay.w->pool);
	if (n == 0) {
		r->a.eof = true;
		return true;
	}
	if (err == EAGAIN || err == EWOULDBLOCK || err == EINTR)
		return true;
	flow_end(f, END_DOWN_GONE, err);
	return false;
}

static void end_loop(struct flow *f)
{
	char src[ADDR_STRLEN], dst[ADDR_STRLEN];
	struct addr from = flow_src(f), to = flow_dst(f);

	log_limited(&flow_rw(f)->limit_loop, 1, LVL_ERROR,
		    "our own connection %s -> %s was captured: exclude packets with mark 0x%x "
		    "from the redirection rules",
		    addr_str(&from, src, sizeof(src)), addr_str(&to, dst, sizeof(dst)),
		    f->at->conf->mark);
	flow_end(f, END_LOOP, 0);
}

static void refuse(struct flow *f)
{
	struct addr dst = flow_dst(f);
	int err = failed_look(flow_rw(f)->redir->failed, &dst, flow_now(f), false);

	if (err)
		flow_end(f, END_FAILED_LATELY, err);
	else
		flow_next(f); /* reached by somebody else just now */
}

/* What the device's first bytes say, for the proxy to look up near the server. Only where an address
 * means the same everywhere. */
static void find_name(struct flow *f)
{
	const struct redir_conf *c = f->at->conf;
	const struct buf *in = &f->relay.a.in;
	char name[SNIFF_NAME_MAX + 1];
	struct addr dst;

	if (c->names != NAMES_SNI || f->at->name || flow_now(f) < flow_rw(f)->names_rest_s)
		return;
	dst = flow_dst(f);
	if (conf_ports_contain(&c->names_ports, addr_port(&dst)) &&
	    addr_classify(&dst) == ADDR_PUBLIC &&
	    sniff_name(buf_data(in), in->len, addr_port(&dst), name))
		f->at->name = strdup(name);
}

void flow_go(struct flow *f, enum decision what)
{
	switch (what) {
	case DECIDE_LOOP:
		end_loop(f);
		break;
	case DECIDE_DIRECT:
		flow_direct(f);
		break;
	case DECIDE_REFUSE:
		refuse(f);
		break;
	case DECIDE_BYPASS:
		flow_bypass(f);
		break;
	case DECIDE_PROXY:
		find_name(f);
		flow_next(f);
		break;
	}
}

enum decision flow_decision(struct flow *f)
{
	struct addr src = flow_src(f), dst = flow_dst(f);

	return decide(flow_rw(f)->redir, f->at->conf, f->at->pool, &src, &dst, flow_now(f), true);
}

static void device_io_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct flow *f = io->data;

	(void)loop;
	(void)events;
	if (f->state == FLOW_HELD) {
		flow_held_readable(f);
		return;
	}
	if (f->state == FLOW_REQUEST) {
		flow_front_readable(f);
		return;
	}
	if (!device_read(f))
		return;
	device_watch(f);
	if (f->state == FLOW_WAIT_DATA && (f->relay.a.bytes_in > 0 || f->relay.a.eof)) {
		flow_go(f, f->at->decision);
	} else if (f->state == FLOW_HANDSHAKE || f->state == FLOW_DIAL) {
		flow_proxy_more(f);
	}
}

static void deadline_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct flow *f = t->data;

	(void)events;
	ev_timer_stop(loop, t);
	if (f->state == FLOW_WAIT_DATA)
		flow_go(f, f->at->decision);
	else if (f->state == FLOW_HANDSHAKE)
		flow_proxy_silent(f);
	else if (f->state == FLOW_HELD)
		flow_end(f, END_DOWN_GONE, 0);
	else if (f->state == FLOW_REQUEST)
		flow_end(f, END_REQUEST_TIMEOUT, 0);
}

/* ---- start ---- */

static size_t packed_len(bool v6)
{
	return v6 ? ADDR_PACKED_V6 : ADDR_PACKED_V4;
}

struct flow *flow_new(struct redir_worker *rw, int fd, const struct addr *src,
		      sa_family_t dst_family)
{
	bool v6 = addr_family(src) == AF_INET6, dst_v6 = dst_family == AF_INET6;
	struct flow *f =
		calloc(1, offsetof(struct flow, addrs) + packed_len(v6) + packed_len(dst_v6));

	if (!f)
		return NULL;
	f->at = malloc(sizeof(*f->at) + rw->pool->hops * UP_REQUEST_MAX);
	if (!f->at) {
		free(f);
		return NULL;
	}
	memset(f->at, 0, offsetof(struct attempt, chain));
	f->at->conf = redir_conf_get(rw->conf);
	f->id = ++rw->next_id;
	f->v6 = v6;
	f->dst_room_v6 = dst_v6;
	addr_pack(src, f->addrs);
	f->first_s = -1;
	f->at->dev_fd = fd;
	f->started = worker_now(&rw->w);
	f->at->pool = pool_get(rw->pool);
	f->at->fd = f->at->dial.fd = -1;
	relay_init(&f->relay, &rw->w);
	ev_io_init(&f->at->dev_io, device_io_cb, fd, EV_READ);
	ev_io_init(&f->at->io, flow_proxy_io_cb, -1, 0);
	f->at->io.data = f;
	ev_init(&f->at->patience, flow_proxy_patience_cb);
	f->at->patience.data = f;
	f->at->dev_io.data = f;
	ev_init(&f->at->deadline, deadline_cb);
	f->at->deadline.data = f;
	list_push(&rw->flows, &f->node);
	return f;
}

bool flow_set_dst(struct flow *f, const struct addr *dst)
{
	bool v6 = addr_family(dst) == AF_INET6;

	if (v6 && !f->dst_room_v6)
		return false;
	f->dst_v6 = v6;
	addr_pack(dst, f->addrs + packed_len(f->v6));
	return true;
}

/* False when the flow has ended. */
static bool find_destination(struct flow *f)
{
	struct redir_worker *rw = flow_rw(f);
	const struct redir_conf *c = f->at->conf;
	struct addr from = flow_src(f), to;
	char src[ADDR_STRLEN], dst[ADDR_STRLEN];

	switch (origdst_find(f->at->dev_fd, (enum redir_mode)c->mode, &c->listen, &to)) {
	case ORIGDST_OK:
		if (flow_set_dst(f, &to))
			return true;
		break;
	case ORIGDST_SELF:
		log_limited(&rw->limit_self, 1, LVL_WARNING,
			    "%s connected to our own listener %s: nothing to redirect",
			    addr_str(&from, src, sizeof(src)), addr_str(&to, dst, sizeof(dst)));
		flow_end(f, END_LOOP, 0);
		return false;
	case ORIGDST_UNKNOWN:
		break;
	}
	log_limited(&rw->limit_dst, 1, LVL_WARNING,
		    "%s: the original destination is unknown (is mode = %s what the rules do?)",
		    addr_str(&from, src, sizeof(src)),
		    c->mode == MODE_TPROXY ? "tproxy" : "redirect");
	flow_end(f, END_NO_ORIGINAL_DST, 0);
	return false;
}

struct flow *flow_admit(struct redir_worker *rw, int fd, const struct addr *src,
			sa_family_t dst_family)
{
	struct flow *f;

	rw->counters.accepted++;
	if (!budget_take(&rw->redir->budget, &rw->w)) {
		rw->counters.ended[END_LIMIT]++;
		sock_reset(fd);
		return NULL;
	}
	f = flow_new(rw, fd, src, dst_family);
	if (!f) {
		budget_give(&rw->redir->budget);
		rw->counters.ended[END_NO_MEMORY]++;
		sock_reset(fd);
		return NULL;
	}
	return f;
}

void flow_start_to(struct redir_worker *rw, int fd, const struct addr *src, const struct addr *dst)
{
	struct flow *f = flow_admit(rw, fd, src, addr_family(dst));

	if (!f)
		return;
	flow_set_dst(f, dst);
	f->only_proxy = true;
	if (!device_read(f))
		return;
	device_watch(f);
	flow_next(f);
}

void flow_start(struct redir_worker *rw, int fd, const struct addr *src)
{
	struct attempt *at;
	struct flow *f;
	struct addr dst;

	if (flow_held_claims(rw, fd, src))
		return;
	f = flow_admit(rw, fd, src, addr_family(src));
	if (!f)
		return;
	at = f->at;
	if (!find_destination(f) || !device_read(f))
		return;
	device_watch(f);
	at->tos = (uint8_t)(at->conf->dscp ? sock_syn_tos(fd) & SOCK_DSCP : 0);
	at->decision = flow_decision(f);
	dst = flow_dst(f);
	/* Only what goes to a proxy gains from having the first bytes in the SYN. */
	if (at->decision != DECIDE_PROXY || f->relay.a.bytes_in > 0 || f->relay.a.eof ||
	    at->conf->first_data_ms == 0 ||
	    !firstdata_waits(&rw->redir->firstdata, addr_port(&dst), flow_now(f)))
		flow_go(f, at->decision);
	else
		flow_change(f, FLOW_WAIT_DATA);
}

uint64_t flow_memory(const struct redir_worker *rw)
{
	return (uint64_t)rw->flows.count *
		       (sizeof(struct flow) + (sizeof(struct attempt) + UP_REQUEST_MAX) / 4) +
	       (uint64_t)rw->requests * (sizeof(struct front) + FRONT_HEAD_MAX);
}

void flow_end_all(struct redir_worker *rw, enum end_reason reason)
{
	struct list_node *n;

	while ((n = list_first(&rw->flows))) {
		struct flow *f = container_of(n, struct flow, node);
		if (f->state == FLOW_RELAY)
			relay_end(&f->relay, reason, 0);
		else
			flow_end(f, reason, 0);
	}
}

#define USAGE_MAX 4096 /* connections looked at */

void flow_usage(struct redir_worker *rw, struct wan_usage *u)
{
	struct list_node *n, *tmp;
	unsigned left = USAGE_MAX;

	list_for_each_safe (&rw->flows, n, tmp) {
		const struct flow *f = container_of(n, struct flow, node);
		if (f->state != FLOW_RELAY)
			continue;
		if (left-- == 0)
			break;
		wan_usage_add(u, f->relay.b.fd);
	}
}

void flow_report_all(struct redir_worker *rw, struct report *r)
{
	struct list_node *n, *tmp;
	char text[FLOW_DST_STRLEN], names[128], name[S6_NAME_MAX * 4 + 1];

	list_for_each_safe (&rw->flows, n, tmp) {
		struct flow *f = container_of(n, struct flow, node);
		struct addr src = flow_src(f);

		flow_note_facts(f);
		report_row(r);
		report_u64(r, "id", (uint64_t)f->id * rw->redir->n_workers + rw->w.index);
		report_str(r, "source", addr_str(&src, text, sizeof(text)));
		report_str(r, "destination", flow_dst_str(f, text, sizeof(text)));
		report_str(r, "name", flow_name_str(f, name, sizeof(name)));
		report_str(r, "entry", flow_entry(f));
		report_str(r, "route", route_words[f->route]);
		report_str(r, "proxy", f->route == ROUTE_PROXY && f->up ? f->up->name : NULL);
		report_str(r, "via", flow_via(f, names, sizeof(names)));
		report_str(r, "state", state_words[f->state]);
		report_seconds(r, "age", flow_now(f) - f->started);
		report_bytes(r, "bytes_up", f->relay.b.bytes_out);
		report_bytes(r, "bytes_down", f->relay.b.bytes_in);
		report_bool(r, "mptcp", f->mptcp);
		report_u64(r, "subflows", f->subflows);
		report_bool(r, "tfo", f->tfo);
		report_u64(r, "syn_bytes", f->syn_bytes);
		report_bool(r, "prewarm", f->prewarmed);
		if (f->server_mptcp)
			report_bool(r, "server_mptcp", f->server_mptcp == S6_AVAIL_YES);
		else
			report_null(r, "server_mptcp");
		report_seconds(r, "first_byte", first_byte_s(f));
	}
}
