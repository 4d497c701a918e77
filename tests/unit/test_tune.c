/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Kernel settings: checked, set and restored in a network namespace of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <grp.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "core/log.h"
#include "core/tune.h"
#include "core/tune_file.h"
#include "rig.h"

#define NOBODY 65534
#define ALL    (TUNE_REDIR | TUNE_ICMP)

static bool can_become_nobody; /* root, and not only of a user namespace of its own */

static long get(const char *name)
{
	char path[160], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	return strtol(text, NULL, 10);
}

static void set(const char *name, const char *value)
{
	if (!rig_sysctl(name, value))
		fail_msg("cannot set %s=%s", name, value);
}

/* All as a kernel has it by default, or worse. */
static int worst(void **state)
{
	(void)state;
	set("net/mptcp/enabled", "0");
	set("net/mptcp/blackhole_timeout", "3600");
	set("net/mptcp/close_timeout", "60");
	set("net/ipv4/tcp_fastopen", "0");
	set("net/ipv4/tcp_fastopen_blackhole_timeout_sec", "3600");
	set("net/ipv4/icmp_ratelimit", "1000");
	set("net/ipv6/icmp/ratelimit", "1000");
	set("net/core/somaxconn", "128");
	set("net/ipv4/conf/lo/src_valid_mark", "0");
	set("net/ipv4/ip_forward", "0");
	return 0;
}

/* ---- checking ---- */

struct found {
	const char *key;
	int64_t bit; /* of the row, 0 = any */
	struct tune_seen seen;
	unsigned n;
};

static void find(const struct tune_seen *s, void *ctx)
{
	struct found *f = ctx;

	if (strcmp(s->key, f->key) != 0 || (f->bit && f->bit != s->row->low))
		return;
	f->seen = *s;
	f->n++;
}

static struct tune_seen check_bit(unsigned roles, const char *key, int64_t bit)
{
	struct found f = {.key = key, .bit = bit};

	tune_check(roles, find, &f);
	assert_int_equal(f.n, 1);
	return f.seen;
}

static struct tune_seen check(const char *key)
{
	return check_bit(TUNE_REDIR | TUNE_ICMP, key, 0);
}

static void test_exact(void **state)
{
	(void)state;
	assert_int_equal(check("net/mptcp/enabled").state, TUNE_WRONG);
	assert_int_equal(check("net/mptcp/enabled").value, 0);
	set("net/mptcp/enabled", "1");
	assert_int_equal(check("net/mptcp/enabled").state, TUNE_OK);
}

static void test_range(void **state)
{
	static const struct {
		const char *value;
		enum tune_state state;
	} cases[] = {{"1", TUNE_WRONG}, {"2", TUNE_OK}, {"5", TUNE_OK}, {"6", TUNE_WRONG}};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		set("net/mptcp/close_timeout", cases[i].value);
		assert_int_equal(check("net/mptcp/close_timeout").state, cases[i].state);
	}
}

static void test_at_least(void **state)
{
	(void)state;
	set("net/core/somaxconn", "1023");
	assert_int_equal(check("net/core/somaxconn").state, TUNE_WRONG);
	set("net/core/somaxconn", "1024");
	assert_int_equal(check("net/core/somaxconn").state, TUNE_OK);
	set("net/core/somaxconn", "5000");
	assert_int_equal(check("net/core/somaxconn").state, TUNE_OK);
}

static void test_bits(void **state)
{
	const char *key = "net/ipv4/tcp_fastopen";
	char buf[TUNE_TEXT_MAX];
	struct tune_seen s;

	(void)state;
	set(key, "1");
	assert_int_equal(check_bit(TUNE_REDIR, key, 1).state, TUNE_OK);
	s = check_bit(TUNE_REDIR, key, 2);
	assert_int_equal(s.state, TUNE_WRONG);
	assert_string_equal(tune_cure(&s, buf, sizeof(buf)), "sysctl -w net.ipv4.tcp_fastopen=3");
	assert_string_equal(tune_wanted(s.row, buf, sizeof(buf)), "with bit 2");
	assert_true(s.row->essential == TUNE_PROXY);
	set(key, "2");
	assert_int_equal(check_bit(TUNE_PROXY, key, 2).state, TUNE_OK);
	assert_int_equal(check_bit(TUNE_PROXY, key, 1).state, TUNE_WRONG);
}

