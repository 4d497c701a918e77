/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Process-wide log: stderr or syslog, by level. Set up once before threads
 * start; afterwards only the level changes (atomically, on reload). Lines are
 * written with one system call each, so threads do not mix them.
 * Nothing secret is ever passed here, at any level.
 */
#ifndef SIXPATH_LOG_H
#define SIXPATH_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LVL_ERROR, LVL_WARNING, LVL_NOTICE, LVL_INFO, LVL_DEBUG };
enum log_sink { SINK_AUTO, SINK_SYSLOG, SINK_STDERR }; /* auto: stderr in the foreground */

/* ident must live as long as the process. */
void log_init(const char *ident, enum log_sink sink, bool foreground);
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

void log_msg(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_msg(LVL_ERROR, __VA_ARGS__)
#define log_warning(...) log_msg(LVL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_msg(LVL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_msg(LVL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_enabled(LVL_DEBUG))                                                        \
			log_msg(LVL_DEBUG, __VA_ARGS__);                                           \
	} while (0)

/*
 * One cause of repeated lines. Zero-initialised; owned by one thread. Lets
 * burst lines through a minute, counts the rest and reports the count with the
 * first line of a later minute.
 */
struct log_limit {
	int64_t window_start_s;
	unsigned used;
	uint64_t dropped;
};

void log_limited(struct log_limit *limit, unsigned burst, enum log_level level, const char *fmt,
		 ...) __attribute__((format(printf, 4, 5)));

#endif
