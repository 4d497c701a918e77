/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Walks over the workers that answer a control command. Worth running with
 * -fsanitize=address (what is left behind) and =thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <sys/un.h>

#include "core/list.h"
#include "core/listener.h"
#include "core/log.h"
#include "core/status.h"
#include "rig.h"

#define WORKERS 3

static struct worker main_worker, w[WORKERS], *list[WORKERS];
static struct control *control;
static char path[] = "/tmp/sixpath-status-XXXXXX";
static unsigned done_calls;

struct sum {
	struct survey survey;
	unsigned long total;
};

static void add(struct worker *on, struct survey *s)
{
	container_of(s, struct sum, survey)->total += 1ul << on->index;
}

static void sum_done(struct survey *s)
{
	assert_int_equal(container_of(s, struct sum, survey)->total, (1ul << WORKERS) - 1);
	done_calls++;
	if (s->rq)
		report_u64(control_report(s->rq), "total",
			   container_of(s, struct sum, survey)->total);
}

static struct survey *new_sum(void)
{
	struct sum *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->survey.visit = add;
	s->survey.done = sum_done;
	return &s->survey;
}

static void run_sum(struct control_request *rq, void *ctx)
{
	(void)ctx;
	survey_start(new_sum(), rq, &main_worker, list, WORKERS);
}

static void run_no_memory(struct control_request *rq, void *ctx)
{
	(void)ctx;
	survey_start(NULL, rq, &main_worker, list, WORKERS);
}

static void add_row(struct worker *on, struct report *r)
{
	report_row(r);
	report_u64(r, "index", on->index);
}

static void run_rows(struct control_request *rq, void *ctx)
{
	(void)ctx;
	survey_rows(rq, "things", add_row, &main_worker, list, WORKERS);
}

static void run_fields(struct control_request *rq, void *ctx)
{
	struct report *r = control_report(rq);
	uint64_t ended[END__COUNT] = {0};
	struct listener l[2] = {{.granted.mptcp = true}, {.granted.fastopen = true}};
	struct listeners ls = {.v = l, .n = 2};

	(void)ctx;
	assert_true(addr_parse(&l[0].addr, "192.0.2.1:80", -1));
	assert_true(addr_parse(&l[1].addr, "[2001:db8::1]:81", -1));
	status_head(r, "name", 5.);
	ended[END_IDLE] = 7;
	status_ended(r, ended);
	status_listeners(r, &ls, control_argc(rq) > 0);
	status_descriptors(r, 1234);
	control_reply(rq);
}

static const struct control_command commands[] = {
	{"sum", "", run_sum, false},
	{"nomem", "", run_no_memory, false},
	{"rows", "", run_rows, false},
	{"fields", "", run_fields, true},
	{0},
};

static int setup(void **state)
{
	(void)state;
	assert_int_equal(worker_init(&main_worker, UINT_MAX, NULL), 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		list[i] = &w[i];
		assert_int_equal(worker_init(&w[i], i, NULL), 0);
	}
	assert_int_equal(workers_start(list, WORKERS), 0);
	control = control_new(&main_worker, path, commands, NULL);
	assert_non_null(control);
	done_calls = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	workers_stop(&main_worker, list, WORKERS);
	control_free(control);
	for (unsigned i = 0; i < WORKERS; i++)
		worker_fini(&w[i]);
	worker_fini(&main_worker);
	return 0;
}

static int say(const char *line)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	memcpy(sun.sun_path, path, sizeof(path));
	assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(send(fd, line, strlen(line), MSG_NOSIGNAL), strlen(line));
	return fd;
}

static char answer[4096];
static size_t answer_len;

static bool at_end(void *arg)
{
	int fd = *(int *)arg;
	ssize_t n;

	while ((n = recv(fd, answer + answer_len, sizeof(answer) - 1 - answer_len, 0)) > 0)
		answer_len += (size_t)n;
	answer[answer_len] = '\0';
	return n == 0;
}

static const char *ask(const char *line)
{
	int fd = say(line);

	answer_len = 0;
	assert_true(rig_until(&main_worker, at_end, &fd));
	close(fd);
	return answer;
}

static void has(const char *part)
{
	if (!strstr(answer, part))
		fail_msg("no \"%s\" in: %s", part, answer);
}

static void answers(void **state)
{
	(void)state;
	assert_int_equal(strncmp(ask("sum --json\n"), "ok\n", 3), 0);
	has("\"total\":7");
	assert_int_equal(done_calls, 1);
	assert_string_equal(ask("nomem\n"), "error out of memory\n");
	ask("rows --json\n");
	has("\"things\":[{\"index\":0},{\"index\":1},{\"index\":2}]");
}

static bool all_done(void *arg)
{
	return done_calls == *(unsigned *)arg;
}

static void for_the_log(void **state)
{
	unsigned one = 1;

	(void)state;
	survey_start(NULL, NULL, &main_worker, list, WORKERS);
	survey_start(new_sum(), NULL, &main_worker, list, WORKERS);
	assert_true(rig_until(&main_worker, all_done, &one));
}

/* The daemon ends while walks are under way, some of them for a client: nothing is left. */
static void while_stopping(void **state)
{
	int fds[4];

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		fds[i] = say("sum\n");
	for (unsigned i = 0; i < 6; i++)
		ev_run(main_worker.loop, EVRUN_NOWAIT);
	survey_start(new_sum(), NULL, &main_worker, list, WORKERS);
	workers_stop(&main_worker, list, WORKERS);
	assert_int_equal(done_calls, 5);
	for (unsigned i = 0; i < 4; i++)
		close(fds[i]);
}

static void fields(void **state)
{
	char want[64];

	(void)state;
	ask("fields --json\n");
	has("\"daemon\":\"name\"");
	has("\"version\":");
	has("\"uptime\":5");
	has("\"ended\":{\"idle\":7}"); /* and no others */
	has("\"listeners\":[{\"address\":\"192.0.2.1:80\"},{\"address\":\"[2001:db8::1]:81\"}]");
	has("\"descriptor_limit\":1234");
	ask("fields --json all\n");
	has("{\"address\":\"192.0.2.1:80\",\"mptcp\":true,\"tfo\":false}");
	has("{\"address\":\"[2001:db8::1]:81\",\"mptcp\":false,\"tfo\":true}");
	/* while it answered there was this client's connection as well, at both ends */
	snprintf(want, sizeof(want), "\"descriptors\":%u,", rig_open_fds() + 2);
	has(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(answers, setup, teardown),
		cmocka_unit_test_setup_teardown(for_the_log, setup, teardown),
		cmocka_unit_test_setup_teardown(while_stopping, setup, teardown),
		cmocka_unit_test_setup_teardown(fields, setup, teardown),
	};
	int fd = mkstemp(path), rc;

	if (fd < 0)
		return 1;
	close(fd);
	unlink(path);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	return rc;
}
