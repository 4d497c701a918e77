/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Datagrams for the benchmark: an echo server, and sockets that are echoed to. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "load.h"
#include "tests/lab/peer_io.h"

enum {
	EVENTS = 64,
	BATCH = 64,
	ROOM = 2048, /* octets for a datagram */
	BUFFER = 4 << 20,
	TICK_MS = 50,
	IDLE_MS = 200,
	OPENING = 64, /* idle sockets that wait for an echo at a time */
	TRIES = 10,   /* of an idle one, one a second */
	HEAD = 16,    /* octets: socket, number, time */
};

#define LOST_S  0.33
#define AGAIN_S 1.0

struct batch {
	struct mmsghdr h[BATCH];
	struct iovec v[BATCH];
	struct sockaddr_storage from[BATCH];
	uint8_t mem[BATCH][ROOM];
};

static int batch_read(struct batch *b, int fd, unsigned max)
{
	for (unsigned i = 0; i < max; i++) {
		b->v[i] = (struct iovec){b->mem[i], ROOM};
		b->h[i].msg_hdr = (struct msghdr){.msg_name = &b->from[i],
						  .msg_namelen = sizeof(b->from[i]),
						  .msg_iov = &b->v[i],
						  .msg_iovlen = 1};
	}
	return recvmmsg(fd, b->h, max, MSG_DONTWAIT, NULL);
}

/* ---- the server ---- */

static void echo_back(struct batch *b, int fd)
{
	int n = batch_read(b, fd, BATCH), at = 0;

	for (int i = 0; i < n; i++)
		b->v[i].iov_len = b->h[i].msg_len;
	while (at < n) {
		int sent = sendmmsg(fd, b->h + at, (unsigned)(n - at), 0);

		at += sent > 0 ? sent : 1; /* what cannot be sent is lost */
	}
}

