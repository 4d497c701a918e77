/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The least a relay between two sockets can do: no protocol, no decisions, no time limits. A lower
 * bound for what relaying costs. With Fast Open it makes no system call that a short connection can
 * do without. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/lab/peer_io.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

enum { EXIT_BAD_USE = 64, EVENTS = 256, BURST = 8, WORKERS_MAX = 16 };

struct pair;

/* One direction: from this end to the other. */
struct end {
	struct pair *pair;
	struct end *other;
	int fd;
	int pipe[2];   /* splice */
	uint8_t *rest; /* copying: what could not be written; NULL = nothing */
	size_t at, len;
	bool eof, shut, again; /* again: a burst has ended, there may be more */
	/* With Fast Open only: */
	bool unread; /* there may be more to read than has been */
	bool gone;   /* the peer has half-closed: what is there is the last */
	bool young;  /* accepted, its handshake may still be under way */
	bool delays; /* before a second write, Nagle's algorithm must go */
};

struct pair {
	struct end a, b;
	struct pair *next_dead;
	bool dead;
};

struct relay {
	uint16_t port;
	bool splice, accept_mptcp, dial_mptcp, accept_tfo, dial_tfo;
	bool lean; /* either of the last two */
	size_t size;
	unsigned workers;
	struct sockaddr_storage sa;
	socklen_t sa_len;
	int ep, listener;
	uint8_t *buf;
	struct pair *dead;
};

static void pair_end(struct relay *r, struct pair *p)
{
	if (!p->dead) {
		p->dead = true;
		p->next_dead = r->dead;
		r->dead = p;
	}
}

static void end_free(struct end *e)
{
	if (e->fd >= 0)
		close(e->fd);
	if (e->pipe[0] >= 0) {
		close(e->pipe[0]);
		close(e->pipe[1]);
	}
	free(e->rest);
}

/* Not before all events of a turn have been looked at: they point at pairs. */
static void bury(struct relay *r)
{
	struct pair *p;

	while ((p = r->dead)) {
		r->dead = p->next_dead;
		end_free(&p->a);
		end_free(&p->b);
		free(p);
	}
}

/* ---- one direction; each returns false when the connection has failed ---- */

static bool pass_splice(const struct relay *r, struct end *e, bool *blocked)
{
	const unsigned flags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
	ssize_t n = 0;

	if (e->pipe[0] < 0) {
		if (pipe2(e->pipe, O_NONBLOCK | O_CLOEXEC) < 0)
			return false;
		fcntl(e->pipe[1], F_SETPIPE_SZ, (int)r->size);
	}
	if (e->len == 0) {
		n = splice(e->fd, NULL, e->pipe[1], NULL, r->size, flags);
		if (n < 0 && errno != EAGAIN)
			return false;
		e->eof = n == 0;
		*blocked = n <= 0;
		e->len += n > 0 ? (size_t)n : 0;
	}
	while (e->len > 0) {
		n = splice(e->pipe[0], NULL, e->other->fd, NULL, e->len, flags);
		if (n < 0) {
			*blocked = true;
			return errno == EAGAIN;
		}
		e->len -= (size_t)n;
	}
	return true;
}

static bool write_rest(struct end *e, bool *blocked)
{
	while (e->len > 0) {
		ssize_t n = send(e->other->fd, e->rest + e->at, e->len, MSG_NOSIGNAL);

		if (n < 0) {
			*blocked = true;
			return errno == EAGAIN;
		}
		e->at += (size_t)n;
		e->len -= (size_t)n;
	}
	free(e->rest);
	e->rest = NULL;
	return true;
}

/* What could not be written of n octets. */
static bool keep_rest(const struct relay *r, struct end *e, size_t written, size_t n)
{
	e->at = 0;
	e->len = n - written;
	e->rest = malloc(e->len);
	if (e->rest)
		memcpy(e->rest, r->buf + written, e->len);
	return e->rest;
}

