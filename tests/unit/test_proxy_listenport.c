/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bound ports: who gets which peer, whoever comes first, and what becomes of both at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/proxy.h"
#include "rig.h"

#define WORKERS 2
#define CLIENTS 8

static const uint8_t session[ISSUED_ID_LEN] = "one", other_session[ISSUED_ID_LEN] = "two";

/* The port's owner, or one who picks up. */
struct owner {
	unsigned peers, waits, lost;
	struct bind_peer last;
};

struct fixture {
	struct proxy p;
	struct proxy_worker pw[WORKERS];
	struct owner owner;
	int client[CLIENTS];
};

static void on_peer(void *owner, const struct bind_peer *peer)
{
	struct owner *o = owner;

	o->last = *peer;
	if (peer->fd >= 0)
		o->peers++;
	else
		o->waits++;
}

static void on_lost(void *owner)
{
	((struct owner *)owner)->lost++;
}

static const struct listenport_ops ops = {.peer = on_peer, .lost = on_lost};

static void on_pickup(void *owner, const struct bind_peer *peer)
{
	struct owner *o = owner;

	if (peer) {
		o->peers++;
		o->last = *peer;
	} else {
		o->lost++;
	}
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	atomic_store(&f->p.budget.flows_max, 1000);
	f->p.listenports = listenports_new();
	assert_non_null(f->p.listenports);
	for (unsigned i = 0; i < WORKERS; i++) {
		f->pw[i].proxy = &f->p;
		assert_int_equal(worker_init(&f->pw[i].w, i, &f->pw[i]), 0);
	}
	for (int i = 0; i < CLIENTS; i++)
		f->client[i] = -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < CLIENTS; i++)
		if (f->client[i] >= 0)
			close(f->client[i]);
	for (unsigned i = 0; i < WORKERS; i++)
		ev_run(f->pw[i].w.loop, EVRUN_NOWAIT);
	assert_int_equal(listenports_count(f->p.listenports), 0);
	assert_int_equal(atomic_load(&f->p.budget.flows), 0);
	for (unsigned i = 0; i < WORKERS; i++)
		worker_fini(&f->pw[i].w);
	listenports_free(f->p.listenports);
	free(f);
	return 0;
}

/* A few turns of all loops. */
static void turn(struct fixture *f)
{
	struct timespec ms = {.tv_nsec = 1000000};

	for (int k = 0; k < 20; k++) {
		for (unsigned i = 0; i < WORKERS; i++)
			ev_run(f->pw[i].w.loop, EVRUN_NOWAIT);
		nanosleep(&ms, NULL);
	}
}

static struct listenport_wish wish_of(const char *user, const uint8_t *id, unsigned backlog)
{
	struct listenport_wish wish = {
		.user = user, .session = id, .backlog = backlog, .max = 10, .max_per_user = 3};

	assert_true(addr_parse_ip(&wish.addr, "127.0.0.1"));
	return wish;
}

static struct listenport *open_one(struct fixture *f, const uint8_t *id, unsigned backlog,
				   struct addr *at)
{
	struct listenport_wish wish = wish_of("ann", id, backlog);
	struct listenport_facts facts;
	struct listenport *lp;

	assert_int_equal(listenport_open(f->p.listenports, &f->pw[0], &wish, &ops, &f->owner, &lp),
			 0);
	listenport_facts(lp, &facts);
	assert_int_equal(facts.backlog, backlog);
	*at = facts.addr;
	assert_true(addr_port(at) != 0);
	return lp;
}

static void knock(struct fixture *f, int i, const struct addr *at)
{
	struct sock_wishes wishes = SOCK_WISHES_NONE;

	f->client[i] = sock_open(AF_INET, &wishes, NULL);
	assert_true(f->client[i] >= 0);
	assert_true(connect(f->client[i], &at->u.sa, at->len) == 0 || errno == EINPROGRESS);
	assert_true(rig_wait(f->client[i], POLLOUT));
}

/* The peer that o has got is this client. */
static void is_client(struct fixture *f, struct owner *o, int i)
{
	struct addr a;

	assert_true(o->last.fd >= 0);
	assert_int_equal(addr_of_socket(f->client[i], &a), 0);
	assert_true(addr_equal(&a, &o->last.addr));
	close(o->last.fd);
	o->last.fd = -1;
}

