/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mixed traffic at a steady rate: each slot is a thread that makes one connection after the other.
 * What a connection does, and where it goes, follows from its number, so that a run can be repeated.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "peer_io.h"

enum {
	KINDS_MAX = 32,  /* of one run */
	ADDRS_MAX = 512, /* of one kind */
	SLOTS_MAX = 2048,
	STACK = 256 * 1024,
	BEHIND_MS = 200,      /* what was missed before that is not made up for */
	ANSWER_MAX = 1 << 20, /* longest answer of an http service asked for */
};

struct mix;

/* One connection. */
struct
try {
	struct mix *m;
	const struct mix_kind *kind;
	struct peer_sock sock;
	struct sockaddr_storage sa;
	socklen_t sa_len;
	uint64_t random;
	int fd;
	uint64_t octets;
};

/* What a connection of this kind does. NULL = as it should be, else what is wrong; errno or 0. */
typedef const char *(*behave)(struct try *t);

struct mix_kind {
	const char *name;
	behave run;
	unsigned weight;
	unsigned n_addrs;
	struct mix_addr {
		struct sockaddr_storage sa;
		socklen_t len;
		char text[64];
	} * addrs;
	uint64_t done, failed; /* under mix.lock */
};

struct mix {
	const uint8_t *block;
	struct mix_kind kinds[KINDS_MAX];
	unsigned n_kinds, weights;
	uint64_t count;
	unsigned rate, seconds, slots, every_s, timeout_ms, stay_ms;
	double start_ms;
	pthread_mutex_t lock;
	/* under the lock */
	uint64_t next, done, failed, octets;
	double next_ms;
	bool over;
};

static void sleep_ms(double ms)
{
	const struct timespec t = {.tv_sec = (time_t)(ms / 1e3),
				   .tv_nsec =
					   (long)((ms - 1e3 * (double)(time_t)(ms / 1e3)) * 1e6)};

	if (ms > 0)
		nanosleep(&t, NULL);
}

/* splitmix64 */
static uint64_t scatter(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* ---- what connections do ---- */

static const char *start_try(struct try *t)
{
	t->fd = peer_connect(&t->sa, t->sa_len, &t->sock, NULL, 0);
	return t->fd < 0 ? "connecting" : NULL;
}

static const char *ask(struct try *t, const char *path, bool last)
{
	char head[128];
	int n = snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\nHost: server\r\n%s\r\n", path,
			 last ? "Connection: close\r\n" : "");

	return peer_write(t->fd, (const uint8_t *)head, (size_t)n) < 0 ? "asking" : NULL;
}

/* Octets until the answer's head is over; the rest of what was read counts as body. */
static const char *answer_head(struct try *t, uint64_t *len, uint64_t *body)
{
	char head[1024];
	size_t have = 0;
	const char *end, *field;

	do {
		ssize_t n = peer_read_some(t->fd, (uint8_t *)head + have, sizeof(head) - 1 - have);

		if (n <= 0) {
			errno = n < 0 ? errno : 0;
			return "no answer";
		}
		have += (size_t)n;
		t->octets += (uint64_t)n;
		head[have] = '\0';
		end = strstr(head, "\r\n\r\n");
	} while (!end && have < sizeof(head) - 1);
	field = strstr(head, "Content-Length: ");
	errno = 0;
	if (!end || !field || strncmp(head, "HTTP/1.1 200 ", 13) != 0)
		return "no answer of ours";
	*len = strtoull(field + 16, NULL, 10);
	*body = have - (size_t)(end + 4 - head);
	return NULL;
}

/* Reads an answer, pausing after each read if asked to. */
static const char *answer(struct try *t, unsigned pause_ms)
{
	uint8_t data[16384];
	uint64_t len = 0, body = 0;
	const char *why = answer_head(t, &len, &body);

	if (why || len > ANSWER_MAX)
		return why ? why : "an answer too long";
	while (body < len) {
		uint64_t left = len - body;
		ssize_t n = peer_read_some(t->fd, data,
					   left < sizeof(data) ? (size_t)left : sizeof(data));

		if (n <= 0) {
			errno = n < 0 ? errno : 0;
			return "the answer is cut short";
		}
		body += (uint64_t)n;
		t->octets += (uint64_t)n;
		sleep_ms(pause_ms);
	}
	return NULL;
}

static const char *at_end(struct try *t)
{
	uint8_t extra;
	ssize_t n = peer_read_some(t->fd, &extra, 1);

	errno = n < 0 ? errno : 0;
	return n == 0 ? NULL : "no end where it should be";
}

