/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tells the service manager how we are, where it has asked for it (NOTIFY_SOCKET, sd_notify(3)).
 * Elsewhere these do nothing. */
#ifndef SIXPATH_NOTIFY_H
#define SIXPATH_NOTIFY_H

#include <sys/types.h>

void notify_ready(void);
void notify_stopping(void);
/* The service goes on in this process, a child of ours. */
void notify_main_pid(pid_t pid);

#endif
