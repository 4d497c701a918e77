/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Held SYNs: which are held, by whom, and what is said to the kernel of each; no kernel is asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redir/held.h"
#include "redir/nfqueue.h"
#include "redir/rules.h"

#define MARK 0x10010U

enum verdict { NONE, ACCEPTED, DROPPED };

/* The queue, and what was started. */
static struct {
	nfqueue_fn *fn;
	void *ctx;
	unsigned accepted, dropped;
	enum verdict last;
	uint32_t id, mark;
	struct held_syn *started[HELD_MAX + 1];
	struct worker *on[HELD_MAX + 1];
	unsigned n;
} seen;

int __wrap_nfqueue_open(struct nfqueue **out, struct worker *w, const struct nfqueue_conf *c,
			nfqueue_fn *fn, void *ctx);
int __wrap_nfqueue_open(struct nfqueue **out, struct worker *w, const struct nfqueue_conf *c,
			nfqueue_fn *fn, void *ctx)
{
	assert_int_equal(w->index, 0);
	assert_int_equal(c->number, HELD_QUEUE);
	assert_true(c->fail_open && c->max > HELD_MAX);
	assert_null(seen.fn); /* once */
	*out = (struct nfqueue *)(void *)&seen;
	seen.fn = fn;
	seen.ctx = ctx;
	return 0;
}

void __wrap_nfqueue_close(struct nfqueue *q);
void __wrap_nfqueue_close(struct nfqueue *q)
{
	assert_true(!q || q == (struct nfqueue *)(void *)&seen);
}

void __wrap_nfqueue_accept(struct nfqueue *q, uint32_t id, uint32_t mark);
void __wrap_nfqueue_accept(struct nfqueue *q, uint32_t id, uint32_t mark)
{
	(void)q;
	seen.accepted++;
	seen.last = ACCEPTED;
	seen.id = id;
	seen.mark = mark;
}

void __wrap_nfqueue_drop(struct nfqueue *q, uint32_t id);
void __wrap_nfqueue_drop(struct nfqueue *q, uint32_t id)
{
	(void)q;
	seen.dropped++;
	seen.last = DROPPED;
	seen.id = id;
}

static void start(struct worker *w, struct held_syn *s)
{
	assert_true(seen.n <= HELD_MAX);
	s->flow = s;
	seen.on[seen.n] = w;
	seen.started[seen.n++] = s;
}

struct rig {
	struct worker w[2], *list[2];
	struct held *held;
};

static void turn(struct rig *r)
{
	for (unsigned i = 0; i < 2; i++)
		ev_run(r->w[i].loop, EVRUN_NOWAIT);
}

static int set_up(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	memset(&seen, 0, sizeof(seen));
	assert_non_null(r);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(worker_init(&r->w[i], i, r), 0);
		r->list[i] = &r->w[i];
	}
	r->held = held_new(r->list, 2, start);
	assert_non_null(r->held);
	held_want(r->held);
	held_want(r->held);
	turn(r);
	assert_non_null(seen.fn);
	*state = r;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *r = *state;

	held_free(r->held);
	for (unsigned i = 0; i < 2; i++)
		worker_fini(&r->w[i]);
	free(r);
	return 0;
}

/* 10.0.0.2:port -> 192.0.2.1:443 with data; flags SYN */
static void packet(uint16_t port, uint32_t id, uint8_t flags, const char *data)
{
	size_t n = strlen(data);
	uint8_t p[64] = {0x45, 0, 0, (uint8_t)(40 + n), 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 2, 192,
			 0,    2, 1};
	struct nfqueue_packet q = {.id = id, .mark = MARK, .data = p, .len = 40 + n};

	assert_true(n <= sizeof(p) - 40);
	p[20] = (uint8_t)(port >> 8), p[21] = (uint8_t)port;
	p[22] = 443 >> 8, p[23] = 443 & 0xff;
	p[32] = 0x50, p[33] = flags;
	memcpy(p + 40, data, n);
	seen.last = NONE;
	seen.fn(seen.ctx, &q);
}

static struct addr address(const char *text)
{
	struct addr a;

	assert_true(addr_parse(&a, text, -1));
	return a;
}

static void expect(enum verdict v, uint32_t id)
{
	assert_int_equal(seen.last, v);
	if (v != NONE)
		assert_int_equal(seen.id, id);
}

