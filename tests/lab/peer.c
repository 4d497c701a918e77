/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Servers and clients of the lab. The clients print one JSON line for each attempt. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "peer_io.h"

enum { EXIT_BAD_USE = 64, FLOWS_MAX = 4096, FIRST_MAX = 65536 };

struct client {
	struct peer_sock sock;
	const uint8_t *block;
	struct sockaddr_storage sa;
	socklen_t sa_len;
	/* probe */
	uint8_t first[FIRST_MAX];
	size_t first_len;
	uint64_t want; /* stop after so many octets; UINT64_MAX = at the end */
	bool server_first, shut, reset;
	unsigned repeat, hold_ms;
	/* duplex */
	uint64_t up, down;
	unsigned flows;
};

static const char *json_bool(bool b)
{
	return b ? "true" : "false";
}

static void pause_ms(unsigned ms)
{
	const struct timespec t = {.tv_sec = (time_t)(ms / 1000),
				   .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&t, NULL);
}

/* ---- probe: one connection, timed from before connect() ---- */

struct probe {
	double start, connected, first, done;
	uint64_t octets;
	char said[64]; /* the beginning of what the server said, printable characters only */
	int error;
	const char *end;
	struct peer_facts facts;
};

static void probe_keep(struct probe *p, const uint8_t *data, size_t n)
{
	for (size_t i = 0; i < n && p->octets + i < sizeof(p->said) - 1; i++)
		p->said[p->octets + i] =
			(char)(data[i] < 32 || data[i] > 126 || strchr("\"\\", data[i]) ? '.'
											: data[i]);
}

/* Reads up to the wanted number of octets; keeps time. */
static void probe_read(struct probe *p, int fd, uint64_t want)
{
	uint8_t data[65536];

	p->end = "want";
	while (p->octets < want) {
		uint64_t left = want - p->octets;
		ssize_t n =
			peer_read_some(fd, data, left < sizeof(data) ? (size_t)left : sizeof(data));

		if (n <= 0) {
			p->error = n < 0 ? errno : 0;
			p->end = n < 0 ? peer_errno(errno) : "eof";
			return;
		}
		if (p->first == 0)
			p->first = peer_now_ms();
		probe_keep(p, data, (size_t)n);
		p->octets += (uint64_t)n;
	}
}

static void probe_talk(const struct client *c, struct probe *p, int fd, bool said)
{
	if (c->server_first && c->first_len > 0)
		probe_read(p, fd, 1);
	if (p->error)
		return;
	if (!said && peer_write(fd, c->first, c->first_len) < 0) {
		p->error = errno;
		p->end = peer_errno(errno);
		return;
	}
	if (c->shut)
		shutdown(fd, SHUT_WR);
	probe_read(p, fd, c->want);
}

static void probe_run(const struct client *c, struct probe *p)
{
	bool in_syn = c->sock.tfo && !c->server_first;

	*p = (struct probe){.start = peer_now_ms(), .end = ""};
	int fd = peer_connect(&c->sa, c->sa_len, &c->sock, c->first, in_syn ? c->first_len : 0);
	if (fd < 0) {
		p->error = errno;
		p->end = peer_errno(errno);
		p->done = peer_now_ms();
		return;
	}
	p->connected = peer_now_ms();
	probe_talk(c, p, fd, in_syn);
	p->done = peer_now_ms();
	peer_facts(fd, &p->facts);
	if (c->hold_ms)
		pause_ms(c->hold_ms);
	if (c->reset)
		peer_reset(fd);
	else
		close(fd);
}

static double since(const struct probe *p, double when)
{
	return when > 0 ? when - p->start : -1;
}

static int run_probe(struct client *c)
{
	int rc = 0;

	for (unsigned i = 0; i < c->repeat; i++) {
		struct probe p;

		probe_run(c, &p);
		peer_print("{\"connect_ms\":%.3f,\"first_byte_ms\":%.3f,\"total_ms\":%.3f,"
			   "\"octets\":%" PRIu64 ",\"end\":\"%s\",\"mptcp\":%s,\"subflows\":%d,"
			   "\"syn_data\":%s,\"said\":\"%s\"}",
			   since(&p, p.connected), since(&p, p.first), since(&p, p.done), p.octets,
			   p.end, json_bool(p.facts.mptcp), p.facts.subflows,
			   json_bool(p.facts.syn_data), p.said);
		if (p.error)
			rc = 1;
	}
	return rc;
}

/* ---- duplex and halfclose: both directions at once ---- */

struct flow {
	const struct client *c;
	uint64_t seed;
	int fd;
	int error;       /* errno; 0 = none */
	int send_error;  /* the sending thread's */
	const char *why; /* what is wrong, NULL = all is well */
	struct stream_got got;
	struct peer_facts facts;
	double start, connected, done;
};

