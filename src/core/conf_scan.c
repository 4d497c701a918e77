/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/conf_scan.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_LIMIT 1000 /* iniparser gives up at 1023, continuation lines together */
#define FILE_LIMIT (16 << 20)

struct scanner {
	struct scan *out;
	scan_error_fn *error;
	void *ctx;
	unsigned line; /* where the present (logical) line began */
	char *raw;     /* the same in out->text, so many octets with all its ends */
	size_t raw_len;
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

/* The header's line in the text, without what follows "]". */
static void drop_comment(struct scanner *sc)
{
	char *end = sc->raw + sc->raw_len, *c = memchr(sc->raw, ']', sc->raw_len);

	for (c = c ? c + 1 : end; c < end; c++)
		if (*c != '\n')
			*c = ' ';
	sc->out->changed = true;
}

static int header(struct scanner *sc, char *text)
{
	char *close = strchr(text, ']'), *behind = close ? trim(close + 1) : NULL, *name;
	const char *reason = NULL;
	int rc;

	sc->section = NULL;
	sc->in_header = true;
	if (!close) {
		reason = "section header without \"]\"";
	} else if (*behind && *behind != ';' && *behind != '#') {
		reason = "a section header stands alone on its line; only a comment may follow "
			 "\"]\"";
	} else {
		if (*behind)
			drop_comment(sc);
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
	if (*value == ';' || *value == '#')
		return NULL; /* nothing, and a comment */
	for (const char *c = value; *c; c++)
		if (*c == ';' || *c == '#')
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

static int scan_text(struct scanner *sc)
{
	struct scan *s = sc->out;
	char logical[LINE_LIMIT + 1] = "";
	char *at = s->text, *end = s->text + s->text_len, *next;
	bool more = false;
	int rc = 0;

	for (; rc == 0 && at < end; at = next) {
		next = memchr(at, '\n', (size_t)(end - at));
		next = next ? next + 1 : end;
		s->last_line++;
		if (!more) {
			sc->line = s->last_line;
			sc->raw = at;
		}
		append(sc, logical, at, (size_t)(next - at), &more);
		if (more)
			continue;
		sc->raw_len = (size_t)(next - sc->raw);
		rc = logical_line(sc, logical);
		*logical = '\0';
	}
	if (rc == 0 && more)
		complain(sc, NULL, "the file ends in a line to be continued (\"\\\")");
	explicit_bzero(logical, sizeof(logical));
	return rc;
}

/* All of it into s->text. */
static int read_file(struct scan *s, int fd)
{
	struct stat st;
	ssize_t n = 1;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (st.st_size > FILE_LIMIT)
		return -EFBIG;
	s->text = malloc((size_t)st.st_size + 1);
	if (!s->text)
		return -ENOMEM;
	while (n > 0 && s->text_len < (size_t)st.st_size) {
		n = read(fd, s->text + s->text_len, (size_t)st.st_size - s->text_len);
		if (n > 0)
			s->text_len += (size_t)n;
		else if (n < 0 && errno == EINTR)
			n = 1;
	}
	return n < 0 ? -errno : 0;
}

int scan_file(struct scan *s, const char *path, scan_error_fn *error, void *ctx)
{
	struct scanner sc = {.out = s, .error = error, .ctx = ctx};
	int rc, fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

	*s = (struct scan){0};
	if (fd < 0)
		return -errno;
	rc = read_file(s, fd);
	close(fd);
	if (rc == 0)
		rc = scan_text(&sc);
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
	if (s->text)
		explicit_bzero(s->text, s->text_len);
	free(s->text);
	*s = (struct scan){0};
}
