# SPDX-License-Identifier: GPL-2.0-or-later
# The lab's instruments; the tests themselves need root: make check-lab.
check_PROGRAMS += tests/lab/wire tests/lab/peer
tests_lab_wire_SOURCES = tests/lab/wire.c tests/lab/frame.c tests/lab/frame.h
tests_lab_peer_SOURCES = tests/lab/peer.c tests/lab/peer_io.c tests/lab/peer_io.h \
	tests/lab/peer_mix.c tests/lab/peer_serve.c
tests_lab_peer_LDADD = $(PTHREAD_LIBS)
# For LD_PRELOAD: a shared object, without sanitizers. The path makes libtool build one.
check_LTLIBRARIES = tests/lab/clockjump.la
tests_lab_clockjump_la_SOURCES = tests/lab/clockjump.c tests/unit/leap.h
tests_lab_clockjump_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests/unit
tests_lab_clockjump_la_CFLAGS = $(WARN_CFLAGS)
tests_lab_clockjump_la_LDFLAGS = -module -avoid-version -rpath /nowhere
if HAVE_NFT
check_PROGRAMS += tests/lab/ownrules
endif
tests_lab_ownrules_SOURCES = tests/lab/ownrules.c
tests_lab_ownrules_LDADD = src/redir/libredir.la

EXTRA_DIST += \
	tests/lab/README \
	tests/lab/badproxy.py \
	tests/lab/connector.py \
	tests/lab/faults \
	tests/lab/FAULTS.md \
	tests/lab/faulttable.py \
	tests/lab/failwatch.py \
	tests/lab/lib.sh \
	tests/lab/nameserver.py \
	tests/lab/front_client.py \
	tests/lab/rawbind.py \
	tests/lab/repeater.py \
	tests/lab/run \
	tests/lab/s6dissect.py \
	tests/lab/soak \
	tests/lab/stackoptions.py \
	tests/lab/t_assoc.sh \
	tests/lab/t_badproxy.sh \
	tests/lab/t_bond.sh \
	tests/lab/t_browser.sh \
	tests/lab/t_budget.sh \
	tests/lab/t_bulk.sh \
	tests/lab/t_conf.sh \
	tests/lab/t_daemon.sh \
	tests/lab/t_dns.sh \
	tests/lab/t_doctor.sh \
	tests/lab/t_eof.sh \
	tests/lab/t_explain.sh \
	tests/lab/t_families.sh \
	tests/lab/t_failed.sh \
	tests/lab/t_eyeballs.sh \
	tests/lab/t_failover.sh \
	tests/lab/t_fallback.sh \
	tests/lab/t_forward.sh \
	tests/lab/t_faults.sh \
	tests/lab/t_front.sh \
	tests/lab/t_front_udp.sh \
	tests/lab/t_handover.sh \
	tests/lab/t_learn.sh \
	tests/lab/t_matrix.sh \
	tests/lab/t_options.sh \
	tests/lab/t_overload.sh \
	tests/lab/t_ownrules.sh \
	tests/lab/t_passive.sh \
	tests/lab/t_prewarm.sh \
	tests/lab/t_programs.sh \
	tests/lab/t_proxy.sh \
	tests/lab/t_repeat.sh \
	tests/lab/t_restart.sh \
	tests/lab/t_rig.sh \
	tests/lab/t_rules.sh \
	tests/lab/t_script.sh \
	tests/lab/t_sni.sh \
	tests/lab/t_soak.sh \
	tests/lab/t_socks5up.sh \
	tests/lab/t_steer.sh \
	tests/lab/t_syn.sh \
	tests/lab/t_synack.sh \
	tests/lab/t_ttfb.sh \
	tests/lab/t_udp.sh \
	tests/lab/t_udp_proxy.sh \
	tests/lab/udp_lab.py \
	tests/lab/t_verify.sh \
	tests/lab/t_via.sh \
	tests/lab/t_wan.sh \
	tests/lab/udp_peer.py \
	tests/setup.sh
