/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/udp_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "core/dgram.h"
#include "core/report.h"

#define TICK_S 1.0

/* ---- towards remote hosts ---- */

/* What the kernel says about datagram i. With the error queue on, an error of an earlier one may
 * be told in its place. */
static void not_sent(struct assoc *a, unsigned i, int err)
{
	struct udp_batch *b = &a->u->out;
	struct udp_error e = {.code = udp_error_of_errno(err)};

	a->dropped++;
	a->u->counters.send_failed++;
	if (e.code == 0 || !a->remote.errors)
		return;
	if (e.code == S6_UDP_ERR_TOO_BIG)
		e.mtu = assoc_read_errors(a);
	if (!a->ended && addr_from_sockaddr(&e.dst, (const struct sockaddr *)&b->names[i],
					    b->msgs[i].msg_hdr.msg_namelen))
		assoc_tell_error(a, &e);
}

/* Errors that tell of an earlier datagram; asking again sends this one. */
static bool is_earlier(const struct assoc *a, int err)
{
	return a->remote.errors &&
	       (err == ECONNREFUSED || err == EHOSTUNREACH || err == ENETUNREACH || err == EPROTO ||
		err == EMSGSIZE || err == EACCES || err == ENOPROTOOPT || err == EHOSTDOWN);
}

static void count_sent(struct assoc *a, unsigned first, unsigned n)
{
	struct udp_counters *c = &a->u->counters;
	size_t bytes = 0;

	for (unsigned i = first; i < first + n; i++)
		bytes += a->u->out.iov[i].iov_len;
	a->up += n;
	c->up += n;
	a->bytes_up += bytes;
	c->bytes_up += bytes;
}

void udp_flush(struct udp *u)
{
	struct udp_batch *b = &u->out;
	struct assoc *a = u->out_of;
	unsigned done = 0, again = 0;

	while (done < b->n && !a->ended) {
		int n = dgram_send(a->remote.fd, b->msgs + done, b->n - done, &a->segments);

		/* Perhaps an error that was waiting is now in the error queue only. */
		a->look_for_errors = a->look_for_errors || n < (int)(b->n - done);
		if (n > 0) {
			count_sent(a, done, (unsigned)n);
			done += (unsigned)n;
			again = 0;
		} else if (errno == EINTR || (again == 0 && is_earlier(a, errno))) {
			again++;
		} else {
			not_sent(a, done, errno);
			done++;
			again = 0;
		}
	}
	b->n = 0;
	u->out_of = NULL;
}

void udp_send(struct assoc *a, const struct addr *dst, const uint8_t *payload, size_t len)
{
	struct udp *u = a->u;
	struct addr name;

	if (u->out_of != a || u->out.n == UDP_BATCH)
		udp_flush(u);
	if (!udp_out_name(&a->remote, dst, &name)) {
		const struct udp_error e = {.dst = *dst, .code = S6_UDP_ERR_NET_UNREACHABLE};

		a->dropped++;
		u->counters.send_failed++;
		assoc_tell_error(a, &e);
		return;
	}
	u->out_of = a;
	udp_batch_add(&u->out, &name, payload, len);
}

/* ---- a worker's whole ---- */

static void tick_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	assoc_expire(container_of(t, struct udp, tick));
}

int udp_open(struct proxy_worker *pw)
{
	struct udp *u = calloc(1, sizeof(*u));
	int rc;

	pw->udp = u;
	if (!u || !assoc_table_init(&u->table) || !udp_batch_init(&u->in)) {
		log_error("cannot set up UDP: out of memory");
		return EX_OSERR;
	}
	u->pw = pw;
	for (int i = 0; i < ASSOC_CLASSES; i++)
		list_init(&u->quiet[i]);
	ev_timer_init(&u->tick, tick_cb, TICK_S, TICK_S);
	rc = udp_ports_open(u);
	return rc;
}

void udp_start(struct udp *u)
{
	struct ev_loop *loop = u->pw->w.loop;

	if (u->leaving)
		return;
	ev_timer_start(loop, &u->tick);
	for (size_t i = 0; i < u->n_ports; i++)
		ev_io_start(loop, &u->ports[i].io);
}

void udp_free(struct udp *u)
{
	if (!u)
		return;
	if (u->pw) {
		ev_timer_stop(u->pw->w.loop, &u->tick);
		udp_ports_close(u);
	}
	udp_batch_fini(&u->in);
	assoc_table_fini(&u->table);
	free(u);
}

uint64_t udp_memory(const struct udp *u)
{
	return u->table.count * sizeof(struct assoc) + assoc_table_memory(&u->table) +
	       assoc_name_memory(u);
}

uint64_t udp_count(const struct udp *u)
{
	return u->table.count;
}

/* ---- reports ---- */

void udp_add_counters(const struct udp *u, struct udp_counters *sum)
{
	const struct udp_counters *c = &u->counters;

	sum->opened += c->opened;
	sum->confirmed += c->confirmed;
	sum->confirmed_tcp += c->confirmed_tcp;
	sum->evicted += c->evicted;
	sum->up += c->up;
	sum->down += c->down;
	sum->bytes_up += c->bytes_up;
	sum->bytes_down += c->bytes_down;
	sum->errors += c->errors;
	sum->malformed += c->malformed;
	sum->unknown_id += c->unknown_id;
	sum->elsewhere += c->elsewhere;
	sum->unproven += c->unproven;
	sum->not_allowed += c->not_allowed;
	sum->unresolved += c->unresolved;
	sum->send_failed += c->send_failed;
	sum->slow_client += c->slow_client;
	sum->too_long += c->too_long;
}

void udp_report(struct report *r, uint64_t associations, uint64_t max,
		const struct udp_counters *sum)
{
	report_object(r, "udp");
	report_u64(r, "associations", associations);
	report_u64(r, "associations_max", max);
	report_u64(r, "opened", sum->opened);
	report_u64(r, "confirmed", sum->confirmed);
	report_u64(r, "confirmed_in_tcp", sum->confirmed_tcp);
	report_u64(r, "evicted", sum->evicted);
	report_u64(r, "datagrams_up", sum->up);
	report_u64(r, "datagrams_down", sum->down);
	report_bytes(r, "bytes_up", sum->bytes_up);
	report_bytes(r, "bytes_down", sum->bytes_down);
	report_u64(r, "errors", sum->errors);
	report_object(r, "dropped");
	report_u64(r, "malformed", sum->malformed);
	report_u64(r, "unknown_id", sum->unknown_id);
	report_u64(r, "from_elsewhere", sum->elsewhere);
	report_u64(r, "unproven_address", sum->unproven);
	report_u64(r, "not_allowed", sum->not_allowed);
	report_u64(r, "unresolved", sum->unresolved);
	report_u64(r, "send_failed", sum->send_failed);
	report_u64(r, "slow_client", sum->slow_client);
	report_u64(r, "too_long", sum->too_long);
	report_end(r);
	report_end(r);
}
