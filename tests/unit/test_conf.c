/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/addr.h"
#include "core/conf.h"
#include "core/log.h"
#include "core/sock.h"

/* ---- a configuration with a key of each type ---- */

struct main_conf {
	bool tune;
	int number, signed_number, workers, level, sink, mptcp, mode;
	uint32_t mark;
	double ttl, any_time;
	char *user, *path, *maybe_path, *secret;
	struct addr_list listen, metrics;
	struct prefix_list exclude;
	struct interface_list capture;
	struct port_list ports;
	int strange;
};

struct proxy_conf {
	char name[40];
	struct hostport address, via;
	int weight;
};

struct all {
	struct main_conf main;
	struct proxy_conf proxy[4];
	unsigned n, checked;
	int idle;
	bool no_memory;
};

static const char *const modes[] = {"tproxy", "redirect", NULL};

static bool parse_strange(const char *text, void *dst, const struct conf_key *key, char *err,
			  size_t errcap)
{
	(void)key;
	(void)err;
	(void)errcap;
	*(int *)dst = 1;
	return strcmp(text, "strange") == 0;
}

#define AT(field) .offset = offsetof(struct main_conf, field)
static const struct conf_key main_keys[] = {
	{"tune", conf_bool, AT(tune), .def = "yes"},
	{"number", conf_int, AT(number), .def = "7", .min = 1, .max = 65535},
	{"signed_number", conf_int, AT(signed_number), .def = "0"},
	{"workers", conf_workers, AT(workers), .def = "auto"},
	{"log", conf_log_level, AT(level), .def = "info"},
	{"log_to", conf_log_sink, AT(sink), .def = "auto"},
	{"mptcp", conf_auto_bool, AT(mptcp), .def = "auto"},
	{"mode", conf_word, AT(mode), .def = "tproxy", .words = modes},
	{"mark", conf_u32, AT(mark), .def = "0x5061", .min = 1},
	{"ttl", conf_seconds, AT(ttl), .def = "1h", .min = 1, .max = 86400},
	{"any_time", conf_seconds, AT(any_time), .def = "0"},
	{"user", conf_string, AT(user), .def = "sixpath", .min = 1, .max = 8},
	{"state_dir", conf_path, AT(path), .def = "/var/lib/sixpath"},
	{"maybe_path", conf_path, AT(maybe_path), .def = ""},
	{"password", conf_string, AT(secret), .min = 1, .max = 5, .secret = true},
	{"listen", conf_addr_list, AT(listen), .def = "[::]:1077"},
	{"metrics", conf_addr_list, AT(metrics), .def = ""},
	{"exclude", conf_prefix_list, AT(exclude), .def = "10.0.0.0/8, fc00::/7"},
	{"capture", conf_interface_list, AT(capture), .def = ""},
	{"ports", conf_port_list, AT(ports), .def = "1-65535"},
	{"strange", parse_strange, AT(strange), .help = "must be strange"},
	{0},
};

#undef AT
#define AT(field) .offset = offsetof(struct proxy_conf, field)
static const struct conf_key proxy_keys[] = {
	{"address", conf_hostport, AT(address), .min = 0},
	{"via", conf_hostport, AT(via), .min = 1080},
	{"weight", conf_int, AT(weight), .def = "1", .min = 1, .max = 100},
	{0},
};

static const struct conf_key connect_keys[] = {
	{"idle", conf_int, offsetof(struct all, idle), .def = "7440", .min = 0, .max = 100000},
	{0},
};

static void *begin_main(void *ctx, const char *name)
{
	assert_null(name);
	return &((struct all *)ctx)->main;
}

static void *begin_proxy(void *ctx, const char *name)
{
	struct all *a = ctx;
	struct proxy_conf *p;

	assert_non_null(name);
	if (a->no_memory)
		return NULL;
	assert_true(a->n < 4);
	p = &a->proxy[a->n++];
	snprintf(p->name, sizeof(p->name), "%s", name);
	return p;
}

static void *begin_connect(void *ctx, const char *name)
{
	(void)name;
	return ctx;
}

static void check_proxy(struct conf *c, void *ctx, void *dst, const char *name)
{
	struct proxy_conf *p = dst;

	((struct all *)ctx)->checked++;
	if (!p->address.host)
		conf_error(c, "proxy", name, "address", "is missing: must be NAME:PORT");
	if (p->weight == 13)
		conf_error(c, "proxy", name, "weight", "must not be %d", 13);
}

static const struct conf_section sections[] = {
	{"redir", .keys = main_keys, .begin = begin_main},
	{"proxy", .named = true, .keys = proxy_keys, .begin = begin_proxy, .check = check_proxy},
	{"connect", .keys = connect_keys, .begin = begin_connect},
	{0},
};

static void all_fini(struct all *a)
{
	free(a->main.user);
	free(a->main.path);
	free(a->main.maybe_path);
	free(a->main.secret);
	free(a->main.listen.v);
	free(a->main.metrics.v);
	free(a->main.exclude.v);
	free(a->main.capture.v);
	free(a->main.ports.v);
	for (unsigned i = 0; i < 4; i++) {
		free(a->proxy[i].address.host);
		free(a->proxy[i].via.host);
	}
}

