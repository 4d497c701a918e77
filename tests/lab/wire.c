/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A cable between two network namespaces, with delay and rate, where the kernel has no netem. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"

enum {
	EXIT_BAD_USE = 64,
	TX_QUEUE = 16384,            /* frames the kernel may queue for us before it drops */
	IN_FLIGHT_BYTES = 256 << 20, /* bound of our memory for each direction */
	READ_BURST = 256,            /* frames read from one end before the timers are looked at */
	CLIENTS = 8,
	LINE = 256,
	REPLY = 1536,
	REORDER_MS = 15, /* what is overtaken comes so much later */
};

struct frame {
	struct frame *prev, *next;
	uint64_t due_ns; /* when it arrives at the far end */
	size_t len;
	uint8_t data[];
};

/* One direction of the cable. */
struct lane {
	const char *name; /* "a2b" or "b2a" */
	int from, to;     /* TAP descriptors */
	uint64_t delay_ns;
	double ns_per_byte;        /* 0 = no limit */
	uint64_t queue_ns;         /* longest wait for the line before a frame is dropped */
	uint64_t free_at_ns;       /* when the line has sent what it has accepted */
	struct frame *head, *tail; /* on their way, sorted by due_ns */
	size_t in_flight;          /* their bytes */
	bool down;
	uint64_t chance; /* state of the generator: the same seed does the same again */
	uint64_t frames, bytes, queue_drops, down_drops, rule_drops, stripped, replayed;
	uint64_t lost, reordered, duplicated;
};

struct wire {
	struct lane lane[2];
	size_t frame_max;
	bool drop_syn_data, strip_mptcp, strip_mptcp_syn, strip_tfo;
	double loss, reorder, duplicate; /* percent of all frames */
	int64_t replay_ns;      /* the next SYN with payload a->b comes again so much later; -1 */
	struct frame *last_syn; /* copy of the latest SYN with payload a->b */
	int ctl, sig;
	int client[CLIENTS];
};

struct options {
	const char *a, *b, *ctl;
	double delay_ms, rate_mbit, queue_ms;
	long queue_bytes, mtu;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- lanes ---- */

static void lane_init(struct lane *l, const char *name, int from, int to, const struct options *o)
{
	*l = (struct lane){.name = name, .from = from, .to = to};
	l->delay_ns = (uint64_t)(o->delay_ms * 1e6);
	if (o->rate_mbit > 0)
		l->ns_per_byte = 8000.0 / o->rate_mbit;
	l->queue_ns = o->queue_bytes > 0 ? (uint64_t)((double)o->queue_bytes * l->ns_per_byte)
					 : (uint64_t)(o->queue_ms * 1e6);
}

static struct frame *frame_new(const uint8_t *data, size_t len)
{
	struct frame *f = malloc(sizeof(*f) + len);

