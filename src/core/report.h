/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Answers for people and programs from one description: the same calls write aligned
 * text (key: value lines, tables with a header) or JSON. JSON answers are one object
 * that starts with "schema": "sixpath/1" and "command". Grows in memory; a failed
 * allocation is remembered and turns the answer into an error.
 */
#ifndef SIXPATH_REPORT_H
#define SIXPATH_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct report;

struct report *report_new(const char *command, bool json); /* NULL = out of memory */
void report_free(struct report *r);
/* The finished text; valid until report_free. NULL = out of memory. */
const char *report_finish(struct report *r, size_t *len);

/* Nested object: fields until _end; text mode indents. */
void report_object(struct report *r, const char *key);
/* A list of rows that all have the same fields; text mode: a table, columns in the order of
 * the first row, with title = key's text. Objects and lists inside a row appear only in JSON. */
void report_list(struct report *r, const char *key);
void report_row(struct report *r); /* starts the next row */
void report_end(struct report *r); /* ends the innermost object or list */

void report_str(struct report *r, const char *key, const char *value); /* NULL = null, "-" */
void report_u64(struct report *r, const char *key, uint64_t value);
void report_bool(struct report *r, const char *key, bool value); /* text: yes, no */
/* Human text differs from the number: JSON gets the number, text the string. */
void report_bytes(struct report *r, const char *key, uint64_t value); /* 12.3 MB */
void report_seconds(struct report *r, const char *key,
		    double value); /* 1h02m, 3.4s, 12ms; <0 = null */
void report_percent(struct report *r, const char *key, uint64_t value); /* 75% */
void report_null(struct report *r, const char *key);

#endif