static struct pickup *pick(struct fixture *f, const struct addr *at, const uint8_t *id,
			   struct owner *o)
{
	struct listenport_facts facts;

	*o = (struct owner){.last.fd = -1};
	return pickup_start(f->p.listenports, &f->pw[1], at, id, on_pickup, o, &facts);
}

static bool was_reset(int fd)
{
	char c;

	return rig_wait(fd, POLLIN) && recv(fd, &c, 1, 0) < 0 && errno == ECONNRESET;
}

static void test_one_peer(void **state)
{
	struct fixture *f = *state;
	struct addr at;

	open_one(f, NULL, 0, &at);
	knock(f, 0, &at);
	turn(f);
	assert_true(f->owner.peers == 1 && f->owner.waits == 0);
	is_client(f, &f->owner, 0);
	assert_int_equal(listenports_count(f->p.listenports), 0); /* it was for one */
}

/* Outside a session there is no backlog. */
static void test_no_session(void **state)
{
	struct fixture *f = *state;
	struct listenport_wish wish = wish_of("ann", NULL, 5);
	struct listenport_facts facts;
	struct listenport *lp;

	assert_int_equal(listenport_open(f->p.listenports, &f->pw[0], &wish, &ops, &f->owner, &lp),
			 0);
	listenport_facts(lp, &facts);
	assert_int_equal(facts.backlog, 0);
	listenport_close(lp);
}

static void test_requests_first(void **state)
{
	struct fixture *f = *state;
	struct owner a, b;
	struct addr at;
	struct listenport *lp = open_one(f, session, 4, &at);

	assert_non_null(pick(f, &at, session, &a));
	assert_non_null(pick(f, &at, session, &b));
	knock(f, 0, &at);
	turn(f);
	assert_true(a.peers == 1 && b.peers == 0 && f->owner.waits == 0);
	is_client(f, &a, 0);
	knock(f, 1, &at);
	turn(f);
	is_client(f, &b, 1);
	listenport_close(lp);
}

static void test_peers_first(void **state)
{
	struct fixture *f = *state;
	struct owner a, b;
	struct addr at, any;
	struct listenport *lp = open_one(f, session, 4, &at);

	knock(f, 0, &at);
	turn(f);
	knock(f, 1, &at);
	turn(f);
	assert_true(f->owner.waits == 2 && f->owner.peers == 0);
	assert_int_equal(atomic_load(&f->p.budget.flows), 2);
	assert_non_null(pick(f, &at, session, &a));
	assert_int_equal(a.peers, 0); /* never from inside */
	any = at;
	any.u.in.sin_addr.s_addr = 0;
	assert_non_null(pick(f, &any, session, &b));
	turn(f);
	is_client(f, &a, 0);
	is_client(f, &b, 1);
	assert_int_equal(atomic_load(&f->p.budget.flows), 0);
	listenport_close(lp);
}

static void test_strangers(void **state)
{
	struct fixture *f = *state;
	struct owner a;
	struct addr at, wrong;
	struct listenport *lp = open_one(f, session, 4, &at);

	assert_null(pick(f, &at, other_session, &a));
	wrong = at;
	addr_set_port(&wrong, (uint16_t)(addr_port(&at) ^ 1));
	assert_null(pick(f, &wrong, session, &a));
	wrong = at;
	assert_true(addr_parse(&wrong, "127.0.0.2:1", -1));
	addr_set_port(&wrong, addr_port(&at));
	assert_null(pick(f, &wrong, session, &a));
	listenport_close(lp);
	assert_null(pick(f, &at, session, &a));
}

/* As many as the backlog wait with us, others in the kernel. */
static void test_full(void **state)
{
	struct fixture *f = *state;
	struct owner o[4];
	struct addr at;
	struct listenport *lp = open_one(f, session, 2, &at);

	for (int i = 0; i < 4; i++) {
		knock(f, i, &at);
		turn(f);
	}
	assert_int_equal(f->owner.waits, 2);
	for (int i = 0; i < 4; i++) {
		assert_non_null(pick(f, &at, session, &o[i]));
		turn(f);
		is_client(f, &o[i], i);
	}
	assert_int_equal(f->owner.waits, 4);
	listenport_close(lp);
}

