/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/log.h"
#include "core/text.h"

/* Standard error goes to a file while the log is written; what came is in captured. */
static int saved_stderr = -1, file = -1;
static char captured[16384];

static void capture_start(void)
{
	char path[] = "/tmp/test_log.XXXXXX";

	file = mkstemp(path);
	assert_true(file >= 0);
	unlink(path);
	saved_stderr = dup(STDERR_FILENO);
	assert_true(dup2(file, STDERR_FILENO) >= 0);
	log_init("test", SINK_STDERR, true);
}

static void capture_end(void)
{
	ssize_t n = pread(file, captured, sizeof(captured) - 1, 0);

	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(file);
	assert_true(n >= 0);
	captured[n] = '\0';
}

/* The text behind "2026-11-21T10:00:00Z " after checking that; *line moves to the next line. */
static const char *without_time(char **line)
{
	static const char pattern[] = "dddd-dd-ddTdd:dd:ddZ ";
	char *text = *line, *end = strchr(text, '\n');

	assert_non_null(end);
	*end = '\0';
	*line = end + 1;
	assert_true(strlen(text) > sizeof(pattern) - 1);
	for (size_t i = 0; pattern[i]; i++)
		if (pattern[i] == 'd')
			assert_in_range(text[i], '0', '9');
		else
			assert_int_equal(text[i], pattern[i]);
	return text + sizeof(pattern) - 1;
}

static void lines_and_levels(void **state)
{
	char *line = captured;

	(void)state;
	capture_start();
	errno = EPROTO;
	log_set_level(LVL_INFO);
	log_error("number %d", 1);
	log_info("two");
	log_debug("not shown");
	log_msg(LVL_DEBUG, "not shown either");
	log_set_level(LVL_DEBUG);
	log_debug("three");
	log_set_level(LVL_ERROR);
	log_warning("not shown");
	log_set_level(LVL_INFO);
	assert_int_equal(errno, EPROTO);
	capture_end();
	assert_string_equal(without_time(&line), "error test: number 1");
	assert_string_equal(without_time(&line), "info test: two");
	assert_string_equal(without_time(&line), "debug test: three");
	assert_string_equal(line, "");
}

static void forged_line(void **state)
{
	char *line = captured;

	(void)state;
	capture_start();
	log_notice("name %s", "a\nb\r\033[31m\x7f \xc3\xa9 \xff \xc2\x9b");
	capture_end();
	assert_string_equal(without_time(&line), "notice test: name a\\x0ab\\x0d\\x1b[31m\\x7f "
						 "\xc3\xa9 \\xff \\xc2\\x9b");
	assert_string_equal(line, "");
}

static void long_line(void **state)
{
	char *line = captured, *text = malloc(10001);
	const char *got;

	(void)state;
	assert_non_null(text);
	memset(text, 'x', 10000);
	text[10000] = '\0';
	capture_start();
	log_notice("%s", text);
	memset(text, '\n', 10000);
	log_notice("%s", text);
	capture_end();
	got = without_time(&line);
	assert_true(strlen(got) > 2000 && strlen(got) < 2100);
	got = without_time(&line);
	assert_true(strlen(got) > 2000 && strlen(got) < 2100);
	assert_string_equal(got + strlen(got) - 8, "\\x0a\\x0a");
	assert_string_equal(line, "");
	free(text);
}

static void limited(void **state)
{
	struct log_limit limit = {0};
	char *line = captured;

	(void)state;
	capture_start();
	for (int i = 0; i < 10; i++)
		log_limited(&limit, 2, LVL_NOTICE, "line %d", i);
	limit.window_start_s -= 61; /* a minute later */
	log_limited(&limit, 2, LVL_NOTICE, "line %d", 10);
	log_limited(&limit, 2, LVL_NOTICE, "line %d", 11);
	log_limited(&limit, 2, LVL_DEBUG, "below the level: not counted");
	log_limited(&limit, 2, LVL_NOTICE, "line %d", 12);
	capture_end();
	assert_string_equal(without_time(&line), "notice test: line 0");
	assert_string_equal(without_time(&line), "notice test: line 1");
	assert_string_equal(without_time(&line),
			    "notice test: line 10 (8 more like this not logged)");
	assert_string_equal(without_time(&line), "notice test: line 11");
	assert_string_equal(line, "");
	assert_int_equal(limit.dropped, 1);
}

static void escape(void **state)
{
	char out[8];

	(void)state;
	assert_int_equal(text_escape(out, sizeof(out), "abcdefghij"), 7);
	assert_string_equal(out, "abcdefg");
	assert_int_equal(text_escape(out, sizeof(out), "abcd\n"), 4); /* not within an escape */
	assert_string_equal(out, "abcd");
	assert_int_equal(text_escape(out, sizeof(out), "abcdef\xc3\xa9"), 6);
	assert_int_equal(text_escape(out, sizeof(out), "abcde\xc3\xa9"), 7);
	assert_int_equal(text_escape(out, 1, "a"), 0);
	assert_string_equal(out, "");
	assert_int_equal(text_escape(out, 0, "a"), 0);
}

static void utf8(void **state)
{
	static const struct {
		const char *text;
		size_t len;
	} cases[] = {
		{"a", 1},
		{"\xc3\xa9", 2},
		{"\xe2\x82\xac", 3},
		{"\xf0\x9f\x98\x80", 4},
		{"\xf4\x8f\xbf\xbf", 4},
		{"\x80", 0},         /* continuation alone */
		{"\xc3", 0},         /* cut */
		{"\xe2\x82", 0},     /* cut */
		{"\xf0\x9f\x98", 0}, /* cut */
		{"\xc0\x80", 0},     /* overlong */
		{"\xe0\x80\x80", 0},
		{"\xf0\x80\x80\x80", 0},
		{"\xed\xa0\x80", 0},     /* surrogate */
		{"\xf4\x90\x80\x80", 0}, /* beyond U+10FFFF */
		{"\xf5\x80\x80\x80", 0},
		{"\xff", 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(text_utf8_len(cases[i].text), cases[i].len);
}

static void distance(void **state)
{
	(void)state;
	assert_int_equal(text_distance("listen", "listen"), 0);
	assert_int_equal(text_distance("lisen", "Listen"), 1);
	assert_int_equal(text_distance("kitten", "sitting"), 3);
	assert_int_equal(text_distance("", "abc"), 3);
	assert_int_equal(text_distance("abc", ""), 3);
	assert_int_equal(text_distance("reidr", "redir"), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_and_levels), cmocka_unit_test(forged_line),
		cmocka_unit_test(long_line),        cmocka_unit_test(limited),
		cmocka_unit_test(escape),           cmocka_unit_test(utf8),
		cmocka_unit_test(distance),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
