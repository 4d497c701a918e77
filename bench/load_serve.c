/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/lab/peer_io.h"

enum { EVENTS = 256, BURST = 16 };

struct conn {
	int fd;
	bool listener, writing;
	uint8_t head[LOAD_HEAD];
	size_t got;  /* of this request */
	size_t left; /* of this reply */
};

struct server {
	int ep;
	uint8_t scrap[LOAD_REQUEST_MAX];
	uint8_t block[LOAD_BLOCK];
};

void load_limits(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

static uint32_t head_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void conn_end(struct conn *c)
{
	close(c->fd);
	free(c);
}

static bool conn_watch(const struct server *s, struct conn *c, int op, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	return epoll_ctl(s->ep, op, c->fd, &ev) == 0;
}

static void accept_all(const struct server *s, const struct conn *l)
{
	const int on = 1;
	int fd;

	while ((fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct conn *c = calloc(1, sizeof(*c));

		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (!c) {
			close(fd);
			continue;
		}
		c->fd = fd;
		if (!conn_watch(s, c, EPOLL_CTL_ADD, EPOLLIN))
			conn_end(c);
	}
}

/* false: the connection has ended. */
static bool conn_write(struct server *s, struct conn *c)
{
	uint8_t op = c->head[0];

	for (int i = 0; i < BURST && (op == LOAD_DOWN || c->left > 0); i++) {
		size_t size = op == LOAD_DOWN || c->left > LOAD_BLOCK ? LOAD_BLOCK : c->left;
		ssize_t n = send(c->fd, s->block, size, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			return false;
		if (n <= 0)
			break;
		if (op != LOAD_DOWN)
			c->left -= (size_t)n;
	}
	bool more = op == LOAD_DOWN || c->left > 0;
	if (!more && op == LOAD_ONCE)
		return false;
	if (more != c->writing) {
		c->writing = more;
		return conn_watch(s, c, EPOLL_CTL_MOD, more ? EPOLLOUT : EPOLLIN);
	}
	return true;
}

static bool conn_request(struct server *s, struct conn *c)
{
	c->got = 0;
	c->left = head_u32(c->head + 5);
	return c->left <= LOAD_REPLY_MAX && conn_write(s, c);
}

static bool conn_read(struct server *s, struct conn *c)
{
	for (int i = 0; i < BURST; i++) {
		size_t size = LOAD_HEAD;
		ssize_t n;

		if (c->got < LOAD_HEAD) {
			n = recv(c->fd, c->head + c->got, LOAD_HEAD - c->got, 0);
		} else if (c->head[0] == LOAD_UP) {
			/* Thrown away by the kernel: no copy. */
			n = recv(c->fd, NULL, 1 << 20, MSG_TRUNC);
		} else {
			size = head_u32(c->head + 1);
			if (size < LOAD_HEAD || size > LOAD_REQUEST_MAX)
				return false;
			n = size > c->got ? recv(c->fd, s->scrap, size - c->got, 0) : 0;
		}
		if (n == 0 && c->got < size)
			return false;
		if (n < 0)
			return errno == EAGAIN;
		c->got += (size_t)n;
		if (c->got < LOAD_HEAD)
			continue;
		if (c->head[0] == LOAD_UP) {
			if (n == 0)
				return false;
			c->got = LOAD_HEAD;
			continue;
		}
		if (c->head[0] == LOAD_DOWN)
			return conn_write(s, c);
		if (c->got >= head_u32(c->head + 1))
			return conn_request(s, c);
	}
	return true;
}

static void serve_event(struct server *s, struct conn *c, uint32_t events)
{
	bool alive = true;

	if (c->listener) {
		accept_all(s, c);
		return;
	}
	if (c->writing)
		alive = !(events & (EPOLLERR | EPOLLHUP)) && conn_write(s, c);
	else if (events)
		alive = conn_read(s, c);
	if (!alive)
		conn_end(c);
}

static int serve_listen(struct server *s, const char *port)
{
	const struct peer_sock plain = {0};
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return -1;
	c->fd = peer_listen((uint16_t)atoi(port), &plain);
	c->listener = true;
	if (c->fd < 0 || fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0 || listen(c->fd, 4096) < 0 ||
	    !conn_watch(s, c, EPOLL_CTL_ADD, EPOLLIN)) {
		fprintf(stderr, "load: cannot listen on port %s: %s\n", port, strerror(errno));
		free(c);
		return -1;
	}
	return 0;
}

int load_serve(char *const *ports)
{
	struct server *s = calloc(1, sizeof(*s));

	if (!s)
		return 1;
	s->ep = epoll_create1(EPOLL_CLOEXEC);
	for (; *ports; ports++) {
		if (serve_listen(s, *ports) < 0)
			return 1;
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct epoll_event ev[EVENTS];
		int n = epoll_wait(s->ep, ev, EVENTS, -1);

		for (int i = 0; i < n; i++)
			serve_event(s, ev[i].data.ptr, ev[i].events);
	}
}
