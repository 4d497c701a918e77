/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guard with scripts of ours: told what to do, tells what came of it, and undoes it however
 * the daemon ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "redir/rules.h"
#include "redir/script.h"
#include "rig.h"

static char dir[64];
static struct redir_conf *conf;

/* ---- rig ---- */

static void put(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static const char *got(const char *name)
{
	static char text[4096];
	char path[128];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "r");
	if (!f)
		return "";
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	return text;
}

static void gone(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	unlink(path);
}

static void load(const char *rules)
{
	char path[128], text[1024];

	snprintf(text, sizeof(text),
		 "[proxy a]\naddress = 192.0.2.1:1080\n[proxy b]\naddress = proxy.example.net\n"
		 "[proxy c]\naddress = [2001:db8::1]:1080\n[rules]\nscripts = %s\n%s",
		 dir, rules);
	put("conf", text);
	snprintf(path, sizeof(path), "%s/conf", dir);
	redir_conf_put(conf);
	conf = redir_conf_load(path, NULL, stderr);
	assert_non_null(conf);
}

#define IPTABLES "backend = iptables\ncapture = lan\n"

/* What the scripts do: leave a trace in the directory that they are in. */
#define TRACE                                                                                      \
	"here=$(dirname \"$0\")\n"                                                                 \
	"echo \"$1\" >>\"$here/trace\"\n"

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/sixpath-script-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	static const char *const files[] = {"conf", "iptables.sh", "nft.sh", "trace",
					    "args", "env",         "files",  "guard"};

	(void)state;
	redir_conf_put(conf);
	conf = NULL;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		gone(files[i]);
	return rmdir(dir);
}

static bool trace_is(const char *want)
{
	double until = rig_now() + RIG_LIMIT_S;

	while (strcmp(got("trace"), want) != 0) {
		if (rig_now() > until) {
			fprintf(stderr, "trace: %s\n", got("trace"));
			return false;
		}
		usleep(10000);
	}
	return true;
}

/* ---- the command ---- */

static void args_are(enum script_kind kind, bool learned, const char *want)
{
	char **argv = script_argv(conf, kind, learned);
	char text[2048] = "";

	assert_non_null(argv);
	for (size_t i = 2; argv[i]; i++) {
		size_t len = strlen(text);
		snprintf(text + len, sizeof(text) - len, "%s%s", i > 2 ? " " : "",
			 *argv[i] ? argv[i] : "''");
	}
	assert_string_equal(text, want);
	assert_string_equal(argv[0], "sh");
	assert_true(strncmp(argv[1], dir, strlen(dir)) == 0);
	assert_string_equal(argv[1] + strlen(dir), kind == SCRIPT_NFT ? "/nft.sh" : "/iptables.sh");
	script_argv_free(argv);
}

static void test_args(void **state)
{
	(void)state;
	load("backend = iptables\ncapture = lan, wlan0\ncapture_local = yes\nports = 80, 443-444\n"
	     "exclude = 10.0.0.0/8, 2001:db8::/32\n[redir]\nlisten = [::]:1999\nmark = 0x99\n");
	args_are(SCRIPT_IPTABLES, true,
		 "start --mode tproxy --port 1999 --mark 0x99 --iface lan,wlan0 --local "
		 "--ports 80-80,443-444 --exclude 10.0.0.0/8,2001:db8::/32 "
		 "--proxy 192.0.2.1,2001:db8::1 --learned auto");
	load("backend = iptables\ncapture_local = yes\nexclude =\n[redir]\nmode = redirect\n"
	     "[bypass]\naction = rule\n");
	args_are(SCRIPT_IPTABLES, true,
		 "start --mode redirect --port 1077 --mark 0x5061 --local --ports 1-65535 "
		 "--exclude '' --proxy 192.0.2.1,2001:db8::1 --learned rule");
	args_are(SCRIPT_NFT, false,
		 "start --mode redirect --port 1077 --mark 0x5061 --local --ports 1-65535 "
		 "--exclude '' --proxy 192.0.2.1,2001:db8::1 --learned no");
	load("backend = iptables\ncapture = lan\nexclude =\n[bypass]\nlearn_passive = yes\n");
	args_are(SCRIPT_IPTABLES, false,
		 "start --mode tproxy --port 1077 --mark 0x5061 --iface lan --ports 1-65535 "
		 "--exclude '' --proxy 192.0.2.1,2001:db8::1 --learned no --learn-passive");
	args_are(SCRIPT_NFT, false,
		 "start --mode tproxy --port 1077 --mark 0x5061 --iface lan --ports 1-65535 "
		 "--exclude '' --proxy 192.0.2.1,2001:db8::1 --learned no");
	load("backend = iptables\ncapture_local = yes\nexclude =\n[bypass]\nlearn_passive = yes\n");
	args_are(SCRIPT_IPTABLES, false,
		 "start --mode tproxy --port 1077 --mark 0x5061 --local --ports 1-65535 "
		 "--exclude '' --proxy 192.0.2.1,2001:db8::1 --learned no");
}

