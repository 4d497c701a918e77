/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/resolve.h"

#include <ares.h>
#include <errno.h>
#include <ev.h>
#include <limits.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/list.h"
#include "core/worker.h"

#define TIMEOUT_MS    2000 /* for the first try of a server */
#define TRIES         3
#define TTL_NUMERIC_S UINT_MAX

/* A socket that c-ares waits for. */
struct watch {
	struct list_node node;
	struct resolver *r;
	ev_io io;
};

struct resolver {
	struct worker *w;
	ares_channel channel; /* made for the first name: it is large */
	bool ready;           /* it is */
	struct list watches;
	struct list queries;
	ev_timer timer; /* c-ares' own time limits */
	uint32_t mark;
	bool closing;
};

struct resolve {
	struct list_node node;
	struct resolver *r;
	resolve_done_fn *done; /* one of the two; both are NULL once cancelled */
	resolve_sent_fn *sent;
	void *owner;
	uint16_t port;
	bool pending; /* c-ares still has it */
	enum resolve_error err;
	struct addr addrs[RESOLVE_MAX];
	unsigned n, min_ttl_s;
	uint8_t *msg; /* for sent */
	size_t msg_len;
	ev_timer deliver; /* answers are given in a turn of their own */
};

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void library_init(void)
{
	ares_library_init(ARES_LIB_INIT_ALL);
}

/* ---- c-ares on the loop ---- */

static void rearm(struct resolver *r)
{
	struct timeval tv, *left = ares_timeout(r->channel, NULL, &tv);

	ev_timer_stop(r->w->loop, &r->timer);
	if (!left)
		return;
	ev_timer_set(&r->timer, (double)left->tv_sec + (double)left->tv_usec / 1e6 + 0.001, 0.);
	ev_timer_start(r->w->loop, &r->timer);
}

static void io_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct watch *watch = container_of(io, struct watch, io);
	struct resolver *r = watch->r;
	ares_socket_t fd = io->fd;

	(void)loop; /* the watch may be gone after this call */
	ares_process_fd(r->channel, events & EV_READ ? fd : ARES_SOCKET_BAD,
			events & EV_WRITE ? fd : ARES_SOCKET_BAD);
	rearm(r);
}

static void timer_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct resolver *r = container_of(t, struct resolver, timer);

	(void)loop;
	(void)events;
	ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	rearm(r);
}

static struct watch *find_watch(struct resolver *r, ares_socket_t fd)
{
	struct list_node *n, *tmp;

	list_for_each_safe (&r->watches, n, tmp) {
		struct watch *watch = container_of(n, struct watch, node);
		if (watch->io.fd == fd)
			return watch;
	}
	return NULL;
}

static void state_cb(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct resolver *r = arg;
	struct watch *watch = find_watch(r, fd);
	int events = (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0);

	if (watch)
		ev_io_stop(r->w->loop, &watch->io);
	if (!events) {
		if (watch) {
			list_remove(&r->watches, &watch->node);
			free(watch);
		}
		return;
	}
	if (!watch) {
		watch = calloc(1, sizeof(*watch));
		if (!watch)
			return; /* the query then ends by its time limit */
		watch->r = r;
		ev_init(&watch->io, io_cb);
		list_push(&r->watches, &watch->node);
	}
	ev_io_set(&watch->io, fd, events);
	ev_io_start(r->w->loop, &watch->io);
}

static int socket_cb(ares_socket_t fd, int type, void *arg)
{
	const struct resolver *r = arg;

	(void)type;
	if (r->mark)
		setsockopt(fd, SOL_SOCKET, SO_MARK, &r->mark, sizeof(r->mark));
	return 0;
}

/* False with errno. */
static bool get_ready(struct resolver *r)
{
	/* No search domains: a name from the wire is complete, and must not become another one. */
	struct ares_options options = {.timeout = TIMEOUT_MS, .tries = TRIES, .ndomains = 0};
	int rc;

	if (r->ready)
		return true;
	pthread_once(&library_once, library_init);
	options.sock_state_cb = state_cb;
	options.sock_state_cb_data = r;
	rc = ares_init_options(&r->channel, &options,
			       ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_DOMAINS |
				       ARES_OPT_SOCK_STATE_CB);
	if (rc != ARES_SUCCESS) {
		errno = rc == ARES_ENOMEM ? ENOMEM : EIO;
		return false;
	}
	ares_set_socket_configure_callback(r->channel, socket_cb, r);
	r->ready = true;
	return true;
}

