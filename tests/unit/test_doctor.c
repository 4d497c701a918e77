/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What doctor reads: JSON of daemons, files of /proc, netlink; and the program's use and exit
 * codes. Its checks are in tests/lab/t_doctor.sh. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <limits.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sysexits.h>

#include "rig.h"
#include "tools/finding.h"
#include "tools/jsonval.h"
#include "tools/netview.h"
#include "tools/procfile.h"

/* A copy that ends where the text does: the sanitizer sees a look behind it. */
static struct jsonval exact(const char *text, size_t len)
{
	char *p = malloc(len ? len : 1);

	assert_non_null(p);
	memcpy(p, text, len);
	return (struct jsonval){p, p + len};
}

static struct jsonval json(const char *text)
{
	return (struct jsonval){text, text + strlen(text)};
}

/* ---- JSON ---- */

static const char answer[] =
	"{\"schema\":\"sixpath/1\", \"skip\":{\"mode\":\"inner]}\",\"a\":[1,{\"b\":2}]},\n"
	" \"quote\\\"d\":1, \"mode\":\"tp\\\"r\\u006fxy\\u00e9\\n\", \"n\": 42 ,\"neg\":-1,"
	"\"frac\":1.5,\"big\":18446744073709551616,\"no\":false,\"nil\":null,"
	"\"proxies\":[{\"name\":\"a\"},{\"name\":\"b,]\"} , {\"name\":\"c\"}],\"none\":[]}\n";

static void test_json_members(void **state)
{
	struct jsonval v, inner;
	char text[32];
	uint64_t n = 7;

	(void)state;
	assert_true(json_get(json(answer), "mode", &v) && json_str(v, text, sizeof(text)));
	assert_string_equal(text, "tp\"roxy?\n");
	assert_true(json_str(v, text, 4)); /* cut */
	assert_string_equal(text, "tp\"");
	assert_false(json_str(v, text, 0));
	assert_true(json_get(json(answer), "n", &v) && json_u64(v, &n));
	assert_int_equal(n, 42);
	assert_true(json_get(json(answer), "skip", &inner) && json_get(inner, "mode", &v));
	assert_true(json_str(v, text, sizeof(text)));
	assert_string_equal(text, "inner]}");
	assert_true(json_get(json(answer), "no", &v) && json_is(v, "false"));
	assert_true(json_get(json(answer), "nil", &v) && json_is(v, "null"));
	assert_false(json_str(v, text, sizeof(text)));
	assert_false(json_is(v, "nul"));
	assert_false(json_get(json(answer), "absent", &v));
	assert_false(json_get(json(answer), "b", &v)); /* only of the object itself */
	assert_false(json_get(json("[1]"), "b", &v));
	n = 7;
	assert_true(json_get(json(answer), "neg", &v) && !json_u64(v, &n));
	assert_true(json_get(json(answer), "frac", &v) && !json_u64(v, &n));
	assert_true(json_get(json(answer), "big", &v) && !json_u64(v, &n));
	assert_int_equal(n, 7);
}

static void test_json_arrays(void **state)
{
	static const char *const names[] = {"a", "b,]", "c"};
	struct jsonval list, v, name;
	char text[16];
	size_t n = 0;

	(void)state;
	assert_true(json_get(json(answer), "proxies", &list));
	for (; json_next(&list, &v); n++) {
		assert_true(n < 3 && json_get(v, "name", &name));
		assert_true(json_str(name, text, sizeof(text)));
		assert_string_equal(text, names[n]);
	}
	assert_int_equal(n, 3);
	assert_true(json_get(json(answer), "none", &list));
	assert_false(json_next(&list, &v));
	list = json("{\"a\":1}");
	assert_false(json_next(&list, &v));
}

