/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sockets from the environment, a successor that gets ready or does not, and draining. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/wait.h>

#include "core/drain.h"
#include "core/handover.h"
#include "core/listener.h"
#include "rig.h"

static char self[4096];

/* ---- sockets we were given: the test executes itself with them ---- */

#define SOCKETS 5

/* What main does when it was executed: the sockets 0 to 2 are bound to one address, 3 to another,
 * 4 is no listener. The exit code says what was wrong. */
static int as_heir(void)
{
	struct inherited in;
	struct addr one, other;
	int fd[SOCKETS], seen = 0;

	if (addr_of_socket(3, &one) < 0 || addr_of_socket(6, &other) < 0)
		return 10;
	if (inherited_read(&in) < 0 || in.n != 4 || in.channel != 8 || in.extra != 9)
		return 11;
	if (getenv("LISTEN_FDS") || getenv("LISTEN_PID") || getenv("SIXPATH_HANDOVER") ||
	    getenv("SIXPATH_EXTRA"))
		return 12;
	if (fcntl(3, F_GETFD) != FD_CLOEXEC || !(fcntl(3, F_GETFL) & O_NONBLOCK))
		return 13;
	/* two workers share three sockets: none is left out, none is given twice */
	seen += (int)inherited_share(&in, &one, 0, 2, fd, SOCKETS);
	if (seen != 2)
		return 14;
	seen += (int)inherited_share(&in, &one, 1, 2, fd, SOCKETS);
	if (seen != 3)
		return 15;
	/* four workers have one socket for them all */
	for (unsigned i = 0; i < 4; i++)
		if (inherited_share(&in, &other, i, 4, fd, SOCKETS) != 1 || fd[0] < 10)
			return 16;
	addr_set_port(&one, 9);
	if (inherited_has(&in, &one) || inherited_share(&in, &one, 0, 1, fd, SOCKETS) != 0)
		return 17;
	inherited_free(&in, false);
	if (fcntl(3, F_GETFD) >= 0 || fcntl(8, F_GETFD) < 0 || fcntl(9, F_GETFD) < 0)
		return 18;
	/* tells the predecessor, waits for it */
	if (send(8, "R", 1, 0) != 1 || !rig_wait(8, POLLIN) || recv(8, fd, 1, 0) != 1 ||
	    *(char *)fd != 'G')
		return 19;
	return 0;
}

static int listen_again(const struct addr *at)
{
	struct sock_wishes wishes = SOCK_WISHES_NONE;

	wishes.reuseport = true;
	return sock_listen(at, &wishes, NULL);
}

static struct {
	bool called, there;
} said;

static void heard(void *ctx, bool there)
{
	(void)ctx;
	said.called = true;
	said.there = there;
}

static void open_sockets(int fd[SOCKETS])
{
	struct sock_wishes wishes = SOCK_WISHES_NONE;
	struct addr at, other;

	wishes.reuseport = true;
	fd[0] = rig_listen("127.0.0.1", &wishes, &at);
	fd[1] = listen_again(&at);
	fd[2] = listen_again(&at);
	fd[3] = rig_listen("127.0.0.1", &wishes, &other);
	fd[4] = sock_open(AF_INET, &wishes, NULL);
	for (int i = 0; i < SOCKETS; i++)
		assert_true(fd[i] >= 0);
}

static void test_successor(void **state)
{
	char *argv[] = {self, (char *)(uintptr_t) "heir", NULL};
	struct handover h = {0};
	struct worker w;
	int fd[SOCKETS], status;
	pid_t child;
	unsigned before;

	(void)state;
	said.called = false;
	assert_int_equal(worker_init(&w, UINT32_MAX, NULL), 0);
	open_sockets(fd);
	before = rig_open_fds();
	assert_int_equal(handover_begin(&h, &w, self, argv, fd, SOCKETS, fd[4], heard, NULL), 0);
	assert_int_equal(handover_begin(&h, &w, self, argv, fd, SOCKETS, fd[4], heard, NULL),
			 -EBUSY);
	child = h.child;
	assert_true(rig_until(&w, rig_flag, &said.called));
	if (!said.there)
		fail_msg("the successor did not get ready");
	handover_release(&h);
	assert_false(handover_runs(&h));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(rig_open_fds(), before);
	for (int i = 0; i < SOCKETS; i++)
		close(fd[i]);
	worker_fini(&w);
}

/* A program that is not there, one that ends at once, one that is called off: nothing remains. */
static void test_no_successor(void **state)
{
	char *argv[] = {self, (char *)(uintptr_t) "fails", NULL};
	char *sleeps[] = {self, (char *)(uintptr_t) "sleeps", NULL};
	const char *programs[] = {"/nonexistent/program", self};
	struct handover h = {0};
	struct worker w;
	unsigned before = rig_open_fds();

	(void)state;
	assert_int_equal(worker_init(&w, UINT32_MAX, NULL), 0);
	for (int i = 0; i < 2; i++) {
		said.called = false;
		assert_int_equal(
			handover_begin(&h, &w, programs[i], argv, NULL, 0, -1, heard, NULL), 0);
		assert_true(rig_until(&w, rig_flag, &said.called));
		assert_false(said.there);
		assert_false(handover_runs(&h));
	}
	said.called = false;
	assert_int_equal(handover_begin(&h, &w, self, sleeps, NULL, 0, -1, heard, NULL), 0);
	handover_end(&h);
	handover_end(&h);
	assert_false(said.called);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
	worker_fini(&w);
	assert_int_equal(rig_open_fds(), before);
}

