/* SPDX-License-Identifier: GPL-2.0-or-later */
/* DNS messages: queries and answers, whole and cut at every length; hostile names and counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redir/dnsmsg.h"

#define HEAD(id, f1, f2, qd, an, ns, ar) "\x12" id f1 f2 "\0" qd "\0" an "\0" ns "\0" ar
#define NAME                             "\3wWw\7exAmple\3net\0"
#define A_IN                             "\0\1\0\1"
#define OPT(do1)                         "\0\0\x29\x10\0\0\0" do1 "\0\0\0"
#define PTR                              "\xc0\x0c"
#define RR(type, ttl, len)               PTR "\0" type "\0\1" ttl "\0" len

struct text {
	const char *p;
	size_t len;
};
#define TEXT(s) ((struct text){(s), sizeof(s) - 1})

/* An exact copy on the heap, so that one octet too far is seen. */
static uint8_t *copy(struct text t, size_t len)
{
	uint8_t *p = malloc(len ? len : 1);

	assert_non_null(p);
	memcpy(p, t.p, len);
	return p;
}

static int parse(struct text t, struct dns_query *q)
{
	uint8_t *p = copy(t, t.len);
	int rc = dns_query_parse(p, t.len, q);

	free(p);
	return rc;
}

static const struct text plain = {HEAD("\x34", "\1", "\0", "\1", "\0", "\0", "\0") NAME A_IN,
				  DNS_HEADER + 21};

static void test_query(void **state)
{
	struct dns_query q, other;
	uint8_t out[64];

	(void)state;
	assert_int_equal(parse(plain, &q), DNS_NOERROR);
	assert_true(q.id == 0x1234 && q.type == 1 && q.question_len == 21 && !q.edns);
	assert_int_equal(q.room, 512);
	/* Upper and lower case are the same question, other types and flags are not. */
	assert_int_equal(parse(TEXT(HEAD("\x77", "\1", "\0", "\1", "\0", "\0",
					 "\0") "\3www\7example\3NET\0" A_IN),
			       &other),
			 DNS_NOERROR);
	assert_true(other.key.len == q.key.len &&
		    memcmp(other.key.octets, q.key.octets, q.key.len) == 0);
	assert_int_equal(
		parse(TEXT(HEAD("\x77", "\0", "\0", "\1", "\0", "\0", "\0") NAME A_IN), &other),
		DNS_NOERROR);
	assert_memory_not_equal(other.key.octets, q.key.octets, q.key.len);
	assert_int_equal(
		parse(TEXT(HEAD("\x77", "\1", "\0", "\1", "\0", "\0", "\0") NAME "\0\x1c\0\1"),
		      &other),
		DNS_NOERROR);
	assert_memory_not_equal(other.key.octets, q.key.octets, q.key.len);
	/* As we ask it: another id, the name as written. */
	assert_int_equal(dns_query_build((const uint8_t *)plain.p, &q, 0xabcd, out), plain.len);
	assert_true(out[0] == 0xab && out[1] == 0xcd);
	assert_memory_equal(out + 2, plain.p + 2, plain.len - 2);
}

static void test_edns(void **state)
{
	static const struct text with_cookie = {HEAD("\x34", "\1", "\x20", "\1", "\0", "\0", "\1")
							NAME A_IN
						"\0\0\x29\x06\0\0\0\x80\0\0\x0c\0\x0a\0\x08"
						"COOKIE!!",
						DNS_HEADER + 21 + 11 + 12};
	struct dns_query q;
	uint8_t out[64];
	size_t len;

	(void)state;
	assert_int_equal(parse(with_cookie, &q), DNS_NOERROR);
	assert_true(q.edns && q.dnssec_ok && q.room == 0x600 && q.wishes == 0x0120);
	len = dns_query_build((const uint8_t *)with_cookie.p, &q, 1, out);
	assert_int_equal(len, DNS_HEADER + 21 + 11); /* options stay here */
	assert_memory_equal(out + len - 11, "\0\0\x29\x04\xd0\0\0\x80\0\0\0", 11);
	/* Sizes out of bounds. */
	assert_int_equal(parse(TEXT(HEAD("\x34", "\1", "\0", "\1", "\0", "\0", "\1") NAME A_IN
				    "\0\0\x29\0\1\0\0\0\0\0\0"),
			       &q),
			 DNS_NOERROR);
	assert_int_equal(q.room, 512);
	assert_int_equal(parse(TEXT(HEAD("\x34", "\1", "\0", "\1", "\0", "\0", "\1") NAME A_IN
				    "\0\0\x29\xff\xff\0\0\0\0\0\0"),
			       &q),
			 DNS_NOERROR);
	assert_int_equal(q.room, DNS_UDP_MAX);
	/* Version 1: told that there is 0 only. */
	assert_int_equal(parse(TEXT(HEAD("\x34", "\1", "\0", "\1", "\0", "\0", "\1") NAME A_IN
				    "\0\0\x29\x10\0\0\1\0\0\0\0"),
			       &q),
			 DNS_BADVERS);
	len = dns_error((const uint8_t *)plain.p, &q, DNS_BADVERS, out);
	assert_int_equal(len, DNS_HEADER + 21 + 11);
	assert_true(out[2] == 0x81 && (out[3] & 15) == 0 && out[len - 6] == 1);
}

