/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bench_learned [THREADS] [SECONDS]: what the table of learned servers does in a second, all
 * threads together. One line for each kind of work.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "redir/learned.h"

#define MAX         4096u
#define THREADS_MAX 64
#define BATCH       1024u /* between looks at the clock */

struct work {
	const char *name;
	void (*one)(struct learned *l, struct addr *a, unsigned thread, uint32_t i);
};

struct job {
	pthread_t thread;
	struct learned *l;
	const struct work *work;
	double end_s;
	unsigned number;
	uint64_t done;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void set_host(struct addr *a, uint32_t host)
{
	if (addr_family(a) == AF_INET)
		a->u.in.sin_addr.s_addr = htonl(host);
	else
		a->u.in6.sin6_addr.s6_addr32[3] = htonl(host);
}

static void look_known(struct learned *l, struct addr *a, unsigned thread, uint32_t i)
{
	(void)thread;
	set_host(a, i * 2654435761u % MAX);
	learned_look(l, a, 1, true);
}

static void look_unknown(struct learned *l, struct addr *a, unsigned thread, uint32_t i)
{
	(void)thread;
	set_host(a, MAX + i);
	learned_look(l, a, 1, true);
}

static void refresh(struct learned *l, struct addr *a, unsigned thread, uint32_t i)
{
	(void)thread;
	set_host(a, i * 2654435761u % MAX);
	learned_put(l, a, LEARNED_MPTCP, LEARNED_FROM_DIRECT, 1);
}

static void insert(struct learned *l, struct addr *a, unsigned thread, uint32_t i)
{
	set_host(a, MAX + (thread << 25) + i % (1u << 25));
	learned_put(l, a, LEARNED_MPTCP, LEARNED_FROM_PROXY, 1);
}

static const struct work works[] = {
	{"look-ups, known", look_known},
	{"look-ups, unknown", look_unknown},
	{"refreshes", refresh},
	{"insertions with eviction", insert}, /* last: what was known is gone */
};

static void *run(void *arg)
{
	struct job *j = arg;
	struct addr a4, a6;

	addr_parse(&a4, "10.0.0.0", 443);
	addr_parse(&a6, "2001:db8::", 443);
	for (uint32_t i = 0; now() < j->end_s;) {
		for (unsigned k = 0; k < BATCH; k++, i++)
			j->work->one(j->l, i % 2 ? &a6 : &a4, j->number, i / 2);
		j->done += BATCH;
	}
	return NULL;
}

static double measure(struct learned *l, const struct work *w, unsigned threads, double seconds)
{
	static struct job jobs[THREADS_MAX];
	double start = now();
	uint64_t done = 0;

	for (unsigned i = 0; i < threads; i++) {
		jobs[i] = (struct job){.l = l, .work = w, .end_s = start + seconds, .number = i};
		if (pthread_create(&jobs[i].thread, NULL, run, &jobs[i]) != 0)
			abort();
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(jobs[i].thread, NULL);
		done += jobs[i].done;
	}
	return (double)done / (now() - start);
}

int main(int argc, char **argv)
{
	const struct learned_limits limits = {.max = MAX, .ttl_s = 3600, .plain_ttl_s = 600};
	unsigned threads = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1;
	double seconds = argc > 2 ? strtod(argv[2], NULL) : 1;
	struct learned *l = learned_new(&limits, MAX);
	struct addr a4, a6;

	if (!l || threads == 0 || threads > THREADS_MAX) {
		fprintf(stderr, "bench_learned [THREADS (1 to %d)] [SECONDS]\n", THREADS_MAX);
		return 1;
	}
	addr_parse(&a4, "10.0.0.0", 443);
	addr_parse(&a6, "2001:db8::", 443);
	for (uint32_t i = 0; i < MAX; i++) {
		set_host(&a4, i);
		set_host(&a6, i);
		learned_put(l, &a4, LEARNED_MPTCP, LEARNED_FROM_PROXY, 1);
		learned_put(l, &a6, LEARNED_MPTCP, LEARNED_FROM_PROXY, 1);
	}
	printf("learned table, %u entries of each family, %u thread%s\n", MAX, threads,
	       threads == 1 ? "" : "s");
	for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++)
		printf("  %-26s %10.0f a second\n", works[i].name,
		       measure(l, &works[i], threads, seconds));
	learned_free(l);
	return 0;
}
