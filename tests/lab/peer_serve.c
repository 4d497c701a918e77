/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The servers of the lab: a thread for each connection, one JSON line when it ends. */
#include <errno.h>
#include <inttypes.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "peer_io.h"

enum { SERVICES_MAX = 32, HEAD_MAX = 8192, STACK = 256 * 1024, BACK_OFF_MS = 20 };

struct conn;

struct service {
	const char *name;
	int (*run)(struct conn *c); /* 0 = orderly end, else errno */
	uint64_t arg[2];            /* defaults of the numbers behind the port */
};

struct listener {
	const struct service *service;
	uint64_t arg[2];
	int fd;
	const uint8_t *block;
};

struct conn {
	const struct listener *from;
	int fd;
	bool closed; /* run() has closed fd */
	uint64_t in, out;
	uint64_t bad_at;
	char tag[48]; /* which one of the client's it was: seed or path, "" unless it has said so */
};

/* ---- what each service does ---- */

static int conn_write(struct conn *c, const void *data, size_t len)
{
	if (peer_write(c->fd, data, len) < 0)
		return errno;
	c->out += len;
	return 0;
}

static int conn_stream(struct conn *c, uint64_t len)
{
	if (stream_send(c->fd, c->from->block, 0, len) < 0)
		return errno;
	c->out += len;
	return 0;
}

/* Reads until the end of the stream, writing back what comes if echo is set. */
static int conn_drain(struct conn *c, bool echo)
{
	uint8_t data[65536];

	for (;;) {
		ssize_t n = peer_read_some(c->fd, data, sizeof(data));

		if (n <= 0)
			return n < 0 ? errno : 0;
		c->in += (size_t)n;
		int e = echo ? conn_write(c, data, (size_t)n) : 0;
		if (e)
			return e;
	}
}

static int run_echo(struct conn *c)
{
	char trailer[48];
	int e = conn_drain(c, true);

	if (e)
		return e;
	int n = snprintf(trailer, sizeof(trailer), "end %" PRIu64 "\n", c->in);
	return conn_write(c, trailer, (size_t)n);
}

static int run_banner(struct conn *c)
{
	static const char text[] = "SSH-2.0-lab the server speaks first\r\n";
	int e = conn_write(c, text, sizeof(text) - 1);

	return e ? e : conn_drain(c, true);
}

static int run_origdst(struct conn *c)
{
	char text[96];

	peer_origdst(c->fd, text, sizeof(text));
	return conn_write(c, text, strlen(text));
}

static int run_silent(struct conn *c)
{
	return conn_drain(c, false);
}

static int run_reset(struct conn *c)
{
	uint8_t byte;
	int queued = 0;

	for (; c->in < c->from->arg[0]; c->in++)
		if (peer_read(c->fd, &byte, 1) < 0)
			return errno;
	int e = conn_stream(c, c->from->arg[1]);
	/* A reset throws away what has not been sent: wait until it has. */
	const struct timespec pause = {.tv_nsec = 1000000};
	for (int i = 0; i < 5000 && ioctl(c->fd, SIOCOUTQ, &queued) == 0 && queued > 0; i++)
		nanosleep(&pause, NULL);
	peer_reset(c->fd);
	c->closed = true;
	return e;
}

static int run_shutfirst(struct conn *c)
{
	int e = conn_stream(c, c->from->arg[0]);

	if (e || shutdown(c->fd, SHUT_WR) < 0)
		return e ? e : errno;
	return conn_drain(c, false);
}

/* Reads a request head; returns its length, 0 at the end, -1 with errno. */
static ssize_t http_head(struct conn *c, char *head, size_t *have)
{
	for (;;) {
		head[*have] = '\0';
		const char *end = strstr(head, "\r\n\r\n");
		if (end)
			return end + 4 - head;
		if (*have == HEAD_MAX) {
			errno = EMSGSIZE;
			return -1;
		}
		ssize_t n = peer_read_some(c->fd, (uint8_t *)head + *have, HEAD_MAX - *have);
		if (n <= 0)
			return n;
		*have += (size_t)n;
		c->in += (size_t)n;
	}
}

