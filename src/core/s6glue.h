/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The one place where socket addresses and errno meet SOCKSv6 addresses and reply codes. */
#ifndef SIXPATH_S6GLUE_H
#define SIXPATH_S6GLUE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/addr.h"
#include "libsocks6/socks6.h"

void s6glue_from_addr(struct s6_address *out, const struct addr *a);
/* A name of 1 to S6_NAME_MAX octets; false if it is none. */
bool s6glue_from_name(struct s6_address *out, const char *name, uint16_t port);
/* False for names. */
bool s6glue_to_addr(struct addr *out, const struct s6_address *a);
/* errno (positive) of a failed connect to the reply code that says it. */
uint8_t s6glue_reply_of_errno(int err);
/* And back, for logs and for what the device is shown; 0 for success. */
int s6glue_errno_of_reply(uint8_t code);

#endif
