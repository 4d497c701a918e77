/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Load for the benchmark: one thread, no copies where the kernel allows, so that what is measured
 * is what is between client and server. The clients print one line of JSON. */
#include "load.h"
#include "load_count.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/lab/peer_io.h"

enum {
	EXIT_BAD_USE = 64,
	EVENTS = 256,
	OPENING = 64, /* idle flows that are being opened at a time */
	ERRORS_MAX = 1000,
	TICK_MS = 50,
};

enum mode { BULK_DOWN, BULK_UP, SHORT, KEPT, IDLE, SLOW, UDP, UDP_IDLE };

struct conn {
	int fd;
	bool open, said;
	size_t sent, got;
	double start;
};

struct load {
	enum mode mode;
	uint8_t op;
	struct sockaddr_storage sa;
	socklen_t sa_len;
	unsigned flows;
	uint64_t count; /* end after so many; 0 = after the time */
	double seconds, warm;
	size_t request, reply;
	uint64_t rate; /* SLOW: octets a second of each flow */

	int ep;
	struct conn *conns;
	unsigned opened, answered;
	uint64_t begun;
	struct load_count c;
	unsigned window; /* UDP */
	uint8_t out[LOAD_REQUEST_MAX];
	uint8_t scrap[LOAD_REQUEST_MAX];
	uint8_t block[LOAD_BLOCK];
};

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

/* ---- connections ---- */

static bool endless(const struct load *l)
{
	return l->mode == BULK_DOWN || l->mode == BULK_UP || l->mode == SLOW;
}

static void conn_open(struct load *l, struct conn *c)
{
	const int on = 1;
	struct epoll_event ev = {.events = endless(l) ? EPOLLOUT : EPOLLIN | EPOLLOUT | EPOLLET,
				 .data.ptr = c};

	*c = (struct conn){.start = load_now()};
	l->begun++;
	c->fd = socket(l->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		l->c.errors++;
		return;
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if ((connect(c->fd, (struct sockaddr *)&l->sa, l->sa_len) < 0 && errno != EINPROGRESS) ||
	    epoll_ctl(l->ep, EPOLL_CTL_ADD, c->fd, &ev) < 0) {
		close(c->fd);
		l->c.errors++;
		return;
	}
	c->open = true;
}

static bool wants_more(const struct load *l)
{
	return l->count == 0 || l->begun < l->count;
}

static void conn_next(struct load *l, struct conn *c)
{
	if (l->mode == SHORT && wants_more(l) && l->c.errors < ERRORS_MAX)
		conn_open(l, c);
	else if (l->mode == IDLE && l->opened < l->flows)
		conn_open(l, &l->conns[l->opened++]);
}

static void conn_end(struct load *l, struct conn *c, bool failed)
{
	close(c->fd);
	c->open = false;
	l->c.errors += failed;
	conn_next(l, c);
}

/* The request; false if the connection has failed. */
static bool conn_say(struct load *l, struct conn *c)
{
	size_t size = endless(l) ? LOAD_HEAD : l->request;

	while (c->sent < size) {
		ssize_t n = send(c->fd, l->out + c->sent, size - c->sent, MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN;
		c->sent += (size_t)n;
	}
	if (!c->said && endless(l)) {
		struct epoll_event ev = {.events = l->mode == BULK_UP     ? EPOLLOUT
						   : l->mode == BULK_DOWN ? EPOLLIN
									  : 0,
					 .data.ptr = c};
		epoll_ctl(l->ep, EPOLL_CTL_MOD, c->fd, &ev);
	}
	c->said = true;
	return true;
}

static void bulk(struct load *l, struct conn *c)
{
	ssize_t n = l->mode == BULK_UP ? send(c->fd, l->block, LOAD_BLOCK, MSG_NOSIGNAL)
				       : recv(c->fd, NULL, LOAD_REPLY_MAX, MSG_TRUNC);

	if (n > 0)
		l->c.octets += (uint64_t)n;
	else if (n == 0 || errno != EAGAIN)
		conn_end(l, c, true);
}

/* A reply is complete; false: the connection has ended. */
static bool reply_done(struct load *l, struct conn *c)
{
	if (l->mode == SHORT)
		return true; /* its end is still to come */
	load_count_done(&l->c, c->start);
	c->got = 0;
	if (l->mode == IDLE) {
		l->answered++;
		conn_next(l, c);
		return true;
	}
	if (l->count > 0 && l->begun >= l->count) {
		conn_end(l, c, false);
		return false;
	}
	l->begun++;
	c->start = load_now();
	c->sent = 0;
	if (conn_say(l, c))
		return true;
	conn_end(l, c, true);
	return false;
}

static void reply_read(struct load *l, struct conn *c)
{
	for (;;) {
		ssize_t n = recv(c->fd, l->scrap, sizeof(l->scrap), 0);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			bool good = n == 0 && l->mode == SHORT && c->got == l->reply;

			if (good)
				load_count_done(&l->c, c->start);
			conn_end(l, c, !good);
			return;
		}
		c->got += (size_t)n;
		l->c.octets += (uint64_t)n;
		if (c->got >= l->reply && !reply_done(l, c))
			return;
	}
}

static void conn_event(struct load *l, struct conn *c, uint32_t events)
{
	if (!c->open)
		return;
	if (!c->said) {
		if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) && !conn_say(l, c))
			conn_end(l, c, true);
		return;
	}
	if (l->mode == BULK_UP || l->mode == BULK_DOWN)
		bulk(l, c);
	else if (l->mode == SLOW)
		conn_end(l, c, true); /* only errors are watched for */
	else if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		reply_read(l, c);
}