static void *flow_send(void *arg)
{
	struct flow *f = arg;

	if (stream_send(f->fd, f->c->block, f->seed, f->c->up) < 0)
		f->send_error = errno;
	/* A half-closed MPTCP connection opens no more subflows: not at once in a mere download. */
	if (f->c->up > 0)
		shutdown(f->fd, SHUT_WR);
	return NULL;
}

static void flow_fail(struct flow *f, const char *why, int error)
{
	if (!f->why) {
		f->why = why;
		f->error = error;
	}
}

static void flow_check(struct flow *f, uint64_t expected)
{
	if (f->got.error)
		flow_fail(f, "reading", f->got.error);
	else if (f->got.octets != expected)
		flow_fail(f, "stream ended early", 0);
	else if (f->got.bad_at != UINT64_MAX)
		flow_fail(f, "octets differ", 0);
}

/* What the server has to say after the stream: it got everything unharmed. */
static void duplex_tail(struct flow *f)
{
	uint8_t tail[DUPLEX_TAIL], extra;

	if (f->why)
		return;
	if (peer_read(f->fd, tail, sizeof(tail)) < 0)
		flow_fail(f, "no verdict from the server", errno);
	else if (get64(tail) != f->c->up || tail[8] != 1)
		flow_fail(f, "the server got something else", 0);
	else if (peer_read_some(f->fd, &extra, 1) != 0)
		flow_fail(f, "no end after the verdict", errno);
}

static void echo_tail(struct flow *f)
{
	char want[48];
	uint8_t tail[64];
	int n = snprintf(want, sizeof(want), "end %" PRIu64 "\n", f->c->up);

	if (f->why)
		return;
	if (peer_read(f->fd, tail, (size_t)n) < 0)
		flow_fail(f, "no trailer after our end", errno);
	else if (memcmp(tail, want, (size_t)n) != 0 || peer_read_some(f->fd, tail, 1) != 0)
		flow_fail(f, "wrong trailer", 0);
}

/* Sends while it reads; then the far end's last words. */
static void flow_run(struct flow *f, const uint8_t *first, size_t first_len, uint64_t down_seed,
		     uint64_t down, void (*tail)(struct flow *f))
{
	pthread_t sender;

	f->start = peer_now_ms();
	f->fd = peer_connect(&f->c->sa, f->c->sa_len, &f->c->sock, first, first_len);
	if (f->fd < 0) {
		flow_fail(f, "connecting", errno);
		return;
	}
	f->connected = peer_now_ms();
	if (pthread_create(&sender, NULL, flow_send, f) != 0) {
		flow_fail(f, "thread", ENOMEM);
		close(f->fd);
		return;
	}
	stream_recv(f->fd, f->c->block, down_seed, down, &f->got);
	flow_check(f, down);
	if (f->why) /* do not let the sender wait for a peer that is gone */
		shutdown(f->fd, SHUT_RDWR);
	else if (f->c->up == 0)
		shutdown(f->fd, SHUT_WR);
	tail(f);
	peer_facts(f->fd, &f->facts);
	pthread_join(sender, NULL);
	f->done = peer_now_ms();
	/* Of a reset the kernel tells one of the two only; the other one sees a mere end. */
	if (f->send_error == ECONNRESET && f->why && f->error == 0)
		f->why = NULL;
	if (f->send_error)
		flow_fail(f, "writing", f->send_error);
	close(f->fd);
}

static void *duplex_thread(void *arg)
{
	struct flow *f = arg;
	struct duplex_head h = {.up = f->c->up, .down = f->c->down, .seed = f->seed};
	uint8_t head[DUPLEX_HEAD];

	duplex_head_put(head, &h);
	flow_run(f, head, sizeof(head), f->seed + 1, f->c->down, duplex_tail);
	return NULL;
}

static void *halfclose_thread(void *arg)
{
	struct flow *f = arg;

	flow_run(f, NULL, 0, f->seed, f->c->up, echo_tail);
	return NULL;
}

static double max_of(double a, double b)
{
	return a > b ? a : b;
}

