/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sixpath-proxy: arguments, set-up in order, run, undo in reverse. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "core/notify.h"
#include "core/perclient.h"
#include "core/priv.h"
#include "core/sock.h"
#include "core/status.h"
#include "proxy/acceptor.h"
#include "proxy/client.h"
#include "proxy/peruser.h"
#include "proxy/proxy.h"
#include "proxy/udp_reserve.h"

static const struct daemon_about about = {
	.name = "sixpath-proxy",
	.config = "/etc/sixpath/proxy.conf",
	.purpose = "SOCKSv6 proxy for TCP and Multipath TCP",
};

/* ---- signals ---- */

/* Descriptors for what is no client: control, name resolution, a successor. */
#define RESERVE 64

static void visit_leave(struct worker *w, void *ctx)
{
	struct proxy_worker *pw = proxy_worker_of(w);

	(void)ctx;
	client_leave(pw);
	udp_leave(pw->udp, pw->proxy->handed_over);
	if (!pw->proxy->handed_over)
		listeners_finish(&pw->listeners);
	listeners_close(&pw->listeners);
}

static void nothing_more(void *ctx)
{
	(void)ctx;
}

static size_t count_clients(struct worker *w)
{
	return proxy_worker_of(w)->clients.count;
}

static void end_clients(struct worker *w)
{
	client_end_all(proxy_worker_of(w), END_SHUTDOWN);
}

static void stop_done(void *ctx)
{
	struct proxy *p = ctx;

	ev_break(p->main.loop, EVBREAK_ALL);
}

/* No new clients; the others have time to end. */
static void drain(struct proxy *p)
{
	budget_stop(&p->budget);
	worker_gather(&p->main, p->list, p->n_workers, visit_leave, nothing_more, NULL);
	p->drain = (struct drain){.main_worker = &p->main,
				  .workers = p->list,
				  .n = p->n_workers,
				  .live = count_clients,
				  .end_all = end_clients,
				  .done = stop_done,
				  .ctx = p};
	drain_start(&p->drain, p->conf->drain_s);
}

static void answer_restart(struct proxy *p, const char *text, bool good)
{
	struct control_request *rq = p->restart_rq;

	p->restart_rq = NULL;
	if (rq && good) {
		report_str(control_report(rq), "result", text);
		control_reply(rq);
	} else if (rq) {
		control_fail(rq, "%s", text);
	}
}

static void on_hurry(void *ctx)
{
	struct proxy *p = ctx;

	log_notice("stopping now");
	drain_cut(&p->drain);
}

static void on_stop(void *ctx)
{
	struct proxy *p = ctx;

	if (p->drain.runs) { /* a successor has all else */
		on_hurry(p);
		return;
	}
	log_notice("stopping; connections have %.0f s to end", p->conf->drain_s);
	notify_stopping();
	handover_end(&p->handover);
	answer_restart(p, "stopping", false);
	drain(p);
}

/* ---- restart ---- */

static void successor_said(void *ctx, bool there)
{
	struct proxy *p = ctx;

	if (!there) {
		answer_restart(p,
			       "the successor did not get ready (see the log); nothing has changed",
			       false);
		return;
	}
	log_notice("restart: the successor is ready; connections have %.0f s to end",
		   p->conf->drain_s);
	answer_restart(p, "the successor is ready", true);
	p->handed_over = true;
	control_leave(p->control);
	handover_release(&p->handover);
	drain(p);
}

static int begin_handover(struct proxy *p)
{
	size_t cap = 0, n = 0;
	int *fds, rc;

	if (!*p->self || p->signals.stopping)
		return -EAGAIN;
	for (unsigned i = 0; i < p->n_workers; i++)
		cap += p->workers[i].listeners.n + udp_ports(p->workers[i].udp);
	fds = calloc(cap + 1, sizeof(*fds));
	if (!fds)
		return -ENOMEM;
	for (unsigned i = 0; i < p->n_workers; i++)
		n += listeners_fds(&p->workers[i].listeners, fds + n, cap - n);
	for (unsigned i = 0; i < p->n_workers; i++)
		n += udp_fds(p->workers[i].udp, fds + n, cap - n);
	rc = handover_begin(&p->handover, &p->main, p->self, p->argv, fds, n, -1, successor_said,
			    p);
	free(fds);
	return rc;
}

