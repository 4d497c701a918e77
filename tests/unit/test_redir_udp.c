/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UDP: what is done by port, the request for an association, and sockets in others' names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "redir/explain.h"
#include "redir/udp_policy.h"
#include "redir/udp_reply.h"
#include "redir/up_socks6.h"

static struct port_range all[] = {{1, 65535}}, quic[] = {{443, 443}};
static struct port_range games[] = {{27000, 27100}, {3074, 3074}}, vpn[] = {{51820, 51820}};

static const struct udp_conf conf = {
	.proxy = {all, 1},
	.direct = {games, 2},
	.refuse = {quic, 1},
	.transport = UDP_BY_AUTO,
	.udp_ports = {games, 1},
	.tcp_ports = {vpn, 1},
};

static void test_policy(void **state)
{
	const struct udp_conf none = {.transport = UDP_BY_AUTO};
	const struct udp_conf some = {.proxy = {vpn, 1}};

	(void)state;
	assert_int_equal(udp_policy_of(&conf, 53), UDP_PROXY);
	assert_int_equal(udp_policy_of(&conf, 443), UDP_REFUSE);
	assert_int_equal(udp_policy_of(&conf, 442), UDP_PROXY);
	assert_int_equal(udp_policy_of(&conf, 27000), UDP_DIRECT);
	assert_int_equal(udp_policy_of(&conf, 27100), UDP_DIRECT);
	assert_int_equal(udp_policy_of(&conf, 27101), UDP_PROXY);
	assert_int_equal(udp_policy_of(&conf, 3074), UDP_DIRECT);
	assert_true(udp_enabled(&conf));
	assert_false(udp_enabled(&none));
	assert_int_equal(udp_policy_of(&none, 53), UDP_DIRECT);
	assert_int_equal(udp_policy_of(&some, 53), UDP_DIRECT);
	/* captured by an administrator's set */
	assert_int_equal(udp_policy_captured(&some, 53), UDP_PROXY);
	assert_int_equal(udp_policy_captured(&conf, 3074), UDP_DIRECT);
	assert_int_equal(udp_policy_captured(&conf, 443), UDP_REFUSE);
}

static void test_transport(void **state)
{
	(void)state;
	assert_int_equal(udp_transport_of(&conf, 53), UDP_BY_AUTO);
	assert_int_equal(udp_transport_of(&conf, 51820), UDP_BY_TCP);
	assert_int_equal(udp_transport_of(&conf, 27050), UDP_BY_UDP);
}

static void test_probes(void **state)
{
	(void)state;
	assert_int_equal(udp_probe_ttl(1), 1);
	assert_int_equal(udp_probe_ttl(30), 30);
	assert_int_equal(udp_probe_ttl(63), 0);
	assert_int_equal(udp_probe_ttl(64), 0);
	assert_int_equal(udp_probe_ttl(255), 0);
}

static void build(struct s6_request *req, uint8_t *out, uint8_t tos, uint8_t ttl)
{
	struct upstream up = {.mptcp = 1, .tfo = 1};
	struct upstream_chain chain = {.n = 1};
	struct addr any;
	struct up_request rq = {.command = S6_CMD_UDP_ASSOCIATE,
				.dst = &any,
				.chain = &chain,
				.tos = tos,
				.ttl = ttl};
	struct up_socks6 u;
	size_t len, used;

	assert_true(addr_parse_ip(&any, "::"));
	chain.hop[0].up = &up;
	assert_true(up_socks6_request(&u, &rq, out, &len));
	assert_int_equal(s6_request_parse(out, len, req, &used, NULL), S6_OK);
	assert_int_equal(used, len);
}

