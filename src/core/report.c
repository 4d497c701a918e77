/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/report.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"

#define DEPTH_MAX 8
#define INDENT    2
#define GAP       2 /* between the columns of a table */

/* Text keeps fields until the widths of their column are known. */
struct cell {
	char *key, *text;
	bool right; /* a number */
};

struct row {
	struct cell *cells;
	size_t n;
};

struct level {
	bool list;
	bool first;       /* JSON: no comma before the next member */
	struct row *rows; /* text: an object has at most one, its fields not yet printed */
	size_t n;         /* rows */
	size_t start;     /* text: where the content begins */
};

struct report {
	bool json, failed;
	char *buf;
	size_t len, cap;
	struct level level[DEPTH_MAX];
	unsigned depth;  /* level[depth] is the innermost */
	unsigned hidden; /* text: how many levels below a row we are */
};

/* ---- memory ---- */

static void put(struct report *r, const char *text, size_t n)
{
	size_t cap = r->cap ? r->cap : 1024;

	if (r->failed)
		return;
	while (cap - r->len <= n && cap <= SIZE_MAX / 2)
		cap *= 2;
	if (cap != r->cap) {
		char *p = cap - r->len > n ? realloc(r->buf, cap) : NULL;
		if (!p) {
			r->failed = true;
			return;
		}
		r->buf = p;
		r->cap = cap;
	}
	memcpy(r->buf + r->len, text, n);
	r->len += n;
	r->buf[r->len] = '\0';
}

static void put_str(struct report *r, const char *text)
{
	put(r, text, strlen(text));
}

static void put_spaces(struct report *r, size_t n)
{
	while (n--)
		put(r, " ", 1);
}

/* Room for one more element behind n; doubles at powers of two. NULL = failed. */
static void *grow(struct report *r, void *array, size_t n, size_t size)
{
	void *p = array;

	if (r->failed)
		return NULL;
	if ((n & (n - 1)) == 0) {
		p = n > SIZE_MAX / 2 / size ? NULL : realloc(array, (n ? 2 * n : 1) * size);
		if (!p)
			r->failed = true;
	}
	return p;
}

static void free_rows(struct level *l)
{
	for (size_t i = 0; l->rows && i < l->n; i++) {
		for (size_t j = 0; j < l->rows[i].n; j++) {
			free(l->rows[i].cells[j].key);
			free(l->rows[i].cells[j].text);
		}
		free(l->rows[i].cells);
	}
	free(l->rows);
	l->rows = NULL;
	l->n = 0;
}

/* ---- JSON ---- */

static void json_string(struct report *r, const char *s)
{
	put(r, "\"", 1);
	while (*s) {
		unsigned char c = (unsigned char)*s;
		size_t n = text_utf8_len(s);
		char escaped[8];

		if (c == '"' || c == '\\') {
			snprintf(escaped, sizeof(escaped), "\\%c", c);
			put_str(r, escaped);
		} else if (c < 0x20 || c == 0x7f) {
			snprintf(escaped, sizeof(escaped), "\\u%04x", c);
			put_str(r, escaped);
		} else if (n == 0) {
			put_str(r, "\\ufffd"); /* JSON must be UTF-8 */
		} else {
			put(r, s, n);
		}
		s += n ? n : 1;
	}
	put(r, "\"", 1);
}

static void json_key(struct report *r, const char *key)
{
	struct level *l = &r->level[r->depth];

	if (!l->first)
		put(r, ",", 1);
	l->first = false;
	json_string(r, key);
	put(r, ":", 1);
}

/* ---- text ---- */

/* Columns on the screen, about. */
static size_t width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void put_padded(struct report *r, const char *text, size_t w, bool right, bool last)
{
	size_t n = width(text), fill = w > n ? w - n : 0;

	if (right)
		put_spaces(r, fill);
	put_str(r, text);
	if (!right && !last)
		put_spaces(r, fill);
}

/* A key as people read it: "bytes_up" is "bytes up:" in a line, "BYTES-UP" over a column. */
static char *label(struct report *r, const char *key, bool column)
{
	char *s = strdup(key);

	if (!s) {
		r->failed = true;
		return NULL;
	}
	for (char *c = s; *c; c++) {
		if (*c == '_')
			*c = column ? '-' : ' ';
		else if (column)
			*c = (char)toupper((unsigned char)*c);
	}
	return s;
}