static int flows_report(const struct client *c, const struct flow *f)
{
	double ms = 0, gap = 0, connect_ms = 0, first = 0;
	const struct flow *bad = NULL;
	unsigned good = 0;
	int mptcp = 0, subflows = 0;

	for (unsigned i = 0; i < c->flows; i++) {
		ms = max_of(ms, f[i].done - f[0].start);
		gap = max_of(gap, f[i].got.max_gap_ms);
		connect_ms = max_of(connect_ms, f[i].connected - f[i].start);
		first = max_of(first, f[i].got.first_ms - f[i].start);
		mptcp += f[i].facts.mptcp;
		if (f[i].facts.subflows > subflows)
			subflows = f[i].facts.subflows;
		if (f[i].why && !bad)
			bad = &f[i];
		good += !f[i].why;
	}
	double flows_bits_per_ms = ms > 0 ? 8. * (double)good / ms : 0;
	peer_print("{\"flows\":%u,\"good\":%u,\"up\":%" PRIu64 ",\"down\":%" PRIu64
		   ",\"ms\":%.1f,\"up_mbit\":%.2f,\"down_mbit\":%.2f,\"connect_ms\":%.3f,"
		   "\"first_byte_ms\":%.3f,\"max_gap_ms\":%.1f,\"mptcp\":%d,\"subflows\":%d,"
		   "\"seed\":%" PRIu64 ",\"error\":\"%s%s%s\"}",
		   c->flows, good, c->up, c->down, ms, flows_bits_per_ms * (double)c->up / 1e3,
		   flows_bits_per_ms * (double)c->down / 1e3, connect_ms, first, gap, mptcp,
		   subflows, f[0].seed, bad ? bad->why : "", bad && bad->error ? ": " : "",
		   bad && bad->error ? peer_errno(bad->error) : "");
	return bad ? 1 : 0;
}

static int run_flows(struct client *c, void *(*thread)(void *))
{
	struct flow *f = calloc(c->flows, sizeof(*f));
	pthread_t *t = calloc(c->flows, sizeof(*t));
	pthread_attr_t attr;
	int rc = 1;

	if (!f || !t)
		goto out;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * 1024);
	double now = peer_now_ms();
	for (unsigned i = 0; i < c->flows; i++) {
		f[i] = (struct flow){.c = c, .fd = -1, .start = now, .connected = now, .done = now};
		f[i].got.first_ms = now;
		f[i].seed = (uint64_t)getpid() * 7919 + (uint64_t)i * 104729;
		if (pthread_create(&t[i], &attr, thread, &f[i]) != 0) {
			perror("peer: thread");
			exit(1);
		}
	}
	for (unsigned i = 0; i < c->flows; i++)
		pthread_join(t[i], NULL);
	rc = flows_report(c, f);
	pthread_attr_destroy(&attr);
out:
	free(f);
	free(t);
	return rc;
}

static int run_duplex(struct client *c)
{
	return run_flows(c, duplex_thread);
}

static int run_halfclose(struct client *c)
{
	c->down = c->up;
	return run_flows(c, halfclose_thread);
}

/* ---- command line ---- */

static const struct {
	const char *name;
	int (*run)(struct client *c);
} commands[] = {{"probe", run_probe}, {"duplex", run_duplex}, {"halfclose", run_halfclose}};

static int usage(void)
{
	fputs("usage: peer serve [--mptcp] [--tfo] [--transparent] [--pace-kbit N] "
	      "SERVICE:PORT...\n"
	      "         http banner echo duplex silent origdst\n"
	      "         reset:PORT[:READ[:SEND]]   reads, sends, resets\n"
	      "         shutfirst:PORT[:SEND]      sends, half-closes, reads on\n"
	      "       peer probe [OPTION...] ADDRESS PORT     one connection, timed\n"
	      "         --get PATH | --send TEXT | --send-octets N   what we say (default: "
	      "nothing)\n"
	      "         --server-first  say it only after the server's first octet\n"
	      "         --want N  stop after N octets   --shut  half-close after speaking\n"
	      "         --reset  end with a reset       --hold-ms N  stay before ending\n"
	      "         --repeat N\n"
	      "       peer duplex [--up N] [--down N] [--flows N] ADDRESS PORT\n"
	      "       peer halfclose [--up N] [--flows N] ADDRESS PORT    to an echo service\n"
	      "       peer mix [--count N] [--seconds N] [--rate N] [--slots N] [--every SECONDS]\n"
	      "                [--timeout-ms N] [--stay-ms N] "
	      "KIND=WEIGHT,PORT,ADDRESS[,ADDRESS...] ...\n"
	      "         mixed traffic; a line for each connection that fails, totals at the end\n"
	      "         KIND: get keep slow abort (http); upload (duplex); halfclose (echo); "
	      "reset;\n"
	      "               banner; idle stay (silent); empty; dead (nobody is there)\n"
	      "  all clients: [--mptcp] [--tfo] [--mark N] [--pace-kbit N] [--timeout-ms N (for "
	      "each read or write)]\n"
	      "  numbers may end in k, M, G\n",
	      stderr);
	return EXIT_BAD_USE;
}

static bool small_number(const char *text, unsigned max, unsigned *out)
{
	uint64_t v;

	if (!peer_size(text, &v) || v > max)
		return false;
	*out = (unsigned)v;
	return true;
}

