/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/learned_text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"

#define MAGIC    "sixpath-learned"
#define FORMAT   "1"
#define LEFT_MAX UINT32_MAX
#define WALL_MAX (UINT64_C(1) << 53) /* beyond it a double cannot count seconds */
#define FIELDS   7
#define BATCH    64 /* entries copied under one lock */

/* ---- writing ---- */

static int by_use(const void *x, const void *y)
{
	const struct learned_item *a = x, *b = y;
	bool a_admin = a->evidence == LEARNED_FROM_ADMIN,
	     b_admin = b->evidence == LEARNED_FROM_ADMIN;

	if (a_admin != b_admin)
		return a_admin ? -1 : 1;
	if (addr_family(&a->addr) != addr_family(&b->addr))
		return addr_family(&a->addr) == AF_INET ? -1 : 1;
	return a->used > b->used ? -1 : a->used < b->used;
}

/* All entries, to be freed. NULL: no memory. */
static struct learned_item *collect(struct learned *l, double now_s, size_t *n)
{
	struct learned_cursor cursor = {0};
	struct learned_item *all = NULL, *grown;
	size_t cap = 0;
	unsigned got;

	*n = 0;
	do {
		if (cap - *n < BATCH) {
			cap = cap ? 2 * cap : 2 * BATCH;
			grown = realloc(all, cap * sizeof(*all));
			if (!grown) {
				free(all);
				return NULL;
			}
			all = grown;
		}
		got = learned_list(l, &cursor, now_s, all + *n, BATCH);
		*n += got;
	} while (got > 0);
	qsort(all, *n, sizeof(*all), by_use);
	return all;
}

static void print_item(FILE *f, const struct learned_item *item, double now_s)
{
	uint32_t seconds = learned_seconds(item->expires_s - now_s);
	char ip[ADDR_STRLEN];

	fprintf(f, "%s %u %s %s ", addr_ip_str(&item->addr, ip, sizeof(ip)), addr_port(&item->addr),
		learned_verdict_str(item->verdict), learned_evidence_str(item->evidence));
	if (seconds > 0)
		fprintf(f, "%" PRIu32, seconds);
	else
		fputc('-', f);
	fprintf(f, " %" PRIu64 " %" PRIu64 "\n", item->hits, item->saved);
}

int learned_text_format(struct learned *l, double now_s, uint64_t wall_s, char **text, size_t *len)
{
	size_t n, written = 0;
	struct learned_item *all = collect(l, now_s, &n);
	FILE *f;
	bool failed;

	*text = NULL;
	f = all ? open_memstream(text, len) : NULL;
	if (!f) {
		free(all);
		return -ENOMEM;
	}
	fprintf(f, MAGIC " " FORMAT " %" PRIu64 "\n", wall_s);
	for (size_t i = 0; i < n; i++) {
		if (addr_family(&all[i].addr) == AF_INET6 && all[i].addr.u.in6.sin6_scope_id != 0)
			continue;
		print_item(f, &all[i], now_s);
		written++;
	}
	fprintf(f, "end %zu\n", written);
	free(all);
	failed = ferror(f) != 0;
	if (fclose(f) != 0 || failed) {
		free(*text);
		*text = NULL;
		return -ENOMEM;
	}
	return 0;
}

/* ---- reading ---- */

struct word {
	const char *at;
	size_t len;
};

struct reader {
	const char *at, *end; /* what is left of the text */
	unsigned long line;   /* the one just read */
	char *msg;
	size_t cap;
};

