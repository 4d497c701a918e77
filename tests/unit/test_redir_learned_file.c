/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The learned table in a file: written, taken again, and everything that can be wrong with it. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "redir/learned_file.h"
#include "redir/learned_text.h"

#define WALL UINT64_C(1000000)

static const struct learned_limits usual = {.max = 8, .ttl_s = 1000, .plain_ttl_s = 100};

static const char full[] = "sixpath-learned 1 1000000\n"
			   "198.51.100.1 22 plain admin - 5 0\n"
			   "192.0.2.7 443 mptcp proxy 900 12 123456\n"
			   "192.0.2.9 443 mptcp direct 800 0 0\n"
			   "2001:db8::7 80 plain direct 350 0 18446744073709551615\n"
			   "2001:db8::8 65535 mptcp synack 1 1 0\n"
			   "end 5\n";

static struct learned *start(void)
{
	struct learned *l = learned_new(&usual, 0);

	assert_non_null(l);
	return l;
}

static struct addr at(const char *text)
{
	struct addr a;

	assert_true(addr_parse(&a, text, -1));
	return a;
}

static unsigned entries(struct learned *l)
{
	struct learned_counts c;

	learned_count(l, &c);
	return c.v4.mptcp + c.v4.plain + c.v6.mptcp + c.v6.plain;
}

/* Seconds an entry has left at second 50, 0 if there is none. */
static double left(struct learned *l, const char *addr)
{
	struct addr a = at(addr);
	struct learned_item item;

	return learned_get(l, &a, 50, &item) ? item.expires_s - 50 : 0;
}

/* Takes a text at second 50; it is copied to an allocation of its very size, for AddressSanitizer. */
static int take(struct learned *l, const char *text, size_t len, uint64_t wall_s, char *msg)
{
	char *copy = malloc(len);
	int rc;

	assert_true(copy || len == 0);
	if (len > 0)
		memcpy(copy, text, len);
	memset(msg, 'x', LEARNED_TEXT_MSG);
	rc = learned_text_take(l, copy, len, 50, wall_s, msg, LEARNED_TEXT_MSG);
	assert_non_null(memchr(msg, '\0', LEARNED_TEXT_MSG));
	free(copy);
	return rc;
}

static void refused(const char *text, const char *why)
{
	struct learned *l = start();
	char msg[LEARNED_TEXT_MSG];

	assert_int_equal(take(l, text, strlen(text), WALL, msg), -EBADMSG);
	assert_string_equal(msg, why);
	assert_int_equal(entries(l), 0);
	learned_free(l);
}

static void test_round_trip(void **state)
{
	struct learned *l = start();
	char msg[LEARNED_TEXT_MSG], *text;
	struct learned_item item;
	struct addr a;
	size_t len;

	(void)state;
	assert_int_equal(take(l, full, sizeof(full) - 1, WALL, msg), 0);
	assert_string_equal(msg, "5 of 5 learned servers taken, 0 had ended, 0 were known or too "
				 "many");
	assert_int_equal(entries(l), 5);
	a = at("192.0.2.7:443");
	assert_true(learned_get(l, &a, 50, &item));
	assert_int_equal(item.verdict, LEARNED_MPTCP);
	assert_int_equal(item.evidence, LEARNED_FROM_PROXY);
	assert_true(item.hits == 12 && item.saved == 123456 && item.expires_s == 950);
	a = at("198.51.100.1:22");
	assert_true(learned_get(l, &a, 50, &item));
	assert_true(item.verdict == LEARNED_PLAIN && item.evidence == LEARNED_FROM_ADMIN &&
		    isinf(item.expires_s));
	assert_int_equal(learned_text_format(l, 50, WALL, &text, &len), 0);
	assert_string_equal(text, full);
	assert_int_equal(len, sizeof(full) - 1);
	free(text);
	/* the most recently used first; lifetimes run on and are rounded up */
	a = at("192.0.2.9:443");
	learned_look(l, &a, 50, true);
	assert_int_equal(learned_text_format(l, 60.5, WALL + 10, &text, &len), 0);
	assert_string_equal(text, "sixpath-learned 1 1000010\n"
				  "198.51.100.1 22 plain admin - 5 0\n"
				  "192.0.2.9 443 mptcp direct 790 1 0\n"
				  "192.0.2.7 443 mptcp proxy 890 12 123456\n"
				  "2001:db8::7 80 plain direct 340 0 18446744073709551615\n"
				  "end 4\n");
	free(text);
	learned_free(l);
}

