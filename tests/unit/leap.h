/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A clock of the wall that leaps, as NTP makes it do on a router without a battery. Takes the
 * place of the C library's functions in the one test that includes it, and in daemons of the lab
 * (tests/lab/clockjump.c, which says with LEAP_S from where the leap is taken).
 */
#ifndef SIXPATH_TESTS_LEAP_H
#define SIXPATH_TESTS_LEAP_H

#include <stdbool.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The clock of the wall as libev sees it: by one of these, as it was built. */
static time_t clock_leap_s;
static bool clock_asked;
#ifndef LEAP_S
#define LEAP_S clock_leap_s
#endif

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, id, ts);

	if (id == CLOCK_REALTIME) {
		clock_asked = true;
		ts->tv_sec += LEAP_S;
	}
	return rc;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec ts;
	int rc = clock_gettime(CLOCK_REALTIME, &ts);

	(void)zone;
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = (suseconds_t)(ts.tv_nsec / 1000);
	return rc;
}

#endif