static void test_each_interface(void **state)
{
	const char *key = "net/ipv4/conf/lo/src_valid_mark";
	char buf[TUNE_TEXT_MAX];
	struct tune_seen s;

	(void)state;
	assert_int_equal(check(key).state, TUNE_OK);
	set(key, "1");
	s = check(key);
	assert_int_equal(s.state, TUNE_WRONG);
	assert_int_equal(check("net/ipv4/conf/all/src_valid_mark").state, TUNE_OK);
	assert_string_equal(tune_cure(&s, buf, sizeof(buf)),
			    "sysctl -w net.ipv4.conf.lo.src_valid_mark=0");
	snprintf(s.key, sizeof(s.key), "net/ipv4/conf/eth0.7/src_valid_mark");
	assert_string_equal(tune_name(&s, buf, sizeof(buf)), "net/ipv4/conf/eth0.7/src_valid_mark");
}

static void count_role(const struct tune_seen *s, void *ctx)
{
	assert_true(s->row->roles & *(unsigned *)ctx);
	assert_true((s->row->essential & ~s->row->roles) == 0);
	assert_true(s->row->why && *s->row->why);
	/* what we set is what we want */
	assert_true(s->row->kind != TUNE_RANGE ||
		    (s->row->set >= s->row->low && s->row->set <= s->row->high));
	assert_true(s->row->kind == TUNE_RANGE || s->row->set >= s->row->low);
}

static void test_roles(void **state)
{
	unsigned redir = TUNE_REDIR, proxy = TUNE_PROXY;
	struct found f = {.key = "net/ipv4/ip_forward"};

	(void)state;
	tune_check(TUNE_REDIR, count_role, &redir);
	tune_check(TUNE_PROXY, count_role, &proxy);
	tune_check(TUNE_PROXY, find, &f);
	assert_int_equal(f.n, 0);
}

/* ---- setting and restoring ---- */

static void test_apply_and_restore(void **state)
{
	struct tune *t = tune_apply(ALL, NULL);

	(void)state;
	assert_non_null(t);
	assert_int_equal(get("net/mptcp/enabled"), 1);
	assert_int_equal(get("net/mptcp/blackhole_timeout"), 0);
	assert_int_equal(get("net/mptcp/close_timeout"), 2);
	assert_int_equal(get("net/ipv4/tcp_fastopen"), 3);
	assert_int_equal(get("net/ipv4/tcp_fastopen_blackhole_timeout_sec"), 0);
	assert_int_equal(get("net/ipv4/icmp_ratelimit"), 0);
	assert_int_equal(get("net/core/somaxconn"), 4096);
	assert_int_equal(get("net/ipv4/ip_forward"), 0); /* not ours to decide */
	assert_int_equal(tune_restore(t), 0);
	assert_int_equal(get("net/mptcp/enabled"), 0);
	assert_int_equal(get("net/mptcp/blackhole_timeout"), 3600);
	assert_int_equal(get("net/mptcp/close_timeout"), 60);
	assert_int_equal(get("net/ipv4/tcp_fastopen"), 0);
	assert_int_equal(get("net/ipv4/icmp_ratelimit"), 1000);
	assert_int_equal(get("net/core/somaxconn"), 128);
	assert_int_equal(tune_restore(NULL), 0);
}

static void test_good_is_left(void **state)
{
	struct tune *t;

	(void)state;
	set("net/mptcp/close_timeout", "4");
	set("net/core/somaxconn", "9999");
	t = tune_apply(ALL, NULL);
	assert_non_null(t);
	assert_int_equal(get("net/mptcp/close_timeout"), 4);
	assert_int_equal(get("net/core/somaxconn"), 9999);
	/* what was right before is nothing of ours afterwards */
	set("net/mptcp/close_timeout", "3");
	assert_int_equal(tune_restore(t), 0);
	assert_int_equal(get("net/mptcp/close_timeout"), 3);
	assert_int_equal(get("net/core/somaxconn"), 9999);
}

static void test_others_change_stays(void **state)
{
	struct tune *t = tune_apply(ALL, NULL);

	(void)state;
	assert_non_null(t);
	set("net/mptcp/close_timeout", "7");
	set("net/ipv4/tcp_fastopen", "519");
	assert_int_equal(tune_restore(t), 0);
	assert_int_equal(get("net/mptcp/close_timeout"), 7);
	assert_int_equal(get("net/ipv4/tcp_fastopen"), 519);
	assert_int_equal(get("net/mptcp/blackhole_timeout"), 3600);
}

static void test_proxy_role(void **state)
{
	struct tune *t;

	(void)state;
	set("net/mptcp/allow_join_initial_addr_port", "0");
	t = tune_apply(TUNE_PROXY, NULL);
	assert_non_null(t);
	assert_int_equal(get("net/mptcp/allow_join_initial_addr_port"), 1);
	assert_int_equal(get("net/ipv4/icmp_ratelimit"), 1000);
	tune_restore(t);
	assert_int_equal(get("net/mptcp/allow_join_initial_addr_port"), 0);
	set("net/mptcp/allow_join_initial_addr_port", "1");
}

