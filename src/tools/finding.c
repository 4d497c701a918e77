/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/finding.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "core/report.h"

static const struct {
	const char *name, *colour;
} levels[] = {
	[FINDING_OK] = {"ok", "\033[32m"},
	[FINDING_NOTE] = {"note", "\033[36m"},
	[FINDING_WARN] = {"warn", "\033[33m"},
	[FINDING_FAIL] = {"fail", "\033[31m"},
};
#define LEVELS (sizeof(levels) / sizeof(levels[0]))

static struct finding *next(struct findings *f)
{
	struct finding *v = f->failed ? NULL : realloc(f->v, (f->n + 1) * sizeof(*v));

	if (!v)
		return NULL;
	f->v = v;
	v[f->n] = (struct finding){0};
	return &v[f->n];
}

void findings_add(struct findings *f, enum finding_level level, const char *id, const char *cure,
		  const char *fmt, ...)
{
	struct finding *x = next(f);
	va_list ap;

	if (!x) {
		f->failed = true;
		return;
	}
	va_start(ap, fmt);
	if (vasprintf(&x->seen, fmt, ap) < 0)
		x->seen = NULL;
	va_end(ap);
	x->level = level;
	x->id = strdup(id);
	x->cure = level != FINDING_OK && cure ? strdup(cure) : NULL;
	f->n++;
	f->failed |= !x->seen || !x->id || (level != FINDING_OK && cure && !x->cure);
}

enum finding_level findings_worst(const struct findings *f)
{
	enum finding_level worst = FINDING_OK;

	for (size_t i = 0; i < f->n; i++)
		worst = f->v[i].level > worst ? f->v[i].level : worst;
	return worst;
}

static void report_json(struct report *r, const struct findings *f, const char *role)
{
	report_str(r, "role", role);
	report_str(r, "worst", levels[findings_worst(f)].name);
	report_list(r, "findings");
	for (size_t i = 0; i < f->n; i++) {
		report_row(r);
		report_str(r, "level", levels[f->v[i].level].name);
		report_str(r, "id", f->v[i].id);
		report_str(r, "seen", f->v[i].seen);
		report_str(r, "cure", f->v[i].cure);
	}
	report_end(r);
}

/* Cures stand by themselves: they are long, and to be copied. */
static void report_text(struct report *r, const struct findings *f)
{
	report_list(r, "findings");
	for (size_t i = 0; i < f->n; i++) {
		report_row(r);
		report_str(r, "level", levels[f->v[i].level].name);
		report_str(r, "check", f->v[i].id);
		report_str(r, "seen", f->v[i].seen);
	}
	report_end(r);
	if (findings_worst(f) == FINDING_OK)
		return;
	report_list(r, "cures");
	for (size_t i = 0; i < f->n; i++) {
		if (!f->v[i].cure)
			continue;
		report_row(r);
		report_str(r, "level", levels[f->v[i].level].name);
		report_str(r, "check", f->v[i].id);
		report_str(r, "cure", f->v[i].cure);
	}
	report_end(r);
}

/* The lines of the text; those that begin with a level have it in colour. */
static void print_coloured(const char *text)
{
	while (*text) {
		size_t len = strcspn(text, "\n"), word = strcspn(text, " \n"), i = 0;

		while (i < LEVELS &&
		       (strlen(levels[i].name) != word || memcmp(levels[i].name, text, word) != 0))
			i++;
		if (i < LEVELS)
			printf("%s%.*s\033[0m%.*s\n", levels[i].colour, (int)word, text,
			       (int)(len - word), text + word);
		else
			printf("%.*s\n", (int)len, text);
		text += len + (text[len] == '\n');
	}
}

static bool colours_wanted(void)
{
	const char *term = getenv("TERM"), *no = getenv("NO_COLOR");

	return isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb") != 0 && !(no && *no);
}

int findings_print(const struct findings *f, const char *role, bool json)
{
	struct report *r = f->failed ? NULL : report_new("doctor", json);
	const char *text = NULL;
	size_t len = 0;
	int rc = 0;

	if (r) {
		if (json)
			report_json(r, f, role);
		else
			report_text(r, f);
		text = report_finish(r, &len);
	}
	if (!text) {
		fputs("sixpathctl: out of memory\n", stderr);
		rc = EX_OSERR;
	} else if (!json && colours_wanted()) {
		print_coloured(text);
	} else {
		fwrite(text, 1, len, stdout);
	}
	if (rc == 0 && (fflush(stdout) != 0 || ferror(stdout))) {
		fprintf(stderr, "sixpathctl: cannot write the answer: %s\n", strerror(errno));
		rc = EX_IOERR;
	}
	report_free(r);
	return rc;
}

void findings_free(struct findings *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->v[i].id);
		free(f->v[i].seen);
		free(f->v[i].cure);
	}
	free(f->v);
	*f = (struct findings){0};
}