/* ---- files ---- */

static char dir[64], cwd[4096];

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/test_conf.XXXXXX");
	return !getcwd(cwd, sizeof(cwd)) || !mkdtemp(dir) || chdir(dir);
}

static int teardown(void **state)
{
	(void)state;
	unlink("t.conf");
	return chdir(cwd) || rmdir(dir);
}

static void write_file(const char *text, size_t len)
{
	FILE *f = fopen("t.conf", "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* Load text; the errors, to be freed. */
static char *load_bytes(struct all *a, const char *text, size_t len, unsigned *n)
{
	char *errors = NULL;
	size_t size;
	FILE *f = open_memstream(&errors, &size);

	assert_non_null(f);
	memset(a, 0, sizeof(*a));
	write_file(text, len);
	*n = conf_load("t.conf", sections, a, f);
	fclose(f);
	return errors;
}

static void expect(const char *text, const char *errors)
{
	struct all a;
	unsigned n, lines = 0;
	char *got = load_bytes(&a, text, strlen(text), &n);

	assert_string_equal(got, errors);
	for (const char *c = got; *c; c++)
		lines += *c == '\n';
	assert_int_equal(n, lines);
	free(got);
	all_fini(&a);
}

/* ---- tests ---- */

static void defaults(void **state)
{
	struct all a = {0};
	char text[ADDR_STRLEN];

	(void)state;
	assert_int_equal(conf_load(NULL, sections, &a, stderr), 0);
	assert_true(a.main.tune);
	assert_int_equal(a.main.number, 7);
	assert_int_equal(a.main.workers, 0);
	assert_int_equal(a.main.level, LVL_INFO);
	assert_int_equal(a.main.sink, SINK_AUTO);
	assert_int_equal(a.main.mptcp, 2);
	assert_int_equal(a.main.mode, 0);
	assert_int_equal(a.main.mark, 0x5061);
	assert_true(a.main.ttl == 3600);
	assert_string_equal(a.main.user, "sixpath");
	assert_string_equal(a.main.path, "/var/lib/sixpath");
	assert_null(a.main.maybe_path);
	assert_null(a.main.secret);
	assert_int_equal(a.main.listen.n, 1);
	assert_string_equal(addr_str(&a.main.listen.v[0], text, sizeof(text)), "[::]:1077");
	assert_int_equal(a.main.metrics.n, 0);
	assert_int_equal(a.main.exclude.n, 2);
	assert_int_equal(a.main.capture.n, 0);
	assert_int_equal(a.main.ports.n, 1);
	assert_int_equal(a.main.ports.v[0].first, 1);
	assert_int_equal(a.main.ports.v[0].last, 65535);
	assert_int_equal(a.n, 0);
	assert_int_equal(a.idle, 7440);
	all_fini(&a);
}

static void good_file(void **state)
{
	static const char text[] = "# a comment with [brackets] = and more\n"
				   "[ReDir]  \r\n"
				   "  TUNE = Off ; a comment\n"
				   "number=0x10#\n" /* replaced below */
				   "signed_number = -5\n"
				   "workers = 4\n"
				   "log = debug\n"
				   "log_to = syslog\n"
				   "mptcp = no\n"
				   "mode = redirect\n"
				   "mark = 0xffffffff\n"
				   "ttl = 1.5h\n"
				   "any_time = 250ms\n"
				   "user = 'a b;c#'  # quoted\n"
				   "state_dir = \"/x y\"\n"
				   "maybe_path =\n"
				   "password = \"a=b\"\n"
				   "listen = 1077, 127.0.0.1:80,\\\n   [::1]:81\n"
				   "metrics = [::1]:9616\n"
				   "exclude = \n"
				   "capture = br-lan, eth0.5 ,wlan0\n"
				   "ports = 80, 1000-2000\n"
				   "strange = strange\n"
				   "\n"
				   "[proxy   Fr1]\n"
				   "address = proxy.example.net:1080\n"
				   "via = [2001:db8::1]\n"
				   "[proxy 2]\n"
				   "address = 192.0.2.1:65535\n"
				   "weight = 5";
	char copy[sizeof(text)], addr[ADDR_STRLEN];
	struct all a;
	unsigned n;
	char *errors;

	(void)state;
	memcpy(copy, text, sizeof(text));
	*strstr(copy, "10#") = '1';
	memcpy(strstr(copy, "10#"), "10 ", 3);
	errors = load_bytes(&a, copy, strlen(copy), &n);
	assert_string_equal(errors, "");
	assert_int_equal(n, 0);
	assert_false(a.main.tune);
	assert_int_equal(a.main.number, 16);
	assert_int_equal(a.main.signed_number, -5);
	assert_int_equal(a.main.workers, 4);
	assert_int_equal(a.main.level, LVL_DEBUG);
	assert_int_equal(a.main.sink, SINK_SYSLOG);
	assert_int_equal(a.main.mptcp, 0);
	assert_int_equal(a.main.mode, 1);
	assert_true(a.main.mark == 0xffffffff);
	assert_true(a.main.ttl == 5400);
	assert_true(a.main.any_time == 0.25);
	assert_string_equal(a.main.user, "a b;c#");
	assert_string_equal(a.main.path, "/x y");
	assert_null(a.main.maybe_path);
	assert_string_equal(a.main.secret, "a=b");
	assert_int_equal(a.main.listen.n, 3);
	assert_string_equal(addr_str(&a.main.listen.v[0], addr, sizeof(addr)), "[::]:1077");
	assert_string_equal(addr_str(&a.main.listen.v[2], addr, sizeof(addr)), "[::1]:81");
	assert_int_equal(a.main.metrics.n, 1);
	assert_int_equal(a.main.exclude.n, 0);
	assert_int_equal(a.main.capture.n, 3);
	assert_string_equal(a.main.capture.v[0], "br-lan");
	assert_string_equal(a.main.capture.v[1], "eth0.5");
	assert_string_equal(a.main.capture.v[2], "wlan0");
	assert_int_equal(a.main.ports.n, 2);
	assert_int_equal(a.main.ports.v[0].last, 80);
	assert_int_equal(a.main.ports.v[1].first, 1000);
	assert_int_equal(a.main.ports.v[1].last, 2000);
	assert_int_equal(a.main.strange, 1);
	assert_int_equal(a.n, 2);
	assert_int_equal(a.checked, 2);
	assert_string_equal(a.proxy[0].name, "Fr1");
	assert_string_equal(a.proxy[0].address.host, "proxy.example.net");
	assert_int_equal(a.proxy[0].address.port, 1080);
	assert_string_equal(a.proxy[0].via.host, "2001:db8::1");
	assert_int_equal(a.proxy[0].via.port, 1080);
	assert_string_equal(a.proxy[1].address.host, "192.0.2.1");
	assert_int_equal(a.proxy[1].address.port, 65535);
	assert_int_equal(a.proxy[1].weight, 5);
	free(errors);
	all_fini(&a);
}

#define BOOL    "must be yes or no"
#define NUMBER  "must be 1 to 65535"
#define WHOLE   "must be a whole number"
#define WORKERS "must be auto or 1 to 256"
#define MARK    "must be 1 to 4294967295, decimal or 0x..."
#define TTL     "must be a time from 1s to 1d: 30 (seconds), 500ms, 5s, 10m, 1h or 2d"
#define TIME    "must be a time: 30 (seconds), 500ms, 5s, 10m, 1h or 2d"
#define LEVEL   "must be error, warning, notice, info or debug"
#define LISTEN(item)                                                                               \
	"must be ADDRESS:PORT, [IPV6]:PORT or PORT, comma separated, ports 1 to 65535; \"" item    \
	"\" is none of these"
#define PREFIX(item)    "must be addresses or ADDRESS/BITS, comma separated; \"" item "\" is neither"
#define INTERFACE(item) "must be names of network interfaces, comma separated; \"" item "\" is none"
#define RANGE(item)                                                                                \
	"must be ports 1 to 65535 or ranges like 1000-2000, comma separated; \"" item              \
	"\" is neither"
#define HOSTPORT "must be NAME:PORT, IPV4:PORT or [IPV6]:PORT"
#define PORT     "must have a port of 1 to 65535"

static const struct {
	const char *key, *value, *reason;
} bad_values[] =
	{
		{"tune", "", BOOL},
		{"tune", "maybe", BOOL},
		{"tune", "yess", BOOL},
		{"tune", "2", BOOL},
		{"number", "", NUMBER},
		{"number", "0", NUMBER},
		{"number", "65536", NUMBER},
		{"number", "-1", NUMBER},
		{"number", "+1", NUMBER},
		{"number", "8o80", NUMBER},
		{"number", "80 80", NUMBER},
		{"number", "80x", NUMBER},
		{"number", "1.0", NUMBER},
		{"number", "0x", NUMBER},
		{"number", "0xg", NUMBER},
		{"number", "4294967376", NUMBER}, /* 80 + 2^32 */
		{"number", "18446744073709551696", NUMBER},
		{"number", "999999999999999999999999999999", NUMBER},
		{"signed_number", "2147483648", WHOLE},
		{"signed_number", "-2147483648", WHOLE},
		{"signed_number", "-", WHOLE},
		{"signed_number", "--1", WHOLE},
		{"workers", "many", WORKERS},
		{"workers", "0", WORKERS},
		{"workers", "257", WORKERS},
		{"workers", "", WORKERS},
		{"log", "verbose", LEVEL},
		{"log", "", LEVEL},
		{"log_to", "file", "must be auto, syslog or stderr"},
		{"mptcp", "perhaps", "must be auto, yes or no"},
		{"mode", "bridge", "must be tproxy or redirect"},
		{"mark", "0", MARK},
		{"mark", "0x100000000", MARK},
		{"mark", "-1", MARK},
		{"ttl", "0", TTL},
		{"ttl", "500ms", TTL},
		{"ttl", "2d", TTL},
		{"ttl", "1y", TTL},
		{"ttl", "1h30m", TTL},
		{"ttl", "", TTL},
		{"ttl", "-5", TTL},
		{"ttl", "inf", TTL},
		{"ttl", "5.", TTL},
		{"any_time", ".5", TIME},
		{"any_time", "1e3", TIME},
		{"any_time", "1 h", TIME},
		{"any_time", "99999999999999999999999999999999999", TIME},
		{"user", "", "must not be empty"},
		{"user", "far-too-long", "must be 1 to 8 characters"},
		{"state_dir", "", "must be an absolute path (begin with \"/\")"},
		{"state_dir", "var/lib", "must be an absolute path (begin with \"/\")"},
		{"maybe_path", "x", "must be an absolute path (begin with \"/\")"},
		{"listen", "", "must be at least one ADDRESS:PORT, [IPV6]:PORT or PORT"},
		{"listen", "0", LISTEN("0")},
		{"listen", "65536", LISTEN("65536")},
		{"listen", "::1", LISTEN("::1")},
		{"listen", "1.2.3.4", LISTEN("1.2.3.4")},
		{"listen", "1.2.3.4:0", LISTEN("1.2.3.4:0")},
		{"listen", "1.2.3:80", LISTEN("1.2.3:80")},
		{"listen", "localhost:80", LISTEN("localhost:80")},
		{"listen", "80, x", LISTEN("x")},
		{"listen", "80,,81", "must not have empty items"},
		{"listen", "80,", "must not have empty items"},
		{"listen", "80, [::]:80", "must name each address once; \"[::]:80\" is repeated"},
		{"metrics", "[::1]", LISTEN("[::1]")},
		{"exclude", "10.0.0.0/33", PREFIX("10.0.0.0/33")},
		{"exclude", "fc00::/7, lan", PREFIX("lan")},
		{"exclude", ",", "must not have empty items"},
		{"capture", "lan, sixteen-letters0", INTERFACE("sixteen-letters0")},
		{"capture", "a b", INTERFACE("a b")},
		{"capture", "lan\\\"", INTERFACE("lan\\\"")},
		{"capture", "..", INTERFACE("..")},
		{"capture", "-lan", INTERFACE("-lan")},
		{"capture", "lan,", "must not have empty items"},
		{"ports", "", "must be ports or ranges of ports"},
		{"ports", "0", RANGE("0")},
		{"ports", "80-65536", RANGE("80-65536")},
		{"ports", "80-79", RANGE("80-79")},
		{"ports", "80-", RANGE("80-")},
		{"ports", "-80", RANGE("-80")},
		{"ports", "80, x", RANGE("x")},
		{"ports", "1-2-3", RANGE("1-2-3")},
		{"ports", "80,,", "must not have empty items"},
		{"strange", "normal", "must be strange"},
},
  bad_proxy_values[] = {
	  {"address", "", HOSTPORT},
	  {"address", ":80", HOSTPORT},
	  {"address", "example.net", "must have a port: example.net:PORT"},
	  {"address", "example.net:", PORT},
	  {"address", "example.net:0", PORT},
	  {"address", "example.net:65536", PORT},
	  {"address", "example.net:8o80", PORT},
	  {"address", "example.net:+80", PORT},
	  {"address", "example.net:0x50", PORT},
	  {"address", "example.net:80:81", PORT},
	  {"address", "exa mple.net:80", HOSTPORT},
	  {"address", "-example.net:80", HOSTPORT},
	  {"address", "a..b:80", HOSTPORT},
	  {"address", "1.2.3.256:80", HOSTPORT},
	  {"address", "1.2.3:80", HOSTPORT},
	  {"address", "2001:db8::1",
	   "must have brackets round an IPv6 address: [2001:db8::1]:PORT"},
	  {"address", "[2001:db8::1", HOSTPORT},
	  {"address", "[2001:db8::1]80", HOSTPORT},
	  {"address", "[1.2.3.4]:80", HOSTPORT},
	  {"address", "[2001:db8::1]", "must have a port: [2001:db8::1]:PORT"},
	  {"weight", "101", "must be 1 to 100"},
};

static void each_bad_value(void **state)
{
	char text[512], want[1024];

	(void)state;
	for (size_t i = 0; i < sizeof(bad_values) / sizeof(bad_values[0]); i++) {
		snprintf(text, sizeof(text), "\n[redir]\n# comment\n%s = %s\n", bad_values[i].key,
			 bad_values[i].value);
		snprintf(want, sizeof(want), "t.conf:4: [redir] %s: \"%s\" is not valid: %s\n",
			 bad_values[i].key, bad_values[i].value, bad_values[i].reason);
		expect(text, want);
	}
	for (size_t i = 0; i < sizeof(bad_proxy_values) / sizeof(bad_proxy_values[0]); i++) {
		snprintf(text, sizeof(text), "[proxy a.b_c-1]\n%s = %s\n", bad_proxy_values[i].key,
			 bad_proxy_values[i].value);
		snprintf(want, sizeof(want),
			 "t.conf:2: [proxy a.b_c-1] %s: \"%s\" is not valid: %s\n",
			 bad_proxy_values[i].key, bad_proxy_values[i].value,
			 bad_proxy_values[i].reason);
		expect(text, want);
	}
}

#define COMMENT                                                                                    \
	"\";\" and \"#\" begin a comment: put a value that has them in quotes, and a space "       \
	"before a comment"
#define ALONE "a section header stands alone on its line; only a comment may follow \"]\""

static const struct {
	const char *text, *errors;
} bad_files[] = {
	/* unknown things, with suggestions */
	{"[redir]\nlisen = 1\n",
	 "t.conf:2: [redir] lisen: unknown key; did you mean \"listen\"?\n"},
	{"[redir]\nLISTENS = 1\n",
	 "t.conf:2: [redir] LISTENS: unknown key; did you mean \"listen\"?\n"},
	{"[redir]\nstate = /\n",
	 "t.conf:2: [redir] state: unknown key; did you mean \"state_dir\"?\n"},
	{"[redir]\nidle = 5\n", "t.conf:2: [redir] idle: unknown key here; it belongs in "
				"[connect]\n"},
	{"[redir]\nweight = 5\n", "t.conf:2: [redir] weight: unknown key here; it belongs in "
				  "[proxy NAME]\n"},
	{"[connect]\nzzzzz = 5\n", "t.conf:2: [connect] zzzzz: unknown key; known are idle\n"},
	{"[reidr]\nlisten = 1\n", "t.conf:1: [reidr]: unknown section; did you mean \"redir\"?\n"},
	{"[prxy fr1]\n", "t.conf:1: [prxy fr1]: unknown section; did you mean \"proxy\"?\n"},
	{"[zzzzzz]\n", "t.conf:1: [zzzzzz]: unknown section; known are [redir], [proxy NAME], "
		       "[connect]\n"},
	/* names */
	{"[proxy]\naddress = x:1\n", "t.conf:1: [proxy]: needs a name, as in [proxy NAME]\n"},
	{"[redir one]\n", "t.conf:1: [redir one]: takes no name: must be [redir]\n"},
	{"[proxy a/b]\n", "t.conf:1: [proxy a/b]: name \"a/b\" is not valid: must be 1 to 32 "
			  "letters, digits, \"_\", \".\" or \"-\"\n"},
	{"[proxy a b]\n", "t.conf:1: [proxy a b]: name \"a b\" is not valid: must be 1 to 32 "
			  "letters, digits, \"_\", \".\" or \"-\"\n"},
	{"[proxy abcdefghijklmnopqrstuvwxyz1234567]\n",
	 "t.conf:1: [proxy abcdefghijklmnopqrstuvwxyz1234567]: name "
	 "\"abcdefghijklmnopqrstuvwxyz1234567\" is not valid: must be 1 to 32 letters, digits, "
	 "\"_\", \".\" or \"-\"\n"},
	/* repetitions */
	{"[redir]\ntune = yes\nnumber = 1\nTune = no\n",
	 "t.conf:4: [redir] Tune: repeated key: it was set on line 2, remove one of them\n"},
	{"[redir]\n[connect]\n[Redir]\n",
	 "t.conf:3: [Redir]: repeated section: it began on line 1, put its keys there\n"},
	{"[proxy a]\naddress = x:1\n[proxy  A]\naddress = y:1\n",
	 "t.conf:3: [proxy  A]: repeated section: it began on line 1, put its keys there\n"
	 "t.conf:4: [proxy  A] address: repeated key: it was set on line 2, remove one of them\n"},
	/* lines that are wrong */
	{"tune = yes\n[redir]\n", "t.conf:1: tune: key outside any section\n"},
	{"[redir]\ntune\n", "t.conf:2: [redir]: neither [section] nor key = value\n"},
	{"[redir]\n= yes\n", "t.conf:2: [redir]: neither [section] nor key = value\n"},
	{"[redir\ntune = yes\n", "t.conf:1: section header without \"]\"\n"},
	{"[redir] hello\n", "t.conf:1: " ALONE "\n"},
	{"[redir] tune = no ; hello\n", "t.conf:1: " ALONE "\n"},
	{"[redir]] ; hello\n", "t.conf:1: " ALONE "\n"},
	{"[redir] ; hello\nnumber = 0\n",
	 "t.conf:2: [redir] number: \"0\" is not valid: " NUMBER "\n"},
	{"[]\n", "t.conf:1: section header without a name\n"},
	{"[redir]\nuser = a#b\n", "t.conf:2: [redir] user: " COMMENT "\n"},
	{"[redir]\nuser = a;b\n", "t.conf:2: [redir] user: " COMMENT "\n"},
	{"[redir]\nuser = \"a\n", "t.conf:2: [redir] user: quote without its end\n"},
	{"[redir]\nuser = 'a' b\n", "t.conf:2: [redir] user: text after the closing quote\n"},
	{"[redir]\nuser = a\\\n", "t.conf:2: [redir]: the file ends in a line to be continued "
				  "(\"\\\")\n"},
	/* several, in the order of lines; the count of a continued line is its first */
	{"[redir]\nworkers = x\nlog = y\n\n[connect]\nidle = z\n[proxy p]\nweight = 13\n"
	 "address = h:1\n",
	 "t.conf:2: [redir] workers: \"x\" is not valid: " WORKERS "\n"
	 "t.conf:3: [redir] log: \"y\" is not valid: " LEVEL "\n"
	 "t.conf:6: [connect] idle: \"z\" is not valid: must be 0 to 100000\n"
	 "t.conf:8: [proxy p] weight: must not be 13\n"},
	{"[redir]\nlisten = 80, \\\n  81, \\\n  x\nnumber = 0\n",
	 "t.conf:2: [redir] listen: \"80,   81,   x\" is not valid: " LISTEN(
		 "x") "\n"
		      "t.conf:5: [redir] number: \"0\" is not valid: " NUMBER "\n"},
	/* from a check: at the section's line when the key is absent */
	{"\n\n[proxy Q]\nweight = 2\n",
	 "t.conf:3: [proxy Q] address: is missing: must be NAME:PORT\n"},
	/* secrets are not shown; control characters are harmless */
	{"[redir]\npassword = hunter2\n",
	 "t.conf:2: [redir] password: the value is not valid: must be 1 to 5 characters\n"},
	{"[redir]\nmode = a\033[31m\n",
	 "t.conf:2: [redir] mode: \"a\\x1b[31m\" is not valid: must be tproxy or redirect\n"},
	{"[redir]\nmode = "
	 "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234\n",
	 "t.conf:2: [redir] mode: "
	 "\"01234567890123456789012345678901234567890123456789012345678901234567890123456789...\" "
	 "is not valid: must be tproxy or redirect\n"},
};

static void each_bad_file(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(bad_files) / sizeof(bad_files[0]); i++)
		expect(bad_files[i].text, bad_files[i].errors);
}

static void long_lines(void **state)
{
	char text[5000], errors[100];
	const size_t lengths[] = {999, 1000, 1001, 1022, 1023, 1024, 1025, 2048, 4000};

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		size_t len = lengths[i], head = (size_t)sprintf(text, "[redir]\n");
		memset(text + head, 'x', len);
		memcpy(text + head, "; ", 2);
		strcpy(text + head + len, "\nnumber = 3\n");
		*errors = '\0';
		if (len > 1000)
			strcpy(errors, "t.conf:2: [redir]: line is too long: at most 1000 "
				       "characters\n");
		expect(text, errors);
	}
}