static void test_request(void **state)
{
	uint8_t out[UP_REQUEST_MAX];
	struct s6_request req;

	(void)state;
	build(&req, out, 0, 0);
	assert_int_equal(req.command, S6_CMD_UDP_ASSOCIATE);
	assert_int_equal(req.addr.type, S6_ADDR_IPV6);
	assert_int_equal(req.addr.port, 0);
	assert_int_equal(req.opts.stack.present, 1u << S6_STACK_UDP_ERROR);
	assert_int_equal(req.opts.stack.value[S6_STACK_UDP_ERROR], S6_AVAIL_YES);
	build(&req, out, 0xb8, 7);
	assert_int_equal(req.opts.stack.value[S6_STACK_TOS_REMOTE], 0xb8);
	assert_int_equal(req.opts.stack.value[S6_STACK_TTL_REMOTE], 7);
	assert_int_equal(req.opts.stack.value[S6_STACK_NO_FRAG_REMOTE], S6_AVAIL_YES);
	assert_false(s6_stack_has(&req.opts.stack, S6_STACK_TTL_CLIENT));
}

static struct explain_facts facts(enum udp_policy policy)
{
	return (struct explain_facts){.rules = true,
				      .interface = true,
				      .udp = true,
				      .udp_captured = true,
				      .policy = policy};
}

static void test_explained(void **state)
{
	struct explain_facts f = facts(UDP_PROXY);

	(void)state;
	assert_string_equal(explain_rule_udp(&f).name, "capture");
	assert_true(explain_rule_udp(&f).captured);
	f.exclude = true;
	assert_string_equal(explain_rule_udp(&f).name, "exclude");
	f.user_proxy = true;
	assert_string_equal(explain_rule_udp(&f).name, "user-proxy");
	f.upstream = true;
	assert_string_equal(explain_rule_udp(&f).name, "upstream");
	f.user_bypass = true;
	assert_string_equal(explain_rule_udp(&f).name, "user-bypass");
	f = facts(UDP_REFUSE);
	assert_true(explain_rule_udp(&f).refused);
	f = facts(UDP_DIRECT);
	assert_false(explain_rule_udp(&f).captured);
	f.udp_captured = false;
	assert_string_equal(explain_rule_udp(&f).name, "udp");
}

/* ---- answers ---- */

static struct addr here(unsigned port)
{
	struct addr a;

	assert_true(addr_parse_ip(&a, "127.0.0.1"));
	addr_set_port(&a, (uint16_t)port);
	return a;
}

static int device(struct addr *a)
{
	int fd = udp_socket(AF_INET, 0);
	struct addr any = here(0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, &any.u.sa, any.len), 0);
	assert_int_equal(addr_of_socket(fd, a), 0);
	return fd;
}

/* From how many different ports datagrams have come, with what they should say. */
static void hear(int fd, unsigned n, const struct addr *remote, const char *text)
{
	struct sockaddr_storage ss;
	char got[64];

	for (unsigned i = 0; i < n; i++) {
		socklen_t len = sizeof(ss);
		struct addr from;
		ssize_t k = recvfrom(fd, got, sizeof(got), 0, (struct sockaddr *)&ss, &len);

		assert_int_equal(k, strlen(text));
		assert_memory_equal(got, text, strlen(text));
		assert_true(addr_from_sockaddr(&from, (struct sockaddr *)&ss, len));
		assert_true(addr_equal(&from, remote));
	}
	assert_true(recvfrom(fd, got, sizeof(got), 0, NULL, NULL) < 0);
}

static void test_replies(void **state)
{
	static const uint8_t one[] = "one", other[] = "other";
	struct addr a = here(61001), b = here(61002), c = here(61003), to;
	struct udp_replies *r = calloc(1, sizeof(*r));
	int fd = device(&to);

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(udp_replies_init(r), 0);
	r->max = 2;
	for (int i = 0; i < UDP_BATCH + 3; i++) /* more than one batch */
		assert_true(udp_replies_put(r, &a, &to, one, 3));
	udp_replies_flush(r);
	hear(fd, UDP_BATCH + 3, &a, "one");
	assert_true(udp_replies_put(r, &a, &to, one, 3));
	assert_true(udp_replies_put(r, &b, &to, other, 5)); /* sends what a has to say */
	hear(fd, 1, &a, "one");
	udp_replies_flush(r);
	hear(fd, 1, &b, "other");
	assert_int_equal(r->opened, 2);
	assert_true(udp_replies_put(r, &a, &to, one, 3));
	assert_true(udp_replies_put(r, &c, &to, one, 3)); /* b was not used for longest */
	assert_int_equal(r->order.count, 2);
	assert_true(udp_replies_put(r, &a, &to, one, 3));
	assert_int_equal(r->opened, 3);
	udp_replies_flush(r);
	assert_int_equal(r->sent, UDP_BATCH + 3 + 5);
	assert_int_equal(r->lost, 0);
	udp_replies_fini(r);
	free(r);
	close(fd);
}

