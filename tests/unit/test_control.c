/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <limits.h>
#include <sys/resource.h>
#include <time.h>

#include <cmocka.h>

#define PHASE_LIMIT_S 0.5
#include "core/control.c" /* with a shorter limit */

#define DEADLINE_S 20.0

static char dir[64], path[100];
static struct worker loop;
static struct control_request *held; /* by the command "hold" */
static int ctx_value;

/* ---- commands ---- */

static void run_echo(struct control_request *rq, void *ctx)
{
	struct report *r = control_report(rq);

	assert_ptr_equal(ctx, &ctx_value);
	report_u64(r, "count", (uint64_t)control_argc(rq));
	for (int i = 0; i < control_argc(rq); i++)
		report_str(r, "word", control_argv(rq, i));
	assert_null(control_argv(rq, control_argc(rq)));
	assert_null(control_argv(rq, -1));
	control_reply(rq);
}

static void run_fail(struct control_request *rq, void *ctx)
{
	(void)ctx;
	control_fail(rq, "no %s\ntoday", "bread");
}

static void run_hold(struct control_request *rq, void *ctx)
{
	(void)ctx;
	assert_null(held);
	held = rq;
}

static void run_big(struct control_request *rq, void *ctx)
{
	(void)ctx;
	report_list(control_report(rq), "rows");
	for (unsigned i = 0; i < 100000; i++) {
		report_row(control_report(rq));
		report_u64(control_report(rq), "n", i);
		report_str(control_report(rq), "text", "0123456789");
	}
	report_end(control_report(rq));
	control_reply(rq);
}

static const struct control_command commands[] = {
	{"echo", "say it again", run_echo, true},
	{"fail", "refuse", run_fail, false},
	{"hold", "answer later", run_hold, false},
	{"big", "a long answer", run_big, false},
	{0},
};

/* ---- a client beside the loop ---- */

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* One turn of the loop, without waiting. */
static void turn(void)
{
	ev_run(loop.loop, EVRUN_NOWAIT);
}

static int dial_control(void)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* All up to the end of file, to be freed; closes fd. */
static char *hear(int fd)
{
	size_t len = 0, cap = 1 << 23;
	char *out = malloc(cap);
	double end = now_s() + DEADLINE_S;

	assert_non_null(out);
	for (;;) {
		ssize_t n = recv(fd, out + len, cap - len - 1, 0);
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			break;
		if (n > 0) {
			len += (size_t)n;
			continue;
		}
		assert_int_equal(errno, EAGAIN);
		assert_true(now_s() < end);
		turn();
	}
	out[len] = '\0';
	close(fd);
	return out;
}

static void expect(const char *command, const char *answer)
{
	int fd = dial_control();
	char *got;

	say(fd, command);
	got = hear(fd);
	assert_string_equal(got, answer);
	free(got);
}

/* ---- tests ---- */

static struct control *start(void)
{
	struct control *c = control_new(&loop, path, commands, &ctx_value);

	assert_non_null(c);
	return c;
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/test_control.XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/s", dir);
	return worker_init(&loop, UINT_MAX, NULL);
}

static int teardown(void **state)
{
	(void)state;
	worker_fini(&loop);
	return rmdir(dir); /* fails if a socket file was left */
}

static void answers_and_errors(void **state)
{
	struct control *c = start();

	(void)state;
	expect("echo\n", "ok\ncount: 0\n");
	expect("echo a  b\tc\r\n", "ok\ncount: 3\nword:  a\nword:  b\nword:  c\n");
	expect("echo --json x\n", "ok\n{\"schema\":\"sixpath/1\",\"command\":\"echo\",\"count\":1,"
				  "\"word\":\"x\"}\n");
	expect("fail now --json then\n", "error fail takes no arguments, such as \"now\"\n");
	expect("help echo\n", "error help takes no arguments, such as \"echo\"\n");
	expect("fail --json\n", "error no bread\\x0atoday\n");
	expect("fail\n", "error no bread\\x0atoday\n");
	expect("nonsense\n", "error unknown command \"nonsense\"; known are echo, fail, hold, big, "
			     "help\n");
	expect("\n", "error unknown command \"\"; known are echo, fail, hold, big, help\n");
	expect("--json\n", "error unknown command \"--json\"; known are echo, fail, hold, big, "
			   "help\n");
	expect("\033[31m\n", "error unknown command \"\\x1b[31m\"; known are echo, fail, hold, "
			     "big, help\n");
	expect("help\n", "ok\ncommands (5)\nCOMMAND  PURPOSE\necho     say it again\n"
			 "fail     refuse\nhold     answer later\nbig      a long answer\n"
			 "help     list the commands\n");
	control_free(c);
}