static void nul_and_binary(void **state)
{
	static const char text[] = "[redir]\nnumber = 1\0\n";
	struct all a;
	unsigned n;
	char *errors = load_bytes(&a, text, sizeof(text) - 1, &n);

	(void)state;
	assert_string_equal(errors, "t.conf:2: [redir]: line with a NUL character\n");
	free(errors);
	all_fini(&a);
}

static void no_file(void **state)
{
	struct all a = {0};
	char *errors = NULL;
	size_t size;
	FILE *f = open_memstream(&errors, &size);

	(void)state;
	assert_int_equal(conf_load("none.conf", sections, &a, f), 1);
	assert_int_equal(conf_load(dir, sections, &a, f), 1);
	fclose(f);
	assert_non_null(strstr(errors, "none.conf: No such file or directory\n"));
	assert_non_null(strstr(errors, ": is not a regular file\n"));
	free(errors);
	all_fini(&a);
}

static void required_section(void **state)
{
	struct conf_section needed[4];
	struct all a = {0};
	char *errors = NULL;
	size_t size;
	FILE *f = open_memstream(&errors, &size);

	(void)state;
	memcpy(needed, sections, sizeof(needed));
	needed[0].required = needed[1].required = true;
	write_file("[connect]\n", 10);
	assert_int_equal(conf_load("t.conf", needed, &a, f), 2);
	fclose(f);
	assert_string_equal(errors, "t.conf: section [redir] is missing\n"
				    "t.conf: section [proxy NAME] is missing\n");
	free(errors);
	all_fini(&a);
}