/* ICMP limits only for who wants them, and back when nobody does any more. */
static void test_follow(void **state)
{
	struct tune *t = tune_apply(TUNE_REDIR, NULL);

	(void)state;
	assert_non_null(t);
	assert_int_equal(get("net/ipv4/icmp_ratelimit"), 1000);
	assert_int_equal(get("net/ipv6/icmp/ratelimit"), 1000);
	assert_int_equal(get("net/mptcp/blackhole_timeout"), 0);
	tune_follow(t, ALL);
	assert_int_equal(get("net/ipv4/icmp_ratelimit"), 0);
	assert_int_equal(get("net/ipv6/icmp/ratelimit"), 0);
	tune_follow(t, TUNE_REDIR);
	assert_int_equal(get("net/ipv4/icmp_ratelimit"), 1000);
	assert_int_equal(get("net/mptcp/blackhole_timeout"), 0);
	tune_follow(t, 0);
	assert_int_equal(get("net/mptcp/blackhole_timeout"), 3600);
	assert_int_equal(get("net/ipv4/tcp_fastopen"), 0);
	assert_int_equal(tune_restore(t), 0);
}

/* ---- after a crash ---- */

static char dir[] = "/tmp/test-tune-XXXXXX", file[sizeof(dir) + 16];

static void killed(unsigned roles)
{
	tune_forget(tune_apply(roles, file)); /* all that is left of it is the file */
}

static void test_crash(void **state)
{
	struct tune *t;
	struct stat st;

	(void)state;
	killed(ALL);
	killed(ALL);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(get("net/mptcp/blackhole_timeout"), 0);
	t = tune_apply(TUNE_REDIR, file); /* and not ICMP any more */
	assert_non_null(t);
	assert_int_equal(get("net/ipv4/icmp_ratelimit"), 1000);
	assert_int_equal(get("net/mptcp/blackhole_timeout"), 0);
	set("net/mptcp/close_timeout", "7"); /* somebody else's, from now on */
	assert_int_equal(tune_restore(t), 0);
	assert_int_equal(get("net/mptcp/blackhole_timeout"), 3600);
	assert_int_equal(get("net/mptcp/close_timeout"), 7);
	assert_int_equal(get("net/ipv4/tcp_fastopen"), 0); /* two changes of one key */
	assert_int_equal(get("net/core/somaxconn"), 128);
	assert_int_equal(access(file, F_OK), -1);
}

/* With `tune = no` what a process that was killed has left is set back at once. */
static void test_crash_then_none(void **state)
{
	struct tune *t;

	(void)state;
	killed(ALL);
	t = tune_apply(0, file);
	assert_int_equal(get("net/mptcp/blackhole_timeout"), 3600);
	assert_int_equal(get("net/ipv4/icmp_ratelimit"), 1000);
	assert_int_equal(access(file, F_OK), -1);
	tune_restore(t);
}

static void put_file(const char *text)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* Of another boot or namespace, or not ours at all: it counts for nothing, and is replaced. */
static void test_file_of_elsewhere(void **state)
{
	char head[256], text[1024], *ns;
	struct tune_saved v[4];
	FILE *f;

	(void)state;
	killed(TUNE_REDIR);
	assert_true(tune_file_load(file, v, 4) == 4);
	f = fopen(file, "r");
	assert_non_null(f);
	assert_non_null(fgets(head, sizeof(head), f));
	fclose(f);
	for (int i = 0; i < 2; i++) {
		worst(NULL);
		ns = i ? strstr(head, "net:[") + 5 : strchr(head, '-') + 10;
		*ns = *ns == '1' ? '2' : '1';
		snprintf(text, sizeof(text), "%snet/mptcp/enabled 1 0\n", head);
		put_file(text);
		assert_true(tune_file_load(file, v, 4) == 0);
	}
	put_file("");
	assert_true(tune_file_load(file, v, 4) == 0);
	unlink(file);
}

