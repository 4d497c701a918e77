/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "peer_io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/mptcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef SOL_MPTCP
#define SOL_MPTCP 284
#endif
#ifndef TCP_IS_MPTCP
#define TCP_IS_MPTCP 43
#endif
#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif
#define ORIGINAL_DST 80 /* SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST */
#ifndef TCPI_OPT_SYN_DATA
#define TCPI_OPT_SYN_DATA 32
#endif

/* ---- test data ---- */

uint8_t *pattern_new(void)
{
	uint8_t *block = malloc(PATTERN_PERIOD + PATTERN_CHUNK);
	uint32_t x = 2463534242u;

	if (!block)
		return NULL;
	for (size_t i = 0; i < PATTERN_PERIOD; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		block[i] = (uint8_t)(x >> 11);
	}
	memcpy(block + PATTERN_PERIOD, block, PATTERN_CHUNK);
	return block;
}

const uint8_t *pattern_at(const uint8_t *block, uint64_t seed, uint64_t pos)
{
	return block + (seed % PATTERN_PERIOD + pos % PATTERN_PERIOD) % PATTERN_PERIOD;
}

void put64(uint8_t *out, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		out[i] = (uint8_t)(v >> (56 - 8 * i));
}

uint64_t get64(const uint8_t *in)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | in[i];
	return v;
}

void duplex_head_put(uint8_t *out, const struct duplex_head *h)
{
	put64(out, h->up);
	put64(out + 8, h->down);
	put64(out + 16, h->seed);
}

void duplex_head_get(const uint8_t *in, struct duplex_head *h)
{
	h->up = get64(in);
	h->down = get64(in + 8);
	h->seed = get64(in + 16);
}

int stream_send(int fd, const uint8_t *block, uint64_t seed, uint64_t len)
{
	for (uint64_t pos = 0; pos < len;) {
		/* 64 KiB suits MPTCP better than larger writes. */
		size_t n = len - pos < 65536 ? (size_t)(len - pos) : 65536;

		if (peer_write(fd, pattern_at(block, seed, pos), n) < 0)
			return -1;
		pos += n;
	}
	return 0;
}

static void stream_compare(struct stream_got *got, const uint8_t *data, const uint8_t *want,
			   size_t n)
{
	if (got->bad_at == UINT64_MAX && memcmp(data, want, n) != 0) {
		size_t i = 0;

		while (data[i] == want[i])
			i++;
		got->bad_at = got->octets + i;
	}
	got->octets += n;
}

void stream_recv(int fd, const uint8_t *block, uint64_t seed, uint64_t len, struct stream_got *got)
{
	uint8_t *data = malloc(PATTERN_CHUNK);
	double last = 0;

	*got = (struct stream_got){.bad_at = UINT64_MAX, .error = data ? 0 : ENOMEM};
	while (data && got->octets < len) {
		uint64_t left = len - got->octets;
		ssize_t n = peer_read_some(fd, data,
					   left < PATTERN_CHUNK ? (size_t)left : PATTERN_CHUNK);
		double now = peer_now_ms();

		if (n <= 0) {
			got->error = n < 0 ? errno : 0;
			break;
		}
		if (last > 0 && now - last > got->max_gap_ms)
			got->max_gap_ms = now - last;
		else if (last == 0)
			got->first_ms = now;
		last = now;
		stream_compare(got, data, pattern_at(block, seed, got->octets), (size_t)n);
	}
	free(data);
}

/* ---- sockets ---- */

bool peer_addr(const char *host, const char *port, struct sockaddr_storage *sa, socklen_t *len)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
				 .ai_socktype = SOCK_STREAM};
	struct addrinfo *r;

	if (getaddrinfo(host, port, &hints, &r) != 0)
		return false;
	memcpy(sa, r->ai_addr, r->ai_addrlen);
	*len = r->ai_addrlen;
	freeaddrinfo(r);
	return true;
}

void peer_timeout(int fd, unsigned ms)
{
	struct timeval t = {.tv_sec = (time_t)(ms / 1000),
			    .tv_usec = (suseconds_t)(ms % 1000) * 1000};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
}

/* The kernel paces TCP by itself, and accepted sockets as their listener. */
static void set_pace(int fd, unsigned kbit)
{
	unsigned octets = kbit * 125;

	if (kbit)
		setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &octets, sizeof(octets));
}

static bool set_transparent(int fd)
{
	int on = 1;

	return setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &on, sizeof(on)) == 0 &&
	       setsockopt(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, &on, sizeof(on)) == 0;
}