static void line_too_long(void **state)
{
	struct control *c = start();
	char line[COMMAND_MAX + 1];

	(void)state;
	memset(line, 'x', sizeof(line));
	line[COMMAND_MAX] = '\0';
	expect(line, "error command is too long: at most 1023 characters\n");
	memset(line, 'x', sizeof(line));
	memcpy(line, "echo ", 5);
	line[COMMAND_MAX - 1] = '\n';
	line[COMMAND_MAX] = '\0';
	int fd = dial_control();
	say(fd, line);
	char *got = hear(fd);
	assert_int_equal(strncmp(got, "ok\ncount: 1\n", 12), 0);
	free(got);
	control_free(c);
}

static void many_words(void **state)
{
	struct control *c = start();
	char line[200] = "echo";

	(void)state;
	for (int i = 0; i < 40; i++)
		strcat(line, " x");
	strcat(line, "\n");
	int fd = dial_control();
	say(fd, line);
	char *got = hear(fd);
	assert_non_null(strstr(got, "count: 16\n"));
	free(got);
	control_free(c);
}

static void in_pieces(void **state)
{
	struct control *c = start();
	int fd = dial_control();
	const char *line = "echo one\n";
	char *got;

	(void)state;
	for (; *line; line++) {
		char octet[2] = {*line, '\0'};
		say(fd, octet);
		turn();
	}
	shutdown(fd, SHUT_WR); /* half-closing clients get their answer as well */
	got = hear(fd);
	assert_string_equal(got, "ok\ncount: 1\nword:  one\n");
	free(got);
	control_free(c);
}

static void later(void **state)
{
	struct control *c = start();
	int fd = dial_control();
	char *got;

	(void)state;
	say(fd, "hold\n");
	while (!held)
		turn();
	expect("echo\n", "ok\ncount: 0\n"); /* meanwhile others are served */
	report_str(control_report(held), "at", "last");
	control_reply(held);
	held = NULL;
	got = hear(fd);
	assert_string_equal(got, "ok\nat: last\n");
	free(got);
	control_free(c);
}

/* The client is dropped at the limit; the command answers afterwards, to nobody. */
static void never_answered(void **state)
{
	struct control *c = start();
	int fd = dial_control();
	char *got;

	(void)state;
	say(fd, "hold\n");
	got = hear(fd);
	assert_int_equal(strncmp(got, "error no answer within ", 23), 0);
	free(got);
	assert_int_equal(c->clients.count, 0);
	assert_non_null(held);
	control_reply(held);
	held = NULL;
	control_free(c);
}

static void vanished(void **state)
{
	struct control *c = start();
	int fd = dial_control();
	double end = now_s() + DEADLINE_S;

	(void)state;
	say(fd, "hold\n");
	while (!held)
		turn();
	close(fd);
	control_reply(held);
	held = NULL;
	while (c->clients.count && now_s() < end)
		turn();
	assert_int_equal(c->clients.count, 0);
	control_free(c);
}

/* The socket is closed while a command is under way; its end comes afterwards. */
static void freed_meanwhile(void **state)
{
	struct control *c = start();
	int fd = dial_control();

	(void)state;
	say(fd, "hold\n");
	while (!held)
		turn();
	control_free(c);
	control_fail(held, "too late");
	held = NULL;
	free(hear(fd));
}

static void silent_client(void **state)
{
	struct control *c = start();
	int fd = dial_control();
	double begun = now_s();
	char *got;

	(void)state;
	say(fd, "echo");
	got = hear(fd);
	assert_string_equal(got, "");
	assert_true(now_s() - begun > PHASE_LIMIT_S - 0.1);
	free(got);
	control_free(c);
}

static void big_answer(void **state)
{
	struct control *c = start();
	int fd = dial_control();
	char *got;

	(void)state;
	say(fd, "big --json\n");
	got = hear(fd);
	assert_int_equal(strncmp(got, "ok\n{", 4), 0);
	assert_non_null(strstr(got, "{\"n\":99999,\"text\":\"0123456789\"}]}\n"));
	free(got);
	control_free(c);
}

