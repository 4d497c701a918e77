# SPDX-License-Identifier: GPL-2.0-or-later
# Unit tests of configuration, log, reports, control socket and privileges.
if HAVE_CMOCKA
CONF_TESTS = tests/unit/test_log tests/unit/test_conf tests/unit/test_report \
	tests/unit/test_control tests/unit/test_priv tests/unit/test_tune
check_PROGRAMS += $(CONF_TESTS)
TESTS += $(CONF_TESTS)
endif
tests_unit_test_log_SOURCES = tests/unit/test_log.c
tests_unit_test_log_LDADD = src/core/libcore.la $(CMOCKA_LIBS)
tests_unit_test_conf_SOURCES = tests/unit/test_conf.c
tests_unit_test_conf_LDADD = src/core/libcore.la $(CMOCKA_LIBS)
tests_unit_test_report_SOURCES = tests/unit/test_report.c
tests_unit_test_report_LDADD = src/core/libcore.la $(CMOCKA_LIBS)
# includes control.c, with a shorter time limit
tests_unit_test_control_SOURCES = tests/unit/test_control.c
tests_unit_test_control_LDADD = src/core/libcore.la $(CMOCKA_LIBS) $(EV_LIBS)
tests_unit_test_priv_SOURCES = tests/unit/test_priv.c
tests_unit_test_priv_LDADD = src/core/libcore.la $(CMOCKA_LIBS) $(CAP_LIBS)
tests_unit_test_tune_SOURCES = tests/unit/test_tune.c tests/unit/rig.h
tests_unit_test_tune_LDADD = src/core/libcore.la $(CMOCKA_LIBS) $(CAP_LIBS) $(EV_LIBS)
