/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the first packet of a TCP connection says: an IP packet, as the kernel's queues give it to
 * us, that is a SYN or a SYN+ACK. Pure: no allocation, and nothing outside of the packet is read.
 *
 * Refused are fragments, IPv6 extension headers, and whatever is not whole up to the end of the
 * TCP options; data may be cut off. Checksums are not looked at: the kernel does that later.
 */
#ifndef REDIR_SYNPKT_H
#define REDIR_SYNPKT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"

#define SYNPKT_HEAD_MAX 120 /* octets of headers and options at most (IPv4: 60 + 60) */

struct synpkt {
	struct addr src, dst; /* no scope */
	bool ack;             /* SYN+ACK, else SYN */
	uint8_t dscp;
	uint8_t mp_capable; /* octets of that option; 0 = it is not there */
	uint8_t mp_version; /* of MP_CAPABLE */
	bool mp_join;
	bool fastopen;       /* the option is there: a cookie, or a wish for one */
	uint8_t cookie;      /* octets of the cookie */
	const uint8_t *data; /* in the packet; Fast Open */
	size_t data_len;     /* as far as it was given to us */
};

enum synpkt_fault {
	SYNPKT_OK,
	SYNPKT_TRUNCATED, /* ends before the TCP options do */
	SYNPKT_NOT_IP,
	SYNPKT_NOT_TCP, /* IPv6 extension headers count as that */
	SYNPKT_FRAGMENT,
	SYNPKT_NOT_SYN,
	SYNPKT_MALFORMED /* lengths that contradict each other */
};

/* pkt begins with the IP header. *out is only filled with SYNPKT_OK. */
enum synpkt_fault synpkt_parse(struct synpkt *out, const void *pkt, size_t len);

/* A server has agreed to MPTCP: such an answer has a key, one that is only echoed has none. */
bool synpkt_agrees_mptcp(const struct synpkt *p);

#endif