struct resolver *resolver_new(struct worker *w, const char *servers, uint32_t mark)
{
	struct resolver *r = calloc(1, sizeof(*r));
	bool named = servers && *servers;
	int err;

	if (!r)
		return NULL;
	r->w = w;
	r->mark = mark;
	list_init(&r->watches);
	list_init(&r->queries);
	ev_init(&r->timer, timer_cb);
	if (!named)
		return r;
	if (!get_ready(r))
		err = errno;
	else
		err = ares_set_servers_ports_csv(r->channel, servers) == ARES_SUCCESS ? 0 : EINVAL;
	if (err == 0)
		return r;
	resolver_free(r);
	errno = err;
	return NULL;
}

/* ---- queries ---- */

static void query_free(struct resolve *q)
{
	ev_timer_stop(q->r->w->loop, &q->deliver);
	list_remove(&q->r->queries, &q->node);
	free(q->msg);
	free(q);
}

void resolver_free(struct resolver *r)
{
	struct list_node *n;

	if (!r)
		return;
	r->closing = true;
	if (r->ready)
		ares_destroy(r->channel); /* answers every query with ARES_EDESTRUCTION */
	while ((n = list_first(&r->queries)))
		query_free(container_of(n, struct resolve, node));
	ev_timer_stop(r->w->loop, &r->timer);
	free(r);
}

static void deliver_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct resolve *q = container_of(t, struct resolve, deliver);
	struct resolve answer = *q; /* done may free the resolver */

	(void)loop;
	(void)events;
	q->msg = NULL;
	query_free(q);
	if (answer.done)
		answer.done(answer.owner, answer.err, answer.addrs, answer.n, answer.min_ttl_s);
	else
		answer.sent(answer.owner, answer.msg, answer.msg_len);
	free(answer.msg);
}

static void deliver_soon(struct resolve *q)
{
	ev_timer_init(&q->deliver, deliver_cb, 0., 0.);
	ev_timer_start(q->r->w->loop, &q->deliver);
}

static enum resolve_error error_of(int status)
{
	switch (status) {
	case ARES_SUCCESS:
		return RESOLVE_OK;
	case ARES_ENOTFOUND:
	case ARES_ENODATA:
	case ARES_EBADNAME:
		return RESOLVE_NO_NAME;
	case ARES_ETIMEOUT:
	case ARES_ECONNREFUSED:
	case ARES_ESERVFAIL:
	case ARES_EREFUSED:
		return RESOLVE_TEMPORARY;
	default:
		return RESOLVE_FAILED;
	}
}

static void keep_answer(struct resolve *q, const struct ares_addrinfo *answer)
{
	for (const struct ares_addrinfo_node *n = answer->nodes; n && q->n < RESOLVE_MAX;
	     n = n->ai_next) {
		struct addr *a = &q->addrs[q->n];
		unsigned ttl = n->ai_ttl > 0 ? (unsigned)n->ai_ttl : 0;

		if (!addr_from_sockaddr(a, n->ai_addr, (socklen_t)n->ai_addrlen))
			continue;
		addr_set_port(a, q->port);
		if (ttl < q->min_ttl_s)
			q->min_ttl_s = ttl;
		q->n++;
	}
}

static void answer_cb(void *arg, int status, int timeouts, struct ares_addrinfo *answer)
{
	struct resolve *q = arg;

	(void)timeouts;
	q->pending = false;
	if (answer) {
		keep_answer(q, answer);
		ares_freeaddrinfo(answer);
	}
	if (q->r->closing)
		return; /* resolver_free frees it */
	if (!q->done) {
		query_free(q);
		return;
	}
	q->err = error_of(status);
	if (q->err == RESOLVE_OK && q->n == 0)
		q->err = RESOLVE_NO_NAME;
	deliver_soon(q);
}

/* NULL = out of memory. */
static struct resolve *query_new(struct resolver *r, void *owner)
{
	struct resolve *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->r = r;
	q->owner = owner;
	ev_init(&q->deliver, deliver_cb);
	list_push(&r->queries, &q->node);
	return q;
}