static void slow_tick(struct load *l)
{
	size_t part = (size_t)(l->rate * TICK_MS / 1000);

	for (unsigned i = 0; i < l->flows; i++) {
		struct conn *c = &l->conns[i];

		if (c->open && c->said) {
			ssize_t n = recv(c->fd, NULL, part, MSG_TRUNC);

			l->c.octets += n > 0 ? (uint64_t)n : 0;
		}
	}
}

/* ---- running ---- */

static bool finished(const struct load *l, double now)
{
	if (stopped || l->c.errors >= ERRORS_MAX)
		return true;
	if (l->mode == IDLE)
		return false;
	if (l->count > 0)
		return l->c.done + l->c.errors >= l->count;
	return l->c.counting && now >= l->c.start + l->seconds;
}

static void turn(struct load *l, int timeout_ms)
{
	struct epoll_event ev[EVENTS];
	int n = epoll_wait(l->ep, ev, EVENTS, timeout_ms);

	for (int i = 0; i < n; i++)
		conn_event(l, ev[i].data.ptr, ev[i].events);
}

static void say_ready(const struct load *l)
{
	printf("{\"ready\":%u,\"errors\":%" PRIu64 "}\n", l->answered, l->c.errors);
	fflush(stdout);
}

static int load_run(struct load *l)
{
	double begin = load_now(), tick = begin;
	bool ready = false;

	l->opened = l->mode == IDLE && l->flows > OPENING ? OPENING : l->flows;
	for (unsigned i = 0, n = l->opened; i < n && wants_more(l); i++)
		conn_open(l, &l->conns[i]);
	if (l->count > 0)
		load_count_start(&l->c);
	for (double now = begin; !finished(l, now); now = load_now()) {
		if (!l->c.counting && now >= begin + l->warm)
			load_count_start(&l->c);
		turn(l, TICK_MS);
		if (l->mode == SLOW && now >= tick) {
			slow_tick(l);
			tick = now + TICK_MS / 1000.0;
		}
		if (l->mode == IDLE && !ready && l->answered + l->c.errors >= l->flows) {
			say_ready(l);
			ready = true;
		}
	}
	load_count_end(&l->c);
	load_count_print(&l->c);
	return l->c.errors > 0;
}

static int usage(void)
{
	fputs("load serve PORT...\n"
	      "load echo PORT...          datagrams\n"
	      "load MODE [OPTION...] ADDRESS PORT\n"
	      "  MODE      down, up: bulk; short: connections with a request and a reply each;\n"
	      "            kept: requests on connections that stay; idle: flows that stay until\n"
	      "            SIGTERM; slow: downloads that are read slowly;\n"
	      "            udp: datagrams that are echoed; udp-idle: sockets that have had an\n"
	      "            echo and stay until SIGTERM; SIGUSR1 tries them all again\n"
	      "  --flows N        at a time (1)\n"
	      "  --seconds S      measure for so long (2), after --warm S (0.3)\n"
	      "  --count N        instead: end after N connections or requests\n"
	      "  --request N, --reply N   octets (100, 1000)\n"
	      "  --window N       udp: datagrams of a socket on their way (4)\n"
	      "  --rate N         slow: octets a second of each flow (10000)\n"
	      "  --cpu NAME=PID[,PID...]  also say how much processor time these used\n",
	      stderr);
	return EXIT_BAD_USE;
}

