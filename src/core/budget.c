/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/budget.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/heap.h"
#include "core/list.h"
#include "core/relay.h"
#include "core/report.h"
#include "core/status.h"

#define TICK_S      1.0
#define COUNT_TICKS 10   /* between counts of all descriptors, which take a while */
#define IDLE_S      15.0 /* a flow without a byte for so long may be ended when room is short, */
#define IDLE_HARD_S 1.0  /* or for so long when there is none at all */
#define MIB         (UINT64_C(1) << 20)
#define KEEP_MAX    256 /* free buffers of a worker's pool, for a second */
#define TRIM_FLOWS  256 /* fewer are not worth while */
#define AUTO_MIN    (8 * MIB)
#define AUTO_MAX    (1024 * MIB)

/* ---- pure ---- */

uint64_t budget_flows_max(uint64_t nofile, uint64_t base)
{
	uint64_t other = base + BUDGET_RESERVE;

	return nofile > other + 2 ? (nofile - other) / 2 : 1;
}

uint64_t budget_memory_auto(uint64_t machine)
{
	uint64_t part = machine / 4;

	return part < AUTO_MIN ? AUTO_MIN : part > AUTO_MAX ? AUTO_MAX : part;
}

static bool above(uint64_t used, uint64_t max, unsigned mark)
{
	return used * 100 >= max * mark;
}

enum budget_state budget_judge(enum budget_state was, uint64_t flows, uint64_t flows_max,
			       uint64_t memory, uint64_t memory_max)
{
	if (above(flows, flows_max, BUDGET_HIGH))
		return BUDGET_FLOWS;
	if (above(memory, memory_max, BUDGET_HIGH))
		return BUDGET_MEMORY;
	if (was == BUDGET_FREE)
		return BUDGET_FREE;
	if (above(flows, flows_max, BUDGET_LOW))
		return BUDGET_FLOWS;
	if (above(memory, memory_max, BUDGET_LOW))
		return BUDGET_MEMORY;
	return BUDGET_FREE;
}

/* A part at a time: others will end by themselves. */
uint64_t budget_quota(uint64_t flows, uint64_t flows_max)
{
	uint64_t low = flows_max * BUDGET_LOW / 100;

	return above(flows, flows_max, BUDGET_LOW) ? (flows - low) / 8 + 1 : 0;
}

bool budget_trims(uint64_t *peak, uint64_t flows)
{
	if (flows > *peak)
		*peak = flows;
	if (*peak < TRIM_FLOWS || flows > *peak / 2)
		return false;
	*peak = flows;
	return true;
}

/* ---- looking ---- */

struct look {
	struct budget *b;
	enum budget_state state; /* before the look */
	size_t keep;             /* free buffers that a pool may have, */
	unsigned pipes;          /* and pipes that a worker may */
	uint64_t quota;          /* flows that each worker may end */
	uint64_t memory, shed;
};

/* A pipe that is lent while we look is one that waits for its peer. */
static uint64_t buffers_of(const struct worker *w)
{
	return w->pool.lent_bytes + (uint64_t)w->pipes.lent * PIPE_BYTES;
}

static void visit(struct worker *w, void *ctx)
{
	struct look *l = ctx;

	if (l->quota > 0)
		l->shed += relay_shed(w, l->quota, IDLE_S, l->state == BUDGET_MEMORY);
	w->pool.keep = l->keep;
	w->pipes.max = l->pipes;
	bufpool_trim(&w->pool);
	pipepool_trim(&w->pipes);
	l->memory += buffers_of(w) + l->b->wishes.memory(w);
}

static void change(struct budget *b, enum budget_state state)
{
	static const char *const what[] = {"room again", "descriptors", "memory"};
	const char *means;

	atomic_store(&b->no_memory, state == BUDGET_MEMORY);
	if (b->state == state)
		return;
	if (b->state != BUDGET_FREE && state != BUDGET_FREE) {
		b->state = state;
		return;
	}
	b->state = state;
	means = b->wishes.changed(b->wishes.ctx, state);
	if (state == BUDGET_FREE) {
		log_limited(&b->limit, 10, LVL_NOTICE,
			    "budget: room again (%" PRIu64 " connections, %" PRIu64 " MiB): %s",
			    (uint64_t)atomic_load(&b->flows), b->memory / MIB, means);
		return;
	}
	b->pauses++;
	log_limited(&b->limit, 10, LVL_WARNING,
		    "budget: %s near the limit (%" PRIu64 " of %" PRIu64 " connections, %" PRIu64
		    " of %" PRIu64 " MiB): %s",
		    what[state], (uint64_t)atomic_load(&b->flows),
		    (uint64_t)atomic_load(&b->flows_max), b->memory / MIB, b->memory_max / MIB,
		    means);
}

static void looked(void *ctx)
{
	struct look *l = ctx;
	struct budget *b = l->b;

	b->looking = false;
	b->memory = l->memory;
	b->shed += l->shed;
	if (budget_trims(&b->peak, atomic_load(&b->flows)))
		heap_trim();
	change(b, budget_judge(b->state, atomic_load(&b->flows), atomic_load(&b->flows_max),
			       b->memory, b->memory_max));
	free(l);
}

static uint64_t quota_of(const struct budget *b)
{
	uint64_t n = 0, octets;

	if (b->state == BUDGET_FLOWS && !b->wishes.keep_idle)
		n = budget_quota(atomic_load(&b->flows), atomic_load(&b->flows_max));
	if (b->state == BUDGET_MEMORY) {
		octets = budget_quota(b->memory, b->memory_max);
		n = octets > 0 ? octets / BUF_SIZE + 1 : 0;
	}
	return n > 0 ? n / b->wishes.n + 1 : 0;
}

