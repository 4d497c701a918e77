/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/s6glue.h"
#include "core/sock.h"
#include "core/perclient.h"
#include "proxy/udp_priv.h"
#include "proxy/udp_reserve.h"

#define DNS_PORT  53
#define BATCH_TCP 8 /* less at a time where a slow client leaves us with what was read */

/* ---- life ---- */

static void assoc_bury(struct corpse *c)
{
	struct assoc *a = container_of(c, struct assoc, corpse);

	proxy_conf_put(a->conf);
	free(a);
}

void assoc_end(struct assoc *a, enum end_reason reason, int err)
{
	if (!a->ended)
		a->done(a->owner, reason, err); /* which calls assoc_stop */
}

/* The counterpart of its port counts as a connection while nobody has it. */
static void end_reservation(struct assoc *a)
{
	struct proxy *p = a->u->pw->proxy;

	if (a->reserved && udp_reserve_end(p->udp_reserve, a->node.id))
		budget_give(&p->budget);
	a->reserved = false;
}

void assoc_stop(struct assoc *a)
{
	struct udp *u = a->u;

	if (a->ended)
		return;
	a->ended = true;
	if (u->out_of == a) {
		u->out.n = 0;
		u->out_of = NULL;
	}
	assoc_tcp_stop(a);
	assoc_listen(a, false);
	assoc_name_free(a);
	end_reservation(a);
	close(a->remote.fd);
	list_remove(&u->quiet[a->class], &a->quiet);
	assoc_table_remove(&u->table, &a->node);
	assoc_give_place(a);
	a->corpse.bury = assoc_bury;
	worker_bury(&u->pw->w, &a->corpse);
}

static bool take_id(struct assoc *a)
{
	struct udp *u = a->u;
	uint64_t random;

	do {
		if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
			return false;
		a->node.id = assoc_id_make(random, u->pw->w.index, u->pw->proxy->n_workers);
	} while (!assoc_table_add(&u->table, &a->node));
	return true;
}

/* Of the packets to the client by plain UDP. Whether these may be fragmented is the same for all
 * clients of the socket: they may. */
static void client_leg(struct assoc *a, const struct s6_stack *wish, struct s6_stack *answer)
{
	a->tos = a->ttl = -1;
	if (s6_stack_has(wish, S6_STACK_TOS_CLIENT)) {
		a->tos = wish->value[S6_STACK_TOS_CLIENT];
		s6_stack_set(answer, S6_STACK_TOS_CLIENT, (uint16_t)a->tos);
	}
	if (s6_stack_has(wish, S6_STACK_TTL_CLIENT) && wish->value[S6_STACK_TTL_CLIENT] > 0) {
		a->ttl = wish->value[S6_STACK_TTL_CLIENT];
		s6_stack_set(answer, S6_STACK_TTL_CLIENT, (uint16_t)a->ttl);
	}
	if (s6_stack_has(wish, S6_STACK_NO_FRAG_CLIENT))
		s6_stack_set(answer, S6_STACK_NO_FRAG_CLIENT, S6_AVAIL_NO);
}

/* The socket that keeps the counterpart needs a descriptor. */
static void keep_spare(struct assoc *a, const uint8_t *session)
{
	struct proxy *p = a->u->pw->proxy;
	struct udp_out *o = &a->remote;

	if (o->taken) /* it counts as this association's from now on */
		budget_give(&p->budget);
	if (o->spare < 0)
		return;
	if (budget_take(&p->budget, &a->u->pw->w)) {
		a->reserved = udp_reserve_put(p->udp_reserve, a->node.id, &o->spare_at, session,
					      o->spare);
		if (!a->reserved)
			budget_give(&p->budget);
	}
	if (!a->reserved) {
		close(o->spare);
		o->answer.value[S6_STACK_PORT_PARITY] &= 0xff00;
	}
	o->spare = -1;
}

static enum end_reason reason_of(int err)
{
	return err == EACCES || err == EPERM ? END_NOT_ALLOWED : END_CONNECT_FAILED;
}

