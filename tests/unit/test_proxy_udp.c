/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Association IDs and their table, ports and reservations, ICMP to Error messages, batches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <unistd.h>

#include "libsocks6/socks6.h"
#include "proxy/assoc_table.h"
#include "proxy/udp_batch.h"
#include "proxy/udp_error.h"
#include "proxy/udp_out.h"
#include "proxy/udp_reserve.h"
#include "rig.h"

/* ---- IDs ---- */

static void test_id_worker(void **state)
{
	static const unsigned of[] = {1, 2, 3, 7, 100, 255, 256};

	(void)state;
	for (size_t k = 0; k < sizeof(of) / sizeof(of[0]); k++)
		for (unsigned index = 0; index < of[k]; index++)
			for (uint64_t r = 0; r < 256; r += 5) {
				uint64_t id =
					assoc_id_make(r << 56 | 0x123456789abcde, index, of[k]);

				assert_int_equal(assoc_id_worker(id, of[k]), index);
				assert_true((id & UINT64_C(0x00ffffffffffffff)) ==
					    0x123456789abcde);
			}
	/* what is not needed for the worker stays random */
	assert_true(assoc_id_make(UINT64_C(0xab) << 56, 0, 1) == UINT64_C(0xab) << 56);
}

static void test_table(void **state)
{
	enum { N = 5000 };
	struct assoc_table t;
	struct assoc_node *nodes = calloc(N, sizeof(*nodes)), same = {.id = 7}, none = {.id = 0};

	(void)state;
	assert_non_null(nodes);
	assert_true(assoc_table_init(&t));
	assert_null(assoc_table_find(&t, 7));
	assert_false(assoc_table_add(&t, &none));
	for (unsigned i = 0; i < N; i++) {
		nodes[i].id = (uint64_t)i * 64 + 7; /* the first buckets would be all one chain */
		assert_true(assoc_table_add(&t, &nodes[i]));
	}
	assert_false(assoc_table_add(&t, &same));
	assert_int_equal(t.count, N);
	assert_true(t.mask + 1 >= N);
	for (unsigned i = 0; i < N; i++)
		assert_ptr_equal(assoc_table_find(&t, nodes[i].id), &nodes[i]);
	for (unsigned i = 0; i < N; i += 2)
		assoc_table_remove(&t, &nodes[i]);
	assoc_table_remove(&t, &nodes[0]); /* once more: harmless */
	assert_int_equal(t.count, N / 2);
	for (unsigned i = 0; i < N; i++)
		assert_ptr_equal(assoc_table_find(&t, nodes[i].id), i % 2 ? &nodes[i] : NULL);
	assoc_table_fini(&t);
	free(nodes);
}

/* ---- ports ---- */

static void test_parity(void **state)
{
	(void)state;
	for (unsigned port = 2; port < 65536; port++) {
		bool odd = port % 2;

		assert_true(udp_out_parity((uint16_t)port, S6_PARITY_NONE));
		assert_int_equal(udp_out_parity((uint16_t)port, S6_PARITY_ODD), odd);
		assert_int_equal(udp_out_parity((uint16_t)port, S6_PARITY_EVEN), !odd);
		assert_int_equal(udp_out_counterpart((uint16_t)port), odd ? port - 1 : port + 1);
	}
}

