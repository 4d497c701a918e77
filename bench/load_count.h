/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a client of the benchmark counts, and the line of JSON that says it. */
#ifndef BENCH_LOAD_COUNT_H
#define BENCH_LOAD_COUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { CPU_GROUPS = 4, CPU_PIDS = 256 };

/* Processor time of some processes together and of those that they had forked when counting began;
 * ended threads included. */
struct cpu_group {
	char name[16];
	pid_t pids[CPU_PIDS];
	unsigned n;
	double at_start, used;
	double user_at_start, user; /* of that, in user space, as far as the kernel samples it */
};

struct load_count {
	bool counting;
	double start, end;
	uint64_t octets, done, errors, lost;
	float *ms;
	size_t ms_n, ms_size;
	struct cpu_group cpu[CPU_GROUPS];
	unsigned cpu_n;
};

/* Monotonic, seconds. */
double load_now(void);

/* NAME=PID[,PID...], which is cut up; an empty list is no group. False: not of this form. */
bool load_count_cpu(struct load_count *c, char *text);

void load_count_start(struct load_count *c);
void load_count_end(struct load_count *c);

/* One more is done that began then. */
void load_count_done(struct load_count *c, double begun);

void load_count_print(struct load_count *c);
void load_count_free(struct load_count *c);

#endif
