# SPDX-License-Identifier: GPL-2.0-or-later
sbin_PROGRAMS += src/tools/sixpathctl
# these files of core alone: the tool needs none of the libraries that libcore pulls in
src_tools_sixpathctl_SOURCES = \
	src/tools/ask.c src/tools/ask.h \
	src/tools/doctor.c src/tools/doctor.h src/tools/doctor_priv.h \
	src/tools/doctor_daemon.c src/tools/doctor_host.c \
	src/tools/doctor_paths.c src/tools/doctor_rules.c \
	src/tools/finding.c src/tools/finding.h \
	src/tools/jsonval.c src/tools/jsonval.h \
	src/tools/netview.c src/tools/netview.h \
	src/tools/passwd.c src/tools/passwd.h \
	src/tools/procfile.c src/tools/procfile.h \
	src/tools/prompt.c src/tools/prompt.h \
	src/tools/sixpathctl.c \
	src/core/log.c src/core/log.h \
	src/core/report.c src/core/report.h \
	src/core/savefile.c src/core/savefile.h \
	src/core/text.c src/core/text.h \
	src/core/tune.c src/core/tune.h \
	src/core/tune_file.c src/core/tune_file.h
src_tools_sixpathctl_CPPFLAGS = $(AM_CPPFLAGS) $(MNL_CFLAGS)
src_tools_sixpathctl_LDADD = $(CRYPT_LIBS) $(MNL_LIBS)

dist_man_MANS += man/sixpathctl.8
dist_check_SCRIPTS += tests/unit/test_passwd.sh
TESTS += tests/unit/test_passwd.sh

# runs the tool against a control socket, and on a terminal
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test_sixpathctl tests/unit/test_doctor
TESTS += tests/unit/test_sixpathctl tests/unit/test_doctor
endif
tests_unit_test_sixpathctl_SOURCES = tests/unit/test_sixpathctl.c
tests_unit_test_sixpathctl_LDADD = src/core/libcore.la $(CMOCKA_LIBS) $(EV_LIBS)
tests_unit_test_doctor_SOURCES = tests/unit/test_doctor.c tests/unit/rig.h \
	src/tools/finding.c src/tools/finding.h src/tools/jsonval.c src/tools/jsonval.h \
	src/tools/netview.c src/tools/netview.h src/tools/procfile.c src/tools/procfile.h
tests_unit_test_doctor_CPPFLAGS = $(AM_CPPFLAGS) $(MNL_CFLAGS)
tests_unit_test_doctor_LDADD = src/core/libcore.la $(CMOCKA_LIBS) $(EV_LIBS) $(MNL_LIBS)