static const char *run_get(struct try *t)
{
	const char *why = ask(t, "/", true);

	why = why ? why : answer(t, 0);
	return why ? why : at_end(t);
}

static const char *run_keep(struct try *t)
{
	const char *why = NULL;

	for (int i = 0; i < 5 && !why; i++) {
		why = ask(t, "/bytes/4k", false);
		why = why ? why : answer(t, 0);
	}
	return why;
}

static const char *run_slow(struct try *t)
{
	const char *why = ask(t, "/bytes/400k", true);

	why = why ? why : answer(t, 20);
	return why ? why : at_end(t);
}

/* Up to 128 KB there, 32 KB back, both compared. */
static const char *run_upload(struct try *t)
{
	struct duplex_head h = {.up = t->random % 131072,
				.down = t->random / 131072 % 32768,
				.seed = t->random % 1000};
	uint8_t head[DUPLEX_HEAD], tail[DUPLEX_TAIL];
	struct stream_got got;

	duplex_head_put(head, &h);
	if (peer_write(t->fd, head, sizeof(head)) < 0 ||
	    stream_send(t->fd, t->m->block, h.seed, h.up) < 0)
		return "uploading";
	shutdown(t->fd, SHUT_WR);
	stream_recv(t->fd, t->m->block, h.seed + 1, h.down, &got);
	t->octets += h.up + got.octets;
	errno = got.error;
	if (got.octets != h.down)
		return "the stream ended early";
	if (got.bad_at != UINT64_MAX)
		return "octets differ";
	if (peer_read(t->fd, tail, sizeof(tail)) < 0)
		return "no verdict from the server";
	errno = 0;
	return get64(tail) == h.up && tail[8] == 1 ? at_end(t) : "the server got something else";
}

/* Echoed until our end, then the server's last words. */
static const char *run_halfclose(struct try *t)
{
	uint64_t seed = t->random % 1000, len = 1 + t->random / 1000 % 8192;
	struct stream_got got;
	char want[48];
	uint8_t tail[48];
	int n = snprintf(want, sizeof(want), "end %" PRIu64 "\n", len);

	if (stream_send(t->fd, t->m->block, seed, len) < 0)
		return "sending";
	shutdown(t->fd, SHUT_WR);
	stream_recv(t->fd, t->m->block, seed, len, &got);
	t->octets += len + got.octets;
	errno = got.error;
	if (got.octets != len || got.bad_at != UINT64_MAX)
		return "the echo is not ours";
	if (peer_read(t->fd, tail, (size_t)n) < 0 || memcmp(tail, want, (size_t)n) != 0)
		return "no trailer after our end";
	return at_end(t);
}

/* Resets in the middle of a download. */
static const char *run_abort(struct try *t)
{
	uint8_t data[4096];
	const char *why = ask(t, "/bytes/512k", true);

	if (why)
		return why;
	if (peer_read(t->fd, data, 1 + t->random % sizeof(data)) < 0)
		return "no answer";
	peer_reset(t->fd);
	t->fd = -1;
	return NULL;
}

/* Is reset by the server. */
static const char *run_reset(struct try *t)
{
	uint8_t data[4096] = {'x'};
	ssize_t n;

	if (peer_write(t->fd, data, 1) < 0)
		return "speaking";
	do {
		n = peer_read_some(t->fd, data, sizeof(data));
		t->octets += n > 0 ? (uint64_t)n : 0;
	} while (n > 0);
	if (n < 0 && errno == ECONNRESET)
		return NULL;
	errno = n < 0 ? errno : 0;
	return "no reset";
}

/* The server speaks first, then echoes. */
static const char *run_banner(struct try *t)
{
	uint8_t data[256];
	ssize_t n = peer_read_some(t->fd, data, sizeof(data));

	if (n <= 0)
		return "no banner";
	if (peer_write(t->fd, (const uint8_t *)"x", 1) < 0 || peer_read(t->fd, data, 1) < 0)
		return "no echo";
	return data[0] == 'x' ? NULL : "another echo";
}

/* Says nothing for a while and goes. */
static const char *run_idle(struct try *t)
{
	uint8_t data;

	peer_timeout(t->fd, 50 + (unsigned)(t->random % 1500));
	if (peer_read_some(t->fd, &data, 1) < 0 && errno == ETIMEDOUT)
		return NULL;
	return "it did not stay open";
}

/* Says nothing until somebody ends it. */
static const char *run_stay(struct try *t)
{
	uint8_t data;

	peer_timeout(t->fd, t->m->stay_ms);
	if (peer_read_some(t->fd, &data, 1) < 0 && errno == ETIMEDOUT)
		return "nobody ended it";
	return NULL;
}

