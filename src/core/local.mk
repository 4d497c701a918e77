# SPDX-License-Identifier: GPL-2.0-or-later
noinst_LTLIBRARIES += src/core/libcore.la
src_core_libcore_la_SOURCES = \
	src/core/addr.c src/core/addr.h \
	src/core/auth.c src/core/auth.h \
	src/core/buf.c src/core/buf.h \
	src/core/budget.c src/core/budget.h \
	src/core/conf.c src/core/conf.h src/core/conf_diff.c src/core/conf_parse.c \
	src/core/conf_scan.c src/core/conf_scan.h \
	src/core/control.c src/core/control.h \
	src/core/daemon.c src/core/daemon.h \
	src/core/dgram.c src/core/dgram.h \
	src/core/dial.c src/core/dial.h \
	src/core/drain.c src/core/drain.h \
	src/core/handover.c src/core/handover.h \
	src/core/heap.c src/core/heap.h \
	src/core/list.h \
	src/core/listener.c src/core/listener.h \
	src/core/log.c src/core/log.h \
	src/core/notify.c src/core/notify.h \
	src/core/perclient.c src/core/perclient.h \
	src/core/pipe.c src/core/pipe.h \
	src/core/priv.c src/core/priv.h \
	src/core/reason.c src/core/reason.h \
	src/core/relay.c src/core/relay.h \
	src/core/report.c src/core/report.h \
	src/core/resolve.c src/core/resolve.h \
	src/core/s6glue.c src/core/s6glue.h \
	src/core/savefile.c src/core/savefile.h \
	src/core/siphash.c src/core/siphash.h \
	src/core/sock.c src/core/sock.h \
	src/core/status.c src/core/status.h \
	src/core/text.c src/core/text.h \
	src/core/tune.c src/core/tune.h \
	src/core/tune_file.c src/core/tune_file.h \
	src/core/users.c src/core/users.h \
	src/core/wheel.c src/core/wheel.h \
	src/core/worker.c src/core/worker.h
src_core_libcore_la_CPPFLAGS = $(AM_CPPFLAGS) $(CARES_CFLAGS)
src_core_libcore_la_LIBADD = src/libsocks6/libsocks6.la $(EV_LIBS) $(INI_LIBS) $(CARES_LIBS) \
	$(CAP_LIBS) $(CRYPT_LIBS) $(PTHREAD_LIBS)

# Unit tests of these modules; those of configuration and control are in conf_tests.mk.
if HAVE_CMOCKA
CORE_TESTS = tests/unit/test_addr tests/unit/test_buf tests/unit/test_worker \
	tests/unit/test_sock tests/unit/test_dial tests/unit/test_relay \
	tests/unit/test_s6glue tests/unit/test_resolve tests/unit/test_listener \
	tests/unit/test_status tests/unit/test_siphash tests/unit/test_handover \
	tests/unit/test_budget tests/unit/test_dgram tests/unit/test_wheel
check_PROGRAMS += $(CORE_TESTS)
TESTS += $(CORE_TESTS)
endif
core_test_libs = src/core/libcore.la $(CMOCKA_LIBS) $(EV_LIBS) $(PTHREAD_LIBS)
tests_unit_test_addr_SOURCES = tests/unit/test_addr.c tests/unit/rig.h
tests_unit_test_addr_LDADD = $(core_test_libs)
tests_unit_test_buf_SOURCES = tests/unit/test_buf.c
tests_unit_test_buf_LDADD = $(core_test_libs)
tests_unit_test_worker_SOURCES = tests/unit/test_worker.c tests/unit/leap.h tests/unit/rig.h
tests_unit_test_worker_LDADD = $(core_test_libs)
tests_unit_test_sock_SOURCES = tests/unit/test_sock.c tests/unit/rig.h
tests_unit_test_sock_LDADD = $(core_test_libs)
tests_unit_test_dial_SOURCES = tests/unit/test_dial.c tests/unit/rig.h
tests_unit_test_dial_LDADD = $(core_test_libs)
tests_unit_test_relay_SOURCES = tests/unit/test_relay.c tests/unit/leap.h tests/unit/rig.h
tests_unit_test_relay_LDADD = $(core_test_libs)
tests_unit_test_s6glue_SOURCES = tests/unit/test_s6glue.c
tests_unit_test_s6glue_LDADD = $(core_test_libs)
tests_unit_test_resolve_SOURCES = tests/unit/test_resolve.c tests/unit/rig.h
tests_unit_test_resolve_LDADD = $(core_test_libs)
tests_unit_test_listener_SOURCES = tests/unit/test_listener.c tests/unit/rig.h
tests_unit_test_listener_LDADD = $(core_test_libs)
tests_unit_test_handover_SOURCES = tests/unit/test_handover.c tests/unit/rig.h
tests_unit_test_handover_LDADD = $(core_test_libs)
tests_unit_test_status_SOURCES = tests/unit/test_status.c tests/unit/rig.h
tests_unit_test_status_LDADD = $(core_test_libs)
tests_unit_test_siphash_SOURCES = tests/unit/test_siphash.c
tests_unit_test_siphash_LDADD = $(core_test_libs)
tests_unit_test_dgram_SOURCES = tests/unit/test_dgram.c
tests_unit_test_dgram_LDADD = $(core_test_libs)
tests_unit_test_budget_SOURCES = tests/unit/test_budget.c tests/unit/rig.h
tests_unit_test_budget_LDADD = $(core_test_libs)
tests_unit_test_wheel_SOURCES = tests/unit/test_wheel.c tests/unit/rig.h
tests_unit_test_wheel_LDADD = $(core_test_libs)
