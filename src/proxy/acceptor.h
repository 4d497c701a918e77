/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the proxy does at its listening sockets: asks for MPTCP and Fast Open, tells what is
 * missing, and holds accepted connections against the limits before they become clients.
 */
#ifndef PROXY_ACCEPTOR_H
#define PROXY_ACCEPTOR_H

struct proxy_worker;

/* Opens the worker's listeners (before privileges are dropped): 0 or an exit code (logged). */
int acceptor_open(struct proxy_worker *pw);

#endif