/* Known, but not built in: each place is told once, and what is not set is no error. */
static void left_out(void **state)
{
	static const struct conf_key none[] = {{0}};
	static const struct conf_key keys[] = {{"n", conf_int, 0, .def = "1", .min = 1, .max = 2},
					       {"door", conf_left_out,
						offsetof(struct all, no_memory), .def = "4",
						.help = "--disable-door"},
					       {0}};
	const struct conf_section s[] = {
		{"m", .keys = keys},
		{"udp", .keys = none, .left_out = "--disable-udp"},
		{"forward", .named = true, .keys = none, .left_out = "--disable-forward"},
		{0}};
	static const char text[] = "[m]\n[udp]\n";
	static const char asked[] = "[m]\ndoor = 4\n[udp]\nmax = 4\nmax = 5\n[forward web]\n"
				    "listen = 1\n";
#define WITHOUT(option)                                                                            \
	"this program was built without it (configure --disable-" option                           \
	"): remove it, or install one that has it\n"
	struct all a = {0};
	char *errors = NULL;
	size_t size;
	FILE *f = open_memstream(&errors, &size);

	(void)state;
	write_file(text, strlen(text));
	assert_int_equal(conf_load("t.conf", s, &a, f), 0);
	assert_false(a.no_memory);
	write_file(asked, strlen(asked));
	assert_int_equal(conf_load("t.conf", s, &a, f), 4);
	fclose(f);
	assert_string_equal(
		errors,
		"t.conf:2: [m] door: \"4\" is not valid: " WITHOUT(
			"door") "t.conf:4: [udp] max: " WITHOUT("udp") "t.conf:5: [udp] "
								       "max: " WITHOUT("udp") "t."
											      "conf"
											      ":6: "
											      "[for"
											      "ward"
											      " web"
											      "]:"
											      " " WITHOUT("forward"));
	free(errors);
}

