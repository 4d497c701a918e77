/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sends ICMP errors to devices, in whoever's name. Shared by all workers: only system calls on
 * descriptors that never change.
 */
#ifndef REDIR_ICMP_SENDER_H
#define REDIR_ICMP_SENDER_H

#include "redir/icmp_build.h"

struct icmp_sender {
	int fd4, fd6; /* raw sockets, -1 where there is none */
};

/* Needs CAP_NET_RAW. 0, or -errno when there is no IPv4 socket; IPv6 is taken if it can be had. */
int icmp_sender_open(struct icmp_sender *s);
void icmp_sender_close(struct icmp_sender *s);
/* False if it could not be sent. */
bool icmp_send(const struct icmp_sender *s, const struct icmp_wishes *w);

#endif
