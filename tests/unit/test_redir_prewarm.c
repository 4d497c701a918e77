/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections kept ready, against a listener that plays the proxy. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "redir/redir.h"
#include "rig.h"

#define CLIENTS 32

struct scene {
	struct redir rd;
	struct redir_worker rw;
	struct redir_conf conf;
	struct upstream *up;
	struct pool *pool; /* of one */
	struct addr at;
	int listener;
	int client[CLIENTS]; /* accepted, in order */
	unsigned n;
	struct loopguard_entry guard;
};

static struct pool *pool_of(struct scene *s)
{
	s->pool = calloc(1, sizeof(*s->pool) + sizeof(s->pool->v[0]));
	assert_non_null(s->pool);
	s->pool->n = 1;
	pthread_mutex_init(&s->pool->lock, NULL);
	s->pool->v[0] = s->up;
	return s->pool;
}

static void scene_make(struct scene *s, int prewarm)
{
	struct proxy_section p = {.name = (char[]){"one"},
				  .address = {.host = (char[]){"127.0.0.1"}, .port = 1},
				  .tfo = 2,
				  .prewarm = prewarm};
	struct sock_wishes wishes = SOCK_WISHES_NONE;

	memset(s, 0, sizeof(*s));
	assert_int_equal(worker_init(&s->rd.main, UINT_MAX, &s->rd), 0);
	assert_int_equal(worker_init(&s->rw.w, 0, &s->rw), 0);
	s->rw.redir = &s->rd;
	s->rw.conf = &s->conf;
	s->conf.dial_timeout_s = 2;
	s->rd.n_workers = 1;
	s->rd.workers = &s->rw;
	s->rd.loopguard = loopguard_new();
	s->listener = rig_listen("127.0.0.1", &wishes, &s->at);
	assert_true(s->listener >= 0);
	s->up = upstream_new(&p, NULL, &s->rd.main);
	upstream_set_addrs(s->up, &s->at, 1);
	upstream_proven(s->up, 0, &s->at, 100);
	s->rw.pool = pool_of(s);
	prewarm_init(&s->rw.prewarm, &s->rw);
	prewarm_follow_pool(&s->rw.prewarm);
}

static void scene_end(struct scene *s)
{
	prewarm_stop(&s->rw.prewarm);
	assert_int_equal(prewarm_ready(&s->rw.prewarm), 0);
	for (unsigned i = 0; i < s->n; i++)
		close(s->client[i]);
	if (s->listener >= 0)
		close(s->listener);
	while (!list_empty(&s->rd.main.mail))
		ev_run(s->rd.main.loop, EVRUN_NOWAIT);
	upstream_put(s->up);
	free(s->pool);
	loopguard_free(s->rd.loopguard);
	worker_fini(&s->rw.w);
	worker_fini(&s->rd.main);
}