static const char *run_empty(struct try *t)
{
	(void)t;
	return NULL;
}

/* Nobody is there: no octet may come. Where the way is direct because no proxy answers in time, it
 * takes as long as the kernel tries. */
static const char *run_dead(struct try *t)
{
	uint8_t data[16];

	if (ask(t, "/", true))
		return NULL;
	ssize_t n = peer_read_some(t->fd, data, sizeof(data));
	return n > 0 ? "an answer from nobody" : NULL;
}

static const struct {
	const char *name;
	behave run;
} behaviours[] = {
	{"get", run_get},       {"keep", run_keep},           {"slow", run_slow},
	{"upload", run_upload}, {"halfclose", run_halfclose}, {"abort", run_abort},
	{"reset", run_reset},   {"banner", run_banner},       {"idle", run_idle},
	{"stay", run_stay},     {"empty", run_empty},         {"dead", run_dead},
};

/* ---- the run ---- */

static double epoch_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static struct mix_kind *choose(struct mix *m, uint64_t random)
{
	unsigned at = (unsigned)(random % m->weights), i = 0;

	while (at >= m->kinds[i].weight)
		at -= m->kinds[i++].weight;
	return &m->kinds[i];
}

static void try_one(struct mix *m, uint64_t number)
{
	struct mix_kind *k = choose(m, scatter(number));
	struct try t = {.m = m,
			.kind = k,
			.sock = {.timeout_ms = m->timeout_ms},
			.random = scatter(number ^ UINT64_C(0x5bd1e995) << 32),
			.fd = -1};
	const struct mix_addr *a = &k->addrs[t.random / 7 % k->n_addrs];
	double from = epoch_ms();

	memcpy(&t.sa, &a->sa, a->len);
	t.sa_len = a->len;
	errno = 0;
	const char *why = start_try(&t);
	if (!why)
		why = k->run(&t);
	else if (k->run == run_dead)
		why = NULL;
	int e = errno;
	if (t.fd >= 0)
		close(t.fd);
	if (why)
		peer_print("{\"failed\":\"%s\",\"to\":\"%s\",\"from_ms\":%.0f,\"until_ms\":%.0f,"
			   "\"why\":\"%s%s%s\"}",
			   k->name, a->text, from, epoch_ms(), why, e ? ": " : "",
			   e ? peer_errno(e) : "");
	pthread_mutex_lock(&m->lock);
	m->done++;
	k->done++;
	m->octets += t.octets;
	m->failed += why != NULL;
	k->failed += why != NULL;
	pthread_mutex_unlock(&m->lock);
}

/* The number of the next connection, when it is time for it; false = no more. */
static bool take_turn(struct mix *m, uint64_t *number)
{
	double now = peer_now_ms(), at;

	pthread_mutex_lock(&m->lock);
	if (m->next_ms < now - BEHIND_MS)
		m->next_ms = now - BEHIND_MS;
	at = m->next_ms;
	m->next_ms += 1e3 / m->rate;
	if (m->next >= m->count || (m->seconds && at - m->start_ms >= 1e3 * m->seconds))
		m->over = true;
	bool go = !m->over;
	*number = m->next;
	m->next += go;
	pthread_mutex_unlock(&m->lock);
	if (go)
		sleep_ms(at - now);
	return go;
}

static void *slot_thread(void *arg)
{
	uint64_t number;

	while (take_turn(arg, &number))
		try_one(arg, number);
	return NULL;
}

static void *tell_thread(void *arg)
{
	struct mix *m = arg;

	for (;;) {
		sleep_ms(1e3 * m->every_s);
		pthread_mutex_lock(&m->lock);
		peer_print("{\"s\":%.1f,\"started\":%" PRIu64 ",\"open\":%" PRIu64
			   ",\"failed\":%" PRIu64 "}",
			   (peer_now_ms() - m->start_ms) / 1e3, m->next, m->next - m->done,
			   m->failed);
		pthread_mutex_unlock(&m->lock);
	}
	return NULL;
}

static void report(const struct mix *m)
{
	char kinds[900] = "";
	size_t at = 0;

	for (unsigned i = 0; i < m->n_kinds && at < sizeof(kinds) - 64; i++)
		at += (size_t)snprintf(kinds + at, sizeof(kinds) - at,
				       "%s\"%s%u\":[%" PRIu64 ",%" PRIu64 "]", i ? "," : "",
				       m->kinds[i].name, i, m->kinds[i].done, m->kinds[i].failed);
	peer_print("{\"total\":%" PRIu64 ",\"failures\":%" PRIu64 ",\"octets\":%" PRIu64
		   ",\"seconds\":%.1f}",
		   m->done, m->failed, m->octets, (peer_now_ms() - m->start_ms) / 1e3);
	peer_print("{\"kinds\":{%s}}", kinds);
}

