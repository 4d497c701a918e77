/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/conf.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>
#if __has_include(<iniparser/iniparser.h>)
#include <iniparser/iniparser.h>
#else
#include <iniparser.h>
#endif

#include "core/addr.h"
#include "core/conf_scan.h"
#include "core/log.h"
#include "core/text.h"

#define NAME_LIMIT 32  /* octets of the NAME in [proxy NAME] */
#define SHOWN_MAX  80  /* octets of a bad value that an error shows */
#define REASON_MAX 512 /* octets of what a parser has to say */

struct error {
	unsigned line; /* 0 = the file as a whole */
	unsigned order;
	char *text;
};

struct conf {
	const char *path;
	const struct conf_section *sections;
	void *ctx;
	struct scan scan;
	dictionary *dict; /* NULL without a file, or when iniparser refused it */
	struct error *errors;
	unsigned n_kept, n_errors;
};

/* ---- errors ---- */

static void __attribute__((format(printf, 5, 0)))
add_error(struct conf *c, unsigned line, const char *section, const char *key, const char *fmt,
	  va_list ap)
{
	char subject[160] = "", at[16] = "", reason[REASON_MAX * 2];
	struct error *grown = realloc(c->errors, (c->n_kept + 1) * sizeof(*grown));
	char *text;

	c->n_errors++; /* counted even if there is no memory to keep it */
	if (!grown)
		return;
	c->errors = grown;
	if (line)
		snprintf(at, sizeof(at), ":%u", line);
	if (section && key)
		snprintf(subject, sizeof(subject), "[%.70s] %.70s: ", section, key);
	else if (section)
		snprintf(subject, sizeof(subject), "[%.70s]: ", section);
	else if (key)
		snprintf(subject, sizeof(subject), "%.70s: ", key);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	if (asprintf(&text, "%s%s: %s%s", c->path ? c->path : "defaults", at, subject, reason) < 0)
		return;
	c->errors[c->n_kept] = (struct error){line, c->n_kept, text};
	c->n_kept++;
}

static void __attribute__((format(printf, 5, 6)))
error_at(struct conf *c, unsigned line, const char *section, const char *key, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_error(c, line, section, key, fmt, ap);
	va_end(ap);
}

static void scan_error_cb(void *ctx, unsigned line, const char *section, const char *key,
			  const char *reason)
{
	error_at(ctx, line, section, key, "%s", reason);
}

static int by_line(const void *x, const void *y)
{
	const struct error *a = x, *b = y;

	if (a->line != b->line)
		return a->line - 1 < b->line - 1 ? -1 : 1; /* 0 wraps round to the end */
	return a->order < b->order ? -1 : 1;
}

static void print_errors(struct conf *c, FILE *out)
{
	char line[4096];

	if (c->n_kept)
		qsort(c->errors, c->n_kept, sizeof(*c->errors), by_line);
	for (unsigned i = 0; i < c->n_kept; i++) {
		text_escape(line, sizeof(line), c->errors[i].text);
		if (out)
			fprintf(out, "%s\n", line);
		else
			log_error("%s", line);
		free(c->errors[i].text);
	}
	free(c->errors);
}

/* ---- sections and their names ---- */

/* "proxy  fr1" -> length of "proxy", and "fr1" or NULL. */
static size_t split(const char *raw, const char **name)
{
	size_t kind = strcspn(raw, " \t");
	const char *rest = raw + kind + strspn(raw + kind, " \t");

	*name = *rest ? rest : NULL;
	return kind;
}

static bool section_is(const char *raw, const char *section, const char *name)
{
	const char *own;
	size_t kind = split(raw, &own);

	if (strlen(section) != kind || strncasecmp(raw, section, kind) != 0)
		return false;
	return own && name ? strcasecmp(own, name) == 0 : own == name;
}

static bool same_section(const char *x, const char *y)
{
	const char *nx, *ny;
	size_t kx = split(x, &nx), ky = split(y, &ny);

	if (kx != ky || strncasecmp(x, y, kx) != 0)
		return false;
	return nx && ny ? strcasecmp(nx, ny) == 0 : nx == ny;
}

