/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a connection was going: with our own address (TPROXY), with connection tracking (REDIRECT). */
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "redir/origdst.h"
#include "rig.h"

static bool run(const char *command)
{
	const char *argv[] = {"sh", "-c", command, NULL};
	int status;
	pid_t pid;

	return posix_spawnp(&pid, "sh", NULL, NULL, (char *const *)(uintptr_t)argv, environ) == 0 &&
	       waitpid(pid, &status, 0) == pid && status == 0;
}

static struct addr addr_of(const char *text, uint16_t port)
{
	struct addr a;

	assert_true(addr_parse_ip(&a, text));
	addr_set_port(&a, port);
	return a;
}

/* A listener as ours on ip and any port. */
static int listen_on(const char *ip, bool transparent, struct addr *at)
{
	struct sock_wishes wishes = SOCK_WISHES_NONE;
	int fd;

	wishes.transparent = transparent;
	fd = rig_listen(ip, &wishes, at);
	assert_true(fd >= 0);
	return fd;
}

/* Connect from an address to another; what the listener accepted. */
static int connect_to(int listener, const struct addr *from, const struct addr *to)
{
	int fd = socket(addr_family(to), SOCK_STREAM | SOCK_CLOEXEC, 0), accepted;

	assert_true(fd >= 0);
	assert_true(!from || bind(fd, &from->u.sa, from->len) == 0);
	assert_int_equal(connect(fd, &to->u.sa, to->len), 0);
	assert_true(rig_wait(listener, POLLIN));
	accepted = accept(listener, NULL, NULL);
	assert_true(accepted >= 0);
	close(fd);
	return accepted;
}

static void found(int fd, enum redir_mode mode, const struct addr *listen, size_t n,
		  enum origdst_result result, const struct addr *expected)
{
	const struct addr_list list = {(struct addr *)(uintptr_t)listen, n};
	struct addr dst;

	memset(&dst, 0xff, sizeof(dst));
	assert_int_equal(origdst_find(fd, mode, &list, &dst), result);
	if (expected) {
		assert_int_equal(addr_family(&dst), addr_family(expected));
		assert_true(addr_equal(&dst, expected));
	}
}

static void test_no_connection(void **state)
{
	struct addr at = addr_of("127.0.0.1", 1);
	int p[2];

	(void)state;
	found(-1, MODE_TPROXY, &at, 1, ORIGDST_UNKNOWN, NULL);
	found(-1, MODE_REDIRECT, &at, 1, ORIGDST_UNKNOWN, NULL);
	assert_int_equal(pipe(p), 0);
	found(p[0], MODE_TPROXY, &at, 1, ORIGDST_UNKNOWN, NULL);
	close(p[0]);
	close(p[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0); /* of another family */
	found(p[0], MODE_TPROXY, &at, 1, ORIGDST_UNKNOWN, NULL);
	found(p[0], MODE_REDIRECT, &at, 1, ORIGDST_UNKNOWN, NULL);
	close(p[0]);
	close(p[1]);
}

/* Somebody connects to the listener itself. */
static void tproxy_self(const char *listen, const char *to)
{
	struct addr at, dst, list[3];
	int listener = listen_on(listen, false, &at), fd;

	dst = addr_of(to, addr_port(&at));
	fd = connect_to(listener, NULL, &dst);
	found(fd, MODE_TPROXY, &at, 1, ORIGDST_SELF, &dst);
	/* one of several listeners */
	list[0] = addr_of("192.0.2.1", (uint16_t)(addr_port(&at) ^ 1));
	list[1] = addr_of("192.0.2.1", (uint16_t)(addr_port(&at) ^ 2));
	list[2] = at;
	found(fd, MODE_TPROXY, list, 3, ORIGDST_SELF, &dst);
	/* our own address, but a port where we do not listen: a service of the router */
	found(fd, MODE_TPROXY, list, 2, ORIGDST_OK, &dst);
	found(fd, MODE_TPROXY, NULL, 0, ORIGDST_OK, &dst);
	close(fd);
	close(listener);
}

static void test_tproxy_self(void **state)
{
	(void)state;
	tproxy_self("127.0.0.1", "127.0.0.1");
	tproxy_self("0.0.0.0", "127.1.2.3");
}

static void test_tproxy_self_v6(void **state)
{
	(void)state;
	if (!rig_has_ipv6())
		skip();
	tproxy_self("::1", "::1");
	tproxy_self("::", "::1");
	tproxy_self("::", "127.0.0.1"); /* dual-stack: an IPv4 address it must be */
}

/* A server's address that is not ours, as TPROXY gives it to the accepted socket. */
static void tproxy_far(const char *ip, bool dual)
{
	struct addr at = addr_of(ip, 4321), bound = at;
	const int on = 1;
	int fd;

	if (dual)
		addr_map_v6(&bound, &at);
	fd = socket(bound.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof(on)), 0);
	assert_int_equal(bind(fd, &bound.u.sa, bound.len), 0);
	found(fd, MODE_TPROXY, NULL, 0, ORIGDST_OK, &at);
	/* also where the port is by chance the listener's */
	at = addr_of("0.0.0.0", 4321);
	bound = addr_of(ip, 4321);
	found(fd, MODE_TPROXY, &at, 1, ORIGDST_OK, &bound);
	close(fd);
}

static void test_tproxy_far(void **state)
{
	(void)state;
	tproxy_far("203.0.113.5", false);
	if (!rig_has_ipv6())
		skip();
	tproxy_far("203.0.113.5", true);
	tproxy_far("2001:db8::5", false);
}

/* ---- with the kernel's rules ---- */

#define PORT        "1077"
#define PORT_NUMBER 1077

