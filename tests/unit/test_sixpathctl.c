/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The real sixpathctl, against a control socket of ours, and on a terminal. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/control.h"
#include "core/worker.h"

#define DEADLINE_S 30.0

static char program[PATH_MAX], dir[64], path[100], users[100];
static struct worker loop;

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- commands ---- */

static void run_status(struct control_request *rq, void *ctx)
{
	(void)ctx;
	report_str(control_report(rq), "state", "up");
	report_u64(control_report(rq), "words", (uint64_t)control_argc(rq));
	control_reply(rq);
}

static void run_reload(struct control_request *rq, void *ctx)
{
	(void)ctx;
	control_fail(rq, "redir.conf:3: bad");
}

/* More than any socket buffer holds. */
static void run_flows(struct control_request *rq, void *ctx)
{
	(void)ctx;
	report_list(control_report(rq), "flows");
	for (unsigned i = 0; i < 50000; i++) {
		report_row(control_report(rq));
		report_u64(control_report(rq), "id", i);
		report_str(control_report(rq), "text", "0123456789012345678901234567890123456789");
	}
	report_end(control_report(rq));
	control_reply(rq);
}

static const struct control_command commands[] = {
	{"status", "state", run_status, false},
	{"learned", "words", run_status, true},
	{"reload", "fails", run_reload, false},
	{"flows", "much", run_flows, false},
	{0},
};

/* ---- running the program ---- */

struct run {
	pid_t pid;
	int out, err;
	char *text[2]; /* standard output and error */
	size_t len[2];
	int code;
};

static void start(struct run *r, char *const *args)
{
	int out[2], err[2];

	memset(r, 0, sizeof(*r));
	assert_int_equal(pipe2(out, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(err, O_CLOEXEC | O_NONBLOCK), 0);
	r->pid = fork();
	assert_true(r->pid >= 0);
	if (r->pid == 0) {
		fcntl(out[1], F_SETFL, 0);
		fcntl(err[1], F_SETFL, 0);
		dup2(out[1], STDOUT_FILENO);
		dup2(err[1], STDERR_FILENO);
		execv(program, args);
		_exit(127);
	}
	close(out[1]);
	close(err[1]);
	r->out = out[0];
	r->err = err[0];
}

/* True at the end of file. */
static bool take(struct run *r, int i, int fd)
{
	char part[65536];
	ssize_t n = read(fd, part, sizeof(part));

	if (n <= 0)
		return n == 0;
	r->text[i] = realloc(r->text[i], r->len[i] + (size_t)n + 1);
	assert_non_null(r->text[i]);
	memcpy(r->text[i] + r->len[i], part, (size_t)n);
	r->len[i] += (size_t)n;
	return false;
}

/* Serve until the program has ended. */
static void finish(struct run *r)
{
	double end = now_s() + DEADLINE_S;
	bool out_done = false, err_done = false;
	int status;

	while (!out_done || !err_done) {
		assert_true(now_s() < end);
		ev_run(loop.loop, EVRUN_NOWAIT);
		out_done = out_done || take(r, 0, r->out);
		err_done = err_done || take(r, 1, r->err);
		poll(NULL, 0, 1);
	}
	assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
	r->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	close(r->out);
	close(r->err);
	for (int i = 0; i < 2; i++) {
		if (!r->text[i])
			r->text[i] = calloc(1, 1);
		assert_non_null(r->text[i]);
		r->text[i][r->len[i]] = '\0';
	}
}

static void run_free(struct run *r)
{
	free(r->text[0]);
	free(r->text[1]);
}

#define ARGS(...) ((char *[]){"sixpathctl", __VA_ARGS__, NULL})

static void expect(char *const *args, int code, const char *out, const char *err)
{
	struct run r;

	start(&r, args);
	finish(&r);
	assert_string_equal(r.text[0], out);
	if (*err)
		assert_non_null(strstr(r.text[1], err));
	else
		assert_string_equal(r.text[1], "");
	assert_int_equal(r.code, code);
	run_free(&r);
}

/* ---- tests ---- */

static void answers(void **state)
{
	struct control *c = control_new(&loop, path, commands, NULL);
	struct run r;

	(void)state;
	assert_non_null(c);
	expect(ARGS("-s", path, "status"), 0, "state: up\nwords: 0\n", "");
	expect(ARGS("--socket", path, "learned", "a", "b"), 0, "state: up\nwords: 2\n", "");
	expect(ARGS("-s", path, "--json", "status"), 0,
	       "{\"schema\":\"sixpath/1\",\"command\":\"status\",\"state\":\"up\",\"words\":0}\n",
	       "");
	expect(ARGS("status", "--json", "-s", path), 0,
	       "{\"schema\":\"sixpath/1\",\"command\":\"status\",\"state\":\"up\",\"words\":0}\n",
	       "");
	expect(ARGS("-s", path, "reload"), 1, "", "sixpathctl: redir.conf:3: bad\n");
	expect(ARGS("-s", path, "proxies"), 1, "",
	       "sixpathctl: unknown command \"proxies\"; known are status, learned, reload, flows, "
	       "help\n");
	start(&r, ARGS("-s", path, "flows"));
	finish(&r);
	assert_int_equal(r.code, 0);
	assert_int_equal(strncmp(r.text[0], "flows (50000)\n", 14), 0);
	assert_non_null(strstr(r.text[0], "\n49999  0123456789"));
	run_free(&r);
	control_free(c);
}

static void usage(void **state)
{
	(void)state;
	expect(ARGS("statsu"), EX_USAGE, "",
	       "unknown command \"statsu\"; did you mean \"status\"?\n");
	expect(ARGS("zzzzzz"), EX_USAGE, "", "unknown command \"zzzzzz\"\n");
	expect(ARGS("--jason", "status"), EX_USAGE, "", "--jason");
	expect(ARGS("-s", path, "--proxy", "status"), EX_USAGE, "", "exclude each other");
	expect(ARGS("-D", "status"), EX_USAGE, "", "-D goes with passwd only");
	expect(ARGS("-s", path, "learned", "a b"), EX_USAGE, "", "no blanks");
	expect(ARGS("-s", path, "learned", "a\nreload"), EX_USAGE, "", "no blanks");
	expect(ARGS("-s", path, "status", "extra"), EX_USAGE, "",
	       "status takes no arguments, such as \"extra\"\n");
	expect(ARGS("reload", "--json", "extra"), EX_USAGE, "", "reload takes no arguments");
	expect(ARGS("help", "flows"), EX_USAGE, "", "help takes no arguments");
	expect(ARGS("doctor", "now"), EX_USAGE, "", "doctor takes no arguments");
	expect(ARGS("--version"), 0, "sixpathctl (sixpath) " PACKAGE_VERSION "\n", "");
}

static void unreachable(void **state)
{
	char longpath[200];
	int fd;
	struct sockaddr_un sun = {.sun_family = AF_UNIX};

	(void)state;
	expect(ARGS("-s", path, "status"), EX_UNAVAILABLE, "", path);
	expect(ARGS("-s", path, "status"), EX_UNAVAILABLE, "", "is sixpath-redir running?");
	memset(longpath, 'x', sizeof(longpath) - 1);
	longpath[sizeof(longpath) - 1] = '\0';
	expect(ARGS("-s", longpath, "status"), EX_UNAVAILABLE, "", "name too long");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); /* nobody listens */
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	expect(ARGS("-s", path, "status"), EX_UNAVAILABLE, "", "Connection refused");
	close(fd);
	unlink(path);
}

