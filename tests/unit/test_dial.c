/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/dial.h"
#include "rig.h"

static struct worker w;

struct result {
	bool started, done, inside;
	unsigned calls;
	int err;
};

static void done_cb(struct dial *d, int err)
{
	struct result *r = d->owner;

	r->inside = !r->started;
	r->done = true;
	r->calls++;
	r->err = err;
}

static struct dial_wishes wishes_for(const struct addr *dst, bool mptcp, bool fastopen)
{
	struct dial_wishes wishes = {
		.dst = *dst, .sock = SOCK_WISHES_NONE, .fastopen = fastopen, .timeout_s = 5};

	wishes.sock.mptcp = mptcp;
	return wishes;
}

/* One attempt to its end; the error given to done. */
static int dial_and_wait(struct dial *d, const struct dial_wishes *wishes)
{
	struct result r = {.started = false};

	ev_now_update(w.loop);
	assert_int_equal(dial_start(d, &w, wishes, done_cb, &r), 0);
	r.started = true;
	assert_false(r.done);
	assert_true(d->local.len > 0 && addr_port(&d->local) > 0);
	assert_true(rig_until(&w, rig_flag, &r.done));
	assert_false(r.inside);
	assert_int_equal(r.calls, 1);
	assert_int_equal(d->fd < 0, r.err < 0);
	return r.err;
}

static int server_for(bool mptcp, bool fastopen, struct addr *at)
{
	struct sock_wishes wishes = SOCK_WISHES_NONE;
	int fd;

	wishes.mptcp = mptcp;
	wishes.fastopen = fastopen ? 16 : 0;
	fd = rig_listen("127.0.0.1", &wishes, at);
	assert_true(fd >= 0);
	return fd;
}

/* Accept, and compare what comes with n octets of data; the connection is closed. */
static void accept_and_compare(int listener, const char *data, size_t n)
{
	char buf[8192];
	size_t got = 0;
	int fd;

	assert_true(n <= sizeof(buf));
	assert_true(rig_wait(listener, POLLIN));
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0);
	while (got < n) {
		ssize_t k;
		assert_true(rig_wait(fd, POLLIN));
		k = recv(fd, buf + got, sizeof(buf) - got, 0);
		assert_true(k > 0);
		got += (size_t)k;
	}
	assert_int_equal(got, n);
	assert_memory_equal(buf, data, n);
	/* nothing comes twice */
	assert_int_equal(recv(fd, buf, sizeof(buf), MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	close(fd);
}

/* The rest of the data is the caller's. */
static void send_rest(int fd, const char *data, size_t n, size_t queued)
{
	assert_true(queued <= n);
	if (queued < n)
		assert_int_equal(send(fd, data + queued, n - queued, 0), (ssize_t)(n - queued));
}

static bool tfo_sysctl(const char *value)
{
	return rig_sysctl("net/ipv4/tcp_fastopen", value);
}

static void plain(void **state)
{
	(void)state;
	for (int client = 0; client <= rig_has_mptcp(); client++) {
		for (int server = 0; server <= rig_has_mptcp(); server++) {
			struct dial_wishes wishes;
			struct sock_info info;
			struct addr at, local;
			struct dial d;
			int listener = server_for(server, false, &at), fd;

			wishes = wishes_for(&at, client, false);
			wishes.data = "not sent";
			wishes.len = 8;
			assert_int_equal(dial_and_wait(&d, &wishes), 0);
			assert_int_equal(d.queued, 0);
			assert_false(d.syn_data_acked);
			assert_false(d.granted.fastopen);
			assert_int_equal(d.granted.mptcp, client);
			assert_int_equal(d.mptcp, client && server);
			assert_int_equal(d.refused, client && !server);
			fd = dial_take(&d);
			assert_int_equal(d.fd, -1);
			dial_stop(&d); /* harmless */
			assert_int_equal(sock_info(fd, &info), 0);
			assert_int_equal(info.mptcp, client && server);
			assert_int_equal(addr_of_socket(fd, &local), 0);
			assert_true(addr_equal(&local, &d.local));
			assert_int_equal(send(fd, "abc", 3, 0), 3);
			accept_and_compare(listener, "abc", 3);
			close(fd);
			close(listener);
		}
	}
}

/* First without a cookie: nothing is queued. Then the data rides in the SYN. */
static void fastopen(void **state)
{
	static char data[4000];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 7);
	for (int mptcp = 0; mptcp <= rig_has_mptcp(); mptcp++) {
		struct dial_wishes wishes;
		struct addr at;
		struct dial d;
		int listener;

		/* a new key makes old cookies worthless, which is like having none */
		assert_true(tfo_sysctl("3"));
		assert_true(rig_sysctl("net/ipv4/tcp_fastopen_key", mptcp ? "1-2-3-4" : "5-6-7-8"));
		listener = server_for(mptcp, true, &at);
		for (int round = 0; round < 4; round++) {
			size_t len = round == 3 ? sizeof(data) : 100;

			wishes = wishes_for(&at, mptcp, true);
			wishes.data = data;
			wishes.len = len;
			assert_int_equal(dial_and_wait(&d, &wishes), 0);
			if (round == 0 && !mptcp)
				assert_int_equal(d.queued, 0);
			if (round == 2) {
				assert_int_equal(d.queued, len);
				assert_true(d.syn_data_acked);
				assert_true(d.granted.fastopen);
				assert_int_equal(d.fastopen_fail, 0);
			}
			if (round == 3) /* one segment, as lo has the MTU of the wire */
				assert_in_range(d.queued, 1200, 1460);
			send_rest(d.fd, data, len, d.queued);
			accept_and_compare(listener, data, len);
			close(dial_take(&d));
		}
		close(listener);
	}
}

