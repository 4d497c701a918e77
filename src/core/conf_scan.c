/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/conf_scan.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_LIMIT 1000 /* iniparser gives up at 1023, continuation lines together */

struct scanner {
	struct scan *out;
	scan_error_fn *error;
	void *ctx;
	unsigned line;  /* where the present (logical) line began */
	char *section;  /* owned by out; NULL before the first header and after a bad one */
	bool in_header; /* a header, good or bad, has been seen */
};

static char *trim(char *s)
{
	char *end;

	while (isspace((unsigned char)*s))
		s++;
	end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		end--;
	*end = '\0';
	return s;
}

static int add(struct scanner *sc, const char *section, const char *key)
{
	struct scan *s = sc->out;
	struct scan_entry *e;

	if ((s->n & (s->n - 1)) == 0) {
		e = realloc(s->v, (s->n ? 2 * s->n : 1) * sizeof(*e));
		if (!e)
			return -ENOMEM;
		s->v = e;
	}
	e = &s->v[s->n];
	e->line = sc->line;
	e->section = strdup(section);
	e->key = key ? strdup(key) : NULL;
	s->n++;
	return e->section && (e->key || !key) ? 0 : -ENOMEM;
}

static void complain(struct scanner *sc, const char *key, const char *reason)
{
	sc->error(sc->ctx, sc->line, sc->section, key, reason);
}

static int header(struct scanner *sc, char *text)
{
	char *close = strchr(text, ']'), *name;
	const char *reason = NULL;
	int rc;

	sc->section = NULL;
	sc->in_header = true;
	if (!close) {
		reason = "section header without \"]\"";
	} else if (close[1]) {
		reason = "a section header stands alone on its line; text after \"]\" is not "
			 "allowed";
	} else {
		*close = '\0';
		name = trim(text + 1);
		if (*name) {
			rc = add(sc, name, NULL);
			if (rc == 0)
				sc->section = sc->out->v[sc->out->n - 1].section;
			return rc;
		}
		reason = "section header without a name";
	}
	complain(sc, NULL, reason);
	return 0;
}

/* Why iniparser would read this value differently from what was meant, or NULL. */
static const char *value_trap(const char *value)
{
	if (*value == '"' || *value == '\'') {
		const char *end = strchr(value + 1, *value);
		if (!end)
			return "quote without its end";
		for (end++; isspace((unsigned char)*end); end++)
			;
		if (*end && *end != ';' && *end != '#')
			return "text after the closing quote";
		return NULL;
	}
	for (const char *c = value; *c; c++)
		if ((*c == ';' || *c == '#') && c > value)
			return isspace((unsigned char)c[-1])
				       ? NULL
				       : "\";\" and \"#\" begin a comment: put a value that has "
					 "them in quotes, and a space before a comment";
	return NULL;
}

static int assignment(struct scanner *sc, char *text)
{
	char *equals = strchr(text, '=');
	char *key, *value;
	const char *trap;

	if (!equals || equals == text) {
		complain(sc, NULL, "neither [section] nor key = value");
		return 0;
	}
	*equals = '\0';
	key = trim(text);
	value = trim(equals + 1);
	if (!sc->in_header) {
		complain(sc, key, "key outside any section");
		return 0;
	}
	if (!sc->section)
		return 0; /* the bad header has been told */
	trap = value_trap(value);
	if (trap)
		complain(sc, key, trap);
	return add(sc, sc->section, key);
}

static int logical_line(struct scanner *sc, char *line)
{
	char *text = trim(line);

	if (*text == '\0' || *text == ';' || *text == '#')
		return 0;
	return *text == '[' ? header(sc, text) : assignment(sc, text);
}

/* Append one physical line to the logical one; *more when it goes on ("\" at its end). */
static void append(struct scanner *sc, char *logical, const char *text, size_t len, bool *more)
{
	size_t have = strlen(logical);

	*more = false;
	if (memchr(text, '\0', len)) {
		complain(sc, NULL, "line with a NUL character");
		*logical = '\0';
		return;
	}
	while (len && isspace((unsigned char)text[len - 1]))
		len--;
	if (have + len > LINE_LIMIT) {
		complain(sc, NULL, "line is too long: at most 1000 characters");
		*logical = '\0';
		return;
	}
	memcpy(logical + have, text, len);
	logical[have + len] = '\0';
	if (len && text[len - 1] == '\\') {
		logical[have + len - 1] = '\0';
		*more = true;
	}
}

static int scan_stream(struct scanner *sc, FILE *f)
{
	char logical[LINE_LIMIT + 1] = "";
	char *text = NULL;
	size_t cap = 0;
	ssize_t len;
	bool more = false;
	int rc = 0;

	while (rc == 0 && (len = getline(&text, &cap, f)) >= 0) {
		sc->out->last_line++;
		if (!more)
			sc->line = sc->out->last_line;
		append(sc, logical, text, (size_t)len, &more);
		if (more)
			continue;
		rc = logical_line(sc, logical);
		*logical = '\0';
	}
	if (rc == 0 && more)
		complain(sc, NULL, "the file ends in a line to be continued (\"\\\")");
	if (rc == 0 && ferror(f))
		rc = -errno;
	explicit_bzero(logical, sizeof(logical));
	if (text)
		explicit_bzero(text, cap);
	free(text);
	return rc;
}

int scan_file(struct scan *s, const char *path, scan_error_fn *error, void *ctx)
{
	struct scanner sc = {.out = s, .error = error, .ctx = ctx};
	struct stat st;
	FILE *f;
	int rc;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

	*s = (struct scan){0};
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		rc = -errno;
	else
		rc = S_ISREG(st.st_mode) ? 0 : -EINVAL;
	f = rc == 0 ? fdopen(fd, "r") : NULL;
	if (!f) {
		if (rc == 0)
			rc = -errno;
		close(fd);
		return rc;
	}
	rc = scan_stream(&sc, f);
	fclose(f);
	if (rc < 0)
		scan_free(s);
	return rc;
}

void scan_free(struct scan *s)
{
	for (size_t i = 0; i < s->n; i++) {
		free(s->v[i].section);
		free(s->v[i].key);
	}
	free(s->v);
	*s = (struct scan){0};
}