static bool mode_parse(struct load *l, const char *word)
{
	static const struct {
		const char *word;
		enum mode mode;
		uint8_t op;
	} modes[] = {{"down", BULK_DOWN, LOAD_DOWN}, {"up", BULK_UP, LOAD_UP},
		     {"short", SHORT, LOAD_ONCE},    {"kept", KEPT, LOAD_KEPT},
		     {"idle", IDLE, LOAD_KEPT},      {"slow", SLOW, LOAD_DOWN},
		     {"udp", UDP, LOAD_ONCE},        {"udp-idle", UDP_IDLE, LOAD_ONCE}};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(modes[i].word, word) == 0) {
			l->mode = modes[i].mode;
			l->op = modes[i].op;
			return true;
		}
	}
	return false;
}

static bool options(struct load *l, int argc, char **argv)
{
	enum { FLOWS = 1, SECONDS, WARM, COUNT, REQUEST, REPLY, RATE, WINDOW, CPU };
	static const struct option names[] = {
		{"flows", required_argument, NULL, FLOWS},
		{"seconds", required_argument, NULL, SECONDS},
		{"warm", required_argument, NULL, WARM},
		{"count", required_argument, NULL, COUNT},
		{"request", required_argument, NULL, REQUEST},
		{"reply", required_argument, NULL, REPLY},
		{"window", required_argument, NULL, WINDOW},
		{"rate", required_argument, NULL, RATE},
		{"cpu", required_argument, NULL, CPU},
		{NULL, 0, NULL, 0},
	};
	int o;

	while ((o = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (o) {
		case FLOWS:
			l->flows = (unsigned)atoi(optarg);
			break;
		case SECONDS:
			l->seconds = atof(optarg);
			break;
		case WARM:
			l->warm = atof(optarg);
			break;
		case COUNT:
			l->count = (uint64_t)atoll(optarg);
			break;
		case REQUEST:
			l->request = (size_t)atol(optarg);
			break;
		case REPLY:
			l->reply = (size_t)atol(optarg);
			break;
		case WINDOW:
			l->window = (unsigned)atoi(optarg);
			break;
		case RATE:
			l->rate = (uint64_t)atoll(optarg);
			break;
		case CPU:
			if (!load_count_cpu(&l->c, optarg))
				return false;
			break;
		default:
			return false;
		}
	}
	return l->flows > 0 && l->request >= LOAD_HEAD && l->request <= LOAD_REQUEST_MAX &&
	       l->reply > 0 && l->window > 0 && l->window <= LOAD_WINDOW_MAX &&
	       l->reply <= LOAD_REPLY_MAX && argc - optind == 2 &&
	       peer_addr(argv[optind], argv[optind + 1], &l->sa, &l->sa_len);
}

static void put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	load_limits();
	if (argc > 2 && strcmp(argv[1], "serve") == 0)
		return load_serve(argv + 2);
	if (argc > 2 && strcmp(argv[1], "echo") == 0)
		return load_echo(argv + 2);

	struct load *l = calloc(1, sizeof(*l));
	if (!l)
		return 1;
	*l = (struct load){.flows = 1,
			   .seconds = 2,
			   .warm = .3,
			   .request = 100,
			   .reply = 1000,
			   .rate = 10000,
			   .window = 4};
	if (argc < 2 || !mode_parse(l, argv[1]) || !options(l, argc - 1, argv + 1)) {
		free(l);
		return usage();
	}
	if (l->mode == UDP || l->mode == UDP_IDLE) {
		const struct load_udp_wish w = {.sa = &l->sa,
						.sa_len = l->sa_len,
						.sockets = l->flows,
						.window = l->window,
						.size = l->request,
						.seconds = l->seconds,
						.warm = l->warm,
						.count = l->count};
		int rc = l->mode == UDP ? load_udp(&w, &l->c) : load_udp_idle(&w);
		load_count_free(&l->c);
		free(l);
		return rc;
	}
	l->out[0] = l->op;
	put32(l->out + 1, (uint32_t)l->request);
	put32(l->out + 5, (uint32_t)l->reply);
	l->ep = epoll_create1(EPOLL_CLOEXEC);
	l->conns = calloc(l->flows, sizeof(*l->conns));
	if (l->ep < 0 || !l->conns) {
		perror("load");
		return 1;
	}
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	int rc = load_run(l);
	free(l->conns);
	load_count_free(&l->c);
	free(l);
	return rc;
}
