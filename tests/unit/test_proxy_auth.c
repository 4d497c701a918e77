/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The users file, and the thread that checks passwords. */
#include <crypt.h>
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

#include "core/auth.h"
#include "core/users.h"
#include "core/worker.h"

#define DEADLINE_S 20.0

static char path[] = "/tmp/sixpath-users-XXXXXX";

static struct users *load(const char *text, char *err, size_t cap)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	err[0] = '\0';
	return users_load(path, err, cap);
}

static const char *hash_of(const struct users *u, const char *name)
{
	return users_hash(u, (const uint8_t *)name, strlen(name));
}

static void test_good_file(void **state)
{
	char err[256];
	struct users *u = load("# people\n\nbob:$6$x$bb\nalice:$y$j9T$x$aa\r\n", err, sizeof(err));

	(void)state;
	assert_non_null(u);
	assert_int_equal(users_count(u), 2);
	assert_string_equal(hash_of(u, "alice"), "$y$j9T$x$aa");
	assert_string_equal(hash_of(u, "bob"), "$6$x$bb");
	assert_null(hash_of(u, "carol"));
	assert_null(hash_of(u, ""));
	assert_null(hash_of(u, "alic"));
	assert_null(users_hash(u, (const uint8_t *)"bob\0x", 5));
	assert_non_null(users_any_hash(u));
	users_free(u);

	u = load("", err, sizeof(err));
	assert_non_null(u);
	assert_int_equal(users_count(u), 0);
	assert_null(users_any_hash(u));
	assert_null(hash_of(u, "alice"));
	users_free(u);
	assert_null(hash_of(NULL, "alice"));
}

static void test_bad_files(void **state)
{
	static const struct {
		const char *text, *err;
	} rows[] = {
		{"alice\n", "line 1: "},
		{"# x\n:$6$a$b\n", "line 2: "},
		{"alice:\n", "line 1: "},
		{"alice:wonder\n", "line 1: "},
		{"alice:aaJ5LPQrIqbNs\n", "line 1: "}, /* traditional DES */
		{"alice:$nosuch$a$b\n", "line 1: "},
		{"alice:$6$a$b\nbob:$6$a$b\nalice:$6$a$c\n", "\"alice\" appears twice"},
	};
	char err[256];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_null(load(rows[i].text, err, sizeof(err)));
		if (!strstr(err, rows[i].err))
			fail_msg("%s: %s", rows[i].text, err);
		assert_null(strstr(err, "wonder"));
	}
	assert_null(users_load("/no/such/file", err, sizeof(err)));
	assert_string_equal(err, strerror(ENOENT));
}

/* ---- the thread ---- */

struct rig {
	struct worker w;
	struct auth *a;
	char hash[384];
};

struct ask {
	struct rig *rig;
	unsigned answers;
	bool accepted;
};

static void late_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)t;
	(void)events;
	ev_break(loop, EVBREAK_ALL);
}

static void run_loop(struct rig *r)
{
	ev_timer late;

	ev_timer_init(&late, late_cb, DEADLINE_S, 0.);
	ev_timer_start(r->w.loop, &late);
	ev_run(r->w.loop, 0);
	ev_timer_stop(r->w.loop, &late);
}

static void checked(void *owner, bool accepted)
{
	struct ask *ask = owner;

	ask->answers++;
	ask->accepted = accepted;
	ev_break(ask->rig->w.loop, EVBREAK_ALL);
}

static struct auth_check *begin(struct ask *ask, const char *from, bool known, const char *password)
{
	struct addr a;

	assert_true(addr_parse_ip(&a, from));
	return auth_start(ask->rig->a, &ask->rig->w, &a, ask->rig->hash, known,
			  (const uint8_t *)password, strlen(password), checked, ask);
}

static bool passes(struct rig *r, const char *from, bool known, const char *password)
{
	struct ask ask = {.rig = r};

	if (!begin(&ask, from, known, password))
		return false;
	assert_int_equal(ask.answers, 0); /* never from inside */
	run_loop(r);
	assert_int_equal(ask.answers, 1);
	return ask.accepted;
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	const char *hash = crypt("wonder", "$6$rounds=1000$salt$");

	assert_non_null(r);
	assert_non_null(hash);
	snprintf(r->hash, sizeof(r->hash), "%s", hash);
	assert_int_equal(worker_init(&r->w, 0, NULL), 0);
	r->a = auth_new();
	assert_non_null(r->a);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	auth_free(r->a);
	ev_run(r->w.loop, EVRUN_NOWAIT); /* answers nobody waits for any more */
	worker_fini(&r->w);
	free(r);
	return 0;
}

static void test_password(void **state)
{
	struct rig *r = *state;

	assert_true(passes(r, "1.1.1.1", true, "wonder"));
	assert_false(passes(r, "1.1.1.1", true, "wonde"));
	assert_false(passes(r, "1.1.1.1", true, "wonderx"));
	assert_false(passes(r, "1.1.1.1", false, "wonder")); /* unknown user, someone else's hash */
	assert_true(passes(r, "1.1.1.1", true, "wonder"));
}

