/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/resource.h>
#include <sys/syscall.h>

#include "core/listener.h"
#include "rig.h"

static struct worker w;
static struct {
	unsigned n;
	int fd;
	struct addr peer;
} came;

/* What accept4 answers before it asks the kernel: fail_n times this error. */
static int fail_errno;
static unsigned fail_n, asked;

int accept4(int fd, struct sockaddr *restrict sa, socklen_t *restrict len, int flags)
{
	asked++;
	if (fail_n > 0) {
		fail_n--;
		errno = fail_errno;
		return -1;
	}
	return (int)syscall(SYS_accept4, fd, sa, len, flags);
}

static void accepted(struct worker *on, int fd, const struct addr *peer)
{
	assert_ptr_equal(on, &w);
	came.n++;
	came.fd = fd;
	came.peer = *peer;
}

static bool has_come(void *arg)
{
	return came.n >= *(unsigned *)arg;
}

static struct addr any_port(const char *ip)
{
	struct addr a;

	assert_true(addr_parse_ip(&a, ip));
	return a;
}

static void open_one(struct listeners *ls)
{
	const struct sock_wishes wishes = SOCK_WISHES_NONE;
	struct addr a = any_port("127.0.0.1");
	struct addr_list list = {.v = &a, .n = 1};

	memset(&came, 0, sizeof(came));
	asked = fail_n = 0;
	assert_int_equal(listeners_open(ls, &w, &list, &wishes, accepted), 0);
	assert_int_equal(ls->n, 1);
}

/* A client that connects to the listener. */
static int client_of(const struct listener *l)
{
	const struct sock_wishes wishes = SOCK_WISHES_NONE;
	struct addr at;
	int fd = sock_open(AF_INET, &wishes, NULL);

	assert_true(fd >= 0);
	assert_int_equal(addr_of_socket(l->fd, &at), 0);
	assert_true(connect(fd, &at.u.sa, at.len) == 0 || errno == EINPROGRESS);
	assert_true(rig_wait(fd, POLLOUT));
	return fd;
}

static bool elapsed(void *arg)
{
	(void)arg;
	return false;
}