static int http_answer(struct conn *c, const char *head)
{
	char answer[256], size[24] = "";
	uint64_t len = 0;
	bool known = sscanf(head, "GET /bytes/%23[0-9kMG] ", size) == 1 && peer_size(size, &len);
	const char *text = "hello from peer\n";

	if (sscanf(head, "GET %47[A-Za-z0-9/.-]", c->tag) != 1)
		c->tag[0] = '\0';

	if (!known)
		len = strlen(text);
	int n = snprintf(answer, sizeof(answer),
			 "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
			 "Content-Length: %" PRIu64 "\r\n\r\n",
			 len);
	/* Head and a small body in one segment, as real servers do. */
	if (!known)
		n += snprintf(answer + n, sizeof(answer) - (size_t)n, "%s", text);
	int e = conn_write(c, answer, (size_t)n);
	return e || !known ? e : conn_stream(c, len);
}

static int run_http(struct conn *c)
{
	char head[HEAD_MAX + 1];
	size_t have = 0;

	for (;;) {
		ssize_t n = http_head(c, head, &have);
		if (n <= 0)
			return n < 0 ? errno : 0;
		int e = http_answer(c, head);
		head[n - 1] = '\0';
		if (e || strcasestr(head, "\nconnection: close") || !strstr(head, "HTTP/1.1"))
			return e;
		have -= (size_t)n;
		memmove(head, head + n, have);
	}
}

struct sender {
	int fd;
	const uint8_t *block;
	uint64_t seed, len;
	int error;
};

static void *send_thread(void *arg)
{
	struct sender *s = arg;

	s->error = stream_send(s->fd, s->block, s->seed, s->len) < 0 ? errno : 0;
	return NULL;
}

static int run_duplex(struct conn *c)
{
	uint8_t buf[DUPLEX_HEAD], extra;
	struct duplex_head h;
	struct stream_got got;
	pthread_t thread;

	if (peer_read(c->fd, buf, sizeof(buf)) < 0)
		return errno ? errno : EPIPE;
	duplex_head_get(buf, &h);
	snprintf(c->tag, sizeof(c->tag), "%" PRIu64, h.seed);
	struct sender s = {.fd = c->fd, .block = c->from->block, .seed = h.seed + 1, .len = h.down};
	if (pthread_create(&thread, NULL, send_thread, &s) != 0)
		return ENOMEM;
	stream_recv(c->fd, c->from->block, h.seed, h.up, &got);
	/* The client half-closes behind its last octet. */
	bool clean = got.error == 0 && got.octets == h.up && peer_read_some(c->fd, &extra, 1) == 0;
	pthread_join(thread, NULL);
	c->in = got.octets;
	c->out = s.error ? 0 : h.down;
	c->bad_at = got.bad_at;
	if (got.error || s.error)
		return got.error ? got.error : s.error;
	uint8_t tail[DUPLEX_TAIL];
	put64(tail, got.octets);
	tail[8] = clean && got.bad_at == UINT64_MAX;
	return conn_write(c, tail, sizeof(tail));
}

static const struct service services[] = {
	{"http", run_http, {0, 0}},           /* GET /bytes/N; N may end in k, M, G */
	{"banner", run_banner, {0, 0}},       /* speaks first, then echoes */
	{"echo", run_echo, {0, 0}},           /* echoes to the end, adds "end N", closes */
	{"duplex", run_duplex, {0, 0}},       /* both directions at once, compared */
	{"reset", run_reset, {1, 0}},         /* reads arg 1, sends arg 2 octets, resets */
	{"shutfirst", run_shutfirst, {6, 0}}, /* sends arg 1 octets, half-closes, reads on */
	{"silent", run_silent, {0, 0}},       /* never says anything */
	{"origdst", run_origdst, {0, 0}},     /* says where the client wanted to go */
};

/* ---- connections ---- */

static void conn_report(const struct conn *c, const struct peer_facts *f, const char *peer,
			const char *end)
{
	peer_print("{\"service\":\"%s\",\"peer\":\"%s\",\"in\":%" PRIu64 ",\"out\":%" PRIu64
		   ",\"end\":\"%s\",\"same\":%s,\"mptcp\":%s,\"subflows\":%d,\"syn_data\":%s,"
		   "\"tag\":\"%s\"}",
		   c->from->service->name, peer, c->in, c->out, end,
		   c->bad_at == UINT64_MAX ? "true" : "false", f->mptcp ? "true" : "false",
		   f->subflows, f->syn_data ? "true" : "false", c->tag);
}

