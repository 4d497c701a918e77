/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Preloaded into a daemon: its clock of the wall leaps, this machine's does not. The environment's
 * CLOCKJUMP names a file of eight octets, the leap in seconds in host order; writing there is the
 * leap. Without such a file the clock is true.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

static _Atomic int64_t none;
static _Atomic int64_t *leap = &none;

#define LEAP_S ((time_t)atomic_load(leap))
#include "leap.h"

time_t time(time_t *out)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (out)
		*out = ts.tv_sec;
	return ts.tv_sec;
}

__attribute__((constructor)) static void attach(void)
{
	const char *path = getenv("CLOCKJUMP");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	/* Before the daemon has threads, and before it gives up root. */
	(void)clock_leap_s;
	if (fd < 0)
		return;
	void *map = mmap(NULL, sizeof(*leap), PROT_READ, MAP_SHARED, fd, 0);
	if (map != MAP_FAILED)
		leap = map;
	close(fd);
}
