/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "core/text.h"

#define TEXT_MAX   2048 /* octets of one message; longer ones are cut */
#define STDERR_MAX (TEXT_MAX + 256)

static const struct {
	const char *name, *colour;
	int priority;
} levels[] = {
	[LVL_ERROR] = {"error", "\033[31;1m", LOG_ERR},
	[LVL_WARNING] = {"warning", "\033[33m", LOG_WARNING},
	[LVL_NOTICE] = {"notice", "\033[36m", LOG_NOTICE},
	[LVL_INFO] = {"info", "", LOG_INFO},
	[LVL_DEBUG] = {"debug", "\033[2m", LOG_DEBUG},
};

/* Process-wide: set before threads start, then only the level changes. */
static struct {
	const char *ident;
	bool to_syslog, colour;
} logger = {.ident = "sixpath"};
static atomic_int max_level = LVL_INFO;

void log_init(const char *ident, enum log_sink sink, bool foreground)
{
	const char *no_colour = getenv("NO_COLOR");

	if (logger.to_syslog)
		closelog();
	logger.ident = ident;
	logger.to_syslog = sink == SINK_SYSLOG || (sink == SINK_AUTO && !foreground);
	logger.colour = !logger.to_syslog && isatty(STDERR_FILENO) && !(no_colour && *no_colour);
	if (logger.to_syslog)
		openlog(ident, LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

static void write_stderr(enum log_level level, const char *text)
{
	char line[STDERR_MAX], when[32];
	const char *colour = logger.colour ? levels[level].colour : "";
	struct tm tm;
	time_t now = time(NULL);
	ssize_t done;

	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	int n = snprintf(line, sizeof(line), "%s %s%s%s %s: %s", when, colour, levels[level].name,
			 *colour ? "\033[0m" : "", logger.ident, text);
	if (n < 0)
		return;
	size_t len = (size_t)n < sizeof(line) - 1 ? (size_t)n : sizeof(line) - 2;
	line[len++] = '\n';
	do
		done = write(STDERR_FILENO, line, len);
	while (done < 0 && errno == EINTR);
}

static void write_line(enum log_level level, const char *raw)
{
	char text[TEXT_MAX];

	text_escape(text, sizeof(text), raw);
	if (logger.to_syslog)
		syslog(levels[level].priority, "%s", text);
	else
		write_stderr(level, text);
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	char raw[TEXT_MAX];
	int saved = errno;
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	vsnprintf(raw, sizeof(raw), fmt, ap);
	va_end(ap);
	write_line(level, raw);
	errno = saved;
}

static int64_t monotonic_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

void log_limited(struct log_limit *limit, unsigned burst, enum log_level level, const char *fmt,
		 ...)
{
	char raw[TEXT_MAX];
	int saved = errno;
	int64_t now = monotonic_s();
	va_list ap;

	if (!log_enabled(level))
		return;
	if (now - limit->window_start_s >= 60) {
		limit->window_start_s = now;
		limit->used = 0;
	}
	if (limit->used >= burst) {
		limit->dropped++;
		return;
	}
	limit->used++;
	va_start(ap, fmt);
	int n = vsnprintf(raw, sizeof(raw), fmt, ap);
	va_end(ap);
	if (limit->dropped && n >= 0 && (size_t)n < sizeof(raw))
		snprintf(raw + n, sizeof(raw) - (size_t)n, " (%llu more like this not logged)",
			 (unsigned long long)limit->dropped);
	limit->dropped = 0;
	write_line(level, raw);
	errno = saved;
}