/* With Fast Open: where there is nothing left over to be written, edges of reading only. */
static bool watch(const struct relay *r, struct end *e, int op, bool writing)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = e};

	ev.events |= writing ? EPOLLOUT : 0;
	return epoll_ctl(r->ep, op, e->fd, &ev) == 0;
}

static void nodelay(int fd)
{
	const int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* During its handshake a socket would keep what is to leave with a half-close; over MPTCP, everything,
 * and longer than that. */
static bool in_handshake(struct end *e)
{
	struct tcp_info i = {0};
	socklen_t len = sizeof(i);

	e->young = e->young && getsockopt(e->fd, IPPROTO_TCP, TCP_INFO, &i, &len) == 0 &&
		   i.tcpi_state == TCP_SYN_RECV;
	return e->young;
}

static int before_write(struct end *e, bool last)
{
	if (e->delays)
		nodelay(e->fd);
	e->delays = false;
	return MSG_NOSIGNAL | (last && !in_handshake(e) ? MSG_MORE : 0);
}

static bool pass_copy(const struct relay *r, struct end *e, bool *blocked)
{
	bool held = e->rest && r->accept_mptcp && in_handshake(e->other);
	int flags = MSG_NOSIGNAL;

	if (held) {
		*blocked = true;
		return true;
	}
	if (e->rest) {
		if (!write_rest(e, blocked))
			return false;
		if (r->lean && !e->unread)
			*blocked = true;
		if (*blocked)
			return true;
	}
	ssize_t n = recv(e->fd, r->buf, r->size, 0);
	if (n <= 0) {
		*blocked = true;
		e->eof = n == 0;
		return n == 0 || errno == EAGAIN;
	}
	if (r->lean) {
		e->unread = (size_t)n == r->size;
		*blocked = !e->unread; /* the next edge says if there is more */
		e->eof = *blocked && e->gone;
		held = r->accept_mptcp && in_handshake(e->other);
		flags = before_write(e->other, e->eof);
	}
	ssize_t w = held ? 0 : send(e->other->fd, r->buf, (size_t)n, flags);
	if (w < 0 && errno != EAGAIN)
		return false;
	w = w < 0 ? 0 : w;
	if (w == n)
		return true;
	*blocked = true;
	return keep_rest(r, e, (size_t)w, (size_t)n) &&
	       (!r->lean || watch(r, e->other, EPOLL_CTL_MOD, true));
}

static void pass(struct relay *r, struct end *e)
{
	bool blocked = false;

	e->again = false;
	for (int i = 0; i < BURST && !blocked && !e->shut; i++) {
		if (!(r->splice ? pass_splice(r, e, &blocked) : pass_copy(r, e, &blocked))) {
			/* Before the connection is made, everything says ENOTCONN. */
			if (errno != ENOTCONN)
				pair_end(r, e->pair);
			return;
		}
	}
	e->again = !blocked && !e->shut;
	if (e->eof && e->len == 0 && !e->shut) {
		e->shut = true;
		if (e->other->shut)
			pair_end(r, e->pair);
		else
			shutdown(e->other->fd, SHUT_WR);
	}
}

/* ---- connections ---- */

static bool end_open(const struct relay *r, struct end *e, struct pair *p, struct end *other,
		     int fd)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = e};

	*e = (struct end){.pair = p, .other = other, .fd = fd, .pipe = {-1, -1}};
	nodelay(fd);
	return fd >= 0 && epoll_ctl(r->ep, EPOLL_CTL_ADD, fd, &ev) == 0;
}

static int dial_socket(const struct relay *r)
{
	return socket(r->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
		      r->dial_mptcp ? IPPROTO_MPTCP : 0);
}