#define FAR4 "203.0.113.5"
#define FAR6 "2001:db8:5::5"

/* Far servers behind lo, so that packets to them leave and meet the rules. */
static int far_up(void **state)
{
	(void)state;
	if (!run("ip addr add 10.9.0.1/32 dev lo && ip route add 203.0.113.0/24 dev lo"))
		return -1;
	/* where there is no IPv6, those tests skip */
	run("ip -6 addr add 2001:db8:9::1/128 dev lo nodad && ip -6 route add 2001:db8:5::/64 dev "
	    "lo");
	return 0;
}

/* The one table of rules. */
static bool nft(const char *rules)
{
	char command[1024];

	snprintf(command, sizeof(command),
		 "nft delete table inet t 2>/dev/null; nft 'table inet t {\n%s\n}'", rules);
	if (run(command))
		return true;
	/* What nft itself does not understand is our fault. */
	strcat(command, " 2>&1 | grep -q 'syntax error'");
	assert_false(run(command));
	printf("skipped: the kernel does not take: %s\n", rules);
	return false;
}

/* A listener where the rules send to. */
static int listen_ruled(const char *ip, bool transparent, struct addr *at)
{
	struct sock_wishes wishes = SOCK_WISHES_NONE;
	int fd = -1;

	wishes.transparent = transparent;
	*at = addr_of(ip, PORT_NUMBER);
	fd = sock_listen(at, &wishes, NULL);
	assert_true(fd >= 0);
	return fd;
}

static void nat(const char *listen, const char *from, const char *to, const char *own)
{
	struct addr at, dst = addr_of(to, 443), source = addr_of(from, 0);
	int listener = listen_ruled(listen, false, &at), fd = connect_to(listener, &source, &dst);

	found(fd, MODE_REDIRECT, &at, 1, ORIGDST_OK, &dst);
	close(fd);
	/* not redirected: to us */
	dst = addr_of(own, PORT_NUMBER);
	fd = connect_to(listener, &source, &dst);
	found(fd, MODE_REDIRECT, &at, 1, ORIGDST_SELF, &dst);
	close(fd);
	close(listener);
}

#define NAT_RULES                                                                                  \
	"chain o { type nat hook output priority -100; tcp dport 443 redirect to :" PORT ";  }"

static void test_redirect(void **state)
{
	(void)state;
	if (!nft(NAT_RULES))
		skip();
	nat("0.0.0.0", "10.9.0.1", FAR4, "127.0.0.1");
	if (!rig_has_ipv6())
		skip();
	nat("::", "10.9.0.1", FAR4, "127.0.0.1"); /* dual-stack */
	nat("::", "2001:db8:9::1", FAR6, "::1");
}

/* Without connection tracking nobody knows. */
static void test_redirect_untracked(void **state)
{
	struct addr at;
	int listener = listen_ruled("127.0.0.1", false, &at), fd;

	(void)state;
	if (!nft("chain o { type filter hook output priority -300; notrack; }"))
		skip();
	fd = connect_to(listener, NULL, &at);
	found(fd, MODE_REDIRECT, &at, 1, ORIGDST_UNKNOWN, NULL);
	close(fd);
	close(listener);
}

#define TPROXY_RULES                                                                               \
	"chain o { type route hook output priority -150; ip daddr 203.0.113.0/24 mark set 1; "     \
	"ip6 daddr 2001:db8:5::/64 mark set 1; }\n"                                                \
	"chain p { type filter hook prerouting priority -150; "                                    \
	"meta mark 1 meta nfproto ipv4 meta l4proto tcp tproxy ip to :" PORT " accept; "           \
	"meta mark 1 meta nfproto ipv6 meta l4proto tcp tproxy ip6 to :" PORT " accept; }"

/* The far server's port is the listener's. */
static void tproxied(const char *listen, const char *from, const char *to)
{
	struct addr at, dst = addr_of(to, PORT_NUMBER), source = addr_of(from, 0);
	int listener = listen_ruled(listen, true, &at), fd = connect_to(listener, &source, &dst);

	found(fd, MODE_TPROXY, &at, 1, ORIGDST_OK, &dst);
	close(fd);
	close(listener);
}

static void test_tproxy_rules(void **state)
{
	(void)state;
	if (!nft(TPROXY_RULES) ||
	    !run("ip rule add fwmark 1 lookup 100 && ip route add local default dev lo table 100"))
		skip();
	tproxied("0.0.0.0", "10.9.0.1", FAR4);
	if (!rig_has_ipv6() || !run("ip -6 rule add fwmark 1 lookup 100 && "
				    "ip -6 route add local default dev lo table 100"))
		skip();
	tproxied("::", "10.9.0.1", FAR4);
	tproxied("::", "2001:db8:9::1", FAR6);
}

int main(void)
{
	const struct CMUnitTest plain[] = {
		cmocka_unit_test(test_no_connection),
		cmocka_unit_test(test_tproxy_self),
		cmocka_unit_test(test_tproxy_self_v6),
		cmocka_unit_test(test_tproxy_far),
	};
	const struct CMUnitTest ruled[] = {
		cmocka_unit_test(test_redirect),
		cmocka_unit_test(test_redirect_untracked),
		cmocka_unit_test(test_tproxy_rules),
	};
	int failed;

	if (!rig_netns())
		return RIG_SKIP;
	failed = cmocka_run_group_tests(plain, NULL, NULL);
	if (!run("command -v nft >/dev/null && command -v ip >/dev/null")) {
		printf("skipped: no nft or no ip: nothing redirects\n");
		return failed;
	}
	return failed + cmocka_run_group_tests(ruled, far_up, NULL);
}
