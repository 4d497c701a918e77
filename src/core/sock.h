/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sockets: created from a table of wishes, and asked for what really happened.
 * All descriptors are nonblocking and close-on-exec.
 */
#ifndef SIXPATH_SOCK_H
#define SIXPATH_SOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

struct sock_wishes {
	bool mptcp;       /* wanted; plain TCP if the kernel has none */
	bool transparent; /* IP_TRANSPARENT and IPV6_TRANSPARENT (listener) */
	bool reuseport;   /* listener */
	bool v6only;      /* listener on an IPv6 address: leave IPv4 alone */
	int fastopen;     /* listener: TCP_FASTOPEN queue length, 0 = off */
	uint32_t mark;    /* SO_MARK, 0 = none */
	int tos;          /* 0..255, or -1 = leave */
	int ttl;          /* 1..255, or -1 = leave */
	int fragments;    /* of IP packets: 1 = allowed, -1 = not (DF in IPv4), 0 = leave */
	bool keepalive;
	bool delay;    /* no TCP_NODELAY yet: sock_nodelay before the second write */
	bool save_syn; /* listener: for sock_syn_tos of what it accepts; not with mptcp */
};

/* What a wish came to. */
struct sock_granted {
	bool mptcp;
	bool tos, ttl, fragments; /* the option took */
	bool fastopen;
	int mark_error; /* errno of a refused SO_MARK, or 0 */
};

#define SOCK_WISHES_NONE                                                                           \
	{                                                                                          \
		.tos = -1, .ttl = -1                                                               \
	}

/* A TCP or MPTCP socket of the family. Returns the descriptor or -errno; a wish that is
 * refused is told in *granted (may be NULL) and is not an error. */
int sock_open(sa_family_t family, const struct sock_wishes *wishes, struct sock_granted *granted);

/* The local address that connections to dst leave from, as the kernel would route them now;
 * port 0. Sends nothing. 0 or -errno. */
int sock_source(const struct addr *dst, uint32_t mark, struct addr *local);

/* Bind before connecting; transparent: to any address, be it somebody else's (CAP_NET_ADMIN). 0 or
 * -errno. */
int sock_bind(int fd, const struct addr *addr, bool transparent);

/* The kernel has sockets of IPv6 (not so with ipv6.disable=1 at boot). */
bool sock_has_ipv6(void);

/* Bound and listening, dual-stack when addr is [::]. Descriptor or -errno; transparent is
 * the one wish that must be granted. */
int sock_listen(const struct addr *addr, const struct sock_wishes *wishes,
		struct sock_granted *granted);

#define SOCK_DSCP 0xfc /* of a TOS octet; the rest is the kernel's business (ECN) */
/* TOS octet (traffic class) of the SYN that the peer has sent; asked once, of a socket accepted from
 * a listener with save_syn. 0 if it is unknown. */
uint8_t sock_syn_tos(int fd);
/* As sock_wishes.tos, on a socket that is open. */
bool sock_tos(int fd, sa_family_t family, int tos);
/* What is written leaves at once. Sockets are so from their beginning, but for sock_wishes.delay. */
void sock_nodelay(int fd);
/* As sock_wishes.fragments, on a socket that is open. */
bool sock_fragments(int fd, sa_family_t family, bool allowed);
/* As sock_wishes.keepalive, on a socket that is open. */
void sock_keepalive(int fd);
/* Keepalive after so many seconds of silence; 0 = none (any more). */
void sock_keepalive_idle(int fd, int s);

/* Data come at last on an MPTCP connection that was idle from its beginning: let its receive window
 * be as large as if they had come for a while.
 *
 * Seen on Linux 6.18: the first data echo the time stamp of before the pause, the kernel takes the
 * pause for the round-trip time, and for as long again it does not enlarge the window, which begins
 * with 64 KB. The kernel's tuning goes on from the window set here; memory is used only by what
 * is not read. Kernels before 6.9 do nothing. */
void sock_window_after_pause(int fd);

/* Make a listening socket that we were given (nonblocking, close-on-exec) what the wishes say, as
 * far as that can be changed: 0 or -errno, where transparent is again the one that must be
 * granted. granted->mptcp tells what it is. */
int sock_adopt(int fd, const struct sock_wishes *wishes, struct sock_granted *granted);

