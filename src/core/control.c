/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/control.h"

#include <errno.h>
#include <ev.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/list.h"
#include "core/log.h"
#include "core/text.h"
#include "core/worker.h"

#define CLIENTS_MAX 16   /* further ones wait in the backlog */
#define COMMAND_MAX 1024 /* octets of a command line */
#define ARGS_MAX    16
#define RETRY_S     1.0 /* until accepting again, when descriptors have run out */
/* for sending the command, for gathering, for taking the answer; the unit test is quicker */
#ifndef PHASE_LIMIT_S
#define PHASE_LIMIT_S 10.0
#endif

struct control {
	struct worker *w;
	const struct control_command *commands;
	void *ctx;
	char *path;
	dev_t dev; /* of our socket file: only that one is removed */
	ino_t ino;
	int fd;
	ev_io io;
	ev_timer retry;
	struct log_limit limit;
	struct list clients;
};

enum client_state {
	READING, /* waiting for the end of the command line */
	RUNNING, /* the command gathers its answer; rq is set */
	WRITING  /* the answer goes out; the client ends with it */
};

struct client {
	struct list_node node;
	struct control *c;
	enum client_state state;
	int fd;
	ev_io io;
	ev_timer limit;
	char line[COMMAND_MAX + 1];
	size_t len;
	struct control_request *rq;
	char *out;
	size_t out_len, out_sent;
};

/* Lives until it is answered, with or without its client. */
struct control_request {
	struct client *client; /* NULL when the client has gone */
	struct report *report;
	char line[COMMAND_MAX + 1]; /* argv points into it */
	char *argv[ARGS_MAX];
	int argc;
};

/* ---- clients ---- */

static void resume_accepting(struct control *c)
{
	if (c->fd >= 0 && c->clients.count < CLIENTS_MAX && !ev_is_active(&c->retry))
		ev_io_start(c->w->loop, &c->io);
}

static void client_end(struct client *cl)
{
	struct control *c = cl->c;

	ev_io_stop(c->w->loop, &cl->io);
	ev_timer_stop(c->w->loop, &cl->limit);
	if (cl->rq)
		cl->rq->client = NULL;
	list_remove(&c->clients, &cl->node);
	close(cl->fd);
	free(cl->out);
	free(cl);
	resume_accepting(c);
}

static void restart_limit(struct client *cl)
{
	ev_timer_stop(cl->c->w->loop, &cl->limit);
	ev_timer_set(&cl->limit, PHASE_LIMIT_S, 0.);
	ev_timer_start(cl->c->w->loop, &cl->limit);
}

static void write_some(struct client *cl)
{
	while (cl->out_sent < cl->out_len) {
		ssize_t n = send(cl->fd, cl->out + cl->out_sent, cl->out_len - cl->out_sent,
				 MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n < 0) {
			client_end(cl);
			return;
		}
		cl->out_sent += (size_t)n;
	}
	client_end(cl);
}

/* Send head and body, then end. Writing starts with the next event, so that a command may
 * answer at once and still use its request. */
static void client_answer(struct client *cl, const char *head, const char *body, size_t body_len)
{
	size_t head_len = strlen(head);

	cl->rq = NULL;
	cl->state = WRITING;
	cl->out = malloc(head_len + body_len + 1);
	if (cl->out) {
		memcpy(cl->out, head, head_len);
		if (body_len)
			memcpy(cl->out + head_len, body, body_len);
		cl->out_len = head_len + body_len;
	}
	restart_limit(cl);
	ev_io_stop(cl->c->w->loop, &cl->io);
	ev_io_set(&cl->io, cl->fd, EV_WRITE);
	ev_io_start(cl->c->w->loop, &cl->io);
}

static void __attribute__((format(printf, 2, 0)))
client_fail_v(struct client *cl, const char *fmt, va_list ap)
{
	char reason[512], line[1024];
	size_t len;

	vsnprintf(reason, sizeof(reason), fmt, ap);
	len = (size_t)snprintf(line, sizeof(line), "error ");
	len += text_escape(line + len, sizeof(line) - len - 1, reason);
	line[len] = '\n';
	line[len + 1] = '\0';
	client_answer(cl, line, NULL, 0);
}

static void __attribute__((format(printf, 2, 3)))
client_fail(struct client *cl, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	client_fail_v(cl, fmt, ap);
	va_end(ap);
}

/* ---- commands ---- */