static void out_of_memory_and_bad_default(void **state)
{
	static const struct conf_key keys[] = {{"n", conf_int, 0, .def = "x", .min = 1, .max = 2},
					       {0}};
	const struct conf_section s[] = {{"m", .keys = keys, .begin = begin_main}, {0}};
	struct all a = {.no_memory = true};
	char *errors = NULL;
	size_t size;
	FILE *f = open_memstream(&errors, &size);

	(void)state;
	write_file("[proxy p]\naddress = h:1\n", 24);
	assert_int_equal(conf_load("t.conf", sections, &a, f), 1);
	assert_int_equal(conf_load(NULL, s, &a, f), 1);
	fclose(f);
	assert_string_equal(errors,
			    "t.conf:1: [proxy p]: out of memory\n"
			    "defaults: [m] n: default \"x\" is not valid: must be 1 to 2\n");
	free(errors);
	all_fini(&a);
}

/* Behind a header, and in place of a value. */
static void comments(void **state)
{
	static const char text[] = "[redir]   ; one; two [three] = 4\n"
				   "number = 3\n"
				   "maybe_path =      ; none; or a path # here\n"
				   "metrics = # none; off\n"
				   "[proxy fr1]#the first]\n"
				   "address = h:1\n"
				   "[proxy fr2]\t# goes on \\\n"
				   "weight = 7 \\\n"
				   "weight = 8\n"
				   "address = h:2\n"
				   " [ connect ]  ; tune = no\r\n"
				   "idle = 4 ; the end";
	struct all a;
	unsigned n;
	char *errors = load_bytes(&a, text, sizeof(text) - 1, &n);

	(void)state;
	assert_string_equal(errors, "");
	assert_int_equal(n, 0);
	assert_true(a.main.tune);
	assert_int_equal(a.main.number, 3);
	assert_null(a.main.maybe_path);
	assert_int_equal(a.main.metrics.n, 0);
	assert_int_equal(a.n, 2);
	assert_string_equal(a.proxy[0].name, "fr1");
	assert_int_equal(a.proxy[0].address.port, 1);
	assert_string_equal(a.proxy[1].name, "fr2");
	assert_int_equal(a.proxy[1].address.port, 2);
	assert_int_equal(a.proxy[1].weight, 1);
	assert_int_equal(a.idle, 4);
	free(errors);
	all_fini(&a);
}