/* Without data: only a cookie is asked for, so that the next attempt can use it. */
static void fastopen_without_data(void **state)
{
	struct dial_wishes wishes;
	struct addr at;
	struct dial d;
	int listener;

	(void)state;
	assert_true(tfo_sysctl("3"));
	listener = rig_listen("127.0.0.2",
			      &(struct sock_wishes){.fastopen = 16, .tos = -1, .ttl = -1}, &at);
	assert_true(listener >= 0);
	for (int round = 0; round < 3; round++) {
		wishes = wishes_for(&at, false, true);
		if (round == 2) {
			wishes.data = "abc";
			wishes.len = 3;
		}
		assert_int_equal(dial_and_wait(&d, &wishes), 0);
		assert_int_equal(d.queued, wishes.len); /* no data, or a cookie */
		send_rest(d.fd, "abc", 3, d.queued);
		accept_and_compare(listener, "abc", 3);
		close(dial_take(&d));
	}
	close(listener);
}

/* A kernel without Fast Open: an ordinary connection on the same socket. */
static void fastopen_switched_off(void **state)
{
	(void)state;
	assert_true(tfo_sysctl("0"));
	for (int mptcp = 0; mptcp <= rig_has_mptcp(); mptcp++) {
		for (int len = 0; len <= 3; len += 3) {
			struct addr at;
			int listener = server_for(mptcp, false, &at);
			struct dial_wishes wishes = wishes_for(&at, mptcp, true);
			struct dial d;

			wishes.data = "abc";
			wishes.len = (size_t)len;
			assert_int_equal(dial_and_wait(&d, &wishes), 0);
			assert_int_equal(d.queued, 0);
			assert_false(d.granted.fastopen);
			send_rest(d.fd, "abc", 3, 0);
			accept_and_compare(listener, "abc", 3);
			close(dial_take(&d));
			close(listener);
		}
	}
	assert_true(tfo_sysctl("3"));
}

/* The cookie is there, but the server has stopped to do Fast Open: the kernel sends the data
 * again, and they come once. */
static void fastopen_ignored_by_server(void **state)
{
	(void)state;
	assert_true(tfo_sysctl("3"));
	for (int mptcp = 0; mptcp <= rig_has_mptcp(); mptcp++) {
		struct dial_wishes wishes;
		struct addr at;
		struct dial d;
		int listener = server_for(mptcp, true, &at);

		for (int round = 0; round < 3; round++) {
			wishes = wishes_for(&at, mptcp, true);
			wishes.data = "abc";
			wishes.len = 3;
			if (round == 2) {
				close(listener);
				listener = server_for(mptcp, false, &at);
				wishes.dst = at;
			}
			assert_int_equal(dial_and_wait(&d, &wishes), 0);
			if (round == 2) {
				assert_int_equal(d.queued, 3);
				assert_false(d.syn_data_acked);
				assert_true(d.fastopen_fail > 0);
				assert_false(d.mptcp || d.refused); /* it is the data's fault */
			}
			send_rest(d.fd, "abc", 3, d.queued);
			accept_and_compare(listener, "abc", 3);
			close(dial_take(&d));
		}
		close(listener);
	}
}

static int accept_soon(int listener)
{
	int fd;

	assert_true(rig_wait(listener, POLLIN));
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0);
	return fd;
}

/* An attempt of which all data are in the SYN. */
static void dial_answered(struct dial *d, struct result *r, const struct addr *at, bool mptcp)
{
	struct dial_wishes wishes = wishes_for(at, mptcp, true);

	wishes.data = "abc";
	wishes.len = 3;
	wishes.answered = true;
	*r = (struct result){.started = true};
	ev_now_update(w.loop);
	assert_int_equal(dial_start(d, &w, &wishes, done_cb, r), 0);
	assert_int_equal(d->queued, 3);
}

