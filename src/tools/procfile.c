/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/procfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX (1u << 20)

char *procfile_read(const char *path)
{
	size_t len = 0, cap = 4096;
	char *text = malloc(cap);
	int fd = open(path, O_RDONLY | O_CLOEXEC), err = text ? errno : ENOMEM;
	ssize_t n = -1;

	while (text && fd >= 0) {
		if (len + 1 == cap) {
			char *p = cap < FILE_MAX ? realloc(text, 2 * cap) : NULL;
			if (!p) {
				n = 0; /* what there is will do */
				break;
			}
			text = p;
			cap *= 2;
		}
		n = read(fd, text + len, cap - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		err = errno;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (fd >= 0)
		close(fd);
	if (n < 0) {
		free(text);
		errno = err;
		return NULL;
	}
	text[len] = '\0';
	return text;
}

/* The line after this one, or NULL. */
static const char *next_line(const char *line)
{
	const char *end = strchr(line, '\n');

	return end && end[1] ? end + 1 : NULL;
}

/* What stands behind "GROUP:" at the start of the line, or NULL. */
static const char *behind(const char *line, const char *group)
{
	size_t len = strlen(group);

	return strncmp(line, group, len) == 0 && line[len] == ':' ? line + len + 1 : NULL;
}

/* The next word of a line: its length, 0 at the end; *p moves behind it. */
static size_t word(const char **p, const char **start)
{
	size_t len;

	*p += strspn(*p, " \t");
	*start = *p;
	len = strcspn(*p, " \t\n");
	*p += len;
	return len;
}

static bool number(const char *s, size_t len, int base, uint64_t *value)
{
	char *end;

	if (len == 0 || *s == '-')
		return false;
	errno = 0;
	*value = strtoull(s, &end, base);
	return errno == 0 && end == s + len;
}

bool procfile_counter(const char *text, const char *group, const char *name, uint64_t *value)
{
	const char *line = text, *values, *n, *v;
	size_t n_len, v_len;

	for (; line; line = next_line(line)) {
		const char *names = behind(line, group);
		const char *second = names ? next_line(line) : NULL;
		values = second ? behind(second, group) : NULL;
		if (!values)
			continue;
		while ((n_len = word(&names, &n)) > 0 && (v_len = word(&values, &v)) > 0)
			if (n_len == strlen(name) && memcmp(n, name, n_len) == 0)
				return number(v, v_len, 10, value);
		line = second;
	}
	return false;
}

bool procfile_field(const char *text, const char *name, int base, uint64_t *value)
{
	for (const char *line = text; line; line = next_line(line)) {
		const char *p = behind(line, name), *start;
		size_t len;
		if (!p)
			continue;
		len = word(&p, &start);
		return number(start, len, base, value);
	}
	return false;
}