static void ask_all(struct jsonval whole)
{
	static const char *const keys[] = {"mode", "n", "proxies", "nil", "absent", "quote\\\"d"};
	struct jsonval v, element, name;
	char text[8];
	uint64_t n;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (!json_get(whole, keys[i], &v))
			continue;
		assert_true(v.p >= whole.p && v.end <= whole.end && v.p < v.end);
		json_str(v, text, sizeof(text));
		json_u64(v, &n);
		json_is(v, "true");
		while (json_next(&v, &element))
			if (json_get(element, "name", &name))
				json_str(name, text, sizeof(text));
	}
}

/* Cut anywhere, and with any octet changed: an end, and nothing outside is read. */
static void test_json_broken(void **state)
{
	static const char bad[] = "\"\\{}[]:,u \0";
	size_t len = strlen(answer);

	(void)state;
	for (size_t i = 0; i <= len; i++) {
		struct jsonval cut = exact(answer, i);
		ask_all(cut);
		free((void *)(uintptr_t)cut.p);
	}
	for (size_t i = 0; i < len; i++) {
		for (size_t j = 0; j < sizeof(bad); j++) {
			struct jsonval changed = exact(answer, len);
			((char *)(uintptr_t)changed.p)[i] = bad[j];
			ask_all(changed);
			free((void *)(uintptr_t)changed.p);
		}
	}
}

/* ---- /proc ---- */

static void test_counters(void **state)
{
	static const char text[] = "TcpExt: One Two TwoMore\n"
				   "TcpExt: 1 2 3\n"
				   "MPTcpExt: One Last\n"
				   "MPTcpExt: 11 18446744073709551615\n"
				   "Short: A B\n"
				   "Short: 5\n"
				   "Bad: A B\n"
				   "Bad: -1 x\n"
				   "Alone: A\n";
	uint64_t n = 0;

	(void)state;
	assert_true(procfile_counter(text, "TcpExt", "Two", &n) && n == 2);
	assert_true(procfile_counter(text, "TcpExt", "TwoMore", &n) && n == 3);
	assert_true(procfile_counter(text, "MPTcpExt", "One", &n) && n == 11);
	assert_true(procfile_counter(text, "MPTcpExt", "Last", &n) && n == UINT64_MAX);
	assert_false(procfile_counter(text, "TcpExt", "Tw", &n));
	assert_false(procfile_counter(text, "TcpExt", "Last", &n));
	assert_false(procfile_counter(text, "Tcp", "One", &n));
	assert_false(procfile_counter(text, "Short", "B", &n));
	assert_false(procfile_counter(text, "Bad", "A", &n));
	assert_false(procfile_counter(text, "Bad", "B", &n));
	assert_false(procfile_counter(text, "Alone", "A", &n));
	assert_false(procfile_counter("", "TcpExt", "One", &n));
}

static void test_field(void **state)
{
	static const char text[] = "Name:\tx\nCapEff:\t00000000000030c0\nUid:\t5\t6\nCapEffX: 1\n";
	uint64_t n = 0;

	(void)state;
	assert_true(procfile_field(text, "CapEff", 16, &n) && n == 0x30c0);
	assert_true(procfile_field(text, "Uid", 10, &n) && n == 5);
	assert_false(procfile_field(text, "Name", 10, &n));
	assert_false(procfile_field(text, "Cap", 16, &n));
	assert_false(procfile_field(text, "None", 10, &n));
}

static void test_real_files(void **state)
{
	char *text = procfile_read("/proc/self/status");
	uint64_t n = 0;

	(void)state;
	assert_non_null(text);
	assert_true(procfile_field(text, "Pid", 10, &n));
	assert_int_equal(n, getpid());
	free(text);
	errno = 0;
	assert_null(procfile_read("/proc/self/nonesuch"));
	assert_int_equal(errno, ENOENT);
	assert_null(procfile_read("/proc/self"));
	assert_int_equal(errno, EISDIR);
	text = procfile_read("/dev/zero"); /* bounded */
	assert_non_null(text);
	free(text);
}

/* ---- findings ---- */