	if (f) {
		memcpy(f->data, data, len);
		f->len = len;
	}
	return f;
}

/* Frames come almost always in order of their due time: search from the end. */
static void lane_insert(struct lane *l, struct frame *f, uint64_t due_ns)
{
	struct frame *after = l->tail;

	while (after && after->due_ns > due_ns)
		after = after->prev;
	f->due_ns = due_ns;
	f->prev = after;
	f->next = after ? after->next : l->head;
	*(f->next ? &f->next->prev : &l->tail) = f;
	*(after ? &after->next : &l->head) = f;
	l->in_flight += f->len;
}

static void lane_pop(struct lane *l)
{
	struct frame *f = l->head;

	l->head = f->next;
	*(l->head ? &l->head->prev : &l->tail) = NULL;
	l->in_flight -= f->len;
	free(f);
}

/* Whether this one is among so many percent; xorshift64. */
static bool lane_draws(struct lane *l, double percent)
{
	l->chance ^= l->chance << 13;
	l->chance ^= l->chance >> 7;
	l->chance ^= l->chance << 17;
	return (double)(l->chance >> 11) < percent / 100 * (double)(UINT64_C(1) << 53);
}

static void lane_seed(struct lane *l, uint64_t seed)
{
	l->chance = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

/* A frame waits for the line, is serialised, travels, late_ns longer than others; with
 * replay_ns >= 0 a copy follows. */
static void lane_enter(struct lane *l, const uint8_t *data, size_t len, uint64_t now,
		       uint64_t late_ns, int64_t replay_ns)
{
	uint64_t start = l->free_at_ns > now ? l->free_at_ns : now;

	if ((l->ns_per_byte > 0 && start - now > l->queue_ns) ||
	    l->in_flight + len > IN_FLIGHT_BYTES) {
		l->queue_drops++;
		return;
	}
	l->free_at_ns = start + (uint64_t)((double)len * l->ns_per_byte);
	uint64_t due = l->free_at_ns + l->delay_ns + late_ns;
	struct frame *f = frame_new(data, len);
	if (f)
		lane_insert(l, f, due);
	struct frame *again = replay_ns >= 0 ? frame_new(data, len) : NULL;
	if (again) {
		lane_insert(l, again, due + (uint64_t)replay_ns);
		l->replayed++;
	}
}

/* Hands over what has arrived. An interface that is not up loses the frame, like a real one. */
static void lane_deliver(struct lane *l, uint64_t now)
{
	while (l->head && l->head->due_ns <= now) {
		const struct frame *f = l->head;

		if (l->down) {
			l->down_drops++;
		} else if (write(l->to, f->data, f->len) == (ssize_t)f->len) {
			l->frames++;
			l->bytes += f->len;
		} else {
			l->rule_drops++;
		}
		lane_pop(l);
	}
}

/* ---- what happens to a frame at the near end ---- */

static void wire_take(struct wire *w, struct lane *l, uint8_t *data, size_t len)
{
	int64_t replay_ns = -1;
	uint64_t late_ns = 0;

	if (l->down) {
		l->down_drops++;
		return;
	}
	if (w->loss > 0 && lane_draws(l, w->loss)) {
		l->lost++;
		return;
	}
	if (w->reorder > 0 && lane_draws(l, w->reorder)) {
		late_ns = REORDER_MS * UINT64_C(1000000);
		l->reordered++;
	}
	if (w->duplicate > 0 && lane_draws(l, w->duplicate)) {
		replay_ns = 0;
		l->duplicated++;
	}
	if (frame_is_syn_data(data, len)) {
		if (w->drop_syn_data) {
			l->rule_drops++;
			return;
		}
		if (l == &w->lane[0]) {
			free(w->last_syn);
			w->last_syn = frame_new(data, len);
			if (w->replay_ns >= 0)
				replay_ns = w->replay_ns;
			w->replay_ns = -1;
		}
	}
	bool changed = (w->strip_mptcp || (w->strip_mptcp_syn && frame_is_syn(data, len))) &&
		       frame_strip_option(data, len, FRAME_OPT_MPTCP);
	if (w->strip_tfo && frame_strip_option(data, len, FRAME_OPT_TFO))
		changed = true;
	l->stripped += changed;
	lane_enter(l, data, len, now_ns(), late_ns, replay_ns);
}

/* Returns false when the device is gone. */
static bool wire_read(struct wire *w, struct lane *l)
{
	uint8_t data[65536];

	for (int i = 0; i < READ_BURST; i++) {
		ssize_t n = read(l->from, data, w->frame_max);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		wire_take(w, l, data, (size_t)n);
	}
	return true;
}

/* ---- control: one line in, one line out ---- */

static size_t lane_stats(const struct lane *l, char *out, size_t size)
{
	int n = snprintf(out, size,
			 "\"%s\": {\"frames\": %llu, \"bytes\": %llu, \"queue_drops\": %llu, "
			 "\"down_drops\": %llu, \"rule_drops\": %llu, \"stripped\": %llu, "
			 "\"replayed\": %llu, \"lost\": %llu, \"reordered\": %llu, "
			 "\"duplicated\": %llu, \"in_flight\": %zu, \"down\": %s}",
			 l->name, (unsigned long long)l->frames, (unsigned long long)l->bytes,
			 (unsigned long long)l->queue_drops, (unsigned long long)l->down_drops,
			 (unsigned long long)l->rule_drops, (unsigned long long)l->stripped,
			 (unsigned long long)l->replayed, (unsigned long long)l->lost,
			 (unsigned long long)l->reordered, (unsigned long long)l->duplicated,
			 l->in_flight, l->down ? "true" : "false");

	return (size_t)n;
}

static bool wire_stats(const struct wire *w, char *out)
{
	size_t n = (size_t)snprintf(out, REPLY, "{");

	n += lane_stats(&w->lane[0], out + n, REPLY - n);
	n += (size_t)snprintf(out + n, REPLY - n, ", ");
	n += lane_stats(&w->lane[1], out + n, REPLY - n);
	snprintf(out + n, REPLY - n, "}\n");
	return true;
}

static bool set_down(struct wire *w, const char *which, bool down)
{
	bool both = !*which || !strcmp(which, "both"), hit = false;

	for (int i = 0; i < 2; i++) {
		if (both || !strcmp(which, w->lane[i].name)) {
			w->lane[i].down = down;
			hit = true;
		}
	}
	return hit;
}

static bool set_switch(bool *flag, const char *arg)
{
	if (strcmp(arg, "on") != 0 && strcmp(arg, "off") != 0)
		return false;
	*flag = !strcmp(arg, "on");
	return true;
}

static bool number(const char *text, double min, double max, double *out)
{
	char *end;

	*out = strtod(text, &end);
	return end != text && !*end && *out >= min && *out <= max;
}

static bool set_seed(struct wire *w, const char *arg)
{
	double seed;

	if (!number(arg, 0, 1e9, &seed))
		return false;
	for (int i = 0; i < 2; i++)
		lane_seed(&w->lane[i], (uint64_t)seed * 2 + (uint64_t)i);
	return true;
}

static bool arm_replay(struct wire *w, const char *arg)
{
	double ms;

	if (!number(arg, 0, 3600000, &ms))
		return false;
	w->replay_ns = (int64_t)(ms * 1e6);
	return true;
}

static bool inject(struct wire *w)
{
	struct frame *f = w->last_syn ? frame_new(w->last_syn->data, w->last_syn->len) : NULL;

	if (!f)
		return false;
	lane_insert(&w->lane[0], f, now_ns());
	w->lane[0].replayed++;
	return true;
}

static bool strip_mptcp(struct wire *w, const char *arg)
{
	w->strip_mptcp_syn = !strcmp(arg, "syn");
	return w->strip_mptcp_syn ? set_switch(&w->strip_mptcp, "off")
				  : set_switch(&w->strip_mptcp, arg);
}

static bool set_rate(struct wire *w, const char *arg)
{
	double mbit;

	if (!number(arg, 0, 100000, &mbit))
		return false;
	for (int i = 0; i < 2; i++)
		w->lane[i].ns_per_byte = mbit > 0 ? 8000.0 / mbit : 0;
	return true;
}

/* out has REPLY octets. */
static bool wire_command(struct wire *w, const char *cmd, const char *arg, char *out)
{
	snprintf(out, REPLY, "ok\n");
	if (!strcmp(cmd, "stats"))
		return wire_stats(w, out);
	if (!strcmp(cmd, "down"))
		return set_down(w, arg, true);
	if (!strcmp(cmd, "up"))
		return set_down(w, arg, false);
	if (!strcmp(cmd, "replay-syn"))
		return arm_replay(w, arg);
	if (!strcmp(cmd, "inject"))
		return inject(w);
	if (!strcmp(cmd, "drop-syn-data"))
		return set_switch(&w->drop_syn_data, arg);
	if (!strcmp(cmd, "strip-mptcp"))
		return strip_mptcp(w, arg);
	if (!strcmp(cmd, "strip-tfo"))
		return set_switch(&w->strip_tfo, arg);
	if (!strcmp(cmd, "loss"))
		return number(arg, 0, 100, &w->loss);
	if (!strcmp(cmd, "reorder"))
		return number(arg, 0, 100, &w->reorder);
	if (!strcmp(cmd, "duplicate"))
		return number(arg, 0, 100, &w->duplicate);
	if (!strcmp(cmd, "rate"))
		return set_rate(w, arg);
	if (!strcmp(cmd, "seed"))
		return set_seed(w, arg);
	return false;
}

static void wire_accept(struct wire *w)
{
	int fd = accept4(w->ctl, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	for (int i = 0; fd >= 0 && i < CLIENTS; i++) {
		if (w->client[i] < 0) {
			w->client[i] = fd;
			return;
		}
	}
	if (fd >= 0)
		close(fd);
}

/* Our only client writes one short line at once, so a line never comes in two reads. */
static void wire_serve(struct wire *w, int *fd)
{
	char in[LINE], out[REPLY], *save = NULL;
	ssize_t n = read(*fd, in, sizeof(in) - 1);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n > 0) {
		in[n] = '\0';
		const char *cmd = strtok_r(in, " \r\n", &save);
		const char *arg = strtok_r(NULL, " \r\n", &save);
		if (!wire_command(w, cmd ? cmd : "", arg ? arg : "", out))
			snprintf(out, sizeof(out), "error: cannot do '%s %s'\n", cmd ? cmd : "",
				 arg ? arg : "");
		if (write(*fd, out, strlen(out)) > 0)
			return;
	}
	close(*fd);
	*fd = -1;
}

/* ---- event loop ---- */

static struct timespec *next_timeout(const struct wire *w, struct timespec *t)
{
	uint64_t due = UINT64_MAX, now = now_ns();

	for (int i = 0; i < 2; i++) {
		const struct frame *f = w->lane[i].head;

		if (f && f->due_ns < due)
			due = f->due_ns;
	}
	if (due == UINT64_MAX)
		return NULL;
	uint64_t wait = due > now ? due - now : 0;
	t->tv_sec = (time_t)(wait / 1000000000u);
	t->tv_nsec = (long)(wait % 1000000000u);
	return t;
}

static int wire_run(struct wire *w)
{
	for (;;) {
		struct pollfd p[4 + CLIENTS] = {
			{.fd = w->lane[0].from, .events = POLLIN},
			{.fd = w->lane[1].from, .events = POLLIN},
			{.fd = w->sig, .events = POLLIN},
			{.fd = w->ctl, .events = POLLIN},
		};
		struct timespec t;

		for (int i = 0; i < CLIENTS; i++)
			p[4 + i] = (struct pollfd){.fd = w->client[i], .events = POLLIN};
		if (ppoll(p, 4 + CLIENTS, next_timeout(w, &t), NULL) < 0 && errno != EINTR)
			return 1;
		for (int i = 0; i < 2; i++) {
			lane_deliver(&w->lane[i], now_ns());
			if (p[i].revents & POLLIN && !wire_read(w, &w->lane[i]))
				return 1;
			if (p[i].revents & POLLERR && !(p[i].revents & POLLIN))
				return 1; /* the namespace was deleted under us */
		}
		if (p[2].revents)
			return 0;
		if (p[3].revents)
			wire_accept(w);
		for (int i = 0; i < CLIENTS; i++)
			if (p[4 + i].revents)
				wire_serve(w, &w->client[i]);
	}
}

/* ---- set-up ---- */

static int fail(const char *what, const char *name)
{
	fprintf(stderr, "wire: %s %s: %s\n", what, name, strerror(errno));
	return -1;
}

static int link_set(int sk, const char *dev, unsigned long request, int value)
{
	struct ifreq r = {0};

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", dev);
	if (request == SIOCSIFMTU)
		r.ifr_mtu = value;
	else
		r.ifr_qlen = value;
	return ioctl(sk, request, &r);
}

/* Makes the TAP device of NS:IF. Without TUNSETOFFLOAD and without a vnet header the kernel hands
 * over complete frames: checksummed and no longer than the MTU. Leaves us in that namespace. */
static int tap_open(const char *where, int mtu)
{
	char path[128];
	const char *dev = strchr(where, ':');
	struct ifreq r = {.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL)};

	if (!dev || !dev[1] || strlen(dev + 1) >= sizeof(r.ifr_name)) {
		fprintf(stderr, "wire: '%s' is not NAMESPACE:INTERFACE\n", where);
		return -1;
	}
	snprintf(path, sizeof(path), "/run/netns/%.*s", (int)(dev - where), where);
	int ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0)
		return fail("namespace", path);
	int rc = setns(ns, CLONE_NEWNET);
	close(ns);
	if (rc < 0)
		return fail("setns", path);
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return fail("open", "/dev/net/tun");
	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", dev + 1);
	int sk = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sk < 0 || ioctl(fd, TUNSETIFF, &r) < 0 ||
	    link_set(sk, r.ifr_name, SIOCSIFMTU, mtu) < 0 ||
	    link_set(sk, r.ifr_name, SIOCSIFTXQLEN, TX_QUEUE) < 0) {
		fail("interface", where);
		close(fd);
		fd = -1;
	}
	if (sk >= 0)
		close(sk);
	return fd;
}