/* Free buffers are no part of the sum, so they are few where the budget is small. */
static size_t keep_of(const struct budget *b)
{
	uint64_t n = b->memory_max / BUF_SIZE / 8 / b->wishes.n;

	return n < KEEP_MAX ? (size_t)n : KEEP_MAX;
}

/* Without them bytes are copied: so much may be done without when anything is short. */
static unsigned pipes_of(const struct budget *b)
{
	uint64_t n = b->memory_max / PIPE_BYTES / 8 / b->wishes.n;

	if (b->state != BUDGET_FREE)
		return 0;
	return n < PIPES_MAX ? (unsigned)n : PIPES_MAX;
}

static void look(struct budget *b)
{
	const struct budget_wishes *w = &b->wishes;
	struct look *l;

	if (b->looking)
		return;
	l = calloc(1, sizeof(*l));
	if (!l)
		return;
	l->b = b;
	l->state = b->state;
	l->quota = quota_of(b);
	l->keep = keep_of(b);
	l->pipes = pipes_of(b);
	b->looking = worker_gather(w->main_worker, w->workers, w->n, visit, looked, l) == 0;
	if (!b->looking)
		free(l);
}

/* What is open beside the flows. Those that are just beginning have one only. */
static void count_base(struct budget *b)
{
	uint64_t open, flows, base;

	if (b->wishes.flows_max > 0) {
		atomic_store(&b->flows_max, b->wishes.flows_max);
		return;
	}
	open = status_descriptors_open();
	flows = 2 * atomic_load(&b->flows);
	base = open > flows ? open - flows : 0;
	if (base > b->base)
		b->base = base;
	atomic_store(&b->flows_max, budget_flows_max(b->wishes.nofile, b->base));
}

static void tick_cb(struct ev_loop *loop, ev_timer *t, int events)
{
	struct budget *b = container_of(t, struct budget, tick);

	(void)loop;
	(void)events;
	if (++b->ticks % COUNT_TICKS == 0)
		count_base(b);
	look(b);
}

/* A worker has seen the high mark: do not wait for the tick. */
static void wake_run(struct job *job, struct worker *w)
{
	struct budget *b = container_of(job, struct budget, wake);

	(void)w;
	atomic_store(&b->woken, false);
	if (!ev_is_active(&b->tick))
		return;
	change(b, budget_judge(b->state, atomic_load(&b->flows), atomic_load(&b->flows_max),
			       b->memory, b->memory_max));
}

/* ---- */

static uint64_t machine_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

void budget_reload(struct budget *b, int memory_mib)
{
	b->memory_max =
		memory_mib > 0 ? (uint64_t)memory_mib * MIB : budget_memory_auto(machine_memory());
	atomic_store(&b->share, b->memory_max / b->wishes.n);
}

void budget_start(struct budget *b, const struct budget_wishes *wishes)
{
	b->wishes = *wishes;
	b->wake.run = wake_run;
	b->peak = TRIM_FLOWS; /* what reading the configuration has left goes at the first look */
	budget_reload(b, wishes->memory_mib);
	count_base(b);
	ev_timer_init(&b->tick, tick_cb, TICK_S, TICK_S);
	ev_timer_start(wishes->main_worker->loop, &b->tick);
	log_notice("budget: at most %" PRIu64 " connections (%lu descriptors) and %" PRIu64
		   " MiB for them",
		   (uint64_t)atomic_load(&b->flows_max), wishes->nofile, b->memory_max / MIB);
	if (atomic_load(&b->flows_max) < 128)
		log_warning("budget: %lu descriptors are few: raise the limit (ulimit -n, "
			    "LimitNOFILE=)",
			    wishes->nofile);
}

void budget_stop(struct budget *b)
{
	if (b->wishes.main_worker)
		ev_timer_stop(b->wishes.main_worker->loop, &b->tick);
}

bool budget_take(struct budget *b, struct worker *w)
{
	uint64_t max = atomic_load(&b->flows_max), n = atomic_fetch_add(&b->flows, 1) + 1;

	if (above(n, max, BUDGET_HIGH) && !atomic_exchange(&b->woken, true))
		worker_post(b->wishes.main_worker, &b->wake);
	if (n <= max)
		return true;
	if (!b->wishes.keep_idle && relay_shed(w, 1, IDLE_HARD_S, false) > 0)
		return true;
	atomic_fetch_sub(&b->flows, 1);
	return false;
}

void budget_give(struct budget *b)
{
	atomic_fetch_sub(&b->flows, 1);
}

bool budget_short_of_memory(struct budget *b, const struct worker *w)
{
	return atomic_load(&b->no_memory) || buffers_of(w) >= atomic_load(&b->share);
}

void budget_report(const struct budget *b, const char *free, struct report *r)
{
	static const char *const words[] = {"free", "descriptors", "memory"};

	report_object(r, "budget");
	report_str(r, "state", words[b->state]);
	if (free)
		report_bool(r, free, b->state == BUDGET_FREE);
	report_u64(r, "flows", atomic_load(&b->flows));
	report_u64(r, "flows_max", atomic_load(&b->flows_max));
	report_bytes(r, "memory", b->memory);
	report_bytes(r, "memory_max", b->memory_max);
	report_u64(r, "pauses", b->pauses);
	report_u64(r, "shed", b->shed);
	report_end(r);
}