static void peer_name(int fd, char *out, size_t size)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	char host[64] = "?", port[8] = "?";

	if (getpeername(fd, (struct sockaddr *)&sa, &len) == 0)
		getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), port, sizeof(port),
			    NI_NUMERICHOST | NI_NUMERICSERV);
	const char *h = strncmp(host, "::ffff:", 7) ? host : host + 7;
	snprintf(out, size, strchr(h, ':') ? "[%s]:%s" : "%s:%s", h, port);
}

static void *conn_thread(void *arg)
{
	struct conn *c = arg;
	struct peer_facts f;
	char peer[96];

	peer_name(c->fd, peer, sizeof(peer));
	peer_facts(c->fd, &f);
	if (f.mptcp)
		peer_established(c->fd);
	int e = c->from->service->run(c);
	if (!c->closed) {
		peer_facts(c->fd, &f);
		close(c->fd);
	}
	conn_report(c, &f, peer, e ? peer_errno(e) : c->closed ? "reset" : "eof");
	free(c);
	return NULL;
}

static void serve_one(const struct listener *l, const pthread_attr_t *attr)
{
	pthread_t t;
	int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
	struct conn *c = fd < 0 ? NULL : malloc(sizeof(*c));

	if (c) {
		*c = (struct conn){.from = l, .fd = fd, .bad_at = UINT64_MAX};
		if (pthread_create(&t, attr, conn_thread, c) == 0)
			return;
		free(c);
	}
	if (fd >= 0) {
		close(fd);
	} else if (errno == EMFILE || errno == ENFILE) {
		const struct timespec pause = {.tv_nsec = BACK_OFF_MS * 1000000};

		nanosleep(&pause, NULL);
	}
}

/* NAME:PORT[:ARG[:ARG]] */
static bool listener_parse(struct listener *l, const char *spec, const struct peer_sock *o)
{
	size_t name = strcspn(spec, ":");
	uint64_t port = 0;
	char text[128], *save = NULL;

	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++)
		if (strlen(services[i].name) == name && !strncmp(spec, services[i].name, name))
			l->service = &services[i];
	if (!l->service || strlen(spec) >= sizeof(text))
		return false;
	memcpy(l->arg, l->service->arg, sizeof(l->arg));
	strcpy(text, spec + name);
	const char *word = strtok_r(text, ":", &save);
	if (!word || !peer_size(word, &port) || port < 1 || port > 65535)
		return false;
	for (int i = 0; i < 2 && (word = strtok_r(NULL, ":", &save)) != NULL; i++)
		if (!peer_size(word, &l->arg[i]))
			return false;
	l->fd = peer_listen((uint16_t)port, o);
	if (l->fd < 0)
		fprintf(stderr, "peer: port %d: %s\n", (int)port, strerror(errno));
	return l->fd >= 0;
}

static void raise_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

int peer_serve(const struct peer_sock *o, const uint8_t *block, char **spec, int n)
{
	struct listener l[SERVICES_MAX] = {0};
	struct pollfd p[SERVICES_MAX] = {0};
	pthread_attr_t attr;

	if (n < 1 || n > SERVICES_MAX)
		return 64;
	for (int i = 0; i < n; i++) {
		l[i].block = block;
		if (!listener_parse(&l[i], spec[i], o)) {
			fprintf(stderr, "peer: cannot serve '%s'\n", spec[i]);
			return 1;
		}
		p[i] = (struct pollfd){.fd = l[i].fd, .events = POLLIN};
	}
	raise_limit();
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK);
	signal(SIGPIPE, SIG_IGN);
	peer_print("ready");
	while (poll(p, (nfds_t)n, -1) >= 0 || errno == EINTR)
		for (int i = 0; i < n; i++)
			if (p[i].revents)
				serve_one(&l[i], &attr);
	return 1;
}
