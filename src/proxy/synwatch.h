/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Accepted MPTCP connections with Fast Open have a trap (measured on Linux 6.18): what is
 * written before the third packet of the handshake has come is not sent when it comes, but
 * only after a further write; where that packet comes without MPTCP (the SYN-ACK was lost once)
 * it may stay there for ever, and a half-close asked for before makes the kernel drop it. So
 * nothing is written before, and the owner is told when it may. Level-triggered epoll does not tell when that
 * is; edge-triggered epoll does: each worker has an epoll of its own for such sockets, itself
 * watched by the loop. A timer looks after those whose event was missed, ever more slowly until
 * another socket is added.
 */
#ifndef PROXY_SYNWATCH_H
#define PROXY_SYNWATCH_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/list.h"

struct worker;

struct synwatch {
	struct worker *w;
	int epfd;
	ev_io io;
	ev_timer timer;
	struct list entries;
	uint64_t completed, missed; /* handshakes; of these, found by the timer */
};

/* One socket; embedded in its owner, who removes it before closing the descriptor. */
struct synwatch_entry {
	struct list_node node;
	int fd;
	/* The handshake is over. May free the entry. */
	void (*over)(struct synwatch_entry *e);
};

int synwatch_init(struct synwatch *s, struct worker *w); /* 0 or -errno */
void synwatch_fini(struct synwatch *s);

/* Watch fd, of MPTCP, whose handshake is not complete; e->over is set. */
void synwatch_add(struct synwatch *s, struct synwatch_entry *e, int fd);
void synwatch_remove(struct synwatch *s, struct synwatch_entry *e); /* harmless if not added */

#endif
