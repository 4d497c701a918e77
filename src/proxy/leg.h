/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TOS, TTL and fragmentation of a connection: wished, and told as they really are (section 6.1). */
#ifndef PROXY_LEG_H
#define PROXY_LEG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* A wish that the kernel refuses is no error: ask what came of it. */
void leg_set_tos(int fd, uint8_t tos);
void leg_set_ttl(int fd, uint8_t ttl);
void leg_set_no_frag(int fd, bool no_frag);

/* What the socket really uses. family is the peer's: on a dual-stack socket it decides. */
uint8_t leg_tos(int fd, sa_family_t family);
uint8_t leg_ttl(int fd, sa_family_t family);
bool leg_no_frag(int fd, sa_family_t family);

#endif
