/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/sock.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/tcp.h> /* not netinet/tcp.h: its tcp_info lacks the Fast Open bits */
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Missing in older headers, present in the kernels we run on. */
#ifndef SOL_MPTCP
#define SOL_MPTCP 284
#endif
#define MPTCP_INFO_OPT    1 /* MPTCP_INFO of <linux/mptcp.h>, which clashes with others */
#define MPTCP_TCPINFO_OPT 2 /* MPTCP_TCPINFO */
#define MPTCP_ADDRS_OPT   3 /* MPTCP_SUBFLOW_ADDRS */
#define STATE_SYN_SENT    2 /* TCP_SYN_SENT */
#define STATE_CLOSE       7 /* TCP_CLOSE */
#define STATE_CLOSE_WAIT  8
#define STATE_LAST_ACK    9
#define STATE_CLOSING     11
#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif
#ifndef TCPI_OPT_SYN_DATA
#define TCPI_OPT_SYN_DATA 32
#endif

/* A NAT's timeout may be as short as some minutes; two minutes keep it open, and a dead
 * peer is found four to five minutes after the last byte. */
#define KEEPALIVE_IDLE_S     120
#define KEEPALIVE_INTERVAL_S 30
#define KEEPALIVE_PROBES     4

#define WINDOW_AFTER_PAUSE (1 << 20) /* octets; the kernel takes no more than half of tcp_rmem */

/* The part of struct mptcp_info up to subflows_total (Linux 6.7); natural alignment. */
struct mptcp_state {
	uint8_t subflows; /* beside the first */
	uint8_t unused1[5];
	uint32_t flags, token;
	uint64_t write_seq, snd_una, rcv_nxt;
	uint8_t unused2[3];
	uint32_t retransmits;
	uint64_t bytes_retrans, bytes_sent, bytes_received, bytes_acked;
	uint8_t subflows_total; /* all that are left */
	uint8_t unused3[15];    /* newer kernels have more to say */
};

/* struct mptcp_subflow_data and what follows it. */
#define LATELY_MS 10
struct subflow_infos {
	uint32_t size_head, number, size_kernel, size_one;
	struct tcp_info one[SOCK_WINDOWS_MAX];
};

struct subflow_addrs {
	uint32_t size_head, number, size_kernel, size_one;
	struct {
		struct sockaddr_storage local, remote;
	} one[SOCK_WINDOWS_MAX];
};

static int set_int(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int open_stream(sa_family_t family, bool *mptcp)
{
	int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, fd;

	if (*mptcp) {
		fd = socket(family, type, IPPROTO_MPTCP);
		if (fd >= 0 || (errno != EPROTONOSUPPORT && errno != ENOPROTOOPT &&
				errno != EINVAL && errno != EPERM && errno != ESOCKTNOSUPPORT))
			return fd < 0 ? -errno : fd;
		*mptcp = false; /* this kernel has none, or it is switched off */
	}
	fd = socket(family, type, IPPROTO_TCP);
	return fd < 0 ? -errno : fd;
}

bool sock_tos(int fd, sa_family_t family, int tos)
{
	if (family == AF_INET6)
		return set_int(fd, IPPROTO_IPV6, IPV6_TCLASS, tos) == 0;
	return set_int(fd, IPPROTO_IP, IP_TOS, tos) == 0;
}

static bool set_ttl(int fd, sa_family_t family, int ttl)
{
	if (family == AF_INET6)
		return set_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, ttl) == 0;
	return set_int(fd, IPPROTO_IP, IP_TTL, ttl) == 0;
}

void sock_nodelay(int fd)
{
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

bool sock_fragments(int fd, sa_family_t family, bool allowed)
{
	if (family == AF_INET6)
		return set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER,
			       allowed ? IPV6_PMTUDISC_DONT : IPV6_PMTUDISC_DO) == 0;
	return set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER,
		       allowed ? IP_PMTUDISC_DONT : IP_PMTUDISC_DO) == 0;
}

/* Beside IP_PKTOPTIONS this is the one way to learn it afterwards (Linux 6.18). That one tells of the
 * SYN, too, but on IPv6 it makes the kernel keep every packet's header until it is switched off. */
uint8_t sock_syn_tos(int fd)
{
	uint8_t head[128]; /* IP and TCP headers with their options; too little room is an error */
	socklen_t len = sizeof(head);

	if (getsockopt(fd, IPPROTO_TCP, TCP_SAVED_SYN, head, &len) < 0 || len < 2)
		return 0;
	return (uint8_t)(head[0] >> 4 == 4 ? head[1] : head[0] << 4 | head[1] >> 4);
}

void sock_keepalive(int fd)
{
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
}

void sock_keepalive_idle(int fd, int s)
{
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, s > 0);
	if (s > 0)
		set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, s);
}

