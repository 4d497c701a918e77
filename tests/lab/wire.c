/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A link with a delay and a rate between two network namespaces, for kernels without netem.
 *
 *   wire --a NS:IF --b NS:IF --delay-ms D [--rate-mbit R] [--queue-bytes Q] [--control PATH]
 *
 * Makes a TAP device at each end and carries frames both ways, each direction on its own:
 * a drop-tail queue, serialisation at R, then D milliseconds of propagation. TAPs without
 * offloads make the kernel finish checksums and segments, so each frame is what a real link
 * would carry; none is ever changed. Ends on SIGTERM; the TAPs vanish with it.
 *
 * Commands, one per datagram on the unix socket PATH:
 *   down a2b|b2a|both   lose everything, silently        up
 *   drop-syn-data on|off   lose SYNs that have a payload, a to b
 *   keep-syn               keep a copy of the next such SYN
 *   inject                 deliver the kept copy at b once more
 *   stats                  answered with "a2b FRAMES OCTETS DROPPED b2a ... kept 0|1"
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX    2048
#define QUEUE_OCTETS 262144 /* default room for frames waiting for their turn */

struct frame {
	struct frame *next;
	int64_t due_ns; /* when it comes out at the other end */
	size_t len;
	uint8_t data[];
};

struct direction {
	int in, out; /* descriptors of the TAPs */
	struct frame *head, **tail;
	int64_t busy_ns; /* until then the link is sending */
	bool down;
	uint64_t frames, octets, dropped;
};

struct wire {
	struct direction a2b, b2a;
	int64_t delay_ns;
	double ns_per_octet; /* 0 = no rate */
	size_t queue_octets;
	int control;
	bool drop_syn_data, keep_next;
	uint8_t kept[FRAME_MAX];
	size_t kept_len;
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "wire: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* A TAP called IF in namespace NS; spec is "NS:IF". */
static int open_tap(const char *spec)
{
	const char *colon = strchr(spec, ':');
	char path[256];
	struct ifreq ifr;
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), ns, fd;

	if (!colon || home < 0)
		die(spec);
	snprintf(path, sizeof(path), "/run/netns/%.*s", (int)(colon - spec), spec);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWNET) < 0)
		die(path);
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		die("/dev/net/tun");
	memset(&ifr, 0, sizeof(ifr));
	ifr.ifr_flags = IFF_TAP | IFF_NO_PI;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", colon + 1);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETOFFLOAD, 0L) < 0)
		die(spec);
	if (setns(home, CLONE_NEWNET) < 0)
		die("setns");
	close(ns);
	close(home);
	return fd;
}

/* The offset of the TCP header, or 0 if the frame carries none. */
static size_t tcp_offset(const uint8_t *p, size_t len)
{
	size_t at;

	if (len < 54)
		return 0;
	if (p[12] == 0x08 && p[13] == 0x00 && p[23] == 6)
		at = 14 + (size_t)(p[14] & 15) * 4;
	else if (p[12] == 0x86 && p[13] == 0xdd && p[20] == 6)
		at = 54;
	else
		return 0;
	return at + 20 <= len ? at : 0;
}

static bool is_syn_with_data(const uint8_t *p, size_t len)
{
	size_t at = tcp_offset(p, len), ip_len;

	if (!at || (p[at + 13] & 0x17) != 0x02)
		return false;
	ip_len = p[12] == 0x08 ? (size_t)(p[16] << 8 | p[17]) + 14
			       : (size_t)(p[18] << 8 | p[19]) + 54;
	return ip_len <= len && at + (size_t)(p[at + 12] >> 4) * 4 < ip_len;
}

static void enqueue(struct wire *w, struct direction *d, const uint8_t *data, size_t len,
		    int64_t now)
{
	double backlog = d->busy_ns > now ? (double)(d->busy_ns - now) : 0;
	struct frame *f;

	if (w->ns_per_octet > 0 && backlog / w->ns_per_octet > (double)w->queue_octets) {
		d->dropped++;
		return;
	}
	f = malloc(sizeof(*f) + len);
	if (!f)
		die("malloc");
	if (d->busy_ns < now)
		d->busy_ns = now;
	d->busy_ns += (int64_t)(w->ns_per_octet * (double)len);
	f->due_ns = d->busy_ns + w->delay_ns;
	f->len = len;
	f->next = NULL;
	memcpy(f->data, data, len);
	*d->tail = f;
	d->tail = &f->next;
}

static void take_in(struct wire *w, struct direction *d)
{
	uint8_t data[FRAME_MAX];
	ssize_t n;

	for (int i = 0; i < 256 && (n = read(d->in, data, sizeof(data))) > 0; i++) {
		size_t len = (size_t)n;
		bool syn = d == &w->a2b && is_syn_with_data(data, len);

		if (syn && w->keep_next) {
			memcpy(w->kept, data, len);
			w->kept_len = len;
			w->keep_next = false;
		}
		if (d->down || (syn && w->drop_syn_data))
			d->dropped++;
		else
			enqueue(w, d, data, len, now_ns());
	}
}