static void test_bad_queries(void **state)
{
	static const struct {
		struct text t;
		int rc;
	} rows[] = {
		{{HEAD("\x34", "\x81", "\0", "\1", "\0", "\0", "\0") NAME A_IN, 33}, -1}, /* QR */
		{{HEAD("\x34", "\x29", "\0", "\1", "\0", "\0", "\0") NAME A_IN, 33}, DNS_NOTIMP},
		{{HEAD("\x34", "\1", "\0", "\0", "\0", "\0", "\0"), 12}, DNS_FORMERR},
		{{HEAD("\x34", "\1", "\0", "\2", "\0", "\0", "\0") NAME A_IN NAME A_IN, 54},
		 DNS_FORMERR},
		{{HEAD("\x34", "\1", "\0", "\1", "\1", "\0", "\0") NAME A_IN, 33}, DNS_FORMERR},
		/* a pointer to itself; a reserved kind of label */
		{{HEAD("\x34", "\1", "\0", "\1", "\0", "\0", "\0") PTR A_IN, 18}, DNS_FORMERR},
		{{HEAD("\x34", "\1", "\0", "\1", "\0", "\0", "\0") "\x41" A_IN, 17}, DNS_FORMERR},
		/* more behind it, or two OPT */
		{{HEAD("\x34", "\1", "\0", "\1", "\0", "\0", "\0") NAME A_IN "x", 34}, DNS_FORMERR},
		{{HEAD("\x34", "\1", "\0", "\1", "\0", "\0", "\2") NAME A_IN OPT("\0") OPT("\0"),
		  55},
		 DNS_FORMERR},
		/* signed; a transfer */
		{{HEAD("\x34", "\1", "\0", "\1", "\0", "\0", "\1") NAME A_IN
		  "\0\0\xfa\0\xff\0\0\0\0\0\0",
		  44},
		 DNS_NOTIMP},
		{{HEAD("\x34", "\1", "\0", "\1", "\0", "\0", "\0") NAME "\0\xfc\0\1", 33},
		 DNS_NOTIMP},
	};
	struct dns_query q;
	uint8_t out[DNS_HEADER + 255 + 4 + 11];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int rc = parse(rows[i].t, &q);

		if (rc != rows[i].rc)
			fail_msg("row %zu: %d instead of %d", i, rc, rows[i].rc);
		if (rc > 0)
			assert_true(dns_error((const uint8_t *)rows[i].t.p, &q, rc, out) >=
				    DNS_HEADER);
	}
}

/* 255 octets are a name, 256 are none. */
static void test_long_names(void **state)
{
	uint8_t msg[DNS_HEADER + 300] = {0x12, 0x34, 1, 0, 0, 1};
	struct dns_query q;
	size_t n = DNS_HEADER;

	(void)state;
	for (int i = 0; i < 3; i++) {
		msg[n] = 63;
		memset(msg + n + 1, 'a', 63);
		n += 64;
	}
	msg[n] = 61;
	memset(msg + n + 1, 'b', 61);
	memcpy(msg + n + 62, "\0\0\1\0\1", 5);
	assert_int_equal(dns_query_parse(msg, n + 67, &q), DNS_NOERROR);
	assert_int_equal(q.question_len, DNS_NAME_MAX + 4);
	msg[n] = 62;
	memset(msg + n + 1, 'b', 62);
	memcpy(msg + n + 63, "\0\0\1\0\1", 5);
	assert_int_equal(dns_query_parse(msg, n + 68, &q), DNS_FORMERR);
}

