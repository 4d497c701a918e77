/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/report.h"

static void expect(struct report *r, const char *want)
{
	size_t len;
	const char *got = report_finish(r, &len);

	assert_non_null(got);
	assert_string_equal(got, want);
	assert_int_equal(len, strlen(want));
	report_free(r);
}

/* The same answer, as text or JSON. */
static struct report *sample(bool json)
{
	struct report *r = report_new("status", json);

	assert_non_null(r);
	report_str(r, "version", "0.1.0");
	report_seconds(r, "up_time", 3725.4);
	report_bool(r, "tune", true);
	report_object(r, "totals");
	report_u64(r, "flows", 12);
	report_bytes(r, "bytes_up", 12345678);
	report_object(r, "deeper");
	report_null(r, "nothing");
	report_end(r);
	report_end(r);
	report_list(r, "proxies");
	report_row(r);
	report_str(r, "name", "fr1");
	report_u64(r, "flows_now", 7);
	report_str(r, "state", "up");
	report_percent(r, "share", 75);
	report_object(r, "path");
	report_list(r, "devices");
	report_row(r);
	report_str(r, "device", "eth0");
	report_end(r);
	report_end(r);
	report_row(r);
	report_str(r, "name", "a-longer-name");
	report_u64(r, "flows_now", 1234567890123);
	report_str(r, "state", NULL);
	report_percent(r, "share", 0);
	report_end(r);
	report_list(r, "paths");
	report_end(r);
	report_object(r, "errors");
	report_end(r);
	return r;
}

static void as_json(void **state)
{
	(void)state;
	expect(sample(true),
	       "{\"schema\":\"sixpath/1\",\"command\":\"status\",\"version\":\"0.1.0\","
	       "\"up_time\":3725.400000,\"tune\":true,\"totals\":{\"flows\":12,"
	       "\"bytes_up\":12345678,\"deeper\":{\"nothing\":null}},\"proxies\":["
	       "{\"name\":\"fr1\",\"flows_now\":7,\"state\":\"up\",\"share\":75,\"path\":{"
	       "\"devices\":["
	       "{\"device\":\"eth0\"}]}},{\"name\":\"a-longer-name\",\"flows_now\":1234567890123,"
	       "\"state\":null,\"share\":0}],\"paths\":[],\"errors\":{}}\n");
}

static void as_text(void **state)
{
	(void)state;
	expect(sample(false), "version: 0.1.0\n"
			      "up time: 1h02m\n"
			      "tune:    yes\n"
			      "\n"
			      "totals:\n"
			      "  flows:    12\n"
			      "  bytes up: 12.3 MB\n"
			      "  deeper:\n"
			      "    nothing: -\n"
			      "\n"
			      "proxies (2)\n"
			      "NAME               FLOWS-NOW  STATE  SHARE\n"
			      "fr1                        7  up       75%\n"
			      "a-longer-name  1234567890123  -         0%\n"
			      "\n"
			      "paths (0)\n"
			      "\n"
			      "errors: none\n");
}

static void json_strings(void **state)
{
	struct report *r = report_new("a\"b", true);

	(void)state;
	report_str(r, "k\n", "q\"b\\s\x01\x1f\x7f\t\xc3\xa9\xff\xe2\x82");
	report_str(r, "empty", "");
	expect(r, "{\"schema\":\"sixpath/1\",\"command\":\"a\\\"b\",\"k\\u000a\":"
		  "\"q\\\"b\\\\s\\u0001\\u001f\\u007f\\u0009\xc3\xa9\\ufffd\\ufffd\\ufffd\","
		  "\"empty\":\"\"}\n");
}

static void text_strings(void **state)
{
	struct report *r = report_new("x", false);

	(void)state;
	report_str(r, "a", "b\033[31m\nc");
	report_str(r, "empty", "");
	report_list(r, "t");
	report_row(r);
	report_str(r, "x", "\xc3\xa9\xc3\xa9"); /* two columns wide */
	report_str(r, "y", "1");
	report_row(r);
	report_str(r, "y", "2"); /* in another order, and one more */
	report_str(r, "x", "abc");
	report_str(r, "z", "not shown");
	report_row(r);
	report_end(r);
	expect(r, "a:     b\\x1b[31m\\x0ac\n"
		  "empty: -\n"
		  "\n"
		  "t (3)\n"
		  "X    Y\n"
		  "\xc3\xa9\xc3\xa9   1\n"
		  "abc  2\n"
		  "-    -\n");
}