/* Every beginning of a file, and every file with one octet changed: an answer, no crash. */
static void cut_and_changed(void **state)
{
	static const char text[] = "[redir]\nlisten = 80,\\\n [::1]:81 ; c\nuser='q;'\n[proxy "
				   "a] ; \\\n\naddress = [::1]:80\n\n[connect]\nidle=5\n";
	static const char octets[] = {'\0', '\n', '[', ']', '=', '"', '\\', ';', '\x80', '%'};
	char changed[sizeof(text)];
	struct all a;
	unsigned n;

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++) {
		free(load_bytes(&a, text, i, &n));
		all_fini(&a);
		for (size_t j = 0; j < sizeof(octets); j++) {
			memcpy(changed, text, sizeof(text));
			changed[i] = octets[j];
			free(load_bytes(&a, changed, sizeof(text) - 1, &n));
			all_fini(&a);
		}
	}
}

static void put_secret(const char *text, size_t len, mode_t mode)
{
	write_file(text, len);
	assert_int_equal(chmod("t.conf", mode), 0);
}

static void secrets(void **state)
{
	char out[8];

	(void)state;
	put_secret("hello\nworld\n", 12, 0600);
	assert_int_equal(conf_read_secret("t.conf", out, sizeof(out)), 0);
	assert_string_equal(out, "hello");
	put_secret("1234567", 7, 0640);
	assert_int_equal(conf_read_secret("t.conf", out, sizeof(out)), 0);
	assert_string_equal(out, "1234567");
	put_secret("1234567\r\n", 9, 0600);
	assert_int_equal(conf_read_secret("t.conf", out, sizeof(out)), -EMSGSIZE);
	put_secret("123456\r\n", 8, 0600);
	assert_int_equal(conf_read_secret("t.conf", out, sizeof(out)), 0);
	assert_string_equal(out, "123456");
	put_secret("12345678\n", 9, 0600);
	assert_int_equal(conf_read_secret("t.conf", out, sizeof(out)), -EMSGSIZE);
	put_secret("\n", 1, 0600);
	assert_int_equal(conf_read_secret("t.conf", out, sizeof(out)), -ENODATA);
	put_secret("a\0b\n", 4, 0600);
	assert_int_equal(conf_read_secret("t.conf", out, sizeof(out)), -EINVAL);
	put_secret("hello\n", 6, 0644);
	assert_int_equal(conf_read_secret("t.conf", out, sizeof(out)), -EPERM);
	put_secret("hello\n", 6, 0602);
	assert_int_equal(conf_read_secret("t.conf", out, sizeof(out)), -EPERM);
	assert_int_equal(conf_read_secret("none", out, sizeof(out)), -ENOENT);
	assert_int_equal(conf_read_secret(dir, out, sizeof(out)), -EINVAL);
}

