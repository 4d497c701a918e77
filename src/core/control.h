/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control socket: a unix stream socket, mode 0660, in the main loop. A client sends one
 * line, "COMMAND [--json] [ARGUMENT ...]", and gets "ok\n" or "error TEXT\n" followed by the
 * answer until end of file. Commands register as rows. Slow or silent clients are dropped
 * after some seconds and cost nobody else anything.
 */
#ifndef SIXPATH_CONTROL_H
#define SIXPATH_CONTROL_H

#include <stdbool.h>

#include "core/report.h"

struct worker;
struct control;
struct control_request;

struct control_command {
	const char *name; /* a row without name ends the table */
	const char *help;
	/* Answers with control_reply or control_fail, now or later, exactly once. */
	void (*run)(struct control_request *rq, void *ctx);
	bool takes_args; /* else a surplus word is refused before */
};

/* NULL and errno on failure. Replaces a stale socket; refuses one that answers (EADDRINUSE).
 * ctx is passed to each command. */
struct control *control_new(struct worker *main_worker, const char *path,
			    const struct control_command *commands, void *ctx);
void control_free(struct control *c); /* removes the socket file */
/* Take no more clients and remove the socket file; those there are get their answers. */
void control_leave(struct control *c); /* NULL is allowed */

/* The report to fill (already of the right kind), and the arguments (without --json). */
struct report *control_report(struct control_request *rq);
int control_argc(const struct control_request *rq);
const char *control_argv(const struct control_request *rq, int i);

void control_reply(struct control_request *rq);
void control_fail(struct control_request *rq, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