static void test_link_local_is_left_out(void **state)
{
	struct learned *l = start();
	struct addr a = at("[fe80::1]:443");
	char *text;
	size_t len;

	(void)state;
	a.u.in6.sin6_scope_id = 1;
	assert_true(learned_put(l, &a, LEARNED_MPTCP, LEARNED_FROM_PROXY, 0));
	assert_int_equal(learned_text_format(l, 0, WALL, &text, &len), 0);
	assert_string_equal(text, "sixpath-learned 1 1000000\nend 0\n");
	free(text);
	learned_free(l);
}

static void test_cut_anywhere(void **state)
{
	char msg[LEARNED_TEXT_MSG];

	(void)state;
	for (size_t len = 0; len < sizeof(full) - 1; len++) {
		struct learned *l = start();

		assert_int_equal(take(l, full, len, WALL, msg), -EBADMSG);
		assert_memory_equal(msg, "line ", 5);
		assert_int_equal(entries(l), 0);
		learned_free(l);
	}
	refused("", "line 1: the file is empty");
	refused("sixpath-learned 1 5", "line 1: the file is cut off");
	refused("sixpath-learned 1 5\n", "line 2: the file is cut off");
}

/* Any octet changed to any other: taken or refused, but never half. */
static void test_octets_changed(void **state)
{
	char text[sizeof(full)], msg[LEARNED_TEXT_MSG];

	(void)state;
	for (size_t i = 0; i < sizeof(full) - 1; i++) {
		for (unsigned x = 1; x < 256; x = x * 2 + (x == 64)) {
			struct learned *l = start();
			int rc;

			memcpy(text, full, sizeof(full));
			text[i] = (char)((unsigned char)text[i] ^ x);
			rc = take(l, text, sizeof(full) - 1, WALL, msg);
			assert_true(rc == 0 || entries(l) == 0);
			assert_true(rc == 0 || rc == -EBADMSG);
			learned_free(l);
		}
	}
}

#define HEAD "sixpath-learned 1 1000000\n"

static void test_head(void **state)
{
	(void)state;
	refused("#!/bin/sh\nexit 0\n", "line 1: this is no file of learned servers");
	refused("\n", "line 1: this is no file of learned servers");
	refused("sixpath-learnedX 1 5\nend 0\n", "line 1: this is no file of learned servers");
	refused("sixpath-learned 2 1000000\nend 0\n",
		"line 1: \"2\" is not a version that is understood");
	refused("sixpath-learned\nend 0\n",
		"line 1: \"sixpath-learned\" is not a version that is understood");
	refused("sixpath-learned 1\nend 0\n", "line 1: \"1\" is not the time of saving");
	refused("sixpath-learned 1 -5\nend 0\n", "line 1: \"-5\" is not the time of saving");
	refused("sixpath-learned 1 99999999999999999999\nend 0\n",
		"line 1: \"99999999999999999999\" is not the time of saving");
	refused("sixpath-learned 1 5 6\nend 0\n", "line 1: \"5\" is not the time of saving");
}

