/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>

#include "core/resolve.h"
#include "rig.h"

enum { TYPE_A = 1, TYPE_AAAA = 28 };

static struct worker w;

/* ---- a name server of our own, in a thread ---- */

struct server {
	pthread_t thread;
	int fd, tcp;
	struct addr at;
	char text[ADDR_STRLEN];
	pthread_mutex_t lock;
	unsigned asked; /* queries seen */
	unsigned asked_tcp;
	unsigned asked_odd; /* of names that nobody has asked for */
	unsigned dropped;   /* "late.test" is ignored once */
};

static struct server server;

struct packet {
	uint8_t b[1500];
	size_t len;
};

static void put(struct packet *p, const void *data, size_t n)
{
	if (n > sizeof(p->b) - p->len)
		abort();
	memcpy(p->b + p->len, data, n);
	p->len += n;
}

static void put16(struct packet *p, unsigned v)
{
	put(p, (const uint8_t[]){(uint8_t)(v >> 8), (uint8_t)v}, 2);
}

/* The name of the question as text; its end (type and class follow), or 0. */
static size_t read_name(const uint8_t *q, size_t len, char *name, size_t cap)
{
	size_t pos = 12, out = 0;

	while (pos < len && q[pos] != 0) {
		size_t n = q[pos++];
		if (n > 63 || n > len - pos || out + n + 2 > cap)
			return 0;
		memcpy(name + out, q + pos, n);
		out += n;
		name[out++] = '.';
		pos += n;
	}
	name[out ? out - 1 : 0] = '\0';
	return pos + 5 <= len ? pos + 1 : 0;
}

static void put_record(struct packet *p, unsigned type, unsigned ttl, const void *data, size_t n)
{
	put16(p, 0xc00c); /* the name of the question */
	put16(p, type);
	put16(p, 1);
	put16(p, ttl >> 16);
	put16(p, ttl & 0xffff);
	put16(p, (unsigned)n);
	put(p, data, n);
}

static unsigned put_answers(struct packet *p, const char *name, unsigned type)
{
	static const uint8_t v4[] = {192, 0, 2, 1};
	uint8_t v6[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1}, many[4] = {10, 0, 0, 0};

	if (strcmp(name, "many.test") == 0) {
		for (many[3] = 1; type == TYPE_A && many[3] <= 40; many[3]++)
			put_record(p, type, 60, many, 4);
		return type == TYPE_A ? 40 : 0;
	}
	if (type == TYPE_A && strcmp(name, "six.test") != 0) {
		put_record(p, type, 300, v4, 4);
		return 1;
	}
	if (type == TYPE_AAAA && strcmp(name, "four.test") != 0) {
		put_record(p, type, 30, v6, 16);
		return 1;
	}
	return 0;
}

/* Build the answer; false to keep silent. */
static bool answer(struct server *s, const uint8_t *q, size_t len, struct packet *p)
{
	char name[256];
	size_t end = len < 17 ? 0 : read_name(q, len, name, sizeof(name));
	unsigned type, n, code = 0;
	bool drop, odd;

	if (end == 0)
		return false;
	type = (unsigned)q[end] << 8 | q[end + 1];
	drop = strcmp(name, "never.test") == 0;
	odd = strstr(name, "search.example") != NULL;
	pthread_mutex_lock(&s->lock);
	s->asked++;
	s->asked_odd += odd;
	if (strcmp(name, "late.test") == 0 && s->dropped == 0) {
		s->dropped = 1;
		drop = true;
	}
	pthread_mutex_unlock(&s->lock);
	if (drop)
		return false;
	if (strcmp(name, "missing.test") == 0)
		code = 3; /* NXDOMAIN */
	if (strcmp(name, "broken.test") == 0)
		code = 2; /* SERVFAIL */
	p->len = 0;
	put(p, q, 2);
	put16(p, 0x8180 | code);
	put16(p, 1);
	put16(p, 0); /* filled in below */
	put16(p, 0);
	put16(p, 0);
	put(p, q + 12, end + 4 - 12);
	n = code ? 0 : put_answers(p, name, type);
	p->b[7] = (uint8_t)n;
	return true;
}

