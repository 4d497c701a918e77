/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/log.h"
#include "core/priv.h"

#define NO_USER "no-such-user-x7"

static char captured[4096]; /* what the last child wrote to standard error */

/* Run f in a child of its own, because privileges do not come back; its exit code. */
static int in_child(int (*f)(void))
{
	int fds[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		log_init("test", SINK_STDERR, true);
		_exit(f());
	}
	close(fds[1]);
	while ((n = read(fds[0], captured + len, sizeof(captured) - 1 - len)) > 0)
		len += (size_t)n;
	captured[len] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void need_root(void)
{
	if (geteuid() != 0)
		skip();
}

/* 0 if this process is nobody, with just the one capability (or none for -1). */
static int check_dropped(cap_value_t only)
{
	const struct passwd *pw = getpwnam("nobody");
	gid_t groups[64];
	uid_t r, e, s;
	int n = getgroups(64, groups);

	if (!pw || getresuid(&r, &e, &s) < 0 || r != pw->pw_uid || e != r || s != r)
		return 101;
	if (getgid() != pw->pw_gid || getegid() != pw->pw_gid)
		return 102;
	for (int i = 0; i < n; i++)
		if (groups[i] != pw->pw_gid)
			return 103;
	if (setuid(0) == 0 || seteuid(0) == 0 || setgid(0) == 0)
		return 104;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0L, 0L, 0L, 0L) != 1)
		return 105;
	cap_t now = cap_get_proc(), want = cap_init();
	if (only >= 0) {
		cap_set_flag(want, CAP_PERMITTED, 1, &only, CAP_SET);
		cap_set_flag(want, CAP_EFFECTIVE, 1, &only, CAP_SET);
	}
	int differ = cap_compare(now, want);
	cap_free(now);
	cap_free(want);
	return differ ? 106 : 0;
}

static int drop_with_cap(void)
{
	gid_t extra = 12345;

	if (setgroups(1, &extra) < 0)
		return 100;
	int rc = priv_drop("nobody", false, "cap_net_admin");
	return rc ? rc : check_dropped(CAP_NET_ADMIN);
}

static int drop_all(void)
{
	int rc = priv_drop("nobody", false, NULL);

	return rc ? rc : check_dropped(-1);
}

static int drop_default(void)
{
	int rc = priv_drop(NO_USER, true, NULL);

	return rc ? rc : check_dropped(-1);
}

static int drop_unknown(void)
{
	return priv_drop(NO_USER, false, NULL);
}

static int drop_bad_cap(void)
{
	return priv_drop("nobody", false, "cap_net_admin,cap_fly");
}

static int drop_lacking(void)
{
	cap_value_t v = CAP_NET_RAW;
	cap_t now = cap_get_proc();

	if (cap_set_flag(now, CAP_PERMITTED, 1, &v, CAP_CLEAR) < 0 ||
	    cap_set_flag(now, CAP_EFFECTIVE, 1, &v, CAP_CLEAR) < 0 || cap_set_proc(now) < 0)
		return 100;
	cap_free(now);
	return priv_drop("nobody", false, "cap_net_raw");
}

static int drop_to_root(void)
{
	int rc = priv_drop("root", false, "cap_net_admin");

	return rc ? rc : geteuid() == 0 ? 0 : 100;
}

static int drop_twice(void)
{
	return priv_drop("nobody", false, NULL) || priv_drop("daemon", false, NULL);
}

static void dropping(void **state)
{
	(void)state;
	need_root();
	assert_int_equal(in_child(drop_with_cap), 0);
	assert_string_equal(captured, "");
	assert_int_equal(in_child(drop_all), 0);
	assert_int_equal(in_child(drop_default), 0);
	assert_non_null(strstr(captured, "notice test: user \"" NO_USER
					 "\" does not exist: running as \"nobody\"\n"));
	assert_int_equal(in_child(drop_unknown), EX_CONFIG);
	assert_non_null(
		strstr(captured, "error test: user \"" NO_USER "\" does not exist: create it"));
	assert_int_equal(in_child(drop_bad_cap), EX_SOFTWARE);
	assert_int_equal(in_child(drop_lacking), EX_NOPERM);
	assert_non_null(strstr(captured, "lacks the capability cap_net_raw"));
	assert_int_equal(in_child(drop_to_root), 0);
	assert_int_equal(in_child(drop_twice), 0);
	assert_non_null(strstr(captured, "not started as root: \"user = daemon\" has no effect"));
}

/* ---- directories ---- */

static char dir[64];

static int dir_setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/test_priv.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int dir_teardown(void **state)
{
	(void)state;
	return rmdir(dir);
}

static void directories(void **state)
{
	const struct passwd *pw = getpwnam("nobody");
	mode_t mask = umask(0);
	struct stat st;
	char path[100];

	(void)state;
	snprintf(path, sizeof(path), "%s/d", dir);
	assert_int_equal(priv_make_dir(path, "nobody"), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	if (geteuid() == 0) {
		assert_non_null(pw);
		assert_int_equal(st.st_uid, pw->pw_uid);
	}
	/* one that exists stays as it is */
	assert_int_equal(chmod(path, 0700), 0);
	assert_int_equal(priv_make_dir(path, "root"), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(priv_make_dir(path, NO_USER), 0);
	assert_int_equal(rmdir(path), 0);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(priv_make_dir(path, "nobody"), -ENOTDIR);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(priv_make_dir("/nowhere/at/all", "nobody"), -ENOENT);
	umask(mask);
}

static int raise_limit(void)
{
	struct rlimit rl;

	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = 32;
	setrlimit(RLIMIT_NOFILE, &rl);
	if (priv_raise_nofile() != rl.rlim_max)
		return 100;
	getrlimit(RLIMIT_NOFILE, &rl);
	return rl.rlim_cur == rl.rlim_max ? 0 : 101;
}

static void descriptor_limit(void **state)
{
	(void)state;
	assert_int_equal(in_child(raise_limit), 0);
}

/* ---- background ---- */

static int ready_code;

static int become_ready(void)
{
	pid_t before = getpid();

	if (priv_daemonize(true) != 0)
		return 100;
	fprintf(stderr, "%s %s\n", getpid() != before && getsid(0) == getpid() ? "session" : "-",
		isatty(STDIN_FILENO) || read(STDIN_FILENO, &before, 1) != 0 ? "-" : "null");
	priv_ready(ready_code);
	fprintf(stderr, "not heard any more\n");
	return 0;
}

static int die_with_code(void)
{
	return priv_daemonize(true) ? 100 : 7;
}

static int die_too_early(void)
{
	return priv_daemonize(true) ? 100 : 0;
}

static int die_of_signal(void)
{
	if (priv_daemonize(true))
		return 100;
	raise(SIGKILL);
	return 101;
}

static int stay(void)
{
	pid_t before = getpid();

	if (priv_daemonize(false) || getpid() != before)
		return 100;
	priv_ready(5);
	return 0;
}

static void background(void **state)
{
	(void)state;
	ready_code = 0;
	assert_int_equal(in_child(become_ready), 0);
	assert_string_equal(captured, "session null\n");
	ready_code = EX_CONFIG;
	assert_int_equal(in_child(become_ready), EX_CONFIG);
	assert_int_equal(in_child(die_with_code), 7);
	assert_int_equal(in_child(die_too_early), EX_SOFTWARE);
	assert_int_equal(in_child(die_of_signal), EX_SOFTWARE);
	assert_int_equal(in_child(stay), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dropping),
		cmocka_unit_test_setup_teardown(directories, dir_setup, dir_teardown),
		cmocka_unit_test(descriptor_limit),
		cmocka_unit_test(background),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