static void test_fields(void **state)
{
	static const struct {
		const char *line, *why;
	} bad[] = {
		{"", "fewer fields than an entry has"},
		{"192.0.2.1 443 mptcp proxy 9 1", "fewer fields than an entry has"},
		{"192.0.2.1 443 mptcp proxy 9 1 2 3", "more fields than an entry has"},
		{"192.0.2.1 443 mptcp proxy 9 1 2 ", "more fields than an entry has"},
		{"192.0.2.1  443 mptcp proxy 9 1 2", "more fields than an entry has"},
		{" 443 mptcp proxy 9 1 2", "\"\" is not an address"},
		{"192.0.2 443 mptcp proxy 9 1 2", "\"192.0.2\" is not an address"},
		{"example.org 443 mptcp proxy 9 1 2", "\"example.org\" is not an address"},
		{"[::1] 443 mptcp proxy 9 1 2", "\"[::1]\" is not an address"},
		{"fe80::1%lo 443 mptcp proxy 9 1 2", "\"fe80::1%lo\" is not an address"},
		{"2001:db8:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:0:1 1 "
		 "mptcp "
		 "proxy 9 1 2",
		 "\"2001:db8:0:0:0:0:0:0:0:0:0:0:0:0\" is not an address"},
		{"192.0.2.1 0 mptcp proxy 9 1 2", "\"0\" is not a port"},
		{"192.0.2.1 65536 mptcp proxy 9 1 2", "\"65536\" is not a port"},
		{"192.0.2.1 +1 mptcp proxy 9 1 2", "\"+1\" is not a port"},
		{"192.0.2.1 http mptcp proxy 9 1 2", "\"http\" is not a port"},
		{"192.0.2.1  mptcp proxy 9 1 2", "\"\" is not a port"},
		{"192.0.2.1 443 MPTCP proxy 9 1 2", "\"MPTCP\" is not a verdict"},
		{"192.0.2.1 443 unknown proxy 9 1 2", "\"unknown\" is not a verdict"},
		{"192.0.2.1 443 mptcp prox 9 1 2", "\"prox\" is not evidence"},
		{"192.0.2.1 443 mptcp \033[2J 9 1 2", "\"\\x1b[2J\" is not evidence"},
		{"192.0.2.1 443 mptcp proxy -1 1 2", "\"-1\" is not a number of seconds left"},
		{"192.0.2.1 443 mptcp proxy 1.5 1 2", "\"1.5\" is not a number of seconds left"},
		{"192.0.2.1 443 mptcp proxy 4294967296 1 2",
		 "\"4294967296\" is not a number of seconds left"},
		{"192.0.2.1 443 mptcp proxy - 1 2", "\"-\" is not a number of seconds left"},
		{"192.0.2.1 443 mptcp proxy 9 x 2", "\"x\" is not a number of hits"},
		{"192.0.2.1 443 mptcp proxy 9 18446744073709551616 2",
		 "\"18446744073709551616\" is not a number of hits"},
		{"192.0.2.1 443 mptcp proxy 9 1 2\r", "\"2\\x0d\" is not a number of octets"},
		{"192.0.2.1 443 mptcp proxy 9 1 ", "\"\" is not a number of octets"},
		{"192.0.2.1 443 mptcp proxy 9 1 99999999999999999999999",
		 "\"99999999999999999999999\" is not a number of octets"},
		{"end", "the number of entries is missing"},
		{"end x", "the number of entries is missing"},
		{"end 2", "1 entries are missing or too many: 2 should be here"},
		{"end 0", "1 entries are missing or too many: 0 should be here"},
		{"end 1\nx", "something follows the end"},
		{"end 1\n", "something follows the end"},
	};
	char text[512], why[LEARNED_TEXT_MSG];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text),
			 HEAD "192.0.2.2 1 plain proxy 9 0 0\n%s\n192.0.2.3 1 plain proxy 9 0 0\n",
			 bad[i].line);
		snprintf(why, sizeof(why), "line 3: %s", bad[i].why);
		refused(text, why);
	}
}

static void test_octet_zero(void **state)
{
	static const char text[] = HEAD "192.0.2.1\0x 443 mptcp proxy 9 1 2\nend 1\n";
	struct learned *l = start();
	char msg[LEARNED_TEXT_MSG];

	(void)state;
	assert_int_equal(take(l, text, sizeof(text) - 1, WALL, msg), -EBADMSG);
	assert_int_equal(entries(l), 0);
	learned_free(l);
}

static void test_clock(void **state)
{
	struct learned *l = start();
	char msg[LEARNED_TEXT_MSG];

	(void)state;
	assert_int_equal(take(l, full, sizeof(full) - 1, WALL + 300, msg), 0);
	assert_string_equal(msg, "4 of 5 learned servers taken, 1 had ended, 0 were known or too "
				 "many");
	assert_true(left(l, "192.0.2.7:443") == 600);
	assert_true(left(l, "[2001:db8::7]:80") == 50);
	assert_true(isinf(left(l, "198.51.100.1:22")));
	learned_free(l);

	l = start(); /* years later, or a clock that was wrong */
	assert_int_equal(take(l, full, sizeof(full) - 1, WALL * 1000, msg), 0);
	assert_int_equal(entries(l), 1);
	learned_free(l);

	l = start();
	assert_int_equal(take(l, full, sizeof(full) - 1, WALL - 300, msg), 0);
	assert_string_equal(msg, "5 of 5 learned servers taken, 0 had ended, 0 were known or too "
				 "many; the clock went back by 300 s since they were saved, so "
				 "lifetimes go on as if no time had passed");
	assert_true(left(l, "192.0.2.7:443") == 900);
	assert_true(left(l, "[2001:db8::7]:80") == 350);
	learned_free(l);
}