void sock_window_after_pause(int fd)
{
	/* Unlike SO_RCVBUF this enlarges buffer and window without pinning them. */
	set_int(fd, SOL_SOCKET, SO_RCVLOWAT, WINDOW_AFTER_PAUSE);
	set_int(fd, SOL_SOCKET, SO_RCVLOWAT, 1);
}

int sock_open(sa_family_t family, const struct sock_wishes *wishes, struct sock_granted *granted)
{
	struct sock_granted got = {.mptcp = wishes->mptcp};
	int fd = open_stream(family, &got.mptcp);

	if (fd < 0)
		return fd;
	/* A relay passes on what it gets when it gets it; waiting for more only adds delay. */
	if (!wishes->delay)
		sock_nodelay(fd);
	if (wishes->mark)
		got.mark_error = -set_int(fd, SOL_SOCKET, SO_MARK, (int)wishes->mark);
	if (wishes->tos >= 0)
		got.tos = sock_tos(fd, family, wishes->tos);
	if (wishes->ttl > 0)
		got.ttl = set_ttl(fd, family, wishes->ttl);
	if (wishes->fragments)
		got.fragments = sock_fragments(fd, family, wishes->fragments > 0);
	if (wishes->keepalive)
		sock_keepalive(fd);
	if (granted)
		*granted = got;
	return fd;
}

int sock_source(const struct addr *dst, uint32_t mark, struct addr *local)
{
	int fd = socket(addr_family(dst), SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = 0;

	if (fd < 0)
		return -errno;
	if (mark)
		set_int(fd, SOL_SOCKET, SO_MARK, (int)mark);
	if (connect(fd, &dst->u.sa, dst->len) < 0)
		rc = -errno;
	if (rc == 0)
		rc = addr_of_socket(fd, local);
	if (rc == 0)
		addr_set_port(local, 0);
	close(fd);
	return rc;
}

static int set_transparent(int fd, sa_family_t family)
{
	int rc = set_int(fd, IPPROTO_IP, IP_TRANSPARENT, 1);

	if (rc == 0 && family == AF_INET6)
		rc = set_int(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1);
	return rc;
}

int sock_bind(int fd, const struct addr *addr, bool transparent)
{
	int rc = transparent ? set_transparent(fd, addr_family(addr)) : 0;

	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1); /* only the pair of addresses must be new */
	if (rc == 0 && bind(fd, &addr->u.sa, addr->len) < 0)
		rc = -errno;
	return rc;
}

bool sock_has_ipv6(void)
{
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool has = fd >= 0 || errno != EAFNOSUPPORT;

	if (fd >= 0)
		close(fd);
	return has;
}

int sock_listen(const struct addr *addr, const struct sock_wishes *wishes,
		struct sock_granted *granted)
{
	struct sock_granted got;
	sa_family_t family = addr_family(addr);
	int fd = sock_open(family, wishes, &got), rc;

	if (fd < 0)
		return fd;
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (wishes->reuseport)
		set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (family == AF_INET6)
		set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, wishes->v6only || !addr_is_any(addr));
	rc = wishes->transparent ? set_transparent(fd, family) : 0;
	if (rc == 0 && bind(fd, &addr->u.sa, addr->len) < 0)
		rc = -errno;
	if (wishes->save_syn)
		set_int(fd, IPPROTO_TCP, TCP_SAVE_SYN, 1);
	if (wishes->fastopen)
		got.fastopen = set_int(fd, IPPROTO_TCP, TCP_FASTOPEN, wishes->fastopen) == 0;
	if (rc == 0 && listen(fd, SOMAXCONN) < 0)
		rc = -errno;
	if (rc < 0) {
		close(fd);
		return rc;
	}
	if (granted)
		*granted = got;
	return fd;
}

int sock_adopt(int fd, const struct sock_wishes *wishes, struct sock_granted *granted)
{
	int family = 0, rc = 0;
	socklen_t len = sizeof(family);

	memset(granted, 0, sizeof(*granted));
	granted->mptcp = sock_is_mptcp(fd);
	if (wishes->transparent && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len) == 0)
		rc = set_transparent(fd, (sa_family_t)family);
	if (wishes->keepalive)
		set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	if (wishes->save_syn)
		set_int(fd, IPPROTO_TCP, TCP_SAVE_SYN, 1);
	if (wishes->fastopen)
		granted->fastopen = set_int(fd, IPPROTO_TCP, TCP_FASTOPEN, wishes->fastopen) == 0;
	return rc;
}

/* False if the socket is no MPTCP socket, or has fallen back to TCP. */
static bool mptcp_state(int fd, struct mptcp_state *state, socklen_t *len)
{
	*len = sizeof(*state);
	memset(state, 0, sizeof(*state));
	return getsockopt(fd, SOL_MPTCP, MPTCP_INFO_OPT, state, len) == 0;
}