/* Whoever can write there gets no other file written, and no junk read. */
static void test_file_untrusted(void **state)
{
	static const char *const bad[] = {"net/mptcp/enabled 1\n",
					  "net/mptcp/enabled 1 0",
					  "net/mptcp/enabled x 0\n",
					  "net/mptcp/enabled 99999999999999999999 0\n",
					  " 1 0\n",
					  "\n"};
	const struct tune_saved one = {.key = "net/mptcp/enabled", .was = 1, .set = 0};
	char head[1024] = "", text[2048];
	struct tune_saved v[4];
	struct tune *t;
	FILE *f;

	(void)state;
	assert_int_equal(tune_file_save(file, &one, 1), 0);
	f = fopen(file, "r");
	assert_non_null(f);
	assert_non_null(fgets(head, sizeof(head), f));
	fclose(f);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(text, sizeof(text), "%s%s", head, bad[i]);
		put_file(text);
		assert_true(tune_file_load(file, v, 4) == 0);
	}
	snprintf(text, sizeof(text), "%s%0200d 1 0\n", head, 7); /* a key too long */
	put_file(text);
	assert_true(tune_file_load(file, v, 4) == 0);
	/* keys that are not in the table, or never set by us, are nobody's to set back */
	snprintf(text, sizeof(text), "%snet/ipv4/ip_forward 1 0\n../../etc/passwd 1 0\n", head);
	put_file(text);
	assert_true(tune_file_load(file, v, 4) == 2);
	t = tune_apply(0, file);
	assert_int_equal(get("net/ipv4/ip_forward"), 0);
	tune_restore(t);
	/* a link where the file would be is not followed */
	snprintf(text, sizeof(text), "%s/else", dir);
	assert_int_equal(symlink(text, file), 0);
	assert_true(tune_file_load(file, v, 4) == 0);
	assert_int_equal(tune_file_save(file, &one, 1), 0);
	assert_int_equal(access(text, F_OK), -1);
	assert_true(tune_file_load(file, v, 4) == 1);
	assert_int_equal(tune_file_save(file, NULL, 0), 0);
	assert_int_equal(tune_file_save(file, NULL, 0), 0);
}

/* After privileges were dropped: returns tune_restore's count of failures. */
static int restore_as_nobody(bool net_admin)
{
	const cap_value_t cap = CAP_NET_ADMIN;
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct tune *t = tune_apply(ALL, NULL);
		cap_t caps = cap_init();
		if (!t || prctl(PR_SET_KEEPCAPS, 1L, 0L, 0L, 0L) < 0 || setgroups(0, NULL) < 0 ||
		    setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
			_exit(100);
		if (net_admin && (cap_set_flag(caps, CAP_PERMITTED, 1, &cap, CAP_SET) < 0 ||
				  cap_set_flag(caps, CAP_EFFECTIVE, 1, &cap, CAP_SET) < 0))
			_exit(101);
		if (cap_set_proc(caps) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) < 0)
			_exit(102);
		cap_free(caps);
		_exit((int)tune_restore(t));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_restore_after_drop(void **state)
{
	int failed;

	(void)state;
	if (!can_become_nobody)
		skip();
	assert_int_equal(restore_as_nobody(true), 0);
	assert_int_equal(get("net/mptcp/close_timeout"), 60);
	assert_int_equal(get("net/ipv4/tcp_fastopen"), 0);
	/* and without the capability it says that it could not */
	failed = restore_as_nobody(false);
	assert_true(failed >= 7 && failed < 100);
	assert_int_equal(get("net/mptcp/close_timeout"), 2);
}

/* Without any right: nothing is changed, nothing to restore. */
static void test_apply_without_right(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	if (!can_become_nobody)
		skip();
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
		    setresuid(NOBODY, NOBODY, NOBODY) < 0)
			_exit(100);
		struct tune *t = tune_apply(ALL, NULL);
		_exit(t ? (int)tune_restore(t) : 101);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
	assert_int_equal(get("net/mptcp/close_timeout"), 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_exact, worst),
		cmocka_unit_test_setup(test_range, worst),
		cmocka_unit_test_setup(test_at_least, worst),
		cmocka_unit_test_setup(test_bits, worst),
		cmocka_unit_test_setup(test_each_interface, worst),
		cmocka_unit_test_setup(test_roles, worst),
		cmocka_unit_test_setup(test_apply_and_restore, worst),
		cmocka_unit_test_setup(test_good_is_left, worst),
		cmocka_unit_test_setup(test_others_change_stays, worst),
		cmocka_unit_test_setup(test_proxy_role, worst),
		cmocka_unit_test_setup(test_follow, worst),
		cmocka_unit_test_setup(test_crash, worst),
		cmocka_unit_test_setup(test_crash_then_none, worst),
		cmocka_unit_test_setup(test_file_of_elsewhere, worst),
		cmocka_unit_test_setup(test_file_untrusted, worst),
		cmocka_unit_test_setup(test_restore_after_drop, worst),
		cmocka_unit_test_setup(test_apply_without_right, worst),
	};

	int rc;

	can_become_nobody = getuid() == 0;
	if (!rig_netns())
		return RIG_SKIP;
	if (access("/proc/sys/net/mptcp/blackhole_timeout", F_OK) < 0) {
		printf("skipped: no MPTCP settings in this kernel\n");
		return RIG_SKIP;
	}
	log_init("test_tune", SINK_STDERR, true);
	if (!mkdtemp(dir))
		return 1;
	snprintf(file, sizeof(file), "%s/redir.tune", dir);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(file);
	rmdir(dir);
	return rc;
}