static void test_queries_cut(void **state)
{
	static const struct text whole = {
		HEAD("\x34", "\1", "\0", "\1", "\0", "\0", "\1") NAME A_IN OPT("\x80"), 44};
	struct dns_query q;

	(void)state;
	assert_int_equal(parse(whole, &q), DNS_NOERROR);
	for (size_t n = 0; n < whole.len; n++) {
		uint8_t *p = copy(whole, n);

		assert_int_equal(dns_query_parse(p, n, &q), n < DNS_HEADER ? -1 : DNS_FORMERR);
		free(p);
	}
}

/* ---- answers ---- */

#define ADDRESS(ttl) RR("\1", ttl, "\4") "\1\2\3\4"
#define SOA(ttl, min)                                                                              \
	RR("\6", ttl, "\x19")                                                                      \
	"\0"                                                                                       \
	"\1x\xc0\x0c"                                                                              \
	"\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4" min
#define ANSWER(f2, an, ns, ar)                                                                     \
	HEAD("\x34", "\x81", f2, "\1", an, ns, ar) "\3www\7example\3net\0" A_IN

static bool answer(struct text t, struct dns_answer *a)
{
	struct dns_query q;
	uint8_t *p = copy(t, t.len);
	bool good;

	assert_int_equal(parse(plain, &q), DNS_NOERROR);
	good = dns_answer_parse(p, t.len, &q, a);
	free(p);
	return good;
}

static void test_positive(void **state)
{
	struct dns_answer a;

	(void)state;
	assert_true(answer(TEXT(ANSWER("\x80", "\2", "\0", "\1") ADDRESS("\0\0\1\0")
					ADDRESS("\0\0\0\x63") OPT("\0")),
			   &a));
	assert_true(a.id == 0x1234 && a.rcode == 0 && !a.truncated);
	assert_true(a.keep && a.ttl == 99);
	assert_true(a.opt == DNS_HEADER + 21 + 32 && a.opt_len == 11);
	/* RFC 2181: a time to live with the top bit is none. */
	assert_true(answer(TEXT(ANSWER("\x80", "\1", "\0", "\0") ADDRESS("\x80\0\0\1")), &a));
	assert_false(a.keep);
	/* Truncated, or no success: not kept. */
	assert_true(answer(TEXT(HEAD("\x34", "\x83", "\x80", "\1", "\1", "\0", "\0")
					NAME A_IN ADDRESS("\0\0\1\0")),
			   &a));
	assert_true(a.truncated && !a.keep);
	assert_true(answer(TEXT(ANSWER("\x82", "\0", "\0", "\0")), &a));
	assert_true(a.rcode == DNS_SERVFAIL && !a.keep);
	/* A referral is no answer. */
	assert_true(
		answer(TEXT(ANSWER("\x80", "\0", "\1", "\0") RR("\2", "\0\0\1\0", "\2") PTR), &a));
	assert_false(a.keep);
}

static void test_negative(void **state)
{
	struct dns_answer a;

	(void)state;
	assert_true(
		answer(TEXT(ANSWER("\x83", "\0", "\1", "\0") SOA("\0\0\1\0", "\0\0\0\x3c")), &a));
	assert_true(a.rcode == DNS_NXDOMAIN && a.keep && a.ttl == 60);
	assert_true(
		answer(TEXT(ANSWER("\x80", "\0", "\1", "\0") SOA("\0\0\0\x1e", "\0\0\0\x3c")), &a));
	assert_true(a.keep && a.ttl == 30);
	/* An alias whose target has no such record, with and without a SOA. */
	assert_true(answer(TEXT(ANSWER("\x80", "\1", "\1", "\0") RR("\5", "\0\0\1\0", "\2")
					PTR SOA("\0\0\1\0", "\0\0\0\x3c")),
			   &a));
	assert_true(a.keep && a.ttl == 60);
	assert_true(
		answer(TEXT(ANSWER("\x80", "\1", "\0", "\0") RR("\5", "\0\0\1\0", "\2") PTR), &a));
	assert_false(a.keep);
	assert_true(answer(TEXT(ANSWER("\x83", "\0", "\0", "\0")), &a));
	assert_false(a.keep);
}