static int run(struct mix *m)
{
	pthread_t teller, slots[SLOTS_MAX];
	pthread_attr_t attr;
	unsigned n = 0;

	pthread_mutex_init(&m->lock, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	m->start_ms = m->next_ms = peer_now_ms();
	if (m->every_s && pthread_create(&teller, &attr, tell_thread, m) == 0)
		pthread_detach(teller);
	while (n < m->slots && pthread_create(&slots[n], &attr, slot_thread, m) == 0)
		n++;
	if (n < m->slots)
		fprintf(stderr, "peer mix: only %u slots\n", n);
	for (unsigned i = 0; i < n; i++)
		pthread_join(slots[i], NULL);
	report(m);
	return n == 0 || m->failed > 0;
}

/* ---- command line ---- */

/* KIND=WEIGHT,PORT,ADDRESS[,ADDRESS...] */
static bool add_kind(struct mix *m, char *spec)
{
	struct mix_kind *k = &m->kinds[m->n_kinds];
	char *save = NULL, *name = strtok_r(spec, "=", &save);
	char *weight = strtok_r(NULL, ",", &save), *port = strtok_r(NULL, ",", &save), *addr;
	uint64_t number;

	if (m->n_kinds == KINDS_MAX || !port || !peer_size(weight, &number) || number < 1 ||
	    number > 1000000)
		return false;
	for (size_t i = 0; i < sizeof(behaviours) / sizeof(behaviours[0]); i++) {
		if (strcmp(behaviours[i].name, name) == 0) {
			k->name = behaviours[i].name;
			k->run = behaviours[i].run;
		}
	}
	k->weight = (unsigned)number;
	k->addrs = calloc(ADDRS_MAX, sizeof(*k->addrs));
	while (k->run && k->addrs && k->n_addrs < ADDRS_MAX &&
	       (addr = strtok_r(NULL, ",", &save))) {
		struct mix_addr *a = &k->addrs[k->n_addrs++];

		if (!peer_addr(addr, port, &a->sa, &a->len))
			return false;
		snprintf(a->text, sizeof(a->text), "%s %s", addr, port);
	}
	m->weights += k->weight;
	m->n_kinds++;
	return k->n_addrs > 0;
}

static bool take_option(struct mix *m, int opt, const char *arg)
{
	uint64_t v;

	if (opt == '?' || !peer_size(arg, &v) || v > 1000000000)
		return false;
	switch (opt) {
	case 'c':
		m->count = v;
		return true;
	case 'r':
		m->rate = (unsigned)v;
		return v > 0;
	case 's':
		m->seconds = (unsigned)v;
		return true;
	case 'n':
		m->slots = (unsigned)v;
		return v > 0 && v <= SLOTS_MAX;
	case 'e':
		m->every_s = (unsigned)v;
		return true;
	case 'T':
		m->timeout_ms = (unsigned)v;
		return v > 0;
	case 'S':
		m->stay_ms = (unsigned)v;
		return v > 0;
	}
	return false;
}

int peer_mix(const uint8_t *block, int argc, char **argv)
{
	static const struct option longs[] = {
		{"count", 1, NULL, 'c'},   {"rate", 1, NULL, 'r'},  {"seconds", 1, NULL, 's'},
		{"slots", 1, NULL, 'n'},   {"every", 1, NULL, 'e'}, {"timeout-ms", 1, NULL, 'T'},
		{"stay-ms", 1, NULL, 'S'}, {NULL, 0, NULL, 0},
	};
	static struct mix m; /* of the process, as large as it is */
	int opt, rc = 64;
	bool good = true;

	m.block = block;
	m.count = UINT64_MAX;
	m.rate = 100;
	m.slots = 64;
	m.timeout_ms = 30000;
	m.stay_ms = 60000;
	while (good && (opt = getopt_long(argc, argv, "", longs, NULL)) != -1)
		good = take_option(&m, opt, optarg);
	for (; good && optind < argc; optind++)
		good = add_kind(&m, argv[optind]);
	if (!good || m.n_kinds == 0 || (m.count == UINT64_MAX && m.seconds == 0))
		fprintf(stderr, "peer mix: bad use (see peer --help)\n");
	else
		rc = run(&m);
	for (unsigned i = 0; i < m.n_kinds; i++)
		free(m.kinds[i].addrs);
	return rc;
}