/* ---- old and new ---- */

static void differences(void **state)
{
	struct addr v[2];
	struct addr_list none = {.n = 0}, one = {.v = v, .n = 1}, two = {.v = v, .n = 2},
			 other = {.v = v + 1, .n = 1};
	char text[16] = "";

	(void)state;
	assert_true(addr_parse(&v[0], "[::]:1077", -1));
	assert_true(addr_parse(&v[1], "[::]:1078", -1));
	assert_true(conf_addrs_equal(&none, &none));
	assert_true(conf_addrs_equal(&two, &two));
	assert_false(conf_addrs_equal(&one, &two));
	assert_false(conf_addrs_equal(&two, &one));
	assert_false(conf_addrs_equal(&none, &one));
	assert_false(conf_addrs_equal(&one, &other));
	assert_true(conf_text_equal(NULL, ""));
	assert_true(conf_text_equal("", NULL));
	assert_true(conf_text_equal(NULL, NULL));
	assert_true(conf_text_equal("a", "a"));
	assert_false(conf_text_equal("a", "A"));
	assert_false(conf_text_equal(NULL, "a"));
	conf_name_changed(true, "user", text, sizeof(text));
	assert_string_equal(text, "");
	conf_name_changed(false, "listen", text, sizeof(text));
	conf_name_changed(true, "user", text, sizeof(text));
	conf_name_changed(false, "mode", text, sizeof(text));
	assert_string_equal(text, "listen, mode");
	conf_name_changed(false, "workers", text, sizeof(text));
	conf_name_changed(false, "workers", text, sizeof(text));
	assert_string_equal(text, "listen, mode, w"); /* cut, nothing behind */
}