void proxy_restart(struct proxy *p, struct control_request *rq)
{
	int rc;

	if (handover_runs(&p->handover) || p->drain.runs) {
		log_notice("restart: one is under way");
		if (rq)
			control_fail(rq, "a restart is under way");
		return;
	}
	log_notice("restart: starting a successor");
	p->restart_rq = rq;
	rc = begin_handover(p);
	if (rc == 0)
		return;
	log_error("restart: cannot start a successor: %s", strerror(-rc));
	answer_restart(p, "cannot start a successor (see the log)", false);
}

static void on_restart(void *ctx)
{
	proxy_restart(ctx, NULL);
}

static void on_reload(void *ctx)
{
	char text[256];

	proxy_reload(ctx, text, sizeof(text));
}

static void on_status(void *ctx)
{
	proxy_log_status(ctx);
}

/* ---- set-up and its reverse ---- */

static int worker_setup(struct proxy *p, struct proxy_worker *pw, unsigned index)
{
	const struct proxy_conf *c = p->conf;
	int rc;

	pw->proxy = p;
	pw->conf = proxy_conf_get(p->conf);
	list_init(&pw->clients);
	list_init(&pw->waiting);
	list_init(&pw->excess);
	speaks_init(&pw->speaks);
	rc = worker_init(&pw->w, index, pw);
	if (rc == 0)
		rc = synwatch_init(&pw->synwatch, &pw->w);
	if (rc < 0) {
		log_error("cannot set up worker %u: %s", index, strerror(-rc));
		return EX_OSERR;
	}
	pw->resolver = resolver_new(&pw->w, c->resolve, 0);
	if (!pw->resolver) {
		log_error("cannot set up name resolution (resolve = %s): %s", c->resolve,
			  strerror(errno));
		return errno == EINVAL ? EX_CONFIG : EX_OSERR;
	}
	rc = acceptor_open(pw);
	return rc ? rc : udp_open(pw);
}

static void worker_undo(struct proxy_worker *pw)
{
	proxy_conf_put(pw->conf);
	if (!pw->w.loop)
		return;
	listeners_free(&pw->listeners);
	udp_free(pw->udp);
	resolver_free(pw->resolver);
	if (pw->synwatch.w)
		synwatch_fini(&pw->synwatch);
	worker_fini(&pw->w);
}

/* The workers' sockets share their port, and would share it with another proxy's as well. So
 * each address is first taken by a socket that does not share. */
static int check_addresses(const struct proxy *p)
{
	const struct proxy_conf *c = p->conf;
	struct sock_wishes wishes = SOCK_WISHES_NONE;
	char text[ADDR_STRLEN];

	for (size_t i = 0; i < c->listen.n; i++) {
		int fd;

		if (inherited_has(&p->inherited, &c->listen.v[i]))
			continue;
		fd = sock_listen(&c->listen.v[i], &wishes, NULL);
		if (fd >= 0) {
			close(fd);
			continue;
		}
		log_error("cannot listen on %s: %s%s",
			  addr_str(&c->listen.v[i], text, sizeof(text)), strerror(-fd),
			  fd == -EADDRINUSE ? " (is another proxy running?)" : "");
		return fd == -EACCES ? EX_NOPERM : EX_UNAVAILABLE;
	}
	return 0;
}