static void test_reserve(void **state)
{
	const uint8_t mine[ISSUED_ID_LEN] = "0123456789abcde", other[ISSUED_ID_LEN] = "another";
	struct udp_reserve *r = udp_reserve_new();
	struct addr at, elsewhere;
	int fd[4];

	(void)state;
	assert_non_null(r);
	assert_true(addr_parse(&at, "[::]:5001", -1) && addr_parse(&elsewhere, "[::]:5003", -1));
	for (int i = 0; i < 4; i++) {
		fd[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		assert_true(fd[i] >= 0);
	}
	assert_int_equal(udp_reserve_take(r, &at, mine), -ENOENT);
	assert_true(udp_reserve_put(r, 1, &at, mine, fd[0]));
	assert_int_equal(udp_reserve_take(r, &elsewhere, mine), -ENOENT);
	assert_int_equal(udp_reserve_take(r, &at, NULL), -EACCES);
	assert_int_equal(udp_reserve_take(r, &at, other), -EACCES);
	assert_int_equal(udp_reserve_take(r, &at, mine), fd[0]);
	assert_int_equal(udp_reserve_take(r, &at, mine), -ENOENT);
	assert_false(udp_reserve_end(r, 1)); /* it is no longer kept */
	/* without a session anyone may have it */
	assert_true(udp_reserve_put(r, 2, &at, NULL, fd[1]));
	assert_int_equal(udp_reserve_take(r, &at, other), fd[1]);
	/* nobody took it */
	assert_true(udp_reserve_put(r, 3, &at, mine, fd[2]));
	assert_true(udp_reserve_put(r, 4, &elsewhere, mine, fd[3]));
	assert_false(udp_reserve_end(r, 5));
	assert_true(udp_reserve_end(r, 3));
	assert_true(fcntl(fd[2], F_GETFD) < 0 && fcntl(fd[3], F_GETFD) >= 0);
	udp_reserve_free(r);
	assert_true(fcntl(fd[3], F_GETFD) < 0);
	close(fd[0]);
	close(fd[1]);
}

/* ---- errors ---- */

static void test_icmp(void **state)
{
	static const struct {
		uint8_t origin, type, code, error;
	} rows[] = {
		{SO_EE_ORIGIN_ICMP, 3, 0, S6_UDP_ERR_NET_UNREACHABLE},
		{SO_EE_ORIGIN_ICMP, 3, 1, S6_UDP_ERR_HOST_UNREACHABLE},
		{SO_EE_ORIGIN_ICMP, 3, 2, S6_UDP_ERR_HOST_UNREACHABLE},
		{SO_EE_ORIGIN_ICMP, 3, 3, S6_UDP_ERR_HOST_UNREACHABLE},
		{SO_EE_ORIGIN_ICMP, 3, 4, S6_UDP_ERR_TOO_BIG},
		{SO_EE_ORIGIN_ICMP, 3, 6, S6_UDP_ERR_NET_UNREACHABLE},
		{SO_EE_ORIGIN_ICMP, 3, 9, S6_UDP_ERR_NET_UNREACHABLE},
		{SO_EE_ORIGIN_ICMP, 3, 10, S6_UDP_ERR_HOST_UNREACHABLE},
		{SO_EE_ORIGIN_ICMP, 3, 11, S6_UDP_ERR_NET_UNREACHABLE},
		{SO_EE_ORIGIN_ICMP, 3, 13, S6_UDP_ERR_HOST_UNREACHABLE},
		{SO_EE_ORIGIN_ICMP, 11, 0, S6_UDP_ERR_TTL_EXPIRED},
		{SO_EE_ORIGIN_ICMP, 11, 1, 0}, /* reassembly took too long */
		{SO_EE_ORIGIN_ICMP, 12, 0, 0},
		{SO_EE_ORIGIN_ICMP, 4, 0, 0},
		{SO_EE_ORIGIN_ICMP6, 1, 0, S6_UDP_ERR_NET_UNREACHABLE},
		{SO_EE_ORIGIN_ICMP6, 1, 1, S6_UDP_ERR_HOST_UNREACHABLE},
		{SO_EE_ORIGIN_ICMP6, 1, 3, S6_UDP_ERR_HOST_UNREACHABLE},
		{SO_EE_ORIGIN_ICMP6, 1, 4, S6_UDP_ERR_HOST_UNREACHABLE},
		{SO_EE_ORIGIN_ICMP6, 1, 6, S6_UDP_ERR_NET_UNREACHABLE},
		{SO_EE_ORIGIN_ICMP6, 2, 0, S6_UDP_ERR_TOO_BIG},
		{SO_EE_ORIGIN_ICMP6, 3, 0, S6_UDP_ERR_TTL_EXPIRED},
		{SO_EE_ORIGIN_ICMP6, 3, 1, 0},
		{SO_EE_ORIGIN_ICMP6, 11, 0, 0},
		{SO_EE_ORIGIN_TIMESTAMPING, 3, 3, 0},
	};
	struct sock_extended_err ee = {.ee_origin = SO_EE_ORIGIN_LOCAL, .ee_errno = EMSGSIZE};

	(void)state;
	assert_int_equal(udp_error_of_icmp(&ee), S6_UDP_ERR_TOO_BIG);
	ee.ee_errno = EIO;
	assert_int_equal(udp_error_of_icmp(&ee), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ee = (struct sock_extended_err){.ee_origin = rows[i].origin,
						.ee_type = rows[i].type,
						.ee_code = rows[i].code};
		if (udp_error_of_icmp(&ee) != rows[i].error)
			fail_msg("origin %u type %u code %u: %u", rows[i].origin, rows[i].type,
				 rows[i].code, udp_error_of_icmp(&ee));
	}
	assert_int_equal(udp_error_of_errno(ENETUNREACH), S6_UDP_ERR_NET_UNREACHABLE);
	assert_int_equal(udp_error_of_errno(EHOSTUNREACH), S6_UDP_ERR_HOST_UNREACHABLE);
	assert_int_equal(udp_error_of_errno(EAGAIN), 0);
}

/* ---- sockets ---- */

static bool opened(struct udp_out *out, const char *bind, const struct s6_stack *stack)
{
	struct udp_reserve *r = udp_reserve_new();
	struct addr at;
	int rc;

	assert_true(r && addr_parse_ip(&at, bind));
	rc = udp_out_open(out, &(struct udp_out_wish){.bind = &at, .stack = stack, .reserve = r});
	udp_reserve_free(r);
	return rc == 0;
}

/* Wished parity with the counterpart kept, again and again while earlier ones are open. */
static void test_open_parity(void **state)
{
	enum { N = 50 };
	struct udp_out out[N];

	(void)state;
	for (int i = 0; i < N; i++) {
		enum s6_parity parity = i % 2 ? S6_PARITY_ODD : S6_PARITY_EVEN;
		struct s6_stack stack = {0};

		s6_stack_set(&stack, S6_STACK_PORT_PARITY, (uint16_t)(parity << 8 | 1));
		assert_true(opened(&out[i], "0.0.0.0", &stack));
		assert_true(udp_out_parity(addr_port(&out[i].at), parity));
		assert_true(out[i].spare >= 0);
		assert_int_equal(addr_port(&out[i].spare_at),
				 udp_out_counterpart(addr_port(&out[i].at)));
		assert_int_equal(out[i].answer.value[S6_STACK_PORT_PARITY],
				 stack.value[S6_STACK_PORT_PARITY]);
	}
	for (int i = 0; i < N; i++) {
		close(out[i].fd);
		close(out[i].spare);
	}
}

static void test_names(void **state)
{
	const struct s6_stack none = {0};
	struct addr v4, v6, name;
	struct udp_out out;

	(void)state;
	assert_true(addr_parse(&v4, "127.0.0.1:9", -1) && addr_parse(&v6, "[::1]:9", -1));
	assert_true(opened(&out, "0.0.0.0", &none));
	if (out.family == AF_INET6) {
		assert_true(udp_out_name(&out, &v4, &name) && name.u.sa.sa_family == AF_INET6);
		assert_true(udp_out_name(&out, &v6, &name));
	}
	close(out.fd);
	assert_true(opened(&out, "127.0.0.1", &none));
	assert_true(udp_out_name(&out, &v4, &name) && name.u.sa.sa_family == AF_INET);
	assert_false(udp_out_name(&out, &v6, &name));
	close(out.fd);
	if (!rig_has_ipv6())
		return;
	assert_true(opened(&out, "::1", &none));
	assert_true(udp_out_name(&out, &v6, &name));
	assert_false(udp_out_name(&out, &v4, &name));
	close(out.fd);
}

/* Many in one call, of all sizes, with headers put in front and the first one left out. */
static void test_batch(void **state)
{
	static struct udp_batch b;
	struct addr at = {0}, from, to;
	int rx = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;
	char big[2000] = "x";

	(void)state;
	assert_true(udp_batch_init(&b) && rx >= 0 && addr_parse_ip(&at, "127.0.0.1"));
	assert_int_equal(bind(rx, &at.u.sa, at.len), 0);
	assert_int_equal(addr_of_socket(rx, &at), 0);
	assert_int_equal(setsockopt(rx, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)), 0);
	assert_int_equal(udp_batch_read(&b, rx, UDP_BATCH), -EAGAIN);
	for (size_t i = 0; i < UDP_BATCH + 1; i++)
		assert_true(sendto(rx, big, i * 50, 0, &at.u.sa, at.len) == (ssize_t)(i * 50));
	assert_int_equal(udp_batch_read(&b, rx, UDP_BATCH), 0);
	assert_int_equal(b.n, UDP_BATCH);
	for (unsigned i = 0; i < b.n; i++) {
		size_t len;

		udp_batch_packet(&b, i, &len);
		assert_int_equal(len, i * 50);
		assert_true(udp_batch_sender(&b, i, &from) && addr_equal(&from, &at));
		udp_batch_came_to(&b, i, &to);
		assert_true(addr_equal_ip(&to, &at));
	}
	for (unsigned i = 1; i < b.n; i++)
		udp_batch_put_header(&b, i - 1, i, (const uint8_t *)"head", 4);
	for (unsigned i = 0; i + 1 < b.n; i++) {
		size_t len;
		const uint8_t *data = udp_batch_packet(&b, i, &len);

		assert_int_equal(len, (i + 1) * 50 + 4);
		assert_memory_equal(data, "headx", 5);
	}
	/* What was changed is ready for the next ones, and the time after that. */
	for (size_t round = 0; round < 3; round++) {
		size_t len;

		assert_true(round == 0 || sendto(rx, big, 2000, 0, &at.u.sa, at.len) == 2000);
		assert_true(sendto(rx, big, 1900, 0, &at.u.sa, at.len) == 1900);
		assert_int_equal(udp_batch_read(&b, rx, UDP_BATCH), 0);
		assert_int_equal(b.n, 2);
		for (unsigned i = 0; i < 2; i++) {
			udp_batch_packet(&b, i, &len);
			assert_int_equal(len, i == 1 ? 1900 : round == 0 ? UDP_BATCH * 50 : 2000);
			assert_true(udp_batch_sender(&b, i, &from) && addr_equal(&from, &at));
			udp_batch_came_to(&b, i, &to);
			assert_true(addr_equal_ip(&to, &at));
		}
		udp_batch_put_header(&b, 0, 1, (const uint8_t *)"head", 4);
	}
	udp_batch_fini(&b);
	close(rx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_id_worker), cmocka_unit_test(test_table),
		cmocka_unit_test(test_parity),    cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_icmp),      cmocka_unit_test(test_open_parity),
		cmocka_unit_test(test_names),     cmocka_unit_test(test_batch),
	};

	if (!rig_netns())
		return RIG_SKIP;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
