# SPDX-License-Identifier: GPL-2.0-or-later
# Measurements; `make bench` builds and runs them. Build with -O2 and without sanitizers.
BENCHES = bench/bench_learned bench/bench_sets
EXTRA_PROGRAMS += $(BENCHES)
bench_bench_learned_SOURCES = bench/bench_learned.c
bench_bench_learned_LDADD = src/redir/libredir.la $(PTHREAD_LIBS)
bench_bench_sets_SOURCES = bench/bench_sets.c
bench_bench_sets_LDADD = src/redir/libredir.la $(PTHREAD_LIBS)

# The tools of bench/run.
BENCH_TOOLS = bench/load bench/bare_relay
EXTRA_PROGRAMS += bench/bare_relay
check_PROGRAMS += bench/load # an instrument of t_assoc, too
bench_load_SOURCES = bench/load.c bench/load.h bench/load_count.c bench/load_count.h \
	bench/load_serve.c bench/load_udp.c \
	tests/lab/peer_io.c tests/lab/peer_io.h
bench_load_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
bench_bare_relay_SOURCES = bench/bare_relay.c tests/lab/peer_io.c tests/lab/peer_io.h
bench_bare_relay_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)
EXTRA_DIST += bench/assoc.sh bench/bypass.sh bench/contestants.sh bench/figures.sh bench/limits.json \
	bench/report.py bench/run bench/structure.sh
# One complete run: bench/run --out bench
EXTRA_DIST += bench/RESULTS.md bench/LIMITS.md bench/raw.jsonl bench/bulk_down_8.svg \
	bench/bulk_down_8_cpu.svg bench/bulk_mtu_down_8.svg bench/kept_64.svg bench/short.svg bench/short_p99.svg \
	bench/ttfb_later.svg bench/udp_100.svg

CLEANFILES += $(BENCHES) $(BENCH_TOOLS)

.PHONY: bench bench-tools
bench-tools: $(BENCH_TOOLS)
bench: $(BENCHES)
	@for b in $(BENCHES); do ./$$b || exit 1; done