static int setup_workers(struct proxy *p)
{
	unsigned n = daemon_workers(p->conf->workers);
	int rc = check_addresses(p);

	if (rc)
		return rc;
	p->workers = calloc(n, sizeof(*p->workers));
	p->list = calloc(n, sizeof(*p->list));
	if (!p->workers || !p->list)
		return EX_OSERR;
	for (unsigned i = 0; i < n; i++) {
		p->n_workers++;
		p->list[i] = &p->workers[i].w;
		rc = worker_setup(p, &p->workers[i], i);
		if (rc)
			return rc;
	}
	return 0;
}

static int setup(struct proxy *p)
{
	struct issued_limits limits = proxy_conf_limits(p->conf);
	bool is_default = strcmp(p->conf->user, PROXY_DEFAULT_USER) == 0;
	int rc = worker_init(&p->main, UINT32_MAX, p);

	if (rc < 0)
		return EX_OSERR;
	p->started = worker_now(&p->main);
	p->nofile = priv_raise_nofile();
	p->issued = issued_new(&limits);
	p->perclient = perclient_new();
	p->peruser = peruser_new();
	p->udp_perclient = perclient_new();
	p->udp_peruser = peruser_new();
	p->udp_reserve = udp_reserve_new();
	p->listenports = listenports_new();
	if (!p->issued || !p->perclient || !p->peruser || !p->udp_perclient || !p->udp_peruser ||
	    !p->udp_reserve || !p->listenports)
		return EX_OSERR;
	rc = setup_workers(p);
	inherited_free(&p->inherited, rc == 0);
	if (rc)
		return rc;
	daemon_run_dir(p->conf->control, p->conf->user);
	rc = priv_drop(p->conf->user, is_default,
		       acl_binds_low(&p->conf->acl) ? "cap_net_bind_service" : NULL);
	if (rc)
		return rc;
	daemon_check_reload(p->conf_path);
	daemon_check_reload(p->conf->users_file);
	if (p->inherited.channel < 0) { /* else it is our predecessor's yet */
		rc = daemon_control(&p->control, &p->main, p->conf->control, proxy_commands, p);
		if (rc)
			return rc;
	}
	p->auth = auth_new();
	return p->auth ? 0 : EX_OSERR;
}

static void visit_accept(struct worker *w, void *ctx)
{
	(void)ctx;
	listeners_start(&proxy_worker_of(w)->listeners);
	udp_start(proxy_worker_of(w)->udp);
}

static void accept_now(struct proxy *p)
{
	worker_gather(&p->main, p->list, p->n_workers, visit_accept, nothing_more, NULL);
	notify_ready();
	priv_ready(0);
}

/* The predecessor has let go of the control socket, or has ended. */
static void predecessor_gone(void *ctx, bool there)
{
	struct proxy *p = ctx;

	(void)there;
	if (p->signals.stopping)
		return;
	if (daemon_control(&p->control, &p->main, p->conf->control, proxy_commands, p))
		log_error("going on without a control socket");
	accept_now(p);
	log_notice("restart: this is the successor; new connections come here");
}

/* Each client has two, its own and the server's. */
static unsigned room_for_clients(const struct proxy *p)
{
	uint64_t other =
		status_descriptors_open() + RESERVE + (uint64_t)PROXY_SHED_MAX * p->n_workers;

	if (p->nofile < 2 * other) /* there are few: then for half of what there is */
		return (unsigned)(p->nofile / 4 + 1);
	return (unsigned)((p->nofile - other) / 2);
}

static uint64_t memory_of_clients(struct worker *w)
{
	return client_memory(proxy_worker_of(w)) + udp_memory(proxy_worker_of(w)->udp);
}

static const char *budget_changed(void *ctx, enum budget_state state)
{
	(void)ctx;
	switch (state) {
	case BUDGET_FREE:
		return "new requests are served";
	case BUDGET_FLOWS:
		return "at the limit new requests are refused";
	case BUDGET_MEMORY:
		break;
	}
	return "new requests are refused, and connections that hold buffers without moving a byte "
	       "are ended";
}