static bool open_remote(struct assoc *a, const struct assoc_wish *wish, const struct addr *bind,
			struct assoc_result *result)
{
	const struct udp_out_wish out = {.bind = bind,
					 .stack = wish->stack,
					 .reserve = a->u->pw->proxy->udp_reserve,
					 .session = wish->session};
	int rc = udp_out_open(&a->remote, &out);

	if (rc == 0)
		return true;
	result->err = -rc;
	result->code = s6glue_reply_of_errno(-rc);
	result->reason = reason_of(-rc);
	return false;
}

static void io_cb(struct ev_loop *loop, ev_io *io, int events);

/* The wished address, if it is one to bind to. */
static bool bind_wish(const struct assoc *a, const struct assoc_wish *wish, struct addr *bind,
		      struct assoc_result *result)
{
	if (!s6glue_to_addr(bind, wish->bind)) {
		result->code = S6_REPLY_ADDR_UNSUPPORTED;
		result->reason = END_UNSUPPORTED;
		return false;
	}
	if (addr_is_any(bind) || acl_allows(&a->conf->acl, bind))
		return true;
	result->code = S6_REPLY_NOT_ALLOWED;
	result->reason = END_NOT_ALLOWED;
	return false;
}

/* All that may fail. */
static bool begin(struct assoc *a, const struct assoc_wish *wish, struct assoc_result *result)
{
	struct addr bind;

	if (!bind_wish(a, wish, &bind, result))
		return false;
	if (!assoc_take_place(a)) {
		result->code = S6_REPLY_FAILURE;
		result->reason = END_LIMIT;
		return false;
	}
	if (!open_remote(a, wish, &bind, result)) {
		assoc_give_place(a);
		return false;
	}
	if (take_id(a))
		return true;
	if (a->remote.spare >= 0)
		close(a->remote.spare);
	close(a->remote.fd);
	assoc_give_place(a);
	return false;
}

/* A message that has nothing but the ID. */
static void build_short(const struct assoc *a, uint8_t type, uint8_t out[S6_UDP_HEADER])
{
	const struct s6_udp msg = {.type = type, .association = a->node.id};
	size_t len;

	s6_udp_build(&msg, out, S6_UDP_HEADER, &len); /* fits */
}

struct assoc *assoc_open(struct proxy_worker *pw, const struct assoc_wish *wish,
			 struct assoc_result *result, assoc_done_fn *done, void *owner)
{
	struct assoc *a = calloc(1, sizeof(*a));
	struct udp *u = pw->udp;

	*result = (struct assoc_result){.code = S6_REPLY_FAILURE, .reason = END_NO_MEMORY};
	if (!a)
		return NULL;
	a->u = u;
	a->conf = proxy_conf_get(pw->conf);
	a->done = done;
	a->owner = owner;
	a->tcp = -1;
	a->segments = true;
	a->tcp_peer = *wish->peer;
	a->user = wish->user;
	if (!begin(a, wish, result)) {
		proxy_conf_put(a->conf);
		free(a);
		return NULL;
	}
	a->active = worker_now(&pw->w);
	list_push(&u->quiet[ASSOC_NEW], &a->quiet);
	u->counters.opened++;
	keep_spare(a, wish->session);
	ev_io_init(&a->io, io_cb, a->remote.fd, EV_READ);
	client_leg(a, wish->stack, &a->remote.answer);
	*result = (struct assoc_result){
		.code = S6_REPLY_SUCCESS, .bind = a->remote.at, .stack = a->remote.answer};
	build_short(a, S6_UDP_INIT, result->init);
	return a;
}

void assoc_run(struct assoc *a, int fd, struct buf *in, struct sndlimit *limit)
{
	a->tcp = fd;
	a->limit = limit;
	a->in = in;
	assoc_tcp_start(a);
}

void assoc_facts(const struct assoc *a, struct assoc_facts *f)
{
	static const char *const words[] = {"none", "tcp", "udp"};

	*f = (struct assoc_facts){.bind = &a->remote.at,
				  .path = words[a->path],
				  .up = a->up,
				  .down = a->down,
				  .bytes_up = a->bytes_up,
				  .bytes_down = a->bytes_down,
				  .errors = a->errors,
				  .dropped = a->dropped};
}

