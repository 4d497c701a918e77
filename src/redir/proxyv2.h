/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The header of the PROXY protocol, version 2, by which a server learns who its client is. Pure. */
#ifndef REDIR_PROXYV2_H
#define REDIR_PROXYV2_H

#include <stddef.h>
#include <stdint.h>

struct addr;

#define PROXYV2_MAX 52

/* Into out (PROXYV2_MAX octets); how many. dst: where the client has connected to; of another
 * family than src only its port counts. src unset: the header says that nothing is known. */
size_t proxyv2_build(const struct addr *src, const struct addr *dst, uint8_t *out);

#endif