/* The predecessor lets go, or dies: either way the successor goes on. */
static void test_join(void **state)
{
	struct handover h = {0};
	struct worker w;
	int p[2];
	char c;

	(void)state;
	assert_int_equal(worker_init(&w, UINT32_MAX, NULL), 0);
	for (int dies = 0; dies < 2; dies++) {
		said.called = false;
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p), 0);
		handover_join(&h, &w, p[0], heard, NULL);
		assert_int_equal(recv(p[1], &c, 1, 0), 1);
		assert_int_equal(c, 'R');
		if (dies)
			close(p[1]);
		else
			assert_int_equal(send(p[1], "G", 1, 0), 1);
		assert_true(rig_until(&w, rig_flag, &said.called));
		assert_int_equal(said.there, !dies);
		assert_false(handover_runs(&h));
		if (!dies)
			close(p[1]);
	}
	worker_fini(&w);
}

static void test_not_for_us(void **state)
{
	struct inherited in;

	(void)state;
	setenv("LISTEN_PID", "1", 1);
	setenv("LISTEN_FDS", "3", 1);
	assert_int_equal(inherited_read(&in), 0);
	assert_int_equal(in.n, 0);
	assert_int_equal(in.channel, -1);
	assert_null(getenv("LISTEN_FDS"));
	setenv("LISTEN_FDS", "-7x", 1);
	assert_int_equal(inherited_read(&in), 0);
	assert_int_equal(in.n, 0);
	inherited_free(&in, false);
}

/* ---- draining ---- */

struct crew {
	struct worker main_worker, w;
	struct worker *list[1];
	struct drain d;
	size_t live;
	bool cut, done;
};

static struct crew crew;

static size_t live(struct worker *w)
{
	(void)w;
	return crew.live;
}

static void end_all(struct worker *w)
{
	(void)w;
	crew.cut = true;
	crew.live = 0;
}

static void done(void *ctx)
{
	(void)ctx;
	assert_false(crew.done); /* once */
	crew.done = true;
}

static void crew_start(size_t n)
{
	memset(&crew, 0, sizeof(crew));
	assert_int_equal(worker_init(&crew.main_worker, UINT32_MAX, NULL), 0);
	assert_int_equal(worker_init(&crew.w, 0, NULL), 0);
	assert_int_equal(worker_start(&crew.w), 0);
	crew.list[0] = &crew.w;
	crew.live = n;
	crew.d = (struct drain){.main_worker = &crew.main_worker,
				.workers = crew.list,
				.n = 1,
				.live = live,
				.end_all = end_all,
				.done = done};
}

static void crew_end(void)
{
	workers_stop(&crew.main_worker, crew.list, 1);
	drain_end(&crew.d);
	worker_fini(&crew.w);
	worker_fini(&crew.main_worker);
}

static bool never(void *arg)
{
	return *(bool *)arg;
}

static void test_drain(void **state)
{
	double start;

	(void)state;
	/* none there */
	crew_start(0);
	drain_start(&crew.d, 60.);
	assert_true(rig_until_s(&crew.main_worker, rig_flag, &crew.done, 5.));
	assert_false(crew.cut);
	crew_end();
	/* the deadline, not before */
	crew_start(3);
	start = rig_now();
	drain_start(&crew.d, 0.4);
	assert_true(rig_until_s(&crew.main_worker, rig_flag, &crew.done, 5.));
	assert_true(crew.cut);
	assert_true(rig_now() - start >= 0.35);
	crew_end();
	/* cut short */
	crew_start(3);
	drain_start(&crew.d, 60.);
	assert_false(rig_until_s(&crew.main_worker, never, &crew.done, 0.3));
	drain_cut(&crew.d);
	drain_cut(&crew.d);
	assert_true(rig_until_s(&crew.main_worker, rig_flag, &crew.done, 5.));
	crew_end();
	/* at once */
	crew_start(3);
	drain_start(&crew.d, 0.);
	assert_true(rig_until_s(&crew.main_worker, rig_flag, &crew.done, 5.));
	assert_true(crew.cut);
	crew_end();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_successor), cmocka_unit_test(test_no_successor),
		cmocka_unit_test(test_join),      cmocka_unit_test(test_not_for_us),
		cmocka_unit_test(test_drain),
	};

	if (argc > 1 && strcmp(argv[1], "heir") == 0)
		return as_heir();
	if (argc > 1 && strcmp(argv[1], "sleeps") == 0) {
		sleep(60);
		return 0;
	}
	if (argc > 1)
		return 3;
	if (!realpath("/proc/self/exe", self))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