/* ---- from the client ---- */

static bool comes_from(const struct assoc *a, const struct addr *from)
{
	struct addr remotes[SOCK_SUBFLOWS_MAX], key = perclient_key(from);
	unsigned n = sock_remotes(a->tcp, remotes);

	for (unsigned i = 0; i < n; i++) {
		struct addr theirs = perclient_key(&remotes[i]);

		if (addr_equal_ip(&theirs, &key))
			return true;
	}
	return false;
}

bool assoc_map(struct assoc *a, struct udp_port *port, const struct addr *peer,
	       const struct addr *at)
{
	struct udp_counters *c = &a->u->counters;
	char text[ADDR_STRLEN], tcp[ADDR_STRLEN];
	uint8_t confirm[S6_UDP_HEADER];

	if (port && !comes_from(a, peer)) {
		c->unproven++;
		log_limited(&a->u->limit_unproven, 5, LVL_NOTICE,
			    "client %s: a first datagram came from %s, where its TCP connection "
			    "does not; it is dropped (a client behind such a NAT can use UDP "
			    "inside TCP)",
			    addr_str(&a->tcp_peer, tcp, sizeof(tcp)),
			    addr_str(peer, text, sizeof(text)));
		return false;
	}
	a->path = port ? ASSOC_PATH_UDP : ASSOC_PATH_TCP;
	a->port = port;
	if (port) {
		a->peer = *peer;
		a->at = *at;
	}
	c->confirmed++;
	c->confirmed_tcp += port == NULL;
	udp_out_drain(a->remote.fd); /* what came before is not relayed */
	build_short(a, S6_UDP_CONFIRM, confirm);
	if (!assoc_tcp_tell(a, confirm, sizeof(confirm))) {
		assoc_end(a, END_RESET_DOWN, errno);
		return false;
	}
	assoc_listen(a, true);
	return true;
}

/* A client that reaches ourselves through us would go round in circles. */
static bool is_ours(const struct udp *u, const struct addr *dst)
{
	for (size_t i = 0; i < u->n_ports; i++)
		if (addr_port(&u->ports[i].addr) == addr_port(dst))
			return addr_is_local(dst);
	return false;
}

bool assoc_allows(struct assoc *a, const struct addr *dst)
{
	if (!addr_equal(dst, &a->last)) {
		a->last = *dst;
		a->last_allowed = addr_port(dst) > 0 && !addr_is_any(dst) &&
				  acl_allows(&a->conf->acl, dst) && !is_ours(a->u, dst);
	}
	return a->last_allowed;
}

void assoc_datagram(struct assoc *a, const struct s6_udp *msg)
{
	struct addr dst;

	a->dns = a->dns || msg->addr.port == DNS_PORT;
	a->not_dns = a->not_dns || (msg->addr.port > 0 && msg->addr.port != DNS_PORT);
	assoc_stir(a, a->dns && !a->not_dns ? ASSOC_DNS : ASSOC_OTHER);
	if (msg->addr.port == 0 && msg->payload_len == 0)
		return; /* for the confirmation only, or to keep a NAT open */
	if (!s6glue_to_addr(&dst, &msg->addr)) {
		assoc_name_send(a, &msg->addr, msg->payload, msg->payload_len);
	} else if (assoc_allows(a, &dst)) {
		udp_send(a, &dst, msg->payload, msg->payload_len);
	} else {
		a->dropped++;
		a->u->counters.not_allowed++;
	}
}

/* ---- from remote hosts ---- */

void assoc_listen(struct assoc *a, bool on)
{
	if (on)
		ev_io_start(a->u->pw->w.loop, &a->io);
	else
		ev_io_stop(a->u->pw->w.loop, &a->io);
}

/* "Too big" is for IPv6, says the draft; but a client that forbids fragments has to know in any
 * case. Without that wish the kernel makes IPv4 fragments next time. */
static bool is_worth_telling(const struct assoc *a, const struct udp_error *e)
{
	const struct s6_stack *s = &a->remote.answer;

	if (e->code != S6_UDP_ERR_TOO_BIG || addr_family(&e->dst) == AF_INET6)
		return e->code != 0;
	return s6_stack_has(s, S6_STACK_NO_FRAG_REMOTE) &&
	       s->value[S6_STACK_NO_FRAG_REMOTE] == S6_AVAIL_YES;
}