static unsigned accept_all(struct scene *s)
{
	int fd;

	while (s->n < CLIENTS && (fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
		s->client[s->n++] = fd;
	return s->n;
}

struct wish {
	struct scene *s;
	size_t ready;
};

static bool has_ready(void *arg)
{
	const struct wish *w = arg;

	accept_all(w->s);
	return prewarm_ready(&w->s->rw.prewarm) == w->ready;
}

static bool until_ready(struct scene *s, size_t n)
{
	struct wish w = {s, n};

	return rig_until_s(&s->rw.w, has_ready, &w, 5);
}

static bool never(void *arg)
{
	accept_all(arg);
	return false;
}

static int take(struct scene *s)
{
	struct prewarmed warm;
	int fd = prewarm_take(&s->rw.prewarm, s->up, &s->at, &s->guard, &warm);

	if (fd >= 0) {
		assert_int_equal(warm.io.fd, fd);
		assert_false(ev_is_active(&warm.io));
	}
	return fd;
}

static void give_back(struct scene *s, int fd)
{
	loopguard_remove(s->rd.loopguard, &s->guard);
	close(fd);
}

static void test_by_demand(void **state)
{
	struct scene s;
	struct addr local;
	char got[8] = "";
	int fd;

	(void)state;
	scene_make(&s, PREWARM_AUTO);
	rig_until_s(&s.rw.w, never, &s, 0.1);
	assert_int_equal(s.n, 0); /* no traffic, none */
	assert_int_equal(take(&s), -1);
	assert_true(until_ready(&s, 1));
	assert_int_equal(s.n, 1);
	fd = take(&s);
	assert_true(fd >= 0);
	assert_int_equal(s.rw.counters.prewarm_used, 1);
	assert_int_equal(addr_of_socket(fd, &local), 0);
	assert_true(loopguard_has(s.rd.loopguard, &local, &s.at)); /* as the flow's own */
	assert_int_equal(send(fd, "hello", 5, 0), 5);
	assert_true(rig_wait(s.client[0], POLLIN));
	assert_int_equal(recv(s.client[0], got, sizeof(got), 0), 5);
	assert_true(until_ready(&s, 2)); /* two within a second */
	give_back(&s, fd);
	assert_false(loopguard_has(s.rd.loopguard, &local, &s.at));
	scene_end(&s);
}

static void test_limit(void **state)
{
	struct scene s;

	(void)state;
	scene_make(&s, PREWARM_AUTO);
	for (int i = 0; i < 100; i++)
		assert_int_equal(take(&s), -1);
	assert_true(until_ready(&s, 8));
	rig_until_s(&s.rw.w, never, &s, 0.2);
	assert_int_equal(s.n, 8);
	scene_end(&s);
}

static void test_fixed(void **state)
{
	struct scene s;

	(void)state;
	scene_make(&s, 3);
	assert_true(until_ready(&s, 3)); /* without any traffic */
	s.rd.n_workers = 2;              /* its part of three */
	assert_true(until_ready(&s, 2));
	s.rd.n_workers = 1;
	scene_end(&s);
}

static void test_none(void **state)
{
	struct scene s;

	(void)state;
	scene_make(&s, 0);
	assert_int_equal(take(&s), -1);
	rig_until_s(&s.rw.w, never, &s, 1.3);
	assert_int_equal(s.n, 0);
	scene_end(&s);
}

/* What has ended is never handed out, whether or not the loop has seen it. */
static void test_dead(void **state)
{
	struct scene s;
	struct linger now = {.l_onoff = 1};

	(void)state;
	scene_make(&s, 1);
	assert_true(until_ready(&s, 1));
	close(s.client[--s.n]);
	assert_int_equal(take(&s), -1);
	assert_int_equal(s.rw.counters.prewarm_dead, 1);
	assert_true(until_ready(&s, 1));
	/* something unasked for is as bad */
	assert_int_equal(send(s.client[s.n - 1], "?", 1, 0), 1);
	assert_int_equal(take(&s), -1);
	scene_end(&s);

	scene_make(&s, 3);
	assert_true(until_ready(&s, 3));
	accept_all(&s);
	/* one reset empties the store; then there are new ones, after a pause */
	setsockopt(s.client[0], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(s.client[0]);
	s.client[0] = s.client[--s.n];
	assert_true(until_ready(&s, 0));
	assert_int_equal(take(&s), -1);
	assert_true(until_ready(&s, 3));
	assert_int_equal(s.n, 5);
	scene_end(&s);
}

static void test_was_dead(void **state)
{
	struct scene s;
	int fd;

	(void)state;
	scene_make(&s, 3);
	assert_true(until_ready(&s, 3));
	fd = take(&s);
	assert_true(fd >= 0);
	prewarm_was_dead(&s.rw.prewarm, s.up);
	assert_int_equal(prewarm_ready(&s.rw.prewarm), 0);
	assert_int_equal(take(&s), -1);
	give_back(&s, fd);
	scene_end(&s);
}

/* The session is gone: so is the proxy that accepted these. */
static void test_restarted(void **state)
{
	struct scene s;

	(void)state;
	scene_make(&s, 2);
	upstream_session_open(s.up, (const uint8_t *)"one", 3, false, 0, 0);
	assert_true(until_ready(&s, 2));
	upstream_session_lost(s.up, s.up->session.number);
	assert_int_equal(take(&s), -1);
	assert_true(until_ready(&s, 2));
	assert_int_equal(s.n, 4);
	scene_end(&s);
}

/* Links have changed: what was made before may lack subflows. */
static void test_paths(void **state)
{
	struct scene s;
	struct ifreq ifr = {.ifr_name = "lo", .ifr_mtu = 1500};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)state;
	scene_make(&s, 2);
	assert_true(until_ready(&s, 2));
	ifr.ifr_mtu = 1400;
	assert_int_equal(ioctl(fd, SIOCSIFMTU, &ifr), 0);
	close(fd);
	assert_true(until_ready(&s, 0));
	assert_true(until_ready(&s, 2));
	assert_int_equal(s.n, 4);
	scene_end(&s);
}

static void test_no_proxy(void **state)
{
	struct scene s;

	(void)state;
	scene_make(&s, 2);
	assert_true(until_ready(&s, 2));
	upstream_failed(s.up, 1, UPSTREAM_HARD, "test");
	assert_true(until_ready(&s, 0));
	upstream_proven(s.up, 2, &s.at, 100);
	assert_true(until_ready(&s, 2));
	/* nobody listens: a pause that grows, no storm */
	close(s.listener);
	s.listener = -1;
	prewarm_was_dead(&s.rw.prewarm, s.up);
	while (!list_empty(&s.rd.main.mail))
		ev_run(s.rd.main.loop, EVRUN_NOWAIT);
	rig_until_s(&s.rw.w, never, &s, 1.2);
	assert_int_equal(prewarm_ready(&s.rw.prewarm), 0);
	scene_end(&s);
}

static void test_not_in_pool(void **state)
{
	struct scene s;

	(void)state;
	scene_make(&s, 2);
	assert_true(until_ready(&s, 2));
	assert_int_equal(s.up->n_warm, 2);
	s.rw.pool->n = 0;
	prewarm_follow_pool(&s.rw.prewarm);
	assert_int_equal(prewarm_ready(&s.rw.prewarm), 0);
	assert_int_equal(s.up->n_warm, 0);
	s.rw.pool->n = 1;
	prewarm_stop(&s.rw.prewarm);
	prewarm_follow_pool(&s.rw.prewarm);
	assert_int_equal(take(&s), -1); /* stopped is stopped */
	scene_end(&s);
}

/* The proxy closes what has waited for a second: after two rounds that is known, and what is
 * older than seven tenths of it is not handed out. */
static void test_impatient(void **state)
{
	struct scene s;
	double start = rig_now();
	unsigned closed = 0;

	(void)state;
	scene_make(&s, 1);
	while (s.rw.counters.prewarm_dead < 2 && rig_now() - start < 15) {
		assert_true(until_ready(&s, 1));
		rig_until_s(&s.rw.w, never, &s, 1.2);
		while (closed < s.n)
			shutdown(s.client[closed++], SHUT_RDWR);
		assert_true(until_ready(&s, 0));
	}
	assert_int_equal(s.rw.counters.prewarm_dead, 2);
	assert_true(until_ready(&s, 1));
	rig_until_s(&s.rw.w, never, &s, 0.95);
	if (prewarm_ready(&s.rw.prewarm) > 0) /* ripe for the next tick */
		assert_int_equal(take(&s), -1);
	scene_end(&s);
}

static void test_is_better(void **state)
{
	struct upstream up = {.prewarm = PREWARM_AUTO};
	struct upstream_grant good = {.tfo = true, .tfo_works = true, .has_token = true}, g;

	(void)state;
	assert_false(prewarm_is_better(&up, &good, 500)); /* a SYN does as well */
	assert_true(prewarm_is_better(&up, &good, 6000));
	g = good;
	g.tfo = false;
	assert_true(prewarm_is_better(&up, &g, 500));
	g = good;
	g.tfo_works = false;
	assert_true(prewarm_is_better(&up, &g, 500));
	g = good;
	g.has_token = false;
	assert_true(prewarm_is_better(&up, &g, 500));
	up.mptcp = 2;
	assert_true(prewarm_is_better(&up, &good, 500)); /* a + 2b instead of 2a */
	up.prewarm = 0;
	assert_false(prewarm_is_better(&up, &good, 6000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_is_better),   cmocka_unit_test(test_by_demand),
		cmocka_unit_test(test_limit),       cmocka_unit_test(test_fixed),
		cmocka_unit_test(test_none),        cmocka_unit_test(test_dead),
		cmocka_unit_test(test_was_dead),    cmocka_unit_test(test_restarted),
		cmocka_unit_test(test_paths),       cmocka_unit_test(test_no_proxy),
		cmocka_unit_test(test_not_in_pool), cmocka_unit_test(test_impatient),
	};

	if (!rig_netns())
		return RIG_SKIP;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