static void test_findings(void **state)
{
	struct findings f = {0};

	(void)state;
	assert_int_equal(findings_worst(&f), FINDING_OK);
	findings_add(&f, FINDING_NOTE, "b", "do this", "%d", 1);
	findings_add(&f, FINDING_OK, "a", "unused", "%s", "fine");
	assert_int_equal(findings_worst(&f), FINDING_NOTE);
	findings_add(&f, FINDING_FAIL, "c", "do that", "no");
	findings_add(&f, FINDING_WARN, "d", "do it", "no");
	assert_int_equal(findings_worst(&f), FINDING_FAIL);
	assert_int_equal(f.n, 4);
	assert_null(f.v[1].cure);
	assert_string_equal(f.v[2].cure, "do that");
	assert_false(f.failed);
	findings_free(&f);
	assert_int_equal(f.n, 0);
}

/* ---- netlink ---- */

static void test_netview(void **state)
{
	struct netview *v = calloc(1, sizeof(*v));

	(void)state;
	assert_non_null(v);
	netview_read(v);
#ifdef HAVE_LIBMNL
	assert_int_equal(v->addrs_rc, 0);
	assert_int_equal(v->rules_rc, 0);
	assert_int_equal(v->routes_rc, 0);
	/* a new namespace: the rules for main and default, of each family; no way out */
	assert_true(v->n_rules >= 2);
	assert_int_equal(v->n_defaults, 0);
	assert_int_equal(v->n_endpoints, 0);
	assert_true(v->n_addrs >= 1); /* of lo */
	assert_int_equal(v->addrs[0].ifindex, if_nametoindex("lo"));
	if (geteuid() == 0)
		assert_true(netview_has_xt_target("NOSUCHTARGET") < 0);
#else
	assert_int_equal(v->mptcp_rc, -ENOSYS);
	assert_int_equal(netview_has_ipset(), -ENOSYS);
#endif
	assert_false(v->nft.table || v->nft.script || v->nft.iptables);
	free(v);
}

/* ---- the program ---- */

static char program[PATH_MAX];

static int run(const char *const *args, char *out, size_t cap)
{
	int fds[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		close(fds[1]);
		execv(program, (char *const *)(uintptr_t)args);
		_exit(127);
	}
	close(fds[1]);
	while ((n = read(fds[0], out + len, cap - 1 - len)) > 0)
		len += (size_t)n;
	out[len] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char out[65536];

#define RUN(...) run((const char *const[]){"sixpathctl", __VA_ARGS__, NULL}, out, sizeof(out))

static void test_bad_use(void **state)
{
	(void)state;
	assert_int_equal(RUN("doctor", "extra"), EX_USAGE);
	assert_non_null(strstr(out, "\"extra\""));
	assert_int_equal(RUN("-D", "doctor"), EX_USAGE);
	assert_int_equal(RUN("--nonsense", "doctor"), EX_USAGE);
	assert_int_equal(RUN("-s", "/x", "--proxy", "doctor"), EX_USAGE);
	assert_int_equal(RUN("doctr"), EX_USAGE);
	assert_non_null(strstr(out, "did you mean \"doctor\""));
	assert_int_equal(RUN("--help"), 0);
	assert_non_null(strstr(out, "  doctor "));
}

/* The level of a finding in the JSON in out; everything that is not ok must have a cure. */
static bool level_of(const char *id, char *level, size_t cap)
{
	struct jsonval list, f, v;
	char name[160];
	bool found = false;

	assert_true(json_get(json(out), "findings", &list));
	while (json_next(&list, &f)) {
		assert_true(json_get(f, "id", &v) && json_str(v, name, sizeof(name)));
		bool this = strcmp(name, id) == 0;
		found |= this;
		char text[16];
		assert_true(json_get(f, "level", &v) && json_str(v, text, sizeof(text)));
		assert_true(json_get(f, "cure", &v));
		assert_true(json_is(v, "null") == (strcmp(text, "ok") == 0));
		if (this)
			snprintf(level, cap, "%s", text);
	}
	return found;
}

static void test_exit_codes(void **state)
{
	char level[16] = "";
	struct jsonval v;
	struct rlimit rl;

	(void)state;
	assert_true(rig_sysctl("net/mptcp/enabled", "0"));
	assert_int_equal(RUN("-s", "/nonexistent/proxy.sock", "doctor", "--json"), 2);
	assert_true(json_get(json(out), "role", &v) && json_is(v, "\"proxy\""));
	assert_true(json_get(json(out), "worst", &v) && json_is(v, "\"fail\""));
	assert_true(level_of("kernel.mptcp", level, sizeof(level)));
	assert_string_equal(level, "fail");
	assert_true(level_of("daemon", level, sizeof(level)));
	assert_string_equal(level, "note");
	/* one warning is left */
	assert_true(rig_sysctl("net/mptcp/enabled", "1") &&
		    rig_sysctl("net/ipv4/tcp_fastopen", "3") &&
		    rig_sysctl("net/mptcp/blackhole_timeout", "0") &&
		    rig_sysctl("net/ipv4/tcp_fastopen_blackhole_timeout_sec", "0") &&
		    rig_sysctl("net/mptcp/close_timeout", "60"));
	assert_int_equal(RUN("-s", "/nonexistent/proxy.sock", "doctor"), 1);
	assert_non_null(strstr(out, "sysctl -w net.mptcp.close_timeout=2"));
	assert_null(strchr(out, '\033')); /* no colours in a pipe */
	assert_true(rig_sysctl("net/mptcp/close_timeout", "2"));
	/* few descriptors are a warning too, and not ours to change */
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_max >= 4096)
		assert_int_equal(RUN("-s", "/nonexistent/proxy.sock", "doctor"), 0);
}