struct resolve *resolve_start(struct resolver *r, const char *name, uint16_t port, int family,
			      resolve_done_fn *done, void *owner)
{
	struct ares_addrinfo_hints hints = {.ai_family = family, .ai_socktype = SOCK_STREAM};
	struct resolve *q = query_new(r, owner);

	if (!q)
		return NULL;
	q->done = done;
	q->port = port;
	q->min_ttl_s = TTL_NUMERIC_S;
	if (addr_parse_ip(&q->addrs[0], name)) {
		/* c-ares would ask servers for the name "1.2.3.4" when the family differs */
		if (family == AF_UNSPEC || family == addr_family(&q->addrs[0])) {
			addr_set_port(&q->addrs[0], port);
			q->n = 1;
		} else {
			q->err = RESOLVE_NO_NAME;
		}
		deliver_soon(q);
		return q;
	}
	if (!get_ready(r)) {
		q->err = RESOLVE_FAILED;
		deliver_soon(q);
		return q;
	}
	q->pending = true;
	ares_getaddrinfo(r->channel, name, NULL, &hints, answer_cb, q);
	rearm(r);
	return q;
}

static void sent_cb(void *arg, int status, int timeouts, unsigned char *msg, int len)
{
	struct resolve *q = arg;

	(void)timeouts;
	(void)status; /* with a message there is an answer, whatever c-ares thinks of it */
	q->pending = false;
	if (q->r->closing)
		return; /* resolver_free frees it */
	if (!q->sent) {
		query_free(q);
		return;
	}
	if (msg && len > 0)
		q->msg = malloc((size_t)len);
	if (q->msg) {
		memcpy(q->msg, msg, (size_t)len);
		q->msg_len = (size_t)len;
	}
	deliver_soon(q);
}

struct resolve *resolve_send(struct resolver *r, const uint8_t *msg, size_t len,
			     resolve_sent_fn *done, void *owner)
{
	struct resolve *q = query_new(r, owner);

	if (!q)
		return NULL;
	q->sent = done;
	if (!get_ready(r)) {
		deliver_soon(q);
		return q;
	}
	q->pending = true;
	ares_send(r->channel, msg, (int)len, sent_cb, q);
	rearm(r);
	return q;
}

void resolve_cancel(struct resolve *q)
{
	if (!q->pending) {
		query_free(q);
		return;
	}
	q->done = NULL; /* c-ares keeps it until it has its answer */
	q->sent = NULL;
}

static bool is_one_of(const struct ares_addr_port_node *server, const struct addr *v, size_t n)
{
	int port = server->udp_port ? server->udp_port : 53;
	struct addr a = {0};

	if (server->family == AF_INET6) {
		struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

		memcpy(&in6.sin6_addr, &server->addr.addr6, sizeof(in6.sin6_addr));
		addr_from_sockaddr(&a, (const struct sockaddr *)&in6, sizeof(in6));
	} else {
		const struct sockaddr_in in = {.sin_family = AF_INET,
					       .sin_addr = server->addr.addr4};

		addr_from_sockaddr(&a, (const struct sockaddr *)&in, sizeof(in));
	}
	for (size_t i = 0; i < n; i++)
		if (addr_port(&v[i]) == port &&
		    (addr_equal_ip(&v[i], &a) ||
		     (addr_is_any(&v[i]) &&
		      (addr_classify(&a) == ADDR_LOOPBACK || addr_is_local(&a)))))
			return true;
	return false;
}

unsigned resolver_avoid(struct resolver *r, const struct addr *v, size_t n)
{
	struct ares_addr_port_node *all = NULL, *gone = NULL, **at = &all, *s;
	unsigned count = 0;

	if (!get_ready(r) || ares_get_servers_ports(r->channel, &all) != ARES_SUCCESS)
		return 0;
	while ((s = *at)) {
		if (is_one_of(s, v, n)) {
			*at = s->next;
			s->next = gone;
			gone = s;
		} else {
			at = &s->next;
			count++;
		}
	}
	if (gone)
		ares_set_servers_ports(r->channel, all);
	ares_free_data(all);
	ares_free_data(gone);
	return count;
}

const char *resolve_error_str(enum resolve_error err)
{
	switch (err) {
	case RESOLVE_OK:
		return "no error";
	case RESOLVE_NO_NAME:
		return "no such name";
	case RESOLVE_TEMPORARY:
		return "no answer from the name servers";
	case RESOLVE_FAILED:
		break;
	}
	return "name resolution failed";
}