static void test_cut_to_ttl(void **state)
{
	static const char text[] = HEAD "192.0.2.1 1 mptcp proxy 4294967295 1 2\n"
					"192.0.2.2 1 plain proxy 4294967295 1 2\n"
					"192.0.2.3 1 plain direct 4294967295 1 2\n"
					"192.0.2.4 1 plain admin 4294967295 1 2\nend 4\n";
	struct learned *l = start();
	char msg[LEARNED_TEXT_MSG];

	(void)state;
	assert_int_equal(take(l, text, sizeof(text) - 1, WALL, msg), 0);
	assert_true(left(l, "192.0.2.1:1") == 1000);
	assert_true(left(l, "192.0.2.2:1") == 100);
	assert_true(left(l, "192.0.2.3:1") == LEARNED_PLAIN_TTL_S);
	assert_true(left(l, "192.0.2.4:1") == 4294967295.0);
	learned_free(l);
}

static void test_duplicates_and_too_many(void **state)
{
	struct learned *l = start();
	struct addr known = at("192.0.2.19:443");
	char text[4096], msg[LEARNED_TEXT_MSG];
	int len;

	(void)state;
	/* the first one counts; a mapped address is the same one */
	assert_true(learned_put(l, &known, LEARNED_PLAIN, LEARNED_FROM_PROXY, 50));
	len = snprintf(text, sizeof(text),
		       HEAD "192.0.2.1 443 mptcp proxy 9 1 2\n"
			    "192.0.2.1 443 plain direct 99 1 2\n"
			    "::ffff:192.0.2.1 443 plain proxy 99 1 2\n"
			    "192.0.2.19 443 mptcp direct 99 1 2\nend 4\n");
	assert_int_equal(take(l, text, (size_t)len, WALL, msg), 0);
	assert_string_equal(msg, "1 of 4 learned servers taken, 0 had ended, 3 were known or too "
				 "many");
	assert_int_equal(entries(l), 2);
	assert_true(left(l, "192.0.2.1:443") == 9);
	assert_true(left(l, "192.0.2.19:443") == 100);
	/* the first ones, until it is full */
	learned_clear(l);
	len = snprintf(text, sizeof(text), HEAD);
	for (int i = 1; i <= 20; i++)
		len += snprintf(text + len, sizeof(text) - (size_t)len,
				"192.0.2.%d 443 mptcp proxy 99 1 2\n", i);
	len += snprintf(text + len, sizeof(text) - (size_t)len, "end 20\n");
	assert_int_equal(take(l, text, (size_t)len, WALL, msg), 0);
	assert_string_equal(msg, "8 of 20 learned servers taken, 0 had ended, 12 were known or "
				 "too many");
	assert_true(left(l, "192.0.2.8:443") == 99);
	assert_true(left(l, "192.0.2.9:443") == 0);
	learned_free(l);
}

/* ---- on the disk ---- */

struct place {
	char dir[64], path[96], temp[104];
	char msg[LEARNED_TEXT_MSG];
};