static bool set_first(struct client *c, const char *before, const char *arg, const char *after)
{
	int n = snprintf((char *)c->first, sizeof(c->first), "%s%s%s", before, arg, after);

	c->first_len = n < 0 ? 0 : (size_t)n;
	return n >= 0 && (size_t)n < sizeof(c->first);
}

static bool set_first_octets(struct client *c, const char *arg)
{
	uint64_t n;

	if (!peer_size(arg, &n) || n > FIRST_MAX)
		return false;
	memcpy(c->first, pattern_at(c->block, 0, 0), (size_t)n);
	c->first_len = (size_t)n;
	return true;
}

static bool set_first_hex(struct client *c, const char *arg)
{
	char pair[3] = "";
	char *end;

	for (c->first_len = 0; arg[0] && arg[1] && c->first_len < FIRST_MAX; arg += 2) {
		memcpy(pair, arg, 2);
		c->first[c->first_len++] = (uint8_t)strtoul(pair, &end, 16);
		if (end != pair + 2)
			return false;
	}
	return !*arg;
}

static bool set_option(struct client *c, int opt, const char *arg)
{
	switch (opt) {
	case 'm':
		return c->sock.mptcp = true;
	case 't':
		return c->sock.tfo = true;
	case 'x':
		return c->sock.transparent = true;
	case 'M':
		return small_number(arg, UINT32_MAX, &c->sock.mark);
	case 'T':
		return small_number(arg, 3600000, &c->sock.timeout_ms);
	case 'p':
		return small_number(arg, 10000000, &c->sock.pace_kbit);
	case 'g':
		return set_first(c, "GET ", arg,
				 " HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n");
	case 's':
		return set_first(c, "", arg, "");
	case 'S':
		return set_first_octets(c, arg);
	case 'X':
		return set_first_hex(c, arg);
	case 'f':
		return c->server_first = true;
	case 'w':
		return peer_size(arg, &c->want);
	case 'h':
		return c->shut = true;
	case 'R':
		return c->reset = true;
	case 'H':
		return small_number(arg, 3600000, &c->hold_ms);
	case 'r':
		return small_number(arg, 1000000, &c->repeat);
	case 'u':
		return peer_size(arg, &c->up);
	case 'd':
		return peer_size(arg, &c->down);
	case 'F':
		return small_number(arg, FLOWS_MAX, &c->flows) && c->flows > 0;
	}
	return false;
}

static bool parse(struct client *c, int argc, char **argv)
{
	static const struct option longs[] = {
		{"mptcp", 0, NULL, 'm'},        {"tfo", 0, NULL, 't'},
		{"timeout-ms", 1, NULL, 'T'},   {"get", 1, NULL, 'g'},
		{"send", 1, NULL, 's'},         {"send-octets", 1, NULL, 'S'},
		{"server-first", 0, NULL, 'f'}, {"want", 1, NULL, 'w'},
		{"shut", 0, NULL, 'h'},         {"reset", 0, NULL, 'R'},
		{"hold-ms", 1, NULL, 'H'},      {"repeat", 1, NULL, 'r'},
		{"up", 1, NULL, 'u'},           {"down", 1, NULL, 'd'},
		{"flows", 1, NULL, 'F'},        {"transparent", 0, NULL, 'x'},
		{"send-hex", 1, NULL, 'X'},     {"mark", 1, NULL, 'M'},
		{"pace-kbit", 1, NULL, 'p'},    {NULL, 0, NULL, 0},
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1)
		if (!set_option(c, opt, optarg))
			return false;
	return true;
}

static int dispatch(struct client *c, const char *name, int argc, char **argv)
{
	if (!strcmp(name, "serve"))
		return argc > 0 ? peer_serve(&c->sock, c->block, argv, argc) : usage();
	if (argc != 2 || !peer_addr(argv[0], argv[1], &c->sa, &c->sa_len))
		return usage();
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(name, commands[i].name))
			return commands[i].run(c);
	return usage();
}

int main(int argc, char **argv)
{
	uint8_t *block = pattern_new();
	struct client *c = calloc(1, sizeof(*c));
	int rc = EXIT_BAD_USE;

	if (!block || !c) {
		perror("peer");
		rc = 1;
		goto out;
	}
	signal(SIGPIPE, SIG_IGN);
	c->block = block;
	c->want = UINT64_MAX;
	c->repeat = c->flows = 1;
	c->sock.timeout_ms = 60000;
	if (argc > 1 && !strcmp(argv[1], "mix"))
		rc = peer_mix(block, argc - 1, argv + 1);
	else if (argc < 2 || !parse(c, argc - 1, argv + 1))
		usage();
	else
		rc = dispatch(c, argv[1], argc - 1 - optind, argv + 1 + optind);
out:
	free(block);
	free(c);
	return rc;
}
