/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/tcp.h>
#include <spawn.h>
#include <sys/wait.h>

#include "rig.h"

extern char **environ;

static int get_int(int fd, int level, int option)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, level, option, &value, &len) < 0 ? -errno : value;
}

static void need_mptcp(void)
{
	if (!rig_has_mptcp())
		skip();
}

/* Run a command of the system; false if there is none or it fails. */
static bool run(const char *const *argv)
{
	int status;
	pid_t pid;

	return posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ) ==
		       0 &&
	       waitpid(pid, &status, 0) == pid && status == 0;
}

static void plain_options(void **state)
{
	struct sock_wishes wishes = {.mark = 0x5061, .tos = 0x28, .ttl = 33, .keepalive = true};
	struct sock_granted granted;
	int fd;

	(void)state;
	fd = sock_open(AF_INET, &wishes, &granted);
	assert_true(fd >= 0);
	assert_false(granted.mptcp);
	assert_true(granted.tos && granted.ttl);
	assert_int_equal(granted.mark_error, 0);
	assert_int_equal(get_int(fd, IPPROTO_IP, IP_TOS), 0x28);
	assert_int_equal(get_int(fd, IPPROTO_IP, IP_TTL), 33);
	assert_int_equal(get_int(fd, SOL_SOCKET, SO_MARK), 0x5061);
	assert_int_equal(get_int(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_in_range(get_int(fd, IPPROTO_TCP, TCP_KEEPIDLE), 30, 600);
	assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);

	wishes = (struct sock_wishes)SOCK_WISHES_NONE;
	fd = sock_open(AF_INET, &wishes, &granted);
	assert_true(fd >= 0);
	assert_false(granted.tos || granted.ttl);
	assert_int_equal(get_int(fd, SOL_SOCKET, SO_MARK), 0);
	assert_int_equal(get_int(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
	close(fd);
	assert_int_equal(sock_open(AF_UNSPEC, &wishes, NULL), -EAFNOSUPPORT);
}

static void plain_options_v6(void **state)
{
	struct sock_wishes wishes = {.tos = 0x28, .ttl = 33};
	struct sock_granted granted;
	int fd;

	(void)state;
	if (!rig_has_ipv6())
		skip();
	fd = sock_open(AF_INET6, &wishes, &granted);
	assert_true(fd >= 0);
	assert_true(granted.tos && granted.ttl);
	assert_int_equal(get_int(fd, IPPROTO_IPV6, IPV6_TCLASS), 0x28);
	assert_int_equal(get_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 33);
	close(fd);
}

/* What an MPTCP socket refuses is told, and is no error. */
static void mptcp_options(void **state)
{
	struct sock_wishes wishes = {
		.mptcp = true, .mark = 7, .tos = 0x28, .ttl = 33, .keepalive = true};
	struct sock_granted granted;
	int fd;

	(void)state;
	need_mptcp();
	fd = sock_open(AF_INET, &wishes, &granted);
	assert_true(fd >= 0);
	assert_true(granted.mptcp);
	assert_int_equal(get_int(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_MPTCP);
	assert_int_equal(granted.tos, get_int(fd, IPPROTO_IP, IP_TOS) == 0x28);
	assert_int_equal(granted.ttl, get_int(fd, IPPROTO_IP, IP_TTL) == 33);
	assert_int_equal(get_int(fd, SOL_SOCKET, SO_MARK), 7);
	assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(get_int(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
	close(fd);
	fd = sock_open(AF_INET6, &wishes, &granted);
	if (fd >= 0) {
		assert_false(granted.tos || granted.ttl); /* measured: refused by the kernel */
		close(fd);
	}
}

static void no_mptcp_in_kernel(void **state)
{
	struct sock_wishes wishes = SOCK_WISHES_NONE;
	struct sock_granted granted;
	int fd;

	(void)state;
	need_mptcp();
	wishes.mptcp = true;
	assert_true(rig_sysctl("net/mptcp/enabled", "0"));
	fd = sock_open(AF_INET, &wishes, &granted);
	assert_true(rig_sysctl("net/mptcp/enabled", "1"));
	assert_true(fd >= 0);
	assert_false(granted.mptcp);
	assert_int_equal(get_int(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
	close(fd);
}

/* SO_MARK needs a capability; a process without gets a socket nevertheless. */
static void mark_refused(void **state)
{
	struct sock_wishes wishes = {.mark = 7, .tos = -1, .ttl = -1};
	struct sock_granted granted;
	int status, fd;
	pid_t pid;

	(void)state;
	if (getuid() != 0)
		skip();
	pid = fork();
	if (pid == 0) {
		if (setuid(65534) < 0)
			_exit(RIG_SKIP); /* a user namespace with one user */
		fd = sock_open(AF_INET, &wishes, &granted);
		_exit(fd < 0 ? 1 : granted.mark_error != EPERM ? 2 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == RIG_SKIP)
		skip();
	assert_int_equal(status, 0);
}

static bool can_connect(const char *ip, const struct addr *like)
{
	struct addr a;
	int fd;
	bool ok;

	assert_true(addr_parse_ip(&a, ip));
	addr_set_port(&a, addr_port(like));
	fd = socket(addr_family(&a), SOCK_STREAM | SOCK_CLOEXEC, 0);
	ok = fd >= 0 && connect(fd, &a.u.sa, a.len) == 0;
	if (fd >= 0)
		close(fd);
	return ok;
}

static void listening(void **state)
{
	struct sock_wishes wishes = SOCK_WISHES_NONE;
	struct sock_granted granted;
	struct addr at, any;
	int fd, second;

	(void)state;
	wishes.mptcp = rig_has_mptcp();
	wishes.fastopen = 64;
	assert_true(addr_parse_ip(&any, "0.0.0.0"));
	fd = sock_listen(&any, &wishes, &granted);
	assert_true(fd >= 0);
	assert_true(granted.fastopen);
	assert_int_equal(get_int(fd, IPPROTO_TCP, TCP_FASTOPEN), 64);
	assert_int_equal(get_int(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(addr_of_socket(fd, &at), 0);
	assert_true(can_connect("127.0.0.1", &at));
	/* taken, unless both ask to share */
	assert_int_equal(sock_listen(&at, &wishes, NULL), -EADDRINUSE);
	close(fd);
	wishes.reuseport = true;
	fd = sock_listen(&at, &wishes, NULL);
	second = sock_listen(&at, &wishes, NULL);
	assert_true(fd >= 0 && second >= 0);
	close(fd);
	close(second);
	assert_true(addr_parse(&at, "192.0.2.1:80", -1));
	assert_int_equal(sock_listen(&at, &wishes, NULL), -EADDRNOTAVAIL);
}

static void dual_stack(void **state)
{
	struct sock_wishes wishes = SOCK_WISHES_NONE;
	struct addr at;
	int fd;

	(void)state;
	if (!rig_has_ipv6())
		skip();
	wishes.mptcp = rig_has_mptcp();
	fd = rig_listen("::", &wishes, &at);
	assert_true(fd >= 0);
	assert_true(can_connect("::1", &at));
	assert_true(can_connect("127.0.0.1", &at));
	close(fd);
	wishes.v6only = true;
	fd = rig_listen("::", &wishes, &at);
	assert_true(fd >= 0);
	assert_true(can_connect("::1", &at));
	assert_false(can_connect("127.0.0.1", &at));
	close(fd);
}

static void transparent(void **state)
{
	struct sock_wishes wishes = SOCK_WISHES_NONE;
	struct addr at;
	pid_t pid;
	int fd, status;

	(void)state;
	wishes.transparent = true;
	wishes.mptcp = rig_has_mptcp();
	fd = rig_listen("127.0.0.1", &wishes, &at);
	assert_true(fd >= 0);
	assert_int_equal(get_int(fd, IPPROTO_IP, IP_TRANSPARENT), 1);
	close(fd);
	if (rig_has_ipv6()) {
		fd = rig_listen("::", &wishes, &at);
		assert_true(fd >= 0);
		assert_int_equal(get_int(fd, IPPROTO_IP, IP_TRANSPARENT), 1);
		assert_int_equal(get_int(fd, IPPROTO_IPV6, 75 /* IPV6_TRANSPARENT */), 1);
		close(fd);
	}
	/* it is the one wish that must be granted */
	if (getuid() != 0)
		return;
	pid = fork();
	if (pid == 0) {
		if (setuid(65534) < 0)
			_exit(RIG_SKIP); /* a user namespace with one user */
		_exit(sock_listen(&at, &wishes, NULL) == -EPERM ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == RIG_SKIP)
		skip();
	assert_int_equal(status, 0);
}

static void info(void **state)
{
	struct sock_info i;
	int p[2], u[2];

	(void)state;
	assert_true(rig_pair(false, p));
	assert_int_equal(sock_info(p[0], &i), 0);
	assert_false(i.mptcp);
	assert_int_equal(i.subflows, 0);
	assert_int_equal(i.state, 1);
	assert_true(i.rtt_us > 0);
	assert_false(sock_mptcp_dead(p[0]));
	close(p[0]);
	close(p[1]);
	assert_int_equal(sock_info(p[0], &i), -EBADF);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, u), 0);
	assert_true(sock_info(u[0], &i) < 0);
	assert_false(sock_mptcp_dead(u[0]));
	close(u[0]);
	close(u[1]);
	need_mptcp();
	assert_true(rig_pair(true, p));
	for (int k = 0; k < 2; k++) {
		assert_int_equal(sock_info(p[k], &i), 0);
		assert_true(i.mptcp);
		assert_int_equal(i.subflows, 1);
		assert_false(sock_mptcp_dead(p[k]));
	}
	close(p[0]);
	close(p[1]);
}

/* The server side is plain TCP: the kernel falls back, and we say so. */
static void info_fallback(void **state)
{
	struct sock_wishes wishes = SOCK_WISHES_NONE;
	struct sock_info i;
	struct addr at;
	int listener, fd;

	(void)state;
	need_mptcp();
	listener = rig_listen("127.0.0.1", &wishes, &at);
	assert_true(listener >= 0);
	wishes.mptcp = true;
	fd = sock_open(AF_INET, &wishes, NULL);
	assert_true(fd >= 0);
	assert_true(connect(fd, &at.u.sa, at.len) == 0 || errno == EINPROGRESS);
	assert_true(rig_wait(fd, POLLOUT));
	assert_int_equal(sock_info(fd, &i), 0);
	assert_false(i.mptcp);
	assert_int_equal(i.subflows, 0);
	assert_int_equal(i.state, 1);
	close(fd);
	close(listener);
}

static void age_of_data(void **state)
{
	int p[2], pipes[2];

	(void)state;
	for (int mptcp = 0; mptcp <= rig_has_mptcp(); mptcp++) {
		assert_true(rig_pair(mptcp, p));
		usleep(120000);
		assert_true(sock_data_age(p[0]) >= 0.1);
		assert_int_equal(write(p[1], "x", 1), 1);
		assert_true(rig_wait(p[0], POLLIN));
		assert_true(sock_data_age(p[0]) < 0.1);
		assert_true(sock_data_age(p[1]) >= 0.1); /* an acknowledgement is none */
		close(p[0]);
		close(p[1]);
	}
	assert_int_equal(pipe(pipes), 0);
	assert_true(sock_data_age(pipes[0]) > 1e6);
	close(pipes[0]);
	close(pipes[1]);
}

/* MPTCP's part alone says the same as all together. */
static void info_of_mptcp(void **state)
{
	struct sock_info i;
	unsigned subflows = 9;
	int p[2];

	(void)state;
	assert_true(rig_pair(false, p));
	assert_false(sock_mptcp(p[0], &subflows));
	assert_int_equal(subflows, 0);
	assert_false(sock_in_handshake(p[0]));
	close(p[0]);
	close(p[1]);
	need_mptcp();
	assert_true(rig_pair(true, p));
	assert_true(sock_mptcp(p[1], &subflows));
	assert_int_equal(subflows, 1);
	assert_int_equal(sock_info_tcp(p[1], &i), 0);
	assert_int_equal(i.state, 1);
	assert_false(i.mptcp);
	close(p[0]);
	close(p[1]);
}

static void closed_by_the_peer(void **state)
{
	int p[2];

	(void)state;
	assert_true(rig_pair(false, p));
	assert_false(sock_peer_closed(p[0]));
	assert_int_equal(shutdown(p[1], SHUT_WR), 0);
	assert_true(rig_wait(p[0], POLLIN));
	assert_true(sock_peer_closed(p[0]));
	assert_false(sock_peer_closed(p[1])); /* that was us */
	close(p[0]);
	close(p[1]);
}

static void reset_is_seen(void **state)
{
	char c;

	(void)state;
	for (int mptcp = 0; mptcp <= rig_has_mptcp(); mptcp++) {
		int p[2], err = 0;
		assert_true(rig_pair(mptcp, p));
		sock_reset(p[0]);
		assert_int_equal(fcntl(p[0], F_GETFD), -1);
		assert_true(rig_wait(p[1], POLLIN));
		if (recv(p[1], &c, 1, 0) < 0)
			err = errno;
		assert_int_equal(err, ECONNRESET);
		close(p[1]);
	}
}

static void reset_errnos(void **state)
{
	static const int yes[] = {ECONNRESET, EPIPE, ENOTCONN, ETIMEDOUT, EHOSTUNREACH};
	static const int no[] = {0, EBADF, EINVAL, ENOMEM, EFAULT, EAGAIN};

	(void)state;
	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		assert_true(sock_errno_is_reset(yes[i]));
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		assert_false(sock_errno_is_reset(no[i]));
}

/* As the accepting side sees them. */
static bool two_remotes(void *fd)
{
	struct addr v[SOCK_SUBFLOWS_MAX];
	char text[2][ADDR_STRLEN];

	return sock_remotes(*(int *)fd, v) == 2 &&
	       strcmp(addr_ip_str(&v[0], text[0], sizeof(text[0])), "10.9.0.2") == 0 &&
	       strcmp(addr_ip_str(&v[1], text[1], sizeof(text[1])), "10.9.0.3") == 0;
}

static bool two_subflows(void *fd)
{
	struct sock_info i;

	return sock_info(*(int *)fd, &i) == 0 && i.subflows == 2;
}

static bool first_is_closed(void *fd)
{
	struct sock_info i;

	return sock_info(*(int *)fd, &i) == 0 && i.subflows == 1 && i.state == 7;
}

/* Two paths; the first goes away. tcp_info then says "closed", but the connection lives. */
static void first_subflow_gone(void **state)
{
	static const char *const setup[][9] = {
		{"ip", "address", "add", "10.9.0.1/24", "dev", "lo"},
		{"ip", "address", "add", "10.9.0.2/24", "dev", "lo"},
		{"ip", "address", "add", "10.9.0.3/24", "dev", "lo"},
		{"ip", "mptcp", "limits", "set", "subflow", "2"},
		{"ip", "mptcp", "endpoint", "add", "10.9.0.3", "dev", "lo", "subflow"},
	};
	static const char *const first_goes[] = {"ip", "mptcp", "endpoint", "delete",
						 "id", "0",     "10.9.0.2", NULL};
	struct sock_wishes wishes = SOCK_WISHES_NONE;
	struct sock_info i;
	struct worker w;
	struct addr at, from;
	int listener, fd, accepted;
	char buf[8];

	(void)state;
	need_mptcp();
	for (size_t k = 0; k < sizeof(setup) / sizeof(setup[0]); k++)
		if (!run(setup[k]))
			skip();
	assert_int_equal(worker_init(&w, 0, NULL), 0);
	wishes.mptcp = true;
	listener = rig_listen("10.9.0.1", &wishes, &at);
	fd = sock_open(AF_INET, &wishes, NULL);
	assert_true(listener >= 0 && fd >= 0);
	assert_true(addr_parse_ip(&from, "10.9.0.2"));
	assert_int_equal(bind(fd, &from.u.sa, from.len), 0);
	assert_true(connect(fd, &at.u.sa, at.len) == 0 || errno == EINPROGRESS);
	assert_true(rig_wait(listener, POLLIN));
	assert_true(rig_wait(fd, POLLOUT));
	accepted = accept(listener, NULL, NULL);
	/* the second subflow is opened when data has been acknowledged both ways */
	assert_int_equal(send(fd, "hello", 5, 0), 5);
	assert_int_equal(recv(accepted, buf, 5, MSG_WAITALL), 5);
	assert_int_equal(send(accepted, "x", 1, 0), 1);
	assert_true(rig_until(&w, two_subflows, &fd));
	assert_true(rig_until(&w, two_remotes, &accepted));
	assert_true(run(first_goes));
	assert_true(rig_until(&w, first_is_closed, &fd));
	assert_int_equal(sock_info(fd, &i), 0);
	assert_true(i.mptcp);
	assert_false(sock_mptcp_dead(fd));
	assert_int_equal(send(fd, "world", 5, 0), 5);
	assert_int_equal(recv(accepted, buf, 5, MSG_WAITALL), 5);
	close(fd);
	close(accepted);
	close(listener);
	worker_fini(&w);
}

/* Of plain TCP the peer, of no connection none. */
static void test_remotes(void **state)
{
	struct addr v[SOCK_SUBFLOWS_MAX], peer;
	int p[2], none = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	assert_true(none >= 0 && rig_pair(false, p));
	assert_int_equal(sock_remotes(p[1], v), 1);
	assert_int_equal(addr_of_socket(p[0], &peer), 0);
	assert_true(addr_equal(&v[0], &peer));
	assert_int_equal(sock_remotes(none, v), 0);
	close(none);
	close(p[0]);
	close(p[1]);
}

static void test_source(void **state)
{
	struct addr dst, local;
	char text[ADDR_STRLEN];

	(void)state;
	assert_true(addr_parse(&dst, "127.0.0.1:1080", -1));
	assert_int_equal(sock_source(&dst, 0, &local), 0);
	assert_string_equal(addr_str(&local, text, sizeof(text)), "127.0.0.1:0");
	dst.u.sa.sa_family = AF_UNIX;
	assert_true(sock_source(&dst, 0, &local) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_source),
		cmocka_unit_test(test_remotes),
		cmocka_unit_test(plain_options),
		cmocka_unit_test(plain_options_v6),
		cmocka_unit_test(mptcp_options),
		cmocka_unit_test(no_mptcp_in_kernel),
		cmocka_unit_test(mark_refused),
		cmocka_unit_test(listening),
		cmocka_unit_test(dual_stack),
		cmocka_unit_test(transparent),
		cmocka_unit_test(info),
		cmocka_unit_test(info_fallback),
		cmocka_unit_test(age_of_data),
		cmocka_unit_test(info_of_mptcp),
		cmocka_unit_test(closed_by_the_peer),
		cmocka_unit_test(reset_is_seen),
		cmocka_unit_test(reset_errnos),
		cmocka_unit_test(first_subflow_gone),
	};

	if (!rig_netns())
		return RIG_SKIP;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
