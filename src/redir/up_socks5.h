/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The same as up_socks6.h for an upstream that speaks SOCKS 5 (RFC 1928, 1929), which calls these.
 * No sockets. Sessions, tokens and options there are none; a NOOP ends behind the authentication.
 */
#ifndef REDIR_UP_SOCKS5_H
#define REDIR_UP_SOCKS5_H

#include "redir/up_socks6.h"

/* Method, credentials and request in out, which has UP_REQUEST_MAX octets. */
bool up_socks5_request(struct up_socks6 *u, const struct up_request *rq, uint8_t *out, size_t *len);
/* How many of the len octets may have left by now. */
size_t up_socks5_released(const struct up_socks6 *u, size_t len);
enum up_verdict up_socks5_feed(struct up_socks6 *u, const uint8_t *data, size_t len, size_t *used);

#endif
