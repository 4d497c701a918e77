/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/learned_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "redir/learned_text.h"

#define FILE_MAX ((size_t)128 << 20) /* octets; twice LEARNED_MAX_MAX usual lines fit */

static int fail(int error, const char *what, char *msg, size_t cap)
{
	char text[96];

	snprintf(msg, cap, "%s: %s", what, strerror_r(error, text, sizeof(text)));
	return -error;
}

static int write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		len -= (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* A rename is on the disk when its directory is. */
static int sync_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	int fd, rc = 0;

	if (!dir)
		return -ENOMEM;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		rc = -errno;
	if (fd >= 0)
		close(fd);
	free(dir);
	return rc;
}

/* Writes text to the new file temp. */
static int write_temp(const char *temp, const char *text, size_t len)
{
	int fd, rc;

	if (unlink(temp) < 0 && errno != ENOENT) /* of a save that was killed */
		return -errno;
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = write_all(fd, text, len);
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	return rc;
}

int learned_file_save(struct learned *l, const char *path, double now_s, uint64_t wall_s, char *msg,
		      size_t cap)
{
	char *text = NULL, *temp = NULL;
	size_t len = 0;
	int rc;

	msg[0] = '\0';
	rc = learned_text_format(l, now_s, wall_s, &text, &len);
	if (rc == 0 && asprintf(&temp, "%s.new", path) < 0) {
		temp = NULL;
		rc = -ENOMEM;
	}
	if (rc == 0)
		rc = write_temp(temp, text, len);
	if (rc == 0 && rename(temp, path) < 0)
		rc = -errno;
	if (rc < 0 && temp)
		unlink(temp);
	if (rc == 0)
		rc = sync_directory(path);
	free(temp);
	free(text);
	return rc < 0 ? fail(-rc, "cannot save the learned servers", msg, cap) : 0;
}

/* The whole file, to be freed. */
static int read_all(int fd, char **text, size_t *len)
{
	struct stat st;
	size_t cap, got = 0;
	ssize_t n = 1;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (st.st_size < 0 || (uint64_t)st.st_size > FILE_MAX)
		return -EFBIG;
	cap = (size_t)st.st_size;
	*text = malloc(cap + 1);
	if (!*text)
		return -ENOMEM;
	while (got < cap && n != 0) {
		n = read(fd, *text + got, cap - got);
		if (n < 0 && errno != EINTR) {
			int rc = -errno;
			free(*text);
			return rc;
		}
		if (n > 0)
			got += (size_t)n;
	}
	*len = got;
	return 0;
}

int learned_file_load(struct learned *l, const char *path, double now_s, uint64_t wall_s, char *msg,
		      size_t cap)
{
	char *text = NULL, why[LEARNED_TEXT_MSG];
	size_t len = 0;
	int fd, rc;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a FIFO must not hold us */
	if (fd < 0 && errno == ENOENT) {
		snprintf(msg, cap, "no servers were saved");
		return -ENOENT;
	}
	rc = fd < 0 ? -errno : read_all(fd, &text, &len);
	if (fd >= 0)
		close(fd);
	if (rc < 0)
		return fail(-rc, "cannot read the learned servers", msg, cap);
	rc = learned_text_take(l, text, len, now_s, wall_s, why, sizeof(why));
	if (rc < 0)
		snprintf(msg, cap, "the learned servers are not taken, %s", why);
	else
		snprintf(msg, cap, "%s", why);
	free(text);
	return rc;
}