/* The row that a header belongs to; by its kind only. */
static const struct conf_section *find_row(const struct conf *c, const char *raw)
{
	const char *name;
	size_t kind = split(raw, &name);

	for (const struct conf_section *s = c->sections; s->name; s++)
		if (strlen(s->name) == kind && strncasecmp(s->name, raw, kind) == 0)
			return s;
	return NULL;
}

static bool name_valid(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_.-";
	size_t len = strlen(name);

	return len <= NAME_LIMIT && strspn(name, allowed) == len;
}

/* A header that may be filled: known, and with a name just where one is wanted. */
static bool header_valid(const struct conf *c, const char *raw)
{
	const struct conf_section *row = find_row(c, raw);
	const char *name;

	split(raw, &name);
	return row && row->named == (name != NULL) && (!name || name_valid(name));
}

void conf_error(struct conf *c, const char *section, const char *name, const char *key,
		const char *fmt, ...)
{
	unsigned line = 0;
	const char *raw = section;
	char own[80];
	va_list ap;

	snprintf(own, sizeof(own), "%s%s%s", section, name ? " " : "", name ? name : "");
	for (size_t i = 0; i < c->scan.n; i++) {
		const struct scan_entry *e = &c->scan.v[i];
		if (!section_is(e->section, section, name))
			continue;
		raw = e->section;
		if (!e->key && !line)
			line = e->line;
		if (key && e->key && strcasecmp(e->key, key) == 0) {
			line = e->line;
			break;
		}
	}
	va_start(ap, fmt);
	add_error(c, line, line ? raw : own, key, fmt, ap);
	va_end(ap);
}

bool conf_next_server(struct conf *c, const char *section, const char *name, const char *key,
		      const char **at, struct addr *a)
{
	char text[ADDR_STRLEN];
	size_t len;

	if (!*at)
		return false;
	*at += strspn(*at, " ,");
	len = strcspn(*at, ", ");
	if (len == 0)
		return false;
	snprintf(text, sizeof(text), "%.*s", (int)len, *at);
	if (len >= sizeof(text) || !addr_parse(a, text, 53)) {
		conf_error(c, section, name, key,
			   "\"%s\" is no address: name servers are given as 192.0.2.53, "
			   "[2001:db8::53]:5353",
			   text);
		return false;
	}
	*at += len;
	return true;
}

/* ---- what is unknown, and what was meant ---- */

struct guess {
	const char *word, *best;
	unsigned distance;
};

static void consider(struct guess *g, const char *candidate)
{
	size_t len = strlen(g->word), clen = strlen(candidate);
	size_t common = len < clen ? len : clen;
	unsigned d = text_distance(g->word, candidate);

	if (d > 2 && common >= 2 && strncasecmp(g->word, candidate, common) == 0)
		d = 2; /* one is the beginning of the other */
	if (d > 2 || (len <= 2 && d > 1) || d >= g->distance)
		return;
	g->best = candidate;
	g->distance = d;
}

static const struct conf_key *find_key(const struct conf_section *s, const char *name)
{
	for (const struct conf_key *k = s->keys; k->name; k++)
		if (strcasecmp(k->name, name) == 0)
			return k;
	return NULL;
}

static const char *list_add(char *list, size_t cap, const char *before, const char *word,
			    const char *after)
{
	size_t len = strlen(list);

	snprintf(list + len, cap - len, "%s%s%s%s", len ? ", " : "", before, word, after);
	return list;
}

static void unknown_section(struct conf *c, const struct scan_entry *e)
{
	const char *name;
	char kind[64], known[REASON_MAX] = "";
	struct guess g = {kind, NULL, 3};

	snprintf(kind, sizeof(kind), "%.*s", (int)split(e->section, &name), e->section);
	for (const struct conf_section *s = c->sections; s->name; s++) {
		consider(&g, s->name);
		list_add(known, sizeof(known), "[", s->name, s->named ? " NAME]" : "]");
	}
	if (g.best)
		error_at(c, e->line, e->section, NULL, "unknown section; did you mean \"%s\"?",
			 g.best);
	else
		error_at(c, e->line, e->section, NULL, "unknown section; known are %s", known);
}