/* What is idle is kept: a client that is refused can go another way, one that is ended cannot. */
static void start_budget(struct proxy *p)
{
	const struct budget_wishes wishes = {.main_worker = &p->main,
					     .workers = p->list,
					     .n = p->n_workers,
					     .nofile = p->nofile,
					     .flows_max = p->clients_room,
					     .keep_idle = true,
					     .memory_mib = p->conf->memory_mib,
					     .memory = memory_of_clients,
					     .changed = budget_changed,
					     .ctx = p};

	budget_start(&p->budget, &wishes);
}

static int run(struct proxy *p)
{
	p->signals.stop = on_stop;
	p->signals.reload = on_reload;
	p->signals.status = on_status;
	p->signals.restart = on_restart;
	p->signals.hurry = on_hurry;
	p->signals.ctx = p;
	daemon_signals_start(&p->signals, p->main.loop);
	p->clients_room = room_for_clients(p);
	if ((unsigned)p->conf->max_clients > p->clients_room)
		log_notice("descriptors are enough for %u clients (max_clients = %d)",
			   p->clients_room, p->conf->max_clients);
	start_budget(p);
	if (workers_start(p->list, p->n_workers) < 0) {
		log_error("cannot start a thread");
		return EX_OSERR;
	}
	log_notice(
		"sixpath-proxy %s is up: %u workers, %zu users, at most %u clients, %d sessions, "
		"%lu descriptors",
		daemon_version(), p->n_workers, users_count(p->conf->users),
		proxy_clients_max(p, p->conf), p->conf->max_sessions, p->nofile);
	if (!p->conf->users)
		log_notice("no users file: only clients on this machine are served");
	if (p->inherited.channel >= 0)
		handover_join(&p->handover, &p->main, p->inherited.channel, predecessor_gone, p);
	else
		accept_now(p);
	ev_run(p->main.loop, 0);
	return 0;
}

static void undo(struct proxy *p)
{
	auth_free(p->auth);
	inherited_free(&p->inherited, false);
	workers_stop(&p->main, p->list, p->n_workers);
	if (p->signals.stop) {
		daemon_signals_end(&p->signals, p->main.loop);
		handover_end(&p->handover);
		drain_end(&p->drain);
		budget_stop(&p->budget);
	}
	control_free(p->control);
	for (unsigned i = 0; i < p->n_workers; i++)
		worker_undo(&p->workers[i]);
	free(p->workers);
	free(p->list);
	perclient_free(p->perclient);
	peruser_free(p->peruser);
	perclient_free(p->udp_perclient);
	peruser_free(p->udp_peruser);
	udp_reserve_free(p->udp_reserve);
	listenports_free(p->listenports);
	issued_free(p->issued);
	if (p->main.loop)
		worker_fini(&p->main);
	proxy_conf_put(p->conf);
}

int main(int argc, char **argv)
{
	struct proxy p;
	struct daemon_args args;
	int rc = daemon_args(argc, argv, &about, &args);

	if (rc >= 0)
		return rc;
	memset(&p, 0, sizeof(p));
	p.self = args.self;
	p.argv = args.argv;
	p.conf_path = args.config;
	p.verbose = args.verbose;
	if (!args.test && daemon_inherits(&p.inherited, &about, &args) < 0)
		return EX_OSERR;
	p.conf = proxy_conf_load(args.config, args.quiet ? NULL : stderr);
	if (!p.conf) {
		inherited_free(&p.inherited, false);
		return args.test ? 1 : EX_CONFIG;
	}
	if (args.test) {
		printf("%s: configuration OK\n", args.config ? args.config : "defaults");
		proxy_conf_put(p.conf);
		return 0;
	}
	log_init(about.name, (enum log_sink)p.conf->log_to, args.foreground);
	proxy_set_log_level(&p);
	rc = priv_daemonize(!args.foreground && p.inherited.channel < 0) < 0 ? EX_OSERR : setup(&p);
	if (rc == 0)
		rc = run(&p);
	else
		priv_ready(rc);
	undo(&p);
	if (rc == 0)
		log_notice("stopped");
	return rc;
}
