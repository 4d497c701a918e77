/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/tune_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/savefile.h"

#define HEAD_MAX 160
#define ROW_MAX  (TUNE_KEY_MAX + 48)
#define FILE_MAX 16384

/* Where and since when this kernel runs for us; false if that cannot be told. */
static bool here_and_now(char *buf, size_t cap)
{
	char boot[64], ns[64];
	ssize_t n, m;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	n = read(fd, boot, sizeof(boot) - 1);
	close(fd);
	m = readlink("/proc/self/ns/net", ns, sizeof(ns) - 1);
	if (n <= 0 || m <= 0)
		return false;
	boot[n] = ns[m] = '\0';
	boot[strcspn(boot, "\n")] = '\0';
	return (size_t)snprintf(buf, cap, "sixpath-tune 1 %s %s\n", boot, ns) < cap;
}

int tune_file_save(const char *path, const struct tune_saved *v, size_t n)
{
	size_t cap = HEAD_MAX + n * ROW_MAX, len;
	char *text;
	int rc;

	if (n == 0)
		return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
	text = malloc(cap);
	if (!text)
		return -ENOMEM;
	if (!here_and_now(text, HEAD_MAX)) {
		free(text);
		return -ENOENT;
	}
	len = strlen(text);
	for (size_t i = 0; i < n; i++)
		len += (size_t)snprintf(text + len, cap - len, "%s %" PRId64 " %" PRId64 "\n",
					v[i].key, v[i].was, v[i].set);
	rc = savefile_replace(path, text, len, 0644); /* a successor is not root */
	free(text);
	return rc;
}

/* NULL = there is none. To be freed. */
static char *read_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	char *text = fd >= 0 ? malloc(FILE_MAX) : NULL;
	ssize_t n = text ? read(fd, text, FILE_MAX - 1) : -1;

	if (fd >= 0)
		close(fd);
	if (n <= 0) {
		free(text);
		return NULL;
	}
	text[n] = '\0';
	return text;
}

static bool parse_number(const char **at, char end, int64_t *value)
{
	char *stop;

	errno = 0;
	*value = strtoll(*at, &stop, 10);
	if (errno || stop == *at || *stop != end)
		return false;
	*at = stop + 1;
	return true;
}

static bool parse_line(const char **at, struct tune_saved *s)
{
	size_t n = strcspn(*at, " \n");

	if (n == 0 || n >= sizeof(s->key) || (*at)[n] != ' ')
		return false;
	memcpy(s->key, *at, n);
	s->key[n] = '\0';
	*at += n + 1;
	return parse_number(at, ' ', &s->was) && parse_number(at, '\n', &s->set);
}

size_t tune_file_load(const char *path, struct tune_saved *v, size_t cap)
{
	char head[HEAD_MAX], *text = read_file(path);
	const char *at = text;
	size_t n = 0;

	if (text && here_and_now(head, sizeof(head)) && strncmp(text, head, strlen(head)) == 0) {
		at += strlen(head);
		while (n < cap && *at && parse_line(&at, &v[n]))
			n++;
	}
	free(text);
	return n;
}
