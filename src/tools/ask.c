/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#define LINE_MAX_OCTETS 1024 /* the daemon takes no longer one */
#define WAIT_S          15   /* the daemon itself gives up after 10 */

struct answer {
	char *text;
	size_t len, cap;
};

static int cannot_reach(const char *path, int err)
{
	const char *daemon = strstr(path, "proxy") ? "sixpath-proxy" : "sixpath-redir";

	fprintf(stderr, "sixpathctl: cannot reach %s: %s\n", path, strerror(err));
	switch (err) {
	case EACCES:
	case EPERM:
		fputs("run it as root, or as a member of the group of the daemon\n", stderr);
		return EX_NOPERM;
	case ENOENT:
	case ECONNREFUSED:
		fprintf(stderr,
			"is %s running? \"%s -f\" shows what keeps it from starting; another "
			"socket: -s SOCKET\n",
			daemon, daemon);
		return EX_UNAVAILABLE;
	case EAGAIN:
		fputs("the daemon is too busy to answer; try again\n", stderr);
		return EX_TEMPFAIL;
	default:
		return EX_UNAVAILABLE;
	}
}

/* A connected socket, or -errno. */
static int dial_daemon(const char *path)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct timeval wait = {.tv_sec = WAIT_S};
	int fd;

	if (strlen(path) >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	memcpy(sun.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0 ||
	    connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0) {
		int err = errno;
		close(fd);
		return -err;
	}
	return fd;
}

/* The command line, or 0 when it does not fit or a word would be taken apart. */
static size_t make_line(char *line, size_t cap, bool json, char *const *words)
{
	size_t len = 0;

	for (int i = 0; words[i]; i++) {
		for (const char *c = words[i]; *c; c++)
			if ((unsigned char)*c <= ' ' || *c == 0x7f)
				return 0;
		int n = snprintf(line + len, cap - len, "%s%s%s", i ? " " : "", words[i],
				 i == 0 && json ? " --json" : "");
		if (n < 0 || (size_t)n >= cap - len - 1)
			return 0;
		len += (size_t)n;
	}
	line[len++] = '\n';
	return len;
}

static int send_line(int fd, const char *line, size_t len)
{
	while (len) {
		ssize_t n = send(fd, line, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		line += n;
		len -= (size_t)n;
	}
	return 0;
}

/* All until the end of file: the daemon waits for nobody who pages through the output. */
static int read_answer(int fd, struct answer *a)
{
	for (;;) {
		ssize_t n;
		if (a->cap - a->len < 4096) {
			size_t cap = a->cap ? 2 * a->cap : 16384;
			char *p = realloc(a->text, cap);
			if (!p)
				return -ENOMEM;
			a->text = p;
			a->cap = cap;
		}
		n = recv(fd, a->text + a->len, a->cap - a->len - 1, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		a->len += (size_t)n;
		a->text[a->len] = '\0';
		if (n == 0)
			return 0;
	}
}

static int print_answer(const struct answer *a)
{
	if (strncmp(a->text, "error ", 6) == 0) {
		fprintf(stderr, "sixpathctl: %.*s\n", (int)strcspn(a->text + 6, "\n"), a->text + 6);
		return 1;
	}
	if (strncmp(a->text, "ok\n", 3) != 0) {
		fputs("sixpathctl: what answers there does not speak our protocol\n", stderr);
		return EX_PROTOCOL;
	}
	if (fwrite(a->text + 3, 1, a->len - 3, stdout) != a->len - 3 || fflush(stdout) != 0) {
		fprintf(stderr, "sixpathctl: cannot write the answer: %s\n", strerror(errno));
		return EX_IOERR;
	}
	return 0;
}

/* 0 with an answer, or -errno. */
static int exchange(int fd, const char *line, size_t len, struct answer *a)
{
	int rc = send_line(fd, line, len);

	/* one that is refused early may be told why: read even if the sending failed */
	if (rc == 0 || rc == -EPIPE)
		rc = read_answer(fd, a);
	if (rc == -EWOULDBLOCK)
		rc = -EAGAIN;
	return rc == 0 && a->len == 0 ? -ENODATA : rc;
}

static int talk(int fd, const char *line, size_t len)
{
	struct answer a = {0};
	int rc = exchange(fd, line, len, &a);

	if (rc == -EAGAIN) {
		fprintf(stderr, "sixpathctl: no answer within %d seconds\n", WAIT_S);
		rc = EX_TEMPFAIL;
	} else if (rc < 0) {
		fprintf(stderr, "sixpathctl: the daemon broke off: %s\n",
			rc != -ENODATA ? strerror(-rc) : "no answer");
		rc = EX_TEMPFAIL;
	} else {
		rc = print_answer(&a);
	}
	free(a.text);
	return rc;
}

int ask(const char *path, bool json, char *const *words)
{
	char line[LINE_MAX_OCTETS];
	size_t len = make_line(line, sizeof(line), json, words);
	int fd, rc;

	if (len == 0) {
		fputs("sixpathctl: arguments must have no blanks, and be short\n", stderr);
		return EX_USAGE;
	}
	fd = dial_daemon(path);
	if (fd < 0)
		return cannot_reach(path, -fd);
	rc = talk(fd, line, len);
	close(fd);
	return rc;
}

int ask_json(const char *path, const char *command, char **json)
{
	char word[64], line[LINE_MAX_OCTETS];
	char *words[] = {word, NULL};
	struct answer a = {0};
	size_t len;
	int fd, rc;

	*json = NULL;
	if ((size_t)snprintf(word, sizeof(word), "%s", command) >= sizeof(word))
		return -EINVAL;
	len = make_line(line, sizeof(line), true, words);
	if (len == 0)
		return -EINVAL;
	fd = dial_daemon(path);
	if (fd < 0)
		return fd;
	rc = exchange(fd, line, len, &a);
	close(fd);
	if (rc == 0 && strncmp(a.text, "ok\n", 3) == 0)
		*json = strdup(a.text + 3);
	else if (rc == 0)
		rc = strncmp(a.text, "error ", 6) == 0 ? -EOPNOTSUPP : -EPROTO;
	free(a.text);
	return rc == 0 && !*json ? -ENOMEM : rc;
}
