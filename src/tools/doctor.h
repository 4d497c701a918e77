/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sixpathctl doctor: what keeps sixpath from working on this machine, or from working as well as
 * it could, each with a cure. Changes nothing, and needs no daemon; one that runs is asked too.
 */
#ifndef SIXPATH_DOCTOR_H
#define SIXPATH_DOCTOR_H

#include <stdbool.h>

#define DOCTOR_WARN 1 /* exit codes, below those of sysexits */
#define DOCTOR_FAIL 2

/* For the machine of sixpath-proxy, or of sixpath-redir; socket: of the daemon. Prints the
 * findings; returns 0 (nothing worse than a note), DOCTOR_WARN, DOCTOR_FAIL or one of sysexits
 * (told). */
int doctor(const char *socket, bool proxy, bool json);

#endif
