/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef LAB_FRAME_H
#define LAB_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* TCP option kinds (IANA) the lab cares about. */
enum { FRAME_OPT_TFO = 34, FRAME_OPT_MPTCP = 30 };

/* Whether this Ethernet frame holds a TCP SYN (no ACK) over IPv4 or IPv6 that carries payload. */
bool frame_is_syn_data(const uint8_t *frame, size_t len);

/* Whether it holds a TCP SYN or SYN+ACK over IPv4 or IPv6. */
bool frame_is_syn(const uint8_t *frame, size_t len);

/* Overwrites every TCP option of this kind with NOPs, as some middleboxes do, and mends the
 * checksum. Returns whether anything was changed. */
bool frame_strip_option(uint8_t *frame, size_t len, uint8_t kind);

#endif
