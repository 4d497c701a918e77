/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "core/list.h"
#include "core/log.h"
#include "core/notify.h"
#include "core/priv.h"
#include "core/worker.h"

#define FIRST_FD    3 /* SD_LISTEN_FDS_START */
#define FDS_MAX     4096
#define READY_S     30.0 /* for the successor to get ready */
#define RELEASE_S   10.0 /* for the predecessor to let go */
#define CHANNEL_ENV "SIXPATH_HANDOVER"
#define EXTRA_ENV   "SIXPATH_EXTRA"
#define ENV_ROWS    4 /* of ours at most */

/* ---- what we were given ---- */

static long env_number(const char *name)
{
	const char *text = getenv(name);
	char *end;
	long n;

	if (!text || !*text)
		return -1;
	errno = 0;
	n = strtol(text, &end, 10);
	return errno || *end || n < 0 || n > INT_MAX ? -1 : n;
}

static void env_clear(void)
{
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDNAMES");
	unsetenv(CHANNEL_ENV);
	unsetenv(EXTRA_ENV);
}

static int get_int(int fd, int option)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 ? value : -1;
}

static bool is_for_us(int fd)
{
	int type = get_int(fd, SO_TYPE);

	return type == SOCK_STREAM ? get_int(fd, SO_ACCEPTCONN) == 1
				   : type == SOCK_DGRAM && get_int(fd, SO_PROTOCOL) == IPPROTO_UDP;
}

