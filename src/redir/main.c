/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sixpath-redir: arguments, set-up in order, run, undo in reverse. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "config.h"

#include "core/heap.h"
#include "core/notify.h"
#include "core/perclient.h"
#include "core/priv.h"
#include "core/sock.h"
#include "core/tune.h"
#include "redir/dns.h"
#include "redir/flow.h"
#include "redir/forward.h"
#include "redir/front_bind.h"
#include "redir/front_udp.h"
#include "redir/inbound.h"
#include "redir/learner.h"
#include "redir/noop.h"
#include "redir/redir.h"
#include "redir/refuser.h"
#include "redir/steer.h"
#include "redir/udp.h"
#include "redir/wan_keeper.h"

static const struct daemon_about about = {
	.name = "sixpath-redir",
	.config = "/etc/sixpath/redir.conf",
	.purpose = "sends captured TCP and UDP through a SOCKSv6 proxy over MPTCP",
	.takes_proxy = true,
	.options = "built in:" REDIR_BUILT_IN "\nleft out:" REDIR_LEFT_OUT,
};

#define ACCEPT_WAIT_S  2.0 /* longest wait for the first NOOPs before flows are taken */
#define FASTOPEN_QUEUE 256
#define CAPABILITIES   "cap_net_admin" /* for SO_MARK and IP_TRANSPARENT */
/* A successor binds low ports, too. */
#define CAPABILITIES_LOW CAPABILITIES ",cap_net_bind_service"
/* To answer devices in the name of port 53, and a successor makes its own sockets for ICMP. */
#define CAPABILITIES_UDP CAPABILITIES_LOW ",cap_net_raw"

static const char *capabilities(const struct redir_conf *c)
{
	if (udp_is_wanted(c))
		return CAPABILITIES_UDP;
	return redir_conf_low_ports(c) ? CAPABILITIES_LOW : CAPABILITIES;
}

static unsigned tune_roles(const struct redir_conf *c)
{
	if (!c->tune)
		return 0;
	return TUNE_REDIR | (redir_conf_sends_icmp(c) ? TUNE_ICMP : 0u);
}

/* What they were stands beside the control socket: "redir.sock", "redir.tune". */
static void apply_tune(struct redir *rd)
{
	const char *control = rd->conf->control;
	size_t n = control ? strlen(control) : 0;
	char *path = NULL;

	if (n > 5 && strcmp(control + n - 5, ".sock") == 0)
		n -= 5;
	if (n > 0 && asprintf(&path, "%.*s.tune", (int)n, control) < 0)
		path = NULL;
	rd->tune = tune_apply(tune_roles(rd->conf), path);
	free(path);
}

static void set_log_level(const struct redir *rd)
{
	log_set_level(rd->verbose ? LVL_DEBUG : (enum log_level)rd->conf->log);
}

/* ---- accepting ---- */

static void visit_accept(struct worker *w, void *ctx)
{
	(void)ctx;
	listeners_start(&redir_worker_of(w)->listeners);
	udp_begin(redir_worker_of(w)->udp);
	dns_start(redir_worker_of(w)->dns);
	listeners_start(&redir_worker_of(w)->front);
}

static void nothing_more(void *ctx)
{
	(void)ctx;
}

static void accept_now(struct redir *rd)
{
	rd->accepting = worker_gather(&rd->main, rd->list, rd->n_workers, visit_accept,
				      nothing_more, NULL) == 0;
	if (rd->steer)
		steer_take_over(rd->steer);
	else
		rd->steer = steer_new(rd); /* NULL: out of memory; nothing is captured by us */
	if (rd->budget.state != BUDGET_FREE)
		steer_pause(rd->steer, true);
	if (!rd->forwards)
		rd->forwards = forwards_new(rd); /* NULL: out of memory; there are none */
	heap_trim();
	notify_ready();
}

/* The predecessor has let go of rules and control socket, or has ended. */
static void predecessor_gone(void *ctx, bool there)
{
	struct redir *rd = ctx;

	(void)there;
	if (rd->signals.stopping)
		return;
	if (daemon_control(&rd->control, &rd->main, rd->conf->control, redir_commands, rd))
		log_error("going on without a control socket");
	apply_tune(rd);
	wan_keeper_start(rd);
	accept_now(rd);
	log_notice("restart: this is the successor; new connections come here");
}

