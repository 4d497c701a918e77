/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/addr.h"
#include "core/dgram.h"

#define MANY 8

struct pair {
	int from, to;
	struct addr at;
	uint8_t data[MANY][1500];
	struct iovec v[MANY];
	struct mmsghdr h[MANY];
	union {
		struct cmsghdr align;
		uint8_t room[CMSG_SPACE(sizeof(int))];
	} control[MANY];
};

static void pair_open(struct pair *p)
{
	const int on = 1;

	memset(p, 0, sizeof(*p));
	assert_true(addr_parse(&p->at, "127.0.0.1", 0));
	p->from = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	p->to = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(p->to, &p->at.u.sa, p->at.len), 0);
	p->at.len = sizeof(p->at.u.in);
	assert_int_equal(getsockname(p->to, &p->at.u.sa, &p->at.len), 0);
	assert_int_equal(setsockopt(p->to, IPPROTO_IP, IP_RECVTOS, &on, sizeof(on)), 0);
}

static void pair_close(struct pair *p)
{
	close(p->from);
	close(p->to);
}

static void fill(struct pair *p, const size_t *lens, unsigned n, const int *tos)
{
	for (unsigned i = 0; i < n; i++) {
		struct msghdr *m = &p->h[i].msg_hdr;

		memset(p->data[i], 'a' + (int)i, sizeof(p->data[i]));
		p->v[i] = (struct iovec){p->data[i], lens[i]};
		*m = (struct msghdr){.msg_name = &p->at.u.sa,
				     .msg_namelen = p->at.len,
				     .msg_iov = &p->v[i],
				     .msg_iovlen = 1};
		if (!tos)
			continue;
		m->msg_control = p->control[i].room;
		m->msg_controllen = sizeof(p->control[i].room);
		struct cmsghdr *c = CMSG_FIRSTHDR(m);
		c->cmsg_level = IPPROTO_IP;
		c->cmsg_type = IP_TOS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &tos[i], sizeof(int));
	}
}

/* One message: how long; *segment: of each datagram in it. */
static ssize_t hear(struct pair *p, uint8_t *data, size_t size, size_t *segment, int *tos)
{
	union {
		struct cmsghdr align;
		uint8_t room[128];
	} control;
	struct iovec v = {data, size};
	struct msghdr m = {.msg_iov = &v,
			   .msg_iovlen = 1,
			   .msg_control = control.room,
			   .msg_controllen = sizeof(control.room)};
	ssize_t n = recvmsg(p->to, &m, 0);

	if (n < 0)
		return n;
	*segment = dgram_segment(&m, (size_t)n);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS)
			*tos = *(const uint8_t *)CMSG_DATA(c);
	return n;
}

/* What belongs together goes with one call, and arrives one by one. */
static void test_runs(void **state)
{
	static const size_t lens[] = {100, 100, 60, 50, 70, 0, 1450, 1450};
	static const int tos[] = {8, 8, 8, 8, 8, 8, 8, 8};
	static const int takes[] = {3, 5};
	struct pair p;
	uint8_t got[2000];
	bool segments = true;
	unsigned at = 0;

	(void)state;
	pair_open(&p);
	fill(&p, lens, MANY, tos);
	for (unsigned i = 0; at < MANY; i++) {
		int k = dgram_send(p.from, p.h + at, MANY - at, &segments);
		assert_true(k > 0);
		if (segments)
			assert_int_equal(k, takes[i]);
		at += (unsigned)k;
	}
	for (unsigned i = 0; i < MANY; i++) {
		size_t segment;
		int was = -1;
		assert_int_equal(hear(&p, got, sizeof(got), &segment, &was), lens[i]);
		assert_int_equal(segment, lens[i]);
		assert_int_equal(was, 8);
		assert_memory_equal(got, p.data[i], lens[i]);
	}
	pair_close(&p);
}

/* Another class of service is another run; without segments it is sendmmsg. */
static void test_control(void **state)
{
	static const size_t lens[] = {10, 10, 10, 10};
	static const int tos[] = {8, 8, 16, 16};
	struct pair p;
	uint8_t got[100];
	bool segments = true, never = false;

	(void)state;
	pair_open(&p);
	fill(&p, lens, 4, tos);
	assert_int_equal(dgram_send(p.from, p.h, 4, &segments), segments ? 2 : 4);
	assert_int_equal(dgram_send(p.from, p.h, 4, &never), 4);
	for (unsigned i = 0; i < (segments ? 2 : 4) + 4; i++) {
		size_t segment;
		int was = -1;
		assert_int_equal(hear(&p, got, sizeof(got), &segment, &was), 10);
		assert_int_equal(was, segments ? i < 4 ? 8 : 16 : tos[i % 4]);
	}
	pair_close(&p);
}

static void test_gro(void **state)
{
	static const size_t lens[] = {100, 100, 100, 60};
	struct pair p;
	uint8_t got[2000];
	bool segments = true;
	size_t at = 0, k = 0;

	(void)state;
	pair_open(&p);
	dgram_gro(p.to);
	fill(&p, lens, 4, NULL);
	assert_true(dgram_send(p.from, p.h, 4, &segments) > 0);
	while (k < 4) { /* all in one, or one by one */
		size_t segment;
		int was;
		ssize_t n = hear(&p, got, sizeof(got), &segment, &was);
		assert_true(n > 0);
		for (at = 0; at < (size_t)n; at += segment, k++) {
			assert_in_range(k, 0, 3);
			assert_memory_equal(got + at, p.data[k], lens[k]);
			if (at + segment > (size_t)n)
				assert_int_equal((size_t)n - at, lens[k]);
			else
				assert_int_equal(segment, lens[k]);
		}
	}
	assert_true(recv(p.to, got, sizeof(got), 0) < 0);
	pair_close(&p);
}

/* Whose fault it is is told of the first, and the flag stays where it says nothing about the kernel. */
static void test_errors(void **state)
{
	static const size_t lens[] = {10, 10};
	struct pair p;
	bool segments = true;

	(void)state;
	pair_open(&p);
	fill(&p, lens, 2, NULL);
	close(p.to);
	assert_int_equal(connect(p.from, &p.at.u.sa, p.at.len), 0);
	assert_true(dgram_send(p.from, p.h, 2, &segments) > 0); /* refused, which is told later */
	assert_int_equal(dgram_send(p.from, p.h, 2, &segments), -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_true(segments);
	close(p.from);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_gro),
		cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests_name("dgram", tests, NULL, NULL);
}