static bool dial_octets(struct relay *r, struct pair *p, size_t n)
{
	const struct sockaddr *sa = (const struct sockaddr *)&r->sa;
	ssize_t w = -1;

	p->b.fd = dial_socket(r);
	p->b.delays = true;
	if (p->b.fd < 0)
		return false;
	if (r->dial_tfo)
		w = sendto(p->b.fd, r->buf, n, MSG_FASTOPEN | MSG_NOSIGNAL, sa, r->sa_len);
	else if (connect(p->b.fd, sa, r->sa_len) == 0)
		w = 0;
	if (w < 0 && errno != EINPROGRESS)
		return false;
	/* No cookie yet, or not all of it fits: the rest, once the connection is made. */
	w = w < 0 ? 0 : w;
	if ((size_t)w < n && !keep_rest(r, &p->a, (size_t)w, n))
		return false;
	return watch(r, &p->b, EPOLL_CTL_ADD, p->a.rest);
}

/* With Fast Open: when the first octets are there. */
static void dial_first(struct relay *r, struct pair *p)
{
	ssize_t n = recv(p->a.fd, r->buf, r->size, 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || !dial_octets(r, p, (size_t)n))
		pair_end(r, p);
	else if ((p->a.unread = p->a.gone || (size_t)n == r->size))
		pass(r, &p->a);
}

static void take_lean(struct relay *r, int fd)
{
	struct pair *p = calloc(1, sizeof(*p));
	bool in_syn = r->accept_tfo;

	if (!p) {
		close(fd);
		return;
	}
	p->a = (struct end){.pair = p, .other = &p->b, .fd = fd, .pipe = {-1, -1}};
	p->b = (struct end){.pair = p, .other = &p->a, .fd = -1, .pipe = {-1, -1}};
	p->a.young = in_syn;
	if (in_syn)
		dial_first(r, p);
	/* An MPTCP handshake's end is an edge of writing. */
	if (!p->dead && !watch(r, &p->a, EPOLL_CTL_ADD, in_syn && r->accept_mptcp))
		pair_end(r, p);
}

static void take(struct relay *r, int fd)
{
	struct pair *p = calloc(1, sizeof(*p));
	int out = dial_socket(r);

	if (!p || out < 0 ||
	    (connect(out, (struct sockaddr *)&r->sa, r->sa_len) < 0 && errno != EINPROGRESS)) {
		close(fd);
		if (out >= 0)
			close(out);
		free(p);
		return;
	}
	bool a = end_open(r, &p->a, p, &p->b, fd), b = end_open(r, &p->b, p, &p->a, out);
	if (!a || !b)
		pair_end(r, p);
}