static void start_accepting(struct redir *rd)
{
	int channel = rd->inherited.channel;

	if (rd->accepting || rd->signals.stopping || rd->drain.runs || handover_runs(&rd->handover))
		return;
	ev_timer_stop(rd->main.loop, &rd->accept_timer);
	if (channel < 0) {
		accept_now(rd);
		return;
	}
	rd->inherited.channel = -1;
	rd->steer = steer_stand_by(rd);
	handover_join(&rd->handover, &rd->main, channel, predecessor_gone, rd);
}

static void accept_timer_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	start_accepting(container_of(t, struct redir, accept_timer));
}

void redir_first_noop_done(struct redir *rd)
{
	if (!rd->accepting && noop_all_have_run(rd))
		start_accepting(rd);
}

/* ---- reload ---- */

struct snapshot {
	struct redir_conf *conf;
	struct pool *pool;
};

static void visit_snapshot(struct worker *w, void *ctx)
{
	struct redir_worker *rw = redir_worker_of(w);
	struct snapshot *s = ctx;

	redir_conf_put(rw->conf);
	pool_put(rw->pool);
	rw->conf = redir_conf_get(s->conf);
	rw->pool = pool_get(s->pool);
	prewarm_follow_pool(&rw->prewarm);
	udp_follow(rw->udp);
}

static void snapshot_done(void *ctx)
{
	struct snapshot *s = ctx;

	redir_conf_put(s->conf);
	pool_put(s->pool);
	free(s);
}

static void *load(void *ctx, FILE *errors)
{
	const struct redir *rd = ctx;

	return redir_conf_load(rd->conf_path, rd->conf_proxy, errors);
}

int redir_reload(struct redir *rd, char *text, size_t cap)
{
	struct redir_conf *c = daemon_load_again(load, rd, text, cap);
	struct snapshot *s;
	char restart[192];

	if (!c)
		return -1;
	s = calloc(1, sizeof(*s));
	if (s) {
		s->conf = redir_conf_get(c);
		s->pool = pool_new(c, rd->pool, &rd->main);
	}
	if (!s || !s->pool ||
	    worker_gather(&rd->main, rd->list, rd->n_workers, visit_snapshot, snapshot_done, s) <
		    0) {
		if (s)
			snapshot_done(s);
		redir_conf_put(c);
		return daemon_reload_failed("out of memory", text, cap);
	}
	redir_conf_needs_restart(rd->conf, c, script_in_place(rd->script), restart,
				 sizeof(restart));
	redir_conf_put(rd->conf);
	pool_put(rd->pool);
	rd->conf = c;
	rd->pool = pool_get(s->pool); /* snapshot_done runs on this thread, later */
	set_log_level(rd);
	tune_follow(rd->tune, tune_roles(c));
	learner_reload(rd->learner);
	refuser_reload(rd->refuser);
	budget_reload(&rd->budget, c->memory_mib);
	if (rd->steer)
		steer_reload(rd->steer);
	if (rd->wan || (rd->inherited.channel < 0 && !handover_runs(&rd->handover)))
		wan_keeper_reload(rd);
	forwards_reload(rd->forwards);
	if (noop_follow_pool(rd) < 0)
		log_error("reload: out of memory; not all proxies are checked");
	heap_trim();
	return daemon_reloaded(restart, text, cap);
}

/* ---- signals ---- */

static void visit_leave(struct worker *w, void *ctx)
{
	struct redir_worker *rw = redir_worker_of(w);

	(void)ctx;
	listeners_close(&rw->listeners);
	dns_stop(rw->dns);
	listeners_close(&rw->front);
	if (w->index == 0)
		held_stop(rw->redir->held); /* before the other workers' turn */
	prewarm_stop(&rw->prewarm);
	inbound_leave(rw);
	udp_stop(rw->udp);
}

static size_t count_flows(struct worker *w)
{
	const struct redir_worker *rw = redir_worker_of(w);

	return rw->flows.count + rw->inbounds.count + rw->front_udps.count + rw->front_binds.count;
}

static void end_flows(struct worker *w)
{
	flow_end_all(redir_worker_of(w), END_SHUTDOWN);
	inbound_end_all(redir_worker_of(w), END_SHUTDOWN);
	front_udp_end_all(redir_worker_of(w), END_SHUTDOWN);
	front_bind_end_all(redir_worker_of(w), END_SHUTDOWN);
}

