/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/script.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"

#define START_WAIT_MS 10000
#define STOP_WAIT_MS  5000
#define PATH_DEFAULT  "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define GUARD_FD      3

struct script {
	pid_t guard;
	int fd; /* a socket; the guard's end is all it knows of us */
	bool in_place, ipset;
	char *path;
};

/* ---- the guard: a process of its own, and root; no logging, no allocation, no input ---- */

struct orders {
	char *const *start, *const *stop, *const *env;
	bool foreground;
};

/* The exit code, or 128 and the signal as a shell says it. */
static int run(char *const argv[], char *const env[])
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		execve("/bin/sh", argv, env);
		_exit(127);
	}
	if (pid < 0)
		return EX_OSERR;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return EX_OSERR;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Only standard error and our socket stay: the daemon's listeners must not live on in us. */
static void keep_only(int fd)
{
	int null;

	if (fd != GUARD_FD)
		dup3(fd, GUARD_FD, O_CLOEXEC);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
#ifdef SYS_close_range
	if (syscall(SYS_close_range, GUARD_FD + 1, ~0U, 0) == 0)
		return;
#endif
	for (long i = GUARD_FD + 1, n = sysconf(_SC_OPEN_MAX); i < n; i++)
		close((int)i);
}

/* What is meant for the daemon, for the whole service or for the terminal does not end us, nor the
 * scripts (what is ignored stays so over exec; PIPE because standard error may be one). */
static void be_deaf(void)
{
	static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2};

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	setsid();
	prctl(PR_SET_NAME, "sixpath-guard"); /* not found by who looks for the daemon's name */
}

/* The guard of a daemon that has just been killed may still be at its `stop`, which must not take
 * away our rules. One guard in a network namespace at a time; the lock ends with its process. */
static void wait_for_predecessor(void)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && flock(fd, LOCK_EX) < 0 && errno == EINTR)
		;
}

static void tell(int code)
{
	unsigned char octet = (unsigned char)code;

	while (write(GUARD_FD, &octet, 1) < 0 && errno == EINTR)
		;
}

/* True at the end of the daemon, or of its wish. */
static bool ended(int flags)
{
	char octet;
	ssize_t n;

	do
		n = recv(GUARD_FD, &octet, 1, flags);
	while (n > 0 || (n < 0 && errno == EINTR));
	return n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

static _Noreturn void guard(int fd, const struct orders *o)
{
	int code;

	be_deaf();
	keep_only(fd);
	if (chdir("/") < 0)
		_exit(EX_OSERR);
	wait_for_predecessor();
	if (ended(MSG_DONTWAIT))
		_exit(EX_OK);
	code = run(o->start, o->env);
	if (!o->foreground) /* the terminal's, until the daemon is up */
		dup2(STDOUT_FILENO, STDERR_FILENO);
	tell(code);
	if (code == 0)
		ended(0);
	code = run(o->stop, o->env); /* also after half a start */
	tell(code);
	_exit(code);
}

/* ---- the daemon's side ---- */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* The next exit code from the guard, -ETIMEDOUT, or -EPIPE when it has ended. */
static int hear(int fd, int64_t until_ms)
{
	unsigned char octet;
	ssize_t n;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = until_ms - now_ms();
		int rc = poll(&p, 1, left > 0 ? (int)left : 0);
		if (rc == 0)
			return -ETIMEDOUT;
		if (rc < 0 && errno == EINTR)
			continue;
		n = read(fd, &octet, 1);
		if (n == 1)
			return octet;
		if (n == 0 || errno != EINTR)
			return -EPIPE;
	}
}

static const char *search_path(void)
{
	const char *path = getenv("PATH");

	return path && *path ? path : PATH_DEFAULT;
}

static bool installed(const char *program)
{
	const char *at = search_path();
	char file[256];

	while (*at) {
		size_t len = strcspn(at, ":");
		int n = snprintf(file, sizeof(file), "%.*s/%s", (int)len, at, program);
		if (len > 0 && n > 0 && (size_t)n < sizeof(file) && access(file, X_OK) == 0)
			return true;
		at += len + (at[len] == ':');
	}
	return false;
}

/* What an administrator could type. */
static void log_command(char *const argv[])
{
	char *text = NULL;
	size_t len = 0;
	FILE *f;

	if (!log_enabled(LVL_INFO))
		return;
	f = open_memstream(&text, &len);
	if (!f)
		return;
	for (size_t i = 0; argv[i]; i++)
		fprintf(f, "%s%s", i ? " " : "", *argv[i] ? argv[i] : "\"\"");
	if (fclose(f) == 0)
		log_info("rules: %s", text);
	free(text);
}

