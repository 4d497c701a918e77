/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lines of an ini file, as iniparser understands them. iniparser gives the values; this
 * gives what it does not tell: line numbers, repetitions, and lines it reads in a way
 * nobody meant (a value cut at '#', text behind a closing quote).
 */
#ifndef SIXPATH_CONF_SCAN_H
#define SIXPATH_CONF_SCAN_H

#include <stdbool.h>
#include <stddef.h>

/* A section header (key NULL), or a key with its section. */
struct scan_entry {
	unsigned line;
	char *section; /* as written, without outer spaces */
	char *key;     /* as written; NULL for a header */
};

struct scan {
	struct scan_entry *v;
	size_t n;
	unsigned last_line;
	/* The file, for iniparser: it does not take comments behind headers, so they are blanks
	 * here, and changed tells whether there were any. May have secrets. */
	char *text;
	size_t text_len;
	bool changed;
};

/* Called for each line that is wrong. section is NULL before the first header. */
typedef void scan_error_fn(void *ctx, unsigned line, const char *section, const char *key,
			   const char *reason);

/* 0 or -errno (-EINVAL: no regular file; -EFBIG: more than 16 MiB). */
int scan_file(struct scan *s, const char *path, scan_error_fn *error, void *ctx);
void scan_free(struct scan *s); /* wipes the text */

#endif