/* The lines "key:  value" of an object that are still kept. */
static void flush_fields(struct report *r)
{
	struct level *l = &r->level[r->depth];
	size_t w = 0;

	if (r->failed || r->json || l->list || l->n == 0)
		return;
	for (size_t i = 0; i < l->rows->n; i++) {
		size_t n = width(l->rows->cells[i].key);
		w = n > w ? n : w;
	}
	for (size_t i = 0; i < l->rows->n; i++) {
		const struct cell *c = &l->rows->cells[i];
		put_spaces(r, (size_t)r->depth * INDENT);
		put_str(r, c->key);
		put(r, ":", 1);
		put_spaces(r, w - width(c->key) + 1);
		put_str(r, c->text);
		put(r, "\n", 1);
	}
	free_rows(l);
}

static const struct cell *find_cell(const struct row *row, const char *key)
{
	for (size_t i = 0; i < row->n; i++)
		if (strcmp(row->cells[i].key, key) == 0)
			return &row->cells[i];
	return NULL;
}

static size_t column_width(const struct level *l, const char *key, bool *right)
{
	size_t w = width(key);

	*right = false;
	for (size_t i = 0; i < l->n; i++) {
		const struct cell *c = find_cell(&l->rows[i], key);
		size_t n = c ? width(c->text) : 1;
		w = n > w ? n : w;
		*right |= c && c->right;
	}
	return w;
}

static void put_table(struct report *r, struct level *l, size_t indent)
{
	const struct row *head = l->rows;
	size_t n = l->n ? head->n : 0;
	size_t *w = calloc(n + 1, sizeof(*w));
	bool *right = calloc(n + 1, sizeof(*right));

	if (!w || !right)
		r->failed = true;
	for (size_t i = 0; !r->failed && i < n; i++)
		w[i] = column_width(l, head->cells[i].key, &right[i]);
	for (size_t y = 0; !r->failed && n && y <= l->n; y++) { /* line 0 is the header */
		put_spaces(r, indent);
		for (size_t x = 0; x < n; x++) {
			const char *key = head->cells[x].key, *text = key;
			if (y > 0) {
				const struct cell *c = find_cell(&l->rows[y - 1], key);
				text = c ? c->text : "-";
			}
			if (x > 0)
				put_spaces(r, GAP);
			put_padded(r, text, w[x], right[x], x == n - 1);
		}
		put(r, "\n", 1);
	}
	free(w);
	free(right);
}

/* ---- building ---- */

/* One field: how JSON and how people see it. */
static void field(struct report *r, const char *key, const char *json, const char *text, bool right)
{
	struct level *l = &r->level[r->depth];
	struct row *row;
	struct cell *cells;

	if (r->failed || (l->list && l->n == 0))
		return;
	if (r->json) {
		json_key(r, key);
		put_str(r, json);
		return;
	}
	if (r->hidden)
		return;
	if (!l->list && l->n == 0) {
		l->rows = calloc(1, sizeof(*l->rows));
		if (!l->rows) {
			r->failed = true;
			return;
		}
		l->n = 1;
	}
	row = &l->rows[l->n - 1];
	cells = grow(r, row->cells, row->n, sizeof(*cells));
	if (!cells)
		return;
	row->cells = cells;
	cells[row->n].key = label(r, key, l->list);
	size_t cap = 4 * strlen(text) + 1;
	cells[row->n].text = malloc(cap);
	if (cells[row->n].text)
		text_escape(cells[row->n].text, cap, text);
	else
		r->failed = true;
	cells[row->n].right = right;
	row->n++;
}

/* The title line of an object, or the blank line before a block. */
static void begin_block(struct report *r, const char *key, bool list)
{
	flush_fields(r);
	if (r->depth == 0 && r->len)
		put(r, "\n", 1);
	put_spaces(r, (size_t)r->depth * INDENT);
	char *title = label(r, key, false);
	if (title)
		put_str(r, title);
	free(title);
	if (!list)
		put_str(r, ":\n");
}

static void begin(struct report *r, const char *key, bool list)
{
	if (r->failed)
		return;
	if (!r->json && (r->hidden || r->level[r->depth].list)) {
		r->hidden++;
		return;
	}
	if (r->depth + 1 == DEPTH_MAX) {
		r->failed = true;
		return;
	}
	if (r->json) {
		json_key(r, key);
		put(r, list ? "[" : "{", 1);
	} else {
		begin_block(r, key, list);
	}
	r->level[++r->depth] = (struct level){.list = list, .first = true, .start = r->len};
}

void report_object(struct report *r, const char *key)
{
	begin(r, key, false);
}

void report_list(struct report *r, const char *key)
{
	begin(r, key, true);
}

void report_row(struct report *r)
{
	struct level *l = &r->level[r->depth];

	if (r->failed || r->hidden || !l->list)
		return;
	if (r->json) {
		put_str(r, l->n ? "},{" : "{");
		l->first = true;
	} else {
		struct row *rows = grow(r, l->rows, l->n, sizeof(*rows));
		if (!rows)
			return;
		l->rows = rows;
		rows[l->n] = (struct row){0};
	}
	l->n++;
}