/* One question over TCP: two octets of length in front, both ways. */
static void serve_tcp(struct server *s)
{
	int fd = accept4(s->tcp, NULL, NULL, SOCK_CLOEXEC);
	uint8_t q[1500], len[2];
	struct packet p;
	size_t n;

	if (fd < 0)
		return;
	if (recv(fd, len, 2, MSG_WAITALL) == 2 && (n = (size_t)len[0] << 8 | len[1]) <= sizeof(q) &&
	    recv(fd, q, n, MSG_WAITALL) == (ssize_t)n && answer(s, q, n, &p)) {
		len[0] = (uint8_t)(p.len >> 8);
		len[1] = (uint8_t)p.len;
		pthread_mutex_lock(&s->lock);
		s->asked_tcp++;
		pthread_mutex_unlock(&s->lock);
		if (send(fd, len, 2, MSG_NOSIGNAL | MSG_MORE) == 2)
			send(fd, p.b, p.len, MSG_NOSIGNAL);
	}
	close(fd);
}

#define UDP_MAX 512 /* without EDNS; larger answers are cut and marked so */

static void *serve(void *arg)
{
	struct server *s = arg;
	struct pollfd fds[2] = {{.fd = s->fd, .events = POLLIN}, {.fd = s->tcp, .events = POLLIN}};
	struct sockaddr_storage from;
	uint8_t q[1500];

	while (poll(fds, 2, -1) > 0) {
		struct packet p;
		socklen_t len = sizeof(from);
		ssize_t n;

		if (fds[1].revents)
			serve_tcp(s);
		if (!fds[0].revents)
			continue;
		n = recvfrom(s->fd, q, sizeof(q), 0, (struct sockaddr *)&from, &len);
		if (n <= 0)
			break; /* the empty packet of server_stop */
		if (!answer(s, q, (size_t)n, &p))
			continue;
		if (p.len > UDP_MAX) {
			p.b[2] |= 0x02; /* TC */
			p.len = UDP_MAX;
		}
		sendto(s->fd, p.b, p.len, 0, (struct sockaddr *)&from, len);
	}
	return NULL;
}

static bool server_start(struct server *s)
{
	struct sock_wishes wishes = SOCK_WISHES_NONE;

	if (!addr_parse_ip(&s->at, "127.0.0.1"))
		return false;
	pthread_mutex_init(&s->lock, NULL);
	s->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0 || bind(s->fd, &s->at.u.sa, s->at.len) < 0 ||
	    addr_of_socket(s->fd, &s->at) < 0)
		return false;
	s->tcp = sock_listen(&s->at, &wishes, NULL);
	addr_str(&s->at, s->text, sizeof(s->text));
	return s->tcp >= 0 && pthread_create(&s->thread, NULL, serve, s) == 0;
}

static void server_stop(struct server *s)
{
	sendto(s->fd, "", 0, 0, &s->at.u.sa, s->at.len);
	pthread_join(s->thread, NULL);
	close(s->fd);
	close(s->tcp);
	pthread_mutex_destroy(&s->lock);
}

/* One of the counters. */
static unsigned server_count(const unsigned *counter)
{
	unsigned n;

	pthread_mutex_lock(&server.lock);
	n = *counter;
	pthread_mutex_unlock(&server.lock);
	return n;
}

/* ---- questions ---- */

struct asked {
	bool started, done, inside;
	unsigned calls, n, min_ttl_s;
	enum resolve_error err;
	struct addr addrs[RESOLVE_MAX];
};

static void done_cb(void *owner, enum resolve_error err, const struct addr *addrs, unsigned n,
		    unsigned min_ttl_s)
{
	struct asked *a = owner;

	a->inside = !a->started;
	a->done = true;
	a->calls++;
	a->err = err;
	a->n = n;
	a->min_ttl_s = min_ttl_s;
	assert_in_range(n, 0, RESOLVE_MAX);
	memcpy(a->addrs, addrs, n * sizeof(*addrs));
}

static struct asked ask(struct resolver *r, const char *name, int family)
{
	struct asked a = {.started = false};

	ev_now_update(w.loop);
	assert_non_null(resolve_start(r, name, 8080, family, done_cb, &a));
	a.started = true;
	assert_false(a.done);
	assert_true(rig_until(&w, rig_flag, &a.done));
	assert_false(a.inside);
	assert_int_equal(a.calls, 1);
	assert_int_equal(a.err == RESOLVE_OK, a.n > 0);
	for (unsigned i = 0; i < a.n; i++)
		assert_int_equal(addr_port(&a.addrs[i]), 8080);
	return a;
}

static struct resolver *new_resolver(void)
{
	struct resolver *r = resolver_new(&w, server.text, 0x77);

	assert_non_null(r);
	return r;
}