static int unix_socket(const char *path, bool listening)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd, rc;

	if (strlen(path) >= sizeof(a.sun_path)) {
		errno = ENAMETOOLONG;
		return fail("control socket", path);
	}
	memcpy(a.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail("control socket", path);
	if (listening) {
		unlink(path);
		rc = bind(fd, (struct sockaddr *)&a, sizeof(a));
		if (rc == 0)
			rc = listen(fd, CLIENTS);
	} else {
		rc = connect(fd, (struct sockaddr *)&a, sizeof(a));
	}
	if (rc < 0) {
		fail("control socket", path);
		close(fd);
		return -1;
	}
	return fd;
}

/* wire --send SOCKET COMMAND [ARGUMENT]: the control client. */
static int send_command(const char *path, const char *cmd, const char *arg)
{
	char line[LINE], reply[REPLY];
	int len = snprintf(line, sizeof(line), "%s %s\n", cmd, arg ? arg : "");

	if (len < 0 || (size_t)len >= sizeof(line))
		return EXIT_BAD_USE;
	int fd = unix_socket(path, false);
	if (fd < 0)
		return 1;
	ssize_t n = write(fd, line, (size_t)len) == len ? read(fd, reply, sizeof(reply) - 1) : -1;
	close(fd);
	if (n <= 0) {
		fputs("wire: no answer\n", stderr);
		return 1;
	}
	reply[n] = '\0';
	bool bad = strncmp(reply, "error", 5) == 0;
	fputs(reply, bad ? stderr : stdout);
	return bad;
}

