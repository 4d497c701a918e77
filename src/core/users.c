/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/users.h"

#include <crypt.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libsocks6/socks6.h"

struct user {
	char *name, *hash;
};

struct users {
	struct user *v;
	size_t n;
};

static int by_name(const void *x, const void *y)
{
	return strcmp(((const struct user *)x)->name, ((const struct user *)y)->name);
}

/* The old 13 character hashes look like anything, take 8 characters of the password and are
 * broken in no time: refused. What is no hash is most likely a password in clear. */
static bool is_hash(const char *text)
{
	if (text[0] != '$' && text[0] != '_')
		return false;
#ifdef CRYPT_SALT_INVALID
	return crypt_checksalt(text) != CRYPT_SALT_INVALID;
#else
	return true;
#endif
}

static bool add_user(struct users *u, const char *name, const char *hash)
{
	struct user *v = realloc(u->v, (u->n + 1) * sizeof(*v));

	if (!v)
		return false;
	u->v = v;
	v[u->n].name = strdup(name);
	v[u->n].hash = strdup(hash);
	u->n++;
	return v[u->n - 1].name && v[u->n - 1].hash;
}

static bool add_line(struct users *u, char *line, unsigned number, char *err, size_t errcap)
{
	char *colon;

	line[strcspn(line, "\r\n")] = '\0';
	if (line[0] == '\0' || line[0] == '#')
		return true;
	colon = strchr(line, ':');
	if (!colon || colon == line || colon - line > S6_USERPASS_MAX) {
		snprintf(err, errcap, "line %u: must be \"user:hash\"", number);
		return false;
	}
	*colon = '\0';
	if (!is_hash(colon + 1)) {
		snprintf(err, errcap,
			 "line %u: what follows \"%s:\" is no hash of crypt(3); write entries with "
			 "\"sixpathctl passwd\"",
			 number, line);
		return false;
	}
	if (!add_user(u, line, colon + 1)) {
		snprintf(err, errcap, "out of memory");
		return false;
	}
	return true;
}

static bool no_repeats(const struct users *u, char *err, size_t errcap)
{
	for (size_t i = 1; i < u->n; i++) {
		if (strcmp(u->v[i - 1].name, u->v[i].name) == 0) {
			snprintf(err, errcap, "user \"%s\" appears twice", u->v[i].name);
			return false;
		}
	}
	return true;
}

static bool read_lines(struct users *u, FILE *f, char *err, size_t errcap)
{
	char *line = NULL;
	size_t cap = 0;
	unsigned number = 0;
	bool good = true;

	while (good && getline(&line, &cap, f) >= 0)
		good = add_line(u, line, ++number, err, errcap);
	if (good && ferror(f)) {
		snprintf(err, errcap, "%s", strerror(errno));
		good = false;
	}
	if (line)
		explicit_bzero(line, cap);
	free(line);
	return good;
}

struct users *users_load(const char *path, char *err, size_t errcap)
{
	struct users *u = calloc(1, sizeof(*u));
	FILE *f = fopen(path, "re");
	bool good = u && f;

	if (!good)
		snprintf(err, errcap, "%s", strerror(errno));
	good = good && read_lines(u, f, err, errcap);
	if (good && u->n > 0)
		qsort(u->v, u->n, sizeof(*u->v), by_name);
	good = good && no_repeats(u, err, errcap);
	if (f)
		fclose(f);
	if (!good) {
		users_free(u);
		return NULL;
	}
	return u;
}

void users_free(struct users *u)
{
	if (!u)
		return;
	for (size_t i = 0; i < u->n; i++) {
		free(u->v[i].name);
		free(u->v[i].hash);
	}
	free(u->v);
	free(u);
}

size_t users_count(const struct users *u)
{
	return u ? u->n : 0;
}

const char *users_hash(const struct users *u, const uint8_t *name, size_t len)
{
	char text[S6_USERPASS_MAX + 1];
	struct user key = {.name = text}, *found;

	if (!u || u->n == 0 || len >= sizeof(text) || memchr(name, 0, len))
		return NULL;
	memcpy(text, name, len);
	text[len] = '\0';
	found = bsearch(&key, u->v, u->n, sizeof(*u->v), by_name);
	return found ? found->hash : NULL;
}

const char *users_any_hash(const struct users *u)
{
	return users_count(u) ? u->v[0].hash : NULL;
}