static bool has(const struct asked *a, const char *ip)
{
	struct addr want;

	assert_true(addr_parse_ip(&want, ip));
	for (unsigned i = 0; i < a->n; i++)
		if (addr_equal_ip(&a->addrs[i], &want))
			return true;
	return false;
}

static void numeric(void **state)
{
	struct resolver *r = new_resolver();
	unsigned before = server_count(&server.asked);
	struct asked a;

	(void)state;
	a = ask(r, "192.0.2.9", AF_UNSPEC);
	assert_int_equal(a.err, RESOLVE_OK);
	assert_int_equal(a.n, 1);
	assert_true(has(&a, "192.0.2.9"));
	a = ask(r, "2001:db8::9", AF_INET6);
	assert_true(has(&a, "2001:db8::9"));
	a = ask(r, "192.0.2.9", AF_INET6);
	assert_int_not_equal(a.err, RESOLVE_OK);
	a = ask(r, "2001:db8::9", AF_INET);
	assert_int_not_equal(a.err, RESOLVE_OK);
	assert_int_equal(server_count(&server.asked), before); /* nobody was bothered */
	resolver_free(r);
}

static void hosts_file(void **state)
{
	struct resolver *r = new_resolver();
	struct asked a = ask(r, "localhost", AF_INET);

	(void)state;
	assert_int_equal(a.err, RESOLVE_OK);
	assert_int_equal(addr_classify(&a.addrs[0]), ADDR_LOOPBACK);
	resolver_free(r);
}

static void by_server(void **state)
{
	struct resolver *r = new_resolver();
	struct asked a;

	(void)state;
	a = ask(r, "both.test", AF_UNSPEC);
	assert_int_equal(a.err, RESOLVE_OK);
	assert_int_equal(a.n, 2);
	assert_true(has(&a, "192.0.2.1") && has(&a, "2001:db8::1"));
	assert_int_equal(a.min_ttl_s, 30);
	a = ask(r, "both.test", AF_INET);
	assert_int_equal(a.n, 1);
	assert_true(has(&a, "192.0.2.1"));
	assert_int_equal(a.min_ttl_s, 300);
	a = ask(r, "both.test", AF_INET6);
	assert_int_equal(a.n, 1);
	assert_true(has(&a, "2001:db8::1"));
	a = ask(r, "four.test", AF_UNSPEC);
	assert_int_equal(a.n, 1);
	a = ask(r, "six.test", AF_INET);
	assert_int_equal(a.err, RESOLVE_NO_NAME); /* the name is there, the address is not */
	assert_int_equal(server_count(&server.asked_tcp), 0);
	a = ask(r, "many.test", AF_INET); /* too large for UDP */
	assert_int_equal(a.n, RESOLVE_MAX);
	assert_int_equal(server_count(&server.asked_tcp), 1);
	resolver_free(r);
}

static void failures(void **state)
{
	/* 64 octets in a label are one too many */
	static const char long_label[] =
		"0123456789012345678901234567890123456789012345678901234567890123.test";
	struct resolver *r = new_resolver();
	struct asked a;

	(void)state;
	a = ask(r, "missing.test", AF_UNSPEC);
	assert_int_equal(a.err, RESOLVE_NO_NAME);
	a = ask(r, "broken.test", AF_UNSPEC);
	assert_int_equal(a.err, RESOLVE_TEMPORARY);
	a = ask(r, long_label, AF_UNSPEC);
	assert_int_equal(a.err, RESOLVE_NO_NAME);
	a = ask(r, "a..test", AF_UNSPEC);
	assert_int_equal(a.err, RESOLVE_NO_NAME);
	resolver_free(r);
	for (int e = RESOLVE_OK; e <= RESOLVE_FAILED; e++)
		assert_true(strlen(resolve_error_str((enum resolve_error)e)) > 0);
}

/* A lost packet is sent again. */
static void asked_again(void **state)
{
	struct resolver *r = new_resolver();
	struct asked a = ask(r, "late.test", AF_INET);

	(void)state;
	assert_int_equal(server_count(&server.dropped), 1);
	assert_int_equal(a.err, RESOLVE_OK);
	assert_true(has(&a, "192.0.2.1"));
	resolver_free(r);
}