static void test_wrong_answers(void **state)
{
	struct dns_answer a;

	(void)state;
	assert_false(answer(plain, &a)); /* a query */
	assert_false(answer(TEXT(HEAD("\x34", "\x81", "\x80", "\1", "\0", "\0",
				      "\0") "\3www\7exbmple\3net\0" A_IN),
			    &a));
	assert_false(answer(
		TEXT(HEAD("\x34", "\x81", "\x80", "\1", "\0", "\0", "\0") NAME "\0\x1c\0\1"), &a));
	assert_false(answer(TEXT(HEAD("\x34", "\x81", "\x80", "\0", "\0", "\0", "\0")), &a));
	/* A record that is not there, one octet too many, data beyond the end. */
	assert_false(answer(TEXT(ANSWER("\x80", "\2", "\0", "\0") ADDRESS("\0\0\1\0")), &a));
	assert_false(answer(TEXT(ANSWER("\x80", "\1", "\0", "\0") ADDRESS("\0\0\1\0") "x"), &a));
	assert_false(answer(
		TEXT(ANSWER("\x80", "\1", "\0", "\0") RR("\1", "\0\0\1\0", "\5") "\1\2\3\4"), &a));
	/* A SOA that is none; OPT in the wrong place, or twice. */
	assert_false(
		answer(TEXT(ANSWER("\x83", "\0", "\1", "\0") RR("\6", "\0\0\1\0", "\2") PTR), &a));
	assert_false(answer(TEXT(ANSWER("\x80", "\1", "\0", "\0") OPT("\0")), &a));
	assert_false(answer(TEXT(ANSWER("\x80", "\0", "\0", "\2") OPT("\0") OPT("\0")), &a));
}

static const struct text full = {ANSWER("\x80", "\2", "\1", "\2") ADDRESS("\0\0\1\0")
					 ADDRESS("\0\0\0\x63") SOA("\0\0\1\0", "\0\0\0\x3c")
						 ADDRESS("\0\0\0\x0a") OPT("\x80"),
				 DNS_HEADER + 21 + 16 + 16 + 37 + 16 + 11};

static void test_answers_cut(void **state)
{
	struct dns_answer a;

	(void)state;
	assert_true(answer(full, &a));
	for (size_t n = 0; n < full.len; n++)
		assert_false(answer((struct text){full.p, n}, &a));
}

static uint32_t ttl_at(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void test_age(void **state)
{
	uint8_t *p = copy(full, full.len);

	(void)state;
	dns_age(p, full.len, 50);
	assert_int_equal(ttl_at(p + 33 + 6), 206);
	assert_int_equal(ttl_at(p + 33 + 16 + 6), 49);
	assert_int_equal(ttl_at(p + 33 + 32 + 6), 206);
	assert_int_equal(ttl_at(p + 33 + 32 + 37 + 6), 0);                  /* not below */
	assert_memory_equal(p + full.len - 11, full.p + full.len - 11, 11); /* flags are no time */
	assert_int_equal(ttl_at(p + 33 + 32 + 33), 60); /* the SOA's own numbers stay */
	free(p);
}

static void test_truncate(void **state)
{
	struct dns_query q;
	struct dns_answer a, cut;
	uint8_t out[DNS_HEADER + DNS_NAME_MAX + 4 + 11], *p = copy(full, full.len);
	size_t len;

	(void)state;
	assert_int_equal(parse(plain, &q), DNS_NOERROR);
	assert_true(dns_answer_parse(p, full.len, &q, &a));
	q.id = 0x9876;
	dns_answer_adopt(p, (const uint8_t *)plain.p, &q);
	assert_true(p[0] == 0x98 && p[1] == 0x76);
	assert_memory_equal(p + DNS_HEADER, plain.p + DNS_HEADER, 21); /* as the client wrote it */
	len = dns_truncate(p, &q, &a, out);
	assert_int_equal(len, DNS_HEADER + 21 + 11);
	assert_true(dns_answer_parse(out, len, &q, &cut));
	assert_true(cut.truncated && cut.id == 0x9876 && cut.opt_len == 11 && !cut.keep);
	free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_query),       cmocka_unit_test(test_edns),
		cmocka_unit_test(test_bad_queries), cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_queries_cut), cmocka_unit_test(test_positive),
		cmocka_unit_test(test_negative),    cmocka_unit_test(test_wrong_answers),
		cmocka_unit_test(test_answers_cut), cmocka_unit_test(test_age),
		cmocka_unit_test(test_truncate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
