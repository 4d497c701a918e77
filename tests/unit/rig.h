/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the socket tests share: a network namespace of their own, connected pairs, and a
 * loop that runs until a condition holds.
 */
#ifndef SIXPATH_TESTS_RIG_H
#define SIXPATH_TESTS_RIG_H

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/addr.h"
#include "core/sock.h"
#include "core/worker.h"

#define RIG_UNUSED  __attribute__((unused))
#define RIG_LIMIT_S 20. /* no condition takes longer, even under sanitizers */
#define RIG_SKIP    77

static RIG_UNUSED double rig_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool rig_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* name as in "net/ipv4/tcp_fastopen" */
static RIG_UNUSED bool rig_sysctl(const char *name, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "/proc/sys/%s", name);
	return rig_write_file(path, value);
}

static bool rig_unshare(void)
{
	char map[64];
	unsigned uid = (unsigned)getuid(), gid = (unsigned)getgid();

	if (unshare(CLONE_NEWNET) == 0)
		return true;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return false;
	rig_write_file("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "0 %u 1", gid);
	rig_write_file("/proc/self/gid_map", map);
	snprintf(map, sizeof(map), "0 %u 1", uid);
	return rig_write_file("/proc/self/uid_map", map);
}

/* A namespace of our own with lo (MTU 1500, as on the wire) up. To be called before there
 * are threads. False, with a line that says why, where that is not allowed. */
static RIG_UNUSED bool rig_netns(void)
{
	struct ifreq ifr = {.ifr_name = "lo"};
	bool up;
	int fd;

	if (!rig_unshare()) {
		printf("skipped: no network namespace: %s\n", strerror(errno));
		return false;
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ifr.ifr_mtu = 1500;
	up = fd >= 0 && ioctl(fd, SIOCSIFMTU, &ifr) == 0;
	ifr.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
	up = up && ioctl(fd, SIOCSIFFLAGS, &ifr) == 0;
	if (!up)
		printf("skipped: lo cannot be brought up: %s\n", strerror(errno));
	if (fd >= 0)
		close(fd);
	return up;
}

static RIG_UNUSED bool rig_has_mptcp(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static RIG_UNUSED bool rig_has_ipv6(void)
{
	struct addr a;
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool has = fd >= 0 && addr_parse_ip(&a, "::1") && bind(fd, &a.u.sa, a.len) == 0;

	if (fd >= 0)
		close(fd);
	return has;
}

static RIG_UNUSED bool rig_wait(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	return poll(&p, 1, (int)(RIG_LIMIT_S * 1000)) == 1;
}

/* Listen on ip with any port; *at is the address. Descriptor or -errno. */
static int rig_listen(const char *ip, const struct sock_wishes *wishes, struct addr *at)
{
	int fd;

	if (!addr_parse_ip(at, ip))
		return -EINVAL;
	fd = sock_listen(at, wishes, NULL);
	if (fd >= 0 && addr_of_socket(fd, at) < 0)
		abort();
	return fd;
}

/* A connected pair on loopback, nonblocking: p[0] has connected, p[1] was accepted. */
static RIG_UNUSED bool rig_pair(bool mptcp, int p[2])
{
	struct sock_wishes wishes = SOCK_WISHES_NONE;
	struct addr at;
	int fd;

	p[0] = p[1] = -1;
	wishes.mptcp = mptcp;
	fd = rig_listen("127.0.0.1", &wishes, &at);
	if (fd < 0)
		return false;
	p[0] = sock_open(AF_INET, &wishes, NULL);
	if (p[0] >= 0 && (connect(p[0], &at.u.sa, at.len) == 0 || errno == EINPROGRESS) &&
	    rig_wait(fd, POLLIN))
		p[1] = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	close(fd);
	return p[1] >= 0 && rig_wait(p[0], POLLOUT);
}

static void rig_nothing_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)t;
	(void)events;
}

/* Run the loop, which is not run elsewhere, until the condition holds; false if it does not
 * within limit_s. The condition may do work of its own: it is asked each few milliseconds. */
static bool rig_until_s(struct worker *w, bool (*condition)(void *), void *arg, double limit_s)
{
	double end = rig_now() + limit_s;
	bool held;
	ev_timer pulse;

	ev_timer_init(&pulse, rig_nothing_cb, 0.002, 0.002);
	ev_timer_start(w->loop, &pulse);
	while (!(held = condition(arg)) && rig_now() < end)
		ev_run(w->loop, EVRUN_ONCE);
	ev_timer_stop(w->loop, &pulse);
	return held;
}

static RIG_UNUSED bool rig_until(struct worker *w, bool (*condition)(void *), void *arg)
{
	return rig_until_s(w, condition, arg, RIG_LIMIT_S);
}

static RIG_UNUSED bool rig_flag(void *flag)
{
	return *(const bool *)flag;
}

/* How many descriptors are open. */
static RIG_UNUSED unsigned rig_open_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

#endif