static void run_help(struct control_request *rq)
{
	const struct control_command *row = rq->client->c->commands;

	report_list(rq->report, "commands");
	for (; row->name; row++) {
		report_row(rq->report);
		report_str(rq->report, "command", row->name);
		report_str(rq->report, "purpose", row->help);
	}
	report_row(rq->report);
	report_str(rq->report, "command", "help");
	report_str(rq->report, "purpose", "list the commands");
	report_end(rq->report);
	control_reply(rq);
}

static void unknown_command(struct client *cl, const char *name)
{
	char known[384] = "";

	for (const struct control_command *row = cl->c->commands; row->name; row++) {
		size_t len = strlen(known);
		snprintf(known + len, sizeof(known) - len, "%s, ", row->name);
	}
	client_fail(cl, "unknown command \"%.64s\"; known are %shelp", name, known);
}

/* Take the line apart; *json tells whether --json was among the words. */
static struct control_request *request_new(struct client *cl, char **name, bool *json)
{
	struct control_request *rq = calloc(1, sizeof(*rq));
	char *save = NULL;

	if (!rq)
		return NULL;
	rq->client = cl;
	*json = false;
	memcpy(rq->line, cl->line, sizeof(rq->line));
	*name = strtok_r(rq->line, " \t\r", &save);
	for (char *word; (word = strtok_r(NULL, " \t\r", &save));) {
		if (strcmp(word, "--json") == 0)
			*json = true;
		else if (rq->argc < ARGS_MAX)
			rq->argv[rq->argc++] = word;
	}
	return rq;
}

static void request_free(struct control_request *rq)
{
	report_free(rq->report);
	free(rq);
}

static void run_command(struct client *cl)
{
	const struct control_command *row = cl->c->commands;
	char *name;
	bool json, help;
	struct control_request *rq = request_new(cl, &name, &json);

	if (!rq) {
		client_fail(cl, "out of memory");
		return;
	}
	while (name && row->name && strcmp(row->name, name) != 0)
		row++;
	help = name && strcmp(name, "help") == 0;
	if (!name || (!row->name && !help)) {
		unknown_command(cl, name ? name : "");
		request_free(rq);
		return;
	}
	if (rq->argc > 0 && !(row->name && row->takes_args)) {
		client_fail(cl, "%s takes no arguments, such as \"%.64s\"", name, rq->argv[0]);
		request_free(rq);
		return;
	}
	rq->report = report_new(name, json);
	if (!rq->report) {
		client_fail(cl, "out of memory");
		request_free(rq);
		return;
	}
	cl->state = RUNNING;
	cl->rq = rq;
	ev_io_stop(cl->c->w->loop, &cl->io);
	restart_limit(cl);
	if (row->name)
		row->run(rq, cl->c->ctx);
	else
		run_help(rq);
}

struct report *control_report(struct control_request *rq)
{
	return rq->report;
}

int control_argc(const struct control_request *rq)
{
	return rq->argc;
}

const char *control_argv(const struct control_request *rq, int i)
{
	return i >= 0 && i < rq->argc ? rq->argv[i] : NULL;
}

void control_reply(struct control_request *rq)
{
	size_t len;
	const char *text;

	if (rq->client) {
		text = report_finish(rq->report, &len);
		if (text)
			client_answer(rq->client, "ok\n", text, len);
		else
			client_fail(rq->client, "out of memory");
	}
	request_free(rq);
}

void control_fail(struct control_request *rq, const char *fmt, ...)
{
	va_list ap;

	if (rq->client) {
		va_start(ap, fmt);
		client_fail_v(rq->client, fmt, ap);
		va_end(ap);
	}
	request_free(rq);
}

/* ---- events ---- */

static void read_some(struct client *cl)
{
	ssize_t n = recv(cl->fd, cl->line + cl->len, COMMAND_MAX - cl->len, 0);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return;
	if (n <= 0) {
		client_end(cl);
		return;
	}
	end = memchr(cl->line + cl->len, '\n', (size_t)n);
	cl->len += (size_t)n;
	if (end) {
		*end = '\0';
		run_command(cl);
	} else if (cl->len == COMMAND_MAX) {
		client_fail(cl, "command is too long: at most %d characters", COMMAND_MAX - 1);
	}
}

static void client_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct client *cl = container_of(io, struct client, io);

	(void)loop;
	(void)events;
	if (cl->state == READING)
		read_some(cl);
	else
		write_some(cl);
}

static void limit_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct client *cl = container_of(t, struct client, limit);

	(void)loop;
	(void)events;
	if (cl->state != RUNNING) {
		client_end(cl);
		return;
	}
	cl->rq->client = NULL; /* its answer, if it still comes, is for nobody */
	client_fail(cl, "no answer within %.0f seconds", PHASE_LIMIT_S);
}