static void unknown_key(struct conf *c, const struct conf_section *row, const struct scan_entry *e)
{
	struct guess g = {e->key, NULL, 3};
	char known[REASON_MAX] = "";

	for (const struct conf_section *s = c->sections; s->name; s++)
		if (s != row && find_key(s, e->key)) {
			error_at(c, e->line, e->section, e->key,
				 "unknown key here; it belongs in [%s%s]", s->name,
				 s->named ? " NAME" : "");
			return;
		}
	for (const struct conf_key *k = row->keys; k->name; k++) {
		consider(&g, k->name);
		list_add(known, sizeof(known), "", k->name, "");
	}
	if (g.best)
		error_at(c, e->line, e->section, e->key, "unknown key; did you mean \"%s\"?",
			 g.best);
	else
		error_at(c, e->line, e->section, e->key, "unknown key; known are %s", known);
}

/* ---- what iniparser does not notice ---- */

/* An earlier header of the same section, or the same key set earlier in it. */
static const struct scan_entry *earlier(const struct conf *c, size_t i)
{
	const struct scan_entry *e = &c->scan.v[i];

	for (size_t j = 0; j < i; j++) {
		const struct scan_entry *o = &c->scan.v[j];
		if (!o->key == !e->key && (!e->key || strcasecmp(o->key, e->key) == 0) &&
		    same_section(o->section, e->section))
			return o;
	}
	return NULL;
}

static void check_header(struct conf *c, size_t i)
{
	const struct scan_entry *e = &c->scan.v[i], *first = earlier(c, i);
	const struct conf_section *row = find_row(c, e->section);
	const char *name;

	split(e->section, &name);
	if (!row)
		unknown_section(c, e);
	else if (row->left_out && row->named)
		error_at(c, e->line, e->section, NULL, CONF_LEFT_OUT, row->left_out);
	else if (row->named && !name)
		error_at(c, e->line, e->section, NULL, "needs a name, as in [%s NAME]", row->name);
	else if (!row->named && name)
		error_at(c, e->line, e->section, NULL, "takes no name: must be [%s]", row->name);
	else if (name && !name_valid(name))
		error_at(c, e->line, e->section, NULL,
			 "name \"%.70s\" is not valid: must be 1 to %d letters, digits, \"_\", "
			 "\".\" or \"-\"",
			 name, NAME_LIMIT);
	else if (first)
		error_at(c, e->line, e->section, NULL,
			 "repeated section: it began on line %u, put its keys there", first->line);
}

static void check_key(struct conf *c, size_t i)
{
	const struct scan_entry *e = &c->scan.v[i], *first = earlier(c, i);
	const struct conf_section *row = find_row(c, e->section);

	if (!row || (row->left_out && row->named))
		return; /* the header has been told */
	if (row->left_out)
		error_at(c, e->line, e->section, e->key, CONF_LEFT_OUT, row->left_out);
	else if (!find_key(row, e->key))
		unknown_key(c, row, e);
	else if (first)
		error_at(c, e->line, e->section, e->key,
			 "repeated key: it was set on line %u, remove one of them", first->line);
}

static void check_required(struct conf *c)
{
	for (const struct conf_section *s = c->sections; s->name; s++) {
		bool found = !s->required;
		for (size_t i = 0; !found && i < c->scan.n; i++)
			found = find_row(c, c->scan.v[i].section) == s;
		if (!found)
			error_at(c, 0, NULL, NULL, "section [%s%s] is missing", s->name,
				 s->named ? " NAME" : "");
	}
}

static void check_structure(struct conf *c)
{
	for (size_t i = 0; i < c->scan.n; i++)
		if (c->scan.v[i].key)
			check_key(c, i);
		else
			check_header(c, i);
	check_required(c);
}

/* ---- values ---- */