static bool prepare(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
	       fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

int inherited_read(struct inherited *in)
{
	long pid = env_number("LISTEN_PID"), n = env_number("LISTEN_FDS");
	long channel = env_number(CHANNEL_ENV), extra = env_number(EXTRA_ENV);

	memset(in, 0, sizeof(*in));
	in->channel = in->extra = -1;
	env_clear();
	if (pid != getpid() || n < 0 || n > FDS_MAX)
		return 0; /* for somebody else */
	in->fd = calloc((size_t)n + 1, sizeof(*in->fd));
	in->used = calloc((size_t)n + 1, sizeof(*in->used));
	if (!in->fd || !in->used)
		return -ENOMEM;
	for (int fd = FIRST_FD; fd < FIRST_FD + n; fd++) {
		if (prepare(fd) && is_for_us(fd)) {
			in->fd[in->n++] = fd;
			continue;
		}
		log_warning("descriptor %d that we were given is no listening socket", fd);
		close(fd);
	}
	if (channel >= FIRST_FD && prepare((int)channel))
		in->channel = (int)channel;
	if (in->channel >= 0 && extra >= FIRST_FD && fcntl((int)extra, F_SETFD, FD_CLOEXEC) == 0)
		in->extra = (int)extra;
	return 0;
}

/* Is number j of m one for this worker? All are somebody's; with too few several share one. */
static bool is_mine(size_t j, size_t m, unsigned index, unsigned of)
{
	return m >= of ? j % of == index : j == index % m;
}

static bool bound_to(int fd, int type, const struct addr *at)
{
	struct addr local;

	return get_int(fd, SO_TYPE) == type && addr_of_socket(fd, &local) == 0 &&
	       addr_equal(&local, at);
}

static bool has(const struct inherited *in, int type, const struct addr *at)
{
	for (size_t i = 0; i < in->n; i++)
		if (bound_to(in->fd[i], type, at))
			return true;
	return false;
}

bool inherited_has(const struct inherited *in, const struct addr *at)
{
	return has(in, SOCK_STREAM, at);
}

bool inherited_has_datagram(const struct inherited *in, const struct addr *at)
{
	return has(in, SOCK_DGRAM, at);
}

static size_t share(struct inherited *in, int type, const struct addr *at, unsigned index,
		    unsigned of, int *out, size_t cap)
{
	size_t m = 0, j = 0, n = 0;

	for (size_t i = 0; i < in->n; i++)
		m += bound_to(in->fd[i], type, at);
	for (size_t i = 0; i < in->n; i++) {
		if (!bound_to(in->fd[i], type, at))
			continue;
		in->used[i] = true;
		if (n < cap && is_mine(j, m, index, of)) {
			out[n] = fcntl(in->fd[i], F_DUPFD_CLOEXEC, FIRST_FD);
			n += out[n] >= 0;
		}
		j++;
	}
	return n;
}

size_t inherited_share(struct inherited *in, const struct addr *at, unsigned index, unsigned of,
		       int *out, size_t cap)
{
	return share(in, SOCK_STREAM, at, index, of, out, cap);
}

int inherited_datagram(struct inherited *in, const struct addr *at, unsigned index, unsigned of)
{
	int fd;

	return share(in, SOCK_DGRAM, at, index, of, &fd, 1) == 1 ? fd : -1;
}

void inherited_free(struct inherited *in, bool tell_unused)
{
	struct addr at;
	char text[ADDR_STRLEN];

	for (size_t i = 0; i < in->n; i++) {
		if (tell_unused && !in->used[i] && addr_of_socket(in->fd[i], &at) == 0)
			log_warning("the socket at %s that we were given is not used: \"listen\" "
				    "does not name it",
				    addr_str(&at, text, sizeof(text)));
		close(in->fd[i]);
	}
	free(in->fd);
	free(in->used);
	in->fd = NULL;
	in->used = NULL;
	in->n = 0;
}

/* ---- the channel ---- */

static void tell(int fd, char what)
{
	ssize_t n;

	do
		n = send(fd, &what, 1, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
}

static void forget(struct handover *h)
{
	ev_io_stop(h->w->loop, &h->io);
	ev_timer_stop(h->w->loop, &h->limit);
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
	h->w = NULL;
}

static void kill_child(struct handover *h)
{
	if (h->child <= 0)
		return;
	kill(h->child, SIGKILL);
	while (waitpid(h->child, NULL, 0) < 0 && errno == EINTR)
		;
	h->child = 0;
}

/* It has told nothing, so it was not ready: how did it end? */
static void explain_failure(struct handover *h)
{
	const struct timespec pause = {.tv_nsec = 10000000};
	int status = 0;
	pid_t got = 0;

	/* It is most likely on its way out: its end of the channel is closed. */
	for (int i = 0; i < 30 && got == 0; i++) {
		got = waitpid(h->child, &status, WNOHANG);
		if (got == 0)
			nanosleep(&pause, NULL);
	}

	if (got == h->child && WIFEXITED(status))
		log_error("restart: the successor has ended with exit code %d (see above); this "
			  "process goes on",
			  WEXITSTATUS(status));
	else
		log_error("restart: the successor did not get ready; this process goes on");
	if (got == h->child)
		h->child = 0;
}

static void answer(struct handover *h, bool there)
{
	ev_io_stop(h->w->loop, &h->io);
	ev_timer_stop(h->w->loop, &h->limit);
	if (h->child > 0 && !there) {
		explain_failure(h);
		kill_child(h);
	}
	if (h->child <= 0) /* nothing is left to say; else handover_release does */
		forget(h);
	h->said(h->ctx, there);
}

static void channel_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct handover *h = container_of(io, struct handover, io);
	char c;
	ssize_t n = recv(h->fd, &c, 1, 0);

	(void)loop;
	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return;
	answer(h, n == 1);
}

static void limit_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	answer(container_of(t, struct handover, limit), false);
}

static void watch(struct handover *h, struct worker *w, int fd, double limit_s, handover_fn *said,
		  void *ctx)
{
	h->w = w;
	h->fd = fd;
	h->said = said;
	h->ctx = ctx;
	ev_io_init(&h->io, channel_cb, fd, EV_READ);
	ev_io_start(w->loop, &h->io);
	ev_timer_init(&h->limit, limit_cb, limit_s, 0.);
	ev_timer_start(w->loop, &h->limit);
}

/* ---- predecessor ---- */

struct plan {
	const char *program;
	char *const *argv;
	char **envp; /* ours, allocated, then those we have */
	char *own[ENV_ROWS];
	char *pid; /* in envp: where the child writes its own number */
	int *fds;  /* the sockets, then the channel, then the extra one */
	size_t n;
};

#define PID_ROOM "LISTEN_PID=          "

static bool env_is_ours(const char *e)
{
	return strncmp(e, "LISTEN_", 7) == 0 ||
	       strncmp(e, CHANNEL_ENV "=", sizeof(CHANNEL_ENV)) == 0 ||
	       strncmp(e, EXTRA_ENV "=", sizeof(EXTRA_ENV)) == 0;
}

static void plan_free(struct plan *p)
{
	for (size_t i = 0; i < ENV_ROWS; i++)
		free(p->own[i]);
	free(p->envp);
	free(p->fds);
}