static void expect_field(const char *want_text, const char *want_json, uint64_t bytes,
			 double seconds)
{
	for (int json = 0; json < 2; json++) {
		char want[200];
		struct report *r = report_new("x", json);
		if (bytes != UINT64_MAX)
			report_bytes(r, "k", bytes);
		else
			report_seconds(r, "k", seconds);
		if (json)
			snprintf(want, sizeof(want),
				 "{\"schema\":\"sixpath/1\",\"command\":\"x\",\"k\":%s}\n",
				 want_json);
		else
			snprintf(want, sizeof(want), "k: %s\n", want_text);
		expect(r, want);
	}
}

static void numbers(void **state)
{
	(void)state;
	expect_field("0 B", "0", 0, 0);
	expect_field("999 B", "999", 999, 0);
	expect_field("1.0 kB", "1000", 1000, 0);
	expect_field("999.9 kB", "999949", 999949, 0);
	expect_field("1.0 MB", "999950", 999950, 0);
	expect_field("18.4 EB", "18446744073709551614", UINT64_MAX - 1, 0);
	expect_field("-", "null", UINT64_MAX, -1);
	expect_field("-", "null", UINT64_MAX, (double)NAN);
	expect_field("-", "null", UINT64_MAX, (double)INFINITY);
	expect_field("0.0ms", "0.000000", UINT64_MAX, 0);
	expect_field("0.4ms", "0.000400", UINT64_MAX, 0.0004);
	expect_field("12ms", "0.012000", UINT64_MAX, 0.012);
	expect_field("999ms", "0.999000", UINT64_MAX, 0.999);
	expect_field("1.0s", "0.999900", UINT64_MAX, 0.9999);
	expect_field("3.4s", "3.400000", UINT64_MAX, 3.4);
	expect_field("1m00s", "60.000000", UINT64_MAX, 60);
	expect_field("59m59s", "3599.999000", UINT64_MAX, 3599.999);
	expect_field("1h02m", "3720.000000", UINT64_MAX, 3720);
	expect_field("2d03h", "183600.000000", UINT64_MAX, 183600);
}

static void empty_answers(void **state)
{
	(void)state;
	expect(report_new("x", false), "");
	expect(report_new("x", true), "{\"schema\":\"sixpath/1\",\"command\":\"x\"}\n");
}

/* What is left open is closed, and ends too many do no harm. */
static void unbalanced(void **state)
{
	struct report *r = report_new("x", true);

	(void)state;
	report_end(r);
	report_list(r, "l");
	report_str(r, "lost", "no row yet");
	report_row(r);
	report_object(r, "o");
	expect(r, "{\"schema\":\"sixpath/1\",\"command\":\"x\",\"l\":[{\"o\":{}}]}\n");
}

static void too_deep(void **state)
{
	for (int json = 0; json < 2; json++) {
		struct report *r = report_new("x", json);
		size_t len;
		for (int i = 0; i < 50; i++) {
			report_u64(r, "n", 1);
			report_object(r, "o");
		}
		for (int i = 0; i < 60; i++)
			report_end(r);
		assert_null(report_finish(r, &len));
		report_free(r);
	}
	(void)state;
}

static void many_rows(void **state)
{
	struct report *r = report_new("flows", false);
	size_t len;

	(void)state;
	report_list(r, "flows");
	for (unsigned i = 0; i < 5000; i++) {
		report_row(r);
		for (char k[2] = "a"; *k < 'k'; ++*k)
			report_u64(r, k, i);
	}
	report_end(r);
	assert_non_null(report_finish(r, &len));
	/* title, header and rows: ten columns of four and nine gaps */
	assert_int_equal(len, strlen("flows (5000)\n") + 5001 * (10 * 4 + 9 * 2 + 1));
	report_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_json),      cmocka_unit_test(as_text),
		cmocka_unit_test(json_strings), cmocka_unit_test(text_strings),
		cmocka_unit_test(numbers),      cmocka_unit_test(empty_answers),
		cmocka_unit_test(unbalanced),   cmocka_unit_test(too_deep),
		cmocka_unit_test(many_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