static bool refuse(struct reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* False, with line and reason in msg. */
static bool refuse(struct reader *r, const char *fmt, ...)
{
	char why[LEARNED_TEXT_MSG];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	snprintf(r->msg, r->cap, "line %lu: %s", r->line, why);
	return false;
}

/* The same about a word of the file, which may be anything. */
static bool refuse_word(struct reader *r, const struct word *w, const char *what)
{
	char raw[33], shown[4 * sizeof(raw)];
	size_t n = w->len < sizeof(raw) - 1 ? w->len : sizeof(raw) - 1;

	memcpy(raw, w->at, n);
	raw[n] = '\0';
	text_escape(shown, sizeof(shown), raw);
	return refuse(r, "\"%s\" is not %s", shown, what);
}

/* The next line in words, between single spaces. Up to max of them; *n is one more when there are
 * too many. False: no whole line is left. */
static bool read_line(struct reader *r, struct word *words, unsigned max, unsigned *n)
{
	const char *at = r->at, *eol;

	r->line++;
	eol = at < r->end ? memchr(at, '\n', (size_t)(r->end - at)) : NULL;
	if (!eol)
		return refuse(r, "the file is cut off");
	r->at = eol + 1;
	for (*n = 0; *n < max; (*n)++) {
		const char *space = memchr(at, ' ', (size_t)(eol - at));

		words[*n] = (struct word){at, (size_t)((space ? space : eol) - at)};
		if (!space) {
			(*n)++;
			return true;
		}
		at = space + 1;
	}
	*n = max + 1;
	return true;
}

static bool word_is(const struct word *w, const char *text)
{
	return w->len == strlen(text) && memcmp(w->at, text, w->len) == 0;
}

static bool number(const struct word *w, uint64_t max, uint64_t *out)
{
	uint64_t n = 0;

	if (w->len == 0)
		return false;
	for (size_t i = 0; i < w->len; i++) {
		uint64_t digit = (uint64_t)(w->at[i] - '0');

		if (w->at[i] < '0' || w->at[i] > '9' || n > (max - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*out = n;
	return true;
}

static bool address(const struct word *w, struct addr *a)
{
	char text[ADDR_STRLEN];

	/* No scope: it would ask the kernel for the interface. NUL would hide what follows it. */
	if (w->len == 0 || w->len >= sizeof(text) || memchr(w->at, '%', w->len) ||
	    memchr(w->at, '\0', w->len))
		return false;
	memcpy(text, w->at, w->len);
	text[w->len] = '\0';
	return addr_parse_ip(a, text);
}

static bool verdict(const struct word *w, enum learned_verdict *out)
{
	*out = word_is(w, learned_verdict_str(LEARNED_MPTCP)) ? LEARNED_MPTCP : LEARNED_PLAIN;
	return word_is(w, learned_verdict_str(*out));
}

static bool evidence(const struct word *w, enum learned_evidence *out)
{
	for (unsigned e = 0; e < LEARNED_EVIDENCES; e++) {
		*out = (enum learned_evidence)e;
		if (word_is(w, learned_evidence_str(*out)))
			return true;
	}
	return false;
}

static bool left(const struct word *w, double *out)
{
	uint64_t n;

	*out = INFINITY;
	if (word_is(w, "-"))
		return true;
	if (!number(w, LEFT_MAX, &n))
		return false;
	*out = (double)n;
	return true;
}

/* An entry; its expires_s is what was left when it was saved. */
static bool read_item(struct reader *r, const struct word *words, unsigned n,
		      struct learned_item *item)
{
	uint64_t port;

	memset(item, 0, sizeof(*item));
	if (n != FIELDS)
		return refuse(r, "%s fields than an entry has", n < FIELDS ? "fewer" : "more");
	if (!address(&words[0], &item->addr))
		return refuse_word(r, &words[0], "an address");
	if (!number(&words[1], UINT16_MAX, &port) || port == 0)
		return refuse_word(r, &words[1], "a port");
	if (!verdict(&words[2], &item->verdict))
		return refuse_word(r, &words[2], "a verdict");
	if (!evidence(&words[3], &item->evidence))
		return refuse_word(r, &words[3], "evidence");
	if (!left(&words[4], &item->expires_s) ||
	    (isinf(item->expires_s) && item->evidence != LEARNED_FROM_ADMIN))
		return refuse_word(r, &words[4], "a number of seconds left");
	if (!number(&words[5], UINT64_MAX, &item->hits))
		return refuse_word(r, &words[5], "a number of hits");
	if (!number(&words[6], UINT64_MAX, &item->saved))
		return refuse_word(r, &words[6], "a number of octets");
	addr_set_port(&item->addr, (uint16_t)port);
	return true;
}

static bool read_head(struct reader *r, uint64_t *saved_s)
{
	struct word words[3];
	unsigned n;

	if (r->at == r->end) {
		r->line = 1;
		return refuse(r, "the file is empty");
	}
	if (!read_line(r, words, 3, &n))
		return false;
	if (!word_is(&words[0], MAGIC))
		return refuse(r, "this is no file of learned servers");
	if (n < 2 || !word_is(&words[1], FORMAT))
		return refuse_word(r, &words[n < 2 ? 0 : 1], "a version that is understood");
	if (n != 3 || !number(&words[2], WALL_MAX, saved_s))
		return refuse_word(r, &words[n < 3 ? 1 : 2], "the time of saving");
	return true;
}

static bool read_end(struct reader *r, const struct word *words, unsigned n, uint64_t count)
{
	uint64_t told;

	if (n != 2 || !number(&words[1], UINT64_MAX, &told))
		return refuse(r, "the number of entries is missing");
	if (told != count)
		return refuse(r,
			      "%" PRIu64 " entries are missing or too many: %" PRIu64
			      " should be here",
			      told > count ? told - count : count - told, told);
	if (r->at != r->end)
		return refuse(r, "something follows the end");
	return true;
}

struct taking {
	struct learned *l; /* NULL: only check */
	double now_s;
	double elapsed_s;
	uint64_t entries, ended, taken;
};

static void take(struct taking *t, struct learned_item *item)
{
	t->entries++;
	if (!t->l)
		return;
	item->expires_s = t->now_s + item->expires_s - t->elapsed_s;
	if (item->expires_s <= t->now_s)
		t->ended++;
	else if (learned_restore(t->l, item, t->now_s))
		t->taken++;
}

/* All entries of the text. False: it is not sound; then it was so from the start. */
static bool read_entries(struct reader *r, struct taking *t)
{
	struct word words[FIELDS];
	struct learned_item item;
	unsigned n;

	for (;;) {
		if (!read_line(r, words, FIELDS, &n))
			return false;
		if (word_is(&words[0], "end"))
			return read_end(r, words, n, t->entries);
		if (!read_item(r, words, n, &item))
			return false;
		take(t, &item);
	}
}

int learned_text_take(struct learned *l, const char *text, size_t len, double now_s,
		      uint64_t wall_s, char *msg, size_t cap)
{
	struct reader start, r = {.at = text, .end = text + len, .msg = msg, .cap = cap};
	struct taking check = {0}, t = {.l = l, .now_s = now_s};
	uint64_t saved_s = 0;
	int used;

	if (!read_head(&r, &saved_s))
		return -EBADMSG;
	start = r;
	if (!read_entries(&r, &check))
		return -EBADMSG;
	t.elapsed_s = wall_s > saved_s ? (double)(wall_s - saved_s) : 0;
	read_entries(&start, &t);
	used = snprintf(msg, cap,
			"%" PRIu64 " of %" PRIu64 " learned servers taken, %" PRIu64
			" had ended, %" PRIu64 " were known or too many",
			t.taken, t.entries, t.ended, t.entries - t.taken - t.ended);
	if (wall_s < saved_s && used >= 0 && (size_t)used < cap)
		snprintf(msg + used, cap - (size_t)used,
			 "; the clock went back by %" PRIu64
			 " s since they were saved, so lifetimes go on as if no time had passed",
			 saved_s - wall_s);
	return 0;
}