static int usage(void)
{
	fputs("usage: wire --a NS:IF --b NS:IF [--delay-ms D] [--rate-mbit R]\n"
	      "            [--queue-ms Q | --queue-bytes N] [--mtu M] [--ctl SOCKET]\n"
	      "       wire --send SOCKET COMMAND\n"
	      "Joins two new TAP devices; D and R are delay and rate of each direction, Q is the\n"
	      "longest wait for a slow line (100). Commands:\n"
	      "  down|up [a2b|b2a|both]  lose everything silently, in one or both directions\n"
	      "  replay-syn MS           deliver the next SYN with payload a2b twice\n"
	      "  inject                  deliver the latest such SYN once more, now\n"
	      "  drop-syn-data on|off    lose SYNs with payload\n"
	      "  strip-mptcp on|syn|off  replace these TCP options with NOPs; syn: in SYNs only\n"
	      "  strip-tfo on|off\n"
	      "  rate MBIT               of each direction from now on; 0 = no limit\n"
	      "  loss PERCENT            lose so many of all frames\n"
	      "  reorder PERCENT         so many come 15 ms later\n"
	      "  duplicate PERCENT       so many come twice\n"
	      "  seed N                  the same seed draws the same lots (1)\n"
	      "  stats                   counters as JSON\n",
	      stderr);
	return EXIT_BAD_USE;
}

