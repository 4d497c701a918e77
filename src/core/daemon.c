/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "core/daemon.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <ares.h>

#include "core/control.h"
#include "core/handover.h"
#include "core/list.h"
#include "core/log.h"
#include "core/priv.h"

#define RUN_DIR "/run/sixpath"

const char *daemon_version(void)
{
	return PACKAGE_VERSION;
}

static void print_help(const struct daemon_about *about, FILE *out)
{
	fprintf(out, "%s: %s\n\nusage: %s [-c FILE%s] [-t] [-f] [-v] [-V]\n", about->name,
		about->purpose, about->name, about->takes_proxy ? " | --proxy HOST:PORT" : "");
	fprintf(out, "  -c FILE  configuration (default %s)\n", about->config);
	if (about->takes_proxy)
		fputs("  --proxy HOST:PORT  one upstream proxy, defaults for the rest, no file\n",
		      out);
	fputs("  -t       check the configuration and exit: 0 good, 1 bad\n"
	      "  -f       stay in the foreground, log to stderr\n"
	      "  -v       log more (debug)\n"
	      "  -V       version and what was compiled in\n"
	      "  -h       this help\n",
	      out);
}

static void print_version(const struct daemon_about *about)
{
	printf("%s (sixpath) %s\nSOCKS version 6, draft-olteanu-intarea-socks-6-11\n"
	       "libev %d.%d, c-ares %s\n",
	       about->name, PACKAGE_VERSION, ev_version_major(), ev_version_minor(),
	       ares_version(NULL));
	if (about->options)
		puts(about->options);
}

static int check_config(const struct daemon_about *about, struct daemon_args *a)
{
	if (a->proxy && a->config) {
		fprintf(stderr, "%s: -c and --proxy exclude each other\n", about->name);
		return EX_USAGE;
	}
	if (a->config || a->proxy)
		return -1;
	if (access(about->config, F_OK) == 0)
		a->config = about->config;
	return -1;
}

int daemon_args(int argc, char **argv, const struct daemon_about *about, struct daemon_args *out)
{
	static const struct option with_proxy[] = {
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{"proxy", required_argument, NULL, 'p'},
		{NULL, 0, NULL, 0},
	};
	static const struct option plain[] = {
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int c;

	memset(out, 0, sizeof(*out));
	out->argv = argv;
	/* now: an update replaces the file */
	if (!realpath("/proc/self/exe", out->self))
		out->self[0] = '\0';
	while ((c = getopt_long(argc, argv, "c:tfvVh", about->takes_proxy ? with_proxy : plain,
				NULL)) != -1) {
		switch (c) {
		case 'c':
			out->config = optarg;
			break;
		case 'p':
			out->proxy = optarg;
			break;
		case 't':
			out->test = true;
			break;
		case 'f':
			out->foreground = true;
			break;
		case 'v':
			out->verbose = true;
			break;
		case 'V':
			print_version(about);
			return 0;
		case 'h':
			print_help(about, stdout);
			return 0;
		default:
			print_help(about, stderr);
			return EX_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "%s: unexpected argument \"%s\"\n", about->name, argv[optind]);
		return EX_USAGE;
	}
	return check_config(about, out);
}

int daemon_inherits(struct inherited *in, const struct daemon_about *about,
		    struct daemon_args *args)
{
	int rc = inherited_read(in);

	args->quiet = rc == 0 && in->channel >= 0 && !args->foreground;
	if (args->quiet)
		log_init(about->name, SINK_AUTO, false);
	return rc;
}

static void stop_cb(struct ev_loop *loop, ev_signal *sig, int events)
{
	struct daemon_signals *s = sig->data;

	(void)loop;
	(void)events;
	if (s->stopping && (s->hurrying || !s->hurry)) {
		log_warning("one more signal: stopping at once");
		_exit(EX_SOFTWARE);
	}
	if (s->stopping) {
		s->hurrying = true;
		s->hurry(s->ctx);
		return;
	}
	s->stopping = true;
	s->stop(s->ctx);
}

static void hup_cb(struct ev_loop *loop, ev_signal *sig, int events)
{
	struct daemon_signals *s = container_of(sig, struct daemon_signals, hup);

	(void)loop;
	(void)events;
	s->reload(s->ctx);
}

static void usr1_cb(struct ev_loop *loop, ev_signal *sig, int events)
{
	struct daemon_signals *s = container_of(sig, struct daemon_signals, usr1);

	(void)loop;
	(void)events;
	s->status(s->ctx);
}

static void usr2_cb(struct ev_loop *loop, ev_signal *sig, int events)
{
	struct daemon_signals *s = container_of(sig, struct daemon_signals, usr2);

	(void)loop;
	(void)events;
	s->restart(s->ctx);
}

void daemon_signals_start(struct daemon_signals *s, struct ev_loop *loop)
{
	signal(SIGPIPE, SIG_IGN);
	ev_signal_init(&s->term, stop_cb, SIGTERM);
	ev_signal_init(&s->intr, stop_cb, SIGINT);
	s->term.data = s->intr.data = s;
	ev_signal_init(&s->hup, hup_cb, SIGHUP);
	ev_signal_init(&s->usr1, usr1_cb, SIGUSR1);
	ev_signal_init(&s->usr2, usr2_cb, SIGUSR2);
	ev_signal_start(loop, &s->usr2);
	ev_signal_start(loop, &s->term);
	ev_signal_start(loop, &s->intr);
	ev_signal_start(loop, &s->hup);
	ev_signal_start(loop, &s->usr1);
}

void daemon_signals_end(struct daemon_signals *s, struct ev_loop *loop)
{
	ev_signal_stop(loop, &s->term);
	ev_signal_stop(loop, &s->intr);
	ev_signal_stop(loop, &s->hup);
	ev_signal_stop(loop, &s->usr1);
	ev_signal_stop(loop, &s->usr2);
	signal(SIGHUP, SIG_IGN); /* too late for them, but no reason to die */
	signal(SIGUSR1, SIG_IGN);
	signal(SIGUSR2, SIG_IGN);
}

unsigned daemon_workers(int configured)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (configured > 0)
		return (unsigned)configured;
	return cpus > 0 ? (unsigned)cpus : 1;
}

