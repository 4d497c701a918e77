/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/nfqueue.h"

#include "config.h"

#include <errno.h>

#ifdef HAVE_NFQUEUE

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>

#include "core/list.h"
#include "core/log.h"
#include "core/worker.h"
#include "redir/netlink.h"

#define RECEIVE_BUFFER (4 << 20) /* octets; a burst of SYNs must not be lost */
#define DATAGRAM_MAX   16384
#define TURN_MAX       256 /* packets read before others have their turn */
#define REPLY_LIMIT_S  2

struct nfqueue {
	struct mnl_socket *sock;
	struct worker *w;
	ev_io io;
	uint16_t number;
	bool opened;
	int answer; /* to the request that opens it */
	nfqueue_fn *fn;
	void *ctx;
	atomic_uint_fast64_t packets, accepted, dropped, errors;
	NETLINK_BUF(buf, DATAGRAM_MAX);
};

static struct nlmsghdr *begin(void *buf, const struct nfqueue *q, uint8_t msg)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nf = mnl_nlmsg_put_extra_header(nlh, sizeof(*nf));

	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_QUEUE << 8 | msg);
	nlh->nlmsg_flags = NLM_F_REQUEST;
	nf->nfgen_family = AF_UNSPEC;
	nf->version = NFNETLINK_V0;
	nf->res_id = htons(q->number);
	return nlh;
}

/* ---- verdicts: one send, so from any thread ---- */

static bool tell(struct nfqueue *q, struct nlmsghdr *nlh)
{
	ssize_t n;

	do
		n = mnl_socket_sendto(q->sock, nlh, nlh->nlmsg_len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		atomic_fetch_add(&q->errors, 1);
	return n >= 0;
}

void nfqueue_accept(struct nfqueue *q, uint32_t id, uint32_t mark)
{
	NETLINK_BUF(buf, 256);
	struct nlmsghdr *nlh = begin(buf, q, NFQNL_MSG_VERDICT);

	nfq_nlmsg_verdict_put(nlh, (int)id, NF_ACCEPT);
	nfq_nlmsg_verdict_put_mark(nlh, mark);
	if (tell(q, nlh))
		atomic_fetch_add(&q->accepted, 1);
}

void nfqueue_drop(struct nfqueue *q, uint32_t id)
{
	NETLINK_BUF(buf, 256);
	struct nlmsghdr *nlh = begin(buf, q, NFQNL_MSG_VERDICT);

	nfq_nlmsg_verdict_put(nlh, (int)id, NF_DROP);
	if (tell(q, nlh))
		atomic_fetch_add(&q->dropped, 1);
}

/* ---- packets ---- */

static int got_message(const struct nlmsghdr *nlh, void *data)
{
	struct nfqueue *q = data;
	struct nlattr *tb[NFQA_MAX + 1] = {0};
	const struct nfqnl_msg_packet_hdr *head;
	struct nfqueue_packet p = {0};

	if (nlh->nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET))
		return MNL_CB_OK;
	if (nfq_nlmsg_parse(nlh, tb) < 0 || !tb[NFQA_PACKET_HDR] ||
	    mnl_attr_get_payload_len(tb[NFQA_PACKET_HDR]) < sizeof(*head)) {
		atomic_fetch_add(&q->errors, 1);
		return MNL_CB_OK;
	}
	head = mnl_attr_get_payload(tb[NFQA_PACKET_HDR]);
	p.id = ntohl(head->packet_id);
	p.mark = netlink_be32(tb[NFQA_MARK]);
	if (tb[NFQA_PAYLOAD]) {
		p.data = mnl_attr_get_payload(tb[NFQA_PAYLOAD]);
		p.len = mnl_attr_get_payload_len(tb[NFQA_PAYLOAD]);
	}
	atomic_fetch_add(&q->packets, 1);
	if (q->opened)
		q->fn(q->ctx, &p);
	else
		nfqueue_accept(q, p.id, p.mark);
	return MNL_CB_OK;
}

/* An answer to the request that opens the queue, or to a verdict: those are not acknowledged, so
 * that is always an error, such as ENOENT for a packet that has gone. */
static int got_answer(const struct nlmsghdr *nlh, void *data)
{
	struct nfqueue *q = data;
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);

	if (nlh->nlmsg_len < mnl_nlmsg_size(sizeof(*e)))
		return MNL_CB_OK;
	if (!q->opened)
		q->answer = e->error;
	else
		atomic_fetch_add(&q->errors, 1);
	return MNL_CB_OK;
}

