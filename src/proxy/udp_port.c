/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sockets that clients send to. Those of all workers share an address (SO_REUSEPORT), and a
 * filter in the kernel gives each packet to the worker that its association ID names. A packet that
 * comes to another one all the same, as after a restart with other workers, is passed on by mail.
 */
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "core/dgram.h"
#include "core/handover.h"
#include "proxy/udp_priv.h"

#define BUFFER     (4 << 20) /* octets, if we may; else what net.core.rmem_max allows */
#define ID_AT      4         /* the ID's first octet in a message */
#define BATCHES    4   /* in a turn: it is one socket for many, each of whom has one of his own */
#define STRAYS_MAX 256 /* passed on and not taken yet, of one worker */

/* ---- packets that came to the wrong worker ---- */

struct stray {
	struct job job;
	struct job back; /* to be freed by who sent it */
	struct udp *from;
	size_t port; /* the same address is the same number everywhere */
	struct addr peer, at;
	size_t len;
	uint8_t data[];
};

static void take_packet(struct udp_port *p, const struct addr *peer, const struct addr *at,
			const uint8_t *data, size_t len, bool stray);

static void stray_back(struct job *job, struct worker *w)
{
	struct stray *s = container_of(job, struct stray, back);

	(void)w;
	s->from->strays--;
	free(s);
}

static void stray_run(struct job *job, struct worker *w)
{
	struct stray *s = container_of(job, struct stray, job);
	struct udp *u = proxy_worker_of(w)->udp;

	take_packet(&u->ports[s->port], &s->peer, &s->at, s->data, s->len, true);
	udp_flush(u);
	s->back.run = stray_back;
	worker_post(&s->from->pw->w, &s->back);
}

static bool pass_to(struct udp_port *p, unsigned index, const struct addr *peer,
		    const struct addr *at, const uint8_t *data, size_t len)
{
	struct udp *u = p->u;
	struct stray *s;

	if (index == u->pw->w.index || u->leaving || u->strays >= STRAYS_MAX)
		return false;
	s = malloc(sizeof(*s) + len);
	if (!s)
		return false;
	memset(s, 0, sizeof(*s));
	s->job.run = stray_run;
	s->from = u;
	s->port = (size_t)(p - u->ports);
	s->peer = *peer;
	s->at = *at;
	s->len = len;
	memcpy(s->data, data, len);
	u->strays++;
	worker_post(&u->pw->proxy->workers[index].w, &s->job);
	return true;
}

/* ---- from clients ---- */

static void take_message(struct udp_port *p, struct assoc *a, const struct addr *peer,
			 const struct addr *at, const struct s6_udp *msg)
{
	if (a->path == ASSOC_PATH_NONE && !assoc_map(a, p, peer, at))
		return;
	if (a->path == ASSOC_PATH_UDP && a->port == p && addr_equal(&a->peer, peer) &&
	    addr_equal_ip(&a->at, at))
		assoc_datagram(a, msg);
	else
		p->u->counters.elsewhere++;
}

static void take_packet(struct udp_port *p, const struct addr *peer, const struct addr *at,
			const uint8_t *data, size_t len, bool stray)
{
	struct udp *u = p->u;
	struct s6_udp msg;
	struct assoc_node *node;

	if (s6_udp_parse_packet(data, len, &msg, NULL) != S6_OK || msg.type != S6_UDP_DATAGRAM) {
		u->counters.malformed++;
		return;
	}
	node = assoc_table_find(&u->table, msg.association);
	if (node)
		take_message(p, container_of(node, struct assoc, node), peer, at, &msg);
	else if (stray || !pass_to(p, assoc_id_worker(msg.association, u->pw->proxy->n_workers),
				   peer, at, data, len))
		u->counters.unknown_id++;
}

/* False when there were fewer than a batch. */
static bool take_batch(struct udp_port *p)
{
	struct udp_batch *b = &p->u->in;

	if (udp_batch_read(b, p->fd, UDP_BATCH) < 0)
		return false;
	for (unsigned i = 0; i < b->n; i++) {
		struct addr peer, at;
		size_t len;
		const uint8_t *data = udp_batch_packet(b, i, &len);

		if (!udp_batch_sender(b, i, &peer))
			continue;
		udp_batch_came_to(b, i, &at);
		take_packet(p, &peer, &at, data, len, false);
	}
	udp_flush(p->u);
	return b->n == UDP_BATCH;
}

static void port_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct udp_port *p = container_of(io, struct udp_port, io);

	(void)loop;
	(void)events;
	for (int i = 0; i < BATCHES && take_batch(p); i++)
		;
}

/* ---- to clients ---- */

static void address_one(const struct assoc *a, struct msghdr *m, struct addr *name,
			union udp_control *c)
{
	*name = a->peer;
	if (a->port->family == AF_INET6)
		addr_map_v6(name, &a->peer);
	m->msg_name = &name->u;
	m->msg_namelen = name->len;
	m->msg_controllen = udp_control_build(c, a->port->family, &a->at, &a->peer, a->tos, a->ttl);
	m->msg_control = m->msg_controllen ? c : NULL;
}

unsigned udp_port_send(struct assoc *a, unsigned n)
{
	struct udp_batch *b = &a->u->in;
	struct msghdr one = {.msg_iovlen = 1};
	struct addr name;
	union udp_control control;
	unsigned sent = 0;
	int k = 1;

	address_one(a, &one, &name, &control);
	for (unsigned i = 0; i < n; i++) {
		b->msgs[i].msg_hdr = one;
		b->msgs[i].msg_hdr.msg_iov = &b->iov[i];
	}
	while (sent < n && k > 0) {
		k = dgram_send(a->port->fd, b->msgs + sent, n - sent, &a->segments);
		sent += k > 0 ? (unsigned)k : 0;
	}
	return sent;
}