/* A peer that says just this and closes. */
static void against(const char *says, int code, const char *err)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), conn;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct run r;
	char line[100];

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(listen(fd, 1), 0);
	start(&r, ARGS("-s", path, "learned", "x"));
	assert_int_equal(poll(&p, 1, (int)(DEADLINE_S * 1000)), 1);
	conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(conn >= 0);
	assert_int_equal(recv(conn, line, sizeof(line), 0), strlen("learned x\n"));
	assert_memory_equal(line, "learned x\n", strlen("learned x\n"));
	assert_int_equal(send(conn, says, strlen(says), MSG_NOSIGNAL), strlen(says));
	close(conn);
	finish(&r);
	assert_string_equal(r.text[0], "");
	assert_non_null(strstr(r.text[1], err));
	assert_int_equal(r.code, code);
	run_free(&r);
	close(fd);
	unlink(path);
}

static void odd_peers(void **state)
{
	(void)state;
	against("", EX_TEMPFAIL, "broke off");
	against("HTTP/1.1 400 Bad Request\r\n", EX_PROTOCOL, "does not speak our protocol");
	against("o", EX_PROTOCOL, "does not speak our protocol");
	against("error \n", 1, "sixpathctl: \n");
}

/* ---- on a terminal ---- */

struct terminal {
	pid_t pid;
	int fd;
	char text[4096];
	size_t len;
};

static void terminal_start(struct terminal *t, char *const *args)
{
	memset(t, 0, sizeof(*t));
	t->pid = forkpty(&t->fd, NULL, NULL, NULL);
	assert_true(t->pid >= 0);
	if (t->pid == 0) {
		signal(SIGINT, SIG_DFL); /* a test run in the background has it ignored */
		execv(program, args);
		_exit(127);
	}
}

/* False at the end of file (EIO on Linux). */
static bool terminal_read(struct terminal *t)
{
	struct pollfd p = {.fd = t->fd, .events = POLLIN};

	assert_int_equal(poll(&p, 1, (int)(DEADLINE_S * 1000)), 1);
	ssize_t n = read(t->fd, t->text + t->len, sizeof(t->text) - 1 - t->len);
	if (n > 0)
		t->len += (size_t)n;
	t->text[t->len] = '\0';
	return n > 0;
}