/* ---- a kernel without IPv6 ---- */

/* As with ipv6.disable=1: the kernel has no such sockets. False: it cannot be made to look so here. */
static bool take_ipv6_away(void)
{
	const uint32_t low = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0;
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0]) + low),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof(filter) / sizeof(filter[0]), filter};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

static bool is_text(const struct addr *a, const char *want)
{
	char text[ADDR_STRLEN];

	return strcmp(addr_str(a, text, sizeof(text)), want) == 0;
}

/* The exit code: 0 as it should be, 77 cannot be tested. */
static int look_without_ipv6(void)
{
	struct addr v[3];
	struct addr_list l = {v, 3};

	addr_parse(&v[0], "[::]:1077", -1);
	addr_parse(&v[1], "[::1]:1077", -1);
	addr_parse(&v[2], "192.0.2.1:80", -1);
	conf_addrs_without_ipv6(&l);
	if (sock_has_ipv6() && !is_text(&v[0], "[::]:1077"))
		return 1;
	if (!take_ipv6_away())
		return 77;
	if (sock_has_ipv6())
		return 2;
	conf_addrs_without_ipv6(&l);
	return is_text(&v[0], "0.0.0.0:1077") && is_text(&v[1], "[::1]:1077") &&
			       is_text(&v[2], "192.0.2.1:80")
		       ? 0
		       : 3;
}

static void without_ipv6(void **state)
{
	pid_t pid = fork(); /* what was taken away does not come back */
	int status = 0;

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(look_without_ipv6());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(comments),
		cmocka_unit_test(defaults),        cmocka_unit_test(good_file),
		cmocka_unit_test(each_bad_value),  cmocka_unit_test(each_bad_file),
		cmocka_unit_test(long_lines),      cmocka_unit_test(nul_and_binary),
		cmocka_unit_test(no_file),         cmocka_unit_test(required_section),
		cmocka_unit_test(left_out),        cmocka_unit_test(out_of_memory_and_bad_default),
		cmocka_unit_test(cut_and_changed), cmocka_unit_test(secrets),
		cmocka_unit_test(differences),     cmocka_unit_test(without_ipv6),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