static void let_out(struct direction *d, int64_t now)
{
	struct frame *f;

	while ((f = d->head) && f->due_ns <= now) {
		if (write(d->out, f->data, f->len) == (ssize_t)f->len) {
			d->frames++;
			d->octets += f->len;
		} else {
			d->dropped++; /* the other end is down */
		}
		d->head = f->next;
		if (!d->head)
			d->tail = &d->head;
		free(f);
	}
}

static void command(struct wire *w)
{
	struct sockaddr_un from;
	socklen_t len = sizeof(from);
	char text[256], answer[256] = "ok";
	ssize_t n = recvfrom(w->control, text, sizeof(text) - 1, 0, (struct sockaddr *)&from, &len);

	if (n < 0)
		return;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (strcmp(text, "down a2b") == 0 || strcmp(text, "down both") == 0)
		w->a2b.down = true;
	if (strcmp(text, "down b2a") == 0 || strcmp(text, "down both") == 0)
		w->b2a.down = true;
	else if (strcmp(text, "up") == 0)
		w->a2b.down = w->b2a.down = false;
	else if (strncmp(text, "drop-syn-data ", 14) == 0)
		w->drop_syn_data = strcmp(text + 14, "on") == 0;
	else if (strcmp(text, "keep-syn") == 0) {
		w->keep_next = true;
		w->kept_len = 0;
	} else if (strcmp(text, "inject") == 0) {
		if (w->kept_len)
			enqueue(w, &w->a2b, w->kept, w->kept_len, now_ns());
		else
			snprintf(answer, sizeof(answer), "error nothing kept");
	} else if (strcmp(text, "stats") == 0)
		snprintf(answer, sizeof(answer), "a2b %llu %llu %llu b2a %llu %llu %llu kept %d",
			 (unsigned long long)w->a2b.frames, (unsigned long long)w->a2b.octets,
			 (unsigned long long)w->a2b.dropped, (unsigned long long)w->b2a.frames,
			 (unsigned long long)w->b2a.octets, (unsigned long long)w->b2a.dropped,
			 w->kept_len > 0);
	else if (strncmp(text, "down", 4) != 0)
		snprintf(answer, sizeof(answer), "error unknown command");
	if (len > sizeof(sa_family_t))
		sendto(w->control, answer, strlen(answer), 0, (struct sockaddr *)&from, len);
}

static int open_control(const char *path)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		die(path);
	return fd;
}

static void run(struct wire *w)
{
	struct pollfd p[3] = {
		{w->a2b.in, POLLIN, 0}, {w->b2a.in, POLLIN, 0}, {w->control, POLLIN, 0}};

	while (!stop) {
		int64_t now = now_ns(), next = now + 1000000000;
		struct timespec left;

		let_out(&w->a2b, now);
		let_out(&w->b2a, now);
		if (w->a2b.head && w->a2b.head->due_ns < next)
			next = w->a2b.head->due_ns;
		if (w->b2a.head && w->b2a.head->due_ns < next)
			next = w->b2a.head->due_ns;
		left.tv_sec = (next - now) / 1000000000;
		left.tv_nsec = (next - now) % 1000000000;
		if (ppoll(p, w->control >= 0 ? 3 : 2, &left, NULL) < 0)
			continue;
		if (p[0].revents & POLLIN)
			take_in(w, &w->a2b);
		if (p[1].revents & POLLIN)
			take_in(w, &w->b2a);
		if (p[2].revents & POLLIN)
			command(w);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"a", required_argument, NULL, 'a'},
		{"b", required_argument, NULL, 'b'},
		{"delay-ms", required_argument, NULL, 'd'},
		{"rate-mbit", required_argument, NULL, 'r'},
		{"queue-bytes", required_argument, NULL, 'q'},
		{"control", required_argument, NULL, 'c'},
		{NULL, 0, NULL, 0},
	};
	struct wire w = {.queue_octets = QUEUE_OCTETS, .control = -1};
	const char *a = NULL, *b = NULL;
	double rate = 0;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'a')
			a = optarg;
		else if (c == 'b')
			b = optarg;
		else if (c == 'd')
			w.delay_ns = (int64_t)(atof(optarg) * 1e6);
		else if (c == 'r')
			rate = atof(optarg);
		else if (c == 'q')
			w.queue_octets = strtoul(optarg, NULL, 10);
		else if (c == 'c')
			w.control = open_control(optarg);
		else
			return 64;
	}
	if (!a || !b) {
		fprintf(stderr, "wire: --a NS:IF and --b NS:IF are needed\n");
		return 64;
	}
	if (rate > 0)
		w.ns_per_octet = 8e3 / rate;
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	prctl(PR_SET_TIMERSLACK, 1000L); /* a microsecond, not the usual fifty */
	w.a2b.in = w.b2a.out = open_tap(a);
	w.b2a.in = w.a2b.out = open_tap(b);
	w.a2b.tail = &w.a2b.head;
	w.b2a.tail = &w.b2a.head;
	puts("ready");
	fflush(stdout);
	run(&w);
	return 0;
}
