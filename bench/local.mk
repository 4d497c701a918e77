# SPDX-License-Identifier: GPL-2.0-or-later
# Measurements; `make bench` builds and runs them. Build with -O2 and without sanitizers.
BENCHES = bench/bench_learned bench/bench_sets
EXTRA_PROGRAMS += $(BENCHES)
bench_bench_learned_SOURCES = bench/bench_learned.c
bench_bench_learned_LDADD = src/redir/libredir.la $(PTHREAD_LIBS)
bench_bench_sets_SOURCES = bench/bench_sets.c
bench_bench_sets_LDADD = src/redir/libredir.la $(PTHREAD_LIBS)
EXTRA_DIST += bench/bypass.sh

CLEANFILES += $(BENCHES)

.PHONY: bench
bench: $(BENCHES)
	@for b in $(BENCHES); do ./$$b || exit 1; done