void udp_port_tell(struct assoc *a, const uint8_t *msg, size_t len)
{
	struct iovec iov = {.iov_base = (uint8_t *)(uintptr_t)msg, .iov_len = len};
	struct msghdr one = {.msg_iov = &iov, .msg_iovlen = 1};
	struct addr name;
	union udp_control control;

	address_one(a, &one, &name, &control);
	if (sendmsg(a->port->fd, &one, MSG_DONTWAIT) < 0)
		a->u->counters.slow_client++;
}

/* ---- open and close ---- */

static int set_int(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* The first octet of the ID modulo the number of workers: their sockets are opened in order. The
 * filter sees the packet from behind the UDP header on; one that is shorter goes to the first. */
static void choose_worker(int fd, unsigned workers)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, ID_AT),
		BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, workers),
		BPF_STMT(BPF_RET | BPF_A, 0),
	};
	const struct sock_fprog prog = {sizeof(code) / sizeof(code[0]), code};

	if (workers > 1 &&
	    setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog)) < 0)
		log_debug("UDP: no filter that chooses the worker: %s", strerror(errno));
}

/* It is for all clients of a worker. */
static void enlarge(int fd, int force, int ask)
{
	if (set_int(fd, SOL_SOCKET, force, BUFFER) < 0)
		set_int(fd, SOL_SOCKET, ask, BUFFER);
}

static int add_port(struct udp *u, const struct addr *at)
{
	struct udp_port *p = &u->ports[u->n_ports];
	unsigned workers = daemon_workers(u->pw->conf->workers);
	int fd = inherited_datagram(&u->pw->proxy->inherited, at, u->pw->w.index, workers);

	if (fd < 0) {
		fd = udp_bound_socket(at, true);
		if (fd < 0)
			return fd;
		enlarge(fd, SO_RCVBUFFORCE, SO_RCVBUF);
		enlarge(fd, SO_SNDBUFFORCE, SO_SNDBUF);
	}
	*p = (struct udp_port){.u = u, .addr = *at, .fd = fd, .family = addr_family(at)};
	if (p->family == AF_INET6)
		set_int(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	else
		set_int(fd, IPPROTO_IP, IP_PKTINFO, 1);
	choose_worker(fd, workers);
	ev_io_init(&p->io, port_cb, fd, EV_READ);
	u->n_ports++;
	return 0;
}

/* As for TCP: the workers' sockets would share the port with another proxy's as well. */
static int check_free(const struct udp *u, const struct addr *at)
{
	int fd;

	if (u->pw->w.index > 0 || inherited_has_datagram(&u->pw->proxy->inherited, at))
		return 0;
	fd = udp_bound_socket(at, false);
	if (fd >= 0)
		close(fd);
	return fd < 0 ? fd : 0;
}

int udp_ports_open(struct udp *u)
{
	const struct addr_list *addrs = &u->pw->conf->udp_listen.addrs;
	char text[ADDR_STRLEN];

	if (addrs->n == 0)
		return 0;
	u->ports = calloc(addrs->n, sizeof(*u->ports));
	if (!u->ports)
		return EX_OSERR;
	for (size_t i = 0; i < addrs->n; i++) {
		int rc = check_free(u, &addrs->v[i]);

		if (rc == 0)
			rc = add_port(u, &addrs->v[i]);
		if (rc == 0)
			continue;
		log_error("cannot take UDP at %s: %s%s", addr_str(&addrs->v[i], text, sizeof(text)),
			  strerror(-rc),
			  rc == -EADDRINUSE ? " (is another proxy running? udp_listen can name "
					      "another port, or be \"no\")"
					    : "");
		return rc == -EACCES ? EX_NOPERM : EX_UNAVAILABLE;
	}
	return 0;
}

void udp_ports_close(struct udp *u)
{
	for (size_t i = 0; i < u->n_ports; i++) {
		struct udp_port *p = &u->ports[i];

		if (p->fd < 0)
			continue;
		ev_io_stop(u->pw->w.loop, &p->io);
		close(p->fd);
		p->fd = -1;
	}
	free(u->ports);
	u->ports = NULL;
	u->n_ports = 0;
}

size_t udp_ports(const struct udp *u)
{
	return u->n_ports;
}

size_t udp_fds(const struct udp *u, int *out, size_t cap)
{
	size_t n = 0;

	for (size_t i = 0; i < u->n_ports && n < cap; i++)
		if (u->ports[i].fd >= 0)
			out[n++] = u->ports[i].fd;
	return n;
}

void udp_leave(struct udp *u, bool handed_over)
{
	u->leaving = true;
	if (!handed_over)
		return;
	/* Their datagrams go to the successor from now on, who does not know them. */
	for (size_t i = 0; i < u->n_ports; i++)
		ev_io_stop(u->pw->w.loop, &u->ports[i].io);
	for (int class = 0; class < ASSOC_CLASSES; class ++) {
		struct list_node *n, *tmp;

		list_for_each_safe (&u->quiet[class], n, tmp) {
			struct assoc *a = container_of(n, struct assoc, quiet);

			if (a->path != ASSOC_PATH_TCP)
				assoc_end(a, END_SHUTDOWN, 0);
		}
	}
}