static void stop_done(void *ctx)
{
	struct redir *rd = ctx;

	ev_break(rd->main.loop, EVBREAK_ALL);
}

/* No new flows; the others have so long to end. */
static void drain(struct redir *rd, double limit_s)
{
	rd->accepting = false;
	forwards_stop(rd->forwards);
	budget_stop(&rd->budget);
	worker_gather(&rd->main, rd->list, rd->n_workers, visit_leave, nothing_more, NULL);
	rd->drain = (struct drain){.main_worker = &rd->main,
				   .workers = rd->list,
				   .n = rd->n_workers,
				   .live = count_flows,
				   .end_all = end_flows,
				   .done = stop_done,
				   .ctx = rd};
	drain_start(&rd->drain, limit_s);
}

static void answer_restart(struct redir *rd, const char *text, bool good)
{
	struct control_request *rq = rd->restart_rq;

	rd->restart_rq = NULL;
	if (rq && good) {
		report_str(control_report(rq), "result", text);
		control_reply(rq);
	} else if (rq) {
		control_fail(rq, "%s", text);
	}
}

static void on_stop(void *ctx)
{
	struct redir *rd = ctx;

	log_notice("stopping");
	if (rd->drain.runs) { /* a successor has all else */
		drain_cut(&rd->drain);
		return;
	}
	notify_stopping();
	handover_end(&rd->handover);
	answer_restart(rd, "stopping", false);
	/* first: then new connections go directly */
	script_stop(rd->script);
	rd->script = NULL;
	steer_free(rd->steer);
	rd->steer = NULL;
	wan_keeper_stop(rd);
	drain(rd, 0);
}

/* ---- restart ---- */

/* From here on nothing but the flows there are is ours. */
static void let_go(struct redir *rd)
{
	double limit_s = rd->conf->drain_s;

	log_notice("restart: the successor is ready; connections have %.0f s to end", limit_s);
	answer_restart(rd, "the successor is ready", true);
	steer_hand_over(rd->steer);
	rd->steer = NULL;
	wan_keeper_leave(rd);
	script_leave(rd->script);
	rd->script = NULL;
	control_leave(rd->control);
	handover_release(&rd->handover);
	tune_forget(rd->tune);
	rd->tune = NULL;
	drain(rd, limit_s);
}

static void successor_said(void *ctx, bool there)
{
	struct redir *rd = ctx;

	if (there) {
		let_go(rd);
		return;
	}
	learner_hand_over(rd->learner, false);
	answer_restart(rd, "the successor did not get ready (see the log); nothing has changed",
		       false);
}

static int begin_handover(struct redir *rd)
{
	size_t cap = 0, n = 0;
	int *fds, rc;

	if (!rd->accepting || !*rd->self)
		return -EAGAIN;
	for (unsigned i = 0; i < rd->n_workers; i++)
		cap += rd->workers[i].listeners.n + rd->workers[i].front.n;
	fds = calloc(cap + 1, sizeof(*fds));
	if (!fds)
		return -ENOMEM;
	for (unsigned i = 0; i < rd->n_workers; i++) {
		n += listeners_fds(&rd->workers[i].listeners, fds + n, cap - n);
		n += listeners_fds(&rd->workers[i].front, fds + n, cap - n);
	}
	rc = handover_begin(&rd->handover, &rd->main, rd->self, rd->argv, fds, n,
			    script_fd(rd->script), successor_said, rd);
	free(fds);
	return rc;
}

void redir_restart(struct redir *rd, struct control_request *rq)
{
	int rc;

	if (handover_runs(&rd->handover) || rd->drain.runs) {
		log_notice("restart: one is under way");
		if (rq)
			control_fail(rq, "a restart is under way");
		return;
	}
	log_notice("restart: starting a successor");
	learner_hand_over(rd->learner, true);
	rd->restart_rq = rq;
	rc = begin_handover(rd);
	if (rc == 0)
		return;
	log_error("restart: cannot start a successor: %s", strerror(-rc));
	learner_hand_over(rd->learner, false);
	answer_restart(rd, "cannot start a successor (see the log)", false);
}