static void test_life(void **state)
{
	struct rig *r = *state;
	struct addr src = address("10.0.0.2:1000"), dst = address("192.0.2.1:443"),
		    other = address("10.0.0.2:1001");
	struct held_counts c;

	assert_false(held_any(r->held));
	packet(1000, 7, 2, "hello");
	expect(NONE, 0);
	assert_true(held_any(r->held));
	assert_int_equal(seen.n, 0); /* on its own worker's thread */
	turn(r);
	assert_int_equal(seen.n, 1);
	assert_int_equal(seen.started[0]->data_len, 5);
	assert_memory_equal(seen.started[0]->data, "hello", 5);
	assert_true(addr_equal(&seen.started[0]->src, &src));
	assert_true(addr_equal(&seen.started[0]->dst, &dst));
	assert_ptr_equal(held_owner(r->held, &src, &dst), seen.on[0]);
	assert_null(held_owner(r->held, &other, &dst));
	assert_null(held_owner(r->held, &dst, &src));
	assert_ptr_equal(held_flow(r->held, seen.on[0], &src, &dst), seen.started[0]);
	assert_null(held_flow(r->held, seen.on[0] == &r->w[0] ? &r->w[1] : &r->w[0], &src, &dst));
	/* Sent again: it waits instead, and nothing begins. */
	packet(1000, 8, 2, "hello");
	expect(DROPPED, 7);
	turn(r);
	assert_int_equal(seen.n, 1);
	held_answer(seen.started[0], HELD_GO_ON);
	expect(ACCEPTED, 8);
	assert_int_equal(seen.mark, MARK);
	held_answer(seen.started[0], HELD_RESET); /* too late */
	assert_int_equal(seen.accepted, 1);
	/* And once more: that one was lost on its way. */
	packet(1000, 10, 2, "hello");
	expect(ACCEPTED, 10);
	assert_int_equal(seen.mark, MARK);
	turn(r);
	assert_int_equal(seen.n, 1);
	assert_ptr_equal(held_owner(r->held, &src, &dst), seen.on[0]);
	held_syn_free(seen.started[0]);
	assert_int_equal(seen.accepted, 2);
	assert_null(held_owner(r->held, &src, &dst));
	held_count(r->held, &c);
	assert_true(c.open);
	assert_int_equal(c.now, 0);
	assert_int_equal(c.total, 1);
	assert_int_equal(c.repeated, 2);
	assert_int_equal(c.refused, 0);
	/* The next goes to the other worker. */
	packet(1000, 9, 2, "");
	turn(r);
	assert_int_equal(seen.n, 2);
	assert_ptr_not_equal(seen.on[0], seen.on[1]);
	held_syn_free(seen.started[1]); /* unanswered */
	expect(ACCEPTED, 9);
	assert_int_equal(seen.mark, MARK);
	held_syn_free(NULL);
}

static void test_answers(void **state)
{
	struct rig *r = *state;
	struct held_counts c;
	uint32_t marks[HELD_PROHIBITED + 1] = {0};

	for (int a = HELD_RESET; a <= HELD_PROHIBITED; a++) {
		packet(2000, (uint32_t)a, 2, "");
		turn(r);
		held_answer(seen.started[seen.n - 1], (enum held_answer)a);
		expect(ACCEPTED, (uint32_t)a);
		assert_int_equal(seen.mark, RULES_REFUSED(a));
		assert_int_equal(seen.mark & (RULES_FWMARK | RULES_USER_MASK | RULES_HELD), 0);
		for (int b = HELD_RESET; b < a; b++)
			assert_int_not_equal(seen.mark, marks[b]);
		marks[a] = seen.mark;
		held_syn_free(seen.started[seen.n - 1]);
	}
	packet(2000, 99, 2, "");
	turn(r);
	held_answer(seen.started[seen.n - 1], HELD_SILENCE);
	expect(DROPPED, 99);
	held_syn_free(seen.started[seen.n - 1]);
	held_count(r->held, &c);
	assert_int_equal(c.refused, 5);
}

static void test_bound(void **state)
{
	struct rig *r = *state;
	struct held_counts c;

	for (unsigned i = 0; i < HELD_MAX; i++) {
		packet((uint16_t)(3000 + i), i, 2, "");
		expect(NONE, 0);
	}
	packet(3000, 5000, 2, ""); /* is one of them */
	expect(DROPPED, 0);
	packet(2999, 5001, 2, "");
	expect(ACCEPTED, 5001);
	assert_int_equal(seen.mark, MARK);
	turn(r);
	assert_int_equal(seen.n, HELD_MAX);
	held_count(r->held, &c);
	assert_int_equal(c.now, HELD_MAX);
	assert_int_equal(c.overflowed, 1);
	held_syn_free(seen.started[5]); /* room for one */
	packet(2999, 5002, 2, "");
	expect(NONE, 0);
	seen.started[5] = NULL;
	turn(r);
	for (unsigned i = 0; i < seen.n; i++)
		held_syn_free(seen.started[i]);
	assert_false(held_any(r->held));
}

static void test_not_held(void **state)
{
	struct rig *r = *state;
	struct nfqueue_packet nothing = {.id = 1, .mark = MARK};

	packet(4000, 2, 0x12, ""); /* SYN+ACK */
	expect(ACCEPTED, 2);
	packet(4000, 3, 0x10, "");
	expect(ACCEPTED, 3);
	seen.fn(seen.ctx, &nothing);
	expect(ACCEPTED, 1);
	held_stop(r->held);
	packet(4000, 4, 2, "");
	expect(ACCEPTED, 4);
	turn(r);
	assert_int_equal(seen.n, 0);
}

static void test_scope(void **state)
{
	struct rig *r = *state;
	uint8_t p[60] = {0x60, 0, 0, 0, 0, 20, 6, 64, 0xfe, 0x80};
	struct nfqueue_packet q = {.id = 1, .mark = MARK, .data = p, .len = sizeof(p)};
	struct addr src = address("[fe80::2]:1000"), dst = address("[2001:db8::1]:443");

	p[23] = 2;
	p[24] = 0x20, p[25] = 1, p[26] = 0x0d, p[27] = 0xb8, p[39] = 1;
	p[40] = 1000 >> 8, p[41] = 1000 & 0xff, p[42] = 443 >> 8, p[43] = 443 & 0xff;
	p[52] = 0x50, p[53] = 2;
	seen.fn(seen.ctx, &q);
	turn(r);
	src.u.in6.sin6_scope_id = 3; /* as accept() says it */
	assert_ptr_equal(held_owner(r->held, &src, &dst), seen.on[0]);
	assert_ptr_equal(held_flow(r->held, seen.on[0], &src, &dst), seen.started[0]);
	held_syn_free(seen.started[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_life, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_answers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bound, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_not_held, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_scope, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