/* The connection alone is no event; the answer is, and so is being asked. */
static void answered(void **state)
{
	(void)state;
	assert_true(tfo_sysctl("519")); /* no cookies, on either side */
	for (int mptcp = 0; mptcp <= rig_has_mptcp(); mptcp++) {
		unsigned fds = rig_open_fds();
		struct addr at;
		int listener = server_for(mptcp, true, &at), fd;
		struct result r;
		struct dial d;

		dial_answered(&d, &r, &at, mptcp);
		fd = accept_soon(listener);
		assert_false(rig_until_s(&w, rig_flag, &r.done, 0.1));
		assert_int_equal(send(fd, "x", 1, 0), 1);
		assert_true(rig_until(&w, rig_flag, &r.done));
		assert_int_equal(r.err, 0);
		assert_true(d.readable);
		assert_true(d.syn_data_acked);
		assert_int_equal(d.mptcp, mptcp);
		assert_false(dial_look(&d));
		close(dial_take(&d));
		close(fd);

		dial_answered(&d, &r, &at, mptcp);
		fd = accept_soon(listener);
		assert_false(rig_until_s(&w, rig_flag, &r.done, 0.1));
		assert_true(dial_look(&d));
		assert_true(r.done);
		assert_int_equal(r.calls, 1);
		assert_int_equal(r.err, 0);
		assert_false(d.readable);
		assert_true(d.syn_data_acked);
		close(dial_take(&d));
		close(fd);

		/* what was said before a reset is not lost */
		dial_answered(&d, &r, &at, mptcp);
		fd = accept_soon(listener);
		assert_true(rig_wait(d.fd, POLLOUT));
		assert_int_equal(send(fd, "x", 1, 0), 1);
		assert_true(rig_wait(d.fd, POLLIN));
		if (!mptcp)
			sock_reset(fd);
		else
			close(fd);
		assert_true(rig_until(&w, rig_flag, &r.done));
		assert_int_equal(r.err, 0);
		assert_true(d.readable);
		close(dial_take(&d));

		/* nobody listens any more */
		close(listener);
		dial_answered(&d, &r, &at, mptcp);
		assert_true(rig_until(&w, rig_flag, &r.done));
		assert_int_equal(r.err, -ECONNREFUSED);
		assert_int_equal(rig_open_fds(), fds);
	}
	assert_true(tfo_sysctl("3"));
}

static void refused(void **state)
{
	(void)state;
	assert_true(tfo_sysctl("3"));
	for (int mptcp = 0; mptcp <= rig_has_mptcp(); mptcp++) {
		for (int fast = 0; fast < 2; fast++) {
			unsigned fds = rig_open_fds();
			struct addr at;
			struct dial_wishes wishes;
			struct dial d;

			close(server_for(false, false, &at)); /* now nobody listens there */
			wishes = wishes_for(&at, mptcp, fast);
			wishes.data = "abc"; /* tests before this one left a cookie */
			wishes.len = 3;
			assert_int_equal(dial_and_wait(&d, &wishes), -ECONNREFUSED);
			assert_int_equal(rig_open_fds(), fds);
			dial_stop(&d);
		}
	}
}

/* Failures known at once are returned, and done is not called. */
static void fails_at_once(void **state)
{
	struct result r = {.started = true};
	unsigned fds = rig_open_fds();
	struct addr at;
	struct dial d;

	(void)state;
	assert_true(addr_parse(&at, "192.0.2.1:80", -1));
	for (int mptcp = 0; mptcp <= rig_has_mptcp(); mptcp++) {
		for (int fast = 0; fast < 2; fast++) {
			struct dial_wishes wishes = wishes_for(&at, mptcp, fast);

			wishes.data = "abc";
			wishes.len = 3;
			assert_int_equal(dial_start(&d, &w, &wishes, done_cb, &r), -ENETUNREACH);
			dial_stop(&d);
		}
	}
	at.len = 0;
	assert_int_equal(
		dial_start(&d, &w, &(struct dial_wishes){.dst = at, .timeout_s = 1}, done_cb, &r),
		-EAFNOSUPPORT);
	dial_stop(&d);
	assert_false(r.done);
	assert_int_equal(rig_open_fds(), fds);
}

/* A listener whose queue is full answers nothing. */
static int silent_server(struct addr *at, int fill[4])
{
	struct sock_wishes wishes = SOCK_WISHES_NONE;
	int fd = rig_listen("127.0.0.3", &wishes, at);

	assert_true(fd >= 0);
	assert_int_equal(listen(fd, 0), 0);
	for (int i = 0; i < 4; i++) {
		fill[i] = sock_open(AF_INET, &wishes, NULL);
		assert_true(fill[i] >= 0);
		assert_true(connect(fill[i], &at->u.sa, at->len) == 0 || errno == EINPROGRESS);
	}
	assert_true(rig_wait(fill[0], POLLOUT));
	return fd;
}

