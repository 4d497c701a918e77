/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sixpath-proxy: arguments, set-up in order, run, undo in reverse. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "core/priv.h"
#include "core/sock.h"
#include "proxy/acceptor.h"
#include "proxy/client.h"
#include "proxy/perclient.h"
#include "proxy/proxy.h"

static const struct daemon_about about = {
	.name = "sixpath-proxy",
	.config = "/etc/sixpath/proxy.conf",
	.purpose = "SOCKSv6 proxy for TCP and Multipath TCP",
};

/* ---- signals ---- */

static void visit_stop(struct worker *w, void *ctx)
{
	struct proxy_worker *pw = proxy_worker_of(w);

	(void)ctx;
	listeners_close(&pw->listeners);
	client_end_all(pw, END_SHUTDOWN);
}

static void stop_done(void *ctx)
{
	struct proxy *p = ctx;

	ev_break(p->main.loop, EVBREAK_ALL);
}

static void on_stop(void *ctx)
{
	struct proxy *p = ctx;

	log_notice("stopping");
	if (worker_gather(&p->main, p->list, p->n_workers, visit_stop, stop_done, p) < 0)
		stop_done(p);
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
	return acceptor_open(pw);
}

static void worker_undo(struct proxy_worker *pw)
{
	proxy_conf_put(pw->conf);
	if (!pw->w.loop)
		return;
	listeners_free(&pw->listeners);
	resolver_free(pw->resolver);
	if (pw->synwatch.w)
		synwatch_fini(&pw->synwatch);
	worker_fini(&pw->w);
}

/* The workers' sockets share their port, and would share it with another proxy's as well. So
 * each address is first taken by a socket that does not share. */
static int check_addresses(const struct proxy_conf *c)
{
	struct sock_wishes wishes = SOCK_WISHES_NONE;
	char text[ADDR_STRLEN];

	for (size_t i = 0; i < c->listen.n; i++) {
		int fd = sock_listen(&c->listen.v[i], &wishes, NULL);
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
	int rc = check_addresses(p->conf);

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

/* What was read as root must be readable again at a reload. */
static void check_reload(const struct proxy *p)
{
	const char *files[] = {p->conf_path, p->conf->users_file};

	for (size_t i = 0; i < 2; i++)
		if (files[i] && *files[i] && access(files[i], R_OK) < 0)
			log_warning("%s: %s: a reload will fail (the user that the proxy runs as "
				    "must be able to read it: mode 0640 and that user's group)",
				    files[i], strerror(errno));
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
	if (!p->issued || !p->perclient)
		return EX_OSERR;
	rc = setup_workers(p);
	if (rc)
		return rc;
	daemon_run_dir(p->conf->control, p->conf->user);
	rc = priv_drop(p->conf->user, is_default, NULL);
	if (rc)
		return rc;
	check_reload(p);
	rc = daemon_control(&p->control, &p->main, p->conf->control, proxy_commands, p);
	if (rc)
		return rc;
	p->auth = auth_new();
	return p->auth ? 0 : EX_OSERR;
}

static int run(struct proxy *p)
{
	p->signals.stop = on_stop;
	p->signals.reload = on_reload;
	p->signals.status = on_status;
	p->signals.ctx = p;
	daemon_signals_start(&p->signals, p->main.loop);
	for (unsigned i = 0; i < p->n_workers; i++)
		listeners_start(&p->workers[i].listeners);
	if (workers_start(p->list, p->n_workers) < 0) {
		log_error("cannot start a thread");
		return EX_OSERR;
	}
	log_notice("sixpath-proxy %s is up: %u workers, %zu users, at most %lu descriptors",
		   daemon_version(), p->n_workers, users_count(p->conf->users), p->nofile);
	if (!p->conf->users)
		log_notice("no users file: only clients on this machine are served");
	priv_ready(0);
	ev_run(p->main.loop, 0);
	return 0;
}

static void undo(struct proxy *p)
{
	auth_free(p->auth);
	workers_stop(&p->main, p->list, p->n_workers);
	if (p->signals.stop)
		daemon_signals_end(&p->signals, p->main.loop);
	control_free(p->control);
	for (unsigned i = 0; i < p->n_workers; i++)
		worker_undo(&p->workers[i]);
	free(p->workers);
	free(p->list);
	perclient_free(p->perclient);
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
	p.conf_path = args.config;
	p.verbose = args.verbose;
	p.conf = proxy_conf_load(args.config, stderr);
	if (!p.conf)
		return args.test ? 1 : EX_CONFIG;
	if (args.test) {
		printf("%s: configuration OK\n", args.config ? args.config : "defaults");
		proxy_conf_put(p.conf);
		return 0;
	}
	log_init(about.name, (enum log_sink)p.conf->log_to, args.foreground);
	proxy_set_log_level(&p);
	rc = priv_daemonize(!args.foreground) < 0 ? EX_OSERR : setup(&p);
	if (rc == 0)
		rc = run(&p);
	else
		priv_ready(rc);
	undo(&p);
	if (rc == 0)
		log_notice("stopped");
	return rc;
}