static bool set_option(struct options *o, int c, const char *arg)
{
	double v = 0;
	bool good = true;

	switch (c) {
	case 'a':
		o->a = arg;
		break;
	case 'b':
		o->b = arg;
		break;
	case 'c':
		o->ctl = arg;
		break;
	case 'd':
		return number(arg, 0, 60000, &o->delay_ms);
	case 'r':
		return number(arg, 0, 100000, &o->rate_mbit);
	case 'q':
		return number(arg, 0, 60000, &o->queue_ms);
	case 'Q':
		good = number(arg, 1, 1e9, &v);
		o->queue_bytes = (long)v;
		break;
	case 'm':
		good = number(arg, 68, 65000, &v);
		o->mtu = (long)v;
		break;
	default:
		return false;
	}
	return good;
}

static bool parse(struct options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{"a", 1, NULL, 'a'},         {"b", 1, NULL, 'b'},
		{"ctl", 1, NULL, 'c'},       {"delay-ms", 1, NULL, 'd'},
		{"rate-mbit", 1, NULL, 'r'}, {"queue-ms", 1, NULL, 'q'},
		{"mtu", 1, NULL, 'm'},       {"queue-bytes", 1, NULL, 'Q'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
		if (!set_option(o, c, optarg))
			return false;
	return optind == argc && o->a && o->b;
}

/* Signals come as a descriptor. */
static int signals_open(void)
{
	sigset_t stop;

	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &stop, SFD_CLOEXEC);
}

