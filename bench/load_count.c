/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "load_count.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double load_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* And all below them: some fork for what they are given to do. */
static void add_children(struct cpu_group *g)
{
	for (unsigned i = 0; i < g->n; i++) {
		char path[64];
		int pid;

		snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)g->pids[i],
			 (int)g->pids[i]);
		FILE *f = fopen(path, "re");
		while (f && g->n < CPU_PIDS && fscanf(f, "%d", &pid) == 1) {
			bool known = false;

			for (unsigned k = 0; k < g->n; k++)
				known = known || g->pids[k] == pid;
			if (!known)
				g->pids[g->n++] = pid;
		}
		if (f)
			fclose(f);
	}
}

static double cpu_of(const struct cpu_group *g)
{
	double sum = 0;

	for (unsigned i = 0; i < g->n; i++) {
		struct timespec t;
		clockid_t id;

		if (clock_getcpuclockid(g->pids[i], &id) == 0 && clock_gettime(id, &t) == 0)
			sum += (double)t.tv_sec + (double)t.tv_nsec / 1e9;
	}
	return sum;
}

/* Field 14 of the process's stat; field 2, in parentheses, may hold anything. */
static double user_of(const struct cpu_group *g)
{
	double sum = 0;

	for (unsigned i = 0; i < g->n; i++) {
		char path[64], line[1024];
		unsigned long ticks = 0;

		snprintf(path, sizeof(path), "/proc/%d/stat", (int)g->pids[i]);
		FILE *f = fopen(path, "re");
		const char *at = f && fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
		if (at &&
		    sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu", &ticks) == 1)
			sum += (double)ticks / (double)sysconf(_SC_CLK_TCK);
		if (f)
			fclose(f);
	}
	return sum;
}

bool load_count_cpu(struct load_count *c, char *text)
{
	char *pid = strchr(text, '='), *save = NULL;

	if (!pid || c->cpu_n == CPU_GROUPS)
		return false;
	*pid++ = '\0';
	struct cpu_group *g = &c->cpu[c->cpu_n];
	snprintf(g->name, sizeof(g->name), "%s", text);
	for (pid = strtok_r(pid, ",", &save); pid && g->n < CPU_PIDS;
	     pid = strtok_r(NULL, ",", &save))
		g->pids[g->n++] = atoi(pid);
	c->cpu_n += g->n > 0;
	return true;
}

void load_count_start(struct load_count *c)
{
	c->counting = true;
	c->octets = c->done = c->lost = 0;
	c->ms_n = 0;
	for (unsigned i = 0; i < c->cpu_n; i++) {
		add_children(&c->cpu[i]);
		c->cpu[i].at_start = cpu_of(&c->cpu[i]);
		c->cpu[i].user_at_start = user_of(&c->cpu[i]);
	}
	c->start = load_now();
}

void load_count_end(struct load_count *c)
{
	c->end = load_now();
	for (unsigned i = 0; i < c->cpu_n; i++) {
		c->cpu[i].used = cpu_of(&c->cpu[i]) - c->cpu[i].at_start;
		c->cpu[i].user = user_of(&c->cpu[i]) - c->cpu[i].user_at_start;
	}
}

void load_count_done(struct load_count *c, double begun)
{
	c->done++;
	if (!c->counting)
		return;
	if (c->ms_n == c->ms_size) {
		size_t size = c->ms_size ? c->ms_size * 2 : 65536;
		float *more = realloc(c->ms, size * sizeof(*more));

		if (!more)
			return;
		c->ms = more;
		c->ms_size = size;
	}
	c->ms[c->ms_n++] = (float)((load_now() - begun) * 1000);
}

static int ms_order(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static double ms_at(const struct load_count *c, double share)
{
	if (c->ms_n == 0)
		return -1;
	size_t i = (size_t)(share * (double)c->ms_n);
	return (double)c->ms[i < c->ms_n ? i : c->ms_n - 1];
}

void load_count_print(struct load_count *c)
{
	if (c->ms_n > 0)
		qsort(c->ms, c->ms_n, sizeof(*c->ms), ms_order);
	printf("{\"seconds\":%.4f,\"octets\":%" PRIu64 ",\"done\":%" PRIu64 ",\"errors\":%" PRIu64
	       ",\"lost\":%" PRIu64 ",\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,\"cpu\":{",
	       c->end - c->start, c->octets, c->done, c->errors, c->lost, ms_at(c, .5),
	       ms_at(c, .99), ms_at(c, 1));
	for (unsigned i = 0; i < c->cpu_n; i++)
		printf("%s\"%s\":%.6f", i ? "," : "", c->cpu[i].name, c->cpu[i].used);
	printf("},\"cpu_user\":{");
	for (unsigned i = 0; i < c->cpu_n; i++)
		printf("%s\"%s\":%.6f", i ? "," : "", c->cpu[i].name, c->cpu[i].user);
	puts("}}");
	fflush(stdout);
}

void load_count_free(struct load_count *c)
{
	free(c->ms);
}