static void test_end(void **state)
{
	struct fixture *f = *state;
	struct owner a;
	struct addr at;
	struct listenport *lp = open_one(f, session, 4, &at);

	knock(f, 0, &at);
	turn(f);
	listenport_close(lp);
	assert_true(was_reset(f->client[0]));
	lp = open_one(f, session, 4, &at);
	assert_non_null(pick(f, &at, session, &a));
	listenport_close(lp);
	assert_int_equal(a.lost, 0);
	turn(f);
	assert_true(a.lost == 1 && a.peers == 0);
}

/* One who waits no more, at any moment: the peer is the next one's. */
static void test_cancel(void **state)
{
	struct fixture *f = *state;
	struct owner a, b, c;
	struct addr at;
	struct listenport *lp = open_one(f, session, 4, &at);
	struct pickup *first = pick(f, &at, session, &a), *second = pick(f, &at, session, &b);

	pickup_cancel(first);
	knock(f, 0, &at);
	for (int i = 0; i < 20; i++)
		ev_run(f->pw[0].w.loop, EVRUN_NOWAIT); /* the second one's mail is under way */
	pickup_cancel(second);
	turn(f);
	assert_true(a.peers == 0 && b.peers == 0);
	assert_non_null(pick(f, &at, session, &c));
	turn(f);
	is_client(f, &c, 0);
	listenport_close(lp);
}

static void test_taken(void **state)
{
	struct fixture *f = *state;
	struct addr at;
	struct listenport *lp, *other = open_one(f, session, 4, &at);
	struct listenport_wish wish = wish_of("bob", other_session, 4);
	struct owner next = {0};

	(void)other;
	wish.addr = at;
	assert_int_equal(listenport_open(f->p.listenports, &f->pw[1], &wish, &ops, &next, &lp),
			 -EADDRINUSE);
	turn(f);
	assert_int_equal(f->owner.lost, 0); /* another user */
	wish.user = "ann";
	wish.backlog = 0;
	assert_int_equal(listenport_open(f->p.listenports, &f->pw[1], &wish, &ops, &next, &lp),
			 -EADDRINUSE);
	turn(f);
	assert_int_equal(f->owner.lost, 0); /* wants it for one peer only */
	wish.backlog = 4;
	assert_int_equal(listenport_open(f->p.listenports, &f->pw[1], &wish, &ops, &next, &lp),
			 -EADDRINUSE);
	turn(f);
	assert_int_equal(f->owner.lost, 1);
	assert_int_equal(listenport_open(f->p.listenports, &f->pw[1], &wish, &ops, &next, &lp), 0);
	listenport_close(lp);
}

static void test_limits(void **state)
{
	struct fixture *f = *state;
	struct listenport_wish wish = wish_of("ann", session, 1);
	struct listenport *lp[4];
	struct addr at;

	for (int i = 0; i < 3; i++)
		lp[i] = open_one(f, session, 1, &at);
	assert_int_equal(
		listenport_open(f->p.listenports, &f->pw[0], &wish, &ops, &f->owner, &lp[3]),
		-EDQUOT);
	wish.user = "bob";
	assert_int_equal(
		listenport_open(f->p.listenports, &f->pw[0], &wish, &ops, &f->owner, &lp[3]), 0);
	listenport_close(lp[3]);
	wish.max = 3;
	assert_int_equal(
		listenport_open(f->p.listenports, &f->pw[0], &wish, &ops, &f->owner, &lp[3]),
		-EDQUOT);
	for (int i = 0; i < 3; i++)
		listenport_close(lp[i]);
}

/* Without room for them peers are turned away. */
static void test_no_room(void **state)
{
	struct fixture *f = *state;
	struct addr at;
	struct listenport *lp = open_one(f, session, 4, &at);

	atomic_store(&f->p.budget.flows_max, 1);
	atomic_store(&f->p.budget.woken, true);
	knock(f, 0, &at);
	turn(f);
	knock(f, 1, &at);
	turn(f);
	assert_int_equal(f->owner.waits, 1);
	assert_true(was_reset(f->client[1]));
	listenport_close(lp);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_one_peer),    TEST(test_no_session), TEST(test_requests_first),
		TEST(test_peers_first), TEST(test_strangers),  TEST(test_full),
		TEST(test_end),         TEST(test_cancel),     TEST(test_taken),
		TEST(test_limits),      TEST(test_no_room),
	};

	if (!rig_netns())
		return RIG_SKIP;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
