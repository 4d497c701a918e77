/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/learned_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/savefile.h"
#include "redir/learned_text.h"

#define FILE_MAX ((size_t)128 << 20) /* octets; twice LEARNED_MAX_MAX usual lines fit */

static int fail(int error, const char *what, char *msg, size_t cap)
{
	char text[96];

	snprintf(msg, cap, "%s: %s", what, strerror_r(error, text, sizeof(text)));
	return -error;
}

int learned_file_save(struct learned *l, const char *path, double now_s, uint64_t wall_s, char *msg,
		      size_t cap)
{
	char *text = NULL;
	size_t len = 0;
	int rc;

	msg[0] = '\0';
	rc = learned_text_format(l, now_s, wall_s, &text, &len);
	if (rc == 0)
		rc = savefile_replace(path, text, len, 0600);
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