static void test_args_family(void **state)
{
	(void)state;
	load(IPTABLES "[redir]\nlisten = 0.0.0.0:1077\n");
	args_are(SCRIPT_IPTABLES, false,
		 "start --mode tproxy --port 1077 --mark 0x5061 --iface lan --ports 1-65535 -4 "
		 "--exclude 10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,169.254.0.0/16,"
		 "fc00::/7,fe80::/10 --proxy 192.0.2.1,2001:db8::1 --learned no");
	load(IPTABLES "exclude =\n[redir]\nlisten = [2001:db8::7]:1077\n");
	args_are(SCRIPT_NFT, false,
		 "start --mode tproxy --port 1077 --mark 0x5061 --iface lan --ports 1-65535 -6 "
		 "--exclude '' --proxy 192.0.2.1,2001:db8::1 --learned no");
}

static void test_choice(void **state)
{
	const struct script_has all = {true, true, true}, nft = {false, true, false},
				none = {false, false, false};

	(void)state;
	load("backend = iptables\n");
	assert_int_equal(script_choose(conf, &all), SCRIPT_NONE); /* nothing to capture */
	load(IPTABLES "install = no\n");
	assert_int_equal(script_choose(conf, &all), SCRIPT_NONE);
	load("backend = none\ncapture = lan\n");
	assert_int_equal(script_choose(conf, &all), SCRIPT_NONE);
	load(IPTABLES);
	assert_int_equal(script_choose(conf, &none), SCRIPT_IPTABLES); /* it says what is missing */
	assert_true(script_learned(conf, SCRIPT_IPTABLES, &all));
	assert_false(script_learned(conf, SCRIPT_IPTABLES, &none));
	assert_false(script_learned(conf, SCRIPT_NFT, &all));
	load(IPTABLES "[bypass]\naction = relay\n");
	assert_false(script_learned(conf, SCRIPT_IPTABLES, &all));
	/* where the daemon has rules of its own, they are taken */
	load("backend = auto\ncapture = lan\n");
	assert_int_equal(script_choose(conf, &all),
			 rules_built_in() ? SCRIPT_NONE : SCRIPT_IPTABLES);
	assert_int_equal(script_choose(conf, &nft), rules_built_in() ? SCRIPT_NONE : SCRIPT_NFT);
	assert_int_equal(script_choose(conf, &none), SCRIPT_NONE);
	load("backend = nft\ncapture = lan\n");
	assert_int_equal(script_choose(conf, &all), rules_built_in() ? SCRIPT_NONE : SCRIPT_NFT);
}

static void changes(const char *before, const char *after, bool by_script, const char *want)
{
	struct redir_conf *old;
	char text[192];

	load(before);
	old = redir_conf_get(conf);
	load(after);
	redir_conf_needs_restart(old, conf, by_script, text, sizeof(text));
	redir_conf_put(old);
	assert_string_equal(text, want);
}

static void test_restart(void **state)
{
	(void)state;
	changes(IPTABLES, IPTABLES, true, "");
	changes(IPTABLES, "backend = iptables\ncapture = wlan0\n", true, "capture");
	changes(IPTABLES, IPTABLES "exclude = 10.0.0.0/9\nports = 80\ncapture_local = yes\n", true,
		"capture_local, ports, exclude");
	changes(IPTABLES, IPTABLES "install = no\n[bypass]\naction = relay\n", true,
		"install, action");
	changes("capture = lan\n", IPTABLES, false, "backend");
	changes("capture = lan\n", "capture = eth0\n", true, "capture"); /* those in place count */
	if (rules_built_in())
		changes("capture = lan\n", "capture = eth0\n", false, "");
}