/* Wait for the question to be asked for the nth time, with the echo off. */
static void wait_question(struct terminal *t, const char *question, int nth)
{
	for (;;) {
		int n = 0;
		for (const char *c = t->text; (c = strstr(c, question)); c++)
			n++;
		if (n >= nth)
			break;
		assert_true(terminal_read(t));
	}
	struct termios tio;
	assert_int_equal(tcgetattr(t->fd, &tio), 0);
	assert_int_equal(tio.c_lflag & ECHO, 0);
}

static void type(struct terminal *t, const char *text)
{
	assert_int_equal(write(t->fd, text, strlen(text)), strlen(text));
}

/* Exit code, or 128 + signal; the echo must be on again. */
static int terminal_end(struct terminal *t)
{
	struct termios tio;
	int status;

	while (terminal_read(t))
		;
	assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
	assert_int_equal(tcgetattr(t->fd, &tio), 0);
	assert_int_equal(tio.c_lflag & ECHO, ECHO);
	close(t->fd);
	assert_null(strstr(t->text, "secret"));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void asks_twice(void **state)
{
	struct terminal t;

	(void)state;
	terminal_start(&t, ARGS("passwd", users, "home"));
	wait_question(&t, "Password: ", 1);
	type(&t, "secret\n");
	wait_question(&t, "Once more: ", 1);
	type(&t, "secret\n");
	assert_int_equal(terminal_end(&t), 0);
	assert_non_null(strstr(t.text, "user \"home\" added"));
	assert_int_equal(access(users, F_OK), 0);
	unlink(users);
}

static void two_that_differ(void **state)
{
	struct terminal t;

	(void)state;
	terminal_start(&t, ARGS("passwd", users, "home"));
	wait_question(&t, "Password: ", 1);
	type(&t, "secret\n");
	wait_question(&t, "Once more: ", 1);
	type(&t, "Secret\n");
	assert_int_equal(terminal_end(&t), EX_DATAERR);
	assert_int_equal(access(users, F_OK), -1);
}

static void interrupted(void **state)
{
	struct terminal t;

	(void)state;
	terminal_start(&t, ARGS("passwd", users, "home"));
	wait_question(&t, "Password: ", 1);
	type(&t, "secr\x03");
	assert_int_equal(terminal_end(&t), 128 + SIGINT);
	terminal_start(&t, ARGS("passwd", users, "home"));
	wait_question(&t, "Password: ", 1);
	assert_int_equal(kill(t.pid, SIGTERM), 0);
	assert_int_equal(terminal_end(&t), 128 + SIGTERM);
	assert_int_equal(access(users, F_OK), -1);
}

/* Stopped and continued (here the kernel does not stop: nobody could continue us). */
static void suspended(void **state)
{
	struct terminal t;

	(void)state;
	terminal_start(&t, ARGS("passwd", users, "home"));
	wait_question(&t, "Password: ", 1);
	type(&t, "half\x1a");
	wait_question(&t, "Password: ", 2);
	type(&t, "secret\n");
	wait_question(&t, "Once more: ", 1);
	type(&t, "secret\n");
	assert_int_equal(terminal_end(&t), 0);
	unlink(users);
}

static void end_of_file(void **state)
{
	struct terminal t;

	(void)state;
	terminal_start(&t, ARGS("passwd", users, "home"));
	wait_question(&t, "Password: ", 1);
	type(&t, "\x04");
	assert_int_equal(terminal_end(&t), EX_NOINPUT);
	assert_int_equal(access(users, F_OK), -1);
}

static int setup(void **state)
{
	const char *given = getenv("SIXPATHCTL"), *build = getenv("top_builddir");

	(void)state;
	if (given)
		snprintf(program, sizeof(program), "%s", given);
	else
		snprintf(program, sizeof(program), "%.4000s/src/tools/sixpathctl",
			 build ? build : ".");
	if (access(program, X_OK) < 0) {
		fprintf(stderr, "no program at %s\n", program);
		return -1;
	}
	strcpy(dir, "/tmp/test_sixpathctl.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/s", dir);
	snprintf(users, sizeof(users), "%s/users", dir);
	return worker_init(&loop, UINT_MAX, NULL);
}

static int teardown(void **state)
{
	(void)state;
	worker_fini(&loop);
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers),     cmocka_unit_test(usage),
		cmocka_unit_test(unreachable), cmocka_unit_test(odd_peers),
		cmocka_unit_test(asks_twice),  cmocka_unit_test(two_that_differ),
		cmocka_unit_test(interrupted), cmocka_unit_test(suspended),
		cmocka_unit_test(end_of_file),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