static void on_restart(void *ctx)
{
	redir_restart(ctx, NULL);
}

static void on_reload(void *ctx)
{
	char text[256];

	redir_reload(ctx, text, sizeof(text));
}

static void on_status(void *ctx)
{
	redir_log_status(ctx);
}

/* ---- set-up and its reverse ---- */

static void captured(struct worker *w, int fd, const struct addr *peer)
{
	flow_start(redir_worker_of(w), fd, peer);
}

static void entered(struct worker *w, int fd, const struct addr *peer)
{
	flow_front_start(redir_worker_of(w), fd, peer);
}

/* 0 or an exit code. */
static int cannot_listen(const struct listeners *ls, int rc)
{
	char text[ADDR_STRLEN];

	if (rc == 0)
		return 0;
	if (!ls->v)
		return EX_OSERR;
	log_error("cannot listen on %s: %s%s", addr_str(&ls->v[ls->n].addr, text, sizeof(text)),
		  strerror(-rc),
		  rc == -EADDRINUSE ? " (is another sixpath-redir running?)"
		  : rc == -EPERM    ? " (mode = tproxy needs CAP_NET_ADMIN: start as root)"
				    : "");
	return rc == -EPERM || rc == -EACCES ? EX_NOPERM : EX_UNAVAILABLE;
}

static int open_front(struct redir_worker *rw)
{
	const struct redir_conf *c = rw->conf;
	const struct sock_wishes wishes = {
		.reuseport = true, .tos = -1, .ttl = -1, .keepalive = true};

	if (c->socks.n == 0)
		return 0;
	return cannot_listen(&rw->front,
			     listeners_inherit(&rw->front, &rw->w, &c->socks, &wishes, entered,
					       &rw->redir->inherited, daemon_workers(c->workers)));
}

/* Plain TCP: for devices that speak MPTCP themselves the port would have to be the original
 * one for further subflows, and the router's own subflows would be offered to them. */
static int open_listeners(struct redir_worker *rw)
{
	const struct redir_conf *c = rw->conf;
	const struct sock_wishes wishes = {
		.transparent = c->mode == MODE_TPROXY,
		.reuseport = true,
		.fastopen = FASTOPEN_QUEUE,
		.mark = 0, /* answers to devices go where the rules send them */
		.tos = -1,
		.ttl = -1,
		.keepalive = true, /* inherited by accepted sockets */
		.save_syn = true,
	};

	return cannot_listen(&rw->listeners,
			     listeners_inherit(&rw->listeners, &rw->w, &c->listen, &wishes,
					       captured, &rw->redir->inherited,
					       daemon_workers(c->workers)));
}

static int worker_setup(struct redir *rd, struct redir_worker *rw, unsigned index)
{
	int rc;

	rw->redir = rd;
	rw->conf = redir_conf_get(rd->conf);
	rw->pool = pool_get(rd->pool);
	list_init(&rw->flows);
	list_init(&rw->inbounds);
	list_init(&rw->front_udps);
	list_init(&rw->front_binds);
	list_init(&rw->farewells);
	prewarm_init(&rw->prewarm, rw);
	rw->udp = udp_new(rw);
	if (!rw->udp)
		return EX_OSERR;
	if (worker_init(&rw->w, index, rw) < 0)
		return EX_OSERR;
	prewarm_follow_pool(&rw->prewarm);
	rc = open_listeners(rw);
	return rc ? rc : open_front(rw);
}

static void worker_undo(struct redir_worker *rw)
{
	redir_conf_put(rw->conf);
	pool_put(rw->pool);
	if (!rw->w.loop) {
		udp_free(rw->udp);
		return;
	}
	listeners_free(&rw->listeners);
	listeners_free(&rw->front);
	flow_front_leave(rw);
	dns_free(rw->dns);
	prewarm_stop(&rw->prewarm);
	udp_free(rw->udp);
	worker_fini(&rw->w);
}

static int setup_workers(struct redir *rd)
{
	unsigned n = daemon_workers(rd->conf->workers);
	int rc;

	rd->workers = calloc(n, sizeof(*rd->workers));
	rd->list = calloc(n, sizeof(*rd->list));
	if (!rd->workers || !rd->list)
		return EX_OSERR;
	for (unsigned i = 0; i < n; i++) {
		rd->n_workers++;
		rd->list[i] = &rd->workers[i].w;
		rc = worker_setup(rd, &rd->workers[i], i);
		if (rc)
			return rc;
	}
	return 0;
}