static void test_nul_in_password(void **state)
{
	struct rig *r = *state;
	struct ask ask = {.rig = r};
	struct addr a;

	assert_true(addr_parse_ip(&a, "1.1.1.1"));
	assert_null(auth_start(r->a, &r->w, &a, r->hash, true, (const uint8_t *)"wonder\0x", 8,
			       checked, &ask));
	assert_int_equal(errno, EACCES);
}

static void test_failures_of_one_address(void **state)
{
	struct rig *r = *state;
	int tries = 0;
	struct ask ask = {.rig = r};

	while (begin(&ask, "2a00::1", true, "x")) {
		run_loop(r);
		assert_false(ask.accepted);
		assert_true(++tries < 20);
	}
	assert_int_equal(errno, EACCES);
	assert_int_equal(tries, 8);
	assert_false(passes(r, "2a00::2", true, "wonder")); /* the same /64 */
	assert_true(passes(r, "2a00:0:0:1::1", true, "wonder"));
}

/* A burst that is queued before the first failure is known costs eight computations too: the
 * right password at its end is refused without one. */
static void test_burst(void **state)
{
	struct rig *r = *state;
	struct ask asks[100] = {0}, *last = &asks[99];

	for (int i = 0; i < 100; i++) {
		asks[i].rig = r;
		assert_non_null(begin(&asks[i], "3.3.3.3", true, i < 99 ? "x" : "wonder"));
	}
	while (last->answers == 0)
		run_loop(r);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(asks[i].answers, 1);
		assert_false(asks[i].accepted);
	}
}

static void test_full_queue(void **state)
{
	struct rig *r = *state;
	struct ask ask = {.rig = r};
	char from[32];
	int n = 0;

	do /* wrong ones: each costs a computation */
		snprintf(from, sizeof(from), "4.4.%d.%d", n / 256, n % 256);
	while (begin(&ask, from, true, "x") && ++n < 1000);
	assert_int_equal(errno, EAGAIN);
	assert_in_range(n, 256, 999);
	while ((int)ask.answers < n)
		run_loop(r);
	assert_false(ask.accepted);
}

/* One address does not fill the queue: there is room for others. */
static void test_queue_share(void **state)
{
	struct rig *r = *state;
	struct ask ask = {.rig = r}, other = {.rig = r};
	int n = 0;

	/* So slow that the address has not failed eight times before its share is full. */
	snprintf(r->hash, sizeof(r->hash), "%s", crypt("wonder", "$6$rounds=50000$salt$"));
	while (n < 1000 && begin(&ask, "6.6.6.6", true, "x"))
		n++;
	assert_int_equal(errno, EAGAIN);
	assert_in_range(n, 100, 200);
	assert_non_null(begin(&other, "7.7.7.7", true, "wonder"));
	while ((int)ask.answers < n || other.answers == 0)
		run_loop(r);
	assert_false(ask.accepted);
	assert_true(other.accepted);
}

static void test_recent(void **state)
{
	struct rig *r = *state;

	for (int i = 0; i < 20; i++)
		assert_true(passes(r, "1.1.1.1", true, "wonder"));
	assert_int_equal(auth_computed(r->a), 1);
	assert_false(passes(r, "1.1.1.1", true, "wonde"));
	assert_false(passes(r, "1.1.1.1", false, "wonder"));
	assert_int_equal(auth_computed(r->a), 3);
	/* The administrator has changed it. */
	snprintf(r->hash, sizeof(r->hash), "%s", crypt("other", "$6$rounds=1000$salt$"));
	assert_false(passes(r, "1.1.1.1", true, "wonder"));
	assert_true(passes(r, "1.1.1.1", true, "other"));
	assert_int_equal(auth_computed(r->a), 5);
	/* More of them than are remembered: the oldest are computed again, none is mistaken. */
	for (int i = 0; i < 40; i++) {
		char password[16];

		snprintf(password, sizeof(password), "p%d", i % 20);
		snprintf(r->hash, sizeof(r->hash), "%s", crypt(password, "$6$rounds=1000$salt$"));
		assert_true(passes(r, "1.1.1.1", true, password));
	}
	assert_in_range(auth_computed(r->a), 25, 45);
}

static void test_cancel(void **state)
{
	struct rig *r = *state;
	struct ask ask = {.rig = r};
	struct auth_check *c = begin(&ask, "1.1.1.1", true, "wonder");

	assert_non_null(c);
	auth_cancel(c);
	assert_true(passes(r, "1.1.1.1", true, "wonder")); /* answered after the cancelled one */
	assert_int_equal(ask.answers, 0);
}

static int make_file(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

#define THREAD_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_file),
		cmocka_unit_test(test_bad_files),
		THREAD_TEST(test_password),
		THREAD_TEST(test_nul_in_password),
		THREAD_TEST(test_failures_of_one_address),
		THREAD_TEST(test_burst),
		THREAD_TEST(test_full_queue),
		THREAD_TEST(test_queue_share),
		THREAD_TEST(test_recent),
		THREAD_TEST(test_cancel),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