/* Who does not take the answer is dropped, and others are served all the while. */
static void slow_reader(void **state)
{
	struct control *c = start();
	int fd = dial_control();
	double end = now_s() + DEADLINE_S;

	(void)state;
	say(fd, "big\n");
	while (!c->clients.count)
		turn();
	expect("echo\n", "ok\ncount: 0\n");
	while (c->clients.count && now_s() < end)
		turn();
	assert_int_equal(c->clients.count, 0);
	close(fd);
	control_free(c);
}

static void crowd(void **state)
{
	struct control *c = start();
	int fd[CLIENTS_MAX + 5];
	double end = now_s() + DEADLINE_S;

	(void)state;
	for (int i = 0; i < CLIENTS_MAX + 5; i++) {
		fd[i] = dial_control();
		turn();
	}
	while (c->clients.count < CLIENTS_MAX && now_s() < end)
		turn();
	for (int i = 0; i < 10; i++)
		turn();
	assert_int_equal(c->clients.count, CLIENTS_MAX);
	/* the last is served when the silent ones have been dropped */
	say(fd[CLIENTS_MAX + 4], "echo\n");
	char *got = hear(fd[CLIENTS_MAX + 4]);
	assert_string_equal(got, "ok\ncount: 0\n");
	free(got);
	for (int i = 0; i < CLIENTS_MAX + 4; i++)
		close(fd[i]);
	control_free(c);
}

static void out_of_descriptors(void **state)
{
	struct control *c = start();
	int fd = dial_control();
	struct rlimit old, none;
	char *got;

	(void)state;
	say(fd, "echo\n");
	getrlimit(RLIMIT_NOFILE, &old);
	none = old;
	none.rlim_cur = (rlim_t)fd + 1;
	int filler = dup(fd); /* the lowest free one may be below fd */
	while (filler >= 0 && filler < fd)
		filler = dup(fd);
	if (filler >= 0)
		close(filler);
	setrlimit(RLIMIT_NOFILE, &none);
	for (int i = 0; i < 5; i++)
		turn();
	assert_int_equal(c->clients.count, 0);
	assert_true(ev_is_active(&c->retry)); /* no spinning */
	assert_false(ev_is_active(&c->io));
	setrlimit(RLIMIT_NOFILE, &old);
	got = hear(fd);
	assert_string_equal(got, "ok\ncount: 0\n");
	free(got);
	control_free(c);
}

static void the_file(void **state)
{
	struct control *c;
	struct stat st;
	mode_t mask = umask(0077);

	(void)state;
	c = start();
	umask(mask);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	/* one that answers is left alone */
	assert_null(control_new(&loop, path, commands, NULL));
	assert_int_equal(errno, EADDRINUSE);
	control_free(c);
	assert_int_equal(stat(path, &st), -1);
	/* a stale one is replaced */
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	close(fd);
	c = start();
	expect("echo\n", "ok\ncount: 0\n");
	/* a successor's is not removed */
	unlink(path);
	struct control *next = start();
	control_free(c);
	assert_int_equal(stat(path, &st), 0);
	control_free(next);
	/* what is no socket is left alone */
	FILE *f = fopen(path, "w");
	fclose(f);
	assert_null(control_new(&loop, path, commands, NULL));
	assert_int_equal(errno, ENOTSOCK);
	assert_int_equal(unlink(path), 0);
	assert_null(control_new(&loop, "/nowhere/at/all", commands, NULL));
	assert_int_equal(errno, ENOENT);
	char longpath[200];
	memset(longpath, 'x', sizeof(longpath));
	longpath[0] = '/';
	longpath[199] = '\0';
	assert_null(control_new(&loop, longpath, commands, NULL));
	assert_int_equal(errno, ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_and_errors),
		cmocka_unit_test(line_too_long),
		cmocka_unit_test(many_words),
		cmocka_unit_test(in_pieces),
		cmocka_unit_test(later),
		cmocka_unit_test(never_answered),
		cmocka_unit_test(vanished),
		cmocka_unit_test(freed_meanwhile),
		cmocka_unit_test(silent_client),
		cmocka_unit_test(big_answer),
		cmocka_unit_test(slow_reader),
		cmocka_unit_test(crowd),
		cmocka_unit_test(out_of_descriptors),
		cmocka_unit_test(the_file),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