static void accepts(void **state)
{
	struct listeners ls;
	struct addr self;
	unsigned one = 1;
	int fd;

	(void)state;
	open_one(&ls);
	fd = client_of(&ls.v[0]);
	rig_until_s(&w, elapsed, NULL, 0.05);
	assert_int_equal(came.n, 0); /* not before the start */
	listeners_start(&ls);
	listeners_start(&ls); /* harmless */
	assert_true(rig_until(&w, has_come, &one));
	assert_int_equal(addr_of_socket(fd, &self), 0);
	assert_true(addr_equal(&came.peer, &self));
	assert_true(fcntl(came.fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(came.fd, F_GETFD) & FD_CLOEXEC);
	close(came.fd);
	close(fd);
	listeners_close(&ls);
	listeners_close(&ls);
	listeners_start(&ls); /* closed ones stay closed */
	assert_false(ev_is_active(&ls.v[0].io));
	listeners_free(&ls);
	listeners_free(&ls);
}

static void count_and_close(struct worker *on, int fd, const struct addr *peer)
{
	(void)on;
	(void)peer;
	came.n++;
	close(fd);
}

/* Those who wait are accepted before the socket is closed; also if accepting was never begun. */
static void finishes(void **state)
{
	struct listeners ls;
	int fd[5];

	(void)state;
	open_one(&ls);
	ls.v[0].accepted = count_and_close;
	for (int i = 0; i < 5; i++)
		fd[i] = client_of(&ls.v[0]);
	listeners_finish(&ls);
	assert_int_equal(came.n, 5);
	asked = 0;
	listeners_finish(&ls); /* nobody waits */
	assert_int_equal(came.n, 5);
	assert_int_equal(asked, 1);
	fail_errno = EMFILE;
	fail_n = 1000;
	listeners_finish(&ls); /* does not insist */
	assert_int_equal(fail_n, 999);
	listeners_close(&ls);
	asked = 0;
	listeners_finish(&ls);
	assert_int_equal(asked, 0);
	for (int i = 0; i < 5; i++) {
		char c;

		assert_true(rig_wait(fd[i], POLLIN));
		assert_int_equal(recv(fd[i], &c, 1, 0), 0); /* in order, no reset */
		close(fd[i]);
	}
	listeners_free(&ls);
}

/* All addresses, or none of the later ones: the count tells which could not be had. */
static void opens_in_order(void **state)
{
	const struct sock_wishes wishes = SOCK_WISHES_NONE;
	struct addr a[3] = {any_port("127.0.0.1"), any_port("192.0.2.1"), any_port("127.0.0.2")};
	struct addr_list list = {.v = a, .n = 3};
	struct listeners ls;
	unsigned fds = rig_open_fds();

	(void)state;
	assert_int_equal(listeners_open(&ls, &w, &list, &wishes, accepted), -EADDRNOTAVAIL);
	assert_int_equal(ls.n, 1);
	listeners_free(&ls);
	assert_int_equal(rig_open_fds(), fds);
	a[1] = any_port("127.0.0.3");
	assert_int_equal(listeners_open(&ls, &w, &list, &wishes, accepted), 0);
	assert_int_equal(ls.n, 3);
	assert_true(addr_equal(&ls.v[1].addr, &a[1]));
	listeners_free(&ls);
	assert_int_equal(rig_open_fds(), fds);
}

/* No descriptors: it rests instead of spinning, and then takes who has waited. */
static void rests(void **state)
{
	struct listeners ls;
	struct rlimit old, none;
	unsigned one = 1;
	double before;
	int fd;

	(void)state;
	open_one(&ls);
	fd = client_of(&ls.v[0]);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = 0;
	listeners_start(&ls);
	before = rig_now();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	rig_until_s(&w, elapsed, NULL, 0.3);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(asked, 1);
	assert_int_equal(came.n, 0);
	assert_true(rig_until(&w, has_come, &one));
	assert_true(rig_now() - before >= 0.9);
	close(came.fd);
	close(fd);
	listeners_free(&ls);
}

/* Closed, as at the end of the daemon, while it rests: no timer is left behind. */
static void closed_at_rest(void **state)
{
	struct listeners ls;
	int fd;

	(void)state;
	open_one(&ls);
	fd = client_of(&ls.v[0]);
	fail_errno = ENFILE;
	fail_n = 1;
	listeners_start(&ls);
	rig_until_s(&w, elapsed, NULL, 0.05);
	assert_true(ev_is_active(&ls.v[0].rest));
	listeners_free(&ls); /* what it points to is gone with it */
	rig_until_s(&w, elapsed, NULL, 1.1);
	assert_int_equal(came.n, 0);
	close(fd);
}

/* Errors of a connection that is gone already do not hold up the others; those that never
 * should be do not make it spin. */
static void errors(void **state)
{
	static const struct {
		int err;
		bool rests;
	} rows[] = {
		{ECONNABORTED, false}, {EINTR, false}, {EPROTO, false}, {EHOSTUNREACH, false},
		{ENETDOWN, false},     {EPERM, false}, {EMFILE, true},  {ENFILE, true},
		{ENOBUFS, true},       {ENOMEM, true}, {EINVAL, true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct listeners ls;
		int fd;

		open_one(&ls);
		fd = client_of(&ls.v[0]);
		fail_errno = rows[i].err;
		fail_n = 3;
		listeners_start(&ls);
		while (asked == 0)
			ev_run(w.loop, EVRUN_ONCE);
		assert_int_equal(came.n, !rows[i].rests); /* in the same turn, or not */
		assert_true(rows[i].rests == (ev_is_active(&ls.v[0].rest) != 0));
		if (came.n)
			close(came.fd);
		close(fd);
		listeners_free(&ls);
	}
}

/* One by one: nothing is asked in vain. Many at a time: soon taken by batches, all of them. */
static void batches(void **state)
{
	struct listeners ls;
	unsigned want, turns;
	int fd[100];

	(void)state;
	open_one(&ls);
	ls.v[0].accepted = count_and_close;
	listeners_start(&ls);
	for (int i = 0; i < 5; i++) {
		fd[i] = client_of(&ls.v[0]);
		want = came.n + 1;
		assert_true(rig_until(&w, has_come, &want));
		rig_until_s(&w, elapsed, NULL, 0.01);
		close(fd[i]);
	}
	assert_int_equal(asked, 5);
	for (int i = 0; i < 100; i++)
		fd[i] = client_of(&ls.v[0]);
	came.n = 0;
	for (turns = 0; came.n < 100 && turns < 200; turns++)
		ev_run(w.loop, EVRUN_ONCE);
	assert_int_equal(came.n, 100);
	assert_in_range(turns, 2, 10); /* 1, 2, 4, 8, ... */
	for (int i = 0; i < 100; i++)
		close(fd[i]);
	listeners_free(&ls);
}

/* A flood of failures leaves room for the rest of the loop. */
static void fair(void **state)
{
	struct listeners ls;
	int fd;

	(void)state;
	open_one(&ls);
	fd = client_of(&ls.v[0]);
	fail_errno = ECONNABORTED;
	fail_n = UINT32_MAX;
	listeners_start(&ls);
	ev_run(w.loop, EVRUN_ONCE);
	assert_in_range(asked, 1, 1000);
	fail_n = 0;
	close(fd);
	listeners_free(&ls);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts),        cmocka_unit_test(finishes),
		cmocka_unit_test(opens_in_order), cmocka_unit_test(rests),
		cmocka_unit_test(closed_at_rest), cmocka_unit_test(errors),
		cmocka_unit_test(fair),           cmocka_unit_test(batches),
	};
	int rc;

	if (!rig_netns())
		return RIG_SKIP;
	if (worker_init(&w, 0, NULL) < 0)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	worker_fini(&w);
	return rc;
}
