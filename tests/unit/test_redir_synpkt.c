/* SPDX-License-Identifier: GPL-2.0-or-later */
/* First packets of connections, whole and cut at every length. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redir/synpkt.h"

#define SYN    0x02
#define SYNACK 0x12

struct packet {
	uint8_t octets[256];
	size_t len;
};

static void put(struct packet *p, const void *data, size_t n)
{
	assert_true(n <= sizeof(p->octets) - p->len);
	memcpy(p->octets + p->len, data, n);
	p->len += n;
}

/* Options padded to words. */
static void put_tcp(struct packet *p, uint8_t flags, const char *options, size_t n,
		    const char *data)
{
	size_t padded = (n + 3) / 4 * 4;
	const uint8_t head[20] = {
		0x9c,  0x40, 0x01, 0xbb, 1, 2, 3, 4, 0, 0, 0, 0, (uint8_t)((20 + padded) / 4 << 4),
		flags, 0xfa, 0xf0};
	const uint8_t zeros[4] = {0};

	put(p, head, sizeof(head));
	put(p, options, n);
	put(p, zeros, padded - n);
	put(p, data, strlen(data));
}

/* 10.0.0.2:40000 -> 192.0.2.1:443, AF41 */
static struct packet packet4(uint8_t flags, const char *options, size_t n, const char *data)
{
	static const uint8_t head[20] = {0x45, 34 << 2, 0,  0, 0, 0, 0x40, 0, 64, 6,
					 0,    0,       10, 0, 0, 2, 192,  0, 2,  1};
	struct packet p = {.len = 0};

	put(&p, head, sizeof(head));
	put_tcp(&p, flags, options, n, data);
	p.octets[3] = (uint8_t)p.len;
	return p;
}

/* [fd77::2]:40000 -> [2001:db8::1]:443, AF41 */
static struct packet packet6(uint8_t flags, const char *options, size_t n, const char *data)
{
	uint8_t head[40] = {0x60 | 34 >> 2, (34 & 3) << 6, 0, 0, 0, 0, 6, 64};
	struct packet p = {.len = 0};

	head[8] = 0xfd, head[9] = 0x77, head[23] = 2;
	head[24] = 0x20, head[25] = 0x01, head[26] = 0x0d, head[27] = 0xb8, head[39] = 1;
	put(&p, head, sizeof(head));
	put_tcp(&p, flags, options, n, data);
	p.octets[5] = (uint8_t)(p.len - 40);
	return p;
}

/* In memory of just that size: a sanitizer sees what is read behind it. */
static enum synpkt_fault parse(struct synpkt *out, const uint8_t *octets, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);
	enum synpkt_fault fault;

	assert_non_null(copy);
	memcpy(copy, octets, len);
	fault = synpkt_parse(out, copy, len);
	if (fault == SYNPKT_OK)
		out->data = octets + (out->data - copy);
	free(copy);
	return fault;
}

static enum synpkt_fault fault_of(const struct packet *p)
{
	struct synpkt s;

	return parse(&s, p->octets, p->len);
}

static void expect_addr(const struct addr *a, const char *text)
{
	char buf[ADDR_STRLEN];

	assert_string_equal(addr_str(a, buf, sizeof(buf)), text);
}

/* MSS, SACK permitted, timestamps, NOP, window scale, MP_CAPABLE version 1, Fast Open cookie */
#define OPTIONS                                                                                    \
	"\x02\x04\x05\xb4\x04\x02\x01\x03\x03\x07\x1e\x04\x01\x81\x22\x0a"                         \
	"abcdefgh"
#define LEN(s) (sizeof(s) - 1)

static void expect_full(const struct synpkt *s)
{
	assert_false(s->ack);
	assert_int_equal(s->dscp, 34);
	assert_int_equal(s->mp_capable, 4);
	assert_int_equal(s->mp_version, 1);
	assert_false(s->mp_join);
	assert_true(s->fastopen);
	assert_int_equal(s->cookie, 8);
}

static void test_whole(void **state)
{
	const struct packet four = packet4(SYN, OPTIONS, LEN(OPTIONS), "GET /");
	const struct packet six = packet6(SYN, OPTIONS, LEN(OPTIONS), "GET /");
	struct synpkt s;

	(void)state;
	assert_int_equal(parse(&s, four.octets, four.len), SYNPKT_OK);
	expect_addr(&s.src, "10.0.0.2:40000");
	expect_addr(&s.dst, "192.0.2.1:443");
	expect_full(&s);
	assert_int_equal(s.data_len, 5);
	assert_memory_equal(s.data, "GET /", 5);
	assert_int_equal(parse(&s, six.octets, six.len), SYNPKT_OK);
	expect_addr(&s.src, "[fd77::2]:40000");
	expect_addr(&s.dst, "[2001:db8::1]:443");
	expect_full(&s);
	assert_int_equal(s.data_len, 5);
	assert_memory_equal(s.data, "GET /", 5);
}