static void times_out_and_stop(void **state)
{
	struct result r = {.started = true};
	struct dial_wishes wishes;
	struct addr at;
	struct dial d;
	double start;
	int fill[4], listener = silent_server(&at, fill);
	unsigned fds = rig_open_fds();
	bool never = false;

	(void)state;
	wishes = wishes_for(&at, false, false);
	wishes.timeout_s = 0.2;
	start = rig_now();
	assert_int_equal(dial_and_wait(&d, &wishes), -ETIMEDOUT);
	assert_true(rig_now() - start >= 0.19);
	assert_int_equal(rig_open_fds(), fds);

	ev_now_update(w.loop);
	assert_int_equal(dial_start(&d, &w, &wishes, done_cb, &r), 0);
	dial_stop(&d);
	assert_int_equal(d.fd, -1);
	dial_stop(&d);
	assert_false(rig_until_s(&w, rig_flag, &never, 0.3)); /* longer than the time limit */
	assert_false(r.done);
	assert_int_equal(rig_open_fds(), fds);
	/* One that waits for an answer: looking changes nothing as long as there is no connection. */
	assert_true(tfo_sysctl("519"));
	wishes.fastopen = wishes.answered = true;
	wishes.data = "abc";
	wishes.len = 3;
	r = (struct result){.started = true};
	ev_now_update(w.loop);
	assert_int_equal(dial_start(&d, &w, &wishes, done_cb, &r), 0);
	assert_int_equal(d.queued, 3);
	assert_false(dial_look(&d));
	assert_false(r.done);
	assert_true(rig_until(&w, rig_flag, &r.done));
	assert_int_equal(r.err, -ETIMEDOUT);
	assert_int_equal(r.calls, 1);
	assert_int_equal(rig_open_fds(), fds);
	assert_true(tfo_sysctl("3"));
	for (int i = 0; i < 4; i++)
		close(fill[i]);
	close(listener);
	memset(&d, 0, sizeof(d));
	dial_stop(&d); /* one that was never started */
	assert_false(dial_look(&d));
	assert_int_equal(rig_open_fds(), fds - 5);
}

/* done may free what the dial is embedded in. */
struct owner {
	struct dial dial;
	bool *gone;
};

static void free_owner_cb(struct dial *d, int err)
{
	struct owner *o = d->owner;

	assert_int_equal(err, -ECONNREFUSED);
	*o->gone = true;
	free(o);
}

static void freed_in_done(void **state)
{
	struct owner *o = calloc(1, sizeof(*o));
	struct dial_wishes wishes;
	bool gone = false;
	struct addr at;

	(void)state;
	assert_non_null(o);
	o->gone = &gone;
	close(server_for(false, false, &at));
	wishes = wishes_for(&at, false, false);
	assert_int_equal(dial_start(&o->dial, &w, &wishes, free_owner_cb, o), 0);
	assert_true(rig_until(&w, rig_flag, &gone));
}

static void ipv6(void **state)
{
	struct sock_wishes server = SOCK_WISHES_NONE;
	struct dial_wishes wishes;
	struct addr at;
	struct dial d;
	int listener;

	(void)state;
	if (!rig_has_ipv6())
		skip();
	server.mptcp = rig_has_mptcp();
	server.fastopen = 16;
	listener = rig_listen("::1", &server, &at);
	assert_true(listener >= 0);
	for (int round = 0; round < 3; round++) {
		wishes = wishes_for(&at, server.mptcp, true);
		wishes.data = "abc";
		wishes.len = 3;
		assert_int_equal(dial_and_wait(&d, &wishes), 0);
		assert_int_equal(addr_family(&d.local), AF_INET6);
		if (round == 2)
			assert_int_equal(d.queued, 3);
		send_rest(d.fd, "abc", 3, d.queued);
		accept_and_compare(listener, "abc", 3);
		close(dial_take(&d));
	}
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(fastopen),
		cmocka_unit_test(fastopen_without_data),
		cmocka_unit_test(fastopen_switched_off),
		cmocka_unit_test(fastopen_ignored_by_server),
		cmocka_unit_test(answered),
		cmocka_unit_test(refused),
		cmocka_unit_test(fails_at_once),
		cmocka_unit_test(times_out_and_stop),
		cmocka_unit_test(freed_in_done),
		cmocka_unit_test(ipv6),
	};
	int failed;

	if (!rig_netns())
		return RIG_SKIP;
	if (worker_init(&w, 0, NULL) < 0)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	worker_fini(&w);
	return failed;
}