void assoc_tell_error(struct assoc *a, const struct udp_error *e)
{
	struct s6_udp msg = {.type = S6_UDP_ERROR,
			     .association = a->node.id,
			     .error = e->code,
			     .mtu = e->code == S6_UDP_ERR_TOO_BIG ? e->mtu : 0};
	struct addr self = e->reporter;
	uint8_t out[S6_UDP_ERROR_MAX];
	size_t len;

	if (!a->remote.errors || a->path == ASSOC_PATH_NONE || !is_worth_telling(a, e))
		return;
	if (addr_family(&self) == AF_UNSPEC && sock_source(&e->dst, 0, &self) < 0)
		self = a->remote.at; /* it was this machine, which has no way there */
	s6glue_from_addr(&msg.addr, &e->dst);
	s6glue_from_addr(&msg.reporter, &self);
	if (s6_udp_build(&msg, out, sizeof(out), &len) != S6_OK)
		return;
	a->errors++;
	a->u->counters.errors++;
	if (a->path == ASSOC_PATH_UDP)
		udp_port_tell(a, out, len);
	else
		assoc_tcp_tell(a, out, len);
}

/* The packets that were read as Datagram messages, in place, and how long their payload is. How
 * many. */
static unsigned wrap(struct assoc *a, size_t payload[UDP_BATCH])
{
	struct udp_batch *b = &a->u->in;
	struct s6_udp msg = {.type = S6_UDP_DATAGRAM, .association = a->node.id};
	uint8_t header[UDP_HEADROOM];
	unsigned n = 0;

	for (unsigned i = 0; i < b->n; i++) {
		struct addr from;
		size_t len, header_len;

		udp_batch_packet(b, i, &len);
		if (len > UINT16_MAX || !udp_batch_sender(b, i, &from))
			continue;
		s6glue_from_addr(&msg.addr, &from);
		msg.payload_len = (uint16_t)len;
		if (s6_udp_build(&msg, header, sizeof(header), &header_len) != S6_OK) {
			a->dropped++;
			a->u->counters.too_long++;
			continue;
		}
		udp_batch_put_header(b, n, i, header, header_len);
		payload[n++] = len;
	}
	return n;
}

uint32_t assoc_read_errors(struct assoc *a)
{
	struct udp_error e;
	uint32_t mtu = 0;

	for (int i = 0; i < UDP_BATCH && !a->ended && udp_error_next(a->remote.fd, &e); i++) {
		if (e.local)
			mtu = e.mtu;
		else
			assoc_tell_error(a, &e);
	}
	return mtu;
}

static void pass_on(struct assoc *a)
{
	struct udp_counters *c = &a->u->counters;
	size_t payload[UDP_BATCH], bytes = 0;
	unsigned n = wrap(a, payload), sent;

	if (n == 0)
		return;
	assoc_stir(a, a->class);
	sent = a->path == ASSOC_PATH_UDP ? udp_port_send(a, n) : assoc_tcp_send(a, n);
	for (unsigned i = 0; i < sent; i++)
		bytes += payload[i];
	a->down += sent;
	c->down += sent;
	a->bytes_down += bytes;
	c->bytes_down += bytes;
	a->dropped += n - sent;
	c->slow_client += n - sent;
}

static void read_errors(struct assoc *a)
{
	if (a->remote.errors)
		assoc_read_errors(a);
}

static void io_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct assoc *a = container_of(io, struct assoc, io);
	unsigned max = a->path == ASSOC_PATH_TCP ? BATCH_TCP : UDP_BATCH;
	int rc;

	(void)loop;
	(void)events;
	if (a->look_for_errors) {
		a->look_for_errors = false;
		read_errors(a);
	}
	if (a->ended || !ev_is_active(io))
		return;
	rc = udp_batch_read(&a->u->in, a->remote.fd, max);
	if (rc == 0)
		pass_on(a);
	else
		read_errors(
			a); /* which have woken us, or are told in place of what could be read */
}