static void cut_everywhere(const struct packet *p, size_t head)
{
	struct synpkt s;

	for (size_t n = 0; n < head; n++) {
		memset(&s, 0x5a, sizeof(s));
		assert_int_equal(parse(&s, p->octets, n), SYNPKT_TRUNCATED);
		assert_int_equal(s.dscp, 0x5a);
	}
	for (size_t n = head; n <= p->len; n++) {
		assert_int_equal(parse(&s, p->octets, n), SYNPKT_OK);
		expect_full(&s);
		assert_int_equal(s.data_len, n - head);
	}
}

static void test_cut(void **state)
{
	const struct packet four = packet4(SYN, OPTIONS, LEN(OPTIONS), "GET /");
	const struct packet six = packet6(SYN, OPTIONS, LEN(OPTIONS), "GET /");
	struct packet padded;
	struct synpkt s;

	(void)state;
	cut_everywhere(&four, 20 + 20 + LEN(OPTIONS));
	cut_everywhere(&six, 40 + 20 + LEN(OPTIONS));
	padded = four; /* what is behind the packet's own length is not data */
	put(&padded, "\0\0\0\0\0\0", 6);
	assert_int_equal(parse(&s, padded.octets, padded.len), SYNPKT_OK);
	assert_int_equal(s.data_len, 5);
}

static void test_ip_options(void **state)
{
	struct packet p = packet4(SYN, OPTIONS, LEN(OPTIONS), "x"), q = {.len = 0};
	struct synpkt s;

	(void)state;
	put(&q, p.octets, 20);
	put(&q, "\x01\x01\x01\x00", 4);
	put(&q, p.octets + 20, p.len - 20);
	q.octets[0] = 0x46;
	q.octets[3] = (uint8_t)q.len;
	assert_int_equal(parse(&s, q.octets, q.len), SYNPKT_OK);
	expect_full(&s);
	assert_int_equal(s.data_len, 1);
	assert_int_equal(parse(&s, q.octets, 22), SYNPKT_TRUNCATED);
	q.octets[0] = 0x44; /* shorter than a header */
	assert_int_equal(fault_of(&q), SYNPKT_MALFORMED);
}

static void test_synack(void **state)
{
	static const char genuine[] = "\x1e\x0c\x01\x81KEYKEYKE", echoed[] = "\x1e\x04\x01\x81",
			  old[] = "\x1e\x0c\x00\x81KEYKEYKE",
			  join[] = "\x1e\x10\x11\x00NONCENONCENO";
	struct packet p = packet4(SYNACK, genuine, LEN(genuine), "");
	struct synpkt s;

	(void)state;
	assert_int_equal(parse(&s, p.octets, p.len), SYNPKT_OK);
	assert_true(s.ack);
	assert_int_equal(s.mp_capable, 12);
	assert_true(synpkt_agrees_mptcp(&s));
	p = packet6(SYNACK, genuine, LEN(genuine), "");
	assert_int_equal(parse(&s, p.octets, p.len), SYNPKT_OK);
	assert_true(synpkt_agrees_mptcp(&s));
	p = packet4(SYN, genuine, LEN(genuine), ""); /* no answer */
	assert_int_equal(parse(&s, p.octets, p.len), SYNPKT_OK);
	assert_false(synpkt_agrees_mptcp(&s));
	p = packet4(SYNACK, echoed, LEN(echoed), "");
	assert_int_equal(parse(&s, p.octets, p.len), SYNPKT_OK);
	assert_int_equal(s.mp_capable, 4);
	assert_false(synpkt_agrees_mptcp(&s));
	p = packet4(SYNACK, old, LEN(old), "");
	assert_int_equal(parse(&s, p.octets, p.len), SYNPKT_OK);
	assert_false(synpkt_agrees_mptcp(&s));
	p = packet4(SYNACK, join, LEN(join), "");
	assert_int_equal(parse(&s, p.octets, p.len), SYNPKT_OK);
	assert_true(s.mp_join);
	assert_int_equal(s.mp_capable, 0);
	assert_false(synpkt_agrees_mptcp(&s));
	p = packet4(SYNACK, "", 0, "");
	assert_int_equal(parse(&s, p.octets, p.len), SYNPKT_OK);
	assert_false(s.fastopen || s.mp_join);
	assert_false(synpkt_agrees_mptcp(&s));
}