/* Many go down as one, and come out as they were: lengths, order, whom they are for. */
static void test_segments(void **state)
{
	static const size_t lens[] = {3, 3, 2, 3, 3, 3, 0, 3, 1500, 1500, 1, 1, 2};
	const unsigned n = sizeof(lens) / sizeof(lens[0]);
	struct udp_replies *r = calloc(1, sizeof(*r));
	struct addr from = here(61004), to, other;
	int fd = device(&to), fd2 = device(&other);
	uint8_t data[16][1500], got[2000];

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(udp_replies_init(r), 0);
	for (unsigned i = 0; i < n; i++) {
		memset(data[i], (int)i, sizeof(data[i]));
		assert_true(udp_replies_put(r, &from, i == 4 ? &other : &to, data[i], lens[i]));
	}
	udp_replies_flush(r);
	assert_int_equal(r->sent, n);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(recv(i == 4 ? fd2 : fd, got, sizeof(got), 0), lens[i]);
		if (lens[i])
			assert_memory_equal(got, data[i], lens[i]);
	}
	assert_true(recv(fd, got, sizeof(got), 0) < 0);
	assert_true(recv(fd2, got, sizeof(got), 0) < 0);
	udp_replies_fini(r);
	free(r);
	close(fd);
	close(fd2);
}

/* What the kernel wrote to in one batch is ready for the next one. */
static void test_batch(void **state)
{
	static struct udp_batch b;
	static const int counts[] = {UDP_BATCH, 1, 3, 0, 2};
	struct addr to, from;
	int fd = device(&to), on = 1;
	uint8_t data[UDP_BATCH] = {7};

	(void)state;
	assert_int_equal(udp_batch_init(&b), 0);
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof(on)), 0);
	for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); k++) {
		for (int i = 0; i < counts[k]; i++)
			assert_int_equal(sendto(fd, data, (size_t)i, 0, &to.u.sa, to.len), i);
		assert_int_equal(udp_batch_recv(&b, fd), counts[k]);
		for (int i = 0; i < counts[k]; i++) {
			assert_int_equal(b.h[i].msg_len, i);
			assert_true(udp_batch_from(&b, i, &from) && addr_equal(&from, &to));
			assert_true(b.h[i].msg_hdr.msg_controllen >= CMSG_LEN(sizeof(int)));
			b.h[i].msg_hdr.msg_controllen = 0; /* as after a datagram without any */
		}
	}
	udp_batch_fini(&b);
	close(fd);
}

/* An address of nobody here: that is what transparent is for. */
static void test_foreign(void **state)
{
	static const uint8_t data[] = "x";
	struct udp_replies *r = calloc(1, sizeof(*r));
	struct addr far, to;
	int fd = device(&to);

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_true(addr_parse(&far, "203.0.113.77:53", -1));
	assert_int_equal(udp_replies_init(r), 0);
	assert_true(udp_replies_put(r, &far, &to, data, 1));
	assert_true(addr_parse(&far, "[2001:db8::77]:53", -1));
	assert_true(udp_replies_put(r, &far, &far, data, 1));
	r->n = 0; /* there is no way to it */
	udp_replies_fini(r);
	free(r);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_policy),    cmocka_unit_test(test_transport),
		cmocka_unit_test(test_probes),    cmocka_unit_test(test_request),
		cmocka_unit_test(test_explained), cmocka_unit_test(test_replies),
		cmocka_unit_test(test_segments),  cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_batch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
