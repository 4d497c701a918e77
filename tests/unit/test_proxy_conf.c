/* SPDX-License-Identifier: GPL-2.0-or-later */
/* proxy.conf: defaults, every bad value, the sample, what a reload tells. */
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
#include "proxy/proxy_conf.h"

static char path[] = "/tmp/sixpath-proxy-conf-XXXXXX";

static void write_file(const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

/* Loads text; the errors go to err. */
static struct proxy_conf *load(const char *text, char *err, size_t cap)
{
	FILE *f = fmemopen(err, cap, "w");
	struct proxy_conf *c;

	assert_non_null(f);
	memset(err, 0, cap);
	write_file(text);
	c = proxy_conf_load(path, f);
	fclose(f);
	return c;
}

static void check_defaults(const struct proxy_conf *c)
{
	char text[ADDR_STRLEN];

	assert_int_equal(c->listen.n, 1);
	assert_string_equal(addr_str(&c->listen.v[0], text, sizeof(text)), "[::]:1080");
	assert_true(c->udp_listen.as_listen && c->udp_listen.addrs.n == 1);
	assert_true(addr_equal(&c->udp_listen.addrs.v[0], &c->listen.v[0]));
	assert_true(c->udp_idle_s == 300 && c->udp_dns_idle_s == 20 && c->udp_max == 20000);
	assert_true(c->udp_max_per_client == 4096 && c->udp_max_per_user == 4096);
	assert_true(c->mptcp == 2 && c->tfo == 2 && c->workers == 0);
	assert_string_equal(c->user, "sixpath");
	assert_true(c->log == LVL_INFO && c->log_to == SINK_AUTO);
	assert_string_equal(c->control, "/run/sixpath/proxy.sock");
	assert_string_equal(c->resolve, "");
	assert_true(c->dns.len == 0);
	assert_true(c->session_ttl_s == 3600 && c->request_timeout_s == 10);
	assert_true(c->connect_timeout_s == 30 && c->idle_s == 7440 && c->dead_s == 120);
	assert_int_equal(c->token_window, 4096);
	assert_true(c->max_clients == 20000 && c->max_per_client == 4096);
	assert_true(c->max_sessions == 16384 && c->max_sessions_per_user == 256);
	assert_false(c->repeat_session_id);
	assert_null(c->users);
	assert_true(c->acl.allow.n == 0 && c->acl.deny.n == 0);
	assert_true(c->acl.bind.n == 0 && c->acl.users.count == 0); /* nobody binds anything */
	assert_true(c->bind_timeout_s == 600 && c->bind_backlog == 128);
	assert_true(c->max_binds == 256 && c->max_binds_per_user == 32);
}

static void test_defaults(void **state)
{
	char err[1024];
	struct proxy_conf *c = proxy_conf_load(NULL, stderr);

	(void)state;
	assert_non_null(c);
	check_defaults(c);
	proxy_conf_put(c);
	c = load("[proxy]\n", err, sizeof(err));
	assert_non_null(c);
	check_defaults(c);
	proxy_conf_put(c);
}

/* The sample shows every default, in comments: as it is and without the comment signs. */
static void test_sample(void **state)
{
	const char *top = getenv("top_srcdir");
	char name[512], line[512], all[8192] = "", err[1024];
	struct proxy_conf *c;
	unsigned keys = 0;
	FILE *f;

	(void)state;
	snprintf(name, sizeof(name), "%s/etc/proxy.conf", top ? top : ".");
	c = proxy_conf_load(name, stderr);
	assert_non_null(c);
	check_defaults(c);
	proxy_conf_put(c);
	f = fopen(name, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		bool is_key = line[0] == ';' && line[1] != ' ';
		keys += is_key;
		strncat(all, line + is_key, sizeof(all) - strlen(all) - 1);
	}
	fclose(f);
	c = load(all, err, sizeof(err));
	if (!c)
		fail_msg("%s", err);
	check_defaults(c);
	proxy_conf_put(c);
	assert_int_equal(keys, 39);
}

static void test_good_values(void **state)
{
	char err[1024], text[ADDR_STRLEN];
	struct proxy_conf *c =
		load("[proxy]\n"
		     "listen = 1081, 127.0.0.1:1080\nworkers = 4\nmptcp = no\n"
		     "tfo = yes\ndns = 127.0.0.53\ncontrol = \"\"\nresolve = 127.0.0.1:53\n"
		     "token_window = 65536\nsession_ttl = 10\nidle = 1h\n"
		     "udp_listen = 1082\n[udp]\nidle = 2m\n"
		     "[acl]\nallow = 10.0.0.0/8, fd00::/8\ndeny = 1.1.1.1\n",
		     err, sizeof(err));

	(void)state;
	if (!c)
		fail_msg("%s", err);
	assert_true(c->listen.n == 2 && c->workers == 4 && c->mptcp == 0 && c->tfo == 1);
	assert_true(!c->control || !*c->control);
	assert_string_equal(addr_str(&c->dns, text, sizeof(text)), "127.0.0.53:53");
	assert_true(c->token_window == 65536 && c->session_ttl_s == 10 && c->idle_s == 3600);
	assert_true(c->acl.allow.n == 2 && c->acl.deny.n == 1);
	assert_true(c->udp_idle_s == 120 && !c->udp_listen.as_listen);
	assert_true(c->udp_listen.addrs.n == 1 && addr_port(&c->udp_listen.addrs.v[0]) == 1082);
	proxy_conf_put(c);
	/* where it is not named it follows listen, or there is none */
	c = load("[proxy]\nlisten = 1081, 127.0.0.1:1080\n", err, sizeof(err));
	assert_non_null(c);
	assert_true(c->udp_listen.addrs.n == 2);
	assert_true(addr_equal(&c->udp_listen.addrs.v[1], &c->listen.v[1]));
	proxy_conf_put(c);
	c = load("[proxy]\nudp_listen = no\n", err, sizeof(err));
	assert_non_null(c);
	assert_int_equal(c->udp_listen.addrs.n, 0);
	proxy_conf_put(c);
}

static void test_bad_values(void **state)
{
	static const char *const rows[] = {
		"listen = ",
		"listen = 1.2.3.4",
		"listen = [::]:70000",
		"listen = host:1080",
		"udp_listen = ",
		"udp_listen = maybe",
		"udp_listen = [::]:70000",
		"mptcp = maybe",
		"tfo = 3",
		"workers = 0",
		"workers = 257",
		"user = ",
		"log = loud",
		"log_to = printer",
		"control = relative/path",
		"resolve = foo",
		"resolve = 192.0.2.53, ns.example.net",
		"dns = ns.example.net",
		"dns = 0.0.0.0",
		"dns = [::1]:0",
		"session_ttl = 9",
		"session_ttl = 31d",
		"session_ttl = soon",
		"token_window = 7",
		"token_window = 65537",
		"token_window = -1",
		"request_timeout = 0",
		"request_timeout = 301",
		"connect_timeout = 500ms",
		"connect_timeout = 301s",
		"idle = 9",
		"idle = 31d",
		"dead = -1",
		"dead = 25h",
		"max_clients = 0",
		"max_clients = 1000001",
		"max_per_client = 0",
		"max_per_client = 1x",
		"bind_timeout = 0",
		"bind_timeout = 25h",
		"bind_backlog = 0",
		"max_binds = 65536",
		"max_binds_per_user = many",
		"max_sessions = 0",
		"max_sessions = 1000001",
		"max_sessions_per_user = 0",
		"max_sessions_per_user = 1000001",
		"repeat_session_id = perhaps",
		"metrics = [::1]:9616",
		"lissen = 1080",
	};
	char text[256], where[300], err[1024];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(text, sizeof(text), "; a comment\n[proxy]\n%s\n", rows[i]);
		snprintf(where, sizeof(where), "%s:3: ", path);
		if (load(text, err, sizeof(err)))
			fail_msg("%s: accepted", rows[i]);
		if (strncmp(err, where, strlen(where)) != 0 || !strchr(err, '\n'))
			fail_msg("%s: %s", rows[i], err);
	}
	assert_null(load("[acl]\nallow = 10.0.0.0/33\n", err, sizeof(err)));
	assert_null(load("[acl]\ndeny = somewhere\n", err, sizeof(err)));
	assert_null(load("[udp]\nidle = 4\n", err, sizeof(err)));
	assert_null(load("[udp]\nidle = 25h\n", err, sizeof(err)));
	assert_null(load("[udp]\ndns_idle = 0\n", err, sizeof(err)));
	assert_null(load("[udp]\nmax_associations = 0\n", err, sizeof(err)));
	assert_null(load("[udp]\nmax_per_client = 1000001\n", err, sizeof(err)));
	assert_null(load("[udp]\nmax_per_user = many\n", err, sizeof(err)));
	assert_null(load("[auth]\nusers = relative\n", err, sizeof(err)));
	assert_null(load("[auth]\nusers = /no/such/file\n", err, sizeof(err)));
	assert_non_null(strstr(err, "No such file"));
	assert_null(load("[tls]\ncert = /x\n", err, sizeof(err)));
}

static void test_needs_restart(void **state)
{
	char err[1024], text[128];
	struct proxy_conf *a = load("[proxy]\n", err, sizeof(err));
	struct proxy_conf *b = load("[proxy]\nlisten = 1081\nworkers = 3\nuser = x\nidle = 10\n"
				    "mptcp = no\ncontrol = /x\nudp_listen = no\n",
				    err, sizeof(err));

	(void)state;
	assert_true(a && b);
	proxy_conf_needs_restart(a, a, text, sizeof(text));
	assert_string_equal(text, "");
	proxy_conf_needs_restart(a, b, text, sizeof(text));
	assert_string_equal(text, "listen, udp_listen, mptcp, workers, user, control");
	proxy_conf_needs_restart(a, b, text, 12); /* cut, not overrun */
	assert_int_equal(strlen(text), 11);
	proxy_conf_put(a);
	proxy_conf_put(b);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),      cmocka_unit_test(test_sample),
		cmocka_unit_test(test_good_values),   cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_needs_restart),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