static bool own_env(struct plan *p, size_t row, const char *name, size_t number)
{
	if (asprintf(&p->own[row], "%s=%zu", name, number) < 0)
		p->own[row] = NULL;
	return p->own[row] != NULL;
}

static int plan_make(struct plan *p, const int *fds, size_t n, int channel, int extra)
{
	extern char **environ;
	size_t k = 0, have = 0;

	while (environ[have])
		have++;
	p->envp = calloc(have + ENV_ROWS + 1, sizeof(*p->envp));
	p->fds = calloc(n + 2, sizeof(*p->fds));
	if (!p->envp || !p->fds)
		return -ENOMEM;
	p->own[0] = strdup(PID_ROOM);
	if (!p->own[0] || !own_env(p, 1, "LISTEN_FDS", n) ||
	    !own_env(p, 2, CHANNEL_ENV, n + FIRST_FD) ||
	    (extra >= 0 && !own_env(p, 3, EXTRA_ENV, n + 1 + FIRST_FD)))
		return -ENOMEM;
	p->pid = p->own[0] + strlen("LISTEN_PID=");
	for (size_t i = 0; i < ENV_ROWS; i++)
		if (p->own[i])
			p->envp[k++] = p->own[i];
	for (size_t i = 0; i < have; i++)
		if (!env_is_ours(environ[i]))
			p->envp[k++] = environ[i];
	if (n > 0)
		memcpy(p->fds, fds, n * sizeof(*fds));
	p->fds[n] = channel;
	p->fds[n + 1] = extra;
	p->n = n + 1 + (extra >= 0);
	return 0;
}

/* Decimal, without what is not allowed between fork and exec. */
static void write_number(char *out, long v)
{
	char digits[24];
	size_t n = 0;

	do
		digits[n++] = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	while (n > 0)
		*out++ = digits[--n];
	*out = '\0';
}

/* In the child of a process with threads: system calls and nothing else. */
static _Noreturn void become_successor(const struct plan *p, const sigset_t *mask)
{
	static const int ours[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};

	/* First out of the way of the numbers they are to have, then there. */
	for (size_t i = 0; i < p->n; i++) {
		p->fds[i] = fcntl(p->fds[i], F_DUPFD_CLOEXEC, FIRST_FD + (int)p->n);
		if (p->fds[i] < 0)
			_exit(EX_OSERR);
	}
	for (size_t i = 0; i < p->n; i++)
		if (dup2(p->fds[i], FIRST_FD + (int)i) < 0)
			_exit(EX_OSERR);
	priv_pass_on();
	write_number(p->pid, getpid());
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		signal(ours[i], SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execve(p->program, p->argv, p->envp);
	_exit(EX_UNAVAILABLE);
}

static pid_t spawn(const struct plan *p)
{
	sigset_t all, old;
	pid_t pid;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = fork();
	if (pid == 0)
		become_successor(p, &old);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return pid;
}

int handover_begin(struct handover *h, struct worker *main_worker, const char *program,
		   char *const *argv, const int *fds, size_t n, int extra, handover_fn *said,
		   void *ctx)
{
	struct plan p = {.program = program, .argv = argv};
	int channel[2], rc;

	if (handover_runs(h))
		return -EBUSY;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, channel) < 0)
		return -errno;
	rc = plan_make(&p, fds, n, channel[1], extra);
	if (rc == 0) {
		h->child = spawn(&p);
		if (h->child < 0)
			rc = -errno;
	}
	plan_free(&p);
	close(channel[1]);
	if (rc < 0) {
		h->child = 0;
		close(channel[0]);
		return rc;
	}
	watch(h, main_worker, channel[0], READY_S, said, ctx);
	return 0;
}

void handover_release(struct handover *h)
{
	notify_main_pid(h->child);
	tell(h->fd, 'G');
	h->child = 0; /* goes on without us */
	forget(h);
}

/* ---- successor ---- */

void handover_join(struct handover *h, struct worker *main_worker, int channel, handover_fn *said,
		   void *ctx)
{
	h->child = 0;
	tell(channel, 'R');
	watch(h, main_worker, channel, RELEASE_S, said, ctx);
}

void handover_end(struct handover *h)
{
	if (!handover_runs(h))
		return;
	kill_child(h);
	forget(h);
}