int peer_listen(uint16_t port, const struct peer_sock *o)
{
	struct sockaddr_in6 sa = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int on = 1, off = 0, queue = 1024;
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, o->mptcp ? IPPROTO_MPTCP : 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	set_pace(fd, o->pace_kbit);
	if ((o->tfo && setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof(queue)) < 0) ||
	    (o->transparent && !set_transparent(fd)) ||
	    bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, queue) < 0) {
		int e = errno;

		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

static int start(int fd, const struct sockaddr_storage *sa, socklen_t sa_len, bool tfo,
		 const uint8_t *first, size_t first_len)
{
	size_t sent = 0;

	if (tfo && first_len > 0) {
		ssize_t n = sendto(fd, first, first_len, MSG_FASTOPEN | MSG_NOSIGNAL,
				   (const struct sockaddr *)sa, sa_len);
		if (n < 0)
			return -1;
		sent = (size_t)n;
	} else if (connect(fd, (const struct sockaddr *)sa, sa_len) < 0) {
		return -1;
	}
	return peer_write(fd, first + sent, first_len - sent);
}

int peer_connect(const struct sockaddr_storage *sa, socklen_t sa_len, const struct peer_sock *o,
		 const uint8_t *first, size_t first_len)
{
	int fd = socket(sa->ss_family, SOCK_STREAM | SOCK_CLOEXEC, o->mptcp ? IPPROTO_MPTCP : 0);
	int on = 1;

	if (fd < 0)
		return -1;
	peer_timeout(fd, o->timeout_ms);
	set_pace(fd, o->pace_kbit);
	/* As browsers and curl do. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (o->mark)
		setsockopt(fd, SOL_SOCKET, SO_MARK, &o->mark, sizeof(o->mark));
	if (start(fd, sa, sa_len, o->tfo, first, first_len) < 0) {
		/* connect() says EINPROGRESS when SO_SNDTIMEO is over. */
		int e = errno == EINPROGRESS ? ETIMEDOUT : errno;

		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

int peer_write(int fd, const uint8_t *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (errno == EAGAIN)
				errno = ETIMEDOUT;
			return -1;
		}
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

ssize_t peer_read_some(int fd, uint8_t *data, size_t len)
{
	ssize_t n;

	do
		n = recv(fd, data, len, 0);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		errno = ETIMEDOUT;
	return n;
}

int peer_read(int fd, uint8_t *data, size_t len)
{
	while (len > 0) {
		ssize_t n = peer_read_some(fd, data, len);

		if (n <= 0) {
			if (n == 0)
				errno = 0;
			return -1;
		}
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

void peer_origdst(int fd, char *out, size_t size)
{
	struct sockaddr_storage sa;
	socklen_t len4 = sizeof(sa), len6 = sizeof(sa), len = sizeof(sa);
	char host[64] = "?", port[8] = "?";

	if (getsockopt(fd, IPPROTO_IP, ORIGINAL_DST, &sa, &len4) == 0)
		len = len4;
	else if (getsockopt(fd, IPPROTO_IPV6, ORIGINAL_DST, &sa, &len6) == 0)
		len = len6;
	else if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		len = 0;
	if (len)
		getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), port, sizeof(port),
			    NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(out, size, "%s %s", strncmp(host, "::ffff:", 7) ? host : host + 7, port);
}

void peer_reset(int fd)
{
	struct linger l = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	close(fd);
}

static bool tcp_info(int fd, struct tcp_info *i)
{
	socklen_t len = sizeof(*i);

	memset(i, 0, sizeof(*i));
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, i, &len) == 0;
}

void peer_established(int fd)
{
	const struct timespec pause = {.tv_nsec = 200000};
	double limit = peer_now_ms() + 2000;
	struct tcp_info i;

	while (tcp_info(fd, &i) && i.tcpi_state == TCP_SYN_RECV && peer_now_ms() < limit)
		nanosleep(&pause, NULL);
}

void peer_facts(int fd, struct peer_facts *f)
{
	int is_mptcp = 0;
	socklen_t len = sizeof(is_mptcp);
	struct tcp_info i;
	struct mptcp_info m = {0};

	*f = (struct peer_facts){0};
	f->mptcp = getsockopt(fd, IPPROTO_TCP, TCP_IS_MPTCP, &is_mptcp, &len) == 0 && is_mptcp;
	f->syn_data = tcp_info(fd, &i) && (i.tcpi_options & TCPI_OPT_SYN_DATA);
	len = sizeof(m);
	if (f->mptcp && getsockopt(fd, SOL_MPTCP, MPTCP_INFO, &m, &len) == 0)
		f->subflows = m.mptcpi_subflows + 1;
}

/* ---- small things ---- */

double peer_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

bool peer_size(const char *text, uint64_t *out)
{
	static const char units[] = "kMG";
	char *end;
	const char *u;

	errno = 0;
	*out = strtoull(text, &end, 10);
	if (errno || end == text || text[0] == '-')
		return false;
	if (*end && (u = strchr(units, *end)) != NULL) {
		*out <<= 10 * (u - units + 1);
		end++;
	}
	return !*end;
}

const char *peer_errno(int e)
{
	const char *name = strerrorname_np(e);

	return name ? name : "unknown";
}

void peer_print(const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	size_t len = n < 0 ? 0 : (size_t)n < sizeof(line) - 2 ? (size_t)n : sizeof(line) - 2;
	line[len++] = '\n';
	for (size_t at = 0; at < len;) {
		ssize_t w = write(STDOUT_FILENO, line + at, len - at);

		if (w <= 0)
			return;
		at += (size_t)w;
	}
}