/* One datagram: false when there is none. */
static bool receive(struct nfqueue *q, int flags)
{
	mnl_cb_t control[NLMSG_MIN_TYPE] = {[NLMSG_ERROR] = got_answer};
	ssize_t n = recv(mnl_socket_get_fd(q->sock), q->buf, sizeof(q->buf), flags);

	if (n <= 0)
		return n < 0 && errno == EINTR;
	mnl_cb_run2(q->buf, (size_t)n, 0, 0, got_message, q, control, NLMSG_MIN_TYPE);
	return true;
}

static void readable_cb(struct ev_loop *loop, ev_io *io, int events)
{
	struct nfqueue *q = container_of(io, struct nfqueue, io);

	(void)loop;
	(void)events;
	for (int i = 0; i < TURN_MAX && receive(q, MSG_DONTWAIT); i++)
		continue;
}

/* ---- opening ---- */

static int sock_open(struct nfqueue *q)
{
	const struct timeval limit = {.tv_sec = REPLY_LIMIT_S};
	int on = 1, size = RECEIVE_BUFFER, fd;

	q->sock = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (!q->sock)
		return -errno;
	fd = mnl_socket_get_fd(q->sock);
	if (mnl_socket_bind(q->sock, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
		return -errno;
	/* Losing a packet is told by its sender's retransmission; an error would tell us nothing. */
	mnl_socket_setsockopt(q->sock, NETLINK_NO_ENOBUFS, &on, sizeof(on));
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	return 0;
}

/* All in one message: no packet comes before the queue is as it shall be. */
static int bind_queue(struct nfqueue *q, const struct nfqueue_conf *c)
{
	NETLINK_BUF(buf, 512);
	struct nlmsghdr *nlh = begin(buf, q, NFQNL_MSG_CONFIG);

	nlh->nlmsg_flags |= NLM_F_ACK;
	nfq_nlmsg_cfg_put_cmd(nlh, AF_UNSPEC, NFQNL_CFG_CMD_BIND);
	nfq_nlmsg_cfg_put_params(nlh, NFQNL_COPY_PACKET, c->range);
	nfq_nlmsg_cfg_put_qmaxlen(nlh, c->max);
	mnl_attr_put_u32(nlh, NFQA_CFG_MASK, htonl(NFQA_CFG_F_FAIL_OPEN));
	mnl_attr_put_u32(nlh, NFQA_CFG_FLAGS, htonl(c->fail_open ? NFQA_CFG_F_FAIL_OPEN : 0));
	if (mnl_socket_sendto(q->sock, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	q->answer = 1; /* none yet */
	while (q->answer > 0)
		if (!receive(q, 0))
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return q->answer == -EINVAL ? -EOPNOTSUPP : q->answer;
}

int nfqueue_open(struct nfqueue **out, struct worker *w, const struct nfqueue_conf *c,
		 nfqueue_fn *fn, void *ctx)
{
	struct nfqueue *q = calloc(1, sizeof(*q));
	int rc;

	*out = NULL;
	if (!q)
		return -ENOMEM;
	q->w = w;
	q->number = c->number;
	q->fn = fn;
	q->ctx = ctx;
	ev_init(&q->io, readable_cb);
	rc = sock_open(q);
	if (rc == 0)
		rc = bind_queue(q, c);
	if (rc < 0) {
		nfqueue_close(q);
		return rc;
	}
	q->opened = true;
	ev_io_set(&q->io, mnl_socket_get_fd(q->sock), EV_READ);
	ev_io_start(w->loop, &q->io);
	*out = q;
	return 0;
}

void nfqueue_close(struct nfqueue *q)
{
	if (!q)
		return;
	ev_io_stop(q->w->loop, &q->io);
	if (q->sock)
		mnl_socket_close(q->sock);
	free(q);
}

void nfqueue_count(const struct nfqueue *q, struct nfqueue_counts *out)
{
	*out = (struct nfqueue_counts){
		.packets = atomic_load(&q->packets),
		.accepted = atomic_load(&q->accepted),
		.dropped = atomic_load(&q->dropped),
		.errors = atomic_load(&q->errors),
	};
}

#else

int nfqueue_open(struct nfqueue **out, struct worker *w, const struct nfqueue_conf *c,
		 nfqueue_fn *fn, void *ctx)
{
	(void)w;
	(void)c;
	(void)fn;
	(void)ctx;
	*out = NULL;
	return -ENOSYS;
}

/* There is never one of these. */
void nfqueue_close(struct nfqueue *q)
{
	(void)q;
}

void nfqueue_accept(struct nfqueue *q, uint32_t id, uint32_t mark)
{
	(void)q;
	(void)id;
	(void)mark;
}

void nfqueue_drop(struct nfqueue *q, uint32_t id)
{
	(void)q;
	(void)id;
}

void nfqueue_count(const struct nfqueue *q, struct nfqueue_counts *out)
{
	(void)q;
	*out = (struct nfqueue_counts){0};
}

#endif
