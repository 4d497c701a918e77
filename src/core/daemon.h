/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What both daemons do the same way: command line, signals, version. */
#ifndef SIXPATH_DAEMON_H
#define SIXPATH_DAEMON_H

#include <ev.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct control;
struct control_command;
struct worker;

struct daemon_about {
	const char *name;    /* "sixpath-redir" */
	const char *config;  /* default configuration file */
	const char *purpose; /* one line for --help */
	bool takes_proxy;    /* --proxy HOST:PORT instead of a file */
	const char *options; /* for --version: what was compiled in and what not; or NULL */
};

struct daemon_args {
	char self[PATH_MAX]; /* path of the program, for its successor; "" = unknown */
	char **argv;
	const char *config; /* NULL: there is no file, use defaults */
	const char *proxy;  /* --proxy, or NULL */
	bool test, foreground, verbose;
	bool quiet; /* a successor in the background: errors go to the log, not to stderr */
};

/* Returns -1 to go on, or the exit code to leave with (help, version, bad usage, no such file).
 * A default configuration file that does not exist is no error: config becomes NULL. */
int daemon_args(int argc, char **argv, const struct daemon_about *about, struct daemon_args *out);

struct inherited;
/* The sockets that we were given at start (handover.h). For a successor in the background, which
 * does not fork again, the log is opened. 0 or -errno. */
int daemon_inherits(struct inherited *in, const struct daemon_about *about,
		    struct daemon_args *args);

/* SIGTERM and SIGINT stop in order, a second one hurries, a third one ends us at once; SIGHUP
 * reloads; SIGUSR1 logs a status; SIGUSR2 restarts; SIGPIPE is ignored. The callbacks run in the loop. */
struct daemon_signals {
	ev_signal term, intr, hup, usr1, usr2;
	bool stopping; /* a first one has come, */
	bool hurrying; /* and a second one */
	void (*stop)(void *ctx);
	void (*reload)(void *ctx);
	void (*status)(void *ctx);
	void (*restart)(void *ctx);
	void (*hurry)(void *ctx); /* NULL: end at once */
	void *ctx;
};
void daemon_signals_start(struct daemon_signals *s, struct ev_loop *loop);
void daemon_signals_end(struct daemon_signals *s, struct ev_loop *loop);

/* What the key "workers" comes to: 0 = one for each processor. */
unsigned daemon_workers(int configured);

/* Before privileges are dropped: the directory of the control socket path for user, if it is
 * the one of /run that is ours. */
void daemon_run_dir(const char *path, const char *user);
/* The control socket in *out; a path of NULL or "" means none. 0 or an exit code (logged). */
int daemon_control(struct control **out, struct worker *main_worker, const char *path,
		   const struct control_command *commands, void *ctx);

/* After privileges have been dropped: a warning, with the cure, if path (may be NULL or "") cannot
 * be read again, for reload and restart read it as who we are now. */
void daemon_check_reload(const char *path);

/* The configuration anew, by load: NULL if it is bad, after telling errors, one a line. Then they
 * have been logged, and text (cap octets, 256 at least) has the first of them, for who asked for the
 * reload. */
void *daemon_load_again(void *(*load)(void *ctx, FILE *errors), void *ctx, char *text, size_t cap);

/* What came of a reload, logged and into text (cap octets) for who asked for it. restart: keys
 * that differ but need a restart, or "". Returns 0. */
int daemon_reloaded(const char *restart, char *text, size_t cap);
/* Returns -1. */
int daemon_reload_failed(const char *why, char *text, size_t cap);

const char *daemon_version(void);

#endif