static void retry_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct control *c = container_of(t, struct control, retry);

	(void)loop;
	(void)events;
	resume_accepting(c);
}

static void client_new(struct control *c, int fd)
{
	struct client *cl = calloc(1, sizeof(*cl));

	if (!cl) {
		close(fd);
		return;
	}
	cl->c = c;
	cl->fd = fd;
	list_push(&c->clients, &cl->node);
	ev_io_init(&cl->io, client_cb, fd, EV_READ);
	ev_io_start(c->w->loop, &cl->io);
	ev_timer_init(&cl->limit, limit_cb, PHASE_LIMIT_S, 0.);
	ev_timer_start(c->w->loop, &cl->limit);
	if (c->clients.count == CLIENTS_MAX)
		ev_io_stop(c->w->loop, &c->io);
}

static void accept_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct control *c = container_of(io, struct control, io);
	int fd = accept4(c->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd >= 0) {
		client_new(c, fd);
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		log_limited(&c->limit, 1, LVL_WARNING, "control socket: cannot accept: %s",
			    strerror(errno));
		ev_io_stop(loop, &c->io);
		ev_timer_set(&c->retry, RETRY_S, 0.);
		ev_timer_start(loop, &c->retry);
	}
}

/* ---- the socket ---- */

/* Does somebody answer at this address? */
static bool answers(const struct sockaddr_un *sun)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool yes;

	if (fd < 0)
		return true; /* cannot tell: leave the file alone */
	yes = connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) == 0 || errno == EAGAIN;
	close(fd);
	return yes;
}

/* 0 or -errno. */
static int bind_path(int fd, const struct sockaddr_un *sun)
{
	const struct sockaddr *sa = (const struct sockaddr *)sun;
	struct stat st;

	/* the file gets the socket's mode, so it is never open to all, not even for a moment */
	if (fchmod(fd, 0660) < 0)
		return -errno;
	if (bind(fd, sa, sizeof(*sun)) < 0) {
		if (errno != EADDRINUSE)
			return -errno;
		if (lstat(sun->sun_path, &st) < 0)
			return -errno;
		if (!S_ISSOCK(st.st_mode))
			return -ENOTSOCK;
		if (answers(sun))
			return -EADDRINUSE;
		if (unlink(sun->sun_path) < 0 || bind(fd, sa, sizeof(*sun)) < 0)
			return -errno;
	}
	return chmod(sun->sun_path, 0660) < 0 ? -errno : 0; /* against the umask */
}

static int open_socket(struct control *c)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct stat st;
	int rc;

	if (strlen(c->path) >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	memcpy(sun.sun_path, c->path, strlen(c->path) + 1);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	rc = bind_path(c->fd, &sun);
	if (rc == 0 && listen(c->fd, CLIENTS_MAX) < 0)
		rc = -errno;
	if (rc == 0 && lstat(c->path, &st) < 0)
		rc = -errno;
	if (rc < 0)
		return rc;
	c->dev = st.st_dev;
	c->ino = st.st_ino;
	return 0;
}

struct control *control_new(struct worker *main_worker, const char *path,
			    const struct control_command *commands, void *ctx)
{
	struct control *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return NULL;
	c->w = main_worker;
	c->commands = commands;
	c->ctx = ctx;
	c->fd = -1;
	list_init(&c->clients);
	c->path = strdup(path);
	rc = c->path ? open_socket(c) : -ENOMEM;
	if (rc < 0) {
		if (c->fd >= 0)
			close(c->fd);
		free(c->path);
		free(c);
		errno = -rc;
		return NULL;
	}
	ev_timer_init(&c->retry, retry_cb, RETRY_S, 0.);
	ev_io_init(&c->io, accept_cb, c->fd, EV_READ);
	ev_io_start(c->w->loop, &c->io);
	return c;
}

void control_leave(struct control *c)
{
	struct stat st;

	if (!c || c->fd < 0)
		return;
	ev_timer_stop(c->w->loop, &c->retry);
	ev_io_stop(c->w->loop, &c->io);
	close(c->fd);
	c->fd = -1;
	if (lstat(c->path, &st) == 0 && st.st_dev == c->dev && st.st_ino == c->ino)
		unlink(c->path);
}

void control_free(struct control *c)
{
	if (!c)
		return;
	control_leave(c);
	while (!list_empty(&c->clients))
		client_end(container_of(list_first(&c->clients), struct client, node));
	free(c->path);
	free(c);
}
