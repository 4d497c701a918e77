/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/status.h"

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/daemon.h"
#include "core/list.h"
#include "core/listener.h"
#include "core/worker.h"

static void survey_visit(struct worker *w, void *ctx)
{
	struct survey *s = ctx;

	s->visit(w, s);
}

static void survey_done(void *ctx)
{
	struct survey *s = ctx;

	s->done(s);
	if (s->rq)
		control_reply(s->rq);
	free(s);
}

void survey_start(struct survey *s, struct control_request *rq, struct worker *main_worker,
		  struct worker *const *workers, unsigned n)
{
	if (s) {
		s->rq = rq;
		if (worker_gather(main_worker, workers, n, survey_visit, survey_done, s) == 0)
			return;
		free(s);
	}
	if (rq)
		control_fail(rq, "out of memory");
}

struct rows {
	struct survey survey;
	void (*rows)(struct worker *w, struct report *r);
};

static void rows_visit(struct worker *w, struct survey *s)
{
	container_of(s, struct rows, survey)->rows(w, control_report(s->rq));
}

static void rows_done(struct survey *s)
{
	report_end(control_report(s->rq));
}

void survey_rows(struct control_request *rq, const char *list,
		 void (*rows)(struct worker *w, struct report *r), struct worker *main_worker,
		 struct worker *const *workers, unsigned n)
{
	struct rows *s = calloc(1, sizeof(*s));

	if (s) {
		s->survey.visit = rows_visit;
		s->survey.done = rows_done;
		s->rows = rows;
		report_list(control_report(rq), list);
	}
	survey_start(s ? &s->survey : NULL, rq, main_worker, workers, n);
}

void status_head(struct report *r, const char *name, double uptime_s)
{
	report_str(r, "daemon", name);
	report_str(r, "version", daemon_version());
	report_u64(r, "pid", (uint64_t)getpid());
	report_seconds(r, "uptime", uptime_s);
}

uint64_t status_descriptors_open(void)
{
	DIR *d = opendir("/proc/self/fd");
	uint64_t n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n > 3 ? n - 3 : 0; /* ".", ".." and the one that looks */
}

void status_descriptors(struct report *r, unsigned long limit)
{
	report_u64(r, "descriptors", status_descriptors_open());
	report_u64(r, "descriptor_limit", limit);
}

void status_listeners(struct report *r, const struct listeners *ls, bool with_granted)
{
	status_listeners_as(r, "listeners", ls, with_granted);
}

void status_listeners_as(struct report *r, const char *list, const struct listeners *ls,
			 bool with_granted)
{
	char text[ADDR_STRLEN];

	report_list(r, list);
	for (size_t i = 0; i < ls->n; i++) {
		const struct listener *l = &ls->v[i];

		if (i > 0 && addr_equal(&l->addr, &l[-1].addr))
			continue; /* one more socket that we were given */
		report_row(r);
		report_str(r, "address", addr_str(&l->addr, text, sizeof(text)));
		if (with_granted) {
			report_bool(r, "mptcp", l->granted.mptcp);
			report_bool(r, "tfo", l->granted.fastopen);
		}
	}
	report_end(r);
}

void status_ended(struct report *r, const uint64_t ended[END__COUNT])
{
	report_object(r, "ended");
	for (int i = END_CLOSED; i < END__COUNT; i++)
		if (ended[i])
			report_u64(r, end_reason_str((enum end_reason)i), ended[i]);
	report_end(r);
}