/* ---- the guard ---- */

static void test_orderly(void **state)
{
	struct script *s;
	char path[128];
	int low, fd;

	(void)state;
	put("iptables.sh",
	    TRACE "[ $1 != start ] || { echo \"$@\" >$here/args; env >$here/env; ls -l /proc/$$/fd "
		  ">$here/files; ls -l /proc/$PPID/fd >$here/guard; }\n");
	load(IPTABLES);
	snprintf(path, sizeof(path), "%s/conf", dir);
	low = open(path, O_RDONLY | O_CLOEXEC);
	fd = fcntl(low, F_DUPFD_CLOEXEC, 20); /* not where the guard has its own */
	assert_true(low >= 0 && fd >= 0);
	close(low);
	setenv("SIXPATH_SECRET", "x", 1);
	s = script_start(conf, true);
	unsetenv("SIXPATH_SECRET");
	assert_true(script_in_place(s));
	assert_string_equal(got("trace"), "start\n");
	assert_true(strncmp(got("args"), "start --mode tproxy --port 1077 ", 32) == 0);
	assert_non_null(strstr(got("env"), "PATH="));
	assert_null(strstr(got("env"), "SIXPATH_SECRET"));
	assert_null(strstr(got("files"), "socket:"));
	assert_non_null(strstr(got("guard"), "socket:"));
	assert_null(strstr(got("guard"), "conf"));
	close(fd);
	script_stop(s);
	assert_string_equal(got("trace"), "start\nstop\n"); /* at once */
	script_stop(NULL);
	assert_false(script_in_place(NULL));
}

static void test_failure(void **state)
{
	struct script *s;

	(void)state;
	load(IPTABLES);
	assert_null(script_start(conf, true)); /* no script there */
	put("iptables.sh", TRACE "[ $1 = stop ] || exit 3\n");
	s = script_start(conf, true);
	assert_false(script_in_place(s));
	assert_false(script_ipset(s));
	assert_true(trace_is("start\nstop\n"));
	script_stop(s);
	assert_string_equal(got("trace"), "start\nstop\n");
}

/* A daemon that ends by a signal. */
static void daemon_killed(int sig)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (!script_in_place(script_start(conf, true)))
			_exit(1);
		raise(sig);
		_exit(2);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static void test_killed(void **state)
{
	(void)state;
	put("iptables.sh", TRACE);
	load(IPTABLES);
	daemon_killed(SIGKILL);
	assert_true(trace_is("start\nstop\n"));
	gone("trace");
	daemon_killed(SIGABRT);
	assert_true(trace_is("start\nstop\n"));
}

/* The next daemon's rules come after the last one's have gone. */
static void test_successor(void **state)
{
	struct script *s;

	(void)state;
	put("iptables.sh", "[ $1 = start ] || sleep 0.5\n" TRACE);
	load(IPTABLES);
	daemon_killed(SIGKILL);
	s = script_start(conf, true);
	assert_true(script_in_place(s));
	assert_string_equal(got("trace"), "start\nstop\nstart\n");
	script_stop(s);
	assert_string_equal(got("trace"), "start\nstop\nstart\nstop\n");
}

/* As a service manager does it: one signal for all, and the script has it too. */
static void test_deaf(void **state)
{
	struct script *s;

	(void)state;
	put("iptables.sh", "kill -TERM $PPID $$; kill -HUP $PPID $$; kill -INT $PPID $$\n"
			   "kill -PIPE $PPID $$; kill -USR1 $PPID $$\n" TRACE);
	load(IPTABLES);
	s = script_start(conf, true);
	assert_true(script_in_place(s));
	script_stop(s);
	assert_string_equal(got("trace"), "start\nstop\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_args, setup, teardown),
		cmocka_unit_test_setup_teardown(test_args_family, setup, teardown),
		cmocka_unit_test_setup_teardown(test_choice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_orderly, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_successor, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deaf, setup, teardown),
	};

	if (!rig_netns()) /* guards know each other by their network namespace */
		return RIG_SKIP;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
