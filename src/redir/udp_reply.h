/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Datagrams to devices in the name of the host that sent them: a socket bound to its address for
 * each (transparent), kept for the next one; the one that was not used for the longest time makes
 * room. Nothing is ever read from them: what devices send comes to the listener.
 */
#ifndef REDIR_UDP_REPLY_H
#define REDIR_UDP_REPLY_H

#include <stdint.h>

#include "core/addr.h"
#include "core/list.h"
#include "core/siphash.h"
#include "redir/udp_io.h"

#define UDP_REPLY_SOCKETS 128
#define UDP_REPLY_BUCKETS 256

struct udp_reply_socket {
	struct list_node order;
	struct udp_reply_socket *next;
	struct addr remote;
	int fd;
};

struct udp_replies {
	struct siphash_key key;
	struct udp_reply_socket *buckets[UDP_REPLY_BUCKETS];
	struct list order; /* used last at the end */
	size_t max;
	/* datagrams that wait to be sent through one of them */
	struct udp_reply_socket *through;
	unsigned n;
	struct mmsghdr h[UDP_BATCH];
	struct iovec v[UDP_BATCH];
	struct addr to[UDP_BATCH];
	uint64_t sent, lost, opened;
	int last_error;
	bool segments; /* udp_send_all */
};

/* 0 or -errno. */
int udp_replies_init(struct udp_replies *r);
void udp_replies_fini(struct udp_replies *r);
/* data must stay until udp_replies_flush. False: no socket can be bound to remote (errno). */
bool udp_replies_put(struct udp_replies *r, const struct addr *remote, const struct addr *device,
		     const uint8_t *data, size_t len);
void udp_replies_flush(struct udp_replies *r);

#endif
