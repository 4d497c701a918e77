/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/users.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct user {
	char *name, *hash; /* one allocation: name */
};

struct users {
	struct user *v;
	size_t n;
};

static int by_name(const void *x, const void *y)
{
	return strcmp(((const struct user *)x)->name, ((const struct user *)y)->name);
}

/* Hashes that crypt(3) knows start with '$' or '_', or are 13 characters (traditional DES);
 * anything else is most likely a password in clear. */
static bool is_hash(const char *text)
{
	return text[0] == '$' || text[0] == '_';
}

static bool add_line(struct users *u, char *line, unsigned number, char *err, size_t errcap)
{
	struct user *v;
	char *colon;

	line[strcspn(line, "\r\n")] = '\0';
	if (line[0] == '\0' || line[0] == '#')
		return true;
	colon = strchr(line, ':');
	if (!colon || colon == line || colon - line > 255) {
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
	v = realloc(u->v, (u->n + 1) * sizeof(*v));
	if (!v) {
		snprintf(err, errcap, "out of memory");
		return false;
	}
	u->v = v;
	v[u->n].name = strdup(line);
	v[u->n].hash = strdup(colon + 1);
	if (!v[u->n++].name || !v[u->n - 1].hash) {
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

struct users *users_load(const char *path, char *err, size_t errcap)
{
	struct users *u = calloc(1, sizeof(*u));
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t cap = 0;
	unsigned number = 0;
	bool good = u && f;

	if (!good)
		snprintf(err, errcap, "%s", strerror(errno));
	while (good && getline(&line, &cap, f) >= 0)
		good = add_line(u, line, ++number, err, errcap);
	if (good && ferror(f)) {
		snprintf(err, errcap, "%s", strerror(errno));
		good = false;
	}
	if (good && u->n > 0)
		qsort(u->v, u->n, sizeof(*u->v), by_name);
	if (good)
		good = no_repeats(u, err, errcap);
	if (line)
		explicit_bzero(line, cap);
	free(line);
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
	char text[256];
	struct user key = {.name = text}, *found;

	if (!u || u->n == 0 || len >= sizeof(text) || memchr(name, 0, len))
		return NULL;
	memcpy(text, name, len);
	text[len] = '\0';
	found = bsearch(&key, u->v, u->n, sizeof(*u->v), by_name);
	return found ? found->hash : NULL;
}
