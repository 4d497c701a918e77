/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/prompt.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <termios.h>
#include <unistd.h>

/* The terminal without echo, with the signals that would leave it so held back. */
struct quiet {
	struct termios before;
	sigset_t signals, old;
	int fd; /* of the signals */
};

static bool echo_off(struct quiet *q)
{
	struct termios off = q->before;

	off.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);
	return tcsetattr(STDIN_FILENO, TCSAFLUSH, &off) == 0;
}

static bool quiet_begin(struct quiet *q)
{
	static const int held[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};

	sigemptyset(&q->signals);
	for (size_t i = 0; i < sizeof(held) / sizeof(held[0]); i++)
		sigaddset(&q->signals, held[i]);
	if (tcgetattr(STDIN_FILENO, &q->before) < 0)
		return false;
	q->fd = signalfd(-1, &q->signals, SFD_CLOEXEC);
	if (q->fd < 0)
		return false;
	sigprocmask(SIG_BLOCK, &q->signals, &q->old);
	if (echo_off(q))
		return true;
	sigprocmask(SIG_SETMASK, &q->old, NULL);
	close(q->fd);
	return false;
}

static void quiet_end(struct quiet *q)
{
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &q->before);
	sigprocmask(SIG_SETMASK, &q->old, NULL);
	close(q->fd);
}

/* Let the signal do its work on a terminal that is as it was; most do not return. */
static void take_signal(struct quiet *q)
{
	struct signalfd_siginfo info;

	if (read(q->fd, &info, sizeof(info)) != sizeof(info))
		return;
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &q->before);
	raise((int)info.ssi_signo);
	sigprocmask(SIG_SETMASK, &q->old, NULL);
	sigprocmask(SIG_BLOCK, &q->signals, NULL);
	echo_off(q);
}

/* One line without its end. Length, or -1 at the end of file, -2 if too long or with NUL. */
static int read_line(char *out, size_t cap, struct quiet *q, const char *question)
{
	size_t len = 0;
	bool bad = false;

	for (;;) {
		struct pollfd p[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
				      {.fd = q ? q->fd : -1, .events = POLLIN}};
		char c;
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return -1;
		if (p[1].revents) {
			take_signal(q);
			fputs(question, stderr);
			len = 0;
			continue;
		}
		if (!p[0].revents)
			continue;
		ssize_t n = read(STDIN_FILENO, &c, 1);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0 && len == 0)
			return -1;
		if (n <= 0 || c == '\n')
			break;
		if (c == '\0' || len == cap - 1)
			bad = true;
		else
			out[len++] = c;
	}
	out[len] = '\0';
	return bad ? -2 : (int)len;
}

static int check(int len, size_t cap)
{
	if (len > 0)
		return 0;
	if (len == -2)
		fprintf(stderr, "sixpathctl: the password must be 1 to %zu octets, without NUL\n",
			cap - 1);
	else
		fputs("sixpathctl: no password was given\n", stderr);
	return len == -2 ? EX_DATAERR : EX_NOINPUT;
}

static int ask_twice(char *out, size_t cap, struct quiet *q)
{
	static const char first[] = "Password: ", second[] = "Once more: ";
	char *again = calloc(1, cap);
	int rc;

	if (!again)
		return EX_OSERR;
	fputs(first, stderr);
	rc = check(read_line(out, cap, q, first), cap);
	fputs("\n", stderr);
	if (rc == 0) {
		fputs(second, stderr);
		read_line(again, cap, q, second);
		fputs("\n", stderr);
		if (strcmp(out, again) != 0) {
			fputs("sixpathctl: the two differ: nothing was changed\n", stderr);
			rc = EX_DATAERR;
		}
	}
	explicit_bzero(again, cap);
	free(again);
	return rc;
}

int prompt_password(char *out, size_t cap)
{
	struct quiet q;
	int rc;

	if (!isatty(STDIN_FILENO))
		return check(read_line(out, cap, NULL, ""), cap);
	if (!quiet_begin(&q)) {
		fprintf(stderr, "sixpathctl: cannot switch off the echo: %s\n", strerror(errno));
		return EX_OSERR;
	}
	rc = ask_twice(out, cap, &q);
	quiet_end(&q);
	return rc;
}