static bool wire_open(struct wire *w, const struct options *o)
{
	for (int i = 0; i < CLIENTS; i++)
		w->client[i] = -1;
	w->sig = signals_open();
	w->ctl = o->ctl ? unix_socket(o->ctl, true) : -1;
	if (w->sig < 0 || (o->ctl && w->ctl < 0))
		return false;
	int a = tap_open(o->a, (int)o->mtu);
	int b = a < 0 ? -1 : tap_open(o->b, (int)o->mtu);
	if (b < 0)
		return false;
	lane_init(&w->lane[0], "a2b", a, b, o);
	lane_init(&w->lane[1], "b2a", b, a, o);
	set_seed(w, "1");
	w->frame_max = (size_t)o->mtu + 64;
	w->replay_ns = -1;
	return true;
}

static void wire_close(struct wire *w, const struct options *o)
{
	for (int i = 0; i < 2; i++) {
		while (w->lane[i].head)
			lane_pop(&w->lane[i]);
		close(w->lane[i].from);
	}
	free(w->last_syn);
	if (o->ctl)
		unlink(o->ctl);
}

int main(int argc, char **argv)
{
	struct options o = {.queue_ms = 100, .mtu = 1500};
	struct wire w = {0};

	if ((argc == 4 || argc == 5) && !strcmp(argv[1], "--send"))
		return send_command(argv[2], argv[3], argv[4]);
	if (!parse(&o, argc, argv))
		return usage();
	if (!wire_open(&w, &o))
		return 1;
	prctl(PR_SET_TIMERSLACK, 1UL); /* nanoseconds; the usual 50 us add up */
	puts("ready");
	fflush(stdout);
	int rc = wire_run(&w);
	wire_close(&w, &o);
	return rc;
}