static void make_place(struct place *p)
{
	snprintf(p->dir, sizeof(p->dir), "/tmp/test_learned_XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->path, sizeof(p->path), "%s/learned", p->dir);
	snprintf(p->temp, sizeof(p->temp), "%s.new", p->path);
}

static void end_place(struct place *p)
{
	unlink(p->path);
	assert_int_equal(rmdir(p->dir), 0); /* nothing else was left there */
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void test_save_load(void **state)
{
	struct learned *l = start(), *again = start();
	struct place p;
	struct stat st;

	(void)state;
	make_place(&p);
	assert_int_equal(learned_file_load(again, p.path, 50, WALL, p.msg, sizeof(p.msg)), -ENOENT);
	assert_string_equal(p.msg, "no servers were saved");
	assert_int_equal(take(l, full, sizeof(full) - 1, WALL, p.msg), 0);
	umask(0);
	write_file(p.path, "old");
	/* left by a save that was killed, readable by all */
	write_file(p.temp, "half");
	assert_int_equal(learned_file_save(l, p.path, 50, WALL, p.msg, sizeof(p.msg)), 0);
	assert_string_equal(p.msg, "");
	assert_int_equal(stat(p.path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, sizeof(full) - 1);
	assert_int_equal(access(p.temp, F_OK), -1);
	assert_int_equal(learned_file_load(again, p.path, 50, WALL + 1, p.msg, sizeof(p.msg)), 0);
	assert_int_equal(entries(again), 4);
	/* a relative path has a directory, too */
	assert_int_equal(chdir(p.dir), 0);
	assert_int_equal(learned_file_save(l, "learned", 50, WALL, p.msg, sizeof(p.msg)), 0);
	assert_int_equal(chdir("/"), 0);
	learned_free(l);
	learned_free(again);
	end_place(&p);
}

static void test_symlink_is_not_followed(void **state)
{
	struct learned *l = start();
	struct place p;
	struct stat st;
	char victim[104];

	(void)state;
	make_place(&p);
	snprintf(victim, sizeof(victim), "%s/victim", p.dir);
	write_file(victim, "precious");
	assert_int_equal(symlink(victim, p.temp), 0);
	assert_int_equal(learned_file_save(l, p.path, 50, WALL, p.msg, sizeof(p.msg)), 0);
	assert_int_equal(stat(victim, &st), 0);
	assert_int_equal(st.st_size, 8);
	assert_int_equal(unlink(victim), 0);
	learned_free(l);
	end_place(&p);
}

static void test_disk_errors(void **state)
{
	struct learned *l = start();
	struct place p;
	struct stat before, after;
	struct rlimit room, little;
	int rc;

	(void)state;
	make_place(&p);
	assert_int_equal(learned_file_save(l, "/nowhere/learned", 0, WALL, p.msg, sizeof(p.msg)),
			 -ENOENT);
	assert_string_equal(p.msg, "cannot save the learned servers: No such file or directory");
	write_file(p.path, full);
	assert_int_equal(stat(p.path, &before), 0);
	/* no room in the midst of it: the old file stays, nothing is left beside it */
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &room), 0);
	little = room;
	little.rlim_cur = 10;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
	rc = learned_file_save(l, p.path, 0, WALL, p.msg, sizeof(p.msg));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &room), 0);
	assert_int_equal(rc, -EFBIG);
	assert_int_equal(access(p.temp, F_OK), -1);
	assert_int_equal(stat(p.path, &after), 0);
	assert_true(before.st_ino == after.st_ino && after.st_size == sizeof(full) - 1);
	assert_int_equal(mkdir(p.temp, 0700), 0); /* stands in the way */
	assert_true(learned_file_save(l, p.path, 0, WALL, p.msg, sizeof(p.msg)) < 0);
	assert_int_equal(rmdir(p.temp), 0);
	assert_int_equal(stat(p.path, &after), 0);
	assert_true(before.st_ino == after.st_ino);
	assert_int_equal(unlink(p.path), 0);
	/* a directory instead of the file: cannot be read, cannot be replaced */
	assert_int_equal(mkdir(p.path, 0700), 0);
	assert_int_equal(learned_file_load(l, p.path, 0, WALL, p.msg, sizeof(p.msg)), -EINVAL);
	assert_string_equal(p.msg, "cannot read the learned servers: Invalid argument");
	assert_true(learned_file_save(l, p.path, 0, WALL, p.msg, sizeof(p.msg)) < 0);
	assert_int_equal(access(p.temp, F_OK), -1);
	assert_int_equal(rmdir(p.path), 0);
	/* a FIFO does not hold us */
	assert_int_equal(mkfifo(p.path, 0600), 0);
	assert_int_equal(learned_file_load(l, p.path, 0, WALL, p.msg, sizeof(p.msg)), -EINVAL);
	assert_int_equal(unlink(p.path), 0);
	/* one of absurd size is not read into memory */
	write_file(p.path, full);
	assert_int_equal(truncate(p.path, (off_t)1 << 40), 0);
	assert_int_equal(learned_file_load(l, p.path, 0, WALL, p.msg, sizeof(p.msg)), -EFBIG);
	/* a corrupt one is told about */
	write_file(p.path, "\177ELF\n");
	assert_int_equal(learned_file_load(l, p.path, 0, WALL, p.msg, sizeof(p.msg)), -EBADMSG);
	assert_string_equal(p.msg, "the learned servers are not taken, line 1: this is no file of "
				   "learned servers");
	assert_int_equal(entries(l), 0);
	learned_free(l);
	end_place(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_link_local_is_left_out),
		cmocka_unit_test(test_cut_anywhere), cmocka_unit_test(test_octets_changed),
		cmocka_unit_test(test_head),         cmocka_unit_test(test_fields),
		cmocka_unit_test(test_octet_zero),   cmocka_unit_test(test_clock),
		cmocka_unit_test(test_cut_to_ttl),   cmocka_unit_test(test_duplicates_and_too_many),
		cmocka_unit_test(test_save_load),    cmocka_unit_test(test_symlink_is_not_followed),
		cmocka_unit_test(test_disk_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