static void check_reload(const struct redir *rd)
{
	struct list_node *n;

	daemon_check_reload(rd->conf_path);
	daemon_check_reload(rd->conf->socks_users_file);
	for (n = list_first(&rd->conf->proxies); n; n = list_next(&rd->conf->proxies, n))
		daemon_check_reload(container_of(n, struct proxy_section, node)->password_file);
}

static int setup(struct redir *rd)
{
	bool is_default = strcmp(rd->conf->user, REDIR_DEFAULT_USER) == 0;
	int rc;

	list_init(&rd->noops);
	if (worker_init(&rd->main, UINT32_MAX, rd) < 0)
		return EX_OSERR;
	ev_timer_init(&rd->accept_timer, accept_timer_cb, ACCEPT_WAIT_S, 0.);
	rd->started = worker_now(&rd->main);
	rd->nofile = priv_raise_nofile();
	rd->loopguard = loopguard_new();
	rd->pool = pool_new(rd->conf, NULL, &rd->main);
	if (!rd->loopguard || !rd->pool)
		return EX_OSERR;
	rc = setup_workers(rd);
	inherited_free(&rd->inherited, rc == 0);
	if (rc)
		return rc;
	rd->held = held_new(rd->list, rd->n_workers, flow_hold);
	if (!rd->held)
		return EX_OSERR;
	if (rd->conf->save && rd->conf->state_dir)
		priv_make_dir(rd->conf->state_dir, rd->conf->user);
	daemon_run_dir(rd->conf->control, rd->conf->user);
	if (rd->inherited.channel < 0)
		apply_tune(rd);
	if (rd->inherited.extra >= 0)
		rd->script = script_adopt(rd->inherited.extra, rd->conf);
	else if (rd->inherited.channel < 0)
		rd->script = script_start(rd->conf, rd->foreground);
	else if (redir_conf_by_script(rd->conf))
		log_warning("rules: only a stop and a start can run a script");
	if (udp_is_wanted(rd->conf) && (rc = icmp_sender_open(&rd->icmp)) < 0)
		log_warning("udp: no raw socket: %s", strerror(-rc));
	rc = priv_drop(rd->conf->user, is_default, capabilities(rd->conf));
	if (rc)
		return rc;
	check_reload(rd);
	rc = dns_open(&rd->workers[0].dns, &rd->workers[0]);
	if (rc)
		return rc;
	rd->learner = learner_new(rd);
	rd->refuser = refuser_new(rd);
	if (!rd->learner || !rd->refuser)
		return EX_OSERR;
	rd->resolver = resolver_new(&rd->main, NULL, rd->conf->mark);
	if (!rd->resolver) {
		log_error("cannot set up name resolution: %s", strerror(errno));
		return EX_OSERR;
	}
	if (rd->conf->socks.n > 0 && !flow_front_open(rd))
		return EX_OSERR;
	if (rd->inherited.channel >= 0)
		return 0; /* the control socket is our predecessor's yet */
	return daemon_control(&rd->control, &rd->main, rd->conf->control, redir_commands, rd);
}

static uint64_t memory_of_flows(struct worker *w)
{
	return flow_memory(redir_worker_of(w)) + inbound_memory(redir_worker_of(w)) +
	       front_udp_memory(redir_worker_of(w)) + front_bind_memory(redir_worker_of(w)) +
	       udp_memory(redir_worker_of(w)->udp);
}

static const char *budget_changed(void *ctx, enum budget_state state)
{
	struct redir *rd = ctx;
	bool ours = steer_pause(rd->steer, state != BUDGET_FREE);

	if (state == BUDGET_FREE)
		return "new connections are captured";
	return ours ? "new connections go directly"
		    : "the rules are not ours, so idle connections make room for new ones";
}

static void start_budget(struct redir *rd)
{
	const struct budget_wishes wishes = {.main_worker = &rd->main,
					     .workers = rd->list,
					     .n = rd->n_workers,
					     .nofile = rd->nofile,
					     .memory_mib = rd->conf->memory_mib,
					     .memory = memory_of_flows,
					     .changed = budget_changed,
					     .ctx = rd};

	budget_start(&rd->budget, &wishes);
}