static int fork_guard(struct script *s, char *const start[], bool foreground)
{
	char stop_word[] = "stop";
	char *const stop[] = {start[0], start[1], stop_word, NULL};
	char *path;
	int fds[2], rc = 0;

	if (asprintf(&path, "PATH=%s", search_path()) < 0)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
		rc = -errno;
		free(path);
		return rc;
	}
	s->guard = fork();
	if (s->guard == 0) {
		char *const env[] = {path, NULL};
		guard(fds[1], &(struct orders){start, stop, env, foreground});
	}
	if (s->guard < 0)
		rc = -errno;
	close(fds[1]);
	free(path);
	if (rc < 0)
		close(fds[0]);
	else
		s->fd = fds[0];
	return rc;
}

/* What has come of `start`. */
static void judge(struct script *s)
{
	int code = hear(s->fd, now_ms() + START_WAIT_MS);

	s->in_place = code == 0;
	if (s->in_place) {
		log_notice("rules: those of %s are in place", s->path);
		return;
	}
	shutdown(s->fd, SHUT_WR); /* what it still does, it undoes */
	if (code == -ETIMEDOUT)
		log_error("rules: nothing is captured: %s is not done after %d s (or another "
			  "sixpath-redir has rules here)",
			  s->path, START_WAIT_MS / 1000);
	else if (code < 0)
		log_error("rules: nothing is captured: the guard has been killed; to be sure: sh "
			  "%s stop",
			  s->path);
	else
		log_error("rules: nothing is captured: %s has failed with exit code %d", s->path,
			  code);
}

static void script_free(struct script *s)
{
	free(s->path);
	free(s);
}

struct script *script_start(const struct redir_conf *c, bool foreground)
{
	struct script_has has = {installed("iptables-restore"), installed("nft"),
				 installed("ipset")};
	enum script_kind kind = script_choose(c, &has);
	struct script *s;
	char **argv;
	int rc = -ENOMEM;

	if (kind == SCRIPT_NONE) {
		if (redir_conf_by_script(c))
			log_error("rules: nothing is captured: neither iptables nor nft is "
				  "installed");
		return NULL;
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->ipset = script_learned(c, kind, &has);
	argv = script_argv(c, kind, s->ipset);
	s->path = argv ? strdup(argv[1]) : NULL;
	if (s->path && access(s->path, R_OK) < 0)
		rc = -errno;
	else if (s->path)
		rc = fork_guard(s, argv, foreground);
	if (rc < 0) {
		log_error("rules: nothing is captured: %s: %s", s->path ? s->path : "script",
			  strerror(-rc));
		script_argv_free(argv);
		script_free(s);
		return NULL;
	}
	if (kind == SCRIPT_IPTABLES && c->action != BYPASS_RELAY && !s->ipset)
		log_notice("rules: the program ipset is not installed: as with action = relay");
	log_command(argv);
	script_argv_free(argv);
	judge(s);
	return s;
}

void script_stop(struct script *s)
{
	int64_t until = now_ms() + STOP_WAIT_MS;
	int code, last = -EPIPE;

	if (!s)
		return;
	shutdown(s->fd, SHUT_WR);
	while ((code = hear(s->fd, until)) >= 0)
		last = code;
	if (code == -ETIMEDOUT)
		log_warning("rules: %s stop is not done after %d s; the guard (process %ld) goes "
			    "on with it",
			    s->path, STOP_WAIT_MS / 1000, (long)s->guard);
	else if (s->in_place && last != 0)
		log_error("rules: some may be left (%s): sh %s stop",
			  last < 0 ? "the guard has been killed" : "the script has failed",
			  s->path);
	else if (s->in_place)
		log_info("rules: %s has taken its rules away", s->path);
	if (code == -EPIPE && s->guard > 0)
		while (waitpid(s->guard, NULL, 0) < 0 && errno == EINTR)
			;
	close(s->fd);
	script_free(s);
}

bool script_in_place(const struct script *s)
{
	return s && s->in_place;
}

bool script_ipset(const struct script *s)
{
	return script_in_place(s) && s->ipset;
}

int script_fd(const struct script *s)
{
	return script_in_place(s) ? s->fd : -1;
}

struct script *script_adopt(int fd, const struct redir_conf *c)
{
	struct script_has has = {installed("iptables-restore"), installed("nft"),
				 installed("ipset")};
	enum script_kind kind = script_choose(c, &has);
	struct script *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->fd = fd;
	s->in_place = true;
	s->ipset = kind != SCRIPT_NONE && script_learned(c, kind, &has);
	s->path = strdup("the script"); /* what it was told to do is the guard's to know */
	if (s->path)
		return s;
	free(s);
	return NULL;
}

void script_leave(struct script *s)
{
	if (!s)
		return;
	close(s->fd);
	script_free(s);
}