/* What a TCP or MPTCP socket says about itself. All fields are zero where unknown. */
struct sock_info {
	bool mptcp;        /* MPTCP in use now (TCP_IS_MPTCP) */
	unsigned subflows; /* subflows in use, 1 for a single path; 0 without MPTCP */
	bool syn_data_acked; /* connecting side: the peer took our SYN data; accepting: SYN had data */
	unsigned
		fastopen_fail; /* tcpi_fastopen_client_fail: 1 no cookie, 2 not acked, 3 SYN resent */
	unsigned state;        /* TCP state, 1 = established, 3 = SYN_RECV, 7 = closed; of the
				first subflow where there are several */
	uint32_t rtt_us;
	uint32_t snd_wnd;    /* the window the peer gave, octets */
	unsigned snd_wscale; /* and its scale */
};
/* 0 or -errno. */
int sock_info(int fd, struct sock_info *info);
/* The same without MPTCP's part, for a socket that is known to have none: one system call less. */
int sock_info_tcp(int fd, struct sock_info *info);

/* The sending side of an MPTCP connection. */
#define SOCK_WINDOWS_MAX 8
struct sock_window {
	uint64_t in_flight; /* written and not acknowledged, unsent octets included */
	uint32_t rtt_us;    /* of the subflow that heard from the peer last */
	unsigned number;    /* subflows that heard from it lately, */
	uint32_t window[SOCK_WINDOWS_MAX]; /* and the window of each, octets */
};
/* 0, or -errno: no MPTCP (any more), or a kernel before 5.16. */
int sock_window(int fd, struct sock_window *w);

/* MPTCP's part of sock_info alone: is it in use, and with how many subflows? */
bool sock_mptcp(int fd, unsigned *subflows);

/* Accepted with Fast Open, and the handshake's third packet is still to come. Until then MPTCP does
 * not say that it is in use. */
#define SOCK_SYN_RECV 3 /* sock_info.state */
bool sock_in_handshake(int fd);

/* An MPTCP socket, though it may have fallen back to TCP. */
bool sock_is_mptcp(int fd);

/* Segments that the kernel has thrown away after it had acknowledged them: of an MPTCP socket that has
 * fallen back to TCP all of them were data, and are lost. 0 if unknown. */
unsigned sock_dropped(int fd);

/* The subflows of a connection that stand; of plain TCP its one path. */
#define SOCK_SUBFLOWS_MAX SOCK_WINDOWS_MAX
struct sock_subflow {
	struct addr local;
	uint32_t rtt_us;
	uint32_t retransmitted;   /* segments */
	uint64_t acked, received; /* octets */
};
/* Into v (SOCK_SUBFLOWS_MAX places); how many. mptcp: MPTCP is in use. */
unsigned sock_subflows(int fd, struct sock_subflow *v, bool *mptcp);

/* The addresses that a connection comes from: of each subflow, or of plain TCP the one. Into v
 * (SOCK_SUBFLOWS_MAX places); how many. */
unsigned sock_remotes(int fd, struct addr *v);

/* True when the connection is closed below: MPTCP that has lost its last subflow although no
 * error was reported yet (kernel: a plain RST shows only after close_timeout), or TCP in
 * state 7. Connections that both sides have closed in order look the same. */
bool sock_mptcp_dead(int fd);

/* The peer has closed its direction: after what is there to be read comes the end of file. */
bool sock_peer_closed(int fd);

/* Octets written and not acknowledged yet, unsent ones included: 0 or -errno. */
int sock_unacked(int fd, uint64_t *octets);
/* For how many seconds the peer has answered nothing although it is asked again and again (data or
 * window probes are repeated, on all subflows): 0 = it answers, or is not asked. A peer that does
 * not read answers probes, so it is not silent. */
double sock_silence(int fd);
/* How many seconds ago data came from the peer last, on any subflow, in order or not; since the
 * connection began if none ever did, a very large number if that cannot be told. */
double sock_data_age(int fd);

/* Close so that the peer sees a reset (RST, or MP_FASTCLOSE). Descriptor becomes invalid. */
void sock_reset(int fd);

/* Does this errno of read or write mean that the peer reset the connection or is gone? */
bool sock_errno_is_reset(int err);

#endif