#define HAS_TOTAL(len) ((len) > offsetof(struct mptcp_state, subflows_total))

int sock_info_tcp(int fd, struct sock_info *info)
{
	struct tcp_info tcp;
	socklen_t len = sizeof(tcp);

	memset(info, 0, sizeof(*info));
	memset(&tcp, 0, sizeof(tcp));
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &tcp, &len) < 0)
		return -errno;
	info->state = tcp.tcpi_state;
	info->rtt_us = tcp.tcpi_rtt;
	info->snd_wnd = tcp.tcpi_snd_wnd;
	info->snd_wscale = tcp.tcpi_snd_wscale;
	info->syn_data_acked = (tcp.tcpi_options & TCPI_OPT_SYN_DATA) != 0;
	info->fastopen_fail = tcp.tcpi_fastopen_client_fail;
	return 0;
}

int sock_info(int fd, struct sock_info *info)
{
	struct mptcp_state state;
	socklen_t len;
	int rc = sock_info_tcp(fd, info);

	if (rc < 0 || !mptcp_state(fd, &state, &len))
		return rc;
	info->mptcp = true;
	/* tcp_info is about the first subflow, which may be gone while others live. */
	info->subflows = HAS_TOTAL(len) ? state.subflows_total
					: state.subflows + (info->state != STATE_CLOSE);
	return 0;
}

/* 0 or -errno; at least one subflow is told. */
static int subflows_ask(int fd, struct subflow_infos *infos)
{
	socklen_t len = sizeof(*infos);

	memset(infos, 0, sizeof(*infos));
	infos->size_head = offsetof(struct subflow_infos, one);
	infos->size_one = sizeof(infos->one[0]);
	if (getsockopt(fd, SOL_MPTCP, MPTCP_TCPINFO_OPT, infos, &len) < 0)
		return -errno;
	if (infos->number > SOCK_WINDOWS_MAX)
		infos->number = SOCK_WINDOWS_MAX;
	return infos->number ? 0 : -ENOTCONN;
}

int sock_window(int fd, struct sock_window *w)
{
	struct subflow_infos infos;
	const struct tcp_info *last = &infos.one[0];
	struct mptcp_state state;
	socklen_t len;
	uint32_t n;
	int rc;

	/* The acknowledgement first: a window that is newer than it errs on the safe side. */
	if (!mptcp_state(fd, &state, &len) ||
	    len < offsetof(struct mptcp_state, snd_una) + sizeof(state.snd_una))
		return -EOPNOTSUPP;
	rc = subflows_ask(fd, &infos);
	if (rc < 0)
		return rc;
	n = infos.number;
	for (uint32_t i = 1; i < n; i++)
		if (infos.one[i].tcpi_last_ack_recv < last->tcpi_last_ack_recv)
			last = &infos.one[i];
	w->in_flight = state.write_seq - state.snd_una;
	w->number = 0;
	for (uint32_t i = 0; i < n; i++)
		if (infos.one[i].tcpi_last_ack_recv <= last->tcpi_last_ack_recv + LATELY_MS)
			w->window[w->number++] = infos.one[i].tcpi_snd_wnd;
	w->rtt_us = last->tcpi_rtt;
	return 0;
}

bool sock_mptcp(int fd, unsigned *subflows)
{
	struct mptcp_state state;
	struct sock_info info;
	socklen_t len;
	bool used = mptcp_state(fd, &state, &len);

	*subflows = used ? state.subflows_total : 0;
	if (used && !HAS_TOTAL(len) && sock_info(fd, &info) == 0)
		*subflows = info.subflows;
	return used;
}

bool sock_in_handshake(int fd)
{
	struct sock_info info;

	return sock_info_tcp(fd, &info) == 0 && info.state == SOCK_SYN_RECV;
}

bool sock_peer_closed(int fd)
{
	struct sock_info info;

	return sock_info_tcp(fd, &info) == 0 &&
	       (info.state == STATE_CLOSE_WAIT || info.state == STATE_LAST_ACK ||
		info.state == STATE_CLOSING);
}

bool sock_is_mptcp(int fd)
{
	int protocol = 0;
	socklen_t len = sizeof(protocol);

	return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 &&
	       protocol == IPPROTO_MPTCP;
}

static void subflow_of(struct sock_subflow *s, const struct tcp_info *tcp)
{
	s->rtt_us = tcp->tcpi_rtt;
	s->retransmitted = tcp->tcpi_total_retrans;
	s->acked = tcp->tcpi_bytes_acked;
	s->received = tcp->tcpi_bytes_received;
}