static int run(struct redir *rd)
{
	rd->signals.stop = on_stop;
	rd->signals.reload = on_reload;
	rd->signals.status = on_status;
	rd->signals.restart = on_restart;
	rd->signals.ctx = rd;
	daemon_signals_start(&rd->signals, rd->main.loop);
	start_budget(rd);
	if (workers_start(rd->list, rd->n_workers) < 0) {
		log_error("cannot start a thread");
		return EX_OSERR;
	}
	if (rd->inherited.channel < 0)
		wan_keeper_start(rd);
	if (noop_follow_pool(rd) < 0)
		return EX_OSERR;
	ev_timer_start(rd->main.loop, &rd->accept_timer);
	log_notice(
		"sixpath-redir %s is up: %u workers, %u proxies, mode %s, at most %lu descriptors",
		daemon_version(), rd->n_workers, rd->pool->n,
		rd->conf->mode == MODE_TPROXY ? "tproxy" : "redirect", rd->nofile);
	priv_ready(0);
	ev_run(rd->main.loop, 0);
	return 0;
}

static void undo(struct redir *rd)
{
	inherited_free(&rd->inherited, false);
	script_stop(rd->script);
	flow_front_close(rd);
	workers_stop(&rd->main, rd->list, rd->n_workers);
	if (rd->signals.stop) {
		daemon_signals_end(&rd->signals, rd->main.loop);
		handover_end(&rd->handover);
		drain_end(&rd->drain);
		budget_stop(&rd->budget);
	}
	control_free(rd->control);
	forwards_free(rd->forwards);
	if (rd->main.loop) {
		noop_free_all(rd);
		resolver_free(rd->resolver);
		ev_timer_stop(rd->main.loop, &rd->accept_timer);
	}
	held_free(rd->held); /* its queue is on a worker's loop */
	for (unsigned i = 0; i < rd->n_workers; i++)
		worker_undo(&rd->workers[i]);
	free(rd->workers);
	free(rd->list);
	pool_put(rd->pool);
	steer_free(rd->steer);
	wan_keeper_stop(rd);
	tune_restore(rd->tune);
	perclient_free(rd->clients);
	learner_free(rd->learner);
	refuser_free(rd->refuser);
	loopguard_free(rd->loopguard);
	icmp_sender_close(&rd->icmp);
	if (rd->main.loop)
		worker_fini(&rd->main);
	redir_conf_put(rd->conf);
}

int main(int argc, char **argv)
{
	struct redir rd;
	struct daemon_args args;
	int rc = daemon_args(argc, argv, &about, &args);

	if (rc >= 0)
		return rc;
	if (!args.config && !args.proxy) {
		fprintf(stderr,
			"%s: no configuration: write %s, or use -c FILE or --proxy HOST:PORT\n",
			about.name, about.config);
		return args.test ? 1 : EX_CONFIG;
	}
	memset(&rd, 0, sizeof(rd));
	rd.icmp.fd4 = rd.icmp.fd6 = -1;
	rd.self = args.self;
	rd.argv = args.argv;
	rd.conf_path = args.config;
	rd.conf_proxy = args.proxy;
	rd.verbose = args.verbose;
	rd.foreground = args.foreground;
	if (!args.test && daemon_inherits(&rd.inherited, &about, &args) < 0)
		return EX_OSERR;
	rd.conf = redir_conf_load(args.config, args.proxy, args.quiet ? NULL : stderr);
	if (!rd.conf) {
		inherited_free(&rd.inherited, false);
		return args.test ? 1 : args.proxy ? EX_USAGE : EX_CONFIG;
	}
	if (args.test) {
		printf("%s: configuration OK\n", args.config ? args.config : args.proxy);
		redir_conf_put(rd.conf);
		return 0;
	}
	log_init(about.name, (enum log_sink)rd.conf->log_to, args.foreground);
	set_log_level(&rd);
	rc = priv_daemonize(!args.foreground && rd.inherited.channel < 0) < 0 ? EX_OSERR
									      : setup(&rd);
	if (rc == 0)
		rc = run(&rd);
	else
		priv_ready(rc);
	undo(&rd);
	if (rc == 0)
		log_notice("stopped");
	return rc;
}