/* On a terminal: the levels in colour, unless the user does not want that. */
static void test_colours(void **state)
{
	static const struct {
		const char *term, *no_color;
		bool colours;
	} cases[] = {{"xterm", "", true}, {"xterm", "1", false}, {"dumb", "", false}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int pty, status;
		size_t len = 0;
		ssize_t n;
		pid_t pid = forkpty(&pty, NULL, NULL, NULL);
		assert_true(pid >= 0);
		if (pid == 0) {
			setenv("TERM", cases[i].term, 1);
			setenv("NO_COLOR", cases[i].no_color, 1);
			execl(program, "sixpathctl", "-s", "/nonexistent", "doctor", NULL);
			_exit(127);
		}
		/* EIO is the end of file of a terminal */
		while ((n = read(pty, out + len, sizeof(out) - 1 - len)) > 0)
			len += (size_t)n;
		out[len] = '\0';
		close(pty);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 2);
		assert_non_null(strstr(out, "kernel.mptcp"));
		assert_int_equal(strstr(out, "\033[32mok\033[0m") != NULL, cases[i].colours);
		assert_int_equal(strchr(out, '\033') != NULL, cases[i].colours);
	}
}

int main(void)
{
	const char *top = getenv("top_builddir");
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json_members), cmocka_unit_test(test_json_arrays),
		cmocka_unit_test(test_json_broken),  cmocka_unit_test(test_counters),
		cmocka_unit_test(test_field),        cmocka_unit_test(test_real_files),
		cmocka_unit_test(test_findings),     cmocka_unit_test(test_netview),
		cmocka_unit_test(test_bad_use),      cmocka_unit_test(test_exit_codes),
		cmocka_unit_test(test_colours),
	};

	snprintf(program, sizeof(program), "%s/src/tools/sixpathctl", top ? top : ".");
	if (!rig_netns())
		return RIG_SKIP;
	if (access("/proc/sys/net/mptcp/blackhole_timeout", F_OK) < 0) {
		printf("skipped: no MPTCP settings in this kernel\n");
		return RIG_SKIP;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
