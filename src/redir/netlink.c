/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/netlink.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#define REPLY_LIMIT_S 2
#define REPLY_ROOM    32768 /* what the kernel puts into one datagram of a dump at most */

struct netlink {
	struct mnl_socket *sock;
	int bus;
	uint32_t seq;
	NETLINK_BUF(reply, REPLY_ROOM);
};

static int sock_open(struct netlink *nl)
{
	const struct timeval limit = {.tv_sec = REPLY_LIMIT_S};
	int on = 1, rc;

	nl->sock = mnl_socket_open2(nl->bus, SOCK_CLOEXEC);
	if (!nl->sock)
		return -errno;
	if (mnl_socket_bind(nl->sock, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    setsockopt(mnl_socket_get_fd(nl->sock), SOL_SOCKET, SO_RCVTIMEO, &limit,
		       sizeof(limit)) < 0) {
		rc = -errno;
		mnl_socket_close(nl->sock);
		nl->sock = NULL;
		return rc;
	}
	/* Both are hints that old kernels do not know: filtered dumps, errors without our request. */
	mnl_socket_setsockopt(nl->sock, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	mnl_socket_setsockopt(nl->sock, NETLINK_CAP_ACK, &on, sizeof(on));
	return 0;
}

int netlink_open(struct netlink **out, int bus)
{
	struct netlink *nl = calloc(1, sizeof(*nl));
	int rc;

	*out = NULL;
	if (!nl)
		return -ENOMEM;
	nl->bus = bus;
	rc = sock_open(nl);
	if (rc < 0) {
		free(nl);
		return rc;
	}
	*out = nl;
	return 0;
}

int netlink_fd(const struct netlink *nl)
{
	return mnl_socket_get_fd(nl->sock);
}

void netlink_close(struct netlink *nl)
{
	if (!nl)
		return;
	if (nl->sock)
		mnl_socket_close(nl->sock);
	free(nl);
}

struct nlmsghdr *netlink_begin(void *buf, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	return nlh;
}

struct nlmsghdr *netlink_begin_nf(void *buf, uint8_t subsys, uint8_t msg, uint16_t flags,
				  uint8_t family)
{
	struct nlmsghdr *nlh = netlink_begin(buf, (uint16_t)(subsys << 8 | msg), flags);
	struct nfgenmsg *nf = mnl_nlmsg_put_extra_header(nlh, sizeof(*nf));

	nf->nfgen_family = family;
	nf->version = NFNETLINK_V0;
	return nlh;
}

int netlink_talk(struct netlink *nl, struct nlmsghdr *nlh, mnl_cb_t cb, void *ctx)
{
	unsigned portid;
	ssize_t n;
	int rc = 0;

	if (!nl->sock)
		rc = sock_open(nl);
	if (rc < 0)
		return rc;
	portid = mnl_socket_get_portid(nl->sock);
	nlh->nlmsg_seq = ++nl->seq;
	if (mnl_socket_sendto(nl->sock, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(nl->sock, nl->reply, sizeof(nl->reply));
		if (n < 0 && errno == EINTR)
			n = 0, rc = MNL_CB_OK; /* a signal; not to be taken for a changed dump */
		else if (n < 0)
			rc = -1;
		else
			rc = mnl_cb_run(nl->reply, (size_t)n, nl->seq, portid, cb, ctx);
	} while (rc > MNL_CB_STOP);
	if (rc == MNL_CB_STOP)
		return 0;
	rc = -errno;
	/* The rest of an answer that was not read to its end must not answer the next request. */
	if (n < 0 || rc == -EINTR || rc == -ESRCH || rc == -EPROTO) {
		mnl_socket_close(nl->sock);
		nl->sock = NULL;
	}
	return rc == -EAGAIN ? -ETIMEDOUT : rc;
}

/* ---- generic netlink ---- */

struct nlmsghdr *netlink_begin_genl(void *buf, uint16_t family, uint8_t cmd, uint16_t flags)
{
	struct nlmsghdr *nlh = netlink_begin(buf, family, flags);
	struct genlmsghdr *g = mnl_nlmsg_put_extra_header(nlh, sizeof(*g));

	g->cmd = cmd;
	g->version = 1;
	return nlh;
}

static int see_family(const struct nlmsghdr *nlh, void *ctx)
{
	const struct nlattr *tb[CTRL_ATTR_FAMILY_ID + 1];

	netlink_parse(nlh, sizeof(struct genlmsghdr), tb, CTRL_ATTR_FAMILY_ID);
	netlink_copy(tb[CTRL_ATTR_FAMILY_ID], ctx, sizeof(uint16_t));
	return MNL_CB_OK;
}

int netlink_genl_family(struct netlink *nl, const char *name, uint16_t *family)
{
	NETLINK_BUF(buf, NETLINK_ROOM);
	struct nlmsghdr *nlh = netlink_begin_genl(buf, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 0);
	int rc;

	*family = 0;
	mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, name);
	rc = netlink_talk(nl, nlh, see_family, family);
	return rc < 0 ? rc : *family ? 0 : -ENOENT;
}

/* ---- attributes ---- */

void netlink_parse(const struct nlmsghdr *nlh, unsigned offset, const struct nlattr **tb,
		   uint16_t max)
{
	const struct nlattr *a;

	memset(tb, 0, (max + 1U) * sizeof(*tb));
	netlink_for_each(a, (const struct nlattr *)mnl_nlmsg_get_payload_offset(nlh, offset),
			 mnl_nlmsg_get_payload_tail(nlh))
	{
		if (mnl_attr_get_type(a) <= max)
			tb[mnl_attr_get_type(a)] = a;
	}
}

void netlink_parse_nested(const struct nlattr *nest, const struct nlattr **tb, uint16_t max)
{
	const struct nlattr *a;

	memset(tb, 0, (max + 1U) * sizeof(*tb));
	if (!nest)
		return;
	netlink_for_each_nested(a, nest)
	{
		if (mnl_attr_get_type(a) <= max)
			tb[mnl_attr_get_type(a)] = a;
	}
}

bool netlink_copy(const struct nlattr *a, void *out, size_t n)
{
	if (!a || mnl_attr_get_payload_len(a) < n)
		return false;
	memcpy(out, mnl_attr_get_payload(a), n);
	return true;
}

uint32_t netlink_u32(const struct nlattr *a)
{
	uint32_t v;

	return netlink_copy(a, &v, sizeof(v)) ? v : 0;
}

uint32_t netlink_be32(const struct nlattr *a)
{
	return ntohl(netlink_u32(a));
}

uint64_t netlink_be64(const struct nlattr *a)
{
	uint64_t v;

	return netlink_copy(a, &v, sizeof(v)) ? be64toh(v) : 0;
}