unsigned sock_subflows(int fd, struct sock_subflow *v, bool *mptcp)
{
	struct subflow_infos infos;
	struct subflow_addrs addrs = {.size_head = offsetof(struct subflow_addrs, one),
				      .size_one = sizeof(addrs.one[0])};
	socklen_t len = sizeof(addrs);
	unsigned n = 0;

	memset(v, 0, SOCK_SUBFLOWS_MAX * sizeof(*v));
	*mptcp = getsockopt(fd, SOL_MPTCP, MPTCP_ADDRS_OPT, &addrs, &len) == 0;
	if (!*mptcp) {
		memset(&infos, 0, sizeof(infos));
		len = sizeof(infos.one[0]);
		if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &infos.one[0], &len) < 0 ||
		    addr_of_socket(fd, &v->local) < 0)
			return 0;
		subflow_of(v, &infos.one[0]);
		return 1;
	}
	/* Both lists have the same order; one may come or go between the two calls. */
	if (subflows_ask(fd, &infos) < 0 || infos.number > addrs.number)
		return 0;
	for (uint32_t i = 0; i < infos.number; i++) {
		if (infos.one[i].tcpi_state == STATE_CLOSE ||
		    infos.one[i].tcpi_state == STATE_SYN_SENT ||
		    !addr_from_sockaddr(&v[n].local, (struct sockaddr *)&addrs.one[i].local,
					sizeof(addrs.one[i].local)))
			continue;
		subflow_of(&v[n++], &infos.one[i]);
	}
	return n;
}

unsigned sock_remotes(int fd, struct addr *v)
{
	struct subflow_addrs addrs = {.size_head = offsetof(struct subflow_addrs, one),
				      .size_one = sizeof(addrs.one[0])};
	socklen_t len = sizeof(addrs);
	unsigned n = 0;

	if (getsockopt(fd, SOL_MPTCP, MPTCP_ADDRS_OPT, &addrs, &len) < 0)
		return addr_of_peer(fd, v) == 0;
	for (uint32_t i = 0; i < addrs.number && i < SOCK_SUBFLOWS_MAX; i++)
		n += addr_from_sockaddr(&v[n], (struct sockaddr *)&addrs.one[i].remote,
					sizeof(addrs.one[i].remote));
	return n;
}

bool sock_mptcp_dead(int fd)
{
	struct sock_info info;

	if (sock_info(fd, &info) < 0)
		return false;
	return info.mptcp ? info.subflows == 0 : info.state == STATE_CLOSE;
}

unsigned sock_dropped(int fd)
{
	uint32_t v[SK_MEMINFO_VARS] = {0};
	socklen_t len = sizeof(v);

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, v, &len) < 0)
		return 0;
	return v[SK_MEMINFO_DROPS];
}

int sock_unacked(int fd, uint64_t *octets)
{
	int n = 0;

	if (ioctl(fd, SIOCOUTQ, &n) < 0)
		return -errno;
	*octets = n > 0 ? (uint64_t)n : 0;
	return 0;
}

/* Milliseconds. One probe may be under way. */
static uint32_t silence_of(const struct tcp_info *tcp)
{
	bool repeats = (tcp->tcpi_unacked > 0 && tcp->tcpi_retransmits > 0) || tcp->tcpi_probes > 1;

	return repeats ? tcp->tcpi_last_ack_recv : 0;
}

static uint32_t data_age_of(const struct tcp_info *tcp)
{
	return tcp->tcpi_last_data_recv;
}

/* The least of all subflows, in milliseconds; -1 if there is none to ask. */
static int64_t least_of(int fd, uint32_t (*of)(const struct tcp_info *tcp))
{
	struct subflow_infos infos;
	uint32_t least = UINT32_MAX;

	if (subflows_ask(fd, &infos) < 0) { /* plain TCP */
		socklen_t len = sizeof(infos.one[0]);

		memset(&infos, 0, sizeof(infos));
		if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &infos.one[0], &len) < 0)
			return -1;
		infos.number = 1;
	}
	for (uint32_t i = 0; i < infos.number; i++)
		if (of(&infos.one[i]) < least)
			least = of(&infos.one[i]);
	return least;
}

double sock_silence(int fd)
{
	int64_t ms = least_of(fd, silence_of);

	return ms > 0 ? (double)ms / 1e3 : 0.;
}

double sock_data_age(int fd)
{
	int64_t ms = least_of(fd, data_age_of);

	return ms < 0 ? 1e9 : (double)ms / 1e3;
}

void sock_reset(int fd)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

bool sock_errno_is_reset(int err)
{
	switch (err) {
	case ECONNRESET:
	case EPIPE:
	case ENOTCONN: /* MPTCP whose last subflow has died */
	case ETIMEDOUT:
	case ECONNABORTED:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENETDOWN:
		return true;
	default:
		return false;
	}
}