/* The name is taken as it is: no search domain makes another one of it. */
static void no_search(void **state)
{
	struct resolver *r;
	struct asked a;

	(void)state;
	assert_int_equal(setenv("LOCALDOMAIN", "search.example", 1), 0);
	r = new_resolver();
	unsetenv("LOCALDOMAIN");
	a = ask(r, "missing.test", AF_UNSPEC);
	assert_int_equal(a.err, RESOLVE_NO_NAME);
	a = ask(r, "single", AF_INET);
	assert_int_equal(a.err, RESOLVE_OK);
	assert_int_equal(server_count(&server.asked_odd), 0);
	resolver_free(r);
}

#define MANY 200

static bool all_done(void *arg)
{
	const struct asked *a = arg;

	for (int i = 0; i < MANY; i++)
		if (i % 2 && !a[i].done)
			return false;
	return true;
}

/* Many at once; each other one is cancelled and never heard of again. */
static void many_and_cancel(void **state)
{
	static struct asked a[MANY];
	struct resolve *q[MANY];
	struct resolver *r = new_resolver();
	unsigned fds = rig_open_fds();

	(void)state;
	for (int i = 0; i < MANY; i++) {
		char name[32];
		snprintf(name, sizeof(name), i % 4 == 0 ? "192.0.2.%d" : "name%d.test", i);
		q[i] = resolve_start(r, name, 8080, AF_INET, done_cb, &a[i]);
		assert_non_null(q[i]);
		a[i].started = true;
	}
	for (int i = 0; i < MANY; i += 2)
		resolve_cancel(q[i]);
	assert_true(rig_until(&w, all_done, a));
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(a[i].calls, i % 2);
		assert_true(i % 2 == 0 || (a[i].err == RESOLVE_OK && has(&a[i], "192.0.2.1")));
	}
	resolver_free(r);
	assert_true(rig_open_fds() <= fds);
}

/* Freed with questions under way, some answered but not yet told, some cancelled. */
static void freed_under_way(void **state)
{
	struct resolver *r = new_resolver();
	struct asked a = {.started = true};
	bool never = false;

	(void)state;
	assert_non_null(resolve_start(r, "never.test", 1, AF_UNSPEC, done_cb, &a));
	assert_non_null(resolve_start(r, "192.0.2.1", 1, AF_UNSPEC, done_cb, &a));
	resolve_cancel(resolve_start(r, "never.test", 1, AF_INET, done_cb, &a));
	ev_run(w.loop, EVRUN_NOWAIT | EVRUN_ONCE);
	a.calls = 0; /* the numeric one may have been told */
	resolver_free(r);
	assert_false(rig_until_s(&w, rig_flag, &never, 0.1));
	assert_int_equal(a.calls, 0);
	resolver_free(NULL);
}

/* The owner may free the resolver when it is told. */
struct last_question {
	struct resolver *r;
	bool done;
};

static void free_resolver_cb(void *owner, enum resolve_error err, const struct addr *addrs,
			     unsigned n, unsigned min_ttl_s)
{
	struct last_question *l = owner;

	(void)min_ttl_s;
	resolver_free(l->r);
	assert_int_equal(err, RESOLVE_OK);
	assert_int_equal(n, 1);
	assert_int_equal(addr_family(&addrs[0]), AF_INET);
	l->done = true;
}

static void freed_when_told(void **state)
{
	struct last_question l = {.r = new_resolver()};

	(void)state;
	assert_non_null(resolve_start(l.r, "four.test", 1, AF_INET, free_resolver_cb, &l));
	assert_true(rig_until(&w, rig_flag, &l.done));
}

static void bad_servers(void **state)
{
	struct resolver *r;

	(void)state;
	errno = 0;
	assert_null(resolver_new(&w, "not a server", 0));
	assert_int_equal(errno, EINVAL);
	r = resolver_new(&w, "", 0); /* those of the system */
	assert_non_null(r);
	resolver_free(r);
	r = resolver_new(&w, NULL, 0);
	assert_non_null(r);
	resolver_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numeric),         cmocka_unit_test(hosts_file),
		cmocka_unit_test(by_server),       cmocka_unit_test(failures),
		cmocka_unit_test(asked_again),     cmocka_unit_test(no_search),
		cmocka_unit_test(many_and_cancel), cmocka_unit_test(freed_under_way),
		cmocka_unit_test(freed_when_told), cmocka_unit_test(bad_servers),
	};
	int failed;

	if (!rig_netns())
		return RIG_SKIP;
	if (!server_start(&server) || worker_init(&w, 0, NULL) < 0)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	worker_fini(&w);
	server_stop(&server);
	return failed;
}