static int echo_listen(int ep, const char *port)
{
	const int octets = BUFFER;
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	struct epoll_event ev = {.events = EPOLLIN};

	ev.data.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (ev.data.fd < 0)
		return -1;
	setsockopt(ev.data.fd, SOL_SOCKET, SO_RCVBUFFORCE, &octets, sizeof(octets));
	setsockopt(ev.data.fd, SOL_SOCKET, SO_SNDBUFFORCE, &octets, sizeof(octets));
	if (bind(ev.data.fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -1;
	return epoll_ctl(ep, EPOLL_CTL_ADD, ev.data.fd, &ev);
}

int load_echo(char *const *ports)
{
	struct batch *b = calloc(1, sizeof(*b));
	int ep = epoll_create1(EPOLL_CLOEXEC);

	if (!b || ep < 0)
		return 1;
	for (; *ports; ports++) {
		if (echo_listen(ep, *ports) < 0) {
			fprintf(stderr, "load: cannot take datagrams at port %s: %s\n", *ports,
				strerror(errno));
			free(b);
			return 1;
		}
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		struct epoll_event ev[EVENTS];
		int n = epoll_wait(ep, ev, EVENTS, -1);

		for (int i = 0; i < n; i++)
			echo_back(b, ev[i].data.fd);
	}
}

/* ---- the client ---- */

struct dgram {
	int fd;
	uint32_t index, number; /* number: what is older is not counted any more */
	unsigned out, tries;    /* on their way */
	double sent_s;
};

struct client {
	const struct load_udp_wish *w;
	struct load_count *c;
	struct dgram *v;
	int ep;
	uint64_t begun;
	unsigned next, waiting, good, failed; /* idle ones */
	struct batch b;
	uint8_t out[ROOM];
};

static volatile sig_atomic_t stopped, asked;

static void on_signal(int sig)
{
	if (sig == SIGUSR1)
		asked = 1;
	else
		stopped = 1;
}

static bool dgram_open(struct client *u, struct dgram *d, uint32_t index)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = d};

	d->index = index;
	d->fd = socket(u->w->sa->ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	return d->fd >= 0 && connect(d->fd, (const struct sockaddr *)u->w->sa, u->w->sa_len) == 0 &&
	       epoll_ctl(u->ep, EPOLL_CTL_ADD, d->fd, &ev) == 0;
}

/* All alike: they leave at once. */
static void dgram_send(struct client *u, struct dgram *d, unsigned n)
{
	struct mmsghdr h[LOAD_WINDOW_MAX];
	struct iovec v = {u->out, u->w->size};
	double now = load_now();
	int sent;

	if (u->w->count > 0 && u->begun + n > u->w->count)
		n = (unsigned)(u->w->count - u->begun);
	if (n == 0)
		return;
	memcpy(u->out, &d->index, 4);
	memcpy(u->out + 4, &d->number, 4);
	memcpy(u->out + 8, &now, 8);
	for (unsigned i = 0; i < n; i++)
		h[i].msg_hdr = (struct msghdr){.msg_iov = &v, .msg_iovlen = 1};
	sent = sendmmsg(d->fd, h, n, 0);
	if (sent < 0)
		u->c->errors++; /* tried again when it counts as lost */
	u->begun += n;
	d->out += n;
	d->sent_s = now;
}

/* How many echoes of what was sent came, and when the last of them was sent. */
static unsigned dgram_read(struct client *u, struct dgram *d)
{
	int n = batch_read(&u->b, d->fd, LOAD_WINDOW_MAX);
	unsigned good = 0;

	if (n < 0 && errno != EAGAIN)
		u->c->errors++;
	for (int i = 0; i < n; i++) {
		const uint8_t *p = u->b.mem[i];
		uint32_t number;
		double sent;

		memcpy(&number, p + 4, 4);
		memcpy(&sent, p + 8, 8);
		if (u->b.h[i].msg_len != u->w->size || memcmp(p, &d->index, 4) != 0) {
			u->c->errors++;
		} else if (number == d->number && d->out > 0) {
			d->out--;
			good++;
			u->c->octets += u->w->size;
			load_count_done(u->c, sent);
		}
	}
	return good;
}

static struct client *client_new(const struct load_udp_wish *w, struct load_count *c)
{
	struct client *u = calloc(1, sizeof(*u));

	if (u) {
		u->w = w;
		u->c = c;
		u->ep = epoll_create1(EPOLL_CLOEXEC);
		u->v = calloc(w->sockets, sizeof(*u->v));
	}
	if (!u || !u->v || u->ep < 0 || w->size < HEAD || w->size > ROOM) {
		fprintf(stderr, "load: no memory, or not %d to %d octets\n", HEAD, ROOM);
		exit(1);
	}
	for (unsigned i = 0; i < w->sockets; i++) {
		if (!dgram_open(u, &u->v[i], i)) {
			fprintf(stderr, "load: socket %u: %s\n", i, strerror(errno));
			exit(1);
		}
	}
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	signal(SIGUSR1, on_signal);
	return u;
}

static void client_free(struct client *u)
{
	for (unsigned i = 0; i < u->w->sockets; i++)
		close(u->v[i].fd);
	close(u->ep);
	free(u->v);
	free(u);
}

/* ---- at full speed ---- */

static void resend_lost(struct client *u, double now)
{
	for (unsigned i = 0; i < u->w->sockets; i++) {
		struct dgram *d = &u->v[i];

		if (d->out == 0 || now < d->sent_s + LOST_S)
			continue;
		u->c->lost += d->out;
		u->begun -= d->out;
		d->out = 0;
		d->number++;
		dgram_send(u, d, u->w->window);
	}
}

static bool finished(const struct client *u, double now)
{
	if (stopped)
		return true;
	if (u->w->count > 0)
		return u->c->done >= u->w->count;
	return u->c->counting && now >= u->c->start + u->w->seconds;
}

int load_udp(const struct load_udp_wish *w, struct load_count *c)
{
	struct client *u = client_new(w, c);
	double begin = load_now(), tick = begin;
	struct epoll_event ev[EVENTS];

	if (w->count > 0)
		load_count_start(c);
	for (unsigned i = 0; i < w->sockets; i++)
		dgram_send(u, &u->v[i], w->window);
	for (double now = begin; !finished(u, now); now = load_now()) {
		if (!c->counting && now >= begin + w->warm)
			load_count_start(c);
		int n = epoll_wait(u->ep, ev, EVENTS, TICK_MS);

		for (int i = 0; i < n; i++)
			dgram_send(u, ev[i].data.ptr, dgram_read(u, ev[i].data.ptr));
		if (now >= tick) {
			resend_lost(u, now);
			tick = now + TICK_MS / 1000.0;
		}
	}
	load_count_end(c);
	load_count_print(c);
	client_free(u);
	return c->errors > 0;
}

/* ---- idle ---- */

static void idle_ask(struct client *u)
{
	while (u->next < u->w->sockets && u->waiting < OPENING) {
		struct dgram *d = &u->v[u->next++];

		d->out = d->tries = 0;
		d->number++;
		u->waiting++;
		dgram_send(u, d, 1);
	}
}

static void idle_again(struct client *u, double now)
{
	for (unsigned i = 0; i < u->next; i++) {
		struct dgram *d = &u->v[i];

		if (d->out == 0 || now < d->sent_s + AGAIN_S)
			continue;
		d->out = 0;
		if (++d->tries < TRIES) {
			dgram_send(u, d, 1);
		} else {
			u->failed++;
			u->waiting--;
		}
	}
}

/* All of them once; how many had an echo is said. */
static void idle_round(struct client *u)
{
	struct epoll_event ev[EVENTS];
	double tick = 0;

	u->next = u->waiting = u->good = u->failed = 0;
	while (!stopped && u->good + u->failed < u->w->sockets) {
		idle_ask(u);
		int n = epoll_wait(u->ep, ev, EVENTS, TICK_MS);

		for (int i = 0; i < n; i++) {
			if (dgram_read(u, ev[i].data.ptr) > 0) {
				u->good++;
				u->waiting--;
			}
		}
		double now = load_now();
		if (now >= tick) {
			idle_again(u, now);
			tick = now + TICK_MS / 1000.0;
		}
	}
	printf("{\"ready\":%u,\"errors\":%u}\n", u->good, u->failed);
	fflush(stdout);
}

int load_udp_idle(const struct load_udp_wish *w)
{
	struct load_count c = {.counting = false};
	struct client *u = client_new(w, &c);

	for (asked = 1; !stopped;) {
		if (asked) {
			asked = 0;
			idle_round(u);
		}
		poll(NULL, 0, IDLE_MS); /* or until a signal */
	}
	client_free(u);
	return 0;
}