static void accept_all(struct relay *r)
{
	int fd;

	while ((fd = accept4(r->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		r->lean ? take_lean(r, fd) : take(r, fd);
}

/* As below, but only what is needed: at what reads or has something left over for this end. */
static void lean_event(struct relay *r, struct end *e, uint32_t events)
{
	e->gone = e->gone || (events & EPOLLRDHUP);
	if (e->pair->b.fd < 0) {
		dial_first(r, e->pair);
		return;
	}
	if ((events & EPOLLOUT) && e->other->rest)
		pass(r, e->other);
	if (!(events & (EPOLLIN | EPOLLRDHUP)))
		return;
	e->unread = true;
	if (!e->pair->dead && !e->rest)
		pass(r, e);
}

static void relay_event(struct relay *r, struct end *e, uint32_t events)
{
	if (!e) {
		accept_all(r);
		return;
	}
	if (events & EPOLLERR) {
		pair_end(r, e->pair);
		return;
	}
	/* Edges: what can be read here, and what can be written here again. */
	if (r->lean && !e->pair->dead)
		lean_event(r, e, events);
	if (!r->lean && !e->pair->dead)
		pass(r, e);
	if (!r->lean && !e->pair->dead && (events & EPOLLOUT))
		pass(r, e->other);
	/* What a burst has left over: the edge does not come again. */
	for (int i = 0; i < 64 && !e->pair->dead && (e->again || e->other->again); i++) {
		if (e->again)
			pass(r, e);
		if (!e->pair->dead && e->other->again)
			pass(r, e->other);
	}
	if (!e->pair->dead && (e->again || e->other->again)) {
		struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = e};

		if (r->lean)
			ev.events |= EPOLLRDHUP;
		epoll_ctl(r->ep, EPOLL_CTL_MOD, e->fd, &ev);
	}
}

static int serve(struct relay *r)
{
	struct epoll_event ev[EVENTS] = {{.events = EPOLLIN | EPOLLEXCLUSIVE}};

	r->ep = epoll_create1(EPOLL_CLOEXEC);
	r->buf = malloc(r->size);
	if (r->ep < 0 || !r->buf || epoll_ctl(r->ep, EPOLL_CTL_ADD, r->listener, &ev[0]) < 0)
		return 1;
	for (;;) {
		int n = epoll_wait(r->ep, ev, EVENTS, -1);

		for (int i = 0; i < n; i++)
			relay_event(r, ev[i].data.ptr, ev[i].events);
		bury(r);
	}
}

static int usage(void)
{
	fputs("bare_relay [--splice OCTETS | --copy OCTETS] [--accept-mptcp] [--dial-mptcp]\n"
	      "           [--accept-fastopen] [--dial-fastopen] [--workers N]\n"
	      "           LISTEN-PORT ADDRESS PORT\n"
	      "With Fast Open it copies, and dials when the first octets of a connection are "
	      "there.\n",
	      stderr);
	return EXIT_BAD_USE;
}

static bool options(struct relay *r, int argc, char **argv)
{
	enum { SPLICE = 1, COPY, ACCEPT_MPTCP, DIAL_MPTCP, ACCEPT_TFO, DIAL_TFO, WORKERS };
	static const struct option names[] = {
		{"splice", required_argument, NULL, SPLICE},
		{"copy", required_argument, NULL, COPY},
		{"accept-mptcp", no_argument, NULL, ACCEPT_MPTCP},
		{"dial-mptcp", no_argument, NULL, DIAL_MPTCP},
		{"accept-fastopen", no_argument, NULL, ACCEPT_TFO},
		{"dial-fastopen", no_argument, NULL, DIAL_TFO},
		{"workers", required_argument, NULL, WORKERS},
		{NULL, 0, NULL, 0},
	};
	int o;

	while ((o = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (o) {
		case SPLICE:
		case COPY:
			r->splice = o == SPLICE;
			r->size = (size_t)atol(optarg);
			break;
		case ACCEPT_MPTCP:
			r->accept_mptcp = true;
			break;
		case DIAL_MPTCP:
			r->dial_mptcp = true;
			break;
		case ACCEPT_TFO:
			r->accept_tfo = r->lean = true;
			break;
		case DIAL_TFO:
			r->dial_tfo = r->lean = true;
			break;
		case WORKERS:
			r->workers = (unsigned)atoi(optarg);
			break;
		default:
			return false;
		}
	}
	if ((r->lean && r->splice) || argc - optind != 3 || r->size == 0 || r->workers == 0 ||
	    r->workers > WORKERS_MAX)
		return false;
	r->port = (uint16_t)atoi(argv[optind]);
	return peer_addr(argv[optind + 1], argv[optind + 2], &r->sa, &r->sa_len);
}

int main(int argc, char **argv)
{
	struct relay r = {.splice = true, .size = 1 << 20, .workers = 1};
	struct rlimit files;

	if (!options(&r, argc, argv))
		return usage();
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	r.listener = peer_listen(r.port,
				 &(struct peer_sock){.mptcp = r.accept_mptcp, .tfo = r.accept_tfo});
	if (r.listener < 0 || fcntl(r.listener, F_SETFL, O_NONBLOCK) < 0) {
		fprintf(stderr, "bare_relay: port %u: %s\n", r.port, strerror(errno));
		return 1;
	}
	if (r.lean)
		nodelay(r.listener); /* for what it accepts */
	for (unsigned i = 1; i < r.workers; i++) {
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			return serve(&r);
		}
	}
	return serve(&r);
}