static void end_list_text(struct report *r, struct level *l)
{
	char count[32];

	snprintf(count, sizeof(count), " (%zu)\n", l->n);
	put_str(r, count);
	put_table(r, l, (size_t)(r->depth - 1) * INDENT);
}

static void end_object_text(struct report *r, const struct level *l)
{
	flush_fields(r);
	if (!r->failed && r->len == l->start) {
		r->len--; /* back to the title's line */
		put_str(r, " none\n");
	}
}

void report_end(struct report *r)
{
	struct level *l = &r->level[r->depth];

	if (r->hidden) {
		r->hidden--;
		return;
	}
	if (r->failed || r->depth == 0)
		return;
	if (r->json)
		put_str(r, !l->list ? "}" : l->n ? "}]" : "]");
	else if (l->list)
		end_list_text(r, l);
	else
		end_object_text(r, l);
	free_rows(l);
	r->depth--;
}

struct report *report_new(const char *command, bool json)
{
	struct report *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->json = json;
	r->level[0].first = true;
	if (json) {
		put(r, "{", 1);
		report_str(r, "schema", "sixpath/1");
		report_str(r, "command", command);
	}
	if (r->failed) {
		report_free(r);
		return NULL;
	}
	return r;
}

void report_free(struct report *r)
{
	if (!r)
		return;
	for (unsigned i = 0; i < DEPTH_MAX; i++)
		free_rows(&r->level[i]);
	free(r->buf);
	free(r);
}

const char *report_finish(struct report *r, size_t *len)
{
	while (r->hidden || (r->depth && !r->failed))
		report_end(r);
	flush_fields(r);
	if (r->json)
		put_str(r, "}\n");
	else
		put(r, "", 0); /* an empty answer is text too */
	if (r->failed)
		return NULL;
	*len = r->len;
	return r->buf;
}

/* ---- values ---- */

void report_null(struct report *r, const char *key)
{
	field(r, key, "null", "-", false);
}

void report_str(struct report *r, const char *key, const char *value)
{
	if (!value) {
		report_null(r, key);
	} else if (r->json && !r->failed && !(r->level[r->depth].list && !r->level[r->depth].n)) {
		json_key(r, key);
		json_string(r, value);
	} else if (!r->json) {
		field(r, key, "", *value ? value : "-", false);
	}
}

void report_bool(struct report *r, const char *key, bool value)
{
	field(r, key, value ? "true" : "false", value ? "yes" : "no", false);
}

void report_u64(struct report *r, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	field(r, key, text, text, true);
}

void report_bytes(struct report *r, const char *key, uint64_t value)
{
	static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
	char number[24], text[32];
	double v = (double)value / 1000;
	unsigned u = 0;

	snprintf(number, sizeof(number), "%" PRIu64, value);
	/* 999.95 would be printed as 1000.0 */
	for (; v >= 999.95 && u < 5; u++)
		v /= 1000;
	if (value < 1000)
		snprintf(text, sizeof(text), "%u B", (unsigned)value);
	else
		snprintf(text, sizeof(text), "%.1f %s", v, units[u]);
	field(r, key, number, text, true);
}

void report_percent(struct report *r, const char *key, uint64_t value)
{
	char number[24], text[sizeof(number) + 1];

	snprintf(number, sizeof(number), "%" PRIu64, value);
	snprintf(text, sizeof(text), "%s%%", number);
	field(r, key, number, text, true);
}

static void seconds_text(char *text, size_t cap, double v)
{
	if (v >= 9e15)
		v = 9e15;
	uint64_t s = (uint64_t)v;

	if (v < 0.00995)
		snprintf(text, cap, "%.1fms", v * 1000);
	else if (v < 0.9995)
		snprintf(text, cap, "%.0fms", v * 1000);
	else if (v < 59.95)
		snprintf(text, cap, "%.1fs", v);
	else if (v < 3600)
		snprintf(text, cap, "%" PRIu64 "m%02us", s / 60, (unsigned)(s % 60));
	else if (v < 86400)
		snprintf(text, cap, "%" PRIu64 "h%02um", s / 3600, (unsigned)(s / 60 % 60));
	else
		snprintf(text, cap, "%" PRIu64 "d%02uh", s / 86400, (unsigned)(s / 3600 % 24));
}

void report_seconds(struct report *r, const char *key, double value)
{
	char number[400], text[32];

	if (!isfinite(value) || value < 0) {
		report_null(r, key);
		return;
	}
	snprintf(number, sizeof(number), "%.6f", value);
	seconds_text(text, sizeof(text), value);
	field(r, key, number, text, true);
}