void daemon_run_dir(const char *path, const char *user)
{
	if (path && strncmp(path, RUN_DIR "/", strlen(RUN_DIR "/")) == 0)
		priv_make_dir(RUN_DIR, user);
}

int daemon_control(struct control **out, struct worker *main_worker, const char *path,
		   const struct control_command *commands, void *ctx)
{
	*out = NULL;
	if (!path || !*path)
		return 0;
	*out = control_new(main_worker, path, commands, ctx);
	if (*out)
		return 0;
	log_error("cannot open the control socket %s: %s (set \"control\" to another path, or to "
		  "nothing to go without)",
		  path, strerror(errno));
	return EX_UNAVAILABLE;
}

void daemon_check_reload(const char *path)
{
	if (!path || !*path || access(path, R_OK) == 0)
		return;
	log_warning("%s: %s: reload and restart will fail: the user that the daemon runs as must "
		    "be able to read it, too (and to enter its directory): chgrp %ld %s && chmod "
		    "640 %s",
		    path, strerror(errno), (long)getegid(), path, path);
}

#define BAD  "the new configuration is bad"
#define STAY "; the old configuration stays"

/* All to the log, the first one into text. */
static void tell_errors(char *errors, char *text, size_t cap)
{
	const char *first = NULL;
	char *save = NULL, more[48] = "";
	size_t n = 0, room = cap - sizeof(BAD STAY) - sizeof(more);

	for (char *l = strtok_r(errors, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		log_error("%s", l);
		if (n++ == 0)
			first = l;
	}
	log_error("reload: " BAD STAY);
	if (n > 1)
		snprintf(more, sizeof(more), " (and %zu more: see the log)", n - 1);
	if (first)
		snprintf(text, cap, BAD ": %.*s%s%s" STAY, (int)room, first,
			 strlen(first) > room ? "..." : "", more);
	else
		snprintf(text, cap, BAD " (see the log)" STAY);
}

void *daemon_load_again(void *(*load)(void *ctx, FILE *errors), void *ctx, char *text, size_t cap)
{
	char *errors = NULL, none[] = "";
	size_t len = 0;
	FILE *f = open_memstream(&errors, &len);
	void *conf = load(ctx, f); /* without a file they are logged */

	if (f)
		fclose(f);
	if (!conf)
		tell_errors(errors ? errors : none, text, cap);
	free(errors);
	return conf;
}

int daemon_reloaded(const char *restart, char *text, size_t cap)
{
	snprintf(text, cap, "configuration loaded%s%s",
		 restart[0] ? "; only a restart changes: " : "", restart);
	log_notice("reload: %s", text);
	return 0;
}

int daemon_reload_failed(const char *why, char *text, size_t cap)
{
	snprintf(text, cap, "%s" STAY, why);
	log_error("reload: %s", text);
	return -1;
}