static void test_options(void **state)
{
	struct packet p;
	struct synpkt s;

	(void)state;
	p = packet4(SYN, "\x22\x02", 2, ""); /* wants a cookie */
	assert_int_equal(parse(&s, p.octets, p.len), SYNPKT_OK);
	assert_true(s.fastopen);
	assert_int_equal(s.cookie, 0);
	p = packet4(SYN, "\x00\x1e\x04\x01", 4, ""); /* behind the end */
	assert_int_equal(parse(&s, p.octets, p.len), SYNPKT_OK);
	assert_int_equal(s.mp_capable, 0);
	p = packet4(SYN, "\x1e\x02\x01\x01", 4, ""); /* nothing in it */
	assert_int_equal(parse(&s, p.octets, p.len), SYNPKT_OK);
	assert_int_equal(s.mp_capable, 0);
	p = packet4(SYN, "\x01\x01\x01\x1e", 4, ""); /* no length */
	assert_int_equal(fault_of(&p), SYNPKT_MALFORMED);
	for (uint8_t len = 0; len < 2; len++) {
		const char options[4] = {30, (char)len, 1, 1};
		p = packet4(SYN, options, 4, "");
		assert_int_equal(fault_of(&p), SYNPKT_MALFORMED);
	}
	p = packet4(SYN, "\x1e\x05\x01\x81", 4, "data"); /* reaches into the data */
	assert_int_equal(fault_of(&p), SYNPKT_MALFORMED);
}

static void test_flags(void **state)
{
	struct packet p = packet4(0, "", 0, "");
	struct synpkt s;

	(void)state;
	for (unsigned flags = 0; flags < 256; flags++) {
		bool syn = (flags & 0x17) == SYN || (flags & 0x17) == SYNACK;
		p.octets[33] = (uint8_t)flags;
		assert_int_equal(parse(&s, p.octets, p.len), syn ? SYNPKT_OK : SYNPKT_NOT_SYN);
		if (syn)
			assert_int_equal(s.ack, (flags & 0x10) != 0);
	}
}

/* A copy with one octet changed. */
static enum synpkt_fault changed(const struct packet *p, size_t at, uint8_t octet)
{
	struct packet q = *p;

	assert_true(at < q.len);
	q.octets[at] = octet;
	return fault_of(&q);
}

static void test_refused(void **state)
{
	const struct packet four = packet4(SYN, OPTIONS, LEN(OPTIONS), "x");
	const struct packet six = packet6(SYN, OPTIONS, LEN(OPTIONS), "x");

	(void)state;
	assert_int_equal(changed(&four, 0, 0x55), SYNPKT_NOT_IP);
	assert_int_equal(changed(&four, 0, 0x00), SYNPKT_NOT_IP);
	assert_int_equal(changed(&four, 9, 17), SYNPKT_NOT_TCP);
	assert_int_equal(changed(&four, 6, 0x20), SYNPKT_FRAGMENT); /* more of them */
	assert_int_equal(changed(&four, 6, 0x01), SYNPKT_FRAGMENT); /* offset */
	assert_int_equal(changed(&four, 7, 0x01), SYNPKT_FRAGMENT);
	assert_int_equal(changed(&four, 6, 0x40), SYNPKT_OK); /* only: must not be made into any */
	assert_int_equal(changed(&four, 3, 19), SYNPKT_MALFORMED); /* shorter than its header */
	assert_int_equal(changed(&four, 3, 63), SYNPKT_MALFORMED); /* shorter than TCP's */
	assert_int_equal(changed(&four, 3, 64), SYNPKT_OK);
	assert_int_equal(changed(&four, 32, 0x40), SYNPKT_MALFORMED); /* TCP header of 16 octets */
	assert_int_equal(changed(&four, 32, 0xf0), SYNPKT_MALFORMED); /* and of 60 */
	for (unsigned next = 0; next < 256; next++)
		if (next != 6)
			assert_int_equal(changed(&six, 6, (uint8_t)next),
					 next == 44 ? SYNPKT_FRAGMENT : SYNPKT_NOT_TCP);
	assert_int_equal(changed(&six, 5, 43), SYNPKT_MALFORMED);
	assert_int_equal(changed(&six, 5, 44), SYNPKT_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),      cmocka_unit_test(test_cut),
		cmocka_unit_test(test_ip_options), cmocka_unit_test(test_synack),
		cmocka_unit_test(test_options),    cmocka_unit_test(test_flags),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