/* The dictionary's value, or NULL. iniparser has made sections and keys lower case. */
static const char *lookup(struct conf *c, const char *raw, const char *key)
{
	char *full;
	const char *value;

	if (!c->dict || !raw)
		return NULL;
	if (asprintf(&full, "%s:%s", raw, key) < 0) {
		error_at(c, 0, raw, key, "out of memory");
		return NULL;
	}
	for (char *p = full; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	value = iniparser_getstring(c->dict, full, NULL);
	free(full);
	return value;
}

static bool parse(const struct conf_key *k, const char *text, void *dst, char *err, size_t cap)
{
	*err = '\0';
	if (k->parse(text, (char *)dst + k->offset, k, err, cap))
		return true;
	if (!*err)
		snprintf(err, cap, "%s", k->help ? k->help : "not allowed here");
	return false;
}

static void bad_value(struct conf *c, const struct conf_section *s, const char *name,
		      const struct conf_key *k, const char *value, const char *err)
{
	bool cut = strlen(value) > SHOWN_MAX;

	if (k->secret)
		conf_error(c, s->name, name, k->name, "the value is not valid: %s", err);
	else
		conf_error(c, s->name, name, k->name, "\"%.*s%s\" is not valid: %s", SHOWN_MAX,
			   value, cut ? "..." : "", err);
}

static void fill_key(struct conf *c, const struct conf_section *s, const char *raw,
		     const char *name, const struct conf_key *k, void *dst)
{
	const char *value = lookup(c, raw, k->name);
	char err[REASON_MAX];
	bool good = value && parse(k, value, dst, err, sizeof(err));

	if (value && !good)
		bad_value(c, s, name, k, value, err);
	if (value && k->secret)
		explicit_bzero((char *)(uintptr_t)value, strlen(value));
	if (!good && k->def && !parse(k, k->def, dst, err, sizeof(err)))
		conf_error(c, s->name, name, k->name, "default \"%s\" is not valid: %s", k->def,
			   err);
}

static void fill_section(struct conf *c, const struct conf_section *s, const char *raw,
			 const char *name)
{
	unsigned errors_before = c->n_errors;
	void *dst = s->begin ? s->begin(c->ctx, name) : c->ctx;

	if (!dst) {
		conf_error(c, s->name, name, NULL, "out of memory");
		return;
	}
	for (const struct conf_key *k = s->keys; k->name; k++)
		fill_key(c, s, raw, name, k, dst);
	/* a check after a bad value would only tell the same again */
	if (s->check && c->n_errors == errors_before)
		s->check(c, c->ctx, dst, name);
}

static void fill(struct conf *c, const struct conf_section *s)
{
	bool found = false;

	if (s->left_out)
		return;
	for (size_t i = 0; i < c->scan.n; i++) {
		const struct scan_entry *e = &c->scan.v[i];
		const char *name;
		if (e->key || find_row(c, e->section) != s || !header_valid(c, e->section) ||
		    earlier(c, i))
			continue;
		split(e->section, &name);
		fill_section(c, s, e->section, name);
		found = true;
	}
	if (!found && !s->named)
		fill_section(c, s, NULL, NULL);
}

/* ---- the file ---- */

static int quiet_cb(const char *fmt, ...)
{
	(void)fmt; /* the scan has told it, with the line */
	return 0;
}

/* iniparser takes names of files only: one in memory for a text that is not the file's. */
static dictionary *load_text(const struct scan *s)
{
	dictionary *d = NULL;
	char path[32];
	int fd = memfd_create("sixpath.conf", MFD_CLOEXEC);

	if (fd < 0)
		return NULL;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (write(fd, s->text, s->text_len) == (ssize_t)s->text_len)
		d = iniparser_load(path);
	close(fd);
	return d;
}

static bool load_file(struct conf *c)
{
	int rc = scan_file(&c->scan, c->path, scan_error_cb, c);

	if (rc < 0) {
		error_at(c, 0, NULL, NULL, "%s%s",
			 rc == -EINVAL ? "is not a regular file" : strerror(-rc),
			 rc == -EACCES ? " (it must be readable by the user the daemon runs as: "
					 "mode 0640 and the group of that user)"
				       : "");
		return false;
	}
	check_structure(c);
	iniparser_set_error_callback(quiet_cb);
	c->dict = c->scan.changed ? load_text(&c->scan) : iniparser_load(c->path);
	iniparser_set_error_callback(NULL);
	if (!c->dict && c->n_errors == 0)
		error_at(c, 0, NULL, NULL,
			 "cannot be read: changed meanwhile, no memory, or no /proc");
	return c->dict != NULL;
}

unsigned conf_load(const char *path, const struct conf_section *sections, void *ctx, FILE *errors)
{
	struct conf c = {.path = path, .sections = sections, .ctx = ctx};

	if (!path || load_file(&c))
		for (const struct conf_section *s = sections; s->name; s++)
			fill(&c, s);
	print_errors(&c, errors);
	if (c.dict)
		iniparser_freedict(c.dict);
	scan_free(&c.scan);
	return c.n_errors;
}
